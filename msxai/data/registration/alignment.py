"""The way of a scan onto another one by antspyx: bias field, rigid and affine registration, and affines between nibabel and ITK.

N4: Tustison et al. 2010, IEEE Trans Med Imaging 29:1310, doi:10.1109/TMI.2010.2046908; registration: Avants et al. 2011, NeuroImage
54:2033, doi:10.1016/j.neuroimage.2010.09.025. The template is the MNI ICBM152 2009 one that nilearn ships (Fonov et al. 2011, NeuroImage
54:313, doi:10.1016/j.neuroimage.2010.07.033). Affines are nibabel's throughout: RAS, millimetres.
"""

import functools
import os
import tempfile

import nibabel as nib
import numpy as np
from nilearn import datasets
from scipy import ndimage
from scipy.spatial.transform import Rotation

from msxai.base.errors import RegistrationError
from msxai.data import images

SETTINGS = {
    "spacing": 2.0,  # mm, of the copies that are registered; 1 mm took four times as long (Dice of the mapped mask .951 and .952)
    "margin": 6.0,  # mm by which the template's brain mask is dilated for the affine's metric
    "seed": 1,
    "threads": 1,  # with more, the order of sums changes the result
    "start_angle": 25.0,  # degrees about each axis, of the first tries
    "smaller": 0.85,  # scale of the second try, where the first ends at an implausible one
    "iterations": [2100, 1200, 200, 0],
    "sampling": 0.2,
    "n4_iterations": [50, 50, 50, 50],
}
SCALES = (0.70, 1.05)  # of an adult's head, the template's = 1
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def without_bias(image) -> nib.Nifti1Image:
    """The scan divided by N4's bias field (1 on average over the head), which is found on a coarse copy."""
    copy = copy_of(image)
    values = values_of(copy)
    head = images.brain_mask(values)  # of a raw scan: the head
    coarse = _to_ants(np.maximum(values, 0), copy.affine)
    rounds = {"iters": SETTINGS["n4_iterations"], "tol": 1e-6}
    field = _ants().n4_bias_field_correction(
        coarse,
        mask=_to_ants(head, copy.affine),
        shrink_factor=2,
        convergence=rounds,
        return_bias_field=True,
    )
    field = field.numpy()
    field = np.clip(field / field[head].mean(), 0.1, 10)
    return images.with_space_of(
        image, values_of(image) / sample(field, copy.affine, image, "nearest")
    )


def align(image, own, fixed, target, grid, rigid: bool) -> np.ndarray:
    """Register a scan to `fixed`; from the scan's space to that one (RAS, mm).

    Rigid from several starts, then (unless `rigid`) affine with the metric restricted to the neighbourhood of `target`.
    """
    copy = copy_of(image)
    values = np.maximum(values_of(copy), 0)
    if own is not None:
        values = values * (sample(own, image.affine, copy) >= 0.5)
    near = ndimage.distance_transform_edt(~target) * SETTINGS["spacing"] <= SETTINGS["margin"]
    moving, still, mask = _to_ants(values, copy.affine), _to_ants(fixed, grid), _to_ants(near, grid)
    settings = {
        "aff_random_sampling_rate": SETTINGS["sampling"],
        "aff_iterations": tuple(SETTINGS["iterations"]),
    }
    with tempfile.TemporaryDirectory() as folder:

        def step(kind, start, **more) -> np.ndarray:  # from the target's space to the scan's
            _ants().write_transform(_to_itk(start), f"{folder}/start.mat")
            found = _ants().registration(
                still, moving, kind, [f"{folder}/start.mat"], f"{folder}/{kind}", **settings, **more
            )
            return _from_itk(_ants().read_transform(found["fwdtransforms"][0]))

        try:
            start = _start(values, copy.affine, still, mask, target, grid, folder)
            if rigid:
                return np.linalg.inv(step("Rigid", start, mask=mask))
            found = step("Affine", step("Rigid", start), mask=mask)
            if not plausible(
                found
            ):  # the scalp taken for the brain, as where a head is small: once more, from a smaller one
                middle = nib.affines.apply_affine(grid, np.argwhere(target).mean(axis=0))
                smaller = np.eye(4)
                smaller[:3, :3], smaller[:3, 3] = (
                    SETTINGS["smaller"] * np.eye(3),
                    (1 - SETTINGS["smaller"]) * middle,
                )
                again = step("Affine", start @ smaller, mask=mask)
                found = again if plausible(again) else found
        except RuntimeError as error:
            raise RegistrationError(
                "scan",
                f"a registration that stopped ({error})",
                "an alignment",
                "Look at the scan; or give a brain mask.",
            ) from error
        return np.linalg.inv(found)


def plausible(matrix) -> bool:
    """Whether the scales of an affine from the template to a scan are those of an adult's head."""
    scale = np.linalg.norm(matrix[:3, :3], axis=0)
    return bool((scale >= SCALES[0]).all() and (scale <= SCALES[1]).all())


@functools.cache
def template() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Template, its brain mask (both with `SETTINGS["spacing"]`) and their affine."""
    whole = copy_of(datasets.load_mni152_template(resolution=1))
    brain = datasets.load_mni152_brain_mask(resolution=1)
    return values_of(whole), sample(values_of(brain), brain.affine, whole) >= 0.5, whole.affine


def values_of(image) -> np.ndarray:
    """An image's voxels, float32."""
    return np.asarray(image.dataobj, "float32")


def sample(values, affine, image, mode: str = "constant") -> np.ndarray:
    """`values`, whose voxels lie where `affine` says, at the voxels of `image`; linear, float32."""
    step = np.linalg.inv(affine) @ image.affine
    return ndimage.affine_transform(
        np.asarray(values, "float32"), step[:3, :3], step[:3, 3], image.shape, order=1, mode=mode
    )


def copy_of(image, spacing: float | None = None) -> nib.Nifti1Image:
    """The image's field of view with cubic voxels along right, anterior, superior: no flips, obliqueness or shear to care for."""
    spacing = spacing or SETTINGS["spacing"]
    corners = np.array(
        np.meshgrid(*[[-0.5, length - 0.5] for length in image.shape], indexing="ij")
    ).reshape(3, -1)
    corners = image.affine[:3, :3] @ corners + image.affine[:3, 3:]
    low, high = corners.min(axis=1), corners.max(axis=1)
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = low + spacing / 2
    empty = nib.Nifti1Image(np.zeros(np.ceil((high - low) / spacing).astype(int), "uint8"), affine)
    # voxels smaller than the copy's are averaged, not skipped
    blur = np.maximum(spacing / np.linalg.norm(image.affine[:3, :3], axis=0) - 1, 0) / 2.355
    return nib.Nifti1Image(
        sample(ndimage.gaussian_filter(values_of(image), blur), image.affine, empty), affine
    )


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
    direction = LPS[:3, :3] @ (affine[:3, :3] / spacing)
    return _ants().from_numpy(
        np.asarray(values, "float32"),
        origin=(LPS @ affine)[:3, 3].tolist(),
        spacing=spacing.tolist(),
        direction=direction,
    )


def _start(values, affine, still, mask, target, grid, folder) -> np.ndarray:
    """The best of some coarse rigid registrations, by mutual information near the target brain; from the target's space to the scan's."""
    step = np.diag(affine)[:3]
    head = np.argwhere(images.brain_mask(values))
    head = head[(head[:, 2].max() - head[:, 2]) * step[2] < 160]  # without the neck
    there = affine[:3, :3] @ head.mean(axis=0) + affine[:3, 3]
    here = grid[:3, :3] @ np.argwhere(target).mean(axis=0) + grid[:3, 3]
    moving, near, best = _to_ants(values, affine), mask.numpy() > 0, (-np.inf, None)
    fixed = still.numpy()[near]
    for turn in [
        (0, 0, 0),
        *(
            sign * np.eye(3)[axis] * SETTINGS["start_angle"]
            for axis in range(3)
            for sign in (1, -1)
        ),
    ]:
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
        matrix[:3, 3] = there - matrix[:3, :3] @ here
        _ants().write_transform(_to_itk(matrix), f"{folder}/candidate.mat")
        found = _ants().registration(
            still,
            moving,
            "Rigid",
            [f"{folder}/candidate.mat"],
            f"{folder}/coarse",
            aff_random_sampling_rate=0.5,
            aff_iterations=(200,),
            aff_shrink_factors=(4,),
            aff_smoothing_sigmas=(2,),
        )
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


def _to_itk(matrix):
    """An affine of RAS points as antspyx's transform (of LPS points)."""
    turned = LPS @ matrix @ LPS
    return _ants().create_ants_transform(
        transform_type="AffineTransform",
        precision="float",
        dimension=3,
        matrix=turned[:3, :3],
        offset=turned[:3, 3],
    )


def _from_itk(transform) -> np.ndarray:
    """The inverse of `_to_itk`; ITK turns about a centre."""
    matrix, values, centre = (
        np.eye(4),
        np.array(transform.parameters),
        np.array(transform.fixed_parameters),
    )
    matrix[:3, :3] = values[:9].reshape(3, 3)
    matrix[:3, 3] = values[9:] + centre - matrix[:3, :3] @ centre
    return LPS @ matrix @ LPS
