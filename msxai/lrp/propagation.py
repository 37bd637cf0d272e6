"""The backward pass of LRP: relevance from the logit to the voxels, and the audit of each layer.

Layers with weights, and normalisations as affine layers, share relevance out by a rule
(`msxai.lrp.rules`). Max pooling hands it to the winner of each window, of equal ones to the first
in the order X, Y, Z; padding never wins. Mean pooling and sums share it out by what each input
added. Dropout, flattening and activations hand it through unchanged. What copies or moves voxels
hands it back to where they came from.

Two ways of computing agree to rounding: operations of Keras on any backend, and the compiled
`msxai.model.kernels` for a convolution of 3^3 with max pooling of 3^3 on a CPU, which touch the
winners of the pooling only.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from keras import ops

from msxai.base.errors import ParameterError
from msxai.lrp import graph, rules
from msxai.lrp.explanation import AUDIT
from msxai.model import kernels

__all__ = ["explained_units", "propagate"]

WINNER = "winner"  # the rule of max pooling, in the audit
PADDING = "padding"  # of zeros that a layer adds; they absorb what a rule gives them


def explained_units(output, targets: list) -> np.ndarray:
    """Output unit that is explained, for each scan.

    Parameters
    ----------
    output : ndarray of shape (N, K)
    targets : list
        A unit for each scan; None for the one with the largest logit.

    Returns
    -------
    ndarray of int, shape (N,)

    Raises
    ------
    ParameterError
        No such unit.
    """
    count = output.shape[1]
    units = output.argmax(axis=1)
    for scan, target in enumerate(targets):
        if target is None:
            continue
        if not 0 <= target < count:
            raise ParameterError(
                "target",
                f"{target}",
                f"a unit of the output, 0 to {count - 1}",
                "Leave it out for the largest one.",
            )
        units[scan] = target
    return units


def propagate(
    first: graph.ForwardPass, assigned: dict, units
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame, dict]:
    """Propagate the logits of a batch back to its voxels.

    Parameters
    ----------
    first : msxai.lrp.graph.ForwardPass
        Of a batch; of one scan where kernels computed it.
    assigned : dict
        Layer's name to its `msxai.lrp.rules.Rule`, see `msxai.lrp.rules.assign`.
    units : ndarray of int, shape (N,)
        The explained output unit of each scan.

    Returns
    -------
    relevance : ndarray of shape (N, X, Y, Z, C)
    logits : ndarray of shape (N,), float64
    audit : pandas.DataFrame
        Columns `msxai.lrp.AUDIT`.
    tables : dict
        Name of each further input to its relevance, of shape (N, F).
    """
    output = first.output
    explained = (np.arange(len(output)), units)
    start = np.zeros_like(output)
    start[explained] = output[explained]
    backward = _Backward(first, assigned, start)
    for index in reversed(range(len(first.plan.nodes))):
        node = first.plan.nodes[index]
        if node.inputs and not first.is_fused_convolution(index):
            backward.through(index)
    logits = output[explained].astype(float)
    return backward.of_input(0), logits, _table(backward.rows), backward.of_tables()


@dataclass
class _Row:
    """What one layer did with the relevance of each scan; four arrays of shape (N,)."""

    layer: str
    rule: str
    arriving: np.ndarray
    passed: np.ndarray
    bias: np.ndarray
    stabiliser: np.ndarray


class _Backward:
    """Relevance on its way back, node by node from the last one."""

    def __init__(self, first: graph.ForwardPass, assigned: dict, start):
        self.first = first
        self.assigned = assigned
        self.arriving = {len(first.values) - 1: start}  # node's index to relevance at its output
        self.rows = []
        self.last = (None, None)  # an array and its sum

    def through(self, index: int) -> None:
        """Hand what arrived at a node to the nodes that it reads."""
        node = self.first.plan.nodes[index]
        arriving = self.arriving.pop(index)
        if node.kind == "add":
            self._through_sum(index, arriving)
            return
        if node.kind == "concatenation":
            self._to_parts(index, arriving)
            return
        steps = {
            "affine": self._through_layer,
            "max": self._to_winners,
            "mean": self._through_mean,
            "move": self._moved_back,
        }
        step = steps.get(node.kind, self._unchanged)
        if index in self.first.fused:
            step = self._through_kernels
        passed = step(index, arriving)
        (source,) = self.first.sources(index)
        graph.accumulate(self.arriving, source, passed)

    def of_input(self, index: int) -> np.ndarray:
        """Relevance of an input, 0 where nothing reads it."""
        values = self.first.values[index]
        if index not in self.arriving:
            return np.zeros(values.shape, self.first.scan.dtype)
        relevance = ops.convert_to_numpy(self.arriving[index])
        return np.asarray(relevance, self.first.scan.dtype)

    def of_tables(self) -> dict[str, np.ndarray]:
        """Relevance of each further input."""
        return {
            node.name: self.of_input(index)
            for index, node in enumerate(self.first.plan.nodes)
            if node.kind == "input" and index
        }

    def _through_layer(self, index: int, arriving):
        """A convolution or a dense layer, by its rule."""
        node = self.first.plan.nodes[index]
        rule = self.assigned[node.name]
        what = node.what.at(self.first.values[node.inputs[0]])
        layer = rules.AffineLayer(
            weights=ops.convert_to_tensor(what.weights),
            bias=ops.convert_to_tensor(what.bias),
            forward=what.forward,
            backward=what.backward,
            xp=ops,
        )
        passed, absorbed, lost = rules.share_out(
            rule,
            layer,
            relevance=ops.convert_to_tensor(arriving),
            inputs=ops.convert_to_tensor(self.first.values[node.inputs[0]]),
            outputs=ops.convert_to_tensor(self.first.values[index]),
        )
        self._account(node.name, rule.name, arriving, passed, absorbed, lost)
        return passed

    def _through_kernels(self, index: int, arriving):
        """A convolution with the max pooling after it."""
        pooling = self.first.plan.nodes[index]
        convolution = self.first.plan.nodes[self.first.fused[index]]
        rule = self.assigned[convolution.name]
        arriving = ops.convert_to_numpy(arriving)
        passed, absorbed, lost = rules.share_out(
            rule,
            _winners_only(convolution.what, self.first.winners[index]),
            relevance=arriving,
            inputs=ops.convert_to_numpy(self.first.values[convolution.inputs[0]]),
            outputs=self.first.values[index],
        )
        self._account(pooling.name, WINNER, arriving, arriving)
        self._account(convolution.name, rule.name, arriving, passed, absorbed, lost)
        return passed

    def _to_winners(self, index: int, arriving):
        """Max pooling."""
        node = self.first.plan.nodes[index]
        shape = self.first.values[node.inputs[0]].shape
        passed = node.what.hand_back(self.first.winners[index], arriving, shape)
        self._account(node.name, WINNER, arriving, passed)
        return passed

    def _through_mean(self, index: int, arriving):
        """Mean pooling: to each voxel of a window what it added to the mean."""
        node = self.first.plan.nodes[index]
        arriving = ops.convert_to_tensor(arriving)
        inputs = ops.convert_to_tensor(self.first.values[node.inputs[0]])
        shares = self._shares(index, arriving)
        shares_of_windows = shares / node.what.counts(inputs)
        passed = inputs * node.what.spread(shares_of_windows, inputs.shape)
        self._account_of_shares(index, arriving, shares, passed)
        return passed

    def _through_sum(self, index: int, arriving) -> None:
        """A sum of nodes: to each of them what it added."""
        node = self.first.plan.nodes[index]
        arriving = ops.convert_to_tensor(arriving)
        shares = self._shares(index, arriving)
        total = 0
        for source in node.inputs:
            passed = ops.convert_to_tensor(self.first.values[source]) * shares
            total = total + passed
            graph.accumulate(self.arriving, source, passed)
        self._account_of_shares(index, arriving, shares, total)

    def _to_parts(self, index: int, arriving) -> None:
        """A concatenation: to each of its parts what stands there."""
        node = self.first.plan.nodes[index]
        parts = graph.parts(node, self.first.values, arriving)
        for source, passed in zip(node.inputs, parts, strict=True):
            graph.accumulate(self.arriving, source, passed)

    def _moved_back(self, index: int, arriving):
        """What copies or moves voxels: back to where they came from."""
        node = self.first.plan.nodes[index]
        shape = self.first.values[node.inputs[0]].shape
        passed = node.what.back(ops.convert_to_tensor(arriving), shape)
        if node.what.loses:
            absorbed = _total(arriving) - _total(passed)
            self._account(node.name, PADDING, arriving, passed, absorbed[:, None])
        return passed

    def _unchanged(self, index: int, arriving):
        """Activations and flattening: relevance as it is, in the shape of the inputs."""
        source = self.first.plan.nodes[index].inputs[0]
        shape = self.first.values[source].shape
        if arriving.shape == shape:
            return arriving
        return ops.reshape(arriving, shape)

    def _shares(self, index: int, arriving):
        """Relevance for each unit of a node's value."""
        rule = self.assigned[self.first.plan.nodes[index].name]
        value = self.first.values[index]
        return arriving / rules.stabilised(value, rule.stabiliser, ops)

    def _account_of_shares(self, index: int, arriving, shares, passed) -> None:
        name = self.first.plan.nodes[index].name
        lost = arriving - shares * self.first.values[index]
        self._account(name, self.assigned[name].name, arriving, passed, 0 * arriving, lost)

    def _account(self, layer, rule, arriving, passed, absorbed=None, lost=None) -> None:
        """Add a row to the audit."""
        came = self._total_once(arriving)
        nothing = 0 * came
        self.rows.append(
            _Row(
                layer=layer,
                rule=rule,
                arriving=came,
                passed=self._total_once(passed),
                bias=nothing if absorbed is None else _total(absorbed),
                stabiliser=nothing if lost is None else _total(lost),
            )
        )

    def _total_once(self, values) -> np.ndarray:
        """`_total`; what one layer passes is what arrives at the next one, and is summed once."""
        if values is not self.last[0]:
            self.last = (values, _total(values))
        return self.last[1]


def _winners_only(convolution, winners) -> rules.AffineLayer:
    """A convolution at the winners of the max pooling after it, by the kernels.

    Parameters
    ----------
    convolution : msxai.lrp.layers.Convolution
    winners : ndarray of shape (1, *windows, K)
    """
    # Numba compiles a kernel for each combination of types. All arrays of a call get one type.

    def forward(inputs, taps):
        volume = np.ascontiguousarray(inputs[0])
        return kernels.gather(volume, taps.astype(volume.dtype), winners[0])[None]

    def backward(shares, taps, factor):
        volume = np.ascontiguousarray(shares[0])
        factor = np.ascontiguousarray(factor[0], dtype=volume.dtype)
        passed = kernels.scatter(volume, taps.astype(volume.dtype), winners[0], factor)
        return passed[None]

    def divide(relevance, totals, stabiliser, factor, xp):
        relevance = np.ascontiguousarray(relevance[0], dtype=totals.dtype)
        shares, sums, lost = kernels.divide(relevance, totals[0], stabiliser, factor)
        return shares[None], sums[None], lost[None]

    return rules.AffineLayer(
        weights=kernels.taps(convolution.weights),
        bias=convolution.bias,
        forward=forward,
        backward=backward,
        xp=np,
        divide=divide,
    )


def _total(values) -> np.ndarray:
    """Sum over all axes but the first, shape (N,).

    numpy sums pairwise, so that the sum is as exact as the values.
    """
    values = np.asarray(ops.convert_to_numpy(values))
    return values.reshape(len(values), -1).sum(axis=1).astype(float)


def _table(rows: list[_Row]) -> pd.DataFrame:
    """The audit: all scans of the first row, then of the next one.

    There is no row where no layer has a rule, as in a network that only flattens.
    """
    if not rows:
        return pd.DataFrame(columns=AUDIT)
    count = len(rows[0].arriving)
    columns = {
        "volume": np.tile(np.arange(count), len(rows)),
        "layer": np.repeat([row.layer for row in rows], count),
        "rule": np.repeat([row.rule for row in rows], count),
    }
    for name in AUDIT[3:]:
        columns[name] = np.concatenate([getattr(row, name) for row in rows])
    return pd.DataFrame(columns)
