"""A small version of benchmarks/localisation.py: five scans made by hand, networks of one
filter.
"""

import numpy as np
import pytest
from support.networks import with_weights
from support.scripts import script
from support.small_cohort import Cohort

from msxai.base.results import Results
from msxai.model import network
from msxai.quality import localisation, reference_maps


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    patch, script_ = pytest.MonkeyPatch(), script("localisation")
    patch.setattr(script_, "Prepared", lambda *paths: Cohort())
    patch.setattr(Cohort, "path", "by hand", raising=False)
    patch.setattr(
        script_.network,
        "restore",
        lambda path: with_weights(1, network.SHAPE, sum(map(ord, str(path)))),
    )
    patch.setattr(
        script_.network, "configure", lambda *_: None
    )  # other tests may have started TensorFlow with more threads
    patch.setattr(script_, "BLOCK", 2)
    patch.setattr(script_, "BLURS", (0.0, 1.0, 2.0))
    patch.setattr(script_, "VOXELS", 500)
    patch.setattr(script_, "COPIES", 2)
    patch.setattr(
        script_,
        "LADDER",
        {name: (*row, min(copies, 2)) for name, (*row, copies) in script_.LADDER.items()},
    )
    scores, about, files = script_.run(
        Results(str(tmp_path_factory.mktemp("results"))), patients=3, controls=1, checked=1, scans=2
    )
    patch.undo()
    table = localisation.rank(scores, reference_maps.NAMES)
    return script_, scores, about, files, table


def test_every_row_is_measured_on_every_patient(found):
    script_, scores, _, files, table = found
    names = {*script_.LADDER, script_.TIMES, script_.BOUND, *reference_maps.NAMES}
    assert set(table["map"]) == names
    assert (scores.groupby("map").size() == 3).all()
    assert len(set(map(str, files))) == 3 + 1 + 2 + 1 + 4  # two cohorts and a split, the networks
    bound = table.set_index("map").loc[script_.BOUND]
    assert bound["auprc"] > 0.95, (
        "the lesions are 6 standard deviations bright: who has masks finds them"
    )


def test_targets_hold_where_numbers_say_so(found):
    script_, scores, about, _, table = found
    aims = script_.targets(table, scores, about).set_index("measure")
    row = table.set_index("map").loc[script_.BEST]
    for name, least in {
        "rma": 0.5,
        "rra": 0.5,
        "auprc": 0.6,
        "best_dice": 0.55,
        "pointing": 0.9,
        "sensitivity": 0.8,
    }.items():
        assert aims.loc[name, "holds"] == (row[name] >= least)
        assert aims.loc[name, "reached"].startswith(f"{row[name]:.3f} (")
    better, perfect = (
        table.copy(),
        about
        | {
            "dose": (0.9, 0.8, 1.0),
            "class contrast": 0.2,
            "deletion p": 0.001,
            "insertion p": 0.02,
        },
    )
    better.loc[better["map"] == script_.BEST, "auprc"] = 0.61
    changed = script_.targets(better, scores, perfect).set_index("measure")["holds"]
    assert changed[["auprc", "dose", "class contrast"]].all()
    assert not changed["deletion, insertion"]  # the worse of the two decides
    assert len(aims) == 13


def test_what_the_rows_are_made_of(found):
    script_ = found[0]
    image = Cohort().images[0]
    models = {
        name: [with_weights(1, network.SHAPE, seed) for seed in range(count)]
        for name, count in {"pretrained": 1, "scratch": 2, "labels-longer": 1, "pairs": 4}.items()
    }
    maps, each = script_.maps_of(models, image, image)
    np.testing.assert_allclose(
        maps["in pairs, epsilon_gamma, mean of 2"],
        np.mean(each["pairs", "epsilon_gamma", 1][:2], axis=0),
    )
    np.testing.assert_allclose(
        maps[script_.TIMES], np.maximum(maps[script_.BEST], 0) * np.maximum(image, 0)
    )
    assert (maps["in pairs, epsilon"] == each["pairs", "epsilon", 1][0]).all()
    lesions = np.zeros((9, 9, 9), bool)
    lesions[1, 1, 1], lesions[4:7, 4:7, 4:6] = True, True
    large = script_._large(localisation.Target(lesions), 10)
    assert large.sum() == 18
    assert sorted(script_._sizes(lesions)) == [1, 18]


def test_lesions_are_filled_until_a_share_is_left(found, monkeypatch):
    script_ = found[0]
    lesions = np.zeros((40, 12, 12), bool)
    for place in range(6):
        lesions[6 * place + 2 : 6 * place + 4, 5:7, 5:7] = True  # six lesions of eight voxels
    image = 5.0 * lesions.astype("float32")
    monkeypatch.setattr(
        script_.faithfulness,
        "healed",
        lambda volume, mask, seed: np.full(volume.shape, -1, "float32"),
    )
    for (left, scan), expected in zip(script_.fewer(image, lesions), (32, 16, 0), strict=True):
        assert left == expected
        assert ((scan == 5) & lesions).sum() == expected
        assert ((scan == -1) & lesions).sum() == 48 - expected
        assert set(np.unique(scan[lesions].reshape(6, 8), axis=1).ravel()) <= {5, -1}, (
            "a lesion is filled as a whole"
        )


def test_agreement_by_hand(found):
    rng, brain = np.random.default_rng(0), np.ones((20, 20, 20), bool)
    shared = np.zeros(brain.shape)
    shared[:, :, :10] = 10 + rng.random((20, 20, 10))
    pair = [shared + 0.001 * rng.normal(size=brain.shape) for _ in range(2)]
    near = np.zeros(brain.shape, bool)
    near[:, :, :10] = True
    same = found[0].agreement(pair, near, brain)
    assert same["round lesions"] > 0.99
    assert abs(same["weak half"]) < 0.1
    assert same["weak half's share"] < 1e-3
    assert same["blurred"] > same["pairs of networks"] > 0.5
