"""Heatmaps on disk: NIfTI in the scan's own space with a sidecar, laid out as a BIDS derivative.

The mean map of a registered scan is kept on the model's grid (``space-MNI152``), and once more in
the scan's own space (``space-orig``). The space of any other scan is MNI152. BIDS has no suffix for
relevance yet. This package writes ``desc-lrpEpsilon_stat-relevance_statmap`` for the mean over
trials, and from two trials on ``stat-relevanceSD`` for their standard deviation. ``audit.tsv`` says
what each layer absorbed, scan by scan. ``trust.tsv`` has the warnings of
`msxai.lrp.trust_warnings`, which also stand in each sidecar.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy.special import expit
from tqdm.auto import tqdm

from msxai import lrp
from msxai.base import provenance, tsv
from msxai.base.notices import NOTICE
from msxai.base.parameters import located, one_of, whole_number
from msxai.data import images
from msxai.data.registration import registration
from msxai.lrp import innvestigate, rules, shipped_reference, trust_warnings
from msxai.lrp.explanation import AUDIT, Computation, Explanation, conserved

__all__ = [
    "Reference",
    "ScanMaps",
    "Settings",
    "common_sidecar",
    "mean",
    "on_file_grid",
    "read",
    "read_audit",
    "read_trust",
    "reference_by",
    "reference_of",
    "scan_sidecar",
    "trained",
    "write",
    "write_one",
]

# Scans explained at a time: 4 MB for each scan and trial. iNNvestigate starts a process each time.
_CHUNK = {"msxai": 4, "innvestigate": 32}
_TRUST_COLUMNS = ("Flag", "Value", "Limit", "Flagged")  # of trust.tsv, as in the sidecars


@dataclass(frozen=True)
class Settings:
    """How scans are explained: arguments of `msxai.lrp.explain` of the same names.

    Attributes
    ----------
    rule : str
        A rule or composite of LRP by name.
    epsilon : float
    copies : int
    computation : msxai.lrp.Computation

    Raises
    ------
    ParameterError
        A rule that the engine does not have, with the nearest one; an engine that is not
        installed; an epsilon that is not above 0; no copy.
    """

    rule: str
    epsilon: float = 1e-3
    copies: int = 1
    computation: Computation = field(default_factory=Computation)

    def __post_init__(self):
        names = rules.NAMES
        if self.computation.engine == "innvestigate":
            innvestigate.check_installed()
            names = tuple(innvestigate.ANALYZERS)
        one_of("rule", self.rule, names)
        rules.check_stabiliser("epsilon", self.epsilon)
        whole_number("copies", self.copies, 1)

    def explain(self, model, scans) -> Explanation:
        """Explain scans of shape (N, X, Y, Z, 1)."""
        return lrp.explain(
            model,
            scans,
            self.rule,
            epsilon=self.epsilon,
            copies=self.copies,
            computation=self.computation,
        )


def write(folder, prepared, rows, weights, settings: Settings) -> pd.DataFrame:
    """Explain scans by every trial and write the mean heatmap of each scan; all or nothing.

    Parameters
    ----------
    folder : path
        The derivative's folder; replaced as a whole.
    prepared : msxai.data.prepared.Prepared
        Where the scans are.
    rows : sequence of int
        Which scans.
    weights : sequence of path
        One weights file (.npz) for each trial.
    settings : Settings

    Returns
    -------
    pandas.DataFrame
        One row for each scan, also written as heatmaps.tsv: participant_id, session_id, group,
        label, logit (mean over trials and copies), probability (of a trial's logit, mean over
        trials), relevance (sum of the mean map, in logits), conserved (relevance / logit; missing
        where the logit is near 0, see `msxai.lrp.conserved`), path (below `folder`), own_path (the
        map in the scan's own space), sha256.
    """
    from msxai.model import network  # brings TensorFlow, which reading maps does not need

    models = [network.restore(path) for path in weights]
    predicting = [network.restore(path, fast=True) for path in weights]
    reference = reference_of(models, weights, settings)
    distances = reference.distances(predicting, prepared, rows)
    with (
        provenance.replacing(Path(folder)) as draft,
        tqdm(total=len(rows), desc="explaining", unit="scan") as bar,
    ):
        derivative = _Derivative(draft, prepared, weights, settings, reference)
        for row, maps in _explained(models, prepared, rows, settings):
            derivative.add(row, maps, distances[row])
            bar.update()
        return derivative.finish()


def write_one(folder, prepared, row: int, explanation: Explanation) -> pd.Series:
    """Write the map of one scan by one network, without a sidecar, to look at it.

    Parameters
    ----------
    folder : path
        Where to write.
    prepared : msxai.data.prepared.Prepared
    row : int
        Which scan.
    explanation : msxai.lrp.Explanation
        Of that scan alone, by a rule or method that has a name.

    Returns
    -------
    pandas.Series
        A row as of `read`.
    """
    maps = ScanMaps.of([explanation], 0)
    scan = prepared.table.iloc[row]
    entry = _entry(scan, str(explanation.rule), maps)
    entry["path"] = str(Path(folder) / entry["path"])
    entry["sha256"] = _save_on_grid(entry["path"], maps.mean, scan)
    entry["own_path"] = _save_in_own_space(entry["path"], maps.mean, scan) or entry["path"]
    return pd.Series(entry)


@dataclass(frozen=True)
class ScanMaps:
    """Explanations of one scan by all networks.

    Attributes
    ----------
    relevance : ndarray of shape (networks, X, Y, Z)
    logits : list of float
        Of each network, the mean over the copies of the scan.
    audit : pandas.DataFrame
        What each layer absorbed, with the number of the network as `trial`.
    """

    relevance: np.ndarray
    logits: list[float]
    audit: pd.DataFrame

    @classmethod
    def of(cls, explanations: list[Explanation], index: int) -> "ScanMaps":
        """Of the scan with this number in explanations by several networks."""
        audits = []
        for trial, explanation in enumerate(explanations):
            audit = explanation.audit
            audits.append(audit[audit["volume"] == index].assign(trial=trial))
        relevance = [explanation.relevance[index, ..., 0] for explanation in explanations]
        return cls(
            relevance=np.stack(relevance),
            logits=[float(explanation.logits[index]) for explanation in explanations],
            audit=pd.concat(audits).drop(columns="volume"),
        )

    @property
    def mean(self) -> np.ndarray:
        """Mean map over networks."""
        return self.relevance.mean(0)

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation over networks."""
        return self.relevance.std(0, ddof=1)


def _explained(models, prepared, rows, settings: Settings) -> Iterator[tuple[int, ScanMaps]]:
    """Yield each row and its maps; some rows are explained at a time."""
    size = _CHUNK[settings.computation.engine]
    for chunk in np.array_split(rows, range(size, len(rows), size)):
        scans = np.stack([prepared.image(row) for row in chunk])[..., None]
        explanations = [settings.explain(model, scans) for model in models]
        for index, row in enumerate(chunk):
            yield row, ScanMaps.of(explanations, index)


@dataclass(frozen=True)
class Reference:
    """What the warnings compare a scan with, where the scans of the training are at hand.

    Attributes
    ----------
    distance : msxai.lrp.trust_warnings.Distance or None
    limits : dict
        Of `msxai.lrp.trust_warnings.limits`; empty where there are none.
    source : str
        Where the limits come from, or why there are none.
    """

    distance: trust_warnings.Distance | None
    limits: dict
    source: str

    def distances(self, models, prepared, rows) -> dict:
        """Return row to its distance from the training scans; None where it is not known.

        The networks only predict: they may be fast ones (`msxai.model.network.restore`).
        """
        if self.distance is None:
            return dict.fromkeys(rows)
        features = trust_warnings.features(models, prepared, rows)
        return dict(zip(rows, self.distance(features), strict=True))


def reference_of(models, weights, settings: Settings) -> Reference:
    """Return what a scan is compared with, by the cohort that networks were trained on.

    Parameters
    ----------
    models : list of keras.Model
    weights : sequence of path
        Their weights files. The record of the first one names the cohort. The package brings what
        its own networks need (`msxai.lrp.shipped_reference`).
    settings : Settings
        How maps are made: limits are of maps of the validation part that were made alike.
    """
    stored = shipped_reference.read(weights)
    if stored is not None:
        limits = stored.limits_of(settings.rule, settings.epsilon, settings.copies)
        return Reference(stored.distance, limits, stored.source)
    cohort, why = trust_warnings.reference(weights[0])
    if cohort is None:
        return Reference(None, {}, why)
    from msxai.model import network  # brings TensorFlow, which reading maps does not need

    predicting = [network.restore(path, fast=True) for path in weights]
    return reference_by(models, cohort, settings, predicting)


def reference_by(models, cohort, settings: Settings, predicting=None) -> Reference:
    """Return what a scan is compared with, by a cohort.

    Parameters
    ----------
    models : list of keras.Model
        Those that are explained.
    cohort : msxai.data.prepared.Prepared
        Distances are measured from its training part. Its validation part gives the limits.
    settings : Settings
    predicting : list of keras.Model, optional
        The same networks as fast ones (`msxai.model.network.restore`), which give the features of
        all scans; by default `models`.
    """
    predicting = predicting or models
    training = cohort.rows("training")
    validation = cohort.rows("validation")
    if not len(training) or not len(validation):
        return Reference(None, {}, f"{cohort.name} has no training or no validation part")
    labels = cohort.table["label"].iloc[training].to_numpy("float", na_value=np.nan)
    features = trust_warnings.features(predicting, cohort, training)
    distance = trust_warnings.Distance(features, labels)
    values = [
        trust_warnings.measure(maps.relevance, maps.logits, cohort.brain(row))
        for row, maps in _explained(models, cohort, validation, settings)
    ]
    distances = distance(trust_warnings.features(predicting, cohort, validation))
    for measured, value in zip(values, distances, strict=True):
        measured["out_of_distribution"] = trust_warnings.number(value)
    share = max(trust_warnings.ALARMS, 1 / (len(validation) + 1))
    return Reference(
        distance,
        trust_warnings.limits(values),
        f"{len(validation)} validation scans of {cohort.name}; "
        f"exceeded by {share:.0%} of scans like them",
    )


class _Derivative:
    """A BIDS derivative that grows scan by scan."""

    def __init__(self, folder: Path, prepared, weights, settings: Settings, reference: Reference):
        self.folder = folder
        self.prepared = prepared
        self.rule = settings.rule
        self.reference = reference
        self.common = common_sidecar(prepared, weights, settings)
        self.entries = []
        self.flags = []
        self.audits = []

    def add(self, row: int, maps: ScanMaps, distance) -> None:
        """Write the maps of one scan with their sidecars, and remember its rows of the tables."""
        scan = self.prepared.table.iloc[row]
        entry = _entry(scan, self.rule, maps)
        who = {name: entry[name] for name in ("participant_id", "session_id")}
        flags = self._flags(row, maps, distance)
        for flag in flags:
            columns = {name.lower(): flag[name] for name in _TRUST_COLUMNS}
            self.flags.append(who | columns)
        self.audits.append(maps.audit.assign(**who))
        sidecar = self.common | scan_sidecar(scan, maps, flags)
        sidecar["Scan"] = provenance.relative(scan["image"])
        self._save(scan, entry, maps, sidecar)
        self.entries.append(entry)

    def finish(self) -> pd.DataFrame:
        """Write what concerns all scans: the description and the tables."""
        description = {
            "Name": f"Heatmaps of {self.prepared.name}",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "msxai", "Version": provenance.__version__}],
            "Notice": NOTICE,
        }
        provenance.write_json(self.folder / "dataset_description.json", description)
        table = pd.DataFrame(self.entries)
        tsv.write(table, self.folder / "heatmaps.tsv")
        flags = pd.DataFrame(self.flags)
        tsv.write(flags, self.folder / "trust.tsv", float_format="%.6g")
        columns = ["participant_id", "session_id", "trial", *AUDIT[1:]]
        audit = pd.concat(self.audits)[columns]
        tsv.write(audit, self.folder / "audit.tsv", float_format="%.9g")
        return table

    def _flags(self, row: int, maps: ScanMaps, distance) -> list[dict]:
        brain = self.prepared.brain(row)
        values = trust_warnings.measure(maps.relevance, maps.logits, brain)
        values["out_of_distribution"] = trust_warnings.number(distance)
        return trust_warnings.flags(values, self.reference.limits, self.reference.source)

    def _save(self, scan: pd.Series, entry: dict, maps: ScanMaps, sidecar: dict) -> None:
        """Write the mean map, on the grid and in the scan's own space, and the deviation."""
        of_mean = {"Statistic": "mean over trials"} | sidecar
        path = self.folder / entry["path"]
        entry["sha256"] = _save_on_grid(path, maps.mean, scan)
        _write_sidecar(path, of_mean)
        own_path = _save_in_own_space(path, maps.mean, scan)
        if own_path:
            _write_sidecar(own_path, of_mean)
            entry["own_path"] = Path(own_path).relative_to(self.folder).as_posix()
        if len(maps.relevance) > 1:
            deviation = entry["path"].replace("stat-relevance_", "stat-relevanceSD_")
            _save_on_grid(self.folder / deviation, maps.deviation, scan)
            of_deviation = {"Statistic": "standard deviation over trials"} | sidecar
            _write_sidecar(self.folder / deviation, of_deviation)


def common_sidecar(prepared, weights, settings: Settings) -> dict:
    """Return what the sidecars of all maps say.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    weights : sequence of path
    settings : Settings
    """
    return {
        "Rule": settings.rule,
        "Epsilon": settings.epsilon,
        "Engine": settings.computation.engine,
        "Target": "logit of the patient class",
        "Units": "logit per voxel",
        "Copies": settings.copies,
        "WeightsSHA256": [provenance.sha256(path) for path in weights],
        "LesionFilling": prepared.parameters.get("filling", "none"),
        "Synthetic": bool(prepared.synthetic),
        "Notice": NOTICE,
    }


def scan_sidecar(scan: pd.Series, maps: ScanMaps, flags: list[dict]) -> dict:
    """Return what the sidecar of a map says of its scan, without the name of a file.

    Parameters
    ----------
    scan : pandas.Series
        Row of the cohort's table.
    maps : ScanMaps
    flags : list of dict
        Of `msxai.lrp.trust_warnings.flags`.
    """
    sums = maps.relevance.sum(axis=(1, 2, 3), dtype=float)
    return {
        "Logits": maps.logits,
        "MeanLogit": float(np.mean(maps.logits)),
        "SumOfRelevance": float(maps.mean.sum(dtype=float)),
        "SumPerTrial": sums.tolist(),
        "Trust": flags,
        "Audit": _account(maps.audit),
        "ScanSHA256": scan["source_sha256"],
    }


def _account(audit: pd.DataFrame) -> list | None:
    """The audit of a scan for its sidecar, one entry for each trial; None where there is none."""
    trials = [rows[AUDIT[1:]].to_dict("records") for _, rows in audit.groupby("trial")]
    return trials or None


def _entry(scan: pd.Series, rule: str, maps: ScanMaps) -> dict:
    """Row of heatmaps.tsv; `scan` is a row of the cohort's table."""
    logit = float(np.mean(maps.logits))
    total = float(maps.mean.sum(dtype=float))
    path = _path_of(scan, rule)
    return {
        "participant_id": scan["participant_id"],
        "session_id": scan["session_id"],
        "group": scan["group"],
        "label": scan["label"],
        "logit": logit,
        "probability": float(expit(maps.logits).mean()),
        "relevance": total,
        "conserved": float(conserved(total, logit)),
        "path": path,
        "own_path": path,
    }


def _path_of(scan: pd.Series, rule: str) -> str:
    """Path of a scan's mean map below the derivative's folder."""
    words = [word.capitalize() for word in rule.split("_")]
    description = "lrp" + "".join(words)
    entities = [scan["participant_id"]]
    if scan["session_id"]:
        entities.append(scan["session_id"])
    name = f"space-MNI152_desc-{description}_stat-relevance_statmap.nii.gz"
    return "/".join([*entities, "anat", "_".join([*entities, name])])


def _save_on_grid(path, relevance, scan: pd.Series) -> str:
    """Write a map in the space of a scan in MNI152, else on the grid of the model; its SHA-256."""
    if _is_registered(scan):
        grid = nib.Nifti1Image(np.zeros(images.SHAPE, "uint8"), images.AFFINE)
        return _save(path, images.from_grid(relevance, grid))
    return _save(path, on_file_grid(relevance, scan))


def _save_in_own_space(path, relevance, scan: pd.Series) -> str | None:
    """Write the map of a registered scan in its own space; its path. None for other scans."""
    if not _is_registered(scan):
        return None
    own_path = str(path).replace("_space-MNI152_", "_space-orig_")
    _save(own_path, on_file_grid(relevance, scan))
    return own_path


def on_file_grid(relevance, scan: pd.Series) -> nib.Nifti1Image:
    """Return a map on the grid of the scan's file.

    Parameters
    ----------
    relevance : ndarray of shape (96, 114, 96)
    scan : pandas.Series
        Row of the cohort's table, whose file exists.
    """
    image = images.load(scan["image"])
    if not _is_registered(scan):
        return images.from_grid(relevance, image)
    matrix = np.array(json.loads(scan["registration"])["matrix"])
    placed = images.from_grid(relevance, registration.place(image, matrix))
    return images.with_space_of(image, np.asarray(placed.dataobj))


def _is_registered(scan: pd.Series) -> bool:
    return json.loads(scan["registration"])["route"] != "resampled"


def _save(path, image: nib.Nifti1Image) -> str:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return provenance.sha256(path)


def _write_sidecar(path, sidecar: dict) -> None:
    provenance.write_json(Path(str(path).replace(".nii.gz", ".json")), sidecar)


def trained(where, variant: str, trials: int, weights: str, cohort: str) -> list[Path]:
    """Weights files to explain: the trials of a variant, or the one file that is named.

    Parameters
    ----------
    where : msxai.base.results.Results
    variant : str
        Variant of 03_fine_tuning.
    trials : int
        How many trials of it.
    weights : str
        A weights file (.npz) in place of the trials; "" for none.
    cohort : str
        The cohort that the variant must have been trained on.

    Raises
    ------
    MissingStepError, StaleInputError
        See `msxai.base.results.Results.require_trial`.
    """
    if weights:
        return [located(weights)]
    paths = []
    for trial in range(trials):
        folder, _ = where.require_trial(variant, trial, cohort=cohort)
        paths.append(folder / "weights.npz")
    return paths


def read(folder) -> pd.DataFrame:
    """Read heatmaps.tsv of a derivative, with `path` and `own_path` made absolute."""
    table = tsv.read(Path(folder) / "heatmaps.tsv")
    for name in ("path", "own_path"):
        table[name] = [str(Path(folder) / path) for path in table[name]]
    return table


def read_audit(folder) -> pd.DataFrame:
    """Read audit.tsv of a derivative; no rows for innvestigate.

    Columns: participant_id, session_id, trial, then `msxai.lrp.AUDIT` from layer on.
    """
    return tsv.read(Path(folder) / "audit.tsv")


def read_trust(folder) -> pd.DataFrame:
    """Read trust.tsv of a derivative.

    Columns: participant_id, session_id, flag, value, limit, flagged; see
    `msxai.lrp.trust_warnings.flags`.
    """
    return tsv.read(Path(folder) / "trust.tsv")


def mean(paths, positive: bool = False) -> np.ndarray:
    """Mean heatmap on the model's grid, float32 of shape (96, 114, 96).

    Parameters
    ----------
    paths : sequence of path
        Heatmaps; those in another space are resampled.
    positive : bool
        Set negative relevance of each map to 0 first: the mean of positive relevance, not of net
        relevance.
    """
    total = np.zeros(images.SHAPE)
    for path in paths:
        relevance = images.to_grid(images.load(path))
        if positive:
            relevance = np.maximum(relevance, 0)
        total += relevance
    return (total / len(paths)).astype("float32")
