"""Tables of people and scans as text, and the checks that all kinds of cohorts share.

What a person reads without doubt is read, and a note says what was mended. What has two meanings
is refused.
"""

import codecs
import csv
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd

from msxai.base.errors import CohortError, in_place_of_file
from msxai.base.short_texts import beginning

__all__ = [
    "categories",
    "existing",
    "first_line",
    "need",
    "numbers",
    "plain",
    "read",
]

_UNKNOWN = ("n/a", "na", "nan", "#n/a", "<na>", "null")  # what programs write for an empty cell
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_BLANKS = " \t\n\xa0\u2007\u200b\u202f\ufeff"  # those of web pages and spreadsheets, too
_QUOTED = re.compile(r'^"(.*)"$', re.DOTALL)
_SYNONYMS = {"age": ("ageyears", "ageinyears"), "sex": ("gender",)}  # other names of columns
_LISTED = 3  # examples in a note
_COLUMNS_SHOWN = 30  # columns named in an error
_RANGES = {"age": (0, 130), "edss": (0, 10)}


def read(path, names=()) -> tuple[pd.DataFrame, list[str]]:
    r"""Read a table as text; unknown values are NaN.

    Parameters
    ----------
    path : path
        Text in UTF-8, or UTF-16 with a byte order mark. A .tsv is read as BIDS defines it: tabs,
        "n/a" is unknown. Any other file: commas, semicolons or tabs, whichever its first line has
        most of. Empty cells, n/a, NA, N/A, nan and NULL are unknown in all of them.
    names : sequence of str
        Columns to find whatever their case and punctuation: `Age` becomes `age`. So do
        `Age (years)`, and `gender` becomes `sex`.

    Returns
    -------
    table : pandas.DataFrame
        Without blanks and quotes at the ends of cells, without empty rows.
    notes : list of str
        What was mended.

    Raises
    ------
    CohortError
        The file does not exist, is not such a table, has two columns of one name, or has a quoted
        cell that may hold other rows.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "people.tsv"
    >>> _ = path.write_text("participant_id\tAge\nsub-01\t41.5\n")
    >>> table, notes = read(path, ["age"])
    >>> table["age"].tolist(), notes
    (['41.5'], ["people.tsv: column 'Age' is read as age"])
    """
    path = Path(path)
    if not path.is_file():
        mend = "Check the path, or see docs/your-cohort.md for the layout."
        raise CohortError(path, in_place_of_file(path), "a table", mend)
    notes: list[str] = []
    try:
        text = _decoded(path.read_bytes(), notes)
        cells = _cells(text, path, notes)
    except ValueError as error:  # not a table, or not text
        separated = "tab-separated" if _is_tsv(path) else "comma-separated"
        expected = f"{separated} text in UTF-8"
        reason = " ".join(str(error).split())
        raise CohortError(path, f"no table ({reason})", expected, "Save it as such.") from error
    cells = _without_blanks(cells, notes)
    if _is_tsv(path):
        cells = _without_quotes(cells, notes)
    table = _under_header(cells)
    table = _with_names(table, names, path, notes)
    table = _without_unknown(table, path, notes)
    table = _without_empty_rows(table, notes)
    return table, [f"{path.name}: {note}" for note in notes]


def first_line(path) -> list[str]:
    """Return the names in a table's first line; none where the file is no text.

    Parameters
    ----------
    path : path
    """
    path = Path(path)
    try:
        text = _decoded(path.read_bytes(), [])
        header, _, _ = text.partition("\n")
        row = _cells(header + "\n", path, [])
    except (ValueError, CohortError):
        return []
    return row.iloc[0].tolist()


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
            names = [beginning(name) for name in table.columns[:_COLUMNS_SHOWN]]
            rest = len(table.columns) - len(names)
            present = f"only the columns {', '.join(names)}" + (
                f" and {rest} others" if rest else ""
            )
            raise CohortError(f"{path}, column {column}", present, "this column", mend)
    if table.empty:
        where = f"{path}, column {columns[0]}"
        raise CohortError(where, "no rows", "one row a participant or scan", "Fill it in.")


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
    actual = f"{path}, which is a folder" if path.is_dir() else f"{path}, which is not there"
    raise CohortError(where, actual, "a file", mend)


def numbers(column: pd.Series, name: str, where) -> tuple[pd.Series, list[str]]:
    """Return a column as numbers.

    A decimal comma is read as a point. An age of `89+` is read as 89, as BIDS writes the ages of
    people who are 89 or older.

    Parameters
    ----------
    column : pandas.Series
        Text or NaN.
    name : str
        Name of the column. Ages are 0 to 130 years, the EDSS is 0 to 10.
    where : str or path
        The table's file, for the error and the notes.

    Returns
    -------
    values : pandas.Series of float
    notes : list of str
        What was mended.

    Raises
    ------
    CohortError
        A value is neither a number nor unknown, or is out of range.

    Examples
    --------
    >>> numbers(pd.Series(["41,5", "89+"]), "age", "people.csv")[0].tolist()
    [41.5, 89.0]
    """
    text = column.astype("string")
    mended = text.str.replace(r"^(\d+),(\d+)$", r"\1.\2", regex=True)
    if name == "age":
        mended = mended.str.replace(r"^(\d+) ?\+$", r"\1", regex=True)
    values = pd.to_numeric(mended, errors="coerce")
    values = values.astype("Float64").to_numpy(float, na_value=np.nan)
    low, high = _RANGES.get(name, (-np.inf, np.inf))
    is_number = np.isfinite(values) & (values >= low) & (values <= high)
    wrong = column[~is_number & column.notna()]
    if len(wrong):
        expected = f"a number from {low} to {high}, or n/a"
        actual = repr(beginning(str(wrong.iloc[0])))
        raise CohortError(f"{where}, column {name}", actual, expected, "Mend the table.")
    changed = text[(text != mended).fillna(False)]
    notes = []
    if len(changed):
        pairs = [f"{cell} is read as {mended[row]}" for row, cell in changed.items()]
        notes.append(f"{Path(where).name}, column {name}: {_listed(pairs)}")
    return pd.Series(values, index=column.index), notes


def categories(column: pd.Series, where) -> tuple[pd.Series, list[str]]:
    """Return a column of categories with one spelling of each: the most frequent.

    Parameters
    ----------
    column : pandas.Series
        Text or NaN.
    where : str
        File and column, for the notes.

    Returns
    -------
    categories : pandas.Series
    notes : list of str
        What was mended.

    Examples
    --------
    >>> categories(pd.Series(["F", "f", "M", "F"]), "people.csv, column sex")[0].tolist()
    ['F', 'F', 'M', 'F']
    """
    counts = column.value_counts().sort_index()
    counts = counts.sort_values(ascending=False, kind="stable")
    first_of: dict[str, str] = {}
    for spelling in counts.index:
        first_of.setdefault(str(spelling).casefold(), spelling)
    spelling_of = {spelling: first_of[str(spelling).casefold()] for spelling in counts.index}
    notes = []
    for spelling, category in sorted(spelling_of.items()):
        if spelling != category:
            rows = _count(int(counts[spelling]), "row")
            notes.append(f"{where}: {spelling!r} is read as {category} ({rows})")
    return column.map(spelling_of), notes


def plain(name: str) -> str:
    """Return letters and digits alone, in lower case.

    Parameters
    ----------
    name : str

    Examples
    --------
    >>> plain("Participant ID")
    'participantid'
    """
    return re.sub(r"[\W_]", "", name.casefold())


def _is_tsv(path: Path) -> bool:
    """Return whether BIDS's rules for tables hold."""
    return path.suffix.lower() == ".tsv"


def _decoded(content: bytes, notes: list[str]) -> str:
    """Return a file's text, its lines separated by line feeds."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16")
        notes.append("text in UTF-16 is read")
    else:
        text = content.decode("utf-8-sig")
    if "\0" in text:
        raise ValueError("bytes that are no text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _cells(text: str, path: Path, notes: list[str]) -> pd.DataFrame:
    """Return all cells, the header as the first row."""
    # Excel may name the separator in a line before the header.
    named = re.match(r"^sep=([,;\t])\n", text)
    text = text[named.end() :] if named else text
    header, _, _ = text.lstrip("\n").partition("\n")
    separator = named[1] if named else _separator(header, path)
    is_usual = not _is_tsv(path) or separator == "\t"
    if not is_usual:
        notes.append(f"{_SEPARATORS[separator]} separate the cells, not tabs")
    as_bids = _is_tsv(path) and is_usual
    if as_bids and _has_numbered_rows(text):
        notes.append("the numbers of rows that R writes are left out")
        text = "\t" + text.lstrip("\n")
    unquoted = text
    if not as_bids:
        quoted_cell = _quoted_cell(separator)
        first = 2 if named else 1
        _check_quotes(text, separator, quoted_cell, path, first)
        unquoted = quoted_cell.sub("", text)
    _note_short_rows(unquoted, separator, notes)
    return pd.read_csv(
        io.StringIO(text),
        sep=separator,
        header=None,
        dtype=str,
        na_filter=False,
        quoting=csv.QUOTE_NONE if as_bids else csv.QUOTE_MINIMAL,
        skipinitialspace=not as_bids,
    )


def _quoted_cell(separator: str) -> re.Pattern:
    """Return the pattern of a cell that begins with a quote, as pandas reads it.

    Its groups: what the quotes hold, and what follows the closing quote in the same cell.
    """
    blanks = "[ ]*" if separator == "\t" else r"[ \t]*"
    start = rf"(?:\A|(?<=[\n{separator}])){blanks}"
    inside = r'"([^"]*(?:""[^"]*)*)"'
    return re.compile(rf"{start}{inside}([^\n{separator}]*)")


def _check_quotes(
    text: str, separator: str, quoted_cell: re.Pattern, path: Path, first: int
) -> None:
    """Refuse quotes that may be lone: two lone ones would swallow the rows between them.

    A cell may hold separators and line breaks if its closing quote ends it, and if no line that
    it reaches into is as long as a row.
    """
    header, _, _ = text.lstrip("\n").partition("\n")
    length_of_row = _unquoted(header).count(separator)
    for cell in quoted_cell.finditer(text):
        inside, rest = cell.groups()
        if separator not in inside and "\n" not in inside:
            continue
        end = text.find("\n", cell.end())
        _, *further = text[cell.start() : None if end < 0 else end].split("\n")
        holds_rows = any(line.count(separator) == length_of_row for line in further)
        if rest.strip(_BLANKS) or holds_rows:
            line = text.count("\n", 0, cell.start(1)) + first
            start = re.split(rf"[\n{separator}]", inside)[0]
            raise CohortError(
                f"{path}, line {line}",
                f"the cell {beginning(start)!r}, whose quote is closed in another cell or row",
                "a closing quote at the end of each quoted cell",
                "Remove the quote, or close it where the cell ends.",
            )


def _note_short_rows(text: str, separator: str, notes: list[str]) -> None:
    """Add a note that counts the rows with fewer cells than the header.

    Spreadsheets leave out the last separators of some rows.
    """
    blanks = _BLANKS + separator
    header, *rows = [line for line in text.split("\n") if line.strip(blanks)] or [""]
    least = header.rstrip(blanks).count(separator)
    count = sum(row.count(separator) < least for row in rows)
    if count:
        rows = _count(count, "row")
        notes.append(f"cells that are missing at the end of a row are read as unknown ({rows})")


def _unquoted(header: str) -> str:
    """Return a line without its quoted cells."""
    return re.sub(r'"[^"]*"', "", header)


def _has_numbered_rows(text: str) -> bool:
    """Return whether all rows begin with their number, which has no name in the header."""
    lines = [line.split("\t") for line in text.split("\n") if line]
    if len(lines) < 2:
        return False
    header, *rows = lines
    has_further_cell = all(len(row) == len(header) + 1 for row in rows)
    numbers = [row[0].strip('"') for row in rows]
    return has_further_cell and numbers == [str(number + 1) for number in range(len(rows))]


def _separator(header: str, path: Path) -> str:
    """Return what separates the names in a header."""
    unquoted = _unquoted(header)
    counts = {separator: unquoted.count(separator) for separator in _SEPARATORS}
    most = max(counts.values())
    if _is_tsv(path) and (counts["\t"] or not most):
        return "\t"
    candidates = [separator for separator in counts if counts[separator] == most]
    if most and len(candidates) > 1:
        names = " and ".join(_SEPARATORS[separator] for separator in candidates)
        raise CohortError(
            f"{path}, first line",
            f"as many {names}",
            "one separator",
            "Save the table with commas alone.",
        )
    return candidates[0]


def _without_blanks(cells: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Return cells without blanks at their ends."""
    stripped = cells.map(lambda cell: cell.strip(_BLANKS))
    _note_changes(cells, stripped, "blanks at the ends are removed", notes)
    return stripped


def _without_quotes(cells: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Return cells without quotes around them."""
    unquoted = cells.map(lambda cell: _QUOTED.sub(_inside, cell))
    _note_changes(cells, unquoted, "quotes around cells are removed", notes)
    return unquoted


def _inside(match: re.Match) -> str:
    """Return what a quoted cell holds."""
    return match[1].replace('""', '"').strip(_BLANKS)


def _note_changes(before: pd.DataFrame, after: pd.DataFrame, note: str, notes: list) -> None:
    """Add a note that counts the cells that changed and are not empty."""
    count = int(((before != after) & (after != "")).to_numpy().sum())
    if count:
        notes.append(f"{note} ({_count(count, 'cell')})")


def _under_header(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the rows below the header, under its names; columns without a name are left out."""
    header = cells.iloc[0]
    table = cells.iloc[1:].reset_index(drop=True)
    table.columns = header.tolist()
    return table.loc[:, (header != "").to_numpy()]


def _with_names(table: pd.DataFrame, names, path: Path, notes: list[str]) -> pd.DataFrame:
    """Return a table whose columns have the names that are looked for, each once."""
    header = list(table.columns)
    for name in dict.fromkeys(names):
        similar, positions = _positions(header, name)
        if len(positions) > 1:
            columns = " and ".join(repr(beginning(header[position])) for position in positions)
            raise CohortError(
                f"{path}, column {name}",
                f"the columns {columns}",
                "one column of this name",
                "Rename or remove the other one.",
            )
        for position in similar:
            if positions and position not in positions:
                notes.append(f"column {header[position]!r} is not read beside {name}")
        for position in positions:
            if header[position] != name:
                notes.append(f"column {header[position]!r} is read as {name}")
                header[position] = name
    table.columns = header
    return table.loc[:, ~table.columns.duplicated()]


def _positions(header: list[str], name: str) -> tuple[list[int], list[int]]:
    """Return where a name stands in any spelling or as a synonym, and where it is to be read.

    It is read where it stands as it is, or else in another spelling, or else as a synonym.
    """
    exact = [index for index, column in enumerate(header) if column == name]
    bare = [plain(column) for column in header]
    similar = [index for index, column in enumerate(bare) if column == plain(name)]
    synonyms = _SYNONYMS.get(name, ())
    further = [index for index, column in enumerate(bare) if column in synonyms]
    return similar + further, exact or similar or further


def _without_unknown(table: pd.DataFrame, path: Path, notes: list[str]) -> pd.DataFrame:
    """Return a table with NaN for unknown values."""
    is_unknown = table.map(lambda cell: cell == "" or cell.lower() in _UNKNOWN).astype(bool)
    if _is_tsv(path):
        spellings = pd.Series(table.to_numpy()[is_unknown.to_numpy()], dtype=object)
        for spelling, count in spellings.value_counts().sort_index().items():
            if spelling not in ("", "n/a"):
                notes.append(f"{spelling} is read as unknown ({_count(count, 'cell')})")
    return table.mask(is_unknown)


def _without_empty_rows(table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Return the rows that have any value."""
    is_empty = table.isna().all(axis=1)
    if is_empty.any() and len(table.columns):
        notes.append(f"{_count(int(is_empty.sum()), 'empty row')} left out")
    return table[~is_empty].reset_index(drop=True)


def _count(count: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _listed(texts) -> str:
    """Return the first few texts as a list."""
    texts = list(dict.fromkeys(texts))
    rest = len(texts) - _LISTED
    return ", ".join(texts[:_LISTED]) + (f" and {rest} like these" if rest > 0 else "")
