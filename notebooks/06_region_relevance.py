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
# **Question.** In which grey-matter areas, white-matter tracts and McDonald zones does relevance
# lie? Do patients differ from controls in these regions? Do regions with many lesions have much
# relevance? McDonald zones are the regions in which the diagnostic criteria of MS look for lesions.
# **This is research software. It is not for clinical use.**
#
# | | |
# |---|---|
# | reads | `<results>/heatmaps/<variant>/` from [05_lrp_heatmaps](05_lrp_heatmaps.ipynb) |
# | | `<results>/prepared/<cohort>.h5` |
# | writes | `<results>/regions/<variant>/`: relevance, tests, lesions, correlations (TSV), |
# | | `notes.json` and, last, `provenance.json` |
# | takes | about 40 seconds for 23 scans |

# %%
import numpy as np

from msxai.base import parameters
from msxai.base.results import Results
from msxai.data import images
from msxai.data.prepared import Prepared
from msxai.lrp import heatmaps
from msxai.regions import lesion_regions, region_tables, regional_relevance
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # the cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
variant: str = "pretrained"  # the variant whose heatmaps are analysed
jhu: str = ""  # file of the JHU labels; empty: $FSLDIR's or that of make atlases, else no tracts
permutations: int = 10000  # of the labels of patients and controls
randoms: int = 500  # random regions of equal volume that each region is compared with
seed: int = 0  # of both

# %%
run = parameters.check(globals())
where = Results(results)
explained, _ = where.require_heatmaps(variant, cohort)
prepared = Prepared(where.require_prepared(cohort), where.split(cohort))
table = heatmaps.read(explained)

# %% [markdown]
# ## Regions
# | atlas | regions | source |
# |---|---|---|
# | areas | grey-matter areas without side | Neuromorphometrics, MICCAI 2012 |
# | tracts | 22 tracts | JHU ICBM-DTI-81, Mori et al. 2008, doi:10.1016/j.neuroimage.2007.12.035 |
# | zones | McDonald zones | Thompson et al. 2018, doi:10.1016/S1474-4422(17)30470-2 |
#
# If an atlas is not installed, it is left out, and the notebook gives the reason.

# %%
regions = regional_relevance.read(jhu or None)
for name, reason in regions.left_out.items():
    print(f"{name}: left out. {reason}")
print("\n".join(regions.notes))
by_atlas = regions.table.groupby("atlas", sort=False)["voxels"]
by_atlas.agg(regions="size", voxels="sum")

# %% [markdown]
# ## One scan by hand
# Each voxel $v$ has a relevance $R_v$. For a region $S$ there are three measures:
#
# - sum: $\sum_{v \in S} R_v$ (logit), which grows with the region's volume;
# - density: the sum divided by the number of voxels $|S|$;
# - share: the sum divided by the sum of the whole map.
#
# Positive relevance, $\max(R_v, 0)$, speaks for a patient. Negative relevance speaks against it.
# Net relevance is the sum of both. The three are reported separately. What the paper calls
# "positive relevance" is net relevance. The next cell computes the sum of positive relevance in the
# first heatmap, by hand and by the package.

# %%
heatmap = images.to_grid(images.load(table["path"].iloc[0]))
positive = np.maximum(heatmap, 0)
region_number = int(regions.table["voxels"].argmax())
voxels = regions.voxels[regions.codes == region_number]
by_hand = positive.ravel()[voxels].sum(dtype=float)
by_package = regional_relevance.sums(positive[np.newaxis], regions)[0, region_number]
print(f"{table['participant_id'].iloc[0]}, {regions.table['region'][region_number]}")
print(f"by hand {by_hand:.4f}, by the package {by_package:.4f} (logit)")

# %% [markdown]
# ## All scans and regions
# - Patients are compared with controls by a permutation test. In each permutation of the labels,
#   the largest $|t|$ over all regions of the atlas is computed. The family-wise p of a region is
#   the share of permutations in which this largest $|t|$ reaches its own $|t|$
#   (Westfall & Young 1993). `p_fdr` is corrected by the method of Benjamini and Hochberg.
# - Each region is compared with compact random regions of equal volume: is its density higher?
# - Spearman's rank correlation is computed within patients and within controls.

# %%
draws = region_tables.Draws(permutations=permutations, random_regions=randoms, seed=seed)
tables = region_tables.write(where, prepared, table, regions, run, draws)
left_out = tables["notes"]["left_out"]
for name, reason in left_out.items():
    print(f"{name}: left out, because {reason}")
tests = tables["tests"]
permuted = tests[tests["test"] == "labels permuted"]
tests.sort_values("p_fwe").head(10)

# %% [markdown]
# ## White-matter tracts
# The first figure shows the lesion volume of all subjects. The second figure shows the relevance of
# the explained subjects. If relevance follows lesions, the same tracts are on top in both figures.

# %%
no_tracts = left_out.get("tracts", "")
no_lesion_volumes = left_out.get("lesions") or no_tracts
figure, _ = figures.lesion_volumes(
    tables["lesions"], no_lesion_volumes, synthetic=prepared.synthetic
)
figure

# %%
figure, _ = figures.tracts(tables["relevance"], permuted, no_tracts, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## Grey-matter areas
# Few lesions lie in grey matter. If relevance is higher in patients than in controls, there are
# three possible reasons: atrophy, lesions nearby, or blurring by the network's kernels.

# %%
figure, _ = figures.areas(tables["relevance"], permuted, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## McDonald zones
# The table shows the mean share of positive relevance in each group.

# %%
zones = tables["relevance"].query("atlas == 'zones' and sign == 'positive'")
zones.pivot_table("share", "region", "group", sort=False).round(3)

# %% [markdown]
# ## Whole lesions
# The zones above divide voxels. The McDonald criteria count lesions, and a lesion belongs as a
# whole to one region: the first of infratentorial, periventricular, juxtacortical or cortical, and
# deep that fits. Ventricles and cortex are looked for in each scan
# ([docs/one-scan.md](../docs/one-scan.md)). The next cell counts the lesions of the explained scans
# on the model's grid. If none of them has a lesion, the table is empty.
#
# **What to look for:** most of the volume in MS is periventricular. **A bad result:** most lesions
# are deep. The masks or the registration may then be wrong.

# %%
rows = map(prepared.row, table["participant_id"], table["session_id"])
whole_lesions = lesion_regions.of_scans(prepared, rows)
by_region = whole_lesions.groupby("region", sort=False)[["lesions", "volume"]]
by_region.agg(["sum", "median"]).rename(columns={"volume": "volume (mm3)"}).round(1)

# %% [markdown]
# Whose cortex has decided? It is that of the person where the scan shows its sulci. On thick slices
# it is that of the template and of the sulci that the scan still shows. The next cell counts scans.

# %%
whole_lesions.drop_duplicates(["participant_id", "session_id"])["cortex"].value_counts()

# %% [markdown]
# ## Correlations
# The relevance of each region is correlated with the lesion volume of the region, the lesion volume
# of the brain, age and EDSS. The table shows the strongest correlations, with their 95 % CI. There
# are many tests, so read `p_fdr`, not `p`.

# %%
tables["correlations"].sort_values("p").head(10)

# %% [markdown]
# ## What to look for, and what a bad result looks like
# - Look for a region whose share differs between the groups. A difference in the sum alone is not
#   enough: patients have larger logits, so every region has a larger sum.
# - Look for a region with a higher density than random regions. Otherwise the sum of the region may
#   be large only because the region is large.
# - A strong correlation with age within controls is a bad result. The network may have learnt age.
# - A difference in all regions is a bad result. The network may use a global property of the image,
#   for instance its contrast.

# %%
is_different = permuted["p_fwe"] < 0.05
families = permuted.assign(is_different=is_different)
by_family = families.groupby(["atlas", "sign", "measure"], sort=False)["is_different"]
by_family.agg(["sum", "size"]).rename(columns={"sum": "regions that differ", "size": "regions"})

# %% [markdown]
# [08_figures](08_figures.ipynb) draws the figures of the paper.
