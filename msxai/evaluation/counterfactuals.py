"""What trained networks say of the same subjects once their lesions are filled, and once white matter without lesions is instead.

Were a network's score to rest on lesions, filling them would lower the patients' logits and the AUC, and filling sham sites would not.
What sham sites change is what the filling itself does to a network, lesions apart.
"""

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from msxai.base import statistics
from msxai.data import images, lesion_filling
from msxai.model import network

CHANGES = ("untouched", "filled", "sham")
PAIRS = (("untouched", ""), ("filled", "untouched"), ("sham", "untouched"), ("filled", "sham"))
KEYS = ["variant", "trial", "participant_id", "session_id", "label"]
COLUMNS = [
    "variant",
    "change",
    "reference",
    "patients",
    "controls",
    *(name + bound for name in ("auc", "auc_difference") for bound in ("", "_low", "_high")),
    "p",
    *(
        f"{group}_logit_change{bound}"
        for group in ("patients", "controls")
        for bound in ("", "_low", "_high")
    ),
    "patients_volume",
    "controls_volume",
]


def changed(
    prepared, row: int, change: str, *, how: str = "noise", seed: int = 0, others: int | None = None
):
    """A scan as it would have been prepared with its lesions, or sham sites, filled.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Normalised by "zscore" or "max": both are linear, so filling before or after them is the same, up to rounding and to which piece
        of white matter fits best by it.
    row : int
        Which scan.
    change : {"filled", "sham"}
        "filled": its own lesions. "sham": the mirror image of its lesions, where that is normal-appearing white matter.
    how, seed
        See `msxai.data.lesion_filling.Filler`.
    others : int, optional
        Whose lesions the sham sites are the mirror image of; by default the scan's own.

    Returns
    -------
    values : ndarray of shape (96, 114, 96), float32
        Normalised anew, as the filled voxels count in a scan's mean and spread; the very scan where nothing was to be filled.
    replaced : int
        Voxels that were filled, wholly or in part.
    """
    filler = lesion_filling.Filler(how, {"filled": "lesions", "sham": "sham"}[change], seed)
    old = prepared.image(row)
    scan, own, sites = (
        nib.Nifti1Image(np.asarray(values, "float32"), prepared.affine)
        for values in (
            old,
            prepared.lesions(row),
            prepared.lesions(row if others is None else others),
        )
    )
    new = np.asarray(filler(scan, own, prepared.table.iloc[row].to_dict(), sites).dataobj)
    replaced = int((new != old).sum())
    return (
        images.normalise(new, prepared.brain(row), prepared.normalisation) if replaced else old
    ), replaced


def matched(prepared, rows, seed: int = 0) -> dict:
    """For each control's scan the patient's scan whose sites its sham filling takes, drawn at random, each patient about equally often."""
    labels = prepared.table["label"].to_numpy(int)
    patients, controls = ([row for row in rows if labels[row] == label] for label in (1, 0))
    return dict(
        zip(
            controls,
            np.resize(np.random.default_rng(seed).permutation(patients), len(controls)).tolist(),
            strict=True,
        )
    )


def predict(
    prepared,
    rows,
    trained: dict,
    known: pd.DataFrame,
    *,
    how: str = "noise",
    seed: int = 0,
    wanted: bool = True,
):
    """Predict scans as they are, with all lesions filled (patients' and controls' alike), and with sham sites filled in either group.

    Sham sites are mirrored lesions: a patient's own ones, and for a control those of a patient drawn by the seed (`matched`), so that both
    groups are filled alike, in the same places and about as much: less than the lesions themselves, by what is no normal-appearing white
    matter on the other side.

    Parameters
    ----------
    prepared, rows, trained
        As in `msxai.evaluation.prediction.predict`.
    known : pandas.DataFrame
        What `msxai.evaluation.prediction.predict` says of these scans as they are; a scan that a change leaves as it is is not run again.
    how, seed
        See `msxai.data.lesion_filling.Filler`.
    wanted : bool
        False leaves it out.

    Returns
    -------
    predictions : pandas.DataFrame
        variant, trial, participant_id, session_id, label, change ("untouched", "filled", "sham"), logit, score, volume (mm3 that the
        change replaced, wholly or in part). Empty where it is left out.
    left_out : str
        Empty, or why.
    """
    table = pd.DataFrame(columns=[*KEYS, "change", "logit", "score", "volume"])
    rows = [
        row
        for row in rows
        if prepared.has_lesions[row] and pd.notna(prepared.table["label"].iloc[row])
    ]
    counts = np.bincount(prepared.table["label"].iloc[rows].to_numpy(int), minlength=2)
    if not wanted:
        return table, "it was not asked for"
    if prepared.normalisation not in ("zscore", "max"):
        return table, f"normalisation {prepared.normalisation} is not one scan's own"
    if counts.min() < 2:
        return (
            table,
            "it takes two patients and two controls with a lesion mask (which may be empty)",
        )
    nets = {
        (variant, trial): network.restore(folder / "weights.npz")
        for variant, trials in trained.items()
        for trial, (folder, _) in enumerate(trials)
    }
    others, found = matched(prepared, rows, seed), []
    voxel = images.voxel_volume(prepared.affine)
    known = known.assign(session_id=known["session_id"].fillna("")).set_index(KEYS[:-1])["logit"]
    for row in tqdm(rows, desc="filling", unit="scan"):
        old, about = prepared.image(row), prepared.table.iloc[row]
        name = {"participant_id": about["participant_id"], "session_id": about["session_id"] or ""}
        for change in CHANGES:
            new, replaced = old, 0
            if change != "untouched":
                new, replaced = changed(
                    prepared, row, change, how=how, seed=seed, others=others.get(row)
                )
            for (variant, trial), net in nets.items():
                logit = (
                    net(new[None, ..., None], training=False).numpy()[0, 0]
                    if replaced
                    else known[(variant, trial, *name.values())]
                )
                found.append(
                    {
                        "variant": variant,
                        "trial": trial,
                        **name,
                        "label": int(about["label"]),
                        "change": change,
                        "logit": float(logit),
                        "volume": replaced * voxel,
                    }
                )
    return pd.DataFrame(found).assign(score=lambda table: network.probability(table["logit"]))[
        table.columns
    ], ""


def table(predictions: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """AUC of each variant under each change, and paired differences over the same subjects.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From `predict`. A subject's score and logit are means over its scans and the variant's trials: one classifier a variant.
    level : float
        Coverage of the intervals.

    Returns
    -------
    pandas.DataFrame
        One row a variant and pair of `PAIRS`: variant, change, reference, patients, controls (subjects); auc of the change (DeLong;
        Newcombe where the groups are separated wholly); auc_difference, change less reference, and its two-sided p (paired DeLong; no
        interval where that finds no variance); patients_logit_change and controls_logit_change, mean change less reference (Student's
        interval over subjects); each with ``_low`` and ``_high``; patients_volume and controls_volume, mean of what the change replaced
        (mm3).
    """
    rows = []
    for variant, found in predictions.groupby("variant", sort=False):
        wide = found.pivot_table(
            index=["participant_id", "label"], columns="change", values=["score", "logit", "volume"]
        )
        labels = wide.index.get_level_values("label").to_numpy(int)
        groups = {"patients": labels == 1, "controls": labels == 0}
        for change, reference in PAIRS:
            score, logit, volume = (
                wide[name, change].to_numpy() for name in ("score", "logit", "volume")
            )
            row = {
                "variant": variant,
                "change": change,
                "reference": reference,
                "auc": statistics.auc(labels, score),
            }
            row["auc_low"], row["auc_high"] = statistics.auc_interval(labels, score, level)
            for name, members in groups.items():
                row |= {name: int(members.sum()), f"{name}_volume": volume[members].mean()}
            if reference:
                value, low, high, p = statistics.auc_difference(
                    labels, score, wide["score", reference].to_numpy(), level
                )
                low, high = (np.nan, np.nan) if np.isnan(p) else (low, high)
                row |= {
                    "auc_difference": value,
                    "auc_difference_low": low,
                    "auc_difference_high": high,
                    "p": p,
                }
                for name, members in groups.items():
                    moved = (logit - wide["logit", reference].to_numpy())[members]
                    half = stats.t.isf((1 - level) / 2, len(moved) - 1) * stats.sem(moved)
                    for bound, far in (("", 0), ("_low", -half), ("_high", half)):
                        row[f"{name}_logit_change{bound}"] = moved.mean() + far
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)
