"""tools/ship_weights.py copies the trials that the Makefile lists, with lists and records."""

import json
import re
import subprocess

import numpy as np
import pandas as pd
import pytest
from support.scripts import script

import msxai
from msxai.base import provenance, tsv
from msxai.base.results import Results


@pytest.fixture
def tool():
    return script("ship_weights", folder="tools")


def train(where, trial, accuracy, size=10):
    """What notebook 02 leaves of a trial."""
    folder = where.trial("pretraining", trial, "lesions")
    folder.mkdir(parents=True)
    np.savez(folder / "weights.npz", values=np.full(size, trial))
    tsv.write(pd.DataFrame({"participant_id": [f"sub-{trial}"]}), folder / "subjects.tsv")
    outputs = [folder / "weights.npz", folder / "subjects.tsv"]
    record = provenance.record({"task": "lesions", "trial": trial}, [], outputs)
    record |= {"val_accuracy": accuracy, "val_loss": 0.5}
    provenance.write_json(folder / "provenance.json", record)


def test_the_trials_of_the_list_are_copied(tool, tmp_path):
    """Another trial lies in the results, and files of an earlier list in the package."""
    where = Results(str(tmp_path / "runs"))
    for trial in range(3):
        train(where, trial, accuracy=0.7)
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("lesions.npz", "lesions-7.npz", "lesions-7.json", "lesions-7.tsv"):
        (folder / name).write_text("stale")
    others = ["lesions-large-0.npz", "notes.md", "volume-0.npz"]
    for name in others:
        (folder / name).write_text("of another task")
    files = tool.ship(str(tmp_path / "runs"), "lesions", [0, 1], folder)
    assert {path.name for path in folder.iterdir()} == {*others, *(path.name for path in files)}
    assert [path.name for path in files] == [
        f"lesions-{trial}.{kind}" for trial in (0, 1) for kind in ("npz", "tsv", "json")
    ]
    for trial in (0, 1):
        weights, scans, record = files[3 * trial : 3 * trial + 3]
        assert np.load(weights)["values"][0] == trial
        assert tsv.read(scans)["participant_id"].tolist() == [f"sub-{trial}"]
        content = json.loads(record.read_text())
        assert content["sha256"] == provenance.sha256(weights)
        assert content["parameters"]["trial"] == trial


def test_large_weights_are_refused(tool, tmp_path):
    where = Results(str(tmp_path / "runs"))
    train(where, 0, accuracy=0.7, size=70_000)
    train(where, 1, accuracy=0.7, size=70_000)
    with pytest.raises(SystemExit, match="at most 1000000"):
        tool.ship(str(tmp_path / "runs"), "lesions", [0, 1], tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_without_a_training_nothing_is_copied(tool, tmp_path):
    where = Results(str(tmp_path / "runs"))
    train(where, 0, accuracy=0.7)
    with pytest.raises(SystemExit, match=r"trial-1/weights\.npz: found no such file"):
        tool.ship(str(tmp_path / "runs"), "lesions", [0, 1], tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_weights_of_another_training_than_their_record_are_not_copied(tool, tmp_path):
    where = Results(str(tmp_path / "runs"))
    train(where, 0, accuracy=0.7)
    np.savez(where.trial("pretraining", 0, "lesions") / "weights.npz", values=np.zeros(3))
    with pytest.raises(SystemExit, match="record of other weights"):
        tool.ship(str(tmp_path / "runs"), "lesions", [0], tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_the_makefile_trains_and_ships_one_list():
    command = ["make", "--dry-run", "shipped-weights", "SHIPPED=0 2", "PY=python"]
    done = subprocess.run(command, cwd=msxai.ROOT, capture_output=True, text=True, check=True)
    made = re.findall(r"lesions/trial-(\d+)/provenance\.json", done.stdout)
    assert made == ["0", "2"]
    assert "ship_weights.py runs/sight lesions 0 2\n" in done.stdout
    weights, reference = (
        done.stdout.index(name) for name in ("ship_weights.py", "ship_reference.py")
    )
    assert weights < reference, "what the networks are compared with belongs to these weights"


def test_the_package_brings_what_the_makefile_lists():
    text = (msxai.ROOT / "Makefile").read_text()
    listed = re.search(r"^SHIPPED := ([\d ]+)$", text, re.MULTILINE)[1].split()
    weights = (msxai.ROOT / "msxai" / "model" / "weights").glob("lesions-*.npz")
    assert sorted(path.stem for path in weights) == [f"lesions-{trial}" for trial in listed]
