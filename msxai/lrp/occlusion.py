"""What a network makes of a scan of which one box has changed: early layers see the box alone, so only there they are computed again."""

import numpy as np
from keras import ops

from msxai.lrp import graph

REACH = 5  # voxels along an axis that one cell of a convolution of 3 and a pooling of 3 sees; from one cell to the next are 3


def output(plan: graph.Graph, values: list, batch, box) -> np.ndarray:
    """Output of the last node, to rounding that of `msxai.lrp.graph.forward`.

    Parameters
    ----------
    plan : msxai.lrp.graph.Graph
        Layers that are neither in `plan.fused` nor an activation behind one that is are computed as a whole.
    values : list
        From `msxai.lrp.graph.forward`, with `plan.fused`, for the scan before the change.
    batch : ndarray of shape (1, X, Y, Z, C)
        The scan after it.
    box : sequence of (int, int)
        First voxel and the one after the last that differ, along x, y, z.

    Returns
    -------
    ndarray of shape (1, K)
    """
    found, boxes = list(values), {}
    for place, node in enumerate(plan.nodes):
        if node.kind == "input":
            found[place], boxes[place] = batch, [tuple(map(int, one)) for one in box]
        elif place in plan.fused.values():
            continue  # its pooling computes it
        elif place in plan.fused and (source := plan.nodes[plan.fused[place]].inputs[0]) in boxes:
            cells = [
                (max(-((REACH - 1 - start) // 3), 0), min((stop - 1) // 3 + 1, count))
                for (start, stop), count in zip(
                    boxes[source], values[place].shape[1:4], strict=True
                )
            ]
            boxes[place] = cells
            seen = tuple(slice(3 * first, 3 * last + REACH - 3) for first, last in cells)
            if all(first < last for first, last in cells):
                part = graph.convolve_and_pool(
                    plan.nodes[plan.fused[place]].what, found[source][:, *seen]
                )[0]
                found[place] = _patched(values[place], part, cells)
        elif isinstance(node.what, graph.Activation) and node.inputs[0] in boxes:
            boxes[place] = cells = boxes[node.inputs[0]]
            part = node.what(found[node.inputs[0]][:, *(slice(*one) for one in cells)])
            found[place] = _patched(values[place], part, cells)
        else:
            found[place] = graph.value(plan, place, found, plan.fused)[0]
    return ops.convert_to_numpy(found[-1])


def _patched(values, part, cells) -> np.ndarray:
    whole = np.array(ops.convert_to_numpy(values))
    whole[:, *(slice(*one) for one in cells)] = ops.convert_to_numpy(part)
    return whole
