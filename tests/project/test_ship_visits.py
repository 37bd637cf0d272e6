"""tools/ship_visits.py: the same brain again, moved a little, by the same or another scanner."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.scripts import script

from msxai.data import images
from msxai.model import acquisition
from msxai.quality import visit_noise
from msxai.quality.two_visits import Visit
from msxai.regions import lesion_regions

BRAIN = np.zeros(images.SHAPE, bool)
BRAIN[20:76, 20:96, 24:76] = True


@pytest.fixture(scope="module")
def tool():
    return script("ship_visits", folder="tools")


def test_the_second_position_is_at_most_half_a_voxel_away(tool):
    bright = np.where(BRAIN, 10.0, 0)
    bright[40:43, 50:53, 50:53] = 100
    indices = np.indices(images.SHAPE)
    centres = []
    for seed in range(6):
        image, brain = tool.moved(bright, BRAIN, np.random.default_rng(seed))
        assert (brain ^ BRAIN).mean() < 0.02
        weights = np.where(image > 11, image - 10, 0)[30:50, 40:60, 40:60]
        inner = indices[:, 30:50, 40:60, 40:60]
        centre = [(axis * weights).sum() / weights.sum() for axis in inner]
        centres.append(np.linalg.norm(np.array(centre) - (41, 51, 51)))
    assert 0.05 < max(centres) <= tool.FARTHEST + 1e-3
    assert min(centres) < 0.4


def test_patients_alone_are_scanned_and_no_other_tool_has_their_seed(tool):
    people = tool.patients()
    assert len(people) == tool.PATIENTS
    assert {person.participant["group"] for person in people} == {"MS"}
    other = script("ship_reference", folder="tools")
    assert other.SEED != tool.SEED


def test_one_scanner_is_the_same_twice_and_the_other_is_not(tool, monkeypatch):
    scanners = []

    def scanned(volume, scanner, rng):
        scanners.append(scanner)
        return volume

    monkeypatch.setattr(acquisition, "scanned", scanned)
    explainer = SimpleNamespace(
        normalisation="zscore",
        logits_of=lambda scans: scans.sum((1, 2, 3)),
        map_of=lambda scan: scan,
    )
    values = np.where(BRAIN, 10 + np.indices(images.SHAPE)[0], 0).astype("int16")
    subject = SimpleNamespace(image=values, brain=BRAIN)
    first, second = tool.visits_of(subject, explainer, np.random.default_rng(0))
    assert scanners[0] is scanners[1]
    assert scanners[2] is not scanners[0]
    assert set(second) == set(visit_noise.SCANNERS)
    np.testing.assert_array_equal(first.brain, BRAIN)
    for visit in second.values():
        assert not np.array_equal(visit.scan, first.scan), "moved"
    np.testing.assert_array_equal(*(visit.scan for visit in second.values()))


def test_what_is_stored_of_a_pair_is_recomputed(tool, rng):
    mask = np.zeros(images.SHAPE, bool)
    mask[30:33, 40, 40] = mask[50:60, 60, 50] = True
    visits = []
    for logit in (1.0, 3.5):
        scan = rng.normal(size=images.SHAPE)
        visits.append(Visit(scan, BRAIN, rng.normal(size=images.SHAPE), logit))
    rows = tool.rows_of(*visits, lesion_regions.on_model_grid(mask))
    difference = visits[1].relevance - visits[0].relevance
    values = {row["kind"]: row["value"] for row in rows}
    assert values["logit"] == pytest.approx(2.5)
    magnitudes = np.abs(difference[BRAIN])
    assert (magnitudes > values["map_95"]).mean() == pytest.approx(0.05, abs=1e-4)
    assert (magnitudes > values["map_999"]).mean() == pytest.approx(0.001, abs=1e-4)
    lesions = {row["voxels"]: row["value"] for row in rows if row["kind"] == "lesion"}
    assert lesions[3] == pytest.approx(difference[30:33, 40, 40].sum())
    assert lesions[10] == pytest.approx(difference[50:60, 60, 50].sum())
