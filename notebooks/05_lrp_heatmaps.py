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
# Layer-wise relevance propagation hands the logit back through the network, layer by layer, to the voxels: which of them spoke for
# multiple sclerosis (positive), which against (negative), and how much. **Research software: not for clinical use.**
#
# | | |
# |---|---|
# | reads | `<results>/prepared/<cohort>.h5`, `<results>/finetuning/<variant>/trial-*` from [03_fine_tuning](03_fine_tuning.ipynb) |
# | writes | `<results>/heatmaps/<variant>/`: a BIDS derivative, NIfTI in each scan's own space with a sidecar; `provenance.json` last |
# | takes | about 1 minute for 23 scans and 2 trials at width 16 |
#
# Rule: epsilon, 1e-3, on the logit (the sigmoid is not part of the network). A heatmap is the mean over trials; beside it lies their
# voxel-wise standard deviation.
# Pictures are in neurological convention: the left of the picture is the left of the brain.

# %%
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
filling: str = "none"  # noise or constant: explain scans with their lesions filled (01b_lesion_filling)
weights: str = ""  # in place of the variant's trials: one weights file (.npz), for instance of another cohort
part: str = "holdout"  # part of the split that is explained: training, validation, holdout or all
rule: str = "epsilon"  # LRP rule or composite; msxai.lrp.rules lists them with their formulas
epsilon: float = 1e-3  # stabiliser of the epsilon rule
copies: int = 1  # shifted and mirrored copies of a scan that its map is the mean over: 8 find more lesions, in 8 times the time
engine: str = "msxai"  # who computes: msxai, or innvestigate (the cross-check, in a process of its own; without an audit)
interactive: bool = True  # a viewer to scroll through the slices, in place of a static picture
seed: int = 0  # of TensorFlow
threads: int = 1  # of TensorFlow; results depend on it by the order of summation

# %%
run = parameters.check(globals())
where = Results(results)
network.configure(seed, threads)
prepared = Prepared(where.require_prepared(cohort, filling), where.split(cohort))
trained = heatmaps.trained(where, variant, trials, weights, cohort)
rows = prepared.rows(part)
print(f"{len(rows)} scans, {len(trained)} trial(s)")

# %% [markdown]
# ## Relevance
# `relevance` is the sum of a map, `conserved` what part of the logit it is; biases and the stabiliser absorb the rest.

# %%
settings = heatmaps.Settings(
    rule=rule,
    epsilon=epsilon,
    copies=copies,
    computation=lrp.Computation(engine=engine, threads=threads),
)
table = heatmaps.write(where.heatmaps(variant), prepared, rows, trained, settings)
outputs, sources = [where.heatmaps(variant) / "heatmaps.tsv"], [where.prepared(cohort), prepared.path, *trained]
provenance.write_json(where.heatmaps(variant) / "provenance.json", provenance.record(run, sources, outputs))
table.drop(columns=["path", "sha256"])

# %% [markdown]
# ## Can I trust this map?
# Four warnings of each map: what it lacks of the logit, how far the scan is from those that the networks know, how much lies outside the
# brain, and whether the networks agree. The limits come from the validation part: few scans like those pass them. A map without a warning
# may still be wrong; `n/a`: cannot be told.

# %%
trusted = heatmaps.read_trust(where.heatmaps(variant))
trusted.groupby("flag", sort=False)[["value", "limit", "flagged"]].agg(
    {"value": ["min", "median", "max"], "limit": "first", "flagged": "sum"}
)

# %%
raised = trusted[trusted["flagged"].eq(True)]
raised if len(raised) else print("no map has a warning")

# %% [markdown]
# ## Audit
# What each layer hands on to the one before it, and what it keeps: no heatmap without its account (also in each sidecar).

# %%
figure, shares = figures.audit(heatmaps.read_audit(where.heatmaps(variant)), synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## One scan
# The scan for which the networks are surest. The lesion mask's outline in green, where the cohort has one.

# %%
surest = heatmaps.read(where.heatmaps(variant)).sort_values("probability").iloc[-1]
row = prepared.row(surest["participant_id"], surest["session_id"])
figure, _ = figures.heatmap(prepared, row, surest, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## Slice by slice
# Click into a slice to move through the map. Not for clinical use.

# %%
figures.view_heatmap(prepared.table["image"].iloc[row], surest["own_path"], interactive=interactive, synthetic=prepared.synthetic)

# %% [markdown]
# ## Summary
# All figures of the paper in one place: [08_figures](08_figures.ipynb).

# %%
table[["relevance", "conserved"]].describe().loc[["min", "mean", "max"]]
