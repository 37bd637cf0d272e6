"""Other ways of explaining a logit f(x), voxel by voxel, to compare LRP with.

gradient                df/dx (Simonyan et al. 2014, arXiv:1312.6034).
input_x_gradient        x df/dx (Shrikumar et al. 2017, arXiv:1704.02685).
integrated_gradients    (x - x0) times the mean of df/dx on the line from x0 to x, by midpoints; sums to f(x) - f(x0) (Sundararajan et
                        al. 2017, arXiv:1703.01365).
smoothgrad              mean of df/dx at x + n, n normal with a standard deviation of `noise` times the range of x (Smilkov et al. 2017,
                        arXiv:1706.03825).
guided_backpropagation  df/dx where each activation hands back positive values only; with ELU and LeakyReLU times their derivative, as
                        with ReLU (Springenberg et al. 2015, arXiv:1412.6806, stated there for ReLU).
occlusion               f(x) - f(x with a cube set to x0), for each voxel the mean over the cubes that cover it (Zeiler and Fergus 2014,
                        doi:10.1007/978-3-319-10590-1_53).

Gradients are computed on `msxai.lrp.graph`, so on any Keras backend; at a tie of max pooling the first voxel gets all.
"""

import os
from itertools import product

import keras
import numpy as np
import pandas as pd
from keras import ops

from msxai.base.errors import ParameterError
from msxai.base.parameters import one_of
from msxai.lrp import engine, graph, occlusion, rules
from msxai.model import kernels, network

METHODS = (
    "gradient",
    "input_x_gradient",
    "integrated_gradients",
    "smoothgrad",
    "guided_backpropagation",
    "occlusion",
)
ONE_PASS = ("gradient", "input_x_gradient", "guided_backpropagation")
FASTER = {
    "integrated_gradients": {"steps": 8},
    "smoothgrad": {"steps": 8},
    "occlusion": {"size": 12},
}  # where many maps are compared


def explain(
    model: keras.Model,
    volumes,
    method: str = "input_x_gradient",
    target: int | None = None,
    *,
    baseline: float = 0.0,
    steps: int = 32,
    noise: float = 0.1,
    size: int = 9,
    stride: int | None = None,
    seed: int = 0,
    dtype: str = "float32",
) -> engine.Explanation:
    """Explain the logit of each volume.

    Parameters
    ----------
    model, volumes, target, dtype
        As for `msxai.lrp.explain`.
    method : str
        One of `METHODS`.
    baseline : float
        x0 of integrated gradients and occlusion; 0 is the mean of a scan that was z-scored.
    steps : int
        Points on the line (integrated gradients) or noisy copies (SmoothGrad).
    noise : float
        Of SmoothGrad, as a share of the range of the volume.
    size, stride : int
        Edge of the cube of occlusion, and the voxels from one to the next (by default its edge).
    seed : int
        Of the noise.

    Returns
    -------
    msxai.lrp.Explanation
        `relevance` in units of the logit (gradient, SmoothGrad, guided backpropagation: logit a unit of intensity); no audit.

    Raises
    ------
    ParameterError
        Unknown method, with the nearest known one; an impossible target, size or number of steps; volumes of a wrong shape.
    EngineError
        A layer that is not known, by name.
    """
    one_of("method", method, METHODS)
    for name, value in (
        ("steps", steps),
        ("size", size),
        ("stride", size if stride is None else stride),
    ):
        if value < 1:
            raise ParameterError(name, f"{value}", "1 or more", "Leave it out for the usual value.")
    plan = graph.read(model, dtype)
    found, logits = [], []
    for volume in volumes:
        x = engine.volume(volume, plan.shape, dtype)
        output = ops.convert_to_numpy(graph.forward(plan, x[None], _fused(plan))[0][-1])
        unit = int(engine.unit(output, target)[0])
        logits.append(float(output[0, unit]))
        if method == "occlusion":
            found.append(_occlusion(plan, x, unit, logits[-1], baseline, size, stride or size))
        elif method == "integrated_gradients":
            points = (baseline + (x - baseline) * ((step + 0.5) / steps) for step in range(steps))
            found.append((x - baseline) * _mean(_gradient(plan, point, unit) for point in points))
        elif method == "smoothgrad":
            rng, spread = np.random.default_rng(seed), noise * np.ptp(x)
            points = (x + rng.normal(0, spread, x.shape).astype(dtype) for _ in range(steps))
            found.append(_mean(_gradient(plan, point, unit) for point in points))
        else:
            gradient = _gradient(plan, x, unit, guided=method == "guided_backpropagation")
            found.append(x * gradient if method == "input_x_gradient" else gradient)
    return _explanation(found, logits, method, dtype)


def explain_each(
    model, volumes, methods, target=None, *, options=None, threads=0, dtype="float32"
) -> dict:
    """As `explain`, by several methods; those of one backward pass (`ONE_PASS`) share the forward pass.

    Parameters
    ----------
    methods : sequence of str
    options : dict, optional
        Method to the options that `explain` takes for it.
    threads : int
        Of `msxai.model.kernels`.

    Returns
    -------
    dict
        Method to `msxai.lrp.Explanation`; equal to that of `explain` to rounding.
    """
    for method in methods:
        one_of("method", method, METHODS)
    with kernels.threads(threads or os.cpu_count()):
        found = {
            method: explain(
                model, volumes, method, target, dtype=dtype, **(options or {}).get(method, {})
            )
            for method in methods
            if method not in ONE_PASS
        }
    shared, plan, maps, logits = (
        [method for method in methods if method in ONE_PASS],
        graph.read(model, dtype),
        {},
        [],
    )
    with kernels.threads(threads or os.cpu_count()):
        for volume in volumes if shared else ():
            x = engine.volume(volume, plan.shape, dtype)
            done = graph.forward(plan, x[None], _fused(plan))
            unit = int(engine.unit(output := ops.convert_to_numpy(done[0][-1]), target)[0])
            logits.append(float(output[0, unit]))
            plain = (
                _gradient(plan, x, unit, done=done)
                if {"gradient", "input_x_gradient"} & set(shared)
                else None
            )
            for method in shared:
                one = (
                    _gradient(plan, x, unit, True, done)
                    if method == "guided_backpropagation"
                    else plain
                )
                maps.setdefault(method, []).append(x * one if method == "input_x_gradient" else one)
    return {
        method: found[method]
        if method in found
        else _explanation(maps[method], logits, method, dtype)
        for method in methods
    }


def maps(model, volume, names, epsilon: float = 1e-3, *, threads: int = 0) -> dict:
    """Maps of one scan by rules of LRP and by methods of this module alike, for comparisons; `FASTER` options of the latter.

    Parameters
    ----------
    model : keras.Model
    volume : ndarray of shape (X, Y, Z)
    names : sequence of str
        Of `msxai.lrp.rules.NAMES` and `METHODS`.
    epsilon : float
        Of the epsilon rule.
    threads : int
        Of `msxai.model.kernels`.

    Returns
    -------
    dict
        Name to float array of shape (X, Y, Z), in the order of `names`.

    Raises
    ------
    ParameterError
        Unknown name, with the nearest known one.
    """
    for name in names:
        one_of("map", name, [*rules.NAMES, *METHODS])
    ruled, others = (
        [name for name in names if (name in METHODS) == method] for method in (False, True)
    )
    found = (
        engine.explain_each(model, volume[None, ..., None], ruled, epsilon, threads=threads)
        if ruled
        else {}
    )
    found |= (
        explain_each(model, volume[None, ..., None], others, options=FASTER, threads=threads)
        if others
        else {}
    )
    return {name: found[name].relevance[0, ..., 0] for name in names}


def _explanation(maps, logits, method, dtype) -> engine.Explanation:
    return engine.Explanation(
        np.stack(maps).astype(dtype),
        np.array(logits),
        pd.DataFrame(columns=engine.AUDIT),
        method,
        float("nan"),
        "msxai",
    )


def _mean(maps) -> np.ndarray:
    total = count = 0
    for one in maps:
        total, count = total + one.astype(float), count + 1
    return total / count


def _fused(plan) -> dict:
    """Convolutions that `msxai.model.kernels` compute with their pooling: on a CPU."""
    return {} if network.on_gpu() else plan.fused


def _gradient(plan, x, unit, guided=False, done=None) -> np.ndarray:
    """df/dx of one volume, of its shape. `done`: what `graph.forward` gave."""
    fused = _fused(plan)
    values, winners = done or graph.forward(plan, x[None], fused)
    start = np.zeros(values[-1].shape, x.dtype)
    start[0, unit] = 1
    slopes = {len(values) - 1: start}
    for place in reversed(range(1, len(plan.nodes))):
        if place in fused.values():
            continue
        node, arriving = plan.nodes[place], slopes.pop(place)
        sources, inputs = node.inputs, values[node.inputs[0]]
        if place in fused:  # a convolution with its pooling
            sources, what = plan.nodes[fused[place]].inputs, plan.nodes[fused[place]].what
            given = (
                np.ascontiguousarray(ops.convert_to_numpy(arriving)[0]),
                kernels.taps(what.weights),
                winners[place][0],
            )
            passed = kernels.scatter(*given, np.ones(values[sources[0]].shape[1:], x.dtype))[None]
        elif node.kind == "affine":
            passed = node.what.backward(arriving, node.what.weights, ops.ones_like(inputs))
        elif node.kind == "max":
            passed = node.what.hand_back(winners[place], arriving, inputs.shape)
        elif node.kind == "mean":
            passed = node.what.spread(arriving / graph.counts(node.what, inputs), inputs.shape)
        elif isinstance(node.what, graph.Activation):
            arriving = ops.maximum(arriving, 0) if guided else arriving
            passed = arriving * node.what.derivative(inputs)
        else:
            passed = ops.reshape(arriving, inputs.shape)
        for source in sources:
            slopes[source] = slopes[source] + passed if source in slopes else passed
    return ops.convert_to_numpy(slopes[0])[0]


def _occlusion(plan, x, unit, logit, baseline, size, stride) -> np.ndarray:
    """Mean loss of the logit over the cubes that cover a voxel, of the shape of x."""
    total, count, before = np.zeros(x.shape), np.zeros(x.shape), None
    if _fused(plan):
        before = graph.forward(plan, x[None], plan.fused)[0]
    for corner in product(*(range(0, length, stride) for length in x.shape[:3])):
        ends = [
            (start, min(start + size, length))
            for start, length in zip(corner, x.shape[:3], strict=True)
        ]
        cube = tuple(slice(*one) for one in ends)
        if np.all(x[cube] == baseline):
            loss = 0.0  # nothing changes
        else:
            covered = x.copy()
            covered[cube] = baseline
            output = (
                occlusion.output(plan, before, covered[None], ends)
                if before
                else graph.forward(plan, covered[None], {})[0][-1]
            )
            loss = logit - float(ops.convert_to_numpy(output)[0, unit])
        total[cube] += loss
        count[cube] += 1
    return total / np.maximum(count, 1)
