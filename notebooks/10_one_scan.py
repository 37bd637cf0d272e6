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
# # 10 · One scan
#
# **Question.** What does a network say about one scan, where does it look, and does it use each of
# the lesions? **This is research software. It is not for clinical use.**
#
# **Method.** The scan is brought into MNI space as in [01](01_data_preparation.ipynb). Layer-wise
# relevance propagation distributes the logit $f(x)$ over the voxels as in
# [05](05_lrp_heatmaps.ipynb). Relevance in a lesion does not show that the network needs this
# lesion. So each lesion is also removed. With $x_{-i}$ for the scan with lesion *i* filled by
# white matter ([01b](01b_lesion_filling.ipynb)), $x_{i}$ for the scan with all *other* lesions
# filled, and $x_0$ for the scan with all lesions filled,
#
# $$\text{change}_i = f(x_{-i}) - f(x), \qquad \text{adds alone}_i = f(x_{i}) - f(x_0).$$
#
# A network can do without a lesion because other lesions suffice. Then the change is near 0, but
# the lesion alone still adds to the logit. A lesion is *not used* if neither number is larger in
# magnitude than what filling of normal white matter changes.
#
# | | |
# |---|---|
# | reads | one scan or several (NIfTI), raw or prepared; if given, masks of lesions |
# | writes | for each scan: `index.html`, maps in two spaces, `lesions.tsv`; `scans.csv` |
# | takes | a raw scan about 1 minute, a prepared one some seconds |
#
# The command `msxai explain` runs this notebook ([docs/one-scan.md](../docs/one-scan.md)). Without
# a scan, a simulated patient is explained.

# %%
import nibabel as nib

from msxai import lrp
from msxai.base import parameters, tsv
from msxai.data import images
from msxai.data.cohorts.cohort import open_cohort
from msxai.data.prepared import Prepared
from msxai.data.single_scans import list_scans
from msxai.data.synthetic import phantom
from msxai.lrp import heatmaps
from msxai.model import network
from msxai.quality import lesion_by_lesion, one_scan
from msxai.regions import lesion_regions
from msxai.report import figures
from msxai.report.one_scan import batch

# %% tags=["parameters"]
scans: list = []  # FLAIR scans (NIfTI), raw or prepared; none: a simulated patient
lesion_masks: list = []  # one lesion mask for each scan, in its space; or none
brain_masks: list = []  # one brain mask for each scan; or none: the brain is found
t1_scans: list = []  # one T1 of the same visit for each scan, to look at; or none
weights: list = []  # weights files (.npz); none: the networks that the package brings
rule: str = "epsilon_gamma"  # LRP rule or composite, by its name in docs/lrp.md
epsilon: float = 1e-3  # stabiliser of the epsilon rule
tta_copies: int = 1  # shifted and mirrored copies of a scan that its map is the mean of
self_test: bool = False  # paint lesions of known size into each scan, and look for them
out: str = "runs/one-scan"  # folder of the results
jobs: int = 1  # processes
resume: bool = False  # skip scans that are done and unchanged
interactive: bool = True  # a viewer to scroll through the slices, in JupyterLab
seed: int = 0  # of lesion filling
threads: int = 1  # of TensorFlow; results depend on it by the order of summation

# %%
run = parameters.check(globals())
network.configure(seed, threads)
if not scans:
    folder = phantom.find("phantom-ms-one-scan", 4, 9000, jobs)
    patient = open_cohort(folder).table.query("label == 1").iloc[0]
    scans = [patient["image"]]
    lesion_masks = [patient["lesion_mask"]]
files = list_scans(scans, lesion_masks, brain_masks, t1_scans)
print(f"{len(files)} scan(s), {len(lesion_masks)} lesion mask(s)")

# %% [markdown]
# ## All scans
# Each scan gets a folder with its page. A scan that cannot be used does not stop the others. Its
# reason stands in the table.
#
# **What to look for:** `conserved` is near 1, so that the map accounts for the logit. With a lesion
# mask, `logit_lesions_filled` is far below `logit`. **A bad result:** both logits are alike. The
# network then says the same without the lesions, whatever the map shows.

# %%
explanation = heatmaps.Settings(
    rule, epsilon, tta_copies, computation=lrp.Computation(threads=threads)
)
settings = one_scan.Settings(tuple(weights), explanation, seed, self_test)
results = parameters.located(out)
table = batch.explain_all(files, results, settings, jobs, resume)
table.drop(columns=["scan_sha256", "file"])

# %% [markdown]
# ## One scan by hand
# The next cells repeat the steps for the first scan that could be used, by public functions.
#
# ### 1. The scan as the network sees it
# The scan lies on the model's grid, has no skull, and is z-scored in the brain.

# %%
usable = table[table["status"] != batch.FAILED].iloc[0]
folder = results / usable["scan"]
prepared = Prepared(folder / "prepared.h5")
row = one_scan.ROW
scan = prepared.image(row)
brain = prepared.brain(row)
lesions = prepared.lesions(row)
figure, _ = figures.show_scan(scan, brain, lesions, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ### 2. The logit and the map
# The explainer holds the networks. With several networks, logit and map are means over them.

# %%
explainer = one_scan.Explainer(settings)
model = explainer.models[0]
result = settings.explanation.explain(model, scan[None, ..., None])
print(result)
print(
    f"mean logit of {len(explainer.models)} network(s): {explainer.logits_of(scan[None])[0]:+.3f}"
)

# %% [markdown]
# The sum of the written map is the sum of the map on the model's grid. In the scan's own space, it
# is about the same: a smaller voxel holds less relevance.

# %%
for space, name in one_scan.MAPS.items():
    image = nib.load(folder / name)
    total = image.get_fdata().sum()
    print(f"{space}: shape {image.shape}, sum {total:+.3f} logits")

# %% [markdown]
# ### 3. One lesion
# The largest lesion is lesion 1. Its region is that of the whole lesion: the first of
# infratentorial, periventricular, juxtacortical or cortical, deep that fits.

# %%
labels, count = lesion_regions.label_lesions(lesions)
print(f"{count} lesions")
lesion_regions.of_lesions(labels, count).head()

# %% [markdown]
# Filling it alone changes the logit by $\text{change}_1$. **What to look for:** a negative number.
# The network then needs the lesion. Where a scan has no lesion, these cells print nothing.

# %%
if count:
    filled = lesion_by_lesion.fill_lesions(prepared, row, labels, seed)
    variants = [scan, filled.only(1), filled.all_but(1), filled.all()]
    logits = [explainer.logits_of(values[None])[0] for values in variants]
    untouched, without_it, with_it_alone, without_any = logits
    print(f"change, lesion 1 filled: {without_it - untouched:+.3f}")
    print(f"lesion 1 adds alone:     {with_it_alone - without_any:+.3f}")

# %% [markdown]
# ### 4. All lesions
# The table of the page has the same two numbers for each lesion. **A bad result:** `used` is false
# for most lesions, or `change_filled` is positive for many. The network then decides by something
# else.

# %%
lesion_table = tsv.read(folder / "lesions.tsv")
lesion_table.head(20)

# %% [markdown]
# ### 5. Where the relevance lies
# The relevance is added up inside lesions, near them (up to 2 voxels away), and elsewhere. **What
# to look for:** most of it lies inside and near lesions. **A bad result:** most of it lies
# elsewhere.

# %%
relevance = images.to_grid(images.load(folder / one_scan.MAPS["MNI152"]))
amounts = lesion_by_lesion.by_distance(relevance, lesions, brain)
for where, amount in amounts.items():
    print(f"{where:13s} {amount:+.3f} logits")

# %% [markdown]
# ### 6. Painted lesions
# With `self_test`, balls of 3 to 12 mm are painted into the scan, one at a time. **What to look
# for:** each raises the logit (`change`), more than any sham site changes it, and the map marks it
# first (`place` 0). This shows that the network reacts to a bright spot of this size. It does not
# show that it sees the lesions of a patient.

# %%
tsv.read(folder / "self_test.tsv")

# %% [markdown]
# ### 7. Slice by slice
# In JupyterLab, click into a slice to move through the map. The page `index.html` has a viewer that
# needs no Jupyter.

# %%
figures.view_heatmap(
    prepared.table["image"].iloc[row],
    folder / one_scan.MAPS["orig"],
    interactive=interactive,
    synthetic=prepared.synthetic,
)

# %% [markdown]
# ## Summary
# Open `index.html` in the folder of the results. A page says what speaks against trusting its map.
# A map without a warning may still be wrong: [Reading a heatmap](../docs/reading-a-heatmap.md).

# %%
for path in sorted(folder.iterdir()):
    print(path.name)
