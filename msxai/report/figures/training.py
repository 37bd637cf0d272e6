"""Figures of training: its course, and what the first layer has learnt."""

import math

import numpy as np
import pandas as pd

from msxai.report.figures import sheet, slices

__all__ = ["first_filters", "training_curves"]

TRAINING = "#767676"
VALIDATION = "#009E73"
AXIS_LABELS = {"loss": "loss (cross-entropy, nats)", "accuracy": "accuracy"}
_CELL_WIDTH = 13  # pixels of a kernel's three slices with the gaps between them
_CELL_HEIGHT = 5
_GAP = 2


@sheet.drawn
def training_curves(histories: dict, title: str = "Training", *, synthetic: bool):
    """Draw loss and accuracy by epoch: every trial, their mean, and the epochs of the weights kept.

    Parameters
    ----------
    histories : dict
        Trial to history (`msxai.model.training.fit`): epoch, loss, accuracy, val_loss,
        val_accuracy, best.
    title : str
        What was trained.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        The histories with a column trial, then their mean with trial "mean".
    """
    tables = [history.assign(trial=trial) for trial, history in histories.items()]
    source = pd.concat(tables, ignore_index=True)
    quantities = ["loss", "accuracy", "val_loss", "val_accuracy"]
    mean = source.groupby("epoch")[quantities].mean().reset_index()
    notes = []
    if len(histories) > 1:
        note = "Thin lines: trials. Thick lines: mean of the trials that still run at that epoch."
        notes.append(note)
    heading = f"{title}: {sheet.trials(len(histories))}"
    figure, bottom = sheet.sheet(8, 2.6, heading, notes, synthetic)
    loss_axes = sheet.place(figure, 0.55, bottom + 0.4, 2.7, 2.1)
    accuracy_axes = sheet.place(figure, 3.85, bottom + 0.4, 2.7, 2.1)
    _curves(loss_axes, "loss", source, mean)
    _curves(accuracy_axes, "accuracy", source, mean)
    loss_axes.set_ylim(bottom=0)
    accuracy_axes.set_ylim(top=1.02)
    accuracy_axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, pd.concat([source, mean.assign(trial="mean")], ignore_index=True)


def _curves(axes, quantity: str, source: pd.DataFrame, mean: pd.DataFrame) -> None:
    validated = f"val_{quantity}"
    _curve(axes, quantity, source, mean, colour=TRAINING, name="training")
    _curve(axes, validated, source, mean, colour=VALIDATION, name="validation")
    best = source[source["best"].astype(bool)]
    circles = {"ms": 5, "mfc": "none", "mec": VALIDATION}
    axes.plot(best["epoch"] + 1, best[validated], "o", label="weights kept", **circles)
    axes.set_xlabel("epoch")
    axes.set_ylabel(AXIS_LABELS[quantity])
    axes.xaxis.get_major_locator().set_params(integer=True)


def _curve(axes, column: str, source, mean, *, colour: str, name: str) -> None:
    for _, history in source.groupby("trial", sort=False):
        epochs = history["epoch"] + 1
        axes.plot(epochs, history[column], color=colour, lw=0.6, alpha=0.7)
    axes.plot(mean["epoch"] + 1, mean[column], color=colour, lw=2, label=name)


@sheet.drawn
def first_filters(trained, untrained, *, synthetic: bool):
    """Show the kernels of the first layer after training, beside those before it.

    Parameters
    ----------
    trained, untrained : ndarray of shape (3, 3, 3, 1, filters)
        Kernels of the first convolution.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        x, y, z, filter, after, before: one row a weight.
    """
    after = np.asarray(trained)[..., 0, :]
    before = np.asarray(untrained)[..., 0, :]
    n_filters = after.shape[-1]
    top = max(float(np.abs(after).max()), float(np.abs(before).max()))
    width, height = _mosaic_shape(n_filters)
    panel_height = 3.8 * height / width
    title = f"First-layer filters: {n_filters} kernels of 3×3×3"
    notes = [
        "A kernel is three axial slices side by side, the lowest first. It stands at the same "
        "position in both panels."
    ]
    figure, bottom = sheet.sheet(9.2, panel_height + 0.4, title, notes, synthetic)
    panels = {"after training": after, "before training (random)": before}
    left = 0.1
    for name, kernels in panels.items():
        axes = sheet.place(figure, left, bottom + 0.1, 3.8, panel_height, title=name)
        limits = {"vmin": -top, "vmax": top, "cmap": "RdBu_r"}
        mosaic = _mosaic(kernels)
        axes.imshow(mosaic.T, interpolation="nearest", origin="lower", **limits)
        axes.axis("off")
        left += 4.15
    scale = slices.Scale("RdBu_r", 0, -top, top, "weight")
    slices.colour_bar(figure, scale, 8.3, bottom + 0.1, panel_height)
    positions = [range(3), range(3), range(3), range(n_filters)]
    index = pd.MultiIndex.from_product(positions, names=["x", "y", "z", "filter"])
    source = pd.DataFrame({"after": after.ravel(), "before": before.ravel()}, index=index)
    return figure, source.reset_index()


def _mosaic_grid(n_filters: int) -> tuple[int, int]:
    """Columns and rows of kernels."""
    columns = math.ceil(math.sqrt(n_filters))
    return columns, math.ceil(n_filters / columns)


def _mosaic_shape(n_filters: int) -> tuple[int, int]:
    """Width and height in pixels."""
    columns, rows = _mosaic_grid(n_filters)
    return _CELL_WIDTH * columns - _GAP, _CELL_HEIGHT * rows - _GAP


def _mosaic(kernels: np.ndarray) -> np.ndarray:
    """All slices of all kernels in one picture, x to the right and y upwards, NaN in between."""
    n_filters = kernels.shape[-1]
    columns, rows = _mosaic_grid(n_filters)
    mosaic = np.full(_mosaic_shape(n_filters), np.nan)
    for number in range(n_filters):
        row, column = divmod(number, columns)
        bottom = _CELL_HEIGHT * (rows - 1 - row)
        for depth in range(3):
            left = _CELL_WIDTH * column + 4 * depth
            mosaic[left : left + 3, bottom : bottom + 3] = kernels[:, :, depth, number]
    return mosaic
