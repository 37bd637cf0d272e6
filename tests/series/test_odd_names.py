"""Odd names of cohorts, files and groups, and misspelt words, through the workflow."""

import json
import os
import re
import subprocess

import pytest
from support.checkout import Checkout

pytestmark = pytest.mark.series

NAME = """Ü's "study"; touch broken & $(touch broken) `touch broken` $HOME #1 研究 100% a|b *"""
# Stubs that note their words, each ended by a zero byte.
STUBS = {
    "jupytext": '#!/bin/bash\nprintf "%s\\0" "$@" >>"$NOTES/jupytext.words"\ntouch "${@: -2:1}"\n',
    "papermill": '#!/bin/bash\nprintf "%s\\0" "$@" >>"$NOTES/papermill.words"\n',
}


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def commands(printed):
    """Shell commands of a dry run."""
    found = re.findall(r"^\s*(?:Shell command: )?(mkdir -p .*)$", printed, re.MULTILINE)
    return [command for command in found if "papermill" in command]


def test_a_name_reaches_the_notebook_as_it_is_written(checkout, tmp_path):
    """Snakemake quotes it, bash takes the quotes away, and nothing in it runs."""
    table = checkout.folder / "data" / f"{NAME}.csv"
    table.parent.mkdir()
    table.write_text("participant_id,image,group\n", encoding="utf-8")
    results = f"runs/{NAME}-tiny"
    given = {"cohort": f"data/{NAME}.csv", "results": results, "patients": NAME}
    options = ("--dry-run", "--printshellcmds", "--quiet", "host")
    done = checkout.snakemake(*options, profile="tiny", config=given)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    notebook = f"{results}/notebooks/01_data_preparation_{NAME}.ipynb"
    (command,) = [line for line in commands(printed) if "data_preparation_Ü" in line]
    for name, content in STUBS.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    run = subprocess.run(
        ["bash", "-c", f"set -euo pipefail; {command}"],
        cwd=checkout.folder,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "NOTES": str(tmp_path), "HOME": "/"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert not list(tmp_path.rglob("broken"))
    words = (tmp_path / "papermill.words").read_text(encoding="utf-8").split("\0")
    values = json.loads(words[words.index("-y") + 1])
    assert values["cohort"] == given["cohort"]
    assert values["patients"] == NAME
    assert values["results"] == results
    assert f"{notebook}.source.ipynb" in words
    assert notebook in words
    assert (checkout.folder / notebook).parent.is_dir()


def test_a_dry_run_says_which_word_is_wrong(checkout):
    given = {"03_fine_tuning": {"augmentation": "papr"}}
    done = checkout.snakemake("--dry-run", profile="tiny", config=given)
    assert done.returncode != 0
    sentence = (
        "03_fine_tuning, parameter augmentation: found 'papr'; expected one of none, paper, "
        "strong, contrast. Did you mean paper?"
    )
    printed = done.stdout + done.stderr
    assert printed.count(sentence) == 1, printed
    assert "Traceback" not in printed
