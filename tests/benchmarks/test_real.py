"""The proof on real patients: its rows by hand, and its scans where they are."""

import json

import numpy as np
import pandas as pd
import pytest
from support.networks import SMALL, with_weights
from support.real_scans import SHARED
from support.scripts import script

from msxai.base.errors import StaleInputError
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


def _empty_scans(folder):
    """Files of two centres, without content; by centre the order is another than by name."""
    for centre, names in (("open_ms/mni", ("patient07", "patient19")), ("ms3seg", ("patient101",))):
        (folder / centre).mkdir(parents=True)
        for name in names:
            (folder / centre / f"{name}_FLAIR.nii.gz").touch()
            (folder / centre / f"{name}_lesions.nii.gz").touch()


def test_each_row_of_the_prepared_cohort_is_the_scan_of_this_number(tmp_path):
    _empty_scans(tmp_path)
    scans = real.scans_of(tmp_path)
    images = [str(scan.image) for scan in scans]
    table = real.from_images(images, [str(scan.image) for scan in scans]).table
    assert [scan.site for scan in scans] == ["Ljubljana", "Tabriz", "Ljubljana"]

    class AsPrepared:
        path = "toy.h5"

    AsPrepared.table = table
    real.check_rows(AsPrepared, scans)
    by_centre = sorted(scans, key=lambda scan: scan.site)
    with pytest.raises(ValueError, match="expected"):
        real.check_rows(AsPrepared, by_centre)


def test_without_scans_it_says_so(tmp_path):
    with pytest.raises(SystemExit, match="found no scan"):
        real.scans_of(tmp_path)


def test_the_map_is_the_mean_over_networks_and_compared_with_brightness():
    quick = [("epsilon", 1), ("epsilon", 2)]
    shape = SMALL
    rng = np.random.default_rng(0)
    image = rng.normal(size=shape).astype("float32")
    lesions = np.zeros(shape, bool)
    lesions[10:13, 10:13, 10:13] = True
    image[lesions] += 3
    brain = np.ones(shape, bool)
    models = [with_weights(1, shape, seed) for seed in (1, 2)]
    scores = real.scores_of_scan(models, real.Case(image, lesions, brain), quick)
    assert [(score["rule"], score["copies"]) for score in scores] == quick
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
    cases = real.cases_of(OneScan(), scans)
    scores = real.scores_of_baselines(OneScan(), scans, cases, baselines).set_index("variant")
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


def _scores_of_two_centres():
    """Centre A: 10 as it is and 0 filled, so 5 is midway; centre B: 3 and 2, so 2.5."""
    first = {"variant": "v", "copies": 1} | dict.fromkeys(real.MEASURES, 0.5)
    rows = []
    for site, scan, logit, filled in (
        ("A", "a", 8.0, 0.0),
        ("A", "b", 12.0, 0.0),
        ("B", "c", 2.0, 1.0),
        ("B", "d", 4.0, 3.0),
    ):
        for rule in ("epsilon", "epsilon_gamma"):  # a scan counts once
            scan_columns = {"site": site, "scan": scan, "rule": rule}
            logits = {"logit_as_it_is": logit, "logit_filled": filled}
            rows.append({**first, **scan_columns, **logits})
    return pd.DataFrame(rows)


def test_the_offset_of_the_other_centre_is_midway_between_its_scans_and_the_filled_ones():
    scores = _scores_of_two_centres()
    set_apart = real.with_threshold_of_other_centres(scores).groupby("site")[real.THRESHOLD]
    assert set_apart.unique().to_dict() == {"A": [2.5], "B": [5.0]}
    table = real.table_of(scores)
    table = table[table["copies"] == 0].set_index(["site", "measure"])["value"]
    assert table[("A", "called_yes_other_centre_as_it_is")] == 1
    assert table[("A", "called_yes_other_centre_filled")] == 0
    assert table[("B", "called_yes_other_centre_as_it_is")] == 0  # 2 and 4 are below 5
    assert table[("all", "called_yes_other_centre_as_it_is")] == 0.5
    assert table[("all", "called_yes_as_it_is")] == 1
    own = scores["site"] == "B"
    scores.loc[own, ["logit_as_it_is", "logit_filled"]] += 100  # B's own scans do not decide for B
    moved = real.with_threshold_of_other_centres(scores)
    assert set(moved.loc[own, real.THRESHOLD]) == {5.0}


def test_with_one_centre_there_is_no_offset_of_another():
    scores = _scores_of_two_centres()
    measures = real.table_of(scores[scores["site"] == "A"])["measure"]
    assert not measures.str.contains("other_centre").any()
    assert measures.str.contains("called_yes_as_it_is").any()


def test_a_share_of_eight_has_an_exact_interval():
    row = real.row_of("called_yes_filled", [1.0] * 8)
    assert (row["value"], row["high"], row["n"]) == (1, 1, 8)
    assert row["low"] == pytest.approx(0.631, abs=0.001)  # Clopper and Pearson: 0.025 ** (1 / 8)
    assert real.row_of("auprc", [1.0] * 8)["low"] == 1
    assert real.is_share("pointing")
    assert not real.is_share("pointing_minus_brightness")


def test_the_table_is_written_anew_from_the_scores_alone(tmp_path, monkeypatch):
    for name in ("TABLE", "SCORES", "RECORD"):
        monkeypatch.setattr(real, name, tmp_path / getattr(real, name).name)
    scores = _scores_of_two_centres().assign(auprc=1 / 3)
    real.tsv.write(scores, real.SCORES, float_format="%.4g")
    written = real.write_table()
    assert (written.loc[written["measure"] == "auprc", "value"] == 0.3333).all()  # as in the file
    record = real.provenance.record({"maps": 1}, outputs=[real.TABLE, real.SCORES], weights=["w"])
    real.provenance.write_json(real.RECORD, record)
    before = real.TABLE.read_bytes()
    real.TABLE.write_text("stale")
    real.write_table_anew()
    assert real.TABLE.read_bytes() == before
    after = json.loads(real.RECORD.read_text())
    assert after.pop("table_written")["commit"]
    assert after == record
    real.SCORES.write_text("another")
    with pytest.raises(StaleInputError):
        real.write_table_anew()


def test_a_randomised_variant_is_compared_with_the_plain_one_alone():
    labels = np.array([0, 0, 1, 1])
    logits = {
        "scratch": np.array([0.0, 1.0, 2.0, 3.0]),
        "pairs": np.array([0.0, 1.0, 2.0, 3.0]),
        "pairs-randomised": np.array([0.0, 2.0, 1.0, 3.0]),
        "pretrained-randomised": np.array([0.0, 1.0, 2.0, 3.0]),  # without the plain one
    }
    table = real.accuracy_table(logits, labels).set_index(["variant", "measure"])
    assert table.loc[("scratch", "auc"), "value"] == 1
    assert table.loc[("pairs-randomised", "auc"), "value"] == 0.75  # 3 of 4 pairs in order
    assert table.loc[("pairs-randomised", "auc_minus_plain"), "value"] == pytest.approx(-0.25)
    assert len(table) == 5


def test_brightness_is_equalised_by_rank_inside_the_brain():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 12, 12))
    inside = np.zeros(values.shape, bool)
    inside[2:10, 2:10, 2:10] = True
    equal = real.equalised(values, inside)
    assert not equal[~inside].any()
    order = np.argsort(values[inside])
    assert (np.diff(equal[inside][order]) >= 0).all()
    assert equal[inside].max() == pytest.approx(1)
    share_below = (values[inside] <= values[5, 5, 5]).mean()
    assert equal[5, 5, 5] == pytest.approx(share_below, abs=0.05)  # within a bin


def test_the_largest_dice_shares_one_threshold_and_drops_small_parts():
    lesions = np.zeros((2, 12, 12, 12), bool)
    lesions[:, 2:6, 2:6, 2:6] = True
    maps = lesions * 1.0
    assert real.largest_dice(maps, lesions, voxel_volume=8.0) == 1
    maps[0, 9, 9, 9] = 1  # one voxel of 8 mm3 is a small part
    assert real.largest_dice(maps, lesions, voxel_volume=8.0) == 1
    assert real.largest_dice(maps, lesions, voxel_volume=80.0) < 1
    maps[1] = np.where(lesions[1], 0.001, 0.002)  # no threshold fits both patients
    assert real.largest_dice(maps, lesions, voxel_volume=8.0) == pytest.approx(2 / 3)


def test_the_published_evaluation_pools_the_voxels_of_a_site(monkeypatch):
    """Two patients of one site, and a map that is right for one of them."""

    class Scans:
        affine = np.diag([2, 2, 2, 1])

        def lesions(self, row):
            mask = np.zeros((12, 12, 12), bool)
            mask[2:6, 2:6, 2:6] = True
            return mask

        def brain(self, row):
            return np.ones((12, 12, 12), bool)

        def image(self, row):
            return np.random.default_rng(row).normal(size=(12, 12, 12))

    prepared = Scans()
    monkeypatch.setattr(real.network, "restore", lambda path: path)
    monkeypatch.setattr(
        real,
        "maps_of",
        lambda models, image, rule, copies: [prepared.lesions(0) * 1.0 for model in models],
    )
    scans = [real.Scan("A", str(number), None, None) for number in range(2)]
    table = real.as_published(prepared, scans, {0: None, 1: None}, {"networks": ["one", "two"]})
    table = table.set_index(["site", "map"])
    assert table.loc[("A", "networks"), "auprc"] == pytest.approx(1)
    assert table.loc[("A", "networks"), "dice"] == 1
    assert table.loc[("A", "networks"), "patients"] == 2
    assert table.loc[("A", real.EQUALISED), "auprc"] < 0.2
    assert table.loc[("Ljubljana", "thresholding, published"), "dice"] == 0.374
