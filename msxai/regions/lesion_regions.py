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
"""

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from msxai.data import images
from msxai.regions import atlases

__all__ = ["ABUTTING", "ORDER", "REGIONS", "label_lesions", "of_lesions"]

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


def of_lesions(labels, count: int) -> pd.DataFrame:
    """Return volume and region of each lesion.

    Parameters
    ----------
    labels : ndarray of int, shape (96, 114, 96)
        From `label_lesions`, on the model's grid.
    count : int

    Returns
    -------
    pandas.DataFrame
        lesion (1, 2, ...), voxels, volume (mm3 on the model's grid), region (of `REGIONS`), x, y, z
        (MNI coordinates of its centre of mass, mm).

    Raises
    ------
    MissingAtlasError, ImageError
        See `msxai.regions.atlases.neuromorphometrics`.
    """
    anatomy = _anatomy()
    rows = []
    for number, box in enumerate(ndimage.find_objects(labels, count), start=1):
        inside = labels[box] == number
        voxels = np.argwhere(inside) + [side.start for side in box]
        centre = images.AFFINE[:3, :3] @ voxels.mean(axis=0) + images.AFFINE[:3, 3]
        x, y, z = centre.round(1)
        rows.append(
            {
                "lesion": number,
                "voxels": len(voxels),
                "volume": len(voxels) * images.VOXEL_VOLUME,
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
