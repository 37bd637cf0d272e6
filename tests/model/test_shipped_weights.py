"""The weights that the package brings: small, described, and they see lesions of new brains."""

import json

import numpy as np
import pytest

import msxai
from msxai.base import provenance
from msxai.data.synthetic.simulated_pairs import WITH, WITHOUT, PairOptions, simulate_pair
from msxai.model import network, seen_scans

FOLDER = msxai.ROOT / "msxai" / "model" / "weights"
WEIGHTS = FOLDER / "lesions-0.npz"
MOST_BYTES = 1_000_000
NEW_SEED = 9000  # of brains that no training has seen


@pytest.fixture(scope="module")
def record():
    return json.loads(WEIGHTS.with_suffix(".json").read_text())


def test_all_files_together_are_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MOST_BYTES


def test_the_record_says_how_they_were_made(record):
    assert record["sha256"] == provenance.sha256(WEIGHTS)
    assert record["command"] == "make shipped-weights"
    assert record["parameters"]["task"] == "lesions"
    for name in ("commit", "versions", "written", "val_accuracy"):
        assert record[name]


def test_the_list_holds_simulated_pairs_alone(record):
    seen = seen_scans.listed(WEIGHTS)
    assert len(seen) == record["parameters"]["simulated_pairs"]
    seed = record["parameters"]["seed"] + record["parameters"]["trial"]
    assert set(seen["dataset"]) == {f"simulated-pairs-{seed}"}
    assert seen["source_sha256"].is_unique


def test_the_logit_falls_where_the_lesions_of_a_new_brain_are_left_out(one_thread):
    model = network.restore(WEIGHTS, fast=True)
    options = PairOptions(pairs=2, seed=NEW_SEED, contrast="own")
    for index in range(2):
        scans, _ = simulate_pair(options, index)
        logits = np.asarray(model(scans[..., None].astype("float32")))[:, 0]
        assert logits[WITH] > logits[WITHOUT] + 0.5
