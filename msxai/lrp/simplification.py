"""Make the graph of a network simpler, and its relevance more stable, without changing its values.

Batch normalisations are merged into their neighbours (`msxai.lrp.normalisations` has the sources).
Max pooling is moved before the activation that it follows: ELU, ReLU and LeakyReLU are monotone,
so the value is the same, and the winner is decided before rounding makes ties.
"""

import numpy as np
from keras import ops

from msxai.lrp.activations import Elementwise
from msxai.lrp.graph import Graph, Node
from msxai.lrp.layers import NO_PADDING, Convolution, Dense, Pool, TransposedConvolution, flatten
from msxai.lrp.normalisations import Scale
from msxai.lrp.rearrangements import Padding

__all__ = ["simplify"]

_POOLED = Pool((3, 3, 3), (3, 3, 3))  # the max pooling that `msxai.model.kernels` compute


def simplify(graph: Graph, last: int, dtype: str) -> Graph:
    """Simplify a graph.

    Parameters
    ----------
    graph : Graph
        As the layers were read.
    last : int
        Index of the logit.
    dtype : {"float32", "float64"}
        Of the weights.
    """
    graph = _reachable(graph, last)
    # A reader of the logit: where the logit's own node is left out, it knows the new one.
    output = graph.add(Node("output", "output", [len(graph.nodes) - 1]))
    _merge_padding(graph)
    _fold(graph, dtype)
    (last,) = graph.nodes[output].inputs
    graph = _reachable(graph, last)
    _pool_first(graph)
    graph.fused = _fusable(graph)
    _mark_first(graph)
    return graph


def _reachable(graph: Graph, last: int) -> Graph:
    """The nodes that a node depends on, in order of computation: the input first, it last."""
    inputs = [index for index, node in enumerate(graph.nodes) if node.kind == "input"]
    order = {}  # keeps the order in which nodes are put in
    stack = [last, *reversed(inputs)]  # not a recursion: networks are hundreds of layers deep
    while stack:
        index = stack[-1]
        open_sources = [source for source in graph.nodes[index].inputs if source not in order]
        if open_sources:
            stack.extend(reversed(open_sources))
            continue
        order[stack.pop()] = graph.nodes[index]
    new = {index: rank for rank, index in enumerate(order)}
    nodes = list(order.values())
    for node in nodes:
        node.inputs = [new[source] for source in node.inputs]
    return Graph(nodes, graph.shape)


def _leave_out(graph: Graph, index: int) -> None:
    """Have the readers of a node read its input, because a layer next to it computes it now.

    The node stays in the list without readers, so that indices stay; `_reachable` drops it.
    """
    (source,) = graph.nodes[index].inputs
    for reader in graph.readers(index):
        inputs = graph.nodes[reader].inputs
        graph.nodes[reader].inputs = [source if old == index else old for old in inputs]
    graph.nodes[index].inputs = []


def _merge_padding(graph: Graph) -> None:
    """Give zeros that a layer adds to the convolutions that read them."""
    for index, node in enumerate(graph.nodes):
        if not isinstance(node.what, Padding):
            continue
        readers = [graph.nodes[reader].what for reader in graph.readers(index)]
        if not readers or not all(isinstance(what, Convolution) for what in readers):
            continue
        for convolution in readers:
            convolution.padding = tuple(
                (own[0] + width[0], own[1] + width[1])
                for own, width in zip(convolution.padding, node.what.widths, strict=True)
            )
        _leave_out(graph, index)


def _fold(graph: Graph, dtype: str) -> None:
    """Merge each batch normalisation into the layer before it, else into those after it.

    Where neither is possible, it stays as an affine layer of its own.
    """
    for index, node in enumerate(graph.nodes):
        if node.kind != "norm":
            continue
        source = graph.nodes[node.inputs[0]]
        if _is_foldable_back(source, node.what) and graph.readers(node.inputs[0]) == [index]:
            _fold_back(source.what, node.what)
            _leave_out(graph, index)
            continue
        after = _layers_after(graph, index)
        if node.what.weights.ndim == 1 and after:
            for affine in after:
                _fold_forward(affine, node.what)
            _leave_out(graph, index)
        else:
            node.kind = "affine"
            node.roles = ("norm",)
            node.what.weights = node.what.weights.astype(dtype)
            node.what.bias = node.what.bias.astype(dtype)


def _is_foldable_back(source: Node, norm: Scale) -> bool:
    if source.kind != "affine" or norm.weights.ndim != 1:
        return False
    return isinstance(source.what, Dense | Convolution | TransposedConvolution)


def _fold_back(affine, norm: Scale) -> None:
    """Make scale * (a w + b) + offset one affine map."""
    dtype = affine.weights.dtype
    scale = norm.weights
    by_output = scale[:, None] if isinstance(affine, TransposedConvolution) else scale
    affine.weights = (affine.weights * by_output).astype(dtype)
    affine.bias = (affine.bias * scale + norm.bias).astype(dtype)


def _layers_after(graph: Graph, index: int) -> list:
    """The dense layers and convolutions that read a node, a Flatten between or not.

    None of them where anything else reads it, too.
    """
    layers = []
    for reader in graph.readers(index):
        readers = [reader]
        kinds = Dense | Convolution
        if graph.nodes[reader].what is flatten:
            readers = graph.readers(reader)
            kinds = Dense
        for last in readers:
            if not isinstance(graph.nodes[last].what, kinds):
                return []
            layers.append(graph.nodes[last].what)
    return layers


def _fold_forward(affine, norm: Scale) -> None:
    """Make (scale * a + offset) w + b one affine map.

    Where a convolution pads with 0, it does so after the normalisation, so that fewer offsets reach
    the positions at the border: the bias then depends on the position.
    """
    dtype = affine.weights.dtype
    weights = affine.weights.astype(float)
    if isinstance(affine, Convolution) and affine.padding != NO_PADDING:
        offsets = np.broadcast_to(norm.bias, (1, *norm.shape)).astype(float)
        added = affine.forward(ops.convert_to_tensor(offsets), ops.convert_to_tensor(weights))
        added = ops.convert_to_numpy(added)
    else:
        offset = _by_input(affine, norm.bias.astype(float))
        added = (weights * offset).reshape(-1, weights.shape[-1]).sum(axis=0)
    affine.bias = (affine.bias + added).astype(dtype)
    affine.weights = (weights * _by_input(affine, norm.weights.astype(float))).astype(dtype)


def _by_input(affine, values) -> np.ndarray:
    """Values of channels as they stand at the inputs and outputs of the weights, (inputs, K)."""
    n_inputs, n_outputs = affine.weights.shape[-2:]
    groups = getattr(affine, "groups", 1)
    if groups == 1:
        repeats = n_inputs // len(values)  # voxels, where a Flatten stands between
        return np.tile(values, repeats)[:, None]
    return np.repeat(values.reshape(groups, n_inputs).T, n_outputs // groups, axis=1)


def _pool_first(graph: Graph) -> None:
    """Swap each max pooling with the activations right before it that nothing else reads.

    The nodes keep their indices and change their contents: pooling comes first in the chain,
    activations follow in their order.
    """
    for index, node in enumerate(graph.nodes):
        if node.kind != "max":
            continue
        chain = [*_activations_before(graph, index), index]
        targets = [graph.nodes[position] for position in chain]
        contents = [
            (content.name, content.kind, content.what, content.roles)
            for content in (node, *targets[:-1])
        ]
        for target, content in zip(targets, contents, strict=True):
            target.name, target.kind, target.what, target.roles = content


def _activations_before(graph: Graph, index: int) -> list[int]:
    """Indices of the activations in a row before a node that nothing else reads, first to last."""
    chain = []
    source = graph.nodes[index].inputs[0]
    while _is_monotone(graph.nodes[source]) and len(graph.readers(source)) == 1:
        chain.insert(0, source)
        source = graph.nodes[source].inputs[0]
    return chain


def _is_monotone(node: Node) -> bool:
    return isinstance(node.what, Elementwise) and node.what.monotone


def _fusable(graph: Graph) -> dict:
    """`Graph.fused`: max poolings that read a convolution which nothing else reads."""
    fused = {}
    for index, node in enumerate(graph.nodes):
        if node.kind == "max" and node.what == _POOLED:
            source = node.inputs[0]
            convolution = graph.nodes[source].what
            if (
                graph.readers(source) == [index]
                and isinstance(convolution, Convolution)
                and convolution.winners_only
            ):
                fused[index] = source
    return fused


def _mark_first(graph: Graph) -> None:
    """Give the role "first" to layers with weights that stand behind no other such layer.

    A normalisation does not count as a layer with weights.
    """
    seen = {0}
    for index, node in enumerate(graph.nodes):
        if not node.inputs or not set(node.inputs) <= seen:
            continue
        is_norm = "norm" in node.roles
        if is_norm or node.kind in ("pass", "max", "mean", "move", "concatenation"):
            seen.add(index)
        elif node.kind == "affine":
            node.roles = ("first", *node.roles)
