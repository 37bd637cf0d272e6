"""A home folder that cannot be written: the commands go on with temporary folders."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from IPython.paths import get_ipython_dir
from jupyter_core.paths import jupyter_runtime_dir

from msxai.base.errors import WriteError
from msxai.command_line import home, notebook_runs, program


@pytest.fixture
def closed_home(monkeypatch):
    """Root may do everything, but nothing can be written in /proc."""
    monkeypatch.setenv("HOME", "/proc")
    for variable in (*home._FOLDERS, "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def maps(tmp_path):
    """Three maps, masks and brains as arrays, by the options of `msxai score`."""
    rng = np.random.default_rng(0)
    lesions = np.zeros((3, 8, 8, 8))
    lesions[:, 3:5, 3:5, 3:5] = 1
    arrays = {"maps": rng.normal(size=lesions.shape) + lesions, "masks": lesions}
    for name, values in (arrays | {"brains": np.ones_like(lesions)}).items():
        np.save(tmp_path / f"{name}.npy", values)
    paths = [str(tmp_path / f"{name}.npy") for name in ("maps", "masks", "brains")]
    return ["score", *paths[:2], "--brain", paths[2], "--out", str(tmp_path / "scores")]


def test_a_command_goes_on_with_temporary_folders(closed_home, maps, monkeypatch, capsys):
    used = []

    def run(name, parameters, out):
        used.extend([get_ipython_dir(), jupyter_runtime_dir(), os.environ["MPLCONFIGDIR"]])
        for path in used:
            Path(path).mkdir(parents=True, exist_ok=True)
            (Path(path) / "written").touch()

    monkeypatch.setattr(notebook_runs, "run", run)
    before = dict(os.environ)
    assert program.main(maps) == program.DONE
    assert len(used) == 3
    assert all(path.startswith(tempfile.gettempdir()) for path in used)
    assert not any(Path(path).exists() for path in used)
    assert dict(os.environ) == before
    assert capsys.readouterr().err == (
        "msxai: the home folder /proc cannot be written. A temporary folder takes its place.\n"
    )


def test_without_them_ipython_fails(closed_home):
    with pytest.raises(OSError, match="proc"):
        get_ipython_dir()


def test_folders_that_can_be_written_and_those_of_the_user_stay(monkeypatch, tmp_path, capsys):
    for variable in home._FOLDERS:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with home.writable_folders():
        assert not set(home._FOLDERS) & set(os.environ)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.setenv("IPYTHONDIR", "own")
    with home.writable_folders():
        assert os.environ["IPYTHONDIR"] == "own"
        assert os.environ["MPLCONFIGDIR"] != "own"
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_no_folder_at_all_is_one_sentence(closed_home, maps, monkeypatch, capsys):
    def refuse(**options):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(WriteError, match="TMPDIR"), home.writable_folders():
        pass
    capsys.readouterr()
    assert program.main(maps) == program.REFUSED
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("msxai score: temporary files: found no folder that can be written (")


@pytest.mark.long(reason="a notebook is run, 12 s")
def test_maps_are_scored_without_a_home(closed_home, maps):
    command = [sys.executable, "-m", "msxai.command_line", *maps]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == program.DONE, done.stderr
    assert "Traceback" not in done.stderr
    assert (Path(maps[-1]) / "ranking.tsv").is_file()
