"""What is known of a network: its record counts where it holds the hash of the weights."""

import json
import shutil

import pytest

from msxai.base import provenance
from msxai.model import shipped, training_records
from msxai.report.one_scan import page

WEIGHTS = shipped.weights()[0]


@pytest.fixture
def copy(tmp_path):
    """The weights in a trial's folder, as 03 leaves them."""
    return shutil.copy(WEIGHTS, tmp_path / "weights.npz")


def write_record(copy, outputs, **entries):
    parameters = {"variant": "scratch", "cohort": "data/ms", "normalisation": "max"}
    record = {"parameters": parameters, "val_accuracy": 0.8, "outputs": outputs}
    provenance.write_json(copy.with_name("provenance.json"), record | entries)


def test_the_card_of_the_shipped_weights():
    card = training_records.card(WEIGHTS)
    assert card.shipped
    assert (card.task, card.cohort, card.modality) == ("lesions", "", "FLAIR")
    recorded = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert card.accuracy == recorded["val_accuracy"] > 0.9


def test_a_record_counts_where_it_holds_the_hash(copy):
    write_record(copy, {"weights.npz": provenance.sha256(copy)})
    card = training_records.card(copy)
    assert (card.task, card.cohort, card.modality) == ("diagnosis", "data/ms", "")
    assert card.accuracy == 0.8
    assert not card.shipped
    write_record(copy, {"weights.npz": "0" * 64})
    card = training_records.card(copy)
    assert (card.task, card.cohort, card.accuracy, card.parameters) == ("", "", None, {})
    write_record(copy, {}, sha256=provenance.sha256(copy))
    assert training_records.card(copy).task == "diagnosis"


def test_the_record_of_the_same_name_comes_first(copy):
    write_record(copy, {"weights.npz": provenance.sha256(copy)})
    copy.with_suffix(".json").write_bytes(WEIGHTS.with_suffix(".json").read_bytes())
    assert training_records.card(copy).task == "lesions"
    copy.with_suffix(".json").write_text('{"sha256": "of others"}')
    assert training_records.card(copy).task == "diagnosis"


def test_a_record_that_cannot_be_read_is_none(copy):
    hashes = {"weights.npz": provenance.sha256(copy)}
    for text in ("no JSON", "[]", "3", '{"outputs": []}', '{"outputs": null}', b"\xff\xfe"):
        content = text if isinstance(text, bytes) else text.encode()
        copy.with_name("provenance.json").write_bytes(content)
        assert training_records.card(copy).task == "", text
    copy.with_name("provenance.json").write_text('{"outputs":' + "[" * 200_000)
    assert training_records.card(copy).task == ""
    write_record(copy, hashes, parameters=["task"], val_accuracy="high")
    assert training_records.card(copy).parameters == {}
    assert training_records.card(copy).accuracy is None
    write_record(copy, hashes, parameters={"task": 3, "cohort": 7})
    assert (training_records.card(copy).task, training_records.card(copy).cohort) == ("", "")


@pytest.mark.parametrize(
    "accuracy",
    [float("nan"), float("inf"), -5, 1.01, 10**400, True],
    ids=["nan", "inf", "negative", "above 1", "large", "true"],
)
def test_an_accuracy_is_a_share(copy, accuracy):
    hashes = {"weights.npz": provenance.sha256(copy)}
    write_record(copy, hashes, parameters={"task": "lesions"}, val_accuracy=accuracy)
    card = training_records.card(copy)
    assert card.task == "lesions"
    assert card.accuracy is None
    assert "right in" not in page._trained_on_simulated_brains([card])
    write_record(copy, hashes, parameters={"task": "lesions"}, val_accuracy=1)
    assert "right in 100% of" in page._trained_on_simulated_brains([training_records.card(copy)])
