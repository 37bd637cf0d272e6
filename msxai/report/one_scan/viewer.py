"""The 3D viewer on the page of one scan: niivue with the scan, the map and the lesions.

niivue is JavaScript. The package ipyniivue brings it as one text, which ipyniivue itself writes
into pages (`NiiVue.save_html`). The page holds this text and the images, all packed. None of it
runs before a reader opens the viewer.
"""

import base64
import functools
import gzip
import importlib.util
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import nibabel as nib
import numpy as np

from msxai.data import images
from msxai.report.figures import slices
from msxai.report.one_scan.pictures import MAP_OPACITY, Layers

__all__ = ["Niivue", "Viewer", "build", "niivue"]

_OUTSIDE = -30_000  # steps of the scan's values; no voxel of a brain is so dark
_STEPS_BELOW_THRESHOLD = 100  # of the map's values
_MOST_STEPS = 1e6  # where the threshold is near 0, because most of the map is 0
_COLOURS = 64  # of one sign of the map

_MODULE_END = "export%7B"  # "export{" as it stands in ipyniivue's JavaScript
_NEEDED = {"Niivue", "NVImage"}
# The page's script waits for this event.
_HAND_OVER = "\ndocument.dispatchEvent(new CustomEvent('niivue', { detail: { Niivue, NVImage } }));"
_VERSION = re.compile(r'"@niivue/niivue",version:"([\d.]+)"')
_WEBASSEMBLY = re.compile(r'"AGFzbQ[\w+/]{1000,}=*"')  # base64 of "\0asm..."


@dataclass(frozen=True)
class _Unit:
    """What a scan's values mean, and how many decimals of them are shown."""

    words: str
    decimals: int


_UNITS = {
    "zscore": _Unit("standard deviations from the mean of the brain", 2),
    "max": _Unit("of the maximum of the scan", 3),
}  # by the normalisation of the scan


@dataclass(frozen=True)
class Niivue:
    """The program niivue.

    Attributes
    ----------
    module : str
        JavaScript module that hands `Niivue` and `NVImage` to the page; gzip, base64.
    version : str
        "" where it is not known.
    """

    module: str
    version: str

    @property
    def script(self) -> str:
        """The module as the page runs it."""
        return gzip.decompress(base64.b64decode(self.module)).decode()


@dataclass(frozen=True)
class Viewer:
    """What the page holds for its viewer.

    Attributes
    ----------
    niivue : Niivue
    settings : dict
        For the script in `templates/viewer.html`. `scan`, `map` and `lesions`: NIfTI, gzip, base64
        (`lesions` is None without a mask). `dark`, `bright`: values of the scan drawn black and
        white. `outside`: the scan is lower outside the brain. `unit`, `decimals`: of the scan.
        `threshold`, `full`: magnitudes of the map (logit) between which its colours run. `yes`,
        `no`: colours of positive and negative relevance. `opacity`: of the map, 0 to 1. `green`:
        colour of lesions. `start`: the voxel of the highest magnitude in the brain.
    """

    niivue: Niivue
    settings: dict


def build(layers: Layers, scale: slices.Scale, labels, normalisation: str) -> Viewer | None:
    """Pack a scan, its map and its lesions for the viewer.

    Parameters
    ----------
    layers : Layers
        What the other pictures of the page show.
    scale : msxai.report.figures.slices.Scale
        Colours of the other pictures.
    labels : ndarray of int, shape (96, 114, 96), or None
        Numbers of the lesions (`msxai.regions.lesion_regions.Lesions`).
    normalisation : str
        Of the scan: "zscore" or "max" (`msxai.data.images.normalise`).

    Returns
    -------
    Viewer or None
        Scan and map have values in the brain only. None where the installed ipyniivue does not
        hold niivue as `niivue` expects.
    """
    program = niivue()
    if program is None:
        return None
    unit = _UNITS[normalisation]
    step = 10.0**-unit.decimals
    dark, bright = slices.grey_range(layers.scan, layers.brain)
    settings = {
        "scan": _packed_scan(layers, step),
        "map": _packed_map(layers, scale),
        "lesions": None if labels is None else _packed(labels, "int16"),
        "dark": dark,
        "bright": bright,
        "outside": _OUTSIDE / 2 * step,
        "unit": unit.words,
        "decimals": unit.decimals,
        "threshold": scale.threshold,
        "full": scale.high,
        "yes": _colours(scale, 1),
        "no": _colours(scale, -1),
        "opacity": MAP_OPACITY,
        "green": slices.OUTLINE,
        "start": _highest(layers),
    }
    return Viewer(program, settings)


@functools.cache
def niivue() -> Niivue | None:
    """Take niivue from the installed ipyniivue.

    Returns
    -------
    Niivue or None
        None where this version of ipyniivue does not hold niivue as a module.

    Notes
    -----
    niivue's decoders of zarr (WebAssembly) are left out. The page does not use them, and they are
    more than half of the text.
    """
    package = importlib.util.find_spec("ipyniivue").origin
    bundle = Path(package).with_name("static") / "widget.js"
    text = bundle.read_text(encoding="utf-8")
    module = _module_in(text)
    if module is None:
        return None
    version = _VERSION.search(text)
    return Niivue(
        module=_base64((_WEBASSEMBLY.sub('""', module) + _HAND_OVER).encode()),
        version=version[1] if version else "",
    )


def _module_in(bundle: str) -> str | None:
    """Return niivue's module, which stands in ipyniivue's JavaScript as a percent-encoded text."""
    position = bundle.find(_MODULE_END)
    if position < 0:
        return None
    start = bundle.rfind('"', 0, position) + 1
    end = bundle.find('"', position)
    module = urllib.parse.unquote(bundle[start:end])
    exports = re.findall(r"\w+", module.rpartition("export{")[2])
    return module if _NEEDED.issubset(exports) else None


def _packed_scan(layers: Layers, step: float) -> str:
    """Return the scan in whole steps; outside the brain, it is `_OUTSIDE`."""
    steps = np.clip(np.rint(layers.scan / step), _OUTSIDE / 3, -_OUTSIDE)
    return _packed(np.where(layers.brain, steps, _OUTSIDE), "int16", step)


def _packed_map(layers: Layers, scale: slices.Scale) -> str:
    """Return the map in whole steps. All digits would take three times the space."""
    relevance = np.where(layers.brain, layers.relevance, 0)
    finest = np.abs(relevance).max() / _MOST_STEPS
    step = max(scale.threshold / _STEPS_BELOW_THRESHOLD, finest)
    return _packed(np.rint(relevance / step), "int32", step)


def _packed(values, kind: str, step: float = 1.0) -> str:
    """Return an image on the model's grid as NIfTI whose values are multiples of a step."""
    image = nib.Nifti1Image(np.asarray(values, kind), images.AFFINE)
    image.header.set_slope_inter(step, 0)
    return _base64(image.to_bytes())


def _base64(content: bytes) -> str:
    """Return gzip of some bytes as text, the same for the same bytes."""
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


def _colours(scale: slices.Scale, sign: int) -> dict:
    """Return the colours of one sign of a map, from the threshold on, in the form of niivue."""
    magnitudes = np.linspace(scale.threshold, scale.high, _COLOURS)
    positions = (sign * magnitudes - scale.low) / (scale.high - scale.low)
    rgb = np.rint(255 * matplotlib.colormaps[scale.cmap](positions)).astype(int)
    red, green, blue = rgb[:, :3].T.tolist()
    return {
        "R": red,
        "G": green,
        "B": blue,
        "A": [0] + [255] * (_COLOURS - 1),  # nothing is drawn below the threshold
        "I": np.rint(np.linspace(0, 255, _COLOURS)).astype(int).tolist(),
    }


def _highest(layers: Layers) -> list[int]:
    """Return the voxel of the brain with the highest magnitude of relevance."""
    magnitudes = np.where(layers.brain, np.abs(layers.relevance), -1)
    return [int(index) for index in np.unravel_index(magnitudes.argmax(), magnitudes.shape)]
