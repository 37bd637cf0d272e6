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
# # 08 · Figures
#
# **Question:** what do the results look like, item by item of the paper? This notebook draws the
# 14 items from the results of the earlier notebooks. It trains and explains nothing.
#
# | | |
# |---|---|
# | reads | the results of 01 to [07_explanation_quality](07_explanation_quality.ipynb) |
# | writes | `<results>/figures/figNN_*`; `provenance.json` last |
# | takes | about 1 minute |
#
# Each item has a picture (PNG, charts also SVG), its numbers (TSV) and its provenance (JSON).
# Where a cohort lacks something (masks, an atlas, a variant), the figure says why it is empty.
# Source of the items: Eitel et al. 2019,
# [doi:10.1016/j.nicl.2019.102003](https://doi.org/10.1016/j.nicl.2019.102003).
# **Research software: not for clinical use.**

# %%
from msxai.base import paper_results, parameters, provenance, tsv
from msxai.base.results import Results
from msxai.data.prepared import Prepared
from msxai.evaluation import prediction
from msxai.lrp import heatmaps
from msxai.model import network
from msxai.quality import model_states
from msxai.regions import region_tables
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # the fine-tuning cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
variant: str = "pretrained"  # the variant whose heatmaps are drawn
filled: str = "lesion-filled"  # the variant trained on lesion-filled scans; empty: none
patients: str = "MS"  # the group that is positive, as in 01_data_preparation
controls: str = "HC"  # the other group
pretraining_trials: int = 1  # trials of 02_pretraining; 0 leaves its figures out

# %% [markdown]
# ## What the earlier notebooks have made
# Each `require_*` checks that a result exists and fits this cohort; otherwise it names the command
# that makes it.

# %%
run = parameters.check(globals())
where = Results(results)
prepared = Prepared(where.require_prepared(cohort), where.split(cohort))
evaluation, _ = where.require_evaluation(cohort)
heatmap_folder, _ = where.require_heatmaps(variant, cohort)
region_folder, _ = where.require_regions(variant, cohort)
predictions, scores = prediction.read(evaluation)
heatmap_table = heatmaps.read(heatmap_folder)
regions = region_tables.read(region_folder)
paper = paper_results.read()

# %%
inputs = [where.prepared(cohort), heatmap_folder / "heatmaps.tsv"]
inputs += [*region_folder.glob("*.tsv"), *evaluation.glob("*.tsv")]
record = provenance.record(run, inputs)

# %% [markdown]
# ## One figure by hand
# A function of `msxai.report.figures` returns a figure and the numbers that it shows;
# `figures.save` writes both with their provenance. First the cohort (item 1): who was scanned?
#
# **What to look for:** patients and controls of similar age and sex in all parts of the split.
# **A bad one:** a group that is older, or a part with few subjects. The network may then learn age.

# %%
volumes = prepared.lesion_volumes(prepared.rows("all"))
figure, numbers = figures.cohort_table(prepared.table, volumes, paper, synthetic=prepared.synthetic)
figures.save(figure, where.figures(), "fig01_cohort", numbers, record, svg=True)
figure

# %% [markdown]
# All further figures take the same two steps; `Gallery.draw` does both.

# %%
gallery = figures.Gallery(where.figures(), record, prepared.synthetic)

# %% [markdown]
# ## Where lesions lie
# Item 2: share of subjects with a lesion at each voxel. **What to look for:** lesions around the
# ventricles in patients, few in controls. **A bad one:** lesions outside white matter, or a sharp
# mirror image on one side: masks or registration failed.

# %%
gallery.draw("fig02_lesion-distribution", figures.lesion_distribution, prepared)

# %% [markdown]
# Item 3: lesion volume of each white-matter tract, one dot a subject. **A bad one:** controls with
# as much volume as patients, or one subject that makes up a mean.

# %%
missing = regions["left_out"]
reason = missing.get("lesions") or missing.get("tracts", "")
stem = "fig03_lesion-volume-tracts"
gallery.draw(stem, figures.lesion_volumes, regions["lesions"], reason, svg=True)

# %% [markdown]
# ## Pre-training
# Item 4: loss and accuracy of each trial, and the kernels of the first layer. **What to look for:**
# a validation loss that falls and levels off; kernels that differ from their random start.
# **A bad one:** a validation loss that rises while the training loss falls (overfitting).

# %%
folders = [where.require_trial("pretraining", trial)[0] for trial in range(pretraining_trials)]
histories = {trial: tsv.read(folder / "history.tsv") for trial, folder in enumerate(folders)}
curves = "left out, because pretraining_trials is 0"
if pretraining_trials:
    stem = "fig04a_pretraining-curves"
    curves = gallery.draw(stem, figures.training_curves, histories, "Pre-training", svg=True)
curves

# %%
filters = "left out, because pretraining_trials is 0"
if pretraining_trials:
    folder, trial_record = where.require_trial("pretraining", 0)
    seed = trial_record["parameters"]["seed"]
    trained, untrained = network.first_kernels(folder / "weights.npz", seed)
    filters = gallery.draw("fig04b_first-filters", figures.first_filters, trained, untrained)
filters

# %% [markdown]
# ## Results
# Item 5: our numbers beside the paper's. Item 6: ROC curves. **What to look for:** curves far above
# the diagonal and trials close to each other. **A bad one:** a wide range of trials. The result
# then depends on the seed of the training.

# %%
gallery.draw("fig05_results", figures.results_table, scores, paper, svg=True)

# %%
gallery.draw("fig06_roc", figures.roc, predictions, svg=True)

# %% [markdown]
# Models and baselines on the same subjects: the holdout, and further subjects where they can be
# simulated. **What to look for:** differences whose interval lies to the right of 0. **A bad one:**
# a network that is no better than lesion load.

# %%
compared = tsv.read(evaluation / "comparison.tsv")
gallery.draw("fig05b_comparison", figures.compared, compared, svg=True)

# %% [markdown]
# Is a score a probability? **What to look for:** points on the diagonal. **A bad one:** an S-shaped
# curve. The network is then surer than it is right.

# %%
calibrated = tsv.read(evaluation / "calibration.tsv")
gallery.draw("fig05c_calibration", figures.calibration, calibrated, svg=True)

# %% [markdown]
# The same networks on scans with their lesions filled, and with as much other white matter filled
# (sham). **What to look for:** logits of patients that fall with filled lesions and stay with sham
# sites. **A bad one:** both fall alike. The network then responds to filling as such.

# %%
left_out = tsv.read(evaluation / "left_out.tsv").reindex(columns=["what", "reason"])
reason = " ".join(left_out.loc[left_out["what"] == "counterfactual", "reason"])
refilled = tsv.read(evaluation / "counterfactual.tsv")
stem = "fig05d_lesions-filled"
gallery.draw(stem, figures.counterfactual, refilled, left_out=reason, svg=True)

# %% [markdown]
# ## Heatmaps of single subjects
# Patients (item 7) and controls (item 8), from the highest probability to the lowest. **What to
# look for:** relevance inside the green outlines of lesions in patients. **A bad one:** relevance
# at the rim of the brain or on one side only, whatever the scan.

# %%
stem = "fig07a_individual-patients"
gallery.draw(stem, figures.individual, prepared, heatmap_table, patients)

# %%
stem = "fig08a_individual-controls"
gallery.draw(stem, figures.individual, prepared, heatmap_table, controls)

# %% [markdown]
# The same with positive relevance alone: the evidence for multiple sclerosis, without the evidence
# against it.

# %%
stem = "fig07b_individual-patients-positive"
gallery.draw(stem, figures.individual, prepared, heatmap_table, patients, positive=True)

# %%
stem = "fig08b_individual-controls-positive"
gallery.draw(stem, figures.individual, prepared, heatmap_table, controls, positive=True)

# %% [markdown]
# ## Mean heatmaps
# Patients and controls (item 9); true positives and true negatives (item 10). The "positive
# relevance" of the paper is net relevance; both are shown. **What to look for:** groups that
# differ. **A bad one:** equal maps in both groups, which show the anatomy and not the disease.

# %%
anatomy = figures.mean_anatomy(prepared, prepared.rows("all"))
is_patient = heatmap_table["label"] == 1
is_control = heatmap_table["label"] == 0
groups = {patients: heatmap_table[is_patient], controls: heatmap_table[is_control]}
title = f"Mean heatmap: {patients} and {controls}"
gallery.draw("fig09_average-heatmaps", figures.average, groups, anatomy, title)

# %%
is_positive = heatmap_table["probability"] > 0.5
true_positives = heatmap_table[is_patient & is_positive]
true_negatives = heatmap_table[is_control & ~is_positive]
groups = {"true positives": true_positives, "true negatives": true_negatives}
title = "Mean heatmap: true positives and true negatives"
gallery.draw("fig10_tp-tn", figures.average, groups, anatomy, title)

# %% [markdown]
# ## Relevance by region
# White-matter tracts (item 11) and grey-matter areas (item 12). A sum favours large regions;
# relevance per voxel does not. **What to look for:** a star (family-wise p < 0.05). **A bad one:**
# the highest bars in the largest tracts and equal bars per voxel: size alone explains the order.

# %%
stem = "fig11_relevance-tracts"
tests = regions["permuted"]
reason = missing.get("tracts", "")
gallery.draw(stem, figures.tracts, regions["relevance"], tests, reason, svg=True)

# %%
stem = "fig12_relevance-areas"
gallery.draw(stem, figures.areas, regions["relevance"], tests, svg=True)

# %% [markdown]
# Item 13: patients with their lesions, and with the lesions filled in training and in testing. All
# tracts are tested, patient by patient. **What to look for:** shorter bars once lesions are filled.
# **A bad one:** bars of equal length: relevance does not depend on the lesions.

# %%
filled_relevance, tests, reason = region_tables.filled(where, cohort, filled, regions)
tables = [regions["relevance"], filled_relevance, tests, reason]
gallery.draw("fig13_with-without-lesions", figures.with_without, *tables, svg=True)

# %% [markdown]
# ## Methods and states of the network
# Item 14: one scan explained by several methods, on the network as fine-tuned, as pre-trained, and
# with random weights. **What to look for:** fewer lesion voxels with random weights. **A bad one:**
# as many. The method then shows where the scan is bright, not what the network has learnt.

# %%
state_folder = where.states(variant)
by_method, scans, reason = model_states.read(state_folder)
tables = [by_method, scans, state_folder, reason]
gallery.draw("fig14_methods-states", figures.methods, prepared, *tables)

# %% [markdown]
# ## Summary
# Each figure lies in the figures folder with its numbers and its provenance. The next notebook puts
# them on one page: [09_results_page](09_results_page.ipynb).

# %%
drawn = sorted(where.figures().glob("fig*.*"))
provenance.write_json(where.figures() / "provenance.json", provenance.record(run, inputs, drawn))
for stem in sorted({path.stem for path in drawn}):
    print(stem)
