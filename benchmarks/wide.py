"""The paper's width of 64 beside the demo's 16, both trained in pairs on a GPU: do wider networks
find lesions better, or agree more?

Usage: KERAS_BACKEND=torch python benchmarks/wide.py [RESULTS [data|trainings|measure]]
(default runs/wide, all of it; a GPU that PyTorch sees, about 60 GB of its memory)

On two cores a training of width 64 takes hours, so it is none of the demo's. Here the demo's cohort
is simulated, prepared and filled as by 01 and 01b, and networks of both widths are trained as by 03
(`make quality`'s variant "pairs": 45 epochs), side by side on one GPU and by one backend: what
differs is the width alone. They are measured on patients of phantom-ms-further, without copies, as
benchmarks/localisation.py does, by whatever backend this script is called with. PyTorch's gradients
of convolutions are not reproducible bit by bit. Written beside this file: wide.tsv (measures with
intervals, and paired differences to brightness), wide.json (paired differences between the widths,
agreement of two networks, AUC, time). The weights stay below RESULTS.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import astuple, dataclass, field
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import yaml
from joblib import Parallel, delayed
from sklearn.metrics import roc_auc_score

from msxai import ROOT
from msxai.base import provenance, tsv
from msxai.base.results import Results
from msxai.data import filled_cohort
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import open_cohort
from msxai.data.prepared import PreparationOptions, Prepared, prepare
from msxai.data.synthetic import phantom
from msxai.evaluation import prediction
from msxai.lrp import rules
from msxai.model import network, pairs, seen_scans, training
from msxai.quality import localisation, reference_maps, scan_maps

COHORT = "phantom-ms"
GAMMA, DEFAULT = "epsilon_gamma", rules.DEFAULT
TRIALS, EPOCHS = 4, 45
PATIENTS = 16  # and as many controls
BLOCK = 2  # scans a task


@dataclass(frozen=True)
class Kind:
    """How a network is built."""

    filters: int
    dropout: float


@dataclass(frozen=True)
class Row:
    """A map: its rule, and over how many trainings it is the mean."""

    rule: str
    trainings: int = 1


KINDS = {"width-16": Kind(16, 0.1), "width-64": Kind(64, 0.1)}
ROWS = {
    "epsilon": Row("epsilon"),
    "epsilon_gamma": Row(GAMMA),
    "epsilon_gamma, mean of 4": Row(GAMMA, 4),
    "the default, mean of 4": Row(DEFAULT, 4),
}
MEASURES = ("auprc", "rra", "rma", "pointing")


# Data and trainings


def settings(name: str) -> dict:
    """Of a profile of the workflow."""
    file = ROOT / "workflow" / f"{name}.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def data(where: Results, jobs: int, subjects: int, further: int) -> None:
    """The cohort as 01 prepares it, filled as 01b does, and further subjects."""
    demo = settings("demo")
    preparation, group = demo["01_data_preparation"], demo["cohorts"]["finetuning"]
    folder = phantom.find(COHORT, subjects, preparation["cohort_seed"], jobs)
    source = open_cohort(folder, group["modality"], group["patients"], group["controls"])
    split = splits.make(
        source.table,
        holdout=group["holdout"],
        validation=preparation["validation"],
        seed=preparation["split_seed"],
    )
    splits.write(split, where.split(COHORT))
    arrays = where.prepared(COHORT)
    chosen = {name: preparation[name] for name in ("normalisation", "interpolation")}
    options = PreparationOptions(**chosen)
    notes = chosen | {"cohort": COHORT, "registration": "none"}
    prepare(source, split, arrays, options, parameters=notes, jobs=jobs)
    record = provenance.record(notes, outputs=[arrays, where.split(COHORT)], synthetic=True)
    provenance.write_json(where.record(COHORT), record)
    filling = {"cohort": COHORT, "filling": "noise"}
    seed = demo["01b_lesion_filling"]["seed"]
    filled_cohort.write(where, COHORT, "noise", filling, seed=seed, jobs=jobs)
    cohort = Prepared(arrays, where.split(COHORT))
    prediction.further(where, cohort, COHORT, further, jobs)


def train(where: Results, kind: str, trial: int, epochs: int) -> None:
    """One network, as by 03 in pairs."""
    demo = settings("demo")["03_fine_tuning"]
    width, dropout = KINDS[kind].filters, KINDS[kind].dropout
    seed = demo["seed"] + trial
    network.configure(seed, 1)
    cohort = Prepared(where.prepared(COHORT), where.split(COHORT))
    filled = Prepared(where.prepared(COHORT, "noise"), where.split(COHORT))
    model = network.build(width, dropout=dropout, fast=True)
    names = ("learning_rate", "decay", "batch_size", "augmentation")
    chosen = {name: demo[name] for name in names}
    options = training.Settings(**chosen, epochs=epochs, patience=epochs, seed=seed)
    in_pairs = pairs.options(cohort, filled, seed, demo["augmentation"])
    start = time.perf_counter()
    history = training.fit(model, cohort, options, **in_pairs)
    seconds = time.perf_counter() - start
    notes = chosen | {
        "width": width,
        "dropout": dropout,
        "epochs": epochs,
        "seed": seed,
        "seconds": seconds,
    }
    training.save(
        where.trial(kind, trial),
        model,
        history,
        notes,
        [cohort.path, filled.path, where.split(COHORT)],
        seen_scans.of_cohort(cohort),
    )


# Measures


@dataclass
class Measured:
    """What is measured on some scans, as rows of tables: scores, agreements and logits."""

    scores: list = field(default_factory=list)
    agreements: list = field(default_factory=list)
    logits: list = field(default_factory=list)


def measured(path, rows, weights: dict, tuned) -> Measured:
    """Measure some scans; logits of all, maps of patients alone."""
    network.configure(0, 1)
    cohort = Prepared(path)
    untrained = reference_maps.untrained(16, 0)
    models = {kind: [network.restore(file) for file in files] for kind, files in weights.items()}
    result = Measured()
    for row in rows:
        subject = {
            "participant_id": cohort.table["participant_id"].iloc[row],
            "label": int(cohort.table["label"].iloc[row]),
        }
        image, lesions = cohort.image(row), cohort.lesions(row)
        for kind, networks in models.items():
            result.logits += _logits(kind, networks, image, subject)
        if not (subject["label"] and lesions.any()):
            continue
        brain = cohort.brain(row)
        maps = reference_maps.maps(
            cohort, row, tuned, untrained, rule=GAMMA, epsilon=1e-3, threads=1
        )
        for kind, networks in models.items():
            by_rule = _by_rule(networks, image)
            for name, shown in ROWS.items():
                maps[f"{kind}: {name}"] = np.mean(by_rule[shown.rule][: shown.trainings], axis=0)
            result.agreements.append({"kind": kind, **subject, **_agreement(by_rule[GAMMA], brain)})
        target = localisation.Target(lesions, brain)
        for name, relevance in maps.items():
            measures = localisation.measure(relevance, lesions, brain, target)
            result.scores.append({"map": name, **subject, **measures})
    return result


def _logits(kind: str, networks, image, subject: dict) -> list[dict]:
    """One row a training."""
    rows = []
    for trial, model in enumerate(networks):
        output = keras.ops.convert_to_numpy(model(image[None, ..., None]))
        rows.append({"kind": kind, "trial": trial, "logit": float(output[0, 0]), **subject})
    return rows


def _by_rule(networks, image) -> dict:
    """Rule to the map of each network."""
    names = sorted({shown.rule for shown in ROWS.values()})
    by_rule = {name: [] for name in names}
    for model in networks:
        heatmaps = scan_maps.of_scan(model, image, names, copies=1, threads=1)
        for name, heatmap in heatmaps.items():
            by_rule[name].append(heatmap)
    return by_rule


def _agreement(maps: list, brain) -> dict:
    """How well two networks' maps agree, and the means of two."""
    agreement = {"two networks": localisation.consistency(maps[0], maps[1], brain)}
    if len(maps) > 3:
        sums = (maps[0] + maps[1], maps[2] + maps[3])
        agreement["two means of two"] = localisation.consistency(*sums, brain)
    return agreement


@dataclass(frozen=True)
class Outcome:
    """The league, numbers on it, and the files that were read."""

    table: pd.DataFrame
    notes: dict
    files: list


def run(where: Results, trials=TRIALS, patients=PATIENTS, jobs=1) -> Outcome:
    """Measure all networks on patients and controls of the further subjects."""
    cohort = Prepared(where.prepared(COHORT), where.split(COHORT))
    further = Prepared(where.prepared(f"{COHORT}-further"))
    weights = {}
    for kind in KINDS:
        weights[kind] = [where.trial(kind, trial) / "weights.npz" for trial in range(trials)]
    labels = further.table["label"].to_numpy(int)
    tuned = reference_maps.tune(cohort)
    rows = np.concatenate([np.flatnonzero(labels == label)[:patients] for label in (1, 0)])
    tasks = []
    for first in range(0, len(rows), BLOCK):
        block = rows[first : first + BLOCK]
        tasks.append(delayed(measured)(further.path, block, weights, tuned))
    result = Measured()
    for block in Parallel(jobs)(tasks):
        result.scores += block.scores
        result.agreements += block.agreements
        result.logits += block.logits
    scores = pd.DataFrame(result.scores)
    table = localisation.rank(scores.drop(columns="label"), reference_maps.NAMES)
    shown = [name for name in table if not name.startswith("_")]
    notes = _notes_of_networks(pd.DataFrame(result.logits), pd.DataFrame(result.agreements))
    first, *wider = KINDS
    for kind in wider:
        notes[kind] |= _less(scores, kind, first)
    files = [where.prepared(COHORT), where.split(COHORT), further.path]
    for paths in weights.values():
        files += paths
    return Outcome(table[shown], notes, files)


def _notes_of_networks(logits: pd.DataFrame, agreements: pd.DataFrame) -> dict:
    """AUC and agreement of each kind of network."""
    keys = ["kind", "participant_id", "label"]
    means = logits.groupby(keys)["logit"].mean().reset_index()
    notes = {}
    for kind in KINDS:
        by_trial = logits[logits["kind"] == kind].groupby("trial")
        notes[kind] = {
            "AUC, mean of the networks": _auc(means[means["kind"] == kind]),
            "AUC, each": [_auc(trial) for _, trial in by_trial],
        }
        of_kind = agreements[agreements["kind"] == kind]
        for name in ("two networks", "two means of two"):
            if name in of_kind:
                interval = localisation.mean_interval(of_kind[name].to_numpy())
                notes[kind][f"agreement, {name}"] = interval
    return notes


def _auc(table: pd.DataFrame) -> float:
    return float(roc_auc_score(table["label"], table["logit"]))


def _less(scores: pd.DataFrame, kind: str, reference: str) -> dict:
    """Paired differences of a kind of network minus another, by map and measure."""
    by_subject = scores.set_index("participant_id")
    by_map = by_subject.pivot(columns="map", values=list(MEASURES))
    notes = {}
    for name in ROWS:
        intervals = {}
        for measure in MEASURES:
            of_kind = by_map[measure, f"{kind}: {name}"]
            of_reference = by_map[measure, f"{reference}: {name}"]
            changes = (of_kind - of_reference).to_numpy()
            intervals[measure] = localisation.mean_interval(changes)
        notes[f"less {reference}: {name}"] = intervals
    return notes


# The whole proof


def trainings(results: str, trials: int, epochs: int) -> None:
    """All networks side by side, a process each."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    processes = {}
    for kind in KINDS:
        for trial in range(trials):
            arguments = [results, "train", kind, str(trial), str(epochs)]
            command = [sys.executable, __file__, *arguments]
            processes[kind, trial] = subprocess.Popen(command, cwd=ROOT, env=environment)
    failed = [name for name, process in processes.items() if process.wait()]
    if failed:
        sys.exit(f"wide: trainings failed: {failed}")


def measure(results: str, jobs: int, trials: int = TRIALS) -> None:
    """Measure what was trained, and write it beside this file."""
    where = Results(results)
    here = Path(__file__)
    outcome = run(where, trials, jobs=jobs)
    for kind in KINDS:
        outcome.notes[kind] |= _notes_of_trainings(where, kind, trials)
    print(outcome.table[["map", *MEASURES]].round(3).to_string(), outcome.notes, sep="\n")
    table = tsv.write(outcome.table, here.with_suffix(".tsv"), float_format="%.4g")
    parameters = {
        "results": where.given,
        "kinds": {name: astuple(kind) for name, kind in KINDS.items()},
        "trials": trials,
        "patients": PATIENTS,
        "rows": {name: astuple(row) for name, row in ROWS.items()},
    }
    record = provenance.record(
        parameters,
        outcome.files,
        [table],
        trained_on=os.environ.get("WIDE_DEVICE", "unknown"),
        backend=keras.backend.backend(),
        synthetic=True,
        result=outcome.notes,
    )
    provenance.write_json(here.with_suffix(".json"), record)


def _notes_of_trainings(where: Results, kind: str, trials: int) -> dict:
    """How the networks of a kind were trained."""
    records = []
    for trial in range(trials):
        file = where.trial(kind, trial) / "provenance.json"
        records.append(json.loads(file.read_text()))
    notes = {}
    for name in ("backend", "best_epoch", "val_accuracy"):
        notes[name] = [record[name] for record in records]
    seconds = [round(record["parameters"]["seconds"]) for record in records]
    notes["seconds of training, side by side"] = seconds
    return notes


def main(arguments: list[str]) -> None:
    """Run the stage that is asked for, or all."""
    results = arguments[0] if arguments else "runs/wide"
    stage = arguments[1] if len(arguments) > 1 else "all"
    of_stage = arguments[2:]
    if stage in ("all", "data"):
        data(Results(results), os.cpu_count(), 147, 200)
    if stage in ("all", "trainings"):
        trainings(results, TRIALS, int(of_stage[0]) if of_stage else EPOCHS)
    if stage == "train":
        kind, trial, epochs = of_stage
        train(Results(results), kind, int(trial), int(epochs))
    if stage in ("all", "measure"):
        measure(results, os.cpu_count(), TRIALS)


if __name__ == "__main__":
    main(sys.argv[1:])
