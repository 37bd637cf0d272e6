"""Augmentation: what may change in a scan and what may not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from msxai.base.errors import ParameterError
from msxai.data.synthetic.geometry import rotation
from msxai.model import augmentation

SEEDS = st.integers(0, 2**32 - 1)
VARIED = ("strong", "contrast")


@pytest.fixture(scope="module")
def scan():
    """A smooth ball with mean 0 and standard deviation 1 inside, 0 outside."""
    grid = np.indices((30, 32, 28)) - np.array([15, 16, 14])[:, None, None, None]
    brain = (grid**2).sum(0) < 11**2
    values = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=brain.shape), 2)
    values = (values - values[brain].mean()) / values[brain].std()
    return np.where(brain, values, 0).astype("float32")


@given(seed=SEEDS)
def test_the_papers_changes_are_a_flip_and_a_shift_along_x(seed):
    volume = np.random.default_rng(0).normal(size=(9, 3, 4)).astype("float32")
    original = volume.copy()
    augmented = augmentation.augment(volume, np.random.default_rng(seed), "paper")
    np.testing.assert_array_equal(volume, original)
    candidates = []
    for source in (volume, np.flip(volume, 0)):
        for step in range(-2, 3):
            padded = np.pad(source, ((2, 2), (0, 0), (0, 0)))
            candidates.append(padded[2 - step : 2 - step + 9])
    assert sum(np.array_equal(augmented, candidate) for candidate in candidates) == 1


def test_the_paper_draws_flips_and_all_shifts_evenly():
    volume = np.zeros((9, 1, 1), "float32")
    volume[3] = 1
    counts = np.zeros(8, int)
    for seed in range(2000):
        augmented = augmentation.augment(volume, np.random.default_rng(seed), "paper")
        counts[np.argmax(augmented)] += 1
    # 3 and its mirror 5, each moved by -2..2
    expected = np.array([0, 200, 200, 400, 400, 400, 200, 200])
    assert (np.abs(counts - expected) < 80).all()


def test_none_changes_nothing(scan):
    assert augmentation.augment(scan, np.random.default_rng(0), "none") is scan


@pytest.mark.parametrize("how", VARIED)
def test_equal_generators_change_equal_scans_equally(scan, how):
    original = scan.copy()
    first, second, other = (
        augmentation.augment(scan, np.random.default_rng(seed), how) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(scan, original)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("how", VARIED)
@given(seed=SEEDS)
def test_a_varied_brain_keeps_its_mean_and_its_spread(scan, how, seed):
    augmented = augmentation.augment(scan, np.random.default_rng(seed), how)
    inside = augmented[augmented != 0]
    assert augmented.dtype == scan.dtype
    assert abs(inside.mean()) < 1e-3
    assert abs(inside.std() - 1) < 1e-3
    # About the same volume: the size changes by 3 % along each axis (1 standard deviation).
    assert 0.6 < len(inside) / np.count_nonzero(scan) < 1.7


def test_an_interpolation_is_that_of_scipy():
    volume = np.random.default_rng(0).normal(size=(20, 21, 22)).astype("float32")
    matrix = rotation([3, -5, 8]) * [1.1, 0.9, 1]
    offset = np.array([0.5, -1, 2.2])
    expected = ndimage.affine_transform(volume, matrix, offset, order=1, prefilter=False)
    resampled = augmentation._resampled(volume, matrix, offset)
    np.testing.assert_allclose(resampled, expected, atol=1e-6)


@pytest.mark.parametrize(("how", "inverted"), [("strong", 0.0), ("contrast", 0.25)])
def test_a_quarter_of_random_contrasts_are_inverted_and_strong_inverts_none(how, inverted):
    """A symmetric ball, bright in the middle: motion leaves it as it is."""
    grid = np.indices((25, 25, 25)) - 12
    radius = np.sqrt((grid**2).sum(0))
    ball = np.where(radius < 11, 6 - radius, 0).astype("float32")
    is_dark = []
    for seed in range(200):
        augmented = augmentation.augment(ball, np.random.default_rng(seed), how)
        core = augmented[radius < 3].mean()
        shell = augmented[(radius > 4) & (radius < 6)].mean()
        is_dark.append(core < shell)
    assert abs(np.mean(is_dark) - inverted) < 0.1


def test_an_empty_volume_stays_empty():
    empty = np.zeros((5, 6, 7), "float32")
    assert not augmentation.augment(empty, np.random.default_rng(0), "strong").any()


def test_an_unknown_name_is_refused():
    with pytest.raises(ParameterError, match="Did you mean strong"):
        augmentation.augment(np.zeros((2, 2, 2)), np.random.default_rng(0), "stronk")
