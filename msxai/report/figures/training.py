"""Figures of training: its course, and what the first layer has learnt."""

import itertools

import numpy as np
import pandas as pd

from msxai.report.figures import sheet, slices

TRAINING, VALIDATION = "#767676", "#009E73"


@sheet.drawn
def training_curves(histories: dict, title: str = "Training", *, synthetic: bool):
    """Loss and accuracy by epoch: all trials thin, their mean thick, the epochs whose weights are kept as dots.

    Parameters
    ----------
    histories : dict
        Trial to history (`msxai.model.training.fit`): epoch, loss, accuracy, val_loss, val_accuracy, best.
    title : str
        What was trained.
    synthetic : bool
        Mark the figure.
    """
    source = pd.concat(
        [history.assign(trial=trial) for trial, history in histories.items()], ignore_index=True
    )
    mean = (
        source.groupby("epoch")[["loss", "accuracy", "val_loss", "val_accuracy"]]
        .mean()
        .reset_index()
    )
    notes = (
        []
        if len(histories) == 1
        else ["Thin: one trial each. Thick: mean of the trials that still run at that epoch."]
    )
    figure, bottom = sheet.sheet(
        8, 2.6, f"{title}: {sheet.trials(len(histories))}", notes, synthetic
    )
    panels = [sheet.place(figure, left, bottom + 0.4, 2.7, 2.1) for left in (0.55, 3.85)]
    for axes, quantity in zip(panels, ("loss", "accuracy"), strict=True):
        for column, colour, name in (
            (quantity, TRAINING, "training"),
            (f"val_{quantity}", VALIDATION, "validation"),
        ):
            for _, history in source.groupby("trial", sort=False):
                axes.plot(history["epoch"] + 1, history[column], color=colour, lw=0.6, alpha=0.7)
            axes.plot(mean["epoch"] + 1, mean[column], color=colour, lw=2, label=name)
        best = source[source["best"].astype(bool)]
        axes.plot(
            best["epoch"] + 1,
            best[f"val_{quantity}"],
            "o",
            ms=5,
            mfc="none",
            mec=VALIDATION,
            label="weights kept",
        )
        axes.set(
            xlabel="epoch",
            ylabel=f"{quantity} (cross-entropy, nats)" if quantity == "loss" else quantity,
        )
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylim(bottom=0)
    panels[1].set_ylim(top=1.02)
    panels[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, pd.concat([source, mean.assign(trial="mean")], ignore_index=True)


@sheet.drawn
def first_filters(trained, untrained, *, synthetic: bool):
    """First-layer kernels after training beside those the network started from.

    Parameters
    ----------
    trained, untrained : ndarray of shape (3, 3, 3, 1, filters)
        Kernels of the first convolution.
    synthetic : bool
        Mark the figure.
    """
    kernels = {
        "after training": np.asarray(trained)[..., 0, :],
        "before (random)": np.asarray(untrained)[..., 0, :],
    }
    count = np.shape(trained)[-1]
    across = int(np.ceil(np.sqrt(count)))
    down = -(-count // across)
    shape = 13 * across - 2, 5 * down - 2  # slices one voxel apart, kernels two
    top = max(float(np.abs(values).max()) for values in kernels.values())
    height = 3.8 * shape[1] / shape[0]
    note = "A kernel is three axial slices side by side, lowest first, and stands at the same place in both panels."
    figure, bottom = sheet.sheet(
        9.2, height + 0.4, f"First-layer filters: {count} kernels of 3×3×3", [note], synthetic
    )
    for index, (name, values) in enumerate(kernels.items()):
        mosaic = np.full(shape, np.nan)
        for number, depth in itertools.product(range(count), range(3)):
            row, column = divmod(number, across)
            mosaic[13 * column + 4 * depth :, 5 * (down - 1 - row) :][:3, :3] = values[
                :, :, depth, number
            ]
        axes = sheet.place(figure, 0.1 + 4.15 * index, bottom + 0.1, 3.8, height, title=name)
        axes.imshow(
            mosaic.T, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="nearest", origin="lower"
        )
        axes.axis("off")
    slices.colour_bar(
        figure, slices.Scale("RdBu_r", 0, -top, top, "weight"), 8.3, bottom + 0.1, height
    )
    index = pd.MultiIndex.from_product(
        [range(3), range(3), range(3), range(count)], names=["x", "y", "z", "filter"]
    )
    return figure, pd.DataFrame(
        {name.split()[0]: values.ravel() for name, values in kernels.items()}, index=index
    ).reset_index()
