"""Other scanners and preparations: each effect alone, against what it is by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from msxai.base.errors import ParameterError
from msxai.data import images
from msxai.model import acquisition

SEEDS = st.integers(0, 2**32 - 1)
PLAIN = acquisition.Scanner(
    curve=np.ones(6),
    texture=0.0,
    bias=0.0,
    ghost=0.0,
    ghost_axis=0,
    slice_axis=2,
    blur=np.zeros(3),
    ringing=0.0,
    thickness=1.0,
    noise=0.0,
    noise_blur=0.0,
    rim=0.0,
    erosion=0.0,
)


@pytest.fixture(scope="module")
def scan():
    """A ball of noise with a bright lesion, mean 0 and standard deviation 1 inside, 0 outside."""
    grid = np.indices((32, 30, 28)) - np.array([16, 15, 14])[:, None, None, None]
    brain = (grid**2).sum(0) < 12**2
    values = np.random.default_rng(0).normal(size=brain.shape)
    values[14:18, 14:18, 14:18] += 4
    values = (values - values[brain].mean()) / values[brain].std()
    return np.where(brain, values, 0).astype("float32")


def scanned(scan, **changes):
    return acquisition.scanned(scan, replace(PLAIN, **changes), np.random.default_rng(3))


def neighbours(values, brain, axis):
    """Correlation of voxels with their next neighbour along an axis, well inside the brain."""
    inner = ndimage.binary_erosion(brain, iterations=4)
    both = inner & np.roll(inner, -1, axis)
    return np.corrcoef(values[both], np.roll(values, -1, axis)[both])[0, 1]


def test_a_plain_scanner_changes_nothing(scan):
    np.testing.assert_allclose(scanned(scan), scan, atol=1e-5)


def test_plain_scans_stay_as_they_are(scan):
    assert acquisition.rescanned(scan, np.random.default_rng(0), "plain") is scan
    empty = np.zeros((4, 4, 4), "float32")
    assert acquisition.rescanned(empty, np.random.default_rng(0)) is empty
    with pytest.raises(ParameterError, match="realism"):
        acquisition.rescanned(scan, np.random.default_rng(0), "real")


@given(seed=SEEDS)
def test_moments_and_background_stay_and_equal_generators_agree(scan, seed):
    original = scan.copy()
    first = acquisition.rescanned(scan, np.random.default_rng(seed))
    second = acquisition.rescanned(scan, np.random.default_rng(seed))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(scan, original)
    inside = first != 0
    assert not first[scan == 0].any()
    assert np.isfinite(first).all()
    assert inside.sum() > 0.7 * (scan != 0).sum()
    assert first[inside].mean() == pytest.approx(0, abs=0.01)
    assert first[inside].std() == pytest.approx(1, abs=0.01)
    assert not np.allclose(first, scan, atol=0.05)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_average_along_their_axis_alone(scan, axis):
    thick = scanned(scan, thickness=3 * images.VOXEL_SIZE[axis], slice_axis=axis)
    brain = scan != 0
    for other in range(3):
        correlation = neighbours(thick, brain, other)
        assert (correlation > 0.5) == (other == axis), other


def test_a_slice_is_the_mean_of_its_voxels():
    averages = acquisition._slice_averages(6, 2.0)
    np.testing.assert_allclose(
        averages,
        [[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 0.5, 0.5]],
    )
    broken = acquisition._slice_averages(5, 1.5)
    np.testing.assert_allclose(broken[1], [0, 1 / 3, 2 / 3, 0, 0])
    np.testing.assert_allclose(broken.sum(axis=1), 1)
    between = acquisition._between_slices(6, 2.0, 3)
    np.testing.assert_allclose(between[2], [0.25, 0.75, 0])
    np.testing.assert_allclose(between.sum(axis=1), 1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blur_acts_along_its_axis_alone(scan, axis):
    blur = np.zeros(3)
    blur[axis] = 1.0
    blurred = scanned(scan, blur=blur)
    for other in range(3):
        assert (neighbours(blurred, scan != 0, other) > 0.5) == (other == axis), other


def test_the_coil_multiplies_brightness_by_a_smooth_field():
    brain = np.zeros((40, 40, 40), bool)
    brain[2:-2, 2:-2, 2:-2] = True
    checked = np.where(brain, np.indices(brain.shape).sum(0) % 2 + 1.0, 0).astype("float32")
    shaded = scanned(checked, bias=0.3)
    # Of a bright and a dark voxel side by side, the difference is the coil's brightness.
    steps = np.abs(np.diff(shaded[3:-3, 3:-3, 3:-3], axis=0))
    logarithm = np.log(steps)
    assert logarithm.std() > 0.03
    assert np.abs(np.diff(logarithm, axis=1)).mean() < 0.2 * logarithm.std()
    plain = np.abs(np.diff(scanned(checked)[3:-3, 3:-3, 3:-3], axis=0))
    assert np.log(plain).std() < 0.01


def test_texture_adds_its_share_of_variance_smoothly(scan):
    flat = np.where(scan != 0, 1 + 1e-3 * scan, 0).astype("float32")
    inner = ndimage.binary_erosion(scan != 0, iterations=4)
    textured = scanned(flat, texture=0.3)
    plain = scanned(flat)
    added = (textured - plain)[inner]
    # Moments are those of the scan before: 1 of variance becomes 1 / (1 + .3 ** 2) of it.
    share = np.cov(textured[inner], plain[inner])[0, 1] / plain[inner].var()
    rest = textured[inner] - share * plain[inner]
    assert rest.std() / (share * plain[inner].std()) == pytest.approx(0.3, rel=0.5)
    assert added.std() > 0


def test_a_ghost_moves_along_the_axis_that_was_drawn(scan):
    values = np.full(scan.shape, 0.1, "float32")
    values[16, 4, 14] = 10
    doubled = acquisition._with_ghost(values, replace(PLAIN, ghost=0.1, ghost_axis=1))
    assert doubled[16, 4 + 30 // 3, 14] == pytest.approx(1.09)


@pytest.mark.parametrize("seed", range(5))
def test_a_pair_differs_at_its_lesions_alone(scan, seed):
    """Elsewhere by a line at most, from the moments of each scan."""
    brain = scan != 0
    without = np.where(brain, np.random.default_rng(1).normal(size=scan.shape), 0).astype("float32")
    with_lesion = without.copy()
    with_lesion[18:22, 13:17, 12:16] += 5
    far = np.ones(scan.shape, bool)
    far[12:28, 7:23, 6:22] = False
    # A ghost would show the lesion at another place.
    scanner = replace(acquisition.draw(np.random.default_rng(seed)), ghost=0.0)
    first = acquisition.scanned(without, scanner, np.random.default_rng(9))
    second = acquisition.scanned(with_lesion, scanner, np.random.default_rng(9))
    both = far & (first != 0) & (second != 0)
    slope, start = np.polyfit(first[both], second[both], 1)
    assert (second[both] - slope * first[both] - start).std() < 0.03


def test_ringing_keeps_the_mean_and_overshoots_at_an_edge():
    kernel = acquisition._ringing(1.0)
    assert kernel.sum() == pytest.approx(1)
    np.testing.assert_allclose(acquisition._ringing(0.0), np.eye(9)[4])
    edge = np.repeat([0.0, 1.0], 20)
    rung = ndimage.convolve1d(edge, kernel, mode="nearest")
    assert rung.max() > 1.05
    assert rung.min() < -0.05


def test_a_steep_end_of_the_curve_makes_the_brightest_voxels_brighter(scan):
    lesion = np.zeros(scan.shape, bool)
    lesion[14:18, 14:18, 14:18] = True
    bright = scanned(scan, curve=np.array([1, 1, 1, 1, 1, 3.0]))
    assert bright[lesion].mean() > scan[lesion].mean() + 0.3
    # The curve rises: the order of brightness stays.
    inside = scan != 0
    order = np.argsort(scan[inside], kind="stable")
    assert (np.diff(bright[inside][order]) > -1e-4).all()


def test_the_rim_is_brightened_and_cut(scan):
    brain = scan != 0
    depth = ndimage.distance_transform_cdt(brain, "taxicab")
    bright = scanned(scan, rim=2.0)
    assert bright[depth == 1].mean() > bright[depth > 4].mean() + 0.5
    cut = scanned(scan, erosion=0.5)
    missing = brain & (cut == 0)
    assert set(depth[missing]) == {1}
    assert missing.sum() == pytest.approx(0.5 * (depth == 1).sum(), rel=0.02)


def test_noise_is_added_as_strong_as_drawn_and_as_smooth(scan):
    values = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=scan.shape), 2)
    smooth = np.where(scan != 0, values, 0).astype("float32")
    inner = ndimage.binary_erosion(scan != 0, iterations=4)
    spread = smooth[smooth != 0].std()
    rough = scanned(smooth, noise=0.5)
    noise = (rough - smooth)[inner]
    assert noise.std() == pytest.approx(0.5 * spread / np.sqrt(1.25), rel=0.2)
    shared = scanned(smooth, noise=0.5, noise_blur=1.0) - smooth
    assert neighbours(shared, scan != 0, 0) > 0.6
    assert abs(neighbours(rough - smooth, scan != 0, 0)) < 0.25


def test_a_ghost_lies_a_third_of_the_field_away(scan):
    values = np.full(scan.shape, 0.1, "float32")
    values[4, 15, 14] = 10
    doubled = acquisition._with_ghost(values, replace(PLAIN, ghost=0.1, ghost_axis=0))
    assert doubled[4, 15, 14] == pytest.approx(9.01)
    assert doubled[4 + 32 // 3, 15, 14] == pytest.approx(1.09)


def test_draws_reach_from_thin_to_thick_and_from_sharp_to_blurred():
    scanners = [acquisition.draw(np.random.default_rng(seed)) for seed in range(300)]
    thickness = np.array([scanner.thickness for scanner in scanners])
    assert thickness.min() == 1
    assert thickness.max() > 7
    assert 0.3 < (thickness == 1).mean() < 0.5
    axes = np.bincount([scanner.slice_axis for scanner in scanners])
    assert axes.argmax() == 2
    assert (axes > 20).all()
    assert 0.2 < np.mean([scanner.ghost > 0 for scanner in scanners]) < 0.4
