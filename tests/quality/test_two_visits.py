"""Two toy visits: what has become of each lesion; all numbers recomputed by loops."""

import itertools

import numpy as np
import pandas as pd
import pytest

from msxai.data import images
from msxai.quality import two_visits, visit_noise
from msxai.quality.two_visits import Comparison, Visit
from msxai.quality.visit_noise import Limits, Noise
from msxai.regions import lesion_regions

BRAIN = np.zeros(images.SHAPE, bool)
BRAIN[20:76, 20:96, 24:76] = True

# x range of boxes of 3 x 3 voxels in y and z, by y: what the masks of the two visits mark there
UNCHANGED, NEW, GONE, GROWN, SHRUNK, MOVED, MERGED = range(30, 93, 9)
BEFORE = {
    UNCHANGED: [(30, 34)],
    GONE: [(30, 33)],
    GROWN: [(30, 33)],
    SHRUNK: [(30, 36)],
    MOVED: [(30, 33)],
    MERGED: [(30, 33), (36, 39)],
}
NOW = {
    UNCHANGED: [(30, 34)],
    NEW: [(30, 32)],
    GROWN: [(30, 36)],
    SHRUNK: [(30, 33)],
    MOVED: [(33, 36)],  # no voxel in common, but neighbours
    MERGED: [(30, 39)],
}


def mask_of(boxes):
    mask = np.zeros(images.SHAPE, bool)
    for y, ranges in boxes.items():
        for start, stop in ranges:
            mask[start:stop, y : y + 3, 50:53] = True
    return mask


def visit(boxes, seed, logit):
    mask = mask_of(boxes)
    rng = np.random.default_rng(seed)
    relevance = rng.normal(0, 1e-3, images.SHAPE)
    relevance[mask] += 0.02
    scan = np.where(BRAIN, 1 + mask + rng.normal(0, 0.1, images.SHAPE), 0).astype("float32")
    return Visit(scan, BRAIN, relevance, logit, lesion_regions.on_model_grid(mask))


def noise_of(one_scanner, two_scanners):
    """Limits of lesions by their voxels; of each number the limits of the relevance's change."""
    limits = []
    for by_size in (one_scanner, two_scanners):
        rows = [("lesion", size, value) for size, value in by_size.items()]
        table = pd.DataFrame(rows, columns=["kind", "voxels", "value"]).assign(subject=1)
        limits.append(Limits(table, has_maps=True))
    return Noise(*limits, "simulated")


@pytest.fixture(scope="module")
def before():
    return visit(BEFORE, 0, 2.0)


@pytest.fixture(scope="module")
def now():
    return visit(NOW, 1, 3.5)


@pytest.fixture(scope="module")
def table(before, now):
    """By the place of the lesions."""
    changes = two_visits.lesion_changes(before, now)
    index = (changes["y"] - images.AFFINE[1, 3]) / images.AFFINE[1, 1] - 1
    return changes.set_index(index.round().astype(int))


def test_each_lesion_has_the_change_that_was_made(table):
    changes = table["change"]
    assert changes[UNCHANGED] == two_visits.UNCHANGED
    assert changes[NEW] == two_visits.NEW
    assert changes[GONE] == two_visits.GONE
    assert changes[GROWN] == two_visits.GROWN
    assert changes[SHRUNK] == two_visits.SHRUNK
    assert changes[MOVED] == two_visits.UNCHANGED
    assert changes[MERGED] == two_visits.GROWN
    assert len(table) == 7


def test_new_ones_come_first_and_numbers_are_those_of_the_masks(table, before, now):
    order = [two_visits.CHANGES.index(change) for change in table["change"]]
    assert order == sorted(order)
    for y, row in table.iterrows():
        for column, lesions in (("lesions_before", before.lesions), ("lesions_now", now.lesions)):
            there = lesions.labels[:, y : y + 3, 50:53]
            numbers = sorted({int(number) for number in np.unique(there)} - {0})
            assert row[column] == ",".join(map(str, numbers)), (y, column)


def test_relevance_is_that_of_the_same_voxels_at_both_visits(table, before, now):
    first, second = mask_of(BEFORE), mask_of(NOW)
    for y, row in table.iterrows():
        sums = [0.0, 0.0]
        volumes = [0, 0]
        voxels = 0
        for x, dy, z in itertools.product(range(25, 45), range(3), range(50, 53)):
            at = (x, y + dy, z)
            volumes[0] += first[at]
            volumes[1] += second[at]
            if first[at] or second[at]:
                voxels += 1
                sums[0] += before.relevance[at]
                sums[1] += now.relevance[at]
        assert row["voxels"] == voxels
        assert row["relevance_before"] == pytest.approx(sums[0])
        assert row["relevance_now"] == pytest.approx(sums[1])
        assert row["relevance_change"] == pytest.approx(sums[1] - sums[0])
        assert row["volume_before"] == pytest.approx(volumes[0] * images.VOXEL_VOLUME)
        assert row["volume_now"] == pytest.approx(volumes[1] * images.VOXEL_VOLUME)


def test_a_lesion_two_voxels_away_is_another_one(before):
    apart = {GONE: [(34, 37)]}  # one voxel between them
    changes = two_visits.lesion_changes(visit({GONE: [(30, 33)]}, 0, 1.0), visit(apart, 1, 1.0))
    assert changes["change"].tolist() == [two_visits.NEW, two_visits.GONE]


def test_small_differences_of_volume_are_no_change():
    """Both conditions: more than a quarter, and more than 20 mm3."""
    for before, now, change in [
        (40.0, 59.0, "unchanged"),  # half as much again, but 19 mm3
        (40.0, 61.0, "grown"),
        (200.0, 249.0, "unchanged"),
        (200.0, 251.0, "grown"),
        (200.0, 149.0, "shrunk"),
        (200.0, 151.0, "unchanged"),
        (0.0, 3.0, "new"),
        (3.0, 0.0, "gone"),
    ]:
        assert two_visits._change(before, now) == change, (before, now)


def test_lesions_that_are_too_small_for_the_grid_are_found_again():
    """Their voxels are known in the file alone."""
    empty = np.zeros(images.SHAPE, int)
    visits = []
    for x in (40.4, 41.2):
        lesions = lesion_regions.Lesions(
            labels=empty,
            volumes=np.array([1.0]),
            longest_axes=np.array([1.0]),
            voxels=[np.array([[x, 50.0, 50.0]])],
        )
        visits.append(Visit(empty * 1.0, BRAIN, empty + 0.5, 1.0, lesions))
    (row,) = two_visits.lesion_changes(*visits).to_dict("records")
    assert (row["change"], row["voxels"]) == ("unchanged", 2)
    assert row["relevance_now"] == pytest.approx(1.0)


def test_without_any_lesion_the_table_is_empty():
    none = visit({}, 0, 1.0)
    assert two_visits.lesion_changes(none, none).empty
    assert two_visits.lesion_changes(none, none, noise_of({3: 1.0}, {3: 2.0})).empty
    changes = two_visits.lesion_changes(none, visit(NOW, 1, 1.0))
    assert set(changes["change"]) == {two_visits.NEW}


def test_logit_map_and_shares(before, now):
    comparison = Comparison.of(before, now, None)
    assert comparison.logit_change == pytest.approx(1.5)
    difference = now.relevance - before.relevance
    np.testing.assert_array_equal(comparison.relevance_change, difference)
    magnitudes = np.sort(np.abs(difference[BRAIN]))
    limit = comparison.quantile_of_change(0.001)
    assert (magnitudes > limit).mean() == pytest.approx(0.001, abs=1e-5)
    assert comparison.share_above(0.01) == pytest.approx((magnitudes > 0.01).mean())
    values = [one.scan[BRAIN].astype(float) for one in (before, now)]
    deviations = [scan - scan.mean() for scan in values]
    expected = np.sum(deviations[0] * deviations[1])
    expected /= np.sqrt(np.sum(deviations[0] ** 2) * np.sum(deviations[1] ** 2))
    assert comparison.similarity == pytest.approx(expected, rel=1e-4)


def test_the_brain_is_that_of_both_visits(before, now):
    smaller = BRAIN.copy()
    smaller[:40] = False
    cut = Visit(before.scan, smaller, before.relevance, 2.0)
    comparison = Comparison.of(cut, now, None)
    assert (comparison.brain == BRAIN).all()
    assert comparison.lesions is None, "a mask of one visit alone"


def test_scans_without_contrast_have_no_similarity(before):
    flat = Visit(np.ones(images.SHAPE), BRAIN, before.relevance, 1.0)
    assert np.isnan(two_visits.similarity(flat, before))
    nowhere = Visit(before.scan, ~BRAIN, before.relevance, 1.0)
    assert np.isnan(two_visits.similarity(nowhere, before))


def test_lesions_stand_beside_the_limits_of_their_size(before, now):
    """All here have 18 to 81 voxels, in two classes; those of other classes do not count."""
    noise = noise_of({3: 9.0, 20: 0.3, 70: 0.03}, {3: 9.0, 20: 0.5, 70: 0.05})
    changes = Comparison.of(before, now, noise).lesions
    for row in changes.itertuples():
        limits = (0.03, 0.05) if row.voxels >= 64 else (0.3, 0.5)
        assert (row.limit_one_scanner, row.limit_two_scanners) == limits
        words = visit_noise.BEYOND
        if abs(row.relevance_change) <= limits[1]:
            words = visit_noise.BETWEEN
        if abs(row.relevance_change) <= limits[0]:
            words = visit_noise.WITHIN
        assert row.noise == words
    assert set(changes["noise"]) == {visit_noise.BEYOND, visit_noise.BETWEEN, visit_noise.WITHIN}


def test_without_limits_nothing_is_said_about_noise(before, now):
    for noise in (None, noise_of({3: 9.0}, {3: 9.0})):
        changes = Comparison.of(before, now, noise).lesions
        assert changes["limit_one_scanner"].isna().all()
        assert changes["noise"].isna().all()
