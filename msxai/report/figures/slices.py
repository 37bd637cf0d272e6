"""Rows of brain slices in neurological convention, with a map over the anatomy and a colour bar."""

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from nilearn import plotting

from msxai.data import images
from msxai.report.figures import sheet

__all__ = [
    "AXIAL",
    "BACKDROP",
    "FREQUENCY",
    "ORIENTATION",
    "OUTLINE",
    "POSITIVE",
    "SAGITTAL",
    "SIGN",
    "SYMMETRIC",
    "Block",
    "Row",
    "Scale",
    "backdrop",
    "colour_bar",
    "cuts",
    "draw_row",
    "grey_range",
    "mean_anatomy",
    "nifti",
    "relevance_scale",
    "slice_sheet",
    "threshold_note",
    "voxels",
]

OUTLINE = "#4DFF88"

# Colour maps that are dark at 0, as the backdrop is.
SYMMETRIC = "cold_hot"
POSITIVE = "hot"
FREQUENCY = "plasma"

AXIAL = (-24, -10, 4, 18, 32, 46, 60)  # mm
ORIENTATION = "MNI coordinates in mm. The left of the picture is the left of the brain (L)."
SAGITTAL = " In sagittal slices the right of the picture is the front of the brain."
SIGN = ("Net", "Positive")
BACKDROP = {"vmin": 0, "vmax": 1, "dim": 0, "colorbar": False, "black_bg": True, "annotate": False}

SHOWN_QUANTILE = 0.95  # of the magnitudes in the brain: what lies below is not drawn
FULL_QUANTILE = 0.999  # what lies above has the full colour
SMALLEST = 1e-12  # limits of a map of zeros

_BRAIN = {"x": 146, "y": 180, "z": 152}  # extent of a brain with its margin (mm)
_ACROSS = {"x": "y", "y": "x", "z": "x"}  # horizontal axis of a slice
_UP = {"x": "z", "y": "z", "z": "y"}  # vertical axis of a slice
_TITLE_ROOM = 0.24  # inches
_RIGHT = 0.95
_GAP = 0.15


class Scale(NamedTuple):
    """Colours of a map: values of a magnitude below `threshold` are not drawn."""

    cmap: str
    threshold: float
    low: float
    high: float
    label: str


@dataclass(frozen=True)
class Row:
    """A row of slices of one map: its label, what is drawn, and where it is cut (mm)."""

    label: str
    colour: str
    backdrop: np.ndarray
    values: np.ndarray
    axis: str
    cuts: tuple
    scale: Scale
    outline: np.ndarray | None = None


@dataclass(frozen=True)
class Block:
    """Rows of slices under one title."""

    title: str
    rows: list[Row]


@dataclass(frozen=True)
class _Layout:
    """Where blocks stand on a sheet (inches)."""

    columns: int
    left: float
    width: float
    row_heights: list
    title_room: float

    @property
    def block_height(self) -> float:
        return self.title_room + sum(self.row_heights)

    def lines(self, n_blocks: int) -> int:
        return math.ceil(n_blocks / self.columns)


def mean_anatomy(prepared, rows) -> np.ndarray:
    """Average scans as a backdrop for maps of groups.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Where the scans are.
    rows : sequence of int
        Which scans.

    Returns
    -------
    ndarray of shape (96, 114, 96), float
        From 0 to 1; 0 where fewer than half of the scans have brain.
    """
    total = np.zeros(images.SHAPE)
    n_brains = np.zeros(images.SHAPE)
    for row in rows:
        total += prepared.image(row)
        n_brains += prepared.brain(row)
    return backdrop(total, n_brains >= len(rows) / 2)


def slice_sheet(blocks: list[Block], width: float, columns: int, **texts):
    """Draw blocks of rows of slices, with one colour bar for all or one for each line of blocks.

    Parameters
    ----------
    blocks : list of Block
        All with as many rows.
    width : float
        Of the figure (inches).
    columns : int
        Blocks side by side, at most.
    **texts
        title, notes, synthetic, notice as in `msxai.report.figures.sheet.sheet`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    layout = _layout(blocks, width, columns)
    body = layout.block_height * layout.lines(len(blocks)) + 0.05
    figure, bottom = sheet.sheet(width, body, **texts)
    bar_left = width - _RIGHT + 0.1
    scales = {block.rows[0].scale for block in blocks}
    panels = sheet.in_panels(len(blocks), layout.columns)
    for block, (line, column) in zip(blocks, panels, strict=True):
        x = layout.left + column * (layout.width + _GAP)
        top = bottom + body - line * layout.block_height - layout.title_room
        _draw_block(figure, block, layout, x, top)
        if len(scales) > 1:
            rows_height = sum(layout.row_heights)
            bar_bottom = top - rows_height + 0.1
            colour_bar(figure, block.rows[0].scale, bar_left, bar_bottom, rows_height - 0.2)
    if len(scales) == 1:
        colour_bar(figure, scales.pop(), bar_left, bottom + body / 2 - 0.9, 1.8)
    return figure


def _layout(blocks: list[Block], width: float, columns: int) -> _Layout:
    columns = min(columns, len(blocks))
    rows = blocks[0].rows
    left = 0.75 if rows[0].label else 0.1
    gaps = _GAP * (columns - 1)
    block_width = (width - left - _RIGHT - gaps) / columns
    has_titles = any(block.title for block in blocks)
    return _Layout(
        columns=columns,
        left=left,
        width=block_width,
        row_heights=[_row_height(row, block_width) for row in rows],
        title_room=_TITLE_ROOM if has_titles else 0.05,
    )


def _row_height(row: Row, width: float) -> float:
    slice_width = width / len(row.cuts)
    up = _BRAIN[_UP[row.axis]]
    across = _BRAIN[_ACROSS[row.axis]]
    return slice_width * up / across


def _draw_block(figure, block: Block, layout: _Layout, left: float, top: float) -> None:
    sheet.text(figure, left, top + 0.08, block.title)
    y = top
    for row, height in zip(block.rows, layout.row_heights, strict=True):
        y -= height
        label = {"ha": "right", "va": "center", "color": row.colour or "black"}
        sheet.text(figure, left - 0.08, y + height / 2, row.label, **label)
        axes = sheet.place(figure, left, y, layout.width, height)
        draw_row(row, axes)


@contextmanager
def _earlier_objects_kept() -> Iterator[None]:
    """Spare what exists already from garbage collection, and let it be collected again afterwards.

    nilearn collects garbage for each image that it draws. In a notebook, looking at all that was
    imported takes longer than drawing a slice.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@_earlier_objects_kept()
def draw_row(row: Row, axes) -> None:
    """Draw slices of one map over the anatomy into axes."""
    scale = row.scale
    anatomy = nifti(row.backdrop)
    cut_coords = list(row.cuts)
    display = plotting.plot_anat(
        anatomy, display_mode=row.axis, cut_coords=cut_coords, axes=axes, **BACKDROP
    )
    if np.abs(row.values).max() > scale.threshold:
        limits = {"threshold": scale.threshold, "vmin": scale.low, "vmax": scale.high}
        display.add_overlay(nifti(row.values), cmap=scale.cmap, **limits)
    if row.outline is not None and row.outline.any():
        mask = nifti(row.outline)
        display.add_contours(mask, levels=[0.5], colors=[OUTLINE], linewidths=0.5)
    display.annotate(left_right=row.axis != "x", size=6)


def colour_bar(figure, scale: Scale, left: float, bottom: float, height: float) -> None:
    """Draw a colour bar at a position in inches; the label carries the power of small numbers."""
    power = 0
    label = scale.label
    if scale.high < 0.01:
        power = math.floor(math.log10(scale.high))
        label = f"$10^{{{power}}}$ {label}"
    factor = 10.0**-power
    limits = Normalize(scale.low * factor, scale.high * factor)
    axes = sheet.place(figure, left, bottom, 0.12, height)
    bar = figure.colorbar(ScalarMappable(limits, scale.cmap), cax=axes)
    bar.set_label(label, fontsize=7)
    bar.ax.tick_params(labelsize=7, length=2)
    bar.outline.set_linewidth(0.4)


def relevance_scale(maps, brains, positive: bool) -> Scale:
    """Choose colours for maps of relevance that are drawn together.

    Parameters
    ----------
    maps : iterable of ndarray
        Relevance (logit per voxel).
    brains : list of ndarray of bool
        The brain of each map, or one brain for all.
    positive : bool
        The maps hold positive relevance alone.

    Returns
    -------
    Scale
        The 5 % of brain voxels of the highest magnitude have a colour, the highest 0.1 % the full
        one.
    """
    maps = list(maps)
    if len(brains) == 1:
        brains = brains * len(maps)
    magnitudes = [np.zeros(0)]
    for values, brain in zip(maps, brains, strict=True):
        magnitudes.append(np.abs(values[brain]))
    magnitudes = np.concatenate(magnitudes)
    if not len(magnitudes):
        magnitudes = np.zeros(1)
    threshold, top = np.quantile(magnitudes, [SHOWN_QUANTILE, FULL_QUANTILE])
    threshold = max(float(threshold), SMALLEST)
    top = max(float(top), threshold)
    if positive:
        return Scale(POSITIVE, threshold, 0.0, top, "logit per voxel")
    return Scale(SYMMETRIC, threshold, -top, top, "logit per voxel")


def threshold_note(scale: Scale, voxels: str = "brain voxels") -> str:
    """What `relevance_scale` decided, as a sentence of a caption."""
    sign = SIGN[scale.low == 0]
    return (
        f"{sign} relevance: coloured are the 5 % of {voxels} of the highest magnitude, from "
        f"{scale.threshold:.1e} logit on; the colour is full from {scale.high:.1e}."
    )


def nifti(values) -> nib.Nifti1Image:
    """Turn an array on the model's grid into an image."""
    return nib.Nifti1Image(np.asarray(values, "float32"), images.AFFINE)


def backdrop(image, brain) -> np.ndarray:
    """Scale a scan for display below a map, which keeps the brightest tones.

    Parameters
    ----------
    image : ndarray
        Intensities.
    brain : ndarray of bool, same shape
        Where the brain is.

    Returns
    -------
    ndarray
        0.02 to 0.8 in the brain, from its 1st to its 99.5th percentile; 0 outside.
    """
    low, high = grey_range(image, brain)
    scaled = 0.8 * (image - low) / (high - low)
    return np.where(brain, np.clip(scaled, 0.02, 0.8), 0)


def grey_range(image, brain) -> tuple[float, float]:
    """Return the intensities of a scan that are drawn darkest and brightest.

    Parameters
    ----------
    image : ndarray
        Intensities.
    brain : ndarray of bool, same shape
        Where the brain is.

    Returns
    -------
    tuple of float
        The 1st and the 99.5th percentile of the brain, which differ by at least `SMALLEST`.
    """
    low, high = 0.0, 1.0
    if brain.any():
        low, high = np.quantile(image[brain], [0.01, 0.995])
    return float(low), float(max(high, low + SMALLEST))


def cuts(weights, brain, axis: str) -> tuple[int, ...]:
    """Choose five slices across one axis that hold much of `weights`.

    Parameters
    ----------
    weights : ndarray of shape (96, 114, 96)
        What the slices should show, at least 0.
    brain : ndarray of bool, same shape
        Slices at the rim of the brain are not chosen.
    axis : str
        "x", "y" or "z".

    Returns
    -------
    tuple of int
        Coordinates (mm), about 1 cm apart.
    """
    in_slice = tuple({0, 1, 2} - {"xyz".index(axis)})
    area = brain.sum(axis=in_slice, keepdims=True)
    is_wide = area >= area.max() / 4
    eligible = nifti(np.where(is_wide, weights, 0))
    coordinates = plotting.find_cut_slices(eligible, axis, 5, spacing=5)
    return tuple(round(float(coordinate)) for coordinate in coordinates)


def voxels(values, cuts) -> pd.DataFrame:
    """List the voxels that axial slices at `cuts` (mm) show: x_mm, y_mm, z_mm and value."""
    step = images.AFFINE[2, 2]
    origin = images.AFFINE[2, 3]
    depths = np.rint((np.array(cuts) - origin) / step).astype(int)
    x, y, slice_index = np.nonzero(values[:, :, depths])
    z = depths[slice_index]
    indices = np.column_stack([x, y, z])
    coordinates = nib.affines.apply_affine(images.AFFINE, indices).round(1)
    table = pd.DataFrame(coordinates, columns=["x_mm", "y_mm", "z_mm"])
    return table.assign(value=values[x, y, z])
