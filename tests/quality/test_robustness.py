"""A volume is moved and moved back; maps that follow the scan."""

import numpy as np
import pytest

from msxai.quality import robustness


def test_a_volume_is_moved_and_moved_back():
    point = np.zeros((21, 21, 21))
    point[18, 10, 10] = 1
    assert np.argwhere(robustness.moved(point, 1, 0) > 0.5).tolist() == [[19, 10, 10]]
    assert robustness.moved(point, 0.5, 0)[18:20, 10, 10].tolist() == [0.5, 0.5]
    assert np.argwhere(robustness.moved(point, 1, 90) > 0.5).tolist() == [[11, 18, 10]], (
        "turned first, then shifted"
    )
    assert np.argwhere(
        robustness.moved(robustness.moved(point, 1, 90), 1, 90, back=True) > 0.5
    ).tolist() == [[18, 10, 10]]


def test_a_map_that_follows_the_scan_reaches_the_ceiling(monkeypatch, rng):
    def follows(model, volume, names, **options):
        return {name: np.abs(volume) for name in names}

    monkeypatch.setattr(robustness.scan_maps, "of_scan", follows)
    volume = rng.normal(size=(12, 13, 11))
    brain = np.pad(np.ones((6, 7, 5), bool), 3)
    correlations = robustness.jitter(None, volume, brain, ["follows"])
    assert list(correlations) == [("follows", name) for name in robustness.JITTERS]
    assert correlations["follows", "one voxel"] == pytest.approx((1, 1))
