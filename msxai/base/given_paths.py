"""Paths as a user gives them: what can name no file is refused before anything is looked for."""

import errno
import os
import re
from pathlib import Path

from msxai.base import short_texts
from msxai.base.errors import MsxaiError, ParameterError

__all__ = ["check", "check_name", "whole"]

_DRAFT = 50  # characters that the name of a draft is longer, at most (`provenance.replacing`)
_NAME = re.compile(r"[^\W_][\w.-]*")  # of a folder of the results


def check(
    path,
    error: type[MsxaiError] = ParameterError,
    where=None,
    *,
    start="",
    to_write: bool = False,
) -> None:
    """Refuse a path that can name no file or folder, whatever is on the disk.

    Parameters
    ----------
    path : str or path
    error : type of MsxaiError
        What is raised.
    where : str or path, optional
        Names the path in the error, such as an option; by default the path itself.
    start : path
        Where a relative path starts; by default the working folder.
    to_write : bool
        Whether a file is written there; its draft has a longer name.

    Raises
    ------
    MsxaiError
        No path at all (such as a number), an empty path (an empty variable of the shell), ``~``
        before an unknown user, a name that is longer than the disk takes, or one with a character
        that no name has.

    Examples
    --------
    >>> check("scans/flair.nii.gz")
    >>> check("", where="--out")
    Traceback (most recent call last):
        ...
    msxai.base.errors.ParameterError: --out: found an empty path; expected a path. Is a variable \
of the shell empty?
    """
    if not isinstance(path, str | os.PathLike):
        kind = "nothing" if path is None else f"a value of the type {type(path).__name__}"
        raise error(where or "path", kind, "a path", "Write the path as text.")
    text = os.fspath(path)
    label = where or ascii(text)[1:-1] or "path"
    if not text.strip():
        raise error(label, "an empty path", "a path", "Is a variable of the shell empty?")
    try:
        draft = " " * _DRAFT if to_write else ""
        os.lstat(os.path.abspath(start / Path(text).expanduser()) + draft)
    except RuntimeError as unknown:  # by expanduser
        raise error(
            label,
            f"the home folder of a user that is not known here ({Path(text).parts[0]})",
            "a path",
            "Write the path without ~.",
        ) from unknown
    except ValueError as impossible:  # a zero byte, or half of a surrogate pair
        actual = "a path with a character that no file's name has"
        raise error(label, actual, "a path", "Check the path.") from impossible
    except OSError as failed:
        if failed.errno != errno.ENAMETOOLONG:
            return
        shown = short_texts.beginning(text)
        actual = f"a path of {len(text)} characters, which is too long"
        if where is not None:
            actual = f"{actual} ({shown})"
        raise error(
            where or shown, actual, "a path that the disk takes", "Choose shorter names."
        ) from failed


def whole(path, start, where=None, error: type[MsxaiError] = ParameterError) -> Path:
    """Check a path, and return it with its start and with the home folder for ``~``.

    Parameters
    ----------
    path, where, error
        As of `check`.
    start : pathlib.Path
        Where a relative path starts.

    Raises
    ------
    MsxaiError
        As of `check`.

    Examples
    --------
    >>> whole("a.nii", Path("/data"))
    PosixPath('/data/a.nii')
    """
    check(path, error, where, start=start)
    return start / Path(path).expanduser()


def check_name(name, where: str) -> None:
    """Refuse a name of a folder of the results that would lie elsewhere, such as ``../../x``.

    Parameters
    ----------
    name : str
    where : str
        Names it in the error, such as a parameter.

    Raises
    ------
    ParameterError
        It does not begin with a letter or digit, or holds another character than letters, digits,
        dots, dashes and underscores.

    Examples
    --------
    >>> check_name("pretrained-2", "parameter variant")
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return
    raise ParameterError(
        where,
        short_texts.value(name),
        "a letter or digit, then letters, digits, dots, dashes and underscores",
        "A folder of the results has this name. Choose another one.",
    )
