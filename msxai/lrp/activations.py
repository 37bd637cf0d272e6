"""Activations: functions of each value alone, and their derivatives.

LRP hands relevance through them unchanged, because each output has one input (Bach et al. 2015,
doi:10.1371/journal.pone.0130140; for GELU and Swish, Achtibat et al. 2024, arXiv:2402.05602). The
derivative serves the gradient methods. All of them keep float64.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import keras
import numpy as np
from keras import layers, ops

__all__ = [
    "HEADS",
    "NAMES",
    "Activation",
    "Clipped",
    "Elementwise",
    "Factor",
    "Gelu",
    "LearnedSlopes",
    "Swish",
    "head_of",
    "head_of_layer",
    "of_function",
    "of_layer",
]

HEADS = {"sigmoid": keras.activations.sigmoid, "softmax": keras.activations.softmax}
"""What may follow the logit: it is left away."""

_SELU_SCALE = 1.0507009873554805
_SELU_ALPHA = 1.6732632423543772
_TANH_GELU = 0.044715  # of the approximation by tanh, Hendrycks and Gimpel 2016
_PROBES = np.concatenate([-np.geomspace(1e4, 1e-3, 60), [0.0], np.geomspace(1e-3, 1e4, 60)])


class Elementwise:
    """A function of each value alone."""

    monotone: ClassVar[bool] = False  # whether a larger input never gives a smaller value

    def __call__(self, x):
        """Value."""
        raise NotImplementedError

    def derivative(self, x):
        """f'(x)."""
        raise NotImplementedError


@dataclass
class Activation(Elementwise):
    """x where x > 0; below, slope x, or for the ELU slope (e^x - 1); the SELU has a scale above."""

    slope: float
    exponential: bool = False
    scale: float = 1.0

    @property
    def monotone(self) -> bool:
        """Whether a larger input never gives a smaller value."""
        return self.slope >= 0

    def __call__(self, x):
        """Value."""
        if self.exponential and self.scale == 1:
            return ops.elu(x, self.slope)
        if self.exponential:
            below = self.slope * (ops.exp(_at_most(x, 0)) - 1)
            return ops.where(x > 0, self.scale * x, below)
        return ops.where(x > 0, x, self.slope * x)

    def derivative(self, x):
        """f'(x); at 0 that from below."""
        ones = ops.ones_like(x)
        below = self.slope * ones
        if self.exponential:
            below = self.slope * ops.exp(_at_most(x, 0))
        return ops.where(x > 0, self.scale * ones, below)


@dataclass
class Clipped(Elementwise):
    """ReLU with a ceiling and a threshold: at most `ceiling`; x from `threshold` on; else slope."""

    ceiling: float
    threshold: float = 0.0
    slope: float = 0.0

    @property
    def monotone(self) -> bool:
        """Whether a larger input never gives a smaller value."""
        return self.slope >= 0 and self.threshold >= 0

    def __call__(self, x):
        """Value."""
        below = self.slope * (x - self.threshold)
        return ops.where(x >= self.threshold, _at_most(x, self.ceiling), below)

    def derivative(self, x):
        """f'(x); at the ends that from below."""
        ones = ops.ones_like(x)
        inside = ops.where(x <= self.ceiling, ones, 0 * ones)
        return ops.where(x > self.threshold, inside, self.slope * ones)


@dataclass
class LearnedSlopes(Elementwise):
    """PReLU: x where x > 0, else slope x, with a slope for each channel or voxel."""

    slopes: np.ndarray

    def __call__(self, x):
        """Value."""
        return ops.where(x > 0, x, self._slopes(x) * x)

    def derivative(self, x):
        """f'(x); at 0 that from below."""
        return ops.where(x > 0, ops.ones_like(x), self._slopes(x) * ops.ones_like(x))

    def _slopes(self, x):
        return ops.cast(ops.convert_to_tensor(self.slopes), x.dtype)


@dataclass
class Swish(Elementwise):
    """Swish, also SiLU: x sigmoid(x) (Ramachandran et al. 2017, arXiv:1710.05941)."""

    def __call__(self, x):
        """Value."""
        return x * ops.sigmoid(x)

    def derivative(self, x):
        """f'(x)."""
        gate = ops.sigmoid(x)
        return gate * (1 + x * (1 - gate))


@dataclass
class Gelu(Elementwise):
    """GELU: x Phi(x), or its approximation by tanh (Hendrycks and Gimpel 2016, arXiv:1606.08415).

    Phi is the distribution function of the standard normal distribution.
    """

    approximate: bool = False

    def __call__(self, x):
        """Value."""
        return x * self._share(x)

    def derivative(self, x):
        """f'(x)."""
        return self._share(x) + x * self._density(x)

    def _share(self, x):
        if self.approximate:
            return 0.5 * (1 + ops.tanh(self._argument(x)))
        return 0.5 * (1 + ops.erf(x / math.sqrt(2)))

    def _density(self, x):
        """Derivative of `_share`."""
        if self.approximate:
            slope = math.sqrt(2 / math.pi) * (1 + 3 * _TANH_GELU * x * x)
            return 0.5 * (1 - ops.tanh(self._argument(x)) ** 2) * slope
        return ops.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)

    def _argument(self, x):
        return math.sqrt(2 / math.pi) * (x + _TANH_GELU * x * x * x)


@dataclass
class Factor(Elementwise):
    """A number times x: the weight of a term in a mean or a difference."""

    factor: float

    def __call__(self, x):
        """Value."""
        return self.factor * x

    def derivative(self, x):
        """f'(x)."""
        return self.factor * ops.ones_like(x)


def _at_most(x, ceiling: float):
    """The smaller of value and ceiling. ``ops.minimum`` makes float64 to float32 on PyTorch."""
    return ops.clip(x, -math.inf, ceiling)


_SELU = Activation(_SELU_SCALE * _SELU_ALPHA, exponential=True, scale=_SELU_SCALE)
_FUNCTIONS = {
    "linear": (keras.activations.linear, None),
    "relu": (keras.activations.relu, Activation(0.0)),
    "elu": (keras.activations.elu, Activation(1.0, exponential=True)),
    "leaky_relu": (keras.activations.leaky_relu, Activation(0.2)),
    "relu6": (keras.activations.relu6, Clipped(6.0)),
    "selu": (keras.activations.selu, _SELU),
    "gelu": (keras.activations.gelu, Gelu()),
    "silu": (keras.activations.silu, Swish()),
}
NAMES = tuple(_FUNCTIONS)
"""Activations by name that LRP hands relevance through."""

_OTHER_NAMES = {"swish": "silu"}


def of_function(function: Callable) -> Elementwise | None:
    """What an activation function computes; None for the identity.

    A function is taken for one of Keras's where it is that function, or where it has its name and
    its values, as ``keras.ops.relu`` and ``tf.nn.relu`` do. A name alone proves nothing.

    Raises
    ------
    LookupError
        A function that is none of `NAMES`.
    """
    for keras_function, activation in _FUNCTIONS.values():
        if function is keras_function:
            return activation
    name = getattr(function, "__name__", "")
    name = _OTHER_NAMES.get(name, name)
    if name in _FUNCTIONS and _has_values_of(function, _FUNCTIONS[name][0], _PROBES):
        return _FUNCTIONS[name][1]
    raise LookupError(name)


def head_of(function: Callable) -> str | None:
    """The name in `HEADS` of a function; None where it is none of them."""
    name = getattr(function, "__name__", "")
    if name not in HEADS:
        return None
    keras_function = HEADS[name]
    if function is keras_function or _has_values_of(
        function, keras_function, np.linspace(-5, 5, 21)[None]
    ):
        return name
    return None


def head_of_layer(layer) -> str | None:
    """The name in `HEADS` of what a layer ends with; None where it ends with none of them."""
    if type(layer) is layers.Softmax:
        return "softmax"
    function = getattr(layer, "activation", None)
    return head_of(function) if callable(function) else None


def _has_values_of(function: Callable, keras_function: Callable, probes) -> bool:
    probes = ops.convert_to_tensor(probes.astype("float32"))
    values = ops.convert_to_numpy(function(probes))
    return bool(
        np.allclose(values, ops.convert_to_numpy(keras_function(probes)), rtol=1e-5, atol=1e-6)
    )


def of_layer(layer) -> Elementwise | None:
    """What a layer that is an activation computes; None for any other layer."""
    if type(layer) is layers.ReLU:
        return _relu(layer)
    if type(layer) is layers.LeakyReLU:
        return Activation(float(layer.negative_slope))
    if type(layer) is layers.ELU:
        return Activation(float(layer.alpha), exponential=True)
    if type(layer) is layers.PReLU:
        return LearnedSlopes(ops.convert_to_numpy(layer.alpha))
    return None


def _relu(layer) -> Elementwise:
    ceiling = layer.max_value
    if ceiling is None and not layer.threshold:
        return Activation(float(layer.negative_slope))
    ceiling = math.inf if ceiling is None else float(ceiling)
    return Clipped(ceiling, float(layer.threshold), float(layer.negative_slope))
