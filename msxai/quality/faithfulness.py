"""Does the logit depend on what a map marks? Deletion and insertion.

Deletion and insertion exchange the highest voxels of a map first (Samek et al. 2017,
doi:10.1109/TNNLS.2016.2599820; Petsiuk et al. 2018, arXiv:1806.07421). The exchanged voxels get
values that a scan could have (`fill`), not zeros, which no scan has. Lesions get what
`msxai.data.lesion_filling` fills them with; other voxels get what is usual around them.
"""

from dataclasses import dataclass

import keras
import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage, stats

from msxai.data import images, lesion_filling
from msxai.lrp import graph, reader
from msxai.model import kernels, network

__all__ = ["STEPS", "Exchange", "compare", "exchanged", "fill", "healed", "logit_of"]

STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of the brain that are exchanged."""

_BATCH = 4096  # cubes that are sorted at a time, which bounds memory


@dataclass(frozen=True)
class Exchange:
    """A scan, and the values that its voxels are exchanged with.

    Attributes
    ----------
    volume : ndarray of shape (X, Y, Z)
    filled : ndarray of shape (X, Y, Z)
        From `fill`.
    brain : ndarray of bool, same shape
    steps : sequence of float
        Shares of the voxels of the brain.
    """

    volume: np.ndarray
    filled: np.ndarray
    brain: np.ndarray
    steps: tuple = STEPS

    def deletion(self, logit, relevance) -> np.ndarray:
        """Return the logits while the highest voxels are replaced by the filled ones."""
        return exchanged(logit, self.volume, self.filled, self.brain, relevance, self.steps)

    def insertion(self, logit, relevance) -> np.ndarray:
        """Return the logits while the highest voxels of the filled scan are restored."""
        return exchanged(logit, self.filled, self.volume, self.brain, relevance, self.steps)


def fill(volume, brain, seed: int = 0, size: int = 9, mask=None) -> np.ndarray:
    """Return a scan without its lesions and small bright or dark spots.

    Each voxel of the brain becomes the median of a cube round it, with the noise of the scan.

    Parameters
    ----------
    volume : ndarray of shape (X, Y, Z)
    brain : ndarray of bool, same shape
    seed : int
        Of the noise. Its standard deviation is the robust spread of the differences of neighbours.
    size : int
        Edge of the cube (voxels).
    mask : ndarray of bool, shape (X, Y, Z), optional
        Lesions. They and their soft border are filled by `msxai.data.lesion_filling.Filler` with
        normal-appearing white matter.

    Returns
    -------
    ndarray of shape (X, Y, Z)
    """
    nearest = ndimage.distance_transform_edt(~brain, return_distances=False, return_indices=True)
    extended = np.asarray(volume)[tuple(nearest)]
    smooth = np.array(volume)
    smooth[brain] = _medians(extended, brain, size)
    differences = np.diff(volume, axis=0)[brain[1:] & brain[:-1]]
    spread = stats.median_abs_deviation(differences, scale="normal") / np.sqrt(2)
    noise = np.random.default_rng(seed).normal(0, spread, volume.shape)
    filled = np.where(brain, smooth + noise, volume)
    if mask is not None and mask.any():
        without_lesions = healed(volume, mask, seed)
        changed = without_lesions != np.asarray(volume, "float32")
        filled = np.where(mask | changed, without_lesions, filled)
    return filled.astype(volume.dtype)


def healed(volume, mask, seed: int = 0) -> np.ndarray:
    """Return a scan with its lesions and their soft border filled.

    Parameters
    ----------
    volume : ndarray of shape (X, Y, Z)
        On the model's grid.
    mask : ndarray of bool, same shape
        Lesions.
    seed : int
        Of `msxai.data.lesion_filling.Filler`.

    Returns
    -------
    ndarray of shape (X, Y, Z), float32
    """
    filler = lesion_filling.Filler(seed=seed)
    scan = nib.Nifti1Image(np.asarray(volume, "float32"), images.AFFINE)
    lesions = nib.Nifti1Image(np.asarray(mask, "float32"), images.AFFINE)
    filled = filler(scan, lesions, {"participant_id": "", "session_id": ""})
    return np.asarray(filled.dataobj, "float32")


def _medians(values, mask, size: int) -> np.ndarray:
    """Return the median of the cube round each voxel of a mask.

    The same as `scipy.ndimage.median_filter`, which would also compute all other voxels.
    """
    padded = np.pad(values, size // 2, "symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size, size))
    voxels = np.argwhere(mask)
    middle = size**3 // 2
    medians = []
    for batch in np.array_split(voxels, max(len(voxels) // _BATCH, 1)):
        cubes = windows[tuple(batch.T)].reshape(len(batch), -1)
        medians.append(np.partition(cubes, middle, axis=1)[:, middle])
    return np.concatenate(medians)


def exchanged(logit, volume, other, brain, relevance, steps=STEPS) -> np.ndarray:
    """Return the logits while the voxels of highest relevance are taken from another scan.

    Parameters
    ----------
    logit : callable
        Volume of shape (X, Y, Z) to its logit.
    volume, other, relevance : ndarray of shape (X, Y, Z)
    brain : ndarray of bool, same shape
    steps : sequence of float
        Shares of the voxels of the brain.

    Returns
    -------
    ndarray of shape (len(steps),)
    """
    inside = np.flatnonzero(brain.ravel())
    values = np.asarray(relevance, float)[brain]
    order = inside[np.argsort(-values, kind="stable")]
    logits = []
    for step in steps:
        taken = order[: round(step * len(order))]
        mixed = volume.copy()
        mixed.ravel()[taken] = other.ravel()[taken]
        logits.append(float(logit(mixed)))
    return np.array(logits)


def compare(logit, exchange: Exchange, maps: dict, seed: int = 0, orders: int = 3) -> pd.DataFrame:
    """Return the area between each map's curve and the curve of random orders, for one scan.

    Parameters
    ----------
    logit : callable
        Volume of shape (X, Y, Z) to its logit.
    exchange : Exchange
    maps : dict
        Name to map.
    seed, orders : int
        Of the random orders, and how many are averaged.

    Returns
    -------
    pandas.DataFrame
        map, deletion, insertion: mean over steps of the difference in logits. Positive where the
        map finds the voxels that matter sooner than a random order does.
    """
    rng = np.random.default_rng(seed)
    shape = exchange.volume.shape
    random_deletions = [exchange.deletion(logit, rng.random(shape)) for _ in range(orders)]
    random_insertions = [exchange.insertion(logit, rng.random(shape)) for _ in range(orders)]
    deletion_by_chance = np.mean(random_deletions, axis=0)
    insertion_by_chance = np.mean(random_insertions, axis=0)
    rows = []
    for name, relevance in maps.items():
        deletion = deletion_by_chance - exchange.deletion(logit, relevance)
        insertion = exchange.insertion(logit, relevance) - insertion_by_chance
        row = {
            "map": name,
            "deletion": float(deletion.mean()),
            "insertion": float(insertion.mean()),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def logit_of(model: keras.Model, threads: int = 1):
    """Return a function from a volume of shape (X, Y, Z) to the model's logit.

    Parameters
    ----------
    model : keras.Model
    threads : int
        Of `msxai.model.kernels`.
    """
    plan = reader.read(model)
    fused = {} if network.on_gpu() else plan.fused

    def logit(volume) -> float:
        with kernels.threads(threads):
            batch = np.ascontiguousarray(volume[None, ..., None], "float32")
            output = graph.forward(plan, batch, fused).output
        return float(output[0, 0])

    return logit
