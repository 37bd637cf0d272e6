"""Figures of the results: our numbers beside the paper's, and ROC curves."""

import numpy as np
import pandas as pd

from msxai.base import statistics
from msxai.report.figures import sheet

__all__ = ["MEASURES", "results_table", "roc"]

MEASURES = {
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "auc": "AUC",
}
BOUNDS = ("min", "max", "low", "high")
EMPTY = "–"
CURVE = "#666666"
BAND = "#CCCCCC"


@sheet.drawn
def results_table(scores: pd.DataFrame, paper: pd.DataFrame, *, synthetic: bool):
    """Tabulate our results beside the paper's; also the paper's models that have no result here.

    Parameters
    ----------
    scores : pandas.DataFrame
        `msxai.base.statistics.score_table`.
    paper : pandas.DataFrame
        `msxai.base.paper_results.read`.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        One row a model and measure, in %.
    """
    printed = paper[paper["section"] == "holdout"]
    ours = scores.set_index("variant")
    theirs = printed.set_index(["variant", "quantity"])[["mean", "low", "high"]]
    variants = list(dict.fromkeys([*ours.index, *printed["variant"]]))
    upper = [""]
    for name in MEASURES.values():
        upper += [name, ""]
    lines = [upper, ["", *["here", "paper"] * len(MEASURES)]]
    source = []
    for variant in variants:
        line = [_model_name(variant, ours)]
        for measure in MEASURES:
            row = _result(variant, measure, ours, theirs)
            line += [_our_score(row), _paper_score(row)]
            source.append(row)
        lines.append(line)
    patients = sheet.range_text(scores["patients"])
    controls = sheet.range_text(scores["controls"])
    notes = [
        "Here: mean of the trials (lowest to highest trial) and, below, the 95 % interval over "
        f"subjects; {patients} patients and {controls} controls. –: not computed, or not printed.",
        "Paper: mean (range) of 10 trials; 13 patients and 10 controls; "
        "doi:10.1016/j.nicl.2019.102003.",
    ]
    figure = sheet.grid(lines, 1.2, "Results on the holdout (%)", notes, synthetic)
    return figure, pd.DataFrame(source)


def _model_name(variant: str, ours: pd.DataFrame) -> str:
    if variant not in ours.index:
        return variant
    number = ours.at[variant, "trials"]
    return f"{variant}\n{sheet.trials(number)}"


def _result(variant: str, measure: str, ours: pd.DataFrame, theirs: pd.DataFrame) -> dict:
    """Our numbers and the paper's, in %."""
    row = {"variant": variant, "measure": measure}
    if variant in ours.index:
        row["trials"] = ours.at[variant, "trials"]
        row["mean"] = 100 * ours.at[variant, measure]
        for bound in BOUNDS:
            row[bound] = 100 * ours.at[variant, f"{measure}_{bound}"]
    if (variant, measure) in theirs.index:
        printed = theirs.loc[(variant, measure)].add_prefix("paper_")
        row |= printed.to_dict()
    return row


def _our_score(row: dict) -> str:
    """Mean (range of trials) and, below, [interval]."""
    if pd.isna(row.get("mean")):
        return EMPTY
    text = f"{row['mean']:.1f}"
    if row["trials"] != 1 and not pd.isna(row["min"]):
        text += f" ({row['min']:.1f}–{row['max']:.1f})"
    return f"{text}\n[{row['low']:.1f}–{row['high']:.1f}]"


def _paper_score(row: dict) -> str:
    """Mean (range of trials)."""
    if pd.isna(row.get("paper_mean")):
        return EMPTY
    text = f"{row['paper_mean']:.1f}"
    if not pd.isna(row["paper_low"]):
        text += f" ({row['paper_low']:.1f}–{row['paper_high']:.1f})"
    return text


@sheet.drawn
def roc(predictions: pd.DataFrame, seed: int = 0, *, synthetic: bool):
    """Draw ROC curves, one panel a model: every trial, their mean and a band of one SD.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As in `msxai.base.statistics.score_table`.
    seed : int
        Of the bootstrap that gives the interval.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        `msxai.base.statistics.roc_band` of each model, with its AUC.
    """
    scores = statistics.score_table(predictions, seed)
    if scores.empty or scores["auc"].isna().all():
        reason = "Nothing to draw: no labelled scans of both groups."
        return sheet.nothing_to_draw("ROC curves", reason, synthetic=synthetic)
    columns = min(len(scores), 4)
    panels = sheet.in_panels(len(scores), columns)
    n_lines = panels[-1][0] + 1
    notes = [
        "Thin lines: trials. Thick line and band: mean ± 1 SD over trials (variation of the "
        "training). 95 %: interval of the mean AUC over subjects (variation of the sample).",
        "A model that is better than chance has its curve above the dashed line.",
    ]
    patients = sheet.range_text(scores["patients"])
    controls = sheet.range_text(scores["controls"])
    title = f"ROC: {patients} patients, {controls} controls"
    width = max(0.5 + 2.4 * columns, 5)
    figure, bottom = sheet.sheet(width, 2.75 * n_lines, title, notes, synthetic)
    source = []
    for (_, row), (line, column) in zip(scores.iterrows(), panels, strict=True):
        x = 0.55 + 2.4 * column
        y = bottom + 2.75 * (n_lines - 1 - line) + 0.45
        axes = sheet.place(figure, x, y, 1.95, 1.95, title=row["variant"], aspect="equal")
        of_model = predictions[predictions["variant"] == row["variant"]]
        labels, _, trials = statistics.trial_scores(of_model)
        band = statistics.roc_band(labels, trials)
        _roc_panel(axes, band, row, n_trials=len(trials))
        if column == 0:
            axes.set_ylabel("sensitivity")
        aucs = row[["variant", "auc", "auc_low", "auc_high"]].to_dict()
        source.append(band.assign(**aucs))
    return figure, pd.concat(source, ignore_index=True)


def _roc_panel(axes, band: pd.DataFrame, row: pd.Series, n_trials: int) -> None:
    _chance(axes)
    x = band["false_positive_rate"]
    if n_trials > 1:
        lower = (band["mean"] - band["sd"]).clip(lower=0)
        upper = (band["mean"] + band["sd"]).clip(upper=1)
        axes.fill_between(x, lower, upper, color=BAND, lw=0)
    for name in band.columns:
        if name.startswith("trial_"):
            _curve(axes, x, band[name], color=CURVE, lw=0.6)
    _curve(axes, x, band["mean"], color="black", lw=2)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8}
    axes.text(1, 0.03, _auc_text(row, n_trials), ha="right", va="bottom", bbox=box)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("1 − specificity")


def _chance(axes) -> None:
    axes.plot([0, 1], [0, 1], "--", color=sheet.REFERENCE, lw=0.8)
    along = {"rotation": 45, "rotation_mode": "anchor", "va": "top"}
    axes.text(0.42, 0.38, "chance", color="#777777", fontsize=7, **along)


def _curve(axes, x, y, **look) -> None:
    """A curve that starts at the origin."""
    axes.plot(np.append(0, x), np.append(0, y), **look)


def _auc_text(row: pd.Series, n_trials: int) -> str:
    spread = ""
    if n_trials > 1:
        spread = f" {row['auc_min']:.2f}–{row['auc_max']:.2f}"
    return (
        f"AUC {row['auc']:.2f}\n{sheet.trials(n_trials)}{spread}\n"
        f"95 % {row['auc_low']:.2f}–{row['auc_high']:.2f}"
    )
