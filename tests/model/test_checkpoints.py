"""A training that is interrupted and goes on ends with the bits of one that is not."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import layers
from support.toy_training import SETTINGS, Toy

from msxai.model import checkpoints, training
from msxai.model.checkpoints import Checkpoint, State


def dropped_out():
    """A small network with dropout, whose generator has a state."""
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((4, 4, 4, 1)),
            layers.Flatten(),
            layers.Dense(5, activation="elu"),
            layers.Dropout(0.3, seed=4),
            layers.Dense(1),
        ]
    )


def kill_in(monkeypatch, epoch):
    """Kill the training in the middle of an epoch.

    Keras reads the batches once before the first epoch, so that the batches of an epoch have the
    next number.
    """
    read = training.Volumes.__getitem__

    def read_until(self, index):
        if self.augmentation != "none" and (self.epoch, index) == (epoch + 1, 1):
            raise RuntimeError("killed")
        return read(self, index)

    monkeypatch.setattr(training.Volumes, "__getitem__", read_until)


LONG = pytest.mark.long(reason="each variant trains a toy network four times, 4 s")
VARIANTS = {
    "plain": {},
    "mean weights": {"averaging": 0.9},
    "stops early": {"learning_rate": 0.3, "patience": 1, "epochs": 9},
    "decay": {"decay": 0.05, "augmentation": "strong"},
}


@pytest.mark.parametrize(
    "variant",
    [
        "mean weights",
        *(pytest.param(name, marks=LONG) for name in VARIANTS if name != "mean weights"),
    ],
)
def test_an_interrupted_training_ends_with_the_same_bits(variant, tmp_path, monkeypatch):
    settings = dataclasses.replace(SETTINGS, **VARIANTS[variant])
    whole = dropped_out()
    expected = training.fit(whole, Toy(), settings)
    if variant == "stops early":
        assert len(expected) < settings.epochs
    checkpoint = Checkpoint.of(tmp_path, {"seed": 1}, [])
    for epoch in (1, 2):
        if epoch == len(expected):
            break
        with monkeypatch.context() as patch, pytest.raises(Exception, match="killed"):
            kill_in(patch, epoch)
            training.fit(dropped_out(), Toy(), settings, checkpoint=checkpoint)
        assert checkpoint.read().epochs == epoch
    model = dropped_out()
    history = training.fit(model, Toy(), settings, checkpoint=checkpoint)
    assert history.equals(expected)
    for weights, own in zip(model.get_weights(), whole.get_weights(), strict=True):
        assert np.array_equal(weights, own)


@pytest.mark.long(reason="two trainings of a toy network, 2 s each")
@pytest.mark.parametrize("variant", ["mean weights", "stops early"])
def test_a_training_that_was_killed_after_its_last_epoch_does_not_train_again(variant, tmp_path):
    settings = dataclasses.replace(SETTINGS, **VARIANTS[variant])
    checkpoint = Checkpoint.of(tmp_path, {}, [])
    whole = dropped_out()
    expected = training.fit(whole, Toy(), settings, checkpoint=checkpoint)
    toy, model = Toy(), dropped_out()
    assert training.fit(model, toy, settings, checkpoint=checkpoint).equals(expected)
    assert not toy.read
    for weights, own in zip(model.get_weights(), whole.get_weights(), strict=True):
        assert np.array_equal(weights, own)


STATE = checkpoints.State(
    epochs=3,
    history={"loss": [0.7, 0.6, 0.5]},
    is_stopped=False,
    wait=1,
    best_loss=0.6,
    best_epoch=1,
    best_score=[0.8, -0.6],
    best_weights=[np.ones((2, 3), "float32")],
    variables=[np.ones((2, 3), "float32"), np.array([7], "uint32")],
    optimizer=[],
)


def test_a_state_of_another_training_is_not_used(tmp_path):
    source = tmp_path / "prepared.h5"
    source.write_bytes(b"scans")
    Checkpoint.of(tmp_path, {"seed": 1}, [source]).write(STATE)
    read = Checkpoint.of(tmp_path, {"seed": 1}, [source]).read()
    assert (read.epochs, read.history, read.best_score) == (3, STATE.history, [0.8, -0.6])
    assert read.variables[1].dtype == "uint32"
    assert np.array_equal(read.best_weights[0], STATE.best_weights[0])
    assert Checkpoint.of(tmp_path, {"seed": 2}, [source]).read() is None
    source.write_bytes(b"other scans")
    assert Checkpoint.of(tmp_path, {"seed": 1}, [source]).read() is None


def test_a_state_of_other_code_is_not_used(tmp_path, monkeypatch):
    first = Checkpoint.of(tmp_path, {}, [])
    monkeypatch.setattr(checkpoints, "_code", lambda: ["other"])
    assert Checkpoint.of(tmp_path, {}, []).identity != first.identity


@pytest.mark.parametrize("content", [b"", b"half of a file", b"PK\x03\x04"])
def test_a_damaged_state_is_not_used(tmp_path, content):
    checkpoint = Checkpoint.of(tmp_path, {}, [])
    checkpoint.path.write_bytes(content)
    assert checkpoint.read() is None


def test_a_state_with_other_fields_is_not_used(tmp_path):
    checkpoint = Checkpoint.of(tmp_path, {}, [])
    described = {"identity": checkpoint.identity, "counts": {}, "epochs": 3}
    np.savez(checkpoint.path, described=json.dumps(described))
    assert checkpoint.read() is None


def test_a_damaged_state_is_none(tmp_path):
    """One changed byte at the start or the end of the file."""
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", identity="a")
    values = [np.arange(3.0)]
    checkpoint.write(State(1, {"loss": [1.0]}, False, 0, 1.0, 0, [1.0], values, values, values))
    assert checkpoint.read().epochs == 1
    content = checkpoint.path.read_bytes()
    unread = 0
    for offset in (*range(200), *range(len(content) - 200, len(content))):
        damaged = bytearray(content)
        damaged[offset] ^= 0xFF
        checkpoint.path.write_bytes(damaged)
        unread += checkpoint.read() is None
    assert unread > 50
