"""Classifiers beside each other, by hand, against scikit-learn, and against R's pROC."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from support.pictures import intervals, points

from msxai.base import statistics
from msxai.base.errors import MissingStepError
from msxai.evaluation import comparison
from msxai.report import figures

# R 4.2.2, pROC 1.18.0 (Debian's r-cran-proc) on numbers that a formula gives:
#   i <- 0:59; y <- as.integer(i %% 5 < 2)
#   a <- (37 * i) %% 23 + 6 * y; b <- (17 * i) %% 19 + 3 * y + a %/% 3
#   ra <- roc(y, a, direction = "<"); rb <- roc(y, b, direction = "<")
#   auc; var; cov(ra, rb); roc.test(ra, rb, paired = TRUE); ci.auc(ra)
NUMBER = np.arange(60)
Y = (NUMBER % 5 < 2).astype(int)
A = (37 * NUMBER) % 23 + 6 * Y
B = (17 * NUMBER) % 19 + 3 * Y + A // 3


def test_paired_delong_is_r_procs():
    areas, covariance = statistics.delong(Y, [A, B])
    assert areas == pytest.approx([0.64409722222222221, 0.72627314814814814])
    assert covariance.ravel() == pytest.approx(
        [0.00557436392515272, 0.00220635529691614, 0.00220635529691614, 0.00451562703018898]
    )
    difference, low, high, p = statistics.auc_difference(Y, A, B)
    assert (low, high, p) == pytest.approx(
        (-0.2298547623320742, 0.0655029104802224, 0.2754390444024494)
    )
    assert difference == pytest.approx((low + high) / 2)
    assert statistics.auc_interval(Y, A) == pytest.approx((0.497763051674, 0.79043139277))


def long(**variants):
    """Predictions: variant to a list of trials of scores."""
    rows = [
        {
            "variant": name,
            "trial": trial,
            "participant_id": f"s{i:02}",
            "session_id": "",
            "label": label,
            "score": score,
        }
        for name, trials in variants.items()
        for trial, scores in enumerate(trials)
        for i, (label, score) in enumerate(zip(Y, scores, strict=True))
    ]
    return pd.DataFrame(rows)


def test_table_compares_the_mean_of_trials_with_both_references():
    a, b = A / 40, B / 40
    predictions = long(
        **{
            "net": [a + 0.01 * (NUMBER % 3), a - 0.01 * (NUMBER % 3)],
            "scratch": [b],
            "lesion load": [0.2 + Y / 2],
        }
    )
    table = comparison.table(predictions.sample(frac=1, random_state=0)).set_index(
        ["variant", "measure", "reference"]
    )
    assert table.loc[("net", "auc", ""), "value"] == pytest.approx(statistics.auc(Y, A))
    row = table.loc[("net", "auc_difference", "scratch")]
    assert (row["value"], row["p"]) == pytest.approx(
        (0.64409722222222221 - 0.72627314814814814, 0.2754390444024494)
    )
    assert table.loc[("scratch", "auc_difference", "lesion load"), "value"] == pytest.approx(
        0.72627314814814814 - 1
    )
    assert ("lesion load", "auc_difference", "lesion load") not in table.index
    assert table.loc[("lesion load", "auc", ""), "low"] < 1, "separated wholly is not certain"
    same = comparison.table(long(**{"net": [Y / 2], "lesion load": [0.2 + Y / 2]})).set_index(
        ["variant", "measure"]
    )
    assert same.loc[("net", "auc_difference"), "value"] == 0
    assert same.loc[("net", "auc_difference"), ["low", "high", "p"]].isna().all(), (
        "two that separate wholly are not proven equal"
    )
    brier = table.loc[("scratch", "brier", "")]
    assert brier["value"] == pytest.approx(brier_score_loss(Y, b))
    assert brier["low"] < brier["value"] < brier["high"]
    assert (table["patients"].unique(), table["controls"].unique()) == ([24], [36])


def test_a_subject_counts_once_whatever_its_scans():
    single = long(net=[A / 40], scratch=[B / 40])
    twice = pd.concat(
        [
            single.assign(session_id="ses-1", score=single["score"] + 0.01),
            single.assign(session_id="ses-2", score=single["score"] - 0.01),
        ]
    )
    pd.testing.assert_frame_equal(comparison.table(twice), comparison.table(single))


@pytest.mark.filterwarnings("error")
def test_too_few_subjects_are_no_comparison():
    few = long(net=[A / 40])
    table = comparison.table(few[few["participant_id"].isin(["s00", "s02", "s03"])])  # one patient
    assert table["value"].isna().all()
    assert comparison.table(few.iloc[:0]).empty
    assert comparison.calibration(few.iloc[:0]).empty
    assert comparison.folds(pd.DataFrame()).empty


def test_brier_by_hand_and_weighted():
    assert comparison.brier([1, 0, 1], [0.8, 0.4, 1.0]) == pytest.approx((0.04 + 0.16) / 3)
    assert comparison.brier([1, 0, 1], [0.8, 0.4, 1.0], [[2, 1, 0], [0, 0, 3]]) == pytest.approx(
        [(0.08 + 0.16) / 3, 0]
    )


def test_calibration_is_scikit_learns_in_bins_of_equal_counts():
    scores = np.random.default_rng(0).permutation(60) / 60
    curve = comparison.calibration(long(net=[scores]), bins=6)
    shares, means = calibration_curve(Y, scores, n_bins=6, strategy="quantile")
    assert curve["n"].tolist() == [10] * 6
    assert curve["patients"].to_numpy() == pytest.approx(shares)
    assert curve["score"].to_numpy() == pytest.approx(means)
    for row in curve.itertuples():
        assert (row.low, row.high) == pytest.approx(
            statistics.exact_interval(row.patients * 10, 10)
        )
    assert comparison.calibration(long(net=[scores]), bins=99)["n"].min() >= 5


def test_corrected_interval_by_hand():
    """Nadeau and Bengio: the variance over k folds counts 1/k + tested/training, not 1/k."""
    values = np.array([0.7, 0.8, 0.75, 0.85, 0.9])
    mean, low, high = comparison.corrected_interval(values, 80, 20)
    error = np.sqrt((1 / 5 + 1 / 4) * values.var(ddof=1))
    assert (mean, low, high) == pytest.approx(
        (0.8, 0.8 - 2.776445 * error, 0.8 + 2.776445 * error), rel=1e-6
    )
    plain = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert high - low == pytest.approx((plain[1] - plain[0]) * np.sqrt((1 / 5 + 1 / 4) / (1 / 5)))
    assert np.isnan(comparison.corrected_interval([0.5], 80, 20)[1:]).all()


def test_folds_are_paired_with_lesion_load():
    rows = [
        ("net", 0, 0, 0.7),
        ("lesion load", 0, 0, 0.9),
        ("net", 0, 1, 0.8),
        ("lesion load", 0, 1, 0.9),
        ("net", 1, 0, 0.6),
        ("lesion load", 1, 0, 0.9),
    ]
    table = pd.DataFrame(rows, columns=["variant", "repeat", "fold", "auc"]).assign(
        training=80, tested=20
    )
    table[["balanced_accuracy", "sensitivity", "specificity"]] = 0.5
    summary = comparison.folds(table.sample(frac=1, random_state=1)).set_index(
        ["variant", "measure"]
    )
    assert summary.loc[("net", "auc"), "value"] == pytest.approx(0.7)
    assert summary.loc[
        ("net", "auc_difference"), ["value", "sd", "folds"]
    ].tolist() == pytest.approx([-0.2, 0.1, 3])
    assert summary.loc[("net", "auc_difference"), "low"] == pytest.approx(
        comparison.corrected_interval([-0.2, -0.1, -0.3], 80, 20)[1]
    )
    assert ("lesion load", "auc_difference") not in summary.index


# Figures


def compared_by_hand():
    holdout = comparison.table(
        long(**{"net": [A / 40], "scratch": [B / 40], "lesion load": [0.2 + Y / 2]})
    ).assign(part="holdout")
    shifted = {name: holdout[name] - 0.1 for name in ("value", "low", "high")}
    return pd.concat([holdout, holdout.assign(part="further", **shifted)], ignore_index=True)


def test_forest_plot_draws_every_value_with_its_interval():
    table = compared_by_hand()
    figure, source = figures.compared(table, synthetic=True)
    assert [axes.get_title() for axes in figure.axes] == [
        "AUC",
        "difference in AUC,\nmodel minus lesion load",
        "difference in AUC,\nmodel minus scratch",
    ]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "net",
        "scratch",
        "lesion load",
    ]
    for axes, reference in zip(figure.axes, ["", "lesion load", "scratch"], strict=True):
        drawn = zip(["holdout", "further"], points(axes), intervals(axes), strict=True)
        for part, values, ends in drawn:
            rows = source[
                (source["part"] == part)
                & (source["reference"] == reference)
                & (source["measure"] != "brier")
            ]
            assert values == pytest.approx(rows["value"].to_numpy())
            assert ends == pytest.approx(rows[["low", "high"]].to_numpy())
    text = " ".join(label.get_text() for label in figure.texts)
    assert "Synthetic" in text
    assert "95 % intervals" in text


def test_calibration_plot_draws_every_bin():
    table = comparison.calibration(long(**{"net": [A / 40], "lesion load": [B / 40]})).assign(
        part="holdout"
    )
    figure, source = figures.calibration(table, synthetic=False)
    assert [axes.get_title() for axes in figure.axes] == ["net", "lesion load"]
    for axes, (_, rows) in zip(figure.axes, source.groupby("variant", sort=False), strict=True):
        assert axes.containers[0][0].get_xydata() == pytest.approx(
            rows[["score", "patients"]].to_numpy()
        )
    assert not any("Synthetic" in label.get_text() for label in figure.texts)


def test_figures_with_nothing_to_draw_say_so():
    for function in figures.compared, figures.calibration:
        empty = comparison.table(long(net=[A]).iloc[:0]).assign(part="holdout")
        assert "Nothing to draw" in function(empty, synthetic=True)[1]["nothing_to_draw"].iloc[0]


def test_folds_of_the_networks_are_gathered(tmp_path):
    for number in range(2):
        folder = tmp_path / f"fold-{number}"
        (folder / "evaluation").mkdir(parents=True)
        (folder / "prepared").mkdir()
        predictions = long(net=[A / 40, B / 40], **{"lesion load": [B / 40]})
        held = predictions["participant_id"].str[1:].astype(int) % 2 == number
        predictions[held].to_csv(folder / "evaluation" / "predictions.tsv", sep="\t", index=False)
        split = predictions[["participant_id", "session_id"]].drop_duplicates()
        part = np.where(
            split["participant_id"].str[1:].astype(int) % 2 == number, "holdout", "training"
        )
        split.assign(part=part).to_csv(folder / "prepared" / "x_split.tsv", sep="\t", index=False)
    table = comparison.gather(str(tmp_path), 2).set_index(["variant", "measure"])
    aucs = [np.mean([statistics.auc(Y[k::2], scores[k::2]) for scores in (A, B)]) for k in (0, 1)]
    assert table.loc[("net", "auc"), "value"] == pytest.approx(np.mean(aucs))
    assert table.loc[("net", "auc"), "low"] == pytest.approx(
        max(comparison.corrected_interval(aucs, 30, 30)[1], 0)
    )
    assert table["value"].between(-1, 1).all()
    assert len(pd.read_csv(tmp_path / "predictions.tsv", sep="\t")) == 180
    with pytest.raises(MissingStepError, match="fold-2"):
        comparison.gather(str(tmp_path), 3)
