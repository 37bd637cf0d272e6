"""The matrix of SPM beside an Analyze image: a MATLAB file (.mat) with the space of the voxels.

It is read here, because scipy's reader can end Python on a damaged file. The layouts are those of
The MathWorks, "MAT-File Format", for the versions 4 and 5 (5 to 7 in MATLAB's names).
"""

import struct
import zlib

import numpy as np

__all__ = ["NAMES", "read"]

NAMES = ("mat", "M")
"""Names of the matrix; the first one says on which side left is, too."""

_HEADER = 128  # bytes before the variables of a file of version 5
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}  # by the number of a type in a file of version 5
_TYPES_OF_4 = ("f8", "f4", "i4", "i2", "u2", "u1")  # by the third digit of a variable's type
_REAL_NUMBERS = range(6, 16)  # classes of arrays: double, single, whole numbers
_COMPLEX = 0x0800  # flag of an array
_LARGEST = 1 << 20  # bytes of a variable, as decompressed; a matrix has 128


def read(content: bytes) -> tuple[str, np.ndarray]:
    """Return the name of SPM's matrix in a MATLAB file, and the matrix.

    Parameters
    ----------
    content : bytes

    Returns
    -------
    name : str
        One of `NAMES`.
    matrix : ndarray of shape (4, 4), float64

    Raises
    ------
    ValueError
        The file is damaged, is of another version, or has no such matrix.
    """
    is_of_version_4 = 0 in content[:4]  # the text at the start of version 5 has no zero byte
    try:
        variables = _variables_of_4(content) if is_of_version_4 else _variables_of_5(content)
    except (struct.error, zlib.error, TypeError, IndexError, KeyError) as error:
        raise ValueError(f"a damaged MATLAB file ({type(error).__name__})") from error
    for name in NAMES:
        matrix = variables.get(name)
        if matrix is None:
            continue
        if matrix.ndim == 3:  # SPM adds the matrices of further volumes
            matrix = matrix[..., 0]
        if matrix.shape != (4, 4):
            raise ValueError(f"variable {name} of shape {matrix.shape}, which is not 4 x 4")
        return name, matrix.astype(float)
    raise ValueError(f"a MATLAB file without a matrix {' or '.join(NAMES)} of real numbers")


def _variables_of_4(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of real numbers in a file of version 4 by name."""
    variables = {}
    start = 0
    order = ">" if content[:1] == b"\0" and content[:4] != bytes(4) else "<"
    while start < len(content):
        kind, rows, columns, is_complex, letters = struct.unpack_from(f"{order}5i", content, start)
        start += 20
        if not 0 <= kind < 2000 or min(rows, columns) < 0 or letters < 1:
            raise ValueError("a damaged MATLAB file (the header of a variable)")
        name = content[start : start + letters].rstrip(b"\0").decode("latin-1")
        start += letters
        dtype = np.dtype(order + _TYPES_OF_4[kind // 10 % 10])
        values = _numbers(content[start:], dtype, (rows, columns))
        start += values.nbytes * (2 if is_complex else 1)
        if kind % 10 == 0 and not is_complex:  # no text, no sparse matrix
            variables[name] = values
    return variables


def _variables_of_5(content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of real numbers in a file of version 5 by name."""
    order = {b"IM": "<", b"MI": ">"}.get(content[126:_HEADER], "")
    if not order:
        raise ValueError("no MATLAB file")
    (version,) = struct.unpack_from(f"{order}H", content, 124)
    if version != 0x0100:
        raise ValueError("a MATLAB file of version 7.3 or of an unknown one")
    variables = {}
    rest = content[_HEADER:]
    while rest:
        kind, data, rest = _element(rest, order)
        if kind == _COMPRESSED:
            unpacked = zlib.decompressobj().decompress(data, _LARGEST)
            kind, data, _ = _element(unpacked, order)
        if kind == _MATRIX:
            variables |= _array(data, order)
    return variables


def _element(content: bytes, order: str) -> tuple[int, bytes, bytes]:
    """Return type and data of the first element of a file of version 5, and what follows it."""
    kind, length = struct.unpack_from(f"{order}2I", content)
    start = 8
    if kind >> 16:  # type, length and data in 8 bytes
        kind, length = kind & 0xFFFF, kind >> 16
        start = 4
    end = start + length
    if end > len(content) or (start == 4 and length > 4):
        raise ValueError("a MATLAB file that was cut, or damaged")
    # All but compressed elements end at a multiple of 8 bytes.
    following = end if kind == _COMPRESSED else end + -end % 8
    return kind, content[start:end], content[following:]


def _array(data: bytes, order: str) -> dict[str, np.ndarray]:
    """Return name and values of an array of real numbers; nothing of another one."""
    _, flags, data = _element(data, order)
    (flags,) = struct.unpack_from(f"{order}I", flags)
    if flags & 0xFF not in _REAL_NUMBERS or flags & _COMPLEX:
        return {}
    _, lengths, data = _element(data, order)
    shape = np.frombuffer(lengths, f"{order}i4").tolist()
    _, name, data = _element(data, order)
    kind, numbers, _ = _element(data, order)
    values = _numbers(numbers, np.dtype(order + _TYPES[kind]), shape)
    return {name.decode("latin-1"): values}


def _numbers(content: bytes, dtype: np.dtype, shape) -> np.ndarray:
    """Return the numbers at the start of some bytes as an array, first index fastest."""
    count = 1
    for length in shape:
        count *= length
    if count < 0 or count * dtype.itemsize > len(content):
        raise ValueError(f"a MATLAB file without the values of an array of shape {tuple(shape)}")
    return np.frombuffer(content, dtype, count).reshape(shape, order="F")
