"""Do heatmaps find the lesions? Measures of one map against one lesion mask, and their account over subjects.

Each measure takes the map of one subject and is never pooled over the voxels of several. R+ is the map without its negative part, G the
lesion mask. Where the order of equal voxels matters the value is the mean over all orders, so a constant map scores chance.

rma          relevance mass accuracy, sum(R+ in G) / sum(R+) (Arras, Osman, Samek 2022, doi:10.1016/j.inffus.2021.11.008).
rra          relevance rank accuracy, share of the |G| highest voxels that lie in G (ibid.).
auprc        average precision of R+ for G over the voxels of the brain.
best_dice    largest Dice of {R+ >= t} and G over all thresholds t > 0, inside the brain.
pointing     1 where the maximum lies in G or touches it (Zhang et al. 2018, doi:10.1007/s11263-017-1059-x).
sensitivity  lesions hit while at most one mark misses: marks are the local maxima of R+ (of a plateau one voxel, the nearest to its
             centre), highest first; a mark hits the lesions that it lies in or touches (free-response ROC; Chakraborty 1989,
             doi:10.1118/1.596358).
"""

from functools import cached_property

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from msxai.base import statistics
from msxai.base.errors import ParameterError
from msxai.base.parameters import one_of
from msxai.data.images import NEIGHBOURHOOD_26


def positive(relevance) -> np.ndarray:
    """R+: relevance without its negative part, float64.

    Raises
    ------
    ParameterError
        A value that is no number.
    """
    relevance = np.asarray(relevance, float)
    if not np.isfinite(relevance).all():
        count = np.count_nonzero(~np.isfinite(relevance))
        mend = "Look at the network's output and at the rule."
        raise ParameterError(
            "relevance", f"{count} voxels that are no number", "finite values", mend
        )
    return np.maximum(relevance, 0)


class Target:
    """What maps of one scan should find; what all of its maps need is computed once.

    Parameters
    ----------
    lesions, brain : ndarray of bool, shape (X, Y, Z)
        `brain` None: the whole grid.
    """

    def __init__(self, lesions, brain=None):
        self.lesions = np.asarray(lesions, bool)
        self.brain = np.ones(self.lesions.shape, bool) if brain is None else np.asarray(brain, bool)
        self.truth, self.size = self.lesions[self.brain], int(self.lesions.sum())
        self._near = {}

    def near(self, tolerance: int) -> np.ndarray:
        """The lesions and what lies within `tolerance` voxels of them."""
        if tolerance not in self._near:
            self._near[tolerance] = _grown(self.lesions, tolerance)
        return self._near[tolerance]

    @cached_property
    def labels(self) -> tuple[np.ndarray, int]:
        """Number of each voxel's lesion (26-connected), 0 outside; and how many there are."""
        return ndimage.label(self.lesions, NEIGHBOURHOOD_26)


def rma(relevance, lesions, brain=None) -> float:
    """Relevance mass accuracy; NaN for a map without positive relevance. Parameters as in `measure`; relevance outside the brain counts."""
    return _rma(positive(relevance), Target(lesions, brain))


def rra(relevance, lesions, brain=None) -> float:
    """Relevance rank accuracy over the whole grid; parameters as in `measure`."""
    return _rra(positive(relevance), Target(lesions, brain))


def auprc(relevance, lesions, brain) -> float:
    """Average precision inside the brain, as scikit-learn defines it; parameters as in `measure`."""
    target = Target(lesions, brain)
    return _auprc_and_dice(positive(relevance), target)[0]


def best_dice(relevance, lesions, brain) -> float:
    """Dice at the map's own best threshold above 0; 0 for a map without positive relevance. Parameters as in `measure`."""
    target = Target(lesions, brain)
    return _auprc_and_dice(positive(relevance), target)[1]


def pointing(relevance, lesions, brain=None, tolerance: int = 1) -> float:
    """Pointing game; of several maxima the share that lies in G, `tolerance` voxels allowed. Parameters as in `measure`."""
    return _pointing(positive(relevance), Target(lesions, brain), tolerance)


def lesion_sensitivity(
    relevance, lesions, brain=None, false_positives: int = 1, tolerance: int = 1
) -> float:
    """Share of lesions (26-connected) hit by the marks above the one that would be the next false positive; parameters as in `measure`."""
    return _sensitivity(positive(relevance), Target(lesions, brain), false_positives, tolerance)


def _rma(mass, target) -> float:
    total = mass.sum()
    return float(mass[target.lesions].sum() / total) if total > 0 else np.nan


def _rra(mass, target) -> float:
    high = mass[mass > 0]
    border = np.partition(high, -target.size)[-target.size] if len(high) >= target.size else 0.0
    above, equal = mass > border, mass == border
    hits = (
        target.lesions[above].sum()
        + target.lesions[equal].sum() * (target.size - above.sum()) / equal.sum()
    )
    return float(hits / target.size)


def _auprc_and_dice(mass, target) -> tuple[float, float]:
    """Both from one sorting; equal voxels come together or not at all."""
    values, total = mass[target.brain], target.truth.sum()
    high = values > 0  # the others are equal: they come last, all at once
    order = np.argsort(-values[high])
    ordered, hits = values[high][order], np.cumsum(target.truth[high][order])
    last = (
        np.flatnonzero(np.append(ordered[1:] < ordered[:-1], True))
        if len(ordered)
        else np.zeros(0, int)
    )
    found, counts = hits[last], last + 1
    dice = 2 * found / (counts + total)
    found, counts = np.append(found, total), np.append(counts, len(values))
    return float(np.sum(np.diff(found, prepend=0) / total * found / counts)), float(
        dice.max(initial=0.0)
    )


def _pointing(mass, target, tolerance: int = 1) -> float:
    top = mass.max()
    return float(target.near(tolerance)[mass == top].mean()) if top > 0 else 0.0


def _sensitivity(mass, target, false_positives: int = 1, tolerance: int = 1) -> float:
    places = _marks(mass)
    if not len(places):
        return 0.0
    labels, count = target.labels
    heights, place = mass[tuple(places.T)], tuple(places.T)
    missed = np.sort(heights[~target.near(tolerance)[place]])[::-1]
    limit = missed[false_positives] if len(missed) > false_positives else 0.0
    kept, around = places[heights > limit] + tolerance, np.pad(labels, tolerance)
    steps = np.indices((2 * tolerance + 1,) * 3).reshape(3, -1).T - tolerance
    hit = set().union(*(around[tuple((kept + step).T)] for step in steps)) - {0}
    return float(len(hit) / count)


MEASURES = {
    "rma": rma,
    "rra": rra,
    "auprc": auprc,
    "best_dice": best_dice,
    "pointing": pointing,
    "sensitivity": lesion_sensitivity,
}
"""Name to function, in the order of the league table."""


def measure(relevance, lesions, brain, target: Target | None = None, names=None) -> dict:
    """Measures of one map: all of `MEASURES`, or those that are named.

    Parameters
    ----------
    relevance : ndarray of shape (X, Y, Z)
        Map of any unit; high where it points.
    lesions, brain : ndarray of bool, same shape
        What it should find, and where it may look.
    target : Target, optional
        Of the same masks; saves time where several maps of a scan are measured.
    names : sequence of str, optional
        Keys of `MEASURES`.

    Returns
    -------
    dict
        Name to value; with them `prevalence`, the lesions' share of the brain, which is chance for rma, rra and auprc, and `positive`,
        sum(R+).

    Raises
    ------
    ParameterError
        No lesion in the mask, shapes that differ, or values that are no numbers.
    """
    relevance, lesions, brain = (
        np.asarray(relevance),
        np.asarray(lesions, bool),
        np.asarray(brain, bool),
    )
    if not relevance.shape == lesions.shape == brain.shape:
        raise ParameterError(
            "relevance",
            f"shapes {relevance.shape}, {lesions.shape}, {brain.shape}",
            "one grid for all",
            "Resample first.",
        )
    if not (lesions & brain).any():
        raise ParameterError(
            "lesions",
            "an empty mask",
            "a lesion inside the brain",
            "Leave out subjects without lesions.",
        )
    mass, target = positive(relevance), target or Target(lesions, brain)
    names = [one_of("names", name, MEASURES) for name in names or MEASURES]
    alone = {"rma": _rma, "rra": _rra, "pointing": _pointing, "sensitivity": _sensitivity}
    found = dict(
        zip(
            ("auprc", "best_dice"),
            _auprc_and_dice(mass, target) if {"auprc", "best_dice"} & {*names} else (),
            strict=False,
        )
    )
    found = {name: found[name] if name in found else alone[name](mass, target) for name in names}
    return found | {"prevalence": float(lesions[brain].mean()), "positive": float(mass.sum())}


def decoys(relevance, lesions, decoys, brain) -> dict:
    """Does a map take bright spots that are no lesions for lesions?

    Parameters
    ----------
    relevance : ndarray of shape (X, Y, Z)
    lesions, decoys, brain : ndarray of bool, same shape
        `decoys` as from `controlled_pairs.decoys`; a voxel of a lesion is no decoy.

    Returns
    -------
    dict
        decoy_auc: how often R+ of a lesion's voxel is above that of a decoy's voxel of the same scan, ties counting half (area under the
        ROC curve): 1 where lesions stand above all decoys, .5 where the map cannot tell them apart; NaN without lesions or decoys.
        decoy_ratio: the decoys' share of R+ divided by their share of the brain, 1 for a map that knows nothing; NaN without decoys or R+.
    """
    mass, brain = positive(relevance), np.asarray(brain, bool)
    lesions = np.asarray(lesions, bool) & brain
    decoys = np.asarray(decoys, bool) & brain & ~lesions
    inside, outside, total = mass[lesions], mass[decoys], mass.sum()
    both = len(inside) * len(outside)
    area = (
        float(stats.mannwhitneyu(inside, outside, method="asymptotic").statistic / both)
        if both
        else np.nan
    )
    share = (
        float(outside.sum() / total / decoys[brain].mean())
        if len(outside) and total > 0
        else np.nan
    )
    return {"decoy_auc": area, "decoy_ratio": share}


def dice_at(relevance, lesions, brain, threshold: float) -> float:
    """Dice of {relevance >= threshold} and G inside the brain, at a threshold that was fixed beforehand."""
    found = (np.asarray(relevance) >= threshold) & brain
    return float(2 * (found & lesions).sum() / max(found.sum() + (lesions & brain).sum(), 1))


def mean_interval(
    values, seed: int = 0, n: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean over subjects with its percentile bootstrap interval; subjects without a value (NaN) are left out.

    Parameters
    ----------
    values : array_like of shape (subjects,)
        One value a subject.
    seed, n, level
        See `msxai.base.statistics.bootstrap_interval`.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan, np.nan
    weights = statistics.bootstrap_weights(np.zeros(len(values), int), seed, n)
    low, high = np.quantile(weights @ values / len(values), [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), float(low), float(high)


def correlation_interval(
    first, second, seed: int = 0, n: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """Pearson's correlation over subjects with its percentile bootstrap interval; parameters as in `mean_interval`."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    weights = statistics.bootstrap_weights(np.zeros(len(first), int), seed, n) / len(first)

    def moment(values):
        return weights @ values

    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = moment(first * second) - moment(first) * moment(second)
        spread = (moment(first**2) - moment(first) ** 2) * (moment(second**2) - moment(second) ** 2)
        drawn = covariance / np.sqrt(spread)
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(stats.pearsonr(first, second).statistic), float(low), float(high)


def above_zero(values) -> float:
    """One-sided p of Wilcoxon's signed-rank test over subjects; NaN for fewer than six values or none that differs from 0."""
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    return (
        float(stats.wilcoxon(values, alternative="greater").pvalue)
        if len(values) > 5 and values.any()
        else np.nan
    )


def consistency(first, second, brain) -> float:
    """Spearman's rank correlation of two maps over the voxels of the brain (as of two seeds)."""
    return float(stats.spearmanr(np.asarray(first)[brain], np.asarray(second)[brain]).statistic)


def class_contrast(patients, controls, brain) -> float:
    """Pearson's correlation of the mean map of patients and that of controls over the voxels of `brain`: near 1, the maps tell no class.

    Parameters
    ----------
    patients, controls : ndarray of shape (X, Y, Z)
        Mean maps.
    brain : ndarray of bool, same shape
    """
    return float(
        stats.pearsonr(
            np.asarray(patients)[brain].astype(float), np.asarray(controls)[brain].astype(float)
        ).statistic
    )


def league(scores: pd.DataFrame, baselines, seed: int = 0, n: int = 2000) -> pd.DataFrame:
    """The league table: each measure's mean over subjects with its interval, and the paired difference to the strongest baseline.

    Parameters
    ----------
    scores : pandas.DataFrame
        map, participant_id, and a column for each measure; one row a map and scan, the same scans for every map.
    baselines : sequence of str
        Which maps are baselines. The strongest is decided measure by measure: the highest mean.
    seed, n : int
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        One row a map, best auprc first: map, baseline (bool), subjects; for each measure its mean, `_low`, `_high`; and
        `_difference`, `_difference_low`, `_difference_high`, with `_strongest` the baseline it is taken to (NaN for baselines).
    """
    names = [name for name in MEASURES if name in scores]
    wide = {
        name: scores.pivot_table(name, "participant_id", "map", dropna=False) for name in names
    }  # visits of a subject are averaged
    baselines = [name for name in baselines if name in set(scores["map"])]
    rows = []
    for one in scores["map"].unique():
        row = {"map": one, "baseline": one in baselines, "subjects": len(wide[names[0]])}
        for name in names:
            for suffix, value in zip(
                ("", "_low", "_high"), mean_interval(wide[name][one], seed, n), strict=True
            ):
                row[name + suffix] = value
            if not baselines:
                continue
            strongest = wide[name][baselines].mean().idxmax()
            paired = wide[name][one] - wide[name][strongest] if one not in baselines else [np.nan]
            for suffix, value in zip(
                ("", "_low", "_high"), mean_interval(paired, seed, n), strict=True
            ):
                row[f"{name}_difference{suffix}"] = value
            row[f"{name}_strongest"] = strongest if one not in baselines else ""
        rows.append(row)
    return pd.DataFrame(rows).sort_values(
        "auprc" if "auprc" in names else names[0], ascending=False, ignore_index=True
    )


def _marks(values) -> np.ndarray:
    """Local maxima above 0 among 27 voxels, shape (marks, 3); of a plateau the voxel nearest to its centre, or a flat map would hit all."""
    peaks, count = ndimage.label(
        (values == ndimage.maximum_filter(values, 3, mode="constant")) & (values > 0),
        NEIGHBOURHOOD_26,
    )
    voxels = np.argwhere(peaks)
    which = peaks[tuple(voxels.T)]
    sizes = np.maximum(np.bincount(which, minlength=count + 1), 1)
    centres = np.stack(
        [np.bincount(which, voxels[:, axis], count + 1) / sizes for axis in range(3)], axis=1
    )
    order = np.lexsort((((voxels - centres[which]) ** 2).sum(1), which))
    _, first = np.unique(which[order], return_index=True)
    return voxels[order][first]


def box(mask, margin: int) -> tuple:
    """Slices of the smallest box that holds a mask, `margin` voxels wider where the grid goes on."""
    (found,) = ndimage.find_objects(np.asarray(mask, "uint8"))
    return tuple(slice(max(one.start - margin, 0), one.stop + margin) for one in found)


def _grown(mask, voxels: int) -> np.ndarray:
    """A mask and what lies within `voxels` of it, corners included."""
    return (
        ndimage.binary_dilation(mask, NEIGHBOURHOOD_26, voxels)
        if voxels
        else np.asarray(mask, bool)
    )
