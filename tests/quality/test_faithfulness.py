"""Faithfulness on functions whose answer is known, and the fill of simulated lesions."""

import keras
import numpy as np
import pytest
from scipy import ndimage

from msxai.data import images
from msxai.data.synthetic import phantom, template
from msxai.quality import faithfulness

SHAPE = (12, 13, 11)


def test_filling_takes_spots_away_and_keeps_the_rest(rng):
    brain = np.zeros((30, 30, 30), bool)
    brain[3:27, 3:27, 3:27] = True
    volume = np.where(brain, 1 + 0.05 * rng.normal(size=brain.shape), 0).astype("float32")
    spot = np.zeros_like(brain)
    spot[14:17, 14:17, 14:17] = True
    filled = faithfulness.fill(volume + 2 * spot, brain)
    assert filled[spot].mean() == pytest.approx(1, abs=0.05)
    assert filled[brain].std() == pytest.approx(0.05, rel=0.2)
    assert (filled[~brain] == 0).all()
    assert (filled == faithfulness.fill(volume + 2 * spot, brain)).all()


def test_lesions_are_filled_as_lesions():
    """Where half of the neighbours are lesion too, their median is lesion.

    The fill is normal-appearing white matter.
    """
    scan = phantom.simulate("ms", "MS", 3, 4, volume=30000)
    volume = images.normalise(scan.image.astype("float32"), scan.brain, "zscore")
    without_mask, with_mask = (
        faithfulness.fill(volume, scan.brain, mask=mask) for mask in (None, scan.lesions)
    )
    white = (
        scan.classes == 1 + list(template.CLASSES).index("white matter")
    ) & ~ndimage.binary_dilation(scan.lesions, iterations=3)
    level, spread = np.median(volume[white]), volume[white].std()
    core = ndimage.binary_erosion(scan.lesions, iterations=2)
    assert core.sum() > 100
    assert np.median(without_mask[core]) > level + spread
    assert np.median(with_mask[core]) == pytest.approx(level, abs=float(spread))
    far = ~ndimage.binary_dilation(scan.lesions, iterations=6)
    np.testing.assert_array_equal(with_mask[far], without_mask[far])


def test_deletion_and_insertion_of_a_logit_that_is_known(rng):
    brain = np.ones((10, 10, 10), bool)
    weights, other = np.zeros(brain.shape), np.zeros(brain.shape)
    weights[2, 2, :10] = 1.0  # ten voxels are all that counts
    volume = np.ones(brain.shape)

    def logit(scan):
        return (weights * scan).sum()

    steps = (0.005, 0.01, 0.02)
    assert faithfulness.exchanged(logit, volume, other, brain, weights, steps).tolist() == [5, 0, 0]
    assert faithfulness.exchanged(logit, other, volume, brain, weights, steps).tolist() == [
        5,
        10,
        10,
    ]
    maps = {"right": weights, "inverted": -weights, "noise": rng.random(brain.shape)}
    exchange = faithfulness.Exchange(volume, other, brain, steps)
    table = faithfulness.compare(logit, exchange, maps, orders=20).set_index("map")
    chance = 10 * np.mean(steps)  # what random orders exchange
    assert table.loc["right", "deletion"] == pytest.approx((5 + 10 + 10) / 3 - chance, abs=0.2)
    assert table.loc["right", "insertion"] == pytest.approx((5 + 10 + 10) / 3 - chance, abs=0.2)
    assert table.loc["inverted", "deletion"] == pytest.approx(-chance, abs=0.2)
    assert table.loc["noise"].abs().max() < 0.5
    assert (volume == 1).all()
    assert (other == 0).all()


def test_the_logit_of_a_model(rng):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((*SHAPE, 1)),
            layers.Conv3D(2, 3, activation="elu"),
            layers.MaxPooling3D(2),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    volume = rng.normal(size=SHAPE)
    assert faithfulness.logit_of(model)(volume) == pytest.approx(
        float(model.predict(volume[None, ..., None], verbose=0)[0, 0]), rel=1e-5
    )
