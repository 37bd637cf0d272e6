"""Relevance and use of each lesion, against numbers computed by hand for linear networks."""

import numpy as np
import pandas as pd
import pytest

from msxai.data import images
from msxai.quality import lesion_by_lesion

BRAIN = np.zeros(images.SHAPE, bool)
BRAIN[20:76, 20:96, 24:76] = True
FIRST = (slice(30, 34), slice(44, 48), slice(50, 54))
FAINT = 0.01
SECOND = (slice(31, 33), slice(60, 62), slice(52, 54))


class Scan:
    """A brain of noise with two bright lesions in white matter; reads like `Prepared`."""

    affine, normalisation = images.AFFINE, "max"
    table = pd.DataFrame({"participant_id": ["sub-1"], "session_id": [""], "image": ["a.nii"]})

    def __init__(self):
        rng = np.random.default_rng(0)
        self.values = np.where(BRAIN, 10 + rng.normal(size=images.SHAPE), 0).astype("float32")
        self.mask = np.zeros(images.SHAPE, bool)
        self.mask[FIRST] = self.mask[SECOND] = True
        self.values[self.mask] = 20
        self.values[70, 90, 70] = 40  # the highest voxel stays where it is: "max" changes nothing
        self.values /= 40

    def image(self, row):
        return self.values

    def brain(self, row):
        return BRAIN

    def lesions(self, row):
        return self.mask


@pytest.fixture(scope="module")
def scan():
    return Scan()


@pytest.fixture(scope="module")
def report(scan):
    """A network that sees the first lesion: the sum of its voxels; the second one hardly."""
    relevance = np.zeros(images.SHAPE)
    relevance[FIRST] = 0.5
    relevance[FIRST][0, 0, 0] = 2

    def logits_of(scans):
        faint = FAINT * scans[(slice(None), *SECOND)].sum(axis=(1, 2, 3))
        return scans[(slice(None), *FIRST)].sum(axis=(1, 2, 3)) + faint

    return lesion_by_lesion.measure(scan, 0, relevance, logits_of)


def test_filled_voxels_belong_to_the_nearest_lesion(scan):
    labels = np.zeros(images.SHAPE, int)
    labels[FIRST], labels[SECOND] = 1, 2
    filled = lesion_by_lesion.fill_lesions(scan, 0, labels)
    assert (filled.owner[FIRST] == 1).all()
    assert (filled.owner[SECOND] == 2).all()
    only = filled.only(1)
    assert (only[FIRST] < 0.4).all()
    np.testing.assert_array_equal(only[SECOND], scan.values[SECOND])
    np.testing.assert_array_equal(filled.all_but(1), filled.only(2))
    both = filled.all()
    np.testing.assert_array_equal(both[FIRST], only[FIRST])
    np.testing.assert_array_equal(both[SECOND], filled.only(2)[SECOND])
    changed = filled.owner > 0
    np.testing.assert_array_equal(both[~changed], scan.values[~changed])


def test_changes_are_those_of_the_network(report, scan):
    labels = np.zeros(images.SHAPE, int)
    labels[FIRST], labels[SECOND] = 1, 2
    filled = lesion_by_lesion.fill_lesions(scan, 0, labels).filled
    first = float((filled[FIRST] - scan.values[FIRST]).sum())
    second = FAINT * float((filled[SECOND] - scan.values[SECOND]).sum())
    assert first < -10
    assert second < -0.01
    table = report.table
    untouched = scan.values[FIRST].sum() + FAINT * scan.values[SECOND].sum()
    assert report.logit == pytest.approx(untouched, rel=1e-5)
    assert report.logit_all_filled == pytest.approx(untouched + first + second, rel=1e-4)
    assert table["change_filled"].tolist() == pytest.approx([first, second], abs=1e-4)
    assert table["change_all_but_this"].tolist() == pytest.approx([second, first], abs=1e-4)
    assert table["adds_alone"].tolist() == pytest.approx([-first, -second], abs=1e-4)


def test_a_lesion_that_the_network_does_not_use_is_named(report):
    assert report.table["used"].tolist() == [True, False]
    assert 0 <= report.noise_limit <= lesion_by_lesion.NOISE_WITHOUT_SHAM


def test_contrast_of_the_mask(report, scan):
    """Lesions are 10 standard deviations brighter; a mask on normal tissue is not."""
    assert 7 < report.contrast < 13
    elsewhere = Scan()
    elsewhere.mask = np.roll(scan.mask, 12, axis=1) & ~scan.mask
    moved = lesion_by_lesion.measure(
        elsewhere, 0, np.zeros(images.SHAPE), lambda scans: scans.max((1, 2, 3))
    )
    assert abs(moved.contrast) < 1


def test_relevance_of_each_lesion(report):
    assert report.table["relevance"].tolist() == pytest.approx([63 * 0.5 + 2, 0])
    assert report.table["peak"].tolist() == [2, 0]
    assert report.table["voxels"].tolist() == [64, 8]


def test_a_network_that_uses_no_lesion(scan):
    report = lesion_by_lesion.measure(
        scan, 0, np.zeros(images.SHAPE), lambda scans: scans.max((1, 2, 3))
    )
    assert not report.table["used"].any()


def test_the_limit_is_what_filling_normal_tissue_changes(scan, monkeypatch):
    """A network that hears the noise everywhere: 95th percentile over the sham sites."""

    def logits_of(scans):
        return 1000 * (np.diff(scans, axis=1) ** 2).mean(axis=(1, 2, 3))

    limit, sites = lesion_by_lesion._noise_limit(scan, 0, logits_of, 0)
    assert limit == lesion_by_lesion.NOISE_WITHOUT_SHAM  # two sites are too few
    sham = lesion_by_lesion.fill_sham_sites(scan, 0)
    assert sites == sham.count == 2
    monkeypatch.setattr(lesion_by_lesion, "FEWEST_SHAM_SITES", 2)
    limit, _ = lesion_by_lesion._noise_limit(scan, 0, logits_of, 0)
    untouched = logits_of(scan.values[None])[0]
    changes = [abs(logits_of(sham.only(site)[None])[0] - untouched) for site in (1, 2)]
    assert limit == pytest.approx(np.quantile(changes, 0.95), rel=1e-3)
    assert limit > 0


def test_amounts_add_up_to_the_map(rng):
    relevance = rng.normal(size=(20, 20, 20))
    lesions = np.zeros((20, 20, 20), bool)
    lesions[8:11, 8:11, 8:11] = True
    brain = np.zeros_like(lesions)
    brain[2:18, 2:18, 2:18] = True
    amounts = lesion_by_lesion.by_distance(relevance, lesions, brain)
    assert sum(amounts.values()) == pytest.approx(relevance.sum())
    near = relevance[6:13, 6:13, 6:13].sum() - amounts["inside"]
    assert amounts["near"] == pytest.approx(near)
    assert amounts["outside_brain"] == pytest.approx(relevance[~brain].sum())
