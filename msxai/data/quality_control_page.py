"""The page of quality control: each scan's measures, flags and picture, for a person to look at."""

import base64
import io
import json
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from matplotlib.image import imsave
from scipy import ndimage
from tqdm.auto import tqdm

from msxai.base import page_policy, provenance, tsv
from msxai.base.notices import NOTICE, SYNTHETIC
from msxai.data import images, quality_control
from msxai.data.quality_control import MEASURES

__all__ = ["COLOURS", "SCANS_A_PAGE", "show", "write"]

COLOURS = {"template": (230, 159, 0), "own": (86, 180, 233), "lesions": (255, 48, 48)}
"""Colours of the outlines, RGB."""

SCANS_A_PAGE = 1000
"""More scans go to further pages: a browser takes seconds to open 40 MB, and minutes for 400."""

_CUTS_MM = (0, -18, 18)  # the slices shown, unless lesions decide the axial one
_UNKNOWN = "–"
_ENLARGED = 2
_JPEG = {"quality": 80, "subsampling": 0}


def write(prepared, folder, table=None) -> Path:
    """Write the page, the table and the thresholds of a cohort: qc.html, qc.tsv and qc.json.

    A cohort of more than `SCANS_A_PAGE` scans has further pages, qc-2.html and so on. Each file is
    written whole or not at all; other files in the folder stay.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    folder : path
    table : pandas.DataFrame, optional
        From `msxai.data.quality_control.measure`, which is called by default.

    Returns
    -------
    pathlib.Path
        The (first) page: one file that loads nothing from elsewhere, flagged scans first, about
        40 KB a scan, written scan by scan.
    """
    folder = Path(folder)
    if table is None:
        table = quality_control.measure(prepared)
    summary = _summary(prepared, table)
    rows_of_pages = _rows_of_pages(table)
    pages = [_page_name(number) for number in range(len(rows_of_pages))]
    script = page_policy.script("msxai.data", "quality_control.js")
    whole = {
        "policy": page_policy.policy(script),
        "script": script,
        "cohort": summary,
        "notice": f"{SYNTHETIC} {NOTICE}" if prepared.synthetic else NOTICE,
        "colours": COLOURS,
        "measures": _measure_rows(summary["counts"]),
        "pages": pages,
    }
    # The first page comes last, because it links the others.
    for number, rows in reversed(list(enumerate(rows_of_pages))):
        scans = _scans(prepared, table, rows)
        chunks = _page_template().generate(whole, number=number, scans=scans)
        path = folder / pages[number]
        with provenance.replacing(path) as draft, draft.open("w", encoding="utf-8") as file:
            file.writelines(chunks)
    _remove_other_pages(folder, pages)
    flat = table.assign(flags=table["flags"].str.join(" "))
    tsv.write(flat, folder / "qc.tsv", float_format="%.6g")
    rules = json.loads(MEASURES.drop(columns="form").to_json(orient="index"))
    provenance.write_json(folder / "qc.json", summary | {"measures": rules})
    return folder / pages[0]


def show(table: pd.DataFrame):
    """Print how many scans are flagged and why; return the flagged ones for a notebook to show.

    Parameters
    ----------
    table : pandas.DataFrame
        From `msxai.data.quality_control.measure`.

    Returns
    -------
    pandas.io.formats.style.Styler
        Subject, session, group and flag, one sentence a row.
    """
    flagged = table[table["flagged"] != ""]
    print(f"{len(table)} scans, {len(flagged)} flagged")
    for name, count in _counts(flagged).items():
        print(f"{count:5d}  {MEASURES['heading'][name]}")
    columns = ["participant_id", "session_id", "group", "flags"]
    sentences = flagged[columns].explode("flags", ignore_index=True)
    style = sentences.style.hide(axis="index").format(escape="html")
    return style.set_properties(**{"text-align": "left"})


def _page_template() -> jinja2.Template:
    """Return the page's template, which escapes all text of the user's tables and files."""
    loader = jinja2.PackageLoader("msxai.data", "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    return environment.get_template("quality_control.html")


def _summary(prepared, table: pd.DataFrame) -> dict:
    """Return what qc.json says of the cohort."""
    return {
        "name": prepared.name,
        "synthetic": prepared.synthetic,
        "modality": prepared.modality,
        "normalisation": prepared.normalisation,
        "scans": len(table),
        "flagged": int((table["flagged"] != "").sum()),
        "robust_z_from_scans": quality_control.OUTLIER_SCANS,
        "counts": _counts(table).to_dict(),
    }


def _counts(table: pd.DataFrame) -> pd.Series:
    """Return the number of scans flagged for each measure, the most frequent first."""
    return table["flagged"].str.split().explode().value_counts()


def _measure_rows(counts: dict) -> list[dict]:
    """Return the texts of each measure for the page."""
    rows = []
    for name, rule in MEASURES.iterrows():
        row = {"name": name, "count": counts.get(name, "")}
        for column in ("heading", "meaning", "of"):
            row[column] = "" if pd.isna(rule[column]) else rule[column]
        for column in ("low", "high"):
            row[column] = "" if pd.isna(rule[column]) else f"{rule[column]:g}"
        rows.append(row)
    return rows


def _rows_of_pages(table: pd.DataFrame) -> list:
    """Return the rows of each page, the scan with the most flags first; at least one page."""
    n_flags = table["flags"].map(len)
    order = n_flags.sort_values(ascending=False, kind="stable").index
    starts = range(0, max(len(order), 1), SCANS_A_PAGE)
    return [order[start : start + SCANS_A_PAGE] for start in starts]


def _page_name(number: int) -> str:
    """Return the name of a page, counted from 0."""
    return f"qc-{number + 1}.html" if number else "qc.html"


def _remove_other_pages(folder: Path, pages: list[str]) -> None:
    """Remove pages that an earlier run on more scans has left."""
    for path in folder.glob("qc-*.html"):
        is_page = path.stem.removeprefix("qc-").isdecimal()
        if is_page and path.name not in pages:
            path.unlink()


def _scans(prepared, table: pd.DataFrame, rows):
    """Yield what a page shows of each of its scans."""
    for row in tqdm(rows, desc="quality control page", unit="scan"):
        picture = base64.b64encode(_picture(prepared, row)).decode()
        yield _scan(table.loc[row]) | {"picture": picture}


def _scan(row: pd.Series) -> dict:
    """Return the texts of one scan for the page."""
    identifiers = [str(row[column]) for column in ("participant_id", "session_id") if row[column]]
    out_of_bounds = row["flagged"].split()
    cells = []
    for column, form in MEASURES["form"].items():
        text = _UNKNOWN if pd.isna(row[column]) else format(row[column], form)
        cells.append({"text": text, "out": column in out_of_bounds})
    return {
        "name": " ".join(identifiers),
        "group": _UNKNOWN if pd.isna(row["group"]) else str(row["group"]),
        "flagged": row["flagged"],
        "flags": row["flags"],
        "cells": cells,
    }


def _picture(prepared, row: int) -> bytes:
    """Return three slices of a scan as JPEG.

    Axial, coronal and sagittal, with the outlines of the template's brain, the scan's own brain
    mask and its lesions.
    """
    brain = prepared.brain(row)
    lesions = prepared.lesions(row)
    position = _position(lesions)
    grey = _grey(prepared.image(row), brain, position)
    enlarged = ndimage.zoom(grey, _ENLARGED, order=1)
    levels = (enlarged * 255).astype("uint8")
    picture = np.repeat(levels[..., None], 3, axis=2)
    template = quality_control.template_brain()
    picture[_outline(template, position, outside=True)] = COLOURS["template"]
    picture[_outline(brain, position)] = COLOURS["own"]
    picture[_outline(lesions, position)] = COLOURS["lesions"]
    file = io.BytesIO()
    imsave(file, picture, format="jpeg", pil_kwargs=_JPEG)
    return file.getvalue()


def _position(lesions) -> list[int]:
    """Return the voxel of the slices; the axial one is that of most lesions, if there are any."""
    position = []
    for axis, millimetres in enumerate(_CUTS_MM):
        offset = millimetres - images.AFFINE[axis, 3]
        position.append(round(offset / images.AFFINE[axis, axis]))
    if lesions.any():
        position[2] = int(lesions.sum(axis=(0, 1)).argmax())
    return position


def _grey(image, brain, position) -> np.ndarray:
    """Return slices of an image, scaled to 0 to 1 between percentiles of the brain."""
    low, high = (0, 1)
    if brain.any():
        low, high = np.quantile(image[brain][::7], [0.01, 0.995])
    values = _slices(image, position)
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    # Outside the brain 0 means no value.
    return scaled * (_slices(brain, position) | (values != 0))


def _outline(mask, position, outside: bool = False) -> np.ndarray:
    """Return the voxels just inside or outside the border of a mask, in enlarged slices."""
    enlarged = _slices(mask, position).repeat(_ENLARGED, 0).repeat(_ENLARGED, 1)
    if outside:
        return ndimage.binary_dilation(enlarged) & ~enlarged
    return enlarged & ~ndimage.binary_erosion(enlarged)


def _slices(values, position) -> np.ndarray:
    """Return axial, coronal and sagittal slice side by side, shape (114, 306).

    Top up; left of the brain at the left; front at the right of the sagittal slice.
    """
    x, y, z = position
    _, length, height = values.shape
    missing = length - height
    margin = ((missing // 2, missing - missing // 2), (0, 0))
    axial = values[:, :, z].T[::-1]
    coronal = np.pad(values[:, y].T[::-1], margin)
    sagittal = np.pad(values[x].T[::-1], margin)
    return np.concatenate([axial, coronal, sagittal], axis=1)
