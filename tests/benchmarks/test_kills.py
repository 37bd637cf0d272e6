"""The proof that a run goes on after a kill: on a toy series, and its parts by hand."""

import json
import sys

import numpy as np
import pytest
from support.scripts import script

import msxai

# Three notebooks in a row. Each writes its result in five seconds, letter by letter.
SNAKEFILE = """
rule all:
    input:
        "runs/toy/3.txt",

for number in (1, 2, 3):
    rule:
        name:
            f"step{number}"
        input:
            [f"runs/toy/{number - 1}.txt"] if number > 1 else [],
        output:
            f"runs/toy/{number}.txt",
        log:
            f"runs/toy/notebooks/{number}.ipynb",
        shell:
            "PYTHON papermill {log}.source.ipynb {log} {output} {input}"
"""
# What stands in for papermill. A result is the numbers of all steps before, so that a step that
# took half of the result before it is seen in the end.
PAPERMILL = """
import json
import subprocess
import sys
from pathlib import Path

_, source, log, output, *earlier = sys.argv
kernel = [sys.executable, "ipykernel_launcher", output, *earlier]
status = subprocess.run(kernel, start_new_session=True).returncode
document = {"metadata": {"papermill": {"exception": status != 0}}, "cells": []}
Path(log).write_text(json.dumps(document))
sys.exit(status)
"""
KERNEL = """
import sys
import time
from pathlib import Path

output, *earlier = sys.argv[1:]
text = "".join(Path(path).read_text() for path in earlier)
for letter in f"{text}{output}\\n":
    with open(output, "a") as file:
        file.write(letter)
    time.sleep(5 / (len(text) + len(output)))
"""


@pytest.fixture(scope="module")
def kills():
    return script("kills")


@pytest.fixture
def toy(kills, tmp_path):
    """Makes a run of the toy series."""

    def make():
        folder = tmp_path / "checkout"
        (folder / "home").mkdir(parents=True)
        (folder / "runs" / "toy" / "notebooks").mkdir(parents=True)
        text = SNAKEFILE.replace("PYTHON", sys.executable)
        (folder / "Snakefile").write_text(text, encoding="utf-8")
        (folder / "papermill").write_text(PAPERMILL, encoding="utf-8")
        (folder / "ipykernel_launcher").write_text(KERNEL, encoding="utf-8")
        command = [
            *(sys.executable, msxai.ROOT / "tools" / "run_alone.py", "runs/toy"),
            *(kills.BIN / "snakemake", "--cores", "1"),
            *("--workflow-profile", msxai.ROOT / "workflow" / "local"),
        ]
        return kills.Run(folder=folder, results="runs/toy", command=list(map(str, command)))

    return make


@pytest.mark.long(reason="a small version of a proof: a toy series with kills, two minutes")
def test_a_toy_series_with_kills_ends_as_without(kills, toy):
    # The seed draws each victim once, in a notebook or after it.
    table, result = kills.measure(toy, n_kills=4, seed=50)
    assert result["differ"] == []
    assert result["files"] == {"bytes": 3, "record": 0, "page": 0, "notebook": 3, "exists": 1}
    assert len(table) == 4
    assert set(table["victim"]) == set(kills.VICTIMS)
    assert result["most_notebooks_lost_by_a_kill"] == 1
    assert (table["seconds_lost"] <= 60).all()


@pytest.mark.long(reason="a small version of a proof: a cohort is prepared twice, with two kills")
def test_a_preparation_with_kills_ends_as_without(kills, tmp_path):
    """The first notebook of the tiny profile, the cohort of fine-tuning."""

    def make():
        run = kills.copy_of_checkout(tmp_path / "checkout", "tiny", cores=1)
        run.command.extend(["--", "runs/tiny/prepared/phantom-ms-tiny.json"])
        return run

    # Both moments of this seed are in the first half. What the first kill leaves makes the second
    # run shorter, so it can end before the second moment.
    table, result = kills.measure(make, n_kills=2, seed=24)
    assert result["differ"] == []
    assert result["files"]["bytes"] > 10
    assert len(table) >= 1
    assert len(table) + result["moments_after_the_end"] == 2
    assert result["most_notebooks_lost_by_a_kill"] <= 1


def test_a_run_that_ends_before_a_moment_is_not_killed(kills, tmp_path):
    (tmp_path / "messages").touch()
    run = kills.Run(folder=tmp_path, results="runs/toy", command=["true"])
    late = kills.Moment(notebook="", seconds=60.0)
    made, _ = kills.disturbed(run, [late, late], np.random.default_rng(0))
    assert made == []
    broken = kills.Run(folder=tmp_path, results="runs/toy", command=["false"])
    with pytest.raises(SystemExit, match="nobody killed"):
        kills.disturbed(broken, [late], np.random.default_rng(0))


def test_moments_are_drawn_over_the_whole_run_in_its_order(kills):
    starts = [(10.0, "01"), (50.0, "02")]
    moments = kills.draw_moments(starts, 100, 40, np.random.default_rng(0))
    names = [moment.notebook for moment in moments]
    assert names == sorted(names)
    assert set(names) == {"", "01", "02"}
    assert max(moment.seconds for moment in moments if moment.notebook == "01") <= 40


def test_a_second_start_is_lost_by_the_first_kill_after_the_one_before(kills):
    killed = [{"time": 30.0}, {"time": 35.0}, {"time": 90.0}]
    starts = [(10.0, "01"), (20.0, "02"), (40.0, "02"), (60.0, "03"), (95.0, "03"), (95.5, "01")]
    lost = kills.lost_work(killed, starts)
    # 02 was at work at the first kill. The second kill came before its second start. 01 was started
    # once more though it had ended before the first kill.
    assert lost == [[("02", 10.0), ("01", 20.0)], [], [("03", 30.0)]]


def a_result(folder, files):
    for name, text in files.items():
        path = folder / "runs" / "toy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


RESULT = {
    "scores.tsv": "1",
    "provenance.json": json.dumps(
        {
            "written": "today",
            "seed": 1,
            "outputs": {"runs/toy/scores.tsv": "abc", "runs/toy/fig.json": "def"},
        }
    ),
    "report/index.html": "page of 2026-11-28",
    "report/04.html": "3 s",
    "notebooks/04.ipynb": json.dumps(
        {
            "metadata": {"papermill": {"exception": None}},
            "cells": [{"source": "1 + 1", "outputs": ["3 s"]}],
        }
    ),
}


@pytest.mark.parametrize(
    ("name", "text", "differs"),
    [
        ("scores.tsv", "2", True),
        ("provenance.json", RESULT["provenance.json"].replace("today", "tomorrow"), False),
        ("provenance.json", RESULT["provenance.json"].replace("1", "2"), True),
        ("provenance.json", RESULT["provenance.json"].replace("abc", "xyz"), True),
        ("provenance.json", RESULT["provenance.json"].replace("def", "xyz"), False),
        ("report/index.html", "another page of 2026-11-28", True),
        ("report/index.html", "page of 2026-11-29", False),
        ("report/04.html", "4 s", False),
        ("notebooks/04.ipynb", RESULT["notebooks/04.ipynb"].replace("3 s", "4 s"), False),
        ("notebooks/04.ipynb", RESULT["notebooks/04.ipynb"].replace("null", "true"), True),
        (".123-scores.tsv", "a draft", True),
    ],
)
def test_what_differs_is_seen(kills, tmp_path, name, text, differs):
    runs = [kills.Run(tmp_path / copy, "runs/toy", []) for copy in ("whole", "killed")]
    a_result(runs[0].folder, RESULT)
    a_result(runs[1].folder, RESULT | {name: text})
    expected = [f"runs/toy/{name}"] if differs else []
    assert kills.compare(*runs)["differ"] == expected
