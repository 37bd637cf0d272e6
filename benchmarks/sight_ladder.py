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

Each part of the work is stored in RESULTS/ladder once it is done: after an interruption, the same
command goes on.

Everything is simulated. Pre-training for lesions or for their volume knows what a simulated lesion
looks like, so its results are better here than they would be on real scans.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import sight
from joblib import Memory, Parallel, delayed
from tqdm import tqdm

from msxai.base import provenance, tsv
from msxai.base.results import Results
from msxai.data import images
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


@dataclass(frozen=True)
class Subjects:
    """The further subjects, on both kinds of scan.

    Attributes
    ----------
    prepared, rescanned : pathlib.Path
        The prepared cohort, and its scans as another scanner shows them (.npy). The second name
        holds a hash of the first file: after another simulation, stored results do not count.
    """

    prepared: Path
    rescanned: Path

    @classmethod
    def of(cls, where: Results, prepared: Prepared) -> "Subjects":
        """Draw the other scanner once for all variants; a later run finds the scans."""
        digest = provenance.sha256(prepared.path)[:16]
        path = where.folder / "ladder" / f"rescanned-{SCANNER_SEED}-{digest}.npy"
        if not path.exists():
            shape = (len(prepared.table), *images.SHAPE)
            with provenance.replacing(path) as draft:
                stored = np.lib.format.open_memmap(draft, "w+", "float32", shape)
                for row in tqdm(prepared.rows("all"), desc=OTHER_SCANNER, unit="scan"):
                    rng = np.random.default_rng([SCANNER_SEED, row])
                    stored[row] = acquisition.rescanned(prepared.image(row), rng)
                stored.flush()
        return cls(Path(prepared.path), path)

    def scan(self, prepared: Prepared, row: int, scans: str) -> np.ndarray:
        """Return a scan of a kind (`SCANS`); `prepared` is the opened cohort."""
        if scans == AS_SIMULATED:
            return prepared.image(row)
        return np.array(np.load(self.rescanned, mmap_mode="r")[row])


def logits_of(subjects: Subjects, variant: sight.Variant, hashes, scans: str) -> np.ndarray:
    """Logits of every scan by each trial, (trials, scans).

    `hashes` are those of the weights: after another training, stored results do not count.
    """
    network.configure(0, 1)
    models = [network.restore(path, fast=True) for path in variant.weights]
    prepared = Prepared(subjects.prepared)
    logits = []
    for row in range(len(prepared.table)):
        volume = subjects.scan(prepared, row, scans)[None, ..., None]
        logits.append([float(network.logits(model, volume)[0]) for model in models])
    return np.array(logits).T


def measured(subjects: Subjects, rows, variant: sight.Variant, hashes) -> list[dict]:
    """Measure the maps of some patients on both kinds of scan; `hashes` as of `logits_of`."""
    network.configure(0, 1)
    prepared = Prepared(subjects.prepared)
    models = [network.restore(file) for file in variant.weights]
    scores = []
    for row in rows:
        for scans in SCANS:
            image = subjects.scan(prepared, row, scans)
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


def done(work: list, jobs: int, words: str) -> list:
    """Do the work in several processes; what an earlier run has stored is read."""
    results = Parallel(jobs, return_as="generator")(work)
    return list(tqdm(results, desc=words, total=len(work), unit="part"))


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
    hashes = {variant.name: sight.weight_hashes(variant) for variant in variants}
    subjects = Subjects.of(where, prepared)
    memory = Memory(where.folder / "ladder", verbose=0)
    rows = []
    for scans in SCANS:
        work = [
            delayed(memory.cache(logits_of))(subjects, variant, hashes[variant.name], scans)
            for variant in variants
        ]
        names = [variant.name for variant in variants]
        logits = dict(zip(names, done(work, jobs, f"logits, {scans}"), strict=True))
        of_accuracy = sight.accuracy_rows(variants, logits, labels)
        rows += [row | {"scans": scans} for row in of_accuracy]
    work = [
        delayed(memory.cache(measured))(subjects, part, variant, hashes[variant.name])
        for variant in variants
        for part in sight.blocks(patients)
    ]
    scores = pd.DataFrame([score for part in done(work, jobs, "maps") for score in part])
    rows += map_rows(variants, scores)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    import sight_ladder  # other processes find functions and classes by this name

    parser = argparse.ArgumentParser(description="Tasks of pre-training, steps of fine-tuning.")
    parser.add_argument("results", nargs="?", default="runs/sight")
    where = Results(parser.parse_args().results)
    table = sight_ladder.main(where)
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
