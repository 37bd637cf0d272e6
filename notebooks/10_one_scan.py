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
# lesion. Therefore the notebook also fills lesions with tissue that resembles white matter
# ([01b](01b_lesion_filling.ipynb)). In the scan $x_{-i}$, only lesion *i* is filled. In $x_{i}$,
# all *other* lesions are filled. In $x_0$, all lesions are filled. Two numbers are computed:
#
# $$\text{change}_i = f(x_{-i}) - f(x), \qquad \text{adds alone}_i = f(x_{i}) - f(x_0).$$
#
# A network may not need a lesion because other lesions suffice. The change is then near 0, but the
# lesion alone still adds to the logit. Of the two numbers, the one of larger magnitude decides. The
# same numbers are computed at sham sites, which have the shapes of the lesions and lie in normal
# white matter. The limit is the 95th percentile of the larger magnitude there. Each lesion then has
# one of three effects:
#
# - *speaks for yes*: the logit falls without the lesion by more than the limit. The network *uses*
#   the lesion.
# - *no effect*: both magnitudes are at most the limit.
# - *filling raises the logit*: the lesion speaks against yes, or the filling itself disturbs the
#   network. This does not show that the network uses the lesion.
#
# If an earlier scan of the same person is given, the notebook compares the two visits. It subtracts
# the earlier map $R^{(1)}$ from the map of now, $\Delta R = R^{(2)} - R^{(1)}$. Two scans of an
# unchanged person differ as well. Therefore each change stands next to a limit that was measured on
# simulated patients who did not change.
#
# | | |
# |---|---|
# | reads | one scan or several (FLAIR, NIfTI), raw or preprocessed; masks and earlier scans |
# | writes | for each scan: `index.html`, maps in two spaces, tables; for all: `scans.csv` |
# | takes | about 1 minute for a raw scan, some seconds for a preprocessed one |
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
from msxai.regions import lesion_regions, own_anatomy
from msxai.report import figures
from msxai.report.one_scan import batch

# %% tags=["parameters"]
scans: list = []  # FLAIR scans (NIfTI), raw or preprocessed; none: a simulated patient
lesion_masks: list = []  # one lesion mask for each scan, in its space ("": no mask); or none
brain_masks: list = []  # one brain mask for each scan; or none: the brain is extracted
t1_scans: list = []  # one T1 of the same visit for each scan, to look at; or none
before_scans: list = []  # an earlier FLAIR of the same person for each scan ("": none); or none
before_lesion_masks: list = []  # one lesion mask for each earlier scan, in its space; or none
weights: list = []  # weights files (.npz); none: the networks that the package brings
rule: str = "epsilon_gamma"  # LRP rule or composite, by its name in docs/lrp.md
epsilon: float = 1e-3  # stabiliser of the epsilon rule
tta_copies: int = 1  # shifted and mirrored copies of a scan; the map is their mean
self_test: bool = False  # paint lesions of known size into each scan, as a test
out: str = "runs/one-scan"  # folder of the results
jobs: int = 1  # scans that are explained at the same time
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
files = list_scans(scans, lesion_masks, brain_masks, t1_scans, before_scans, before_lesion_masks)
print(f"{len(files)} scan(s), {len(list(filter(None, lesion_masks)))} lesion mask(s)")

# %% [markdown]
# ## All scans
# Each scan gets a folder with its page. If a scan cannot be used, the notebook goes on with the
# others. The table gives the reason.
#
# **What to look for:** `conserved` is near 1. The map then adds up to about the logit. With a
# lesion mask, `logit_lesions_filled` is far below `logit`, and `logit_sham_filled` is not. **A bad
# result:** the first two logits are similar. The network then says the same without the lesions,
# whatever the map shows. If both fillings lower the logit, the filling itself is the reason.

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
# The next cells repeat the steps for the first scan that could be used. They call public functions.
#
# ### 1. The scan as the network sees it
# The scan lies on the grid of the network. The skull is removed, and values in the brain are
# z-scores.

# %%
usable = table[table["status"].isin([batch.DONE, batch.UNCHANGED])].iloc[0]
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
# The explainer holds the networks. With several networks, the logit and the map are means over
# networks. With several copies of the scan (`tta_copies`), the map adds up to the mean logit of the
# copies. The logit on the page is that of the scan itself.

# %%
explainer = one_scan.Explainer(settings)
model = explainer.models[0]
result = settings.explanation.explain(model, scan[None, ..., None])
print(result)
print(
    f"mean logit of {len(explainer.models)} network(s): {explainer.logits_of(scan[None])[0]:+.3f}"
)

# %% [markdown]
# In MNI space, the file holds the map itself. In the scan's own space, the sum of the map is about
# the same, because a smaller voxel holds less relevance.

# %%
for space, name in one_scan.MAPS.items():
    image = nib.load(folder / name)
    total = image.get_fdata().sum()
    print(f"{space}: shape {image.shape}, sum {total:+.3f} logits")

# %% [markdown]
# ### 3. One lesion
# Lesions are counted and measured in the file of the mask, because registration changes the size of
# a brain. The largest lesion is lesion 1. Each lesion as a whole belongs to one region, the first
# in this order that fits: infratentorial, periventricular, juxtacortical or cortical, deep.
# Ventricles and cortex are looked for in the scan. The template's stand in where the scan does not
# show them. Where slices are thick, the sulci that the scan still shows are added to the template's
# cortex. A lesion with 0 voxels is too small for the network's grid.

# %%
marked = one_scan.lesions_of(files[usable.name], prepared)
if marked is None:  # no lesion mask
    marked = lesion_regions.on_model_grid(lesions)
print(f"{marked.count} lesions, {marked.volumes.sum():,.0f} mm3")
anatomy = own_anatomy.find(scan, brain, lesions)
print(f"ventricles found in the scan: {anatomy.own_ventricles}")
print(f"the cortex is that of the {anatomy.whose_cortex}")
lesion_regions.of_lesions(marked, anatomy).head()

# %% [markdown]
# If only lesion 1 is filled, the logit changes by $\text{change}_1$. **What to look for:** a
# negative number. The logit then falls without the lesion. If the scan has no lesion, the next cell
# prints nothing.

# %%
if lesions.any():
    filled = lesion_by_lesion.fill_lesions(prepared, row, marked.labels, seed)
    variants = [scan, filled.only(1), filled.all_but(1), filled.all()]
    logits = [explainer.logits_of(values[None])[0] for values in variants]
    untouched, without_it, with_it_alone, without_any = logits
    print(f"change, lesion 1 filled: {without_it - untouched:+.3f}")
    print(f"lesion 1 adds alone:     {with_it_alone - without_any:+.3f}")
    sham = lesion_by_lesion.fill_sham_sites(prepared, row, marked.labels, seed)
    print(f"sham sites for {sham.share:.0%} of the lesions' volume")

# %% [markdown]
# ### 4. All lesions
# The table of the page has the same two numbers for each lesion. **A bad result:** `used` is false
# for most lesions. The logit then depends on something else. Where the filling failed or a lesion
# is too small, `used` is missing.

# %%
lesion_table = tsv.read(folder / "lesions.tsv")
lesion_table.head(20)

# %% [markdown]
# ### 5. Where the relevance lies
# The relevance is added up inside lesions, near lesions (up to 4 mm away), and elsewhere. Positive
# and negative relevance may cancel, so both are shown. **What to look for:** inside lesions,
# `share_positive` is far above `share_brain`. **A bad result:** the two shares are similar. The map
# then marks lesions no more than other tissue.

# %%
relevance = images.to_grid(images.load(folder / one_scan.MAPS["MNI152"]))
lesion_by_lesion.by_distance(relevance, lesions, brain)

# %% [markdown]
# ### 6. Painted lesions
# With `self_test`, balls of 3 to 12 mm are painted into normal white matter of the scan, one at a
# time. At sham sites, white matter is replaced by other white matter of the scan. **What to look
# for:** each ball is `seen`. It raises the logit (`change`) by more than any sham site changes it,
# and fewer voxels have more relevance (`place`) than the ball has voxels. This shows that the
# network reacts to a bright spot of this size. It does not show that the network sees the lesions
# of a patient. Without `self_test`, the table is empty. Sizes without room in normal white matter
# are left out.

# %%
tsv.read(folder / "self_test.tsv")

# %% [markdown]
# ### 7. Two visits
# With an earlier scan (`before_scans`), one file holds the change of the map. The earlier scan is
# aligned to the scan of now by a rigid transform, so that a voxel is the same place at both visits.
# With a lesion mask of both visits, the table says which lesions are new, grown, unchanged, shrunk
# or gone, and how the relevance in them has changed. **What to look for:** a lesion that is new has
# the `noise` "more than noise". **A bad result:** unchanged lesions have it as well. The scans then
# differ in something else, for instance in the scanner. Without an earlier scan, the table is
# empty.

# %%
change = folder / one_scan.CHANGE_FILES["map"]
if change.exists():
    total = nib.load(change).get_fdata().sum()
    print(f"logit: {usable['logit_before']:+.3f} before, {usable['logit']:+.3f} now")
    print(f"sum of the change of the map: {total:+.3f} logits")
tsv.read(folder / one_scan.CHANGE_FILES["lesions"])

# %% [markdown]
# ### 8. Slice by slice
# In JupyterLab, click on a slice to move through the map. The scan is shown as the network sees it:
# in MNI space and without the head around the brain. Lesions of the mask are green. The page
# `index.html` has the same viewer (niivue), which works without Jupyter.

# %%
mask = None
if prepared.has_lesions[row]:
    mask = nib.Nifti1Image(lesions.astype("uint8"), prepared.affine)
figures.view_heatmap(
    folder / "scan_space-MNI152.nii.gz",
    folder / one_scan.MAPS["MNI152"],
    interactive=interactive,
    lesions=mask,
    synthetic=prepared.synthetic,
)

# %% [markdown]
# ## Summary
# Open `index.html` in the folder of the results. Each page lists reasons not to trust its map.
# A map without a warning may still be wrong: [Reading a heatmap](../docs/reading-a-heatmap.md).

# %%
for path in sorted(folder.iterdir()):
    print(path.name)
