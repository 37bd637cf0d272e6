"""msxai.lrp gives the same on another backend of Keras, and with TensorFlow's oneDNN on or off."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import msxai

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


class OfKernels(np.ndarray):
    """What a kernel gives; refuses a tensor at its right, as each array does with PyTorch."""

    def refuse(self, other, operation):
        from keras import ops

        assert not ops.is_tensor(other), "an array of numpy meets a tensor"
        return operation(np.asarray(self), other)

    def __mul__(self, other):
        return self.refuse(other, np.multiply)

    def __truediv__(self, other):
        return self.refuse(other, np.divide)

    def __add__(self, other):
        return self.refuse(other, np.add)

    def __sub__(self, other):
        return self.refuse(other, np.subtract)


def of_kernels(function):
    def wrapped(*arguments):
        results = function(*arguments)
        if isinstance(results, tuple):
            return tuple(array.view(OfKernels) for array in results)
        return results.view(OfKernels)

    return wrapped


def network_behind_kernels():
    """A layer of each kind reads what the kernels compute: sum, activations, means, a dense one."""
    import keras
    from keras import layers
    from support.layers import filled

    source = keras.Input((17, 17, 17, 1))
    pooled = []
    for activation in ("silu", "gelu", "elu"):
        convolved = layers.Conv3D(2, 3)(source)
        pooled.append(layers.Activation(activation)(layers.MaxPooling3D(3)(convolved)))
    pooled.append(layers.MaxPooling3D(3)(layers.Conv3D(2, 3)(source)))
    pooled.append(layers.MaxPooling3D(3)(layers.Conv3D(2, 3)(source)))
    total = layers.Add()(pooled)
    mean = layers.AveragePooling3D(2)(layers.MaxPooling3D(3)(layers.Conv3D(2, 3)(source)))
    joined = layers.Concatenate()([layers.Flatten()(total), layers.Flatten()(mean)])
    return filled(keras.Model(source, layers.Dense(1)(joined)))


@pytest.mark.parametrize(
    "way", ["epsilon", "gamma", "gradient", "guided_backpropagation", "integrated_gradients"]
)
def test_no_array_of_the_kernels_meets_a_tensor(one_thread, monkeypatch, way):
    """TensorFlow multiplies an array by a tensor, PyTorch does not."""
    from msxai import lrp
    from msxai.model import kernels

    for name in ("first_winners", "winners_of", "scatter", "gather"):
        monkeypatch.setattr(kernels, name, of_kernels(getattr(kernels, name)))
    volume = np.random.default_rng(3).normal(size=(1, 17, 17, 17, 1)).astype("float32")
    computation = lrp.Computation(compiled=True)
    map_ = lrp.explain(network_behind_kernels(), volume, way, computation=computation).relevance
    assert np.abs(map_).max() > 0


def test_no_operation_is_used_that_rounds_float64_on_pytorch():
    """Keras's rules of promotion know no float64 there, and these operations ask them."""
    for file in sorted(Path(msxai.__file__).parent.glob("lrp/*.py")):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"\b(ops|xp)\.(maximum|minimum|matmul|dot|tensordot)\(", text), file


def test_float64_is_refused_where_the_backend_rounds_it(one_thread, monkeypatch):
    import keras
    from support.networks import SMALL, with_weights

    from msxai import lrp
    from msxai.base.errors import ParameterError

    monkeypatch.setattr(keras.backend, "standardize_dtype", lambda dtype: "float32")
    volume = np.zeros((1, *SMALL, 1))
    computation = lrp.Computation(dtype="float64")
    with pytest.raises(ParameterError, match="computes in float32; expected 'float32', or a back"):
        lrp.explain(with_weights(1, SMALL), volume, "epsilon", computation=computation)


@pytest.mark.long(reason="all tests of this box, 1.5 to 4 minutes; skipped without PyTorch")
def test_the_tests_of_this_box_pass_on_pytorch():
    """As in the environment of a GPU; those of iNNvestigate are skipped there."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed (make setup GPU=1, or python -m pip install torch)")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-m",
        "not long",
        "-p",
        "no:cacheprovider",
    ]
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    run = subprocess.run(
        [*command, Path(__file__).parent],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:]


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
