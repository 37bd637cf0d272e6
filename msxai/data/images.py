"""The model's grid, the way of an image onto it and back, and the normalisation of its intensities.

The grid covers the field of view of the 182x218x182 MNI grid of 1 mm with 96x114x96 voxels of 1.896 x 1.912 x 1.896 mm, axes towards
right, anterior, superior. Images get there by their headers' affines alone, never by array index.
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
        The file is missing, empty, truncated or damaged, no NIfTI, has four axes, holds colours or complex numbers, declares no space, a
        flat one or two that mirror each other, or has voxels that are not finite.
    """
    path = Path(path)
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
    if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<":
        raise ImageError(
            path,
            "a web page (HTML or XML)",
            "a NIfTI image",
            "The download went wrong (a login page?): download it again.",
        )
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
    if isinstance(image, nib.Nifti1Image) and not (
        image.header["sform_code"] or image.header["qform_code"]
    ):
        raise ImageError(
            path,
            "a header that declares no space (sform and qform code 0)",
            "an affine from voxels to millimetres",
            "Set it from the scanner's data; guessing could swap left and right.",
        )
    volume = np.linalg.det(image.affine[:3, :3])
    if not np.isfinite(image.affine).all() or abs(volume) < 1e-9:
        raise ImageError(
            path,
            f"an affine of determinant {volume:g}",
            "voxels that have a volume",
            "Set it from the scanner's data.",
        )
    header = (
        image.header
    )  # the sign of pixdim[0] is the qform's handedness (NIfTI-1 standard, Cox et al. 2004)
    if (
        isinstance(image, nib.Nifti1Image)
        and header["sform_code"] > 0 < header["qform_code"]
        and (volume < 0) != (header["pixdim"][0] < 0)
    ):
        hands = {True: "left-handed", False: "right-handed"}
        raise ImageError(
            path,
            f"two spaces that mirror each other (sform {hands[volume < 0]}, qform {hands[volume > 0]})",
            "sform and qform of one handedness",
            "Find out which is right, and write it to both: the other one swaps left and right.",
        )
    bad = int(np.size(voxels) - np.isfinite(voxels).sum())
    if bad:
        raise ImageError(
            path,
            f"{bad} voxels that are NaN or infinite",
            "finite voxels",
            "Mend the step that wrote it; 0 is what background should be.",
        )
    return nib.Nifti1Image(
        voxels, image.affine, image.header if isinstance(image, nib.Nifti1Image) else None
    )


def load_mask(path, scan=None, brain: bool = False) -> nib.Nifti1Image:
    """Read a mask, check it and make it 0 and 1.

    Parameters
    ----------
    path : path
        A NIfTI file of whole numbers (inside above 0), or of probabilities or interpolated values (inside from .5).
    scan : nibabel.Nifti1Image, optional
        What it is the mask of, in the same space; shapes may differ.
    brain : bool
        It must not be empty, as a mask of lesions may.

    Raises
    ------
    ImageError
        As `load`; values of neither kind, an empty brain mask, probabilities that nowhere reach .5, or a mask most of which is elsewhere
        than the scan.
    """
    image = load(path)
    values = np.asarray(image.dataobj)
    top = values.max()
    whole = np.abs(values - np.rint(values)).max() < 1e-3
    if not whole and top > 1.5:  # an interpolated mask may overshoot a little
        raise ImageError(
            path,
            f"fractions and values up to {top:g}",
            "a mask: 0 and 1, labels, or probabilities",
            "Give the mask, not an image.",
        )
    inside = values > (0 if whole else 0.5 - 1e-6)
    if not inside.any() and (brain or top > 0):
        found = (
            "a mask without a voxel"
            if top <= 0
            else f"probabilities up to {top:.2g}, so that no voxel is inside"
        )
        raise ImageError(
            path, found, "voxels above 0, or probabilities from .5", "Make it anew, or remove it."
        )
    if scan is not None and inside.any():
        voxels = np.argwhere(inside)
        voxels = np.rint(
            nib.affines.apply_affine(
                np.linalg.inv(scan.affine) @ image.affine, voxels[:: 1 + len(voxels) // 100_000]
            )
        ).astype(int)
        seen = voxels[((voxels >= 0) & (voxels < scan.shape)).all(axis=1)]
        share = (np.asarray(scan.dataobj)[tuple(seen.T)] != 0).sum() / len(voxels)
        if share < 0.5:
            raise ImageError(
                path,
                f"a mask of which {share:.0%} lies on its scan",
                "a mask in the scan's space",
                "Its header puts it elsewhere: is it another scan's mask, or was one of them registered without the other?",
            )
    return nib.Nifti1Image(inside.astype("float32"), image.affine, image.header)


def _check_sum(path: Path) -> None:
    """Decompress to the end, for gzip's own checksum: nibabel stops at the last voxel and would take damaged ones for good."""
    with gzip.open(path) as file:
        while file.read(1 << 20):
            pass


def on_grid(image) -> bool:
    """Whether an image already has the model's grid."""
    return image.shape == SHAPE and np.allclose(image.affine, AFFINE, atol=1e-4)


def to_grid(image, interpolation: str = "linear") -> np.ndarray:
    """Resample an image to the model's grid by its affine; float32 of shape (96, 114, 96), 0 outside the image, negatives kept.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        Three axes, any orientation that its affine declares.
    interpolation : {"linear", "continuous"}
        Linear, or third-order spline, which stays within the image's own range.

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
    """Resample a mask: linear, at least .5; bool of shape (96, 114, 96)."""
    mask = nib.Nifti1Image((np.asarray(image.dataobj) > 0).astype("float32"), image.affine)
    return to_grid(mask) >= 0.5


def from_grid(values, image) -> nib.Nifti1Image:
    """Take values on the model's grid to an image's own grid.

    Where the grids differ, values are interpolated linearly and multiplied by the ratio of the voxels' volumes, so that their sum stays
    about the same: relevance is an amount per voxel, not an intensity.

    Parameters
    ----------
    values : ndarray of shape (96, 114, 96)
    image : nibabel.Nifti1Image
        Its shape, affine and space codes are taken.
    """
    values = np.asarray(values, "float32")
    if not on_grid(image):
        ratio = abs(np.linalg.det(image.affine[:3, :3]) / np.linalg.det(AFFINE[:3, :3]))
        values = _resample(
            nib.Nifti1Image(values, AFFINE), image.affine, image.shape, "linear"
        ) * np.float32(ratio)
    return with_space_of(image, values)


def with_space_of(image, values) -> nib.Nifti1Image:
    """An image of `values` with the affine and the space codes of another of the same shape."""
    out = nib.Nifti1Image(values, image.affine)
    out.header.set_xyzt_units("mm")
    for form in ("sform", "qform"):
        getattr(out, f"set_{form}")(image.affine, code=int(image.header[f"{form}_code"]))
    return out


def _resample(image, affine, shape, interpolation) -> np.ndarray:
    source = nib.Nifti1Image(np.asarray(image.dataobj, "float32"), image.affine)
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Resampling binary images"
        )  # meant: masks are cut at .5 afterwards
        out = resample_img(
            source,
            affine,
            shape,
            interpolation=interpolation,
            force_resample=True,
            copy_header=True,
        )
    return np.asarray(out.dataobj, "float32")


def brain_mask(values) -> np.ndarray:
    """Find the brain in a brain-extracted image: above .2 of the mean of positive voxels, largest component, holes filled; bool."""
    values = np.asarray(values)
    if not (values > 0).any():
        return np.zeros(values.shape, bool)
    parts, count = ndimage.label(values > 0.2 * values[values > 0].mean())
    largest = 1 + np.argmax(ndimage.sum_labels(np.ones_like(parts), parts, range(1, count + 1)))
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
        "zscore": mean 0 and standard deviation 1 inside the mask, 0 outside (a voxel of 0 carries no epsilon-LRP relevance).
        "max": divided by the image's maximum, as the paper does before fine-tuning. "minmax": to 0..1, the first half of what the
        paper does before pre-training (`msxai.data.prepared` adds the voxel-wise z-score).

    Raises
    ------
    ParameterError
        Unknown `how`.
    ImageError
        Nothing to normalise: an empty mask, constant voxels, or no positive maximum to divide by.
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
        out = np.where(mask, (values - inside.mean()) / inside.std(), 0)
    else:
        out = values / values.max() if how == "max" else (values - values.min()) / np.ptp(values)
    return out.astype("float32")
