"""Does a map depend on what the network has learnt, and does the logit depend on what the map marks?

Cascading randomisation (Adebayo et al. 2018, arXiv:1810.03292) gives the layers new weights, from the output down: a map that stays as it
was explains nothing. eMPRT (Hedstroem et al. 2024, arXiv:2401.06465) compares the complexity of the map before and after. Neither ranks
methods (Binder et al. 2023, doi:10.1109/CVPR52729.2023.01550): they can only reject.

Deletion and insertion (Samek et al. 2017, doi:10.1109/TNNLS.2016.2599820; Petsiuk et al. 2018, arXiv:1806.07421) exchange the highest
voxels of a map first. They are given something that could stand there (`fill`), not zeros, which no scan has: lesions what
`msxai.lesions` fills them with, other voxels what is usual around them.
"""

import keras
import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage, stats

from . import graph, images, kernels, lesions, lrp, network, quality

JITTERS = {"half a voxel": (0.5, 0.0), "one voxel": (1.0, 0.0), "2 degrees": (0.0, 2.0)}  # shift along x (voxels), turn about z
EXPECTED = {
    "randomised: SSIM": "<= .2 or the reference",
    "randomised: rank": "<= .2",
    "randomised: eMPRT": "> 0",
    "conservation error": "near 0",
    "conservation error without biases": "<= 1e-4",
    **{f"moved by {name}: rank": "near the reference" for name in JITTERS},
}
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # shares of the brain that are exchanged
OTHER_SEEDS = 1_000_003  # added to a seed: that of a training would give the weights that it began with, and trained ones resemble them
BINS = 100  # of the histogram of eMPRT's entropy


def ssim(first, second, mask, size: int = 7) -> float:
    """Mean structural similarity of two maps over `mask`, each divided by its own largest size first.

    Parameters
    ----------
    first, second : ndarray of shape (X, Y, Z)
    mask : ndarray of bool, same shape
    size : int
        Edge of the cube (voxels).

    References
    ----------
    Wang et al. 2004, IEEE Transactions on Image Processing 13:600, doi:10.1109/TIP.2003.819861 (uniform window, L = 2).
    """
    first, second = (np.asarray(one, float) / max(np.abs(one).max(), 1e-300) for one in (first, second))
    mean = [ndimage.uniform_filter(one, size) for one in (first, second)]
    sample = size**3 / (size**3 - 1)
    square = [sample * (ndimage.uniform_filter(one * one, size) - middle**2) for one, middle in zip((first, second), mean, strict=True)]
    shared = sample * (ndimage.uniform_filter(first * second, size) - mean[0] * mean[1])
    one, two = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    found = (2 * mean[0] * mean[1] + one) * (2 * shared + two)
    found /= (mean[0] ** 2 + mean[1] ** 2 + one) * (square[0] + square[1] + two)
    return float(found[mask].mean())


def randomised(model: keras.Model, seed: int = 0):
    """Yield (name of the layer, model with this and all later layers' weights drawn anew), from the output down; the model is a copy."""
    keras.utils.set_random_seed(OTHER_SEEDS + seed)
    copy = keras.models.clone_model(model)  # its own new weights
    fresh = {layer.name: layer.get_weights() for layer in copy.layers}
    copy.set_weights(model.get_weights())
    for layer in reversed(copy.layers):
        if fresh[layer.name]:
            layer.set_weights(fresh[layer.name])
            yield layer.name, copy


def cascade(model: keras.Model, volume, brain, seed: int = 0, **options) -> pd.DataFrame:
    """Cascading randomisation of one scan.

    Parameters
    ----------
    model : keras.Model
    volume : ndarray of shape (X, Y, Z, 1)
    brain : ndarray of bool, shape (X, Y, Z)
    seed : int
        Of the new weights.
    **options
        For `msxai.lrp.explain`: rule, epsilon, threads.

    Returns
    -------
    pandas.DataFrame
        One row a step: layer ("" before any), ssim and rank (Spearman) with the map of the trained network over the brain,
        complexity (entropy of the map) and emprt (complexity relative to the trained network's, less 1).
    """

    def explained(one):
        return lrp.explain(one, volume[None], **options).relevance[0, ..., 0]

    original = explained(model)
    before, rows = complexity(original, brain), [("", 1.0, 1.0, complexity(original, brain))]
    for name, one in randomised(model, seed):
        found = explained(one)
        rows.append((name, ssim(original, found, brain), quality.consistency(original, found, brain), complexity(found, brain)))
    table = pd.DataFrame(rows, columns=["layer", "ssim", "rank", "complexity"])
    return table.assign(emprt=table["complexity"] / before - 1 if before > 0 else np.nan)


def complexity(relevance, brain) -> float:
    """Entropy (nat) of the histogram of a map over the brain, between its own smallest and largest value, as eMPRT takes it."""
    return float(stats.entropy(np.histogram(np.asarray(relevance)[brain], BINS)[0]))


def bias_free(model: keras.Model) -> keras.Model:
    """A copy of the model with all biases 0."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for layer in copy.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(0 * layer.bias)
    return copy


def conservation(explanation: lrp.Explanation) -> np.ndarray:
    """|sum(R) - f(x)| / |f(x)| of each volume, shape (N,)."""
    return np.abs(explanation.conserved - 1)


def moved(values, shift: float, degrees: float, back: bool = False) -> np.ndarray:
    """A volume of shape (X, Y, Z) turned about z round the middle of the grid, then shifted along x (voxels); linear, 0 outside.

    With `back` the inverse.
    """
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn, middle = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]), (np.array(values.shape) - 1) / 2
    step = np.array([shift, 0, 0])
    if back:
        return ndimage.affine_transform(values, turn, middle + step - turn @ middle, order=1)
    return ndimage.affine_transform(values, turn.T, middle - turn.T @ (middle + step), order=1)


def jitter(model: keras.Model, volume, brain, **options) -> dict:
    """Does the map move with the scan, as after another registration?

    Parameters
    ----------
    model, volume, brain, **options
        See `cascade`.

    Returns
    -------
    dict
        Name of `JITTERS` to Spearman's correlation over the brain of the map with that of the moved scan, moved back; and to the ceiling,
        the same of the map moved there and back, which interpolation alone leaves.
    """

    def explained(scan):
        return lrp.explain(model, scan[None, ..., None], **options).relevance[0, ..., 0]

    original, found = explained(volume[..., 0]), {}
    for name, move in JITTERS.items():
        there, alone = explained(moved(volume[..., 0], *move)), moved(original, *move)
        found[name] = tuple(quality.consistency(original, moved(one, *move, back=True), brain) for one in (there, alone))
    return found


def checks(model: keras.Model, prepared, rows, *, epsilon: float, seed: int, threads: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Randomisation, conservation and registration jitter of the epsilon rule, scan by scan; means with their bootstrap intervals.

    Parameters
    ----------
    model : keras.Model
    prepared : msxai.prepared.Prepared
    rows : sequence of int
        A few scans: each takes some 17 explanations.
    epsilon, seed, threads
        Of the rule; of the new weights and the bootstrap; of the kernels.

    Returns
    -------
    table : pandas.DataFrame
        One row a check: check, value, low, high (mean over subjects), reference, subjects, expected. The reference is what a map scores
        that was only interpolated (jitter), or whose voxels were shuffled within the brain (SSIM: maps of few high voxels are alike by
        what they lack, so that chance may lie far above 0).
    cascades : pandas.DataFrame
        `cascade` of each scan with participant_id and session_id.
    """
    options, free, found, cascades = {"rule": "epsilon", "epsilon": epsilon, "threads": threads}, bias_free(model), [], []
    for row in rows:
        volume, brain = prepared.image(row)[..., None], prepared.brain(row)
        who = {name: prepared.table[name].iloc[row] for name in ("participant_id", "session_id")}
        steps = cascade(model, volume, brain, seed, **options)
        cascades.append(steps.assign(**who))
        plain = lrp.explain(model, volume[None], **options)
        original, shuffled = plain.relevance[0, ..., 0], np.zeros(brain.shape)
        shuffled[brain] = np.random.default_rng(seed).permutation(original[brain])
        exact = lrp.explain(free, volume[None], "epsilon", 1e-9, dtype="float64", threads=threads)
        last = steps.iloc[-1]
        values = {"randomised: SSIM": last["ssim"], "randomised: rank": last["rank"], "randomised: eMPRT": last["emprt"],
                  "conservation error": conservation(plain)[0],
                  "conservation error without biases": conservation(exact)[0]}  # fmt: skip
        references = {"randomised: SSIM": ssim(original, shuffled, brain)}
        for name, pair in jitter(model, volume, brain, **options).items():
            values[f"moved by {name}: rank"], references[f"moved by {name}: rank"] = pair
        found += [{**who, "check": name, "value": float(value), "reference": references.get(name)} for name, value in values.items()]
    each = pd.DataFrame(found).astype({"reference": float})
    each = each.groupby(["check", "participant_id"], sort=False)[["value", "reference"]].mean().reset_index()  # visits of a subject
    table = []
    for name, one in each.groupby("check", sort=False):
        mean, low, high = quality.mean_interval(one["value"], seed)
        table.append({"check": name, "value": mean, "low": low, "high": high, "reference": one["reference"].mean(),
                      "subjects": len(one), "expected": EXPECTED[name]})  # fmt: skip
    return pd.DataFrame(table), pd.concat(cascades, ignore_index=True)


def fill(volume, brain, seed: int = 0, size: int = 9, mask=None) -> np.ndarray:
    """A scan without its lesions and small bright or dark spots: each voxel the median of its cube inside the brain, with the scan's noise.

    Parameters
    ----------
    volume : ndarray of shape (X, Y, Z)
    brain : ndarray of bool, same shape
    seed : int
        Of the noise, whose size is the scan's own: the robust spread of the differences of neighbours.
    size : int
        Edge of the cube (voxels).
    mask : ndarray of bool, shape (X, Y, Z), optional
        Lesions: they and their soft border are filled by `msxai.lesions.Filler` from normal-appearing white matter.
    """
    nearest = tuple(ndimage.distance_transform_edt(~brain, return_distances=False, return_indices=True))
    smooth = np.array(volume)
    smooth[brain] = _medians(np.asarray(volume)[nearest], brain, size)
    differences = np.diff(volume, axis=0)[brain[1:] & brain[:-1]]
    spread = stats.median_abs_deviation(differences, scale="normal") / np.sqrt(2)
    noise = np.random.default_rng(seed).normal(0, spread, volume.shape)
    found = np.where(brain, smooth + noise, volume)
    if mask is not None and mask.any():
        scan, sites = (nib.Nifti1Image(np.asarray(one, "float32"), images.AFFINE) for one in (volume, mask))
        healed = np.asarray(lesions.Filler(seed=seed)(scan, sites, {"participant_id": "", "session_id": ""}).dataobj)
        found = np.where(mask | (healed != np.asarray(volume, "float32")), healed, found)
    return found.astype(volume.dtype)


def _medians(values, places, size: int) -> np.ndarray:
    """Median of the cube round each of `places`, as `scipy.ndimage.median_filter` gives it, without those of all other voxels."""
    half, found = size // 2, []
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, half, "symmetric"), (size,) * 3)
    for part in np.array_split(np.argwhere(places), max(places.sum() // 4096, 1)):
        cubes = windows[tuple(part.T)].reshape(len(part), -1)
        found.append(np.partition(cubes, cubes.shape[1] // 2, axis=1)[:, cubes.shape[1] // 2])
    return np.concatenate(found)


def exchanged(logit, volume, other, brain, relevance, steps=STEPS) -> np.ndarray:
    """Logits as the voxels of highest relevance are taken from `other`, one for each of `steps`.

    Parameters
    ----------
    logit : callable
        Volume of shape (X, Y, Z) to its logit.
    volume, other, relevance : ndarray of shape (X, Y, Z)
    brain : ndarray of bool, same shape
    steps : sequence of float
        Shares of the brain's voxels.
    """
    places = np.flatnonzero(brain.ravel())
    order = places[np.argsort(-np.asarray(relevance, float)[brain], kind="stable")]
    found = []
    for step in steps:
        mixed, taken = volume.copy(), order[: round(step * len(order))]
        mixed.ravel()[taken] = other.ravel()[taken]
        found.append(float(logit(mixed)))
    return np.array(found)


def faithfulness(logit, volume, brain, maps: dict, filled=None, seed: int = 0, orders: int = 3, steps=STEPS) -> pd.DataFrame:
    """Deletion and insertion of one scan: area between each map's curve and that of random orders, positive where the map does better.

    Parameters
    ----------
    logit, volume, brain, steps
        See `exchanged`.
    maps : dict
        Name to map.
    filled : ndarray of shape (X, Y, Z), optional
        What could stand in each voxel; by default from `fill`.
    seed, orders : int
        Of the random orders, and how many are averaged.

    Returns
    -------
    pandas.DataFrame
        map, deletion, insertion: mean over `steps` of the difference in logits.
    """
    filled, rng = fill(volume, brain, seed) if filled is None else filled, np.random.default_rng(seed)
    ways = {"deletion": (volume, filled, -1), "insertion": (filled, volume, 1)}
    chance = {way: np.mean([exchanged(logit, *pair, brain, rng.random(volume.shape), steps) for _ in range(orders)], axis=0)
              for way, (*pair, _) in ways.items()}  # fmt: skip
    rows = [{"map": name} | {way: float(np.mean(sign * (exchanged(logit, *pair, brain, relevance, steps) - chance[way])))
                             for way, (*pair, sign) in ways.items()} for name, relevance in maps.items()]  # fmt: skip
    return pd.DataFrame(rows)


def logit_of(model: keras.Model, threads: int = 1):
    """A function from a volume of shape (X, Y, Z) to the model's logit; `threads` of `msxai.kernels`."""
    plan = graph.read(model)
    fused = {} if network.on_gpu() else plan.fused

    def logit(volume) -> float:
        with kernels.threads(threads):
            values, _ = graph.forward(plan, np.ascontiguousarray(volume[None, ..., None], "float32"), fused)
        return float(keras.ops.convert_to_numpy(values[-1])[0, 0])

    return logit
