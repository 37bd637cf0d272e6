"""Classifiers compared on the same subjects: paired differences, calibration, cross-validation.

Each variant counts as one classifier. The score of a subject is the mean over its scans and the
trials of the variant.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from msxai.base import statistics, tsv
from msxai.base.errors import MissingStepError
from msxai.base.results import Results
from msxai.data.cohorts import splits

__all__ = ["brier", "calibration", "corrected_interval", "folds", "gather", "table"]

_TABLE = [
    "variant",
    "measure",
    "reference",
    "patients",
    "controls",
    "value",
    "low",
    "high",
    "p",
]
_CALIBRATION = ["variant", "bin", "n", "score", "patients", "low", "high"]
_FOLDS = ["variant", "measure", "reference", "folds", "value", "sd", "low", "high"]
_SMALLEST_BIN = 5  # scans


def brier(labels, scores, weights=None):
    """Mean squared difference of score and label: 0 at best, 0.25 where every score is 0.5.

    Parameters
    ----------
    labels, scores, weights
        See `msxai.base.statistics.auc`.

    References
    ----------
    Brier 1950, Monthly Weather Review 78:1-3,
    doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.

    Examples
    --------
    >>> round(float(brier([1, 0], [0.8, 0.4])), 2)
    0.1
    """
    errors = (np.asarray(scores, float) - np.asarray(labels)) ** 2
    weights = np.ones(len(errors)) if weights is None else np.asarray(weights, float)
    return (weights * errors).sum(-1) / weights.sum(-1)


@dataclass(frozen=True)
class _Scores:
    """Scores of all variants for the same subjects.

    Attributes
    ----------
    labels : ndarray of int, shape (subjects,)
    scores : pandas.DataFrame of shape (subjects, variants)
    """

    labels: np.ndarray
    scores: pd.DataFrame

    @property
    def counts(self) -> dict:
        """Number of patients and of controls."""
        patients = int((self.labels == 1).sum())
        controls = int((self.labels == 0).sum())
        return {"patients": patients, "controls": controls}


def table(
    predictions: pd.DataFrame,
    references=("lesion load", "scratch"),
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return AUC and Brier score of each variant, and its paired differences to the references.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As in `msxai.base.statistics.score_table`.
    references : sequence of str
        Variants to compare with. Those that do not occur in `predictions` are skipped.
    seed : int
        Of the bootstrap.
    level : float
        Coverage of the intervals over subjects.

    Returns
    -------
    pandas.DataFrame
        variant, measure, reference, patients, controls, value, low, high, p. Measures:

        - auc: interval by DeLong; by Newcombe where the scores separate the groups completely.
        - brier: interval by bootstrap.
        - auc_difference: variant minus reference, paired DeLong with a two-sided p, not corrected
          for the number of comparisons. Without interval where DeLong finds no variance.

        NaN where a group has fewer than two subjects.
    """
    labelled = predictions.dropna(subset=["label"])
    wide = labelled.pivot_table(
        index=["participant_id", "label"],
        columns="variant",
        values="score",
    ).dropna()
    labels = wide.index.get_level_values("label").to_numpy(int)
    subjects = _Scores(labels, wide)
    enough = min(subjects.counts.values()) >= 2
    rows = []
    for variant in labelled["variant"].unique():
        if not enough:
            rows.append(_row(subjects, variant, "auc"))
            continue
        rows.append(_auc(subjects, variant, level))
        rows.append(_brier(subjects, variant, seed, level))
        for reference in references:
            if reference in wide and reference != variant:
                rows.append(_auc_difference(subjects, variant, reference, level))
    return pd.DataFrame(rows).reindex(columns=_TABLE)


def _row(subjects: _Scores, variant: str, measure: str, reference: str = "") -> dict:
    """Return the first columns of a row."""
    names = {"variant": variant, "measure": measure, "reference": reference}
    return names | subjects.counts


def _auc(subjects: _Scores, variant: str, level: float) -> dict:
    scores = subjects.scores[variant].to_numpy()
    row = _row(subjects, variant, "auc")
    row["value"] = statistics.auc(subjects.labels, scores)
    row["low"], row["high"] = statistics.auc_interval(subjects.labels, scores, level)
    return row


def _brier(subjects: _Scores, variant: str, seed: int, level: float) -> dict:
    scores = subjects.scores[variant].to_numpy()
    row = _row(subjects, variant, "brier")
    row["value"] = brier(subjects.labels, scores)
    row["low"], row["high"] = statistics.bootstrap_interval(
        brier, subjects.labels, scores, seed, level=level
    )
    return row


def _auc_difference(subjects: _Scores, variant: str, reference: str, level: float) -> dict:
    difference, low, high, p = statistics.auc_difference(
        subjects.labels,
        subjects.scores[variant].to_numpy(),
        subjects.scores[reference].to_numpy(),
        level,
    )
    row = _row(subjects, variant, "auc_difference", reference)
    row |= {"value": difference, "p": p}
    if not np.isnan(p):  # without variance there is no evidence of equality
        row |= {"low": low, "high": high}
    return row


def calibration(predictions: pd.DataFrame, bins: int = 10, level: float = 0.95) -> pd.DataFrame:
    """Return the calibration curve: share of patients and mean score, in bins of equal counts.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As in `msxai.base.statistics.score_table`. The score of a scan is the mean over trials.
    bins : int
        At most; no bin has fewer than five scans.
    level : float
        Coverage of the exact intervals.

    Returns
    -------
    pandas.DataFrame
        variant, bin, n, score (mean), patients (share), low, high.
    """
    rows = []
    labelled = predictions.dropna(subset=["label"])
    for variant, table_of_variant in labelled.groupby("variant", sort=False):
        labels, _, trials = statistics.trial_scores(table_of_variant)
        scores = trials.mean(axis=0)
        # The label breaks ties, so that the order does not depend on that of the table.
        order = np.lexsort((labels, scores))
        count = max(1, min(bins, len(order) // _SMALLEST_BIN))
        for number, members in enumerate(np.array_split(order, count)):
            patients = labels[members].sum()
            low, high = statistics.exact_interval(patients, len(members), level)
            row = {
                "variant": variant,
                "bin": number,
                "n": len(members),
                "score": scores[members].mean(),
                "patients": labels[members].mean(),
                "low": low,
                "high": high,
            }
            rows.append(row)
    return pd.DataFrame(rows, columns=_CALIBRATION)


def corrected_interval(
    values,
    training: float,
    tested: float,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Mean over folds, with an interval that allows for overlapping training parts.

    This is the corrected resampled t test: the variance over k folds is multiplied by
    1/k + tested/training instead of 1/k.

    Parameters
    ----------
    values : array_like of shape (folds,)
        One score, or one paired difference, for each fold of all repeats.
    training, tested : float
        Number of subjects that a fold trains on and tests on.
    level : float
        Coverage.

    Returns
    -------
    mean, low, high : float
        The bounds are NaN for a single fold.

    References
    ----------
    Nadeau, Bengio 2003, Machine Learning 52:239-281, doi:10.1023/A:1024068626366.
    For repeated folds: Bouckaert, Frank 2004, doi:10.1007/978-3-540-24775-3_3.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan, np.nan
    mean = float(values.mean())
    if len(values) == 1:
        return mean, np.nan, np.nan
    inflation = 1 / len(values) + tested / training
    error = np.sqrt(inflation * values.var(ddof=1))
    quantile = stats.t.isf((1 - level) / 2, len(values) - 1)
    half = float(quantile * error)
    return mean, mean - half, mean + half


def folds(
    scores: pd.DataFrame,
    reference: str = "lesion load",
    level: float = 0.95,
) -> pd.DataFrame:
    """Return means and intervals over the folds of a (repeated) cross-validation.

    Parameters
    ----------
    scores : pandas.DataFrame
        One row a variant and fold: variant, repeat, fold, training, tested (numbers of subjects),
        and each of `msxai.base.statistics.MEASURES`, as from
        `msxai.evaluation.baselines.cross_validate`.
    reference : str
        Variant whose AUC is subtracted from that of each other variant, fold by fold. Skipped
        where it does not occur.
    level : float
        Coverage.

    Returns
    -------
    pandas.DataFrame
        variant, measure (of `msxai.base.statistics.MEASURES`, or auc_difference), reference,
        folds, value, sd (over folds), low, high (`corrected_interval`).
    """
    if scores.empty:
        return pd.DataFrame(columns=_FOLDS)
    by_fold = scores.set_index(["repeat", "fold"])
    reference_auc = by_fold.loc[by_fold["variant"] == reference, "auc"]
    rows = []
    for variant in scores["variant"].unique():
        folds_of_variant = by_fold[by_fold["variant"] == variant]
        training = folds_of_variant["training"].mean()
        tested = folds_of_variant["tested"].mean()
        columns = {("", measure): folds_of_variant[measure] for measure in statistics.MEASURES}
        if variant != reference and len(reference_auc):
            differences = folds_of_variant["auc"] - reference_auc.reindex(folds_of_variant.index)
            columns[reference, "auc_difference"] = differences
        for (subtracted, measure), values in columns.items():
            value, low, high = corrected_interval(values, training, tested, level)
            smallest = -1 if measure == "auc_difference" else 0
            row = {
                "variant": variant,
                "measure": measure,
                "reference": subtracted,
                "folds": len(folds_of_variant),
                "value": value,
                "sd": values.std(),
                # Student's t has no bounds, a score has.
                "low": np.clip(low, smallest, 1),
                "high": np.clip(high, smallest, 1),
            }
            rows.append(row)
    return pd.DataFrame(rows)


def gather(results: str, count: int) -> pd.DataFrame:
    """Collect the folds of a cross-validation of the networks.

    Writes predictions.tsv, folds.tsv and, last, cross_validation.tsv into the results folder.

    Parameters
    ----------
    results : str
        The folder. Its folds are the results folders ``fold-0``, ``fold-1``, ...
    count : int
        Number of folds.

    Returns
    -------
    pandas.DataFrame
        `folds` of all variants and baselines.

    Raises
    ------
    MissingStepError
        A fold was not evaluated.
    """
    folder = Results(results).folder
    predictions_of_folds = []
    scores = []
    for number in range(count):
        fold_folder = folder / f"fold-{number}"
        predictions = tsv.read(fold_folder / "evaluation" / "predictions.tsv")
        if predictions.empty:
            raise MissingStepError(
                f"{results}/{fold_folder.name}/evaluation",
                "no predictions",
                "the predictions of this fold",
                "Run make cv.",
            )
        predictions_of_folds.append(predictions.assign(fold=number))
        numbers = {"repeat": 0, "fold": number, **_sizes(fold_folder, predictions)}
        for variant, table_of_variant in predictions.groupby("variant", sort=False):
            scores.append({"variant": variant, **numbers, **_mean_scores(table_of_variant)})
    scores = pd.DataFrame(scores)
    summary = folds(scores)
    tsv.write(pd.concat(predictions_of_folds), folder / "predictions.tsv")
    tsv.write(scores, folder / "folds.tsv")
    tsv.write(summary, folder / "cross_validation.tsv")
    return summary


def _sizes(fold_folder: Path, predictions: pd.DataFrame) -> dict:
    """Return the numbers of subjects that a fold trained on and tested on."""
    split_files = (fold_folder / "prepared").glob("*_split.tsv")
    parts = pd.concat([splits.read(path) for path in split_files])
    training = parts.loc[parts["part"] != "holdout", "participant_id"].nunique()
    return {"training": training, "tested": predictions["participant_id"].nunique()}


def _mean_scores(predictions: pd.DataFrame) -> dict:
    """Return each measure of one variant, mean over trials."""
    labels, _, trials = statistics.trial_scores(predictions)
    means = {}
    for name, function in statistics.MEASURES.items():
        means[name] = np.mean([function(labels, scores) for scores in trials])
    return means
