"""Heatmaps of any program, scored as those of the league: do they find the lesions?

Maps and masks are arrays (.npy, of zennit, captum or Quantus) or images (NIfTI). Masks of images
are brought onto the grid of their map by the headers. Baselines know nothing of the map:

random
    Noise inside the brain.
prior
    Where lesions of the other subjects are (their mean mask, blurred); from two subjects on.
brightness, edges
    Of the scan; where scans are given.
"""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from msxai.base.errors import ImageError, ParameterError
from msxai.base.parameters import located
from msxai.data import images, lesion_filling
from msxai.quality import localisation, reference_maps

__all__ = ["BASELINES", "MAP", "Subject", "read", "score"]

MAP = "map"
"""Name of the scored map in the table."""

BASELINES = ("random", "prior", "brightness", "edges")

_BLUR = 2.0  # voxels, of the prior
_ENDINGS = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Subject:
    """What belongs to one scan; arrays on the grid of its map.

    Attributes
    ----------
    name : str
    relevance : ndarray of shape (X, Y, Z)
    lesions, brain : ndarray of bool, same shape
    scan : ndarray of the same shape, or None
    """

    name: str
    relevance: np.ndarray
    lesions: np.ndarray
    brain: np.ndarray
    scan: np.ndarray | None = None


def read(maps, masks, brains=None, scans=None) -> list[Subject]:
    """Read maps with their masks.

    Parameters
    ----------
    maps, masks : path
        Each a .npy file of shape (N, X, Y, Z) (or with a channel: (N, X, Y, Z, C), (N, C, X, Y, Z);
        channels are added up), one NIfTI file, or a folder of NIfTI files. Files of two folders
        belong together by their order, and there are as many.
    brains, scans : path, optional
        Likewise. Without brains, the brain is where the scan, else the map, is not 0.

    Returns
    -------
    list of Subject

    Raises
    ------
    ImageError, ParameterError
        A file cannot be used, or numbers or shapes do not fit.
    """
    relevance = _entries(maps)
    belonging = {"masks": _entries(masks)}
    if brains:
        belonging["brains"] = _entries(brains)
    if scans:
        belonging["scans"] = _entries(scans)
    for name, entries in belonging.items():
        if len(entries) != len(relevance):
            raise ParameterError(
                name,
                f"{len(entries)} {name} for {len(relevance)} maps",
                "one for each map, in the same order",
                "Add the missing ones, or remove the extra ones.",
            )
    subjects = []
    for index, (name, entry) in enumerate(relevance):
        belongings = {kind: entries[index][1] for kind, entries in belonging.items()}
        subjects.append(_subject(name, entry, belongings))
    return subjects


def score(subjects: list[Subject], seed: int = 0) -> pd.DataFrame:
    """Score each map and its baselines by all measures of `msxai.quality.localisation`.

    Parameters
    ----------
    subjects : list of Subject
        At least one with a lesion in its brain.
    seed : int
        Of the random map.

    Returns
    -------
    pandas.DataFrame
        One row a map and subject with lesions: map, participant_id and the measures. It is what
        `msxai.quality.localisation.rank` takes.

    Raises
    ------
    ParameterError
        No subject has a lesion.
    """
    rows = []
    for index, subject in enumerate(subjects):
        if not (subject.lesions & subject.brain).any():
            continue
        target = localisation.Target(subject.lesions & subject.brain, subject.brain)
        compared = {MAP: subject.relevance} | _baselines(subjects, index, seed)
        for name, relevance in compared.items():
            measures = localisation.measure(relevance, target.lesions, target=target)
            rows.append({"map": name, "participant_id": subject.name, **measures})
    if not rows:
        raise ParameterError(
            "masks", "no lesion inside a brain", "a lesion in at least one mask", "Check the masks."
        )
    return pd.DataFrame(rows)


def _baselines(subjects: list[Subject], index: int, seed: int) -> dict:
    """Return the baselines of one subject."""
    subject = subjects[index]
    rng = np.random.default_rng([seed, index])
    baselines = {"random": rng.random(subject.brain.shape) * subject.brain}
    elsewhere = [entry for number, entry in enumerate(subjects) if number != index]
    same_grid = [entry for entry in elsewhere if entry.lesions.shape == subject.lesions.shape]
    if same_grid:
        mean = np.mean([entry.lesions for entry in same_grid], axis=0)
        baselines["prior"] = ndimage.gaussian_filter(mean, _BLUR) * subject.brain
    if subject.scan is not None:
        inside = subject.scan[subject.brain]
        zscore = (subject.scan - inside.mean()) / max(inside.std(), 1e-12)
        bright = np.where(subject.brain, zscore, 0)
        baselines["brightness"] = reference_maps.brightness(bright, subject.brain, 0.0)
        baselines["edges"] = reference_maps.edges(bright, subject.brain)
    return baselines


def _entries(source) -> list[tuple]:
    """Return name and content (ndarray or image) of each scan of a file or folder."""
    path = located(str(source))
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.name.endswith(_ENDINGS)]
        if not files:
            raise ImageError(path, "no NIfTI file", "a folder of NIfTI files", "Check the path.")
        return [(file.name.split(".")[0], images.load(file)) for file in files]
    if path.suffix == ".npy":
        volumes = _volumes(path)
        return [(f"{path.stem}-{number:03}", volume) for number, volume in enumerate(volumes)]
    return [(path.name.split(".")[0], images.load(path))]


def _volumes(path: Path) -> np.ndarray:
    """Return the volumes of an array file, shape (N, X, Y, Z)."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageError(
            path, f"no array ({error})", "an array as numpy.save writes it", "Write it again."
        ) from error
    if values.ndim == 3:
        return values[None]
    if values.ndim == 4:
        return values
    if values.ndim == 5:
        # The axis of channels is short: the second one (PyTorch) or the last one (Keras).
        axis = 1 if values.shape[1] < values.shape[-1] else -1
        return values.sum(axis=axis)
    raise ImageError(
        path,
        f"shape {values.shape}",
        "(N, X, Y, Z), or five axes with a channel",
        "Write the maps of all scans into one array.",
    )


def _subject(name: str, entry, belongings: dict) -> Subject:
    """Bring all that belongs to a map onto its grid."""
    relevance = _values(entry)
    lesions = _mask(belongings["masks"], entry, f"mask of {name}")
    scan = None
    if "scans" in belongings:
        scan = _like(belongings["scans"], entry, f"scan of {name}")
    if "brains" in belongings:
        brain = _mask(belongings["brains"], entry, f"brain of {name}")
    else:
        brain = (relevance if scan is None else scan) != 0
        brain = ndimage.binary_fill_holes(brain | lesions)
    return Subject(name, relevance, lesions, brain, scan)


def _values(entry) -> np.ndarray:
    if isinstance(entry, np.ndarray):
        return entry.astype(float)
    return np.asarray(entry.dataobj, float)


def _like(entry, target, where: str) -> np.ndarray:
    """Return values on the grid of a map; images by their headers, arrays as they are."""
    values = _values(entry)
    both_images = not isinstance(entry, np.ndarray) and not isinstance(target, np.ndarray)
    if both_images and not _same_grid(entry, target):
        step = np.linalg.inv(entry.affine) @ target.affine
        return ndimage.affine_transform(values, step[:3, :3], step[:3, 3], target.shape, order=1)
    if values.shape != _values(target).shape:
        raise ParameterError(
            where,
            f"shape {values.shape}",
            f"that of the map, {_values(target).shape}",
            "Give both as NIfTI, whose headers say how they lie, or resample one of them.",
        )
    return values


def _mask(entry, target, where: str) -> np.ndarray:
    """Return a mask on the grid of a map; bool."""
    if isinstance(entry, np.ndarray) or isinstance(target, np.ndarray):
        return _like(entry, target, where) >= 0.5
    mask = nib.Nifti1Image((_values(entry) >= 0.5).astype("float32"), entry.affine)
    return lesion_filling.on_grid(mask, target)


def _same_grid(first, second) -> bool:
    return first.shape == second.shape and np.allclose(first.affine, second.affine, atol=1e-4)
