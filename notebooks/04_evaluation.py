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
# **Question.** Do the networks distinguish patients from controls on scans that were not used for
# training? Are they better than lesion volume alone? Do their scores depend on the lesions?
#
# | | |
# |---|---|
# | reads | `<results>/prepared/<cohort>.h5` |
# | | `<results>/finetuning/<variant>/trial-*` from [03_fine_tuning](03_fine_tuning.ipynb) |
# | writes | `<results>/evaluation/`: tables (TSV) and, last, `provenance.json` |
# | takes | about 7 minutes on one core, most of it for the further subjects |
#
# The holdout has only 23 subjects. A 95 % CI of balanced accuracy is then wider than most
# differences. Read the intervals, not the means alone. All selections are made on the validation
# part, and none on the holdout. The page [docs/evaluation.md](../docs/evaluation.md) explains the
# methods, and the [glossary](../docs/glossary.md) explains the terms.

# %%
import matplotlib.pyplot as plt
import pandas as pd

from msxai.base import paper_results, parameters, provenance, statistics
from msxai.base.results import Results
from msxai.data import filled_cohort
from msxai.data.prepared import Prepared
from msxai.evaluation import baselines, comparison, counterfactuals, prediction
from msxai.model import network, training
from msxai.report import figures

# %% tags=["parameters"]
cohort: str = "phantom-ms"  # the fine-tuning cohort, as in 01_data_preparation
results: str = "runs/demo"  # folder of all results
variants: list = [  # variants of 03_fine_tuning
    "pretrained",
    "scratch",
    "lesion-filled",
    "pretrained-lesions",
]
trials: int = 2  # trials of each variant
trials_of: dict = {"lesion-filled": 1}  # variants with another number of trials
split_part: str = "holdout"  # part of the split that is reported on
n_further_subjects: int = 200  # embedded cohorts only: subjects to simulate in addition; 0: none
counterfactual: bool = True  # predict again with lesions, and with sham sites, filled
n_counterfactual_subjects: int = 100  # of the further subjects, the first ones; 0: all
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
rows = prepared.rows(split_part)
trained = {}
for variant in variants:
    own_trials = trials_of.get(variant, trials)
    parameters.whole_number(f"trials_of, {variant}", own_trials, least=1)
    trained[variant] = [
        where.require_trial(variant, trial, cohort=cohort, width=width)
        for trial in range(own_trials)
    ]

# %% [markdown]
# If a variant was trained on scans with their lesions filled, it is tested on filled scans. Scans
# that could not be filled, because they have no lesion mask, are left out for this variant. They
# are also left out wherever it is compared with other classifiers.

# %%
filled = filled_cohort.arrays(where, cohort, trained)
for variant, filled_scans in filled.items():
    print(f"{variant}: {provenance.relative(filled_scans.path)}")
    for name in filled_cohort.unfilled(filled_scans):
        print(f"{variant}: left out, because it has no lesion mask: {name}")

# %% [markdown]
# ## One subject by hand
# A network gives one logit $f(x)$ for a scan $x$. Its score is the probability of the patient
# class, $\sigma(f(x)) = 1 / (1 + e^{-f(x)})$. A score above 0.5 means patient. The next cell shows
# the first patient of the part that is reported (`split_part`). The network is the first trial of
# the first variant.

# %%
scans = filled.get(variants[0], prepared)
part = scans.table.iloc[scans.rows(split_part)]
row = part.sort_values("label", ascending=False, kind="stable").index[0]
folder, record = trained[variants[0]][0]
net = network.restore(folder / "weights.npz", fast=True)
logit = training.predict(net, scans, [row])[0]
print(f"{prepared.table['participant_id'][row]} ({prepared.table['group'][row]})")
print(f"logit {logit:.3f}, score {network.probability(logit):.3f}")

# %% [markdown]
# ## Baselines
# Each baseline is a classifier that sees less than the network. SVM means support vector machine,
# and C is its regularisation parameter.
#
# | baseline | sees | classifier |
# |---|---|---|
# | lesion load | log(1 + lesion volume) | SVM, RBF kernel, C = 10 |
# | linear SVM | all voxels | SVM, C = 0.001 or selected |
# | brain shape | the brain mask | linear SVM |
# | age, sex, site | covariates | logistic regression |
# | features + SVM | the network's last convolution | linear SVM |
#
# Lesion load is the most important baseline: in the paper, its balanced accuracy is slightly above
# the network's. All baselines are fitted on the training and validation part. An inner
# cross-validation on these parts selects their parameters. **What to look for:** the selected C
# should lie inside the range that was tried, not at its end.

# %%
features = prediction.features(prepared, prepared.rows("all"), trained, filled)
fitted = baselines.fit(prepared, features, seed=seed)
fitted.chosen

# %% [markdown]
# ## Predictions
# The table has the scores of the baselines and of each trial. A trial uses the weights that were
# best on the validation part.

# %%
network_predictions = prediction.predict(prepared, rows, trained, features)
baseline_predictions, left_out = baselines.predict(fitted, prepared, rows, features)
predictions = pd.concat([network_predictions, baseline_predictions], ignore_index=True)
for name, reason in left_out.items():
    print(f"{name}: left out, because {reason}")
predictions.head()

# %% [markdown]
# ## Results
# Balanced accuracy is the mean of sensitivity and specificity. AUC is the probability that a
# patient's score is above a control's. Ties count half:
#
# $$\mathrm{AUC} = \frac{1}{n_1 n_0} \sum_{i \in \text{patients}} \sum_{j \in \text{controls}}
# [s_i > s_j] + \tfrac{1}{2} [s_i = s_j]$$
#
# Each number is a mean over trials. The range over trials shows how much the seed matters. The
# 95 % CI over subjects shows how much the sample matters. **What to look for:** the interval of the
# AUC lies above 0.5, and the range over trials is narrow. **A bad result:** the range over trials
# includes 0.5. The result then depends on the seed of the training.

# %%
scores = statistics.score_table(predictions, seed=seed)
paper = paper_results.read()
figure, _ = figures.results_table(scores, paper, synthetic=prepared.synthetic)
figure

# %%
figure, _ = figures.roc(predictions, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## Further subjects
# A simulated cohort can have more subjects than the paper had. The same networks and baselines are
# tested on these further subjects. Nothing is fitted again. The width of an interval falls with the
# square root of the number of subjects.

# %%
further, reason = prediction.further(where, prepared, cohort, n_further_subjects)
print(reason or f"{len(further.table)} further subjects")

# %%
predictions_further = pd.DataFrame(columns=predictions.columns)
if further is not None:
    further_rows = further.rows("all")
    filled_further = filled_cohort.further(where, further, cohort, trained)
    features_further = prediction.features(further, further_rows, trained, filled_further)
    by_networks = prediction.predict(further, further_rows, trained, features_further)
    by_baselines, _ = baselines.predict(fitted, further, further_rows, features_further)
    predictions_further = pd.concat([by_networks, by_baselines], ignore_index=True)

# %% [markdown]
# ## Comparison
# Each variant now counts as one classifier: the score of a subject is the mean over trials. Two
# classifiers are compared on the same subjects by the paired test of DeLong et al. (1988,
# [doi:10.2307/2531595](https://doi.org/10.2307/2531595)):
#
# $$z = \frac{\mathrm{AUC}_1 - \mathrm{AUC}_2}
# {\sqrt{\mathrm{var}_1 + \mathrm{var}_2 - 2\,\mathrm{cov}_{12}}}$$
#
# Here var and cov are the variances and the covariance of both AUCs. **What to look for:** the
# interval of the difference (network minus lesion load) lies above 0. **A bad result:** the
# interval includes 0. Lesion volume alone may then explain the result. The p values are not
# corrected for the number of comparisons.

# %%
sets = {split_part: predictions, "further": predictions_further}
comparisons = [comparison.table(table, seed=seed).assign(part=name) for name, table in sets.items()]
compared = pd.concat(comparisons, ignore_index=True)
figure, _ = figures.compared(compared, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## Calibration
# A score is calibrated if, for instance, 80 % of the subjects with a score near 0.8 are patients.
# The Brier score is the mean of $(s_i - y_i)^2$, with the score $s_i$ and the label $y_i$. It
# measures calibration together with discrimination (Brier 1950). **What to look for:** the points
# lie on the diagonal. **A bad result:** the curve is flatter than the diagonal. The network is then
# overconfident. The score of an SVM is not a probability, so its curve need not lie on the
# diagonal.

# %%
calibrations = [comparison.calibration(table).assign(part=name) for name, table in sets.items()]
calibrated = pd.concat(calibrations, ignore_index=True)
figure, _ = figures.calibration(calibrated, synthetic=prepared.synthetic)
figure

# %% [markdown]
# ## Lesion filling as a counterfactual
# Does a network still distinguish patients from controls if the lesions are removed? All lesions
# are replaced by tissue that resembles the white matter nearby. As a control condition (sham
# filling), normal-appearing white matter is replaced in both groups. The sham sites are mirrored
# lesions. The first `n_counterfactual_subjects` of the further subjects are used. If there are no
# further subjects, the reported part is used. Variants that were trained on filled scans are left
# out.

# %%
if further is None:
    tested = prepared
    tested_rows = rows
    untouched = predictions
else:
    tested = further
    tested_rows = further_rows[: n_counterfactual_subjects or None]
    untouched = predictions_further
trained_on_originals = {variant: trained[variant] for variant in variants if variant not in filled}

# %%
counterfactual_predictions, reason_no_filling = counterfactuals.predict(
    tested, tested_rows, trained_on_originals, untouched, seed=seed, wanted=counterfactual
)
if reason_no_filling:
    left_out["counterfactual"] = reason_no_filling
    print(f"lesions filled: left out, because {reason_no_filling}")

# %% [markdown]
# The picture shows the slice of one scan with most lesion voxels: as it is, with its lesions
# filled, and with sham sites filled.

# %%
example = tested.first_with_lesions()
versions = {"untouched": tested.image(example)}
for change in ("filled", "sham") if not reason_no_filling else ():
    versions[change], replaced = counterfactuals.changed(tested, example, change, seed=seed)
    print(f"{change}: {replaced} voxels replaced")

# %%
axial = tested.lesions(example).sum(axis=(0, 1)).argmax()
figure, axes = plt.subplots(1, 3, figsize=(9, 4))
for panel, (change, values) in zip(axes, versions.items(), strict=False):
    panel.imshow(values[:, :, axial].T, cmap="gray", origin="lower")
    panel.set_title(change)
for panel in axes:
    panel.axis("off")
figure

# %% [markdown]
# **What to look for:** filling lowers the patients' logits and the AUC, and sham filling changes
# neither. **A bad result:** filling changes nothing. The score then depends on something else than
# lesions. **Another bad result:** sham filling changes the logits as much as filling. The network
# then reacts to the filling itself.

# %%
refilled = counterfactuals.table(counterfactual_predictions)
figure, _ = figures.counterfactual(
    refilled, synthetic=prepared.synthetic, left_out=reason_no_filling
)
figure

# %%
refilled.round(3)

# %% [markdown]
# ## Cross-validation of the baselines
# The baselines are cross-validated on all subjects. Their parameters are selected inside each fold.
# The training parts of different folds overlap, so the standard error is corrected (Nadeau and
# Bengio 2003, [doi:10.1023/A:1024068626366](https://doi.org/10.1023/A:1024068626366)):
#
# $$\mathrm{SE}^2 = \left(\frac{1}{k} + \frac{n_\text{test}}{n_\text{train}}\right) s^2$$
#
# Here $k$ is the number of folds in all repeats, and $s^2$ is the variance over folds. **What to
# look for:** the AUC is near the AUC on the holdout. **A bad result:** the AUC on the holdout lies
# outside the interval. The holdout is then easier or harder than the cohort. The command `make cv`
# cross-validates the networks.

# %%
by_fold, _ = baselines.cross_validate(prepared, seed, folds, repeats)
cross_validated = comparison.folds(by_fold)
cross_validated[cross_validated["measure"].isin(["auc", "auc_difference"])]

# %% [markdown]
# ## Tables

# %%
tables = {
    "predictions": predictions,
    "scores": scores,
    "predictions_further": predictions_further,
    "scores_further": statistics.score_table(predictions_further, seed=seed),
    "comparison": compared,
    "calibration": calibrated,
    "folds": by_fold,
    "cross_validation": cross_validated,
    "chosen": fitted.chosen,
    "counterfactual": refilled,
}

# %%
tables["left_out"] = pd.DataFrame(left_out.items(), columns=["what", "reason"])
prediction.save(where, tables, run, cohort, trained, filled)

# %% [markdown]
# ## Summary
# The next notebook shows which voxels the networks use: [05_lrp_heatmaps](05_lrp_heatmaps.ipynb).

# %%
scores
