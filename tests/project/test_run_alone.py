"""One run at a time on a results folder: who holds it, and how it goes on after an interruption:
a kill, a full disk, a folder that cannot be written, a clock that was set back.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.mounts import read_only, small_disk

import msxai
from msxai.base import provenance

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


@pytest.mark.parametrize(
    "victim",
    [
        "the runner alone",
        pytest.param("all", marks=pytest.mark.long(reason="one kill more, 7 s")),
    ],
)
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


def test_what_a_killed_run_has_left_at_work_is_stopped(start, tmp_path):
    """A kernel outlives its notebook. Known by its environment; that of another folder stays."""
    processes = []
    for results in ("runs/toy", "runs/toy-2"):
        environment = {**os.environ, "MSXAI_RESULTS": str(tmp_path / results)}
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        processes.append(subprocess.Popen(command, env=environment))
    left, other = processes
    try:
        until(lambda: psutil.Process(left.pid).environ().get("MSXAI_RESULTS"))
        run = start("/bin/echo", "at work")
        # Waiting for it takes the dead process out of the table, as init does with an orphan.
        assert left.wait(60) == -signal.SIGTERM
        output, _ = run.communicate(timeout=60)
        assert "stopping 1 processes of a run that was killed" in output
        assert "at work" in output
        assert other.poll() is None
    finally:
        for process in processes:
            process.kill()


def test_leftovers_of_a_job_that_was_killed_at_its_end_are_removed(start, tmp_path):
    """Snakemake takes the result as made: its record, which is written last, is there."""
    notebooks = tmp_path / "runs" / "toy" / "notebooks"
    notebooks.mkdir(parents=True)
    executed = notebooks / "06_odd [a].ipynb"
    leftovers = [
        executed.with_name(f"{executed.name}.{end}") for end in ("source.ipynb", "messages")
    ]
    for path in (executed, *leftovers):
        path.touch()
    process = series(start)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert executed.exists()
    assert not any(path.exists() for path in leftovers)


def test_leftovers_have_the_names_of_the_snakefile():
    text = (msxai.ROOT / "workflow" / "Snakefile").read_text()
    assert "{log.notebook:q}.source.ipynb" in text
    assert "{{log.notebook:q}}.messages" in text


def test_drafts_of_a_killed_run_are_removed(start, tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    draft = tmp_path / "runs" / "toy" / "maps" / f".{provenance._COMPUTER}-{ended.pid}-sub-1"
    draft.mkdir(parents=True)
    (draft / "map.nii").touch()
    start("/bin/true").communicate(timeout=60)
    assert list((tmp_path / "runs" / "toy").rglob("*")) != []
    assert not draft.exists()


# A stand-in for a notebook: it writes a result as the package does, its errors go to its messages.
STEP = """
import os
import time

from msxai.base import provenance

while os.path.exists("wait"):
    time.sleep(0.1)
with provenance.replacing("runs/toy/out/result.bin") as draft:
    draft.write_bytes(b"0" * 30_000_000)
"""
NOTEBOOK = """
rule step:
    output:
        "runs/toy/out/result.bin",
    log:
        "runs/toy/notebooks/step.ipynb",
    shell:
        "PYTHON step.py 2>&1 | tee {log}.messages >&2"
""".replace("PYTHON", sys.executable)


@pytest.fixture
def notebook(tmp_path, start):
    (tmp_path / "Snakefile").write_text(NOTEBOOK, encoding="utf-8")
    (tmp_path / "step.py").write_text(STEP, encoding="utf-8")
    return tmp_path / "runs" / "toy" / "out"


def last_sentence(run):
    """The last line of a run that must fail."""
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 1, output
    return output.rstrip().split("\n")[-1]


def goes_on(run, folder):
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    assert [path.name for path in folder.iterdir()] == ["result.bin"]
    assert (folder / "result.bin").stat().st_size == 30_000_000


def test_a_full_disk(start, notebook):
    notebook.mkdir(parents=True)
    with small_disk(notebook, megabytes=24) as resize:
        message = last_sentence(series(start))
        assert message.startswith(
            "runs/toy/notebooks/step.ipynb: msxai.base.errors.WriteError: result.bin: found a full"
        )
        assert "df -h runs/toy/out" in message
        assert list(notebook.iterdir()) == []
        resize(64)
        goes_on(series(start), notebook)


def test_a_disk_with_hardly_any_room_is_refused_before_anything_runs(start, notebook):
    with small_disk(notebook.parent, megabytes=2):
        message = last_sentence(series(start))
        assert message.startswith("runs/toy: found 2 MB free on its disk; expected 20 MB and more.")
        assert [path.name for path in notebook.parent.iterdir()] == [".lock"]


def test_a_folder_turned_read_only(start, tmp_path, notebook):
    """In the middle of a run, and before one."""
    (tmp_path / "wait").touch()
    run = series(start)
    until((tmp_path / "runs" / "toy" / "notebooks" / "step.ipynb.messages").exists)
    with read_only(notebook):
        (tmp_path / "wait").unlink()
        assert "found a folder that cannot be written (" in last_sentence(run)
        assert list(notebook.iterdir()) == []
    with read_only(notebook.parent):
        assert last_sentence(start("/bin/true")).startswith(
            "runs/toy: found a folder that cannot be written ("
        )
    goes_on(series(start), notebook)


CHAIN = """
rule second:
    input:
        code="msxai/second.py",
        first="runs/toy/first.json",
    output:
        "runs/toy/second.json",
    shell:
        "cat {input} > {output}"

rule first:
    input:
        "msxai/first.py",
    output:
        "runs/toy/first.json",
    shell:
        "cat {input} > {output}"
"""


@pytest.mark.long(reason="it waits for 12 s")
def test_a_clock_that_was_set_back(start, tmp_path):
    """Results from the future are kept; what was edited since, or is missing, is made again."""
    (tmp_path / "Snakefile").write_text(CHAIN, encoding="utf-8")
    (tmp_path / "msxai").mkdir()
    for name in ("first", "second"):
        (tmp_path / "msxai" / f"{name}.py").write_text(f"{name}\n", encoding="utf-8")
    first, second = (tmp_path / "runs" / "toy" / f"{name}.json" for name in ("first", "second"))
    assert series(start).wait(60) == 0
    future = time.time() + 3600
    for path in (first, second, tmp_path / "msxai" / "second.py"):
        os.utime(path, (future, future))
    output, _ = series(start).communicate(timeout=60)
    assert "files had a time in the future (was the clock set back?)" in output
    assert "Nothing to be done" in output
    (tmp_path / "msxai" / "first.py").write_text("edited\n", encoding="utf-8")
    os.utime(first, (future, future))
    second.unlink()
    assert series(start).wait(60) == 0
    assert first.read_text(encoding="utf-8") == "edited\n"
    assert second.read_text(encoding="utf-8") == "second\nedited\n"


@pytest.mark.parametrize("home", ["/proc", "/nonexistent"])
def test_a_home_where_nobody_can_write(home):
    """Root may do everything, but nothing can be written in /proc."""
    show = ["make", "--no-print-directory", "--eval", "show: ; @echo $(HOME)", "show"]
    shown = subprocess.run(
        show,
        cwd=msxai.ROOT,
        env={**os.environ, "HOME": home},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == f"{msxai.ROOT}/runs/.home\n"


def test_a_users_pythonpath_breaks_no_import(tmp_path):
    """Programs of a lab often set it, with packages of another Python."""
    (tmp_path / "numpy.py").write_text("raise ImportError('of another Python')")
    rule = "show: ; @$(PY) -c 'import numpy; print(numpy.__name__)'"
    show = ["make", "--no-print-directory", f"PY={sys.executable}", "--eval", rule, "show"]
    shown = subprocess.run(
        show,
        cwd=msxai.ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.stdout == "numpy\n", shown.stderr


def test_a_folder_that_cannot_be_made(start, tmp_path):
    (tmp_path / "runs").write_text("a file")
    process = series(start)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.startswith("runs/toy: found a folder that cannot be written (Not a directory)")
    assert len(output.splitlines()) == 1
