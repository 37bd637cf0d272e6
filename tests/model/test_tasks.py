"""What a network is pre-trained for: batches, targets and losses of each task."""

import keras
import numpy as np
import pytest

from msxai.base.errors import ParameterError
from msxai.model import tasks, training

SHAPE = (4, 5, 6)
SETTINGS = training.Settings(
    learning_rate=1e-2,
    decay=0.0,
    batch_size=4,
    epochs=6,
    patience=6,
    seed=1,
    augmentation="none",
)


class ToyPairs:
    """Pairs in memory: a brain's noise, and lesions of 1 in the corner of the scan with lesions."""

    name = "toy-pairs"

    def __init__(self, count=20):
        rng = np.random.default_rng(0)
        self.noise = rng.normal(size=(count, *SHAPE)).astype("float32")
        self.volumes = np.geomspace(100, 20000, count)
        self.sha256 = [f"{index:064x}" for index in range(count)]

    def __len__(self):
        return len(self.volumes)

    def scan(self, pair, which):
        scan = self.noise[pair].copy()
        if which == tasks.WITH:
            scan[:2, :2, :2] += np.log10(self.volumes[pair])
        return scan


def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((*SHAPE, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    )


def test_a_batch_has_each_brain_with_its_lesions_and_then_without():
    pairs = ToyPairs()
    batches = tasks.PairBatches(pairs, range(10), 4, seed=3)
    rows = []
    for index in range(len(batches)):
        scans, labels = batches[index]
        np.testing.assert_array_equal(labels[:, 0], [1, 0, 1, 0])
        for brain, row in enumerate(batches.order[2 * index : 2 * index + 2]):
            np.testing.assert_array_equal(scans[2 * brain, ..., 0], pairs.scan(row, 0))
            np.testing.assert_array_equal(scans[2 * brain + 1, ..., 0], pairs.scan(row, 1))
            rows.append(row)
    assert sorted(rows) == list(range(10))
    order = list(batches.order)
    batches.on_epoch_end()
    assert list(batches.order) != order


@pytest.mark.parametrize(
    "variation",
    [{"augmentation": "paper"}, {"realism": "randomised"}],
    ids=lambda value: str(value),
)
def test_a_pair_is_varied_alike_and_each_epoch_anew(variation):
    pairs = ToyPairs()
    pairs.volumes[:] = 1  # lesions add log10(1) = 0: both scans are equal
    batches = tasks.PairBatches(pairs, range(4), 4, seed=3, **variation)
    scans, _ = batches[0]
    np.testing.assert_array_equal(scans[0], scans[1])
    row = batches.order[0]
    versions = set()
    for _ in range(5):
        index, brain = divmod(list(batches.order).index(row), 2)
        versions.add(batches[index][0][2 * brain].tobytes())
        batches.on_epoch_end()
    assert len(versions) > 1


def test_the_target_of_the_volume_is_its_logarithm():
    batches = tasks.PairBatches(ToyPairs(), [0, 19], 4, task="volume")
    _, targets = batches[0]
    expected = np.log([0.1 + 0.1, 0.1, 20 + 0.1, 0.1])
    np.testing.assert_allclose(targets[:, 0], expected, rtol=1e-6)


def test_the_loss_of_lesions_by_hand():
    labels = np.array([[1], [0], [1], [0]], "float32")
    logits = np.array([[2.0], [-1.0], [0.5], [1.5]], "float32")
    pair = np.mean(np.log1p(np.exp([-3.0, 1.0])))
    entropy = np.mean(np.log1p(np.exp([-2.0, -1.0, -0.5, 1.5])))
    loss = tasks.lesion_loss(labels, logits)
    assert float(loss) == pytest.approx(pair + 0.5 * entropy, rel=1e-6)


@pytest.mark.parametrize(
    "task",
    [
        "lesions",
        pytest.param("volume", marks=pytest.mark.long(reason="another training, 5 s")),
    ],
)
def test_training_on_pairs_learns_the_task(task):
    source = tasks.of_pairs(ToyPairs(200), task)
    history = training.fit_batches(
        model(),
        source.batches("training", SETTINGS),
        source.batches("validation", SETTINGS),
        SETTINGS,
        loss=source.loss,
        has_labels=source.has_labels,
    )
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert history["val_accuracy"].max() > 0.8
    assert history["best"].sum() == 1


def test_what_was_seen_is_every_brain_once_in_its_part():
    source = tasks.of_pairs(ToyPairs(), "lesions")
    assert list(source.scans.loc["training"]) == [34, 17]
    assert list(source.scans.loc["validation"]) == [6, 3]
    assert (source.seen["dataset"] == "toy-pairs").all()
    assert source.seen["participant_id"].tolist() == [f"sub-{n:04}" for n in range(1, 21)]
    assert source.seen["part"].tolist() == ["training"] * 17 + ["validation"] * 3
    assert source.seen["source_sha256"].is_unique


def test_simulated_scans_are_z_scored_and_no_other_normalisation_is_recorded_with_them():
    tasks.check("diagnosis", "max")
    tasks.check("lesions", "zscore")
    for wrong in (("lesions", "max"), ("volume", "voxelwise"), ("lesion", "zscore")):
        with pytest.raises(ParameterError, match="expected"):
            tasks.check(*wrong)


@pytest.mark.parametrize("wrong", [{"batch_size": 3}, {"batch_size": 4, "task": "diagnosis"}])
def test_odd_batches_and_other_tasks_are_refused(wrong):
    with pytest.raises(ParameterError, match="expected"):
        tasks.PairBatches(ToyPairs(), range(4), **wrong)
