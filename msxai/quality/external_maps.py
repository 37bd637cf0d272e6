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

import re
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from msxai import ROOT
from msxai.base import given_paths, provenance
from msxai.base.errors import ImageError, ParameterError
from msxai.data import image_files, images, lesion_filling
from msxai.data.registration import brain_extraction
from msxai.quality import localisation, reference_maps

__all__ = ["BASELINES", "MAP", "Subject", "hashes", "read", "score"]

MAP = "map"
"""Name of the scored map in the table."""

BASELINES = ("random", "prior", "brightness", "edges")

_BLUR = 2.0  # voxels, of the prior
_ENDINGS = (".nii", ".nii.gz")
_ENTITIES = ("sub", "ses")  # of BIDS; they say which files belong together
_NAMELESS = ("", (None, None))  # of a name without words of its own, and without a subject
_SAME_GRID = 0.01  # voxels: largest distance between two headers of one grid


@dataclass(frozen=True)
class Subject:
    """What belongs to one scan; arrays on the grid of its map.

    Attributes
    ----------
    name : str
    relevance : ndarray of shape (X, Y, Z)
    lesions, brain : ndarray of bool, same shape
    scan : ndarray of the same shape, or None
    affine : ndarray of shape (4, 4), or None
        Of the grid; None for an array.
    """

    name: str
    relevance: np.ndarray
    lesions: np.ndarray
    brain: np.ndarray
    scan: np.ndarray | None = None
    affine: np.ndarray | None = None


@dataclass(frozen=True)
class _Entry:
    """One volume: an image file, or a part of an array file."""

    name: str
    path: Path
    array: np.ndarray | None = None

    @property
    def key(self) -> tuple:
        """Subject and session by the file's name; None for what it does not name."""
        matches = [re.search(rf"(?:^|_){name}-([^_.]+)", self.path.name) for name in _ENTITIES]
        return tuple(match and match[1] for match in matches)

    @property
    def label(self) -> str:
        """Where the values are, for an error."""
        return str(self.path) if self.array is None else f"{self.path}, {self.name}"


def read(maps, masks, brains=None, scans=None) -> list[Subject]:
    """Read maps with their masks.

    Parameters
    ----------
    maps, masks : path
        Each a .npy file of shape (N, X, Y, Z) (or with a channel: (N, X, Y, Z, C), (N, C, X, Y, Z);
        channels are added up), one NIfTI file, or a folder of NIfTI files. Files of two folders
        belong together by subject and session, where all names have ``sub-...``, else by their
        order, which their names may not contradict. There are as many. Masks are read as
        `msxai.data.images.load_mask` does.
    brains, scans : path, optional
        Likewise; one of the two is needed. Without brains, scans must be brain-extracted, and the
        brain is what `msxai.data.images.brain_mask` finds in them.

    Returns
    -------
    list of Subject

    Raises
    ------
    ImageError, ParameterError
        A file cannot be used, files do not belong together, or the brain is not known.
    """
    if not brains and not scans:
        raise ParameterError(
            "brains",
            "neither brain masks nor scans",
            "one of them: all measures compare voxels of the brain",
            "Give brain masks (--brain), or scans without the skull (--scan).",
        )
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
        belonging[name] = _in_order(entries, relevance, name)
    subjects = []
    for index, entry in enumerate(relevance):
        belongings = {kind: entries[index] for kind, entries in belonging.items()}
        subjects.append(_subject(entry, belongings))
    return subjects


def hashes(maps, masks, brains=None, scans=None) -> dict:
    """Return the SHA-256 of each file that `read` reads, by kind and name.

    Parameters
    ----------
    maps, masks, brains, scans
        As for `read`.
    """
    given = {"maps": maps, "masks": masks, "brains": brains, "scans": scans}
    of_kinds = {}
    for kind, source in given.items():
        files = _files(source) if source else []
        of_kinds[kind] = {path.name: provenance.sha256(path) for path in files}
    return of_kinds


def _in_order(entries: list[_Entry], maps: list[_Entry], kind: str) -> list[_Entry]:
    """Return what belongs to each map: by subject and session where all names have them."""
    if any(entry.key[0] is None for entry in [*entries, *maps]):
        _check_order(entries, maps, kind)
        return entries
    by_key = {entry.key: entry for entry in entries}
    for group, files in (("maps", maps), (kind, entries)):
        if len({entry.key for entry in files}) < len(files):
            raise ParameterError(
                group,
                "several files of one subject and session",
                "one file for each",
                "Remove the others, or put them into another folder.",
            )
    for entry in maps:
        if entry.key not in by_key:
            raise ParameterError(
                kind,
                f"no file of the subject and session of {entry.path.name}",
                "the same subjects and sessions as in maps",
                "Rename the files, or remove those that do not belong together.",
            )
    return [by_key[entry.key] for entry in maps]


def _check_order(entries: list[_Entry], maps: list[_Entry], kind: str) -> None:
    """Refuse files of which the names say that others belong together than the order does.

    Where one name stands in both lists, all names must, in the same order.
    """
    keys = [entry.key for entry in maps], [entry.key for entry in entries]
    words = _own_words(maps), _own_words(entries)
    for of_maps, of_entries in (keys, words):
        in_both = set(of_maps) & set(of_entries) - set(_NAMELESS)
        if not in_both or of_maps == of_entries:
            continue
        same = [first == second for first, second in zip(of_maps, of_entries, strict=True)]
        different = same.index(False)
        raise ParameterError(
            kind,
            f"other names than in maps: by its order, {entries[different].path.name} would belong "
            f"to {maps[different].path.name}",
            "names that all stand in maps, too, or none of which does",
            "Rename the files, or remove those that do not belong together.",
        )


def _own_words(entries: list[_Entry]) -> list[str]:
    """Return the words of each file's name that do not stand in the names of all files."""
    words = []
    for entry in entries:
        stem = entry.path.name if entry.array is None else entry.name
        for ending in (".gz", ".nii"):
            stem = stem.removesuffix(ending)
        words.append(re.split(r"[_.]", stem.casefold()))
    in_all = set(words[0]).intersection(*words)
    return ["_".join(word for word in own if word not in in_all) for own in words]


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
    same_grid = [entry for entry in elsewhere if _on_one_grid(entry, subject)]
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


def _on_one_grid(first: Subject, second: Subject) -> bool:
    """Return whether voxels of two subjects lie at the same places."""
    if first.lesions.shape != second.lesions.shape:
        return False
    if first.affine is None or second.affine is None:
        return first.affine is second.affine
    return _is_same_grid(first.affine, second.affine, first.lesions.shape)


def _is_same_grid(first, second, shape) -> bool:
    return image_files.distance_in_voxels(first, second, shape) < _SAME_GRID


def _files(source) -> list[Path]:
    """Return the files of a source, in the order of their names."""
    path = given_paths.whole(str(source), ROOT, error=ImageError)
    if not path.is_dir():
        return [path]
    files = []
    for file in sorted(path.iterdir()):
        if file.name.endswith(_ENDINGS) and not file.name.startswith("."):
            files.append(file)
    if not files:
        raise ImageError(path, "no NIfTI file", "a folder of NIfTI files", "Check the path.")
    return files


def _entries(source) -> list[_Entry]:
    """Return each volume of a file or folder."""
    entries = []
    for path in _files(source):
        if path.suffix != ".npy":
            entries.append(_Entry(path.name.split(".")[0], path))
            continue
        for number, volume in enumerate(_volumes(path)):
            entries.append(_Entry(f"{path.stem}-{number:03}", path, volume))
    return entries


def _volumes(path: Path) -> np.ndarray:
    """Return the volumes of an array file, shape (N, X, Y, Z)."""
    try:
        values = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy fails in many ways on a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(
            path, f"no array ({reason})", "an array as numpy.save writes it", "Write it again."
        ) from error
    if not isinstance(values, np.ndarray):  # an archive of several arrays
        raise ImageError(
            path, "several arrays (.npz)", "one array as numpy.save writes it", "Write it again."
        )
    if values.dtype.kind not in "biuf":
        raise ImageError(path, f"values of type {values.dtype}", "numbers", "Write it again.")
    if not values.size:
        raise ImageError(
            path,
            f"shape {values.shape}",
            "at least one value along each axis",
            "Write it again.",
        )
    with np.errstate(over="ignore"):  # what float64 does not hold is infinite, and refused
        is_finite = np.isfinite(values.astype(float, copy=False))
    if not is_finite.all():
        raise ImageError(
            path, "values that are NaN or infinite", "finite numbers", "Write 0 in their place."
        )
    if values.ndim == 3:
        return values[None]
    if values.ndim == 4:
        return values
    if values.ndim == 5:
        # The axis of channels is short: the second one (PyTorch) or the last one (Keras).
        axis = 1 if values.shape[1] < values.shape[-1] else -1
        return values.sum(axis=axis, dtype=np.result_type(values.dtype, "float32"))
    raise ImageError(
        path,
        f"shape {values.shape}",
        "(N, X, Y, Z), or five axes with a channel",
        "Write the maps of all scans into one array.",
    )


def _subject(entry: _Entry, belongings: dict) -> Subject:
    """Bring all that belongs to a map onto its grid."""
    target = _image(entry)
    relevance = np.asarray(target.dataobj, float)
    _check_sum(entry, relevance)
    lesions = _mask(belongings["masks"], entry, target)
    scan = None
    if "scans" in belongings:
        scan = _like(_image(belongings["scans"]), belongings["scans"], entry, target)
    if "brains" in belongings:
        brain = _mask(belongings["brains"], entry, target, brain=True)
    else:
        brain = _brain_of(belongings["scans"], entry, target)
    images.check_lesions(belongings["masks"].label, lesions, brain)
    affine = target.affine if entry.array is None else None
    return Subject(entry.name, relevance, lesions, brain, scan, affine)


def _check_sum(entry: _Entry, relevance) -> None:
    """Refuse a map whose sum is infinite: shares of it would be NaN."""
    with np.errstate(over="ignore"):
        total = np.abs(relevance).sum()
    if not np.isfinite(total):
        raise ImageError(
            entry.label,
            f"values up to {np.abs(relevance).max():.3g}, whose sum is too large for a number",
            "a map whose sum is finite",
            "Divide the map by its largest value.",
        )


def _image(entry: _Entry) -> nib.Nifti1Image:
    """Return a volume as an image; the space of an array is unknown and stands for none."""
    if entry.array is None:
        return images.load(entry.path)
    return nib.Nifti1Image(np.asarray(entry.array, float), np.eye(4))


def _like(image, entry: _Entry, of_map: _Entry, target) -> np.ndarray:
    """Return values on the grid of a map; images by their headers, arrays as they are."""
    values = np.asarray(image.dataobj, float)
    both_images = entry.array is None and of_map.array is None
    same_shape = values.shape == target.shape
    if both_images and same_shape and _is_same_grid(image.affine, target.affine, target.shape):
        return values
    if both_images:
        step = np.linalg.inv(image.affine) @ target.affine
        return ndimage.affine_transform(values, step[:3, :3], step[:3, 3], target.shape, order=1)
    if not same_shape:
        raise ParameterError(
            entry.label,
            f"shape {values.shape}",
            f"that of the map {of_map.label}, {target.shape}",
            "Give both as NIfTI, whose headers say how they lie, or resample one of them.",
        )
    return values


def _mask(entry: _Entry, of_map: _Entry, target, brain: bool = False) -> np.ndarray:
    """Return a mask on the grid of a map; bool."""
    if entry.array is not None:
        inside = images.inside_of(entry.label, np.asarray(entry.array, float))
        mask = nib.Nifti1Image(inside.astype("float32"), np.eye(4))
    else:
        # A map may be 0 anywhere, so a mask is compared with its grid alone.
        grid = None
        if of_map.array is None:
            grid = nib.Nifti1Image(np.ones(target.shape, "uint8"), target.affine, target.header)
        mask = images.load_mask(entry.path, grid, brain=brain)
    if entry.array is None and of_map.array is None:
        values = lesion_filling.on_grid(mask, target)
    else:
        values = _like(mask, entry, of_map, target) >= 0.5
    if brain and not values.any():
        raise ImageError(
            entry.label, "a mask without a voxel", "the voxels of the brain", "Make it anew."
        )
    return values


def _brain_of(entry: _Entry, of_map: _Entry, target) -> np.ndarray:
    """Return the brain of a scan without a head, on the grid of a map; bool."""
    scan = _image(entry)
    if entry.array is None and not brain_extraction.extracted(scan):
        raise ImageError(
            entry.path,
            "a scan with a head around the brain",
            "a scan of the brain alone, where no brain masks are given",
            "Give brain masks (--brain).",
        )
    brain = images.brain_mask(np.asarray(scan.dataobj))
    if not brain.any():
        raise ImageError(entry.label, "a scan without a brain", "a brain", "Check the scan.")
    mask = nib.Nifti1Image(brain.astype("float32"), scan.affine)
    return _like(mask, entry, of_map, target) >= 0.5
