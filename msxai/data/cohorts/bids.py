"""A BIDS dataset as rows: participants.tsv, scans, masks under derivatives, tables of sessions."""

from pathlib import Path

import pandas as pd

from msxai.base.errors import CohortError
from msxai.data.cohorts import tables

__all__ = ["read"]

_OF_A_VISIT = ("age", "edss", "site", "scanner")  # a table of sessions takes precedence for these
_LISTED = 5  # folders named in a note


def read(
    folder: Path, modality: str, patients: str, controls: str, label_column: str
) -> tuple[pd.DataFrame, list[str]]:
    """Read one row a scan.

    Parameters
    ----------
    folder, modality, patients, controls, label_column
        See `msxai.data.cohorts.cohort.from_bids`.

    Returns
    -------
    rows : pandas.DataFrame
        The columns of participants.tsv with group, label, session_id, image, flair, brain_mask,
        lesion_mask.
    notes : list of str
        What was left out, and why.
    """
    path = folder / "participants.tsv"
    _check_layout(folder, path)
    people = tables.read(path)
    mend = "Add it, or name yours with the parameter label_column."
    tables.need(people, ("participant_id", label_column), path, mend)
    people["participant_id"] = _participants(people["participant_id"], path)
    people = tables.label(people, label_column, patients, controls, path)
    rows = []
    notes = []
    for person in people.to_dict("records"):
        participant = person["participant_id"]
        for session, scan in _scans(folder, participant, modality).items():
            row = person | {"session_id": session, "image": scan, "flair": None}
            if modality != "FLAIR":
                row["flair"] = _flair(scan, participant, session, notes)
            row["brain_mask"] = _mask(folder, scan, modality, "desc-brain")
            row["lesion_mask"] = _mask(folder, scan, modality, "label-lesion")
            row |= _visit(folder, participant, session)
            rows.append(row)
    notes += _unlisted_folders(folder, people["participant_id"])
    return pd.DataFrame(rows), notes


def _check_layout(folder: Path, path: Path) -> None:
    """Refuse a folder that is not a BIDS dataset."""
    if not folder.is_dir():
        raise CohortError(
            folder,
            "no such folder",
            "a BIDS dataset, or the name of an embedded cohort (phantom-ms..., phantom-ad...)",
            "Set the parameter cohort.",
        )
    if not path.is_file():
        expected = "a table with one row a participant"
        mend = "See docs/your-cohort.md for the layout."
        raise CohortError(path, "no such file", expected, mend)


def _participants(column: pd.Series, path: Path) -> pd.Series:
    """Return identifiers with the prefix "sub-", each once."""
    where = f"{path}, column participant_id"
    expected = "each participant once"
    if column.isna().any():
        raise CohortError(where, "a row without identifier", expected, "Fill it in.")
    participants = "sub-" + column.str.removeprefix("sub-")
    repeated = participants[participants.duplicated()]
    if len(repeated):
        actual = f"{repeated.iloc[0]} twice"
        raise CohortError(where, actual, expected, "Remove one of the rows.")
    return participants


def _unlisted_folders(folder: Path, participants: pd.Series) -> list[str]:
    """Return a note that names the people who are not in participants.tsv, or none."""
    folders = {path.name for path in folder.glob("sub-*") if path.is_dir()}
    unlisted = sorted(folders - set(participants))
    if not unlisted:
        return []
    names = ", ".join(unlisted[:_LISTED])
    return [
        f"{len(unlisted)} folders of people who are not in participants.tsv are not read: {names}"
    ]


def _scans(folder: Path, participant: str, modality: str) -> dict[str, Path]:
    """Return the scan of each session ("" if there are none)."""
    without_session = folder.glob(f"{participant}/anat/*_{modality}.nii*")
    with_session = folder.glob(f"{participant}/ses-*/anat/*_{modality}.nii*")
    by_session: dict[str, list[Path]] = {}
    for scan in sorted([*without_session, *with_session]):
        parent = scan.parent.parent.name
        session = parent if parent.startswith("ses-") else ""
        by_session.setdefault(session, []).append(scan)
    if not by_session:
        raise CohortError(
            folder / participant,
            f"no {modality} scan",
            f"{participant}/[ses-*/]anat/{participant}[_ses-*]_{modality}.nii.gz",
            "Add the scan, set the parameter modality, or take the participant out of "
            "participants.tsv.",
        )
    scan_of = {}
    for session, scans in by_session.items():
        scan = _only_or_plain(scans, participant, session, modality)
        if scan is None:
            names = ", ".join(scan.name for scan in scans)
            raise CohortError(
                scans[0].parent,
                f"{len(scans)} {modality} scans: {names}",
                "one of them without further entities",
                "Keep one, or rename the one to use.",
            )
        scan_of[session] = scan
    return scan_of


def _only_or_plain(scans: list[Path], participant: str, session: str, modality: str) -> Path | None:
    """Return the only scan, or the only one without further entities in its name."""
    parts = [part for part in (participant, session, modality) if part]
    plain_name = "_".join(parts)
    plain = [scan for scan in scans if scan.name.split(".")[0] == plain_name]
    candidates = plain or scans
    return candidates[0] if len(candidates) == 1 else None


def _flair(scan: Path, participant: str, session: str, notes: list[str]) -> Path | None:
    """Return the FLAIR of the same visit as a scan of another modality.

    It only helps the registration, so that two of them are a note and no error.
    """
    flairs = sorted(scan.parent.glob("*_FLAIR.nii*"))
    flair = _only_or_plain(flairs, participant, session, "FLAIR")
    if flairs and flair is None:
        visit = f"{participant} {session}".rstrip()
        notes.append(f"{visit}: {len(flairs)} FLAIR scans, none of them used beside {scan.name}")
    return flair


def _mask(folder: Path, scan: Path, modality: str, entity: str) -> Path | None:
    """Return a mask of a scan under any derivative, or None.

    A mask with the scan's own entities is preferred to one of its visit.
    """
    subfolder = f"derivatives/*/{scan.parent.relative_to(folder)}"
    stem = scan.name.split(".")[0].removesuffix(f"_{modality}")
    entities = [part for part in stem.split("_") if part.startswith(("sub-", "ses-"))]
    visit = "_".join(entities)
    masks = sorted(folder.glob(f"{subfolder}/{stem}*_{entity}*_mask.nii*"))
    if not masks:
        masks = sorted(folder.glob(f"{subfolder}/{visit}_{entity}*_mask.nii*"))
    if len(masks) > 1:
        names = ", ".join(str(mask.relative_to(folder)) for mask in masks)
        expected = f"one {entity} mask a scan"
        raise CohortError(scan, f"{len(masks)} masks: {names}", expected, "Keep one.")
    return masks[0] if masks else None


def _visit(folder: Path, participant: str, session: str) -> dict:
    """Return what the table of sessions has for a visit."""
    path = folder / participant / f"{participant}_sessions.tsv"
    if not session or not path.is_file():
        return {}
    visits = tables.read(path)
    mend = "Add it (ses-01, as the folders are named), or remove the table."
    tables.need(visits, ("session_id",), path, mend)
    columns = [column for column in _OF_A_VISIT if column in visits]
    rows = visits.loc[visits["session_id"] == session, columns]
    return rows.iloc[0].to_dict() if len(rows) else {}
