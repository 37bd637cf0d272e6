"""How training scans are varied, so that a network does not learn what scans have by chance.

A scan keeps its label when it is mirrored, moved, or scanned with other noise. Each name in `NAMES`
is one set of such changes:

- "none": the scan as it is.
- "paper": left-right flips and shifts of up to 2 voxels along x, as in Eitel et al. 2019,
  NeuroImage: Clinical 24:102003, doi:10.1016/j.nicl.2019.102003.
- "strong": flips; shifts and small rotations about three axes, other sizes; another bias field,
  gamma and noise.
- "contrast": as "strong"; half of the scans also get a random contrast, inversion included. It
  stands for what random contrasts do in SynthSeg (Billot et al. 2023, Medical Image Analysis
  86:102789, doi:10.1016/j.media.2023.102789), without labels of tissues.
"""

from dataclasses import dataclass, replace

import numba
import numpy as np

from msxai.base.parameters import one_of
from msxai.data import images
from msxai.data.synthetic.geometry import rotation, smooth_field

__all__ = ["NAMES", "augment"]


@dataclass(frozen=True)
class _Changes:
    """How much a scan is changed.

    Attributes
    ----------
    shift : int
        Largest shift along each axis (voxels).
    degrees : float
        Standard deviation of the rotation about each axis.
    size : float
        Standard deviation of the logarithm of the size along each axis.
    bias : float
        Standard deviation of the logarithm of the bias field.
    gamma : float
        Standard deviation of the logarithm of the exponent of brightness.
    noise : float
        Largest noise, in standard deviations of the scan.
    contrast : float
        Share of the scans that get a random contrast.
    """

    shift: int
    degrees: float
    size: float
    bias: float
    gamma: float
    noise: float
    contrast: float


_STRONG = _Changes(shift=4, degrees=3.0, size=0.03, bias=0.05, gamma=0.15, noise=0.15, contrast=0.0)
_CHANGES = {"strong": _STRONG, "contrast": replace(_STRONG, contrast=0.5)}

NAMES = ("none", "paper", *_CHANGES)
"""The sets of changes."""

_PAPER_SHIFT = 2  # voxels along x
_BIAS_KNOTS = (4, 4, 4)
_CURVE_KNOTS = 6  # of a random contrast


def augment(volume, rng: np.random.Generator, how: str = "paper") -> np.ndarray:
    """Change a scan at random; its brain keeps its mean and its standard deviation.

    Parameters
    ----------
    volume : ndarray of shape (X, Y, Z)
        One prepared scan; 0 outside the brain.
    rng : numpy.random.Generator
        Equal generators change equal scans equally.
    how : str
        One of `NAMES`.

    Returns
    -------
    ndarray of shape (X, Y, Z)
        A new array; `volume` itself for "none". What enters from outside is 0.

    Raises
    ------
    ParameterError
        No such name.

    Examples
    --------
    >>> volume = np.arange(1.0, 5.0).reshape(4, 1, 1)
    >>> augment(volume, np.random.default_rng(1)).ravel()
    array([0., 1., 2., 3.])
    """
    one_of("augmentation", how, NAMES)
    if how == "none":
        return volume
    if how == "paper":
        return _flipped_and_shifted(volume, rng)
    changes = _CHANGES[how]
    moved = _moved(volume, changes, rng)
    brain = moved != 0
    if not brain.any():
        return moved
    values = moved[brain]
    if rng.random() < changes.contrast:
        values = _with_random_contrast(values, rng)
    field = smooth_field(_BIAS_KNOTS, rng, volume.shape)[brain]
    values = _brightened(values, changes, field, rng)
    varied = np.zeros_like(moved)
    varied[brain] = _with_moments_of(volume[volume != 0], values)
    return varied


def _flipped_and_shifted(volume, rng) -> np.ndarray:
    """Draw the paper's changes: two numbers in any case, the flip and then the shift."""
    flip = rng.random() < 0.5
    step = int(rng.integers(-_PAPER_SHIFT, _PAPER_SHIFT + 1))
    source = volume[::-1] if flip else volume
    return images.shifted(source, (step, 0, 0))


def _moved(volume, changes: _Changes, rng) -> np.ndarray:
    """Mirror, rotate, scale and shift a volume by one linear interpolation."""
    mirror = np.array([rng.choice([-1, 1]), 1, 1])
    scale = np.exp(rng.normal(0, changes.size, 3))
    matrix = rotation(rng.normal(0, changes.degrees, 3)) * scale * mirror
    middle = (np.array(volume.shape) - 1) / 2
    step = rng.uniform(-changes.shift, changes.shift, 3)
    offset = middle - matrix @ (middle + step)
    return _resampled(np.ascontiguousarray(volume), matrix, offset)


@numba.njit(cache=True, fastmath={"contract"})
def _between(first, second, share):
    """Interpolate two values."""
    return first + share * (second - first)


# scipy's affine_transform takes as long as the training step itself.
@numba.njit(cache=True, fastmath={"contract"})
def _resampled(volume, matrix, offset):
    """Read a volume at matrix @ voxel + offset by linear interpolation; 0 outside."""
    nx, ny, nz = volume.shape
    values = np.zeros(volume.shape, volume.dtype)
    for i in range(nx):
        for j in range(ny):
            for k in range(nz):
                x = matrix[0, 0] * i + matrix[0, 1] * j + matrix[0, 2] * k + offset[0]
                y = matrix[1, 0] * i + matrix[1, 1] * j + matrix[1, 2] * k + offset[1]
                z = matrix[2, 0] * i + matrix[2, 1] * j + matrix[2, 2] * k + offset[2]
                if x < 0 or y < 0 or z < 0 or x > nx - 1 or y > ny - 1 or z > nz - 1:
                    continue
                a = min(int(x), nx - 2)
                b = min(int(y), ny - 2)
                c = min(int(z), nz - 2)
                z -= c
                near = _between(volume[a, b, c], volume[a, b, c + 1], z)
                near_back = _between(volume[a, b + 1, c], volume[a, b + 1, c + 1], z)
                far = _between(volume[a + 1, b, c], volume[a + 1, b, c + 1], z)
                far_back = _between(volume[a + 1, b + 1, c], volume[a + 1, b + 1, c + 1], z)
                near = _between(near, near_back, y - b)
                far = _between(far, far_back, y - b)
                values[i, j, k] = _between(near, far, x - a)
    return values


def _brightened(values, changes: _Changes, field, rng) -> np.ndarray:
    """Change gamma, bias and noise of the brain's voxels."""
    lowest = values.min()
    span = max(np.ptp(values), 1e-6)
    exponent = np.exp(rng.normal(0, changes.gamma))
    brightness = ((values - lowest) / span) ** exponent
    brightness = brightness * np.exp(changes.bias * field)
    level = changes.noise * rng.random() * brightness.std()
    return brightness + level * rng.standard_normal(len(values), "float32")


def _with_random_contrast(values, rng) -> np.ndarray:
    """Give each brightness another one, by a random curve; half of the curves fall."""
    lowest, highest = np.quantile(values, [0.005, 0.995])
    knots = np.linspace(lowest, highest, _CURVE_KNOTS)
    rises = rng.gamma(1.0, 1.0, _CURVE_KNOTS - 1) + 0.1
    heights = np.concatenate([[0], np.cumsum(rises)])
    if rng.random() < 0.5:
        heights = -heights
    return np.interp(values, knots, heights).astype("float32")


def _with_moments_of(original, values) -> np.ndarray:
    """Scale values to the mean and the standard deviation of the original ones."""
    spread = max(values.std(), 1e-6)
    return original.mean() + (values - values.mean()) * (original.std() / spread)
