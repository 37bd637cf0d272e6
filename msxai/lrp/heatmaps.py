"""Heatmaps on disk: NIfTI in the scan's own space with a sidecar, laid out as a BIDS derivative; means over trials and over subjects.

The mean map of a scan that had to be registered is kept on the model's grid (``space-MNI152``), and once more in the scan's own space
(``space-orig``); any other scan's own space is MNI152. BIDS has agreed on no suffix for relevance. Conventions of this package:
``desc-lrpEpsilon_stat-relevance_statmap``, the mean over trials, and ``stat-relevanceSD``, the standard deviation over trials (from two
trials on). ``audit.tsv``: what each layer kept, scan by scan. ``trust.tsv``: the warnings of `msxai.lrp.trust_warnings`, also in each sidecar.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from msxai import lrp
from msxai.base import provenance
from msxai.base.parameters import located
from msxai.data import images
from msxai.data.registration import registration
from msxai.lrp import trust_warnings
from msxai.lrp.explanation import AUDIT, Computation
from msxai.model import network

CHUNK = {
    "msxai": 4,
    "innvestigate": 32,
}  # scans explained at a time, 4 MB a scan and trial; innvestigate starts a process each time
TRUST = ("Flag", "Value", "Limit", "Flagged")  # of trust.tsv, by their names in the sidecars
NOTICE = "Research software. Not for clinical use."


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
    """

    rule: str
    epsilon: float = 1e-3
    copies: int = 1
    computation: Computation = field(default_factory=Computation)


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
        One weights file (.npz) a trial.
    settings : Settings

    Returns
    -------
    pandas.DataFrame
        One row a scan: participant_id, session_id, group, label, logit (mean over trials and copies), probability (of a trial's logit,
        mean over trials), relevance (sum of the mean map, in logits), conserved (relevance / logit), path
        (below `folder`), own_path (the map in the scan's own space), sha256. Written as heatmaps.tsv too.
    """
    folder, table, audits, trusted = Path(folder), [], [], []
    rule, engine = settings.rule, settings.computation.engine
    models = [network.restore(path) for path in weights]
    distance, limits, source = _known(models, weights[0], settings)
    common = {
        "Rule": rule,
        "Epsilon": settings.epsilon,
        "Engine": engine,
        "Target": "logit of the patient class",
        "Units": "logit per voxel",
        "Copies": settings.copies,
        "WeightsSHA256": [provenance.sha256(path) for path in weights],
        "LesionFilling": prepared.parameters.get("filling", "none"),
    }
    far = (
        distance(trust_warnings.features(models, prepared, rows))
        if distance
        else [None] * len(rows)
    )
    far = dict(zip(rows, far, strict=True))
    with (
        provenance.replacing(folder) as draft,
        tqdm(total=len(rows), desc="explaining", unit="scan") as bar,
    ):
        for chunk, found in _explained(models, prepared, rows, settings):
            for index, row in enumerate(chunk):
                maps, logits = _of(found, index)
                scan_row, mean = prepared.table.iloc[row], maps.mean(0)
                scan, entry = images.load(scan_row["image"]), _entry(scan_row, rule, logits, mean)
                about = {name: entry[name] for name in ("participant_id", "session_id")}
                values = trust_warnings.measure(maps, logits, prepared.brain(row))
                values["out_of_distribution"] = trust_warnings.number(far[row])
                flags = trust_warnings.flags(values, limits, source)
                trusted += [
                    {**about, **{name.lower(): one[name] for name in TRUST}} for one in flags
                ]
                kept = pd.concat(
                    [
                        one.audit[one.audit["volume"] == index].assign(trial=trial)
                        for trial, one in enumerate(found)
                    ]
                )
                audits.append(kept.drop(columns="volume").assign(**about))
                more = {
                    "Logits": logits,
                    "MeanLogit": entry["logit"],
                    "SumOfRelevance": entry["relevance"],
                    "SumPerTrial": maps.sum(axis=(1, 2, 3), dtype=float).tolist(),
                    "Trust": flags,
                    "Audit": _account(kept),
                    "Scan": provenance.relative(scan_row["image"]),
                    "ScanSHA256": scan_row["source_sha256"],
                    "Synthetic": bool(prepared.synthetic),
                    "Notice": NOTICE,
                }
                way = json.loads(scan_row["registration"])
                grid = (
                    scan
                    if way["route"] == "resampled"
                    else nib.Nifti1Image(np.zeros(images.SHAPE, "uint8"), images.AFFINE)
                )
                entry["sha256"] = _save(
                    draft / entry["path"],
                    mean,
                    grid,
                    {**common, "Statistic": "mean over trials", **more},
                )
                if grid is not scan:
                    entry["own_path"] = entry["path"].replace("_space-MNI152_", "_space-orig_")
                    _save(
                        draft / entry["own_path"],
                        mean,
                        scan,
                        {**common, "Statistic": "mean over trials", **more},
                        way["matrix"],
                    )
                if len(maps) > 1:
                    path = draft / entry["path"].replace("stat-relevance_", "stat-relevanceSD_")
                    _save(
                        path,
                        maps.std(0, ddof=1),
                        grid,
                        {**common, "Statistic": "standard deviation over trials", **more},
                    )
                table.append(entry)
            bar.update(len(chunk))
        provenance.write_json(
            draft / "dataset_description.json",
            {
                "Name": f"Heatmaps of {prepared.name}",
                "BIDSVersion": "1.10.0",
                "DatasetType": "derivative",
                "GeneratedBy": [{"Name": "msxai", "Version": provenance.__version__}],
                "Notice": NOTICE,
            },
        )
        table = pd.DataFrame(table)
        table.to_csv(draft / "heatmaps.tsv", sep="\t", index=False, na_rep="n/a")
        columns = ["participant_id", "session_id", "trial", *AUDIT[1:]]
        pd.DataFrame(trusted).to_csv(
            draft / "trust.tsv", sep="\t", index=False, na_rep="n/a", float_format="%.6g"
        )
        pd.concat(audits)[columns].to_csv(
            draft / "audit.tsv", sep="\t", index=False, na_rep="n/a", float_format="%.9g"
        )
    return table


def _explained(models, prepared, rows, settings: Settings):
    """Yield some rows at a time, and their explanations, one a network."""
    size = CHUNK[settings.computation.engine]
    for chunk in np.array_split(rows, range(size, len(rows), size)):
        volumes = np.stack([prepared.image(row) for row in chunk])[..., None]
        yield (
            chunk,
            [
                lrp.explain(
                    model,
                    volumes,
                    settings.rule,
                    epsilon=settings.epsilon,
                    copies=settings.copies,
                    computation=settings.computation,
                )
                for model in models
            ],
        )


def _of(found, index: int) -> tuple[np.ndarray, list]:
    """Maps of shape (networks, X, Y, Z) and logits of one volume."""
    return np.stack([one.relevance[index, ..., 0] for one in found]), [
        float(one.logits[index]) for one in found
    ]


def _known(models, weights, settings: Settings) -> tuple:
    """Distance from the training part, limits by the validation part, and where these come from; None, {} where they are not at hand."""
    cohort, why = trust_warnings.reference(weights)
    parts = {part: cohort.rows(part) if cohort else [] for part in ("training", "validation")}
    if not all(map(len, parts.values())):
        return None, {}, why or f"{cohort.name} has no training or no validation part"
    labels = cohort.table["label"].iloc[parts["training"]].to_numpy("float", na_value=np.nan)
    distance, rows = (
        trust_warnings.Distance(trust_warnings.features(models, cohort, parts["training"]), labels),
        parts["validation"],
    )
    values = [
        trust_warnings.measure(*_of(found, index), cohort.brain(row))
        for chunk, found in _explained(models, cohort, rows, settings)
        for index, row in enumerate(chunk)
    ]
    far = distance(trust_warnings.features(models, cohort, rows))
    values = [
        one | {"out_of_distribution": trust_warnings.number(other)}
        for one, other in zip(values, far, strict=True)
    ]
    share = max(trust_warnings.ALARMS, 1 / (len(rows) + 1))
    return (
        distance,
        trust_warnings.limits(values),
        f"{len(rows)} validation scans of {cohort.name}; passed by {share:.0%} of scans like them",
    )


def _save(path, relevance, scan, sidecar: dict, matrix=None) -> str:
    """Write a map of the model's grid in the scan's space, with its sidecar; its SHA-256. `matrix`: from that space to MNI152."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = images.from_grid(
        relevance, scan if matrix is None else registration.place(scan, np.array(matrix))
    )
    nib.save(
        found if matrix is None else images.with_space_of(scan, np.asarray(found.dataobj)), path
    )
    provenance.write_json(path.with_name(path.name.replace(".nii.gz", ".json")), sidecar)
    return provenance.sha256(path)


def _account(audit: pd.DataFrame) -> list | None:
    """The audit of a scan for its sidecar, one entry a trial; None where the engine keeps no account."""
    return [rows[AUDIT[1:]].to_dict("records") for _, rows in audit.groupby("trial")] or None


def trained(where, variant: str, trials: int, weights: str, cohort: str) -> list[Path]:
    """Weights files to explain: the trials of a variant, or the one file `weights` where it is given.

    Raises
    ------
    MissingStepError, StaleInputError
        See `msxai.base.results.Results.require_trial`.
    """
    if weights:
        return [located(weights)]
    return [
        where.require_trial(variant, trial, cohort=cohort)[0] / "weights.npz"
        for trial in range(trials)
    ]


def _entry(scan: pd.Series, rule: str, logits, relevance) -> dict:
    """Row of heatmaps.tsv; `scan` is a row of the cohort's table."""
    subject, session = scan["participant_id"], scan["session_id"]
    how = "lrp" + "".join(word.capitalize() for word in rule.split("_"))
    stem = "_".join(
        filter(None, [subject, session, f"space-MNI152_desc-{how}_stat-relevance_statmap.nii.gz"])
    )
    logit, total = float(np.mean(logits)), float(relevance.sum(dtype=float))
    return {
        "participant_id": subject,
        "session_id": session,
        "group": scan["group"],
        "label": scan["label"],
        "logit": logit,
        "probability": float(network.probability(np.array(logits)).mean()),
        "relevance": total,
        "conserved": total / logit,
        "path": (path := "/".join(filter(None, [subject, session, "anat", stem]))),
        "own_path": path,
    }


def read(folder) -> pd.DataFrame:
    """heatmaps.tsv of a derivative with `path` and `own_path` made absolute."""
    table = _read(Path(folder) / "heatmaps.tsv")
    return table.assign(
        **{
            name: [str(Path(folder) / path) for path in table[name]]
            for name in ("path", "own_path")
        }
    )


def read_audit(folder) -> pd.DataFrame:
    """audit.tsv of a derivative: participant_id, session_id, trial, then `msxai.AUDIT` from layer on; empty for innvestigate."""
    return _read(Path(folder) / "audit.tsv")


def read_trust(folder) -> pd.DataFrame:
    """trust.tsv of a derivative: participant_id, session_id, flag, value, limit, flagged (see `msxai.lrp.trust_warnings.flags`)."""
    return _read(Path(folder) / "trust.tsv")


def _read(path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", na_values="n/a", dtype={"session_id": str}).fillna(
        {"session_id": ""}
    )


def mean(paths, positive: bool = False) -> np.ndarray:
    """Mean heatmap on the model's grid, float32 of shape (96, 114, 96).

    Parameters
    ----------
    paths : sequence of path
        Heatmaps; those in another space are resampled.
    positive : bool
        Set negative relevance of each map to 0 first: the mean of positive relevance, not of net relevance.
    """
    total = np.zeros(images.SHAPE)
    for path in paths:
        relevance = images.to_grid(images.load(path))
        total += np.maximum(relevance, 0) if positive else relevance
    return (total / len(paths)).astype("float32")
