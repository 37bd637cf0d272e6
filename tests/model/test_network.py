"""The network against the paper's numbers and against itself with pooling after the ELU."""

import numpy as np
import pytest
import tensorflow as tf
from support.networks import SMALL, with_weights

from msxai.base.errors import ParameterError
from msxai.model import network

LARGER = (73, 72, 71)


def test_the_papers_network_has_333889_weights():
    model = network.build()
    assert model.count_params() == 333_889
    assert model.get_layer("flatten").output.shape == (None, 128)
    assert model.output_shape == (None, 1)


def test_l2_stands_on_the_third_and_fourth_convolution_only():
    model = network.build(2)
    assert [name for name in network.CONVOLUTIONS if model.get_layer(name).kernel_regularizer] == [
        "conv3",
        "conv4",
    ]
    assert float(model.get_layer("conv3").kernel_regularizer.l2) == pytest.approx(0.01)


@tf.function(reduce_retracing=True)
def gradients(model, volume):
    """Logit and its slopes; compiled, where oneDNN (`msxai.model.network` sees that it is on) hands the slope of tied maxima to one of them."""
    with tf.GradientTape() as tape:
        tape.watch(volume)
        logit = model(volume)
    return logit, tape.gradient(
        logit, [volume, *(variable.value for variable in model.trainable_variables)]
    )


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        (SMALL, None),
        (LARGER, ((0, 72), (0, 71), (0, 70))),
        (LARGER, ((12, 50), (3, 69), (20, 55))),
        (LARGER, ((13, 49), (4, 70), (21, 56))),
        (LARGER, ((14, 51), (5, 71), (22, 57))),
        (LARGER, ((35, 35), (0, 2), (69, 70))),
    ],
)
def test_the_fast_network_has_the_values_and_gradients_of_the_papers_order(shape, box):
    """Pooling before the ELU, convolution and pooling as one layer by the kernels: the same function of weights and volume."""
    volume = np.zeros((2, *shape, 1), "float32")
    inside = (slice(None), *(slice(low, high + 1) for low, high in box)) if box else slice(None)
    volume[inside] = np.random.default_rng(1).normal(size=volume[inside].shape)
    found = []
    for options in ({}, {"fast": True}):
        model = with_weights(shape=shape, **options)
        found.append((model, *gradients(model, tf.constant(volume))))
    (paper, logit, slopes), (fast, fast_logit, fast_slopes) = found
    assert [layer.name for layer in paper.layers][:3] == ["conv1", "elu1", "pool1"]
    assert [layer.name for layer in fast.layers][:3] == ["conv1", "elu1", "dropout1"]
    assert list(network.weights(paper)) == list(network.weights(fast))
    np.testing.assert_allclose(fast_logit, logit, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        fast(volume), logit, rtol=1e-4, atol=1e-5
    )  # not compiled by TensorFlow
    inner = np.ones(volume.shape, bool) if box is None else np.zeros(volume.shape, bool)
    inner[inside] = (
        True  # where all is 0 the maxima tie, and the two orders may differ in whom they hand the slope to
    )
    largest = max(np.abs(slope).max() for slope in slopes[1:])
    np.testing.assert_allclose(
        fast_slopes[0][inner], slopes[0][inner], rtol=1e-3, atol=1e-5 * np.abs(slopes[0]).max()
    )
    for one, other in zip(slopes[1:], fast_slopes[1:], strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-5 * largest)


def test_weights_survive_the_disk(tmp_path):
    model, path = with_weights(shape=(96, 114, 96)), tmp_path / "weights.npz"
    network.save_weights(model, path)
    restored = network.restore(path)
    for name, value in network.weights(model).items():
        np.testing.assert_array_equal(network.weights(restored)[name], value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["weights.npz"]


def test_weights_of_another_width_are_refused_by_name(tmp_path):
    network.save_weights(with_weights(2), tmp_path / "weights.npz")
    with pytest.raises(
        ParameterError,
        match=r"conv1/kernel: found shape \(3, 3, 3, 1, 2\); expected shape \(3, 3, 3, 1, 4\)",
    ):
        network.load_weights(network.build(4, SMALL), tmp_path / "weights.npz")


@pytest.mark.parametrize("content", [None, b"", b"<html>"])
def test_no_weights_file_is_one_clear_error(tmp_path, content):
    path = tmp_path / "weights.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ParameterError, match=r"weights\.npz: found .* expected a weights file"):
        network.restore(path)


def test_equal_seeds_give_equal_weights():
    values = []
    for seed in (3, 3, 4):
        network.configure(seed, 1)
        values.append(network.weights(network.build(2))["conv1/kernel"])
    np.testing.assert_array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])


def test_threads_cannot_change_in_a_running_kernel():
    network.configure(0, 1)
    network.build(1, SMALL)(np.zeros((1, *SMALL, 1), "float32"))
    with pytest.raises(ParameterError, match="Restart the kernel"):
        network.configure(0, 2)


def test_probability_is_the_sigmoid():
    np.testing.assert_allclose(network.probability([0.0, np.log(3)]), [0.5, 0.75])
