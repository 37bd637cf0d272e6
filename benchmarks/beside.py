"""Training on eight real patients in turn, without controls: do maps and answers get better?

Usage: python benchmarks/beside.py [RESULTS] [--cores 1] [--from-scores]
(default runs/demo, for simulated subjects; make proof-beside)

Needs the scans of ../shared/data, as benchmarks/real.py. About 50 minutes of one core; a training
that is finished is not repeated. With --from-scores the table is written anew from the scores.

The networks are trained by the workflow as `make beside` does it, with the settings of
workflow/beside.yaml. Four folds divide the eight patients: six are trained on (one of them is the
validation part), two are held out. In a second arrangement all patients of one centre are held
out, so that the networks have seen patients of the other centre only. The splits have the seed 0.
Nothing is chosen on these patients.

Each patient is measured by the three networks that have not seen them, and by the three networks
that the trainings started from. Maps are measured as in benchmarks/real.py, with the rule and the
copies that were fixed on simulated scans. Answers are those to the scan as it is, with its lesions
filled and with as much normal white matter filled (sham). The filling is the method of the
training. A network that has learnt to recognise filled tissue would pass this test, so the sham
scans are the control. Forty simulated subjects show what the training has lost there.

Written beside this file, numbers alone:

- beside.tsv: variant, rule, copies, site, measure, value, low, high, n. Intervals are 95 %: by
  bootstrap over patients, of shares by Clopper and Pearson, of simulated subjects' AUC by bootstrap
  over subjects. `_minus_brightness` and `_minus_shipped` are paired over patients. For simulated
  subjects the value is the mean over the trainings of an arrangement.
- beside_scores.tsv: the measures of each scan; beside_simulated.tsv: the logits of each subject;
  beside.json.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import real
import yaml

from msxai import ROOT
from msxai.base import provenance, statistics, tsv
from msxai.base.results import Results
from msxai.data.cohorts import splits
from msxai.data.prepared import Prepared
from msxai.model import network, seen_scans, shipped, training

HERE = Path(__file__).parent
TABLE, RECORD = HERE / "beside.tsv", HERE / "beside.json"
SCORES, SIMULATED = HERE / "beside_scores.tsv", HERE / "beside_simulated.tsv"
BIN = Path(sys.executable).parent
COHORT = "real-patients"  # as in benchmarks/real.py, whose registrations are used
FURTHER = "phantom-ms-further"
TRIALS = 3
FOLDS = 4
MAPS = (("epsilon_gamma", 1), ("epsilon_gamma", 8))
"""Rule and numbers of copies."""

SHIPPED = "shipped"
BESIDE = "beside"
OTHER_CENTRE = "beside, other centre"
SUBJECTS = 20  # simulated ones of each group


@dataclass(frozen=True)
class Turn:
    """One training: whom it holds out.

    Attributes
    ----------
    variant : str
        The arrangement that it belongs to.
    name : str
    options : dict
        Parameters of notebook 01 that decide the holdout.
    """

    variant: str
    name: str
    options: dict

    @property
    def where(self) -> Results:
        """The results folder of this training."""
        return Results(f"runs/beside/{self.name}")

    @property
    def weights(self) -> list[Path]:
        """The weights files of its networks."""
        return [self.where.trial("beside", trial) / "weights.npz" for trial in range(TRIALS)]


def turns_of(sites) -> list[Turn]:
    """Return the folds, and one training for each centre that is held out."""
    turns = []
    for fold in range(FOLDS):
        turns.append(Turn(BESIDE, f"fold-{fold}", {"folds": FOLDS, "fold": fold}))
    for site in sorted(set(sites)):
        turns.append(Turn(OTHER_CENTRE, f"without-{site}", {"holdout_site": [site]}))
    return turns


def write_cohort(scans: list[real.Scan], participants, folder: Path) -> Path:
    """Write the patients as a table of paths; a name is that of the prepared scan."""
    table = pd.DataFrame(
        {
            "participant_id": list(participants),
            "group": "MS",
            "site": [scan.site for scan in scans],
            "image": [str(scan.image) for scan in scans],
            "lesion_mask": [str(scan.lesions) for scan in scans],
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{COHORT}.csv"
    text = table.to_csv(index=False)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")  # a table with a new date is prepared again
    return path


def settings_of(turn: Turn, cohort: Path) -> dict:
    """Return what the workflow gets on top of demo.yaml and beside.yaml."""
    return {
        "results": turn.where.given,
        "cohort": str(cohort),
        "patients": "MS",
        "cohorts": {"finetuning": turn.options},
    }


def train(turn: Turn, cohort: Path, registrations: Path, cores: int) -> None:
    """Train the three networks of a turn by the workflow; what is finished stays."""
    folder = turn.where.folder
    folder.mkdir(parents=True, exist_ok=True)
    derivatives = folder / "derivatives"
    if not derivatives.exists():
        derivatives.symlink_to(registrations)  # eight heads are registered once
    options = folder / "cohort.yaml"
    options.write_text(yaml.safe_dump(settings_of(turn, cohort)), encoding="utf-8")
    files = ["workflow/demo.yaml", "workflow/beside.yaml", str(options)]
    alone = [sys.executable, "tools/run_alone.py", turn.where.given]
    snakemake = [str(BIN / "snakemake"), "--snakefile", "workflow/Snakefile", "--configfile"]
    profile = ["--workflow-profile", "workflow/local", "--cores", str(cores)]
    paths = [str(ROOT), str(ROOT / "tools" / "quick_start")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run(
        [*alone, *snakemake, *files, *profile, "--", "trainings"],
        cwd=ROOT,
        env=environment,
        check=True,
    )


def held_out(turn: Turn, prepared: Prepared) -> list[int]:
    """Return the rows of the scans that no network of a turn has seen.

    Raises
    ------
    ValueError
        A network has seen one of them.
    """
    split = splits.read(turn.where.split(COHORT))
    names = split.loc[split["part"] == "holdout", "participant_id"]
    rows = [prepared.row(name) for name in names]
    hashes = set(prepared.table["source_sha256"].iloc[rows])
    for path in turn.weights:
        seen = seen_scans.listed(path)
        if hashes & set(seen["source_sha256"]):
            raise ValueError(f"{path}: found a scan of the holdout among those of the training.")
    return rows


class Brightness:
    """The map that needs no network, in the manner of `real.Baselines`."""

    def maps(self, prepared: Prepared, row: int) -> dict:
        """Return name to map of one scan."""
        return {real.BRIGHTNESS: prepared.image(row)}


def simulated_subjects(where: Results) -> tuple[Prepared, list[int]]:
    """Open the demo's further subjects; return them and the rows of the first of each group."""
    path = where.prepared(FURTHER)
    if not path.is_file():
        raise SystemExit(f"{path}: found no such file. Run make figures first.")
    further = Prepared(path, where.split(FURTHER))
    labels = further.table["label"].to_numpy(int)
    rows = []
    for label in (0, 1):
        rows += [int(row) for row in np.flatnonzero(labels == label)[:SUBJECTS]]
    return further, rows


def simulated_logits(weights: dict, further: Prepared, rows) -> pd.DataFrame:
    """Return the mean logit over networks of each simulated subject, one row a turn and subject.

    Parameters
    ----------
    weights : dict
        (variant, turn) to weights files.
    """
    tables = []
    for (variant, turn), paths in weights.items():
        logits = []
        for path in paths:
            net = network.restore(path, fast=True)
            logits.append(training.predict(net, further, rows))
        table = further.table.iloc[rows][["participant_id", "label"]]
        first = {"variant": variant, "turn": turn}
        tables.append(table.assign(**first, logit=np.mean(logits, axis=0)))
    return pd.concat(tables, ignore_index=True)


def table_of(scores: pd.DataFrame, simulated: pd.DataFrame) -> pd.DataFrame:
    """Rows of real patients, of their paired differences, and of simulated subjects."""
    tables = [real.table_of(scores), differences(scores), rows_of_simulated(simulated)]
    return pd.concat(tables, ignore_index=True)


def differences(scores: pd.DataFrame) -> pd.DataFrame:
    """Return each trained variant minus the shipped networks, paired over the same patients."""
    scores = real.with_threshold_of_other_centres(scores)
    rows = []
    for site in ("all", *scores["site"].unique()):
        own = scores if site == "all" else scores[scores["site"] == site]
        for variant in (BESIDE, OTHER_CENTRE):
            trained = own[own["variant"] == variant]
            reference = own[own["variant"] == SHIPPED]
            for rule, copies in MAPS:
                first = {"variant": variant, "rule": rule, "copies": copies, "site": site}
                maps = [of_map(table, rule, copies) for table in (trained, reference)]
                rows += [first | row for row in rows_of_differences(*maps)]
            first = {"variant": variant, "rule": "", "copies": 0, "site": site}
            answers = [answers_by_scan(table) for table in (trained, reference)]
            rows += [first | row for row in rows_of_differences(*answers)]
    return pd.DataFrame(rows)


def of_map(scores: pd.DataFrame, rule: str, copies: int) -> pd.DataFrame:
    """Return the measures of one map, by scan."""
    is_map = (scores["rule"] == rule) & (scores["copies"] == copies)
    return scores[is_map].set_index("scan")[list(real.MEASURES)]


def answers_by_scan(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the answers of one variant, by scan."""
    return real.answers_of(scores.drop_duplicates("scan").set_index("scan"))


def rows_of_differences(trained: pd.DataFrame, reference: pd.DataFrame) -> list[dict]:
    """Return the mean of each column minus that of the reference, over the scans of both."""
    minus = (trained - reference).dropna(how="all")
    return [real.row_of(f"{name}_minus_{SHIPPED}", minus[name]) for name in minus]


def rows_of_simulated(simulated: pd.DataFrame) -> pd.DataFrame:
    """AUC and answers of simulated subjects, each the mean over the trainings of a variant."""
    by_turn = simulated.pivot(index="participant_id", columns=["variant", "turn"], values="logit")
    of_subjects = simulated.drop_duplicates("participant_id").set_index("participant_id")
    labels = of_subjects.loc[by_turn.index, "label"].to_numpy(int)
    weights = statistics.bootstrap_weights(labels, 0)
    reference = np.atleast_2d(by_turn[SHIPPED].to_numpy().T)
    rows = []
    for variant in simulated["variant"].unique():
        logits = by_turn[variant].to_numpy().T
        first = {"variant": variant, "rule": "", "copies": 0, "site": "simulated"}
        own_rows = [auc_row("auc", logits, None, labels, weights)]
        if variant != SHIPPED:
            own_rows.append(auc_row(f"auc_minus_{SHIPPED}", logits, reference, labels, weights))
        for label, group in enumerate(("controls", "patients")):
            of_group = logits[:, labels == label]
            said_yes = (of_group > 0).mean(axis=0)  # share of trainings, for each subject
            own_rows.append(real.row_of(f"called_yes_{group}", said_yes))
            own_rows.append(real.row_of(f"logit_{group}", of_group.mean(axis=0)))
        rows += [first | row for row in own_rows]
    return pd.DataFrame(rows)


def auc_row(measure: str, logits, reference, labels, weights) -> dict:
    """Return the mean AUC over trainings, minus that of a reference, with a bootstrap interval.

    Parameters
    ----------
    logits, reference : ndarray of shape (trainings, subjects)
        The reference may be None.
    labels : ndarray of shape (subjects,)
    weights : ndarray of shape (resamples, subjects)
    """
    value = _mean_auc(labels, logits, None)
    draws = _mean_auc(labels, logits, weights)
    if reference is not None:
        value = value - _mean_auc(labels, reference, None)
        draws = draws - _mean_auc(labels, reference, weights)
    low, high = statistics.percentile_interval(draws)
    row = {"measure": measure, "value": float(value), "low": float(low), "high": float(high)}
    return row | {"n": len(labels)}


def _mean_auc(labels, logits, weights):
    """Return the mean over trainings: one number, or one for each resample."""
    return np.mean([statistics.auc(labels, of_turn, weights) for of_turn in logits], axis=0)


def write_table() -> pd.DataFrame:
    """Write beside.tsv from the tables of scores: what can be read there decides each digit."""
    table = table_of(tsv.read(SCORES), tsv.read(SIMULATED))
    tsv.write(table, TABLE, float_format="%.4g")
    return table


def write_table_anew() -> None:
    """Write beside.tsv from the scores of an earlier run, and its hash into that run's record."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    for path in (SCORES, SIMULATED):
        provenance.check_output(record, path, "make proof-beside")
    write_table()
    now = provenance.record({}, outputs=[TABLE])
    record["outputs"] |= now["outputs"]
    record["table_written"] = {"commit": now["commit"], "written": now["written"]}
    provenance.write_json(RECORD, record)


def measure(turns, scans, prepared: Prepared, demo: Results) -> None:
    """Measure the networks of all turns, and those that they started from."""
    further, rows = simulated_subjects(demo)
    cases = real.cases_of(prepared, scans)
    measured = [(SHIPPED, SHIPPED, shipped.weights()[:TRIALS], list(cases))]
    for turn in turns:
        measured.append((turn.variant, turn.name, turn.weights, held_out(turn, prepared)))
    scores = [real.scores_of_baselines(prepared, scans, cases, Brightness())]
    simulated = []
    for variant, name, paths, own_rows in measured:
        own = {row: cases[row] for row in own_rows if row in cases}
        of_turn = real.scores_of(prepared, scans, own, {variant: paths}, MAPS)
        scores.append(of_turn.assign(turn=name))
        simulated.append(simulated_logits({(variant, name): paths}, further, rows))
    tsv.write(pd.concat(scores, ignore_index=True), SCORES, float_format="%.4g")
    tsv.write(pd.concat(simulated, ignore_index=True), SIMULATED, float_format="%.4g")


def main() -> None:
    """Train, measure and write."""
    parser = argparse.ArgumentParser(description="Training on real patients without controls")
    parser.add_argument("results", nargs="?", default="runs/demo")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--from-scores", action="store_true", help="write the table anew")
    options = parser.parse_args()
    if options.from_scores:
        write_table_anew()
        return
    network.configure(0, 1)
    demo = Results(options.results)
    scans = real.scans_of(real.DATA)
    work = Results("runs/proof")
    prepared = real.prepared_scans(scans, work)
    participants = prepared.table["participant_id"]
    cohort = write_cohort(scans, participants, Results("runs/beside").folder)
    turns = turns_of(scan.site for scan in scans)
    for turn in turns:
        train(turn, cohort, work.folder / "derivatives", options.cores)
    measure(turns, scans, prepared, demo)
    table = write_table()
    print(table[table["site"].isin(["all", "simulated"])].round(3).to_string())
    used = [path for turn in turns for path in turn.weights]
    used += [*shipped.weights()[:TRIALS], demo.prepared(FURTHER)]
    weights = {turn.name: [provenance.sha256(path) for path in turn.weights] for turn in turns}
    parts = {turn.name: parts_of(turn) for turn in turns}
    parameters = {"results": demo.given, "maps": [list(pair) for pair in MAPS], "folds": FOLDS}
    outputs = [TABLE, SCORES, SIMULATED]
    record = provenance.record(parameters, used, outputs, weights=weights, parts=parts)
    provenance.write_json(RECORD, record)


def parts_of(turn: Turn) -> dict:
    """Return which patients a turn has in which part."""
    split = splits.read(turn.where.split(COHORT))
    by_part = split.groupby("part")["participant_id"]
    return {part: sorted(names) for part, names in by_part}


if __name__ == "__main__":
    main()
