"""Figures of the cohort: who is in it, where lesions lie, a prepared scan."""

import itertools

import nibabel as nib
import numpy as np
import pandas as pd
from nilearn import plotting

from msxai.data import images
from msxai.report.figures import sheet, slices
from msxai.report.figures.sheet import CONTROL, PATIENT
from msxai.report.figures.slices import AXIAL, BACKDROP, FREQUENCY, HOW, SAGITTAL

QUANTITIES = {
    "subjects": "Subjects",
    "scans": "Scans",
    "age": "Age (years)",
    "sex": "Sex (F / M)",
    "edss": "EDSS",
    "lesion_volume": "Lesion volume (mm³)",
}


@sheet.drawn
def cohort_table(table: pd.DataFrame, lesion_volumes=None, paper=None, *, synthetic: bool):
    """Who is in the cohort, by group and part of the split, beside the paper's cohort; a row without data is left out, with its reason.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a scan: participant_id, group, label, part, age (years), sex (F, M), edss.
    lesion_volumes : array_like of shape (scans,), optional
        mm3; NaN where a scan has no mask.
    paper : pandas.DataFrame, optional
        `msxai.base.statistics.paper_results`.
    synthetic : bool
        Mark the figure.
    """
    table = table.assign(
        lesion_volume=np.nan if lesion_volumes is None else np.asarray(lesion_volumes, float)
    )
    table["group"] = table["group"].fillna("unknown").astype(str)
    people = table.drop_duplicates("participant_id")  # the first visit stands for the subject
    groups = list(
        dict.fromkeys(table.sort_values("label", ascending=False, kind="stable")["group"])
    )
    parts = [
        "all",
        *(part for part in ("training", "validation", "holdout") if (table["part"] == part).any()),
    ]
    source = []
    for quantity, part, group in itertools.product(QUANTITIES, parts, groups):
        rows = table if quantity in ("scans", "lesion_volume") else people
        rows = rows[(rows["group"] == group) & ((part == "all") | (rows["part"] == part))]
        source.append(
            {"quantity": quantity, "part": part, "group": group, **_summary(rows, quantity)}
        )
    for section, rows in paper.groupby("section") if paper is not None else ():
        if section.endswith("cohort") and set(rows["variant"]) == set(groups):
            rows = rows.rename(columns={"variant": "group", "low": "min", "high": "max"}).assign(
                part="paper"
            )
            source += rows[["quantity", "part", "group", "mean", "sd", "min", "max"]].to_dict(
                "records"
            )
            parts.append("paper")
    source = pd.DataFrame(source)
    lines = [
        ["", *(part if group == groups[0] else "" for part in parts for group in groups)],
        ["", *groups * len(parts)],
    ]
    left_out = []
    for quantity, name in QUANTITIES.items():
        found = source[source["quantity"] == quantity].set_index(["part", "group"])
        if not (found["n"] > 0).any():
            left_out.append(f"{name}: left out, as no scan of the cohort has it.")
        elif quantity != "scans" or len(table) > len(people):
            lines.append([name, *(_cell(found, part, group) for part in parts for group in groups)])
    notes = [
        "Mean ± SD and, below, the range; n where some lack the value. –: none, or not in the paper.",
        *left_out,
    ]
    title = f"Cohort: {len(people)} subjects, {len(table)} scans"
    return sheet.grid(lines, 0.95, title, notes, synthetic), source


def _summary(rows: pd.DataFrame, quantity: str) -> dict:
    if quantity in ("subjects", "scans"):
        return {"n": len(rows), "mean": len(rows)}
    values = rows[quantity].dropna() if quantity in rows else pd.Series(dtype=float)
    out = {"n": len(values), "missing": len(rows) - len(values)}
    if quantity == "sex":
        return out | {"text": " / ".join(str(int((values == sex).sum())) for sex in "FM")}
    values = values.astype(float)
    return out | {
        "mean": values.mean(),
        "sd": values.std(),
        "median": values.median(),
        "min": values.min(),
        "max": values.max(),
    }


def _cell(found: pd.DataFrame, part: str, group: str) -> str:
    """What stands in the cohort table: two lines at most."""
    row = found.loc[(part, group)] if (part, group) in found.index else {"n": 0}
    if row["n"] == 0:
        return "–"
    if not pd.isna(row.get("text")):
        return row["text"]
    form = "{:.1f}" if row["quantity"] in ("age", "edss") else "{:,.0f}"
    if row["quantity"] in ("subjects", "scans"):
        return form.format(row["mean"])
    few = f" (n={row['n']:.0f})" if row["missing"] > 0 else ""
    return f"{form} ± {form}\n{form}–{form}{{}}".format(
        row["mean"], row["sd"], row["min"], row["max"], few
    )


@sheet.drawn
def lesion_distribution(prepared, *, synthetic: bool):
    """How often each voxel is lesion, patients and controls on the mean anatomy.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        All labelled scans with a lesion mask count.
    synthetic : bool
        Mark the figure.
    """
    table, maps, counts, colours = prepared.table, {}, {}, {}
    for label in (1, 0):
        rows = np.flatnonzero((table["label"] == label).fillna(False) & prepared.has_lesions)
        if len(rows):
            name = str(table["group"].iloc[rows[0]])
            colours[name], counts[name] = (CONTROL, PATIENT)[label], len(rows)
            maps[name] = 100 * sum(prepared.lesions(row) for row in rows) / len(rows)
    title = "Lesion frequency: share of subjects with a lesion at each voxel"
    if not maps:
        return sheet.words(title, "Nothing to draw: the cohort has no lesion masks.", synthetic)
    anatomy = slices.mean_anatomy(prepared, np.flatnonzero(prepared.has_lesions))
    seen = np.concatenate([values[values > 0] for values in maps.values()])
    top = float(np.quantile(seen, 0.995)) if len(seen) else 1.0
    scale = slices.Scale(FREQUENCY, 1e-6, 0, top, "subjects (%)")
    rows = [
        slices.Row(f"{name}\nn = {counts[name]}", colours[name], anatomy, values, "z", AXIAL, scale)
        for name, values in maps.items()
    ]
    note = "Axial slices on the mean anatomy of both groups. Coloured wherever one subject or more has a lesion."
    figure = slices.slice_sheet([rows], [""], 9, title, [note, HOW], synthetic)
    tables = [
        slices.voxels(values, AXIAL).assign(group=name, subjects=counts[name])
        for name, values in maps.items()
    ]
    return figure, pd.concat(tables, ignore_index=True)


@sheet.drawn
def show_scan(image, brain=None, lesions=None, *, synthetic: bool):
    """One prepared scan through the middle of its lesions (of its brain where it has none), with both masks outlined.

    Parameters
    ----------
    image : ndarray of shape (96, 114, 96)
    brain, lesions : ndarray of bool, same shape, optional
    synthetic : bool
        Mark the figure.
    """
    inside = image != 0 if brain is None else brain
    marked = lesions if lesions is not None and np.any(lesions) else inside
    # on each axis the slice that cuts most of it
    centre = [int(np.argmax(marked.sum(axis=tuple({0, 1, 2} - {axis})))) for axis in range(3)]
    point = nib.affines.apply_affine(images.AFFINE, centre).round().astype(int)
    note = "Blue: brain mask. " + (
        "Red: lesion mask." if marked is lesions else "No lesion mask, or an empty one."
    )
    figure, bottom = sheet.sheet(
        7, 2.6, "A prepared scan on the model's grid", [note, HOW + SAGITTAL], synthetic
    )
    axes = sheet.place(figure, 0.1, bottom + 0.1, 6.8, 2.4)
    anatomy = slices.nifti(slices.backdrop(image, inside))
    display = plotting.plot_anat(
        anatomy, cut_coords=point.tolist(), axes=axes, draw_cross=False, **BACKDROP
    )
    display.annotate(size=7)
    for mask, colour in (brain, "#56B4E9"), (lesions, "#FF5A36"):
        if mask is not None and np.any(mask):
            display.add_contours(slices.nifti(mask), levels=[0.5], colors=[colour], linewidths=0.7)
    return figure, pd.DataFrame([dict(zip(("x_mm", "y_mm", "z_mm"), point.tolist(), strict=True))])
