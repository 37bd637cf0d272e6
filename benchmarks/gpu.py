"""How many volumes a second does a GPU train and explain, and how much memory does it need?

Usage: python benchmarks/gpu.py                       (make proof-gpu; at most 10 minutes a call)
       python benchmarks/gpu.py --minutes 5           (shorter calls)
       python benchmarks/gpu.py --cpu                 (on a processor: a smaller table)
       python benchmarks/gpu.py --cpu --small         (a tiny version without a GPU, for tests)

The paper's network at width 16 and 64, in batches of 4 to 32 volumes, on each of Keras's backends
that is installed beside TensorFlow: PyTorch, and JAX where somebody has added it (python -m pip
install 'jax[cuda12]'). Training is measured in float32, in float32 with factors of 10 bits (tf32)
and in bfloat16 (Keras's policy mixed_bfloat16); LRP (epsilon) in float32, in which the package
computes it. Each combination of backend, width, float type and task is a process of its own
(tools/gpu_work.py). Copies from the processor to the GPU and back count. Memory is the largest that
the backend has taken on the GPU; with --cpu, of the process.

Rows are written as soon as they are measured, and kept: a further call measures what is missing. A
row whose volumes do not fit says "out of memory", and so do those with larger batches.

The last rows are of the processor beside the GPU, with all of its cores and one backend: they tell
how much faster the GPU is.

Written beside this file: gpu.tsv (each row) and gpu.json (device, versions); with --cpu,
gpu_processor.tsv and .json. With --small, to runs/gpu-small.

With --cpu the same operations of Keras run on the processor, not the compiled kernels of the
package. Batches have 4 and 8 volumes, at width 64 only 4, and there is no tf32. It shows that each
row can be measured, and how PyTorch and JAX compare on a processor. It says nothing of a GPU.
"""

import argparse
import dataclasses
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from msxai import ROOT
from msxai.base import keras_settings, provenance, tsv

sys.path.insert(0, str(ROOT / "tools"))
import gpu_work
from gpu_work import Job

BATCHES = (4, 8, 16, 32)
WIDTHS = (16, 64)
ON_A_PROCESSOR = {
    "batches": (4, 8),
    "wide_batches": (4,),
    "floats": ("float32", "bfloat16"),
    "with_kernels": False,
}
KEY = ["device", "backend", "width", "floats", "task", "batch"]
COLUMNS = [*KEY, "volumes_per_second", "memory_gb", "note"]


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes
    ----------
    backends : list of str
    widths, batches : tuple of int
    floats : tuple of str
        Of training.
    grid : tuple of int
    seconds : float
        For each row, at least.
    with_gpu : bool
    wide_batches : tuple of int, optional
        Batches of all widths but the first, where they are others.
    with_kernels : bool
        Whether LRP may use the package's compiled kernels, where a backend can.
    beside_gpu : bool
        Whether this is the processor of the computer whose GPU the table is of.
    """

    backends: list
    widths: tuple = WIDTHS
    batches: tuple = BATCHES
    floats: tuple = gpu_work.FLOATS
    grid: tuple = gpu_work.FULL_GRID
    seconds: float = 2.0
    with_gpu: bool = True
    wide_batches: tuple | None = None
    with_kernels: bool = True
    beside_gpu: bool = False

    @property
    def table(self) -> str:
        """Name of the table."""
        return "gpu.tsv" if self.with_gpu or self.beside_gpu else "gpu_processor.tsv"

    def batches_of(self, width: int) -> tuple:
        """Return the batch sizes of a width."""
        if self.wide_batches is None or width == self.widths[0]:
            return self.batches
        return self.wide_batches

    def job(self, width: int, floats: str, task: str) -> Job:
        """Return a job."""
        return Job(
            width=width,
            floats=floats,
            task=task,
            batches=self.batches_of(width),
            grid=self.grid,
            seconds=self.seconds,
            compiled=None if self.with_kernels else False,
        )

    def of_processor(self) -> "Plan | None":
        """Return what the processor beside a GPU is measured with; none in a table of its own."""
        if not self.with_gpu:
            return None
        changes = {"backends": self.backends[:1], "batches": self.batches[:1], "wide_batches": None}
        changes |= {"floats": ("float32",), "with_gpu": False, "beside_gpu": True}
        return dataclasses.replace(self, **changes)

    def jobs(self) -> list[tuple[str, Job]]:
        """Return backends and jobs; the narrow networks of all backends come first."""
        jobs = []
        for width in self.widths:
            for backend in self.backends:
                kinds = [("training", floats) for floats in self.floats] + [("lrp", "float32")]
                for task, floats in kinds:
                    jobs.append((backend, self.job(width, floats, task)))
        return jobs


def other_backends() -> list[str]:
    """Return the installed backends that can use a GPU here: all but TensorFlow, or it alone."""
    installed = keras_settings.installed_backends()
    return [backend for backend in installed if backend != "tensorflow"] or installed


def backend_variables(backend: str, with_gpu: bool) -> dict:
    """Return the variables of a process on a backend."""
    hidden = {} if with_gpu else gpu_work.WITHOUT_GPU
    return {"KERAS_BACKEND": backend, **hidden}


def measure(backend: str, job: Job, with_gpu: bool, seconds: float) -> list[dict]:
    """Have a process measure a job; return its rows, also where its time was over."""
    outcome = gpu_work.start("measure", job, seconds, **backend_variables(backend, with_gpu))
    rows = outcome.answer.get("rows", [])
    if outcome.status:
        print(f"gpu: a process on {backend} failed: {outcome.message}", file=sys.stderr)
        note = f"failed, status {outcome.status}"
        rows.append({"batch": job.batches[len(rows)], "note": note})
    common = {"width": job.width, "floats": job.floats, "task": job.task}
    return [{"backend": backend, **common, **row} for row in rows]


def device_of(backend: str, with_gpu: bool) -> dict:
    """Return what a backend says of its devices; end where it sees no GPU and needs one."""
    outcome = gpu_work.start("describe", Job(1), **backend_variables(backend, with_gpu))
    if outcome.status:
        sys.exit(f"gpu: Keras on {backend} does not start: {outcome.message}")
    if with_gpu and not outcome.answer["is_gpu"]:
        sys.exit(f"gpu: Keras on {backend} sees no GPU. make gpu-check says how to mend it.")
    return outcome.answer


def run(plan: Plan, folder: Path, minutes: float) -> bool:
    """Measure what is missing until the time is over; return whether all is measured."""
    end = time.monotonic() + 60 * minutes
    path = folder / plan.table
    is_complete = measure_missing(plan, path, end)
    of_processor = plan.of_processor()
    if is_complete and of_processor is not None:
        return measure_missing(of_processor, path, end)
    return is_complete


def measure_missing(plan: Plan, path: Path, end: float) -> bool:
    """Measure the missing rows of a plan until the time `end`; return whether all are there."""
    is_complete = True
    devices = {backend: device_of(backend, plan.with_gpu) for backend in plan.backends}
    for backend, job in plan.jobs():
        device = devices[backend]["devices"][0]
        batches = missing(job, known_rows(path, device, backend, job))
        left = end - time.monotonic()
        if not batches:
            continue
        if left <= 0:
            return False
        todo = dataclasses.replace(job, batches=batches)
        rows = measure(backend, todo, plan.with_gpu, left)
        if not rows:  # the time was over before the first row
            return False
        rows = pd.DataFrame([{"device": device, **row} for row in rows], columns=COLUMNS)
        print(rows.to_string(index=False, header=False), flush=True)
        earlier = table_of(path)
        table = rows if earlier.empty else pd.concat([earlier, rows])
        tsv.write(table, path, float_format="%.4g")
        write_record(plan, path, devices)
        is_complete = is_complete and len(rows) == len(batches)
    return is_complete


def table_of(path: Path) -> pd.DataFrame:
    """Return the rows so far."""
    return tsv.read(path) if path.exists() else pd.DataFrame(columns=COLUMNS)


def known_rows(path: Path, device: str, backend: str, job: Job) -> pd.DataFrame:
    """Return the rows of a job so far."""
    table = table_of(path)
    wanted = {
        "device": device,
        "backend": backend,
        "width": job.width,
        "floats": job.floats,
        "task": job.task,
    }
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def missing(job: Job, known: pd.DataFrame) -> tuple:
    """Return the batch sizes that no row has."""
    return tuple(batch for batch in job.batches if batch not in set(known["batch"]))


def write_record(plan: Plan, path: Path, devices: dict) -> None:
    """Write what made the table."""
    settings = {
        "backends": plan.backends,
        "widths": plan.widths,
        "batches": {str(width): plan.batches_of(width) for width in plan.widths},
        "grid": plan.grid,
        "seconds": plan.seconds,
    }
    name = "processor" if plan.beside_gpu else "devices"
    entries = {name: devices}
    file = path.with_suffix(".json")
    if plan.beside_gpu:
        entries["devices"] = json.loads(file.read_text(encoding="utf-8"))["devices"]
    provenance.write_json(file, provenance.record(settings, outputs=[path], **entries))


def main(arguments: list[str]) -> None:
    """Measure, and say whether anything is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--cpu", action="store_true", help="without a GPU")
    parser.add_argument("--small", action="store_true", help="a tiny version, for tests")
    parser.add_argument("--out", type=Path, help="folder of the table")
    options = parser.parse_args(arguments)
    plan = Plan(other_backends())
    if options.cpu:
        plan = Plan(other_backends(), with_gpu=False, **ON_A_PROCESSOR)
    folder = options.out or Path(__file__).parent
    if options.small:
        plan = Plan(
            other_backends(), (2,), (1, 2), ("float32",), gpu_work.SMALL_GRID, 0.0, not options.cpu
        )
        folder = options.out or ROOT / "runs" / "gpu-small"
    if run(plan, folder, options.minutes):
        print(f"gpu: all rows are in {folder / plan.table}")
    else:
        print("gpu: rows are missing. The same command goes on where it stopped.")


if __name__ == "__main__":
    main(sys.argv[1:])
