"""Does a map need the training? The same methods on networks in three states of training.

A map that finds lesions as well with random weights shows where the scan is bright, not what was
learnt (Adebayo et al. 2018, arXiv:1810.03292). Such a test can reject a method, it cannot rank
methods (Binder et al. 2023, arXiv:2211.12486).
"""

from dataclasses import dataclass, field
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from msxai import lrp
from msxai.base import provenance, statistics, tsv
from msxai.base.errors import MissingStepError
from msxai.base.parameters import one_of
from msxai.data import images
from msxai.lrp import rules
from msxai.model import network
from msxai.quality import localisation

__all__ = [
    "GRADIENTS",
    "METHODS",
    "PRETRAINED",
    "RANDOM",
    "SCANS",
    "STATES",
    "SUMMARY",
    "TUNED",
    "Networks",
    "Options",
    "networks",
    "rank_accuracy",
    "read",
    "summary",
    "write",
]

METHODS = (*rules.NAMES, *lrp.METHODS)
GRADIENTS = ("gradient", "input_x_gradient", "guided_backpropagation")
"""Methods beside LRP that need one pass for a map; the others need tens to hundreds."""

_MAGNITUDE = ("gradient", "smoothgrad", "guided_backpropagation")
"""Gradients: their magnitude matters, whatever their sign."""

TUNED = "fine-tuned"
PRETRAINED = "pre-trained only"
RANDOM = "random weights"
STATES = (TUNED, PRETRAINED, RANDOM)
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
_LEFT_OUT = "attribution methods"


@dataclass(frozen=True)
class Networks:
    """The networks that are compared.

    Attributes
    ----------
    by_state : dict
        State (of `STATES`) to a list of networks.
    files : list of path
        The weights files that they come from.
    left_out : dict
        State to the reason.
    """

    by_state: dict
    files: list = field(default_factory=list)
    left_out: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """How scans are explained and their shares are summed up.

    Attributes
    ----------
    methods : tuple of str
        Of `METHODS`: LRP rules and composites, and other methods.
    seed : int
        Of the bootstrap.
    threads : int
        Of `msxai.lrp.Computation`.

    Raises
    ------
    ParameterError
        Unknown method, with the nearest one that exists.
    """

    methods: tuple[str, ...] = ("epsilon", *GRADIENTS)
    seed: int = 0
    threads: int = 1

    def __post_init__(self):
        for method in self.methods:
            one_of("method", method, METHODS)


def rank_accuracy(values, lesions, brain) -> float:
    """Return the share of lesion voxels among the n highest voxels of the brain.

    n is the number of lesion voxels in the brain; NaN without any. This is the measure rra of
    `msxai.quality.localisation` inside the brain, because gradients are not 0 outside it. Of
    voxels that tie for the last ranks, and of those that are not positive, each counts with the
    probability that it is among the highest.

    Parameters
    ----------
    values : ndarray of any shape
    lesions, brain : ndarray of bool, same shape

    References
    ----------
    Arras et al. 2022, Information Fusion 81:14-40, doi:10.1016/j.inffus.2021.11.008.
    """
    if not lesions[brain].any():
        return np.nan
    return localisation.measure(values[brain], lesions[brain], names=["rra"])["rra"]


def networks(
    where, variant: str, trials: int, cohort: str, seed: int = 0, weights: str = ""
) -> Networks:
    """Load the networks to compare: fine-tuned, before fine-tuning, and with random weights.

    Parameters
    ----------
    where : msxai.base.results.Results
    variant : str
        Of 03_fine_tuning.
    trials : int
        Number of its trials, and of random networks.
    cohort : str
    seed : int
        Of the random weights.
    weights : str
        A weights file in place of the variant's trials. Nothing is compared then, because its
        training is not known.

    Raises
    ------
    MissingStepError, StaleInputError
        The fine-tuning is missing or does not fit: see
        `msxai.base.results.Results.require_trial`.
    """
    if weights:
        reason = "one weights file was given, and how its training began is not known"
        return Networks({}, left_out={_LEFT_OUT: reason})
    files = []
    sources = []
    for trial in range(trials):
        folder, record = where.require_trial(variant, trial, cohort=cohort)
        files.append(folder / "weights.npz")
        source = _initial_weights(record["parameters"])
        if source not in sources:
            sources.append(source)
    by_state = {TUNED: [network.restore(path) for path in files]}
    left_out = {}
    try:
        initial = [where.initial_weights(source) for source in sources]
        if None in initial:
            left_out[PRETRAINED] = f"the variant {variant} starts from random weights"
        else:
            by_state[PRETRAINED] = [network.restore(path) for path in initial]
            files += initial
    except MissingStepError as error:
        left_out[PRETRAINED] = str(error)
    width = by_state[TUNED][0].get_layer("conv1").filters
    head = network.head_of(files[0])
    by_state[RANDOM] = []
    for trial in range(trials):
        keras.utils.set_random_seed(seed + trial)
        by_state[RANDOM].append(network.build(width, head=head))
    return Networks(by_state, files, left_out)


def _initial_weights(parameters: dict) -> str:
    """Return the initial weights that a fine-tuning was given; older records call them start."""
    return parameters.get("initial_weights") or parameters["start"]


def write(
    folder,
    prepared,
    rows,
    compared: Networks,
    parameters: dict,
    options: Options | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Explain scans with lesions by every method on every network.

    Writes maps of the scan with the largest lesion volume (mean over the networks of a state, on
    the model's grid), methods.tsv, scans.tsv and, last, provenance.json.

    Parameters
    ----------
    folder : path
        Replaced as a whole.
    prepared : msxai.data.prepared.Prepared
    rows : sequence of int
        Which scans. Those without a lesion in the brain are ignored.
    compared : Networks
    parameters : dict
        Of the notebook.
    options : Options, optional
        By default LRP's epsilon rule and `GRADIENTS`, one thread.

    Returns
    -------
    methods : pandas.DataFrame
        From `summary`.
    scans : pandas.DataFrame
        `SCANS`, one row a map: share (`rank_accuracy`), chance (the lesions' share of the brain),
        path of the map or none.
    """
    if options is None:
        options = Options()
    folder = Path(folder)
    left_out = dict(compared.left_out)
    sizes = {}
    for row in rows:
        size = int((prepared.lesions(row) & prepared.brain(row)).sum())
        if size:
            sizes[row] = size
    if not sizes:
        left_out[_LEFT_OUT] = "no scan has a lesion in its mask"
    largest = max(sizes, key=sizes.get, default=None)
    total = len(sizes) * len(options.methods) * len(compared.by_state)
    computation = lrp.Computation(threads=options.threads)
    shares = []
    with provenance.replacing(folder) as draft, tqdm(total=total, desc="explaining") as progress:
        draft.mkdir()
        for row in sizes:
            for method in options.methods:
                for state, models in compared.by_state.items():
                    volume = prepared.image(row)
                    maps = [_explained(model, volume, method, computation) for model in models]
                    path = None
                    if row == largest:
                        path = _file_name(prepared.table.iloc[row], method, state)
                        _save(np.mean(maps, axis=0, dtype="float32"), draft / path)
                    for trial, relevance in enumerate(maps):
                        share = _share(prepared, row, method, relevance)
                        share |= {"state": state, "trial": trial, "path": path}
                        shares.append(share)
                    progress.update()
        scans = pd.DataFrame(shares, columns=SCANS)
        by_method = summary(scans, options.seed)
        tsv.write(by_method, draft / "methods.tsv", float_format="%.9g")
        tsv.write(scans, draft / "scans.tsv", float_format="%.9g")
    inputs = [prepared.path, *compared.files]
    outputs = [folder / "methods.tsv", folder / "scans.tsv"]
    record = provenance.record(parameters, inputs, outputs, left_out=left_out)
    provenance.write_json(folder / "provenance.json", record)
    return by_method, scans


def _explained(model, volume, method: str, computation: lrp.Computation) -> np.ndarray:
    """Return the map of one scan, shape (X, Y, Z)."""
    volumes = np.asarray(volume, "float32")[None, ..., None]
    explanation = lrp.explain(model, volumes, method, computation=computation)
    return explanation.relevance[0, ..., 0]


def _share(prepared, row: int, method: str, relevance) -> dict:
    """Return the columns of `SCANS` that depend on the scan and its map."""
    brain = prepared.brain(row)
    lesions = prepared.lesions(row)
    scan = prepared.table.iloc[row]
    size = int((lesions & brain).sum())
    values = np.abs(relevance) if method in _MAGNITUDE else relevance
    return {
        "method": method,
        "participant_id": scan["participant_id"],
        "session_id": scan["session_id"],
        "label": scan["label"],
        "lesion_voxels": size,
        "share": rank_accuracy(values, lesions, brain),
        "chance": size / int(brain.sum()),
    }


def _save(relevance, path: Path) -> None:
    """Write a map on the model's grid as NIfTI in MNI space."""
    image = nib.Nifti1Image(relevance, images.AFFINE)
    image.set_sform(images.AFFINE, 4)
    nib.save(image, path)


def _file_name(scan: pd.Series, method: str, state: str) -> str:
    """Return the BIDS name of a map."""
    words = f"{method} {state}".replace("_", " ").replace("-", " ").split()
    description = "".join(word.capitalize() for word in words)
    entities = [scan["participant_id"]]
    if scan["session_id"]:
        entities.append(scan["session_id"])
    entities += ["space-MNI152", f"desc-{description}", "stat-relevance", "statmap.nii.gz"]
    return "_".join(entities)


def read(folder) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Read the tables of `write`.

    Returns
    -------
    methods, scans : pandas.DataFrame
    reason : str
        Why they are empty; empty where they are not.
    """
    folder = Path(folder)
    record = folder / "provenance.json"
    if not record.is_file():
        reason = "07_explanation_quality has not run."
        return pd.DataFrame(columns=SUMMARY), pd.DataFrame(columns=SCANS), reason
    left_out = provenance.read(record)["left_out"]
    reason = f"{left_out[_LEFT_OUT]}." if _LEFT_OUT in left_out else ""
    return tsv.read(folder / "methods.tsv"), tsv.read(folder / "scans.tsv"), reason


def summary(scans: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return the mean share over subjects, and its paired difference to that of random weights.

    The 95 % intervals are over subjects only. One untrained network may find more lesions than
    another by chance, so compare with several.

    Parameters
    ----------
    scans : pandas.DataFrame
        state, method, participant_id, trial, share, chance. Networks and visits of a subject are
        averaged first.
    seed : int
        Of the bootstrap, with the same resamples for all.

    Returns
    -------
    pandas.DataFrame
        `SUMMARY`, one row a state and method; no difference for random weights.
    """
    rows = []
    for method, of_method in scans.groupby("method", sort=False):
        by_subject = of_method.pivot_table("share", "participant_id", "state")
        chance = of_method.groupby("participant_id")["chance"].mean().mean()
        subjects = len(by_subject)
        counts = of_method.groupby("state", sort=False)["trial"].nunique()
        for state, count in counts.items():
            row = {
                "state": state,
                "method": method,
                "subjects": subjects,
                "networks": count,
                "chance": chance,
            }
            shares = by_subject[state]
            row["share"] = shares.mean()
            row["low"], row["high"] = statistics.bootstrap_mean_interval(shares, seed)
            if state != RANDOM and RANDOM in by_subject:
                differences = shares - by_subject[RANDOM]
                low, high = statistics.bootstrap_mean_interval(differences, seed)
                row["difference"] = differences.mean()
                row["difference_low"] = low
                row["difference_high"] = high
            rows.append(row)
    return pd.DataFrame(rows, columns=SUMMARY)
