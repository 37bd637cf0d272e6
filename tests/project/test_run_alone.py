"""One run at a time on a results folder: who holds it, and how it goes on after a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import msxai

SCRIPT = msxai.ROOT / "tools" / "run_alone.py"
SNAKEMAKE = Path(sys.executable).parent / "snakemake"
# The step of a run that is cut short: it writes half of its result, waits, and writes the rest.
SNAKEFILE = """
rule step:
    output:
        "runs/toy/result.txt",
    shell:
        "echo half > {output}; while [ -e wait ]; do sleep 0.1; done; echo whole > {output}"
"""


@pytest.fixture
def start(tmp_path):
    """Start a run in a folder of its own; whatever is left at the end is killed."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE, encoding="utf-8")
    started = []

    def run(*command):
        process = subprocess.Popen(
            [sys.executable, SCRIPT, "runs/toy", *command],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "HOME": str(tmp_path)},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def series(start):
    return start(SNAKEMAKE, "--workflow-profile", msxai.ROOT / "workflow" / "local")


def until(condition):
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("nothing happened in a minute")


def half_written(folder):
    result = folder / "runs" / "toy" / "result.txt"
    return result.is_file() and result.read_text(encoding="utf-8") == "half\n"


def test_a_second_run_is_told_who_holds_the_folder(start, tmp_path):
    (tmp_path / "wait").touch()
    first = series(start)
    until(lambda: half_written(tmp_path))
    second = series(start)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert output.startswith("runs/toy: found a run at work (process ")
    assert str(first.pid) in output
    (tmp_path / "wait").unlink()
    assert first.wait(60) == 0


@pytest.mark.parametrize("victim", ["the runner alone", "all"])
def test_after_a_kill_the_same_command_ends_with_the_whole_result(start, tmp_path, victim):
    (tmp_path / "wait").touch()
    killed = series(start)
    until(lambda: half_written(tmp_path))
    if victim == "all":
        os.killpg(killed.pid, signal.SIGKILL)
    else:
        killed.kill()
    killed.wait()
    (tmp_path / "wait").unlink()
    again = series(start)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert "LockException" not in output
    result = tmp_path / "runs" / "toy" / "result.txt"
    assert result.read_text(encoding="utf-8") == "whole\n"


def test_a_notebook_that_a_killed_run_has_left_is_stopped(start, tmp_path):
    """Papermill on a notebook of this folder is stopped, the one of another folder is not."""
    stand_in = tmp_path / "papermill"
    stand_in.write_text("import time\ntime.sleep(600)\n", encoding="utf-8")
    processes = []
    for results in ("runs/toy", "runs/toy-2"):
        command = [sys.executable, stand_in, f"{results}/notebooks/02.ipynb"]
        processes.append(subprocess.Popen(command, cwd=tmp_path))
    left, other = processes
    try:
        until(lambda: len(psutil.Process(left.pid).cmdline()) == 3)
        run = start("/bin/echo", "at work")
        # Waiting for it takes the dead process out of the table, as init does with an orphan.
        assert left.wait(60) == -signal.SIGTERM
        output, _ = run.communicate(timeout=60)
        assert "stopping 1 notebooks of a run that was killed" in output
        assert "at work" in output
        assert other.poll() is None
    finally:
        for process in processes:
            process.kill()


def test_a_folder_that_cannot_be_made(start, tmp_path):
    (tmp_path / "runs").write_text("a file")
    process = series(start)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.startswith("runs/toy: found a folder that cannot be written (Not a directory)")
    assert len(output.splitlines()) == 1
