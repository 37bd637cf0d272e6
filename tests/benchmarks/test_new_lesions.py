"""How well maps rank the mask of change, by hand."""

import numpy as np
import pytest
from support.scripts import script

proof = script("new_lesions")


def test_a_map_of_the_change_ranks_it_first_and_its_negative_last():
    rng = np.random.default_rng(0)
    change = np.zeros((12, 12, 12), bool)
    change[5:7, 5:7, 5:7] = True
    brain = np.ones(change.shape, bool)
    brain[0] = False
    noise = rng.random(change.shape)
    maps = {"change": change + 0.5 * noise, "negative": 1 - change + 0.5 * noise}
    table = proof.table_of(maps, change, brain).set_index(["map", "measure"])["value"]
    assert table["change", "auprc"] == pytest.approx(1)
    assert table["change", "rra"] == 1
    assert table["change", "auroc"] == 1
    assert table["negative", "auroc"] == 0
    assert table["negative", "rra"] == 0


def test_the_auroc_against_all_pairs():
    rng = np.random.default_rng(1)
    values, is_change = rng.integers(0, 6, 60), rng.random(60) < 0.3
    pairs = values[is_change][:, None] - values[~is_change][None]
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert proof._auroc(values, is_change) == pytest.approx(expected)


def test_an_itk_affine_is_read_in_ras(tmp_path):
    path = tmp_path / "affine.txt"
    path.write_text("Parameters: 0 -1 0 1 0 0 0 0 1 2 3 4\nFixedParameters: 10 0 0\n")
    matrix = proof.from_common_space(path)
    point = np.array([1.0, 5.0, 7.0])  # LPS
    centre = np.array([10.0, 0, 0])
    turned = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]) @ (point - centre)
    expected = turned + centre + np.array([2.0, 3, 4])
    ras = matrix @ [-point[0], -point[1], point[2], 1]
    np.testing.assert_allclose(ras[:3], [-expected[0], -expected[1], expected[2]])
