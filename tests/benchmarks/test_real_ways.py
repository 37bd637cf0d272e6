"""Other ways of showing a real scan to the networks: each change, and the table by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from support.scripts import script

ways = script("real_ways")
SHAPE = (14, 15, 16)


@pytest.fixture
def brain():
    centre = np.reshape(np.array(SHAPE) // 2, (3, 1, 1, 1))
    return ((np.indices(SHAPE) - centre) ** 2).sum(axis=0) < 36


@pytest.fixture
def image(brain):
    values = np.random.default_rng(1).normal(size=SHAPE) * brain
    return values.astype("float32")


def test_a_blur_is_the_mean_over_the_neighbours_inside_the_brain(image, brain):
    outside = np.where(brain, image, 1e6)
    result = ways.blurred(outside, brain, 1)
    np.testing.assert_array_equal(result, ways.blurred(image, brain, 1))
    weights = ndimage.gaussian_filter((np.indices(SHAPE) == 7).all(axis=0).astype(float), 1)
    expected = (weights * image)[brain].sum() / weights[brain].sum()
    unscaled = []
    for voxel in np.argwhere(brain)[:20]:
        weights = np.zeros(SHAPE)
        weights[tuple(voxel)] = 1
        weights = ndimage.gaussian_filter(weights, 1)
        unscaled.append((weights * image)[brain].sum() / weights[brain].sum())
    shown = [result[tuple(voxel)] for voxel in np.argwhere(brain)[:20]]
    slope, offset = np.polyfit(unscaled, shown, 1)
    assert shown == pytest.approx(np.polyval([slope, offset], unscaled), abs=1e-3)
    assert result[7, 7, 7] == pytest.approx(slope * expected + offset, abs=1e-3)
    assert not result[~brain].any()


def test_a_histogram_is_mapped_by_quantiles_and_bright_voxels_stay_bright(image, brain):
    reference = np.linspace(-2, 1, len(ways.QUANTILES))
    result = ways.with_histogram(image, brain, reference)
    order = np.argsort(image[brain])
    assert (np.diff(result[brain][order]) >= 0).all()
    inside = result[brain]
    shown = np.quantile(inside, ways.QUANTILES)
    slope, offset = np.polyfit(reference, shown, 1)
    assert shown == pytest.approx(slope * reference + offset, abs=0.05)
    own = np.quantile(image[brain], ways.QUANTILES)
    brightest = (image[brain].max() - own[-1]) / (own[-1] - own[ways.MEDIAN])
    distance = (inside.max() - shown[-1]) / (shown[-1] - shown[ways.MEDIAN])
    assert distance == pytest.approx(brightest, rel=0.05)


def test_every_way_shows_scans_of_the_same_shape_and_one_leaves_them_as_they_are(image, brain):
    shown = {
        name: show(image, brain)
        for name, show in ways.ways(np.linspace(-2, 1, len(ways.QUANTILES))).items()
    }
    for scans in shown.values():
        assert all(scan.shape == SHAPE and np.isfinite(scan).all() for scan in scans)
    assert [scan is image for scan in shown[ways.AS_IT_IS]] == [True]
    assert len(shown["noise"]) == len(shown["random scanners"]) == ways.DRAWS
    first, second = shown["noise"][:2]
    assert (first - image)[brain].std() == pytest.approx(ways.NOISE, rel=0.1)
    assert not np.array_equal(first, second)


def test_the_table_counts_filled_scans_above_the_lowest_logit_of_all_patients():
    scores = pd.DataFrame(
        {
            "way": ["plain"] * 4,
            "auprc": [0.1, 0.2, 0.3, 0.4],
            "auprc_minus_brightness": [-0.1, 0.0, 0.0, 0.1],
            "logit_image": [3.0, 5.0, 7.0, 9.0],
            "logit_filled": [1.0, 2.0, 4.0, 8.0],
        }
    )
    table = ways.table_of(scores).set_index("measure")["value"]
    assert table["auprc"] == pytest.approx(0.25)
    assert table["called_yes_filled"] == 0.5
    assert table["auc_filled"] == pytest.approx((2 + 3 + 3 + 4) / 16)
