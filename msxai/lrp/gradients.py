"""Ways of explaining a logit f(x) by its gradient, to compare LRP with.

Gradients are computed on `msxai.lrp.graph`, so on any backend of Keras. At a tie of max pooling
the first voxel gets all. A method is a small dataclass that holds the method's options;
`msxai.lrp.explain` takes it, or its name for the usual options.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from keras import ops

from msxai.base import parameters
from msxai.lrp import activations, graph
from msxai.model import kernels

__all__ = [
    "Gradient",
    "GuidedBackpropagation",
    "InputXGradient",
    "IntegratedGradients",
    "SmoothGrad",
    "gradient",
]


@dataclass(frozen=True)
class Gradient:
    """Gradient: R = df/dx (Simonyan et al. 2014, arXiv:1312.6034)."""

    name: ClassVar[str] = "gradient"

    def relevance(self, first: graph.ForwardPass, unit: int) -> np.ndarray:
        """Map of one scan, shape (X, Y, Z, C)."""
        return gradient(first, unit)


@dataclass(frozen=True)
class InputXGradient:
    """Input times gradient: R = x df/dx (Shrikumar et al. 2017, arXiv:1704.02685)."""

    name: ClassVar[str] = "input_x_gradient"

    def relevance(self, first: graph.ForwardPass, unit: int) -> np.ndarray:
        """Map of one scan, shape (X, Y, Z, C)."""
        return first.scan * gradient(first, unit)


@dataclass(frozen=True)
class GuidedBackpropagation:
    """Guided backpropagation (Springenberg et al. 2015, arXiv:1412.6806, stated there for ReLU).

    The gradient, but each activation hands back positive values only. ELU and LeakyReLU, as ReLU,
    multiply these by their derivative. A mean or a difference of layers is no activation.
    """

    name: ClassVar[str] = "guided_backpropagation"

    def relevance(self, first: graph.ForwardPass, unit: int) -> np.ndarray:
        """Map of one scan, shape (X, Y, Z, C)."""
        return gradient(first, unit, guided=True)


@dataclass(frozen=True)
class IntegratedGradients:
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365).

    R = (x - x0) mean_t df/dx(x0 + t (x - x0)), t the midpoints of `steps` parts of 0 to 1. The map
    sums to f(x) - f(x0), except for the error of the midpoint rule.

    Attributes
    ----------
    baseline : float
        x0, the same for all voxels. 0 is the mean of a z-scored scan.
    steps : int
        Points on the line from x0 to x.

    Raises
    ------
    ParameterError
        Fewer than one step.
    """

    baseline: float = 0.0
    steps: int = 32
    name: ClassVar[str] = "integrated_gradients"

    def __post_init__(self):
        parameters.whole_number("steps", self.steps, 1)
        parameters.number("baseline", self.baseline, -math.inf)

    def relevance(self, first: graph.ForwardPass, unit: int) -> np.ndarray:
        """Map of one scan, shape (X, Y, Z, C)."""
        change = first.scan - self.baseline
        return change * _mean_gradient(first, self._points(change), unit)

    def _points(self, change) -> Iterable[np.ndarray]:
        for step in range(self.steps):
            yield self.baseline + change * ((step + 0.5) / self.steps)


@dataclass(frozen=True)
class SmoothGrad:
    """SmoothGrad: R = mean of df/dx at x + n (Smilkov et al. 2017, arXiv:1706.03825).

    Attributes
    ----------
    noise : float
        Standard deviation of the normal noise n, as a share of the range of x.
    samples : int
        How many noisy copies.
    seed : int
        Of the noise.

    Raises
    ------
    ParameterError
        Fewer than one sample.
    """

    noise: float = 0.1
    samples: int = 32
    seed: int = 0
    name: ClassVar[str] = "smoothgrad"

    def __post_init__(self):
        parameters.whole_number("samples", self.samples, 1)
        parameters.number("noise", self.noise, 0)

    def relevance(self, first: graph.ForwardPass, unit: int) -> np.ndarray:
        """Map of one scan, shape (X, Y, Z, C)."""
        return _mean_gradient(first, self._points(first.scan), unit)

    def _points(self, scan) -> Iterable[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        spread = self.noise * np.ptp(scan)
        for _ in range(self.samples):
            noise = rng.normal(0, spread, scan.shape)
            yield scan + noise.astype(scan.dtype)


def gradient(first: graph.ForwardPass, unit: int, guided: bool = False) -> np.ndarray:
    """Gradient df/dx of one scan.

    Parameters
    ----------
    first : msxai.lrp.graph.ForwardPass
        Of one scan.
    unit : int
        Output unit f.
    guided : bool
        See `GuidedBackpropagation`.

    Returns
    -------
    ndarray of shape (X, Y, Z, C)
    """
    start = np.zeros(first.values[-1].shape, first.scan.dtype)
    start[0, unit] = 1
    arriving = {len(first.values) - 1: start}
    for index in reversed(range(1, len(first.plan.nodes))):
        if first.is_fused_convolution(index):
            continue
        if not first.plan.nodes[index].inputs:
            continue
        passed = _back(first, index, arriving.pop(index), guided)
        for source, part in zip(first.sources(index), passed, strict=True):
            graph.accumulate(arriving, source, part)
    return ops.convert_to_numpy(arriving[0])[0]


def _back(first: graph.ForwardPass, index: int, arriving, guided: bool) -> list:
    """Gradient at each of the inputs of one node, by the chain rule."""
    node = first.plan.nodes[index]
    if node.kind == "add":
        return [arriving] * len(node.inputs)
    if node.kind == "concatenation":
        return graph.parts(node, first.values, arriving)
    return [_back_to_input(first, index, arriving, guided)]


def _back_to_input(first: graph.ForwardPass, index: int, arriving, guided: bool):
    """The same of a node with one input."""
    node = first.plan.nodes[index]
    if index in first.fused:
        return _back_through_winners(first, index, arriving)
    # The kernels give arrays of numpy. PyTorch multiplies its tensors by none.
    arriving = ops.convert_to_tensor(arriving)
    inputs = ops.convert_to_tensor(first.values[node.inputs[0]])
    if node.kind == "affine":
        return node.what.gradient(arriving, inputs)
    if node.kind == "max":
        return node.what.hand_back(first.winners[index], arriving, inputs.shape)
    if node.kind == "mean":
        shares = arriving / node.what.counts(inputs)
        return node.what.spread(shares, inputs.shape)
    if node.kind == "move":
        return node.what.back(arriving, inputs.shape)
    if isinstance(node.what, activations.Elementwise):
        if guided and not isinstance(node.what, activations.Factor):
            arriving = ops.relu(arriving)
        return arriving * node.what.derivative(inputs)
    return ops.reshape(arriving, inputs.shape)


def _back_through_winners(first: graph.ForwardPass, index: int, arriving) -> np.ndarray:
    """The same of a convolution and the max pooling after it, by the kernels."""
    convolution = first.plan.nodes[first.fused[index]]
    inputs = first.values[convolution.inputs[0]]
    passed = kernels.scatter(
        np.ascontiguousarray(ops.convert_to_numpy(arriving)[0]),
        kernels.taps(convolution.what.weights),
        first.winners[index][0],
        np.ones(inputs.shape[1:], first.scan.dtype),
    )
    return passed[None]


def _mean_gradient(first: graph.ForwardPass, points: Iterable, unit: int) -> np.ndarray:
    """Mean of the gradient over scans like the one of `first`, float64."""
    total = 0
    count = 0
    for point in points:
        total = total + gradient(first.of(point), unit).astype(float)
        count = count + 1
    return total / count
