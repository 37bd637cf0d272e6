"""Scans of a folder without a table: of a BIDS dataset with masks, or of plain NIfTI files."""

import re
from dataclasses import dataclass
from pathlib import Path

from msxai.base.errors import CohortError
from msxai.data.cohorts import bids, scan_files
from msxai.data.cohorts.masks import Masks
from msxai.data.cohorts.scan_files import BidsName
from msxai.data.single_scans import ScanFiles

__all__ = ["FolderScans", "scans_of"]

_MODALITY = "FLAIR"
_MASKS = re.compile(r"mask|lesion|brain|seg|roi|wmh")  # names that are not those of scans
# The same for names that end with FLAIR: there, "brain" and "masked" say that the skull is removed.
_MASKS_OF_FLAIR = re.compile(r"mask(?!ed)|lesion(?!.*fill)|wmh|(^|[_-])(seg|roi)[_-]")


@dataclass(frozen=True)
class FolderScans:
    """The scans of a folder.

    Attributes
    ----------
    scans : list of ScanFiles
        With the masks and the T1 of each scan, where a BIDS dataset has them.
    notes : list of str
        What a person should hear of.
    """

    scans: list[ScanFiles]
    notes: list[str]


def scans_of(folder) -> FolderScans:
    """Find the FLAIR scans of a folder.

    In a BIDS dataset they are ``sub-*/[ses-*/]anat/*_FLAIR.nii.gz``, with lesion mask, brain mask
    and T1 of the same visit. In any other folder they are the NIfTI files whose names end with
    FLAIR, or all of its NIfTI files where no name does.

    Parameters
    ----------
    folder : path

    Raises
    ------
    CohortError
        There is no scan, a visit has several of them, a scan names another person or visit than its
        folder, or plain files may be masks as well as scans.
    """
    folder = Path(folder)
    anatomical = sorted([*folder.glob("sub-*/anat"), *folder.glob("sub-*/ses-*/anat")])
    if anatomical:
        return _of_bids(folder, anatomical)
    return _of_files(folder)


def _of_bids(folder: Path, anatomical: list[Path]) -> FolderScans:
    """Find the scans of a BIDS dataset, whether or not it has a table of participants."""
    masks = Masks(folder, _MODALITY)
    scans = []
    without = []
    for anat in anatomical:
        visit = anat.parent.relative_to(folder)
        scan = _the_one(anat, visit, _MODALITY)
        if scan is None:
            without.append(str(visit))
            continue
        files = {
            "lesion_mask": masks.of(scan, "lesion"),
            "brain_mask": masks.of(scan, "brain"),
            "t1": _the_one(anat, visit, "T1w"),
        }
        given = {name: str(path) if path else "" for name, path in files.items()}
        scans.append(ScanFiles(str(scan), **given))
    _require_scans(folder, scans, "sub-*/[ses-*/]anat/sub-*_FLAIR.nii.gz")
    notes = masks.notes()
    if without:
        notes.append(f"{len(without)} visits have no {_MODALITY}; the first is {without[0]}")
    return FolderScans(scans, notes)


def _the_one(anat: Path, visit: Path, modality: str) -> Path | None:
    """Return the scan of a visit; None without one."""
    participant = visit.parts[0]
    session = visit.name if len(visit.parts) > 1 else ""
    scans = bids.own_scans(anat, modality, participant, session)
    if not scans:
        return None
    scan = scan_files.only_or_plain(scans, participant, session, modality)
    if scan is None:
        names = ", ".join(path.name for path in scans)
        raise CohortError(
            anat,
            f"{len(scans)} {modality} scans: {names}",
            "one of them without further entities",
            "Name the file to explain in place of the folder.",
        )
    return scan


def _of_files(folder: Path) -> FolderScans:
    """Find the scans of a folder that is no BIDS dataset."""
    files = scan_files.listed(folder)
    named = [path for path in files if BidsName.of(path).stem.endswith(_MODALITY.lower())]
    _require_scans(folder, files, "NIfTI files (.nii or .nii.gz), or a BIDS dataset")
    if named:
        _check_no_masks(folder, named, _MASKS_OF_FLAIR)
    else:
        _check_no_masks(folder, files, _MASKS)
        named = files
    notes = []
    if len(named) < len(files):
        unused = [path for path in files if path not in named]
        notes.append(
            f"{folder}: {len(unused)} files are not used, because their names do not end with "
            f"_{_MODALITY}; the first is {unused[0].name}"
        )
    return FolderScans([ScanFiles(str(path)) for path in named], notes)


def _check_no_masks(folder: Path, files: list[Path], names: re.Pattern) -> None:
    """Refuse files whose names may be those of masks."""
    like_masks = [path for path in files if names.search(BidsName.of(path).stem)]
    if not like_masks:
        return
    raise CohortError(
        folder,
        f"{len(like_masks)} files that may be masks; the first is {like_masks[0].name}",
        f"scans alone, or names that end with _{_MODALITY} for scans and not for masks",
        "Name the scans in place of the folder, and their masks with --lesions.",
    )


def _require_scans(folder: Path, scans: list, expected: str) -> None:
    """Refuse a folder without scans."""
    if not scans:
        raise CohortError(folder, "no scan", expected, "Check the folder.")
