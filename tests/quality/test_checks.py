"""The table of checks over subjects, on a small network and on functions whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from support.small_model import SHAPE, small_model

from msxai import lrp
from msxai.quality import checks


@pytest.fixture
def model():
    return small_model()


class Three:
    """Scans of noise in a box; reads like `msxai.data.prepared.Prepared`."""

    def __init__(self):
        self.images = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype("float32")
        self.table = pd.DataFrame(
            {"participant_id": ["sub-0", "sub-1", "sub-1"], "session_id": ["", "a", "b"]}
        )
        self.image = self.images.__getitem__

    def brain(self, row):
        return np.pad(np.ones(np.array(SHAPE) - 6, bool), 3)


def test_checks_are_means_over_subjects(model, monkeypatch):
    every, cascades = checks.run(
        model,
        Three(),
        [0, 1, 2],
        ["epsilon", "epsilon_plus", "gradient"],
        epsilon=1e-3,
        seed=0,
        threads=1,
    )
    assert every["map"].drop_duplicates().tolist() == ["epsilon", "epsilon_plus", "gradient"]
    ruled = [name for name in checks.EXPECTED if "conservation" not in name]
    assert every.loc[every["map"] == "gradient", "check"].tolist() == ruled, (
        "a gradient conserves nothing and is not asked to"
    )
    table = every[every["map"] == "epsilon"].set_index("check")
    assert list(table.index) == list(checks.EXPECTED)
    assert (every["subjects"] == 2).all(), "two visits are one subject"
    assert (
        table.loc["conservation error without biases", "value"]
        < 1e-4
        < table.loc["conservation error", "value"]
    )
    sizes = cascades.groupby(["map", "participant_id", "session_id"]).size()
    assert sizes.tolist() == [4] * 9
    ends = (
        cascades[(cascades["layer"] == "conv1") & (cascades["map"] == "epsilon")]
        .groupby("participant_id")["rank"]
        .mean()
    )
    assert table.loc["randomised: rank", "value"] == pytest.approx(ends.mean())
    assert table.loc["randomised: rank", ["low", "high"]].tolist() == pytest.approx(
        sorted(ends), abs=1e-9
    )
    rank = table.loc["moved by one voxel: rank"]
    assert 0 < rank["value"] < 1
    assert rank["reference"] == pytest.approx(1)  # a whole voxel needs no interpolation
    assert -0.2 < table.loc["randomised: SSIM", "reference"] < 0.5, "noise shuffled is other noise"
    assert table.loc[["randomised: rank", "conservation error"], "reference"].isna().all()
    alone = checks.run(
        model, Three(), [0, 1, 2], ["epsilon_plus"], epsilon=1e-3, seed=0, threads=1
    )[0]
    pd.testing.assert_frame_equal(
        alone, every[every["map"] == "epsilon_plus"].reset_index(drop=True)
    )

    def edges(
        model, volume, names, *arguments, **options
    ):  # a map that follows the scan exactly, and no network at all
        return {name: np.abs(volume) for name in names}

    def explained(model, volumes, names, *arguments, **options):
        return {
            name: lrp.Explanation(np.abs(volumes), np.ones(len(volumes)), None, "", 0, "")
            for name in names
        }

    monkeypatch.setattr(checks.scan_maps, "of_scan", edges)
    monkeypatch.setattr(checks.lrp, "explain_each", explained)
    table = checks.run(model, Three(), [0], ["edges"], epsilon=1e-3, seed=0, threads=1)[
        0
    ].set_index("check")
    assert table.loc["moved by one voxel: rank", "value"] == pytest.approx(1)
    assert table.loc["randomised: SSIM", "value"] == pytest.approx(1), (
        "caught: it does not depend on the weights"
    )
    assert table.loc["conservation error without biases", "value"] > 1
