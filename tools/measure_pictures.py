"""The pictures of docs/evaluation.md and docs/explanation-quality.md.

Usage: python tools/measure_pictures.py      (writes docs/pictures/evaluation-*, quality-*)

Maps on a small grid show what a high and a low value of each measure look like; the values are
those of `msxai.quality`. The change by filling is that of the demo's table.
"""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from scipy import ndimage

from msxai import ROOT
from msxai.base import tsv
from msxai.quality import faithfulness, localisation, model_randomisation, robustness
from msxai.report import figures

FOLDER = ROOT / "docs" / "pictures"
SHAPE = (40, 48, 9)
SLICE = 4
LESIONS = (((13, 16, 4), 3), ((26, 30, 4), 2), ((27, 14, 4), 1.4))  # centre, radius (voxels)
MISSED = (((18, 37, 4), 3), ((30, 22, 4), 2))


def spheres(sites) -> np.ndarray:
    """Return a mask of spheres."""
    grid = np.indices(SHAPE)
    mask = np.zeros(SHAPE, bool)
    for centre, radius in sites:
        offsets = grid - np.reshape(centre, (3, 1, 1, 1))
        mask |= (offsets**2).sum(axis=0) <= radius**2
    return mask


def smooth(mask, rng) -> np.ndarray:
    """Return a map that is high in a mask, with noise."""
    blurred = ndimage.gaussian_filter(mask.astype(float), 0.8)
    return (blurred + 0.08 * rng.normal(size=SHAPE)) * BRAIN


BRAIN = ((np.indices(SHAPE[:2]) - 19.5 * np.reshape((1, 1.2), (2, 1, 1))) ** 2).sum(axis=0) < 18**2
BRAIN = np.repeat(BRAIN[:, :, None], SHAPE[2], axis=2)


def panel(axes, relevance, lesions, title: str) -> None:
    """Draw one slice of a map with the lesions' outline."""
    limit = np.abs(relevance).max()
    axes.imshow(BRAIN[:, :, SLICE].T, cmap="gray_r", vmin=0, vmax=6, origin="lower")
    shown = np.where(BRAIN, relevance, np.nan)[:, :, SLICE].T
    axes.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, origin="lower", alpha=0.9)
    axes.contour(lesions[:, :, SLICE].T, [0.5], colors="black", linewidths=1)
    axes.set_title(title, fontsize=9)
    axes.axis("off")


def save(figure, name: str) -> None:
    """Write a picture."""
    figure.savefig(FOLDER / name, dpi=110, bbox_inches="tight")
    plt.close(figure)


def draw_localisation(maps: dict, lesions) -> None:
    """Three maps with the values of all measures of localisation."""
    figure, axes = plt.subplots(1, len(maps), figsize=(9, 3.8))
    for place, (name, relevance) in zip(axes, maps.items(), strict=True):
        panel(place, relevance, lesions, name)
        values = localisation.measure(relevance, lesions, BRAIN)
        lines = [f"{measure} {values[measure]:.2f}" for measure in localisation.MEASURES]
        text = "\n".join([", ".join(lines[:2]), ", ".join(lines[2:4]), ", ".join(lines[4:])])
        place.text(0.5, -0.02, text, transform=place.transAxes, ha="center", va="top", fontsize=8)
    save(figure, "quality-localisation.png")


def draw_faithfulness(maps: dict, lesions, rng) -> None:
    """Deletion and insertion of two maps and of a random order."""
    weights = ndimage.gaussian_filter(lesions.astype(float), 0.8)
    volume = lesions + 0.1 * rng.normal(size=SHAPE)
    exchange = faithfulness.Exchange(volume, np.zeros(SHAPE), BRAIN)

    def logit(scan):
        return (weights * scan).sum()

    figure, axes = plt.subplots(1, 2, figsize=(8, 2.8), sharey=True)
    orders = {**maps, "random order": rng.random(SHAPE)}
    for name, relevance in orders.items():
        style = "--" if name == "random order" else "-o"
        axes[0].plot(exchange.steps, exchange.deletion(logit, relevance), style, ms=3, label=name)
        axes[1].plot(exchange.steps, exchange.insertion(logit, relevance), style, ms=3, label=name)
    for place, title in zip(axes, ("deletion", "insertion"), strict=True):
        place.set(title=title, xscale="log", xlabel="share of the brain exchanged")
    axes[0].set_ylabel("logit")
    axes[1].legend(fontsize=8, frameon=False)
    save(figure, "quality-faithfulness.png")


def draw_randomisation(faithful, lesions, rng) -> None:
    """A map that loses its order as layers get new weights, and one that does not."""
    figure, axes = plt.subplots(2, 4, figsize=(8.5, 5))
    steps = ("trained", "dense", "+ conv4 to conv3", "all layers")
    for column, (step, share) in enumerate(zip(steps, (0, 0.4, 0.75, 1), strict=True)):
        noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1) * BRAIN
        noise *= np.abs(faithful).max() / np.abs(noise).max()
        for line, changed in enumerate(((1 - share) * faithful + share * noise, faithful)):
            similarity = model_randomisation.ssim(faithful, changed, BRAIN)
            rank = localisation.consistency(faithful, changed, BRAIN)
            title = f"SSIM {similarity:.2f}, rank {rank:.2f}"
            panel(axes[line, column], changed, lesions, title if line else f"{step}\n{title}")
    save(figure, "quality-randomisation.png")


def draw_robustness(faithful, lesions, rng) -> None:
    """A map, a map that follows the moved scan, and one that does not."""
    shift, degrees = robustness.JITTERS["2 degrees"]
    returned = robustness.moved(
        robustness.moved(faithful, shift, degrees), shift, degrees, back=True
    )
    unstable = smooth(spheres(MISSED), rng)
    figure, axes = plt.subplots(1, 3, figsize=(8, 3.2))
    panel(axes[0], faithful, lesions, "map of the scan")
    for place, name, relevance in (
        (axes[1], "follows the scan", returned),
        (axes[2], "does not", unstable),
    ):
        rank = localisation.consistency(faithful, relevance, BRAIN)
        panel(place, relevance, lesions, f"moved by 2 degrees and back:\n{name}, rank {rank:.2f}")
    save(figure, "quality-robustness.png")


def draw_sums(rng) -> None:
    """Conservation, dose and contrast."""
    figure, axes = plt.subplots(1, 3, figsize=(9.5, 2.9), layout="constrained")
    axes[0].barh(["logit", "sum of a good map", "sum of a bad map"], [2.0, 1.98, 0.7], color="0.6")
    axes[0].invert_yaxis()
    axes[0].set_title("conservation\nerror 0.01 and 0.65", fontsize=9)
    volumes = rng.lognormal(1, 0.8, 25)
    relevance = 0.4 * volumes + rng.normal(0, 0.4, 25)
    correlation, *_ = localisation.correlation_interval(relevance, volumes)
    axes[1].plot(volumes, relevance, "o", ms=3, color="black")
    axes[1].set(xlabel="lesion volume (ml)", ylabel="sum of positive relevance")
    axes[1].set_title(f"dose\nr = {correlation:.2f}, good", fontsize=9)
    patients = rng.normal(size=300)
    controls = 0.97 * patients + 0.2 * rng.normal(size=300)
    contrast = localisation.class_contrast(patients, controls, np.ones(300, bool))
    axes[2].plot(patients, controls, ".", ms=3, color="black")
    axes[2].set(xlabel="mean map of patients", ylabel="mean map of controls")
    axes[2].set_title(f"contrast\nr = {contrast:.2f}, bad", fontsize=9)
    save(figure, "quality-sums.png")


def draw_filling() -> None:
    """The change by filling, from the demo's table."""
    table = tsv.read(ROOT / "figures" / "demo" / "fig05d_lesions-filled.tsv")
    table["reference"] = table["reference"].fillna("")
    figure, _ = figures.counterfactual(table, synthetic=True)
    save(figure, "evaluation-counterfactual.png")


def main() -> None:
    """Draw all pictures."""
    rng = np.random.default_rng(0)
    lesions = spheres(LESIONS)
    maps = {
        "good: finds the lesions": smooth(lesions, rng),
        "in between: one lesion, one other spot": smooth(spheres((LESIONS[0], MISSED[0])), rng),
        "bad: finds other spots": smooth(spheres(MISSED), rng),
    }
    good, _, bad = maps.values()
    draw_localisation(maps, lesions)
    draw_faithfulness({"good map": good, "bad map": bad}, lesions, rng)
    draw_randomisation(good, lesions, rng)
    draw_robustness(good, lesions, rng)
    draw_sums(rng)
    draw_filling()


if __name__ == "__main__":
    main()
