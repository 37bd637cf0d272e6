"""Localisation on maps made by hand: perfect, inverted, random, shifted by one voxel.

Scikit-learn and slow versions are the oracles.
"""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from msxai.base.errors import ParameterError
from msxai.quality import localisation

SHAPE = (20, 22, 18)


def single(name, relevance, lesions, brain=None, **options):
    """One measure of a map."""
    return localisation.measure(relevance, lesions, brain, names=[name], **options)[name]


@pytest.fixture
def brain():
    mask = np.zeros(SHAPE, bool)
    mask[2:18, 2:20, 2:16] = True
    return mask


@pytest.fixture
def lesions(brain):
    """Three lesions of 64, 8 and 1 voxels, far apart."""
    mask = np.zeros(SHAPE, bool)
    mask[4:8, 4:8, 4:8] = True
    mask[12:14, 12:14, 12:14] = True
    mask[5, 17, 5] = True
    return mask


def test_a_perfect_map(lesions, brain):
    values = localisation.measure(lesions.astype(float), lesions, brain)
    assert all(values[name] == 1 for name in localisation.MEASURES), values
    assert values["prevalence"] == 73 / brain.sum()
    assert values["positive"] == 73


def test_only_what_is_asked_for(lesions, brain, rng):
    relevance = rng.normal(size=SHAPE) + lesions
    values, some = (
        localisation.measure(relevance, lesions, brain, names=names)
        for names in (None, ("rra", "auprc"))
    )
    assert list(values) == [*localisation.MEASURES, "prevalence", "positive"]
    assert some == {name: values[name] for name in ("rra", "auprc", "prevalence", "positive")}
    with pytest.raises(ParameterError, match="Did you mean rra"):
        localisation.measure(relevance, lesions, brain, names=["rrra"])


def test_an_inverted_map(lesions, brain):
    values = localisation.measure(np.where(lesions, -1.0, 1.0), lesions, brain)
    assert values["rma"] == values["rra"] == values["sensitivity"] == 0
    touching = localisation.Target(lesions).near(1) & ~lesions
    assert (
        values["pointing"] == touching.sum() / (~lesions).sum()
    )  # every voxel outside is a maximum; those that touch a lesion count
    assert values["auprc"] == pytest.approx(
        values["prevalence"]
    )  # all voxels below the threshold come in at once
    assert values["best_dice"] == 0
    without_tolerance = single("pointing", np.where(lesions, -1.0, 1.0), lesions, tolerance=0)
    assert without_tolerance == 0


def test_a_random_map_scores_chance(brain, rng):
    lesions = np.zeros(SHAPE, bool)
    lesions[brain] = rng.random(brain.sum()) < 0.2
    results = [localisation.measure(rng.random(SHAPE) * brain, lesions, brain) for _ in range(40)]
    prevalence = results[0]["prevalence"]
    for name in ("rma", "rra", "auprc"):
        assert np.mean([values[name] for values in results]) == pytest.approx(prevalence, abs=0.01)
    assert np.mean([values["best_dice"] for values in results]) == pytest.approx(
        2 * prevalence / (1 + prevalence), abs=0.01
    )


def test_a_constant_map_is_chance_however_ties_fall(lesions, brain):
    values = localisation.measure(np.ones(SHAPE), lesions, brain)
    assert values["rra"] == pytest.approx(73 / lesions.size)
    assert values["rma"] == pytest.approx(73 / lesions.size)
    assert values["auprc"] == pytest.approx(values["prevalence"])


def test_a_subject_without_positive_relevance_counts_in_the_mean(lesions, brain):
    scores = []
    for number, relevance in enumerate((np.ones(SHAPE), -np.ones(SHAPE))):
        values = localisation.measure(relevance, lesions, brain, names=["rma"])
        scores.append({"map": "rule", "participant_id": number, "rma": values["rma"]})
    row = localisation.rank(pd.DataFrame(scores), []).iloc[0]
    assert row["subjects"] == 2
    assert row["rma"] == pytest.approx(73 / lesions.size / 2)


def test_a_map_without_positive_relevance(lesions, brain):
    values = localisation.measure(-np.ones(SHAPE), lesions, brain)
    assert values["rma"] == 0
    assert values["pointing"] == values["sensitivity"] == values["best_dice"] == 0
    assert values["rra"] == pytest.approx(73 / lesions.size)


def test_a_map_shifted_by_one_voxel(lesions, brain):
    shifted = np.roll(lesions, 1, axis=0).astype(float)
    values = localisation.measure(shifted, lesions, brain)
    overlap = (3 * 16 + 4) / 73  # 3 of 4 layers, 1 of 2, none of the single voxel
    assert values["rma"] == pytest.approx(overlap)
    assert values["rra"] == pytest.approx(overlap)
    assert values["best_dice"] == pytest.approx(overlap)
    assert values["pointing"] == 1  # each voxel lies in a lesion or touches it
    assert values["sensitivity"] == 1
    assert single("pointing", shifted, lesions, tolerance=0) == pytest.approx(overlap)
    assert single("sensitivity", shifted, lesions, tolerance=0) == pytest.approx(2 / 3)
    assert single("pointing", np.roll(lesions, 3, axis=2).astype(float), lesions) < 1


def test_relevance_outside_the_brain_counts_against_mass_and_rank(lesions, brain):
    outside = lesions.astype(float)
    outside[0] = 2
    assert single("rma", outside, lesions) == pytest.approx(73 / (73 + 2 * SHAPE[1] * SHAPE[2]))
    assert single("rra", outside, lesions) == 0
    assert single("pointing", outside, lesions) == 0
    assert single("auprc", outside, lesions, brain) == 1  # inside the brain alone


def test_auprc_and_dice_are_scikit_learns(brain, rng):
    lesions = np.zeros(SHAPE, bool)
    lesions[brain] = rng.random(brain.sum()) < 0.1
    for levels in (5, 1000):  # with and without ties
        relevance = np.round(levels * (rng.normal(size=SHAPE) + lesions)) / levels
        clipped, truth = np.maximum(relevance, 0)[brain], lesions[brain]
        assert single("auprc", relevance, lesions, brain) == pytest.approx(
            average_precision_score(truth, clipped)
        )
        slow = max(
            f1_score(truth, clipped >= threshold)
            for threshold in np.unique(clipped[clipped > 0])[:: 1 if levels == 5 else 50]
        )
        assert single("best_dice", relevance, lesions, brain) == pytest.approx(
            slow, abs=0 if levels == 5 else 0.01
        )
        assert localisation.dice_at(relevance, lesions, brain, 1.0) == pytest.approx(
            f1_score(truth, relevance[brain] >= 1)
        )


def test_rank_accuracy_is_the_mean_over_the_orders_of_ties():
    relevance, lesions = (
        np.array([3.0, 2, 2, 2, 1, 0]),
        np.array([True, True, False, False, True, False]),
    )
    slow = [
        np.mean([lesions[voxel] for voxel in [0, *order[:2]]])
        for order in itertools.permutations([1, 2, 3])
    ]
    assert single("rra", relevance, lesions) == pytest.approx(np.mean(slow))


def test_lesion_sensitivity_counts_marks_until_the_second_miss(lesions):
    relevance = np.zeros(SHAPE)
    relevance[5, 5, 5] = 10  # hits the large one
    relevance[15, 4, 4] = 9  # the first miss, which is allowed
    relevance[12, 12, 12] = 8  # hits the second
    relevance[15, 8, 4] = 7  # the second miss: here it ends
    relevance[5, 17, 5] = 6  # hits the third, too late
    assert single("sensitivity", relevance, lesions) == pytest.approx(2 / 3)
    assert single("sensitivity", relevance, lesions, false_positives=0) == pytest.approx(1 / 3)
    assert single("sensitivity", relevance, lesions, false_positives=2) == 1
    plateau = np.where(lesions, 1.0, 0.0)
    plateau[4:8, 4:8, 4:8] = np.linspace(1, 2, 64).reshape(4, 4, 4)
    assert single("sensitivity", plateau, lesions) == 1
    assert (
        single("sensitivity", np.ones(SHAPE), lesions) == 0
    )  # one plateau, one mark, in the middle of the grid


def test_values_that_are_no_numbers_are_refused(lesions, brain):
    relevance = np.zeros(SHAPE)
    relevance[0, 0, 0] = np.nan
    with pytest.raises(ParameterError, match="1 voxels that are not finite"):
        localisation.measure(relevance, lesions, brain)
    with pytest.raises(ParameterError, match="an empty mask"):
        localisation.measure(np.zeros(SHAPE), np.zeros(SHAPE, bool), brain)
    with pytest.raises(ParameterError, match="one grid"):
        localisation.measure(np.zeros((2, 2, 2)), lesions, brain)
    with pytest.raises(ParameterError, match="one grid"):
        localisation.measure(np.zeros(SHAPE), lesions, brain[1:])


def test_decoys_and_lesions_told_apart(lesions, brain, rng):
    spots = np.zeros(SHAPE, bool)
    spots[15:17, 4:8, 4:8] = True
    share = 32 / brain.sum()
    perfect = localisation.decoys(lesions.astype(float), lesions, spots, brain)
    assert perfect == {"decoy_auc": 1, "decoy_ratio": 0}
    fooled = localisation.decoys(spots - 1.0 * lesions, lesions, spots, brain)
    assert fooled == {"decoy_auc": 0, "decoy_ratio": pytest.approx(1 / share)}
    blind = localisation.decoys(1.0 * brain, lesions, spots, brain)
    assert blind == {"decoy_auc": 0.5, "decoy_ratio": pytest.approx(1)}
    noise = [
        localisation.decoys(rng.random(SHAPE) * brain, lesions, spots, brain) for _ in range(60)
    ]
    for name, chance in (("decoy_auc", 0.5), ("decoy_ratio", 1)):
        assert np.mean([values[name] for values in noise]) == pytest.approx(chance, abs=0.05)
    shifted = localisation.decoys(np.roll(lesions, 1, axis=0).astype(float), lesions, spots, brain)
    overlap = (3 * 16 + 4) / 73  # as above; the rest of the lesions ties with all decoys
    assert shifted == {"decoy_auc": pytest.approx(overlap + (1 - overlap) / 2), "decoy_ratio": 0}
    relevance = rng.normal(size=SHAPE) + 0.5 * lesions  # half of it negative, which counts as 0
    truth = np.where(lesions, 1, 0)[lesions | spots]
    expected = roc_auc_score(truth, np.maximum(relevance, 0)[lesions | spots])
    assert localisation.decoys(relevance, lesions, spots, brain)["decoy_auc"] == pytest.approx(
        expected
    )


def test_decoys_of_controls_and_scans_without_any(lesions, brain):
    none = np.zeros(SHAPE, bool)
    values = localisation.decoys(1.0 * brain, none, lesions, brain)
    assert np.isnan(values["decoy_auc"])
    assert values["decoy_ratio"] == pytest.approx(1)
    assert all(
        np.isnan(value) for value in localisation.decoys(1.0 * brain, lesions, none, brain).values()
    )
    assert np.isnan(localisation.decoys(-1.0 * brain, none, lesions, brain)["decoy_ratio"])
    both = localisation.decoys(
        1.0 * lesions, lesions, lesions, brain
    )  # a lesion's voxel is no decoy: none is left
    assert all(np.isnan(value) for value in both.values())


# Over subjects


def test_the_interval_of_a_mean_covers_and_leaves_missing_values_out(rng):
    values = rng.normal(0, 1, 60)
    mean, low, high = localisation.mean_interval(values)
    exact = stats.t.interval(0.95, 59, values.mean(), stats.sem(values))
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx(exact, abs=0.06)
    assert localisation.mean_interval([*values, np.nan]) == localisation.mean_interval(values)
    assert np.isnan(localisation.mean_interval([np.nan])).all()


def test_the_interval_of_a_correlation(rng):
    first = rng.normal(size=200)
    second = first + rng.normal(size=200)
    value, low, high = localisation.correlation_interval(first, second)
    assert value == pytest.approx(np.corrcoef(first, second)[0, 1])
    exact = stats.pearsonr(first, second).confidence_interval()
    assert (low, high) == pytest.approx(exact, abs=0.03)


def test_the_interval_of_a_correlation_far_from_zero_and_of_few_subjects(rng):
    first = rng.normal(size=50)
    second = first + rng.normal(size=50)
    near = localisation.correlation_interval(first, second)
    far = localisation.correlation_interval(first + 1e9, second - 1e9)
    assert far == pytest.approx(near, abs=1e-5)
    value, low, high = localisation.correlation_interval([1.0, 2.0], [3.0, 5.0])
    assert value == pytest.approx(1)
    assert np.isnan([low, high]).all()


def test_the_league_takes_the_strongest_baseline_and_pairs_subjects():
    subjects = [f"sub-{number}" for number in range(8)]
    level = np.linspace(
        0.1, 0.8, 8
    )  # subjects differ far more than maps do: only a paired difference tells
    scores = pd.concat(
        [
            pd.DataFrame(
                {
                    "map": name,
                    "participant_id": subjects,
                    "auprc": level + gain,
                    "rra": level - gain,
                }
            )
            for name, gain in (("weak", 0.0), ("strong", 0.02), ("rule", 0.05))
        ]
    )
    table = localisation.rank(scores, ["weak", "strong"]).set_index("map")
    assert list(table.index) == ["rule", "strong", "weak"]
    rule = table.loc["rule"]
    assert rule["auprc_strongest"] == "strong"
    assert rule["rra_strongest"] == "weak"
    assert rule["auprc_difference"] == pytest.approx(0.03)
    assert rule["auprc_difference_low"] == pytest.approx(0.03)
    assert rule["auprc_difference_high"] == pytest.approx(0.03)
    assert rule["auprc_low"] < rule["auprc"] - 0.1
    assert rule["auprc_high"] > rule["auprc"] + 0.1
    assert table["baseline"].tolist() == [False, True, True]
    assert np.isnan(table.loc["strong", "auprc_difference"])
    assert "rma" not in table


def test_consistency_and_contrast(brain, rng):
    first = rng.normal(size=SHAPE)
    assert localisation.consistency(first, np.exp(first), brain) == pytest.approx(1)
    assert localisation.consistency(first, -first, brain) == pytest.approx(-1)
    assert abs(localisation.consistency(first, rng.normal(size=SHAPE), brain)) < 0.05
    moved = np.where(brain, first, 100 * rng.normal(size=SHAPE))
    assert (
        localisation.consistency(first, moved, brain) == 1
    )  # what lies outside the brain does not count
    assert localisation.class_contrast(first, 2 * first + 1, brain) == pytest.approx(1)
    assert localisation.class_contrast(first, -first, brain) == pytest.approx(-1)


def test_dice_takes_no_threshold_of_zero():
    """At 0 all would be selected; half the brain is lesion, so that Dice would be 2/3."""
    lesions, brain = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    lesions[:10] = True
    relevance = np.zeros(SHAPE)
    relevance[0, 0, 0] = 1
    assert single("best_dice", relevance, lesions, brain) == pytest.approx(2 / (1 + lesions.sum()))
