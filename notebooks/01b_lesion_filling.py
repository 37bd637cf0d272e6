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
# # 01b · Lesion filling
#
# **Question.** What do the same scans look like without their lesions? A network can be trained on
# these filled scans. If it still distinguishes patients from controls, it uses more than lesions.
#
# **Method.** Lesion voxels and a rim of 2 mm around them are replaced. The new tissue resembles the
# normal-appearing white matter nearby. At a distance of 2 to 4 mm, old and new tissue are mixed. A
# piece of white matter is copied into the lesion, and its brightness is adjusted (levelled) to the
# surroundings:
#
# $$\text{new} = m + \frac{w\,(p - q) + (1 - w)\,(v - m)}{\sqrt{w^2 + (1 - w)^2}}$$
#
# | | |
# |---|---|
# | *v* | the scan |
# | *m* | the mean of normal-appearing white matter around the voxel |
# | *p* | the piece of white matter |
# | *q* | the mean of white matter around the piece |
# | *w* | the weight of the mask: 1 in the lesion and up to 2 mm, 0 from 4 mm |
#
# The square root keeps the variance of the noise where old and new tissue are mixed. Levelling
# follows a method called seamless cloning (Pérez et al. 2003, doi:10.1145/882262.882269).
#
# **What the paper did.** The paper follows Valverde et al. 2014 (doi:10.1016/j.nicl.2014.08.016).
# Lesion voxels get values from a normal distribution with the mean and half the standard deviation
# of the slice's white matter. The paper's code drew one number for each slice and gave it to all
# lesion voxels of the slice. This makes a flat patch, which a network can learn in place of the
# lesion. `filling = "constant"` repeats this method.
#
# | | |
# |---|---|
# | reads | `prepared/<cohort>.h5` and the split of [01](01_data_preparation.ipynb), scans, masks |
# | writes | `lesion-filled/<filling>/<cohort>.h5` and, last, `.json` |
# | takes | about 2 minutes for 147 embedded subjects on one core |
#
# If the cohort has no lesion masks, only the record (`.json`) is written. It gives the reason. The
# page [docs/lesion-filling.md](../docs/lesion-filling.md) explains the method.

# %%
import nibabel as nib
import numpy as np

from msxai.base import parameters
from msxai.base.results import Results
from msxai.data import filled_cohort, lesion_filling
from msxai.data.prepared import Prepared
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # the cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
filling: str = "noise"  # noise: pieces of nearby white matter, soft borders; constant: the paper's
seed: int = 0  # of what is drawn
jobs: int = 1  # processes

# %%
run = parameters.check(globals())
where = Results(results)
untouched = Prepared(where.require_prepared(cohort), where.split(cohort))
print(f"{untouched.has_lesions.sum()} of {len(untouched.table)} scans have a lesion mask")

# %% [markdown]
# ## One scan, step by step
# The picture shows the prepared scan with the largest lesion volume. The outline of its lesion mask
# is red.

# %%
volumes = untouched.lesion_volumes(untouched.rows("all"))  # mm3, NaN without a mask
row = int(np.nan_to_num(volumes).argmax())
scan = untouched.image(row)
brain = untouched.brain(row)
lesions = untouched.lesions(row)
figure, _ = figures.show_scan(scan, brain, lesions, synthetic=untouched.synthetic)
figure

# %% [markdown]
# **Normal-appearing white matter** is the source of the new tissue. It is white matter in the
# template, and more than 4 mm from any lesion. Its brightness is usual for white matter in this
# scan and in this region.

# %%
voxel_size = nib.affines.voxel_sizes(untouched.affine)  # mm
template_white = lesion_filling.white_matter(nib.Nifti1Image(scan, untouched.affine))
normal = lesion_filling.normal_appearing(scan, template_white, lesions, voxel_size)
print(f"white matter of the template: {template_white.sum():,} voxels")
print(f"of these normal-appearing:    {normal.sum():,} voxels")

# %% [markdown]
# **The soft mask** shows the weight *w* of the formula.

# %%
weight = lesion_filling.soft(lesions, voxel_size, template_white)
print(f"lesions:                  {lesions.sum():,} voxels")
print(f"replaced whole (w = 1):   {(weight == 1).sum():,} voxels")
print(f"mixed (0 < w < 1):        {((weight > 0) & (weight < 1)).sum():,} voxels")

# %% [markdown]
# **The filled scan.** Noise and texture should continue where the lesions were.

# %%
noise = lesion_filling.fill(scan, weight, normal, how="noise", seed=seed, size=voxel_size)
figure, _ = figures.show_scan(noise, brain, lesions, synthetic=untouched.synthetic)
figure

# %% [markdown]
# **A bad result.** This is the paper's filling: all lesions of a slice have one grey value and a
# hard edge.

# %%
constant = lesion_filling.fill(scan, weight, normal, how="constant", seed=seed, size=voxel_size)
figure, _ = figures.show_scan(constant, brain, lesions, synthetic=untouched.synthetic)
figure

# %% [markdown]
# **The same in numbers.** The filled voxels should have the same mean and the same standard
# deviation as normal-appearing white matter. The standard deviation of the paper's filling is too
# small.

# %%
if lesions.any():
    for name, values in {"untouched": scan, "noise": noise, "constant": constant}.items():
        inside = values[lesions]
        print(f"{name:10s} mean {inside.mean():6.2f}, standard deviation {inside.std():5.2f}")
print(f"white matter mean {scan[normal].mean():.2f}, standard deviation {scan[normal].std():.2f}")

# %% [markdown]
# ## All scans
# If only patients had filled tissue, a network could learn the filling in place of the lesions.
# Therefore each control is also filled: at its own lesions and at the sites of a patient's lesions.
# The scans are filled before they are resampled and normalised.
#
# A patient's scan without a lesion mask is not a scan without lesions. It is left out by name, and
# all other scans are filled. Trainings on filled scans and in pairs do not use it. Where 04
# compares such a training with others, all are compared on the scans that were filled.

# %%
filled, reason = filled_cohort.write(where, cohort, filling, run, seed=seed, jobs=jobs)
if reason:
    print(f"left out: {reason}")
else:
    print(f"{len(filled.rows('all'))} scans filled")
    for name in filled_cohort.unfilled(filled):
        print(f"left out, because it has no lesion mask: {name}")

# %% [markdown]
# The picture shows the same scan as above, as it was filled with the cohort.

# %%
if filled is not None:
    image = filled.image(row)
    figure, _ = figures.show_scan(image, brain, lesions, synthetic=untouched.synthetic)
figure if filled is not None else print(f"left out: {reason}")

# %% [markdown]
# ## What to look for
# The share of the brain's voxels that differ from the untouched scan should be similar in patients
# and controls. If only patients have changed, the filling itself reveals the diagnosis.
#
# In the picture, nothing should mark where the lesions were: no flat patch, no bright rim, no edge.
# A bright rim means that the lesion mask is too small. A dark spot means that fluid was mistaken
# for white matter.

# %%
if filled is not None:
    print(filled_cohort.changed(untouched, filled).round(4).to_string(index=False))

# %% [markdown]
# ## Summary
# [03_fine_tuning](03_fine_tuning.ipynb) trains on these scans if its parameter `filling` has the
# same value as here. [04_evaluation](04_evaluation.ipynb) compares the results.
