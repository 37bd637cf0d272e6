"""Scores of trained networks on a part of a cohort, and the baseline that each must be held against: lesion load alone."""

import numpy as np
import pandas as pd

from . import integrity, network, statistics, training

LESION_LOAD = "lesion load"


def predict(prepared, rows, trained: dict) -> pd.DataFrame:
    """Predict scans by every trial of every variant.

    Parameters
    ----------
    prepared : msxai.prepared.Prepared
        Where the scans are.
    rows : sequence of int
        Which scans.
    trained : dict
        Variant to a list of (folder, record) as `msxai.results.Results.require_trial` gives them, one a trial.

    Returns
    -------
    pandas.DataFrame
        variant, trial, participant_id, session_id, label, logit, score (probability of the patient class).
    """
    tables = []
    for variant, trials in trained.items():
        for trial, (folder, _) in enumerate(trials):
            logits = training.predict(network.restore(folder / "weights.npz"), prepared, rows)
            tables.append(_table(prepared, rows, variant, trial).assign(logit=logits, score=network.probability(logits)))
    return pd.concat(tables, ignore_index=True)


def add_lesion_load(predictions: pd.DataFrame, prepared, rows) -> tuple[pd.DataFrame, str]:
    """Add the lesion-load baseline to `predictions`, or say why not.

    Returns
    -------
    predictions : pandas.DataFrame
        With the variant "lesion load" (trial 0) where it could be computed.
    skipped : str
        Empty, or the reason.
    """
    known = np.concatenate([prepared.rows("training"), prepared.rows("validation")]).astype(int)
    if not prepared.has_lesions[[*known, *rows]].all():
        return predictions, "lesion load: skipped, as the cohort has scans without a lesion mask"
    labels = prepared.table["label"].to_numpy()
    if len(set(labels[known])) < 2:
        return predictions, "lesion load: skipped, as the cohort has no training part with both groups"
    scores = statistics.lesion_load_svm(lesion_volumes(prepared, known), labels[known].astype(int), lesion_volumes(prepared, rows))
    return pd.concat([predictions, _table(prepared, rows, LESION_LOAD, 0).assign(score=scores)], ignore_index=True), ""


def lesion_volumes(prepared, rows) -> np.ndarray:
    """Lesion volume of scans on the model's grid, float64 of shape (len(rows),), mm3; NaN for a scan without a lesion mask."""
    voxels = [prepared.lesions(row).sum() if prepared.has_lesions[row] else np.nan for row in rows]
    return np.array(voxels) * abs(np.linalg.det(prepared.affine[:3, :3]))


def save(where, predictions: pd.DataFrame, scores: pd.DataFrame, parameters: dict, cohort: str, trained: dict) -> None:
    """Write predictions.tsv, scores.tsv and, last, provenance.json of an evaluation into `where` (`msxai.results.Results`)."""
    files = where.evaluation() / "predictions.tsv", where.evaluation() / "scores.tsv"
    for path, table in zip(files, (predictions, scores), strict=True):
        with integrity.replacing(path) as draft:
            table.to_csv(draft, sep="\t", index=False, na_rep="n/a")
    inputs = [where.prepared(cohort), *(folder / "weights.npz" for trials in trained.values() for folder, _ in trials)]
    integrity.write_json(where.evaluation() / "provenance.json", integrity.provenance(parameters, inputs, files))


def read(folder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions and scores as `save` wrote them."""
    options = {"sep": "\t", "na_values": "n/a", "keep_default_na": False}
    predictions = pd.read_csv(folder / "predictions.tsv", dtype={"session_id": str}, **options)
    return predictions, pd.read_csv(folder / "scores.tsv", **options)


def _table(prepared, rows, variant: str, trial: int) -> pd.DataFrame:
    table = prepared.table.iloc[rows][["participant_id", "session_id", "label"]].reset_index(drop=True)
    table.insert(0, "trial", trial)
    table.insert(0, "variant", variant)
    return table
