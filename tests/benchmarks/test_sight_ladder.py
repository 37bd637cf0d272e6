"""The table of pre-training tasks and fine-tuning steps, against values by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from support.scripts import script
from support.toy_cohort import Toy

from msxai.data.images import SHAPE

ladder = script("sight_ladder")
NAMES = ("scratch", "lesions-strong")


@pytest.fixture
def variants(tmp_path):
    return [
        ladder.sight.Variant(name, [tmp_path / name / "trial-0" / "weights.npz"], labels_only=True)
        for name in NAMES
    ]


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    cohort = Toy(tmp_path)
    cohort.path = tmp_path / "by-hand.h5"
    cohort.path.write_bytes(b"scans")
    monkeypatch.setattr(ladder, "Prepared", lambda path: cohort)
    monkeypatch.setattr(ladder.network, "configure", lambda *_: None)
    return cohort


@pytest.fixture
def where(tmp_path):
    return SimpleNamespace(folder=tmp_path)


def test_another_scanner_shows_all_variants_the_same_scan(cohort, where, monkeypatch):
    first = ladder.Subjects.of(where, cohort).scan(cohort, 1, ladder.OTHER_SCANNER)
    assert np.abs(first - cohort.image(1)).mean() > 0.1
    monkeypatch.setattr(ladder.acquisition, "rescanned", None)  # a later run draws none
    subjects = ladder.Subjects.of(where, cohort)
    np.testing.assert_array_equal(first, subjects.scan(cohort, 1, ladder.OTHER_SCANNER))
    np.testing.assert_array_equal(subjects.scan(cohort, 1, ladder.AS_SIMULATED), cohort.image(1))


def test_what_was_measured_is_stored_until_the_weights_change(tmp_path):
    memory = ladder.Memory(tmp_path, verbose=0)
    calls = []

    def count(subjects, hashes):
        calls.append(hashes)
        return len(calls)

    stored = memory.cache(count)
    answers = [stored("subjects", hashes) for hashes in (["1"], ["1"], ["2"], ["1"])]
    assert answers == [1, 1, 2, 1]


def test_logits_are_those_of_each_trial_on_the_scans_shown(cohort, variants, where, monkeypatch):
    def restore(path, fast):
        factor = {"scratch": 1.0, "lesions-strong": 3.0}[path.parent.parent.name]
        return lambda volume, training: factor * volume.reshape(1, -1)[:, :1]

    monkeypatch.setattr(ladder.network, "restore", restore)
    variants[1].weights.append(variants[0].weights[0])  # a trial with factor 1
    subjects = ladder.Subjects.of(where, cohort)
    for scans in ladder.SCANS:
        first, second = (ladder.logits_of(subjects, each, [], scans) for each in variants)
        rows = range(len(cohort.table))
        expected = np.array([subjects.scan(cohort, row, scans)[0, 0, 0] for row in rows])
        assert first == pytest.approx(expected[None])
        assert second == pytest.approx(np.stack([3 * expected, expected]))


def test_maps_are_measured_on_both_kinds_of_scans(cohort, variants, where, monkeypatch):
    """One variant marks the lesions, the other one everything else."""
    monkeypatch.setattr(ladder.network, "restore", lambda path: path.parent.parent.name)
    monkeypatch.setattr(ladder.acquisition, "rescanned", lambda image, rng: image + 1)
    shown = []

    def of_scan(model, image, names, **_):
        plain = [np.array_equal(image, values) for values in cohort.images]
        other = [np.array_equal(image, values + 1) for values in cohort.images]
        shown.append(any(other))
        row = np.flatnonzero(np.array(plain) | np.array(other))[0]
        lesions = cohort.lesions(row)
        return {names[0]: (lesions if model == "lesions-strong" else ~lesions).astype(float)}

    monkeypatch.setattr(ladder.sight.scan_maps, "of_scan", of_scan)
    subjects = ladder.Subjects.of(where, cohort)
    scores = []
    for variant in variants:
        scores += ladder.measured(subjects, [1, 3, 5], variant, [])
    scores = pd.DataFrame(scores)
    assert len(scores) == 2 * 2 * 3
    assert sum(shown) == len(shown) / 2
    rows = ladder.map_rows(variants, scores)
    values = {(row["variant"], row["scans"], row["measure"]): row for row in rows}
    chance = np.mean([cohort.lesions(row).mean() for row in (1, 3, 5)])
    for scans in ladder.SCANS:
        best = values["lesions-strong", scans, "auprc"]
        assert (best["value"], best["n"]) == (1, 3)
        difference = values["lesions-strong", scans, "auprc_minus_scratch"]["value"]
        assert difference == pytest.approx(1, abs=2 * chance)
        assert values["lesions-strong", scans, "auprc_minus_brightness"]["value"] > 0.9
        assert ("scratch", scans, "auprc_minus_scratch") not in values
    assert cohort.images.shape[1:] == SHAPE
