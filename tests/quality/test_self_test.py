"""Painted lesions and sham sites, for networks whose answers are known."""

import numpy as np
import pandas as pd
import pytest

from msxai.data import images
from msxai.quality import self_test


class Scan:
    """A brain of noise without lesions; reads like `Prepared`."""

    affine, normalisation = images.AFFINE, "zscore"
    brain_mask = np.zeros(images.SHAPE, bool)
    brain_mask[16:80, 16:100, 20:80] = True

    def __init__(self):
        noise = np.random.default_rng(0).normal(size=images.SHAPE)
        self.values = images.normalise(10 + noise, self.brain_mask)

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

    def map_of(values):
        return answer * (values - scan.values)

    def logits_of(scans):
        return np.array(
            [answer * np.clip(values - scan.values, 0.5, None).sum() for values in scans]
        )

    return self_test.run(scan, 0, map_of, logits_of)


@SLOW
def test_a_network_that_sees_what_is_bright(scan):
    result = run(scan, 1.0)
    table = result.table
    painted = table[table["kind"] == "painted"]
    assert painted["size"].tolist() == [3, 3, 5, 5, 8, 8, 12, 12]
    assert (painted["place"] == 0).all()
    means = painted.groupby("size")["change"].mean()
    assert means.is_monotonic_increasing
    sham = table[table["kind"] == "sham"]
    assert len(sham) == 8
    assert sham["place"].isna().all()


@SLOW
def test_a_network_that_sees_nothing(scan):
    result = run(scan, 0.0)
    assert np.isnan(result.smallest_seen)
    assert (result.table["change"] == 0).all()


def test_the_smallest_size_is_that_from_which_on_all_are_seen():
    changes = {3.0: (0.9, 0.9), 5.0: (0.05, 0.9), 8.0: (0.3, 0.4), 12.0: (0.5, 0.6)}
    rows = [("painted", size, change) for size, both in changes.items() for change in both]
    rows += [("sham", 8.0, -0.1), ("sham", 8.0, 0.02)]
    table = pd.DataFrame(rows, columns=["kind", "size", "change"])
    assert self_test._smallest_seen(table) == 8


def test_a_painted_lesion_has_its_size_and_brightness(scan):
    painted = self_test.paint(scan.values, (48, 57, 48), 8.0)
    change = painted - scan.values
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
