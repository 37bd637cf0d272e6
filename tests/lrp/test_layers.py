"""Layers of users' networks against the slow oracle, twins and TensorFlow's gradients."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops
from support import lrp_oracle
from support.layers import EPSILON, conv, distance, filled, gradient_of, weights_of

from msxai import lrp
from msxai.base.errors import EngineError, ParameterError

FLOAT64 = lrp.Computation(dtype="float64")
SHAPE = (4, 3, 5, 2)
Z = ("z", {})
RULES = {
    "epsilon": EPSILON,
    "z_plus": ("alpha_beta", {"alpha": 1, "beta": 0}),
    "gamma": ("gamma", {"gamma": 0.25}),
    "flat": ("flat", {}),
    "w_square": ("w_square", {}),
    "bounded": ("bounded", {}),
}


def scan(seed=1, shape=SHAPE):
    return np.random.default_rng(seed).normal(size=shape)


def dense_after(model, source, rule=EPSILON):
    """Nodes of Flatten and the last dense layer, named d."""
    return [("flatten", source), ("dense", source + 1, *weights_of(model, "d"), rule)]


def sequential(*stack, shape=SHAPE):
    tail = [layers.Flatten(), layers.Dense(1, name="d")]
    return filled(keras.Sequential([keras.Input(shape), *stack, *tail]))


def check(model, nodes, rule="epsilon", volume=None):
    """The map in float64 is the oracle's, the logit the model's own, and the audit balances."""
    volume = scan() if volume is None else volume
    expected, logit = lrp_oracle.explain(nodes, volume)
    own = float(model(volume[None].astype("float32"))[0, 0])
    explanation = lrp.explain(model, volume[None], rule, computation=FLOAT64)
    assert logit == pytest.approx(own, rel=1e-4)
    assert explanation.logits[0] == pytest.approx(logit, rel=1e-6)
    assert distance(explanation.relevance[0], expected) < 1e-6
    audit = explanation.audit
    np.testing.assert_allclose(
        audit["arriving"],
        audit[["passed", "bias", "stabiliser"]].sum(axis=1),
        rtol=1e-6,
        atol=1e-8 * np.abs(expected).sum(),
    )
    absorbed = audit["bias"].sum() + audit["stabiliser"].sum()
    assert logit - absorbed == pytest.approx(expected.sum(), rel=1e-4)
    return explanation


def scale_of(model, name):
    """A batch normalisation as scale and offset."""
    gamma, beta, mean, variance = weights_of(model, name)
    scale = gamma / np.sqrt(variance + 1e-3)
    return scale, beta - mean * scale


# Convolutions of other kinds, by every rule


CONVOLUTIONS = {
    "groups": (
        layers.Conv3D(4, (2, 2, 3), groups=2, name="c"),
        {"groups": 2, "before": (0, 0, 0), "lengths": (3, 2, 3)},
    ),
    "depthwise": (
        layers.Conv3D(2, 3, groups=2, padding="same", name="c"),
        {"groups": 2, "before": (1, 1, 1), "lengths": (4, 3, 5)},
    ),
    "dilation": (
        layers.Conv3D(2, 2, dilation_rate=(2, 1, 3), padding="same", name="c"),
        {"dilation": (2, 1, 3), "before": (1, 0, 1), "lengths": (4, 3, 5)},
    ),
    "transposed": (
        layers.Conv3DTranspose(3, (3, 2, 2), strides=(1, 2, 1), name="c"),
        {"strides": (1, 2, 1), "before": (0, 0, 0), "lengths": (6, 6, 6)},
    ),
    "transposed, same": (
        layers.Conv3DTranspose(2, 3, strides=2, padding="same", name="c"),
        {"strides": (2, 2, 2), "before": (0, 0, 0), "lengths": (8, 6, 10)},
    ),
    "transposed, gaps": (
        layers.Conv3DTranspose(2, 2, strides=3, padding="same", name="c"),
        {"strides": (3, 3, 3), "before": (0, 0, 0), "lengths": (12, 9, 15)},
    ),
}


@functools.cache
def convolution(kind):
    layer, options = CONVOLUTIONS[kind]
    model = sequential(layer)
    kernel, bias = weights_of(model, "c")
    weights = lrp_oracle.matrix(SHAPE, kernel, options, "transposed" in kind)
    shape = (*options["lengths"], len(bias))
    bias = np.tile(bias, int(np.prod(options["lengths"])))
    return model, weights, bias, shape


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolutions_of_all_kinds_equal_the_oracle(kind, rule):
    model, weights, bias, shape = convolution(kind)
    nodes = [("matrix", 0, weights, bias, RULES[rule], shape), *dense_after(model, 1)]
    check(model, nodes, {"convolution": rule, "dense": "epsilon"})


# Batch normalisation, wherever it stands


def test_batch_normalisation_between_activation_and_padded_convolution():
    """As a layer of its own by z; merged, with a bias that depends on the position, by gamma."""
    first = layers.Conv3D(2, 2, activation="relu", name="a")
    second = layers.Conv3D(3, 3, padding="same", name="b")
    model = sequential(first, layers.BatchNormalization(name="n"), second)
    scale, offset = scale_of(model, "n")
    kernel, bias = weights_of(model, "b")
    own = [
        conv(model, "a", 0, Z),
        ("act", 1, "relu"),
        ("scale", 2, scale, offset, 1e-9),
        ("conv", 3, kernel, bias, {"padding": "same"}, Z),
    ]
    check(model, [*own, *dense_after(model, 4, Z)], "z")
    options = {"before": (1, 1, 1), "lengths": (3, 2, 4)}
    weights = lrp_oracle.matrix((3, 2, 4, 2), kernel, options)
    scales, offsets = np.tile(scale, 24), np.tile(offset, 24)
    biases = np.tile(bias, 24) + offsets @ np.nan_to_num(weights)
    merged = ("matrix", 2, scales[:, None] * weights, biases, RULES["gamma"], (3, 2, 4, 3))
    nodes = [conv(model, "a", 0, RULES["gamma"]), ("act", 1, "relu"), merged]
    nodes += dense_after(model, 3)
    check(model, nodes, {"convolution": "gamma", "dense": "epsilon"})


def test_batch_normalisation_first_in_the_network_by_the_default_composite():
    """Merged: else a voxel whose normalised value is near 0 gets a share without bound."""
    model = sequential(
        layers.BatchNormalization(name="n"), layers.Conv3D(3, 3, padding="same", name="c")
    )
    scale, offset = scale_of(model, "n")
    kernel, bias = weights_of(model, "c")
    options = {"before": (1, 1, 1), "lengths": SHAPE[:3]}
    weights = lrp_oracle.matrix(SHAPE, kernel, options)
    scales, offsets = np.tile(scale, 60), np.tile(offset, 60)
    biases = np.tile(bias, 60) + offsets @ np.nan_to_num(weights)
    merged = ("matrix", 0, scales[:, None] * weights, biases, RULES["bounded"], (4, 3, 5, 3))
    check(model, [merged, *dense_after(model, 1)], "epsilon_half_gamma_box")


def pre_activation():
    """A sum, batch normalisation that two layers read, ReLU, and a convolution."""
    source = keras.Input(SHAPE)
    left = layers.Conv3D(2, 3, padding="same", name="a")(source)
    right = layers.Conv3D(2, 1, name="b")(source)
    x = layers.Add(name="sum")([left, right])
    x = layers.BatchNormalization(name="n")(x)
    branch = layers.Conv3D(2, 3, padding="same", name="c")(layers.ReLU()(x))
    x = layers.Add(name="last")([branch, x])
    return filled(keras.Model(source, layers.Dense(1, name="d")(layers.Flatten()(x))))


@pytest.mark.parametrize("rule", ["epsilon", "z", "gamma"])
def test_batch_normalisation_after_a_sum_read_by_two_is_an_affine_layer(rule):
    model = pre_activation()
    scale, offset = scale_of(model, "n")
    of_layers = {"epsilon": EPSILON, "z": Z, "gamma": RULES["gamma"]}[rule]
    stabiliser = 1e-9 if rule == "z" else 1e-3
    nodes = [
        conv(model, "a", 0, of_layers, padding="same"),
        conv(model, "b", 0, of_layers),
        ("add", 1, 2, 1e-9),
        ("scale", 3, scale, offset, stabiliser),
        ("act", 4, "relu"),
        conv(model, "c", 5, of_layers, padding="same"),
        ("add", 6, 4, 1e-9),
    ]
    explanation = check(model, [*nodes, *dense_after(model, 7, of_layers)], rule)
    assert "n" in set(explanation.audit["layer"])


def test_batch_normalisation_is_merged_into_grouped_and_transposed_convolutions():
    grouped = layers.Conv3D(4, 2, groups=2, name="c")
    for stack in (
        [layers.BatchNormalization(name="n"), grouped],
        [layers.Conv3DTranspose(3, 2, name="c"), layers.BatchNormalization(name="n")],
    ):
        explanation = lrp.explain(sequential(*stack), scan()[None], "gamma")
        assert "n" not in set(explanation.audit["layer"])  # the logit is compared by `explain`


@pytest.mark.parametrize("tail", ["in the middle", "last"])
def test_batch_normalisations_in_a_row_are_merged(tail):
    """Into the layer before them, also where the last of them gives the logit."""
    pair = [layers.BatchNormalization(name="n"), layers.BatchNormalization(name="m")]
    if tail == "last":
        end = [layers.Flatten(), layers.Dense(1, name="d"), *pair]
        model = filled(keras.Sequential([keras.Input(SHAPE), layers.Conv3D(3, 2, name="c"), *end]))
    else:
        model = sequential(layers.Conv3D(3, 2, name="c"), *pair, layers.ReLU())
    (scale, offset), (other, shift) = scale_of(model, "n"), scale_of(model, "m")
    scale, offset = scale * other, offset * other + shift
    merged = "d" if tail == "last" else "c"
    (kernel, bias) = weights_of(model, merged)
    kernel, bias = kernel * scale, bias * scale + offset
    if tail == "last":
        nodes = [conv(model, "c", 0, Z), ("flatten", 1), ("dense", 2, kernel, bias, Z)]
    else:
        nodes = [("conv", 0, kernel, bias, {}, Z), ("act", 1, "relu"), *dense_after(model, 2, Z)]
    explanation = check(model, nodes, "z")
    assert set(explanation.audit["layer"]) == {"c", "d"}


# Normalisations that depend on the scan


def members(shape, groups):
    """Flat indices of the values of each group of channels."""
    flat = np.arange(np.prod(shape)).reshape(*shape[:-1], groups, -1)
    return [flat[..., group, :].ravel() for group in range(groups)]


NORMALISATIONS = {
    "group": layers.GroupNormalization(2, name="n"),
    "instance": layers.GroupNormalization(-1, name="n"),
    "layer": layers.LayerNormalization(name="n"),
    "layer, all axes": layers.LayerNormalization(axis=(1, 2, 3, 4), name="n"),
    "rms": layers.RMSNormalization(name="n"),
}


@functools.cache
def normalised(kind):
    x = layers.Conv3D(4, 2, name="c")
    model = sequential(x, NORMALISATIONS[kind], layers.Activation("gelu"))
    shape = (3, 2, 4, 4)
    weights = [value.ravel() for value in weights_of(model, "n")]
    gamma, beta = weights if len(weights) == 2 else (weights[0], np.zeros(4))
    by_voxel = [np.arange(4) + 4 * voxel for voxel in range(24)]
    sets = {
        "group": members(shape, 2),
        "instance": members(shape, 4),
        "layer, all axes": [np.arange(96)],
    }.get(kind, by_voxel)
    repeats = 96 // len(gamma)
    epsilon = 1e-6 if kind == "rms" else 1e-3
    centred = kind != "rms"
    return model, (sets, np.tile(gamma, repeats), np.tile(beta, repeats), epsilon, centred)


@pytest.mark.parametrize("rule", ["z", "epsilon", "gamma"])
@pytest.mark.parametrize("kind", NORMALISATIONS)
def test_normalisations_hold_the_deviation_fixed(kind, rule):
    model, options = normalised(kind)
    of_layers = {"epsilon": EPSILON, "z": Z, "gamma": RULES["gamma"]}[rule]
    stabiliser = 1e-9 if rule == "z" else 1e-3
    nodes = [
        conv(model, "c", 0, of_layers),
        ("normalise", 1, *options, stabiliser),
        ("act", 2, "gelu"),
    ]
    check(model, [*nodes, *dense_after(model, 3, of_layers)], rule)


@pytest.mark.parametrize("layer", ["rescaling", "normalization"])
def test_fixed_normalisations_of_the_input_are_merged(layer):
    given = {
        "rescaling": layers.Rescaling(2.0, offset=0.3),
        "normalization": layers.Normalization(mean=[0.1, -0.2], variance=[1.0, 4.0]),
    }[layer]
    model = sequential(given, layers.Conv3D(3, 2, name="c"))
    scale, offset = (2.0, 0.3) if layer == "rescaling" else (np.array([1, 0.5]), [-0.1, 0.1])
    nodes = [("scale", 0, scale, np.array(offset), 1e-9), conv(model, "c", 1, Z)]
    check(model, [*nodes, *dense_after(model, 2, Z)], "z")


# Activations


@pytest.mark.parametrize("name", ["gelu", "silu", "selu", "relu6", "elu"])
def test_activations_hand_relevance_through_and_are_pooled_after(name):
    """GELU and Swish are not monotone: their pooling stays behind them."""
    model = sequential(
        layers.Conv3D(3, 2, activation=name, name="c"), layers.MaxPooling3D((1, 2, 2))
    )
    kernel, bias = model.get_layer("c").get_weights()
    model.get_layer("c").set_weights([kernel, bias - 1])  # windows in which all values are below 0
    nodes = [
        conv(model, "c", 0, EPSILON),
        ("act", 1, name),
        ("max", 2, (1, 2, 2), (1, 2, 2), "valid"),
    ]
    check(model, [*nodes, *dense_after(model, 3)])


def with_stack(*stack):
    return sequential(layers.Conv3D(4, 2), *stack, layers.MaxPooling3D((1, 2, 2)))


GRADIENTS = {
    "elu that falls": lambda: with_stack(layers.ELU(-1.0)),
    "gelu": lambda: with_stack(layers.Activation("gelu")),
    "swish": lambda: with_stack(layers.Activation("swish")),
    "selu": lambda: with_stack(layers.Activation("selu")),
    "prelu": lambda: with_stack(layers.PReLU(shared_axes=[1, 2, 3])),
    "clipped": lambda: with_stack(layers.ReLU(max_value=0.5, threshold=0.1)),
    "group": lambda: with_stack(layers.GroupNormalization(2)),
    "layer": lambda: with_stack(layers.LayerNormalization(axis=(2, 4))),
    "rms": lambda: with_stack(layers.RMSNormalization()),
    "groups": lambda: sequential(layers.Conv3D(4, 2, groups=2)),
    "dilation": lambda: sequential(layers.Conv3D(2, 2, dilation_rate=2, padding="same")),
    "transposed": lambda: sequential(layers.Conv3DTranspose(2, 3, strides=2, padding="same")),
    "upsampling": lambda: sequential(layers.UpSampling3D((2, 1, 3)), layers.Conv3D(2, 2)),
    "padding": lambda: sequential(layers.ZeroPadding3D(1), layers.ReLU(), layers.Conv3D(2, 2)),
    "cropping": lambda: sequential(layers.Cropping3D(((0, 1), (1, 0), (1, 1)))),
    "permute, reshape": lambda: sequential(layers.Permute((4, 1, 3, 2)), layers.Reshape((8, -1))),
    "largest of all": lambda: sequential(layers.Conv3D(3, 2), layers.GlobalMaxPooling3D()),
    "pre-activation": pre_activation,
    "activation object": lambda: sequential(layers.Conv3D(3, 2, activation=layers.LeakyReLU(0.3))),
    "function of keras.ops": lambda: sequential(layers.Conv3D(3, 2, activation=ops.relu)),
}


@pytest.mark.parametrize("kind", GRADIENTS)
def test_gradients_equal_tensorflows(kind):
    """The forward pass of LRP and its derivative, against Keras and TensorFlow."""
    model = GRADIENTS[kind]()
    volume = scan(3)
    computed = lrp.explain(model, [volume], "gradient", computation=FLOAT64)
    assert distance(computed.relevance[0], gradient_of(model, volume)) < 1e-3
    own = float(model(volume[None].astype("float32"))[0, 0])
    assert computed.logits[0] == pytest.approx(own, rel=1e-4)


# Layers that copy and join


def indices(shape):
    return np.arange(np.prod(shape)).reshape(shape)


def test_up_and_down_and_a_skip_equal_the_oracle():
    """A small U-Net: upsampling, cropping, concatenation, zeros around."""
    source = keras.Input(SHAPE)
    a = layers.Conv3D(2, 1, activation="relu", name="a")(source)
    b = layers.MaxPooling3D(2)(a)
    up = layers.UpSampling3D(2)(b)
    crop = layers.Cropping3D(((0, 0), (0, 1), (1, 0)))(a)
    x = layers.Concatenate()([up, crop])
    x = layers.ReLU()(layers.ZeroPadding3D((1, 0, 0))(x))
    x = layers.Conv3D(2, (3, 1, 1), name="c")(x)
    model = filled(keras.Model(source, layers.Dense(1, name="d")(layers.Flatten()(x))))
    pooled = indices((2, 1, 2, 2)).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    inside = indices((4, 3, 5, 2))[:, :2, 1:]
    nodes = [
        conv(model, "a", 0, EPSILON),
        ("act", 1, "relu"),
        ("max", 2, (2, 2, 2), (2, 2, 2), "valid"),
        ("copy", 3, pooled),
        ("copy", 2, inside),
        ("concat", 4, 5),
        ("act", 6, "relu"),
    ]
    kernel, bias = weights_of(model, "c")
    options = {"before": (1, 0, 0), "lengths": (4, 2, 4)}
    weights = lrp_oracle.matrix((4, 2, 4, 4), kernel, options)
    nodes.append(("matrix", 7, weights, np.tile(bias, 32), EPSILON, (4, 2, 4, 2)))
    check(model, [*nodes, *dense_after(model, 8)])


def test_zeros_that_a_layer_adds_absorb_what_a_rule_gives_them():
    """By flat, zeros get as much as voxels do; the audit says how much."""
    relu = layers.ReLU()
    model = sequential(layers.ZeroPadding3D(1, name="zeros"), relu, layers.Conv3D(1, 3))
    explanation = lrp.explain(model, scan()[None], "epsilon_plus_flat", computation=FLOAT64)
    row = explanation.audit.set_index("layer").loc["zeros"]
    assert row["rule"] == "padding"
    assert row["bias"] != 0
    assert row["arriving"] == pytest.approx(row["passed"] + row["bias"])
    assert row["passed"] == pytest.approx(explanation.relevance.sum())


def test_a_mean_and_a_difference_of_layers_equal_the_oracle():
    source = keras.Input(SHAPE)
    a = layers.Conv3D(2, 1, name="a")(source)
    b = layers.Conv3D(2, 1, name="b")(source)
    x = layers.Subtract()([layers.Average()([a, b]), b + a])
    model = filled(keras.Model(source, layers.Dense(1, name="d")(layers.Flatten()(x))))
    nodes = [
        conv(model, "a", 0, EPSILON),
        conv(model, "b", 0, EPSILON),
        ("add", 1, 2, 1e-9),
        ("scale", 3, 0.5, 0, 0),
        ("add", 2, 1, 1e-9),
        ("scale", 5, -1.0, 0, 0),
        ("add", 4, 6, 1e-9),
    ]
    check(model, [*nodes, *dense_after(model, 7)])


# Twins: the same network written in another way has the same map


def plain_stack(order="channels_last"):
    """Layers; nowhere are there as many filters as voxels along the last axis.

    Else Keras 3.15 on TensorFlow adds a bias that is channels first along the wrong axis.
    """
    return [
        layers.Conv3D(3, 2, activation="gelu", padding="same", data_format=order, name="a"),
        layers.BatchNormalization(axis=1 if order == "channels_first" else -1, name="n"),
        layers.ReLU(),
        layers.MaxPooling3D(2, data_format=order),
        layers.Conv3D(3, 1, data_format=order, name="b"),
        layers.GroupNormalization(1, axis=1 if order == "channels_first" else -1, name="g"),
    ]


def test_channels_first_is_the_transposed_map_of_channels_last():
    first = sequential(*plain_stack("channels_first"), shape=(2, 4, 3, 5))
    last = sequential(*plain_stack())
    for name in ("a", "n", "b", "g"):
        last.get_layer(name).set_weights(first.get_layer(name).get_weights())
    kernel, bias = first.get_layer("d").get_weights()  # Keras flattens in the order that it has
    moved = kernel.reshape(3, 2, 1, 2, 1).transpose(1, 2, 3, 0, 4).reshape(12, 1)
    last.get_layer("d").set_weights([moved, bias])
    volume = scan()[None].astype("float32")
    for rule in ("epsilon_half_gamma_box", lrp.Occlusion(size=2)):
        expected = lrp.explain(last, volume, rule, copies=2)
        computed = lrp.explain(first, np.moveaxis(volume, -1, 1), rule, copies=2)
        assert computed.relevance.shape == (1, 2, 4, 3, 5)
        np.testing.assert_allclose(computed.logits, expected.logits, rtol=1e-5)
        relevance = np.moveaxis(computed.relevance, 1, -1)
        np.testing.assert_allclose(relevance, expected.relevance, rtol=1e-3, atol=1e-5)


SCALED = {  # layers that scale a channels-first scan, and the same for channels last
    "all channels": (lambda: layers.Rescaling(0.5, 1.0), lambda: layers.Rescaling(0.5, 1.0)),
    "each channel": (
        lambda: layers.Rescaling(np.array([2.0, 3.0]).reshape(2, 1, 1, 1), offset=1.0),
        lambda: layers.Rescaling(np.array([2.0, 3.0]), offset=1.0),
    ),
    "each slice": (
        lambda: layers.Rescaling(np.arange(1.0, 6.0)),
        lambda: layers.Rescaling(np.arange(1.0, 6.0)[:, None]),
    ),
    "normalisation": (
        lambda: layers.Normalization(axis=1, mean=[1.0, 2.0], variance=[4.0, 9.0]),
        lambda: layers.Normalization(mean=[1.0, 2.0], variance=[4.0, 9.0]),
    ),
}


@pytest.mark.parametrize("kind", SCALED)
@pytest.mark.parametrize("rule", ["epsilon", "z_plus"])
def test_a_channels_first_scan_is_scaled_as_one_with_channels_last(kind, rule):
    models = []
    for order, shape, first in zip(
        ("channels_first", "channels_last"), ((2, 4, 3, 5), SHAPE), SCALED[kind], strict=True
    ):
        convolution = layers.Conv3D(3, 2, data_format=order, name="c")
        pool = layers.GlobalAveragePooling3D(data_format=order)
        own = [first(), convolution, layers.ReLU(), pool, layers.Dense(1, name="d")]
        models.append(filled(keras.Sequential([keras.Input(shape), *own])))
    first, last = models
    for name in ("c", "d"):
        last.get_layer(name).set_weights(first.get_layer(name).get_weights())
    volume = scan()[None]
    expected = lrp.explain(last, volume, rule, computation=FLOAT64)
    computed = lrp.explain(first, np.moveaxis(volume, -1, 1), rule, computation=FLOAT64)
    relevance = np.moveaxis(computed.relevance, 1, -1)
    np.testing.assert_allclose(relevance, expected.relevance, rtol=1e-6, atol=1e-12)
    assert len(computed.audit) == len(expected.audit)


@pytest.mark.long(reason="a network of 700 layers is built and explained, 3 s")
def test_a_network_can_be_deeper_than_the_recursion_limit():
    deep = sequential(layers.Conv3D(3, 2, name="c"), *[layers.ReLU() for _ in range(700)])
    shallow = sequential(layers.Conv3D(3, 2, name="c"), layers.ReLU())
    for name in ("c", "d"):
        shallow.get_layer(name).set_weights(deep.get_layer(name).get_weights())
    volume = scan()[None]
    maps = [lrp.explain(model, volume, "epsilon").relevance for model in (deep, shallow)]
    np.testing.assert_allclose(*maps, rtol=1e-5, atol=1e-7)


def test_a_mean_that_is_nearly_zero_is_compared_by_what_it_adds_up():
    """Rounding grows with the values, not with their mean."""
    source = keras.Input(SHAPE)
    x = layers.Conv3D(1, 2, name="c")(source)
    model = filled(keras.Model(source, layers.GlobalAveragePooling3D()(x)))
    kernel, bias = model.get_layer("c").get_weights()
    volume = scan()[None].astype("float32") * 1e3
    shift = float(ops.convert_to_numpy(model(volume))[0, 0])
    model.get_layer("c").set_weights([kernel, bias - np.float32(shift)])
    logit = lrp.explain(model, volume, "epsilon").logits[0]
    assert abs(logit) < 1e-3 * abs(shift)


def test_a_model_inside_a_model_is_read_layer_by_layer():
    volume = scan()[None]
    flat = sequential(*plain_stack())
    inner = keras.Sequential([keras.Input(SHAPE), *plain_stack()], name="backbone")
    nested = sequential(inner)
    nested.set_weights(flat.get_weights())
    explanation = lrp.explain(nested, volume, "epsilon")
    expected = lrp.explain(flat, volume, "epsilon").relevance
    np.testing.assert_array_equal(explanation.relevance, expected)
    assert "backbone/a" in set(explanation.audit["layer"])
    assert lrp.explain(nested, volume, {"backbone/a": "flat"}).rule == {"backbone/a": "flat"}


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_a_saved_model_has_the_same_map(ending, tmp_path):
    model = sequential(*plain_stack())
    path = tmp_path / f"model{ending}"
    model.save(path)
    loaded = keras.models.load_model(path)
    volume = scan()[None]
    np.testing.assert_array_equal(
        lrp.explain(loaded, volume).relevance, lrp.explain(model, volume).relevance
    )


def test_a_network_for_scans_of_any_size():
    def build(shape):
        stack = [
            layers.Conv3D(3, 3, padding="same", activation="relu"),
            layers.MaxPooling3D(2, padding="same"),
            layers.GlobalAveragePooling3D(),
            layers.Dense(1),
        ]
        return filled(keras.Sequential([keras.Input(shape), *stack]))

    volume = scan()[None]
    open_network = build((None, None, None, 2))
    np.testing.assert_array_equal(
        lrp.explain(open_network, volume).relevance, lrp.explain(build(SHAPE), volume).relevance
    )
    other = scan(shape=(5, 3, 5, 2))
    assert lrp.explain(open_network, [other]).relevance.shape == (1, 5, 3, 5, 2)
    for size in (1, 2):
        of_size = lrp.Computation(batch_size=size)
        with pytest.raises(ParameterError, match=r"shapes .* in one call; expected one shape"):
            lrp.explain(open_network, [volume[0], other], computation=of_size)


@pytest.mark.parametrize(
    "layer", [layers.Conv3D(2, 3, name="n"), layers.MaxPooling3D(3, name="n")], ids=["conv", "pool"]
)
def test_a_scan_that_is_too_small_for_a_layer_is_refused(layer):
    stack = [keras.Input((None, None, None, 2)), layer, layers.GlobalAveragePooling3D()]
    model = filled(keras.Sequential([*stack, layers.Dense(1)]))
    with pytest.raises(ParameterError, match=r"layer n \(.*\) reads shape \(2, 3, 5, 2\)"):
        lrp.explain(model, scan(shape=(2, 3, 5, 2))[None])


def test_a_network_without_weights_hands_its_logit_to_a_voxel():
    """No layer has a rule, and the audit has no row."""
    model = keras.Sequential([keras.Input(SHAPE), layers.Flatten()])
    explanation = lrp.explain(model, scan()[None], target=7, copies=2)
    assert len(explanation.audit) == 0
    alone = lrp.explain(model, scan()[None], target=7).relevance.ravel()
    assert np.flatnonzero(alone).tolist() == [7]
    assert alone[7] == pytest.approx(scan().ravel()[7])


def test_mixed_precision_is_explained_in_full_precision():
    volume = scan()[None].astype("float32")
    full = sequential(*plain_stack())
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = sequential(*plain_stack())
    finally:
        keras.config.set_dtype_policy(policy)
    mixed.set_weights(full.get_weights())
    np.testing.assert_array_equal(
        lrp.explain(mixed, volume).relevance, lrp.explain(full, volume).relevance
    )


# A second input


def with_table():
    source = keras.Input(SHAPE, name="scan")
    table = keras.Input((3,), name="table")
    image = layers.Flatten()(layers.Conv3D(2, 2, name="a")(source))
    columns = layers.Dense(2, activation="relu", name="t")(table)
    joined = layers.Concatenate()([image, columns])
    return filled(keras.Model([source, table], layers.Dense(1, name="d")(joined)))


def test_a_table_beside_the_scan_gets_its_share():
    """The relevance of scan and table: each branch by hand from the last layer's weights."""
    model = with_table()
    rng = np.random.default_rng(5)
    scans, rows = rng.normal(size=(2, *SHAPE)), rng.normal(size=(2, 3))
    given = {"scan": scans, "table": rows}
    explanation = lrp.explain(model, given, "z", copies=2, computation=FLOAT64)
    alone = lrp.explain(model, given, "z", computation=FLOAT64)
    (kernel, bias), (last, _) = weights_of(model, "t"), weights_of(model, "d")
    for index, row in enumerate(rows):
        summed = row @ kernel + bias
        shares = np.maximum(summed, 0) * last[-2:, 0]  # of the logit, by column of the hidden layer
        expected = (row[:, None] * kernel / summed) @ shares
        np.testing.assert_allclose(alone.tables["table"][index], expected, rtol=1e-6)
    own = ops.convert_to_numpy(model([scans.astype("float32"), rows.astype("float32")]))[:, 0]
    np.testing.assert_allclose(alone.logits, own, rtol=1e-4)
    assert explanation.tables["table"].shape == (2, 3)
    occluded = lrp.explain(model, given, lrp.Occlusion(size=9), computation=FLOAT64)
    without = ops.convert_to_numpy(model([0 * scans.astype("float32"), rows.astype("float32")]))[
        :, 0
    ]
    np.testing.assert_allclose(occluded.relevance[:, 0, 0, 0, 0], own - without, rtol=1e-3)
    with pytest.raises(ParameterError, match="a dict of the network's inputs scan, table"):
        lrp.explain(model, scans)
    with pytest.raises(ParameterError, match="input table: found shape"):
        lrp.explain(model, {"scan": scans, "table": rows[:1]})
    with pytest.raises(ParameterError, match="expected the network's inputs: scan, table"):
        lrp.explain(model, {"scan": scans, "tables": rows})


# What is refused, and what it says


def clipped():
    def relu(x):
        return ops.clip(x, 0, 1)

    return layers.Conv3D(2, 1, activation=relu, name="odd")


class Doubled(layers.Dense):
    """A dense layer that computes something else."""

    def call(self, inputs):
        """Twice the value."""
        return 2 * super().call(inputs)


REFUSED = {
    "layer odd: found activation relu that has other values than Keras's": clipped,
    "layer odd: found Doubled, a Dense that computes something of its own": lambda: Doubled(
        2, name="odd"
    ),
    "layer odd: found Multiply": None,
    "layer multiply.*: found the operation Multiply on tensors": None,
    "layer odd: found a softmax inside the network": lambda: layers.Softmax(name="odd"),
    "layer odd: found output_padding": lambda: layers.Conv3DTranspose(
        2, 3, strides=2, output_padding=1, name="odd"
    ),
    "layer odd: found a BatchNormalization along axis 2": lambda: layers.BatchNormalization(
        axis=2, name="odd"
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_layer_without_a_rule_is_refused_by_name(message):
    source = keras.Input(SHAPE)
    if "operation" in message:
        x = source * 2.0
    elif "Multiply" in message:
        x = layers.Multiply(name="odd")([source, source])
    else:
        x = REFUSED[message]()(source)
    model = keras.Model(source, layers.Dense(1)(layers.Flatten()(x)))
    with pytest.raises(EngineError, match=message):
        lrp.explain(model, scan()[None])


# Pairs of shapes that numpy and Keras would broadcast in a sum.
UNEQUAL = {
    "channels": ((4, 3, 5, 3), (4, 3, 5, 1)),
    "places": ((4, 3, 5, 3), (1, 1, 1, 3)),
    "one axis": ((4, 3, 5, 3), (4, 1, 5, 3)),
}


@pytest.mark.parametrize("kind", ["Add", "Average", "Subtract", "+"])
@pytest.mark.parametrize("shapes", UNEQUAL)
def test_a_sum_of_unequal_shapes_is_refused_with_both(kind, shapes):
    """Relevance of the smaller input would need a rule of its own."""
    first, second = UNEQUAL[shapes]
    source = keras.Input(SHAPE)
    flat = layers.Flatten()(source)
    branches = [
        layers.Reshape(shape)(layers.Dense(int(np.prod(shape)))(flat)) for shape in (first, second)
    ]
    total = (
        branches[0] + branches[1] if kind == "+" else getattr(layers, kind)(name="odd")(branches)
    )
    model = keras.Model(source, layers.Dense(1)(layers.Flatten()(total)))
    with pytest.raises(EngineError) as caught:
        lrp.explain(model, scan()[None])
    message = str(caught.value)
    for shape in (first, second):
        assert ", ".join(map(str, shape)) in message
    assert "one shape" in message
    assert kind == "+" or message.startswith("layer odd: found inputs of shapes")


def test_a_layer_that_computes_something_else_is_detected_by_the_logit():
    """Whatever the layer is called: the graph's logit is compared with the model's own."""
    for ending in ([layers.Dense(1)], [layers.Dense(1, activation="sigmoid")]):
        stack = [keras.Input(SHAPE), layers.Conv3D(2, 2), layers.Flatten(), *ending]
        model = filled(keras.Sequential(stack))
        convolution = model.layers[0]
        own_call = convolution.call
        convolution.call = lambda inputs, own_call=own_call: 2 * own_call(inputs)
        with pytest.raises(EngineError, match=r"of the model itself, .* as LRP reads them"):
            lrp.explain(model, scan()[None])
        convolution.call = own_call
        lrp.explain(model, scan()[None])


class Tripled(keras.Model):
    """Layers that are known, in a model that computes something else."""

    def call(self, inputs, training=None, mask=None):
        """The output for another scan."""
        return super().call(3 * inputs, training=training)


class Negated(keras.Sequential):
    """The same with a sequential model."""

    def call(self, inputs, training=None, mask=None):
        """The output with the other sign."""
        return -super().call(inputs, training=training)


class Unchanged(keras.Model):
    """A model with a method that changes nothing."""

    def call(self, inputs, training=None, mask=None):
        """The output."""
        return super().call(inputs, training=training)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_a_model_with_a_call_of_its_own_is_compared_by_that_call(activation):
    """Its layers were explained, whatever the model made of them."""
    source = keras.Input(SHAPE)
    output = layers.Dense(1, activation=activation)(layers.Flatten()(source))
    stack = [keras.Input(SHAPE), layers.Flatten(), layers.Dense(1, activation=activation)]
    for model in (Tripled(source, output), Negated(stack)):
        with pytest.raises(EngineError, match=r"of the model itself, .* as LRP reads them"):
            lrp.explain(filled(model), scan()[None])
    model = filled(Unchanged(source, output))
    plain = keras.Model(source, output)
    np.testing.assert_array_equal(
        lrp.explain(model, scan()[None]).relevance, lrp.explain(plain, scan()[None]).relevance
    )


@pytest.mark.parametrize("blank", ["scan", "table"])
def test_a_changed_layer_is_detected_though_the_first_scan_is_0(blank):
    """Twice 0 is 0, and the model was not compared again."""
    source, table = keras.Input(SHAPE, name="scan"), keras.Input((3,), name="table")
    features = [
        layers.Dense(2, use_bias=False, name="of_scan")(layers.Flatten()(source)),
        layers.Dense(2, use_bias=False, name="of_table")(table),
    ]
    both = layers.Concatenate()(features)
    model = filled(keras.Model([source, table], layers.Dense(1, use_bias=False)(both)))
    changed = model.get_layer(f"of_{blank}")
    own_call = changed.call
    changed.call = lambda inputs, training=None: 2 * own_call(inputs)
    given = {"scan": scan()[None], "table": np.ones((1, 3))}
    given[blank] = 0 * given[blank]
    with pytest.raises(EngineError, match=r"of the model itself, .* as LRP reads them"):
        lrp.explain(model, given)


class Subclassed(keras.Model):
    """Layers that are known only while the model runs."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, inputs):
        """Logit."""
        return self.dense(ops.reshape(inputs, (inputs.shape[0], -1)))


def test_what_is_no_model_of_keras_is_refused_with_what_to_do():
    subclassed = Subclassed()
    subclassed(scan()[None])
    with pytest.raises(ParameterError, match="whose layers are known only while it runs"):
        lrp.explain(subclassed, scan()[None])
    with pytest.raises(ParameterError, match=r"type builtins.str; .*keras.models.load_model"):
        lrp.explain("model.keras", scan()[None])
    two = keras.Input(SHAPE), keras.Input(SHAPE)
    model = keras.Model(two, layers.Dense(1)(layers.Flatten()(layers.Add()(two))))
    with pytest.raises(EngineError, match="expected one input of scans"):
        lrp.explain(model, scan()[None])
