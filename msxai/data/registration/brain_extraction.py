"""The brain in a scan: whether it is extracted, the template's mask, and a mask by the image.

The template's brain mask is mapped back to the scan, refined by the image, and compared with the
template's brain.
"""

import nibabel as nib
import numpy as np
from scipy import ndimage

from msxai.data import images
from msxai.data.registration import alignment

__all__ = ["SETTINGS", "extracted", "mapped_back", "overlap", "refined"]

SETTINGS = {
    # mm outside the mapped mask that may be brain; 95 % of a published mask's edge were within 8 mm
    # of the mapped mask's
    "band": 8.0,
    # of the brain's median intensity: an edge is halfway to the dark around it (skull; in FLAIR and
    # T1 fluid, too)
    "tissue": 0.5,
    # mm: bridges to scalp, eyes and muscle thinner than twice this are cut; with 2 a T1's scalp
    # stayed, with 3 a jaw muscle
    "opening": 3.5,
    "closing": 5.0,  # mm: sulci up to twice as wide are within the mask
    "rim": 1.0,  # mm added on all sides: voxels that are less than half brain
    # Quantile of the core. Large parts outside the core that are brighter are no brain: scalp, and
    # fat of the eyes. Thick slices connect both with the brain.
    "brightest": 0.995,
    "core": 10.0,  # mm below the mapped mask's edge
    "large": 100.0,  # mm3: most lesions of the cortex, and spots of noise, are smaller
}
_LARGEST_BRAIN = 2.1  # litres; raw heads have 2.2 and more, extracted brains 1.0 to 1.95
_SURROUNDINGS = 6  # mm from the brain, where an extracted scan has nothing


def extracted(image) -> bool:
    """Return whether a scan shows a brain without a head.

    Such a scan has a brain's volume, and nothing at some distance from what is bright.
    """
    copy = alignment.copy_of(image)
    values = alignment.values_of(copy)
    brain = images.brain_mask(values)
    own = alignment.values_of(image)
    if images.is_signed(own):  # the copy has values other than 0 just outside the brain
        brain = alignment.sample(images.brain_mask(own), image.affine, copy) >= 0.5
    spacing = alignment.SETTINGS["spacing"]
    distance = ndimage.distance_transform_edt(~brain) * spacing
    litres = brain.sum() * spacing**3 / 1e6
    elsewhere = values[distance > _SURROUNDINGS] != 0
    return bool(litres < _LARGEST_BRAIN and elsewhere.mean() < 1e-3)


def mapped_back(image, matrix) -> np.ndarray:
    """Return the template's brain mask on the scan's grid; bool.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        The scan.
    matrix : ndarray of shape (4, 4)
        From the scan's space to the template's.
    """
    _, template, grid = alignment.template()
    return alignment.sample(template, np.linalg.inv(matrix) @ grid, image) >= 0.5


def refined(image, mask) -> np.ndarray:
    """Return the brain by the image itself, near a mask from a registration; bool.

    Two thresholds, opening, largest component, dilation back within the tissue, closing, filling:
    brain extraction by morphology as in Atkins, Mackiewich 1998 (IEEE Trans Med Imaging 17:98,
    doi:10.1109/42.668699) and Shattuck et al. 2001 (NeuroImage 13:856,
    doi:10.1006/nimg.2000.0730), by distances in mm, whatever the voxels. The given mask only
    decides the brain's intensity and how far outside the brain may lie. Where the mask is in the
    wrong place, the brain is found next to it, and `overlap` with the template's brain falls.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        The scan without its bias field.
    mask : ndarray of bool, of the scan's shape
        Where the brain is, roughly (`mapped_back`).

    Returns
    -------
    ndarray of bool
        Empty where nothing there looks like a brain.
    """
    if not mask.any():
        return mask
    voxel = np.linalg.norm(image.affine[:3, :3], axis=0)
    box = _box(mask, voxel)
    values = alignment.values_of(image)[box]
    inside = mask[box]
    zone = _dilated(inside, SETTINGS["band"], voxel)
    tissue = zone & (values > SETTINGS["tissue"] * np.median(values[inside]))
    tissue &= ~_too_bright(values, inside, voxel)
    opening = SETTINGS["opening"]
    eroded = ~_dilated(~tissue, opening, voxel)
    parts, count = ndimage.label(eroded)
    if not count:
        return np.zeros_like(mask)
    largest = 1 + np.argmax(np.bincount(parts.ravel())[1:])
    brain = tissue & _dilated(parts == largest, opening, voxel)
    brain |= _closed(brain, SETTINGS["closing"], voxel)
    refined_mask = np.zeros_like(mask)
    with_rim = zone & _dilated(brain, SETTINGS["rim"], voxel)
    refined_mask[box] = ndimage.binary_fill_holes(with_rim)
    return refined_mask


def _too_bright(values, inside, voxel) -> np.ndarray:
    """Return the large parts outside the brain's core that are brighter than the core; bool."""
    core = ndimage.distance_transform_edt(inside, voxel) > SETTINGS["core"]
    if not core.any():
        return np.zeros_like(inside)
    limit = np.quantile(values[core], SETTINGS["brightest"])
    parts, count = ndimage.label(~core & (values > limit), images.NEIGHBOURHOOD_26)
    sizes = np.bincount(parts.ravel(), minlength=count + 1) * np.prod(voxel)
    is_large = sizes >= SETTINGS["large"]
    is_large[0] = False  # the background
    return is_large[parts]


def overlap(brain, affine) -> float:
    """Return the Dice coefficient of a mask, placed by `affine`, and the template's brain."""
    _, template, grid = alignment.template()
    target = nib.Nifti1Image(template.view("uint8"), grid)
    moved = alignment.sample(brain, affine, target) >= 0.5
    common = float((moved & template).sum())
    return 2 * common / float(moved.sum() + template.sum())


def _box(mask, voxel) -> tuple:
    """Return the bounding box of a mask with the margin that `refined` needs."""
    margin = np.ceil(SETTINGS["band"] / voxel).astype(int) + 1
    extent = ndimage.find_objects(mask.astype("uint8"))[0]
    box = []
    for side, wide in zip(extent, margin, strict=True):
        box.append(slice(max(side.start - wide, 0), side.stop + wide))
    return tuple(box)


def _dilated(mask, distance: float, voxel) -> np.ndarray:
    """Return the voxels within a distance (mm) of a mask."""
    return ndimage.distance_transform_edt(~mask, voxel) <= distance


def _closed(mask, distance: float, voxel) -> np.ndarray:
    """Return a mask after morphological closing by a distance (mm)."""
    margin = np.ceil(distance / voxel).astype(int) + 1
    # Without a margin, closing would fill up to where the field of view ends.
    padded = np.pad(mask, [(wide, wide) for wide in margin])
    dilated = _dilated(padded, distance, voxel)
    closed = ~_dilated(~dilated, distance, voxel)
    inner = tuple(slice(wide, -wide) for wide in margin)
    return closed[inner]
