"""Says how long a profile takes, and how much memory and disk it needs, before anything runs.

Usage: python tools/plan.py PROFILE           (make plan PROFILE=paper)
       python tools/plan.py --measure RUNS    (make proof-plan, after make figures)

Each notebook has a unit of work: a scan, a scan of one epoch, a map. benchmarks/plan.tsv holds the
seconds and megabytes of each unit. They were measured on one computer, on simulated scans, with
networks of width 16. A wider network takes longer by the ratio in benchmarks/training_speed.tsv.
Another computer can be twice as fast or half as fast.

For a GPU, trainings and maps take as long as benchmarks/gpu.tsv says (make proof-gpu), one after
another, and all else as long as on this computer. Without that table the plan says so.
"""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from msxai.base import provenance, tsv

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "benchmarks" / "plan.tsv"
LOCAL = ROOT / "workflow" / "local" / "config.yaml"  # cores and memory that the workflow may use
SPEED = ROOT / "benchmarks" / "training_speed.tsv"
GPU = ROOT / "benchmarks" / "gpu.tsv"
MEASURED_WIDTH = 16
UNITS = {
    "01_data_preparation": "scan",
    "01b_lesion_filling": "scan",
    "02_pretraining": "scan of an epoch",
    "03_fine_tuning": "scan of an epoch",
    "04_evaluation": "scan of a network",
    "05_lrp_heatmaps": "map",
    "06_region_relevance": "notebook",
    "07_explanation_quality": "map",
    "08_figures": "notebook",
    "09_results_page": "notebook",
}
TRAININGS = ("02_pretraining", "03_fine_tuning")
DEPENDS_ON_WIDTH = (*TRAININGS, "05_lrp_heatmaps", "07_explanation_quality")
ON_GPU = {
    "02_pretraining": "training",
    "03_fine_tuning": "training",
    "05_lrp_heatmaps": "lrp",
    "07_explanation_quality": "lrp",
}
"""Notebooks that use a GPU, and the task of benchmarks/gpu.tsv that tells their time."""

GPU_BACKEND = "torch"  # of make setup GPU=1
SMALLEST_BATCH = 4  # of benchmarks/gpu.tsv; maps are made one by one
COUNTERFACTUAL = 3  # scans as they are, with lesions filled, with sham sites filled
CHAIN = (
    "01_data_preparation",
    "02_pretraining",
    "03_fine_tuning",
    "04_evaluation",
    "08_figures",
    "09_results_page",
)


@dataclass(frozen=True)
class Step:
    """The jobs of one notebook.

    Attributes
    ----------
    notebook : str
    jobs : int
    units : float
        Of work in one job, as `UNITS` names them.
    memory_gb : float
        That each job asks for.
    threads : int
    """

    notebook: str
    jobs: int
    units: float
    memory_gb: float
    threads: int


def steps(config: dict) -> list[Step]:
    """Count the jobs of a profile and the work in each."""
    tuned = config["cohorts"]["finetuning"]
    earlier = config["cohorts"]["pretraining"]
    validation = config["01_data_preparation"]["validation"]
    n_holdout = sum(tuned["holdout"]) if sum(tuned["holdout"]) >= 1 else 0
    n_trained = (tuned["subjects"] - n_holdout) * (1 - validation)
    n_pretrained = earlier["subjects"] * (1 - validation)
    variants = config["variants"]
    n_trials = [
        variant.get("trials", config["trials"]["finetuning"]) for variant in variants.values()
    ]
    fillings = {variant.get("filling", "none") for variant in variants.values()}
    fillings |= {variant.get("counterfactual_pairs", "none") for variant in variants.values()}
    evaluation = config["04_evaluation"]
    n_versions = COUNTERFACTUAL if evaluation["counterfactual"] else 1
    n_tested = n_holdout + n_versions * evaluation["n_further_subjects"]
    best = config.get("best", {})
    copies = [1] * (1 + bool(config["filled"]))
    if best:
        copies.append(best["tta_copies"])
    n_copies = sum(copies) / len(copies)
    judged = config["07_explanation_quality"]
    n_maps = len(judged.get("rules", [])) + len(judged.get("methods", []))
    n_judged = bool(config["judged"]) * (1 + bool(best))
    trials = config["trials"]["finetuning"]
    work = {
        "01_data_preparation": (2, (tuned["subjects"] + earlier["subjects"]) / 2),
        "01b_lesion_filling": (len(fillings - {"none"}), tuned["subjects"]),
        "02_pretraining": (
            config["trials"]["pretraining"],
            n_pretrained * config["02_pretraining"]["epochs"],
        ),
        "03_fine_tuning": (sum(n_trials), n_trained * config["03_fine_tuning"]["epochs"]),
        "04_evaluation": (1, n_tested * sum(n_trials)),
        "05_lrp_heatmaps": (len(copies), n_holdout * trials * n_copies),
        "06_region_relevance": (1 + bool(config["filled"]), 1),
        "07_explanation_quality": (n_judged, n_holdout * n_maps * trials),
        "08_figures": (1, 1),
        "09_results_page": (1, 1),
    }
    planned = []
    for notebook, (jobs, units) in work.items():
        if jobs:
            memory_gb = config["memory_mb"][notebook] / 1000
            threads = config[notebook].get("threads", config[notebook].get("jobs", 1))
            planned.append(Step(notebook, jobs, units, memory_gb, threads))
    return planned


def width_factor(width: int) -> float:
    """Return how much longer a step of training takes than at width 16."""
    if width == MEASURED_WIDTH:
        return 1.0
    table = tsv.read(SPEED)
    seconds = table[table["network"] == "fast"].groupby("width")["seconds"].median()
    if width in seconds:
        return seconds[width] / seconds[MEASURED_WIDTH]
    widest = seconds.index.max()
    slope = (seconds[widest] / seconds[MEASURED_WIDTH] - 1) / (widest - MEASURED_WIDTH)
    return max(1.0, 1 + slope * (width - MEASURED_WIDTH))


def plan(config: dict, measured: pd.DataFrame, cores: int, memory_gb: float) -> pd.DataFrame:
    """Return one row a notebook: jobs, hours a job, hours in all, parallel jobs, memory, disk."""
    by_notebook = measured.set_index("notebook")
    rows = []
    for step in steps(config):
        unit = by_notebook.loc[step.notebook]
        factor = 1.0
        if step.notebook in DEPENDS_ON_WIDTH:
            factor = width_factor(config["03_fine_tuning"]["width"])
        hours = step.units * unit["seconds"] * factor / 3600
        at_once = min(step.jobs, cores // step.threads or 1, int(memory_gb / step.memory_gb) or 1)
        rows.append(
            {
                "notebook": step.notebook,
                "jobs": step.jobs,
                "hours_a_job": hours,
                "hours": hours * step.jobs,
                "at_once": at_once,
                "hours_here": hours * -(-step.jobs // at_once),
                "memory_gb": step.memory_gb,
                "disk_gb": step.units * step.jobs * unit["megabytes"] / 1000,
            }
        )
    return pd.DataFrame(rows)


def volumes_per_second(speeds: pd.DataFrame, task: str, width: int, batch: int) -> float | None:
    """Return how fast a GPU was measured, in float32 and the largest batch up to `batch`.

    None where no row has this width.
    """
    is_wanted = (
        ~speeds["device"].str.startswith("cpu")
        & (speeds["backend"] == GPU_BACKEND)
        & (speeds["floats"] == "float32")
        & (speeds["task"] == task)
        & (speeds["width"] == width)
        & (speeds["batch"] <= batch)
    )
    rows = speeds[is_wanted].dropna(subset=["volumes_per_second"])
    if rows.empty:
        return None
    return float(rows.sort_values("batch")["volumes_per_second"].iloc[-1])


def gpu_sentence(config: dict, table: pd.DataFrame, speeds: pd.DataFrame | None) -> str:
    """Say how many hours the profile takes with one GPU."""
    if speeds is None:
        return "A GPU was not measured (make proof-gpu, on a computer with one)."
    width = config["03_fine_tuning"]["width"]
    hours = 0.0
    for step, row in zip(steps(config), table.itertuples(), strict=True):
        if step.notebook not in ON_GPU:
            hours += row.hours_here
            continue
        batch = max(config[step.notebook].get("batch_size", 1), SMALLEST_BATCH)
        speed = volumes_per_second(speeds, ON_GPU[step.notebook], width, batch)
        if speed is None:
            return f"A GPU was not measured at width {width} (make proof-gpu)."
        hours += step.jobs * step.units / speed / 3600
    return f"With one GPU ({speeds['device'].iloc[0]}): about {hours:.1f} hours."


def report(table: pd.DataFrame, profile: str, cores: int, memory_gb: float, gpu: str = "") -> str:
    """Write the plan as text; `gpu` is the sentence on a GPU."""
    chain = table[table["notebook"].isin(CHAIN)]["hours_a_job"].sum()
    shown = table.round({"hours_a_job": 2, "hours": 1, "hours_here": 1, "disk_gb": 2})
    largest = table["memory_gb"].max()
    lines = [
        f"Profile {profile}, most epochs, as measured on simulated scans ({TABLE.name}):",
        "",
        shown.to_string(index=False),
        "",
        f"All jobs one after another: {table['hours'].sum():.1f} hours.",
        f"This computer ({cores} cores; {LOCAL.parent.name}/{LOCAL.name} allows {memory_gb:g} GB "
        f"of memory): about {table['hours_here'].sum():.1f} hours.",
        f"A cluster where all jobs find a place at once: about {chain:.1f} hours.",
        f"Memory of the largest job: {largest:.1f} GB. Disk: {table['disk_gb'].sum():.1f} GB.",
        gpu,
        "A training that stops early takes less.",
    ]
    if largest > memory_gb:
        lines.append(
            f"Before you start: raise mem_mb in {LOCAL.relative_to(ROOT)} to {largest * 1000:.0f}. "
            "The largest job does not fit into what it allows."
        )
    return "\n".join(lines)


def seconds_of(notebook: Path) -> float:
    """Return how long papermill took to run a notebook."""
    metadata = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]
    return metadata["papermill"]["duration"]


def megabytes(folder: Path) -> float:
    """Return the size of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def share_of_epochs(trainings: Path, options: dict) -> float:
    """Return how many of the most epochs the trainings took before they stopped, as a share."""
    histories = [tsv.read(path) for path in sorted(trainings.rglob("history.tsv"))]
    epochs = sum(len(history) for history in histories)
    return epochs / (options["epochs"] * len(histories))


def measure(results: Path, config: dict) -> pd.DataFrame:
    """Return the seconds and megabytes of each notebook's unit in a finished run."""
    folders = {
        "01_data_preparation": ["prepared", "quality-control"],
        "01b_lesion_filling": ["lesion-filled"],
        "02_pretraining": ["pretraining"],
        "03_fine_tuning": ["finetuning"],
        "04_evaluation": ["evaluation"],
        "05_lrp_heatmaps": ["heatmaps"],
        "06_region_relevance": ["regions"],
        "07_explanation_quality": ["quality", "states"],
        "08_figures": ["figures"],
        "09_results_page": ["report"],
    }
    rows = []
    for step in steps(config):
        notebooks = sorted((results / "notebooks").glob(f"{step.notebook}*.ipynb"))
        seconds = sum(seconds_of(path) for path in notebooks)
        size = sum(megabytes(results / name) for name in folders[step.notebook])
        total = step.units * len(notebooks)
        if step.notebook in TRAININGS:
            total *= share_of_epochs(results / folders[step.notebook][0], config[step.notebook])
        rows.append(
            {
                "notebook": step.notebook,
                "unit": UNITS[step.notebook],
                "notebooks": len(notebooks),
                "seconds": seconds / total,
                "megabytes": size / total,
            }
        )
    return pd.DataFrame(rows)


def allowed() -> tuple[int, float]:
    """Return the cores and the gigabytes of memory that the workflow may use here."""
    config = yaml.safe_load(LOCAL.read_text(encoding="utf-8"))
    cores = os.cpu_count() if config["cores"] == "all" else int(config["cores"])
    limits = dict(limit.split("=") for limit in config["resources"])
    return cores, int(limits["mem_mb"]) / 1000


def read_profile(profile: str) -> dict:
    """Read a profile of the workflow, or say which there are."""
    path = ROOT / "workflow" / f"{profile}.yaml"
    whole = sorted(
        file.stem for file in path.parent.glob("*.yaml") if "cohorts" in file.read_text()
    )
    if profile not in whole:
        sys.exit(
            f"PROFILE: found {profile!r}, expected one of {', '.join(whole)}. Mend the name: "
            "make plan PROFILE=paper"
        )
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def main(arguments: list[str]) -> None:
    """Print a plan, or measure and write the table."""
    if arguments[0] == "--measure":
        results = Path(arguments[1])
        tsv.write(measure(results, read_profile("demo")), TABLE, float_format="%.4g")
        record = provenance.record({"command": "make proof-plan"}, [], [TABLE])
        provenance.write_json(TABLE.with_suffix(".json"), record)
        print(tsv.read(TABLE).to_string(index=False))
        return
    profile = arguments[0]
    config = read_profile(profile)
    cores, memory_gb = allowed()
    table = plan(config, tsv.read(TABLE), cores, memory_gb)
    speeds = tsv.read(GPU) if GPU.exists() else None
    print(report(table, profile, cores, memory_gb, gpu_sentence(config, table, speeds)))


if __name__ == "__main__":
    main(sys.argv[1:])
