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
# # 06 · Relevance by region
#
# In which grey-matter areas, white-matter tracts and McDonald zones does relevance lie, do patients differ from controls there, and has
# it to do with the lesions there? **Research software: not for clinical use.**
#
# | | |
# |---|---|
# | reads | `<results>/heatmaps/<variant>/` from [05_lrp_heatmaps](05_lrp_heatmaps.ipynb), `<results>/prepared/<cohort>.h5` |
# | writes | `<results>/regions/<variant>/`: relevance, tests, lesions, correlations (TSV), notes.json and, last, `provenance.json` |
# | takes | about 20 seconds for 23 scans |
#
# Positive, negative and net relevance are kept apart: the paper's "positive relevance" of regions is net relevance. A sum grows with a
# region's size, density does not, a share is of the whole map.

# %%
from msxai.base import parameters
from msxai.base.results import Results
from msxai.data.prepared import Prepared
from msxai.lrp import heatmaps
from msxai.regions import region_tables, regional_relevance
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # the cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
variant: str = "pretrained"  # the variant whose heatmaps are looked at
jhu: str = ""  # file of the JHU white-matter labels; empty: $FSLDIR's or that of make atlases, and without it no tracts
permutations: int = 10000  # of the labels of patients and controls
randoms: int = 500  # random regions of equal volume that each region is held against
seed: int = 0  # of both

# %%
run = parameters.check(globals())
where = Results(results)
explained = where.require_heatmaps(variant, cohort)[0]
prepared = Prepared(where.require_prepared(cohort), where.split(cohort))
table = heatmaps.read(explained)

# %% [markdown]
# ## Regions
# Areas without side that are grey matter (Neuromorphometrics), 22 tracts (JHU ICBM-DTI-81), zones of the McDonald criteria. What is not
# here is left out and says why.

# %%
atlases = regional_relevance.read(jhu or None)
print(*(f"{name}: left out. {reason}" for name, reason in atlases.left_out.items()), *atlases.notes, sep="\n")
atlases.table.groupby("atlas", sort=False)["voxels"].agg(regions="size", voxels="sum")

# %% [markdown]
# ## All tables
# One pass over all maps and regions. Tests: labels permuted, the largest t over an atlas's regions (family-wise) and Benjamini-Hochberg;
# random regions of equal volume; rank correlations within patients and within controls.

# %%
found = region_tables.write(where, prepared, table, atlases, run, n=permutations, randoms=randoms, seed=seed)
print(*(f"{what}: left out, as {reason}" for what, reason in found["notes"]["left_out"].items()), sep="\n")
permuted = found["tests"][found["tests"]["test"] == "labels permuted"]
found["tests"].sort_values("p_fwe").head(10)

# %% [markdown]
# ## White-matter tracts
# Lesion volume of all subjects, and relevance of the explained ones.

# %%
missing = found["notes"]["left_out"]
figure, _ = figures.lesion_volumes(found["lesions"], missing.get("lesions") or missing.get("tracts", ""), synthetic=prepared.synthetic)
figure

# %%
figure, _ = figures.tracts(found["relevance"], permuted, missing.get("tracts", ""), synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## Grey-matter areas

# %%
figure, _ = figures.areas(found["relevance"], permuted, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## McDonald zones
# Mean share of positive relevance.

# %%
zones = found["relevance"].query("atlas == 'zones' and sign == 'positive'")
zones.pivot_table("share", "region", "group", sort=False).round(3)

# %% [markdown]
# ## Correlations
# Relevance of a region with its lesion volume, the whole lesion volume, age and EDSS: the strongest, with their intervals.

# %%
found["correlations"].sort_values("p").head(10)

# %% [markdown]
# ## Summary
# The figures of the paper: [08_figures](08_figures.ipynb).

# %%
counts = permuted.assign(found=permuted["p_fwe"] < 0.05).groupby(["atlas", "sign", "measure"], sort=False)["found"].agg(["sum", "size"])
counts.rename(columns={"sum": "regions that differ", "size": "regions"})
