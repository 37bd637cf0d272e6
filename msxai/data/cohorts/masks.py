"""Masks of scans in a BIDS dataset: those that are used, and a note about those that are not."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from msxai.base.errors import CohortError
from msxai.data.cohorts import scan_files
from msxai.data.cohorts.scan_files import BidsName

__all__ = ["Masks", "beside_scans", "of_several_people"]

_SUFFIXES = {"brain": ("mask",), "lesion": ("mask", "roi", "seg", "dseg")}
_ENTITIES = {"brain": ("desc", "brain"), "lesion": ("label", "lesion")}
# Other values mean something else: brainstem, or the brain that is free of lesions.
_VALUES = {
    "brain": ("brain",),
    "lesion": ("lesion", "lesions", "lesiont2", "lesionst2", "lesionflair", "lesionsflair"),
}
# Entities of BIDS by which a mask belongs to another image than a scan without them.
_OF_ONE_IMAGE = ("acq", "ce", "rec", "run", "hemi", "chunk", "echo", "flip", "inv", "mt", "part")
_NATIVE = ("orig", "native")  # names of the scan's own space
_EXACT, _SAME, _ELSEWHERE = range(3)  # how far a mask's space is from its scan's
_LESIONS = re.compile(r"lesion|seg-lst|wmh|^ples_")  # names that segmentation programs write
_SCANS = re.compile(r"(flair|t1w|t2w)$|fill")
_LAYOUT = "derivatives/NAME/sub-*/[ses-*/]anat/sub-*_label-lesion_mask.nii.gz"


@dataclass
class Masks:
    """Finds the masks of a dataset's scans, and counts what a person should hear of.

    Parameters
    ----------
    folder : pathlib.Path
        The dataset.
    modality : str
        FLAIR or T1w.
    """

    folder: Path
    modality: str
    _counts: dict[str, int] = field(default_factory=dict)
    _without_lesions: set[tuple[str, str]] = field(default_factory=set)

    def of(self, scan: Path, kind: str) -> Path | None:
        """Return a mask of a scan, or None.

        A mask under derivatives is preferred to one beside the scan, and this one to an output of
        LST-AI; one with the scan's own entities is preferred to one of its visit.

        Parameters
        ----------
        scan : pathlib.Path
        kind : str
            "brain" or "lesion".

        Raises
        ------
        CohortError
            Several masks, and not one of them alone is in the scan's space.
        """
        mask = self._first(scan, kind)
        if mask is None and kind == "lesion":
            self._without_lesions.add(_visit(scan.relative_to(self.folder)))
        return mask

    def notes(self) -> list[str]:
        """Return what a person should hear of, once all masks were asked for."""
        notes = [f"{count} {what}" for what, count in self._counts.items()]
        unused = self._like_lesion_masks()
        if unused:
            first = unused[0].relative_to(self.folder)
            notes.append(
                f"{len(unused)} files look like lesion masks and are not used, because their names "
                f"or folders differ from {_LAYOUT}; the first is {first}"
            )
        return notes

    def _first(self, scan: Path, kind: str) -> Path | None:
        """Return the mask of the first place that has any."""
        apart = self._under_derivatives(scan)
        beside = scan_files.listed(scan.parent)
        mask = self._best([path for path in apart if _is_mask(path, kind)], scan, kind)
        if kind == "brain":
            if mask is None and any(_is_like_brain_mask(path) for path in apart):
                self._count(
                    "scans have masks whose desc- begins with brain and is not brain alone; they "
                    "are not used"
                )
            return mask
        if mask is not None:
            return mask
        mask = self._best([path for path in beside if _is_mask(path, kind)], scan, kind)
        if mask is not None:
            self._count("lesion masks are taken from beside their scans")
            return mask
        mask = self._best([path for path in apart + beside if self._is_of_lst(path)], scan, kind)
        if mask is not None:
            self._count("lesion masks are outputs of LST-AI (seg-lst)")
        return mask

    def _under_derivatives(self, scan: Path) -> list[Path]:
        """Return the NIfTI files in the folders of a scan's visit under any derivative."""
        anat = scan.parent.relative_to(self.folder)
        files = []
        for derivative in sorted(self.folder.glob("derivatives/*/")):
            files += scan_files.listed(derivative / anat)
            files += scan_files.listed(derivative / anat.parent)
        return files

    def _is_of_lst(self, mask: Path) -> bool:
        """Return whether a file is LST-AI's mask in the space of the scans."""
        name = BidsName.of(mask)
        is_mask = name.entities.get("seg") == "lst" and "desc" not in name.entities
        return is_mask and name.entities.get("space") == self.modality.lower()

    def _best(self, masks: list[Path], scan: Path, kind: str) -> Path | None:
        """Return the mask of a scan among masks of its person; refuse several."""
        own = [mask for mask in masks if self._has_entities(mask, scan)]
        if not own:
            own = [mask for mask in masks if self._is_of_visit(mask, scan)]
        if not own:
            if masks:
                what = "another modality, space, visit or image (run-, hemi-)"
                self._count(f"scans have {kind} masks of {what}, which are not used")
            return None
        nearest = min(self._distance(mask, scan) for mask in own)
        best = [mask for mask in own if self._distance(mask, scan) == nearest]
        if len(best) > 1:
            names = ", ".join(str(mask.relative_to(self.folder)) for mask in best)
            entity = "-".join(_ENTITIES[kind])
            expected = f"one {entity} mask a scan"
            raise CohortError(scan, f"{len(best)} masks: {names}", expected, "Keep one.")
        if nearest == _ELSEWHERE:
            self._count(f"{kind} masks name another space than their scans: check the overlays")
        elif len(own) > 1:
            self._count(f"scans have several {kind} masks; that in the scan's space is used")
        return best[0]

    def _has_entities(self, mask: Path, scan: Path) -> bool:
        """Return whether a mask's name continues that of its scan, and names no other image."""
        name, scan_name = BidsName.of(mask), BidsName.of(scan)
        stem = scan_name.stem.removesuffix(f"_{self.modality.lower()}")
        if not name.stem.startswith(f"{stem}_") or not self._has_modality(mask, scan):
            return False
        further = set(name.entities) - set(scan_name.entities)
        if further & set(_OF_ONE_IMAGE):
            return False
        _, session = _visit(scan.relative_to(self.folder))
        return "ses" not in further or f"ses-{name.entities['ses']}" == session

    def _is_of_visit(self, mask: Path, scan: Path) -> bool:
        """Return whether a mask names the scan's person and visit, and nothing else of a scan."""
        name, scan_name = BidsName.of(mask), BidsName.of(scan)
        allowed = {"sub", "ses", "space", "desc", "label", "seg"}
        same = all(name.entities.get(key) == scan_name.entities.get(key) for key in ("sub", "ses"))
        is_plain = same and set(name.entities) <= allowed and self._has_modality(mask, scan)
        return is_plain and self._distance(mask, scan) != _ELSEWHERE

    def _has_modality(self, mask: Path, scan: Path) -> bool:
        """Return whether a mask names the modality of its scan, or none."""
        name = BidsName.of(mask)
        words = {*name.words[:-1], name.entities.get("mod", self.modality.lower())}
        return words <= {self.modality.lower(), *BidsName.of(scan).words}

    def _distance(self, mask: Path, scan: Path) -> int:
        """Return how far the space of a mask's name is from the scan's."""
        space = BidsName.of(mask).entities.get("space")
        if space == self.modality.lower():
            return _EXACT
        scan_space = BidsName.of(scan).entities.get("space")
        if space in (None, scan_space, *_NATIVE):
            return _SAME
        return _ELSEWHERE

    def _like_lesion_masks(self) -> list[Path]:
        """Return the files of visits without a lesion mask that look like one."""
        people = {participant for participant, _ in self._without_lesions}
        files = []
        for entry in sorted(self.folder.glob("[!.]*/")):
            for path in sorted(entry.rglob("*.nii*")):
                participant, session = _visit(path.relative_to(self.folder))
                is_of_visit = (participant, session) in self._without_lesions
                is_of_person = not session and participant in people
                if (is_of_visit or is_of_person) and _looks_like_lesions(path):
                    files.append(path)
        return files

    def _count(self, what: str) -> None:
        """Count one more scan."""
        self._counts[what] = self._counts.get(what, 0) + 1


def beside_scans(images, used) -> list[str]:
    """Return a note about files in the folders of scans that look like lesion masks, or none.

    Parameters
    ----------
    images : iterable of pathlib.Path
        Scans without a lesion mask.
    used : iterable of pathlib.Path
        The lesion masks of other scans.
    """
    folders = sorted({image.parent for image in images})
    files = [path for folder in folders for path in scan_files.listed(folder)]
    used = set(used)
    unused = [path for path in files if _looks_like_lesions(path) and path not in used]
    if not unused:
        return []
    return [
        f"{len(unused)} files beside the scans look like lesion masks and are not used, because "
        f"the column lesion_mask does not name them; the first is {unused[0].name}"
    ]


def of_several_people(table) -> list[str]:
    """Return a note for each kind of mask whose file stands for several people.

    A template's brain mask may rightly do so; a lesion mask is a slip.

    Parameters
    ----------
    table : pandas.DataFrame
        participant_id, brain_mask and lesion_mask.
    """
    notes = []
    for column in ("lesion_mask", "brain_mask"):
        pairs = table[["participant_id", column]].dropna().drop_duplicates()
        shared = pairs[pairs.duplicated(column, keep=False)]
        if shared.empty:
            continue
        first = shared[shared[column] == shared[column].iloc[0]]
        people = " and ".join(first["participant_id"].iloc[:2])
        notes.append(
            f"{shared[column].nunique()} files are the {column.replace('_', ' ')} of several "
            f"people; the first is {Path(first[column].iloc[0]).name}, of {people}"
        )
    return notes


def _visit(path: Path) -> tuple[str, str]:
    """Return the participant and the session that the folders or the name of a file tell first."""
    name = BidsName.of(path).stem
    parts = "_".join([*path.parent.parts, name]).lower().split("_")
    participants = [part for part in parts if part.startswith("sub-")]
    sessions = [part for part in parts if part.startswith("ses-")]
    return next(iter(participants), ""), next(iter(sessions), "")


def _looks_like_lesions(path: Path) -> bool:
    """Return whether a file has a name that segmentation programs write, and is not a scan."""
    stem = BidsName.of(path).stem
    is_other = _SCANS.search(stem) or path.name.startswith(".")
    return bool(_LESIONS.search(stem)) and scan_files.is_nifti(path) and not is_other


def _is_mask(path: Path, kind: str) -> bool:
    """Return whether a file's name is that of a mask of a kind."""
    entity, _ = _ENTITIES[kind]
    return _ends_as_mask(path, kind) and BidsName.of(path).entities.get(entity) in _VALUES[kind]


def _is_like_brain_mask(path: Path) -> bool:
    """Return whether a file's name is nearly that of a brain mask."""
    value = BidsName.of(path).entities.get("desc", "")
    return _ends_as_mask(path, "brain") and value.startswith("brain") and value != "brain"


def _ends_as_mask(path: Path, kind: str) -> bool:
    """Return whether a file's name ends as those of the masks of a kind."""
    return BidsName.of(path).words[-1:] in [(suffix,) for suffix in _SUFFIXES[kind]]
