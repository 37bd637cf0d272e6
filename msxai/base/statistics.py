"""Scores of a classifier with two kinds of uncertainty: over trainings and over subjects.

The spread over trainings (trials) and the sampling error of subjects are never mixed. A score that
needs both labels is NaN if only one is present. `weights` say how often each scan counts: an array
of shape (resamples, scans) gives one value a resample, which makes the bootstrap fast.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, stats
from sklearn.metrics import roc_curve

from msxai.base.errors import ParameterError

__all__ = [
    "MEASURES",
    "auc",
    "auc_difference",
    "auc_interval",
    "balanced_accuracy",
    "bootstrap_interval",
    "bootstrap_mean_interval",
    "bootstrap_weights",
    "delong",
    "exact_interval",
    "percentile_interval",
    "roc_band",
    "score_table",
    "sensitivity",
    "specificity",
    "trial_scores",
]


def auc(labels, scores, weights=None):
    """Area under the ROC curve: how often a patient's score is above a control's.

    A tie counts one half.

    Parameters
    ----------
    labels : array_like of shape (scans,)
        1 patient, 0 control.
    scores : array_like of shape (scans,)
        Probability or logit.
    weights : array_like of shape (scans,) or (resamples, scans), optional
        How often each scan counts.

    Returns
    -------
    float, or ndarray of shape (resamples,)

    Examples
    --------
    >>> float(auc([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.9]))
    0.75
    """
    labels = np.asarray(labels)
    scores = np.asarray(scores, float)
    weights = _weights(labels, weights)
    patients = weights[..., labels == 1]
    controls = weights[..., labels == 0]
    pairs = patients.sum(axis=-1) * controls.sum(axis=-1)
    wins = (patients @ _wins(labels, scores)) * controls
    with np.errstate(invalid="ignore"):
        return wins.sum(axis=-1) / pairs


def sensitivity(labels, scores, weights=None, threshold: float = 0.5):
    """Share of patients with a score above `threshold`; parameters as in `auc`.

    NaN where a patient has no score.
    """
    patients = np.asarray(labels) == 1
    scores = np.asarray(scores, float)
    return _share(patients, scores > threshold, np.isnan(scores), weights)


def specificity(labels, scores, weights=None, threshold: float = 0.5):
    """Share of controls with a score of at most `threshold`; parameters as in `auc`.

    NaN where a control has no score.
    """
    controls = np.asarray(labels) == 0
    scores = np.asarray(scores, float)
    return _share(controls, scores <= threshold, np.isnan(scores), weights)


def balanced_accuracy(labels, scores, weights=None, threshold: float = 0.5):
    """Mean of sensitivity and specificity; parameters as in `auc`."""
    of_patients = sensitivity(labels, scores, weights, threshold)
    of_controls = specificity(labels, scores, weights, threshold)
    return (of_patients + of_controls) / 2


MEASURES = {
    "balanced_accuracy": balanced_accuracy,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "auc": auc,
}
"""Name to function, in the order of the paper's table."""


def delong(labels, scores) -> tuple[np.ndarray, np.ndarray]:
    """AUCs of classifiers on the same subjects with their covariance.

    Parameters
    ----------
    labels : array_like of shape (subjects,)
        1 patient, 0 control; one scan a subject, at least two of each.
    scores : array_like of shape (classifiers, subjects)
        One row a classifier.

    Returns
    -------
    areas : ndarray of shape (classifiers,)
    covariance : ndarray of shape (classifiers, classifiers)

    References
    ----------
    DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44:837-845, doi:10.2307/2531595.
    """
    labels = np.asarray(labels)
    wins = np.array([_wins(labels, np.asarray(row, float)) for row in scores])
    _, n_patients, n_controls = wins.shape
    over_patients = np.atleast_2d(np.cov(wins.mean(axis=2)))
    over_controls = np.atleast_2d(np.cov(wins.mean(axis=1)))
    covariance = over_patients / n_patients + over_controls / n_controls
    return wins.mean(axis=(1, 2)), covariance


def auc_interval(labels, scores, level: float = 0.95) -> tuple[float, float]:
    """Interval of an AUC by DeLong; by Newcombe if DeLong's variance is 0.

    The variance is 0 if the scores separate the groups completely.

    Parameters
    ----------
    labels, scores : array_like of shape (subjects,)
        As in `delong`.
    level : float
        Coverage.

    References
    ----------
    DeLong: see `delong`. Newcombe 2006, Statistics in Medicine 25:559-573, doi:10.1002/sim.2324
    (method 5).
    """
    areas, covariance = delong(labels, [scores])
    area = areas[0]
    variance = covariance[0, 0]
    if variance == 0:
        n_controls, n_patients = np.bincount(np.asarray(labels, int), minlength=2)
        return _newcombe(area, n_controls, n_patients, level)
    half_width = stats.norm.isf((1 - level) / 2) * np.sqrt(variance)
    low = max(area - half_width, 0)
    high = min(area + half_width, 1)
    return float(low), float(high)


def auc_difference(
    labels, scores, reference_scores, level: float = 0.95
) -> tuple[float, float, float, float]:
    """Difference of two AUCs on the same subjects by the paired test of `delong`.

    Parameters
    ----------
    labels, scores, reference_scores : array_like of shape (subjects,)
        As in `delong`.
    level : float
        Coverage.

    Returns
    -------
    difference, low, high : float
        AUC of `scores` minus AUC of `reference_scores`, with its interval.
    p : float
        Two-sided; NaN if the variance is 0.
    """
    areas, covariance = delong(labels, [scores, reference_scores])
    difference = areas[0] - areas[1]
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    error = np.sqrt(max(variance, 0))
    half_width = stats.norm.isf((1 - level) / 2) * error
    p = 2 * stats.norm.sf(abs(difference) / error) if error > 0 else np.nan
    low = difference - half_width
    high = difference + half_width
    return float(difference), float(low), float(high), float(p)


def exact_interval(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a proportion.

    Parameters
    ----------
    successes : float
        Number of successes. A mean over trials may be a fraction: the beta quantiles that define
        the bounds accept fractions.
    n : int
        Number of attempts. For 0, and for NaN successes, the interval is (NaN, NaN).
    level : float
        Coverage.

    References
    ----------
    Clopper, Pearson 1934, Biometrika 26:404-413, doi:10.1093/biomet/26.4.404.

    Examples
    --------
    >>> low, high = exact_interval(12, 13)
    >>> round(low, 2), round(high, 2)
    (0.64, 1.0)
    """
    if n == 0 or np.isnan(successes):
        return np.nan, np.nan
    tail = (1 - level) / 2
    low = 0.0
    if successes > 0:
        low = stats.beta.ppf(tail, successes, n - successes + 1)
    high = 1.0
    if successes < n:
        high = stats.beta.isf(tail, successes + 1, n - successes)
    return float(low), float(high)


def bootstrap_weights(labels, seed: int, n: int = 2000, subjects=None) -> np.ndarray:
    """Draw resamples of subjects, with replacement within each label.

    Parameters
    ----------
    labels : array_like of shape (scans,)
        1 patient, 0 control, the same for all scans of a subject. For a bootstrap without groups
        give zeros.
    seed : int
        Seed of the draws.
    n : int
        Number of resamples.
    subjects : array_like of shape (scans,), optional
        The subject of each scan: all scans of a subject are drawn together. By default each scan
        is a subject.

    Returns
    -------
    ndarray of shape (n, scans), int
        How often each scan counts in each resample.
    """
    labels = np.asarray(labels)
    rng = np.random.default_rng(seed)
    if subjects is None:
        subjects = np.arange(len(labels))
    _, first_scan, subject_index = np.unique(
        np.asarray(subjects), return_index=True, return_inverse=True
    )
    subject_labels = labels[first_scan]
    counts = np.zeros((n, len(first_scan)), int)
    for label in np.unique(labels):
        members = np.flatnonzero(subject_labels == label)
        chance = np.full(len(members), 1 / len(members))
        counts[:, members] = rng.multinomial(len(members), chance, n)
    return counts[:, subject_index]


def percentile_interval(draws, level: float = 0.95):
    """Interval between the percentiles of bootstrap draws.

    Parameters
    ----------
    draws : array_like of shape (resamples,) or (resamples, columns)
    level : float
        Coverage.

    Returns
    -------
    low, high : float, or ndarrays of shape (columns,)
    """
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return low, high


def bootstrap_mean_interval(values, seed: int = 0, n: int = 2000, level: float = 0.95):
    """Percentile interval of a mean over subjects.

    The same seed and number of subjects give the same resamples, so that differences are paired.

    Parameters
    ----------
    values : array_like of shape (subjects,) or (subjects, columns)
    seed, n
        See `bootstrap_weights`.
    level : float
        Coverage.

    Returns
    -------
    low, high : float, or ndarrays of shape (columns,)

    Examples
    --------
    >>> low, high = bootstrap_mean_interval([1.0, 2.0, 3.0])
    >>> bool(low < 2 < high)
    True
    """
    values = np.asarray(values, float)
    n_subjects = len(values)
    weights = bootstrap_weights(np.zeros(n_subjects, int), seed, n)
    return percentile_interval(weights @ values / n_subjects, level)


def bootstrap_interval(
    function, labels, scores, seed: int, n: int = 2000, level: float = 0.95, subjects=None
) -> tuple[float, float]:
    """Percentile interval of a score over subjects.

    Parameters
    ----------
    function : callable
        ``function(labels, scores, weights)`` with weights of shape (resamples, scans) returns shape
        (resamples,), as each measure of this module does.
    labels, seed, n, subjects
        See `bootstrap_weights`.
    scores : array_like of shape (scans,) or (trials, scans)
        With trials the score is the mean over trials, all on the same resamples.
    level : float
        Coverage.
    """
    weights = bootstrap_weights(labels, seed, n, subjects)
    draws = [function(labels, trial, weights) for trial in np.atleast_2d(scores)]
    low, high = percentile_interval(np.mean(draws, axis=0), level)
    return float(low), float(high)


def trial_scores(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrange the scores of one variant by trial and scan; scans without a label are left out.

    Parameters
    ----------
    predictions : pandas.DataFrame
        One variant: trial, participant_id, label, score, and session_id if subjects have several
        scans.

    Returns
    -------
    labels : ndarray of shape (scans,), int
    subjects : ndarray of shape (scans,)
        participant_id, sorted.
    scores : ndarray of shape (trials, scans)

    Raises
    ------
    ParameterError
        A scan has no score or two in one of the trials, a score that is no finite number, or a
        label that is neither 1 nor 0.
    """
    index = ["participant_id", "label"]
    if "session_id" in predictions:
        index = ["participant_id", "session_id", "label"]
    labelled = predictions.dropna(subset=["label"]).fillna({"session_id": ""})
    _check_predictions(labelled, index)
    wide = labelled.pivot(index=index, columns="trial", values="score")
    labels = wide.index.get_level_values("label").to_numpy()
    subjects = wide.index.get_level_values("participant_id").to_numpy()
    return labels.astype(int), subjects, wide.to_numpy().T


def score_table(
    predictions: pd.DataFrame, seed: int = 0, level: float = 0.95, n: int = 2000
) -> pd.DataFrame:
    """Score all variants: what the training changes, and what the sample of subjects changes.

    Intervals: AUC by bootstrap over subjects (Newcombe's if it has no width, see `auc_interval`),
    sensitivity and specificity exact, balanced accuracy from these two by MOVER (Zou, Donner 2008,
    Statistics in Medicine 27:1693, doi:10.1002/sim.3095). The exact ones treat the mean of the
    trials as one trial, because averaging trainings adds no subject.

    Parameters
    ----------
    predictions : pandas.DataFrame
        variant, trial, participant_id, label, score (probability), and session_id if subjects have
        several scans. Scans without a label are left out.
    seed, n : int
        Seed and number of resamples of the bootstrap.
    level : float
        Coverage of the intervals.

    Raises
    ------
    ParameterError
        As of `trial_scores`.

    Returns
    -------
    pandas.DataFrame
        One row a variant, in the order given: variant, trials, patients, controls (subjects). For
        each of `MEASURES` the mean over trials (`auc`), the lowest and highest trial (`auc_min`,
        `auc_max`) and the interval of the mean over subjects (`auc_low`, `auc_high`). The same
        without minimum and maximum for the ensemble, the mean score of all trials
        (`ensemble_auc`, ...).
    """
    rows = []
    labelled = predictions.dropna(subset=["label"])
    for variant, table in labelled.groupby("variant", sort=False):
        labels, subjects, scores = trial_scores(table)
        scorer = _Scorer(labels, subjects, seed, n, level)
        row = {
            "variant": variant,
            "trials": len(scores),
            "patients": scorer.n_patients,
            "controls": scorer.n_controls,
        }
        row |= scorer.row(scores)
        ensemble = scorer.row(scores.mean(axis=0, keepdims=True))
        for column, value in ensemble.items():
            if not column.endswith(("_min", "_max")):
                row[f"ensemble_{column}"] = value
        rows.append(row)
    return pd.DataFrame(rows)


def _check_predictions(labelled: pd.DataFrame, index: list[str]) -> None:
    """Refuse predictions of one variant that are not one score of each scan in each trial."""
    is_label = labelled["label"].isin([0, 1])
    if not is_label.all():
        row = labelled[~is_label].iloc[0]
        raise _refusal(row, f"the label {row['label']}", "1 for a patient or 0 for a control")
    expected = "one finite number of each scan in each trial"
    scores = pd.to_numeric(labelled["score"], errors="coerce")
    is_score = np.isfinite(scores)
    if not is_score.all():
        row = labelled[~is_score].iloc[0]
        raise _refusal(row, f"the score {row['score']}", expected)
    is_second = labelled.duplicated([*index, "trial"])
    if is_second.any():
        raise _refusal(labelled[is_second].iloc[0], "two scores", expected)
    trials = labelled["trial"].unique()
    for _, rows in labelled.groupby(index, sort=False):
        missing = set(trials) - set(rows["trial"])
        if missing:
            row = rows.iloc[0].copy()
            row["trial"] = min(missing)
            raise _refusal(row, "no score", expected)


def _refusal(row: pd.Series, actual: str, expected: str) -> ParameterError:
    """Return the error of a row of predictions."""
    names = [f"{name} {row[name]}" for name in ("variant", "trial") if name in row]
    scan = f"{row['participant_id']} {row.get('session_id', '')}".strip()
    return ParameterError(
        ", ".join(["predictions", *names, scan]),
        actual,
        expected,
        "Evaluate the networks anew (04_evaluation).",
    )


@dataclass(frozen=True)
class _Scorer:
    """Scores trials on the same scans, with the intervals of `score_table`."""

    labels: np.ndarray
    subjects: np.ndarray
    seed: int
    n_resamples: int
    level: float

    @property
    def n_patients(self) -> int:
        return len(set(self.subjects[self.labels == 1]))

    @property
    def n_controls(self) -> int:
        return len(set(self.subjects[self.labels == 0]))

    def row(self, scores) -> dict[str, float]:
        """Return each measure's mean, minimum and maximum over trials, and its interval."""
        row = {}
        for name, measure in MEASURES.items():
            values = np.array([measure(self.labels, trial) for trial in scores])
            row[name] = values.mean()
            row[f"{name}_min"] = values.min()
            row[f"{name}_max"] = values.max()
        of_patients = self._exact(row["sensitivity"], self.n_patients)
        of_controls = self._exact(row["specificity"], self.n_controls)
        intervals = {
            "balanced_accuracy": _mean_of_two(
                row["sensitivity"], of_patients, row["specificity"], of_controls
            ),
            "sensitivity": of_patients,
            "specificity": of_controls,
            "auc": self._auc_interval(scores, row["auc"]),
        }
        for name, (low, high) in intervals.items():
            row[f"{name}_low"] = low
            row[f"{name}_high"] = high
        return row

    def _exact(self, share: float, n_subjects: int) -> tuple[float, float]:
        return exact_interval(share * n_subjects, n_subjects, self.level)

    def _auc_interval(self, scores, area: float) -> tuple[float, float]:
        low, high = bootstrap_interval(
            auc,
            self.labels,
            scores,
            seed=self.seed,
            n=self.n_resamples,
            level=self.level,
            subjects=self.subjects,
        )
        if low < high:
            return low, high
        return _newcombe(area, self.n_controls, self.n_patients, self.level)


def roc_band(labels, scores, points: int = 201) -> pd.DataFrame:
    """Mean ROC curve of trials, averaged vertically (at equal false positive rate).

    Parameters
    ----------
    labels : array_like of shape (scans,)
        1 patient, 0 control.
    scores : array_like of shape (trials, scans)
        One row a trial.
    points : int
        Number of false positive rates, equally spaced from 0 to 1.

    Returns
    -------
    pandas.DataFrame
        false_positive_rate, mean, sd (over trials; NaN for one trial), trial_0, trial_1, ...

    References
    ----------
    Fawcett 2006, Pattern Recognition Letters 27:861-874, doi:10.1016/j.patrec.2005.10.010
    (section 8.1).
    """
    grid = np.linspace(0, 1, points)
    curves = []
    for trial in np.atleast_2d(scores):
        false_positive, true_positive, _ = roc_curve(labels, trial, drop_intermediate=False)
        curves.append(np.interp(grid, false_positive, true_positive))
    sd = np.std(curves, axis=0, ddof=1) if len(curves) > 1 else np.nan
    table = pd.DataFrame({"false_positive_rate": grid, "mean": np.mean(curves, axis=0), "sd": sd})
    for number, curve in enumerate(curves):
        table[f"trial_{number}"] = curve
    return table


def _weights(labels, weights) -> np.ndarray:
    """Return the weights as floats; by default each scan counts once."""
    if weights is None:
        return np.ones(len(labels))
    return np.asarray(weights, float)


def _wins(labels, scores) -> np.ndarray:
    """Compare every patient with every control.

    Shape (patients, controls): 1 if the patient's score is higher, 0.5 for a tie, 0 if lower.
    """
    difference = scores[labels == 1][:, None] - scores[labels == 0]
    return (np.sign(difference) + 1) / 2


def _share(members, correct, unknown, weights):
    """Return the weighted share of members that are correct.

    NaN without members, and where it is unknown of one of them.
    """
    weights = _weights(members, weights)
    n_correct = (weights * (members & correct)).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        share = n_correct / (weights * members).sum(axis=-1)
    return share * np.nan if (members & unknown).any() else share


def _mean_of_two(first: float, first_interval, second: float, second_interval):
    """Interval of the mean of two proportions by MOVER, from the interval of each."""
    mean = (first + second) / 2
    low_width = np.hypot(first_interval[0] - first, second_interval[0] - second) / 2
    high_width = np.hypot(first_interval[1] - first, second_interval[1] - second) / 2
    return mean - low_width, mean + high_width


def _newcombe(area: float, n_controls: int, n_patients: int, level: float) -> tuple[float, float]:
    """Interval of an AUC from its value and the group sizes alone (Newcombe 2006, method 5)."""
    z = stats.norm.isf((1 - level) / 2)
    size = (n_controls + n_patients) / 2 - 1
    pairs = n_controls * n_patients
    if pairs == 0:
        return np.nan, np.nan

    def lower_bound(area):
        if area <= 1e-6:
            return 0.0

        def excess(bound):
            spread = 1 + size * (1 - bound) / (2 - bound) + size * bound / (1 + bound)
            return area - bound - z * np.sqrt(bound * (1 - bound) * spread / pairs)

        return optimize.brentq(excess, 0, area - 1e-9)

    return lower_bound(area), 1 - lower_bound(1 - area)
