"""The way of a scan into MNI152 space and its brain, by whichever route it needs: nothing but resampling, an affine, or the whole way."""

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
from msxai.data.registration import alignment, brain_extraction

MODES = ("auto", "none", "affine", "full")
MODALITIES = ("FLAIR", "T1w")
SETTINGS = {
    "version": 3,  # of the method: a higher one makes kept registrations anew
    "same_size": 0.90,  # Dice with the template's brain from which a scan on the MNI grid counts as registered
}
LEAST_DICE = 0.90  # with the template's brain; below it a registration is flagged
_BOX = np.array(
    [[-91.5, -126.5, -72.5], [90.5, 91.5, 109.5]]
)  # mm, field of view of the MNI grids (182x218x182 of 1 mm)


@dataclass(frozen=True)
class Registration:
    """A scan and its way into MNI152 space.

    Attributes
    ----------
    route : {"resampled", "affine", "full"}
        Nothing but resampling is needed; affine registration of an extracted brain; the whole way of a raw scan.
    image : nibabel.Nifti1Image
        The whole scan on its own grid, float32, without its bias field where it was raw.
    brain : nibabel.Nifti1Image
        Its brain mask on the same grid, uint8.
    matrix : ndarray of shape (4, 4)
        From the scan's space to MNI152 (RAS, mm).
    record : dict
        JSON types: parameters, versions, dice (the brain, moved, with the template's), scale (mm in the scan per mm of the template along
        right, anterior and superior), volume (ml), flags.
    """

    route: str
    image: nib.Nifti1Image
    brain: nib.Nifti1Image
    matrix: np.ndarray
    record: dict


def register(
    image, *, modality: str, brain=None, partner: Registration | None = None, mode: str = "auto"
) -> Registration:
    """Find a scan's way into MNI152 space; the same result each time.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        Three axes, finite voxels (`msxai.data.images.load`).
    modality : {"FLAIR", "T1w"}
    brain : nibabel.Nifti1Image, optional
        The scan's own brain mask, on any grid of the same space; without it the brain is found.
    partner : Registration, optional
        Of the same subject's FLAIR: a T1 is registered to it (rigid) and then goes its way.
    mode : {"auto", "none", "affine", "full"}
        "auto": a scan on the MNI grid with the template's brain size is only resampled; another one without a skull gets the affine;
        one with a skull the whole way (N4, rigid, affine, brain mask by the image). "none": resampled whatever it is.

    Raises
    ------
    ParameterError
        Unknown modality or mode.
    RegistrationError
        No head or brain is found in the scan, or the registration ends nowhere.
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
    route = {"none": "resampled"}.get(mode, mode)
    if mode == "auto":
        same = (
            extracted
            and _on_mni_grid(image)
            and brain_extraction.overlap(own, image.affine) >= SETTINGS["same_size"]
        )
        route = "resampled" if same else "affine" if extracted else "full"
    matrix = np.eye(4)
    if route == "full":
        image = alignment.without_bias(image)
    if route != "resampled":
        if partner is not None:
            matrix = partner.matrix @ alignment.align(image, own, *_partner(partner), rigid=True)
        else:
            matrix = alignment.align(image, own, *alignment.template(), rigid=False)
        if own is None:
            own = brain_extraction.refined(image, brain_extraction.mapped_back(image, matrix))
    return _checked(route, image, own, matrix, parameters_of(modality, mode, brain, partner))


def in_mni_space(image, values, brain) -> bool:
    """Whether a scan is on an MNI grid already, without a head and as large as the template, so that resampling is enough.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        The scan; its field of view counts.
    values, brain : ndarray of shape (96, 114, 96)
        The scan and its brain mask on the model's grid.
    """
    if not _on_mni_grid(image):
        return False
    template, far = _template_brain(), ~ndimage.binary_dilation(brain, iterations=3)
    dice = 2 * (brain & template).sum() / (brain.sum() + template.sum())
    return bool(dice >= SETTINGS["same_size"] and (values[far] != 0).mean() < 1e-3)


def place(image, matrix) -> nib.Nifti1Image:
    """The same voxels with an affine that leads to MNI152: one interpolation takes them to the model's grid (`msxai.data.images.to_grid`).

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
    """Route, matrix, scales, Dice and flags, as `msxai.data.prepared` keeps them for each scan; JSON types."""
    record = registration.record
    told = {"route": registration.route, "matrix": np.asarray(registration.matrix).tolist()}
    return told | {"scales": record["scale"], "dice": record["dice"], "flags": record["flags"]}


def parameters_of(
    modality: str, mode: str, brain=None, partner: Registration | None = None
) -> dict:
    """What decides a registration besides the files, JSON types; part of its record."""
    return {
        "modality": modality,
        "mode": mode,
        "brain_given": brain is not None,
        "partner": None if partner is None else partner.matrix.tolist(),
        "settings": SETTINGS | alignment.SETTINGS | brain_extraction.SETTINGS,
        "antspyx": importlib.metadata.version("antspyx"),
    }


def _checked(route, image, brain, matrix, parameters) -> Registration:
    """The result with what tells whether it can be trusted."""
    scale = np.linalg.norm(np.linalg.inv(matrix)[:3, :3], axis=0)
    if (
        not np.isfinite(matrix).all()
        or np.linalg.det(matrix[:3, :3]) <= 0
        or not ((scale > 0.4) & (scale < 1.6)).all()
    ):
        raise RegistrationError(
            "scan",
            f"a transform of scale {np.round(scale, 2).tolist()}",
            "the template's size within .4 to 1.6, and no mirror image",
            "Is it a head, and does its header say which way is up? Else give a brain mask, or register it by other means.",
        )
    dice, volume = (
        brain_extraction.overlap(brain, matrix @ image.affine),
        float(brain.sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1000),
    )
    if dice < 0.3:
        raise RegistrationError(
            "scan",
            f"a brain that overlaps the template's with Dice {dice:.2f}",
            "at least .3",
            "Look at it; give a brain mask.",
        )
    flags = (
        [f"Dice {dice:.3f} with the template's brain is below {LEAST_DICE:.2f}"]
        if dice < LEAST_DICE
        else []
    )
    low, high = alignment.SCALES
    if not alignment.plausible(np.linalg.inv(matrix)):
        flags.append(
            f"scale {', '.join(f'{value:.2f}' for value in scale)} is outside {low:.2f} to {high:.2f}"
        )
    record = {
        "parameters": parameters,
        "dice": round(float(dice), 4),
        "scale": [round(float(value), 4) for value in scale],
        "volume": round(volume, 1),
        "flags": flags,
    }
    return Registration(
        route, image, images.with_space_of(image, brain.astype("uint8")), matrix, record
    )


def _on_mni_grid(image) -> bool:
    """Whether the field of view is that of the MNI grids (1 or 2 mm, or the model's), within 2.5 mm."""
    ends = (
        image.affine[:3, :3] @ np.array([[-0.5] * 3, np.array(image.shape) - 0.5]).T
        + image.affine[:3, 3:]
    )
    return bool(np.abs(np.sort(ends, axis=1).T - _BOX).max() <= 2.5)


@functools.cache
def _template_brain() -> np.ndarray:
    """The template's brain mask on the model's grid."""
    return images.mask_to_grid(datasets.load_mni152_brain_mask(resolution=1))


def _like(mask, image) -> np.ndarray:
    return alignment.sample(alignment.values_of(mask) > 0, mask.affine, image)


def _partner(partner: Registration) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `msxai.data.registration.alignment.template`, of the subject's own FLAIR."""
    copy = alignment.copy_of(partner.image)
    return (
        alignment.values_of(copy),
        alignment.sample(alignment.values_of(partner.brain), partner.brain.affine, copy) >= 0.5,
        copy.affine,
    )
