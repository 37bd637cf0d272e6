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
# Brings one cohort onto the model's grid (96x114x96 voxels of the MNI field of view), registering what is not in MNI space, splits it
# once, stores everything that later steps read in one file, and shows what to look at before anything is trained.
#
# | | |
# |---|---|
# | reads | an embedded synthetic cohort (made on first use), a BIDS dataset, ADNI's folders, a table, a cohort's YAML, or a list of scans |
# | writes | below `<results>`: `quality-control/<cohort>/qc.html`; `derivatives/`; `prepared/<cohort>.h5`, `_split.tsv` last `.json` |
# | takes | about 2 minutes for 147 embedded subjects on 2 cores |
#
# The embedded cohorts are simulated: `phantom-ms` (76 patients, 71 controls, FLAIR-like) and `phantom-ad` (T1-like, several visits a
# subject). A cohort of your own: `-p cohort data/my-study` for a BIDS dataset; tables, ADNI and YAML: see `data/README.md`.

# %%
from msxai.base import parameters, provenance
from msxai.base.results import Results
from msxai.data import quality_control
from msxai.data.cohorts import confounds, splits
from msxai.data.cohorts.cohort import open_cohort
from msxai.data.prepared import PreparationOptions, Prepared, leaks, prepare
from msxai.data.synthetic import phantom
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # an embedded cohort (phantom-ms..., phantom-ad...), a BIDS dataset, ADNI's folder, a table, or a YAML
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
folds: int = 0  # instead of `holdout`: folds of a cross-validation (make cv); 0 for none
fold: int = 0  # which of them is held out, from 0
holdout_site: list = []  # instead of `holdout`: sites held out whole
registration: str = "auto"  # scans that are not in MNI space are registered; none, affine, full: what is done with all of them
on_error: str = "stop"  # a scan that cannot be used: stop, or leave out (and say so)
jobs: int = 2  # processes

# %%
run = parameters.check(globals())
where = Results(results)

# %% [markdown]
# ## The cohort
# One row a scan; subjects with several visits have several rows. What a cohort lacks (masks, ages, EDSS) is left out later, and said.

# %%
folder = phantom.find(cohort, subjects=subjects, seed=cohort_seed, jobs=jobs) if not images else None
source = open_cohort(folder, modality, patients, controls, label_column, images=images, lesion_masks=lesion_masks, name=cohort)
print(f"{source.name}: {len(source.table)} scans of {source.table['participant_id'].nunique()} subjects, synthetic: {source.synthetic}")
print(*source.notes, sep="\n")
source.table.drop(columns=["image", "brain_mask", "lesion_mask", "flair"]).head()

# %% [markdown]
# ## Confounds
# Whatever differs between patients and controls besides the disease can be learnt in its stead. A site of one group only, as the
# paper's cohort has one, cannot be put right by any analysis of this cohort alone: bring other sites (`holdout_site`), or say so.

# %%
for warning in confounds.warnings(source.table):
    print(warning)
confounds.table(source.table)

# %% [markdown]
# ## One split
# Seeded, stratified by diagnosis, grouped by subject. Every later step reads this file; a subject on two sides is an error.

# %%
if folds:
    split = splits.fold(source.table, fold, folds, validation=validation, seed=split_seed)
else:
    split = splits.make(source.table, holdout=holdout, validation=validation, seed=split_seed, holdout_site=holdout_site)
splits.write(split, where.split(cohort))
split.merge(source.table).groupby(["part", "group"], dropna=False)["participant_id"].agg(scans="size", subjects="nunique")

# %% [markdown]
# ## Prepared arrays
# A scan on the MNI grid with the template's brain size is resampled by its header alone (any orientation). Any other is registered (a
# raw one with N4, and its brain is found), kept in `derivatives/`, and read from there in the next run. Then each is normalised inside
# its own brain mask, in the same way in both training stages.

# %%
options = PreparationOptions(
    normalisation=normalisation,
    interpolation=interpolation,
    registration=registration,
    derivatives=where.registration(cohort),
    on_error=on_error,
)
prepare(source, split, where.prepared(cohort), options, parameters=run, jobs=jobs)
prepared = Prepared(where.prepared(cohort), where.split(cohort))
for scan in prepared.left_out:
    print("LEFT OUT:", scan["participant_id"], scan["session_id"], scan["reason"])

# %% [markdown]
# ## Quality control
# What is measured, what is flagged and why stands on the page, with a picture of each scan. A flag is a reason to look, no verdict.

# %%
quality = quality_control.measure(prepared)
page = quality_control.write(prepared, where.quality_control(cohort), quality)
print(provenance.relative(page))
quality_control.show(quality)

# %%
outputs = [where.prepared(cohort), where.split(cohort)]
more = {"synthetic": source.synthetic, "notes": source.notes, "left_out": prepared.left_out}
provenance.write_json(where.record(cohort), provenance.record(run, outputs=outputs, **more))

# %% [markdown]
# ## Does anyone stand on two sides?
# The split keeps the visits of a participant together, but cannot know of one person under two names. Scans of one person resemble each
# other more than those of two persons do: pairs that are nearer than half the usual distance to the nearest neighbour in another part of
# the split. The table should be empty.

# %%
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
print(f"{provenance.relative(where.prepared(cohort))}: {len(prepared.table)} scans, synthetic: {prepared.synthetic}")
