"""Heatmaps on disk: NIfTI in the scan's own space with a sidecar, laid out as a BIDS derivative; means over subjects.

BIDS has agreed on no suffix for relevance: ``desc-lrpEpsilon_stat-relevance_statmap`` is a convention of this package.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from . import images, integrity, lrp, network
from .parameters import located

CHUNK = 32  # scans explained at a time: about 130 MB a map, whatever the cohort's size
NOTICE = "Research software. Not for clinical use."


def write(folder, prepared, rows, weights, *, rule: str, epsilon: float, engine: str, threads: int) -> pd.DataFrame:
    """Explain scans by every trial and write the mean heatmap of each scan; all or nothing.

    Parameters
    ----------
    folder : path
        The derivative's folder; replaced as a whole.
    prepared : msxai.prepared.Prepared
        Where the scans are.
    rows : sequence of int
        Which scans.
    weights : sequence of path
        One weights file (.npz) a trial.
    rule, epsilon, engine, threads
        See `msxai.lrp.explain`.

    Returns
    -------
    pandas.DataFrame
        One row a scan: participant_id, session_id, group, label, logit and probability (means over trials), relevance (sum of the
        mean map, in logits), conserved (relevance / logit), path (below `folder`), sha256. Written as heatmaps.tsv too.
    """
    folder, table = Path(folder), []
    models = [network.restore(path) for path in weights]
    hashes = [integrity.sha256(path) for path in weights]
    with integrity.replacing(folder) as draft, tqdm(total=len(rows), desc="explaining", unit="scan") as bar:
        for chunk in np.array_split(rows, range(CHUNK, len(rows), CHUNK)):
            volumes = np.stack([prepared.image(row) for row in chunk])[..., None]
            found = [lrp.explain(model, volumes, rule, epsilon, engine=engine, threads=threads) for model in models]
            mean = np.mean([one.relevance[..., 0] for one in found], axis=0)
            logits = np.array([one.logits for one in found])
            for index, row in enumerate(chunk):
                source = prepared.table.iloc[row]
                entry = _entry(source, logits[:, index], mean[index])
                path = draft / entry["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                nib.save(images.from_grid(mean[index], images.load(source["image"])), path)
                entry["sha256"] = integrity.sha256(path)
                table.append(entry)
                sidecar = {
                    "Rule": rule, "Epsilon": epsilon, "Engine": engine, "Target": "logit of the patient class", "Units": "logit per voxel",
                    "WeightsSHA256": hashes, "Logits": logits[:, index].tolist(), "MeanLogit": entry["logit"],
                    "SumOfRelevance": entry["relevance"],
                    "SumPerTrial": [float(one.relevance[index].sum(dtype=float)) for one in found],
                    "Scan": integrity.relative(source["image"]), "ScanSHA256": source["source_sha256"],
                    "Synthetic": bool(prepared.synthetic), "Notice": NOTICE,
                }  # fmt: skip
                integrity.write_json(path.with_name(path.name.replace(".nii.gz", ".json")), sidecar)
            bar.update(len(chunk))
        integrity.write_json(draft / "dataset_description.json", {
            "Name": f"Heatmaps of {prepared.name}", "BIDSVersion": "1.10.0", "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "msxai", "Version": integrity.__version__}], "Notice": NOTICE})  # fmt: skip
        table = pd.DataFrame(table)
        table.to_csv(draft / "heatmaps.tsv", sep="\t", index=False, na_rep="n/a")
    return table


def trained(where, variant: str, trials: int, weights: str, cohort: str) -> list[Path]:
    """Weights files to explain: the trials of a variant, or the one file `weights` where it is given.

    Raises
    ------
    MissingStepError, StaleInputError
        See `msxai.results.Results.require_trial`.
    """
    if weights:
        return [located(weights)]
    return [where.require_trial(variant, trial, cohort=cohort)[0] / "weights.npz" for trial in range(trials)]


def _entry(scan: pd.Series, logits, relevance) -> dict:
    """Row of heatmaps.tsv; `scan` is a row of the cohort's table."""
    subject, session = scan["participant_id"], scan["session_id"]
    stem = "_".join(filter(None, [subject, session]))
    logit, total = float(np.mean(logits)), float(relevance.sum(dtype=float))
    return {
        "participant_id": subject, "session_id": session, "group": scan["group"], "label": scan["label"], "logit": logit,
        "probability": float(network.probability(logits).mean()), "relevance": total, "conserved": total / logit,
        "path": "/".join(filter(None, [subject, session, "anat", f"{stem}_space-MNI152_desc-lrpEpsilon_stat-relevance_statmap.nii.gz"])),
    }  # fmt: skip


def read(folder) -> pd.DataFrame:
    """heatmaps.tsv of a derivative with `path` made absolute."""
    table = pd.read_csv(Path(folder) / "heatmaps.tsv", sep="\t", na_values="n/a", dtype={"session_id": str}).fillna({"session_id": ""})
    return table.assign(path=[str(Path(folder) / path) for path in table["path"]])


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
