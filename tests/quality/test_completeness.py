"""Conservation with and without biases on a small network."""

import numpy as np
import pytest
from support.small_model import SHAPE, small_model

from msxai import lrp
from msxai.quality import completeness


@pytest.fixture
def model():
    return small_model()


def test_conservation_without_biases(model, rng):
    volumes = rng.normal(size=(2, *SHAPE, 1)).astype("float32")
    free = completeness.bias_free(model)
    exact = lrp.explain(
        free, volumes, "epsilon", epsilon=1e-9, computation=lrp.Computation(dtype="float64")
    )
    assert (completeness.conservation(exact) < 1e-4).all()
    assert (
        completeness.conservation(
            lrp.explain(
                model,
                volumes,
                "epsilon",
                epsilon=1e-9,
                computation=lrp.Computation(dtype="float64"),
            )
        )
        > 1e-3
    ).all()  # biases keep some
    assert model.get_layer("conv1").bias.numpy().any()


def test_biases_become_zero_whether_or_not_they_were(model):
    first = model.get_layer("conv1").bias
    first.assign([0, *first.numpy()[1:]])
    assert first.numpy()[1:].all()
    free = completeness.bias_free(model)
    for name in ("conv1", "conv2", "dense"):
        bias = free.get_layer(name).bias.numpy()
        assert (bias == 0).all(), name
        np.testing.assert_array_equal(
            free.get_layer(name).kernel.numpy(), model.get_layer(name).kernel.numpy()
        )
