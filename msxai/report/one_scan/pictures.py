"""Pictures of one scan for its page: axial slices, the map over them, outlines of lesions.

All pictures are drawn on the model's grid, inside the brain mask only, so that no face is shown.
The left of a picture is the left of the brain, its top is the front.
"""

import base64
import io
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.image import imsave
from scipy import ndimage

from msxai.data import images
from msxai.quality.two_visits import Comparison
from msxai.report.figures import slices

__all__ = [
    "MAP_OPACITY",
    "ChangePictures",
    "Layers",
    "Pictures",
    "colour_bar",
    "draw",
    "draw_changes",
]

MAP_OPACITY = 0.85
"""Of coloured voxels over the scan."""

_ENLARGED = 4  # pixels along the edge of a voxel
_MAP_ENLARGED = 2  # the map is smooth: half as many pixels look the same
_CROP = 20  # voxels from the centre of a lesion's small picture to its edge
_MOST_CROPS = 60  # small pictures of lesions, 5 KB each
_FEWEST_BRAIN = 150  # voxels of brain in the first and the last slice
_OVERVIEW = 8  # slices of the overview
_LESION_COLOUR = (77, 255, 136)
_JPEG = {"quality": 82, "subsampling": 0}
_STEPS = 64  # of the colour bar
_CHANGED_SLICES = 6
_APART = 3  # voxels between two slices that show a change


@dataclass(frozen=True)
class Layers:
    """What is drawn of a scan; arrays on the model's grid.

    Attributes
    ----------
    scan, brain : ndarray of shape (96, 114, 96)
    relevance : ndarray of the same shape
    lesions : ndarray of bool, same shape, or None
    t1 : ndarray of the same shape, or None
    """

    scan: np.ndarray
    brain: np.ndarray
    relevance: np.ndarray
    lesions: np.ndarray | None = None
    t1: np.ndarray | None = None


@dataclass(frozen=True)
class Pictures:
    """Data URIs of all pictures.

    Attributes
    ----------
    slices : list of dict
        One a slice, bottom to top: z (voxel), mm, scan, map, and lesions and t1 where given.
    first : int
        Index of the slice to begin with: the one of most lesions, else of most relevance.
    overview : list of dict
        mm, plain (scan and lesions) and overlaid (with the map) of a few slices.
    crops : dict
        Number of a lesion to a small picture of it; the largest lesions have one.
    scale : msxai.report.figures.slices.Scale
        Colours of the map.
    """

    slices: list[dict]
    first: int
    overview: list[dict]
    crops: dict[int, str]
    scale: slices.Scale


def draw(layers: Layers, labels=None, step: int = 1) -> Pictures:
    """Draw all pictures of a scan.

    Parameters
    ----------
    layers : Layers
    labels : ndarray of int, shape (96, 114, 96), optional
        Numbers of the lesions, the largest first (`msxai.regions.lesion_regions.Lesions`).
    step : int
        Every `step`-th slice is drawn.
    """
    scale = slices.relevance_scale([layers.relevance], [layers.brain], False)
    grey = slices.backdrop(layers.scan, layers.brain) / 0.8
    t1 = None
    if layers.t1 is not None:
        t1 = slices.backdrop(layers.t1, layers.brain) / 0.8
    depths = np.flatnonzero(layers.brain.sum(axis=(0, 1)) >= _FEWEST_BRAIN)
    if not len(depths):
        depths = np.arange(images.SHAPE[2])
    depths = depths[::step]
    drawn = [_slice(layers, grey, t1, scale, int(z)) for z in depths]
    crops = {}
    if labels is not None:
        for number in np.unique(labels[labels > 0])[:_MOST_CROPS]:
            crops[int(number)] = _crop(grey, labels == number, layers.lesions)
    return Pictures(
        slices=drawn,
        first=_first(layers, depths),
        overview=_overview(layers, grey, scale, depths),
        crops=crops,
        scale=scale,
    )


@dataclass(frozen=True)
class ChangePictures:
    """Data URIs of slices of two visits.

    Attributes
    ----------
    slices : list of dict
        Top to bottom: mm, before and now (scans with the outlines of their lesions), change (the
        change of the map over the scan of now).
    scale : msxai.report.figures.slices.Scale
        Colours of the change.
    """

    slices: list[dict]
    scale: slices.Scale


def draw_changes(
    comparison: Comparison, limits: tuple[float, float] | None = None
) -> ChangePictures:
    """Draw the slices in which most has changed.

    Parameters
    ----------
    comparison : msxai.quality.two_visits.Comparison
    limits : tuple of float, optional
        Changes of a smaller magnitude than the first have no colour, those from the second on have
        the full one. By default, the 5 % of the brain's voxels that change most have a colour.
    """
    before, now = comparison.before, comparison.now
    change = comparison.relevance_change
    scale = slices.relevance_scale([change], [comparison.brain], False)
    if limits is not None:
        threshold, full = limits
        scale = scale._replace(threshold=threshold, low=-full, high=full)
    layers = Layers(scan=now.scan, brain=comparison.brain, relevance=change)
    grey_before = slices.backdrop(before.scan, before.brain) / 0.8
    grey_now = slices.backdrop(now.scan, now.brain) / 0.8
    drawn = []
    for z in _changed_slices(comparison, scale.threshold):
        overlaid = _overlaid(_grey(grey_now[:, :, z], _MAP_ENLARGED), layers, scale, z)
        pictures = {
            "before": _with_outline(_grey(grey_before[:, :, z], _MAP_ENLARGED), before.lesions, z),
            "now": _with_outline(_grey(grey_now[:, :, z], _MAP_ENLARGED), now.lesions, z),
            "change": _with_outline(overlaid, now.lesions, z),
        }
        uris = {name: _jpeg(picture) for name, picture in pictures.items()}
        drawn.append({"mm": _millimetres(z), **uris})
    return ChangePictures(drawn, scale)


def colour_bar(scale: slices.Scale) -> str:
    """Return the colours of a map, from negative to positive, as a CSS gradient."""
    colours = matplotlib.colormaps[scale.cmap](np.linspace(0, 1, _STEPS))[:, :3]
    stops = ["rgb({:.0f} {:.0f} {:.0f})".format(*(255 * colour)) for colour in colours]
    return f"linear-gradient(to right, {', '.join(stops)})"


def _slice(layers: Layers, grey, t1, scale: slices.Scale, z: int) -> dict:
    """Return the layers of one slice."""
    drawn = {
        "z": z,
        "mm": _millimetres(z),
        "scan": _jpeg(_grey(grey[:, :, z], _ENLARGED)),
        "map": _png(_coloured(layers, scale, z, _MAP_ENLARGED)),
    }
    if layers.lesions is not None:
        outline = _outline(layers.lesions[:, :, z], _ENLARGED)
        picture = np.zeros((*outline.shape, 4), "uint8")
        picture[outline] = (*_LESION_COLOUR, 255)
        drawn["lesions"] = _png(picture)
    if t1 is not None:
        drawn["t1"] = _jpeg(_grey(t1[:, :, z], _ENLARGED))
    return drawn


def _first(layers: Layers, depths) -> int:
    """Return the index of the slice that shows most."""
    weights = np.abs(layers.relevance * layers.brain)
    if layers.lesions is not None and layers.lesions.any():
        weights = layers.lesions
    return int(weights.sum(axis=(0, 1))[depths].argmax())


def _overview(layers: Layers, grey, scale: slices.Scale, depths) -> list[dict]:
    """Return evenly spaced slices, without and with the map."""
    inner = depths[len(depths) // 8 : -max(len(depths) // 8, 1)]
    if not len(inner):
        inner = depths
    chosen = inner[np.linspace(0, len(inner) - 1, _OVERVIEW).round().astype(int)]
    pictures = []
    for z in np.unique(chosen)[::-1]:
        plain = _grey(grey[:, :, z], _MAP_ENLARGED)
        overlaid = _overlaid(plain, layers, scale, z)
        if layers.lesions is not None:
            outline = _outline(layers.lesions[:, :, z], _MAP_ENLARGED)
            plain[outline] = _LESION_COLOUR
            overlaid[outline] = _LESION_COLOUR
        pictures.append({"mm": _millimetres(z), "plain": _jpeg(plain), "overlaid": _jpeg(overlaid)})
    return pictures


def _overlaid(plain, layers: Layers, scale: slices.Scale, z: int) -> np.ndarray:
    """Return an enlarged slice with the map over it, uint8."""
    colours = _coloured(layers, scale, z, _MAP_ENLARGED)
    opacity = colours[..., 3:] / 255
    return (plain * (1 - opacity) + colours[..., :3] * opacity).astype("uint8")


def _with_outline(picture, lesions, z: int) -> np.ndarray:
    """Return an enlarged slice with the outlines of the lesions, where there are any."""
    outlined = picture.copy()
    if lesions is not None:
        outlined[_outline(lesions.labels[:, :, z] > 0, _MAP_ENLARGED)] = _LESION_COLOUR
    return outlined


def _changed_slices(comparison: Comparison, threshold: float) -> list[int]:
    """Return the slices in which lesions and map change most, top to bottom."""
    brain = comparison.brain
    magnitude = np.abs(comparison.relevance_change * brain)
    magnitude[magnitude <= threshold] = 0
    weights = _share_of_slices(magnitude)
    if comparison.lesions is not None:
        visits = (comparison.before, comparison.now)
        first, second = (visit.lesions.labels > 0 for visit in visits)
        weights = weights + _share_of_slices(first ^ second)
    weights = weights + 1e-6 * _share_of_slices(brain)  # where nothing has changed
    weights[brain.sum(axis=(0, 1)) < _FEWEST_BRAIN] = 0
    chosen = []
    while len(chosen) < _CHANGED_SLICES and weights.any():
        z = int(weights.argmax())
        chosen.append(z)
        weights[max(z - _APART + 1, 0) : z + _APART] = 0
    return sorted(chosen, reverse=True)


def _share_of_slices(values) -> np.ndarray:
    """Return the sum of each axial slice, divided by the largest one."""
    sums = values.sum(axis=(0, 1), dtype=float)
    return sums / max(sums.max(), slices.SMALLEST)


def _crop(grey, lesion, lesions) -> str:
    """Return a small picture of one lesion, in the slice where it is largest."""
    z = int(lesion.sum(axis=(0, 1)).argmax())
    centre = np.argwhere(lesion[:, :, z]).mean(axis=0).round().astype(int)
    box = []
    for middle, length in zip(centre, grey.shape[:2], strict=True):
        start = int(np.clip(middle - _CROP, 0, length - 2 * _CROP))
        box.append(slice(start, start + 2 * _CROP))
    picture = _grey(grey[:, :, z][tuple(box)], _MAP_ENLARGED)
    picture[_outline(lesions[:, :, z][tuple(box)], _MAP_ENLARGED)] = (255, 255, 255)
    picture[_outline(lesion[:, :, z][tuple(box)], _MAP_ENLARGED)] = _LESION_COLOUR
    return _jpeg(picture)


def _millimetres(z) -> int:
    return round(float(images.AFFINE[2, 3] + z * images.AFFINE[2, 2]))


def _upright(plane) -> np.ndarray:
    """Turn a plane so that the front is at the top and the left is at the left."""
    return plane.T[::-1]


def _grey(plane, factor: int) -> np.ndarray:
    """Return an enlarged plane of 0 to 1 as RGB, uint8."""
    enlarged = ndimage.zoom(_upright(plane), factor, order=1, grid_mode=True, mode="nearest")
    levels = (np.clip(enlarged, 0, 1) * 255).astype("uint8")
    return np.repeat(levels[..., None], 3, axis=2)


def _coloured(layers: Layers, scale: slices.Scale, z: int, factor: int) -> np.ndarray:
    """Return a slice of the map as RGBA, uint8: transparent below the threshold of the scale."""
    plane = np.where(layers.brain[:, :, z], layers.relevance[:, :, z], 0)
    values = ndimage.zoom(_upright(plane), factor, order=1, grid_mode=True, mode="nearest")
    position = (values - scale.low) / (scale.high - scale.low)
    picture = matplotlib.colormaps[scale.cmap](np.clip(position, 0, 1))
    picture[..., 3] = np.where(np.abs(values) > scale.threshold, MAP_OPACITY, 0)
    return (picture * 255).astype("uint8")


def _outline(mask, factor: int) -> np.ndarray:
    """Return the pixels just inside the border of an enlarged mask."""
    enlarged = _upright(mask).repeat(factor, 0).repeat(factor, 1)
    return enlarged & ~ndimage.binary_erosion(enlarged)


def _jpeg(picture) -> str:
    return _uri(picture, "jpeg", pil_kwargs=_JPEG)


def _png(picture) -> str:
    return _uri(picture, "png", pil_kwargs={"optimize": True})


def _uri(picture, kind: str, **options) -> str:
    """Return a picture as a data URI, without any metadata."""
    file = io.BytesIO()
    imsave(file, np.ascontiguousarray(picture), format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
