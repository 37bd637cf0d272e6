"""The figures of the paper, drawn by nilearn and matplotlib. Each function returns the figure and the numbers it shows.

Maps are in neurological convention (the left of the picture is the left of the brain) with MNI coordinates in mm. A figure with nothing
to draw says so in words. Patients and controls keep one pair of colours, safe for colour-blind readers, through all figures.
"""

import functools
import itertools
import json
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
TRAINING, VALIDATION, OUTLINE = "#767676", "#009E73", "#F0E442"
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 8, "axes.titlesize": 9, "axes.labelsize": 8, "legend.fontsize": 8, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "svg.hashsalt": "msxai",
}  # fmt: skip
DPI = 150
AXIAL = (-24, -10, 4, 18, 32, 46, 60)
SYNTHETIC, NOTICE = "Synthetic: simulated subjects, no patient data.", "Research software. Not for clinical use."
QUANTITIES = {
    "subjects": "Subjects", "scans": "Scans", "age": "Age (years)", "sex": "Sex (F / M)", "edss": "EDSS", "lesion_volume": "Lesion volume (mm³)",
}  # fmt: skip
MEASURES = {"balanced_accuracy": "Balanced accuracy", "sensitivity": "Sensitivity", "specificity": "Specificity", "auc": "AUC"}
_BRAIN = np.array([146.0, 180.0, 150.0])  # mm, about: what a row of slices needs in height


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
    integrity.write_json(folder / f"{stem}.json", {**json.loads(json.dumps(provenance, default=str)), "outputs": outputs})
    return [*paths, folder / f"{stem}.json"]


def _drawn(function):
    """Draw in the common style and close the figure, so that a notebook shows it once: where it is returned."""

    @functools.wraps(function)
    def draw(*args, **kwargs):
        with plt.rc_context(STYLE):
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
    for section, rows in (paper.groupby("section") if paper is not None else ()):
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
    figure = _table(lines, [1.4, *[0.95] * len(parts) * len(groups)], 2, len(notes))
    _title(figure, f"Cohort: {len(people)} subjects, {len(table)} scans", notes, synthetic)
    return figure, source


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
    form = "{:,.0f}" if pd.isna(row["sd"]) or abs(row["mean"]) >= 100 else "{:.1f}"
    if pd.isna(row["sd"]):
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
    table, maps, counts = prepared.table, {}, {}
    for label in (1, 0):
        rows = np.flatnonzero((table["label"] == label).fillna(False) & prepared.has_lesions)
        if len(rows):
            name = str(table["group"].iloc[rows[0]])
            maps[name], counts[name] = 100 * np.mean([prepared.lesions(row) for row in rows], axis=0, dtype="float32"), len(rows)
    title = "Lesion frequency: share of subjects with a lesion at each voxel"
    if not maps:
        return _words(title, "Nothing to draw: the cohort has no lesion masks.", synthetic)
    anatomy = mean_anatomy(prepared, np.flatnonzero(prepared.has_lesions))
    seen = np.concatenate([values[values > 0] for values in maps.values()])
    top = float(np.quantile(seen, 0.995)) if len(seen) else 1.0
    rows = [_Row(f"{name}\nn = {counts[name]}", anatomy, values, "z", AXIAL) for name, values in maps.items()]
    figure = _rows([rows], [""], 9, SEQUENTIAL, 0, top, "subjects (%)")
    _title(figure, title, ["Axial slices, mean anatomy of both groups. Coloured wherever one subject or more has a lesion."], synthetic)
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
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.1))
    figure.subplots_adjust(left=0.08, right=0.84, bottom=0.24, top=0.84, wspace=0.28)
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
    plural = "1 trial" if len(histories) == 1 else f"{len(histories)} trials"
    notes = [] if len(histories) == 1 else ["Thin: one trial each. Thick: mean of the trials that still run at that epoch."]
    _title(figure, f"{title}: {plural}", notes, synthetic)
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
    across = int(np.ceil(np.sqrt(count / 2)))
    down = -(-count // across)
    top = max(float(np.abs(values).max()) for values in kernels.values())
    height = 1.15 + 3.9 * (4 * down - 1) / (12 * across - 2)
    figure = plt.figure(figsize=(9, height))
    for index, (name, values) in enumerate(kernels.items()):
        mosaic = np.full((12 * across - 1, 4 * down - 1), np.nan)
        for number, depth in itertools.product(range(count), range(3)):
            row, column = divmod(number, across)
            mosaic[12 * column + 4 * depth - depth:, 4 * row:][:3, :3] = values[:, :, depth, number]
        axes = figure.add_axes((0.02 + 0.45 * index, 0.55 / height, 0.43, 1 - 1.15 / height), title=name)
        axes.imshow(mosaic.T, cmap=SYMMETRIC, vmin=-top, vmax=top, interpolation="nearest", origin="lower")
        axes.axis("off")
    _bar(figure, SYMMETRIC, -top, top, "weight")
    _title(figure, f"First-layer filters: {count} kernels of 3×3×3",
           ["A kernel is three axial slices side by side, lowest first; it stands at the same place on both sides."], synthetic)  # fmt: skip
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
    lines = [["", *itertools.chain.from_iterable((name, "") for name in MEASURES.values())], ["%", *["here", "paper"] * 4]]
    source = []
    for variant in dict.fromkeys([*ours.index, *printed["variant"]]):
        line = [variant.replace("-", " ") + (f"\n{ours.at[variant, 'trials']} trial(s)" if variant in ours.index else "")]
        for measure in MEASURES:
            row = {"variant": variant, "measure": measure}
            if variant in ours.index:
                row |= {key or "mean": 100 * ours.at[variant, measure + (key and f"_{key}")] for key in ("", "min", "max", "low", "high")}
            if (variant, measure) in theirs.index:
                row |= theirs.loc[(variant, measure)].add_prefix("paper_").to_dict()
            line += [_score(row, "mean", "min", "max", "low", "high"), _score(row, "paper_mean", "paper_low", "paper_high")]
            source.append(row)
        lines.append(line)
    sizes = " and ".join(f"{size} {name}" for name in ("patients", "controls") for size in [_span(scores[name])])
    notes = [f"Here: mean (lowest–highest trial: what the seed changes) and [95 % interval over subjects: what the sample changes]; {sizes}.",
             "Paper: 13 patients and 10 controls, mean (range) of 10 trials, doi:10.1016/j.nicl.2019.102003. –: not computed, or not printed."]
    figure = _table(lines, [1.15, *[1.15, 0.95] * 4], 2, len(notes))
    _title(figure, "Results on the holdout", notes, synthetic)
    return figure, pd.DataFrame(source)


def _score(row: dict, mean: str, low: str, high: str, *interval) -> str:
    """Mean (range) and, below, [interval]: what stands in the results table."""
    if pd.isna(row.get(mean)):
        return "–"
    text = f"{row[mean]:.1f}"
    if not pd.isna(row[low]) and row[high] > row[low]:
        text += f" ({row[low]:.1f}–{row[high]:.1f})"
    return text + ("\n[{:.1f}–{:.1f}]".format(*(row[key] for key in interval)) if interval else "")


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
    width, height = 0.5 + 2.4 * across, 1.1 + 2.75 * down
    figure = plt.figure(figsize=(width, height))
    source = []
    for index, row in scores.iterrows():
        labels, _, trials = statistics.trial_scores(predictions[predictions["variant"] == row["variant"]])
        band = statistics.roc_band(labels, trials)
        source.append(band.assign(variant=row["variant"], auc=row["auc"], auc_low=row["auc_low"], auc_high=row["auc_high"]))
        at, below = divmod(index, across)[1], divmod(index, across)[0]
        axes = figure.add_axes(((0.55 + 2.4 * at) / width, (height - 0.75 - 2.75 * below - 1.95) / height, 1.95 / width, 1.95 / height))
        x = band["false_positive_rate"]
        axes.plot([0, 1], [0, 1], "--", color="#999999", lw=0.8)
        if len(trials) > 1:
            axes.fill_between(x, (band["mean"] - band["sd"]).clip(0), (band["mean"] + band["sd"]).clip(upper=1), color="#CCCCCC", lw=0)
        for name in [name for name in band if name.startswith("trial_")]:
            axes.plot(np.r_[0, x], np.r_[0, band[name]], color="#666666", lw=0.6)
        axes.plot(np.r_[0, x], np.r_[0, band["mean"]], color="black", lw=2)
        spread = f"\ntrials {row['auc_min']:.2f}–{row['auc_max']:.2f}" if len(trials) > 1 else "\n1 trial"
        axes.text(1, 0.03, f"AUC {row['auc']:.2f}{spread}\n95 % {row['auc_low']:.2f}–{row['auc_high']:.2f}", ha="right", va="bottom",
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8})  # fmt: skip
        axes.set(title=row["variant"].replace("-", " "), xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal",
                 xlabel="1 − specificity", ylabel="sensitivity" if at == 0 else "")  # fmt: skip
    notes = ["Thin: trials. Thick and band: mean ± 1 SD over trials (seed). 95 %: interval of the mean AUC over subjects (sample). Dashed: chance."]
    _title(figure, f"ROC: {_span(scores['patients'])} patients, {_span(scores['controls'])} controls", notes, synthetic)
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
        The group to draw, as in its column.
    positive : bool
        Positive relevance only, in place of net relevance.
    synthetic : bool
        Mark the figure.
    """
    found = table[table["group"] == group].sort_values(["probability", "participant_id"], ascending=False)
    title = f"{'Positive' if positive else 'Net'} relevance, {group}: {{}} of {len(found)} scans, from the highest probability to the lowest"
    if found.empty:
        return _words(title.format(0), f"Nothing to draw: no heatmap of a scan of group {group}.", synthetic, notice=True)
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
    return _individuals(prepared, entry.to_frame().T, f"{'Positive' if positive else 'Net'} relevance", positive, synthetic, rows=[row])


def _individuals(prepared, table, title, positive, synthetic, rows=None):
    rows = rows or [prepared.row(*scan) for scan in table[["participant_id", "session_id"]].to_numpy()]
    maps = [images.to_grid(images.load(path)) for path in table["path"]]
    maps = [np.maximum(values, 0) for values in maps] if positive else maps
    brains = [prepared.brain(row) for row in rows]
    low, top = _limits(maps, brains)
    blocks, titles, source = [], [], []
    for row, values, brain, scan in zip(rows, maps, brains, table.to_dict("records"), strict=True):
        backdrop, lesions = _backdrop(prepared.image(row), brain), prepared.lesions(row)
        cuts = {axis: tuple(_cuts(values, axis, 5)) for axis in "zyx"}
        blocks.append([_Row("", backdrop, values, axis, cuts[axis], low, lesions) for axis in "zyx"])
        name = " ".join(filter(None, [scan["participant_id"], scan["session_id"]]))
        volume = lesions.sum() * abs(np.linalg.det(prepared.affine[:3, :3]))
        mask = f"lesions {volume:,.0f} mm³" if prepared.has_lesions[row] else "no lesion mask"
        titles.append(f"{name}: {scan['group']}, probability {scan['probability']:.2f}, mean logit {scan['logit']:+.2f}, {mask}")
        kept = {key: scan[key] for key in ("participant_id", "session_id", "group", "probability", "logit", "sha256")}
        source.append({**kept, "file": Path(scan["path"]).name, "lesion_volume": volume if prepared.has_lesions[row] else np.nan,
                       "threshold": low, "full_colour": top, **{f"{axis}_mm": " ".join(map(str, cuts[axis])) for axis in "xyz"}})  # fmt: skip
    figure = _rows(blocks, titles, 10 if len(blocks) > 1 else 6, SEQUENTIAL if positive else SYMMETRIC, 0 if positive else -top, top, RELEVANCE)
    _title(figure, title.format(len(blocks)), _heat_notes(low, True), synthetic, notice=True)
    return figure, pd.DataFrame(source)


@_drawn
def average(groups: dict, anatomy, title: str, *, synthetic: bool):
    """Mean heatmaps of groups of scans: net relevance, and positive relevance alone.

    Parameters
    ----------
    groups : dict
        Name ("MS", "true negatives") to rows of `msxai.heatmaps.read`; empty ones are said in words.
    anatomy : ndarray of shape (96, 114, 96)
        `mean_anatomy`.
    title : str
        Of the figure.
    synthetic : bool
        Mark the figure.
    """
    from . import heatmaps  # brings TensorFlow, which no other figure needs

    filled = {name: table for name, table in groups.items() if len(table)}
    empty = [f"{name}: nothing to draw, there is no such scan." for name, table in groups.items() if not len(table)]
    if not filled:
        return _words(title, " ".join(empty), synthetic, notice=True)
    blocks, source, brain = [], [], anatomy > 0
    for positive in (False, True):
        maps = {name: heatmaps.mean(table["path"], positive) for name, table in filled.items()}
        low, top = _limits(maps.values(), [brain])
        blocks.append([_Row(f"{name}\nn = {len(filled[name])}", anatomy, values, "z", AXIAL, low) for name, values in maps.items()])
