"""Single scans without a cohort: which files belong to a scan, and what its folder is called."""

from dataclasses import dataclass

from msxai.base import provenance
from msxai.base.errors import CohortError
from msxai.base.parameters import located

__all__ = ["ScanFiles", "folder_names", "list_scans"]


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
    """

    image: str
    lesion_mask: str = ""
    brain_mask: str = ""
    t1: str = ""

    def hashes(self) -> dict:
        """Return the SHA-256 of each file that is given."""
        files = {
            "image": self.image,
            "lesion_mask": self.lesion_mask,
            "brain_mask": self.brain_mask,
            "t1": self.t1,
        }
        return {name: provenance.sha256(located(path)) for name, path in files.items() if path}


def list_scans(images, lesion_masks=(), brain_masks=(), t1s=()) -> list[ScanFiles]:
    """Put together which files belong to one scan.

    Parameters
    ----------
    images, lesion_masks, brain_masks, t1s : sequences of path
        One mask, or T1, for each image, in the same order; or none.

    Raises
    ------
    CohortError
        No image, another number of masks than of images, or a missing file.
    """
    if not images:
        raise CohortError("scans", "no scan", "at least one NIfTI file", "Name a scan.")
    given = {"lesion masks": lesion_masks, "brain masks": brain_masks, "T1 scans": t1s}
    for name, paths in given.items():
        if paths and len(paths) != len(images):
            raise CohortError(
                name,
                f"{len(paths)} for {len(images)} scans",
                "one for each scan, in the same order",
                "Add the missing ones, or run the scans without them separately.",
            )
    for path in [*images, *lesion_masks, *brain_masks, *t1s]:
        if not located(path).is_file():
            actual = "a folder" if located(path).is_dir() else "no such file"
            raise CohortError(path, actual, "a NIfTI file (.nii or .nii.gz)", "Check the path.")
    scans = []
    for index, image in enumerate(images):
        scans.append(
            ScanFiles(
                str(image),
                str(lesion_masks[index]) if lesion_masks else "",
                str(brain_masks[index]) if brain_masks else "",
                str(t1s[index]) if t1s else "",
            )
        )
    return scans


def folder_names(images) -> list[str]:
    """Return a folder's name for each scan: its file name, with folders as far as it needs them.

    Parameters
    ----------
    images : sequence of path

    Raises
    ------
    CohortError
        One file stands there twice.

    Examples
    --------
    >>> folder_names(["a/flair.nii.gz", "b/flair.nii.gz"])
    ['a_flair', 'b_flair']
    """
    paths = [located(path).resolve() for path in images]
    if len(set(paths)) < len(paths):
        repeated = next(path for path in paths if paths.count(path) > 1)
        raise CohortError(repeated, "the same scan twice", "each scan once", "Remove one.")
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["_".join(path.parts[-depth:]) for path in paths]
        names = [name.removesuffix(".gz").removesuffix(".nii").strip("/") for name in names]
        if len(set(names)) == len(names):
            return names
    raise CohortError("scans", f"names that are equal: {names[0]}", "different names", "Rename.")
