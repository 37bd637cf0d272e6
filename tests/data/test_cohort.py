"""BIDS folders, tables, YAML and lists as cohorts; each fault is an error that names its place."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import msxai
from msxai.base.errors import CohortError, ParameterError
from msxai.data.cohorts import identifiers
from msxai.data.cohorts.cohort import COLUMNS, from_adni, from_images, open_cohort, watched

PEOPLE = [
    {
        "participant_id": "sub-01",
        "group": "MS",
        "age": "41.5",
        "sex": "F",
        "site": "a",
        "edss": "2.5",
    },
    {
        "participant_id": "sub-02",
        "group": "HC",
        "age": "n/a",
        "sex": "M",
        "site": "b",
        "edss": "n/a",
    },
]


def _touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def _table(folder, people):
    folder.mkdir(exist_ok=True)
    names = list(dict.fromkeys(name for person in people for name in person))
    lines = ["\t".join(names)] + [
        "\t".join(person.get(name, "n/a") for name in names) for person in people
    ]
    (folder / "participants.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def bids(tmp_path):
    """Two subjects, one scan each; no masks."""
    folder = tmp_path / "study"
    _table(folder, PEOPLE)
    for name in ("sub-01", "sub-02"):
        _touch(folder / name / "anat" / f"{name}_FLAIR.nii.gz")
    return folder


def test_a_dataset_is_listed_once_however_many_people_it_has(tmp_path, monkeypatch):
    """10,000 people took seven minutes, because each was looked for among all."""
    count = 40
    people = [PEOPLE[0] | {"participant_id": str(number)} for number in range(1, count + 1)]
    _table(tmp_path, people)
    for number in range(1, count + 1):
        name = f"sub-{number:03}"
        _touch(tmp_path / name / "anat" / f"{name}_FLAIR.nii.gz")
    listings = []
    compared = []
    glob = Path.glob
    key = identifiers._key

    def counted(folder, pattern):
        listings.append(pattern)
        return glob(folder, pattern)

    monkeypatch.setattr(Path, "glob", counted)
    monkeypatch.setattr(identifiers, "_key", lambda name: compared.append(name) or key(name))
    table = open_cohort(tmp_path).table
    assert table["participant_id"].tolist() == [f"sub-{number:03}" for number in range(1, 41)]
    assert listings.count("sub-*") == 1
    assert len(compared) <= 3 * count


def test_a_plain_dataset(bids):
    cohort = open_cohort(bids)
    table = cohort.table
    assert tuple(table.columns) == COLUMNS
    assert (cohort.name, cohort.synthetic, cohort.modality) == ("study", False, "FLAIR")
    assert table["participant_id"].tolist() == ["sub-01", "sub-02"]
    assert table["session_id"].tolist() == ["", ""]
    assert table["image"].tolist() == [
        str(bids / name / "anat" / f"{name}_FLAIR.nii.gz") for name in ("sub-01", "sub-02")
    ]
    assert table["label"].tolist() == [1, 0]
    assert table["group"].tolist() == ["MS", "HC"]
    assert table["brain_mask"].tolist() == table["lesion_mask"].tolist() == [None, None]
    np.testing.assert_equal(table["age"].to_numpy(), [41.5, np.nan])
    np.testing.assert_equal(table["edss"].to_numpy(), [2.5, np.nan])
    assert table["sex"].tolist() == ["F", "M"]


@pytest.mark.parametrize("column", ["age", "edss", "sex", "site"])
def test_a_missing_covariate_is_unknown(bids, column):
    _table(
        bids,
        [{name: value for name, value in person.items() if name != column} for person in PEOPLE],
    )
    assert open_cohort(bids).table[column].isna().all()


def test_identifiers_with_and_without_prefix(bids):
    _table(bids, [{**PEOPLE[0], "participant_id": "01"}, PEOPLE[1]])
    assert open_cohort(bids).table["participant_id"].tolist() == ["sub-01", "sub-02"]


def test_identifiers_stay_text(tmp_path):
    _table(tmp_path, [{"participant_id": "007", "group": "MS"}])
    _touch(tmp_path / "sub-007" / "anat" / "sub-007_FLAIR.nii")
    assert open_cohort(tmp_path).table["participant_id"].tolist() == ["sub-007"]


def test_masks_are_found_under_any_derivative(bids):
    brain = _touch(
        bids / "derivatives" / "hdbet" / "sub-01" / "anat" / "sub-01_desc-brain_mask.nii.gz"
    )
    lesion = _touch(
        bids
        / "derivatives"
        / "lst"
        / "sub-01"
        / "anat"
        / "sub-01_space-MNI_label-lesion_mask.nii.gz"
    )
    table = open_cohort(bids).table
    assert table["brain_mask"].tolist() == [str(brain), None]
    assert table["lesion_mask"].tolist() == [str(lesion), None]


def test_a_mask_may_lack_the_scans_further_entities(tmp_path):
    """One named for the visit alone is taken where there is none with the scan's own entities."""
    (tmp_path / "participants.tsv").write_text("participant_id\tgroup\nsub-01\tMS\nsub-02\tHC\n")
    for name in ("01", "02"):
        _touch(tmp_path / f"sub-{name}" / "anat" / f"sub-{name}_acq-3d_FLAIR.nii.gz")
    masks = tmp_path / "derivatives" / "reader"
    whole = _touch(masks / "sub-01" / "anat" / "sub-01_acq-3d_label-lesion_mask.nii.gz")
    _touch(masks / "sub-01" / "anat" / "sub-01_label-lesion_mask.nii.gz")
    short = _touch(masks / "sub-02" / "anat" / "sub-02_label-lesion_mask.nii.gz")
    assert open_cohort(tmp_path).table["lesion_mask"].tolist() == [str(whole), str(short)]


def test_masks_of_another_subject_or_session_are_not_taken(tmp_path):
    _table(
        tmp_path,
        [{"participant_id": "sub-1", "group": "MS"}, {"participant_id": "sub-10", "group": "HC"}],
    )
    for name in ("sub-1", "sub-10"):
        for session in ("ses-1", "ses-10"):
            _touch(tmp_path / name / session / "anat" / f"{name}_{session}_FLAIR.nii.gz")
            _touch(
                tmp_path
                / "derivatives"
                / "m"
                / name
                / session
                / "anat"
                / f"{name}_{session}_desc-brain_mask.nii.gz"
            )
    for row in open_cohort(tmp_path).table.to_dict("records"):
        assert row["brain_mask"].endswith(
            f"/{row['participant_id']}_{row['session_id']}_desc-brain_mask.nii.gz"
        )


def test_sessions_bring_their_own_ages(tmp_path):
    _table(tmp_path, [{"participant_id": "sub-1", "group": "AD", "age": "70"}])
    for session in ("ses-b", "ses-a", "ses-c"):
        _touch(tmp_path / "sub-1" / session / "anat" / f"sub-1_{session}_T1w.nii.gz")
    (tmp_path / "sub-1" / "sub-1_sessions.tsv").write_text(
        "session_id\tage\nses-a\t71.5\nses-b\t73\n"
    )
    table = open_cohort(tmp_path, modality="T1w", patients="AD", controls="CN").table
    assert table["session_id"].tolist() == ["ses-a", "ses-b", "ses-c"]
    assert table["age"].tolist() == [
        71.5,
        73,
        70,
    ]  # the participants' table where the visit's age is not told


def test_the_scan_without_further_entities_is_taken(bids):
    _touch(bids / "sub-01" / "anat" / "sub-01_acq-fast_FLAIR.nii.gz")
    assert open_cohort(bids).table["image"][0].endswith("sub-01_FLAIR.nii.gz")


def test_other_modalities_are_left_alone(bids):
    _touch(bids / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    assert len(open_cohort(bids).table) == 2


def test_names_of_groups_and_their_column(bids):
    _table(
        bids,
        [
            {"participant_id": "sub-01", "diagnosis": "case"},
            {"participant_id": "sub-02", "diagnosis": "0"},
        ],
    )
    table = open_cohort(bids, patients="case", controls="0", label_column="diagnosis").table
    assert table["label"].tolist() == [1, 0]
    assert table["group"].tolist() == ["case", "0"]


def test_an_unknown_group_has_no_label(bids):
    _table(bids, [PEOPLE[0], {**PEOPLE[1], "group": "n/a"}])
    assert open_cohort(bids).table["label"].isna().tolist() == [False, True]


def test_columns_of_our_own_names_cannot_come_from_the_table(bids):
    _table(
        bids,
        [
            {**person, "image": "elsewhere.nii", "label": "x", "brain_mask": "elsewhere.nii"}
            for person in PEOPLE
        ],
    )
    table = open_cohort(bids).table
    assert table["label"].tolist() == [1, 0]
    assert table["image"].str.endswith("_FLAIR.nii.gz").all()
    assert table["brain_mask"].isna().all()


def test_a_table_saved_by_a_spreadsheet(bids):
    text = (bids / "participants.tsv").read_text()
    (bids / "participants.tsv").write_bytes(("\ufeff" + text.replace("\n", "\r\n")).encode())
    assert open_cohort(bids).table["label"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("content", "expected"), [({"Synthetic": True}, True), ({"Name": "x"}, False)]
)
def test_synthetic_as_the_description_says(bids, content, expected):
    (bids / "dataset_description.json").write_text(json.dumps(content))
    assert open_cohort(bids).synthetic is expected


@pytest.mark.parametrize("value", ['"false"', '"no"', '"False"', '"true"', "0", "1", "[]", "null"])
def test_synthetic_is_true_or_false_alone(bids, value):
    (bids / "dataset_description.json").write_text(f'{{"Synthetic": {value}}}')
    where = "dataset_description.json, key Synthetic"
    _refused(lambda: open_cohort(bids), where, f"found {value};", "true (the data are simulated)")


def test_synthetic_is_said_once(bids):
    (bids / "dataset_description.json").write_text('{"Synthetic": true, "Synthetic": false}')
    _refused(lambda: open_cohort(bids), "dataset_description.json", "the key Synthetic twice")
    (bids / "dataset_description.json").write_text('{"Synthetic": true, "Name": "a", "Name": "b"}')
    assert open_cohort(bids).synthetic


# What is refused


def _refused(call, *words):
    with pytest.raises(CohortError) as caught:
        call()
    for word in (*words, caught.value.mend):
        assert word in str(caught.value)


def test_no_folder(tmp_path):
    _refused(lambda: open_cohort(tmp_path / "none"), str(tmp_path / "none"), "no such folder")


def test_no_table(tmp_path):
    _refused(lambda: open_cohort(tmp_path), "participants.tsv", "no such file")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"participant_id\tgroup\n",
        b"\x89PNG\x00\xff\xfe\x00",
        b'participant_id\tgroup\nsub-01\t"MS\n',
    ],
)
def test_a_table_that_is_none(bids, content):
    (bids / "participants.tsv").write_bytes(content)
    _refused(
        lambda: open_cohort(bids), "participants.tsv" if not content.endswith(b"MS\n") else '"MS'
    )


@pytest.mark.parametrize("column", ["participant_id", "group"])
def test_a_missing_column(bids, column):
    _table(
        bids,
        [{name: value for name, value in person.items() if name != column} for person in PEOPLE],
    )
    _refused(lambda: open_cohort(bids), "participants.tsv", f"column {column}")


def test_a_participant_twice(bids):
    _table(bids, [*PEOPLE, {**PEOPLE[1], "participant_id": "02"}])
    _refused(lambda: open_cohort(bids), "participants.tsv", "column participant_id", "sub-02 twice")


def test_a_participant_without_identifier(bids):
    _table(bids, [*PEOPLE, {**PEOPLE[1], "participant_id": "n/a"}])
    _refused(lambda: open_cohort(bids), "participants.tsv", "column participant_id")


def test_another_label(bids):
    _table(bids, [PEOPLE[0], {**PEOPLE[1], "group": "CIS"}])
    _refused(lambda: open_cohort(bids), "participants.tsv", "column group", "CIS", "MS (patients)")


def test_patients_and_controls_of_one_name(bids):
    _refused(lambda: open_cohort(bids, patients="MS", controls="MS"), "patients", "controls")


def test_a_missing_scan(bids):
    (bids / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz").unlink()
    _refused(lambda: open_cohort(bids), "sub-02", "no FLAIR scan")


def test_two_scans(bids):
    (bids / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz").unlink()
    for run in (1, 2):
        _touch(bids / "sub-02" / "anat" / f"sub-02_run-{run}_FLAIR.nii.gz")
    _refused(lambda: open_cohort(bids), "sub-02", "2 FLAIR scans", "run-1")


def test_scans_are_named_in_order_whatever_the_order_on_disk(bids, monkeypatch):
    (bids / "sub-02" / "anat" / "sub-02_FLAIR.nii.gz").unlink()
    for run in (1, 2, 3):
        _touch(bids / "sub-02" / "anat" / f"sub-02_run-{run}_FLAIR.nii.gz")
    listed = Path.glob

    def backwards(folder, pattern):
        return sorted(listed(folder, pattern), reverse=True)

    monkeypatch.setattr(Path, "glob", backwards)
    names = ", ".join(f"sub-02_run-{run}_FLAIR.nii.gz" for run in (1, 2, 3))
    _refused(lambda: open_cohort(bids), f"3 FLAIR scans: {names}")


def test_a_scan_compressed_and_not(bids):
    _touch(bids / "sub-02" / "anat" / "sub-02_FLAIR.nii")
    _refused(lambda: open_cohort(bids), "sub-02", "2 FLAIR scans")


def test_two_masks(bids):
    for tool in ("hdbet", "synthstrip"):
        _touch(bids / "derivatives" / tool / "sub-01" / "anat" / "sub-01_desc-brain_mask.nii.gz")
    _refused(lambda: open_cohort(bids), "sub-01", "2 masks", "hdbet", "synthstrip")


@pytest.mark.parametrize("column", ["age", "edss"])
@pytest.mark.parametrize("value", ["forty", "4,1,5", "inf", "-999"])
def test_a_covariate_that_is_no_number(bids, column, value):
    _table(bids, [{**PEOPLE[0], column: value}, PEOPLE[1]])
    _refused(lambda: open_cohort(bids), "participants.tsv", f"column {column}", value)


def test_a_description_that_is_deep_or_a_folder(bids):
    (bids / "dataset_description.json").write_text("[" * 100_000)
    _refused(lambda: open_cohort(bids), "dataset_description.json", "brackets in one another")
    (bids / "dataset_description.json").unlink()
    (bids / "dataset_description.json").mkdir()
    _refused(lambda: open_cohort(bids), "dataset_description.json", "found a folder")


def test_a_broken_description(bids):
    (bids / "dataset_description.json").write_text("{ half")
    _refused(lambda: open_cohort(bids), "dataset_description.json")


@pytest.mark.parametrize("label_column", [None, ["group"], 3])
def test_a_label_column_is_one_name(scans, bids, label_column):
    (scans / "mine.csv").write_text(CSV)
    for source in (bids, scans / "mine.csv"):
        with pytest.raises(ParameterError, match="parameter label_column: found") as caught:
            open_cohort(source, label_column=label_column)
        assert "expected the name of one column" in str(caught.value)


def test_a_long_cell_or_a_long_header_makes_a_short_error(scans):
    long = "x" * 100_000
    cells = [(",image", f",{long}"), ("61", long), ("HC", long), ("C-12", "-" * 100_000)]
    for old, new in cells:
        with pytest.raises(CohortError) as caught:
            _csv(scans, old, new)()
        assert len(str(caught.value)) < 1000, old
    header, row = CSV.split("\n")[:2]
    (scans / "mine.csv").write_text(
        header.replace(",image", ",path")
        + "".join(f",c{number}" for number in range(2000))
        + "\n"
        + row
        + "," * 2000
        + "\n"
    )
    _refused(lambda: open_cohort(scans / "mine.csv"), "c19", "and 1980 others")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "C-12",
            "c" * 101,
            ["column participant_id", "an identifier of 101 letters", "100 at most"],
        ),
        ("year1", "y" * 41, ["column session_id", "an identifier of 41 letters", "40 at most"]),
    ],
)
def test_an_identifier_that_no_file_name_holds_is_refused(scans, old, new, words):
    _refused(_csv(scans, old, new), *words)
    assert len(_csv(scans, old, new[1:])().table) == 4


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


def test_a_list_from_a_simulated_dataset_is_simulated(tmp_path):
    """At any depth; a derivative's own description, and a broken one, change nothing."""
    scan = _touch(tmp_path / "derivatives" / "stripped" / "sub-1" / "a_FLAIR.nii.gz")
    assert not from_images([scan]).synthetic
    (tmp_path / "dataset_description.json").write_text('{"Synthetic": true}')
    assert from_images([scan]).synthetic
    (scan.parents[1] / "dataset_description.json").write_text('{"Name": "stripped"}')
    (scan.parents[2] / "dataset_description.json").write_text("broken")
    assert from_images([scan]).synthetic
    (tmp_path / "dataset_description.json").write_text('{"Synthetic": false}')
    assert not from_images([scan]).synthetic


def test_a_list_that_cannot_be_used(tmp_path):
    scan = _touch(tmp_path / "a_FLAIR.nii.gz")
    other = _touch(tmp_path / "b" / "a_FLAIR.nii.gz")
    _refused(lambda: from_images([scan], [scan, scan]), "lesion_masks", "2 lesion masks")
    _refused(lambda: from_images([tmp_path / "none.nii"]), "images", "none.nii")
    _refused(lambda: from_images([scan], [tmp_path / "none.nii"]), "lesion_masks", "none.nii")
    _refused(lambda: from_images([scan], brain_masks=[scan] * 3), "brain_masks", "3 brain masks")
    _refused(lambda: from_images([scan, other]), "images", "two scans of sub-a")


def test_a_list_makes_identifiers_of_letters_and_digits(tmp_path):
    scans = [_touch(tmp_path / "a name_FLAIR.nii.gz"), _touch(tmp_path / "<b>.nii")]
    cohort = from_images(scans)
    assert cohort.table["participant_id"].tolist() == ["sub-aname", "sub-b"]
    assert cohort.notes == ("parameter images: 'sub-<b>' is read as sub-b (rows alike: 1)",)


LONG = "a" * 300


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"{LONG}.nii", ["aaaa...", "that the disk takes"]),
        ("a/" * 3000, ["a/a/", "that the disk takes"]),
        ("~nosuchuser/a.nii", ["(~nosuchuser)", "without ~"]),
    ],
    ids=["name", "path", "user"],
)
def test_a_path_that_cannot_be_one_is_one_error(scans, path, words):
    (scans / "mine.csv").write_text(CSV.replace("scans/c.nii.gz", path))
    _refused(lambda: open_cohort(scans / "mine.csv"), "mine.csv, column image", *words)
    (scans / "mine.csv").write_text(CSV.replace("scans/c.nii.gz", path.replace("/", "\\")))
    _refused(lambda: open_cohort(scans / "mine.csv"), "mine.csv, column image")
    (scans / "mine.yaml").write_text(f"path: {path}\n")
    _refused(lambda: open_cohort(scans / "mine.yaml"), "mine.yaml, key path", *words)
    _refused(lambda: watched(scans / "mine.yaml"), "mine.yaml, key path", *words)
    for call in (open_cohort, watched, from_adni, lambda path: from_images([path])):
        with pytest.raises(ParameterError) as caught:
            call(path)
        for word in (*words, caught.value.mend):
            assert word in str(caught.value)


def test_open_cohort_takes_either(bids, tmp_path):
    scan = _touch(tmp_path / "x.nii.gz")
    assert open_cohort(bids).name == "study"
    assert from_images([str(scan)], name="data/mine").name == "mine"
    assert isinstance(open_cohort(bids).table, pd.DataFrame)


# The FLAIR beside a T1, and what else a visit tells


def test_the_flair_beside_a_t1(tmp_path):
    _table(tmp_path, PEOPLE)
    for name in ("sub-01", "sub-02"):
        _touch(tmp_path / name / "anat" / f"{name}_T1w.nii.gz")
    flair = _touch(tmp_path / "sub-01" / "anat" / "sub-01_acq-3d_FLAIR.nii.gz")
    for run in (1, 2):
        _touch(tmp_path / "sub-02" / "anat" / f"sub-02_run-{run}_FLAIR.nii")
    cohort = open_cohort(tmp_path, "T1w")
    assert cohort.table["flair"].tolist() == [str(flair), None]
    assert cohort.notes == ("sub-02: 2 FLAIR scans, none of them used beside sub-02_T1w.nii.gz",)
    assert open_cohort(_with_flair(tmp_path)).table["flair"].tolist() == [None, None]


def _with_flair(folder):
    for run in (1, 2):
        (folder / "sub-02" / "anat" / f"sub-02_run-{run}_FLAIR.nii").unlink()
    _touch(folder / "sub-02" / "anat" / "sub-02_FLAIR.nii")
    return folder


def test_sites_and_scanners_of_visits(tmp_path):
    _table(tmp_path, [{**PEOPLE[0], "scanner": "old"}])
    for session in ("ses-1", "ses-2"):
        _touch(tmp_path / "sub-01" / session / "anat" / f"sub-01_{session}_FLAIR.nii")
    (tmp_path / "sub-01" / "sub-01_sessions.tsv").write_text(
        "session_id\tsite\tscanner\nses-2\tb\tnew\n"
    )
    table = open_cohort(tmp_path).table
    assert table["site"].tolist() == ["a", "b"]
    assert table["scanner"].tolist() == ["old", "new"]
    assert table["age"].tolist() == [41.5, 41.5]
    (tmp_path / "sub-01" / "sub-01_sessions.tsv").write_text("session\tsite\nses-2\tb\n")
    _refused(lambda: open_cohort(tmp_path), "sub-01_sessions.tsv, column session_id")


def test_notes_say_who_is_not_read_and_who_has_no_group(bids):
    _touch(bids / "sub-99" / "anat" / "sub-99_FLAIR.nii.gz")
    _table(bids, [PEOPLE[0], {**PEOPLE[1], "group": "n/a"}])
    assert open_cohort(bids).notes == (
        "1 folders of people who are not in participants.tsv are not read: sub-99",
        "1 participants without a group: prepared, neither trained on nor scored",
    )


# Tables of paths

CSV = """participant_id,session_id,group,image,lesion_mask,age,sex,site,scanner,edss
MS_07,year1,MS,scans/b.nii.gz,,42.6,F,A,"Skyra, new",3
sub-MS_07,baseline,MS,scans/a.nii.gz,scans/m.nii.gz,NA,F,A,Skyra,2.5
C-12,,HC,scans/c.nii.gz,,61,M,B,,
9,,n/a,scans/d.nii.gz,,n/a,,,,
"""


@pytest.fixture
def scans(tmp_path):
    for name in "abcdm":
        _touch(tmp_path / "scans" / f"{name}.nii.gz")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "form"), [("mine.csv", ","), ("mine.csv", ";"), ("mine.tsv", "\t")]
)
def test_a_table_of_paths(scans, name, form):
    text = CSV.replace('"Skyra, new"', "Skyra new") if form != "," else CSV
    text = text.replace("NA", "n/a").replace(",", form) if form != "," else text
    (scans / name).write_text("\ufeff" + text, newline="\r\n", encoding="utf-8")
    cohort = open_cohort(scans / name)
    table = cohort.table
    assert cohort.name == "mine"
    assert tuple(table.columns) == COLUMNS
    assert table["participant_id"].tolist() == ["sub-9", "sub-C12", "sub-MS07", "sub-MS07"]
    assert table["session_id"].tolist() == ["", "", "ses-baseline", "ses-year1"]
    assert table["image"].tolist() == [str(scans / "scans" / f"{name}.nii.gz") for name in "dcab"]
    assert table["lesion_mask"].tolist() == [None, None, str(scans / "scans" / "m.nii.gz"), None]
    assert table["label"].fillna(-1).tolist() == [-1, 0, 1, 1]
    np.testing.assert_equal(table["age"].to_numpy(), [np.nan, 61, np.nan, 42.6])
    assert table["scanner"].tolist()[2:] == ["Skyra", "Skyra, new" if form == "," else "Skyra new"]
    assert cohort.notes == (
        "1 participants without a group: prepared, neither trained on nor scored",
    )


def _csv(scans, old, new):
    (scans / "mine.csv").write_text(CSV.replace(old, new))
    return lambda: open_cohort(scans / "mine.csv")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (",image", ",path", ["mine.csv, column image", "only the columns participant_id"]),
        (",group", ",diagnosis", ["mine.csv, column group", "label_column"]),
        (
            "scans/c",
            "scans/none",
            ["mine.csv, column image", "none.nii.gz, which is not there", "starts at the table"],
        ),
        ("scans/m", "scans/none", ["mine.csv, column lesion_mask", "none.nii.gz"]),
        ("scans/c.nii.gz", "", ["mine.csv, column image", "no path for sub-C12"]),
        ("HC", "PPMS", ["mine.csv, column group", "PPMS", "HC (controls)"]),
        ("year1,MS", "year1,HC", ["mine.csv, column group", "two groups of sub-MS07"]),
        ("year1,MS", "year1,NA", ["mine.csv, column group", "two groups of sub-MS07"]),
        ("year1", "baseline", ["mine.csv", "two scans of sub-MS07", "by their sessions"]),
        ("61", "sixty", ["mine.csv, column age", "sixty"]),
        ("C-12", "MS07_", ["mine.csv, column participant_id", "MS07_ and MS_07"]),
        ("C-12", "__", ["mine.csv, column participant_id", "'__'", "letters and digits"]),
        ("C-12", "", ["mine.csv, column participant_id", "a row without identifier"]),
        ("scans/c.nii.gz,,61,M,B,,", "scans/c.nii.gz,,61,M,B,,,", ["mine.csv", "no table"]),
        ("C-12", '"C-12', ["mine.csv", "no table"]),
        (CSV[CSV.index("\n") + 1 :], "", ["mine.csv", "no rows"]),
        (CSV, "", ["mine.csv", "no table"]),
    ],
)
def test_a_table_of_paths_that_cannot_be_used(scans, old, new, words):
    _refused(_csv(scans, old, new), *words)


def test_a_table_in_another_encoding(scans):
    (scans / "mine.csv").write_bytes(CSV.replace("Skyra,", "Zürich,").encode("latin-1"))
    _refused(lambda: open_cohort(scans / "mine.csv"), "mine.csv", "UTF-8")
    _refused(lambda: open_cohort(scans / "none.csv"), "none.csv", "no such file")


# A cohort's YAML


def test_a_yaml_names_a_table(scans):
    (scans / "mine.csv").write_text(
        CSV.replace("HC", "NO").replace(",group", ",diagnosis").replace(",MS,", ",1,")
    )
    (scans / "sub").mkdir()
    (scans / "sub" / "study.yaml").write_text(
        "path: ../mine.csv\nlabel_column: diagnosis\npatients: 1\ncontrols: NO  # no boolean\n"
    )
    cohort = open_cohort(scans / "sub" / "study.yaml", "T1w", "AD", "HC", "group")
    assert (cohort.name, cohort.modality) == ("study", "T1w")
    assert cohort.table["label"].fillna(-1).tolist() == [-1, 0, 1, 1]
    assert watched(scans / "sub" / "study.yaml") == [
        scans / "sub" / "study.yaml",
        scans / "sub" / ".." / "mine.csv",
    ]


def test_a_yaml_names_a_dataset(bids):
    path = bids.parent / "other.yml"
    path.write_text("kind: bids\npath: study\nmodality: T1w\n")
    _refused(lambda: open_cohort(path), "no T1w scan")
    path.write_text("path: study\n")
    assert open_cohort(path).table.equals(open_cohort(bids).table)
    assert open_cohort(path).name == "other"
    assert watched(path)[1:] == [bids / "participants.tsv"] == watched(bids)
    assert watched("phantom-ms-none") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path: mine.csv\npatient: MS\n", ["mine.yaml", "patient", "Did you mean patients?"]),
        ("pth: mine.csv\n", ["mine.yaml", "pth", "Did you mean path?"]),
        ("kind: adn\npath: mine.csv\n", ["mine.yaml", "'adn'", "Did you mean adni?"]),
        ("path: mine.csv\nconversions: exclude\n", ["mine.yaml", "conversions", "label_column"]),
        ("path: mine.csv\npath: other.csv\n", ["mine.yaml", "key path in lines 1 and 2"]),
        (
            "path: mine.csv\npatients: MS\ncontrols: HC\npatients: HC\ncontrols: MS\n",
            ["mine.yaml", "the key patients in lines 2 and 4"],
        ),
        ("path: mine.csv\n'path': other.csv\n", ["mine.yaml", "key path in lines 1 and 2"]),
        (f"path: {'[' * 3000}{']' * 3000}\n", ["mine.yaml", "no YAML", "brackets in one another"]),
        (f"{'{' * 5000}\n", ["mine.yaml", "no YAML", "brackets in one another"]),
        ("path: mine.yaml\n", ["mine.yaml, key path", "the path of a YAML", "the folder or table"]),
        ("path: other.YML\n", ["mine.yaml, key path", "the path of a YAML", "the folder or table"]),
        ("path: mine.csv\nmodality: bananas\n", ["modality in", "'bananas'", "FLAIR, T1w"]),
        ("path: mine.csv\nmodality:\n", ["modality in", "mine.yaml", "''", "FLAIR, T1w"]),
        ("path: mine.csv\nkind: adni\nmodality: t1w\n", ["modality in", "'t1w'", "FLAIR, T1w"]),
        ("path: mine.csv\nmodality: [T1w]\n", ["mine.yaml, key modality", "['T1w']"]),
        ("? [path]\n: mine.csv\n", ["mine.yaml", "no YAML", "unhashable key"]),
        ("path: [mine.csv\n", ["mine.yaml", "no YAML", "line 2"]),
        ("- mine.csv\n", ["mine.yaml", "no path"]),
        ("", ["mine.yaml", "no path"]),
        ("path: nowhere\n", ["nowhere", "no such folder"]),
        ("path: nowhere.csv\n", ["nowhere.csv", "no such file"]),
    ],
)
def test_a_yaml_that_cannot_be_used(scans, text, words):
    (scans / "mine.csv").write_text(CSV)
    (scans / "mine.yaml").write_text(text)
    with pytest.raises((CohortError, ParameterError)) as caught:
        open_cohort(scans / "mine.yaml")
    for word in (*words, caught.value.mend):
        assert word in str(caught.value)


@pytest.mark.parametrize("last", ["*f", "{? [*f] : x, ? [*f] : y}"], ids=["a value", "a key"])
def test_nested_aliases_of_a_yaml_make_a_short_error(scans, last):
    """Written out they are a million words; with three lines more, they fill the memory."""
    entries = ["&a [x, x, x, x, x, x, x, x, x, x]"]
    for name, earlier in zip("bcdef", "abcde", strict=True):
        entries.append(f"&{name} [{', '.join([f'*{earlier}'] * 10)}]")
    (scans / "mine.yaml").write_text(f"path: [{', '.join(entries)}, {last}]\n")
    with pytest.raises(CohortError, match=r"mine.yaml.*found ") as caught:
        open_cohort(scans / "mine.yaml")
    assert len(str(caught.value)) < 1000


def test_a_yaml_that_names_itself_is_not_followed(scans):
    (scans / "mine.yaml").write_text("path: mine.yaml\n")
    _refused(lambda: watched(scans / "mine.yaml"), "mine.yaml, key path", "the path of a YAML")


@pytest.mark.parametrize("modality", ["flair", "bananas", "*", "", "../FLAIR", "T2w"])
def test_another_modality_is_refused_by_every_kind_of_cohort(scans, bids, modality):
    (scans / "mine.csv").write_text(CSV)
    calls = [
        lambda: open_cohort(bids, modality),
        lambda: open_cohort(scans / "mine.csv", modality),
        lambda: from_adni(scans, modality),
        lambda: from_images(sorted(scans.glob("*.nii*")), modality=modality),
    ]
    for call in calls:
        with pytest.raises(ParameterError, match="parameter modality") as caught:
            call()
        assert f"found {modality!r}; expected one of FLAIR, T1w" in str(caught.value)


def test_a_yaml_that_is_no_text(scans):
    (scans / "mine.yaml").write_bytes(b"path: \xff\xfe\x00")
    _refused(lambda: open_cohort(scans / "mine.yaml"), "mine.yaml", "no YAML")
    _refused(lambda: open_cohort(scans / "none.yaml"), "none.yaml", "no such file")


# What docs/your-cohort.md shows is read as it says


def _blocks(kind):
    return re.findall(
        rf"^```{kind}\n(.*?)^```",
        (msxai.ROOT / "docs" / "your-cohort.md").read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    )


def test_the_docs_table_and_yaml(tmp_path):
    (table,) = _blocks("csv")
    for name in re.findall(r"scans/\S+?\.nii\.gz", table):
        _touch(tmp_path / name)
    (tmp_path / "scans.csv").write_text(table)
    rows = open_cohort(tmp_path / "scans.csv").table
    assert rows["participant_id"].tolist() == ["sub-C12", "sub-MS07", "sub-MS07"]
    assert rows["session_id"].tolist() == ["", "ses-baseline", "ses-year1"]
    assert rows["label"].tolist() == [0, 1, 1]
    first, _ = _blocks("yaml")
    (tmp_path / "scans.csv").write_text(
        table.replace(",group,", ",diagnosis,")
        .replace(",MS,", ",RRMS,")
        .replace(",HC,", ",control,")
    )
    (tmp_path / "mine.yaml").write_text(first)
    assert open_cohort(tmp_path / "mine.yaml").table["label"].tolist() == [0, 1, 1]


def test_the_docs_adni(tmp_path):
    text = (msxai.ROOT / "docs" / "your-cohort.md").read_text(encoding="utf-8")
    header = re.search(r"table: (Image Data ID.*Description), \.\.\.", text)[1]
    path = re.search(r"ADNI/002_S_0413/\S+_I45112\.nii", text)[0]
    _touch(tmp_path / "adni" / path)
    row = dict.fromkeys(header.split(", "), "n/a")
    row |= {
        "Image Data ID": "I45112",
        "Subject": "002_S_0413",
        "Group": "CN",
        "Visit": "Month 12",
        "Description": "MPR; N3; Scaled",
    }
    (tmp_path / "adni" / "Collection_11_24_2026.csv").write_text(
        header.replace(", ", ",") + "\n" + ",".join(row.values()) + "\n"
    )
    (tmp_path / "pretraining.yaml").write_text(_blocks("yaml")[1])
    cohort = open_cohort(tmp_path / "pretraining.yaml")
    assert (cohort.name, cohort.modality, cohort.notes) == ("pretraining", "T1w", ())
    assert cohort.table[["session_id", "site", "label"]].to_numpy().tolist() == [
        ["ses-m12", "002", 0]
    ]
    assert watched(tmp_path / "pretraining.yaml")[1:] == [
        tmp_path / "adni" / "Collection_11_24_2026.csv"
    ]


@pytest.mark.real
def test_a_table_that_others_wrote(open_ms, tmp_path):
    """The published table of the real scans, with our columns' names and a path beside."""
    published = pd.read_csv(open_ms / "patient_info.csv", dtype=str)
    table = published.rename(columns={"patient_id": "participant_id"}).assign(
        image=_touch(tmp_path / "scan.nii.gz"), group="MS"
    )
    table.to_csv(tmp_path / "real.csv", index=False)
    opened = (
        open_cohort(tmp_path / "real.csv")
        .table.set_index("participant_id")
        .loc["sub-" + published["patient_id"]]
    )
    assert (opened["label"] == 1).all()
    np.testing.assert_equal(
        opened["edss"].to_numpy(), pd.to_numeric(published["edss"]).to_numpy(float)
    )
    np.testing.assert_equal(
        opened["age"].to_numpy(), pd.to_numeric(published["age"]).to_numpy(float)
    )
