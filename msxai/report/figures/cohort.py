"""Figures of the cohort: who is in it, where lesions lie, a prepared scan."""

import nibabel as nib
import numpy as np
import pandas as pd
from nilearn import plotting

from msxai.data import images
from msxai.data.cohorts import visits
from msxai.report.figures import sheet, slices

__all__ = ["cohort_table", "lesion_distribution", "show_scan"]

QUANTITIES = {
    "subjects": "Subjects",
    "scans": "Scans",
    "age": "Age (years)",
    "sex": "Sex (F / M)",
    "edss": "EDSS",
    "lesion_volume": "Lesion volume (mm³)",
}
PARTS = ("training", "validation", "holdout")
COUNTS = ("subjects", "scans")
ONE_DECIMAL = ("age", "edss")
EMPTY = "–"
BRAIN_COLOUR = "#56B4E9"
LESION_COLOUR = "#FF5A36"


@sheet.drawn
def cohort_table(table: pd.DataFrame, lesion_volumes=None, paper=None, *, synthetic: bool):
    """Tabulate who is in the cohort, by group and part of the split, beside the paper's cohort.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a scan: participant_id, session_id, group, label, part, age (years), sex (F, M),
        edss.
    lesion_volumes : array_like of shape (scans,), optional
        Lesion volume (mm³); NaN where a scan has no mask.
    paper : pandas.DataFrame, optional
        `msxai.base.paper_results.read`.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        The numbers: one row a quantity, part and group.
    """
    volumes = np.nan if lesion_volumes is None else np.asarray(lesion_volumes, float)
    table = table.assign(lesion_volume=volumes)
    table["group"] = table["group"].fillna("unknown").astype(str)
    people = visits.in_order(table).drop_duplicates("participant_id")  # each at the first visit
    groups = _groups(table)
    parts = ["all", *_parts(table)]
    rows = _cohort_rows(table, people, parts, groups)
    paper_rows = _paper_rows(paper, groups)
    if paper_rows:
        rows += paper_rows
        parts.append("paper")
    source = pd.DataFrame(rows)
    lines = _header(parts, groups)
    notes = ["Mean ± SD and, below, the range; n where values are missing. –: no value."]
    for quantity, name in QUANTITIES.items():
        cells = source[source["quantity"] == quantity].set_index(["part", "group"])
        if not (cells["n"] > 0).any():
            notes.append(f"{name}: left out because no scan of the cohort has a value.")
        elif quantity != "scans" or len(table) > len(people):
            lines.append(_line(name, cells, parts, groups))
    title = f"Cohort: {len(people)} subjects, {len(table)} scans"
    figure = sheet.grid(lines, 0.95, title, notes, synthetic)
    return figure, source


def _groups(table: pd.DataFrame) -> list[str]:
    """Names of the groups, patients first."""
    by_label = table.sort_values("label", ascending=False, kind="stable")
    return list(by_label["group"].unique())


def _parts(table: pd.DataFrame) -> list[str]:
    present = set(table["part"])
    return [part for part in PARTS if part in present]


def _cohort_rows(table: pd.DataFrame, people: pd.DataFrame, parts: list, groups: list) -> list:
    rows = []
    for quantity in QUANTITIES:
        counted = table if quantity in ("scans", "lesion_volume") else people
        for part in parts:
            in_part = counted if part == "all" else counted[counted["part"] == part]
            for group in groups:
                members = in_part[in_part["group"] == group]
                key = {"quantity": quantity, "part": part, "group": group}
                rows.append(key | _summary(members, quantity))
    return rows


def _summary(rows: pd.DataFrame, quantity: str) -> dict:
    n_rows = len(rows)
    if quantity in COUNTS:
        return {"n": n_rows, "mean": n_rows}
    values = pd.Series(dtype=float)
    if quantity in rows:
        values = rows[quantity].dropna()
    counts = {"n": len(values), "missing": n_rows - len(values)}
    if quantity == "sex":
        women = int((values == "F").sum())
        men = int((values == "M").sum())
        return counts | {"text": f"{women} / {men}"}
    values = values.astype(float)
    return counts | {
        "mean": values.mean(),
        "sd": values.std(),
        "median": values.median(),
        "min": values.min(),
        "max": values.max(),
    }


def _paper_rows(paper: pd.DataFrame | None, groups: list) -> list[dict]:
    """The paper's cohort, where it has the same groups."""
    if paper is None:
        return []
    paper_rows = []
    for section, rows in paper.groupby("section"):
        if section.endswith("cohort") and set(rows["variant"]) == set(groups):
            named = {"variant": "group", "low": "min", "high": "max"}
            rows = rows.rename(columns=named).assign(part="paper")
            columns = ["quantity", "part", "group", "mean", "sd", "min", "max"]
            paper_rows += rows[columns].to_dict("records")
    return paper_rows


def _header(parts: list, groups: list) -> list[list[str]]:
    """Two rows: each part above its groups."""
    upper = [""]
    for part in parts:
        upper.append(part)
        upper += [""] * (len(groups) - 1)
    lower = ["", *groups * len(parts)]
    return [upper, lower]


def _line(name: str, cells: pd.DataFrame, parts: list, groups: list) -> list[str]:
    line = [name]
    for part in parts:
        for group in groups:
            key = (part, group)
            text = _cell(cells.loc[key]) if key in cells.index else EMPTY
            line.append(text)
    return line


def _cell(row: pd.Series) -> str:
    """Two lines of text at most."""
    if row["n"] == 0:
        return EMPTY
    if not pd.isna(row.get("text")):
        return row["text"]
    quantity = row["quantity"]
    decimals = ".1f" if quantity in ONE_DECIMAL else ",.0f"
    mean = format(row["mean"], decimals)
    if quantity in COUNTS:
        return mean
    sd = format(row["sd"], decimals)
    low = format(row["min"], decimals)
    high = format(row["max"], decimals)
    count = f" (n={row['n']:.0f})" if row["missing"] > 0 else ""
    return f"{mean} ± {sd}\n{low}–{high}{count}"


@sheet.drawn
def lesion_distribution(prepared, *, synthetic: bool):
    """Map how often each voxel lies in a lesion, in patients and in controls.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        All labelled scans with a lesion mask count.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        The voxels shown: x_mm, y_mm, z_mm, value (% of subjects), group, subjects.
    """
    title = "Lesion frequency: share of subjects with a lesion at each voxel"
    frequencies = _frequencies(prepared)
    if not frequencies:
        reason = "Nothing to draw: the cohort has no lesion masks."
        return sheet.nothing_to_draw(title, reason, synthetic=synthetic)
    anatomy = slices.mean_anatomy(prepared, np.flatnonzero(prepared.has_lesions))
    scale = slices.Scale(slices.FREQUENCY, 1e-6, 0, _top(frequencies), "subjects (%)")
    rows = []
    tables = []
    for label, values, subjects in frequencies:
        group = _group_name(prepared, label)
        row = slices.Row(
            label=f"{group}\nn = {subjects}",
            colour=sheet.PATIENT if label == 1 else sheet.CONTROL,
            backdrop=anatomy,
            values=values,
            axis="z",
            cuts=slices.AXIAL,
            scale=scale,
        )
        rows.append(row)
        shown = slices.voxels(values, slices.AXIAL)
        tables.append(shown.assign(group=group, subjects=subjects))
    notes = [
        "Axial slices on the mean anatomy of both groups. A voxel has a colour where one subject "
        "or more has a lesion.",
        slices.ORIENTATION,
    ]
    figure = slices.slice_sheet(
        [slices.Block("", rows)], 9, 1, title=title, notes=notes, synthetic=synthetic
    )
    return figure, pd.concat(tables, ignore_index=True)


def _labelled_with_mask(prepared, label: int) -> np.ndarray:
    has_label = (prepared.table["label"] == label).fillna(False)
    return np.flatnonzero(has_label & prepared.has_lesions)


def _group_name(prepared, label: int) -> str:
    first = _labelled_with_mask(prepared, label)[0]
    return str(prepared.table["group"].iloc[first])


def _frequencies(prepared) -> list[tuple]:
    """Label, share of scans with a lesion (%) and number of scans of each group, patients first."""
    frequencies = []
    for label in (1, 0):
        rows = _labelled_with_mask(prepared, label)
        if len(rows):
            n_lesions = sum(prepared.lesions(row) for row in rows)
            frequencies.append((label, 100 * n_lesions / len(rows), len(rows)))
    return frequencies


def _top(frequencies: list[tuple]) -> float:
    """Frequency of the full colour."""
    positive = [values[values > 0] for _, values, _ in frequencies]
    positive = np.concatenate(positive)
    return float(np.quantile(positive, 0.995)) if len(positive) else 1.0


@sheet.drawn
def show_scan(image, brain=None, lesions=None, *, synthetic: bool):
    """Show three slices of one prepared scan with its masks outlined.

    Parameters
    ----------
    image : ndarray of shape (96, 114, 96)
        The scan.
    brain, lesions : ndarray of bool, same shape, optional
        Masks. The slices are those that cut most of the lesions, or of the brain without lesions.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        x_mm, y_mm, z_mm of the slices.
    """
    inside = image != 0 if brain is None else brain
    has_lesions = lesions is not None and np.any(lesions)
    point = _largest_slices(lesions if has_lesions else inside)
    lesion_note = (
        "Red: lesion mask." if has_lesions else "The scan has no lesion mask, or no lesion."
    )
    notes = [f"Blue: brain mask. {lesion_note}", slices.ORIENTATION + slices.SAGITTAL]
    title = "A prepared scan on the model's grid"
    figure, bottom = sheet.sheet(7, 2.6, title, notes, synthetic)
    axes = sheet.place(figure, 0.1, bottom + 0.1, 6.8, 2.4)
    anatomy = slices.nifti(slices.backdrop(image, inside))
    display = plotting.plot_anat(
        anatomy, cut_coords=point, axes=axes, draw_cross=False, **slices.BACKDROP
    )
    display.annotate(size=7)
    outlines = [(brain, BRAIN_COLOUR), (lesions, LESION_COLOUR)]
    for mask, colour in outlines:
        if mask is not None and np.any(mask):
            contour = slices.nifti(mask)
            display.add_contours(contour, levels=[0.5], colors=[colour], linewidths=0.7)
    x, y, z = point
    return figure, pd.DataFrame({"x_mm": [x], "y_mm": [y], "z_mm": [z]})


def _largest_slices(mask) -> list[int]:
    """Coordinates (mm) of the slice of each axis that cuts most of a mask."""
    voxel = []
    for axis in range(3):
        in_slice = tuple({0, 1, 2} - {axis})
        area = mask.sum(axis=in_slice)
        voxel.append(int(np.argmax(area)))
    point = nib.affines.apply_affine(images.AFFINE, voxel)
    return point.round().astype(int).tolist()
