"""What makes a heatmap find lesions: training, rule, number of networks and copies. On further
simulated subjects; after `make quality`.

Usage: python benchmarks/localisation.py [RESULTS]      (default runs/demo; about 45 minutes of 2
cores)

Rows of the ladder: networks trained by labels alone (the demo's pretrained and scratch variants,
and one from scratch that sees as many scans as training in pairs shows), networks of the same
architecture trained in pairs (`msxai.model.pairs`), by rule, by how many trainings a map is the
mean of, and over how many shifted and mirrored copies of the scan (`msxai.lrp.tta`). All have width
16; the paper's width 64 is not measured. They are measured on patients of phantom-ms-further, which
no training or tuning has read, beside the baselines of `msxai.quality.reference_maps`, tuned on the
demo's validation part (untrained: by epsilon_gamma). epsilon_gamma's gammas, 45 epochs and four
trainings were chosen by hand on 24 other simulated patients, of which no record was kept; the
copies' reach and number by hand on the demo's validation part. One row is no LRP rule: relevance
times brightness. What the scans themselves allow: a classifier of voxels (gradient boosting on the
scan blurred at five scales, its edges, the prior and the place), trained with the lesion masks of
the demo's training part. Written beside this file: localisation.tsv (the ladder with intervals and
paired differences), localisation_scores.tsv (each patient), targets.tsv (the targets that the
project set itself, what was reached, what limits it), localisation.json, localisation.png.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingClassifier
from tqdm import tqdm

from msxai.base import provenance
from msxai.base.results import Results
from msxai.data import images
from msxai.data.prepared import Prepared
from msxai.lrp import rules
from msxai.model import network
from msxai.quality import checks as checks_of_maps
from msxai.quality import (
    faithfulness,
    league,
    localisation,
    reference_maps,
    scan_maps,
)
from msxai.report import figures
from msxai.report.figures import sheet

PATIENTS, CONTROLS, CHECKED, SCANS, VOXELS, COPIES = 100, 30, 12, 30, 4000, 8
BLOCK = 5  # patients a task
EPSILON, GAMMA, DEFAULT = "epsilon", "epsilon_gamma", rules.DEFAULT
LEFT = (2 / 3, 1 / 3, 0)  # shares of the lesions' volume that are left in the experiment of dose
LADDER = {  # name: variant, rule, number of networks, of copies
    "demo's network, pre-trained, epsilon": ("pretrained", EPSILON, 1, 1),
    "from scratch, epsilon": ("scratch", EPSILON, 1, 1),
    "from scratch, epsilon_gamma": ("scratch", GAMMA, 1, 1),
    "from scratch, epsilon_gamma, mean of 2": ("scratch", GAMMA, 2, 1),
    "from scratch, as many scans as in pairs, epsilon_gamma": ("labels-longer", GAMMA, 1, 1),
    "in pairs, epsilon": ("pairs", EPSILON, 1, 1),
    "in pairs, epsilon_gamma": ("pairs", GAMMA, 1, 1),
    "in pairs, epsilon_gamma, mean of 2": ("pairs", GAMMA, 2, 1),
    "in pairs, epsilon_gamma, mean of 4": ("pairs", GAMMA, 4, 1),
    f"in pairs, {DEFAULT}, mean of 4": ("pairs", DEFAULT, 4, 1),
    f"from scratch, epsilon_gamma, mean of 2, {COPIES} copies": ("scratch", GAMMA, 2, COPIES),
    f"in pairs, epsilon_gamma, {COPIES} copies": ("pairs", GAMMA, 1, COPIES),
    f"in pairs, epsilon_gamma, mean of 4, {COPIES} copies": ("pairs", GAMMA, 4, COPIES),
    f"in pairs, {DEFAULT}, mean of 4, {COPIES} copies": ("pairs", DEFAULT, 4, COPIES),
}
LONGER, ONCE, FOUR, BEST, TIMES, BOUND = (
    "from scratch, as many scans as in pairs, epsilon_gamma",
    "in pairs, epsilon_gamma",
    "in pairs, epsilon_gamma, mean of 4",
    f"in pairs, epsilon_gamma, mean of 4, {COPIES} copies",
    f"epsilon_gamma, mean of 4, {COPIES} copies, times brightness (no LRP rule)",
    "voxel classifier trained with masks",
)
BLURS = (0.0, 0.7, 1.5, 3.0, 6.0)


def explained(models: dict, image) -> dict:
    """Variant, rule and number of copies to a map of each network, (X, Y, Z)."""
    wanted, by_kind = {(variant, rule, copies) for variant, rule, _, copies in LADDER.values()}, {}
    for variant, copies in sorted({(variant, copies) for variant, _, copies in wanted}):
        names = sorted(
            rule
            for variant_of_rule, rule, count in wanted
            if (variant_of_rule, count) == (variant, copies)
        )
        for model in models[variant]:
            for rule, heatmap in scan_maps.of_scan(
                model, image, names, copies=copies, threads=1
            ).items():
                by_kind.setdefault((variant, rule, copies), []).append(heatmap)
    return by_kind


def mean_of(models, image) -> np.ndarray:
    """Map of the best row."""
    _, rule, count, copies = LADDER[BEST]
    return np.mean(
        [
            scan_maps.of_scan(model, image, [rule], copies=copies, threads=1)[rule]
            for model in models[:count]
        ],
        axis=0,
    )


def maps_of(models: dict, image, bright) -> tuple[dict, dict]:
    """The ladder's maps of one scan, and those of each network."""
    each = explained(models, image)
    maps = {
        name: np.mean(each[variant, rule, copies][:count], axis=0)
        for name, (variant, rule, count, copies) in LADDER.items()
    }
    return maps | {TIMES: np.maximum(maps[BEST], 0) * np.maximum(bright, 0)}, each


def features(bright, brain, prior) -> np.ndarray:
    """What the voxel classifier sees, (voxels of the brain, features)."""
    blurred = [ndimage.gaussian_filter(bright, blur) if blur else bright for blur in BLURS]
    around = (
        ndimage.maximum_filter(bright, 3),
        ndimage.minimum_filter(bright, 3),
        *(ndimage.laplace(volume) for volume in blurred[1:3]),
    )
    columns = [*blurred, *around, ndimage.gaussian_filter(prior, 2), *np.indices(brain.shape)[1:]]
    return np.stack([volume[brain] for volume in columns], axis=1).astype("float32")


def bound(cohort, tuned, rows, seed: int = 0):
    """A classifier of voxels; a function from row's scan to its map."""
    rng, inputs, truth = np.random.default_rng(seed), [], []
    for row in rows:
        brain, lesions = cohort.brain(row), cohort.lesions(row)
        inside_brain, known = (
            features(reference_maps.zscore(cohort, row), brain, tuned.prior),
            lesions[brain],
        )
        chosen = np.concatenate(
            [np.flatnonzero(known), rng.choice(np.flatnonzero(~known), VOXELS, replace=False)]
        )
        inputs.append(inside_brain[chosen])
        truth.append(known[chosen])
    model = HistGradientBoostingClassifier(random_state=seed).fit(
        np.concatenate(inputs), np.concatenate(truth)
    )

    def map_of(bright, brain) -> np.ndarray:
        out = np.zeros(brain.shape)
        out[brain] = model.predict_proba(features(bright, brain, tuned.prior))[:, 1]
        return out

    return map_of


def fewer(image, lesions, seed: int = 0) -> list:
    """The scan with lesions filled, in a random order, until of their volume the shares `LEFT` are
    left: (voxels left, scan).
    """
    numbers, count = ndimage.label(lesions, images.NEIGHBOURHOOD_26)
    sizes, order = np.bincount(numbers.ravel())[1:], np.random.default_rng(seed).permutation(count)
    without = faithfulness.healed(image, lesions, seed)
    nearest = numbers[
        tuple(ndimage.distance_transform_edt(~lesions, return_distances=False, return_indices=True))
    ]
    rows_of_counts = []
    for share in LEFT:
        gone = order[np.cumsum(sizes[order]) <= (1 - share) * sizes.sum() + 0.5] + 1
        rows_of_counts.append(
            (
                int(lesions.sum() - sizes[gone - 1].sum()),
                np.where(np.isin(nearest, gone), without, image).astype("float32"),
            )
        )
    return rows_of_counts


def agreement(pair, near, brain) -> dict:
    """What two networks' maps agree by: over the brain, round the lesions, once blurred, and in the
    half of the voxels that says least.
    """
    size = sum(np.abs(volume) for volume in pair)
    weak = brain & (size <= np.median(size[brain]))
    blurred = [ndimage.gaussian_filter(volume, 2.0) for volume in pair]
    return {
        "pairs of networks": localisation.consistency(*pair, brain),
        "round lesions": localisation.consistency(*pair, near),
        "blurred": localisation.consistency(*blurred, brain),
        "weak half": localisation.consistency(*pair, weak),
        "weak half's share": float(size[weak].sum() / size[brain].sum()),
    }


def measured(path, rows, paths: dict, tuned, classifier, examined) -> dict:
    """What the maps of some patients score; of those among `examined` also deletion, insertion and
    dose.
    """
    network.configure(0, 1)
    further, untrained = Prepared(path), reference_maps.untrained(16, 0)
    models = {
        variant: [network.restore(file) for file in files] for variant, files in paths.items()
    }
    logits = [faithfulness.logit_of(model) for model in models["pairs"]]
    scores, alike, total, brains, faithful, doses = [], [], 0, 0, [], []
    for row in rows:
        image, brain, lesions, bright = (
            further.image(row),
            further.brain(row),
            further.lesions(row),
            reference_maps.zscore(further, row),
        )
        maps, by_variant = maps_of(models, image, bright)
        maps |= reference_maps.maps(
            further, row, tuned, untrained, rule=GAMMA, epsilon=1e-3, threads=1
        )
        maps[BOUND] = classifier(bright, brain)
        target, who = (
            localisation.Target(lesions, brain),
            {"participant_id": further.table["participant_id"].iloc[row]},
        )
        plain, pair = by_variant["pairs", GAMMA, 1], by_variant["pairs", GAMMA, COPIES]
        logit = float(np.mean([logit_of(image) for logit_of in logits]))
        alike.append(
            {
                **agreement(pair[:2], target.near(2) & brain, brain),
                "plain": localisation.consistency(*plain[:2], brain),
                "logit": logit,
                "lesions": int(lesions.sum()),
                "positive": float(localisation.positive(maps[BEST]).sum()),
                "near": localisation.measure(maps[BEST], target.near(2), brain, names=["rma"])[
                    "rma"
                ],
                "halves": localisation.consistency(pair[0] + pair[1], pair[2] + pair[3], brain),
            }
        )
        for name, values in maps.items():
            scores.append(
                {"map": name, **who, **localisation.measure(values, lesions, brain, target)}
            )
        large = localisation.Target(_large(target, 10), brain)
        if large.size:
            scores[-len(maps) + list(maps).index(BEST)]["large"] = localisation.measure(
                maps[BEST], large.lesions, brain, large, ["sensitivity"]
            )["sensitivity"]
        total, brains = total + maps[BEST], brains + brain
        if row in examined:
            filled = faithfulness.fill(image, brain, mask=lesions)
            exchange = faithfulness.Exchange(image, filled, brain)
            faithful.append(
                faithfulness.compare(logits[0], exchange, {BEST: maps[BEST]}, orders=1).iloc[0]
            )
            points = [(alike[-1]["lesions"], alike[-1]["positive"])]
            points += [
                (left, float(localisation.positive(mean_of(models["pairs"], scan)).sum()))
                for left, scan in fewer(image, lesions)
            ]
            doses.append(np.corrcoef(np.transpose(points))[0, 1])
    return {
        "scores": scores,
        "alike": alike,
        "total": total,
        "brains": brains,
        "faithful": faithful,
        "doses": doses,
    }


def total_of(path, rows, paths) -> np.ndarray:
    """Sum of the best row's maps of some scans."""
    network.configure(0, 1)
    further, models = Prepared(path), [network.restore(one) for one in paths]
    return np.sum([mean_of(models, further.image(row)) for row in rows], axis=0)


def run(
    where: Results, patients=PATIENTS, controls=CONTROLS, checked=CHECKED, scans=SCANS, jobs=1
) -> tuple[pd.DataFrame, dict, list]:
    """Scores of each subject, numbers of the best row, and the files that were read; the same for
    any number of processes.
    """
    cohort = Prepared(where.prepared("phantom-ms"), where.split("phantom-ms"))
    further = Prepared(where.prepared("phantom-ms-further"))
    counts = {
        variant: max(
            count for ladder_variant, _, count, _ in LADDER.values() if ladder_variant == variant
        )
        for variant, *_ in LADDER.values()
    }
    paths = {
        variant: [where.trial(variant, trial) / "weights.npz" for trial in range(count)]
        for variant, count in counts.items()
    }
    tuned = reference_maps.tune(cohort)
    classifier = bound(
        cohort,
        tuned,
        league.spread_evenly(reference_maps.with_lesions(cohort, cohort.rows("training")), scans),
    )
    labels = further.table["label"].to_numpy(int)
    chosen = list(
        league.spread_evenly(
            reference_maps.with_lesions(further, np.flatnonzero(labels == 1)), patients
        )
    )
    examined, healthy = (
        set(chosen[:checked]),
        league.spread_evenly(np.flatnonzero(labels == 0), controls),
    )
    tasks = [
        delayed(measured)(
            further.path, chosen[first : first + BLOCK], paths, tuned, classifier, examined
        )
        for first in range(0, len(chosen), BLOCK)
    ]
    tasks += [
        delayed(total_of)(further.path, healthy[first : first + BLOCK], paths["pairs"])
        for first in range(0, len(healthy), BLOCK)
    ]
    done = list(
        tqdm(
            Parallel(jobs, return_as="generator")(tasks),
            desc="measuring",
            unit="block",
            total=len(tasks),
        )
    )
    blocks = [block for block in done if isinstance(block, dict)]
    scores, alike, faithful, doses = (
        [item for block in blocks for item in block[name]]
        for name in ("scores", "alike", "faithful", "doses")
    )
    sums = {
        1: sum(block["total"] for block in blocks),
        0: sum(block for block in done if not isinstance(block, dict)),
    }
    brains = sum(block["brains"].astype(int) for block in blocks)
    checks = checks_of_maps.run(
        network.restore(paths["pairs"][0]),
        further,
        chosen[:checked],
        [GAMMA],
        epsilon=1e-3,
        seed=0,
        threads=1,
    )[0]
    checks, alike, faithful = checks.set_index("check"), pd.DataFrame(alike), pd.DataFrame(faithful)
    notes = {
        "seed consistency, two networks": localisation.mean_interval(alike["pairs of networks"]),
        **{
            f"seed consistency, {name}": localisation.mean_interval(alike[name])
            for name in ("round lesions", "blurred", "weak half")
        },
        "seed consistency, two networks, plain": localisation.mean_interval(alike["plain"]),
        "weak half's share of relevance": localisation.mean_interval(alike["weak half's share"]),
        "seed consistency, two means of two": localisation.mean_interval(alike["halves"]),
        "logit and lesion volume": localisation.correlation_interval(
            alike["logit"], alike["lesions"]
        ),
        "logit and log lesion volume": localisation.correlation_interval(
            alike["logit"], np.log(alike["lesions"])
        ),
        "class contrast": localisation.class_contrast(
            sums[1] / len(chosen), sums[0] / max(controls, 1), brains >= len(chosen) / 2
        ),
        "deletion p": localisation.above_zero(faithful["deletion"]),
        "insertion p": localisation.above_zero(faithful["insertion"]),
        "deletion": localisation.mean_interval(faithful["deletion"]),
        "insertion": localisation.mean_interval(faithful["insertion"]),
        **{
            name: tuple(checks.loc[name, ["value", "low", "high"]])
            for name in ("randomised: rank", "randomised: SSIM")
        },
        "positive relevance within 2 voxels of a lesion": localisation.mean_interval(alike["near"]),
        "shuffled: SSIM": float(checks.loc["randomised: SSIM", "reference"]),
        "conservation error without biases": float(
            checks.loc["conservation error without biases", "value"]
        ),
        "dose within a patient, lesions filled one by one": localisation.mean_interval(doses),
        "dose": localisation.correlation_interval(alike["positive"], alike["lesions"]),
        "lesions of one voxel": float(
            np.mean(np.concatenate([_sizes(further.lesions(row)) for row in chosen]) == 1)
        ),
    }
    files = [
        where.prepared("phantom-ms"),
        where.split("phantom-ms"),
        further.path,
        *(path for files in paths.values() for path in files),
    ]
    return pd.DataFrame(scores), notes, files


def _sizes(lesions) -> np.ndarray:
    return np.bincount(ndimage.label(lesions, images.NEIGHBOURHOOD_26)[0].ravel())[1:]


def _large(target, least: int) -> np.ndarray:
    """Lesions of `least` voxels or more."""
    numbers, _ = target.labels
    sizes = np.bincount(numbers.ravel())
    return (sizes >= least)[numbers] & target.lesions


def targets(table: pd.DataFrame, scores: pd.DataFrame, about: dict) -> pd.DataFrame:
    """The targets for synthetic scans, the best row's numbers, and what limits it, by the other
    rows.
    """
    rows = table.set_index("map")
    best, four, once, alone, all_of_it = (
        rows.loc[name] for name in (BEST, FOUR, ONCE, LONGER, BOUND)
    )
    large = localisation.mean_interval(scores["large"].dropna())

    def steps(name):
        values = (alone[name], once[name], four[name], best[name], rows.loc["brightness", name])
        words = (
            "training: as long by labels {:.2f}, in pairs {:.2f}, mean of 4 {:.2f},"
            " of copies {:.2f}; brightness {:.2f}"
        )
        return words.format(*values)

    def allowed(name):
        return (
            f"; scans: a voxel classifier trained with masks reaches {all_of_it[name]:.2f};"
            f" times brightness {rows.loc[TIMES, name]:.2f}"
        )

    def held(name, least):
        return (
            name,
            f">= {least:.2f}",
            f"{best[name]:.3f} ({best[name + '_low']:.3f} to {best[name + '_high']:.3f})",
            best[name] >= least,
        )

    def told(name):
        return "{:.3f} ({:.3f} to {:.3f})".format(*about[name])

    near = about["positive relevance within 2 voxels of a lesion"][0]
    where = (
        f"rule: {near:.2f} lies in lesions or within 2 voxels of them,"
        f" {rows.loc[TIMES, 'rma']:.2f} in them once times brightness; "
    )
    small = (
        f"scans: {about['lesions of one voxel']:.0%} of the lesions are one voxel; the voxel "
        "classifier hits "
        f"{all_of_it['sensitivity']:.2f} of all, the map {large[0]:.2f} of those of 10 "
        "voxels and more"
    )
    rows_of_targets = [
        (*held("rma", 0.5), where + steps("rma")),
        (*held("rra", 0.5), steps("rra") + allowed("rra")),
        (*held("auprc", 0.6), steps("auprc") + allowed("auprc")),
        (*held("best_dice", 0.55), steps("best_dice") + allowed("best_dice")),
        (*held("pointing", 0.9), steps("pointing")),
        (*held("sensitivity", 0.8), small),
    ]
    p = max(about["deletion p"], about["insertion p"])
    consistent, contrast = about["seed consistency, two networks"], about["class contrast"]
    weak = about["weak half's share of relevance"][0]
    rows_of_targets += [
        (
            "deletion, insertion",
            "p < .01",
            f"p = {about['deletion p']:.2g}, {about['insertion p']:.2g}",
            p < 0.01,
            "",
        ),
        (
            "conservation without biases",
            "<= 1e-4",
            f"{about['conservation error without biases']:.1e}",
            about["conservation error without biases"] <= 1e-4,
            "",
        ),
        (
            "randomisation, rank",
            "<= .2",
            told("randomised: rank"),
            about["randomised: rank"][0] <= 0.2,
            "",
        ),
        (
            "randomisation, SSIM",
            "<= .2",
            told("randomised: SSIM"),
            about["randomised: SSIM"][0] <= 0.2,
            "measure: sparse maps are alike by what they lack; shuffled voxels score "
            f"{about['shuffled: SSIM']:.3f}",
        ),
        (
            "seed consistency",
            ">= .7",
            told("seed consistency, two networks"),
            consistent[0] >= 0.7,
            f"measure: the weaker half of the brain's voxels bears {weak:.1%} of the "
            "relevance and agrees by "
            f"{told('seed consistency, weak half')}; rule: without copies two networks agree by "
            f"{told('seed consistency, two networks, plain')}; training: the means of two "
            "networks agree by "
            f"{told('seed consistency, two means of two')}, within 2 voxels of lesions two "
            "networks by "
            f"{told('seed consistency, round lesions')}; rule: where relevance lies between "
            "neighbours differs, blurred by 2 voxels the "
            f"maps agree by {told('seed consistency, blurred')}",
        ),
        (
            "class contrast",
            "<= .5",
            f"{contrast:.3f}",
            contrast <= 0.5,
            ""
            if contrast <= 0.5
            else "network: maps of controls show where lesions usually lie,"
            " and what looks like them",
        ),
        (
            "dose",
            ">= .8",
            told("dose"),
            about["dose"][0] >= 0.8,
            "network: its logit and the volume correlate by "
            + told("logit and lesion volume")
            + ", with its logarithm by "
            + told("logit and log lesion volume")
            + "; within a patient, as lesions are filled one by one, "
            "relevance and volume by "
            + told("dose within a patient, lesions filled one by one")
            + ": patients differ by more than their lesions",
        ),
    ]
    once = f"one network, epsilon_gamma, {CHECKED} patients"
    on = {
        "deletion, insertion": f"{BEST}; the logit of one network, {CHECKED} patients",
        "randomisation, rank": once,
        "conservation without biases": once,
        "randomisation, SSIM": once,
        "seed consistency": f"epsilon_gamma, {COPIES} copies, two networks",
        "dose": BEST,
    }
    table = pd.DataFrame(
        rows_of_targets, columns=["measure", "target", "reached", "holds", "limits"]
    )
    table.insert(4, "measured_on", [on.get(name, BEST) for name in table["measure"]])
    return table


@sheet.drawn
def picture(table: pd.DataFrame):
    """The ladder beside the baselines and the bound: four measures, mean and interval."""
    names = {
        "auprc": "AUPRC",
        "rra": "Relevance rank",
        "rma": "Relevance mass",
        "pointing": "Pointing game",
    }
    order = [*LADDER, TIMES, *reference_maps.NAMES, BOUND]
    rows, places, height = (
        table.set_index("map").loc[order],
        np.arange(len(order))[::-1],
        0.235 * len(order),
    )
    notes = [
        f"{int(rows['subjects'].iloc[0])} patients: mean and 95 % interval over patients "
        "(bootstrap). Dotted: brightness. Blue: LRP; "
        "purple: no LRP rule; grey: baselines; green: trained with lesion masks."
    ]
    figure, bottom = sheet.sheet(
        11.3, height + 0.5, "What makes a heatmap find lesions?", notes, True
    )
    colours = (
        ["#0072B2"] * len(LADDER)
        + ["#CC79A7"]
        + ["#777777"] * len(reference_maps.NAMES)
        + ["#009E73"]
    )
    for number, (name, label) in enumerate(names.items()):
        axes = sheet.place(
            figure, 4.3 + 1.75 * number, bottom + 0.45, 1.55, height, xlim=(0, 1.02), xlabel=label
        )
        for position, entry, colour in zip(places, order, colours, strict=True):
            axes.plot(
                rows.loc[entry, [f"{name}_low", f"{name}_high"]].astype(float),
                [position, position],
                color=colour,
                lw=1,
            )
            axes.plot(rows.loc[entry, name], position, "o", ms=3.5, color=colour)
        axes.axvline(rows.loc["brightness", name], color="#777777", ls=":", lw=0.9)
        axes.set_yticks(places, order if not number else [])
    return figure, table


def write(where: Results, scores: pd.DataFrame, about: dict, files: list) -> None:
    """Print and write what stands in the docstring, with how each network was trained."""
    here, table = Path(__file__), localisation.rank(scores, reference_maps.NAMES)
    table = table[[name for name in table if not name.startswith("_")]]
    aims = targets(table, scores, about)
    print(
        table[
            ["map", "auprc", "auprc_difference_low", "rma", "rra", "rra_difference_low", "pointing"]
        ]
        .round(3)
        .to_string()
    )
    print(aims.to_string())
    further_tables = {"targets": aims, "localisation_scores": scores}
    for name, further_table in further_tables.items():
        with provenance.replacing(here.with_name(f"{name}.tsv")) as draft:
            further_table.to_csv(draft, sep="\t", index=False, na_rep="n/a", float_format="%.4g")
    settings = {
        "results": where.given,
        "patients": PATIENTS,
        "controls": CONTROLS,
        "checked": CHECKED,
        "ladder": LADDER,
        "left": LEFT,
        "bound": {"scans": SCANS, "voxels": VOXELS, "blurs": BLURS, "seed": 0},
    }
    tables = {
        f"{name}.tsv": provenance.sha256(here.with_name(f"{name}.tsv")) for name in further_tables
    }
    records = {
        provenance.relative(path): json.loads(
            path.with_name("provenance.json").read_text(encoding="utf-8")
        )
        for path in files
        if path.name == "weights.npz"
    }
    trained = {
        name: {key: record[key] for key in ("backend", "commit", "best_epoch", "val_accuracy")}
        for name, record in records.items()
    }
    record = provenance.record(
        settings, files, synthetic=True, result=about, tables=tables, networks=trained
    )
    figures.save(picture(table)[0], here.parent, here.stem, table, record)


if __name__ == "__main__":
    network.configure(0, 1)
    where = Results(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    write(where, *run(where, jobs=2))
