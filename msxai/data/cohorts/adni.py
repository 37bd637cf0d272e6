"""ADNI as the Image & Data Archive delivers it: tables of images (CSV) and folders of scans."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from msxai.base.errors import CohortError
from msxai.base.parameters import one_of
from msxai.data.cohorts import tables

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

_SUBJECT = re.compile(r"(?<!\d)\d{3}_S_\d{4,5}(?!\d)")
_IMAGE = re.compile(r"(?:^|[_/])I(\d+)(?=[_./])")
_IMAGE_CELL = r"^\s*I?0*(\d+)(?:\.0)?\s*$"  # "I045112", "45112" and, through Excel, "45112.0"


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
    return [path for path in sorted(folder.glob("*.csv")) if _is_table_of_images(path)]


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
    paths = _require_tables(folder)
    files = _files(folder)
    images = _read_tables(paths)
    selection = _Selection(images, notes=[])
    flairs = _select_modality(selection, modality)
    _select_series(selection, series)
    _select_diagnoses(selection)
    _select_unconverted(selection, conversions)
    _select_present(selection, files, folder, missing)
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
    return rows, notes


def _is_table_of_images(path: Path) -> bool:
    """Return whether the first line of a CSV file has the needed columns."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        header = file.readline()
    names = {_plain(name) for name in header.split(",")}
    return all(names & set(_SYNONYMS[column]) for column in _NEEDED)


def _require_tables(folder: Path) -> list[Path]:
    """Return the tables of images of a folder; refuse a folder without any."""
    paths = find_tables(folder)
    if not paths:
        count = len(list(folder.glob("*.csv")))
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
    selection.keep(~is_flair, f"not {modality}")
    return rows[is_flair]


def _select_series(selection: _Selection, series: str) -> None:
    """Keep images with `series` in their description."""
    if series:
        descriptions = selection.rows["description"].fillna("").map(_plain)
        matches = descriptions.str.contains(_plain(series))
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
            "Take the diagnosis from ADNI's table of diagnoses (DX), or remove these rows.",
        )


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
        number = first["image_id"]
        raise CohortError(
            f"{first['table']}, image I{number} of {first['subject']}",
            f"no NIfTI file of it below {folder} ({absent.sum()} such images)",
            f"a scan named ..._I{number}.nii, or in a folder I{number}",
            "Download it as NIfTI (DICOM goes through dcm2niix first), or set "
            'missing: "exclude" in the cohort\'s YAML.',
        )
    selection.keep(~absent, "no file")


def _select_one_a_visit(selection: _Selection) -> None:
    """Keep the image with the lowest number of each visit."""
    order = selection.rows["image_id"].astype(int).argsort(kind="stable")
    selection.rows = selection.rows.iloc[order]
    repeated = selection.rows.duplicated(["subject", "session_id"])
    selection.keep(~repeated, "a second image of one visit (the lowest image number is kept)")


def _check_subjects(rows: pd.DataFrame, files: dict[str, Path], folder: Path) -> None:
    """Refuse a file whose path names another subject than the table."""
    for image, subject in zip(rows["image_id"], rows["subject"], strict=True):
        path = files[image]
        named = set(_SUBJECT.findall(str(path.relative_to(folder)))) - {subject}
        if named:
            expected = f"{subject}, as the table says of I{image}"
            raise CohortError(path, f"a scan of {named.pop()}", expected, "Mend one of them.")


def _flair_files(rows: pd.DataFrame, flairs: pd.DataFrame, files: dict[str, Path]) -> list:
    """Return the FLAIR of each row's visit, or None."""
    flair_of_visit = {}
    for flair in flairs.itertuples():
        flair_of_visit[flair.subject, flair.session_id] = files.get(flair.image_id)
    visits = zip(rows["subject"], rows["session_id"], strict=True)
    return [flair_of_visit.get(visit) for visit in visits]


def _plain(name: str) -> str:
    """Return letters and digits alone, in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _read_tables(paths) -> pd.DataFrame:
    """Read all tables under the names of columns of `_SYNONYMS`, each image once."""
    rows = pd.concat([_read_table(path) for path in paths], ignore_index=True)
    rows["image_id"] = rows["image_id"].str.extract(_IMAGE_CELL, expand=False)
    # "MCI to Dementia" is the diagnosis of a visit at which it changed: the later one holds.
    diagnoses = rows["diagnosis"].str.strip().str.upper()
    rows["diagnosis"] = diagnoses.str.replace(r"^.* TO ", "", regex=True)
    rows["session_id"] = _sessions(rows)
    _check_repeated(rows)
    is_first = ~rows.duplicated("image_id")
    return rows[rows["image_id"].isna() | is_first]


def _read_table(path: Path) -> pd.DataFrame:
    """Read one table under the names of columns of `_SYNONYMS`."""
    table = tables.read(path)
    names = {_plain(name): name for name in reversed(table.columns)}
    rows = pd.DataFrame(index=table.index, columns=list(_SYNONYMS), dtype=object)
    for column, synonyms in _SYNONYMS.items():
        present = [names[name] for name in synonyms if name in names]
        rows[column] = table[present[0]] if present else None
        if column == "subject":
            subject_column = present[0]
    is_subject = rows["subject"].fillna("").str.fullmatch(_SUBJECT.pattern)
    wrong = rows.loc[~is_subject, "subject"]
    if len(wrong):
        raise CohortError(
            f"{path}, column {subject_column}",
            repr(wrong.iloc[0]),
            "subjects like 002_S_0413",
            "Mend the table.",
        )
    return rows.assign(table=str(path))


def _sessions(rows: pd.DataFrame) -> pd.Series:
    """Return a session for each image: its visit, or else its date, or else its number."""
    dates = rows["date"].str.replace(r"\W", "", regex=True)
    images = rows["image_id"].map(lambda number: f"I{number}")
    visits = rows["visit"].map(_session)
    return "ses-" + visits.fillna(dates).fillna(images)


def _check_repeated(rows: pd.DataFrame) -> None:
    """Refuse an image that two tables give different subjects or diagnoses."""
    repeated = rows[rows.duplicated("image_id", keep=False)]
    for number, same in repeated.groupby("image_id"):
        if same["subject"].nunique() == 1 and same["diagnosis"].nunique() <= 1:
            continue
        entries = set()
        for row in same.itertuples():
            entries.add(f"{row.subject} {row.diagnosis} ({Path(row.table).name})")
        raise CohortError(
            f"{same['table'].iloc[0]}, image I{number}",
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
    plain = _plain(visit)
    month = re.fullmatch(r"m0*(\d+)", plain) or re.search(r"month0*(\d+)", plain)
    if month:
        return f"m{int(month[1]):02}"
    return plain.replace("screening", "sc").replace("baseline", "bl").removesuffix("visit")


def _files(folder: Path) -> dict[str, Path]:
    """Return the NIfTI file of each image number, by the last I12345 in its path."""
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.nii*")):
        numbers = _IMAGE.findall(str(path.relative_to(folder)))
        if not numbers:
            continue
        number = numbers[-1].lstrip("0")
        if number in files:
            actual = f"a second file of image I{number}, beside {files[number]}"
            raise CohortError(path, actual, "one file an image", "Keep one.")
        files[number] = path
    return files
