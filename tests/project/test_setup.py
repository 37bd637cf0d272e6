"""Set-up and housekeeping: one truth about versions, clear set-up faults, notebook pairs."""

import ast
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jupytext
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from support.checkout import OF_COMMANDS

import msxai

ROOT = Path(msxai.ROOT)
BIN = Path(sys.executable).parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SETUPTOOLS = PYPROJECT["project"], PYPROJECT["tool"]["setuptools"]
DECLARED = [
    *PROJECT["dependencies"],
    *PROJECT["optional-dependencies"]["dev"],
    *PROJECT["optional-dependencies"]["docs"],
]
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))
PINS = re.compile(
    r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)(?: ; ([^\\]+?))? \\\n"
    r"((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.M,
)


def name(text):
    return re.sub(r"[-_.]+", "-", text).lower()


def locked(file):
    """Name to version and marker; a pin without a hash, or a line that is no pin, fails here."""
    text = (ROOT / file).read_text(encoding="utf-8")
    lines = [
        line
        for line in text.splitlines()
        if line.strip() and not line.lstrip().startswith(("#", "--hash=sha256:"))
    ]
    pins = PINS.findall(text)
    packages = tuple(pin[0] for pin in pins)
    assert len(lines) == len(pins), (
        f"{file}: {[line for line in lines if not line.startswith(packages)]}"
    )
    versions = {}
    for package, version, marker, _ in pins:
        versions.setdefault(name(package), []).append((Version(version), marker))
    return versions


# One truth about versions


LOCKS = ("requirements.lock", "innvestigate.lock", "requirements-gpu.lock")


@pytest.mark.parametrize("file", LOCKS)
def test_a_lock_names_no_place(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(
        r"(?m)^\s*-|(?: |=|-r )/|@ ", re.sub(r"(?m)^    --hash=.*$|^#.*$", "", text)
    )


def test_the_lock_satisfies_pyproject():
    lock = locked("requirements.lock")
    for text in DECLARED:
        wanted = Requirement(text)
        versions = [version for version, _ in lock.get(name(wanted.name), [])]
        assert versions, f"{text} is not in the lock: make lock"
        assert all(version in wanted.specifier for version in versions), (
            f"{text}, locked {versions}: make lock"
        )


def test_the_lock_of_a_gpu_has_the_same_versions_and_no_tensorflow():
    lock = locked("requirements.lock")
    of_gpu = locked("requirements-gpu.lock")
    for package in lock.keys() & of_gpu.keys():
        assert of_gpu[package] == lock[package], f"{package}: make lock"
    without = {name("tensorflow"), name("tf_keras"), "innvestigate"}
    assert not without & of_gpu.keys()
    left_out = lock.keys() - of_gpu.keys()
    assert without & lock.keys() <= left_out
    for text in DECLARED:
        package = name(Requirement(text).name)
        assert package in of_gpu or package in without, f"{text}: make lock"


def test_the_lock_of_a_gpu_has_the_extra():
    of_gpu = locked("requirements-gpu.lock")
    for text in PROJECT["optional-dependencies"]["gpu"]:
        wanted = Requirement(text)
        ((version, marker),) = of_gpu[name(wanted.name)]
        assert version in wanted.specifier
        assert marker == ""


def test_what_is_installed_is_what_is_locked():
    from importlib.metadata import version

    for file in ("requirements.lock", "innvestigate.lock"):
        for package, pins in locked(file).items():
            here = [
                pin
                for pin, marker in pins
                if not marker or Requirement(f"{package} ; {marker}").marker.evaluate()
            ]
            assert len(here) < 2, package
            if here:
                assert Version(version(package)) == here[0], f"{package}: make setup"


def test_the_second_lock_holds_innvestigate_alone():
    assert list(locked("innvestigate.lock")) == ["innvestigate"]
    assert "innvestigate" not in locked("requirements.lock")


def test_conda_reads_the_same_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-r requirements.lock"]  # no version is written twice
    assert [entry for entry in plain if entry.startswith("python")] == [
        "python" + PROJECT["requires-python"]
    ]
    assert {re.split("[<>=]", entry)[0] for entry in plain} <= {
        "python",
        "pip",
        "make",
    }  # nothing that the lock decides


def test_the_setup_script_takes_the_pythons_of_pyproject():
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    assert "(3, 11) <= v[:2] <= (3, 13)" in (ROOT / "tools/setup.sh").read_text(encoding="utf-8")


def test_one_version_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] == msxai.__version__
    assert citation["license"] == PROJECT["license"] == "BSD-3-Clause"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("BSD 3-Clause License")


def test_the_package_is_found_from_any_folder(tmp_path):
    code = "import msxai; print(msxai.ROOT)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(result.stdout.strip()) == ROOT


# Set-up faults, with stubs in the place of Python and pip


VERSION = 'case "$*" in *version_info*) echo {0}; exit {1};; *ensurepip*) exit {2};; esac\n'
# A stub of a Python that works: "-m venv DIR" makes DIR/bin/python, a stub too.
# Its pip notes the arguments and exits with $PIP_RC.
MAKES_VENV = """
for last; do :; done
mkdir -p "$last/bin"
cat >"$last/bin/python" <<'END'
#!/bin/sh
case "$*" in *version_info*) echo 3.12; exit 0;; *import*) exit 0;; *compile_kernels*) exit 0;; esac
echo "$@" >>pip-calls
[ "${PIP_RC:-0}" = 0 ] || { echo "ERROR: no route to the index"; exit "$PIP_RC"; }
END
chmod +x "$last/bin/python"
"""


@pytest.fixture
def bare(tmp_path):
    """A checkout without .venv, and a PATH whose only Pythons are stubs that the test writes."""

    class Bare:
        folder = tmp_path / "a clone"
        path = tmp_path / "bin"

        def stub(self, command, body):
            file = self.path / command
            file.write_text(f"#!/bin/sh\n{body}", encoding="utf-8")
            file.chmod(0o755)
            return file

        def python(self, command, version="3.12", runs=True, venv=True):
            return self.stub(
                command, VERSION.format(version, int(not runs), int(not venv)) + MAKES_VENV
            )

        def setup(self, *make, **variables):
            environment = {"PATH": str(self.path), "HOME": "/nonexistent", **variables}
            command = [shutil.which("make"), "--no-print-directory", *(make or ["setup"])]
            return subprocess.run(
                command,
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
            )

        @property
        def stamp(self):
            return self.folder / ".venv" / ".stamp"

        @property
        def calls(self):
            file = self.folder / "pip-calls"
            return file.read_text(encoding="utf-8").splitlines() if file.exists() else []

    it = Bare()
    it.path.mkdir()
    for file in (
        "Makefile",
        *LOCKS,
        "tools/setup.sh",
        "tools/run.sh",
    ):
        (it.folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, it.folder / file)
    for tool in (
        "sh",
        "cat",
        "cksum",
        "dirname",
        "grep",
        "tail",
        "head",
        "mkdir",
        "chmod",
        "rm",
        "cp",
        "ls",
        "wc",
        "sed",
        "expand",
        "basename",
    ):
        (it.path / tool).symlink_to(shutil.which(tool))
    return it


def one_message(result, bare, *words):
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(lines) == 2, result.stderr
    assert lines[0].startswith("set-up: ")
    assert lines[1].startswith("  To mend it: ")
    for word in words:
        assert word in result.stderr, result.stderr
    assert not bare.stamp.exists()


def test_no_python_at_all(bare):
    one_message(
        bare.setup(),
        bare,
        "no Python 3.11, 3.12 or 3.13 runs here",
        "PYTHON=/path/to/python3.12 make setup",
    )


def test_a_python_that_fails_is_passed_over(bare):
    bare.stub("python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127\n")
    bare.python("python3.11", "3.11")
    result = bare.setup()
    assert result.returncode == 0, result.stderr
    assert "python3.11 (Python 3.11)" in result.stdout
    assert result.stderr == ""


def test_too_old_and_too_new_are_passed_over(bare):
    bare.python("python3", "3.9", runs=False)
    bare.python("python", "3.14", runs=False)
    one_message(bare.setup(), bare, "no Python 3.11, 3.12 or 3.13")


def test_a_named_python_that_is_too_old(bare):
    old = bare.python("old", "3.9", runs=False)
    bare.python("python3.12")
    one_message(
        bare.setup(PYTHON=str(old)),
        bare,
        f"PYTHON={old} is Python 3.9; 3.11, 3.12 or 3.13 is needed",
    )


@pytest.mark.parametrize("broken", [True, False])
def test_a_named_python_that_does_not_run(bare, broken):
    bare.python("python3.12")
    named = bare.stub("broken", "exit 1\n") if broken else bare.path / "not there"
    one_message(bare.setup(PYTHON=str(named)), bare, f"PYTHON={named} is no Python that runs")


@pytest.mark.parametrize("named", [True, False])
def test_a_missing_venv_module(bare, named):
    stub = bare.python("python3.12", venv=False)
    one_message(
        bare.setup(**({"PYTHON": str(stub)} if named else {})),
        bare,
        "no venv module",
        "apt-get install python3.12-venv",
    )


def test_a_python_without_venv_is_passed_over(bare):
    bare.python("python3.13", "3.13", venv=False)
    bare.python("python3.11", "3.11")
    assert "set-up: python3.11 (Python 3.11)" in bare.setup().stdout


def test_a_failing_install(bare):
    bare.python("python3.12")
    one_message(
        bare.setup(PIP_RC="1"),
        bare,
        "ERROR: no route to the index",
        "make setup",
        ".venv/setup.log",
    )
    assert len(bare.calls) == 1
    assert bare.setup().returncode == 0  # and the next call tries again
    assert bare.stamp.exists()


def test_setup_once_and_again_when_a_lock_changes(bare):
    bare.python("python3.12")
    assert bare.setup().returncode == 0
    calls = bare.calls
    assert [
        "--require-hashes --no-deps -r requirements.lock" in calls[0],
        "--ignore-requires-python" in calls[1],
    ] == [True, True]
    assert "--editable ." in calls[2]
    again = bare.setup()
    assert (again.returncode, again.stdout, bare.calls) == (0, "", calls)
    for path in (
        bare.folder / "requirements.lock",
        bare.folder / "Makefile",
    ):  # a checkout's new times are no change
        os.utime(path)
    bare.setup()
    assert bare.calls == calls
    for file in ("requirements.lock", "innvestigate.lock"):
        with (bare.folder / file).open("a", encoding="utf-8") as lock:
            lock.write("# changed\n")
        before = len(bare.calls)
        bare.setup()
        assert len(bare.calls) == before + 3, file


def test_setup_for_a_gpu_takes_its_own_lock_and_stays_so(bare):
    bare.python("python3.12")
    assert bare.setup(GPU="1").returncode == 0
    calls = bare.calls
    assert len(calls) == 2
    assert "--require-hashes --no-deps -r requirements-gpu.lock" in calls[0]
    assert "--editable ." in calls[1]
    assert bare.setup().returncode == 0  # another target, without the variable
    assert bare.calls == calls
    with (bare.folder / "requirements-gpu.lock").open("a", encoding="utf-8") as lock:
        lock.write("# changed\n")
    bare.setup()
    assert "-r requirements-gpu.lock" in bare.calls[2]


def test_a_setup_for_a_gpu_that_was_cut_short_goes_on_as_it_began(bare):
    bare.python("python3.12")
    result = bare.setup(GPU="1", PIP_RC="1")
    one_message(result, bare, "13 GB of free disk", "make setup GPU=1")
    bare.setup()
    assert "-r requirements-gpu.lock" in bare.calls[1]


@pytest.mark.parametrize(("before", "after"), [("0", "1"), ("1", "0")])
def test_another_kind_of_setup_begins_anew(bare, before, after):
    bare.python("python3.12")
    bare.setup(GPU=before)
    of_the_other_kind = bare.folder / ".venv" / "a package"
    of_the_other_kind.touch()
    bare.setup(GPU=before)
    assert of_the_other_kind.exists()
    assert bare.setup(GPU=after).returncode == 0
    assert not of_the_other_kind.exists()


def test_a_kind_of_setup_that_there_is_not(bare):
    bare.python("python3.12")
    one_message(bare.setup(GPU="yes"), bare, "GPU=yes is neither 1 nor 0")


def test_a_changed_lock_that_does_not_install_is_tried_again(bare):
    bare.python("python3.12")
    bare.setup()
    (bare.folder / "requirements.lock").write_text("changed", encoding="utf-8")
    one_message(bare.setup(PIP_RC="1"), bare, "pip could not install")


def test_an_interrupted_setup_goes_on_with_its_own_python(bare):
    bare.python("python3.12")
    bare.setup(PIP_RC="1")
    marker = bare.folder / ".venv" / "downloaded"
    marker.touch()
    bare.python("python3.13", "3.13")
    assert ".venv/bin/python (Python 3.12)" in bare.setup().stdout
    assert marker.exists()
    bare.stamp.unlink()
    assert (
        bare.setup(PYTHON=str(bare.path / "python3.13")).returncode == 0
    )  # another version asked for: all of it anew
    assert not marker.exists()


def test_a_moved_checkout_is_set_up_anew(bare):
    bare.python("python3.12")
    bare.setup()
    before = len(bare.calls)
    bare.folder = bare.folder.rename(bare.folder.with_name("another place"))
    assert bare.setup().returncode == 0
    assert len(bare.calls) == before + 3


# The Makefile


def test_make_alone_lists_the_targets(bare):
    listed = bare.setup("help").stdout
    assert listed == bare.setup("--").stdout
    for target in (
        "setup",
        "test",
        "test-long",
        "figures",
        "run",
        "lab",
        "lint",
        "clean",
        "proof-generalisation",
    ):
        assert f"make {target} " in listed


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({}, "COHORT is empty"),
        ({"COHORT": "data/x", "PROFILE": "dmeo"}, "smoke, demo or paper"),
        ({"COHORT": "x", "SCHEDULER": "pbs"}, "local or"),
    ],
)
def test_make_run_refuses_before_any_work(bare, variables, word):
    (bare.folder / "workflow").mkdir()
    (bare.folder / "workflow/demo.yaml").touch()
    result = bare.setup("run", **variables)
    assert result.returncode != 0
    assert word in result.stderr
    assert (
        len([line for line in result.stderr.splitlines() if not line.startswith("make: ***")]) == 1
    )
    assert not (bare.folder / ".venv").exists()


def test_make_run_keeps_to_its_own_folder(bare):
    """Another cohort's results never go where the demo's are, and no figure is copied.

    A stub in the place of Snakemake prints what it is called with.
    """
    for folder in ("workflow/local", ".venv/bin"):
        (bare.folder / folder).mkdir(parents=True)
    (bare.folder / "workflow/demo.yaml").touch()
    bare.python("python3.12")
    assert bare.setup().returncode == 0
    snakemake = bare.folder / ".venv/bin/snakemake"
    snakemake.write_text('#!/bin/sh\nfor word; do echo "[$word]"; done\n', encoding="utf-8")
    snakemake.chmod(0o755)
    for tool in ("cohort_options.py", "run_alone.py", "end_message.py"):
        shutil.copy(ROOT / "tools" / tool, bare.folder / "tools" / tool)
    python = bare.folder / ".venv/bin/python"
    python.unlink(missing_ok=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    called = bare.setup("run", COHORT="data/my study/", PATIENTS="RR MS", HOLDOUT="0.2,0.2").stdout
    file = "runs/my study-demo/cohort.yaml"
    for word in ("workflow/demo.yaml", file):
        assert f"[{word}]" in called
    assert yaml.safe_load((bare.folder / file).read_text(encoding="utf-8")) == {
        "cohort": "data/my study",
        "results": "runs/my study-demo",
        "patients": "RR MS",
        "holdout": [0.2, 0.2],
        "01_data_preparation": {"jobs": 2},
        "01b_lesion_filling": {"jobs": 2},
    }
    assert not (bare.folder / "figures").exists()
    with (bare.folder / "runs/my study-demo/.lock").open() as lock:  # as a run at work has it
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = bare.setup("run", COHORT="data/my study/", PATIENTS="PPMS")
    assert "found a run at work" in second.stderr
    assert "PPMS" not in (bare.folder / file).read_text(encoding="utf-8")
    other = bare.setup("run", COHORT="other/my study")
    assert "found results of the cohort data/my study" in other.stderr
    assert "make: ***" in other.stderr
    elsewhere = bare.setup("run", "RESULTS=runs/it's other/", COHORT="other/my study").stdout
    assert "[runs/it's other/cohort.yaml]" in elsewhere
    options = yaml.safe_load((bare.folder / "runs/it's other/cohort.yaml").read_text())
    assert options["results"] == "runs/it's other"


# Notebooks


def test_there_are_notebooks():
    assert [path.stem.split("_")[0] for path in SCRIPTS] == [
        "01",
        "01b",
        "02",
        "03",
        "04",
        "05",
        "06",
        "07",
        "08",
        "09",
        "10",
        "11",
    ]


def test_a_wheel_holds_the_notebooks_that_commands_run():
    """By links in the package, which the build follows."""
    folder = ROOT / "msxai" / "command_line" / "notebooks"
    links = sorted(path.name for path in folder.iterdir())
    assert links == [f"{notebook}.ipynb" for notebook in OF_COMMANDS]
    for name in links:
        assert (folder / name).resolve() == ROOT / "notebooks" / name
    assert "notebooks/*.ipynb" in SETUPTOOLS["package-data"]["*"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_pair_is_one(script):
    pair = script.with_suffix(".ipynb")
    assert pair.is_file(), "make pairs"
    text, notebook = jupytext.read(script), jupytext.read(pair)
    cells = [
        [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in source.cells]
        for source in (text, notebook)
    ]
    assert cells[0] == cells[1], "after an edit of the .py: make pairs"
    for cell in notebook.cells:
        assert not cell.get("outputs"), f"{pair.name} has outputs: nbstripout {pair}"
        assert cell.get("execution_count") is None
    assert "language_info" not in notebook.metadata, (
        "a kernel's version does not belong into the repository: nbstripout"
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_is_calls_in_short_cells(script):
    cells = [cell for cell in jupytext.read(script).cells if cell.cell_type == "code"]
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for cell in cells:
        nodes = list(ast.walk(ast.parse(cell.source)))
        assert not any(
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda)
            for node in nodes
        ), cell.source
        texts = [
            node.value
            for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        assert not [text for text in texts if re.match(r"(/|~|[A-Za-z]:[\\/])\S", text)], (
            cell.source
        )
        assert cell in tagged or len(cell.source.splitlines()) <= 15, cell.source
    assert not any(
        isinstance(node, ast.Assign) for node in ast.parse(tagged[0].source).body
    )  # each parameter is annotated
