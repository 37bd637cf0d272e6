"""Lesions filled, sham sites filled: what that does to a network whose logit is known by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from scipy import ndimage, stats
from support.pictures import intervals, points

from msxai.base import statistics
from msxai.data import images, lesion_filling, prepared
from msxai.data.cohorts.cohort import open_cohort
from msxai.data.synthetic import phantom
from msxai.evaluation import counterfactuals
from msxai.report import figures


class Scans:
    """Simulated scans in memory: four patients, three controls, the last one without any lesion."""

    name, synthetic, affine, normalisation = "toy", True, images.AFFINE, "zscore"

    def __init__(self, masks=True):
        volumes = [3000, 2000, 4000, 1000, 400, 300, 0]
        self.label = [1, 1, 1, 1, 0, 0, 0]
        self.subjects = [
            phantom.simulate("ms", ("HC", "MS")[label], seed=number, visit=number, volume=volume)
            for number, (label, volume) in enumerate(zip(self.label, volumes, strict=True))
        ]
        self.scans = [images.normalise(subject.image, subject.brain) for subject in self.subjects]
        self.has_lesions = np.full(7, masks)
        self.table = pd.DataFrame(
            {
                "participant_id": [f"sub-{number}" for number in range(7)],
                "session_id": "",
                "label": pd.array(self.label, "Int64"),
            }
        )

    def image(self, row):
        return self.scans[row]

    def brain(self, row):
        return self.subjects[row].brain

    def lesions(self, row):
        return self.subjects[row].lesions


class SeesLesions:
    """A "network" whose logit is the sum of the bright voxels within a scan's lesions.

    It knows the masks of all scans.
    """

    def __init__(self, scans):
        self.scans = scans

    def logit(self, row, values):
        return float(np.maximum(values[self.scans.lesions(row)] - 1.0, 0).sum())

    def __call__(self, volumes, training):
        (volume,) = volumes[..., 0]
        row = np.argmin([np.abs(volume - scan).mean() for scan in self.scans.scans])

        return tf.constant([[self.logit(row, volume)]])


@pytest.fixture(scope="module")
def scans():
    return Scans()


def untouched(scans, net):
    return pd.DataFrame(
        {
            "variant": "net",
            "trial": 0,
            "participant_id": scans.table["participant_id"],
            "session_id": "",
            "logit": [net.logit(row, scans.image(row)) for row in range(7)],
        }
    )


@pytest.fixture(scope="module")
def predicted(scans, one_thread):
    net = SeesLesions(scans)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counterfactuals.network, "restore", lambda path, fast: net)
        return counterfactuals.predict(
            scans, range(7), {"net": [(Path("nowhere"), {})]}, untouched(scans, net), seed=1
        )


def test_what_sees_lesions_alone_loses_them_by_filling_and_nothing_by_sham(scans, predicted):
    predictions, reason = predicted
    assert reason == ""
    wide = predictions.pivot(index="participant_id", columns="change", values="logit")
    some = [f"sub-{row}" for row in range(7) if scans.lesions(row).any()]
    assert (wide.loc[some, "untouched"] > 20).all()
    assert (wide.loc[some, "filled"] < 0.25 * wide.loc[some, "untouched"]).all()
    assert (
        np.abs(wide["sham"] - wide["untouched"]) < 0.02 * wide["untouched"] + 0.5
    ).all()  # the scan's level moves by a trace
    assert wide.loc["sub-6", "filled"] == wide.loc["sub-6", "untouched"] == 0
    volume = predictions.pivot(index="participant_id", columns="change", values="volume")
    assert (volume["untouched"] == 0).all()
    assert volume.loc["sub-6", "filled"] == 0 < volume.loc["sub-6", "sham"], (
        "a control is filled at a patient's sites"
    )
    result = counterfactuals.table(predictions).set_index(["change", "reference"])
    changes = (wide["filled"] - wide["untouched"])[:4]
    row = result.loc[("filled", "untouched")]
    assert row["patients_logit_change"] == pytest.approx(changes.mean())
    interval = stats.ttest_1samp(changes, 0).confidence_interval()
    assert (row["patients_logit_change_low"], row["patients_logit_change_high"]) == pytest.approx(
        tuple(interval)
    )
    assert (row["patients"], row["controls"]) == (4, 3)


def test_predictions_are_those_of_scans_that_are_changed_one_at_a_time(scans, predicted):
    predictions, _ = predicted
    logits = predictions.set_index(["participant_id", "change"])["logit"]
    net = SeesLesions(scans)
    donors = counterfactuals.matched(scans, range(7), seed=1)
    for row in (0, 5):
        for change in ("filled", "sham"):
            values, _ = counterfactuals.changed(scans, row, change, seed=1, donor=donors.get(row))
            expected = float(net(values[None, ..., None], training=False)[0, 0])
            assert logits[f"sub-{row}", change] == expected


def test_a_changed_scan_is_the_filled_one_normalised_anew(scans):
    filled, count = counterfactuals.changed(scans, 0, "filled", seed=3)
    brain, mask = scans.brain(0), scans.lesions(0)
    assert filled[brain].mean() == pytest.approx(0, abs=1e-5)
    assert filled[brain].std() == pytest.approx(1, abs=1e-5)
    assert (filled[~brain] == 0).all()
    assert mask.sum() < count < 6 * mask.sum()
    line = np.polyfit(scans.image(0)[brain & ~mask], filled[brain & ~mask], 1)
    unchanged = np.isclose(np.polyval(line, scans.image(0)), filled, atol=0.02)
    assert unchanged[mask].mean() < 0.1 < 0.9 < unchanged[brain & ~mask].mean()
    again, _ = counterfactuals.changed(scans, 0, "filled", seed=3)
    np.testing.assert_array_equal(filled, again)
    sham, _ = counterfactuals.changed(scans, 0, "sham", seed=3)
    line = np.polyfit(scans.image(0)[mask], sham[mask], 1)
    np.testing.assert_allclose(
        np.polyval(line, scans.image(0)[mask]), sham[mask], atol=1e-4
    )  # lesions stay as they are


def test_controls_take_the_sites_of_patients_each_about_as_often(scans):
    donors = counterfactuals.matched(scans, range(7), seed=2)
    assert sorted(donors) == [4, 5, 6]
    assert set(donors.values()) < {0, 1, 2, 3}
    assert len(set(donors.values())) == 3
    assert list(counterfactuals.matched(scans, [0, 4, 5, 6]).values()) == [0, 0, 0]


def test_the_table_by_hand():
    rng, labels = np.random.default_rng(0), np.repeat([1, 0], 20)
    logits = {"untouched": labels + rng.normal(size=40), "filled": rng.normal(size=40)}
    logits["sham"] = logits["untouched"].copy()
    rows = [
        {
            "variant": "a",
            "trial": trial,
            "participant_id": f"s{i:02}",
            "session_id": "",
            "label": labels[i],
            "change": change,
            "logit": values[i] + 0.1 * (1 - 2 * trial),
            "score": stats.logistic.cdf(values[i]),
            "volume": 5.0 * labels[i],
        }
        for change, values in logits.items()
        for trial in (0, 1)
        for i in range(40)
    ]
    table = counterfactuals.table(pd.DataFrame(rows).sample(frac=1, random_state=0)).set_index(
        ["change", "reference"]
    )
    row = table.loc[("filled", "untouched")]
    assert row["auc"] == pytest.approx(statistics.auc(labels, logits["filled"]))
    expected = statistics.auc_difference(labels, logits["filled"], logits["untouched"])
    assert tuple(
        row[["auc_difference", "auc_difference_low", "auc_difference_high", "p"]]
    ) == pytest.approx(expected)
    sham = table.loc[("sham", "untouched")]
    assert (
        sham["auc_difference"],
        sham["patients_logit_change"],
        sham["controls_logit_change"],
    ) == (0, 0, 0)
    assert np.isnan(sham["auc_difference_low"]), "without variance nothing is proven"
    assert (row["patients_volume"], row["controls_volume"]) == (5, 0)
    both = table.loc[("filled", "sham")]
    assert both["controls_logit_change"] == pytest.approx(
        (logits["filled"] - logits["sham"])[20:].mean()
    )
    assert (
        list(counterfactuals.table(pd.DataFrame(columns=rows[0])).columns)
        == counterfactuals.COLUMNS
    )


def test_what_is_missing_is_said(scans):
    net, nothing = SeesLesions(scans), Scans.__new__(Scans)
    nothing.__dict__.update(scans.__dict__, has_lesions=np.zeros(7, bool))
    for some, options, words in (
        (nothing, {}, "two patients and two controls"),
        (scans, {"wanted": False}, "not requested"),
    ):
        predictions, reason = counterfactuals.predict(
            some, range(7), {}, untouched(scans, net), **options
        )
        assert predictions.empty
        assert words in reason
    for usable in ([0, 4, 5, 6], [0, 1, 2, 3, 4]):  # one patient, one control
        nothing.has_lesions = np.isin(range(7), usable)
        _, reason = counterfactuals.predict(nothing, range(7), {}, untouched(scans, net))
        assert "two patients and two controls" in reason
    nothing.__dict__.update(has_lesions=scans.has_lesions, normalisation="voxelwise")
    assert "voxelwise" in counterfactuals.predict(nothing, range(7), {}, untouched(scans, net))[1]


def test_filling_after_normalisation_is_filling_before_it(tmp_path):
    phantom.write_cohort("ms", tmp_path / "cohort", 4, seed=2, progress=False)
    cohort = open_cohort(tmp_path / "cohort")
    split = cohort.table[["participant_id", "session_id"]].assign(
        part=["training", "training", "validation", "holdout"]
    )
    for name, alter in (("old", None), ("new", lesion_filling.Filler())):
        prepared.prepare(cohort, split, tmp_path / name, alter=alter)
    old, new = prepared.Prepared(tmp_path / "old"), prepared.Prepared(tmp_path / "new")
    row = old.first_with_lesions()
    changed, _ = counterfactuals.changed(old, row, "filled")
    assert old.lesions(row).any()
    filled, mask = new.image(row), old.lesions(row)
    assert (np.abs(changed - old.image(row)) > 0.1).sum() > mask.sum() > 0
    far = (
        ndimage.distance_transform_edt(~mask, sampling=np.diag(images.AFFINE)[:3])
        > lesion_filling.BORDER
    )
    np.testing.assert_allclose(changed[far], filled[far], atol=0.02)
    # raw scans are whole numbers: by rounding, another piece of white matter may fit best
    for measure in (np.mean, np.std):
        assert measure(changed[mask]) == pytest.approx(measure(filled[mask]), abs=0.15)
    for cohort_arrays in (old, new):
        cohort_arrays.close()


def test_the_figure_shows_each_change_with_its_interval(predicted):
    table = counterfactuals.table(predicted[0])
    table = pd.concat([table, table.assign(variant="other")], ignore_index=True)
    figure, source = figures.counterfactual(table, synthetic=True)
    pd.testing.assert_frame_equal(source, table)
    row = table[(table["change"] == "filled") & (table["reference"] == "untouched")].iloc[0]
    axes = {item.get_title(): item for item in figure.axes}
    names = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    filled = names.index("lesions\nfilled")
    drawn = axes["logit, filled minus\noriginal: 4 patients"]
    assert points(drawn)[filled] == pytest.approx([row["patients_logit_change"]] * 2)
    assert intervals(drawn)[filled][0] == pytest.approx(
        row[["patients_logit_change_low", "patients_logit_change_high"]].to_numpy(float)
    )
    text = " ".join(item.get_text() for item in figure.texts)
    assert (
        f"{row['patients_volume'] / 1000:.1f} and {row['controls_volume'] / 1000:.1f} ml"
        in text.replace("\n", " ")
    )
    figure, _ = figures.counterfactual(
        table.iloc[:0], synthetic=False, left_out="it was not requested"
    )
    assert "it was not requested" in " ".join(
        item.get_text() for axes in figure.axes for item in axes.texts
    )
