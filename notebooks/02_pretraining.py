# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Pre-training
#
# **Question.** Can a network learn from T1-weighted scans to distinguish Alzheimer's disease from
# controls? Notebook 03 can use its weights as initial weights. One run of this notebook trains one
# trial.
#
# | | |
# |---|---|
# | reads | `<results>/prepared/<cohort>.h5` from [01_data_preparation](01_data_preparation.ipynb) |
# | writes | `<results>/pretraining/trial-<trial>/`: `weights.npz`, `history.tsv`, |
# | | `subjects.tsv` (the scans that it has seen) and, last, `provenance.json` |
# | takes | about 4 minutes on one core in the demo (width 16, 160 scans) |
#
# The protocol follows Eitel et al. 2019
# ([doi:10.1016/j.nicl.2019.102003](https://doi.org/10.1016/j.nicl.2019.102003)). The paper uses the
# optimiser Adam with a learning rate of 0.001, batches of 8 scans, at most 45 epochs and 10 trials.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from msxai.base import parameters
from msxai.base.results import Results
from msxai.data.prepared import Prepared
from msxai.model import network, seen_scans, training
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ad"  # the pre-training cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
trial: int = 0  # number of this trial; its seed is seed + trial
width: int = 16  # filters of each convolution; 64 in the paper
dropout: float = 0.1  # share of activations dropped after each pooling; 0.3 in the paper
epochs: int = 14  # most epochs; 45 in the paper
batch_size: int = 4  # scans a batch; 8 in the paper
learning_rate: float = 1e-3  # of Adam
decay: float = 0.0  # learning_rate / (1 + decay * step)
patience: int = 10  # epochs without a lower validation loss before training stops
augmentation: bool = False  # flips and shifts; the paper has them in fine-tuning only
normalisation: str = "zscore"  # as the cohort was prepared
seed: int = 0  # of the first trial: initial weights, order, dropout
threads: int = 1  # of TensorFlow; results depend on it by the order of summation

# %%
run = parameters.check(globals())
where = Results(results)
network.configure(seed + trial, threads)
arrays = where.require_prepared(cohort, normalisation=normalisation)
prepared = Prepared(arrays, where.split(cohort))
by_part = prepared.table.groupby(["part", "group"])["participant_id"]
by_part.agg(scans="size", subjects="nunique")

# %% [markdown]
# All visits of a subject are in one part of the split. If a subject were in two parts, the network
# could recognise the subject, and the validation accuracy would be too high.
#
# ## The network
# The network has four convolutions of 3×3×3 voxels, three max poolings of 3×3×3 voxels, and one
# dense layer. The activation is $\mathrm{ELU}(z) = z$ for $z > 0$, else $e^z - 1$ (Clevert et al.
# 2016, [arXiv:1511.07289](https://arxiv.org/abs/1511.07289)). The output is one logit $f(x)$ for
# each scan. The width is the number of filters of each convolution.

# %%
model = network.build(width, dropout=dropout, fast=True)
print(f"{model.count_params()} weights; width 64 has 333,889, as in the paper")

# %% [markdown]
# ## One scan by hand
# The first scan of the training part passes through the layers. Each pooling divides the number of
# voxels along each axis by about three. From 96×114×96 voxels, a few numbers remain for each
# filter.

# %%
row = prepared.rows("training")[0]
scan = prepared.image(row)
values = scan[np.newaxis, ..., np.newaxis]
shapes = {"scan": values.shape[1:]}
for layer in model.layers:
    values = layer(values, training=False)
    shapes[layer.name] = tuple(values.shape[1:])
pd.Series(shapes, name="shape")

# %%
figure, axes = plt.subplots(figsize=(3, 3))
axes.imshow(scan[:, :, scan.shape[2] // 2].T, cmap="gray", origin="lower")
axes.set_title(f"{prepared.table['participant_id'][row]}, as the network sees it")
axes.set_axis_off()

# %% [markdown]
# The probability of the patient class is $p = 1 / (1 + e^{-f(x)})$. With the label $y$ (1 patient,
# 0 control) the loss is the cross-entropy $-y \log p - (1 - y) \log(1 - p)$. A network that has
# learnt nothing gives $p \approx 0.5$, and its loss is $\log 2 = 0.693$.

# %%
label = prepared.table["label"][row]
probability = network.probability(values)[0, 0]
loss = -np.log(probability if label == 1 else 1 - probability)
print(f"label {label}, p = {probability:.3f}, loss {loss:.3f} before training")

# %% [markdown]
# ## Training
# Adam (Kingma & Ba 2015, [arXiv:1412.6980](https://arxiv.org/abs/1412.6980)) minimises the mean
# loss of a batch plus a weight penalty. The penalty is $0.01 \sum w^2$ over the third and fourth
# convolution. The learning rate is $\mathrm{learning\_rate} / (1 + \mathrm{decay} \cdot
# \mathrm{step})$. The validation part decides when training stops and which epoch's weights are
# kept. The holdout is not read.

# %%
settings = training.Settings(
    learning_rate=learning_rate,
    decay=decay,
    batch_size=batch_size,
    epochs=epochs,
    patience=patience,
    seed=seed + trial,
    augmentation=augmentation,
)
history = training.fit(model, prepared, settings)
history.tail()

# %% [markdown]
# The list of scans that the network has seen is stored with its weights. Notebook 03 rejects
# weights if this list contains a scan of its own holdout or validation part.

# %%
seen = seen_scans.of_cohort(prepared)
inputs = [where.prepared(cohort), where.split(cohort)]
folder = where.trial("pretraining", trial)
record = training.save(folder, model, history, run, inputs, seen)
seen.head()

# %%
figure, _ = figures.training_curves({trial: history}, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## What to look for, and what a bad training looks like
# - Both losses fall, and the validation accuracy rises above 0.5.
# - If the training loss falls while the validation loss rises, the network over-fits. The weights
#   of the best epoch are kept, so a late rise does no harm.
# - If the loss stays at 0.69, nothing was learnt. Try more epochs or another learning rate.
# - A validation accuracy near 1 in the first epochs is suspicious. A subject may be in two parts,
#   or only one group may have a certain scanner ([01_data_preparation](01_data_preparation.ipynb),
#   confounds).
# - A high validation accuracy does not prove a benefit for 03. Compare with training from scratch.

# %%
accuracy = record["val_accuracy"]
print(f"trial {trial}: weights of epoch {record['best_epoch']}")
print(f"validation accuracy {accuracy:.3f}, loss {record['val_loss']:.3f}")

# %% [markdown]
# [03_fine_tuning](03_fine_tuning.ipynb) can use these weights as initial weights.
