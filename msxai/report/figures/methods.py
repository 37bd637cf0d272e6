"""Figure of explanation methods on networks in several states: maps of one scan, scores of all."""

from pathlib import Path

import numpy as np
import pandas as pd

from msxai.data import images
from msxai.report.figures import marks, sheet, slices

__all__ = ["methods"]

COLOURS = {"fine-tuned": "#000000", "pre-trained only": "#009E73", "random weights": "#999999"}
NAMES = {
    "lrp": "LRP (epsilon)",  # the name in results of earlier versions
    "gradient": "gradient",
    "input_x_gradient": "input × gradient",
    "integrated_gradients": "integrated\ngradients",
    "smoothgrad": "SmoothGrad",
    "guided_backpropagation": "guided\nbackpropagation",
    "occlusion": "occlusion",
}
"""Of methods; every other name is that of an LRP rule."""
SMALLEST = 1e-30  # full colour of a map of zeros

# Inches.
_LEFT = 1.35
_MAP_WIDTH = 2.4
_LINE_HEIGHT = 1.05
_CHART_ROOM = 3.1


@sheet.drawn
def methods(
    prepared,
    summary: pd.DataFrame,
    scans: pd.DataFrame,
    folder,
    reason: str = "",
    *,
    heading: str = "",
    synthetic: bool,
):
    """Draw maps of one scan by method and state of the network, and how well they find lesions.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Where the scan is.
    summary, scans : pandas.DataFrame
        methods.tsv and scans.tsv of `msxai.quality.model_states.write`. The first scan that has
        maps is drawn.
    folder : path
        Where the tables and the maps are.
    reason : str
        Why there is nothing to draw.
    heading : str
        Which network: the first words of the title, where it is not the paper's.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        `summary`.
    """
    title = f"{heading}Explanation methods on networks in several states"
    if summary.empty:
        reason = f"Nothing to draw: {reason or 'no scan has a lesion in its mask.'}"
        return sheet.nothing_to_draw(title, reason, synthetic=synthetic, notice=True)
    mapped = scans.dropna(subset=["path"])
    first = mapped.iloc[0]
    row = prepared.row(first["participant_id"], first["session_id"])
    paths = _paths(mapped, first, folder)
    method_names = list(summary["method"].unique())
    states = list(summary["state"].unique())
    body = _LINE_HEIGHT * len(method_names) + 0.65
    width = _LEFT + _MAP_WIDTH * len(states) + _CHART_ROOM
    notes = _notes(summary, first)
    figure, bottom = sheet.sheet(width, body, title, notes, synthetic, notice=True)
    y = bottom + body - 0.25
    for index, state in enumerate(states):
        middle = _LEFT + _MAP_WIDTH * (index + 0.5)
        sheet.text(figure, middle, y + 0.08, state, ha="center")
    scan = _Scan(prepared, row)
    limit = 1.05 * max(summary["high"].max(), summary["chance"].max())
    chart_left = _LEFT + _MAP_WIDTH * len(states) + 1.15
    for method in method_names:
        y -= _LINE_HEIGHT
        name = NAMES.get(method, f"LRP ({method.replace('_', ' ')})")
        middle = y + _LINE_HEIGHT / 2
        sheet.text(figure, _LEFT - 0.1, middle, name, ha="right", va="center")
        for index, state in enumerate(states):
            x = _LEFT + _MAP_WIDTH * index
            axes = sheet.place(figure, x, y, _MAP_WIDTH - 0.1, _LINE_HEIGHT - 0.05)
            scan.draw(axes, paths[method, state])
        axes = sheet.place(figure, chart_left, y + 0.08, 1.75, _LINE_HEIGHT - 0.16)
        _shares(axes, summary[summary["method"] == method], states)
        axes.set_xlim(0, limit)
        if method != method_names[-1]:
            axes.set_xticklabels([])
    axes.set_xlabel("share of lesion voxels", fontsize=7)
    return figure, summary


class _Scan:
    """A scan with its lesions, on which maps are drawn."""

    def __init__(self, prepared, row: int):
        self.brain = prepared.brain(row)
        self.lesions = prepared.lesions(row)
        self.backdrop = slices.backdrop(prepared.image(row), self.brain)
        five_cuts = slices.cuts(self.lesions.astype(float), self.brain, "z")
        self.cuts = five_cuts[1:4]

    def draw(self, axes, path) -> None:
        """Draw a map in units of its own full colour."""
        values = images.to_grid(images.load(path))
        magnitude = np.abs(values[self.brain])
        threshold, full = np.quantile(magnitude, [slices.SHOWN_QUANTILE, slices.FULL_QUANTILE])
        full = max(float(full), SMALLEST)
        threshold = max(float(threshold) / full, 1e-6)
        scale = slices.Scale(slices.SYMMETRIC, threshold, -1.0, 1.0, "")
        row = slices.Row(
            label="",
            colour="",
            backdrop=self.backdrop,
            values=values / full,
            axis="z",
            cuts=self.cuts,
            scale=scale,
            outline=self.lesions,
        )
        slices.draw_row(row, axes)


def _paths(mapped: pd.DataFrame, scan: pd.Series, folder) -> dict:
    """(method, state) to the map of a scan."""
    is_subject = mapped["participant_id"] == scan["participant_id"]
    is_session = mapped["session_id"] == scan["session_id"]
    of_scan = mapped[is_subject & is_session].drop_duplicates(["state", "method"])
    paths = {}
    for entry in of_scan.to_dict("records"):
        key = entry["method"], entry["state"]
        paths[key] = Path(folder) / entry["path"]
    return paths


def _notes(summary: pd.DataFrame, scan: pd.Series) -> list[str]:
    name = f"{scan['participant_id']} {scan['session_id']}".strip()
    n_subjects = int(summary["subjects"].max())
    by_state = summary.groupby("state", sort=False)["networks"].max()
    networks = ", ".join(f"{state} {number}" for state, number in by_state.items())
    return [
        f"Maps of {name}: coloured are the 5 % of brain voxels of the highest magnitude, each map "
        "on its own scale with the full colour at its 99.9 % quantile. Green: outline of the "
        "lesion mask.",
        "Right: share of lesion voxels among the n highest voxels of the brain, where n is the "
        f"number of lesion voxels; mean over subjects (n = {n_subjects}) with 95 % interval "
        "(bootstrap of subjects). Gradients (gradient, SmoothGrad, guided backpropagation) are "
        "ranked by magnitude, other maps by value. Dashed: chance. +: the paired difference to "
        "random weights has its interval above 0.",
        "A method that finds as many lesion voxels with random weights shows where the scan is "
        "bright, not what the network has learnt.",
        f"Networks: {networks}. Another draw of random weights has another share; the intervals "
        "over subjects do not include this variation.",
        slices.ORIENTATION,
    ]


def _shares(axes, rows: pd.DataFrame, states: list) -> None:
    """Draw the share of lesion voxels of one method on networks in every state."""
    colours = {state: COLOURS.get(state, "#000000") for state in states}
    layout = marks.Layout("state", states, "state", colours, spread=0)
    marks.points(axes, rows.assign(mean=rows["share"]), layout)
    right_edge = axes.get_yaxis_transform()
    for position, state in enumerate(states):
        row = rows[rows["state"] == state].iloc[0]
        if row["difference_low"] > 0:
            axes.text(1.02, position, "+", transform=right_edge, va="center", fontsize=8)
    axes.axvline(rows["chance"].iloc[0], ls="--", lw=0.7, color=sheet.REFERENCE)
    axes.set_ylim(len(states) - 0.5, -0.5)
    axes.tick_params(labelsize=6.5)
    axes.locator_params(axis="x", nbins=3)
