"""What every figure has: style, colours, title, notes and marks; how it is saved.

Figures are the same on every computer. A user's matplotlibrc therefore decides the backend alone:
matplotlib's own defaults replace its other settings. Notebooks show a figure after it was drawn,
and matplotlib then makes the labels of ticks. So the defaults hold from the import on.
"""

import functools
import gc
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from msxai.base import provenance, tsv
from msxai.base.notices import NOTICE, SYNTHETIC

__all__ = [
    "CONTROL",
    "NOTICE",
    "PATIENT",
    "REFERENCE",
    "SYNTHETIC",
    "drawn",
    "grid",
    "in_panels",
    "nothing_to_draw",
    "place",
    "range_text",
    "save",
    "sheet",
    "style",
    "text",
    "trials",
]

PATIENT = "#D55E00"  # vermilion and blue of Okabe, Ito 2008: colour-blind readers see both
CONTROL = "#0072B2"
REFERENCE = "#999999"  # lines of chance and of no difference
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "svg.hashsalt": "msxai",
}
DPI = 150
METADATA = {".png": {"Software": None}, ".svg": {"Date": None}}  # nothing that changes by itself

matplotlib.rcdefaults()  # keeps the backend

# Inches.
_MARGIN = 0.1
_TITLE_LINE = 0.19
_TITLE_CHARACTER = 0.092
_NOTE_LINE = 0.14
_NOTE_CHARACTER = 0.0625
_CELL_CHARACTER = 0.066


def save(
    figure, folder, stem: str, source: pd.DataFrame, record: dict, svg: bool = False
) -> list[Path]:
    """Write a figure, its numbers and its provenance, each file whole or not at all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        What one of this package's functions returned.
    folder : path
        Where the files go.
    stem : str
        Name of the files without ending, e.g. ``fig06_roc``.
    source : pandas.DataFrame
        The numbers that the figure shows, written as .tsv.
    record : dict
        From `msxai.base.provenance.record`; its ``outputs`` become the files written here.
    svg : bool
        Write .svg too. For charts, not for maps.

    Returns
    -------
    list of pathlib.Path
        .png, .svg where asked for, .tsv, .json (written last).
    """
    folder = Path(folder)
    endings = ["png", "svg"] if svg else ["png"]
    paths = []
    for ending in endings:
        path = folder / f"{stem}.{ending}"
        _save_picture(figure, path)
        paths.append(path)
    table = tsv.write(source, folder / f"{stem}.tsv", float_format="%.6g")
    paths.append(table)
    outputs = {provenance.relative(path): provenance.sha256(path) for path in paths}
    record_path = folder / f"{stem}.json"
    provenance.write_json(record_path, {**record, "outputs": outputs})
    return [*paths, record_path]


def _save_picture(figure, path: Path) -> None:
    metadata = METADATA[path.suffix]
    with provenance.replacing(path) as draft, _defaults_and_style():
        figure.savefig(draft, dpi=DPI, metadata=metadata)


@contextmanager
def style():
    """Draw in the common style."""
    gc.freeze()  # nilearn collects garbage at each slice, which is slow once TensorFlow is loaded
    try:
        with _defaults_and_style():
            yield
    finally:
        gc.unfreeze()


@contextmanager
def _defaults_and_style():
    """Matplotlib's defaults and the common style, whatever is set outside of the block."""
    with plt.rc_context():
        matplotlib.rcdefaults()
        plt.rcParams.update(STYLE)
        yield


def drawn(function):
    """Draw in the common style and close the figure, so that a notebook shows it only once."""

    @functools.wraps(function)
    def draw(*args, **kwargs):
        with style():
            figure, source = function(*args, **kwargs)
        plt.close(figure)
        return figure, source

    return draw


def sheet(
    width: float, body: float, title: str, notes: list, synthetic: bool, notice: bool = False
):
    """Make a figure with title, notes and marks, and room for the drawing in between.

    Parameters
    ----------
    width, body : float
        Width of the figure, and height of the room for the drawing (inches).
    title : str
        Wrapped to the width.
    notes : list of str
        The caption below the drawing: what is shown, how to read it, what it means.
    synthetic, notice : bool
        Add the sentence on simulated subjects, and the one on clinical use.

    Returns
    -------
    figure : matplotlib.figure.Figure
    bottom : float
        Lower edge of the room for the drawing (inches).
    """
    title_lines = textwrap.wrap(title, int(width / _TITLE_CHARACTER))
    note_lines = _wrapped(notes, int(width / _NOTE_CHARACTER))
    marks = _marks(synthetic, notice)
    n_foot_lines = len(note_lines) + bool(marks)
    foot = 0.12 + _NOTE_LINE * n_foot_lines
    height = 0.2 + _TITLE_LINE * len(title_lines) + body + foot
    figure = plt.figure(figsize=(width, height))
    top = height - _MARGIN
    heading = "\n".join(title_lines)
    text(figure, _MARGIN, top, heading, fontsize=10.5, fontweight="bold", va="top")
    y = foot - _MARGIN
    for line in note_lines:
        text(figure, _MARGIN, y, line, fontsize=7, va="center", color="#333333")
        y -= _NOTE_LINE
    text(figure, _MARGIN, 0.09, marks, fontsize=7, va="center", fontweight="bold")
    return figure, foot


def _wrapped(notes: list, characters: int) -> list[str]:
    lines = []
    for note in notes:
        lines += textwrap.wrap(note, characters)
    return lines


def _marks(synthetic: bool, notice: bool) -> str:
    marks = []
    if synthetic:
        marks.append(SYNTHETIC)
    if notice:
        marks.append(NOTICE)
    return " ".join(marks)


def text(figure, x: float, y: float, text: str, **properties) -> None:
    """Write text at a position in inches from the lower left corner."""
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, text, **properties)


def place(figure, left: float, bottom: float, width: float, height: float, **properties):
    """Add axes at a position in inches from the lower left corner."""
    figure_width, figure_height = figure.get_size_inches()
    horizontal = left / figure_width, width / figure_width
    vertical = bottom / figure_height, height / figure_height
    rectangle = (horizontal[0], vertical[0], horizontal[1], vertical[1])
    return figure.add_axes(rectangle, **properties)


def in_panels(number: int, columns: int) -> list[tuple[int, int]]:
    """Row and column of each of `number` panels, filled row by row.

    Examples
    --------
    >>> in_panels(3, columns=2)
    [(0, 0), (0, 1), (1, 0)]
    """
    return [divmod(index, columns) for index in range(number)]


def nothing_to_draw(title: str, reason: str, *, synthetic: bool, notice: bool = False):
    """Make a figure that says why there is nothing to draw; return it and the reason as a table."""
    figure, bottom = sheet(6, 0.8, title, [], synthetic, notice)
    axes = place(figure, _MARGIN, bottom, 5.8, 0.8)
    axes.axis("off")
    sentence = textwrap.fill(reason, 80)
    axes.text(0.5, 0.5, sentence, ha="center", va="center", fontsize=9)
    return figure, pd.DataFrame({"nothing_to_draw": [reason]})


def grid(lines: list[list[str]], width: float, title: str, notes: list, synthetic: bool):
    """Draw a table.

    Parameters
    ----------
    lines : list of list of str
        Two header rows, then the body. An empty cell of the first row belongs to the cell on its
        left.
    width : float
        Width of each column but the first (inches).
    title, notes, synthetic
        As in `sheet`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    widths = _column_widths(lines, width)
    heights = [_line_height(line) for line in lines]
    table_width = sum(widths)
    table_height = sum(heights) + 0.1
    figure, bottom = sheet(table_width + 2 * _MARGIN, table_height, title, notes, synthetic)
    axes = place(figure, _MARGIN, bottom, table_width, table_height)
    axes.set_xlim(0, table_width)
    axes.set_ylim(0, table_height)
    axes.axis("off")
    edges = np.concatenate([[0], np.cumsum(widths)])
    y = table_height - 0.05
    axes.axhline(y, color="black", lw=1)
    for index, (line, height) in enumerate(zip(lines, heights, strict=True)):
        middle = y - height / 2
        y -= height
        _write_cells(axes, line, edges, middle, bold=index < 2)
        if index == 0:
            _underline(axes, line, edges, y)
        if index == 1:
            axes.axhline(y, color="black", lw=0.7)
    axes.axhline(y, color="black", lw=1)
    return figure


@dataclass(frozen=True)
class _Cell:
    """A cell's text, and its edges in inches."""

    text: str
    left: float
    right: float


def _column_widths(lines: list, width: float) -> list[float]:
    longest = 0
    for line in lines:
        for part in line[0].split("\n"):
            longest = max(longest, len(part))
    first = 0.25 + _CELL_CHARACTER * longest
    n_others = len(lines[0]) - 1
    return [first, *[width] * n_others]


def _line_height(line: list[str]) -> float:
    n_breaks = max(cell.count("\n") for cell in line)
    return 0.22 + _NOTE_LINE * n_breaks


def _cells(line: list[str], edges: np.ndarray) -> list[_Cell]:
    """All cells with text but the first one, each with the empty cells on its right."""
    filled = [column for column in range(1, len(line)) if line[column]]
    ends = [*filled[1:], len(line)]
    cells = []
    for column, end in zip(filled, ends, strict=True):
        cells.append(_Cell(line[column], edges[column], edges[end]))
    return cells


def _body_cells(line: list[str], edges: np.ndarray) -> list[_Cell]:
    """All cells but the first one, each as wide as its own column."""
    columns = range(1, len(line))
    return [_Cell(line[column], edges[column], edges[column + 1]) for column in columns]


def _write_cells(axes, line: list[str], edges: np.ndarray, y: float, *, bold: bool) -> None:
    axes.text(0, y, line[0], va="center")
    weight = "bold" if bold else "normal"
    cells = _cells(line, edges) if bold else _body_cells(line, edges)
    for cell in cells:
        x = (cell.left + cell.right) / 2
        if cell.text:
            axes.text(x, y, cell.text, ha="center", va="center", fontweight=weight)


def _underline(axes, line: list[str], edges: np.ndarray, y: float) -> None:
    for cell in _cells(line, edges):
        left = cell.left + 0.06
        right = cell.right - 0.06
        axes.plot([left, right], [y, y], color="black", lw=0.5)


def trials(number: int) -> str:
    """Number of trials in words.

    Examples
    --------
    >>> trials(1), trials(2)
    ('1 trial', '2 trials')
    """
    return "1 trial" if number == 1 else f"{number} trials"


def range_text(values) -> str:
    """The one value, or lowest to highest.

    Examples
    --------
    >>> range_text([3, 3]), range_text([3, 5])
    ('3', '3–5')
    """
    lowest = min(values)
    highest = max(values)
    return str(lowest) if lowest == highest else f"{lowest}–{highest}"
