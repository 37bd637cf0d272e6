"""Simulated scans that differ in one thing: pairs, lesions by factor, decoys, planted shortcuts;
and the cohort made of them.
"""

from dataclasses import replace

import controlled_pairs
import numpy as np
import pytest
from controlled_pairs import Shortcut
from scipy import ndimage

from msxai.base import statistics
from msxai.base.errors import ParameterError
from msxai.data import images
from msxai.data.synthetic import phantom, template

SESSION = phantom.Session(age=40, site="site-2")


@pytest.fixture(scope="module")
def pair():
    return controlled_pairs.paired("MS", 11, 12, volume=9000, session=SESSION)


@pytest.fixture(scope="module")
def subject(pair):
    """A box as a brain: what is planted can be counted by hand."""
    image, brain = np.zeros((2, *images.SHAPE), int)
    brain[20:70, 30:90, 10:60] = 1
    image[brain == 1] = 1000
    lesions = np.zeros(images.SHAPE, bool)
    lesions[20:22, 40, 40] = True
    return replace(pair[0], image=image.astype("int16"), brain=brain == 1, lesions=lesions)


def test_a_pair_differs_in_its_lesions_alone(pair):
    full, bare = pair
    assert full.lesions.any()
    assert not bare.lesions.any()
    assert (full.brain == bare.brain).all()
    assert (full.classes == bare.classes).all()
    moved = controlled_pairs.moved(pair)
    # a lesion's soft border is at most 2.1 mm * 2 wide and the scanner's blur reaches 2 voxels;
    # beyond it no bit differs
    far = ndimage.distance_transform_edt(~full.lesions, sampling=images.VOXEL_SIZE) > 12
    assert not moved[far].any()
    assert moved[full.lesions].mean() > 0.9
    assert (full.image.astype(int) - bare.image)[full.lesions].mean() > 0.1 * bare.image[
        full.lesions
    ].mean()
    assert (
        controlled_pairs.moved((full, controlled_pairs.paired("MS", 11, 13, volume=9000)[1]))[
            far & full.brain
        ].mean()
        > 0.5
    )  # other noise is seen


def test_lesions_are_measured_one_by_one(subject):
    lesions, classes = np.zeros((2, *images.SHAPE), bool)
    lesions[40:42, 40, 40] = lesions[42, 41, 41] = lesions[60, 60, 50] = (
        True  # the first two touch at a corner
    )
    classes[40:42, 45, 40] = True
    ventricle = 1 + list(template.CLASSES).index("ventricle")
    numbers, measured = controlled_pairs.lesions_of(
        replace(subject, lesions=lesions, classes=classes * np.uint8(ventricle))
    )
    assert [lesion["size"] for lesion in measured] == pytest.approx(
        [3 * images.VOXEL_VOLUME, images.VOXEL_VOLUME]
    )
    assert measured[0]["distance"] == pytest.approx(
        np.hypot(images.VOXEL_SIZE[0], np.hypot(4 * images.VOXEL_SIZE[1], images.VOXEL_SIZE[2])),
        rel=1e-6,
    )
    assert (numbers > 0).sum() == 4


@pytest.mark.long(reason="simulated subjects, 5 s")
def test_one_factor_at_a_time(pair):
    full, bare = pair
    assert (controlled_pairs.varied(pair).image == full.image).all()
    assert (controlled_pairs.varied(pair).lesions == full.lesions).all()
    assert (controlled_pairs.varied(pair, contrast=0).image == bare.image).all()
    half = controlled_pairs.varied(pair, contrast=0.5)
    change = [subject.image.astype(float) - bare.image for subject in (half, full)]
    assert np.abs(change[0] - change[1] / 2).max() <= 0.5  # rounded to whole numbers
    assert (half.lesions == full.lesions).all()
    for bounds in (
        {"size": (0, 50)},
        {"size": (50, np.inf)},
        {"distance": (0, 4)},
        {"distance": (4, np.inf)},
    ):
        some = controlled_pairs.varied(pair, **bounds)
        ((name, (low, high)),) = bounds.items()
        numbers, measured = controlled_pairs.lesions_of(full)
        fit = [index for index, lesion in enumerate(measured, 1) if low <= lesion[name] <= high]
        assert 0 < len(fit) < len(measured)
        assert (some.lesions == np.isin(numbers, fit)).all()
        assert some.covariates["volume"] == pytest.approx(some.lesions.sum() * images.VOXEL_VOLUME)
        assert (some.image[some.lesions] == full.image[some.lesions]).all()
        assert (
            some.image[full.lesions & ~some.lesions] == bare.image[full.lesions & ~some.lesions]
        ).all()


def test_so_many_lesions(pair):
    count = len(controlled_pairs.lesions_of(pair[0])[1])
    few, otherwise_drawn = (controlled_pairs.varied(pair, number=3, seed=seed) for seed in (0, 1))
    assert ndimage.label(few.lesions, np.ones((3, 3, 3)))[1] == few.covariates["lesions"] == 3
    assert (few.lesions != otherwise_drawn.lesions).any()
    assert (controlled_pairs.varied(pair, number=0).image == pair[1].image).all()
    with pytest.raises(ParameterError, match=f"at most {count}"):
        controlled_pairs.varied(pair, number=count + 1)


def test_without_decoys_all_else_is_the_same(pair):
    full, bare = pair
    without = [
        phantom.simulate("ms", "MS", 11, 12, volume=volume, session=SESSION, decoys=False)
        for volume in (9000, 0)
    ]
    assert (without[0].lesions == full.lesions).all()
    assert (without[0].brain == full.brain).all()
    assert (without[0].classes == full.classes).all()
    changed = bare.image != without[1].image
    assert 0 < changed.sum() < 0.01 * bare.brain.sum()
    assert (bare.image >= without[1].image)[bare.brain].all()  # decoys are bright
    _, spots = ndimage.label(changed, np.ones((3, 3, 3)))
    assert (
        3 <= spots <= 30
    )  # twelve are drawn on average, some too faint to be seen, some in one place


def test_decoys_are_where_the_scan_is_brighter_with_them(subject):
    with_them, classes = (
        subject.image.copy(),
        np.full(images.SHAPE, 2, "uint8"),
    )  # all white matter, of 1000
    with_them[30, 40, 20] += 101
    with_them[31, 40, 20] += 99  # less than a tenth
    with_them[0, 0, 0] += 500  # outside the brain
    without = replace(subject, classes=classes * subject.brain)
    assert np.argwhere(
        controlled_pairs.decoys(replace(without, image=with_them), without)
    ).tolist() == [[30, 40, 20]]
    assert controlled_pairs.decoys(replace(without, image=with_them), without, 0.09).sum() == 2


@pytest.mark.long(reason="a small version of a proof, 30 s to 2 minutes")
def test_a_cohort_holds_each_brain_in_several_conditions():
    conditions = {
        name: controlled_pairs.CONDITIONS[name] for name in ("as drawn", "faint", "few", "deep")
    }
    cases = list(controlled_pairs.cohort(5, {"validation": 1, "test": 1}, 1, conditions))
    assert [(case.part, case.brain, case.condition) for case in cases] == [
        (part, f"{part}-{number:02}", condition)
        for part in ("validation", "test")
        for number, condition in [*((0, name) for name in conditions), (1, "control")]
    ]
    assert all(case.decoys.any() for case in cases)
    assert not any((case.decoys & case.subject.lesions).any() for case in cases)
    assert [case.subject.lesions.any() for case in cases] == [
        case.condition != "control" for case in cases
    ]
    assert {case.subject.covariates["group"] for case in cases if case.condition == "control"} == {
        "HC"
    }
    drawn, faint, few, deep = (case.subject for case in cases[:4])
    assert (faint.lesions == drawn.lesions).all()
    assert faint.image[faint.lesions].mean() < drawn.image[drawn.lesions].mean()
    assert few.covariates["lesions"] == 3
    assert min(lesion["distance"] for lesion in controlled_pairs.lesions_of(deep)[1]) >= 5
    brains = [case.subject.image for case in cases if case.condition in ("as drawn", "control")]
    assert all(
        (brain != other).mean() > 0.1
        for number, brain in enumerate(brains)
        for other in brains[:number]
    )  # no brain comes twice
    turns = [
        case.condition
        for case in controlled_pairs.cohort(5, {"validation": 2}, 0, conditions, further=2)
    ]
    assert turns == ["as drawn", "faint", "few", "as drawn", "deep", "faint"]
    other = next(controlled_pairs.cohort(6, {"validation": 1}, 0, conditions))
    assert (other.subject.image != drawn.image).mean() > 0.1


def test_a_stripe_is_a_band_of_slices(subject):
    planted = Shortcut("stripe", 1, 0.5, 4, 0.2).plant(subject)
    changed = planted.image != subject.image
    assert np.flatnonzero(changed.any((0, 2))).tolist() == [
        58,
        59,
        60,
        61,
    ]  # the brain's extent is 30 to 89: its middle 59.5
    assert changed.sum() == 50 * 4 * 50
    assert set(planted.image[changed]) == {1200}
    assert (planted.brain == subject.brain).all()
    assert not planted.image[~planted.brain].any()


@pytest.mark.parametrize(
    ("at", "cut", "left"), [(0.0, [20, 21], [18, 19]), (1.0, [68, 69], [70, 71])]
)
def test_an_edge_moves_on_one_side(subject, at, cut, left):
    before = subject.image.copy()
    eroded = Shortcut("edge", 0, at, 2, -1.0).plant(subject)
    assert np.flatnonzero((eroded.brain != subject.brain).any((1, 2))).tolist() == cut
    assert (eroded.brain != subject.brain).sum() == 2 * 60 * 50
    assert not eroded.image[~eroded.brain].any()
    assert not (
        eroded.lesions & ~eroded.brain
    ).any()  # a lesion that was cut off is in the scan no more
    dilated = Shortcut("edge", 0, at, 2, 1.0).plant(subject)
    rim = dilated.brain & ~subject.brain
    assert np.flatnonzero(rim.any((1, 2))).tolist() == left
    assert rim.sum() == 2 * 60 * 50
    assert set(dilated.image[rim]) == {1000}
    assert (dilated.image[~rim] == subject.image[~rim]).all()
    assert (subject.image == before).all()  # the subject itself stays as it was


def test_shortcuts_are_drawn():
    drawn = [
        controlled_pairs.shortcut(kind, seed)
        for kind in controlled_pairs.SHORTCUTS
        for seed in range(30)
    ]
    assert drawn[0] == controlled_pairs.shortcut("stripe", 0)
    assert {shortcut.axis for shortcut in drawn} == {0, 1, 2}
    assert {np.sign(shortcut.strength) for shortcut in drawn} == {-1, 1}
    assert {shortcut.at for shortcut in drawn if shortcut.kind == "edge"} == {0, 1}
    with pytest.raises(ParameterError, match="stripe"):
        controlled_pairs.shortcut("strype")


@pytest.mark.parametrize(("patients", "controls"), [(20, 20), (10, 10), (40, 20)])
def test_a_shortcut_alone_has_an_auc_of_three_quarters(patients, controls):
    labels = np.random.default_rng(0).permutation(np.repeat([1, 0], [patients, controls]))
    carriers = [controlled_pairs.carriers(labels, 0.75, seed) for seed in range(200)]
    aucs = [statistics.auc(labels, has) for has in carriers]
    assert np.mean(aucs) == pytest.approx(0.75, abs=0.005)
    assert np.abs(np.array(aucs) - 0.75).max() < 1e-9  # in each cohort, halves of a subject too
    assert 0.2 < np.mean(carriers) < 0.6
    assert np.ptp(np.mean(carriers, axis=0)[labels == 1]) < 0.3  # no subject is preferred
    assert statistics.auc(labels, controlled_pairs.carriers(labels, 0.5, 3)) == pytest.approx(
        0.5, abs=0.001
    )
