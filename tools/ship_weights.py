"""Copies the best trial of a pre-training into the package, with its record and its list of scans.

Usage: python tools/ship_weights.py [RESULTS] [TASK]      (default runs/sight lesions)

Written to msxai/model/weights/ (`make shipped-weights` trains the networks first):

- <task>.npz: the weights;
- <task>.tsv: the scans that the network has seen, for the guard against leaks;
- <task>.json: parameters, seeds, versions and commit of the training, the command that makes the
  files anew, and the hash of the weights.
"""

import json
import sys
from pathlib import Path

from msxai.base import provenance
from msxai.base.results import Results

WEIGHTS = Path(__file__).resolve().parent.parent / "msxai" / "model" / "weights"
COMMAND = "make shipped-weights"
MOST_BYTES = 1_000_000


def ship(results: str, task: str, folder: Path = WEIGHTS) -> list[Path]:
    """Copy the trial of highest validation accuracy; return the files."""
    source = Results(results).initial_weights(f"{task}/best")
    size = source.stat().st_size
    if size > MOST_BYTES:
        raise SystemExit(f"{source}: found {size} bytes, expected at most {MOST_BYTES}.")
    record = json.loads(source.with_name("provenance.json").read_text(encoding="utf-8"))
    shipped = {"command": COMMAND, "sha256": provenance.sha256(source), **record}
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        folder / f"{task}.npz": source.read_bytes(),
        folder / f"{task}.tsv": source.with_name("subjects.tsv").read_bytes(),
    }
    for path, content in files.items():
        path.write_bytes(content)
    record_path = folder / f"{task}.json"
    provenance.write_json(record_path, shipped)
    return [*files, record_path]


if __name__ == "__main__":
    arguments = sys.argv[1:]
    results = arguments[0] if arguments else "runs/sight"
    task = arguments[1] if len(arguments) > 1 else "lesions"
    for path in ship(results, task):
        print(path.relative_to(WEIGHTS.parent.parent.parent))
