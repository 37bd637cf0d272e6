"""Does the logit depend on what a map marks? Deletion and insertion, and what stands in a deleted voxel's place.

Deletion and insertion (Samek et al. 2017, doi:10.1109/TNNLS.2016.2599820; Petsiuk et al. 2018, arXiv:1806.07421) exchange the highest
voxels of a map first. They are given something that could stand there (`fill`), not zeros, which no scan has: lesions what
`msxai.data.lesion_filling` fills them with, other voxels what is usual around them.
"""

import keras
import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage, stats

from msxai.data import images, lesion_filling
from msxai.lrp import graph
from msxai.model import kernels, network

STEPS = (
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.05,
    0.1,
    0.2,
    0.5,
)  # shares of the brain that are exchanged


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
        Lesions: they and their soft border are filled by `msxai.data.lesion_filling.Filler` from normal-appearing white matter.
    """
    nearest = tuple(
        ndimage.distance_transform_edt(~brain, return_distances=False, return_indices=True)
    )
    smooth = np.array(volume)
    smooth[brain] = _medians(np.asarray(volume)[nearest], brain, size)
    differences = np.diff(volume, axis=0)[brain[1:] & brain[:-1]]
    spread = stats.median_abs_deviation(differences, scale="normal") / np.sqrt(2)
    noise = np.random.default_rng(seed).normal(0, spread, volume.shape)
    found = np.where(brain, smooth + noise, volume)
    if mask is not None and mask.any():
        without = healed(volume, mask, seed)
        found = np.where(mask | (without != np.asarray(volume, "float32")), without, found)
    return found.astype(volume.dtype)


def healed(volume, mask, seed: int = 0) -> np.ndarray:
    """A scan on the model's grid with the lesions of `mask` and their soft border filled by `msxai.data.lesion_filling.Filler`; float32."""
    scan, sites = (
        nib.Nifti1Image(np.asarray(one, "float32"), images.AFFINE) for one in (volume, mask)
    )
    return np.asarray(
        lesion_filling.Filler(seed=seed)(
            scan, sites, {"participant_id": "", "session_id": ""}
        ).dataobj,
        "float32",
    )


def _medians(values, places, size: int) -> np.ndarray:
    """Median of the cube round each of `places`, as `scipy.ndimage.median_filter` gives it, without those of all other voxels."""
    half, found = size // 2, []
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(values, half, "symmetric"), (size,) * 3
    )
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


def compare(
    logit, volume, brain, maps: dict, filled=None, seed: int = 0, orders: int = 3, steps=STEPS
) -> pd.DataFrame:
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
    filled, rng = (
        fill(volume, brain, seed) if filled is None else filled,
        np.random.default_rng(seed),
    )
    ways = {"deletion": (volume, filled, -1), "insertion": (filled, volume, 1)}
    chance = {
        way: np.mean(
            [
                exchanged(logit, *pair, brain, rng.random(volume.shape), steps)
                for _ in range(orders)
            ],
            axis=0,
        )
        for way, (*pair, _) in ways.items()
    }
    rows = [
        {"map": name}
        | {
            way: float(
                np.mean(sign * (exchanged(logit, *pair, brain, relevance, steps) - chance[way]))
            )
            for way, (*pair, sign) in ways.items()
        }
        for name, relevance in maps.items()
    ]
    return pd.DataFrame(rows)


def logit_of(model: keras.Model, threads: int = 1):
    """A function from a volume of shape (X, Y, Z) to the model's logit; `threads` of `msxai.model.kernels`."""
    plan = graph.read(model)
    fused = {} if network.on_gpu() else plan.fused

    def logit(volume) -> float:
        with kernels.threads(threads):
            batch = np.ascontiguousarray(volume[None, ..., None], "float32")
            output = graph.forward(plan, batch, fused).output
        return float(output[0, 0])

    return logit
