"""ADNI as the Image & Data Archive delivers it: tables of images (CSV) beside the folders of scans."""

import re
from pathlib import Path

import pandas as pd

from msxai.base.errors import CohortError
from msxai.base.parameters import one_of
from msxai.data.cohorts import tables

# Names of columns in the archive's tables of collections and of its advanced search, in ADNIMERGE, and in the lists of standardised scans
# that the paper used, without case and punctuation; of several in one table the first of each line counts
SYNONYMS = {
    "image_id": ("imagedataid", "imageid", "imageuid"),
    "subject": ("subject", "subjectid", "ptid"),
    "diagnosis": (
        "dx",
        "diagnosis",
        "group",
        "researchgroup",
        "dxbl",
    ),  # that of the visit before that of the enrolment
    "visit": ("visit", "viscode", "visitcode"),
    "date": ("acqdate", "scandate", "studydate", "examdate"),
    "age": ("age",),
    "sex": ("sex", "gender", "ptgender"),
    "scanner": ("scanner", "manufacturer", "magstrength", "fieldstrength", "fldstreng"),
    "modality": ("modality",),
    "description": ("description", "seriesdescription", "sequence"),
}
NEEDED = ("image_id", "subject", "diagnosis")
GROUPS = {"AD": "AD", "DEMENTIA": "AD", "CN": "CN", "NL": "CN", "HC": "CN", "NORMAL": "CN"}
EXCLUDED = ("MCI", "EMCI", "LMCI", "SMC")
CHOICES = ("error", "exclude")

_SUBJECT = re.compile(r"(?<!\d)\d{3}_S_\d{4,5}(?!\d)")
_IMAGE = re.compile(r"(?:^|[_/])I(\d+)(?=[_./])")


def find_tables(folder: Path) -> list[Path]:
    """CSV files of a folder whose first line has the needed columns."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            names = {_plain(name) for name in file.readline().split(",")}
        if all(names & set(SYNONYMS[column]) for column in NEEDED):
            found.append(path)
    return found


def read(
    folder: Path, modality: str, series: str, conversions: str, missing: str
) -> tuple[pd.DataFrame, list[str]]:
    """One row a scan with group, label and site, and what was left out; see `msxai.data.cohorts.cohort.from_adni`."""
    one_of("conversions", conversions, CHOICES)
    one_of("missing", missing, CHOICES)
    paths = find_tables(folder)
    if not paths:
        raise CohortError(
            folder,
            f"{len(list(folder.glob('*.csv')))} CSV files, none of them with an image, a subject and a diagnosis",
            "ADNI's table of the images (Image Data ID, Subject, Group; or Image.ID, PTID, DX)",
            "Download the collection's CSV from the archive and put it into this folder.",
        )
    files, notes = _files(folder), []

    def keep(rows, mask, why):
        if not mask.all():
            left = rows[~mask]
            notes.append(
                f"{len(left)} images of {left['subject'].nunique()} subjects left out: {why}"
            )
        return rows[mask]

    rows = _told(paths)
    known = set(rows["image_id"])
    rows = keep(rows, rows["image_id"].notna(), "no image's number in the table")
    rows = keep(
        rows,
        rows["modality"].fillna("MRI").str.upper().str.startswith("MR"),
        "another modality than MRI",
    )
    flair = rows["description"].fillna("").str.contains("flair", case=False)
    flairs = rows[flair] if modality != "FLAIR" else rows[:0]
    rows = keep(rows, flair == (modality == "FLAIR"), f"not {modality}")
    if series:
        rows = keep(
            rows,
            rows["description"].fillna("").map(_plain).str.contains(_plain(series)),
            f"no {series!r} in the description",
        )
    rows = keep(rows, rows["diagnosis"].notna(), "no diagnosis")
    counts = rows.loc[rows["diagnosis"].isin(EXCLUDED), "diagnosis"].value_counts()
    rows = keep(
        rows,
        ~rows["diagnosis"].isin(EXCLUDED),
        ", ".join(f"{name} ({count})" for name, count in counts.items()),
    )
    rows = rows.assign(group=rows["diagnosis"].map(GROUPS))
    other = rows[rows["group"].isna()]
    if len(other):
        raise CohortError(
            f"{', '.join(other['table'].unique())}, column of the diagnosis",
            ", ".join(sorted(other["diagnosis"].unique())),
            f"one of {', '.join([*GROUPS, *EXCLUDED])}",
            "Take the diagnosis from ADNI's table of diagnoses (DX), or remove these rows.",
        )
    both = rows.groupby("subject")["group"].nunique() > 1
    if both.any() and conversions == "error":
        raise CohortError(
            f"{rows['table'].iloc[0]}, {both.index[both][0]}",
            f"AD and CN at different visits ({both.sum()} such subjects)",
            "one diagnosis a subject",
            'Set conversions: "exclude" in the cohort\'s YAML to leave such subjects out, or remove the rows.',
        )
    rows = keep(rows, ~rows["subject"].isin(both.index[both]), "AD and CN at different visits")
    absent = ~rows["image_id"].isin(list(files))
    if absent.any() and missing == "error":
        first = rows[absent].iloc[0]
        raise CohortError(
            f"{first['table']}, image I{first['image_id']} of {first['subject']}",
            f"no NIfTI file of it below {folder} ({absent.sum()} such images)",
            f"a scan named ..._I{first['image_id']}.nii, or in a folder I{first['image_id']}",
            'Download it as NIfTI (DICOM goes through dcm2niix first), or set missing: "exclude" in the cohort\'s YAML.',
        )
    rows = keep(rows, ~absent, "no file")
    rows = rows.iloc[rows["image_id"].astype(int).argsort(kind="stable")]
    rows = keep(
        rows,
        ~rows.duplicated(["subject", "session_id"]),
        "a second image of one visit (the lowest image number is kept)",
    )
    if not len(rows):
        raise CohortError(
            folder,
            f"no {modality} scan of AD or CN ({'; '.join(notes)})",
            "at least one",
            "See what was left out.",
        )
    for image, subject in zip(rows["image_id"], rows["subject"], strict=True):
        named = set(_SUBJECT.findall(str(files[image].relative_to(folder)))) - {subject}
        if named:
            raise CohortError(
                files[image],
                f"a scan of {named.pop()}",
                f"{subject}, as the table says of I{image}",
                "Mend one of them.",
            )
    beside = {(row.subject, row.session_id): files.get(row.image_id) for row in flairs.itertuples()}
    unknown = len(set(files) - known)
    if unknown:
        notes.append(f"{unknown} scans are in no table and not read")
    return rows.assign(
        participant_id="sub-ADNI" + rows["subject"].str.replace("_", ""),
        image=rows["image_id"].map(files),
        flair=[beside.get(key) for key in zip(rows["subject"], rows["session_id"], strict=True)],
        label=rows["group"].map({"AD": 1, "CN": 0}),
        site=rows["subject"].str[:3],
    ), notes


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _told(paths) -> pd.DataFrame:
    """All tables under our names of columns, each image once."""
    found = []
    for path in paths:
        table = tables.read(path)
        names = {_plain(name): name for name in reversed(table.columns)}
        taken = {
            column: next((names[name] for name in known if name in names), None)
            for column, known in SYNONYMS.items()
        }
        rows = pd.DataFrame(
            {column: table[name] if name else None for column, name in taken.items()}, dtype=object
        )
        wrong = rows.loc[~rows["subject"].fillna("").str.fullmatch(_SUBJECT.pattern), "subject"]
        if len(wrong):
            raise CohortError(
                f"{path}, column {taken['subject']}",
                repr(wrong.iloc[0]),
                "subjects like 002_S_0413",
                "Mend the table.",
            )
        found.append(rows.assign(table=str(path)))
    rows = pd.concat(found, ignore_index=True)
    rows["image_id"] = rows["image_id"].str.extract(r"^\s*I?0*(\d+)(?:\.0)?\s*$", expand=False)
    # "MCI to Dementia" is the diagnosis of a visit at which it changed: the later one holds
    rows["diagnosis"] = (
        rows["diagnosis"].str.strip().str.upper().str.replace(r"^.* TO ", "", regex=True)
    )
    image = rows["image_id"].map(lambda number: f"I{number}")
    rows["session_id"] = "ses-" + rows["visit"].map(_session).fillna(
        rows["date"].str.replace(r"\W", "", regex=True)
    ).fillna(image)
    for number, same in rows[rows.duplicated("image_id", keep=False)].groupby("image_id"):
        if same["subject"].nunique() > 1 or same["diagnosis"].nunique() > 1:
            told = sorted(
                {
                    f"{row.subject} {row.diagnosis} ({Path(row.table).name})"
                    for row in same.itertuples()
                }
            )
            raise CohortError(
                f"{same['table'].iloc[0]}, image I{number}",
                " and ".join(told),
                "one subject and diagnosis",
                "Mend one of them.",
            )
    return rows[rows["image_id"].isna() | ~rows.duplicated("image_id")]


def _session(visit) -> str | float:
    """m12 of "m12", "Month 12" and "ADNI1/GO Month 12"; otherwise letters and digits, screening as sc and baseline as bl."""
    if pd.isna(visit):
        return visit
    plain = _plain(visit)
    month = re.fullmatch(r"m0*(\d+)", plain) or re.search(r"month0*(\d+)", plain)
    return (
        f"m{int(month[1]):02}"
        if month
        else plain.replace("screening", "sc").replace("baseline", "bl").removesuffix("visit")
    )


def _files(folder: Path) -> dict[str, Path]:
    """Image number to NIfTI file, by the last I12345 in its path."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.nii*")):
        numbers = _IMAGE.findall(str(path.relative_to(folder)))
        if not numbers:
            continue
        number = numbers[-1].lstrip("0")
        if number in found:
            raise CohortError(
                path,
                f"a second file of image I{number}, beside {found[number]}",
                "one file an image",
                "Keep one.",
            )
        found[number] = path
    return found
