"""What the package's networks are compared with: stored, read back, and of these weights alone."""

import json

import numpy as np
import pytest
from scipy import optimize

from msxai.lrp import heatmaps, shipped_reference
from msxai.model import shipped

LIMITS = {"conservation": 0.5, "out_of_distribution": 9.0, "outside_brain": 0.1, "agreement": 0.3}


@pytest.fixture
def weights(tmp_path):
    paths = [tmp_path / "first.npz", tmp_path / "second.npz"]
    for path in paths:
        path.write_text(path.name)
    return paths


@pytest.fixture
def stored(tmp_path, weights, rng):
    features = [rng.normal(size=(12, 3)).astype("float32") for _ in weights]
    labels = np.repeat([0.0, 1.0], 6)
    entry = {"rule": "epsilon", "epsilon": 1e-3, "copies": 1, "limits": LIMITS}
    logit_labels = np.repeat([0.0, 1.0], 20)
    logits = (3 * logit_labels + 2 * rng.normal(size=(2, 40))).astype("float32")
    stored = shipped_reference.Stored(
        features, labels, logits, logit_labels, [entry], "simulated: 6 scans"
    )
    shipped_reference.write(stored, weights, tmp_path, command="make it")
    return stored


def test_what_is_written_is_read(tmp_path, weights, stored):
    read = shipped_reference.read(weights, tmp_path)
    for values, expected in zip(read.features, stored.features, strict=True):
        np.testing.assert_array_equal(values, expected)
    for name in ("labels", "logits", "logit_labels"):
        np.testing.assert_array_equal(getattr(read, name), getattr(stored, name))
    assert read.limits == stored.limits
    assert read.source == "simulated: 6 scans"
    assert json.loads((tmp_path / shipped_reference.RECORD).read_text())["command"] == "make it"


def test_other_networks_have_no_reference(tmp_path, weights, stored):
    assert shipped_reference.read(weights[::-1], tmp_path) is None, "another order"
    assert shipped_reference.read(weights[:1], tmp_path) is None, "the agreement is of two"
    weights[1].write_text("other weights")
    assert shipped_reference.read(weights, tmp_path) is None
    (tmp_path / shipped_reference.RECORD).unlink()
    assert shipped_reference.read(weights, tmp_path) is None, "an older package"


def test_limits_are_of_maps_that_are_made_alike(stored):
    assert stored.limits_of("epsilon", 1e-3, 1) == LIMITS
    of_the_scan = {"out_of_distribution": 9.0}
    assert stored.limits_of("epsilon", 1e-3, 8) == of_the_scan
    assert stored.limits_of("epsilon", 1e-2, 1) == of_the_scan
    assert stored.limits_of("epsilon_plus", 1e-3, 1) == of_the_scan


def test_the_distance_grows_away_from_the_sample(stored):
    centre = [values[:6].mean(axis=0, keepdims=True) for values in stored.features]
    far = [values + 100 for values in centre]
    assert stored.distance(centre)[0] == pytest.approx(0, abs=1e-5)
    assert stored.distance(far)[0] > 50


def test_probabilities_fit_the_stored_subjects_best(stored):
    labels = stored.logit_labels

    def loss(line):
        values = line[0] * stored.logits[1] + line[1]
        return np.sum(np.logaddexp(0, values) - labels * values)

    slope, offset = optimize.minimize(loss, [1.0, 0.0]).x
    expected = 1 / (1 + np.exp(-(slope * 2.5 + offset)))
    assert stored.calibrated([0.0, 2.5])[1] == pytest.approx(expected, abs=1e-3)
    for index in range(2):
        own = [stored.calibrated(pair)[index] for pair in stored.logits.T]
        assert np.mean(own) == pytest.approx(labels.mean(), abs=1e-3)


def test_standing_among_the_stored_subjects(stored):
    means = stored.logits.mean(axis=0)
    standing = stored.standing(np.sort(means[20:])[7])
    assert (standing.patients, standing.patients_below) == (20, 7)
    standing = stored.standing(np.sort(means[:20])[16])
    assert (standing.controls, standing.controls_above) == (20, 3)


def test_maps_of_these_networks_get_the_stored_limits(monkeypatch, tmp_path, weights, stored):
    monkeypatch.setattr(shipped, "folder", lambda: tmp_path)
    reference = heatmaps.reference_of([], weights, heatmaps.Settings("epsilon"))
    assert reference.limits == LIMITS
    assert reference.source == "simulated: 6 scans"


def test_the_package_brings_the_reference_of_its_networks():
    stored = shipped_reference.read(shipped.weights())
    assert stored is not None, "the weights have changed: .venv/bin/python tools/ship_reference.py"
    assert len(stored.features) == len(shipped.weights())
    for rule, copies in (("epsilon_gamma", 1), ("epsilon_gamma", 8), ("epsilon", 1)):
        limits = stored.limits_of(rule, 1e-3, copies)
        assert set(limits) == set(LIMITS)
        assert None not in limits.values()
    assert set(stored.labels) == {0, 1}
    assert stored.logits.shape == (len(shipped.weights()), len(stored.logit_labels))
    means = stored.logits.mean(axis=0)
    assert means[stored.logit_labels == 1].mean() > means[stored.logit_labels == 0].mean() + 1
    assert stored.source.startswith("simulated")
