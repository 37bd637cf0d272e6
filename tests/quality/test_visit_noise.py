"""Limits of noise: order statistics, read back as written, of these networks and maps alone."""

import json

import numpy as np
import pandas as pd
import pytest

import msxai
from msxai.base import tsv
from msxai.model import shipped
from msxai.quality import visit_noise
from msxai.quality.visit_noise import Limits

MAPS = {"rule": "epsilon_gamma", "epsilon": 1e-3, "copies": 1}
KINDS = ("logit", "similarity", "map_95", "map_999")


@pytest.fixture
def weights(tmp_path):
    paths = [tmp_path / "first.npz", tmp_path / "second.npz"]
    for path in paths:
        path.write_text(path.name)
    return paths


@pytest.fixture
def changes(rng):
    rows = []
    for subject in range(1, 40):
        for scanners, factor in (("one", 1), ("two", 3)):
            own = {"subject": subject, "scanners": scanners}
            for kind in KINDS:
                value = factor * rng.normal() if kind == "logit" else factor * rng.random()
                rows.append(own | {"kind": kind, "voxels": 0, "value": value})
            for voxels in (1, 3, 4, 100):
                value = factor * voxels * rng.normal()
                rows.append(own | {"kind": "lesion", "voxels": voxels, "value": value})
    return pd.DataFrame(rows)


@pytest.fixture
def stored(changes, weights, tmp_path):
    visit_noise.write(changes, MAPS, "simulated", weights, tmp_path, command="make it")
    return tmp_path


def order_statistic(values, rank):
    return sorted(values)[rank - 1]


def test_limits_are_those_of_the_table(stored, weights, changes):
    """Of 39 values, the 38th; of 78 lesions of 1 to 3 voxels, the 76th."""
    noise = visit_noise.read(weights, *MAPS.values(), folder=stored)
    assert noise.patients == 39
    assert noise.source == "simulated"
    for limits, scanners in ((noise.one_scanner, "one"), (noise.two_scanners, "two")):
        own = changes[changes["scanners"] == scanners].set_index("kind")
        values = {kind: own.loc[kind, "value"].tolist() for kind in (*KINDS, "lesion")}
        magnitudes = [abs(value) for value in values["logit"]]
        assert limits.logit == pytest.approx(order_statistic(magnitudes, 38), rel=1e-3)
        lowest = order_statistic(values["similarity"], 2)
        assert limits.similarity == pytest.approx(lowest, rel=1e-3)
        for kind in visit_noise.RARE:
            expected = order_statistic(values[kind], 38)
            assert limits.of_map(kind) == pytest.approx(expected, rel=1e-3)
        lesions = own.loc["lesion"]
        for sizes, rank in (((1, 3), 76), ((4,), 38), ((100,), 38)):
            magnitudes = lesions["value"].abs()[lesions["voxels"].isin(sizes)]
            expected = pytest.approx(order_statistic(magnitudes, rank), rel=1e-3)
            for size in sizes:
                assert limits.of_lesion(size) == expected
        assert np.isnan(limits.of_lesion(20)), "no lesion of this size"
    assert noise.two_scanners.logit > noise.one_scanner.logit


def test_few_of_further_people_exceed_a_limit(rng):
    """Over many samples of 20, on average 1 in 21 of a new value."""
    samples = rng.normal(size=(4000, 21))
    exceeded = [values[-1] > visit_noise.limit_of(values[:-1]) for values in samples]
    assert np.mean(exceeded) == pytest.approx(1 / 21, abs=0.012)
    assert np.isnan(visit_noise.limit_of([]))


def test_other_networks_have_no_noise(stored, weights):
    assert visit_noise.read(weights[::-1], *MAPS.values(), folder=stored) is None
    assert visit_noise.read(weights[:1], *MAPS.values(), folder=stored) is None
    (stored / visit_noise.RECORD).unlink()
    assert visit_noise.read(weights, *MAPS.values(), folder=stored) is None, "an older package"


def test_maps_that_are_made_in_another_way_have_no_limits(stored, weights):
    """The logit does not depend on how the map is made."""
    for other in (("epsilon", 1e-3, 1), ("epsilon_gamma", 1e-2, 1), ("epsilon_gamma", 1e-3, 8)):
        noise = visit_noise.read(weights, *other, folder=stored)
        assert not noise.has_maps
        for limits in (noise.one_scanner, noise.two_scanners):
            assert limits.logit > 0
            assert np.isnan(limits.of_map("map_999"))
            assert np.isnan(limits.of_lesion(1))


def test_a_change_without_limits_is_not_judged():
    assert visit_noise.judged(1.0, np.nan, 2.0) is None
    assert visit_noise.judged(1.0, 2.0, np.nan) is None
    assert visit_noise.judged(1.0, 1.0, 2.0) == visit_noise.WITHIN
    assert visit_noise.judged(2.0, 1.0, 2.0) == visit_noise.BETWEEN


def test_the_package_brings_the_noise_of_its_networks():
    noise = visit_noise.read(shipped.weights(), *MAPS.values())
    assert noise is not None, "the weights have changed: .venv/bin/python tools/ship_visits.py"
    assert noise.has_maps
    assert noise.patients >= 19, "of fewer, more than 5 % exceed the largest"
    for limits in (noise.one_scanner, noise.two_scanners):
        assert isinstance(limits, Limits)
        assert limits.logit > 0
        assert 0.5 < limits.similarity < 1
        assert 0 < limits.of_map("map_95") < limits.of_map("map_999")
        for size in visit_noise.LESION_SIZES:
            assert limits.of_lesion(size) > 0
    assert noise.one_scanner.logit < noise.two_scanners.logit
    assert noise.source.startswith("simulated")


def test_the_record_says_how_the_noise_was_measured():
    folder = msxai.ROOT / "msxai" / "model" / "weights"
    record = json.loads((folder / visit_noise.RECORD).read_text())
    table = tsv.read(folder / visit_noise.TABLE)
    assert record["command"] == "make shipped-weights"
    patients = record["parameters"]["patients"]
    assert patients == table["subject"].nunique()
    for name in ("one-scan.md", "model-card.md"):
        text = (msxai.ROOT / "docs" / name).read_text(encoding="utf-8")
        assert f"{patients} simulated patients who did not change" in " ".join(text.split())
    assert set(table["scanners"]) == set(visit_noise.SCANNERS)
    assert set(table["kind"]) == {*KINDS, "lesion"}
    assert table["value"].notna().all()
