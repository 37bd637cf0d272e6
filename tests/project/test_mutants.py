"""The mutation check itself: what it plants, how it draws, and that the tests kill faults."""

import ast

import pytest
from support.scripts import script

import msxai

TEXT = '''"""A module."""

import numpy as np

__all__ = ["ratio"]
LIMIT = 0.5


def ratio(parts: list[1], total, axis=0):
    """Doc, 1 < 2."""
    if total < 0:
        raise ValueError(f"{total - 1}")
    values = np.abs(np.asarray(parts)).sum(axis=0) / total
    values.sort()
    return -values.T if total > LIMIT and axis == 0 else values
'''


@pytest.fixture(scope="module")
def mutants():
    return script("mutants", folder="tools")


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "msxai" / "base" / "module.py"
    path.parent.mkdir(parents=True)
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_each_fault_is_one_line_of_python(mutants, module):
    faults = mutants.faults_of(module)
    for fault in faults:
        text = mutants.planted(TEXT, fault)
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse(TEXT))
        pairs = zip(TEXT.splitlines(), text.splitlines(), strict=True)
        changed = [number for number, (old, new) in enumerate(pairs, start=1) if old != new]
        assert changed == [fault.line]
        assert fault.box == "base"
        assert fault.module == "msxai/base/module.py"
    assert {fault.kind for fault in faults} == {
        "axis",
        "and, or",
        "call left out",
        "comparison",
        "constant",
        "not transposed",
        "operator",
        "other function",
        "sign",
        "statement left out",
        "swapped branches",
        "swapped operands",
    }


def test_no_fault_in_annotations_errors_texts_or_the_list_of_names(mutants, module):
    lines = {fault.line for fault in mutants.faults_of(module)}
    assert lines == {6, 9, 11, 13, 14, 15}
    befores = [fault.before for fault in mutants.faults_of(module, {9})]
    assert befores == ["0"]


def test_the_draw_is_the_same_for_a_seed_and_takes_no_line_twice(mutants, module):
    faults = mutants.faults_of(module)
    first = mutants.drawn(faults, 5, seed=3)
    assert first == mutants.drawn(faults, 5, seed=3)
    assert first != mutants.drawn(faults, 5, seed=4)
    assert len({fault.line for fault in first}) == 5
    assert len({fault.kind for fault in first}) >= 4


def test_reasons_that_a_person_wrote_are_kept(mutants, tmp_path):
    table = tmp_path / "mutants.tsv"
    assert mutants.rows_of(table) == []
    table.write_text(
        "module\tbefore\tafter\tequivalent\nmsxai/base/a.py\t1\t2\tseed\n", encoding="utf-8"
    )
    equivalent = mutants.reasons(mutants.rows_of(table))
    faults = [
        mutants.replace(a_fault(mutants, module), outcome=outcome, at_first="survived")
        for module, outcome in (
            ("msxai/lrp/c.py", "killed: a test"),
            ("msxai/base/a.py", "survived"),
            ("msxai/base/b.py", "survived"),
        )
    ]
    rows = mutants.rows_with_reasons(faults, equivalent)
    assert [row["module"][-4] for row in rows] == ["a", "b", "c"]
    assert [row["equivalent"] for row in rows] == ["seed", "n/a", "n/a"]
    numbers = {"faults": 3, "killed_at_first": 0, "killed": 1, "survived": 1, "equivalent": 1}
    assert mutants.counts(rows) == numbers


def a_fault(mutants, module, line=1, after="2"):
    return mutants.Fault(
        module=module, line=line, start=0, end=1, kind="constant", before="1", after=after
    )


def test_the_nearest_tests_run_first_then_all_that_run_the_line(mutants):
    module = "msxai/base/grid.py"
    seconds = {
        module: 0.1,
        "tests/base/test_slow.py": 9.0,
        "tests/base/test_grid_sizes.py": 3.0,
        "tests/base/test_other.py": 2.0,
        "tests/base/test_quick.py": 1.0,
    }
    runs = {(module, 7)}
    lines = {"tests/base/test_slow.py": runs, "tests/base/test_quick.py": runs, "": {(module, 2)}}
    tests = mutants.BoxTests(box="base", seconds=seconds, lines=lines)
    nearest = ["tests/base/test_grid_sizes.py", module]
    in_a_function, at_import = (tests.steps(a_fault(mutants, module, line)) for line in (7, 2))
    running = ["tests/base/test_quick.py", "tests/base/test_slow.py"]
    assert in_a_function == [nearest, running]
    assert at_import == [nearest, [running[0], "tests/base/test_other.py", running[1]]]
    assert tests.limit(["tests/base/test_other.py"]) == 128


def test_a_survivor_is_found_again_where_lines_have_moved(mutants):
    survivor = a_fault(mutants, "msxai/base/grid.py", line=20)
    today = [a_fault(mutants, "msxai/base/grid.py", line) for line in (3, 24, 90)]
    today += [a_fault(mutants, "msxai/base/other.py", 20)]
    today += [a_fault(mutants, "msxai/base/grid.py", 20, after="0")]
    assert mutants._nearest(survivor, today).line == 24
    with pytest.raises(SystemExit, match="1 is no longer there"):
        mutants._nearest(survivor, today[3:])


def test_only_survivors_without_a_reason_are_judged_again(mutants, tmp_path, monkeypatch):
    outcomes = {"killed: a test": "n/a", "survived": "n/a"}
    rows = [
        {
            "module": "msxai/base/grid.py",
            "line": str(line),
            "kind": "constant",
            "before": "1",
            "after": "2",
            "outcome": outcome,
            "seconds": "1.0",
            "commit": "0a1b2c3",
            "at_first": outcome.split(":")[0],
            "equivalent": reason,
        }
        for line, (outcome, reason) in enumerate([*outcomes.items(), ("survived", "a reason")])
    ]
    today = [a_fault(mutants, "msxai/base/grid.py", line) for line in range(3)]
    tests = mutants.BoxTests(box="base", seconds={}, lines={})
    monkeypatch.setattr(mutants, "Checkout", lambda folder: None)
    monkeypatch.setattr(mutants, "tests_of", lambda checkout, box: tests)
    monkeypatch.setattr(mutants.BoxTests, "faults", lambda self, checkout: today)
    monkeypatch.setattr(
        mutants, "judge", lambda fault, *_: mutants.replace(fault, outcome="killed: a new test")
    )
    results = mutants.judged_again(rows, 1, tmp_path)
    assert [fault.at_first for fault in results] == ["killed", "survived", "survived"]
    assert [fault.outcome for fault in results] == [
        "killed: a test",
        "killed: a new test",
        "survived",
    ]


def of_base(mutants, number):
    """Rows of the committed table: faults of base that were killed and can be planted today."""
    rows = []
    for row in mutants.rows_of(msxai.ROOT / "benchmarks" / "mutants.tsv"):
        text = (msxai.ROOT / row["module"]).read_text(encoding="utf-8")
        killed = row["box"] == "base" and row["outcome"].startswith("killed: tests/")
        if killed and row["before"] in text:
            rows.append(row)
    return rows[:number]


@pytest.mark.long(reason="runs the tests of base, and then once more for each fault")
def test_faults_that_the_table_calls_killed_are_killed(mutants, tmp_path):
    """Planted again in today's code. Newly drawn faults could be equivalent ones."""
    rows = of_base(mutants, 3)
    assert len(rows) == 3
    open_rows = [{**row, "outcome": "survived", "equivalent": "n/a"} for row in rows]
    results = mutants.judged_again(open_rows, 1, tmp_path)
    assert all(fault.outcome.startswith("killed: ") for fault in results), results
