"""The league on five small scans made by hand: with masks, masks of some scans, and none."""

import json

import numpy as np
import pandas as pd
import pytest
from support.networks import SMALL, with_weights
from support.small_cohort import Cohort

from msxai import lrp
from msxai.base.errors import CohortError, ParameterError
from msxai.model import network
from msxai.quality import league, localisation, reference_maps, scan_maps
from msxai.report import figures

OPTIONS = {
    "rules": ["epsilon", "epsilon_plus"],
    "methods": ["gradient"],
    "epsilon": 1e-3,
    "checked_maps": ["epsilon", "brightness"],
    "n_checked_scans": 2,
    "width": 1,
    "seed": 0,
    "threads": 1,
}
FEWEST = {"rules": ["epsilon"], "methods": [], "checked_maps": []}
"""Changes of the options for what does not depend on the maps."""

USUAL = league.NEVER | {
    "training on permuted labels": "no such networks were given (make quality has one)"
}


@pytest.fixture(scope="module", autouse=True)
def small_volumes(one_thread):
    """Networks of the package are of small volumes as well."""
    full_size = network.build

    def build(width, shape=SMALL, **options):
        return full_size(width, shape, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "build", build)
        yield


def small(**options):
    return Cohort(shape=SMALL, corner=(20, 20, 20), **options)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    paths = [folder / f"{seed}.npz" for seed in (0, 1)]
    for seed, path in enumerate(paths):
        network.save_weights(with_weights(1, SMALL, seed), path)
    return paths


def auprc(relevance, lesions, brain):
    return localisation.measure(relevance, lesions, brain, names=["auprc"])["auprc"]


def run(cohort, weights, permuted=(), **changes):
    tuned, words = reference_maps.attempt(cohort)
    settings = league.Settings(**{**OPTIONS, **changes})
    rows = cohort.rows("holdout")
    return league.compare(cohort, rows, weights, tuned, settings, permuted), words


@pytest.fixture(scope="module")
def full(weights):
    return run(small(), weights)


@pytest.fixture(scope="module")
def without_masks(weights):
    return run(small(known=()), weights, n_checked_scans=1)


def test_with_masks_all_is_measured(full):
    comparison, words = full
    assert "threshold of the z-score" in words
    assert comparison.left_out == USUAL
    names = {"epsilon", "epsilon_plus", "gradient", *reference_maps.NAMES}
    assert set(comparison.scores["map"]) == names
    assert comparison.scores.groupby("map").size().eq(3).all(), (
        "the scan without a lesion is not judged"
    )
    assert comparison.scores["consistency"].notna().groupby(
        comparison.scores["map"]
    ).all().to_dict() == {name: name not in reference_maps.NAMES for name in names}
    ranking = league.rank(comparison)
    assert set(ranking["map"]) == names
    assert ranking.set_index("map").loc["brightness", "auprc"] > 0.9
    summary = league.summary(comparison).set_index("map")
    assert summary.loc["brightness", "dose"] > 0.9, "bright lesions of 48, 64, 80 and 96 voxels"
    assert (
        summary.loc["epsilon", ["deletion", "insertion", "contrast", "consistency"]].notna().all()
    )
    assert summary.loc["gradient", ["deletion", "insertion"]].isna().all(), "not asked for"
    assert summary.loc["brightness", ["deletion", "insertion"]].notna().all()
    assert set(comparison.faithfulness["participant_id"]) == {"sub-1", "sub-3"}, (
        "two scans, evenly spread"
    )
    assert set(comparison.checks["map"]) == set(comparison.cascades["map"]) == {"epsilon"}, (
        "brightness depends on no network"
    )
    assert set(comparison.cascades["participant_id"]) == {"sub-1", "sub-3"}
    row, maps = comparison.example
    assert row == 2, "of the patients 1 and 2 the one in the upper middle"
    assert set(maps) == names


def test_a_map_is_the_mean_over_the_networks_of_what_each_way_gives_alone(full, weights):
    cohort, (row, maps) = small(), full[0].example
    models, volume = [network.restore(path) for path in weights], cohort.image(row)[None, ..., None]
    for rule in OPTIONS["rules"]:
        alone = [
            lrp.explain(model, volume, rule, computation=lrp.Computation(threads=1)).relevance[
                0, ..., 0
            ]
            for model in models
        ]
        np.testing.assert_array_equal(maps[rule], np.mean(alone, axis=0))
    alone = [lrp.explain(model, volume, "gradient").relevance[0, ..., 0] for model in models]
    np.testing.assert_allclose(
        maps["gradient"], np.mean(alone, axis=0), atol=1e-6 * np.abs(alone).max()
    )
    score = full[0].scores.set_index(["map", "participant_id"]).loc[("epsilon", "sub-2")]
    expected = localisation.measure(maps["epsilon"], cohort.lesions(2), cohort.brain(2))
    assert score[list(expected)].to_dict() == pytest.approx(expected)


@pytest.mark.long(reason="maps of two more networks, 9 s")
def test_controls_are_the_same_maps_of_networks_that_have_learnt_nothing(
    full, without_masks, weights
):
    comparison, _ = run(small(), weights[:1], permuted=weights[:1], checked_maps=[])
    assert "training on permuted labels" not in comparison.left_out
    table = league.controls(comparison).set_index(["control", "map", "measure"])
    assert set(table.index.get_level_values("map")) == {"epsilon", "epsilon_plus", "gradient"}
    assert set(table.index.get_level_values("control")) == set(league.CONTROLS)
    same = table.loc["permuted labels"]
    assert (same["difference"] == 0).all(), "the same network stands on both sides"
    cohort, model = small(), reference_maps.untrained(OPTIONS["width"], OPTIONS["seed"])
    alone = [
        auprc(
            lrp.explain(
                model,
                cohort.image(row)[None, ..., None],
                "epsilon_plus",
                computation=lrp.Computation(threads=1),
            ).relevance[0, ..., 0],
            cohort.lesions(row),
            cohort.brain(row),
        )
        for row in (1, 2, 3)
    ]
    untrained = table.loc[("untrained", "epsilon_plus", "auprc")]
    assert untrained["value"] == pytest.approx(np.mean(alone))
    trained = comparison.scores.query("map == 'epsilon_plus'")["auprc"].to_numpy()
    assert untrained["difference"] == pytest.approx(np.mean(trained - alone))
    assert untrained["difference_low"] <= untrained["difference"] <= untrained["difference_high"]
    assert untrained["subjects"] == 3
    assert league.controls(without_masks[0]).empty
    assert set(league.controls(full[0])["control"]) == {"untrained"}


def test_without_any_mask_the_rest_is_measured_and_the_reasons_are_kept(
    full, without_masks, weights, tmp_path
):
    comparison, words = without_masks
    assert "left out: what needs lesion masks" in words
    assert {"league", "dose", "scores against lesions", "baselines edges and prior", *USUAL} == set(
        comparison.left_out
    )
    assert league.rank(comparison).empty
    assert set(comparison.scores["participant_id"]) == {"sub-1", "sub-2"}, "the patients are judged"
    assert set(comparison.scores["map"]) == {
        "epsilon",
        "epsilon_plus",
        "gradient",
        "random",
        "untrained",
        "brightness",
    }
    assert "auprc" not in comparison.scores
    summary, with_masks = (
        league.summary(compared).set_index("map") for compared in (comparison, full[0])
    )
    assert summary["dose"].isna().all()
    assert summary.loc["epsilon", ["deletion", "insertion", "consistency"]].notna().all()
    assert summary.loc["epsilon", "contrast"] == pytest.approx(
        with_masks.loc["epsilon", "contrast"]
    ), "as with masks: it needs none"
    (tmp_path / "league.tsv").write_text("of an earlier run")
    tables = {
        "scores": comparison.scores,
        "league": league.rank(comparison),
        "summary": league.summary(comparison),
    }
    league.save(tmp_path, tables, {}, weights, comparison.left_out)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "left_out.tsv",
        "provenance.json",
        "scores.tsv",
        "summary.tsv",
    ]
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert record["left_out"] == comparison.left_out
    assert pd.read_csv(tmp_path / "left_out.tsv", sep="\t")["what"].tolist() == list(
        comparison.left_out
    )
    assert len(record["outputs"]) == 3
    figure, source = figures.league(
        tables["league"], synthetic=True, why=comparison.left_out["league"]
    )
    assert "baselines are tuned on scans with lesions" in source.iloc[0, 0]
    row, maps = comparison.example
    figure, _ = figures.contest(small(known=()), row, maps, comparison.scores, synthetic=True)
    assert "no lesion mask" in " ".join(text.get_text() for text in figure.texts)


def test_masks_of_some_scans_are_used_and_the_others_counted(weights):
    comparison, _ = run(small(known=(0, 1, 3)), weights, **FEWEST)
    assert comparison.left_out == USUAL | {
        "scores against lesions: some scans": "2 of 4 scans have no lesion mask"
    }
    assert set(comparison.scores["participant_id"]) == {"sub-1", "sub-3"}
    assert league.rank(comparison)["subjects"].eq(2).all()
    assert comparison.example[0] == 1, "the patient whose lesions are known"
    holdout, _ = run(
        small(known=(1, 2)), weights, **FEWEST
    )  # no mask in the training part: nothing to tune baselines on
    assert "auprc" in holdout.scores
    assert league.rank(holdout).empty
    assert set(holdout.left_out) == {
        "league",
        "baselines edges and prior",
        "scores against lesions: some scans",
        *USUAL,
    }


def test_one_network_or_one_class_is_said(weights):
    comparison, _ = run(small(label=(1,) * 5), weights[:1], **FEWEST)
    why = {
        "contrast": "it takes scans of patients and of controls",
        "consistency": "it takes two networks",
    }
    assert comparison.left_out == USUAL | why
    assert league.summary(comparison)[["contrast", "consistency", "deletion"]].isna().all(axis=None)


def test_few_scans_are_spread_evenly(full):
    assert full[0].judged == [1, 2, 3]
    assert league.spread_evenly(full[0].judged, 2) == [1, 3]
    assert league.spread_evenly(full[0].judged, 9) == [1, 2, 3]
    assert league.spread_evenly([], 2) == []


def test_bad_input(weights):
    with pytest.raises(CohortError):
        reference_maps.tune(small(known=()))
    with pytest.raises(ParameterError, match="epsilon"):
        run(small(), weights, checked_maps=["epsilom"])


@pytest.mark.long(reason="maps of eight copies, 4 s")
def test_maps_over_copies_of_every_network_and_control_but_not_of_the_baselines(weights):
    cohort, names = small(), ["epsilon", "gradient"]
    cohort.parts["holdout"] = [2]
    options = {"rules": names[:1], "methods": names[1:], "checked_maps": []}
    plain, with_copies = (
        run(cohort, weights, tta_copies=copies, **options)[0] for copies in (1, 2)
    )
    models = [network.restore(path) for path in weights]
    by_network = [
        scan_maps.of_scan(model, cohort.image(2), names, copies=2, threads=1) for model in models
    ]
    for name in names:
        np.testing.assert_allclose(
            with_copies.example[1][name],
            np.mean([maps[name] for maps in by_network], axis=0),
            rtol=1e-5,
            atol=1e-9,
        )
    assert not np.isclose(with_copies.controls["auprc"], plain.controls["auprc"], rtol=1e-6).any()
    np.testing.assert_array_equal(
        with_copies.example[1]["brightness"], plain.example[1]["brightness"]
    )
