"""The figures of the paper. Each function returns the figure and the numbers that it shows.

Maps are in neurological convention (the left of the picture is the left of the brain) with MNI
coordinates in mm. Patients and controls keep one pair of colours through all figures, which
colour-blind readers can distinguish. A figure without data says why there is nothing to draw.
"""

import gc

from msxai.report.figures.cohort import cohort_table, lesion_distribution, show_scan
from msxai.report.figures.comparison import calibration, compared, counterfactual
from msxai.report.figures.gallery import Gallery
from msxai.report.figures.heatmaps import audit, average, heatmap, individual, view_heatmap
from msxai.report.figures.methods import methods
from msxai.report.figures.quality import checks, contest, league
from msxai.report.figures.regions import areas, lesion_volumes, tracts, with_without
from msxai.report.figures.results import results_table, roc
from msxai.report.figures.sheet import CONTROL, NOTICE, PATIENT, SYNTHETIC, save
from msxai.report.figures.slices import POSITIVE, SYMMETRIC, mean_anatomy
from msxai.report.figures.training import first_filters, training_curves

__all__ = [
    "CONTROL",
    "NOTICE",
    "PATIENT",
    "POSITIVE",
    "SYMMETRIC",
    "SYNTHETIC",
    "Gallery",
    "areas",
    "audit",
    "average",
    "calibration",
    "checks",
    "cohort_table",
    "compared",
    "contest",
    "counterfactual",
    "first_filters",
    "heatmap",
    "individual",
    "league",
    "lesion_distribution",
    "lesion_volumes",
    "mean_anatomy",
    "methods",
    "results_table",
    "roc",
    "save",
    "show_scan",
    "tracts",
    "training_curves",
    "view_heatmap",
    "with_without",
]

# nilearn collects garbage at each image that it draws. What has been imported is none.
gc.freeze()
