"""A network is tested on the scan itself: lesions of known size are painted in, one at a time.

Each painted lesion is a bright ball in normal-appearing white matter. The logit should rise, and
the map should mark the place. At sham sites, white matter is replaced by other white matter of the
same scan; this should change nothing.

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

__all__ = ["CONTRAST", "PER_SIZE", "SIZES", "SelfTest", "paint", "run"]

SIZES = (3.0, 5.0, 8.0, 12.0)
"""Diameters of the painted lesions (mm)."""

PER_SIZE = 2
"""Painted lesions of each size; as many sham sites."""

CONTRAST = 1.2
"""Brightness of a painted lesion above white matter, in standard deviations of the brain.

The median lesion of a real scan has 1.18 (open_ms patient 07), of a simulated one 1.19.
"""

_APART = 15.0  # mm between two sites


@dataclass(frozen=True)
class SelfTest:
    """What the network makes of painted lesions and of sham sites.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a site: kind (painted or sham), size (mm), x, y, z (MNI, mm), change (of the
        logit), place (how many voxels of the brain have more relevance than the painted lesion's
        highest one; 0: the map marks it first; NaN for sham sites).
    smallest_seen : float
        Smallest size (mm) from which on all painted lesions raise the logit by more than any sham
        site changes it; NaN where there is none.
    """

    table: pd.DataFrame
    smallest_seen: float


def run(
    prepared, row: int, map_of: Callable, logits_of: Callable, seed: int = 0
) -> SelfTest | None:
    """Paint lesions into a scan, one at a time, and fill sham sites.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Normalised by "zscore".
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
        None where there is too little normal-appearing white matter.
    """
    scan = prepared.image(row)
    brain = prepared.brain(row)
    white = lesion_filling.white_matter(nib.Nifti1Image(scan, prepared.affine))
    normal = lesion_filling.normal_appearing(
        scan, white, prepared.lesions(row), tuple(images.VOXEL_SIZE)
    )
    sizes = np.repeat(SIZES, PER_SIZE)
    sites = _sites(normal, 2 * len(sizes), seed)
    if sites is None:
        return None
    untouched = float(logits_of(scan[None])[0])
    rows = []
    for centre, size in zip(sites[: len(sizes)], sizes, strict=True):
        painted = images.normalise(paint(scan, centre, size), brain)
        relevance = np.where(brain, map_of(painted), -np.inf)
        peak = relevance[_ball(centre, size) >= 0.5].max()
        entry = _row("painted", size, centre, float(logits_of(painted[None])[0]) - untouched)
        rows.append(entry | {"place": int((relevance > peak).sum())})
    for centre, size in zip(sites[len(sizes) :], sizes, strict=True):
        filled = _sham(scan, normal, centre, size, seed)
        changed = images.normalise(filled, brain)
        rows.append(_row("sham", size, centre, float(logits_of(changed[None])[0]) - untouched))
    table = pd.DataFrame(rows, columns=["kind", "size", "x", "y", "z", "change", "place"])
    return SelfTest(table, _smallest_seen(table))


def paint(scan, centre, size: float) -> np.ndarray:
    """Paint a lesion into a scan.

    Parameters
    ----------
    scan : ndarray of shape (96, 114, 96)
        z-score of the brain.
    centre : sequence of int
        Voxel.
    size : float
        Diameter (mm). The edge is as sharp as a voxel allows.

    Returns
    -------
    ndarray, same shape
        Not normalised again.
    """
    return (scan + CONTRAST * _ball(centre, size)).astype("float32")


def _ball(centre, size: float) -> np.ndarray:
    """Return the share of each voxel that lies in a ball; at least the voxel of its centre."""
    axes = np.ogrid[tuple(slice(length) for length in images.SHAPE)]
    squares = 0
    for axis, middle, edge in zip(axes, centre, images.VOXEL_SIZE, strict=True):
        squares = squares + ((axis - middle) * edge) ** 2
    inside = (size / 2 - np.sqrt(squares)) / images.VOXEL_SIZE.mean() + 0.5
    return np.clip(inside, 0, 1)


def _sites(normal, count: int, seed: int) -> np.ndarray | None:
    """Draw voxels of normal white matter that are apart from each other and from its edge."""
    inner = ndimage.binary_erosion(normal)
    candidates = np.argwhere(inner)
    rng = np.random.default_rng(seed)
    chosen = np.zeros((0, 3), int)
    for voxel in rng.permutation(candidates):
        distances = np.linalg.norm((chosen - voxel) * images.VOXEL_SIZE, axis=1)
        if (distances >= _APART).all():
            chosen = np.vstack([chosen, voxel])
        if len(chosen) == count:
            return chosen
    return None


def _sham(scan, normal, centre, size: float, seed: int) -> np.ndarray:
    """Replace a ball of white matter by other white matter of the scan."""
    ball = (_ball(centre, size) >= 0.5) & normal
    weight = lesion_filling.soft(ball, images.VOXEL_SIZE, normal)
    return lesion_filling.fill(scan, weight, normal, seed=seed, size=images.VOXEL_SIZE)


def _row(kind: str, size: float, centre, change: float) -> dict:
    x, y, z = (images.AFFINE[:3, :3] @ centre + images.AFFINE[:3, 3]).round(1)
    return {"kind": kind, "size": float(size), "x": x, "y": y, "z": z, "change": change}


def _smallest_seen(table: pd.DataFrame) -> float:
    """Return the smallest size from which on every painted lesion is above all sham sites."""
    noise = table.loc[table["kind"] == "sham", "change"].abs().max()
    painted = table[table["kind"] == "painted"]
    lowest = painted.groupby("size")["change"].min()
    smallest = np.nan
    for size in sorted(SIZES, reverse=True):
        if lowest[size] <= noise:
            break
        smallest = size
    return float(smallest)
