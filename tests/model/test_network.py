"""The network against the paper's numbers and against a slow float64 twin."""

import functools
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import paper_network
from support.networks import SMALL, with_weights

from msxai.base.errors import ParameterError
from msxai.model import kernels, network

LARGER = (73, 72, 71)
BOXES = [  # shape of a volume, and the voxels that are not 0 in it: first and last along x, y, z
    (SMALL, ((0, 70), (0, 70), (0, 70))),
    (LARGER, ((0, 72), (0, 71), (0, 70))),
    (LARGER, ((12, 50), (3, 69), (20, 55))),
    (LARGER, ((13, 49), (4, 70), (21, 56))),
    (LARGER, ((14, 51), (5, 71), (22, 57))),
    (LARGER, ((35, 35), (0, 2), (69, 70))),
]
CLEAR = 5e-6
"""Margin of a winner that float32 cannot mistake: its sums of 27 products err by some 3e-7."""


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
    """Logits and the gradients of their sum by volume and weights; compiled, as in training."""
    with tf.GradientTape() as tape:
        tape.watch(volume)
        logits = model(volume)
    weights = [variable.value for variable in model.trainable_variables]
    return logits, tape.gradient(logits, [volume, *weights])


def random_box(shape, box, seed):
    """Two volumes that are 0 outside a box (first and last voxel along each axis), and where the
    box is.
    """
    inside = np.zeros((2, *shape, 1), bool)
    inside[(slice(None), *(slice(first, last + 1) for first, last in box))] = True
    volume = np.zeros(inside.shape, "float32")
    volume[inside] = np.random.default_rng(seed).normal(size=inside.sum())
    return volume, inside


@functools.cache
def without_near_ties(shape, box):
    """Volumes on which rounding cannot choose another winner, and the twin's passes on them.

    Where the two highest values of any window are too near for float32, another seed is taken. The
    twin decides in float64, so all machines take the same seed.
    """
    weights = network.weights(with_weights(shape=shape))
    for seed in range(1, 50):
        volume, inside = random_box(shape, box, seed)
        twin = paper_network.passes(weights, volume)
        if twin.margin > CLEAR:
            return volume, inside, twin
    raise AssertionError("no volume without near-ties among 49")


def assert_equals_twin(model, volume, inside, twin):
    """Compare a network's float32 logits and gradients with the float64 twin's.

    Outside the box all is 0 and maxima tie: the gradient by the voxels there may go to any of them.
    """
    logits, (by_volume, *by_weight) = gradients(model, tf.constant(volume))
    np.testing.assert_allclose(logits, twin.logits, rtol=1e-4, atol=1e-5)
    by_volume = by_volume.numpy()
    limit = 1e-5 * np.abs(twin.by_volume).max()
    np.testing.assert_allclose(by_volume[inside], twin.by_volume[inside], rtol=1e-3, atol=limit)
    names = list(network.weights(model))
    limit = 1e-5 * max(np.abs(slope).max() for slope in twin.by_weight.values())
    for name, slope in zip(names, by_weight, strict=True):
        expected = twin.by_weight[name]
        np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=limit, err_msg=name)


@pytest.mark.parametrize(("shape", "box"), BOXES)
def test_the_networks_have_the_values_and_gradients_of_the_papers_order(shape, box):
    """Pooling before the ELU, by the kernels: the same function of weights and volume."""
    paper = with_weights(shape=shape)
    fast = with_weights(shape=shape, fast=True)
    assert [layer.name for layer in paper.layers][:3] == ["conv1", "elu1", "pool1"]
    assert [layer.name for layer in fast.layers][:3] == ["conv1", "elu1", "dropout1"]
    assert list(network.weights(paper)) == list(network.weights(fast))
    volume, inside, twin = without_near_ties(shape, box)
    assert_equals_twin(fast, volume, inside, twin)
    not_compiled = fast(volume)
    np.testing.assert_allclose(not_compiled, twin.logits, rtol=1e-4, atol=1e-5)
    # Without oneDNN TensorFlow hands the gradient of tied maxima to all of them, and its sums leave
    # a tie in one window that has none in float64. The package switches oneDNN on.
    if os.environ["TF_ENABLE_ONEDNN_OPTS"] != "0":
        assert_equals_twin(paper, volume, inside, twin)
    np.testing.assert_allclose(paper(volume), twin.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", ["first_winners", "winners_of"])
def test_one_wrong_winner_is_noticed(monkeypatch, kernel):
    right = getattr(kernels, kernel)

    def wrong(*arrays):
        values, winners = right(*arrays)
        middle = tuple(length // 2 for length in winners.shape[:3])
        winners[middle] = (winners[middle] + 1) % 27
        return values, winners

    monkeypatch.setattr(kernels, kernel, wrong)
    shape, box = BOXES[0]
    fast = with_weights(shape=shape, fast=True)
    volume, inside, twin = without_near_ties(shape, box)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_equals_twin(fast, volume, inside, twin)


def test_one_wrong_weight_is_noticed():
    shape, box = BOXES[0]
    fast = with_weights(shape=shape, fast=True)
    volume, inside, twin = without_near_ties(shape, box)
    kernel = fast.get_layer("conv2").kernel
    changed = kernel.numpy()
    changed[0, 1, 2, 0, 1] *= 1.01
    kernel.assign(changed)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_equals_twin(fast, volume, inside, twin)


def test_weights_survive_the_disk(tmp_path):
    model, path = with_weights(shape=(96, 114, 96)), tmp_path / "weights.npz"
    network.save_weights(model, path)
    restored = network.restore(path)
    for name, value in network.weights(model).items():
        np.testing.assert_array_equal(network.weights(restored)[name], value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["weights.npz"]
    assert type(restored.get_layer("conv1")) is keras.layers.Conv3D
    fast = network.restore(path, fast=True)
    assert isinstance(fast.get_layer("conv1"), network.ConvolutionPool)
    scan = np.random.default_rng(0).normal(size=(1, 96, 114, 96, 1)).astype("float32")
    np.testing.assert_allclose(fast(scan), restored(scan), rtol=1e-4, atol=1e-5)


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


def test_a_folder_in_place_of_weights_is_one_clear_sentence(tmp_path):
    with pytest.raises(ParameterError) as caught:
        network.restore(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: found a folder; expected a weights file")


def infinite(values):
    return np.full_like(values, np.inf)


def one_nan(values):
    values = values.copy()
    values.flat[-1] = np.nan
    return values


def too_large_for_float32(values):
    return np.full(values.shape, 1e300)


def as_text(values):
    return values.astype("U8")


def as_complex(values):
    return values.astype("complex64")


def as_whole_numbers(values):
    return values.astype(int)


NOT_FINITE = r"\d+ of \d+ weights that are NaN or infinite; expected finite weights"
NO_NUMBERS = r"values of type .*; expected floating-point numbers"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (infinite, NOT_FINITE),
        (one_nan, NOT_FINITE),
        (too_large_for_float32, NOT_FINITE),
        (as_text, NO_NUMBERS),
        (as_complex, NO_NUMBERS),
        (as_whole_numbers, NO_NUMBERS),
    ],
)
@pytest.mark.parametrize("read", ["restore", "load_weights", "load_convolutions", "head_of"])
def test_weights_that_are_no_finite_numbers_are_refused(tmp_path, spoil, words, read):
    """Every array, by every reader of weights files."""
    model = network.build(1)
    arrays = network.weights(model)
    before = network.weights(model)
    readers = {
        "restore": network.restore,
        "load_weights": lambda path: network.load_weights(model, path),
        "load_convolutions": lambda path: network.load_convolutions(model, path),
        "head_of": network.head_of,
    }
    for name in arrays:
        np.savez(tmp_path / "weights.npz", **{**arrays, name: spoil(arrays[name])})
        with pytest.raises(ParameterError, match=f"npz, {name}: found {words}"):
            readers[read](tmp_path / "weights.npz")
    for name, values in network.weights(model).items():
        np.testing.assert_array_equal(values, before[name])


@pytest.mark.parametrize("extra", ["conv5/kernel", "conv1/other", "dense2/bias", "text", "../x"])
@pytest.mark.parametrize("read", ["restore", "load_weights", "load_convolutions"])
def test_weights_of_further_layers_are_refused(tmp_path, extra, read):
    """A deeper network was loaded without its last layers."""
    model = network.build(1)
    readers = {
        "restore": network.restore,
        "load_weights": lambda path: network.load_weights(model, path),
        "load_convolutions": lambda path: network.load_convolutions(model, path),
    }
    np.savez(tmp_path / "w.npz", **network.weights(model), **{extra: np.zeros(1, "float32")})
    with pytest.raises(ParameterError, match=f"npz, {extra}: found an entry of another network"):
        readers[read](tmp_path / "w.npz")


def test_one_array_of_another_width_builds_no_huge_network(tmp_path):
    """A network of that width would need 27 terabytes."""
    arrays = network.weights(network.build(1))
    arrays["conv1/bias"] = np.zeros(500_000, "float32")
    np.savez(tmp_path / "weights.npz", **arrays)
    with pytest.raises(ParameterError, match=r"conv1/kernel: found shape .*, 1\); expected"):
        network.restore(tmp_path / "weights.npz")


def test_a_damaged_weights_file_is_one_clear_error(tmp_path):
    """zipfile and numpy raise many errors: one changed byte at the start or the end of the file."""
    path = tmp_path / "weights.npz"
    np.savez(path, **network.weights(network.build(1)))
    content = path.read_bytes()
    refused = 0
    for offset in (*range(300), *range(len(content) - 300, len(content))):
        damaged = bytearray(content)
        damaged[offset] ^= 0xFF
        path.write_bytes(damaged)
        try:
            network.head_of(path)
        except ParameterError:
            refused += 1
    assert refused > 100


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


def test_configure_asks_the_allocator_to_keep_freed_memory(monkeypatch):
    """Without it a step takes twice the time; no result shows it."""
    calls = []

    class Allocator:
        def mallopt(self, option, value):
            calls.append(option)

    monkeypatch.setattr(network.ctypes, "CDLL", lambda name: Allocator())
    network.configure(0, 1)
    assert calls == [-3, -2], "M_MMAP_THRESHOLD and M_TOP_PAD of malloc.h"


def test_the_head_that_is_the_same_everywhere_against_numpy(one_thread):
    """Its logit from the map of the fourth convolution, and the same when the map is shuffled."""
    shape = (96, 96, 96)
    rng = np.random.default_rng(5)
    model = network.build(2, shape, head="everywhere")
    normalisation = model.get_layer("normalisation")
    normalisation.set_weights([rng.uniform(0.5, 1.5, 2) for _ in range(4)])
    volume = rng.normal(size=(1, *shape, 1)).astype("float32")
    mapped = keras.Model(model.inputs, model.get_layer("conv4").output)(volume).numpy()
    assert mapped.shape == (1, 5, 5, 5, 2)

    def logit(values):
        gamma, beta, mean, variance = (
            weight.astype(float) for weight in normalisation.get_weights()
        )
        scaled = gamma * (values - mean) / np.sqrt(variance + normalisation.epsilon) + beta
        active = np.where(scaled > 0, scaled, np.expm1(np.minimum(scaled, 0)))
        places = active.reshape(-1, 2)
        pooled = np.concatenate([places.mean(axis=0), places.max(axis=0)])
        kernel, bias = model.get_layer("dense").get_weights()
        return float(pooled @ kernel[:, 0] + bias[0])

    shuffled = rng.permutation(mapped.reshape(-1, 2)).reshape(mapped.shape)
    assert logit(mapped) == pytest.approx(float(model(volume, training=False)[0, 0]), rel=1e-4)
    assert logit(shuffled) == pytest.approx(logit(mapped))


def test_a_head_is_known_by_its_weights_and_restored(tmp_path, one_thread):
    path = tmp_path / "weights.npz"
    for head in network.HEADS:
        model = network.build(2, head=head)
        network.save_weights(model, path)
        assert network.head_of(path) == head
        for fast in (False, True):
            restored = network.restore(path, fast=fast)
            for name, values in network.weights(model).items():
                np.testing.assert_array_equal(network.weights(restored)[name], values)


def test_another_head_starts_from_the_convolutions_alone(tmp_path):
    path = tmp_path / "weights.npz"
    earlier = network.build(2)
    network.save_weights(earlier, path)
    model = network.build(2, head="everywhere")
    own_head = model.get_layer("dense").get_weights()
    network.load_convolutions(model, path)
    for name in network.CONVOLUTIONS:
        for values, expected in zip(
            model.get_layer(name).get_weights(), earlier.get_layer(name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(model.get_layer("dense").get_weights()[0], own_head[0])
    with pytest.raises(ParameterError, match="normalisation/gamma"):
        network.load_weights(model, path)
    with pytest.raises(ParameterError, match="conv1/kernel"):
        network.load_convolutions(network.build(3, head="everywhere"), path)


def test_an_unknown_head_is_refused():
    with pytest.raises(ParameterError, match="parameter head"):
        network.build(2, head="nowhere")
