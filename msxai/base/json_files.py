"""Reads JSON files that hold a group of values, ``{"name": value}``, as records do.

Python's reader passes any kind of JSON, and stops with an error of its own at very many brackets.
"""

import json
from pathlib import Path

__all__ = ["NoGroupError", "read", "read_or_empty"]


class NoGroupError(ValueError):
    """The file is JSON of another kind, or has more brackets than can be read."""


def read(path) -> dict:
    """Return the values of a file by their names.

    Parameters
    ----------
    path : path

    Raises
    ------
    OSError
        There is no such file, or it cannot be read.
    NoGroupError
        It holds a list, a text, a number or nothing, or has more brackets than can be read.
    ValueError
        It is no JSON.
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise NoGroupError("too many brackets") from error
    if not isinstance(content, dict):
        raise NoGroupError("no group of values")
    return content


def read_or_empty(path) -> dict:
    """Return the values of a file by their names; empty where `read` raises an error."""
    try:
        return read(path)
    except (OSError, ValueError):
        return {}
