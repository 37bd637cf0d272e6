"""msxai.lrp gives the same on another backend of Keras, and with TensorFlow's oneDNN on or off."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

# The network is built anew from arrays in a process of its own: weights and volume travel as .npz,
# relevance comes back as .npy.
SCRIPT = """
import sys
import keras, numpy as np
from msxai import lrp
from msxai.model import network
assert keras.backend.backend() == sys.argv[3]
with np.load(sys.argv[1]) as file:
    model = network.build(2, tuple(file["volume"].shape[1:4]))
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([file[f"{layer.name}/kernel"], file[f"{layer.name}/bias"]])
    switches = (False,) if sys.argv[4] == "plain" else (False, True)
    maps = []
    for rule in sys.argv[5:]:
        for compiled in switches:
            computation = lrp.Computation(compiled=compiled)
            explanation = lrp.explain(model, file["volume"], rule, computation=computation)
            maps.append(explanation.relevance)
np.save(sys.argv[2], np.stack(maps))
"""
RULES = ("epsilon", "alpha2_beta1", "epsilon_gamma_box", "epsilon_plus_flat")


def distance(relevance, expected):
    return np.linalg.norm(relevance - expected) / np.linalg.norm(expected)


def explained(folder, model, volume, backend, *arguments, **environment):
    """Relevance from a process of its own, one map a job of SCRIPT."""
    from msxai.model import network

    np.savez(folder / "job.npz", volume=volume, **network.weights(model))
    command = [
        sys.executable,
        "-c",
        SCRIPT,
        folder / "job.npz",
        folder / "relevance.npy",
        backend,
        *arguments,
    ]
    run = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return np.load(folder / "relevance.npy")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_explains_as_tensorflow_does(tmp_path, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed (python -m pip install {backend})")
    from support.networks import SMALL, with_weights
    from support.ties import near_ties

    from msxai import lrp

    model = with_weights(2, SMALL, seed=3)
    volume = np.random.default_rng(4).normal(size=(1, *SMALL, 1)).astype("float32")
    assert near_ties(model, volume) == 0
    maps = explained(tmp_path, model, volume, backend, "plain", *RULES, KERAS_BACKEND=backend)
    for rule, relevance in zip(RULES, maps, strict=True):
        assert distance(relevance, lrp.explain(model, volume, rule).relevance) <= 1e-4, rule


@pytest.mark.long(reason="two processes that compile the network, 35 s")
def test_ties_are_broken_alike_with_and_without_onednn_and_kernels(tmp_path):
    """Nothing outside the "brain", blocks of equal voxels in it: many windows hold equal values."""
    from support.networks import SMALL, with_weights

    from msxai import lrp

    model, volume = with_weights(2, SMALL, seed=3), np.zeros((1, *SMALL, 1), "float32")
    blocks = np.random.default_rng(4).normal(size=[-(-(length - 12) // 8) for length in SMALL])
    volume[0, 6:-6, 6:-6, 6:-6, 0] = np.kron(blocks, np.ones((8, 8, 8)))[
        tuple(slice(length - 12) for length in SMALL)
    ]
    switch = {"0": "1", "1": "0"}[os.environ["TF_ENABLE_ONEDNN_OPTS"]]  # the other than here
    maps = explained(
        tmp_path, model, volume, "tensorflow", "both", "epsilon", TF_ENABLE_ONEDNN_OPTS=switch
    )
    here = []
    for compiled in (False, True):
        computation = lrp.Computation(compiled=compiled)
        here.append(lrp.explain(model, volume, "epsilon", computation=computation).relevance)
    first, *further = np.concatenate([maps, here])
    for relevance in further:
        assert distance(relevance, first) <= 1e-4
