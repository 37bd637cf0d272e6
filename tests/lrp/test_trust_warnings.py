"""msxai.lrp.trust_warnings on maps made by hand: which flag must fire; flags in sidecars."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import spatial, stats
from support.networks import with_weights
from support.toy_cohort import Toy

from msxai import lrp
from msxai.base import provenance
from msxai.data import images
from msxai.lrp import heatmaps, trust_warnings
from msxai.model import network, training

BRAIN = np.zeros((8, 8, 8), bool)
BRAIN[2:6, 2:6, 2:6] = True


def maps(rng, noise=0.0, outside=0.0):
    """Maps of two networks whose mean sums to 2, `outside` of it outside the brain."""
    shared = np.where(BRAIN, rng.random(BRAIN.shape), 0)
    both = []
    for _ in range(2):
        relevance = np.where(BRAIN, shared + noise * rng.normal(size=BRAIN.shape), 0)
        relevance *= (1 - outside) * 2 / relevance.sum()
        relevance[0, 0, 0] = 2 * outside
        both.append(relevance)
    return np.stack(both).astype("float32")


def test_values_by_hand(rng):
    values = trust_warnings.measure(maps(rng), [2.0, 2.0], BRAIN)
    assert values == pytest.approx(
        {"conservation": 0, "outside_brain": 0, "agreement": 1}, abs=1e-6
    )
    values = trust_warnings.measure(maps(rng, outside=0.25), [4.0, 4.0], BRAIN)
    assert values["conservation"] == pytest.approx(0.5)
    assert values["outside_brain"] == pytest.approx(0.25)
    assert trust_warnings.measure(maps(rng), [-4.0, -4.0], BRAIN)["conservation"] == pytest.approx(
        1.5
    ), "of the wrong sign"
    assert trust_warnings.measure(maps(rng), [1e-3, 1e-3], BRAIN)["conservation"] == pytest.approx(
        1.999
    ), "undecided: in logits"
    pair = maps(rng, noise=2)
    pair[:, BRAIN] = np.abs(pair[:, BRAIN])
    assert trust_warnings.measure(pair, [1, 1], BRAIN)["agreement"] == pytest.approx(
        stats.spearmanr(pair[0][BRAIN], pair[1][BRAIN]).statistic
    )
    three = np.concatenate([pair, pair[:1]])
    assert trust_warnings.measure(three, [1] * 3, BRAIN)["agreement"] == pytest.approx(
        (1 + 2 * trust_warnings.measure(pair, [1, 1], BRAIN)["agreement"]) / 3
    )


def test_what_cannot_be_told_is_none(rng):
    assert trust_warnings.measure(maps(rng)[:1], [2.0], BRAIN)["agreement"] is None, "one network"
    values = trust_warnings.measure(np.zeros((2, 8, 8, 8)), [0.0, 0.0], BRAIN)
    assert values == {"conservation": 0, "outside_brain": None, "agreement": None}
    flags = trust_warnings.flags(
        values,
        trust_warnings.limits([trust_warnings.measure(maps(rng), [2.0, 2.0], BRAIN)]),
        "here",
    )
    assert {flag["Flag"]: flag["Flagged"] for flag in flags} == dict.fromkeys(
        trust_warnings.FLAGS
    ) | {"conservation": False}
    assert trust_warnings.limits([]) == dict.fromkeys(trust_warnings.FLAGS)


def test_each_flag_fires_on_its_own_fault_alone(rng):
    """Thirty validation scans of one kind; then one fault at a time."""
    features = rng.normal(size=(200, 4)) + np.repeat([[0], [5]], 100, axis=0)
    distance = trust_warnings.Distance([features], np.repeat([0, 1], 100))

    def values(noise=0.3, outside=0.02, lost=0.1, far=0.0):
        noise, outside, lost = (value * rng.uniform(0.9, 1.1) for value in (noise, outside, lost))
        measured = trust_warnings.measure(maps(rng, noise, outside), [2 / (1 - lost)] * 2, BRAIN)
        return measured | {
            "out_of_distribution": float(distance([rng.normal(size=(1, 4)) + far])[0])
        }

    limits = trust_warnings.limits([values() for _ in range(30)])
    fired = {
        fault: [
            flag["Flag"]
            for flag in trust_warnings.flags(values(**{fault: value}), limits, "30 scans")
            if flag["Flagged"]
        ]
        for fault, value in {"noise": 30.0, "outside": 0.4, "lost": 0.5, "far": 30.0}.items()
    }
    assert fired == {
        "noise": ["agreement"],
        "outside": ["outside_brain"],
        "lost": ["conservation"],
        "far": ["out_of_distribution"],
    }
    alarms = np.mean(
        [
            [flag["Flagged"] for flag in trust_warnings.flags(values(), limits, "")]
            for _ in range(200)
        ],
        axis=0,
    )
    assert (alarms < 0.15).all(), f"scans like the validation part's are rarely flagged: {alarms}"
    (flag,) = [
        flag
        for flag in trust_warnings.flags(values(), limits, "30 scans")
        if flag["Flag"] == "agreement"
    ]
    assert flag["LimitFrom"] == "30 scans"
    assert flag["Limit"] == limits["agreement"]


def test_limits_are_conformal_quantiles():
    values = [{"outside_brain": value, "agreement": value} for value in np.arange(1, 40) / 100]
    assert trust_warnings.limits(values)["outside_brain"] == 0.38, "ceil(40 x .95) = 38th of 39"
    assert trust_warnings.limits(values)["agreement"] == 0.02, "the 38th from above"
    assert trust_warnings.limits(values[:5])["outside_brain"] == 0.05, "few: the largest of all"


def test_distance_is_scipys_to_the_nearer_group(rng):
    labels = np.repeat([0, 1], 5000)
    spread = rng.normal(size=(3, 3))
    features = rng.normal(size=(10000, 3)) @ spread + np.where(labels[:, None] == 1, 10, 0)
    tested = np.array([[1.0, 2, 3], [12, 9, 10]])
    inverse = np.linalg.inv(np.cov((features - np.where(labels[:, None] == 1, 10, 0)).T))
    expected = [
        min(
            spatial.distance.mahalanobis(scan, centre, inverse)
            for centre in (np.zeros(3), np.full(3, 10))
        )
        for scan in tested
    ]
    assert trust_warnings.Distance([features], labels)([tested]) == pytest.approx(expected, rel=0.1)
    twice = trust_warnings.Distance([features, 2 * features], labels)(
        [tested, 2 * tested]
    )  # a scale of its own changes nothing
    assert twice == pytest.approx(trust_warnings.Distance([features], labels)([tested]), rel=0.02)
    assert np.isnan(trust_warnings.Distance([features[[0, 9000]]], [0, 1])([tested])).all(), (
        "one scan a group"
    )
    unknown = np.where(np.arange(10000) % 2, np.nan, labels)
    assert np.isfinite(trust_warnings.Distance([features], unknown)([tested])).all()


def test_the_reference_is_the_cohort_that_the_network_was_trained_on(tmp_path, monkeypatch):
    weights, arrays = (
        tmp_path / "finetuning" / "scratch" / "trial-0" / "weights.npz",
        tmp_path / "prepared" / "c.h5",
    )
    monkeypatch.setattr(trust_warnings, "Prepared", lambda path, split: (path, split))
    assert trust_warnings.reference(weights) == (
        None,
        "the scans that the network was trained on are not at hand",
    )
    for path in (weights, arrays, arrays.with_name("c_split.tsv")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    split = arrays.with_name("c_split.tsv")
    inputs = {
        "c.h5": provenance.sha256(arrays),
        "c_split.tsv": provenance.sha256(split),
    }  # of results outside the checkout: names alone
    outputs = {"weights.npz": provenance.sha256(weights)}
    provenance.write_json(
        weights.parent / "provenance.json", {"inputs": inputs, "outputs": outputs}
    )
    assert trust_warnings.reference(weights)[0] == (arrays, split)
    split.write_text("another")
    assert trust_warnings.reference(weights)[0] is None, (
        "split anew since: other scans were trained on"
    )
    split.write_text("1")
    filled = tmp_path / "lesion-filled" / "noise" / "c.h5"
    filled.parent.mkdir(parents=True)
    filled.write_text("filled")
    other = {
        "results/lesion-filled/noise/c.h5": provenance.sha256(filled),
        "results/prepared/c_split.tsv": provenance.sha256(split),
    }
    provenance.write_json(weights.parent / "provenance.json", {"inputs": other, "outputs": outputs})
    assert trust_warnings.reference(weights)[0] == (filled, split), (
        "a variant on filled scans, of moved results"
    )
    provenance.write_json(
        weights.parent / "provenance.json", {"inputs": inputs, "outputs": outputs}
    )
    arrays.write_text("2")
    assert trust_warnings.reference(weights)[0] is None, "prepared anew since: other scans"
    arrays.write_text("1")
    weights.write_text("trained anew")
    assert trust_warnings.reference(weights)[0] is None, "a record of other weights"
    (weights.parent / "provenance.json").write_text("no JSON")
    assert trust_warnings.reference(weights)[0] is None


def test_fast_networks_predict_as_plain_ones(tmp_path):
    toy, path = Toy(tmp_path), tmp_path / "weights.npz"
    network.save_weights(with_weights(2, images.SHAPE), path)
    models = [network.restore(path), network.restore(path, fast=True)]
    plain, fast = (training.predict(model, toy, range(6)) for model in models)
    np.testing.assert_allclose(fast, plain, rtol=0, atol=1e-5)
    plain, fast = trust_warnings.features(models, toy, range(6))
    np.testing.assert_allclose(fast, plain, rtol=0, atol=1e-5)


def test_the_flags_stand_in_every_sidecar(tmp_path, monkeypatch):
    toy, paths = Toy(tmp_path), [tmp_path / f"{trial}.npz" for trial in (0, 1)]
    toy.table["part"] = ["training"] * 3 + ["validation"] + ["holdout"] * 2
    toy.images *= 0.1
    toy.images[5] *= 40  # unlike all others
    for trial, path in enumerate(paths):
        network.save_weights(with_weights(1, images.SHAPE, seed=trial), path)

    def explain(model, volumes, rule, *, epsilon, copies, computation):
        audit = pd.DataFrame({"volume": range(len(volumes)), **dict.fromkeys(lrp.AUDIT[1:], 0.0)})
        return lrp.Explanation(
            np.abs(volumes),
            np.abs(volumes).sum(axis=(1, 2, 3, 4)),
            audit,
            rule,
            epsilon,
            computation.engine,
        )

    features = trust_warnings.features

    def features_by_fast_networks(models, prepared, rows):
        layers = [model.get_layer("conv1") for model in models]
        assert all(isinstance(layer, network.ConvolutionPool) for layer in layers)
        return features(models, prepared, rows)

    monkeypatch.setattr(trust_warnings, "features", features_by_fast_networks)
    monkeypatch.setattr(lrp, "explain", explain)
    settings = heatmaps.Settings(rule="epsilon", computation=lrp.Computation(threads=1))
    for at_hand, reference in ((True, (toy, "")), (False, (None, "not at hand"))):
        monkeypatch.setattr(trust_warnings, "reference", lambda weights, answer=reference: answer)
        heatmaps.write(tmp_path / "maps", toy, toy.rows("holdout"), paths, settings)
        table = heatmaps.read_trust(tmp_path / "maps")
        assert (
            table.groupby("participant_id")["flag"].apply(list).tolist()
            == [list(trust_warnings.FLAGS)] * 2
        )
        flags = {}
        for path in sorted((tmp_path / "maps").rglob("*stat-relevance*_statmap.json")):
            sidecar = json.loads(path.read_text())
            flags[path.name[:5]] = {flag["Flag"]: flag for flag in sidecar["Trust"]}
        assert list(flags) == ["sub-4", "sub-5"]
        assert len(list((tmp_path / "maps").rglob("*_statmap.json"))) == 4, (
            "the standard deviation's sidecars too"
        )
        assert flags["sub-5"]["agreement"]["Value"] == pytest.approx(1)
        assert flags["sub-5"]["out_of_distribution"]["Flagged"] is (True if at_hand else None)
        assert flags["sub-5"]["outside_brain"]["Flagged"] is (False if at_hand else None)
        assert flags["sub-5"]["outside_brain"]["LimitFrom"] == (
            "1 validation scans of toy; exceeded by 50% of scans like them"
            if at_hand
            else "not at hand"
        )
