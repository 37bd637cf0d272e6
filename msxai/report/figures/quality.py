"""Do heatmaps find lesions: maps of one scan beside its lesions with their scores, and the league table."""

import numpy as np
import pandas as pd

from msxai.data import images
from msxai.report.figures import sheet, slices

NAMES = {
    "auprc": "AUPRC",
    "rma": "Relevance\nmass",
    "rra": "Relevance\nrank",
    "best_dice": "Best Dice",
    "pointing": "Pointing\ngame",
    "sensitivity": "Lesions hit\nat 1 miss",
}

CHECKS = {  # group: column's label to the check's or the summary's name
    "Logit follows the map": {"Deletion": "deletion", "Insertion": "insertion"},
    "New weights": {
        "Rank": "randomised: rank",
        "SSIM": "randomised: SSIM",
        "eMPRT": "randomised: eMPRT",
    },
    "Moved scan": {
        "half a voxel": "moved by half a voxel: rank",
        "one voxel": "moved by one voxel: rank",
        "2 degrees": "moved by 2 degrees: rank",
    },
    "Conservation": {
        "as it is": "conservation error",
        "without biases": "conservation error without biases",
    },
    "Over subjects": {"Two networks": "consistency", "Volume": "dose", "Classes": "contrast"},
}


@sheet.drawn
def contest(prepared, row: int, maps: dict, scores: pd.DataFrame, *, synthetic: bool):
    """Maps of one scan side by side: positive part in colour, lesions outlined, scores above.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
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
    scores = scores[
        (scores["participant_id"] == scan["participant_id"])
        & (scores["session_id"] == scan["session_id"])
    ].set_index("map")
    known = bool(lesions.any()) and "auprc" in scores
    cuts = slices.cuts(
        lesions.astype(float) if known else np.maximum(next(iter(maps.values())), 0), brain, "z"
    )[1:4]
    blocks, titles = [], []
    for name, values in maps.items():
        values = np.maximum(values, 0)
        values = values / (
            np.quantile(values[brain], 0.999) or values.max() or 1
        )  # each map by its own scale: units differ
        scale = slices.Scale(slices.POSITIVE, 0.05, 0.0, 1.0, "share of the 99.9 % quantile")
        blocks.append([slices.Row("", "", backdrop, values, "z", cuts, scale, lesions)])
        one = scores.loc[name]
        titles.append(
            f"{name}: AUPRC {one['auprc']:.2f}, mass {one['rma']:.2f}, rank {one['rra']:.2f}"
            if known
            else name
        )
    volume = (
        f"lesions {lesions.sum() * images.VOXEL_VOLUME:,.0f} mm³" if known else "no lesion mask"
    )
    outline = (
        "Green: outline of the lesion mask."
        if known
        else "There is no lesion mask to compare with."
    )
    notes = [
        f"Positive part of each map, divided by its own 99.9 % quantile over the brain and shown from 5 % of it on. {outline}",
        slices.HOW,
    ]
    title = f"Do the maps find the lesions? {scan['participant_id']}, {volume}"
    return slices.slice_sheet(
        blocks, titles, 12, title, notes, synthetic, notice=True, columns=3
    ), scores.reset_index()


@sheet.drawn
def league(table: pd.DataFrame, *, synthetic: bool, why: str = "", variant: str = ""):
    """The league table as a figure.

    Parameters
    ----------
    table : pandas.DataFrame
        `msxai.quality.localisation.league`; empty where it was left out.
    synthetic : bool
        Mark the figure.
    why : str
        Why it was left out.
    variant : str
        Whose networks they are, for the title.
    """
    title = f"Explanation quality: {variant}" if variant else "Explanation quality"
    if table.empty:
        return sheet.words(title, f"Left out: {why}." if why else "Left out.", synthetic)
    names = [name for name in NAMES if name in table]
    shown = [name for name in ("auprc", "rra") if f"{name}_difference" in table]
    lines = [
        [
            "",
            *["Mean over subjects (95 % interval)"],
            *[""] * (len(names) - 1),
            *["To the strongest baseline"] * bool(shown),
            *[""] * (len(shown) - 1),
        ],
        ["Map", *[NAMES[name] for name in names], *[NAMES[name] for name in shown]],
    ]
    for row in table.to_dict("records"):
        cells = [_interval(row, name) for name in names]
        pairs = [
            ""
            if row["baseline"]
            else f"{_interval(row, name + '_difference')}\n{row[name + '_strongest']}"
            for name in shown
        ]
        lines.append(
            [
                row["map"] + (" (baseline)" if row["baseline"] else ""),
                *cells,
                *(pair or "–" for pair in pairs),
            ]
        )
    notes = [
        f"{table['subjects'].iloc[0]} subjects with lesions. Best AUPRC first. Differences are paired; the interval is over subjects."
    ]
    return sheet.grid(lines, 0.95, title, notes, synthetic), table


@sheet.drawn
def checks(summary: pd.DataFrame, table: pd.DataFrame, *, synthetic: bool, variant: str = ""):
    """What is asked of a map besides finding lesions, as a figure: one row a map.

    Parameters
    ----------
    summary : pandas.DataFrame
        `msxai.quality.league.summary`.
    table : pandas.DataFrame
        `msxai.quality.model_randomisation.checks`.
    synthetic : bool
        Mark the figure.
    variant : str
        Whose networks they are, for the title.
    """
    title = f"Checks of the maps: {variant}" if variant else "Checks of the maps"
    examined = summary[summary["deletion"].notna() | summary["map"].isin(table.get("map", ()))]
    if examined.empty:
        return sheet.words(title, "Left out: no map was examined.", synthetic)
    columns = {label: name for group in CHECKS.values() for label, name in group.items()}
    lines = [
        [
            "",
            *(
                word
                for group, labels in CHECKS.items()
                for word in [group, *[""] * (len(labels) - 1)]
            ),
        ],
        ["Map", *columns],
    ]
    cells = {(row["map"], row["check"]): row for row in table.to_dict("records")}
    for row in examined.to_dict("records"):
        line = [row["map"]]
        for name in columns.values():
            one = cells.get((row["map"], name))
            if one is not None and name.startswith("conservation"):
                line.append(f"{one['value']:.1g}")
            elif one is not None:
                reference = "" if np.isnan(one["reference"]) else f"\n[{one['reference']:.2f}]"
                line.append(f"{one['value']:.2f} ({one['low']:.2f}, {one['high']:.2f}){reference}")
            elif name in row and not np.isnan(row[name]):
                p = (
                    f"\np = {row[name + '_p']:.2g}"
                    if not np.isnan(row.get(f"{name}_p", np.nan))
                    else ""
                )
                span = (
                    f" ({row[name + '_low']:.2f}, {row[name + '_high']:.2f})"
                    if f"{name}_low" in row
                    else ""
                )
                line.append(f"{row[name]:.2f}{span}{p}")
            else:
                line.append("–")
        lines.append(line)
    number = int(table["subjects"].max()) if len(table) else 0
    notes = [
        "Mean over subjects (95 % interval). Deletion and insertion: logits gained on random orders, p of Wilcoxon's one-sided test. New "
        "weights from the output down: what is left of the map; in brackets what its own voxels reach once shuffled. Moved scan: rank "
        "correlation once moved back; in brackets what interpolation alone leaves. Conservation: |sum(R) - f| / |f|, as it is, and without "
        f"biases (epsilon 1e-9). These on {number} subjects with the first network; the others on all.",
        "Two networks: rank correlation of their maps. Volume: correlation of sum(R+) with the volume of lesions. Classes: correlation of "
        "the mean maps of patients and controls.",
    ]
    shown = [name for name in summary if name.split("_")[0] in ("map", *columns.values())]
    source = examined[shown].merge(_wide(table), "left", "map") if len(table) else examined[shown]
    return sheet.grid(lines, 1.13, title, notes, synthetic), source


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    """One row a map: value and reference of each check."""
    found = table.pivot(index="map", columns="check", values=["value", "reference"]).dropna(
        axis=1, how="all"
    )
    found.columns = [
        check if kind == "value" else f"{check}, reference" for kind, check in found.columns
    ]
    return found.reset_index()


def _interval(row: dict, name: str) -> str:
    if np.isnan(row[name]):
        return "–"
    sign = "+" if name.endswith("_difference") else ""
    return (
        f"{row[name]:{sign}.3f}\n({row[name + '_low']:{sign}.2f}, {row[name + '_high']:{sign}.2f})"
    )
