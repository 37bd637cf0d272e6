"""Does the graph that LRP reads compute what the model computes? Compared once for each model.

A layer may compute something else than its name says. The logit of the graph is therefore compared
with that of the model itself, on the first scan that a model explains.
"""

import warnings
import weakref

import keras
import numpy as np
from keras import layers, ops
from scipy.special import expit, softmax

from msxai.base.errors import EngineError
from msxai.lrp import activations, graph

__all__ = ["check"]

TOLERANCE = 1e-3  # of the sum of what the last layer adds up, for float32
_ROUNDING = {"float16": 1e-3, "bfloat16": 8e-3}  # relative, of one operation
_OPERATIONS = 30  # times one rounding: what many layers may add up to
_HEADS = {"sigmoid": expit, "softmax": softmax}

_checked = weakref.WeakSet()


def check(model: keras.Model, first: graph.ForwardPass) -> None:
    """Compare the logits of a graph with the model's own, once for each model.

    Parameters
    ----------
    model : keras.Model
    first : msxai.lrp.graph.ForwardPass
        Of the same model; its first scan is compared.

    Raises
    ------
    EngineError
        They differ by more than rounding.
    """
    if model in _checked:
        return
    inputs = _as_model_takes_it(model, first)
    logits = first.output[:1].astype(float)
    try:
        head, own = _own_output(model, inputs)
    except Exception as error:  # the model may need a device that is not here
        warnings.warn(
            f"The model itself does not run here ({type(error).__name__}), so that its logit "
            "was not compared with the one that is explained.",
            stacklevel=2,
        )
        _checked.add(model)
        return
    expected = _HEADS[head](logits) if head else logits
    scale = 1.0 if head else _scale(first)
    difference = np.abs(expected - own).max()
    if not difference <= _tolerance(model) * scale:
        raise EngineError(
            f"model {model.name}",
            f"output {_text(own)} of the model itself, {_text(expected)} of its layers as LRP "
            "reads them",
            "the same output",
            "A layer computes something else than its kind says: a subclass, a changed method, or "
            "dropout that is active at prediction. Use Keras's own layers.",
        )
    _checked.add(model)


def _as_model_takes_it(model, first: graph.ForwardPass) -> list:
    """The first scan and its rows, in the order of the model's inputs."""
    scan = ops.convert_to_numpy(first.values[0])[:1].astype("float32")
    if first.plan.channels_first:
        scan = np.moveaxis(scan, -1, 1)
    inputs = []
    for tensor in model.inputs:
        name = tensor._keras_history.operation.name
        inputs.append(first.tables[name][:1].astype("float32") if name in first.tables else scan)
    return inputs


def _own_output(model, inputs: list) -> tuple:
    """Output of the model without its head; where that is out of reach, with the head's name."""
    tensor = model.outputs[0]
    operation, call, _ = tensor._keras_history
    head = activations.head_of_layer(operation)
    if head is None:
        return _head_inside(operation), _run(model, tensor, inputs)
    source = operation._inbound_nodes[call].input_tensors[0]
    features = _run(model, source, inputs)
    if isinstance(operation, layers.Dense):
        kernel = np.asarray(ops.convert_to_numpy(operation.kernel), float)
        bias = np.asarray(ops.convert_to_numpy(operation.bias), float) if operation.use_bias else 0
        features = features @ kernel + bias
    return None, features


def _head_inside(operation) -> str | None:
    """The head of a model that is the last layer of another one."""
    while isinstance(operation, keras.Model):
        operation = operation.outputs[0]._keras_history.operation
    return activations.head_of_layer(operation)


def _run(model, tensor, inputs: list) -> np.ndarray:
    sources = list(model.inputs)
    if len(sources) == 1:  # Keras warns of a list of one
        (sources,) = sources
        (inputs,) = inputs
    output = keras.Model(sources, tensor)(inputs, training=False)
    return np.asarray(ops.convert_to_numpy(output), float)


def _scale(first: graph.ForwardPass) -> float:
    """What is added up, without signs: rounding grows with it, not with the sum.

    Where the last layer is no dense layer, as in a mean over positions, what it reads counts, back
    to the last layer with weights.
    """
    index = len(first.plan.nodes) - 1
    scale = _largest(first, index)
    while first.plan.nodes[index].kind in ("pass", "mean", "max", "move"):
        index = first.plan.nodes[index].inputs[0]
        scale = max(scale, _largest(first, index))
    node = first.plan.nodes[index]
    if node.kind == "affine" and np.ndim(node.what.weights) == 2:
        inputs = np.abs(ops.convert_to_numpy(first.values[node.inputs[0]])[:1])
        summed = inputs @ np.abs(node.what.weights) + np.abs(node.what.bias)
        scale = max(scale, float(summed.max()))
    return max(scale, 1e-6)


def _largest(first: graph.ForwardPass, index: int) -> float:
    """The largest magnitude among the values of a node; 0 where they are not held."""
    values = first.values[index]
    if values is None:
        return 0.0
    return float(np.abs(ops.convert_to_numpy(values[:1])).max())


def _tolerance(model) -> float:
    dtypes = {layer.compute_dtype for layer in model._flatten_layers()}
    rounding = max(_ROUNDING.get(dtype, 0.0) for dtype in dtypes)
    return max(TOLERANCE, _OPERATIONS * rounding)


def _text(values) -> str:
    return ", ".join(f"{value:.4g}" for value in np.ravel(values)[:4])
