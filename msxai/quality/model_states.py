"""Does a heatmap tell what the network has learned? Attribution methods on the fine-tuned, the pre-trained and an untrained network.

A map that finds lesions as well with random weights shows where the scan is bright, not what was learned (Adebayo et al. 2018,
arXiv:1810.03292). Such a test can reject a method, not rank methods (Binder et al. 2023, arXiv:2211.12486).
"""

import json
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from msxai import lrp
from msxai.base import provenance, statistics
from msxai.base.errors import MissingStepError
from msxai.base.parameters import one_of
from msxai.data import images
from msxai.model import network
from msxai.quality import localisation

METHODS = ("lrp", *lrp.METHODS)
QUICK = (
    "lrp",
    "gradient",
    "input_x_gradient",
    "guided_backpropagation",
)  # one pass a map; the others take tens to hundreds
SIZED = (
    "gradient",
    "smoothgrad",
    "guided_backpropagation",
)  # slopes: what matters is their size, whatever their sign
TUNED, PRETRAINED, RANDOM = STATES = ("fine-tuned", "pre-trained only", "random weights")
SCANS = [
    "state",
    "method",
    "participant_id",
    "session_id",
    "label",
    "trial",
    "lesion_voxels",
    "share",
    "chance",
    "path",
]
SUMMARY = [
    "state",
    "method",
    "subjects",
    "networks",
    "share",
    "low",
    "high",
    "chance",
    "difference",
    "difference_low",
    "difference_high",
]


def rank_accuracy(values, lesions, brain) -> float:
    """Share of lesion voxels among the n highest voxels of the brain, n the number of lesion voxels in it; NaN without any.

    `msxai.quality.localisation.rra` inside the brain, as slopes lie outside of it too. Of voxels that tie for the last places, and of those that are
    not positive, each counts by its chance to be among them.

    Parameters
    ----------
    values : ndarray of any shape
    lesions, brain : ndarray of bool, same shape

    References
    ----------
    Relevance rank accuracy: Arras et al. 2022, Information Fusion 81:14-40, doi:10.1016/j.inffus.2021.11.008.
    """
    return localisation.rra(values[brain], lesions[brain]) if lesions[brain].any() else np.nan


def networks(
    where, variant: str, trials: int, cohort: str, seed: int = 0, weights: str = ""
) -> tuple[dict, list, dict]:
    """The networks to compare: fine-tuned, as its fine-tuning began, and with random weights.

    Parameters
    ----------
    where : msxai.base.results.Results
    variant : str
        Of 03_fine_tuning.
    trials : int
        How many of its trials; as many random networks.
    cohort : str
    seed : int
        Of the random weights.
    weights : str
        A weights file in place of the variant's trials: how it was trained is not known, so there is nothing to compare.

    Returns
    -------
    models : dict
        State (of `STATES`) to a list of networks.
    files : list of path
        The weights files that they come from.
    left_out : dict
        State to the reason.

    Raises
    ------
    MissingStepError, StaleInputError
        The fine-tuning is not there or does not fit: see `msxai.base.results.Results.require_trial`.
    """
    if weights:
        return (
            {},
            [],
            {
                "attribution methods": "one weights file was given, and how its training began is not known"
            },
        )
    found = [where.require_trial(variant, trial, cohort=cohort) for trial in range(trials)]
    files, left_out = [folder / "weights.npz" for folder, _ in found], {}
    models = {TUNED: [network.restore(path) for path in files]}
    try:
        start = where.initial_weights(found[0][1]["parameters"]["start"])
        if start is None:
            left_out[PRETRAINED] = f"the variant {variant} starts from random weights"
        else:
            models[PRETRAINED], files = [network.restore(start)], [*files, start]
    except MissingStepError as error:
        left_out[PRETRAINED] = str(error)
    models[RANDOM] = []
    for trial in range(trials):
        keras.utils.set_random_seed(seed + trial)
        models[RANDOM].append(network.build(models[TUNED][0].get_layer("conv1").filters))
    return models, files, left_out


def write(
    folder,
    prepared,
    rows,
    models: dict,
    parameters: dict,
    inputs,
    left_out=None,
    *,
    methods=QUICK,
    shown: int = 1,
    seed=0,
):
    """Explain scans with lesions by every method on every network; write maps, methods.tsv, scans.tsv and, last, provenance.json.

    Parameters
    ----------
    folder : path
        Replaced as a whole.
    prepared : msxai.data.prepared.Prepared
    rows : sequence of int
        Which scans; those without a lesion in the brain are passed over.
    models : dict
        State to a list of networks (`networks`).
    parameters : dict
        The notebook's.
    inputs : iterable of path
        What the networks and scans come from.
    left_out : dict, optional
        From `networks`; kept in provenance.json.
    methods : sequence of str
        Of `METHODS`.
    shown : int
        Of how many scans the maps are kept, those of the largest lesion volume; mean over a state's networks, on the model's grid.
    seed : int
        Of the bootstrap.

    Returns
    -------
    summary, scans : pandas.DataFrame
        `summary`; and `SCANS`: share (`rank_accuracy`) of each map, chance (the lesions' share of the brain), path of the map, or none.

    Raises
    ------
    ParameterError
        Unknown method, with the nearest known one.
    """
    for method in methods:
        one_of("method", method, METHODS)
    folder, left_out, found = Path(folder), dict(left_out or {}), []
    sizes = {row: int((prepared.lesions(row) & prepared.brain(row)).sum()) for row in rows}
    rows = [row for row in rows if sizes[row]]
    kept = sorted(rows, key=lambda row: -sizes[row])[:shown]
    if not rows:
        left_out["attribution methods"] = "no scan has a lesion in its mask"
    with (
        provenance.replacing(folder) as draft,
        tqdm(total=len(rows) * len(methods) * len(models), desc="explaining") as bar,
    ):
        draft.mkdir()
        for row in rows:
            scan, brain, lesions, volume = (
                prepared.table.iloc[row],
                prepared.brain(row),
                prepared.lesions(row),
                prepared.image(row),
            )
            for method in methods:
                for state, networks in models.items():
                    maps = [_explained(one, volume, method) for one in networks]
                    path = _name(scan, method, state) if row in kept else None
                    if path:
                        image = nib.Nifti1Image(np.mean(maps, 0, dtype="float32"), images.AFFINE)
                        image.set_sform(images.AFFINE, 4)
                        nib.save(image, draft / path)
                    for trial, values in enumerate(maps):
                        share = rank_accuracy(
                            np.abs(values) if method in SIZED else values, lesions, brain
                        )
                        about = {
                            name: scan[name] for name in ("participant_id", "session_id", "label")
                        }
                        found.append(
                            {
                                "state": state,
                                "method": method,
                                **about,
                                "trial": trial,
                                "lesion_voxels": sizes[row],
                                "share": share,
                                "chance": sizes[row] / int(brain.sum()),
                                "path": path,
                            }
                        )
                    bar.update()
        scans = pd.DataFrame(found, columns=SCANS)
        tables = {"methods": summary(scans, seed), "scans": scans}
        for name, table in tables.items():
            table.to_csv(
                draft / f"{name}.tsv", sep="\t", index=False, na_rep="n/a", float_format="%.9g"
            )
    record = provenance.record(
        parameters, inputs, [folder / f"{name}.tsv" for name in tables], left_out=left_out
    )
    provenance.write_json(folder / "provenance.json", record)
    return tables["methods"], scans


def read(folder) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Tables as `write` wrote them, and why they are empty where they are."""
    folder = Path(folder)
    if not (folder / "provenance.json").is_file():
        return (
            pd.DataFrame(columns=SUMMARY),
            pd.DataFrame(columns=SCANS),
            "07_explanation_quality has not run.",
        )
    tables = (
        pd.read_csv(
            folder / f"{name}.tsv",
            sep="\t",
            na_values="n/a",
            keep_default_na=False,
            dtype={"session_id": str},
        )
        for name in ("methods", "scans")
    )
    left_out = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["left_out"]
    return (
        *tables,
        f"{left_out['attribution methods']}." if "attribution methods" in left_out else "",
    )


def summary(scans: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Mean share over subjects, and its paired difference to that of random weights, each with a 95 % bootstrap interval of subjects.

    The interval is over subjects only: one untrained network may find more lesions than another by its draw, so compare with several.

    Parameters
    ----------
    scans : pandas.DataFrame
        state, method, participant_id, trial, share, chance; networks and visits of a subject are averaged first.
    seed : int
        Of the bootstrap, the same resamples for all.

    Returns
    -------
    pandas.DataFrame
        `SUMMARY`, one row a state and method; no difference for random weights.
    """
    rows = []
    for method, mine in scans.groupby("method", sort=False):
        wide = mine.pivot_table("share", "participant_id", "state")
        chance = mine.groupby("participant_id")["chance"].mean().mean()
        weights = statistics.bootstrap_weights(np.zeros(len(wide)), seed) / len(wide)
        for state, networks in mine.groupby("state", sort=False)["trial"].nunique().items():
            row = {
                "state": state,
                "method": method,
                "subjects": len(wide),
                "networks": networks,
                "chance": chance,
            }
            row |= dict(zip(("share", "low", "high"), _interval(wide[state], weights), strict=True))
            if state != RANDOM and RANDOM in wide:
                bounds = _interval(wide[state] - wide[RANDOM], weights)
                row |= dict(
                    zip(("difference", "difference_low", "difference_high"), bounds, strict=True)
                )
            rows.append(row)
    return pd.DataFrame(rows, columns=SUMMARY)


def _interval(values: pd.Series, weights) -> tuple:
    return values.mean(), *np.quantile(weights @ values.to_numpy(), [0.025, 0.975])


def _explained(model, volume, method: str) -> np.ndarray:
    volumes = np.asarray(volume, "float32")[None, ..., None]
    rule_or_method = "epsilon" if method == "lrp" else method
    return lrp.explain(model, volumes, rule_or_method).relevance[0, ..., 0]


def _name(scan: pd.Series, method: str, state: str) -> str:
    how = "".join(
        word.capitalize()
        for word in f"{method} {state}".replace("_", " ").replace("-", " ").split()
    )
    return "_".join(
        filter(
            None,
            [
                scan["participant_id"],
                scan["session_id"],
                f"space-MNI152_desc-{how}_stat-relevance_statmap.nii.gz",
            ],
        )
    )
