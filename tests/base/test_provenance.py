"""All-or-nothing writes, hashes, and the refusal of results that do not fit."""

import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from support.mounts import read_only, small_disk

from msxai.base import provenance, tsv
from msxai.base.errors import MissingStepError, ParameterError, StaleInputError, WriteError
from msxai.base.results import Results


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert (
        provenance.sha256(tmp_path / "abc")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_a_record_names_the_backend_that_computed(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    assert provenance.record({})["backend"] is None
    backend = SimpleNamespace(backend=lambda: "torch")
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(backend=backend))
    assert provenance.record({})["backend"] == "torch"


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


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    """A power cut after the rename would otherwise leave the name with an empty file."""
    calls = []

    def fsync(handle):
        calls.append(os.readlink(f"/proc/self/fd/{handle}").removeprefix(f"{tmp_path}"))

    replace = os.replace

    def replaced(source, target):
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replaced)
    draft_name = f"/.{COMPUTER}-{os.getpid()}-maps"
    with provenance.replacing(tmp_path / "maps") as draft:
        (draft / "sub-1").mkdir(parents=True)
        (draft / "sub-1" / "map.nii").touch()
    names = ["", "/sub-1", "/sub-1/map.nii"]
    assert sorted(calls[:3]) == [f"{draft_name}{name}" for name in names]
    assert calls[3:] == ["rename", ""]


def ended_process():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


COMPUTER = provenance._COMPUTER


def test_drafts_of_killed_processes_are_removed_and_no_others(tmp_path):
    left = tmp_path / f".{COMPUTER}-{ended_process()}-table.tsv"
    others = [
        tmp_path / f".{COMPUTER}-{ended_process()}-other.tsv",
        tmp_path / f".{COMPUTER}-{os.getppid()}-table.tsv",
        tmp_path / f".0123abcd-{ended_process()}-table.tsv",  # of another computer
        tmp_path / ".hidden-table.tsv",
    ]
    for path in (left, *others):
        path.touch()
    provenance.write_json(tmp_path / "table.tsv", {})
    assert not left.exists()
    assert all(path.exists() for path in others)
    assert provenance.remove_drafts(tmp_path) == 1
    assert [path.exists() for path in others] == [False, True, True, True]


REPLACED = """
import os
import sys
from pathlib import Path

from msxai.base import provenance

folder = Path(sys.argv[1])
last_call = int(sys.argv[2])
calls = []


def killed_before(function):
    def call(*arguments, **options):
        calls.append(function)
        if len(calls) == last_call:
            os._exit(9)
        return function(*arguments, **options)

    return call


os.replace = killed_before(os.replace)
provenance._remove = killed_before(provenance._remove)
with provenance.replacing(folder) as draft:
    draft.mkdir()
    (draft / "new").touch()
"""


def end_as_killed(folder, call):
    """Replace a folder in a process that ends before a rename or removal; the number of this."""
    command = [sys.executable, "-c", REPLACED, folder, str(call)]
    return subprocess.run(command, check=False).returncode


@pytest.fixture
def old_folder(tmp_path):
    folder = tmp_path / "maps"
    folder.mkdir()
    (folder / "old").touch()
    return folder


@pytest.mark.parametrize("go_on", ["remove_drafts", "replacing"])
@pytest.mark.parametrize(
    ("call", "content"), [(1, ["old"]), (2, ["old"]), (3, ["new"]), (4, ["new"])]
)
def test_a_kill_while_a_folder_is_replaced_leaves_the_old_one_or_the_new(
    old_folder, call, content, go_on
):
    """Before the first and the second rename, and before the old folder and the draft go."""
    assert end_as_killed(old_folder, call) == 9
    if go_on == "remove_drafts":
        provenance.remove_drafts(old_folder.parent)
    else:
        with pytest.raises(KeyboardInterrupt), provenance.replacing(old_folder):
            raise KeyboardInterrupt
    assert [path.name for path in old_folder.iterdir()] == content
    assert [path.name for path in old_folder.parent.iterdir()] == ["maps"]


def test_a_draft_of_another_name_is_not_taken_for_an_old_folder(tmp_path):
    """A half-written folder called old-maps, where there are no maps."""
    draft = tmp_path / f".{COMPUTER}-{ended_process()}-old-maps"
    draft.mkdir()
    assert provenance.remove_drafts(tmp_path) == 1
    assert not list(tmp_path.iterdir())


def test_an_old_folder_comes_back_where_the_new_one_gets_no_name(old_folder, monkeypatch):
    replace = os.replace

    def refuse(source, target):
        if source.name.startswith(f".{COMPUTER}-{os.getpid()}-"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="Input/output"), provenance.replacing(old_folder) as draft:
        draft.mkdir()
    assert [path.name for path in old_folder.iterdir()] == ["old"]
    assert [path.name for path in old_folder.parent.iterdir()] == ["maps"]


WRITERS = {
    "table.tsv": lambda path, values: pd.DataFrame(values.reshape(-1, 40)).to_csv(path, sep="\t"),
    "text.html": lambda path, values: path.write_text("text" * 1_000_000, encoding="utf-8"),
    "weights.npz": lambda path, values: np.savez(path, values),
    "map.nii.gz": lambda path, values: nib.save(nib.Nifti1Image(values, np.eye(4)), path),
}
# In a process of its own: HDF5 can crash where it cannot close its file.
SCANS = """
import os
import sys
import tempfile

import h5py
import numpy as np

from msxai.base import provenance
from msxai.base.errors import WriteError

try:
    with provenance.replacing(sys.argv[1]) as draft, h5py.File(draft, "w") as file:
        store = file.create_dataset("scans", (4, 160_000), "f8", chunks=(1, 160_000))
        for row in range(4):
            store[row] = np.random.default_rng(row).normal(size=160_000)
except WriteError as error:
    print(error, flush=True)
    os._exit(0)
"""


def test_a_full_disk_is_one_error_and_the_old_file_stays(tmp_path, rng):
    values = rng.normal(size=(20, 200, 40))
    with small_disk(tmp_path, megabytes=1):
        for name, write in WRITERS.items():
            path = tmp_path / name
            path.write_text("old", encoding="utf-8")
            with (
                pytest.raises(WriteError, match=f"{name}: found a full disk, or a full quota; "),
                provenance.replacing(path) as draft,
            ):
                write(draft, values)
            assert path.read_text(encoding="utf-8") == "old"
            assert [file.name for file in tmp_path.iterdir()] == [name]
            path.unlink()


def test_a_full_disk_under_hdf5(tmp_path):
    """HDF5 has its own errors."""
    with small_disk(tmp_path, megabytes=1):
        (tmp_path / "scans.h5").write_text("old", encoding="utf-8")
        command = [sys.executable, "-c", SCANS, tmp_path / "scans.h5"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout.startswith("scans.h5: found a full disk, or a full quota; "), done.stderr
        assert [file.name for file in tmp_path.iterdir()] == ["scans.h5"]
        assert (tmp_path / "scans.h5").read_text(encoding="utf-8") == "old"


def test_a_full_disk_when_hdf5_closes_its_file(tmp_path):
    """It then raises another error, with the system's number in its text."""
    text = "Can't decrement id ref count (file write failed: errno = 28, error message = 'No space"
    with (
        pytest.raises(WriteError, match="found a full disk"),
        provenance.replacing(tmp_path / "scans.h5"),
    ):
        raise RuntimeError(text)


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path):
    with read_only(tmp_path):
        for path in (tmp_path / "record.json", tmp_path / "folder" / "record.json"):
            with pytest.raises(WriteError, match=r"found a folder that cannot be written \("):
                provenance.write_json(path, {})


def test_what_is_finished_on_a_read_only_disk_can_be_used(tmp_path):
    """Nobody can make anything there, so that no lock is needed."""
    (tmp_path / "cohort").write_text("finished", encoding="utf-8")
    with read_only(tmp_path), provenance.alone(tmp_path / "cohort"):
        assert (tmp_path / "cohort").read_text(encoding="utf-8") == "finished"
    with (
        read_only(tmp_path),
        pytest.raises(WriteError, match="cannot be written"),
        provenance.alone(tmp_path / "folder" / "cohort"),
    ):
        pass


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EACCES])
def test_a_file_system_that_cannot_store_at_once_is_no_error(tmp_path, monkeypatch, number):
    """As some network file systems do with folders."""

    def refuse(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with provenance.replacing(tmp_path / "maps") as draft:
        draft.mkdir()
        (draft / "map.nii").touch()
        (draft / "link").symlink_to("nothing")
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["link", "map.nii"]


def test_a_disk_that_fails_while_it_stores_is_an_error(tmp_path, monkeypatch):
    def fail(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        provenance.write_json(tmp_path / "record.json", {})
    assert not list(tmp_path.iterdir())


def test_the_disk_that_is_full_is_named(tmp_path, monkeypatch):
    """A temporary file can fill another disk than that of the result."""
    (tmp_path / "small").mkdir()
    with small_disk(tmp_path / "small", megabytes=1):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "small"))
        with (
            pytest.raises(WriteError, match=f"df -h {tmp_path}/small"),
            provenance.replacing(tmp_path / "table.tsv"),
            tempfile.TemporaryFile() as file,
        ):
            file.write(bytes(2_000_000))
            file.flush()


def test_an_error_that_is_not_the_disks_is_left_as_it_is(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="scan"),
        provenance.replacing(tmp_path / "record.json"),
    ):
        (tmp_path / "scan.nii").read_bytes()


def test_one_process_at_a_time_makes_a_cohort(tmp_path):
    """Two threads stand for two processes: each opens the lock for itself."""
    inside = []
    most = []

    def make():
        with provenance.alone(tmp_path / "cohort"):
            inside.append(1)
            time.sleep(0.2)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


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


def test_a_commit_has_changes_where_code_differs_from_it_and_not_where_tables_do(
    tmp_path, monkeypatch
):
    def git(*command):
        name = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *name, *command], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(provenance, "ROOT", tmp_path / "package")
    (tmp_path / "package").mkdir()
    assert provenance._commit() is None
    (tmp_path / "benchmarks").mkdir()
    for path in ("package/code.py", "benchmarks/proof.py", "benchmarks/proof.tsv"):
        (tmp_path / path).write_text("1\n")
    git("init")
    git("add", ".")
    git("commit", "--message=first")
    commit = provenance._commit()
    assert len(commit) == 40
    (tmp_path / "benchmarks" / "proof.tsv").write_text("2\n")
    assert provenance._commit() == commit
    for path in ("package/code.py", "benchmarks/proof.py"):
        (tmp_path / path).write_text("2\n")
        assert provenance._commit() == f"{commit}+changes"
        (tmp_path / path).write_text("1\n")
    (tmp_path / "package" / "code.py").unlink()
    assert provenance._commit() == f"{commit}+changes"


DAMAGED = {
    "empty": b"",
    "cut": b'{"parameters":',
    "list": b"[]",
    "nothing": b"null",
    "Latin-1": b'{"parameters": "\xff"}',
    "no parameters": b"{}",
    "parameters of another kind": b'{"parameters": 5}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_is_refused(tmp_path, name):
    path = tmp_path / "provenance.json"
    path.write_bytes(DAMAGED[name])
    with pytest.raises(StaleInputError, match="damaged file") as caught:
        provenance.require(path, "03_fine_tuning", "make figures", cohort="a")
    assert str(caught.value).endswith("Delete it, then give the command of this step again.")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a\tb\n1\t2\n1\t2\t3\t4\n"])
def test_a_damaged_table_is_refused(tmp_path, content):
    (tmp_path / "scores.tsv").write_bytes(content)
    with pytest.raises(StaleInputError, match="damaged table"):
        tsv.read(tmp_path / "scores.tsv")


def test_a_name_that_is_too_long(tmp_path):
    with (
        pytest.raises(WriteError, match="found a name that is too long for its disk"),
        provenance.replacing(tmp_path / ("a" * 250)) as draft,
    ):
        draft.write_text("new")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_replaced_by_a_file_nor_a_file_by_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    (tmp_path / "file").write_text("kept")
    with (
        pytest.raises(WriteError, match="folder: found a folder; expected a file"),
        provenance.replacing(tmp_path / "folder") as draft,
    ):
        draft.write_text("new")
    with (
        pytest.raises(WriteError, match="file: found a file; expected a folder"),
        provenance.replacing(tmp_path / "file") as draft,
    ):
        draft.mkdir()
    left = sorted(path.name for path in tmp_path.rglob("*"))
    assert left == ["file", "folder", "kept"]
    assert (tmp_path / "file").read_text() == "kept"
