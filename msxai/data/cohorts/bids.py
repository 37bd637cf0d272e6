"""A BIDS dataset as rows: participants.tsv, scans, masks under derivatives, tables of sessions."""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from msxai.base.errors import CohortError, in_place_of_file
from msxai.data.cohorts import groups, identifiers, scan_files, tables
from msxai.data.cohorts.masks import Masks

__all__ = ["own_scans", "participants_table", "read"]

_OF_A_VISIT = ("age", "edss", "site", "scanner")  # a table of sessions takes precedence for these
_NUMBERS = ("age", "edss")
_COLUMNS = ("participant_id", "session_id", "session", "age", "sex", "site", "scanner", "edss")
_LISTED = 5  # folders named in a note


def participants_table(folder: Path) -> Path:
    """Return the path of a dataset's participants.tsv.

    Its name may be in another case. Without it, participants.csv or participants.txt is taken.

    Parameters
    ----------
    folder : pathlib.Path
    """
    usual = folder / "participants.tsv"
    if usual.is_file() or not folder.is_dir():
        return usual
    for ending in (".tsv", ".csv", ".txt"):
        name = f"participants{ending}"
        same = [path for path in folder.iterdir() if path.name.lower() == name]
        if len(same) == 1:
            return same[0]
    return usual


def read(
    folder: Path, modality: str, patients, controls, label_column: str
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
        What was left out or mended, and why.
    """
    path = participants_table(folder)
    _check_layout(folder, path)
    # Listed once: a look into the dataset for each person takes hours for 10,000 people.
    folder_of = {entry.name: entry for entry in folder.glob("sub-*") if entry.is_dir()}
    people, notes = _people(path, label_column, list(folder_of))
    people, spellings = groups.label(people, label_column, patients, controls, path)
    groups.check_one_a_subject(people, label_column, path)
    masks = Masks(folder, modality)
    rows = []
    visit_notes: list[str] = []
    for participant, own in people.groupby("participant_id", sort=False):
        # Only a folder of the dataset is opened, so that an identifier cannot lead out of it.
        scans = _scans(folder_of.get(participant), modality)
        if not scans:
            raise _no_scan(folder, participant, modality)
        at_visits = _of_participant(own, list(scans), path, visit_notes)
        sessions = _of_sessions(folder, participant, list(scans), visit_notes)
        for session, scan in scans.items():
            row = at_visits[session] | {"session_id": session, "image": scan, "flair": None}
            if modality != "FLAIR":
                row["flair"] = _flair(scan, participant, session, visit_notes)
            row["brain_mask"] = masks.of(scan, "brain")
            row["lesion_mask"] = masks.of(scan, "lesion")
            rows.append(row | sessions.get(session, {}))
    participants = people["participant_id"]
    table = pd.DataFrame(rows)
    notes += _name_for_files(table, folder)
    notes += spellings
    notes += _summary(visit_notes)
    notes += masks.notes()
    notes += _notes_of_files(rows, modality)
    notes += _unlisted_folders(folder_of, participants)
    notes += _written_alike(table, path)
    return table, notes


def _name_for_files(table: pd.DataFrame, folder: Path) -> list[str]:
    """Make names of files of the folders' names, in place; return what was mended."""
    notes = []
    for column, prefix in (("participant_id", "sub"), ("session_id", "ses")):
        given = table[column] != ""
        where = f"{folder}, folders {prefix}-*"
        names, mended = identifiers.safe(table.loc[given, column], prefix, where)
        table.loc[given, column] = names
        notes += mended
    return notes


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
        raise CohortError(path, in_place_of_file(path), expected, mend)


def _people(path: Path, label_column: str, folders: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Read participants.tsv; its identifiers become the names of folders."""
    people, notes = tables.read(path, (*_COLUMNS, label_column))
    mend = "Add it, or name yours with the parameter label_column."
    tables.need(people, ("participant_id", label_column), path, mend)
    people["participant_id"], renamed = _participants(people["participant_id"], folders, path)
    notes += renamed
    if path.name != "participants.tsv":
        notes.append(f"{path.name} is read as participants.tsv")
    if "session_id" not in people and "session" in people:
        people["session_id"] = people["session"]
    if "session_id" in people:
        where = f"{path}, column session_id"
        people["session_id"], whole = _sessions(people["session_id"], where)
        notes += whole
    keys = [column for column in ("participant_id", "session_id") if column in people]
    repeated = people[people.duplicated(keys)]
    if len(repeated):
        actual = f"{' '.join(repeated.iloc[0][keys].dropna())} twice"
        where = f"{path}, column participant_id"
        mend = "Remove one of the rows, or name the visits in a column session_id."
        raise CohortError(where, actual, "each participant once", mend)
    if people["participant_id"].duplicated().any():
        notes.append(f"{path.name}: one row a session is read")
    return people, notes


def _participants(column: pd.Series, folders: list[str], path: Path) -> tuple[pd.Series, list[str]]:
    """Return the folder of each identifier."""
    where = f"{path}, column participant_id"
    if column.isna().any():
        actual = "a row without identifier"
        raise CohortError(where, actual, "each participant once", "Fill it in.")
    whole, notes = identifiers.whole_numbers(column, where)
    spellings = identifiers.Spellings(folders)
    participants = [_folder_of(name, spellings, where) for name in whole]
    renamed = []
    for name, participant in zip(whole, participants, strict=True):
        if name not in (participant, participant.removeprefix("sub-")):
            renamed.append(f"{path.name}: {name} is read as {participant}")
    if renamed:
        notes.append(f"{renamed[0]} (rows alike: {len(renamed)})")
    return pd.Series(participants, index=column.index), notes


def _folder_of(name: str, folders: identifiers.Spellings, where: str) -> str:
    """Return the only folder that an identifier may mean, or its usual name."""
    usual = re.sub(r"^(sub-)?", "sub-", name, flags=re.IGNORECASE)
    candidates = folders.matching(usual)
    if len(candidates) > 1:
        raise CohortError(
            where,
            f"{name}, which may be any of {', '.join(candidates)}",
            "the name of one folder",
            "Write the identifier as the folder is named.",
        )
    return candidates[0] if candidates else usual


def _sessions(column: pd.Series, where: str) -> tuple[pd.Series, list[str]]:
    """Return sessions with their prefix."""
    whole, notes = identifiers.whole_numbers(column, where)
    return "ses-" + whole.str.removeprefix("ses-"), notes


def _by_session(table: pd.DataFrame, sessions: list[str], where) -> dict[str, pd.Series]:
    """Return the row of each session of the scans that a table has."""
    row_of = {}
    for _, row in table.dropna(subset=["session_id"]).iterrows():
        name = row["session_id"]
        candidates = identifiers.matching(name, sessions)
        if len(candidates) > 1 or set(candidates) & set(row_of):
            raise CohortError(
                f"{where}, column session_id",
                f"{name}, which is not the only name of {candidates[0]}",
                "one row a session",
                "Write each session as its folder is named, once.",
            )
        for session in candidates:
            row_of[session] = row
    return row_of


def _of_participant(
    own: pd.DataFrame, sessions: list[str], path: Path, notes: list[str]
) -> dict[str, dict]:
    """Return what participants.tsv has for each session of the scans of a participant.

    A session without a row has what all rows agree on.
    """
    row_of = _by_session(own, sessions, path) if "session_id" in own else {}
    same = own.iloc[0]
    if len(own) > 1:
        same = same.where(own.nunique(dropna=False) == 1, np.nan)
    without_row = [session for session in sessions if session not in row_of]
    if len(own) > 1 and without_row:
        notes.append(
            f"{path.name}: no row for a session; it has what the person's other rows agree on"
        )
    if len(own) > len(row_of) and len(own) > 1:
        notes.append(f"{path.name}: a person's rows of sessions without a scan are not read")
    return {session: row_of.get(session, same).to_dict() for session in sessions}


def _of_sessions(
    folder: Path, participant: str, sessions: list[str], notes: list[str]
) -> dict[str, dict]:
    """Return what the table of sessions has for each session of the scans of a participant."""
    if sessions == [""]:
        return {}
    path = _sessions_table(folder / participant)
    if not path.exists():
        return {}
    visits, mended = tables.read(path, ("session_id", *_OF_A_VISIT))
    if path.name != f"{participant}_sessions.tsv":
        notes.append(f"{path.name}: read as a table of sessions (_sessions.tsv)")
    mend = "Add it (ses-01, as the folders are named), or remove the table."
    tables.need(visits, ("session_id",), path, mend)
    names, whole = _sessions(visits["session_id"], f"{path}, column session_id")
    columns = [column for column in _OF_A_VISIT if column in visits]
    for column in _NUMBERS:
        if column in visits:  # here, where the file of a wrong value is known
            visits[column], read = tables.numbers(visits[column], column, path)
            mended = mended + read
    visits = visits[columns].assign(session_id=names).drop_duplicates()
    row_of = _by_session(visits, sessions, path)
    notes += mended + whole
    for session, row in row_of.items():
        if row["session_id"] != session:
            notes.append(f"{path.name}: {row['session_id']} is read as {session}")
    if len(row_of) < len(sessions):
        notes.append(f"{path.name}: a session has no row; participants.tsv is used for it")
    return {session: row[columns].to_dict() for session, row in row_of.items()}


def _sessions_table(person: Path) -> Path:
    """Return the path of a person's table of sessions, whose name may be in another case."""
    usual = person / f"{person.name}_sessions.tsv"
    if usual.exists():
        return usual
    same = [path for path in person.iterdir() if path.name.lower() == usual.name.lower()]
    return same[0] if len(same) == 1 else usual


def _written_alike(table: pd.DataFrame, path: Path) -> list[str]:
    """Return notes about people, or visits of a person, that may be one.

    Each has a folder of its own; a table of paths with such identifiers is refused.
    """
    notes = []
    for names in identifiers.written_alike(table["participant_id"]):
        notes.append(
            f"{path.name}: {' and '.join(names)} are read as different people: if they are one, "
            "the split may train and test on the same person"
        )
    several = table[table["participant_id"].duplicated(keep=False)]
    for participant, own in several.groupby("participant_id"):
        for names in identifiers.written_alike(own["session_id"]):
            notes.append(f"{participant}: {' and '.join(names)} are read as different visits")
    return notes


def _summary(notes: list[str]) -> list[str]:
    """Return each note once, with the number of people that have one alike."""
    texts: dict[str, list[str]] = {}
    for note in notes:
        file, _, text = note.partition(": ")
        texts.setdefault(text, []).append(file)
    summary = []
    for text, files in texts.items():
        rest = len(files) - 1
        summary.append(f"{files[0]}: {text}" + (f" ({rest} more like this)" if rest else ""))
    return summary


def _unlisted_folders(folders: dict[str, Path], participants: pd.Series) -> list[str]:
    """Return a note that names the people who are not in participants.tsv, or none."""
    unlisted = sorted(set(folders) - set(participants))
    if not unlisted:
        return []
    names = ", ".join(unlisted[:_LISTED])
    return [
        f"{len(unlisted)} folders of people who are not in participants.tsv are not read: {names}"
    ]


def _no_scan(folder: Path, participant: str, modality: str) -> CohortError:
    """Return the error of a participant without a scan."""
    return CohortError(
        folder / participant,
        f"no {modality} scan",
        f"{participant}/[ses-*/]anat/{participant}[_ses-*]_{modality}.nii.gz",
        "Add the scan, set the parameter modality, or take the participant out of "
        "participants.tsv.",
    )


def _scans(person: Path | None, modality: str) -> dict[str, Path]:
    """Return the scan of each session ("" if there are none) in a person's folder, if any."""
    if person is None:
        return {}
    by_session: dict[str, list[Path]] = {}
    for anat in [person / "anat", *sorted(person.glob("ses-*/anat"))]:
        session = anat.parent.name if anat.parent != person else ""
        scans = own_scans(anat, modality, person.name, session)
        if scans:
            by_session[session] = scans
    scan_of = {}
    for session, scans in by_session.items():
        scan = scan_files.only_or_plain(scans, person.name, session, modality)
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


def own_scans(anat: Path, modality: str, participant: str, session: str) -> list[Path]:
    """Return the scans in a folder of a visit; refuse one that names another person or visit.

    Parameters
    ----------
    anat : pathlib.Path
    modality : str
        FLAIR or T1w.
    participant, session : str
        As the folders are named; no session is "".
    """
    scans = scan_files.scans(anat, modality)
    for scan in scans:
        for entity, own in (("sub", participant), ("ses", session)):
            named = _named_other(scan, entity, own)
            if named:
                raise CohortError(
                    scan,
                    f"a scan of {named}",
                    f"a scan of {own}, as the folder says",
                    "Move the scan to its own folder, or rename it.",
                )
    return scans


def _named_other(scan: Path, entity: str, own: str) -> str:
    """Return the person or visit of a file's name where it is another than `own`, or nothing."""
    name = scan_files.BidsName.of(scan)
    # A folder's name with an underscore is more than one part of the file's name.
    is_whole = f"_{own.lower()}_" in f"_{name.stem}_"
    if not own or is_whole or entity not in name.entities:
        return ""
    named = f"{entity}-{name.entities[entity]}"
    return "" if identifiers.matching(named, [own]) else named


def _flair(scan: Path, participant: str, session: str, notes: list[str]) -> Path | None:
    """Return the FLAIR of the same visit as a scan of another modality.

    It only helps the registration, so that two of them are a note and no error.
    """
    flairs = own_scans(scan.parent, "FLAIR", participant, session)
    flair = scan_files.only_or_plain(flairs, participant, session, "FLAIR")
    if flairs and flair is None:
        visit = f"{participant} {session}".rstrip()
        notes.append(f"{visit}: {len(flairs)} FLAIR scans, none of them used beside {scan.name}")
    return flair


def _notes_of_files(rows: list[dict], modality: str) -> list[str]:
    """Return notes about names of scans in another case, and about hidden files beside them."""
    notes = []
    scans = [row["image"] for row in rows]
    renamed = [scan for scan in scans if f"_{modality}.nii" not in scan.name]
    if renamed:
        notes.append(f"{renamed[0].name} is read as _{modality} ({len(renamed)} scans)")
    hidden = [path for scan in scans for path in scan_files.hidden(scan.parent)]
    if hidden:
        notes.append(f"{hidden[0].name} and other hidden files are not read ({len(hidden)} files)")
    return notes
