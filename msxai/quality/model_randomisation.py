"""Does a map depend on what the network has learnt, does it move with the scan, and does it add up to the logit?

Cascading randomisation (Adebayo et al. 2018, arXiv:1810.03292) gives the layers new weights, from the output down: a map that stays as it
was explains nothing. eMPRT (Hedstroem et al. 2024, arXiv:2401.06465) compares the complexity of the map before and after. Neither ranks
methods (Binder et al. 2023, doi:10.1109/CVPR52729.2023.01550): they can only reject.
"""

import keras
import numpy as np
import pandas as pd
from scipy import ndimage, stats

from msxai import lrp
from msxai.quality import localisation, scan_maps

JITTERS = {
    "half a voxel": (0.5, 0.0),
    "one voxel": (1.0, 0.0),
    "2 degrees": (0.0, 2.0),
}  # shift along x (voxels), turn about z
EXPECTED = {
    "randomised: SSIM": "<= .2 or the reference",
    "randomised: rank": "<= .2",
    "randomised: eMPRT": "> 0",
    "conservation error": "near 0",
    "conservation error without biases": "<= 1e-4",
    **{f"moved by {name}: rank": "near the reference" for name in JITTERS},
}
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
    first, second = (
        np.asarray(one, float) / max(np.abs(one).max(), 1e-300) for one in (first, second)
    )
    around = localisation.box(mask, size)
    first, second, mask = first[around], second[around], mask[around]
    mean = [ndimage.uniform_filter(one, size) for one in (first, second)]
    sample = size**3 / (size**3 - 1)
    square = [
        sample * (ndimage.uniform_filter(one * one, size) - middle**2)
        for one, middle in zip((first, second), mean, strict=True)
    ]
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


def cascade(
    model: keras.Model, volume, brain, names, seed: int = 0, original: dict | None = None, **options
) -> pd.DataFrame:
    """Cascading randomisation of one scan.

    Parameters
    ----------
    model : keras.Model
    volume : ndarray of shape (X, Y, Z)
    brain : ndarray of bool, same shape
    names : sequence of str
        Rules and methods, see `msxai.quality.scan_maps.of_scan`.
    seed : int
        Of the new weights.
    original : dict, optional
        Maps of the trained network, where they are at hand.
    **options
        For `msxai.quality.scan_maps.of_scan`: epsilon, threads.

    Returns
    -------
    pandas.DataFrame
        One row a map and step: map, layer ("" before any), ssim and rank (Spearman) with the map of the trained network over the brain,
        complexity (entropy of the map) and emprt (complexity relative to the trained network's, less 1).
    """
    original = original or scan_maps.of_scan(model, volume, names, **options)
    before = {name: complexity(original[name], brain) for name in names}
    rows = [(name, "", 1.0, 1.0, before[name]) for name in names]
    for layer, one in randomised(model, seed):
        for name, found in scan_maps.of_scan(one, volume, names, **options).items():
            alike = (
                ssim(original[name], found, brain),
                localisation.consistency(original[name], found, brain),
            )
            rows.append((name, layer, *alike, complexity(found, brain)))
    table = pd.DataFrame(rows, columns=["map", "layer", "ssim", "rank", "complexity"])
    table = table.sort_values(
        "map",
        key=lambda column: column.map({name: place for place, name in enumerate(names)}),
        kind="stable",
    )
    trained = table["map"].map(before)
    return table.assign(emprt=(table["complexity"] / trained - 1).where(trained > 0)).reset_index(
        drop=True
    )


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
    total = explanation.relevance.sum(axis=(1, 2, 3, 4), dtype=float)
    return np.abs(total / explanation.logits - 1)


def moved(values, shift: float, degrees: float, back: bool = False) -> np.ndarray:
    """A volume of shape (X, Y, Z) turned about z round the middle of the grid, then shifted along x (voxels); linear, 0 outside.

    With `back` the inverse.
    """
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn, middle = (
        np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]),
        (np.array(values.shape) - 1) / 2,
    )
    step = np.array([shift, 0, 0])
    if back:
        return ndimage.affine_transform(values, turn, middle + step - turn @ middle, order=1)
    return ndimage.affine_transform(values, turn.T, middle - turn.T @ (middle + step), order=1)


def jitter(
    model: keras.Model, volume, brain, names, original: dict | None = None, **options
) -> dict:
    """Does a map move with the scan, as after another registration?

    Parameters
    ----------
    model, volume, brain, names, original, **options
        See `cascade`.

    Returns
    -------
    dict
        (map, name of `JITTERS`) to Spearman's correlation over the brain of the map with that of the moved scan, moved back; and to the
        ceiling, the same of the map moved there and back, which interpolation alone leaves.
    """
    original, found = original or scan_maps.of_scan(model, volume, names, **options), {}
    for jitter, move in JITTERS.items():
        for name, there in scan_maps.of_scan(model, moved(volume, *move), names, **options).items():
            back = (moved(one, *move, back=True) for one in (there, moved(original[name], *move)))
            found[name, jitter] = tuple(
                localisation.consistency(original[name], one, brain) for one in back
            )
    return found


def checks(
    model: keras.Model, prepared, rows, names, *, epsilon: float, seed: int, threads: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Randomisation, registration jitter and, of rules of LRP, conservation, scan by scan; means with their bootstrap intervals.

    Parameters
    ----------
    model : keras.Model
    prepared : msxai.data.prepared.Prepared
    rows : sequence of int
        A few scans: each takes some ten explanations a map.
    names : sequence of str
        Rules and methods, see `msxai.quality.scan_maps.of_scan`.
    epsilon, seed, threads
        Of the epsilon rule; of the new weights and the bootstrap; of the kernels.

    Returns
    -------
    table : pandas.DataFrame
        One row a map and check: map, check, value, low, high (mean over subjects), reference, subjects, expected. The reference is what a
        map scores that was only interpolated (jitter), or whose voxels were shuffled within the brain (SSIM: maps of few high voxels are
        alike by what they lack, so that chance may lie far above 0).
    cascades : pandas.DataFrame
        `cascade` of each scan with participant_id and session_id.
    """
    options, free, found, cascades = (
        {"epsilon": epsilon, "threads": threads},
        bias_free(model),
        [],
        [],
    )
    ruled = [name for name in names if name not in lrp.METHODS]
    for row in rows:
        volume, brain = prepared.image(row), prepared.brain(row)
        who = {name: prepared.table[name].iloc[row] for name in ("participant_id", "session_id")}
        original = scan_maps.of_scan(model, volume, names, **options)
        steps = cascade(model, volume, brain, names, seed, original, **options)
        cascades.append(steps.assign(**who))
        last, values, references = (
            steps.drop_duplicates("map", keep="last").set_index("map"),
            {},
            {},
        )
        for name in names:
            shuffled = np.zeros(brain.shape)
            shuffled[brain] = np.random.default_rng(seed).permutation(original[name][brain])
            values |= {
                (name, f"randomised: {label}"): last.loc[name, column]
                for label, column in (("SSIM", "ssim"), ("rank", "rank"), ("eMPRT", "emprt"))
            }
            references[name, "randomised: SSIM"] = ssim(original[name], shuffled, brain)
        plain = (
            lrp.explain_each(
                model,
                volume[None, ..., None],
                ruled,
                epsilon=epsilon,
                computation=lrp.Computation(threads=threads),
            )
            if ruled
            else {}
        )
        exact = (
            lrp.explain_each(
                free,
                volume[None, ..., None],
                ruled,
                epsilon=1e-9,
                computation=lrp.Computation(dtype="float64", threads=threads),
            )
            if ruled
            else {}
        )
        for label, each in (
            ("conservation error", plain),
            ("conservation error without biases", exact),
        ):
            values |= {(name, label): conservation(one)[0] for name, one in each.items()}
        for (name, move), pair in jitter(model, volume, brain, names, original, **options).items():
            values[name, f"moved by {move}: rank"], references[name, f"moved by {move}: rank"] = (
                pair
            )
        found += [
            {
                **who,
                "map": key[0],
                "check": key[1],
                "value": float(value),
                "reference": references.get(key, np.nan),
            }
            for key, value in values.items()
        ]
    each = (
        pd.DataFrame(found)
        .groupby(["map", "check", "participant_id"], sort=False)[["value", "reference"]]
        .mean()
    )
    each, table = each.reset_index(), []  # visits of a subject are one
    for name in names:
        for check, expected in EXPECTED.items():
            one = each[(each["map"] == name) & (each["check"] == check)]
            if len(one):
                mean, low, high = localisation.mean_interval(one["value"], seed)
                table.append(
                    {
                        "map": name,
                        "check": check,
                        "value": mean,
                        "low": low,
                        "high": high,
                        "reference": one["reference"].mean(),
                        "subjects": len(one),
                        "expected": expected,
                    }
                )
    return pd.DataFrame(table), pd.concat(cascades, ignore_index=True)
