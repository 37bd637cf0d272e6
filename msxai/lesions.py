"""Lesion filling: lesions replaced by what the normal-appearing white matter around them looks like, and the same at sham sites.

The paper's way (after Valverde et al. 2014, NeuroImage: Clinical 6:86-92, doi:10.1016/j.nicl.2014.08.016) painted all lesion voxels of a
slice with one random value: a patch that any network can see. It is kept here as "constant", to show that. "noise" takes pieces of
white matter near by, so that noise and texture are the scan's own, and levels them to the surroundings of the hole as seamless cloning does
(Pérez et al. 2003, ACM Transactions on Graphics 22:313-318, doi:10.1145/882262.882269).
"""

import functools
import zlib
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nilearn import datasets
from scipy import ndimage

from . import images
from .errors import ImageError
from .parameters import one_of

FILLINGS = ("none", "noise", "constant")
SCALES = (10.0, 5.0)  # mm, standard deviation: how far the local mean reaches; the finest that finds source decides
PRIOR = 0.05  # weight of the next coarser scale: counts where less than about a twentieth of the surroundings is white matter
DILATION = 2.0  # mm: lesions are masked to where they are half as bright; beyond that their rim is filled too
BORDER = 4.0  # mm: from DILATION to here the filled tissue gives way to the scan
SMOOTH = 2.0  # mm, standard deviation
SURE = 0.9  # probability
REACH = 30.0  # mm: how far a piece may come from, along each axis
TRIES, PIECES = 300, 8  # steps looked at for a piece; pieces for one hole


def white_matter(image) -> np.ndarray:
    """Where the template is white matter for sure: subjects differ at its edge.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        In MNI152 space, on any grid.

    Returns
    -------
    ndarray of bool, shape of the image
    """
    tissue, affine = _template()
    step = np.linalg.inv(affine) @ image.affine
    white = ndimage.affine_transform(tissue, step[:3, :3], step[:3, 3], image.shape, order=1)
    return white >= SURE


@functools.cache
def _template():
    found = datasets.load_mni152_wm_template(resolution=1)
    return np.asarray(found.dataobj, "float32"), found.affine


def normal_appearing(values, white, lesions, size) -> np.ndarray:
    """White matter that is no lesion, by place and by brightness.

    Parameters
    ----------
    values : ndarray of shape (X, Y, Z)
    white, lesions : ndarray of bool, same shape
        White matter by the template; lesions of the scan, whose surroundings are left out up to `BORDER`.
    size : sequence of 3 floats
        Edges of a voxel (mm).

    Returns
    -------
    ndarray of bool, same shape
        Within 3 standard deviations of the median, smoothed within 2.5: what template and scan do not share (ventricles, sulci, lesions
        that nobody masked) is left out. Known limit: the medians are the whole scan's, so white matter that is brighter as a region, as the
        pons in FLAIR may be, is no source, and lesions there are filled too dark.
    """
    values, found = np.asarray(values, "float32"), np.asarray(white, bool) & (values != 0)
    if lesions.any():
        found &= ndimage.distance_transform_edt(~lesions, sampling=size) > BORDER
    if not found.any():
        return found
    # single voxels are noisy, and grey matter is only a few of their standard deviations away: their surroundings tell it better
    smooth = ndimage.gaussian_filter(values, SMOOTH / np.asarray(size))
    for array, limit in ((smooth, 2.5), (values, 3), (smooth, 2.5)):
        middle = np.median(array[found])
        found &= np.abs(array - middle) <= limit * 1.4826 * np.median(np.abs(array[found] - middle))
    return found


def soft(mask, size, within) -> np.ndarray:
    """A mask, slightly dilated, with a soft border.

    Parameters
    ----------
    mask : ndarray of bool, shape (X, Y, Z)
    size : sequence of 3 floats
        Edges of a voxel (mm).
    within : ndarray of bool, same shape
        Where it may grow.

    Returns
    -------
    ndarray of float32, same shape
        1 in the mask and up to `DILATION` from it, falling to 0 at `BORDER`.
    """
    if not mask.any():
        return np.zeros(mask.shape, "float32")
    distance = ndimage.distance_transform_edt(~mask, sampling=size)
    weight = np.clip((BORDER - distance) / (BORDER - DILATION), 0, 1)
    return np.where(mask | within, weight, 0).astype("float32")


@dataclass(frozen=True)
class Filler:
    """Fills one scan after another: an `alter` of `msxai.prepared.prepare`.

    Parameters
    ----------
    how : {"noise", "constant"}
        See `fill`.
    sites : {"lesions", "sham"}
        "lesions": the scan's own, of patients and controls alike. "sham": the same masks mirrored left to right, where that is
        normal-appearing white matter; lesions stay as they are.
    seed : int
        Together with participant and session it decides the draws.
    """

    how: str = "noise"
    sites: str = "lesions"
    seed: int = 0

    def __post_init__(self):
        one_of("filling", self.how, FILLINGS[1:])
        one_of("sites", self.sites, ("lesions", "sham"))

    def __call__(self, scan, lesions, row: dict) -> nib.Nifti1Image:
        """The filled scan; an unchanged copy where its lesion mask is empty.

        Raises
        ------
        ImageError
            The scan has no lesion mask: nobody knows what there is to fill.
        """
        if lesions is None:
            raise ImageError(
                row.get("image") or row["participant_id"],
                "no lesion mask",
                "a mask, which may be empty",
                "Give one, or leave this scan out of what is filled.",
            )
        values, size = np.asarray(scan.dataobj, "float32"), nib.affines.voxel_sizes(scan.affine)
        mask = _moved(lesions, scan, np.eye(4))
        white = white_matter(scan)
        normal = normal_appearing(values, white, mask, size)
        within = white & (values > values[normal].mean() - 3 * values[normal].std()) if normal.any() else normal  # a rim, but no fluid
        if self.sites == "sham":
            mask = _moved(lesions, scan, np.diag([-1.0, 1, 1, 1])) & normal
        name = zlib.crc32(f"{row['participant_id']} {row['session_id']}".encode())
        filled = fill(values, soft(mask, size, within), normal, how=self.how, seed=[self.seed, name], size=size)
        return images.with_space_of(scan, filled)


def on_grid(mask, scan) -> np.ndarray:
    """A mask of MNI152 space (nibabel) on a scan's grid; bool."""
    return _moved(mask, scan, np.eye(4))


def _moved(mask, scan, move) -> np.ndarray:
    """A mask on a scan's grid after a movement in MNI152 space (mm, its own inverse)."""
    step = np.linalg.inv(mask.affine) @ move @ scan.affine
    moved = ndimage.affine_transform(np.asarray(mask.dataobj, "float32"), step[:3, :3], step[:3, 3], scan.shape, order=1)
    return moved >= 0.5 - 1e-6


def fill(values, mask, source, *, how: str = "noise", seed=0, size=(1.0, 1.0, 1.0)) -> np.ndarray:
    """Replace voxels by draws from the tissue around them.

    Parameters
    ----------
    values : ndarray of shape (X, Y, Z)
        One scan, in any unit.
    mask : ndarray of shape (X, Y, Z), bool or float
        What is replaced; fractions mix the old with the new (`soft`).
    source : ndarray of shape (X, Y, Z), bool
        Whose values the new ones resemble, usually normal-appearing white matter; voxels in `mask` do not count.
    how : {"noise", "constant"}
        "noise": pieces of source from near by, levelled to the local mean. "constant": one
        value for all voxels of a slice of the last axis, N(mean, sd / 2) of the slice's source, without a soft border (the paper's way).
    seed : int or sequence of int
        Of the draws.
    size : sequence of 3 floats
        Edges of a voxel (mm).

    Returns
    -------
    ndarray of shape (X, Y, Z), float32
        Equal to `values`, bit for bit, where `mask` is 0; whole numbers where all of `values` are.

    Raises
    ------
    ParameterError
        Unknown `how`.
    """
    one_of("filling", how, FILLINGS[1:])
    values, weight, rng = np.asarray(values, "float32"), np.asarray(mask, "float32"), np.random.default_rng(seed)
    source = np.asarray(source, bool) & (weight == 0)
    if not weight.any() or not source.any():
        return values.copy()
    new, weight = (_noise(values, weight, source, rng, size), weight) if how == "noise" else (_constant(values, source, rng), weight > 0)
    if np.array_equal(values, np.rint(values)):  # fractions among whole numbers would tell
        new = np.rint(new)
    return np.where(weight > 0, new, values).astype("float32")


def _noise(values, weight, source, rng, size) -> np.ndarray:
    """Pieces of source, moved to each hole and levelled to its surroundings; the old tissue's texture is mixed in at the border."""
    size = np.asarray(size)
    margin, reach = (np.ceil(length / size).astype(int) for length in (2 * SCALES[0], REACH))
    edge = margin + reach
    old, known = (np.pad(array, [(one, one) for one in edge]) for array in (values, source))
    new, level = values.copy(), values[source].mean()
    rests = values[source] - level
    place = _local(values, weight == 0, size, level) / rests.std()  # fluid and grey matter near by tell deep white matter from its edge
    place = np.pad(place, [(one, one) for one in edge])
    for number, hole in enumerate(ndimage.find_objects(found := ndimage.label(weight > 0, np.ones((3, 3, 3)))[0]), start=1):
        left = found[hole] == number
        around = tuple(slice(side.start + far, side.stop + far + 2 * wide) for side, far, wide in zip(hole, reach, margin, strict=True))
        inner = tuple(slice(wide, wide + side.stop - side.start) for side, wide in zip(hole, margin, strict=True))
        part = weight[hole]
        for turn in range(PIECES + 1):
            if turn < PIECES:
                step = _step(np.argwhere(left) + [side.start for side in hole] + edge, known, place, reach, rng)
                there = tuple(slice(side.start + one, side.stop + one) for side, one in zip(around, step, strict=True))
                both = known[around] & known[there]
                mean, its = (_local(old[box], both, size, level)[inner] for box in (around, there))
                drawn, now = old[there][inner] - its, left & known[there][inner]
            else:  # nothing that fits is near
                mean, drawn, now = _local(old[around], known[around], size, level)[inner], rng.choice(rests, left.shape), left
            kept = old[around][inner] - mean
            limit = 3 * rests.std()
            mixed = mean + (part * drawn + (1 - part) * np.clip(kept, -limit, limit)) / np.sqrt(part**2 + (1 - part) ** 2)
            new[hole] = np.where(now, mixed, new[hole])
            left &= ~now
            if not left.any():
                break
    return new


def _step(voxels, known, place, reach, rng) -> np.ndarray:
    """Of some random steps (voxels) the one that takes most voxels onto source in a place like theirs."""
    steps = rng.integers(-reach, reach + 1, (TRIES, 3))
    here, flat = np.ravel_multi_index(voxels.T, known.shape), steps @ (np.array(known.strides) // known.itemsize)
    there = here + flat[:, None]
    return steps[np.argmax((known.ravel()[there] * np.exp(-((place.ravel()[there] - place.ravel()[here]) ** 2))).sum(1))]


def _local(values, source, size, level, scales=SCALES) -> np.ndarray:
    """Mean of the source round each voxel, from coarse (`level`) to fine: a finer one counts as far as it finds source."""
    mean = np.full(values.shape, level, "float32")
    inside, known = source.astype("float32"), np.where(source, values, np.float32(0))
    for scale in scales:
        total, weight = (ndimage.gaussian_filter(array, scale / size, truncate=2, mode="constant") for array in (known, inside))
        mean = (total + PRIOR * mean) / (weight + PRIOR)
    return mean


def _constant(values, source, rng) -> np.ndarray:
    """The paper's fill: one value a slice."""
    new, whole = np.empty_like(values), values[source]
    for index in range(values.shape[2]):
        inside = values[..., index][source[..., index]]
        inside = inside if len(inside) > 1 else whole
        new[..., index] = rng.normal(inside.mean(), inside.std() / 2)
    return new
