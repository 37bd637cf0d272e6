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
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import yaml
from joblib import Parallel, delayed
from sklearn.metrics import roc_auc_score

from msxai import ROOT
from msxai.base import provenance
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

COHORT, GAMMA, DEFAULT = "phantom-ms", "epsilon_gamma", rules.DEFAULT
KINDS = {"width-16": (16, 0.1), "width-64": (64, 0.1)}  # name: filters, dropout
TRIALS, EPOCHS, PATIENTS, BLOCK = 4, 45, 16, 2
ROWS = {
    "epsilon": ("epsilon", 1),
    "epsilon_gamma": (GAMMA, 1),
    "epsilon_gamma, mean of 4": (GAMMA, 4),
    "the default, mean of 4": (DEFAULT, 4),
}
MEASURES = ("auprc", "rra", "rma", "pointing")


def settings(name: str) -> dict:
    """Of a profile of the workflow."""
    return yaml.safe_load((ROOT / "workflow" / f"{name}.yaml").read_text(encoding="utf-8"))


def data(where: Results, jobs: int, subjects: int, further: int) -> None:
    """The cohort as 01 prepares it, filled as 01b does, and further subjects."""
    demo = settings("demo")
    how, group = demo["01_data_preparation"], demo["cohorts"]["finetuning"]
    folder = phantom.find(COHORT, subjects, how["cohort_seed"], jobs)
    source = open_cohort(folder, group["modality"], group["patients"], group["controls"])
    split = splits.make(
        source.table, holdout=group["holdout"], validation=how["validation"], seed=how["split_seed"]
    )
    splits.write(split, where.split(COHORT))
    chosen = {name: how[name] for name in ("normalisation", "interpolation")}
    notes = chosen | {"cohort": COHORT, "registration": "none"}
    prepare(
        source,
        split,
        where.prepared(COHORT),
        PreparationOptions(**chosen),
        parameters=notes,
        jobs=jobs,
    )
    outputs = [where.prepared(COHORT), where.split(COHORT)]
    provenance.write_json(
        where.record(COHORT), provenance.record(notes, outputs=outputs, synthetic=True)
    )
    filled_cohort.write(
        where,
        COHORT,
        "noise",
        {"cohort": COHORT, "filling": "noise"},
        seed=demo["01b_lesion_filling"]["seed"],
        jobs=jobs,
    )
    prediction.further(
        where, Prepared(where.prepared(COHORT), where.split(COHORT)), COHORT, further, jobs
    )


def train(where: Results, kind: str, trial: int, epochs: int) -> None:
    """One network, as by 03 in pairs."""
    how, (width, dropout) = settings("demo")["03_fine_tuning"], KINDS[kind]
    seed = how["seed"] + trial
    network.configure(seed, 1)
    cohort = Prepared(where.prepared(COHORT), where.split(COHORT))
    filled = Prepared(where.prepared(COHORT, "noise"), where.split(COHORT))
    model = network.build(width, dropout=dropout, fast=True)
    chosen = {name: how[name] for name in ("learning_rate", "decay", "batch_size", "augmentation")}
    options = training.Settings(**chosen, epochs=epochs, patience=epochs, seed=seed)
    began = time.perf_counter()
    history = training.fit(
        model,
        cohort,
        options,
        **pairs.options(cohort, filled, seed, how["augmentation"]),
    )
    notes = chosen | {
        "width": width,
        "dropout": dropout,
        "epochs": epochs,
        "seed": seed,
        "seconds": time.perf_counter() - began,
    }
    training.save(
        where.trial(kind, trial),
        model,
        history,
        notes,
        [cohort.path, filled.path, where.split(COHORT)],
        seen_scans.of_cohort(cohort),
    )


def measured(path, rows, weights: dict, tuned) -> tuple[list, list, list]:
    """Scores, agreements and logits of some scans; maps of patients alone."""
    network.configure(0, 1)
    cohort, untrained = Prepared(path), reference_maps.untrained(16, 0)
    models = {kind: [network.restore(file) for file in files] for kind, files in weights.items()}
    scores, agreements, logits = [], [], []
    for row in rows:
        image, brain, lesions = cohort.image(row), cohort.brain(row), cohort.lesions(row)
        who = {
            "participant_id": cohort.table["participant_id"].iloc[row],
            "label": int(cohort.table["label"].iloc[row]),
        }
        outputs = {
            kind: [
                float(keras.ops.convert_to_numpy(model(image[None, ..., None]))[0, 0])
                for model in several
            ]
            for kind, several in models.items()
        }
        logits += [
            {"kind": kind, "trial": trial, "logit": logit, **who}
            for kind, many in outputs.items()
            for trial, logit in enumerate(many)
        ]
        if not (who["label"] and lesions.any()):
            continue
        maps = reference_maps.maps(
            cohort, row, tuned, untrained, rule=GAMMA, epsilon=1e-3, threads=1
        )
        for kind, several in models.items():
            each = [
                scan_maps.of_scan(
                    model, image, sorted({rule for rule, _ in ROWS.values()}), copies=1, threads=1
                )
                for model in several
            ]
            for name, (rule, count) in ROWS.items():
                maps[f"{kind}: {name}"] = np.mean(
                    [maps_of_rules[rule] for maps_of_rules in each[:count]], axis=0
                )
            agreements.append(
                {
                    "kind": kind,
                    **who,
                    "two networks": localisation.consistency(each[0][GAMMA], each[1][GAMMA], brain),
                }
            )
            if len(each) > 3:
                halves = [each[first][GAMMA] + each[first + 1][GAMMA] for first in (0, 2)]
                agreements[-1]["two means of two"] = localisation.consistency(*halves, brain)
        target = localisation.Target(lesions, brain)
        scores += [
            {"map": name, **who, **localisation.measure(values, lesions, brain, target)}
            for name, values in maps.items()
        ]
    return scores, agreements, logits


def run(
    where: Results, trials=TRIALS, patients=PATIENTS, jobs=1
) -> tuple[pd.DataFrame, dict, list]:
    """The league, numbers about it, and the files that were read."""
    cohort, further = (
        Prepared(where.prepared(COHORT), where.split(COHORT)),
        Prepared(where.prepared(f"{COHORT}-further")),
    )
    weights = {
        kind: [where.trial(kind, trial) / "weights.npz" for trial in range(trials)]
        for kind in KINDS
    }
    labels, tuned = further.table["label"].to_numpy(int), reference_maps.tune(cohort)
    rows = np.concatenate([np.flatnonzero(labels == label)[:patients] for label in (1, 0)])
    tasks = [
        delayed(measured)(further.path, rows[first : first + BLOCK], weights, tuned)
        for first in range(0, len(rows), BLOCK)
    ]
    done = list(zip(*Parallel(jobs)(tasks), strict=True))
    scores, agreements, logits = (
        pd.DataFrame([row for block in blocks for row in block]) for blocks in done
    )
    table = localisation.rank(scores.drop(columns="label"), reference_maps.NAMES)
    means, notes = (
        logits.groupby(["kind", "participant_id", "label"])["logit"].mean().reset_index(),
        {},
    )
    for kind in KINDS:
        single_network, alike, single = (
            means[means["kind"] == kind],
            agreements[agreements["kind"] == kind],
            logits[logits["kind"] == kind],
        )
        notes[kind] = {
            "AUC, mean of the networks": float(
                roc_auc_score(single_network["label"], single_network["logit"])
            ),
            "AUC, each": [
                float(roc_auc_score(some["label"], some["logit"]))
                for _, some in single.groupby("trial")
            ],
            **{
                f"agreement, {name}": localisation.mean_interval(alike[name].to_numpy())
                for name in ("two networks", "two means of two")
                if name in alike
            },
        }
    by_map = scores.set_index("participant_id").pivot(columns="map", values=list(MEASURES))
    first, *other_kinds = KINDS
    for kind in other_kinds:
        for name in ROWS:
            notes[kind][f"less {first}: {name}"] = {
                measure: localisation.mean_interval(
                    (
                        by_map[measure, f"{kind}: {name}"] - by_map[measure, f"{first}: {name}"]
                    ).to_numpy()
                )
                for measure in MEASURES
            }
    files = [
        where.prepared(COHORT),
        where.split(COHORT),
        further.path,
        *(path for paths in weights.values() for path in paths),
    ]
    return table[[name for name in table if not name.startswith("_")]], notes, files


def trainings(results: str, trials: int, epochs: int) -> None:
    """All networks side by side, a process each."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    options = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}}
    asked = [(kind, trial) for kind in KINDS for trial in range(trials)]
    started = [
        subprocess.Popen(
            [sys.executable, __file__, results, "train", kind, str(trial), str(epochs)], **options
        )
        for kind, trial in asked
    ]
    failed = [name for name, process in zip(asked, started, strict=True) if process.wait()]
    if failed:
        sys.exit(f"wide: trainings failed: {failed}")


def measure(results: str, jobs: int, trials: int = TRIALS) -> None:
    """Measure what was trained, and write it beside this file."""
    where, here = Results(results), Path(__file__)
    table, notes_of_run, files = run(where, trials, jobs=jobs)
    records = {
        kind: [
            json.loads((where.trial(kind, trial) / "provenance.json").read_text())
            for trial in range(trials)
        ]
        for kind in KINDS
    }
    for kind, some in records.items():
        notes_of_run[kind] |= {
            name: [one[name] for one in some] for name in ("backend", "best_epoch", "val_accuracy")
        }
        notes_of_run[kind]["seconds of training, side by side"] = [
            round(one["parameters"]["seconds"]) for one in some
        ]
    print(table[["map", *MEASURES]].round(3).to_string(), notes_of_run, sep="\n")
    with provenance.replacing(here.with_suffix(".tsv")) as draft:
        table.to_csv(draft, sep="\t", index=False, na_rep="n/a", float_format="%.4g")
    notes = {
        "trained_on": os.environ.get("WIDE_DEVICE", "not told"),
        "backend": keras.backend.backend(),
        "synthetic": True,
        "result": notes_of_run,
    }
    record = provenance.record(
        {
            "results": where.given,
            "kinds": KINDS,
            "trials": trials,
            "patients": PATIENTS,
            "rows": ROWS,
        },
        files,
        [here.with_suffix(".tsv")],
        **notes,
    )
    provenance.write_json(here.with_suffix(".json"), record)


if __name__ == "__main__":
    results, stage, *rest = [*sys.argv[1:], *["runs/wide", "all"][len(sys.argv) - 1 :]]
    if stage in ("all", "data"):
        data(Results(results), os.cpu_count(), 147, 200)
    if stage in ("all", "trainings"):
        trainings(results, TRIALS, int(rest[0]) if rest else EPOCHS)
    if stage == "train":
        train(Results(results), rest[0], int(rest[1]), int(rest[2]))
    if stage in ("all", "measure"):
        measure(results, os.cpu_count(), TRIALS)
