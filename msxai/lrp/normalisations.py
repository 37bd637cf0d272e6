"""Normalisation layers, and how LRP sees them: as affine maps.

A batch normalisation scales and shifts each channel by fixed numbers: z = s a + o. Where it can, it
is merged with the convolution or dense layer next to it (Guillemot et al. 2020, arXiv:2002.11018;
Motzkus et al. 2022, arXiv:2202.06621). Elsewhere it is an affine layer, and gives to its input
s a / (s a + o) of the relevance, as iNNvestigate does (Alber et al. 2019, JMLR 20:93).

Group and layer normalisation divide by a standard deviation that depends on the scan. It is held
fixed at its value for the scan, so that subtracting the mean and scaling is an affine map, which
the rule is applied to (Ali et al. 2022, arXiv:2202.07304).
"""

from dataclasses import dataclass, replace

import numpy as np
from keras import ops

from msxai.lrp.layers import Affine

__all__ = ["Normalisation", "Scale"]


@dataclass
class Scale(Affine):
    """z = s a + o, value by value.

    Attributes
    ----------
    weights, bias : ndarray
        s and o, for each channel, or of a shape that broadcasts to that of the inputs.
    shape : tuple of int
        Of the inputs, (X, Y, Z, C).
    """

    weights: np.ndarray
    bias: np.ndarray
    shape: tuple

    def forward(self, inputs, weights):
        """Compute s a."""
        return inputs * weights

    def backward(self, shares, weights, factor):
        """factor_j s_j share_j."""
        return factor * (shares * weights)


@dataclass
class Normalisation(Affine):
    """z = g (a - mean(a)) / sd(a) + b over some axes: group, instance, layer or RMS normalisation.

    Attributes
    ----------
    weights, bias : ndarray
        g and b, of a shape that broadcasts to that of the inputs.
    grouped : tuple of int
        Shape of one scan's values with the groups of channels apart.
    axes : tuple of int
        Axes of (N, *grouped) that mean and deviation are taken over.
    epsilon : float
        Added to the variance.
    centred : bool
        Whether the mean is subtracted. RMS normalisation subtracts none, and divides by the root
        of the mean square.
    deviation : array, optional
        sd(a) where it is held fixed; otherwise that of the inputs.
    """

    weights: np.ndarray
    bias: np.ndarray
    grouped: tuple
    axes: tuple
    epsilon: float
    centred: bool = True
    deviation: object = None

    def at(self, inputs) -> "Normalisation":
        """The same with the deviation of these inputs held fixed."""
        return replace(self, deviation=self._deviation(self._in_groups(inputs)))

    def forward(self, inputs, weights):
        """Compute g (a - mean(a)) / sd(a)."""
        values = self._in_groups(inputs)
        deviation = self._deviation(values) if self.deviation is None else self.deviation
        normalised = self._without_mean(values) / deviation
        return weights * ops.reshape(normalised, inputs.shape)

    def backward(self, shares, weights, factor):
        """factor_j times the transposed map at share, for a deviation that is held fixed."""
        arriving = self._in_groups(shares * weights)
        passed = self._without_mean(arriving / self.deviation)
        return factor * ops.reshape(passed, factor.shape)

    def gradient(self, arriving, inputs):
        """Gradient at the inputs, of what arrives at the outputs; the deviation is not fixed."""
        values = self._in_groups(inputs)
        deviation = self._deviation(values)
        normalised = self._without_mean(values) / deviation
        scaled = self._in_groups(arriving * ops.convert_to_tensor(self.weights))
        along = ops.mean(scaled * normalised, axis=self.axes, keepdims=True)
        passed = (self._without_mean(scaled) - normalised * along) / deviation
        return ops.reshape(passed, inputs.shape)

    def _in_groups(self, values):
        return ops.reshape(values, (values.shape[0], *self.grouped))

    def _without_mean(self, values):
        if not self.centred:
            return values
        return values - ops.mean(values, axis=self.axes, keepdims=True)

    def _deviation(self, values):
        squares = self._without_mean(values) ** 2
        return ops.sqrt(ops.mean(squares, axis=self.axes, keepdims=True) + self.epsilon)
