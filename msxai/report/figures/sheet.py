"""The sheet that every figure stands on: style, colours, title, notes and marks, tables, sentences, and how it is saved."""

import functools
import gc
import itertools
import textwrap
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from msxai.base import provenance
from msxai.base.notices import NOTICE, SYNTHETIC

PATIENT, CONTROL = "#D55E00", "#0072B2"  # Okabe, Ito 2008
PAIR = PATIENT, CONTROL
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


def save(
    figure, folder, stem: str, source: pd.DataFrame, record: dict, svg: bool = False
) -> list[Path]:
    """Write a figure, its numbers and where it comes from, each file whole or not at all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    folder : path
    stem : str
        Name without ending, e.g. ``fig06_roc``.
    source : pandas.DataFrame
        What the figure shows, written as .tsv.
    record : dict
        From `msxai.base.provenance.record`; its ``outputs`` become the files written here.
    svg : bool
        Write .svg too: charts, not maps.

    Returns
    -------
    list of pathlib.Path
        .png, perhaps .svg, .tsv, .json (written last).
    """
    folder = Path(folder)
    paths = [folder / f"{stem}.{ending}" for ending in (("png", "svg") if svg else ("png",))]
    for path in paths:
        with provenance.replacing(path) as draft, plt.rc_context(STYLE):
            figure.savefig(
                draft,
                dpi=DPI,
                metadata={"Date": None} if path.suffix == ".svg" else {"Software": None},
            )
    paths.append(folder / f"{stem}.tsv")
    with provenance.replacing(paths[-1]) as draft:
        source.to_csv(draft, sep="\t", index=False, na_rep="n/a", float_format="%.6g")
    outputs = {provenance.relative(path): provenance.sha256(path) for path in paths}
    provenance.write_json(folder / f"{stem}.json", {**record, "outputs": outputs})
    return [*paths, folder / f"{stem}.json"]


@contextmanager
def style():
    """Draw in the common style."""
    gc.freeze()  # nilearn collects garbage for each slice: with TensorFlow loaded that is most of the time
    try:
        with plt.rc_context(STYLE):
            yield
    finally:
        gc.unfreeze()


def drawn(function):
    """Draw in the common style and close the figure, so that a notebook shows it once: where it is returned."""

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
    """A figure with title and notes and `body` inches in between; returns it and where the body begins (inches)."""
    titles = textwrap.wrap(title, int(width / 0.092))
    lines = [line for note in notes for line in textwrap.wrap(note, int(width / 0.0625))]
    foot = 0.12 + 0.14 * (len(lines) + (synthetic or notice))
    height = 0.2 + 0.19 * len(titles) + body + foot
    figure = plt.figure(figsize=(width, height))
    text(figure, 0.1, height - 0.1, "\n".join(titles), fontsize=10.5, fontweight="bold", va="top")
    for index, line in enumerate(lines):
        text(figure, 0.1, foot - 0.1 - 0.14 * index, line, fontsize=7, va="center", color="#333333")
    marks = " ".join(filter(None, [SYNTHETIC if synthetic else "", NOTICE if notice else ""]))
    text(figure, 0.1, 0.09, marks, fontsize=7, va="center", fontweight="bold")
    return figure, foot


def text(figure, x: float, y: float, text: str, **more) -> None:
    """Text at a place in inches."""
    figure.text(x / figure.get_figwidth(), y / figure.get_figheight(), text, **more)


def place(figure, left: float, bottom: float, width: float, height: float, **more):
    """Axes at a place in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up), **more)


def words(title: str, text: str, synthetic: bool, notice: bool = False):
    """A figure with nothing to draw: it says why."""
    figure, bottom = sheet(6, 0.8, title, [], synthetic, notice)
    axes = place(figure, 0.1, bottom, 5.8, 0.8)
    axes.axis("off")
    axes.text(0.5, 0.5, textwrap.fill(text, 80), ha="center", va="center", fontsize=9)
    return figure, pd.DataFrame({"nothing_to_draw": [text]})


def grid(lines: list[list[str]], width: float, title: str, notes: list, synthetic: bool):
    """Draw a table of two header rows and any others; an empty cell of the first row belongs to the one on its left."""
    longest = max(len(part) for line in lines for part in line[0].split("\n"))
    widths = [0.25 + 0.066 * longest, *[width] * (len(lines[0]) - 1)]
    heights = [0.22 + 0.14 * max(cell.count("\n") for cell in line) for line in lines]
    figure, bottom = sheet(sum(widths) + 0.2, sum(heights) + 0.1, title, notes, synthetic)
    axes = place(
        figure,
        0.1,
        bottom,
        sum(widths),
        sum(heights) + 0.1,
        xlim=(0, sum(widths)),
        ylim=(0, sum(heights) + 0.1),
    )
    axes.axis("off")
    edges = np.concatenate([[0], np.cumsum(widths)])
    y = sum(heights) + 0.05
    axes.axhline(y, color="black", lw=1)
    for index, (line, height) in enumerate(zip(lines, heights, strict=True)):
        y -= height
        for column, cell in enumerate(line):
            if column == 0:
                axes.text(0, y + height / 2, cell, va="center")
            elif cell:
                last = (
                    column
                    + 1
                    + len(list(itertools.takewhile(lambda other: not other, line[column + 1 :])))
                )
                middle = (edges[column] + edges[last]) / 2
                axes.text(
                    middle,
                    y + height / 2,
                    cell,
                    ha="center",
                    va="center",
                    fontweight="bold" if index < 2 else None,
                )
                if index == 0:
                    axes.plot(
                        [edges[column] + 0.06, edges[last] - 0.06], [y, y], color="black", lw=0.5
                    )
        if index == 1:
            axes.axhline(y, color="black", lw=0.7)
    axes.axhline(y, color="black", lw=1)
    return figure


def trials(number: int) -> str:
    """``1 trial``, ``2 trials``."""
    return "1 trial" if number == 1 else f"{number} trials"


def span(values) -> str:
    """The one value, or lowest to highest."""
    return str(min(values)) if min(values) == max(values) else f"{min(values)}–{max(values)}"
