"""The guard against initial weights that have seen a scan of the holdout or validation part."""

import json

import pandas as pd
import pytest

from msxai.base import provenance, tsv
from msxai.base.errors import SplitError
from msxai.model import seen_scans


class Toy:
    """A cohort of one scan a part, by default another cohort's people with the same identifiers."""

    def __init__(self, name, hashes=("a", "b", "c"), session_id=""):
        self.name = name
        self.table = pd.DataFrame(
            {
                "participant_id": ["sub-001", "sub-002", "003"],
                "session_id": session_id,
                "part": ["training", "validation", "holdout"],
                "source_sha256": list(hashes),
            }
        )


@pytest.fixture
def weights(tmp_path):
    """Weights of a pre-training on cohort "ad", with its list and record."""
    folder = tmp_path / "trial-0"
    folder.mkdir()
    path = folder / "weights.npz"
    path.write_bytes(b"weights")
    write_list(path, seen_scans.of_cohort(Toy("ad", hashes=("x", "y", "z"))))
    return path


def write_list(path, seen):
    listing = tsv.write(seen, path.with_name(seen_scans.LIST))
    record = provenance.record({}, outputs=[path, listing])
    provenance.write_json(path.with_name("provenance.json"), record)


def test_the_list_has_training_and_validation_and_survives_the_disk(weights):
    seen = seen_scans.listed(weights)
    assert seen["participant_id"].tolist() == ["sub-001", "sub-002"]
    assert seen["dataset"].tolist() == ["ad", "ad"]
    assert seen["part"].tolist() == ["training", "validation"]
    assert seen["source_sha256"].tolist() == ["x", "y"]
    pd.testing.assert_frame_equal(seen, seen_scans.of_cohort(Toy("ad", hashes=("x", "y", "z"))))


def test_equal_identifiers_of_two_datasets_are_two_persons(weights):
    sentence = seen_scans.check_initial_weights(weights, Toy("ms"))
    assert sentence.startswith("None of the 2 scans in the holdout and validation part")


def test_a_person_of_the_same_dataset_is_refused_whatever_the_file(weights):
    write_list(weights, pd.concat([seen_scans.listed(weights), seen_of_ms("003", "other")]))
    with pytest.raises(
        SplitError, match=r"003 of ms \(holdout\), seen as 003 of ms \(training\); expected no scan"
    ):
        seen_scans.check_initial_weights(weights, Toy("ms", session_id="ses-2"))


def test_a_person_of_the_validation_part_is_refused_too(weights):
    write_list(weights, seen_of_ms("sub-002", "other"))
    with pytest.raises(SplitError, match=r"sub-002 of ms \(validation\), seen as sub-002 of ms"):
        seen_scans.check_initial_weights(weights, Toy("ms"))


def test_the_same_file_under_another_name_is_refused(weights):
    with pytest.raises(SplitError, match=r"003 of ms \(holdout\), seen as sub-001 of ad") as error:
        seen_scans.check_initial_weights(weights, Toy("ms", hashes=("a", "b", "x")))
    assert "sub-002" not in str(error.value)


def test_what_both_train_on_is_no_leak(weights):
    write_list(weights, seen_of_ms("sub-001", "a"))
    seen_scans.check_initial_weights(weights, Toy("ms"))


def seen_of_ms(participant, digest):
    row = {
        "dataset": "ms",
        "participant_id": participant,
        "session_id": "",
        "part": "training",
        "source_sha256": digest,
    }
    return pd.DataFrame([row])


def test_without_a_list_the_sentence_warns(weights, tmp_path):
    other = tmp_path / "mine.npz"
    other.write_bytes(b"weights")
    assert "cannot be checked" in seen_scans.check_initial_weights(other, Toy("ms"))
    assert "have seen no scan" in seen_scans.check_initial_weights(None, Toy("ms"))
    tsv.write(seen_of_ms("003", "other"), tmp_path / "mine.tsv")
    with pytest.raises(SplitError, match="003 of ms"):
        seen_scans.check_initial_weights(other, Toy("ms"))


def test_trials_from_before_there_were_lists_are_read(weights):
    weights.with_name(seen_scans.LIST).unlink()
    record = weights.with_name("provenance.json")
    content = json.loads(record.read_text(encoding="utf-8"))
    content["outputs"] = {"weights.npz": "0"}
    provenance.write_json(record, content)
    assert "cannot be checked" in seen_scans.check_initial_weights(weights, Toy("ms"))


@pytest.mark.parametrize("spoil", ["changed", "gone"])
def test_a_list_that_is_not_as_written_is_refused(weights, spoil):
    listing = weights.with_name(seen_scans.LIST)
    if spoil == "changed":
        listing.write_text(listing.read_text(encoding="utf-8").replace("sub-001", "sub-009"))
    else:
        listing.unlink()
    with pytest.raises(SplitError, match=r"subjects\.tsv: found another content"):
        seen_scans.check_initial_weights(weights, Toy("ms"))


def test_a_table_of_other_columns_is_no_list(tmp_path):
    tsv.write(pd.DataFrame({"participant_id": ["sub-1"]}), tmp_path / "mine.tsv")
    with pytest.raises(SplitError, match="no column dataset"):
        seen_scans.check_initial_weights(tmp_path / "mine.npz", Toy("ms"))


def test_the_list_of_a_second_training_has_the_scans_of_the_first(weights):
    seen = seen_scans.with_earlier(Toy("ms"), weights)
    assert seen["dataset"].tolist() == ["ad", "ad", "ms", "ms"]
    assert len(seen_scans.with_earlier(Toy("ms"), None)) == 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "Expecting"),
        ("", "Expecting"),
        ("[]", "no group of values"),
        ("null", "no group of values"),
        ("[" * 200_000, "too many brackets"),
        ("{}", "no outputs"),
        ('{"outputs": []}', "no outputs"),
    ],
    ids=["bracket", "empty", "list", "null", "brackets", "no outputs", "list of outputs"],
)
def test_a_damaged_record_is_refused(weights, content, problem):
    weights.with_name("provenance.json").write_text(content)
    expected = rf"provenance\.json: found a damaged file \({problem}.*; expected the record of the "
    with pytest.raises(SplitError, match=expected):
        seen_scans.check_initial_weights(weights, Toy("ms"))
