"""Maps that know nothing of the network, or of its training: what a heatmap has to beat. Choices are made on validation subjects.

random      noise inside the brain.
untrained   LRP of the network with its initial weights.
edges       size of the gradient (Sobel) or of the Laplacian of the scan, whichever and at whichever blur finds more.
brightness  the scan's own z-score inside the brain. Its order is that of intensity; its mass lies above the threshold of the highest
            Dice, so that mass accuracy judges what thresholding would select and rank measures the whole order (Meissen et al. 2022,
            doi:10.1007/978-3-031-08999-2_4: thresholding of FLAIR beats most anomaly models).
prior       mean lesion mask of the training part, blurred: where lesions usually lie.
"""

from dataclasses import dataclass

import keras
import numpy as np
from scipy import ndimage

from msxai.base.errors import CohortError
from msxai.model import network
from msxai.quality import localisation, scan_maps

NAMES = ("random", "untrained", "edges", "brightness", "prior")
EDGES = tuple(
    (name, blur) for name in ("sobel", "laplace") for blur in (0.0, 0.7, 1.0, 1.5)
)  # filter, blur (voxels)
BLURS = (0.0, 0.5, 1.0, 2.0, 4.0)  # of the prior, voxels
THRESHOLDS = np.arange(0.5, 3.01, 0.1)  # of the z-score
REACH = 8  # voxels round the brain that its edges can depend on: the widest blur reaches 6
FAINT = 1e-6  # slope below the threshold: keeps the order, weighs nothing


@dataclass(frozen=True)
class Tuned:
    """What the validation subjects decided.

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
        Each candidate's mean score: average precision for edges and prior, Dice for the threshold.
    """

    edges: tuple
    threshold: float
    blur: float
    prior: np.ndarray
    scores: dict


def tune(prepared, training=None, validation=None) -> Tuned:
    """Tune the baselines: prior from training subjects, all choices on validation subjects with lesions.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    training, validation : sequence of int, optional
        Rows; by default the parts of the split.

    Raises
    ------
    CohortError
        No lesion mask in one of the parts.
    """
    training = with_lesions(prepared, prepared.rows("training") if training is None else training)
    validation = with_lesions(
        prepared, prepared.rows("validation") if validation is None else validation
    )
    if not len(training) or not len(validation):
        where = "training" if not len(training) else "validation"
        raise CohortError(
            f"{prepared.name}, {where} part",
            "no subject with lesions",
            "lesion masks",
            "Give lesion masks of scans in both parts.",
        )
    total = sum(prepared.lesions(row).astype(float) for row in training) / len(training)
    priors = {blur: ndimage.gaussian_filter(total, blur) if blur else total for blur in BLURS}
    found = (
        {("edges", one): [] for one in EDGES}
        | {("threshold", one): [] for one in THRESHOLDS}
        | {("blur", one): [] for one in BLURS}
    )
    for row in validation:
        lesions, brain, bright = prepared.lesions(row), prepared.brain(row), zscore(prepared, row)
        around = localisation.box(brain, 0)
        filled = _filled(bright, brain)
        for one in EDGES:
            found["edges", one].append(
                localisation.auprc(
                    edges(bright, brain, *one, filled)[around], lesions[around], brain[around]
                )
            )
        for one in THRESHOLDS:
            found["threshold", one].append(localisation.dice_at(bright, lesions, brain, one))
        for one in BLURS:
            found["blur", one].append(localisation.auprc(priors[one] * brain, lesions, brain))
    scores = {key: float(np.mean(values)) for key, values in found.items()}
    best = {
        kind: max((key for key in scores if key[0] == kind), key=scores.get)[1]
        for kind in ("edges", "threshold", "blur")
    }
    return Tuned(
        best["edges"], float(best["threshold"]), best["blur"], priors[best["blur"]], scores
    )


def attempt(prepared) -> tuple[Tuned | None, str]:
    """`tune` where the cohort has lesion masks to tune on; else None. And in words, what was chosen or why nothing was."""
    try:
        tuned = tune(prepared)
    except CohortError as error:
        return (
            None,
            f"left out: what needs lesion masks, as the baselines cannot be tuned ({error})",
        )
    kind, blur = tuned.edges
    return (
        tuned,
        f"edges: {kind}, blur {blur}; threshold of the z-score: {tuned.threshold:.1f}; blur of the prior: {tuned.blur} voxels",
    )


def maps(
    prepared,
    row: int,
    tuned: Tuned | None,
    model: keras.Model,
    seed: int = 0,
    rule: str = "epsilon",
    **options,
) -> dict:
    """Baselines of one scan, name to float array of shape (X, Y, Z).

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    row : int
    tuned : Tuned or None
        None leaves out edges and prior, and brightness is what lies above the mean of the brain (its order needs no tuning).
    model : keras.Model
        From `untrained`.
    seed : int
        Of the random map, with `row`.
    rule : str
        Rule of LRP of the untrained network's map.
    **options
        For `msxai.quality.scan_maps.of_scan`: epsilon, threads.
    """
    brain, bright = prepared.brain(row), zscore(prepared, row)
    found = {
        "random": np.random.default_rng([seed, row]).random(brain.shape) * brain,
        "untrained": scan_maps.of_scan(model, prepared.image(row), [rule], **options)[rule],
    }
    if tuned is None:
        return found | {"brightness": brightness(bright, brain, 0.0)}
    found["edges"] = edges(bright, brain, *tuned.edges)
    return found | {
        "brightness": brightness(bright, brain, tuned.threshold),
        "prior": tuned.prior * brain,
    }


def untrained(width: int, seed: int) -> keras.Model:
    """The network with the weights that it would begin its training with."""
    keras.utils.set_random_seed(seed)
    return network.build(width)


def zscore(prepared, row: int) -> np.ndarray:
    """Scan with mean 0 and standard deviation 1 inside the brain, 0 outside, however the cohort was normalised."""
    values, brain = prepared.image(row).astype(float), prepared.brain(row)
    return np.where(brain, (values - values[brain].mean()) / values[brain].std(), 0)


def brightness(bright, brain, threshold: float) -> np.ndarray:
    """Map of a z-score: what it exceeds the threshold by, and below it a slope so faint that it decides the order alone."""
    low = bright[brain].min()
    return np.where(brain, np.maximum(bright - threshold, 0) + FAINT * (bright - low), 0)


def edges(bright, brain, kind: str = "sobel", blur: float = 1.0, filled=None) -> np.ndarray:
    """Size of the gradient or of the Laplacian of the z-score inside the brain; its own border is no edge of the scan's."""
    around, out = localisation.box(brain, REACH), np.zeros(brain.shape)
    filled, inside = (_filled(bright, brain) if filled is None else filled)[around], brain[around]
    filled = ndimage.gaussian_filter(filled, blur) if blur else filled
    sobel = [ndimage.sobel(filled, axis) for axis in range(3)] if kind == "sobel" else []
    out[around] = np.where(
        inside,
        np.sqrt(sum(one**2 for one in sobel)) if sobel else np.abs(ndimage.laplace(filled)),
        0,
    )
    return out


def _filled(values, brain) -> np.ndarray:
    """The nearest value of the brain everywhere outside it."""
    return values[
        tuple(ndimage.distance_transform_edt(~brain, return_distances=False, return_indices=True))
    ]


def with_lesions(prepared, rows) -> np.ndarray:
    """Those of `rows` whose lesion mask is there and not empty."""
    return np.array(
        [
            row
            for row in rows
            if prepared.has_lesions[row] and (prepared.lesions(row) & prepared.brain(row)).any()
        ],
        int,
    )
