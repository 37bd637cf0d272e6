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
# # 01 · Data preparation
#
# Brings one cohort onto the model's grid (96x114x96 voxels of the MNI field of view), splits it once, and stores everything that later
# steps read in one file.
#
# | | |
# |---|---|
# | reads | an embedded synthetic cohort (made here on first use), a BIDS dataset, or a list of scans |
# | writes | `<results>/prepared/<cohort>.h5`, `<cohort>_split.tsv` and, last, `<cohort>.json` |
# | takes | about 2 minutes for 147 embedded subjects on 2 cores |
#
# The embedded cohorts are simulated: `phantom-ms` (76 patients, 71 controls, FLAIR-like) and `phantom-ad` (T1-like, several visits a
# subject). A cohort of your own: `-p cohort data/my-study` for a BIDS dataset (see `data/README.md`).

# %%
from msxai import figures, integrity, parameters, phantom, splits
from msxai.cohort import open_cohort
from msxai.prepared import Prepared, leaks, prepare
from msxai.results import Results

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # an embedded cohort (phantom-ms..., phantom-ad...), or the folder of a BIDS dataset
images: list = []  # instead of a dataset: paths of scans; `cohort` is then only their name
lesion_masks: list = []  # one lesion mask for each of `images`, or none
modality: str = "FLAIR"  # suffix of the scans: FLAIR or T1w
patients: str = "MS"  # the value of `label_column` that means patient
controls: str = "HC"  # the value of `label_column` that means control
label_column: str = "group"  # column of participants.tsv with the diagnosis
results: str = "runs/demo"  # folder of all results
subjects: int = 147  # embedded cohorts only: how many to simulate
cohort_seed: int = 1  # embedded cohorts only: seed of the simulation
holdout: list = [10, 13]  # controls and patients held out to the end; numbers, or shares below 1
validation: float = 0.15  # share of the remaining subjects that selects the best weights
split_seed: int = 0  # seed of the split
normalisation: str = "zscore"  # zscore inside the brain; the paper's: max (fine-tuning), voxelwise (pre-training)
interpolation: str = "linear"  # linear or continuous (third-order spline)
registration: str = "none"  # scans are taken to be in MNI space already
jobs: int = 2  # processes

# %%
run = parameters.check(globals())
parameters.one_of("registration", registration, ["none"])
where = Results(results)

# %% [markdown]
# ## The cohort
# One row a scan; subjects with several visits have several rows. What a cohort lacks (masks, ages, EDSS) is left out later, and said.

# %%
folder = phantom.find(cohort, subjects=subjects, seed=cohort_seed, jobs=jobs) if not images else None
source = open_cohort(folder, modality, patients, controls, label_column, images=images, lesion_masks=lesion_masks, name=cohort)
print(f"{source.name}: {len(source.table)} scans of {source.table['participant_id'].nunique()} subjects, synthetic: {source.synthetic}")
source.table.drop(columns=["image", "brain_mask", "lesion_mask"]).head()

# %% [markdown]
# ## One split
# Seeded, stratified by diagnosis, grouped by subject. Every later step reads this file; a subject on two sides is an error.

# %%
split = splits.make(source.table, holdout=holdout, validation=validation, seed=split_seed)
splits.write(split, where.split(cohort))
split.merge(source.table).groupby(["part", "group"], dropna=False)["participant_id"].agg(scans="size", subjects="nunique")

# %% [markdown]
# ## Prepared arrays
# Each scan is resampled by its header alone (any orientation), then normalised inside its own brain mask, in the same way in both
# training stages.

# %%
prepare(source, split, where.prepared(cohort), normalisation=normalisation, interpolation=interpolation, parameters=run, jobs=jobs)
outputs = [where.prepared(cohort), where.split(cohort)]
integrity.write_json(where.record(cohort), integrity.provenance(run, outputs=outputs, synthetic=source.synthetic))

# %% [markdown]
# ## Does anyone stand on two sides?
# The split keeps the visits of a participant together, but cannot know of one person under two names. Scans of one person resemble each
# other more than those of two persons do: pairs that are nearer than half the usual distance to the nearest neighbour in another part of
# the split. The table should be empty.

# %%
prepared = Prepared(where.prepared(cohort), where.split(cohort))
leaks(prepared)

# %% [markdown]
# ## Look at one
# The brain mask's outline in blue, the lesion mask's in red, where the cohort has one.

# %%
first = prepared.first_with_lesions()
figure, _ = figures.show_scan(prepared.image(first), prepared.brain(first), prepared.lesions(first), synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## Summary
# The next step pre-trains on Alzheimer's disease: [02_pretraining](02_pretraining.ipynb). Without such a cohort go straight to
# [03_fine_tuning](03_fine_tuning.ipynb) with `start = "scratch"`.

# %%
print(f"{integrity.relative(where.prepared(cohort))}: {len(prepared.table)} scans, synthetic: {prepared.synthetic}")
