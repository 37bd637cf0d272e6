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

Written beside this file:

- sight_ladder.tsv: variant, labels_only, measure, value, low, high, n, scans. Intervals of 95 %:
  DeLong for AUC, bootstrap over patients for maps.
- sight_ladder_logits.tsv: the logit of each subject by each trial.
- sight_ladder_scores.tsv: the measures of each patient's map.
- sight_ladder.json: commit, versions, hashes of the weights.

Trainings take hours. So each variant is measured and written once all of its trials are there, and
the same command goes on with those that lack. A variant in the tables is not measured again unless
its weights have changed; one that RESULTS does not have keeps its rows. The record says at which
commit each one was measured.

Everything is simulated. Pre-training for lesions or for their volume knows what a simulated lesion
looks like, so its results are better here than they would be on real scans.
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import sight
from joblib import Parallel, delayed
from tqdm import tqdm

from msxai.base import provenance, tsv
from msxai.base.results import Results
from msxai.data import images
from msxai.data.prepared import Prepared
from msxai.model import acquisition, network
from msxai.quality import league, localisation, reference_maps

TABLE = sight.HERE / "sight_ladder.tsv"
LOGITS = sight.HERE / "sight_ladder_logits.tsv"
SCORES = sight.HERE / "sight_ladder_scores.tsv"
RECORD = sight.HERE / "sight_ladder.json"
AS_SIMULATED = "as simulated"
OTHER_SCANNER = "other scanner"
SCANS = (AS_SIMULATED, OTHER_SCANNER)
SCANNER_SEED = 7302
COPIES = 1
MEASURES = ("auprc", "rra", "pointing")
REFERENCE = sight.REFERENCE
SAME_BRIGHTNESS = 0.001  # AUPRC
SETTINGS = {
    "rule": sight.RULE,
    "copies": COPIES,
    "scanner_seed": SCANNER_SEED,
    "seed": sight.MAPS["seed"],
    "subjects": sight.SUBJECTS,
    "patients": sight.PATIENTS,
}
"""What decides all numbers, apart from the weights; part of the record."""


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


def logits_of(subjects: Subjects, variant: sight.Variant, scans: str) -> np.ndarray:
    """Logits of every scan by each trial, (trials, scans)."""
    network.configure(0, 1)
    models = [network.restore(path, fast=True) for path in variant.weights]
    prepared = Prepared(subjects.prepared)
    logits = []
    for row in range(len(prepared.table)):
        volume = subjects.scan(prepared, row, scans)[None, ..., None]
        logits.append([float(network.logits(model, volume)[0]) for model in models])
    return np.array(logits).T


def measured(subjects: Subjects, rows, variant: sight.Variant) -> list[dict]:
    """Measure the maps of some patients on both kinds of scan."""
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


@dataclass
class Measured:
    """What was measured, of one variant after another.

    Attributes
    ----------
    logits : pandas.DataFrame
        variant, labels_only, scans, row, label, and logit_0, logit_1, ... of the trials.
    scores : pandas.DataFrame
        variant, scans, row, and the measures of the map.
    weights : dict
        Variant to the hashes of its weights.
    commits : dict
        Variant to the commit that measured it.
    """

    logits: pd.DataFrame = field(default_factory=pd.DataFrame)
    scores: pd.DataFrame = field(default_factory=pd.DataFrame)
    weights: dict = field(default_factory=dict)
    commits: dict = field(default_factory=dict)

    @classmethod
    def earlier(cls) -> "Measured":
        """Read what the committed tables have; nothing where they were made in another way."""
        if not RECORD.exists():
            return cls()
        record = json.loads(RECORD.read_text())
        made_alike = {name: record["parameters"].get(name) for name in SETTINGS} == SETTINGS
        hashes = set(record["outputs"].values())
        unchanged = hashes == {provenance.sha256(path) for path in (TABLE, LOGITS, SCORES)}
        if not made_alike or not unchanged:
            return cls()
        return cls(tsv.read(LOGITS), tsv.read(SCORES), record["weights"], record["commits"])

    def has(self, variant: sight.Variant) -> bool:
        """Whether the variant was measured with these weights."""
        return self.weights.get(variant.name) == sight.weight_hashes(variant)

    def add(self, variant: sight.Variant, logits: pd.DataFrame, scores: pd.DataFrame) -> None:
        """Take up a variant in place of what was there of it.

        Raises
        ------
        ValueError
            The other variants were measured on other scans.
        """
        _check_same_scans(self.scores, scores)
        tables = [(self.logits, logits), (self.scores, scores)]
        for position, (old, new) in enumerate(tables):
            others = old[old["variant"] != variant.name] if len(old) else old
            tables[position] = pd.concat([others, new], ignore_index=True)
        self.logits, self.scores = tables
        self.weights[variant.name] = sight.weight_hashes(variant)
        self.commits.pop(variant.name, None)  # `write` knows the new one

    def table(self) -> pd.DataFrame:
        """Return the table of all variants."""
        variants = []
        for name, own in self.logits.groupby("variant", sort=True):
            variants.append(sight.Variant(name, [], labels_only=bool(own["labels_only"].iloc[0])))
        rows = []
        for scans in SCANS:
            of_scans = self.logits[self.logits["scans"] == scans]
            logits = {}
            for variant in variants:
                own = of_scans[of_scans["variant"] == variant.name].sort_values("row")
                trials = own.filter(regex=r"^logit_\d+$").dropna(axis=1)
                logits[variant.name] = trials.to_numpy(float).T
                labels = own["label"].to_numpy(int)  # the same for all variants
            rows += [
                row | {"scans": scans} for row in sight.accuracy_rows(variants, logits, labels)
            ]
        return pd.DataFrame(rows + map_rows(variants, self.scores))

    def write(self, where: Results, used: list[Path]) -> None:
        """Write all tables and the record beside this file."""
        tsv.write(self.table(), TABLE, float_format="%.4g")
        tsv.write(self.logits, LOGITS, float_format="%.6g")
        tsv.write(self.scores, SCORES, float_format="%.4g")
        record = provenance.record(
            {"results": where.given, **SETTINGS},
            used,
            [TABLE, LOGITS, SCORES],
            weights=self.weights,
        )
        for name in self.weights:
            self.commits.setdefault(name, record["commit"])
        record["commits"] = self.commits
        provenance.write_json(RECORD, record)


def _check_same_scans(earlier: pd.DataFrame, scores: pd.DataFrame) -> None:
    """Refuse scans whose brightness scores otherwise than that of the earlier ones.

    A paired difference of two variants needs the same scans. Of those, each table has the AUPRC of
    brightness, to four digits.
    """
    if earlier.empty:
        return
    differences = (_brightness(earlier) - _brightness(scores)).abs()
    if differences.isna().any() or differences.max() > SAME_BRIGHTNESS:
        raise ValueError(
            f"{SCORES.name}: found other variants on other scans (the AUPRC of brightness differs "
            f"by up to {differences.max():.3f}); expected the same simulated subjects. Remove "
            f"{RECORD.name} and measure all variants again."
        )


def _brightness(scores: pd.DataFrame) -> pd.Series:
    """Return the AUPRC of brightness by kind of scan and row."""
    values = scores["auprc"] - scores["auprc_minus_brightness"]
    return values.groupby([scores["scans"], scores["row"]]).mean()


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


def finished(where: Results) -> list[sight.Variant]:
    """Return the variants that no training goes on for: with as many trials as any other has."""
    counts = {}
    variants = sight.variants(where)
    for variant in variants:
        for path in variant.weights:
            if path.name == "weights.npz":  # of RESULTS, and not one that the package brings
                records = path.parent.parent.glob("trial-*/provenance.json")
                counts[variant.name] = len(list(records))
    most = max(counts.values(), default=0)
    return [variant for variant in variants if counts.get(variant.name, most) == most]


def measure(subjects: Subjects, prepared: Prepared, variant, patients, jobs: int) -> tuple:
    """Return logits and scores of one variant, as `Measured` has them."""
    of_kinds = Parallel(jobs)(delayed(logits_of)(subjects, variant, scans) for scans in SCANS)
    labels = prepared.table["label"].to_numpy(int)
    tables = []
    for scans, logits in zip(SCANS, of_kinds, strict=True):
        table = pd.DataFrame({"row": np.arange(len(labels)), "label": labels})
        table.insert(0, "variant", variant.name)
        table.insert(1, "labels_only", variant.labels_only)
        table.insert(2, "scans", scans)
        for trial, values in enumerate(logits):
            table[f"logit_{trial}"] = values
        tables.append(table)
    work = [delayed(measured)(subjects, rows, variant) for rows in sight.blocks(patients)]
    results = Parallel(jobs, return_as="generator")(work)
    results = tqdm(results, desc=variant.name, total=len(work), unit="part")
    scores = pd.DataFrame([score for part in results for score in part])
    return pd.concat(tables, ignore_index=True), scores


def main(where: Results, jobs: int = 2) -> pd.DataFrame:
    """Measure every finished variant of a results folder that the tables do not have."""
    network.configure(0, 1)
    cohort = Prepared(where.prepared(sight.COHORT), where.split(sight.COHORT))
    prepared = sight.further_subjects(where, cohort)
    labels = prepared.table["label"].to_numpy(int)
    with_lesions = reference_maps.with_lesions(prepared, np.flatnonzero(labels == 1))
    patients = league.spread_evenly(with_lesions, sight.PATIENTS)
    subjects = Subjects.of(where, prepared)
    everything = Measured.earlier()
    variants = finished(where)
    used = [path for variant in variants for path in variant.weights]
    for variant in variants:
        if everything.has(variant):
            continue
        everything.add(variant, *measure(subjects, prepared, variant, patients, jobs))
        everything.write(where, used)
    return everything.table()


if __name__ == "__main__":
    import sight_ladder  # other processes find functions and classes by this name

    parser = argparse.ArgumentParser(description="Tasks of pre-training, steps of fine-tuning.")
    parser.add_argument("results", nargs="?", default="runs/sight")
    where = Results(parser.parse_args().results)
    print(sight_ladder.main(where).round(3).to_string())
