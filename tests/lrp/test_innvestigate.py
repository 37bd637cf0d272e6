"""msxai.lrp against iNNvestigate 2.1.2, another program, on the paper's network at full size."""

import dataclasses
import functools
import os

import keras
import numpy as np
import pytest
from support.layers import distance
from support.networks import SMALL, with_weights
from support.other_engines import need_innvestigate
from support.ties import near_ties

from msxai import lrp
from msxai.base.errors import ParameterError
from msxai.data.images import SHAPE
from msxai.lrp import innvestigate
from msxai.model import network

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
FURTHER = tuple(name for name in TWINS if name not in QUICK)
PROCESSES = pytest.mark.long(reason="each iNNvestigate run is a process of its own, 12 s")


@pytest.fixture(scope="module")
def network_and_scan(one_thread):
    model = with_weights(4, SHAPE, seed=11)
    rng = np.random.default_rng(12)
    volume = rng.normal(size=(1, *SHAPE, 1)).astype("float32")
    volume[:, :10], volume[:, :, 100:] = 0, 0  # no brain
    return model, volume


@pytest.fixture(scope="module")
def distances(network_and_scan):
    """How far both engines' maps by some rules are apart; iNNvestigate runs once for all.

    TensorFlow is told to leave oneDNN out, as on some CPUs.
    """
    model, volume = network_and_scan

    @functools.cache
    def distances_of(names):
        need_innvestigate()
        twins = {}
        for name in names:
            twins[name] = {"convolution": TWINS[name], "dense": TWINS[name]}
        ours = lrp.explain_each(model, volume, twins)
        with pytest.MonkeyPatch.context() as monkeypatch:
            # A copy: of this process nothing changes
            monkeypatch.setattr(os, "environ", {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"})
            theirs = lrp.explain_each(
                model, volume, names, computation=lrp.Computation(engine="innvestigate")
            )
        distances = {}
        for name in names:
            distances[name] = distance(ours[name].relevance, theirs[name].relevance)
        return distances

    return distances_of


@pytest.mark.parametrize("name", QUICK)
def test_both_engines_agree_where_innvestigate_is_right(distances, name):
    assert distances(QUICK)[name] <= 1e-4


@PROCESSES
@pytest.mark.parametrize("name", FURTHER)
def test_both_engines_agree_on_the_further_rules(distances, name):
    assert distances(FURTHER)[name] <= 1e-4


@PROCESSES
def test_its_alpha_beta_differs_because_of_biases_alone(monkeypatch):
    """msxai's equals the oracle with biases (test_engine), iNNvestigate's without any bias only."""
    need_innvestigate()
    analyzers = {"alpha1_beta0": "lrp.alpha_1_beta_0", "alpha2_beta1": "lrp.alpha_2_beta_1"}
    for rule, analyzer in analyzers.items():
        monkeypatch.setitem(innvestigate.ANALYZERS, rule, analyzer)
    volume = np.random.default_rng(13).normal(size=(1, *SMALL, 1)).astype("float32")
    apart = {}
    for biases in ("with", "without"):
        model = with_weights(2, SMALL, seed=11)
        for layer in model.layers:
            if layer.weights and biases == "without":
                layer.set_weights([layer.get_weights()[0], np.zeros(layer.bias.shape)])
        assert near_ties(model, volume) == 0
        theirs, ours = (
            lrp.explain_each(
                model, volume, list(analyzers), computation=lrp.Computation(engine=engine)
            )
            for engine in ("innvestigate", "msxai")
        )
        for rule in analyzers:
            apart[biases, rule] = distance(theirs[rule].relevance, ours[rule].relevance)
    for rule in analyzers:
        assert apart["without", rule] <= 1e-4
        assert apart["with", rule] > 1e-2


def test_a_network_with_another_head_is_refused():
    weights = network.weights(network.build(2, head="everywhere"))
    scan = np.zeros((1, *SHAPE, 1), "float32")
    with pytest.raises(ParameterError, match="parameter engine"):
        innvestigate.explain(weights, SHAPE, scan, ["epsilon"], 1e-3, 1, 1)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"dtype": "float64"}, "parameter dtype: found 'float64' with engine innvestigate"),
        ({"compiled": True}, "parameter compiled: found True with engine innvestigate"),
        ({"compiled": False}, "parameter compiled: found False with engine innvestigate"),
    ],
)
def test_an_option_that_innvestigate_would_ignore_is_refused(option, words):
    lrp.Computation(**option)
    with pytest.raises(ParameterError, match=words):
        lrp.Computation(engine="innvestigate", **option)


def test_every_other_option_reaches_innvestigate(monkeypatch):
    """Epsilon, batch size and threads; the target and the copies are the engine's own work."""
    reached = {}

    def explain(weights, shape, scans, rules, epsilon, batch_size, threads):
        reached.update(epsilon=epsilon, batch_size=batch_size, threads=threads, rules=rules)
        return {"epsilon": np.zeros((len(scans), *shape, 1), "float32")}

    monkeypatch.setattr(innvestigate, "explain", explain)
    model = with_weights(2)
    scans = np.zeros((2, *SMALL, 1), "float32")
    computation = lrp.Computation(engine="innvestigate", batch_size=7, threads=3)
    fields = {field.name for field in dataclasses.fields(computation)}
    assert fields == {"engine", "batch_size", "threads", "dtype", "compiled"}
    lrp.explain(model, scans, "epsilon", epsilon=0.25, copies=2, computation=computation)
    assert reached == {"epsilon": 0.25, "batch_size": 7, "threads": 3, "rules": ["epsilon"]}
    with pytest.raises(ParameterError, match="target"):
        lrp.explain(model, scans, "epsilon", target=5, computation=computation)


def another_activation(model):
    model.get_layer("elu3").activation = keras.activations.relu
    return model


def other_layers(model):
    flat = keras.layers.Dense(1, name="dense")(keras.layers.Flatten()(model.inputs[0]))
    return keras.Model(model.inputs[0], flat)


@pytest.mark.parametrize(
    ("change", "words"),
    [(another_activation, "has another output"), (other_layers, "has other weights")],
)
def test_another_network_than_the_papers_is_refused_before_innvestigate_starts(
    monkeypatch, change, words
):
    """It gets the weights alone, and builds the paper's network with them."""
    monkeypatch.setattr(innvestigate, "explain", None)
    scans = np.random.default_rng(0).normal(size=(1, *SMALL, 1))
    with pytest.raises(ParameterError, match=words):
        computation = lrp.Computation(engine="innvestigate")
        lrp.explain(change(with_weights(2)), scans, "epsilon", computation=computation)
