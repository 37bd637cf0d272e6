"""Figures that compare classifiers: AUCs and their differences, calibration, filled lesions."""

import numpy as np
import pandas as pd

from msxai.report.figures import marks, sheet

__all__ = ["calibration", "compared", "counterfactual"]

BLACK = "#000000"
GREEN = "#009E73"
PURPLE = "#CC79A7"

SETS = {"holdout": BLACK, "further": GREEN}  # colour of each set of subjects
SET_SYMBOLS = {"holdout": "o", "further": "s"}
CHANGES = {"untouched": BLACK, "filled": GREEN, "sham": PURPLE}  # colour of each version of a scan
CHANGE_SYMBOLS = {"untouched": "o", "filled": "s", "sham": "D"}
CHANGE_NAMES = {"untouched": "original", "filled": "lesions\nfilled", "sham": "sham sites\nfilled"}
PANELS = {
    "auc": "AUC",
    "lesion load": "difference in AUC,\nmodel minus lesion load",
    "scratch": "difference in AUC,\nmodel minus scratch",
}

# Inches.
_CHARACTER = 0.066
_TITLE_ROOM = 0.45
_TICK_ROOM = 0.3


@sheet.drawn
def compared(table: pd.DataFrame, *, synthetic: bool):
    """Draw the AUC of every model and its paired differences to others, with intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        `msxai.evaluation.comparison.table` of each set of subjects, the set's name in the column
        part.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        The rows of `table` that are drawn.
    """
    title = "Models and baselines compared on the same subjects"
    is_auc = table["measure"].isin(["auc", "auc_difference"])
    source = table[is_auc & table["value"].notna()].copy()
    if source.empty:
        reason = "Nothing to draw: fewer than two labelled subjects of each group."
        return sheet.nothing_to_draw(title, reason, synthetic=synthetic)
    is_difference = source["measure"] == "auc_difference"
    panel = source["reference"].where(is_difference, "auc")
    rows = source.assign(panel=panel, mean=source["value"])
    present = set(panel)
    panels = {name: text for name, text in PANELS.items() if name in present}
    layout = _models(rows, "part", _set_colours(rows), SET_SYMBOLS, spacing=0.28)
    notes = [
        "Points: one score a subject, the mean over trials. Lines: 95 % intervals over subjects "
        "(AUC: DeLong; differences: paired DeLong, not corrected for their number).",
        "A model is better than chance, or than the other model, where its interval lies to the "
        "right of the dashed line.",
    ]
    height = 0.3 * len(layout.order) + 0.1
    left = _label_room(layout.order)
    width = left + 2.5 * len(panels) + 1.6
    body = height + _TICK_ROOM + _TITLE_ROOM
    figure, bottom = sheet.sheet(width, body, title, notes, synthetic)
    for column, (name, text) in enumerate(panels.items()):
        x = left + 2.5 * column
        axes = sheet.place(figure, x, bottom + _TICK_ROOM, 2.3, height, title=text)
        reference = 0.5 if name == "auc" else 0
        _forest(axes, rows[rows["panel"] == name], layout, reference, named=column == 0)
        if name == "auc":
            axes.set_xlim(right=1.02)
    marks.symbols_legend(axes, layout, _set_labels(rows, layout))
    return figure, source


def _set_colours(rows: pd.DataFrame) -> dict:
    """Colour of each set of subjects, in the order of the table; an unknown set is black."""
    return {name: SETS.get(name, BLACK) for name in rows["part"].unique()}


def _set_labels(rows: pd.DataFrame, layout: marks.Layout) -> dict:
    """Name of each set of subjects with its numbers of patients and controls."""
    labels = {}
    for name in layout.colours:
        first = rows[rows["part"] == name].iloc[0]
        labels[name] = f"{name}:\n{first['patients']} patients,\n{first['controls']} controls"
    return labels


def _models(rows, group: str, colours: dict, symbols: dict, spacing: float) -> marks.Layout:
    """One row a model; its marks are `spacing` apart."""
    return marks.Layout(
        row="variant",
        order=list(rows["variant"].unique()),
        group=group,
        colours=colours,
        spread=spacing * (len(colours) - 1),
        symbols=symbols,
    )


def _label_room(names: list[str]) -> float:
    longest = max(len(name) for name in names)
    return 0.4 + _CHARACTER * longest


def _forest(axes, rows, layout: marks.Layout, reference: float, *, named: bool) -> None:
    """Points with intervals around a dashed line; `named`: the models' names on the left."""
    axes.axvline(reference, ls="--", lw=0.8, color=sheet.REFERENCE)
    if not rows.empty:
        marks.points(axes, rows, layout)
    axes.locator_params(axis="x", nbins=4)
    n_models = len(layout.order)
    axes.set_ylim(n_models - 0.5, -0.5)
    axes.set_yticks(range(n_models), layout.order if named else [""] * n_models)


@sheet.drawn
def calibration(table: pd.DataFrame, *, synthetic: bool):
    """Draw the share of patients in bins of the score, with exact intervals; one panel a model.

    Parameters
    ----------
    table : pandas.DataFrame
        `msxai.evaluation.comparison.calibration` of each set of subjects, the set's name in the
        column part.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        `table`.
    """
    title = "Calibration: share of patients among subjects of a similar score"
    if table.empty:
        reason = "Nothing to draw: no labelled scans."
        return sheet.nothing_to_draw(title, reason, synthetic=synthetic)
    names = list(table["variant"].unique())
    columns = min(len(names), 4)
    panels = sheet.in_panels(len(names), columns)
    n_lines = panels[-1][0] + 1
    notes = [
        "Points: bins of equally many scans with exact 95 % intervals. Dashed: a calibrated "
        "score, which equals the share of patients. The score of a support vector machine is a "
        "logistic function of the distance to its boundary and was not fitted as a probability."
    ]
    width = max(1.6 + 2.1 * columns, 5)
    figure, bottom = sheet.sheet(width, 2.35 * n_lines, title, notes, synthetic)
    for name, (line, column) in zip(names, panels, strict=True):
        x = 0.55 + 2.1 * column
        y = bottom + 2.35 * (n_lines - 1 - line) + 0.4
        axes = sheet.place(figure, x, y, 1.65, 1.65, title=name)
        rows = table[table["variant"] == name]
        _calibration_curves(axes, rows, _set_colours(table))
        axes.set_xlabel("mean score")
        if column == 0:
            axes.set_ylabel("share of patients")
        if (line, column) == (0, columns - 1):
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, table


def _calibration_curves(axes, rows: pd.DataFrame, colours: dict) -> None:
    axes.plot([0, 1], [0, 1], "--", color=sheet.REFERENCE, lw=0.8)
    for name, colour in colours.items():
        bins = rows[rows["part"] == name]
        below = bins["patients"] - bins["low"]
        above = bins["high"] - bins["patients"]
        reach = np.maximum([below, above], 0)
        symbol = SET_SYMBOLS.get(name, "o")
        look = {"fmt": f"{symbol}-", "ms": 3, "lw": 0.8, "color": colour}
        axes.errorbar(bins["score"], bins["patients"], yerr=reach, label=name, **look)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)


@sheet.drawn
def counterfactual(table: pd.DataFrame, *, synthetic: bool, left_out: str = ""):
    """Draw what filling the lesions changes in each model: AUC, and the logits of both groups.

    Parameters
    ----------
    table : pandas.DataFrame
        `msxai.evaluation.counterfactuals.table`.
    synthetic : bool
        Mark the figure.
    left_out : str
        Why there is nothing to draw.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        `table`.
    """
    title = (
        "The same subjects with their lesions filled, and with other white matter filled instead"
    )
    if table.empty:
        reason = f"Nothing to draw: {left_out or 'no predictions'}."
        return sheet.nothing_to_draw(title, reason, synthetic=synthetic)
    rows = table[table["reference"] != "sham"]
    panels = _change_panels(rows)
    layout = _models(rows, "change", CHANGES, CHANGE_SYMBOLS, spacing=0.22)
    height = 0.5 * len(layout.order) + 0.1
    left = _label_room(layout.order)
    width = left + 2.0 * len(panels) + 1.2
    body = height + _TICK_ROOM + _TITLE_ROOM
    figure, bottom = sheet.sheet(width, body, title, _change_notes(rows), synthetic)
    for column, (quantity, text) in enumerate(panels.items()):
        x = left + 2.0 * column
        axes = sheet.place(figure, x, bottom + _TICK_ROOM, 1.75, height, title=text)
        reference = 0.5 if quantity == "auc" else 0
        _forest(axes, _quantity(rows, quantity), layout, reference, named=column == 0)
    marks.symbols_legend(axes, layout, CHANGE_NAMES)
    return figure, table


def _change_panels(rows: pd.DataFrame) -> dict:
    """Quantity to title."""
    panels = {"auc": "AUC", "auc_difference": "difference in AUC,\nfilled minus original"}
    for group in ("patients", "controls"):
        number = rows[group].iloc[0]
        title = f"logit, filled minus\noriginal: {number} {group}"
        panels[f"{group}_logit_change"] = title
    return panels


def _quantity(rows: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """One quantity with its interval under the names that `marks.points` reads."""
    names = {quantity: "mean", f"{quantity}_low": "low", f"{quantity}_high": "high"}
    columns = ["variant", "change", *names]
    return rows[columns].rename(columns=names).dropna(subset=["mean"])


def _change_notes(rows: pd.DataFrame) -> list[str]:
    first_model = rows["variant"].iloc[0]
    of_first_model = rows[rows["variant"] == first_model].set_index("change")
    filled = _filled_volumes(of_first_model.loc["filled"])
    sham = _filled_volumes(of_first_model.loc["sham"])
    return [
        "Points: one score a subject, the mean over trials. Lines: 95 % intervals over subjects "
        "(AUC: DeLong; its difference: paired DeLong; logits: Student's t). Lesions filled: all "
        "lesions with their rim, of patients and controls. Sham sites: normal-appearing white "
        "matter at the mirrored position of the lesions; a control has the sites of a patient.",
        f"Mean filled volume of patients and controls: lesions {filled}, sham sites {sham}.",
        "Dashed: chance, or no change. A model uses the lesions where filling them changes AUC or "
        "logits more than filling sham sites does.",
    ]


def _filled_volumes(row: pd.Series) -> str:
    patients = row["patients_volume"] / 1000
    controls = row["controls_volume"] / 1000
    return f"{patients:.1f} and {controls:.1f} ml"
