"""The command `msxai`: what it passes to a notebook, what it refuses, and its exit codes."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from msxai.command_line import notebook_runs, program

COLUMNS = {"scan": ["a", "b"], "reason": ["", "b.nii: found an empty file."]}


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), "float32"), np.eye(4)), path)
    return path


@pytest.fixture
def calls(monkeypatch):
    """What notebooks are run with, in place of running them; they write a table of two scans."""
    runs = []

    def run(name, parameters, out):
        runs.append((name, parameters))
        out.mkdir(parents=True, exist_ok=True)
        status = run.status
        pd.DataFrame(COLUMNS | {"status": status}).to_csv(out / "scans.csv", index=False)

    run.status = ["done", "done"]
    monkeypatch.setattr(notebook_runs, "run", run)
    runs.append(run)
    return runs


def refusal(capsys, *words):
    """The one line that a refused command prints."""
    try:
        code = program.main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    printed = capsys.readouterr()
    assert code == program.REFUSED
    assert printed.out == ""
    (line,) = printed.err.strip().splitlines()
    return line


def test_explain_passes_on_what_it_is_given(scan, tmp_path, calls, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["explain", "a.nii.gz", "--lesions", "a.nii.gz", "--rule", "epsilon", "--copies", "3"]
    assert program.main([*words, "--resume", "--out", "new/out"]) == program.DONE
    name, parameters = calls[1]
    assert name == "10_one_scan"
    assert parameters == {
        "scans": [str(scan)],
        "lesion_masks": [str(scan)],
        "brain_masks": [],
        "t1_scans": [],
        "before_scans": [],
        "before_lesion_masks": [],
        "weights": [],
        "rule": "epsilon",
        "tta_copies": 3,
        "out": str(tmp_path / "new" / "out"),
        "self_test": False,
        "jobs": 1,
        "resume": True,
    }


def test_a_mask_that_is_given_for_two_scans_is_said(scan, tmp_path, calls, capsys):
    other = tmp_path / "other.nii.gz"
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), 2, "float32"), np.eye(4)), other)
    words = ["explain", scan, other, "--out", tmp_path / "out", "--brain-mask", scan, scan]
    assert program.main([str(word) for word in [*words, "--lesions", scan, other]]) == program.DONE
    assert capsys.readouterr().err == ""
    assert program.main([str(word) for word in [*words, "--lesions", other, other]]) == program.DONE
    note = f"--lesions: {other} is given for 2 scans. Does it belong to all of them?"
    assert note in capsys.readouterr().err


def test_earlier_scans_are_passed_on_in_order(scan, tmp_path, calls):
    paths = {}
    for number, name in enumerate(("now", "earlier", "mask"), start=2):
        paths[name] = tmp_path / f"{name}.nii.gz"
        image = nib.Nifti1Image(np.full((4, 4, 4), number, "float32"), np.eye(4))
        nib.save(image, paths[name])
    words = ["explain", scan, paths["now"], "--before", paths["earlier"], paths["earlier"]]
    words += ["--before-lesions", paths["mask"], paths["mask"], "--out", tmp_path / "out"]
    assert program.main([str(word) for word in words]) == program.DONE
    _, parameters = calls[1]
    assert parameters["before_scans"] == [str(paths["earlier"])] * 2
    assert parameters["before_lesion_masks"] == [str(paths["mask"])] * 2
    assert parameters["lesion_masks"] == []


def test_explain_finds_the_scans_of_a_dataset_and_their_masks(scan, tmp_path, calls, capsys):
    anat = "sub-{}/anat/sub-{}"
    names = [f"{anat.format(person, person)}_FLAIR.nii.gz" for person in (1, 2)]
    mask = f"derivatives/lst/{anat.format(2, 2)}_label-lesion_mask.nii.gz"
    for name in (*names, mask):
        path = tmp_path / "study" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(scan.read_bytes())
    study = tmp_path / "study"
    words = ["explain", str(study), str(scan), "--out", str(tmp_path / "out")]
    assert program.main(words) == program.DONE
    _, parameters = calls[1]
    assert parameters["scans"] == [*(str(study / name) for name in names), str(scan)]
    assert parameters["lesion_masks"] == ["", str(study / mask), ""]
    assert parameters["brain_masks"] == parameters["t1_scans"] == []
    assert "3 scans, 1 with a lesion mask" in capsys.readouterr().err


@pytest.mark.parametrize("status", ["failed", "error"])
def test_a_scan_that_could_not_be_used_is_named_at_the_end(status, scan, tmp_path, calls, capsys):
    calls[0].status = ["done", status]
    code = program.main(["explain", str(scan), "--out", str(tmp_path / "out")])
    assert code == program.SOME_FAILED
    printed = capsys.readouterr()
    assert "1 of 2 scans" in printed.out
    assert "b was left out. b.nii: found an empty file." in printed.err


def test_what_is_refused_before_any_work(scan, tmp_path, calls, capsys):
    out = ["--out", tmp_path / "out"]
    text = tmp_path / "notes.nii"
    text.write_text("no image")
    empty = tmp_path / "empty"
    empty.mkdir()
    locked = tmp_path / "file"
    locked.write_text("")
    cases = [
        (["explain", scan, "--rule", "epslon", *out], "Did you mean epsilon?"),
        (["explain", tmp_path / "none.nii", *out], "none.nii: found no such file"),
        (["explain", empty, *out], "found no scan; expected NIfTI files"),
        (["explain", tmp_path, "--lesions", scan, *out], "expected this option beside files only"),
        (["explain", scan, "--lesions", empty, *out], "found a folder; expected a NIfTI file"),
        (["explain", scan, "--lesions", scan, scan, *out], "found 2 for 1 scans"),
        (["explain", scan, scan, *out], "found the same scan twice"),
        (["explain", scan, "--before", scan, scan, *out], "earlier scans: found 2 for 1 scans"),
        (["explain", scan, "--before", scan, *out], "with the same content as the scan"),
        (["explain", scan, "--before", text, *out], "no NIfTI image"),
        (["explain", scan, "--before", tmp_path / "no.nii", *out], "no.nii: found no such file"),
        (["explain", scan, "--before-lesions", scan, *out], "and no earlier scan"),
        (["explain", tmp_path, "--before", scan, *out], "expected this option beside files only"),
        (["explain", scan, "--copies", 0, *out], "--copies: found 0; expected at least 1"),
        (["explain", scan, "--jobs", 0, *out], "--jobs: found 0; expected at least 1"),
        (["explain", scan, "--copies", "two", *out], "found 'two'; expected a whole number"),
        (["explain", scan, "--copies", "1_0", *out], "argument --copies: found '1_0'"),
        (["explain", scan, "--jobs", "\u0662", *out], "argument --jobs: found '\\u0662'"),
        (["simulate", "--seed", "9" * 5000, *out], "--seed: found a text of 5000 characters"),
        (["explain", scan, "--weights", tmp_path / "w.npz", *out], "w.npz: found no such file"),
        (["explain", text, *out], "no NIfTI image"),
        (["explain", scan, "--out", locked / "out"], "nothing can be written"),
        (["explain", scan], "required: --out"),
        (["score", scan, scan, *out], "found neither brain masks nor scans"),
        (["explian", scan, *out], "invalid choice: 'explian'"),
    ]
    for words, sentence in cases:
        assert sentence in refusal(capsys, *words), words
    assert len(calls) == 1  # no notebook was started
    assert not (tmp_path / "out").exists()


UNUSABLE = {
    "": "found an empty path; expected a path. Is a variable of the shell empty?",
    " ": "found an empty path",
    "~nosuchuser/x": "found the home folder of a user that is not known here (~nosuchuser)",
    "x" * 300: "found a path of 300 characters, which is too long",
    "d/" * 3000: "found a path of 6000 characters, which is too long",
}
PATHS = [
    ("SCAN", lambda scan, bad, out: ["explain", bad, "--out", out]),
    ("SCAN", lambda scan, bad, out: ["explain", scan, bad, "--out", out]),
    ("--lesions", lambda scan, bad, out: ["explain", scan, "--lesions", bad, "--out", out]),
    ("--brain-mask", lambda scan, bad, out: ["explain", scan, "--brain-mask", bad, "--out", out]),
    ("--t1", lambda scan, bad, out: ["explain", scan, "--t1", bad, "--out", out]),
    ("--before", lambda scan, bad, out: ["explain", scan, "--before", bad, "--out", out]),
    ("--weights", lambda scan, bad, out: ["explain", scan, "--weights", bad, "--out", out]),
    ("--out", lambda scan, bad, out: ["explain", scan, "--out", bad]),
    ("MAPS", lambda scan, bad, out: ["score", bad, scan, "--brain", scan, "--out", out]),
    ("MASKS", lambda scan, bad, out: ["score", scan, bad, "--brain", scan, "--out", out]),
    ("--brain", lambda scan, bad, out: ["score", scan, scan, "--brain", bad, "--out", out]),
    ("--scan", lambda scan, bad, out: ["score", scan, scan, "--scan", bad, "--out", out]),
    ("--out", lambda scan, bad, out: ["score", scan, scan, "--brain", scan, "--out", bad]),
    ("SCAN", lambda scan, bad, out: ["fill", bad, scan, "-o", out]),
    ("MASK", lambda scan, bad, out: ["fill", scan, bad, "-o", out]),
    ("-o", lambda scan, bad, out: ["fill", scan, scan, "-o", bad]),
    ("--brain-mask", lambda s, bad, out: ["fill", s, s, "--brain-mask", bad, "-o", f"{out}.nii"]),
    ("--out", lambda scan, bad, out: ["simulate", "--out", bad]),
]


@pytest.mark.parametrize("bad", UNUSABLE, ids=["empty", "blank", "user", "name", "path"])
def test_paths_that_can_name_no_file_are_refused(bad, scan, tmp_path, calls, capsys, monkeypatch):
    """An empty variable of the shell stood for the current folder; others were tracebacks."""
    monkeypatch.chdir(tmp_path)
    for option, words in PATHS:
        line = refusal(capsys, *words(scan, bad, tmp_path / "out"))
        assert f": {option}: {UNUSABLE[bad]}" in line
    assert len(calls) == 1
    assert [path.name for path in tmp_path.iterdir()] == [scan.name]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["simulate", "--seed", "-1"], "--seed: found -1; expected at least 0"),
        (["simulate", "--subjects", "9" * 20], "expected at most 100000"),
        (["simulate", "--subjects", "-1"], "expected at least 4"),
        (["simulate", "--jobs", "9" * 20], "expected at most 1000"),
        (["fill", "a.nii.gz", "a.nii.gz", "--seed", "-1"], "--seed: found -1; expected at least 0"),
        (["explain", "a.nii.gz", "--copies", "9" * 20], "expected at most 1458"),
        (["explain", "a.nii.gz", "--jobs", "9" * 20], "expected at most 1000"),
    ],
)
def test_numbers_out_of_range_are_refused(words, sentence, scan, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sentence in refusal(capsys, *words, "--out", "out.nii")
    assert [path.name for path in tmp_path.iterdir()] == [scan.name]


@pytest.mark.parametrize("out", ["a.nii.gz", "mask.nii.gz", "brain.nii.gz", "link.nii.gz"])
def test_filling_does_not_write_over_its_input(out, scan, tmp_path, capsys):
    (tmp_path / "mask.nii.gz").write_bytes(scan.read_bytes())
    (tmp_path / "brain.nii.gz").write_bytes(scan.read_bytes())
    (tmp_path / "link.nii.gz").symlink_to(scan)
    before = scan.read_bytes()
    brain = ["--brain-mask", tmp_path / "brain.nii.gz"]
    line = refusal(capsys, "fill", scan, tmp_path / "mask.nii.gz", *brain, "-o", tmp_path / out)
    assert "found an input" in line
    assert scan.read_bytes() == before


def test_a_notebook_that_was_not_executed_is_not_replaced(scan, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    notebook = out / "10_one_scan.ipynb"
    notebook.write_text('{"metadata": {}}')
    line = refusal(capsys, "explain", scan, "--out", out)
    assert "found a notebook that was not executed" in line
    assert notebook.read_text() == '{"metadata": {}}'


def test_what_a_notebook_refuses_is_one_sentence(scan, tmp_path, monkeypatch, capsys):
    def run(*_):
        raise notebook_runs.Refused("a.nii.gz: found the same value in all voxels.")

    monkeypatch.setattr(notebook_runs, "run", run)
    line = refusal(capsys, "explain", scan, "--out", tmp_path / "out")
    assert line == "msxai explain: a.nii.gz: found the same value in all voxels."


def test_an_error_of_the_program_names_the_notebook(scan, tmp_path, monkeypatch, capsys):
    def run(*_):
        raise notebook_runs.NotebookFailed("ValueError: odd", tmp_path / "10.ipynb")

    monkeypatch.setattr(notebook_runs, "run", run)
    code = program.main(["explain", str(scan), "--out", str(tmp_path / "out")])
    assert code == program.PROGRAM_ERROR
    assert "10.ipynb" in capsys.readouterr().err


def test_every_command_has_help_with_an_example(capsys):
    for command in program.COMMANDS:
        with pytest.raises(SystemExit) as end:
            program.main([command, "--help"])
        assert end.value.code == 0
        assert f"  msxai {command} " in capsys.readouterr().out, command


def test_statuses_are_those_of_the_table():
    from msxai.report.one_scan import batch

    assert (program.FAILED, program.ERROR) == (batch.FAILED, batch.ERROR)
