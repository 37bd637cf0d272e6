"""A scan of which one box changed: the output is that of the whole computation."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from support.networks import SMALL, with_weights

from msxai.lrp import gradients, graph, occlusion

SHAPE = (44, 47, 38)


@pytest.fixture(scope="module")
def plan():
    """Two fused layers with an ELU between, a mean behind them, and parts of the grid that the poolings drop."""
    model = keras.Sequential(
        [
            keras.Input((*SHAPE, 1)),
            layers.Conv3D(3, 3),
            layers.ELU(),
            layers.MaxPooling3D(3),
            layers.Conv3D(2, 3, activation="elu"),
            layers.MaxPooling3D(3),
            layers.GlobalAveragePooling3D(),
            layers.Dense(2),
        ]
    )
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.4, value.shape) for value in model.get_weights()])
    found = graph.read(model)
    assert len(found.fused) == 2
    return found


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_the_output_is_that_of_the_whole(plan, seed):
    rng = np.random.default_rng(seed)
    before = rng.normal(size=(1, *SHAPE, 1)).astype("float32")
    starts = [int(rng.integers(0, length)) for length in SHAPE]
    box = [
        (start, int(rng.integers(start + 1, length + 1)))
        for start, length in zip(starts, SHAPE, strict=True)
    ]
    after = before.copy()
    inside = (0, *(slice(*one) for one in box))
    after[inside] = rng.normal(size=after[inside].shape)
    values = graph.forward(plan, before, plan.fused)[0]
    kept = [np.array(one) if one is not None else None for one in values]
    expected = np.array(graph.forward(plan, after, plan.fused)[0][-1])
    np.testing.assert_allclose(
        occlusion.output(plan, values, after, box), expected, rtol=1e-4, atol=1e-5
    )
    assert all(
        (one == np.array(other)).all()
        for one, other in zip(kept, values, strict=True)
        if one is not None
    ), "nothing is written"


def test_what_no_cell_sees_changes_nothing(plan):
    """38 voxels: 12 cells of the first pooling, of which the second drops the last; it alone sees voxel 37."""
    before = np.random.default_rng(1).normal(size=(1, *SHAPE, 1)).astype("float32")
    after, values = before.copy(), graph.forward(plan, before, plan.fused)[0]
    after[:, :, :, -1] = 9
    found = occlusion.output(plan, values, after, [(0, 44), (0, 47), (37, 38)])
    np.testing.assert_allclose(found, np.array(values[-1]), rtol=1e-5)
    np.testing.assert_allclose(
        found, np.array(graph.forward(plan, after, plan.fused)[0][-1]), rtol=1e-5
    )


def test_occlusion_is_that_of_whole_passes(monkeypatch):
    model = with_weights(2, SMALL, seed=4)
    volume = np.random.default_rng(2).normal(size=(1, *SMALL, 1)).astype("float32")
    volume[:, :24] = 0
    fast = gradients.explain(model, volume, "occlusion", size=24).relevance
    monkeypatch.setattr(gradients, "_fused", lambda plan: {})
    slow = gradients.explain(model, volume, "occlusion", size=24).relevance
    np.testing.assert_allclose(fast, slow, atol=1e-5 * np.abs(slow).max())
    assert (fast[:, :24] == 0).all()
    assert np.abs(fast[:, 24:]).max() > 0
