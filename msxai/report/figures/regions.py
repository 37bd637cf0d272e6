"""Figures of regions: lesion volume by tract, relevance by tract and area, and after filling."""

import numpy as np
import pandas as pd

from msxai.base import statistics
from msxai.report.figures import marks, sheet

__all__ = ["areas", "lesion_volumes", "summary", "tracts", "with_without"]

GROUPS = {1: "patients", 0: "controls"}
COLOURS = {"patients": sheet.PATIENT, "controls": sheet.CONTROL}
SIGNS = ("net", "positive")
UNITS = {"sum": "relevance (logit)", "density": "relevance per voxel (logit)"}
MEASURES = {"sum": "whole tract", "density": "per voxel"}
VERSIONS = {"with": sheet.PATIENT, "filled": "#777777"}
VERSION_NAMES = {"with": "lesions kept", "filled": "lesions filled"}
BARS = "Bars: mean over subjects. Lines: 95 % interval (bootstrap of subjects within each group)."
SIGNIFICANT = 0.05  # family-wise
VOLUME_TICKS = (0, 10, 100, 1000, 10000)  # mm³

# Inches.
_TRACT_HEIGHT = 0.25
_AREA_HEIGHT = 0.17
_ROOM = 0.9
_BOTTOM = 0.5


def summary(table: pd.DataFrame, value: str, seed: int = 0) -> pd.DataFrame:
    """Average a measure over subjects by region and group, with its 95 % bootstrap interval.

    Parameters
    ----------
    table : pandas.DataFrame
        participant_id, label, region and `value`, one row a scan and region. Visits of a subject
        are averaged first.
    value : str
        Column to average.
    seed : int
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        region, label, subjects, mean, low, high.
    """
    parts = []
    for label, group in table.dropna(subset=["label"]).groupby("label"):
        wide = group.pivot_table(value, "participant_id", "region", sort=False)
        low, high = statistics.bootstrap_mean_interval(wide.to_numpy(), seed)
        part = pd.DataFrame({"region": wide.columns, "label": int(label)})
        mean = wide.mean().to_numpy()
        parts.append(part.assign(subjects=len(wide), mean=mean, low=low, high=high))
    return pd.concat(parts, ignore_index=True)


@sheet.drawn
def lesion_volumes(table: pd.DataFrame, reason: str = "", seed: int = 0, *, synthetic: bool):
    """Draw the lesion volume of each white-matter tract in patients and in controls.

    Parameters
    ----------
    table : pandas.DataFrame
        participant_id, label, atlas, region, volume (mm³); the rows of atlas "tracts" are drawn.
    reason : str
        Why there is nothing to draw.
    seed : int
        Of the bootstrap.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        `summary` of the volumes.
    """
    title = "Lesion volume by white-matter tract"
    table = table[table["atlas"] == "tracts"]
    if table.empty:
        reason = f"Nothing to draw: {reason or 'no scan has a lesion mask.'}"
        return sheet.nothing_to_draw(title, reason, synthetic=synthetic)
    source = summary(table, "volume", seed)
    layout = _layout(_descending(source))
    notes = [
        "Dots: subjects. Violins: their distribution. Black: mean with 95 % interval (bootstrap of "
        "subjects within each group). The axis is logarithmic: log(1 + mm³)."
    ]
    height = 0.27 * len(layout.order)
    figure, bottom = sheet.sheet(8.5, height + 0.7, title, notes, synthetic)
    axes = sheet.place(figure, 2.6, bottom + _BOTTOM, 4.6, height)
    subjects = _subjects(table, "volume")
    subjects["volume"] = np.log1p(subjects["volume"])
    means = _named(source)
    means[["mean", "low", "high"]] = np.log1p(means[["mean", "low", "high"]])
    marks.violins(axes, subjects, "volume", layout)
    marks.points(axes, means, layout, size=2.5, colour="black")
    _label_rows(axes, layout.order)
    _label_axis(axes, "lesion volume (mm³)")
    axes.set_xticks(np.log1p(VOLUME_TICKS), [f"{tick:,}" for tick in VOLUME_TICKS])
    marks.squares_legend(axes, layout)
    return figure, source


@sheet.drawn
def tracts(
    table: pd.DataFrame, tests: pd.DataFrame, reason: str = "", seed: int = 0, *, synthetic: bool
):
    """Draw the relevance of each white-matter tract in patients and in controls.

    Net relevance (as in the paper) and positive relevance, of the whole tract and per voxel.

    Parameters
    ----------
    table : pandas.DataFrame
        `msxai.regions.regional_relevance.relevance`; the rows of atlas "tracts" are drawn.
    tests : pandas.DataFrame
        `msxai.regions.region_statistics.compare`.
    reason, seed, synthetic
        As in `lesion_volumes`.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        `summary` by sign and measure, with the family-wise p of the sum.
    """
    title = "Relevance by white-matter tract"
    table = table[table["atlas"] == "tracts"]
    if table.empty:
        reason = f"Nothing to draw: {reason}"
        return sheet.nothing_to_draw(title, reason, synthetic=synthetic, notice=True)
    panels = [(sign, measure) for sign in SIGNS for measure in MEASURES]
    source = _summaries(table, panels, seed)
    source = _with_p(source, tests, "tracts")
    ordering = source[(source["sign"] == "positive") & (source["measure"] == "sum")]
    layout = _layout(_descending(ordering))
    notes = [
        BARS,
        "★: patients and controls differ at family-wise p < 0.05 (permuted labels, max-T over all "
        "tracts).",
    ]
    height = _TRACT_HEIGHT * len(layout.order)
    figure, bottom = sheet.sheet(12.2, height + _ROOM, title, notes, synthetic, notice=True)
    left = 2.3
    for sign, measure in panels:
        heading = f"{sign}, {MEASURES[measure]}"
        axes = sheet.place(figure, left, bottom + _BOTTOM, 1.85, height, title=heading)
        part = source[(source["sign"] == sign) & (source["measure"] == measure)]
        marks.bars(axes, _named(part), layout)
        _label_rows(axes, layout.order, named=axes is figure.axes[0])
        _label_axis(axes, UNITS[measure], n_ticks=3)
        _stars(axes, part, layout.order)
        left += 2.15
    marks.squares_legend(axes, layout)
    return figure, source


@sheet.drawn
def areas(table: pd.DataFrame, tests: pd.DataFrame, seed: int = 0, *, synthetic: bool):
    """Draw the relevance of each grey-matter area: means of groups, and single subjects.

    Parameters
    ----------
    table, tests, seed, synthetic
        As in `tracts`; the rows of atlas "areas" are drawn.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        `summary` by sign, with the family-wise p.
    """
    title = "Relevance by grey-matter area"
    table = table[table["atlas"] == "areas"]
    if table.empty:
        reason = "Nothing to draw: no heatmap."
        return sheet.nothing_to_draw(title, reason, synthetic=synthetic, notice=True)
    source = _summaries(table, [(sign, "sum") for sign in SIGNS], seed)
    source = _with_p(source, tests, "areas")
    layout = _layout(_descending(source[source["sign"] == "positive"]))
    notes = [
        f"{len(layout.order)} grey-matter areas of Neuromorphometrics, left and right together; "
        "the paper counts 69.",
        "Left and middle: mean over subjects with 95 % interval (bootstrap of subjects within each "
        "group). Right: subjects (dots) and their distribution (violins).",
        "★: patients and controls differ at family-wise p < 0.05 (permuted labels, max-T over all "
        "areas).",
    ]
    height = _AREA_HEIGHT * len(layout.order)
    figure, bottom = sheet.sheet(10.5, height + _ROOM, title, notes, synthetic, notice=True)
    left = 2.4
    for sign in SIGNS:
        heading = f"{sign}: mean"
        axes = sheet.place(figure, left, bottom + _BOTTOM, 2.1, height, title=heading)
        part = source[source["sign"] == sign]
        marks.points(axes, _named(part), layout, size=2.5)
        _label_rows(axes, layout.order, named=axes is figure.axes[0])
        _label_axis(axes, UNITS["sum"], n_ticks=3)
        _stars(axes, part, layout.order)
        left += 2.35
    axes = sheet.place(figure, left, bottom + _BOTTOM, 2.1, height, title="positive: subjects")
    subjects = _subjects(table[table["sign"] == "positive"], "sum")
    marks.violins(axes, subjects, "sum", layout)
    _label_rows(axes, layout.order, named=False)
    _label_axis(axes, UNITS["sum"])
    marks.squares_legend(axes, layout)
    return figure, source


@sheet.drawn
def with_without(
    table: pd.DataFrame,
    filled: pd.DataFrame,
    tests: pd.DataFrame,
    reason: str = "",
    seed: int = 0,
    top: int = 12,
    *,
    synthetic: bool,
):
    """Draw patients' relevance by tract with their lesions, and with the lesions filled.

    Parameters
    ----------
    table, filled : pandas.DataFrame
        `msxai.regions.regional_relevance.relevance` of the model of original scans and of the
        model of lesion-filled scans; the same subjects.
    tests : pandas.DataFrame
        `msxai.base.permutation.paired` of their differences for net and positive relevance: sign,
        region, p_fwe, over all tracts.
    reason, seed, synthetic
        As in `lesion_volumes`.
    top : int
        Tracts shown: those of the highest positive relevance over both models, a choice that does
        not depend on their difference.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        `summary` of all tracts by sign and lesions ("with", "filled"), with the family-wise p.
    """
    title = "Relevance with and without lesions, patients"
    kept_rows = _patients(table)
    filled_rows = _patients(filled)
    if kept_rows.empty or filled_rows.empty:
        reason = f"Nothing to draw: {reason}"
        return sheet.nothing_to_draw(title, reason, synthetic=synthetic, notice=True)
    versions = {"with": kept_rows, "filled": filled_rows}
    parts = []
    for sign in SIGNS:
        for version, rows in versions.items():
            part = summary(rows[rows["sign"] == sign], "sum", seed)
            parts.append(part.assign(sign=sign, lesions=version))
    p_values = tests[["sign", "region", "p_fwe"]]
    source = pd.concat(parts).merge(p_values, on=["sign", "region"], how="left")
    names = _most_relevant(source, top)
    notes = [
        f"{BARS} Shown are the {len(names)} tracts of the highest positive relevance over both.",
        "Relevance depends on the lesions where the bar is shorter once they are filled.",
        "★: the paired difference has family-wise p < 0.05 (signs flipped, max-T over all tracts).",
    ]
    height = 0.27 * len(names)
    figure, bottom = sheet.sheet(9, height + _ROOM, title, notes, synthetic, notice=True)
    left = 2.4
    for sign in SIGNS:
        part = source[source["sign"] == sign]
        pair = []
        for version in VERSIONS:
            heading = f"{sign},\n{VERSION_NAMES[version]}"
            axes = sheet.place(figure, left, bottom + _BOTTOM - 0.1, 1.35, height, title=heading)
            _version_bars(axes, part[part["lesions"] == version], version, names)
            _label_rows(axes, names, named=axes is figure.axes[0])
            _label_axis(axes, UNITS["sum"], n_ticks=3)
            pair.append(axes)
            left += 1.65
        _mirror(pair, part[part["region"].isin(names)])
        _stars(pair[1], part, names)
    return figure, source


def _layout(names: list[str]) -> marks.Layout:
    return marks.Layout("region", names, "group", COLOURS)


def _named(source: pd.DataFrame) -> pd.DataFrame:
    """Groups by their names in place of their labels."""
    return source.assign(group=source["label"].map(GROUPS))


def _subjects(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """One row a subject and region: the mean over the subject's visits."""
    by_subject = table.groupby(["label", "participant_id", "region"], sort=False)
    return _named(by_subject[value].mean().reset_index())


def _summaries(table: pd.DataFrame, panels: list, seed: int) -> pd.DataFrame:
    parts = []
    for sign, measure in panels:
        part = summary(table[table["sign"] == sign], measure, seed)
        parts.append(part.assign(sign=sign, measure=measure))
    return pd.concat(parts)


def _descending(source: pd.DataFrame) -> list[str]:
    """Regions from the highest mean of any group to the lowest."""
    highest = source.groupby("region")["mean"].max()
    return list(highest.sort_values(ascending=False).index)


def _most_relevant(source: pd.DataFrame, top: int) -> list[str]:
    positive = source[source["sign"] == "positive"]
    total = positive.groupby("region")["mean"].sum()
    return list(total.sort_values(ascending=False).index[:top])


def _with_p(source: pd.DataFrame, tests: pd.DataFrame, atlas: str) -> pd.DataFrame:
    """Add the family-wise p of each region; the density has the p of the sum."""
    if tests.empty:
        return source.assign(p_fwe=np.nan)
    of_sum = tests[(tests["atlas"] == atlas) & (tests["measure"] == "sum")]
    p_values = of_sum[["sign", "region", "p_fwe"]]
    return source.merge(p_values, on=["sign", "region"], how="left")


def _patients(table: pd.DataFrame) -> pd.DataFrame:
    if table.empty:
        return table
    return table[(table["atlas"] == "tracts") & (table["label"] == 1)]


def _version_bars(axes, rows: pd.DataFrame, version: str, names: list[str]) -> None:
    layout = marks.Layout("region", names, "lesions", {version: VERSIONS[version]})
    marks.bars(axes, rows[rows["region"].isin(names)], layout)


def _mirror(pair: list, rows: pd.DataFrame) -> None:
    """Give two axes the same limits and let the bars of the first grow to the left."""
    lowest = min(0, rows["low"].min())
    highest = max(0, rows["high"].max())
    room = 1e-12  # also where all relevance is 0
    for axes in pair:
        axes.set_xlim(1.05 * lowest, 1.05 * highest + room)
    pair[0].invert_xaxis()


def _label_rows(axes, names: list[str], named: bool = True) -> None:
    """Name the rows on the left, the first on top; `named` False leaves the names out."""
    labels = names if named else [""] * len(names)
    axes.set_yticks(range(len(names)), labels, fontsize=6.5)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _label_axis(axes, quantity: str, n_ticks: int | None = None) -> None:
    axes.set_xlabel(quantity, fontsize=7)
    axes.tick_params(axis="x", labelsize=6.5)
    if n_ticks is not None:
        axes.xaxis.get_major_locator().set_params(nbins=n_ticks)


def _stars(axes, source: pd.DataFrame, names: list[str]) -> None:
    """Mark regions of a significant difference on the right."""
    significant = set(source.loc[source["p_fwe"] < SIGNIFICANT, "region"])
    for row, name in enumerate(names):
        if name in significant:
            right_edge = axes.get_yaxis_transform()
            axes.text(1.0, row, "★", transform=right_edge, fontsize=6, va="center")
