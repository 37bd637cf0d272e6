"""Figures that set classifiers beside each other: AUCs and their differences with intervals, calibration, filled lesions."""

import numpy as np
import pandas as pd

from msxai.report.figures import sheet

SETS = {
    "holdout": ("#000000", "o"),
    "further": ("#009E73", "s"),
}  # colour and marker of each set of subjects; any other as the holdout
CHANGES = {
    "untouched": ("#000000", "o"),
    "filled": ("#009E73", "s"),
    "sham": ("#CC79A7", "D"),
}  # as SETS
PANELS = {"auc": "AUC", "lesion load": "AUC less lesion load", "scratch": "AUC less scratch"}


@sheet.drawn
def compared(table: pd.DataFrame, *, synthetic: bool):
    """Forest plot: AUC of each variant with its interval, and its paired differences; holdout and further subjects beside each other.

    Parameters
    ----------
    table : pandas.DataFrame
        `msxai.evaluation.comparison.table` of each set of subjects, the set's name in the column part.
    synthetic : bool
        Mark the figure.
    """
    title = "Variants and baselines compared: 95 % intervals over subjects"
    found = table[table["measure"].isin(["auc", "auc_difference"]) & table["value"].notna()].copy()
    if found.empty:
        return sheet.words(
            title, "Nothing to draw: fewer than two labelled subjects of each group.", synthetic
        )
    found["panel"] = found["reference"].where(found["measure"] == "auc_difference", "auc")
    panels = [name for name in PANELS if (found["panel"] == name).any()]
    names, sets = list(dict.fromkeys(found["variant"])), list(dict.fromkeys(found["part"]))
    high, left = 0.3 * len(names) + 0.1, 0.4 + 0.066 * max(map(len, names))
    notes = [
        "One score a subject, the mean over trials. AUC: DeLong; differences: paired DeLong, no correction for their number.",
        "Dashed: chance, or no difference.",
    ]
    figure, bottom = sheet.sheet(
        left + 2.5 * len(panels) + 1.6, high + 0.6, title, notes, synthetic
    )
    for index, panel in enumerate(panels):
        axes = sheet.place(
            figure, left + 2.5 * index, bottom + 0.45, 2.3, high, title=PANELS[panel]
        )
        axes.axvline(0.5 if panel == "auc" else 0, ls="--", lw=0.8, color="#999999")
        for number, part in enumerate(sets):
            rows = found[(found["panel"] == panel) & (found["part"] == part)]
            y = np.array([names.index(name) for name in rows["variant"]]) + 0.28 * (
                number - (len(sets) - 1) / 2
            )
            colour, marker = SETS.get(part, SETS["holdout"])
            sizes = (
                f"{rows['patients'].iloc[0]} patients,\n{rows['controls'].iloc[0]} controls"
                if len(rows)
                else ""
            )
            axes.errorbar(
                rows["value"],
                y,
                xerr=_reach(rows, "value"),
                fmt=marker,
                ms=4,
                lw=1,
                color=colour,
                label=f"{part}:\n{sizes}",
            )
        axes.set(
            ylim=(len(names) - 0.5, -0.5),
            yticks=range(len(names)),
            yticklabels=names if index == 0 else [],
        )
        if panel == "auc":
            axes.set_xlim(right=1.02)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, found.drop(columns="panel")


@sheet.drawn
def calibration(table: pd.DataFrame, *, synthetic: bool):
    """Calibration curves: the share of patients in bins of the score, with exact intervals; one panel a variant.

    Parameters
    ----------
    table : pandas.DataFrame
        `msxai.evaluation.comparison.calibration` of each set of subjects, the set's name in the column part.
    synthetic : bool
        Mark the figure.
    """
    title = "Calibration: what share of a score's subjects are patients"
    if table.empty:
        return sheet.words(title, "Nothing to draw: no labelled scans.", synthetic)
    names, sets = list(dict.fromkeys(table["variant"])), list(dict.fromkeys(table["part"]))
    across = min(len(names), 4)
    down = -(-len(names) // across)
    notes = [
        "Bins of equally many scans, exact 95 % intervals. Dashed: a calibrated score. Scores of support vector machines are a "
        "logistic function of the distance, and were never meant to be probabilities."
    ]
    figure, bottom = sheet.sheet(max(1.6 + 2.1 * across, 5), 2.35 * down, title, notes, synthetic)
    for index, name in enumerate(names):
        below, at = divmod(index, across)
        axes = sheet.place(
            figure,
            0.55 + 2.1 * at,
            bottom + 2.35 * (down - 1 - below) + 0.4,
            1.65,
            1.65,
            title=name,
        )
        axes.plot([0, 1], [0, 1], "--", color="#999999", lw=0.8)
        for part in sets:
            rows = table[(table["variant"] == name) & (table["part"] == part)]
            colour, marker = SETS.get(part, SETS["holdout"])
            reach = _reach(rows, "patients")
            axes.errorbar(
                rows["score"],
                rows["patients"],
                yerr=reach,
                fmt=f"{marker}-",
                ms=3,
                lw=0.8,
                color=colour,
                label=part,
            )
        axes.set(
            xlim=(-0.03, 1.03),
            ylim=(-0.03, 1.03),
            xlabel="mean score",
            ylabel="share of patients" if at == 0 else "",
        )
        if index == across - 1:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure, table


@sheet.drawn
def counterfactual(table: pd.DataFrame, *, synthetic: bool, left_out: str = ""):
    """What filling lesions, and filling sham sites, does to each variant: AUC, its change, and how far the logits of either group move.

    Parameters
    ----------
    table : pandas.DataFrame
        `msxai.evaluation.counterfactuals.table`.
    synthetic : bool
        Mark the figure.
    left_out : str
        Why there is nothing to draw.
    """
    title = (
        "The same subjects with their lesions filled, and with other white matter filled instead"
    )
    if table.empty:
        return sheet.words(title, f"Nothing to draw: {left_out or 'no predictions'}.", synthetic)
    found = table[table["reference"] != "sham"]
    names, panels = (
        list(dict.fromkeys(found["variant"])),
        {"auc": "AUC", "auc_difference": "AUC less untouched"},
    )
    panels |= {
        f"{group}_logit_change": f"logit less untouched,\n{found[group].iloc[0]} {group}"
        for group in ("patients", "controls")
    }
    high, left = 0.5 * len(names) + 0.1, 0.4 + 0.066 * max(map(len, names))
    first = (
        found[found["variant"] == names[0]].set_index("change")[
            ["patients_volume", "controls_volume"]
        ]
        / 1000
    )
    filled, sham = (
        "{:.1f} and {:.1f} ml".format(*first.loc[change]) for change in ("filled", "sham")
    )
    notes = [
        "One score a subject, the mean over trials; 95 % intervals over subjects. AUC: DeLong; its change: paired DeLong; logits: "
        "Student's. Filled: all lesions with their rim, of patients and controls. Sham: mirrored lesions, where that is "
        f"normal-appearing white matter; for a control those of a patient. Filled were {filled} (mean of patients, of controls), sham "
        f"sites {sham}.",
        "Dashed: chance, or no change.",
    ]
    figure, bottom = sheet.sheet(
        left + 2.0 * len(panels) + 1.2, high + 0.75, title, notes, synthetic
    )
    for index, (panel, name) in enumerate(panels.items()):
        axes = sheet.place(figure, left + 2.0 * index, bottom + 0.3, 1.75, high, title=name)
        axes.axvline(0.5 if panel == "auc" else 0, ls="--", lw=0.8, color="#999999")
        for number, (change, (colour, marker)) in enumerate(CHANGES.items()):
            rows = found[found["change"] == change].rename(
                columns={f"{panel}_low": "low", f"{panel}_high": "high"}
            )
            rows = rows[rows[panel].notna()]
            y = np.array([names.index(one) for one in rows["variant"]]) + 0.22 * (number - 1)
            axes.errorbar(
                rows[panel],
                y,
                xerr=_reach(rows, panel),
                fmt=marker,
                ms=4,
                lw=1,
                color=colour,
                label=change,
            )
        axes.set(
            ylim=(len(names) - 0.5, -0.5),
            yticks=range(len(names)),
            yticklabels=names if index == 0 else [],
        )
    axes.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1.0, 0.5)
    )
    return figure, table


def _reach(rows: pd.DataFrame, column: str) -> np.ndarray:
    """How far the interval reaches to both sides of a value; rounding may not make it negative."""
    return np.maximum([rows[column] - rows["low"], rows["high"] - rows[column]], 0)
