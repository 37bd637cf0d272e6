"""BIDS folders and lists of scans as cohorts; each bad one is one error that names file or column."""

import json

import numpy as np
import pandas as pd
import pytest

from msxai.cohort import COLUMNS, from_bids, from_images, open_cohort
from msxai.errors import CohortError

PEOPLE = [
    {"participant_id": "sub-01", "group": "MS", "age": "41.5", "sex": "F", "site": "a", "edss": "2.5"},
    {"participant_id": "sub-02", "group": "HC", "age": "n/a", "sex": "M", "site": "b", "edss": "n/a"},
]


def _touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def _table(folder, people):
    folder.mkdir(exist_ok=True)
    names = list(dict.fromkeys(name for person in people for name in person))
    lines = ["\t".join(names)] + ["\t".join(person.get(name, "n/a") for name in names) for person in people]
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def bids(tmp_path):
    """Two subjects, one scan each; no masks."""
    folder = tmp_path / "study"
    _table(folder, PEOPLE)
    for name in ("sub-01", "sub-02"):
        _touch(folder / name / "anat" / f"{name}_FLAIR.nii.gz")
    return folder


def test_a_plain_dataset(bids):
    cohort = from_bids(bids)
    table = cohort.table
    assert tuple(table.columns) == COLUMNS
    assert (cohort.name, cohort.synthetic, cohort.modality) == ("study", False, "FLAIR")
    assert table["participant_id"].tolist() == ["sub-01", "sub-02"]
    assert table["session_id"].tolist() == ["", ""]
    assert table["image"].tolist() == [str(bids / name / "anat" / f"{name}_FLAIR.nii.gz") for name in ("sub-01", "sub-02")]
    assert table["label"].tolist() == [1, 0]
    assert table["group"].tolist() == ["MS", "HC"]
    assert table["brain_mask"].tolist() == table["lesion_mask"].tolist() == [None, None]
    np.testing.assert_equal(table["age"].to_numpy(), [41.5, np.nan])
    np.testing.assert_equal(table["edss"].to_numpy(), [2.5, np.nan])
    assert table["sex"].tolist() == ["F", "M"]


@pytest.mark.parametrize("column", ["age", "edss", "sex", "site"])
def test_a_missing_covariate_is_unknown(bids, column):
    _table(bids, [{name: value for name, value in person.items() if name != column} for person in PEOPLE])
    assert from_bids(bids).table[column].isna().all()


def test_identifiers_with_and_without_prefix(bids):
    _table(bids, [{**PEOPLE[0], "participant_id": "01"}, PEOPLE[1]])
    assert from_bids(bids).table["participant_id"].tolist() == ["sub-01", "sub-02"]


def test_identifiers_stay_text(tmp_path):
    _table(tmp_path, [{"participant_id": "007", "group": "MS"}])
    _touch(tmp_path / "sub-007" / "anat" / "sub-007_FLAIR.nii")
    assert from_bids(tmp_path).table["participant_id"].tolist() == ["sub-007"]


def test_masks_are_found_under_any_derivative(bids):
    brain = _touch(bids / "derivatives" / "hdbet" / "sub-01" / "anat" / "sub-01_desc-brain_mask.nii.gz")
    lesion = _touch(bids / "derivatives" / "lst" / "sub-01" / "anat" / "sub-01_space-MNI_label-lesion_mask.nii.gz")
    table = from_bids(bids).table
    assert table["brain_mask"].tolist() == [str(brain), None]
    assert table["lesion_mask"].tolist() == [str(lesion), None]


def test_masks_of_another_subject_or_session_are_not_taken(tmp_path):
    _table(tmp_path, [{"participant_id": "sub-1", "group": "MS"}, {"participant_id": "sub-10", "group": "HC"}])
    for name in ("sub-1", "sub-10"):
        for session in ("ses-1", "ses-10"):
            _touch(tmp_path / name / session / "anat" / f"{name}_{session}_FLAIR.nii.gz")
            _touch(tmp_path / "derivatives" / "m" / name / session / "anat" / f"{name}_{session}_desc-brain_mask.nii.gz")
    for row in from_bids(tmp_path).table.to_dict("records"):
        assert row["brain_mask"].endswith(f"/{row['participant_id']}_{row['session_id']}_desc-brain_mask.nii.gz")


def test_sessions_bring_their_own_ages(tmp_path):
    _table(tmp_path, [{"participant_id": "sub-1", "group": "AD", "age": "70"}])
    for session in ("ses-b", "ses-a", "ses-c"):
        _touch(tmp_path / "sub-1" / session / "anat" / f"sub-1_{session}_T1w.nii.gz")
    (tmp_path / "sub-1" / "sub-1_sessions.tsv").write_text("session_id\tage\nses-a\t71.5\nses-b\t73\n")
    table = from_bids(tmp_path, modality="T1w", patients="AD", controls="CN").table
    assert table["session_id"].tolist() == ["ses-a", "ses-b", "ses-c"]
    assert table["age"].tolist() == [71.5, 73, 70]  # the participants' table where the visit's age is not told


def test_the_scan_without_further_entities_is_taken(bids):
    _touch(bids / "sub-01" / "anat" / "sub-01_acq-fast_FLAIR.nii.gz")
    assert from_bids(bids).table["image"][0].endswith("sub-01_FLAIR.nii.gz")


def test_other_modalities_are_left_alone(bids):
    _touch(bids / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    assert len(from_bids(bids).table) == 2


def test_names_of_groups_and_their_column(bids):
    _table(bids, [{"participant_id": "sub-01", "diagnosis": "case"}, {"participant_id": "sub-02", "diagnosis": "0"}])
    table = from_bids(bids, patients="case", controls="0", label_column="diagnosis").table
    assert table["label"].tolist() == [1, 0]
    assert table["group"].tolist() == ["case", "0"]


def test_an_unknown_group_has_no_label(bids):
    _table(bids, [PEOPLE[0], {**PEOPLE[1], "group": "n/a"}])
    assert from_bids(bids).table["label"].isna().tolist() == [False, True]


def test_columns_of_our_own_names_cannot_come_from_the_table(bids):
    _table(bids, [{**person, "image": "elsewhere.nii", "label": "x", "brain_mask": "elsewhere.nii"} for person in PEOPLE])
    table = from_bids(bids).table
    assert table["label"].tolist() == [1, 0]
    assert table["image"].str.endswith("_FLAIR.nii.gz").all()
    assert table["brain_mask"].isna().all()


def test_a_table_saved_by_a_spreadsheet(bids):
    text = (bids / "participants.tsv").read_text()
    (bids / "participants.tsv").write_bytes(("\ufeff" + text.replace("\n", "\r\n")).encode())
    assert from_bids(bids).table["label"].tolist() == [1, 0]


@pytest.mark.parametrize(("content", "expected"), [({"Synthetic": True}, True), ({"Name": "x"}, False)])
def test_synthetic_as_the_description_says(bids, content, expected):
    (bids / "dataset_description.json").write_text(json.dumps(content))
    assert from_bids(bids).synthetic is expected


# What is refused


def _refused(call, *words):
    with pytest.raises(CohortError) as caught:
        call()
    for word in (*words, caught.value.mend):
        assert word in str(caught.value)


def test_no_folder(tmp_path):
    _refused(lambda: from_bids(tmp_path / "none"), str(tmp_path / "none"), "no such folder")


def test_no_table(tmp_path):
    _refused(lambda: from_bids(tmp_path), "participants.tsv", "no such file")


@pytest.mark.parametrize("content", [b"", b"participant_id\tgroup\n", b"\x89PNG\x00\xff\xfe\x00", b'participant_id\tgroup\nsub-01\t"MS\n'])
def test_a_table_that_is_none(bids, content):
    (bids / "participants.tsv").write_bytes(content)
    _refused(lambda: from_bids(bids), "participants.tsv" if not content.endswith(b"MS\n") else '"MS')


@pytest.mark.parametrize("column", ["participant_id", "group"])
def test_a_missing_column(bids, column):
    _table(bids, [{name: value for name, value in person.items() if name != column} for person in PEOPLE])
    _refused(lambda: from_bids(bids), "participants.tsv", f"column {column}")


def test_a_participant_twice(bids):
    _table(bids, [*PEOPLE, {**PEOPLE[1], "participant_id": "02"}])
    _refused(lambda: from_bids(bids), "participants.tsv", "column participant_id", "sub-02 twice")


def test_a_participant_without_identifier(bids):
    _table(bids, [*PEOPLE, {**PEOPLE[1], "participant_id": "n/a"}])
    _refused(lambda: from_bids(bids), "participants.tsv", "column participant_id")


def test_another_label(bids):
    _table(bids, [PEOPLE[0], {**PEOPLE[1], "group": "CIS"}])
    _refused(lambda: from_bids(bids), "participants.tsv", "column group", "CIS", "MS (patients)")


def test_patients_and_controls_of_one_name(bids):
    _refused(lambda: from_bids(bids, patients="MS", controls="MS"), "patients", "controls")


def test_a_missing_scan(bids):
    (bids / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz").unlink()
    _refused(lambda: from_bids(bids), "sub-02", "no FLAIR scan")


def test_two_scans(bids):
    (bids / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz").unlink()
    for run in (1, 2):
        _touch(bids / "sub-02" / "anat" / f"sub-02_run-{run}_FLAIR.nii.gz")
    _refused(lambda: from_bids(bids), "sub-02", "2 FLAIR scans", "run-1")


def test_a_scan_compressed_and_not(bids):
    _touch(bids / "sub-02" / "anat" / "sub-02_FLAIR.nii")
    _refused(lambda: from_bids(bids), "sub-02", "2 FLAIR scans")


def test_two_masks(bids):
    for tool in ("hdbet", "synthstrip"):
        _touch(bids / "derivatives" / tool / "sub-01" / "anat" / "sub-01_desc-brain_mask.nii.gz")
    _refused(lambda: from_bids(bids), "sub-01", "2 masks", "hdbet", "synthstrip")


@pytest.mark.parametrize("column", ["age", "edss"])
@pytest.mark.parametrize("value", ["forty", "41,5", "inf"])
def test_a_covariate_that_is_no_number(bids, column, value):
    _table(bids, [{**PEOPLE[0], column: value}, PEOPLE[1]])
    _refused(lambda: from_bids(bids), "participants.tsv", f"column {column}", value)


def test_a_broken_description(bids):
    (bids / "dataset_description.json").write_text("{ half")
    _refused(lambda: from_bids(bids), "dataset_description.json")


# Plain lists


def test_a_list_of_scans(tmp_path):
    paths = [_touch(tmp_path / name) for name in ("patient19_FLAIR.nii.gz", "patient07_FLAIR.nii")]
    masks = [_touch(tmp_path / name) for name in ("m19.nii.gz", "m07.nii.gz")]
    table = from_images(paths, masks).table
    assert tuple(table.columns) == COLUMNS
    assert table["participant_id"].tolist() == ["sub-patient07", "sub-patient19"]
    assert table["image"].tolist() == [str(paths[1]), str(paths[0])]
    assert table["lesion_mask"].tolist() == [str(masks[1]), str(masks[0])]
    for column in ("label", "age", "edss", "group", "sex", "site"):
        assert table[column].isna().all()
    assert from_images(paths).table["lesion_mask"].tolist() == [None, None]


def test_a_list_that_cannot_be_used(tmp_path):
    scan = _touch(tmp_path / "a_FLAIR.nii.gz")
    other = _touch(tmp_path / "b" / "a_FLAIR.nii.gz")
    _refused(lambda: from_images([scan], [scan, scan]), "lesion_masks", "2 masks")
    _refused(lambda: from_images([tmp_path / "none.nii"]), "images", "none.nii")
    _refused(lambda: from_images([scan], [tmp_path / "none.nii"]), "lesion_masks", "none.nii")
    _refused(lambda: from_images([scan, other]), "images", "two scans of sub-a")


def test_open_cohort_takes_either(bids, tmp_path):
    scan = _touch(tmp_path / "x.nii.gz")
    assert open_cohort(bids).name == "study"
    assert open_cohort(None, images=[str(scan)], name="data/mine").name == "mine"
    assert isinstance(open_cohort(bids).table, pd.DataFrame)
