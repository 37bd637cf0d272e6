"""Read the layers of a Keras model as nodes of a graph, layer by layer.

Nodes compute channels last. Around a layer that is channels first, its input and output are
permuted.
"""

from typing import NoReturn

import numpy as np
from keras import layers, ops

from msxai.base.errors import EngineError, ParameterError
from msxai.lrp import activations
from msxai.lrp.graph import Graph, Node
from msxai.lrp.layers import (
    NO_PADDING,
    Convolution,
    Dense,
    GlobalPool,
    Pool,
    TransposedConvolution,
    flatten,
)
from msxai.lrp.normalisations import Normalisation, Scale
from msxai.lrp.rearrangements import Cropping, Padding, Permutation, Repeat, Reshaping

__all__ = ["Nodes", "refuse"]

_TO_LAST = (0, 2, 3, 4, 1)  # axes of (N, C, X, Y, Z) as (N, X, Y, Z, C)
_TO_FIRST = (0, 4, 1, 2, 3)
_NOTHING = (  # at prediction
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.SpatialDropout3D,
)
_FUNCTION_LAYERS = (layers.Activation, layers.Softmax)
_ACTIVATION_LAYERS = (layers.ELU, layers.LeakyReLU, layers.ReLU)
_SCALES = (layers.Normalization, layers.Rescaling)
_VALUE_BY_VALUE = _NOTHING + _ACTIVATION_LAYERS + _SCALES  # in the order of what they read
_KNOWN = (
    "Conv3D, Conv3DTranspose, Dense; pooling; BatchNormalization, GroupNormalization, "
    "LayerNormalization, RMSNormalization, Rescaling, Normalization; Add, Average, Subtract, "
    "Concatenate; UpSampling3D, ZeroPadding3D, Cropping3D, Flatten, Reshape, Permute; dropout; "
    "ELU, ReLU, LeakyReLU, PReLU, GELU, SELU or Swish"
)


def refuse(layer, actual: str, expected: str, mend: str = "") -> NoReturn:
    """Raise the error of a layer that LRP is not defined for, by its name."""
    raise EngineError(
        f"layer {layer.name}",
        actual,
        expected,
        mend or "Explain another network, or replace this layer by one that is listed.",
    )


class Nodes:
    """A graph that grows layer by layer.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        Of the weights.
    """

    def __init__(self, dtype: str):
        self.graph = Graph()
        self.dtype = dtype
        self.shapes = {}  # node's index to the shape of its value in Keras, N = 1
        self.is_permuted = False  # whether the layer that is read is channels first in Keras

    def add_scan(self, name: str, shape: tuple, channels_first: bool) -> int:
        """Append the input of scans, of shape (X, Y, Z, C); the index of Keras's tensor."""
        self.graph.shape = shape
        index = self.graph.add(Node(name, "input", []))
        self.shapes[index] = (1, *shape)
        return self._permuted(name, index, _TO_FIRST) if channels_first else index

    def add_table(self, name: str, shape: tuple) -> int:
        """Append the input of a table, of shape (F,)."""
        index = self.graph.add(Node(name, "input", []))
        self.shapes[index] = (1, *shape)
        return index

    def append(self, layer, name: str, inputs: list, is_last: bool) -> int:
        """Append what a layer computes, its activation included; the index of its output.

        Raises
        ------
        EngineError
            LRP is not defined for the layer, or for its options.
        """
        if not isinstance(layer, layers.Layer):
            return self._operation(layer, name, inputs)
        if type(layer) not in _READERS:
            self._refuse_kind(layer)
        output_shape = self._output_shape(layer, inputs)
        is_first = self._is_channels_first(layer, inputs)
        self.is_permuted = is_first
        if is_first:
            inputs = [self._permuted(name, index, _TO_LAST) for index in inputs]
        index = _READERS[type(layer)](self, layer, name, inputs)
        index = self._activation(layer, name, index, is_last)
        if is_first and len(output_shape) == 5:
            self.shapes[index] = tuple(output_shape[axis] for axis in _TO_LAST)
            index = self._permuted(name, index, _TO_FIRST)
        self.shapes[index] = tuple(output_shape)
        return index

    def _output_shape(self, layer, inputs: list) -> tuple:
        """Shape of what a layer computes; refuse a scan that is too small for it."""
        shapes = [self.shapes[index] for index in inputs]
        try:
            output_shape = layer.compute_output_shape(shapes if len(shapes) > 1 else shapes[0])
        except ValueError as error:  # Keras's own layers were built with shapes that fit
            _refuse_small(layer, shapes, error)
        if min(output_shape, default=1) < 1:
            _refuse_small(layer, shapes)
        return output_shape

    def add(self, name: str, kind: str, inputs: list, what=None, roles: tuple = ()) -> int:
        """Append one node."""
        return self.graph.add(Node(name, kind, inputs, what, roles))

    def weights(self, layer) -> tuple[np.ndarray, np.ndarray]:
        """Kernel and bias, of which a missing one is 0."""
        kernel = as_array(layer.kernel).astype(self.dtype)
        filters = layer.units if isinstance(layer, layers.Dense) else layer.filters
        bias = as_array(layer.bias) if layer.use_bias else np.zeros(filters)
        return kernel, bias.astype(self.dtype)

    def _is_channels_first(self, layer, inputs: list) -> bool:
        """Whether a layer is read in a channels-first order that its nodes do not have."""
        if len(self.shapes[inputs[0]]) != 5 or len(inputs) > 1:
            return False
        if isinstance(layer, layers.BatchNormalization | layers.GroupNormalization):
            return layer.axis == 1
        if isinstance(layer, _VALUE_BY_VALUE) or type(layer) is layers.Activation:
            before = self.graph.nodes[inputs[0]].what
            return isinstance(before, Permutation) and before.axes == _TO_FIRST
        return getattr(layer, "data_format", None) == "channels_first"

    def _permuted(self, name: str, index: int, axes: tuple) -> int:
        """A node in another order of axes; two permutations that cancel are left away."""
        node = self.graph.nodes[index]
        if isinstance(node.what, Permutation) and _cancel(node.what.axes, axes):
            return node.inputs[0]
        permuted = self.add(name, "move", [index], Permutation(axes))
        shape = self.shapes[index]
        self.shapes[permuted] = tuple(shape[axis] for axis in axes)
        return permuted

    def _activation(self, layer, name: str, index: int, is_last: bool) -> int:
        """Append the activation of a layer, where it has one; the index of its output."""
        if is_last and activations.head_of_layer(layer):
            return index
        if type(layer) is layers.Softmax:
            refuse(layer, "a softmax inside the network", "a softmax at the output only")
        function = getattr(layer, "activation", None)
        if function is None:
            return index
        if isinstance(function, layers.Layer):
            activation = activations.of_layer(function)
            if activation is None:
                _refuse_function(layer, f"layer {type(function).__name__}")
        else:
            activation = _of_function(layer, function)
        if activation is None:
            return index
        return self.add(name, "pass", [index], activation)

    def _operation(self, operation, name: str, inputs: list) -> int:
        """Append what an operator or a function of Keras computes from tensors."""
        kind = type(operation).__name__
        shapes = [self.shapes[index] for index in inputs]
        if kind == "Add" and len(inputs) == 2 and shapes[0] == shapes[1]:
            index = self.add(name, "add", inputs, None, ("add",))
        elif kind == "Relu":
            index = self.add(name, "pass", inputs, activations.Activation(0.0))
        else:
            refuse(
                operation,
                f"the operation {kind} on tensors of shape {shapes}, made by an operator or a "
                "function of Keras",
                "a layer, a sum of two tensors of one shape, or a ReLU",
                "Write it as a layer of keras.layers, for instance Rescaling or Add.",
            )
        self.shapes[index] = shapes[0]
        return index

    def _refuse_kind(self, layer) -> NoReturn:
        actual = type(layer).__name__
        expected = f"a layer that LRP is defined for here: {_KNOWN}"
        mend = ""
        if actual == "ConvolutionPool":
            mend = "Build or restore the network without fast=True, which has plain layers."
        bases = [base for base in _READERS if isinstance(layer, base)]
        if bases and not mend:
            actual = f"{actual}, a {bases[0].__name__} that computes something of its own"
            mend = f"Use {bases[0].__name__} itself, or explain another network."
        refuse(layer, actual, expected, mend)


def _refuse_small(layer, shapes: list, error: Exception | None = None) -> NoReturn:
    """Refuse a scan so small that a layer of a network of open lengths has no output."""
    raise ParameterError(
        "scans",
        f"a scan so small that layer {layer.name} ({type(layer).__name__}) reads shape "
        f"{shapes[0][1:]}",
        "a scan from which each layer computes at least one voxel",
        "Give a larger scan.",
    ) from error


def as_array(variable) -> np.ndarray:
    """Values of a variable in float64."""
    return np.asarray(ops.convert_to_numpy(variable), "float64")


def _cancel(axes: tuple, other: tuple) -> bool:
    return tuple(axes[axis] for axis in other) == tuple(range(len(axes)))


def _of_function(layer, function):
    try:
        return activations.of_function(function)
    except LookupError as error:
        name = str(error) or str(function)
        if name in activations.NAMES:
            name = f"{name} that has other values than Keras's"
        _refuse_function(layer, name)


def _refuse_function(layer, name: str) -> NoReturn:
    heads = " or ".join(activations.HEADS)
    refuse(
        layer,
        f"activation {name}",
        f"one of {', '.join(activations.NAMES)} of keras.activations, or a layer ReLU, LeakyReLU, "
        f"ELU or PReLU; at the output also {heads}",
        "Use one of them, for instance keras.layers.ReLU(max_value=...) for a clipped ReLU.",
    )


def _pass(nodes: Nodes, layer, name: str, inputs: list) -> int:
    return inputs[0]


def _activation_layer(nodes: Nodes, layer, name: str, inputs: list) -> int:
    return nodes.add(name, "pass", inputs, activations.of_layer(layer))


def _dense(nodes: Nodes, layer, name: str, inputs: list) -> int:
    return nodes.add(name, "affine", inputs, Dense(*nodes.weights(layer)), ("dense",))


def _convolution(nodes: Nodes, layer, name: str, inputs: list) -> int:
    weights, bias = nodes.weights(layer)
    strides = tuple(layer.strides)
    dilation = tuple(layer.dilation_rate)
    size = _spread(layer.kernel_size, dilation)
    padding = _padding(layer, nodes.shapes[inputs[0]], size, strides)
    what = Convolution(weights, bias, strides, padding, dilation, layer.groups)
    return nodes.add(name, "affine", inputs, what, ("convolution",))


def _transposed_convolution(nodes: Nodes, layer, name: str, inputs: list) -> int:
    if layer.output_padding is not None:
        refuse(
            layer,
            f"output_padding {layer.output_padding}",
            "none",
            "Build the layer without output_padding, and crop or pad its output.",
        )
    weights, bias = nodes.weights(layer)
    strides = tuple(layer.strides)
    dilation = tuple(layer.dilation_rate)
    size = _spread(layer.kernel_size, dilation)
    shape = nodes.shapes[inputs[0]]
    lengths, padding = [], []
    for length, stride, edge in zip(shape[1:4], strides, size, strict=True):
        whole = (length - 1) * stride + edge
        result = length * stride if layer.padding == "same" else max(whole, length * stride)
        before = max(whole - result, 0) // 2
        lengths.append(result)
        padding.append((before, max(whole - result - before, 0)))
    what = TransposedConvolution(weights, bias, strides, tuple(padding), dilation, tuple(lengths))
    return nodes.add(name, "affine", inputs, what, ("convolution",))


def _spread(size, dilation) -> tuple:
    """Edges of a kernel with its gaps."""
    return tuple((edge - 1) * step + 1 for edge, step in zip(size, dilation, strict=True))


def _max_pooling(nodes: Nodes, layer, name: str, inputs: list) -> int:
    return nodes.add(name, "max", inputs, _pool(layer, nodes.shapes[inputs[0]]))


def _mean_pooling(nodes: Nodes, layer, name: str, inputs: list) -> int:
    shape = nodes.shapes[inputs[0]]
    pool = _pool(layer, shape)
    if pool.size == tuple(shape[1:4]) and layer.padding == "valid":
        pool = GlobalPool()  # one window: voxel by voxel it would be slow
    return nodes.add(name, "mean", inputs, pool, ("pool",))


def _global_max(nodes: Nodes, layer, name: str, inputs: list) -> int:
    return _without_voxels(nodes, layer, name, nodes.add(name, "max", inputs, GlobalPool()))


def _global_mean(nodes: Nodes, layer, name: str, inputs: list) -> int:
    index = nodes.add(name, "mean", inputs, GlobalPool(), ("pool",))
    return _without_voxels(nodes, layer, name, index)


def _without_voxels(nodes: Nodes, layer, name: str, index: int) -> int:
    return index if layer.keepdims else nodes.add(name, "pass", [index], flatten)


def _pool(layer, shape) -> Pool:
    size = tuple(layer.pool_size)
    strides = tuple(layer.strides)
    return Pool(size, strides, _padding(layer, shape, size, strides))


def _padding(layer, shape, size, strides) -> tuple:
    """(first, last) along x, y, z of "valid" or "same", as TensorFlow pads."""
    if layer.padding == "valid":
        return NO_PADDING
    if layer.padding != "same":
        refuse(layer, f"padding {layer.padding}", "valid or same")
    padding = []
    for length, stride, edge in zip(shape[1:4], strides, size, strict=True):
        cells = -(-length // stride)
        total = max((cells - 1) * stride + edge - length, 0)
        padding.append((total // 2, total - total // 2))
    return tuple(padding)


def _batch_normalisation(nodes: Nodes, layer, name: str, inputs: list) -> int:
    shape = nodes.shapes[inputs[0]]
    _check_axis(layer, shape)
    channels = shape[-1]
    scale = _or(layer.gamma, np.ones(channels))
    offset = _or(layer.beta, np.zeros(channels))
    scale = scale / np.sqrt(as_array(layer.moving_variance) + layer.epsilon)
    return _scale(nodes, name, inputs, scale, offset - as_array(layer.moving_mean) * scale)


def _check_axis(layer, shape) -> None:
    """Refuse a normalisation along another axis than that of the channels.

    Where it is axis 1 of five, the values have been permuted, and channels are last.
    """
    if layer.axis not in (-1, len(shape) - 1) and not (layer.axis == 1 and len(shape) == 5):
        refuse(layer, f"a {type(layer).__name__} along axis {layer.axis}", "one along the channels")


def _or(variable, otherwise) -> np.ndarray:
    return otherwise if variable is None else as_array(variable)


def _rescaling(nodes: Nodes, layer, name: str, inputs: list) -> int:
    scale, offset = (_channels_last(nodes, value) for value in (layer.scale, layer.offset))
    return _scale(nodes, name, inputs, scale, offset)


def _normalization(nodes: Nodes, layer, name: str, inputs: list) -> int:
    if layer.invert:
        refuse(layer, "a Normalization with invert=True", "one without")
    mean, variance = (_channels_last(nodes, value) for value in (layer.mean, layer.variance))
    scale = 1 / np.maximum(np.sqrt(variance), 1e-7)
    return _scale(nodes, name, inputs, scale, -mean * scale)


def _channels_last(nodes: Nodes, variable) -> np.ndarray:
    """Values that broadcast to a layer's inputs in Keras, as they do to those of its node."""
    values = as_array(variable)
    if not nodes.is_permuted or values.size == 1:
        return values
    values = values.reshape(*[1] * (len(_TO_LAST) - values.ndim), *values.shape)
    return values.transpose(_TO_LAST)


def _scale(nodes: Nodes, name: str, inputs: list, scale, offset) -> int:
    """Append s a + o, by channel where s and o are numbers or differ by channel only."""
    shape = nodes.shapes[inputs[0]]
    both = np.stack(np.broadcast_arrays(scale, offset))
    if both.size == 2 or both.shape[-1] == shape[-1] == both[0].size:
        both = np.broadcast_to(both.reshape(2, -1), (2, shape[-1]))
    return nodes.add(name, "norm", inputs, Scale(*both, shape[1:]))


def _group_normalisation(nodes: Nodes, layer, name: str, inputs: list) -> int:
    shape = nodes.shapes[inputs[0]]
    _check_axis(layer, shape)
    channels = shape[-1]
    grouped = (*shape[1:-1], layer.groups, channels // layer.groups)
    axes = tuple(axis for axis in range(1, len(grouped) + 1) if axis != len(grouped) - 1)
    return nodes.add(
        name,
        "affine",
        inputs,
        Normalisation(
            weights=_or(layer.gamma, np.ones(channels)).astype(nodes.dtype),
            bias=_or(layer.beta, np.zeros(channels)).astype(nodes.dtype),
            grouped=grouped,
            axes=axes,
            epsilon=layer.epsilon,
        ),
        ("norm",),
    )


def _layer_normalisation(nodes: Nodes, layer, name: str, inputs: list) -> int:
    if getattr(layer, "rms_scaling", False):
        refuse(layer, "rms_scaling", "none", "Use keras.layers.RMSNormalization.")
    return _over_axes(nodes, layer, name, inputs, layer.gamma, layer.beta)


def _rms_normalisation(nodes: Nodes, layer, name: str, inputs: list) -> int:
    return _over_axes(nodes, layer, name, inputs, layer.scale, None, centred=False)


def _over_axes(
    nodes: Nodes, layer, name: str, inputs: list, gamma, beta, *, centred: bool = True
) -> int:
    """Append a normalisation over the axes of a layer."""
    shape = nodes.shapes[inputs[0]]
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    axes = tuple(sorted(axis % len(shape) for axis in axes))
    by_axes = [length if axis in axes else 1 for axis, length in enumerate(shape)]
    ones = np.ones(by_axes)
    what = Normalisation(
        weights=_or(gamma, ones).reshape(by_axes).astype(nodes.dtype),
        bias=_or(beta, 0 * ones).reshape(by_axes).astype(nodes.dtype),
        grouped=tuple(shape[1:]),
        axes=axes,
        epsilon=layer.epsilon,
        centred=centred,
    )
    return nodes.add(name, "affine", inputs, what, ("norm",))


def _sum(nodes: Nodes, layer, name: str, inputs: list) -> int:
    _check_same_shape(nodes, layer, inputs)
    return nodes.add(name, "add", inputs, None, ("add",))


def _mean_of_inputs(nodes: Nodes, layer, name: str, inputs: list) -> int:
    total = _sum(nodes, layer, name, inputs)
    return nodes.add(name, "pass", [total], activations.Factor(1 / len(inputs)))


def _difference(nodes: Nodes, layer, name: str, inputs: list) -> int:
    first, second = inputs
    negated = nodes.add(name, "pass", [second], activations.Factor(-1.0))
    nodes.shapes[negated] = nodes.shapes[second]
    return _sum(nodes, layer, name, [first, negated])


def _check_same_shape(nodes: Nodes, layer, inputs: list) -> None:
    shapes = [nodes.shapes[index] for index in inputs]
    if len(set(shapes)) > 1:
        refuse(layer, f"inputs of shapes {shapes}", "inputs of one shape")


def _concatenation(nodes: Nodes, layer, name: str, inputs: list) -> int:
    rank = len(nodes.shapes[inputs[0]])
    return nodes.add(name, "concatenation", inputs, layer.axis % rank)


def _upsampling(nodes: Nodes, layer, name: str, inputs: list) -> int:
    return nodes.add(name, "move", inputs, Repeat(tuple(layer.size)))


def _zero_padding(nodes: Nodes, layer, name: str, inputs: list) -> int:
    widths = tuple(tuple(width) for width in layer.padding)
    return nodes.add(name, "move", inputs, Padding(widths))


def _cropping(nodes: Nodes, layer, name: str, inputs: list) -> int:
    widths = tuple(tuple(width) for width in layer.cropping)
    return nodes.add(name, "move", inputs, Cropping(widths))


def _permute(nodes: Nodes, layer, name: str, inputs: list) -> int:
    return nodes.add(name, "move", inputs, Permutation((0, *layer.dims)))


def _reshape(nodes: Nodes, layer, name: str, inputs: list) -> int:
    shape = layer.compute_output_shape(nodes.shapes[inputs[0]])
    return nodes.add(name, "move", inputs, Reshaping(tuple(shape[1:])))


def _flatten(nodes: Nodes, layer, name: str, inputs: list) -> int:
    return nodes.add(name, "pass", inputs, flatten)


_READERS = {
    **dict.fromkeys(_NOTHING + _FUNCTION_LAYERS, _pass),
    **dict.fromkeys((*_ACTIVATION_LAYERS, layers.PReLU), _activation_layer),
    layers.Add: _sum,
    layers.Average: _mean_of_inputs,
    layers.AveragePooling3D: _mean_pooling,
    layers.BatchNormalization: _batch_normalisation,
    layers.Concatenate: _concatenation,
    layers.Conv3D: _convolution,
    layers.Conv3DTranspose: _transposed_convolution,
    layers.Cropping3D: _cropping,
    layers.Dense: _dense,
    layers.Flatten: _flatten,
    layers.GlobalAveragePooling3D: _global_mean,
    layers.GlobalMaxPooling3D: _global_max,
    layers.GroupNormalization: _group_normalisation,
    layers.LayerNormalization: _layer_normalisation,
    layers.MaxPooling3D: _max_pooling,
    layers.Normalization: _normalization,
    layers.Permute: _permute,
    layers.RMSNormalization: _rms_normalisation,
    layers.Rescaling: _rescaling,
    layers.Reshape: _reshape,
    layers.Subtract: _difference,
    layers.UpSampling3D: _upsampling,
    layers.ZeroPadding3D: _zero_padding,
}
