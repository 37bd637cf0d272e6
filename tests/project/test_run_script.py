"""make run refuses a folder of results that holds something else."""

import os
import shutil
import subprocess

import pytest

import msxai


def run(folder, results):
    """Run tools/run.sh with a stub of its setup."""
    for name in ("tools", "workflow/local"):
        (folder / name).mkdir(parents=True)
    shutil.copy(msxai.ROOT / "tools" / "run.sh", folder / "tools")
    (folder / "tools" / "setup.sh").touch()
    (folder / "workflow" / "demo.yaml").touch()
    return subprocess.run(
        ["sh", "tools/run.sh"],
        cwd=folder,
        env=os.environ | {"COHORT": "data/ms", "RESULTS": results},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("results", ["/", "//", ".", ".."])
def test_results_lie_in_a_folder_of_their_own(tmp_path, results):
    done = run(tmp_path, results)
    assert done.returncode == 2
    assert done.stderr.startswith(f"run: RESULTS: found '{results}'; expected a folder for results")


def test_any_other_folder_passes(tmp_path):
    done = run(tmp_path, "../runs.2/")
    assert "RESULTS" not in done.stderr
    assert "cohort_options" in done.stderr or ".venv" in done.stderr
