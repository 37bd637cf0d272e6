"""What a caller gives to be explained: arrays, paths or images, and tables for further inputs."""

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np

from msxai.base.errors import ParameterError
from msxai.data import images

__all__ = ["Inputs", "as_array", "length_of", "rows_of", "sequence_of", "split"]

_IMAGE = (str, Path, nib.spatialimages.SpatialImage)
_MEND_SHAPE = "Prepare scans with 01_data_preparation, which brings them onto the model's grid."
_MEND_KIND = (
    "Give an array of shape (N, X, Y, Z, C), a list of paths of NIfTI files, or nibabel images."
)
_MEND_ORDER = "Give both in the same order, one row for each scan."


class Inputs:
    """What a network takes: one input of scans, and tables.

    Attributes
    ----------
    scan : str
        Name of the input of scans.
    shape : tuple of int or None
        Of one scan as the model takes it, channels last or first; None for an open length.
    tables : dict
        Name of each further input to the number of its columns.
    channels_first : bool
    """

    def __init__(self, scan: str, shape: tuple, tables: dict, channels_first: bool = False):
        self.scan = scan
        self.shape = shape
        self.tables = tables
        self.channels_first = channels_first

    @property
    def expected(self) -> str:
        """What a scan must be, in words."""
        return f"{self.shape}, as the network takes it"


def split(given, inputs: Inputs) -> tuple:
    """Scans, and the rows of each table, from what the caller gives.

    Parameters
    ----------
    given : object
        Scans; or, for a network of several inputs, a dict of the inputs' names.
    inputs : Inputs

    Returns
    -------
    scans : object
    tables : dict

    Raises
    ------
    ParameterError
        An input is missing, or none of the network's.
    """
    names = [inputs.scan, *inputs.tables]
    if not isinstance(given, Mapping):
        if inputs.tables:
            raise ParameterError(
                "scans",
                f"scans alone, of type {type(given).__name__}",
                f"a dict of the network's inputs {', '.join(names)}",
                f"Give {{{inputs.scan!r}: scans, {names[1]!r}: rows}}.",
            )
        return given, {}
    if set(given) != set(names):
        raise ParameterError(
            "scans",
            f"a dict of {', '.join(map(str, given))}",
            f"the network's inputs: {', '.join(names)}",
            "Give each of them once, by its name.",
        )
    return given[inputs.scan], {name: given[name] for name in inputs.tables}


def sequence_of(given, inputs: Inputs):
    """Scans as a sequence; one path, one image or one array of a scan becomes a list of one.

    Raises
    ------
    ParameterError
        No scan at all, or nothing that scans can be read from.
    """
    if isinstance(given, _IMAGE):
        return [given]
    if not hasattr(given, "__len__") or not hasattr(given, "__getitem__"):
        raise ParameterError(
            "scans",
            f"an object of type {type(given).__name__}",
            "an array of shape (N, X, Y, Z, C), or a list of scans, paths or images",
            "Give an array, or the path of a NIfTI file.",
        )
    shape = tuple(getattr(given, "shape", ()))
    if _fits(shape, inputs.shape) or _fits(shape, _without_channel(inputs)):
        return [given]
    if not len(given):
        raise ParameterError(
            "scans", "none", "at least one scan", "Give an array of shape (N, X, Y, Z, C)."
        )
    return given


def _without_channel(inputs: Inputs) -> tuple:
    """Shape of a scan of one channel without the axis of channels; () where there are several."""
    channel = 0 if inputs.channels_first else -1
    if inputs.shape[channel] != 1:
        return ()
    return inputs.shape[1:] if inputs.channels_first else inputs.shape[:-1]


def _fits(shape: tuple, expected: tuple) -> bool:
    if not shape or len(shape) != len(expected):
        return False
    return all(length in (None, actual) for length, actual in zip(expected, shape, strict=True))


def length_of(scan, inputs: Inputs, dtype: str) -> tuple:
    """Shape of a scan, channels last, for a network that leaves lengths open."""
    return as_array(scan, inputs, dtype).shape


def as_array(given, inputs: Inputs, dtype: str) -> np.ndarray:
    """A scan of the network's shape, channels last; a path is read.

    Images are turned to the orientation of the model's grid (RAS+), by their affine.

    Parameters
    ----------
    given : array, path or nibabel image
    inputs : Inputs
    dtype : str

    Raises
    ------
    ParameterError
        Another shape, another grid, no real numbers, or voxels that are not finite in `dtype`.
    ImageError
        See `msxai.data.images.load`; of an image, `msxai.data.images.checked`.
    """
    where = given if isinstance(given, str | Path) else "scans"
    if isinstance(given, _IMAGE):
        scan = _of_image(given, inputs, where)[..., None]
        if inputs.channels_first:
            scan = np.moveaxis(scan, -1, 0)
    else:
        scan = _numbers(given, "scans", "a scan", _MEND_KIND)
    if scan.shape == _without_channel(inputs):
        scan = scan[None] if inputs.channels_first else scan[..., None]
    if not _fits(scan.shape, inputs.shape):
        raise ParameterError(where, f"a scan of shape {scan.shape}", inputs.expected, _MEND_SHAPE)
    if inputs.channels_first:
        scan = np.moveaxis(scan, 0, -1)
    scan = np.ascontiguousarray(_cast(scan, dtype))
    count = np.count_nonzero(~np.isfinite(scan))
    if count:
        raise ParameterError(
            where,
            f"a scan with {count} voxels that are not finite in {dtype} (NaN, infinite or too "
            "large)",
            "finite values",
            "Look at the scan; give voxels outside the brain the value 0.",
        )
    return scan


def _of_image(given, inputs: Inputs, where) -> np.ndarray:
    """Voxels of a file or an image, in the orientation of the model's grid."""
    is_path = isinstance(given, str | Path)
    image = images.load(given) if is_path else images.checked(given, where)
    turned = nib.as_closest_canonical(image)
    spatial = inputs.shape[1:] if inputs.channels_first else inputs.shape[:-1]
    if tuple(spatial) == images.SHAPE == turned.shape and not images.on_grid(turned):
        raise ParameterError(
            where,
            f"an image on another grid, with the affine {np.round(image.affine, 3).tolist()}",
            f"the model's grid, with the affine {np.round(images.AFFINE, 3).tolist()}",
            _MEND_SHAPE,
        )
    return np.asarray(turned.dataobj, "float32")


def _numbers(given, where: str, what: str, mend: str) -> np.ndarray:
    """Real numbers as an array.

    numpy would drop imaginary parts and masks, and take dates and fields of structures for numbers.
    """
    if np.ma.is_masked(given):
        raise ParameterError(
            where,
            f"{what} of which {np.ma.count_masked(given)} values are masked",
            "an array without masked values",
            "Fill them, for instance by filled(0).",
        )
    try:
        values = np.asarray(given)
        if values.dtype.kind == "O":  # numbers of Python
            values = values.astype("float64")
        kind = values.dtype
    except (TypeError, ValueError, OverflowError):
        kind = np.dtype("O")
    if kind.kind not in "fiub":
        raise ParameterError(
            where,
            f"{what} of type {type(given).__name__} that is no array of numbers (but of {kind})",
            "an array of real numbers",
            mend,
        )
    return values


def _cast(values, dtype: str) -> np.ndarray:
    """Values in a precision; what is too large for it becomes infinite without a warning."""
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def rows_of(tables: dict, inputs: Inputs, count: int, dtype: str) -> dict[str, np.ndarray]:
    """Tables as arrays of shape (N, F).

    Raises
    ------
    ParameterError
        Another number of rows or columns, no real numbers, or values that are not finite.
    """
    arrays = {}
    for name, rows in tables.items():
        where = f"scans, input {name}"
        values = _cast(_numbers(rows, where, "a table", _MEND_ORDER), dtype)
        expected = (count, inputs.tables[name])
        if values.shape != expected:
            raise ParameterError(where, f"shape {values.shape}", f"shape {expected}", _MEND_ORDER)
        if not np.isfinite(values).all():
            raise ParameterError(
                where, "values that are not finite", "finite values", "Mend or leave out the row."
            )
        arrays[name] = values
    return arrays
