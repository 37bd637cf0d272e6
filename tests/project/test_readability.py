"""What keeps the code readable: linters, boxes, limits of tools/readability.py, the public face."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import msxai
from msxai import lrp

ROOT = Path(msxai.ROOT)
BIN = Path(sys.executable).parent
MODULES = sorted((ROOT / "msxai").rglob("*.py"))
SOURCES = [
    *MODULES,
    *(ROOT / "conftest.py", ROOT / "workflow" / "Snakefile"),
    *(
        path
        for folder in ("benchmarks", "notebooks", "tests", "tools")
        for path in (ROOT / folder).rglob("*.py")
    ),
]


def short(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "--output-format=concise", "."),
        ("ruff", "format", "--check", "."),
        ("lint-imports",),
        ("python", "tools/readability.py"),
    ],
    ids=" ".join,
)
def test_a_linter(command):
    """`make lint` runs the same four."""
    result = subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_format_has_no_exception():
    switched_off = re.compile(r"#\s*fmt: *(skip|off)")
    lines = [
        f"{short(path)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if switched_off.search(line)
    ]
    assert not lines


def test_exceptions_from_the_linters_stand_in_one_list_with_reasons():
    """No `noqa` in the package; in pyproject.toml each exception has a comment above or behind."""
    assert not [short(path) for path in MODULES if "noqa" in path.read_text(encoding="utf-8")]
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.split("[tool.ruff.lint.per-file-ignores]\n")[1].split("\n[")[0]
    entries = re.findall(r"((?:^#.*\n)*)^(\S+ = \[[^\]]*\])(.*)$", section, re.MULTILINE)
    assert entries
    for above, entry, behind in entries:
        assert above or "#" in behind, f"{entry}: expected a comment that gives the reason"


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_a_module_says_what_is_public(path):
    """`__all__` names what the module has and documents; a module of a docstring alone has none."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if len(tree.body) == 1 and ast.get_docstring(tree) is not None:
        return
    stored = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    assert "__all__" in stored, f"{short(path)}: expected __all__, a list of its public names"
    if short(path) == "msxai/lrp/innvestigate.py":
        return  # imports Keras 2, in a process of its own
    name = short(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    module = importlib.import_module(name)
    for public in module.__all__:
        assert not public.startswith("_"), public
        value = getattr(module, public)
        if inspect.isfunction(value) or inspect.isclass(value):
            assert inspect.getdoc(value), f"{name}.{public}: expected a docstring"


def face():
    """What a reader meets first: all of `msxai`, and the functions of `msxai.lrp`."""
    values = {f"msxai.{name}": getattr(msxai, name) for name in msxai.__all__}
    values |= {f"msxai.lrp.{name}": getattr(lrp, name) for name in lrp.__all__}
    return [
        pytest.param(value, id=name)
        for name, value in values.items()
        if inspect.isfunction(value) or (inspect.isclass(value) and name.count(".") == 1)
    ]


@pytest.mark.parametrize("value", face())
def test_a_name_of_the_face_has_an_example(value):
    """Examples run as tests, because pyproject.toml's pytest part says --doctest-modules."""
    texts = [inspect.getdoc(value) or ""]
    if inspect.isclass(value):
        methods = inspect.getmembers(value, inspect.isfunction)
        texts += [inspect.getdoc(method) or "" for _, method in methods]
    assert any(">>>" in text for text in texts)


def test_readability_measures_what_it_says(tmp_path):
    """A line counts with a token that is no comment or docstring, without its indentation."""
    from support.scripts import script

    readability = script("readability", folder="tools")
    path = tmp_path / "a.py"
    path.write_text(
        '"""Doc.\n\nMore."""\n\n# comment\nx = """a\nb"""\n\n\ndef f(found):\n    """Doc."""\n'
        "    return (\n        1  # one\n    )\n",
        encoding="utf-8",
    )
    module = readability.measure(path)
    assert module.lines == 6
    assert module.characters == len('x = """ab"""def f(found):return (1  # one)')
    assert module.statements == 5
    assert module.vague == ["10: found"]
