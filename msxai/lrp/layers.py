"""What the layers of a network compute, and how they hand shares of their outputs back.

Arrays are of shape (N, X, Y, Z, C), channels last. j counts the inputs of a layer, k its outputs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from keras import ops

__all__ = ["NO_PADDING", "Activation", "Convolution", "Dense", "Pool", "flatten"]

NO_PADDING = ((0, 0), (0, 0), (0, 0))
_BATCH = slice(None)


@dataclass
class Dense:
    """z = a w + b along the last axis."""

    weights: np.ndarray
    bias: np.ndarray

    def forward(self, inputs, weights):
        """sum_j a_j w_jk."""
        return ops.matmul(inputs, weights)

    def backward(self, shares, weights, factor):
        """factor_j sum_k w_jk share_k."""
        return factor * ops.matmul(shares, ops.transpose(weights))


@dataclass
class Convolution:
    """Convolution in 3D with strides and zero padding.

    Attributes
    ----------
    weights : ndarray of shape (*size, C, K)
    bias : ndarray of shape (K,)
    strides : tuple of int
        Along x, y, z.
    padding : tuple of (int, int)
        Zeros before the first and after the last voxel, along x, y, z.
    """

    weights: np.ndarray
    bias: np.ndarray
    strides: tuple = (1, 1, 1)
    padding: tuple = NO_PADDING

    @property
    def winners_only(self) -> bool:
        """Whether `msxai.model.kernels` can compute it together with a max pooling of 3^3."""
        is_cube = self.weights.shape[:3] == (3, 3, 3)
        return is_cube and self.strides == (1, 1, 1) and self.padding == NO_PADDING

    def forward(self, inputs, weights):
        """sum_j a_j w_jk."""
        if self.padding != NO_PADDING:
            inputs = _padded(inputs, self.padding)
        return ops.conv(inputs, weights, self.strides, "valid", "channels_last")

    def backward(self, shares, weights, factor):
        """factor_j sum_k w_jk share_k."""
        padded = ops.conv_transpose(shares, weights, self.strides, "valid", None, "channels_last")
        return factor * _unpadded(padded, self.padding, factor.shape[1:4])


@dataclass
class Pool:
    """Windows of a pooling.

    Attributes
    ----------
    size, strides : tuple of int
        Along x, y, z.
    padding : tuple of (int, int)
        Before the first and after the last voxel, along x, y, z.
    """

    size: tuple
    strides: tuple
    padding: tuple = NO_PADDING

    @property
    def n_offsets(self) -> int:
        """Number of voxels in a window."""
        return int(np.prod(self.size))

    def cells(self, shape) -> list[int]:
        """Number of windows along x, y, z."""
        lengths = self._padded_lengths(shape)
        return [
            (length - size) // stride + 1
            for length, size, stride in zip(lengths, self.size, self.strides, strict=True)
        ]

    def windows(self, inputs, fill) -> Iterator:
        """What stands at each offset in the windows, in C order: arrays of shape (N, *cells, C).

        Parameters
        ----------
        inputs : array of shape (N, X, Y, Z, C)
        fill : float
            Value of the padding.
        """
        padded = _padded(inputs, self.padding, fill)
        cells = self.cells(inputs.shape)
        for offset in np.ndindex(*self.size):
            steps = [
                slice(start, start + stride * (count - 1) + 1, stride)
                for start, stride, count in zip(offset, self.strides, cells, strict=True)
            ]
            yield padded[(_BATCH, *steps)]

    def winners(self, inputs) -> tuple:
        """Largest value of each window and its offset, of equal ones the first; no padding wins."""
        windows = self.windows(inputs, -np.inf)
        best = next(windows)
        where = ops.zeros(best.shape, "int32")
        for offset, values in enumerate(windows, start=1):
            better = values > best
            best = ops.where(better, values, best)
            where = ops.where(better, ops.full_like(where, offset), where)
        return best, where

    def hand_back(self, winners, shares, shape):
        """Hand what arrives at each window to its winner."""
        by_offset = (
            ops.where(winners == offset, shares, 0 * shares) for offset in range(self.n_offsets)
        )
        return self.back(by_offset, shape)

    def spread(self, shares, shape):
        """Hand what arrives at each window to each of its voxels."""
        return self.back((shares for _ in range(self.n_offsets)), shape)

    def back(self, shares: Iterable, shape):
        """Add what stands at each offset in the windows where it came from.

        Parameters
        ----------
        shares : iterable of arrays of shape (N, *cells, C)
            As `windows` yields them.
        shape : tuple of int
            Of the inputs, (N, X, Y, Z, C).
        """
        overlap = any(stride < size for stride, size in zip(self.strides, self.size, strict=True))
        padded = self._back_overlapping(shares, shape) if overlap else self._back(shares, shape)
        return _unpadded(padded, self.padding, shape[1:4])

    def _back(self, shares: Iterable, shape):
        """`back`, padding included, for windows that share no voxel: tiles side by side."""
        cells = self.cells(shape)
        tiles = ops.stack(list(shares), axis=-1)
        tiles = ops.reshape(tiles, (shape[0], *cells, shape[4], *self.size))
        gaps = [(0, stride - size) for stride, size in zip(self.strides, self.size, strict=True)]
        tiles = ops.pad(tiles, [(0, 0)] * 5 + gaps)
        tiles = ops.transpose(tiles, (0, 1, 5, 2, 6, 3, 7, 4))  # each cell before its voxels
        return ops.reshape(tiles, (shape[0], *self._span(cells), shape[4]))

    def _back_overlapping(self, shares: Iterable, shape):
        """The same for windows that share voxels: offset by offset."""
        cells = self.cells(shape)
        lengths = self._padded_lengths(shape)
        single = Pool((1, 1, 1), self.strides)
        total = 0
        for offset, share in zip(np.ndindex(*self.size), shares, strict=True):
            grid = single.back([share], (shape[0], *self._span(cells), shape[4]))
            room = [slice(0, length - start) for length, start in zip(lengths, offset, strict=True)]
            grid = grid[(_BATCH, *room)]
            around = [
                (start, length - start - size)
                for start, length, size in zip(offset, lengths, grid.shape[1:4], strict=True)
            ]
            total = total + _padded(grid, around)
        return total

    def _padded_lengths(self, shape) -> list[int]:
        return [length + sum(pad) for length, pad in zip(shape[1:4], self.padding, strict=True)]

    def _span(self, cells) -> list[int]:
        """Voxels along x, y, z that the windows take up, each with its stride."""
        return [count * stride for count, stride in zip(cells, self.strides, strict=True)]


@dataclass
class Activation:
    """x where x > 0; below, slope x, or for the ELU slope (e^x - 1). It keeps float64."""

    slope: float
    exponential: bool = False

    def __call__(self, x):
        """Value."""
        if self.exponential:
            return ops.elu(x, self.slope)
        return ops.where(x > 0, x, self.slope * x)

    def derivative(self, x):
        """f'(x); at 0 that from below."""
        ones = ops.ones_like(x)
        below = self.slope * ones
        if self.exponential:
            below = self.slope * ops.exp(ops.minimum(x, 0))
        return ops.where(x > 0, ones, below)


def flatten(x):
    """All but the first axis as one."""
    return ops.reshape(x, (x.shape[0], -1))


def _padded(values, padding, fill: float = 0):
    return ops.pad(values, [(0, 0), *padding, (0, 0)], constant_values=fill)


def _unpadded(padded, padding, lengths):
    """Take the padding off; where windows did not reach the end, fill with 0."""
    missing = [
        (0, max(0, first + length - size))
        for (first, _), length, size in zip(padding, lengths, padded.shape[1:4], strict=True)
    ]
    inside = [
        slice(first, first + length) for (first, _), length in zip(padding, lengths, strict=True)
    ]
    return _padded(padded, missing)[(_BATCH, *inside)]
