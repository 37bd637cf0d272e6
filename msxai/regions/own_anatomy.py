"""Ventricles and cortex of the scanned person, found in the scan; else those of the template.

An affine transform brings a brain to the template. It does not bring enlarged ventricles to those
of the template. So both structures are looked for in the scan itself, on the model's grid:

- Lateral ventricles are fluid, which is dark on FLAIR and on T1. A voxel counts as fluid if it is
  nearer to the brightness of fluid than to that of white matter. Fluid grows from the ventricles of
  the template. It stays within `REACH` of them, and where they are nearer than other fluid, the
  cortex, the brain stem and the cerebellum. It does not enter a lesion.
- The cortex is what lies within `THICKNESS` of the fluid that surrounds the brain, and within
  `DISPLACED` of the template's cortex. Sulci are narrower than a voxel. So a voxel counts as fluid
  here from a third of the way on.
- Thick slices hide many sulci. There, what lies around the sulci that the scan shows is added
  to the template's cortex. Where this more than doubles it, fluid has leaked, and it is left out.

The template stands in where the scan does not show a structure: for a ventricle's horn without
fluid in the scan, for both ventricles of a scan without contrast, and for the cortex of a scan of
thin slices that does not show its sulci.
"""

import functools
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from msxai.data import images, lesion_filling
from msxai.regions import atlases

__all__ = [
    "COVERED",
    "DISPLACED",
    "REACH",
    "SMOOTH",
    "THICKNESS",
    "Anatomy",
    "Template",
    "distance",
    "find",
    "of_template",
    "template",
]

REACH = 15.0
"""mm that a person's ventricles may lie away from those of the template."""

DISPLACED = 6.0
"""mm that a structure of a person may lie away from that of the template."""

THICKNESS = 3.0
"""mm between voxel centres: the cortex, 2.5 mm thick on average, on the model's grid."""

COVERED = 0.9
"""Share of the template's cortex that lies near a scan's sulci, where the scan shows them."""

SMOOTH = 0.8
"""Brightness changes across thick slices by less than this share of the change along them.

Measured: 0.90 to 0.99 in scans of 1 mm, 0.13 to 0.70 in scans of 5 and 6 mm.
"""

_HALF_WAY = 0.5  # from white matter to fluid: a voxel that is half fluid
_IN_SULCI = 1 / 3  # the same for sulci, narrower than a voxel
_LEAST_CONTRAST = 4.0  # standard deviations of white matter between white matter and fluid
_LEAST_SEEN = 0.25  # share of the template's ventricles in which the scan has fluid
_DARKEST = 10  # percentile of the template's ventricles: fluid, where a person's are smaller
_ROUNDS = 3  # of finding fluid and its brightness in turn; later ones change little
_EDGE = 3  # voxels: the edge of the brain changes most, in whatever slices
_MOST_CORTEX = 2.0  # volume with the sulci of thick slices, over that of the template
_MAD_TO_SD = 1.4826  # a normal distribution's standard deviation over its median absolute deviation
_NEAR_CORTEX = 3.0  # mm, as `msxai.regions.lesion_regions.ABUTTING`
_FIRST_CORTICAL_LABEL = 100  # of Neuromorphometrics
_VENTRICLES = ("Lateral Ventricle", "Inf Lat Vent")
_OTHER_FLUID = ("3rd Ventricle", "4th Ventricle", "CSF")
_DEEP_GREY = ("Caudate", "Putamen", "Pallidum", "Accumbens Area")


@dataclass(frozen=True)
class Template:
    """Structures of Neuromorphometrics on the model's grid; bool arrays of shape (96, 114, 96).

    Attributes
    ----------
    ventricles, bodies : ndarray
        Lateral ventricles with and without their inferior horns.
    other_fluid, cortex, infratentorial : ndarray
        Other fluid is that of the third and fourth ventricle and between the hemispheres.
        Infratentorial are the brain stem and the cerebellum.
    thalamus, deep_grey : ndarray
        Deep grey matter here is caudate, putamen, pallidum and accumbens.
    reach, rim : ndarray
        Where a person's lateral ventricles, and the cortex, may be.
    white : ndarray
        White matter with certainty (`msxai.data.lesion_filling.white_matter`).
    """

    ventricles: np.ndarray
    bodies: np.ndarray
    other_fluid: np.ndarray
    cortex: np.ndarray
    infratentorial: np.ndarray
    thalamus: np.ndarray
    deep_grey: np.ndarray
    reach: np.ndarray
    rim: np.ndarray
    white: np.ndarray


@dataclass(frozen=True)
class Anatomy:
    """What the regions of lesions are decided by; bool arrays of shape (96, 114, 96).

    Attributes
    ----------
    ventricles, cortex : ndarray
    own_ventricles, own_cortex : bool
        Whether they were found in the scan. If not, they are those of the template.
    added_sulci : bool
        Whether the cortex is that of the template, and that by the sulci that thick slices show.
    """

    ventricles: np.ndarray
    cortex: np.ndarray
    own_ventricles: bool = False
    own_cortex: bool = False
    added_sulci: bool = False

    @property
    def whose_cortex(self) -> str:
        """Whose cortex it is: "person", "template and person" or "template"."""
        if self.own_cortex:
            return "person"
        return "template and person" if self.added_sulci else "template"


@dataclass(frozen=True)
class _Levels:
    """Brightness of white matter and fluid, and the spread of white matter."""

    white: float
    spread: float
    fluid: float

    def limit(self, share: float) -> float:
        """Return the brightness some share of the way from white matter to fluid."""
        return self.white + share * (self.fluid - self.white)

    @property
    def has_contrast(self) -> bool:
        """Whether fluid is darker than white matter by more than noise."""
        return self.white - self.fluid > _LEAST_CONTRAST * self.spread


@functools.cache
def template() -> Template:
    """Read the structures of the template.

    Raises
    ------
    MissingAtlasError, ImageError
        See `msxai.regions.atlases.neuromorphometrics`.
    """
    atlas = atlases.neuromorphometrics()
    table = atlas.regions

    def voxels_of(rows):
        return np.isin(atlas.labels, table["label"][rows])

    ventricles = voxels_of(table["group"].isin(_VENTRICLES))
    is_cortex = (table["label"] >= _FIRST_CORTICAL_LABEL) & (table["tissue"] == "grey")
    cortex = voxels_of(is_cortex)
    infratentorial = voxels_of(table["group"].str.contains("Cerebell|Brain Stem"))
    other_fluid = voxels_of(table["group"].isin(_OTHER_FLUID))
    elsewhere = cortex | infratentorial | other_fluid
    away = distance(ventricles)
    grid = nib.Nifti1Image(np.zeros(images.SHAPE, "uint8"), images.AFFINE)
    return Template(
        ventricles=ventricles,
        bodies=voxels_of(table["group"] == _VENTRICLES[0]),
        other_fluid=other_fluid,
        cortex=cortex,
        infratentorial=infratentorial,
        thalamus=voxels_of(table["group"] == "Thalamus Proper"),
        deep_grey=voxels_of(table["group"].isin(_DEEP_GREY)),
        reach=(away <= REACH) & (away < distance(elsewhere)),
        rim=distance(cortex) <= DISPLACED,
        white=lesion_filling.white_matter(grid),
    )


def of_template() -> Anatomy:
    """Return the ventricles and the cortex of the template."""
    return Anatomy(template().ventricles, template().cortex)


def find(scan, brain, lesions) -> Anatomy:
    """Find the lateral ventricles and the cortex of a person.

    Parameters
    ----------
    scan : ndarray of shape (96, 114, 96)
        FLAIR or T1 in MNI space, in any unit.
    brain, lesions : ndarray of bool, same shape
        Lesions may be dark or bright. Fluid does not grow into them.

    Returns
    -------
    Anatomy
        With the template's structures where the scan does not show them.
    """
    atlas = template()
    brain = np.asarray(brain, bool)
    tissue = brain & ~np.asarray(lesions, bool)
    levels = _levels(scan, tissue)
    if levels is None or not levels.has_contrast:
        return of_template()
    for _ in range(_ROUNDS):
        dark = tissue & (scan < levels.limit(_HALF_WAY))
        fluid = ndimage.binary_propagation(dark & atlas.ventricles, mask=dark & atlas.reach)
        if not _is_seen(fluid):
            return of_template()
        levels = _Levels(levels.white, levels.spread, float(np.median(scan[fluid])))
    ventricles = fluid | (ndimage.binary_closing(fluid) & tissue & atlas.reach)
    ventricles |= atlas.ventricles & (distance(ventricles) > DISPLACED)
    cortex = _cortex(tissue & (scan < levels.limit(_IN_SULCI)) & ~ventricles, brain)
    if _has_thick_slices(scan, brain):
        both = cortex | atlas.cortex
        if both.sum() <= _MOST_CORTEX * atlas.cortex.sum():
            return Anatomy(ventricles, both, own_ventricles=True, added_sulci=True)
    elif _is_covered(cortex, brain):
        return Anatomy(ventricles, cortex, own_ventricles=True, own_cortex=True)
    return Anatomy(ventricles, atlas.cortex, own_ventricles=True)


def distance(mask) -> np.ndarray:
    """Return the distance of each voxel of the model's grid to a mask (mm).

    Parameters
    ----------
    mask : ndarray of bool, shape (96, 114, 96)
        Infinite distances where it is empty.
    """
    if not mask.any():
        return np.full(mask.shape, np.inf)
    return ndimage.distance_transform_edt(~mask, sampling=images.VOXEL_SIZE)


def _levels(scan, tissue) -> _Levels | None:
    """Return the brightness of white matter and of fluid; None where the brain has neither."""
    white = scan[template().white & tissue]
    fluid = scan[template().bodies & tissue]
    if not len(white) or not len(fluid):
        return None
    level = np.median(white)
    spread = _MAD_TO_SD * np.median(np.abs(white - level))
    return _Levels(float(level), float(spread), float(np.percentile(fluid, _DARKEST)))


def _is_seen(fluid) -> bool:
    """Return whether the scan has fluid in enough of the template's ventricles."""
    bodies = template().bodies
    return (fluid & bodies).sum() >= _LEAST_SEEN * bodies.sum()


def _cortex(dark, brain) -> np.ndarray:
    """Return the cortex by the fluid around the brain."""
    outside = ndimage.binary_propagation(~brain, mask=dark | ~brain)
    return (distance(outside) <= THICKNESS) & template().rim


def _is_covered(cortex, brain) -> bool:
    """Return whether a scan's cortex lies near nearly all of the template's."""
    covered = distance(cortex)[template().cortex & brain] <= _NEAR_CORTEX
    return bool(covered.size and covered.mean() >= COVERED)


def _has_thick_slices(scan, brain) -> bool:
    """Return whether brightness changes less along one axis than along the others."""
    inner = ndimage.binary_erosion(brain, iterations=_EDGE)
    if not inner.any():
        return False
    changes = []
    for axis in range(3):
        second_difference = np.diff(scan, 2, axis=axis, prepend=0, append=0)
        changes.append(np.abs(second_difference)[inner].mean())
    return bool(min(changes) < SMOOTH * np.median(changes))
