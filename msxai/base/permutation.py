"""Permutation tests of all regions at once, and the false discovery rate.

Every region of a family enters the test. No region is selected first, because a test on the
subjects that selected it would be circular. The p values of a family are by single-step max-T
(Westfall, Young 1993, Resampling-Based Multiple Testing; Nichols, Holmes 2002, Hum Brain Mapp 15:1,
doi:10.1002/hbm.1058). It assumes only that subjects are exchangeable under the null hypothesis,
however the regions are correlated.
"""

from itertools import chain, combinations, product
from math import comb

import numpy as np
import pandas as pd
from scipy import stats

from msxai.base.errors import ParameterError

__all__ = ["correlations", "paired", "two_groups"]

_CHUNK = 2000  # permutations at a time
_SMALL = "int8"  # of labels and signs: 10,000 permutations of 10,000 subjects are 0.1 GB
_TIE = 1e-9  # statistics whose relative difference is smaller differ by rounding only
_COLUMNS = ["difference", "t", "p", "p_fwe", "p_fdr"]
_OF_CORRELATION = ["n", "r", "low", "high", "p"]
_FEWEST_SUBJECTS = 5  # of a correlation


def two_groups(values, labels, n: int = 10000, seed: int = 0) -> pd.DataFrame:
    """Compare patients and controls in each region by permuting the labels of subjects.

    Parameters
    ----------
    values : array_like of shape (subjects, regions)
        One row a subject; average the scans of a subject first.
    labels : array_like of shape (subjects,)
        1 patient, 0 control; at least two of each.
    n : int
        Number of permutations. If there are no more than `n` labellings, each is taken once and p
        is exact. Otherwise they are drawn, and the observed labelling counts as one of them
        (Phipson, Smyth 2010, doi:10.2202/1544-6115.1585).
    seed : int
        Seed of the draws.

    Returns
    -------
    pandas.DataFrame
        One row a region: difference (mean of patients minus mean of controls), t (Welch),
        p (two-sided), p_fwe (max-T), p_fdr (Benjamini, Hochberg 1995). A region without any spread
        has t = 0 and p = 1. A region in which a subject's value is not finite is not tested: its
        row is NaN, and the other regions are a family without it.

    Raises
    ------
    ParameterError
        Fewer than two patients or controls, or a label that is neither 1 nor 0.

    Examples
    --------
    >>> table = two_groups([[5.0], [6.0], [7.0], [1.0], [2.0], [3.0]], [1, 1, 1, 0, 0, 0])
    >>> table[["difference", "p"]].to_numpy().tolist()
    [[4.0, 0.1]]
    """
    all_values = np.asarray(values, float)
    labels = _checked_labels(labels)
    tested = np.isfinite(all_values).all(axis=0)
    values = all_values[:, tested]
    scaled = _scaled(values, centre=True)
    observed = _welch_t(scaled, labels[None])[0]

    def statistic(labellings):
        return _welch_t(scaled, labellings)

    table = _p_values(observed, statistic, _labellings(labels, n, seed))
    patient_mean = values[labels == 1].mean(axis=0)
    control_mean = values[labels == 0].mean(axis=0)
    table["difference"] = patient_mean - control_mean
    return _of_all_regions(table, tested)


def paired(values, n: int = 10000, seed: int = 0) -> pd.DataFrame:
    """Compare two conditions of the same subjects by flipping the signs of whole subjects.

    Parameters
    ----------
    values : array_like of shape (subjects, regions)
        Differences, one condition minus the other.
    n, seed
        As in `two_groups`; there are 2^subjects flips.

    Returns
    -------
    pandas.DataFrame
        As `two_groups`, with the paired t.

    Raises
    ------
    ParameterError
        Fewer than two subjects.
    """
    all_values = np.asarray(values, float)
    if len(all_values) < 2:
        raise ParameterError(
            "values", f"{len(all_values)} subjects", "at least two", "Leave the test out."
        )
    tested = np.isfinite(all_values).all(axis=0)
    values = all_values[:, tested]
    scaled = _scaled(values, centre=False)
    no_flip = np.ones((1, len(values)), int)
    observed = _one_sample_t(scaled, no_flip)[0]

    def statistic(signs):
        return _one_sample_t(scaled, signs)

    table = _p_values(observed, statistic, _sign_flips(len(values), n, seed))
    table["difference"] = values.mean(axis=0)
    return _of_all_regions(table, tested)


def _of_all_regions(table: pd.DataFrame, tested) -> pd.DataFrame:
    """Return a table of the tested regions with a row of NaN for each other region."""
    return table[_COLUMNS].set_index(np.flatnonzero(tested)).reindex(range(len(tested)))


def correlations(values, covariate, level: float = 0.95) -> pd.DataFrame:
    """Correlate each region with a covariate by Spearman's rank correlation, with its interval.

    Parameters
    ----------
    values : array_like of shape (subjects, regions)
    covariate : array_like of shape (subjects,) or (subjects, regions)
        NaN where unknown: those subjects are left out.
    level : float
        Coverage of the interval: Fisher's z with the variance (1 + r^2 / 2) / (n - 3)
        (Bonett, Wright 2000, Psychometrika 65:23, doi:10.1007/BF02294183).

    Returns
    -------
    pandas.DataFrame
        One row a region: n, r, low, high, p (two-sided), p_fdr (Benjamini-Hochberg). NaN where
        fewer than five subjects have both values or one of the two does not vary.
    """
    values = np.asarray(values, float)
    covariates = np.reshape(np.asarray(covariate, float), (len(values), -1))
    covariates = np.broadcast_to(covariates, values.shape)
    rows = []
    for region in range(values.shape[1]):
        rows.append(_correlation(values[:, region], covariates[:, region], level))
    table = pd.DataFrame(rows, columns=_OF_CORRELATION)
    table["p_fdr"] = _false_discovery_rate(table["p"].to_numpy(float))
    return table


def _correlation(region_values, covariate, level: float) -> dict:
    """Return one row of `correlations`."""
    complete = np.isfinite(region_values) & np.isfinite(covariate)
    x = region_values[complete]
    y = covariate[complete]
    row = {"n": len(x), "r": np.nan, "low": np.nan, "high": np.nan, "p": np.nan}
    if len(x) < _FEWEST_SUBJECTS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return row
    r, p = stats.spearmanr(x, y)
    variance = (1 + r**2 / 2) / (len(x) - 3)
    half_width = stats.norm.isf((1 - level) / 2) * np.sqrt(variance)
    z = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15))
    row["r"] = r
    row["low"] = np.tanh(z - half_width)
    row["high"] = np.tanh(z + half_width)
    row["p"] = p
    return row


def _checked_labels(labels) -> np.ndarray:
    """Return the labels as whole numbers, if there are two patients and two controls."""
    labels = np.asarray(labels)
    n_patients = int((labels == 1).sum())
    n_controls = int((labels == 0).sum())
    n_others = len(labels) - n_patients - n_controls
    if n_others or min(n_patients, n_controls) < 2:
        raise ParameterError(
            "labels",
            f"{n_patients} of patients (1), {n_controls} of controls (0), {n_others} others",
            "at least two of each group, and no other label",
            "Leave subjects without a group out. Leave the test out where a group is too small.",
        )
    return labels.astype(int)


def _labellings(labels, n: int, seed: int) -> np.ndarray:
    """Return the labellings to compare with the observed one, one a row."""
    n_patients = int(labels.sum())
    if comb(len(labels), n_patients) > n:
        copies = np.tile(labels.astype(_SMALL), (n, 1))
        return np.random.default_rng(seed).permuted(copies, axis=1)
    choices = combinations(range(len(labels)), n_patients)
    patients = np.fromiter(chain.from_iterable(choices), int).reshape(-1, n_patients)
    labellings = np.zeros((len(patients), len(labels)), int)
    np.put_along_axis(labellings, patients, 1, axis=1)
    differs = (labellings != labels).any(axis=1)
    return labellings[differs]


def _sign_flips(n_subjects: int, n: int, seed: int) -> np.ndarray:
    """Return the signs to compare with no flip at all, one row a flip."""
    if 2**n_subjects > n:
        rng = np.random.default_rng(seed)
        signs = np.empty((n, n_subjects), _SMALL)
        for start in range(0, n, _CHUNK):
            chunk = signs[start : start + _CHUNK]
            chunk[:] = rng.choice([1, -1], chunk.shape)
        return signs
    flips = list(product([1, -1], repeat=n_subjects))
    return np.array(flips[1:])  # the first has no flip


def _scaled(values, centre: bool) -> np.ndarray:
    """Return each region in units of its own root mean square, its mean removed if `centre`.

    Products of large and small numbers would lose digits. Squares of very large or small numbers
    would be infinite or 0, so a power of 2 is divided out first, which changes no digit.
    """
    _, exponent = np.frexp(np.abs(values).max(axis=0))
    values = np.ldexp(values, -exponent)
    shifted = values - values.mean(axis=0) if centre else values
    magnitude = np.sqrt((shifted**2).mean(axis=0))
    constant = magnitude <= 1e-12 * np.abs(values).max(axis=0)
    return np.where(constant, 0, shifted / np.where(constant, 1, magnitude))


def _welch_t(values, labellings) -> np.ndarray:
    """Return Welch's t of every labelling (a row of `labellings`) and region."""
    patient_mean, patient_error = _mean_and_squared_error(values, labellings)
    control_mean, control_error = _mean_and_squared_error(values, 1 - labellings)
    return _ratio(patient_mean - control_mean, np.sqrt(patient_error + control_error))


def _mean_and_squared_error(values, members) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the squared standard error of each group (a row of `members`)."""
    n = members.sum(axis=1)[:, None]
    mean = members @ values / n
    variance = members @ values**2 / n - mean**2
    return mean, np.maximum(variance, 0) / (n - 1)


def _one_sample_t(values, signs) -> np.ndarray:
    """Return the one-sample t of every flip (a row of `signs`) and region."""
    n = len(values)
    mean = signs @ values / n
    variance = np.maximum((values**2).mean(axis=0) - mean**2, 0)
    return _ratio(mean, np.sqrt(variance / (n - 1)))


def _ratio(difference, error) -> np.ndarray:
    """Return difference / error: 0 without a difference; without error large, not infinite."""
    ratio = difference / np.maximum(error, 1e-9)
    return np.where(np.abs(difference) < 1e-12, 0, ratio)


def _p_values(observed, statistic, permutations) -> pd.DataFrame:
    """Count how often the observed statistics are reached, by themselves included.

    Parameters
    ----------
    observed : ndarray of shape (regions,)
    statistic : callable
        Takes rows of `permutations`, returns shape (rows, regions).
    permutations : ndarray of shape (permutations, subjects)
    """
    threshold = np.abs(observed) * (1 - _TIE)
    reached = np.ones(len(observed))
    reached_by_maximum = np.ones(len(observed))
    for start in range(0, len(permutations), _CHUNK):
        permuted = np.abs(statistic(permutations[start : start + _CHUNK]))
        maximum = permuted.max(axis=1, initial=0)[:, None]
        reached += (permuted >= threshold).sum(axis=0)
        reached_by_maximum += (maximum >= threshold).sum(axis=0)
    total = len(permutations) + 1
    p = reached / total
    columns = {"t": observed, "p": p, "p_fwe": reached_by_maximum / total}
    return pd.DataFrame(columns | {"p_fdr": _false_discovery_rate(p)})


def _false_discovery_rate(p) -> np.ndarray:
    """Adjust p by Benjamini-Hochberg over all p that are not NaN."""
    finite = np.isfinite(p)
    adjusted = np.full(len(p), np.nan)
    if finite.any():
        adjusted[finite] = stats.false_discovery_control(p[finite])
    return adjusted
