"""Scores of trained networks: on a part of a cohort, and on further simulated subjects.

Also writes and reads the tables of 04_evaluation.
"""

import numpy as np
import pandas as pd

from msxai.base import provenance, tsv
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import open_cohort
from msxai.data.prepared import FEW, PreparationOptions, Prepared, prepare
from msxai.data.synthetic import phantom
from msxai.model import network, training

__all__ = [
    "FURTHER_SEED",
    "TABLES",
    "features",
    "further",
    "identifiers",
    "predict",
    "read",
    "save",
    "with_features",
]

FURTHER_SEED = 1001  # as in benchmarks/generalisation.py; no cohort for training has it
TABLES = (
    "predictions",
    "scores",
    "predictions_further",
    "scores_further",
    "comparison",
    "calibration",
    "folds",
    "cross_validation",
    "chosen",
    "counterfactual",
    "left_out",
)


def features(prepared, rows, trained: dict, filled: dict | None = None) -> dict:
    """Return the features of scans: the output of the last convolution of each trained network.

    `predict` and the baselines of `msxai.evaluation.baselines` take them.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Where the scans are.
    rows : sequence of int
        Which scans.
    trained : dict
        Variant to a list of (folder, record), one for each trial, as
        `msxai.base.results.Results.require_trial` returns them.
    filled : dict, optional
        Variant to the same scans with their lesions filled (`msxai.data.filled_cohort.arrays`),
        for the variants that were trained on such scans.

    Returns
    -------
    dict
        Variant to a list of arrays, one for each trial: float32 of shape
        (scans of `prepared`, features). Rows of other scans are NaN, and for a variant in `filled`
        those of scans that could not be filled.
    """
    filled = filled or {}
    on_originals = {name: trials for name, trials in trained.items() if name not in filled}
    by_variant = _features_of(prepared, rows, on_originals)
    for variant, scans in filled.items():
        usable_rows = np.intersect1d(rows, scans.rows("all"))
        by_variant |= _features_of(scans, usable_rows, {variant: trained[variant]})
    return {variant: by_variant[variant] for variant in trained}


def _features_of(scans, rows, trained: dict) -> dict:
    """Return the features of scans by variants that see the same arrays; see `features`."""
    variants = []
    trunks = []
    for variant, trials in trained.items():
        for folder, _ in trials:
            trunk, _ = network.features(network.restore(folder / "weights.npz", fast=True))
            variants.append(variant)
            trunks.append(trunk)
    by_variant = {variant: [] for variant in trained}
    outputs = training.outputs_of_each(trunks, scans, rows)
    for variant, values in zip(variants, outputs, strict=True):
        features_of_trial = np.full((len(scans.table), values.shape[1]), np.nan, "float32")
        features_of_trial[rows] = values
        by_variant[variant].append(features_of_trial)
    return by_variant


def predict(prepared, rows, trained: dict, precomputed: dict | None = None) -> pd.DataFrame:
    """Predict scans by every trial of every variant.

    Parameters
    ----------
    prepared, rows, trained
        As in `features`.
    precomputed : dict, optional
        From `features`, at least of these rows. Without it the networks are run here.

    Returns
    -------
    pandas.DataFrame
        variant, trial, participant_id, session_id, label, logit, score (probability of the
        patient class). Scans without features are left out.
    """
    if precomputed is None:
        precomputed = features(prepared, rows, trained)
    tables = []
    for variant, trials in trained.items():
        for trial, (folder, _) in enumerate(trials):
            net = network.restore(folder / "weights.npz", fast=True)
            _, last_layer = network.features(net)
            features_of_trial = precomputed[variant][trial]
            known_rows = with_features(features_of_trial, rows)
            logits = last_layer(features_of_trial[known_rows])
            table = identifiers(prepared, known_rows, variant, trial)
            table["logit"] = logits
            table["score"] = network.probability(logits)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def with_features(features_of_trial, rows) -> np.ndarray:
    """Return the rows that have features (see `features`), in their order."""
    rows = np.asarray(rows)
    return rows[~np.isnan(features_of_trial[rows]).any(axis=1)]


def further(
    where,
    prepared,
    cohort: str,
    subjects: int,
    jobs: int = 1,
) -> tuple[Prepared | None, str]:
    """Simulate and prepare further subjects that no training has seen, for narrower intervals.

    Parameters
    ----------
    where : msxai.base.results.Results
        Their arrays are written there, as those of the cohort ``<cohort>-further``.
    prepared : msxai.data.prepared.Prepared
        The embedded cohort, prepared alike.
    cohort : str
        Its name.
    subjects : int
        How many; 0 for none.
    jobs : int
        Processes; one for few subjects.

    Returns
    -------
    prepared : msxai.data.prepared.Prepared or None
    left_out : str
        Empty, or the reason.
    """
    reason = _reason_against_further(prepared, cohort, subjects)
    if reason:
        return None, f"further subjects: left out, {reason}"
    if subjects <= FEW:
        jobs = 1
    name = f"{cohort}-further"
    kind = cohort.removeprefix("phantom-").split("-")[0]
    folder = phantom.find(name, subjects, FURTHER_SEED, jobs)
    source = open_cohort(folder, prepared.modality, phantom.PATIENTS[kind], "HC")
    split = source.table[["participant_id", "session_id"]].assign(part="holdout")
    splits.write(split, where.split(name))
    options = PreparationOptions(
        normalisation=prepared.normalisation, interpolation=prepared.interpolation
    )
    prepare(source, split, where.prepared(name), options, jobs=jobs)
    return Prepared(where.prepared(name), where.split(name)), ""


def _reason_against_further(prepared, cohort: str, subjects: int) -> str:
    """Return why no further subjects can be simulated; empty where they can."""
    if not subjects:
        return "because none were requested"
    if not (cohort.startswith("phantom-") and prepared.synthetic):
        return "because only an embedded cohort can be simulated"
    if prepared.normalisation == "voxelwise":
        return "because a voxel-wise z-score is valid only for the cohort it was computed from"
    return ""


def save(
    where,
    tables: dict,
    parameters: dict,
    cohort: str,
    trained: dict,
    filled: dict | None = None,
) -> None:
    """Write the tables of an evaluation and, last, provenance.json.

    Parameters
    ----------
    where : msxai.base.results.Results
    tables : dict
        Name (of `TABLES`) to a table. An empty table is not written, and that of an earlier run is
        removed.
    parameters : dict
        Of the notebook.
    cohort : str
    trained, filled : dict
        As in `features`.
    """
    folder = where.evaluation()
    (folder / "provenance.json").unlink(missing_ok=True)
    outputs = []
    for name in TABLES:
        path = folder / f"{name}.tsv"
        table = tables.get(name)
        if table is None or table.empty:
            path.unlink(missing_ok=True)
        else:
            outputs.append(tsv.write(table, path))
    filled_files = {scans.path for scans in (filled or {}).values()}
    inputs = [where.prepared(cohort), *filled_files]
    for trials in trained.values():
        inputs += [trial_folder / "weights.npz" for trial_folder, _ in trials]
    record = provenance.record(parameters, inputs, outputs)
    provenance.write_json(folder / "provenance.json", record)


def read(folder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read predictions and scores as `save` wrote them."""
    return tsv.read(folder / "predictions.tsv"), tsv.read(folder / "scores.tsv")


def identifiers(prepared, rows, variant: str, trial: int) -> pd.DataFrame:
    """Return the first columns of all predictions, one row a scan.

    Returns
    -------
    pandas.DataFrame
        variant, trial, participant_id, session_id, label.
    """
    columns = ["participant_id", "session_id", "label"]
    table = prepared.table.iloc[rows][columns].reset_index(drop=True)
    table.insert(0, "trial", trial)
    table.insert(0, "variant", variant)
    return table
