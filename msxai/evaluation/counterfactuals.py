"""Predictions for the same subjects without their lesions: lesion filling as a counterfactual.

Every scan is predicted three times: as it is ("untouched"), with its lesions filled by white
matter ("filled"), and with normal-appearing white matter filled at sham sites ("sham"). If a score
depends on lesions, filling them lowers the logits of patients and the AUC, and filling sham sites
does not. The change by sham sites is the effect of the filling itself on a network.
"""

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from msxai.base import statistics
from msxai.data import images, lesion_filling
from msxai.model import network

__all__ = ["CHANGES", "COLUMNS", "changed", "matched", "predict", "table"]

CHANGES = ("untouched", "filled", "sham")
_PAIRS = (
    ("untouched", ""),
    ("filled", "untouched"),
    ("sham", "untouched"),
    ("filled", "sham"),
)
"""Change and the reference that is subtracted from it; none for the first."""

COLUMNS = [
    "variant",
    "change",
    "reference",
    "patients",
    "controls",
    "auc",
    "auc_low",
    "auc_high",
    "auc_difference",
    "auc_difference_low",
    "auc_difference_high",
    "p",
    "patients_logit_change",
    "patients_logit_change_low",
    "patients_logit_change_high",
    "controls_logit_change",
    "controls_logit_change_low",
    "controls_logit_change_high",
    "patients_volume",
    "controls_volume",
]
_SCAN = ["variant", "trial", "participant_id", "session_id"]
_PREDICTIONS = [*_SCAN, "label", "change", "logit", "score", "volume"]
_SITES = {"filled": "lesions", "sham": "sham"}  # change to the sites of the filler


def changed(
    prepared,
    row: int,
    change: str,
    *,
    how: str = "noise",
    seed: int = 0,
    donor: int | None = None,
    ground: lesion_filling.Ground | None = None,
) -> tuple[np.ndarray, int]:
    """Return a scan as it would have been prepared with its lesions, or sham sites, filled.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Normalised by "zscore" or "max". Both are linear, so that filling before or after them is
        the same, up to rounding and to the piece of white matter that fits best.
    row : int
        Which scan.
    change : {"filled", "sham"}
        "filled": its own lesions. "sham": the mirror image of lesions, where that is
        normal-appearing white matter.
    how, seed
        See `msxai.data.lesion_filling.Filler`.
    donor : int, optional
        Row of the scan whose lesions are mirrored to find sham sites; by default the scan itself.
    ground : msxai.data.lesion_filling.Ground, optional
        Of the scan (`Ground.of`); saves time where it is changed more than once.

    Returns
    -------
    values : ndarray of shape (96, 114, 96), float32
        Normalised again, because the filled voxels change the mean and spread of the scan. The
        scan itself where nothing had to be filled.
    replaced : int
        Number of voxels that were filled, wholly or in part.
    """
    filler = lesion_filling.Filler(how, _SITES[change], seed)
    untouched = prepared.image(row)
    donor = row if donor is None else donor
    sites = nib.Nifti1Image(prepared.lesions(donor).astype("uint8"), prepared.affine)
    filled = filler.prepared_scan(prepared, row, sites, ground)
    replaced = int((filled != untouched).sum())
    if not replaced:
        return untouched, 0
    values = images.normalise(filled, prepared.brain(row), prepared.normalisation)
    return values, replaced


def matched(prepared, rows, seed: int = 0) -> dict:
    """Match each control's scan with a patient's scan, whose sites its sham filling takes.

    Patients are drawn at random, each about equally often.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    rows : sequence of int
        Scans, all with a label.
    seed : int
        Of the draw.

    Returns
    -------
    dict
        Row of a control to row of a patient.
    """
    labels = prepared.table["label"]
    patients = [row for row in rows if labels.iloc[row] == 1]
    controls = [row for row in rows if labels.iloc[row] == 0]
    shuffled = np.random.default_rng(seed).permutation(patients)
    donors = np.resize(shuffled, len(controls)).tolist()
    return dict(zip(controls, donors, strict=True))


def predict(
    prepared,
    rows,
    trained: dict,
    untouched: pd.DataFrame,
    *,
    how: str = "noise",
    seed: int = 0,
    wanted: bool = True,
) -> tuple[pd.DataFrame, str]:
    """Predict scans as they are, with all lesions filled, and with sham sites filled.

    Lesions of patients and of controls are filled. Sham sites are mirrored lesions: a patient's
    own, and for a control those of a patient (`matched`). Both groups are thus filled alike: at
    the same sites and with similar volume, which is that of the lesions minus the part that has no
    normal-appearing white matter on the other side.

    Parameters
    ----------
    prepared, rows, trained
        As in `msxai.evaluation.prediction.predict`.
    untouched : pandas.DataFrame
        Predictions of these scans as they are, from `msxai.evaluation.prediction.predict`. A scan
        without any filled voxel is not predicted again.
    how, seed
        See `msxai.data.lesion_filling.Filler`.
    wanted : bool
        False leaves the predictions out.

    Returns
    -------
    predictions : pandas.DataFrame
        variant, trial, participant_id, session_id, label, change (of `CHANGES`), logit, score,
        volume (mm3 that was filled, wholly or in part). Empty where it is left out.
    left_out : str
        Empty, or the reason.
    """
    rows = _usable(prepared, rows)
    reason = _reason_to_leave_out(prepared, rows, wanted)
    if reason:
        return pd.DataFrame(columns=_PREDICTIONS), reason
    networks = {}
    for variant, trials in trained.items():
        for trial, (folder, _) in enumerate(trials):
            networks[variant, trial] = network.restore(folder / "weights.npz", fast=True)
    donors = matched(prepared, rows, seed)
    voxel_volume = images.voxel_volume(prepared.affine)
    untouched = untouched.fillna({"session_id": ""}).set_index(_SCAN)["logit"]
    predictions = []
    for row in tqdm(rows, desc="filling", unit="scan"):
        scan = prepared.table.iloc[row]
        participant = scan["participant_id"]
        session = scan["session_id"] or ""
        ground = lesion_filling.Ground.of(prepared, row)
        for change in CHANGES:
            replaced = 0
            if change != "untouched":
                values, replaced = changed(
                    prepared,
                    row,
                    change,
                    how=how,
                    seed=seed,
                    donor=donors.get(row),
                    ground=ground,
                )
            for (variant, trial), net in networks.items():
                if replaced:
                    logit = _logit(net, values)
                else:
                    logit = float(untouched[variant, trial, participant, session])
                prediction = {
                    "variant": variant,
                    "trial": trial,
                    "participant_id": participant,
                    "session_id": session,
                    "label": int(scan["label"]),
                    "change": change,
                    "logit": logit,
                    "volume": replaced * voxel_volume,
                }
                predictions.append(prediction)
    predictions = pd.DataFrame(predictions)
    predictions["score"] = network.probability(predictions["logit"])
    return predictions[_PREDICTIONS], ""


def _usable(prepared, rows) -> list[int]:
    """Return the scans with a label and a lesion mask, which may be empty."""
    labelled = prepared.table["label"].notna().to_numpy()
    return [row for row in rows if prepared.has_lesions[row] and labelled[row]]


def _reason_to_leave_out(prepared, rows, wanted: bool) -> str:
    """Return why nothing can be filled; empty where it can."""
    if not wanted:
        return "it was not requested"
    if prepared.normalisation not in ("zscore", "max"):
        return f"normalisation {prepared.normalisation} does not depend on one scan alone"
    labels = prepared.table["label"].iloc[rows].to_numpy(int)
    patients = (labels == 1).sum()
    controls = (labels == 0).sum()
    if min(patients, controls) < 2:
        return "two patients and two controls with a lesion mask (which may be empty) are needed"
    return ""


def _logit(net, values) -> float:
    """Return the logit of one scan of shape (X, Y, Z)."""
    return float(network.logits(net, values[None, ..., None])[0])


def table(predictions: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Return the AUC of each variant after each change, and paired differences.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From `predict`. The score and logit of a subject are means over its scans and the trials of
        the variant: each variant is one classifier.
    level : float
        Coverage of the intervals.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`; one row a variant, change and reference, with the same subjects in all. Columns
        with an interval have ``_low`` and ``_high``.

        - patients, controls: number of subjects.
        - auc: of the change; interval by DeLong, or by Newcombe where the scores separate the
          groups completely.
        - auc_difference: change minus reference, with the two-sided p; paired DeLong, no interval
          where that finds no variance.
        - patients_logit_change, controls_logit_change: mean of change minus reference, with
          Student's interval over subjects.
        - patients_volume, controls_volume: mean volume that the change replaced (mm3).
    """
    rows = []
    for variant, table_of_variant in predictions.groupby("variant", sort=False):
        wide = table_of_variant.pivot_table(
            index=["participant_id", "label"],
            columns="change",
            values=["score", "logit", "volume"],
        )
        for change, reference in _PAIRS:
            row = {"variant": variant, "change": change, "reference": reference}
            row |= _after(wide, change, level)
            if reference:
                row |= _difference(wide, change, reference, level)
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def _groups(wide: pd.DataFrame) -> dict:
    """Return which subjects are patients and which are controls."""
    labels = wide.index.get_level_values("label")
    return {"patients": labels == 1, "controls": labels == 0}


def _after(wide: pd.DataFrame, change: str, level: float) -> dict:
    """Return the columns of one change: AUC, numbers of subjects, replaced volume."""
    labels = wide.index.get_level_values("label").to_numpy(int)
    scores = wide["score", change].to_numpy()
    row = {"auc": statistics.auc(labels, scores)}
    row["auc_low"], row["auc_high"] = statistics.auc_interval(labels, scores, level)
    for group, members in _groups(wide).items():
        row[group] = int(members.sum())
        row[f"{group}_volume"] = wide["volume", change].to_numpy()[members].mean()
    return row


def _difference(wide: pd.DataFrame, change: str, reference: str, level: float) -> dict:
    """Return the columns of a paired difference: AUC with its p, logits."""
    difference, low, high, p = statistics.auc_difference(
        wide.index.get_level_values("label").to_numpy(int),
        wide["score", change].to_numpy(),
        wide["score", reference].to_numpy(),
        level,
    )
    row = {"auc_difference": difference, "p": p}
    if not np.isnan(p):  # without variance there is no evidence of equality
        row |= {"auc_difference_low": low, "auc_difference_high": high}
    shifts = wide["logit", change].to_numpy() - wide["logit", reference].to_numpy()
    for group, members in _groups(wide).items():
        shifts_of_group = shifts[members]
        mean = shifts_of_group.mean()
        quantile = stats.t.isf((1 - level) / 2, len(shifts_of_group) - 1)
        half = quantile * stats.sem(shifts_of_group)
        row[f"{group}_logit_change"] = mean
        row[f"{group}_logit_change_low"] = mean - half
        row[f"{group}_logit_change_high"] = mean + half
    return row
