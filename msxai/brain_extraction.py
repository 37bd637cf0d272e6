"""The brain in a scan: whether it was extracted, the template's brain mask mapped back, and its overlap with the template's."""

import nibabel as nib
import numpy as np
from scipy import ndimage

from . import alignment, images


def extracted(image) -> bool:
    """Whether a scan shows a brain without a head: nothing at all some way off what is bright, and a brain's volume."""
    copy = alignment.copy_of(image)
    values = alignment.values_of(copy)
    brain = images.brain_mask(values)
    far = ndimage.distance_transform_edt(~brain) * alignment.SETTINGS["spacing"] > 6
    volume = brain.sum() * alignment.SETTINGS["spacing"] ** 3 / 1e6  # litres; raw heads have 2.2 and more, extracted brains 1.0 to 1.95
    return bool(volume < 2.1 and (values[far] != 0).mean() < 1e-3)


def mapped_back(image, matrix) -> np.ndarray:
    """The template's brain mask on the scan's grid; bool."""
    _, template, grid = alignment.template()
    return alignment.sample(template, np.linalg.inv(matrix) @ grid, image) >= 0.5


def overlap(brain, affine) -> float:
    """Dice of a mask, placed by `affine`, with the template's brain."""
    _, template, grid = alignment.template()
    moved = alignment.sample(brain, affine, nib.Nifti1Image(template.view("uint8"), grid)) >= 0.5
    return 2 * float((moved & template).sum()) / float(moved.sum() + template.sum())
