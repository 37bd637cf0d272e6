"""Lesions, and spots that are no lesions, painted into a simulated scan.

Sizes, counts and locations of lesions follow 20 real masks and the contrast two real scans (Lesjak
et al. 2017, Neuroinformatics 16:51, doi:10.1007/s12021-017-9348-7).
"""

import functools
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from msxai.data.images import SHAPE, VOXEL_SIZE, VOXEL_VOLUME
from msxai.data.synthetic import template
from msxai.data.synthetic.geometry import rotation

__all__ = [
    "DISTANCES",
    "LesionGround",
    "LesionLook",
    "OldAgeGround",
    "paint_decoys",
    "paint_lesions",
]

# mm: bins of the distance between a lesion and the lateral ventricles
DISTANCES = (0, 1, 3, 5, 10, 15, 20, 30, 80)
# Share of lesion seeds in each bin: the share of lesion volume in 20 real masks on the model's
# grid, with more near the ventricles, because lesions grow away from there
_MS_SHARES = np.array([0.07, 0.13, 0.16, 0.18, 0.12, 0.125, 0.135, 0.10])
# The same for white-matter hypointensities of old age, which spread from the ventricles outwards
# (DeCarli et al. 2005, Stroke 36:50, doi:10.1161/01.STR.0000150668.58689.f2); the numbers are an
# assumption.
_OLD_AGE_SHARES = np.array([0.20, 0.25, 0.20, 0.16, 0.09, 0.05, 0.03, 0.02])
_INVERSE_STEPS = 6
_FORBIDDEN = 1e3  # cost of a voxel that cannot be lesion


@dataclass(frozen=True)
class LesionLook:
    """How lesions look in one contrast.

    Parameters
    ----------
    level : float
        Mean brightness of a lesion; white matter in FLAIR and T1 has 1.
    decoys : float
        Mean brightness of spots that are no lesions.
    spread : float
        How much lesions differ from one another, as a multiple of what they do in FLAIR.
    is_darker : bool
        Whether lesions are darker than white matter. Darker lesions leave darker voxels as they
        are, brighter lesions leave brighter voxels.
    """

    level: float
    decoys: float
    spread: float = 1.0
    is_darker: bool = False

    def difference(self, brightness, image):
        """Return what turns an image to a brightness, 0 where it is beyond that already."""
        if self.is_darker:
            return np.minimum(brightness - image, 0)
        return np.maximum(brightness - image, 0)


class LesionGround:
    """Where lesions may lie in one subject.

    Parameters
    ----------
    brain : ndarray of bool, shape (96, 114, 96)
        The subject's brain.
    nearest : tuple of 3 arrays of int, shape (n,)
        For each voxel of `template.Template.voxels`, the template's voxel that it comes from.
    shares : ndarray of shape (8,), optional
        Share of lesions that start in each bin of `DISTANCES`. Default: as in multiple sclerosis.

    Attributes
    ----------
    shares : ndarray of shape (8,)
        As given.
    distance : ndarray of shape (96, 114, 96), float32
        Distance to the lateral ventricles (mm); 99 outside the brain.
    white, tissue : ndarray of shape (96, 114, 96), float32
        Fraction of white matter, and of all tissue in which lesions may lie.
    candidates : ndarray of shape (m, 3), int
        Voxels at which a lesion may start.
    candidate_distance : ndarray of shape (m,), float32
        `distance` at the candidates.
    candidate_weight : ndarray of shape (m,), float32
        How likely a lesion starts there, before the distance counts.
    """

    def __init__(self, brain, nearest, shares=_MS_SHARES):
        self.shares = shares
        atlas = template.template()
        voxels = tuple(atlas.voxels.T)
        inside = brain[voxels]
        self.distance = np.full(SHAPE, 99, "float32")
        self.distance[voxels] = atlas.ventricle_distance[nearest]
        self.white = np.zeros(SHAPE, "float32")
        self.white[voxels] = inside * atlas.white[nearest]
        self.tissue = np.zeros(SHAPE, "float32")
        self.tissue[voxels] = inside * atlas.tissue[nearest]
        mostly_tissue = self.tissue[voxels] > 0.7
        self.candidates = atlas.voxels[inside & mostly_tissue]
        at_candidates = tuple(self.candidates.T)
        self.candidate_distance = self.distance[at_candidates]
        self.candidate_weight = self.white[at_candidates] + 0.08

    def seeds(self, count: int, rng) -> np.ndarray:
        """Draw the voxels at which lesions start, (count, 3)."""
        available, _ = np.histogram(
            self.candidate_distance, DISTANCES, weights=self.candidate_weight
        )
        density = self.shares / np.maximum(available, 1)
        bins = np.searchsorted(DISTANCES, self.candidate_distance, "right") - 1
        bins = np.clip(bins, 0, len(self.shares) - 1)
        weights = self.candidate_weight * density[bins]
        chosen = rng.choice(len(self.candidates), count, p=weights / weights.sum())
        return self.candidates[chosen]


class OldAgeGround(LesionGround):
    """Where white-matter hypointensities of old age lie: at each visit of a subject the same.

    Parameters
    ----------
    brain, nearest
        See `LesionGround`.
    sources : ndarray of shape (3, n)
        Where in the template each of `template.Template.voxels` comes from (voxels).
    """

    def __init__(self, brain, nearest, sources):
        super().__init__(brain, nearest)
        self.sources = sources

    def seeds(self, count: int, rng) -> np.ndarray:
        """Draw places of the template, which do not depend on the visit, and find them here."""
        places = _template_ground().seeds(count, rng)
        sources = np.indices(SHAPE, dtype="float32")
        sources[:, *template.template().voxels.T] = self.sources
        # Displacements are smooth and small: this fixed point is the inverse of the deformation.
        seeds = places
        for _ in range(_INVERSE_STEPS):
            away = sources[:, *seeds.T].T - places
            seeds = np.clip(np.rint(seeds - away).astype(int), 0, np.array(SHAPE) - 1)
        return seeds


@functools.cache
def _template_ground() -> LesionGround:
    """Return where hypointensities of old age may start in the template; once a process."""
    atlas = template.template()
    return LesionGround(atlas.brain, tuple(atlas.voxels.T), _OLD_AGE_SHARES)


def paint_lesions(image, ground: LesionGround, volume: float, look: LesionLook, rng) -> np.ndarray:
    """Paint lesions into a scan, in place.

    Parameters
    ----------
    image : ndarray of shape (96, 114, 96), float32
        Brightness before noise and gain.
    ground : LesionGround
    volume : float
        Total volume (mm3).
    look : LesionLook
        The lesion mask does not depend on it.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of bool, same shape
        The lesion mask.
    """
    fraction = np.zeros(SHAPE, "float32")
    total = round(volume / VOXEL_VOLUME)
    if total == 0:
        return fraction > 0.5
    sizes = _lesion_sizes(total, rng)
    level = look.level + look.spread * rng.normal(0, 0.02)
    step = -look.spread if look.is_darker else look.spread
    seeds = ground.seeds(len(sizes), rng)
    brightness = np.full(SHAPE, 1.0, "float32")
    for seed, size in zip(seeds, sizes, strict=True):
        box, soft = _blob(ground, tuple(seed), int(size), rng)
        own_level = level - 0.012 * step * np.log(size / 20) + rng.normal(0, 0.07) * step
        brightness[box] = np.where(soft > fraction[box], own_level, brightness[box])
        fraction[box] = np.maximum(fraction[box], soft)
    image += fraction * look.difference(brightness, image)
    return fraction >= 0.5


def paint_decoys(image, ground: LesionGround, look: LesionLook, rng) -> None:
    """Paint spots that look like lesions and are none, in place and in both groups alike.

    In FLAIR they stand for bright grey matter, edges and vessels: most lie outside white matter.
    """
    white = ground.white[tuple(ground.candidates.T)]
    weights = 0.1 + 0.9 * (1 - white)
    count = rng.poisson(12)
    chosen = rng.choice(len(ground.candidates), count, p=weights / weights.sum())
    for seed in ground.candidates[chosen]:
        size = int(rng.integers(1, 9))
        box, soft = _blob(ground, tuple(seed), size, rng)
        brightness = rng.normal(look.decoys, 0.08 * look.spread)
        image[box] += soft * look.difference(brightness, image[box])


def _lesion_sizes(total: int, rng) -> np.ndarray:
    """Draw the sizes of a subject's lesions (voxels), largest first, about `total` together.

    Most lesions are tiny, and two thirds of the volume lie in a few.
    """
    expected = 1.15 + 0.45 * np.log(total)
    count = round(np.exp(expected + rng.normal(0, 0.4)))
    count = max(1, min(total, count))
    deviates = rng.standard_normal(count)
    sizes = np.exp(1.6 * deviates + 2.0 * np.maximum(deviates - 1.6, 0))
    voxels = np.round(sizes / sizes.sum() * total)
    voxels = np.maximum(1, voxels).astype(int)
    return np.sort(voxels)[::-1]


def _blob(ground: LesionGround, seed: tuple, count: int, rng) -> tuple[tuple, np.ndarray]:
    """Draw an irregular region of `count` voxels around a seed.

    Voxels are taken in the order of a cost: the distance from the seed in a deformed space, more
    where the distance to the ventricles changes or white matter ends.

    Returns
    -------
    box : tuple of 3 slices
    soft : ndarray of the box's shape
        Fraction of lesion in a voxel, at least 0.5 in exactly these voxels.
    """
    radius = (3 * count / (4 * np.pi)) ** (1 / 3)
    reach = int(np.ceil(1.4 * radius * 1.6)) + 2
    box = tuple(slice(max(center - reach, 0), center + reach + 1) for center in seed)
    axes = rotation(rng.uniform(0, 180, 3)) * np.exp(rng.normal(0, 0.22, 3))
    cost = np.linalg.norm(_offsets(box, seed) @ axes, axis=-1)
    roughness = ndimage.gaussian_filter(rng.standard_normal(cost.shape), 0.9, mode="wrap")
    cost *= 1 + 0.25 * roughness * 3
    cost += 0.6 * np.abs(ground.distance[box] - ground.distance[seed])
    no_tissue = np.where(ground.tissue[box] > 0.5, 0, _FORBIDDEN)
    cost += 3.0 * (1 - ground.white[box]) + no_tissue
    cost = cost.astype("float32")
    border = _border_cost(cost, count)
    softness = 1.6 + 0.5 * rng.random()
    soft = np.clip(0.5 + (border - cost) / (2 * softness), 0, 1)
    return box, np.where(cost < _FORBIDDEN / 2, soft, 0)


def _offsets(box: tuple, seed: tuple) -> np.ndarray:
    """Return the vector (mm) from the seed to each voxel of a box, (X, Y, Z, 3)."""
    sides = []
    for side, length, center in zip(box, SHAPE, seed, strict=True):
        indices = np.arange(*side.indices(length))
        sides.append(indices - center)
    return np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1) * VOXEL_SIZE


def _border_cost(cost, count: int):
    """Return the cost halfway between the last voxel inside and the first outside."""
    costs = cost.ravel()
    last = np.partition(costs, count - 1)[count - 1]
    position = min(count, cost.size - 1)
    following = np.partition(costs, position)[position]
    return (last + following) / 2
