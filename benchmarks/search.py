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
30 minutes of one core. Written beside this file: search.json (winners, differences), search.tsv
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
from msxai.base import provenance, tsv
from msxai.base.errors import MissingStepError
from msxai.base.results import Results
from msxai.data import images
from msxai.data.prepared import Prepared
from msxai.lrp import rules
from msxai.model import network
from msxai.quality import localisation, reference_maps, scan_maps
from msxai.report import figures
from msxai.report.figures import sheet

SEED = 9304  # looked at in development: 6
PARTS = {"validation": 12, "test": 16}  # patients
CONTROLS = 3  # in each part
CONDITIONS_A_BRAIN = 2  # beside the lesions as drawn
NETWORKS = {  # name: variant, number of trainings
    "width-16": ("scratch", 2),
    "width-16, in pairs": ("pairs", 2),
    "width-32": ("width-32", 1),
    "width-8": ("width-8", 1),
}
PAPER = "epsilon 0.001"
BASELINES = ("brightness", "edges", "prior", "random", "untrained")
OVERLAP = ("auprc", "rra", "rma")
MEASURES = (*OVERLAP, "decoy_auc", "decoy_ratio", "control_ratio")
COLOURS = ("#E69F00", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
LINES = {"brightness": "-", "edges": "--", "prior": ":", "untrained": "-."}


# What is tried


def everywhere(rule: str, **options) -> dict:
    """A rule with options for all layers with weights."""
    return {role: {"rule": rule, **options} for role in ("convolution", "dense")}


def gamma(value: float) -> dict:
    return {"rule": "gamma", "gamma": value}


def behind(first, further="epsilon") -> dict:
    """A rule of the first convolution, and that of further ones; dense layers have epsilon."""
    return {"first": first, "convolution": further, "dense": "epsilon"}


def _candidates() -> dict:
    """Name to rule; layers that are not named get epsilon 1e-3."""
    candidates = {PAPER: "epsilon"}
    for value in (1e-9, 0.1, 0.3, 1):
        candidates[f"epsilon {value:g}"] = everywhere("epsilon", stabiliser=value)
    candidates["alpha1_beta0"] = "alpha1_beta0"
    candidates["alpha2_beta1"] = "alpha2_beta1"
    candidates["gamma 0.1"] = everywhere(**gamma(0.1))
    left_out = ("epsilon_gamma_box", "epsilon_half", "epsilon_plus_flat")
    for name in rules.COMPOSITES:
        if not name.startswith(left_out):
            candidates[name] = name
    for value in (0.02, 0.1, 0.25, 0.5, 1):
        candidates[f"epsilon_gamma_box {value:g}"] = behind("bounded", gamma(value))
    for value in (0.02, 0.1, 0.25, 0.5):
        candidates[f"epsilon_gamma_flat {value:g}"] = behind("flat", gamma(value))
    candidates["epsilon_gamma 0.1"] = behind(gamma(0.1), gamma(0.1))
    for first in ("flat", "w_square", "bounded", "z_plus"):
        candidates[f"{first} + epsilon"] = behind(first)
    stabilised = everywhere("epsilon", stabiliser=0.3)
    candidates["flat + epsilon 0.3"] = {**stabilised, "first": "flat"}
    return candidates


CANDIDATES = _candidates()


@dataclass(frozen=True)
class Sizes:
    """How large the search is: the cohort's arguments, and what is tried on it."""

    seed: int = SEED
    parts: dict | None = None
    controls: int = CONTROLS
    conditions: dict | None = None
    conditions_a_brain: int = CONDITIONS_A_BRAIN
    candidates: dict | None = None
    width: int = 16


def networks(where: Results) -> dict:
    """Name to weights files.

    Raises
    ------
    MissingStepError
        A network has not been trained yet.
    """
    paths_by_network = {}
    for name, (variant, trials) in NETWORKS.items():
        folders = [where.trial(variant, trial) for trial in range(trials)]
        paths = [folder / "weights.npz" for folder in folders]
        for path in paths:
            _check_trained(path)
        paths_by_network[name] = paths
    return paths_by_network


def _check_trained(path: Path) -> None:
    if not path.is_file():
        relative = provenance.relative(path)
        mend = "Run make quality first."
        raise MissingStepError(relative, "nothing", "a trained network", mend)


# Maps and measures of one scan


def by_rules(paths, candidates):
    """Maps of a scan by every rule and training: pairs of name and map."""
    models = [network.restore(path) for path in paths]
    computation = lrp.Computation(threads=1)

    def maps(image, case):
        batch = image[None, ..., None]
        for model in models:
            explanations = lrp.explain_each(model, batch, candidates, computation=computation)
            for name, explanation in explanations.items():
                yield name, explanation.relevance[0, ..., 0]

    return maps


def by_baselines(tuned, untrained):
    """The same of the baselines."""

    def maps(image, case):
        brain = case.subject.brain
        bright = image.astype(float)
        yield "brightness", reference_maps.brightness(bright, brain, tuned.threshold)
        yield "edges", reference_maps.edges(bright, brain, *tuned.edges)
        yield "prior", tuned.prior * brain
        generator = np.random.default_rng(list(case.brain.encode()))
        yield "random", generator.random(brain.shape) * brain
        by_rule = scan_maps.of_scan(untrained, image, ["epsilon"], threads=1)
        yield "untrained", by_rule["epsilon"]

    return maps


def judged(relevance, case, target: localisation.Target) -> dict:
    """Measures of one map of one scan."""
    spots = localisation.decoys(relevance, case.subject.lesions, case.decoys, case.subject.brain)
    if case.condition == "control":
        return {"control_ratio": spots["decoy_ratio"]}
    measures = localisation.measure(relevance, target.lesions, target.brain, target, OVERLAP)
    return measures | spots


def scores(maps, cohort) -> pd.DataFrame:
    """One row a scan and candidate, trainings averaged: candidate, part, brain, condition,
    measures.
    """
    rows = []
    for case in cohort:
        image = images.normalise(case.subject.image, case.subject.brain)
        target = localisation.Target(case.subject.lesions, case.subject.brain)
        scan = {"part": case.part, "brain": case.brain, "condition": case.condition}
        for name, heatmap in maps(image, case):
            rows.append({"candidate": name, **scan, **judged(heatmap, case, target)})
    keys = ["candidate", "part", "brain", "condition"]
    return pd.DataFrame(rows).groupby(keys, sort=False, as_index=False).mean()


def run(nets: dict, tuned, sizes: Sizes | None = None):
    """Scores of all scans: network, candidate, part, brain, condition, measures."""
    sizes = sizes or Sizes()
    cohort = controlled_pairs.cohort(
        sizes.seed,
        sizes.parts or PARTS,
        sizes.controls,
        sizes.conditions,
        sizes.conditions_a_brain,
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


# Statistics over brains


def brains(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over a brain's scans: network, candidate, part, brain, measures."""
    keys = ["network", "candidate", "part", "brain"]
    return table.groupby(keys, sort=False)[list(MEASURES)].mean().reset_index()


def intervals(values: pd.DataFrame, names=MEASURES) -> dict:
    """Mean over brains of each measure, with its interval."""
    columns = {}
    for name in names:
        mean, low, high = localisation.mean_interval(values[name])
        columns |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return columns


def summarised(table: pd.DataFrame, by) -> pd.DataFrame:
    """`intervals` of each group of brains, with the number of brains that have lesions."""
    rows = []
    for key, values in table.groupby(by, sort=False):
        group = dict(zip(by, key, strict=True))
        n_brains = int(values["auprc"].notna().sum())
        rows.append(group | {"brains": n_brains, **intervals(values)})
    return pd.DataFrame(rows)


def winners(by_brain: pd.DataFrame) -> dict:
    """Rule of the highest mean AUPRC on the validation part: of each network, and over all of
    them.
    """
    validation = by_brain[(by_brain["part"] == "validation") & (by_brain["network"] != "baselines")]
    means = validation.pivot_table("auprc", "candidate", "network")
    chosen = {name: means[name].idxmax() for name in means}
    chosen["all"] = means.mean(axis=1).idxmax()
    return chosen


@dataclass(frozen=True)
class Choice:
    """A candidate on some networks, or one of the baselines."""

    networks: tuple
    candidate: str

    def means(self, by_brain: pd.DataFrame, names) -> pd.DataFrame:
        """Mean over the networks of each brain's measures."""
        of_networks = by_brain["network"].isin(self.networks)
        of_candidate = by_brain["candidate"] == self.candidate
        return by_brain[of_networks & of_candidate].groupby("brain")[list(names)].mean()


def differences(by_brain: pd.DataFrame, choice: Choice, reference: Choice, names=OVERLAP) -> dict:
    """Paired over brains: a choice minus its reference, a brain's mean over networks."""
    changes = choice.means(by_brain, names) - reference.means(by_brain, names)
    return intervals(changes.dropna(), names)


def less_epsilon(by_brain: pd.DataFrame, nets, candidate: str, names=OVERLAP) -> dict:
    """A candidate minus epsilon 1e-3 of the same networks."""
    nets = tuple(nets)
    return differences(by_brain, Choice(nets, candidate), Choice(nets, PAPER), names)


def less_strongest_baseline(by_brain: pd.DataFrame, choice: Choice) -> dict:
    """A choice minus the strongest baseline, measure by measure."""
    of_baselines = by_brain[by_brain["network"] == "baselines"]
    means = of_baselines.groupby("candidate")[list(OVERLAP)].mean()
    by_measure = {}
    for measure in OVERLAP:
        strongest = means[measure].idxmax()
        baseline = Choice(("baselines",), strongest)
        values = differences(by_brain, choice, baseline, (measure,))
        by_measure[measure] = {"baseline": strongest, **values}
    return by_measure


def reported(by_brain: pd.DataFrame, chosen: dict) -> dict:
    """On the test part: each winner minus epsilon 1e-3 of the same networks, and minus the
    strongest baseline, measure by measure.
    """
    test = by_brain[by_brain["part"] == "test"]
    nets = [name for name in chosen if name != "all"]
    report = {}
    for name, candidate in chosen.items():
        winner = Choice(tuple(nets) if name == "all" else (name,), candidate)
        report[name] = {
            "rule": candidate,
            "less_epsilon": less_epsilon(test, winner.networks, candidate),
            "less_strongest_baseline": less_strongest_baseline(test, winner),
        }
    report["all"]["less_epsilon_by_network"] = {
        net: less_epsilon(test, (net,), chosen["all"]) for net in nets
    }
    return report


def width(by_brain: pd.DataFrame, chosen: dict) -> dict:
    """Of the networks that differ in width alone the best, by its winner on the validation part; on
    the test part minus each of the others.
    """
    widths = [name for name in chosen if name.startswith("width-") and "," not in name]
    means = by_brain.groupby(["part", "network", "candidate"])["auprc"].mean()
    validation = {name: means["validation", name, chosen[name]] for name in widths}
    best = max(widths, key=validation.get)
    test = by_brain[by_brain["part"] == "test"]
    winner = Choice((best,), chosen[best])
    test_less = {}
    for name in widths:
        if name != best:
            test_less[name] = differences(test, winner, Choice((name,), chosen[name]))
    return {"best": best, "validation_auprc": validation, "test_less": test_less}


def factors(table: pd.DataFrame, chosen: dict) -> pd.DataFrame:
    """The test part by condition: winners, epsilon 1e-3 and baselines; AUPRC also minus that of
    epsilon 1e-3, paired.
    """
    test = table[table["part"] == "test"]
    rows = []
    for name in dict.fromkeys(test["network"]):
        for candidate in _shown(name, chosen):
            rows += _by_condition(test, name, candidate)
    return pd.DataFrame(rows)


def _shown(net: str, chosen: dict) -> list[str]:
    """Candidates of a network that the table by condition shows: each once."""
    if net == "baselines":
        return list(BASELINES)
    return list(dict.fromkeys((PAPER, chosen[net], chosen["all"])))


def _by_condition(test: pd.DataFrame, net: str, candidate: str) -> list[dict]:
    """One row a condition."""
    is_winner = candidate not in (PAPER, *BASELINES)
    of_candidate = test[(test["network"] == net) & (test["candidate"] == candidate)]
    rows = []
    for condition, values in of_candidate.groupby("condition", sort=False):
        row = {
            "network": net,
            "candidate": candidate,
            "condition": condition,
            "brains": len(values),
            **intervals(values),
        }
        if is_winner and condition != "control":
            scans = test[test["condition"] == condition]
            change = less_epsilon(scans, (net,), candidate, ("auprc",))
            row |= {f"{key}_less_epsilon": value for key, value in change.items()}
        rows.append(row)
    return rows


# Figure and files


@sheet.drawn
def picture(summary: pd.DataFrame, chosen: dict):
    """AUPRC on the test part of every rule by network, baselines as lines; winners (of the
    validation part) filled.
    """
    test = summary[summary["part"] == "test"]
    is_baseline = test["network"] == "baselines"
    rows = test[~is_baseline]
    baselines = test[is_baseline].set_index("candidate")
    names = list(dict.fromkeys(rows["candidate"]))
    nets = list(dict.fromkeys(rows["network"]))
    height = 0.235 * len(names)
    notes = [
        f"Mean over {test['brains'].max()} brains, each in up to three conditions, with 95 % "
        "intervals (bootstrap over brains). Filled: the rule that won on the validation part; "
        "bold: over all networks. Lines: baselines."
    ]
    title = "Which rule finds simulated lesions? Test part of the benchmark"
    figure, bottom = sheet.sheet(7.5, height + 0.45, title, notes, True)
    axes = sheet.place(figure, 1.85, bottom + 0.4, 4.2, height)
    for number, net in enumerate(nets):
        offset = 0.72 * ((number + 0.5) / len(nets) - 0.5)
        values = rows[rows["network"] == net].set_index("candidate").loc[names]
        _draw_network(axes, values, np.arange(len(names)) + offset, COLOURS[number])
        won = names.index(chosen[net])
        axes.plot(values["auprc"].iloc[won], won + offset, "o", ms=4.6, color=COLOURS[number])
    for name, style in LINES.items():
        level = baselines.loc[name, "auprc"]
        axes.axvline(level, ls=style, lw=0.9, color="#444444", label=name, zorder=0)
    for row in range(1, len(names), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f3f3f3", zorder=-1, lw=0)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, None), xlabel="AUPRC of the lesions")
    axes.set_yticks(range(len(names)), names)
    axes.get_yticklabels()[names.index(chosen["all"])].set_fontweight("bold")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return figure, test


def _draw_network(axes, values: pd.DataFrame, heights, colour: str) -> None:
    """Means with intervals of all candidates of a network."""
    mean = values["auprc"].to_numpy()
    reach = np.abs(values[["auprc_low", "auprc_high"]].to_numpy().T - mean)
    axes.errorbar(
        mean,
        heights,
        xerr=reach,
        fmt="o",
        ms=3.4,
        mfc="white",
        lw=0.8,
        color=colour,
        label=values["network"].iloc[0],
    )


def main(folder: str) -> None:
    """Search, print, and write the files."""
    where = Results(folder)
    here = Path(__file__)
    network.configure(0, 1)
    nets = networks(where)
    cohort = Prepared(where.prepared("phantom-ms"), where.split("phantom-ms"))
    tuned, words = reference_maps.attempt(cohort)
    table = run(nets, tuned)
    by_brain = brains(table)
    chosen = winners(by_brain)
    summary = summarised(by_brain, ["network", "candidate", "part"])
    result = {
        "winners": chosen,
        "test": reported(by_brain, chosen),
        "width": width(by_brain, chosen),
    }
    print(summary[summary["part"] == "test"].round(3).to_string())
    print(json.dumps(result, indent=1))
    by_condition = here.with_name("search_factors.tsv")
    tsv.write(factors(table, chosen), by_condition, float_format="%.4g")
    settings = {
        "results": where.given,
        "seed": SEED,
        "parts": PARTS,
        "controls": CONTROLS,
        "conditions": str(controlled_pairs.CONDITIONS),
        "others": CONDITIONS_A_BRAIN,
        "candidates": CANDIDATES,
    }
    inputs = [where.prepared("phantom-ms"), where.split("phantom-ms")]
    named = {}
    for name, paths in nets.items():
        inputs += paths
        named[name] = [provenance.relative(path) for path in paths]
    record = provenance.record(
        settings,
        inputs,
        networks=named,
        baselines=words,
        result=result,
        tables={by_condition.name: provenance.sha256(by_condition)},
    )
    figure, _ = picture(summary, chosen)
    figures.save(figure, here.parent, here.stem, summary, record)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
