"""Explain the logit of a network voxel by voxel: the one verb for LRP and for all other methods.

`explain` takes a rule of LRP or another method, `explain_each` several of them at once, and
`stream` gives the explanations batch by batch.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from keras import ops

from msxai.base.errors import ParameterError
from msxai.data import images
from msxai.lrp import graph, innvestigate, methods, propagation, reader, rules, tta
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
        Sequential or functional, one input (N, X, Y, Z, C) and one output (N, K). For iNNvestigate
        one of `msxai.model.network.build`.
    scans : array of shape (N, X, Y, Z, C), or sequence of such scans or of paths
        As the network was trained on; paths are NIfTI files on the model's grid.
    rule_or_method : str, dict or method
        A rule of LRP or a composite of rules (`msxai.lrp.rules.NAMES`); a composite of the caller's
        own, ``{role or layer's name: rule}`` (`msxai.lrp.rules.assign`); or another method by its
        name (`msxai.lrp.METHODS`) or with options of its own, such as ``lrp.Occlusion(size=12)``.
        For iNNvestigate one of `msxai.lrp.innvestigate.ANALYZERS`.
    epsilon : float
        Stabiliser of the epsilon rule; 1e-3 in the paper.
    target : int, optional
        Output unit; by default the only one, or that with the largest logit.
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
        Unknown rule, method or layer, with the nearest one that exists; an impossible target or
        number of copies; no scan, a scan of a wrong shape, or voxels that are not finite.
    EngineError
        A layer that LRP is not defined for, by name; iNNvestigate failed.

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
    if not batches:
        raise ParameterError(
            "scans", "none", "at least one scan", "Give an array of shape (N, X, Y, Z, C)."
        )
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
    if isinstance(rules_and_methods, dict):
        return rules_and_methods
    return {name: name for name in rules_and_methods}


def _batches(
    model, scans, wanted: dict, epsilon, target, copies, computation
) -> Iterator[dict[str, Explanation]]:
    """Yield the explanations of each batch by name; arguments as for `explain_each`."""
    if computation is None:
        computation = Computation()
    for rule_or_method in wanted.values():
        methods.check(rule_or_method, computation.engine)
    if computation.engine == "innvestigate":
        explain_batch = _ByInnvestigate(model, wanted, epsilon, computation)
        shape = model.input_shape[1:]
        batch_size = max(len(scans), 1)
    else:
        plan = reader.read(model, computation.dtype)
        explain_batch = _ByGraph(plan, wanted, epsilon, target, computation)
        shape = plan.shape
        batch_size = computation.batch_size
    for start in range(0, len(scans), batch_size):
        stop = min(start + batch_size, len(scans))
        batch = [_scan(scans[index], shape, explain_batch.dtype) for index in range(start, stop)]
        with kernels.threads(computation.threads or os.cpu_count()):
            explanations = tta.mean_over_copies(explain_batch, np.stack(batch), copies)
        for explanation in explanations.values():
            explanation.audit["volume"] += start
        yield explanations


def _scan(given, shape, dtype: str) -> np.ndarray:
    """A scan of the network's shape; a path is read."""
    where = "scans"
    if isinstance(given, str | Path):
        where = given
        given = images.load(given).get_fdata(dtype="float32")[..., None]
    scan = np.asarray(given, dtype)
    if scan.shape != tuple(shape):
        raise ParameterError(
            where,
            f"a scan of shape {scan.shape}",
            f"{tuple(shape)}, as the network takes it",
            "Prepare scans with 01_data_preparation, which brings them onto the model's grid.",
        )
    n_missing = np.count_nonzero(~np.isfinite(scan))
    if n_missing:
        raise ParameterError(
            where,
            f"a scan with {n_missing} voxels that are not finite (NaN or infinite)",
            "finite values",
            "Look at the scan; give voxels outside the brain the value 0.",
        )
    return scan


class _ByGraph:
    """Explains a batch by the layers of the network, as `msxai.lrp.reader` reads them."""

    def __init__(self, plan: graph.Graph, wanted: dict, epsilon: float, target, computation):
        self.plan = plan
        self.target = target
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

    def __call__(self, batch) -> dict[str, Explanation]:
        """Explanations of scans of shape (N, X, Y, Z, C) by name."""
        parts = np.split(batch, len(batch)) if self.split else [batch]
        explanations = {name: [] for name in self.explainers}
        for part in parts:
            first = graph.forward(self.plan, part, self.fused)
            for name, explainer in self.explainers.items():
                explanations[name].append(explainer.explain(first, self.target))
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

    def explain(self, first: graph.ForwardPass, target) -> Explanation:
        units = propagation.explained_units(first.output, target)
        relevance, logits, audit = propagation.propagate(first, self.assigned, units)
        return Explanation(relevance, logits, audit, self.rule, self.epsilon, "msxai")


@dataclass(frozen=True)
class _ByMethod:
    """One way to explain: a method besides LRP, one scan at a time."""

    rule: object
    method: object
    scan_by_scan: bool = True

    def explain(self, first: graph.ForwardPass, target) -> Explanation:
        output = first.output
        (unit,) = propagation.explained_units(output, target)
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

    def __call__(self, batch) -> dict[str, Explanation]:
        """Explanations of scans of shape (N, X, Y, Z, 1) by name."""
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
        logits = self._logits(batch)
        explanations = {}
        for name, rule in self.wanted.items():
            audit = pd.DataFrame(columns=AUDIT)
            explanations[name] = Explanation(
                relevance[rule], logits, audit, rule, self.epsilon, "innvestigate"
            )
        return explanations

    def _logits(self, batch) -> np.ndarray:
        """One logit a scan, float64."""
        logits = []
        for scan in batch:
            output = self.model(scan[None], training=False)
            logits.append(ops.convert_to_numpy(output)[0, 0])
        return np.array(logits, float)


def _number(explanations: dict[str, list[Explanation]]) -> None:
    """Number the scans in the audits of explanations of one scan each."""
    for several in explanations.values():
        for index, explanation in enumerate(several):
            explanation.audit["volume"] = index


def _joined(explanations: list[Explanation]) -> Explanation:
    """One explanation of the scans of several."""
    return replace(
        explanations[0],
        relevance=np.concatenate([part.relevance for part in explanations]),
        logits=np.concatenate([part.logits for part in explanations]),
        audit=pd.concat([part.audit for part in explanations], ignore_index=True),
    )
