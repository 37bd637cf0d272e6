"""msxai.lrp.gradients against TensorFlow's own gradients, closed forms, and what the methods promise."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from support.layers import EPSILON, chain, distance, filled, with_pools
from support.networks import SMALL, with_weights

from msxai import lrp
from msxai.base.errors import ParameterError
from msxai.lrp import gradients


def gradient_of(model, volume, target=0):
    """df/dx by TensorFlow, without the head; float32, as its pooling knows nothing else."""
    headless = keras.models.clone_model(model)
    headless.set_weights(model.get_weights())
    headless.layers[-1].activation = keras.activations.linear
    x = tf.constant(volume[None], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        logit = headless(x)[0, target]
    return tape.gradient(logit, x).numpy()[0]


def networks():
    yield chain((EPSILON, EPSILON))[0], np.random.default_rng(1).normal(size=(11, 9, 10, 2)), 1
    yield with_pools((EPSILON,) * 3)[0], np.random.default_rng(2).normal(size=(26, 17, 17, 1)), 0
    source = keras.Input((6, 6, 6, 1))
    x = inner = layers.ELU(0.7)(
        layers.BatchNormalization()(layers.Conv3D(2, 3, padding="same")(source))
    )
    x = layers.Add()([layers.Conv3D(2, 3, padding="same")(x), inner])
    yield (
        filled(keras.Model(source, layers.Dense(1)(layers.Flatten()(layers.MaxPooling3D(2)(x))))),
        np.random.default_rng(3).normal(size=(6, 6, 6, 1)),
        0,
    )


def test_gradients_equal_tensorflows():
    for model, volume, target in networks():
        expected = gradient_of(
            model, volume, target
        )  # TensorFlow takes the ELU's derivative from its rounded output: 2e-4 off in the first
        assert (
            distance(gradients.explain(model, [volume], "gradient", target).relevance[0], expected)
            < 1e-3
        )
        assert (
            distance(
                gradients.explain(model, [volume], "input_x_gradient", target).relevance[0],
                volume * expected,
            )
            < 1e-3
        )


def test_integrated_gradients_add_up_to_the_difference_from_the_baseline():
    model = filled(
        keras.Sequential(
            [
                keras.Input((6, 6, 6, 1)),
                layers.Conv3D(3, 3, activation="elu"),
                layers.Flatten(),
                layers.Dense(1),
            ]
        )
    )
    volume = np.random.default_rng(3).normal(size=(6, 6, 6, 1))
    for baseline in (0.0, 0.5):
        found = gradients.explain(
            model, [volume], "integrated_gradients", baseline=baseline, steps=64, dtype="float64"
        )
        flat = gradients.explain(
            model, [np.full_like(volume, baseline)], "gradient", dtype="float64"
        )
        assert found.relevance.sum() == pytest.approx(found.logits[0] - flat.logits[0], rel=1e-3)


def linear(seed=4):
    return filled(
        keras.Sequential([keras.Input((6, 6, 6, 1)), layers.Flatten(), layers.Dense(1)]), seed
    )


def test_on_a_linear_network_all_say_weight_or_weight_times_intensity():
    model, volume = linear(), np.random.default_rng(5).normal(size=(6, 6, 6, 1))
    weights = model.layers[-1].get_weights()[0].reshape(6, 6, 6, 1)
    for method in ("gradient", "smoothgrad", "guided_backpropagation"):
        np.testing.assert_allclose(
            gradients.explain(model, [volume], method).relevance[0], weights, rtol=1e-4
        )
    for method in ("input_x_gradient", "integrated_gradients"):
        np.testing.assert_allclose(
            gradients.explain(model, [volume], method).relevance[0],
            weights * volume,
            rtol=1e-4,
            atol=1e-7,
        )
    found = gradients.explain(model, [volume], "occlusion", size=1, dtype="float64")
    np.testing.assert_allclose(found.relevance[0], (weights * volume), rtol=1e-6, atol=1e-9)
    found = gradients.explain(model, [volume], "occlusion", size=2, dtype="float64").relevance[0]
    np.testing.assert_allclose(found[:2, :2, :2], (weights * volume)[:2, :2, :2].sum(), rtol=1e-6)
    np.testing.assert_allclose(
        lrp.explain(model, [volume], "z", dtype="float64").relevance[0] * 1.0,
        weights * volume,
        rtol=1e-5,
        atol=1e-8,
    )


def test_guided_backpropagation_hands_back_positive_values_only():
    """By hand on y = v2 elu(v1 x): v1 v2 elu'(v1 x) where v2 > 0, else 0."""
    for v1, v2, x in [(2.0, 3.0, 0.5), (2.0, 3.0, -0.5), (2.0, -3.0, 0.5), (-1.0, 1.0, 0.5)]:
        model = keras.Sequential(
            [
                keras.Input((1, 1, 1, 1)),
                layers.Conv3D(1, 1, activation="elu"),
                layers.Flatten(),
                layers.Dense(1),
            ]
        )
        model.set_weights(
            [np.full((1, 1, 1, 1, 1), v1), np.zeros(1), np.full((1, 1), v2), np.zeros(1)]
        )
        found = gradients.explain(
            model, np.full((1, 1, 1, 1, 1), x), "guided_backpropagation", dtype="float64"
        ).relevance.item()
        assert found == pytest.approx(v1 * v2 * min(1, np.exp(v1 * x)) if v2 > 0 else 0)


def test_smoothgrad_is_seeded_and_without_noise_the_gradient():
    model, volume = (
        with_weights(1, SMALL),
        np.random.default_rng(6).normal(size=(1, *SMALL, 1)).astype("float32"),
    )
    one, same, other = (
        gradients.explain(model, volume, "smoothgrad", steps=2, seed=seed).relevance
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert distance(other, one) > 1e-3
    plain = gradients.explain(model, volume, "gradient").relevance
    assert (
        distance(gradients.explain(model, volume, "smoothgrad", steps=1, noise=0).relevance, plain)
        < 1e-6
    )


def test_bad_options_are_refused():
    model, volume = linear(), np.zeros((1, 6, 6, 6, 1))
    with pytest.raises(ParameterError, match="Did you mean gradient"):
        gradients.explain(model, volume, "gradients")
    with pytest.raises(ParameterError, match="steps: found 0"):
        gradients.explain(model, volume, "smoothgrad", steps=0)
    with pytest.raises(ParameterError, match="target: found 4"):
        gradients.explain(model, volume, target=4)


def test_maps_are_those_of_rules_and_methods_alone():
    model, volume = (
        with_weights(2, SMALL, seed=3),
        np.random.default_rng(0).normal(size=SMALL).astype("float32"),
    )
    names = ["gradient", "epsilon", "smoothgrad", "epsilon_half_gamma_box"]
    found = gradients.maps(model, volume, names, 0.1, threads=1)
    assert list(found) == names
    volumes = volume[None, ..., None]
    np.testing.assert_array_equal(
        found["epsilon"], lrp.explain(model, volumes, "epsilon", 0.1).relevance[0, ..., 0]
    )
    np.testing.assert_array_equal(
        found["epsilon_half_gamma_box"],
        lrp.explain(model, volumes, epsilon=0.1).relevance[0, ..., 0],
    )
    few = gradients.explain(
        model, volumes, "smoothgrad", **gradients.FASTER["smoothgrad"]
    ).relevance[0, ..., 0]
    np.testing.assert_array_equal(found["smoothgrad"], few)
    with pytest.raises(ParameterError, match="gradient"):
        gradients.maps(model, volume, ["gradiend"])
