"""Maps without knowledge of the network or of its training: what a heatmap has to beat.

random
    Noise inside the brain.
untrained
    LRP of the network with its initial weights.
edges
    Magnitude of the gradient (Sobel) or of the Laplacian of the scan, at the blur that finds most.
brightness
    The scan's own z-score inside the brain. Its order is that of the intensity. Its mass lies above
    the threshold of the highest Dice, so that mass accuracy judges the voxels that thresholding
    selects and rank measures judge the whole order. Thresholding of FLAIR is better than most
    anomaly models (Meissen et al. 2022, doi:10.1007/978-3-031-08999-2_4).
prior
    Mean lesion mask of the training part, blurred: where lesions usually are.

All choices are made on validation subjects.
"""

from dataclasses import dataclass

import keras
import numpy as np
from scipy import ndimage

from msxai.base.errors import CohortError
from msxai.model import network
from msxai.quality import localisation, scan_maps

__all__ = [
    "NAMES",
    "Tuned",
    "attempt",
    "brightness",
    "edges",
    "maps",
    "tune",
    "untrained",
    "with_lesions",
    "zscore",
]

NAMES = ("random", "untrained", "edges", "brightness", "prior")
_EDGES = (
    ("sobel", 0.0),
    ("sobel", 0.7),
    ("sobel", 1.0),
    ("sobel", 1.5),
    ("laplace", 0.0),
    ("laplace", 0.7),
    ("laplace", 1.0),
    ("laplace", 1.5),
)
"""Filters and their blurs (voxels)."""

_BLURS = (0.0, 0.5, 1.0, 2.0, 4.0)  # of the prior, voxels
_THRESHOLDS = np.arange(0.5, 3.01, 0.1)  # of the z-score
_REACH = 8  # voxels round the brain that its edges can depend on: the widest blur reaches 6
_FAINT = 1e-6  # gradient below the threshold: it keeps the order and has almost no mass


@dataclass(frozen=True)
class Tuned:
    """What was selected on the validation subjects.

    Attributes
    ----------
    edges : tuple of (str, float)
        Filter and its blur (voxels).
    threshold : float
        z-score.
    blur : float
        Of the prior (voxels).
    prior : ndarray of shape (X, Y, Z)
        Blurred mean lesion mask of the training part.
    scores : dict
        (kind, candidate) to its mean score: average precision for edges and prior, Dice for the
        threshold.
    """

    edges: tuple
    threshold: float
    blur: float
    prior: np.ndarray
    scores: dict


def tune(prepared, training=None, validation=None) -> Tuned:
    """Tune the baselines: the prior on training subjects, all choices on validation subjects.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    training, validation : sequence of int, optional
        Rows; by default the parts of the split. Scans without lesions are ignored.

    Raises
    ------
    CohortError
        No lesion mask in one of the parts.
    """
    training = _part(prepared, "training", training)
    validation = _part(prepared, "validation", validation)
    priors = _priors(prepared, training)
    scores = {}
    for row in validation:
        for candidate, score in _candidate_scores(prepared, row, priors).items():
            scores.setdefault(candidate, []).append(score)
    means = {candidate: float(np.mean(values)) for candidate, values in scores.items()}
    blur = _best(means, "blur")
    return Tuned(
        edges=_best(means, "edges"),
        threshold=float(_best(means, "threshold")),
        blur=blur,
        prior=priors[blur],
        scores=means,
    )


def _part(prepared, part: str, rows) -> np.ndarray:
    """Return the scans with lesions of a part, or of the given rows."""
    if rows is None:
        rows = prepared.rows(part)
    rows = with_lesions(prepared, rows)
    if not len(rows):
        raise CohortError(
            f"{prepared.name}, {part} part",
            "no subject with lesions",
            "lesion masks",
            "Give lesion masks of scans in both parts.",
        )
    return rows


def _priors(prepared, training) -> dict:
    """Return blur to the blurred mean lesion mask of the training scans."""
    total = sum(prepared.lesions(row).astype(float) for row in training)
    mean = total / len(training)
    priors = {}
    for blur in _BLURS:
        priors[blur] = ndimage.gaussian_filter(mean, blur) if blur else mean
    return priors


def _candidate_scores(prepared, row: int, priors: dict) -> dict:
    """Return (kind, candidate) to its score on one scan."""
    lesions = prepared.lesions(row)
    brain = prepared.brain(row)
    bright = zscore(prepared, row)
    extended = _extended(bright, brain)
    around = localisation.box(brain, 0)
    scores = {}
    for kind, blur in _EDGES:
        values = edges(bright, brain, kind, blur, extended)
        scores["edges", (kind, blur)] = _auprc(values[around], lesions[around], brain[around])
    for threshold in _THRESHOLDS:
        dice = localisation.dice_at(bright, lesions, brain, threshold)
        scores["threshold", threshold] = dice
    for blur, prior in priors.items():
        scores["blur", blur] = _auprc(prior * brain, lesions, brain)
    return scores


def _auprc(relevance, lesions, brain) -> float:
    return localisation.measure(relevance, lesions, brain, names=["auprc"])["auprc"]


def _best(means: dict, kind: str):
    """Return the candidate of a kind with the highest mean; the first of equal ones."""
    candidates = [key for key in means if key[0] == kind]
    _, best = max(candidates, key=means.get)
    return best


def attempt(prepared) -> tuple[Tuned | None, str]:
    """Tune the baselines where the cohort has lesion masks.

    Returns
    -------
    tuned : Tuned or None
    words : str
        What was selected, or why nothing was.
    """
    try:
        tuned = tune(prepared)
    except CohortError as error:
        reason = f"because the baselines cannot be tuned ({error})"
        return None, f"left out: what needs lesion masks, {reason}"
    kind, blur = tuned.edges
    words = (
        f"edges: {kind}, blur {blur}; threshold of the z-score: {tuned.threshold:.1f}; "
        f"blur of the prior: {tuned.blur} voxels"
    )
    return tuned, words


def maps(
    prepared,
    row: int,
    tuned: Tuned | None,
    model: keras.Model,
    seed: int = 0,
    rule: str = "epsilon",
    **options,
) -> dict:
    """Return the baselines of one scan.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    row : int
    tuned : Tuned or None
        None leaves out edges and prior. Brightness is then what lies above the mean of the brain,
        because its order needs no tuning.
    model : keras.Model
        From `untrained`.
    seed : int
        Of the random map, with `row`.
    rule : str
        Rule of LRP of the untrained network's map.
    **options
        For `msxai.quality.scan_maps.of_scan`: epsilon, threads.

    Returns
    -------
    dict
        Name (of `NAMES`) to float array of shape (X, Y, Z).
    """
    brain = prepared.brain(row)
    bright = zscore(prepared, row)
    noise = np.random.default_rng([seed, row]).random(brain.shape)
    explained = scan_maps.of_scan(model, prepared.image(row), [rule], **options)
    baselines = {"random": noise * brain, "untrained": explained[rule]}
    if tuned is None:
        baselines["brightness"] = brightness(bright, brain, 0.0)
        return baselines
    kind, blur = tuned.edges
    baselines["edges"] = edges(bright, brain, kind, blur)
    baselines["brightness"] = brightness(bright, brain, tuned.threshold)
    baselines["prior"] = tuned.prior * brain
    return baselines


def untrained(width: int, seed: int) -> keras.Model:
    """Return the network with the weights that its training would begin with."""
    keras.utils.set_random_seed(seed)
    return network.build(width)


def zscore(prepared, row: int) -> np.ndarray:
    """Return a scan with mean 0 and standard deviation 1 inside the brain, 0 outside.

    The normalisation of the cohort does not matter.
    """
    values = prepared.image(row).astype(float)
    brain = prepared.brain(row)
    mean = values[brain].mean()
    spread = values[brain].std()
    return np.where(brain, (values - mean) / spread, 0)


def brightness(bright, brain, threshold: float) -> np.ndarray:
    """Return the map of a z-score: its excess over a threshold.

    Below the threshold the map has a gradient so faint that it decides only the order of voxels.

    Parameters
    ----------
    bright : ndarray of shape (X, Y, Z)
        From `zscore`.
    brain : ndarray of bool, same shape
    threshold : float
    """
    excess = np.maximum(bright - threshold, 0)
    above_minimum = bright - bright[brain].min()
    return np.where(brain, excess + _FAINT * above_minimum, 0)


def edges(bright, brain, kind: str = "sobel", blur: float = 1.0, extended=None) -> np.ndarray:
    """Return the magnitude of the gradient or of the Laplacian of a z-score inside the brain.

    The border of the brain is no edge, because the scan is extended beyond it.

    Parameters
    ----------
    bright : ndarray of shape (X, Y, Z)
        From `zscore`.
    brain : ndarray of bool, same shape
    kind : {"sobel", "laplace"}
    blur : float
        Standard deviation (voxels).
    extended : ndarray of shape (X, Y, Z), optional
        The z-score with the nearest value of the brain outside it, where it is available.
    """
    if extended is None:
        extended = _extended(bright, brain)
    around = localisation.box(brain, _REACH)
    smooth = extended[around]
    if blur:
        smooth = ndimage.gaussian_filter(smooth, blur)
    if kind == "sobel":
        squares = [ndimage.sobel(smooth, axis) ** 2 for axis in range(3)]
        magnitude = np.sqrt(sum(squares))
    else:
        magnitude = np.abs(ndimage.laplace(smooth))
    result = np.zeros(brain.shape)
    result[around] = np.where(brain[around], magnitude, 0)
    return result


def _extended(values, brain) -> np.ndarray:
    """Return the values with the nearest value of the brain everywhere outside it."""
    nearest = ndimage.distance_transform_edt(~brain, return_distances=False, return_indices=True)
    return values[tuple(nearest)]


def with_lesions(prepared, rows) -> np.ndarray:
    """Return the rows whose lesion mask exists and has a voxel in the brain."""
    lesioned = []
    for row in rows:
        if prepared.has_lesions[row] and (prepared.lesions(row) & prepared.brain(row)).any():
            lesioned.append(row)
    return np.array(lesioned, int)
