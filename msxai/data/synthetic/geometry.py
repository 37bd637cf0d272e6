"""Rotations and smooth random fields, from which simulated brains get their shape and texture."""

import numpy as np

from msxai.data.images import SHAPE

__all__ = ["rotation", "smooth_field", "spline_basis"]


def rotation(degrees) -> np.ndarray:
    """Return the matrix, of shape (3, 3), that rotates about z, then y, then x.

    Parameters
    ----------
    degrees : sequence of 3 floats
        Angles about x, y and z.

    Examples
    --------
    >>> turned = rotation([0, 0, 90]) @ [1, 0, 0]
    >>> turned.round(6).tolist()
    [0.0, 1.0, 0.0]
    """
    x, y, z = np.deg2rad(degrees)
    about_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    about_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    about_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    return np.linalg.multi_dot([about_x, about_y, about_z])


def smooth_field(knots, rng, shape=SHAPE) -> np.ndarray:
    """Draw a smooth random field with mean 0 and a standard deviation of about 1.

    The field is a cubic B-spline over a coarse lattice of independent normal deviates.

    Parameters
    ----------
    knots : sequence of 3 ints
        Lattice points along each axis; more points give a rougher field.
    rng : numpy.random.Generator
    shape : sequence of 3 ints
        Of the field; that of the model's grid by default.

    Returns
    -------
    ndarray of shape `shape`, float32
    """
    values = rng.standard_normal(knots).astype("float32")
    for axis, length in enumerate(shape):
        basis = spline_basis(length, knots[axis])
        interpolated = np.tensordot(basis, values, (1, axis))
        values = np.moveaxis(interpolated, 0, axis)
    return values * np.float32(3.1)


def spline_basis(length: int, count: int) -> np.ndarray:
    """Return the cubic B-splines of `count` knots at `length` points, float32 (length, count)."""
    points = np.linspace(1, count - 2, length)
    distance = np.abs(points[:, None] - np.arange(count))
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, inner, outer).astype("float32")
