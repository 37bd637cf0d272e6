"""Figures of heatmaps: single scans, means of groups, the audit, a viewer."""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from markupsafe import escape
from nilearn import plotting

from msxai.data import images
from msxai.data.cohorts import groups as cohort_groups
from msxai.report.figures import sheet, slices

__all__ = ["audit", "average", "heatmap", "individual", "view_heatmap"]

ABSORBED = {"bias": sheet.PATIENT, "stabiliser": sheet.CONTROL}
ABSORBED_NAMES = {"bias": "absorbed by biases", "stabiliser": "absorbed by the stabiliser"}
SHARES = ["passed", "bias", "stabiliser"]
N_EXAMPLES = 4
VIEWER_HEIGHT = 400  # pixels
_LESIONS_ARE_GREEN = "Lesions of the mask are green."


@sheet.drawn
def individual(
    prepared,
    table: pd.DataFrame,
    group: str,
    positive: bool = False,
    *,
    shown: pd.DataFrame | None = None,
    heading: str = "",
    synthetic: bool,
):
    """Draw heatmaps of four scans of one group, from the highest probability to the lowest.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        Where the scans are.
    table : pandas.DataFrame
        `msxai.lrp.heatmaps.read`.
    group : str
        The group to draw, or several (`msxai.data.cohorts.groups.names_of`); "" for all scans.
    positive : bool
        Positive relevance only, in place of net relevance.
    shown : pandas.DataFrame, optional
        participant_id and session_id of the scans to draw: those of the figure of another network,
        in its order. By default four scans from the highest probability to the lowest.
    heading : str
        Which network: the first words of the title, where it is not the paper's.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        One row a scan: what is drawn, its colours and its slices (mm).
    """
    in_group = table
    if group:
        is_meant = table["group"].isin([group, *cohort_groups.names_of(group)])
        in_group = table[is_meant]
    if shown is None:
        entries = _examples(in_group)
        choice = f"{len(entries)} of {len(in_group)} scans, highest to lowest probability"
    else:
        keys = ["participant_id", "session_id"]
        entries = shown[keys].merge(in_group, on=keys)
        choice = f"the same {len(entries)} of {len(in_group)} scans"
    title = f"{heading}{slices.SIGN[positive]} relevance, {group or 'all'}: {choice}"
    if entries.empty:
        reason = f"Nothing to draw: no scan of group {group} has a heatmap."
        return sheet.nothing_to_draw(title, reason, synthetic=synthetic, notice=True)
    scans = entries[["participant_id", "session_id"]].to_numpy()
    rows = [prepared.row(*scan) for scan in scans]
    return _individuals(prepared, rows, entries, title, positive, synthetic)


def _examples(table: pd.DataFrame) -> pd.DataFrame:
    """Return scans at even steps from the highest probability to the lowest."""
    ranked = table.sort_values(["probability", "participant_id"], ascending=False)
    steps = np.linspace(0, len(ranked) - 1, N_EXAMPLES).round().astype(int)
    return ranked.iloc[np.unique(steps)] if len(ranked) else ranked


@sheet.drawn
def heatmap(prepared, row: int, entry: pd.Series, positive: bool = False, *, synthetic: bool):
    """Draw the heatmap of one scan on its anatomy: axial, coronal and sagittal slices.

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

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        As in `individual`.
    """
    title = f"{slices.SIGN[positive]} relevance"
    return _individuals(prepared, [row], entry.to_frame().T, title, positive, synthetic)


def _individuals(prepared, rows: list, entries, title: str, positive: bool, synthetic: bool):
    maps = []
    for path in entries["path"]:
        values = images.to_grid(images.load(path))
        maps.append(np.maximum(values, 0) if positive else values)
    brains = [prepared.brain(row) for row in rows]
    scale = slices.relevance_scale(maps, brains, positive)
    blocks = []
    source = []
    for row, values, entry in zip(rows, maps, entries.to_dict("records"), strict=True):
        cuts = _cuts_of_relevance(values, prepared.brain(row), scale)
        volume = _lesion_volume(prepared, row)
        block_title = _scan_title(entry, volume)
        blocks.append(_block(prepared, row, block_title, values, cuts, scale))
        source.append(_entry(entry, volume, scale, cuts))
    notes = [
        slices.threshold_note(scale),
        "Green: outline of the lesion mask. The slices are those with much of the relevance shown.",
        slices.ORIENTATION + slices.SAGITTAL,
    ]
    texts = {"title": title, "notes": notes, "synthetic": synthetic, "notice": True}
    width = 10 if len(blocks) > 1 else 6
    figure = slices.slice_sheet(blocks, width, 2, **texts)
    return figure, pd.DataFrame(source)


def _cuts_of_relevance(values: np.ndarray, brain: np.ndarray, scale: slices.Scale) -> dict:
    """Axis to coordinates (mm) of slices; the widest ones where no relevance is shown."""
    magnitude = np.abs(values)
    is_shown = magnitude >= scale.threshold
    weights = np.where(is_shown, magnitude, 1e-9 * brain)
    return {axis: slices.cuts(weights, brain, axis) for axis in "zyx"}


def _lesion_volume(prepared, row: int) -> float:
    """Lesion volume (mm³); NaN without a mask."""
    if not prepared.has_lesions[row]:
        return np.nan
    return prepared.lesions(row).sum() * images.voxel_volume(prepared.affine)


def _scan_title(entry: dict, volume: float) -> str:
    name = _scan_name(entry)
    mask = "no lesion mask" if np.isnan(volume) else f"lesions {volume:,.0f} mm³"
    probability = f"probability {entry['probability']:.2f}"
    return f"{name}: {probability}, mean logit {entry['logit']:+.2f}, {mask}"


def _scan_name(entry: dict) -> str:
    return f"{entry['participant_id']} {entry['session_id']}".strip()


def _block(prepared, row: int, title: str, values, cuts: dict, scale) -> slices.Block:
    backdrop = slices.backdrop(prepared.image(row), prepared.brain(row))
    lesions = prepared.lesions(row)
    rows = []
    for axis, coordinates in cuts.items():
        rows.append(slices.Row("", "", backdrop, values, axis, coordinates, scale, lesions))
    return slices.Block(title, rows)


def _entry(entry: dict, volume: float, scale: slices.Scale, cuts: dict) -> dict:
    """Row of the source table of one scan."""
    columns = ("participant_id", "session_id", "group", "probability", "logit", "sha256")
    row = {column: entry[column] for column in columns}
    row["file"] = Path(entry["path"]).name
    row["lesion_volume"] = volume
    row["threshold"] = scale.threshold
    row["full_colour"] = scale.high
    for axis in "xyz":
        row[f"{axis}_mm"] = _listed(cuts[axis])
    return row


def _listed(coordinates) -> str:
    return " ".join(str(coordinate) for coordinate in coordinates)


@sheet.drawn
def average(groups: dict, anatomy, title: str, *, synthetic: bool):
    """Draw mean heatmaps of groups of scans: net relevance, and positive relevance alone.

    Parameters
    ----------
    groups : dict
        Two names ("MS", "HC"), patients first, to rows of `msxai.lrp.heatmaps.read`. The caption
        names a group without scans.
    anatomy : ndarray of shape (96, 114, 96)
        `msxai.report.figures.mean_anatomy`.
    title : str
        Of the figure.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        One row a scan and sign: which mean it enters, its colours and slices (mm).
    """
    colours = dict(zip(groups, (sheet.PATIENT, sheet.CONTROL), strict=True))
    present = {name: table for name, table in groups.items() if len(table)}
    notes = []
    for name in groups:
        if name not in present:
            notes.append(f"{name}: nothing to draw because there is no such scan.")
    if not present:
        reason = " ".join(notes)
        return sheet.nothing_to_draw(title, reason, synthetic=synthetic, notice=True)
    names = {
        False: "Net relevance",
        True: "Positive relevance only (negative values set to 0 in each scan first)",
    }
    blocks = []
    source = []
    for positive, block_title in names.items():
        means = _means(present, positive)
        scale = slices.relevance_scale(means.values(), [anatomy > 0], positive)
        notes.append(slices.threshold_note(scale))
        rows = []
        for name, table in present.items():
            label = _group_label(name, len(table))
            colour = colours[name]
            row = slices.Row(label, colour, anatomy, means[name], "z", slices.AXIAL, scale)
            rows.append(row)
            source.append(_mean_entries(table, name, positive, scale))
        blocks.append(slices.Block(block_title, rows))
    notes.append(slices.ORIENTATION)
    texts = {"title": title, "notes": notes, "synthetic": synthetic, "notice": True}
    figure = slices.slice_sheet(blocks, 9, 1, **texts)
    return figure, pd.concat(source, ignore_index=True)


def _means(groups: dict, positive: bool) -> dict:
    from msxai.lrp import heatmaps  # brings registration, which no other figure needs

    return {name: heatmaps.mean(table["path"], positive) for name, table in groups.items()}


def _group_label(name: str, n_scans: int) -> str:
    lines = [*name.split(), f"n = {n_scans}"]
    return "\n".join(lines)


def _mean_entries(table: pd.DataFrame, name: str, positive: bool, scale) -> pd.DataFrame:
    columns = ["participant_id", "session_id", "probability", "logit", "sha256"]
    entries = table[columns].assign(file=table["path"].map(os.path.basename))
    entries["average"] = name
    entries["positive"] = positive
    entries["threshold"] = scale.threshold
    entries["full_colour"] = scale.high
    entries["z_mm"] = _listed(slices.AXIAL)
    return entries


@sheet.drawn
def audit(table: pd.DataFrame, *, synthetic: bool):
    """Draw how much of each logit every layer passes on, and how much it absorbs.

    Parameters
    ----------
    table : pandas.DataFrame
        `msxai.lrp.heatmaps.read_audit`.
    synthetic : bool
        Mark the figure.

    Returns
    -------
    matplotlib.figure.Figure
    pandas.DataFrame
        layer, rule, passed, bias, stabiliser, trial ("all" for all trials together). Shares are
        sums over scans, divided by the sum of the magnitudes of the logits; relevance against the
        sign of its logit counts as negative.
    """
    title = "Audit of the heatmaps"
    if table.empty:
        reason = (
            "No audit: engine innvestigate does not report what each layer absorbs; engine msxai "
            "does."
        )
        return sheet.nothing_to_draw(title, reason, synthetic=synthetic, notice=True)
    maps = table.groupby(["participant_id", "session_id", "trial"], sort=False)
    logit = maps["arriving"].transform("first")
    signed = table[SHARES].mul(np.sign(logit), axis=0)
    signed = signed.assign(magnitude=logit.abs())
    signed[["layer", "rule", "trial"]] = table[["layer", "rule", "trial"]]
    total = _shares(signed, ["layer", "rule"])
    by_trial = _shares(signed, ["layer", "rule", "trial"])
    n_trials = table["trial"].nunique()
    n_scans = maps.ngroups // n_trials
    notes = [
        "From the logit (left) to the voxels (right). The logit equals the relevance of all voxels "
        "plus what biases and the stabiliser absorb.",
        f"Sums over {n_scans} scans, divided by the sum of the magnitudes of the logits. Thin "
        "lines: single trials.",
        "A heatmap explains most of the logit where the black line stays near 1.",
    ]
    heading = f"{title}: {sheet.trials(n_trials)}"
    figure, bottom = sheet.sheet(7.6, 2.9, heading, notes, synthetic, notice=True)
    axes = sheet.place(figure, 0.6, bottom + 0.55, 5, 2.2)
    _draw_audit(axes, total, by_trial)
    by_trial["trial"] = by_trial["trial"].astype(str)
    source = pd.concat([total.assign(trial="all"), by_trial], ignore_index=True)
    return figure, source


def _shares(signed: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    sums = signed.groupby(by, sort=False)[[*SHARES, "magnitude"]].sum()
    shares = sums[SHARES].div(sums["magnitude"], axis=0)
    return shares.reset_index()


def _draw_audit(axes, total: pd.DataFrame, by_trial: pd.DataFrame) -> None:
    names = total["layer"] + "\n" + total["rule"]
    absorbed = total.assign(name=names).melt("name", list(ABSORBED), "by", "share")
    absorbed["by"] = absorbed["by"].map(ABSORBED_NAMES)
    palette = {ABSORBED_NAMES[column]: colour for column, colour in ABSORBED.items()}
    options = {"x": "name", "y": "share", "hue": "by", "palette": palette, "order": list(names)}
    seaborn.barplot(absorbed, errorbar=None, saturation=1, ax=axes, **options)
    positions = np.arange(len(total))
    for _, trial in by_trial.groupby("trial"):
        axes.plot(positions, trial["passed"], color="black", lw=0.6, alpha=0.5)
    line = {"color": "black", "ms": 4, "lw": 1.5, "label": "passed on"}
    axes.plot(positions, total["passed"], "o-", **line)
    axes.axhline(0, color="black", lw=0.5)
    axes.tick_params(axis="x", labelsize=7)
    axes.set(xlabel="", ylabel="share of the logit")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def view_heatmap(
    image, heatmap, interactive: bool = False, *, lesions=None, synthetic: bool = False
):
    """Look at one heatmap on its scan.

    Parameters
    ----------
    image, heatmap : path
        NIfTI files in the same space. The title takes subject and space from the name of the map.
    interactive : bool
        A viewer to scroll through the slices (NiiVue). It needs a notebook that a person has
        opened, in JupyterLab for instance; elsewhere, as in a run by papermill, and for False the
        result is a static picture.
    lesions : nibabel.Nifti1Image, optional
        Lesion mask (0 and 1) in the same space, drawn in green.
    synthetic : bool
        Mark the picture.

    Returns
    -------
    ipywidgets.VBox or matplotlib.figure.Figure
    """
    scan = images.load(image)
    relevance = images.load(heatmap)
    values = np.asarray(relevance.dataobj)
    scale = slices.relevance_scale([values], [values != 0], False)
    title = _title_of(Path(heatmap).name)
    if interactive and _in_open_notebook():
        return _viewer(image, heatmap, scale, title, lesions, synthetic)
    return _static_view(scan, relevance, scale, title, lesions, synthetic)


def _title_of(name: str) -> str:
    """Return the title of a map by the entities of its file name."""
    space = "MNI space" if "space-MNI152" in name else "the scan's own space"
    title = f"Net relevance in {space}"
    if name.startswith("sub-"):
        subject = name.split("_")[0]
        title = f"{subject}: {title[0].lower()}{title[1:]}"
    return title


def _in_open_notebook() -> bool:
    """Whether a Jupyter server has started this kernel for an open notebook: it sets a variable."""
    return "JPY_SESSION_NAME" in os.environ


def _viewer(image, heatmap, scale: slices.Scale, title: str, lesions, synthetic: bool):
    import ipyniivue  # widgets are needed here alone
    import ipywidgets

    viewer = ipyniivue.NiiVue(height=VIEWER_HEIGHT, is_colorbar=True)
    anatomy = {"path": Path(image), "colormap": "gray", "colorbar_visible": False}
    overlay = {
        "path": Path(heatmap),
        "colormap": "warm",
        "colormap_negative": "cool",  # as bright as "warm", in blue
        "cal_min": scale.threshold,
        "cal_max": scale.high,
        "cal_min_neg": -scale.high,
        "cal_max_neg": -scale.threshold,
        "opacity": 0.8,
    }
    volumes = [anatomy, overlay]
    colours = "Orange raises the logit, blue lowers it."
    if lesions is not None:
        volumes.append(_mask_volume(lesions))
        colours += f" {_LESIONS_ARE_GREEN}"
    viewer.load_volumes(volumes)
    marks = [title + ".", colours, slices.threshold_note(scale, "voxels"), sheet.NOTICE]
    if synthetic:
        marks.append(sheet.SYNTHETIC)
    caption = ipywidgets.HTML(str(escape(" ".join(marks))))
    return ipywidgets.VBox([viewer, caption])


def _mask_volume(lesions) -> dict:
    """Return a lesion mask as a layer of the viewer that the map below shines through."""
    return {
        "name": "lesions.nii",
        "data": lesions.to_bytes(),
        "colormap": "green",
        "colorbar_visible": False,
        "cal_min": 0,
        "cal_max": 1,
        "opacity": 0.6,
    }


def _static_view(scan, relevance, scale: slices.Scale, title: str, lesions, synthetic: bool):
    notes = [
        slices.threshold_note(scale, "voxels"),
        slices.ORIENTATION + slices.SAGITTAL,
    ]
    if lesions is not None:
        notes.append(_LESIONS_ARE_GREEN)
    with sheet.style():
        figure, bottom = sheet.sheet(7.5, 2.6, title, notes, synthetic, notice=True)
        axes = sheet.place(figure, 0.1, bottom + 0.1, 6.3, 2.4)
        colours = {"threshold": scale.threshold, "vmax": scale.high, "cmap": slices.SYMMETRIC}
        display = plotting.plot_stat_map(
            relevance,
            bg_img=scan,
            axes=axes,
            black_bg=True,
            colorbar=False,
            draw_cross=False,
            annotate=False,
            **colours,
        )
        if lesions is not None and np.any(lesions.dataobj):
            contours = {"levels": [0.5], "colors": [slices.OUTLINE], "linewidths": 0.5}
            display.add_contours(lesions, **contours)
        display.annotate(size=7)
        slices.colour_bar(figure, scale, 6.55, bottom + 0.3, 2)
    plt.close(figure)
    return figure
