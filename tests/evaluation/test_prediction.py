"""Predictions of all trials, on toy arrays."""

import numpy as np
import pytest
import yaml
from support.networks import with_weights
from support.toy_cohort import Toy

from msxai import ROOT
from msxai.base.results import Results
from msxai.data import images
from msxai.evaluation import prediction
from msxai.model import network


@pytest.fixture
def where(tmp_path):
    results = Results(str(tmp_path / "results"))
    for trial in (0, 1):
        network.save_weights(
            with_weights(1, images.SHAPE, seed=trial),
            results.trial("scratch", trial) / "weights.npz",
        )
    return results


def test_predictions_are_the_networks_for_every_trial(tmp_path, where):
    toy = Toy(tmp_path)
    rows = toy.rows("holdout")
    predictions = prediction.predict(
        toy, rows, {"scratch": [(where.trial("scratch", trial), {}) for trial in (0, 1)]}
    )
    assert predictions[["variant", "trial", "participant_id", "label"]].to_numpy().tolist() == [
        ["scratch", 0, "sub-4", 0],
        ["scratch", 0, "sub-5", 1],
        ["scratch", 1, "sub-4", 0],
        ["scratch", 1, "sub-5", 1],
    ]

    class Filled(Toy):
        def image(self, row):
            return -super().image(row)

    trained = {
        "scratch": [(where.trial("scratch", 0), {})],
        "filled": [(where.trial("scratch", 0), {})],
    }
    both = prediction.predict(
        toy, rows, trained, prediction.features(toy, rows, trained, {"filled": Filled(tmp_path)})
    )
    logits = np.asarray(with_weights(1, images.SHAPE, seed=0)(-toy.images[rows][..., None]))[:, 0]
    np.testing.assert_allclose(
        both.loc[both["variant"] == "filled", "logit"], logits, rtol=1e-3, atol=1e-4
    )
    for trial in (0, 1):
        logits = np.asarray(with_weights(1, images.SHAPE, seed=trial)(toy.images[rows][..., None]))[
            :, 0
        ]
        mine = predictions[predictions["trial"] == trial]
        np.testing.assert_allclose(mine["logit"], logits, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(mine["score"], 1 / (1 + np.exp(-logits)), rtol=1e-3)


def test_a_scan_that_could_not_be_filled_is_left_out_for_the_variant_on_filled_scans(
    tmp_path, where
):
    toy = Toy(tmp_path)

    class Filled(Toy):
        def rows(self, part):
            return np.setdiff1d(super().rows(part), [5])

    folders = [(where.trial("scratch", 0), {})]
    trained = {"scratch": folders, "filled": folders}
    filled = {"filled": Filled(tmp_path)}
    features = prediction.features(toy, toy.rows("all"), trained, filled)
    assert np.isnan(features["filled"][0]).any(axis=1).tolist() == [False] * 5 + [True]
    predictions = prediction.predict(toy, toy.rows("holdout"), trained, features)
    scans = predictions.groupby("variant")["participant_id"].agg(list).to_dict()
    assert scans == {"scratch": ["sub-4", "sub-5"], "filled": ["sub-4"]}


def test_lesion_volumes_are_in_cubic_millimetres(tmp_path):
    toy = Toy(tmp_path)
    np.testing.assert_allclose(
        toy.lesion_volumes([1, 3]), np.array([100, 200]) * 182 * 218 * 182 / (96 * 114 * 96)
    )


class Simulated(Exception):
    """Raised in place of a simulation."""


@pytest.fixture
def embedded(tmp_path):
    toy = Toy(tmp_path)
    toy.modality = "FLAIR"
    toy.normalisation = "zscore"
    return toy


def test_further_subjects_have_a_seed_that_no_training_cohort_has(embedded, where, monkeypatch):
    profiles = [yaml.safe_load(path.read_text()) for path in (ROOT / "workflow").glob("*.yaml")]
    steps = [profile.get("01_data_preparation", {}) for profile in profiles]
    seeds = {step["cohort_seed"] for step in steps if "cohort_seed" in step}
    requested = []

    def find(name, subjects, seed, jobs):
        requested.append((name, subjects, seed))
        raise Simulated

    monkeypatch.setattr(prediction.phantom, "find", find)
    with pytest.raises(Simulated):
        prediction.further(where, embedded, "phantom-ms", 7)
    ((name, subjects, seed),) = requested
    assert (name, subjects) == ("phantom-ms-further", 7)
    assert len(seeds) >= 1
    assert seed not in seeds


def test_further_subjects_are_left_out_with_the_reason(embedded, where):
    def reason():
        further, left_out = prediction.further(where, embedded, cohort, subjects)
        assert further is None
        return left_out

    cohort, subjects = "phantom-ms", 0
    assert reason() == "further subjects: left out, because none were requested"
    cohort, subjects = "berlin", 5
    assert "only an embedded cohort can be simulated" in reason()
    cohort = "phantom-ms"
    embedded.normalisation = "voxelwise"
    assert "a voxel-wise z-score is valid only for the cohort" in reason()
