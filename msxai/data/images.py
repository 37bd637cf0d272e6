"""The model's grid, resampling of images to it and back, and normalisation of intensities.

The grid covers the field of view of the 182x218x182 MNI grid of 1 mm with 96x114x96 voxels of
1.896 x 1.912 x 1.896 mm, axes towards right, anterior, superior. Images are resampled to it by the
affines of their headers alone, never by array index.
"""

import itertools
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
from nilearn.image import resample_img
from scipy import ndimage

from msxai.base.errors import ImageError
from msxai.base.parameters import one_of
from msxai.data import image_files

SHAPE = (96, 114, 96)
_SIZE = np.array([182, 218, 182]) / SHAPE
AFFINE = np.diag([*_SIZE, 1.0])
AFFINE[:3, 3] = np.array([-91.5, -126.5, -72.5]) + _SIZE / 2

# A voxel and the 26 that touch it by a face, an edge or a corner, for `scipy.ndimage`
NEIGHBOURHOOD_26 = np.ones((3, 3, 3), bool)

__all__ = [
    "AFFINE",
    "INTERPOLATIONS",
    "NEIGHBOURHOOD_26",
    "NORMALISATIONS",
    "SHAPE",
    "VOXEL_SIZE",
    "VOXEL_VOLUME",
    "brain_mask",
    "brain_on_grid",
    "check_lesions",
    "checked",
    "from_grid",
    "from_zero",
    "inside_of",
    "is_signed",
    "load",
    "load_mask",
    "mask_to_grid",
    "normalise",
    "notes",
    "on_grid",
    "shifted",
    "to_grid",
    "voxel_volume",
    "with_space_of",
]

INTERPOLATIONS = ("linear", "continuous")
_MOST_LABELS_THAT_MAY_DIFFER = 32  # so many levels are no image, whatever their neighbours are
_FEWEST_LEVELS_OF_FRACTIONS = 3  # above 0; of two, both may be labels
_LARGEST_LESIONS = 0.5  # of the brain; more is the brain's own mask, or that of what is no lesion
_LARGEST_BETWEEN = 500_000  # mm3 of values between 0.05 and 0.95; a mask's borders have less
NORMALISATIONS = ("zscore", "max", "minmax")


def voxel_volume(affine) -> float:
    """Volume of a voxel (mm3).

    Parameters
    ----------
    affine : array of shape (4, 4)
        From voxel indices to millimetres.

    Examples
    --------
    >>> round(voxel_volume(AFFINE), 3)
    6.873
    """
    return abs(float(np.linalg.det(np.asarray(affine)[:3, :3])))


VOXEL_VOLUME = voxel_volume(AFFINE)  # mm3, on the model's grid
VOXEL_SIZE = np.diag(AFFINE)[:3]  # mm, edges of a voxel of the model's grid


def shifted(values, steps) -> np.ndarray:
    """Shift an array by whole voxels; what enters from outside is 0.

    Parameters
    ----------
    values : array
    steps : sequence of int, one for each axis
        Voxels; positive towards higher indices.

    Examples
    --------
    >>> shifted(np.array([1, 2, 3]), [1])
    array([0, 1, 2])
    """
    values = np.asarray(values)
    source = []
    target = []
    for step, length in zip(steps, values.shape, strict=True):
        overlap = max(length - abs(step), 0)
        start = max(-step, 0)
        source.append(slice(start, start + overlap))
        start = max(step, 0)
        target.append(slice(start, start + overlap))
    moved = np.zeros_like(values)
    moved[tuple(target)] = values[tuple(source)]
    return moved


def load(path) -> nib.Nifti1Image:
    """Read an image whole and check it.

    Voxels of NaN around the brain become 0, as SPM writes NaN there. Of scaled whole numbers, those
    next to 0 become 0 where the scale has no exact 0.

    Parameters
    ----------
    path : path
        A NIfTI file, gzipped or not, whatever its name says.

    Returns
    -------
    nibabel.Nifti1Image
        Three axes, float32 voxels in memory. `notes` has what was odd in the file.

    Raises
    ------
    ImageError
        The file is missing, empty, a pointer of git-annex or Git LFS, truncated or damaged, no
        NIfTI, has four axes, holds colours or complex numbers, declares no space, a flat one or two
        that mirror each other, or has voxels that are infinite, or NaN inside the image.
    """
    path = Path(path)
    image, stored, sentences = image_files.read(path)
    return _checked(path, image, stored, sentences)


def checked(image, where) -> nib.Nifti1Image:
    """Check an image that somebody else has opened or made, as `load` checks a file.

    Parameters
    ----------
    image : nibabel.spatialimages.SpatialImage
    where : str or path
        Names the image in an error.

    Returns
    -------
    nibabel.Nifti1Image
        As of `load`.

    Raises
    ------
    ImageError
        As `load`.
    """
    sentences = image_files.check(where, image)
    return _checked(where, image, image_files.voxels_of(where, image), sentences)


def _checked(path, image, stored, sentences: list[str]) -> nib.Nifti1Image:
    """Return an image of one finite number a voxel; `path` names it in an error."""
    if stored.dtype.kind not in "iuf":
        raise ImageError(
            path,
            f"voxels of type {stored.dtype}",
            "one number a voxel",
            "Take one channel, or the magnitude, of it.",
        )
    with np.errstate(over="ignore"):  # what float32 does not hold is infinite, and refused
        voxels = stored.astype("float32")
    if voxels.ndim > 3 and voxels.size == np.prod(voxels.shape[:3]):
        voxels = voxels.reshape(voxels.shape[:3])
    if voxels.ndim != 3:
        raise ImageError(
            path,
            f"{voxels.ndim} axes {voxels.shape}",
            "three axes",
            "Take one volume of it, for instance with nibabel's four_to_three.",
        )
    sentences += _restore_zero(voxels, image)
    not_finite = int(np.size(voxels) - np.isfinite(voxels).sum())
    if not_finite:
        background = _nan_background(voxels)
        _check_finite(path, voxels, background)
        voxels[background] = 0
        sentences.append(f"{not_finite} voxels around the brain were NaN and were read as 0.")
    header = image.header if isinstance(image, nib.Nifti1Pair) else None
    return nib.Nifti1Image(voxels, image.affine, header, extra={"notes": sentences})


def notes(image) -> list[str]:
    """Return what was odd in a file that `load` or `load_mask` has read; sentences."""
    return list(image.extra.get("notes", []))


def _restore_zero(voxels, image) -> list[str]:
    """Make scaled voxels within half a step of 0 to 0, in place; return a note if there are any.

    With an intercept, whole numbers have no exact 0, and the background would differ from 0.
    """
    step = getattr(image.dataobj, "slope", 1)
    intercept = getattr(image.dataobj, "inter", 0)
    if np.ndim(step) or not intercept:
        return []
    is_rounded = (np.abs(voxels) <= abs(step) / 2) & (voxels != 0)
    count = np.count_nonzero(is_rounded)
    if not count:
        return []
    voxels[is_rounded] = 0
    return [f"{count} voxels within half a step ({abs(step):.2g}) of 0 were read as 0."]


def _nan_background(voxels) -> np.ndarray:
    """Return the voxels of NaN that reach the border of the image; bool.

    Voxels of NaN that are enclosed, or fill a plane between others, are not background.
    """
    missing = np.isnan(voxels)
    background = missing & ~ndimage.binary_fill_holes(~missing)
    for axis in range(3):
        other_axes = tuple({0, 1, 2} - {axis})
        has_values = np.flatnonzero(~missing.all(axis=other_axes))
        planes = np.moveaxis(background, axis, 0)
        if len(has_values):
            gaps = np.setdiff1d(np.arange(has_values[0], has_values[-1]), has_values)
            planes[gaps] = False
    return background


def _check_finite(path, voxels, background) -> None:
    """Refuse infinite voxels, and NaN inside the image or everywhere."""
    wrong = ~np.isfinite(voxels) & ~background
    count = int(wrong.sum())
    if not count and not background.all():
        return
    raise ImageError(
        path,
        f"{count or wrong.size} voxels that are NaN or infinite",
        "finite voxels",
        "Mend the step that wrote it; 0 is what background should be.",
    )


def load_mask(path, scan=None, brain: bool = False) -> nib.Nifti1Image:
    """Read a mask, check it and make it 0 and 1.

    Inside is from 0.5: whole numbers above 0, probabilities and interpolated values from 0.5. A
    mask of 0 and a large number, such as 255, is inside from half of it, interpolated or not.

    Parameters
    ----------
    path : path
        A NIfTI file of whole numbers, or of probabilities or interpolated values.
    scan : nibabel.Nifti1Image, optional
        The scan that the mask belongs to, in the same space; shapes may differ.
    brain : bool
        Whether it is a brain mask, which must not be empty. A lesion mask may be.

    Raises
    ------
    ImageError
        As `load`; values of neither kind or below 0, numbers that are an image's, an empty brain
        mask, probabilities that nowhere reach 0.5, or a mask most of which lies outside the scan
        or that lies in another space of the scan's header than the one that is used.
    """
    image = load(path)
    values = np.asarray(image.dataobj)
    largest = values.max()
    fractions = _as_fractions(path, values)
    _check_fractions(path, fractions, voxel_volume(image.affine))
    inside = _is_inside(fractions)
    if not inside.any() and (brain or largest > 0):
        description = f"probabilities up to {largest:.2g}, so that no voxel is inside"
        if largest <= 0:
            description = "a mask without a voxel"
        raise ImageError(
            path,
            description,
            "voxels above 0, or probabilities from .5",
            "Make it anew, or remove it.",
        )
    mask = nib.Nifti1Image(inside.astype("float32"), image.affine, image.header, image.extra)
    if scan is not None and inside.any():
        _check_same_space(path, mask, scan)
        _check_overlap(path, mask, scan)
    return mask


def inside_of(where, values) -> np.ndarray:
    """Return which voxels a mask marks, by the rule of `load_mask`.

    Parameters
    ----------
    where : str or path
        Names the mask in an error.
    values : ndarray

    Returns
    -------
    ndarray of bool, same shape

    Raises
    ------
    ImageError
        Values that are no mask's.

    Examples
    --------
    >>> inside_of("mask.npy", np.array([0, 0.2, 0.7, 1])).tolist()
    [False, False, True, True]
    """
    return _is_inside(_as_fractions(where, values))


def _is_inside(values) -> np.ndarray:
    """Return where a mask's values are at least 0.5; bool.

    Whole numbers above 0 are, and what an interpolation leaves beside 0 is not.
    """
    return np.asarray(values) > 0.5 - 1e-6


def _as_fractions(path, values) -> np.ndarray:
    """Return labels or fractions of a mask; refuse what is neither."""
    largest = values.max()
    if values.min() <= -0.5:
        raise ImageError(
            path,
            f"values down to {values.min():g}",
            "a mask: 0 outside and above 0 inside",
            "Write 0 outside and 1 inside. Give the mask, not an image.",
        )
    whole_numbers = np.abs(values - np.rint(values)).max() < 1e-3
    if largest > _MOST_LABELS_THAT_MAY_DIFFER:
        if _is_interpolated(np.rint(values)):
            return values / largest
        if whole_numbers:
            _check_labels(path, np.rint(values))
    if whole_numbers or largest <= 1.5:  # an interpolated mask may overshoot a little
        return values
    from_levels = np.minimum(np.abs(values), np.abs(values - largest))
    if from_levels.max() > min(1e-3 * largest, 0.25):
        raise ImageError(
            path,
            f"fractions and values up to {largest:g}",
            "a mask: 0 and 1, labels, or probabilities",
            "Give the mask, not an image.",
        )
    return values / largest


def _check_labels(path, values) -> None:
    """Refuse whole numbers that are no labels: intensities, or probabilities in per cent.

    Labels differ between neighbours at the borders of regions alone, however many regions there
    are. Intensities differ almost everywhere. Probabilities rise from the border of a lesion to its
    middle. Without this, all voxels above 0 would be inside.
    """
    count = len(np.unique(values[values > 0]))
    if count < _FEWEST_LEVELS_OF_FRACTIONS:
        return
    pairs, differing, rising = _neighbours(values)
    if count > _MOST_LABELS_THAT_MAY_DIFFER and differing > pairs / 2:
        raise ImageError(
            path,
            f"{count} whole numbers above 0, which differ in {differing / pairs:.0%} of "
            "neighbouring voxels, as intensities do",
            "a mask: 0 and 1, labels, or probabilities up to 1",
            "Give the mask, not an image. Divide probabilities in per cent by 100.",
        )
    if differing > pairs / 10 and rising > 0.75:
        raise ImageError(
            path,
            f"{count} whole numbers up to {values.max():g}, which rise from the border of a lesion "
            "to its middle, as probabilities do",
            "a mask: 0 and 1, labels, or probabilities up to 1",
            "Divide probabilities in per cent by 100, and those of one byte by 255.",
        )


def _neighbours(values) -> tuple[int, int, float]:
    """Compare neighbouring voxels above 0.

    Returns
    -------
    pairs, differing : int
        All pairs of neighbours, and those of different values.
    rising : float
        Of the pairs of different values, the share in which the voxel farther from 0 has the
        larger value.
    """
    inside = values > 0
    depth = ndimage.distance_transform_edt(inside)
    depth += ndimage.gaussian_filter(inside.astype(float), 1)  # differs where lesions are thin
    pairs = 0
    differing = 0
    ordered = 0
    rising = 0
    for axis in range(values.ndim):
        along = np.moveaxis(values, axis, 0)
        both_inside = (along[1:] > 0) & (along[:-1] > 0)
        steps = np.diff(along, axis=0)[both_inside]
        steps_of_depth = np.diff(np.moveaxis(depth, axis, 0), axis=0)[both_inside]
        pairs += len(steps)
        differing += np.count_nonzero(steps)
        ordered += np.count_nonzero(steps * steps_of_depth)
        rising += np.count_nonzero(steps * steps_of_depth > 0)
    return pairs, differing, rising / max(ordered, 1)


def _is_interpolated(values) -> bool:
    """Return whether whole numbers are a mask of 0 and one large number that was interpolated.

    Then its inner voxels have the large number, and around them the numbers fall to 0. Around
    a lesion with a number of its own there is 0 at once.
    """
    largest = values.max()
    if not np.any((values > 0) & (values < largest)):
        return False
    inner = ndimage.binary_erosion(values > 0, NEIGHBOURHOOD_26, iterations=2)
    if not inner.any() or np.mean(values[inner] == largest) < 0.9:
        return False
    has_largest = values == largest
    around = ndimage.binary_dilation(has_largest) & ~has_largest
    return np.mean(values[around] > 0) > 0.5


def _check_fractions(path, fractions, volume: float) -> None:
    """Refuse fractions that are an image's: most are neither near 0 nor near 1, in half a litre."""
    above = np.count_nonzero(fractions > 0.05)
    between = np.count_nonzero((fractions > 0.05) & (fractions < 0.95))
    if between <= above / 2 or between * volume <= _LARGEST_BETWEEN:
        return
    raise ImageError(
        path,
        f"values between 0.05 and 0.95 in {between * volume / 1e6:.1f} l, as an image has that was "
        "scaled to 0 to 1",
        "a mask: 0 and 1, labels, or probabilities",
        "Give the mask, not an image.",
    )


def check_lesions(where, lesions, brain) -> None:
    """Refuse a lesion mask that marks most of the brain.

    Parameters
    ----------
    where : str or path
        Names the lesion mask in the error.
    lesions, brain : ndarray of bool, same shape

    Raises
    ------
    ImageError
        More than half of the brain is marked, which no disease does: the file is the mask of the
        brain or of a tissue.

    Examples
    --------
    >>> brain = np.array([True, True, True, False])
    >>> check_lesions("lesions.nii", np.array([True, False, False, False]), brain)
    """
    size = np.count_nonzero(brain)
    marked = np.count_nonzero(np.asarray(lesions) & brain)
    if marked <= _LARGEST_LESIONS * size:
        return
    raise ImageError(
        where,
        f"a lesion mask that marks {marked / size:.0%} of the brain",
        f"lesions, in at most {_LARGEST_LESIONS:.0%} of the brain",
        "Is it the mask of the brain? Give that of the lesions.",
    )


def _check_same_space(path, mask, scan) -> None:
    """Refuse a mask that fits its scan by a space of their headers that is not used.

    SPM moves the sform and leaves the qform as it was.
    """
    of_scan = [scan.affine, *_unused_spaces(scan)]
    of_mask = [mask.affine, *_unused_spaces(mask)]
    used, *unused = itertools.product(of_scan, of_mask)
    same_shape = scan.shape == mask.shape
    used_apart = image_files.distance_in_voxels(*used, scan.shape)
    for pair in unused:
        fits_better = _share_on(scan, mask, *pair) > _share_on(scan, mask, *used) + 0.05
        apart = image_files.distance_in_voxels(*pair, scan.shape)
        if fits_better or (same_shape and used_apart > 1 and apart <= 0.5):
            raise ImageError(
                path,
                "a mask that fits its scan by a space of their headers that is not used",
                "a mask in the scan's space (its sform, or its qform where it has no sform)",
                "Find out which space is right, and write it to sform and qform of both files.",
            )


def _unused_spaces(image) -> list[np.ndarray]:
    """Return affines of a header that are not used and put a voxel elsewhere by more than one."""
    unused = []
    for affine in image_files.spaces(image).values():
        if image_files.distance_in_voxels(image.affine, affine, image.shape) > 1:
            unused.append(affine)
    return unused


def _check_overlap(path, mask, scan) -> None:
    """Refuse a mask most of which lies where the scan has no voxel, or 0."""
    share = _share_on(scan, mask, scan.affine, mask.affine)
    if share < 0.5:
        raise ImageError(
            path,
            f"a mask of which {share:.0%} lies on its scan",
            "a mask in the scan's space",
            "Its header puts it elsewhere: is it another scan's mask, or was one of them "
            "registered without the other?",
        )


def _share_on(scan, mask, scan_affine, mask_affine) -> float:
    """Return the share of a mask that lies where its scan has a value other than 0."""
    places = np.flatnonzero(mask.dataobj)
    places = places[:: 1 + len(places) // 100_000]
    sampled = np.transpose(np.unravel_index(places, mask.shape))
    to_scan = np.linalg.inv(scan_affine) @ mask_affine
    in_scan = np.rint(nib.affines.apply_affine(to_scan, sampled)).astype(int)
    within = ((in_scan >= 0) & (in_scan < scan.shape)).all(axis=1)
    values = np.asarray(scan.dataobj)[tuple(in_scan[within].T)]
    return np.count_nonzero(values) / len(sampled)


def on_grid(image) -> bool:
    """Return whether an image already has the model's grid."""
    return image.shape == SHAPE and np.allclose(image.affine, AFFINE, atol=1e-4)


def to_grid(image, interpolation: str = "linear") -> np.ndarray:
    """Resample an image to the model's grid by its affine.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        Three axes, any orientation that its affine declares.
    interpolation : {"linear", "continuous"}
        Linear, or third-order spline, which stays within the image's own range.

    Returns
    -------
    ndarray of shape (96, 114, 96), float32
        0 outside the image; negative values stay negative.

    Raises
    ------
    ParameterError
        Unknown interpolation.
    """
    one_of("interpolation", interpolation, INTERPOLATIONS)
    if on_grid(image):
        return np.array(image.dataobj, dtype="float32")
    return _resample(image, AFFINE, SHAPE, interpolation)


def mask_to_grid(image) -> np.ndarray:
    """Resample a mask linearly and cut it at 0.5; bool of shape (96, 114, 96)."""
    mask = nib.Nifti1Image(_is_inside(image.dataobj).astype("float32"), image.affine)
    return to_grid(mask) >= 0.5


def from_grid(values, image) -> nib.Nifti1Image:
    """Resample values on the model's grid to an image's own grid.

    Where the grids differ, values are interpolated linearly and multiplied by the ratio of the
    voxels' volumes. So their sum stays about the same: relevance is an amount per voxel, not an
    intensity.

    Parameters
    ----------
    values : ndarray of shape (96, 114, 96)
    image : nibabel.Nifti1Image
        Its shape, affine and space codes are taken.
    """
    values = np.asarray(values, "float32")
    if not on_grid(image):
        ratio = voxel_volume(image.affine) / VOXEL_VOLUME
        source = nib.Nifti1Image(values, AFFINE)
        values = _resample(source, image.affine, image.shape, "linear")
        values = values * np.float32(ratio)
    return with_space_of(image, values)


def with_space_of(image, values) -> nib.Nifti1Image:
    """Return an image of `values` with the affine and the space codes of another one."""
    result = nib.Nifti1Image(values, image.affine)
    result.header.set_xyzt_units("mm")
    result.set_sform(image.affine, code=int(image.header["sform_code"]))
    result.set_qform(image.affine, code=int(image.header["qform_code"]))
    return result


def _resample(image, affine, shape, interpolation) -> np.ndarray:
    """Resample an image to a grid, float32."""
    source = nib.Nifti1Image(np.asarray(image.dataobj, "float32"), image.affine)
    with warnings.catch_warnings():
        # Masks are resampled linearly on purpose; they are cut at 0.5 afterwards.
        warnings.filterwarnings("ignore", "Resampling binary images")
        resampled = resample_img(
            source,
            affine,
            shape,
            interpolation=interpolation,
            force_resample=True,
            copy_header=True,
        )
    return np.asarray(resampled.dataobj, "float32")


def is_signed(values) -> bool:
    """Return whether a brain-extracted image has a brain of either sign and 0 outside.

    z-scores have, and the magnitudes below 0 amount to those above 0. Noise around a head and an
    interpolation leave small ones: below a fifth of the sum above 0.

    Parameters
    ----------
    values : ndarray of shape (X, Y, Z)
    """
    values = np.asarray(values)
    below = -np.minimum(values, 0).sum(dtype=float)
    above = np.maximum(values, 0).sum(dtype=float)
    return bool(below > 0.2 * above and _occupied(values).mean() < 0.75)


def _occupied(values) -> np.ndarray:
    """Return where values differ from 0; rounding errors of an interpolation do not; bool."""
    magnitudes = np.abs(values)
    return magnitudes > 1e-5 * magnitudes.max()


def brain_mask(values) -> np.ndarray:
    """Find the brain in a brain-extracted image.

    It is the largest component of voxels above 0.2 of the mean of positive voxels, holes filled. In
    an image of either sign (`is_signed`), it is that of voxels other than 0.

    Parameters
    ----------
    values : ndarray of shape (X, Y, Z)

    Returns
    -------
    ndarray of bool, same shape
        Empty where no voxel is positive.
    """
    values = np.asarray(values)
    positive = values > 0
    if not positive.any():
        return np.zeros(values.shape, bool)
    bright = values > 0.2 * values[positive].mean()
    if is_signed(values):
        bright = _occupied(values)
    parts, count = ndimage.label(bright)
    sizes = ndimage.sum_labels(np.ones_like(parts), parts, range(1, count + 1))
    largest = 1 + np.argmax(sizes)
    return ndimage.binary_fill_holes(parts == largest)


def brain_on_grid(image, values) -> np.ndarray:
    """Find the brain of a brain-extracted image on the model's grid.

    Parameters
    ----------
    image : nibabel.Nifti1Image
    values : ndarray of shape (96, 114, 96)
        Its values on the model's grid (`to_grid`).

    Returns
    -------
    ndarray of bool, shape (96, 114, 96)
        `brain_mask` of the values. In an image of either sign, that of the image itself is
        resampled, because each voxel at its border has a value other than 0 after resampling.
    """
    own = np.asarray(image.dataobj)
    if not is_signed(own):
        return brain_mask(values)
    return mask_to_grid(nib.Nifti1Image(brain_mask(own).astype("float32"), image.affine))


def from_zero(values, brain) -> np.ndarray:
    """Return intensities above 0 of a brain of either sign; any other image as it is.

    Parameters
    ----------
    values : ndarray
    brain : ndarray of bool, same shape

    Returns
    -------
    ndarray, same shape
        Values minus the lowest of the brain inside it, 0 outside.
    """
    if not brain.any() or not is_signed(values):
        return values
    return np.where(brain, values - values[brain].min(), 0).astype("float32")


def normalise(values, mask, how: str = "zscore") -> np.ndarray:
    """Bring intensities to a common scale; a new float32 array.

    Parameters
    ----------
    values : ndarray
        One image.
    mask : ndarray of bool, same shape
        Its brain.
    how : {"zscore", "max", "minmax"}
        "zscore": mean 0 and standard deviation 1 inside the mask, 0 outside (a voxel of 0 carries
        no epsilon-LRP relevance). "max": divided by the image's maximum, as the paper does before
        fine-tuning. "minmax": to 0..1, the first half of what the paper does before pre-training
        (`msxai.data.prepared` adds the voxel-wise z-score).

    Raises
    ------
    ParameterError
        Unknown `how`.
    ImageError
        Nothing to normalise: an empty mask, constant voxels, or no positive maximum to divide by.

    Examples
    --------
    >>> normalise(np.array([0, 5, 10]), np.array([True, True, True]), "max").tolist()
    [0.0, 0.5, 1.0]
    """
    one_of("normalisation", how, NORMALISATIONS)
    values = np.asarray(values, float)
    inside = values[mask] if how == "zscore" else values.ravel()
    if inside.size == 0 or np.ptp(inside) == 0:
        raise ImageError(
            "image",
            "no brain voxels" if inside.size == 0 else "the same value in all voxels",
            "a brain with contrast",
            "Look at the scan and its brain mask: do they overlap?",
        )
    if how == "max" and values.max() <= 0:
        raise ImageError(
            "image",
            f"a maximum of {values.max():g}",
            "positive voxels",
            "Look at the scan, or use zscore.",
        )
    if how == "zscore":
        zscores = (values - inside.mean()) / inside.std()
        normalised = np.where(mask, zscores, 0)
    elif how == "max":
        normalised = values / values.max()
    else:
        normalised = (values - values.min()) / np.ptp(values)
    return normalised.astype("float32")
