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
# # 04 · Evaluation
#
# All trials of all variants on scans that no training has read, beside what lesion load alone tells and beside the paper.
#
# | | |
# |---|---|
# | reads | `<results>/prepared/<cohort>.h5`, `<results>/finetuning/<variant>/trial-*` from [03_fine_tuning](03_fine_tuning.ipynb) |
# | writes | `<results>/evaluation/predictions.tsv`, `scores.tsv` and, last, `provenance.json` |
# | takes | about 1 minute |
#
# With 23 holdout subjects an interval of balanced accuracy is wider than most differences: read the intervals, not the means.

# %%
from msxai import evaluation, figures, network, parameters, statistics
from msxai.prepared import Prepared
from msxai.results import Results

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # the fine-tuning cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
variants: list = ["pretrained", "scratch"]  # variants of 03_fine_tuning
trials: int = 2  # trials of each variant
part: str = "holdout"  # part of the split that is reported on
width: int = 16  # filters of each convolution, as trained
seed: int = 0  # of the bootstrap
threads: int = 1  # of TensorFlow; results depend on it by the order of summation

# %%
run = parameters.check(globals())
where = Results(results)
network.configure(seed, threads)
prepared = Prepared(where.require_prepared(cohort), where.split(cohort))
trained = {variant: [where.require_trial(variant, trial, cohort=cohort, width=width) for trial in range(trials)] for variant in variants}

# %% [markdown]
# ## Predictions
# Probability of the patient class, from each trial's best weights by validation. Lesion load is the mandatory baseline: an RBF support
# vector machine on one number a subject, fitted on the training and validation part.

# %%
predictions = evaluation.predict(prepared, prepared.rows(part), trained)
predictions, skipped = evaluation.add_lesion_load(predictions, prepared, prepared.rows(part))
print(skipped or "lesion load: as baseline in the table")
predictions.head()

# %% [markdown]
# ## Results
# Mean over trials, range over trials (how much the seed matters), 95 % interval over subjects (how much the sample matters).

# %%
scores = statistics.score_table(predictions, seed=seed)
evaluation.save(where, predictions, scores, run, cohort, trained)
figure, _ = figures.results_table(scores, statistics.paper_results(), synthetic=prepared.synthetic)
figure

# %%
figure, _ = figures.roc(predictions, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## Summary
# Where the networks look: [05_lrp_heatmaps](05_lrp_heatmaps.ipynb).

# %%
scores
