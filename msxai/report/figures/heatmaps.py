"""Figures of heatmaps: single scans, means of groups, the audit, a viewer."""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from nilearn import plotting

from msxai.data import images
from msxai.report.figures import sheet, slices
from msxai.report.figures.sheet import CONTROL, NOTICE, PAIR, PATIENT, SYNTHETIC
from msxai.report.figures.slices import AXIAL, HOW, SAGITTAL, SIGN, SYMMETRIC


@sheet.drawn
def individual(
    prepared, table: pd.DataFrame, group: str, positive: bool = False, *, synthetic: bool
):
    """Heatmaps of four scans of one group on their own anatomy, from the surest to the least sure (equal steps of rank).

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Where the scans are.
    table : pandas.DataFrame
        `msxai.lrp.heatmaps.read`.
    group : str
        The group to draw, as in its column; "" for all scans.
    positive : bool
        Positive relevance only, in place of net relevance.
    synthetic : bool
        Mark the figure.
    """
    found = table[(table["group"] == group) | (not group)].sort_values(
        ["probability", "participant_id"], ascending=False
    )
    title = f"{SIGN[positive]} relevance, {group or 'all'}: {{}} of {len(found)} scans, highest to lowest probability"
    if found.empty:
        return sheet.words(
            title.format(0),
            f"Nothing to draw: no scan of group {group} has a heatmap.",
            synthetic,
            notice=True,
        )
    return _individuals(
        prepared,
        found.iloc[np.unique(np.linspace(0, len(found) - 1, 4).round().astype(int))],
        title,
        positive,
        synthetic,
    )


@sheet.drawn
def heatmap(prepared, row: int, entry: pd.Series, positive: bool = False, *, synthetic: bool):
    """Heatmap of one scan on its own anatomy: axial, coronal, sagittal.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Where the scan is.
    row : int
        Which scan.
    entry : pandas.Series
        Its row of `msxai.lrp.heatmaps.read`.
    positive, synthetic
        As in `individual`.
    """
    return _individuals(
        prepared, entry.to_frame().T, f"{SIGN[positive]} relevance", positive, synthetic, rows=[row]
    )


def _individuals(prepared, table, title, positive, synthetic, rows=None):
    rows = rows or [
        prepared.row(*scan) for scan in table[["participant_id", "session_id"]].to_numpy()
    ]
    maps = [images.to_grid(images.load(path)) for path in table["path"]]
    maps = [np.maximum(values, 0) for values in maps] if positive else maps
    brains = [prepared.brain(row) for row in rows]
    scale = slices.relevance_scale(maps, brains, positive)
    blocks, titles, source = [], [], []
    for row, values, brain, scan in zip(rows, maps, brains, table.to_dict("records"), strict=True):
        backdrop, lesions = slices.backdrop(prepared.image(row), brain), prepared.lesions(row)
        weights = np.where(
            np.abs(values) >= scale.threshold, np.abs(values), 1e-9 * brain
        )  # where nothing is shown: the widest slices
        cuts = {axis: slices.cuts(weights, brain, axis) for axis in "zyx"}
        blocks.append(
            [
                slices.Row("", "", backdrop, values, axis, cuts[axis], scale, lesions)
                for axis in "zyx"
            ]
        )
        name = " ".join(filter(None, [scan["participant_id"], scan["session_id"]]))
        volume = (
            lesions.sum() * images.voxel_volume(prepared.affine)
            if prepared.has_lesions[row]
            else np.nan
        )
        mask = "no lesion mask" if np.isnan(volume) else f"lesions {volume:,.0f} mm³"
        titles.append(
            f"{name}: probability {scan['probability']:.2f}, mean logit {scan['logit']:+.2f}, {mask}"
        )
        kept = {
            key: scan[key]
            for key in ("participant_id", "session_id", "group", "probability", "logit", "sha256")
        }
        source.append(
            {
                **kept,
                "file": Path(scan["path"]).name,
                "lesion_volume": volume,
                "threshold": scale.threshold,
                "full_colour": scale.high,
                **{f"{axis}_mm": " ".join(map(str, cuts[axis])) for axis in "xyz"},
            }
        )
    where = "Green: outline of the lesion mask. Slices: where much of the shown relevance lies."
    notes = [slices.threshold_note(scale), where, HOW + SAGITTAL]
    width = 10 if len(blocks) > 1 else 6
    return slices.slice_sheet(
        blocks, titles, width, title.format(len(blocks)), notes, synthetic, notice=True
    ), pd.DataFrame(source)


@sheet.drawn
def average(groups: dict, anatomy, title: str, *, synthetic: bool):
    """Mean heatmaps of groups of scans: net relevance, and positive relevance alone.

    Parameters
    ----------
    groups : dict
        Two names ("MS", "HC"), patients first, to rows of `msxai.lrp.heatmaps.read`; where one is empty a sentence says so.
    anatomy : ndarray of shape (96, 114, 96)
        `msxai.report.figures.mean_anatomy`.
    title : str
        Of the figure.
    synthetic : bool
        Mark the figure.
    """
    from msxai.lrp import heatmaps  # brings TensorFlow, which no other figure needs

    colours = dict(zip(groups, PAIR, strict=True))
    filled = {name: table for name, table in groups.items() if len(table)}
    empty = [
        f"{name}: nothing to draw, there is no such scan."
        for name, table in groups.items()
        if not len(table)
    ]
    if not filled:
        return sheet.words(title, " ".join(empty), synthetic, notice=True)
    blocks, source, notes = [], [], empty
    for positive in (False, True):
        maps = {name: heatmaps.mean(table["path"], positive) for name, table in filled.items()}
        scale = slices.relevance_scale(maps.values(), [anatomy > 0], positive)
        notes = [*notes, slices.threshold_note(scale)]
        blocks.append([])
        for name, table in filled.items():
            label = "\n".join([*name.split(), f"n = {len(table)}"])
            blocks[-1].append(
                slices.Row(label, colours[name], anatomy, maps[name], "z", AXIAL, scale)
            )
            source.append(
                table[["participant_id", "session_id", "probability", "logit", "sha256"]].assign(
                    file=table["path"].map(os.path.basename),
                    average=name,
                    positive=positive,
                    threshold=scale.threshold,
                    full_colour=scale.high,
                    z_mm=" ".join(map(str, AXIAL)),
                )
            )
    titles = ["Net relevance", "Positive relevance only (negative set to 0 in each scan first)"]
    figure = slices.slice_sheet(
        blocks, titles, 9, title, [*notes, HOW], synthetic, notice=True, columns=1
    )
    return figure, pd.concat(source, ignore_index=True)


@sheet.drawn
def audit(kept: pd.DataFrame, *, synthetic: bool):
    """What reaches the next layer of each logit on its way back to the voxels, and what biases and the stabiliser keep.

    Parameters
    ----------
    kept : pandas.DataFrame
        `msxai.lrp.heatmaps.read_audit`. Shares are sums over scans (and, in bars, over trials), relevance against the sign of its logit
        counting as negative, divided by the sum of the logits' sizes.
    synthetic : bool
        Mark the figure.
    """
    title = "Audit of the heatmaps"
    if kept.empty:
        text = "No audit: innvestigate does not say what each layer keeps. The engine msxai does."
        return sheet.words(title, text, synthetic, notice=True)
    one = kept.groupby(["participant_id", "session_id", "trial"], sort=False)
    logit, columns = one["arriving"].transform("first"), ["passed", "bias", "stabiliser"]
    shares = (
        kept[columns]
        .mul(np.sign(logit), axis=0)
        .assign(size=logit.abs(), layer=kept["layer"], rule=kept["rule"], trial=kept["trial"])
    )

    def summed(*by):
        total = shares.groupby(["layer", "rule", *by], sort=False)[[*columns, "size"]].sum()
        return total[columns].div(total["size"], axis=0).reset_index()

    every, trials, number = summed(), summed("trial"), kept["trial"].nunique()
    notes = [
        "From the logit (left) to the voxels (right): logit = relevance of all voxels + kept by biases + kept by the stabiliser.",
        f"Sums over {one.ngroups // number} scans, divided by the sum of the logits' sizes. Thin: single trials.",
    ]
    figure, bottom = sheet.sheet(
        7.6, 2.9, f"{title}: {sheet.trials(number)}", notes, synthetic, notice=True
    )
    axes, places = sheet.place(figure, 0.6, bottom + 0.55, 5, 2.2), np.arange(len(every))
    for column, colour, shift in ("bias", PATIENT, -0.2), ("stabiliser", CONTROL, 0.2):
        axes.bar(
            places + shift,
            every[column],
            0.4,
            color=colour,
            label=f"kept by {'biases' if column == 'bias' else 'the stabiliser'}",
        )
    for _, trial in trials.groupby("trial"):
        axes.plot(places, trial["passed"], color="black", lw=0.6, alpha=0.5)
    axes.plot(places, every["passed"], "o-", color="black", ms=4, lw=1.5, label="passed on")
    axes.axhline(0, color="black", lw=0.5)
    axes.set_xticks(places, [f"{row.layer}\n{row.rule}" for row in every.itertuples()], fontsize=7)
    axes.set_ylabel("share of the logit")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, pd.concat(
        [every.assign(trial="all"), trials.assign(trial=trials["trial"].astype(str))],
        ignore_index=True,
    )


def view_heatmap(image, heatmap, interactive: bool = False, *, synthetic: bool = False):
    """Scroll through one heatmap on its scan, both in their own space.

    Parameters
    ----------
    image, heatmap : path
        NIfTI files in the same space.
    interactive : bool
        A viewer for JupyterLab that works without a network (nilearn's; some MB of HTML in the notebook); else a static picture.
    synthetic : bool
        Mark the picture.

    Returns
    -------
    nilearn.plotting.html_stat_map.StatMapView or matplotlib.figure.Figure
    """
    scan, relevance = images.load(image), images.load(heatmap)
    values = np.asarray(relevance.dataobj)
    scale = slices.relevance_scale([values], [values != 0], False)
    title = f"{Path(heatmap).name.split('_')[0]}: net relevance in the scan's own space"
    common = {
        "bg_img": scan,
        "threshold": scale.threshold,
        "vmax": scale.high,
        "cmap": SYMMETRIC,
        "black_bg": True,
    }
    with sheet.style():
        if interactive:
            return plotting.view_img(
                relevance,
                title=f"{SYNTHETIC if synthetic else ''} {title}. {NOTICE}".strip(),
                **common,
            )
        note = slices.threshold_note(scale).replace("brain", "all")
        figure, bottom = sheet.sheet(
            7.5, 2.6, title, [note, HOW + SAGITTAL], synthetic, notice=True
        )
        axes = sheet.place(figure, 0.1, bottom + 0.1, 6.3, 2.4)
        plotting.plot_stat_map(
            relevance, axes=axes, colorbar=False, draw_cross=False, annotate=False, **common
        ).annotate(size=7)
        slices.colour_bar(figure, scale, 6.55, bottom + 0.3, 2)
    plt.close(figure)
    return figure
