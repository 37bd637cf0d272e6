"""Does the graph that LRP reads compute what the model computes? Compared once for each model.

A layer, or the model around its layers, may compute something else than its name says. The logit of
the graph is therefore compared with that of the model itself, on the first scan that a model
explains.
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
    first = _without_blanks(first)
    inputs = _as_model_takes_it(model, first)
    try:
        outputs = _own_outputs(model, inputs)
    except Exception as error:  # the model may need a device that is not here
        warnings.warn(
            f"The model itself does not run here ({type(error).__name__}), so that its logit "
            "was not compared with the one that is explained.",
            stacklevel=2,
        )
        _checked.add(model)
        return
    for head, own in outputs:
        _compare(model, first, head, own)
    _checked.add(model)


def _compare(model, first: graph.ForwardPass, head: str | None, own) -> None:
    """Refuse an output of the model, behind a head or not, that the graph does not have."""
    logits = first.output[:1].astype(float)
    expected = _HEADS[head](logits) if head else logits
    scale = 1.0 if head else _scale(first)
    if own.shape == expected.shape and np.abs(expected - own).max() <= _tolerance(model) * scale:
        return
    raise EngineError(
        f"model {model.name}",
        f"output {_text(own)} of the model itself, {_text(expected)} of its layers as LRP reads "
        "them",
        "the same output",
        "A layer or the model computes something else than its kind says: a subclass with a call "
        "of its own, a changed method, or dropout that is active at prediction. Use Keras's own "
        "layers and models.",
    )


def _without_blanks(first: graph.ForwardPass) -> graph.ForwardPass:
    """The same with noise where the first scan or one of its rows is 0 everywhere.

    With 0, a layer that multiplies its output by 2 has the same output as one that does not.
    """
    scan = ops.convert_to_numpy(first.values[0])[:1]
    rows = {name: values[:1] for name, values in first.tables.items()}
    if scan.any() and all(values.any() for values in rows.values()):
        return first
    rng = np.random.default_rng(0)
    rows = {name: _noise_for_0(values, rng) for name, values in rows.items()}
    return graph.forward(first.plan, _noise_for_0(scan, rng), {}, rows)


def _noise_for_0(values, rng) -> np.ndarray:
    """Noise in place of values that are all 0; other values as they are."""
    if values.any():
        return values
    return rng.normal(size=values.shape).astype(values.dtype)


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


def _own_outputs(model, inputs: list) -> list[tuple]:
    """Outputs of the model, each with the name of the head that it is behind, or None.

    They are that of the model when it is called, and, where it has a head, that before the head.
    """
    (tensor,) = model.outputs
    operation, call, _ = tensor._keras_history
    outputs = [(_head_inside(operation), _run(model, inputs))]
    head = activations.head_of_layer(operation)
    if head is None:
        return outputs
    source = operation._inbound_nodes[call].input_tensors[0]
    sources = list(model.inputs)
    if len(sources) == 1:  # Keras warns of a list of one
        (sources,) = sources
    features = _run(keras.Model(sources, source), inputs)
    if isinstance(operation, layers.Dense):
        kernel = np.asarray(ops.convert_to_numpy(operation.kernel), float)
        bias = np.asarray(ops.convert_to_numpy(operation.bias), float) if operation.use_bias else 0
        features = features @ kernel + bias
    return [*outputs, (None, features)]


def _head_inside(operation) -> str | None:
    """The head of a layer, or of a model that is the last layer of another one."""
    while isinstance(operation, keras.Model):
        operation = operation.outputs[0]._keras_history.operation
    return activations.head_of_layer(operation)


def _run(model, inputs: list) -> np.ndarray:
    if len(inputs) == 1:  # Keras warns of a list of one
        (inputs,) = inputs
    output = keras.tree.flatten(model(inputs, training=False))[0]
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
