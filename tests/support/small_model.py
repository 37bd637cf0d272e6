"""A network of two convolutions on a small grid, with biases."""

import keras
import numpy as np

SHAPE = (12, 13, 11)


def small_model() -> keras.Model:
    """Weights of seed 0; biases are not 0."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((*SHAPE, 1)),
            layers.Conv3D(3, 3, activation="elu", name="conv1"),
            layers.MaxPooling3D(2, name="pool"),
            layers.Conv3D(3, 3, activation="elu", name="conv2"),
            layers.Flatten(name="flatten"),
            layers.Dense(1, name="dense"),
        ]
    )
    for layer in model.layers:
        if layer.weights:
            layer.bias.assign(0.1 * np.random.default_rng(1).normal(size=layer.bias.shape))
    return model
