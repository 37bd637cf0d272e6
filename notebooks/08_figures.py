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
# **Question.** What do the results look like? The results that the paper shows are numbered here as
# items 1 to 14. This notebook draws the 14 items from the results of the earlier notebooks. It
# trains no network and explains no scan.
#
# | | |
# |---|---|
# | reads | the results of 01 to [07_explanation_quality](07_explanation_quality.ipynb) |
# | writes | `<results>/figures/figNN_*`; `provenance.json` last |
# | takes | about 1 minute |
#
# Each item has a picture (PNG, charts also SVG), its numbers (TSV) and its provenance (JSON). If
# something is missing (masks, an atlas, a variant), the figure is empty and says why. The items are
# from Eitel et al. 2019
# ([doi:10.1016/j.nicl.2019.102003](https://doi.org/10.1016/j.nicl.2019.102003)).
# **This is research software. It is not for clinical use.**

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
best: str = "pretrained-lesions"  # a variant whose heatmaps are drawn beside; empty: none
patients: str = "MS"  # the group that is positive, as in 01_data_preparation
controls: str = "HC"  # the other group
pretraining_trials: int = 1  # trials of 02_pretraining; 0 leaves its figures out

# %% [markdown]
# ## What the earlier notebooks have made
# Each function `require_*` checks that a result exists and belongs to this cohort. Otherwise an
# error names the command that makes the result.

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
has_best = bool(best) and where.heatmaps(best).is_dir()
if has_best:
    best_folder, best_record = where.require_heatmaps(best, cohort)
    best_table = heatmaps.read(best_folder)
    best_rule = best_record["parameters"]["rule"]
    inputs.append(best_folder / "heatmaps.tsv")
record = provenance.record(run, inputs)

# %% [markdown]
# ## One figure by hand
# A function of `msxai.report.figures` returns a figure and the numbers that it shows.
# `figures.save` writes both with their provenance. The first figure shows the cohort (item 1).
#
# **What to look for:** patients and controls have similar age and sex in all parts of the split.
# **A bad result:** one group is older. The network may then learn age. **Another bad result:** a
# part has few subjects.

# %%
volumes = prepared.lesion_volumes(prepared.rows("all"))
figure, numbers = figures.cohort_table(prepared.table, volumes, paper, synthetic=prepared.synthetic)
figures.save(figure, where.figures(), "fig01_cohort", numbers, record, svg=True)
figure

# %% [markdown]
# All further figures are made in the same two steps. `Gallery.draw` does both.

# %%
gallery = figures.Gallery(where.figures(), record, prepared.synthetic)

# %% [markdown]
# ## Where lesions lie
# Item 2 shows the share of subjects with a lesion at each voxel. **What to look for:** patients
# have lesions around the ventricles, and controls have few lesions. **A bad result:** lesions lie
# outside white matter, or one side is a sharp mirror image of the other. Masks or registration then
# failed.

# %%
gallery.draw("fig02_lesion-distribution", figures.lesion_distribution, prepared)

# %% [markdown]
# Item 3 shows the lesion volume in each white-matter tract. Each dot is a subject. **What to look
# for:** patients have more volume than controls. **A bad result:** controls have as much volume as
# patients, or a single subject determines a mean.

# %%
missing = regions["left_out"]
reason = missing.get("lesions") or missing.get("tracts", "")
stem = "fig03_lesion-volume-tracts"
gallery.draw(stem, figures.lesion_volumes, regions["lesions"], reason, svg=True)

# %% [markdown]
# ## Pre-training
# Item 4 shows loss and accuracy of each trial, and the kernels of the first layer. **What to look
# for:** the validation loss falls and then stays constant. The kernels differ from their random
# start. **A bad result:** the validation loss rises while the training loss falls (over-fitting).

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
# Item 5 shows our numbers next to the paper's numbers. Item 6 shows ROC curves. **What to look
# for:** the curves lie far above the diagonal, and the trials are close to each other. **A bad
# result:** the range over trials is wide. The result then depends on the seed of the training.

# %%
gallery.draw("fig05_results", figures.results_table, scores, paper, svg=True)

# %%
gallery.draw("fig06_roc", figures.roc, predictions, svg=True)

# %% [markdown]
# The next figure compares networks and baselines on the same subjects: the holdout, and further
# subjects if they can be simulated. **What to look for:** the interval of a difference lies to the
# right of 0. **A bad result:** the network is not better than lesion load.

# %%
compared = tsv.read(evaluation / "comparison.tsv")
gallery.draw("fig05b_comparison", figures.compared, compared, svg=True)

# %% [markdown]
# The next figure shows whether a score is a probability. **What to look for:** the points lie on
# the diagonal. **A bad result:** the curve is flatter than the diagonal. The network is then
# overconfident.

# %%
calibrated = tsv.read(evaluation / "calibration.tsv")
gallery.draw("fig05c_calibration", figures.calibration, calibrated, svg=True)

# %% [markdown]
# The next figure shows the same networks on changed scans: with their lesions filled, and with
# other white matter filled at mirrored sites (sham). **What to look for:** the logits of patients
# fall if lesions are filled, and stay constant if sham sites are filled. **A bad result:** the
# logits fall equally in both. The network then reacts to the filling itself.

# %%
left_out = tsv.read(evaluation / "left_out.tsv").reindex(columns=["what", "reason"])
reason = " ".join(left_out.loc[left_out["what"] == "counterfactual", "reason"])
refilled = tsv.read(evaluation / "counterfactual.tsv")
stem = "fig05d_lesions-filled"
gallery.draw(stem, figures.counterfactual, refilled, left_out=reason, svg=True)

# %% [markdown]
# ## Heatmaps of single subjects
# The figures show patients (item 7) and controls (item 8), from the highest probability to the
# lowest. **What to look for:** in patients, relevance lies inside the green outlines of lesions.
# **A bad result:** in every scan, relevance lies at the edge of the brain or on one side only.

# %%
stem = "fig07a_individual-patients"
gallery.draw(stem, figures.individual, prepared, heatmap_table, patients)

# %%
stem = "fig08a_individual-controls"
gallery.draw(stem, figures.individual, prepared, heatmap_table, controls)

# %% [markdown]
# The next figures show positive relevance alone: the evidence for multiple sclerosis, without the
# evidence against it.

# %%
stem = "fig07b_individual-patients-positive"
gallery.draw(stem, figures.individual, prepared, heatmap_table, patients, positive=True)

# %%
stem = "fig08b_individual-controls-positive"
gallery.draw(stem, figures.individual, prepared, heatmap_table, controls, positive=True)

# %% [markdown]
# ## Mean heatmaps
# Item 9 shows the mean heatmaps of patients and of controls. Item 10 shows those of true positives
# and true negatives. What the paper calls "positive relevance" is net relevance. Both are shown.
# **What to look for:** the groups differ. **A bad result:** the maps of both groups are equal. They
# then show anatomy and not disease.

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
# The figures show relevance in white-matter tracts (item 11) and grey-matter areas (item 12). A sum
# favours large regions. Relevance per voxel does not. **What to look for:** a star (family-wise
# p < 0.05). **A bad result:** the largest tracts have the highest sums, and all bars per voxel are
# equal. Then the volume of a tract alone explains the order.

# %%
stem = "fig11_relevance-tracts"
tests = regions["permuted"]
reason = missing.get("tracts", "")
gallery.draw(stem, figures.tracts, regions["relevance"], tests, reason, svg=True)

# %%
stem = "fig12_relevance-areas"
gallery.draw(stem, figures.areas, regions["relevance"], tests, svg=True)

# %% [markdown]
# Item 13 compares patients' scans with lesions and with filled lesions. For filled scans, the
# network was also trained on filled scans. Each tract has a paired test over patients. **What to
# look for:** bars are shorter if lesions are filled. **A bad result:** bars have equal length.
# Relevance then does not depend on the lesions.

# %%
filled_relevance, tests, reason = region_tables.filled(where, cohort, filled, regions)
tables = [regions["relevance"], filled_relevance, tests, reason]
gallery.draw("fig13_with-without-lesions", figures.with_without, *tables, svg=True)

# %% [markdown]
# ## Methods and states of the network
# Item 14 shows one scan explained by several methods. Each method explains the fine-tuned network,
# the pre-trained network, and a network with random weights. **What to look for:** the map of
# random weights marks fewer lesion voxels. **A bad result:** it marks as many. The method then
# shows where the scan is bright, not what the network has learnt.

# %%
state_folder = where.states(variant)
by_method, scans, reason = model_states.read(state_folder)
tables = [by_method, scans, state_folder, reason]
gallery.draw("fig14_methods-states", figures.methods, prepared, *tables)

# %% [markdown]
# ## The best variant beside the paper's
# Items 7 to 10 and 14 once more, for the variant `best`: the same scans, another network and
# another rule. In the demo this network was pre-trained on pairs of simulated scans, with and
# without lesions, and then fine-tuned by labels alone. **What to look for:** in patients, relevance
# lies inside the green outlines. The mean maps of patients and of controls differ. **A bad
# result:** controls have as much positive relevance as patients.

# %%
left_out_best = f"left out, because 05 has not run for the variant {best!r}"
picture = left_out_best
if has_best:
    heading = f"Variant {best}, rule {best_rule}: "
    shown = tsv.read(where.figures() / "fig07a_individual-patients.tsv")
    stem = "fig07c_individual-patients-best"
    options = {"shown": shown, "heading": heading}
    picture = gallery.draw(stem, figures.individual, prepared, best_table, patients, **options)
picture

# %%
picture = left_out_best
if has_best:
    shown = tsv.read(where.figures() / "fig08a_individual-controls.tsv")
    stem = "fig08c_individual-controls-best"
    options = {"shown": shown, "heading": heading}
    picture = gallery.draw(stem, figures.individual, prepared, best_table, controls, **options)
picture

# %%
picture = left_out_best
if has_best:
    is_patient = best_table["label"] == 1
    is_control = best_table["label"] == 0
    groups = {patients: best_table[is_patient], controls: best_table[is_control]}
    title = f"{heading}mean heatmap, {patients} and {controls}"
    stem = "fig09b_average-heatmaps-best"
    picture = gallery.draw(stem, figures.average, groups, anatomy, title)
picture

# %%
picture = left_out_best
if has_best:
    is_positive = best_table["probability"] > 0.5
    true_positives = best_table[is_patient & is_positive]
    true_negatives = best_table[is_control & ~is_positive]
    groups = {"true positives": true_positives, "true negatives": true_negatives}
    title = f"{heading}mean heatmap, true positives and true negatives"
    picture = gallery.draw("fig10b_tp-tn-best", figures.average, groups, anatomy, title)
picture

# %%
picture = left_out_best
if has_best:
    state_folder = where.states(best)
    by_method, scans, reason = model_states.read(state_folder)
    tables = [by_method, scans, state_folder, reason]
    stem = "fig14b_methods-states-best"
    heading = f"Variant {best}: "
    picture = gallery.draw(stem, figures.methods, prepared, *tables, heading=heading)
picture

# %% [markdown]
# ## Summary
# Each figure is in the folder `figures`, with its numbers and its provenance. The next notebook
# puts all figures on one page: [09_results_page](09_results_page.ipynb).

# %%
drawn = sorted(where.figures().glob("fig*.*"))
provenance.write_json(where.figures() / "provenance.json", provenance.record(run, inputs, drawn))
for stem in sorted({path.stem for path in drawn}):
    print(stem)
