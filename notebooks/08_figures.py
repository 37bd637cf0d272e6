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
# Draws the figures of the paper from the results of the earlier notebooks; nothing is trained or explained here.
#
# | | |
# |---|---|
# | reads | the results of [01_data_preparation](01_data_preparation.ipynb) to [07_explanation_quality](07_explanation_quality.ipynb) |
# | writes | `<results>/figures/figNN_*`: PNG (charts SVG too), the numbers as TSV, the provenance as JSON; `provenance.json` last |
# | takes | about 1 minute |
#
# Figures are numbered as the items of the paper. What a cohort lacks (masks, an atlas, a variant) is left out, and the figure says why.
# **Research software: not for clinical use.**

# %%
import pandas as pd

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
filled: str = "lesion-filled"  # the variant trained on scans with their lesions filled; empty: none
patients: str = "MS"  # the group that is positive, as in 01_data_preparation
controls: str = "HC"  # the other group
pretraining_trials: int = 1  # trials of 02_pretraining; 0 leaves its figures out

# %%
run = parameters.check(globals())
where = Results(results)
prepared = Prepared(where.require_prepared(cohort), where.split(cohort))
evaluated, explained = where.require_evaluation(cohort)[0], where.require_heatmaps(variant, cohort)[0]
predictions, scores = prediction.read(evaluated)
table, known = heatmaps.read(explained), region_tables.read(where.require_regions(variant, cohort)[0])
missing = known["left_out"]
inputs = [*where.regions(variant).glob("*.tsv"), where.prepared(cohort), *evaluated.glob("*.tsv"), explained / "heatmaps.tsv"]
options = {"folder": where.figures(), "provenance": provenance.record(run, inputs)}
synthetic = {"synthetic": prepared.synthetic}

# %% [markdown]
# ## The cohort
# Who was scanned (item 1), and where lesions lie (item 2).

# %%
volumes = prepared.lesion_volumes(prepared.rows("all"))
figure, source = figures.cohort_table(prepared.table, volumes, paper_results.read(), **synthetic)
figures.save(figure, stem="fig01_cohort", source=source, svg=True, **options)
figure

# %%
figure, source = figures.lesion_distribution(prepared, **synthetic)
figures.save(figure, stem="fig02_lesion-distribution", source=source, **options)
figure

# %% [markdown]
# Lesion volume of each white-matter tract (item 3).

# %%
figure, source = figures.lesion_volumes(known["lesions"], missing.get("lesions") or missing.get("tracts", ""), **synthetic)
figures.save(figure, stem="fig03_lesion-volume-tracts", source=source, svg=True, **options)
figure

# %% [markdown]
# ## Pre-training
# Loss and accuracy of each trial, and what the first layer has learnt (item 4).

# %%
trials = [where.require_trial("pretraining", trial) for trial in range(pretraining_trials)]
histories = {trial: pd.read_csv(folder / "history.tsv", sep="\t") for trial, (folder, _) in enumerate(trials)}
if trials:
    figure, source = figures.training_curves(histories, "Pre-training", **synthetic)
    figures.save(figure, stem="fig04a_pretraining-curves", source=source, svg=True, **options)
figure if trials else print("left out: no pre-training")

# %%
if trials:
    folder, record = trials[0]
    trained, untrained = network.first_kernels(folder / "weights.npz", record["parameters"]["seed"])
    figure, source = figures.first_filters(trained, untrained, **synthetic)
    figures.save(figure, stem="fig04b_first-filters", source=source, **options)
figure if trials else print("left out: no pre-training")

# %% [markdown]
# ## Results
# Our numbers beside the paper's (item 5), and the ROC curves (item 6).

# %%
figure, source = figures.results_table(scores, paper_results.read(), **synthetic)
figures.save(figure, stem="fig05_results", source=source, svg=True, **options)
figure

# %%
figure, source = figures.roc(predictions, **synthetic)
figures.save(figure, stem="fig06_roc", source=source, svg=True, **options)
figure

# %% [markdown]
# Variants and baselines compared with each other, on the holdout and on further subjects where they can be simulated, and whether their
# scores are probabilities.

# %%
figure, source = figures.compared(tsv.read(evaluated / "comparison.tsv"), **synthetic)
figures.save(figure, stem="fig05b_comparison", source=source, svg=True, **options)
figure

# %%
figure, source = figures.calibration(tsv.read(evaluated / "calibration.tsv"), **synthetic)
figures.save(figure, stem="fig05c_calibration", source=source, svg=True, **options)
figure

# %% [markdown]
# The same networks once the lesions are filled, and once as much other white matter is.

# %%
told = tsv.read(evaluated / "left_out.tsv").reindex(columns=["what", "reason"])
why = " ".join(told.loc[told["what"] == "counterfactual", "reason"])
figure, source = figures.counterfactual(tsv.read(evaluated / "counterfactual.tsv"), left_out=why, **synthetic)
figures.save(figure, stem="fig05d_lesions-filled", source=source, svg=True, **options)
figure

# %% [markdown]
# ## Heatmaps of single subjects
# Patients (item 7) and controls (item 8), from the surest to the least sure.

# %%
figure, source = figures.individual(prepared, table, patients, **synthetic)
figures.save(figure, stem="fig07a_individual-patients", source=source, **options)
figure

# %%
figure, source = figures.individual(prepared, table, controls, **synthetic)
figures.save(figure, stem="fig08a_individual-controls", source=source, **options)
figure

# %% [markdown]
# The same with positive relevance alone: what speaks for multiple sclerosis, whatever speaks against.

# %%
figure, source = figures.individual(prepared, table, patients, positive=True, **synthetic)
figures.save(figure, stem="fig07b_individual-patients-positive", source=source, **options)
figure

# %%
figure, source = figures.individual(prepared, table, controls, positive=True, **synthetic)
figures.save(figure, stem="fig08b_individual-controls-positive", source=source, **options)
figure

# %% [markdown]
# ## Mean heatmaps
# Patients and controls (item 9); true positives and true negatives (item 10). The paper's "positive relevance" is net relevance;
# both are shown.

# %%
anatomy = figures.mean_anatomy(prepared, prepared.rows("all"))
groups = {patients: table[table["label"] == 1], controls: table[table["label"] == 0]}
figure, source = figures.average(groups, anatomy, f"Mean heatmap: {patients} and {controls}", **synthetic)
figures.save(figure, stem="fig09_average-heatmaps", source=source, **options)
figure

# %%
right = table[(table["probability"] > 0.5) == table["label"].astype(bool)]
groups = {"true positives": right[right["label"] == 1], "true negatives": right[right["label"] == 0]}
figure, source = figures.average(groups, anatomy, "Mean heatmap: true positives and true negatives", **synthetic)
figures.save(figure, stem="fig10_tp-tn", source=source, **options)
figure

# %% [markdown]
# ## Relevance by region
# White-matter tracts (item 11) and grey-matter areas (item 12), patients and controls.

# %%
figure, source = figures.tracts(known["relevance"], known["permuted"], missing.get("tracts", ""), **synthetic)
figures.save(figure, stem="fig11_relevance-tracts", source=source, svg=True, **options)
figure

# %%
figure, source = figures.areas(known["relevance"], known["permuted"], **synthetic)
figures.save(figure, stem="fig12_relevance-areas", source=source, svg=True, **options)
figure

# %% [markdown]
# Patients with their lesions, and with the lesions filled in training and in testing (item 13). Tested are all tracts, patient by patient.

# %%
others, tests, reason = region_tables.filled(where, cohort, filled, known)
figure, source = figures.with_without(known["relevance"], others, tests, reason, **synthetic)
figures.save(figure, stem="fig13_with-without-lesions", source=source, svg=True, **options)
figure

# %% [markdown]
# ## Methods and states of the network
# Item 14: the same scan explained by several methods, on the network as fine-tuned, as pre-trained, and with random weights.

# %%
found, scans, reason = model_states.read(where.states(variant))
figure, source = figures.methods(prepared, found, scans, where.states(variant), reason, **synthetic)
figures.save(figure, stem="fig14_methods-states", source=source, **options)
figure

# %% [markdown]
# ## Summary
# Each figure with its numbers and provenance stands in the figures folder.

# %%
drawn = sorted(where.figures().glob("fig*.*"))
provenance.write_json(where.figures() / "provenance.json", provenance.record(run, inputs, drawn))
print(*sorted({path.stem for path in drawn}), sep="\n")
