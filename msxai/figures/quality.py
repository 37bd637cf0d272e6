"""Do heatmaps find lesions: maps of one scan beside its lesions with their scores, and the league table."""

import numpy as np
import pandas as pd

from .. import images
from . import page, slices

NAMES = {"auprc": "AUPRC", "rma": "Relevance\nmass", "rra": "Relevance\nrank", "best_dice": "Best Dice", "pointing": "Pointing\ngame",
         "sensitivity": "Lesions hit\nat 1 miss"}  # fmt: skip


@page.drawn
def contest(prepared, row: int, maps: dict, scores: pd.DataFrame, *, synthetic: bool):
    """Maps of one scan side by side: positive part in colour, lesions outlined, scores above.

    Parameters
    ----------
    prepared : msxai.prepared.Prepared
    row : int
    maps : dict
        Name to array of shape (X, Y, Z), at most about nine.
    scores : pandas.DataFrame
        map, participant_id, session_id, auprc, rma, rra; those of this scan are shown, where they are there.
    synthetic : bool
        Mark the figure.
    """
    brain, lesions, scan = prepared.brain(row), prepared.lesions(row), prepared.table.iloc[row]
    backdrop = slices.backdrop(prepared.image(row), brain)
    scores = scores[(scores["participant_id"] == scan["participant_id"]) & (scores["session_id"] == scan["session_id"])].set_index("map")
    known = bool(lesions.any()) and "auprc" in scores
    cuts = slices.cuts(lesions.astype(float) if known else np.maximum(next(iter(maps.values())), 0), brain, "z")[1:4]
    blocks, titles = [], []
    for name, values in maps.items():
        values = np.maximum(values, 0)
        values = values / (np.quantile(values[brain], 0.999) or values.max() or 1)  # each map by its own scale: units differ
        scale = slices.Scale(slices.POSITIVE, 0.05, 0.0, 1.0, "share of the 99.9 % quantile")
        blocks.append([slices.Row("", "", backdrop, values, "z", cuts, scale, lesions)])
        one = scores.loc[name]
        titles.append(f"{name}: AUPRC {one['auprc']:.2f}, mass {one['rma']:.2f}, rank {one['rra']:.2f}" if known else name)
    volume = f"lesions {lesions.sum() * abs(np.linalg.det(images.AFFINE[:3, :3])):,.0f} mm³" if known else "no lesion mask"
    outline = "Green: outline of the lesion mask." if known else "There is no lesion mask to compare with."
    notes = [
        f"Positive part of each map, divided by its own 99.9 % quantile over the brain and shown from 5 % of it on. {outline}",
        slices.HOW,
    ]
    title = f"Do the maps find the lesions? {scan['participant_id']}, {volume}"
    return slices.sheet(blocks, titles, 12, title, notes, synthetic, notice=True, columns=3), scores.reset_index()


@page.drawn
def league(table: pd.DataFrame, *, synthetic: bool, why: str = "", variant: str = ""):
    """The league table as a figure.

    Parameters
    ----------
    table : pandas.DataFrame
        `msxai.quality.league`; empty where it was left out.
    synthetic : bool
        Mark the figure.
    why : str
        Why it was left out.
    variant : str
        Whose networks they are, for the title.
    """
    title = f"Explanation quality: {variant}" if variant else "Explanation quality"
    if table.empty:
        return page.words(title, f"Left out: {why}." if why else "Left out.", synthetic)
    names = [name for name in NAMES if name in table]
    shown = [name for name in ("auprc", "rra") if f"{name}_difference" in table]
    lines = [["", *["Mean over subjects (95 % interval)"], *[""] * (len(names) - 1), *["To the strongest baseline"] * bool(shown),
              *[""] * (len(shown) - 1)], ["Map", *[NAMES[name] for name in names], *[NAMES[name] for name in shown]]]  # fmt: skip
    for row in table.to_dict("records"):
        cells = [_interval(row, name) for name in names]
        pairs = ["" if row["baseline"] else f"{_interval(row, name + '_difference')}\n{row[name + '_strongest']}" for name in shown]
        lines.append([row["map"] + (" (baseline)" if row["baseline"] else ""), *cells, *(pair or "–" for pair in pairs)])
    notes = [f"{table['subjects'].iloc[0]} subjects with lesions. Best AUPRC first. Differences are paired; the interval is over subjects."]
    return page.grid(lines, 0.95, title, notes, synthetic), table


def _interval(row: dict, name: str) -> str:
    if np.isnan(row[name]):
        return "–"
    sign = "+" if name.endswith("_difference") else ""
    return f"{row[name]:{sign}.3f}\n({row[name + '_low']:{sign}.2f}, {row[name + '_high']:{sign}.2f})"
