"""Says whether this environment can use a GPU, and whether the GPU computes what a processor does.

Usage: python tools/gpu_check.py            (make gpu-check)
       python tools/gpu_check.py --cpu      (the same comparison without a GPU)

It prints the backend of Keras, its devices, the driver, memory and float types. Then two processes
do the same step of training and the same LRP map: one on the GPU by Keras's operations, one on the
processor by what the package uses there. The change of each weight and the map may differ by 1e-4
of their largest magnitude. Last come the volumes a second of the paper's network at width 16.

The exit status is 0 where all agrees. It is 1 where no GPU is seen, or a number differs; the last
line says how to mend it.
"""

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

import gpu_work
import numpy as np
from gpu_work import Job

from msxai.base import keras_settings

TOLERANCE = 1e-4  # of the largest magnitude
WIDTH = 4  # of the networks that are compared
SPEED_WIDTH = 16
SPEED_BATCH = 4
DRIVER = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.free")
AGAIN = "Then run make gpu-check again."


@dataclass(frozen=True)
class Difference:
    """How far the device is from the processor.

    Attributes
    ----------
    what : str
    value : float
        Largest difference over the largest magnitude.
    """

    what: str
    value: float

    @property
    def is_small(self) -> bool:
        """Whether it is within the tolerance; a missing value is not."""
        return self.value <= TOLERANCE


class WorkerError(Exception):
    """A process of gpu_work.py failed; the message is the end of what it printed."""


def drivers() -> list[str]:
    """Return name, driver, memory and free memory of each GPU that NVIDIA's driver sees."""
    if shutil.which(DRIVER[0]) is None:
        return []
    command = [*DRIVER, "--format=csv,noheader"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.splitlines() if run.returncode == 0 else []


def work(mode: str, job: Job, **environment) -> gpu_work.Outcome:
    """Have a process of its own do a job.

    Raises
    ------
    WorkerError
        It failed.
    """
    outcome = gpu_work.start(mode, job, **environment)
    if outcome.status:
        raise WorkerError(outcome.message)
    return outcome


def differences(expected: dict, actual: dict) -> list[Difference]:
    """Compare arrays by name: the step of training as a whole, the map and the logit."""
    largest = {}
    for name, values in expected.items():
        kind = "one step of training" if name.startswith("step/") else name
        kind = {"lrp/map": "one LRP map", "lrp/logit": "its logit"}.get(kind, kind)
        value = float(np.abs(actual[name] - values).max() / np.abs(values).max())
        largest[kind] = max(largest.get(kind, 0.0), value, key=_missing_last)
    return [Difference(what, value) for what, value in largest.items()]


def _missing_last(value: float) -> float:
    """Sort what is not a number behind all numbers."""
    return np.inf if np.isnan(value) else value


def mend(answer: dict, seen_by_driver: list[str]) -> str:
    """Say why the backend sees no GPU, and what to do."""
    backend = answer["backend"]
    if not seen_by_driver:
        return (
            "nvidia-smi shows no GPU on this computer. Go to one with an NVIDIA GPU, or install "
            f"NVIDIA's driver. {AGAIN} Without a GPU, use make setup GPU=0."
        )
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return f"The variable CUDA_VISIBLE_DEVICES hides all GPUs. Remove it. {AGAIN}"
    if not answer["has_cuda"]:
        return f"This environment has {backend} without CUDA. Run make setup GPU=1. {AGAIN}"
    return (
        f"The driver sees a GPU that {backend} cannot use. Its CUDA 12 needs a driver of version "
        f"525 or newer. Update NVIDIA's driver. {AGAIN}"
    )


def describe(answer: dict, seen_by_driver: list[str]) -> None:
    """Print what the environment is."""
    print(f"backend       Keras on {answer['backend']} {answer['version']}")
    for name in answer["devices"]:
        print(f"device        {name}")
    for line in seen_by_driver or ["none (nvidia-smi shows no GPU)"]:
        print(f"driver        {line}")
    print(f"float types   {', '.join(answer['float_types'])}", flush=True)


def speed(job: Job, task: str) -> None:
    """Measure and print volumes a second."""
    batch = SPEED_BATCH
    job = Job(job.width, task=task, batches=(batch,), grid=job.grid, compiled=job.compiled)
    (row,) = work("measure", job).answer["rows"]
    result = row["note"]
    if not result:
        result = f"{row['volumes_per_second']:.3g} volumes a second, {row['memory_gb']:.2f} GB"
    print(f"{task:<14}width {job.width}, batch {batch}: {result}", flush=True)


def check(job: Job, needs_gpu: bool) -> list[str]:
    """Print all results; return sentences on what is wrong."""
    answer = work("describe", job).answer
    seen_by_driver = drivers()
    describe(answer, seen_by_driver)
    if needs_gpu and not answer["is_gpu"]:
        backend = answer["backend"]
        return [f"Keras on {backend} sees no GPU. {mend(answer, seen_by_driver)}"]
    actual = work("compare", job).arrays
    expected = work("compare", Job(job.width, grid=job.grid), **gpu_work.WITHOUT_GPU).arrays
    faults = []
    for difference in differences(expected, actual):
        word = "agrees" if difference.is_small else "DIFFERS"
        print(f"{word:<14}{difference.what}: {difference.value:.1e} of the largest magnitude")
        if not difference.is_small:
            faults.append(
                f"{difference.what} differs from the processor's by {difference.value:.1e} of its "
                f"largest magnitude; expected at most {TOLERANCE:g}. {_mend_difference()}"
            )
    return faults


def _mend_difference() -> str:
    """Name the variables that make a GPU round, if one is set otherwise."""
    for variable, value in keras_settings.ON_A_GPU.items():
        if os.environ.get(variable) != value:
            return f"Remove the variable {variable}={os.environ.get(variable)}. {AGAIN}"
    return "Do not use this GPU for results. Report the versions above as an issue."


def main(arguments: list[str]) -> int:
    """Run the check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", action="store_true", help="compare without a GPU")
    parser.add_argument("--small", action="store_true", help="a tiny network and grid, for tests")
    options = parser.parse_args(arguments)
    compiled = False if options.cpu else None
    try:
        faults = check(Job(WIDTH, compiled=compiled), needs_gpu=not options.cpu)
        if not faults:
            width = 2 if options.small else SPEED_WIDTH
            grid = gpu_work.SMALL_GRID if options.small else gpu_work.FULL_GRID
            for task in gpu_work.TASKS:
                speed(Job(width, grid=grid, compiled=compiled), task)
    except WorkerError as error:
        faults = [f"A process on this backend failed: {error}"]
    for fault in faults:
        print(f"gpu-check: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
