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
    scores = real.scores_of_scan(models, real.Case(image, lesions, brain))
    assert [(score["rule"], score["copies"]) for score in scores] == list(real.MAPS)
    target = localisation.Target(lesions, brain)
    maps = [real.scan_maps.of_scan(model, image, ["epsilon"])["epsilon"] for model in models]
    expected = localisation.measure(np.mean(maps, axis=0), lesions, brain, target, ["auprc"])
    bright = localisation.measure(image, lesions, brain, target, ["auprc"])
    assert scores[0]["auprc"] == pytest.approx(expected["auprc"])
    assert scores[0]["auprc_minus_brightness"] == pytest.approx(expected["auprc"] - bright["auprc"])


def test_brightness_is_no_better_than_itself_and_finds_lesions_of_each_size():
    shape = (24, 24, 24)
    rng = np.random.default_rng(0)
    image = rng.normal(size=shape)
    lesions = np.zeros(shape, bool)
    lesions[4, 4, 4] = True  # 7 mm3
    lesions[10:12, 10:12, 10:12] = True  # 55 mm3
    image[lesions] += 9
    score = real.Case(image, lesions, np.ones(shape, bool)).score(image)
    assert score["auprc"] == pytest.approx(1)
    assert score["auprc_minus_brightness"] == 0
    assert score["sensitivity_small"] == 1
    assert score["sensitivity_medium"] == 1
    assert np.isnan(score["sensitivity_large"])
    missed = np.where(lesions & (np.indices(shape)[0] == 4), 0, image)
    score = real.Case(image, lesions, np.ones(shape, bool)).score(missed)
    assert score["sensitivity_small"] == 0
    assert score["sensitivity_medium"] == 1


class OneScan:
    """A scan of the networks' small grid."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self._image = rng.normal(size=SMALL).astype("float32")
        self._lesions = np.zeros(SMALL, bool)
        self._lesions[10:13, 10:13, 10:13] = True

    def image(self, row):
        return self._image

    def brain(self, row):
        return np.ones(SMALL, bool)

    def lesions(self, row):
        return self._lesions


def test_the_prior_and_the_voxel_classifier_have_rows_of_their_own():
    class Classifier:
        def map_of(self, bright, brain):
            return OneScan().lesions(0) + 0.0

    prior = np.zeros(SMALL)
    prior[:11] = 1
    baselines = real.Baselines(prior, Classifier())
    scans = [real.Scan("A", "a", None, None)]
    scores = real.scores_of_baselines(OneScan(), scans, baselines).set_index("variant")
    assert list(scores.index) == ["brightness", "prior", real.ladder.BOUND]
    assert scores.loc[real.ladder.BOUND, "auprc"] == pytest.approx(1)
    difference = scores.loc["prior", "auprc"] - scores.loc["brightness", "auprc"]
    assert scores.loc["prior", "auprc_minus_brightness"] == pytest.approx(difference)
    table = real.table_of(scores.reset_index().assign(logit_as_it_is=np.nan))
    assert set(table["measure"].str.removesuffix("_minus_brightness")) == set(real.MEASURES)


def test_warnings_are_counted_by_the_limits_of_the_page(monkeypatch):
    monkeypatch.setattr(real, "WARNED", ("epsilon", 1))
    monkeypatch.setattr(
        real.trust_warnings, "features", lambda models, *_: [np.zeros((1, 3))] * len(models)
    )

    class Stored:
        source = "scans by hand"

        def __init__(self, largest):
            self.largest = largest

        def distance(self, features):
            assert len(features) == 2
            return np.array([7.5])

        def limits_of(self, rule, epsilon, copies):
            assert (rule, epsilon, copies) == ("epsilon", 1e-3, 1)
            return {"out_of_distribution": self.largest, "outside_brain": 1.0, "agreement": -1.0}

    models = [with_weights(1, SMALL, seed) for seed in (1, 2)]
    far = real.warnings_of_scan(models, Stored(7.0), OneScan(), 0)
    near = real.warnings_of_scan(models, Stored(8.0), OneScan(), 0)
    assert far["distance"] == near["distance"] == 7.5
    assert (far["warnings"], near["warnings"]) == (1, 0)
    assert far["warned_out_of_distribution"] == 1
    assert far["warned_conservation"] == 0  # no limit is known


def test_the_relation_of_warnings_to_the_map_is_a_rank_correlation():
    value, low, high = real.spearman([1, 2, 3, 4, 50], [9, 7, 6, 5, -100])
    assert value == pytest.approx(-1)
    assert -1 <= low <= high <= 1
    assert np.isnan(real.spearman([1, 1, 1], [3, 2, 1])).all()
    rows = []
    for number, auprc in enumerate((0.5, 0.4, 0.2, 0.1)):
        for rule in ("epsilon", "epsilon_gamma"):
            measures = dict.fromkeys(real.MEASURES, auprc)
            measures |= {f"{name}_minus_brightness": auprc - 0.3 for name in real.MEASURES}
            rows.append(
                {
                    **{"variant": "v", "rule": rule, "copies": 1, "site": "A", "scan": str(number)},
                    **measures,
                    **{"logit_as_it_is": 1.0, "logit_filled": 0.0},
                    **{"warnings": 1.0, "distance": 3.0 + number, "warned_agreement": 0.0},
                }
            )
    table = real.table_of(pd.DataFrame(rows))
    of_all = table[(table["site"] == "all") & (table["copies"] == 0)].set_index("measure")
    assert of_all.loc["spearman_distance_auprc", "value"] == pytest.approx(-1)
    assert np.isnan(of_all.loc["spearman_warnings_auprc", "value"])
    assert of_all.loc["warnings", "value"] == 1
    assert of_all.loc["spearman_distance_auprc", "n"] == 4


def test_networks_without_fine_tuning_are_taken_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(real, "PRETRAININGS", ("lesions-of-a-test",))
    where = real.Results(str(tmp_path))
    assert "lesions-of-a-test" not in real.weights_of(where)
    path = tmp_path / "pretraining" / "lesions-of-a-test" / "trial-0" / "weights.npz"
    path.parent.mkdir(parents=True)
    path.touch()
    assert real.weights_of(where)["lesions-of-a-test"] == [path]


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
