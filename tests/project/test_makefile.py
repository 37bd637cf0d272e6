"""What a user writes after `make` is text: it reaches the scripts as written and runs nothing."""

import re
import shutil
import subprocess

import pytest

import msxai

ODD = {
    "blank": "RR MS",
    "apostrophe": "d'Ete",
    "quote": 'a "b',
    "semicolon": "paper; touch broken",
    "dollar": "a$b",
    "two dollars": "a$$b",
    "function of make": "$(shell touch broken)",
    "other function of make": "${shell touch broken}",
    "command of the shell": "`touch broken`",
    "braces": "a{name}",
    "other letters": "Übung ß 研究",
    "hash": "#MS",
    "backslash": "a\\b",
    "and": "a && touch broken || touch broken",
    "newline": "a\ntouch broken",
    "star": "*",
}
TARGETS = {
    "run": "COHORT PROFILE SCHEDULER PRETRAINING PATIENTS CONTROLS LABEL MODALITY HOLDOUT RESULTS",
    "beside": "COHORT HOLDOUT",
    "setup": "GPU PYTHON",
    "atlases": "DEB",
    "test": "BOX",
    "test-long": "BOX",
    "plan": "PROFILE",
    "proof-backends": "RUN OTHER",
    "lab": "LAB",
    "lock": "UV",
    "clean": "SURE",
    "paper": "MINUTES",
}
PAIRS = [
    (target, variable) for target, variables in TARGETS.items() for variable in variables.split()
]
AS_ARGUMENTS = ["PROFILE of plan", "RUN of proof-backends", "OTHER of proof-backends"]
STUB = '#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done >>words\nenv -0 >>variables\n'


@pytest.fixture
def bare(tmp_path):
    """A checkout whose scripts and programs are stubs that note how they are called."""
    shutil.copy(msxai.ROOT / "Makefile", tmp_path)
    (tmp_path / "notebooks").mkdir()
    for name in ("setup", "run", "atlases", "test", "paper"):
        write(tmp_path / "tools" / f"{name}.sh")
    for name in ("python", "jupyter"):
        write(tmp_path / ".venv" / "bin" / name)
    return tmp_path


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STUB, encoding="utf-8")
    path.chmod(0o755)
    return path


def read(folder, name):
    """Words, or variables, of all calls of stubs."""
    calls = [*folder.glob(name), *folder.glob(f"notebooks/{name}")]
    return [word for path in calls for word in path.read_text(encoding="utf-8").split("\0")[:-1]]


def make(folder, target, text, variable, on_command_line):
    given = [f"{variable}={text}"] if on_command_line else []
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    if not on_command_line:
        environment[variable] = text
    command = ["make", "--no-print-directory", target, *given]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("on_command_line", [True, False], ids=["argument", "environment"])
@pytest.mark.parametrize(("target", "variable"), PAIRS, ids=[" ".join(pair) for pair in PAIRS])
def test_text_arrives_as_written(bare, target, variable, on_command_line):
    for text in ODD.values():
        for path in (*bare.rglob("words"), *bare.rglob("variables")):
            path.unlink()
        value = text
        if variable == "UV":
            value = str(write(bare / "uv" / text.replace("/", "-")))
        done = make(bare, target, value, variable, on_command_line)
        assert done.returncode == 0, done.stderr
        assert not list(bare.rglob("broken")), f"{text!r} was run"
        assert f"{variable}={value}" in read(bare, "variables")
        if f"{variable} of {target}" in AS_ARGUMENTS:
            assert value in read(bare, "words")
        if variable == "LAB":
            assert read(bare, "words") == ["lab", *value.split()]


def test_each_variable_of_the_makefile_is_tested():
    text = (msxai.ROOT / "Makefile").read_text(encoding="utf-8")
    taken = " ".join(re.findall(r"^TAKEN \+?:?= (.*)$", text, re.MULTILINE)).split()
    assert set(taken) == {variable for _, variable in PAIRS}


def test_no_recipe_lets_make_expand_what_a_user_writes():
    text = (msxai.ROOT / "Makefile").read_text(encoding="utf-8")
    for variable in {variable for _, variable in PAIRS}:
        assert not re.search(rf"(?<!\$)\$[({{]{variable}[)}}:]", text), variable
        unquoted = re.findall(rf'(?<!")\$\${variable}\b', text)
        assert len(unquoted) == (variable == "LAB"), f"$${variable} needs quotes"


def test_defaults(bare):
    for target, variable, default in [
        ("plan", "PROFILE", "demo"),
        ("run", "SCHEDULER", "local"),
        ("beside", "HOLDOUT", "0,0.25"),
    ]:
        make(bare, target, "x", "SURE", on_command_line=True)
        assert f"{variable}={default}" in read(bare, "variables")


@pytest.mark.parametrize("trials", ["0; touch broken", "$(shell touch broken)", "a"])
def test_numbers_of_trials_are_numbers(bare, trials):
    done = make(bare, "shipped-weights", trials, "SHIPPED", on_command_line=True)
    assert done.returncode == 2
    assert "TRIALS and SHIPPED are numbers of trials" in done.stderr
    assert not (bare / "broken").exists()


# The tests of one box


@pytest.fixture
def boxes(bare):
    shutil.copy(msxai.ROOT / "tools" / "test.sh", bare / "tools")
    for folder in ("tests/lrp", "msxai/lrp", "tests/project"):
        (bare / folder).mkdir(parents=True)
    return bare


@pytest.mark.parametrize(
    ("box", "folders"),
    [
        ("", ["tests", "msxai"]),
        ("lrp", ["tests/lrp", "msxai/lrp"]),
        ("project", ["tests/project"]),
    ],
)
def test_make_test_runs_a_box(boxes, box, folders):
    make(boxes, "test", box, "BOX", on_command_line=True)
    words = read(boxes, "words")
    assert words[:2] == ["-m", "pytest"]
    assert words[-len(folders) - 2 :] == ["-m", "not long", *folders][: len(folders) + 2]


@pytest.mark.parametrize("box", ["lrpp", "a'b", "lrp; touch broken"])
def test_an_unknown_box_is_one_sentence(boxes, box):
    done = make(boxes, "test", box, "BOX", on_command_line=True)
    assert done.returncode == 2
    first = done.stderr.splitlines()[0]
    assert first == (f"test: BOX={box}: there is no folder tests/{box}. Choose one of: lrp project")
    assert not read(boxes, "words")
