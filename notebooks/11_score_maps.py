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
# # 11 · Score maps
#
# **Question.** Do the heatmaps of any program find the lesions? Do they find them better than maps
# that do not use the network?
#
# **Method.** Each map $R$ is compared with the lesion mask $G$ of its scan, as in
# [07](07_explanation_quality.ipynb). $R^+$ is the map with its negative values set to 0. Relevance
# mass accuracy is
#
# $$\text{rma} = \frac{\sum_{v \in G} R^+(v)}{\sum_v R^+(v)}.$$
#
# Baselines are scored in the same way: noise, the mean lesion mask of the *other* subjects (prior),
# and, if scans are given, their brightness and edges. The maps find lesions better than the
# baselines only if the paired difference, maps minus strongest baseline, has a 95 % interval above
# 0.
#
# | | |
# |---|---|
# | reads | maps and lesion masks (.npy, NIfTI or a folder of NIfTI); if given, brains and scans |
# | writes | `scores.tsv` (each scan), `ranking.tsv` (means with intervals), `fig_scores` |
# | takes | about a second for each scan |
#
# The command `msxai score` runs this notebook. The page
# [docs/explanation-quality.md](../docs/explanation-quality.md) explains the measures.

# %%
from msxai.base import parameters, provenance, tsv
from msxai.base.parameters import located
from msxai.quality import external_maps, localisation
from msxai.report import figures

# %% tags=["parameters"]
maps: str = ""  # .npy of shape (N, X, Y, Z) or with a channel, a NIfTI file, or a folder of them
masks: str = ""  # lesion masks, likewise, in the same order
brains: str = ""  # brain masks, likewise; none: the brain of the scans, which have no skull then
scans: str = ""  # scans, likewise, for the baselines brightness and edges; or none
out: str = "runs/scores"  # folder of the results
seed: int = 0  # of the random map and the bootstrap

# %%
run = parameters.check(globals())
subjects = external_maps.read(maps, masks, brains, scans)
print(f"{len(subjects)} maps")

# %% [markdown]
# ## One map by hand
# The next cell scores the first map with a lesion. **What to look for:** rma is far above chance.
# Chance is the lesions' share of the brain.

# %%
with_lesions = [subject for subject in subjects if (subject.lesions & subject.brain).any()]
for subject in with_lesions[:1]:
    positive = localisation.positive(subject.relevance)
    inside = positive[subject.lesions & subject.brain].sum()
    share = (subject.lesions & subject.brain).sum() / subject.brain.sum()
    print(f"{subject.name}: shape {subject.relevance.shape}")
    print(f"rma by hand: {inside / max(positive.sum(), 1e-30):.4f}, chance {share:.4f}")

# %% [markdown]
# ## All maps
# Each measure is computed for each scan. Voxels of different scans are never pooled.

# %%
scores = external_maps.score(subjects, seed)
scores.round(4)

# %% [markdown]
# **What to look for:** the difference, map minus strongest baseline, has an interval above 0. **A
# bad result:** a baseline has the highest score. With one scan there is no interval.

# %%
baselines = [name for name in external_maps.BASELINES if name in set(scores["map"])]
ranking = localisation.rank(scores, baselines, seed)
folder = located(out)
tsv.write(scores, folder / "scores.tsv", float_format="%.6g")
tsv.write(ranking, folder / "ranking.tsv", float_format="%.6g")
figure, source = figures.league(ranking, synthetic=False)
files = external_maps.hashes(maps, masks, brains, scans)
record = provenance.record({"seed": seed}, files=files)
figures.save(figure, folder, "fig_scores", source, record)
figure
