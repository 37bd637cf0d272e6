"""Copies networks of a pre-training into the package, with their records and lists of scans.

Usage: python tools/ship_weights.py RESULTS TASK TRIAL [TRIAL ...]

`make shipped-weights` trains the trials that the Makefile lists, and passes the same list on. Other
trials that lie in RESULTS are not copied. Written to msxai/model/weights/, for each trial:

- <task>-<trial>.npz: the weights;
- <task>-<trial>.tsv: the scans that the network has seen, for the guard against leaks;
- <task>-<trial>.json: parameters, seeds, versions and commit of the training, the command that
  makes the files anew, and the hash of the weights.

Files of the task that were there before are removed.
"""

import argparse
import json
import re
from pathlib import Path

from msxai.base import provenance
from msxai.model.shipped import COMMAND

WEIGHTS = Path(__file__).resolve().parent.parent / "msxai" / "model" / "weights"
MOST_BYTES = 1_000_000


def trained(results: str, task: str, trials: list[int]) -> list[Path]:
    """Return the weights of trials of a pre-training, once all that is copied has been checked."""
    folder = Path(results) / "pretraining" / task
    weights = [folder / f"trial-{trial}" / "weights.npz" for trial in trials]
    for path in weights:
        record = path.with_name("provenance.json")
        for needed in (path, path.with_name("subjects.tsv"), record):
            if not needed.is_file():
                raise SystemExit(f"{needed}: found no such file. Run {COMMAND}.")
        outputs = json.loads(record.read_text(encoding="utf-8"))["outputs"]
        if provenance.sha256(path) not in outputs.values():
            raise SystemExit(f"{record}: found the record of other weights. Run {COMMAND}.")
    size = sum(path.stat().st_size for path in weights)
    if size > MOST_BYTES:
        raise SystemExit(f"{folder}: found {size} bytes, expected at most {MOST_BYTES}.")
    return weights


def remove_shipped(task: str, folder: Path) -> None:
    """Remove the files of a task that were shipped before."""
    for path in folder.glob(f"{task}*"):
        if re.fullmatch(rf"{re.escape(task)}(-\d+)?\.(npz|tsv|json)", path.name):
            path.unlink()


def ship(results: str, task: str, trials: list[int], folder: Path = WEIGHTS) -> list[Path]:
    """Copy trials; return the files."""
    sources = trained(results, task, trials)
    folder.mkdir(parents=True, exist_ok=True)
    remove_shipped(task, folder)
    files = []
    for trial, source in zip(trials, sources, strict=True):
        record = json.loads(source.with_name("provenance.json").read_text(encoding="utf-8"))
        shipped = {"command": COMMAND, "sha256": provenance.sha256(source), **record}
        copies = {
            folder / f"{task}-{trial}.npz": source,
            folder / f"{task}-{trial}.tsv": source.with_name("subjects.tsv"),
        }
        for path, original in copies.items():
            path.write_bytes(original.read_bytes())
        record_path = folder / f"{task}-{trial}.json"
        provenance.write_json(record_path, shipped)
        files += [*copies, record_path]
    return files


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Copy networks of a pre-training to the package.")
    parser.add_argument("results")
    parser.add_argument("task")
    parser.add_argument("trials", nargs="+", type=int, metavar="TRIAL")
    return parser.parse_args()


if __name__ == "__main__":
    options = arguments()
    for path in ship(options.results, options.task, sorted(set(options.trials))):
        print(path.relative_to(WEIGHTS.parent.parent.parent))
