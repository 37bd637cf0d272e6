"""Networks with layers of every kind, and the same for the oracle."""

import keras
import numpy as np
from keras import layers, ops


def filled(model, seed=0):
    """The model with random weights, biases and statistics."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        weights = []
        for variable in layer.weights:
            values = rng.normal(0, 0.4, variable.shape)
            if "variance" in variable.name:
                values = values**2 + 1
            weights.append(values)
        layer.set_weights(weights)
    return model


def weights_of(model, name):
    return [value.astype(float) for value in model.get_layer(name).get_weights()]


def distance(values, expected):
    return np.linalg.norm(values - expected) / np.linalg.norm(expected)


def conv(model, name, source, rule, **options):
    kernel, bias = weights_of(model, name)
    return ("conv", source, kernel, bias, options, rule)


def chain(rule):
    """A chain of layers of every kind, and the same for the oracle."""
    stack = [
        keras.Input((11, 9, 10, 2)),
        layers.Conv3D(3, 3, activation="elu", padding="same", name="a"),
        layers.MaxPooling3D(2, name="p"),
        layers.Conv3D(4, (2, 3, 2), strides=(2, 1, 1), name="b"),
        layers.LeakyReLU(0.2),
        layers.Dropout(0.5),
        layers.AveragePooling3D(2, strides=1, padding="same", name="m"),
        layers.Conv3D(3, (2, 2, 3), strides=(1, 1, 2), padding="same", name="c"),
        layers.ReLU(),
        layers.MaxPooling3D((1, 2, 2), strides=1, name="q"),
        layers.Flatten(),
        layers.Dense(3, activation="elu", name="d"),
        layers.Dense(2, activation="softmax", name="e"),
    ]
    model = filled(keras.Sequential(stack))
    first, other = rule
    nodes = [
        conv(model, "a", 0, first, padding="same"),
        ("act", 1, "elu"),
        ("max", 2, (2, 2, 2), (2, 2, 2), "valid"),
        conv(model, "b", 3, other, strides=(2, 1, 1)),
        ("act", 4, "leaky_relu"),
        ("mean", 5, (2, 2, 2), (1, 1, 1), "same", 1e-9),
        conv(model, "c", 6, other, padding="same", strides=(1, 1, 2)),
        ("act", 7, "relu"),
        ("max", 8, (1, 2, 2), (1, 1, 1), "valid"),
        ("flatten", 9),
        ("dense", 10, *weights_of(model, "d"), other),
        ("act", 11, "elu"),
        ("dense", 12, *weights_of(model, "e"), other),
    ]
    return model, nodes


def with_pools(rule):
    """Two convolutions with poolings that the kernels take, and the same for the oracle."""
    stack = [
        keras.Input((26, 17, 17, 1)),
        layers.Conv3D(4, 3, name="a"),
        layers.ELU(),
        layers.MaxPooling3D(3, name="p"),
        layers.Conv3D(3, 3, activation="relu", name="b"),
        layers.MaxPooling3D(3, name="q"),
        layers.GlobalAveragePooling3D(),
        layers.Dense(1, activation="sigmoid", name="d"),
    ]
    model = filled(keras.Sequential(stack))
    first, other, dense = rule
    nodes = [
        conv(model, "a", 0, first),
        ("max", 1, (3, 3, 3), (3, 3, 3), "valid"),
        ("act", 2, "elu"),
        conv(model, "b", 3, other),
        ("max", 4, (3, 3, 3), (3, 3, 3), "valid"),
        ("act", 5, "relu"),
        ("mean", 6, (2, 1, 1), (1, 1, 1), "valid", 1e-9),
        ("flatten", 7),
        ("dense", 8, *weights_of(model, "d"), dense),
    ]
    return model, nodes


EPSILON = ("epsilon", {"stabiliser": 1e-3})


def gradient_of(model, volume, target=0):
    """df/dx by Keras's backend, without the head; float32, as its pooling knows nothing else."""
    headless = keras.models.clone_model(model)
    headless.set_weights(model.get_weights())
    headless.layers[-1].activation = keras.activations.linear
    by_backend = {"tensorflow": _by_tensorflow, "torch": _by_torch, "jax": _by_jax}
    differentiate = by_backend[keras.backend.backend()]
    gradient = differentiate(lambda x: headless(x)[0, target], volume[None].astype("float32"))
    return ops.convert_to_numpy(gradient)[0]


def _by_tensorflow(function, values):
    import tensorflow as tf

    x = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = function(x)
    return tape.gradient(output, x)


def _by_torch(function, values):
    import torch

    x = torch.tensor(values, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(x), x)
    return gradient


def _by_jax(function, values):
    import jax

    return jax.grad(function)(values)
