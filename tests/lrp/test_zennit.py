"""Composites against zennit 0.5.1, another program, in PyTorch; benchmarks/lrp_zennit.py ran it."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from msxai import lrp
from msxai.lrp import rules

STORED = dict(np.load(Path(__file__).parent / "zennit.npz"))


@pytest.fixture(scope="module")
def model(one_thread):
    model = keras.Sequential(
        [
            keras.Input((20, 20, 20, 1)),
            layers.Conv3D(4, 3, activation="elu", name="conv1"),
            layers.MaxPooling3D(3),
            layers.Conv3D(3, 3, activation="elu", name="conv2"),
            layers.MaxPooling3D(2),
            layers.Flatten(),
            layers.Dense(1, name="dense"),
        ]
    )
    for name in ("conv1", "conv2", "dense"):
        model.get_layer(name).set_weights([STORED[f"{name}/kernel"], STORED[f"{name}/bias"]])
    return model


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [name for name in rules.COMPOSITES if name in STORED])
def test_composites_agree_with_zennit(model, name, dtype):
    low, high = STORED["low_high"]
    rule = {**rules.COMPOSITES[name]}
    if name == "epsilon_gamma_box":
        rule["first"] = {
            "rule": "bounded",
            "low": low,
            "high": high,
        }  # zennit's are given, ours by default the volume's own
    explanation = lrp.explain(
        model, STORED["volume"], rule, computation=lrp.Computation(dtype=dtype)
    )
    assert explanation.logits[0] == pytest.approx(STORED["logit"][0, 0], rel=1e-5)
    assert np.linalg.norm(explanation.relevance[0, ..., 0] - STORED[name]) <= 1e-4 * np.linalg.norm(
        STORED[name]
    )


def test_which_composites_are_not_held_against_zennit():
    """Those with other gammas than epsilon_gamma_box; the oracle holds gamma of any value."""
    assert set(rules.COMPOSITES) - set(STORED) == {"epsilon_gamma", "epsilon_half_gamma_box"}
