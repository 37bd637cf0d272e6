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
# **Question.** Can the network distinguish multiple sclerosis from controls on FLAIR scans? Does it
# help to start from the weights of 02? One run of this notebook trains one trial of one variant.
# All layers are trained.
#
# | | |
# |---|---|
# | reads | `<results>/prepared/<cohort>.h5` from [01](01_data_preparation.ipynb) |
# | | weights and `subjects.tsv` from [02_pretraining](02_pretraining.ipynb) |
# | writes | `<results>/finetuning/<variant>/trial-<trial>/`: `weights.npz`, `history.tsv`, |
# | | `subjects.tsv` and, last, `provenance.json` |
# | takes | about 4 minutes on one core in the demo (width 16, 105 training scans) |
#
# The protocol follows Eitel et al. 2019
# ([doi:10.1016/j.nicl.2019.102003](https://doi.org/10.1016/j.nicl.2019.102003)). The paper uses the
# optimiser Adam with a learning rate of 0.0005 / (1 + 0.002 step). It uses batches of 4 scans, at
# most 200 epochs and 10 trials.

# %%
import matplotlib.pyplot as plt
import numpy as np

from msxai.base import parameters, provenance
from msxai.base.results import Results
from msxai.data.prepared import Prepared
from msxai.model import checkpoints, network, pairs, seen_scans, training
from msxai.model.acquisition import rescanned
from msxai.model.augmentation import augment
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # the fine-tuning cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
variant: str = "pretrained"  # name of this variant: its results' folder
initial_weights: str = "best"  # best or trial-N (of 02), scratch, or a weights file (.npz)
filling: str = "none"  # noise or constant: train on scans with their lesions filled (01b)
counterfactual_pairs: str = "none"  # noise or constant: pair each patient with the filled scan
permuted: bool = False  # a control: labels permuted over training and validation part
trial: int = 0  # number of this trial; its seed is seed + trial
width: int = 16  # filters of each convolution; 64 in the paper
dropout: float = 0.1  # share of activations dropped after each pooling; 0.3 in the paper
epochs: int = 28  # most epochs; 200 in the paper
batch_size: int = 4  # scans a batch
learning_rate: float = 1e-3  # of Adam; 5e-4 in the paper
decay: float = 0.0  # learning_rate / (1 + decay * step); 2e-3 in the paper
patience: int = 15  # epochs without a lower validation loss before training stops
augmentation: str = "paper"  # none, paper (flips, shifts along x), strong or contrast
realism: str = "plain"  # plain, or randomised: scans as other scanners might show them
averaging: float = 0.0  # share of the mean of the weights that each step keeps; 0: no mean
control_penalty: float = 0.0  # weight of the positive relevance of controls in the loss; 0: none
head: str = "paper"  # or everywhere: the same head at every place, in place of the paper's
normalisation: str = "zscore"  # as the cohort was prepared, and the pre-training cohort too
seed: int = 100  # of the first trial: initial weights, order, dropout, augmentation
threads: int = 1  # of TensorFlow; results depend on it by the order of summation

# %%
run = parameters.check(globals())
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
    control_penalty=control_penalty,
)

# %%
where = Results(results)
network.configure(seed + trial, threads)
arrays = where.require_prepared(cohort, filling, normalisation=normalisation)
prepared = Prepared(arrays, where.split(cohort))
if permuted:
    training.permute_labels(prepared, seed + trial)
by_part = prepared.table.groupby(["part", "group"])["participant_id"]
by_part.agg(scans="size", subjects="nunique")

# %% [markdown]
# ## Initial weights
# Weights of an earlier training must have the same width and normalisation. The earlier training
# must not have used a scan of this network's holdout or validation part. To check this, the list of
# scans stored with the weights is compared with both parts, by subject and by the hash of the file.
#
# The paper's network ends in a dense layer whose weights differ from place to place. With
# `head = "everywhere"` the network treats all places alike: the fourth convolution is normalised by
# the batch and not pooled, and the mean and the maximum of each filter decide. If the earlier
# training had the other head, only its convolutions are taken.

# %%
model = network.build(width, dropout=dropout, fast=True, head=head)
weights = where.initial_weights(initial_weights, width=width, normalisation=normalisation)
if weights:
    if network.head_of(weights) == head:
        network.load_weights(model, weights)
    else:
        network.load_convolutions(model, weights)
    print(f"{variant}: starts from {provenance.relative(weights)}")
print(seen_scans.check_initial_weights(weights, prepared))

# %% [markdown]
# ## One scan by hand
# Augmentation shows the network other versions of each scan. With `paper`, a scan is flipped
# left-right with probability 0.5. It is also shifted along x by a whole number of voxels between -2
# and 2. With `strong`, it is moved along and rotated about all axes, and it gets another size, bias
# field, gamma and noise. With `contrast`, half of the scans also get a random contrast.
#
# With `realism = "randomised"`, each scan is first changed at random, as another scanner might show
# it. Slices can be thicker. Sharpness, noise and contrast of tissues differ, and so does the edge
# of the brain mask. The idea is that of SynthSeg (Billot et al. 2023,
# [doi:10.1016/j.media.2023.102789](https://doi.org/10.1016/j.media.2023.102789)).

# %%
row = prepared.rows("training")[0]
scan = prepared.image(row)
rng = np.random.default_rng(1)
augmented = augment(rescanned(scan, rng, realism), rng, augmentation)
figure, axes = plt.subplots(1, 2, figsize=(6, 3))
middle = scan.shape[2] // 2
for panel, volume, title in zip(axes, [scan, augmented], ["scan", "augmented"], strict=True):
    panel.imshow(volume[:, :, middle].T, cmap="gray", origin="lower")
    panel.set_title(title)
    panel.axis("off")

# %% [markdown]
# The logit $f(x)$ becomes the probability of the patient class, $p = 1 / (1 + e^{-f(x)})$. The loss
# of a scan is the cross-entropy $-y \log p - (1 - y) \log(1 - p)$ with its label $y$.

# %%
logit_before = training.predict(model, prepared, [row])[0]
probability_before = network.probability(logit_before)
label = prepared.table["label"][row]
print(f"{prepared.table['participant_id'][row]}, label {label}, before training:")
print(f"logit {logit_before:.3f}, p = {probability_before:.3f}")

# %% [markdown]
# ## Training
# The validation part decides when training stops and which epoch's weights are kept. The holdout is
# not read.
#
# The option `counterfactual_pairs` is called training in pairs. Each batch then has four scans: a
# patient's scan $x$, the same scan with its lesions filled $\tilde x$, another patient and a
# control. The term $\log(1 + e^{f(\tilde x) - f(x)})$ is added to the loss. It is small if a scan
# has a higher logit than its filled version (Burges et al. 2005,
# [doi:10.1145/1102351.1102363](https://doi.org/10.1145/1102351.1102363)). The parameter
# `batch_size` is ignored.
#
# A cohort without controls can be trained in pairs only: each patient's scan stands beside the same
# scan with its lesions filled. Half of the scans with lesions have other white matter filled (sham
# filling), so that the filling itself says nothing. The network then learns whether a brain has
# lesions. It cannot learn a diagnosis ([Patients without
# controls](../docs/patients-without-controls.md)).
#
# The option `control_penalty` is a constraint on controls: their positive relevance at the first
# pooling, $\sum_j \max(a_j\, \partial f / \partial a_j, 0)$, is added to the loss with this weight
# (Wargnier-Dauchelle et al. 2023,
# [doi:10.1109/TMI.2023.3282789](https://doi.org/10.1109/TMI.2023.3282789)). No voxel of a control
# should then argue for the disease. The training loss in the table below includes this sum.

# %%
filled = None
if counterfactual_pairs != "none":
    filled_arrays = where.require_prepared(
        cohort, counterfactual_pairs, normalisation=normalisation
    )
    filled = Prepared(filled_arrays, where.split(cohort))
    print(f"left out of the pairs, without a lesion mask: {filled.unfilled.sum()} scans")
in_pairs = pairs.options(prepared, filled, seed + trial, augmentation, realism)

# %% [markdown]
# The state after each epoch is kept in `checkpoint.npz`. If this run is interrupted, the next one
# goes on from there, with the same result. The file is removed at the end.

# %%
inputs = [prepared.path, where.split(cohort)]
if filled:
    inputs.append(filled.path)
if weights:
    inputs.append(weights)
folder = where.trial(variant, trial)
checkpoint = checkpoints.Checkpoint.of(folder, run, inputs)
history = training.fit(model, prepared, settings, checkpoint=checkpoint, **in_pairs)
history.tail()

# %%
seen = seen_scans.with_earlier(prepared, weights)
record = training.save(folder, model, history, run, inputs, seen)

# %%
figure, _ = figures.training_curves({trial: history}, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## What to look for, and what a bad training looks like
# - Both losses fall. The validation accuracy ends above the share of the larger group.
# - If the training loss falls while the validation loss rises, the network over-fits. The weights
#   of the best epoch are kept.
# - The validation part is small, so one scan changes the accuracy by several per cent. Compare
#   trials and variants on the holdout and on further subjects (04), not here.
# - With permuted labels (`permuted`), the validation accuracy should stay near 0.5. A higher
#   accuracy suggests that subjects are in two parts of the split.

# %%
logit_after = training.predict(model, prepared, [row])[0]
print(f"the scan followed by hand: logit {logit_before:.3f} before, {logit_after:.3f} after")
print(f"{variant}, trial {trial}: weights of epoch {record['best_epoch']}")
print(f"validation accuracy {record['val_accuracy']:.3f}, loss {record['val_loss']:.3f}")

# %% [markdown]
# When all trials are trained, continue with [04_evaluation](04_evaluation.ipynb) and
# [05_lrp_heatmaps](05_lrp_heatmaps.ipynb).
