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
# # 05 · LRP heatmaps
#
# **Question.** Which voxels of a scan made the network's logit what it is, and how much did each
# add?
#
# **Method.** Layer-wise relevance propagation (LRP; Bach et al. 2015,
# doi:10.1371/journal.pone.0130140) hands the logit back through the network, layer by layer, to
# the voxels. Positive relevance speaks for multiple sclerosis, negative relevance against it.
# **Research software: not for clinical use.**
#
# | | |
# |---|---|
# | reads | `prepared/<cohort>.h5`, `finetuning/<variant>/trial-*` of [03](03_fine_tuning.ipynb) |
# | writes | `heatmaps/<variant>/`: maps in each scan's own space with sidecars (BIDS), tables |
# | takes | about 1 minute for 23 scans and 2 trials at width 16 |
#
# First one scan is explained by hand, step by step. Then all scans are explained by all trials,
# and the maps are written. Rules and their formulas: [docs/lrp.md](../docs/lrp.md). How to read a
# map: [docs/reading-a-heatmap.md](../docs/reading-a-heatmap.md).

# %%
import tempfile

from msxai import lrp
from msxai.base import parameters, provenance
from msxai.base.results import Results
from msxai.data.prepared import Prepared
from msxai.lrp import heatmaps
from msxai.model import network
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # the cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
variant: str = "pretrained"  # variant of 03_fine_tuning
trials: int = 2  # trials of the variant; the heatmap is their mean
filling: str = "none"  # noise or constant: explain scans with filled lesions (01b)
weights: str = ""  # in place of the variant's trials: one weights file (.npz)
split_part: str = "holdout"  # what is explained: training, validation, holdout or all
rule: str = "epsilon"  # LRP rule or composite, by its name in docs/lrp.md
epsilon: float = 1e-3  # stabiliser of the epsilon rule
tta_copies: int = 1  # shifted and mirrored copies of a scan that its map is the mean of
engine: str = "msxai"  # who computes: msxai, or innvestigate (the cross-check, without audit)
interactive: bool = True  # a viewer to scroll through the slices, in JupyterLab
seed: int = 0  # of TensorFlow
threads: int = 1  # of TensorFlow; results depend on it by the order of summation

# %%
run = parameters.check(globals())
where = Results(results)
network.configure(seed, threads)
arrays = where.require_prepared(cohort, filling)
prepared = Prepared(arrays, where.split(cohort))
weights_files = heatmaps.trained(where, variant, trials, weights, cohort)
rows = prepared.rows(split_part)
print(f"{len(rows)} scans, {len(weights_files)} trial(s)")

# %% [markdown]
# ## One scan, step by step
# The first patient of the part, and the network of the first trial.
#
# ### 1. The logit
# The network ends in one number, the logit $f(x)$; its sigmoid is the probability of multiple
# sclerosis. LRP explains the logit. With the rule [epsilon](../docs/lrp.md), a unit $j$ of a layer
# receives from the units $k$ of the next one
#
# $$R_j = \sum_k \frac{a_j w_{jk}}{z_k + \epsilon\,\mathrm{sign}(z_k)}\,R_k,
# \qquad z_k = \sum_j a_j w_{jk} + b_k,$$
#
# where $a_j$ is the unit's activation, $w_{jk}$ a weight and $b_k$ a bias. It begins with $R =
# f(x)$ at the output.
#
# `lrp.explain` takes a network, scans of shape (number, X, Y, Z, 1) and a rule or another method.

# %%
labels = prepared.table["label"].iloc[rows]
is_patient = labels.eq(1).to_numpy(bool, na_value=False)
row = rows[is_patient.argmax()]  # the first scan, where the part has no patient
scans = prepared.image(row)[None, ..., None]
model = network.restore(weights_files[0])
settings = heatmaps.Settings(
    rule=rule,
    epsilon=epsilon,
    copies=tta_copies,
    computation=lrp.Computation(engine=engine, threads=threads),
)

# %%
explanation = lrp.explain(
    model,
    scans,
    rule,
    epsilon=epsilon,
    copies=tta_copies,
    computation=settings.computation,
)
logit = explanation.logits[0]
print(f"{prepared.table['participant_id'].iloc[row]}: logit {logit:+.3f}")
print(f"probability of multiple sclerosis: {network.probability(logit):.3f}")

# %% [markdown]
# ### 2. The map
# One value for each voxel, in logits. Look for values that are large in a few places: a map that
# is even over the brain explains nothing. Outside the brain the scan is 0, and by the epsilon rule
# a voxel of value 0 has no relevance.

# %%
relevance = explanation.relevance[0, ..., 0]
brain = prepared.brain(row)
positive = relevance.clip(min=0).sum()
negative = relevance.clip(max=0).sum()
outside = abs(relevance[~brain]).sum() / abs(relevance).sum()
print(f"shape {relevance.shape}")
print(f"positive relevance {positive:+.3f}, negative relevance {negative:+.3f} logits")
print(f"share of the map's magnitude outside the brain: {outside:.1%}")

# %% [markdown]
# ### 3. The audit
# Each layer hands relevance on (`passed`); biases and the stabiliser $\epsilon$ absorb the rest.
# In each row `arriving` = `passed` + `bias` + `stabiliser`, and `arriving` is what the layer
# before it in the table passed. A bad audit: a layer that absorbs most of what arrives. The map
# then explains little of the logit.

# %%
explanation.audit.drop(columns="volume").round(4)

# %% [markdown]
# ### 4. Conservation
# The sum of the map divided by the logit, $\sum_j R_j / f(x)$. It is 1 where nothing is absorbed.
# Values far from 1, or below 0, say that the map accounts for another number than the logit. Near
# a logit of 0 the network is undecided, and the share cannot be told.

# %%
print(explanation)

# %% [markdown]
# ### 5. The picture
# Red speaks for multiple sclerosis, blue against it; the outline of the lesion mask is green,
# where the cohort has one. The left of the picture is the left of the brain. Look for relevance at
# lesions. A bad map follows the edge of the brain, or the planes between slices.

# %%
folder = tempfile.TemporaryDirectory()
entry = heatmaps.write_one(folder.name, prepared, row, explanation)
figure, _ = figures.heatmap(prepared, row, entry, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ### 6. Slice by slice
# In JupyterLab click into a slice to move through the map. A run without a person shows a static
# picture.

# %%
figures.view_heatmap(
    prepared.table["image"].iloc[row],
    entry["own_path"],
    interactive=interactive,
    synthetic=prepared.synthetic,
)

# %% [markdown]
# ## The cohort
# The same for all scans of the part and all trials. A heatmap is the mean over trials; their
# voxel-wise standard deviation is written as a second map. `relevance` is the sum of a map,
# `conserved` the share of the logit (`NaN`: cannot be told).

# %%
folder.cleanup()
derivative = where.heatmaps(variant)
table = heatmaps.write(derivative, prepared, rows, weights_files, settings)
inputs = [where.prepared(cohort), prepared.path, *weights_files]
record = provenance.record(run, inputs, [derivative / "heatmaps.tsv"])
provenance.write_json(derivative / "provenance.json", record)
table["conserved"] = lrp.conserved(table["relevance"], table["logit"])
table.drop(columns=["path", "own_path", "sha256"])

# %% [markdown]
# ## Can a map be trusted?
# Four warnings for each map ([docs](../docs/reading-a-heatmap.md)): how far its sum is from the
# logit, how far the scan is from those of the training, how much relevance lies outside the brain,
# and whether the trials agree. The limits come from the validation part: few scans like those
# exceed them. A map without a warning may still be wrong. `NaN`: cannot be told.

# %%
warnings = heatmaps.read_trust(derivative)
summary = {"value": ["min", "median", "max"], "limit": "first", "flagged": "sum"}
warnings.groupby("flag", sort=False)[list(summary)].agg(summary)

# %%
raised = warnings[warnings["flagged"].eq(True)]
raised if len(raised) else print("no map has a warning")

# %% [markdown]
# ## Audit of all maps
# How much of the logits each layer passes on. A bad audit: a bar that is much shorter than the one
# before it.

# %%
audit = heatmaps.read_audit(derivative)
figure, shares = figures.audit(audit, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## The surest scan
# The scan with the highest probability of multiple sclerosis, by the mean map of all trials.

# %%
surest = heatmaps.read(derivative).sort_values("probability").iloc[-1]
surest_row = prepared.row(surest["participant_id"], surest["session_id"])
figure, _ = figures.heatmap(prepared, surest_row, surest, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## Summary
# `conserved` should lie near 1 for all scans. All figures of the paper stand in
# [08_figures](08_figures.ipynb).

# %%
table[["relevance", "conserved"]].describe().loc[["min", "mean", "max"]]
