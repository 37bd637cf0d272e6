"""Occlusion: how much of the logit goes with a cube of the scan.

A covered cube changes few cells of the early layers, so only these are computed again
(`output_after_change`).
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from keras import ops

from msxai.base import parameters
from msxai.lrp import activations, graph

__all__ = ["Occlusion", "output_after_change"]

CELL = 5  # voxels along an axis that one cell of a convolution of 3 and a pooling of 3 sees
STRIDE = 3  # voxels from one such cell to the next


@dataclass(frozen=True)
class Occlusion:
    """Occlusion (Zeiler and Fergus 2014, doi:10.1007/978-3-319-10590-1_53).

    R = f(x) - f(x with a cube set to x0); for each voxel the mean over the cubes that cover it.

    Attributes
    ----------
    baseline : float
        x0. 0 is the mean of a z-scored scan.
    size : int
        Edge of the cube (voxels).
    stride : int, optional
        Voxels from one cube to the next; by default the cube's edge.

    Raises
    ------
    ParameterError
        A size or stride below 1.
    """

    baseline: float = 0.0
    size: int = 9
    stride: int | None = None
    name: ClassVar[str] = "occlusion"

    def __post_init__(self):
        parameters.number("baseline", self.baseline, -math.inf)
        parameters.whole_number("size", self.size, 1)
        if self.stride is not None:
            parameters.whole_number("stride", self.stride, 1)

    def relevance(self, first: graph.ForwardPass, unit: int) -> np.ndarray:
        """Map of one scan, shape (X, Y, Z, C)."""
        scan = first.scan
        total = np.zeros(scan.shape)
        count = np.zeros(scan.shape)
        logit = float(first.output[0, unit])
        for box in self._boxes(scan.shape[:3]):
            cube = tuple(slice(start, stop) for start, stop in box)
            if not np.all(scan[cube] == self.baseline):  # else nothing changes
                total[cube] += logit - self._logit_without(first, box, cube, unit)
            count[cube] += 1
        return total / np.maximum(count, 1)

    def _boxes(self, shape) -> Iterator[list[tuple[int, int]]]:
        """First voxel and the one after the last along x, y, z, of each cube."""
        stride = self.stride or self.size
        corners = itertools.product(*(range(0, length, stride) for length in shape))
        for corner in corners:
            yield [
                (start, min(start + self.size, length))
                for start, length in zip(corner, shape, strict=True)
            ]

    def _logit_without(self, first: graph.ForwardPass, box, cube, unit: int) -> float:
        covered = first.scan.copy()
        covered[cube] = self.baseline
        if first.fused:
            output = output_after_change(first, covered, box)
        else:
            output = first.of(covered).output
        return float(output[0, unit])


def output_after_change(first: graph.ForwardPass, scan, box) -> np.ndarray:
    """Output of the network for a scan that differs from another one inside a box.

    It equals that of `msxai.lrp.graph.forward` to rounding. Computed again are the cells that see
    the box, as long as nothing but fused convolutions and activations stands before them; all later
    layers are computed as a whole.

    Parameters
    ----------
    first : msxai.lrp.graph.ForwardPass
        Of the scan before the change; nothing is written into it.
    scan : ndarray of shape (X, Y, Z, C)
        The scan after the change.
    box : sequence of (int, int)
        First voxel and the one after the last that differ, along x, y, z.

    Returns
    -------
    ndarray of shape (1, K)
    """
    changed = _Changed(first)
    for index, node in enumerate(first.plan.nodes):
        if index == 0:
            changed.values[index] = scan[None]
            changed.boxes[index] = [(int(start), int(stop)) for start, stop in box]
        elif node.inputs and not first.is_fused_convolution(index):
            changed.compute(index)
    return ops.convert_to_numpy(changed.values[-1])


class _Changed:
    """Values of the nodes after the change, and where they may differ from those before it."""

    def __init__(self, first: graph.ForwardPass):
        self.first = first
        self.values = list(first.values)
        self.boxes = {}

    def compute(self, index: int) -> None:
        """Compute the value of a node whose sources are computed."""
        node = self.first.plan.nodes[index]
        (source, *_) = self.first.sources(index)
        inside = source in self.boxes
        if inside and index in self.first.fused:
            self._convolve_and_pool(index, source)
        elif inside and isinstance(node.what, activations.Activation):
            self._activate(index, source)
        else:
            value, _ = graph.value(self.first.plan, index, self.values, self.first.fused)
            self.values[index] = value

    def _convolve_and_pool(self, index: int, source: int) -> None:
        lengths = self.first.values[index].shape[1:4]
        cells = [
            _cells_that_see(start, stop, count)
            for (start, stop), count in zip(self.boxes[source], lengths, strict=True)
        ]
        self.boxes[index] = cells
        if any(first >= last for first, last in cells):
            return
        seen = [(STRIDE * first, STRIDE * last + CELL - STRIDE) for first, last in cells]
        convolution = self.first.plan.nodes[self.first.fused[index]]
        inputs = self.values[source][_inside(seen)]
        part, _ = graph.convolve_and_pool(convolution.what, inputs)
        self._patch(index, part)

    def _activate(self, index: int, source: int) -> None:
        self.boxes[index] = self.boxes[source]
        activation = self.first.plan.nodes[index].what
        inputs = self.values[source][_inside(self.boxes[source])]
        self._patch(index, activation(inputs))

    def _patch(self, index: int, part) -> None:
        """Replace the part of a node's value that may differ."""
        whole = np.array(ops.convert_to_numpy(self.first.values[index]))
        whole[_inside(self.boxes[index])] = ops.convert_to_numpy(part)
        self.values[index] = whole


def _cells_that_see(start: int, stop: int, count: int) -> tuple[int, int]:
    """First cell and the one after the last of `count` cells that see voxels start to stop."""
    first = max(-((CELL - 1 - start) // STRIDE), 0)
    last = min((stop - 1) // STRIDE + 1, count)
    return first, last


def _inside(box) -> tuple:
    """Index of a box in an array of shape (1, X, Y, Z, C)."""
    return (slice(None), *(slice(start, stop) for start, stop in box))
