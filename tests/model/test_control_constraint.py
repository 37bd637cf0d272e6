"""The positive relevance of controls: against automatic differentiation, and in training."""

import keras
import numpy as np
import pandas as pd
import pytest
from support.networks import SMALL, with_weights

from msxai.base.errors import ParameterError
from msxai.model import control_constraint, network, training

WIDTH = 2


class Toy:
    """Prepared arrays in memory."""

    name = "toy"

    def __init__(self, volumes, labels, parts):
        self.volumes = volumes
        self.table = pd.DataFrame({"label": pd.array(labels, "Int64"), "part": parts})

    def rows(self, part):
        return np.flatnonzero(self.table["part"] == part)

    def image(self, row):
        return self.volumes[row]


@pytest.fixture(scope="module")
def volumes():
    return np.random.default_rng(0).normal(size=(4, *SMALL, 1)).astype("float32")


@pytest.fixture
def fast(one_thread):
    return with_weights(WIDTH, SMALL, 0, fast=True)


def differentiated(weights, volumes):
    """Positive input x gradient at the first pooling, by TensorFlow's tape on the plain network."""
    import tensorflow as tf

    plain = network.build(WIDTH, SMALL, fast=False)
    for layer in plain.layers:
        if layer.weights:
            layer.set_weights(weights[layer.name])
    names = [layer.name for layer in plain.layers]
    first = names.index("pool1") + 1
    values = tf.constant(volumes)
    for layer in plain.layers[:first]:
        values = layer(values)
    pooled = values
    with tf.GradientTape() as tape:
        tape.watch(pooled)
        for layer in plain.layers[first:]:
            values = layer(values, training=False)
    products = pooled * tape.gradient(values, pooled)
    return np.maximum(products.numpy(), 0).sum(axis=(1, 2, 3, 4))


def test_it_is_what_automatic_differentiation_gives(fast, volumes):
    weights = {layer.name: layer.get_weights() for layer in fast.layers}
    expected = differentiated(weights, volumes)
    relevance = np.asarray(control_constraint.positive_relevance(fast, keras.ops.array(volumes)))
    assert expected.min() > 0
    np.testing.assert_allclose(relevance, expected, rtol=1e-4)


def test_only_controls_count_and_only_in_training(fast, volumes):
    model = control_constraint.constrained(fast, 0.5)
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
    labels = np.array([0, 1, 0, 1], "float32")[:, None]
    arrays = {"x": keras.ops.array(volumes), "y": labels, "y_pred": fast(volumes)}
    plain = float(model.compute_loss(**arrays, training=False))
    penalised = float(model.compute_loss(**arrays, training=True))
    relevance = np.asarray(control_constraint.positive_relevance(fast, arrays["x"]))
    assert penalised - plain == pytest.approx(0.5 * (relevance[0] + relevance[2]) / 4, rel=1e-4)


def test_steps_against_the_penalty_lower_the_relevance_of_controls(fast, volumes):
    """All are controls here; the other network takes the same steps by the cross-entropy alone."""
    labels = np.zeros((4, 1), "float32")
    after = {}
    for penalty in (0.0, 1.0):
        copy = with_weights(WIDTH, SMALL, 0, fast=True)
        model = control_constraint.constrained(copy, penalty)
        optimizer = keras.optimizers.Adam(1e-3)
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        model.compile(optimizer, loss, jit_compile=False, run_eagerly=True)
        for _ in range(3):
            model.train_on_batch(volumes, labels)
        relevance = control_constraint.positive_relevance(copy, keras.ops.array(volumes))
        after[penalty] = float(np.mean(relevance))
    before = control_constraint.positive_relevance(fast, keras.ops.array(volumes))
    assert after[1.0] < 0.9 * after[0.0]
    assert after[1.0] < float(np.mean(before))


@pytest.mark.long(reason="a training of the full network, 16 s")
def test_a_training_with_the_penalty_changes_the_network_that_it_was_given(one_thread, monkeypatch):
    """The constrained network shares its layers with the one that is stored afterwards."""
    volumes = np.random.default_rng(0).normal(size=(8, *SMALL)).astype("float32")
    toy = Toy(volumes, labels=[0, 1] * 4, parts=["training"] * 4 + ["validation"] * 4)
    settings = training.Settings(
        learning_rate=1e-2,
        decay=0.0,
        batch_size=4,
        epochs=1,
        patience=1,
        seed=0,
        augmentation="none",
        control_penalty=0.5,
    )
    penalties = []
    constrained = control_constraint.constrained

    def recorded(model, penalty):
        penalties.append(penalty)
        return constrained(model, penalty)

    monkeypatch.setattr(control_constraint, "constrained", recorded)
    model = with_weights(1, SMALL, 0, fast=True)
    before = network.weights(model)
    history = training.fit(model, toy, settings)
    assert penalties == [0.5]
    assert len(history) == 1
    for name, values in network.weights(model).items():
        assert not np.array_equal(values, before[name]), name


def test_another_head_than_the_papers_is_refused():
    model = network.build(WIDTH, fast=True, head="everywhere")
    with pytest.raises(ParameterError, match="control_penalty"):
        control_constraint.constrained(model, 0.1)
