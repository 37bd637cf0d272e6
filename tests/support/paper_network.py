"""The paper's network and its gradients in numpy, float64: slow and simple."""

from dataclasses import dataclass

import numpy as np

from msxai.model.network import CONVOLUTIONS

SAME = 1e-9  # values nearer than this are equal: they see the same voxels


@dataclass
class Passes:
    """One forward and one backward pass.

    Attributes
    ----------
    logits : ndarray of shape (N, 1)
    by_volume : ndarray of shape (N, X, Y, Z, 1)
        Gradient of the sum of the logits by the volumes.
    by_weight : dict
        The same by each weight, named as in `msxai.model.network.weights`.
    margin : float
        How far the winner lies above the next lower value, in the window where this is least.
        Rounding by more may give the window another winner.
    """

    logits: np.ndarray
    by_volume: np.ndarray
    by_weight: dict
    margin: float


def passes(weights: dict, volumes) -> Passes:
    """Compute logits and gradients of volumes of shape (N, X, Y, Z, 1)."""
    weights = {name: values.astype(float) for name, values in weights.items()}
    maps = np.asarray(volumes, float)
    stages = []
    margins = []
    for name in CONVOLUTIONS:
        seen = maps
        linear = convolve(seen, weights[f"{name}/kernel"]) + weights[f"{name}/bias"]
        maps = elu(linear)
        winners = None
        if name != "conv3":
            margins.append(smallest_margin(linear))
            maps, winners = pool(maps)
        stages.append((name, seen, linear, winners))
    flat = maps.reshape(len(maps), -1)
    logits = flat @ weights["dense/kernel"] + weights["dense/bias"]

    by_weight = {"dense/kernel": flat.sum(axis=0)[:, None], "dense/bias": np.full(1, len(maps))}
    slope = np.broadcast_to(weights["dense/kernel"][:, 0], flat.shape).reshape(maps.shape)
    for name, seen, linear, winners in reversed(stages):
        if winners is not None:
            slope = unpool(slope, winners, linear.shape)
        slope = slope * elu_slope(linear)
        kernel = weights[f"{name}/kernel"]
        by_weight[f"{name}/bias"] = slope.sum(axis=(0, 1, 2, 3))
        by_weight[f"{name}/kernel"] = kernel_slope(seen, slope, kernel.shape)
        slope = volume_slope(slope, kernel, seen.shape)
    return Passes(logits, slope, by_weight, min(margins))


def convolve(volumes, kernel):
    """Valid convolution of (N, X, Y, Z, a) by (3, 3, 3, a, c), one tap at a time."""
    size = [length - 2 for length in volumes.shape[1:4]]
    out = np.zeros((len(volumes), *size, kernel.shape[-1]))
    for tap in np.ndindex(3, 3, 3):
        out += volumes[shifted(tap, size)] @ kernel[tap]
    return out


def volume_slope(slope, kernel, shape):
    """Gradient of a convolution by its volumes."""
    out = np.zeros(shape)
    for tap in np.ndindex(3, 3, 3):
        out[shifted(tap, slope.shape[1:4])] += slope @ kernel[tap].T
    return out


def kernel_slope(volumes, slope, shape):
    """Gradient of a convolution by its kernel."""
    out = np.zeros(shape)
    for tap in np.ndindex(3, 3, 3):
        out[tap] = np.einsum("nxyza,nxyzc->ac", volumes[shifted(tap, slope.shape[1:4])], slope)
    return out


def shifted(tap, size):
    """The voxels that one tap of a kernel meets, as an index."""
    along = [slice(start, start + length) for start, length in zip(tap, size, strict=True)]
    return (slice(None), *along)


def elu(linear):
    """exp(x) - 1 below 0, x elsewhere."""
    return np.where(linear > 0, linear, np.expm1(np.minimum(linear, 0)))


def elu_slope(linear):
    """Derivative of `elu`."""
    return np.exp(np.minimum(linear, 0))


def windows(maps):
    """Values of each 3^3 window last: (N, X, Y, Z, c) to (N, X // 3, Y // 3, Z // 3, c, 27)."""
    count, *size, filters = maps.shape
    x, y, z = (length // 3 for length in size)
    whole = maps[:, : 3 * x, : 3 * y, : 3 * z]
    cells = whole.reshape(count, x, 3, y, 3, z, 3, filters)
    return cells.transpose(0, 1, 3, 5, 7, 2, 4, 6).reshape(count, x, y, z, filters, 27)


def pool(maps):
    """Largest value of each window, and where it stands; of equal values the first."""
    cells = windows(maps)
    winners = cells.argmax(axis=-1)
    return cells.max(axis=-1), winners


def unpool(slope, winners, shape):
    """Hand the slope of each window to its winner, in maps of the given shape."""
    cells = np.zeros((*slope.shape, 27))
    np.put_along_axis(cells, winners[..., None], slope[..., None], axis=-1)
    count, x, y, z, filters = slope.shape
    cells = cells.reshape(count, x, y, z, filters, 3, 3, 3).transpose(0, 1, 5, 2, 6, 3, 7, 4)
    out = np.zeros(shape)
    out[:, : 3 * x, : 3 * y, : 3 * z] = cells.reshape(count, 3 * x, 3 * y, 3 * z, filters)
    return out


def smallest_margin(linear):
    """How far the next lower value lies below the winner, after the ELU, in the nearest case."""
    cells = windows(linear)
    best = cells.max(axis=-1, keepdims=True)
    lower = np.where(cells < best - SAME, cells, -np.inf).max(axis=-1)
    margins = elu(best[..., 0]) - elu(lower)
    margins = margins[np.isfinite(lower)]
    return margins.min(initial=np.inf)
