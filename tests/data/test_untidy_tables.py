"""Tables and folders as people leave them: what is clear is read, and a note says what was mended.

What has two meanings is refused in one sentence.
"""

import numpy as np
import pandas as pd
import pytest

from msxai.base.errors import CohortError, MsxaiError
from msxai.data.cohorts import confounds, splits
from msxai.data.cohorts.cohort import from_adni, from_images, open_cohort, watched

HEADER = ["participant_id", "group", "age", "sex", "site", "scanner", "edss"]
MS = ["sub-01", "MS", "41.5", "F", "a", "Trio", "2.5"]
HC = ["sub-02", "HC", "30", "M", "b", "Skyra", "n/a"]


def _touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def _write(folder, rows, name="participants.tsv", separator="\t"):
    path = folder / name
    path.write_text("".join(separator.join(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def bids(tmp_path):
    """Two subjects, one FLAIR each, and a table without a fault."""
    folder = tmp_path / "study"
    for name in ("sub-01", "sub-02"):
        _touch(folder / name / "anat" / f"{name}_FLAIR.nii.gz")
    _write(folder, [HEADER, MS, HC])
    return folder


def _as_it_should_be(cohort):
    table = cohort.table
    assert table["participant_id"].tolist() == ["sub-01", "sub-02"]
    assert table["group"].tolist() == ["MS", "HC"]
    assert table["label"].tolist() == [1, 0]
    np.testing.assert_equal(table["age"].to_numpy(), [41.5, 30])
    np.testing.assert_equal(table["edss"].to_numpy(), [2.5, np.nan])
    assert table["sex"].tolist() == ["F", "M"]
    assert table["site"].tolist() == ["a", "b"]
    assert table["scanner"].tolist() == ["Trio", "Skyra"]


def _notes(cohort, *words):
    """Each word is in a note of its own, in order."""
    assert len(cohort.notes) == len(words), cohort.notes
    for note, word in zip(cohort.notes, words, strict=True):
        assert word in note


def _refused(call, *words):
    with pytest.raises(CohortError) as caught:
        call()
    for word in (*words, caught.value.mend):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_without_a_fault_has_no_note(bids):
    cohort = open_cohort(bids)
    _as_it_should_be(cohort)
    assert cohort.notes == ()


# The text of a table


def _text(rows, separator="\t"):
    return "".join(separator.join(row) + "\n" for row in rows)


def _quoted(rows):
    return [[f'"{cell}"' for cell in row] for row in rows]


PLAIN = [HEADER, MS, HC]
UPPER = [["Participant_ID", "Group", "Age", "SEX", "Site", "Scanner", "EDSS"], MS, HC]
BLANKS = [[f"{cell} " for cell in row] for row in PLAIN]
WEB_BLANKS = [[f"\xa0{cell}\u200b" for cell in row] for row in PLAIN]
TEXTS = {
    "blanks": (_text(BLANKS).encode(), ["participants.tsv: blanks at the ends are removed (21"]),
    "other blanks": (_text(WEB_BLANKS).encode(), ["blanks at the ends are removed (21 cells)"]),
    "quotes": (_text(_quoted(PLAIN)).encode(), ["quotes around cells are removed (21 cells)"]),
    "semicolons": (_text(PLAIN, ";").encode(), ["semicolons separate the cells, not tabs"]),
    "commas": (_text(PLAIN, ",").encode(), ["commas separate the cells, not tabs"]),
    "quoted commas": (_text(_quoted(PLAIN), ", ").encode(), ["commas separate the cells"]),
    "named separator": (b"sep=;\n" + _text(PLAIN, ";").encode(), ["semicolons separate"]),
    "row names of R": (
        _text([[f'"{cell}"' for cell in HEADER], ['"1"', *MS], ['"2"', *HC]]).encode(),
        ["the numbers of rows that R writes are left out", "quotes around cells"],
    ),
    "empty rows": ((_text(PLAIN) + "\t" * 6 + "\n" + "\t \t\n\n").encode(), ["2 empty rows left"]),
    "utf-16": (_text(PLAIN).encode("utf-16"), ["text in UTF-16 is read"]),
    "utf-16, big end": (b"\xfe\xff" + _text(PLAIN).encode("utf-16-be"), ["text in UTF-16"]),
    "byte order mark": (_text(PLAIN).encode("utf-8-sig"), []),
    "lines of Windows": (_text(PLAIN).replace("\n", "\r\n").encode(), []),
    "lines of old Macs": (_text(PLAIN).replace("\n", "\r").encode(), []),
    "NA": (_text(PLAIN).replace("n/a", "NA").encode(), ["NA is read as unknown (1 cell)"]),
    "N/A": (_text(PLAIN).replace("n/a", "N/A").encode(), ["N/A is read as unknown (1 cell)"]),
    "empty": (_text(PLAIN).replace("n/a", "").encode(), []),
    "columns in another case": (
        _text(UPPER).encode(),
        [
            "column 'Participant_ID' is read as participant_id",
            *("column 'Age'", "column 'SEX'", "column 'Site'", "column 'Scanner'"),
            *("column 'EDSS' is read as edss", "column 'Group' is read as group"),
        ],
    ),
    "decimal commas": (
        _text(PLAIN).replace("41.5", "41,5").replace("2.5", "2,5").encode(),
        [
            "participants.tsv, column age: 41,5 is read as 41.5",
            "participants.tsv, column edss: 2,5 is read as 2.5",
        ],
    ),
    "groups in another case": (
        _text(PLAIN).replace("\tMS", "\tms").encode(),
        ["participants.tsv, column group: 'ms' is read as MS (1 row)"],
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_an_untidy_text_is_read(bids, name):
    content, words = TEXTS[name]
    (bids / "participants.tsv").write_bytes(content)
    cohort = open_cohort(bids)
    _as_it_should_be(cohort)
    _notes(cohort, *words)


@pytest.mark.parametrize("suffix", ["csv", "CSV", "tsv", "TSV", "txt"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_of_paths_by_any_suffix(bids, suffix, separator):
    rows = [[*HEADER, "image"]]
    for row in (MS, HC):
        rows.append([*row, f"{row[0]}/anat/{row[0]}_FLAIR.nii.gz"])
    path = _write(bids, rows, f"mine.{suffix}", separator)
    _as_it_should_be(open_cohort(path))
    (bids / "mine.YAML").write_text(f"path: {path.name}\n")
    _as_it_should_be(open_cohort(bids / "mine.YAML"))
    assert watched(bids / "mine.YAML") == [bids / "mine.YAML", path]


@pytest.mark.parametrize("name", ["Participants.TSV", "participants.csv", "PARTICIPANTS.txt"])
def test_participants_tsv_by_another_name(bids, name):
    (bids / "participants.tsv").rename(bids / name)
    cohort = open_cohort(bids)
    _as_it_should_be(cohort)
    _notes(cohort, f"{name} is read as participants.tsv")
    assert watched(bids) == [bids / name]


@pytest.mark.parametrize("names", [("Age (years)", "Gender"), ("age_years", "gender")])
def test_synonyms_of_columns(bids, names):
    _write(bids, [[*HEADER[:2], *names, *HEADER[4:]], MS, HC])
    cohort = open_cohort(bids)
    _as_it_should_be(cohort)
    _notes(cohort, f"{names[0]!r} is read as age", f"{names[1]!r} is read as sex")
    _write(bids, [["participant_id", "group", "Age (months)"], ["1", "MS", "500"]])
    assert open_cohort(bids).table["age"].isna().all()


@pytest.mark.parametrize("column", ["sex", "site", "scanner"])
def test_categories_that_differ_in_case_are_one(tmp_path, column):
    rows = [["participant_id", "group", "image", column]]
    for index, value in enumerate(["Trio", "TRIO", "Trio", "", "b"]):
        _touch(tmp_path / f"{index}.nii")
        rows.append([f"p{index}", "MS", f"{index}.nii", value])
    cohort = open_cohort(_write(tmp_path, rows, "mine.csv", ","))
    assert cohort.table[column].fillna("").tolist() == ["Trio", "Trio", "Trio", "", "b"]
    _notes(cohort, f"mine.csv, column {column}: 'TRIO' is read as Trio (1 row)")


def test_paths_of_windows(tmp_path):
    scan = _touch(tmp_path / "scans" / "a.nii")
    rows = [["participant_id", "group", "image"], ["a", "MS", "scans\\a.nii"]]
    cohort = open_cohort(_write(tmp_path, rows, "mine.csv", ","))
    assert cohort.table["image"].tolist() == [str(scan)]
    _notes(cohort, "mine.csv, column image: \\ in paths is read as /")


def test_ages_of_old_people(bids):
    _write(bids, [HEADER, [*MS[:2], "89+", *MS[3:]], HC])
    cohort = open_cohort(bids)
    assert cohort.table["age"].tolist() == [89, 30]
    _notes(cohort, "participants.tsv, column age: 89+ is read as 89")


@pytest.mark.parametrize(
    ("column", "value"),
    [("age", "1.234,5"), ("age", "-999"), ("age", "41 years"), ("edss", "25"), ("edss", "6+")],
)
def test_a_number_that_may_mean_anything_is_refused(bids, column, value):
    row = dict(zip(HEADER, MS, strict=True)) | {column: value}
    _write(bids, [HEADER, list(row.values()), HC])
    _refused(lambda: open_cohort(bids), f"participants.tsv, column {column}", repr(value), "or n/a")


@pytest.mark.parametrize("names", [["age", "age"], ["Age", "AGE"]])
def test_two_columns_of_one_name_are_refused(bids, names):
    _write(bids, [["participant_id", "group", *names], ["1", "MS", "4", "5"]])
    words = ("participants.tsv, column age", f"{names[0]!r} and {names[1]!r}")
    _refused(lambda: open_cohort(bids), *words)


def test_a_column_of_another_spelling_beside_ours_is_noted(bids):
    _write(bids, [[*HEADER, "Age"], [*MS, "7"], [*HC, "8"]])
    cohort = open_cohort(bids)
    _as_it_should_be(cohort)
    _notes(cohort, "column 'Age' is not read beside age")


def test_a_synonym_beside_ours_is_noted(bids):
    _write(bids, [[*HEADER, "gender", "Age (years)"], [*MS, "M", "7"], [*HC, "F", "8"]])
    cohort = open_cohort(bids)
    _as_it_should_be(cohort)
    _notes(cohort, "'Age (years)' is not read beside age", "'gender' is not read beside sex")


def test_rows_longer_than_the_header_are_refused(bids):
    for rows in ([["1", *MS], HC], [["x", *MS], ["y", *HC]]):
        _write(bids, [HEADER, *rows])
        _refused(lambda: open_cohort(bids), "participants.tsv", "no table", "Expected 7 fields")


# Quotes of tables with commas, and what lone ones would swallow

LONE = {
    "two lone quotes": (["a,MS,a.nii,Ward 0", 'b,MS,b.nii,"Ward 1', "c,HC,c.nii,X"], 3),
    "closed at the end of a row": (['a,MS,a.nii,"Ward 1', 'b,HC,b.nii,X"'], 2),
    "open at the start of a row": (['"a,MS,a.nii,X', 'b",HC,b.nii,Y'], 2),
    "closed in the next cell": (['a,"MS,a".nii,X,Y'], 2),
}


@pytest.mark.parametrize("name", LONE)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_quote_that_may_swallow_rows_is_refused(tmp_path, name, separator):
    rows, line = LONE[name]
    text = "\n".join(["participant_id,group,image,site", *rows, 'd,HC,d.nii,"Ward 2', ""])
    for row in "abcd":
        _touch(tmp_path / f"{row}.nii")
    path = tmp_path / "mine.csv"
    path.write_text(text.replace(",", separator))
    _refused(lambda: open_cohort(path), f"mine.csv, line {line}", "quote is closed in another")
    path.write_text(f"sep={separator}\n" + text.replace(",", separator))
    _refused(lambda: open_cohort(path), f"mine.csv, line {line + 1}", "quote is closed in another")


QUOTED = {
    "with a comma": ('"Ward 1, left"', "Ward 1, left"),
    "with a line break": ('"Ward 1\nleft"', "Ward 1\nleft"),
    "with quotes": ('"the ""old"" ward, 5"', 'the "old" ward, 5'),
    "with commas and a line break": ('"Ward 1, 2, 3\nleft, right"', "Ward 1, 2, 3\nleft, right"),
    "with blanks around": (' "Ward 1, left" ', "Ward 1, left"),
    "a quote inside a cell": ('6" scanner', '6" scanner'),
}


@pytest.mark.parametrize("name", QUOTED)
def test_quoted_cells_are_read(tmp_path, name):
    cell, expected = QUOTED[name]
    _touch(tmp_path / "a.nii")
    _touch(tmp_path / "b.nii")
    header = "participant_id,group,image,site,scanner"
    path = tmp_path / "mine.csv"
    path.write_text(f"{header}\na,MS,a.nii,{cell},Trio\nb,HC,b.nii,X,Trio\n")
    table = open_cohort(path).table
    assert table["site"].tolist() == [expected, "X"]
    assert table["scanner"].tolist() == ["Trio", "Trio"]


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_row_with_fewer_cells_is_noted(bids, separator):
    _write(bids, [HEADER, MS[:4], HC[:3]], separator=separator)
    cohort = open_cohort(bids)
    assert cohort.table["site"].isna().all()
    note = "cells that are missing at the end of a row are read as unknown (2 rows)"
    assert f"participants.tsv: {note}" in cohort.notes
    _write(bids, [[*HEADER, ""], MS, HC], separator=separator)
    assert not any("missing" in note for note in open_cohort(bids).notes)


def test_a_header_with_two_separators_is_refused(bids):
    (bids / "mine.csv").write_text("participant_id;group,image\n")
    _refused(lambda: open_cohort(bids / "mine.csv"), "first line", "as many commas and semicolons")


def test_binary_files_are_no_tables(bids):
    (bids / "mine.csv").write_bytes(b"a,b\n\0\0,1\n")
    _refused(lambda: open_cohort(bids / "mine.csv"), "mine.csv", "bytes that are no text")
    (bids / "mine.xlsx").write_bytes(b"PK\x03\x04\xff\xfe\x00")
    _refused(lambda: open_cohort(bids / "mine.xlsx"), "mine.xlsx", "no table", "UTF-8")


# Groups


@pytest.mark.parametrize(
    ("groups", "given", "labels"),
    [
        (("1.0", "0.0"), ("1", "0"), [1, 0]),
        (("1", "0"), (1.0, 0), [1, 0]),
        (("ms", "Hc"), ("MS", "HC"), [1, 0]),
        (("RRMS", "control"), (["RRMS", "SPMS"], "control"), [1, 0]),
        (("spms", "control"), ("RRMS, SPMS", ["control"]), [1, 0]),
        (("MS, RR", "HC"), ("MS, RR", "HC"), [1, 0]),
    ],
)
def test_groups_that_are_meant(bids, groups, given, labels):
    _write(bids, [HEADER, [MS[0], groups[0], *MS[2:]], [HC[0], groups[1], *HC[2:]]])
    cohort = open_cohort(bids, "FLAIR", *given)
    assert cohort.table["label"].tolist() == labels


def test_several_groups_of_patients_keep_their_names(bids):
    people = [MS, HC, ["sub-03", "SPMS"], ["sub-04", "rrms"]]
    for row in people[2:]:
        _touch(bids / row[0] / "anat" / f"{row[0]}_FLAIR.nii")
    _write(bids, [["participant_id", "group"], *[row[:2] for row in people]])
    (bids / "mine.yaml").write_text("path: .\npatients: [RRMS, SPMS, MS]\ncontrols: HC\n")
    cohort = open_cohort(bids / "mine.yaml")
    assert cohort.table["group"].tolist() == ["MS", "HC", "SPMS", "RRMS"]
    assert cohort.table["label"].tolist() == [1, 0, 1, 1]
    _notes(cohort, "'rrms' is read as RRMS (1 row)")


@pytest.mark.parametrize(
    ("patients", "controls", "words"),
    [
        (["MS", "HC"], "HC", ["patients, controls", "'HC' for both"]),
        ("MS", "NA", ["patients, controls", "'NA'", "does not mean unknown"]),
        ([], "HC", ["patients, controls", "no name"]),
        (["Ms", "mS"], "HC", ["column group", "MS", "Ms or mS (patients)"]),
    ],
)
def test_groups_that_cannot_be_told_apart_are_refused(bids, patients, controls, words):
    _refused(lambda: open_cohort(bids, "FLAIR", patients, controls), *words)


def test_a_covariate_of_patients_alone_whatever_their_groups():
    table = pd.DataFrame(
        {
            "participant_id": list("abcd"),
            "session_id": "",
            "group": ["RRMS", "SPMS", "HC", "HC"],
            "label": [1, 1, 0, 0],
            "site": ["A", "B", None, None],
            "scanner": None,
            "sex": None,
            "age": np.nan,
            "edss": np.nan,
        }
    )
    sentences = confounds.warnings(table)
    assert any("site is known of RRMS and SPMS only" in sentence for sentence in sentences)


# Identifiers


@pytest.mark.parametrize(
    "names", [("1", "2"), ("001", "SUB-02"), ("1.0", "2.0"), ("sub_1", "sub02")]
)
def test_an_identifier_names_the_only_folder_that_is_meant(bids, names):
    _write(bids, [HEADER, [names[0], *MS[1:]], [names[1], *HC[1:]]])
    cohort = open_cohort(bids)
    _as_it_should_be(cohort)
    assert any(f"{names[0]} is read as" in note for note in cohort.notes)


def test_a_folder_of_that_name_comes_first(bids):
    _touch(bids / "sub-1" / "anat" / "sub-1_FLAIR.nii.gz")
    _write(bids, [HEADER, ["1", *MS[1:]], ["01", *HC[1:]]])
    table = open_cohort(bids).table
    assert table["participant_id"].tolist() == ["sub-01", "sub-1"]
    assert table["label"].tolist() == [0, 1]
    _write(bids, [HEADER, ["SUB-01", *MS[1:]]])
    assert open_cohort(bids).table["participant_id"].tolist() == ["sub-01"]


@pytest.mark.parametrize(("name", "names"), [("sub-1", "sub-01 and sub-1")])
def test_folders_of_people_who_may_be_one_are_noted(bids, name, names):
    _touch(bids / name / "anat" / f"{name}_FLAIR.nii.gz")
    _write(bids, [HEADER, MS, HC, [name, *HC[1:]]])
    _notes(open_cohort(bids), f"participants.tsv: {names} are read as different people")


def test_an_identifier_of_two_folders_is_refused(bids):
    _touch(bids / "sub-001" / "anat" / "sub-001_FLAIR.nii.gz")
    _write(bids, [HEADER, ["1", *MS[1:]]])
    _refused(lambda: open_cohort(bids), "column participant_id", "any of sub-001, sub-01")
    _write(bids, [HEADER, MS, ["sub-2", *HC[1:]], ["02", *HC[1:]]])
    _refused(lambda: open_cohort(bids), "column participant_id", "sub-02 twice")


@pytest.mark.parametrize("name", ["../other/sub-01", "*", "sub-*", "sub-0[1]", ".", "0.1", "-1"])
def test_an_identifier_cannot_lead_elsewhere(bids, name):
    _touch(bids.parent / "other" / "sub-01" / "anat" / "sub-01_FLAIR.nii.gz")
    _write(bids, [HEADER, [name, *MS[1:]]])
    _refused(lambda: open_cohort(bids), "no FLAIR scan")


def _paths(folder, names, sessions=None):
    """A table of paths, a scan a row."""
    rows = [["participant_id", "group", "image", "session_id"]]
    for index, name in enumerate(names):
        _touch(folder / f"{index}.nii")
        rows.append([name, "MS", f"{index}.nii", sessions[index] if sessions else ""])
    return _write(folder, rows, "mine.csv", ",")


def test_whole_numbers_keep_their_value(tmp_path):
    cohort = open_cohort(_paths(tmp_path, ["1.0", "2.0", "10.0"], ["1.0", "2.0", "10.00"]))
    assert cohort.table["participant_id"].tolist() == ["sub-1", "sub-10", "sub-2"]
    assert cohort.table["session_id"].tolist() == ["ses-1", "ses-10", "ses-2"]
    _notes(cohort, *["1.0 is read as 1 (rows alike: 3)"] * 2)


@pytest.mark.parametrize("names", [["1.0", "1.1"], ["01", "1"], ["MS1", "ms1"], ["M.01", "M1"]])
def test_identifiers_that_may_be_one_are_refused(tmp_path, names):
    path = _paths(tmp_path, names)
    _refused(lambda: open_cohort(path), "mine.csv, column participant_id", " and ".join(names))


@pytest.mark.parametrize(
    ("name", "participant"),
    [("J\xfcrgen", "sub-Jrgen"), ("\u0430" + "1", "sub-1"), ("0*3", "sub-03"), ("<b>", "sub-b")],
)
def test_letters_that_are_left_out_of_an_identifier_are_noted(tmp_path, name, participant):
    cohort = open_cohort(_paths(tmp_path, [name, "MS_07"]))
    assert set(cohort.table["participant_id"]) == {participant, "sub-MS07"}
    note = f"column participant_id: {name!r} is read as {participant} (rows alike: 1)"
    _notes(cohort, f"mine.csv, {note}")


def _dataset(folder, names, session="", title="FLAIR"):
    """A dataset of people whose folders have these names."""
    for name in names:
        visit = folder / f"sub-{name}" / session
        parts = [part for part in (f"sub-{name}", session, title) if part]
        _touch(visit / "anat" / f"{'_'.join(parts)}.nii.gz")
    _write(folder, [["participant_id", "group"], *[[f"sub-{name}", "MS"] for name in names]])


@pytest.mark.parametrize(
    ("name", "participant"),
    [("0*3", "sub-03"), ("0;3", "sub-03"), ("<img src=x>", "sub-imgsrcx"), ("\xfc3", "sub-3")],
)
def test_a_folder_of_a_person_has_no_other_characters_in_results(tmp_path, name, participant):
    _dataset(tmp_path, [name])
    cohort = open_cohort(tmp_path)
    assert cohort.table["participant_id"].tolist() == [participant]
    assert name in cohort.table["image"][0]
    _notes(cohort, f"folders sub-*: {f'sub-{name}'!r} is read as {participant} (rows alike: 1)")


def test_a_usual_folder_keeps_letters_and_digits_without_a_note(tmp_path):
    _dataset(tmp_path, ["MS_07", "patient-8"], "ses-year-1")
    cohort = open_cohort(tmp_path)
    assert cohort.table["participant_id"].tolist() == ["sub-MS07", "sub-patient8"]
    assert cohort.table["session_id"].tolist() == ["ses-year1", "ses-year1"]
    assert cohort.notes == ()


@pytest.mark.parametrize("names", [[".."], ["\u0431"], ["7_1", "71"]])
def test_a_folder_without_a_name_of_its_own_is_refused(tmp_path, names):
    _dataset(tmp_path, names)
    _refused(lambda: open_cohort(tmp_path), f"{tmp_path}, folders sub-*", "letters")


def test_a_folder_with_a_line_break_is_refused(tmp_path):
    _dataset(tmp_path, ["03"])
    (tmp_path / "sub-03").rename(tmp_path / "sub-0\n3")
    _refused(lambda: open_cohort(tmp_path), "folders sub-*: found 'sub-0\\n3'", "line breaks")


@pytest.mark.parametrize(
    ("session", "found"), [("ses-1\n2", "'ses-1\\n2'"), ("ses-..", "'ses-..'")]
)
def test_a_session_without_a_name_of_its_own_is_refused(tmp_path, session, found):
    _dataset(tmp_path, ["01"], session)
    _refused(lambda: open_cohort(tmp_path), f"folders ses-*: found {found}", "letters")


def test_a_session_has_no_other_characters_in_results(tmp_path):
    _dataset(tmp_path, ["01"], "ses-<b>")
    cohort = open_cohort(tmp_path)
    assert cohort.table["session_id"].tolist() == ["ses-b"]
    _notes(cohort, "folders ses-*: 'ses-<b>' is read as ses-b (rows alike: 1)")


# Scans in the folder of another person or visit


@pytest.mark.parametrize("title", ["FLAIR", "T1w"])
def test_a_scan_that_names_another_person_is_refused(tmp_path, title):
    _dataset(tmp_path, ["01", "02"], title="T1w")
    anat = tmp_path / "sub-01" / "anat"
    (anat / "sub-01_T1w.nii.gz").rename(anat / "sub-03_T1w.nii.gz")
    if title == "FLAIR":
        (anat / "sub-03_T1w.nii.gz").rename(anat / "sub-01_T1w.nii.gz")
        _touch(anat / "sub-03_FLAIR.nii.gz")
    words = (f"sub-03_{title}.nii.gz: found a scan of sub-03", "a scan of sub-01, as the folder")
    _refused(lambda: open_cohort(tmp_path, "T1w"), *words)


def test_a_scan_of_another_person_beside_the_own_one_is_refused(bids):
    _touch(bids / "sub-01" / "anat" / "sub-02_FLAIR.nii.gz")
    _refused(lambda: open_cohort(bids), "found a scan of sub-02", "a scan of sub-01")


def test_a_scan_that_names_another_visit_is_refused(tmp_path):
    _dataset(tmp_path, ["01"], "ses-01")
    anat = tmp_path / "sub-01" / "ses-01" / "anat"
    (anat / "sub-01_ses-01_FLAIR.nii.gz").rename(anat / "sub-01_ses-02_FLAIR.nii.gz")
    _refused(lambda: open_cohort(tmp_path), "found a scan of ses-02", "a scan of ses-01")


@pytest.mark.parametrize("name", ["SUB-01_FLAIR", "sub-1_FLAIR", "sub01_FLAIR", "my_FLAIR"])
def test_a_scan_that_names_its_person_in_another_spelling_is_read(bids, name):
    anat = bids / "sub-01" / "anat"
    (anat / "sub-01_FLAIR.nii.gz").rename(anat / f"{name}.nii.gz")
    _as_it_should_be(open_cohort(bids))


# Sessions


@pytest.mark.parametrize("names", [["ses-1", "ses-01"], ["M6", "m06"]])
def test_sessions_of_a_person_that_may_be_one_are_refused(tmp_path, names):
    path = _paths(tmp_path, ["a", "a", "b"], [*names, "1"])
    _refused(lambda: open_cohort(path), "mine.csv, column session_id", "one visit")


def test_sessions_of_two_people_may_differ_in_spelling(tmp_path):
    table = open_cohort(_paths(tmp_path, ["a", "b"], ["ses-1", "01"])).table
    assert table["session_id"].tolist() == ["ses-1", "ses-01"]


@pytest.fixture
def visits(tmp_path):
    """Two visits of a patient, one of a control."""
    for name, session in (("sub-1", "ses-01"), ("sub-1", "ses-02"), ("sub-2", "ses-01")):
        _touch(tmp_path / name / session / "anat" / f"{name}_{session}_FLAIR.nii.gz")
    return tmp_path


@pytest.mark.parametrize("column", ["session_id", "Session_ID", "session"])
@pytest.mark.parametrize("names", [("ses-01", "ses-02"), ("01", "02"), ("1", "2"), ("1.0", "2.0")])
def test_participants_in_long_format(visits, column, names):
    rows = [
        ["participant_id", column, "group", "age"],
        ["sub-1", names[1], "MS", "42"],
        ["sub-1", names[0], "MS", "41"],
        ["sub-2", names[0], "HC", "30"],
    ]
    _write(visits, rows)
    cohort = open_cohort(visits)
    assert cohort.table["session_id"].tolist() == ["ses-01", "ses-02", "ses-01"]
    assert cohort.table["age"].tolist() == [41, 42, 30]
    assert cohort.table["label"].tolist() == [1, 1, 0]
    assert "participants.tsv: one row a session is read" in cohort.notes


def test_a_session_without_a_row_has_what_is_the_same_in_all_rows(visits):
    _touch(visits / "sub-1" / "ses-03" / "anat" / "sub-1_ses-03_FLAIR.nii.gz")
    rows = [
        ["participant_id", "session_id", "group", "age", "sex"],
        ["sub-1", "ses-01", "MS", "41", "F"],
        ["sub-1", "ses-02", "MS", "42", "F"],
        ["sub-1", "ses-99", "MS", "50", "F"],
    ]
    _write(visits, rows)
    cohort = open_cohort(visits)
    np.testing.assert_equal(cohort.table["age"].to_numpy(), [41, 42, np.nan])
    assert cohort.table["sex"].tolist() == ["F", "F", "F"]
    _notes(
        cohort,
        "one row a session is read",
        "participants.tsv: no row for a session",
        "rows of sessions without a scan are not read",
        "1 folders of people who are not in participants.tsv",
    )


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([["sub-1", "01", "MS"], ["sub-1", "ses-01", "MS"]], ["sub-1 ses-01 twice"]),
        ([["sub-1", "1", "MS"], ["sub-1", "01", "MS"]], ["column session_id", "ses-01"]),
        ([["sub-1", "1", "MS"], ["sub-1", "2", "HC"]], ["column group", "two groups of sub-1"]),
        ([["sub-1", "", "MS"], ["sub-1", "", "MS"]], ["sub-1 twice"]),
    ],
)
def test_a_long_table_that_contradicts_is_refused(visits, rows, words):
    _write(visits, [["participant_id", "session_id", "group"], *rows])
    _refused(lambda: open_cohort(visits), "participants.tsv", *words)


@pytest.mark.parametrize("names", [("ses-01", "ses-02"), ("01", "02"), ("1", "2"), ("1.0", "2.0")])
def test_sessions_by_their_numbers(visits, names):
    _write(visits, [["participant_id", "group", "age"], ["sub-1", "MS", "70"]])
    rows = [["Session_ID ", "Age", "EDSS"], [names[0], "41,5", "2"], [names[1], "NA", "3"]]
    _write(visits / "sub-1", rows, "sub-1_sessions.tsv")
    cohort = open_cohort(visits)
    np.testing.assert_equal(cohort.table["age"].to_numpy(), [41.5, np.nan])
    assert cohort.table["edss"].tolist() == [2, 3]
    assert any("sub-1_sessions.tsv: column 'Age' is read as age" in note for note in cohort.notes)
    mended = [note for note in cohort.notes if "is read as ses-0" in note]
    assert bool(mended) == (not names[0].startswith("ses-0") and names[0] != "01")


def test_sessions_that_contradict_are_refused(visits):
    _write(visits, [["participant_id", "group"], ["sub-1", "MS"]])
    rows = [["session_id", "age"], ["ses-01", "41"], ["1", "43"]]
    _write(visits / "sub-1", rows, "sub-1_sessions.tsv")
    _refused(lambda: open_cohort(visits), "sub-1_sessions.tsv, column session_id", "ses-01")


@pytest.mark.parametrize(("column", "value"), [("edss", "25"), ("age", "old")])
def test_a_wrong_number_of_a_visit_names_the_table_of_sessions(visits, column, value):
    _write(visits, [["participant_id", "group"], ["sub-1", "MS"]])
    _write(visits / "sub-1", [["session_id", column], ["ses-01", value]], "sub-1_sessions.tsv")
    words = (f"sub-1_sessions.tsv, column {column}: found {value!r}", "or n/a")
    _refused(lambda: open_cohort(visits), *words)


def test_a_mended_number_of_a_visit_names_the_table_of_sessions(visits):
    _write(visits, [["participant_id", "group", "edss"], ["sub-1", "MS", "n/a"]])
    _write(visits / "sub-1", [["session_id", "edss"], ["ses-01", "2,5"]], "sub-1_sessions.tsv")
    cohort = open_cohort(visits)
    np.testing.assert_equal(cohort.table["edss"].to_numpy(), [2.5, np.nan])
    assert "sub-1_sessions.tsv, column edss: 2,5 is read as 2.5" in cohort.notes


def test_a_table_of_sessions_in_another_case_is_read(visits):
    _write(visits, [["participant_id", "group"], ["sub-1", "MS"], ["sub-2", "HC"]])
    rows = [["session_id", "age"], ["ses-01", "40"], ["ses-02", "41"]]
    _write(visits / "sub-1", rows, "sub-1_Sessions.tsv")
    cohort = open_cohort(visits)
    assert cohort.table["age"].tolist()[:2] == [40, 41]
    _notes(cohort, "sub-1_Sessions.tsv: read as a table of sessions (_sessions.tsv)")


def test_folders_of_visits_that_may_be_one_are_noted(visits):
    _write(visits, [["participant_id", "group"], ["sub-1", "MS"], ["sub-2", "HC"]])
    _touch(visits / "sub-1" / "ses-1" / "anat" / "sub-1_ses-1_FLAIR.nii")
    _notes(open_cohort(visits), "sub-1: ses-01 and ses-1 are read as different visits")


def test_a_folder_in_place_of_a_table_of_sessions_is_refused(visits):
    _write(visits, [["participant_id", "group"], ["sub-1", "MS"]])
    (visits / "sub-1" / "sub-1_sessions.tsv").mkdir()
    _refused(lambda: open_cohort(visits), "sub-1_sessions.tsv: found a folder")


def test_a_mend_of_many_tables_is_one_note(visits):
    _write(visits, [["participant_id", "group"], ["sub-1", "MS"], ["sub-2", "HC"]])
    for name in ("sub-1", "sub-2"):
        rows = [["session_id", "Age"], ["ses-01", "41"], ["ses-02", "42"]]
        _write(visits / name, rows, f"{name}_sessions.tsv")
    _notes(
        open_cohort(visits),
        "sub-1_sessions.tsv: column 'Age' is read as age (1 more like this)",
    )


# Files of scans


def test_names_of_scans_in_another_case(bids):
    for name in ("sub-01", "sub-02"):
        (bids / name / "anat" / f"{name}_FLAIR.nii.gz").rename(
            bids / name / "anat" / f"{name}_flair.nii.gz"
        )
    cohort = open_cohort(bids)
    assert cohort.table["image"].str.endswith("_flair.nii.gz").all()
    _notes(cohort, "sub-01_flair.nii.gz is read as _FLAIR (2 scans)")
    _touch(bids / "sub-01" / "anat" / "sub-01_FLAIR.nii.gz")
    _refused(lambda: open_cohort(bids), "2 FLAIR scans", "sub-01_flair.nii.gz")


def test_hidden_files_of_macos_are_no_scans(bids):
    anat = bids / "sub-01" / "anat"
    (anat / "sub-01_FLAIR.nii.gz").rename(anat / "sub-01_acq-3d_FLAIR.nii.gz")
    _touch(anat / "._sub-01_acq-3d_FLAIR.nii.gz")
    mask = _touch(bids / "derivatives" / "x" / "sub-01" / "anat" / "sub-01_desc-brain_mask.nii.gz")
    _touch(mask.with_name(f"._{mask.name}"))
    cohort = open_cohort(bids)
    assert cohort.table["image"][0].endswith("/sub-01_acq-3d_FLAIR.nii.gz")
    assert cohort.table["brain_mask"][0] == str(mask)
    _notes(cohort, "._sub-01_acq-3d_FLAIR.nii.gz and other hidden files are not read (1 files)")


# Masks


MASKS = {
    "beside the scan": ("sub-01/anat/sub-01_label-lesion_mask.nii.gz", "from beside their scans"),
    "as a region": ("sub-01/anat/sub-01_label-lesion_roi.nii.gz", "from beside their scans"),
    "derivatives, as a region": ("derivatives/me/sub-01/anat/sub-01_label-lesion_roi.nii", None),
    "without anat": ("derivatives/me/sub-01/sub-01_label-lesion_mask.nii.gz", None),
    "after the scan": ("derivatives/me/sub-01/anat/sub-01_FLAIR_label-lesion_seg.nii.gz", None),
    "LST-AI": ("derivatives/lst-ai/sub-01/sub-01_space-flair_seg-lst.nii.gz", "outputs of LST-AI"),
}


@pytest.mark.parametrize("name", MASKS)
def test_lesion_masks_are_found(bids, name):
    path, note = MASKS[name]
    mask = _touch(bids / path)
    cohort = open_cohort(bids)
    assert cohort.table["lesion_mask"].tolist() == [str(mask), None]
    _notes(cohort, *([note] if note else []))


@pytest.mark.parametrize(
    "path",
    [
        "derivatives/lst-ai/sub-01/sub-01_space-mni_seg-lst.nii.gz",
        "derivatives/lst/ples_lpa_sub-01.nii.gz",
        "derivatives/me/sub-01_lesions.nii.gz",
        "sub-01/anat/sub-01_T2w_label-lesion_dwi.nii.gz",
        "masks/sub-01/lesion.nii.gz",
    ],
)
def test_files_like_lesion_masks_are_counted(bids, path):
    _touch(bids / path)
    _touch(bids / "derivatives" / "filled" / "sub-01_desc-lesionfilled_FLAIR.nii.gz")
    cohort = open_cohort(bids)
    assert cohort.table["lesion_mask"].isna().all()
    _notes(cohort, "1 files look like lesion masks and are not used, because")
    assert cohort.notes[0].endswith(f"the first is {path}")
    _touch(bids / "derivatives" / "me" / "sub-02" / "anat" / "sub-02_lesions.nii.gz")
    assert "2 files look like" in open_cohort(bids).notes[0]


def test_a_visit_without_a_mask_is_noted_beside_a_visit_with_one(visits):
    _write(visits, [["participant_id", "group"], ["sub-1", "MS"], ["sub-2", "HC"]])
    folder = visits / "derivatives" / "me" / "sub-1"
    _touch(folder / "ses-01" / "anat" / "sub-1_ses-01_label-lesion_mask.nii")
    _touch(folder / "ses-01" / "anat" / "sub-1_ses-01_label-lesion_probseg.nii")
    assert open_cohort(visits).notes == ()
    _touch(folder / "ses-02" / "anat" / "sub-1_ses-02_label-lesion_probseg.nii")
    _notes(open_cohort(visits), "1 files look like lesion masks")


def test_the_brain_mask_in_the_scans_space_is_used(bids):
    folder = bids / "derivatives" / "fmriprep" / "sub-01" / "anat"
    own = _touch(folder / "sub-01_desc-brain_mask.nii.gz")
    _touch(folder / "sub-01_space-MNI152NLin2009cAsym_desc-brain_mask.nii.gz")
    _touch(folder / "sub-01_space-MNI152NLin2009cAsym_res-2_desc-brain_mask.nii.gz")
    cohort = open_cohort(bids)
    assert cohort.table["brain_mask"].tolist() == [str(own), None]
    _notes(cohort, "1 scans have several brain masks; that in the scan's space is used")
    own.unlink()
    _refused(lambda: open_cohort(bids), "sub-01_FLAIR.nii.gz", "2 masks", "res-2")


def test_a_scan_in_mni_space_takes_the_mask_in_mni_space(bids):
    anat = bids / "sub-01" / "anat"
    (anat / "sub-01_FLAIR.nii.gz").rename(anat / "sub-01_space-MNI_FLAIR.nii.gz")
    folder = bids / "derivatives" / "fmriprep" / "sub-01" / "anat"
    _touch(folder / "sub-01_desc-brain_mask.nii.gz")
    own = _touch(folder / "sub-01_space-MNI_desc-brain_mask.nii.gz")
    assert open_cohort(bids).table["brain_mask"].tolist() == [str(own), None]


def test_a_mask_that_names_another_space_is_noted(bids):
    folder = bids / "derivatives" / "me" / "sub-01" / "anat"
    mask = _touch(folder / "sub-01_space-MNI_label-lesion_mask.nii.gz")
    cohort = open_cohort(bids)
    assert cohort.table["lesion_mask"][0] == str(mask)
    _notes(cohort, "1 lesion masks name another space than their scans")


def test_masks_of_another_run_or_modality_are_not_taken(bids):
    anat = bids / "sub-01" / "anat"
    (anat / "sub-01_FLAIR.nii.gz").rename(anat / "sub-01_run-1_FLAIR.nii.gz")
    folder = bids / "derivatives" / "me" / "sub-01" / "anat"
    _touch(folder / "sub-01_run-10_desc-brain_mask.nii.gz")
    _touch(folder / "sub-01_run-1_T1w_desc-brain_mask.nii.gz")
    cohort = open_cohort(bids)
    assert cohort.table["brain_mask"].isna().all()
    _notes(cohort, "1 scans have brain masks of another modality, space, visit or image")


@pytest.mark.parametrize(
    "name",
    ["ses-2", "run-1", "hemi-L", "acq-3d", "mod-T1w"],
)
@pytest.mark.parametrize("folder", ["derivatives/x/sub-01/anat", "sub-01/anat"])
def test_a_mask_of_another_image_is_not_taken_for_a_plain_scan(bids, folder, name):
    _touch(bids / folder / f"sub-01_{name}_label-lesion_mask.nii.gz")
    cohort = open_cohort(bids)
    assert cohort.table["lesion_mask"].isna().all()
    assert "1 scans have lesion masks of another modality, space, visit" in cohort.notes[0]
    own = _touch(bids / folder / "sub-01_label-lesion_mask.nii.gz")
    assert open_cohort(bids).table["lesion_mask"].tolist() == [str(own), None]


def test_a_mask_may_name_the_visit_that_only_its_scans_folder_names(tmp_path):
    _write(tmp_path, [["participant_id", "group"], ["sub-1", "MS"]])
    _touch(tmp_path / "sub-1" / "ses-01" / "anat" / "sub-1_FLAIR.nii.gz")
    folder = tmp_path / "derivatives" / "x" / "sub-1" / "ses-01" / "anat"
    _touch(folder / "sub-1_ses-02_label-lesion_mask.nii.gz")
    assert open_cohort(tmp_path).table["lesion_mask"].tolist() == [None]
    own = _touch(folder / "sub-1_ses-01_rater-2_label-lesion_mask.nii.gz")
    assert open_cohort(tmp_path).table["lesion_mask"].tolist() == [str(own)]


@pytest.mark.parametrize("value", ["lesion", "lesions", "lesionT2", "lesionsFLAIR"])
def test_names_of_lesions_that_are_masks(bids, value):
    mask = _touch(bids / f"derivatives/x/sub-01/anat/sub-01_label-{value}_mask.nii.gz")
    assert open_cohort(bids).table["lesion_mask"].tolist() == [str(mask), None]


@pytest.mark.parametrize("value", ["lesionfree", "lesionGadolinium", "lesionfilled"])
def test_a_label_that_only_begins_with_lesion_is_no_lesion_mask(bids, value):
    _touch(bids / f"derivatives/x/sub-01/anat/sub-01_label-{value}_mask.nii.gz")
    assert open_cohort(bids).table["lesion_mask"].isna().all()


def test_a_mask_of_the_brainstem_is_no_brain_mask(bids):
    folder = bids / "derivatives" / "x" / "sub-01" / "anat"
    _touch(folder / "sub-01_desc-brainstem_mask.nii.gz")
    cohort = open_cohort(bids)
    assert cohort.table["brain_mask"].isna().all()
    _notes(cohort, "1 scans have masks whose desc- begins with brain and is not brain alone")
    brain = _touch(folder / "sub-01_desc-brain_mask.nii.gz")
    cohort = open_cohort(bids)
    assert cohort.table["brain_mask"].tolist() == [str(brain), None]
    _notes(cohort)


def test_lesion_masks_beside_the_scans_of_a_table(tmp_path):
    path = _paths(tmp_path, ["a", "b"])
    _touch(tmp_path / "0_lesions.nii.gz")
    _notes(open_cohort(path), "1 files beside the scans look like lesion masks and are not used")


def test_a_mask_of_several_people_is_noted(tmp_path):
    for name in ("a", "b", "c", "d", "mask"):
        _touch(tmp_path / f"{name}.nii")
    header = ["participant_id", "session_id", "group", "image", "lesion_mask"]
    rows = [["1", "1", "MS", "a.nii", "mask.nii"], ["1", "2", "MS", "b.nii", "mask.nii"]]
    path = _write(tmp_path, [header, *rows, ["2", "", "HC", "c.nii", ""]], "mine.csv", ",")
    _notes(open_cohort(path))  # two visits of one person
    _write(tmp_path, [header, *rows, ["2", "", "HC", "c.nii", "mask.nii"]], "mine.csv", ",")
    note = "1 files are the lesion mask of several people; the first is mask.nii, of sub-1 and"
    _notes(open_cohort(path), f"{note} sub-2")
    scans = [tmp_path / "a.nii", tmp_path / "b.nii"]
    mask = tmp_path / "mask.nii"
    _notes(from_images(scans, [mask, mask]), f"{note.replace('sub-1', 'sub-a')} sub-b")


# ADNI

COLUMNS = ["Image Data ID", "Subject", "Group", "Visit", "Description"]
VISIT = {
    "I1": "Axial T2-Star",
    "I2": "Sagittal 3D FLAIR",
    "I3": "HighResHippocampus",
    "I4": "3 Plane Localizer",
    "I5": "B1-Calibration Body",
    "I6": "Axial PD/T2 FSE",
    "I7": "Accelerated Sagittal MPRAGE",
    "I8": "Accelerated Sagittal MPRAGE ND",
}


def _adni(folder, descriptions, header=None, group="CN", name="images.csv", separator=","):
    rows = [header or COLUMNS]
    for image, description in descriptions.items():
        rows.append([image, "002_S_0413", group, "sc", description])
        _touch(folder / "ADNI" / "002_S_0413" / "series" / "day" / image / f"x_{image}.nii")
    _write(folder, rows, name, separator)
    return folder


def _taken(cohort):
    return [path.rsplit("_", 1)[1].removesuffix(".nii") for path in cohort.table["image"]]


@pytest.mark.parametrize(
    "sequence",
    [
        *("Accelerated Sagittal MPRAGE", "MP-RAGE", "Accelerated SAG IR-SPGR", "Sag IR-FSPGR"),
        *("MPR; GradWarp; B1 Correction; N3; Scaled", "MT1; GradWarp; N3m", "MPR____N3__Scaled"),
    ],
)
def test_the_mprage_of_a_visit_is_taken(tmp_path, sequence):
    cohort = from_adni(_adni(tmp_path, VISIT | {"I7": sequence}))
    assert _taken(cohort) == ["I7"]
    assert cohort.table["flair"][0].endswith("x_I2.nii")
    _notes(cohort, "6 images of 1 subjects left out: not T1w", "(the lowest image number is kept)")


def test_the_series_in_the_path_stands_for_a_description(tmp_path):
    for image, series in (("I1", "Axial_T2_Star"), ("I2", "MPRAGE"), ("I3", "HighResHippocampus")):
        _touch(tmp_path / "ADNI" / "002_S_0413" / series / "day" / image / "x.nii")
    rows = [[image, "002_S_0413", "CN", "sc"] for image in ("I1", "I2", "I3")]
    _write(tmp_path, [COLUMNS[:4], *rows], "images.csv", ",")
    cohort = from_adni(tmp_path)
    assert "/I2/" in cohort.table["image"][0]


def test_series_that_no_name_makes_clear_are_refused(tmp_path):
    _adni(tmp_path, {"I1": "Axial T2", "I5": "SAG 3D", "I6": "MoCoSeries"})
    words = ("002_S_0413, ses-sc", "I5 (SAG 3D), I6 (MoCoSeries)", "MPRAGE or IR-SPGR", "`series`")
    _refused(lambda: from_adni(tmp_path), *words)
    assert _taken(from_adni(tmp_path, series="sag 3d")) == ["I5"]
    _adni(tmp_path, {"I5": "SAG 3D", "I7": "MPRAGE"})
    cohort = from_adni(tmp_path)
    assert _taken(cohort) == ["I7"]
    assert any("more clearly T1-weighted" in note for note in cohort.notes)


def test_names_of_one_diagnosis_in_two_tables(tmp_path):
    _adni(tmp_path, {"I7": "MPRAGE"}, group="AD")
    _adni(tmp_path, {"I7": "MPRAGE"}, group="Dementia", name="second.csv")
    assert from_adni(tmp_path).table["label"].tolist() == [1]
    _adni(tmp_path, {"I7": "MPRAGE", "I8": "MPRAGE"}, group="EMCI")
    _adni(tmp_path, {"I7": "MPRAGE"}, group="MCI", name="second.csv")
    _refused(lambda: from_adni(tmp_path), "no T1w scan of AD or CN", "EMCI (2)")


def test_codes_of_diagnoses_are_refused_and_the_column_of_names_is_named(tmp_path):
    rows = [["Image ID", "Subject", "DX", "Group"], ["I7", "002_S_0413", "3", "AD"]]
    _touch(tmp_path / "x_I7.nii")
    _write(tmp_path, rows, "images.csv", ",")
    _refused(lambda: from_adni(tmp_path), "column of the diagnosis", "The table's Group would")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_adni_by_any_separator_and_suffix(tmp_path, separator):
    _adni(tmp_path, VISIT, name="images.CSV", separator=separator)
    _touch(tmp_path / "._images.CSV")
    _touch(tmp_path / "ADNI" / "002_S_0413" / "series" / "day" / "I7" / "._x_I7.nii")
    assert _taken(open_cohort(tmp_path, "T1w")) == ["I7"]
    assert watched(tmp_path) == [tmp_path / "images.CSV"]


def test_a_cropped_copy_is_not_read(tmp_path):
    _adni(tmp_path, {"I7": "MPRAGE"})
    _touch(tmp_path / "ADNI" / "002_S_0413" / "series" / "day" / "I7" / "x_I7_Crop_1.nii")
    cohort = from_adni(tmp_path)
    assert _taken(cohort) == ["I7"]
    _notes(cohort, "1 cropped copies of dcm2niix are not read")


def test_images_whose_number_has_another_letter(tmp_path):
    _adni(tmp_path, {"D801": "MPRAGE", "I900": "MPRAGE Repeat"})
    for name in ("a", "b"):
        _touch(tmp_path / "ADNI" / name / "x_D5.nii")  # a D of another meaning
    assert _taken(from_adni(tmp_path)) == ["D801"]
    (tmp_path / "ADNI" / "002_S_0413" / "series" / "day" / "D801" / "x_D801.nii").unlink()
    _refused(lambda: from_adni(tmp_path), "image D801", "..._D801.nii")


@pytest.mark.parametrize("name", ["people.csv", "people.tsv", "study.yaml", "split.tsv", "s0.nii"])
def test_a_folder_in_place_of_a_file_is_one_sentence(name, tmp_path):
    """Of a table, a cohort's YAML, a split, and a scan that a table names."""
    (tmp_path / name).mkdir()
    read = open_cohort
    if name == "split.tsv":
        read = splits.read
    if name == "s0.nii":
        (tmp_path / "people.csv").write_text("participant_id,group,image\n1,MS,s0.nii\n")
        name = "people.csv"
    with pytest.raises(MsxaiError) as caught:
        read(tmp_path / name)
    assert "a folder; expected " in str(caught.value)
    assert "Errno" not in str(caught.value)
