"""Painted lesions and sham sites, for networks whose answers are known."""

import numpy as np
import pandas as pd
import pytest

from msxai.data import images
from msxai.quality import self_test


class Scan:
    """A brain of noise without lesions; reads like `Prepared`."""

    affine = images.AFFINE
    brain_mask = np.zeros(images.SHAPE, bool)
    brain_mask[16:80, 16:100, 20:80] = True

    def __init__(self, normalisation="zscore"):
        self.normalisation = normalisation
        noise = np.random.default_rng(0).normal(size=images.SHAPE)
        values = 10 + noise
        values[70, 90, 70] = 20  # the highest voxel: painting leaves the scale of "max" as it is
        self.values = images.normalise(values, self.brain_mask, normalisation)

    def image(self, row):
        return self.values

    def brain(self, row):
        return self.brain_mask

    def lesions(self, row):
        return np.zeros(images.SHAPE, bool)


SLOW = pytest.mark.long(reason="eight sham sites are filled, 5 s")


@pytest.fixture(scope="module")
def scan():
    return Scan()


def run(scan, answer):
    """A network whose map is what is brighter than the untouched scan, times `answer`."""
    spread = scan.values[scan.brain_mask].std()

    def map_of(values):
        return answer * (values - scan.values)

    def logits_of(scans):
        return np.array(
            [answer * np.clip((values - scan.values) / spread, 0.5, None).sum() for values in scans]
        )

    return self_test.run(scan, 0, map_of, logits_of)


@SLOW
@pytest.mark.parametrize("normalisation", ["zscore", "max"])
def test_a_network_that_sees_what_is_bright(scan, normalisation):
    """A painted lesion of a scan that "max" has normalised is as bright for its brain."""
    if normalisation == "max":
        scan = Scan("max")
    result = run(scan, 1.0)
    table = result.table
    painted = table[table["kind"] == "painted"]
    assert painted["size"].tolist() == [3, 3, 5, 5, 8, 8, 12, 12]
    assert (painted["place"] == 0).all()
    means = painted.groupby("size")["change"].mean()
    assert means.is_monotonic_increasing
    # Per voxel, the logit rises by the contrast minus the 0.5 of this network.
    voxels = painted.groupby("size")["voxels"].max()
    assert means[8] == pytest.approx(0.7 * voxels[8], rel=0.35)
    sham = table[table["kind"] == "sham"]
    assert sham["size"].tolist() == [3, 3, 5, 5, 8, 8, 12, 12]
    assert sham["place"].isna().all()
    assert sham["seen"].isna().all()
    assert result.left_out == ()


@SLOW
def test_a_network_that_sees_nothing(scan):
    result = run(scan, 0.0)
    assert np.isnan(result.smallest_seen)
    assert (result.table["change"] == 0).all()


def judged(*rows):
    columns = ["kind", "size", "voxels", "change", "place"]
    return self_test._judged(pd.DataFrame(rows, columns=columns))


def test_seen_needs_the_logit_and_the_rank():
    table = judged(
        ("painted", 5.0, 7, 0.11, 6),
        ("painted", 5.0, 7, 0.11, 7),  # the rank is beyond the voxels of the ball
        ("painted", 5.0, 7, 0.09, 0),  # a sham site changes the logit by more
        ("painted", 5.0, 7, -0.5, 0),  # the logit falls
        ("sham", 5.0, 7, -0.1, np.nan),
        ("sham", 5.0, 7, 0.02, np.nan),
    )
    assert table["seen"].tolist()[:4] == [True, False, False, False]
    assert table["seen"].isna().tolist() == [False] * 4 + [True] * 2


def test_the_smallest_size_is_that_from_which_on_all_are_seen():
    changes = {3.0: (0.9, 0.9), 5.0: (0.05, 0.9), 8.0: (0.3, 0.4), 12.0: (0.5, 0.6)}
    rows = [("painted", size, 9, change, 0) for size, both in changes.items() for change in both]
    rows += [("sham", 8.0, 9, -0.1, np.nan), ("sham", 8.0, 9, 0.02, np.nan)]
    assert self_test._smallest_seen(judged(*rows)) == 8
    rows[-3] = ("painted", 12.0, 9, 0.6, 100)
    assert np.isnan(self_test._smallest_seen(judged(*rows)))


def test_balls_lie_wholly_in_normal_tissue():
    """A plate of 12 mm has room for a ball of 8 mm, not for one of 12 mm with its edge."""
    normal = np.zeros(images.SHAPE, bool)
    normal[:, :, 40:46] = True
    sites = self_test._sites(normal, seed=0)
    assert list(sites) == [3, 5, 8]
    for size, centres in sites.items():
        assert len(centres) == 4
        for centre in centres:
            assert normal[self_test._ball(centre, size) >= 0.5].all(), (size, centre)
    normal[:, :, 40:50] = True
    assert list(self_test._sites(normal, seed=0)) == [3, 5, 8, 12]


def test_room_for_one_pair_is_used():
    normal = np.zeros(images.SHAPE, bool)
    normal[40:44, 40:44, 40:44] = normal[60:64, 40:44, 40:44] = normal[20:24, 40:44, 40:44] = True
    sites = self_test._sites(normal, seed=0)
    assert {size: len(centres) for size, centres in sites.items()} == {5: 2}


@pytest.mark.parametrize("normalisation", ["zscore", "max"])
def test_a_painted_lesion_has_its_size_and_brightness(normalisation):
    scan = Scan(normalisation)
    painted = self_test.paint(scan.values, scan.brain_mask, (48, 57, 48), 8.0)
    change = (painted - scan.values) / scan.values[scan.brain_mask].std()
    assert change.max() == pytest.approx(self_test.CONTRAST, abs=1e-5)
    volume = change.sum() / self_test.CONTRAST * images.VOXEL_VOLUME
    assert volume == pytest.approx(4 / 3 * np.pi * 4**3, rel=0.2)


@SLOW
def test_sites_are_apart_and_repeatable(scan):
    result = run(scan, 1.0)
    places = result.table[["x", "y", "z"]].to_numpy()
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    assert distances[np.triu_indices(len(places), 1)].min() > 14.5
    again = run(scan, 1.0)
    pd.testing.assert_frame_equal(result.table, again.table)


def test_without_white_matter_there_is_no_test(scan):
    dark = Scan()
    dark.values = np.zeros(images.SHAPE, "float32")
    assert run(dark, 1.0) is None
