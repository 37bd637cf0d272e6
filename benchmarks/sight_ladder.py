"""The tasks of pre-training and the steps of fine-tuning in one table: accuracy and maps.

Usage: python benchmarks/sight_ladder.py [RESULTS]      (default runs/sight, of make proof-sight)

Every variant of the results folder is measured on subjects that no training and no choice has read:
200 further simulated subjects (accuracy), and 100 patients among them (maps by the rule
epsilon_gamma, one copy, mean of the variant's trials). Both are measured twice:

- as simulated;
- as another scanner shows them, drawn at random for each scan (`msxai.model.acquisition`): slice
  thickness, contrast, texture, noise, and the rim of the brain mask. No variant was trained on it.

That two networks are equally accurate does not mean that their maps are equally good (Oliveira et
al. 2024, arXiv:2306.12150). So the table has both differences from training from scratch, paired:
where that of AUC is near 0, that of AUPRC compares maps at matched accuracy. The variant
lesions-early-strong is made for this: its pre-training ended early.

Written beside this file: sight_ladder.tsv (variant, labels_only, measure, value, low, high, n,
scans) with intervals of 95 % (DeLong for AUC, bootstrap over patients for maps), sight_ladder.json.

Everything is simulated. Pre-training for lesions or for their volume knows what a simulated lesion
looks like, so its results are better here than they would be on real scans.
"""

import argparse

import numpy as np
import pandas as pd
import sight
from joblib import Parallel, delayed
from tqdm import tqdm

from msxai.base import provenance, tsv
from msxai.base.results import Results
from msxai.data.prepared import Prepared
from msxai.model import acquisition, network
from msxai.quality import league, localisation, reference_maps

TABLE = sight.HERE / "sight_ladder.tsv"
RECORD = sight.HERE / "sight_ladder.json"
AS_SIMULATED = "as simulated"
OTHER_SCANNER = "other scanner"
SCANS = (AS_SIMULATED, OTHER_SCANNER)
SCANNER_SEED = 7302
COPIES = 1
MEASURES = ("auprc", "rra", "pointing")
REFERENCE = sight.REFERENCE


def shown(prepared: Prepared, row: int, scans: str) -> np.ndarray:
    """Return a scan as simulated, or as another scanner shows it; the same for all variants."""
    image = prepared.image(row)
    if scans == AS_SIMULATED:
        return image
    return acquisition.rescanned(image, np.random.default_rng([SCANNER_SEED, row]))


def logits_of(variants: list[sight.Variant], prepared: Prepared, scans: str) -> dict:
    """Logits of every scan by each trial, (trials, scans), for each variant."""
    models = {
        variant.name: [network.restore(path, fast=True) for path in variant.weights]
        for variant in variants
    }
    logits = {variant.name: [] for variant in variants}
    for row in tqdm(prepared.rows("all"), desc=f"logits, {scans}", unit="scan"):
        volume = shown(prepared, row, scans)[None, ..., None]
        for name, trials in models.items():
            values = [float(network.logits(model, volume)[0]) for model in trials]
            logits[name].append(values)
    return {name: np.array(values).T for name, values in logits.items()}


def measured(path, rows, variant: sight.Variant) -> list[dict]:
    """Measure the maps of some patients, on the scans as simulated and of another scanner."""
    network.configure(0, 1)
    prepared = Prepared(path)
    models = [network.restore(file) for file in variant.weights]
    scores = []
    for row in rows:
        for scans in SCANS:
            image = shown(prepared, row, scans)
            brain = prepared.brain(row) & (image != 0)  # another scanner's mask may lack its rim
            lesions = prepared.lesions(row) & brain
            if not lesions.any():
                continue
            target = localisation.Target(lesions, brain)
            heatmap = np.mean(sight.maps_of(models, image, COPIES), axis=0)
            values = localisation.measure(heatmap, lesions, brain, target, list(MEASURES))
            bright = localisation.measure(image, lesions, brain, target, ["auprc"])
            score = {"variant": variant.name, "scans": scans, "row": int(row)}
            score |= {measure: values[measure] for measure in MEASURES}
            score["auprc_minus_brightness"] = values["auprc"] - bright["auprc"]
            scores.append(score)
    return scores


def scores_of(prepared: Prepared, variants: list[sight.Variant], patients, jobs: int):
    """One row for each variant, patient and kind of scan."""
    work = [
        delayed(measured)(prepared.path, rows, variant)
        for variant in variants
        for rows in sight.blocks(patients)
    ]
    results = Parallel(jobs, return_as="generator")(work)
    results = tqdm(results, desc="maps", total=len(work), unit="block")
    return pd.DataFrame([score for block in results for score in block])


def map_rows(variants: list[sight.Variant], scores: pd.DataFrame) -> list[dict]:
    """Means of the measures over patients, and the AUPRC minus that of scratch, paired."""
    rows = []
    for scans in SCANS:
        of_scans = scores[scores["scans"] == scans]
        reference = of_scans[of_scans["variant"] == REFERENCE].set_index("row")["auprc"]
        for variant in variants:
            own = of_scans[of_scans["variant"] == variant.name].set_index("row")
            for measure in (*MEASURES, "auprc_minus_brightness"):
                interval = localisation.mean_interval(own[measure])
                rows.append(_row(variant, scans, measure, *interval, len(own)))
            if len(reference) and variant.name != REFERENCE:
                difference = own["auprc"] - reference
                interval = localisation.mean_interval(difference)
                n = int(difference.notna().sum())
                rows.append(_row(variant, scans, f"auprc_minus_{REFERENCE}", *interval, n))
    return rows


def _row(variant: sight.Variant, scans: str, measure: str, value, low, high, n: int) -> dict:
    return sight.row_of(variant, measure, value, low, high, n) | {"scans": scans}


def main(where: Results, n_patients: int = sight.PATIENTS, jobs: int = 2) -> pd.DataFrame:
    """Measure every variant of a results folder."""
    network.configure(0, 1)
    cohort = Prepared(where.prepared(sight.COHORT), where.split(sight.COHORT))
    prepared = sight.further_subjects(where, cohort)
    labels = prepared.table["label"].to_numpy(int)
    with_lesions = reference_maps.with_lesions(prepared, np.flatnonzero(labels == 1))
    patients = league.spread_evenly(with_lesions, n_patients)
    variants = sight.variants(where)
    rows = []
    for scans in SCANS:
        logits = logits_of(variants, prepared, scans)
        of_accuracy = sight.accuracy_rows(variants, logits, labels)
        rows += [row | {"scans": scans} for row in of_accuracy]
    rows += map_rows(variants, scores_of(prepared, variants, patients, jobs))
    return pd.DataFrame(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tasks of pre-training, steps of fine-tuning.")
    parser.add_argument("results", nargs="?", default="runs/sight")
    where = Results(parser.parse_args().results)
    table = main(where)
    print(table.round(3).to_string())
    tsv.write(table, TABLE, float_format="%.4g")
    variants = sight.variants(where)
    used = [path for variant in variants for path in variant.weights]
    parameters = {
        "results": where.given,
        "rule": sight.RULE,
        "copies": COPIES,
        "scanner_seed": SCANNER_SEED,
    }
    weights = {variant.name: sight.weight_hashes(variant) for variant in variants}
    record = provenance.record(parameters, used, [TABLE], weights=weights)
    provenance.write_json(RECORD, record)
