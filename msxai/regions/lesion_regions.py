"""Region of each whole lesion, by what it touches in the person's brain.

The McDonald criteria count lesions, not voxels (Montalban et al. 2025, Lancet Neurol,
doi:10.1016/S1474-4422(25)00270-4). So a lesion belongs as a whole to one region, the first of these
that fits:

1. infratentorial: more than half of it lies in the brain stem or the cerebellum;
2. periventricular: a voxel of it lies within `ABUTTING` of a lateral ventricle, or in it;
3. juxtacortical or cortical: a voxel of it lies within `ABUTTING` of the cortex, or in it;
4. deep: none of these.

Ventricles and cortex are those of the scanned person where the scan shows them
(`msxai.regions.own_anatomy`), else those of the template (Neuromorphometrics). Where slices are
thick, the sulci that the scan still shows are added to the template's cortex. By the template, a
lesion next to a person's enlarged ventricle may count as deep. Brain stem, cerebellum, thalamus and
deep grey matter are always those of the template.

Lesions are counted and measured in the space of the mask's file, because registration to MNI space
changes the size of a brain, and small lesions may vanish on the model's grid.
"""

from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from msxai.base.parameters import one_of
from msxai.data import images
from msxai.regions import own_anatomy
from msxai.regions.own_anatomy import Anatomy

__all__ = [
    "ABUTTING",
    "GREY_MATTER",
    "NEIGHBOURS",
    "ORDER",
    "REGIONS",
    "Lesions",
    "label_lesions",
    "of_lesions",
    "of_scans",
    "on_model_grid",
    "read_lesions",
]

ABUTTING = 3.0
"""mm between voxel centres of the model's grid: the neighbours of a voxel and the next diagonal."""

REGIONS = ("infratentorial", "periventricular", "juxtacortical or cortical", "deep")
"""In the order in which a lesion is assigned to the first one that fits."""

GREY_MATTER = ("thalamus", "deep grey matter")
"""Named in addition to the region, where more than half of a lesion lies in one of them."""

NEIGHBOURS = (6, 18, 26)
"""Voxels of a lesion touch by faces; by faces and edges; or by faces, edges and corners."""

ORDER = (
    "A lesion belongs as a whole to the first region that fits. Infratentorial: more than half of "
    "it lies in the brain stem or cerebellum. Periventricular: it comes within 3 mm of a lateral "
    "ventricle. Juxtacortical or cortical: it comes within 3 mm of the cortex. Deep: all other "
    "lesions."
)
"""The same in sentences for a reader."""

_COLUMNS = [
    *("lesion", "voxels", "volume", "longest_axis", "region", "grey_matter"),
    *("x", "y", "z"),
]


@dataclass(frozen=True)
class _Surroundings:
    """What decides the region of a lesion; bool arrays on the model's grid."""

    infratentorial: np.ndarray
    near_ventricle: np.ndarray
    near_cortex: np.ndarray
    thalamus: np.ndarray
    deep_grey: np.ndarray


@dataclass(frozen=True)
class Lesions:
    """The lesions of a mask, numbered in the space of its file and carried to the model's grid.

    Attributes
    ----------
    labels : ndarray of int, shape (96, 114, 96)
        1, 2, ... in the lesions, 0 elsewhere. A lesion that is too small for the grid has no voxel.
    volumes : ndarray of shape (lesions,)
        mm3, of the voxels of the file.
    longest_axes : ndarray of shape (lesions,)
        mm, in the file: between the centres of the two voxels of a lesion that are farthest apart,
        plus the shortest edge of a voxel.
    voxels : list of ndarray of shape (voxels, 3)
        For each lesion, the position of its voxels in the file, in voxels of the model's grid.
    """

    labels: np.ndarray
    volumes: np.ndarray
    longest_axes: np.ndarray
    voxels: list[np.ndarray]

    @property
    def count(self) -> int:
        """Number of lesions in the file."""
        return len(self.volumes)

    @property
    def numbers(self) -> np.ndarray:
        """Numbers of the lesions that have a voxel on the model's grid."""
        return np.unique(self.labels[self.labels > 0])


def read_lesions(path, matrix, lesions, neighbours: int = 26) -> Lesions:
    """Number the lesions of a mask in the space of its file, the largest first.

    Parameters
    ----------
    path : path
        Lesion mask (NIfTI).
    matrix : array of shape (4, 4)
        From the space of the file to MNI152 (mm).
    lesions : ndarray of bool, shape (96, 114, 96)
        The same mask on the model's grid.
    neighbours : {6, 18, 26}
        See `NEIGHBOURS`.

    Raises
    ------
    ImageError
        See `msxai.data.images.load_mask`.
    ParameterError
        Unknown `neighbours`.
    """
    return _numbered(images.load_mask(path), matrix, lesions, neighbours)


def on_model_grid(lesions) -> Lesions:
    """Number the lesions of a mask that exists on the model's grid alone, the largest first.

    Parameters
    ----------
    lesions : ndarray of bool, shape (96, 114, 96)

    Examples
    --------
    >>> lesions = np.zeros(images.SHAPE, bool)
    >>> lesions[50, 50, 50:52] = lesions[60, 60, 60] = True
    >>> on_model_grid(lesions).volumes.round(1).tolist()
    [13.7, 6.9]
    """
    lesions = np.asarray(lesions, bool)
    mask = nib.Nifti1Image(lesions.astype("uint8"), images.AFFINE)
    return _numbered(mask, np.eye(4), lesions)


def _numbered(mask, matrix, lesions, neighbours: int = 26) -> Lesions:
    """Number the lesions of a mask image and carry the numbers to the model's grid."""
    own_labels, count = label_lesions(np.asarray(mask.dataobj) > 0, neighbours)
    to_grid = np.linalg.inv(images.AFFINE) @ np.asarray(matrix) @ mask.affine
    sizes = np.bincount(own_labels.ravel(), minlength=count + 1)[1:]
    voxels = []
    longest_axes = []
    for number, box in enumerate(ndimage.find_objects(own_labels, count), start=1):
        inside = np.argwhere(own_labels[box] == number) + [side.start for side in box]
        voxels.append(nib.affines.apply_affine(to_grid, inside))
        longest_axes.append(_longest_axis(inside, mask.affine))
    return Lesions(
        labels=_carried(own_labels, to_grid, np.asarray(lesions, bool)),
        volumes=sizes * images.voxel_volume(mask.affine),
        longest_axes=np.array(longest_axes),
        voxels=voxels,
    )


def _longest_axis(voxels, affine) -> float:
    """Return the longest axis (mm) of a lesion with voxels of shape (voxels, 3)."""
    for axis in range(3):
        voxels = _ends_of_lines(voxels, axis)
    places = nib.affines.apply_affine(affine, voxels)
    farthest = max(np.linalg.norm(places - end, axis=1).max() for end in places)
    return float(farthest + nib.affines.voxel_sizes(affine).min())


def _ends_of_lines(voxels, axis: int) -> np.ndarray:
    """Return the first and last voxel of each line along an axis: the farthest are among them."""
    first, second = [other for other in range(3) if other != axis]
    voxels = voxels[np.lexsort((voxels[:, axis], voxels[:, first], voxels[:, second]))]
    of_line = voxels[:, [first, second]]
    starts = np.ones(len(voxels), bool)
    starts[1:] = (of_line[1:] != of_line[:-1]).any(axis=1)
    return voxels[starts | np.roll(starts, -1)]


def _carried(own_labels, to_grid, lesions) -> np.ndarray:
    """Give each lesion voxel of the model's grid the number of the nearest lesion in the file."""
    labels = np.zeros(lesions.shape, int)
    if not lesions.any() or not own_labels.any():
        return labels
    edges = nib.affines.voxel_sizes(to_grid)
    indices = ndimage.distance_transform_edt(
        own_labels == 0, sampling=edges, return_distances=False, return_indices=True
    )
    own_places = nib.affines.apply_affine(np.linalg.inv(to_grid), np.argwhere(lesions))
    own_places = np.rint(own_places).astype(int)
    own_places = np.clip(own_places, 0, np.array(own_labels.shape) - 1)
    nearest = indices[(slice(None), *own_places.T)]
    labels[lesions] = own_labels[tuple(nearest)]
    return labels


def label_lesions(lesions, neighbours: int = 26) -> tuple[np.ndarray, int]:
    """Number the lesions of a mask, the largest first.

    Parameters
    ----------
    lesions : ndarray of bool, shape (X, Y, Z)
    neighbours : {6, 18, 26}
        Voxels that belong to one lesion touch by a face (6), by a face or an edge (18), or by a
        face, an edge or a corner (26).

    Returns
    -------
    labels : ndarray of int, same shape
        1, 2, ... in the lesions; 0 elsewhere.
    count : int

    Raises
    ------
    ParameterError
        Unknown `neighbours`.

    Examples
    --------
    >>> labels, count = label_lesions(np.array([1, 0, 1, 1]).reshape(4, 1, 1) > 0)
    >>> labels.ravel().tolist(), count
    ([2, 0, 1, 1], 2)
    """
    one_of("neighbours", neighbours, NEIGHBOURS)
    structure = ndimage.generate_binary_structure(3, 1 + NEIGHBOURS.index(neighbours))
    labels, count = ndimage.label(lesions, structure)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    order = np.argsort(-sizes[1:], kind="stable") + 1
    numbers = np.zeros(count + 1, int)
    numbers[order] = np.arange(1, count + 1)
    return numbers[labels], count


def of_lesions(lesions: Lesions, anatomy: Anatomy | None = None) -> pd.DataFrame:
    """Return size and region of each lesion.

    Parameters
    ----------
    lesions : Lesions
    anatomy : msxai.regions.own_anatomy.Anatomy, optional
        Of the person (`msxai.regions.own_anatomy.find`). Default: that of the template.

    Returns
    -------
    pandas.DataFrame
        lesion (1, 2, ...), voxels (of the model's grid; 0 for a lesion that is too small for it),
        volume and longest_axis (mm3 and mm in the file's own space), region (of `REGIONS`),
        grey_matter (of `GREY_MATTER`, else "none"), x, y, z (MNI coordinates of its centre of mass,
        mm).

    Raises
    ------
    MissingAtlasError, ImageError
        See `msxai.regions.atlases.neuromorphometrics`.
    """
    surroundings = _surroundings(anatomy or own_anatomy.of_template())
    sizes = np.bincount(lesions.labels.ravel(), minlength=lesions.count + 1)
    boxes = ndimage.find_objects(lesions.labels, lesions.count)
    rows = []
    for index, own_voxels in enumerate(lesions.voxels):
        number = index + 1
        voxels = np.rint(own_voxels).astype(int)  # where the grid has no voxel of the lesion
        voxels = np.clip(voxels, 0, np.array(images.SHAPE) - 1)
        box = boxes[index]
        if box is not None:
            voxels = np.argwhere(lesions.labels[box] == number) + [side.start for side in box]
        centre = nib.affines.apply_affine(images.AFFINE, own_voxels.mean(axis=0))
        x, y, z = centre.round(1)
        rows.append(
            {
                "lesion": number,
                "voxels": int(sizes[number]),
                "volume": lesions.volumes[index],
                "longest_axis": lesions.longest_axes[index],
                "region": _region_of(voxels, surroundings),
                "grey_matter": _grey_matter_of(voxels, surroundings),
                "x": x,
                "y": y,
                "z": z,
            }
        )
    return pd.DataFrame(rows, columns=_COLUMNS)


def of_scans(prepared, rows) -> pd.DataFrame:
    """Return count and volume of whole lesions in each region, for several scans.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Lesions are counted on the model's grid, and the regions are those of each scan's own
        anatomy.
    rows : iterable of int

    Returns
    -------
    pandas.DataFrame
        One row a scan and region: participant_id, session_id, region, lesions (count), volume (mm3
        on the model's grid), cortex (whose it is: "person", "template and person" or "template"). A
        scan without a lesion, or without a mask, has no row.
    """
    counts = []
    for row in rows:
        mask = prepared.lesions(row)
        if not mask.any():
            continue
        anatomy = own_anatomy.find(prepared.image(row), prepared.brain(row), mask)
        table = of_lesions(on_model_grid(mask), anatomy)
        scan = prepared.table.iloc[row][["participant_id", "session_id"]].to_dict()
        for region in REGIONS:
            volumes = table.loc[table["region"] == region, "volume"]
            counted = {"lesions": len(volumes), "volume": volumes.sum()}
            whose = {"cortex": anatomy.whose_cortex}
            counts.append({**scan, "region": region, **counted, **whose})
    columns = ["participant_id", "session_id", "region", "lesions", "volume", "cortex"]
    return pd.DataFrame(counts, columns=columns).astype({"lesions": int, "volume": float})


def _region_of(voxels, surroundings: _Surroundings) -> str:
    """Return the first region that fits the voxels of a lesion, shape (voxels, 3)."""
    where = tuple(voxels.T)
    if surroundings.infratentorial[where].mean() > 0.5:
        return REGIONS[0]
    if surroundings.near_ventricle[where].any():
        return REGIONS[1]
    if surroundings.near_cortex[where].any():
        return REGIONS[2]
    return REGIONS[3]


def _grey_matter_of(voxels, surroundings: _Surroundings) -> str:
    """Return the grey matter in which more than half of a lesion lies; "none" elsewhere."""
    where = tuple(voxels.T)
    if surroundings.thalamus[where].mean() > 0.5:
        return GREY_MATTER[0]
    if surroundings.deep_grey[where].mean() > 0.5:
        return GREY_MATTER[1]
    return "none"


def _surroundings(anatomy: Anatomy) -> _Surroundings:
    """Return what the region of a lesion is decided by."""
    atlas = own_anatomy.template()
    return _Surroundings(
        infratentorial=atlas.infratentorial,
        near_ventricle=own_anatomy.distance(anatomy.ventricles) <= ABUTTING,
        near_cortex=own_anatomy.distance(anatomy.cortex) <= ABUTTING,
        thalamus=atlas.thalamus,
        deep_grey=atlas.deep_grey,
    )
