"""Trains and explains on the device that Keras's backend uses, for gpu_check.py and the proof.

Usage: python tools/gpu_work.py describe FOLDER    (the backend and its devices)
       python tools/gpu_work.py compare FOLDER     (a step of training and a map, as arrays)
       python tools/gpu_work.py measure FOLDER     (volumes a second and memory)

A backend keeps its device and its memory until its process ends, so each call is one of its own.
`start` calls it. FOLDER/job.json says what to do (`Job`). The answer is FOLDER/answer.json, and for
`compare` also FOLDER/arrays.npz. `measure` writes its answer anew after each batch size, so that
what was measured stays when the process is killed.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FLOATS = ("float32", "tf32", "bfloat16")
"""How a step of training computes. tf32: float32 with factors shortened to 10 bits."""

TASKS = ("training", "lrp")
OUT_OF_MEMORY = "out of memory"
WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
"""Variables that hide all GPUs from a process."""

FULL_GRID = (96, 114, 96)
SMALL_GRID = (71, 71, 71)
SEED = 4  # no window of a pooling holds two values that rounding could exchange (tests/project)
RULE = "epsilon"
WARM_UP = 2  # calls that compile and choose algorithms; they are not measured


@dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes
    ----------
    width : int
        Filters of each convolution.
    floats : str
        One of `FLOATS`. LRP always computes in float32.
    task : str
        One of `TASKS`, for `measure`.
    batches : tuple of int
        Volumes a batch, for `measure`; from few to many, because the largest memory so far counts.
    grid : tuple of int
        Voxels of a volume.
    seconds : float
        How long each batch size is measured, at least.
    compiled : bool or None
        As in `msxai.lrp.Computation`.
    """

    width: int
    floats: str = "float32"
    task: str = "training"
    batches: tuple = (4,)
    grid: tuple = SMALL_GRID
    seconds: float = 2.0
    compiled: bool | None = None

    @property
    def environment(self) -> dict:
        """Variables that a process of this job needs."""
        if self.floats == "tf32":
            return {"NVIDIA_TF32_OVERRIDE": "1", "JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32"}
        return {}


# The device


def device() -> dict:
    """Return the backend, its version, devices and float types, and whether it sees a GPU."""
    import keras

    from msxai.model import network

    backend = keras.backend.backend()
    return {
        "backend": backend,
        "version": importlib.metadata.version(backend),
        "devices": _devices(backend),
        "is_gpu": network.on_gpu(),
        "has_cuda": _has_cuda(backend),
        "float_types": _float_types(),
    }


def _devices(backend: str) -> list[str]:
    """Names of devices, as the backend gives them."""
    if backend == "jax":
        import jax

        return [f"{one.platform}:{one.id} ({one.device_kind})" for one in jax.devices()]
    if backend == "torch":
        import torch

        count = torch.cuda.device_count()
        names = [f"gpu:{index} ({torch.cuda.get_device_name(index)})" for index in range(count)]
        return names or ["cpu"]
    import tensorflow as tf

    return [one.name.removeprefix("/physical_device:") for one in tf.config.list_physical_devices()]


def _has_cuda(backend: str) -> bool:
    """Return whether the backend is installed with CUDA's libraries, GPU or not."""
    if backend == "jax":
        return any(importlib.util.find_spec(f"jax_cuda{major}_plugin") for major in (12, 13))
    if backend == "torch":
        import torch

        return torch.version.cuda is not None
    return False  # TensorFlow is installed without them here


def _float_types() -> list[str]:
    """Return the float types in which the device multiplies."""
    import keras
    from keras import ops

    names = []
    for name in ("float32", "bfloat16", "float16", "float64"):
        with contextlib.suppress(Exception):  # each backend has errors of its own
            product = ops.matmul(ops.ones((8, 8), name), ops.ones((8, 8), name))
            dtype = keras.backend.standardize_dtype(product.dtype)
            if dtype == name and float(ops.sum(product)) == 512:
                names.append(name)
    return names


def peak_memory() -> int:
    """Return the largest number of bytes used so far: of the GPU, or of the process without one."""
    import keras
    import psutil

    from msxai.model import network

    if network.on_gpu() and keras.backend.backend() == "jax":
        import jax

        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    if network.on_gpu() and keras.backend.backend() == "torch":
        import torch

        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():
        line = next(one for one in status.read_text().splitlines() if one.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    return psutil.Process().memory_info().rss


# The work


def volumes(count: int, grid) -> tuple[np.ndarray, np.ndarray]:
    """Return noise, and labels of both groups."""
    rng = np.random.default_rng(SEED)
    labels = (np.arange(count) % 2).astype("float32")
    return rng.normal(size=(count, *grid, 1)).astype("float32"), labels[:, None]


def build(job: Job, fast: bool):
    """Return the paper's network with weights that do not depend on the backend."""
    from msxai.model import network

    model = network.build(job.width, job.grid, dropout=0.0, fast=fast)
    rng = np.random.default_rng(SEED)
    for layer in model.layers:
        if not layer.weights:
            continue
        kernel, bias = (value.shape for value in layer.get_weights())
        spread = np.prod(kernel[:-1]) ** -0.5
        layer.set_weights([rng.normal(0, spread, kernel), rng.normal(0, 0.1, bias)])
    return model


def compile_step(model, optimizer) -> None:
    """Compile as `msxai.model.training` does."""
    import keras

    from msxai.model import network

    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=network.compiles_steps())


def training_step(job: Job) -> dict[str, np.ndarray]:
    """Return how one step changes each weight; with a rate of 1 this is the gradient."""
    import keras

    from msxai.model import network

    model = build(job, fast=True)
    compile_step(model, keras.optimizers.SGD(1.0))
    before = network.weights(model)
    model.train_on_batch(*volumes(2, job.grid))
    after = network.weights(model)
    return {f"step/{name}": before[name] - after[name] for name in before}


def heatmap(job: Job) -> dict[str, np.ndarray]:
    """Return a map of one volume, and its logit."""
    from msxai import lrp

    scans, _ = volumes(1, job.grid)
    computation = lrp.Computation(compiled=job.compiled)
    explanation = lrp.explain(build(job, fast=False), scans, RULE, computation=computation)
    return {"lrp/map": explanation.relevance, "lrp/logit": explanation.logits}


def function_of(job: Job):
    """Return the function of a batch that is measured."""
    import keras

    from msxai import lrp

    if job.floats == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = build(job, fast=job.task == "training")
    if job.task == "training":
        compile_step(model, keras.optimizers.Adam(1e-4))
        return model.train_on_batch

    def explain(scans, labels):
        computation = lrp.Computation(batch_size=len(scans), compiled=job.compiled)
        return lrp.explain(model, scans, RULE, computation=computation)

    return explain


def measure(job: Job):
    """Yield a row for each batch size: volumes a second, memory, or that memory was too small."""
    function = function_of(job)
    note = ""
    for batch in job.batches:
        row = {"batch": batch, "volumes_per_second": None, "memory_gb": None, "note": note}
        if note:  # a smaller batch did not fit
            yield row
            continue
        try:
            row["volumes_per_second"] = rate(function, batch, job)
            row["memory_gb"] = peak_memory() / 1e9
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            row["note"] = note = OUT_OF_MEMORY
        yield row


def rate(function, batch: int, job: Job) -> float:
    """Return volumes a second of calls after the first ones."""
    scans, labels = volumes(batch, job.grid)
    for _ in range(WARM_UP):
        function(scans, labels)
    calls = 0
    start = time.perf_counter()
    while not calls or time.perf_counter() - start < job.seconds:
        function(scans, labels)
        calls += 1
    return calls * batch / (time.perf_counter() - start)


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of any backend says that memory was too small."""
    if isinstance(error, MemoryError):
        return True
    text = f"{type(error).__name__} {error}".lower()
    signs = ("out of memory", "outofmemory", "resource_exhausted", "resource exhausted")
    return any(sign in text for sign in signs)


# Processes


@dataclass(frozen=True)
class Outcome:
    """What a process has answered.

    Attributes
    ----------
    answer : dict
        Empty where it failed before its first answer.
    arrays : dict
        Name to ndarray; of `compare` only.
    status : int or None
        Exit status; None where the time was over.
    message : str
        The end of what it said, where it failed.
    """

    answer: dict
    arrays: dict
    status: int | None
    message: str


def start(mode: str, job: Job, seconds: float | None = None, **environment) -> Outcome:
    """Have a process of its own do a job; `seconds` is how long it may take."""
    with tempfile.TemporaryDirectory(prefix="msxai-") as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(dataclasses.asdict(job)), encoding="utf-8")
        status, message = None, ""
        with contextlib.suppress(subprocess.TimeoutExpired):
            run = subprocess.run(
                [sys.executable, __file__, mode, folder],
                env={**os.environ, **job.environment, **environment},
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
            )
            status, message = run.returncode, run.stderr.strip()[-800:]
        answer, arrays = {}, {}
        if (folder / "answer.json").exists():
            answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
        if (folder / "arrays.npz").exists():
            with np.load(folder / "arrays.npz") as file:
                arrays = dict(file)
        return Outcome(answer, arrays, status, message)


def read_job(folder: Path) -> Job:
    """Read what `start` has written."""
    content = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    return Job(**{**content, "batches": tuple(content["batches"]), "grid": tuple(content["grid"])})


def write(file: Path, answer: dict) -> None:
    """Write the answer whole or not at all: the process may be killed at any moment."""
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(answer), encoding="utf-8")
    draft.replace(file)


def main(mode: str, folder: Path) -> None:
    """Do the job in a folder."""
    job = read_job(folder)
    from msxai.model import network

    network.configure(SEED, 0)
    answer = device()
    file = folder / "answer.json"
    write(file, answer)
    if mode == "compare":
        np.savez(folder / "arrays.npz", **training_step(job), **heatmap(job))
    if mode == "measure":
        answer["rows"] = []
        for row in measure(job):
            answer["rows"].append(row)
            write(file, answer)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
