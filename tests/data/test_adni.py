"""ADNI as the archive delivers it: its own column names, folders and visits.

What is left out is counted; a contradiction is an error.
"""

import pytest

from msxai.base.errors import CohortError, ParameterError
from msxai.data.cohorts import adni
from msxai.data.cohorts.cohort import COLUMNS, from_adni, open_cohort

# Headers as the archive writes them (collection, advanced search), ADNIMERGE's, and that of the
# standardised lists
COLLECTION = (
    "Image Data ID,Subject,Group,Sex,Age,Visit,Modality,Description,Type,Acq Date,Format,Downloaded"
)
N3 = "MPR; GradWarp; B1 Correction; N3; Scaled"
ROWS = [
    f'"I45112","002_S_0413","CN","F","76","sc","MRI","{N3}","Processed","5/02/2006","NiFTI","11/24/2026"',
    f'"I45120","002_S_0413","CN","F","77","m12","MRI","{N3}","Processed","5/15/2007","NiFTI","11/24/2026"',
    f'"I60007","011_S_0003","AD","M","81","sc","MRI","{N3}","Processed","9/01/2005","NiFTI","11/24/2026"',
    f'"I60107","011_S_0003","AD","M","81","sc","MRI","MPR-R; {N3[5:]}","Processed","9/01/2005",'
    '"NiFTI","11/24/2026"',
    f'"I70001","022_S_0044","LMCI","M","70","sc","MRI","{N3}","Processed","9/01/2005","NiFTI","11/24/2026"',
    f'"I70002","022_S_0045","SMC","M","70","v02","MRI","{N3}","Processed","9/01/2012","NiFTI","11/24/2026"',
    '"I90001","011_S_0003","AD","M","81","sc","PET","FDG","Original","9/01/2005","NiFTI","11/24/2026"',
    '"I90002","002_S_0413","CN","F","77","m12","MRI","Axial T2-FLAIR","Original","5/15/2007",'
    '"NiFTI","11/24/2026"',
]


def _scan(folder, subject, series, date, image, name=None):
    name = name or f"ADNI_{subject}_MR_{series}_Br_20070525135721811_S13407_{image}.nii"
    path = folder / "ADNI" / subject / series / date / image / name
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def _table(folder, rows, name="Collection_11_24_2026.csv", header=None):
    header = header or ",".join(f'"{column}"' for column in COLLECTION.split(","))
    (folder / name).write_text("\n".join([header, *rows]) + "\n")


@pytest.fixture
def download(tmp_path):
    """Eight images in the table, the four of MRI, AD and CN on disk, one scan that no table has."""
    _table(tmp_path, ROWS)
    series = "MPR__GradWarp__B1_Correction__N3__Scaled"
    scans = {
        "I45112": _scan(tmp_path, "002_S_0413", series, "2006-05-02_12_31_52.0", "I45112"),
        "I45120": _scan(tmp_path, "002_S_0413", series, "2007-05-15_08_00_01.0", "I45120"),
        "I60007": _scan(
            tmp_path, "011_S_0003", series, "2005-09-01_10_00_00.0", "I60007", "converted.nii.gz"
        ),
        "I60107": _scan(
            tmp_path, "011_S_0003", "MPR-R__GradWarp", "2005-09-01_10_09_00.0", "I60107"
        ),
        "I90002": _scan(
            tmp_path, "002_S_0413", "Axial_T2-FLAIR", "2007-05-15_08_30_01.0", "I90002"
        ),
    }
    _scan(tmp_path, "099_S_0001", series, "2007-05-15_08_00_01.0", "I33333")
    return tmp_path, scans


def test_a_download_as_it_is(download):
    folder, scans = download
    cohort = open_cohort(folder, "T1w", "AD", "HC")
    table = cohort.table
    assert tuple(table.columns) == COLUMNS
    assert (cohort.name, cohort.modality, cohort.synthetic) == (folder.name, "T1w", False)
    assert table["participant_id"].tolist() == [
        "sub-ADNI002S0413",
        "sub-ADNI002S0413",
        "sub-ADNI011S0003",
    ]
    assert table["session_id"].tolist() == ["ses-m12", "ses-sc", "ses-sc"]
    assert table["image"].tolist() == [str(scans[name]) for name in ("I45120", "I45112", "I60007")]
    assert table["flair"].tolist() == [str(scans["I90002"]), None, None]
    assert table["group"].tolist() == ["CN", "CN", "AD"]
    assert table["label"].tolist() == [0, 0, 1]
    assert table["age"].tolist() == [77, 76, 81]
    assert table["sex"].tolist() == ["F", "F", "M"]
    assert table["site"].tolist() == ["002", "002", "011"]
    assert sorted(cohort.notes) == [
        "1 images of 1 subjects left out: a second image of one visit "
        "(the lowest image number is kept)",
        "1 images of 1 subjects left out: another modality than MRI",
        "1 images of 1 subjects left out: not T1w",
        "1 scans are in no table and not read",
        "2 images of 2 subjects left out: LMCI (1), SMC (1)",
    ]


def test_the_flair_alone(download):
    folder, scans = download
    assert open_cohort(folder, "FLAIR").table["image"].tolist() == [str(scans["I90002"])]


def test_a_series_by_its_description(download):
    folder, scans = download
    table = from_adni(folder, series="mpr-r").table
    assert table["image"].tolist() == [str(scans["I60107"])]
    with pytest.raises(CohortError, match="no 'nothing like it' in the description"):
        from_adni(folder, series="nothing like it")


HEADERS = {
    "the standardised lists that the paper used": (
        "RID,PTID,Visit,Image.ID,DX,Scan.Date",
        "413,002_S_0413,{},{},{},5/2/2006",
        "Month 12",
    ),
    "ADNIMERGE": (
        "RID,COLPROT,PTID,VISCODE,DX_bl,DX,IMAGEUID",
        "413,ADNI1,002_S_0413,{0},CN,{2},{1}",
        "m12",
    ),
    "the advanced search": (
        '"Subject ID","Research Group","Visit","Modality","Image ID"',
        "002_S_0413,{2},{0},MRI,{1}",
        "ADNI1/GO Month 12",
    ),
    "other case and punctuation": (
        "subject_id,VISIT,image-id,Diagnosis",
        "002_S_0413,{0},{1},{2}",
        "Month12",
    ),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize(
    ("diagnosis", "label", "image"),
    [
        ("Dementia", 1, "45112"),
        ("NL", 0, "I45112"),
        ("AD", 1, "45112.0"),
        ("CN", 0, "45112"),
        ("MCI to Dementia", 1, "I45112"),
        ("NL to MCI to Dementia", 1, "I45112"),
        ("Reversion: MCI to NL", 0, "I45112"),
        ("Stable: Dementia", 1, "I45112"),
    ],
)
def test_its_other_tables(tmp_path, name, diagnosis, label, image):
    header, row, visit = HEADERS[name]
    _table(tmp_path, [row.format(visit, image, diagnosis)], "table.csv", header)
    _scan(tmp_path, "002_S_0413", "MPR", "2006-05-02_12_31_52.0", "I45112")
    table = open_cohort(tmp_path, "T1w").table
    assert table[["participant_id", "session_id"]].to_numpy().tolist() == [
        ["sub-ADNI002S0413", "ses-m12"]
    ]
    assert table["label"].tolist() == [label]


@pytest.mark.parametrize(
    ("visit", "session"),
    [
        ("m06", "m06"),
        ("Month 6", "m06"),
        ("ADNIGO Month 60", "m60"),
        ("ADNI2 Month 3 MRI-New Pt", "m03"),
        ("sc", "sc"),
        ("Screening", "sc"),
        ("Baseline", "bl"),
        ("v11", "v11"),
        ("y1", "y1"),
        ("ADNI2 Year 1 Visit", "adni2year1"),
        ("", "20060502"),
        (f"m{'9' * 30}", f"m{'9' * 30}"),
        ("1", "1"),
        ("4_bl", "4bl"),
    ],
)
def test_visits_become_sessions(tmp_path, visit, session):
    _table(
        tmp_path,
        [f"002_S_0413,{visit},I7,CN,2006-05-02"],
        "table.csv",
        "Subject,Visit,Image ID,Group,Acq Date",
    )
    _scan(tmp_path, "002_S_0413", "MPR", "2006-05-02_12_31_52.0", "I7")
    assert open_cohort(tmp_path, "T1w").table["session_id"].tolist() == [f"ses-{session}"]


DATES = "Subject,Visit,Image ID,Group,Acq Date"


def _dated(folder, images):
    """One subject: visit and date of each image, whose numbers count from 1."""
    rows = []
    for number, (visit, date) in enumerate(images, 1):
        rows.append(f"002_S_0413,{visit},I{number},CN,{date}")
        _scan(folder, "002_S_0413", "MPR", f"day{number}", f"I{number}")
    _table(folder, rows, "table.csv", DATES)
    return from_adni(folder)


@pytest.mark.parametrize(
    ("date", "session"),
    [
        ("1/12/2006", "20060112"),
        ("11/2/2006", "20061102"),
        ("2006-5-02 08:31:52.0", "20060502"),
        ("5/02/2006 8:31", "20060502"),
        ("1-11-06", "011106"),
        ("12-Jan-06", "12Jan06"),
    ],
)
def test_dates_become_sessions(tmp_path, date, session):
    assert _dated(tmp_path, [("", date)]).table["session_id"].tolist() == [f"ses-{session}"]


@pytest.mark.parametrize(
    "dates", [("1/12/2006", "11/2/2006"), ("1-12-06", "11-2-06"), ("1/11/2006", "11/1/2006")]
)
def test_two_dates_are_two_visits(tmp_path, dates):
    cohort = _dated(tmp_path, [("", dates[0]), ("", dates[1])])
    assert len(cohort.table) == 2
    assert not any("left out" in note for note in cohort.notes)


def test_visits_of_one_name_years_apart_stay_apart(tmp_path):
    """ADNI1 and ADNI2 each have a month 12; an image is repeated some days later."""
    images = [
        ("ADNI2 Month 12", "5/12/2012"),
        ("ADNI1/GO Month 12", "5/02/2006"),
        ("ADNI2 Month 12", "5/14/2012"),
        ("ADNI1/GO Month 12", "6/20/2006"),
        ("sc", "5/02/2005"),
        ("m24", ""),
    ]
    cohort = _dated(tmp_path, images)
    taken = {
        row["session_id"]: row["image"].rpartition("_")[2]
        for row in cohort.table.to_dict("records")
    }
    assert taken == {
        "ses-m12": "I2.nii",
        "ses-m12date20120512": "I1.nii",
        "ses-m24": "I6.nii",
        "ses-sc": "I5.nii",
    }
    assert (
        "2 images have the visit of an earlier image, and a date that is more than 90 days later: "
        "their visits are apart. The first is ses-m12date20120512 of 002_S_0413"
    ) in cohort.notes


def test_an_image_number_of_many_digits(tmp_path):
    number = "9" * 30
    rows = [f"002_S_0413,sc,I{number},CN,", "002_S_0413,sc,I100,CN,", "002_S_0413,sc,I20,CN,"]
    for name in (f"I{number}", "I100", "I20"):
        _scan(tmp_path, "002_S_0413", "MPR", f"day{name}", name)
    _table(tmp_path, rows, "table.csv", DATES)
    assert from_adni(tmp_path).table["image"].str.endswith("_I20.nii").tolist() == [True]


def test_what_is_no_nifti_or_hidden_is_no_scan(download):
    folder, scans = download
    scans["I45112"].with_suffix(".nii.md5").touch()
    copy = folder / ".Trash" / "I45112" / "a_I45112.nii"
    copy.parent.mkdir(parents=True)
    copy.touch()
    assert from_adni(folder).table["image"].tolist()[1] == str(scans["I45112"])
    scans["I45112"].rename(scans["I45112"].with_suffix(".nii.part"))
    with pytest.raises(CohortError, match="image I45112 of 002_S_0413: found no NIfTI file"):
        from_adni(folder)


def test_two_ages_of_one_image_are_noted(download):
    folder, _ = download
    _table(folder, [ROWS[0].replace('"76"', '"70"')], "second.csv")
    cohort = from_adni(folder)
    note = "1 images have ages that differ by more than a year; the first is used: I45112 (76, 70)"
    assert note in cohort.notes
    _table(folder, [ROWS[0].replace('"76"', '"75.3"')], "second.csv")
    assert not any("have ages" in note for note in from_adni(folder).notes)


@pytest.mark.parametrize("series", [["MPRAGE"], 3])
def test_a_series_is_text(download, series):
    with pytest.raises(ParameterError, match=r"parameter series: found .*; expected text"):
        from_adni(download[0], series=series)


def test_two_tables_are_one(download):
    folder, _ = download
    (folder / "Collection_11_24_2026.csv").unlink()
    _table(folder, ROWS[:2], "1_5T.csv")
    _table(folder, ROWS[1:3], "3T.csv")  # one image in both
    (folder / "notes.csv").write_text("who,what\nme,nothing\n")
    assert len(open_cohort(folder, "T1w").table) == 3


def test_conversions_are_an_error_or_left_out(download):
    folder, _ = download
    _table(folder, [*ROWS[:1], ROWS[1].replace('"CN"', '"AD"'), *ROWS[2:]])
    with pytest.raises(
        CohortError, match=r"002_S_0413: found AD and CN .*conversions: \"exclude\""
    ):
        from_adni(folder)
    cohort = from_adni(folder, conversions="exclude")
    assert cohort.table["participant_id"].tolist() == ["sub-ADNI011S0003"]
    assert "2 images of 1 subjects left out: AD and CN at different visits" in cohort.notes


def test_visits_with_mci_leave_the_others_in(download):
    folder, _ = download
    _table(folder, [ROWS[0].replace('"CN"', '"MCI"'), *ROWS[1:]])
    assert from_adni(folder).table["session_id"].tolist() == ["ses-m12", "ses-sc"]


def test_missing_files_are_an_error_or_left_out(download):
    folder, scans = download
    scans["I45112"].unlink()
    with pytest.raises(
        CohortError,
        match=r"Collection_11_24_2026.csv, image I45112 of 002_S_0413: "
        r"found no NIfTI file .*dcm2niix",
    ):
        from_adni(folder)
    cohort = from_adni(folder, missing="exclude")
    assert cohort.table["session_id"].tolist() == ["ses-m12", "ses-sc"]
    assert "1 images of 1 subjects left out: no file" in cohort.notes


@pytest.mark.parametrize("setting", ["conversions", "missing"])
def test_a_setting_that_is_none(download, setting):
    with pytest.raises(ParameterError, match="Did you mean exclude"):
        from_adni(download[0], **{setting: "exclud"})


def _another_subject(folder, scans):
    path = scans["I45112"]
    (folder / "ADNI" / "100_S_0001").mkdir()
    path.rename(folder / "ADNI" / "100_S_0001" / "ADNI_100_S_0001_MR_I45112.nii")


def _twice(folder, scans):
    scans["I45112"].with_suffix(".nii.gz").touch()


def _no_diagnosis_known(folder, scans):
    _table(folder, [ROWS[0].replace('"CN"', '"Patient"')])


def _sentence(folder, scans):
    _table(folder, [ROWS[0].replace('"CN"', '"No conversion to AD"')])


def _no_rows(folder, scans):
    _table(folder, [])


def _no_subject(folder, scans):
    _table(folder, [ROWS[0].replace("002_S_0413", "002-413")])


def _two_diagnoses(folder, scans):
    _table(folder, [ROWS[0].replace('"CN"', '"AD"')], "second.csv")


def _no_table(folder, scans):
    _table(folder, ["1,2"], header="Image Data ID,Subject")


def _only_mci(folder, scans):
    _table(folder, ROWS[4:5])


BAD = {
    _another_subject: (r"I45112.nii: found a scan of 100_S_0001", "002_S_0413, as the table says"),
    _twice: (r"I45112.nii.gz: found a second file of image I45112", "one file"),
    _no_diagnosis_known: (r"column of the diagnosis: found PATIENT", "one of AD, DEMENTIA, CN"),
    _sentence: (r"column of the diagnosis: found NO CONVERSION TO AD", "one of AD, DEMENTIA, CN"),
    _no_rows: (r"Collection_11_24_2026.csv: found no rows", "one row an image"),
    _no_subject: (r"column Subject: found '002-413'", "like 002_S_0413"),
    _two_diagnoses: (
        r"image I45112: found 002_S_0413 AD \(second.csv\) and 002_S_0413 CN",
        "one subject",
    ),
    _no_table: (r"found 1 CSV files, none of them", "Image Data ID, Subject, Group"),
    _only_mci: (
        r"no T1w scan of AD or CN \(1 images of 1 subjects left out: LMCI \(1\)",
        "at least one",
    ),
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__.strip("_"))
def test_what_contradicts_is_one_error(download, spoil):
    folder, scans = download
    spoil(folder, scans)
    actual, expected = BAD[spoil]
    with pytest.raises(CohortError, match=actual) as caught:
        from_adni(folder)
    assert expected in str(caught.value)
    assert caught.value.mend


@pytest.mark.parametrize(
    "names",
    [("Group", "Group"), ("Group", "group"), ("Age", "AGE"), ("Subject", "Subject ")],
    ids=" and ".join,
)
def test_two_columns_of_one_name_are_refused(download, names):
    folder, _ = download
    header = COLLECTION.replace(names[0], names[1]) + f",{names[0]}"
    _table(folder, [f"{row},X" for row in ROWS], header=header)
    with pytest.raises(CohortError, match="one column of this name") as caught:
        from_adni(folder)
    assert f"{names[1]!r} and {names[0]!r}" in str(caught.value)
    assert "Collection_11_24_2026.csv" in caught.value.where


def test_two_columns_that_are_not_read_may_have_one_name(download):
    folder, _ = download
    _table(folder, [f"{row},X,Y" for row in ROWS], header=COLLECTION + ",Note,Note")
    assert from_adni(folder).table["label"].tolist() == [0, 0, 1]


def test_a_wrong_age_names_its_table(download):
    folder, _ = download
    _table(folder, [ROWS[0].replace('"76"', '"7.6.0"'), *ROWS[1:]])
    with pytest.raises(CohortError, match=r"Collection_11_24_2026.csv, column age: found '7.6.0'"):
        from_adni(folder)


def test_a_visit_has_letters_and_digits_alone(download):
    folder, _ = download
    _table(folder, [row.replace('"m12"', '"d\xe9part"') for row in ROWS])
    cohort = from_adni(folder)
    assert "ses-dpart" in cohort.table["session_id"].tolist()
    assert any("'ses-d\xe9part' is read as ses-dpart" in note for note in cohort.notes)


def test_a_bids_folder_with_such_a_table_stays_bids(download):
    folder, _ = download
    (folder / "participants.tsv").write_text("participant_id\tgroup\nsub-1\tMS\n")
    with pytest.raises(CohortError, match="no FLAIR scan"):
        open_cohort(folder)
    assert adni.find_tables(folder)
