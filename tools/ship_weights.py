"""Copies the networks of a pre-training into the package, with their records and lists of scans.

Usage: python tools/ship_weights.py [RESULTS] [TASK]      (default runs/sight lesions)

Written to msxai/model/weights/ (`make shipped-weights` trains the networks first), for each trial:

- <task>-<trial>.npz: the weights;
- <task>-<trial>.tsv: the scans that the network has seen, for the guard against leaks;
- <task>-<trial>.json: parameters, seeds, versions and commit of the training, the command that
  makes the files anew, and the hash of the weights.
"""

import json
import sys
from pathlib import Path

from msxai.base import provenance

WEIGHTS = Path(__file__).resolve().parent.parent / "msxai" / "model" / "weights"
COMMAND = "make shipped-weights"
MOST_BYTES = 1_000_000


def trained(results: str, task: str) -> list[Path]:
    """Find the weights of all trials of a pre-training."""
    folder = Path(results) / "pretraining" / task
    weights = sorted(folder.glob("trial-*/weights.npz"))
    if not weights:
        raise SystemExit(f"{folder}: found no trial-*/weights.npz. Run {COMMAND}.")
    size = sum(path.stat().st_size for path in weights)
    if size > MOST_BYTES:
        raise SystemExit(f"{folder}: found {size} bytes, expected at most {MOST_BYTES}.")
    return weights


def ship(results: str, task: str, folder: Path = WEIGHTS) -> list[Path]:
    """Copy every trial; return the files."""
    files = []
    for source in trained(results, task):
        number = source.parent.name.removeprefix("trial-")
        record = json.loads(source.with_name("provenance.json").read_text(encoding="utf-8"))
        shipped = {"command": COMMAND, "sha256": provenance.sha256(source), **record}
        copies = {
            folder / f"{task}-{number}.npz": source,
            folder / f"{task}-{number}.tsv": source.with_name("subjects.tsv"),
        }
        folder.mkdir(parents=True, exist_ok=True)
        for path, original in copies.items():
            path.write_bytes(original.read_bytes())
        record_path = folder / f"{task}-{number}.json"
        provenance.write_json(record_path, shipped)
        files += [*copies, record_path]
    return files


if __name__ == "__main__":
    arguments = sys.argv[1:]
    results = arguments[0] if arguments else "runs/sight"
    task = arguments[1] if len(arguments) > 1 else "lesions"
    for path in ship(results, task):
        print(path.relative_to(WEIGHTS.parent.parent.parent))
