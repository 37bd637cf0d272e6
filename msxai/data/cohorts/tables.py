"""Tables of people and scans as text, and the checks that all kinds of cohorts share."""

import csv
import warnings
from pathlib import Path

import pandas as pd

from msxai.base.errors import CohortError

__all__ = ["existing", "identifiers", "label", "need", "read"]

_UNKNOWN = ["n/a", "N/A", "NA", "nan", "NaN"]  # what statistics programs write for an empty cell
_BYTE_ORDER_MARK = "utf-8-sig"  # Excel writes one at the start of a file


def read(path) -> pd.DataFrame:
    """Read a table as text; unknown values are NaN.

    Parameters
    ----------
    path : path
        A .tsv is read as BIDS defines it: tabs, quotes have no meaning, "n/a" is unknown. Any other
        file: commas, semicolons or tabs, whichever its first line has most of, with quotes; n/a, NA
        and nan are unknown. Empty cells are unknown in both.

    Raises
    ------
    CohortError
        The file does not exist or is not such a table.
    """
    path = Path(path)
    if not path.is_file():
        mend = "Check the path, or see docs/your-cohort.md for the layout."
        raise CohortError(path, "no such file", "a table", mend)
    try:
        dialect = _dialect(path)
        with warnings.catch_warnings():
            # Of rows longer than the header pandas only warns, and would shift or cut them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                encoding=_BYTE_ORDER_MARK,
                index_col=False,
                **dialect,
            )
    except (ValueError, pd.errors.ParserWarning) as error:  # not a table, or not text
        separated = "tab-separated" if path.suffix == ".tsv" else "comma-separated"
        expected = f"{separated} text in UTF-8"
        raise CohortError(path, f"no table ({error})", expected, "Save it as such.") from error
    return table.apply(_without_blanks)


def need(table: pd.DataFrame, columns, path, mend: str) -> None:
    """Refuse a table that lacks one of the columns, or any rows.

    Parameters
    ----------
    table : pandas.DataFrame
    columns : sequence of str
    path : path
        The table's file, for the error.
    mend : str
        What to do about a missing column, a full sentence.

    Raises
    ------
    CohortError
    """
    for column in columns:
        if column not in table:
            present = f"only the columns {', '.join(table.columns)}"
            raise CohortError(f"{path}, column {column}", present, "this column", mend)
    if table.empty:
        where = f"{path}, column {columns[0]}"
        raise CohortError(where, "no rows", "one row a participant or scan", "Fill it in.")


def label(table: pd.DataFrame, column: str, patients: str, controls: str, path) -> pd.DataFrame:
    """Add the columns group (as the table has it) and label.

    Parameters
    ----------
    table : pandas.DataFrame
    column : str
        The column of groups.
    patients, controls : str
        The group of patients (label 1) and of controls (label 0); the label of an unknown group is
        NaN.
    path : path
        The table's file, for the error.

    Raises
    ------
    CohortError
        Patients and controls have one name, or a value is neither.
    """
    if patients == controls:
        raise CohortError(
            "parameters patients, controls",
            f"{patients!r} for both",
            "two names",
            "Name the groups of the label column.",
        )
    groups = table[column]
    unexpected = sorted(set(groups.dropna()) - {patients, controls})
    if unexpected:
        raise CohortError(
            f"{path}, column {column}",
            ", ".join(unexpected),
            f"{patients} (patients) or {controls} (controls)",
            "Set the parameters patients and controls, or leave these participants out of the "
            "table (n/a: unknown).",
        )
    labels = groups.map({patients: 1, controls: 0})
    return table.assign(group=groups, label=labels)


def existing(path: Path, where, start: str = "the checkout") -> Path:
    """Return `path` if it is a file.

    Parameters
    ----------
    path : pathlib.Path
    where : str or path
        What names the file, for the error.
    start : str
        Where relative paths start, for the error.

    Raises
    ------
    CohortError
        The file does not exist.
    """
    if path.is_file():
        return path
    mend = f"Check the path; a relative one starts at {start}."
    raise CohortError(where, f"{path}, which is not there", "a file", mend)


def identifiers(values: pd.Series, prefix: str, where) -> pd.Series:
    """Make identifiers as BIDS has them: the prefix, then letters and digits alone.

    Identifiers become parts of file names.

    Parameters
    ----------
    values : pandas.Series of str
    prefix : str
        "sub" or "ses".
    where : str
        File and column, for the error.

    Raises
    ------
    CohortError
        An identifier is missing or has neither letter nor digit, or two identifiers become one.

    Examples
    --------
    >>> identifiers(pd.Series(["MS_07", "sub-MS08"]), "sub", "table.csv").tolist()
    ['sub-MS07', 'sub-MS08']
    """
    original = values.str.removeprefix(f"{prefix}-")
    clean = original.str.replace(r"[^A-Za-z0-9]", "", regex=True)
    empty = clean.isna() | clean.eq("")
    if empty.any():
        value = values[empty].iloc[0]
        actual = "a row without identifier" if pd.isna(value) else repr(value)
        raise CohortError(where, actual, "letters and digits", "Fill it in.")
    for _, spellings in original.groupby(clean):
        if spellings.nunique() > 1:
            two = sorted(spellings.unique())[:2]
            raise CohortError(
                where,
                " and ".join(two),
                "identifiers that differ in letters or digits",
                "Rename one: other characters do not count.",
            )
    return f"{prefix}-" + clean


def _dialect(path: Path) -> dict:
    """Return how a table is to be read, as keywords of `pandas.read_csv`."""
    if path.suffix == ".tsv":
        # A lone quote would swallow the rows that follow.
        return {"sep": "\t", "quoting": csv.QUOTE_NONE, "na_values": ["n/a"]}
    header, _, _ = path.read_text(encoding=_BYTE_ORDER_MARK).partition("\n")
    separator = max(",;\t", key=header.count)
    return {"sep": separator, "quoting": csv.QUOTE_MINIMAL, "na_values": _UNKNOWN}


def _without_blanks(column: pd.Series) -> pd.Series:
    """Return a column with NaN for cells of blanks alone."""
    return column.where(column.str.strip() != "")
