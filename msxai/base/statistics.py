"""Scores of a classifier and how sure they are: over seeds (trials) and over subjects (sampling), never mixed.

Where one label only is present a score that needs both is NaN. `weights` say how often each scan counts: an array of shape (resamples, n)
gives as many values at once, which is what makes the bootstrap fast.
"""

from importlib import resources

import numpy as np
import pandas as pd
from scipy import optimize, stats
from sklearn.metrics import roc_curve


def auc(labels, scores, weights=None):
    """Area under the ROC curve: how often a patient's score is above a control's, ties counting half.

    Parameters
    ----------
    labels : array_like of shape (n,)
        1 patient, 0 control.
    scores : array_like of shape (n,)
        Probability or logit.
    weights : array_like of shape (n,) or (resamples, n), optional
        How often each scan counts.

    Returns
    -------
    float, or ndarray of shape (resamples,)
    """
    labels, scores = np.asarray(labels), np.asarray(scores, float)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, float)
    patients, controls = weights[..., labels == 1], weights[..., labels == 0]
    with np.errstate(invalid="ignore"):
        return ((patients @ _wins(labels, scores)) * controls).sum(-1) / (
            patients.sum(-1) * controls.sum(-1)
        )


def sensitivity(labels, scores, weights=None, threshold: float = 0.5):
    """Share of patients with a score above `threshold`; parameters as in `auc`."""
    return _share(np.asarray(labels) == 1, np.asarray(scores) > threshold, weights)


def specificity(labels, scores, weights=None, threshold: float = 0.5):
    """Share of controls with a score of at most `threshold`; parameters as in `auc`."""
    return _share(np.asarray(labels) == 0, np.asarray(scores) <= threshold, weights)


def balanced_accuracy(labels, scores, weights=None, threshold: float = 0.5):
    """Mean of sensitivity and specificity; parameters as in `auc`."""
    return (
        sensitivity(labels, scores, weights, threshold)
        + specificity(labels, scores, weights, threshold)
    ) / 2


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
    labels : array_like of shape (n,)
        1 patient, 0 control; one scan a subject, at least two of each.
    scores : array_like of shape (classifiers, n)
        One row a classifier.

    Returns
    -------
    areas : ndarray of shape (classifiers,)
    covariance : ndarray of shape (classifiers, classifiers)

    References
    ----------
    DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44:837-845, doi:10.2307/2531595.
    """
    wins = np.array([_wins(np.asarray(labels), np.asarray(one, float)) for one in scores])
    over_patients, over_controls = (
        np.atleast_2d(np.cov(wins.mean(2))),
        np.atleast_2d(np.cov(wins.mean(1))),
    )
    return wins.mean((1, 2)), over_patients / wins.shape[1] + over_controls / wins.shape[2]


def auc_interval(labels, scores, level: float = 0.95) -> tuple[float, float]:
    """Interval of an AUC by DeLong; where the groups are separated wholly, which leaves DeLong no variance, by Newcombe.

    Parameters
    ----------
    labels, scores : array_like of shape (n,)
        As in `delong`.
    level : float
        Coverage.

    References
    ----------
    DeLong: see `delong`. Newcombe 2006, Statistics in Medicine 25:559-573, doi:10.1002/sim.2324 (method 5).
    """
    (area,), ((variance,),) = delong(labels, [scores])
    if variance == 0:
        return _newcombe(area, *np.bincount(np.asarray(labels, int), minlength=2), level)
    half = stats.norm.isf((1 - level) / 2) * np.sqrt(variance)
    return float(max(area - half, 0)), float(min(area + half, 1))


def auc_difference(
    labels, scores, others, level: float = 0.95
) -> tuple[float, float, float, float]:
    """Difference of two AUCs on the same subjects: (difference, low, high, two-sided p), paired DeLong; p is NaN without variance."""
    areas, covariance = delong(labels, [scores, others])
    difference, error = (
        areas[0] - areas[1],
        np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0)),
    )
    half = stats.norm.isf((1 - level) / 2) * error
    p = 2 * stats.norm.sf(abs(difference) / error) if error > 0 else np.nan
    return float(difference), float(difference - half), float(difference + half), float(p)


def exact_interval(successes: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a proportion.

    Parameters
    ----------
    successes : float
        How many of `n`. A mean over trials may be a fraction: the beta quantiles that define the bounds take it as it is.
    n : int
        How many there are; (NaN, NaN) for 0.
    level : float
        Coverage.

    References
    ----------
    Clopper, Pearson 1934, Biometrika 26:404-413, doi:10.1093/biomet/26.4.404.
    """
    if n == 0:
        return np.nan, np.nan
    tail = (1 - level) / 2
    low = stats.beta.ppf(tail, successes, n - successes + 1) if successes > 0 else 0.0
    high = stats.beta.isf(tail, successes + 1, n - successes) if successes < n else 1.0
    return float(low), float(high)


def bootstrap_weights(labels, seed: int, n: int = 2000, subjects=None) -> np.ndarray:
    """How often each scan counts in each of `n` resamples of subjects, drawn with replacement within each label.

    Parameters
    ----------
    labels : array_like of shape (scans,)
        1 patient, 0 control, the same for all scans of a subject.
    seed : int
        Of the draws.
    n : int
        Resamples.
    subjects : array_like of shape (scans,), optional
        Whose scan it is; all scans of a subject come and go together. By default each scan is a subject.

    Returns
    -------
    ndarray of shape (n, scans), int
    """
    rng, labels = np.random.default_rng(seed), np.asarray(labels)
    codes, first = (np.arange(len(labels)),) * 2 if subjects is None else _codes(subjects)
    counts = np.zeros((n, len(first)), int)
    for label in np.unique(labels):
        members = np.flatnonzero(labels[first] == label)
        counts[:, members] = rng.multinomial(
            len(members), np.full(len(members), 1 / len(members)), n
        )
    return counts[:, codes]


def bootstrap_interval(
    function, labels, scores, seed: int, n: int = 2000, level: float = 0.95, subjects=None
) -> tuple[float, float]:
    """Percentile interval of a score over subjects.

    Parameters
    ----------
    function : callable
        ``function(labels, scores, weights)`` with weights of shape (resamples, scans) gives resamples values: any measure of this module.
    labels, seed, n, subjects
        See `bootstrap_weights`.
    scores : array_like of shape (scans,) or (trials, scans)
        With trials the score is the mean over trials, all on the same resamples.
    level : float
        Coverage.
    """
    weights = bootstrap_weights(labels, seed, n, subjects)
    values = np.mean([function(labels, one, weights) for one in np.atleast_2d(scores)], axis=0)
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def trial_scores(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of one variant's trials side by side, scans without a label left out.

    Parameters
    ----------
    predictions : pandas.DataFrame
        trial, participant_id, label, score, and session_id where subjects have several scans; one variant.

    Returns
    -------
    labels : ndarray of shape (scans,), int
    subjects : ndarray of shape (scans,)
        participant_id, sorted.
    scores : ndarray of shape (trials, scans)
    """
    scans = ["participant_id", "session_id"] if "session_id" in predictions else ["participant_id"]
    table = predictions.dropna(subset=["label"]).fillna({"session_id": ""})
    wide = table.pivot(index=[*scans, "label"], columns="trial", values="score")
    labels, subjects = (
        wide.index.get_level_values(name).to_numpy() for name in ("label", "participant_id")
    )
    return labels.astype(int), subjects, wide.to_numpy().T


def score_table(
    predictions: pd.DataFrame, seed: int = 0, level: float = 0.95, n: int = 2000
) -> pd.DataFrame:
    """Score all variants: what the seed changes told apart from what the sample of subjects changes.

    Parameters
    ----------
    predictions : pandas.DataFrame
        variant, trial, participant_id, label, score (probability), and session_id where subjects have several scans; scans without a
        label are left out.
    seed, n : int
        Of the bootstrap; its resamples.
    level : float
        Coverage of the intervals.

    Returns
    -------
    pandas.DataFrame
        One row a variant, in the order given: variant, trials, patients, controls (subjects); for each of `MEASURES` the mean over
        trials (`auc`), the lowest and highest trial (`auc_min`, `auc_max`) and the interval of that mean over subjects (`auc_low`,
        `auc_high`); the same without minimum and maximum for the ensemble (mean score of all trials; `ensemble_auc`, ...).
        Intervals: AUC by bootstrap over subjects (see `auc_interval` where the groups are separated wholly), sensitivity and specificity
        exact, balanced accuracy from those two by MOVER (Zou, Donner 2008, Statistics in Medicine 27:1693, doi:10.1002/sim.3095).
        The exact ones take the mean of the trials as one trial: averaging seeds adds no subject.
    """
    rows = []
    for variant, table in predictions.dropna(subset=["label"]).groupby("variant", sort=False):
        labels, subjects, trials = trial_scores(table)
        controls, patients = (len(set(subjects[labels == label])) for label in (0, 1))
        row = {
            "variant": variant,
            "trials": len(trials),
            "patients": patients,
            "controls": controls,
        }
        for prefix, scores in ("", trials), ("ensemble_", trials.mean(0, keepdims=True)):
            for name, measure in MEASURES.items():
                values = np.array([measure(labels, one) for one in scores])
                row[prefix + name] = values.mean()
                if not prefix:
                    row |= {f"{name}_min": values.min(), f"{name}_max": values.max()}
            sides = np.array([row[prefix + "sensitivity"], row[prefix + "specificity"]])
            bounds = np.array(
                [
                    exact_interval(side * size, size, level)
                    for side, size in zip(sides, (patients, controls), strict=True)
                ]
            )
            half = np.sqrt(((bounds - sides[:, None]) ** 2).sum(0)) / 2
            low, high = bootstrap_interval(auc, labels, scores, seed, n, level, subjects)
            if low == high:
                low, high = _newcombe(row[prefix + "auc"], controls, patients, level)
            intervals = [(sides.mean() - half[0], sides.mean() + half[1]), *bounds, (low, high)]
            for name, (low, high) in zip(MEASURES, intervals, strict=True):
                row |= {f"{prefix}{name}_low": low, f"{prefix}{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def roc_band(labels, scores, points: int = 201) -> pd.DataFrame:
    """Mean ROC curve of trials, averaged vertically (at equal false positive rate).

    Parameters
    ----------
    labels : array_like of shape (n,)
        1 patient, 0 control.
    scores : array_like of shape (trials, n)
        One row a trial.
    points : int
        False positive rates, equally spaced from 0 to 1.

    Returns
    -------
    pandas.DataFrame
        false_positive_rate, mean, sd (over trials; NaN for one trial), trial_0, trial_1, ...

    References
    ----------
    Fawcett 2006, Pattern Recognition Letters 27:861-874, doi:10.1016/j.patrec.2005.10.010 (section 8.1).
    """
    grid = np.linspace(0, 1, points)
    curves = [
        np.interp(grid, *roc_curve(labels, one, drop_intermediate=False)[:2])
        for one in np.atleast_2d(scores)
    ]
    sd = np.std(curves, axis=0, ddof=1) if len(curves) > 1 else np.nan
    table = pd.DataFrame({"false_positive_rate": grid, "mean": np.mean(curves, axis=0), "sd": sd})
    return table.assign(**{f"trial_{trial}": curve for trial, curve in enumerate(curves)})


def paper_results() -> pd.DataFrame:
    """The paper's own numbers: section, variant, description, quantity, mean, sd, low, high, unit, source (msxai/paper_results.tsv)."""
    with resources.files(__package__).joinpath("paper_results.tsv").open(encoding="utf-8") as file:
        return pd.read_csv(file, sep="\t", comment="#")


def _wins(labels, scores) -> np.ndarray:
    """Shape (patients, controls): 1 where the patient's score is higher, .5 where they tie, 0 where it is lower."""
    return (np.sign(scores[labels == 1][:, None] - scores[labels == 0]) + 1) / 2


def _share(members, right, weights):
    weights = np.ones(len(members)) if weights is None else np.asarray(weights, float)
    with np.errstate(invalid="ignore"):
        return (weights * (members & right)).sum(-1) / (weights * members).sum(-1)


def _codes(subjects) -> tuple[np.ndarray, np.ndarray]:
    _, first, codes = np.unique(np.asarray(subjects), return_index=True, return_inverse=True)
    return codes, first


def _newcombe(area: float, controls: int, patients: int, level: float) -> tuple[float, float]:
    """Bounds of an AUC from its value and the group sizes alone."""
    z, size = stats.norm.isf((1 - level) / 2), (controls + patients) / 2 - 1

    def low(area):
        def excess(bound):
            spread = 1 + size * (1 - bound) / (2 - bound) + size * bound / (1 + bound)
            return area - bound - z * np.sqrt(bound * (1 - bound) * spread / (controls * patients))

        return optimize.brentq(excess, 0, area - 1e-9) if area > 1e-6 else 0.0

    return low(area), 1 - low(1 - area)
