"""Identifiers of people and visits in tables and folders, and which of them belong together."""

import re

import pandas as pd

from msxai.base.errors import CohortError
from msxai.base.short_texts import beginning

__all__ = [
    "Spellings",
    "check_visits",
    "clean",
    "matching",
    "safe",
    "whole_numbers",
    "written_alike",
]

_WHOLE = r"^(?:(?:sub|ses)-)?\d+\.0+$"
_NO_TEXT = r"[\x00-\x1f\x7f-\x9f\u2028\u2029]"  # line breaks and other control characters
_UNUSUAL = r"[^A-Za-z0-9 ._-]"
# Letters and digits. Results have both in one name, which a disk takes up to 255 characters.
_LONGEST = {"sub": 100, "ses": 40}
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
        As of `safe`; two identifiers of people differ in case or leading zeros only, or numbers may
        be whole or not.

    Examples
    --------
    >>> clean(pd.Series(["MS_07", "sub-MS08"]), "sub", "table.csv")[0].tolist()
    ['sub-MS07', 'sub-MS08']
    """
    whole, notes = whole_numbers(values, where)
    cleaned, dropped = safe(whole, prefix, where)
    if prefix == "sub":
        _check_spellings(_bare(whole, prefix), cleaned.map(_key), where, "person")
    return cleaned, notes + dropped


def safe(values: pd.Series, prefix: str, where) -> tuple[pd.Series, list[str]]:
    """Return identifiers as parts of file names: the prefix, then letters from A to Z and digits.

    Parameters
    ----------
    values : pandas.Series of str
    prefix : str
        "sub" or "ses".
    where : str
        File and column or folders, for the error and the notes.

    Returns
    -------
    identifiers : pandas.Series of str
    notes : list of str
        Identifiers without characters other than blanks, dots, dashes and underscores.

    Raises
    ------
    CohortError
        An identifier is missing, has neither letter nor digit, is too long for the name of a file,
        or has a line break or another control character, or two identifiers become one.

    Examples
    --------
    >>> safe(pd.Series(["sub-J\u00fcrgen"]), "sub", "people.csv")[1]
    ["people.csv: 'sub-J\u00fcrgen' is read as sub-Jrgen (rows alike: 1)"]
    """
    is_no_text = values.str.contains(_NO_TEXT, na=False)
    if is_no_text.any():
        raise CohortError(
            where,
            repr(beginning(values[is_no_text].iloc[0])),
            "letters and digits, without line breaks and other control characters",
            "Rename it.",
        )
    original = _bare(values, prefix)
    letters = original.str.replace(r"[^A-Za-z0-9]", "", regex=True)
    empty = letters.isna() | letters.eq("")
    if empty.any():
        value = values[empty].iloc[0]
        actual = "a row without identifier" if pd.isna(value) else repr(beginning(value))
        raise CohortError(
            where, actual, "letters and digits (A to Z, 0 to 9)", "Fill it in, or rename it."
        )
    _check_lengths(letters, prefix, where)
    _check_apart(original, letters, where)
    cleaned = f"{prefix}-" + letters
    unusual = original.str.contains(_UNUSUAL)
    notes = []
    if unusual.any():
        name = str(where).rpartition("/")[2]
        first = f"{values[unusual].iloc[0]!r} is read as {cleaned[unusual].iloc[0]}"
        notes.append(f"{name}: {first} (rows alike: {unusual.sum()})")
    return cleaned, notes


def check_visits(sessions: pd.Series, people: pd.Series, where) -> None:
    """Refuse sessions of one person that may be one visit.

    Parameters
    ----------
    sessions, people : pandas.Series of str
    where : str
        File and column, for the error.

    Raises
    ------
    CohortError
        Two sessions of a person differ in case or leading zeros only.
    """
    _check_spellings(sessions, [people, sessions.map(_key)], where, "visit")


def _bare(values: pd.Series, prefix: str) -> pd.Series:
    """Return identifiers without their prefix."""
    return values.str.replace(rf"^{prefix}-", "", regex=True, case=False)


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


def written_alike(names) -> list[list[str]]:
    """Return the names that differ in case, leading zeros or punctuation only, group by group.

    Parameters
    ----------
    names : iterable of str

    Examples
    --------
    >>> written_alike(["sub-1", "sub-01", "sub-2"])
    [['sub-01', 'sub-1']]
    """
    by_key: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        by_key.setdefault(_key(name), []).append(name)
    return [alike for alike in by_key.values() if len(alike) > 1]


def _check_lengths(letters: pd.Series, prefix: str, where) -> None:
    """Refuse identifiers that are too long for the names of files."""
    lengths = letters.str.len()
    longest = _LONGEST[prefix]
    if (lengths > longest).any():
        first = letters[lengths > longest].iloc[0]
        raise CohortError(
            where,
            f"an identifier of {len(first)} letters and digits ({beginning(first)})",
            f"{longest} at most, because it becomes part of the names of files",
            "Choose a shorter one.",
        )


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


def _check_spellings(original: pd.Series, keys, where, noun: str) -> None:
    """Refuse identifiers that may be one person, or one visit of a person.

    The split would take one person for two.
    """
    groups = original.groupby(keys)
    n_spellings = groups.nunique()
    several = n_spellings.index[n_spellings > 1]
    if len(several):
        raise CohortError(
            where,
            _first_two(groups.get_group(several[0])),
            "identifiers that differ in more than case and leading zeros",
            f"Write them alike if they are one {noun}, or rename one if they are two.",
        )


def _first_two(spellings: pd.Series) -> str:
    """Return two spellings as text."""
    return " and ".join(sorted(spellings.unique())[:2])
