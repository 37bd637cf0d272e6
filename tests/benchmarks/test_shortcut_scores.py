"""The score of shortcuts on maps made by hand, and a small version of benchmarks/shortcut.py."""

import controlled_pairs
import numpy as np
import pytest
import shortcut_scores
from scipy import ndimage
from support.scripts import script

from msxai.base.errors import ParameterError

SHAPE, PLACE = (12, 14, 12), (slice(8, 11), slice(3, 12), slice(4, 6))
LABELS = np.repeat([1, 0], [20, 20])


def maps(has=(), seed=0, size=3):
    """40 maps of noise in which 20 patients have a spot, each elsewhere; `has`: who has relevance
    in PLACE, of one sign.
    """
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (40, *SHAPE))
    for number in range(20):
        x, y, z = rng.integers(1, np.array(SHAPE) - 2)
        values[number, x : x + 2, y : y + 2, z : z + 2] += 8
    for number in np.flatnonzero(has):
        values[(number, *PLACE)] += size
    return values


def test_a_blob_in_place_is_found_and_lesions_are_not():
    has = controlled_pairs.carriers(LABELS, 0.75, 1)
    result, without = (
        shortcut_scores.find(maps(has), LABELS),
        [shortcut_scores.find(maps(seed=seed), LABELS).score for seed in range(20)],
    )
    assert result.score > 1.3 * shortcut_scores.limit(without)
    assert result.score == pytest.approx(result.separation * result.association)
    assert result.association == pytest.approx(0.5, abs=0.1)  # of carriers with the class
    assert (result.member == has).all()
    inside = np.zeros(SHAPE, bool)
    inside[PLACE] = True
    assert inside[np.unravel_index(result.difference.argmax(), SHAPE)]
    assert result.difference[inside].mean() > 10 * np.abs(
        result.difference[~ndimage.binary_dilation(inside, iterations=3)].mean()
    )


def test_groups_that_both_classes_have_are_no_shortcut():
    has = controlled_pairs.carriers(LABELS, 0.5, 1)
    result = shortcut_scores.find(maps(has), LABELS)
    assert abs(np.corrcoef(result.member, has)[0, 1]) > 0.9  # the groups are there
    assert result.association < 0.1
    assert result.score < 0.1


def test_two_parts_that_nothing_joins():
    """The eigenvalue 0 is there twice; the vector is the one that tells the parts apart."""
    values = np.abs(maps()) * 1e-3
    values[LABELS == 1, 2:5], values[LABELS == 0, 8:11] = (
        1 + values[LABELS == 1, 2:5],
        1 + values[LABELS == 0, 8:11],
    )
    result = shortcut_scores.find(values, LABELS, neighbours=0.25)
    assert [result.score, result.separation, result.association] == pytest.approx([1, 1, 1])
    assert (result.member == (LABELS == 1)).all()


def test_scale_order_and_the_class_explained_do_not_matter():
    has = controlled_pairs.carriers(LABELS, 0.75, 2)
    values, order = maps(has), np.random.default_rng(1).permutation(40)
    result = shortcut_scores.find(values, LABELS)
    other = shortcut_scores.find(
        (values * np.linspace(-3, -0.1, 40)[:, None, None, None])[order], LABELS[order]
    )  # of the other class's logit
    assert other.score == pytest.approx(result.score)
    assert (other.member == result.member[order]).all()
    assert shortcut_scores.find(values, 1 - LABELS).score == pytest.approx(result.score)


def test_networks_are_averaged():
    """Each with its own scale; what they share stays, so the groups are told better than by
    either.
    """
    has = controlled_pairs.carriers(LABELS, 0.75, 4)
    first, second = (maps(has, seed, 0.6) for seed in (1, 2))
    both = shortcut_scores.find([first, 1000 * second], LABELS)
    assert both.score == pytest.approx(shortcut_scores.find([second, first], LABELS).score)
    assert shortcut_scores.find([first, first], LABELS).score == pytest.approx(
        shortcut_scores.find(first, LABELS).score
    )
    assert (both.member == has).all()
    assert both.score > 1.5 * max(
        shortcut_scores.find(single, LABELS).score for single in (first, second)
    )


@pytest.mark.parametrize("factor", [0.25, -1])
def test_what_a_shortcut_takes_away_is_found(factor):
    """A dark band: relevance that the others have there is faint, or turned, so that its size tells
    nothing.
    """
    has = controlled_pairs.carriers(LABELS, 0.75, 4)
    values = maps()
    values[:, *PLACE] = 3 + np.abs(values[:, *PLACE])
    values[np.ix_(has, *(np.arange(part.start, part.stop) for part in PLACE))] *= factor
    result = shortcut_scores.find(values, LABELS)
    assert (result.member == has).all()
    assert result.association == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("fault", ["few", "one class", "lengths", "zero", "nan"])
def test_refuses(fault):
    values, labels = maps(), LABELS.copy()
    if fault == "few":
        values, labels = values[18:23], labels[18:23]
    elif fault == "one class":
        labels[:] = 1
    elif fault == "lengths":
        labels = labels[:-1]
    else:
        values[3] = 0 if fault == "zero" else np.nan
    with pytest.raises(
        ParameterError, match=r"maps \[3\]" if fault in ("zero", "nan") else "maps and"
    ):
        shortcut_scores.find(values, labels)


def test_the_limit():
    assert shortcut_scores.limit([0, 0.2] * 10) == pytest.approx(0.3 * 2**0.5)
    scores = np.abs(np.random.default_rng(1).normal(0, 0.1, 100000))
    assert (scores > shortcut_scores.limit(scores[:1000])).mean() == pytest.approx(
        0.0027, abs=0.001
    )
    with pytest.raises(ParameterError, match="20 or more"):
        shortcut_scores.limit(np.arange(19))


@pytest.mark.long(reason="a small version of a proof, 30 s to 2 minutes")
def test_a_small_benchmark():
    """Two tiny cohorts through the same code: a shortcut is learnt, moves the logit, and its place
    is drawn by the cohort's seed.
    """
    proof = script("shortcut")
    people = proof.simulated(1, 24)
    assert [subject.covariates["group"] for subject in people[:4]] == ["HC", "MS", "HC", "MS"]
    seen = proof.scan(people[0])
    assert seen.shape == (24, 28, 24)
    assert seen[proof.averaged(people[0].brain) >= 0.5].std() == pytest.approx(1, abs=1e-4)
    rows = [proof.measure(people, 5, kind, size=24, epochs=12) for kind in ("none", "stripe")]
    assert all(0 <= row["score"] <= 1 for row in rows)
    assert rows[0].keys() < rows[1].keys()
    assert rows[1]["auc_of_shortcut"] == 0.75
    assert rows[1]["moves_sd"] > 0.5
