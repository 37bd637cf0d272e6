"""What the layers of a network compute, and how they hand shares of their outputs back.

Arrays are of shape (N, X, Y, Z, C), channels last. j counts the inputs of a layer, k its outputs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from keras import ops

__all__ = [
    "NO_PADDING",
    "Affine",
    "Convolution",
    "Dense",
    "GlobalPool",
    "Pool",
    "TransposedConvolution",
    "flatten",
]

NO_PADDING = ((0, 0), (0, 0), (0, 0))
_BATCH = slice(None)


class Affine:
    """What all layers z = a w + b share."""

    def at(self, inputs) -> "Affine":
        """The layer as an affine map at these inputs; a layer that is affine is so everywhere."""
        return self

    def gradient(self, arriving, inputs):
        """Gradient at the inputs, of what arrives at the outputs."""
        weights = ops.convert_to_tensor(self.weights)
        return self.backward(arriving, weights, ops.ones_like(inputs))


@dataclass
class Dense(Affine):
    """z = a w + b along the last axis."""

    weights: np.ndarray
    bias: np.ndarray

    def forward(self, inputs, weights):
        """sum_j a_j w_jk."""
        return inputs @ weights  # ops.matmul makes float64 to float32 on PyTorch

    def backward(self, shares, weights, factor):
        """factor_j sum_k w_jk share_k."""
        return factor * (shares @ ops.transpose(weights))


@dataclass
class Convolution(Affine):
    """Convolution in 3D with strides, zero padding, gaps in the kernel and groups of channels.

    Attributes
    ----------
    weights : ndarray of shape (*size, C / groups, K)
    bias : ndarray of shape (K,), or (1, *positions, K)
    strides : tuple of int
        Along x, y, z.
    padding : tuple of (int, int)
        Zeros before the first and after the last voxel, along x, y, z.
    dilation : tuple of int
        Voxels from one weight of the kernel to the next, along x, y, z.
    groups : int
        Parts of the channels that are convolved apart. A depthwise convolution has C of them.
    """

    weights: np.ndarray
    bias: np.ndarray
    strides: tuple = (1, 1, 1)
    padding: tuple = NO_PADDING
    dilation: tuple = (1, 1, 1)
    groups: int = 1

    @property
    def winners_only(self) -> bool:
        """Whether `msxai.model.kernels` can compute it together with a max pooling of 3^3."""
        is_cube = self.weights.shape[:3] == (3, 3, 3)
        is_plain = self.groups == 1 and self.dilation == (1, 1, 1)
        return is_cube and is_plain and self.strides == (1, 1, 1) and self.padding == NO_PADDING

    def forward(self, inputs, weights):
        """sum_j a_j w_jk."""
        if self.padding != NO_PADDING:
            inputs = _padded(inputs, self.padding)
        weights = _spread_out(weights, self.dilation)
        outputs = [
            ops.conv(part, kernel, self.strides, "valid", "channels_last")
            for part, kernel in self._by_group(inputs, weights)
        ]
        return _side_by_side(outputs)

    def backward(self, shares, weights, factor):
        """factor_j sum_k w_jk share_k."""
        weights = _spread_out(weights, self.dilation)
        padded = [
            ops.conv_transpose(part, kernel, self.strides, "valid", None, "channels_last")
            for part, kernel in self._by_group(shares, weights)
        ]
        return factor * _unpadded(_side_by_side(padded), self.padding, factor.shape[1:4])

    def _by_group(self, values, weights) -> list[tuple]:
        """Channels and weights of each group."""
        if self.groups == 1:
            return [(values, weights)]
        parts = ops.split(values, self.groups, axis=-1)
        return list(zip(parts, ops.split(weights, self.groups, axis=-1), strict=True))


@dataclass
class TransposedConvolution(Affine):
    """Transposed convolution in 3D: `Convolution` with inputs and outputs exchanged.

    Attributes
    ----------
    weights : ndarray of shape (*size, K, C)
    bias : ndarray of shape (K,)
    strides, padding, dilation : tuple
        Of the convolution that it transposes.
    lengths : tuple of int
        Of the outputs, along x, y, z.
    """

    weights: np.ndarray
    bias: np.ndarray
    strides: tuple
    padding: tuple
    dilation: tuple
    lengths: tuple

    def forward(self, inputs, weights):
        """sum_j a_j w_jk."""
        weights = _spread_out(weights, self.dilation)
        whole = ops.conv_transpose(inputs, weights, self.strides, "valid", None, "channels_last")
        return _unpadded(whole, self.padding, self.lengths)

    def backward(self, shares, weights, factor):
        """factor_j sum_k w_jk share_k."""
        weights = _spread_out(weights, self.dilation)
        padded = _padded(shares, self.padding)
        passed = ops.conv(padded, weights, self.strides, "valid", "channels_last")
        return factor * _unpadded(passed, NO_PADDING, factor.shape[1:4])


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

    def total(self, inputs):
        """Sum of each window, of shape (N, *cells, C)."""
        return sum(self.windows(inputs, 0))

    def counts(self, inputs):
        """Number of voxels in each window that are no padding, of shape (1, *cells, 1)."""
        ones = ops.ones((1, *inputs.shape[1:4], 1), inputs.dtype)
        total = 0
        for window in self.windows(ones, 0):
            total = total + window
        return ops.cast(total, inputs.dtype)

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
class GlobalPool:
    """A pooling of one window, as large as its input."""

    def total(self, inputs):
        """Sum of the window, of shape (N, 1, 1, 1, C)."""
        return ops.sum(inputs, axis=(1, 2, 3), keepdims=True)

    def counts(self, inputs):
        """Number of voxels in the window, of shape (1, 1, 1, 1, 1)."""
        count = np.prod(inputs.shape[1:4])
        return ops.full((1, 1, 1, 1, 1), count, inputs.dtype)

    def spread(self, shares, shape):
        """Hand what arrives at the window to each of its voxels."""
        return ops.broadcast_to(shares, shape)

    def winners(self, inputs) -> tuple:
        """Largest value and its offset, of equal ones the first."""
        flat = ops.reshape(inputs, (inputs.shape[0], -1, inputs.shape[4]))
        where = ops.argmax(flat, axis=1)[:, None, None, None]
        return ops.max(inputs, axis=(1, 2, 3), keepdims=True), where

    def hand_back(self, winners, shares, shape):
        """Hand what arrives at the window to its winner."""
        offsets = np.arange(np.prod(shape[1:4])).reshape(1, *shape[1:4], 1)
        return ops.where(ops.convert_to_tensor(offsets) == ops.cast(winners, "int64"), shares, 0)


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


def _spread_out(weights, dilation):
    """A kernel with the gaps of a dilation, filled with 0."""
    for axis, step in enumerate(dilation):
        if step > 1:
            weights = _spread_along(weights, axis, step)
    return weights


def _spread_along(weights, axis: int, step: int):
    """Put zeros between the values along one axis."""
    length = weights.shape[axis]
    gap = ops.zeros_like(ops.take(weights, [0], axis))
    parts = []
    for index in range(length):
        parts.append(ops.take(weights, [index], axis))
        if index < length - 1:
            parts += [gap] * (step - 1)
    return ops.concatenate(parts, axis)


def _side_by_side(parts: list):
    """Channels of several arrays as one array."""
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)
