"""Figures of the results: our numbers beside the paper's, and ROC curves."""

import itertools

import numpy as np
import pandas as pd

from msxai.base import statistics
from msxai.report.figures import sheet

MEASURES = {
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "auc": "AUC",
}


@sheet.drawn
def results_table(scores: pd.DataFrame, paper: pd.DataFrame, *, synthetic: bool):
    """Our results beside the paper's; models of the paper without a result of ours are there too.

    Parameters
    ----------
    scores : pandas.DataFrame
        `msxai.base.statistics.score_table`.
    paper : pandas.DataFrame
        `msxai.base.statistics.paper_results`.
    synthetic : bool
        Mark the figure.
    """
    printed = paper[paper["section"] == "holdout"]
    theirs = printed.set_index(["variant", "quantity"])[["mean", "low", "high"]]
    ours = scores.set_index("variant")
    lines = [
        ["", *itertools.chain.from_iterable((name, "") for name in MEASURES.values())],
        ["", *["here", "paper"] * 4],
    ]
    source = []
    for variant in dict.fromkeys([*ours.index, *printed["variant"]]):
        line = [
            variant
            + (f"\n{sheet.trials(ours.at[variant, 'trials'])}" if variant in ours.index else "")
        ]
        for measure in MEASURES:
            row = {"variant": variant, "measure": measure}
            if variant in ours.index:
                row["trials"] = ours.at[variant, "trials"]
                row |= {
                    key or "mean": 100 * ours.at[variant, measure + (key and f"_{key}")]
                    for key in ("", "min", "max", "low", "high")
                }
            if (variant, measure) in theirs.index:
                row |= theirs.loc[(variant, measure)].add_prefix("paper_").to_dict()
            line += [
                _score(row, "mean", "min", "max", "low", "high"),
                _score(row, "paper_mean", "paper_low", "paper_high"),
            ]
            source.append(row)
        lines.append(line)
    sizes = " and ".join(
        f"{size} {name}" for name in ("patients", "controls") for size in [sheet.span(scores[name])]
    )
    notes = [
        f"Here: mean (lowest–highest trial: seed) and [95 % interval over subjects: sample]; {sizes}. –: not computed or printed.",
        "Paper: mean (range) of 10 trials; 13 patients and 10 controls; doi:10.1016/j.nicl.2019.102003.",
    ]
    return sheet.grid(lines, 1.2, "Results on the holdout (%)", notes, synthetic), pd.DataFrame(
        source
    )


def _score(row: dict, mean: str, low: str, high: str, *interval) -> str:
    """Mean (range) and, below, [interval]: what stands in the results table."""
    if pd.isna(row.get(mean)):
        return "–"
    text = f"{row[mean]:.1f}"
    if not pd.isna(row[low]) and (
        not interval or row["trials"] != 1
    ):  # the paper's trials are not ours
        text += f" ({row[low]:.1f}–{row[high]:.1f})"
    return text + ("\n[{:.1f}–{:.1f}]".format(*(row[key] for key in interval)) if interval else "")


@sheet.drawn
def roc(predictions: pd.DataFrame, seed: int = 0, *, synthetic: bool):
    """ROC curves: one panel a variant, trials thin, their mean thick with a band of one SD over trials, chance dashed.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As in `msxai.base.statistics.score_table`.
    seed : int
        Of the bootstrap that gives the interval.
    synthetic : bool
        Mark the figure.
    """
    scores = statistics.score_table(predictions, seed)
    if scores.empty or scores["auc"].isna().all():
        return sheet.words(
            "ROC curves", "Nothing to draw: no labelled scans of both groups.", synthetic
        )
    across = min(len(scores), 4)
    down = -(-len(scores) // across)
    notes = [
        "Thin: trials. Thick, band: mean ± 1 SD over trials (seed). 95 %: interval of the mean AUC over subjects (sample)."
    ]
    title = (
        f"ROC: {sheet.span(scores['patients'])} patients, {sheet.span(scores['controls'])} controls"
    )
    figure, bottom = sheet.sheet(max(0.5 + 2.4 * across, 5), 2.75 * down, title, notes, synthetic)
    source = []
    for index, row in scores.iterrows():
        labels, _, trials = statistics.trial_scores(
            predictions[predictions["variant"] == row["variant"]]
        )
        band = statistics.roc_band(labels, trials)
        source.append(
            band.assign(
                variant=row["variant"],
                auc=row["auc"],
                auc_low=row["auc_low"],
                auc_high=row["auc_high"],
            )
        )
        below, at = divmod(index, across)
        axes = sheet.place(
            figure, 0.55 + 2.4 * at, bottom + 2.75 * (down - 1 - below) + 0.45, 1.95, 1.95
        )
        x = band["false_positive_rate"]
        axes.plot([0, 1], [0, 1], "--", color="#999999", lw=0.8)
        axes.text(
            0.42,
            0.38,
            "chance",
            color="#777777",
            rotation=45,
            rotation_mode="anchor",
            va="top",
            fontsize=7,
        )
        if len(trials) > 1:
            axes.fill_between(
                x,
                (band["mean"] - band["sd"]).clip(0),
                (band["mean"] + band["sd"]).clip(upper=1),
                color="#CCCCCC",
                lw=0,
            )
        for name in [name for name in band if name.startswith("trial_")]:
            axes.plot(np.r_[0, x], np.r_[0, band[name]], color="#666666", lw=0.6)
        axes.plot(np.r_[0, x], np.r_[0, band["mean"]], color="black", lw=2)
        spread = f" {row['auc_min']:.2f}–{row['auc_max']:.2f}" if len(trials) > 1 else ""
        text = f"AUC {row['auc']:.2f}\n{sheet.trials(len(trials))}{spread}\n95 % {row['auc_low']:.2f}–{row['auc_high']:.2f}"
        axes.text(
            1,
            0.03,
            text,
            ha="right",
            va="bottom",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8},
        )
        axes.set(
            title=row["variant"],
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
            aspect="equal",
            xlabel="1 − specificity",
            ylabel="sensitivity" if at == 0 else "",
        )
    return figure, pd.concat(source, ignore_index=True)
