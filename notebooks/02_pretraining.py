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
# Trains the network of Eitel et al. 2019 to tell Alzheimer's disease from controls on T1 scans; one trial a run.
#
# | | |
# |---|---|
# | reads | `<results>/prepared/<cohort>.h5` from [01_data_preparation](01_data_preparation.ipynb) |
# | writes | `<results>/pretraining/trial-<trial>/weights.npz`, `history.tsv` and, last, `provenance.json` |
# | takes | about 4 minutes on one core in the demo (width 16, 160 scans) |
#
# Paper: Adam 1e-3, batches of 8, at most 45 epochs, patience 10 on the validation loss, best weights by validation accuracy, 10 trials.

# %%
from msxai.base import parameters
from msxai.base.results import Results
from msxai.data.prepared import Prepared
from msxai.model import network, training
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ad"  # the pre-training cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
trial: int = 0  # number of this trial; its seed is seed + trial
width: int = 16  # filters of each convolution; 64 in the paper
dropout: float = 0.1  # share of activations dropped after each pooling; .3 in the paper, whose network has four times the filters
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
prepared = Prepared(where.require_prepared(cohort, normalisation=normalisation), where.split(cohort))
prepared.table.groupby(["part", "group"])["participant_id"].agg(scans="size", subjects="nunique")

# %% [markdown]
# ## The network
# Four 3x3x3 convolutions, three poolings; the output is the logit of the patient class.

# %%
model = network.build(width, dropout=dropout, fast=True)
model.summary(line_length=80)

# %% [markdown]
# ## Training
# Batches are streamed from disk; the holdout is not read.

# %%
history = training.fit(model, prepared, learning_rate=learning_rate, decay=decay, batch_size=batch_size, epochs=epochs, patience=patience,
                       seed=seed + trial, augmentation=augmentation)  # fmt: skip
record = training.save(where.trial("pretraining", trial), model, history, run, [where.prepared(cohort), where.split(cohort)])

# %%
figure, _ = figures.training_curves({trial: history}, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## Summary
# These weights are the start of [03_fine_tuning](03_fine_tuning.ipynb).

# %%
print(f"trial {trial}: best epoch {record['best_epoch']}, validation accuracy {record['val_accuracy']:.3f}, loss {record['val_loss']:.3f}")
