"""Prepared arrays: a cohort on the model's grid in one HDF5 file, one compressed chunk a scan."""

import hashlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from msxai.base import provenance
from msxai.base.errors import ImageError, RegistrationError, SplitError, StaleInputError
from msxai.base.parameters import one_of
from msxai.data import images
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import Cohort
from msxai.data.registration import registration
from msxai.data.registration.derivatives import describe, registered

NORMALISATIONS = ("zscore", "max", "voxelwise")
ON_ERROR = ("stop", "leave out")
STORE = {
    "compression": "gzip",
    "compression_opts": 1,
}  # without the shuffle filter: .56 MB a scan in place of .98, and faster


@dataclass(frozen=True)
class PreparationOptions:
    """How scans are brought onto the model's grid.

    Parameters
    ----------
    normalisation : {"zscore", "max", "voxelwise"}
        "zscore" and "max" as in `msxai.data.images.normalise`. "voxelwise": min-max of each scan,
        then the z-score of each voxel over the training part, as the paper does before
        pre-training.
    interpolation : {"linear", "continuous"}
        See `msxai.data.images.to_grid`.
    registration : {"auto", "none", "affine", "full"}
        See `msxai.data.registration.registration.register`. A scan that is not in MNI space gets
        there, with its masks, by one interpolation.
    derivatives : path, optional
        Folder where transforms and brain masks of registered scans are kept (BIDS) and found again
        by a later run; needed unless `registration` is "none".
    on_error : {"stop", "leave out"}
        What happens at a scan that cannot be used: the preparation ends, or the scan is left out
        and named (`Prepared.left_out`).

    Raises
    ------
    ParameterError
        An unknown value.
    """

    normalisation: str = "zscore"
    interpolation: str = "linear"
    registration: str = "none"
    derivatives: str | Path | None = None
    on_error: str = "stop"

    def __post_init__(self):
        one_of("normalisation", self.normalisation, NORMALISATIONS)
        one_of("interpolation", self.interpolation, images.INTERPOLATIONS)
        one_of("registration", self.registration, registration.MODES)
        one_of("on_error", self.on_error, ON_ERROR)


DEFAULT_OPTIONS = PreparationOptions()


def prepare(
    cohort: Cohort,
    split: pd.DataFrame,
    path,
    options: PreparationOptions = DEFAULT_OPTIONS,
    *,
    alter=None,
    parameters=None,
    jobs: int = 1,
) -> None:
    """Bring a cohort onto the model's grid and write it, all or nothing; memory does not grow with the cohort.

    Parameters
    ----------
    cohort : Cohort
    split : pandas.DataFrame
        Of the same scans (`msxai.data.cohorts.splits.make`).
    path : path
        HDF5 file to write: images float32 (N, 96, 114, 96), brain and lesions bool of the same shape, the table, hashes, provenance.
    options : PreparationOptions
        Normalisation, interpolation, registration, and what happens at a scan that cannot be used.
    alter : callable, optional
        ``alter(scan, lesions, row)`` gives another scan of the same grid before it is resampled (`msxai.data.lesion_filling.Filler`), from the scan
        in MNI152 space by its affine, its lesion mask or None, and its row of the cohort's table as a dict. Must survive pickling.
    parameters : dict, optional
        Stored beside.
    jobs : int
        Processes; the result does not depend on it.

    Raises
    ------
    ParameterError, ImageError, RegistrationError
        The latter two name the scan or mask.
    SplitError
        The split is of other scans, or one file stands under two subjects in different parts.
    """
    table = cohort.table.merge(
        splits.check(split), on=["participant_id", "session_id"], how="left", validate="1:1"
    )
    if table["part"].isna().any() or len(split) != len(table):
        raise SplitError(
            "split",
            "other scans than the cohort has",
            "one part for each scan",
            "Run 01_data_preparation from its first cell.",
        )
    settings = (cohort.modality, options, alter)
    work = Parallel(jobs, return_as="generator")(
        delayed(_attempt)(row, *settings) for row in table.to_dict("records")
    )
    with provenance.replacing(path) as draft, h5py.File(draft, "w") as file:
        shape = (len(table), *images.SHAPE)
        stores = {
            name: file.create_dataset(
                name, shape, kind, chunks=(1, *images.SHAPE), maxshape=shape, **STORE
            )
            for name, kind in (("images", "f4"), ("brain", "?"), ("lesions", "?"))
        }
        about, errors = [], {}
        for row, found in enumerate(tqdm(work, total=len(table), desc="preparing", unit="scan")):
            if isinstance(found, Exception):
                errors[row] = found
                continue
            for name, values in found[0].items():
                stores[name][len(about)] = values
            about.append(found[1])
        if not about:
            raise next(iter(errors.values()))
        left_out = [
            {**table.iloc[row][["participant_id", "session_id"]], "reason": str(error)}
            for row, error in errors.items()
        ]
        table = table.drop(index=list(errors)).reset_index(drop=True).assign(**pd.DataFrame(about))
        for store in stores.values():
            store.resize(len(table), axis=0)
        if not table["registration"].str.contains('"route": "resampled"').all():
            describe(options.derivatives, cohort.name, cohort.synthetic)
        _same_scan_twice(table)
        if options.normalisation == "voxelwise":
            _zscore_voxels(stores["images"], np.flatnonzero(table["part"] == "training"))
        file.create_dataset(
            "sha256", data=[_digest(stores, row).encode() for row in range(len(table))]
        )
        file.attrs.update(
            name=cohort.name,
            synthetic=cohort.synthetic,
            modality=cohort.modality,
            normalisation=options.normalisation,
            interpolation=options.interpolation,
            left_out=json.dumps(left_out),
            parameters=json.dumps(parameters or {}),
        )
        file.create_dataset(
            "table", data=table.to_json(orient="table", index=False)
        )  # an attribute ends at 64 KB
        file.attrs["affine"] = images.AFFINE


def _attempt(
    row: dict, modality: str, options: PreparationOptions, alter
) -> tuple[dict, dict] | ImageError | RegistrationError:
    """What `_scan` gives, or its error where the scan may be left out; runs in a worker."""
    try:
        return _scan(row, modality, options, alter)
    except (ImageError, RegistrationError) as error:
        if options.on_error == "stop":
            raise
        return error


def _scan(
    row: dict,
    modality: str,
    options: PreparationOptions,
    alter,
) -> tuple[dict, dict]:
    """Arrays of one scan; hashes of its files, and its registration as JSON."""
    interpolation = options.interpolation
    normalisation = options.normalisation
    if normalisation == "voxelwise":
        normalisation = "minmax"
    register = options.registration
    scan = images.load(row["image"])
    told = np.asarray(scan.dataobj)[np.asarray(scan.dataobj) != 0]
    if not len(told) or np.ptp(told) == 0:  # resampling would give its edge other values
        raise ImageError(
            row["image"],
            "the same value in all voxels",
            "a brain with contrast",
            "Look at the scan: is it a mask?",
        )
    masks = {
        name: images.load_mask(row[name], scan, name == "brain_mask")
        for name in ("brain_mask", "lesion_mask")
        if row[name]
    }
    values = images.to_grid(scan, interpolation)
    brain = (
        images.mask_to_grid(masks["brain_mask"]) if row["brain_mask"] else images.brain_mask(values)
    )
    way = {"route": "resampled", "flags": []}
    if register in ("affine", "full") or (
        register == "auto" and not registration.in_mni_space(scan, values, brain)
    ):
        found = _register(row, modality, register, options.derivatives)
        scan, way = registration.place(found.image, found.matrix), registration.summary(found)
        masks = {name: registration.place(mask, found.matrix) for name, mask in masks.items()}
        values, brain = (
            images.to_grid(scan, interpolation),
            images.mask_to_grid(registration.place(found.brain, found.matrix)),
        )
        values = (
            np.where(brain, values, 0) if found.route == "full" else values
        )  # a head is not the network's business
    if alter is not None:
        altered = images.to_grid(alter(scan, masks.get("lesion_mask"), row), interpolation)
        values = np.where(brain, altered, 0) if way["route"] == "full" else altered
    lesions = (
        images.mask_to_grid(masks["lesion_mask"])
        if row["lesion_mask"]
        else np.zeros(images.SHAPE, bool)
    )
    try:
        values = images.normalise(values, brain, normalisation)
    except ImageError as error:
        raise ImageError(row["image"], error.found, error.expected, error.mend) from error
    files = {
        "source": row["image"],
        "brain_mask": row["brain_mask"],
        "lesion_mask": row["lesion_mask"],
    }
    hashes = {
        f"{name}_sha256": provenance.sha256(path) if path else None for name, path in files.items()
    }
    return {"images": values, "brain": brain, "lesions": lesions}, {
        **hashes,
        "registration": json.dumps(way),
    }


def _register(row: dict, modality: str, mode: str, derivatives) -> registration.Registration:
    """A scan's registration, by way of the FLAIR of the same visit where there is one."""
    names = [name for name in (row["participant_id"], row["session_id"]) if name]
    where = {"folder": Path(derivatives, *names, "anat"), "entities": "_".join(names), "mode": mode}
    partner = (
        registered(row["flair"], modality="FLAIR", **where)
        if row.get("flair") and modality != "FLAIR"
        else None
    )
    return registered(
        row["image"], modality=modality, brain=row["brain_mask"], partner=partner, **where
    )


def _same_scan_twice(table: pd.DataFrame) -> None:
    for _, group in table.groupby("source_sha256"):
        if group["part"].nunique() > 1:
            first, second = group.drop_duplicates("part")[["participant_id", "part"]].to_numpy()[:2]
            raise SplitError(
                f"{first[0]} ({first[1]}) and {second[0]} ({second[1]})",
                "the same file under two names",
                "no scan in two parts of the split",
                "One of them is mislabelled: take it out of the cohort's table.",
            )


def _zscore_voxels(store, training) -> None:
    total, squares = np.zeros(images.SHAPE), np.zeros(images.SHAPE)
    for row in training:
        values = store[row].astype(float)
        total += values
        squares += values**2
    mean = total / len(training)
    spread = np.sqrt(np.maximum(squares / len(training) - mean**2, 0))
    for row in range(len(store)):
        store[row] = np.divide(
            store[row] - mean, spread, out=np.zeros(images.SHAPE), where=spread > 1e-6
        )


def _digest(stores, row: int) -> str:
    return hashlib.sha256(
        b"".join(stores[name][row].tobytes() for name in ("images", "brain", "lesions"))
    ).hexdigest()


class Prepared:
    """Reader of a prepared cohort; opens the file when first needed, and may be read by several threads.

    Parameters
    ----------
    path : path
        From `prepare`.
    split : path, optional
        The split file; each scan's part is what it says. Without it the part is the one stored beside the arrays.

    Attributes
    ----------
    table : pandas.DataFrame
        The cohort's table with part, hashes of the files (source_sha256, brain_mask_sha256, lesion_mask_sha256) and registration (JSON:
        route, flags; where it is not "resampled" matrix, scales and Dice too), one row a scan.
    left_out : list of dict
        participant_id, session_id and reason of the scans that could not be used.
    has_lesions : ndarray of bool, shape (N,)
        Whether a scan has a lesion mask (which may be empty).
    affine : ndarray of shape (4, 4)
    name, modality, normalisation, interpolation : str
    parameters : dict
        What `prepare` was given as such.
    synthetic : bool
    """

    def __init__(self, path, split=None):
        self.path, self._file, self._lock = Path(path), None, threading.Lock()
        with h5py.File(self.path) as file:
            attrs, stored = dict(file.attrs), json.loads(file["table"][()])
        self.table = pd.DataFrame(stored["data"]).reindex(
            columns=[field["name"] for field in stored["schema"]["fields"]]
        )
        self.table["label"] = self.table["label"].astype("Int64")
        if split is not None:
            parts = splits.read(split).set_index(["participant_id", "session_id"])["part"]
            self.table["part"] = [
                parts.get((row.participant_id, row.session_id)) for row in self.table.itertuples()
            ]
        self.has_lesions = self.table["lesion_mask"].notna().to_numpy()
        self.name, self.modality = str(attrs["name"]), str(attrs["modality"])
        self.normalisation, self.interpolation = (
            str(attrs["normalisation"]),
            str(attrs["interpolation"]),
        )
        self.parameters = json.loads(attrs["parameters"])
        self.synthetic, self.affine, self.left_out = (
            bool(attrs["synthetic"]),
            attrs["affine"],
            json.loads(attrs["left_out"]),
        )

    def _read(self, name: str, row: int) -> np.ndarray:
        with self._lock:
            if self._file is None:
                self._file = h5py.File(self.path)
            return self._file[name][int(row)]

    def image(self, row: int) -> np.ndarray:
        """Normalised scan, float32 of shape (96, 114, 96)."""
        return self._read("images", row)

    def brain(self, row: int) -> np.ndarray:
        """Brain mask, bool of shape (96, 114, 96)."""
        return self._read("brain", row)

    def lesions(self, row: int) -> np.ndarray:
        """Lesion mask, bool of shape (96, 114, 96); empty where the scan has none (`has_lesions`)."""
        return self._read("lesions", row)

    def rows(self, part: str) -> np.ndarray:
        """Rows of one part of the split, or of "all"."""
        one_of("part", part, (*splits.PARTS, "all"))
        return (
            np.arange(len(self.table))
            if part == "all"
            else np.flatnonzero(self.table["part"] == part)
        )

    def row(self, participant_id: str, session_id: str = "") -> int:
        """Row of one scan."""
        table = self.table
        return int(
            np.flatnonzero(
                (table["participant_id"] == participant_id) & (table["session_id"] == session_id)
            )[0]
        )

    def first_with_lesions(self) -> int:
        """The first scan whose lesion mask is not empty, else row 0."""
        return next((row for row in np.flatnonzero(self.has_lesions) if self.lesions(row).any()), 0)

    def lesion_volumes(self, rows) -> np.ndarray:
        """Lesion volume of scans on the model's grid, float64 of shape (len(rows),), mm3; NaN for a scan without a lesion mask."""
        voxels = [self.lesions(row).sum() if self.has_lesions[row] else np.nan for row in rows]
        return np.array(voxels) * abs(np.linalg.det(self.affine[:3, :3]))

    def verify(self) -> None:
        """Compare every stored array with its hash.

        Raises
        ------
        StaleInputError
            An array has changed since it was written, or cannot be read.
        """
        with h5py.File(self.path) as file:
            for row, known in enumerate(file["sha256"]):
                try:
                    same = _digest(file, row) == known.decode()
                except OSError:
                    same = False
                if not same:
                    raise StaleInputError(
                        f"{provenance.relative(self.path)}, {self.table['participant_id'].iloc[row]}",
                        "arrays that have changed",
                        "the arrays as they were written",
                        "Run 01_data_preparation again.",
                    )

    def close(self) -> None:
        """Close the file; it opens again when next needed."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def leaks(prepared: Prepared, share: float = 0.5, block: int = 3) -> pd.DataFrame:
    """Pairs of scans in different parts of the split that resemble each other as scans of two persons do not.

    Each scan's nearest neighbour among the other parts is found by the correlation of block means. Scans of one person (copies,
    visits, the same scan processed twice) are much nearer than the nearest scans of two persons are: half as far and less.

    Parameters
    ----------
    prepared : Prepared
    share : float
        Pairs are reported below this share of the median distance to the nearest neighbour.
    block : int
        Edge of the averaged blocks (voxels).

    Returns
    -------
    pandas.DataFrame
        participant_id, part, neighbour, neighbour_part, distance (1 - Pearson's r), limit; each pair once, nearest first.
    """
    size = [length // block for length in images.SHAPE]
    features = np.empty((len(prepared.table), np.prod(size)), "float32")
    for row in range(len(features)):
        values = prepared.image(row)[tuple(slice(length * block) for length in size)]
        values = (
            values.reshape(size[0], block, size[1], block, size[2], block)
            .mean(axis=(1, 3, 5))
            .ravel()
        )
        values -= values.mean()
        features[row] = values / np.linalg.norm(values)
    distance = 1 - features @ features.T
    names, parts = (prepared.table[column].to_numpy() for column in ("participant_id", "part"))
    distance[parts[:, None] == parts] = np.inf
    best = distance.argmin(axis=1)
    nearest = distance[np.arange(len(best)), best]
    limit = share * np.median(nearest)
    pairs = sorted(
        {tuple(sorted((row, int(best[row])))) for row in np.flatnonzero(nearest < limit)},
        key=lambda pair: distance[pair],
    )
    columns = ["participant_id", "part", "neighbour", "neighbour_part", "distance", "limit"]
    found = [
        (names[one], parts[one], names[other], parts[other], distance[one, other], limit)
        for one, other in pairs
    ]
    return pd.DataFrame(found, columns=columns)
