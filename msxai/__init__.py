"""Multiple sclerosis from FLAIR with a 3D CNN, explained voxel by voxel (Eitel et al. 2019, redone and extended).

The notebooks in ``notebooks/`` tell the story; every step of theirs is one call into a module of this package.
For research only: not for clinical use.
"""

from pathlib import Path

__version__ = "0.1.0"

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: relative paths in parameters start here, whatever folder a notebook runs in."""
