"""msxai.lrp.tta: moves and their inverse, and maps whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from support.networks import SMALL, with_weights

from msxai import lrp
from msxai.base.errors import ParameterError
from msxai.lrp import tta

INSIDE = (slice(9, -9),) * 3


@pytest.fixture
def volume(rng):
    volume = np.zeros((30, 31, 32), "float32")
    volume[INSIDE] = rng.normal(size=volume[INSIDE].shape)
    return volume


def test_moves_begin_with_none_and_are_spread():
    assert tta.moves(1) == [((0, 0, 0), False)]
    moves = tta.moves(64)
    steps = np.array([step for step, _ in moves])
    assert steps.min() == -tta.REACH
    assert steps.max() == tta.REACH
    assert len(set(moves)) > 60
    assert (np.abs(steps.mean(axis=0)) < 0.5).all()
    assert sum(mirrored for _, mirrored in moves) == 32
    assert tta.moves(64)[:4] == tta.moves(4), "more copies refine fewer"
    assert {step for step, _ in tta.moves(5, reach=0)} == {(0, 0, 0)}


def test_a_move_and_its_inverse(volume):
    point = np.zeros(volume.shape)
    point[10, 12, 14] = 1
    assert np.argwhere(tta.moved(point, (1, -2, 3), False)).tolist() == [[11, 10, 17]]
    assert np.argwhere(tta.moved(point, (1, -2, 3), True)).tolist() == [[30 - 1 - 10 + 1, 10, 17]]
    for move in tta.moves(8):
        assert (tta.moved_back(tta.moved(volume, *move), *move) == volume).all()


def explanation_of(relevance):
    audit = pd.DataFrame(columns=lrp.AUDIT)
    return lrp.Explanation(relevance, np.ones(1), audit, "epsilon", 1e-3, "msxai")


def test_a_map_that_follows_the_scan_stays_and_one_that_sticks_to_the_grid_is_spread(volume):
    scans = volume[None, ..., None]
    grid = np.zeros(scans.shape)
    grid[0, 15, 15, 15] = 1

    def explain(moved):
        return {"same": explanation_of(moved), "grid": explanation_of(grid)}

    means = tta.mean_over_copies(explain, scans, copies=6)
    np.testing.assert_allclose(means["same"].relevance, scans, rtol=1e-5, atol=1e-7)
    spread = means["grid"].relevance
    assert spread.sum() == pytest.approx(1)
    assert np.count_nonzero(spread) == 6


def test_each_channel_is_moved(rng):
    scans = rng.normal(size=(2, 9, 9, 9, 3))
    seen = []

    def explain(moved):
        seen.append(moved)
        return {"same": explanation_of(moved)}

    tta.mean_over_copies(explain, scans, copies=2)
    step, mirrored = tta.moves(2)[1]
    for index in np.ndindex(2, 3):
        expected = tta.moved(scans[index[0], ..., index[1]], step, mirrored)
        np.testing.assert_array_equal(seen[1][index[0], ..., index[1]], expected)


def test_one_copy_is_the_plain_map_and_more_are_the_mean_by_hand(rng):
    scans = np.zeros((1, *SMALL, 1), "float32")
    scans[0, 15:55, 15:60, 15:55, 0] = rng.normal(size=(40, 45, 40))
    model, names = with_weights(1, SMALL, 0), ["epsilon", "gradient"]
    plain = {name: lrp.explain(model, scans, name).relevance for name in names}
    once = lrp.explain_each(model, scans, names, copies=1)
    twice = lrp.explain_each(model, scans, names, copies=2)
    step, mirrored = tta.moves(2)[1]
    assert mirrored
    moved = np.roll(scans[:, ::-1], step, (1, 2, 3))
    inner = (0, *(slice(8, -8),) * 3)
    for name in names:
        np.testing.assert_array_equal(once[name].relevance, plain[name])
        other = lrp.explain(model, moved, name).relevance
        back = np.roll(other, [-count for count in step], (1, 2, 3))[:, ::-1]
        np.testing.assert_allclose(
            twice[name].relevance[inner],
            ((plain[name] + back) / 2)[inner],
            rtol=1e-5,
            atol=1e-9,
        )


def test_an_explanation_over_copies_is_the_mean_of_the_explanations_of_each_by_hand(rng):
    scans = np.zeros((2, *SMALL, 1), "float32")
    scans[:, 15:55, 15:60, 15:55] = rng.normal(size=(2, 40, 45, 40, 1))
    model = with_weights(1, SMALL, 0)
    step, mirrored = tta.moves(2)[1]
    assert mirrored
    plain = lrp.explain(model, scans, "epsilon")
    other = lrp.explain(model, np.roll(scans[:, ::-1], step, (1, 2, 3)), "epsilon")
    once, twice = (lrp.explain(model, scans, "epsilon", copies=copies) for copies in (1, 2))
    np.testing.assert_array_equal(once.relevance, plain.relevance)
    assert once.audit.equals(plain.audit)
    np.testing.assert_allclose(twice.logits, (plain.logits + other.logits) / 2, rtol=1e-6)
    back = np.roll(other.relevance, [-count for count in step], (1, 2, 3))[:, ::-1]
    inner = (slice(None), *(slice(8, -8),) * 3)
    np.testing.assert_allclose(
        twice.relevance[inner], ((plain.relevance + back) / 2)[inner], rtol=1e-5, atol=1e-9
    )
    np.testing.assert_array_equal(
        twice.audit[["volume", "layer", "rule"]], plain.audit[["volume", "layer", "rule"]]
    )
    np.testing.assert_allclose(
        twice.audit["bias"], (plain.audit["bias"] + other.audit["bias"]) / 2, rtol=1e-6
    )
    np.testing.assert_allclose(
        twice.audit["arriving"],
        twice.audit[["passed", "bias", "stabiliser"]].sum(axis=1),
        rtol=1e-4,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        twice.audit.query("layer == 'dense'")["arriving"], twice.logits, rtol=1e-5
    )


def test_bad_input():
    with pytest.raises(ParameterError, match="copies"):
        tta.moves(0)
    with pytest.raises(ParameterError, match="reach"):
        tta.moves(2, -1)


def test_no_two_of_eight_copies_place_the_poolings_alike():
    """So they cannot share the first layer: docs/measured.md says this."""
    places = {(move.mirrored, *(step % 3 for step in move.step)) for move in tta.moves(8)}
    assert len(places) == 8
