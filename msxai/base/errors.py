"""One error type for each kind of bad input; every message has the same four parts."""

from pathlib import Path

__all__ = [
    "CohortError",
    "EngineError",
    "ImageError",
    "MissingAtlasError",
    "MissingStepError",
    "MsxaiError",
    "ParameterError",
    "RegistrationError",
    "SplitError",
    "StaleInputError",
    "WriteError",
    "in_place_of_file",
]


class MsxaiError(Exception):
    """Base of all errors that a user can mend.

    The parts of the message are kept as the attributes ``where``, ``found``, ``expected`` and
    ``mend``.

    Parameters
    ----------
    where : str or pathlib.Path
        The file, column or parameter at fault.
    actual : str
        What is there.
    expected : str
        What should be there.
    mend : str
        What to do about it, a full sentence or a command.

    Examples
    --------
    >>> print(MsxaiError("table.tsv, column age", "'old'", "a number", "Mend the table."))
    table.tsv, column age: found 'old'; expected a number. Mend the table.
    """

    def __init__(self, where, actual: str, expected: str, mend: str):
        self.where = str(where)
        self.found = actual
        self.expected = expected
        self.mend = mend
        super().__init__(f"{where}: found {actual}; expected {expected}. {mend}")


class ParameterError(MsxaiError):
    """A notebook's parameter is misspelt, has the wrong type or is out of range."""


class CohortError(MsxaiError):
    """A cohort's folder or table lacks a file or column, or holds a wrong label or row."""


class ImageError(MsxaiError):
    """An image file is truncated, empty, not NIfTI, 4D, without a space or not finite."""


class RegistrationError(MsxaiError):
    """A scan cannot be registered to MNI152: it shows no head or brain, or no transform fits."""


class SplitError(MsxaiError):
    """A subject is on two sides of a split, or a part of the split is empty."""


class MissingStepError(MsxaiError):
    """An earlier notebook has not been run yet."""


class StaleInputError(MsxaiError):
    """An earlier notebook's result has other parameters or other data, or was changed since."""


class WriteError(MsxaiError):
    """A result cannot be written: the disk is full, or the folder is read-only."""


class MissingAtlasError(MsxaiError):
    """An atlas file is missing; the message is the reason for leaving out what needs it."""


class EngineError(MsxaiError):
    """LRP is not defined for a layer, or the iNNvestigate process failed."""


def in_place_of_file(path) -> str:
    """Return what is found where a file is missing, for an error.

    Parameters
    ----------
    path : path

    Examples
    --------
    >>> in_place_of_file("/")
    'a folder'
    """
    return "a folder" if Path(path).is_dir() else "no such file"
