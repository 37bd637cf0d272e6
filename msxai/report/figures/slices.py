"""Rows of brain slices in neurological convention, with a map over the anatomy and its colour bar."""

import itertools
from collections import namedtuple

import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from nilearn import plotting

from msxai.data import images
from msxai.report.figures import sheet

OUTLINE = "#4DFF88"
SYMMETRIC, POSITIVE, FREQUENCY = (
    "cold_hot",
    "hot",
    "plasma",
)  # nilearn's and matplotlib's; dark at 0, as the backdrop is
AXIAL = (-24, -10, 4, 18, 32, 46, 60)  # mm
HOW = "MNI coordinates in mm; left of the picture = left of the brain (L)."
SIGN = ("Net", "Positive")
SAGITTAL = " Sagittal slices: right = front."
BACKDROP = {"vmin": 0, "vmax": 1, "dim": 0, "colorbar": False, "black_bg": True, "annotate": False}
_BRAIN = {"x": 146, "y": 180, "z": 152}  # mm, about: what a row of slices needs in height


Scale = namedtuple(
    "Scale", "cmap threshold low high label"
)  # colours; values of a size below `threshold` are not drawn
Row = namedtuple(
    "Row", "label colour backdrop values axis cuts scale outline", defaults=[None]
)  # a row of slices of one map


def mean_anatomy(prepared, rows) -> np.ndarray:
    """Mean scan as a backdrop, scaled to 0..1, 0 where fewer than half of `rows` have brain; float32 of shape (96, 114, 96)."""
    image, brain = np.zeros(images.SHAPE), np.zeros(images.SHAPE)
    for row in rows:
        image += prepared.image(row)
        brain += prepared.brain(row)
    return backdrop(image, brain >= len(rows) / 2)


def slice_sheet(
    blocks: list,
    titles: list,
    width: float,
    title: str,
    notes: list,
    synthetic: bool,
    notice: bool = False,
    columns: int = 2,
):
    """Draw blocks of rows of slices, each block under its title; one colour bar for all, or one a block where their scales differ."""
    columns = min(columns, len(blocks))
    left, right, gap = 0.75 if blocks[0][0].label else 0.1, 0.95, 0.15
    across = (width - left - right - gap * (columns - 1)) / columns
    high, wide = {"x": "z", "y": "z", "z": "y"}, {"x": "y", "y": "x", "z": "x"}
    heights = [
        across / len(row.cuts) * _BRAIN[high[row.axis]] / _BRAIN[wide[row.axis]]
        for row in blocks[0]
    ]
    head = 0.24 if any(titles) else 0.05
    high = head + sum(heights)
    body = high * -(-len(blocks) // columns) + 0.05
    figure, bottom = sheet.sheet(width, body, title, notes, synthetic, notice)
    several = len({rows[0].scale for rows in blocks}) > 1
    for index, (rows, name) in enumerate(zip(blocks, titles, strict=True)):
        below, at = divmod(index, columns)
        x, y = left + at * (across + gap), bottom + body - below * high - head
        sheet.text(figure, x, y + 0.08, name)
        if several:
            colour_bar(
                figure,
                rows[0].scale,
                width - right + 0.1,
                y - sum(heights) + 0.1,
                sum(heights) - 0.2,
            )
        for row, height in zip(rows, heights, strict=True):
            y -= height
            sheet.text(
                figure,
                x - 0.08,
                y + height / 2,
                row.label,
                ha="right",
                va="center",
                color=row.colour or "black",
            )
            draw_row(row, sheet.place(figure, x, y, across, height))
    if not several:
        colour_bar(figure, blocks[0][0].scale, width - right + 0.1, bottom + body / 2 - 0.9, 1.8)
    return figure


def draw_row(row: Row, axes) -> None:
    """Draw slices of one map over the anatomy into axes."""
    scale = row.scale
    display = plotting.plot_anat(
        nifti(row.backdrop), display_mode=row.axis, cut_coords=list(row.cuts), axes=axes, **BACKDROP
    )
    if np.abs(row.values).max() > scale.threshold:
        display.add_overlay(
            nifti(row.values),
            threshold=scale.threshold,
            cmap=scale.cmap,
            vmin=scale.low,
            vmax=scale.high,
        )
    if row.outline is not None and row.outline.any():
        display.add_contours(nifti(row.outline), levels=[0.5], colors=[OUTLINE], linewidths=0.5)
    display.annotate(left_right=row.axis != "x", size=6)


def colour_bar(figure, scale: Scale, left: float, bottom: float, height: float) -> None:
    """A colour bar at a place in inches; small numbers by their power of ten, which stands in the label."""
    power = int(np.floor(np.log10(scale.high))) if scale.high < 0.01 else 0
    factor = 10.0**-power
    colours = ScalarMappable(Normalize(scale.low * factor, scale.high * factor), scale.cmap)
    bar = figure.colorbar(colours, cax=sheet.place(figure, left, bottom, 0.12, height))
    bar.set_label((f"$10^{{{power}}}$ " if power else "") + scale.label, fontsize=7)
    bar.ax.tick_params(labelsize=7, length=2)
    bar.outline.set_linewidth(0.4)


def relevance_scale(maps, brains, positive: bool) -> Scale:
    """Colours that the highest 5 % of brain voxels of all `maps` get, full at the highest .1 %."""
    maps = list(maps)
    sizes = np.concatenate(
        [
            np.abs(values[brain])
            for values, brain in itertools.zip_longest(maps, brains, fillvalue=brains[0])
        ]
    )
    threshold, top = (
        max(float(value), 1e-12)
        for value in np.quantile(sizes if len(sizes) else [0], [0.95, 0.999])
    )
    top = max(top, threshold)
    return Scale(
        POSITIVE if positive else SYMMETRIC,
        threshold,
        0.0 if positive else -top,
        top,
        "logit per voxel",
    )


def threshold_note(scale: Scale) -> str:
    """What `relevance_scale` decided, in words."""
    low, high = f"{scale.threshold:.1e}", f"{scale.high:.1e}"
    return f"{SIGN[scale.low == 0]} relevance: the 5 % of brain voxels highest in size, from {low} logit on; full colour from {high}."


def nifti(values) -> nib.Nifti1Image:
    """An array of the model's grid as an image."""
    return nib.Nifti1Image(np.asarray(values, "float32"), images.AFFINE)


def backdrop(image, brain) -> np.ndarray:
    """A scan scaled to .02..8 inside the brain between its 1st and 99.5th percentile (the brightest is left to the map), 0 outside."""
    low, high = np.quantile(image[brain], [0.01, 0.995]) if brain.any() else (0, 1)
    return np.where(brain, np.clip(0.8 * (image - low) / max(high - low, 1e-12), 0.02, 0.8), 0)


def cuts(weights, brain, axis: str) -> tuple[int, ...]:
    """Coordinates (mm) of the five heaviest slices across one axis, about 1 cm apart, none at the rim of the brain."""
    area = brain.sum(axis=tuple({0, 1, 2} - {"xyz".index(axis)}), keepdims=True)
    wide = nifti(np.where(area >= area.max() / 4, weights, 0))
    return tuple(round(float(mm)) for mm in plotting.find_cut_slices(wide, axis, 5, spacing=5))


def voxels(values, cuts) -> pd.DataFrame:
    """Coordinates (mm) and values of the voxels that axial slices at `cuts` show."""
    at = np.rint((np.array(cuts) - images.AFFINE[2, 3]) / images.AFFINE[2, 2]).astype(int)
    x, y, z = np.nonzero(values[:, :, at])
    mm = nib.affines.apply_affine(images.AFFINE, np.c_[x, y, at[z]]).round(1)
    return pd.DataFrame(mm, columns=["x_mm", "y_mm", "z_mm"]).assign(value=values[x, y, at[z]])
