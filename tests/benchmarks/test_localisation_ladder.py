"""A small version of benchmarks/localisation.py: five scans made by hand, networks of one
filter.
"""

from dataclasses import replace

import numpy as np
import pytest
from support.networks import with_weights
from support.scripts import script
from support.small_cohort import Cohort

from msxai.base.results import Results
from msxai.model import network
from msxai.quality import localisation, reference_maps


@pytest.fixture(scope="module")
def ladder():
    """The script on five scans made by hand, with at most two copies."""
    patch, module = pytest.MonkeyPatch(), script("localisation")
    patch.setattr(module, "Prepared", lambda *paths: Cohort())
    patch.setattr(Cohort, "path", "by hand", raising=False)
    patch.setattr(
        module.network,
        "restore",
        lambda path: with_weights(1, network.SHAPE, sum(map(ord, str(path)))),
    )
    patch.setattr(
        module.network, "configure", lambda *_: None
    )  # other tests may have started TensorFlow with more threads
    patch.setattr(module, "BLOCK", 2)
    patch.setattr(module, "BLURS", (0.0, 1.0, 2.0))
    patch.setattr(module, "VOXELS", 500)
    patch.setattr(module, "COPIES", 2)
    few_copies = {
        name: replace(row, copies=min(row.copies, 2)) for name, row in module.LADDER.items()
    }
    patch.setattr(module, "LADDER", few_copies)
    yield module
    patch.undo()


@pytest.fixture(scope="module")
def outcome(ladder, tmp_path_factory):
    where = Results(str(tmp_path_factory.mktemp("results")))
    return ladder.run(where, patients=3, controls=1, checked=1, scans=2)


@pytest.fixture(scope="module")
def table(outcome):
    return localisation.rank(outcome.scores, reference_maps.NAMES)


@pytest.mark.long(reason="a small version of a proof, 30 s to 2 minutes")
def test_every_row_is_measured_on_every_patient(ladder, outcome, table):
    names = {*ladder.LADDER, ladder.TIMES, ladder.BOUND, *reference_maps.NAMES}
    assert set(table["map"]) == names
    assert (outcome.scores.groupby("map").size() == 3).all()
    files = {str(path) for path in outcome.files}
    assert len(files) == 3 + 1 + 2 + 1 + 4  # two cohorts and a split, the networks
    bound = table.set_index("map").loc[ladder.BOUND]
    assert bound["auprc"] > 0.95, (
        "the lesions are 6 standard deviations bright: who has masks finds them"
    )


@pytest.mark.long(reason="a small version of a proof, 30 s to 2 minutes")
def test_targets_hold_where_numbers_say_so(ladder, outcome, table):
    aims = ladder.targets(table, outcome.scores, outcome.notes).set_index("measure")
    row = table.set_index("map").loc[ladder.BEST]
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
    perfect = outcome.notes | {
        "dose": (0.9, 0.8, 1.0),
        "class contrast": 0.2,
        "deletion p": 0.001,
        "insertion p": 0.02,
    }
    better = table.copy()
    better.loc[better["map"] == ladder.BEST, "auprc"] = 0.61
    changed = ladder.targets(better, outcome.scores, perfect).set_index("measure")["holds"]
    assert changed[["auprc", "dose", "class contrast"]].all()
    assert not changed["deletion, insertion"]  # the worse of the two decides
    assert len(aims) == 13


@pytest.mark.long(reason="a small version of a proof, 30 s to 2 minutes")
def test_what_the_rows_are_made_of(ladder):
    image = Cohort().images[0]
    counts = {"pretrained": 1, "scratch": 2, "labels-longer": 1, "pairs": 4}
    models = {
        name: [with_weights(1, network.SHAPE, seed) for seed in range(count)]
        for name, count in counts.items()
    }
    by_network = ladder.explained(models, image)
    maps = ladder.ladder_maps(by_network, image)
    np.testing.assert_allclose(
        maps["in pairs, epsilon_gamma, mean of 2"],
        np.mean(by_network["pairs", "epsilon_gamma", 1][:2], axis=0),
    )
    np.testing.assert_allclose(
        maps[ladder.TIMES], np.maximum(maps[ladder.BEST], 0) * np.maximum(image, 0)
    )
    assert (maps["in pairs, epsilon"] == by_network["pairs", "epsilon", 1][0]).all()
    lesions = np.zeros((9, 9, 9), bool)
    lesions[1, 1, 1], lesions[4:7, 4:7, 4:6] = True, True
    large = ladder._large(localisation.Target(lesions), 10)
    assert large.sum() == 18
    assert sorted(ladder._sizes(lesions)) == [1, 18]


def test_lesions_are_filled_until_a_share_is_left(ladder, monkeypatch):
    lesions = np.zeros((40, 12, 12), bool)
    for number in range(6):
        start = 6 * number + 2
        lesions[start : start + 2, 5:7, 5:7] = True  # six lesions of eight voxels
    image = 5.0 * lesions.astype("float32")
    monkeypatch.setattr(
        ladder.faithfulness,
        "healed",
        lambda volume, mask, seed: np.full(volume.shape, -1, "float32"),
    )
    scans = ladder.partly_filled(image, lesions)
    for scan, expected in zip(scans, (32, 16, 0), strict=True):
        assert scan.voxels_left == expected
        assert ((scan.image == 5) & lesions).sum() == expected
        assert ((scan.image == -1) & lesions).sum() == 48 - expected
        assert set(np.unique(scan.image[lesions].reshape(6, 8), axis=1).ravel()) <= {5, -1}, (
            "a lesion is filled as a whole"
        )


def test_agreement_by_hand(ladder):
    rng, brain = np.random.default_rng(0), np.ones((20, 20, 20), bool)
    shared = np.zeros(brain.shape)
    shared[:, :, :10] = 10 + rng.random((20, 20, 10))
    pair = [shared + 0.001 * rng.normal(size=brain.shape) for _ in range(2)]
    near = np.zeros(brain.shape, bool)
    near[:, :, :10] = True
    same = ladder.agreement(pair, near, brain)
    assert same["round lesions"] > 0.99
    assert abs(same["weak half"]) < 0.1
    assert same["weak half's share"] < 1e-3
    assert same["blurred"] > same["pairs of networks"] > 0.5
