"""A user's matplotlibrc decides no figure."""

import hashlib
import os
import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import pytest

from msxai.report.figures import sheet

SETTINGS = """
text.usetex: True
image.origin: lower
axes.grid: True
savefig.dpi: 33
font.size: 20
lines.linewidth: 7
"""
DRAW = """
import sys

import matplotlib.pyplot as plt
import numpy as np

from msxai.report import figures
from msxai.report.figures import sheet
from matplotlib.image import imsave

figure, axes = plt.subplots()  # as notebooks draw
axes.plot([0, 1, 2])
figure.savefig(sys.argv[1])
with sheet.style():
    figure, bottom = sheet.sheet(4, 2, "A title", ["A note."], synthetic=True)
    sheet.place(figure, 0.5, bottom + 0.3, 3, 1.5).plot([3, 1, 2])
sheet._save_picture(figure, sheet.Path(sys.argv[2]))
imsave(sys.argv[3], np.eye(5)[:3])  # as pages do
"""


def hashes(folder, settings):
    """SHA-256 of three pictures that a process with these settings draws."""
    folder.mkdir()
    (folder / "matplotlibrc").write_text(settings)
    paths = [folder / f"{name}.png" for name in ("own", "sheet", "image")]
    command = [sys.executable, "-c", DRAW, *paths]
    environment = {**os.environ, "MATPLOTLIBRC": str(folder / "matplotlibrc")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def test_figures_are_the_same_whatever_the_users_matplotlibrc_says(tmp_path):
    assert hashes(tmp_path / "odd", SETTINGS) == hashes(tmp_path / "none", "")


def test_settings_after_the_import_hold_outside_of_figures_only():
    with plt.rc_context({"text.usetex": True, "axes.grid": True}):
        backend = matplotlib.get_backend()
        with sheet.style():
            assert matplotlib.rcParams["text.usetex"] is False
            assert matplotlib.rcParams["axes.grid"] is False
            assert matplotlib.rcParams["font.size"] == sheet.STYLE["font.size"]
            assert matplotlib.get_backend() == backend
        assert matplotlib.rcParams["text.usetex"] is True
        assert matplotlib.rcParams["axes.grid"] is True


def test_the_settings_come_back_after_an_error():
    with plt.rc_context({"axes.grid": True}):
        with pytest.raises(ValueError, match="x"), sheet.style():
            raise ValueError("x")
        assert matplotlib.rcParams["axes.grid"] is True
