"""Methods on networks in three states: measure and intervals by hand, and a run of width 2."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.networks import SMALL, with_weights

from msxai import lrp
from msxai.base import provenance, tsv
from msxai.base.errors import ParameterError
from msxai.base.results import Results
from msxai.data import images
from msxai.model import network
from msxai.quality import model_states


def test_rank_accuracy_by_hand():
    brain = np.array([1, 1, 1, 1, 1, 1, 1, 0], bool)
    lesions = np.array([1, 0, 1, 0, 1, 0, 0, 1], bool)  # three in the brain, one outside
    assert model_states.rank_accuracy(
        np.array([5.0, 4, 3, 2, 1, 0, -9, 99]), lesions, brain
    ) == pytest.approx(2 / 3)
    assert model_states.rank_accuracy(np.array([5.0, 1, 4, 1, 3, 1, 1, 0]), lesions, brain) == 1
    assert model_states.rank_accuracy(np.array([-5.0, 1, -4, 1, -3, 1, 1, 0]), lesions, brain) == 0
    assert model_states.rank_accuracy(np.ones(8), lesions, brain) == pytest.approx(3 / 7), (
        "a map that says nothing: chance"
    )
    # the highest is a lesion; of four equal voxels, one a lesion, two are in
    assert model_states.rank_accuracy(
        np.array([5.0, 1, 1, 1, 0, 1, 0, 0]), lesions, brain
    ) == pytest.approx((1 + 2 / 4) / 3)
    assert np.isnan(model_states.rank_accuracy(np.ones(8), lesions & False, brain))


def shares(**subjects):
    """State ("tuned", "random") to shares of subjects in that order; chance .01."""
    names = {"tuned": model_states.TUNED, "random": model_states.RANDOM}
    return pd.DataFrame(
        [
            {
                "state": names[state],
                "method": "epsilon",
                "participant_id": f"sub-{number}",
                "trial": 0,
                "share": share,
                "chance": 0.01,
            }
            for state, values in subjects.items()
            for number, share in enumerate(values)
        ]
    )


def test_summary_of_two_subjects_is_by_hand():
    by_state = model_states.summary(shares(tuned=[0.2, 0.6], random=[0.1, 0.4])).set_index("state")
    row = by_state.loc[model_states.TUNED]
    assert row[["subjects", "share", "low", "high", "chance"]].tolist() == pytest.approx(
        [2, 0.4, 0.2, 0.6, 0.01]
    )
    assert row[["difference", "difference_low", "difference_high"]].tolist() == pytest.approx(
        [0.15, 0.1, 0.2]
    ), "paired"
    assert by_state.loc[model_states.RANDOM, ["share", "low", "high"]].tolist() == pytest.approx(
        [0.25, 0.1, 0.4]
    )
    assert by_state.loc[model_states.RANDOM, ["difference", "difference_low"]].isna().all()
    trials = pd.concat([shares(tuned=[0.2, 0.6]), shares(tuned=[0.4]).assign(trial=1)])
    assert model_states.summary(trials)["share"].tolist() == pytest.approx([0.45]), (
        "trials of a subject are averaged first"
    )
    assert model_states.summary(trials)["networks"].tolist() == [2]


class Two:
    """Three scans of noise; two have lesions, sub-1 the larger one."""

    path = Path(__file__)  # a file whose hash can be recorded

    def __init__(self):
        self.images = np.random.default_rng(0).normal(size=(3, *SMALL)).astype("float32")
        self.table = pd.DataFrame(
            {
                "participant_id": ["sub-0", "sub-1", "sub-2"],
                "session_id": "",
                "label": pd.array([1, 1, 0], "Int64"),
            }
        )

    def image(self, row):
        return self.images[row]

    def brain(self, row):
        mask = np.zeros(SMALL, bool)
        mask[20:60, 20:60, 20:60] = True
        return mask

    def lesions(self, row):
        mask = np.zeros(SMALL, bool)
        mask[30 : 30 + (4, 8, 0)[row], 30:34, 30:34] = True
        return mask


def test_shares_and_maps_of_networks_of_width_2(tmp_path):
    scans, folder = Two(), tmp_path / "methods"
    models = {
        model_states.TUNED: [with_weights(2, SMALL, 0)],
        model_states.RANDOM: [with_weights(2, SMALL, seed) for seed in (1, 2)],
    }
    made, table = model_states.write(
        folder,
        scans,
        [0, 1, 2],
        model_states.Networks(models, left_out={"x": "y"}),
        {"variant": "pretrained"},
        model_states.Options(("epsilon", "gradient")),
    )
    pd.testing.assert_frame_equal(model_states.read(folder)[1], table, check_dtype=False, rtol=1e-8)
    assert len(table) == 2 * 2 * 3
    assert set(table["participant_id"]) == {"sub-0", "sub-1"}
    brain, lesions = scans.brain(1), scans.lesions(1)
    for (state, networks), method in itertools.product(models.items(), ("epsilon", "gradient")):
        mine = table[
            (table["state"] == state)
            & (table["method"] == method)
            & (table["participant_id"] == "sub-1")
        ]
        maps, volume = [], scans.images[1][None, ..., None]
        for model, share in zip(networks, mine["share"], strict=True):
            explanation = (
                lrp.explain(model, volume, "epsilon")
                if method == "epsilon"
                else lrp.explain(model, volume, "gradient")
            )
            values = explanation.relevance[0, ..., 0]
            maps.append(values)
            ranked = (np.abs(values) if method == "gradient" else values)[brain]
            highest = np.argsort(-ranked, kind="stable")[:128]
            assert share == pytest.approx(lesions[brain][highest].mean())
        assert mine["path"].nunique() == 1
        stored = images.load(folder / mine["path"].iloc[0])
        np.testing.assert_allclose(stored.get_fdata(), np.mean(maps, 0), rtol=1e-4, atol=1e-7)
    assert table.loc[table["participant_id"] == "sub-0", "path"].isna().all(), (
        "only the scan with the largest lesions is kept"
    )
    assert len(list(folder.glob("*.nii.gz"))) == 4
    assert table.loc[table["participant_id"] == "sub-0", "chance"].unique() == pytest.approx(
        [64 / 40**3]
    )
    stored = tsv.read(folder / "methods.tsv")
    assert stored["share"].to_numpy() == pytest.approx(made["share"].to_numpy())
    record = json.loads((folder / "provenance.json").read_text())
    assert record["left_out"] == {"x": "y"}
    assert set(record["outputs"].values()) == {
        provenance.sha256(folder / f"{name}.tsv") for name in ("methods", "scans")
    }


def test_without_lesions_nothing_is_explained_and_it_says_why(tmp_path):
    networks = model_states.Networks({model_states.TUNED: []})
    made, table = model_states.write(tmp_path / "methods", Two(), [2], networks, {})
    assert made.empty
    assert table.empty
    record = json.loads((tmp_path / "methods" / "provenance.json").read_text())
    assert record["left_out"] == {"attribution methods": "no scan has a lesion in its mask"}
    assert model_states.read(tmp_path / "methods")[2] == "no scan has a lesion in its mask."
    assert model_states.read(tmp_path / "nothing")[2] == "07_explanation_quality has not run."


def test_an_unknown_method_is_named_with_the_nearest():
    with pytest.raises(ParameterError, match="gradient"):
        model_states.Options(("gradiant",))


@pytest.fixture
def where(tmp_path):
    """Two trials from a pre-trained network, one from scratch, and the pre-training."""
    results = Results(str(tmp_path / "results"))
    for number, (variant, trial, start) in enumerate(
        [
            ("pretraining", 0, ""),
            ("pretrained", 0, "best"),
            ("pretrained", 1, "best"),
            ("scratch", 0, "scratch"),
        ]
    ):
        folder = results.trial(variant, trial)
        network.save_weights(with_weights(2, images.SHAPE, number), folder / "weights.npz")
        scores = {"val_accuracy": 0.9, "val_loss": 0.3} if variant == "pretraining" else {}
        run = {"cohort": "toy", "initial_weights": start, "variant": variant}
        provenance.write_json(
            folder / "provenance.json",
            provenance.record(run, [], [folder / "weights.npz"], **scores),
        )
    return results


def test_states_are_the_networks_they_are_called(where):
    networks = model_states.networks(where, "pretrained", 2, "toy", seed=3)
    models, files, left_out = networks.by_state, networks.files, networks.left_out
    assert not left_out
    assert [len(models[state]) for state in model_states.STATES] == [2, 1, 2]
    assert [path.parent for path in files] == [
        where.trial("pretrained", 0),
        where.trial("pretrained", 1),
        where.trial("pretraining", 0),
    ]

    def kernel(model):
        return network.weights(model)["conv1/kernel"]

    for number, model in enumerate([*models[model_states.PRETRAINED], *models[model_states.TUNED]]):
        np.testing.assert_array_equal(kernel(model), kernel(with_weights(2, images.SHAPE, number)))
    first, second = map(kernel, models[model_states.RANDOM])
    assert first.shape == second.shape == (3, 3, 3, 1, 2)
    assert not np.array_equal(first, second)
    again = model_states.networks(where, "pretrained", 1, "toy", seed=3).by_state
    np.testing.assert_array_equal(first, kernel(again[model_states.RANDOM][0]))


def test_trials_that_start_from_different_networks_show_all_of_them(where):
    """A pre-training of two trials; each trial of the variant starts from its own."""
    folder = where.trial("pretraining", 1)
    network.save_weights(with_weights(2, images.SHAPE, 7), folder / "weights.npz")
    scores = {"val_accuracy": 0.5, "val_loss": 0.9}
    record = provenance.record({"cohort": "toy"}, [], [folder / "weights.npz"], **scores)
    provenance.write_json(folder / "provenance.json", record)
    for trial in (0, 1):
        path = where.trial("pretrained", trial) / "provenance.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        record["parameters"]["initial_weights"] = f"trial-{trial}"
        provenance.write_json(path, record)
    networks = model_states.networks(where, "pretrained", 2, "toy")
    initial = networks.by_state[model_states.PRETRAINED]
    for model, number in zip(initial, (0, 7), strict=True):
        expected = network.weights(with_weights(2, images.SHAPE, number))["conv1/kernel"]
        np.testing.assert_array_equal(network.weights(model)["conv1/kernel"], expected)
    assert len(networks.files) == 4


def test_a_record_with_the_former_name_of_the_parameter_is_read(where):
    path = where.trial("pretrained", 0) / "provenance.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["parameters"]["start"] = record["parameters"].pop("initial_weights")
    provenance.write_json(path, record)
    networks = model_states.networks(where, "pretrained", 1, "toy", seed=3)
    models, left_out = networks.by_state, networks.left_out
    assert not left_out
    assert len(models[model_states.PRETRAINED]) == 1


def test_without_a_pretraining_that_state_is_left_out(where):
    networks = model_states.networks(where, "scratch", 1, "toy")
    models, left_out = networks.by_state, networks.left_out
    assert set(models) == {model_states.TUNED, model_states.RANDOM}
    assert "random weights" in left_out[model_states.PRETRAINED]
    (where.trial("pretraining", 0) / "provenance.json").unlink()
    networks = model_states.networks(where, "pretrained", 1, "toy")
    models, left_out = networks.by_state, networks.left_out
    assert set(models) == {model_states.TUNED, model_states.RANDOM}
    assert "02_pretraining" in left_out[model_states.PRETRAINED]


def test_of_a_weights_file_alone_nothing_is_compared_and_the_figure_says_why(where, tmp_path):
    networks = model_states.networks(where, "pretrained", 2, "toy", weights="mine.npz")
    assert (networks.by_state, networks.files) == ({}, [])
    model_states.write(tmp_path / "methods", Two(), [0], networks, {})
    summary, scans, reason = model_states.read(tmp_path / "methods")
    assert summary.empty
    assert scans.empty
    assert "one weights file was given" in reason


def test_each_map_is_computed_with_the_threads_of_the_notebook(tmp_path, monkeypatch):
    """Notebooks that run side by side would else all take every core, and wait for each other."""
    used = []

    def spy(*arguments, computation, **options):
        used.append(computation.threads)
        return original(*arguments, computation=computation, **options)

    original = lrp.explain
    monkeypatch.setattr(lrp, "explain", spy)
    networks = model_states.Networks({model_states.RANDOM: [with_weights(2, SMALL, 0)]})
    options = model_states.Options(("epsilon", "gradient"), threads=3)
    model_states.write(tmp_path / "methods", Two(), [0], networks, {}, options)
    assert used == [3, 3]
