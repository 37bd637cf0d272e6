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
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import ndimage
from sklearn.ensemble import HistGradientBoostingClassifier
from tqdm import tqdm

from msxai.base import provenance, tsv
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

PATIENTS, CONTROLS = 100, 30
CHECKED = 12  # patients whose maps are checked by filling
BLOCK = 5  # scans a task
SCANS, VOXELS = 30, 4000  # that the voxel classifier is trained on; voxels of healthy tissue a scan
BLURS = (0.0, 0.7, 1.5, 3.0, 6.0)  # standard deviations, voxels
LEFT = (2 / 3, 1 / 3, 0)  # shares of the lesions' volume that are left in the experiment of dose
LARGE = 10  # voxels of a lesion that should not be missed
EPSILON, GAMMA, DEFAULT = "epsilon", "epsilon_gamma", rules.DEFAULT
COPIES = 8


@dataclass(frozen=True)
class Row:
    """A map of the ladder.

    Attributes
    ----------
    variant : str
        How its networks were trained.
    rule : str
    networks : int
        Of how many trainings the map is the mean.
    copies : int
        Over how many shifted and mirrored copies of the scan.
    """

    variant: str
    rule: str
    networks: int = 1
    copies: int = 1


PRETRAINED_EPSILON = "demo's network, pre-trained, epsilon"
LONGER = "from scratch, as many scans as in pairs, epsilon_gamma"
ONCE = "in pairs, epsilon_gamma"
FOUR = "in pairs, epsilon_gamma, mean of 4"
BEST = f"in pairs, epsilon_gamma, mean of 4, {COPIES} copies"
TIMES = f"epsilon_gamma, mean of 4, {COPIES} copies, times brightness (no LRP rule)"
BOUND = "voxel classifier trained with masks"
LADDER = {
    PRETRAINED_EPSILON: Row("pretrained", EPSILON),
    "from scratch, epsilon": Row("scratch", EPSILON),
    "from scratch, epsilon_gamma": Row("scratch", GAMMA),
    "from scratch, epsilon_gamma, mean of 2": Row("scratch", GAMMA, 2),
    LONGER: Row("labels-longer", GAMMA),
    "in pairs, epsilon": Row("pairs", EPSILON),
    ONCE: Row("pairs", GAMMA),
    "in pairs, epsilon_gamma, mean of 2": Row("pairs", GAMMA, 2),
    FOUR: Row("pairs", GAMMA, 4),
    f"in pairs, {DEFAULT}, mean of 4": Row("pairs", DEFAULT, 4),
    f"from scratch, epsilon_gamma, mean of 2, {COPIES} copies": Row("scratch", GAMMA, 2, COPIES),
    f"in pairs, epsilon_gamma, {COPIES} copies": Row("pairs", GAMMA, 1, COPIES),
    BEST: Row("pairs", GAMMA, 4, COPIES),
    f"in pairs, {DEFAULT}, mean of 4, {COPIES} copies": Row("pairs", DEFAULT, 4, COPIES),
}


# Maps of one scan


def explained(models: dict, image) -> dict:
    """Variant, rule and number of copies to a map of each network, (X, Y, Z)."""
    names = {}
    for row in LADDER.values():
        names.setdefault((row.variant, row.copies), set()).add(row.rule)
    maps = {}
    for variant, copies in sorted(names):
        wanted = sorted(names[variant, copies])
        for model in models[variant]:
            by_rule = scan_maps.of_scan(model, image, wanted, copies=copies, threads=1)
            for rule, heatmap in by_rule.items():
                maps.setdefault((variant, rule, copies), []).append(heatmap)
    return maps


def ladder_maps(by_network: dict, bright) -> dict:
    """The ladder's maps of one scan, by name, from those of each network (`explained`)."""
    maps = {}
    for name, row in LADDER.items():
        of_networks = by_network[row.variant, row.rule, row.copies]
        maps[name] = np.mean(of_networks[: row.networks], axis=0)
    maps[TIMES] = np.maximum(maps[BEST], 0) * np.maximum(bright, 0)
    return maps


def best_map(models, image) -> np.ndarray:
    """Map of the best row alone."""
    row = LADDER[BEST]
    maps = []
    for model in models[: row.networks]:
        by_rule = scan_maps.of_scan(model, image, [row.rule], copies=row.copies, threads=1)
        maps.append(by_rule[row.rule])
    return np.mean(maps, axis=0)


# What the scans allow: a classifier of voxels


def features(bright, brain, prior) -> np.ndarray:
    """What the voxel classifier sees, (voxels of the brain, features)."""
    blurred = [ndimage.gaussian_filter(bright, blur) if blur else bright for blur in BLURS]
    edges = [
        ndimage.maximum_filter(bright, 3),
        ndimage.minimum_filter(bright, 3),
        ndimage.laplace(blurred[1]),
        ndimage.laplace(blurred[2]),
    ]
    _, *position = np.indices(brain.shape)
    volumes = [*blurred, *edges, ndimage.gaussian_filter(prior, 2), *position]
    return np.stack([volume[brain] for volume in volumes], axis=1).astype("float32")


@dataclass(frozen=True)
class VoxelClassifier:
    """A classifier of voxels that was trained with lesion masks."""

    model: HistGradientBoostingClassifier
    prior: np.ndarray

    def map_of(self, bright, brain) -> np.ndarray:
        """Probability of each voxel of the brain, 0 elsewhere."""
        probability = self.model.predict_proba(features(bright, brain, self.prior))
        volume = np.zeros(brain.shape)
        volume[brain] = probability[:, 1]
        return volume


def voxel_classifier(cohort, tuned, rows, seed: int = 0) -> VoxelClassifier:
    """Train on all lesion voxels of some scans, and on `VOXELS` others of each."""
    generator = np.random.default_rng(seed)
    inputs, truth = [], []
    for row in rows:
        brain = cohort.brain(row)
        is_lesion = cohort.lesions(row)[brain]
        columns = features(reference_maps.zscore(cohort, row), brain, tuned.prior)
        healthy = generator.choice(np.flatnonzero(~is_lesion), VOXELS, replace=False)
        chosen = np.concatenate([np.flatnonzero(is_lesion), healthy])
        inputs.append(columns[chosen])
        truth.append(is_lesion[chosen])
    model = HistGradientBoostingClassifier(random_state=seed)
    model.fit(np.concatenate(inputs), np.concatenate(truth))
    return VoxelClassifier(model, tuned.prior)


# Measures of one scan


@dataclass(frozen=True)
class PartlyFilled:
    """A scan with some of its lesions filled, and how many lesion voxels are left."""

    voxels_left: int
    image: np.ndarray


def partly_filled(image, lesions, seed: int = 0) -> list[PartlyFilled]:
    """The scan with lesions filled, in a random order, until of their volume the shares `LEFT` are
    left.
    """
    numbers, count = ndimage.label(lesions, images.NEIGHBOURHOOD_26)
    sizes = np.bincount(numbers.ravel())[1:]
    order = np.random.default_rng(seed).permutation(count)
    without = faithfulness.healed(image, lesions, seed)
    indices = ndimage.distance_transform_edt(~lesions, return_distances=False, return_indices=True)
    nearest = numbers[tuple(indices)]
    scans = []
    for share in LEFT:
        to_fill = (1 - share) * sizes.sum() + 0.5
        gone = order[np.cumsum(sizes[order]) <= to_fill] + 1
        filled = np.where(np.isin(nearest, gone), without, image).astype("float32")
        voxels_left = int(lesions.sum() - sizes[gone - 1].sum())
        scans.append(PartlyFilled(voxels_left, filled))
    return scans


def agreement(pair, near, brain) -> dict:
    """What two networks' maps agree by: over the brain, round the lesions, once blurred, and in the
    half of the voxels that says least.
    """
    magnitude = sum(np.abs(volume) for volume in pair)
    weak = brain & (magnitude <= np.median(magnitude[brain]))
    blurred = [ndimage.gaussian_filter(volume, 2.0) for volume in pair]
    return {
        "pairs of networks": localisation.consistency(*pair, brain),
        "round lesions": localisation.consistency(*pair, near),
        "blurred": localisation.consistency(*blurred, brain),
        "weak half": localisation.consistency(*pair, weak),
        "weak half's share": float(magnitude[weak].sum() / magnitude[brain].sum()),
    }


@dataclass(frozen=True)
class Scan:
    """What the measures of one scan read."""

    image: np.ndarray
    brain: np.ndarray
    lesions: np.ndarray
    target: localisation.Target


@dataclass
class Measured:
    """What some scans gave.

    Attributes
    ----------
    scores : list of dict
        One row a patient and map.
    agreements : list of dict
        One row a patient.
    faithful : list of pandas.Series
        Deletion and insertion of each patient that is checked.
    doses : list of float
        Of each patient that is checked: correlation of relevance and volume as lesions are filled.
    patients, controls : ndarray
        Sums of the best row's maps.
    brains : ndarray
        Sum of the patients' brains.
    """

    scores: list = field(default_factory=list)
    agreements: list = field(default_factory=list)
    faithful: list = field(default_factory=list)
    doses: list = field(default_factory=list)
    patients: np.ndarray | int = 0
    controls: np.ndarray | int = 0
    brains: np.ndarray | int = 0

    def add(self, block: "Measured") -> None:
        """Add what further scans gave."""
        self.scores += block.scores
        self.agreements += block.agreements
        self.faithful += block.faithful
        self.doses += block.doses
        self.patients = self.patients + block.patients
        self.controls = self.controls + block.controls
        self.brains = self.brains + block.brains


def measured(path, rows, paths: dict, tuned, classifier, checked) -> Measured:
    """What the maps of some patients score; of those among `checked` also deletion, insertion and
    dose.
    """
    network.configure(0, 1)
    further = Prepared(path)
    untrained = reference_maps.untrained(16, 0)
    models = {}
    for variant, files in paths.items():
        models[variant] = [network.restore(file) for file in files]
    logits = [faithfulness.logit_of(model) for model in models["pairs"]]
    result = Measured()
    for row in rows:
        brain, lesions = further.brain(row), further.lesions(row)
        target = localisation.Target(lesions, brain)
        scan = Scan(further.image(row), brain, lesions, target)
        bright = reference_maps.zscore(further, row)
        by_network = explained(models, scan.image)
        maps = ladder_maps(by_network, bright)
        maps |= reference_maps.maps(
            further, row, tuned, untrained, rule=GAMMA, epsilon=1e-3, threads=1
        )
        maps[BOUND] = classifier.map_of(bright, brain)
        agreements = _agreements(scan, by_network, maps[BEST])
        agreements["logit"] = float(np.mean([logit_of(scan.image) for logit_of in logits]))
        result.agreements.append(agreements)
        result.scores += _scores(scan, maps, further.table["participant_id"].iloc[row])
        result.patients = result.patients + maps[BEST]
        result.brains = result.brains + brain.astype(int)
        if row in checked:
            result.faithful.append(_faithful(scan, logits[0], maps[BEST]))
            result.doses.append(_dose(scan, models["pairs"], maps[BEST]))
    return result


def _agreements(scan: Scan, by_network: dict, best) -> dict:
    """How networks trained in pairs agree on one scan, and where the best map's relevance lies."""
    near = scan.target.near(2)
    plain = by_network["pairs", GAMMA, 1]
    copied = by_network["pairs", GAMMA, COPIES]
    halves = (copied[0] + copied[1], copied[2] + copied[3])
    return {
        **agreement(copied[:2], near & scan.brain, scan.brain),
        "plain": localisation.consistency(*plain[:2], scan.brain),
        "halves": localisation.consistency(*halves, scan.brain),
        "near": localisation.measure(best, near, scan.brain, names=["rma"])["rma"],
        "lesions": int(scan.lesions.sum()),
        "positive": float(localisation.positive(best).sum()),
    }


def _scores(scan: Scan, maps: dict, participant: str) -> list[dict]:
    """Measures of all maps; of the best one also how many large lesions it hits."""
    scores = []
    for name, relevance in maps.items():
        measures = localisation.measure(relevance, scan.lesions, scan.brain, scan.target)
        scores.append({"map": name, "participant_id": participant, **measures})
    large = localisation.Target(_large(scan.target, LARGE), scan.brain)
    if large.size:
        hits = localisation.measure(maps[BEST], large.lesions, scan.brain, large, ["sensitivity"])
        scores[list(maps).index(BEST)]["large"] = hits["sensitivity"]
    return scores


def _large(target, least: int) -> np.ndarray:
    """Lesions of `least` voxels or more."""
    numbers, _ = target.labels
    sizes = np.bincount(numbers.ravel())
    return (sizes >= least)[numbers] & target.lesions


def _faithful(scan: Scan, logit_of, best) -> pd.Series:
    """Deletion and insertion of the best map."""
    filled = faithfulness.fill(scan.image, scan.brain, mask=scan.lesions)
    exchange = faithfulness.Exchange(scan.image, filled, scan.brain)
    return faithfulness.compare(logit_of, exchange, {BEST: best}, orders=1).iloc[0]


def _dose(scan: Scan, models, best) -> float:
    """Correlation of positive relevance and lesion volume as lesions are filled one by one."""
    volumes = [int(scan.lesions.sum())]
    relevance = [float(localisation.positive(best).sum())]
    for filled in partly_filled(scan.image, scan.lesions):
        volumes.append(filled.voxels_left)
        heatmap = best_map(models, filled.image)
        relevance.append(float(localisation.positive(heatmap).sum()))
    return np.corrcoef(volumes, relevance)[0, 1]


def measured_controls(path, rows, paths) -> Measured:
    """The best row's maps of some controls."""
    network.configure(0, 1)
    further = Prepared(path)
    models = [network.restore(file) for file in paths]
    maps = [best_map(models, further.image(row)) for row in rows]
    return Measured(controls=np.sum(maps, axis=0))


# The whole cohort


@dataclass(frozen=True)
class Outcome:
    """Scores of each patient, numbers on the best row, and the files that were read."""

    scores: pd.DataFrame
    notes: dict
    files: list


def run(
    where: Results, patients=PATIENTS, controls=CONTROLS, checked=CHECKED, scans=SCANS, jobs=1
) -> Outcome:
    """Measure all maps; the same for any number of processes."""
    cohort = Prepared(where.prepared("phantom-ms"), where.split("phantom-ms"))
    further = Prepared(where.prepared("phantom-ms-further"))
    paths = _weights(where)
    tuned = reference_maps.tune(cohort)
    with_masks = reference_maps.with_lesions(cohort, cohort.rows("training"))
    classifier = voxel_classifier(cohort, tuned, league.spread_evenly(with_masks, scans))
    labels = further.table["label"].to_numpy(int)
    with_masks = reference_maps.with_lesions(further, np.flatnonzero(labels == 1))
    chosen = list(league.spread_evenly(with_masks, patients))
    healthy = league.spread_evenly(np.flatnonzero(labels == 0), controls)
    tasks = []
    for rows in _blocks(chosen):
        arguments = (further.path, rows, paths, tuned, classifier, set(chosen[:checked]))
        tasks.append(delayed(measured)(*arguments))
    for rows in _blocks(healthy):
        tasks.append(delayed(measured_controls)(further.path, rows, paths["pairs"]))
    blocks = Parallel(jobs, return_as="generator")(tasks)
    result = Measured()
    for block in tqdm(blocks, desc="measuring", unit="block", total=len(tasks)):
        result.add(block)
    checks, _ = checks_of_maps.run(
        network.restore(paths["pairs"][0]),
        further,
        chosen[:checked],
        [GAMMA],
        epsilon=1e-3,
        seed=0,
        threads=1,
    )
    sizes = np.concatenate([_sizes(further.lesions(row)) for row in chosen])
    contrast = localisation.class_contrast(
        result.patients / len(chosen),
        result.controls / max(controls, 1),
        result.brains >= len(chosen) / 2,
    )
    notes = {
        **_notes_of_agreement(pd.DataFrame(result.agreements)),
        **_notes_of_faithfulness(pd.DataFrame(result.faithful)),
        **_notes_of_checks(checks.set_index("check")),
        "class contrast": contrast,
        "dose within a patient, lesions filled one by one": localisation.mean_interval(
            result.doses
        ),
        "lesions of one voxel": float(np.mean(sizes == 1)),
    }
    files = [where.prepared("phantom-ms"), where.split("phantom-ms"), further.path]
    for of_variant in paths.values():
        files += of_variant
    return Outcome(pd.DataFrame(result.scores), notes, files)


def _weights(where: Results) -> dict:
    """Variant to as many weights files as the ladder's rows need."""
    counts = {}
    for row in LADDER.values():
        counts[row.variant] = max(row.networks, counts.get(row.variant, 0))
    paths = {}
    for variant, count in counts.items():
        trials = [where.trial(variant, trial) for trial in range(count)]
        paths[variant] = [folder / "weights.npz" for folder in trials]
    return paths


def _blocks(rows) -> list:
    return [rows[first : first + BLOCK] for first in range(0, len(rows), BLOCK)]


def _sizes(lesions) -> np.ndarray:
    """Voxels of each lesion."""
    numbers, _ = ndimage.label(lesions, images.NEIGHBOURHOOD_26)
    return np.bincount(numbers.ravel())[1:]


def _notes_of_agreement(table: pd.DataFrame) -> dict:
    """Means over patients of `_agreements`, and correlations between its columns."""
    names = {
        "pairs of networks": "seed consistency, two networks",
        "round lesions": "seed consistency, round lesions",
        "blurred": "seed consistency, blurred",
        "weak half": "seed consistency, weak half",
        "plain": "seed consistency, two networks, plain",
        "halves": "seed consistency, two means of two",
        "weak half's share": "weak half's share of relevance",
        "near": "positive relevance within 2 voxels of a lesion",
    }
    notes = {name: localisation.mean_interval(table[column]) for column, name in names.items()}
    correlate = localisation.correlation_interval
    volume = table["lesions"]
    notes["logit and lesion volume"] = correlate(table["logit"], volume)
    notes["logit and log lesion volume"] = correlate(table["logit"], np.log(volume))
    notes["dose"] = correlate(table["positive"], volume)
    return notes


def _notes_of_faithfulness(table: pd.DataFrame) -> dict:
    notes = {}
    for name in ("deletion", "insertion"):
        notes[name] = localisation.mean_interval(table[name])
        notes[f"{name} p"] = localisation.above_zero(table[name])
    return notes


def _notes_of_checks(checks: pd.DataFrame) -> dict:
    notes = {}
    for name in ("randomised: rank", "randomised: SSIM"):
        notes[name] = tuple(checks.loc[name, ["value", "low", "high"]])
    notes["shuffled: SSIM"] = float(checks.loc["randomised: SSIM", "reference"])
    conservation = "conservation error without biases"
    notes[conservation] = float(checks.loc[conservation, "value"])
    return notes


# Targets


@dataclass(frozen=True)
class Aim:
    """A target, what was reached, and what limits it."""

    measure: str
    target: str
    reached: str
    holds: bool
    measured_on: str = BEST
    limits: str = ""


def targets(table: pd.DataFrame, scores: pd.DataFrame, notes: dict) -> pd.DataFrame:
    """The targets for synthetic scans, the best row's numbers, and what limits it, by the other
    rows.
    """
    aims = _aims_of_measures(table.set_index("map"), scores, notes) + _aims_of_checks(notes)
    return pd.DataFrame([asdict(aim) for aim in aims])


def _aims_of_measures(rows: pd.DataFrame, scores: pd.DataFrame, notes: dict) -> list[Aim]:
    """Targets of the measures against lesion masks."""
    near, *_ = notes["positive relevance within 2 voxels of a lesion"]
    hit_large, *_ = localisation.mean_interval(scores["large"].dropna())
    place_of_relevance = (
        f"rule: {near:.2f} lies in lesions or within 2 voxels of them,"
        f" {rows.loc[TIMES, 'rma']:.2f} in them once times brightness; "
    )
    small = (
        f"scans: {notes['lesions of one voxel']:.0%} of the lesions are one voxel; the voxel"
        f" classifier hits {rows.loc[BOUND, 'sensitivity']:.2f} of all, the map {hit_large:.2f}"
        f" of those of {LARGE} voxels and more"
    )
    limits = {
        "rma": place_of_relevance + _steps(rows, "rma"),
        "rra": _steps(rows, "rra") + _allowed(rows, "rra"),
        "auprc": _steps(rows, "auprc") + _allowed(rows, "auprc"),
        "best_dice": _steps(rows, "best_dice") + _allowed(rows, "best_dice"),
        "pointing": _steps(rows, "pointing"),
        "sensitivity": small,
    }
    least = {
        "rma": 0.5,
        "rra": 0.5,
        "auprc": 0.6,
        "best_dice": 0.55,
        "pointing": 0.9,
        "sensitivity": 0.8,
    }
    best = rows.loc[BEST]
    aims = []
    for name, value in least.items():
        reached = _with_interval((best[name], best[f"{name}_low"], best[f"{name}_high"]))
        holds = best[name] >= value
        aims.append(Aim(name, f">= {value:.2f}", reached, holds, limits=limits[name]))
    return aims


def _steps(rows: pd.DataFrame, name: str) -> str:
    """What each step of the ladder reaches."""
    longer, once, four, best = rows.loc[[LONGER, ONCE, FOUR, BEST], name]
    return (
        f"training: as long by labels {longer:.2f}, in pairs {once:.2f}, mean of 4 {four:.2f},"
        f" of copies {best:.2f}; brightness {rows.loc['brightness', name]:.2f}"
    )


def _allowed(rows: pd.DataFrame, name: str) -> str:
    """What the scans themselves allow."""
    return (
        f"; scans: a voxel classifier trained with masks reaches {rows.loc[BOUND, name]:.2f};"
        f" times brightness {rows.loc[TIMES, name]:.2f}"
    )


def _with_interval(numbers) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*numbers)


def _aims_of_checks(notes: dict) -> list[Aim]:
    """Targets of faithfulness, checks, consistency, contrast and dose."""
    one_network = f"one network, epsilon_gamma, {CHECKED} patients"
    words = {}
    for name, value in notes.items():
        if isinstance(value, tuple):
            words[name] = _with_interval(value)
    deletion, insertion = notes["deletion p"], notes["insertion p"]
    conservation = notes["conservation error without biases"]
    rank, *_ = notes["randomised: rank"]
    ssim, *_ = notes["randomised: SSIM"]
    consistent, *_ = notes["seed consistency, two networks"]
    weak, *_ = notes["weak half's share of relevance"]
    contrast = notes["class contrast"]
    dose, *_ = notes["dose"]
    alike = (
        "measure: sparse maps are alike by what they lack; shuffled voxels score"
        f" {notes['shuffled: SSIM']:.3f}"
    )
    inconsistent = (
        f"measure: the weaker half of the brain's voxels bears {weak:.1%} of the relevance and"
        f" agrees by {words['seed consistency, weak half']}; rule: without copies two networks"
        f" agree by {words['seed consistency, two networks, plain']}; training: the means of two"
        f" networks agree by {words['seed consistency, two means of two']}, within 2 voxels of"
        f" lesions two networks by {words['seed consistency, round lesions']}; rule: where"
        " relevance lies between neighbours differs, blurred by 2 voxels the maps agree by"
        f" {words['seed consistency, blurred']}"
    )
    no_contrast = (
        "network: maps of controls show where lesions usually lie, and what looks like them"
    )
    within = words["dose within a patient, lesions filled one by one"]
    no_dose = (
        f"network: its logit and the volume correlate by {words['logit and lesion volume']}, with"
        f" its logarithm by {words['logit and log lesion volume']}; within a patient, as lesions"
        f" are filled one by one, relevance and volume by {within}: patients differ by more than"
        " their lesions"
    )
    return [
        Aim(
            measure="deletion, insertion",
            target="p < .01",
            reached=f"p = {deletion:.2g}, {insertion:.2g}",
            holds=max(deletion, insertion) < 0.01,
            measured_on=f"{BEST}; the logit of one network, {CHECKED} patients",
        ),
        Aim(
            measure="conservation without biases",
            target="<= 1e-4",
            reached=f"{conservation:.1e}",
            holds=conservation <= 1e-4,
            measured_on=one_network,
        ),
        Aim(
            measure="randomisation, rank",
            target="<= .2",
            reached=words["randomised: rank"],
            holds=rank <= 0.2,
            measured_on=one_network,
        ),
        Aim(
            measure="randomisation, SSIM",
            target="<= .2",
            reached=words["randomised: SSIM"],
            holds=ssim <= 0.2,
            measured_on=one_network,
            limits=alike,
        ),
        Aim(
            measure="seed consistency",
            target=">= .7",
            reached=words["seed consistency, two networks"],
            holds=consistent >= 0.7,
            measured_on=f"epsilon_gamma, {COPIES} copies, two networks",
            limits=inconsistent,
        ),
        Aim(
            measure="class contrast",
            target="<= .5",
            reached=f"{contrast:.3f}",
            holds=contrast <= 0.5,
            limits="" if contrast <= 0.5 else no_contrast,
        ),
        Aim(
            measure="dose",
            target=">= .8",
            reached=words["dose"],
            holds=dose >= 0.8,
            limits=no_dose,
        ),
    ]


# Figure and files


@sheet.drawn
def picture(table: pd.DataFrame):
    """The ladder beside the baselines and the bound: four measures, mean and interval."""
    labels = {
        "auprc": "AUPRC",
        "rra": "Relevance rank",
        "rma": "Relevance mass",
        "pointing": "Pointing game",
    }
    colours = dict.fromkeys(LADDER, "#0072B2")
    colours[TIMES] = "#CC79A7"
    colours |= dict.fromkeys(reference_maps.NAMES, "#777777")
    colours[BOUND] = "#009E73"
    rows = table.set_index("map").loc[list(colours)]
    height = 0.235 * len(rows)
    heights = np.arange(len(rows))[::-1]
    notes = [
        f"{int(rows['subjects'].iloc[0])} patients: mean and 95 % interval over patients "
        "(bootstrap). Dotted: brightness. Blue: LRP; "
        "purple: no LRP rule; grey: baselines; green: trained with lesion masks."
    ]
    title = "What makes a heatmap find lesions?"
    figure, bottom = sheet.sheet(11.3, height + 0.5, title, notes, True)
    for number, (measure, label) in enumerate(labels.items()):
        left = 4.3 + 1.75 * number
        axes = sheet.place(figure, left, bottom + 0.45, 1.55, height, xlim=(0, 1.02), xlabel=label)
        for level, (name, row) in zip(heights, rows.iterrows(), strict=True):
            interval = row[[f"{measure}_low", f"{measure}_high"]].astype(float)
            axes.plot(interval, [level, level], color=colours[name], lw=1)
            axes.plot(row[measure], level, "o", ms=3.5, color=colours[name])
        axes.axvline(rows.loc["brightness", measure], color="#777777", ls=":", lw=0.9)
        axes.set_yticks(heights, [] if number else list(colours))
    return figure, table


def write(where: Results, outcome: Outcome) -> None:
    """Print and write what stands in the docstring, with how each network was trained."""
    here = Path(__file__)
    table = localisation.rank(outcome.scores, reference_maps.NAMES)
    table = table[[name for name in table if not name.startswith("_")]]
    aims = targets(table, outcome.scores, outcome.notes)
    shown = ["map", "auprc", "auprc_difference_low", "rma", "rra", "rra_difference_low", "pointing"]
    print(table[shown].round(3).to_string())
    print(aims.to_string())
    hashes = {}
    for name, written in {"targets": aims, "localisation_scores": outcome.scores}.items():
        path = tsv.write(written, here.with_name(f"{name}.tsv"), float_format="%.4g")
        hashes[path.name] = provenance.sha256(path)
    settings = {
        "results": where.given,
        "patients": PATIENTS,
        "controls": CONTROLS,
        "checked": CHECKED,
        "ladder": {name: astuple(row) for name, row in LADDER.items()},
        "left": LEFT,
        "bound": {"scans": SCANS, "voxels": VOXELS, "blurs": BLURS, "seed": 0},
    }
    record = provenance.record(
        settings,
        outcome.files,
        synthetic=True,
        result=outcome.notes,
        tables=hashes,
        networks=_trained(outcome.files),
    )
    figures.save(picture(table)[0], here.parent, here.stem, table, record)


def _trained(files: list) -> dict:
    """How each network among the files was trained."""
    trained = {}
    for path in files:
        if path.name == "weights.npz":
            text = path.with_name("provenance.json").read_text(encoding="utf-8")
            record = json.loads(text)
            keys = ("backend", "commit", "best_epoch", "val_accuracy")
            trained[provenance.relative(path)] = {key: record[key] for key in keys}
    return trained


if __name__ == "__main__":
    network.configure(0, 1)
    where = Results(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    write(where, run(where, jobs=2))
