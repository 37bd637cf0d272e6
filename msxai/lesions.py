"""Lesion filling: lesions replaced by what the normal-appearing white matter around them looks like, and the same at sham sites.

The paper's way (after Valverde et al. 2014, NeuroImage: Clinical 6:86-92, doi:10.1016/j.nicl.2014.08.016) painted all lesion voxels of a
slice with one random value: a patch that any network can see. It is kept here as "constant", to show that. "noise" draws voxel by voxel
from a random field with the local mean, the local standard deviation and the spatial correlation of the white matter around.
"""

import functools
import zlib
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nilearn import datasets
from scipy import fft, ndimage

from . import images
from .parameters import one_of

FILLINGS = ("none", "noise", "constant")
SCALES = (20.0, 10.0, 5.0)  # mm, standard deviation: how far the local mean reaches; the finest that finds white matter decides
PRIOR = 0.05  # weight of the next coarser scale: counts where less than about a twentieth of the surroundings is white matter
DILATION = 2.0  # mm: lesions are masked to where they are half as bright; beyond that their rim is filled too
BORDER = 4.0  # mm: from DILATION to here the filled tissue gives way to the scan
LAGS = 6  # voxels: how far the spatial correlation is followed


def white_matter(image) -> np.ndarray:
    """Where the template's white matter exceeds its grey matter and its fluid.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        In MNI152 space, on any grid.

    Returns
    -------
    ndarray of bool, shape of the image
    """
    tissue, affine = _template()
    step = np.linalg.inv(affine) @ image.affine
    white, grey = (ndimage.affine_transform(one, step[:3, :3], step[:3, 3], image.shape, order=1) for one in tissue)
    return (white > grey) & (white > 1 - grey - white)


@functools.cache
def _template():
    maps = [datasets.load_mni152_wm_template(resolution=1), datasets.load_mni152_gm_template(resolution=1)]
    return [np.asarray(one.dataobj, "float32") for one in maps], maps[0].affine


def normal_appearing(values, white, lesions, size) -> np.ndarray:
    """White matter that is no lesion, by place and by brightness.

    Parameters
    ----------
    values : ndarray of shape (X, Y, Z)
    white, lesions : ndarray of bool, same shape
        White matter by the template; lesions of the scan, whose surroundings are left out up to `BORDER`.
    size : sequence of 3 floats
        Edges of a voxel (mm).

    Returns
    -------
    ndarray of bool, same shape
        Within 3 standard deviations of the local mean: what template and scan do not share (ventricles, sulci, lesions that nobody
        masked) is left out.
    """
    values, found = np.asarray(values, "float32"), np.asarray(white, bool) & (values != 0)
    if lesions.any():
        found &= ndimage.distance_transform_edt(~lesions, sampling=size) > BORDER
    if not found.any():
        return found
    middle = np.median(values[found])
    found &= np.abs(values - middle) <= 3 * 1.4826 * np.median(np.abs(values[found] - middle))
    rest = np.abs(values - _local(values, found, size, SCALES))
    return found & (rest <= 3 * rest[found].std())


def soft(mask, size, within) -> np.ndarray:
    """A mask, slightly dilated, with a soft border.

    Parameters
    ----------
    mask : ndarray of bool, shape (X, Y, Z)
    size : sequence of 3 floats
        Edges of a voxel (mm).
    within : ndarray of bool, same shape
        Where it may grow.

    Returns
    -------
    ndarray of float32, same shape
        1 in the mask and up to `DILATION` from it, falling to 0 at `BORDER`.
    """
    if not mask.any():
        return np.zeros(mask.shape, "float32")
    distance = ndimage.distance_transform_edt(~mask, sampling=size)
    weight = np.clip((BORDER - distance) / (BORDER - DILATION), 0, 1)
    return np.where(mask | within, weight, 0).astype("float32")


@dataclass(frozen=True)
class Filler:
    """Fills one scan after another: an `alter` of `msxai.prepared.prepare`.

    Parameters
    ----------
    how : {"noise", "constant"}
        See `fill`.
    sites : {"lesions", "sham"}
        "lesions": the scan's own, of patients and controls alike. "sham": the same masks mirrored left to right, where that is
        normal-appearing white matter; lesions stay as they are.
    seed : int
        Together with participant and session it decides the draws.
    """

    how: str = "noise"
    sites: str = "lesions"
    seed: int = 0

    def __post_init__(self):
        one_of("filling", self.how, FILLINGS[1:])
        one_of("sites", self.sites, ("lesions", "sham"))

    def __call__(self, scan, lesions, row: dict) -> nib.Nifti1Image:
        """The filled scan; an unchanged copy where it has no lesion mask or an empty one."""
        values, size = np.asarray(scan.dataobj, "float32"), nib.affines.voxel_sizes(scan.affine)
        if lesions is None:
            return images.with_space_of(scan, values.copy())
        mask = _moved(lesions, scan, np.eye(4))
        white = white_matter(scan)
        normal = normal_appearing(values, white, mask, size)
        within = white & (values > values[normal].mean() - 3 * values[normal].std()) if normal.any() else normal  # a rim, but no fluid
        if self.sites == "sham":
            mask = _moved(lesions, scan, np.diag([-1.0, 1, 1, 1])) & normal
        name = zlib.crc32(f"{row['participant_id']} {row['session_id']}".encode())
        filled = fill(values, soft(mask, size, within), normal, how=self.how, seed=[self.seed, name], size=size)
        return images.with_space_of(scan, filled)


def _moved(mask, scan, move) -> np.ndarray:
    """A mask on a scan's grid after a movement in MNI152 space (mm, its own inverse)."""
    step = np.linalg.inv(mask.affine) @ move @ scan.affine
    moved = ndimage.affine_transform(np.asarray(mask.dataobj, "float32"), step[:3, :3], step[:3, 3], scan.shape, order=1)
    return moved >= 0.5 - 1e-6


def fill(values, mask, source, *, how: str = "noise", seed=0, size=(1.0, 1.0, 1.0)) -> np.ndarray:
    """Replace voxels by draws from the tissue around them.

    Parameters
    ----------
    values : ndarray of shape (X, Y, Z)
        One scan, in any unit.
    mask : ndarray of shape (X, Y, Z), bool or float
        What is replaced; fractions mix the old with the new (`soft`).
    source : ndarray of shape (X, Y, Z), bool
        Whose values the new ones resemble, usually normal-appearing white matter; voxels in `mask` do not count.
    how : {"noise", "constant"}
        "noise": a Gaussian random field with the source's local mean, local standard deviation and spatial correlation. "constant": one
        value for all voxels of a slice of the last axis, N(mean, sd / 2) of the slice's source, without a soft border (the paper's way).
    seed : int or sequence of int
        Of the draws.
    size : sequence of 3 floats
        Edges of a voxel (mm).

    Returns
    -------
    ndarray of shape (X, Y, Z), float32
        Equal to `values`, bit for bit, where `mask` is 0; whole numbers where all of `values` are.

    Raises
    ------
    ParameterError
        Unknown `how`.
    """
    one_of("filling", how, FILLINGS[1:])
    values, weight, rng = np.asarray(values, "float32"), np.asarray(mask, "float32"), np.random.default_rng(seed)
    source = np.asarray(source, bool) & (weight == 0)
    if not weight.any() or not source.any():
        return values.copy()
    new, weight = (_noise(values, weight, source, rng, size), weight) if how == "noise" else (_constant(values, source, rng), weight > 0)
    if np.array_equal(values, np.rint(values)):  # fractions among whole numbers would tell
        new = np.rint(new)
    return np.where(weight > 0, new, values).astype("float32")


def _noise(values, weight, source, rng, size) -> np.ndarray:
    """Local mean and deviation times a random field; where mixed with the old value, the variance stays that of the surroundings."""
    box = ndimage.find_objects((weight > 0).astype("uint8"))[0]
    margin = np.ceil(2 * SCALES[0] / np.asarray(size)).astype(int)
    box = tuple(slice(max(side.start - edge, 0), side.stop + edge) for side, edge in zip(box, margin, strict=True))
    if source[box].any():
        box_source = source[box]
    else:  # nothing near: the whole scan's
        box, box_source = (slice(None),) * 3, source
    old, part = values[box], weight[box]
    mean = _local(old, box_source, size, SCALES)
    rest = old - mean
    spread = np.sqrt(_local(rest**2, box_source, size, SCALES[:-1]))
    kept = np.clip(rest, -3 * spread, 3 * spread)
    drawn = spread * _field(np.divide(rest, spread, out=np.zeros_like(rest), where=spread > 0), box_source, rng)
    new = values.copy()
    new[box] = mean + (part * drawn + (1 - part) * kept) / np.sqrt(part**2 + (1 - part) ** 2)
    return new


def _local(values, source, size, scales) -> np.ndarray:
    """Mean of the source round each voxel, from coarse to fine: a finer one counts as far as it finds source."""
    mean = np.full(values.shape, values[source].mean(), "float32")
    inside, known = source.astype("float32"), np.where(source, values, np.float32(0))
    for scale in scales:
        total, weight = (ndimage.gaussian_filter(array, scale / np.asarray(size), truncate=2, mode="constant") for array in (known, inside))
        mean = (total + PRIOR * mean) / (weight + PRIOR)
    return mean


def _field(rest, source, rng) -> np.ndarray:
    """Gaussian random field of variance 1 with the spatial correlation that `rest` (mean 0, variance 1) has within the source."""
    shape = [fft.next_fast_len(length + LAGS, real=True) for length in rest.shape]
    pairs, products = (
        fft.irfftn(np.abs(fft.rfftn(array, shape)) ** 2, shape) for array in (source.astype("float32"), np.where(source, rest, 0))
    )
    lag = [np.minimum(np.arange(length), length - np.arange(length)) for length in shape]
    taper = [np.where(one <= LAGS, np.cos(np.pi / 2 * np.maximum(2 * one / LAGS - 1, 0)) ** 2, 0) for one in lag]
    correlation = products / np.maximum(pairs, 1) * taper[0][:, None, None] * taper[1][:, None] * taper[2]
    power = np.maximum(fft.rfftn(correlation, shape).real, 0)
    drawn = fft.irfftn(np.sqrt(power) * fft.rfftn(rng.standard_normal(shape, "float32")), shape)
    return (drawn / np.sqrt(fft.irfftn(power, shape)[0, 0, 0]))[tuple(slice(length) for length in rest.shape)].astype("float32")


def _constant(values, source, rng) -> np.ndarray:
    """The paper's fill: one value a slice."""
    new, whole = np.empty_like(values), values[source]
    for index in range(values.shape[2]):
        inside = values[..., index][source[..., index]]
        inside = inside if len(inside) > 1 else whole
        new[..., index] = rng.normal(inside.mean(), inside.std() / 2)
    return new
