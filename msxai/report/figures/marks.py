"""Horizontal charts of groups: bars, points and violins by seaborn, intervals from our own tables.

Each row of a chart (a region, a variant) holds one mark for each group (patients, a set of
subjects); the first row is on top.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import seaborn
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

__all__ = ["Layout", "bars", "points", "squares_legend", "symbols_legend", "violins"]


@dataclass(frozen=True)
class Layout:
    """Where marks stand and which colours they have.

    Parameters
    ----------
    row : str
        Column of the table that names the row of the chart.
    order : list of str
        All rows of the chart from the top.
    group : str
        Column of the table that names the group.
    colours : dict
        Group to colour, from the upper mark of a row to the lower one.
    spread : float
        Distance between the first and the last mark of a row (rows are 1 apart).
    symbols : dict
        Group to marker of matplotlib; by default a dot for every group.
    """

    row: str
    order: list
    group: str
    colours: dict
    spread: float = 0.4
    symbols: dict = field(default_factory=dict)

    def options(self, axes) -> dict:
        """Return what all of seaborn's functions want to know."""
        return {
            "y": self.row,
            "order": self.order,
            "hue": self.group,
            "hue_order": list(self.colours),
            "palette": self.colours,
            "legend": False,
            "ax": axes,
        }

    def offset(self, group: str) -> float:
        """Return how far below the middle of its row a group's mark stands."""
        groups = list(self.colours)
        if len(groups) == 1:
            return 0.0
        step = self.spread / (len(groups) - 1)
        return step * groups.index(group) - self.spread / 2


def bars(axes, table: pd.DataFrame, layout: Layout) -> None:
    """Draw a bar from 0 to `mean` with the interval from `low` to `high`.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    table : pandas.DataFrame
        mean, low, high and the columns that `layout` names: one row a bar.
    layout : Layout
        Two groups with a spread of 0.4, or one group.
    """
    options = layout.options(axes)
    seaborn.barplot(table, x="mean", errorbar=None, saturation=1, gap=0.05, **options)
    _intervals(axes, table, layout, {group: "black" for group in layout.colours}, width=0.7)
    axes.axvline(0, color="black", lw=0.5)
    axes.set(xlabel="", ylabel="")


def points(
    axes, table: pd.DataFrame, layout: Layout, *, size: float = 4, colour: str | None = None
) -> None:
    """Draw a point at `mean` with the interval from `low` to `high`.

    Parameters
    ----------
    axes, table, layout
        As in `bars`; any number of groups.
    size : float
        Of the points (typographic points).
    colour : str, optional
        One colour for all points, in place of those of their groups.
    """
    colours = layout.colours
    if colour is not None:
        colours = dict.fromkeys(colours, colour)
    options = layout.options(axes) | {"palette": colours}
    dodge = layout.spread if len(colours) > 1 else False
    seaborn.pointplot(
        table,
        x="mean",
        errorbar=None,
        dodge=dodge,
        markers=[layout.symbols.get(group, "o") for group in colours],
        linestyle="none",
        markersize=size,
        markeredgewidth=0,
        **options,
    )
    _intervals(axes, table, layout, colours, width=1)
    axes.set(xlabel="", ylabel="")


def _intervals(axes, table, layout: Layout, colours: dict, *, width: float) -> None:
    for group, colour in colours.items():
        rows = table[table[layout.group] == group].dropna(subset=["mean"])
        rows = rows[rows[layout.row].isin(layout.order)]
        positions = [layout.order.index(name) for name in rows[layout.row]]
        y = np.array(positions) + layout.offset(group)
        below = rows["mean"] - rows["low"]
        above = rows["high"] - rows["mean"]
        reach = np.maximum([below, above], 0)  # rounding may not make an interval negative
        axes.errorbar(rows["mean"], y, xerr=reach, fmt="none", ecolor=colour, elinewidth=width)


def violins(axes, table: pd.DataFrame, value: str, layout: Layout) -> None:
    """Draw the distribution of `value` over subjects as violins, and each subject as a dot.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    table : pandas.DataFrame
        `value` and the columns that `layout` names: one row a subject and row of the chart.
    value : str
        Column to draw.
    layout : Layout
        Two groups with a spread of 0.4.
    """
    options = layout.options(axes)
    seaborn.violinplot(
        table,
        x=value,
        inner=None,
        cut=0,
        density_norm="width",
        linewidth=0,
        saturation=1,
        alpha=0.35,
        **options,
    )
    seaborn.stripplot(table, x=value, dodge=True, jitter=False, size=1.5, **options)
    axes.set(xlabel="", ylabel="")


def squares_legend(axes, layout: Layout) -> None:
    """Explain the groups' colours on the right of the axes."""
    handles = []
    for group, colour in layout.colours.items():
        handles.append(Patch(color=colour, label=group))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.05, 1.0))


def symbols_legend(axes, layout: Layout, labels: dict) -> None:
    """Explain the groups' symbols on the right of the axes; `labels` maps a group to its text."""
    handles = []
    for group, colour in layout.colours.items():
        symbol = layout.symbols.get(group, "o")
        properties = {"color": colour, "marker": symbol, "markersize": 4, "linewidth": 1}
        handles.append(Line2D([], [], label=labels[group], **properties))
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
