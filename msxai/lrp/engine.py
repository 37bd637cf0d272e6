"""Layer-wise relevance propagation (LRP): what each voxel contributed to the logit, and what layers kept of it.

Relevance starts as the logit of one output unit and is handed back layer by layer. Layers with weights share it out by a rule
(`msxai.lrp.rules`). Max pooling hands it to the winner, of equal ones to the first in the order X, Y, Z; padding never wins; a pooling that
follows an activation is decided on the values before it. Mean pooling and sums share out by what each input added. Dropout, flattening and
activations (ELU, ReLU, LeakyReLU) hand it through unchanged.

Two ways of computing, equal to rounding: Keras operations on any backend, and, for a convolution of 3^3 with max pooling of 3^3 on a CPU,
the compiled `msxai.model.kernels`, which touch the winners of the pooling only.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from keras import ops

from msxai.base.errors import ParameterError
from msxai.base.parameters import one_of
from msxai.data import images
from msxai.lrp import graph, innvestigate, rules
from msxai.model import kernels, network

ENGINES = ("msxai", "innvestigate")
AUDIT = ["volume", "layer", "rule", "arriving", "passed", "bias", "stabiliser"]


@dataclass(frozen=True)
class Explanation:
    """Relevance and what it explains.

    Attributes
    ----------
    relevance : ndarray of shape (N, X, Y, Z, C), float32 (float64 where asked for)
        Share of each voxel in the logit (unit: logit).
    logits : ndarray of shape (N,)
        f(x), the explained output unit before any sigmoid or softmax.
    audit : pandas.DataFrame
        One row a volume and layer, from the output on: volume, layer, rule, arriving (relevance at the layer's outputs), passed (what it
        hands to its inputs), bias, stabiliser (what these keep); arriving = passed + bias + stabiliser. Empty for innvestigate.
    rule, epsilon, engine
        As asked for.
    """

    relevance: np.ndarray
    logits: np.ndarray
    audit: pd.DataFrame
    rule: object
    epsilon: float
    engine: str

    @property
    def conserved(self) -> np.ndarray:
        """sum(R) / f(x), shape (N,): 1 if nothing is absorbed by biases and the stabiliser."""
        return self.relevance.sum(axis=(1, 2, 3, 4), dtype=float) / self.logits


def explain(
    model: keras.Model,
    volumes,
    rule=None,
    epsilon: float = 1e-3,
    target: int | None = None,
    *,
    engine: str = "msxai",
    batch_size: int = 1,
    threads: int = 0,
    dtype: str = "float32",
    compiled: bool | None = None,
) -> Explanation:
    """Explain the logit of each volume.

    Parameters
    ----------
    model : keras.Model
        Sequential or functional, one input (N, X, Y, Z, C) and one output (N, K); for innvestigate one of `msxai.model.network.build`.
    volumes : array of shape (N, X, Y, Z, C), or sequence of such volumes or of paths of NIfTI files on the model's grid
        As the network was trained on.
    rule : str or dict, optional
        One of `msxai.lrp.rules.NAMES`, or a composite ``{role or layer's name: rule}``; see `msxai.lrp.rules.assign`. For innvestigate one of
        `msxai.lrp.innvestigate.ANALYZERS`. "epsilon" in the paper, and the default of innvestigate; else the default is
        `msxai.lrp.rules.DEFAULT`, which found more of the simulated lesions.
    epsilon : float
        Stabiliser of the epsilon rule; 1e-3 in the paper.
    target : int, optional
        Output unit; by default the only one, or that with the largest logit.
    engine : {"msxai", "innvestigate"}
        Who computes; innvestigate is the cross-check, in a process of its own.
    batch_size, threads : int
        Volumes at a time (the kernels take them one by one in any case); threads of the kernels and of innvestigate, 0: all.
    dtype : {"float32", "float64"}
        Of all computation.
    compiled : bool, optional
        Use `msxai.model.kernels` where they apply; by default where there is no GPU.

    Returns
    -------
    Explanation

    Raises
    ------
    ParameterError
        Unknown rule, layer or engine, with the nearest known one; an impossible target; volumes of a wrong shape.
    EngineError
        A layer that LRP is not defined for, by name; innvestigate failed.
    """
    rule = _default(rule, engine)
    found = list(
        stream(
            model,
            volumes,
            rule,
            epsilon,
            target,
            engine=engine,
            batch_size=batch_size,
            threads=threads,
            dtype=dtype,
            compiled=compiled,
        )
    )
    if not found:
        raise ParameterError(
            "volumes", "none", "at least one volume", "Give an array of shape (N, X, Y, Z, C)."
        )
    return _joined(
        zip(*((one.relevance, one.logits, one.audit) for one in found), strict=True),
        rule,
        epsilon,
        engine,
    )


def stream(
    model,
    volumes,
    rule=None,
    epsilon=1e-3,
    target=None,
    *,
    engine="msxai",
    batch_size=1,
    threads=0,
    dtype="float32",
    compiled=None,
) -> Iterator[Explanation]:
    """As `explain`, one `Explanation` a batch: memory does not grow with the number of volumes."""
    one_of("engine", engine, ENGINES)
    one_of("dtype", dtype, ("float32", "float64"))
    rule = _default(rule, engine)
    if not isinstance(rule, dict) or engine == "innvestigate":
        one_of("rule", rule, rules.NAMES if engine == "msxai" else innvestigate.ANALYZERS)
    if engine == "innvestigate":
        yield _by_innvestigate(model, volumes, rule, epsilon, batch_size, threads or os.cpu_count())
        return
    plan = graph.read(model, dtype)
    assigned = rules.assign(plan.layers(), rule, epsilon)
    if compiled is None:
        compiled = not network.on_gpu()
    for start in range(0, len(volumes), batch_size):
        batch = np.stack(
            [
                volume(volumes[index], plan.shape, dtype)
                for index in range(start, min(start + batch_size, len(volumes)))
            ]
        )
        with kernels.threads(threads or os.cpu_count()):
            parts = [
                _propagate(plan, assigned, part, target, compiled)
                for part in (np.split(batch, len(batch)) if compiled else [batch])
            ]
        audits = [audit for _, _, audit in parts]
        for index, audit in enumerate(audits):
            audit["volume"] += start + index
        yield Explanation(
            np.concatenate([relevance for relevance, _, _ in parts]),
            np.concatenate([logits for _, logits, _ in parts]),
            pd.concat(audits, ignore_index=True),
            rule,
            epsilon,
            engine,
        )


def _default(rule, engine: str):
    """The rule that is asked for, or the engine's own default."""
    return rule if rule is not None else rules.DEFAULT if engine == "msxai" else "epsilon"


def explain_each(
    model, volumes, wanted, epsilon=1e-3, target=None, *, threads=0, dtype="float32", compiled=None
) -> dict:
    """As `explain`, by several rules from one forward pass of each volume.

    Parameters
    ----------
    wanted : sequence of str, or dict
        Names of rules; or any names to rules as `explain` takes them.

    Returns
    -------
    dict
        Name to `Explanation`: to the bit that of `explain`.
    """
    plan = graph.read(model, dtype)
    wanted = wanted if isinstance(wanted, dict) else {rule: rule for rule in wanted}
    assigned = {name: rules.assign(plan.layers(), rule, epsilon) for name, rule in wanted.items()}
    compiled, parts = (
        not network.on_gpu() if compiled is None else compiled,
        {name: [] for name in wanted},
    )
    with kernels.threads(threads or os.cpu_count()):
        for index, given in enumerate(volumes):
            batch = volume(given, plan.shape, dtype)[None]
            done = graph.forward(plan, batch, plan.fused if compiled else {})
            for name in wanted:
                relevance, logits, audit = _propagate(
                    plan, assigned[name], batch, target, compiled, done
                )
                parts[name].append((relevance, logits, audit.assign(volume=index)))
    return {
        name: _joined(zip(*found, strict=True), wanted[name], epsilon, "msxai")
        for name, found in parts.items()
    }


def _joined(parts, rule, epsilon, engine) -> Explanation:
    """One explanation of the relevance, logits and audits of several."""
    relevance, logits, audits = parts
    return Explanation(
        np.concatenate(relevance),
        np.concatenate(logits),
        pd.concat(audits, ignore_index=True),
        rule,
        epsilon,
        engine,
    )


def volume(given, shape, dtype) -> np.ndarray:
    """Volume of the network's shape; a path is read.

    Raises
    ------
    ParameterError
        A wrong shape.
    """
    found = (
        images.load(given).get_fdata(dtype="float32")[..., None]
        if isinstance(given, str | Path)
        else given
    )
    found = np.asarray(found, dtype)
    if found.shape != tuple(shape):
        raise ParameterError(
            given if isinstance(given, str | Path) else "volumes",
            f"a volume of shape {found.shape}",
            f"{tuple(shape)}, as the network takes it",
            "Prepare scans with 01_data_preparation, which brings them onto the model's grid.",
        )
    return found


def _by_innvestigate(model, volumes, rule, epsilon, batch_size, threads) -> Explanation:
    weights, shape = network.weights(model), model.input_shape[1:4]
    volumes = [volume(each, model.input_shape[1:], "float32") for each in volumes]
    relevance = innvestigate.explain(weights, shape, volumes, rule, epsilon, batch_size, threads)
    logits = [ops.convert_to_numpy(model(each[None], training=False))[0, 0] for each in volumes]
    return Explanation(
        relevance,
        np.array(logits, float),
        pd.DataFrame(columns=AUDIT),
        rule,
        epsilon,
        "innvestigate",
    )


def _propagate(
    plan, assigned, batch, target, compiled, done=None
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Relevance, logits and audit of one batch; with `compiled` a batch of one. `done`: what `graph.forward` gave."""
    fused = plan.fused if compiled else {}
    values, winners = done or graph.forward(plan, batch, fused)
    output = ops.convert_to_numpy(values[-1])
    explained = np.arange(len(output)), unit(output, target)
    start = np.zeros_like(output)
    logits = start[explained] = output[explained]
    relevance, rows = {len(values) - 1: start}, []
    for place in reversed(range(len(plan.nodes))):
        node = plan.nodes[place]
        if place in fused.values() or not node.inputs:
            continue
        arriving, source = relevance.pop(place), node.inputs[0]
        inputs = values[source]
        if place in fused:
            source = plan.nodes[fused[place]].inputs[0]
            passed, row = _through_winners(
                plan.nodes[fused[place]],
                assigned,
                arriving,
                values[source],
                values[place],
                winners[place],
            )
            rows += [(node.name, "winner", row[2], row[2], 0 * row[2], 0 * row[2]), row]
        elif node.kind == "affine":
            rule, what = assigned[node.name], node.what
            given = map(
                ops.convert_to_tensor, (arriving, inputs, what.weights, what.bias, values[place])
            )
            passed, *kept = rules.share_out(rule, *given, what.forward, what.backward, ops)
            rows.append(_row(node.name, rule.name, arriving, passed, *kept))
        elif node.kind == "max":
            passed = node.what.hand_back(winners[place], arriving, inputs.shape)
            rows.append(_row(node.name, "winner", arriving, passed))
        elif node.kind in ("mean", "add"):
            rule = assigned[node.name]
            shares = arriving / rules.stabilised(values[place], rule.stabiliser, ops)
            if node.kind == "mean":
                passed = handed = inputs * node.what.spread(
                    shares / graph.counts(node.what, inputs), inputs.shape
                )
            else:
                for each in node.inputs[1:]:
                    _gather(relevance, each, values[each] * shares)
                passed, handed = inputs * shares, sum(values[each] * shares for each in node.inputs)
            rows.append(
                _row(
                    node.name,
                    rule.name,
                    arriving,
                    handed,
                    0 * arriving,
                    arriving - shares * values[place],
                )
            )
        else:
            passed = (
                arriving if arriving.shape == inputs.shape else ops.reshape(arriving, inputs.shape)
            )
        _gather(relevance, source, passed)
    count, (names, applied, *sums) = len(batch), zip(*rows, strict=True)
    audit = {
        "volume": np.tile(np.arange(count), len(rows)),
        "layer": np.repeat(names, count),
        "rule": np.repeat(applied, count),
    }
    audit = pd.DataFrame(
        audit | {name: np.concatenate(each) for name, each in zip(AUDIT[3:], sums, strict=True)}
    )
    return np.asarray(ops.convert_to_numpy(relevance[0]), batch.dtype), logits.astype(float), audit


def _through_winners(node, assigned, arriving, inputs, outputs, winners):
    """Relevance of a convolution's inputs from that of its pooled outputs, by the kernels; and its row of the audit."""
    rule, arriving, inputs = (
        assigned[node.name],
        ops.convert_to_numpy(arriving),
        ops.convert_to_numpy(inputs),
    )

    def forward(inputs, taps):
        return kernels.gather(np.ascontiguousarray(inputs[0]), taps, winners[0])[None]

    def backward(shares, taps, factor):
        return kernels.scatter(
            np.ascontiguousarray(shares[0]), taps, winners[0], np.ascontiguousarray(factor[0])
        )[None]

    taps = kernels.taps(node.what.weights)

    def divide(relevance, totals, stabiliser, factor, xp):
        return tuple(
            one[None] for one in kernels.divide(relevance[0], totals[0], stabiliser, factor)
        )

    passed, *kept = rules.share_out(
        rule, arriving, inputs, taps, node.what.bias, outputs, forward, backward, np, divide
    )
    return passed, _row(node.name, rule.name, arriving, passed, *kept)


def unit(output, target) -> np.ndarray:
    """Output unit that is explained, one a volume of `output`, shape (N, K): `target`, else the largest.

    Raises
    ------
    ParameterError
        No such unit.
    """
    if target is None:
        return output.argmax(axis=1)
    if not -output.shape[1] <= target < output.shape[1]:
        units = f"a unit of the output, 0 to {output.shape[1] - 1}"
        raise ParameterError("target", f"{target}", units, "Leave it out for the largest one.")
    return np.full(len(output), target)


def _gather(relevance, place, found):
    relevance[place] = relevance[place] + found if place in relevance else found


def _row(layer, rule, arriving, passed, absorbed=None, lost=None) -> tuple:
    """Row of the audit of one layer: its name, its rule, and four sums of shape (N,)."""

    def total(values):
        values = np.asarray(ops.convert_to_numpy(values))
        return (
            values.reshape(len(values), -1).sum(axis=1).astype(float)
        )  # numpy sums pairwise: as exact as the values themselves

    came = total(arriving)
    return (
        layer,
        rule,
        came,
        came if passed is arriving else total(passed),
        *(0 * came if kept is None else total(kept) for kept in (absorbed, lost)),
    )
