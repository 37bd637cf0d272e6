"""Region of each whole lesion, by what it touches in the template.

The McDonald criteria count lesions, not voxels (Montalban et al. 2025, Lancet Neurol,
doi:10.1016/S1474-4422(25)00270-4). So a lesion belongs as a whole to one region, the first of these
that fits:

1. infratentorial: more than half of it lies in the brain stem or the cerebellum;
2. periventricular: a voxel of it lies within `ABUTTING` of a lateral ventricle, or in it;
3. juxtacortical or cortical: a voxel of it lies within `ABUTTING` of the cortex, or in it;
4. deep: none of these.

Ventricles and cortex are those of the template (Neuromorphometrics), not of the scanned person. A
lesion next to a person's enlarged ventricle may therefore count as deep.

Lesions are counted and measured in the space of the mask's file, because registration to MNI space
changes the size of a brain, and small lesions may vanish on the model's grid.
"""

import functools
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage

from msxai.data import images
from msxai.regions import atlases

__all__ = [
    "ABUTTING",
    "ORDER",
    "REGIONS",
    "Lesions",
    "label_lesions",
    "of_lesions",
    "on_model_grid",
    "read_lesions",
]

ABUTTING = 3.0
"""mm between voxel centres of the model's grid: the neighbours of a voxel and the next diagonal."""

REGIONS = ("infratentorial", "periventricular", "juxtacortical or cortical", "deep")
"""In the order in which a lesion is assigned to the first one that fits."""

ORDER = (
    "A lesion belongs as a whole to the first region that fits. Infratentorial: more than half of "
    "it lies in the brain stem or cerebellum. Periventricular: it comes within 3 mm of a lateral "
    "ventricle. Juxtacortical or cortical: it comes within 3 mm of the cortex. Deep: all other "
    "lesions. Ventricles and cortex are those of the template, not of this person."
)
"""The same in sentences for a reader."""

_FIRST_CORTICAL_LABEL = 100  # of Neuromorphometrics


@dataclass(frozen=True)
class _Anatomy:
    """Where the template has what a lesion may touch; bool arrays on the model's grid."""

    infratentorial: np.ndarray
    near_ventricle: np.ndarray
    near_cortex: np.ndarray


@dataclass(frozen=True)
class Lesions:
    """The lesions of a mask, numbered in the space of its file and carried to the model's grid.

    Attributes
    ----------
    labels : ndarray of int, shape (96, 114, 96)
        1, 2, ... in the lesions, 0 elsewhere. A lesion that is too small for the grid has no voxel.
    volumes : ndarray of shape (lesions,)
        mm3, of the voxels of the file.
    voxels : list of ndarray of shape (voxels, 3)
        For each lesion, the position of its voxels in the file, in voxels of the model's grid.
    """

    labels: np.ndarray
    volumes: np.ndarray
    voxels: list[np.ndarray]

    @property
    def count(self) -> int:
        """Number of lesions in the file."""
        return len(self.volumes)

    @property
    def numbers(self) -> np.ndarray:
        """Numbers of the lesions that have a voxel on the model's grid."""
        return np.unique(self.labels[self.labels > 0])


def read_lesions(path, matrix, lesions) -> Lesions:
    """Number the lesions of a mask in the space of its file, the largest first.

    Parameters
    ----------
    path : path
        Lesion mask (NIfTI).
    matrix : array of shape (4, 4)
        From the space of the file to MNI152 (mm).
    lesions : ndarray of bool, shape (96, 114, 96)
        The same mask on the model's grid.

    Raises
    ------
    ImageError
        See `msxai.data.images.load_mask`.
    """
    return _numbered(images.load_mask(path), matrix, lesions)


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


def _numbered(mask, matrix, lesions) -> Lesions:
    """Number the lesions of a mask image and carry the numbers to the model's grid."""
    own_labels, count = label_lesions(np.asarray(mask.dataobj) > 0)
    to_grid = np.linalg.inv(images.AFFINE) @ np.asarray(matrix) @ mask.affine
    sizes = np.bincount(own_labels.ravel(), minlength=count + 1)[1:]
    voxels = []
    for number, box in enumerate(ndimage.find_objects(own_labels, count), start=1):
        inside = np.argwhere(own_labels[box] == number) + [side.start for side in box]
        voxels.append(nib.affines.apply_affine(to_grid, inside))
    return Lesions(
        labels=_carried(own_labels, to_grid, np.asarray(lesions, bool)),
        volumes=sizes * images.voxel_volume(mask.affine),
        voxels=voxels,
    )


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


def label_lesions(lesions) -> tuple[np.ndarray, int]:
    """Number the lesions of a mask, the largest first.

    Parameters
    ----------
    lesions : ndarray of bool, shape (X, Y, Z)

    Returns
    -------
    labels : ndarray of int, same shape
        1, 2, ... in the lesions; 0 elsewhere. Voxels that touch by a face, an edge or a corner
        belong to one lesion.
    count : int

    Examples
    --------
    >>> labels, count = label_lesions(np.array([1, 0, 1, 1]).reshape(4, 1, 1) > 0)
    >>> labels.ravel().tolist(), count
    ([2, 0, 1, 1], 2)
    """
    labels, count = ndimage.label(lesions, images.NEIGHBOURHOOD_26)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    order = np.argsort(-sizes[1:], kind="stable") + 1
    numbers = np.zeros(count + 1, int)
    numbers[order] = np.arange(1, count + 1)
    return numbers[labels], count


def of_lesions(lesions: Lesions) -> pd.DataFrame:
    """Return volume and region of each lesion.

    Parameters
    ----------
    lesions : Lesions

    Returns
    -------
    pandas.DataFrame
        lesion (1, 2, ...), voxels (of the model's grid; 0 for a lesion that is too small for it),
        volume (mm3 in the file's own space), region (of `REGIONS`), x, y, z (MNI coordinates of its
        centre of mass, mm).

    Raises
    ------
    MissingAtlasError, ImageError
        See `msxai.regions.atlases.neuromorphometrics`.
    """
    anatomy = _anatomy()
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
                "region": _region_of(voxels, anatomy),
                "x": x,
                "y": y,
                "z": z,
            }
        )
    return pd.DataFrame(rows, columns=["lesion", "voxels", "volume", "region", "x", "y", "z"])


def _region_of(voxels, anatomy: _Anatomy) -> str:
    """Return the first region that fits the voxels of a lesion, shape (voxels, 3)."""
    where = tuple(voxels.T)
    if anatomy.infratentorial[where].mean() > 0.5:
        return REGIONS[0]
    if anatomy.near_ventricle[where].any():
        return REGIONS[1]
    if anatomy.near_cortex[where].any():
        return REGIONS[2]
    return REGIONS[3]


@functools.cache
def _anatomy() -> _Anatomy:
    """Read what a lesion may touch from the template's atlas."""
    atlas = atlases.neuromorphometrics()
    table = atlas.regions
    is_cortex = (table["label"] >= _FIRST_CORTICAL_LABEL) & (table["tissue"] == "grey")
    is_ventricle = table["group"].isin(["Lateral Ventricle", "Inf Lat Vent"])
    is_below = table["group"].str.contains("Cerebell|Brain Stem")
    return _Anatomy(
        infratentorial=np.isin(atlas.labels, table["label"][is_below]),
        near_ventricle=_near(np.isin(atlas.labels, table["label"][is_ventricle])),
        near_cortex=_near(np.isin(atlas.labels, table["label"][is_cortex])),
    )


def _near(mask) -> np.ndarray:
    """Return the mask and what lies within `ABUTTING` of it."""
    distance = ndimage.distance_transform_edt(~mask, sampling=images.VOXEL_SIZE)
    return distance <= ABUTTING
