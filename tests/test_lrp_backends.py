"""msxai.lrp on another backend of Keras gives what it gives on TensorFlow."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

# The network is built anew from arrays: weights and volume travel as .npz, relevance comes back as .npy.
SCRIPT = """
import sys
import keras, numpy as np
from msxai import lrp, network
assert keras.backend.backend() == "jax"
with np.load(sys.argv[1]) as file:
    model = network.build(2, tuple(file["volume"].shape[1:4]))
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([file[f"{layer.name}/kernel"], file[f"{layer.name}/bias"]])
    found = [lrp.explain(model, file["volume"], rule, compiled=False).relevance for rule in sys.argv[3:]]
np.save(sys.argv[2], np.stack(found))
"""
RULES = ("epsilon", "alpha2_beta1", "epsilon_gamma_box", "epsilon_plus_flat")


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed (python -m pip install jax)")
def test_jax_explains_as_tensorflow_does(tmp_path):
    from test_network import SMALL, with_weights

    from msxai import lrp, network

    model, volume = with_weights(2, SMALL, seed=3), np.random.default_rng(4).normal(size=(1, *SMALL, 1)).astype("float32")
    np.savez(tmp_path / "job.npz", volume=volume, **network.weights(model))
    command = [sys.executable, "-c", SCRIPT, tmp_path / "job.npz", tmp_path / "found.npy", *RULES]
    run = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    for rule, found in zip(RULES, np.load(tmp_path / "found.npy"), strict=True):
        expected = lrp.explain(model, volume, rule).relevance
        assert np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected), rule
