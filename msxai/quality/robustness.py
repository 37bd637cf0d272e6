"""Does a map move with the scan, as after a slightly different registration?"""

import keras
import numpy as np
from scipy import ndimage

from msxai.quality import localisation, scan_maps

__all__ = ["JITTERS", "jitter", "moved"]

JITTERS = {
    "half a voxel": (0.5, 0.0),
    "one voxel": (1.0, 0.0),
    "2 degrees": (0.0, 2.0),
}
"""Name to shift along x (voxels) and rotation about z (degrees)."""


def moved(values, shift: float, degrees: float, back: bool = False) -> np.ndarray:
    """Rotate a volume about z round the centre of the grid, then shift it along x.

    Interpolation is linear; what enters from outside is 0.

    Parameters
    ----------
    values : ndarray of shape (X, Y, Z)
    shift : float
        Voxels.
    degrees : float
    back : bool
        Apply the inverse.

    Returns
    -------
    ndarray of shape (X, Y, Z)
    """
    angle = np.deg2rad(degrees)
    rotation = np.array(
        [
            [np.cos(angle), -np.sin(angle), 0],
            [np.sin(angle), np.cos(angle), 0],
            [0, 0, 1],
        ]
    )
    centre = (np.array(values.shape) - 1) / 2
    step = np.array([shift, 0, 0])
    # `affine_transform` takes the matrix from the output to the input.
    if back:
        matrix = rotation
        offset = centre + step - rotation @ centre
    else:
        matrix = rotation.T
        offset = centre - rotation.T @ (centre + step)
    return ndimage.affine_transform(values, matrix, offset, order=1)


def jitter(
    model: keras.Model, volume, brain, names, original: dict | None = None, **options
) -> dict:
    """Compare the map of a scan with the map of the moved scan, moved back.

    Parameters
    ----------
    model : keras.Model
    volume : ndarray of shape (X, Y, Z)
    brain : ndarray of bool, same shape
    names : sequence of str
        Rules and methods, see `msxai.quality.scan_maps.of_scan`.
    original : dict, optional
        Maps of the scan as it is, where they are available.
    **options
        For `msxai.quality.scan_maps.of_scan`: epsilon, threads.

    Returns
    -------
    dict
        (map, name of `JITTERS`) to two of Spearman's correlations over the brain with the original
        map: that of the moved scan's map, moved back; and that of the original map moved there and
        back. The second is the ceiling, because interpolation alone keeps the first below it.
    """
    original = original or scan_maps.of_scan(model, volume, names, **options)
    correlations = {}
    for jitter_name, movement in JITTERS.items():
        maps = scan_maps.of_scan(model, moved(volume, *movement), names, **options)
        for name, relevance in maps.items():
            returned = moved(relevance, *movement, back=True)
            interpolated = moved(moved(original[name], *movement), *movement, back=True)
            correlations[name, jitter_name] = (
                localisation.consistency(original[name], returned, brain),
                localisation.consistency(original[name], interpolated, brain),
            )
    return correlations
