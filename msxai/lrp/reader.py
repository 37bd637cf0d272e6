"""Read a Keras model as a graph for LRP.

Batch normalisation is folded into its neighbour, and a final sigmoid or softmax is left away. Max
pooling is moved before the activation that it follows: ELU, ReLU and LeakyReLU are monotone, so the
value is the same, and the winner is decided before rounding makes ties.
"""

from typing import NoReturn

import keras
import numpy as np
from keras import layers, ops

from msxai.base.errors import EngineError
from msxai.lrp.graph import Graph, Node
from msxai.lrp.layers import NO_PADDING, Activation, Convolution, Dense, Pool, flatten

__all__ = ["read"]

_ACTIVATIONS = ("linear", "relu", "elu", "leaky_relu")
_HEADS = ("sigmoid", "softmax")
_DROPOUTS = (
    layers.Dropout,
    layers.SpatialDropout3D,
    layers.GaussianNoise,
    layers.GaussianDropout,
)
_ACTIVATION_LAYERS = (
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.Softmax,
)
_POOLED = Pool((3, 3, 3), (3, 3, 3))  # the max pooling that `msxai.model.kernels` compute


def read(model: keras.Model, dtype: str = "float32") -> Graph:
    """Read a Keras model.

    Parameters
    ----------
    model : keras.Model
        Sequential or functional; one input (N, X, Y, Z, C), one output (N, K).
    dtype : {"float32", "float64"}
        Of the weights.

    Raises
    ------
    EngineError
        A layer that LRP is not defined for here, by its name.
    """
    _check_ends(model)
    reader = _Reader(model, dtype)
    last = reader.visit(model.outputs[0])
    graph = _reachable(reader.graph, last)
    _fold(graph)
    _pool_first(graph)
    graph = _reachable(graph, len(graph.nodes) - 1)
    graph.fused = _fusable(graph)
    _mark_first(graph)
    return graph


def _check_ends(model: keras.Model) -> None:
    inputs = [tensor.shape for tensor in model.inputs]
    outputs = [tensor.shape for tensor in model.outputs]
    one_of_each = len(inputs) == 1 and len(outputs) == 1
    if not one_of_each or len(inputs[0]) != 5 or len(outputs[0]) != 2:
        _refuse(
            model,
            f"inputs {inputs}, outputs {outputs}",
            "one input (N, X, Y, Z, C) and one output (N, K)",
        )


def _refuse(layer, actual: str, expected: str) -> NoReturn:
    raise EngineError(
        f"layer {layer.name}",
        actual,
        expected,
        "Explain another network, or replace this layer by one that is known.",
    )


class _Reader:
    """Appends the nodes of each layer to a graph, inputs first."""

    def __init__(self, model: keras.Model, dtype: str):
        self.graph = Graph(shape=tuple(model.inputs[0].shape[1:]))
        self.output = model.outputs[0]
        self.dtype = dtype
        self.done = {}  # (layer, call) to the index of its output

    def visit(self, tensor) -> int:
        """Index of the node that computes a symbolic tensor."""
        layer, call, _ = tensor._keras_history
        key = (id(layer), call)
        if key not in self.done:
            sources = layer._inbound_nodes[call].input_tensors
            inputs = [self.visit(source) for source in sources]
            shape = sources[0].shape if inputs else None
            index = self._layer(layer, inputs, shape)
            self.done[key] = self._activation(layer, index, tensor is self.output)
        return self.done[key]

    def _layer(self, layer, inputs: list, shape) -> int:
        """Append what a layer computes before its activation; the index of its output."""
        if isinstance(layer, layers.InputLayer):
            return self._add(layer, "input", [])
        if isinstance(layer, _DROPOUTS + _ACTIVATION_LAYERS):
            return inputs[0]
        if isinstance(layer, layers.Add):
            return self._add(layer, "add", inputs, roles=("add",))
        if type(layer) is layers.Dense:
            dense = Dense(*self._weights(layer))
            return self._add(layer, "affine", inputs, dense, ("dense",))
        if isinstance(layer, layers.BatchNormalization) and layer.axis in (-1, len(shape) - 1):
            return self._add(layer, "norm", inputs, _scale_and_offset(layer, shape[-1]))
        if getattr(layer, "data_format", None) == "channels_last":
            index = self._spatial_layer(layer, inputs, shape)
            if index is not None:
                return index
        _refuse(
            layer,
            type(layer).__name__,
            "a layer that LRP is defined for here: Conv3D, Dense, pooling, batch normalisation, "
            "Add, Flatten, Dropout, ELU, ReLU or LeakyReLU, channels last",
        )

    def _spatial_layer(self, layer, inputs: list, shape) -> int | None:
        """The same of layers that know where channels stand; None for an unknown one."""
        if isinstance(layer, layers.Flatten):
            return self._add(layer, "pass", inputs, flatten)
        if type(layer) is layers.Conv3D and layer.groups == 1:
            return self._convolution(layer, inputs, shape)
        if isinstance(layer, layers.MaxPooling3D):
            return self._add(layer, "max", inputs, _pool(layer, shape))
        if isinstance(layer, layers.AveragePooling3D):
            return self._add(layer, "mean", inputs, _pool(layer, shape), ("pool",))
        if isinstance(layer, layers.GlobalAveragePooling3D):
            whole = Pool(tuple(shape[1:4]), (1, 1, 1))
            index = self._add(layer, "mean", inputs, whole, ("pool",))
            return index if layer.keepdims else self._add(layer, "pass", [index], flatten)
        return None

    def _convolution(self, layer, inputs: list, shape) -> int:
        if tuple(layer.dilation_rate) != (1, 1, 1):
            _refuse(layer, f"dilation {tuple(layer.dilation_rate)}", "none")
        weights, bias = self._weights(layer)
        strides = tuple(layer.strides)
        padding = _padding(layer, shape, weights.shape[:3], strides)
        convolution = Convolution(weights, bias, strides, padding)
        return self._add(layer, "affine", inputs, convolution, ("convolution",))

    def _activation(self, layer, index: int, is_last: bool) -> int:
        """Append the activation of a layer, where it has one; the index of its output."""
        name, activation = _activation_of(layer)
        if name == "linear" or (is_last and name in _HEADS):
            return index
        if name not in _ACTIVATIONS:
            _refuse(
                layer,
                f"activation {name}",
                f"one of {', '.join(_ACTIVATIONS)}; at the output also {' or '.join(_HEADS)}",
            )
        return self._add(layer, "pass", [index], activation)

    def _add(self, layer, kind: str, inputs: list, what=None, roles: tuple = ()) -> int:
        return self.graph.add(Node(layer.name, kind, inputs, what, roles))

    def _weights(self, layer) -> tuple[np.ndarray, np.ndarray]:
        weights = _array(layer.kernel).astype(self.dtype)
        bias = _array(layer.bias) if layer.use_bias else np.zeros(weights.shape[-1])
        return weights, bias.astype(self.dtype)


def _array(variable) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(variable), "float64")


def _scale_and_offset(layer, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch normalisation as scale * x + offset."""
    scale = np.ones(channels) if layer.gamma is None else _array(layer.gamma)
    offset = np.zeros(channels) if layer.beta is None else _array(layer.beta)
    scale = scale / np.sqrt(_array(layer.moving_variance) + layer.epsilon)
    return scale, offset - _array(layer.moving_mean) * scale


def _pool(layer, shape) -> Pool:
    size = tuple(layer.pool_size)
    strides = tuple(layer.strides)
    return Pool(size, strides, _padding(layer, shape, size, strides))


def _padding(layer, shape, size, strides) -> tuple:
    """(first, last) along x, y, z of "valid" or "same", as TensorFlow pads."""
    if layer.padding == "valid":
        return NO_PADDING
    if layer.padding != "same":
        _refuse(layer, f"padding {layer.padding}", "valid or same")
    padding = []
    for length, stride, edge in zip(shape[1:4], strides, size, strict=True):
        cells = -(-length // stride)
        total = max((cells - 1) * stride + edge - length, 0)
        padding.append((total // 2, total - total // 2))
    return tuple(padding)


def _activation_of(layer) -> tuple[str, Activation | None]:
    """Name of a layer's activation, and what it computes."""
    if isinstance(layer, layers.ReLU):
        if layer.max_value is not None or layer.threshold:
            _refuse(
                layer,
                f"a ReLU with max_value {layer.max_value}, threshold {layer.threshold}",
                "max_value None, threshold 0",
            )
        return "relu", Activation(float(layer.negative_slope))
    if isinstance(layer, layers.LeakyReLU):
        return "leaky_relu", Activation(float(layer.negative_slope))
    if isinstance(layer, layers.ELU):
        return "elu", Activation(float(layer.alpha), exponential=True)
    if isinstance(layer, layers.Softmax):
        return "softmax", None
    function = getattr(layer, "activation", None) or keras.activations.linear
    name = getattr(function, "__name__", str(function))
    activations = {
        "elu": Activation(1.0, exponential=True),
        "relu": Activation(0.0),
        "leaky_relu": Activation(0.2),
    }
    return name, activations.get(name)


def _reachable(graph: Graph, last: int) -> Graph:
    """The nodes that a node depends on, in order of computation: the input first, it last."""
    order = []

    def visit(index):
        if index not in order:
            for source in graph.nodes[index].inputs:
                visit(source)
            order.append(index)

    inputs = [index for index, node in enumerate(graph.nodes) if node.kind == "input"]
    visit(inputs[0])
    visit(last)
    new = {index: rank for rank, index in enumerate(order)}
    nodes = [graph.nodes[index] for index in order]
    for node in nodes:
        node.inputs = [new[source] for source in node.inputs]
    return Graph(nodes, graph.shape)


def _fold(graph: Graph) -> None:
    """Fold each batch normalisation into the affine node before it, else into the one after it."""
    for index, node in enumerate(graph.nodes):
        if node.kind != "norm":
            continue
        scale, offset = node.what
        source = graph.nodes[node.inputs[0]]
        if source.kind == "affine" and graph.readers(node.inputs[0]) == [index]:
            _fold_back(source.what, scale, offset)
        else:
            _fold_forward(_affine_after(graph, index), scale, offset)
        node.kind = "pass"
        node.what = Activation(1.0)  # hands everything through


def _fold_back(affine, scale, offset) -> None:
    """Make scale * (a w + b) + offset one affine map."""
    dtype = affine.weights.dtype
    affine.weights = (affine.weights * scale).astype(dtype)
    affine.bias = (affine.bias * scale + offset).astype(dtype)


def _fold_forward(affine, scale, offset) -> None:
    """Make (scale * a + offset) w + b one affine map."""
    dtype = affine.weights.dtype
    weights = affine.weights.astype(float)
    repeats = weights.shape[-2] // len(scale)  # voxels, where a Flatten stands between
    scale = np.tile(scale, repeats)
    offset = np.tile(offset, repeats)
    added = (weights * offset[:, None]).reshape(-1, weights.shape[-1]).sum(axis=0)
    affine.bias = (affine.bias + added).astype(dtype)
    affine.weights = (weights * scale[:, None]).astype(dtype)


def _affine_after(graph: Graph, index: int):
    """The dense layer or unpadded convolution that alone reads a node, a Flatten between or not."""
    readers = graph.readers(index)
    if len(readers) == 1 and graph.nodes[readers[0]].what is flatten:
        readers = graph.readers(readers[0])
    if len(readers) == 1:
        affine = graph.nodes[readers[0]].what
        is_unpadded = isinstance(affine, Convolution) and affine.padding == NO_PADDING
        if isinstance(affine, Dense) or is_unpadded:
            return affine
    raise EngineError(
        f"layer {graph.nodes[index].name}",
        "a batch normalisation between layers that it cannot be folded into",
        "one right after a convolution or dense layer, or right before a dense layer or an "
        "unpadded convolution",
        "Explain another network, or move this layer.",
    )


def _pool_first(graph: Graph) -> None:
    """Swap each max pooling with the activations right before it that nothing else reads.

    The nodes keep their indices and change their contents: pooling comes first in the chain,
    activations follow in their order.
    """
    for index, node in enumerate(graph.nodes):
        if node.kind != "max":
            continue
        chain = [*_activations_before(graph, index), index]
        targets = [graph.nodes[position] for position in chain]
        contents = [
            (content.name, content.kind, content.what, content.roles)
            for content in (node, *targets[:-1])
        ]
        for target, content in zip(targets, contents, strict=True):
            target.name, target.kind, target.what, target.roles = content


def _activations_before(graph: Graph, index: int) -> list[int]:
    """Indices of the activations in a row before a node that nothing else reads, first to last."""
    chain = []
    source = graph.nodes[index].inputs[0]
    while _is_activation(graph.nodes[source]) and len(graph.readers(source)) == 1:
        chain.insert(0, source)
        source = graph.nodes[source].inputs[0]
    return chain


def _is_activation(node: Node) -> bool:
    return node.kind == "pass" and node.what is not flatten


def _fusable(graph: Graph) -> dict:
    """`Graph.fused`: max poolings that read a convolution which nothing else reads."""
    fused = {}
    for index, node in enumerate(graph.nodes):
        if node.kind == "max" and node.what == _POOLED:
            source = node.inputs[0]
            convolution = graph.nodes[source].what
            if (
                graph.readers(source) == [index]
                and isinstance(convolution, Convolution)
                and convolution.winners_only
            ):
                fused[index] = source
    return fused


def _mark_first(graph: Graph) -> None:
    """Give the role "first" to layers with weights that stand behind no other such layer."""
    seen = {0}
    for index, node in enumerate(graph.nodes):
        if not node.inputs or node.inputs[0] not in seen:
            continue
        if node.kind in ("pass", "max", "mean"):
            seen.add(index)
        if node.kind == "affine":
            node.roles = ("first", *node.roles)
