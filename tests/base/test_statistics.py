"""Statistics against brute force, published worked examples, scikit-learn and scipy."""

import time
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_auc_score

from msxai.base import paper_results, statistics
from msxai.base.errors import ParameterError
from msxai.evaluation import comparison

# Hanley, McNeil 1982, Radiology 143:29-36, table I: 109 CT images, rated 1 to 5 by one reader.
HANLEY_LABELS = np.repeat([0, 1], [58, 51])
HANLEY_RATINGS = np.concatenate(
    [np.repeat([1, 2, 3, 4, 5], counts) for counts in ([33, 6, 6, 11, 2], [3, 2, 2, 11, 33])]
)


def pairwise_auc(labels, scores):
    pairs = list(product(scores[labels == 1], scores[labels == 0]))
    return sum(
        1 if patient > control else 0.5 if patient == control else 0 for patient, control in pairs
    ) / len(pairs)


def sample(n_controls=20, n_patients=25, shift=1.0, seed=0):
    labels = np.repeat([0, 1], [n_controls, n_patients])
    return labels, 1 / (1 + np.exp(-np.random.default_rng(seed).normal(shift * (labels - 0.5), 1)))


@given(arrays(float, 12, elements=st.integers(0, 6).map(lambda n: n / 6)), st.integers(1, 11))
def test_auc_counts_pairs(scores, patients):
    labels = (np.arange(12) < patients).astype(int)
    assert statistics.auc(labels, scores) == pytest.approx(pairwise_auc(labels, scores))
    assert statistics.auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


@given(
    arrays(float, 12, elements=st.integers(0, 6).map(lambda n: n / 6)),
    arrays(int, 12, elements=st.integers(0, 3)),
)
def test_weights_repeat_scans(scores, weights):
    labels = np.arange(12) % 2
    weights[:2] = 1
    repeated = np.repeat(np.arange(12), weights)
    for name, function in statistics.MEASURES.items():
        assert function(labels, scores, weights[None])[0] == pytest.approx(
            function(labels[repeated], scores[repeated])
        ), name


def test_measures_agree_with_scikit_learn():
    labels, scores = sample()
    assert statistics.sensitivity(labels, scores) == pytest.approx(
        recall_score(labels, scores > 0.5)
    )
    assert statistics.specificity(labels, scores) == pytest.approx(
        recall_score(labels, scores > 0.5, pos_label=0)
    )
    assert statistics.balanced_accuracy(labels, scores) == pytest.approx(
        balanced_accuracy_score(labels, scores > 0.5)
    )
    assert statistics.sensitivity([0, 1], [0.5, 0.5]) == 0, (
        "a score of .5 is a logit of 0: not above the threshold"
    )


@pytest.mark.filterwarnings("error")
def test_one_label_only_is_not_a_score():
    assert np.isnan(statistics.auc([1, 1], [0.2, 0.8]))
    assert np.isnan(statistics.balanced_accuracy([0, 0], [0.2, 0.8]))


def test_delong_gives_the_published_interval():
    # Stata's manual, entry roctab, on these ratings: area 0.8932, standard error 0.0307,
    # 95 % interval 0.83295 to 0.95339 (DeLong).
    (area,), ((variance,),) = statistics.delong(HANLEY_LABELS, [HANLEY_RATINGS])
    assert area == pytest.approx(0.8932, abs=5e-5)
    assert np.sqrt(variance) == pytest.approx(0.0307, abs=5e-5)
    assert statistics.auc_interval(HANLEY_LABELS, HANLEY_RATINGS) == pytest.approx(
        (0.83295, 0.95339), abs=5e-6
    )


def test_paired_delong_by_its_definition_and_by_bootstrap():
    labels, scores = sample(40, 50)
    reference = 0.6 * scores + 0.4 * sample(40, 50, shift=0.3, seed=1)[1]
    patients, controls = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    both = [
        [[float(scored[p] > scored[c]) for c in controls] for p in patients]
        for scored in (scores, reference)
    ]
    first, second = ([np.mean(row) for row in scored] for scored in both)
    third, fourth = ([np.mean(column) for column in zip(*scored, strict=True)] for scored in both)
    covariance = (
        sum(
            (a - np.mean(first)) * (b - np.mean(second)) for a, b in zip(first, second, strict=True)
        )
        / 49
        / 50
    )
    covariance += (
        sum(
            (a - np.mean(third)) * (b - np.mean(fourth)) for a, b in zip(third, fourth, strict=True)
        )
        / 39
        / 40
    )
    assert statistics.delong(labels, [scores, reference])[1][0, 1] == pytest.approx(covariance)

    difference, low, high, p = statistics.auc_difference(labels, scores, reference)
    weights = statistics.bootstrap_weights(labels, seed=0, n=20_000)
    resampled = statistics.auc(labels, scores, weights) - statistics.auc(labels, reference, weights)
    assert difference == pytest.approx(
        pairwise_auc(labels, scores) - pairwise_auc(labels, reference)
    )
    assert (high - low) / 3.92 == pytest.approx(resampled.std(), rel=0.06)
    assert (p < 0.05) == (not low < 0 < high)
    assert statistics.auc_difference(labels, scores, scores)[:3] == (0, 0, 0)


def test_wholly_separated_groups_still_have_an_interval():
    labels = np.repeat([0, 1], [10, 13])
    low, high = statistics.auc_interval(labels, labels)
    # Newcombe 2006, method 5, says which area's standard error reaches up to 1
    size = (10 + 13) / 2 - 1
    error = np.sqrt(
        low * (1 - low) * (1 + size * (1 - low) / (2 - low) + size * low / (1 + low)) / 130
    )
    assert (low + 1.959964 * error, high) == pytest.approx((1, 1))
    low, high = statistics.auc_interval(labels, np.zeros(23))
    assert low < 0.3
    assert low == pytest.approx(1 - high)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"), [(12, 13, 0.64, 1.00), (8, 10, 0.44, 0.97)]
)
def test_exact_interval_is_the_one_of_paper_md(successes, n, low, high):
    assert statistics.exact_interval(successes, n) == pytest.approx((low, high), abs=5e-3)


@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.sampled_from([0.9, 0.95, 0.99]),
)
def test_exact_interval_is_scipys(counts, level):
    interval = binomtest(*counts).proportion_ci(level, "exact")
    assert statistics.exact_interval(*counts, level) == pytest.approx((interval.low, interval.high))
    assert statistics.exact_interval(counts[0] / 2, counts[1])[0] <= counts[0] / 2 / counts[1]


def test_bootstrap_is_stratified_seeded_and_keeps_subjects_whole():
    labels, subjects = np.array([1, 1, 1, 0, 0, 1]), ["b", "b", "c", "a", "d", "e"]
    weights = statistics.bootstrap_weights(labels, seed=4, n=500, subjects=subjects)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, [3, 4]].sum(1) == 2).all()
    assert (weights[:, [0, 2, 5]].sum(1) == 3).all()
    assert weights[:, [0, 2, 5]].mean() == pytest.approx(1)
    assert (weights == statistics.bootstrap_weights(labels, 4, 500, subjects)).all()
    assert (weights != statistics.bootstrap_weights(labels, 5, 500, subjects)).any()


def test_bootstrap_interval_agrees_with_drawing_subjects_one_by_one_and_is_fast():
    labels, scores = sample(30, 30)
    rng, values = np.random.default_rng(0), []
    for _ in range(3000):
        rows = np.concatenate([rng.choice(30, 30), 30 + rng.choice(30, 30)])
        values.append(pairwise_auc(labels[rows], scores[rows]))
    start = time.perf_counter()
    interval = statistics.bootstrap_interval(statistics.auc, labels, scores, seed=1)
    assert time.perf_counter() - start < 0.5
    assert interval == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.015)


def test_scans_of_one_subject_do_not_narrow_the_interval():
    labels, scores = sample(15, 15)
    tripled, names = np.repeat(scores, 3), np.repeat(np.arange(30), 3)
    once = statistics.bootstrap_interval(statistics.auc, labels, scores, seed=0)
    assert statistics.bootstrap_interval(
        statistics.auc, np.repeat(labels, 3), tripled, 0, subjects=names
    ) == pytest.approx(once)
    low, high = statistics.bootstrap_interval(statistics.auc, np.repeat(labels, 3), tripled, 0)
    assert high - low < 0.8 * (once[1] - once[0])


def predictions_by_hand():
    scores = {0: [0.1, 0.6, 0.9, 0.4], 1: [0.2, 0.3, 0.8, 0.7]}
    rows = [
        ("net", trial, f"sub-{i}", "", int(i > 1), score)
        for trial, row in scores.items()
        for i, score in enumerate(row)
    ]
    rows += [
        ("load", 0, f"sub-{i}", "", int(i > 1), score)
        for i, score in enumerate([0.1, 0.2, 0.9, 0.8])
    ]
    return pd.DataFrame(
        rows, columns=["variant", "trial", "participant_id", "session_id", "label", "score"]
    )


def test_score_table_by_hand():
    table = statistics.score_table(predictions_by_hand(), seed=0).set_index("variant")
    assert list(table.index) == ["net", "load"]
    net = table.loc["net"]
    assert (net["trials"], net["patients"], net["controls"]) == (2, 2, 2)
    assert (net["sensitivity"], net["sensitivity_min"], net["sensitivity_max"]) == (0.75, 0.5, 1)
    assert (net["specificity"], net["balanced_accuracy"], net["auc"], net["auc_min"]) == (
        0.75,
        0.75,
        0.875,
        0.75,
    )
    # ensemble: .15, .45 | .85, .55
    assert (net["ensemble_auc"], net["ensemble_sensitivity"], net["ensemble_specificity"]) == (
        1,
        1,
        1,
    )
    assert (net["ensemble_sensitivity_low"], net["ensemble_sensitivity_high"]) == pytest.approx(
        statistics.exact_interval(2, 2)
    )
    half = np.sqrt(2) * (1 - statistics.exact_interval(2, 2)[0]) / 2
    assert (
        net["ensemble_balanced_accuracy_low"],
        net["ensemble_balanced_accuracy_high"],
    ) == pytest.approx((1 - half, 1))
    for name, prefix in product(statistics.MEASURES, ["", "ensemble_"]):
        columns = [f"{prefix}{name}_low", f"{prefix}{name}", f"{prefix}{name}_high"]
        assert (table[columns].diff(axis=1).iloc[:, 1:] >= -1e-12).all(axis=None), columns
        assert (table[f"{prefix}{name}_low"] < 1).all(), "four subjects prove nothing"


def test_score_table_counts_subjects_not_scans_and_ignores_order():
    labels, scores = sample(10, 12)
    scored = pd.DataFrame(
        {
            "variant": "net",
            "trial": 0,
            "participant_id": [f"s{i}" for i in range(22)],
            "label": labels,
            "score": scores,
        }
    )
    several = pd.concat([scored.assign(session_id=session) for session in ("ses-1", "ses-2")])
    first = statistics.score_table(scored, seed=3)
    pd.testing.assert_frame_equal(statistics.score_table(several, seed=3), first)
    pd.testing.assert_frame_equal(
        statistics.score_table(scored.sample(frac=1, random_state=0), seed=3), first
    )
    unlabelled = scored.iloc[:1].assign(label=np.nan, participant_id="x")
    pd.testing.assert_frame_equal(
        statistics.score_table(pd.concat([scored, unlabelled]), seed=3), first
    )


def test_roc_band_by_hand():
    # first trial: control .3 below both patients; second: one control above one patient
    band = statistics.roc_band([0, 0, 1, 1], [[0.1, 0.3, 0.6, 0.9], [0.1, 0.7, 0.6, 0.9]], points=5)
    assert band["false_positive_rate"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert band["trial_0"].tolist() == [1, 1, 1, 1, 1]
    assert band["trial_1"].tolist() == [0.5, 0.5, 1, 1, 1]
    assert band["mean"].tolist() == [0.75, 0.75, 1, 1, 1]
    assert band["sd"].tolist() == pytest.approx([np.sqrt(0.125), np.sqrt(0.125), 0, 0, 0])
    assert statistics.roc_band([0, 1], [[0.2, 0.2]], points=3)["mean"].tolist() == [0, 0.5, 1], (
        "a tie is a diagonal"
    )


def test_papers_numbers_are_those_of_its_table():
    paper = paper_results.read()
    holdout = paper[paper["section"] == "holdout"].pivot(
        index="variant", columns="quantity", values="mean"
    )
    assert holdout.shape == (5, 4)
    assert holdout.loc["pretrained"].to_dict() == {
        "auc": 96.08,
        "balanced_accuracy": 87.04,
        "sensitivity": 93.08,
        "specificity": 81.0,
    }
    both = holdout[["sensitivity", "specificity"]].mean(axis=1)
    assert (both - holdout["balanced_accuracy"]).abs().max() < 0.011, (
        "balanced accuracy is their mean, up to the paper's rounding"
    )
    assert paper["source"].unique().tolist() == ["doi:10.1016/j.nicl.2019.102003"]


def test_a_missing_score_is_no_wrong_answer():
    labels = np.array([0, 0, 1, 1])
    scores = np.array([0.1, 0.6, np.nan, 0.9])
    assert np.isnan(statistics.sensitivity(labels, scores))
    assert statistics.specificity(labels, scores) == 0.5
    weights = np.ones((3, 4))
    assert np.isnan(statistics.sensitivity(labels, scores, weights)).tolist() == [True] * 3
    assert statistics.specificity(labels, scores, weights).tolist() == [0.5] * 3
    assert np.isnan(statistics.exact_interval(np.nan, 3)).all()


def spoilt(kind):
    """Predictions with one damage."""
    table = predictions_by_hand().query("variant == 'net'").reset_index(drop=True)
    first = table.iloc[[0]]
    tables = {
        "nan": table.assign(score=table["score"].mask(table.index == 5)),
        "infinite": table.assign(score=table["score"].where(table.index != 5, np.inf)),
        "words": table.assign(score=table["score"].astype(object).where(table.index != 5, "x")),
        "missing": table.drop(index=5),
        "twice": pd.concat([table, first.assign(score=0.9)]),
        "label": table.assign(label=table["label"] + 1),
    }
    return tables[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nan", "trial 1, sub-1: found the score nan; expected one finite number of each scan in"),
        ("infinite", "trial 1, sub-1: found the score inf; expected one finite number"),
        ("words", "trial 1, sub-1: found the score x; expected one finite number"),
        ("missing", "trial 1, sub-1: found no score; expected one finite number of each scan"),
        ("twice", "trial 0, sub-0: found two scores; expected one finite number of each scan"),
        ("label", "trial 0, sub-2: found the label 2; expected 1 for a patient or 0 for a control"),
    ],
)
def test_damaged_predictions_are_one_sentence(kind, words):
    for function in (statistics.score_table, statistics.trial_scores, comparison.calibration):
        with pytest.raises(ParameterError) as caught:
            function(spoilt(kind))
        assert str(caught.value).startswith(f"predictions, variant net, {words}")
