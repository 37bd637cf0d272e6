"""The proof on real patients: its rows by hand, and its scans where they are."""

import numpy as np
import pandas as pd
import pytest
from support.networks import SMALL, with_weights
from support.real_scans import SHARED
from support.scripts import script

from msxai.quality import localisation

real = script("real")


@pytest.mark.real
def test_each_scan_has_its_mask():
    if not (SHARED / "data" / "ms3seg").is_dir():
        pytest.skip("the real scans of ../shared/data are not here")
    scans = real.scans_of(SHARED / "data")
    assert len(scans) == 8
    assert all(scan.image.is_file() and scan.lesions.is_file() for scan in scans)
    assert [scan.site for scan in scans].count("Tabriz") == 6


def test_without_scans_it_says_so(tmp_path):
    with pytest.raises(SystemExit, match="found no scan"):
        real.scans_of(tmp_path)


def test_the_map_is_the_mean_over_networks_and_compared_with_brightness(monkeypatch):
    monkeypatch.setattr(real, "MAPS", (("epsilon", 1), ("epsilon", 2)))  # quick ones
    shape = SMALL
    rng = np.random.default_rng(0)
    image = rng.normal(size=shape).astype("float32")
    lesions = np.zeros(shape, bool)
    lesions[10:13, 10:13, 10:13] = True
    image[lesions] += 3
    brain = np.ones(shape, bool)
    models = [with_weights(1, shape, seed) for seed in (1, 2)]
    scores = real.scores_of_scan(models, image, lesions, brain)
    assert [(score["rule"], score["copies"]) for score in scores] == list(real.MAPS)
    target = localisation.Target(lesions, brain)
    maps = [real.scan_maps.of_scan(model, image, ["epsilon"])["epsilon"] for model in models]
    expected = localisation.measure(np.mean(maps, axis=0), lesions, brain, target, ["auprc"])
    bright = localisation.measure(image, lesions, brain, target, ["auprc"])
    assert scores[0]["auprc"] == pytest.approx(expected["auprc"])
    assert scores[0]["auprc_minus_brightness"] == pytest.approx(expected["auprc"] - bright["auprc"])


def test_rows_are_means_over_patients_of_each_site():
    first = {"variant": "v", "rule": "epsilon", "copies": 1}
    rows = []
    for site, scan, auprc, logit, filled in (
        ("A", "a", 0.2, 2.0, -1.0),
        ("A", "b", 0.4, 1.0, 0.5),
        ("B", "c", 0.9, -1.0, -2.0),
    ):
        measures = dict.fromkeys(real.MEASURES, auprc)
        measures |= {f"{name}_minus_brightness": auprc - 0.3 for name in real.MEASURES}
        logits = {"logit_as_it_is": logit, "logit_filled": filled}
        logits["probability_filled"] = 0.6 + 0.1 * filled
        rows.append({**first, "site": site, "scan": scan, **measures, **logits})
    table = real.table_of(pd.DataFrame(rows)).set_index(["site", "measure"])
    assert table.loc[("all", "auprc"), "value"] == pytest.approx(0.5)
    assert table.loc[("A", "auprc_minus_brightness"), "value"] == pytest.approx(0.0)
    assert table.loc[("all", "called_yes_as_it_is"), "value"] == pytest.approx(2 / 3)
    assert table.loc[("all", "called_yes_filled"), "value"] == pytest.approx(1 / 3)
    assert table.loc[("B", "logit_falls_by_filling"), "value"] == pytest.approx(1.0)
    assert table.loc[("all", "auprc"), "n"] == 3
    assert table.loc[("all", "called_yes_calibrated_filled"), "value"] == pytest.approx(1 / 3)
    assert table.loc[("all", "probability_filled"), "value"] == pytest.approx(0.6 - 0.25 / 3)
    assert ("all", "called_yes_sham") not in table.index
    assert ("all", "probability_as_it_is") not in table.index
