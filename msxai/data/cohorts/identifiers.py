"""Identifiers of people and visits in tables and folders, and which of them belong together."""

import re

import pandas as pd

from msxai.base.errors import CohortError

__all__ = ["Spellings", "clean", "matching", "whole_numbers"]

_WHOLE = r"^(?:(?:sub|ses)-)?\d+\.0+$"
_DECIMAL = r"^(?:(?:sub|ses)-)?\d+\.\d+$"


def clean(values: pd.Series, prefix: str, where) -> tuple[pd.Series, list[str]]:
    """Make identifiers as BIDS has them: the prefix, then letters and digits alone.

    Identifiers become parts of file names.

    Parameters
    ----------
    values : pandas.Series of str
    prefix : str
        "sub" or "ses".
    where : str
        File and column, for the error and the notes.

    Returns
    -------
    identifiers : pandas.Series of str
    notes : list of str
        What was mended.

    Raises
    ------
    CohortError
        An identifier is missing or has neither letter nor digit, two identifiers become one, two
        of people differ in case or leading zeros only, or numbers may be whole or not.

    Examples
    --------
    >>> clean(pd.Series(["MS_07", "sub-MS08"]), "sub", "table.csv")[0].tolist()
    ['sub-MS07', 'sub-MS08']
    """
    whole, notes = whole_numbers(values, where)
    original = whole.str.replace(rf"^{prefix}-", "", regex=True, case=False)
    letters = original.str.replace(r"[^A-Za-z0-9]", "", regex=True)
    empty = letters.isna() | letters.eq("")
    if empty.any():
        value = values[empty].iloc[0]
        actual = "a row without identifier" if pd.isna(value) else repr(value)
        raise CohortError(where, actual, "letters and digits", "Fill it in.")
    _check_apart(original, letters, where)
    if prefix == "sub":
        _check_spellings(original, letters, where)
    return f"{prefix}-" + letters, notes


def whole_numbers(values: pd.Series, where) -> tuple[pd.Series, list[str]]:
    """Return identifiers with 1 for 1.0, as programs write whole numbers beside empty cells.

    Parameters
    ----------
    values : pandas.Series of str
    where : str
        File and column, for the error and the notes.

    Returns
    -------
    identifiers : pandas.Series of str
    notes : list of str
        What was mended.

    Raises
    ------
    CohortError
        The column has both 1.0 and, for instance, 1.1.

    Examples
    --------
    >>> whole_numbers(pd.Series(["1.0", "2.0", "C3"]), "table.csv")[0].tolist()
    ['1', '2', 'C3']
    """
    is_whole = values.str.contains(_WHOLE, na=False)
    if not is_whole.any():
        return values, []
    is_decimal = values.str.contains(_DECIMAL, na=False) & ~is_whole
    first = values[is_whole].iloc[0]
    if is_decimal.any():
        raise CohortError(
            where,
            f"{first} and {values[is_decimal].iloc[0]}",
            "identifiers without a decimal point",
            "Write them as text.",
        )
    whole = values.str.replace(r"\.0+$", "", regex=True).where(is_whole, values)
    name = str(where).rpartition("/")[2]
    note = f"{name}: {first} is read as {whole[is_whole].iloc[0]} (rows alike: {is_whole.sum()})"
    return whole, [note]


def matching(name: str, candidates) -> list[str]:
    """Return which of `candidates` an identifier may mean.

    Parameters
    ----------
    name : str
    candidates : iterable of str

    Returns
    -------
    list of str
        The identifier itself if it is a candidate. Else all that differ from it in the prefix,
        case, blanks, dashes, underscores and leading zeros of numbers only.

    Examples
    --------
    >>> matching("1", ["sub-01", "sub-10"])
    ['sub-01']
    >>> matching("sub-1", ["sub-1", "sub-01"])
    ['sub-1']
    """
    return Spellings(candidates).matching(name)


class Spellings:
    """Names among which many identifiers are looked up; a look-up does not go through all names.

    Parameters
    ----------
    names : iterable of str

    Examples
    --------
    >>> Spellings(["sub-01", "sub-10"]).matching("1")
    ['sub-01']
    """

    def __init__(self, names):
        self._names = set(names)
        self._by_key: dict[str, list[str]] = {}
        for name in sorted(self._names):
            self._by_key.setdefault(_key(name), []).append(name)

    def matching(self, name: str) -> list[str]:
        """Return which of the names an identifier may mean, as `matching` does."""
        if name in self._names:
            return [name]
        return self._by_key.get(_key(name), [])


def _key(name: str) -> str:
    """Return what two spellings of an identifier share."""
    bare = re.sub(r"^((sub[\s_-]?)+|(ses[\s_-]?)+)", "", name.casefold())
    joined = re.sub(r"(?<=[a-z0-9])[\s_-](?=[a-z0-9])", "", bare)
    return re.sub(r"(?<!\d)0+(?=\d)", "", joined)


def _check_apart(original: pd.Series, letters: pd.Series, where) -> None:
    """Refuse identifiers that become one."""
    for _, spellings in original.groupby(letters):
        if spellings.nunique() > 1:
            raise CohortError(
                where,
                _first_two(spellings),
                "identifiers that differ in letters or digits",
                "Rename one: other characters do not count.",
            )


def _check_spellings(original: pd.Series, letters: pd.Series, where) -> None:
    """Refuse identifiers that may be one person: the split would take them for two."""
    for _, spellings in original.groupby(letters.map(_key)):
        if spellings.nunique() > 1:
            raise CohortError(
                where,
                _first_two(spellings),
                "identifiers that differ in more than case and leading zeros",
                "Write them alike if they are one person, or rename one if they are two.",
            )


def _first_two(spellings: pd.Series) -> str:
    """Return two spellings as text."""
    return " and ".join(sorted(spellings.unique())[:2])
