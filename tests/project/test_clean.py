"""tools/clean.py: results are removed only where that is wanted and no run is at work."""

import fcntl
import os
import shutil
import subprocess
import sys

import pytest

import msxai


@pytest.fixture
def checkout(tmp_path):
    """A checkout with results of two runs; a link leads out of it."""
    (tmp_path / "tools").mkdir()
    shutil.copy(msxai.ROOT / "tools" / "clean.py", tmp_path / "tools")
    for folder in ("runs/demo/heatmaps", "runs/cv/fold-0", "elsewhere", "figures/demo"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "result.txt").write_text("days of work")
    (tmp_path / "runs/demo/link").symlink_to(tmp_path / "elsewhere")
    for folder in ("runs/demo", "runs/cv"):
        (tmp_path / folder / ".lock").touch()
    return tmp_path


def clean(checkout, sure=""):
    command = [sys.executable, "-I", checkout / "tools" / "clean.py"]
    environment = {**os.environ, "SURE": sure}
    return subprocess.run(
        command, cwd="/", env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("sure", ["", "0", "yes please"])
def test_nothing_is_removed_unasked(checkout, sure):
    done = clean(checkout, sure)
    assert done.returncode == 1
    assert done.stderr.startswith("clean: runs/ holds cv, demo (")
    assert "Nothing was removed. To remove all of it: make clean SURE=1" in done.stderr
    assert (checkout / "runs/demo/heatmaps/result.txt").exists()


def test_results_are_removed_and_nothing_else(checkout):
    done = clean(checkout, "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("clean: removed runs/, cv, demo (")
    assert not (checkout / "runs").exists()
    for folder in ("elsewhere", "figures/demo"):
        assert (checkout / folder / "result.txt").exists()
    assert clean(checkout, "1").stdout == "clean: there is no runs/, so nothing to remove\n"


def test_runs_may_be_a_link_to_another_disk(checkout):
    (checkout / "runs").rename(checkout / "scratch")
    (checkout / "runs").symlink_to(checkout / "scratch")
    assert clean(checkout, "1").returncode == 0
    assert (checkout / "runs").is_symlink()
    assert not list((checkout / "scratch").iterdir())


@pytest.mark.parametrize("folder", ["runs/demo", "runs/cv"])
@pytest.mark.parametrize("sure", ["", "1"])
def test_a_run_at_work_keeps_all_results(checkout, folder, sure):
    with (checkout / folder / ".lock").open() as lock:  # as a run at work has it
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = clean(checkout, sure)
    assert done.returncode == 1
    assert done.stderr.startswith(f"clean: found a run at work in {folder}; expected none.")
    assert len(done.stderr.splitlines()) == 1
    assert (checkout / "runs/demo/heatmaps/result.txt").exists()
