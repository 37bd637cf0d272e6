"""How fast is msxai.lrp beside innvestigate and a plain gradient? All in one run, alternating;
about 6 minutes on 2 cores.

Usage: python benchmarks/lrp_speed.py [ROUNDS]      (default 7)

The paper's network (width 64, 96x114x96), 2 threads, each engine in a process of its own that is
idle while another works. Volumes: "dense" (noise everywhere) and "scan" (a simulated scan, 0
outside the brain, as prepared arrays are). The gradient is taken with pooling after the ELU, as in
the paper, and before it (equal and faster); ratios are to the faster one. "epsilon*8" is the mean
over 8 copies of the volume. Written beside this file:
lrp_speed.tsv (medians and quartiles of seconds, peak memory), lrp_speed.json (ratios, commit,
versions) and lrp_speed.png.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from msxai.base import provenance
from msxai.data.images import SHAPE
from msxai.data.synthetic import phantom
from msxai.model import network

HERE, WIDTH, THREADS = Path(__file__).parent, 64, 2
# innvestigate's alpha-beta is right without biases only, and its rule does the same work as with
# them
TWIN = {"epsilon": "epsilon", "alpha1_beta0": "alpha1_beta0_IB", "alpha2_beta1": "alpha2_beta1_IB"}
COPIES = "epsilon*8"  # the mean over 8 shifted and mirrored copies
RULES = (*TWIN, COPIES, "epsilon_plus_flat", "epsilon_alpha2_beta1_flat", "epsilon_gamma_box")


class Worker:
    """One engine's process."""

    def __init__(self, engine, folder, width=WIDTH):
        command = [sys.executable, HERE / "lrp_worker.py", engine, str(width), str(THREADS), folder]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, rule, batch, kind):
        """Seconds, bytes and checksum of one explanation."""
        print(rule, batch, kind, file=self.process.stdin, flush=True)
        return [float(part) for part in self.process.stdout.readline().split()]


def write_inputs(folder, width=WIDTH):
    """Weights with biases, and four volumes of each kind."""
    model, rng = network.build(width), np.random.default_rng(0)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([layer.get_weights()[0], rng.normal(0, 0.05, layer.bias.shape)])
    network.save_weights(model, folder / "weights.npz")
    np.save(folder / "dense.npy", rng.normal(size=(4, *SHAPE, 1)).astype("float32"))
    scans = []
    for seed in range(4):
        subject = phantom.simulate("ms", "MS", seed)
        inside = subject.image[subject.brain]
        scans.append(np.where(subject.brain, (subject.image - inside.mean()) / inside.std(), 0))
    np.save(folder / "scan.npy", np.stack(scans)[..., None].astype("float32"))


def measure(rounds):
    """One row a measurement."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        write_inputs(Path(name))
        workers = {
            engine: Worker(engine, name)
            for engine in ("msxai", "innvestigate", "gradient", "gradient_pool_first")
        }
        jobs = [("gradient", "gradient"), ("gradient_pool_first", "gradient")]
        for rule in RULES:
            jobs.append(("msxai", rule))
            if rule in TWIN:
                jobs.append(("innvestigate", TWIN[rule]))
        for round in range(-1, rounds):  # the first is for warming up
            for engine, rule in jobs:
                for kind in ("dense", "scan"):
                    for batch in (1, 4):
                        if batch == 4 and rule not in ("epsilon", "gradient"):
                            continue
                        seconds, memory, check = workers[engine].run(rule, batch, kind)
                        if round >= 0:
                            rows.append(
                                {
                                    "engine": engine,
                                    "rule": rule.removesuffix("_IB"),
                                    "volumes": kind,
                                    "batch": batch,
                                    "seconds": seconds,
                                    "memory_gb": memory / 1e9,
                                    "check": check,
                                }
                            )
            print(f"round {round + 1} of {rounds}", flush=True)
    return pd.DataFrame(rows)


def ratios(table):
    """Of medians: innvestigate's time to ours, ours to the faster gradient's, and memory."""
    seconds, memory, by_rule = table["median"].to_dict(), table["memory_gb"].to_dict(), {}
    for (engine, rule, kind, batch), time in seconds.items():
        if engine == "msxai":
            faster = min(
                seconds["gradient", "gradient", kind, batch],
                seconds["gradient_pool_first", "gradient", kind, batch],
            )
            entry = by_rule[f"{rule}, {kind}, batch {batch}"] = {
                "to_gradient": round(time / faster, 3)
            }
            if rule == COPIES:
                entry["to_one_copy"] = round(time / seconds["msxai", "epsilon", kind, batch], 2)
            other = ("innvestigate", rule, kind, batch)
            if other in seconds:
                entry["times_innvestigate"] = round(seconds[other] / time, 2)
                entry["memory_to_innvestigate"] = round(
                    memory["msxai", rule, kind, batch] / memory[other], 3
                )
    return by_rule


def draw(table, path):
    """Medians with quartiles."""
    rows = table.reset_index().query("batch == 1").sort_values(["rule", "engine"])
    labels = [
        f"{rule}, {engine}" if rule != "gradient" else engine
        for rule, engine in zip(rows["rule"], rows["engine"], strict=True)
    ]
    names = list(dict.fromkeys(labels))
    figure, axes = plt.subplots(figsize=(9, 0.34 * len(names) + 1.4), layout="constrained")
    for kind, shift, colour in (("dense", -0.18, "#4c72b0"), ("scan", 0.18, "#dd8452")):
        part = rows[rows["volumes"] == kind]
        places = [
            names.index(f"{rule}, {engine}" if rule != "gradient" else engine)
            for rule, engine in zip(part["rule"], part["engine"], strict=True)
        ]
        axes.barh(
            np.array(places) + shift,
            part["median"],
            0.34,
            color=colour,
            label=kind,
            xerr=[part["median"] - part["low"], part["high"] - part["median"]],
        )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(
        xlabel="seconds a volume (median and quartiles; width 64, 96x114x96, 2 threads)",
        title="LRP of one volume",
    )
    axes.legend(title="volumes", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    measurements = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
    grouped = measurements.groupby(["engine", "rule", "volumes", "batch"])
    table = (
        grouped["seconds"]
        .quantile([0.5, 0.25, 0.75])
        .unstack()
        .set_axis(["median", "low", "high"], axis=1)
    )
    table["memory_gb"] = grouped["memory_gb"].max()
    assert (grouped["check"].nunique() == 1).all(), "an engine did not repeat its result"
    table.to_csv(HERE / "lrp_speed.tsv", sep="\t", float_format="%.4g")
    draw(table, HERE / "lrp_speed.png")
    result = ratios(table)
    print(
        table.round(3).to_string(),
        *(f"{name}: {value}" for name, value in result.items()),
        sep="\n",
    )
    settings = {"rounds": int(grouped.size().min()), "width": WIDTH, "threads": THREADS}
    provenance.write_json(
        HERE / "lrp_speed.json",
        provenance.record(settings, outputs=[HERE / "lrp_speed.tsv"], ratios=result),
    )
