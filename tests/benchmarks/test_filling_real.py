"""The proof of fillings in real scans, on toys: places, patches of both kinds, the measure."""

import numpy as np
import pandas as pd
import pytest
from support.scripts import script

import msxai
from msxai.base import tsv

proof = script("filling_real")


def test_places_have_all_neighbours_filled_and_room_for_a_patch():
    untouched = np.zeros((20, 20, 20), "float32")
    filled = untouched.copy()
    filled[8:13, 8:13, 8:13] = 1
    filled[0:3, 8:13, 8:13] = 1
    inside = proof.places(untouched, filled)
    assert len(inside) == 27
    assert (inside.min(axis=0) == 9).all()
    assert (inside.max(axis=0) == 11).all()


def test_each_place_gives_one_patch_as_it_was_and_one_filled(monkeypatch, rng):
    untouched = rng.normal(size=(20, 20, 20)).astype("float32")
    filled = untouched.copy()
    filled[6:14, 6:14, 6:14] += 10

    class Scan:
        def image(self, row):
            return untouched

    monkeypatch.setattr(proof, "fillings", lambda *_: [filled, untouched])
    patches = proof.patches_of(Scan(), 0, "noise")
    assert patches["filled"].value_counts().to_dict() == {0: 120, 1: 120}
    middle = patches[62]  # of 125 voxels
    assert middle[patches["filled"] == 0].max() < 5
    assert middle[patches["filled"] == 1].min() > 5


@pytest.mark.parametrize("shift", [0, 3])
def test_a_filling_that_differs_is_told_from_the_scan(shift, rng):
    patient = np.repeat(range(4), 60)
    filled = np.tile([0, 1], 120)
    values = rng.normal(size=(240, 5)) + shift * filled[:, None]
    patches = pd.DataFrame(values).assign(filled=filled, patient=patient, site="a")
    row = proof.row_of(patches)
    assert (row["patients"], row["patches"]) == (4, 240)
    if shift:
        assert row["low_95"] > 0.95
    else:
        assert row["auc"] == pytest.approx(0.5, abs=0.12)


def test_the_committed_table_tells_the_constant_filling_from_the_scan_in_each_centre():
    table = tsv.read(msxai.ROOT / "benchmarks" / "filling_real.tsv")
    table = table.set_index(["filling", "site"])
    for site in ("Ljubljana", "Tabriz"):
        constant = table.loc[("constant", site), "auc"]
        assert constant > table.loc[("noise", site), "auc"]
