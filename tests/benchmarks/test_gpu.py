"""The table of volumes a second on a GPU: it is resumed, and a tiny version runs on a processor."""

import dataclasses
import json

import pytest
from support.scripts import script

from msxai.base import tsv

gpu = script("gpu")
gpu_work = gpu.gpu_work
DEVICE = {"devices": ["gpu:0 (a GPU)"], "is_gpu": True}
PROCESSOR = {"devices": ["cpu"], "is_gpu": False}
PLAN = gpu.Plan(["jax", "torch"], (16, 64), (4, 8), ("float32", "bfloat16"))
N_JOBS = 2 * 2 * 3
N_OF_PROCESSOR = 2 * 2  # widths and tasks, by one backend and in one batch size


@pytest.fixture
def processes(monkeypatch):
    """What was measured; no process is started. `fail` says what becomes of a job."""
    measured = []
    outcomes = {}

    def start(mode, job, seconds=None, **environment):
        backend = environment["KERAS_BACKEND"]
        is_hidden = "CUDA_VISIBLE_DEVICES" in environment
        if mode == "describe":
            return gpu_work.Outcome(PROCESSOR if is_hidden else DEVICE, {}, 0, "")
        measured.append((backend, job.width, job.floats, job.task, job.batches))
        rows = []
        for batch in job.batches:
            row = {"batch": batch, "volumes_per_second": 1.0, "memory_gb": 2.0, "note": ""}
            rows.append(row)
        outcome = gpu_work.Outcome(DEVICE | {"rows": rows}, {}, 0, "")
        change = outcomes.pop((backend, job.width, job.floats, job.task), {})
        n_rows = change.pop("n_rows", len(rows))
        del rows[n_rows:]
        return dataclasses.replace(outcome, **change)

    monkeypatch.setattr(gpu_work, "start", start)
    return measured, outcomes


def test_each_combination_is_one_process_and_measured_once(processes, tmp_path):
    assert gpu.run(PLAN, tmp_path, minutes=1)
    assert len(processes[0]) == len(set(processes[0])) == N_JOBS + N_OF_PROCESSOR
    table = tsv.read(tmp_path / "gpu.tsv")
    assert len(table) == 2 * N_JOBS + N_OF_PROCESSOR
    assert not table.duplicated(gpu.KEY).any()
    assert gpu.run(PLAN, tmp_path, minutes=1)
    assert len(processes[0]) == N_JOBS + N_OF_PROCESSOR


def test_the_processor_beside_the_gpu_comes_last(processes, tmp_path):
    """One backend, one batch size, float32: what the GPU is compared with."""
    assert gpu.run(PLAN, tmp_path, minutes=1)
    table = tsv.read(tmp_path / "gpu.tsv")
    of_processor = table[table["device"] == "cpu"]
    assert of_processor.index.tolist() == list(range(2 * N_JOBS, 2 * N_JOBS + N_OF_PROCESSOR))
    assert set(of_processor["backend"]) == {"jax"}
    assert set(of_processor["floats"]) == {"float32"}
    assert of_processor[["width", "task", "batch"]].to_numpy().tolist() == [
        [16, "training", 4],
        [16, "lrp", 4],
        [64, "training", 4],
        [64, "lrp", 4],
    ]
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["devices"]["jax"] == DEVICE
    assert record["processor"]["jax"] == PROCESSOR


def test_a_call_without_time_leaves_all_to_the_next_one(processes, tmp_path):
    assert not gpu.run(PLAN, tmp_path, minutes=0)
    assert processes[0] == []
    assert gpu.run(PLAN, tmp_path, minutes=1)


def test_what_was_measured_before_the_time_was_over_stays(processes, tmp_path):
    measured, outcomes = processes
    job = ("torch", 64, "bfloat16", "training")
    outcomes[job] = {"n_rows": 1, "status": None}
    assert not gpu.run(PLAN, tmp_path, minutes=1)
    del measured[:]
    assert gpu.run(PLAN, tmp_path, minutes=1)
    assert measured[0] == (*job, (8,))
    assert len(measured) == 1 + N_OF_PROCESSOR  # which is measured once all of the GPU is there


def test_a_time_that_is_over_before_the_first_row_adds_nothing(processes, tmp_path, recwarn):
    processes[1]["jax", 16, "bfloat16", "training"] = {"n_rows": 0, "status": None}
    assert not gpu.run(PLAN, tmp_path, minutes=1)
    assert not [warning for warning in recwarn if warning.category is FutureWarning]
    assert len(tsv.read(tmp_path / "gpu.tsv")) == 2
    assert gpu.run(PLAN, tmp_path, minutes=1)


def test_a_process_that_fails_is_a_row_and_the_others_are_measured(processes, tmp_path, capsys):
    measured, outcomes = processes
    outcomes["jax", 16, "float32", "lrp"] = {"n_rows": 0, "status": -9, "message": "Killed"}
    assert not gpu.run(PLAN, tmp_path, minutes=1)
    assert len(measured) == N_JOBS
    assert all(name != "cpu" for name in tsv.read(tmp_path / "gpu.tsv")["device"])
    table = tsv.read(tmp_path / "gpu.tsv")
    (note,) = table.loc[table["note"] != "", "note"]
    assert note == "failed, status -9"
    assert "a process on jax failed: Killed" in capsys.readouterr().err
    assert gpu.run(PLAN, tmp_path, minutes=1)


def test_another_device_has_rows_of_its_own(processes, tmp_path, monkeypatch):
    gpu.run(PLAN, tmp_path, minutes=1)
    monkeypatch.setitem(DEVICE, "devices", ["gpu:0 (another GPU)"])
    gpu.run(PLAN, tmp_path, minutes=1)
    assert len(tsv.read(tmp_path / "gpu.tsv")) == 4 * N_JOBS + N_OF_PROCESSOR


def test_without_a_gpu_nothing_is_measured(processes, tmp_path, monkeypatch):
    monkeypatch.setitem(DEVICE, "is_gpu", False)
    with pytest.raises(SystemExit, match=r"sees no GPU\. make gpu-check says how to mend it"):
        gpu.run(PLAN, tmp_path, minutes=1)
    assert processes[0] == []
    assert gpu.run(dataclasses.replace(PLAN, with_gpu=False), tmp_path, minutes=1)


def test_on_a_processor_wide_networks_get_small_batches_and_keras_operations(processes, tmp_path):
    plan = gpu.Plan(["torch"], with_gpu=False, **gpu.ON_A_PROCESSOR)
    assert all(job.compiled is False for _, job in plan.jobs())
    assert gpu.run(plan, tmp_path, minutes=1)
    table = tsv.read(tmp_path / "gpu_processor.tsv")
    batches = table.groupby("width")["batch"].unique()
    assert [batches[16].tolist(), batches[64].tolist()] == [[4, 8], [4]]
    assert set(table["floats"]) == {"float32", "bfloat16"}


@pytest.mark.long(reason="processes that start a backend, 15 s each")
def test_a_tiny_version_on_a_processor(tmp_path):
    gpu.main(["--cpu", "--small", "--out", str(tmp_path)])
    table = tsv.read(tmp_path / "gpu_processor.tsv")
    assert table["task"].tolist() == ["training", "training", "lrp", "lrp"]
    assert (table["note"] == "").all()
    assert (table[["volumes_per_second", "memory_gb"]] > 0).all(axis=None)
