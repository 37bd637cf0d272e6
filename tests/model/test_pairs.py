"""Training in pairs on toy volumes: the batches, the loss against numpy, what a network learns."""

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from msxai.base.errors import CohortError, ParameterError
from msxai.data import images
from msxai.data.synthetic import phantom
from msxai.model import pairs, training

SHAPE = (4, 4, 4)


class Toy:
    """Prepared arrays in memory; `spot` is added to patients in one of the corners (the lesion),
    the rest is each subject's own.
    """

    def __init__(self, spot=2.0, count=36, path="toy"):
        rng = np.random.default_rng(0)
        labels, parts = (
            np.arange(count) % 2,
            np.repeat(["training", "validation", "holdout"], [count - 18, 8, 10]),
        )
        names = [f"sub-{row:02}" for row in range(count)]
        columns = {
            "participant_id": names,
            "session_id": "",
            "label": pd.array(labels, "Int64"),
            "part": parts,
        }
        self.name, self.path, self.table, self.parameters = "toy", path, pd.DataFrame(columns), {}
        self.unfilled = np.zeros(count, bool)
        self.images = rng.normal(size=(count, *SHAPE)).astype("float32")
        self.places = [tuple(rng.choice([0, 3], 3)) for _ in range(count)]
        for row in np.flatnonzero(labels):
            self.images[(row, *self.places[row])] += spot

    def rows(self, part):
        return np.flatnonzero(self.table["part"] == part)

    def image(self, row):
        return self.images[row]


@pytest.fixture
def toys():
    return Toy(), Toy(spot=0.0, path="filled")


def test_a_patient_stands_beside_himself_and_differs_by_the_lesion_alone(toys):
    untouched, filled = toys
    rows = untouched.rows("training")
    batches, seen = pairs.Pairs(untouched, filled, rows, seed=3), []
    assert len(batches) == 9
    for epoch in range(2):
        for index in range(len(batches)):
            volumes, labels = batches[index]
            assert volumes.shape == (4, *SHAPE, 1)
            assert labels[:, 0].tolist() == [1, 0, 1, 0]
            row = next(row for row in rows if (untouched.images[row] == volumes[0, ..., 0]).all())
            difference = volumes[0, ..., 0] - volumes[1, ..., 0]
            assert difference[untouched.places[row]] == pytest.approx(2)
            assert np.count_nonzero(difference) == 1
            third = next(one for one in rows if (untouched.images[one] == volumes[2, ..., 0]).all())
            fourth = next(
                one for one in rows if (untouched.images[one] == volumes[3, ..., 0]).all()
            )
            assert [untouched.table["label"][one] for one in (row, third, fourth)] == [1, 1, 0]
            seen.append((epoch, row, third))
        batches.on_epoch_end()
    for place in (1, 2):  # every patient once in each place, in another order each epoch
        orders = [[one[place] for one in seen if one[0] == epoch] for epoch in (0, 1)]
        assert (
            sorted(orders[0])
            == sorted(orders[1])
            == [row for row in rows if untouched.table["label"][row] == 1]
        )
        assert orders[0] != orders[1]


def test_half_of_the_controls_are_filled_too(toys):
    untouched, filled = toys
    filled.images[untouched.table["label"] == 0] += 100  # a mark
    batches = pairs.Pairs(untouched, filled, untouched.rows("training"), seed=0)
    marked = []
    for _ in range(40):
        marked += [batches[index][0][3].mean() > 50 for index in range(len(batches))]
        batches.on_epoch_end()
    assert np.mean(marked) == pytest.approx(0.5, abs=0.05)


def test_a_pair_is_augmented_alike(toys):
    untouched, filled = toys
    batches, moved = (
        pairs.Pairs(untouched, filled, untouched.rows("training"), seed=0, augmentation="paper"),
        0,
    )
    for index in range(len(batches)):
        first, second = batches[index][0][:2, ..., 0]
        row = batches.order[index, 0] // 2
        assert np.count_nonzero(first - second) <= 1  # the lesion may be shifted out
        moved += not np.array_equal(first, untouched.images[row])
    assert moved > 5


def test_the_loss_is_cross_entropy_and_the_logistic_loss_of_the_pair(rng):
    logits, labels = (
        rng.normal(size=(4, 1)).astype("float32"),
        np.array([[1], [0], [1], [0]], "float32"),
    )
    z, y = logits[:, 0].astype(float), labels[:, 0]
    entropy = np.mean(np.log1p(np.exp(-z)) * y + np.log1p(np.exp(z)) * (1 - y))
    assert float(pairs.loss(labels, logits)) == pytest.approx(
        np.log1p(np.exp(z[1] - z[0])) + entropy / 2, rel=1e-5
    )
    swapped = logits[[1, 0, 2, 3]]
    assert (float(pairs.loss(labels, swapped)) > float(pairs.loss(labels, logits))) == (z[0] > z[1])
    assert np.isfinite(float(pairs.loss(labels[:1], logits[:1])))  # the rest of a validation part


@pytest.mark.long(reason="a training in pairs, 9 s")
def test_the_network_learns_the_lesion_and_the_history_is_the_cross_entropy(toys):
    untouched, filled = Toy(count=118), Toy(spot=0.0, count=118, path="filled")
    settings = training.Settings(
        learning_rate=5e-2,
        decay=0.0,
        batch_size=6,
        epochs=12,
        patience=12,
        seed=1,
        augmentation="none",
    )
    weights = {}
    for name, other in {"labels": None, "pairs": filled}.items():
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((*SHAPE, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(1, kernel_initializer="zeros"),
            ]
        )
        history = training.fit(
            model, untouched, settings, **pairs.options(untouched, other, 1, "none")
        )
        weights[name] = np.abs(model.get_weights()[0].reshape(SHAPE))
        assert set(history) == {
            "epoch",
            "accuracy",
            "loss",
            "val_accuracy",
            "val_loss",
            "learning_rate",
            "best",
        }
        rows = untouched.rows("validation")
        logits = training.predict(model, untouched, rows)
        labels = untouched.table["label"].to_numpy(int)[rows]
        best = history[history["best"]].iloc[0]
        assert best["val_loss"] == pytest.approx(
            log_loss(labels, 1 / (1 + np.exp(-logits.astype(float)))), rel=1e-4
        )
    corners = np.zeros(SHAPE, bool)
    corners[np.ix_([0, 3], [0, 3], [0, 3])] = True
    aucs = {
        name: roc_auc_score(corners.ravel(), kernel.ravel()) for name, kernel in weights.items()
    }
    assert aucs["pairs"] > 0.95
    assert aucs["pairs"] > aucs["labels"] + 0.05  # where lesions may lie: labels alone do not say


def test_scans_that_could_not_be_filled_are_in_no_pair(toys):
    untouched, filled = toys
    without_mask = 3
    filled.table.loc[without_mask, "part"] = None
    batches = pairs.options(untouched, filled, 0, "none")["batches"]
    assert without_mask in untouched.rows("training")
    assert without_mask not in batches.patients
    assert len(batches) == 8
    assert not (batches.order // 2 == without_mask).any()


class PatientsAlone(Toy):
    """The toy's subjects, none a control; every second has a lesion, all at the same place."""

    normalisation = "zscore"

    def __init__(self, spot=2.0, path="toy"):
        super().__init__(spot=0.0, path=path)
        self.places = [(0, 0, 0)] * len(self.table)
        self.images[1::2, 0, 0, 0] += spot
        self.table["label"] = pd.array([1] * len(self.table), "Int64")
        self.parameters = {"filling": "noise"} if path == "filled" else {}
        self.has_lesion = np.arange(len(self.table)) % 2 == 1

    def lesions(self, row):
        mask = np.zeros(SHAPE, bool)
        mask[self.places[row]] = self.has_lesion[row]
        return mask


@pytest.fixture
def patients(monkeypatch):
    monkeypatch.setattr(pairs.Beside, "_sham", lambda self, row: self.prepared.image(row) + 100)
    return PatientsAlone(), PatientsAlone(spot=0.0, path="filled")


def test_without_controls_each_patient_stands_beside_himself_alone(patients):
    untouched, filled = patients
    untouched.has_lesion[3] = False
    in_pairs = pairs.options(untouched, filled, 1, "none")
    batches, validation = in_pairs["batches"], in_pairs["validation"]
    assert 3 not in batches.rows
    assert len(batches.rows) == 8
    n_sham = 0
    for index in range(len(batches)):
        volumes, labels = batches[index]
        assert labels[:, 0].tolist() == [1, 0] * (len(volumes) // 2)
        for number, row in enumerate(batches.batch_rows(index)):
            shown, without = volumes[2 * number, ..., 0], volumes[2 * number + 1, ..., 0]
            np.testing.assert_array_equal(without, filled.image(row))
            is_sham = shown.mean() > 50
            n_sham += is_sham
            np.testing.assert_allclose(shown, untouched.image(row) + 100 * is_sham, rtol=1e-5)
    assert 1 <= n_sham <= 7
    for index in range(len(validation)):
        volumes, _ = validation[index]
        assert volumes[::2].mean() > 50  # the fill alone does not distinguish them
    assert in_pairs["loss"] is pairs.tasks.lesion_loss


def test_a_training_without_controls_learns_the_lesion(patients, monkeypatch):
    monkeypatch.setattr(pairs.Beside, "_sham", lambda self, row: self.prepared.image(row))
    _, filled = patients
    untouched = PatientsAlone(spot=6.0)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((*SHAPE, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(1))
    settings = training.Settings(0.05, 0, 4, 12, 12, 0, "none")
    in_pairs = pairs.options(untouched, filled, 0, "none")
    training.fit(model, untouched, settings, **in_pairs)
    rows = [row for row in untouched.rows("holdout") if untouched.has_lesion[row]]
    logits = {}
    for name, scans in (("with", untouched), ("without", filled)):
        batch = np.stack([scans.image(row) for row in rows])[..., None]
        logits[name] = np.asarray(model(batch))[:, 0]
    assert (logits["with"] > logits["without"]).all()
    with pytest.raises(CohortError, match=r"scans with the labels \[1\]"):
        training.fit(model, untouched, settings)


def test_patients_without_a_lesion_cannot_be_trained_on_alone(patients):
    untouched, filled = patients
    untouched.has_lesion[untouched.rows("validation")] = False
    with pytest.raises(CohortError, match="validation part: found no scan with a lesion"):
        pairs.options(untouched, filled, 0, "none")


def test_what_is_no_pair_is_refused(toys):
    untouched, filled = toys
    assert pairs.options(untouched, None, 0, "paper") == {}
    with pytest.raises(ParameterError, match="parameters filling and counterfactual_pairs"):
        pairs.Pairs(untouched, untouched, untouched.rows("training"), 0)
    constant = Toy(path="constant")
    constant.parameters = {"filling": "constant"}
    with pytest.raises(ParameterError, match="scans filled by constant"):
        pairs.Pairs(constant, filled, untouched.rows("training"), 0)
    filled.table = filled.table.iloc[::-1].reset_index(drop=True)
    with pytest.raises(CohortError, match="same scans in the same order"):
        pairs.Pairs(untouched, filled, untouched.rows("training"), 0)
    with pytest.raises(CohortError, match="9 patients and 0 controls"):
        pairs.Pairs(
            untouched,
            Toy(path="other"),
            [row for row in untouched.rows("training") if untouched.table["label"][row]],
            0,
        )


class OnePatient:
    """A simulated patient on the model's grid."""

    name, normalisation, parameters, path = "one", "zscore", {}, "one"
    affine = images.AFFINE

    def __init__(self, subject):
        self.subject = subject
        names = {"participant_id": ["sub-1"], "session_id": [""]}
        self.table = pd.DataFrame({**names, "label": pd.array([1], "Int64")})

    def image(self, row):
        return images.normalise(self.subject.image, self.subject.brain)

    def brain(self, row):
        return self.subject.brain

    def lesions(self, row):
        return self.subject.lesions


@pytest.mark.long(reason="a patient is simulated, and sham sites are filled, 8 s")
def test_sham_sites_are_other_white_matter_and_lesions_stay():
    untouched = OnePatient(phantom.simulate("ms", "MS", 3, 4, volume=8000))
    filled = OnePatient(untouched.subject)
    filled.path = "filled"
    batches = pairs.Beside(untouched, filled, [0])  # without a seed: sham sites are filled
    with_lesions, _ = batches[0][0][..., 0]
    scan, brain = untouched.image(0), untouched.brain(0)
    lesions = untouched.lesions(0)
    slope, start = np.polyfit(scan[brain & lesions], with_lesions[brain & lesions], 1)
    assert slope == pytest.approx(1, abs=0.05)  # normalised once more
    changed = np.abs(with_lesions - (slope * scan + start)) > 0.1
    assert 100 < (changed & brain).sum() < 3 * lesions.sum()
    assert not (changed & lesions & brain).any()
