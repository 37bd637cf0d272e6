"""Single scans without a cohort: which files belong to a scan, and what its folder is called."""

import filecmp
import os
from dataclasses import dataclass
from pathlib import Path

from msxai import ROOT
from msxai.base import given_paths, provenance
from msxai.base.errors import CohortError, ImageError, in_place_of_file
from msxai.base.parameters import located

__all__ = ["RUN_FILES", "ScanFiles", "folder_names", "list_scans"]

RUN_FILES = ("scans.csv", "index.html", "errors.txt", "10_one_scan.ipynb")
"""Files that a run over scans writes next to the scans' folders."""

_NO_FILE = ("", None)


@dataclass(frozen=True)
class ScanFiles:
    """The files of one scan; "" for those that are not given.

    Attributes
    ----------
    image : str
        FLAIR, raw or prepared (NIfTI).
    lesion_mask, brain_mask : str
        In the space of the image, on any grid.
    t1 : str
        T1-weighted scan of the same visit, to be shown beside the image.
    before : str
        FLAIR of the same person at an earlier visit.
    before_lesion_mask : str
        In the space of the earlier scan.
    """

    image: str
    lesion_mask: str = ""
    brain_mask: str = ""
    t1: str = ""
    before: str = ""
    before_lesion_mask: str = ""

    @property
    def given(self) -> dict:
        """Kind to path of each file that is given."""
        files = {
            "image": self.image,
            "lesion_mask": self.lesion_mask,
            "brain_mask": self.brain_mask,
            "t1": self.t1,
            "before": self.before,
            "before_lesion_mask": self.before_lesion_mask,
        }
        return {kind: path for kind, path in files.items() if path}

    def hashes(self) -> dict:
        """Return the SHA-256 of each file that is given.

        Raises
        ------
        ImageError
            A file cannot be read.
        """
        return {kind: _hash(path) for kind, path in self.given.items()}


def _hash(path: str) -> str:
    try:
        return provenance.sha256(located(path))
    except OSError as error:
        raise ImageError(
            path,
            f"a file that cannot be read ({error.strerror})",
            "a readable file",
            "Check its permissions, and whether its disk is there.",
        ) from error


def list_scans(
    images, lesion_masks=(), brain_masks=(), t1s=(), befores=(), before_lesion_masks=()
) -> list[ScanFiles]:
    """Put together which files belong to one scan.

    Parameters
    ----------
    images, lesion_masks, brain_masks, t1s, befores, before_lesion_masks : sequences of path
        One mask, T1 or earlier scan for each image, in the same order, "" or None for an image
        without one; or none.

    Raises
    ------
    CohortError
        No image, another number of masks or earlier scans than of images, a missing file, a lesion
        mask without its earlier scan, or an earlier scan that is the scan itself.
    """
    if not images:
        raise CohortError("scans", "no scan", "at least one NIfTI file", "Name a scan.")
    given = {
        "lesion masks": lesion_masks,
        "brain masks": brain_masks,
        "T1 scans": t1s,
        "earlier scans": befores,
        "lesion masks of earlier scans": before_lesion_masks,
    }
    for name, paths in given.items():
        if paths and len(paths) != len(images):
            raise CohortError(
                name,
                f"{len(paths)} for {len(images)} scans",
                "one for each scan, in the same order",
                "Add the missing ones, or run the scans without them separately.",
            )
    further = [path for paths in given.values() for path in paths if path not in _NO_FILE]
    for path in [*images, *further]:
        file = given_paths.whole(path, ROOT, error=CohortError)
        if not file.is_file():
            actual = in_place_of_file(file)
            raise CohortError(path, actual, "a NIfTI file (.nii or .nii.gz)", "Check the path.")
    scans = []
    for index, image in enumerate(images):
        files = [_file_of(paths, index) for paths in given.values()]
        scan = ScanFiles(str(image), *files)
        _check_earlier(scan)
        scans.append(scan)
    return scans


def _file_of(paths, index: int) -> str:
    """Return the path at a place of a list; "" where no file is given there."""
    if not paths or paths[index] in _NO_FILE:
        return ""
    return str(paths[index])


def _check_earlier(scan: ScanFiles) -> None:
    """Refuse an earlier scan that is the scan itself, and its lesion mask without it."""
    if scan.before_lesion_mask and not scan.before:
        raise CohortError(
            scan.before_lesion_mask,
            "a lesion mask of an earlier scan, and no earlier scan",
            "the earlier scan that it belongs to",
            "Name the earlier scan, too, or leave its lesion mask out.",
        )
    if scan.before and _same_content(scan.image, scan.before):
        raise CohortError(
            scan.before,
            "an earlier scan with the same content as the scan",
            "a scan of another visit",
            "Name the file of the earlier visit.",
        )


def _same_content(first: str, second: str) -> bool:
    """Return whether two files are equal; one that cannot be read is named when it is opened."""
    try:
        return filecmp.cmp(located(first), located(second), shallow=False)
    except OSError:
        return False


def folder_names(images) -> list[str]:
    """Return a folder's name for each scan: its file name, with folders as far as it needs them.

    Names are those that were given, also where a file is a link, as git-annex makes them.

    Parameters
    ----------
    images : sequence of path

    Raises
    ------
    CohortError
        A file stands there twice, or has a name that can be no folder's: nothing before the ending,
        a dot at its start, or the name of a file of the run (`RUN_FILES`).

    Examples
    --------
    >>> folder_names(["a/flair.nii.gz", "b/flair.nii.gz"])
    ['a_flair', 'b_flair']
    """
    # Without "..", and without following links
    paths = [Path(os.path.abspath(located(path))) for path in images]
    _check_different(paths)
    for path in paths:
        _check_usable(path)
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = [_name(path, depth) for path in paths]
        # Some disks do not distinguish capital letters.
        distinct = {name.casefold() for name in names}
        if len(distinct) == len(names) and distinct.isdisjoint(RUN_FILES):
            return names
    raise CohortError("scans", f"names that are equal: {names[0]}", "different names", "Rename.")


def _name(path: Path, depth: int) -> str:
    """Return the last parts of a path, joined, without the ending."""
    name = "_".join(path.parts[-depth:]).removesuffix(".gz").removesuffix(".nii")
    return name.lstrip("/._") if depth > 1 else name


def _check_different(paths: list[Path]) -> None:
    """Refuse one file that stands there twice, also by a link."""
    files = [path.resolve() for path in paths]
    for path, file in zip(paths, files, strict=True):
        if files.count(file) > 1:
            raise CohortError(path, "the same scan twice", "each scan once", "Remove one.")


def _check_usable(path: Path) -> None:
    """Refuse a file name that can be no folder's in the results."""
    name = _name(path, depth=1)
    actual = ""
    if not name:
        actual = "a file name that is an ending alone"
    elif name.startswith("."):
        actual = "a file name that begins with a dot"
    elif name.casefold() in RUN_FILES:
        actual = f"a file name that is kept for the results ({name})"
    if actual:
        raise CohortError(
            path, actual, "a name of its own for the folder of the results", "Rename the file."
        )
