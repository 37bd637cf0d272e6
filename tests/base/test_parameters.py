"""Parameters as a notebook sees them: names, types, the nearest valid name."""

from pathlib import Path

import pytest
import yaml
from IPython.core.interactiveshell import InteractiveShell

import msxai
from msxai.base import parameters
from msxai.base.errors import ParameterError

CELL = """width: int = 16  # filters
rate: float = 1e-3
start: str = "best"
flip: bool = True
variants: list = ["a"]"""


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
    }


def test_injected_values_win(run_cells):
    values = run_cells(CELL, "# Parameters\nwidth = 64\nrate = 1\n")
    assert values == {"width": 64, "rate": 1.0, "start": "best", "flip": True, "variants": ["a"]}
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
        ("width", "'64'", "a whole number"),
        ("width", "6.4", "a whole number"),
        ("width", "True", "a whole number"),
        ("rate", "'fast'", "a number"),
        ("rate", "False", "a number"),
        ("start", "3", "text"),
        ("start", "None", "text"),
        ("flip", "1", "true or false"),
        ("variants", "'a'", "a list"),
    ],
)
def test_a_wrong_type_is_an_error(run_cells, name, value, kind):
    with pytest.raises(ParameterError, match=f"parameter {name}: found .*expected {kind}"):
        run_cells(CELL, f"# Parameters\n{name} = {value}\n")


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
    with pytest.raises(ParameterError, match=r"05_maps.py, parameter variants: found 'a'"):
        parameters.check_script(script, {"variants": "a"})


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
