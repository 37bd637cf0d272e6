"""A scan of which one box changed: the output is that of the whole computation."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from support.networks import SMALL, with_weights

from msxai import lrp
from msxai.lrp import graph, occlusion, reader

SHAPE = (26, 29, 20)


@pytest.fixture(scope="module")
def plan(one_thread):
    """Two fused layers with an ELU between, and a mean; the poolings drop part of the grid."""
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
    plan = reader.read(model)
    assert len(plan.fused) == 2
    return plan


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
    inside = (0, *(slice(start, stop) for start, stop in box))
    after[inside] = rng.normal(size=after[inside].shape)
    first = graph.forward(plan, before, plan.fused)
    copies = [None if value is None else np.array(value) for value in first.values]
    expected = graph.forward(plan, after, plan.fused).output
    np.testing.assert_allclose(
        occlusion.output_after_change(first, after[0], box), expected, rtol=1e-4, atol=1e-5
    )
    for copy, value in zip(copies, first.values, strict=True):
        if copy is not None:
            assert (copy == np.array(value)).all(), "nothing is written"


def test_what_no_cell_sees_changes_nothing(plan):
    """6 cells of the first pooling; the second drops the last, which alone sees voxel 19."""
    before = np.random.default_rng(1).normal(size=(1, *SHAPE, 1)).astype("float32")
    after = before.copy()
    after[:, :, :, -1] = 9
    first = graph.forward(plan, before, plan.fused)
    output = occlusion.output_after_change(first, after[0], [(0, 26), (0, 29), (19, 20)])
    np.testing.assert_allclose(output, first.output, rtol=1e-5)
    np.testing.assert_allclose(output, graph.forward(plan, after, plan.fused).output, rtol=1e-5)


def test_occlusion_is_that_of_whole_passes():
    model = with_weights(2, SMALL, seed=4)
    volume = np.random.default_rng(2).normal(size=(1, *SMALL, 1)).astype("float32")
    volume[:, :24] = 0
    cubes = lrp.Occlusion(size=24)
    whole = lrp.Computation(compiled=False)
    fast = lrp.explain(model, volume, cubes).relevance
    slow = lrp.explain(model, volume, cubes, computation=whole).relevance
    np.testing.assert_allclose(fast, slow, atol=1e-5 * np.abs(slow).max())
    assert (fast[:, :24] == 0).all()
    assert np.abs(fast[:, 24:]).max() > 0
