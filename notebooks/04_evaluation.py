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
# All trials of all variants on scans that no training has read, beside simpler machines and beside the paper.
#
# | | |
# |---|---|
# | reads | `<results>/prepared/<cohort>.h5`, `<results>/finetuning/<variant>/trial-*` from [03_fine_tuning](03_fine_tuning.ipynb) |
# | writes | `<results>/evaluation/`: predictions, scores, comparisons, cross-validation (TSV) and, last, `provenance.json` |
# | takes | about 8 minutes on one core, most of it for the further subjects |
#
# With 23 holdout subjects an interval of balanced accuracy is wider than most differences: read the intervals, not the means. The
# validation part selects, the holdout only reports.

# %%
import pandas as pd

from msxai.base import parameters, provenance, statistics
from msxai.base.results import Results
from msxai.data import filled_cohort
from msxai.data.prepared import Prepared
from msxai.evaluation import baselines, comparison, counterfactuals, prediction
from msxai.model import network
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # the fine-tuning cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
variants: list = ["pretrained", "scratch", "lesion-filled"]  # variants of 03_fine_tuning
trials: int = 2  # trials of each variant
part: str = "holdout"  # part of the split that is reported on
further: int = 200  # embedded cohorts only: further subjects to simulate and report on; 0 for none
counterfactual: bool = True  # predict again with lesions, and with sham sites, filled
folds: int = 5  # of the baselines' cross-validation over all subjects
repeats: int = 5  # of that cross-validation; 0 for none
width: int = 16  # filters of each convolution, as trained
seed: int = 0  # of the bootstrap and the folds
threads: int = 1  # of TensorFlow; results depend on it by the order of summation

# %%
run = parameters.check(globals())
where = Results(results)
network.configure(seed, threads)
prepared = Prepared(where.require_prepared(cohort), where.split(cohort))
trained = {variant: [where.require_trial(variant, trial, cohort=cohort, width=width) for trial in range(trials)] for variant in variants}

# %% [markdown]
# A variant that was trained on scans with their lesions filled is shown scans with their lesions filled.

# %%
filled = filled_cohort.arrays(where, cohort, trained)
print(*(f"{variant}: {provenance.relative(one.path)}" for variant, one in filled.items()), sep="\n")

# %% [markdown]
# ## Baselines
# Lesion load is the mandatory one: a support vector machine on one number a subject. Others see all voxels, the outline of the brain
# alone, age, sex and site, or what a trained network's last convolution says. All are fitted on the training and validation part, and
# what they choose is chosen there, by an inner cross-validation.

# %%
rows = prepared.rows(part)
features = prediction.features(prepared, prepared.rows("all"), trained, filled)
fitted = baselines.fit(prepared, features, seed=seed)
fitted.chosen

# %% [markdown]
# ## Predictions
# Probability of the patient class, from each trial's best weights by validation, and the baselines' scores.

# %%
scored, left_out = baselines.predict(fitted, prepared, rows, features)
predictions = pd.concat([prediction.predict(prepared, rows, trained, features), scored], ignore_index=True)
print(*(f"{name}: left out, as {reason}" for name, reason in left_out.items()), sep="\n")
predictions.head()

# %% [markdown]
# ## Results
# Mean over trials, range over trials (how much the seed matters), 95 % interval over subjects (how much the sample matters).

# %%
scores = statistics.score_table(predictions, seed=seed)
figure, _ = figures.results_table(scores, statistics.paper_results(), synthetic=prepared.synthetic)
figure

# %%
figure, _ = figures.roc(predictions, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## Further subjects
# A simulated cohort can be asked for more subjects than the paper had: the same networks and machines on them.

# %%
more, reason = prediction.further(where, prepared, cohort, further)
predictions_further = pd.DataFrame(columns=predictions.columns)
if more is not None:
    seen = prediction.features(more, more.rows("all"), trained, filled_cohort.further(where, more, cohort, trained))
    scored, _ = baselines.predict(fitted, more, more.rows("all"), seen)
    predictions_further = pd.concat([prediction.predict(more, more.rows("all"), trained, seen), scored], ignore_index=True)
print(reason or f"{len(more.table)} further subjects")

# %% [markdown]
# ## Compared
# One classifier a variant, the mean of its trials: AUC and Brier score, and paired differences to lesion load and to the network from
# scratch (DeLong).

# %%
sets = {part: predictions, "further": predictions_further}
compared = pd.concat([comparison.table(table, seed=seed).assign(part=name) for name, table in sets.items()], ignore_index=True)
calibrated = pd.concat([comparison.calibration(table).assign(part=name) for name, table in sets.items()], ignore_index=True)
figure, _ = figures.compared(compared, synthetic=prepared.synthetic)
figure

# %%
figure, _ = figures.calibration(calibrated, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## Lesions filled
# Would the networks still know the patients? All lesions are filled with what the white matter around looks like; beside it, as a check
# of the filling itself, white matter without lesions, at mirrored sites in either group. On the further subjects, or on the part reported
# on; without variants that were trained on filled scans, and see no others.

# %%
tested, known = (prepared, predictions) if more is None else (more, predictions_further)
subjects = rows if more is None else more.rows("all")
whole = {variant: found for variant, found in trained.items() if variant not in filled}  # trained on scans with their lesions
without, missing = counterfactuals.predict(tested, subjects, whole, known, seed=seed, wanted=counterfactual)
refilled = counterfactuals.table(without)
left_out |= {"counterfactual": missing} if missing else {}
figure, _ = figures.counterfactual(refilled, synthetic=prepared.synthetic, left_out=missing)
figure

# %%
refilled.round(3)

# %% [markdown]
# ## Cross-validation of the baselines
# Over all subjects, with the choice inside each fold; intervals allow for training parts that overlap. The networks' own
# cross-validation is a profile: `make cv`.

# %%
by_fold, missing = baselines.cross_validate(prepared, seed, folds, repeats)
cross_validated = comparison.folds(by_fold)
cross_validated[cross_validated["measure"].isin(["auc", "auc_difference"])]

# %%
reasons = pd.DataFrame({"what": list(left_out), "reason": list(left_out.values())})
tables = {"predictions": predictions, "scores": scores, "predictions_further": predictions_further, "comparison": compared,
          "scores_further": statistics.score_table(predictions_further, seed=seed), "calibration": calibrated, "folds": by_fold,
          "cross_validation": cross_validated, "chosen": fitted.chosen, "counterfactual": refilled, "left_out": reasons}  # fmt: skip
prediction.save(where, tables, run, cohort, trained, filled)

# %% [markdown]
# ## Summary
# Where the networks look: [05_lrp_heatmaps](05_lrp_heatmaps.ipynb).

# %%
scores
