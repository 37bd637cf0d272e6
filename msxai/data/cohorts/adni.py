"""ADNI as the Image & Data Archive delivers it: tables of images (CSV) and folders of scans."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from msxai.base.errors import CohortError, ParameterError
from msxai.base.parameters import one_of
from msxai.data.cohorts import identifiers, scan_files, tables
from msxai.data.cohorts.tables import plain

__all__ = ["find_tables", "read"]

# Names of columns in the archive's tables of collections and of its advanced search, in ADNIMERGE,
# and in the lists of standardised scans that the paper used, in lower case without punctuation.
# Of several in one table the first of each line counts.
_SYNONYMS = {
    "image_id": ("imagedataid", "imageid", "imageuid"),
    "subject": ("subject", "subjectid", "ptid"),
    # The diagnosis of the visit comes before that of the enrolment.
    "diagnosis": ("dx", "diagnosis", "group", "researchgroup", "dxbl"),
    "visit": ("visit", "viscode", "visitcode"),
    "date": ("acqdate", "scandate", "studydate", "examdate"),
    "age": ("age",),
    "sex": ("sex", "gender", "ptgender"),
    "scanner": ("scanner", "manufacturer", "magstrength", "fieldstrength", "fldstreng"),
    "modality": ("modality",),
    "description": ("description", "seriesdescription", "sequence"),
}
_NEEDED = ("image_id", "subject", "diagnosis")
_GROUPS = {"AD": "AD", "DEMENTIA": "AD", "CN": "CN", "NL": "CN", "HC": "CN", "NORMAL": "CN"}
_LABELS = {"AD": 1, "CN": 0}
_EXCLUDED_DIAGNOSES = ("MCI", "EMCI", "LMCI", "SMC")
_CHOICES = ("error", "exclude")
_MCI = ("EMCI", "LMCI")  # names of MCI in other tables
_DIAGNOSIS = f"(?:{'|'.join([*_GROUPS, *_EXCLUDED_DIAGNOSES])})"
# "MCI to Dementia" and "Conversion: MCI to Dementia" are diagnoses of a visit at which it changed:
# the last one holds. Other sentences that end so, as "No conversion to AD", are refused.
_EARLIER_DIAGNOSES = (
    rf"^(?:(?:STABLE|CONVERSION|REVERSION): )?(?:{_DIAGNOSIS} TO )*(?={_DIAGNOSIS}$)"
)

# Words of a series' description, in lower case with blanks for punctuation. What the last pattern
# matches is never T1-weighted, although "MPR; GradWarp; B1 Correction; N3; Scaled" is.
_T1_SEQUENCE = re.compile(r"mp ?rage|mp2rage|\bmpr|spgr|\bmt1\b|bravo|\btfe\b")
_T1_WORD = re.compile(r"\bt1")
_NO_T1 = re.compile(
    r"\bt2|\bpd\b|flair|locali[sz]er|scout|survey|calibration|\bcal\b|\bb1\b(?! correction)|"
    r"hippo|\bdti\b|\bdwi\b|diffusion|\basl\b|perfusion|fmri|bold|resting|field ?map|\bswi\b"
)
_SEQUENCE, _WORD, _UNCLEAR = range(3)  # how clearly a description is T1-weighted

_SUBJECT = re.compile(r"(?<!\d)\d{3}_S_\d{4,5}(?!\d)")
_IMAGE = re.compile(r"(?:^|[_/])I0*(\d+)(?=[_./])")
_DERIVED_IMAGE = re.compile(r"(?:^|[_/])(D)0*(\d+)(?=[_./])")
# "I045112", "45112" and, through Excel, "45112.0"; numbers with D count apart
_IMAGE_CELL = r"^(?:I|(D))?0*(\d+)(?:\.0)?$"
_SERIES = re.compile(r"_MR_(.+)_Br_")  # in the archive's names of files
_CROPPED = re.compile(r"_Crop_\d+\.nii")  # the second file that dcm2niix writes
_MONTH = re.compile(r"m0*([0-9]{1,4})")
_MONTH_IN_WORDS = re.compile(r"month0*([0-9]{1,4})(?![0-9])")
_LONGEST_VISIT = 90  # days; the visits of ADNI are three months apart or more


@dataclass
class _Selection:
    """Rows of a table of images, and a note for each step that left some out."""

    rows: pd.DataFrame
    notes: list[str]

    def keep(self, mask, reason: str) -> None:
        """Leave out the rows that are not in `mask`."""
        if not mask.all():
            left_out = self.rows[~mask]
            subjects = left_out["subject"].nunique()
            self.notes.append(f"{len(left_out)} images of {subjects} subjects left out: {reason}")
        self.rows = self.rows[mask]


def find_tables(folder: Path) -> list[Path]:
    """Return the CSV files of a folder whose first line has the needed columns."""
    return [path for path in _csv_files(folder) if _is_table_of_images(path)]


def read(
    folder: Path, modality: str, series: str, conversions: str, missing: str
) -> tuple[pd.DataFrame, list[str]]:
    """Read one row a scan.

    Parameters
    ----------
    folder, modality, series, conversions, missing
        See `msxai.data.cohorts.cohort.from_adni`.

    Returns
    -------
    rows : pandas.DataFrame
        participant_id, session_id, image, flair, group, label, site, and what the tables have.
    notes : list of str
        What was left out, and why.
    """
    one_of("conversions", conversions, _CHOICES)
    one_of("missing", missing, _CHOICES)
    if not isinstance(series, str | None):
        expected = "text that is in the description of the images"
        raise ParameterError("parameter series", repr(series), expected, "Name one series.")
    paths = _require_tables(folder)
    images, mended = _read_tables(paths)
    if images.empty:
        where = ", ".join(map(str, paths))
        raise CohortError(where, "no rows", "one row an image", "Download the table again.")
    files, notes = _files(folder, set(images["image_id"]))
    images["description"] = _descriptions(images, files, folder)
    selection = _Selection(images, notes + mended)
    flairs = _select_modality(selection, modality)
    _select_series(selection, series)
    _select_diagnoses(selection)
    _select_unconverted(selection, conversions)
    if modality != "FLAIR":
        _select_t1(selection)
    _select_present(selection, files, folder, missing)
    if modality != "FLAIR":
        _refuse_unclear(selection.rows, series)
    _select_one_a_visit(selection)
    rows = selection.rows
    notes = selection.notes
    if rows.empty:
        actual = f"no {modality} scan of AD or CN ({'; '.join(notes)})"
        raise CohortError(folder, actual, "at least one", "See what was left out.")
    _check_subjects(rows, files, folder)
    n_unlisted = len(set(files) - set(images["image_id"]))
    if n_unlisted:
        notes.append(f"{n_unlisted} scans are in no table and not read")
    subjects = rows["subject"]
    rows = rows.assign(
        participant_id="sub-ADNI" + subjects.str.replace("_", ""),
        image=rows["image_id"].map(files),
        flair=_flair_files(rows, flairs, files),
        label=rows["group"].map(_LABELS),
        site=subjects.str[:3],
    )
    where = f"{folder}, column of the visit"
    rows["session_id"], mended = identifiers.safe(rows["session_id"], "ses", where)
    _check_ages(rows)
    return rows, notes + mended


def _check_ages(rows: pd.DataFrame) -> None:
    """Refuse a wrong age here, where its table is known."""
    for table, own in rows.groupby("table"):
        tables.numbers(own["age"], "age", table)


def _csv_files(folder: Path) -> list[Path]:
    """Return the CSV files of a folder in order, without hidden ones."""
    if not folder.is_dir():
        return []
    shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(path for path in shown if path.suffix.lower() == ".csv")


def _is_table_of_images(path: Path) -> bool:
    """Return whether the first line of a CSV file has the needed columns."""
    names = {plain(name) for name in tables.first_line(path)}
    return all(names & set(_SYNONYMS[column]) for column in _NEEDED)


def _require_tables(folder: Path) -> list[Path]:
    """Return the tables of images of a folder; refuse a folder without any."""
    paths = find_tables(folder)
    if not paths:
        count = len(_csv_files(folder))
        raise CohortError(
            folder,
            f"{count} CSV files, none of them with an image, a subject and a diagnosis",
            "ADNI's table of the images (Image Data ID, Subject, Group; or Image.ID, PTID, DX)",
            "Download the collection's CSV from the archive and put it into this folder.",
        )
    return paths


def _select_modality(selection: _Selection, modality: str) -> pd.DataFrame:
    """Keep MRI of a modality; return the rows of FLAIRs that go with another modality."""
    has_number = selection.rows["image_id"].notna()
    selection.keep(has_number, "no image's number in the table")
    modalities = selection.rows["modality"].fillna("MRI").str.upper()
    selection.keep(modalities.str.startswith("MR"), "another modality than MRI")
    rows = selection.rows
    is_flair = rows["description"].fillna("").str.contains("flair", case=False)
    if modality == "FLAIR":
        selection.keep(is_flair, "not FLAIR")
        return rows[:0]
    is_other = _words(rows).str.contains(_NO_T1)
    selection.keep(~is_flair & ~is_other, f"not {modality}")
    return rows[is_flair]


def _words(rows: pd.DataFrame) -> pd.Series:
    """Return the words of the descriptions, in lower case, with blanks for punctuation."""
    descriptions = rows["description"].fillna("").str.lower()
    return descriptions.str.replace(r"[\W_]+", " ", regex=True)


def _select_series(selection: _Selection, series: str) -> None:
    """Keep images with `series` in their description."""
    if series:
        descriptions = selection.rows["description"].fillna("").map(plain)
        matches = descriptions.str.contains(plain(series))
        selection.keep(matches, f"no {series!r} in the description")


def _select_diagnoses(selection: _Selection) -> None:
    """Keep images of AD and of controls, and add their group; refuse an unknown diagnosis."""
    selection.keep(selection.rows["diagnosis"].notna(), "no diagnosis")
    diagnoses = selection.rows["diagnosis"]
    excluded = diagnoses.isin(_EXCLUDED_DIAGNOSES)
    counts = diagnoses[excluded].value_counts()
    reason = ", ".join(f"{name} ({count})" for name, count in counts.items())
    selection.keep(~excluded, reason)
    groups = selection.rows["diagnosis"].map(_GROUPS)
    selection.rows = selection.rows.assign(group=groups)
    unknown = selection.rows[groups.isna()]
    if len(unknown):
        where = ", ".join(unknown["table"].unique())
        raise CohortError(
            f"{where}, column of the diagnosis",
            ", ".join(sorted(unknown["diagnosis"].unique())),
            f"one of {', '.join([*_GROUPS, *_EXCLUDED_DIAGNOSES])}",
            _instead(unknown),
        )


def _instead(unknown: pd.DataFrame) -> str:
    """Return what to do about rows with an unknown diagnosis."""
    columns = unknown["further_diagnoses"].iloc[0]
    if columns:
        return f"The table's {columns} would serve: remove the column with these values."
    return "Take the diagnosis from ADNI's table of diagnoses (DX), or remove these rows."


def _select_unconverted(selection: _Selection, conversions: str) -> None:
    """Keep subjects of one group; refuse others unless `conversions` is "exclude"."""
    rows = selection.rows
    n_groups = rows.groupby("subject")["group"].nunique()
    converted = n_groups.index[n_groups > 1]
    if len(converted) and conversions == "error":
        raise CohortError(
            f"{rows['table'].iloc[0]}, {converted[0]}",
            f"AD and CN at different visits ({len(converted)} such subjects)",
            "one diagnosis a subject",
            'Set conversions: "exclude" in the cohort\'s YAML to leave such subjects out, '
            "or remove the rows.",
        )
    selection.keep(~rows["subject"].isin(converted), "AD and CN at different visits")


def _select_present(
    selection: _Selection, files: dict[str, Path], folder: Path, missing: str
) -> None:
    """Keep images with a file; refuse others unless `missing` is "exclude"."""
    absent = ~selection.rows["image_id"].isin(list(files))
    if absent.any() and missing == "error":
        first = selection.rows[absent].iloc[0]
        number = _image_name(first["image_id"])
        raise CohortError(
            f"{first['table']}, image {number} of {first['subject']}",
            f"no NIfTI file of it below {folder} ({absent.sum()} such images)",
            f"a scan named ..._{number}.nii, or in a folder {number}",
            "Download it as NIfTI (DICOM goes through dcm2niix first), or set "
            'missing: "exclude" in the cohort\'s YAML.',
        )
    selection.keep(~absent, "no file")


def _select_t1(selection: _Selection) -> None:
    """Keep of each visit the images that are most clearly T1-weighted."""
    clarity = _clarity(selection.rows)
    visits = [selection.rows["subject"], selection.rows["session_id"]]
    is_best = clarity == clarity.groupby(visits).transform("min")
    selection.keep(is_best, "another image of the visit is more clearly T1-weighted")


def _clarity(rows: pd.DataFrame) -> pd.Series:
    """Return how clearly the descriptions are T1-weighted."""
    words = _words(rows)
    clarity = pd.Series(_UNCLEAR, index=rows.index)
    clarity[words.str.contains(_T1_WORD)] = _WORD
    clarity[words.str.contains(_T1_SEQUENCE)] = _SEQUENCE
    return clarity


def _refuse_unclear(rows: pd.DataFrame, series: str) -> None:
    """Refuse images whose description does not say that they are T1-weighted.

    One series that the user names is taken.
    """
    unclear = rows[(_clarity(rows) == _UNCLEAR) & rows["description"].notna()]
    for (subject, session), candidates in unclear.groupby(["subject", "session_id"]):
        if series and candidates["description"].nunique() == 1:
            continue
        names = []
        for image in candidates.itertuples():
            names.append(f"{_image_name(image.image_id)} ({image.description})")
        raise CohortError(
            f"{candidates['table'].iloc[0]}, {subject}, {session}",
            f"{', '.join(names)}, and no name of a T1-weighted sequence",
            "an MPRAGE or IR-SPGR",
            "Set `series` in the cohort's YAML to the series to use, or remove these rows.",
        )


def _select_one_a_visit(selection: _Selection) -> None:
    """Keep the image with the lowest number of each visit."""
    numbers = selection.rows["image_id"].str.removeprefix("D")
    # A longer number is larger: there are no leading zeros.
    order = pd.DataFrame({"length": numbers.str.len(), "digits": numbers})
    order = order.reset_index(drop=True).sort_values(["length", "digits"], kind="stable")
    selection.rows = selection.rows.iloc[order.index]
    repeated = selection.rows.duplicated(["subject", "session_id"])
    selection.keep(~repeated, "a second image of one visit (the lowest image number is kept)")


def _check_subjects(rows: pd.DataFrame, files: dict[str, Path], folder: Path) -> None:
    """Refuse a file whose path names another subject than the table."""
    for image, subject in zip(rows["image_id"], rows["subject"], strict=True):
        path = files[image]
        named = set(_SUBJECT.findall(str(path.relative_to(folder)))) - {subject}
        if named:
            expected = f"{subject}, as the table says of {_image_name(image)}"
            raise CohortError(path, f"a scan of {named.pop()}", expected, "Mend one of them.")


def _flair_files(rows: pd.DataFrame, flairs: pd.DataFrame, files: dict[str, Path]) -> list:
    """Return the FLAIR of each row's visit, or None."""
    flair_of_visit = {}
    for flair in flairs.itertuples():
        if flair.image_id in files:
            visit = (flair.subject, flair.session_id)
            flair_of_visit.setdefault(visit, files[flair.image_id])
    visits = zip(rows["subject"], rows["session_id"], strict=True)
    return [flair_of_visit.get(visit) for visit in visits]


def _image_name(image_id: str) -> str:
    """Return an image's number as the archive writes it."""
    return image_id if image_id.startswith("D") else f"I{image_id}"


def _read_tables(paths) -> tuple[pd.DataFrame, list[str]]:
    """Read all tables under the names of columns of `_SYNONYMS`, each image once."""
    notes: list[str] = []
    rows = pd.concat([_read_table(path, notes) for path in paths], ignore_index=True)
    numbers = rows["image_id"].str.extract(_IMAGE_CELL)
    rows["image_id"] = numbers[0].fillna("") + numbers[1]
    diagnoses = rows["diagnosis"].str.upper()
    rows["diagnosis"] = diagnoses.str.replace(_EARLIER_DIAGNOSES, "", regex=True)
    rows["session_id"] = _sessions(rows)
    notes += _part_visits(rows)
    _check_repeated(rows)
    notes += _differing_ages(rows)
    rows = rows.sort_values("diagnosis", key=pd.isna, kind="stable")
    is_first = ~rows.duplicated("image_id")
    return rows[rows["image_id"].isna() | is_first].sort_index(), notes


def _read_table(path: Path, notes: list[str]) -> pd.DataFrame:
    """Read one table under the names of columns of `_SYNONYMS`."""
    _check_header(path)
    table, mended = tables.read(path)
    notes += mended
    names = {plain(name): name for name in reversed(table.columns)}
    rows = pd.DataFrame(index=table.index, columns=list(_SYNONYMS), dtype=object)
    for column, synonyms in _SYNONYMS.items():
        present = [names[name] for name in synonyms if name in names]
        rows[column] = table[present[0]] if present else None
        if column == "subject":
            subject_column = present[0]
        if column == "diagnosis":
            further = [name for name in present[1:] if _has_diagnoses(table[name])]
    is_subject = rows["subject"].fillna("").str.fullmatch(_SUBJECT.pattern)
    wrong = rows.loc[~is_subject, "subject"]
    if len(wrong):
        raise CohortError(
            f"{path}, column {subject_column}",
            repr(wrong.iloc[0]),
            "subjects like 002_S_0413",
            "Mend the table.",
        )
    return rows.assign(table=str(path), further_diagnoses=", ".join(further))


def _check_header(path: Path) -> None:
    """Refuse two columns of one name: which of them holds the labels would be a guess."""
    read_names = {name for names in _SYNONYMS.values() for name in names}
    header_of: dict[str, str] = {}
    for column in tables.first_line(path):
        name = plain(column)
        if name in read_names and name in header_of:
            raise CohortError(
                f"{path}, column {column}",
                f"the columns {header_of[name]!r} and {column!r}",
                "one column of this name",
                "Rename or remove the other one.",
            )
        header_of[name] = column


def _has_diagnoses(column: pd.Series) -> bool:
    """Return whether all values of a column are diagnoses."""
    return set(column.dropna().str.upper()) <= {*_GROUPS, *_EXCLUDED_DIAGNOSES}


def _descriptions(rows: pd.DataFrame, files: dict[str, Path], folder: Path) -> pd.Series:
    """Return the description of each image, or else its series in the archive's path."""
    series = {}
    for image, path in files.items():
        parts = path.relative_to(folder).parts
        after = [parts[index + 1] for index in range(len(parts) - 2) if _is_subject(parts[index])]
        match = _SERIES.search(path.name)
        in_name = [match[1]] if match else []
        series[image] = next(iter(after + in_name), None)
    return rows["description"].fillna(rows["image_id"].map(series))


def _is_subject(name: str) -> bool:
    """Return whether a folder's name is the number of a subject."""
    return bool(_SUBJECT.fullmatch(name))


def _sessions(rows: pd.DataFrame) -> pd.Series:
    """Return a session for each image: its visit, or else its date, or else its number."""
    dates = rows["date"].map(_date, na_action="ignore")
    images = rows["image_id"].map(_image_name, na_action="ignore")
    visits = rows["visit"].map(_session)
    return "ses-" + visits.fillna(dates).fillna(images)


def _date(text: str) -> str:
    """Return a date as digits, without the time of day: 20060112 of 2006-01-12 and 1/12/2006.

    Of a date that is written in another way: its letters and digits, with 02 for 2.
    """
    day = re.match(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?![0-9])", text)
    if day:
        return f"{day[1]}{day[2]:0>2}{day[3]:0>2}"
    day = re.match(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})(?![0-9])", text)
    if day:
        return f"{day[3]}{day[1]:0>2}{day[2]:0>2}"
    padded = re.sub(r"(?<![0-9])([0-9])(?![0-9])", r"0\1", text)
    return re.sub(r"\W", "", padded)


def _part_visits(rows: pd.DataFrame) -> list[str]:
    """Make visits of one name that are months apart several visits, in place; return a note.

    ADNI1 and ADNI2 each have a month 12.
    """
    dates = rows["date"].map(_date, na_action="ignore")
    days = pd.to_datetime(dates, format="%Y%m%d", errors="coerce").dropna().sort_values()
    visits = rows.loc[days.index, ["subject", "session_id"]]
    renamed = {}
    for _, of_visit in days.groupby([visits["subject"], visits["session_id"]]):
        first = of_visit.iloc[0]
        name = None
        for index, day in of_visit.items():
            if (day - first).days > _LONGEST_VISIT:
                first = day
                name = f"{rows.loc[index, 'session_id']}date{day:%Y%m%d}"
            if name:
                renamed[index] = name
    if not renamed:
        return []
    example = next(iter(renamed))
    note = (
        f"{len(renamed)} images have the visit of an earlier image, and a date that is more than "
        f"{_LONGEST_VISIT} days later: their visits are apart. The first is {renamed[example]} of "
        f"{rows.loc[example, 'subject']}"
    )
    rows["session_id"] = pd.Series(renamed).reindex(rows.index).fillna(rows["session_id"])
    return [note]


def _differing_ages(rows: pd.DataFrame) -> list[str]:
    """Return a note about images that have two ages: ADNIMERGE has the age at the first visit."""
    has_image = rows["image_id"].notna()
    ages = rows.loc[has_image, "age"].str.replace(",", ".", regex=False)
    years = pd.to_numeric(ages, errors="coerce").groupby(rows["image_id"])
    ranges = years.max() - years.min()
    differing = ranges.index[ranges > 1]
    if not len(differing):
        return []
    image = differing[0]
    same = rows.loc[rows["image_id"] == image, "age"].dropna().unique()
    return [
        f"{len(differing)} images have ages that differ by more than a year; the first is used: "
        f"{_image_name(image)} ({', '.join(same)})"
    ]


def _check_repeated(rows: pd.DataFrame) -> None:
    """Refuse an image that two tables give different subjects or diagnoses."""
    repeated = rows[rows.duplicated("image_id", keep=False)]
    for number, same in repeated.groupby("image_id"):
        names = same["diagnosis"].replace(_GROUPS).replace(dict.fromkeys(_MCI, "MCI"))
        if same["subject"].nunique() == 1 and names.nunique() <= 1:
            continue
        entries = set()
        for row in same.itertuples():
            entries.add(f"{row.subject} {row.diagnosis} ({Path(row.table).name})")
        raise CohortError(
            f"{same['table'].iloc[0]}, image {_image_name(number)}",
            " and ".join(sorted(entries)),
            "one subject and diagnosis",
            "Mend one of them.",
        )


def _session(visit) -> str | float:
    """Return the name of a visit: m12 of "m12", "Month 12" and "ADNI1/GO Month 12".

    Of other visits: letters and digits, screening as sc and baseline as bl.
    """
    if pd.isna(visit):
        return visit
    name = plain(visit)
    month = _MONTH.fullmatch(name) or _MONTH_IN_WORDS.search(name)
    if month:
        return f"m{int(month[1]):02}"
    return name.replace("screening", "sc").replace("baseline", "bl").removesuffix("visit")


def _files(folder: Path, in_tables: set[str]) -> tuple[dict[str, Path], list[str]]:
    """Return the NIfTI file of each image number, by the last I12345 in its path.

    The cropped copy that dcm2niix writes is left out; a note says so.
    """
    files: dict[str, Path] = {}
    n_cropped = 0
    for path in sorted(_nifti_files(folder), key=lambda path: (_is_cropped(path), path)):
        number = _image_number(str(path.relative_to(folder)), in_tables)
        if number is None:
            continue
        if number not in files:
            files[number] = path
        elif _is_cropped(path):
            n_cropped += 1
        else:
            name = _image_name(number)
            actual = f"a second file of image {name}, beside {files[number]}"
            raise CohortError(path, actual, "one file an image", "Keep one.")
    notes = [f"{n_cropped} cropped copies of dcm2niix are not read"] if n_cropped else []
    return files, notes


def _nifti_files(folder: Path) -> list[Path]:
    """Return all NIfTI files below a folder, without hidden ones and those in hidden folders."""
    files = []
    for path in folder.rglob("*.[nN][iI][iI]*"):
        parts = path.relative_to(folder).parts
        is_hidden = any(part.startswith(".") for part in parts)
        if scan_files.is_nifti(path) and not is_hidden:
            files.append(path)
    return files


def _is_cropped(path: Path) -> bool:
    """Return whether a file is a cropped copy."""
    return bool(_CROPPED.search(path.name))


def _image_number(path: str, in_tables: set[str]) -> str | None:
    """Return the last image number in a path: 45112 of I045112, and D801 of D801.

    A D may stand for anything, so that it counts only where a table has this number.
    """
    numbers = _IMAGE.findall(path)
    if numbers:
        return numbers[-1]
    derived = ["".join(parts) for parts in _DERIVED_IMAGE.findall(path)]
    return next((number for number in reversed(derived) if number in in_tables), None)
