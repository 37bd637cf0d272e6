"""Which layers a Keras model has, as LRP sees them: affine maps, poolings, sums, and what hands relevance through unchanged.

Batch normalisation is folded into its neighbour, a final sigmoid or softmax is left away, and max pooling is moved before the activation
that it follows: ELU, ReLU and LeakyReLU are monotone, so the value is the same, and the winner is decided before rounding makes ties.
"""

from dataclasses import dataclass, field

import keras
import numpy as np
from keras import layers, ops

from msxai.base.errors import EngineError
from msxai.model import kernels

ACTIVATIONS = ("linear", "relu", "elu", "leaky_relu")
HEADS = ("sigmoid", "softmax")


@dataclass
class Node:
    """One step of the model.

    Attributes
    ----------
    name : str
        The Keras layer's.
    kind : {"input", "affine", "max", "mean", "add", "pass"}
    inputs : list of int
        Places of the nodes that it reads.
    what : object
        `Convolution`, `Dense`, `Pool`, or a function for "pass".
    roles : tuple of str
        See `msxai.lrp.rules.ROLES`.
    """

    name: str
    kind: str
    inputs: list
    what: object = None
    roles: tuple = ()


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
    """3D convolution with strides and zero padding (first, last) along x, y, z; weights of shape (*size, C, K)."""

    weights: np.ndarray
    bias: np.ndarray
    strides: tuple = (1, 1, 1)
    padding: tuple = ((0, 0),) * 3

    @property
    def winners_only(self) -> bool:
        """Whether `msxai.model.kernels` can compute it together with the pooling that follows."""
        return (self.weights.shape[:3], self.strides, self.padding) == (
            (3, 3, 3),
            (1, 1, 1),
            ((0, 0),) * 3,
        )

    def forward(self, inputs, weights):
        """sum_j a_j w_jk."""
        padded = (
            ops.pad(inputs, [(0, 0), *self.padding, (0, 0)])
            if any(map(any, self.padding))
            else inputs
        )
        return ops.conv(padded, weights, self.strides, "valid", "channels_last")

    def backward(self, shares, weights, factor):
        """factor_j sum_k w_jk share_k."""
        found = ops.conv_transpose(shares, weights, self.strides, "valid", None, "channels_last")
        return factor * _cut(found, self.padding, factor.shape[1:4])


@dataclass
class Pool:
    """Windows of a pooling; padding (first, last) along x, y, z."""

    size: tuple
    strides: tuple
    padding: tuple = ((0, 0),) * 3

    def cells(self, shape):
        """Number of windows along x, y, z."""
        padded = [length + sum(pad) for length, pad in zip(shape[1:4], self.padding, strict=True)]
        return [
            (length - size) // step + 1
            for length, size, step in zip(padded, self.size, self.strides, strict=True)
        ]

    def windows(self, inputs, fill):
        """What stands at each place of the windows, in C order: arrays of shape (N, *cells, C)."""
        padded, cells = (
            ops.pad(inputs, [(0, 0), *self.padding, (0, 0)], constant_values=fill),
            self.cells(inputs.shape),
        )
        for place in np.ndindex(*self.size):
            yield padded[
                (
                    slice(None),
                    *(
                        slice(start, start + step * (count - 1) + 1, step)
                        for start, step, count in zip(place, self.strides, cells, strict=True)
                    ),
                )
            ]

    def winners(self, inputs):
        """Largest value of each window and its place, the first of equal ones; padding never wins."""
        best, where = None, None
        for place, found in enumerate(self.windows(inputs, -np.inf)):
            if best is None:
                best, where = found, ops.zeros(found.shape, "int32")
                continue
            better = found > best
            best, where = (
                ops.where(better, found, best),
                ops.where(better, ops.full_like(where, place), where),
            )
        return best, where

    def hand_back(self, winners, shares, shape):
        """Hand what arrives at each window to its winner."""
        return self.back(
            (
                ops.where(winners == place, shares, 0 * shares)
                for place in range(int(np.prod(self.size)))
            ),
            shape,
        )

    def spread(self, shares, shape):
        """Hand what arrives at each window to each of its voxels."""
        return self.back((shares for _ in range(int(np.prod(self.size)))), shape)

    def back(self, shares, shape):
        """Add what stands at each place of the windows (arrays of shape (N, *cells, C), in C order) where it came from."""
        cells = self.cells(shape)
        padded = [length + sum(pad) for length, pad in zip(shape[1:4], self.padding, strict=True)]
        if all(step >= size for step, size in zip(self.strides, self.size, strict=True)):
            count, channels, shares = shape[0], shape[4], list(shares)
            grid = ops.reshape(ops.stack(shares, axis=-1), (count, *cells, channels, *self.size))
            grid = ops.pad(
                grid,
                [(0, 0)] * 5
                + [(0, step - size) for step, size in zip(self.strides, self.size, strict=True)],
            )
            grid = ops.transpose(grid, (0, 1, 5, 2, 6, 3, 7, 4))
            found = ops.reshape(
                grid,
                (
                    count,
                    *(cell * step for cell, step in zip(cells, self.strides, strict=True)),
                    channels,
                ),
            )
            return _cut(found, self.padding, shape[1:4])
        total = 0
        for place, share in zip(np.ndindex(*self.size), shares, strict=True):
            whole = [step * count for step, count in zip(self.strides, cells, strict=True)]
            spread = Pool((1, 1, 1), self.strides).back([share], (shape[0], *whole, shape[4]))
            spread = spread[
                (
                    slice(None),
                    *(
                        slice(0, length - start)
                        for length, start in zip(padded, place, strict=True)
                    ),
                )
            ]
            after = [
                length - start - size
                for length, start, size in zip(padded, place, spread.shape[1:4], strict=True)
            ]
            total = total + ops.pad(spread, [(0, 0), *zip(place, after, strict=True), (0, 0)])
        return _cut(total, self.padding, shape[1:4])


def _cut(padded, padding, lengths):
    """Take the padding off; where windows did not reach the end, fill with 0."""
    missing = [
        max(0, first + length - size)
        for (first, _), length, size in zip(padding, lengths, padded.shape[1:4], strict=True)
    ]
    padded = ops.pad(padded, [(0, 0), *((0, count) for count in missing), (0, 0)])
    return padded[
        (
            slice(None),
            *(
                slice(first, first + length)
                for (first, _), length in zip(padding, lengths, strict=True)
            ),
        )
    ]


def _refuse(layer, found: str, expected: str):
    raise EngineError(
        f"layer {layer.name}",
        found,
        expected,
        "Explain another network, or replace this layer by one that is known.",
    )


def _padding(layer, shape, size, strides):
    """(first, last) along x, y, z of "valid" or "same", as TensorFlow pads."""
    if layer.padding == "valid":
        return ((0, 0),) * 3
    if layer.padding != "same":
        _refuse(layer, f"padding {layer.padding}", "valid or same")
    totals = [
        max((-(-length // step) - 1) * step + edge - length, 0)
        for length, step, edge in zip(shape[1:4], strides, size, strict=True)
    ]
    return tuple((total // 2, total - total // 2) for total in totals)


@dataclass
class Activation:
    """x where x > 0; below, slope x, or for the ELU slope (e^x - 1). Unlike Keras's layers it keeps float64."""

    slope: float
    exponential: bool = False

    def __call__(self, x):
        """Value."""
        return ops.elu(x, self.slope) if self.exponential else ops.where(x > 0, x, self.slope * x)

    def derivative(self, x):
        """f'(x); that from below at 0."""
        return ops.where(
            x > 0,
            ops.ones_like(x),
            self.slope * (ops.exp(ops.minimum(x, 0)) if self.exponential else ops.ones_like(x)),
        )


def _activation(layer) -> tuple[str, Activation | None]:
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
        return "elu", Activation(float(layer.alpha), True)
    if isinstance(layer, layers.Softmax):
        return "softmax", None
    function = getattr(layer, "activation", None) or keras.activations.linear
    name = getattr(function, "__name__", str(function))
    return name, {
        "elu": Activation(1.0, True),
        "relu": Activation(0.0),
        "leaky_relu": Activation(0.2),
    }.get(name)


def _flatten(x):
    return ops.reshape(x, (x.shape[0], -1))


@dataclass
class Graph:
    """A model as a list of `Node`, inputs before outputs; the last one is the logit.

    Attributes
    ----------
    nodes : list of Node
    shape : tuple of int
        Of one input volume, (X, Y, Z, C).
    fused : dict
        Place of a max pooling to that of the convolution before it, where `msxai.model.kernels` can compute both as one.
    """

    nodes: list = field(default_factory=list)
    shape: tuple = ()
    fused: dict = field(default_factory=dict)

    def add(self, *entries) -> int:
        """Append a node; its place."""
        self.nodes.append(Node(*entries))
        return len(self.nodes) - 1

    def readers(self, place: int) -> list[int]:
        """Places of the nodes that read a node."""
        return [other for other, node in enumerate(self.nodes) if place in node.inputs]

    def layers(self) -> dict:
        """Names to roles of the nodes that have a rule."""
        return {node.name: node.roles for node in self.nodes if node.roles}


def read(model: keras.Model, dtype: str = "float32") -> Graph:
    """Read a Keras model.

    Parameters
    ----------
    model : keras.Model
        Sequential or functional; one input (N, X, Y, Z, C), one output (N, K).
    dtype : {"float32", "float64"}
        Of the weights.

    Returns
    -------
    Graph

    Raises
    ------
    EngineError
        A layer that LRP is not defined for here, by its name.
    """
    if (
        len(model.inputs) != 1
        or len(model.outputs) != 1
        or len(model.inputs[0].shape) != 5
        or len(model.outputs[0].shape) != 2
    ):
        _refuse(
            model,
            f"inputs {[x.shape for x in model.inputs]}, outputs {[x.shape for x in model.outputs]}",
            "one input (N, X, Y, Z, C) and one output (N, K)",
        )
    graph, done = Graph(shape=tuple(model.inputs[0].shape[1:])), {}
    output = _visit(graph, model.outputs[0], model.outputs[0], done, dtype)
    graph = _reachable(graph, output)
    _fold(graph)
    _pool_first(graph)
    graph = _reachable(graph, len(graph.nodes) - 1)
    for place, node in enumerate(graph.nodes):
        if (
            node.kind == "max"
            and node.what == Pool((3, 3, 3), (3, 3, 3))
            and graph.readers(node.inputs[0]) == [place]
        ):
            before = graph.nodes[node.inputs[0]].what
            if isinstance(before, Convolution) and before.winners_only:
                graph.fused[place] = node.inputs[0]
    seen = {0}  # what sees the input through nothing that has weights
    for place, node in enumerate(graph.nodes):
        if node.kind in ("pass", "max", "mean") and node.inputs[0] in seen:
            seen.add(place)
        if node.kind == "affine" and node.inputs[0] in seen:
            node.roles = ("first", *node.roles)
    return graph


@dataclass(frozen=True)
class ForwardPass:
    """What a network computed for a batch of scans.

    Attributes
    ----------
    plan : Graph
    fused : dict
        `plan.fused` where `msxai.model.kernels` computed those layers; else empty.
    values : list
        Value of each node; None for a convolution that was computed with its pooling.
    winners : dict
        Place of a max pooling to the place of the winner in each window, 0 to 26 for 3^3.
    """

    plan: Graph
    fused: dict
    values: list
    winners: dict

    @property
    def scan(self) -> np.ndarray:
        """The first scan of the batch, shape (X, Y, Z, C)."""
        return self.values[0][0]

    @property
    def output(self) -> np.ndarray:
        """Logits of the output units, shape (N, K)."""
        return ops.convert_to_numpy(self.values[-1])

    def is_fused_convolution(self, place: int) -> bool:
        """Whether a node is a convolution that was computed with its pooling."""
        return place in self.fused.values()

    def sources(self, place: int) -> list[int]:
        """Places of the nodes that a node reads; of a fused pooling those that its convolution reads."""
        place = self.fused.get(place, place)
        return self.plan.nodes[place].inputs

    def of(self, scan) -> "ForwardPass":
        """The same for another scan of shape (X, Y, Z, C)."""
        return forward(self.plan, scan[None], self.fused)


def forward(plan: Graph, batch, fused: dict) -> ForwardPass:
    """Compute a batch.

    Parameters
    ----------
    plan : Graph
    batch : ndarray of shape (N, X, Y, Z, C)
    fused : dict
        `plan.fused`, with N = 1, to use `msxai.model.kernels`; else {}.
    """
    values = [None] * len(plan.nodes)
    winners = {}
    for place, node in enumerate(plan.nodes):
        if node.kind == "input":
            values[place] = batch
        elif place not in fused.values():  # its pooling computes it
            values[place], places = value(plan, place, values, fused)
            if places is not None:
                winners[place] = places
    return ForwardPass(plan, fused, values, winners)


def accumulate(arriving: dict, place: int, values) -> None:
    """Add what arrives at a node to what has arrived there from other nodes."""
    if place in arriving:
        values = arriving[place] + values
    arriving[place] = values


def value(plan: Graph, place: int, values: list, fused: dict) -> tuple:
    """Value of one node from those of its inputs, and the winners of a max pooling (else None); `fused` as in `forward`."""
    node = plan.nodes[place]
    if place in fused:
        convolution = plan.nodes[fused[place]]
        return convolve_and_pool(convolution.what, values[convolution.inputs[0]])
    inputs = values[node.inputs[0]]
    if node.kind == "affine":
        inputs, weights, bias = map(
            ops.convert_to_tensor, (inputs, node.what.weights, node.what.bias)
        )
        return node.what.forward(inputs, weights) + bias, None
    if node.kind == "max":
        return node.what.winners(inputs)
    if node.kind == "mean":
        return sum(node.what.windows(inputs, 0)) / counts(node.what, inputs), None
    if node.kind == "add":
        return sum(values[each] for each in node.inputs), None
    return node.what(inputs), None


def convolve_and_pool(what, inputs) -> tuple[np.ndarray, np.ndarray]:
    """Pooled convolution and winners of a batch of one, by the kernels."""
    if what.weights.shape[3] == 1:
        volume = np.ascontiguousarray(ops.convert_to_numpy(inputs)[0])
        values, winners = kernels.first_winners(volume, kernels.taps(what.weights), what.bias)
    else:
        seen = tuple(
            slice((length - 2) // 3 * 3 + 2) for length in inputs.shape[1:4]
        )  # the pooling drops what is left over
        values, winners = kernels.winners_of(
            np.ascontiguousarray(
                ops.convert_to_numpy(what.forward(inputs[:, *seen], what.weights))[0]
            )
        )
        values += what.bias
    return values[None], winners[None]


def counts(pool: Pool, inputs) -> np.ndarray:
    """Number of voxels in each window that are no padding, of shape (1, *cells, 1)."""
    ones = np.ones((1, *inputs.shape[1:4], 1), "float64")
    return np.asarray(
        sum(ops.convert_to_numpy(each) for each in pool.windows(ones, 0)),
        ops.convert_to_numpy(inputs).dtype,
    )


def _visit(graph, tensor, output, done, dtype) -> int:
    """Place of the node that computes a symbolic tensor."""
    layer, index, _ = tensor._keras_history
    key = (id(layer), index)
    if key in done:
        return done[key]
    node = layer._inbound_nodes[index]
    inputs = [_visit(graph, each, output, done, dtype) for each in node.input_tensors]
    shape = node.input_tensors[0].shape if inputs else None
    done[key] = place = _translate(graph, layer, inputs, shape, tensor is output, dtype)
    return place


def _translate(graph, layer, inputs, shape, last, dtype) -> int:
    """Append the nodes of one layer; the place of its output."""
    if isinstance(layer, layers.InputLayer):
        return graph.add(layer.name, "input", [])
    if type(layer) is layers.Conv3D and layer.groups == 1 and layer.data_format == "channels_last":
        if tuple(layer.dilation_rate) != (1, 1, 1):
            _refuse(layer, f"dilation {tuple(layer.dilation_rate)}", "none")
        kernel, bias = _weights(layer, dtype)
        strides = tuple(layer.strides)
        what = Convolution(kernel, bias, strides, _padding(layer, shape, kernel.shape[:3], strides))
        place = graph.add(layer.name, "affine", inputs, what, ("convolution",))
    elif type(layer) is layers.Dense:
        place = graph.add(layer.name, "affine", inputs, Dense(*_weights(layer, dtype)), ("dense",))
    elif (
        isinstance(layer, layers.MaxPooling3D | layers.AveragePooling3D)
        and layer.data_format == "channels_last"
    ):
        size, strides = tuple(layer.pool_size), tuple(layer.strides)
        kind = "max" if isinstance(layer, layers.MaxPooling3D) else "mean"
        what = Pool(size, strides, _padding(layer, shape, size, strides))
        return graph.add(layer.name, kind, inputs, what, ("pool",) if kind == "mean" else ())
    elif isinstance(layer, layers.GlobalAveragePooling3D) and layer.data_format == "channels_last":
        place = graph.add(layer.name, "mean", inputs, Pool(tuple(shape[1:4]), (1, 1, 1)), ("pool",))
        return place if layer.keepdims else graph.add(layer.name, "pass", [place], _flatten)
    elif isinstance(layer, layers.Add):
        return graph.add(layer.name, "add", inputs, None, ("add",))
    elif isinstance(layer, layers.Flatten) and layer.data_format == "channels_last":
        return graph.add(layer.name, "pass", inputs, _flatten)
    elif isinstance(
        layer,
        layers.Dropout | layers.SpatialDropout3D | layers.GaussianNoise | layers.GaussianDropout,
    ):
        return inputs[0]
    elif isinstance(layer, layers.BatchNormalization) and layer.axis in (-1, len(shape) - 1):
        scale = np.ones(shape[-1]) if layer.gamma is None else _array(layer.gamma)
        offset = np.zeros(shape[-1]) if layer.beta is None else _array(layer.beta)
        scale = scale / np.sqrt(_array(layer.moving_variance) + layer.epsilon)
        return graph.add(
            layer.name, "norm", inputs, (scale, offset - _array(layer.moving_mean) * scale)
        )
    elif isinstance(
        layer, layers.Activation | layers.ReLU | layers.LeakyReLU | layers.ELU | layers.Softmax
    ):
        place = inputs[0]
    else:
        _refuse(
            layer,
            type(layer).__name__,
            "a layer that LRP is defined for here: Conv3D, Dense, pooling, batch normalisation, Add, "
            "Flatten, Dropout, ELU, ReLU or LeakyReLU, channels last",
        )
    name, function = _activation(layer)
    if (name in HEADS and last) or name == "linear":
        return place
    if name not in ACTIVATIONS:
        _refuse(
            layer,
            f"activation {name}",
            f"one of {', '.join(ACTIVATIONS)}; at the output also {' or '.join(HEADS)}",
        )
    return graph.add(layer.name, "pass", [place], function)


def _array(variable) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(variable), "float64")


def _weights(layer, dtype):
    kernel = _array(layer.kernel).astype(dtype)
    return kernel, (_array(layer.bias) if layer.use_bias else np.zeros(kernel.shape[-1])).astype(
        dtype
    )


def _reachable(graph, output) -> Graph:
    """The nodes that a place depends on, that place last, in order of computation."""
    order = []

    def visit(place):
        if place not in order:
            for each in graph.nodes[place].inputs:
                visit(each)
            order.append(place)

    visit(next(place for place, node in enumerate(graph.nodes) if node.kind == "input"))
    visit(output)
    new = {place: index for index, place in enumerate(order)}
    nodes = [graph.nodes[place] for place in order]
    for node in nodes:
        node.inputs = [new[place] for place in node.inputs]
    return Graph(nodes, graph.shape)


def _fold(graph) -> None:
    """Fold each batch normalisation into the affine node before it, else into the one after it."""
    for place, node in enumerate(graph.nodes):
        if node.kind != "norm":
            continue
        scale, offset = node.what
        source, readers = graph.nodes[node.inputs[0]], graph.readers(place)
        if source.kind == "affine" and graph.readers(node.inputs[0]) == [place]:
            what = source.what
            kind = what.weights.dtype
            what.weights = (what.weights * scale).astype(kind)
            what.bias = (what.bias * scale + offset).astype(kind)
        else:
            flattened = [
                graph.nodes[each].kind == "pass" and graph.nodes[each].what is _flatten
                for each in readers
            ]
            after = graph.readers(readers[0]) if len(readers) == 1 and flattened[0] else readers
            target = graph.nodes[after[0]] if len(after) == 1 else None
            padded = (
                target is not None
                and isinstance(target.what, Convolution)
                and target.what.padding != ((0, 0),) * 3
            )
            if target is None or target.kind != "affine" or padded:
                raise EngineError(
                    f"layer {node.name}",
                    "a batch normalisation between layers that it cannot be folded into",
                    "one right after a convolution or dense layer, or right before a dense layer or an unpadded convolution",
                    "Explain another network, or move this layer.",
                )
            what = target.what
            kind, weights = what.weights.dtype, what.weights.astype(float)
            repeats = weights.shape[-2] // len(scale)
            scale, offset = np.tile(scale, repeats), np.tile(offset, repeats)
            what.bias = (what.bias + np.einsum("...jk,j->k", weights, offset)).astype(kind)
            what.weights = (weights * scale[:, None]).astype(kind)
        node.kind, node.what = "pass", Activation(1.0)  # hands everything through


def _pool_first(graph) -> None:
    """Swap each max pooling with the activations right before it that nothing else reads."""
    for place, node in enumerate(graph.nodes):
        if node.kind != "max":
            continue
        chain = []
        source = node.inputs[0]
        while (
            graph.nodes[source].kind == "pass"
            and graph.nodes[source].what is not _flatten
            and len(graph.readers(source)) == 1
        ):
            chain.append(source)
            source = graph.nodes[source].inputs[0]
        if not chain:
            continue
        # The nodes keep their places and change their contents: pooling comes first in the chain, activations follow in their order.
        targets = [graph.nodes[each] for each in (*chain[::-1], place)]
        moved = [(each.name, each.kind, each.what, each.roles) for each in (node, *targets[:-1])]
        for target, content in zip(targets, moved, strict=True):
            target.name, target.kind, target.what, target.roles = content
