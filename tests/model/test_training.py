"""Training on toy volumes: what is read, in which order, which weights are kept."""

from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from support.toy_training import SETTINGS, Toy, toy_model

from msxai.base import statistics
from msxai.base.errors import CohortError, ParameterError
from msxai.model import checkpoints, network, training
from msxai.model.acquisition import rescanned
from msxai.model.augmentation import augment


def test_batches_hold_every_scan_once_an_epoch_in_a_new_order():
    toy = Toy()
    batches = training.Volumes(toy, toy.rows("training"), 5, seed=0)
    orders = []
    for _ in range(2):
        labels = np.concatenate([batches[index][1][:, 0] for index in range(len(batches))])
        np.testing.assert_array_equal(labels, toy.table["label"].iloc[batches.order])
        orders.append(list(batches.order))
        batches.on_epoch_end()
    assert sorted(orders[0]) == sorted(orders[1]) == list(toy.rows("training"))
    assert orders[0] != orders[1]


def test_keras_reads_each_epoch_in_the_order_of_that_epoch():
    """Prefetching must not reach into the next epoch's order: the seed decides, epoch by epoch."""
    toy = Toy()
    training.fit(toy_model(), toy, replace(SETTINGS, augmentation="none", epochs=3, batch_size=3))
    rows = toy.rows("training")
    read = [row for row in toy.read if row in set(rows)]
    epochs = (1, 2, 3)  # Keras ends an epoch once while it builds the model, before the first one
    expected = [
        row for epoch in epochs for row in np.random.default_rng([1, epoch]).permutation(rows)
    ]
    assert read[-len(expected) :] == expected


def test_equal_seeds_train_equal_weights_and_another_seed_does_not():
    trained = []
    for seed in (1, 1, 2):
        model, toy = toy_model(), Toy()
        history = training.fit(model, toy, replace(SETTINGS, seed=seed))
        trained.append((model.get_weights()[0], history))
    np.testing.assert_array_equal(trained[0][0], trained[1][0])
    pd.testing.assert_frame_equal(trained[0][1], trained[1][1])
    assert not np.array_equal(trained[0][0], trained[2][0])


def test_mean_weights_are_the_running_mean_of_each_steps_weights():
    """Against a mean by hand; the last epoch is the best one, because the loss falls."""
    toy = Toy()
    model = toy_model()
    steps = [model.get_weights()]
    record = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: steps.append(model.get_weights())
    )
    original_fit = model.fit
    model.fit = lambda *args, callbacks, **options: original_fit(
        *args, callbacks=[*callbacks, record], **options
    )
    history = training.fit(model, toy, replace(SETTINGS, averaging=0.8, augmentation="none"))
    n_steps = (len(steps) - 1) // len(history)
    last = (int(np.flatnonzero(history["best"])[0]) + 1) * n_steps
    mean = steps[1][0]  # Keras starts with the weights after the first step
    for weights in steps[2 : last + 1]:
        mean = 0.8 * mean + 0.2 * weights[0]
    np.testing.assert_allclose(model.get_weights()[0], mean, rtol=1e-4, atol=1e-6)
    assert np.abs(steps[last][0] - mean).max() > 1e-3


def test_the_holdout_is_never_read():
    toy = Toy()
    toy.forbidden = {"holdout"}
    training.fit(toy_model(), toy, SETTINGS)
    toy.forbidden = {"validation"}
    with pytest.raises(Exception, match="must not be read"):
        training.fit(toy_model(), toy, SETTINGS)


def test_permuting_holdout_labels_changes_nothing():
    weights, histories = [], []
    for turn in (False, True):
        toy, model = Toy(), toy_model()
        if turn:
            toy.table.loc[toy.rows("holdout"), "label"] = (
                1 - toy.table.loc[toy.rows("holdout"), "label"]
            )
        histories.append(training.fit(model, toy, SETTINGS))
        weights.append(model.get_weights())
    for weight, permuted_weight in zip(*weights, strict=True):
        np.testing.assert_array_equal(weight, permuted_weight)
    pd.testing.assert_frame_equal(*histories)


def test_the_learning_rate_follows_the_papers_decay():
    history = training.fit(toy_model(), Toy(), SETTINGS)
    np.testing.assert_allclose(
        history["learning_rate"], [5e-3 / (1 + 2e-3 * 3 * epoch) for epoch in range(1, 6)]
    )
    rate = keras.optimizers.schedules.InverseTimeDecay(5e-4, 1, 2e-3)
    assert float(rate(1000)) == pytest.approx(5e-4 / 3)


def test_the_best_epoch_wins_by_accuracy_then_loss():
    model, best = toy_model(), training.BestWeights()
    best.set_model(model)
    for epoch, (accuracy, loss) in enumerate(
        [(0.6, 0.5), (0.8, 0.9), (0.8, 0.7), (0.8, 0.8), (0.7, 0.1)]
    ):
        model.set_weights([np.full_like(value, epoch) for value in model.get_weights()])
        best.on_epoch_end(epoch, {"val_accuracy": accuracy, "val_loss": loss})
    best.on_train_end()
    assert best.epoch == 2
    assert set(np.concatenate([value.ravel() for value in model.get_weights()])) == {2}


def test_training_learns_what_can_be_learnt():
    history = training.fit(toy_model(), Toy(80, 6), replace(SETTINGS, epochs=30, patience=30))
    assert history["best"].sum() == 1
    assert history["val_accuracy"].max() > 0.9


def test_a_part_with_one_group_only_is_refused():
    toy = Toy()
    toy.table.loc[toy.table["part"] == "validation", "label"] = 1
    with pytest.raises(
        CohortError, match=r"toy, validation part: found 6 scans with the labels \[1\]"
    ):
        training.fit(toy_model(), toy, SETTINGS)


def test_the_refusal_says_how_many_scans_lack_a_mask():
    toy = Toy()
    no_mask = (toy.table["part"] == "validation") & (toy.table["label"] == 0)
    toy.unfilled = no_mask.to_numpy()
    toy.table.loc[no_mask, "part"] = None
    with pytest.raises(CohortError, match=r"labels \[1\], without the 3 that have no lesion mask"):
        training.fit(toy_model(), toy, SETTINGS)


def test_predictions_keep_the_order_of_rows():
    toy, model = Toy(), toy_model()
    rows = [5, 3, 8, 1, 0]
    expected = model(toy.images[rows][..., None], training=False)[:, 0]
    np.testing.assert_allclose(training.predict(model, toy, rows, 2), expected, rtol=1e-6)


def test_a_trial_is_saved_with_its_record_last(tmp_path):
    model, toy = toy_model(), Toy()
    history = training.fit(model, toy, SETTINGS)
    source = tmp_path / "prepared.h5"
    source.write_bytes(b"x")
    seen = pd.DataFrame({"participant_id": ["sub-01"]})
    (tmp_path / "trial-0").mkdir()
    (tmp_path / "trial-0" / checkpoints.NAME).write_text("the state of the last epoch")
    record = training.save(tmp_path / "trial-0", model, history, {"width": 2}, [source], seen)
    assert sorted(path.name for path in (tmp_path / "trial-0").iterdir()) == [
        "history.tsv",
        "provenance.json",
        "subjects.tsv",
        "weights.npz",
    ]
    best = history[history["best"]].iloc[0]
    assert record["val_accuracy"] == best["val_accuracy"]
    assert record["best_epoch"] == best["epoch"]
    assert "prepared.h5" in record["inputs"]
    with np.load(tmp_path / "trial-0" / "weights.npz") as file:
        assert set(file) == set(network.weights(model))


@pytest.mark.long(reason="two trainings, 5 s each")
@pytest.mark.parametrize("permuted", [True, False])
def test_permuted_labels_leave_nothing_to_learn(permuted):
    """Labels permuted over the whole cohort before the split: the AUC over 200 test scans holds .5
    in its 99 % interval; unpermuted it does not. benchmarks/permutation.py does the same with
    simulated scans and the real network.
    """
    toy, model = Toy(300, 200), toy_model()
    if permuted:
        toy.table["label"] = pd.array(
            np.random.default_rng(3).permutation(toy.table["label"]), "Int64"
        )
    training.fit(model, toy, replace(SETTINGS, epochs=10))
    rows = toy.rows("holdout")
    low, high = statistics.auc_interval(
        toy.table["label"].to_numpy(int)[rows], training.predict(model, toy, rows), level=0.99
    )
    assert (low <= 0.5 <= high) == permuted


def test_permuted_labels_stay_within_the_parts_and_with_the_subject():
    toy = Toy(count=60)
    toy.table["participant_id"] = [f"sub-{row // 2:02}" for row in range(60)]  # two visits each
    toy.table["label"] = pd.array(np.arange(60) // 2 % 2, "Int64")
    toy.table.loc[[4, 5, 59], "label"] = pd.NA
    before = toy.table.copy()
    training.permute_labels(toy, seed=3)
    labelled = before["part"].ne("holdout") & before["label"].notna()
    pd.testing.assert_frame_equal(toy.table[~labelled], before[~labelled])
    assert (toy.table.groupby("participant_id")["label"].nunique() <= 1).all()
    assert toy.table["label"].dtype == "Int64"
    assert toy.table.loc[labelled, "label"].sum() == before.loc[labelled, "label"].sum()
    agreement = (toy.table.loc[labelled, "label"] == before.loc[labelled, "label"]).mean()
    assert 0.2 < agreement < 0.8
    again = Toy(count=60)
    again.table = before.copy()
    training.permute_labels(again, seed=3)
    pd.testing.assert_frame_equal(again.table, toy.table)


def test_each_scan_is_shown_by_another_scanner_and_then_augmented():
    toy = Toy()
    batches = training.Volumes(toy, [2], 1, seed=5, augmentation="paper", realism="randomised")
    shown = batches[0][0][0, ..., 0]
    rng = np.random.default_rng([5, 0, 2])
    expected = augment(rescanned(toy.image(2), rng), rng, "paper")
    np.testing.assert_array_equal(shown, expected)
    plain = training.Volumes(toy, [2], 1, seed=5, augmentation="paper")[0][0][0, ..., 0]
    assert not np.array_equal(shown, plain)


@pytest.mark.parametrize("name", ["augmentation", "realism"])
def test_unknown_names_are_refused_before_anything_is_read(name):
    with pytest.raises(ParameterError, match=name):
        replace(SETTINGS, **{name: "reel"})
