"""The brain in a scan: whether it is extracted, the template's brain mask mapped back, refined by the image, and what they overlap."""

import nibabel as nib
import numpy as np
from scipy import ndimage

from msxai.data import images
from msxai.data.registration import alignment

SETTINGS = {
    "band": 8.0,  # mm outside the mapped mask that may be brain; 95 % of a published mask's edge were within 8 mm of the mapped one's
    "tissue": 0.5,  # of the brain's median intensity: an edge is half way to the dark round it (skull; in FLAIR and T1 fluid too)
    "opening": 3.5,  # mm: bridges to scalp, eyes, muscle thinner than twice this are cut; at 2 a T1's scalp came in, at 3 a jaw muscle
    "closing": 5.0,  # mm: sulci up to twice as wide are within the mask
    "rim": 1.0,  # mm added all round: voxels that are less than half brain
}


def extracted(image) -> bool:
    """Whether a scan shows a brain without a head: nothing at all some way off what is bright, and a brain's volume."""
    copy = alignment.copy_of(image)
    values = alignment.values_of(copy)
    brain = images.brain_mask(values)
    far = ndimage.distance_transform_edt(~brain) * alignment.SETTINGS["spacing"] > 6
    volume = (
        brain.sum() * alignment.SETTINGS["spacing"] ** 3 / 1e6
    )  # litres; raw heads have 2.2 and more, extracted brains 1.0 to 1.95
    return bool(volume < 2.1 and (values[far] != 0).mean() < 1e-3)


def mapped_back(image, matrix) -> np.ndarray:
    """The template's brain mask on the scan's grid; bool."""
    _, template, grid = alignment.template()
    return alignment.sample(template, np.linalg.inv(matrix) @ grid, image) >= 0.5


def refined(image, mask) -> np.ndarray:
    """The brain by the image itself, near a mask that a registration has put there; bool.

    Threshold, opening, largest component, dilation back within the tissue, closing, filling: brain extraction by morphology as in
    Atkins, Mackiewich 1998 (IEEE Trans Med Imaging 17:98, doi:10.1109/42.668699) and Shattuck et al. 2001 (NeuroImage 13:856,
    doi:10.1006/nimg.2000.0730), by distances in mm, whatever the voxels. The given mask tells the brain's intensity and what is too far
    outside, no more: where it lies wrong, the brain is found beside it, and `overlap` with the template's falls.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        The scan without its bias field.
    mask : ndarray of bool, of the scan's shape
        About where the brain is (`mapped_back`).

    Returns
    -------
    ndarray of bool
        Empty where nothing there looks like a brain.
    """
    if not mask.any():
        return mask
    voxel = np.linalg.norm(image.affine[:3, :3], axis=0)
    margin, beyond = (
        np.ceil(SETTINGS[name] / voxel).astype(int) + 1 for name in ("band", "closing")
    )
    extent = ndimage.find_objects(mask.astype("uint8"))[0]
    box = tuple(
        slice(max(one.start - more, 0), one.stop + more)
        for one, more in zip(extent, margin, strict=True)
    )
    values, inside = alignment.values_of(image)[box], mask[box]

    def dilated(one, by: str) -> np.ndarray:
        return ndimage.distance_transform_edt(~one, voxel) <= SETTINGS[by]

    zone = dilated(inside, "band")
    tissue = zone & (values > SETTINGS["tissue"] * np.median(values[inside]))
    parts, count = ndimage.label(~dilated(~tissue, "opening"))
    if not count:
        return np.zeros_like(mask)
    brain = tissue & dilated(parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]), "opening")
    wide = np.pad(
        brain, [(more, more) for more in beyond]
    )  # else closing would fill up to where the field of view ends
    brain |= ~dilated(~dilated(wide, "closing"), "closing")[
        tuple(slice(more, -more) for more in beyond)
    ]
    found = np.zeros_like(mask)
    found[box] = ndimage.binary_fill_holes(zone & dilated(brain, "rim"))
    return found


def overlap(brain, affine) -> float:
    """Dice of a mask, placed by `affine`, with the template's brain."""
    _, template, grid = alignment.template()
    moved = alignment.sample(brain, affine, nib.Nifti1Image(template.view("uint8"), grid)) >= 0.5
    return 2 * float((moved & template).sum()) / float(moved.sum() + template.sum())
