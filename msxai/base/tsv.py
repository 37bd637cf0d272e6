"""Writes and reads the package's tables of results: tab-separated, "n/a" for missing values."""

from pathlib import Path

import pandas as pd

from msxai.base import provenance
from msxai.base.errors import StaleInputError

__all__ = ["read", "write"]

_MISSING = "n/a"


def write(table: pd.DataFrame, path, float_format: str | None = None) -> Path:
    """Write a table whole or not at all.

    Parameters
    ----------
    table : pandas.DataFrame
        Its index is not written.
    path : path
        File to write, by convention ``*.tsv``.
    float_format : str, optional
        As in `pandas.DataFrame.to_csv`, e.g. ``"%.6g"``; by default every digit.

    Returns
    -------
    pathlib.Path
        The file.
    """
    path = Path(path)
    with provenance.replacing(path) as draft:
        table.to_csv(draft, sep="\t", index=False, na_rep=_MISSING, float_format=float_format)
    return path


def read(path) -> pd.DataFrame:
    """Read a table as `write` wrote it.

    Parameters
    ----------
    path : path
        A tab-separated file. If it does not exist, the step had nothing to write.

    Returns
    -------
    pandas.DataFrame
        Cells ``n/a`` are missing values; ``participant_id`` and ``session_id`` are text ("01"
        keeps its zero). Empty where there is no such file.

    Raises
    ------
    StaleInputError
        The file is damaged.
    """
    path = Path(path)
    if not path.is_file():
        return pd.DataFrame()
    identifiers = {"participant_id": str, "session_id": str}
    options = {"na_values": _MISSING, "keep_default_na": False, "dtype": identifiers}
    try:
        return pd.read_csv(path, sep="\t", **options)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeError) as error:
        raise StaleInputError(
            provenance.relative(path),
            f"a damaged table ({error})",
            "the table as its step wrote it",
            "Delete it, then give the command of this step again.",
        ) from error
