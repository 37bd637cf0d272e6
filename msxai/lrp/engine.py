"""Explain the logit of a network voxel by voxel: the one verb for LRP and for all other methods.

`explain` takes a rule of LRP or another method, `explain_each` several of them at once, and
`stream` gives the explanations batch by batch.
"""

import functools
import numbers
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

import keras
import numpy as np
import pandas as pd
from keras import ops

from msxai.base import parameters
from msxai.base.errors import ParameterError
from msxai.lrp import agreement, graph, innvestigate, methods, propagation, reader, rules, tta
from msxai.lrp import scans as given_scans
from msxai.lrp.explanation import AUDIT, Computation, Explanation
from msxai.model import kernels, network

__all__ = ["explain", "explain_each", "stream"]

_ALONE = "map"  # name of the only map where one is asked for


def explain(
    model: keras.Model,
    scans,
    rule_or_method=rules.DEFAULT,
    *,
    epsilon: float = 1e-3,
    target: int | None = None,
    copies: int = 1,
    computation: Computation | None = None,
) -> Explanation:
    """Explain the logit of each scan.

    Parameters
    ----------
    model : keras.Model
        Sequential or functional, one input (N, X, Y, Z, C) or (N, C, X, Y, Z), and one output
        (N, K). Further inputs may be tables (N, F). docs/lrp.md lists the layers. For iNNvestigate
        one of `msxai.model.network.build`.
    scans : array of shape (N, X, Y, Z, C), scan, path or image, or a sequence of them
        As the network was trained on. Paths are NIfTI files on the model's grid; a file or a
        nibabel image in another orientation is turned to RAS+, the orientation of the map. For a
        network that also takes tables: a dict of the inputs' names.
    rule_or_method : str, dict or method
        A rule of LRP or a composite of rules (`msxai.lrp.rules.NAMES`); a composite of the caller's
        own, ``{role or layer's name: rule}`` (`msxai.lrp.rules.assign`); or another method by its
        name (`msxai.lrp.METHODS`) or with options of its own, such as ``lrp.Occlusion(size=12)``.
        For iNNvestigate one of `msxai.lrp.innvestigate.ANALYZERS`.
    epsilon : float
        Stabiliser of the epsilon rule; 1e-3 in the paper.
    target : int or sequence of int, optional
        Output unit, the same for all scans or one for each; by default the only one, or that with
        the largest logit.
    copies : int
        Shifted and mirrored copies of each scan that relevance, logits and audit are the mean over
        (`msxai.lrp.tta`); 1 is the scan alone.
    computation : Computation, optional
        Engine, batch size, threads and precision.

    Returns
    -------
    Explanation

    Raises
    ------
    ParameterError
        Unknown rule, method or layer, with the nearest one that exists; an impossible target,
        epsilon or number of copies; no model of Keras 3; no scan, a scan of a wrong shape, on
        another grid, or with voxels that are not finite; a scan whose logit or map is not finite,
        because its voxels are too large; float64 where Keras's backend rounds it.
    EngineError
        A layer that LRP is not defined for, by name; layers that compute something else than the
        model itself; iNNvestigate failed.

    Examples
    --------
    A network that weights one voxel by 2 and another by -1:

    >>> import keras
    >>> import numpy as np
    >>> from msxai import lrp
    >>> model = keras.Sequential(
    ...     [keras.Input((2, 1, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    ... )
    >>> model.set_weights([np.array([[2.0], [-1.0]]), np.zeros(1)])
    >>> scans = np.array([[3.0, 4.0]]).reshape(1, 2, 1, 1, 1)
    >>> explanation = lrp.explain(model, scans, "z")
    >>> explanation.logits
    array([2.])
    >>> explanation.relevance.ravel().round(3)
    array([ 6., -4.], dtype=float32)
    >>> lrp.explain(model, scans, "gradient").relevance.ravel()
    array([ 2., -1.], dtype=float32)
    """
    explanations = explain_each(
        model,
        scans,
        {_ALONE: rule_or_method},
        epsilon=epsilon,
        target=target,
        copies=copies,
        computation=computation,
    )
    return explanations[_ALONE]


def explain_each(
    model: keras.Model,
    scans,
    rules_and_methods,
    *,
    epsilon: float = 1e-3,
    target: int | None = None,
    copies: int = 1,
    computation: Computation | None = None,
) -> dict[str, Explanation]:
    """Explain each scan in several ways, which share the forward pass.

    Parameters
    ----------
    rules_and_methods : sequence of str, or dict
        Names of rules and methods; or names of the caller's own to what `explain` takes.
    model, scans, epsilon, target, copies, computation
        As for `explain`.

    Returns
    -------
    dict
        Name to `Explanation`, in the order given; to the bit that of `explain`.

    Raises
    ------
    ParameterError, EngineError
        As for `explain`.

    Examples
    --------
    >>> import keras
    >>> import numpy as np
    >>> from msxai import lrp
    >>> model = keras.Sequential(
    ...     [keras.Input((2, 1, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    ... )
    >>> model.set_weights([np.array([[2.0], [-1.0]]), np.zeros(1)])
    >>> scans = np.array([[3.0, 4.0]]).reshape(1, 2, 1, 1, 1)
    >>> maps = lrp.explain_each(model, scans, {"LRP": "z", "cubes": lrp.Occlusion(size=1)})
    >>> maps["cubes"].relevance.ravel()
    array([ 6., -4.], dtype=float32)
    >>> list(maps)
    ['LRP', 'cubes']
    """
    wanted = _by_name(rules_and_methods)
    batches = list(_batches(model, scans, wanted, epsilon, target, copies, computation))
    return {name: _joined([batch[name] for batch in batches]) for name in wanted}


def stream(
    model: keras.Model,
    scans,
    rule_or_method=rules.DEFAULT,
    *,
    epsilon: float = 1e-3,
    target: int | None = None,
    copies: int = 1,
    computation: Computation | None = None,
) -> Iterator[Explanation]:
    """Explain scans batch by batch, so that memory does not grow with their number.

    Parameters
    ----------
    model, scans, rule_or_method, epsilon, target, copies, computation
        As for `explain`. iNNvestigate takes all scans as one batch.

    Yields
    ------
    Explanation
        Of `computation.batch_size` scans; the audit numbers the scans from the first one on.

    Raises
    ------
    ParameterError, EngineError
        As for `explain`.

    Examples
    --------
    >>> import keras
    >>> import numpy as np
    >>> from msxai import lrp
    >>> model = keras.Sequential(
    ...     [keras.Input((2, 1, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    ... )
    >>> model.set_weights([np.array([[2.0], [-1.0]]), np.zeros(1)])
    >>> scans = np.array([[3.0, 4.0], [1.0, 0.0]]).reshape(2, 2, 1, 1, 1)
    >>> for explanation in lrp.stream(model, scans, computation=lrp.Computation(batch_size=1)):
    ...     print(explanation.logits)
    [2.]
    [2.]
    """
    wanted = {_ALONE: rule_or_method}
    for batch in _batches(model, scans, wanted, epsilon, target, copies, computation):
        yield batch[_ALONE]


def _by_name(rules_and_methods) -> dict:
    if isinstance(rules_and_methods, str):
        rules_and_methods = [rules_and_methods]
    if isinstance(rules_and_methods, dict):
        wanted = rules_and_methods
    else:
        wanted = {name: name for name in rules_and_methods}
    if not wanted:
        raise ParameterError(
            "rules_and_methods", "none", "at least one rule or method", "Name one, as 'epsilon'."
        )
    return wanted


def _batches(
    model, scans, wanted: dict, epsilon, target, copies, computation
) -> Iterator[dict[str, Explanation]]:
    """Yield the explanations of each batch by name; arguments as for `explain_each`."""
    if computation is None:
        computation = Computation()
    for rule_or_method in wanted.values():
        methods.check(rule_or_method, computation.engine)
    rules.check_stabiliser("epsilon", epsilon)
    parameters.whole_number("copies", copies, 1)
    inputs = reader.inputs_of(model)
    sequence, tables = given_scans.split(scans, inputs)
    sequence = given_scans.sequence_of(sequence, inputs)
    targets = _targets(target, len(sequence))
    if computation.engine == "innvestigate":
        explain_batch = _ByInnvestigate(model, wanted, epsilon, computation)
        batch_size = len(sequence)
    else:
        _check_precision(computation.dtype)
        shape = None
        if None in inputs.shape:
            shape = given_scans.length_of(sequence[0], inputs, computation.dtype)
        plan = reader.read(model, computation.dtype, shape)
        explain_batch = _ByGraph(model, plan, wanted, epsilon, computation)
        batch_size = computation.batch_size
    tables = given_scans.rows_of(tables, inputs, len(sequence), explain_batch.dtype)
    for start in range(0, len(sequence), batch_size):
        chosen = slice(start, min(start + batch_size, len(sequence)))
        batch = _batch(sequence, chosen, inputs, explain_batch.dtype)
        explain_part = functools.partial(
            explain_batch,
            targets=targets[chosen],
            tables={name: rows[chosen] for name, rows in tables.items()},
        )
        with kernels.threads(computation.threads or os.cpu_count()):
            explanations = tta.mean_over_copies(explain_part, batch, copies)
        for name, explanation in explanations.items():
            _check_map(explanation, wanted[name], batch)
            explanation.audit["volume"] += start
        if inputs.channels_first:
            explanations = _channels_first(explanations)
        yield explanations


def _check_precision(dtype: str) -> None:
    """Refuse a dtype that the backend rounds: JAX makes float32 of float64 by default."""
    computed = keras.backend.standardize_dtype(ops.convert_to_tensor(np.zeros(1, dtype)).dtype)
    if computed != dtype:
        raise ParameterError(
            "parameter dtype",
            f"{dtype!r} on Keras's backend {keras.backend.backend()}, which computes in {computed}",
            f"{computed!r}, or a backend that computes in {dtype}",
            f"Set dtype={computed!r}, or the environment variable KERAS_BACKEND to tensorflow or "
            "torch.",
        )


def _batch(sequence, chosen: slice, inputs, dtype: str) -> np.ndarray:
    """Some of the scans as one array of shape (N, X, Y, Z, C)."""
    scans = [
        given_scans.as_array(sequence[index], inputs, dtype)
        for index in range(chosen.start, chosen.stop)
    ]
    _check_shapes({scan.shape for scan in scans})
    return np.stack(scans)


def _check_shapes(shapes: set[tuple]) -> None:
    """Refuse scans of several shapes: the network is read for one."""
    if len(shapes) > 1:
        raise ParameterError(
            "scans",
            f"shapes {', '.join(map(str, sorted(shapes)))} in one call",
            "one shape",
            "Explain scans of different shapes in calls of their own.",
        )


def _check_output(output, batch) -> None:
    """Refuse scans of which the network makes no finite output."""
    if not np.isfinite(output).all():
        raise _too_large("an output", batch)


def _check_map(explanation: Explanation, rule_or_method, batch) -> None:
    """Refuse scans whose relevance or logit is not finite though the output is."""
    arrays = [explanation.relevance, explanation.logits, *explanation.tables.values()]
    if not all(np.isfinite(values).all() for values in arrays):
        raise _too_large(f"a map by {rule_or_method}", batch)


def _too_large(what: str, batch) -> ParameterError:
    """The error of a result that overflows."""
    return ParameterError(
        "scans",
        f"{what} that is not finite, of scans with voxels from {batch.min():.3g} to "
        f"{batch.max():.3g}",
        "intensities as the network was trained on",
        "Normalise the scans as in the training. If they are, look at the network's weights.",
    )


def _channels_first(explanations: dict[str, Explanation]) -> dict[str, Explanation]:
    """Relevance in the order of the scans of a model that is channels first."""
    return {
        name: replace(explanation, relevance=np.moveaxis(explanation.relevance, -1, 1))
        for name, explanation in explanations.items()
    }


def _targets(target, count: int) -> list:
    """The explained output unit of each scan; None for the one with the largest logit."""
    if target is None:
        return [None] * count
    if isinstance(target, np.ndarray):
        target = target.tolist()  # a number, of an array without axes
    units = list(target) if isinstance(target, list | tuple) else [target] * count
    for unit in units:
        if isinstance(unit, bool) or not isinstance(unit, numbers.Integral):
            raise ParameterError(
                "target",
                f"{target!r}",
                "a whole number, or a list of one for each scan",
                "Number the output units from 0 on, or leave it out for the largest one.",
            )
    if len(units) != count:
        raise ParameterError(
            "target",
            f"{len(units)} units for {count} scans",
            "one unit for all scans, or one for each of them",
            "Leave it out for the largest one.",
        )
    return [int(unit) for unit in units]


class _ByGraph:
    """Explains a batch by the layers of the network, as `msxai.lrp.reader` reads them."""

    def __init__(self, model, plan: graph.Graph, wanted: dict, epsilon: float, computation):
        self.model = model
        self.plan = plan
        self.dtype = computation.dtype
        self.explainers = {
            name: _explainer(rule_or_method, plan, epsilon)
            for name, rule_or_method in wanted.items()
        }
        compiled = computation.compiled
        if compiled is None:
            compiled = not network.on_gpu()
        self.fused = plan.fused if compiled else {}
        scan_by_scan = [explainer.scan_by_scan for explainer in self.explainers.values()]
        self.split = compiled or any(scan_by_scan)

    def __call__(self, batch, targets: list, tables: dict) -> dict[str, Explanation]:
        """Explanations of scans of shape (N, X, Y, Z, C) by name."""
        _check_shapes({self.plan.shape, batch.shape[1:]})
        explanations = {name: [] for name in self.explainers}
        step = 1 if self.split else len(batch)
        for start in range(0, len(batch), step):
            part = slice(start, start + step)
            rows = {name: values[part] for name, values in tables.items()}
            first = graph.forward(self.plan, batch[part], self.fused, rows)
            _check_output(first.output, batch[part])
            agreement.check(self.model, first)
            units = propagation.explained_units(first.output, targets[part])
            for name, explainer in self.explainers.items():
                explanations[name].append(explainer.explain(first, units))
        if self.split:
            _number(explanations)
        return {name: _joined(several) for name, several in explanations.items()}


@dataclass(frozen=True)
class _ByRules:
    """One way to explain: LRP by a rule or composite."""

    rule: object
    epsilon: float
    assigned: dict
    scan_by_scan: bool = False

    def explain(self, first: graph.ForwardPass, units) -> Explanation:
        relevance, logits, audit, tables = propagation.propagate(first, self.assigned, units)
        return Explanation(relevance, logits, audit, self.rule, self.epsilon, "msxai", tables)


@dataclass(frozen=True)
class _ByMethod:
    """One way to explain: a method besides LRP, one scan at a time."""

    rule: object
    method: object
    scan_by_scan: bool = True

    def explain(self, first: graph.ForwardPass, units) -> Explanation:
        output = first.output
        (unit,) = units
        relevance = self.method.relevance(first, int(unit))
        return Explanation(
            relevance=relevance[None].astype(first.scan.dtype),
            logits=output[:, unit].astype(float),
            audit=pd.DataFrame(columns=AUDIT),
            rule=self.rule,
            epsilon=float("nan"),
            engine="msxai",
        )


def _explainer(rule_or_method, plan: graph.Graph, epsilon: float) -> _ByRules | _ByMethod:
    method = methods.method_of(rule_or_method)
    if method:
        return _ByMethod(rule_or_method, method)
    assigned = rules.assign(plan.layers(), rule_or_method, epsilon)
    return _ByRules(rule_or_method, epsilon, assigned)


class _ByInnvestigate:
    """Explains a batch by iNNvestigate, in a process of its own for all rules together."""

    dtype = "float32"

    def __init__(self, model: keras.Model, wanted: dict, epsilon: float, computation):
        self.model = model
        self.wanted = wanted
        self.epsilon = epsilon
        self.computation = computation
        self.paper = _as_paper(model)

    def __call__(self, batch, targets: list, tables: dict) -> dict[str, Explanation]:
        """Explanations of scans of shape (N, X, Y, Z, 1) by name."""
        output = self._output(batch)
        _check_output(output, batch)
        if not np.allclose(network.logits(self.paper, batch[:1]), output[0], rtol=1e-3, atol=1e-3):
            raise _no_paper("another output than the paper's network with its weights")
        rules_once = list(dict.fromkeys(self.wanted.values()))
        relevance = innvestigate.explain(
            network.weights(self.model),
            self.model.input_shape[1:4],
            batch,
            rules_once,
            self.epsilon,
            self.computation.batch_size,
            self.computation.threads or os.cpu_count(),
        )
        units = propagation.explained_units(output, targets)
        logits = output[np.arange(len(output)), units]
        explanations = {}
        for name, rule in self.wanted.items():
            audit = pd.DataFrame(columns=AUDIT)
            explanations[name] = Explanation(
                relevance[rule], logits, audit, rule, self.epsilon, "innvestigate"
            )
        return explanations

    def _output(self, batch) -> np.ndarray:
        """Logits of shape (N, 1), float64."""
        outputs = [ops.convert_to_numpy(self.model(scan[None], training=False)) for scan in batch]
        return np.concatenate(outputs).astype(float)


def _as_paper(model: keras.Model) -> keras.Model:
    """Return the paper's network with a model's weights: iNNvestigate reads nothing else of it."""
    arrays = network.weights(model)
    width = arrays["conv1/bias"].size if "conv1/bias" in arrays else 1
    if len(model.input_shape) != 5 or None in model.input_shape[1:]:
        raise _no_paper(f"the input shape {model.input_shape}")
    paper = network.build(width, model.input_shape[1:4])
    expected = {name: values.shape for name, values in network.weights(paper).items()}
    if {name: values.shape for name, values in arrays.items()} != expected:
        raise _no_paper("other weights than the paper's network")
    for layer in paper.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return paper


def _no_paper(actual: str) -> ParameterError:
    return ParameterError(
        "parameter engine",
        f"innvestigate, with a network that has {actual}",
        "a network of msxai.model.network.build with the paper's head",
        "Set engine: msxai.",
    )


def _number(explanations: dict[str, list[Explanation]]) -> None:
    """Number the scans in the audits of explanations of one scan each."""
    for several in explanations.values():
        for index, explanation in enumerate(several):
            explanation.audit["volume"] = index


def _joined(explanations: list[Explanation]) -> Explanation:
    """One explanation of the scans of several."""
    if len(explanations) == 1:
        return explanations[0]
    return replace(
        explanations[0],
        relevance=np.concatenate([part.relevance for part in explanations]),
        logits=np.concatenate([part.logits for part in explanations]),
        audit=pd.concat([part.audit for part in explanations], ignore_index=True),
        tables={
            name: np.concatenate([part.tables[name] for part in explanations])
            for name in explanations[0].tables
        },
    )
