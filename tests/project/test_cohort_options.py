"""The variables of `make run` as a config file: text stays text, a bad HOLDOUT is one sentence."""

import subprocess
import sys

import pytest
import yaml
from support.scripts import script

import msxai

SCRIPT = msxai.ROOT / "tools" / "cohort_options.py"


@pytest.fixture(scope="module")
def cohort_options():
    return script("cohort_options", folder="tools")


@pytest.mark.parametrize("text", ["01", "001", "1e3", "2023_01", "#MS", "MS #1", "yes", "null"])
def test_a_name_is_taken_as_it_is_written(cohort_options, tmp_path, text):
    variables = {"COHORT": text, "PATIENTS": text, "CONTROLS": "", "PATH": "/bin"}
    content = cohort_options.options(variables, "runs/x")
    read = yaml.safe_load(yaml.safe_dump(content))
    assert read == {"cohort": text, "results": "runs/x", "patients": text}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10,13", [10, 13]),
        ("0,13", [0, 13]),
        (".2,.2", [0.2, 0.2]),
        ("20%,25%", [0.2, 0.25]),
        ("[2,2]", [2, 2]),
        ("0.2;0.2", [0.2, 0.2]),
        (" 2 3 ", [2, 3]),
    ],
)
def test_a_holdout_is_read_as_a_person_means_it(cohort_options, text, expected):
    numbers = cohort_options.holdout(text)
    assert numbers == expected
    assert [type(number) for number in numbers] == [type(number) for number in expected]


def test_a_holdout_of_nobody_is_refused(cohort_options):
    with pytest.raises(ValueError, match="HOLDOUT: found '0,0', nobody"):
        cohort_options.holdout("0,0")


@pytest.mark.parametrize(
    "text",
    [
        *["2", "2,2,2", "a,b", ",", "2,", "0.2.2,1", "2_0,3", "0.2,1_0%"],
        *["nan,1", "inf,1", "-1,2", "2.5,3", "1,1e400", "10%,150%", "100%,100%"],
    ],
)
def test_a_holdout_that_cannot_be_read_is_one_sentence(tmp_path, text):
    result = subprocess.run(
        [sys.executable, SCRIPT, "--check", "runs/x"],
        cwd=tmp_path,
        env={"COHORT": "x", "HOLDOUT": text},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"run: HOLDOUT: found {text!r}; expected two numbers")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_a_cohort_of_ones_own_is_prepared_by_two_processes(tmp_path):
    """The demo prepares its cohorts by one process each; a registration takes a minute a scan."""
    command = [sys.executable, SCRIPT, tmp_path, "/bin/true"]
    subprocess.run(command, env={"COHORT": "data/mine"}, check=True)
    written = yaml.safe_load((tmp_path / "cohort.yaml").read_text(encoding="utf-8"))
    for notebook in ("01_data_preparation", "01b_lesion_filling"):
        assert written[notebook] == {"jobs": 2}


def run(folder, results, *command, **variables):
    return subprocess.run(
        [sys.executable, SCRIPT, results, *command],
        cwd=folder,
        env={"COHORT": "data/a/study", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def taken(tmp_path):
    """A checkout whose folder runs/study-demo has results of data/a/study."""
    (tmp_path / "runs/study-demo").mkdir(parents=True)
    done = run(tmp_path, "runs/study-demo", "/bin/true")
    assert done.returncode == 0, done.stderr
    return tmp_path


@pytest.mark.parametrize("other", ["data/b/study", "data/b/study.tsv", "study", "it's"])
def test_a_folder_of_another_cohorts_results_is_refused(taken, other):
    """Before and after the folder is locked; what it holds stays."""
    file = taken / "runs/study-demo/cohort.yaml"
    before = file.read_text(encoding="utf-8")
    check = subprocess.run(
        [sys.executable, SCRIPT, "--check", "runs/study-demo"],
        cwd=taken,
        env={"COHORT": other},
        capture_output=True,
        text=True,
        check=False,
    )
    for done in (check, run(taken, "runs/study-demo", "/bin/true", COHORT=other)):
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith(
            "run: runs/study-demo: found results of the cohort data/a/study; expected none, or "
            f"results of {other}. Choose another folder: make run COHORT="
        )
        assert "RESULTS=runs/study-demo-2" in done.stderr
    assert file.read_text(encoding="utf-8") == before
    assert run(taken, "runs/study-demo", "/bin/true").returncode == 0


@pytest.mark.parametrize("same", ["data/a/study/", "./data/a/study", "data/b/../a/study"])
def test_the_same_cohort_goes_on(taken, same):
    done = run(taken, "runs/study-demo", "/bin/true", COHORT=same, PATIENTS="PPMS")
    assert done.returncode == 0, done.stderr
    text = (taken / "runs/study-demo/cohort.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["patients"] == "PPMS"


@pytest.mark.parametrize(
    "damaged",
    [
        *[b"", b"{", b"[]", b"patients: MS\n", b"cohort: \xe9\n", b'cohort: "a\\0b"\n'],
        *[b"[" * 20_000, b"cohort: ~\n", b"cohort: [a]\n"],
    ],
)
def test_a_damaged_file_of_options_is_written_anew(taken, damaged):
    file = taken / "runs/study-demo/cohort.yaml"
    file.write_bytes(damaged)
    assert run(taken, "runs/study-demo", "/bin/true", COHORT="data/b/study").returncode == 0
    assert yaml.safe_load(file.read_text(encoding="utf-8"))["cohort"] == "data/b/study"


@pytest.mark.parametrize("name", ["a{name}", "data/{x}/study", "a}", "a\nb"])
@pytest.mark.parametrize("variable", ["COHORT", "PRETRAINING"])
def test_a_name_that_the_workflow_cannot_have_is_one_sentence(tmp_path, variable, name):
    done = run(tmp_path, "runs/x", "/bin/true", **{variable: name})
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(
        f"run: {variable}: found {name!r}; expected a name without braces"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", [".", "..", "a/..", "/", "data/..yaml", "....csv"])
@pytest.mark.parametrize("variable", ["COHORT", "PRETRAINING"])
def test_a_cohort_without_a_name_of_its_own_is_one_sentence(tmp_path, variable, name):
    done = run(tmp_path, "runs/x", "/bin/true", **{variable: name})
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"run: {variable}: found ")
    assert "; expected a path that ends in a name. Its results have this name." in done.stderr
    assert not (tmp_path / "runs").exists()
