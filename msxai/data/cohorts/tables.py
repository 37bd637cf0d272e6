"""Tables of people and scans as text, and the checks that every kind of them shares."""

import csv
import warnings
from pathlib import Path

import pandas as pd

from msxai.base.errors import CohortError

_UNKNOWN = ["n/a", "N/A", "NA", "nan", "NaN"]  # what statistics programs write for an empty cell


def read(path) -> pd.DataFrame:
    """Read a table as text; unknown values are NaN.

    Parameters
    ----------
    path : path
        .tsv: tabs, quotes mean nothing, "n/a" is unknown, as BIDS has it. Any other: commas, semicolons or tabs, whichever its first
        line has most of, with quotes; n/a, NA and nan are unknown. Empty cells are unknown in both.

    Raises
    ------
    CohortError
        No such file, or no such table.
    """
    path = Path(path)
    if not path.is_file():
        raise CohortError(
            path, "no such file", "a table", "Check the path, or see data/README.md for the layout."
        )
    # quotes mean nothing in BIDS tables, and a lone one would swallow the rows that follow
    form = {"sep": "\t", "quoting": csv.QUOTE_NONE, "na_values": _UNKNOWN[:1]}
    try:
        if path.suffix != ".tsv":
            first = path.read_text(encoding="utf-8-sig").partition("\n")[0]
            form = {"sep": max(",;\t", key=first.count), "na_values": _UNKNOWN}
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", pd.errors.ParserWarning
            )  # rows longer than the header: pandas would shift or cut them
            table = pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
                index_col=False,
                **form,
            )
    except (ValueError, pd.errors.ParserWarning) as error:  # no table, or no text
        form = "tab-separated" if path.suffix == ".tsv" else "comma-separated"
        raise CohortError(
            path, f"no table ({error})", f"{form} text in UTF-8", "Save it as such."
        ) from error
    return table.apply(lambda column: column.where(column.str.strip() != ""))


def need(table: pd.DataFrame, columns, path, mend: str) -> None:
    """Refuse a table that lacks one of the columns, or any rows."""
    for column in columns:
        if column not in table:
            raise CohortError(
                f"{path}, column {column}",
                f"only the columns {', '.join(table.columns)}",
                "this column",
                mend,
            )
    if not len(table):
        raise CohortError(
            f"{path}, column {columns[0]}",
            "no rows",
            "one row a participant or scan",
            "Fill it in.",
        )


def label(table: pd.DataFrame, column: str, patients: str, controls: str, path) -> pd.DataFrame:
    """Add group (as the table has it) and label (1 patient, 0 control, NaN unknown).

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
    other = sorted(set(table[column].dropna()) - {patients, controls})
    if other:
        raise CohortError(
            f"{path}, column {column}",
            f"{', '.join(other)}",
            f"{patients} (patients) or {controls} (controls)",
            "Set the parameters patients and controls, or leave these participants out of the table (n/a: unknown).",
        )
    return table.assign(group=table[column], label=table[column].map({patients: 1, controls: 0}))


def existing(path: Path, where, start: str = "the checkout") -> Path:
    """Return `path` where it is a file; `where` and `start` (of relative paths) are for the error."""
    if not path.is_file():
        raise CohortError(
            where,
            f"{path}, which is not there",
            "a file",
            f"Check the path; a relative one starts at {start}.",
        )
    return path


def identifiers(values: pd.Series, prefix: str, where) -> pd.Series:
    """Make identifiers as BIDS has them: the prefix, then letters and digits alone ("MS_07" becomes "sub-MS07"); they name files.

    Raises
    ------
    CohortError
        An identifier is missing or has neither letter nor digit, or two become one.
    """
    plain = values.str.removeprefix(f"{prefix}-")
    clean = plain.str.replace(r"[^A-Za-z0-9]", "", regex=True)
    if clean.isna().any() or clean.eq("").any():
        found = values[clean.isna() | clean.eq("")].iloc[0]
        raise CohortError(
            where,
            "a row without identifier" if pd.isna(found) else repr(found),
            "letters and digits",
            "Fill it in.",
        )
    for _, spellings in plain.groupby(clean):
        if spellings.nunique() > 1:
            found = " and ".join(sorted(spellings.unique())[:2])
            raise CohortError(
                where,
                found,
                "identifiers that differ in letters or digits",
                "Rename one: other characters do not count.",
            )
    return f"{prefix}-" + clean
