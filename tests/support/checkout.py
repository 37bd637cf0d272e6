"""A copy of the checkout in which the series runs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import yaml

import msxai

BIN = Path(sys.executable).parent
ITEMS = range(1, 15)
"""Figures and tables of the paper."""

OF_COMMANDS = ("10_one_scan", "11_score_maps")
"""Notebooks that the command `msxai` runs; the workflow does not."""


def parameters_cell(notebook):
    """The one cell tagged parameters."""
    return next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))


class Checkout:
    """A copy of the checkout whose package and notebooks may be changed.

    The tests' environment runs it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("msxai", "notebooks", "workflow"):
            # With numba's compiled kernels, which __pycache__ holds too.
            ignored = shutil.ignore_patterns("*.pyc", ".ipynb_checkpoints")
            shutil.copytree(msxai.ROOT / name, folder / name, ignore=ignored)
        # As the Makefile sets it, and this copy's package first.
        paths = [folder, msxai.ROOT / "tools" / "quick_start"]
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "HOME": str(folder / "home"),
        }
        # Of the tests' own process; with it notebooks show no pictures.
        del self.environment["MPLBACKEND"]
        (folder / "home").mkdir()

    def run(self, *command, cwd=None) -> subprocess.CompletedProcess:
        command = [BIN / command[0], *command[1:]]
        return subprocess.run(
            command,
            cwd=cwd or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def snakemake(self, *options, profile="smoke", config=None) -> subprocess.CompletedProcess:
        """Run the workflow; `config` is a dict that goes over the profile, as a second file."""
        files = [f"workflow/{profile}.yaml"]
        if config:
            files.append("options.yaml")
            (self.folder / files[1]).write_text(yaml.safe_dump(config), encoding="utf-8")
        return self.run(
            "snakemake",
            "--snakefile",
            "workflow/Snakefile",
            "--configfile",
            *files,
            "--workflow-profile",
            "workflow/local",
            *options,
        )

    def plan(self, **options) -> set[str]:
        """Rules that would run."""
        result = self.snakemake("--dry-run", **options)
        assert result.returncode == 0, result.stderr
        table = re.findall(r"^(\w+) +\d+$", result.stdout + result.stderr, re.MULTILINE)
        return set(table) - {"total", "all"}

    def papermill(self, notebook: str, cwd=None, **parameters) -> subprocess.CompletedProcess:
        """The notebook by hand, as the README says; the executed notebook is `self.executed`."""
        source = self.folder / "notebooks" / f"{notebook}.ipynb"
        jupytext.write(jupytext.read(source.with_suffix(".py")), source)
        self.executed = self.folder / f"{notebook}.executed.ipynb"
        return self.run(
            "papermill",
            "--no-progress-bar",
            source,
            self.executed,
            "-y",
            json.dumps(parameters),
            cwd=cwd,
        )
