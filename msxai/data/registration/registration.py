"""Registration of a scan to MNI152 space, and its brain, by the route that the scan needs.

Some scans are only resampled, extracted brains get an affine, raw scans everything.
"""

import functools
import importlib.metadata
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nilearn import datasets
from scipy import ndimage

from msxai.base.errors import RegistrationError
from msxai.base.parameters import one_of
from msxai.data import images
from msxai.data.cohorts.scan_files import MODALITIES
from msxai.data.registration import alignment, brain_extraction

__all__ = [
    "LEAST_DICE",
    "MODES",
    "SETTINGS",
    "Registration",
    "in_mni_space",
    "parameters_of",
    "place",
    "register",
    "summary",
]

MODES = ("auto", "none", "affine", "full")
SETTINGS = {
    "version": 4,  # of the method: a higher one makes kept registrations anew
    # Dice with the template's brain from which a scan on the MNI grid counts as registered
    "same_size": 0.90,
}
LEAST_DICE = 0.90  # with the template's brain; below it a registration is flagged
# mm, field of view of the MNI grids (182x218x182 of 1 mm)
_BOX = np.array([[-91.5, -126.5, -72.5], [90.5, 91.5, 109.5]])
_BOX_TOLERANCE = 2.5  # mm
_POSSIBLE_SCALES = (0.4, 1.6)  # mm in the scan for a mm of the template
_POSSIBLE_DICE = 0.3  # with the template's brain


@dataclass(frozen=True)
class Registration:
    """A scan and its transform to MNI152 space.

    Attributes
    ----------
    route : {"resampled", "affine", "full"}
        Only resampled; affine registration of an extracted brain; all steps of a raw scan.
    image : nibabel.Nifti1Image
        The whole scan on its own grid, float32, without its bias field where it was raw.
    brain : nibabel.Nifti1Image
        Its brain mask on the same grid, uint8.
    matrix : ndarray of shape (4, 4)
        From the scan's space to MNI152 (RAS, mm).
    record : dict
        JSON types: parameters, versions, dice (of the moved brain and the template's), scale (mm in
        the scan per mm of the template along right, anterior and superior), volume (ml), flags.
    """

    route: str
    image: nib.Nifti1Image
    brain: nib.Nifti1Image
    matrix: np.ndarray
    record: dict


def register(
    image, *, modality: str, brain=None, partner: Registration | None = None, mode: str = "auto"
) -> Registration:
    """Register a scan to MNI152 space; the same result each time.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        Three axes, finite voxels (`msxai.data.images.load`).
    modality : {"FLAIR", "T1w"}
    brain : nibabel.Nifti1Image, optional
        The scan's own brain mask, on any grid of the same space; without it the brain is found.
    partner : Registration, optional
        Of the same subject's FLAIR: a T1 is registered to it (rigid) and then takes its transform.
    mode : {"auto", "none", "affine", "full"}
        "auto": a scan on the MNI grid with the template's brain size is only resampled; another
        scan without a skull gets the affine; a scan with a skull gets everything (N4, rigid,
        affine, brain mask by the image). "none": every scan is only resampled.

    Raises
    ------
    ParameterError
        Unknown modality or mode.
    RegistrationError
        No head or brain is found in the scan, or the registration fails.
    """
    one_of("modality", modality, MODALITIES)
    one_of("registration", mode, MODES)
    image = nib.Nifti1Image(np.asarray(image.dataobj, "float32"), image.affine, image.header)
    values = np.asarray(image.dataobj)
    if np.ptp(values) == 0 or not (values > 0).any():
        raise RegistrationError(
            "scan",
            "the same value in all voxels, or none above 0",
            "a head or a brain",
            "Look at the scan.",
        )
    extracted = brain_extraction.extracted(image)
    own = None if brain is None else _like(brain, image) >= 0.5
    if own is None and (extracted or mode in ("none", "affine")):
        own = images.brain_mask(values)
    if own is not None and not own.any():
        raise RegistrationError(
            "brain mask",
            "no voxel inside the scan",
            "a mask that overlaps the scan",
            "Is it in the same space?",
        )
    route = _route(mode, image, own, extracted)
    matrix = np.eye(4)
    if route == "full":
        image = alignment.without_bias(image)
    if route != "resampled":
        matrix = _matrix(image, own, partner)
        if own is None:
            own = brain_extraction.refined(image, brain_extraction.mapped_back(image, matrix))
    parameters = parameters_of(modality, mode, brain, partner)
    return _checked(route, image, own, matrix, parameters)


def _route(mode: str, image, brain, extracted: bool) -> str:
    """Return the route of a scan: "resampled", "affine" or "full"."""
    if mode == "none":
        return "resampled"
    if mode != "auto":
        return mode
    if not extracted:
        return "full"
    if _on_mni_grid(image):
        dice = brain_extraction.overlap(brain, image.affine)
        if dice >= SETTINGS["same_size"]:
            return "resampled"
    return "affine"


def _matrix(image, brain, partner: Registration | None) -> np.ndarray:
    """Return the affine from a scan to MNI152 space, through its partner where it has one."""
    if partner is None:
        return alignment.align(image, brain, *alignment.template(), rigid=False)
    to_partner = alignment.align(image, brain, *_partner(partner), rigid=True)
    return partner.matrix @ to_partner


def in_mni_space(image, values, brain) -> bool:
    """Return whether resampling is enough for a scan.

    It is on an MNI grid already, has no head and is as large as the template.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        The scan; its field of view counts.
    values, brain : ndarray of shape (96, 114, 96)
        The scan and its brain mask on the model's grid.
    """
    if not _on_mni_grid(image):
        return False
    template = _template_brain()
    dice = 2 * (brain & template).sum() / (brain.sum() + template.sum())
    outside = ~ndimage.binary_dilation(brain, iterations=3)
    has_head = (values[outside] != 0).mean() >= 1e-3
    return bool(dice >= SETTINGS["same_size"] and not has_head)


def place(image, matrix) -> nib.Nifti1Image:
    """Give an image the affine that leads to MNI152 space; its voxels stay.

    One interpolation then takes them to the model's grid (`msxai.data.images.to_grid`).

    Parameters
    ----------
    image : nibabel.Nifti1Image
        A scan, or a mask of it.
    matrix : ndarray of shape (4, 4)
        `Registration.matrix`.
    """
    if np.array_equal(matrix, np.eye(4)):
        return image
    placed = nib.Nifti1Image(np.asanyarray(image.dataobj), matrix @ image.affine)
    placed.set_sform(placed.affine, code=4)
    placed.set_qform(None, code=0)  # no quaternion holds shear
    return placed


def summary(registration: Registration) -> dict:
    """Return what `msxai.data.prepared` stores for each scan, as JSON types."""
    record = registration.record
    return {
        "route": registration.route,
        "matrix": np.asarray(registration.matrix).tolist(),
        "scales": record["scale"],
        "dice": record["dice"],
        "flags": record["flags"],
    }


def parameters_of(
    modality: str, mode: str, brain=None, partner: Registration | None = None
) -> dict:
    """Return what decides a registration besides the files, as JSON types; part of its record."""
    return {
        "modality": modality,
        "mode": mode,
        "brain_given": brain is not None,
        "partner": None if partner is None else partner.matrix.tolist(),
        "settings": SETTINGS | alignment.SETTINGS | brain_extraction.SETTINGS,
        "antspyx": importlib.metadata.version("antspyx"),
    }


def _checked(route: str, image, brain, matrix, parameters: dict) -> Registration:
    """Return the registration with its Dice, scales and flags; refuse an impossible one."""
    scale = np.linalg.norm(np.linalg.inv(matrix)[:3, :3], axis=0)
    _check_matrix(matrix, scale)
    dice = brain_extraction.overlap(brain, matrix @ image.affine)
    if dice < _POSSIBLE_DICE:
        raise RegistrationError(
            "scan",
            f"a brain that overlaps the template's with Dice {dice:.2f}",
            "at least .3",
            "Look at it; give a brain mask.",
        )
    flags = []
    if dice < LEAST_DICE:
        flags.append(f"Dice {dice:.3f} with the template's brain is below {LEAST_DICE:.2f}")
    if not alignment.plausible(np.linalg.inv(matrix)):
        low, high = alignment.SCALES
        scales = ", ".join(f"{value:.2f}" for value in scale)
        flags.append(f"scale {scales} is outside {low:.2f} to {high:.2f}")
    millilitres = float(brain.sum() * images.voxel_volume(image.affine) / 1000)
    record = {
        "parameters": parameters,
        "dice": round(float(dice), 4),
        "scale": [round(float(value), 4) for value in scale],
        "volume": round(millilitres, 1),
        "flags": flags,
    }
    mask = images.with_space_of(image, brain.astype("uint8"))
    return Registration(route=route, image=image, brain=mask, matrix=matrix, record=record)


def _check_matrix(matrix, scale) -> None:
    """Refuse an affine that mirrors, or whose scales no head has."""
    smallest, largest = _POSSIBLE_SCALES
    possible = ((scale > smallest) & (scale < largest)).all()
    mirrored = np.linalg.det(matrix[:3, :3]) <= 0
    if not np.isfinite(matrix).all() or mirrored or not possible:
        raise RegistrationError(
            "scan",
            f"a transform of scale {np.round(scale, 2).tolist()}",
            "the template's size within .4 to 1.6, and no mirror image",
            "Is it a head, and does its header say which way is up? "
            "Else give a brain mask, or register it by other means.",
        )


def _on_mni_grid(image) -> bool:
    """Return whether the field of view is that of the MNI grids (1 or 2 mm, or the model's)."""
    corners = np.array([[-0.5, -0.5, -0.5], np.array(image.shape) - 0.5])
    ends = image.affine[:3, :3] @ corners.T + image.affine[:3, 3:]
    deviation = np.abs(np.sort(ends, axis=1).T - _BOX)
    return bool(deviation.max() <= _BOX_TOLERANCE)


@functools.cache
def _template_brain() -> np.ndarray:
    """Return the template's brain mask on the model's grid."""
    return images.mask_to_grid(datasets.load_mni152_brain_mask(resolution=1))


def _like(mask, image) -> np.ndarray:
    """Return a mask on an image's grid, as fractions."""
    return alignment.sample(alignment.values_of(mask) >= 0.5, mask.affine, image)


def _partner(partner: Registration) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scan, brain and affine of a partner, as `alignment.template` does."""
    copy = alignment.copy_of(partner.image)
    brain = alignment.sample(alignment.values_of(partner.brain), partner.brain.affine, copy)
    values = images.from_zero(alignment.values_of(copy), brain >= 0.5)
    return values, brain >= 0.5, copy.affine
