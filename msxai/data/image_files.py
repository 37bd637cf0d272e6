"""Files of images: read by their content, and refused where the file or its header is at fault.

`msxai.data.images.load` checks the voxels. All readers of images and masks go through both.
"""

import contextlib
import gzip
import io
import itertools
import logging
import math
import os
import shlex
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import scipy.io
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.spatialimages import HeaderDataError, SpatialImage
from nibabel.tripwire import TripWireError

from msxai.base import given_paths
from msxai.base.errors import ImageError, in_place_of_file
from msxai.base.short_texts import without_middle
from msxai.data import spm_matrices

__all__ = ["check", "distance_in_voxels", "opened", "read", "spaces", "voxels_of"]

_GZIP = b"\x1f\x8b"  # how a gzipped file begins (RFC 1952)
_START = 1024  # bytes that show what a file is
_LINES = "lines of nibabel"  # where an image keeps them
_LONGEST = 150  # letters of a reason that a message shows
_CLASSES = {
    ".nii": (nib.Nifti1Image, nib.Nifti2Image),
    ".nii.gz": (nib.Nifti1Image, nib.Nifti2Image),
    ".mgh": (nib.MGHImage,),
    ".mgz": (nib.MGHImage,),
}  # formats in one file, by the end of its name
_GZIPPED_NAMES = (".gz", ".mgz")
_POINTERS = {
    b"annex/objects/": ("git-annex", "git annex get {name}"),
    b"https://git-lfs.github.com/spec": ("Git LFS", "git lfs pull"),
}  # what stands in a file whose content was not fetched
_MGH_START = (1).to_bytes(4, "big")  # version, the first field of an .mgh file
_GOOD_RAS = slice(28, 30)  # bytes of goodRASFlag in an .mgh file
_SMALLEST_VOXEL, _LARGEST_VOXEL = 0.05, 50.0  # mm, of any edge: from ex vivo scans to localisers


def read(path):
    """Read an image and its voxels as they are stored.

    Parameters
    ----------
    path : path

    Returns
    -------
    image : nibabel.spatialimages.SpatialImage
    stored : ndarray
        Voxels, scaled as the header says.
    notes : list of str
        What is odd in the file, and how it was read; sentences.

    Raises
    ------
    ImageError
        The file is missing, a folder, empty, a pointer, truncated or damaged, no NIfTI, or its
        header has an axis without a voxel, announces more voxels than the file has, declares no
        space, a flat one or two that mirror each other.
    """
    path = Path(path)
    _check_file(path)
    length = _length(path, path)
    image = opened(path)
    of_voxels = Path(image.file_map["image"].filename or path)
    if of_voxels != path:
        length = _length(path, of_voxels)
    surplus = _surplus(path, image, length)
    stored = voxels_of(path, image)
    _check_space(path, image, path)
    return image, stored, [*_notes(path, image), *surplus]


def check(where, image) -> list[str]:
    """Check an image that somebody else has opened as `read` checks a file.

    Parameters
    ----------
    where : str or path
        Names the image in an error.
    image : nibabel.spatialimages.SpatialImage

    Returns
    -------
    list of str
        What is odd in its file; sentences.

    Raises
    ------
    ImageError
        As `read`; of an image in memory, which has no file, what its header says.
    """
    surplus = []
    holder = image.file_map.get("image")
    if nib.is_proxy(image.dataobj) and holder is not None and holder.filename:
        _check_file(Path(holder.filename))
        length = _length(where, Path(holder.filename))
        surplus = _surplus(where, image, length)
    _check_space(where, image, image.get_filename())
    return surplus


def voxels_of(where, image) -> np.ndarray:
    """Read the voxels of an image as they are stored.

    Parameters
    ----------
    where : str or path
        Names the image in an error.
    image : nibabel.spatialimages.SpatialImage

    Returns
    -------
    ndarray
        Voxels, scaled as the header says.

    Raises
    ------
    ImageError
        The file is truncated or damaged, an axis has no voxel, or the memory does not hold its
        voxels.
    """
    if min(image.shape, default=0) < 1:
        raise ImageError(
            where,
            f"a header of {_in_words(image.shape)} voxels",
            "at least one voxel along each axis",
            "Look at its header, and write the image anew.",
        )
    try:
        return np.asanyarray(image.dataobj)
    except MemoryError as error:
        raise ImageError(
            where,
            f"a header of {_in_words(image.shape)} voxels, more than the memory holds",
            "an image of a head",
            "Look at its header; if it is right, use a computer with more memory.",
        ) from error
    except Exception as error:  # nibabel's readers fail in many ways on a damaged file
        raise _damaged(where, error) from error


def opened(path) -> SpatialImage:
    """Read the header of an image, whether it is gzipped as its name says or not.

    Parameters
    ----------
    path : path

    Raises
    ------
    ImageError
        The file is missing, empty, a pointer, damaged or no image.
    """
    path = Path(path)
    for part in _parts(path):
        _check_file(part)
    try:
        with _lines_of_nibabel() as lines:
            image = _from_content(path) if _is_misnamed(path) else _loaded(path)
    except ImageError:
        raise
    except ImageFileError as error:
        raise _no_image(path, _reason(error)) from error
    except TripWireError as error:
        raise ImageError(
            path,
            f"a format that needs a package which is not here ({_reason(error)})",
            "a NIfTI image (.nii or .nii.gz)",
            "Decompress or convert it.",
        ) from error
    except Exception as error:  # nibabel's readers fail in many ways on a damaged file
        raise _damaged(path, error) from error
    if not isinstance(image, SpatialImage):
        raise _no_image(path, type(image).__name__)
    image.extra[_LINES] = lines
    return image


def _loaded(path: Path) -> SpatialImage:
    """Read an image by nibabel; the matrix beside an Analyze image by `spm_matrices`."""
    try:
        files = nib.Spm2AnalyzeImage.filespec_to_file_map(path)
    except ImageFileError:  # a format in one file, or none
        return nib.load(path)
    of_matrix = Path(files["mat"].filename)
    if not Path(files["header"].filename).is_file() or not of_matrix.is_file():
        return nib.load(path)
    with files["header"].get_prepare_fileobj() as file:
        header = file.read(_START)
    kinds = (nib.Nifti1Pair, nib.Nifti2Pair)
    is_nifti = any(kind.header_class.may_contain_header(header) for kind in kinds)
    is_analyze = nib.Spm2AnalyzeImage.header_class.may_contain_header(header)
    if is_nifti or not is_analyze:
        return nib.load(path)
    _check_file(of_matrix)
    with files["mat"].get_prepare_fileobj() as file:
        content = file.read()
    try:
        name, matrix = spm_matrices.read(content)
    except ValueError as error:
        raise ImageError(
            of_matrix,
            _reason(error),
            "the matrix that SPM has written beside the image (MATLAB, version 4 to 7)",
            "Copy both files again, or convert the image to NIfTI with SPM.",
        ) from error
    checked = io.BytesIO()
    scipy.io.savemat(checked, {name: matrix}, format="4")
    checked.seek(0)
    files["mat"] = FileHolder(files["mat"].filename, checked)
    return nib.Spm2AnalyzeImage.from_file_map(files)


class _Lines(logging.Handler):
    """Keeps what is logged as a list of lines, each once."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        """Keep a line."""
        line = record.getMessage()
        if line not in self.lines:
            self.lines.append(line)


@contextlib.contextmanager
def _lines_of_nibabel():
    """Collect the lines that nibabel would write to standard error."""
    logger = nib.imageglobals.logger
    before = logger.handlers, logger.propagate
    collector = _Lines()
    logger.handlers, logger.propagate = [collector], False
    try:
        yield collector.lines
    finally:
        logger.handlers, logger.propagate = before


def spaces(image) -> dict:
    """Return the affines that a header declares by name; the first one is used.

    Parameters
    ----------
    image : nibabel.spatialimages.SpatialImage

    Returns
    -------
    dict of str to ndarray of shape (4, 4)
        "sform" and "qform" as far as their codes are above 0 and voxels have a volume by them;
        empty where the image is no NIfTI.

    Examples
    --------
    >>> list(spaces(nib.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4))))
    ['sform']
    """
    declared = {}
    if not isinstance(image, nib.Nifti1Pair):
        return declared
    for name, get in (("sform", image.get_sform), ("qform", image.get_qform)):
        try:
            affine, code = get(coded=True)
        except (HeaderDataError, ValueError):  # no rotation
            continue
        if code > 0 and abs(np.linalg.det(affine)) > 1e-9:
            declared[name] = affine
    return declared


def distance_in_voxels(first, second, shape) -> float:
    """Return the largest distance between a voxel's places by two affines.

    Parameters
    ----------
    first, second : array of shape (4, 4)
        From voxel indices to millimetres.
    shape : sequence of int
        Voxels along each axis.

    Returns
    -------
    float
        As a multiple of the shortest edge of a voxel by `first`.

    Examples
    --------
    >>> distance_in_voxels(np.diag([2, 2, 3, 1]), np.diag([2, 2, 4, 1]), (5, 5, 9))
    4.0
    """
    # The distance is a convex function of the position, so that a corner has the largest.
    ends = [(0, length - 1) for length in shape[:3]]
    corners = np.array(list(itertools.product(*ends)))
    apart = nib.affines.apply_affine(first, corners) - nib.affines.apply_affine(second, corners)
    edge = np.linalg.norm(np.asarray(first)[:3, :3], axis=0).min()
    return float(np.linalg.norm(apart, axis=1).max() / edge)


def _parts(path: Path) -> list[Path]:
    """Return the files of an image: two where header and voxels are apart."""
    for end, other in ((".hdr", ".img"), (".img", ".hdr")):
        if path.suffix == end:
            return [path, path.with_suffix(other)]
    return [path]


def _check_file(path: Path) -> None:
    """Refuse what is no file, an empty file, a pointer and a web page."""
    given_paths.check(path, ImageError)
    _check_pointer(path)
    if not path.is_file():
        raise ImageError(
            path,
            in_place_of_file(path),
            "a NIfTI image (.nii or .nii.gz)",
            "Check the path in the cohort's table or folder.",
        )
    start = _start(path)
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


def _check_pointer(path: Path) -> None:
    """Refuse a pointer of git-annex or Git LFS: a text, or a link to what was not fetched."""
    text = b""
    if path.is_file():
        text = _start(path)
    elif path.is_symlink():
        text = os.fsencode(os.readlink(path).replace("\\", "/"))
    if b"\0" in text:  # an image
        return
    for mark, (tool, command) in _POINTERS.items():
        if mark in text:
            raise ImageError(
                path,
                f"a pointer of {tool}",
                "the file itself",
                f"Fetch the file itself: {command.format(name=shlex.quote(path.name))}",
            )


def _start(path: Path) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(_START)


def _is_gzipped(path: Path) -> bool:
    """Return whether the content of a file is gzipped."""
    return _start(path).startswith(_GZIP)


def _is_misnamed(path: Path) -> bool:
    """Return whether a file of one part is gzipped and its name says otherwise, or reverse."""
    name = path.name.lower()
    named_gzipped = name.endswith(_GZIPPED_NAMES)
    return name.endswith(tuple(_CLASSES)) and named_gzipped != _is_gzipped(path)


def _from_content(path: Path) -> SpatialImage:
    """Read an image whose name does not say whether it is gzipped."""
    content = path.read_bytes()
    if content.startswith(_GZIP):
        content = gzip.decompress(content)
    ends = [end for end in _CLASSES if path.name.lower().endswith(end)]
    for kind in _CLASSES[ends[0]]:
        if _may_be(kind, content[:_START]):
            return kind.from_bytes(content)
    raise ImageFileError("neither gzipped nor the header of an image")


def _may_be(kind, start: bytes) -> bool:
    """Return whether a file begins as images of a format do."""
    if kind is nib.MGHImage:  # its header cannot say so itself
        return start.startswith(_MGH_START)
    return kind.header_class.may_contain_header(start)


def _length(where, path: Path) -> int:
    """Return how many bytes a file has, as decompressed; `where` names it in an error.

    gzip compares its checksum at the end. nibabel stops at the last voxel and would accept damaged
    ones.
    """
    length = 0
    try:
        if not _is_gzipped(path):
            return path.stat().st_size
        with gzip.open(path) as file:
            while part := file.read(1 << 20):
                length += len(part)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(where, error) from error
    return length


def _surplus(where, image, length: int) -> list[str]:
    """Refuse a header that announces more voxels than a file of `length` bytes has.

    nibabel would ask for the memory first. Of fewer voxels, return a note: the shape may be wrong.
    """
    if not isinstance(image, nib.AnalyzeImage | nib.MGHImage):  # NIfTI is an AnalyzeImage, too
        return []
    header = image.header
    needed = image.dataobj.offset + math.prod(image.shape) * header.get_data_dtype().itemsize
    voxels = f"{_in_words(image.shape)} voxels"
    if needed > length:
        reason = f"a header of {voxels}, which need {needed} bytes, and {length} bytes"
        raise _damaged(where, reason)
    if needed == length or isinstance(image, nib.MGHImage):  # notes follow the voxels of .mgh
        return []
    return [
        f"The file has {length - needed} bytes more than the {voxels} of its header need: is the "
        "shape right?"
    ]


def _in_words(shape) -> str:
    """Return a shape as "2 x 3 x 4"."""
    return " x ".join(str(length) for length in shape)


def _no_image(path: Path, reason: str) -> ImageError:
    """Return the error of a file that is no image."""
    return ImageError(
        path,
        f"a file that is no NIfTI image ({reason})",
        "a NIfTI image",
        "Convert it, for instance with dcm2niix.",
    )


def _damaged(path, reason) -> ImageError:
    """Return the error of a damaged file."""
    return ImageError(
        path,
        f"damaged data ({_reason(reason)})",
        "a whole NIfTI image",
        "Copy or download it again.",
    )


def _reason(error) -> str:
    """Return what an error says, in one line and without the middle of a long text."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, KeyError):
        text = f"an unknown or missing entry {text}"
    return without_middle(text, _LONGEST)


def _missing_space(path, image) -> str:
    """Return what shows that a header declares no space; empty where it declares one.

    Without a path, the image is in memory: whoever made it gave it an affine.
    """
    if image.affine is None:
        return "no affine"
    header = image.header
    if isinstance(image, nib.Nifti1Pair):
        declared = header["sform_code"] or header["qform_code"]
        return "" if declared else "sform and qform code 0"
    if path is None:
        return ""
    if isinstance(image, nib.MGHImage):
        path = Path(path)
        opener = gzip.open if _is_gzipped(path) else open
        with opener(path, "rb") as file:  # nibabel replaces a flag of 0 by 1
            flag = file.read(_GOOD_RAS.stop)[_GOOD_RAS]
        return "" if int.from_bytes(flag, "big") == 1 else "goodRASFlag 0"
    if isinstance(image, nib.AnalyzeImage):
        matrix = image.file_map.get("mat")
        declared = matrix is not None and Path(matrix.filename).is_file()
        return "" if declared else "Analyze without a .mat file of SPM"
    return ""


def _check_space(where, image, path) -> None:
    """Refuse a header without a space, with a flat one, or with two that mirror each other.

    The image was read from `path`; None where it is in memory.
    """
    missing = _missing_space(path, image)
    if missing:
        raise ImageError(
            where,
            f"a header that declares no space ({missing})",
            "an affine from voxels to millimetres",
            "Set it from the scanner's data; guessing could swap left and right.",
        )
    determinant = np.linalg.det(image.affine[:3, :3])
    if not np.isfinite(image.affine).all() or abs(determinant) < 1e-9:
        raise ImageError(
            where,
            f"an affine of determinant {determinant:g}",
            "voxels that have a volume",
            "Set it from the scanner's data.",
        )
    _check_voxel_size(where, image)
    header = image.header
    is_nifti = isinstance(image, nib.Nifti1Pair)
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
            where,
            f"two spaces that mirror each other (sform {sform}, qform {qform})",
            "sform and qform of one handedness",
            "Find out which is right, and write it to both: the other one swaps left and right.",
        )


def _check_voxel_size(where, image) -> None:
    """Refuse voxels of a size that no scan of a head has: a header in metres or micrometres."""
    sizes = nib.affines.voxel_sizes(image.affine)
    if sizes.min() >= _SMALLEST_VOXEL and sizes.max() <= _LARGEST_VOXEL:
        return
    words = " x ".join(f"{size:.4g}" for size in sizes)
    raise ImageError(
        where,
        f"voxels of {words} mm",
        f"voxels of {_SMALLEST_VOXEL:g} to {_LARGEST_VOXEL:g} mm",
        "Write the affine in millimetres; it may be in metres or micrometres.",
    )


def _notes(path: Path, image) -> list[str]:
    """Return what is odd in a file, and how it was read."""
    sentences = []
    if _is_misnamed(path):
        state = "gzipped" if _is_gzipped(path) else "not gzipped"
        sentences.append(f"The file is {state}, other than its name says.")
    for line in image.extra.get(_LINES, []):
        sentences.append(f"The header is odd: {line}.")
    slope, intercept = _scaling(image)
    if slope == 0 and intercept != 0:
        sentences.append(
            f"The header has slope 0 and intercept {intercept:g}: by the NIfTI standard, voxels "
            "were taken as stored."
        )
    return sentences


def _scaling(image) -> tuple[float, float]:
    """Return slope and intercept as a NIfTI header has them; 1 and 0 of another format."""
    if not isinstance(image, nib.Nifti1Pair):
        return 1.0, 0.0
    holder = image.file_map.get("header", image.file_map["image"])
    with holder.get_prepare_fileobj() as file:  # nibabel removes both from an image's header
        header = image.header_class.from_fileobj(file, check=False)
    return float(header["scl_slope"]), float(header["scl_inter"])
