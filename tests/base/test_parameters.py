"""Parameters as a notebook sees them: names, types, the nearest valid name."""

import json
import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from IPython.core.interactiveshell import InteractiveShell
from papermill.cli import papermill as command_line

import msxai
from msxai.base import parameters
from msxai.base.errors import ParameterError

CELL = """width: int = 16  # filters
rate: float = 1e-3
start: str = "best"
flip: bool = True
variants: list = ["a"]
trials_of: dict = {"a": 3}"""


@pytest.fixture
def run_cells():
    """Run cells as a kernel does; returns what `check` gave, or raises what it raised."""
    shell = InteractiveShell()

    def run(*cells):
        for cell in [
            *cells,
            "from msxai.base import parameters\nrun = parameters.check(globals())",
        ]:
            result = shell.run_cell(cell, store_history=True)
        result.raise_error()
        return shell.user_ns["run"]

    return run


def test_defaults_come_back_in_order(run_cells):
    assert run_cells(CELL) == {
        "width": 16,
        "rate": 1e-3,
        "start": "best",
        "flip": True,
        "variants": ["a"],
        "trials_of": {"a": 3},
    }


def test_injected_values_win(run_cells):
    values = run_cells(CELL, "# Parameters\nwidth = 64\nrate = 1\n")
    assert values["width"] == 64
    assert values["rate"] == 1.0
    assert values["start"] == "best"
    assert type(values["rate"]) is float


def test_a_misspelt_name_is_an_error_with_the_nearest(run_cells):
    with pytest.raises(
        ParameterError,
        match=r"parameter wdith: found a name that this notebook does not have; .*"
        r" Did you mean width\?",
    ):
        run_cells(CELL, "# Parameters\nwdith = 64\n")


def test_a_second_run_in_the_same_kernel_does_not_mind_other_variables(run_cells):
    run_cells(CELL, "table = 3\nwidht = 5")
    assert run_cells(CELL)["width"] == 16


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("width", "'64 filters'", "a whole number"),
        ("width", "''", "a whole number"),
        ("width", "'6.4'", "a whole number"),
        ("width", "'1_6'", "a whole number"),
        ("width", "6.4", "a whole number"),
        ("width", "float('inf')", "a whole number"),
        ("width", "True", "a whole number"),
        ("rate", "'fast'", "a number"),
        ("rate", "'1,5'", "a number"),
        ("rate", "'nan'", "a number"),
        ("rate", "'1e999'", "a number"),
        ("rate", "False", "a number"),
        ("start", "3", "text"),
        ("start", "None", "text"),
        ("start", "['a']", "text"),
        ("flip", "1", "true or false"),
        ("flip", "'1'", "true or false"),
        ("variants", "''", "a list"),
        ("variants", "3", "a list"),
        ("trials_of", "'a'", "names with values"),
    ],
)
def test_a_wrong_type_is_an_error(run_cells, name, value, kind):
    with pytest.raises(ParameterError, match=f"parameter {name}: found .*expected {kind}"):
        run_cells(CELL, f"# Parameters\n{name} = {value}\n")


@pytest.mark.parametrize(
    ("name", "given", "value"),
    [
        ("width", "'64'", 64),
        ("width", "' 64 '", 64),
        ("width", "'1e3'", 1000),
        ("width", "64.0", 64),
        ("rate", "'1e-3'", 1e-3),
        ("rate", "'.5'", 0.5),
        ("rate", "'2'", 2.0),
        ("flip", "'false'", False),
        ("flip", "'TRUE'", True),
        ("variants", "'a.nii.gz'", ["a.nii.gz"]),
        ("variants", "'one, two.nii'", ["one, two.nii"]),
        ("variants", "('a', 'b')", ["a", "b"]),
    ],
)
def test_what_has_one_meaning_is_read_with_a_note(run_cells, capsys, name, given, value):
    values = run_cells(CELL, f"# Parameters\n{name} = {given}\n")
    assert values[name] == value
    assert type(values[name]) is type(value)
    said = capsys.readouterr().out
    if value != eval(given):  # 64.0 is 64
        assert f"Parameter {name}: {eval(given)!r} is read as {value!r}.\n" in said


def test_what_needs_no_mending_is_not_noted(run_cells, capsys):
    run_cells(CELL, "# Parameters\nrate = 1\nwidth = 64\n")
    assert "Parameter" not in capsys.readouterr().out


NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": "a",
            "metadata": {"tags": ["parameters"]},
            "outputs": [],
            "source": CELL,
        }
    ],
    "metadata": {"kernelspec": {"name": "python3", "language": "python", "display_name": "p"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture
def papermill(run_cells, tmp_path):
    """Parameters as papermill's command line passes them on."""
    (tmp_path / "in.ipynb").write_text(json.dumps(NOTEBOOK))

    def run(*words):
        paths = [str(tmp_path / "in.ipynb"), str(tmp_path / "out.ipynb")]
        done = CliRunner().invoke(command_line, [*paths, "--prepare-only", *words])
        assert not done.exception, done.output
        cells = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
        return run_cells(*["".join(cell["source"]) for cell in cells])

    return run


def test_what_papermill_passes_on_is_read(papermill):
    assert papermill("-p", "rate", "1e-3")["rate"] == 1e-3
    assert papermill("-r", "rate", "1e-3")["rate"] == 1e-3
    assert papermill("-y", "rate: 1e-3")["rate"] == 1e-3  # text, by YAML
    assert papermill("-p", "variants", "a.nii.gz")["variants"] == ["a.nii.gz"]
    assert papermill("-p", "flip", "false")["flip"] is False


@pytest.mark.parametrize("name", ["width", "rate", "start", "flip", "variants", "trials_of"])
def test_the_command_that_a_refusal_advises_is_not_refused(papermill, name):
    """Of each type: the advice for a group whose name is a number was the refused command."""
    wrong = {"start": "1", "variants": "3", "flip": "7"}.get(name, "wrong")
    with pytest.raises(ParameterError) as caught:
        papermill("-p", name, wrong)
    advised = caught.value.mend.partition("papermill ")[2].removesuffix(".")
    option, *rest = shlex.split(advised.partition(". ")[0])
    assert [option, *rest] != ["-p", name, wrong]
    values = papermill(option, *rest)
    if name == "start":
        assert rest == ["start", "1"]
        assert values["start"] == "1"


def test_one_of_names_the_nearest():
    assert parameters.one_of("rule", "z", ["z", "epsilon"]) == "z"
    with pytest.raises(
        ParameterError,
        match=r"found 'epsilom'; expected one of z, epsilon\. Did you mean epsilon\?",
    ):
        parameters.one_of("rule", "epsilom", ["z", "epsilon"])


def test_relative_paths_start_at_the_checkout(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert parameters.located("runs/demo") == msxai.ROOT / "runs" / "demo"
    assert parameters.located(str(tmp_path)) == Path(tmp_path)


@pytest.mark.parametrize(
    ("cell", "value", "expected"),
    [
        ("jobs: int = 2", 0, "a whole number, 1 or more"),
        ("trials: int = 2", 0, "a whole number, 1 or more"),
        ("width: int = 16", 0, "a whole number, 1 or more"),
        ("epochs: int = 14", 0, "a whole number, 1 or more"),
        ("batch_size: int = 4", 0, "a whole number, 1 or more"),
        ("randoms: int = 500", 0, "a whole number, 1 or more"),
        ("seed: int = 0", -1, "a whole number, 0 or more"),
        ("epsilon: float = 1e-3", -1.0, "a number above 0"),
        ("epsilon: float = 1e-3", "float('nan')", "a number above 0"),
        ("learning_rate: float = 1e-3", 0.0, "a number above 0"),
        ("dropout: float = 0.1", 1.0, "a number below 1"),
    ],
)
def test_a_value_that_would_fail_late_is_refused_at_once(run_cells, cell, value, expected):
    name = cell.split(":")[0]
    with pytest.raises(ParameterError, match=f"parameter {name}: found .*expected {expected}"):
        run_cells(cell, f"# Parameters\n{name} = {value}\n")


SCRIPT = """# %%
import x

# %% tags=["parameters"]
width: int = 16  # filters
variants: list = [  # names
    "a",
]

# %%
run = parameters.check(globals())
"""


def test_the_parameters_of_a_script_are_checked_before_it_runs(tmp_path):
    script = tmp_path / "05_maps.py"
    script.write_text(SCRIPT)
    parameters.check_script(script, {"width": 2, "variants": []})
    with pytest.raises(ParameterError, match=r"05_maps.py, parameter wdith: .*Did you mean width"):
        parameters.check_script(script, {"wdith": 2})
    with pytest.raises(ParameterError, match=r"05_maps.py, parameter width: found 0; expected"):
        parameters.check_script(script, {"width": 0})
    with pytest.raises(ParameterError, match=r"05_maps.py, parameter variants: found 3"):
        parameters.check_script(script, {"variants": 3})
    parameters.check_script(script, {"variants": "a", "width": "2"})


FOLDERS = """# %% tags=["parameters"]
variant: str = "scratch"
best: str = ""
variants: list = ["a"]
scans: list = []
holdout: list = [10, 13]
"""


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"variant": "../../x"}, "parameter variant: found '../../x'; expected a letter or digit"),
        ({"variant": "pretraining"}, "parameter variant: found 'pretraining'; expected another na"),
        ({"best": "../x"}, "parameter best: found '../x'"),
        ({"scans": ["a.nii", 1]}, "parameter scans, entry 2: found 1 (int); expected text (str)"),
        ({"scans": [["a.nii"]]}, "parameter scans, entry 1: found ['a.nii'] (list); expected text"),
    ],
)
def test_names_of_folders_and_lists_of_paths_are_checked(tmp_path, values, words):
    script = tmp_path / "05_maps.py"
    script.write_text(FOLDERS)
    with pytest.raises(ParameterError) as caught:
        parameters.check_script(script, values)
    assert str(caught.value).startswith(f"05_maps.py, {words}")


def test_a_scan_may_have_no_mask_and_numbers_are_held_out(tmp_path):
    script = tmp_path / "05_maps.py"
    script.write_text(FOLDERS)
    parameters.check_script(script, {"scans": [None, "", Path("a.nii")], "holdout": [0.1, 2]})


def test_the_profiles_pass_the_check_that_make_runs_first():
    scripts = {script.stem: script for script in (msxai.ROOT / "notebooks").glob("*.py")}
    for profile in (msxai.ROOT / "workflow").glob("*.yaml"):
        config = yaml.safe_load(profile.read_text())
        for name in set(scripts) & set(config):
            parameters.check_script(scripts[name], config[name])


@pytest.mark.parametrize("value", [0, 1.5, True, "2", None])
def test_what_is_no_whole_number_from_1_on_is_refused(value):
    assert parameters.whole_number("copies", 8, least=1) == 8
    with pytest.raises(ParameterError, match=r"parameter copies: found .* a whole number, 1 or"):
        parameters.whole_number("copies", value, least=1)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "1e-3"])
def test_what_is_no_number_above_0_is_refused(value):
    assert parameters.number("epsilon", 1e-3, 0, above=True) == 1e-3
    with pytest.raises(ParameterError, match=r"parameter epsilon: found .* a number above 0"):
        parameters.number("epsilon", value, 0, above=True)


@pytest.mark.parametrize("kind", ["int", "float"])
@pytest.mark.parametrize(
    "value",
    ["9" * 5000, 10**400, -(10**5000), "1e999999", "-" + "9" * 400],
    ids=["text", "400 digits", "5000 digits", "exponent", "below 0"],
)
def test_a_number_of_very_many_digits_is_refused(tmp_path, kind, value):
    script = tmp_path / "03_odd.py"
    script.write_text(f'# %% tags=["parameters"]\nwidth: {kind} = 1\n\n# %%\n')
    with pytest.raises(ParameterError) as caught:
        parameters.check_script(script, {"width": value})
    message = str(caught.value)
    assert message.startswith("03_odd.py, parameter width: found ")
    assert len(message) < 600
