"""The fuzz of bad input: a small version, and that it sees each kind of fault."""

from dataclasses import replace

import numpy as np
import pytest
from support.scripts import script

from msxai.base.errors import CohortError


@pytest.fixture(scope="module")
def fuzz():
    return script("bad_input")


@pytest.mark.long(reason="a small version of a proof: twenty corruptions, 40 s")
def test_twenty_corruptions_are_refused_or_read_rightly(fuzz, tmp_path):
    outcomes = fuzz.measure(20, tmp_path)
    assert len(outcomes) == 20
    assert [outcome for outcome in outcomes if outcome.ending == "fault"] == []
    assert {outcome.ending for outcome in outcomes} == {"refused", "read"}


@pytest.fixture
def judged(fuzz, tmp_path, monkeypatch):
    """Judges one corruption of a study that a planted reader reads."""
    good = fuzz.Read(
        table=[
            {"participant_id": f"sub-s{index}", "label": str(index % 2), "age": 30.5 + index}
            for index in range(6)
        ],
        image=np.zeros((2, 2, 2)),
        lesions=np.zeros((2, 2, 2), bool),
    )
    monkeypatch.setattr(fuzz, "read_study", lambda study, out, source: good)
    monkeypatch.setattr(fuzz, "read_weights", lambda study: [np.ones(3)])
    judge = fuzz.Fuzz(tmp_path)

    def outcome(spoil, read, kind="table", oracle=fuzz.UNCHANGED):
        monkeypatch.setattr(fuzz, "read_study", lambda study, out, source: read(good, study, out))
        return judge.outcome(fuzz.Corruption(kind, spoil, oracle), seed=1)

    return outcome


def as_it_is(good, study, out):
    return good


def traceback_(good, study, out):
    raise KeyError("age")


def refuses(good, study, out):
    raise CohortError("study.csv", "a letter", "a number", "Mend it.")


def refuses_without_a_mend(good, study, out):
    raise CohortError("study.csv", "a letter", "a number", "")


def leaves_a_file(good, study, out):
    (out / "half.h5").touch()
    raise CohortError("study.csv", "a letter", "a number", "Mend it.")


def changes_the_study(good, study, out):
    (study / "study.csv").write_text("other", encoding="utf-8")
    return good


def takes_another_age(good, study, out):
    rows = [*good.table[:-1], {**good.table[-1], "age": 3.0}]
    return replace(good, table=rows)


def takes_another_image(good, study, out):
    return replace(good, image=good.image + 0.1)


@pytest.mark.parametrize(
    ("read", "ending", "words"),
    [
        (as_it_is, "read", ""),
        (refuses, "refused", "found a letter"),
        (traceback_, "fault", "KeyError"),
        (refuses_without_a_mend, "fault", "without its parts"),
        (leaves_a_file, "fault", "left after a refusal"),
        (changes_the_study, "fault", "a file of the user"),
        (takes_another_age, "fault", "rows"),
        (takes_another_image, "fault", "image: up to 0.1 apart"),
    ],
)
def test_each_kind_of_fault_is_seen(fuzz, judged, read, ending, words):
    outcome = judged(fuzz.quotes, read)
    assert outcome.ending == ending
    assert words in outcome.text


def test_a_value_that_the_table_does_not_say_is_a_fault(fuzz, judged):
    assert judged(fuzz.rows_in_another_order, as_it_is, oracle=fuzz.TABLE).ending == "read"
    assert judged(fuzz.blanks, takes_another_age, oracle=fuzz.TABLE).ending == "fault"


def test_the_table_is_read_by_another_program(fuzz, tmp_path):
    (tmp_path / "study.csv").write_bytes(
        b"\xef\xbb\xbfparticipant_id , group,age\r\n s1,MS ,31.5\r\n,,\r\n"
    )
    rows = fuzz.rows_of_table(tmp_path)
    assert rows == [{"participant_id": "s1", "group": "MS", "age": "31.5"}]
    read = fuzz.Read([{"participant_id": "sub-s1", "label": "1", "age": 31.5}], None, None)
    assert fuzz.table_matches(read, rows)
    for other in ({"label": "0"}, {"age": 31.0}, {"participant_id": "sub-s2"}):
        changed = [{**read.table[0], **other}]
        assert not fuzz.table_matches(replace(read, table=changed), rows)


def test_corruptions_of_each_kind_change_a_file(fuzz, tmp_path):
    """Each one, by at least one of a few seeds."""
    fuzz.make_study(tmp_path)
    good = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for corruption in fuzz.CORRUPTIONS:
        changed = False
        for seed in range(4):
            corruption.spoil(tmp_path, np.random.default_rng(seed))
            changed |= good != {path.name: path.read_bytes() for path in tmp_path.iterdir()}
            for name, content in good.items():
                (tmp_path / name).write_bytes(content)
            if changed:
                break
        assert changed, corruption.name
    assert {corruption.kind for corruption in fuzz.CORRUPTIONS} == {
        "table",
        "header",
        "voxels",
        "mask",
        "yaml",
        "weights",
    }
