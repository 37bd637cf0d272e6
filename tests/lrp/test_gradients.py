"""Methods besides LRP against TensorFlow's gradients, closed forms, and what they promise."""

import keras
import numpy as np
import pytest
from keras import layers
from support.layers import EPSILON, chain, distance, filled, gradient_of, with_pools

from msxai import lrp
from msxai.base.errors import ParameterError

FLOAT64 = lrp.Computation(dtype="float64")


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
            distance(lrp.explain(model, [volume], "gradient", target=target).relevance[0], expected)
            < 1e-3
        )
        assert (
            distance(
                lrp.explain(model, [volume], "input_x_gradient", target=target).relevance[0],
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
        explanation = lrp.explain(
            model,
            [volume],
            lrp.IntegratedGradients(baseline=baseline, steps=64),
            computation=FLOAT64,
        )
        flat = lrp.explain(model, [np.full_like(volume, baseline)], "gradient", computation=FLOAT64)
        assert explanation.relevance.sum() == pytest.approx(
            explanation.logits[0] - flat.logits[0], rel=1e-3
        )


def linear(seed=4):
    return filled(
        keras.Sequential([keras.Input((6, 6, 6, 1)), layers.Flatten(), layers.Dense(1)]), seed
    )


def test_on_a_linear_network_all_say_weight_or_weight_times_intensity():
    model, volume = linear(), np.random.default_rng(5).normal(size=(6, 6, 6, 1))
    weights = model.layers[-1].get_weights()[0].reshape(6, 6, 6, 1)
    for method in ("gradient", "smoothgrad", "guided_backpropagation"):
        np.testing.assert_allclose(
            lrp.explain(model, [volume], method).relevance[0], weights, rtol=1e-4
        )
    for method in ("input_x_gradient", "integrated_gradients"):
        np.testing.assert_allclose(
            lrp.explain(model, [volume], method).relevance[0],
            weights * volume,
            rtol=1e-4,
            atol=1e-7,
        )
    explanation = lrp.explain(model, [volume], lrp.Occlusion(size=1), computation=FLOAT64)
    np.testing.assert_allclose(explanation.relevance[0], (weights * volume), rtol=1e-6, atol=1e-9)
    relevance = lrp.explain(model, [volume], lrp.Occlusion(size=2), computation=FLOAT64).relevance[
        0
    ]
    np.testing.assert_allclose(
        relevance[:2, :2, :2], (weights * volume)[:2, :2, :2].sum(), rtol=1e-6
    )
    np.testing.assert_allclose(
        lrp.explain(model, [volume], "z", computation=FLOAT64).relevance[0] * 1.0,
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
        relevance = lrp.explain(
            model, np.full((1, 1, 1, 1, 1), x), "guided_backpropagation", computation=FLOAT64
        ).relevance.item()
        assert relevance == pytest.approx(v1 * v2 * min(1, np.exp(v1 * x)) if v2 > 0 else 0)


HALVED = {  # layers that multiply a scan by 0.5
    "rescaling": lambda: [layers.Rescaling(0.5)],
    "normalization": lambda: [layers.Normalization(mean=[0.0, 0.0], variance=[4.0, 4.0])],
    "two normalisations": lambda: [layers.Rescaling(0.25), layers.Rescaling(2.0)],
}


def guided_map(volume, *first):
    """Guided backpropagation through two convolutions with ReLU, some other layers before them."""
    own = [
        layers.Conv3D(3, 2, activation="relu", name="a"),
        layers.Conv3D(2, 2, activation="relu", name="b"),
        layers.Flatten(),
        layers.Dense(1, name="d"),
    ]
    model = keras.Sequential([keras.Input(volume.shape), *first, *own])
    rng = np.random.default_rng(8)
    for name in ("a", "b", "d"):
        layer = model.get_layer(name)
        layer.set_weights([rng.normal(0, 0.4, part.shape) for part in layer.weights])
    explanation = lrp.explain(model, [volume], "guided_backpropagation", computation=FLOAT64)
    return explanation.relevance[0]


@pytest.mark.parametrize("kind", HALVED)
def test_guided_backpropagation_does_not_clamp_at_a_normalisation(kind):
    volume = np.random.default_rng(1).normal(size=(4, 3, 5, 2))
    expected = 0.5 * guided_map(volume)
    assert expected.min() < 0 < expected.max()
    relevance = guided_map(2 * volume, *HALVED[kind]())
    np.testing.assert_allclose(relevance, expected, rtol=1e-6, atol=1e-12)


def without_activation(join):
    """A network that is linear: convolutions, and layers that are merged with them."""
    source = keras.Input((4, 3, 5, 2))
    x = layers.ZeroPadding3D(1)(layers.BatchNormalization()(source))
    left, right = layers.Conv3D(3, 2)(x), layers.Conv3D(3, 2)(x)
    x = layers.BatchNormalization()(layers.BatchNormalization()(join([left, right])))
    return filled(keras.Model(source, layers.Dense(1)(layers.Flatten()(x))))


@pytest.mark.parametrize("join", [layers.Subtract(), layers.Average()])
def test_without_activations_guided_backpropagation_is_the_gradient(join):
    model = without_activation(join)
    volume = np.random.default_rng(1).normal(size=(4, 3, 5, 2))
    expected = gradient_of(model, volume)
    assert expected.min() < 0 < expected.max()
    explanation = lrp.explain(model, [volume], "guided_backpropagation", computation=FLOAT64)
    assert distance(explanation.relevance[0], expected) < 1e-6


def test_smoothgrad_is_seeded_and_without_noise_the_gradient():
    model = with_pools((EPSILON,) * 3)[0]
    volume = np.random.default_rng(6).normal(size=(1, *model.input_shape[1:])).astype("float32")
    first, same, other = (
        lrp.explain(model, volume, lrp.SmoothGrad(samples=2, seed=seed)).relevance
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert distance(other, first) > 1e-3
    plain = lrp.explain(model, volume, "gradient").relevance
    assert (
        distance(lrp.explain(model, volume, lrp.SmoothGrad(samples=1, noise=0)).relevance, plain)
        < 1e-6
    )


def test_bad_options_are_refused():
    model, volume = linear(), np.zeros((1, 6, 6, 6, 1))
    with pytest.raises(ParameterError, match="Did you mean gradient"):
        lrp.explain(model, volume, "gradients")
    with pytest.raises(ParameterError, match="samples: found 0"):
        lrp.SmoothGrad(samples=0)
    with pytest.raises(ParameterError, match="steps: found 0"):
        lrp.IntegratedGradients(steps=0)
    with pytest.raises(ParameterError, match="size: found 0"):
        lrp.Occlusion(size=0)
    with pytest.raises(ParameterError, match="stride: found 0"):
        lrp.Occlusion(stride=0)
    with pytest.raises(ParameterError, match="target: found 4"):
        lrp.explain(model, volume, "input_x_gradient", target=4)


def test_several_maps_are_those_of_rules_and_methods_alone():
    model = with_pools((EPSILON,) * 3)[0]
    scans = np.random.default_rng(0).normal(size=(1, *model.input_shape[1:])).astype("float32")
    names = ["gradient", "epsilon", "smoothgrad", "epsilon_half_gamma_box", "input_x_gradient"]
    together = lrp.explain_each(model, scans, lrp.quick(names), epsilon=0.1)
    assert list(together) == names
    alone = {
        "gradient": lrp.explain(model, scans, "gradient"),
        "epsilon": lrp.explain(model, scans, "epsilon", epsilon=0.1),
        "epsilon_half_gamma_box": lrp.explain(model, scans, epsilon=0.1),
        "smoothgrad": lrp.explain(model, scans, lrp.SmoothGrad(samples=8)),
        "input_x_gradient": lrp.explain(model, scans, "input_x_gradient"),
    }
    for name, explanation in alone.items():
        np.testing.assert_array_equal(together[name].relevance, explanation.relevance)
        np.testing.assert_array_equal(together[name].logits, explanation.logits)
    with pytest.raises(ParameterError, match="gradient"):
        lrp.explain_each(model, scans, ["gradiend"])
