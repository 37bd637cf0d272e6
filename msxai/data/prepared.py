"""Prepared arrays: a cohort on the model's grid in one HDF5 file, one compressed chunk a scan."""

import hashlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from msxai.base import provenance
from msxai.base.errors import (
    ImageError,
    MissingStepError,
    RegistrationError,
    SplitError,
    StaleInputError,
)
from msxai.base.parameters import one_of
from msxai.data import images
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import FILES, Cohort
from msxai.data.registration import registration
from msxai.data.registration.derivatives import describe, registered
from msxai.data.registration.registration import Registration

__all__ = [
    "DEFAULT_OPTIONS",
    "FEW",
    "NORMALISATIONS",
    "ON_ERROR",
    "PreparationOptions",
    "Prepared",
    "leaks",
    "prepare",
    "remove_paths",
]

NORMALISATIONS = ("zscore", "max", "voxelwise")
ON_ERROR = ("stop", "leave out")
FEW = 10
"""Scans in MNI152 space that one process prepares sooner than a second one has started."""

_HELD, _READ = 2000, 100  # scans of `leaks` in memory (0.3 GB), and compared with them at a time
_ARRAYS = {"images": "f4", "brain": "?", "lesions": "?"}
# Without the shuffle filter a scan takes 0.56 MB instead of 0.98, and is faster to read.
_COMPRESSION = {"compression": "gzip", "compression_opts": 1}


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
    partner : msxai.data.registration.registration.Registration, optional
        Of another visit of the same person. A scan that is registered is aligned to it (rigid) and
        takes its transform, so that both visits lie at the same place.

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
    partner: Registration | None = None

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
    parameters: dict | None = None,
    jobs: int = 1,
) -> None:
    """Bring a cohort onto the model's grid and write it, all or nothing.

    Memory does not grow with the cohort.

    Parameters
    ----------
    cohort : Cohort
    split : pandas.DataFrame
        Of the same scans (`msxai.data.cohorts.splits.make`).
    path : path
        HDF5 file to write: images float32 (N, 96, 114, 96), brain and lesions bool of the same
        shape, the SHA-256 of each scan's arrays, the cohort's table and the options.
    options : PreparationOptions
        Normalisation, interpolation, registration, and what happens at a scan that cannot be used.
    alter : callable, optional
        ``alter(scan, lesions, row)`` returns another scan of the same grid before it is resampled
        (`msxai.data.lesion_filling.Filler`). It gets the scan in MNI152 space by its affine, its
        lesion mask or None, and its row of the cohort's table as a dict. It must survive pickling.
    parameters : dict, optional
        Stored with the arrays.
    jobs : int
        Processes; the result does not depend on their number.

    Raises
    ------
    ImageError, RegistrationError
        A scan or mask cannot be used; the error names it.
    SplitError
        The split is of other scans, or one file has two subjects in different parts.
    """
    table = _with_parts(cohort.table, split)
    tasks = []
    for row in table.to_dict("records"):
        tasks.append(delayed(_attempt)(row, cohort.modality, options, alter))
    results = Parallel(jobs, return_as="generator")(tasks)
    results = tqdm(results, total=len(table), desc="preparing", unit="scan")
    with provenance.replacing(path) as draft, h5py.File(draft, "w") as file:
        stores = _create_stores(file, len(table))
        columns, errors = _store_scans(stores, results)
        left_out = _left_out(table, errors)
        table = table.drop(index=list(errors)).reset_index(drop=True)
        table = table.assign(**pd.DataFrame(columns))
        for store in stores.values():
            store.resize(len(table), axis=0)
        if not table["registration"].str.contains('"route": "resampled"').all():
            describe(options.derivatives, cohort.name, cohort.synthetic)
        _check_files_stand_once(table)
        if options.normalisation == "voxelwise":
            training = np.flatnonzero(table["part"] == "training")
            _zscore_voxels(stores["images"], training)
        digests = [_digest(stores, row).encode() for row in range(len(table))]
        file.create_dataset("sha256", data=digests)
        file.attrs["name"] = cohort.name
        file.attrs["synthetic"] = cohort.synthetic
        file.attrs["modality"] = cohort.modality
        file.attrs["normalisation"] = options.normalisation
        file.attrs["interpolation"] = options.interpolation
        file.attrs["left_out"] = json.dumps(left_out)
        file.attrs["parameters"] = json.dumps(parameters or {})
        file.attrs["affine"] = images.AFFINE
        # A dataset, because an attribute has at most 64 KB
        file.create_dataset("table", data=table.to_json(orient="table", index=False))


def _with_parts(table: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """Return a cohort's table with each scan's part of the split."""
    keys = ["participant_id", "session_id"]
    merged = table.merge(splits.check(split), on=keys, how="left", validate="1:1")
    if merged["part"].isna().any() or len(split) != len(merged):
        raise SplitError(
            "split",
            "other scans than the cohort has",
            "one part for each scan",
            "Run 01_data_preparation from its first cell.",
        )
    return merged


def _create_stores(file, n_scans: int) -> dict:
    """Create the datasets of arrays, one chunk a scan."""
    shape = (n_scans, *images.SHAPE)
    chunks = (1, *images.SHAPE)
    stores = {}
    for name, kind in _ARRAYS.items():
        stores[name] = file.create_dataset(
            name, shape, kind, chunks=chunks, maxshape=shape, **_COMPRESSION
        )
    return stores


def _store_scans(stores: dict, results) -> tuple[list[dict], dict]:
    """Store the arrays of each scan that could be used.

    Returns
    -------
    columns : list of dict
        Hashes and registration of each scan that was stored.
    errors : dict
        Row of the cohort's table to the error of a scan that is left out.
    """
    columns = []
    errors = {}
    for row, result in enumerate(results):
        if isinstance(result, Exception):
            errors[row] = result
            continue
        for name, values in result.arrays.items():
            stores[name][len(columns)] = values
        columns.append(result.columns)
    if not columns:
        raise next(iter(errors.values()))
    return columns, errors


def _left_out(table: pd.DataFrame, errors: dict) -> list[dict]:
    """Return participant, session and reason of the scans that could not be used."""
    left_out = []
    for row, error in errors.items():
        identifiers = table.iloc[row][["participant_id", "session_id"]]
        left_out.append({**identifiers, "reason": str(error)})
    return left_out


@dataclass(frozen=True)
class _PreparedScan:
    """One scan: arrays by name, and its columns of the table (hashes, registration as JSON)."""

    arrays: dict
    columns: dict


@dataclass
class _PlacedScan:
    """A scan in MNI152 space, and on the model's grid.

    Attributes
    ----------
    scan : nibabel.Nifti1Image
    masks : dict
        brain_mask and lesion_mask (nibabel.Nifti1Image), as far as the scan has them.
    values, brain : ndarray of shape (96, 114, 96)
    record : dict
        Route and flags of the registration, and more where the scan was registered; notes, where
        a file was odd.
    """

    scan: nib.Nifti1Image
    masks: dict
    values: np.ndarray
    brain: np.ndarray
    record: dict


def _attempt(
    row: dict, modality: str, options: PreparationOptions, alter
) -> _PreparedScan | ImageError | RegistrationError:
    """Prepare a scan; return its error where the scan may be left out. Runs in a worker."""
    try:
        return _prepared_scan(row, modality, options, alter)
    except (ImageError, RegistrationError) as error:
        if options.on_error == "stop":
            raise
        return error


def _prepared_scan(row: dict, modality: str, options: PreparationOptions, alter) -> _PreparedScan:
    """Prepare one scan."""
    placed = _placed(row, modality, options)
    if alter is not None:
        altered = alter(placed.scan, placed.masks.get("lesion_mask"), row)
        placed.values = images.to_grid(altered, options.interpolation)
        if placed.record["route"] == "full":
            placed.values = np.where(placed.brain, placed.values, 0)
    lesions = np.zeros(images.SHAPE, bool)
    if row["lesion_mask"]:
        lesions = images.mask_to_grid(placed.masks["lesion_mask"])
        images.check_lesions(row["lesion_mask"], lesions, placed.brain)
    normalisation = options.normalisation
    if normalisation == "voxelwise":
        normalisation = "minmax"
    try:
        values = images.normalise(placed.values, placed.brain, normalisation)
    except ImageError as error:
        raise ImageError(row["image"], error.found, error.expected, error.mend) from error
    return _PreparedScan(
        arrays={"images": values, "brain": placed.brain, "lesions": lesions},
        columns={
            "source_sha256": _hash_of(row["image"]),
            "brain_mask_sha256": _hash_of(row["brain_mask"]),
            "lesion_mask_sha256": _hash_of(row["lesion_mask"]),
            "registration": json.dumps(placed.record),
        },
    )


def _placed(row: dict, modality: str, options: PreparationOptions) -> _PlacedScan:
    """Read a scan and its masks and bring them into MNI152 space, by registration if needed."""
    scan = images.load(row["image"])
    _check_contrast(scan, row["image"])
    masks = {}
    for name in ("brain_mask", "lesion_mask"):
        if row[name]:
            masks[name] = images.load_mask(row[name], scan, brain=name == "brain_mask")
    values = images.to_grid(scan, options.interpolation)
    if row["brain_mask"]:
        brain = images.mask_to_grid(masks["brain_mask"])
    else:
        brain = images.brain_on_grid(scan, values)
    record = {"route": "resampled", "flags": []}
    placed = _PlacedScan(scan, masks, values, brain, record)
    only_resampled = options.registration == "none"
    if options.registration == "auto":
        only_resampled = registration.in_mni_space(scan, values, brain)
    if not only_resampled:
        placed = _registered(placed, row, modality, options)
    sentences = _notes({"scan": scan, **masks})
    if sentences:
        placed.record["notes"] = sentences
    return placed


def _notes(files: dict) -> list[str]:
    """Return what was odd in the files of a scan; each sentence names the file."""
    sentences = []
    for name, image in files.items():
        label = name.replace("_", " ").capitalize()
        sentences += [f"{label}: {sentence}" for sentence in images.notes(image)]
    return sentences


def _check_contrast(scan, path) -> None:
    """Refuse a scan of one value; resampling would give its edge other values."""
    values = np.asarray(scan.dataobj)
    values = values[values != 0]
    if not len(values) or np.ptp(values) == 0:
        raise ImageError(
            path,
            "the same value in all voxels",
            "a brain with contrast",
            "Look at the scan: is it a mask?",
        )


def _registered(
    placed: _PlacedScan, row: dict, modality: str, options: PreparationOptions
) -> _PlacedScan:
    """Register a scan, through the FLAIR of the same visit where there is one."""
    names = [name for name in (row["participant_id"], row["session_id"]) if name]
    destination = {
        "folder": Path(options.derivatives, *names, "anat"),
        "entities": "_".join(names),
        "mode": options.registration,
    }
    partner = options.partner
    if row.get("flair") and modality != "FLAIR":
        partner = registered(row["flair"], modality="FLAIR", **destination)
    result = registered(
        row["image"],
        modality=modality,
        brain=row["brain_mask"],
        partner=partner,
        **destination,
    )
    scan = registration.place(result.image, result.matrix)
    masks = {}
    for name, mask in placed.masks.items():
        masks[name] = registration.place(mask, result.matrix)
    values = images.to_grid(scan, options.interpolation)
    brain = images.mask_to_grid(registration.place(result.brain, result.matrix))
    if result.route == "full":  # the network shall not see the head
        values = np.where(brain, values, 0)
    return _PlacedScan(scan, masks, values, brain, registration.summary(result))


def _hash_of(path) -> str | None:
    """Return a file's SHA-256; None where there is no file."""
    return provenance.sha256(path) if path else None


def _check_files_stand_once(table: pd.DataFrame) -> None:
    """Refuse one file under two subjects, as a patient and a control who are one person."""
    for _, scans in table.groupby("source_sha256"):
        subjects = scans.drop_duplicates("participant_id")
        if len(subjects) > 1:
            first = subjects.iloc[0]
            second = subjects.iloc[1]
            raise SplitError(
                f"{first['participant_id']} ({first['part']}) and "
                f"{second['participant_id']} ({second['part']})",
                "the same file under two names",
                "each scan under the name of one subject",
                "One of them is mislabelled: take it out of the cohort's table.",
            )


def _zscore_voxels(store, training) -> None:
    """Replace each voxel by its z-score over the training scans, in place."""
    total = np.zeros(images.SHAPE)
    squares = np.zeros(images.SHAPE)
    for row in training:
        values = store[row].astype(float)
        total += values
        squares += values**2
    mean = total / len(training)
    variance = squares / len(training) - mean**2
    spread = np.sqrt(np.maximum(variance, 0))
    for row in range(len(store)):
        zscores = np.zeros(images.SHAPE)
        np.divide(store[row] - mean, spread, out=zscores, where=spread > 1e-6)
        store[row] = zscores


def _digest(stores: dict, row: int) -> str:
    """Return the SHA-256 of one scan's arrays."""
    content = b"".join(stores[name][row].tobytes() for name in _ARRAYS)
    return hashlib.sha256(content).hexdigest()


def _described(path: Path) -> tuple[dict, dict]:
    """Return the attributes and the table of a prepared cohort, as they are stored."""
    if not path.exists():
        raise MissingStepError(
            provenance.relative(path),
            "nothing",
            "a prepared cohort",
            "Run 01_data_preparation first.",
        )
    try:
        with h5py.File(path) as file:
            attributes = dict(file.attrs)
            stored = json.loads(file["table"][()])
    except (OSError, KeyError, ValueError) as error:
        raise _damaged(path, error) from error
    return attributes, stored


def _damaged(path: Path, error: Exception) -> StaleInputError:
    return StaleInputError(
        provenance.relative(path),
        f"a damaged file ({error})",
        "scans as 01_data_preparation wrote them",
        "Delete it and run 01_data_preparation again.",
    )


class Prepared:
    """Reader of a prepared cohort.

    It opens the file when first needed, and may be used by several threads.

    Parameters
    ----------
    path : path
        From `prepare`.
    split : path, optional
        The split file, which decides each scan's part. Without it the part is the one stored with
        the arrays.

    Attributes
    ----------
    table : pandas.DataFrame
        The cohort's table with part, hashes of the files (source_sha256, brain_mask_sha256,
        lesion_mask_sha256) and registration (JSON: route, flags; where route is not "resampled"
        matrix, scales and Dice, too; where a file was odd, notes), one row a scan.
    left_out : list of dict
        participant_id, session_id and reason of the scans that could not be used.
    has_lesions : ndarray of bool, shape (N,)
        Whether a scan has a lesion mask (which may be empty).
    unfilled : ndarray of bool, shape (N,)
        Of a cohort with its lesions filled: whose lesions are not known, so that the scan is as it
        was. Such scans are in no part (`msxai.data.filled_cohort`).
    affine : ndarray of shape (4, 4)
    name, modality, normalisation, interpolation : str
    parameters : dict
        The `parameters` that `prepare` was given.
    synthetic : bool

    Examples
    --------
    One scan that lies in MNI space already is prepared and read:

    >>> import tempfile
    >>> from pathlib import Path
    >>> import nibabel as nib
    >>> import numpy as np
    >>> from msxai import Prepared
    >>> from msxai.data import images, prepared
    >>> from msxai.data.cohorts import cohort
    >>> folder = Path(tempfile.mkdtemp())
    >>> values = np.random.default_rng(0).random(images.SHAPE) + 1
    >>> nib.save(nib.Nifti1Image(values, images.AFFINE), folder / "scan.nii")
    >>> scans = cohort.from_images([folder / "scan.nii"])
    >>> split = scans.table[["participant_id", "session_id"]].assign(part="holdout")
    >>> options = prepared.PreparationOptions(registration="none")
    >>> prepared.prepare(scans, split, folder / "scans.h5", options)
    >>> Prepared(folder / "scans.h5").image(0).shape
    (96, 114, 96)
    """

    def __init__(self, path, split=None):
        self.path = Path(path)
        self._file = None
        self._lock = threading.Lock()
        attributes, stored = _described(self.path)
        self.name = str(attributes["name"])
        self.modality = str(attributes["modality"])
        self.normalisation = str(attributes["normalisation"])
        self.interpolation = str(attributes["interpolation"])
        self.parameters = json.loads(attributes["parameters"])
        self.synthetic = bool(attributes["synthetic"])
        self.affine = attributes["affine"]
        self.left_out = json.loads(attributes["left_out"])
        columns = [field["name"] for field in stored["schema"]["fields"]]
        self.table = pd.DataFrame(stored["data"]).reindex(columns=columns)
        self.table["label"] = self.table["label"].astype("Int64")
        self.has_lesions = self.table["lesion_mask"].notna().to_numpy()
        if split is not None:
            self.table["part"] = self._parts(splits.read(split))
        self.unfilled = self._listed(self.parameters.get("unfilled", []))
        self.table["part"] = self.table["part"].where(~self.unfilled, None)

    def _parts(self, split: pd.DataFrame) -> list:
        """Return each scan's part; None where the split does not have the scan."""
        parts = split.set_index(["participant_id", "session_id"])["part"]
        keys = zip(self.table["participant_id"], self.table["session_id"], strict=True)
        return [parts.get(key) for key in keys]

    def _listed(self, scans: list) -> np.ndarray:
        """Return which scans are in a list of participant and session."""
        names = {tuple(scan) for scan in scans}
        keys = zip(self.table["participant_id"], self.table["session_id"], strict=True)
        return np.array([key in names for key in keys], bool)

    def _read(self, name: str, row: int) -> np.ndarray:
        with self._lock:
            try:
                if self._file is None:
                    self._file = h5py.File(self.path)
                return self._file[name][int(row)]
            except (OSError, KeyError) as error:
                raise _damaged(self.path, error) from error

    def image(self, row: int) -> np.ndarray:
        """Return a normalised scan, float32 of shape (96, 114, 96)."""
        return self._read("images", row)

    def brain(self, row: int) -> np.ndarray:
        """Return a brain mask, bool of shape (96, 114, 96)."""
        return self._read("brain", row)

    def lesions(self, row: int) -> np.ndarray:
        """Return a lesion mask, bool of shape (96, 114, 96).

        It is empty where the scan has none (`has_lesions`).
        """
        return self._read("lesions", row)

    def rows(self, part: str) -> np.ndarray:
        """Return the rows of one part of the split, or of "all"; never those of `unfilled`."""
        one_of("part", part, (*splits.PARTS, "all"))
        if part == "all":
            return np.flatnonzero(~self.unfilled)
        return np.flatnonzero(self.table["part"] == part)

    def row(self, participant_id: str, session_id: str = "") -> int:
        """Return the row of one scan."""
        same_participant = self.table["participant_id"] == participant_id
        same_session = self.table["session_id"] == session_id
        return int(np.flatnonzero(same_participant & same_session)[0])

    def first_with_lesions(self) -> int:
        """Return the first row whose lesion mask is not empty, or row 0."""
        for row in np.flatnonzero(self.has_lesions):
            if self.lesions(row).any():
                return row
        return 0

    def lesion_volumes(self, rows) -> np.ndarray:
        """Return the lesion volume of scans on the model's grid.

        Returns
        -------
        ndarray of shape (len(rows),), float64
            mm3; NaN for a scan without a lesion mask.
        """
        voxels = np.full(len(rows), np.nan)
        for index, row in enumerate(rows):
            if self.has_lesions[row]:
                voxels[index] = self.lesions(row).sum()
        return voxels * images.voxel_volume(self.affine)

    def close(self) -> None:
        """Close the file; it opens again when next needed."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def remove_paths(path) -> None:
    """Replace the paths in a prepared file by words, because a path may name a person.

    Arrays, hashes and registrations stay. The files themselves are no longer found by the table.

    Parameters
    ----------
    path : path

    Examples
    --------
    The path of a scan becomes the word "image":

    >>> import tempfile
    >>> from pathlib import Path
    >>> import nibabel as nib
    >>> import numpy as np
    >>> from msxai.data import images, prepared
    >>> from msxai.data.cohorts import cohort
    >>> folder = Path(tempfile.mkdtemp())
    >>> values = np.random.default_rng(0).random(images.SHAPE) + 1
    >>> nib.save(nib.Nifti1Image(values, images.AFFINE), folder / "a name.nii")
    >>> scans = cohort.from_images([folder / "a name.nii"])
    >>> split = scans.table[["participant_id", "session_id"]].assign(part="holdout")
    >>> options = prepared.PreparationOptions(registration="none")
    >>> prepared.prepare(scans, split, folder / "scans.h5", options)
    >>> prepared.remove_paths(folder / "scans.h5")
    >>> prepared.Prepared(folder / "scans.h5").table["image"].tolist()
    ['image']
    """
    with provenance.replacing(path) as draft, h5py.File(path) as file:
        stored = json.loads(file["table"][()])
        for row in stored["data"]:
            for column in FILES:
                if row.get(column):
                    row[column] = column.replace("_", " ")
        # Bytes that are deleted in an HDF5 file stay in it, so a new file is written.
        with h5py.File(draft, "w") as copy:
            copy.attrs.update(file.attrs)
            for name in file:
                if name != "table":
                    file.copy(name, copy)
            copy.create_dataset("table", data=json.dumps(stored))


def leaks(prepared: Prepared, share: float = 0.5, block: int = 3) -> pd.DataFrame:
    """Find pairs of scans in different parts of the split that may be of one person.

    Each scan's nearest neighbour among the other parts is found by the correlation of block means.
    Scans of one person (copies, visits, the same scan processed twice) are half as far apart as the
    nearest scans of two persons, or less. Memory does not grow with the cohort beyond 2,000 scans;
    a larger one is read several times.

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
        participant_id, part, neighbour, neighbour_part, distance (1 - Pearson's r), limit; each
        pair once, nearest first.
    """
    names = prepared.table["participant_id"].to_numpy()
    parts = prepared.table["part"].to_numpy()
    neighbour, nearest = _nearest_in_other_parts(prepared, parts, block)
    limit = share * np.median(nearest)
    distance = {}
    for row in np.flatnonzero(nearest < limit):
        pair = sorted([int(row), int(neighbour[row])])
        distance.setdefault(tuple(pair), nearest[row])
    records = []
    for first, second in sorted(distance, key=distance.get):
        records.append(
            {
                "participant_id": names[first],
                "part": parts[first],
                "neighbour": names[second],
                "neighbour_part": parts[second],
                "distance": distance[first, second],
                "limit": limit,
            }
        )
    columns = ["participant_id", "part", "neighbour", "neighbour_part", "distance", "limit"]
    return pd.DataFrame(records, columns=columns)


def _nearest_in_other_parts(
    prepared: Prepared, parts: np.ndarray, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return each scan's nearest neighbour in another part of the split, and its distance.

    The distance is infinite where no other part has a scan.
    """
    codes, _ = pd.factorize(parts)
    n_scans = len(codes)
    neighbour = np.zeros(n_scans, int)
    nearest = np.full(n_scans, np.inf, "float32")

    def features(rows):
        return np.stack([_block_means(prepared.image(row), block) for row in rows])

    def keep_nearer(rows, candidates, distance):
        closest = distance.argmin(axis=1)
        distance = distance[np.arange(len(rows)), closest]
        is_nearer = distance < nearest[rows]
        nearest[rows[is_nearer]] = distance[is_nearer]
        neighbour[rows[is_nearer]] = candidates[closest[is_nearer]]

    for start in range(0, n_scans, _HELD):
        held = np.arange(start, min(start + _HELD, n_scans))
        features_held = features(held)
        for first in range(start, n_scans, _READ):
            rows = np.arange(first, min(first + _READ, n_scans))
            is_held = first < start + _HELD
            features_read = features_held[rows - start] if is_held else features(rows)
            distance = 1 - features_held @ features_read.T
            distance[codes[held][:, None] == codes[rows]] = np.inf
            keep_nearer(held, rows, distance)
            if not is_held:
                keep_nearer(rows, held, distance.T)
    return neighbour, nearest


def _block_means(values, block: int) -> np.ndarray:
    """Return the means of a scan's blocks, with mean 0 and length 1; float32, one axis."""
    x, y, z = (length // block for length in values.shape)
    whole_blocks = values[: x * block, : y * block, : z * block]
    blocks = whole_blocks.reshape(x, block, y, block, z, block)
    means = blocks.mean(axis=(1, 3, 5)).ravel()
    means -= means.mean()
    return means / np.linalg.norm(means)
