"""A network is tested on the scan itself: lesions of known size are painted in, one at a time.

Each painted lesion is a bright ball that lies wholly in normal-appearing white matter. The logit
should rise, and the map should mark the place. At sham sites, which are drawn alike, a ball of
white matter is replaced by other white matter of the same scan; this should change nothing. A size
for which the scan has no room is left out.

What this can show: whether the network reacts at all to a bright spot of this size in this scan.
What it cannot show: that the network sees the lesions of a patient. A painted ball resembles the
lesions of the simulation that the network learnt from, and real lesions differ in shape, edge and
place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from msxai.data import images, lesion_filling

__all__ = ["CONTRAST", "CONTRAST_FROM", "PER_SIZE", "SIZES", "SelfTest", "paint", "run"]

SIZES = (3.0, 5.0, 8.0, 12.0)
"""Diameters of the painted lesions (mm)."""

PER_SIZE = 2
"""Painted lesions of each size, and as many sham sites; fewer where there is no room."""

CONTRAST = 1.2
"""Brightness of a painted lesion above white matter, in standard deviations of the brain."""

CONTRAST_FROM = (
    "This is the median contrast of the lesions of two scans: one of a person with MS (1.18; scan "
    "07 of open_ms) and one simulated (1.19)."
)
"""Where the contrast comes from, for a reader."""

_APART = 15.0  # mm between two sites


@dataclass(frozen=True)
class SelfTest:
    """What the network makes of painted lesions and of sham sites.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a site: kind (painted or sham), size (mm), voxels (of the ball), x, y, z (MNI, mm),
        change (of the logit), place (how many voxels of the brain have more relevance than the
        painted lesion's highest one; 0: the map marks it first), seen. The last two are missing for
        sham sites. A painted lesion is seen if it raises the logit by more than any sham site
        changes it, and its place is below its number of voxels.
    smallest_seen : float
        Smallest size (mm) from which on all painted lesions are seen; NaN where there is none.
    left_out : tuple of float
        Sizes (mm) for which normal-appearing white matter has no room.
    """

    table: pd.DataFrame
    smallest_seen: float
    left_out: tuple[float, ...] = ()


def run(
    prepared, row: int, map_of: Callable, logits_of: Callable, seed: int = 0
) -> SelfTest | None:
    """Paint lesions into a scan, one at a time, and fill sham sites.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Normalised by "zscore" or "max".
    row : int
    map_of : callable
        From a scan of shape (96, 114, 96) to its map of the same shape.
    logits_of : callable
        From scans of shape (N, 96, 114, 96) to N logits.
    seed : int
        Of the sites.

    Returns
    -------
    SelfTest or None
        None where normal-appearing white matter has no room for any size.
    """
    scan = prepared.image(row)
    brain = prepared.brain(row)
    white = lesion_filling.white_matter(nib.Nifti1Image(scan, prepared.affine))
    normal = lesion_filling.normal_appearing(
        scan, white, prepared.lesions(row), tuple(images.VOXEL_SIZE)
    )
    normal &= brain  # "max" keeps values outside of it
    sites = _sites(normal, seed)
    if not sites:
        return None
    untouched = float(logits_of(scan[None])[0])

    def changed(values) -> float:
        return float(logits_of(values[None])[0]) - untouched

    rows = []
    for size, centres in sites.items():
        half = len(centres) // 2
        for centre in centres[:half]:
            painted = paint(scan, brain, centre, size)
            painted = images.normalise(painted, brain, prepared.normalisation)
            relevance = np.where(brain, map_of(painted), -np.inf)
            entry = _row("painted", size, centre, changed(painted))
            rows.append(entry | {"place": _place(relevance, _ball(centre, size) >= 0.5)})
        for centre in centres[half:]:
            filled = _sham(scan, normal, centre, size, seed)
            filled = images.normalise(filled, brain, prepared.normalisation)
            rows.append(_row("sham", size, centre, changed(filled)))
    table = _judged(pd.DataFrame(rows))
    left_out = tuple(size for size in SIZES if size not in sites)
    return SelfTest(table, _smallest_seen(table), left_out)


def paint(scan, brain, centre, size: float) -> np.ndarray:
    """Paint a lesion into a scan.

    Parameters
    ----------
    scan : ndarray of shape (96, 114, 96)
        In any unit.
    brain : ndarray of bool, same shape
    centre : sequence of int
        Voxel.
    size : float
        Diameter (mm). The edge is as sharp as a voxel allows.

    Returns
    -------
    ndarray, same shape
        Not normalised again.
    """
    spread = scan[brain].std(dtype=float)
    return (scan + CONTRAST * spread * _ball(centre, size)).astype("float32")


def _ball(centre, size: float) -> np.ndarray:
    """Return the share of each voxel that lies in a ball; at least the voxel of its centre."""
    axes = np.ogrid[tuple(slice(length) for length in images.SHAPE)]
    squares = 0
    for axis, middle, edge in zip(axes, centre, images.VOXEL_SIZE, strict=True):
        squares = squares + ((axis - middle) * edge) ** 2
    inside = (size / 2 - np.sqrt(squares)) / images.VOXEL_SIZE.mean() + 0.5
    return np.clip(inside, 0, 1)


def _sites(normal, seed: int) -> dict[float, np.ndarray]:
    """Draw centres of balls in normal white matter, for each size that has room.

    All sites are apart from each other. Half of the centres of a size are for painted lesions, the
    other half for sham sites.
    """
    depth = ndimage.distance_transform_edt(normal, sampling=images.VOXEL_SIZE)
    rng = np.random.default_rng(seed)
    taken = np.zeros((0, 3), int)
    sites = {}
    for size in sorted(SIZES, reverse=True):  # the largest first: it has the fewest places
        centres = np.zeros((0, 3), int)
        for voxel in rng.permutation(np.argwhere(depth >= size / 2)):
            distances = np.linalg.norm((taken - voxel) * images.VOXEL_SIZE, axis=1)
            if (distances >= _APART).all():
                taken = np.vstack([taken, voxel])
                centres = np.vstack([centres, voxel])
            if len(centres) == 2 * PER_SIZE:
                break
        pairs = len(centres) // 2
        if pairs:
            sites[size] = centres[: 2 * pairs]
    return dict(sorted(sites.items()))


def _place(relevance, ball) -> int:
    """Return how many voxels have more relevance than the highest voxel of a ball."""
    return int((relevance > relevance[ball].max()).sum())


def _sham(scan, normal, centre, size: float, seed: int) -> np.ndarray:
    """Replace a ball of white matter by other white matter of the scan."""
    ball = _ball(centre, size) >= 0.5
    weight = lesion_filling.soft(ball, images.VOXEL_SIZE, normal)
    return lesion_filling.fill(scan, weight, normal, seed=seed, size=images.VOXEL_SIZE)


def _row(kind: str, size: float, centre, change: float) -> dict:
    x, y, z = (images.AFFINE[:3, :3] @ centre + images.AFFINE[:3, 3]).round(1)
    voxels = int((_ball(centre, size) >= 0.5).sum())
    row = {"kind": kind, "size": float(size), "voxels": voxels}
    return row | {"x": x, "y": y, "z": z, "change": change}


def _judged(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the column seen."""
    is_painted = table["kind"] == "painted"
    noise = table.loc[~is_painted, "change"].abs().max()
    seen = (table["change"] > noise) & (table["place"] < table["voxels"])
    return table.assign(seen=seen.astype("boolean").where(is_painted))


def _smallest_seen(table: pd.DataFrame) -> float:
    """Return the smallest size from which on every painted lesion is seen."""
    painted = table[table["kind"] == "painted"]
    all_seen = painted.groupby("size")["seen"].all()
    smallest = np.nan
    for size, seen in all_seen.sort_index(ascending=False).items():
        if not seen:
            break
        smallest = size
    return float(smallest)
