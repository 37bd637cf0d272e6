"""How another scanner, and another preparation, would have shown the same brain.

Real scans differ from the simulated ones in slice thickness, sharpness, noise, contrast, and in the
rim of the brain mask. With `realism = "randomised"` each training scan gets such differences drawn
at random, so that a network cannot rely on what one scanner does. The idea is that of SynthSeg
(Billot et al. 2023, Medical Image Analysis 86:102789, doi:10.1016/j.media.2023.102789), without
labels of tissues.

The steps follow the way of a scan: the head (contrast of tissues, their inner variety, coil
brightness), the scanner (motion, resolution, slices, noise), and the brain mask.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from msxai.base.parameters import one_of
from msxai.data import images
from msxai.data.synthetic.geometry import smooth_field

__all__ = ["REALISM", "Scanner", "draw", "rescanned", "scanned"]

REALISM = ("plain", "randomised")
"""Whether scans are shown as they are, or as random scanners would show them."""

_CURVE_KNOTS = 6
_CURVE_REACH = 2.5  # standard deviations from the median, on both sides
_QUARTILES = 1.349  # standard deviations between the quartiles of a normal distribution
_THINNEST, _THICKEST = 1.0, 8.0  # mm, slices
_RIM = 2  # voxels: the part of the brain next to its mask's edge
_LEVEL_OF_BLUR = 0.01  # voxels: less is no blur
_FINE_KNOTS = (16, 19, 16)  # texture of tissue, about 12 mm
_BIAS_KNOTS = (4, 4, 4)
_INNER_K_SPACE = 0.75  # what is left where edges ring
_RIM_KNOTS = (8, 9, 8)


@dataclass(frozen=True)
class Scanner:
    """What a scanner and a preparation do to a scan.

    Attributes
    ----------
    curve : ndarray of shape (6,), float
        Rises of brightness from one knot to the next; the last ones stand for the brightest voxels.
    texture : float
        Inner variety of tissues, in standard deviations of the scan.
    bias : float
        Standard deviation of the logarithm of the coil's brightness.
    ghost : float
        Share of the scan that motion repeats at another place.
    ghost_axis, slice_axis : int
        The axis along which a ghost is moved, and that on which slices are stacked.
    blur : ndarray of shape (3,), float
        Standard deviation of the blur along each axis (voxels).
    ringing : float
        0: none; 1: edges ring as where the outer quarter of k-space is missing.
    thickness : float
        Of a slice (mm).
    noise : float
        Standard deviation of the noise, in standard deviations of the scan.
    noise_blur : float
        Standard deviation of the kernel that correlates the noise (voxels).
    rim : float
        What is added to the voxels next to the mask's edge, in standard deviations of the scan.
    erosion : float
        Voxels that the mask lacks at its edge, on average.
    """

    curve: np.ndarray
    texture: float
    bias: float
    ghost: float
    ghost_axis: int
    slice_axis: int
    blur: np.ndarray
    ringing: float
    thickness: float
    noise: float
    noise_blur: float
    rim: float
    erosion: float


def draw(rng: np.random.Generator) -> Scanner:
    """Draw a scanner at random.

    Ranges reach from the simulated scans to beyond the real ones that were looked at: slices of 1
    to 8 mm, lesions up to twice as bright, a rim from as dark as fluid to as bright as scalp.
    """
    curve = rng.gamma(4.0, 0.25, _CURVE_KNOTS)
    curve[-1] *= rng.uniform(1, 3)
    moves = rng.random() < 0.3
    is_thick = rng.random() < 0.6
    return Scanner(
        curve=curve,
        texture=rng.uniform(0, 0.35),
        bias=rng.uniform(0, 0.15),
        ghost=rng.uniform(0, 0.15) if moves else 0.0,
        ghost_axis=int(rng.integers(3)),
        slice_axis=int(rng.choice(3, p=[0.15, 0.15, 0.7])),
        blur=rng.uniform(0, 0.8, 3),
        ringing=rng.uniform(0, 0.5),
        thickness=rng.uniform(_THINNEST, _THICKEST) if is_thick else _THINNEST,
        noise=rng.uniform(0, 0.2),
        noise_blur=rng.uniform(0, 1.0),
        rim=rng.uniform(-0.3, 2.0),
        erosion=rng.uniform(0, 1.0),
    )


def rescanned(volume, rng: np.random.Generator, realism: str = "randomised") -> np.ndarray:
    """Show a scan as a random scanner and preparation would.

    Parameters
    ----------
    volume : ndarray of shape (X, Y, Z)
        One prepared scan; 0 outside the brain.
    rng : numpy.random.Generator
        Equal generators change equal scans equally.
    realism : str
        One of `REALISM`; "plain" returns `volume` itself.

    Returns
    -------
    ndarray of shape (X, Y, Z), float32
        Its brain has the mean and the standard deviation of the original one; 0 outside.

    Raises
    ------
    ParameterError
        No such realism.

    Examples
    --------
    >>> volume = np.random.default_rng(0).normal(size=(6, 6, 6)).astype("float32")
    >>> rescanned(volume, np.random.default_rng(1)).shape
    (6, 6, 6)
    """
    one_of("realism", realism, REALISM)
    if realism == "plain" or not np.any(volume):
        return volume
    return scanned(volume, draw(rng), rng)


def scanned(volume, scanner: Scanner, rng: np.random.Generator) -> np.ndarray:
    """Show a scan as one scanner and its preparation would.

    Parameters
    ----------
    volume : ndarray of shape (X, Y, Z)
        One prepared scan; 0 outside the brain, not 0 throughout.
    scanner : Scanner
    rng : numpy.random.Generator
        Draws noise and fields.

    Returns
    -------
    ndarray of shape (X, Y, Z), float32
    """
    brain = volume != 0
    values = np.array(volume, "float32")
    spread = _spread(values[brain])
    values[brain] = _with_contrast(values[brain], scanner.curve)
    texture = smooth_field(_FINE_KNOTS, rng, values.shape)
    coil = np.exp(scanner.bias * smooth_field(_BIAS_KNOTS, rng, values.shape))
    values += scanner.texture * spread * texture
    values = _in_fluid_outside(values, brain)
    lowest = values.min()
    values = lowest + (values - lowest) * coil
    values = _with_ghost(values, scanner)
    values = _resolved(values, scanner)
    values = _sliced(values, scanner)
    values += scanner.noise * spread * _noise(values.shape, scanner, rng)
    return _masked(values, brain, volume, scanner, rng)


def _spread(values) -> float:
    """Return the standard deviation of most voxels, which lesions hardly change.

    So a scan with lesions and the same scan without them are changed alike.
    """
    lower, upper = np.quantile(values, [0.25, 0.75])
    return max((upper - lower) / _QUARTILES, 1e-6)


def _with_contrast(values, rises) -> np.ndarray:
    """Map brightness by a rising curve, which goes straight on beyond its ends."""
    reach = _CURVE_REACH * _spread(values)
    lowest = np.median(values) - reach
    highest = np.median(values) + reach
    places = _CURVE_KNOTS * (values - lowest) / max(highest - lowest, 1e-6)
    knots = np.arange(_CURVE_KNOTS + 1)
    heights = np.concatenate([[0], np.cumsum(rises)])
    mapped = np.interp(places, knots, heights)
    below = np.minimum(places, 0) * rises[0]
    above = np.maximum(places - _CURVE_KNOTS, 0) * rises[-1]
    return lowest + (highest - lowest) * (mapped + below + above) / _CURVE_KNOTS


def _in_fluid_outside(values, brain) -> np.ndarray:
    """Fill what lies outside the brain with its darkest tissue, so that edges blur as in a head."""
    return np.where(brain, values, np.quantile(values[brain], 0.02)).astype("float32")


def _with_ghost(values, scanner: Scanner) -> np.ndarray:
    """Repeat a share of the scan, moved by a third of the field of view."""
    if not scanner.ghost:
        return values
    step = values.shape[scanner.ghost_axis] // 3
    moved = np.roll(values, step, axis=scanner.ghost_axis)
    return (1 - scanner.ghost) * values + scanner.ghost * moved


def _resolved(values, scanner: Scanner) -> np.ndarray:
    """Blur along each axis, and let edges ring along the axes within a slice."""
    for axis, blur in enumerate(scanner.blur):
        if blur > _LEVEL_OF_BLUR:
            values = ndimage.gaussian_filter1d(values, blur, axis=axis, mode="nearest")
        if scanner.ringing and axis != scanner.slice_axis:
            values = ndimage.convolve1d(values, _ringing(scanner.ringing), axis, mode="nearest")
    return values


def _ringing(amount: float) -> np.ndarray:
    """Return the kernel of a scan without the outer part of k-space, mixed with the identity."""
    places = np.arange(-4, 5)
    low_pass = _INNER_K_SPACE * np.sinc(_INNER_K_SPACE * places)
    kernel = amount * low_pass / low_pass.sum()
    kernel[len(places) // 2] += 1 - amount
    return kernel


def _sliced(values, scanner: Scanner) -> np.ndarray:
    """Average over thick slices, and interpolate linearly between their middles."""
    axis = scanner.slice_axis
    thickness = scanner.thickness / images.VOXEL_SIZE[axis]
    length = values.shape[axis]
    if thickness <= 1 or thickness > length:
        return values
    averaging = _slice_averages(length, thickness)
    interpolating = _between_slices(length, thickness, len(averaging))
    combined = (interpolating @ averaging).astype("float32")
    return np.moveaxis(np.tensordot(combined, values, (1, axis)), 0, axis)


def _slice_averages(length: int, thickness: float) -> np.ndarray:
    """Return the share of each voxel in each slice, (slices, voxels); a row's sum is 1."""
    count = int(np.ceil(length / thickness))
    voxels = np.arange(length)
    shares = np.zeros((count, length))
    for index in range(count):
        first = index * thickness
        last = min(first + thickness, length)
        overlap = np.minimum(voxels + 1, last) - np.maximum(voxels, first)
        shares[index] = np.maximum(overlap, 0)
    return shares / shares.sum(axis=1, keepdims=True)


def _between_slices(length: int, thickness: float, count: int) -> np.ndarray:
    """Return the weight of each slice in each voxel, (voxels, slices); a row's sum is 1."""
    middles = (np.arange(count) + 0.5) * thickness
    voxels = np.arange(length) + 0.5
    weights = np.zeros((length, count))
    for index in range(count):
        only_this = np.zeros(count)
        only_this[index] = 1
        weights[:, index] = np.interp(voxels, middles, only_this)
    return weights


def _noise(shape, scanner: Scanner, rng) -> np.ndarray:
    """Draw noise with a standard deviation of 1 that neighbours share."""
    noise = rng.standard_normal(shape, "float32")
    if scanner.noise_blur < _LEVEL_OF_BLUR:
        return noise
    noise = ndimage.gaussian_filter(noise, scanner.noise_blur, mode="wrap")
    return noise / max(noise.std(), 1e-6)


def _masked(values, brain, original, scanner: Scanner, rng) -> np.ndarray:
    """Change the rim, cut a part of it off, and give the rest the moments of the original."""
    rim = brain & ~ndimage.binary_erosion(brain, iterations=_RIM)
    field = smooth_field(_RIM_KNOTS, rng, brain.shape)
    spread = _spread(values[brain])
    values = values + np.where(rim, scanner.rim * spread * np.abs(field), 0)
    outermost = brain & ~ndimage.binary_erosion(brain)
    limit = np.quantile(field[outermost], min(scanner.erosion, 1.0))
    cut = outermost & (field < limit)
    inside = brain & ~cut
    if not inside.any():
        inside = brain
    scaled = np.zeros(brain.shape, "float32")
    brightness = values[inside]
    spread = max(brightness.std(), 1e-6)
    target = original[brain]
    scaled[inside] = target.mean() + (brightness - brightness.mean()) * (target.std() / spread)
    return scaled
