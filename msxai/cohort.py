"""A cohort: which scans belong to whom, their masks, labels and covariates."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .errors import CohortError
from .parameters import located

COLUMNS = ("participant_id", "session_id", "image", "brain_mask", "lesion_mask", "group", "label", "age", "sex", "site", "edss")


@dataclass(frozen=True)
class Cohort:
    """A table with one row a scan.

    Attributes
    ----------
    name : str
        Name of its folder.
    table : pandas.DataFrame
        participant_id, session_id ("" if there are none), image, brain_mask, lesion_mask (paths or None), group, label (1 patient,
        0 control, NA unknown), age (years), sex, site, edss; unknown covariates are NaN or None.
    synthetic : bool
        Simulated, as its dataset_description.json says.
    modality : str
        FLAIR or T1w.
    """

    name: str
    table: pd.DataFrame
    synthetic: bool
    modality: str


def open_cohort(
    source,
    modality: str = "FLAIR",
    patients: str = "MS",
    controls: str = "HC",
    label_column: str = "group",
    images=(),
    lesion_masks=(),
    name: str = "",
) -> Cohort:
    """Open a BIDS dataset, or a plain list of scans where `images` are given.

    Parameters
    ----------
    source : str
        Folder of a BIDS dataset; not read where `images` are given.
    modality, patients, controls, label_column
        See `from_bids`.
    images, lesion_masks, name
        See `from_images`.

    Raises
    ------
    CohortError
        See `from_bids` and `from_images`.
    """
    if images:
        return from_images(images, lesion_masks, Path(name).name, modality)
    return from_bids(source, modality, patients, controls, label_column)


def from_images(images, lesion_masks=(), name: str = "scans", modality: str = "FLAIR") -> Cohort:
    """Make a cohort without labels of plain image files.

    Parameters
    ----------
    images, lesion_masks : sequences of path
        One mask for each image, or none at all.
    name, modality : str
        What to call the cohort; what the scans are.

    Raises
    ------
    CohortError
        Another number of masks than of images, a missing file, or two images of one name.
    """
    if lesion_masks and len(lesion_masks) != len(images):
        raise CohortError("parameter lesion_masks", f"{len(lesion_masks)} masks", f"{len(images)}, one for each of images", "Or give none.")
    rows = []
    for index, path in enumerate(map(located, images)):
        stem = path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(f"_{modality}")
        mask = _existing(located(lesion_masks[index]), "parameter lesion_masks") if lesion_masks else None
        rows.append(
            {
                "participant_id": f"sub-{stem.replace('_', '').replace('-', '')}",
                "image": _existing(path, "parameter images"),
                "lesion_mask": mask,
            }
        )
    return Cohort(name, _complete(pd.DataFrame(rows), "parameter images"), False, modality)


def from_bids(folder, modality: str = "FLAIR", patients: str = "MS", controls: str = "HC", label_column: str = "group") -> Cohort:
    """Read a BIDS dataset.

    Scans are sub-*/[ses-*/]anat/*_<modality>.nii[.gz]; masks stand under derivatives/*/ at the same place as
    *_desc-brain_mask and *_label-lesion_mask; ages of visits in sub-*/sub-*_sessions.tsv.

    Parameters
    ----------
    folder : path
        With participants.tsv; a relative path starts at the checkout.
    modality : str
        FLAIR or T1w.
    patients, controls : str
        What `label_column` says of a patient and of a control.
    label_column : str
        Column of participants.tsv.

    Raises
    ------
    CohortError
        A missing folder, table, column or scan, a table that cannot be read, a participant twice, a label that is neither; the message
        names file and column.
    """
    folder = located(str(folder))
    if not folder.is_dir():
        raise CohortError(
            folder,
            "no such folder",
            "a BIDS dataset, or the name of an embedded cohort (phantom-ms..., phantom-ad...)",
            "Set the parameter cohort.",
        )
    path = folder / "participants.tsv"
    if not path.is_file():
        raise CohortError(path, "no such file", "a table with one row a participant", "See data/README.md for the layout.")
    if patients == controls:
        raise CohortError("parameters patients, controls", f"{patients!r} for both", "two names", "Name the groups of the label column.")
    people = _read(path)
    for column in ("participant_id", label_column):
        if column not in people:
            raise CohortError(
                f"{path}, column {column}",
                f"only the columns {', '.join(people.columns)}",
                "this column",
                "Add it, or name yours with the parameter label_column.",
            )
    if people["participant_id"].isna().any() or not len(people):
        found = "a row without identifier" if len(people) else "no rows"
        raise CohortError(f"{path}, column participant_id", found, "each participant once", "Fill it in.")
    people["participant_id"] = "sub-" + people["participant_id"].str.removeprefix("sub-")
    twice = people.loc[people["participant_id"].duplicated(), "participant_id"]
    if len(twice):
        raise CohortError(f"{path}, column participant_id", f"{twice.iloc[0]} twice", "each participant once", "Remove one of the rows.")
    other = sorted(set(people[label_column].dropna()) - {patients, controls})
    if other:
        raise CohortError(
            f"{path}, column {label_column}",
            f"{', '.join(other)}",
            f"{patients} (patients) or {controls} (controls)",
            "Set the parameters patients and controls, or leave these participants out of the table (n/a: unknown).",
        )
    rows = []
    for person in people.to_dict("records"):
        scans = _scans(folder, person["participant_id"], modality)
        for session, scan in scans.items():
            masks = {
                f"{kind}_mask": _mask(folder, scan, modality, entity)
                for kind, entity in (("brain", "desc-brain"), ("lesion", "label-lesion"))
            }
            rows.append({**person, "session_id": session, "image": scan, **masks, **_visit(folder, person["participant_id"], session)})
    table = pd.DataFrame(rows).assign(group=lambda table: table[label_column])
    table["label"] = table["group"].map({patients: 1, controls: 0})
    return Cohort(folder.name, _complete(table, path), _synthetic(folder), modality)


def _scans(folder: Path, participant: str, modality: str) -> dict[str, Path]:
    """Session ("" if none) to scan."""
    found: dict[str, list[Path]] = {}
    for scan in sorted(
        [*folder.glob(f"{participant}/anat/*_{modality}.nii*"), *folder.glob(f"{participant}/ses-*/anat/*_{modality}.nii*")]
    ):
        session = scan.parent.parent.name
        found.setdefault(session if session.startswith("ses-") else "", []).append(scan)
    if not found:
        raise CohortError(
            folder / participant,
            f"no {modality} scan",
            f"{participant}/[ses-*/]anat/{participant}[_ses-*]_{modality}.nii.gz",
            "Add the scan, set the parameter modality, or take the participant out of participants.tsv.",
        )
    chosen = {}
    for session, scans in found.items():
        plain = [scan for scan in scans if scan.name.split(".")[0] == "_".join(filter(None, [participant, session, modality]))]
        if len(scans) > 1 and len(plain) != 1:
            raise CohortError(
                scans[0].parent,
                f"{len(scans)} {modality} scans: {', '.join(scan.name for scan in scans)}",
                "one of them without further entities",
                "Keep one, or rename the one to use.",
            )
        chosen[session] = plain[0] if plain else scans[0]
    return chosen


def _mask(folder: Path, scan: Path, modality: str, entity: str) -> Path | None:
    """A mask of a scan, under any derivative."""
    stem = scan.name.split(".")[0].removesuffix(f"_{modality}")
    found = sorted(folder.glob(f"derivatives/*/{scan.parent.relative_to(folder)}/{stem}*_{entity}*_mask.nii*"))
    if len(found) > 1:
        raise CohortError(
            scan,
            f"{len(found)} masks: {', '.join(str(path.relative_to(folder)) for path in found)}",
            f"one {entity} mask a scan",
            "Keep one.",
        )
    return found[0] if found else None


def _visit(folder: Path, participant: str, session: str) -> dict:
    """Age at a visit, where the sessions' table has it."""
    path = folder / participant / f"{participant}_sessions.tsv"
    if not session or not path.is_file():
        return {}
    visits = _read(path)
    ages = visits.loc[visits.get("session_id") == session, "age"] if "age" in visits else []
    return {"age": ages.iloc[0]} if len(ages) else {}


def _read(path: Path) -> pd.DataFrame:
    """A BIDS table, as text; "n/a" is unknown."""
    try:
        # quotes mean nothing in BIDS tables, and a lone one would swallow the rows that follow
        table = pd.read_csv(
            path, sep="\t", dtype=str, na_values=["n/a"], keep_default_na=False, encoding="utf-8-sig", quoting=csv.QUOTE_NONE
        )
    except ValueError as error:  # no table, or no text
        raise CohortError(path, f"no table ({error})", "tab-separated text in UTF-8", "Save it as such.") from error
    return table.replace(r"^\s*$", np.nan, regex=True)


def _synthetic(folder: Path) -> bool:
    path = folder / "dataset_description.json"
    try:
        return path.is_file() and bool(json.loads(path.read_text(encoding="utf-8-sig")).get("Synthetic", False))
    except (ValueError, AttributeError) as error:
        raise CohortError(path, f"no description ({error})", "a JSON object", "Mend or remove it.") from error


def _existing(path: Path, where: str) -> Path:
    if not path.is_file():
        raise CohortError(where, f"{path}, which is not there", "a file", "Check the path; a relative one starts at the checkout.")
    return path


def _complete(table: pd.DataFrame, where) -> pd.DataFrame:
    """All columns, in order, with their types."""
    twice = table.loc[table.duplicated([column for column in ("participant_id", "session_id") if column in table]), "participant_id"]
    if len(twice):
        raise CohortError(where, f"two scans of {twice.iloc[0]}", "each scan once", "Rename or remove one.")
    table = table.reindex(columns=COLUMNS)
    table["session_id"] = table["session_id"].fillna("")
    table["label"] = table["label"].astype("Int64")
    for column in ("age", "edss"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        wrong = table.loc[~np.isfinite(numbers.astype(float)) & table[column].notna(), column]
        if len(wrong):
            raise CohortError(f"{where}, column {column}", repr(wrong.iloc[0]), "a number or n/a", "Mend the table.")
        table[column] = numbers.astype(float)
    for column in ("image", "brain_mask", "lesion_mask"):
        table[column] = [None if pd.isna(value) else str(value) for value in table[column]]
    return table.sort_values(["participant_id", "session_id"], ignore_index=True)
