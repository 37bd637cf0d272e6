"""Does a network use each lesion of one scan? Relevance of the lesion, and the logit without it.

All lesions of a scan are filled once (`msxai.data.lesion_filling`). A filled voxel belongs to the
lesion that is nearest to it. So any choice of lesions can be filled: their voxels are taken from
the filled scan, all other voxels from the scan itself. With f(x) for the logit of the scan, the
table has for lesion i

    change_filled       = f(lesion i filled) - f(x)
    change_all_but_this = f(all lesions but i filled) - f(x)
    adds_alone          = f(all lesions but i filled) - f(all lesions filled)

Filling alone can change a logit. So normal-appearing white matter is filled, too, at sham sites:
each has the shape of a lesion. The same two numbers are computed there, and the 95th percentile of
their larger magnitude is the limit. At a lesion, the number of larger magnitude decides
(`EFFECTS`). Only a lesion that speaks for yes counts as used. If filling raises the logit, the
lesion speaks against yes, or the filling itself disturbs the network. This is no evidence that the
network uses the lesion.
"""

from collections.abc import Callable
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from msxai.data import images, lesion_filling
from msxai.regions import lesion_regions, own_anatomy
from msxai.regions.lesion_regions import Lesions
from msxai.regions.own_anatomy import Anatomy

__all__ = [
    "EFFECTS",
    "FEWEST_SHAM_SITES",
    "NEAR",
    "NOISE_WITHOUT_SHAM",
    "NOT_FILLED",
    "NO_EFFECT",
    "RAISES",
    "SPEAKS_FOR",
    "TOO_SMALL",
    "Filled",
    "LesionReport",
    "ShamReport",
    "ShamSites",
    "by_distance",
    "fill_lesions",
    "fill_sham_sites",
    "measure",
]

NEAR = 4.0
"""mm from the nearest voxel of a lesion within which relevance counts as near it."""

SPEAKS_FOR, NO_EFFECT, RAISES = EFFECTS = (
    "speaks for yes",
    "no effect",
    "filling raises the logit",
)
"""What filling a lesion shows. Only the first one counts as used."""

NOT_FILLED = "could not be filled"
TOO_SMALL = "too small for the network"
"""In place of an effect: the lesion has no voxel on the network's grid."""

FEWEST_SHAM_SITES = 8
"""Sham sites from which the limit of noise is measured."""

NOISE_WITHOUT_SHAM = 0.1
"""Limit of noise (logits) where there are fewer sham sites."""

_MOST_SHAM_SITES = 20  # more would take time and change the limit little
_TRIES = 200  # places that are tried for a sham site
_LEAST_NORMAL = 0.9  # share of a sham site that must be normal white matter
_APART = 2  # voxels between two sham sites
_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])  # left to right in MNI152 space
_AT_A_TIME = 8  # scans in memory, 4 MB each


@dataclass(frozen=True)
class Filled:
    """A scan, the same scan with sites filled, and the site that each filled voxel belongs to.

    Attributes
    ----------
    untouched, filled : ndarray of shape (96, 114, 96), float32
    owner : ndarray of int, same shape
        Number of the site, 1 to `count`; 0 where nothing changed.
    brain : ndarray of bool, same shape
    count : int
    normalisation : str
        A filled scan is normalised again, as it would have been without its lesions.
    """

    untouched: np.ndarray
    filled: np.ndarray
    owner: np.ndarray
    brain: np.ndarray
    count: int
    normalisation: str

    def only(self, number: int) -> np.ndarray:
        """Return the scan with this site filled."""
        return self._with(self.owner == number)

    def these(self, numbers) -> np.ndarray:
        """Return the scan with several sites filled."""
        return self._with(np.isin(self.owner, numbers))

    def all_but(self, number: int) -> np.ndarray:
        """Return the scan with all other sites filled."""
        return self._with((self.owner > 0) & (self.owner != number))

    def all(self) -> np.ndarray:
        """Return the scan with all sites filled."""
        return self._with(self.owner > 0)

    def _with(self, where) -> np.ndarray:
        if not where.any():
            return self.untouched
        values = np.where(where, self.filled, self.untouched)
        return images.normalise(values, self.brain, self.normalisation)


@dataclass(frozen=True)
class ShamReport:
    """What filling normal-appearing white matter does to the logit of a scan.

    Attributes
    ----------
    limit : float
        95th percentile over sham sites of the larger magnitude of the two numbers (logits);
        `NOISE_WITHOUT_SHAM` where there are too few sites.
    sites : int
        Number of sham sites that were measured.
    change_all : float
        Change of the logit when a sham site for each lesion is filled, all at once; the lowest
        where several sets of sites were drawn. NaN without a site.
    share : float
        Volume of these sites as a share of the volume of the lesions. It is below 1 where normal
        white matter has no room for a large lesion.
    """

    limit: float
    sites: int
    change_all: float
    share: float

    @property
    def is_measured(self) -> bool:
        """Whether there are enough sites to measure the limit."""
        return self.sites >= FEWEST_SHAM_SITES


@dataclass(frozen=True)
class LesionReport:
    """What a network makes of the lesions of one scan.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a lesion, the largest first: the columns of
        `msxai.regions.lesion_regions.of_lesions`; relevance (sum over the lesion, logits), peak
        (highest voxel, logits), change_filled, change_all_but_this, adds_alone (logits), effect
        (of `EFFECTS`, `NOT_FILLED` or `TOO_SMALL`), used (missing where the effect is not known).
    logit : float
        Of the scan.
    logit_all_filled : float
        Of the scan with all lesions filled.
    sham : ShamReport
        The same for normal tissue.
    contrast : float
        Mean of the lesions minus that of the tissue that fills them, in standard deviations of this
        tissue. Lesions of the right mask on a FLAIR have 4 and more; the mask of another scan has a
        value near 0.
    """

    table: pd.DataFrame
    logit: float
    logit_all_filled: float
    sham: ShamReport
    contrast: float


@dataclass(frozen=True)
class ShamSites:
    """Normal tissue filled at sham sites.

    Attributes
    ----------
    filled : Filled
    sets : list of list of int
        Numbers of the sites. A set has at most one site for each lesion.
    share : float
        See `ShamReport`.
    """

    filled: Filled
    sets: list[list[int]]
    share: float


def fill_lesions(prepared, row: int, labels, seed: int = 0) -> Filled:
    """Fill all lesions of a scan.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Normalised by "zscore" or "max".
    row : int
    labels : ndarray of int, shape (96, 114, 96)
        Of `msxai.regions.lesion_regions.Lesions`.
    seed : int
        Of the filling.
    """
    filled = _filled(prepared, row, "lesions", seed)
    return _owned(prepared, row, filled, _owner(prepared, row, filled, labels))


def fill_sham_sites(prepared, row: int, labels, seed: int = 0) -> ShamSites:
    """Fill normal-appearing white matter at sites that have the shapes of a scan's lesions.

    Each lesion gets a site, where normal white matter has room for it. Where the lesions are few,
    more sets of sites are drawn.

    Parameters
    ----------
    prepared, row, labels, seed
        As in `fill_lesions`. The seed also draws the sites.
    """
    scan = prepared.image(row)
    lesions = labels > 0
    white = lesion_filling.white_matter(nib.Nifti1Image(scan, prepared.affine))
    normal = lesion_filling.normal_appearing(scan, white, lesions, tuple(images.VOXEL_SIZE))
    normal &= prepared.brain(row)  # "max" keeps values outside of it
    sites, sets = _draw_sham_sites(normal, labels, seed)
    # The filler mirrors a sham mask in MNI space, so the sites are handed over mirrored.
    mirrored = nib.Nifti1Image(sites.astype("float32"), _MIRROR @ prepared.affine)
    filled = _filled(prepared, row, "sham", seed, mirrored)
    owner = _owner(prepared, row, filled, sites)
    share = 0.0
    if sets:
        share = float(np.isin(sites, sets[0]).sum() / lesions.sum())
    return ShamSites(_owned(prepared, row, filled, owner), sets, share)


def measure(
    prepared,
    row: int,
    lesions: Lesions,
    relevance,
    logits_of: Callable,
    seed: int = 0,
    anatomy: Anatomy | None = None,
) -> LesionReport | None:
    """Measure relevance and use of each lesion of a scan.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Normalised by "zscore" or "max".
    row : int
    lesions : msxai.regions.lesion_regions.Lesions
        Of this scan.
    relevance : ndarray of shape (96, 114, 96)
        Its map, in logits.
    logits_of : callable
        From scans of shape (N, 96, 114, 96) to N logits.
    seed : int
        Of the filling.
    anatomy : msxai.regions.own_anatomy.Anatomy, optional
        What decides the regions; by default it is found in the scan.

    Returns
    -------
    LesionReport or None
        None where nothing could be filled: no lesion has a voxel on the network's grid, or the
        scan has no normal white matter. Nothing is then known about the lesions.
    """
    filled = fill_lesions(prepared, row, lesions.labels, seed)
    if not filled.owner.any():
        return None
    if anatomy is None:
        anatomy = own_anatomy.find(prepared.image(row), prepared.brain(row), lesions.labels > 0)
    table = lesion_regions.of_lesions(lesions, anatomy).set_index("lesion")
    numbers = lesions.numbers
    labels = lesions.labels
    relevance = np.asarray(relevance, float)
    table.loc[numbers, "relevance"] = ndimage.sum_labels(relevance, labels, numbers)
    table.loc[numbers, "peak"] = ndimage.maximum(relevance, labels, numbers)
    logit, logit_all_filled = _batched(logits_of, [filled.untouched, filled.all()])
    numbers = np.intersect1d(numbers, filled.owner)
    alone = _batched(logits_of, (filled.only(number) for number in numbers))
    all_but = _batched(logits_of, (filled.all_but(number) for number in numbers))
    table.loc[numbers, "change_filled"] = alone - logit
    table.loc[numbers, "change_all_but_this"] = all_but - logit
    table.loc[numbers, "adds_alone"] = all_but - logit_all_filled
    sham = _measure_sham_sites(prepared, row, labels, logits_of, seed)
    table["effect"] = _effects(table, sham.limit)
    is_known = table["effect"].isin(EFFECTS)
    table["used"] = (table["effect"] == SPEAKS_FOR).astype("boolean").where(is_known)
    return LesionReport(
        table=table.reset_index(),
        logit=float(logit),
        logit_all_filled=float(logit_all_filled),
        sham=sham,
        contrast=_contrast(filled, labels > 0),
    )


def by_distance(relevance, lesions, brain) -> pd.DataFrame:
    """Add up the relevance in lesions, near them, and elsewhere.

    Parameters
    ----------
    relevance : ndarray of shape (X, Y, Z)
        On the model's grid.
    lesions, brain : ndarray of bool, same shape

    Returns
    -------
    pandas.DataFrame
        Rows inside, near (up to `NEAR` from the centre of a lesion's voxel), elsewhere (in the rest
        of the brain), outside_brain. Columns: net, positive and negative (sums in logits),
        share_positive (of all positive relevance), share_brain (voxels of the row as a share of
        the brain with its lesions; missing outside). If relevance were spread evenly, the two
        shares would be equal.

    Examples
    --------
    >>> line = np.array([5.0, 1.0, -1.0, 2.0, 4.0]).reshape(5, 1, 1)
    >>> lesions = line == 5
    >>> brain = line != 4
    >>> by_distance(line, lesions, brain)[["net", "positive", "share_brain"]]
                   net  positive  share_brain
    inside         5.0       5.0         0.25
    near           0.0       1.0         0.50
    elsewhere      2.0       2.0         0.25
    outside_brain  4.0       4.0          NaN
    """
    relevance = np.asarray(relevance, float)
    distance = np.full(relevance.shape, np.inf)
    if lesions.any():
        distance = ndimage.distance_transform_edt(~lesions, sampling=images.VOXEL_SIZE)
    around = distance <= NEAR
    places = {
        "inside": lesions,
        "near": around & ~lesions & brain,
        "elsewhere": brain & ~around,
        "outside_brain": ~brain & ~lesions,
    }
    all_positive = np.maximum(relevance, 0).sum()
    rows = {}
    for name, where in places.items():
        values = relevance[where]
        positive = float(values[values > 0].sum())
        negative = float(values[values < 0].sum())
        rows[name] = {
            "net": float(values.sum()),
            "positive": positive,
            "negative": negative,
            "share_positive": positive / all_positive if all_positive else np.nan,
            "share_brain": where.sum() / (brain | lesions).sum(),
        }
    table = pd.DataFrame(rows).T
    table.loc["outside_brain", "share_brain"] = np.nan
    return table


def _filled(prepared, row: int, sites: str, seed: int, sham_mask=None) -> np.ndarray:
    """Return a scan with its lesions, or sham sites, filled; not normalised again."""
    filler = lesion_filling.Filler("noise", sites, seed)
    return filler.prepared_scan(prepared, row, sham_mask)


def _owner(prepared, row: int, filled, labels) -> np.ndarray:
    """Return the number of the site that each changed voxel belongs to; 0 elsewhere."""
    changed = filled != prepared.image(row)
    if not labels.any():
        return np.zeros(changed.shape, int)
    return np.where(changed, _nearest(labels), 0)


def _owned(prepared, row: int, filled, owner) -> Filled:
    return Filled(
        untouched=prepared.image(row),
        filled=filled,
        owner=owner,
        brain=prepared.brain(row),
        count=int(owner.max()),
        normalisation=prepared.normalisation,
    )


def _nearest(labels) -> np.ndarray:
    """Return the number of the lesion that is nearest to each voxel."""
    indices = ndimage.distance_transform_edt(
        labels == 0, sampling=images.VOXEL_SIZE, return_distances=False, return_indices=True
    )
    return labels[tuple(indices)]


def _contrast(lesions: Filled, mask) -> float:
    """Return how much brighter the lesions are than the tissue that fills them."""
    tissue = lesions.filled[mask & (lesions.owner > 0)]
    if not len(tissue) or not tissue.std():
        return np.nan
    difference = lesions.untouched[mask].mean(dtype=float) - tissue.mean(dtype=float)
    return float(difference / tissue.std(dtype=float))


def _draw_sham_sites(normal, labels, seed: int) -> tuple[np.ndarray, list[list[int]]]:
    """Draw sites of the shapes of all lesions in normal tissue: their numbers, and the sets."""
    rng = np.random.default_rng(seed)
    sites = np.zeros(normal.shape, int)
    sets: list[list[int]] = []
    free = normal.copy()
    shapes = []
    for number in np.unique(labels[labels > 0]):
        voxels = np.argwhere(labels == number)
        shapes.append(voxels - voxels.mean(axis=0).round().astype(int))
    shapes.sort(key=len, reverse=True)  # the largest first, as long as there is room
    count = 0
    while count < _MOST_SHAM_SITES:
        drawn = []
        for shape in shapes:
            voxels = _room_for(shape, free, rng)
            if len(voxels):
                count += 1
                sites[tuple(voxels.T)] = count
                _occupy(free, sites, voxels)
                drawn.append(count)
        if not drawn:
            break
        sets.append(drawn)
    return sites, sets


def _room_for(shape, free, rng) -> np.ndarray:
    """Return voxels of a shape at a random place in free tissue; none where there is no room."""
    candidates = np.argwhere(free)
    if len(candidates) < len(shape):
        return np.zeros((0, 3), int)
    for centre in rng.choice(candidates, _TRIES):
        voxels = shape + centre
        within = ((voxels >= 0) & (voxels < free.shape)).all(axis=1)
        voxels = voxels[within]
        voxels = voxels[free[tuple(voxels.T)]]
        if len(voxels) >= _LEAST_NORMAL * len(shape):
            return voxels
    return np.zeros((0, 3), int)


def _occupy(free, sites, voxels) -> None:
    """Take a site and its surroundings out of the free tissue, in place."""
    starts = np.maximum(voxels.min(axis=0) - _APART, 0)
    stops = voxels.max(axis=0) + _APART + 1
    box = tuple(slice(start, stop) for start, stop in zip(starts, stops, strict=True))
    near = ndimage.binary_dilation(sites[box] > 0, images.NEIGHBOURHOOD_26, _APART)
    free[box] &= ~near


def _measure_sham_sites(prepared, row: int, labels, logits_of: Callable, seed: int) -> ShamReport:
    """Return what filling of normal tissue does to the logit."""
    sham = fill_sham_sites(prepared, row, labels, seed)
    if not sham.sets:
        return ShamReport(NOISE_WITHOUT_SHAM, 0, np.nan, 0.0)
    (untouched,) = _batched(logits_of, [sham.filled.untouched])
    all_filled = _batched(logits_of, (sham.filled.these(sites) for sites in sham.sets))
    change_all = float(all_filled.min() - untouched)
    pairs = []
    for index, sites in enumerate(sham.sets):
        pairs += [(index, number) for number in sites]
    # Sites of a set go from large to small, so evenly spaced ones have lesions of all sizes.
    chosen = np.linspace(0, len(pairs) - 1, min(len(pairs), _MOST_SHAM_SITES)).round().astype(int)
    pairs = [pairs[index] for index in chosen]
    if len(pairs) < FEWEST_SHAM_SITES:
        return ShamReport(NOISE_WITHOUT_SHAM, len(pairs), change_all, sham.share)
    alone = _batched(logits_of, (sham.filled.only(number) for _, number in pairs))
    remaining = [np.setdiff1d(sham.sets[index], number) for index, number in pairs]
    all_but = _batched(logits_of, (sham.filled.these(sites) for sites in remaining))
    adds_alone = all_but - all_filled[[index for index, _ in pairs]]
    larger = np.maximum(np.abs(alone - untouched), np.abs(adds_alone))
    return ShamReport(float(np.quantile(larger, 0.95)), len(pairs), change_all, sham.share)


def _effects(table: pd.DataFrame, limit: float) -> list[str]:
    """Return what filling shows of each lesion: the number of larger magnitude decides."""
    effects = []
    for row in table.itertuples():
        if not row.voxels:
            effects.append(TOO_SMALL)
            continue
        if np.isnan(row.change_filled):
            effects.append(NOT_FILLED)
            continue
        adds = max(-row.change_filled, row.adds_alone, key=abs)
        if abs(adds) <= limit:
            effects.append(NO_EFFECT)
            continue
        effects.append(SPEAKS_FOR if adds > 0 else RAISES)
    return effects


def _batched(logits_of: Callable, scans) -> np.ndarray:
    """Return the logit of each scan; a few scans are in memory at a time."""
    logits = []
    batch = []
    for scan in scans:
        batch.append(scan)
        if len(batch) == _AT_A_TIME:
            logits.extend(logits_of(np.stack(batch)))
            batch = []
    if batch:
        logits.extend(logits_of(np.stack(batch)))
    return np.array(logits, float)
