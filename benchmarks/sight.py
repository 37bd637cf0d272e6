"""Which pre-training and fine-tuning make networks see lesions, by labels alone?

Usage: python benchmarks/sight.py [RESULTS] [--maps VARIANT ...]

RESULTS is runs/sight, trained by make proof-sight, or another results folder on the embedded
cohort, as runs/demo. Maps take hours: with --maps only those of the variants named are measured
(--maps none: of no variant). The rows of other maps are taken over from sight.tsv where the
weights, the rule, the copies and the subjects are the same.

Every variant in the results folder is measured on subjects that no training and no choice has
read: 200 further simulated subjects (accuracy) and 100 patients among them (maps). The map of a
variant is the mean over its trials, by one rule and a number of copies that were fixed beforehand.
Written beside this file:

- sight.tsv: variant, labels_only, measure, value, low, high, n. Intervals of 95 %: DeLong for AUC,
  bootstrap over subjects for the rest.
- sight_scores.tsv: the measures of each patient.
- sight.json: commit, versions, hashes.

Everything is simulated. Pre-training for lesions or for their volume knows what a simulated lesion
looks like, so its results are better here than they would be on real scans.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from msxai.base import provenance, statistics, tsv
from msxai.base.results import Results
from msxai.data import images
from msxai.data.prepared import Prepared
from msxai.evaluation import baselines, prediction
from msxai.model import network, shipped, training
from msxai.quality import league, localisation, reference_maps, scan_maps

HERE = Path(__file__).parent
TABLE = HERE / "sight.tsv"
SCORES = HERE / "sight_scores.tsv"
RECORD = HERE / "sight.json"
COHORT = "phantom-ms"
SUBJECTS = 200
PATIENTS = 100
CONTROLS = 40  # for the mean map of controls
RULE = "epsilon_gamma"
COPIES = 8
REFERENCE = "scratch"
BLOCK = 5  # scans a task
SIZES = {"small": (3, 30), "medium": (30, 300), "large": (300, np.inf)}
"""Size classes of lesions (mm3): from the smallest that is counted."""
PAIRED = "counterfactual_pairs"
UNTRAINED = "untrained network, logistic regression"
SVM = "linear SVM, C selected"
UNTRAINED_SEED = 0
WIDTH = 16
MAPS = {
    "rule": RULE,
    "copies": COPIES,
    "seed": prediction.FURTHER_SEED,
    "subjects": SUBJECTS,
    "patients": PATIENTS,
    "controls": CONTROLS,
}
"""What decides the rows of maps, apart from the weights; part of the record."""


@dataclass(frozen=True)
class Variant:
    """Networks that were trained alike.

    Attributes
    ----------
    name : str
    weights : list of pathlib.Path
        One file a trial.
    labels_only : bool
        Whether no lesion mask of the cohort was used.
    """

    name: str
    weights: list
    labels_only: bool


def variants(where: Results) -> list[Variant]:
    """Find what was trained: fine-tuned variants, and pre-trainings that know MS lesions.

    Where RESULTS has no pre-training for lesions, the networks that the package brings stand for
    it.
    """
    variants = []
    for folder in sorted((where.folder / "finetuning").glob("*")):
        weights = sorted(folder.glob("trial-*/weights.npz"))
        if not weights:  # its training goes on
            continue
        record = json.loads(weights[0].with_name("provenance.json").read_text())
        labels_only = record["parameters"].get(PAIRED, "none") == "none"
        variants.append(Variant(folder.name, weights, labels_only))
    for task in ("lesions", "volume"):
        weights = sorted((where.folder / "pretraining" / task).glob("trial-*/weights.npz"))
        if not weights and task == shipped.TASK:
            weights = shipped.weights()
        if weights:
            variants.append(Variant(f"{task}, no fine-tuning", weights, labels_only=True))
    return variants


def further_subjects(where: Results, cohort: Prepared) -> Prepared:
    """Simulate and prepare the subjects that everything is measured on."""
    further, reason = prediction.further(where, cohort, COHORT, SUBJECTS)
    if further is None:
        raise SystemExit(reason)
    return further


def logits_of(variant: Variant, prepared: Prepared) -> np.ndarray:
    """Logits of every trial, of shape (trials, scans)."""
    rows = prepared.rows("all")
    logits = []
    for path in variant.weights:
        net = network.restore(path, fast=True)
        logits.append(training.predict(net, prepared, rows))
    return np.stack(logits)


def accuracy_rows(variants: list[Variant], logits: dict, labels) -> list[dict]:
    """AUC of each variant (mean logit of its trials; mean of the single trials), and minus
    training from scratch.
    """
    rows = []
    for variant in variants:
        mean = logits[variant.name].mean(axis=0)
        low, high = statistics.auc_interval(labels, mean)
        rows.append(row_of(variant, "auc", statistics.auc(labels, mean), low, high, len(labels)))
        single = [statistics.auc(labels, trial) for trial in logits[variant.name]]
        rows.append(row_of(variant, "auc_one_trial", np.mean(single), min(single), max(single), 1))
        if REFERENCE in logits and variant.name != REFERENCE:
            reference = logits[REFERENCE].mean(axis=0)
            value, low, high, _ = statistics.auc_difference(labels, mean, reference)
            measure = f"auc_minus_{REFERENCE}"
            rows.append(row_of(variant, measure, value, low, high, len(labels)))
    return rows


def untrained_scores(cohort: Prepared, further: Prepared) -> np.ndarray:
    """Score scans by a logistic regression on the features of a network with random weights.

    The regression is fitted on the training and validation part of the cohort.
    """
    network.configure(UNTRAINED_SEED, 1)
    trunk, _ = network.features(network.build(WIDTH, fast=True))
    fitted_rows = np.concatenate([cohort.rows("training"), cohort.rows("validation")])
    labels = cohort.table["label"].to_numpy(int)[fitted_rows]
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    regression.fit(training.outputs(trunk, cohort, fitted_rows), labels)
    rows = further.rows("all")
    return regression.decision_function(training.outputs(trunk, further, rows))


def baseline_rows(cohort: Prepared, further: Prepared, labels) -> list[dict]:
    """AUC of classifiers that are no trained networks: lesion volume, voxels, random features."""
    rows = further.rows("all")
    fitted = baselines.fit(cohort)
    predictions, _ = baselines.predict(fitted, further, rows)
    voxels = predictions.loc[predictions["variant"] == SVM, "score"].to_numpy()
    scores = {
        "lesion load": further.lesion_volumes(rows),
        SVM: voxels,
        UNTRAINED: untrained_scores(cohort, further),
    }
    table = []
    for name, values in scores.items():
        uses_labels_only = name != "lesion load"
        baseline = Variant(name, [], labels_only=uses_labels_only)
        low, high = statistics.auc_interval(labels, values)
        auc = statistics.auc(labels, values)
        table.append(row_of(baseline, "auc", auc, low, high, len(labels)))
    return table


def row_of(variant: Variant, measure: str, value, low, high, n: int) -> dict:
    """Return a row of the table."""
    return {
        "variant": variant.name,
        "labels_only": variant.labels_only,
        "measure": measure,
        "value": float(value),
        "low": float(low),
        "high": float(high),
        "n": n,
    }


def maps_of(models, image, copies: int = COPIES) -> list[np.ndarray]:
    """The map of each trial."""
    maps = []
    for model in models:
        by_rule = scan_maps.of_scan(model, image, [RULE], copies=copies, threads=1)
        maps.append(by_rule[RULE])
    return maps


def lesion_sizes(lesions) -> np.ndarray:
    """Size (mm3) of the lesion that each voxel belongs to; 0 outside."""
    numbers, count = ndimage.label(lesions, images.NEIGHBOURHOOD_26)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1) * images.VOXEL_VOLUME
    sizes[0] = 0
    return sizes[numbers]


def sensitivity_by_size(heatmap, lesions, brain) -> dict:
    """Sensitivity for the lesions of each size class; NaN for a class without a lesion.

    The map is 0 in lesions of other classes, so that no mark in them counts as a miss.
    """
    sizes = lesion_sizes(lesions)
    sensitivities = {}
    for name, (smallest, largest) in SIZES.items():
        of_class = (sizes >= smallest) & (sizes < largest) & brain
        sensitivities[f"sensitivity_{name}"] = np.nan
        if of_class.any():
            of_lesions = localisation.measure(
                np.where(lesions & ~of_class, 0, heatmap), of_class, brain, None, ["sensitivity"]
            )
            sensitivities[f"sensitivity_{name}"] = of_lesions["sensitivity"]
    return sensitivities


def measured(path, rows, variant: Variant) -> dict:
    """Measure the maps of some patients.

    Returns
    -------
    dict
        scores: one dict a patient; total: sum of the mean maps.
    """
    network.configure(0, 1)
    prepared = Prepared(path)
    models = [network.restore(file) for file in variant.weights]
    scores = []
    total = np.zeros(images.SHAPE)
    for row in rows:
        image = prepared.image(row)
        brain = prepared.brain(row)
        lesions = prepared.lesions(row)
        maps = maps_of(models, image)
        heatmap = np.mean(maps, axis=0)
        target = localisation.Target(lesions, brain)
        measures = localisation.measure(heatmap, lesions, brain, target)
        bright = localisation.measure(image, lesions, brain, target, ["auprc"])
        score = {
            "variant": variant.name,
            "participant_id": prepared.table["participant_id"].iloc[row],
            **measures,
            "auprc_minus_brightness": measures["auprc"] - bright["auprc"],
        }
        score |= sensitivity_by_size(heatmap, lesions, brain)
        if len(maps) > 1:
            near = target.near(2) & brain
            score["trials_agree_near_lesions"] = localisation.consistency(maps[0], maps[1], near)
        scores.append(score)
        total += heatmap
    return {"scores": scores, "total": total}


def mean_map_of_controls(path, rows, variant: Variant) -> np.ndarray:
    """Sum of the mean maps of some controls."""
    network.configure(0, 1)
    prepared = Prepared(path)
    models = [network.restore(file) for file in variant.weights]
    total = np.zeros(images.SHAPE)
    for row in rows:
        total += np.mean(maps_of(models, prepared.image(row)), axis=0)
    return total


def blocks(rows) -> list:
    """Divide rows into blocks of `BLOCK`."""
    return [rows[first : first + BLOCK] for first in range(0, len(rows), BLOCK)]


def map_rows(prepared: Prepared, variant: Variant, patients, controls, jobs: int) -> tuple:
    """Rows of the table, and the scores of each patient, of one variant's maps."""
    work = [delayed(measured)(prepared.path, rows, variant) for rows in blocks(patients)]
    work += [
        delayed(mean_map_of_controls)(prepared.path, rows, variant) for rows in blocks(controls)
    ]
    results = Parallel(jobs, return_as="generator")(work)
    results = list(tqdm(results, desc=variant.name, total=len(work), unit="block"))
    of_patients = [result for result in results if isinstance(result, dict)]
    of_controls = [result for result in results if not isinstance(result, dict)]
    scores = pd.DataFrame([score for result in of_patients for score in result["scores"]])
    rows = []
    for measure in scores.columns.drop(["variant", "participant_id", "prevalence", "positive"]):
        values = scores[measure]
        interval = localisation.mean_interval(values)
        rows.append(row_of(variant, measure, *interval, int(values.notna().sum())))
    brain = np.any([prepared.brain(row) for row in patients[:BLOCK]], axis=0)
    patients_map = sum(result["total"] for result in of_patients)
    contrast = localisation.class_contrast(patients_map, sum(of_controls), brain)
    n_scans = len(patients) + len(controls)
    rows.append(row_of(variant, "class_contrast", contrast, np.nan, np.nan, n_scans))
    return rows, scores


def weight_hashes(variant: Variant) -> list[str]:
    """Return the SHA-256 of each trial's weights."""
    return [provenance.sha256(path) for path in variant.weights]


def earlier_maps(trained: list[Variant]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the rows of maps, and their scores, that the table has of the same weights.

    There are none where maps were made or chosen in another way, or the tables are not those of
    the record.
    """
    if not RECORD.exists():
        return pd.DataFrame(), pd.DataFrame()
    record = json.loads(RECORD.read_text())
    parameters = record["parameters"]
    made_alike = all(parameters.get(name) == value for name, value in MAPS.items())
    hashes = set(record["outputs"].values())
    if not made_alike or hashes != {provenance.sha256(TABLE), provenance.sha256(SCORES)}:
        return pd.DataFrame(), pd.DataFrame()
    unchanged = []
    for variant in trained:
        if record["weights"].get(variant.name) == weight_hashes(variant):
            unchanged.append(variant.name)
    table = tsv.read(TABLE)
    of_accuracy = table["measure"].isin(["auc", "auc_one_trial", f"auc_minus_{REFERENCE}"])
    of_maps = table["variant"].isin(unchanged) & ~of_accuracy
    if not of_maps.any():  # without maps there are no scores of patients
        return pd.DataFrame(), pd.DataFrame()
    scores = tsv.read(SCORES)
    return table[of_maps], scores[scores["variant"].isin(unchanged)]


def main(where: Results, names=None, n_patients=PATIENTS, n_controls=CONTROLS, jobs=2) -> tuple:
    """Measure the accuracy of every variant, and the maps of those named (None: of all).

    Returns
    -------
    table : pandas.DataFrame
    scores : pandas.DataFrame
        The measures of each patient.
    """
    network.configure(0, 1)
    cohort = Prepared(where.prepared(COHORT), where.split(COHORT))
    prepared = further_subjects(where, cohort)
    labels = prepared.table["label"].to_numpy(int)
    with_lesions = reference_maps.with_lesions(prepared, np.flatnonzero(labels == 1))
    patients = league.spread_evenly(with_lesions, n_patients)
    controls = league.spread_evenly(np.flatnonzero(labels == 0), n_controls)
    trained = variants(where)
    logits = {variant.name: logits_of(variant, prepared) for variant in trained}
    rows = accuracy_rows(trained, logits, labels)
    rows += baseline_rows(cohort, prepared, labels)
    tables = [pd.DataFrame(rows)]
    scores = []
    if names is not None:
        rows_of_others, scores_of_others = earlier_maps(
            [variant for variant in trained if variant.name not in names]
        )
        tables.append(rows_of_others)
        scores.append(scores_of_others)
    for variant in trained:
        if names is not None and variant.name not in names:
            continue
        of_variant, of_patients = map_rows(prepared, variant, patients, controls, jobs)
        tables.append(pd.DataFrame(of_variant))
        scores.append(of_patients)
    return pd.concat(tables, ignore_index=True), pd.concat(scores, ignore_index=True)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Which training makes networks see lesions?")
    parser.add_argument("results", nargs="?", default="runs/sight")
    parser.add_argument("--maps", nargs="+", metavar="VARIANT")
    return parser.parse_args()


if __name__ == "__main__":
    options = arguments()
    where = Results(options.results)
    table, scores = main(where, options.maps)
    print(table.round(3).to_string())
    tsv.write(table, TABLE)
    tsv.write(scores, SCORES)
    trained = variants(where)
    used = [path for variant in trained for path in variant.weights]
    parameters = {"results": where.given, **MAPS}
    weights = {variant.name: weight_hashes(variant) for variant in trained}
    record = provenance.record(parameters, used, [TABLE, SCORES], weights=weights)
    provenance.write_json(RECORD, record)
