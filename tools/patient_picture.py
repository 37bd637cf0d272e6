"""Cuts the picture of one simulated patient for README out of figure 7c of the demo.

Usage: python tools/patient_picture.py      (after `make figures`; writes docs/pictures/patient.png)
"""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

matplotlib.use("Agg")
ROOT = Path(__file__).resolve().parent.parent
FIGURE = ROOT / "figures" / "demo" / "fig07c_individual-patients-best.png"
PICTURE = ROOT / "docs" / "pictures" / "patient.png"

# Where figure 7c (1500 x 1063 pixels) has the first patient's axial slices and the colour bar.
FIGURE_PIXELS = (1063, 1500)
SLICES = (slice(94, 256), slice(145, 541))
COLOUR_BAR = (slice(372, 655), slice(1370, 1500))

TITLE = "One simulated patient with MS: FLAIR, lesions and heatmap"
KEY = (
    "Grey: FLAIR scan. Green outline: lesions. "
    "Red to yellow: voxels that speak for MS. Blue: voxels that speak against MS."
)
NOTICE = (
    "Synthetic: simulated subject, no data of a patient. Research software. Not for clinical use."
)


def main():
    """Draw the slices, the colour bar, the key and the notice."""
    pixels = plt.imread(FIGURE)
    if pixels.shape[:2] != FIGURE_PIXELS:
        raise SystemExit(
            f"{FIGURE.name}: found {pixels.shape[1]} x {pixels.shape[0]} pixels, expected 1500 x "
            "1063. The layout of the figure has changed: adapt SLICES and COLOUR_BAR in "
            "tools/patient_picture.py."
        )
    figure = plt.figure(figsize=(10, 4.7), dpi=100)
    figure.text(0.01, 0.95, TITLE, fontsize=14, weight="bold")
    slices = figure.add_axes((0.01, 0.15, 0.85, 0.77))
    slices.imshow(pixels[SLICES], interpolation="lanczos")
    slices.axis("off")
    bar = figure.add_axes((0.865, 0.19, 0.13, 0.69))
    bar.imshow(pixels[COLOUR_BAR], interpolation="lanczos")
    bar.axis("off")
    figure.text(0.01, 0.085, KEY, fontsize=10.5)
    figure.text(0.01, 0.025, NOTICE, fontsize=10.5, weight="bold")
    figure.savefig(PICTURE, metadata={"Software": None})


if __name__ == "__main__":
    main()
