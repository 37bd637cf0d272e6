"""Lesion filling of one scan in its own space, whatever that space is.

`msxai.data.lesion_filling` needs to know where white matter is, and takes it from the template. So
the scan is registered to MNI152 space, and only the affine of its header is exchanged: voxels stay
where they are, nothing is interpolated, and every voxel that is not filled keeps its value.
"""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from msxai.base import given_paths, provenance
from msxai.base.errors import ImageError
from msxai.base.parameters import located, whole_number
from msxai.data import images, lesion_filling
from msxai.data.registration import registration

__all__ = ["Check", "fill_scan"]

_LARGEST_SHIFT = 0.5  # standard deviations of white matter
_SPREADS = (0.7, 1.4)  # of filled tissue, as a share of that of white matter


@dataclass(frozen=True)
class Check:
    """Filled tissue compared with normal-appearing white matter of the same scan.

    Attributes
    ----------
    lesion_voxels, changed_voxels : int
        Of the mask; of the scan that have another value than before.
    shift : float
        Mean of the filled lesion voxels minus that of white matter, in standard deviations of
        white matter. Near 0 where the filling is good.
    shift_before : float
        The same before filling.
    spread : float
        Standard deviation of the filled lesion voxels, divided by that of white matter. Near 1
        where the filling is good.
    """

    lesion_voxels: int
    changed_voxels: int
    shift: float
    shift_before: float
    spread: float

    @property
    def passed(self) -> bool:
        """Whether brightness and noise of the filled tissue are those of white matter.

        The mean and spread of few voxels vary by chance, so that the limits are wider for them.
        """
        chance = 2 / np.sqrt(self.lesion_voxels)  # two standard errors of a mean
        low, high = _SPREADS
        usual_spread = low - chance <= self.spread <= high + chance
        return bool(abs(self.shift) <= _LARGEST_SHIFT + chance and usual_spread)


def fill_scan(scan, mask, path, *, brain_mask=None, seed: int = 0) -> Check:
    """Fill the lesions of a scan by tissue that resembles the white matter around them.

    Parameters
    ----------
    scan : path
        FLAIR, raw or prepared.
    mask : path
        Its lesion mask, in its space, on any grid.
    path : path
        The filled scan to write, on the grid of `scan`.
    brain_mask : path, optional
        By default the brain is found.
    seed : int
        Of the filling.

    Returns
    -------
    Check

    Raises
    ------
    ParameterError
        A seed below 0.
    ImageError, RegistrationError
        A file cannot be used, the mask is empty or marks most of the brain, or there is no white
        matter to fill from.
    """
    whole_number("seed", seed, 0)
    given_paths.check(path, ImageError, to_write=True)
    image = images.load(located(scan))
    lesions = images.load_mask(located(mask), image)
    if not np.asarray(lesions.dataobj).any():
        raise ImageError(
            mask, "a mask without a voxel", "a lesion", "Give the mask of this scan's lesions."
        )
    brain = None
    if brain_mask is not None:
        brain = images.load_mask(located(brain_mask), image, brain=True)
    placed = registration.register(image, modality="FLAIR", brain=brain)
    values = np.asarray(image.dataobj, "float32")
    in_brain = np.where(np.asarray(placed.brain.dataobj) > 0, values, 0)
    scan_in_mni = registration.place(nib.Nifti1Image(in_brain, image.affine), placed.matrix)
    lesions_in_mni = registration.place(lesions, placed.matrix)
    brain_in_mni = registration.place(placed.brain, placed.matrix)
    marked = images.mask_to_grid(lesions_in_mni)
    images.check_lesions(mask, marked, images.mask_to_grid(brain_in_mni))
    filler = lesion_filling.Filler("noise", "lesions", seed)
    row = {"participant_id": provenance.sha256(located(scan)), "session_id": "", "image": scan}
    filled = np.asarray(filler(scan_in_mni, lesions_in_mni, row).dataobj)
    changed = filled != in_brain
    if not changed.any():
        raise ImageError(
            mask,
            "lesions where nothing can be filled",
            "lesions in the brain, with white matter around them",
            "Look at the mask on the scan.",
        )
    result = np.where(changed, filled, values)
    check = _check(scan_in_mni, lesions_in_mni, result, changed)
    with provenance.replacing(Path(path)) as draft:
        nib.save(images.with_space_of(image, result), draft)
    return check


def _check(scan, lesions, result, changed) -> Check:
    """Compare the filled lesions with normal-appearing white matter."""
    before = np.asarray(scan.dataobj)
    mask = lesion_filling.on_grid(lesions, scan)
    white = lesion_filling.white_matter(scan)
    size = nib.affines.voxel_sizes(scan.affine)
    normal = before[lesion_filling.normal_appearing(before, white, mask, size)]
    inside = mask & changed
    spread = normal.std()
    return Check(
        lesion_voxels=int(mask.sum()),
        changed_voxels=int(changed.sum()),
        shift=float((result[inside].mean() - normal.mean()) / spread),
        shift_before=float((before[inside].mean() - normal.mean()) / spread),
        spread=float(result[inside].std() / spread),
    )
