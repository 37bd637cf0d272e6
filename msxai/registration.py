"""The way of a scan into MNI152 space: bias field, rigid and affine registration, brain mask, and how they are kept as BIDS derivatives.

The template is the MNI ICBM152 2009 one that nilearn ships (Fonov et al. 2011, NeuroImage 54:313, doi:10.1016/j.neuroimage.2010.07.033);
N4 (Tustison et al. 2010, IEEE Trans Med Imaging 29:1310, doi:10.1109/TMI.2010.2046908) and the registration (Avants et al. 2011,
NeuroImage 54:2033, doi:10.1016/j.neuroimage.2010.09.025) are antspyx's. Affines are nibabel's throughout: RAS, millimetres.
"""

import functools
import importlib.metadata
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nilearn import datasets
from scipy import ndimage
from scipy.spatial.transform import Rotation

from . import images, integrity
from .errors import RegistrationError
from .parameters import one_of

MODES = ("auto", "none", "affine", "full")
MODALITIES = ("FLAIR", "T1w")
SETTINGS = {
    "version": 2,  # of this module's method: a higher one makes kept registrations anew
    "spacing": 2.0,  # mm, of the copies that are registered; 1 mm took four times as long for the same mask (Dice .951 and .952)
    "margin": 6.0,  # mm by which the template's brain mask is dilated for the affine's metric
    "seed": 1,
    "threads": 1,  # with more, the order of sums changes the result
    "start_angle": 25.0,  # degrees about each axis, of the first tries
    "smaller": 0.85,  # scale of the second try, where the first ends at an implausible one
    "iterations": [2100, 1200, 200, 0],
    "sampling": 0.2,
    "n4_iterations": [50, 50, 50, 50],
    "same_size": 0.90,  # Dice with the template's brain from which a scan on the MNI grid counts as registered
}
LIMITS = {"dice": 0.90, "scale": (0.70, 1.05)}
_BOX = np.array([[-91.5, -126.5, -72.5], [90.5, 91.5, 109.5]])  # mm, field of view of the MNI grids (182x218x182 of 1 mm)
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


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
        JSON types: parameters, versions, dice (moved brain with the template's), scale (mm in the scan per mm of the template along
        right, anterior and superior), volume (ml), flags.
    """

    route: str
    image: nib.Nifti1Image
    brain: nib.Nifti1Image
    matrix: np.ndarray
    record: dict


def register(image, *, modality: str, brain=None, partner: Registration | None = None, mode: str = "auto") -> Registration:
    """Find a scan's way into MNI152 space; the same result each time.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        Three axes, finite voxels (`msxai.images.load`).
    modality : {"FLAIR", "T1w"}
    brain : nibabel.Nifti1Image, optional
        The scan's own brain mask, on any grid of the same space; without it the brain is found.
    partner : Registration, optional
        Of the same subject's FLAIR: a T1 is registered to it (rigid) and then goes its way.
    mode : {"auto", "none", "affine", "full"}
        "auto": a scan on the MNI grid with the template's brain size is only resampled; another one without a skull gets the affine;
        one with a skull the whole way (N4, rigid, affine, brain mask). "none": resampled whatever it is.

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
        raise RegistrationError("scan", "the same value in all voxels, or none above 0", "a head or a brain", "Look at the scan.")
    extracted = _extracted(image)
    own = None if brain is None else _like(brain, image) >= 0.5
    if own is None and (extracted or mode in ("none", "affine")):
        own = images.brain_mask(values)
    if own is not None and not own.any():
        raise RegistrationError("brain mask", "no voxel inside the scan", "a mask that overlaps the scan", "Is it in the same space?")
    route = {"none": "resampled"}.get(mode, mode)
    if mode == "auto":
        same = extracted and _on_mni_grid(image) and _overlap(own, image.affine) >= SETTINGS["same_size"]
        route = "resampled" if same else "affine" if extracted else "full"
    matrix = np.eye(4)
    if route == "full":
        image = _without_bias(image)
    if route != "resampled":
        if partner is not None:
            to_partner = _align(image, own, *_partner(partner), rigid=True)
            matrix = partner.matrix @ to_partner
            if own is None:
                own = _sample(_values(partner.brain), np.linalg.inv(to_partner) @ partner.brain.affine, image) >= 0.5
        else:
            matrix = _align(image, own, *_template(), rigid=False)
        if own is None:
            own = _mapped_back(image, matrix)
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


@functools.cache
def _template_brain() -> np.ndarray:
    """The template's brain mask on the model's grid."""
    return images.mask_to_grid(datasets.load_mni152_brain_mask(resolution=1))


def place(image, matrix) -> nib.Nifti1Image:
    """The same voxels with an affine that leads to MNI152: one interpolation takes them to the model's grid (`msxai.images.to_grid`).

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
    """Route, matrix, scales, Dice and flags, as `msxai.prepared` keeps them for each scan; JSON types."""
    record = registration.record
    told = {"route": registration.route, "matrix": np.asarray(registration.matrix).tolist()}
    return told | {"scales": record["scale"], "dice": record["dice"], "flags": record["flags"]}


def save(registration: Registration, folder, entities: str, *, sources=()) -> Path:
    """Write a registration as BIDS derivatives, its record last.

    Parameters
    ----------
    registration : Registration
    folder : path
        ``derivatives/<pipeline>/sub-.../[ses-.../]anat``.
    entities : str
        How the files' names begin: ``sub-01[_ses-01]``.
    sources : iterable of path
        Files that it was made from, for their hashes.

    Returns
    -------
    pathlib.Path
        The record (JSON). The image is written only where it is no longer the source's.
    """
    modality = registration.record["parameters"]["modality"]
    image, mask, transform, record = _paths(folder, entities, modality)
    record.unlink(missing_ok=True)
    files = {mask: registration.brain} | ({image: registration.image} if registration.route == "full" else {})
    for path, content in files.items():
        with integrity.replacing(path) as draft:
            nib.save(content, draft)
    with integrity.replacing(transform) as draft:
        draft.write_text(_itk(registration.matrix), encoding="ascii")
    about = {key: value for key, value in registration.record.items() if key != "parameters"}
    about |= {"route": registration.route, "matrix": registration.matrix.tolist()}
    integrity.write_json(record, integrity.provenance(registration.record["parameters"], sources, [*files, transform], **about))
    return record


def describe(folder, cohort: str, synthetic: bool) -> None:
    """Write the dataset_description.json of a folder of registrations, which makes it a BIDS derivative."""
    integrity.write_json(Path(folder) / "dataset_description.json", {
        "Name": f"Registrations of {cohort} to MNI152", "BIDSVersion": "1.10.0", "DatasetType": "derivative", "Synthetic": bool(synthetic),
        "GeneratedBy": [{"Name": "msxai.registration", "Version": integrity.__version__}],
    })  # fmt: skip


def load(folder, entities: str, image, parameters: dict, *, sources=()) -> Registration | None:
    """Read what `save` has written; None where it is missing, unfinished, changed since, of other sources or other parameters.

    Parameters
    ----------
    folder, entities, sources
        As in `save`.
    image : nibabel.Nifti1Image
        The source scan.
    parameters : dict
        What `parameters_of` gives for this call.
    """
    changed, mask, transform, path = _paths(folder, entities, parameters["modality"])
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        files = [mask, transform, *([changed] if record["route"] == "full" else [])]
        current = (
            record["parameters"] == json.loads(json.dumps(parameters))
            and record["inputs"] == {integrity.relative(source): integrity.sha256(source) for source in sources}
            and record["outputs"] == {integrity.relative(file): integrity.sha256(file) for file in files}
        )
    except (OSError, ValueError, KeyError):
        return None
    if not current:
        return None
    whole = images.load(changed) if record["route"] == "full" else image
    brain = nib.load(mask)
    return Registration(record["route"], whole, brain, np.array(record["matrix"]), record)


def registered(source, folder, entities: str, *, modality: str, brain=None, partner=None, mode: str = "auto") -> Registration:
    """A scan's registration: read where an earlier run has kept it for these very files and parameters, else made and kept.

    Parameters
    ----------
    source : path
        The scan.
    folder, entities
        Where it is kept; see `save`.
    brain : path, optional
        The scan's own brain mask.
    modality, partner, mode
        See `register`.

    Raises
    ------
    ParameterError, ImageError, RegistrationError
        The latter two name the file.
    """
    image, mask = images.load(source), None if brain is None else images.load(brain)
    sources = [Path(path) for path in (source, brain) if path is not None]
    known = load(folder, entities, image, parameters_of(modality, mode, mask, partner), sources=sources)
    if known is not None:
        return known
    try:
        found = register(image, modality=modality, brain=mask, partner=partner, mode=mode)
    except RegistrationError as error:
        where = brain if error.where == "brain mask" else source
        raise RegistrationError(where, error.found, error.expected, error.mend) from error
    save(found, folder, entities, sources=sources)
    return found


def parameters_of(modality: str, mode: str, brain=None, partner: Registration | None = None) -> dict:
    """What decides a registration besides the files, JSON types; part of its record."""
    return {
        "modality": modality,
        "mode": mode,
        "brain_given": brain is not None,
        "partner": None if partner is None else partner.matrix.tolist(),
        "settings": SETTINGS,
        "antspyx": importlib.metadata.version("antspyx"),
    }


def _checked(route, image, brain, matrix, parameters) -> Registration:
    """The result with what tells whether it can be trusted."""
    scale = np.linalg.norm(np.linalg.inv(matrix)[:3, :3], axis=0)
    if not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) <= 0 or not ((scale > 0.4) & (scale < 1.6)).all():
        raise RegistrationError(
            "scan",
            f"a transform of scale {np.round(scale, 2).tolist()}",
            "the template's size within .4 to 1.6, and no mirror image",
            "Is it a head, and does its header say which way is up? Else give a brain mask, or register it by other means.",
        )
    dice, volume = _overlap(brain, matrix @ image.affine), float(brain.sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1000)
    if dice < 0.3:
        raise RegistrationError(
            "scan", f"a brain that overlaps the template's with Dice {dice:.2f}", "at least .3", "Look at it; give a brain mask."
        )
    flags = [f"Dice {dice:.3f} with the template's brain is below {LIMITS['dice']:.2f}"] if dice < LIMITS["dice"] else []
    low, high = LIMITS["scale"]
    if not _plausible(np.linalg.inv(matrix)):
        flags.append(f"scale {', '.join(f'{value:.2f}' for value in scale)} is outside {low:.2f} to {high:.2f}")
    record = {
        "parameters": parameters,
        "dice": round(float(dice), 4),
        "scale": [round(float(value), 4) for value in scale],
        "volume": round(volume, 1),
        "flags": flags,
    }
    return Registration(route, image, images.with_space_of(image, brain.astype("uint8")), matrix, record)


@functools.cache
def _template() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Template, its brain mask (both with `SETTINGS["spacing"]`) and their affine."""
    whole = _copy(datasets.load_mni152_template(resolution=1))
    brain = datasets.load_mni152_brain_mask(resolution=1)
    return _values(whole), _sample(_values(brain), brain.affine, whole) >= 0.5, whole.affine


def _values(image) -> np.ndarray:
    return np.asarray(image.dataobj, "float32")


def _sample(values, affine, image, mode: str = "constant") -> np.ndarray:
    """`values`, whose voxels lie where `affine` says, at the voxels of `image`; linear, float32."""
    step = np.linalg.inv(affine) @ image.affine
    return ndimage.affine_transform(np.asarray(values, "float32"), step[:3, :3], step[:3, 3], image.shape, order=1, mode=mode)


def _like(mask, image) -> np.ndarray:
    return _sample(_values(mask) > 0, mask.affine, image)


def _copy(image, spacing: float | None = None) -> nib.Nifti1Image:
    """The image's field of view with cubic voxels along right, anterior, superior: no flips, obliqueness or shear to care for."""
    spacing = spacing or SETTINGS["spacing"]
    corners = np.array(np.meshgrid(*[[-0.5, length - 0.5] for length in image.shape], indexing="ij")).reshape(3, -1)
    corners = image.affine[:3, :3] @ corners + image.affine[:3, 3:]
    low, high = corners.min(axis=1), corners.max(axis=1)
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = low + spacing / 2
    empty = nib.Nifti1Image(np.zeros(np.ceil((high - low) / spacing).astype(int), "uint8"), affine)
    # voxels smaller than the copy's are averaged, not skipped
    blur = np.maximum(spacing / np.linalg.norm(image.affine[:3, :3], axis=0) - 1, 0) / 2.355
    return nib.Nifti1Image(_sample(ndimage.gaussian_filter(_values(image), blur), image.affine, empty), affine)


def _overlap(brain, affine) -> float:
    """Dice of a mask, placed by `affine`, with the template's brain."""
    _, template, grid = _template()
    moved = _sample(brain, affine, nib.Nifti1Image(template.view("uint8"), grid)) >= 0.5
    return 2 * float((moved & template).sum()) / float(moved.sum() + template.sum())


def _on_mni_grid(image) -> bool:
    """Whether the field of view is that of the MNI grids (1 or 2 mm, or the model's), within 2.5 mm."""
    ends = image.affine[:3, :3] @ np.array([[-0.5] * 3, np.array(image.shape) - 0.5]).T + image.affine[:3, 3:]
    return bool(np.abs(np.sort(ends, axis=1).T - _BOX).max() <= 2.5)


def _extracted(image) -> bool:
    """Whether a scan shows a brain without a head: nothing at all some way off what is bright, and a brain's volume."""
    copy = _copy(image)
    values = _values(copy)
    brain = images.brain_mask(values)
    far = ndimage.distance_transform_edt(~brain) * SETTINGS["spacing"] > 6
    volume = brain.sum() * SETTINGS["spacing"] ** 3 / 1e6  # litres; raw heads have 2.2 and more, extracted brains 1.0 to 1.95
    return bool(volume < 2.1 and (values[far] != 0).mean() < 1e-3)


@functools.cache
def _ants():
    """antspyx, with one thread and a fixed seed: ITK reads both from the environment when it starts."""
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(SETTINGS["threads"])
    os.environ["ANTS_RANDOM_SEED"] = str(SETTINGS["seed"])
    import ants

    return ants


def _to_ants(values, affine):
    """An image of a copy's grid (its axes are right, anterior, superior; ITK's are left, posterior, superior)."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = _LPS[:3, :3] @ (affine[:3, :3] / spacing)
    return _ants().from_numpy(
        np.asarray(values, "float32"), origin=(_LPS @ affine)[:3, 3].tolist(), spacing=spacing.tolist(), direction=direction
    )


def _without_bias(image) -> nib.Nifti1Image:
    """The scan divided by N4's bias field (1 on average over the head), which is found on a coarse copy."""
    copy = _copy(image)
    values = _values(copy)
    head = images.brain_mask(values)  # of a raw scan: the head
    coarse = _to_ants(np.maximum(values, 0), copy.affine)
    rounds = {"iters": SETTINGS["n4_iterations"], "tol": 1e-6}
    field = _ants().n4_bias_field_correction(
        coarse, mask=_to_ants(head, copy.affine), shrink_factor=2, convergence=rounds, return_bias_field=True
    )
    field = field.numpy()
    field = np.clip(field / field[head].mean(), 0.1, 10)
    return images.with_space_of(image, _values(image) / _sample(field, copy.affine, image, "nearest"))


def _partner(partner: Registration) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_template`, of the subject's own FLAIR."""
    copy = _copy(partner.image)
    return _values(copy), _sample(_values(partner.brain), partner.brain.affine, copy) >= 0.5, copy.affine


def _align(image, own, fixed, target, grid, rigid: bool) -> np.ndarray:
    """Register a scan to `fixed`; from the scan's space to that one (RAS, mm).

    Rigid from several starts, then (unless `rigid`) affine with the metric restricted to the neighbourhood of `target`.
    """
    copy = _copy(image)
    values = np.maximum(_values(copy), 0)
    if own is not None:
        values = values * (_sample(own, image.affine, copy) >= 0.5)
    near = ndimage.distance_transform_edt(~target) * SETTINGS["spacing"] <= SETTINGS["margin"]
    moving, still, mask = _to_ants(values, copy.affine), _to_ants(fixed, grid), _to_ants(near, grid)
    settings = {"aff_random_sampling_rate": SETTINGS["sampling"], "aff_iterations": tuple(SETTINGS["iterations"])}
    with tempfile.TemporaryDirectory() as folder:

        def step(kind, start, **more) -> np.ndarray:  # from the target's space to the scan's
            _ants().write_transform(_to_itk(start), f"{folder}/start.mat")
            found = _ants().registration(still, moving, kind, [f"{folder}/start.mat"], f"{folder}/{kind}", **settings, **more)
            return _from_itk(_ants().read_transform(found["fwdtransforms"][0]))

        try:
            start = _start(values, copy.affine, still, mask, target, grid, folder)
            if rigid:
                return np.linalg.inv(step("Rigid", start, mask=mask))
            found = step("Affine", step("Rigid", start), mask=mask)
            if not _plausible(found):  # the scalp taken for the brain, as where a head is small: once more, from a smaller one
                middle = nib.affines.apply_affine(grid, np.argwhere(target).mean(axis=0))
                smaller = np.eye(4)
                smaller[:3, :3], smaller[:3, 3] = SETTINGS["smaller"] * np.eye(3), (1 - SETTINGS["smaller"]) * middle
                again = step("Affine", start @ smaller, mask=mask)
                found = again if _plausible(again) else found
        except RuntimeError as error:
            raise RegistrationError(
                "scan", f"a registration that stopped ({error})", "an alignment", "Look at the scan; or give a brain mask."
            ) from error
        return np.linalg.inv(found)


def _plausible(matrix) -> bool:
    """Whether the scales of an affine from the template to a scan are those of an adult's head."""
    scale = np.linalg.norm(matrix[:3, :3], axis=0)
    return bool((scale >= LIMITS["scale"][0]).all() and (scale <= LIMITS["scale"][1]).all())


def _start(values, affine, still, mask, target, grid, folder) -> np.ndarray:
    """The best of some coarse rigid registrations, by mutual information near the target brain; from the target's space to the scan's."""
    step = np.diag(affine)[:3]
    head = np.argwhere(images.brain_mask(values))
    head = head[(head[:, 2].max() - head[:, 2]) * step[2] < 160]  # without the neck
    there = affine[:3, :3] @ head.mean(axis=0) + affine[:3, 3]
    here = grid[:3, :3] @ np.argwhere(target).mean(axis=0) + grid[:3, 3]
    moving, near, best = _to_ants(values, affine), mask.numpy() > 0, (-np.inf, None)
    fixed = still.numpy()[near]
    for turn in [(0, 0, 0), *(sign * np.eye(3)[axis] * SETTINGS["start_angle"] for axis in range(3) for sign in (1, -1))]:
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
        matrix[:3, 3] = there - matrix[:3, :3] @ here
        _ants().write_transform(_to_itk(matrix), f"{folder}/candidate.mat")
        found = _ants().registration(
            still, moving, "Rigid", [f"{folder}/candidate.mat"], f"{folder}/coarse", aff_random_sampling_rate=0.5,
            aff_iterations=(200,), aff_shrink_factors=(4,), aff_smoothing_sigmas=(2,),
        )  # fmt: skip
        score = _mutual_information(fixed, found["warpedmovout"].numpy()[near])
        if score > best[0]:
            best = score, _from_itk(_ants().read_transform(found["fwdtransforms"][0]))
    return best[1]


def _mutual_information(one, other) -> float:
    """Of two samples of intensities (nats), by a joint histogram of 32 by 32 bins."""
    joint = np.histogram2d(one, np.clip(other, *np.percentile(other, (0, 99.5))), 32)[0]
    joint /= joint.sum()
    apart = np.outer(joint.sum(axis=1), joint.sum(axis=0))
    return float((joint[joint > 0] * np.log(joint[joint > 0] / apart[joint > 0])).sum())


def _mapped_back(image, matrix) -> np.ndarray:
    """The template's brain mask on the scan's grid; bool."""
    _, template, grid = _template()
    return _sample(template, np.linalg.inv(matrix) @ grid, image) >= 0.5


def _to_itk(matrix):
    """An affine of RAS points as antspyx's transform (of LPS points)."""
    turned = _LPS @ matrix @ _LPS
    return _ants().create_ants_transform(transform_type="AffineTransform", precision="float", dimension=3, matrix=turned[:3, :3],
                                         offset=turned[:3, 3])  # fmt: skip


def _from_itk(transform) -> np.ndarray:
    """The inverse of `_to_itk`; ITK turns about a centre."""
    matrix, values, centre = np.eye(4), np.array(transform.parameters), np.array(transform.fixed_parameters)
    matrix[:3, :3] = values[:9].reshape(3, 3)
    matrix[:3, 3] = values[9:] + centre - matrix[:3, :3] @ centre
    return _LPS @ matrix @ _LPS


def _paths(folder, entities: str, modality: str) -> tuple[Path, Path, Path, Path]:
    """Image, brain mask, transform and record."""
    stem = f"{folder}/{entities}"
    transform = f"{stem}_from-{modality}_to-MNI152_mode-image_xfm"
    return (
        Path(f"{stem}_desc-preproc_{modality}.nii.gz"),
        Path(f"{stem}_space-{modality}_desc-brain_mask.nii.gz"),
        Path(f"{transform}.txt"),
        Path(f"{transform}.json"),
    )


def _itk(matrix) -> str:
    """The text file that ANTs and ITK-SNAP read: where a point of MNI152 lies in the scan, in LPS."""
    turned = _LPS @ np.linalg.inv(matrix) @ _LPS
    numbers = " ".join(f"{value:.9g}" for value in [*turned[:3, :3].ravel(), *turned[:3, 3]])
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
    )
