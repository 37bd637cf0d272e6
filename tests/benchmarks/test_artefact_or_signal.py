"""Artefact or signal: GradCAM against a loop, SmoothGrad's noise, and the table by hand."""

import keras
import numpy as np
import pandas as pd
import pytest
from support.networks import with_weights
from support.scripts import script

from msxai import lrp
from msxai.base import provenance
from msxai.base.results import Results

proof = script("artefact_or_signal")
SHAPE = (96, 114, 96)


@pytest.fixture(scope="module")
def model(one_thread):
    return with_weights(2, SHAPE, 3)


@pytest.fixture(scope="module")
def scan():
    return np.random.default_rng(4).normal(size=SHAPE).astype("float32")


def test_grad_cam_is_the_weighted_sum_of_the_last_maps(model, scan):
    """The gradient by finite differences on the layers after the fourth convolution."""
    values = scan[None, ..., None]
    for layer in model.layers:
        values = layer(values, training=False)
        if layer.name == proof.LAST:
            break
    maps = np.asarray(values)[0].astype(float)

    def logit(maps):
        after = maps[None].astype("float32")
        passed = False
        for layer in model.layers:
            if passed:
                after = layer(after, training=False)
            passed = passed or layer.name == proof.LAST
        return float(np.asarray(after)[0, 0])

    step = 1e-2
    weights = []
    for channel in range(maps.shape[-1]):
        slopes = np.zeros(maps.shape[:3])
        for place in np.ndindex(slopes.shape):
            raised, lowered = maps.copy(), maps.copy()
            raised[(*place, channel)] += step
            lowered[(*place, channel)] -= step
            slopes[place] = (logit(raised) - logit(lowered)) / (2 * step)
        weights.append(slopes.mean())
    cells = np.maximum(maps @ weights, 0)
    heatmap = proof.grad_cam(model, scan)
    centre = proof.FIRST_CELL
    for cell in [(0, 0, 0), (2, 3, 1), (4, 6, 4)]:
        voxel = tuple(centre + proof.CELL * index for index in cell)
        assert heatmap[voxel] == pytest.approx(cells[cell], rel=0.02, abs=0.02 * cells.max())


def test_a_cell_lies_where_its_receptive_field_has_its_centre(one_thread):
    """The gradient of one cell of the fourth convolution: where it differs from 0."""
    import tensorflow as tf

    model = with_weights(1, SHAPE, 5)
    inner = keras.Model(model.inputs, model.get_layer("conv4").output)
    sides = []
    for seed in range(12):  # max pooling passes the gradient to its winners alone
        scan = tf.constant(np.random.default_rng(seed).normal(size=(1, *SHAPE, 1)), "float32")
        with tf.GradientTape() as tape:
            tape.watch(scan)
            value = inner(scan)[0, 1, 2, 1, 0]
        used = np.argwhere(tape.gradient(value, scan).numpy()[0, ..., 0])
        sides.append([used.min(axis=0), used.max(axis=0)])
    middle = (np.min(sides, axis=0)[0] + np.max(sides, axis=0)[1]) / 2
    expected = proof.FIRST_CELL + proof.CELL * np.array([1, 2, 1])
    assert np.abs(middle - expected).max() <= 1


def test_the_noise_is_that_of_smoothgrad(model, scan):
    copies = proof.noisy(scan, 0.1, 3, seed=7)
    ours = proof.mean_map(model, copies, "gradient")
    method = lrp.SmoothGrad(noise=0.1, samples=3, seed=7)
    theirs = lrp.explain(model, scan[None, ..., None], method).relevance[0, ..., 0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6 * np.abs(theirs).max())


def test_integrated_gradients_from_the_filled_scan_add_up_to_the_fall_of_the_logit(model, scan):
    filled = scan.copy()
    filled[40:50, 40:50, 40:50] = 0
    heatmap = proof.from_filled(model, scan, filled)
    logits = np.asarray(model(np.stack([scan, filled])[..., None], training=False))[:, 0]
    assert heatmap.sum() == pytest.approx(logits[0] - logits[1], rel=0.2, abs=1e-4)
    assert not heatmap[:40].any()


def test_a_map_of_edges_follows_edges():
    rng = np.random.default_rng(0)
    edges = rng.normal(size=(20, 20, 20)) ** 2
    everywhere = np.ones(edges.shape, bool)
    assert proof.edge_correlation(-edges, edges, everywhere, 0) == pytest.approx(1)
    assert abs(proof.edge_correlation(rng.normal(size=edges.shape), edges, everywhere, 0)) < 0.05


def test_the_table_has_means_and_paired_differences():
    scores = []
    for row, (ours, theirs) in enumerate([(0.5, 0.1), (0.7, 0.4)]):
        for name, value in (("epsilon", ours), (proof.SMOOTHGRAD, theirs)):
            measures = dict.fromkeys(proof.MEASURES, value)
            scores.append({"network": "pretrained", "map": name, "row": row, **measures})
    table = proof.table_of(pd.DataFrame(scores)).set_index(["map", "measure"])
    row = table.loc[("epsilon", "auprc")]
    assert row["value"] == pytest.approx(0.6)
    assert row["value_minus_smoothgrad"] == pytest.approx(0.35)
    assert row["n"] == 2
    assert np.isnan(table.loc[(proof.SMOOTHGRAD, "auprc"), "value_minus_smoothgrad"])
    figure, source = proof.picture(table.reset_index())
    assert len(source) == 2
    assert len(figure.axes) >= 1


def test_scores_of_a_network_replace_its_earlier_ones_alone():
    def scores(name, value):
        return pd.DataFrame([{"network": name, "map": "epsilon", "row": 3, "auprc": value}])

    first = proof.with_scores(None, "pairs", scores("pairs", 0.1))
    second = proof.with_scores(first, "pretrained", scores("pretrained", 0.2))
    third = proof.with_scores(second, "pairs", scores("pairs", 0.3))
    assert third["network"].tolist() == ["pretrained", "pairs"]
    assert third["auprc"].tolist() == [0.2, 0.3]


def test_scores_of_other_weights_are_not_kept(tmp_path):
    where = Results(tmp_path)
    weights = {}
    for name in ("pretrained", "pairs"):
        path = tmp_path / "finetuning" / name / "trial-0" / "weights.npz"
        path.parent.mkdir(parents=True)
        path.write_bytes(name.encode())
        weights[name] = provenance.sha256(path)
    choices = {name: {"noise": 0.1, "kind": "gradient"} for name in weights}
    record = {"parameters": {"smoothgrad": choices}, "weights": weights}
    assert list(proof.same_networks(where, record)) == ["pretrained", "pairs"]
    path.write_bytes(b"trained anew")
    assert list(proof.same_networks(where, record)) == ["pretrained"]
