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
# **Question.** Are the scans on one grid, and is each of them usable? All later notebooks compare
# voxels between subjects. This comparison fails if a scan is turned, cut off or in another space.
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
# its maximum before fine-tuning, and z-scored voxel by voxel before pre-training. The parameter
# `normalisation` also offers these two methods (`max`, `voxelwise`). With `zscore`, pre-training
# and fine-tuning see intensities on the same scale.
#
# | | |
# |---|---|
# | reads | an embedded cohort (simulated on first use), BIDS, ADNI, a table, a YAML, or a list |
# | writes | `quality-control/<cohort>/`, `derivatives/`, `prepared/<cohort>.h5`; `.json` last |
# | takes | about 2 minutes for 147 embedded subjects on one core |
#
# To use your own cohort, read [docs/your-cohort.md](../docs/your-cohort.md). The
# [reference](../docs/reference/data.md) lists the functions, and the
# [glossary](../docs/glossary.md) explains the terms.

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
hypointensities: bool = True  # phantom-ad only: white-matter hypointensities, as in old age
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
jobs: int = 1  # processes

# %%
run = parameters.check(globals())
where = Results(results)

# %% [markdown]
# ## The cohort
# The table has one row for each scan. A subject with several visits has several rows. Masks, ages
# and EDSS are optional. Results that need a missing value are left out, and the notebooks say so.

# %%
if images:
    source = from_images(images, lesion_masks, name=cohort, modality=modality)
else:
    folder = phantom.find(cohort, subjects, cohort_seed, jobs, hypointensities)
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
# **What to look for.** There should be no warning. **A bad result:** one site has patients only, as
# in the paper's cohort. No analysis of this cohort alone can correct for such a confound. Add other
# sites and use one of them as the holdout (`holdout_site`), or report the limitation.

# %%
for warning in confounds.warnings(source.table):
    print(warning)
confounds.table(source.table)

# %% [markdown]
# ## One split
# The split is random with a fixed seed, stratified by diagnosis and grouped by subject. Every later
# step reads this file. If a subject is in two parts, the notebook stops with an error.

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
# any orientation. Any other scan is registered. A scan with skull first gets a bias-field
# correction (N4) and brain extraction. Registrations are stored in `derivatives/`, and the next run
# uses them again.

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
# The next cells repeat these steps for the first scan with lesions. First, `nibabel` reads the
# file.

# %%
row = prepared.first_with_lesions()
scan = prepared.table.iloc[row]
original = grid.load(scan["image"])
print(f"{scan['participant_id']} {scan['session_id']}: {Path(scan['image']).name}")
print(f"shape {original.shape}, voxel volume {grid.voxel_volume(original.affine):.2f} mm³")

# %% [markdown]
# **Resampling.** The scan is resampled to the model's grid by the affine of its header. **Brain
# mask.** The mask is resampled to the same grid. Without a mask, every voxel that is not background
# counts as brain.

# %%
on_grid = grid.to_grid(original, interpolation)
if scan["brain_mask"]:
    brain = grid.mask_to_grid(grid.load_mask(scan["brain_mask"], original, brain=True))
else:
    brain = grid.brain_on_grid(original, on_grid)
brain_ml = brain.sum() * grid.voxel_volume(grid.AFFINE) / 1000
print(f"shape {on_grid.shape}, brain {brain_ml:.0f} ml")

# %% [markdown]
# **Normalisation.** The formula above is applied. Inside the brain, the mean becomes 0 and the
# standard deviation 1. The difference from the prepared scan is 0 if the scan was only resampled.
# The difference is large if the scan was registered, or if `normalisation` is not `zscore`.

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
# lesion mask (red) encloses bright spots in white matter. **A bad result:** an outline is shifted
# or cuts through the brain.

# %%
figure, _ = figures.show_scan(
    prepared.image(row), prepared.brain(row), prepared.lesions(row), synthetic=prepared.synthetic
)
figure

# %% [markdown]
# ## Quality control
# The quality-control page has a picture of every scan and explains each measure. Flagged scans come
# first. A flag is a reason to look at the scan. It does not prove that the scan is unusable.
#
# **What to look for.** Two outlines, the template's brain and the scan's own brain, should run
# close together. **A bad result:** the outlines cross, the brain is turned, or the brain is cut
# off.

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
# The split keeps all visits of a participant together. However, the same person may be in the
# cohort under two identifiers. Scans of one person resemble each other more than scans of two
# persons. The table lists pairs of scans in different parts that are suspiciously similar. Their
# distance is less than half of the usual distance to the nearest neighbour.
#
# **What to look for.** The table should be empty. **A bad result:** the table has a row. Then
# compare the two scans.

# %%
leaks(prepared)

# %% [markdown]
# ## Summary
# The next notebook pre-trains on Alzheimer's disease: [02_pretraining](02_pretraining.ipynb).
# Without such a cohort, continue with [03_fine_tuning](03_fine_tuning.ipynb) and set
# `initial_weights = "scratch"`.

# %%
arrays = provenance.relative(where.prepared(cohort))
print(f"{arrays}: {len(prepared.table)} scans, synthetic: {prepared.synthetic}")
