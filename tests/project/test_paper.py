"""make paper ends after MINUTES, goes on with the same command, and copies figures at the end."""

import os
import shutil
import subprocess

import pytest

import msxai

# A stub of Python: it writes down its arguments, and a run takes $SECONDS_OF_RUN.
PYTHON = """#!/bin/sh
echo "$@" >> called
case "$1" in tools/run_alone.py) sleep "$SECONDS_OF_RUN"; exit "$STATUS";; esac
"""


def paper(folder, minutes="", seconds="0", status="0"):
    """Run tools/paper.sh with the stub; return the result and what was called."""
    for name in ("tools", ".venv/bin"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(msxai.ROOT / "tools" / "paper.sh", folder / "tools")
    python = folder / ".venv" / "bin" / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    given = {"MINUTES": minutes, "SECONDS_OF_RUN": seconds, "STATUS": status}
    result = subprocess.run(
        ["sh", "tools/paper.sh"],
        cwd=folder,
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
    called = folder / "called"
    return result, called.read_text() if called.exists() else ""


def test_figures_are_copied_once_all_is_there(tmp_path):
    result, called = paper(tmp_path)
    assert result.returncode == 0, result.stderr
    run, copy = called.splitlines()
    assert run.startswith("tools/run_alone.py runs/paper .venv/bin/snakemake")
    assert "--configfile workflow/paper.yaml" in run
    assert copy.startswith("tools/copy_figures.py runs/paper/figures figures/paper")


def test_it_ends_when_the_minutes_are_over_and_copies_nothing(tmp_path):
    result, called = paper(tmp_path, minutes="0.02", seconds="30")
    assert result.returncode == 0
    assert "the 0.02 minutes are over. The same command goes on where it stopped" in result.stdout
    assert "copy_figures" not in called


def test_a_run_that_fails_copies_nothing_and_keeps_its_status(tmp_path):
    result, called = paper(tmp_path, minutes="1", status="3")
    assert result.returncode == 3
    assert "copy_figures" not in called


@pytest.mark.parametrize("minutes", ["nine", "9; touch x", "-1", "0", "0.0", "00", ".", "1.2.3"])
def test_minutes_are_a_number(tmp_path, minutes):
    result, called = paper(tmp_path, minutes=minutes)
    assert result.returncode == 1
    assert f"MINUTES: found '{minutes}', expected a number above 0, such as 9" in result.stderr
    assert not called
