"""Layers that copy, move or drop values and compute nothing, and how relevance goes back.

Each output is a copy of one input, so it hands its relevance to that input. An input that was
copied several times gets the sum. An input that was dropped gets none.
"""

from dataclasses import dataclass

import numpy as np
from keras import ops

__all__ = ["Cropping", "Padding", "Permutation", "Repeat", "Reshaping"]


@dataclass
class Repeat:
    """Upsampling by the nearest voxel: each voxel becomes a block of `size` voxels."""

    size: tuple
    loses: bool = False  # whether relevance can get lost

    def __call__(self, x):
        """Value."""
        for axis, times in enumerate(self.size, start=1):
            x = ops.repeat(x, times, axis=axis)
        return x

    def back(self, values, shape):
        """Sum of each block, of the shape of the inputs (N, X, Y, Z, C)."""
        count, *lengths, channels = shape
        blocks = [part for pair in zip(lengths, self.size, strict=True) for part in pair]
        apart = ops.reshape(values, (count, *blocks, channels))
        return ops.sum(apart, axis=(2, 4, 6))


@dataclass
class Padding:
    """Zeros around a volume, (before, after) along x, y, z."""

    widths: tuple
    loses: bool = True

    def __call__(self, x):
        """Value."""
        return ops.pad(x, [(0, 0), *self.widths, (0, 0)])

    def back(self, values, shape):
        """What is inside."""
        return values[(slice(None), *_inside(self.widths, shape[1:4]))]


@dataclass
class Cropping:
    """A volume without its borders, (before, after) along x, y, z."""

    widths: tuple
    loses: bool = False

    def __call__(self, x):
        """Value."""
        lengths = [
            length - sum(width) for length, width in zip(x.shape[1:4], self.widths, strict=True)
        ]
        return x[(slice(None), *_inside(self.widths, lengths))]

    def back(self, values, shape):
        """The same with zeros at the borders."""
        return ops.pad(values, [(0, 0), *self.widths, (0, 0)])


@dataclass
class Permutation:
    """Other order of the axes; the first one, of the scans, stays."""

    axes: tuple
    loses: bool = False

    def __call__(self, x):
        """Value."""
        return ops.transpose(x, self.axes)

    def back(self, values, shape):
        """In the order before."""
        return ops.transpose(values, tuple(np.argsort(self.axes).tolist()))


@dataclass
class Reshaping:
    """The same values in another shape of one scan."""

    shape: tuple
    loses: bool = False

    def __call__(self, x):
        """Value."""
        return ops.reshape(x, (x.shape[0], *self.shape))

    def back(self, values, shape):
        """In the shape before."""
        return ops.reshape(values, shape)


def _inside(widths, lengths) -> list[slice]:
    return [
        slice(before, before + length) for (before, _), length in zip(widths, lengths, strict=True)
    ]
