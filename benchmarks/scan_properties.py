"""Measures of one prepared FLAIR scan by which real and simulated scans are compared.

All are taken on the model's grid. Brightness is in standard deviations of the brain (z), because
prepared scans are normalised so. `MEASURES` says in words what each one is. A measure is NaN where
the scan has nothing to take it from.
"""

import functools
from dataclasses import dataclass
from functools import cached_property

import nibabel as nib
import numpy as np
from nilearn import datasets
from scipy import ndimage, stats

from msxai.data import images, lesion_filling, quality_control
from msxai.data.images import NEIGHBOURHOOD_26, VOXEL_SIZE, VOXEL_VOLUME
from msxai.regions import own_anatomy

TISSUE, TEXTURE, MASK, HISTOGRAM, LESIONS = (
    "tissue",
    "texture and edges",
    "rim and brain mask",
    "histogram",
    "lesions",
)
MEASURES = {
    "white_mean": (TISSUE, "white matter, mean (z)"),
    "white_sd": (TISSUE, "white matter, SD (z)"),
    "white_slow": (TISSUE, "white matter, SD of what varies slowly (z)"),
    "grey_mean": (TISSUE, "grey matter, mean (z)"),
    "grey_sd": (TISSUE, "grey matter, SD (z)"),
    "fluid_mean": (TISSUE, "fluid of the ventricles, mean (z)"),
    "fluid_sd": (TISSUE, "fluid of the ventricles, SD (z)"),
    "dark_in_grey": (TISSUE, "share of the cortex that is as dark as fluid"),
    "symmetry": (TISSUE, "correlation with the mirrored scan"),
    "noise": (TEXTURE, "noise from voxel to voxel (z)"),
    "neighbours_x": (TEXTURE, "correlation of neighbours in white matter, x"),
    "neighbours_y": (TEXTURE, "correlation of neighbours in white matter, y"),
    "neighbours_z": (TEXTURE, "correlation of neighbours in white matter, z"),
    "spectrum_x": (TEXTURE, "slope of the power spectrum, x"),
    "spectrum_y": (TEXTURE, "slope of the power spectrum, y"),
    "spectrum_z": (TEXTURE, "slope of the power spectrum, z"),
    "edge_width": (TEXTURE, "width of the ventricles' edges (mm)"),
    "grey_gradient": (TEXTURE, "mean gradient in the cortex (z/mm)"),
    "rim_mean": (MASK, "outermost voxels of the brain mask, mean (z)"),
    "rim_sd": (MASK, "outermost voxels of the brain mask, SD (z)"),
    "rim_bright": (MASK, "share of the rim that is brighter than the brain (skull edge)"),
    "mask_volume": (MASK, "volume of the brain mask (ml)"),
    "mask_dice": (MASK, "Dice of the brain mask and the template's"),
    "mask_rough": (MASK, "share of the brain mask that smoothing its surface changes"),
    "skew": (HISTOGRAM, "skew of the brain's brightness"),
    "kurtosis": (HISTOGRAM, "excess kurtosis of the brain's brightness"),
    "z95": (HISTOGRAM, "95 % quantile of the brain (z)"),
    "z99_5": (HISTOGRAM, "99.5 % quantile of the brain (z)"),
    "z99_9": (HISTOGRAM, "99.9 % quantile of the brain (z)"),
    "brightest_in_grey": (HISTOGRAM, "share of the brightest 1 % in grey matter"),
    "brightest_at_rim": (HISTOGRAM, "share of the brightest 1 % at the rim"),
    "lesion_mean": (LESIONS, "lesions, mean (z)"),
    "lesion_sd": (LESIONS, "lesions, SD (z)"),
    "lesion_contrast": (LESIONS, "lesions minus white matter (z)"),
    "lesion_core": (LESIONS, "lesions, 90 % quantile (z)"),
    "lesion_edge": (LESIONS, "step of brightness at a lesion's border, share of its contrast"),
    "lesion_halo": (LESIONS, "brightness two voxels outside a lesion, share of its contrast"),
    "lesion_volume": (LESIONS, "volume of lesions (ml)"),
    "lesion_above": (LESIONS, "share of lesions above the 99.5 % quantile of the brain"),
}
"""Name to its group and to what it is."""

_SURE_GREY = 0.7  # probability of grey matter in the template
_NEAR_LESIONS = 2  # voxels that count as neither white matter nor lesion
_RIM = 2  # voxels: the outermost layers of the brain mask
_LOCAL = 2.0  # voxels: standard deviation of the local mean that texture is taken from
_SLOW = 6.0  # voxels: the same for what varies slowly
_LINE = 32  # voxels of a line whose spectrum is taken, 61 mm
_LOWEST = 2  # first frequency of the slope, cycles a line: the window covers those below
_MAD_TO_SD = 1.4826  # of a normal distribution
_LAPLACIAN_VARIANCE = 42  # of the six-neighbour Laplacian of white noise of variance 1
_FEWEST = 20  # voxels to take a mean from
_BRIGHTEST = 0.99
_BRIGHT = 0.995


@dataclass(frozen=True)
class View:
    """A prepared scan, and where its tissues are.

    Attributes
    ----------
    image : ndarray of shape (96, 114, 96)
        Mean 0 and standard deviation 1 in the brain; 0 outside.
    brain, lesions : ndarray of bool, same shape
        Lesions lie in the brain.
    """

    image: np.ndarray
    brain: np.ndarray
    lesions: np.ndarray

    @cached_property
    def near_lesions(self) -> np.ndarray:
        """Lesions and what lies within two voxels of them."""
        if not self.lesions.any():
            return self.lesions
        return ndimage.binary_dilation(self.lesions, NEIGHBOURHOOD_26, _NEAR_LESIONS)

    @cached_property
    def ventricles(self) -> np.ndarray:
        """The person's lateral ventricles; those of the template where the scan shows none."""
        return own_anatomy.find(self.image, self.brain, self.lesions).ventricles & self.brain

    @cached_property
    def fluid(self) -> np.ndarray:
        """The ventricles without their outermost voxels, as far as they are wide enough."""
        inner = ndimage.binary_erosion(self.ventricles)
        return inner if inner.sum() >= _FEWEST else self.ventricles

    @cached_property
    def white(self) -> np.ndarray:
        """White matter of the template that is neither near a lesion nor near the ventricles."""
        near_fluid = ndimage.binary_dilation(self.ventricles, NEIGHBOURHOOD_26)
        inside = ndimage.binary_erosion(self.brain, iterations=_RIM)
        return _template_white() & inside & ~near_fluid & ~self.near_lesions

    @cached_property
    def grey(self) -> np.ndarray:
        """Grey matter of the template that is not near a lesion."""
        return _template_grey() & self.brain & ~self.near_lesions

    @cached_property
    def within(self) -> np.ndarray:
        """The brain without its rim."""
        return ndimage.binary_erosion(self.brain, iterations=_RIM)

    @property
    def healthy(self) -> np.ndarray:
        """The brain without lesions."""
        return self.brain & ~self.lesions


@functools.cache
def _template_white() -> np.ndarray:
    grid = nib.Nifti1Image(np.zeros(images.SHAPE, "uint8"), images.AFFINE)
    return lesion_filling.white_matter(grid)


@functools.cache
def _template_grey() -> np.ndarray:
    probability = images.to_grid(datasets.load_mni152_gm_template(resolution=1))
    return probability > _SURE_GREY


def measure(view: View) -> dict:
    """Take all `MEASURES` of one scan."""
    measures = {
        **tissue(view),
        **texture(view),
        **rim_and_mask(view),
        **histogram(view),
        **lesions(view),
    }
    return {name: measures[name] for name in MEASURES}


def tissue(view: View) -> dict:
    """Brightness of white matter, grey matter and fluid, and how it varies."""
    white = view.image[view.white]
    grey = view.image[view.grey]
    fluid = view.image[view.fluid]
    slow = local_mean(view.image, view.white, _SLOW)[view.white]
    halfway = (white.mean() + fluid.mean()) / 2
    return {
        "white_mean": white.mean(),
        "white_sd": white.std(),
        "white_slow": slow.std(),
        "grey_mean": grey.mean(),
        "grey_sd": grey.std(),
        "fluid_mean": fluid.mean(),
        "fluid_sd": fluid.std(),
        "dark_in_grey": (grey < halfway).mean(),
        "symmetry": symmetry(view.image, view.brain),
    }


def texture(view: View) -> dict:
    """Noise, what neighbouring voxels share, spectra, and how wide edges are."""
    measures = {"noise": noise(view.image, view.white)}
    for axis, name in enumerate("xyz"):
        measures[f"neighbours_{name}"] = neighbour_correlation(view.image, view.white, axis)
        measures[f"spectrum_{name}"] = spectrum_slope(view.image, view.brain, axis)
    measures["edge_width"] = edge_width(view)
    measures["grey_gradient"] = gradient(view.image)[view.grey & view.within].mean()
    return measures


def rim_and_mask(view: View) -> dict:
    """What lies at the edge of the brain mask, and how the mask differs from the template's."""
    outermost = view.brain & ~ndimage.binary_erosion(view.brain)
    rim = view.brain & ~view.within
    limit = np.quantile(view.image[view.within], _BRIGHT)
    template = quality_control.template_brain()
    shared = (view.brain & template).sum()
    return {
        "rim_mean": view.image[outermost].mean(),
        "rim_sd": view.image[outermost].std(),
        "rim_bright": (view.image[rim] > limit).mean(),
        "mask_volume": view.brain.sum() * VOXEL_VOLUME / 1000,
        "mask_dice": 2 * shared / (view.brain.sum() + template.sum()),
        "mask_rough": roughness(view.brain),
    }


def histogram(view: View) -> dict:
    """Shape and upper tail of the brightness of the brain, and where its brightest voxels lie."""
    values = view.image[view.healthy]
    z95, z99_5, z99_9 = np.quantile(values, [0.95, _BRIGHT, 0.999])
    brightest = view.healthy & (view.image >= np.quantile(values, _BRIGHTEST))
    rim = view.brain & ~view.within
    return {
        "skew": stats.skew(values),
        "kurtosis": stats.kurtosis(values),
        "z95": z95,
        "z99_5": z99_5,
        "z99_9": z99_9,
        "brightest_in_grey": _template_grey()[brightest].mean(),
        "brightest_at_rim": rim[brightest].mean(),
    }


def lesions(view: View) -> dict:
    """Brightness of lesions, their variety, and their borders; NaN without a lesion."""
    if not view.lesions.any():
        return {name: np.nan for name, (group, _) in MEASURES.items() if group == LESIONS}
    values = view.image[view.lesions]
    white = view.image[view.white].mean()
    contrast = values.mean() - white
    inner, next_to, halo = _layers(view)
    limit = np.quantile(view.image[view.healthy], _BRIGHT)
    return {
        "lesion_mean": values.mean(),
        "lesion_sd": values.std(),
        "lesion_contrast": contrast,
        "lesion_core": np.quantile(values, 0.9),
        "lesion_edge": (view.image[inner].mean() - view.image[next_to].mean()) / contrast,
        "lesion_halo": (_mean(view.image[halo]) - white) / contrast,
        "lesion_volume": view.lesions.sum() * VOXEL_VOLUME / 1000,
        "lesion_above": (values > limit).mean(),
    }


def _layers(view: View) -> tuple:
    """Return the outermost voxels of lesions, white matter next to them, and that one further."""
    inner = view.lesions & ~ndimage.binary_erosion(view.lesions)
    first = ndimage.binary_dilation(view.lesions)
    second = ndimage.binary_dilation(first)
    tissue_around = _template_white() & view.brain & ~view.ventricles
    next_to = first & ~view.lesions & tissue_around
    halo = second & ~first & tissue_around
    return inner, next_to, halo


def _mean(values) -> float:
    return values.mean() if values.size else np.nan


def local_mean(image, mask, spread: float) -> np.ndarray:
    """Return the mean of the mask's voxels around each voxel; Gaussian weights.

    Parameters
    ----------
    image : ndarray of shape (X, Y, Z)
    mask : ndarray of bool, same shape
    spread : float
        Standard deviation of the weights (voxels).
    """
    weights = ndimage.gaussian_filter(mask.astype(float), spread)
    sums = ndimage.gaussian_filter(np.where(mask, image, 0.0), spread)
    return sums / np.maximum(weights, 1e-9)


def noise(image, mask) -> float:
    """Return the standard deviation of noise that neighbouring voxels do not share.

    It is taken from the six-neighbour Laplacian (Immerkaer 1996, doi:10.1006/cviu.1996.0060), whose
    variance is 42 times that of white noise, with the median absolute deviation.

    Parameters
    ----------
    image : ndarray of shape (X, Y, Z)
    mask : ndarray of bool, same shape
        Tissue that is alike throughout.
    """
    laplacian = ndimage.laplace(np.asarray(image, float))[mask]
    deviation = np.median(np.abs(laplacian - np.median(laplacian)))
    return float(_MAD_TO_SD * deviation / np.sqrt(_LAPLACIAN_VARIANCE))


def neighbour_correlation(image, mask, axis: int) -> float:
    """Return the correlation of neighbouring voxels along an axis, without slow variation.

    White noise has about 0. Interpolation, blur and thick slices raise it along their axis.

    Parameters
    ----------
    image : ndarray of shape (X, Y, Z)
    mask : ndarray of bool, same shape
        Both voxels of a pair lie in it.
    axis : int
    """
    residual = np.asarray(image, float) - local_mean(image, mask, _LOCAL)
    residual = np.moveaxis(residual, axis, 0)
    mask = np.moveaxis(mask, axis, 0)
    both = mask[:-1] & mask[1:]
    if both.sum() < _FEWEST:
        return np.nan
    return float(np.corrcoef(residual[:-1][both], residual[1:][both])[0, 1])


def spectrum_slope(image, brain, axis: int) -> float:
    """Return the slope of the logarithm of power over that of frequency along an axis.

    Lines of 32 voxels through the middle of the brain are taken that lie in it as a whole. Each has
    its mean removed and a Hann window. White noise has a slope of 0. The less fine detail a scan
    has along an axis, the steeper the spectrum falls.

    Parameters
    ----------
    image : ndarray of shape (X, Y, Z)
    brain : ndarray of bool, same shape
    axis : int
    """
    centre = round(np.mean(np.nonzero(brain)[axis]))
    start = max(centre - _LINE // 2, 0)
    window = slice(start, start + _LINE)
    lines = np.moveaxis(np.asarray(image, float), axis, -1)[..., window]
    in_brain = np.moveaxis(brain, axis, -1)[..., window]
    lines = lines[in_brain.all(axis=-1)]
    if len(lines) < _FEWEST or lines.shape[-1] < _LINE:
        return np.nan
    lines = lines - lines.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(lines * np.hanning(_LINE), axis=1)) ** 2
    frequencies = np.arange(power.shape[1])[_LOWEST:]
    mean_power = power.mean(axis=0)[_LOWEST:]
    slope, _ = np.polyfit(np.log(frequencies), np.log(mean_power), 1)
    return float(slope)


def gradient(image) -> np.ndarray:
    """Return the magnitude of the gradient (per mm), by central differences."""
    parts = np.gradient(np.asarray(image, float), *VOXEL_SIZE)
    return np.sqrt(sum(part**2 for part in parts))


def edge_width(view: View) -> float:
    """Return how wide the edges of the ventricles are (mm).

    It is the difference between white matter and fluid over the median gradient at voxels that are
    between a quarter and three quarters of the way. Central differences over voxels of 1.9 mm
    cannot show less than 2 to 4 mm, by the direction of the edge.
    """
    white = view.image[view.white].mean()
    fluid = view.image[view.fluid].mean()
    share = (view.image - fluid) / (white - fluid)
    near = ndimage.binary_dilation(view.ventricles, NEIGHBOURHOOD_26, 2)
    is_edge = near & view.within & ~view.near_lesions & (share > 0.25) & (share < 0.75)
    if is_edge.sum() < _FEWEST:
        return np.nan
    return float((white - fluid) / np.median(gradient(view.image)[is_edge]))


def roughness(mask) -> float:
    """Return the share of a mask that an opening removes and a closing adds, of two voxels."""
    padded = np.pad(mask, 4)
    removed = padded & ~ndimage.binary_opening(padded, iterations=2)
    added = ndimage.binary_closing(padded, iterations=2) & ~padded
    return float((removed.sum() + added.sum()) / mask.sum())


def symmetry(image, brain) -> float:
    """Return the correlation of a scan with its mirror image, where both are brain."""
    both = brain & brain[::-1]
    return float(np.corrcoef(image[both], image[::-1][both])[0, 1])
