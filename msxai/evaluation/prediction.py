"""Scores of trained networks on a part of a cohort, and on further simulated subjects; the tables of 04_evaluation."""

import numpy as np
import pandas as pd

from msxai.base import provenance, tsv
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import open_cohort
from msxai.data.prepared import Prepared, prepare
from msxai.data.synthetic import phantom
from msxai.model import network, training

FURTHER_SEED = 1001  # as in benchmarks/generalisation.py
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
    """What the last convolution of each trained network says of scans; `predict` and the baselines of `msxai.evaluation.baselines` take it.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Where the scans are.
    rows : sequence of int
        Which scans.
    trained : dict
        Variant to a list of (folder, record) as `msxai.base.results.Results.require_trial` gives them, one a trial.
    filled : dict, optional
        Variant to the same scans with their lesions filled (`msxai.data.filled_cohort.arrays`), of those variants that see them so.

    Returns
    -------
    dict
        Variant to a list of arrays, one a trial, float32 of shape (scans of `prepared`, features); rows not asked for are NaN.
    """
    found = {}
    for variant, trials in trained.items():
        found[variant] = []
        for folder, _ in trials:
            some = training.outputs(
                network.features(network.restore(folder / "weights.npz"))[0],
                (filled or {}).get(variant, prepared),
                rows,
            )
            found[variant].append(np.full((len(prepared.table), some.shape[1]), np.nan, "float32"))
            found[variant][-1][rows] = some
    return found


def predict(prepared, rows, trained: dict, known: dict | None = None) -> pd.DataFrame:
    """Predict scans by every trial of every variant.

    Parameters
    ----------
    prepared, rows, trained
        As in `features`.
    known : dict, optional
        From `features`, of these rows at least; without it the networks are run here.

    Returns
    -------
    pandas.DataFrame
        variant, trial, participant_id, session_id, label, logit, score (probability of the patient class).
    """
    known, tables = known or features(prepared, rows, trained), []
    for variant, trials in trained.items():
        for trial, (folder, _) in enumerate(trials):
            logits = network.features(network.restore(folder / "weights.npz"))[1](
                known[variant][trial][rows]
            )
            tables.append(
                about(prepared, rows, variant, trial).assign(
                    logit=logits, score=network.probability(logits)
                )
            )
    return pd.concat(tables, ignore_index=True)


def further(
    where, prepared, cohort: str, subjects: int, jobs: int = 2
) -> tuple[Prepared | None, str]:
    """Simulate and prepare further subjects that no training has seen, so that intervals can tell something.

    Parameters
    ----------
    where : msxai.base.results.Results
        Their arrays are kept there, as those of the cohort ``<cohort>-further``.
    prepared : msxai.data.prepared.Prepared
        The embedded cohort, prepared alike.
    cohort : str
        Its name.
    subjects : int
        How many; 0 for none.
    jobs : int
        Processes.

    Returns
    -------
    prepared : msxai.data.prepared.Prepared or None
    left_out : str
        Empty, or the reason.
    """
    if not subjects:
        return None, "further subjects: left out, as none were asked for"
    if not (cohort.startswith("phantom-") and prepared.synthetic):
        return (
            None,
            "further subjects: left out, as only an embedded cohort can be simulated further",
        )
    if prepared.normalisation == "voxelwise":
        return (
            None,
            "further subjects: left out, as a voxel-wise z-score belongs to the cohort that it was taken from",
        )
    name, kind = f"{cohort}-further", cohort.removeprefix("phantom-").split("-")[0]
    options = {"normalisation": prepared.normalisation, "interpolation": prepared.interpolation}
    folder = phantom.find(name, subjects, FURTHER_SEED, jobs)
    source = open_cohort(folder, prepared.modality, phantom.PATIENTS[kind], "HC")
    split = source.table[["participant_id", "session_id"]].assign(part="holdout")
    splits.write(split, where.split(name))
    prepare(source, split, where.prepared(name), jobs=jobs, **options)
    return Prepared(where.prepared(name), where.split(name)), ""


def save(
    where, tables: dict, parameters: dict, cohort: str, trained: dict, filled: dict | None = None
) -> None:
    """Write the tables of an evaluation, predictions and scores among them, and, last, provenance.json.

    Parameters
    ----------
    where : msxai.base.results.Results
    tables : dict
        Name without ending to a table; an empty one is not written, and one of an earlier run is taken away.
    parameters : dict
        The notebook's.
    cohort : str
    trained, filled : dict
        As in `features`.
    """
    folder, files = where.evaluation(), []
    (folder / "provenance.json").unlink(missing_ok=True)
    for name in TABLES:
        path, table = folder / f"{name}.tsv", tables.get(name)
        if table is None or table.empty:
            path.unlink(missing_ok=True)
            continue
        files.append(tsv.write(table, path))
    weights = [folder / "weights.npz" for trials in trained.values() for folder, _ in trials]
    inputs = [where.prepared(cohort), *{one.path for one in (filled or {}).values()}, *weights]
    provenance.write_json(
        folder / "provenance.json", provenance.record(parameters, inputs, files)
    )


def read(folder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions and scores as `save` wrote them."""
    return tsv.read(folder / "predictions.tsv"), tsv.read(folder / "scores.tsv")


def about(prepared, rows, variant: str, trial: int) -> pd.DataFrame:
    """The columns that all predictions begin with: variant, trial, participant_id, session_id, label."""
    table = prepared.table.iloc[rows][["participant_id", "session_id", "label"]].reset_index(
        drop=True
    )
    table.insert(0, "trial", trial)
    table.insert(0, "variant", variant)
    return table
