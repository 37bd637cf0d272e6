"""make gpu-check: what it says without a GPU, and that it notices a GPU that computes wrongly."""

import sys

import numpy as np
import pytest
from support.ties import near_ties

from msxai import ROOT
from msxai.base import keras_settings

sys.path.insert(0, str(ROOT / "tools"))
import gpu_check
import gpu_work
from gpu_work import Job, Outcome

DEVICE = {
    "backend": "jax",
    "version": "0.10.2",
    "devices": ["gpu:0 (a GPU)"],
    "is_gpu": True,
    "float_types": ["float32", "bfloat16"],
}
CPU = DEVICE | {"devices": ["cpu:0 (cpu)"], "is_gpu": False}
ROW = {"batch": 4, "volumes_per_second": 123.4, "memory_gb": 1.5, "note": ""}
SEEN = "a GPU, 580.1, 80000 MiB, 79000 MiB"


@pytest.fixture(scope="module")
def arrays(one_thread):
    """A step of training and a map, from the kernels and from Keras's operations."""
    job = Job(gpu_check.WIDTH)
    operations = Job(gpu_check.WIDTH, compiled=False)
    step = gpu_work.training_step(job)
    return step | gpu_work.heatmap(job), step | gpu_work.heatmap(operations)


@pytest.fixture
def machine(monkeypatch, arrays):
    """A computer whose processes answer what the test says, by mode."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_check, "drivers", lambda: [SEEN])
    answers = {
        "describe": Outcome(DEVICE, {}, 0, ""),
        "measure": Outcome({"rows": [ROW]}, {}, 0, ""),
    }
    actual = {name: values.copy() for name, values in arrays[1].items()}

    def start(mode, job, seconds=None, **environment):
        if mode != "compare":
            return answers[mode]
        return Outcome(DEVICE, arrays[0] if environment else actual, 0, "")

    monkeypatch.setattr(gpu_work, "start", start)
    return answers, actual


def test_the_compared_volumes_have_no_near_ties(one_thread):
    """Rounding cannot change the winner of a pooling, so that a map differs by rounding alone."""
    model = gpu_work.build(Job(gpu_check.WIDTH), fast=False)
    for count in (1, 2):
        scans, _ = gpu_work.volumes(count, gpu_work.SMALL_GRID)
        assert near_ties(model, scans) == 0


def test_a_gpu_that_computes_rightly_passes(machine, capsys):
    assert gpu_check.main([]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    for word in ("Keras on jax 0.10.2", "gpu:0 (a GPU)", SEEN, "float32, bfloat16"):
        assert word in said.out
    assert said.out.count("agrees") == 3
    assert "training      width 16, batch 4: 123 volumes a second, 1.50 GB" in said.out


@pytest.mark.parametrize("name", ["lrp/map", "lrp/logit", "step/conv2/kernel"])
@pytest.mark.parametrize("fault", [1e-3, np.nan])
def test_one_wrong_number_is_noticed(machine, capsys, name, fault):
    values = machine[1][name]
    values.flat[values.size // 2] += fault * np.abs(values).max()
    assert gpu_check.main([]) == 1
    said = capsys.readouterr()
    assert said.out.count("DIFFERS") == 1
    assert "differs from the processor's by" in said.err
    assert "expected at most 0.0001" in said.err


def test_a_variable_that_makes_a_gpu_round_is_named(machine, capsys, monkeypatch):
    machine[1]["lrp/map"][:] *= 1.01
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    assert gpu_check.main([]) == 1
    assert "Remove the variable NVIDIA_TF32_OVERRIDE=1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("backend", "drivers", "has_cuda", "hidden", "words"),
    [
        ("torch", [], True, None, "nvidia-smi shows no GPU on this computer"),
        ("torch", [SEEN], True, "", "CUDA_VISIBLE_DEVICES hides all GPUs"),
        ("tensorflow", [SEEN], False, None, "tensorflow without CUDA. Run make setup GPU=1"),
        ("torch", [SEEN], True, None, "Update NVIDIA's driver"),
    ],
)
def test_no_gpu_is_one_sentence_and_how_to_mend_it(
    machine, capsys, monkeypatch, backend, drivers, has_cuda, hidden, words
):
    answer = CPU | {"backend": backend, "has_cuda": has_cuda}
    machine[0]["describe"] = Outcome(answer, {}, 0, "")
    monkeypatch.setattr(gpu_check, "drivers", lambda: drivers)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert gpu_check.main([]) == 1
    said = capsys.readouterr()
    assert "agrees" not in said.out  # nothing is computed
    (line,) = said.err.splitlines()
    assert line.startswith(f"gpu-check: Keras on {backend} sees no GPU. ")
    assert words in line


def test_a_process_that_fails_is_shown(machine, capsys):
    machine[0]["describe"] = Outcome({}, {}, 1, "ImportError: libcudart")
    assert gpu_check.main([]) == 1
    assert "A process on this backend failed: ImportError: libcudart" in capsys.readouterr().err


def test_a_volume_that_does_not_fit_is_said(machine, capsys):
    row = ROW | {"note": gpu_work.OUT_OF_MEMORY}
    machine[0]["measure"] = Outcome({"rows": [row]}, {}, 0, "")
    assert gpu_check.main([]) == 0
    assert "lrp           width 16, batch 4: out of memory" in capsys.readouterr().out


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes"),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA"),
    ],
)
def test_larger_batches_than_one_that_does_not_fit_are_not_tried(monkeypatch, error):
    tried = []

    def rate(function, batch, job):
        tried.append(batch)
        if batch > 1:
            raise error
        return 10.0

    monkeypatch.setattr(gpu_work, "function_of", lambda job: None)
    monkeypatch.setattr(gpu_work, "rate", rate)
    rows = list(gpu_work.measure(Job(2, batches=(1, 2, 4))))
    assert tried == [1, 2]
    assert [row["note"] for row in rows] == ["", gpu_work.OUT_OF_MEMORY, gpu_work.OUT_OF_MEMORY]
    assert rows[0]["volumes_per_second"] == 10
    assert rows[1]["volumes_per_second"] is None


def test_another_error_is_no_lack_of_memory(monkeypatch):
    def rate(function, batch, job):
        raise ValueError("shapes")

    monkeypatch.setattr(gpu_work, "function_of", lambda job: None)
    monkeypatch.setattr(gpu_work, "rate", rate)
    with pytest.raises(ValueError, match="shapes"):
        list(gpu_work.measure(Job(2)))


def test_short_factors_are_asked_for_in_the_variables_that_the_package_sets():
    assert keras_settings.ON_A_GPU.keys() >= Job(2, floats="tf32").environment.keys()
    assert Job(2).environment == {}


@pytest.mark.long(reason="processes that start a backend, 15 s each")
def test_the_whole_check_on_a_processor(capsys):
    """Keras's operations against the kernels of the package, in real processes."""
    assert gpu_check.main(["--cpu", "--small"]) == 0
    said = capsys.readouterr()
    assert said.out.count("agrees") == 3
    assert said.out.count("volumes a second") == 2
