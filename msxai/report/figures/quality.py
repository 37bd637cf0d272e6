"""Figures of explanation quality: maps beside the lesions, the league table, further checks."""

import numpy as np
import pandas as pd

from msxai.data import images
from msxai.report.figures import sheet, slices

__all__ = ["checks", "contest", "league"]

NAMES = {
    "auprc": "AUPRC",
    "rma": "Relevance\nmass",
    "rra": "Relevance\nrank",
    "best_dice": "Best Dice",
    "pointing": "Pointing\ngame",
    "sensitivity": "Lesions hit\nat 1 miss",
}
COMPARED = ("auprc", "rra")  # with the strongest baseline

CHECKS = {  # group: column's label to the name of a check or of a column of the summary
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
EMPTY = "–"


@sheet.drawn
def contest(prepared, row: int, maps: dict, scores: pd.DataFrame, *, synthetic: bool):
    """Draw maps of one scan side by side: positive part in colour, lesions outlined, scores above.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Where the scan is.
    row : int
        Which scan.
    maps : dict
        Name to array of shape (X, Y, Z), at most about nine.
    scores : pandas.DataFrame
        map, participant_id, session_id, auprc, rma, rra.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        The scores of this scan.
    """
    scan = prepared.table.iloc[row]
    brain = prepared.brain(row)
    lesions = prepared.lesions(row)
    of_scan = _scores_of(scores, scan).set_index("map")
    has_scores = bool(lesions.any()) and "auprc" in of_scan
    if has_scores:
        weights = lesions.astype(float)
    else:
        first_map = next(iter(maps.values()))
        weights = np.maximum(first_map, 0)
    cuts = slices.cuts(weights, brain, "z")[1:4]
    backdrop = slices.backdrop(prepared.image(row), brain)
    scale = slices.Scale(slices.POSITIVE, 0.05, 0.0, 1.0, "share of the 99.9 % quantile")
    blocks = []
    for name, values in maps.items():
        shown = _positive_part(values, brain)
        title = _scored_name(name, of_scan.loc[name]) if has_scores else name
        slice_row = slices.Row("", "", backdrop, shown, "z", cuts, scale, lesions)
        blocks.append(slices.Block(title, [slice_row]))
    volume = lesions.sum() * images.voxel_volume(images.AFFINE)
    mask = f"lesions {volume:,.0f} mm³" if has_scores else "no lesion mask"
    texts = {
        "title": f"Do the maps find the lesions? {scan['participant_id']}, {mask}",
        "notes": _contest_notes(has_scores),
        "synthetic": synthetic,
        "notice": True,
    }
    figure = slices.slice_sheet(blocks, 12, 3, **texts)
    return figure, of_scan.reset_index()


def _scores_of(scores: pd.DataFrame, scan: pd.Series) -> pd.DataFrame:
    is_subject = scores["participant_id"] == scan["participant_id"]
    is_session = scores["session_id"] == scan["session_id"]
    return scores[is_subject & is_session]


def _positive_part(values: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Positive values in units of their 99.9 % quantile: maps have different units."""
    positive = np.maximum(values, 0)
    full = np.quantile(positive[brain], slices.FULL_QUANTILE)
    if full == 0:
        full = positive.max() or 1
    return positive / full


def _scored_name(name: str, score: pd.Series) -> str:
    rest = f"mass {score['rma']:.2f}, rank {score['rra']:.2f}"
    return f"{name}: AUPRC {score['auprc']:.2f}, {rest}"


def _contest_notes(has_scores: bool) -> list[str]:
    how = (
        "Positive part of each map, divided by its own 99.9 % quantile over the brain; values "
        "below 5 % of this quantile have no colour."
    )
    if has_scores:
        outline = "Green: outline of the lesion mask. A good map has its colours inside."
    else:
        outline = "There is no lesion mask to compare with."
    return [f"{how} {outline}", slices.ORIENTATION]


@sheet.drawn
def league(table: pd.DataFrame, *, synthetic: bool, why: str = "", variant: str = ""):
    """Draw the league table: how well each map finds the lesions.

    Parameters
    ----------
    table : pandas.DataFrame
        `msxai.quality.localisation.rank`; empty where it was left out.
    synthetic : bool
        Mark the figure.
    why : str
        Why it was left out.
    variant : str
        Name of the model, for the title.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        `table`.
    """
    title = _titled("Explanation quality", variant)
    if table.empty:
        reason = f"Left out: {why}." if why else "Left out."
        return sheet.nothing_to_draw(title, reason, synthetic=synthetic)
    names = [name for name in NAMES if name in table]
    compared = [name for name in COMPARED if f"{name}_difference" in table]
    lines = _league_header(names, compared)
    for row in table.to_dict("records"):
        lines.append(_league_line(row, names, compared))
    n_subjects = table["subjects"].iloc[0]
    notes = [
        f"Mean over {n_subjects} subjects with lesions; the highest AUPRC is on top. Differences "
        "are paired; intervals are over subjects.",
        "A map finds lesions better than the strongest baseline where the interval of its "
        "difference lies above 0.",
    ]
    figure = sheet.grid(lines, 0.95, title, notes, synthetic)
    return figure, table


def _titled(title: str, variant: str) -> str:
    return f"{title}: {variant}" if variant else title


def _league_header(names: list[str], compared: list[str]) -> list[list[str]]:
    upper = ["", "Mean over subjects (95 % interval)"]
    upper += [""] * (len(names) - 1)
    if compared:
        upper.append("Minus the strongest baseline")
        upper += [""] * (len(compared) - 1)
    lower = ["Map"]
    for name in [*names, *compared]:
        lower.append(NAMES[name])
    return [upper, lower]


def _league_line(row: dict, names: list[str], compared: list[str]) -> list[str]:
    label = f"{row['map']} (baseline)" if row["baseline"] else row["map"]
    line = [label]
    for name in names:
        line.append(_interval(row, name))
    for name in compared:
        if row["baseline"]:
            line.append(EMPTY)
        else:
            difference = _interval(row, f"{name}_difference", sign="+")
            line.append(f"{difference}\n{row[f'{name}_strongest']}")
    return line


def _interval(row: dict, name: str, sign: str = "") -> str:
    value = row[name]
    if np.isnan(value):
        return EMPTY
    low = row[f"{name}_low"]
    high = row[f"{name}_high"]
    return f"{value:{sign}.3f}\n({low:{sign}.2f}, {high:{sign}.2f})"


@sheet.drawn
def checks(summary: pd.DataFrame, table: pd.DataFrame, *, synthetic: bool, variant: str = ""):
    """Draw the table of what is asked of a map besides finding lesions: one row a map.

    Parameters
    ----------
    summary : pandas.DataFrame
        `msxai.quality.league.summary`.
    table : pandas.DataFrame
        `msxai.quality.checks.run`.
    synthetic : bool
        Mark the figure.
    variant : str
        Name of the model, for the title.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        One row a map: its summary, then value and reference of each check.
    """
    title = _titled("Checks of the maps", variant)
    checked_maps = table.get("map", ())
    is_checked = summary["deletion"].notna() | summary["map"].isin(checked_maps)
    rows = summary[is_checked]
    if rows.empty:
        reason = "Left out: no map was examined."
        return sheet.nothing_to_draw(title, reason, synthetic=synthetic)
    columns = _check_columns()
    by_check = {}
    for check in table.to_dict("records"):
        by_check[check["map"], check["check"]] = check
    lines = _checks_header(columns)
    for row in rows.to_dict("records"):
        line = [row["map"]]
        for name in columns.values():
            check = by_check.get((row["map"], name))
            line.append(_summary_cell(row, name) if check is None else _check_cell(check))
        lines.append(line)
    figure = sheet.grid(lines, 1.13, title, _checks_notes(table), synthetic)
    return figure, _checks_source(rows, table, columns)


def _check_columns() -> dict:
    """Label of each column to the name of its check."""
    columns = {}
    for labels in CHECKS.values():
        columns |= labels
    return columns


def _checks_header(columns: dict) -> list[list[str]]:
    upper = [""]
    for group, labels in CHECKS.items():
        upper.append(group)
        upper += [""] * (len(labels) - 1)
    return [upper, ["Map", *columns]]


def _check_cell(check: dict) -> str:
    """Value, interval and, below, [reference]."""
    if check["check"].startswith("conservation"):
        return f"{check['value']:.1g}"
    text = f"{check['value']:.2f} ({check['low']:.2f}, {check['high']:.2f})"
    if not np.isnan(check["reference"]):
        text += f"\n[{check['reference']:.2f}]"
    return text


def _summary_cell(row: dict, name: str) -> str:
    """Value, interval where there is one and, below, p where there is one."""
    if np.isnan(row.get(name, np.nan)):
        return EMPTY
    text = f"{row[name]:.2f}"
    if f"{name}_low" in row:
        low = row[f"{name}_low"]
        high = row[f"{name}_high"]
        text += f" ({low:.2f}, {high:.2f})"
    p_value = row.get(f"{name}_p", np.nan)
    if not np.isnan(p_value):
        text += f"\np = {p_value:.2g}"
    return text


def _checks_notes(table: pd.DataFrame) -> list[str]:
    n_subjects = int(table["subjects"].max()) if len(table) else 0
    return [
        "Mean over subjects (95 % interval). Deletion and insertion: change of the logit minus "
        "that of random orders, p of Wilcoxon's one-sided test; above 0 the logit follows the map. "
        "New weights, from the output down: rank correlation and SSIM with the map of the trained "
        "network (in brackets the SSIM with that map's voxels shuffled), near 1 where a map does "
        "not depend on what was learnt; eMPRT: relative increase in complexity, above 0 where it "
        "does. Moved scan: rank correlation after moving the map back; in brackets the correlation "
        "that interpolation alone leaves. "
        "Conservation: |sum(R) − f| / |f|, as it is and without biases (epsilon 1e-9); 0 is best. "
        f"These are on {n_subjects} subjects with the first network; the other columns on all.",
        "Two networks: rank correlation of their maps. Volume: correlation of sum(R+) with lesion "
        "volume. Classes: correlation of the mean maps of patients and controls; near 1 the maps "
        "do not distinguish the groups.",
    ]


def _checks_source(rows: pd.DataFrame, table: pd.DataFrame, columns: dict) -> pd.DataFrame:
    names = {"map", *columns.values()}
    shown = [column for column in rows if column.split("_")[0] in names]
    source = rows[shown]
    if table.empty:
        return source
    return source.merge(_wide(table), "left", "map")


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    """One row a map: value and reference of each check."""
    wide = table.pivot(index="map", columns="check", values=["value", "reference"])
    wide = wide.dropna(axis=1, how="all")
    names = []
    for kind, check in wide.columns:
        names.append(check if kind == "value" else f"{check}, reference")
    wide.columns = names
    return wide.reset_index()
