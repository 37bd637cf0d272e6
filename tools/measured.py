"""Writes docs/measured.md and README's results from the committed tables; says how old proofs are.

Usage: python tools/measured.py [--check]

Every number is read from a file under benchmarks/ or figures/, so that the texts cannot differ from
them. `--check` writes nothing and exits with 1 where a text on disk is another one.
For each proof it prints how many commits have changed the package or the script since then.
"""

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import plan

from msxai.base import tsv

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "measured.md"
README = ROOT / "README.md"
BENCHMARKS = ROOT / "benchmarks"
DEMO = ROOT / "figures" / "demo"
QUALITY = ROOT / "figures" / "quality"

INTRODUCTION = """\
# Measured

<!-- Written by tools/measured.py from the committed tables: edit that, then run `make docs`. -->

All numbers on this page come from simulated subjects unless the section says otherwise. They show
how the method behaves. They say nothing about people.

The tables under `figures/demo` come from the present simulated cohorts. The proofs (`benchmarks`)
with pre-trained networks, and the league under `figures/quality`, are older: they were made before
the cohort of pre-training changed (`CHANGELOG.md` says how). In the earlier cohort many subjects
had the anatomy and the label of a subject of the fine-tuning cohort, the holdout included. The 200
further subjects were not affected.

The two columns "95 % CI" hold the two ends of a 95 % confidence interval. A difference whose
interval includes 0 cannot be distinguished from no difference. Each section names the file that
holds its numbers and the command that makes the file again. Such a command is called a proof. Each
proof trained its own networks. Networks differ from one training to the next, so the same measure
can differ between sections. Terms are explained in the [Glossary](glossary.md)."""

VARIANT_NAMES = {
    "scratch": "from scratch",
    "pretrained": "pre-trained on AD",
    "lesion-filled": "trained on lesion-filled scans",
    "pairs": "trained in pairs",
    "pretrained-lesions": "pre-trained on simulated lesions",
}
SIGHT_NAMES = VARIANT_NAMES | {
    "lesions, no fine-tuning": "pre-trained on simulated lesions, not fine-tuned",
    "pretrained-randomised": "pre-trained on AD, fine-tuned on randomised scans",
    "pretrained-lesions-randomised": (
        "pre-trained on simulated lesions, fine-tuned on randomised scans"
    ),
    "pairs-randomised": "trained in pairs of randomised scans",
    "untrained network, logistic regression": "random network, logistic regression on its features",
    "linear SVM, C selected": "linear SVM on voxels",
}
BESIDE_NAMES = {
    "brightness": "none: brightness of the scan",
    "shipped": "no training on real scans",
    "beside": "on six patients",
    "beside, other centre": "on the other centre",
}
GROUPS = ("controls", "patients")
KINDS_IN_WORDS = {"as_it_is": "as they are", "filled": "lesions filled", "sham": "sham"}
LADDER_NAMES = {
    "brightness": "none: brightness of the scan",
    "voxel classifier trained with masks": "classifier of voxels, trained with masks",
    "demo's network, pre-trained, epsilon": "pre-trained on AD, epsilon",
}
LADDER = [
    "demo's network, pre-trained, epsilon",
    "from scratch, epsilon",
    "from scratch, epsilon_gamma",
    "from scratch, as many scans as in pairs, epsilon_gamma",
    "in pairs, epsilon",
    "in pairs, epsilon_gamma",
    "in pairs, epsilon_gamma, 8 copies",
    "in pairs, epsilon_gamma, mean of 4",
    "in pairs, epsilon_gamma, mean of 4, 8 copies",
    "in pairs, epsilon_half_gamma_box, mean of 4, 8 copies",
    "brightness",
    "voxel classifier trained with masks",
]


@dataclass
class Section:
    """One section of the page: a heading, sentences and tables, and where its numbers come from."""

    title: str
    blocks: list
    files: list
    command: str

    def markdown(self) -> str:
        """Return the section as Markdown."""
        links = []
        for path in self.files:
            name = path.relative_to(ROOT).as_posix()
            links.append(f"[{name}](../{name})")
        source = f"Numbers: {', '.join(links)}. To make them again: `{self.command}`."
        return "\n\n".join([f"## {self.title}", *self.blocks, source])


def number(value, digits: int = 2) -> str:
    """Write a number with a leading zero; "n/a" where it is missing, no minus before 0."""
    if pd.isna(value):
        return "n/a"
    text = f"{value:.{digits}f}"
    is_negative_zero = float(text) == 0 and text.startswith("-")
    return text[1:] if is_negative_zero else text


def markdown_table(header: list, rows: list) -> str:
    """Write a table; columns of numbers are aligned to the right."""
    columns = list(zip(*rows, strict=True))
    alignments = ["---:" if any(map(_is_number, column)) else "---" for column in columns]
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(alignments) + "|"]
    for row in rows:
        cells = [str(cell) for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _is_number(cell) -> bool:
    return re.fullmatch(r"-?[\d.]+(e-\d+)?", str(cell)) is not None


def with_interval(row, name: str) -> list:
    """Return a value and the two ends of its interval as cells."""
    return [number(row[name]), number(row[f"{name}_low"]), number(row[f"{name}_high"])]


def read_json(path: Path) -> dict:
    """Read a proof's record."""
    return json.loads(path.read_text(encoding="utf-8"))


def classification() -> Section:
    """AUCs of networks and baselines on subjects that no network was trained on."""
    comparison_file = DEMO / "fig05b_comparison.tsv"
    generalisation_file = BENCHMARKS / "generalisation.tsv"
    permutation_file = BENCHMARKS / "permutation.json"
    counterfactual_file = BENCHMARKS / "counterfactual.tsv"
    comparison = tsv.read(comparison_file)
    further = comparison[comparison["part"] == "further"]
    aucs = further[further["measure"] == "auc"]
    rows = []
    for row in aucs.to_dict("records"):
        name = VARIANT_NAMES.get(row["variant"], row["variant"])
        if row["variant"] == "lesion load":
            name = "lesion load, SVM (the paper's baseline)"
        if row["variant"] == "lesion-filled":
            name = "trained on lesion-filled scans, tested on them"
        rows.append([name, number(row["value"]), number(row["low"]), number(row["high"])])
    generalisation = tsv.read(generalisation_file).set_index("what")
    volume = generalisation.loc["MS: lesion load"]
    rows.append(["lesion volume itself", *_value_and_ends(volume)])
    counterfactual = tsv.read(counterfactual_file)
    is_pairs = (counterfactual["variant"] == "pairs") & (counterfactual["change"] == "untouched")
    pairs = counterfactual[is_pairs].iloc[0]
    rows.append(["network trained in pairs, 4 trials", *with_interval(pairs, "auc")])
    header = ["classifier", "AUC", "95 % CI, from", "95 % CI, to"]

    is_paired = (further["variant"] == "pretrained") & (further["reference"] == "scratch")
    difference = further[is_paired].iloc[0]
    earlier = generalisation.loc["MS: pretrained - scratch"]
    is_paired = (further["variant"] == "pretrained-lesions") & (further["reference"] == "scratch")
    lesions_minus_scratch = further[is_paired].iloc[0]
    pretraining = generalisation.loc["AD: pretraining"]
    permutation = read_json(permutation_file)["result"]
    other_rows = [
        [
            "AUC, pre-trained on simulated lesions minus from scratch, paired",
            *_value_and_ends(lesions_minus_scratch),
        ],
        ["AUC, pre-trained on AD minus from scratch, paired", *_value_and_ends(difference)],
        ["the same, with the earlier cohort of pre-training", *_value_and_ends(earlier)],
        ["AUC of the pre-training itself, AD or control", *_value_and_ends(pretraining)],
        [
            "AUC with labels permuted before the split (99 % CI)",
            number(permutation["auc"]),
            number(permutation["low_99"]),
            number(permutation["high_99"]),
        ],
    ]
    blocks = [
        "Each classifier has to distinguish MS from controls in 200 simulated subjects (103 "
        "patients, 97 controls). No classifier was trained on these subjects. All networks have "
        "width 16. The score of a network is the mean of its trials. The next section has their "
        "number, unless the row says otherwise.",
        markdown_table(header, rows),
        markdown_table(["measure", "value", "CI, from", "CI, to"], other_rows),
        "Pre-training on Alzheimer's disease (AD) does not raise the AUC here, unlike in the "
        "paper. Pre-training on simulated scans with and without lesions raises it. That network "
        "knows what a simulated lesion looks like, so its benefit on real scans can be smaller. "
        "Lesion load alone has a higher AUC than every network.",
    ]
    files = [comparison_file, generalisation_file, permutation_file, counterfactual_file]
    command = "make figures && make proof-generalisation proof-permutation proof-counterfactual"
    return Section("MS or control on further subjects", blocks, files, command)


def _value_and_ends(row) -> list:
    return [number(row["value"]), number(row["low"]), number(row["high"])]


def holdout() -> Section:
    """The paper's results table, ours and theirs, in two tables."""
    file = DEMO / "fig05_results.tsv"
    results = tsv.read(file)
    measures = ["balanced_accuracy", "sensitivity", "specificity", "auc"]
    header = ["balanced accuracy (%)", "sensitivity (%)", "specificity (%)", "AUC (%)"]
    ours, paper = [], []
    for variant, group in results.groupby("variant", sort=False):
        by_measure = group.set_index("measure")
        name = VARIANT_NAMES.get(variant, variant)
        trials = str(by_measure["trials"].iloc[0])
        values = [number(by_measure.loc[key, "mean"], 1) for key in measures]
        ours.append([name, trials, *values])
        in_paper = [by_measure.loc[key, "paper_mean"] for key in measures]
        if not pd.isna(in_paper).all():
            paper.append([name] + [number(value, 1) for value in in_paper])
    blocks = [
        "The demo's holdout has 23 simulated subjects, as many as the paper's. The table shows "
        "means over trials.",
        markdown_table(["classifier", "trials", *header], ours),
        "The next table shows the paper's own numbers, on real patients. They are means over 10 "
        "trials.",
        markdown_table(["classifier", *header], paper),
    ]
    return Section("The paper's results table", blocks, [file], "make figures")


def without_lesions() -> Section:
    """What networks lose when lesions, or other sites, are filled."""
    file = BENCHMARKS / "counterfactual.tsv"
    table = tsv.read(file)
    auc_rows, difference_rows = [], []
    is_volume = (table["variant"] == "pairs") & (table["reference"] == "untouched")
    volumes = {
        row["change"]: number(row["patients_volume"] / 1000, 1)
        for row in table[is_volume].to_dict("records")
    }
    change_names = {
        "untouched": "as they are",
        "filled": "lesions filled",
        "sham": "normal-appearing white matter filled",
    }
    for row in table.to_dict("records"):
        name = VARIANT_NAMES[row["variant"]]
        change = change_names[row["change"]]
        if row["change"] != "filled" or row["reference"] == "untouched":
            auc_rows.append([name, change, *with_interval(row, "auc")])
        if row["reference"] == "untouched":
            ends = [number(row[f"auc_difference{end}"], 3) for end in ("", "_low", "_high")]
            difference_rows.append([name, f"{change} minus as they are", *ends])
    blocks = [
        "The same networks predicted three versions of the scans of 200 simulated subjects: as "
        "they are, with their lesions filled, and with normal-appearing white matter filled at "
        "mirrored sites (sham filling). The page [Lesion filling](lesion-filling.md) explains the "
        "method.",
        markdown_table(["network", "scans", "AUC", "95 % CI, from", "95 % CI, to"], auc_rows),
        "The next table shows paired differences in AUC on the same subjects.",
        markdown_table(
            ["network", "difference", "in AUC", "95 % CI, from", "95 % CI, to"], difference_rows
        ),
        "With their lesions filled, patients can hardly be distinguished from controls. Sham "
        "filling hardly changes the AUC. So the networks use the lesions. However, sham filling "
        f"replaced less tissue of a patient ({volumes['sham']} ml on average) than filling the "
        f"lesions did ({volumes['filled']} ml).",
        "![AUC and change of the logit after filling](../benchmarks/counterfactual.png)",
    ]
    return Section(
        "The same scans without their lesions", blocks, [file], "make proof-counterfactual"
    )


def filling() -> Section:
    """Can filled white matter be distinguished from untouched?"""
    file = BENCHMARKS / "filling.tsv"
    fillings = {"noise": "ours: texture of the neighbourhood", "constant": "the paper's: one value"}
    rows = []
    for row in tsv.read(file).to_dict("records"):
        ends = [number(row[name]) for name in ("auc", "low_95", "high_95")]
        rows.append([fillings[row["filling"]], row["sites"], *ends])
    blocks = [
        "A classifier of small patches has to distinguish filled from untouched white matter. An "
        "AUC of 0.5 is chance: the filling cannot be detected.",
        markdown_table(["filling", "sites", "AUC", "95 % CI, from", "95 % CI, to"], rows),
        "The paper's filling is almost always detected. Ours is detected little better than by "
        "chance.",
    ]
    real_file = BENCHMARKS / "filling_real.tsv"
    real_rows = []
    for row in tsv.read(real_file).to_dict("records"):
        ends = [number(row[name]) for name in ("auc", "low_95", "high_95")]
        real_rows.append([fillings[row["filling"]], row["site"], int(row["patients"]), *ends])
    blocks += [
        "**The next table uses real scans.** Normal-appearing white matter of eight patients was "
        "filled, at the mirrored places of lesions. The classifier learns from the other patients "
        "of the same centre. With two patients, the interval means little.",
        markdown_table(
            ["filling", "centre", "patients", "AUC", "95 % CI, from", "95 % CI, to"], real_rows
        ),
        "In real scans our filling is detected, too, in thick slices above all: the filled tissue "
        "is rougher than the scan, from one slice to the next. A network that is tested on filled "
        "real scans may see this. Sham filling shows whether it does: it hardly changes the "
        "logit of the package's networks (Eight real patients).",
    ]
    commands = "make proof-filling` and `make proof-filling-real"
    return Section("Can the filling be detected?", blocks, [file, real_file], commands)


def shortcuts() -> Section:
    """Planted shortcuts, detected by the heatmaps alone."""
    file = BENCHMARKS / "shortcut.tsv"
    table = tsv.read(file)
    cohorts = {
        "stripe": "shortcut planted: stripe",
        "edge": "shortcut planted: edge",
        "none": "no shortcut",
        "harmless stripe": "stripe in both groups alike",
        "harmless edge": "edge in both groups alike",
    }
    rows = []
    for cohort, name in cohorts.items():
        flags = table.loc[table["cohort"] == cohort, "flagged"]
        rows.append([name, len(flags), int(flags.sum())])
    planted = table.loc[table["cohort"].isin(["stripe", "edge"]), "flagged"]
    harmless = ["none", "harmless stripe", "harmless edge"]
    unplanted = table.loc[table["cohort"].isin(harmless), "flagged"]
    blocks = [
        f"Planted shortcuts were detected in {int(planted.sum())} of {len(planted)} cohorts. There "
        f"were {int(unplanted.sum())} false alarms in {len(unplanted)} other cohorts. A planted "
        "shortcut is a mark that is unrelated to the disease but more frequent in patients: a "
        "stripe of slices, or a moved edge of the brain. Two small networks were trained on each "
        "simulated cohort. Their heatmaps alone decide whether a cohort is flagged.",
        markdown_table(["cohorts", "number", "flagged"], rows),
        "This test is the fourth version. The first version missed 4 of 20 planted shortcuts. The "
        "second version was stopped after 3 false alarms. The third version missed 3 of 20 planted "
        "shortcuts.",
    ]
    return Section("Planted shortcuts", blocks, [file], "make proof-shortcut")


def ladder() -> Section:
    """What makes a heatmap find lesions, on 100 further patients."""
    file = BENCHMARKS / "localisation.tsv"
    table = tsv.read(file).set_index("map")
    auprc_rows, other_rows, difference_rows = [], [], []
    for key in LADDER:
        row = table.loc[key]
        name = LADDER_NAMES.get(key, key)
        auprc_rows.append([name, *with_interval(row, "auprc")])
        other_rows.append([name, *(number(row[measure]) for measure in ("rra", "rma", "pointing"))])
    compared = {
        "AUPRC": "auprc_difference",
        "relevance rank accuracy": "rra_difference",
        "relevance mass accuracy": "rma_difference",
    }
    for key in (
        "in pairs, epsilon_gamma, mean of 4",
        "in pairs, epsilon_gamma, mean of 4, 8 copies",
    ):
        for measure, column in compared.items():
            difference_rows.append([key, measure, *with_interval(table.loc[key], column)])
    density_file = BENCHMARKS / "relevance.tsv"
    ratios = tsv.read(density_file)["ratio"]
    ends = [number(value, 1) for value in (ratios.median(), ratios.min(), ratios.max())]
    density = [len(ratios), *ends]
    blocks = [
        "Maps were compared with the lesion masks of 100 simulated patients. Nothing was trained "
        "or "
        'tuned on these patients. A row names the training and the LRP rule. "Mean of 4" means '
        'the mean map of 4 networks. "8 copies" means the mean map of 8 shifted and mirrored '
        "copies of the scan. The page [Explanation quality](explanation-quality.md) explains the "
        "measures.",
        markdown_table(["map", "AUPRC", "95 % CI, from", "95 % CI, to"], auprc_rows),
        markdown_table(
            ["map", "relevance rank accuracy", "relevance mass accuracy", "pointing game"],
            other_rows,
        ),
        "The next table shows differences: map minus brightness of the scan. Brightness is the "
        "strongest reference map.",
        markdown_table(
            ["map", "measure", "difference", "95 % CI, from", "95 % CI, to"], difference_rows
        ),
        "The paper's rule, epsilon, hardly finds lesions on the demo's network. Training in "
        "pairs, the rule epsilon_gamma, copies and the mean over networks each help. In pairs "
        "means: the network sees each patient next to the same scan with its lesions filled. This "
        "training needs the lesion masks of the training part. Networks by labels see the scans "
        "and labels only. They were trained on two cores by TensorFlow, networks in pairs on a "
        "GPU by PyTorch. The package and the settings were the same.",
        "![AUPRC of each map](../benchmarks/localisation.png)",
        "The last table shows a ratio: positive relevance per voxel inside lesions, divided by "
        "positive relevance per voxel outside. The maps are of the demo's pre-trained network, "
        "with the rule epsilon, for the patients that the network recognises.",
        markdown_table(["patients", "median", "smallest", "largest"], [density]),
    ]
    command = "make quality && make proof-localisation proof-generalisation"
    return Section("Do heatmaps find the lesions?", blocks, [file, density_file], command)


TARGET_NAMES = {
    "rma": "relevance mass accuracy",
    "rra": "relevance rank accuracy",
    "auprc": "AUPRC",
    "best_dice": "best Dice over thresholds",
    "pointing": "pointing game",
    "sensitivity": "share of lesions that the map hits",
    "deletion, insertion": "deletion and insertion, the larger p",
    "conservation without biases": "conservation error of a network without biases",
    "randomisation, rank": "rank correlation after new weights",
    "randomisation, SSIM": "similarity (SSIM) after new weights",
    "seed consistency": "correlation between two trainings",
    "class contrast": "correlation of mean maps of both groups",
    "dose": "correlation with lesion volume",
}


def targets() -> Section:
    """The targets that the project set itself."""
    file = BENCHMARKS / "targets.tsv"
    rows = []
    for row in tsv.read(file).to_dict("records"):
        target = re.sub(r"(?<!\d)\.(\d)", r"0.\1", row["target"])
        numbers = re.findall(r"-?\d[\d.]*(?:e-\d+)?", row["reached"])
        has_interval = " to " in row["reached"]
        value = numbers[0] if has_interval else max(numbers, key=float)
        low, high = numbers[1:] if has_interval else ("", "")
        holds = "yes" if row["holds"] else "no"
        rows.append([TARGET_NAMES[row["measure"]], target, value, low, high, holds])
    blocks = [
        "The project set itself these targets for networks trained in pairs. The file below says "
        "which map each row was measured on, and what limits the value.",
        markdown_table(
            ["measure", "target", "reached", "95 % CI, from", "95 % CI, to", "holds"], rows
        ),
    ]
    return Section("Targets", blocks, [file], "make proof-localisation")


def league() -> Section:
    """Rules and methods on the demo's own holdout scans."""
    blocks = [
        "Every rule and method was run on the 21 holdout scans with lesions (13 patients and 8 "
        "controls), for three networks. The table shows three rules. The files hold all rules and "
        "methods, further checks and reference maps. The difference is the AUPRC of the rule minus "
        "the AUPRC of the brightness of the scan."
    ]
    rows, files = [], []
    for variant in ("pretrained", "scratch", "pairs"):
        file = QUALITY / variant / "league.tsv"
        files.append(file)
        table = tsv.read(file).set_index("map")
        for rule in ("epsilon", "epsilon_gamma", "epsilon_half_gamma_box"):
            difference = with_interval(table.loc[rule], "auprc_difference")
            auprc = number(table.loc[rule, "auprc"])
            rows.append([VARIANT_NAMES[variant], rule, auprc, *difference])
    header = ["network", "rule", "AUPRC", "difference", "95 % CI, from", "95 % CI, to"]
    blocks.append(markdown_table(header, rows))
    controls_file = QUALITY / "pairs" / "controls.tsv"
    files.append(controls_file)
    controls = tsv.read(controls_file)
    control_names = {"untrained": "random weights", "permuted": "trained on permuted labels"}
    is_gamma = (controls["map"] == "epsilon_gamma") & (controls["measure"] == "auprc")
    control_rows = []
    for row in controls[is_gamma].to_dict("records"):
        name = control_names.get(row["control"], row["control"])
        control_rows.append([name, number(row["value"])])
    trained = controls.loc[is_gamma, "trained"].iloc[0]
    control_rows.append(["trained in pairs", number(trained)])
    blocks.append(
        "The next table shows the rule epsilon_gamma on two networks that have not learnt the "
        "disease, and on the trained network."
    )
    blocks.append(markdown_table(["network", "AUPRC"], control_rows))
    return Section("Rules and methods side by side", blocks, files, "make quality")


def search() -> Section:
    """Which rule: chosen on one part of the simulated brains, reported on another."""
    file = BENCHMARKS / "search.json"
    record = read_json(file)
    rows = []
    for network, result in record["result"]["test"].items():
        if network == "all":
            continue
        difference = result["less_strongest_baseline"]["auprc"]
        ends = [number(difference[name]) for name in ("auprc", "auprc_low", "auprc_high")]
        rows.append([network, result["rule"], *ends])
    blocks = [
        "Other brains were simulated for this question. Their lesions vary in size, contrast, "
        "number and place. They also hold decoys: bright spots that are not lesions. For each "
        "network the rule was chosen on 12 brains and is reported on 16 other brains. The "
        "difference is the AUPRC of the chosen rule minus the AUPRC of the brightness of the "
        "scan.",
        markdown_table(
            ["network", "chosen rule", "difference", "95 % CI, from", "95 % CI, to"], rows
        ),
        "No rule finds lesions better than brightness here. The rule that was best over all four "
        "kinds of network is epsilon_half_gamma_box (gamma 0.5). It is the default of "
        "`msxai.lrp.explain`. The paper's figures keep epsilon. Two limits: the results on the 16 "
        "brains had been seen once before the last rules and the networks in pairs were added. "
        "Widths 8 and 32 have one training each.",
        "![AUPRC by rule and network](../benchmarks/search.png)",
    ]
    files = [file, BENCHMARKS / "search.tsv", BENCHMARKS / "search_factors.tsv"]
    return Section("Which rule?", blocks, files, "make quality && make proof-search")


def transfer() -> Section:
    """Networks of simulated scans on two real patients."""
    file = BENCHMARKS / "transfer.tsv"
    table = tsv.read(file)
    rows = []
    for variant in ("pretrained", "scratch", "pairs"):
        for patient in ("sub-patient07", "sub-patient19"):
            is_row = (table["variant"] == variant) & (table["participant_id"] == patient)
            maps = table[is_row].set_index("map")
            rules = maps[maps["kind"] == "rule"]
            rows.append(
                [
                    VARIANT_NAMES[variant],
                    patient.removeprefix("sub-"),
                    number(maps.loc["epsilon", "auprc"]),
                    number(rules["auprc"].max()),
                    number(maps.loc["brightness", "auprc"]),
                    f"{int(rules['pointing'].sum())}",
                ]
            )
    blocks = [
        "**This section uses real scans.** They are of two patients with MS (Lesjak et al. 2017). "
        "The networks have seen simulated scans only. Six LRP rules were run. The last column "
        "counts the rules whose highest voxel lies in a lesion or within one voxel of it.",
        markdown_table(
            [
                "network",
                "patient",
                "AUPRC, epsilon",
                "AUPRC, best rule",
                "AUPRC, brightness",
                "rules that hit (of 6)",
            ],
            rows,
        ),
        "In patient19, brightness finds lesions far better than every rule. In patient07, two "
        "rules find them better than brightness, on networks trained in pairs. Two patients show "
        "that the method runs on real scans. They do not show how well it works.",
    ]
    return Section("Two real patients", blocks, [file], "make proof-transfer")


SIGHT_MEASURES = {
    "auprc": "AUPRC of lesions",
    "auprc_minus_brightness": "AUPRC minus that of brightness, paired",
    "rra": "relevance rank accuracy",
    "rma": "relevance mass accuracy",
    "pointing": "highest voxel in a lesion (share of patients)",
    "sensitivity": "lesions of 3 mm and more hit at 1 false positive a patient",
    "sensitivity_small": "the same, lesions of 3 to 30 mm³",
    "sensitivity_medium": "the same, lesions of 30 to 300 mm³",
    "sensitivity_large": "the same, larger lesions",
    "trials_agree_near_lesions": "correlation of two trials' maps near lesions",
    "class_contrast": "correlation of the mean maps of patients and controls",
}


def sight() -> Section:
    """Which training makes networks see lesions, by labels alone."""
    file = BENCHMARKS / "sight.tsv"
    table = tsv.read(file)
    accuracy = []
    for name in table.loc[table["measure"] == "auc", "variant"]:
        if name in LADDER_OF_SIGHT and name not in SIGHT_NAMES:
            continue  # the next section has it
        own = table[table["variant"] == name].set_index("measure")
        row = [SIGHT_NAMES.get(name, name), *_value_and_ends(own.loc["auc"])]
        measure = "auc_minus_scratch"
        row += _value_and_ends(own.loc[measure]) if measure in own.index else ["n/a"] * 3
        accuracy.append(row)
    maps = []
    for name in table.loc[table["measure"] == "auprc", "variant"]:
        own = table[table["variant"] == name].set_index("measure")
        for measure, words in SIGHT_MEASURES.items():
            if measure in own.index:
                row = [SIGHT_NAMES.get(name, name), words, *_value_and_ends(own.loc[measure])]
                maps.append(row)
    blocks = [
        "Networks of width 16, trained on labels alone. Three pre-trainings for lesions, each on "
        "400 simulated brains of its own, come with the package. Each trial of the variant that "
        "is pre-trained on simulated lesions starts from one of them. Each network scored the "
        "same 200 further simulated subjects. The score of a variant is the mean of its trials.",
        markdown_table(
            ["classifier", "AUC", "95 % CI, from", "95 % CI, to", "minus scratch", "from", "to"],
            accuracy,
        ),
    ]
    if maps:
        patients = int(table.loc[table["measure"] == "auprc", "n"].max())
        blocks += [
            f"Maps of {patients} of these patients: the mean over trials, by the rule "
            "epsilon_gamma and 8 copies. Rule and copies were fixed beforehand.",
            markdown_table(["network", "measure", "value", "95 % CI, from", "95 % CI, to"], maps),
        ]
    aucs = table[table["measure"] == "auc"].set_index("variant")["value"]
    before, after = aucs["lesions, no fine-tuning"], aucs["pretrained-lesions"]
    blocks.append(
        f"Before fine-tuning, the networks pre-trained on simulated lesions have an AUC of "
        f"{number(before, 3)}, after it of {number(after, 3)}. Nearly all of the result is that of "
        "the pre-training, not of the labels of the cohort."
    )
    blocks.append(
        "Everything is simulated. These networks know what a simulated lesion looks like, so real "
        "lesions can be harder for them."
    )
    command = (
        "make figures && .venv/bin/python benchmarks/sight.py runs/demo --maps pretrained-lesions"
    )
    return Section("Networks that see lesions", blocks, [file], command)


LADDER_OF_SIGHT = {
    "scratch": "none, then the paper's fine-tuning",
    "pretrained": "diagnosis, then the paper's fine-tuning",
    "untrained-strong": "none, then the same fine-tuning",
    "diagnosis-strong": "diagnosis, with hypointensities, then the same fine-tuning",
    "diagnosis-without-strong": "diagnosis, without hypointensities, then the same fine-tuning",
    "volume-strong": "lesion volume, then the same fine-tuning",
    "lesions-early-strong": "lesions, ended early, then the same fine-tuning",
    "pretrained-lesions": "lesions, then the same fine-tuning",
    "lesions, no fine-tuning": "lesions, then no fine-tuning",
    "volume, no fine-tuning": "lesion volume, then no fine-tuning",
    "scratch-strong": "none, then a: strong augmentation, longer, averaged weights",
    "scratch-controls": "none, then b: constraint on controls",
    "scratch-everywhere": "none, then c: the same head everywhere",
    "lesions-controls": "lesions, then the same fine-tuning (with a) and b",
    "lesions-everywhere": "lesions, then the same fine-tuning (with a) and c",
}
"""Variants of sight.yaml: the task of pre-training, and the fine-tuning."""


def _ladder_table(of_scans: pd.DataFrame, measure: str, words: str) -> str:
    """Write one measure of each variant, and minus that of training from scratch."""
    rows = []
    for name, training in LADDER_OF_SIGHT.items():
        own = of_scans[of_scans["variant"] == name].set_index("measure")
        if own.empty:
            continue
        row = [training, *_value_and_ends(own.loc[measure])]
        minus = f"{measure}_minus_scratch"
        row += _value_and_ends(own.loc[minus]) if minus in own.index else ["n/a"] * 3
        rows.append(row)
    ends = ["95 % CI, from", "95 % CI, to"]
    header = ["pre-training and fine-tuning", words, *ends, "minus scratch", "from", "to"]
    return markdown_table(header, rows)


KINDS_OF_SCANS = {
    "as simulated": "Scans as they were simulated:",
    "other scanner": "The same scans as other scanners, drawn at random, would show them:",
}


def sight_ladder() -> Section:
    """Tasks of pre-training and steps of fine-tuning in one table."""
    file = BENCHMARKS / "sight_ladder.tsv"
    table = tsv.read(file)
    blocks = [
        "Three networks of width 16 each, trained by labels alone. `The same fine-tuning` has "
        "strong augmentation and averaged weights, and is the same after each task of "
        "pre-training. 200 further simulated subjects (AUC), 100 patients among them (maps: rule "
        "epsilon_gamma, one copy, mean of the three networks). Differences from training from "
        "scratch are paired. Where that of AUC is near 0, that of AUPRC compares maps at the same "
        "accuracy (Oliveira et al. 2024).",
        "`The same fine-tuning` has 14 epochs and a small learning rate (0.0003), so that it keeps "
        "what the network has learnt before. A network that does not know lesions yet does not "
        "learn them in it.",
    ]
    for scans, of_scans in table.groupby("scans", sort=False):
        blocks.append(KINDS_OF_SCANS[scans])
        for measure, words in (("auc", "AUC"), ("auprc", "AUPRC of lesions")):
            blocks.append(_ladder_table(of_scans, measure, words))
    blocks.append(
        "Everything is simulated. Pre-training for lesions or for their volume knows what a "
        "simulated lesion looks like."
    )
    heading = "Tasks of pre-training, steps of fine-tuning"
    return Section(heading, blocks, [file], "make proof-sight")


GROUPS_IN_WORDS = {
    "tissue": "Brightness of tissues",
    "texture and edges": "Texture and edges",
    "rim and brain mask": "Rim and brain mask",
    "histogram": "Histogram of the brain",
    "lesions": "Lesions",
    "by flair_realism.py": "Four measures of another program (flair_realism.py)",
}


def _readable(value: float) -> str:
    """Write a number with as many digits as say something."""
    return number(value, 0 if abs(value) >= 100 else 2)


def real_ways() -> Section:
    """Ways of showing a real scan to the networks that were tried."""
    file = BENCHMARKS / "real_ways.tsv"
    table = tsv.read(file)
    rows = []
    for way, own in table.groupby("way", sort=False):
        values = own.set_index("measure")
        row = [way]
        for name in ("auprc", "auprc_minus_brightness"):
            row += _value_and_ends(values.loc[name])
        row += [number(values.loc[name, "value"]) for name in ("auc_filled", "called_yes_filled")]
        rows.append(row)
    ends = ["from", "to"]
    header = ["scan", "AUPRC", *ends, "minus brightness", *ends, "AUC, original against filled"]
    blocks = [
        "The same eight real patients, the networks of the package, the rule epsilon_gamma. Each "
        "scan was changed before the networks saw it. All changes that were tried are listed, "
        "whether they helped or not. One copy, except in the last row. The AUC says how often a "
        "scan has a higher logit than a scan with filled lesions. The last column is the share of "
        "filled scans that are called MS by the highest threshold that calls all eight patients "
        "MS. This threshold was set on the same patients, so the share flatters.",
        markdown_table([*header, "filled called MS"], rows),
    ]
    heading = "Eight real patients: other ways of showing the scan"
    return Section(heading, blocks, [file], "make proof-real-ways")


def real_against_simulated() -> Section:
    """Where simulated and real FLAIR differ, and what the random scanners cover."""
    file = BENCHMARKS / "real_against_simulated.tsv"
    table = tsv.read(file)
    largest = table.loc[table["d"].abs().sort_values(ascending=False).index].head(3)
    three = []
    for row in largest.to_dict("records"):
        values = [_readable(row[kind]) for kind in ("real", "simulated", "randomised")]
        covered = "yes" if row["covered"] else "no"
        three.append([row["words"], *values, number(row["d"], 1), covered])
    missed = []
    for row in table[~table["covered"]].to_dict("records"):
        values = [_readable(row[name]) for name in ("real", "low", "high")]
        missed.append([row["words"], *values, row["patients_covered"]])
    blocks = [
        "**This section uses real scans**: the same eight patients. They are "
        "compared with 30 simulated patients, as they are and as random scanners show them. A "
        "network is trained on scans of random scanners where `realism` is `randomised`. All "
        "scans were prepared alike, so that brightness is in standard deviations (SDs) of the "
        "brain (z). The column d is the real mean minus the simulated mean in pooled SDs (Cohen's "
        "d). A measure is covered if the real mean lies between the 5 % and the 95 % quantile of "
        "the random scanners.",
        "These three differences are the largest:",
        markdown_table(["measure", "real", "simulated", "randomised", "d", "covered"], three),
        f"The random scanners cover {int(largest['covered'].sum())} of these three differences, "
        f"and {int(table['covered'].sum())} of all {len(table)} measures. They do not cover the "
        "measures of the next table. Some of these describe the patients and not the scanner, "
        "such as the volume of lesions.",
        markdown_table(
            [
                "not covered",
                "real",
                "randomised, 5 %",
                "randomised, 95 %",
                f"patients between, of {table['patients'].max()}",
            ],
            missed,
        ),
        "All measures, for each centre:",
    ]
    centres = [name for name in ("Ljubljana", "Tabriz") if name in table]
    kinds = ["real", *centres, "simulated", "randomised"]
    for group, of_group in table.groupby("group", sort=False):
        rows = []
        for row in of_group.to_dict("records"):
            values = [_readable(row[kind]) for kind in kinds]
            differences = [number(row[name], 1) for name in ("d", "d_randomised")]
            rows.append([row["words"], *values, *differences])
        header = [GROUPS_IN_WORDS[group], *kinds, "d", "d, randomised"]
        blocks.append(markdown_table(header, rows))
    blocks.append(
        "Eight patients of two centres are few. Other centres can differ in other ways. The "
        "columns of the file that end in `_sd` show how scans differ within each kind."
    )
    return Section(
        "Where simulated and real scans differ",
        blocks,
        [file],
        "make proof-real-against-simulated",
    )


def new_lesions() -> Section:
    """Two visits of one real patient: which map ranks the published change first."""
    file = BENCHMARKS / "new_lesions.tsv"
    table = tsv.read(file)
    rows = []
    for name, measures in table.groupby("map", sort=False):
        values = measures.set_index("measure")["value"]
        rows.append([name, *[number(values[measure]) for measure in ("auprc", "rra", "auroc")]])
    blocks = [
        "**This section uses real scans** of one patient of Ljubljana at two visits, and a "
        "published mask of what has changed. Both visits were explained by the networks that the "
        f"package brings. {int(table['voxels'].max())} voxels of the grid have changed.",
        markdown_table(["ranked by", "AUPRC", "relevance rank", "AUROC"], rows),
        "This is one patient. The numbers show that a change can be found, not how often.",
    ]
    return Section("New lesions of a real patient", blocks, [file], "make proof-new-lesions")


def _real_rows(table: pd.DataFrame, site: str) -> pd.DataFrame:
    """Return the rows of the package's networks on real scans of a site, by measure."""
    is_shipped = table["variant"] == "lesions, no fine-tuning"
    is_map = (table["rule"] == "epsilon_gamma") & (table["copies"] == 8)
    return table[is_shipped & is_map & (table["site"] == site)].set_index("measure")


def _real_by_centre(table: pd.DataFrame) -> list:
    rows = []
    for site in table["site"].unique():
        if site == "all":
            continue
        own = _real_rows(table, site)
        auprc = own.loc["auprc"]
        difference = own.loc["auprc_minus_brightness"]
        patients = f"{auprc['n']:.0f}"
        rows.append([site, patients, *_value_and_ends(auprc), *_value_and_ends(difference)])
    return rows


def _without_network(table: pd.DataFrame) -> list:
    """Return the rows of maps that no network has made."""
    names = {
        "brightness": "brightness of the scan",
        "prior": "prior: where simulated lesions lie",
        "voxel classifier trained with masks": "classifier of voxels, simulated scans with masks",
    }
    rows = []
    for variant, name in names.items():
        own = table[table["variant"] == variant].set_index("measure")
        if own.empty:  # measured since 2026-11-29
            continue
        auprc = _value_and_ends(own.loc["auprc"])
        difference = _value_and_ends(own.loc["auprc_minus_brightness"])
        others = [number(own.loc[measure, "value"]) for measure in ("rra", "pointing")]
        rows.append([name, *auprc, *difference, *others])
    return rows


def _real_by_size(table: pd.DataFrame) -> list:
    """Return the sensitivity for lesions of each size, for maps of all kinds."""
    columns = [f"sensitivity_{size}" for size in ("small", "medium", "large")]
    is_map = (table["rule"] == "epsilon_gamma") & (table["copies"] == 8)
    is_baseline = (table["rule"] == "") & (table["copies"] == 1)
    rows = []
    for variant, own in table[is_map | is_baseline].groupby("variant", sort=False):
        values = own.set_index("measure")["value"]
        if columns[0] in values:  # measured since 2026-11-29
            name = (SIGHT_NAMES | LADDER_NAMES).get(variant, variant)
            rows.append([name, *[number(values[column]) for column in columns]])
    return rows


def _offset_of_other_centre(table: pd.DataFrame) -> list:
    """Return the blocks on answers above a threshold that another centre has set."""
    rows = []
    for variant, own in table[table["copies"] == 0].groupby("variant", sort=False):
        measures = own.set_index("measure")
        if "called_yes_other_centre_as_it_is" not in measures.index:
            continue
        for kind, words in KINDS_IN_WORDS.items():
            row = measures.loc[f"called_yes_other_centre_{kind}"]
            rows.append([SIGHT_NAMES.get(variant, variant), words, *_value_and_ends(row)])
    if not rows:
        return []
    return [
        "Such an offset can be measured at another centre and subtracted. Here the threshold for "
        "the patients of one centre is midway between two mean logits of the other centre: scans "
        "as they are, and the same scans with their lesions filled. No scan of a centre decides "
        "its own threshold. The columns are the share of patients above it, with an exact 95 % CI.",
        markdown_table(["network", "scans", "share", "from", "to"], rows),
        "The offset of one centre is not that of another: many scans stay above the threshold "
        "without their lesions.",
    ]


def _real_warnings(table: pd.DataFrame) -> list:
    """Return the blocks on the warnings of the page; none where they were not measured."""
    own = table[table["variant"] == "lesions, no fine-tuning"].set_index("measure")
    if "warnings" not in own.index:  # measured since 2026-11-29
        return []
    shares = []
    for measure in own.index[own.index.str.startswith("warned_")]:
        name = measure.removeprefix("warned_").replace("_", " ")
        shares.append([name, number(own.loc[measure, "value"])])
    relations = []
    for name, words in (("warnings", "number of warnings"), ("distance", "distance of the scan")):
        for measure, of_map in (
            ("auprc", "AUPRC"),
            ("auprc_minus_brightness", "AUPRC minus brightness"),
        ):
            ends = _value_and_ends(own.loc[f"spearman_{name}_{measure}"])
            relations.append([words, of_map, *ends])
    return [
        "The page of a scan warns of a map by four measures. The table has the share of these "
        "patients with each warning, by the networks that the package brings (epsilon_gamma, one "
        "copy).",
        markdown_table(["warning", "share of patients"], shares),
        "Is the map worse where there are more warnings? The distance is that of the scan from "
        "simulated subjects (out of distribution). Spearman's correlation over patients should be "
        "below 0.",
        markdown_table(["", "with", "correlation", "from", "to"], relations),
        "Eight patients can show a strong relation only: a correlation between -0.74 and 0.74 "
        "cannot be distinguished from 0. So this table cannot show that the warnings work, nor "
        "that they do not.",
    ]


def artefact_or_signal() -> Section:
    """Rules of LRP beside SmoothGrad, GradCAM and others."""
    file = BENCHMARKS / "artefact_or_signal.tsv"
    table = tsv.read(file)
    blocks = [
        "One network of each kind, 100 further simulated patients. SmoothGrad has 50 samples; its "
        "noise was chosen on validation patients. `Minus SmoothGrad` is paired. `Edges` is the "
        "rank correlation of the map's magnitude with the edges of the scan in healthy tissue."
    ]
    for name, own in table.groupby("network", sort=False):
        rows = []
        for heatmap, measures in own.groupby("map", sort=False):
            values = measures.set_index("measure")
            auprc = values.loc["auprc"]
            minus = [auprc[f"{end}_minus_smoothgrad"] for end in ("value", "low", "high")]
            row = [heatmap.replace("_", " "), *_value_and_ends(auprc)]
            row += ["n/a" if pd.isna(value) else number(value) for value in minus]
            row += [number(values.loc[measure, "value"]) for measure in ("pointing", "edges")]
            rows.append(row)
        ends = ["from", "to"]
        heads = ["map", "AUPRC", *ends, "minus SmoothGrad", *ends, "pointing", "edges"]
        blocks += [f"Network: {VARIANT_NAMES.get(name, name)}.", markdown_table(heads, rows)]
    command = "make proof-artefact"
    return Section("Artefact or signal?", blocks, [file], command)


def real_patients() -> Section:
    """Networks of simulated scans on eight real patients of two centres."""
    file = BENCHMARKS / "real.tsv"
    of_sites = tsv.read(file)
    table = of_sites[of_sites["site"] == "all"]
    maps = []
    answers = []
    calibrated = []
    keys = ["variant", "rule", "copies"]
    of_networks = table[(table["rule"] != "") | (table["copies"] == 0)]
    for (variant, rule, copies), rows in of_networks.groupby(keys, sort=False, dropna=False):
        name = SIGHT_NAMES.get(variant, variant)
        own = rows.set_index("measure")
        if copies:
            auprc = _value_and_ends(own.loc["auprc"])
            difference = _value_and_ends(own.loc["auprc_minus_brightness"])
            others = [number(own.loc[measure, "value"]) for measure in ("rra", "pointing")]
            maps.append([name, rule, f"{copies:.0f}", *auprc, *difference, *others])
            continue
        shares = [number(own.loc[f"called_yes_{kind}", "value"]) for kind in KINDS_IN_WORDS]
        logits = [number(own.loc[f"logit_{kind}", "value"]) for kind in KINDS_IN_WORDS]
        answers.append([name, *shares, *logits])
        for kind, words in KINDS_IN_WORDS.items():
            if f"probability_{kind}" in own.index:
                share = number(own.loc[f"called_yes_calibrated_{kind}", "value"])
                mean = number(own.loc[f"probability_{kind}", "value"])
                calibrated.append([words, share, mean])
    ends = ["from", "to"]
    header = ["network", "rule", "copies", "AUPRC", *ends, "minus brightness", *ends]
    without_network = _without_network(table)
    by_size = _real_by_size(table)
    more_maps = []
    if without_network:
        more_maps = [
            "Maps without a network, on the same scans:",
            markdown_table(
                ["map", *header[3:], "relevance rank", "highest voxel in a lesion"],
                without_network,
            ),
        ]
    if by_size:
        more_maps += [
            "The share of lesions that are hit while at most one mark misses, by size of the "
            "lesion: below 30 mm³ (a ball of 3.9 mm), up to 300 mm³ (8.3 mm), and larger. Maps of "
            "networks are by epsilon_gamma and 8 copies.",
            markdown_table(["map", "small", "medium", "large"], by_size),
        ]
    blocks = [
        "**This section uses real scans** of eight patients with MS: two of Ljubljana (Lesjak et "
        "al. 2017; thin slices) and six of Tabriz (MS3SEG; slices of 5 to 6 mm). The networks have "
        "seen simulated scans only. The map of a row is the mean over its networks. Rules and "
        "copies were fixed on simulated scans. The columns from and to are 95 % confidence "
        "intervals over patients.",
        markdown_table([*header, "relevance rank", "highest voxel in a lesion"], maps),
        "No map is better than brightness beyond doubt: all intervals of the difference include 0.",
        *more_maps,
        "In each centre, by the networks that the package brings (epsilon_gamma, 8 copies):",
        markdown_table(
            ["centre", "patients", "AUPRC", *ends, "minus brightness", *ends],
            _real_by_centre(of_sites),
        ),
        "There is no scan of a healthy person among them. What the networks say is therefore "
        "compared with what they say when the lesions are filled, and when as much normal white "
        "matter is filled (sham). The first three columns are the share of patients with a logit "
        "above 0, the last three the mean logit.",
        markdown_table(
            [
                "network",
                "above 0",
                "lesions filled",
                "sham",
                "mean logit",
                "lesions filled",
                "sham",
            ],
            answers,
        ),
        "Filling the lesions lowers the logit, and filling normal tissue does not. But many logits "
        "stay above 0 without the lesions: the networks add something to every real scan.",
        *_offset_of_other_centre(table),
        "The page of a scan shows a probability that is calibrated on simulated subjects, each as "
        "another random scanner would show it. These are the same eight patients, by the networks "
        "that the package brings.",
        markdown_table(["scans", "share above 0.5", "mean probability"], calibrated),
        *_real_warnings(table),
        *_real_on_simulated_subjects(),
        *_real_as_published(),
    ]
    return Section("Eight real patients", blocks, [file], "make proof-real")


def _real_as_published() -> list[str]:
    """Maps evaluated as a published thresholding of FLAIR."""
    file = BENCHMARKS / "real_published.tsv"
    if not file.exists():
        return []
    rows = []
    for row in tsv.read(file).itertuples():
        name = SIGHT_NAMES.get(row.map, row.map)
        rows.append([row.site, name, row.patients, number(row.auprc), number(row.dice)])
    return [
        "A threshold on FLAIR was published as a baseline for Ljubljana's patients (Meissen et al. "
        "2021, [arXiv:2109.06023](https://arxiv.org/abs/2109.06023)). The next table repeats that "
        "evaluation: the voxels of all patients of a centre count together, and Dice is that of "
        "the best threshold. Two of their 30 patients are here, so the rows are not the same "
        "sample. Voxels, slices and brain masks differ, too.",
        markdown_table(["centre", "map", "patients", "AUPRC", "largest Dice"], rows),
    ]


def _real_on_simulated_subjects() -> list[str]:
    """AUC of the same networks on simulated subjects: what randomised training costs there."""
    file = BENCHMARKS / "real_simulated.tsv"
    if not file.exists():
        return []
    rows = []
    for name, own in tsv.read(file).groupby("variant", sort=False):
        measures = own.set_index("measure")
        difference = ["n/a"] * 3
        if "auc_minus_plain" in measures.index:
            difference = _value_and_ends(measures.loc["auc_minus_plain"])
        row = [SIGHT_NAMES.get(name, name), *_value_and_ends(measures.loc["auc"]), *difference]
        rows.append(row)
    return [
        "A randomised training changes each training scan at random, as another scanner might "
        "show it. What this costs on 200 further simulated subjects, by the mean over networks:",
        markdown_table(["network", "AUC", "from", "to", "minus plain", "from", "to"], rows),
    ]


def real_beside() -> Section:
    """Training on real patients without controls, tested on others."""
    file = BENCHMARKS / "beside.tsv"
    table = tsv.read(file)
    of_all = table[table["site"] == "all"]
    ends = ["from", "to"]
    blocks = [
        "**This section uses real scans**, those of the eight patients above. Networks were "
        "trained as `make beside` does it, without a control and with unchanged settings. Each of "
        "four trainings used six patients, one of them for validation, and held out two. In two "
        "other trainings all patients of one centre were held out. Each patient is measured by "
        "three networks that have not seen the patient. The row without training has the three "
        "networks that these trainings started from. The rule and the copies were fixed on "
        "simulated scans.",
        markdown_table(
            ["training", "copies", "AUPRC", *ends, "minus brightness", *ends, "relevance rank"],
            _beside_maps(of_all),
        ),
        "The share of patients whose highest voxel lies in a lesion, with an exact 95 % CI:",
        markdown_table(["training", "copies", "share", *ends], _beside_pointing(of_all)),
        "Each training minus no training, paired over the same patients (8 copies):",
        markdown_table(
            ["training", "test patients", "patients", "AUPRC", *ends, "relevance rank", *ends],
            _beside_differences(table),
        ),
        "The share of scans with a logit above 0. Filled scans are filled by the method that the "
        "networks were trained with. A network that has learnt to recognise filled tissue would "
        "pass this test. It would then call the sham scans healthy, too, in which as much normal "
        "white matter is filled.",
        markdown_table(
            ["training", "scans", "share", *ends, "mean logit"], _beside_answers(of_all)
        ),
        "What is lost on simulated subjects (20 controls and 20 patients, the mean over "
        "trainings)? The share is that of subjects with a logit above 0.",
        markdown_table(
            ["training", "AUC", *ends, "AUC minus no training", *ends, "controls", "patients"],
            _beside_simulated(table),
        ),
        "Eight patients are few. A result that is right in 8 of 8 has a 95 % CI from 0.63 to 1. "
        "One training has one patient for training and one for validation: that on Ljubljana.",
    ]
    return Section(
        "Training on real patients without controls", blocks, [file], "make proof-beside"
    )


def _beside_rows(table: pd.DataFrame):
    """Yield a name in words and the rows, by measure, of each variant and map."""
    keys = ["variant", "rule", "copies"]
    for (variant, _, copies), rows in table.groupby(keys, sort=False, dropna=False):
        yield BESIDE_NAMES[variant], copies, rows.set_index("measure")


def _beside_maps(of_all: pd.DataFrame) -> list:
    rows = []
    for name, copies, own in _beside_rows(of_all):
        if "auprc" in own.index:
            auprc = _value_and_ends(own.loc["auprc"])
            difference = _value_and_ends(own.loc["auprc_minus_brightness"])
            rank = number(own.loc["rra", "value"])
            rows.append([name, f"{copies:.0f}", *auprc, *difference, rank])
    return rows


def _beside_pointing(of_all: pd.DataFrame) -> list:
    rows = []
    for name, copies, own in _beside_rows(of_all):
        if "pointing" in own.index:
            rows.append([name, f"{copies:.0f}", *_value_and_ends(own.loc["pointing"])])
    return rows


def _beside_differences(table: pd.DataFrame) -> list:
    rows = []
    for site in ("all", "Ljubljana", "Tabriz"):
        own_site = table[(table["site"] == site) & (table["copies"] == 8)]
        for name, _, own in _beside_rows(own_site):
            if "auprc_minus_shipped" not in own.index:
                continue
            auprc, rank = own.loc["auprc_minus_shipped"], own.loc["rra_minus_shipped"]
            patients = f"{auprc['n']:.0f}"
            rows.append([name, site, patients, *_value_and_ends(auprc), *_value_and_ends(rank)])
    return rows


def _beside_answers(of_all: pd.DataFrame) -> list:
    rows = []
    for name, _, own in _beside_rows(of_all[of_all["copies"] == 0]):
        for kind, words in KINDS_IN_WORDS.items():
            share = _value_and_ends(own.loc[f"called_yes_{kind}"])
            rows.append([name, words, *share, number(own.loc[f"logit_{kind}", "value"])])
    return rows


def _beside_simulated(table: pd.DataFrame) -> list:
    rows = []
    for name, _, own in _beside_rows(table[table["site"] == "simulated"]):
        difference = ["n/a"] * 3
        if "auc_minus_shipped" in own.index:
            difference = _value_and_ends(own.loc["auc_minus_shipped"])
        shares = [number(own.loc[f"called_yes_{group}", "value"]) for group in GROUPS]
        rows.append([name, *_value_and_ends(own.loc["auc"]), *difference, *shares])
    return rows


def lesion_regions() -> Section:
    """Regions of lesions by the person's own ventricles and cortex."""
    file = BENCHMARKS / "regions_of_lesions.tsv"
    table = tsv.read(file)
    kinds = {
        "patient": "patient, ventricles drawn by a rater",
        "painted": "real brain, painted contrast",
        "painted, slices of 6 mm": "real brain, painted contrast, slices of 6 mm",
        "simulated": "simulated",
    }
    rows = []
    for row in table[table["subject"] != "all"].itertuples():
        rows.append(
            [
                kinds[row.kind],
                number(row.ventricles_ml, 1),
                number(row.dice_template),
                number(row.dice_own),
                int(row.lesions),
                int(row.moved),
            ]
        )
    agreement = []
    whole = table[table["subject"] == "all"].set_index("kind")
    for kind, words in kinds.items():
        row = whole.loc[kind]
        for name, anatomy in (("template", "the template"), ("own", "the person")):
            column = f"periventricular_kappa_{name}"
            low, high = number(row[f"{column}_low"]), number(row[f"{column}_high"])
            agreement.append([words, anatomy, int(row["lesions"]), number(row[column]), low, high])
    painted = whole.loc["painted"]
    thick = whole.loc["painted, slices of 6 mm"]
    blocks = [
        "**This section uses real scans and real anatomy.** The lateral ventricles are found in "
        "the scan, or are those of the template. They are compared with known ones. Six patients "
        "(Tabriz, slices of 5 to 6 mm) have ventricles that raters have drawn. Four brains are "
        "painted from labels of real people. The last column counts the lesions that change their "
        "region if the person's ventricles and cortex replace those of the template.",
        markdown_table(
            [
                "subject",
                "ventricles (ml)",
                "Dice, template",
                "Dice, person",
                "lesions",
                "lesions that move",
            ],
            rows,
        ),
        "Is a lesion periventricular? This is the agreement with the known ventricles, over all "
        "lesions of a kind. Intervals are by bootstrap over subjects.",
        markdown_table(
            ["subjects", "ventricles of", "lesions", "kappa", "95 % CI", "95 % CI"], agreement
        ),
        "The cortex is known in the painted brains only. Whether a voxel of white matter is near "
        f"the cortex agrees with a kappa of {number(painted['cortex_kappa_own'])} by the person's "
        f"cortex, and {number(painted['cortex_kappa_template'])} by that of the template.",
        "Slices of 6 mm hide many sulci. There, the cortex is that of the template and what "
        "lies around the sulci that the scan shows. The kappa is then "
        f"{number(thick['cortex_kappa_own'])}, and {number(thick['cortex_kappa_template'])} by the "
        "cortex of the template alone. Small cubes were also placed in the white matter. Their "
        f"regions agree with a kappa of {number(thick['placed_kappa_own'])}, and "
        f"{number(thick['placed_kappa_template'])} by the person's ventricles and the cortex of "
        "the template. The contrast of these "
        "scans is painted, and their brain masks are known. Nobody has drawn the cortex of the "
        "patients, so their cortex remains untested.",
        "LST-AI has a rule of its own: a lesion belongs to the first structure that one of its "
        "voxels borders on. The rule was applied to the known anatomy, in the space of the file; "
        "LST-AI itself was not run. With it, the regions by the person's anatomy agree with a "
        f"kappa of {number(whole.loc['patient', 'lst_ai_periventricular_kappa'])} in the patients "
        "(periventricular or not) and "
        f"{number(painted['lst_ai_region_kappa'])} in the painted brains (four regions).",
        "The rules were written while these scans were looked at. So this is no independent test.",
    ]
    return Section("Regions of lesions", blocks, [file], "make proof-lesion-regions")


def planted_faults() -> Section:
    """Faults in the files of a simulated patient, and false alarms."""
    file = BENCHMARKS / "planted.tsv"
    table = tsv.read(file)
    is_planted = table["kind"] != "without a fault"
    faults = table[is_planted]
    rows = []
    for row in faults.itertuples():
        rows.append([row.fault, row.expected, row.outcome, "yes" if row.as_expected else "no"])
    alarms = []
    for row in table[~is_planted].itertuples():
        alarms.append([row.said, row.fault.split()[0], row.fault.split()[2]])
    right = int(faults["as_expected"].astype(bool).sum())
    blocks = [
        f"Each of {len(faults)} faults was planted into a simulated patient, a map or a weights "
        f"file, and the scan was explained. {right} outcomes are as expected. A fault is noticed "
        "where it is refused or flagged. Inputs that only look like a fault must work.",
        markdown_table(["fault", "expected", "outcome", "as expected"], rows),
        "Simulated patients without a fault. Each row is what a page asks the reader to do.",
        markdown_table(["what a page asks for", "scans", "of"], alarms),
    ]
    return Section("Planted faults", blocks, [file], "make proof-planted")


def one_scan_speed() -> Section:
    """Time and memory of the command for one scan."""
    file = BENCHMARKS / "one_scan_speed.tsv"
    rows = []
    for row in tsv.read(file).itertuples():
        rows.append([row.case, number(row.seconds, 0), number(row.megabytes / 1000)])
    ratio = read_json(file.with_suffix(".json"))["ten_scans_over_one"]
    blocks = [
        "Each command starts in a process of its own and ends with the page. Compare times within "
        "the table only, because they depend on the machine.",
        markdown_table(["scan", "time (s)", "peak memory (GB)"], rows),
        f"Ten scans with two processes take {number(ratio, 1)} times as long as one.",
    ]
    return Section("Time and memory of one scan", blocks, [file], "make proof-one-scan-speed")


def region_tests() -> Section:
    """False positives of the tests of regions."""
    file = BENCHMARKS / "region_null.json"
    record = read_json(file)
    rows = []
    for row in record["null"]:
        rate = row["false_positives"] / row["of"]
        rows.append([row["atlas"], row["sign"], row["regions"], row["of"], number(rate, 3)])
    planted = []
    for row in record["planted"]:
        planted.append([number(row["effect_sd"], 0), number(row["p_fwe"], 4)])
    blocks = [
        "Subjects were divided into two groups at random, so that no region differs between "
        "groups. The nominal rate of false positives is 0.05 for each atlas.",
        markdown_table(["atlas", "relevance", "regions", "random groups", "false positives"], rows),
        f"Then an effect was planted in one region ({record['planted_region']}).",
        markdown_table(["effect (SD)", "corrected p of that region"], planted),
    ]
    return Section("Tests of regions", blocks, [file], "make proof-regions")


def explanation_speed() -> Section:
    """Time and memory of LRP."""
    file = BENCHMARKS / "lrp_speed.tsv"
    table = tsv.read(file).set_index(["engine", "rule", "volumes", "batch"])
    names = {
        ("msxai", "epsilon"): "msxai, epsilon",
        ("msxai", "epsilon*8"): "msxai, epsilon, mean of 8 copies",
        ("gradient", "gradient"): "TensorFlow, plain gradient",
        ("innvestigate", "epsilon"): "iNNvestigate, epsilon",
    }
    volumes = {"scan": "simulated scan", "dense": "noise without empty voxels"}
    rows = []
    for kind, volume in volumes.items():
        for (engine, rule), name in names.items():
            if (engine, rule, kind, 1) not in table.index:
                continue
            row = table.loc[(engine, rule, kind, 1)]
            rows.append([name, volume, number(row["median"], 3), number(row["memory_gb"])])
    ratio_rows = []
    for kind, volume in volumes.items():
        time = table["median"].xs((kind, 1), level=["volumes", "batch"])
        epsilon = time["msxai", "epsilon"]
        gradient = min(time[name, "gradient"] for name in ("gradient", "gradient_pool_first"))
        ratios = {
            "epsilon to the faster gradient": (epsilon / gradient, 0.25),
            "iNNvestigate to epsilon": (time["innvestigate", "epsilon"] / epsilon, 6),
        }
        if ("msxai", "epsilon*8") in time.index:  # tables before November 29 have no copies
            ratios["8 copies to one"] = (time["msxai", "epsilon*8"] / epsilon, 5)
        for name, (ratio, aim) in ratios.items():
            ratio_rows.append([name, volume, number(ratio), aim])
    stream_file = BENCHMARKS / "lrp_stream.json"
    stream = read_json(stream_file)["result"]
    memory_rows = [
        ["after the first 50 volumes", number(stream["memory_gb_first_blocks"][0])],
        ["after 1,000 volumes", number(stream["memory_gb_last_block"])],
    ]
    rounds = read_json(BENCHMARKS / "lrp_speed.json")["parameters"]["rounds"]
    blocks = [
        "The paper's network (width 64) explained one volume of 96 x 114 x 96 voxels on 2 threads. "
        f"Each time is the median of {rounds} runs; the engines took turns. Compare times within "
        "the table only, because they depend on the machine.",
        markdown_table(["engine", "volume", "time (s)", "peak memory (GB)"], rows),
        markdown_table(["ratio of times", "volume", "measured", "aim"], ratio_rows),
        "The forward pass limits the time. It takes more than half of it, and a gradient needs it "
        "as well. On the way back, only the winners of poolings are touched. Copies share nothing: "
        "each of the 8 copies places the poolings differently. To pool a stored map of the first "
        "convolution takes about as long as the kernel that convolves and pools at once.",
        "In a second proof, 1,000 volumes were read, explained and written as NIfTI files, one "
        "after the other.",
        markdown_table(["when", "memory (GB)"], memory_rows),
        "![Time of each engine](../benchmarks/lrp_speed.png)",
    ]
    command = "make proof-lrp-speed proof-lrp-stream"
    return Section("Time and memory of LRP", blocks, [file, stream_file], command)


def training_speed() -> Section:
    """Training of the fast network and of the plain one, round by round."""
    file = BENCHMARKS / "training_speed.tsv"
    table = tsv.read(file)
    rows, medians = [], []
    for width, of_width in table.groupby("width"):
        speeds = of_width.pivot_table(index="round", columns="network", values="volumes_per_second")
        ratios = speeds["fast"] / speeds["plain"]
        memory = of_width.groupby("network")["memory_gb"].max()
        medians.append(
            [
                width,
                number(ratios.median()),
                number(ratios.min()),
                number(ratios.max()),
                number(memory["fast"]),
                number(memory["plain"]),
            ]
        )
        for index, ratio in ratios.items():
            rows.append([width, index + 1, number(ratio)])
    record_file = BENCHMARKS / "training_speed.json"
    loss_rows = []
    for width, ratios in read_json(record_file)["ratios"].items():
        difference = ratios["largest_difference_of_a_loss"]
        loss_rows.append([width.removeprefix("width "), f"{difference:.1e}"])
    blocks = [
        "The fast network computes a convolution only where the pooling after it keeps a value. "
        "The plain network is the same network built of Keras layers. Both networks were trained "
        "on batches of 4 scans with 2 threads, in each of five rounds.",
        markdown_table(
            [
                "width",
                "speed-up, median of rounds",
                "smallest",
                "largest",
                "memory, fast (GB)",
                "memory, plain (GB)",
            ],
            medians,
        ),
        "The spread is large because the machine changed its speed between rounds. The next table "
        "shows each round.",
        markdown_table(["width", "round", "speed-up"], rows),
        "Both networks start with the same weights and see the same batches. Their losses differ "
        "by rounding errors, which grow over the steps.",
        markdown_table(["width", "largest difference of a loss in 20 steps"], loss_rows),
    ]
    files = [file, record_file]
    return Section("Time and memory of training", blocks, files, "make proof-training-speed")


def backends() -> Section:
    """The smoke series evaluated and explained on two backends."""
    file = BENCHMARKS / "backends.tsv"
    record_file = BENCHMARKS / "backends.json"
    trained, again = read_json(record_file)["backends"]
    table = tsv.read(file)
    rows = []
    for row in table.itertuples():
        difference = f"{row.largest_difference:.1e}" if row.largest_difference else "0"
        rows.append([row.notebook, row.table, row.numbers, difference])
    blocks = [
        f"The smoke series was run on Keras with {trained}. Then 04 to 07 were run again on "
        f"{again}, with the same trained networks, both on a processor. On a processor, LRP uses "
        "the compiled kernels of the package with each backend. A difference is relative to the "
        "largest magnitude of its column, or of its map. What 07 computes with random weights is "
        "left out, because each backend draws other weights from the same seed.",
        markdown_table(["notebook", "table", "numbers", "largest relative difference"], rows),
        "No cell of text differs."
        if not table["texts_that_differ"].any()
        else f"Cells of text that differ: {table['texts_that_differ'].sum()}.",
    ]
    files = [file, record_file]
    return Section("The same networks on two backends", blocks, files, "make proof-backends")


def backends_on_a_processor() -> Section:
    """Volumes a second of PyTorch and JAX without a GPU."""
    file = BENCHMARKS / "gpu_processor.tsv"
    table = tsv.read(file)
    key = ["width", "task", "floats", "batch"]
    reference = table[(table["backend"] == "torch") & (table["floats"] == "float32")]
    reference = reference.set_index(["width", "task", "batch"])["volumes_per_second"]
    rows = []
    for row in table.sort_values(
        [*key, "backend"], ascending=[True, False, False, True, False]
    ).itertuples():
        speed = row.volumes_per_second
        ratio = speed / reference.get((row.width, row.task, row.batch), float("nan"))
        cells = [row.backend, row.width, row.task, row.floats, row.batch]
        rows.append([*cells, _readable(speed), number(ratio), number(row.memory_gb, 1)])
    blocks = [
        "Keras's operations on 2 cores of a processor, which other programs used at the same time. "
        "The compiled kernels of the package were switched off, because a GPU does not use them. "
        "The ratio is to PyTorch in float32 with the same width, task and batch. Memory is that of "
        "the process. **This says nothing of a GPU.**",
        markdown_table(
            [
                "backend",
                "width",
                "task",
                "floats",
                "batch",
                "volumes a second",
                "ratio to PyTorch, float32",
                "memory (GB)",
            ],
            rows,
        ),
    ]
    return Section("PyTorch and JAX on a processor", blocks, [file], "make proof-gpu-processor")


def preparation() -> Section:
    """Time and memory of data preparation by number of scans."""
    file = BENCHMARKS / "preparation.tsv"
    rows = []
    for row in tsv.read(file).to_dict("records"):
        a_scan = row["seconds"] / row["scans"]
        cells = [int(row["scans"]), number(row["seconds"], 0), number(a_scan, 3)]
        rows.append([*cells, number(row["peak_memory_gb"])])
    blocks = [
        "Memory does not grow with the number of scans. The scans have voxels of 1 mm, and each "
        "subject has three visits. Two processes prepared them.",
        markdown_table(["scans", "time (s)", "time a scan (s)", "peak memory (GB)"], rows),
    ]
    return Section("Data preparation", blocks, [file], "make proof-preparation")


SCALE = (20, 500, 2000, 10000)
MENDED = {
    "read a BIDS dataset": ("processor_seconds", "processor time (s)", 2),
    "look for one person in two parts": ("memory_mb", "memory (MB)", 1),
    "write the page of quality control": ("largest_mb", "size of the largest page (MB)", 1),
    "inner products of all scans": ("processor_seconds", "processor time (s)", 2),
    "test 48 regions by 10,000 permutations": ("memory_mb", "memory (MB)", 1),
}
"""Steps that were mended: what was wrong with them, and by which power of the scans it grew."""


def scale() -> Section:
    """What 10,000 scans need."""
    file = BENCHMARKS / "scale.tsv"
    before_file = BENCHMARKS / "scale_before.tsv"
    table = tsv.read(file).set_index(["step", "scans"])
    record = read_json(file.with_suffix(".json"))
    rows = []
    for step in table.index.get_level_values("step").unique():
        of_step = table.loc[step]
        times = 1000 * of_step["processor_seconds"] / of_step.index
        cells = [number(times.get(scans), 1) for scans in SCALE]
        if times.isna().all():
            continue
        largest = of_step.index.max()
        memory = of_step.loc[largest, "memory_mb"] / 1000
        rows.append([step, of_step["notebook"].iloc[0], *cells, number(memory)])
    header = [f"a scan of {scans:,} (ms)" for scans in SCALE]
    heatmaps = table.loc["write the heatmaps, without computing them"].iloc[-1]
    a_scan, shared = divmod(int(heatmaps["files"]), heatmaps.name)
    arrays = table.loc[("open the prepared scans", 10000), "megabytes"] / 1000
    disk = [
        ["prepared scans, one file", 1, number(arrays, 1)],
        [
            "heatmaps of all scans, with sidecars",
            10000 * a_scan + shared,
            number(10 * heatmaps["megabytes"] / heatmaps.name, 1),
        ],
    ]
    snakemake = record["snakemake"]
    blocks = [
        "The steps of the notebooks that see all scans at once ran on made-up cohorts. The time is "
        "that of the processor, divided by the number of scans. If it grows from left to right, "
        "the step takes longer than in proportion. The memory is that of the largest number of "
        "scans. Other programs ran at the same time.",
        markdown_table(["step", "notebook", *header, "memory (GB)"], rows),
        "Five steps were mended. The table compares them before and after. The last column is what "
        "10,000 scans would have needed before. It is computed, not measured.",
        _mended(table, tsv.read(before_file).set_index(["step", "scans"])),
        "Files and disk of 10,000 scans. The number of trials does not change the number of "
        "heatmaps: one is the mean over trials, a second one their standard deviation. The made-up "
        "heatmaps are noise, which needs somewhat more disk than a real heatmap.",
        markdown_table(["what", "files", "disk (GB)"], disk),
        "The hours below are computed from `benchmarks/plan.tsv`, for the paper's profile with "
        "10,000 subjects, of whom 1,500 are held out. They are hours on two cores with the largest "
        "number of epochs. Scans are in MNI152 space already.",
        _hours_of_plan(),
        f"Snakemake plans the paper's profile in {number(snakemake['seconds'], 0)} s, whatever the "
        "number of scans, because a job is a notebook and not a scan.",
    ]
    files = [file, before_file, file.with_suffix(".json")]
    return Section("10,000 scans", blocks, files, "make proof-scale")


def _mended(after: pd.DataFrame, before: pd.DataFrame) -> str:
    """Return the table of the steps that were mended."""
    rows = []
    for step, (column, words, power) in MENDED.items():
        old = before.loc[step]
        scans = max(set(old.index) & set(after.loc[step].index))
        value = old.loc[scans, column]
        expected = value * (10000 / scans) ** power
        now = after.loc[(step, scans), column]
        cells = [number(value, 0), number(now, 0), number(expected, 0)]
        rows.append([step, words, scans, *cells])
    header = ["step", "measure", "scans", "before", "after", "before, 10,000 scans"]
    return markdown_table(header, rows)


def _hours_of_plan() -> str:
    """Return the table of hours of 10,000 subjects."""
    config = plan.read_profile("paper")
    config["cohorts"]["finetuning"] |= {"subjects": 10000, "holdout": [750, 750]}
    table = plan.plan(config, tsv.read(plan.TABLE), cores=2, memory_gb=16)
    rows = []
    for row in table.itertuples():
        cells = [number(row.hours_a_job, 1), number(row.hours, 1)]
        rows.append([row.notebook, row.jobs, *cells, number(row.memory_gb, 1)])
    return markdown_table(["notebook", "jobs", "a job (h)", "all (h)", "memory (GB)"], rows)


def series_profile() -> Section:
    """Which notebooks of the demo take longest."""
    file = BENCHMARKS / "series_profile.tsv"
    rows = []
    for row in tsv.read(file).itertuples():
        shares = [row.share, row.start_share, row.slowest_share]
        first, start, slowest = (number(100 * share, 1) for share in shares)
        rows.append([row.notebook, row.runs, first, start, row.slowest_heading, slowest])
    record = read_json(file.with_suffix(".json"))
    alone = "Other programs ran at the same time, so only shares are shown."
    if record["parameters"].get("alone"):
        alone = (
            f"No other program ran on the two cores. The run took {record['elapsed_minutes']} "
            "minutes."
        )
    blocks = [
        f"The demo ran {record['notebooks']} notebooks. {alone} The start is that of the kernel, "
        "with the imports. The slowest section is named by its heading.",
        markdown_table(
            [
                "notebook",
                "runs",
                "share of the demo (%)",
                "start, share of the notebook (%)",
                "slowest section",
                "share of the notebook (%)",
            ],
            rows,
        ),
        *_series_before(),
    ]
    return Section("The slowest parts of the series", blocks, [file], "make proof-series-profile")


def _series_before() -> list[str]:
    """Seconds of each notebook in an earlier run and in the last one, both alone on a computer."""
    files = [BENCHMARKS / f"series_profile{name}.tsv" for name in ("_before", "")]
    if not files[0].exists():
        return []
    before, after = (tsv.read(file).set_index("notebook")["seconds"] for file in files)
    records = [read_json(file.with_suffix(".json")) for file in files]
    if not all(record["parameters"].get("alone") for record in records):
        return []
    pretraining = "02_pretraining"
    rows = [[name, f"{before[name]:.0f}", f"{after[name]:.0f}"] for name in before.index]
    rows.append(["all", f"{before.sum():.0f}", f"{after.sum():.0f}"])
    earlier, last = (record["elapsed_minutes"] for record in records)
    return [
        "Seconds of each notebook, its runs added, before and after the last changes for speed, "
        f"on the same computer. From the first start to the last end it took {earlier} minutes "
        f"before and {last} minutes after. The pre-training did the same work in both runs: its "
        f"{before[pretraining]:.0f} and {after[pretraining]:.0f} seconds show how much faster "
        "the computer itself was in the second run. The first run found its simulated cohorts on "
        "the disk; the second one simulated them in 01_data_preparation.",
        markdown_table(["notebook", "before", "after"], rows),
    ]


def simulated_cohorts() -> Section:
    """How real the simulated cohorts are: a pointer, since the proof writes its own page."""
    file = BENCHMARKS / "phantom_realism.tsv"
    table = tsv.read(file)
    names = {
        "auprc_small": "AUPRC of brightness, lesions 0.08 to 0.2 % of the brain",
        "auprc_large": "AUPRC of brightness, lesions 0.5 to 1 % of the brain",
        "lesion_z": "z-score of lesions",
        "auc_lesion_load": "AUC of lesion load, MS or control",
        "auc_tissues": "AUC of tissue volumes and means, MS or control",
        "auc_hippocampus_ventricle": "AUC of hippocampal and ventricular volume, AD or control",
        "hypo_controls": "white-matter hypointensities of controls, AD cohort (cm³)",
        "hypo_patients": "white-matter hypointensities of patients, AD cohort (cm³)",
        "hypo_within_10mm": "their share within 10 mm of the ventricles",
    }
    rows = []
    for column, name in names.items():
        if column not in table:  # measured since 2026-11-27
            continue
        values = table[column]
        rows.append([name, number(values.mean()), number(values.min()), number(values.max())])
    blocks = [
        "Four cohorts were simulated, each with another seed. The file "
        "`benchmarks/phantom_realism.md` compares them with real scans.",
        markdown_table(["measure", "mean", "smallest", "largest"], rows),
    ]
    return Section("How real are the simulated cohorts?", blocks, [file], "make proof-phantom")


SECTIONS = [
    classification,
    holdout,
    without_lesions,
    filling,
    shortcuts,
    ladder,
    targets,
    league,
    search,
    sight,
    sight_ladder,
    artefact_or_signal,
    real_patients,
    real_beside,
    real_ways,
    real_against_simulated,
    new_lesions,
    transfer,
    lesion_regions,
    planted_faults,
    region_tests,
    explanation_speed,
    one_scan_speed,
    training_speed,
    backends,
    backends_on_a_processor,
    preparation,
    scale,
    series_profile,
    simulated_cohorts,
]


NEEDED = {
    sight_ladder: BENCHMARKS / "sight_ladder.tsv",
    artefact_or_signal: BENCHMARKS / "artefact_or_signal.tsv",
    new_lesions: BENCHMARKS / "new_lesions.tsv",
    scale: BENCHMARKS / "scale.tsv",
    series_profile: BENCHMARKS / "series_profile.tsv",
    backends_on_a_processor: BENCHMARKS / "gpu_processor.tsv",
    real_against_simulated: BENCHMARKS / "real_against_simulated.tsv",
    real_beside: BENCHMARKS / "beside.tsv",
    real_ways: BENCHMARKS / "real_ways.tsv",
}
"""Tables of proofs that have not been run to their end yet; their sections wait for them."""


@dataclass
class Record:
    """A committed record: what made a table or a figure, and when."""

    path: str
    commit: str
    date: str
    script: str


def records() -> list:
    """Return the records of all proofs, of the demo's figures and of `make quality`."""
    figure_records = [DEMO / "provenance.json", *sorted(QUALITY.glob("*/provenance.json"))]
    result = []
    for path in [*sorted(BENCHMARKS.glob("*.json")), *figure_records]:
        content = read_json(path)
        name = "notebooks"
        if path.parent == BENCHMARKS:
            stem = path.stem.removesuffix("_before").removesuffix("_processor")
            name = f"benchmarks/{stem}.py"
        record = Record(
            path=path.relative_to(ROOT).as_posix(),
            commit=content["commit"],
            date=content["written"][:10],
            script=name,
        )
        result.append(record)
    return result


def records_section() -> str:
    """Return the table of records: at which commit each was made."""
    rows = []
    for record in records():
        has_changes = "yes" if record.commit.endswith("+changes") else "no"
        rows.append([f"`{record.path}`", f"`{record.commit[:7]}`", has_changes, record.date])
    header = ["record", "commit", "uncommitted changes", "date"]
    return "\n\n".join(
        [
            "## When each proof was run",
            "The table says from which commit of the code each proof and figure was made. "
            '"Uncommitted changes" means that the code also held changes that were not in this '
            "commit. `make docs` prints how many commits have changed the code since then.",
            markdown_table(header, rows),
        ]
    )


def page() -> str:
    """Return the whole page as Markdown."""
    parts = [INTRODUCTION]
    for section in SECTIONS:
        if section in NEEDED and not NEEDED[section].is_file():
            continue
        parts.append(section().markdown())
    parts.append(records_section())
    return "\n\n".join(parts) + "\n"


def headline() -> str:
    """Return the rows of results that README shows: five of simulated subjects, two of people."""
    comparison = tsv.read(DEMO / "fig05b_comparison.tsv")
    is_auc = (comparison["part"] == "further") & (comparison["measure"] == "auc")
    aucs = comparison[is_auc].set_index("variant")
    volume = tsv.read(BENCHMARKS / "generalisation.tsv").set_index("what").loc["MS: lesion load"]
    maps = tsv.read(BENCHMARKS / "localisation.tsv").set_index("map")
    seen = tsv.read(BENCHMARKS / "sight.tsv").set_index(["variant", "measure"])
    real = _real_rows(tsv.read(BENCHMARKS / "real.tsv"), "all")
    patients = f"{real.loc['auprc', 'n']:.0f} real patients"
    rows = [
        ["MS or control, network from scratch: AUC", *_value_and_ends(aucs.loc["scratch"])],
        [
            "MS or control, network pre-trained on simulated lesions: AUC",
            *_value_and_ends(aucs.loc["pretrained-lesions"]),
        ],
        ["MS or control, lesion volume alone: AUC", *_value_and_ends(volume)],
        [
            "heatmaps find lesions, network pre-trained on simulated lesions: AUPRC",
            *_value_and_ends(seen.loc[("pretrained-lesions", "auprc")]),
        ],
        [
            "brightness of the scan finds lesions: AUPRC",
            *with_interval(maps.loc["brightness"], "auprc"),
        ],
        [
            f"{patients}: heatmaps find lesions, networks of the package: AUPRC",
            *_value_and_ends(real.loc["auprc"]),
        ],
        [
            f"{patients}: the same minus the AUPRC of brightness",
            *_value_and_ends(real.loc["auprc_minus_brightness"]),
        ],
    ]
    return markdown_table(["result", "value", "95 % CI, from", "95 % CI, to"], rows)


def readme(text: str) -> str:
    """Return README with its rows of results as the tables have them."""
    start, end = "<!-- headline: written by tools/measured.py -->", "<!-- end of headline -->"
    before, rest = text.split(start)
    _, after = rest.split(end)
    return f"{before}{start}\n\n{headline()}\n\n{end}{after}"


def commits_since(commit: str, script: str) -> str:
    """Count the commits after `commit` that changed the package or the script."""
    hash_only = commit.removesuffix("+changes")
    command = ["git", "rev-list", "--count", f"{hash_only}..HEAD", "--", "msxai", script]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else "unknown number of"


def print_ages():
    """Print how many commits have changed the code that each record depends on."""
    for record in records():
        count = commits_since(record.commit, record.script)
        print(f"{record.path}: made {record.date}; {count} commits of code since")


def main() -> int:
    """Write the page and README's rows, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    readme_now = README.read_text(encoding="utf-8")
    wanted = {PAGE: page(), README: readme(readme_now)}
    if options.check:
        stale = []
        for path, text in wanted.items():
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(path.relative_to(ROOT).as_posix())
        if stale:
            names = " and ".join(stale)
            print(f"{names}: numbers differ from the committed tables. To mend it: make docs")
        return 1 if stale else 0
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    print_ages()
    return 0


if __name__ == "__main__":
    sys.exit(main())
