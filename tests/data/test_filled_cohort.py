"""Cohorts with their lesions filled: both groups alike, by the untouched cohort's parameters, and
nothing where it cannot be done.
"""

import json
import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from msxai.base import provenance
from msxai.base.errors import MissingStepError, ParameterError, StaleInputError
from msxai.base.results import Results
from msxai.data import filled_cohort, prepared
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import open_cohort
from msxai.data.synthetic import phantom
from msxai.regions import region_tables

SUBJECTS = 4
RUN = {"cohort": "small", "filling": "noise"}


def make(folder, drop=()):
    """A results folder with a prepared cohort of four simulated subjects; patients in `drop` (by
    number) have no mask.
    """
    where = Results(str(folder / "results"))
    phantom.write_cohort("ms", folder / "small", SUBJECTS, 3)
    source = open_cohort(str(folder / "small"))
    patients = source.table.index[source.table["label"] == 1]
    source.table.loc[patients[list(drop)], "lesion_mask"] = None
    split = source.table[["participant_id", "session_id"]].assign(part="training")
    for _, rows in source.table.groupby("label"):  # both groups in both parts
        split.loc[rows.index[::2], "part"] = "holdout"
    splits.write(split, where.split("small"))
    prepared.prepare(
        source,
        split,
        where.prepared("small"),
        prepared.PreparationOptions(registration="auto", derivatives=where.registration("small")),
        parameters={"registration": "auto"},
    )
    outputs = [where.prepared("small"), where.split("small")]
    provenance.write_json(
        where.record("small"),
        provenance.record({"cohort": "small", "normalisation": "zscore"}, outputs=outputs),
    )
    return where


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    return make(tmp_path_factory.mktemp("filling"))


@pytest.fixture(scope="module")
def pair(where):
    filled, reason = filled_cohort.write(where, "small", "noise", RUN)
    assert reason == ""
    return prepared.Prepared(where.prepared("small"), where.split("small")), filled


def test_lesions_are_gone_and_what_is_far_from_any_site_is_only_scaled(pair):
    untouched, filled = pair
    sites = np.any([untouched.lesions(row) for row in range(SUBJECTS)], axis=0)
    far = ~ndimage.binary_dilation(sites, iterations=4)
    for row in range(SUBJECTS):
        old, new, lesions = untouched.image(row), filled.image(row), untouched.lesions(row)
        there = far & untouched.brain(row)
        slope, start = np.polyfit(old[there], new[there], 1)  # normalised once more
        np.testing.assert_allclose(new[there], slope * old[there] + start, atol=1e-3)
        assert slope == pytest.approx(1, abs=0.1)
        if lesions.sum() > 50:
            assert new[lesions].mean() < old[lesions].mean() - 0.5
    np.testing.assert_array_equal(
        filled.lesions(0), untouched.lesions(0)
    )  # the mask still says where they were


def test_controls_are_filled_at_the_sites_of_a_patient_of_their_part(pair):
    untouched, filled = pair
    table = untouched.table
    for row in np.flatnonzero(table["label"] == 0):
        rest = filled.image(row) - untouched.image(row)
        moved = np.abs(rest) > 0.1
        assert moved.any()
        same = table["part"] == table["part"].iloc[row]
        reached = {
            name: max(
                (moved & untouched.lesions(donor)).sum()
                for donor in np.flatnonzero((table["label"] == 1) & voxels)
            )
            for name, voxels in (("same", same), ("other", ~same))
        }
        assert reached["same"] > reached["other"]
    shares = filled_cohort.changed(untouched, filled).set_index("group")["mean"]
    assert 0.2 < shares["HC"] / shares["MS"] < 5


def test_every_donor_of_the_part_is_drawn_and_the_same_one_for_the_same_name_and_seed():
    def draws(seed):
        matched = filled_cohort.Matched("cohort.h5", {"training": [4, 7, 9]}, seed=seed)
        rows = [{"participant_id": f"sub-{number}", "session_id": ""} for number in range(60)]
        return [matched._draw([4, 7, 9], row) for row in rows]

    counts = {donor: draws(0).count(donor) for donor in (4, 7, 9)}
    assert min(counts.values()) > 10
    assert draws(0) == draws(0)
    assert draws(0) != draws(1)


@pytest.mark.long(reason="fills four more scans, 3 s each; the draws are quick")
@pytest.mark.parametrize(("seed", "equal"), [(0, True), (1, False)])
def test_the_same_seed_gives_the_same_arrays_and_another_seed_others(pair, tmp_path, seed, equal):
    untouched, filled = pair
    filled_cohort.prepared_filled(untouched, tmp_path / "again.h5", "noise", seed=seed)
    again = prepared.Prepared(tmp_path / "again.h5")
    same = [np.array_equal(again.image(row), filled.image(row)) for row in range(SUBJECTS)]
    assert all(same) is equal


def test_a_filler_reaches_another_process_as_it_is():
    matched = filled_cohort.Matched("cohort.h5", {"training": [1, 2]}, "constant", seed=3)
    assert pickle.loads(pickle.dumps(matched)) == matched


@pytest.mark.parametrize(("subjects", "expected"), [(10, 1), (11, 2)])
def test_few_further_subjects_start_no_second_process(monkeypatch, where, subjects, expected):
    given = []
    monkeypatch.setattr(
        filled_cohort, "prepared_filled", lambda *_, jobs, **options: given.append(jobs)
    )
    monkeypatch.setattr(filled_cohort, "Prepared", lambda *paths: paths)
    few = SimpleNamespace(table=pd.DataFrame(index=range(subjects)))
    filled_cohort.further(where, few, "small", {"b": trials("noise")}, jobs=2)
    assert given == [expected]


def test_later_steps_get_the_filled_arrays_and_refuse_old_ones(where, pair, tmp_path):
    assert where.require_prepared("small", "noise") == pair[1].path
    assert (
        filled_cohort.arrays(where, "small", {"a": trials("none"), "b": trials("noise")})["b"].path
        == pair[1].path
    )
    with pytest.raises(MissingStepError, match="expected the result of 01b_lesion_filling"):
        where.require_prepared("small", "constant")
    record = where.record("small", "noise")
    before = record.read_text()
    content = json.loads(before)
    content["inputs"] = {name: "0" * 64 for name in content["inputs"]}
    record.write_text(json.dumps(content))
    with pytest.raises(StaleInputError):
        where.require_prepared("small", "noise")
    record.write_text(before)


def trials(how, count=2):
    return [(None, {"parameters": {"filling": how}}) for _ in range(count)]


def test_a_variant_is_filled_in_one_way():
    assert filled_cohort.fillings(
        {"a": trials("none"), "b": trials("noise"), "c": [(None, {"parameters": {}})]}
    ) == {"b": "noise"}
    with pytest.raises(ParameterError, match="variant a"):
        filled_cohort.fillings({"a": trials("none", 1) + trials("noise", 1)})


def test_without_any_mask_of_a_patient_nothing_is_filled_and_the_record_says_why(tmp_path):
    where = make(tmp_path, drop=[0, 1])
    filled, reason = filled_cohort.write(where, "small", "noise", RUN)
    assert filled is None
    assert reason == "no patient has a lesion mask"
    assert json.loads(where.record("small", "noise").read_text())["left_out"] == reason
    assert not where.prepared("small", "noise").exists()
    with pytest.raises(MissingStepError, match=reason):
        where.require_prepared("small", "noise")
    assert reason in region_tables._left_out(where, "small", "lesion-filled")
    with pytest.raises(ParameterError, match="Did you mean noise"):
        filled_cohort.write(where, "small", "nois", RUN)


def test_a_patient_without_a_mask_is_left_out_by_name_and_all_others_are_filled(tmp_path, pair):
    where = make(tmp_path, drop=[1])
    filled, reason = filled_cohort.write(where, "small", "noise", RUN)
    assert reason == ""
    untouched = prepared.Prepared(where.prepared("small"), where.split("small"))
    row = int(np.flatnonzero(untouched.table["label"] == 1)[1])
    name = untouched.table["participant_id"].iloc[row]
    assert filled_cohort.unfilled(filled) == [name]
    assert filled.table["participant_id"].tolist() == untouched.table["participant_id"].tolist()
    np.testing.assert_array_equal(filled.image(row), untouched.image(row))
    for part in ("training", "holdout", "all"):
        expected = [scan for scan in untouched.rows(part) if scan != row]
        assert filled.rows(part).tolist() == expected
    (other,) = np.flatnonzero((untouched.table["label"] == 1) & filled.table["part"].notna())
    np.testing.assert_array_equal(filled.image(other), pair[1].image(other))
    assert filled_cohort.changed(untouched, filled)["mean"].min() > 0
    assert filled_cohort.unfilled(pair[1]) == []
    assert pair[1].parameters == {"filling": "noise"}


def test_further_subjects_are_filled_as_the_variant_was(where, pair):
    untouched, filled = pair
    splits.write(
        untouched.table[["participant_id", "session_id", "part"]], where.split("small-further")
    )
    assert filled_cohort.further(where, None, "small", {"b": trials("noise")}) == {}
    by_variant = filled_cohort.further(
        where, untouched, "small", {"a": trials("none"), "b": trials("noise"), "c": trials("noise")}
    )
    assert set(by_variant) == {"b", "c"}
    assert by_variant["b"].path == by_variant["c"].path == where.prepared("small-further", "noise")
    np.testing.assert_array_equal(by_variant["b"].image(3), filled.image(3))
