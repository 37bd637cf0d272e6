"""Does a network use each lesion of one scan? Relevance of the lesion, and the logit without it.

All lesions of a scan are filled once (`msxai.data.lesion_filling`). A filled voxel belongs to the
lesion that is nearest to it. So any choice of lesions can be filled: their voxels are taken from
the filled scan, all other voxels from the scan itself. With f(x) for the logit of the scan, the
table has for lesion i

    change_filled       = f(lesion i filled) - f(x)
    change_all_but_this = f(all lesions but i filled) - f(x)
    adds_alone          = f(all lesions but i filled) - f(all lesions filled)

Filling alone can change a logit. So normal-appearing white matter is filled, too, at sham sites
(mirrored lesions), one at a time. A lesion counts as used if filling it, or leaving it as the only
one, changes the logit by more than the sham sites do (`noise_limit`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from msxai.data import images, lesion_filling
from msxai.regions import lesion_regions

__all__ = [
    "FEWEST_SHAM_SITES",
    "NEAR",
    "NOISE_WITHOUT_SHAM",
    "Filled",
    "LesionReport",
    "by_distance",
    "fill_lesions",
    "fill_sham_sites",
    "measure",
]

NEAR = 2
"""Voxels within which relevance counts as near a lesion."""

FEWEST_SHAM_SITES = 8
"""Sham sites from which the limit of noise is measured."""

NOISE_WITHOUT_SHAM = 0.1
"""Limit of noise (logits) where there are fewer sham sites."""

_MOST_SHAM_SITES = 20  # more would take time and change the limit little
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
class LesionReport:
    """What a network makes of the lesions of one scan.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a lesion, the largest first: the columns of
        `msxai.regions.lesion_regions.of_lesions`; relevance (sum over the lesion, logits), peak
        (highest voxel, logits), change_filled, change_all_but_this, adds_alone (logits), used.
    logit : float
        Of the scan.
    logit_all_filled : float
        Of the scan with all lesions filled.
    noise_limit : float
        95th percentile of the logit's change when one sham site is filled; `NOISE_WITHOUT_SHAM`
        where there are too few.
    sham_sites : int
        Number of sham sites that were filled.
    contrast : float
        Mean of the lesions minus that of the tissue that fills them, in standard deviations of this
        tissue. Lesions of the right mask on a FLAIR have 4 and more; the mask of another scan has a
        value near 0.
    """

    table: pd.DataFrame
    logit: float
    logit_all_filled: float
    noise_limit: float
    sham_sites: int
    contrast: float


def fill_lesions(prepared, row: int, labels, seed: int = 0) -> Filled:
    """Fill all lesions of a scan.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Normalised by "zscore" or "max".
    row : int
    labels : ndarray of int, shape (96, 114, 96)
        From `msxai.regions.lesion_regions.label_lesions`.
    seed : int
        Of the filling.
    """
    filled = _filled(prepared, row, "lesions", seed)
    changed = filled != prepared.image(row)
    return _owned(prepared, row, filled, np.where(changed, _nearest(labels), 0))


def fill_sham_sites(prepared, row: int, seed: int = 0) -> Filled:
    """Fill normal-appearing white matter at the mirrored sites of a scan's lesions.

    Parameters
    ----------
    prepared, row, seed
        As in `fill_lesions`. Each connected group of filled voxels is a site.
    """
    filled = _filled(prepared, row, "sham", seed)
    sites, _ = lesion_regions.label_lesions(filled != prepared.image(row))
    return _owned(prepared, row, filled, sites)


def measure(prepared, row: int, relevance, logits_of: Callable, seed: int = 0) -> LesionReport:
    """Measure relevance and use of each lesion of a scan.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Normalised by "zscore" or "max"; the scan has a lesion.
    row : int
    relevance : ndarray of shape (96, 114, 96)
        Its map, in logits.
    logits_of : callable
        From scans of shape (N, 96, 114, 96) to N logits.
    seed : int
        Of the filling.

    Returns
    -------
    LesionReport
    """
    labels, count = lesion_regions.label_lesions(prepared.lesions(row))
    table = lesion_regions.of_lesions(labels, count)
    numbers = table["lesion"].to_numpy()
    table["relevance"] = ndimage.sum_labels(np.asarray(relevance, float), labels, numbers)
    table["peak"] = ndimage.maximum(relevance, labels, numbers)
    lesions = fill_lesions(prepared, row, labels, seed)
    logit, logit_all_filled = _batched(logits_of, [lesions.untouched, lesions.all()])
    alone = _batched(logits_of, (lesions.only(number) for number in numbers))
    all_but = _batched(logits_of, (lesions.all_but(number) for number in numbers))
    table["change_filled"] = alone - logit
    table["change_all_but_this"] = all_but - logit
    table["adds_alone"] = all_but - logit_all_filled
    limit, sites = _noise_limit(prepared, row, logits_of, seed)
    largest = table[["change_filled", "adds_alone"]].abs().max(axis=1)
    table["used"] = largest > limit
    return LesionReport(
        table=table,
        logit=float(logit),
        logit_all_filled=float(logit_all_filled),
        noise_limit=limit,
        sham_sites=sites,
        contrast=_contrast(lesions, labels > 0),
    )


def by_distance(relevance, lesions, brain) -> dict:
    """Add up the relevance in lesions, near them, and elsewhere.

    Parameters
    ----------
    relevance : ndarray of shape (X, Y, Z)
    lesions, brain : ndarray of bool, same shape

    Returns
    -------
    dict
        inside, near (up to `NEAR` voxels away, by face, edge or corner), elsewhere (in the rest of
        the brain), outside_brain; sums in logits. They add up to the sum of the map.

    Examples
    --------
    >>> line = np.array([5.0, 1.0, 1.0, 2.0, 4.0]).reshape(5, 1, 1)
    >>> lesions = line == 5
    >>> brain = line != 4
    >>> by_distance(line, lesions, brain)
    {'inside': 5.0, 'near': 2.0, 'elsewhere': 2.0, 'outside_brain': 4.0}
    """
    relevance = np.asarray(relevance, float)
    around = ndimage.binary_dilation(lesions, images.NEIGHBOURHOOD_26, NEAR)
    near = around & ~lesions & brain
    elsewhere = brain & ~around
    outside = ~brain & ~lesions
    return {
        "inside": float(relevance[lesions].sum()),
        "near": float(relevance[near].sum()),
        "elsewhere": float(relevance[elsewhere].sum()),
        "outside_brain": float(relevance[outside].sum()),
    }


def _filled(prepared, row: int, sites: str, seed: int) -> np.ndarray:
    """Return a scan with its lesions, or sham sites, filled; not normalised again."""
    filler = lesion_filling.Filler("noise", sites, seed)
    scan = nib.Nifti1Image(prepared.image(row), prepared.affine)
    mask = nib.Nifti1Image(prepared.lesions(row).astype("float32"), prepared.affine)
    filled = filler(scan, mask, prepared.table.iloc[row].to_dict())
    return np.asarray(filled.dataobj)


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


def _noise_limit(prepared, row: int, logits_of: Callable, seed: int) -> tuple[float, int]:
    """Return the change of the logit that filling of normal tissue has, and the number of sites."""
    sham = fill_sham_sites(prepared, row, seed)
    count = min(sham.count, _MOST_SHAM_SITES)
    if count < FEWEST_SHAM_SITES:
        return NOISE_WITHOUT_SHAM, count
    logits = _batched(logits_of, (sham.only(number) for number in range(1, count + 1)))
    (untouched,) = _batched(logits_of, [sham.untouched])
    changes = np.abs(logits - untouched)
    return float(np.quantile(changes, 0.95)), count


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
