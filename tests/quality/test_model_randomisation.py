"""Cascading randomisation on a small network, and SSIM against a version by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats
from skimage.metrics import structural_similarity
from support.small_model import SHAPE, small_model

from msxai.quality import model_randomisation


@pytest.fixture
def model():
    return small_model()


def by_hand(first, second, size=7):
    """SSIM of Wang et al. 2004 at each voxel: uniform window, sample covariance, range 2."""

    def mean(values):
        return ndimage.uniform_filter(values, size)

    sample = size**3 / (size**3 - 1)
    variances = sample * (mean(first**2) - mean(first) ** 2 + mean(second**2) - mean(second) ** 2)
    covariance = sample * (mean(first * second) - mean(first) * mean(second))
    luminance = (0.01 * 2) ** 2
    contrast = (0.03 * 2) ** 2
    similarity = (2 * mean(first) * mean(second) + luminance) * (2 * covariance + contrast)
    similarity /= mean(first) ** 2 + mean(second) ** 2 + luminance
    return similarity / (variances + contrast)


def test_ssim_is_that_of_the_paper_and_of_scikit_image(rng):
    first, second = rng.normal(size=SHAPE), rng.normal(size=SHAPE)
    second += first
    scaled = [values / np.abs(values).max() for values in (first, second)]
    inside = np.zeros(SHAPE, bool)
    inside[3:-3, 3:-3, 3:-3] = True
    _, oracle = structural_similarity(*scaled, data_range=2, full=True)
    similarity = model_randomisation.ssim(first, second, inside)
    assert similarity == pytest.approx(oracle[inside].mean(), rel=1e-9)
    assert similarity == pytest.approx(by_hand(*scaled)[inside].mean(), rel=1e-9)
    assert model_randomisation.ssim(first, 3 * first, inside) == pytest.approx(
        1
    )  # each map is scaled by itself
    assert model_randomisation.ssim(first, -first, inside) < 0.2


def test_layers_are_randomised_from_the_output_down_and_the_model_stays(model):
    before, seen = [weights.copy() for weights in model.get_weights()], []
    for name, copy in model_randomisation.randomised(model, seed=5):
        seen.append(name)
        for layer in ("conv1", "conv2", "dense"):
            same = np.array_equal(
                copy.get_layer(layer).get_weights()[0], model.get_layer(layer).get_weights()[0]
            )
            assert same == (layer not in seen)
    assert seen == ["dense", "conv2", "conv1"]
    assert all(
        (weights == current).all()
        for weights, current in zip(before, model.get_weights(), strict=True)
    )


def test_cascade(model, rng):
    brain = np.ones(SHAPE, bool)
    volume = rng.normal(size=SHAPE).astype("float32")
    both = model_randomisation.cascade(model, volume, brain, ["epsilon", "gradient"])
    assert both["map"].tolist() == ["epsilon"] * 4 + ["gradient"] * 4
    for name in ("epsilon", "gradient"):
        table = both[both["map"] == name]
        assert table["layer"].tolist() == ["", "dense", "conv2", "conv1"]
        assert table[["ssim", "rank", "emprt"]].iloc[0].tolist() == [1, 1, 0]
        assert abs(table["rank"].iloc[-1]) < 0.5  # new weights everywhere: another map
        # The model has seed 0, as the new weights have: they are different all the same.
        assert (table["rank"].iloc[1:] < 0.95).all()
        alone = model_randomisation.cascade(model, volume, brain, [name])
        pd.testing.assert_frame_equal(alone, table.reset_index(drop=True))


def test_a_map_of_the_input_alone_survives_randomisation(model, rng, monkeypatch):
    """An edge map in place of LRP: the check must see that nothing changes."""
    monkeypatch.setattr(
        model_randomisation.scan_maps,
        "of_scan",
        lambda model, volume, names, **options: {name: np.abs(volume) for name in names},
    )
    table = model_randomisation.cascade(
        model, rng.normal(size=SHAPE).astype("float32"), np.ones(SHAPE, bool), ["edges"]
    )
    assert table["rank"].tolist() == pytest.approx([1] * 4)
    assert table["ssim"].tolist() == pytest.approx([1] * 4)


def test_complexity(rng):
    brain = np.ones(SHAPE, bool)
    point = np.zeros(SHAPE)
    point[1, 2, 3] = 1
    n = point.size
    assert model_randomisation.complexity(point, brain) == pytest.approx(stats.entropy([n - 1, 1]))
    assert model_randomisation.complexity(rng.random(SHAPE), brain) == pytest.approx(
        np.log(model_randomisation.BINS), abs=0.05
    )
