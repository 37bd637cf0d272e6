"""Do heatmaps find the lesions? Measures of one map against one lesion mask, and over subjects.

Each measure takes the map of one scan; voxels of several scans are never pooled. R+ is the map
without its negative part, G the lesion mask. Where several voxels have the same value, a measure
is the mean over all orders of them, so that a constant map scores chance.

rma
    Relevance mass accuracy, sum(R+ in G) / sum(R+)
    (Arras, Osman, Samek 2022, doi:10.1016/j.inffus.2021.11.008).
rra
    Relevance rank accuracy, the share of the n highest voxels that lie in G, with n the size of G
    (same source).
auprc
    Average precision of R+ for G over the voxels of the brain.
best_dice
    Largest Dice of {R+ >= t} and G over all thresholds t > 0, inside the brain.
pointing
    1 where the maximum lies in G or touches it
    (Zhang et al. 2018, doi:10.1007/s11263-017-1059-x).
sensitivity
    Share of lesions that are hit while at most one mark misses. Marks are the local maxima of R+,
    highest first, one for each plateau (the voxel nearest to its centre). A mark hits the lesions
    that it lies in or touches (free-response ROC; Chakraborty 1989, doi:10.1118/1.596358).
"""

from functools import cached_property

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from msxai.base import statistics
from msxai.base.errors import ParameterError
from msxai.base.parameters import one_of
from msxai.data.images import NEIGHBOURHOOD_26

__all__ = [
    "MEASURES",
    "Target",
    "above_zero",
    "box",
    "class_contrast",
    "consistency",
    "correlation_interval",
    "decoys",
    "dice_at",
    "mean_interval",
    "measure",
    "positive",
    "rank",
]

MEASURES = ("rma", "rra", "auprc", "best_dice", "pointing", "sensitivity")
"""In the order of the league table."""


def positive(relevance) -> np.ndarray:
    """Return R+: relevance without its negative part, float64.

    Raises
    ------
    ParameterError
        A value is not finite.
    """
    relevance = np.asarray(relevance, float)
    finite = np.isfinite(relevance)
    if not finite.all():
        count = np.count_nonzero(~finite)
        raise ParameterError(
            "relevance",
            f"{count} voxels that are not finite",
            "finite values",
            "Check the network's output and the rule.",
        )
    return np.maximum(relevance, 0)


class Target:
    """What the maps of one scan should find. What all maps of the scan need is computed once.

    Parameters
    ----------
    lesions : ndarray of bool, shape (X, Y, Z)
    brain : ndarray of bool, same shape, optional
        By default the whole grid.

    Attributes
    ----------
    truth : ndarray of bool, shape (voxels of the brain,)
        Which voxels of the brain are lesions.
    size : int
        Number of lesion voxels.
    """

    def __init__(self, lesions, brain=None):
        self.lesions = np.asarray(lesions, bool)
        if brain is None:
            brain = np.ones(self.lesions.shape)
        self.brain = np.asarray(brain, bool)
        _check_grid("brain", self.brain.shape, self.lesions.shape)
        self.truth = self.lesions[self.brain]
        self.size = int(self.lesions.sum())
        self._near = {}

    def near(self, tolerance: int) -> np.ndarray:
        """Return the lesions and what lies within `tolerance` voxels of them, corners included."""
        if tolerance == 0:
            return self.lesions
        if tolerance not in self._near:
            dilated = ndimage.binary_dilation(self.lesions, NEIGHBOURHOOD_26, tolerance)
            self._near[tolerance] = dilated
        return self._near[tolerance]

    @cached_property
    def labels(self) -> tuple[np.ndarray, int]:
        """Number of each voxel's lesion (26-connected, 0 outside), and the count of lesions."""
        return ndimage.label(self.lesions, NEIGHBOURHOOD_26)


def measure(
    relevance,
    lesions,
    brain=None,
    target: Target | None = None,
    names=None,
    *,
    tolerance: int = 1,
    false_positives: int = 1,
) -> dict:
    """Measure one map: all of `MEASURES`, or those in `names`.

    Parameters
    ----------
    relevance : ndarray of shape (X, Y, Z)
        Map in any unit.
    lesions : ndarray of bool, same shape
        What the map should find.
    brain : ndarray of bool, same shape, optional
        Where auprc and best_dice look; by default the whole grid. Relevance outside the brain
        counts in the other measures.
    target : Target, optional
        Of the same masks; saves time where several maps of a scan are measured.
    names : sequence of str, optional
        Of `MEASURES`.
    tolerance : int
        Voxels that pointing and sensitivity allow between a maximum and a lesion.
    false_positives : int
        Marks of sensitivity that may miss.

    Returns
    -------
    dict
        Name to value. A map without positive relevance has an `rma` of 0, because it marks no
        lesion. In addition `prevalence`, the lesions' share of the brain, which is the chance level
        of rma, rra and auprc; and `positive`, sum(R+).

    Raises
    ------
    ParameterError
        No lesion in the mask, different shapes, or values that are not finite.

    Examples
    --------
    >>> measure([0.0, 3.0, 1.0, -2.0], [False, True, False, False], names=["rma"])
    {'rma': 0.75, 'prevalence': 0.25, 'positive': 4.0}
    """
    target = target or Target(lesions, brain)
    _check_grid("relevance", np.shape(relevance), target.lesions.shape)
    if not target.truth.any():
        raise ParameterError(
            "lesions",
            "an empty mask",
            "a lesion inside the brain",
            "Leave out subjects without lesions.",
        )
    mass = positive(relevance)
    names = [one_of("names", name, MEASURES) for name in names or MEASURES]
    values = {}
    if "rma" in names:
        values["rma"] = _rma(mass, target)
    if "rra" in names:
        values["rra"] = _rra(mass, target)
    if "auprc" in names or "best_dice" in names:
        values["auprc"], values["best_dice"] = _auprc_and_dice(mass, target)
    if "pointing" in names:
        values["pointing"] = _pointing(mass, target, tolerance)
    if "sensitivity" in names:
        values["sensitivity"] = _sensitivity(mass, target, false_positives, tolerance)
    values = {name: values[name] for name in names}
    values["prevalence"] = float(target.truth.mean())
    values["positive"] = float(mass.sum())
    return values


def _check_grid(name: str, shape: tuple, expected: tuple) -> None:
    if shape != expected:
        raise ParameterError(
            name,
            f"shape {shape}",
            f"one grid for all, that of the lesions {expected}",
            "Resample the map and the masks to one grid.",
        )


def _rma(mass, target: Target) -> float:
    total = mass.sum()
    if total == 0:
        return 0.0
    return float(mass[target.lesions].sum() / total)


def _rra(mass, target: Target) -> float:
    positives = mass[mass > 0]
    border = 0.0
    if len(positives) >= target.size:
        border = np.partition(positives, -target.size)[-target.size]
    above = mass > border
    equal = mass == border
    # Of the voxels at the border, each is among the highest with the same probability.
    probability = (target.size - above.sum()) / equal.sum()
    hits = target.lesions[above].sum() + target.lesions[equal].sum() * probability
    return float(hits / target.size)


def _auprc_and_dice(mass, target: Target) -> tuple[float, float]:
    """Return both from one sorting. Equal voxels are taken together or not at all."""
    values = mass[target.brain]
    total = target.truth.sum()
    positives = values > 0
    order = np.argsort(-values[positives])
    ordered = values[positives][order]
    hits = np.cumsum(target.truth[positives][order])
    last_of_equals = np.ones(len(ordered), bool)
    last_of_equals[:-1] = ordered[1:] < ordered[:-1]
    selected = np.flatnonzero(last_of_equals) + 1
    hits = hits[last_of_equals]
    dice = 2 * hits / (selected + total)
    # The voxels without positive relevance are equal: they come last, all at once.
    selected = np.append(selected, len(values))
    hits = np.append(hits, total)
    recall_steps = np.diff(hits, prepend=0) / total
    auprc = np.sum(recall_steps * hits / selected)
    return float(auprc), float(dice.max(initial=0.0))


def _pointing(mass, target: Target, tolerance: int) -> float:
    """Return the share of maxima that lie near a lesion."""
    maximum = mass.max()
    if maximum == 0:
        return 0.0
    return float(target.near(tolerance)[mass == maximum].mean())


def _sensitivity(mass, target: Target, false_positives: int, tolerance: int) -> float:
    """Return the share of lesions hit by marks above the first mark that may no longer miss."""
    marks = _marks(mass)
    if not len(marks):
        return 0.0
    heights = mass[tuple(marks.T)]
    near_lesion = target.near(tolerance)[tuple(marks.T)]
    misses = np.sort(heights[~near_lesion])[::-1]
    limit = misses[false_positives] if len(misses) > false_positives else 0.0
    counted = marks[heights > limit]
    labels, count = target.labels
    padded = np.pad(labels, tolerance)
    width = 2 * tolerance + 1
    hit = set()
    for step in np.ndindex(width, width, width):
        hit.update(padded[tuple((counted + step).T)])
    hit.discard(0)
    return float(len(hit) / count)


def _marks(mass) -> np.ndarray:
    """Return the local maxima above 0 among 27 voxels, shape (marks, 3).

    A plateau has one mark, the voxel nearest to its centre; otherwise a flat map would hit all.
    """
    maximal = mass == ndimage.maximum_filter(mass, 3, mode="constant")
    plateaus, count = ndimage.label(maximal & (mass > 0), NEIGHBOURHOOD_26)
    voxels = np.argwhere(plateaus)
    plateau = plateaus[tuple(voxels.T)]
    sizes = np.maximum(np.bincount(plateau, minlength=count + 1), 1)
    centres = np.empty((count + 1, 3))
    for axis in range(3):
        sums = np.bincount(plateau, voxels[:, axis], count + 1)
        centres[:, axis] = sums / sizes
    distances = ((voxels - centres[plateau]) ** 2).sum(axis=1)
    order = np.lexsort((distances, plateau))
    _, first = np.unique(plateau[order], return_index=True)
    return voxels[order][first]


def decoys(relevance, lesions, decoy_mask, brain) -> dict:
    """Measure whether a map distinguishes lesions from bright spots that are none.

    Parameters
    ----------
    relevance : ndarray of shape (X, Y, Z)
    lesions, decoy_mask, brain : ndarray of bool, same shape
        Decoys as from `controlled_pairs.decoys`. A voxel of a lesion is no decoy.

    Returns
    -------
    dict
        decoy_auc: how often R+ of a lesion voxel is above that of a decoy voxel of the same scan,
        ties counting half (area under the ROC curve). It is 1 where lesions are above all decoys
        and 0.5 where the map cannot distinguish them; NaN without lesions or decoys.

        decoy_ratio: the decoys' share of R+ divided by their share of the brain. It is 1 for a map
        without information; NaN without decoys or R+.
    """
    mass = positive(relevance)
    brain = np.asarray(brain, bool)
    lesions = np.asarray(lesions, bool) & brain
    decoy_mask = np.asarray(decoy_mask, bool) & brain & ~lesions
    in_lesions = mass[lesions]
    in_decoys = mass[decoy_mask]
    area = np.nan
    if len(in_lesions) and len(in_decoys):
        test = stats.mannwhitneyu(in_lesions, in_decoys, method="asymptotic")
        area = float(test.statistic / (len(in_lesions) * len(in_decoys)))
    ratio = np.nan
    total = mass.sum()
    if len(in_decoys) and total > 0:
        ratio = float(in_decoys.sum() / total / decoy_mask[brain].mean())
    return {"decoy_auc": area, "decoy_ratio": ratio}


def dice_at(relevance, lesions, brain, threshold: float) -> float:
    """Return the Dice of {relevance >= threshold} and G inside the brain, at a fixed threshold."""
    selected = (np.asarray(relevance) >= threshold) & brain
    shared = (selected & lesions).sum()
    total = selected.sum() + (lesions & brain).sum()
    return float(2 * shared / max(total, 1))


def mean_interval(
    values,
    seed: int = 0,
    n: int = 2000,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Return mean, low and high over subjects, by percentile bootstrap.

    Parameters
    ----------
    values : array_like of shape (subjects,)
        One value a subject; NaN is left out.
    seed, n, level
        See `msxai.base.statistics.bootstrap_interval`.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan, np.nan
    low, high = statistics.bootstrap_mean_interval(values, seed, n, level)
    return float(values.mean()), float(low), float(high)


def correlation_interval(
    first,
    second,
    seed: int = 0,
    n: int = 2000,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Return Pearson's correlation over subjects, low and high, by percentile bootstrap.

    Fewer than four subjects have no interval (NaN).

    Parameters
    ----------
    first, second : array_like of shape (subjects,)
    seed, n, level
        See `msxai.base.statistics.bootstrap_interval`.
    """
    first = np.asarray(first, float)
    second = np.asarray(second, float)
    correlation = float(stats.pearsonr(first, second).statistic)
    if len(first) < 4:
        return correlation, np.nan, np.nan
    # Squares of large numbers would lose the digits that differ.
    first = first - first.mean()
    second = second - second.mean()
    weights = statistics.bootstrap_weights(np.zeros(len(first), int), seed, n) / len(first)
    mean_first = weights @ first
    mean_second = weights @ second
    covariance = weights @ (first * second) - mean_first * mean_second
    variance_first = weights @ first**2 - mean_first**2
    variance_second = weights @ second**2 - mean_second**2
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations = covariance / np.sqrt(variance_first * variance_second)
    low, high = np.nanquantile(correlations, [(1 - level) / 2, (1 + level) / 2])
    return correlation, float(low), float(high)


def above_zero(values) -> float:
    """Return the one-sided p of Wilcoxon's signed-rank test over subjects.

    NaN for fewer than six values, or where none differs from 0.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if len(values) < 6 or not values.any():
        return np.nan
    return float(stats.wilcoxon(values, alternative="greater").pvalue)


def consistency(first, second, brain) -> float:
    """Return Spearman's correlation of two maps (as of two seeds) over the voxels of the brain."""
    first = np.asarray(first)[brain]
    second = np.asarray(second)[brain]
    return float(stats.spearmanr(first, second).statistic)


def class_contrast(patients, controls, brain) -> float:
    """Return Pearson's correlation of the mean map of patients and of controls in the brain.

    Near 1 the maps do not distinguish the groups.

    Parameters
    ----------
    patients, controls : ndarray of shape (X, Y, Z)
        Mean maps.
    brain : ndarray of bool, same shape
    """
    patients = np.asarray(patients)[brain].astype(float)
    controls = np.asarray(controls)[brain].astype(float)
    return float(stats.pearsonr(patients, controls).statistic)


def rank(scores: pd.DataFrame, baselines, seed: int = 0, n: int = 2000) -> pd.DataFrame:
    """Rank maps: mean of each measure over subjects, and paired difference to the best baseline.

    Parameters
    ----------
    scores : pandas.DataFrame
        One row a map and scan, the same scans for every map: map, participant_id, and a column for
        each measure. Visits of a subject are averaged.
    baselines : sequence of str
        Which maps are baselines. The strongest is the one with the highest mean, measure by
        measure.
    seed, n : int
        Of the bootstrap: seed and number of resamples.

    Returns
    -------
    pandas.DataFrame
        One row a map, highest auprc first: map, baseline (bool), subjects. For each measure its
        mean, `_low`, `_high`; and `_difference`, `_difference_low`, `_difference_high`, which is
        map minus `_strongest` (NaN for baselines).
    """
    measures = [name for name in MEASURES if name in scores]
    by_subject = {}
    for name in measures:
        by_subject[name] = scores.pivot_table(name, "participant_id", "map", dropna=False)
    maps = scores["map"].unique()
    baselines = [name for name in baselines if name in maps]
    rows = []
    for name in maps:
        is_baseline = name in baselines
        subjects = len(by_subject[measures[0]])
        row = {"map": name, "baseline": is_baseline, "subjects": subjects}
        for column in measures:
            wide = by_subject[column]
            row |= _with_interval(column, wide[name], seed, n)
            if not baselines:
                continue
            strongest = wide[baselines].mean().idxmax()
            difference = [np.nan] if is_baseline else wide[name] - wide[strongest]
            row |= _with_interval(f"{column}_difference", difference, seed, n)
            row[f"{column}_strongest"] = "" if is_baseline else strongest
        rows.append(row)
    order = "auprc" if "auprc" in measures else measures[0]
    return pd.DataFrame(rows).sort_values(order, ascending=False, ignore_index=True)


def _with_interval(name: str, values, seed: int, n: int) -> dict:
    """Return the columns of a mean over subjects."""
    mean, low, high = mean_interval(values, seed, n)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def box(mask, margin: int) -> tuple:
    """Return slices of the smallest box round a mask, `margin` voxels wider inside the grid."""
    (slices,) = ndimage.find_objects(np.asarray(mask, "uint8"))
    widened = []
    for axis in slices:
        start = max(axis.start - margin, 0)
        widened.append(slice(start, axis.stop + margin))
    return tuple(widened)
