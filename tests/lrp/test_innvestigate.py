"""msxai.lrp against iNNvestigate 2.1.2, another program, on the paper's network at full size."""

import os

import numpy as np
import pytest
from support.networks import SMALL, with_weights
from support.ties import near_ties

from msxai import lrp
from msxai.data.images import SHAPE
from msxai.lrp import innvestigate

# iNNvestigate's alpha-beta is wrong where a layer has a bias (its issue 273). Only its variants
# that ignore biases are compared.
TWINS = {
    "epsilon": "epsilon",
    "z": "z",
    "flat": "flat",
    "w_square": "w_square",
    "alpha1_beta0_IB": {"rule": "alpha_beta", "alpha": 1, "beta": 0, "bias": False},
    "alpha2_beta1_IB": {"rule": "alpha_beta", "alpha": 2, "beta": 1, "bias": False},
}
QUICK = ("epsilon", "alpha2_beta1_IB")
PROCESSES = pytest.mark.long(reason="each iNNvestigate run is a process of its own, 12 s")


@pytest.fixture(scope="module")
def network_and_scan(one_thread):
    model = with_weights(4, SHAPE, seed=11)
    rng = np.random.default_rng(12)
    volume = rng.normal(size=(1, *SHAPE, 1)).astype("float32")
    volume[:, :10], volume[:, :, 100:] = 0, 0  # no brain
    return model, volume


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else PROCESSES) for name in TWINS],
)
def test_both_engines_agree_where_innvestigate_is_right(network_and_scan, name, monkeypatch):
    """On a CPU for which TensorFlow leaves oneDNN out, too."""
    monkeypatch.setattr(
        os, "environ", {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    )  # a copy: of this process nothing changes
    model, volume = network_and_scan
    twin = TWINS[name]
    ours = lrp.explain(model, volume, {"convolution": twin, "dense": twin}).relevance
    theirs = lrp.explain(
        model, volume, name, computation=lrp.Computation(engine="innvestigate")
    ).relevance
    assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs)


@PROCESSES
@pytest.mark.parametrize("rule", ["alpha1_beta0", "alpha2_beta1"])
def test_its_alpha_beta_differs_because_of_biases_alone(monkeypatch, rule):
    """msxai's equals the oracle with biases (test_engine), iNNvestigate's without any bias only."""
    monkeypatch.setitem(
        innvestigate.ANALYZERS,
        rule,
        {"alpha1_beta0": "lrp.alpha_1_beta_0", "alpha2_beta1": "lrp.alpha_2_beta_1"}[rule],
    )
    volume = np.random.default_rng(13).normal(size=(1, *SMALL, 1)).astype("float32")
    distance = {}
    for biases in ("with", "without"):
        model = with_weights(2, SMALL, seed=11)
        for layer in model.layers:
            if layer.weights and biases == "without":
                layer.set_weights([layer.get_weights()[0], np.zeros(layer.bias.shape)])
        assert near_ties(model, volume) == 0
        ours, theirs = (
            lrp.explain(model, volume, rule, computation=lrp.Computation(engine=engine)).relevance
            for engine in lrp.ENGINES
        )
        distance[biases] = np.linalg.norm(ours - theirs) / np.linalg.norm(ours)
    assert distance["without"] <= 1e-4
    assert distance["with"] > 1e-2
