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
# **Question.** Can a network learn from other scans what helps it to recognise multiple sclerosis?
# Notebook 03 can use its weights as initial weights. One run of this notebook trains one trial of
# one task:
#
# - `diagnosis`: Alzheimer's disease or control, from T1-weighted scans, as in the paper;
# - `lesions`: which of two scans of one simulated brain has lesions;
# - `volume`: how large the lesions of a simulated brain are.
#
# | | |
# |---|---|
# | reads | `<results>/prepared/<cohort>.h5` from [01_data_preparation](01_data_preparation.ipynb) |
# | | (`diagnosis`), or nothing: the other tasks simulate their scans |
# | writes | `<results>/pretraining/trial-<trial>/` (`diagnosis`) or |
# | | `<results>/pretraining/<task>/trial-<trial>/`: `weights.npz`, `history.tsv`, |
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
from msxai.data.synthetic.simulated_pairs import PairOptions, ensure
from msxai.model import checkpoints, network, tasks, training
from msxai.report import figures

# %% tags=["parameters"]
task: str = "diagnosis"  # or, from simulated scans: lesions, volume
cohort: str = "phantom-ad"  # the pre-training cohort, as in 01_data_preparation (diagnosis)
simulated_pairs: int = 160  # brains to simulate (lesions, volume), each with and without lesions
contrast: str = "random"  # of the simulated scans: random for each brain, or own (that of FLAIR)
results: str = "runs/demo"  # folder of all results
trial: int = 0  # number of this trial; its seed is seed + trial
width: int = 16  # filters of each convolution; 64 in the paper
dropout: float = 0.1  # share of activations dropped after each pooling; 0.3 in the paper
epochs: int = 14  # most epochs; 45 in the paper
batch_size: int = 4  # scans a batch; 8 in the paper
learning_rate: float = 1e-3  # of Adam
decay: float = 0.0  # learning_rate / (1 + decay * step)
patience: int = 10  # epochs without a lower validation loss before training stops
augmentation: str = "none"  # none, paper, strong or contrast; the paper has none here
realism: str = "plain"  # plain, or randomised: scans as other scanners might show them
averaging: float = 0.0  # share of the mean of the weights that each step keeps; 0: no mean
normalisation: str = "zscore"  # as the cohort was prepared
seed: int = 0  # of the first trial: initial weights, order, dropout
threads: int = 1  # of TensorFlow; results depend on it by the order of summation

# %%
run = parameters.check(globals())
tasks.check(task, normalisation)
settings = training.Settings(
    learning_rate=learning_rate,
    decay=decay,
    batch_size=batch_size,
    epochs=epochs,
    patience=patience,
    seed=seed + trial,
    augmentation=augmentation,
    realism=realism,
    averaging=averaging,
)

# %%
where = Results(results)
network.configure(seed + trial, threads)
if task == "diagnosis":
    arrays = where.require_prepared(cohort, normalisation=normalisation)
    prepared = Prepared(arrays, where.split(cohort))
    source = tasks.of_cohort(prepared)
    inputs = [arrays, where.split(cohort)]
else:
    options = PairOptions(pairs=simulated_pairs, seed=seed + trial, contrast=contrast)
    arrays = where.simulated_pairs(seed + trial, contrast)
    source = tasks.of_pairs(ensure(arrays, options, jobs=threads), task)
    inputs = [arrays]
source.scans

# %% [markdown]
# All visits of a subject are in one part of the split. If a subject were in two parts, the network
# could recognise the subject, and the validation accuracy would be too high.
#
# **The task decides what is learnt.** In T1-weighted scans a lesion of white matter is dark, in
# FLAIR it is bright. With a random contrast for each simulated brain (in the manner of SynthSeg,
# [doi:10.1016/j.media.2023.102789](https://doi.org/10.1016/j.media.2023.102789)) the network cannot
# rely on either. Simulated pairs differ in the lesions alone. But they show what a *simulated*
# lesion looks like: if the cohort of notebook 03 is simulated, too, the benefit is larger than in
# real scans. Explanations depend on the task also where networks are equally accurate (Oliveira et
# al. 2024, [arXiv:2306.12150](https://arxiv.org/abs/2306.12150)).
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
scan = source.example
values = scan[np.newaxis, ..., np.newaxis]
shapes = {"scan": values.shape[1:]}
for layer in model.layers:
    values = layer(values, training=False)
    shapes[layer.name] = tuple(values.shape[1:])
pd.Series(shapes, name="shape")

# %%
figure, axes = plt.subplots(figsize=(3, 3))
axes.imshow(scan[:, :, scan.shape[2] // 2].T, cmap="gray", origin="lower")
axes.set_title("first scan of the training part")
axes.set_axis_off()

# %% [markdown]
# The probability of the patient class is $p = 1 / (1 + e^{-f(x)})$. The label $y$ is 1 for a
# patient or for lesions, 0 for a control or for no lesions. The loss is the cross-entropy
# $-y \log p - (1 - y) \log(1 - p)$. A network that has learnt nothing gives $p \approx 0.5$, and
# its loss is $\log 2 = 0.693$.
#
# With the task `lesions`, the term $\log(1 + e^{f(\tilde x) - f(x)})$ is added for each scan $x$
# and the same scan without lesions $\tilde x$ (Burges et al. 2005,
# [doi:10.1145/1102351.1102363](https://doi.org/10.1145/1102351.1102363)), and the cross-entropy
# counts half. With the task `volume` the target is $\log(v + 0.1)$ of the lesion volume $v$ in ml,
# and the loss is the squared error.

# %%
logit = network.logits(model, scan[np.newaxis, ..., np.newaxis])[0]
print(f"target {source.target:.2f}; before training: logit {logit:.3f}", end=", ")
print(f"p = {network.probability(logit):.3f}")

# %% [markdown]
# ## Training
# Adam (Kingma & Ba 2015, [arXiv:1412.6980](https://arxiv.org/abs/1412.6980)) minimises the mean
# loss of a batch plus a weight penalty. The penalty is $0.01 \sum w^2$ over the third and fourth
# convolution. The learning rate is $\mathrm{learning\_rate} / (1 + \mathrm{decay} \cdot
# \mathrm{step})$. The validation part decides when training stops and which epoch's weights are
# kept. The holdout is not read.
#
# The state after each epoch is kept in `checkpoint.npz`. If this run is interrupted, the next one
# goes on from there, with the same result. The file is removed at the end.

# %%
folder = where.trial("pretraining", trial, task)
history = training.fit_batches(
    model,
    source.batches("training", settings),
    source.batches("validation", settings),
    settings,
    loss=source.loss,
    has_labels=source.has_labels,
    checkpoint=checkpoints.Checkpoint.of(folder, run, inputs),
)
history.tail()

# %% [markdown]
# The list of scans that the network has seen is stored with its weights. Notebook 03 rejects
# weights if this list contains a scan of its own holdout or validation part.

# %%
record = training.save(folder, model, history, run, inputs, source.seen)
source.seen.head()

# %%
figure, _ = figures.training_curves({trial: history}, synthetic=source.synthetic)
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
