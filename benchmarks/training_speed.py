"""How fast does `network.build(fast=True)` train beside the plain Keras network? Alternating, in
one run; about 10 minutes on 2 cores.

Usage: python benchmarks/training_speed.py [ROUNDS]      (default 5)

Both networks, each in a process of its own that is idle while the other works, do the same 20 steps
of `model.fit` from the same weights with the same batches of 4, dropout masks and Adam (1e-3), 2
threads. Volumes: simulated scans, 0 outside the brain, as prepared arrays are. Rounding alone
drives two trainings apart: the plain network is also trained on volumes that differ by 1e-7 of
their values. Written beside this file: training_speed.tsv (each fit) and training_speed.json
(ratios of medians, largest difference of a loss).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from msxai.base import provenance
from msxai.data.synthetic import phantom
from msxai.model import network

HERE, WIDTHS, THREADS, STEPS, BATCH, SCANS = Path(__file__).parent, (16, 64), 2, 20, 4, 16


class Worker:
    """One network's process."""

    def __init__(self, kind, width, folder):
        command = [
            sys.executable,
            HERE / "training_worker.py",
            kind,
            *map(str, (width, THREADS, STEPS, BATCH)),
            folder,
        ]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def fit(self):
        """Seconds, bytes and losses of one fit."""
        print(file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def end(self):
        """No more fits."""
        self.process.stdin.close()
        self.process.wait()


def write_inputs(folder, width):
    """Weights and scans of both groups."""
    keras.utils.set_random_seed(width)
    network.save_weights(network.build(width), folder / "weights.npz")
    scans, labels = [], np.arange(SCANS) % 2
    for seed, label in enumerate(labels):
        subject = phantom.simulate("ms", "MS" if label else "HC", seed)
        inside = subject.image[subject.brain]
        scans.append(np.where(subject.brain, (subject.image - inside.mean()) / inside.std(), 0))
    np.save(folder / "volumes.npy", np.stack(scans)[..., None].astype("float32"))
    np.save(folder / "labels.npy", labels[:, None].astype("float32"))


def measure(width, rounds):
    """One row a fit, and the largest difference of a loss between the two networks."""
    rows, losses = [], {}
    with tempfile.TemporaryDirectory() as name:
        write_inputs(Path(name), width)
        workers = {kind: Worker(kind, width, name) for kind in ("plain", "fast")}
        for round in range(rounds):
            for kind, worker in workers.items():
                answer = worker.fit()
                losses.setdefault(kind, []).append(answer["losses"])
                rows.append(
                    {
                        "width": width,
                        "network": kind,
                        "round": round,
                        "seconds": answer["seconds"],
                        "volumes_per_second": STEPS * BATCH / answer["seconds"],
                        "memory_gb": answer["memory"] / 1e9,
                    }
                )
                print(rows[-1], flush=True)
        for worker in workers.values():
            worker.end()
        volumes = np.load(Path(name) / "volumes.npy")
        np.save(
            Path(name) / "volumes.npy",
            volumes
            * np.random.default_rng(0).choice(np.float32([1 - 1e-7, 1 + 1e-7]), volumes.shape),
        )
        moved = Worker("plain", width, name)
        losses["moved"] = [moved.fit()["losses"]]
        moved.end()
    losses = {kind: np.array(fits) for kind, fits in losses.items()}
    apart = np.abs(losses["plain"] - losses["fast"]).max(axis=0)
    return rows, {
        "largest_difference_of_a_loss": float(apart.max()),
        "first_steps_within_1e-4": int(np.argmax([*(apart > 1e-4), True])),
        "largest_difference_of_plain_moved_by_1e-7": float(
            np.abs(losses["plain"][0] - losses["moved"][0]).max()
        ),
    }


if __name__ == "__main__":
    table, result = [], {}
    for width in WIDTHS:
        rows, differences = measure(width, int(sys.argv[1]) if len(sys.argv) > 1 else 5)
        table += rows
        medians = pd.DataFrame(rows).groupby("network")["volumes_per_second"].median()
        result[f"width {width}"] = {
            "times_plain": round(medians["fast"] / medians["plain"], 2)
        } | differences
    pd.DataFrame(table).to_csv(
        HERE / "training_speed.tsv", sep="\t", index=False, float_format="%.4g"
    )
    print(result)
    settings = {"widths": WIDTHS, "threads": THREADS, "steps": STEPS, "batch_size": BATCH}
    record = provenance.record(settings, outputs=[HERE / "training_speed.tsv"], ratios=result)
    provenance.write_json(HERE / "training_speed.json", record)
