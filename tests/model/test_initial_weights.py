"""A seed gives the same initial weights in every version: all trained networks depend on them."""

import keras
import numpy as np
import pytest

from msxai.model import network


@pytest.mark.parametrize(
    ("fast", "expected"),
    [
        (True, [7.391106, 11.974036, 12.866282, 13.53418, 2.15249]),
        (False, [7.568353, 13.551982, 11.733796, 13.76115, 2.312798]),
    ],
)
def test_seed_0_gives_the_known_weights(fast, expected):
    keras.utils.set_random_seed(0)
    first = network.build(2, fast=True)
    weights = network.weights(first if fast else network.build(2, fast=False))
    magnitudes = [np.abs(values).sum() for name, values in weights.items() if "kernel" in name]
    assert magnitudes == pytest.approx(expected, rel=1e-5)
