"""The proof of training on real patients: its holdouts, differences and tables by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from support.scripts import script

from msxai import ROOT
from msxai.base.results import Results
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import open_cohort

beside = script("beside")
real = beside.real

SITES = ["Ljubljana", "Ljubljana", *["Tabriz"] * 6]


@pytest.fixture
def cohort(tmp_path):
    """A table of eight patients whose scans are empty files."""
    scans = []
    for number, site in enumerate(SITES):
        path = tmp_path / f"{number}_FLAIR.nii.gz"
        mask = tmp_path / f"{number}_mask.nii.gz"
        path.touch()
        mask.touch()
        scans.append(real.Scan(site, str(number), path, mask))
    names = [f"sub-{number}" for number in range(8)]
    return beside.write_cohort(scans, names, tmp_path / "runs")


def split_of(turn, cohort):
    """Split as notebook 01 does with the options of a turn and the settings of demo.yaml."""
    table = open_cohort(cohort).table
    if "fold" in turn.options:
        return splits.fold(table, turn.options["fold"], turn.options["folds"], 0.15, 0)
    return splits.make(table, [10, 13], 0.15, 0, turn.options["holdout_site"])


def test_each_patient_is_held_out_once_by_each_arrangement(cohort):
    held = {beside.BESIDE: [], beside.OTHER_CENTRE: []}
    sizes = []
    for turn in beside.turns_of(SITES):
        split = split_of(turn, cohort)
        held[turn.variant] += list(split.loc[split["part"] == "holdout", "participant_id"])
        counts = split["part"].value_counts()
        sizes.append([int(counts[part]) for part in splits.PARTS])
    everyone = [f"sub-{number}" for number in range(8)]
    assert sorted(held[beside.BESIDE]) == sorted(held[beside.OTHER_CENTRE]) == everyone
    assert sizes == [[5, 1, 2]] * 4 + [[5, 1, 2], [1, 1, 6]]


def test_the_settings_are_those_of_make_beside(cohort):
    turn = beside.turns_of(SITES)[1]
    settings = beside.settings_of(turn, cohort)
    assert settings["cohorts"] == {"finetuning": {"folds": 4, "fold": 1}}
    assert "variants" not in settings  # nothing of the training is changed
    assert settings["results"] == "runs/beside/fold-1"


def test_a_table_that_is_the_same_is_not_written_again(cohort, tmp_path):
    before = cohort.stat().st_mtime_ns
    table = pd.read_csv(cohort)
    scans = []
    for row in table.itertuples():
        scans.append(real.Scan(row.site, "", row.image, row.lesion_mask))
    again = beside.write_cohort(scans, table["participant_id"], tmp_path / "runs")
    assert again.stat().st_mtime_ns == before


def test_networks_that_have_seen_a_scan_of_the_holdout_are_refused(tmp_path, monkeypatch):
    class Patients:
        table = pd.DataFrame({"source_sha256": ["a", "b", "c"]})

        def row(self, name):
            return ["sub-1", "sub-2", "sub-3"].index(name)

    split = pd.DataFrame(
        {
            "participant_id": ["sub-1", "sub-2", "sub-3"],
            "session_id": "",
            "part": ["training", "holdout", "validation"],
        }
    )
    turn = beside.Turn("v", "t", {})
    monkeypatch.setattr(beside.Turn, "where", Results(str(tmp_path)))
    splits.write(split, turn.where.split(beside.COHORT))
    seen = pd.DataFrame({"source_sha256": ["a", "c"]})
    monkeypatch.setattr(beside.seen_scans, "listed", lambda path: seen)
    assert beside.held_out(turn, Patients()) == [1]
    seen = pd.DataFrame({"source_sha256": ["a", "b"]})
    with pytest.raises(ValueError, match="scan of the holdout"):
        beside.held_out(turn, Patients())


def scores():
    """Two patients; the trained networks find more, and call one of the filled scans MS."""
    rows = []
    for variant, gain, filled in ((beside.SHIPPED, 0.0, 2.0), (beside.BESIDE, 0.1, -1.0)):
        for number, site in enumerate(("Ljubljana", "Tabriz")):
            for rule, copies in beside.MAPS:
                auprc = 0.2 + 0.4 * number + gain * (1 + number)
                row = {"variant": variant, "rule": rule, "copies": copies, "site": site}
                row |= {"scan": f"patient{number}"} | dict.fromkeys(real.MEASURES, auprc)
                row |= {f"{name}_minus_brightness": auprc - 0.3 for name in real.MEASURES}
                row |= {"logit_as_it_is": 3.0, "logit_filled": filled + 2 * number}
                rows.append(row | {"logit_sham": 3.0})
    return pd.DataFrame(rows)


def test_differences_are_paired_over_patients():
    table = beside.differences(scores())
    assert set(table["variant"]) == {beside.BESIDE, beside.OTHER_CENTRE}
    own = table[table["variant"] == beside.BESIDE].set_index(["site", "copies", "measure"])
    value = own["value"]
    assert value[("all", 8, "auprc_minus_shipped")] == pytest.approx(0.15)
    assert value[("Tabriz", 1, "auprc_minus_shipped")] == pytest.approx(0.2)
    assert value[("all", 0, "called_yes_filled_minus_shipped")] == pytest.approx(-0.5)
    assert value[("all", 0, "logit_filled_minus_shipped")] == pytest.approx(-3)
    assert value[("all", 0, "logit_falls_by_filling_minus_shipped")] == pytest.approx(3)
    row = own.loc[("all", 8, "auprc_minus_shipped")]
    assert (row["low"], row["high"], row["n"]) == (pytest.approx(0.1), pytest.approx(0.2), 2)
    without = table[table["variant"] == beside.OTHER_CENTRE]
    assert (without["n"] == 0).all()  # no patient was measured by them here


def simulated(gap):
    """Four controls and four patients; two trainings, of which one sees nothing."""
    tables = []
    for variant, turn, distance in (
        (beside.SHIPPED, beside.SHIPPED, gap),
        (beside.BESIDE, "fold-0", 4.0),
        (beside.BESIDE, "fold-1", 0.0),
    ):
        labels = np.repeat([0, 1], 4)
        logit = np.tile([-0.5, -0.4, -0.3, -0.2], 2) + distance * labels
        table = pd.DataFrame({"participant_id": list("abcdefgh"), "label": labels})
        tables.append(table.assign(variant=variant, turn=turn, logit=logit))
    return pd.concat(tables, ignore_index=True)


def test_what_is_lost_on_simulated_subjects_is_the_mean_over_trainings():
    table = beside.rows_of_simulated(simulated(gap=4.0)).set_index(["variant", "measure"])
    assert table.loc[(beside.SHIPPED, "auc"), "value"] == 1
    row = table.loc[(beside.BESIDE, "auc")]
    assert row["value"] == pytest.approx(0.75)  # of 1 and 0.5
    assert row["low"] < 0.75 < row["high"]
    assert row["n"] == 8
    difference = table.loc[(beside.BESIDE, "auc_minus_shipped")]
    assert difference["value"] == pytest.approx(-0.25)
    assert difference["high"] < 0
    assert table.loc[(beside.BESIDE, "called_yes_patients"), "value"] == pytest.approx(0.5)
    assert table.loc[(beside.BESIDE, "called_yes_controls"), "value"] == 0
    assert (beside.SHIPPED, "auc_minus_shipped") not in table.index


def test_the_table_is_written_anew_from_the_scores_alone(tmp_path, monkeypatch):
    for name in ("TABLE", "SCORES", "SIMULATED", "RECORD"):
        monkeypatch.setattr(beside, name, tmp_path / getattr(beside, name).name)
    beside.tsv.write(scores(), beside.SCORES)
    beside.tsv.write(simulated(gap=1.0), beside.SIMULATED)
    beside.write_table()
    before = beside.TABLE.read_bytes()
    outputs = [beside.TABLE, beside.SCORES, beside.SIMULATED]
    beside.provenance.write_json(beside.RECORD, beside.provenance.record({}, outputs=outputs))
    beside.TABLE.write_text("stale")
    beside.write_table_anew()
    assert beside.TABLE.read_bytes() == before
    columns = ["variant", "rule", "copies", "site", "measure", "value", "low", "high", "n"]
    assert list(beside.tsv.read(beside.TABLE)) == columns
    assert "table_written" in json.loads(beside.RECORD.read_text())


def test_the_numbers_of_the_manual_are_those_of_the_table():
    table = beside.tsv.read(beside.TABLE)
    table = table[table["copies"].isin([0, 8]) | (table["variant"] == real.BRIGHTNESS)]
    rows = table.set_index(["variant", "site", "measure"])
    page = (ROOT / "docs" / "patients-without-controls.md").read_text(encoding="utf-8")
    bright = rows.loc[(real.BRIGHTNESS, "all", "auprc"), "value"]
    words = {
        f"AUPRC of the map, brightness alone: {bright:.2f}": ("all", "auprc"),
        "share of patients with a logit above 0": ("all", "called_yes_as_it_is"),
        "the same with lesions filled": ("all", "called_yes_filled"),
        "the same with other white matter filled (sham)": ("all", "called_yes_sham"),
        "simulated subjects, AUC": ("simulated", "auc"),
        "share of simulated patients with a logit above 0": ("simulated", "called_yes_patients"),
        "share of simulated controls with a logit above 0": ("simulated", "called_yes_controls"),
    }
    for text, key in words.items():
        before, after = (
            rows.loc[(variant, *key), "value"] for variant in (beside.SHIPPED, beside.BESIDE)
        )
        assert f"| {text} | {before:.2f} | {after:.2f} |" in page
    fall = -rows.loc[(beside.BESIDE, "all", "auprc_minus_shipped"), ["value", "high", "low"]]
    value, low, high = fall
    assert f"fell by {value:.2f} (paired, 95 % CI {low:.2f} to {high:.2f})" in page
    filled = rows.loc[(beside.BESIDE, "all", "called_yes_filled")]
    assert f"still has: {filled['low']:.2f} to {filled['high']:.2f})" in page
    auprc = rows.loc[(beside.OTHER_CENTRE, "all", "auprc"), "value"]
    share = rows.loc[(beside.OTHER_CENTRE, "all", "called_yes_filled"), "value"]
    assert f"an AUPRC of {auprc:.2f}, and {share:.2f} of the filled scans keep" in page
