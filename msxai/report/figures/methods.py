"""Figure of attribution methods on networks in several states: maps of one scan, and the share of lesion voxels of all."""

import numpy as np
import pandas as pd

from msxai.data import images
from msxai.report.figures import sheet, slices

COLOURS = {"fine-tuned": "#000000", "pre-trained only": "#009E73", "random weights": "#999999"}
NAMES = {
    "lrp": "LRP (epsilon)",
    "input_x_gradient": "input × gradient",
    "guided_backpropagation": "guided\nbackpropagation",
}
SHOWN = 0.95  # quantile of a map's sizes from which it is drawn


@sheet.drawn
def methods(
    prepared,
    summary: pd.DataFrame,
    scans: pd.DataFrame,
    folder,
    reason: str = "",
    *,
    synthetic: bool,
):
    """Maps of one scan by method (rows) and state of the network (columns), and beside them the share of lesion voxels of all subjects.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Where the scan is.
    summary, scans : pandas.DataFrame
        methods.tsv and scans.tsv of `msxai.quality.model_states.write`. The first scan that has maps is drawn.
    folder : pathlib.Path
        Where they and the maps are.
    reason : str
        Why there is nothing to draw.
    synthetic : bool
        Mark the figure.
    """
    title = "Attribution methods on networks in several states"
    if summary.empty:
        return sheet.words(
            title,
            f"Nothing to draw: {reason or 'no scan has a lesion in its mask.'}",
            synthetic,
            notice=True,
        )
    drawn = scans.dropna(subset=["path"]).drop_duplicates(
        ["state", "method", "participant_id", "session_id"]
    )
    scan = drawn.iloc[0][["participant_id", "session_id"]]
    drawn = drawn[(drawn[["participant_id", "session_id"]] == scan).all(axis=1)].set_index(
        ["method", "state"]
    )["path"]
    row = prepared.row(*scan)
    brain, lesions = prepared.brain(row), prepared.lesions(row)
    backdrop, cuts = (
        slices.backdrop(prepared.image(row), brain),
        slices.cuts(lesions.astype(float), brain, "z")[1:4],
    )
    names, states = list(dict.fromkeys(summary["method"])), list(dict.fromkeys(summary["state"]))
    many, networks = (
        int(summary["subjects"].max()),
        summary.groupby("state", sort=False)["networks"].max(),
    )
    notes = [
        f"Maps of {' '.join(filter(None, scan))}: the 5 % of brain voxels highest in size, each map on its own scale, full colour at "
        "its 99.9 % quantile. Green: outline of the lesion mask.",
        "Right: share of lesion voxels among the n highest voxels of the brain, n the lesions' size; "
        f"mean of {many} subjects with 95 % interval (bootstrap of subjects). Slopes (gradient, SmoothGrad, guided backpropagation) "
        "are ranked by size, others by value. Dashed: chance. +: the paired difference to random weights has its interval above 0.",
        f"Networks: {', '.join(f'{state} {count}' for state, count in networks.items())}; another draw of random weights has another "
        "share, which no interval over subjects tells.",
        slices.HOW,
    ]
    left, across, high = 1.35, 2.4, 1.05
    figure, bottom = sheet.sheet(
        left + across * len(states) + 3.1,
        high * len(names) + 0.65,
        title,
        notes,
        synthetic,
        notice=True,
    )
    for below, method in enumerate(names):
        y = bottom + 0.4 + high * (len(names) - 1 - below)
        sheet.text(
            figure,
            left - 0.1,
            y + high / 2,
            NAMES.get(method, method.replace("_", " ")),
            ha="right",
            va="center",
        )
        for at, state in enumerate(states):
            if below == 0:
                sheet.text(figure, left + across * (at + 0.5), y + high + 0.08, state, ha="center")
            values, scale = _scaled(folder / drawn[method, state], brain)
            shown = slices.Row("", "", backdrop, values, "z", cuts, scale, lesions)
            slices.draw_row(
                shown, sheet.place(figure, left + across * at, y, across - 0.1, high - 0.05)
            )
        axes = sheet.place(figure, left + across * len(states) + 1.15, y + 0.08, 1.75, high - 0.16)
        _shares(axes, summary[summary["method"] == method], states)
        if below < len(names) - 1:
            axes.set_xticklabels([])
        axes.set_xlim(0, 1.05 * max(summary["high"].max(), summary["chance"].max()))
    axes.set_xlabel("share of lesion voxels", fontsize=7)
    return figure, summary


def _scaled(path, brain):
    """A map in units of its own 99.9 % quantile, and its colours."""
    values = images.to_grid(images.load(path))
    sizes = np.abs(values[brain])
    top = max(float(np.quantile(sizes, 0.999)), 1e-30)
    return values / top, slices.Scale(
        slices.SYMMETRIC, max(float(np.quantile(sizes, SHOWN)) / top, 1e-6), -1.0, 1.0, ""
    )


def _shares(axes, rows: pd.DataFrame, states: list) -> None:
    for place, state in enumerate(states):
        row, colour = rows[rows["state"] == state].iloc[0], COLOURS.get(state, "#000000")
        axes.plot([row["low"], row["high"]], [place, place], color=colour, lw=1)
        axes.plot(row["share"], place, "o", ms=4, color=colour)
        if row["difference_low"] > 0:
            axes.text(
                1.02, place, "+", transform=axes.get_yaxis_transform(), va="center", fontsize=8
            )
    axes.axvline(rows["chance"].iloc[0], ls="--", lw=0.7, color="#999999")
    axes.set(ylim=(len(states) - 0.5, -0.5), yticks=range(len(states)), yticklabels=states)
    axes.tick_params(labelsize=6.5)
