"""Read a Keras model as a graph for LRP.

A final sigmoid or softmax is left away. `msxai.lrp.layer_reader` reads each layer,
`msxai.lrp.simplification` merges normalisations into the layers next to them.
"""

from dataclasses import dataclass, field

import keras

from msxai.base.errors import EngineError, ParameterError
from msxai.lrp import layer_reader, simplification
from msxai.lrp.graph import Graph
from msxai.lrp.scans import Inputs

__all__ = ["inputs_of", "read"]


def read(model: keras.Model, dtype: str = "float32", shape: tuple | None = None) -> Graph:
    """Read a Keras model.

    Parameters
    ----------
    model : keras.Model
        Sequential or functional; one output (N, K); one input (N, X, Y, Z, C), or (N, C, X, Y, Z)
        where its layers are channels first. Further inputs are tables (N, F).
    dtype : {"float32", "float64"}
        Of the weights.
    shape : tuple of int, optional
        Of one scan, for a model that leaves it open (``Input((None, None, None, 1))``).

    Raises
    ------
    ParameterError
        No Keras 3 model, or one that is neither sequential nor functional.
    EngineError
        A layer that LRP is not defined for here, by its name.
    """
    inputs = inputs_of(model)
    scan, tables = _inputs(model)
    nodes = layer_reader.Nodes(dtype)
    walk = _Walk(nodes, model.outputs[0])
    top = _Scope()
    shape = _complete(inputs, shape)
    top.indices[id(scan)] = nodes.add_scan(inputs.scan, shape, inputs.channels_first)
    for table in tables:
        top.indices[id(table)] = nodes.add_table(_name(table), tuple(table.shape[1:]))
    last = walk.visit(model.outputs[0], top)
    graph = simplification.simplify(nodes.graph, last, dtype)
    graph.channels_first = inputs.channels_first
    return graph


def inputs_of(model: keras.Model) -> Inputs:
    """What a model takes.

    Raises
    ------
    ParameterError, EngineError
        As of `read`.
    """
    _check_is_model(model)
    scan, tables = _inputs(model)
    columns = {_name(table): table.shape[1] for table in tables}
    return Inputs(_name(scan), tuple(scan.shape[1:]), columns, _is_channels_first(model))


def _check_is_model(model) -> None:
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    if not isinstance(model, keras.Model):
        mend = "Load it with keras.models.load_model, or build it from keras.layers."
        if "tf_keras" in kind or "tensorflow" in kind:
            mend = "Save it with model.save('model.h5') and load it with keras.models.load_model."
        raise ParameterError("model", f"an object of type {kind}", "a model of Keras 3", mend)
    try:
        inputs, outputs = model.inputs, model.outputs
    except (AttributeError, ValueError):
        inputs = outputs = None
    if not inputs or not outputs:
        raise ParameterError(
            "model",
            f"a model of type {kind}, whose layers are known only while it runs",
            "a sequential or functional model with an Input",
            "Build the same layers as keras.Sequential([keras.Input(...), ...]) or "
            "keras.Model(inputs, outputs), and copy the weights.",
        )


def _inputs(model) -> tuple:
    """The input of scans, and those of tables."""
    scans = [tensor for tensor in model.inputs if len(tensor.shape) == 5]
    tables = [tensor for tensor in model.inputs if len(tensor.shape) == 2]
    outputs = [tensor.shape for tensor in model.outputs]
    all_inputs = len(scans) + len(tables) == len(model.inputs)
    if len(scans) != 1 or not all_inputs or len(outputs) != 1 or len(outputs[0]) != 2:
        raise EngineError(
            f"model {model.name}",
            f"inputs {[tuple(tensor.shape) for tensor in model.inputs]}, outputs {outputs}",
            "one input of scans (N, X, Y, Z, C), further inputs of tables (N, F) only, and one "
            "output (N, K)",
            "Explain a model of these inputs and one output, for instance keras.Model(inputs, "
            "one of its outputs).",
        )
    return scans[0], tables


def _name(tensor) -> str:
    """Name of an input, as Keras takes it in a dictionary."""
    return tensor._keras_history.operation.name


def _is_channels_first(model) -> bool:
    """Whether the first convolution or pooling is channels first."""
    for layer in model._flatten_layers(include_self=False):
        if hasattr(layer, "kernel_size") or hasattr(layer, "pool_size"):
            return layer.data_format == "channels_first"
    return False


def _complete(inputs: Inputs, shape: tuple | None) -> tuple:
    """Shape of one scan, channels last; open lengths of the model are those of the scan."""
    declared = inputs.shape
    if inputs.channels_first:
        declared = (*declared[1:], declared[0])
    if None not in declared:
        return declared
    if shape is None:
        raise ParameterError(
            "shape",
            f"none, for a model of open lengths {inputs.shape}",
            "the shape of one scan",
            "Give the shape (X, Y, Z, C) of the scans.",
        )
    return shape


@dataclass
class _Scope:
    """Where tensors of a model, or of a model inside it, are computed."""

    prefix: str = ""
    indices: dict = field(default_factory=dict)  # id of a tensor to the index of its node


class _Walk:
    """Appends the nodes of each layer to a graph, inputs first."""

    def __init__(self, nodes: layer_reader.Nodes, output):
        self.nodes = nodes
        self.outputs = {id(output)}  # tensors that are the output of the whole model

    def visit(self, tensor, scope: _Scope) -> int:
        """Index of the node that computes a symbolic tensor."""
        indices = scope.indices
        stack = [tensor]  # not a recursion: networks are hundreds of layers deep
        while stack:
            operation, call, _ = stack[-1]._keras_history
            node = operation._inbound_nodes[call]
            open_inputs = [source for source in node.input_tensors if id(source) not in indices]
            if id(stack[-1]) in indices:
                stack.pop()
            elif open_inputs:
                stack.extend(reversed(open_inputs))
            else:
                inputs = [indices[id(source)] for source in node.input_tensors]
                self._compute(operation, node, inputs, scope)
        return indices[id(tensor)]

    def _compute(self, operation, node, inputs: list, scope: _Scope) -> None:
        """Append what a layer computes."""
        if isinstance(operation, keras.Model):
            self._compute_model(operation, node, inputs, scope)
            return
        name = scope.prefix + operation.name
        output = node.outputs[0]
        is_last = id(output) in self.outputs
        if len(node.outputs) != 1:
            layer_reader.refuse(operation, f"{len(node.outputs)} outputs", "one output")
        scope.indices[id(output)] = self.nodes.append(operation, name, inputs, is_last)

    def _compute_model(self, model, node, inputs: list, scope: _Scope) -> None:
        """Append the layers of a model that is a layer of another one."""
        inner = _Scope(prefix=f"{scope.prefix}{model.name}/")
        if not model.inputs or len(model.inputs) != len(inputs):
            layer_reader.refuse(model, "a model without Input", "a sequential or functional model")
        for tensor, index in zip(model.inputs, inputs, strict=True):
            inner.indices[id(tensor)] = index
        for tensor, result in zip(model.outputs, node.outputs, strict=True):
            if id(result) in self.outputs:
                self.outputs.add(id(tensor))
            scope.indices[id(result)] = self.visit(tensor, inner)
