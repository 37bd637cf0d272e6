"""The model's grid, resampling of images to it and back, and normalisation of intensities.

The grid covers the field of view of the 182x218x182 MNI grid of 1 mm with 96x114x96 voxels of
1.896 x 1.912 x 1.896 mm, axes towards right, anterior, superior. Images are resampled to it by the
affines of their headers alone, never by array index.
"""

import gzip
import warnings
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nilearn.image import resample_img
from scipy import ndimage

from msxai.base.errors import ImageError
from msxai.base.parameters import one_of

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
    "from_grid",
    "load",
    "load_mask",
    "mask_to_grid",
    "normalise",
    "on_grid",
    "shifted",
    "to_grid",
    "voxel_volume",
    "with_space_of",
]

INTERPOLATIONS = ("linear", "continuous")
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

    Parameters
    ----------
    path : path
        A NIfTI file.

    Returns
    -------
    nibabel.Nifti1Image
        Three axes, float32 voxels in memory.

    Raises
    ------
    ImageError
        The file is missing, empty, truncated or damaged, no NIfTI, has four axes, holds colours or
        complex numbers, declares no space, a flat one or two that mirror each other, or has voxels
        that are not finite.
    """
    path = Path(path)
    _check_file(path)
    image, stored = _read(path)
    if stored.dtype.kind not in "iuf":
        raise ImageError(
            path,
            f"voxels of type {stored.dtype}",
            "one number a voxel",
            "Take one channel, or the magnitude, of it.",
        )
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
    _check_space(path, image)
    not_finite = int(np.size(voxels) - np.isfinite(voxels).sum())
    if not_finite:
        raise ImageError(
            path,
            f"{not_finite} voxels that are NaN or infinite",
            "finite voxels",
            "Mend the step that wrote it; 0 is what background should be.",
        )
    header = image.header if isinstance(image, nib.Nifti1Image) else None
    return nib.Nifti1Image(voxels, image.affine, header)


def _check_file(path: Path) -> None:
    """Refuse what is no file, an empty file and a web page."""
    if not path.is_file():
        raise ImageError(
            path,
            "no such file",
            "a NIfTI image (.nii or .nii.gz)",
            "Check the path in the cohort's table or folder.",
        )
    start = path.read_bytes()[:256]
    if not start:
        raise ImageError(
            path, "an empty file (0 bytes)", "a NIfTI image", "Copy or download it again."
        )
    byte_order_mark = b"\xef\xbb\xbf"
    if start.removeprefix(byte_order_mark).lstrip().startswith(b"<"):
        raise ImageError(
            path,
            "a web page (HTML or XML)",
            "a NIfTI image",
            "The download went wrong (a login page?): download it again.",
        )


def _read(path: Path):
    """Read an image and its voxels as they are stored."""
    try:
        if path.suffix == ".gz":
            _check_sum(path)
        image = nib.load(path)
        stored = np.asanyarray(image.dataobj)
    except ImageFileError as error:
        raise ImageError(
            path,
            f"a file that is no NIfTI image ({error})",
            "a NIfTI image",
            "Convert it, for instance with dcm2niix.",
        ) from error
    except (OSError, EOFError, zlib.error, ValueError, HeaderDataError) as error:
        raise ImageError(
            path, f"damaged data ({error})", "a whole NIfTI image", "Copy or download it again."
        ) from error
    return image, stored


def _check_space(path: Path, image) -> None:
    """Refuse a header without a space, with a flat one, or with two that mirror each other."""
    header = image.header
    is_nifti = isinstance(image, nib.Nifti1Image)
    if is_nifti and not (header["sform_code"] or header["qform_code"]):
        raise ImageError(
            path,
            "a header that declares no space (sform and qform code 0)",
            "an affine from voxels to millimetres",
            "Set it from the scanner's data; guessing could swap left and right.",
        )
    determinant = np.linalg.det(image.affine[:3, :3])
    if not np.isfinite(image.affine).all() or abs(determinant) < 1e-9:
        raise ImageError(
            path,
            f"an affine of determinant {determinant:g}",
            "voxels that have a volume",
            "Set it from the scanner's data.",
        )
    if not is_nifti or header["sform_code"] <= 0 or header["qform_code"] <= 0:
        return
    # The sign of pixdim[0] is the qform's handedness (NIfTI-1 standard, Cox et al. 2004).
    sform_is_left_handed = determinant < 0
    qform_is_left_handed = header["pixdim"][0] < 0
    if sform_is_left_handed != qform_is_left_handed:
        hands = {True: "left-handed", False: "right-handed"}
        sform = hands[bool(sform_is_left_handed)]
        qform = hands[bool(qform_is_left_handed)]
        raise ImageError(
            path,
            f"two spaces that mirror each other (sform {sform}, qform {qform})",
            "sform and qform of one handedness",
            "Find out which is right, and write it to both: the other one swaps left and right.",
        )


def load_mask(path, scan=None, brain: bool = False) -> nib.Nifti1Image:
    """Read a mask, check it and make it 0 and 1.

    Parameters
    ----------
    path : path
        A NIfTI file of whole numbers (inside above 0), or of probabilities or interpolated values
        (inside from 0.5).
    scan : nibabel.Nifti1Image, optional
        The scan that the mask belongs to, in the same space; shapes may differ.
    brain : bool
        Whether it is a brain mask, which must not be empty. A lesion mask may be.

    Raises
    ------
    ImageError
        As `load`; values of neither kind, an empty brain mask, probabilities that nowhere reach
        0.5, or a mask most of which lies outside the scan.
    """
    image = load(path)
    values = np.asarray(image.dataobj)
    largest = values.max()
    whole_numbers = np.abs(values - np.rint(values)).max() < 1e-3
    if not whole_numbers and largest > 1.5:  # an interpolated mask may overshoot a little
        raise ImageError(
            path,
            f"fractions and values up to {largest:g}",
            "a mask: 0 and 1, labels, or probabilities",
            "Give the mask, not an image.",
        )
    inside = values > (0 if whole_numbers else 0.5 - 1e-6)
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
    if scan is not None and inside.any():
        _check_overlap(path, image.affine, inside, scan)
    return nib.Nifti1Image(inside.astype("float32"), image.affine, image.header)


def _check_overlap(path, affine, inside, scan) -> None:
    """Refuse a mask most of which lies where the scan has no voxel, or 0."""
    voxels = np.argwhere(inside)
    sampled = voxels[:: 1 + len(voxels) // 100_000]
    to_scan = np.linalg.inv(scan.affine) @ affine
    in_scan = np.rint(nib.affines.apply_affine(to_scan, sampled)).astype(int)
    within = ((in_scan >= 0) & (in_scan < scan.shape)).all(axis=1)
    values = np.asarray(scan.dataobj)[tuple(in_scan[within].T)]
    share = np.count_nonzero(values) / len(sampled)
    if share < 0.5:
        raise ImageError(
            path,
            f"a mask of which {share:.0%} lies on its scan",
            "a mask in the scan's space",
            "Its header puts it elsewhere: is it another scan's mask, or was one of them "
            "registered without the other?",
        )


def _check_sum(path: Path) -> None:
    """Decompress to the end, so that gzip compares its checksum.

    nibabel stops at the last voxel and would accept damaged ones.
    """
    with gzip.open(path) as file:
        while file.read(1 << 20):
            pass


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
    mask = nib.Nifti1Image((np.asarray(image.dataobj) > 0).astype("float32"), image.affine)
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


def brain_mask(values) -> np.ndarray:
    """Find the brain in a brain-extracted image.

    It is the largest component of voxels above 0.2 of the mean of positive voxels, holes filled.

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
    parts, count = ndimage.label(bright)
    sizes = ndimage.sum_labels(np.ones_like(parts), parts, range(1, count + 1))
    largest = 1 + np.argmax(sizes)
    return ndimage.binary_fill_holes(parts == largest)


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
