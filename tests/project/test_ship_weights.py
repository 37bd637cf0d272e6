"""tools/ship_weights.py copies every trial, with its list and its record."""

import json

import numpy as np
import pandas as pd
import pytest
from support.scripts import script

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


def test_every_trial_is_copied(tool, tmp_path):
    where = Results(str(tmp_path / "runs"))
    train(where, 0, accuracy=0.7)
    train(where, 1, accuracy=0.9)
    files = tool.ship(str(tmp_path / "runs"), "lesions", tmp_path / "weights")
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
        tool.ship(str(tmp_path / "runs"), "lesions", tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_without_a_training_nothing_is_copied(tool, tmp_path):
    with pytest.raises(SystemExit, match="make shipped-weights"):
        tool.ship(str(tmp_path / "runs"), "lesions", tmp_path / "weights")
    assert not (tmp_path / "weights").exists()
