"""A network as LRP sees it: affine maps, poolings, sums, and what hands relevance through.

`msxai.lrp.reader.read` makes a `Graph` of a Keras model; `forward` computes one.
"""

from dataclasses import dataclass, field

import numpy as np
from keras import ops

from msxai.model import kernels

__all__ = [
    "ForwardPass",
    "Graph",
    "Node",
    "accumulate",
    "convolve_and_pool",
    "forward",
    "parts",
    "value",
]


@dataclass
class Node:
    """One step of the network.

    Attributes
    ----------
    name : str
        Of the Keras layer.
    kind : {"input", "affine", "max", "mean", "add", "pass", "move", "concatenation"}
        While a model is read also "norm", a batch normalisation that is not merged yet, and
        "output", which reads the logit.
    inputs : list of int
        Indices of the nodes that it reads.
    what : object
        A layer of `msxai.lrp.layers` or `msxai.lrp.normalisations`; for "pass" a function of each
        value (`msxai.lrp.activations`) or `flatten`; for "move" one of `msxai.lrp.rearrangements`;
        for "concatenation" the axis.
    roles : tuple of str
        See `msxai.lrp.rules.ROLES`.
    """

    name: str
    kind: str
    inputs: list
    what: object = None
    roles: tuple = ()


@dataclass
class Graph:
    """A network as a list of nodes, inputs before outputs; the last one is the logit.

    Attributes
    ----------
    nodes : list of Node
        The first one is the input.
    shape : tuple of int
        Of one scan, (X, Y, Z, C).
    channels_first : bool
        Whether the model itself takes scans of shape (C, X, Y, Z).
    fused : dict
        Index of a max pooling to that of the convolution before it, where `msxai.model.kernels`
        can compute both at once.
    """

    nodes: list = field(default_factory=list)
    shape: tuple = ()
    fused: dict = field(default_factory=dict)
    channels_first: bool = False

    def add(self, node: Node) -> int:
        """Append a node; its index."""
        self.nodes.append(node)
        return len(self.nodes) - 1

    def readers(self, index: int) -> list[int]:
        """Indices of the nodes that read a node."""
        return [reader for reader, node in enumerate(self.nodes) if index in node.inputs]

    def layers(self) -> dict:
        """Names to roles of the nodes that have a rule."""
        return {node.name: node.roles for node in self.nodes if node.roles}


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
        Index of a max pooling to the offset of the winner in each window, 0 to 26 for 3^3.
    tables : dict
        Name of each further input to its rows, (N, F).
    """

    plan: Graph
    fused: dict
    values: list
    winners: dict
    tables: dict = field(default_factory=dict)

    @property
    def scan(self) -> np.ndarray:
        """The first scan of the batch, shape (X, Y, Z, C)."""
        return self.values[0][0]

    @property
    def output(self) -> np.ndarray:
        """Logits of the output units, shape (N, K)."""
        return ops.convert_to_numpy(self.values[-1])

    def is_fused_convolution(self, index: int) -> bool:
        """Whether a node is a convolution that was computed with its pooling."""
        return index in self.fused.values()

    def sources(self, index: int) -> list[int]:
        """Nodes that a node reads; for a fused pooling those that its convolution reads."""
        index = self.fused.get(index, index)
        return self.plan.nodes[index].inputs

    def of(self, scan) -> "ForwardPass":
        """The same for another scan of shape (X, Y, Z, C)."""
        return forward(self.plan, scan[None], self.fused, self.tables)


def forward(plan: Graph, batch, fused: dict, tables: dict | None = None) -> ForwardPass:
    """Compute a batch.

    Parameters
    ----------
    plan : Graph
    batch : ndarray of shape (N, X, Y, Z, C)
    fused : dict
        `plan.fused`, with N = 1, to use `msxai.model.kernels`; else {}.
    tables : dict, optional
        Name of each further input to its rows, (N, F).
    """
    tables = tables or {}
    values = [None] * len(plan.nodes)
    winners = {}
    for index, node in enumerate(plan.nodes):
        if node.kind == "input":
            values[index] = batch if index == 0 else tables[node.name]
        elif index not in fused.values():  # its pooling computes it
            values[index], offsets = value(plan, index, values, fused)
            if offsets is not None:
                winners[index] = offsets
    return ForwardPass(plan, fused, values, winners, tables)


def value(plan: Graph, index: int, values: list, fused: dict) -> tuple:
    """Compute one node from its inputs.

    Parameters
    ----------
    plan : Graph
    index : int
    values : list
        Of the nodes before it.
    fused : dict
        As for `forward`.

    Returns
    -------
    value : array
    winners : array or None
        Offsets of the winners of a max pooling.
    """
    node = plan.nodes[index]
    if index in fused:
        convolution = plan.nodes[fused[index]]
        return convolve_and_pool(convolution.what, values[convolution.inputs[0]])
    # The kernels give arrays of numpy. PyTorch adds and multiplies its tensors with none.
    several = [ops.convert_to_tensor(values[source]) for source in node.inputs]
    inputs = several[0]
    if node.kind == "affine":
        weights = ops.convert_to_tensor(node.what.weights)
        bias = ops.convert_to_tensor(node.what.bias)
        return node.what.forward(inputs, weights) + bias, None
    if node.kind == "max":
        return node.what.winners(inputs)
    if node.kind == "mean":
        return node.what.total(inputs) / node.what.counts(inputs), None
    if node.kind == "add":
        return sum(several), None
    if node.kind == "concatenation":
        return ops.concatenate(several, axis=node.what), None
    return node.what(inputs), None


def convolve_and_pool(convolution, inputs) -> tuple[np.ndarray, np.ndarray]:
    """Pooled convolution of a batch of one and the winners, by the kernels.

    Parameters
    ----------
    convolution : msxai.lrp.layers.Convolution
        One that has `winners_only`.
    inputs : array of shape (1, X, Y, Z, C)
    """
    if convolution.weights.shape[3] == 1:
        scan = np.ascontiguousarray(ops.convert_to_numpy(inputs)[0])
        taps = kernels.taps(convolution.weights)
        values, winners = kernels.first_winners(scan, taps, convolution.bias)
        return values[None], winners[None]
    pooled = [(length - 2) // 3 for length in inputs.shape[1:4]]
    seen = [slice(count * 3 + 2) for count in pooled]  # the pooling drops what is left over
    outputs = convolution.forward(inputs[:, *seen], convolution.weights)
    outputs = np.ascontiguousarray(ops.convert_to_numpy(outputs)[0])
    values, winners = kernels.winners_of(outputs)
    values += convolution.bias
    return values[None], winners[None]


def parts(node: Node, values: list, arriving) -> list:
    """What arrives at a concatenation, in the parts that it was made of.

    Parameters
    ----------
    node : Node
    values : list
        Of all nodes.
    arriving : array
        At the outputs of the node.
    """
    lengths = [values[source].shape[node.what] for source in node.inputs]
    return ops.split(ops.convert_to_tensor(arriving), np.cumsum(lengths)[:-1].tolist(), node.what)


def accumulate(arriving: dict, index: int, values) -> None:
    """Add what arrives at a node to what has arrived there from other nodes."""
    if index in arriving:
        values = ops.convert_to_tensor(arriving[index]) + ops.convert_to_tensor(values)
    arriving[index] = values
