"""The weights that the package brings: small, described, and they see lesions of new brains."""

import json

import numpy as np
import pytest

import msxai
from msxai.base import provenance, tsv
from msxai.data.synthetic.simulated_pairs import WITH, WITHOUT, PairOptions, simulate_pair
from msxai.model import network, seen_scans

FOLDER = msxai.ROOT / "msxai" / "model" / "weights"
SHIPPED = sorted(FOLDER.glob("lesions-*.npz"))
WEIGHTS = SHIPPED[0]
MOST_BYTES = 1_000_000
NEW_SEED = 9000  # of brains that no training has seen


@pytest.fixture(params=SHIPPED, ids=lambda path: path.stem)
def weights(request):
    """Each network that the package brings."""
    return request.param


@pytest.fixture
def record(weights):
    return json.loads(weights.with_suffix(".json").read_text())


def test_the_model_card_says_what_the_records_say():
    text = (msxai.ROOT / "docs" / "model-card.md").read_text(encoding="utf-8")
    records = [json.loads(path.with_suffix(".json").read_text()) for path in SHIPPED]
    assert f"| number of networks | {len(SHIPPED)}," in text
    assert f"`msxai/model/weights/{SHIPPED[0].name}`" in text
    assert f"`{SHIPPED[-1].name}`" in text
    assert {record["parameters"]["simulated_pairs"] for record in records} == {400}
    assert "400 simulated brains for each network" in text
    assert {record["parameters"]["width"] for record in records} == {16}
    assert {record["parameters"]["contrast"] for record in records} == {"own"}
    assert {record["command"] for record in records} == {"make shipped-weights"}
    brains = [set(tsv.read(path.with_suffix(".tsv"))["source_sha256"]) for path in SHIPPED]
    assert len(set.union(*brains)) == sum(map(len, brains))  # each network has brains of its own


def test_all_files_together_are_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MOST_BYTES


def test_the_record_says_how_they_were_made(weights, record):
    assert record["sha256"] == provenance.sha256(weights)
    assert weights.stem == f"lesions-{record['parameters']['trial']}"
    assert record["command"] == "make shipped-weights"
    assert record["parameters"]["task"] == "lesions"
    for name in ("commit", "versions", "written", "val_accuracy"):
        assert record[name]


def test_the_list_holds_simulated_pairs_alone(weights, record):
    seen = seen_scans.listed(weights)
    assert len(seen) == record["parameters"]["simulated_pairs"]
    seed = record["parameters"]["seed"] + record["parameters"]["trial"]
    assert set(seen["dataset"]) == {f"simulated-pairs-{seed}"}
    assert seen["source_sha256"].is_unique


def test_the_logit_falls_where_the_lesions_of_a_new_brain_are_left_out(one_thread):
    models = [network.restore(path, fast=True) for path in SHIPPED]
    options = PairOptions(pairs=2, seed=NEW_SEED, contrast="own")
    for index in range(2):
        scans, _ = simulate_pair(options, index)
        for model in models:
            logits = np.asarray(model(scans[..., None].astype("float32")))[:, 0]
            assert logits[WITH] > logits[WITHOUT] + 0.5
