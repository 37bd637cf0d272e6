"""The fuzz of bad input: a small version, and that it sees each kind of fault."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from support.scripts import script

from msxai.base.errors import CohortError


@pytest.fixture(scope="module")
def fuzz():
    return script("bad_input")


@pytest.mark.long(reason="a small version of a proof: thirty corruptions, 40 s")
def test_thirty_corruptions_are_refused_or_read_rightly(fuzz, tmp_path, monkeypatch):
    chosen = (fuzz.an_intercept, fuzz.all_lengths, fuzz.quotes, fuzz.no_table, fuzz.no_weights)
    kept = [corruption for corruption in fuzz.CORRUPTIONS if corruption.spoil in chosen]
    monkeypatch.setattr(fuzz, "CORRUPTIONS", kept)
    outcomes = fuzz.measure(30, 0, tmp_path)
    assert len(outcomes) == 30
    assert [outcome for outcome in outcomes if outcome.ending == "fault"] == []
    assert {outcome.ending for outcome in outcomes} == {"refused", "read"}


@pytest.fixture
def unread(fuzz, tmp_path, monkeypatch):
    """The fuzz without any reading: what it draws."""
    good = fuzz.Read([], np.zeros(1), np.zeros(1))
    monkeypatch.setattr(fuzz, "read_study", lambda study, out, source: good)
    monkeypatch.setattr(fuzz, "read_weights", lambda study: [np.ones(3)])
    monkeypatch.setattr(fuzz.Fuzz, "_read", lambda self, corruption, study, out: "")

    def draw(n_corruptions, seed):
        folder = tmp_path / f"seed-{seed}"
        folder.mkdir(exist_ok=True)
        shutil.rmtree(folder / "template", ignore_errors=True)
        return fuzz.measure(n_corruptions, seed, folder)

    return draw


@pytest.mark.long(reason="the fuzz spoils seven hundred studies and reads none, 20 s")
def test_each_choice_of_each_corruption_is_drawn_by_any_seed(fuzz, unread, tmp_path):
    drawn = {}
    for seed in (0, 5):
        outcomes = unread(10, seed)
        drawn[seed] = [(outcome.name, outcome.seed) for outcome in outcomes]
        study = tmp_path / f"seed-{seed}" / "template"
        for corruption in fuzz.CORRUPTIONS:
            offered = set()
            seen = set()
            for name, own_seed in drawn[seed]:
                if name != corruption.name:
                    continue
                copy = shutil.copytree(study, tmp_path / "copy", dirs_exist_ok=True)
                draws = fuzz.Draws(own_seed)
                corruption.spoil(copy, draws)
                shutil.rmtree(copy)
                offered |= draws.offered
                seen |= draws.drawn
            assert seen == offered, corruption.name
    assert {name for name, _ in drawn[0]} == {corruption.name for corruption in fuzz.CORRUPTIONS}
    assert not set(drawn[0]) & set(drawn[5])


def test_a_seed_draws_the_same_and_another_seed_others(fuzz, unread, monkeypatch):
    kept = [corruption for corruption in fuzz.CORRUPTIONS if corruption.kind == "yaml"]
    monkeypatch.setattr(fuzz, "CORRUPTIONS", kept)
    first, again, other = unread(60, 3), unread(60, 3), unread(60, 4)
    assert len(first) == len(other) == 60
    assert first == again
    assert not {outcome.seed for outcome in first} & {outcome.seed for outcome in other}


def test_what_was_rounded_to_0_must_be_said(fuzz, tmp_path):
    """A header whose intercept is half a step has no exact 0."""
    fuzz.make_study(tmp_path)
    image = fuzz.nib.load(tmp_path / fuzz.SCAN)
    n_zeros = int((np.asarray(image.dataobj) == 0).sum())

    def change(content):
        content[112:120] = np.array([1, 0.5], "<f4").tobytes()

    fuzz._header(tmp_path, fuzz.SCAN, change)
    assert np.asarray(fuzz.nib.load(tmp_path / fuzz.SCAN).dataobj).min() == 0.5
    words = fuzz.saved_anew(tmp_path, fuzz.SCAN)
    assert words == [f"{n_zeros} voxels within half a step"]
    assert np.asarray(fuzz.nib.load(tmp_path / fuzz.SCAN).dataobj).min() == 0
    read = fuzz.Read([], None, None, [])
    assert fuzz._unsaid(read, words) == f"nothing is said of {words}"
    said = fuzz.Read([], None, None, [f"Scan: {words[0]} (1) of 0 were read as 0."])
    assert fuzz._unsaid(said, words) == ""


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
    written = [{**rows[0], "participant_id": "sub-s_1"}]
    assert fuzz.table_matches(read, written)
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
            corruption.spoil(tmp_path, fuzz.Draws(seed))
            files = [path for path in tmp_path.iterdir() if path.is_file()]
            changed |= good != {path.name: path.read_bytes() for path in files}
            for name, content in good.items():
                if (tmp_path / name).is_dir():
                    (tmp_path / name).rmdir()
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
