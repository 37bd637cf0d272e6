"""Quality control of a prepared cohort: what each scan measures, what is wrong with it in words, and a page to look at every scan.

What is flagged, and from where on, is decided in qc_measures.tsv and `_flag` alone. A flag is a reason to look, no verdict. All measures
are taken on the model's grid and do not change with an image's scale and offset, so that z-scored and scaled scans compare. Not seen: a
scan mirrored left to right whose header agrees with itself and that has no second visit, for the template is symmetric.
"""

import base64
import functools
import html
import io
import itertools
import json
import string
from contextlib import ExitStack
from importlib import resources
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.image import imsave
from nilearn import datasets
from scipy import ndimage
from tqdm.auto import tqdm

from msxai.base import provenance
from msxai.base.notices import NOTICE, SYNTHETIC
from msxai.data import images

VOXEL = abs(float(np.linalg.det(images.AFFINE[:3, :3]))) / 1000  # ml
# Measure: heading, format, meaning; flagged where its value, or its robust z in the cohort, is below low or above high; what is then said
MEASURES = pd.read_csv(
    resources.files("msxai.data") / "qc_measures.tsv", sep="\t", index_col="measure"
).fillna({"form": ""})
OUTLIER_SCANS = 10  # scans that robust z needs
ENOUGH = 500  # voxels of white and of grey matter that intensities are measured from
TURNS = {
    (): "",
    (1,): "front to back (mirrored, or turned by 180 degrees about the vertical axis)",
    (2,): "upside down (mirrored, or turned by 180 degrees about the front-back axis)",
    (1, 2): "turned by 180 degrees about the left-right axis",
}
CUTS = (0, -18, 18)  # mm: the slices shown; the axial one through most lesions where there are any
COLOURS = {"template": (230, 159, 0), "own": (86, 180, 233), "lesions": (255, 48, 48)}  # outlines
_EDGE, _BLOCK = (
    108,
    3,
)  # voxels: the cube round a brain, and the blocks it is averaged in to compare orientations


def measure(prepared) -> pd.DataFrame:
    """Measure every scan of a cohort and flag those to look at; memory does not grow with the cohort.

    SNR and contrast follow MRIQC (Esteban et al. 2017, PLoS ONE 12:e0184661, doi:10.1371/journal.pone.0184661; contrast-to-noise:
    Magnotta, Friedman 2006, doi:10.1007/s10278-006-0264-x), with two changes that brain-extracted, z-scored scans ask for: signal counts
    from the brain's first percentile, since a z-score has no zero, and there is no air to take noise from. Noise is the scaled median
    absolute deviation of the six-neighbour Laplacian, whose variance is 42 times that of white noise (Immerkaer 1996, Comput Vis Image
    Underst 64:300, doi:10.1006/cviu.1996.0060, in three dimensions). White matter is the template's (> .9, eroded by one voxel), grey
    matter too (> .7), lesions left out. Scans normalised voxel by voxel have no tissue contrast: their intensities are n/a, and their
    orientation is judged by the brain mask alone.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        A column ``registration`` of its table, where there, holds JSON: route, scales (x, y, z), flags (sentences).

    Returns
    -------
    pandas.DataFrame
        One row a scan, in the cohort's order: participant_id, session_id, group, the measures of `MEASURES` (NaN or None where there is
        nothing to measure), turn (what the best other orientation is), flagged (names of the measures out of bounds, spaces between;
        "route" for what the registration said) and flags (sentences, a list).
    """
    found, subjects = {}, prepared.table.groupby("participant_id", sort=False).indices.values()
    for rows in tqdm(subjects, desc="quality control", unit="subject"):
        measured = [_measure(prepared, row) for row in rows]
        found |= {row: out for row, (out, _) in zip(rows, measured, strict=True)}
        if len(rows) > 1:
            with np.errstate(invalid="ignore"):  # an empty brain mask
                alike = np.corrcoef([half.ravel() for _, half in measured])
            for row, mean in zip(rows, (alike.sum(0) - 1) / (len(rows) - 1), strict=True):
                found[row]["left_right"] = mean
    table = pd.DataFrame([found[row] for row in range(len(found))]).reindex(
        columns=[*MEASURES.index, "turn", "said"]
    )
    return _flag(
        pd.concat(
            [
                prepared.table[["participant_id", "session_id", "group"]].reset_index(drop=True),
                table,
            ],
            axis=1,
        )
    )


def _measure(prepared, row: int) -> tuple[dict, np.ndarray]:
    """All measures of one scan but left_right, and the coarse left-right difference that it is taken from."""
    image, brain, lesions, template = (
        prepared.image(row),
        prepared.brain(row),
        prepared.lesions(row),
        _template(),
    )
    known = prepared.table.iloc[row].get("registration")
    known = json.loads(known) if isinstance(known, str) else {}
    out = {
        "route": known.get("route"),
        "said": known.get("flags") or [],
        "orientation": _orientation(prepared.table["image"].iloc[row]),
    }
    out["lesion_ml"] = lesions.sum() * VOXEL if prepared.has_lesions[row] else np.nan
    out["volume_ml"] = brain.sum() * VOXEL
    out["dice"] = 2 * (brain & template["brain"]).sum() / (brain.sum() + template["brain"].sum())
    if not brain.any():
        return out, np.zeros((_EDGE // _BLOCK // 2, _EDGE // _BLOCK, _EDGE // _BLOCK))
    centre, spread = _moments(brain)
    out |= zip(
        ("scale_x", "scale_y", "scale_z"),
        known.get("scales") or spread / template["spread"],
        strict=True,
    )
    out["centre_mm"] = np.linalg.norm((centre - template["centre"]) * np.diag(images.AFFINE)[:3])
    out["cut"] = max(
        _cut(np.moveaxis(brain, axis, 0)[::way]) for axis in range(3) for way in (1, -1)
    )
    contrast = prepared.normalisation != "voxelwise"
    inside = image[brain]
    floor, high = np.quantile(inside, [0.01, 0.99])
    out["empty"] = (inside <= inside.min() + 1e-3 * (high - floor)).mean() if contrast else np.nan
    size = np.prod(spread / template["spread"]) ** (1 / 3)
    cube = (
        _cube(np.where(brain, image, floor), centre, size, floor)
        if contrast
        else _cube(brain, centre, size, 0)
    )
    fits = _fits(cube)
    best = 1 + fits[1:].argmax()
    out |= {
        "match": fits[0],
        "turned": fits[best],
        "turn_gain": fits[best] - fits[0],
        "turn": template["turns"][best],
    }
    within = np.flatnonzero(template["in_white"] & brain & ~lesions)
    flat, grey = image.ravel(), image[template["in_grey"] & brain & ~lesions]
    if contrast and min(len(within), len(grey)) >= ENOUGH:
        white = flat[within]
        out["snr"] = (white.mean() - floor) / white.std(ddof=1)
        out["contrast"] = abs(white.mean() - grey.mean()) / np.hypot(white.std(), grey.std())
        beside = [
            within + way * step // image.itemsize for step in image.strides for way in (1, -1)
        ]
        laplacian = 6 * white - sum(flat[one] for one in beside)
        out["noise"] = (
            1.4826
            * np.median(np.abs(laplacian - np.median(laplacian)))
            / np.sqrt(42)
            / inside.std()
        )
        out["range"] = np.ptp(inside) / inside.std()
    return out, (cube - cube[::-1])[: len(cube) // 2]


@functools.cache
def _template() -> dict:
    """The template on the grid: brain, where white and grey matter are sure, moments, and what orientations are compared with."""
    brain = images.mask_to_grid(datasets.load_mni152_brain_mask(resolution=1))
    grey, white = (
        images.to_grid(load(resolution=1))
        for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    )
    centre, spread = _moments(brain)
    maps = np.stack([_cube(values, centre, 1, 0) for values in (brain, grey, white)], axis=-1)
    bases, turns = [], []
    for order in itertools.permutations(range(3)):
        free = [
            axis for axis in range(3) if order[axis] != 0
        ]  # mirroring the symmetric template left to right changes nothing
        for flips in ((), free[:1], free[1:], free):
            columns = np.flip(maps.transpose(*order, 3), flips).reshape(-1, 3)
            bases.append(np.linalg.qr(columns - columns.mean(0))[0])
            turns.append(
                TURNS[tuple(flips)]
                if order == (0, 1, 2)
                else "turned by 90 degrees, its axes exchanged"
            )
    return {
        "brain": brain,
        "in_white": ndimage.binary_erosion(white > 0.9),
        "in_grey": grey > 0.7,
        "centre": centre,
        "spread": spread,
        "bases": np.concatenate(bases, axis=1),
        "turns": turns,
    }


def _moments(mask) -> tuple[np.ndarray, np.ndarray]:
    """Centre and standard deviation of a mask along each axis (voxels)."""
    along = [
        (np.arange(mask.shape[axis]), mask.sum(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)
    ]
    centre = np.array([np.average(places, weights=counts) for places, counts in along])
    squares = [
        np.average((places - middle) ** 2, weights=counts)
        for (places, counts), middle in zip(along, centre, strict=True)
    ]
    return centre, np.sqrt(squares)


def _cut(brain) -> float:
    """Largest area in which a brain ends from one slice to the next along the first axis, as a share of its largest section."""
    ends = brain.copy()
    ends[:-1] &= ~brain[1:]
    return ends.sum(axis=(1, 2)).max() / brain.sum(axis=(1, 2)).max()


def _cube(values, centre, size, fill) -> np.ndarray:
    """Means of blocks in a cube round `centre` (voxels) of `size` times its edge, `fill` beyond the grid; float32 of shape (36, 36, 36)."""
    at = [
        np.rint(middle + size * (np.arange(_EDGE) - (_EDGE - 1) / 2)).astype(int)
        for middle in centre
    ]
    cube = values[
        np.ix_(*(one.clip(0, length - 1) for one, length in zip(at, values.shape, strict=True)))
    ].astype("float32")
    for axis, (one, length) in enumerate(zip(at, values.shape, strict=True)):
        np.moveaxis(cube, axis, 0)[(one < 0) | (one >= length)] = fill
    for axis in range(3):
        cube = np.add.reduceat(cube, np.arange(0, _EDGE, _BLOCK), axis)
    return cube / _BLOCK**3


def _fits(cube) -> np.ndarray:
    """Multiple correlation with the template's tissues, in the order of ``_template()["turns"]``; shape (24,)."""
    centred = (cube - cube.mean()).ravel()
    return np.linalg.norm((centred @ _template()["bases"]).reshape(-1, 3), axis=1) / max(
        np.linalg.norm(centred), 1e-12
    )


def _orientation(path) -> str | None:
    """Axes of a source by its header, "RAS", or "RAS/LAS" where sform and qform differ; None where it cannot be read."""
    if not Path(path).is_file() or not isinstance(image := nib.load(path), nib.Nifti1Pair):
        return None
    forms = [form(coded=True) for form in (image.get_sform, image.get_qform)]
    return (
        "/".join(dict.fromkeys("".join(nib.aff2axcodes(affine)) for affine, code in forms if code))
        or None
    )


def _flag(table: pd.DataFrame) -> pd.DataFrame:
    """Decide what is out of bounds; the columns flagged and flags take the place of what the registration said."""
    flags = [[("route", sentence) for sentence in said] for said in table.pop("said")]
    for name, rule in MEASURES[MEASURES["of"].notna()].iterrows():
        values, median = table[name], table[name].quantile()
        spread = (
            1.4826 * (values - median).abs().quantile() if values.count() >= OUTLIER_SCANS else 0
        )
        z = (values - median) / (spread or np.nan)
        judged = z if rule["of"] == "robust z" else values
        for row in np.flatnonzero((judged < rule["low"]) | (judged > rule["high"])):
            sentence = rule["sentence"].format(
                value=values[row], median=median, z=z[row], turn=table["turn"][row]
            )
            flags[row].append((name, sentence))
    for row in np.flatnonzero(table["orientation"].str.contains("/").eq(True)):
        sform, qform = table["orientation"][row].split("/")
        sentence = f"The header contradicts itself: directions are {sform} by its sform, which was taken, and {qform} by its qform."
        flags[row].append(("orientation", sentence))
    table["flagged"] = [" ".join(dict.fromkeys(name for name, _ in row)) for row in flags]
    table["flags"] = [[sentence for _, sentence in row] for row in flags]
    return table


def write(prepared, folder, table=None) -> Path:
    """Write the page, the table and the thresholds of a cohort: qc.html, qc.tsv and qc.json, each whole or none.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    folder : path
        Other files in it stay.
    table : pandas.DataFrame, optional
        From `measure`, which is called where it is not given.

    Returns
    -------
    pathlib.Path
        The page: one file that loads nothing from elsewhere, flagged scans first, about 40 KB a scan, written scan by scan.
    """
    table = measure(prepared) if table is None else table
    counts = table["flagged"].str.split().explode().value_counts().to_dict()
    about = {
        name: getattr(prepared, name) for name in ("name", "synthetic", "modality", "normalisation")
    }
    about |= {
        "scans": len(table),
        "flagged": int((table["flagged"] != "").sum()),
        "robust_z_from_scans": OUTLIER_SCANS,
        "counts": counts,
    }
    told = {name: html.escape(str(value)) for name, value in about.items()} | {
        "notice": f"{SYNTHETIC} {NOTICE}" if prepared.synthetic else NOTICE,
        "colours": "".join(f"--{name}: rgb{colour};" for name, colour in COLOURS.items()),
        "rules": MEASURES[["heading", "meaning", "of", "low", "high"]]
        .assign(scans=MEASURES.index.map(counts))
        .set_axis(
            ["Measure", "Meaning", "Flagged by its", "below", "above", "Scans flagged"], axis=1
        )
        .to_html(index=False, na_rep="", border=0, classes="measures", float_format="{:g}".format),
        "options": "".join(
            f'<option value="{name}">{MEASURES["heading"][name]} ({count})</option>'
            for name, count in counts.items()
        ),
        "headings": "".join(
            f'<th scope="col" title="{row.meaning}"><button>{row.heading}</button></th>'
            for row in MEASURES.itertuples()
        ),
    }
    head, tail = (
        (resources.files("msxai.data") / "qc.html")
        .read_text(encoding="utf-8")
        .split("<!-- scans -->")
    )
    with ExitStack() as stack:
        page, tsv, record = (
            stack.enter_context(provenance.replacing(Path(folder) / f"qc.{ending}"))
            for ending in ("html", "tsv", "json")
        )
        with page.open("w", encoding="utf-8") as file:
            file.write(string.Template(head).substitute(told))
            order = table["flags"].map(len).sort_values(ascending=False, kind="stable").index
            for row in tqdm(order, desc="quality control page", unit="scan"):
                file.write(_entry(table.loc[row], _picture(prepared, row)))
            file.write(tail)
        table.assign(flags=table["flags"].str.join(" ")).to_csv(
            tsv, sep="\t", index=False, na_rep="n/a", float_format="%.6g"
        )
        about["measures"] = json.loads(MEASURES.drop(columns="form").to_json(orient="index"))
        record.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Path(folder) / "qc.html"


def show(table: pd.DataFrame):
    """Print how many scans are flagged, for what, and return the flagged ones for a notebook to display.

    Parameters
    ----------
    table : pandas.DataFrame
        From `measure`.

    Returns
    -------
    pandas.io.formats.style.Styler
        Subject, session, group and what is said, one sentence a row.
    """
    flagged = table[table["flagged"] != ""]
    print(f"{len(table)} scans, {len(flagged)} flagged")
    for name, count in flagged["flagged"].str.split().explode().value_counts().items():
        print(f"{count:5d}  {MEASURES['heading'][name]}")
    sentences = flagged[["participant_id", "session_id", "group", "flags"]].explode(
        "flags", ignore_index=True
    )
    return (
        sentences.style.hide(axis="index")
        .format(escape="html")
        .set_properties(**{"text-align": "left"})
    )


def _entry(row: pd.Series, picture: bytes) -> str:
    """One scan of the page; all text of the user's tables and files escaped."""
    name = html.escape(
        " ".join(str(row[column]) for column in ("participant_id", "session_id") if row[column])
    )
    group, bad = (
        "–" if pd.isna(row["group"]) else html.escape(str(row["group"])),
        row["flagged"].split(),
    )
    cells = f'<th scope="row">{name}</th><td>{group}</td><td>{len(row["flags"])}</td>'
    for column, form in MEASURES["form"].items():
        text = "–" if pd.isna(row[column]) else html.escape(format(row[column], form))
        cells += f'<td class="out">{text}</td>' if column in bad else f"<td>{text}</td>"
    said = (
        "".join(f"<li>{html.escape(sentence)}</li>" for sentence in row["flags"])
        or "<li>Nothing flagged.</li>"
    )
    source = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
    image = f'<img loading="lazy" width="612" height="228" alt="{name}: axial, coronal and sagittal slice, outlined" src="{source}">'
    look = f'<tr><td colspan="{len(MEASURES) + 3}"><div>{image}<ul>{said}</ul></div></td></tr>'
    return f'<tbody data-flags="{row["flagged"]}"><tr>{cells}</tr>{look}</tbody>\n'


def _picture(prepared, row: int) -> bytes:
    """Axial, coronal and sagittal slice of a scan with the outlines of the template's brain, its own and its lesions; JPEG."""
    image, brain, lesions = prepared.image(row), prepared.brain(row), prepared.lesions(row)
    places = [
        round((mm - images.AFFINE[axis, 3]) / images.AFFINE[axis, axis])
        for axis, mm in enumerate(CUTS)
    ]
    if lesions.any():
        places[2] = int(lesions.sum(axis=(0, 1)).argmax())
    low, high = np.quantile(image[brain][::7], [0.01, 0.995]) if brain.any() else (0, 1)
    grey, *masks = (
        _slices(values, places) for values in (image, _template()["brain"], brain, lesions)
    )
    grey = np.clip((grey - low) / max(high - low, 1e-12), 0, 1) * (
        masks[1] | (grey != 0)
    )  # 0 outside the brain is no intensity
    picture = np.repeat(
        (ndimage.zoom(grey, 2, order=1) * 255).astype("uint8")[..., None], 3, axis=2
    )
    for mask, colour, outside in zip(masks, COLOURS.values(), (True, False, False), strict=True):
        mask = mask.repeat(2, 0).repeat(2, 1)
        edge = (
            ndimage.binary_dilation(mask) & ~mask
            if outside
            else mask & ~ndimage.binary_erosion(mask)
        )
        picture[edge] = colour
    file = io.BytesIO()
    imsave(file, picture, format="jpeg", pil_kwargs={"quality": 80, "subsampling": 0})
    return file.getvalue()


def _slices(values, places) -> np.ndarray:
    """Axial, coronal and sagittal slice side by side, top up, left of the brain at the left; shape (114, 306)."""
    x, y, z = places
    tall = values.shape[1] - values.shape[2]
    axial, *others = (plane.T[::-1] for plane in (values[:, :, z], values[:, y], values[x]))
    return np.concatenate(
        [axial, *(np.pad(plane, ((tall // 2, tall - tall // 2), (0, 0))) for plane in others)],
        axis=1,
    )
