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
# **Question.** Are the scans on one grid, and is each of them usable? Everything later compares
# voxels between subjects. A scan that is turned, cut off or in another space spoils the comparison.
#
# **Method.** Each scan is resampled to the model's grid: 96 x 114 x 96 voxels of the MNI152 field
# of view. A scan that is not in MNI152 space is registered first. Then the intensities inside the
# brain mask are z-scored, in the same way for pre-training and fine-tuning:
#
# $$z(v) = \frac{x(v) - \mu}{\sigma} \text{ inside the brain}, \qquad z(v) = 0 \text{ outside}$$
#
# | | |
# |---|---|
# | *x(v)* | intensity of the resampled scan at the voxel *v* |
# | *μ*, *σ* | mean and standard deviation of *x* inside the brain mask |
#
# **What the paper did.** Eitel et al. 2019 (doi:10.1016/j.nicl.2019.102003) divided each scan by
# its maximum before fine-tuning, and z-scored voxel by voxel before pre-training. `normalisation`
# takes both (`max`, `voxelwise`). With `zscore` the two stages see intensities on one scale.
#
# | | |
# |---|---|
# | reads | an embedded cohort (simulated on first use), BIDS, ADNI, a table, a YAML, or a list |
# | writes | `quality-control/<cohort>/`, `derivatives/`, `prepared/<cohort>.h5`, last `.json` |
# | takes | about 2 minutes for 147 embedded subjects on 2 cores |
#
# A cohort of your own: [docs/your-cohort.md](../docs/your-cohort.md). Functions used:
# [reference](../docs/reference/data.md).

# %%
from pathlib import Path

import numpy as np

from msxai.base import parameters, provenance
from msxai.base.results import Results
from msxai.data import images as grid
from msxai.data import quality_control, quality_control_page
from msxai.data.cohorts import confounds, splits
from msxai.data.cohorts.cohort import from_images, open_cohort
from msxai.data.prepared import PreparationOptions, Prepared, leaks, prepare
from msxai.data.synthetic import phantom
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # embedded (phantom-ms..., phantom-ad...), BIDS, ADNI, table or YAML
images: list = []  # instead of a dataset: paths of scans; `cohort` is then only their name
lesion_masks: list = []  # one lesion mask for each of `images`, or none
modality: str = "FLAIR"  # suffix of the scans: FLAIR or T1w
patients: str = "MS"  # the value of `label_column` for a patient
controls: str = "HC"  # the value of `label_column` for a control
label_column: str = "group"  # column of participants.tsv with the diagnosis
results: str = "runs/demo"  # folder of all results
subjects: int = 147  # embedded cohorts only: how many to simulate
cohort_seed: int = 1  # embedded cohorts only: seed of the simulation
holdout: list = [10, 13]  # controls and patients held out; numbers, or shares below 1
validation: float = 0.15  # share of the remaining subjects that selects the best weights
split_seed: int = 0  # seed of the split
normalisation: str = "zscore"  # zscore; the paper's: max (fine-tuning), voxelwise (pre-training)
interpolation: str = "linear"  # linear or continuous (third-order spline)
folds: int = 0  # instead of `holdout`: folds of a cross-validation (make cv); 0 for none
fold: int = 0  # number of the fold that is held out, from 0
holdout_site: list = []  # instead of `holdout`: sites held out completely
registration: str = "auto"  # auto: what is not in MNI152 space; none, affine, full: all scans
on_error: str = "stop"  # at a scan that cannot be used: stop, or leave out
jobs: int = 2  # processes

# %%
run = parameters.check(globals())
where = Results(results)

# %% [markdown]
# ## The cohort
# One row a scan. A subject with several visits has several rows. Masks, ages and EDSS are optional:
# results that need a missing one are left out and say so.

# %%
if images:
    source = from_images(images, lesion_masks, name=cohort, modality=modality)
else:
    folder = phantom.find(cohort, subjects=subjects, seed=cohort_seed, jobs=jobs)
    source = open_cohort(folder, modality, patients, controls, label_column)
n_subjects = source.table["participant_id"].nunique()
print(f"{source.name}: {len(source.table)} scans of {n_subjects} subjects")
print(f"synthetic: {source.synthetic}")
print(*source.notes, sep="\n")
source.table.drop(columns=["image", "brain_mask", "lesion_mask", "flair"]).head()

# %% [markdown]
# ## Confounds
# A network can learn any difference between patients and controls instead of the disease.
#
# **What to look for.** No warning. **What a bad one looks like:** a site with patients only, as in
# the paper's cohort. No analysis of such a cohort alone can correct for it. Add other sites and
# hold one out (`holdout_site`), or report the limitation.

# %%
for warning in confounds.warnings(source.table):
    print(warning)
confounds.table(source.table)

# %% [markdown]
# ## One split
# The split is seeded, stratified by diagnosis and grouped by subject. Every later step reads this
# file. A subject in two parts is an error.

# %%
if folds:
    split = splits.fold(source.table, fold, folds, validation, split_seed)
else:
    split = splits.make(source.table, holdout, validation, split_seed, holdout_site)
splits.write(split, where.split(cohort))
parts = split.merge(source.table).groupby(["part", "group"], dropna=False)
parts["participant_id"].agg(scans="size", subjects="nunique")

# %% [markdown]
# ## All scans
# A scan in MNI152 space, with a brain of the template's size, is resampled by its header alone, in
# any orientation. Any other scan is registered. A scan with skull gets N4 and brain extraction
# first. Registrations are kept in `derivatives/` and read from there in the next run.

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
for left_out in prepared.left_out:
    print("LEFT OUT:", left_out["participant_id"], left_out["session_id"], left_out["reason"])

# %% [markdown]
# ## One scan, step by step
# The same by hand, for the first scan with lesions. First the file, as `nibabel` reads it.

# %%
row = prepared.first_with_lesions()
scan = prepared.table.iloc[row]
original = grid.load(scan["image"])
print(f"{scan['participant_id']} {scan['session_id']}: {Path(scan['image']).name}")
print(f"shape {original.shape}, voxel volume {grid.voxel_volume(original.affine):.2f} mm³")

# %% [markdown]
# **Resampling** to the model's grid by the affine of the header, and the **brain mask** on that
# grid. Without a mask the brain is what is not background.

# %%
on_grid = grid.to_grid(original, interpolation)
if scan["brain_mask"]:
    brain = grid.mask_to_grid(grid.load_mask(scan["brain_mask"], original, brain=True))
else:
    brain = grid.brain_mask(on_grid)
brain_ml = brain.sum() * grid.voxel_volume(grid.AFFINE) / 1000
print(f"shape {on_grid.shape}, brain {brain_ml:.0f} ml")

# %% [markdown]
# **Normalisation** by the formula above. Inside the brain the mean becomes 0 and the standard
# deviation 1. The difference to the prepared scan is 0 if the scan was resampled only. It is large
# if the scan was registered, or if `normalisation` is not `zscore`.

# %%
inside = on_grid[brain].astype(float)
z = np.zeros(on_grid.shape)
z[brain] = (inside - inside.mean()) / inside.std()
difference = np.abs(z - prepared.image(row)).max()
print(f"before: mean {inside.mean():.1f}, standard deviation {inside.std():.1f}")
print(f"after:  mean {abs(z[brain].mean()):.1f}, standard deviation {z[brain].std():.1f}")
print(f"largest difference to the prepared scan: {difference:.6f}")

# %% [markdown]
# **What to look for.** The outline of the brain mask (blue) follows the brain. The outline of the
# lesion mask (red) encloses bright spots in white matter. **What a bad one looks like:** an outline
# that is shifted, or cuts through the brain.

# %%
figure, _ = figures.show_scan(
    prepared.image(row), prepared.brain(row), prepared.lesions(row), synthetic=prepared.synthetic
)
figure

# %% [markdown]
# ## Quality control
# The page has the measures and a picture of every scan, flagged scans first, and explains each
# measure. A flag is a reason to look, not a verdict.
#
# **What to look for.** Two outlines of the brain, the template's and the scan's own, side by side.
# **What a bad one looks like:** the outlines cross, the brain is turned, or it ends in a plane.

# %%
quality = quality_control.measure(prepared)
page = quality_control_page.write(prepared, where.quality_control(cohort), quality)
print(provenance.relative(page))
quality_control_page.show(quality)

# %%
outputs = [where.prepared(cohort), where.split(cohort)]
record = provenance.record(
    run,
    outputs=outputs,
    synthetic=source.synthetic,
    notes=source.notes,
    left_out=prepared.left_out,
)
provenance.write_json(where.record(cohort), record)

# %% [markdown]
# ## Is one person on two sides of the split?
# The split keeps all visits of a participant together. It cannot know that one person has two
# names. Scans of one person resemble each other more than scans of two persons. The table lists
# pairs in different parts whose distance is less than half of the usual distance to the nearest
# neighbour.
#
# **What to look for.** An empty table. **What a bad one looks like:** any row. Compare the scans.

# %%
leaks(prepared)

# %% [markdown]
# ## Summary
# The next step pre-trains on Alzheimer's disease: [02_pretraining](02_pretraining.ipynb). Without
# such a cohort continue with [03_fine_tuning](03_fine_tuning.ipynb) and
# `initial_weights = "scratch"`.

# %%
arrays = provenance.relative(where.prepared(cohort))
print(f"{arrays}: {len(prepared.table)} scans, synthetic: {prepared.synthetic}")
