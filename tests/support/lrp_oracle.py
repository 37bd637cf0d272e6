"""A slow float64 oracle of LRP: one output position at a time, every rule as its textbook formula.

It shares no code with the package. Nodes are (kind, inputs, options).
Node 0 is the input of shape (X, Y, Z, C).
"""

import functools
import math

import numpy as np


@functools.lru_cache
def windows(shape, size, strides, padding):
    """Voxels that each output position sees, and the output's shape.

    A voxel is its flat index, in C order of the window; -1 stands for the padding.
    """
    before, lengths = [], []
    for axis in range(3):
        if padding == "same":
            count = -(-shape[axis] // strides[axis])
            before.append(max((count - 1) * strides[axis] + size[axis] - shape[axis], 0) // 2)
        else:
            count = (shape[axis] - size[axis]) // strides[axis] + 1
            before.append(0)
        lengths.append(count)
    indices = np.full((np.prod(lengths), np.prod(size)), -1)
    for row, position in enumerate(np.ndindex(*lengths)):
        for column, tap in enumerate(np.ndindex(*size)):
            x, y, z = (position[a] * strides[a] + tap[a] - before[a] for a in range(3))
            if 0 <= x < shape[0] and 0 <= y < shape[1] and 0 <= z < shape[2]:
                indices[row, column] = (x * shape[1] + y) * shape[2] + z
    return indices, tuple(lengths)


def places(x, size, options):
    return windows(
        x.shape[:3], tuple(size), options.get("strides", (1, 1, 1)), options.get("padding", "valid")
    )


def away(x, epsilon):
    """Further from 0 by epsilon; 0 counts as positive."""
    return x + np.where(x >= 0, epsilon, -epsilon)


def shares(rule, x, v, bias, z, low_high):
    """What each input x (n,) gets of each output's relevance, (n, K), for z = x v + bias."""
    name, options = rule
    epsilon = options.get("stabiliser", 1e-9)
    x = x[:, None]
    above, below = np.maximum(x, 0), np.minimum(x, 0)
    up, down = np.maximum(v, 0), np.minimum(v, 0)
    if name in ("epsilon", "z"):
        return x * v / away((x * v).sum(0) + bias, epsilon)
    if name == "alpha_beta":
        plus, minus = above * up + below * down, above * down + below * up
        share = options["alpha"] * plus / away(plus.sum(0) + np.maximum(bias, 0), epsilon)
        return share - options["beta"] * minus / away(minus.sum(0) + np.minimum(bias, 0), epsilon)
    if name == "gamma":
        g = options["gamma"]
        parts = np.where(
            z >= 0,
            above * (v + g * up) + below * (v + g * down),
            above * (v + g * down) + below * (v + g * up),
        )
        offset = bias + g * np.where(z >= 0, np.maximum(bias, 0), np.minimum(bias, 0))
        return parts / away(parts.sum(0) + offset, epsilon)
    if name == "flat":
        return np.ones(v.shape) / away(len(v), epsilon)
    if name == "w_square":
        return v**2 / away((v**2).sum(0), epsilon)
    low, high = low_high
    parts = x * v - low * up - high * down
    return parts / away(parts.sum(0), epsilon)


def matrix(shape, kernel, options, transposed=False):
    """A convolution as a matrix of (inputs, outputs), NaN where nothing connects them.

    One tap at a time. Options: strides, dilation, groups, before (zeros in front) and lengths (of
    the outputs). `kernel` is (*size, C / groups, K), of a transposed convolution (*size, K, C).
    """
    strides = options.get("strides", (1, 1, 1))
    dilation = options.get("dilation", (1, 1, 1))
    before, lengths = options["before"], options["lengths"]
    groups = options.get("groups", 1)
    filters = kernel.shape[3] if transposed else kernel.shape[4]
    result = np.full((*shape, *lengths, filters), np.nan)
    small, large = (shape[:3], lengths) if transposed else (lengths, shape[:3])
    for position in np.ndindex(*small):
        for tap in np.ndindex(*kernel.shape[:3]):
            voxel = [position[a] * strides[a] + tap[a] * dilation[a] - before[a] for a in range(3)]
            if not all(0 <= voxel[a] < large[a] for a in range(3)):
                continue
            for channel in range(shape[3]):
                for k in range(filters):
                    if transposed:
                        result[(*position, channel, *voxel, k)] = kernel[(*tap, k, channel)]
                        continue
                    part = shape[3] // groups
                    if channel // part == k // (filters // groups):
                        weight = kernel[(*tap, channel % part, k)]
                        result[(*voxel, channel, *position, k)] = weight
    return result.reshape(np.prod(shape), -1)


def normalisation(x, members, gamma, beta, epsilon, centred=True):
    """Value of a normalisation, and its derivative with the deviation held fixed, as a matrix.

    `members` has one array of flat indices for each set of values that are normalised together.
    """
    flat = x.ravel()
    value, derivative = np.zeros(flat.size), np.zeros((flat.size, flat.size))
    for indices in members:
        chosen = flat[indices]
        mean = chosen.mean() if centred else 0
        deviation = math.sqrt(((chosen - mean) ** 2).mean() + epsilon)
        value[indices] = (chosen - mean) / deviation
        for j in indices:
            for k in indices:
                slope = (j == k) - (1 / len(indices) if centred else 0)
                derivative[j, k] = slope * gamma[k] / deviation
    return (value * gamma + beta).reshape(x.shape), derivative


ACTIVATIONS = {
    "elu": lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "gelu": lambda x: x * np.vectorize(lambda v: (1 + math.erf(v / math.sqrt(2))) / 2)(x),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "selu": lambda x: 1.05070098 * np.where(x > 0, x, 1.67326324 * np.expm1(np.minimum(x, 0))),
    "relu6": lambda x: np.clip(x, 0, 6),
}


FORWARD = {
    "matrix": lambda x, v, bias, _, shape: (x.ravel() @ np.nan_to_num(v) + bias).reshape(shape),
    "normalise": lambda x, *options: normalisation(x, *options[:-1])[0],
    "scale": lambda x, scale, offset, _: scale * x + offset,
    "copy": lambda x, indices: x.ravel()[indices],
}


def compute(values, kind, source, *rest):
    """Value of one node."""
    x = values[source]
    if kind == "conv":
        kernel, bias, options, _ = rest
        where, shape = places(x, kernel.shape[:3], options)
        padded = np.vstack([x.reshape(-1, x.shape[3]), np.zeros(x.shape[3])])
        return (
            padded[where].reshape(len(where), -1) @ kernel.reshape(-1, kernel.shape[4]) + bias
        ).reshape(*shape, -1)
    if kind == "dense":
        return x @ rest[0] + rest[1]
    if kind in ("max", "mean"):
        where, shape = places(x, rest[0], {"strides": rest[1], "padding": rest[2]})
        padded = np.vstack([x.reshape(-1, x.shape[3]), np.full(x.shape[3], np.nan)])
        return (np.nanmax if kind == "max" else np.nanmean)(padded[where], axis=1).reshape(
            *shape, -1
        )
    if kind == "act":
        return ACTIVATIONS[rest[0]](x)
    if kind in FORWARD:
        return FORWARD[kind](x, *rest)
    if kind == "concat":
        return np.concatenate([x, values[rest[0]]], axis=-1)
    return x.ravel() if kind == "flatten" else x + values[rest[0]]


def through_matrix(x, z, r, weights, bias, rule, _):
    """Relevance of the inputs of an affine layer that is given as a matrix."""
    passed = np.zeros(x.size)
    for output in np.flatnonzero(r):
        real = np.flatnonzero(~np.isnan(weights[:, output]))
        share = shares(
            rule,
            x.ravel()[real],
            weights[real, output][:, None],
            bias[output : output + 1],
            z.ravel()[output],
            (x.min(), x.max()),
        )
        passed[real] += share[:, 0] * r.ravel()[output]
    return passed.reshape(x.shape)


def through_normalisation(x, z, r, *options):
    """Relevance of the inputs of a normalisation whose deviation is held fixed."""
    derivative = normalisation(x, *options[:-1])[1]
    share = derivative @ (r / away(z, options[-1])).ravel()
    return x * share.reshape(x.shape)


def through_copy(x, z, r, indices):
    """Relevance of what was copied: the sum of its copies'."""
    passed = np.zeros(x.size)
    np.add.at(passed, indices, r)
    return passed.reshape(x.shape)


OTHERS = {
    "matrix": through_matrix,
    "normalise": through_normalisation,
    "scale": lambda x, z, r, scale, _, epsilon: x * scale * r / away(z, epsilon),
    "copy": through_copy,
    "act": lambda x, z, r, *_: r.reshape(x.shape),
    "flatten": lambda x, z, r: r.reshape(x.shape),
}


JOINS = {
    "add": lambda x, y, z, r, epsilon: (x * r / away(z, epsilon), y * r / away(z, epsilon)),
    "concat": lambda x, y, z, r: (r[..., : x.shape[-1]], r[..., x.shape[-1] :]),
}


def through_convolution(x, z, r, kernel, bias, options, rule):
    """Relevance of the inputs of a convolution, one output position at a time."""
    passed = np.zeros(x.shape)
    (where, _), count = places(x, kernel.shape[:3], options), len(bias)
    into, rows = passed.reshape(-1, x.shape[3]), x.reshape(-1, x.shape[3])
    weights, z, r = (
        kernel.reshape(-1, x.shape[3], count),
        z.reshape(-1, count),
        r.reshape(-1, count),
    )
    for output in np.flatnonzero(r.any(axis=1)):
        real = where[output] >= 0
        voxels = where[output][real]
        share = shares(
            rule,
            rows[voxels].ravel(),
            weights[real].reshape(-1, count),
            bias,
            z[output],
            (x.min(), x.max()),
        )
        into[voxels] += (share @ r[output]).reshape(len(voxels), -1)
    return passed


def explain(nodes, volume, target=0):
    """Relevance of the volume for unit `target` of the last node, and its logit.

    Nodes: ("conv", i, kernel, bias, options, rule), ("dense", i, weights, bias, rule),
    ("max" or "mean", i, size, strides, padding, epsilon), ("act", i, name), ("flatten", i),
    ("add", i, j, epsilon), ("matrix", i, matrix, bias, rule, shape) with `matrix` and a bias for
    each output, ("normalise", i, members, gamma, beta, epsilon, centred, stabiliser) with
    `normalisation`, ("scale", i, scale, offset, stabiliser), ("copy", i, flat index of each
    output), ("concat", i, j) along the last axis.
    """
    values = [np.asarray(volume, float)]
    for node in nodes:
        values.append(compute(values, *node))
    relevance = [np.zeros(value.shape) for value in values]
    relevance[-1][target] = values[-1][target]
    for number in range(len(nodes), 0, -1):
        kind, source, *rest = nodes[number - 1]
        x, z, r = values[source], values[number], relevance[number]
        passed = np.zeros(x.shape)
        if kind == "conv":
            passed = through_convolution(x, z, r, *rest)
        elif kind == "dense":
            passed += shares(rest[2], x, rest[0], rest[1], z, (x.min(), x.max())) @ r
        elif kind in ("max", "mean"):
            where, _ = places(x, rest[0], {"strides": rest[1], "padding": rest[2]})
            into, rows, z, r = (array.reshape(-1, x.shape[3]) for array in (passed, x, z, r))
            for output, channel in np.argwhere(r):
                voxels = where[output][where[output] >= 0]
                if kind == "max":
                    into[voxels[np.argmax(rows[voxels, channel])], channel] += r[
                        output, channel
                    ]  # the first of equal ones
                else:
                    into[voxels, channel] += (
                        rows[voxels, channel]
                        / len(voxels)
                        * r[output, channel]
                        / away(z[output, channel], rest[3])
                    )
        elif kind in OTHERS:
            passed = OTHERS[kind](x, z, r, *rest)
        elif kind in JOINS:
            passed, other = JOINS[kind](x, values[rest[0]], z, r, *rest[1:])
            relevance[rest[0]] += other
        relevance[source] += passed
    return relevance[0], values[-1][target]
