"""Groups of people: which value of a table's column is a patient, and which a control."""

import re

import pandas as pd

from msxai.base.errors import CohortError
from msxai.base.short_texts import beginning

__all__ = ["check_one_a_subject", "label", "names_of"]

_LISTED = 10  # values of a column in an error
_MEANS_UNKNOWN = ("n/a", "na", "nan", "")


def names_of(value) -> list[str]:
    """Return the groups that a parameter names.

    Parameters
    ----------
    value : str or sequence of str
        One group, several in a list, or several in one text, separated by commas.

    Examples
    --------
    >>> names_of("MS"), names_of("RRMS, SPMS"), names_of(["PPMS"])
    (['MS'], ['RRMS', 'SPMS'], ['PPMS'])
    """
    is_list = isinstance(value, list | tuple)
    parts = [str(part) for part in value] if is_list else str(value).split(",")
    return [part.strip() for part in parts if part.strip()]


def label(
    table: pd.DataFrame, column: str, patients, controls, path
) -> tuple[pd.DataFrame, list[str]]:
    """Add the columns group and label.

    Parameters
    ----------
    table : pandas.DataFrame
    column : str
        The column of groups.
    patients, controls : str or sequence of str
        The groups of patients (label 1) and of controls (label 0), as in `names_of`. Another case
        is the same group, and so is 1.0 for 1. The label of an unknown group is NaN.
    path : path
        The table's file, for the error.

    Returns
    -------
    table : pandas.DataFrame
        With group, as `patients` and `controls` spell it, and label.
    notes : list of str
        What was mended.

    Raises
    ------
    CohortError
        Patients and controls have one name, or a value is neither.
    """
    groups = table[column]
    present = set(groups.dropna())
    names = {1: _in_column(patients, present), 0: _in_column(controls, present)}
    _check_names(names[1], names[0])
    spellings = {value: _meant(value, names[1] + names[0]) for value in present}
    unexpected = sorted(value for value, name in spellings.items() if name is None)
    if unexpected:
        examples = [beginning(value) for value in unexpected[:_LISTED]]
        rest = len(unexpected) - len(examples)
        raise CohortError(
            f"{path}, column {column}",
            ", ".join(examples) + (f" and {rest} others" if rest else ""),
            f"{' or '.join(names[1])} (patients) or {' or '.join(names[0])} (controls)",
            "Set the parameters patients and controls, or leave these participants out of the "
            "table (n/a: unknown).",
        )
    label_of = {name: 1 for name in names[1]} | {name: 0 for name in names[0]}
    group = groups.map(spellings)
    labelled = table.assign(group=group, label=group.map(label_of))
    return labelled, _notes(groups, spellings, column, path)


def check_one_a_subject(table: pd.DataFrame, column: str, path) -> None:
    """Refuse a table in which a subject is a patient at one visit and something else at another.

    Parameters
    ----------
    table : pandas.DataFrame
        participant_id and label.
    column : str
        The column of groups, for the error.
    path : path
        The table's file, for the error.

    Raises
    ------
    CohortError
    """
    labels = table.groupby("participant_id")["label"].nunique(dropna=False)
    several = labels.index[labels > 1]
    if len(several):
        raise CohortError(
            f"{path}, column {column}",
            f"two groups of {several[0]}",
            "one group a subject",
            "Mend the table, or leave the subject out.",
        )


def _in_column(value, present: set[str]) -> list[str]:
    """Return the groups of a parameter; a text that is a group of the column is that group."""
    if isinstance(value, str) and value in present:
        return [value]
    return names_of(value)


def _check_names(patients: list[str], controls: list[str]) -> None:
    """Refuse groups that are missing, mean unknown, or are patients and controls at once."""
    where = "parameters patients, controls"
    mend = "Name the groups of the label column."
    both = sorted(set(patients) & set(controls))
    if both:
        raise CohortError(where, f"{both[0]!r} for both", "two names", mend)
    unusable = [name for name in patients + controls if name.lower() in _MEANS_UNKNOWN]
    if unusable or not patients or not controls:
        actual = repr(unusable[0]) if unusable else "no name"
        raise CohortError(where, actual, "a name that does not mean unknown", mend)


def _meant(value: str, names: list[str]) -> str | None:
    """Return the only group that a value may mean, or None."""
    if value in names:
        return value
    candidates = [name for name in names if _key(name) == _key(value)]
    return candidates[0] if len(candidates) == 1 else None


def _key(value: str) -> str:
    """Return what two spellings of a group share."""
    return re.sub(r"^(\d+)\.0+$", r"\1", value).casefold()


def _notes(groups: pd.Series, spellings: dict, column: str, path) -> list[str]:
    """Return a note for each group in another spelling."""
    notes = []
    for value, name in sorted(spellings.items()):
        if value != name:
            count = int((groups == value).sum())
            rows = "1 row" if count == 1 else f"{count} rows"
            notes.append(f"{path.name}, column {column}: {value!r} is read as {name} ({rows})")
    return notes
