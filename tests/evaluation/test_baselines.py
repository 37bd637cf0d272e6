"""Baselines: selection without the holdout, inner products against all voxels, what is left out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import special
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC

from msxai.base.results import Results
from msxai.data import images
from msxai.data.prepared import Prepared
from msxai.evaluation import baselines, prediction
from msxai.model import network

N = 40
BASELINES = baselines.BASELINES


@pytest.fixture(scope="module", autouse=True)
def short_grids():
    """Every third value of each grid: fewer fits, and still something to select."""

    def shorter(baseline):
        return replace(baseline, grid={name: values[::3] for name, values in baseline.grid.items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            baselines, "BASELINES", {name: shorter(value) for name, value in BASELINES.items()}
        )
        patch.setattr(baselines, "_ON_FEATURES", shorter(baselines._ON_FEATURES))
        yield


class Toy:
    """Forty subjects, every second a patient: larger lesions, brighter scans, wider brains.

    Ages carry no information. All brains fit into the small grid.
    """

    name, synthetic, affine = "toy", True, images.AFFINE
    lesion_volumes = Prepared.lesion_volumes

    def __init__(self, seed=0, masks=True, covariates=True, shape=(40, 30, 30)):
        self.shape = shape
        rng = np.random.default_rng(seed)
        label = np.arange(N) % 2
        self.table = pd.DataFrame(
            {
                "participant_id": [f"sub-{number:02}" for number in range(N)],
                "session_id": "",
                "label": pd.array(label, "Int64"),
                "part": ["training"] * 24 + ["validation"] * 6 + ["holdout"] * 10,
                "age": rng.normal(50, 10, N) if covariates else np.nan,
                "sex": rng.choice(["F", "M"], N) if covariates else None,
            }
        )
        self.volumes = np.where(label, rng.integers(50, 400, N), rng.integers(1, 80, N))
        self.has_lesions = np.full(N, masks)
        self.slabs = (rng.normal(size=(N, 20)) + 0.8 * label[:, None]).astype("float32")
        self.widths = 30 + 3 * label + rng.integers(0, 4, N)

    def rows(self, part):
        return np.arange(N) if part == "all" else np.flatnonzero(self.table["part"] == part)

    def brain(self, row):
        mask = np.zeros(self.shape, bool)
        mask[: self.widths[row], :30, :30] = True
        return mask

    def image(self, row):
        values = np.zeros(self.shape, "float32")
        values[:20] = self.slabs[row][:, None, None]
        return np.where(self.brain(row), values, 0)

    def lesions(self, row):
        mask = np.zeros(self.shape, bool)
        mask.ravel()[: self.volumes[row]] = True
        return mask


@pytest.fixture(scope="module")
def features():
    """What two trials of a network would say: nothing but noise, and the label."""
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(N, 8)).astype("float32")
    return {"scratch": [noise, noise + (np.arange(N) % 2)[:, None]]}


@pytest.fixture(scope="module")
def toy():
    return Toy()


@pytest.fixture(scope="module")
def fitted(toy, features):
    return baselines.fit(toy, features)


def test_every_baseline_scores_every_scan(toy, fitted, features):
    predictions, left_out = baselines.predict(fitted, toy, toy.rows("holdout"), features)
    assert left_out == {}
    assert predictions.groupby("variant", sort=False).size().to_dict() == {
        **dict.fromkeys(baselines.BASELINES, 10),
        "scratch features + SVM": 20,
    }
    assert predictions["score"].between(0, 1).all()
    assert predictions["participant_id"].tolist()[:10] == [
        f"sub-{number}" for number in range(30, 40)
    ]
    auc = {
        name: roc_auc_score(rows["label"].astype(int), rows["score"])
        for name, rows in predictions.groupby("variant")
    }
    assert (
        min(
            auc[name]
            for name in ("lesion load", "linear SVM", "linear SVM, C selected", "brain shape")
        )
        > 0.8
    )
    trials = predictions[predictions["variant"] == "scratch features + SVM"].groupby("trial")
    aucs = [roc_auc_score(rows["label"].astype(int), rows["score"]) for _, rows in trials]
    assert aucs[0] < 0.8 < aucs[1]


def test_scans_without_features_are_left_out_of_the_baselines_on_features(toy, features):
    """The first patient of the training part, and one of the holdout."""
    partly = features["scratch"][1].copy()
    partly[[1, 31]] = np.nan
    fitted = baselines.fit(toy, {"filled": [partly]})
    predictions, left_out = baselines.predict(
        fitted, toy, toy.rows("holdout"), {"filled": [partly]}
    )
    assert left_out == {}
    on_features = predictions[predictions["variant"] == "filled features + SVM"]
    assert len(on_features) == 9
    assert "sub-31" not in set(on_features["participant_id"])
    assert (predictions.groupby("variant").size().drop("filled features + SVM") == 10).all()
    labelled = toy.table["label"].to_numpy(int) == 1
    partly[labelled] = np.nan
    assert (
        "could be filled"
        in baselines.fit(toy, {"filled": [partly]}).left_out["filled features + SVM"]
    )


def test_permuting_the_holdouts_labels_leaves_scores_and_choices_as_they_are(toy, fitted, features):
    """To the byte; the same with all that the holdout is taken away but its own scans."""
    expected, _ = baselines.predict(fitted, toy, toy.rows("holdout"), features)
    permuted = Toy()
    rows = permuted.rows("holdout")
    permuted.table.loc[rows, "label"] = 1 - permuted.table.loc[rows, "label"]
    again = baselines.fit(permuted, features)
    predictions, _ = baselines.predict(again, permuted, rows, features)
    assert predictions["score"].to_numpy().tobytes() == expected["score"].to_numpy().tobytes()
    pd.testing.assert_frame_equal(again.chosen, fitted.chosen)
    assert (predictions["label"] != expected["label"]).all()


def test_labels_of_the_training_part_decide(toy, fitted, features):
    """The counterpart: without it the test above would pass for machines that read no label."""
    permuted = Toy()
    rows = permuted.rows("training")
    permuted.table.loc[rows, "label"] = permuted.table.loc[rows, "label"].to_numpy()[
        np.random.default_rng(0).permutation(len(rows))
    ]
    predictions, _ = baselines.predict(
        baselines.fit(permuted, features), permuted, permuted.rows("holdout"), features
    )
    expected, _ = baselines.predict(fitted, toy, toy.rows("holdout"), features)
    for name, rows in predictions.groupby("variant"):
        assert (rows["score"].to_numpy() != expected.loc[rows.index, "score"].to_numpy()).any(), (
            name
        )


def test_inner_products_are_those_of_all_voxels(toy):
    rows, reference_rows = [0, 1, 2], [5, 6, 7, 8, 9]
    for what in ("image", "brain"):
        first, second = (
            np.stack([getattr(toy, what)(row).ravel() for row in scans]).astype(float)
            for scans in (rows, reference_rows)
        )
        expected = first @ second.T
        near = {"rtol": 0, "atol": 1e-5 * np.abs(expected).max()}  # float32 sums
        np.testing.assert_allclose(
            baselines.inner_products(toy, rows, toy, reference_rows, what), expected, **near
        )
        np.testing.assert_allclose(
            baselines.inner_products(toy, rows, toy, reference_rows, what, block=2),
            expected,
            **near,
        )


def test_the_linear_svm_is_scikit_learns_on_all_voxels(toy, fitted):
    """By the inner products, with the paper's C; the slabs stand for their voxels."""
    predictions, _ = baselines.predict(
        fitted, toy, toy.rows("holdout"), {"scratch": [np.zeros((N, 8))] * 2}
    )
    voxels = np.repeat(toy.slabs, 900, axis=1)
    classifier = SVC(kernel="linear", C=1e-3).fit(
        voxels[:30], toy.table["label"].iloc[:30].to_numpy(int)
    )
    expected = 1 / (1 + np.exp(-classifier.decision_function(voxels[30:])))
    np.testing.assert_allclose(
        predictions.loc[predictions["variant"] == "linear SVM", "score"], expected, atol=2e-3
    )


def test_another_cohort_is_scored_by_the_same_machines(toy, fitted):
    """Further subjects: what was fitted stays as it is, and an unknown category is no error."""
    other = Toy(seed=1)
    other.table["sex"] = "X"
    features = {"scratch": [np.zeros((N, 8), "float32")] * 2}
    predictions, left_out = baselines.predict(fitted, other, other.rows("all"), features)
    assert left_out == {}
    assert len(predictions) == N * (len(baselines.BASELINES) + 2)
    rows = predictions[predictions["variant"] == "lesion load"]
    assert roc_auc_score(rows["label"].astype(int), rows["score"]) > 0.9


def test_c_is_selected_from_powers_of_ten():
    of_covariates = BASELINES["age, sex, site"].grid["logisticregression__C"]
    assert of_covariates == pytest.approx([0.01, 0.1, 1, 10, 100])
    of_voxels = BASELINES["linear SVM, C selected"].grid["C"]
    assert (of_voxels[0], of_voxels[-1]) == pytest.approx((1e-7, 0.1))
    assert BASELINES["linear SVM"].estimator.C in of_voxels


def test_what_is_missing_is_left_out_with_its_reason():
    bare = Toy(masks=False, covariates=False)
    fitted = baselines.fit(bare)
    predictions, left_out = baselines.predict(fitted, bare, bare.rows("holdout"))
    assert set(predictions["variant"]) == {"linear SVM", "linear SVM, C selected", "brain shape"}
    assert left_out == {
        "lesion load": "the cohort has scans without a lesion mask",
        "age, sex, site": (
            "the cohort has no column age, sex, site or scanner with more than one value"
        ),
    }
    assert fitted.left_out == left_out
    _, skipped = baselines.cross_validate(bare, folds=2, repeats=1)
    assert skipped == left_out


def test_masks_that_the_holdout_lacks_leave_its_lesion_load_out():
    partly = Toy()
    partly.has_lesions[35] = False
    _, left_out = baselines.predict(baselines.fit(partly), partly, partly.rows("holdout"))
    assert left_out == {"lesion load": "the cohort has scans without a lesion mask"}


def test_a_training_part_of_one_group_fits_nothing(features):
    controls_only = Toy()
    controls_only.table["label"] = pd.array(
        np.where(controls_only.table["part"] == "holdout", controls_only.table["label"], 0), "Int64"
    )
    fitted = baselines.fit(controls_only, features)
    predictions, left_out = baselines.predict(
        fitted, controls_only, controls_only.rows("holdout"), features
    )
    assert predictions.empty
    assert (
        left_out["lesion load"]
        == "the training part has 0 patients and 30 controls; at least two of each are needed"
    )
    assert set(left_out) == {*baselines.BASELINES, "scratch features + SVM"}


def test_cross_validation_tests_every_subject_once_a_repeat_and_keeps_subjects_together():
    twice = Toy()
    twice.table["participant_id"] = [
        f"sub-{number // 4 * 2 + number % 2:02}" for number in range(N)
    ]  # two scans each
    scores, left_out = baselines.cross_validate(twice, folds=2, repeats=2)
    assert left_out == {}
    assert len(scores) == 2 * 2 * len(baselines.BASELINES)
    lesion_load = scores[scores["variant"] == "lesion load"]
    assert (lesion_load["training"] + lesion_load["tested"] == 20).all(), (
        "subjects, on one side each"
    )
    assert lesion_load.groupby("repeat")["tested"].sum().tolist() == [20, 20]
    assert scores.groupby("variant")["auc"].mean()["lesion load"] > 0.9
    again, _ = baselines.cross_validate(twice, folds=2, repeats=1)
    pd.testing.assert_frame_equal(again, scores[scores["repeat"] == 0])
    assert baselines.cross_validate(twice, repeats=0)[0].empty


def test_the_networks_features_give_its_logits(tmp_path):
    from support.networks import with_weights

    toy, where = Toy(shape=images.SHAPE), Results(str(tmp_path))
    model = with_weights(1, images.SHAPE, seed=0)
    network.save_weights(model, where.trial("scratch", 0) / "weights.npz")
    trained = {"scratch": [(where.trial("scratch", 0), {})]}
    features = prediction.features(toy, [3, 5], trained)["scratch"][0]
    assert np.isnan(features[[0, 1, 2, 4]]).all()
    logits = prediction.predict(toy, [3, 5], trained, {"scratch": [features]})["logit"]
    expected = np.asarray(model(np.stack([toy.image(3), toy.image(5)])[..., None]))[:, 0]
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-5)


def test_lesion_load_ranks_by_volume_and_cuts_at_one_half():
    """The estimator of the product, against one made by hand from logarithm, z-score and SVM."""
    rng = np.random.default_rng(0)
    of_controls = np.concatenate([np.zeros(20), rng.lognormal(5, 1, 20)])
    of_patients = rng.lognormal(8.5, 1, 40)
    volumes = np.concatenate([of_controls, of_patients])
    labels = np.repeat([0, 1], 40)
    tested = np.array([0, 100, 1000, 5000, 40_000])
    estimator = clone(baselines.BASELINES[baselines.LESION_LOAD].estimator)
    estimator.fit(volumes[:, None], labels)
    scores = special.expit(estimator.decision_function(tested[:, None]))
    assert ((scores > 0) & (scores < 1)).all()
    assert (scores[:2] < 0.5).all()
    assert (scores[3:] > 0.5).all()
    logarithms = np.log(1 + volumes)
    mean = logarithms.mean()
    spread = logarithms.std()
    by_hand = SVC(C=10, gamma=1).fit(((logarithms - mean) / spread)[:, None], labels)
    expected = by_hand.decision_function(((np.log(1 + tested) - mean) / spread)[:, None])
    assert np.log(scores / (1 - scores)) == pytest.approx(expected)


def test_lesion_load_scores_what_its_estimator_says_of_the_volumes(toy, fitted, features):
    predictions, _ = baselines.predict(fitted, toy, toy.rows("holdout"), features)
    estimator = clone(baselines.BASELINES[baselines.LESION_LOAD].estimator)
    volumes = toy.lesion_volumes(range(N))[:, None]
    estimator.fit(volumes[:30], toy.table["label"].iloc[:30].to_numpy(int))
    expected = special.expit(estimator.decision_function(volumes[30:]))
    scores = predictions.loc[predictions["variant"] == baselines.LESION_LOAD, "score"]
    assert scores.to_numpy() == pytest.approx(expected)
