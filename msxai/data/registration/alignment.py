"""Registration of a scan to another one by antspyx: bias field, rigid and affine steps.

N4: Tustison et al. 2010, IEEE Trans Med Imaging 29:1310, doi:10.1109/TMI.2010.2046908.
Registration: Avants et al. 2011, NeuroImage 54:2033, doi:10.1016/j.neuroimage.2010.09.025. The
template is the MNI ICBM152 2009 one that nilearn ships (Fonov et al. 2011, NeuroImage 54:313,
doi:10.1016/j.neuroimage.2010.07.033). Affines are nibabel's throughout: RAS, millimetres.
"""

import functools
import os
import tempfile
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nilearn import datasets
from scipy import ndimage
from scipy.spatial.transform import Rotation

from msxai.base.errors import RegistrationError
from msxai.data import images

__all__ = [
    "LPS",
    "SCALES",
    "SETTINGS",
    "align",
    "copy_of",
    "plausible",
    "sample",
    "template",
    "values_of",
    "without_bias",
]

SETTINGS = {
    # mm, of the copies that are registered; 1 mm took four times as long (Dice of the mapped mask
    # 0.951 and 0.952)
    "spacing": 2.0,
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
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # between nibabel's axes (RAS) and ITK's

_HEAD_LENGTH = 160  # mm from the top of the head; below are jaw and neck


def without_bias(image) -> nib.Nifti1Image:
    """Divide a scan by N4's bias field, which is found on a coarse copy.

    The field is 1 on average over the head.
    """
    copy = copy_of(image)
    values = values_of(copy)
    head = images.brain_mask(values)  # of a raw scan: the head
    field = _ants().n4_bias_field_correction(
        _to_ants(np.maximum(values, 0), copy.affine),
        mask=_to_ants(head, copy.affine),
        shrink_factor=2,
        convergence={"iters": SETTINGS["n4_iterations"], "tol": 1e-6},
        return_bias_field=True,
    )
    field = field.numpy()
    field = np.clip(field / field[head].mean(), 0.1, 10)
    corrected = values_of(image) / sample(field, copy.affine, image, "nearest")
    return images.with_space_of(image, corrected)


def align(image, own, fixed, target, grid, rigid: bool) -> np.ndarray:
    """Register a scan to another one.

    Rigid from several starts, then (unless `rigid`) affine with the metric restricted to the
    neighbourhood of `target`.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        The scan.
    own : ndarray of bool, of the scan's shape, or None
        Its brain, if it is known: all else is ignored.
    fixed : ndarray of shape (X, Y, Z)
        The other scan.
    target : ndarray of bool, shape (X, Y, Z)
        Its brain.
    grid : ndarray of shape (4, 4)
        Affine of both.
    rigid : bool
        Whether the scans are of the same head.

    Returns
    -------
    ndarray of shape (4, 4)
        From the scan's space to the other's (RAS, mm).

    Raises
    ------
    RegistrationError
        antspyx stopped.
    """
    copy = copy_of(image)
    values = values_of(copy)
    if own is not None:
        inside = sample(own, image.affine, copy) >= 0.5
        values = images.from_zero(values, inside) * inside
    values = np.maximum(values, 0)
    with tempfile.TemporaryDirectory() as folder:
        task = _Alignment(values, copy.affine, fixed, target, grid, folder)
        try:
            to_scan = task.rigid() if rigid else task.affine()
        except RuntimeError as error:
            raise RegistrationError(
                "scan",
                f"a registration that stopped ({error})",
                "an alignment",
                "Look at the scan; or give a brain mask.",
            ) from error
    return np.linalg.inv(to_scan)


def plausible(matrix) -> bool:
    """Return whether an affine from the template to a scan has the scales of an adult's head."""
    scale = np.linalg.norm(matrix[:3, :3], axis=0)
    smallest, largest = SCALES
    return bool((scale >= smallest).all() and (scale <= largest).all())


@functools.cache
def template() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the template, its brain mask (spacing as in `SETTINGS`) and their affine."""
    whole = copy_of(datasets.load_mni152_template(resolution=1))
    brain = datasets.load_mni152_brain_mask(resolution=1)
    mask = sample(values_of(brain), brain.affine, whole) >= 0.5
    return values_of(whole), mask, whole.affine


def values_of(image) -> np.ndarray:
    """Return an image's voxels, float32."""
    return np.asarray(image.dataobj, "float32")


def sample(values, affine, image, mode: str = "constant") -> np.ndarray:
    """Resample an array linearly to the grid of an image; float32.

    Parameters
    ----------
    values : ndarray of shape (X, Y, Z)
    affine : ndarray of shape (4, 4)
        Of the array.
    image : nibabel.Nifti1Image
        In the same space.
    mode : str
        What lies outside the array; see `scipy.ndimage.affine_transform`.
    """
    step = np.linalg.inv(affine) @ image.affine
    values = np.asarray(values, "float32")
    return ndimage.affine_transform(
        values, step[:3, :3], step[:3, 3], image.shape, order=1, mode=mode
    )


def copy_of(image, spacing: float | None = None) -> nib.Nifti1Image:
    """Resample an image to cubic voxels along right, anterior, superior.

    The field of view stays; the copy has no flips, obliqueness or shear.

    Parameters
    ----------
    image : nibabel.Nifti1Image
    spacing : float, optional
        Edge of a voxel (mm). Default: that of `SETTINGS`.
    """
    spacing = spacing or SETTINGS["spacing"]
    sides = [[-0.5, length - 0.5] for length in image.shape]
    corners = np.array(np.meshgrid(*sides, indexing="ij")).reshape(3, -1)
    corners = image.affine[:3, :3] @ corners + image.affine[:3, 3:]
    low = corners.min(axis=1)
    high = corners.max(axis=1)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = low + spacing / 2
    shape = np.ceil((high - low) / spacing).astype(int)
    target = nib.Nifti1Image(np.zeros(shape, "uint8"), affine)
    # Voxels smaller than the copy's are averaged, not skipped.
    ratio = spacing / np.linalg.norm(image.affine[:3, :3], axis=0)
    blur = np.maximum(ratio - 1, 0) / 2.355
    smooth = ndimage.gaussian_filter(values_of(image), blur)
    return nib.Nifti1Image(sample(smooth, image.affine, target), affine)


@functools.cache
def _ants():
    """Import antspyx with one thread and a fixed seed.

    ITK reads both from the environment when it starts.
    """
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(SETTINGS["threads"])
    os.environ["ANTS_RANDOM_SEED"] = str(SETTINGS["seed"])
    import ants

    return ants


@dataclass
class _Alignment:
    """One registration; transforms go from the target's space to the scan's.

    Attributes
    ----------
    values, affine_of_values : ndarray
        The scan that is moved, on the grid of a copy (`copy_of`), and that grid's affine.
    fixed, target, grid : ndarray
        As in `align`.
    folder : str
        For the files by which antspyx takes transforms.
    """

    values: np.ndarray
    affine_of_values: np.ndarray
    fixed: np.ndarray
    target: np.ndarray
    grid: np.ndarray
    folder: str

    def __post_init__(self):
        distance = ndimage.distance_transform_edt(~self.target) * SETTINGS["spacing"]
        self.moving = _to_ants(self.values, self.affine_of_values)
        self.still = _to_ants(self.fixed, self.grid)
        self.mask = _to_ants(distance <= SETTINGS["margin"], self.grid)
        target_voxels = np.argwhere(self.target)
        self.middle = self.grid[:3, :3] @ target_voxels.mean(axis=0) + self.grid[:3, 3]

    def rigid(self) -> np.ndarray:
        """Register the same head."""
        return self._step("Rigid", self._start(), mask=self.mask)

    def affine(self) -> np.ndarray:
        """Register another head; once more from a smaller one where the scales are implausible.

        Where a head is small, the scalp may be taken for the brain.
        """
        start = self._start()
        first = self._step("Affine", self._step("Rigid", start), mask=self.mask)
        if plausible(first):
            return first
        smaller = np.eye(4)
        smaller[:3, :3] = SETTINGS["smaller"] * np.eye(3)
        smaller[:3, 3] = (1 - SETTINGS["smaller"]) * self.middle
        second = self._step("Affine", start @ smaller, mask=self.mask)
        return second if plausible(second) else first

    def _step(self, kind: str, start, **options) -> np.ndarray:
        """Register from a start, rigid or affine."""
        result = self._register(
            kind,
            start,
            aff_random_sampling_rate=SETTINGS["sampling"],
            aff_iterations=tuple(SETTINGS["iterations"]),
            **options,
        )
        return _transform_of(result)

    def _register(self, kind: str, start, **options) -> dict:
        """Run antspyx from a start."""
        path = f"{self.folder}/start.mat"
        _ants().write_transform(_to_itk(start), path)
        return _ants().registration(
            self.still, self.moving, kind, [path], f"{self.folder}/{kind}", **options
        )

    def _start(self) -> np.ndarray:
        """Return the best of some coarse rigid registrations.

        The best has the largest mutual information near the target brain.
        """
        head = self._middle_of_head()
        best_score = np.inf
        best = None
        for rotation in _start_rotations():
            result = self._register(
                "Rigid",
                self._centred(rotation, head),
                aff_random_sampling_rate=0.5,
                aff_iterations=(200,),
                aff_shrink_factors=(4,),
                aff_smoothing_sigmas=(2,),
            )
            # The negative of the mutual information, as ITK has it.
            score = _ants().image_similarity(
                self.still, result["warpedmovout"], "MattesMutualInformation", self.mask
            )
            if score < best_score:
                best_score = score
                best = _transform_of(result)
        return best

    def _centred(self, rotation, head) -> np.ndarray:
        """Return a rotation that brings the middle of the target brain to that of the head."""
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        matrix[:3, 3] = head - rotation @ self.middle
        return matrix

    def _middle_of_head(self) -> np.ndarray:
        """Return the middle of the head without the neck (RAS, mm)."""
        head = np.argwhere(images.brain_mask(self.values))
        from_top = (head[:, 2].max() - head[:, 2]) * self.affine_of_values[2, 2]
        head = head[from_top < _HEAD_LENGTH]
        return self.affine_of_values[:3, :3] @ head.mean(axis=0) + self.affine_of_values[:3, 3]


def _start_rotations() -> list[np.ndarray]:
    """Return the rotations of the first tries: none, and about each axis either way."""
    angles = [np.zeros(3)]
    for axis in range(3):
        for sign in (1, -1):
            angles.append(sign * np.eye(3)[axis] * SETTINGS["start_angle"])
    return [Rotation.from_euler("xyz", angle, degrees=True).as_matrix() for angle in angles]


def _to_ants(values, affine):
    """Convert an array on a copy's grid to an image of antspyx."""
    image = nib.Nifti1Image(np.asarray(values, "float32"), affine)
    image.header.set_xyzt_units("mm", "sec")  # antspyx prints a warning without units
    return _ants().from_nibabel_nifti(image)


def _to_itk(matrix):
    """Convert an affine of RAS points to antspyx's transform, of LPS points."""
    turned = LPS @ matrix @ LPS
    return _ants().create_ants_transform(
        transform_type="AffineTransform",
        precision="float",
        dimension=3,
        matrix=turned[:3, :3],
        offset=turned[:3, 3],
    )


def _transform_of(result: dict) -> np.ndarray:
    """Return the affine that a registration of antspyx ends with (RAS)."""
    return _from_itk(_ants().read_transform(result["fwdtransforms"][0]))


def _from_itk(transform) -> np.ndarray:
    """Convert antspyx's transform to an affine of RAS points; ITK turns about a centre."""
    parameters = np.array(transform.parameters)
    centre = np.array(transform.fixed_parameters)
    matrix = np.eye(4)
    matrix[:3, :3] = parameters[:9].reshape(3, 3)
    matrix[:3, 3] = parameters[9:] + centre - matrix[:3, :3] @ centre
    return LPS @ matrix @ LPS
