"""The table of pre-training tasks and fine-tuning steps, against values by hand."""

import shutil
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


def tables_of(variant, shift=0.0):
    """Two controls and two patients on both kinds of scan, and maps of the patients."""
    logits = []
    scores = []
    for scans in ladder.SCANS:
        for row, (label, logit) in enumerate([(0, -1), (0, 1), (1, 0.5 + shift), (1, 2)]):
            first = {"variant": variant.name, "labels_only": True, "scans": scans, "row": row}
            logits.append(first | {"label": label, "logit_0": logit})
            if label:
                measures = dict.fromkeys(ladder.MEASURES, 0.2 * row + shift)
                first = {"variant": variant.name, "scans": scans, "row": row}
                minus = measures["auprc"] - 0.1  # brightness: 0.1
                scores.append(first | measures | {"auprc_minus_brightness": minus})
    return pd.DataFrame(logits), pd.DataFrame(scores)


@pytest.fixture
def files(tmp_path, monkeypatch):
    for name in ("TABLE", "LOGITS", "SCORES", "RECORD"):
        monkeypatch.setattr(ladder, name, tmp_path / f"{name}.tsv")


@pytest.fixture
def trained(variants):
    for number, variant in enumerate(variants):
        for path in variant.weights:
            path.parent.mkdir(parents=True)
            path.write_bytes(bytes([number]))
            path.with_name("provenance.json").write_text('{"parameters": {}}')
    return variants


def test_a_variant_is_measured_again_only_after_another_training(trained, files, where):
    first, second = trained
    everything = ladder.Measured.earlier()
    assert not everything.has(first)
    everything.add(first, *tables_of(first))
    everything.write(SimpleNamespace(given="runs/sight"), first.weights)
    later = ladder.Measured.earlier()
    assert later.has(first)
    assert list(later.commits) == ["scratch"]
    assert not later.has(second)
    later.add(second, *tables_of(second, shift=1))
    values = later.table().set_index(["scans", "variant", "measure"])["value"]
    for scans in ladder.SCANS:
        assert values[scans, "scratch", "auc"] == 0.75
        assert values[scans, "lesions-strong", "auc"] == 1
        assert values[scans, "lesions-strong", "auc_minus_scratch"] == 0.25
        assert values[scans, "scratch", "auprc"] == pytest.approx(0.5)
        assert values[scans, "lesions-strong", "auprc_minus_scratch"] == pytest.approx(1)
    first.weights[0].write_bytes(b"trained anew")
    assert not later.has(first)
    later.add(first, *tables_of(first, shift=-1))
    values = later.table().set_index(["scans", "variant", "measure"])["value"]
    assert values[ladder.AS_SIMULATED, "scratch", "auprc"] == pytest.approx(-0.5)
    assert len(later.logits) == 2 * 2 * 4


def test_a_variant_on_other_scans_is_refused(trained, files):
    everything = ladder.Measured()
    everything.add(trained[0], *tables_of(trained[0]))
    logits, scores = tables_of(trained[1])
    brighter = scores.assign(auprc_minus_brightness=scores["auprc_minus_brightness"] - 0.01)
    fewer = scores[scores["row"] == 2]
    for other in (brighter, fewer):
        with pytest.raises(ValueError, match="on other scans"):
            everything.add(trained[1], logits, other)
    everything.add(trained[1], logits, scores)


def test_tables_that_somebody_changed_are_not_taken_over(trained, files):
    everything = ladder.Measured.earlier()
    everything.add(trained[0], *tables_of(trained[0]))
    everything.write(SimpleNamespace(given="runs/sight"), [])
    ladder.SCORES.write_text(ladder.SCORES.read_text().replace("0.4", "0.9"))
    assert not ladder.Measured.earlier().has(trained[0])


def test_a_variant_in_training_is_left_out(trained, tmp_path, monkeypatch):
    folder = tmp_path / "finetuning"
    folder.mkdir()
    for variant in trained:
        (tmp_path / variant.name).rename(folder / variant.name)
    monkeypatch.setattr(ladder.sight.shipped, "weights", lambda: [tmp_path / "lesions-0.npz"])
    where = SimpleNamespace(folder=tmp_path)
    of_package = "lesions, no fine-tuning"

    def names():
        return {variant.name for variant in ladder.finished(where)}

    assert names() == {*NAMES, of_package}
    shutil.copytree(folder / "scratch" / "trial-0", folder / "scratch" / "trial-1")
    assert names() == {"scratch", of_package}
    shutil.copytree(folder / "scratch" / "trial-0", folder / "lesions-strong" / "trial-1")
    (folder / "untrained" / "trial-0").mkdir(parents=True)
    assert names() == {*NAMES, of_package}
    (folder / "scratch" / "trial-1" / "provenance.json").unlink()
    assert names() == {"lesions-strong", of_package}


def test_logits_are_those_of_each_trial_on_the_scans_shown(cohort, variants, where, monkeypatch):
    def restore(path, fast):
        factor = {"scratch": 1.0, "lesions-strong": 3.0}[path.parent.parent.name]
        return lambda volume, training: factor * volume.reshape(1, -1)[:, :1]

    monkeypatch.setattr(ladder.network, "restore", restore)
    variants[1].weights.append(variants[0].weights[0])  # a trial with factor 1
    subjects = ladder.Subjects.of(where, cohort)
    for scans in ladder.SCANS:
        first, second = (ladder.logits_of(subjects, each, scans) for each in variants)
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
        scores += ladder.measured(subjects, [1, 3, 5], variant)
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
