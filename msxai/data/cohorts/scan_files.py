"""Files of scans in folders: NIfTI files by their BIDS names, without hidden files."""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MODALITIES", "BidsName", "hidden", "is_nifti", "listed", "only_or_plain", "scans"]

MODALITIES = ("FLAIR", "T1w")
"""Modalities of scans, as names of BIDS end with them."""

_NIFTI = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True)
class BidsName:
    """The parts of a file name such as sub-01_space-MNI_label-lesion_mask.nii.gz.

    Attributes
    ----------
    stem : str
        The name without `.nii` and `.nii.gz`, in lower case.
    entities : dict of str to str
        sub, ses, space and others, in lower case.
    words : tuple of str
        The parts without a dash, such as flair and mask, in lower case.
    """

    stem: str
    entities: dict[str, str]
    words: tuple[str, ...]

    @classmethod
    def of(cls, path: Path) -> "BidsName":
        """Read the name of a file.

        Examples
        --------
        >>> BidsName.of(Path("sub-01_space-MNI_mask.nii.gz")).entities
        {'sub': '01', 'space': 'mni'}
        """
        stem = _NIFTI.sub("", path.name).lower()
        parts = stem.split("_")
        entities = dict(part.split("-", 1) for part in parts if "-" in part)
        return cls(stem, entities, tuple(part for part in parts if "-" not in part))


def is_nifti(path: Path) -> bool:
    """Return whether a file's name ends with .nii or .nii.gz, in any case."""
    return bool(_NIFTI.search(path.name))


def listed(folder: Path) -> list[Path]:
    """Return the NIfTI files of a folder in order, without hidden ones.

    macOS leaves a hidden `._scan.nii.gz` beside `scan.nii.gz` on disks of other systems.
    """
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_nifti(path) and _shown(path))


def hidden(folder: Path) -> list[Path]:
    """Return the hidden NIfTI files of a folder."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if is_nifti(path) and not _shown(path)]


def scans(folder: Path, modality: str) -> list[Path]:
    """Return the scans of a folder whose name ends with a modality, in any case."""
    end = f"_{modality}".lower()
    return [path for path in listed(folder) if BidsName.of(path).stem.endswith(end)]


def only_or_plain(scans: list[Path], participant: str, session: str, modality: str) -> Path | None:
    """Return the only scan, or the only one without further entities in its name."""
    parts = [part for part in (participant, session, modality) if part]
    plain_name = "_".join(parts).lower()
    plain = [scan for scan in scans if BidsName.of(scan).stem == plain_name]
    candidates = plain or scans
    return candidates[0] if len(candidates) == 1 else None


def _shown(path: Path) -> bool:
    """Return whether a file is not hidden."""
    return not path.name.startswith(".")
