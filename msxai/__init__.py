"""Multiple sclerosis from FLAIR with a 3D CNN, explained voxel by voxel (Eitel et al. 2019).

For research only: not for clinical use. The notebooks in ``notebooks/`` call eight boxes. The
ninth box, command_line, is the command ``msxai``, which runs notebooks 10 and 11:

report       figures, claims, the results page, the page of one scan (notebooks 08, 09, 10)
quality      do heatmaps show what the network uses? (07)
evaluation   how well networks and baselines classify (04)
lrp          which voxels made the logit what it is (05)
model        the network of the paper, and its training (02, 03)
regions      atlases, and relevance and lesions by region (06)
data         from files to prepared scans; simulated people; filled lesions (01, 01b)
base         errors, parameters, provenance, results folder, statistics
"""

from pathlib import Path

import lazy_loader

from msxai.base import keras_settings, openmp_start, tensorflow_start

__version__ = "0.1.0"

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: relative paths in parameters start here, whatever folder a notebook runs in."""

openmp_start.install()
tensorflow_start.install()
keras_settings.install()

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["base", "data", "evaluation", "lrp", "model", "quality", "regions", "report"],
    submod_attrs={
        "base.results": ["Results"],
        "data.cohorts.cohort": ["open_cohort"],
        "data.prepared": ["Prepared"],
        "lrp.engine": ["explain", "explain_each"],
    },
)
