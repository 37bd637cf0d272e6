"""Inputs without near-ties in the max poolings, so that rounding cannot change a winner."""

import numpy as np
from keras import ops

from msxai.lrp import graph, reader

MARGIN = 2e-6  # of the spread of a pooling's inputs; float32 rounds sums of its layers to 5e-7


def near_ties(model, scans) -> int:
    """Count the windows whose two largest values differ by less than `MARGIN`, but are not equal.

    Equal values are no near-tie: they are equal however they are computed.
    """
    plan = reader.read(model, "float64")
    count = 0
    for scan in scans:
        values = graph.forward(plan, np.asarray(scan, "float64")[None], {}).values
        for index, node in enumerate(plan.nodes):
            if node.kind == "max":
                count += _near_ties(plan, index, values)
    return count


def _near_ties(plan, index, values) -> int:
    pooling = plan.nodes[index]
    inputs = _activated(plan, index, values[pooling.inputs[0]])
    windows = [ops.convert_to_numpy(window) for window in pooling.what.windows(inputs, -np.inf)]
    best = np.partition(np.stack(windows), -2, axis=0)[-2:]
    gaps = np.diff(best, axis=0)
    return int(((gaps > 0) & (gaps < MARGIN * np.std(inputs))).sum())


def _activated(plan, index, inputs):
    """The inputs after the activation that the graph has moved behind the pooling."""
    for reader_index in plan.readers(index):
        node = plan.nodes[reader_index]
        if node.kind == "pass" and hasattr(node.what, "derivative"):
            return ops.convert_to_numpy(node.what(inputs))
    return np.asarray(ops.convert_to_numpy(inputs))
