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
# **Question.** How much did each voxel of a scan contribute to the network's logit?
#
# **Method.** Layer-wise relevance propagation (LRP; Bach et al. 2015,
# doi:10.1371/journal.pone.0130140) distributes the logit over the voxels. It starts at the output
# and goes back through the network, layer by layer. Positive relevance speaks for multiple
# sclerosis, negative relevance speaks against it. **This is research software. It is not for
# clinical use.**
#
# | | |
# |---|---|
# | reads | `prepared/<cohort>.h5`, `finetuning/<variant>/trial-*` of [03](03_fine_tuning.ipynb) |
# | writes | `heatmaps/<variant>/`: maps in each scan's own space with sidecars (BIDS), tables |
# | takes | about 1 minute for 23 scans and 2 trials at width 16 |
#
# First, one scan is explained step by step. Then all scans are explained for all trials, and the
# maps are written. The page [docs/lrp.md](../docs/lrp.md) lists the rules and their formulas. The
# page [docs/reading-a-heatmap.md](../docs/reading-a-heatmap.md) says how to read a map.

# %%
import tempfile

from msxai import lrp
from msxai.base import parameters, provenance
from msxai.base.results import Results
from msxai.data import images
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
settings = heatmaps.Settings(
    rule=rule,
    epsilon=epsilon,
    copies=tta_copies,
    computation=lrp.Computation(engine=engine, threads=threads),
)
where = Results(results)
network.configure(seed, threads)
arrays = where.require_prepared(cohort, filling)
prepared = Prepared(arrays, where.split(cohort))
weights_files = heatmaps.trained(where, variant, trials, weights, cohort)
rows = prepared.rows(split_part)
print(f"{len(rows)} scans, {len(weights_files)} trial(s)")

# %% [markdown]
# ## One scan, step by step
# The example is the first patient of the chosen part (`split_part`) and the network of the first
# trial.
#
# ### 1. The logit
# The output of the network is one number, the logit $f(x)$. The sigmoid of the logit is the
# probability of multiple sclerosis. LRP explains the logit. With the rule
# [epsilon](../docs/lrp.md), the units $k$ of the next layer give to a unit $j$ the relevance
#
# $$R_j = \sum_k \frac{a_j w_{jk}}{z_k + \epsilon\,\mathrm{sign}(z_k)}\,R_k,
# \qquad z_k = \sum_j a_j w_{jk} + b_k,$$
#
# where $a_j$ is the activation of unit $j$, $w_{jk}$ is a weight and $b_k$ is a bias. The
# stabiliser $\epsilon$ is a small number that avoids division by 0. LRP begins at the output with
# $R = f(x)$.
#
# The arguments of `lrp.explain` are a network, scans of shape (number, X, Y, Z, 1), and a rule or
# another method.

# %%
labels = prepared.table["label"].iloc[rows]
is_patient = labels.eq(1).to_numpy(bool, na_value=False)
row = rows[is_patient.argmax()]  # the first scan, where the part has no patient
scans = prepared.image(row)[None, ..., None]
model = network.restore(weights_files[0])

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
# The map has one value for each voxel, in logits. **What to look for:** values are large in a few
# places. A map that is equal everywhere in the brain explains nothing. Outside the brain the scan
# is 0. By the epsilon rule, a voxel of value 0 has no relevance.

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
# The audit is a table with one row for each layer. Each layer passes on relevance (`passed`).
# Biases and the stabiliser $\epsilon$ absorb the rest. In each row, the parts add up:
# `arriving` = `passed` + `bias` + `stabiliser`. `arriving` equals `passed` of the row above.
# **A bad result:** a layer absorbs most
# of the arriving relevance. The map then explains little of the logit.

# %%
explanation.audit.drop(columns="volume").round(4)

# %% [markdown]
# ### 4. Conservation
# The next cell computes the sum of the map divided by the logit, $\sum_j R_j / f(x)$. This ratio is
# 1 if nothing is absorbed. If the ratio is far from 1, or below 0, the sum of the map is not close
# to the logit. Near a logit of 0 the network is undecided, and the ratio has no meaning (`NaN`).

# %%
print(explanation)

# %% [markdown]
# ### 5. The picture
# Red speaks for multiple sclerosis, blue speaks against it. If the cohort has lesion masks, their
# outline is green. The left of the picture is the left of the brain. **What to look for:**
# relevance lies in lesions. **A bad result:** relevance follows the edge of the brain, or forms
# stripes along the slices.

# %%
folder = tempfile.TemporaryDirectory()
entry = heatmaps.write_one(folder.name, prepared, row, explanation)
figure, _ = figures.heatmap(prepared, row, entry, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ### 6. Slice by slice
# In JupyterLab, click into a slice to move through the map. If the notebook runs without
# JupyterLab, it shows a static picture. Lesions are green.

# %%
lesions = None
if prepared.has_lesions[row]:
    lesions = images.load_mask(prepared.table["lesion_mask"].iloc[row])
figures.view_heatmap(
    prepared.table["image"].iloc[row],
    entry["own_path"],
    interactive=interactive,
    lesions=lesions,
    synthetic=prepared.synthetic,
)

# %% [markdown]
# ## The cohort
# Now all scans of the part are explained for all trials. A heatmap is the mean over trials. The
# standard deviation over trials at each voxel is written as a second map. In the table, `relevance`
# is the sum of a map. `conserved` is this sum divided by the logit (`NaN` near a logit of 0).

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
# Each map has four warnings ([docs](../docs/reading-a-heatmap.md)). A map is suspicious if its sum
# is far from the logit, or if its scan differs from the training scans. It is also suspicious if
# much relevance lies outside the brain, or if the trials disagree. The limits are computed from the
# validation part. Few scans like these are expected beyond a limit. A map without a warning may
# still be wrong. `NaN` means that a value is missing.

# %%
warnings = heatmaps.read_trust(derivative)
summary = {"value": ["min", "median", "max"], "limit": "first", "flagged": "sum"}
warnings.groupby("flag", sort=False)[list(summary)].agg(summary)

# %%
raised = warnings[warnings["flagged"].eq(True)]
raised if len(raised) else print("no map has a warning")

# %% [markdown]
# ## Audit of all maps
# The figure shows how much of the logits each layer passes on. **A bad result:** a bar is much
# shorter than the bar before it. This layer absorbs much relevance.

# %%
audit = heatmaps.read_audit(derivative)
figure, shares = figures.audit(audit, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## The surest scan
# The picture shows the scan with the highest probability of multiple sclerosis. The map is the mean
# over all trials.

# %%
surest = heatmaps.read(derivative).sort_values("probability").iloc[-1]
surest_row = prepared.row(surest["participant_id"], surest["session_id"])
figure, _ = figures.heatmap(prepared, surest_row, surest, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## Summary
# `conserved` should lie near 1 for all scans. [08_figures](08_figures.ipynb) draws all figures of
# the paper.

# %%
table[["relevance", "conserved"]].describe().loc[["min", "mean", "max"]]
