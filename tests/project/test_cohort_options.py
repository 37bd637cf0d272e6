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


@pytest.mark.parametrize("text", ["2", "2,2,2", "a,b", ",", "2,", "0.2.2,1"])
def test_a_holdout_that_cannot_be_read_is_one_sentence(tmp_path, text):
    result = subprocess.run(
        [sys.executable, SCRIPT],
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
