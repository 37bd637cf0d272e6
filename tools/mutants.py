"""Plants faults in the package, one at a time, and sees whether the tests of the same box fail.

Usage: python tools/mutants.py [--boxes base,lrp] [--faults 8] [--seed 0] [--jobs 2] [--write]
       python tools/mutants.py --again [--write]      (only those that survived, by the table)

A fault is one changed expression on one line: a flipped sign or comparison, another axis, a changed
number, a call left out, ... . Faults are drawn among the lines that the tests of the box run, the
same ones for the same code, tests and seed. Each is planted alone in a copy of the checkout. There
the quick tests of its box (`make test BOX=...`) run until the first failure, in two steps: first
the test files named for the module, and its examples; then all other files that run the line. A
line that runs at import or is compiled by numba concerns all files of the box. Files that do not
run the line are left out, because they cannot fail. A run that takes too long counts as killed: the
fault made an endless loop.

With --write: benchmarks/mutants.tsv (one row a fault, with the commit in which it was judged; rows
of boxes that are not in --boxes stay) and benchmarks/mutants.json (versions, counts by box). In the
table a person fills the column `equivalent` of a survivor that changes no behaviour, with the
reason; the next run keeps it. Exits with 1 where fewer than 95 % of the others are killed.
"""

import argparse
import ast
import copy
import csv
import json
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
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOXES = ("base", "data", "regions", "model", "lrp", "evaluation", "quality", "report")
COPIED = (
    *("msxai", "tests", "benchmarks", "notebooks", "workflow", "tools", "docs"),
    *("figures", ".ci", "conftest.py", "pyproject.toml", "jupytext.toml", "Makefile"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE"),
    *("environment.yml", "requirements.lock", "requirements-gpu.lock", "innvestigate.lock"),
    "mkdocs.yml",
)
KILLED = 0.95
PASSED, NO_TESTS = 0, 5  # statuses of pytest
COLUMNS = (
    *("box", "module", "line", "kind", "before", "after"),
    *("at_first", "outcome", "seconds", "commit", "equivalent"),
)

# A plugin of pytest that writes which test file runs which lines of a folder, and how long each
# file takes. A function whose lines have all run is traced no longer until the next file.
TRACER = """
import atexit, collections, json, os, sys, threading
folder, output = os.environ["TRACED_FOLDER"], os.environ["TRACED_OUTPUT"]
lines = collections.defaultdict(set)
seconds = collections.defaultdict(float)
unseen = {}
file = ""
def local(frame, event, argument):
    if event == "line":
        remaining = unseen[frame.f_code]
        remaining.discard(frame.f_lineno)
        lines[file].add((frame.f_code.co_filename, frame.f_lineno))
        if not remaining:
            frame.f_trace_lines = False
    return local
def start(frame, event, argument):
    code = frame.f_code
    if not (code.co_filename.startswith(folder) and code.co_filename.endswith(".py")):
        return None  # a template of jinja runs under its own name
    if code not in unseen:
        numbers = {line for _, _, line in code.co_lines() if line}
        head = {code.co_firstlineno}  # the line of def has no event
        unseen[code] = numbers - head or numbers
    return local if unseen[code] else None
def pytest_runtest_logstart(nodeid, location):
    global file
    if nodeid.split("::")[0] != file:
        file = nodeid.split("::")[0]
        unseen.clear()
def pytest_runtest_logreport(report):
    seconds[report.nodeid.split("::")[0]] += report.duration
sys.settrace(start)
threading.settrace(start)
def write():
    sys.settrace(None)
    traced = {name: sorted(numbers) for name, numbers in lines.items()}
    with open(output, "w", encoding="utf-8") as stream:
        json.dump({"lines": traced, "seconds": seconds}, stream)
atexit.register(write)
"""


@dataclass(frozen=True)
class Fault:
    """A change of one expression on one line.

    `start` and `end` are columns (bytes) of the line; the text between them becomes `after`.
    `commit` is the checkout in which the fault was judged. `at_first` is "killed" or "survived", as
    it was before a test was added for a survivor.
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
    commit: str = ""
    at_first: str = ""

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


def _commit() -> str:
    """Return the short name of the commit that is checked out, or "unknown"."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stdout.strip() or "unknown"


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
        self.commit = _commit()
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, tests: list[str], limit=None, **variables):
        """Run quick tests, up to the first failure; return the status and the text."""
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


@dataclass(frozen=True)
class BoxTests:
    """The quick tests of a box as they run without a fault.

    `seconds` has the duration of each file; `lines` has, for each file, the lines of the box that
    it runs, as (module, line). Lines that run at import have the file "".
    """

    box: str
    seconds: dict[str, float]
    lines: dict[str, set[tuple[str, int]]]

    def faults(self, checkout: Checkout) -> list[Fault]:
        """Return what may be planted: faults on lines that run."""
        running: dict[str, set[int]] = {}
        for pairs in self.lines.values():
            for module, line in pairs:
                running.setdefault(module, set()).add(line)
        for path in (checkout.folder / "msxai" / self.box).rglob("*.py"):
            module = path.relative_to(checkout.folder).as_posix()
            running.setdefault(module, set()).update(_compiled_lines(path))
        faults = []
        for module, numbers in sorted(running.items()):
            faults += faults_of(checkout.folder / module, numbers)
        return faults

    def steps(self, fault: Fault) -> list[list[str]]:
        """Return the files in the order in which a fault meets them, the nearest first."""
        stem = Path(fault.module).stem
        files = sorted(self.seconds, key=self.seconds.get)
        named = [file for file in files if Path(file).name.startswith(f"test_{stem}")]
        nearest = [*named, *(file for file in files if file == fault.module)]
        line = (fault.module, fault.line)
        running = [file for file in files if line in self.lines.get(file, ())]
        further = [file for file in running or files if file not in nearest]
        return [step for step in (nearest, further) if step]

    def limit(self, files: list[str]) -> float:
        """Return after how many seconds files hang; compiled kernels are compiled anew."""
        return 120 + 4 * sum(self.seconds[file] for file in files)


def tests_of(checkout: Checkout, box: str) -> BoxTests:
    """Run the quick tests of a box without a fault."""
    tracer = checkout.folder / "tracer.py"
    tracer.write_text(TRACER, encoding="utf-8")
    output = checkout.folder / "traced.json"
    folder = checkout.folder / "msxai" / box
    variables = {"TRACED_FOLDER": f"{folder}{os.sep}", "TRACED_OUTPUT": str(output)}
    status, text = checkout.run([f"tests/{box}", f"msxai/{box}"], **variables)
    if status != 0:
        sys.exit(f"tests/{box} fail without any fault:\n{text[-3000:]}")
    traced = json.loads(output.read_text(encoding="utf-8"))
    lines = {}
    for file, entries in traced["lines"].items():
        pairs = ((Path(name).relative_to(checkout.folder), line) for name, line in entries)
        lines[file] = {(module.as_posix(), line) for module, line in pairs}
    return BoxTests(box=box, seconds=traced["seconds"], lines=lines)


def _compiled_lines(path: Path) -> set[int]:
    """Return the lines of numba's functions, which run where no tracer sees them."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        decorators = getattr(node, "decorator_list", [])
        if any("njit" in ast.unparse(decorator) for decorator in decorators):
            lines |= set(range(node.lineno, node.end_lineno + 1))
    return lines


def judge(fault: Fault, checkout: Checkout, tests: BoxTests) -> Fault:
    """Plant a fault, run the tests of its box, take the fault out again."""
    path = checkout.folder / fault.module
    text = path.read_text(encoding="utf-8")
    times = path.stat()
    path.write_text(planted(text, fault), encoding="utf-8")
    start = time.monotonic()
    outcome = "survived"
    try:
        for files in tests.steps(fault):
            status, output = checkout.run(files, tests.limit(files))
            if status not in (PASSED, NO_TESTS):
                outcome = f"killed: {_failure(status, output)}"
                break
    finally:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    seconds = round(time.monotonic() - start, 1)
    at_first = fault.at_first or outcome.split(":")[0]
    return replace(
        fault, outcome=outcome, seconds=seconds, commit=checkout.commit, at_first=at_first
    )


def _failure(status: int | None, output: str) -> str:
    """Return the test that failed."""
    if status is None:
        return "time"
    failure = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
    return failure[1] if failure else "start of the tests"


class Workers:
    """Copies of the checkout, each of which judges one fault at a time."""

    def __init__(self, jobs: int, folder: Path):
        self.jobs = jobs
        self.free: queue.Queue = queue.Queue()
        for job in range(jobs):
            self.free.put(Checkout(folder / str(job)))

    @contextmanager
    def checkout(self):
        """Give a free copy, and take it back."""
        checkout = self.free.get()
        try:
            yield checkout
        finally:
            self.free.put(checkout)

    def judge(self, faults: list[Fault], tests: BoxTests) -> list[Fault]:
        """Judge faults of one box, print each as it ends."""
        with ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(lambda fault: self._judge(fault, tests), faults))

    def _judge(self, fault: Fault, tests: BoxTests) -> Fault:
        with self.checkout() as checkout:
            result = judge(fault, checkout, tests)
        print(f"{result.outcome:40}  {result.module}:{result.line}  ", end="")
        print(f"{result.before}  ->  {result.after}", flush=True)
        return result


def judged(boxes, number: int, seed: int, jobs: int, folder: Path) -> list[Fault]:
    """Draw faults of each box and judge them, `jobs` at a time, each in a copy of its own."""
    workers = Workers(jobs, folder)
    results = []
    for box in boxes:
        with workers.checkout() as checkout:
            tests = tests_of(checkout, box)
            faults = tests.faults(checkout)
        chosen = drawn(faults, number, seed)
        seconds = sum(tests.seconds.values())
        print(f"{box}: {len(chosen)} of {len(faults)} faults, ", end="")
        print(f"tests take {seconds:.0f} s", flush=True)
        results += workers.judge(chosen, tests)
    return results


def judged_again(rows: list[dict], jobs: int, folder: Path) -> list[Fault]:
    """Judge the survivors among the rows of a table again; return the faults of all rows."""
    workers = Workers(jobs, folder)
    faults = [_of_row(row) for row in rows]
    open_cases = [row["outcome"] == "survived" and row["equivalent"] == "n/a" for row in rows]
    survivors = [fault for fault, is_open in zip(faults, open_cases, strict=True) if is_open]
    results = {}
    for box in dict.fromkeys(fault.box for fault in survivors):
        with workers.checkout() as checkout:
            tests = tests_of(checkout, box)
            today = tests.faults(checkout)
        of_box = [fault for fault in survivors if fault.box == box]
        placed = [replace(_nearest(fault, today), at_first=fault.at_first) for fault in of_box]
        results |= dict(zip(of_box, workers.judge(placed, tests), strict=True))
    return [results.get(fault, fault) for fault in faults]


def _of_row(row: dict) -> Fault:
    """Return the fault that a row of the table describes; its columns are unknown."""
    return Fault(
        module=row["module"],
        line=int(row["line"]),
        start=-1,
        end=-1,
        kind=row["kind"],
        before=row["before"],
        after=row["after"],
        outcome=row["outcome"],
        seconds=float(row["seconds"]),
        commit=row["commit"],
        at_first=row["at_first"],
    )


def _nearest(fault: Fault, faults: list[Fault]) -> Fault:
    """Return the same change in today's code, where lines may have moved."""
    wanted = (fault.module, fault.kind, fault.before, fault.after)
    same = [
        other for other in faults if (other.module, other.kind, other.before, other.after) == wanted
    ]
    if not same:
        sys.exit(f"{fault.module}:{fault.line}: {fault.before} is no longer there. Run all anew.")
    return min(same, key=lambda other: abs(other.line - fault.line))


def rows_of(table: Path) -> list[dict]:
    """Return the rows of an earlier table."""
    if not table.is_file():
        return []
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def reasons(rows: list[dict]) -> dict[tuple, str]:
    """Return why survivors are equivalent, as a person has written it into the table."""
    return {(row["module"], row["before"], row["after"]): row["equivalent"] for row in rows}


def rows_with_reasons(faults: list[Fault], equivalent: dict[tuple, str]) -> list[dict]:
    """Return the rows of the table, box by box."""
    rows = []
    for fault in sorted(faults, key=lambda fault: BOXES.index(fault.box)):
        reason = equivalent.get((fault.module, fault.before, fault.after), "n/a")
        fields = {name: getattr(fault, name) for name in COLUMNS[:-1]}
        rows.append({**fields, "equivalent": reason})
    return rows


def counts(rows: list[dict]) -> dict[str, int]:
    """Count faults that were killed, that survived, and that change no behaviour."""
    survivors = [row for row in rows if row["outcome"] == "survived"]
    equivalent = [row for row in survivors if row["equivalent"] != "n/a"]
    return {
        "faults": len(rows),
        "killed_at_first": sum(row["at_first"] == "killed" for row in rows),
        "killed": len(rows) - len(survivors),
        "survived": len(survivors) - len(equivalent),
        "equivalent": len(equivalent),
    }


def main(arguments=None) -> int:
    """Judge faults, print them, and return 1 where too few are killed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--boxes", default=",".join(BOXES))
    parser.add_argument("--faults", type=int, default=8, help="how many in each box")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="only those that survived")
    parser.add_argument("--write", action="store_true", help="benchmarks/mutants.tsv and .json")
    options = parser.parse_args(arguments)
    boxes = options.boxes.split(",")
    table = ROOT / "benchmarks" / "mutants.tsv"
    earlier = rows_of(table)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        if options.again:
            faults = judged_again(earlier, options.jobs, Path(folder))
        else:
            faults = judged(boxes, options.faults, options.seed, options.jobs, Path(folder))
            faults += [_of_row(row) for row in earlier if row["box"] not in boxes]
    rows = rows_with_reasons(faults, reasons(earlier))
    total = counts(rows)
    print(total)
    if options.write:
        _write(table, rows, options)
    return int(total["killed"] < KILLED * (total["killed"] + total["survived"]))


def _write(table: Path, rows: list[dict], options) -> None:
    """Write the table and its record."""
    import pandas as pd

    from msxai.base import provenance, tsv

    tsv.write(pd.DataFrame(rows, columns=list(COLUMNS)), table)
    settings = {"faults_a_box": options.faults, "seed": options.seed}
    by_box = {}
    for box in BOXES:
        of_box = [row for row in rows if row["box"] == box]
        if of_box:
            by_box[box] = counts(of_box)
    record = provenance.record(settings, outputs=[table], total=counts(rows), boxes=by_box)
    provenance.write_json(table.with_suffix(".json"), record)


if __name__ == "__main__":
    sys.exit(main())
