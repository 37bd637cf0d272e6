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
# # 03 · Fine-tuning
#
# Trains the network to tell multiple sclerosis from controls on FLAIR scans; one variant and one trial a run. All layers are trainable.
#
# | | |
# |---|---|
# | reads | `<results>/prepared/<cohort>.h5` from [01](01_data_preparation.ipynb), weights from [02_pretraining](02_pretraining.ipynb) |
# | writes | `<results>/finetuning/<variant>/trial-<trial>/weights.npz`, `history.tsv` and, last, `provenance.json` |
# | takes | about 4 minutes on one core in the demo (width 16, 105 training scans) |
#
# Paper: Adam 5e-4 / (1 + 2e-3 step), batches of 4, at most 200 epochs, patience 15, flips and shifts along x, 10 trials.

# %%
from msxai.base import parameters
from msxai.base.results import Results
from msxai.data.prepared import Prepared
from msxai.model import network, pairs, training
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # the fine-tuning cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
variant: str = "pretrained"  # name of this variant: its results' folder
start: str = "best"  # best or trial-N (of 02_pretraining), scratch, or a weights file (.npz)
filling: str = "none"  # noise or constant: train on scans with their lesions filled (01b_lesion_filling)
beside: str = "none"  # noise or constant: train on each patient beside the same scan with its lesions filled so (msxai.model.pairs)
permuted: bool = False  # a control: labels permuted over the subjects of training and validation part, by the trial's seed
trial: int = 0  # number of this trial; its seed is seed + trial
width: int = 16  # filters of each convolution; 64 in the paper
dropout: float = 0.1  # share of activations dropped after each pooling; .3 in the paper, whose network has four times the filters
epochs: int = 28  # most epochs; 200 in the paper
batch_size: int = 4  # scans a batch
learning_rate: float = 1e-3  # of Adam; 5e-4 in the paper
decay: float = 0.0  # learning_rate / (1 + decay * step); 2e-3 in the paper
patience: int = 15  # epochs without a lower validation loss before training stops
augmentation: bool = True  # left-right flips, shifts of -2..2 voxels along x
normalisation: str = "zscore"  # as the cohort was prepared, and the pre-training cohort too
seed: int = 100  # of the first trial: initial weights, order, dropout, augmentation
threads: int = 1  # of TensorFlow; results depend on it by the order of summation

# %%
run = parameters.check(globals())
where = Results(results)
network.configure(seed + trial, threads)
prepared = Prepared(where.require_prepared(cohort, filling, normalisation=normalisation), where.split(cohort))
filled = Prepared(where.require_prepared(cohort, beside), where.split(cohort)) if beside != "none" else None
if permuted:
    training.permute_labels(prepared, seed + trial)
prepared.table.groupby(["part", "group"])["participant_id"].agg(scans="size", subjects="nunique")

# %% [markdown]
# ## The start
# Weights of an earlier training must have the same width and normalisation.

# %%
model = network.build(width, dropout=dropout, fast=True)
weights = where.initial_weights(start, width=width, normalisation=normalisation)
if weights:
    network.load_weights(model, weights)
print(f"{variant}: starts from {weights.relative_to(weights.parents[2]) if weights else 'random weights'}")

# %% [markdown]
# ## Training
# Best weights by validation; the holdout is not read. In pairs (`beside`) batches have four scans whatever `batch_size` says.

# %%
in_pairs = pairs.options(prepared, filled, seed + trial, augmentation)
history = training.fit(model, prepared, learning_rate=learning_rate, decay=decay, batch_size=batch_size, epochs=epochs, patience=patience,
                       seed=seed + trial, augmentation=augmentation, **in_pairs)  # fmt: skip
inputs = [prepared.path, where.split(cohort), *([filled.path] if filled else []), *([weights] if weights else [])]
record = training.save(where.trial(variant, trial), model, history, run, inputs)

# %%
figure, _ = figures.training_curves({trial: history}, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## Summary
# When all trials are there: [04_evaluation](04_evaluation.ipynb) and [05_lrp_heatmaps](05_lrp_heatmaps.ipynb).

# %%
print(f"{variant}, trial {trial}: best epoch {record['best_epoch']}")
print(f"validation accuracy {record['val_accuracy']:.3f}, loss {record['val_loss']:.3f}")
