"""The model's grid, and the way of an image onto it and back."""

import numpy as np

SHAPE = (96, 114, 96)
_SIZE = np.array([182, 218, 182]) / SHAPE
AFFINE = np.diag([*_SIZE, 1.0])
AFFINE[:3, 3] = np.array([-91.5, -126.5, -72.5]) + _SIZE / 2
