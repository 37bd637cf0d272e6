"""Plants faults in the package, one at a time, and sees whether the tests of the same box fail.

Usage: python tools/mutants.py [--boxes base,lrp] [--faults 8] [--seed 0] [--jobs 2] [--write]

A fault is one changed expression on one line: a flipped sign or comparison, another axis, a changed
number, a call left out, ... . Faults are drawn among the lines that the tests of the box run, the
same ones for the same code and seed. Each is planted in a copy of the checkout, where the quick
tests of its box (`make test BOX=...`) run until the first failure. A run that takes too long
counts as killed: the fault made an endless loop.

With --write: benchmarks/mutants.tsv (one row a fault) and benchmarks/mutants.json (commit,
versions, share killed). In the table a person fills the column `equivalent` of a survivor that
changes no behaviour, with the reason; the next run keeps it. Exits with 1 where fewer than 95 % of
the others are killed.
"""

import argparse
import ast
import copy
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOXES = ("base", "data", "regions", "model", "lrp", "evaluation", "quality", "report")
COPIED = (
    *("msxai", "tests", "benchmarks", "notebooks", "workflow", "tools", "docs"),
    *("figures", ".ci", "conftest.py", "pyproject.toml", "jupytext.toml", "Makefile"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE"),
    *("environment.yml", "requirements.lock", "innvestigate.lock", "mkdocs.yml"),
)
KILLED = 0.95
COLUMNS = ("box", "module", "line", "kind", "before", "after", "outcome", "seconds", "equivalent")

# A plugin of pytest that writes the lines of the box which the tests run.
TRACER = """
import atexit, os, sys, threading
folder, output = os.environ["TRACED_FOLDER"], os.environ["TRACED_OUTPUT"]
lines = set()
def local(frame, event, argument):
    if event == "line":
        lines.add((frame.f_code.co_filename, frame.f_lineno))
    return local
def start(frame, event, argument):
    return local if frame.f_code.co_filename.startswith(folder) else None
sys.settrace(start)
threading.settrace(start)
def write():
    sys.settrace(None)
    with open(output, "w", encoding="utf-8") as file:
        for name, line in sorted(lines):
            file.write(f"{line}\\t{name}\\n")
atexit.register(write)
"""


@dataclass(frozen=True)
class Fault:
    """A change of one expression on one line.

    `start` and `end` are columns (bytes) of the line; the text between them becomes `after`.
    """

    module: str
    line: int
    start: int
    end: int
    kind: str
    before: str
    after: str
    outcome: str = ""
    seconds: float = 0.0

    @property
    def box(self) -> str:
        """The folder of msxai that the module lies in."""
        return self.module.split("/")[1]


# What may be planted

_COMPARISONS = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_COUNTERPARTS = {
    "min": "max",
    "max": "min",
    "argmin": "argmax",
    "argmax": "argmin",
    "minimum": "maximum",
    "maximum": "minimum",
    "any": "all",
    "all": "any",
    "floor": "ceil",
    "ceil": "floor",
    "mean": "sum",
    "sum": "mean",
    "median": "max",
    "cumsum": "cumprod",
    "ones": "zeros",
    "zeros": "ones",
    "startswith": "endswith",
    "endswith": "startswith",
}
_LEFT_OUT = ("abs", "sqrt", "sorted", "log", "exp", "reversed", "copy", "flip", "sign", "unique")


def changes(node) -> list[tuple[str, ast.AST]]:
    """Return (kind, changed node) for each fault that a node allows."""
    name = f"_{type(node).__name__.lower()}"
    change = globals().get(name)
    return change(node) if change else []


def _compare(node):
    operator = type(node.ops[0])
    if len(node.ops) > 1 or operator not in _COMPARISONS:
        return []
    return [("comparison", _with(node, ops=[_COMPARISONS[operator]()]))]


def _binop(node):
    operator = type(node.op)
    if operator not in _OPERATORS or _is_text(node.left) or _is_text(node.right):
        return []
    faults = [("operator", _with(node, op=_OPERATORS[operator]()))]
    if isinstance(node.op, ast.Sub | ast.Div):
        faults.append(("swapped operands", _with(node, left=node.right, right=node.left)))
    return faults


def _unaryop(node):
    if isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        kind = "sign" if isinstance(node.op, ast.USub) else "negation"
        return [(kind, node.operand)]
    return []


def _boolop(node):
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    return [("and, or", _with(node, op=other))]


def _ifexp(node):
    return [("swapped branches", _with(node, body=node.orelse, orelse=node.body))]


def _constant(node):
    value = node.value
    if isinstance(value, bool):
        return [("constant", ast.Constant(not value))]
    if isinstance(value, int):
        return [("constant", ast.Constant(value + 1))]
    if isinstance(value, float):
        return [("constant", ast.Constant(2 * value if value else 1.0))]
    return []


def _call(node):
    faults = _axis(node)
    function = node.func
    name = getattr(function, "attr", getattr(function, "id", ""))
    if name in _COUNTERPARTS and isinstance(function, ast.Attribute):
        changed = _with(function, attr=_COUNTERPARTS[name])
        faults.append(("other function", _with(node, func=changed)))
    if name in _LEFT_OUT and len(node.args) == 1:
        faults.append(("call left out", node.args[0]))
    positions = node.args
    if len(positions) == 2 and all(isinstance(argument, ast.Name) for argument in positions):
        faults.append(("swapped arguments", _with(node, args=positions[::-1])))
    return faults


def _axis(node):
    """Another axis in the place of ``axis=1``."""
    faults = []
    for index, keyword in enumerate(node.keywords):
        value = keyword.value
        if keyword.arg == "axis" and isinstance(value, ast.Constant) and value.value is not None:
            other = ast.Constant(0 if value.value else 1)
            keywords = list(node.keywords)
            keywords[index] = ast.keyword("axis", other)
            faults.append(("axis", _with(node, keywords=keywords)))
    return faults


def _attribute(node):
    return [("not transposed", node.value)] if node.attr == "T" else []


def _expr(node):
    """A statement that is a call is left out."""
    if isinstance(node.value, ast.Call):
        return [("statement left out", ast.Constant(None))]
    return []


def _is_text(node) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def _with(node, **fields):
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


# Which are planted


def faults_of(path: Path, lines: set[int] | None = None) -> list[Fault]:
    """Return the faults that a module allows, on the given lines or on all."""
    text = path.read_text(encoding="utf-8")
    rows = text.splitlines()
    faults = []
    for node in _nodes(ast.parse(text)):
        if node.lineno != node.end_lineno or (lines is not None and node.lineno not in lines):
            continue
        start, end = node.col_offset, node.end_col_offset
        row = rows[node.lineno - 1].encode()
        for kind, changed in changes(node):
            fault = Fault(
                module=_module(path),
                line=node.lineno,
                start=start,
                end=end,
                kind=kind,
                before=row[start:end].decode(),
                after=_written(changed),
            )
            if _is_another_program(fault):
                faults.append(fault)
    return faults


def _module(path: Path) -> str:
    """Return a module's path in its checkout, from the last folder msxai on."""
    parts = path.parts
    last = len(parts) - 1 - parts[::-1].index("msxai")
    return "/".join(parts[last:])


def _written(node) -> str:
    simple = isinstance(node, ast.Constant | ast.Name | ast.Call | ast.Attribute | ast.Subscript)
    text = ast.unparse(node)
    return text if simple else f"({text})"


def _nodes(node):
    """Yield the nodes in which a fault may lie: no annotations, decorators, errors, texts."""
    skipped = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.Assert)
    if isinstance(node, skipped) or _declares_names(node):
        return
    if hasattr(node, "lineno"):
        yield node
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        children = value if isinstance(value, list) else [value]
        for child in children:
            if isinstance(child, ast.AST):
                yield from _nodes(child)


def _declares_names(node) -> bool:
    """Whether a statement is ``__all__ = ...``."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def _is_another_program(fault: Fault) -> bool:
    """Whether the changed text is Python, and not the same but for parentheses."""
    try:
        before, after = ast.parse(fault.before), ast.parse(fault.after)
    except SyntaxError:
        return False
    return ast.dump(before) != ast.dump(after)


def planted(text: str, fault: Fault) -> str:
    """Return the module's text with the fault."""
    rows = text.splitlines(keepends=True)
    row = rows[fault.line - 1].encode()
    changed = row[: fault.start] + fault.after.encode() + row[fault.end :]
    rows[fault.line - 1] = changed.decode()
    return "".join(rows)


def drawn(faults: list[Fault], number: int, seed: int) -> list[Fault]:
    """Draw faults: kinds and modules in turn, no line twice."""
    generator = random.Random(seed)
    remaining = list(faults)
    generator.shuffle(remaining)
    chosen = []
    while remaining and len(chosen) < number:
        kinds = [fault.kind for fault in chosen]
        modules = [fault.module for fault in chosen]
        fault = min(remaining, key=lambda each: kinds.count(each.kind) + modules.count(each.module))
        chosen.append(fault)
        remaining = [
            other for other in remaining if (other.module, other.line) != (fault.module, fault.line)
        ]
    return chosen


# Running the tests


class Checkout:
    """A copy of the checkout in which faults are planted."""

    def __init__(self, folder: Path):
        self.folder = folder / "checkout"
        self.folder.mkdir(parents=True)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.folder / name)  # with numba's compiled kernels
            elif source.is_file():
                shutil.copy2(source, self.folder / name)
        shared = ROOT.parent / "shared"  # the real scans, where they are
        if shared.is_dir():
            (folder / "shared").symlink_to(shared)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, box: str, first=(), limit=None, **variables):
        """Run the quick tests of a box, up to the first failure; return the status and the text."""
        tests = [*first, f"tests/{box}", f"msxai/{box}"]
        options = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not long", "--tb=line"]
        if variables:
            options += ["-p", "tracer"]
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *tests],
            cwd=self.folder,
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.communicate()
            return None, ""
        return process.returncode, output


def lines_that_run(checkout: Checkout, box: str) -> tuple[dict[str, set[int]], float]:
    """Run the tests of a box without a fault; return the lines by module, and the seconds."""
    tracer = checkout.folder / "tracer.py"
    tracer.write_text(TRACER, encoding="utf-8")
    output = checkout.folder / "lines.tsv"
    folder = checkout.folder / "msxai" / box
    start = time.monotonic()
    status, text = checkout.run(box, TRACED_FOLDER=str(folder), TRACED_OUTPUT=str(output))
    seconds = time.monotonic() - start
    if status != 0:
        sys.exit(f"tests/{box} fail without any fault:\n{text[-3000:]}")
    lines: dict[str, set[int]] = {}
    for row in output.read_text(encoding="utf-8").splitlines():
        number, name = row.split("\t")
        module = Path(name).relative_to(checkout.folder).as_posix()
        lines.setdefault(module, set()).add(int(number))
    for path in folder.rglob("*.py"):
        module = path.relative_to(checkout.folder).as_posix()
        lines.setdefault(module, set()).update(_compiled_lines(path))
    return lines, seconds


def _compiled_lines(path: Path) -> set[int]:
    """Return the lines of numba's functions, which run where no tracer sees them."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        decorators = getattr(node, "decorator_list", [])
        if any("njit" in ast.unparse(decorator) for decorator in decorators):
            lines |= set(range(node.lineno, node.end_lineno + 1))
    return lines


def judge(fault: Fault, checkout: Checkout, limit: float) -> Fault:
    """Plant a fault, run the tests of its box, take the fault out again."""
    path = checkout.folder / fault.module
    text = path.read_text(encoding="utf-8")
    times = path.stat()
    name = Path(fault.module).stem
    nearest = checkout.folder / "tests" / fault.box / f"test_{name}.py"
    first = [f"tests/{fault.box}/{nearest.name}"] if nearest.is_file() else []
    path.write_text(planted(text, fault), encoding="utf-8")
    start = time.monotonic()
    try:
        status, output = checkout.run(fault.box, first, limit)
    finally:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    seconds = round(time.monotonic() - start, 1)
    if status == 0:
        return replace(fault, outcome="survived", seconds=seconds)
    if status is None:
        return replace(fault, outcome="killed: time", seconds=seconds)
    failure = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    where = failure[1] if failure else "start of the tests"
    return replace(fault, outcome=f"killed: {where}", seconds=seconds)


def judged(boxes, number: int, seed: int, jobs: int, folder: Path) -> list[Fault]:
    """Draw faults of each box and judge them, `jobs` at a time, each in a copy of its own."""
    checkouts: queue.Queue = queue.Queue()
    for job in range(jobs):
        checkouts.put(Checkout(folder / str(job)))

    def job_of(fault, limit):
        checkout = checkouts.get()
        try:
            result = judge(fault, checkout, limit)
        finally:
            checkouts.put(checkout)
        print(f"{result.outcome:40}  {result.module}:{result.line}  ", end="")
        print(f"{result.before}  ->  {result.after}", flush=True)
        return result

    results = []
    for box in boxes:
        checkout = checkouts.get()
        lines, seconds = lines_that_run(checkout, box)
        checkouts.put(checkout)
        faults = []
        for module, numbers in sorted(lines.items()):
            faults += faults_of(checkout.folder / module, numbers)
        limit = 120 + 4 * seconds  # compiled kernels are compiled anew
        chosen = drawn(faults, number, seed)
        print(
            f"{box}: {len(chosen)} of {len(faults)} faults, tests take {seconds:.0f} s", flush=True
        )
        with ThreadPoolExecutor(jobs) as pool:
            results += pool.map(job_of, chosen, [limit] * len(chosen))
    return results


def reasons(table: Path) -> dict[tuple, str]:
    """Return why survivors are equivalent, as a person has written it into the table."""
    import csv

    if not table.is_file():
        return {}
    with table.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {(row["module"], row["before"], row["after"]): row["equivalent"] for row in rows}


def main(arguments=None) -> int:
    """Judge faults, print them, and return 1 where too few are killed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--boxes", default=",".join(BOXES))
    parser.add_argument("--faults", type=int, default=8, help="how many in each box")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="benchmarks/mutants.tsv and .json")
    options = parser.parse_args(arguments)
    boxes = options.boxes.split(",")
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        results = judged(boxes, options.faults, options.seed, options.jobs, Path(folder))
    table = ROOT / "benchmarks" / "mutants.tsv"
    equivalent = reasons(table)
    rows = []
    for fault in results:
        reason = equivalent.get((fault.module, fault.before, fault.after), "n/a")
        fields = {name: getattr(fault, name) for name in COLUMNS[:-1]}
        rows.append({**fields, "equivalent": reason})
    counted = [row for row in rows if row["outcome"] != "survived" or row["equivalent"] == "n/a"]
    killed = sum(row["outcome"] != "survived" for row in counted)
    print(f"{killed} of {len(counted)} faults killed; ", end="")
    print(f"{len(rows) - len(counted)} survivors change no behaviour")
    if options.write:
        _write(table, rows, options, killed, len(counted))
    return int(killed < KILLED * len(counted))


def _write(table: Path, rows: list[dict], options, killed: int, counted: int) -> None:
    """Write the table and its record."""
    import pandas as pd

    from msxai.base import provenance, tsv

    tsv.write(pd.DataFrame(rows, columns=list(COLUMNS)), table)
    settings = {"boxes": options.boxes, "faults": options.faults, "seed": options.seed}
    record = provenance.record(settings, outputs=[table], killed=killed, faults=counted)
    provenance.write_json(table.with_suffix(".json"), record)


if __name__ == "__main__":
    sys.exit(main())
