"""msxai.quality.model_randomisation on small networks, and on functions whose answer is known."""

import keras
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from skimage.metrics import structural_similarity

from msxai import lrp
from msxai.quality import model_randomisation

SHAPE = (12, 13, 11)


@pytest.fixture
def model():
    layers = keras.layers
    keras.utils.set_random_seed(0)
    found = keras.Sequential(
        [
            keras.Input((*SHAPE, 1)),
            layers.Conv3D(3, 3, activation="elu", name="conv1"),
            layers.MaxPooling3D(2, name="pool"),
            layers.Conv3D(3, 3, activation="elu", name="conv2"),
            layers.Flatten(name="flatten"),
            layers.Dense(1, name="dense"),
        ]
    )
    for layer in found.layers:
        if layer.weights:
            layer.bias.assign(0.1 * np.random.default_rng(1).normal(size=layer.bias.shape))
    return found


def test_ssim_is_scikit_images(rng):
    first, second = rng.normal(size=SHAPE), rng.normal(size=SHAPE)
    second += first
    pair = [one / np.abs(one).max() for one in (first, second)]
    _, oracle = structural_similarity(
        *pair, data_range=2, full=True
    )  # scikit-image, uniform window of 7
    inside = np.zeros(SHAPE, bool)
    inside[3:-3, 3:-3, 3:-3] = True
    assert model_randomisation.ssim(first, second, inside) == pytest.approx(
        oracle[inside].mean(), rel=1e-9
    )
    assert model_randomisation.ssim(first, 3 * first, inside) == pytest.approx(
        1
    )  # each map is scaled by itself
    assert model_randomisation.ssim(first, -first, inside) < 0.2


def test_layers_are_randomised_from_the_output_down_and_the_model_stays(model):
    before, seen = [one.copy() for one in model.get_weights()], []
    for name, copy in model_randomisation.randomised(model, seed=5):
        seen.append(name)
        for layer in ("conv1", "conv2", "dense"):
            same = np.array_equal(
                copy.get_layer(layer).get_weights()[0], model.get_layer(layer).get_weights()[0]
            )
            assert same == (layer not in seen)
    assert seen == ["dense", "conv2", "conv1"]
    assert all((one == other).all() for one, other in zip(before, model.get_weights(), strict=True))


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
        assert (
            table["rank"].iloc[1:] < 0.95
        ).all()  # the model was made with seed 0, as the new weights are: other weights all the same
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


def test_conservation_without_biases(model, rng):
    volumes = rng.normal(size=(2, *SHAPE, 1)).astype("float32")
    free = model_randomisation.bias_free(model)
    exact = lrp.explain(
        free, volumes, "epsilon", epsilon=1e-9, computation=lrp.Computation(dtype="float64")
    )
    assert (model_randomisation.conservation(exact) < 1e-4).all()
    assert (
        model_randomisation.conservation(
            lrp.explain(
                model,
                volumes,
                "epsilon",
                epsilon=1e-9,
                computation=lrp.Computation(dtype="float64"),
            )
        )
        > 1e-3
    ).all()  # biases keep some
    assert model.get_layer("conv1").bias.numpy().any()


def test_a_volume_is_moved_and_moved_back():
    point = np.zeros((21, 21, 21))
    point[18, 10, 10] = 1
    assert np.argwhere(model_randomisation.moved(point, 1, 0) > 0.5).tolist() == [[19, 10, 10]]
    assert model_randomisation.moved(point, 0.5, 0)[18:20, 10, 10].tolist() == [0.5, 0.5]
    assert np.argwhere(model_randomisation.moved(point, 1, 90) > 0.5).tolist() == [[11, 18, 10]], (
        "turned first, then shifted"
    )
    assert np.argwhere(
        model_randomisation.moved(model_randomisation.moved(point, 1, 90), 1, 90, back=True) > 0.5
    ).tolist() == [[18, 10, 10]]


class Three:
    """Scans of noise in a box; reads like `msxai.data.prepared.Prepared`."""

    def __init__(self):
        self.images = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype("float32")
        self.table = pd.DataFrame(
            {"participant_id": ["sub-0", "sub-1", "sub-1"], "session_id": ["", "a", "b"]}
        )
        self.image = self.images.__getitem__

    def brain(self, row):
        return np.pad(np.ones(np.array(SHAPE) - 6, bool), 3)


def test_checks_are_means_over_subjects(model, monkeypatch):
    every, cascades = model_randomisation.checks(
        model,
        Three(),
        [0, 1, 2],
        ["epsilon", "epsilon_plus", "gradient"],
        epsilon=1e-3,
        seed=0,
        threads=1,
    )
    assert every["map"].drop_duplicates().tolist() == ["epsilon", "epsilon_plus", "gradient"]
    ruled = [name for name in model_randomisation.EXPECTED if "conservation" not in name]
    assert every.loc[every["map"] == "gradient", "check"].tolist() == ruled, (
        "a gradient conserves nothing and is not asked to"
    )
    table = every[every["map"] == "epsilon"].set_index("check")
    assert list(table.index) == list(model_randomisation.EXPECTED)
    assert (every["subjects"] == 2).all(), "two visits are one subject"
    assert (
        table.loc["conservation error without biases", "value"]
        < 1e-4
        < table.loc["conservation error", "value"]
    )
    sizes = cascades.groupby(["map", "participant_id", "session_id"]).size()
    assert sizes.tolist() == [4] * 9
    ends = (
        cascades[(cascades["layer"] == "conv1") & (cascades["map"] == "epsilon")]
        .groupby("participant_id")["rank"]
        .mean()
    )
    assert table.loc["randomised: rank", "value"] == pytest.approx(ends.mean())
    assert table.loc["randomised: rank", ["low", "high"]].tolist() == pytest.approx(
        sorted(ends), abs=1e-9
    )
    rank = table.loc["moved by one voxel: rank"]
    assert 0 < rank["value"] < 1
    assert rank["reference"] == pytest.approx(1)  # a whole voxel needs no interpolation
    assert -0.2 < table.loc["randomised: SSIM", "reference"] < 0.5, "noise shuffled is other noise"
    assert table.loc[["randomised: rank", "conservation error"], "reference"].isna().all()
    alone = model_randomisation.checks(
        model, Three(), [0, 1, 2], ["epsilon_plus"], epsilon=1e-3, seed=0, threads=1
    )[0]
    pd.testing.assert_frame_equal(
        alone, every[every["map"] == "epsilon_plus"].reset_index(drop=True)
    )

    def edges(
        model, volume, names, *more, **options
    ):  # a map that follows the scan exactly, and no network at all
        return {name: np.abs(volume) for name in names}

    def explained(model, volumes, names, *more, **options):
        return {
            name: lrp.Explanation(np.abs(volumes), np.ones(len(volumes)), None, "", 0, "")
            for name in names
        }

    monkeypatch.setattr(model_randomisation.scan_maps, "of_scan", edges)
    monkeypatch.setattr(model_randomisation.lrp, "explain_each", explained)
    table = model_randomisation.checks(
        model, Three(), [0], ["edges"], epsilon=1e-3, seed=0, threads=1
    )[0].set_index("check")
    assert table.loc["moved by one voxel: rank", "value"] == pytest.approx(1)
    assert table.loc["randomised: SSIM", "value"] == pytest.approx(1), (
        "caught: it does not depend on the weights"
    )
    assert table.loc["conservation error without biases", "value"] > 1
