"""The figures of the paper, drawn by nilearn and matplotlib. Each function returns the figure and the numbers it shows.

Maps are in neurological convention (the left of the picture is the left of the brain) with MNI coordinates in mm. A figure with nothing
to draw says so in words. Patients and controls keep one pair of colours, safe for colour-blind readers, through all figures.
"""

import functools
import gc
import itertools
import os
import textwrap
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from nilearn import plotting

from . import images, integrity, statistics

PATIENT, CONTROL = "#D55E00", "#0072B2"  # Okabe, Ito 2008
TRAINING, VALIDATION, OUTLINE = "#767676", "#009E73", "#4DFF88"
PAIR = PATIENT, CONTROL
SYMMETRIC, POSITIVE, FREQUENCY = "cold_hot", "hot", "plasma"  # nilearn's and matplotlib's; dark at 0, as the backdrop is
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "legend.fontsize": 8, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "svg.hashsalt": "msxai",
}  # fmt: skip
DPI = 150
AXIAL = (-24, -10, 4, 18, 32, 46, 60)  # mm
HOW = "MNI coordinates in mm; left of the picture = left of the brain (L)."
SIGN = ("Net", "Positive")
SAGITTAL = " Sagittal slices: right = front."
SYNTHETIC, NOTICE = "Synthetic: simulated subjects, no data of patients.", "Research software. Not for clinical use."
QUANTITIES = {"subjects": "Subjects", "scans": "Scans", "age": "Age (years)", "sex": "Sex (F / M)", "edss": "EDSS",
              "lesion_volume": "Lesion volume (mm³)"}  # fmt: skip
MEASURES = {"balanced_accuracy": "Balanced accuracy", "sensitivity": "Sensitivity", "specificity": "Specificity", "auc": "AUC"}
BACKDROP = {"vmin": 0, "vmax": 1, "dim": 0, "colorbar": False, "black_bg": True, "annotate": False}
_BRAIN = {"x": 146, "y": 180, "z": 152}  # mm, about: what a row of slices needs in height


_Scale = namedtuple("_Scale", "cmap threshold low high label")  # colours; values of a size below `threshold` are not drawn
_Row = namedtuple("_Row", "label colour backdrop values axis cuts scale outline", defaults=[None])  # a row of slices of one map


def save(figure, folder, stem: str, source: pd.DataFrame, provenance: dict, svg: bool = False) -> list[Path]:
    """Write a figure, its numbers and where it comes from, each file whole or not at all.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    folder : path
    stem : str
        Name without ending, e.g. ``fig06_roc``.
    source : pandas.DataFrame
        What the figure shows, written as .tsv.
    provenance : dict
        From `msxai.integrity.provenance`; its ``outputs`` become the files written here.
    svg : bool
        Write .svg too: charts, not maps.

    Returns
    -------
    list of pathlib.Path
        .png, perhaps .svg, .tsv, .json (written last).
    """
    folder = Path(folder)
    paths = [folder / f"{stem}.{ending}" for ending in (("png", "svg") if svg else ("png",))]
    for path in paths:
        with integrity.replacing(path) as draft, plt.rc_context(STYLE):
            figure.savefig(draft, dpi=DPI, metadata={"Date": None} if path.suffix == ".svg" else {"Software": None})
    paths.append(folder / f"{stem}.tsv")
    with integrity.replacing(paths[-1]) as draft:
        source.to_csv(draft, sep="\t", index=False, na_rep="n/a", float_format="%.6g")
    outputs = {integrity.relative(path): integrity.sha256(path) for path in paths}
    integrity.write_json(folder / f"{stem}.json", {**provenance, "outputs": outputs})
    return [*paths, folder / f"{stem}.json"]


@contextmanager
def _style():
    gc.freeze()  # nilearn collects garbage for each slice: with TensorFlow loaded that is most of the time
    try:
        with plt.rc_context(STYLE):
            yield
    finally:
        gc.unfreeze()


def _drawn(function):
    """Draw in the common style and close the figure, so that a notebook shows it once: where it is returned."""

    @functools.wraps(function)
    def draw(*args, **kwargs):
        with _style():
            figure, source = function(*args, **kwargs)
        plt.close(figure)
        return figure, source

    return draw


@_drawn
def cohort_table(table: pd.DataFrame, lesion_volumes=None, paper=None, *, synthetic: bool):
    """Who is in the cohort, by group and part of the split, beside the paper's cohort; a row without data is left out, with its reason.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a scan: participant_id, group, label, part, age (years), sex (F, M), edss.
    lesion_volumes : array_like of shape (scans,), optional
        mm3; NaN where a scan has no mask.
    paper : pandas.DataFrame, optional
        `msxai.statistics.paper_results`.
    synthetic : bool
        Mark the figure.
    """
    table = table.assign(lesion_volume=np.nan if lesion_volumes is None else np.asarray(lesion_volumes, float))
    table["group"] = table["group"].fillna("unknown").astype(str)
    people = table.drop_duplicates("participant_id")  # the first visit stands for the subject
    groups = list(dict.fromkeys(table.sort_values("label", ascending=False, kind="stable")["group"]))
    parts = ["all", *(part for part in ("training", "validation", "holdout") if (table["part"] == part).any())]
    source = []
    for quantity, part, group in itertools.product(QUANTITIES, parts, groups):
        rows = table if quantity in ("scans", "lesion_volume") else people
        rows = rows[(rows["group"] == group) & ((part == "all") | (rows["part"] == part))]
        source.append({"quantity": quantity, "part": part, "group": group, **_summary(rows, quantity)})
    for section, rows in paper.groupby("section") if paper is not None else ():
        if section.endswith("cohort") and set(rows["variant"]) == set(groups):
            rows = rows.rename(columns={"variant": "group", "low": "min", "high": "max"}).assign(part="paper")
            source += rows[["quantity", "part", "group", "mean", "sd", "min", "max"]].to_dict("records")
            parts.append("paper")
    source = pd.DataFrame(source)
    lines = [["", *(part if group == groups[0] else "" for part in parts for group in groups)], ["", *groups * len(parts)]]
    left_out = []
    for quantity, name in QUANTITIES.items():
        found = source[source["quantity"] == quantity].set_index(["part", "group"])
        if not (found["n"] > 0).any():
            left_out.append(f"{name}: left out, as no scan of the cohort has it.")
        elif quantity != "scans" or len(table) > len(people):
            lines.append([name, *(_cell(found, part, group) for part in parts for group in groups)])
    notes = ["Mean ± SD and, below, the range; n where some lack the value. –: none, or not in the paper.", *left_out]
    title = f"Cohort: {len(people)} subjects, {len(table)} scans"
    return _table(lines, 0.95, title, notes, synthetic), source


def _summary(rows: pd.DataFrame, quantity: str) -> dict:
    if quantity in ("subjects", "scans"):
        return {"n": len(rows), "mean": len(rows)}
    values = rows[quantity].dropna() if quantity in rows else pd.Series(dtype=float)
    out = {"n": len(values), "missing": len(rows) - len(values)}
    if quantity == "sex":
        return out | {"text": " / ".join(str(int((values == sex).sum())) for sex in "FM")}
    values = values.astype(float)
    return out | {"mean": values.mean(), "sd": values.std(), "median": values.median(), "min": values.min(), "max": values.max()}


def _cell(found: pd.DataFrame, part: str, group: str) -> str:
    """What stands in the cohort table: two lines at most."""
    row = found.loc[(part, group)] if (part, group) in found.index else {"n": 0}
    if row["n"] == 0:
        return "–"
    if not pd.isna(row.get("text")):
        return row["text"]
    form = "{:.1f}" if row["quantity"] in ("age", "edss") else "{:,.0f}"
    if row["quantity"] in ("subjects", "scans"):
        return form.format(row["mean"])
    few = f" (n={row['n']:.0f})" if row["missing"] > 0 else ""
    return f"{form} ± {form}\n{form}–{form}{{}}".format(row["mean"], row["sd"], row["min"], row["max"], few)


@_drawn
def lesion_distribution(prepared, *, synthetic: bool):
    """How often each voxel is lesion, patients and controls on the mean anatomy.

    Parameters
    ----------
    prepared : msxai.prepared.Prepared
        All labelled scans with a lesion mask count.
    synthetic : bool
        Mark the figure.
    """
    table, maps, counts, colours = prepared.table, {}, {}, {}
    for label in (1, 0):
        rows = np.flatnonzero((table["label"] == label).fillna(False) & prepared.has_lesions)
        if len(rows):
            name = str(table["group"].iloc[rows[0]])
            colours[name], counts[name] = (CONTROL, PATIENT)[label], len(rows)
            maps[name] = 100 * sum(prepared.lesions(row) for row in rows) / len(rows)
    title = "Lesion frequency: share of subjects with a lesion at each voxel"
    if not maps:
        return _words(title, "Nothing to draw: the cohort has no lesion masks.", synthetic)
    anatomy = mean_anatomy(prepared, np.flatnonzero(prepared.has_lesions))
    seen = np.concatenate([values[values > 0] for values in maps.values()])
    top = float(np.quantile(seen, 0.995)) if len(seen) else 1.0
    scale = _Scale(FREQUENCY, 1e-6, 0, top, "subjects (%)")
    rows = [_Row(f"{name}\nn = {counts[name]}", colours[name], anatomy, values, "z", AXIAL, scale) for name, values in maps.items()]
    note = "Axial slices on the mean anatomy of both groups. Coloured wherever one subject or more has a lesion."
    figure = _slices([rows], [""], 9, title, [note, HOW], synthetic)
    tables = [_voxels(values, AXIAL).assign(group=name, subjects=counts[name]) for name, values in maps.items()]
    return figure, pd.concat(tables, ignore_index=True)


def mean_anatomy(prepared, rows) -> np.ndarray:
    """Mean scan as a backdrop, scaled to 0..1, 0 where fewer than half of `rows` have brain; float32 of shape (96, 114, 96)."""
    image, brain = np.zeros(images.SHAPE), np.zeros(images.SHAPE)
    for row in rows:
        image += prepared.image(row)
        brain += prepared.brain(row)
    return _backdrop(image, brain >= len(rows) / 2)


@_drawn
def training_curves(histories: dict, title: str = "Training", *, synthetic: bool):
    """Loss and accuracy by epoch: all trials thin, their mean thick, the epochs whose weights are kept as dots.

    Parameters
    ----------
    histories : dict
        Trial to history (`msxai.training.fit`): epoch, loss, accuracy, val_loss, val_accuracy, best.
    title : str
        What was trained.
    synthetic : bool
        Mark the figure.
    """
    source = pd.concat([history.assign(trial=trial) for trial, history in histories.items()], ignore_index=True)
    mean = source.groupby("epoch")[["loss", "accuracy", "val_loss", "val_accuracy"]].mean().reset_index()
    notes = [] if len(histories) == 1 else ["Thin: one trial each. Thick: mean of the trials that still run at that epoch."]
    figure, bottom = _page(8, 2.6, f"{title}: {_trials(len(histories))}", notes, synthetic)
    panels = [_axes(figure, left, bottom + 0.4, 2.7, 2.1) for left in (0.55, 3.85)]
    for axes, quantity in zip(panels, ("loss", "accuracy"), strict=True):
        for column, colour, name in (quantity, TRAINING, "training"), (f"val_{quantity}", VALIDATION, "validation"):
            for _, history in source.groupby("trial", sort=False):
                axes.plot(history["epoch"] + 1, history[column], color=colour, lw=0.6, alpha=0.7)
            axes.plot(mean["epoch"] + 1, mean[column], color=colour, lw=2, label=name)
        best = source[source["best"].astype(bool)]
        axes.plot(best["epoch"] + 1, best[f"val_{quantity}"], "o", ms=5, mfc="none", mec=VALIDATION, label="weights kept")
        axes.set(xlabel="epoch", ylabel=f"{quantity} (cross-entropy, nats)" if quantity == "loss" else quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylim(bottom=0)
    panels[1].set_ylim(top=1.02)
    panels[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, pd.concat([source, mean.assign(trial="mean")], ignore_index=True)


@_drawn
def first_filters(trained, untrained, *, synthetic: bool):
    """First-layer kernels after training beside those the network started from.

    Parameters
    ----------
    trained, untrained : ndarray of shape (3, 3, 3, 1, filters)
        Kernels of the first convolution.
    synthetic : bool
        Mark the figure.
    """
    kernels = {"after training": np.asarray(trained)[..., 0, :], "before (random)": np.asarray(untrained)[..., 0, :]}
    count = np.shape(trained)[-1]
    across = int(np.ceil(np.sqrt(count)))
    down = -(-count // across)
    shape = 13 * across - 2, 5 * down - 2  # slices one voxel apart, kernels two
    top = max(float(np.abs(values).max()) for values in kernels.values())
    height = 3.8 * shape[1] / shape[0]
    note = "A kernel is three axial slices side by side, lowest first, and stands at the same place in both panels."
    figure, bottom = _page(9.2, height + 0.4, f"First-layer filters: {count} kernels of 3×3×3", [note], synthetic)
    for index, (name, values) in enumerate(kernels.items()):
        mosaic = np.full(shape, np.nan)
        for number, depth in itertools.product(range(count), range(3)):
            row, column = divmod(number, across)
            mosaic[13 * column + 4 * depth :, 5 * (down - 1 - row) :][:3, :3] = values[:, :, depth, number]
        axes = _axes(figure, 0.1 + 4.15 * index, bottom + 0.1, 3.8, height, title=name)
        axes.imshow(mosaic.T, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="nearest", origin="lower")
        axes.axis("off")
    _bar(figure, _Scale("RdBu_r", 0, -top, top, "weight"), 8.3, bottom + 0.1, height)
    index = pd.MultiIndex.from_product([range(3), range(3), range(3), range(count)], names=["x", "y", "z", "filter"])
    return figure, pd.DataFrame({name.split()[0]: values.ravel() for name, values in kernels.items()}, index=index).reset_index()


@_drawn
def results_table(scores: pd.DataFrame, paper: pd.DataFrame, *, synthetic: bool):
    """Our results beside the paper's; models of the paper without a result of ours are there too.

    Parameters
    ----------
    scores : pandas.DataFrame
        `msxai.statistics.score_table`.
    paper : pandas.DataFrame
        `msxai.statistics.paper_results`.
    synthetic : bool
        Mark the figure.
    """
    printed = paper[paper["section"] == "holdout"]
    theirs = printed.set_index(["variant", "quantity"])[["mean", "low", "high"]]
    ours = scores.set_index("variant")
    lines = [["", *itertools.chain.from_iterable((name, "") for name in MEASURES.values())], ["", *["here", "paper"] * 4]]
    source = []
    for variant in dict.fromkeys([*ours.index, *printed["variant"]]):
        line = [variant + (f"\n{_trials(ours.at[variant, 'trials'])}" if variant in ours.index else "")]
        for measure in MEASURES:
            row = {"variant": variant, "measure": measure}
            if variant in ours.index:
                row["trials"] = ours.at[variant, "trials"]
                row |= {key or "mean": 100 * ours.at[variant, measure + (key and f"_{key}")] for key in ("", "min", "max", "low", "high")}
            if (variant, measure) in theirs.index:
                row |= theirs.loc[(variant, measure)].add_prefix("paper_").to_dict()
            line += [_score(row, "mean", "min", "max", "low", "high"), _score(row, "paper_mean", "paper_low", "paper_high")]
            source.append(row)
        lines.append(line)
    sizes = " and ".join(f"{size} {name}" for name in ("patients", "controls") for size in [_span(scores[name])])
    notes = [f"Here: mean (lowest–highest trial: seed) and [95 % interval over subjects: sample]; {sizes}. –: not computed or printed.",
             "Paper: mean (range) of 10 trials; 13 patients and 10 controls; doi:10.1016/j.nicl.2019.102003."]  # fmt: skip
    return _table(lines, 1.2, "Results on the holdout (%)", notes, synthetic), pd.DataFrame(source)


def _score(row: dict, mean: str, low: str, high: str, *interval) -> str:
    """Mean (range) and, below, [interval]: what stands in the results table."""
    if pd.isna(row.get(mean)):
        return "–"
    text = f"{row[mean]:.1f}"
    if not pd.isna(row[low]) and row.get("trials") != 1:
        text += f" ({row[low]:.1f}–{row[high]:.1f})"
    return text + ("\n[{:.1f}–{:.1f}]".format(*(row[key] for key in interval)) if interval else "")


def _trials(number: int) -> str:
    return "1 trial" if number == 1 else f"{number} trials"


def _span(values) -> str:
    return str(min(values)) if min(values) == max(values) else f"{min(values)}–{max(values)}"


@_drawn
def roc(predictions: pd.DataFrame, seed: int = 0, *, synthetic: bool):
    """ROC curves: one panel a variant, trials thin, their mean thick with a band of one SD over trials, chance dashed.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As in `msxai.statistics.score_table`.
    seed : int
        Of the bootstrap that gives the interval.
    synthetic : bool
        Mark the figure.
    """
    scores = statistics.score_table(predictions, seed)
    if scores.empty or scores["auc"].isna().all():
        return _words("ROC curves", "Nothing to draw: no labelled scans of both groups.", synthetic)
    across = min(len(scores), 4)
    down = -(-len(scores) // across)
    notes = ["Thin: trials. Thick, band: mean ± 1 SD over trials (seed). 95 %: interval of the mean AUC over subjects (sample)."]
    title = f"ROC: {_span(scores['patients'])} patients, {_span(scores['controls'])} controls"
    figure, bottom = _page(max(0.5 + 2.4 * across, 5), 2.75 * down, title, notes, synthetic)
    source = []
    for index, row in scores.iterrows():
        labels, _, trials = statistics.trial_scores(predictions[predictions["variant"] == row["variant"]])
        band = statistics.roc_band(labels, trials)
        source.append(band.assign(variant=row["variant"], auc=row["auc"], auc_low=row["auc_low"], auc_high=row["auc_high"]))
        below, at = divmod(index, across)
        axes = _axes(figure, 0.55 + 2.4 * at, bottom + 2.75 * (down - 1 - below) + 0.45, 1.95, 1.95)
        x = band["false_positive_rate"]
        axes.plot([0, 1], [0, 1], "--", color="#999999", lw=0.8)
        axes.text(0.42, 0.38, "chance", color="#777777", rotation=45, rotation_mode="anchor", va="top", fontsize=7)
        if len(trials) > 1:
            axes.fill_between(x, (band["mean"] - band["sd"]).clip(0), (band["mean"] + band["sd"]).clip(upper=1), color="#CCCCCC", lw=0)
        for name in [name for name in band if name.startswith("trial_")]:
            axes.plot(np.r_[0, x], np.r_[0, band[name]], color="#666666", lw=0.6)
        axes.plot(np.r_[0, x], np.r_[0, band["mean"]], color="black", lw=2)
        spread = f" {row['auc_min']:.2f}–{row['auc_max']:.2f}" if len(trials) > 1 else ""
        text = f"AUC {row['auc']:.2f}\n{_trials(len(trials))}{spread}\n95 % {row['auc_low']:.2f}–{row['auc_high']:.2f}"
        axes.text(1, 0.03, text, ha="right", va="bottom", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8})
        axes.set(title=row["variant"], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal",
                 xlabel="1 − specificity", ylabel="sensitivity" if at == 0 else "")  # fmt: skip
    return figure, pd.concat(source, ignore_index=True)


@_drawn
def individual(prepared, table: pd.DataFrame, group: str, positive: bool = False, *, synthetic: bool):
    """Heatmaps of four scans of one group on their own anatomy, from the surest to the least sure (equal steps of rank).

    Parameters
    ----------
    prepared : msxai.prepared.Prepared
        Where the scans are.
    table : pandas.DataFrame
        `msxai.heatmaps.read`.
    group : str
        The group to draw, as in its column; "" for all scans.
    positive : bool
        Positive relevance only, in place of net relevance.
    synthetic : bool
        Mark the figure.
    """
    found = table[(table["group"] == group) | (not group)].sort_values(["probability", "participant_id"], ascending=False)
    title = f"{SIGN[positive]} relevance, {group or 'all'}: {{}} of {len(found)} scans, highest to lowest probability"
    if found.empty:
        return _words(title.format(0), f"Nothing to draw: no scan of group {group} has a heatmap.", synthetic, notice=True)
    return _individuals(prepared, found.iloc[np.unique(np.linspace(0, len(found) - 1, 4).round().astype(int))], title, positive, synthetic)


@_drawn
def heatmap(prepared, row: int, entry: pd.Series, positive: bool = False, *, synthetic: bool):
    """Heatmap of one scan on its own anatomy: axial, coronal, sagittal.

    Parameters
    ----------
    prepared : msxai.prepared.Prepared
        Where the scan is.
    row : int
        Which scan.
    entry : pandas.Series
        Its row of `msxai.heatmaps.read`.
    positive, synthetic
        As in `individual`.
    """
    return _individuals(prepared, entry.to_frame().T, f"{SIGN[positive]} relevance", positive, synthetic, rows=[row])


@_drawn
def audit(kept: pd.DataFrame, *, synthetic: bool):
    """What reaches the next layer of each logit on its way back to the voxels, and what biases and the stabiliser keep.

    Parameters
    ----------
    kept : pandas.DataFrame
        `msxai.heatmaps.read_audit`. Shares are sums over scans (and, in bars, over trials), relevance against the sign of its logit
        counting as negative, divided by the sum of the logits' sizes.
    synthetic : bool
        Mark the figure.
    """
    title = "Audit of the heatmaps"
    if kept.empty:
        return _words(title, "No audit: innvestigate does not say what each layer keeps. The engine msxai does.", synthetic, notice=True)
    one = kept.groupby(["participant_id", "session_id", "trial"], sort=False)
    logit, columns = one["arriving"].transform("first"), ["passed", "bias", "stabiliser"]
    shares = kept[columns].mul(np.sign(logit), axis=0).assign(size=logit.abs(), layer=kept["layer"], rule=kept["rule"], trial=kept["trial"])

    def summed(*by):
        total = shares.groupby(["layer", "rule", *by], sort=False)[[*columns, "size"]].sum()
        return total[columns].div(total["size"], axis=0).reset_index()

    every, trials, number = summed(), summed("trial"), kept["trial"].nunique()
    notes = ["From the logit (left) to the voxels (right): logit = relevance of all voxels + kept by biases + kept by the stabiliser.",
             f"Sums over {one.ngroups // number} scans, divided by the sum of the logits' sizes. Thin: single trials."]  # fmt: skip
    figure, bottom = _page(7.6, 2.9, f"{title}: {_trials(number)}", notes, synthetic, notice=True)
    axes, places = _axes(figure, 0.6, bottom + 0.55, 5, 2.2), np.arange(len(every))
    for column, colour, shift in ("bias", PATIENT, -0.2), ("stabiliser", CONTROL, 0.2):
        axes.bar(places + shift, every[column], 0.4, color=colour, label=f"kept by {'biases' if column == 'bias' else 'the stabiliser'}")
    for _, trial in trials.groupby("trial"):
        axes.plot(places, trial["passed"], color="black", lw=0.6, alpha=0.5)
    axes.plot(places, every["passed"], "o-", color="black", ms=4, lw=1.5, label="passed on")
    axes.axhline(0, color="black", lw=0.5)
    axes.set_xticks(places, [f"{row.layer}\n{row.rule}" for row in every.itertuples()], fontsize=7)
    axes.set_ylabel("share of the logit")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, pd.concat([every.assign(trial="all"), trials.assign(trial=trials["trial"].astype(str))], ignore_index=True)


def _individuals(prepared, table, title, positive, synthetic, rows=None):
    rows = rows or [prepared.row(*scan) for scan in table[["participant_id", "session_id"]].to_numpy()]
    maps = [images.to_grid(images.load(path)) for path in table["path"]]
    maps = [np.maximum(values, 0) for values in maps] if positive else maps
    brains = [prepared.brain(row) for row in rows]
    scale = _relevance_scale(maps, brains, positive)
    blocks, titles, source = [], [], []
    for row, values, brain, scan in zip(rows, maps, brains, table.to_dict("records"), strict=True):
        backdrop, lesions = _backdrop(prepared.image(row), brain), prepared.lesions(row)
        weights = np.where(np.abs(values) >= scale.threshold, np.abs(values), 1e-9 * brain)  # where nothing is shown: the widest slices
        cuts = {axis: _cuts(weights, brain, axis) for axis in "zyx"}
        blocks.append([_Row("", "", backdrop, values, axis, cuts[axis], scale, lesions) for axis in "zyx"])
        name = " ".join(filter(None, [scan["participant_id"], scan["session_id"]]))
        volume = lesions.sum() * abs(np.linalg.det(prepared.affine[:3, :3])) if prepared.has_lesions[row] else np.nan
        mask = "no lesion mask" if np.isnan(volume) else f"lesions {volume:,.0f} mm³"
        titles.append(f"{name}: probability {scan['probability']:.2f}, mean logit {scan['logit']:+.2f}, {mask}")
        kept = {key: scan[key] for key in ("participant_id", "session_id", "group", "probability", "logit", "sha256")}
        source.append({**kept, "file": Path(scan["path"]).name, "lesion_volume": volume, "threshold": scale.threshold,
                       "full_colour": scale.high, **{f"{axis}_mm": " ".join(map(str, cuts[axis])) for axis in "xyz"}})  # fmt: skip
    notes = [_threshold_note(scale), "Green: outline of the lesion mask. Slices: where much of the shown relevance lies.", HOW + SAGITTAL]
    width = 10 if len(blocks) > 1 else 6
    return _slices(blocks, titles, width, title.format(len(blocks)), notes, synthetic, notice=True), pd.DataFrame(source)


@_drawn
def average(groups: dict, anatomy, title: str, *, synthetic: bool):
    """Mean heatmaps of groups of scans: net relevance, and positive relevance alone.

    Parameters
    ----------
    groups : dict
        Two names ("MS", "HC"), patients first, to rows of `msxai.heatmaps.read`; where one is empty a sentence says so.
    anatomy : ndarray of shape (96, 114, 96)
        `mean_anatomy`.
    title : str
        Of the figure.
    synthetic : bool
        Mark the figure.
    """
    from . import heatmaps  # brings TensorFlow, which no other figure needs

    colours = dict(zip(groups, PAIR, strict=True))
    filled = {name: table for name, table in groups.items() if len(table)}
    empty = [f"{name}: nothing to draw, there is no such scan." for name, table in groups.items() if not len(table)]
    if not filled:
        return _words(title, " ".join(empty), synthetic, notice=True)
    blocks, source, notes = [], [], empty
    for positive in (False, True):
        maps = {name: heatmaps.mean(table["path"], positive) for name, table in filled.items()}
        scale = _relevance_scale(maps.values(), [anatomy > 0], positive)
        notes = [*notes, _threshold_note(scale)]
        blocks.append([])
        for name, table in filled.items():
            label = "\n".join([*name.split(), f"n = {len(table)}"])
            blocks[-1].append(_Row(label, colours[name], anatomy, maps[name], "z", AXIAL, scale))
            source.append(table[["participant_id", "session_id", "probability", "logit", "sha256"]].assign(
                file=table["path"].map(os.path.basename), average=name, positive=positive, threshold=scale.threshold,
                full_colour=scale.high, z_mm=" ".join(map(str, AXIAL))))  # fmt: skip
    titles = ["Net relevance", "Positive relevance only (negative set to 0 in each scan first)"]
    return _slices(blocks, titles, 9, title, [*notes, HOW], synthetic, notice=True, columns=1), pd.concat(source, ignore_index=True)


@_drawn
def show_scan(image, brain=None, lesions=None, *, synthetic: bool):
    """One prepared scan through the middle of its lesions (of its brain where it has none), with both masks outlined.

    Parameters
    ----------
    image : ndarray of shape (96, 114, 96)
    brain, lesions : ndarray of bool, same shape, optional
    synthetic : bool
        Mark the figure.
    """
    inside = image != 0 if brain is None else brain
    marked = lesions if lesions is not None and np.any(lesions) else inside
    # on each axis the slice that cuts most of it
    centre = [int(np.argmax(marked.sum(axis=tuple({0, 1, 2} - {axis})))) for axis in range(3)]
    point = nib.affines.apply_affine(images.AFFINE, centre).round().astype(int)
    note = "Blue: brain mask. " + ("Red: lesion mask." if marked is lesions else "No lesion mask, or an empty one.")
    figure, bottom = _page(7, 2.6, "A prepared scan on the model's grid", [note, HOW + SAGITTAL], synthetic)
    axes = _axes(figure, 0.1, bottom + 0.1, 6.8, 2.4)
    display = plotting.plot_anat(_nifti(_backdrop(image, inside)), cut_coords=point.tolist(), axes=axes, draw_cross=False, **BACKDROP)
    display.annotate(size=7)
    for mask, colour in (brain, "#56B4E9"), (lesions, "#FF5A36"):
        if mask is not None and np.any(mask):
            display.add_contours(_nifti(mask), levels=[0.5], colors=[colour], linewidths=0.7)
    return figure, pd.DataFrame([dict(zip(("x_mm", "y_mm", "z_mm"), point.tolist(), strict=True))])


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
    scale = _relevance_scale([values], [values != 0], False)
    title = f"{Path(heatmap).name.split('_')[0]}: net relevance in the scan's own space"
    common = {"bg_img": scan, "threshold": scale.threshold, "vmax": scale.high, "cmap": SYMMETRIC, "black_bg": True}
    with _style():
        if interactive:
            return plotting.view_img(relevance, title=f"{SYNTHETIC if synthetic else ''} {title}. {NOTICE}".strip(), **common)
        note = _threshold_note(scale).replace("brain", "all")
        figure, bottom = _page(7.5, 2.6, title, [note, HOW + SAGITTAL], synthetic, notice=True)
        axes = _axes(figure, 0.1, bottom + 0.1, 6.3, 2.4)
        plotting.plot_stat_map(relevance, axes=axes, colorbar=False, draw_cross=False, annotate=False, **common).annotate(size=7)
        _bar(figure, scale, 6.55, bottom + 0.3, 2)
    plt.close(figure)
    return figure


def _page(width: float, body: float, title: str, notes: list, synthetic: bool, notice: bool = False):
    """A figure with title and notes and `body` inches in between; returns it and where the body begins (inches)."""
    titles = textwrap.wrap(title, int(width / 0.092))
    lines = [line for note in notes for line in textwrap.wrap(note, int(width / 0.0625))]
    foot = 0.12 + 0.14 * (len(lines) + (synthetic or notice))
    height = 0.2 + 0.19 * len(titles) + body + foot
    figure = plt.figure(figsize=(width, height))
    _text(figure, 0.1, height - 0.1, "\n".join(titles), fontsize=10.5, fontweight="bold", va="top")
    for index, line in enumerate(lines):
        _text(figure, 0.1, foot - 0.1 - 0.14 * index, line, fontsize=7, va="center", color="#333333")
    marks = " ".join(filter(None, [SYNTHETIC if synthetic else "", NOTICE if notice else ""]))
    _text(figure, 0.1, 0.09, marks, fontsize=7, va="center", fontweight="bold")
    return figure, foot


def _text(figure, x: float, y: float, text: str, **more) -> None:
    """Text at a place in inches."""
    figure.text(x / figure.get_figwidth(), y / figure.get_figheight(), text, **more)


def _axes(figure, left: float, bottom: float, width: float, height: float, **more):
    """Axes at a place in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up), **more)


def _words(title: str, text: str, synthetic: bool, notice: bool = False):
    figure, bottom = _page(6, 0.8, title, [], synthetic, notice)
    axes = _axes(figure, 0.1, bottom, 5.8, 0.8)
    axes.axis("off")
    axes.text(0.5, 0.5, textwrap.fill(text, 80), ha="center", va="center", fontsize=9)
    return figure, pd.DataFrame({"nothing_to_draw": [text]})


def _table(lines: list[list[str]], width: float, title: str, notes: list, synthetic: bool):
    """Draw a table of two header rows and any others; an empty cell of the first row belongs to the one on its left."""
    longest = max(len(part) for line in lines for part in line[0].split("\n"))
    widths = [0.25 + 0.066 * longest, *[width] * (len(lines[0]) - 1)]
    heights = [0.22 + 0.14 * max(cell.count("\n") for cell in line) for line in lines]
    figure, bottom = _page(sum(widths) + 0.2, sum(heights) + 0.1, title, notes, synthetic)
    axes = _axes(figure, 0.1, bottom, sum(widths), sum(heights) + 0.1, xlim=(0, sum(widths)), ylim=(0, sum(heights) + 0.1))
    axes.axis("off")
    edges = np.concatenate([[0], np.cumsum(widths)])
    y = sum(heights) + 0.05
    axes.axhline(y, color="black", lw=1)
    for index, (line, height) in enumerate(zip(lines, heights, strict=True)):
        y -= height
        for column, cell in enumerate(line):
            if column == 0:
                axes.text(0, y + height / 2, cell, va="center")
            elif cell:
                last = column + 1 + len(list(itertools.takewhile(lambda other: not other, line[column + 1 :])))
                middle = (edges[column] + edges[last]) / 2
                axes.text(middle, y + height / 2, cell, ha="center", va="center", fontweight="bold" if index < 2 else None)
                if index == 0:
                    axes.plot([edges[column] + 0.06, edges[last] - 0.06], [y, y], color="black", lw=0.5)
        if index == 1:
            axes.axhline(y, color="black", lw=0.7)
    axes.axhline(y, color="black", lw=1)
    return figure


def _slices(blocks: list, titles: list, width: float, title: str, notes: list, synthetic: bool, notice: bool = False, columns: int = 2):
    """Draw blocks of rows of slices, each block under its title; one colour bar for all, or one a block where their scales differ."""
    columns = min(columns, len(blocks))
    left, right, gap = 0.75 if blocks[0][0].label else 0.1, 0.95, 0.15
    across = (width - left - right - gap * (columns - 1)) / columns
    high, wide = {"x": "z", "y": "z", "z": "y"}, {"x": "y", "y": "x", "z": "x"}
    heights = [across / len(row.cuts) * _BRAIN[high[row.axis]] / _BRAIN[wide[row.axis]] for row in blocks[0]]
    head = 0.24 if any(titles) else 0.05
    high = head + sum(heights)
    body = high * -(-len(blocks) // columns) + 0.05
    figure, bottom = _page(width, body, title, notes, synthetic, notice)
    several = len({rows[0].scale for rows in blocks}) > 1
    for index, (rows, name) in enumerate(zip(blocks, titles, strict=True)):
        below, at = divmod(index, columns)
        x, y = left + at * (across + gap), bottom + body - below * high - head
        _text(figure, x, y + 0.08, name)
        if several:
            _bar(figure, rows[0].scale, width - right + 0.1, y - sum(heights) + 0.1, sum(heights) - 0.2)
        for row, height in zip(rows, heights, strict=True):
            y -= height
            _text(figure, x - 0.08, y + height / 2, row.label, ha="right", va="center", color=row.colour or "black")
            _draw_row(row, _axes(figure, x, y, across, height))
    if not several:
        _bar(figure, blocks[0][0].scale, width - right + 0.1, bottom + body / 2 - 0.9, 1.8)
    return figure


def _draw_row(row: _Row, axes) -> None:
    scale = row.scale
    display = plotting.plot_anat(_nifti(row.backdrop), display_mode=row.axis, cut_coords=list(row.cuts), axes=axes, **BACKDROP)
    if np.abs(row.values).max() > scale.threshold:
        display.add_overlay(_nifti(row.values), threshold=scale.threshold, cmap=scale.cmap, vmin=scale.low, vmax=scale.high)
    if row.outline is not None and row.outline.any():
        display.add_contours(_nifti(row.outline), levels=[0.5], colors=[OUTLINE], linewidths=0.5)
    display.annotate(left_right=row.axis != "x", size=6)


def _bar(figure, scale: _Scale, left: float, bottom: float, height: float) -> None:
    """A colour bar at a place in inches; small numbers by their power of ten, which stands in the label."""
    power = int(np.floor(np.log10(scale.high))) if scale.high < 0.01 else 0
    factor = 10.0**-power
    colours = ScalarMappable(Normalize(scale.low * factor, scale.high * factor), scale.cmap)
    bar = figure.colorbar(colours, cax=_axes(figure, left, bottom, 0.12, height))
    bar.set_label((f"$10^{{{power}}}$ " if power else "") + scale.label, fontsize=7)
    bar.ax.tick_params(labelsize=7, length=2)
    bar.outline.set_linewidth(0.4)


def _relevance_scale(maps, brains, positive: bool) -> _Scale:
    """Colours that the highest 5 % of brain voxels of all `maps` get, full at the highest .1 %."""
    maps = list(maps)
    sizes = np.concatenate([np.abs(values[brain]) for values, brain in itertools.zip_longest(maps, brains, fillvalue=brains[0])])
    threshold, top = (max(float(value), 1e-12) for value in np.quantile(sizes if len(sizes) else [0], [0.95, 0.999]))
    top = max(top, threshold)
    return _Scale(POSITIVE if positive else SYMMETRIC, threshold, 0.0 if positive else -top, top, "logit per voxel")


def _threshold_note(scale: _Scale) -> str:
    low, high = f"{scale.threshold:.1e}", f"{scale.high:.1e}"
    return f"{SIGN[scale.low == 0]} relevance: the 5 % of brain voxels highest in size, from {low} logit on; full colour from {high}."


def _nifti(values) -> nib.Nifti1Image:
    return nib.Nifti1Image(np.asarray(values, "float32"), images.AFFINE)


def _backdrop(image, brain) -> np.ndarray:
    """A scan scaled to .02..8 inside the brain between its 1st and 99.5th percentile (the brightest is left to the map), 0 outside."""
    low, high = np.quantile(image[brain], [0.01, 0.995]) if brain.any() else (0, 1)
    return np.where(brain, np.clip(0.8 * (image - low) / max(high - low, 1e-12), 0.02, 0.8), 0)


def _cuts(weights, brain, axis: str) -> tuple[int, ...]:
    """Coordinates (mm) of the five heaviest slices across one axis, about 1 cm apart, none at the rim of the brain."""
    area = brain.sum(axis=tuple({0, 1, 2} - {"xyz".index(axis)}), keepdims=True)
    wide = _nifti(np.where(area >= area.max() / 4, weights, 0))
    return tuple(round(float(mm)) for mm in plotting.find_cut_slices(wide, axis, 5, spacing=5))


def _voxels(values, cuts) -> pd.DataFrame:
    """Coordinates (mm) and values of the voxels that axial slices at `cuts` show."""
    at = np.rint((np.array(cuts) - images.AFFINE[2, 3]) / images.AFFINE[2, 2]).astype(int)
    x, y, z = np.nonzero(values[:, :, at])
    mm = nib.affines.apply_affine(images.AFFINE, np.c_[x, y, at[z]]).round(1)
    return pd.DataFrame(mm, columns=["x_mm", "y_mm", "z_mm"]).assign(value=values[x, y, at[z]])
