"""Which rule, which epsilon or gamma, which width finds lesions: chosen on one part of a simulated
cohort, reported on another.

Usage: python benchmarks/search.py [RESULTS]      (default runs/demo; needs `make quality` first)

Scans are those of `controlled_pairs.cohort`: each brain with its lesions as drawn and in two of
seven conditions that take turns (faint, bright, few, small, large, periventricular, deep), and
controls without any lesion; bright decoys in all of them. The brain is the unit: a score is the
mean over a brain's scans and over a network's trainings, an interval is the bootstrap's over
brains, and the parts share no brain. The winner of a network is the rule with the highest mean
AUPRC over the brains of the validation part; the overall winner has the highest mean over all
networks; the width is chosen likewise, by each width's own winner. On the test part the winner is
set beside epsilon 1e-3 of the same network and beside the strongest baseline, brain by brain. The
test part was looked at twice: first without the network in pairs, epsilon_gamma and gamma 1, when
epsilon_gamma_box .25 won over all networks. The networks are variants of the demo and of
workflow/quality.yaml: width 16 (two trainings), the same in pairs, widths 8 and 32 (one training
each, so a width is known no better than that); each is read by `msxai.model.network.restore`. About
half an hour of one core. Written beside this file: search.json (winners, differences), search.tsv
(each rule, network and part), search_factors.tsv (winners by condition), search.png.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import controlled_pairs
import numpy as np
import pandas as pd
from tqdm import tqdm

from msxai import lrp
from msxai.base import provenance
from msxai.base.errors import MissingStepError
from msxai.base.results import Results
from msxai.data import images
from msxai.data.prepared import Prepared
from msxai.lrp import rules
from msxai.model import network
from msxai.quality import localisation, reference_maps, scan_maps
from msxai.report import figures
from msxai.report.figures import sheet

SEED, PARTS, CONTROLS, OTHERS = (
    9304,
    {"validation": 12, "test": 16},
    3,
    2,
)  # looked at in development: 6
NETWORKS = {
    "width-16": ("scratch", 2),
    "width-16, in pairs": ("pairs", 2),
    "width-32": ("width-32", 1),
    "width-8": ("width-8", 1),
}
PAPER, BASELINES = "epsilon 0.001", ("brightness", "edges", "prior", "random", "untrained")
MEASURES = ("auprc", "rra", "rma", "decoy_auc", "decoy_ratio", "control_ratio")


def everywhere(rule: str, **options) -> dict:
    """A rule with options for all layers with weights."""
    return {role: {"rule": rule, **options} for role in ("convolution", "dense")}


def gamma(value: float) -> dict:
    return {"rule": "gamma", "gamma": value}


def behind(first, others="epsilon") -> dict:
    """A rule of the first convolution, and that of the others; dense layers have epsilon."""
    return {"first": first, "convolution": others, "dense": "epsilon"}


CANDIDATES = {
    PAPER: "epsilon",
    **{
        f"epsilon {value:g}": everywhere("epsilon", stabiliser=value)
        for value in (1e-9, 0.1, 0.3, 1)
    },
    **{name: name for name in ("alpha1_beta0", "alpha2_beta1")},
    "gamma 0.1": everywhere(**gamma(0.1)),
    **{
        name: name
        for name in rules.COMPOSITES
        if not name.startswith(("epsilon_gamma_box", "epsilon_half", "epsilon_plus_flat"))
    },
    **{
        f"epsilon_gamma_box {value:g}": behind("bounded", gamma(value))
        for value in (0.02, 0.1, 0.25, 0.5, 1)
    },
    **{
        f"epsilon_gamma_flat {value:g}": behind("flat", gamma(value))
        for value in (0.02, 0.1, 0.25, 0.5)
    },
    "epsilon_gamma 0.1": behind(gamma(0.1), gamma(0.1)),
    **{f"{first} + epsilon": behind(first) for first in ("flat", "w_square", "bounded", "z_plus")},
    "flat + epsilon 0.3": {**everywhere("epsilon", stabiliser=0.3), "first": "flat"},
}
"""Name to rule; layers that are not named get epsilon 1e-3."""


def networks(where: Results) -> dict:
    """Name to weights files.

    Raises
    ------
    MissingStepError
        A network has not been trained yet.
    """
    paths_by_network = {}
    for name, (variant, trials) in NETWORKS.items():
        paths_by_network[name] = [
            where.trial(variant, trial) / "weights.npz" for trial in range(trials)
        ]
        for path in paths_by_network[name]:
            if not path.is_file():
                raise MissingStepError(
                    provenance.relative(path),
                    "nothing",
                    "a trained network",
                    "Run make quality first.",
                )
    return paths_by_network


def judged(relevance, case, lesions: localisation.Target) -> dict:
    """Measures of one map of one scan."""
    spots = localisation.decoys(relevance, case.subject.lesions, case.decoys, case.subject.brain)
    if case.condition == "control":
        return {"control_ratio": spots["decoy_ratio"]}
    return (
        localisation.measure(
            relevance, lesions.lesions, lesions.brain, lesions, ("auprc", "rra", "rma")
        )
        | spots
    )


def by_rules(paths, candidates):
    """Maps of a scan by every rule and training: pairs of name and map."""
    models = [network.restore(path) for path in paths]

    def maps(image, case):
        for model in models:
            for name, explanation in lrp.explain_each(
                model, image[None, ..., None], candidates, computation=lrp.Computation(threads=1)
            ).items():
                yield name, explanation.relevance[0, ..., 0]

    return maps


def by_baselines(tuned, untrained):
    """The same of the baselines."""

    def maps(image, case):
        brain, bright = case.subject.brain, image.astype(float)
        yield "brightness", reference_maps.brightness(bright, brain, tuned.threshold)
        yield "edges", reference_maps.edges(bright, brain, *tuned.edges)
        yield "prior", tuned.prior * brain
        yield "random", np.random.default_rng(list(case.brain.encode())).random(brain.shape) * brain
        yield (
            "untrained",
            scan_maps.of_scan(untrained, image, ["epsilon"], threads=1)["epsilon"],
        )

    return maps


def scores(maps, cohort) -> pd.DataFrame:
    """One row a scan and candidate, trainings averaged: candidate, part, brain, condition,
    measures.
    """
    rows = []
    for case in cohort:
        image = images.normalise(case.subject.image, case.subject.brain)
        target, who = (
            localisation.Target(case.subject.lesions, case.subject.brain),
            {"part": case.part, "brain": case.brain},
        )
        rows += [
            {"candidate": name, **who, "condition": case.condition, **judged(heatmap, case, target)}
            for name, heatmap in maps(image, case)
        ]
    return (
        pd.DataFrame(rows)
        .groupby(["candidate", "part", "brain", "condition"], sort=False, as_index=False)
        .mean()
    )


def brains(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over a brain's scans: network, candidate, part, brain, measures."""
    return (
        table.groupby(["network", "candidate", "part", "brain"], sort=False)[list(MEASURES)]
        .mean()
        .reset_index()
    )


def intervals(values: pd.DataFrame, names=MEASURES) -> dict:
    """Mean over brains of each measure, with its interval."""
    columns = {}
    for name in names:
        for ending, value in zip(
            ("", "_low", "_high"), localisation.mean_interval(values[name]), strict=True
        ):
            columns[name + ending] = value
    return columns


def summarised(table: pd.DataFrame, by) -> pd.DataFrame:
    """`intervals` of each group of brains, with the number of brains that have lesions."""
    rows = []
    for key, values in table.groupby(by, sort=False):
        rows.append(
            dict(zip(by, key, strict=True))
            | {"brains": int(values["auprc"].notna().sum()), **intervals(values)}
        )
    return pd.DataFrame(rows)


def winners(by_brain: pd.DataFrame) -> dict:
    """Rule of the highest mean AUPRC on the validation part: of each network, and over all of
    them.
    """
    validation = by_brain[(by_brain["part"] == "validation") & (by_brain["network"] != "baselines")]
    means = validation.pivot_table("auprc", "candidate", "network")
    return {**{name: means[name].idxmax() for name in means}, "all": means.mean(axis=1).idxmax()}


def differences(
    each: pd.DataFrame, one: tuple, other: tuple, names=("auprc", "rra", "rma")
) -> dict:
    """Paired over the brains of `each`: one (networks, candidate) less the other, a brain's mean
    over networks.
    """
    pair = []
    for among, candidate in (one, other):
        chosen = each[each["network"].isin(among) & (each["candidate"] == candidate)]
        pair.append(chosen.groupby("brain")[list(names)].mean())
    return intervals((pair[0] - pair[1]).dropna(), names)


def reported(by_brain: pd.DataFrame, chosen: dict) -> dict:
    """On the test part: each winner less epsilon 1e-3 of the same networks, and less the strongest
    baseline, measure by measure.
    """
    test, report = by_brain[by_brain["part"] == "test"], {}
    base = test[test["network"] == "baselines"].groupby("candidate")[["auprc", "rra", "rma"]].mean()
    for name, candidate in chosen.items():
        among = (
            [network_name for network_name in chosen if network_name != "all"]
            if name == "all"
            else [name]
        )
        row = {
            "rule": candidate,
            "less_epsilon": differences(test, (among, candidate), (among, PAPER)),
            "less_strongest_baseline": {},
        }
        for measure in base:
            best = base[measure].idxmax()
            values = differences(test, (among, candidate), (["baselines"], best), (measure,))
            row["less_strongest_baseline"][measure] = {"baseline": best, **values}
        if name == "all":
            row["less_epsilon_by_network"] = {
                network_name: differences(
                    test, ([network_name], candidate), ([network_name], PAPER)
                )
                for network_name in among
            }
        report[name] = row
    return report


def width(by_brain: pd.DataFrame, chosen: dict) -> dict:
    """Of the networks that differ in width alone the best, by its winner on the validation part; on
    the test part less the others.
    """
    widths = [name for name in chosen if name.startswith("width-") and "," not in name]
    means = by_brain.groupby(["part", "network", "candidate"])["auprc"].mean()
    best = max(widths, key=lambda name: means["validation", name, chosen[name]])
    test = by_brain[by_brain["part"] == "test"]
    other_networks = {
        name: differences(test, ([best], chosen[best]), ([name], chosen[name]))
        for name in widths
        if name != best
    }
    return {
        "best": best,
        "validation_auprc": {name: means["validation", name, chosen[name]] for name in widths},
        "test_less": other_networks,
    }


def factors(table: pd.DataFrame, chosen: dict) -> pd.DataFrame:
    """The test part by condition: winners, epsilon 1e-3 and baselines; AUPRC also less that of
    epsilon 1e-3, paired.
    """
    test = table[table["part"] == "test"]
    rows = []
    for name, group in test.groupby("network", sort=False):
        shown = (
            BASELINES
            if name == "baselines"
            else dict.fromkeys((PAPER, chosen[name], chosen["all"]))
        )
        for candidate in shown:
            for condition, values in group[group["candidate"] == candidate].groupby(
                "condition", sort=False
            ):
                row = {
                    "network": name,
                    "candidate": candidate,
                    "condition": condition,
                    "brains": len(values),
                    **intervals(values),
                }
                if candidate not in (PAPER, *BASELINES) and condition != "control":
                    less = differences(
                        test[test["condition"] == condition],
                        ([name], candidate),
                        ([name], PAPER),
                        ("auprc",),
                    )
                    row |= {f"{key}_less_epsilon": value for key, value in less.items()}
                rows.append(row)
    return pd.DataFrame(rows)


@sheet.drawn
def picture(summary: pd.DataFrame, chosen: dict):
    """AUPRC on the test part of every rule by network, baselines as lines; winners (of the
    validation part) filled.
    """
    test = summary[summary["part"] == "test"]
    rows, base = (
        test[test["network"] != "baselines"],
        test[test["network"] == "baselines"].set_index("candidate"),
    )
    names, nets = list(dict.fromkeys(rows["candidate"])), list(dict.fromkeys(rows["network"]))
    colours = dict(
        zip(nets, ("#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9"), strict=False)
    )
    notes = [
        f"Mean over {test['brains'].max()} brains, each in up to three conditions, with 95 % "
        "intervals (bootstrap over "
        "brains). Filled: the rule that won on the validation part; bold: over all "
        "networks. Lines: baselines."
    ]
    figure, bottom = sheet.sheet(
        7.5,
        0.235 * len(names) + 0.45,
        "Which rule finds simulated lesions? Test part of the benchmark",
        notes,
        True,
    )
    axes = sheet.place(figure, 1.85, bottom + 0.4, 4.2, 0.235 * len(names))
    for number, net in enumerate(nets):
        values = rows[rows["network"] == net].set_index("candidate").loc[names]
        y = np.arange(len(names)) + 0.72 * ((number + 0.5) / len(nets) - 0.5)
        reach = np.abs(
            values[["auprc_low", "auprc_high"]].to_numpy().T - values["auprc"].to_numpy()
        )
        axes.errorbar(
            values["auprc"],
            y,
            xerr=reach,
            fmt="o",
            ms=3.4,
            mfc="white",
            lw=0.8,
            color=colours[net],
            label=net,
        )
        won = names.index(chosen[net])
        axes.plot(values["auprc"].iloc[won], y[won], "o", ms=4.6, color=colours[net])
    for name, style in zip(
        ("brightness", "edges", "prior", "untrained"), ("-", "--", ":", "-."), strict=True
    ):
        axes.axvline(
            base.loc[name, "auprc"], ls=style, lw=0.9, color="#444444", label=name, zorder=0
        )
    for row in range(1, len(names), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f3f3f3", zorder=-1, lw=0)
    axes.set(
        ylim=(len(names) - 0.5, -0.5),
        xlim=(0, None),
        yticks=range(len(names)),
        yticklabels=names,
        xlabel="AUPRC of the lesions",
    )
    axes.get_yticklabels()[names.index(chosen["all"])].set_fontweight("bold")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure, test


@dataclass(frozen=True)
class Sizes:
    """How large the search is: the cohort's arguments, and what is tried on it."""

    seed: int = SEED
    parts: dict | None = None
    controls: int = CONTROLS
    conditions: dict | None = None
    others: int = OTHERS
    candidates: list | None = None
    width: int = 16


def run(nets: dict, tuned, sizes: Sizes | None = None):
    """Scores of all scans: network, candidate, part, brain, condition, measures."""
    sizes = sizes or Sizes()
    cohort = controlled_pairs.cohort(
        sizes.seed, sizes.parts or PARTS, sizes.controls, sizes.conditions, sizes.others
    )
    cases = list(cohort)  # a few MB a scan
    untrained = reference_maps.untrained(sizes.width, 0)
    makers = {"baselines": by_baselines(tuned, untrained)}
    for name, paths in nets.items():
        makers[name] = by_rules(paths, sizes.candidates or CANDIDATES)
    tables = []
    for name, maps in makers.items():
        table = scores(maps, tqdm(cases, desc=name, mininterval=30))
        tables.append(table.assign(network=name))
    columns = ["network", "candidate", "part", "brain", "condition", *MEASURES]
    return pd.concat(tables, ignore_index=True).reindex(columns=columns)


if __name__ == "__main__":
    where, here = Results(sys.argv[1] if len(sys.argv) > 1 else "runs/demo"), Path(__file__)
    network.configure(0, 1)
    nets = networks(where)
    cohort = Prepared(where.prepared("phantom-ms"), where.split("phantom-ms"))
    tuned, words = reference_maps.attempt(cohort)
    table = run(nets, tuned)
    by_brain = brains(table)
    chosen, summary = winners(by_brain), summarised(by_brain, ["network", "candidate", "part"])
    result = {
        "winners": chosen,
        "test": reported(by_brain, chosen),
        "width": width(by_brain, chosen),
    }
    print(
        summary[summary["part"] == "test"].round(3).to_string(),
        json.dumps(result, indent=1),
        sep="\n",
    )
    figure, _ = picture(summary, chosen)
    file = here.with_name("search_factors.tsv")
    with provenance.replacing(file) as draft:
        factors(table, chosen).to_csv(
            draft, sep="\t", index=False, na_rep="n/a", float_format="%.4g"
        )
    settings = {
        "results": where.given,
        "seed": SEED,
        "parts": PARTS,
        "controls": CONTROLS,
        "conditions": str(controlled_pairs.CONDITIONS),
        "others": OTHERS,
        "candidates": CANDIDATES,
    }
    used = [
        where.prepared("phantom-ms"),
        where.split("phantom-ms"),
        *(path for paths in nets.values() for path in paths),
    ]
    named = {name: [provenance.relative(path) for path in paths] for name, paths in nets.items()}
    notes = {
        "networks": named,
        "baselines": words,
        "result": result,
        "tables": {file.name: provenance.sha256(file)},
    }
    record = provenance.record(settings, used, **notes)
    figures.save(figure, here.parent, here.stem, summary, record)
