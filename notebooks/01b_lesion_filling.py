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
# The same cohort with its lesions replaced by normal-appearing white matter. A network that is trained on it, and still tells patients from
# controls, has found more than lesions.
#
# | | |
# |---|---|
# | reads | `<results>/prepared/<cohort>.h5` and the split of [01_data_preparation](01_data_preparation.ipynb), the scans and lesion masks |
# | writes | `<results>/lesion-filled/<filling>/<cohort>.h5` and, last, `.json`; without masks only the latter, with the reason |
# | takes | about 2 minutes for 147 embedded subjects on 2 cores |
#
# A fill that patients alone have could be learnt as a lesion is. So controls are filled too, at the places of a patient's lesions. The
# paper painted one value into all lesions of a slice, in patients: `constant` is that fill, which can be seen.

# %%
from msxai.base import parameters
from msxai.base.results import Results
from msxai.data import filled_cohort
from msxai.data.prepared import Prepared
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # the cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
filling: str = "noise"  # noise: pieces of white matter near by, with soft borders; constant: the paper's
seed: int = 0  # of what is drawn
jobs: int = 2  # processes

# %%
run = parameters.check(globals())
where = Results(results)
filled, reason = filled_cohort.write(where, cohort, filling, run, seed=seed, jobs=jobs)
print(f"left out, as {reason}" if reason else f"{len(filled.table)} scans filled")

# %% [markdown]
# ## Before and after
# The first scan with lesions, untouched and filled; the mask's outline in red.

# %%
untouched = Prepared(where.require_prepared(cohort), where.split(cohort))
first = untouched.first_with_lesions()
brain, lesions = untouched.brain(first), untouched.lesions(first)
figure, _ = figures.show_scan(untouched.image(first), brain, lesions, synthetic=untouched.synthetic)
figure

# %%
if filled is not None:
    figure, _ = figures.show_scan(filled.image(first), brain, lesions, synthetic=untouched.synthetic)
figure if filled is not None else print("left out")

# %% [markdown]
# ## Summary
# Share of the brain's voxels that differ from the untouched scan: alike in patients and controls.

# %%
filled_cohort.changed(untouched, filled) if filled is not None else print("left out")
