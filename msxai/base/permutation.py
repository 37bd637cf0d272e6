"""Is a region really different? Permutation of subjects with the maximum over all regions, and the false discovery rate.

Every region of a family enters, none is chosen first: a test on the subjects that chose the region would find what it was made to find.
The p values of a family are by single-step max-T (Westfall, Young 1993, Resampling-Based Multiple Testing; Nichols, Holmes 2002, Hum Brain
Mapp 15:1, doi:10.1002/hbm.1058), which asks only that subjects are exchangeable where no region differs, whatever regions have in common.
"""

from itertools import chain, combinations, product
from math import comb

import numpy as np
import pandas as pd
from scipy import stats

CHUNK = 2000  # permutations at a time
TIE = 1e-9  # two statistics that differ by less, relative to the larger, are the same but for rounding


def two_groups(values, labels, n: int = 10000, seed: int = 0) -> pd.DataFrame:
    """Compare patients and controls, region by region, by permuting who is a patient.

    Parameters
    ----------
    values : array_like of shape (subjects, regions)
        One row a subject; subjects with several scans are averaged first.
    labels : array_like of shape (subjects,)
        1 patient, 0 control; at least two of each.
    n : int
        Permutations. Where there are no more than that in all, each is taken once and p is exact; else they are drawn, and the observed
        labelling counts as one of them (Phipson, Smyth 2010, doi:10.2202/1544-6115.1585).
    seed : int
        Of the draws.

    Returns
    -------
    pandas.DataFrame
        One row a region: difference (patients less controls), t (Welch), p (two-sided), p_fwe (max-T), p_fdr (Benjamini, Hochberg
        1995). A region without any spread has t = 0 and p = 1.
    """
    values, labels = np.asarray(values, float), np.asarray(labels, int)
    scaled = _scaled(values)
    patients = int(labels.sum())
    if comb(len(labels), patients) <= n:
        chosen = np.fromiter(
            chain.from_iterable(combinations(range(len(labels)), patients)), int
        ).reshape(-1, patients)
        drawn = np.zeros((len(chosen), len(labels)), int)
        np.put_along_axis(drawn, chosen, 1, axis=1)
        drawn = drawn[(drawn != labels).any(axis=1)]
    else:
        drawn = np.random.default_rng(seed).permuted(np.tile(labels, (n, 1)), axis=1)
    table = _counted(_welch(scaled, labels[None])[0], lambda part: _welch(scaled, part), drawn)
    difference = values[labels == 1].mean(0) - values[labels == 0].mean(0)
    return table.assign(difference=difference)[["difference", "t", "p", "p_fwe", "p_fdr"]]


def paired(values, n: int = 10000, seed: int = 0) -> pd.DataFrame:
    """Compare two conditions of the same subjects by flipping the signs of whole subjects.

    Parameters
    ----------
    values : array_like of shape (subjects, regions)
        Differences, one condition less the other.
    n, seed
        As in `two_groups`; there are 2^subjects flips.

    Returns
    -------
    pandas.DataFrame
        As `two_groups`, with the paired t.
    """
    values = np.asarray(values, float)
    scaled = _scaled(values, centre=False)
    if 2 ** len(values) <= n:
        signs = np.array(list(product([1, -1], repeat=len(values))))[1:]
    else:
        signs = np.random.default_rng(seed).choice([1, -1], (n, len(values)))
    ones = np.ones((1, len(values)), int)
    table = _counted(_one_sample(scaled, ones)[0], lambda part: _one_sample(scaled, part), signs)
    return table.assign(difference=values.mean(0))[["difference", "t", "p", "p_fwe", "p_fdr"]]


def correlations(values, covariate, level: float = 0.95) -> pd.DataFrame:
    """Spearman's rank correlation of each region with a covariate, with its interval.

    Parameters
    ----------
    values : array_like of shape (subjects, regions)
    covariate : array_like of shape (subjects,) or (subjects, regions)
        NaN where unknown: those subjects are left out.
    level : float
        Coverage of the interval: Fisher's z with the variance (1 + r^2 / 2) / (n - 3) (Bonett, Wright 2000, Psychometrika 65:23,
        doi:10.1007/BF02294183).

    Returns
    -------
    pandas.DataFrame
        One row a region: n, r, low, high, p (two-sided), p_fdr (Benjamini-Hochberg). NaN where fewer than five subjects are left or one
        of the two does not vary.
    """
    values = np.asarray(values, float)
    covariates = np.broadcast_to(
        np.reshape(np.asarray(covariate, float), (len(values), -1)), values.shape
    )
    rows = []
    for value, other in zip(values.T, covariates.T, strict=True):
        known = np.isfinite(value) & np.isfinite(other)
        row = {"n": int(known.sum()), "r": np.nan, "low": np.nan, "high": np.nan, "p": np.nan}
        if row["n"] >= 5 and np.ptp(value[known]) > 0 and np.ptp(other[known]) > 0:
            r, p = stats.spearmanr(value[known], other[known])
            half = stats.norm.isf((1 - level) / 2) * np.sqrt((1 + r**2 / 2) / (row["n"] - 3))
            z = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15))
            row |= {"r": r, "low": np.tanh(z - half), "high": np.tanh(z + half), "p": p}
        rows.append(row)
    table = pd.DataFrame(rows)
    return table.assign(p_fdr=_fdr(table["p"].to_numpy()))


def _scaled(values, centre: bool = True) -> np.ndarray:
    """Each region in units of its own size: products of large and small numbers would lose digits."""
    moved = values - values.mean(0) if centre else values
    size = np.sqrt((moved**2).mean(0))
    still = size <= 1e-12 * np.abs(values).max(0)
    return np.where(still, 0, moved / np.where(still, 1, size))


def _welch(values, labels) -> np.ndarray:
    """Welch's t of every labelling (rows of `labels`) and region."""
    squares, parts = values**2, []
    for group in labels, 1 - labels:
        n = group.sum(1)[:, None]
        mean = group @ values / n
        parts.append((mean, np.maximum(group @ squares / n - mean**2, 0) / (n - 1)))
    return _ratio(parts[0][0] - parts[1][0], np.sqrt(parts[0][1] + parts[1][1]))


def _one_sample(values, signs) -> np.ndarray:
    mean = signs @ values / len(values)
    return _ratio(mean, np.sqrt(np.maximum((values**2).mean(0) - mean**2, 0) / (len(values) - 1)))


def _ratio(difference, error) -> np.ndarray:
    """0 where nothing differs; very large, not infinite, where the groups differ without any spread."""
    return np.where(np.abs(difference) < 1e-12, 0, difference / np.maximum(error, 1e-9))


def _counted(observed, statistic, drawn) -> pd.DataFrame:
    """How often the observed statistics are reached by those of `drawn` and by themselves."""
    size, above, above_max = (
        np.abs(observed) * (1 - TIE),
        np.ones(len(observed)),
        np.ones(len(observed)),
    )
    for start in range(0, len(drawn), CHUNK):
        found = np.abs(statistic(drawn[start : start + CHUNK]))
        above += (found >= size).sum(0)
        above_max += (found.max(1)[:, None] >= size).sum(0)
    p, family = above / (len(drawn) + 1), above_max / (len(drawn) + 1)
    return pd.DataFrame({"t": observed, "p": p, "p_fwe": family, "p_fdr": _fdr(p)})


def _fdr(p) -> np.ndarray:
    """Benjamini-Hochberg over the p that are known."""
    out, known = np.full(len(p), np.nan), np.isfinite(p)
    if known.any():
        out[known] = stats.false_discovery_control(p[known])
    return out
