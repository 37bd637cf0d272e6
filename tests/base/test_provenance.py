"""All-or-nothing writes, hashes, and the refusal of results that do not fit."""

import json

import pytest

from msxai.base import provenance
from msxai.base.errors import MissingStepError, ParameterError, StaleInputError
from msxai.base.results import Results


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert (
        provenance.sha256(tmp_path / "abc")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_an_interrupted_file_leaves_the_old_one(tmp_path):
    path = tmp_path / "deep" / "table.tsv"
    provenance.write_json(path, {"old": 1})
    with pytest.raises(KeyboardInterrupt), provenance.replacing(path) as draft:
        draft.write_text("half")
        raise KeyboardInterrupt
    assert json.loads(path.read_text()) == {"old": 1}
    assert [file.name for file in path.parent.iterdir()] == ["table.tsv"]


def test_the_folders_of_a_new_file_are_made(tmp_path):
    path = tmp_path / "runs" / "study" / "table.tsv"
    with provenance.replacing(path) as draft:
        draft.write_text("row")
    assert path.read_text() == "row"


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "maps"
    for names in (["a", "b"], ["c"]):
        with provenance.replacing(folder) as draft:
            draft.mkdir()
            for name in names:
                (draft / name).touch()
    assert [file.name for file in folder.iterdir()] == ["c"]
    with pytest.raises(ValueError, match="x"), provenance.replacing(folder) as draft:
        draft.mkdir()
        raise ValueError("x")
    assert [path.name for path in tmp_path.iterdir()] == ["maps"]


@pytest.fixture
def trial(tmp_path):
    """A results folder with one pre-training as 02 leaves it."""
    where = Results(str(tmp_path))
    folder = where.trial("pretraining", 0)
    folder.mkdir(parents=True)
    (folder / "weights.npz").write_bytes(b"weights")
    record = provenance.record(
        {"width": 16, "cohort": "phantom-ad"},
        [],
        [folder / "weights.npz"],
        val_accuracy=0.7,
        val_loss=0.5,
    )
    provenance.write_json(folder / "provenance.json", record)
    return where


def test_a_fitting_trial_is_taken(trial):
    folder, record = trial.require_trial("pretraining", 0, width=16)
    assert folder.name == "trial-0"
    assert record["versions"]["msxai"] == provenance.__version__


def test_a_missing_step_names_notebook_and_command(trial):
    with pytest.raises(
        MissingStepError,
        match=r"the result of 02_pretraining\. Run it first: "
        r".*notebooks/02_pretraining\.ipynb .*-p trial 1",
    ):
        trial.require_trial("pretraining", 1)
    with pytest.raises(MissingStepError, match=r"03_fine_tuning.*-p variant scratch -p trial 0"):
        trial.require_trial("scratch", 0)
    with pytest.raises(MissingStepError, match=r"01_data_preparation.*-p cohort phantom-ms"):
        trial.require_prepared("phantom-ms")


def test_a_step_refuses_other_parameters_and_says_which(trial):
    with pytest.raises(
        StaleInputError,
        match=r"found a result made with width=16; expected width=64 as in this run",
    ):
        trial.require_trial("pretraining", 0, width=64)


def test_changed_weights_are_refused(trial):
    (trial.trial("pretraining", 0) / "weights.npz").write_bytes(b"Weights")
    with pytest.raises(StaleInputError, match=r"weights\.npz: found another content"):
        trial.require_trial("pretraining", 0)


def test_the_best_start_is_the_trial_of_highest_validation_accuracy(trial):
    for number, (accuracy, loss) in enumerate([(0.7, 0.5), (0.8, 0.9), (0.8, 0.6)]):
        folder = trial.trial("pretraining", number)
        folder.mkdir(exist_ok=True)
        (folder / "weights.npz").write_bytes(b"weights")
        record = provenance.record(
            {"width": 16}, [], [folder / "weights.npz"], val_accuracy=accuracy, val_loss=loss
        )
        provenance.write_json(folder / "provenance.json", record)
    assert trial.initial_weights("best", width=16).parent.name == "trial-2"
    assert trial.initial_weights("trial-1", width=16).parent.name == "trial-1"
    assert trial.initial_weights("scratch") is None
    file = trial.trial("pretraining", 2) / "weights.npz"
    assert trial.initial_weights(str(file)) == file
    with pytest.raises(StaleInputError, match="width"):
        trial.initial_weights("best", width=8)
    with pytest.raises(ParameterError, match=r"found 'bets'; .*Did you mean best"):
        trial.initial_weights("bets")
