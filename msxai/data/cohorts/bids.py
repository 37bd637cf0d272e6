"""A BIDS dataset as rows: participants.tsv, scans, masks under derivatives, tables of sessions."""

from pathlib import Path

import pandas as pd

from msxai.base.errors import CohortError
from msxai.data.cohorts import tables

VISIT = ("age", "edss", "site", "scanner")  # what a table of sessions may tell anew


def read(
    folder: Path, modality: str, patients: str, controls: str, label_column: str
) -> tuple[pd.DataFrame, list[str]]:
    """One row a scan, and what a reader should know; see `msxai.data.cohorts.cohort.from_bids`."""
    if not folder.is_dir():
        raise CohortError(
            folder,
            "no such folder",
            "a BIDS dataset, or the name of an embedded cohort (phantom-ms..., phantom-ad...)",
            "Set the parameter cohort.",
        )
    path = folder / "participants.tsv"
    if not path.is_file():
        raise CohortError(
            path,
            "no such file",
            "a table with one row a participant",
            "See data/README.md for the layout.",
        )
    people = tables.read(path)
    tables.need(
        people,
        ("participant_id", label_column),
        path,
        "Add it, or name yours with the parameter label_column.",
    )
    if people["participant_id"].isna().any():
        raise CohortError(
            f"{path}, column participant_id",
            "a row without identifier",
            "each participant once",
            "Fill it in.",
        )
    people["participant_id"] = "sub-" + people["participant_id"].str.removeprefix("sub-")
    twice = people.loc[people["participant_id"].duplicated(), "participant_id"]
    if len(twice):
        raise CohortError(
            f"{path}, column participant_id",
            f"{twice.iloc[0]} twice",
            "each participant once",
            "Remove one of the rows.",
        )
    rows, notes = [], []
    for person in tables.label(people, label_column, patients, controls, path).to_dict("records"):
        for session, scan in _scans(folder, person["participant_id"], modality).items():
            masks = {
                f"{kind}_mask": _mask(folder, scan, modality, entity)
                for kind, entity in (("brain", "desc-brain"), ("lesion", "label-lesion"))
            }
            flair = (
                _flair(scan, person["participant_id"], session, notes)
                if modality != "FLAIR"
                else None
            )
            visit = _visit(folder, person["participant_id"], session)
            rows.append(
                {**person, "session_id": session, "image": scan, "flair": flair, **masks, **visit}
            )
    others = sorted(
        {found.name for found in folder.glob("sub-*") if found.is_dir()}
        - set(people["participant_id"])
    )
    if others:
        notes.append(
            f"{len(others)} folders of people who are not in participants.tsv are not read: {', '.join(others[:5])}"
        )
    return pd.DataFrame(rows), notes


def _scans(folder: Path, participant: str, modality: str) -> dict[str, Path]:
    """Session ("" if none) to scan."""
    found: dict[str, list[Path]] = {}
    for scan in sorted(
        [
            *folder.glob(f"{participant}/anat/*_{modality}.nii*"),
            *folder.glob(f"{participant}/ses-*/anat/*_{modality}.nii*"),
        ]
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
        chosen[session] = _plain(scans, participant, session, modality)
        if chosen[session] is None:
            raise CohortError(
                scans[0].parent,
                f"{len(scans)} {modality} scans: {', '.join(scan.name for scan in scans)}",
                "one of them without further entities",
                "Keep one, or rename the one to use.",
            )
    return chosen


def _plain(scans: list[Path], participant: str, session: str, modality: str) -> Path | None:
    """The only scan, or the only one without further entities in its name."""
    plain = [
        scan
        for scan in scans
        if scan.name.split(".")[0] == "_".join(filter(None, [participant, session, modality]))
    ]
    found = plain or scans
    return found[0] if len(found) == 1 else None


def _flair(scan: Path, participant: str, session: str, notes: list[str]) -> Path | None:
    """The FLAIR beside a scan of another modality; it helps the registration, so that two of them are no error."""
    scans = sorted(scan.parent.glob("*_FLAIR.nii*"))
    found = _plain(scans, participant, session, "FLAIR")
    if scans and found is None:
        notes.append(
            f"{participant} {session}".rstrip()
            + f": {len(scans)} FLAIR scans, none of them used beside {scan.name}"
        )
    return found


def _mask(folder: Path, scan: Path, modality: str, entity: str) -> Path | None:
    """A mask of a scan, under any derivative: one with the scan's own entities, else one of its visit."""
    stem, place = (
        scan.name.split(".")[0].removesuffix(f"_{modality}"),
        f"derivatives/*/{scan.parent.relative_to(folder)}",
    )
    visit = "_".join(part for part in stem.split("_") if part.startswith(("sub-", "ses-")))
    found = sorted(folder.glob(f"{place}/{stem}*_{entity}*_mask.nii*")) or sorted(
        folder.glob(f"{place}/{visit}_{entity}*_mask.nii*")
    )
    if len(found) > 1:
        raise CohortError(
            scan,
            f"{len(found)} masks: {', '.join(str(path.relative_to(folder)) for path in found)}",
            f"one {entity} mask a scan",
            "Keep one.",
        )
    return found[0] if found else None


def _visit(folder: Path, participant: str, session: str) -> dict:
    """What the sessions' table says of a visit."""
    path = folder / participant / f"{participant}_sessions.tsv"
    if not session or not path.is_file():
        return {}
    visits = tables.read(path)
    tables.need(
        visits,
        ("session_id",),
        path,
        "Add it (ses-01, as the folders are named), or remove the table.",
    )
    visit = visits.loc[
        visits["session_id"] == session, [column for column in VISIT if column in visits]
    ]
    return visit.iloc[0].to_dict() if len(visit) else {}
