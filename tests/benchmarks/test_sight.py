"""What the proof of sight measures, against values by hand."""

import json
import shutil

import numpy as np
import pytest
from support.networks import with_weights
from support.scripts import script
from support.toy_cohort import Toy

from msxai.base import statistics
from msxai.base.results import Results
from msxai.data.images import SHAPE, VOXEL_VOLUME
from msxai.model import network, shipped

sight = script("sight")


def trained(folder, name, trials, **parameters):
    for trial in range(trials):
        path = folder / name / f"trial-{trial}"
        path.mkdir(parents=True)
        network.save_weights(with_weights(1, SHAPE, trial), path / "weights.npz")
        (path / "provenance.json").write_text(json.dumps({"parameters": parameters}))


@pytest.fixture
def where(tmp_path):
    trained(tmp_path / "finetuning", "scratch", 2)
    trained(tmp_path / "finetuning", "pairs", 1, counterfactual_pairs="noise")
    trained(tmp_path / "pretraining", "lesions", 1, task="lesions")
    trained(tmp_path / "pretraining", ".", 1, task="diagnosis")
    return Results(str(tmp_path))


def test_variants_are_what_was_fine_tuned_and_what_knows_lesions(where):
    by_name = {variant.name: variant for variant in sight.variants(where)}
    assert set(by_name) == {"scratch", "pairs", "lesions, no fine-tuning"}
    assert len(by_name["scratch"].weights) == 2
    assert by_name["scratch"].labels_only
    assert not by_name["pairs"].labels_only


def test_the_shipped_networks_stand_for_a_pretraining_that_is_missing(where):
    shutil.rmtree(where.folder / "pretraining" / "lesions")
    by_name = {variant.name: variant for variant in sight.variants(where)}
    assert by_name["lesions, no fine-tuning"].weights == shipped.weights()


def test_each_voxel_has_the_size_of_its_lesion():
    lesions = np.zeros((6, 6, 6), bool)
    lesions[0, 0, 0] = True
    lesions[3:5, 3:5, 3] = True
    sizes = sight.lesion_sizes(lesions)
    assert sizes[0, 0, 0] == pytest.approx(VOXEL_VOLUME)
    assert sizes[3, 3, 3] == pytest.approx(4 * VOXEL_VOLUME)
    assert sizes[5, 5, 5] == 0


def test_accuracy_is_that_of_the_mean_logit_and_paired_with_scratch():
    labels = np.array([0, 0, 0, 1, 1, 1])
    logits = {
        "scratch": np.array([[0, 1, 2, 1, 2, 3.0]]),
        "best": np.array([[0, 1, 2, 3, 4, 5.0], [5, 4, 3, 2, 1, 0.0]]),
    }
    variants = [sight.Variant(name, [], labels_only=True) for name in logits]
    rows = sight.accuracy_rows(variants, logits, labels)
    values = {(row["variant"], row["measure"]): row["value"] for row in rows}
    assert values["best", "auc"] == 0.5  # the mean logit is 2.5 for everybody
    assert values["best", "auc_one_trial"] == 0.5
    scratch = statistics.auc(labels, logits["scratch"][0])
    assert values["best", "auc_minus_scratch"] == pytest.approx(0.5 - scratch)
    assert ("scratch", "auc_minus_scratch") not in values


def test_maps_are_measured_as_the_mean_over_trials(where, tmp_path, monkeypatch):
    """Trials whose maps are known: the first marks the lesions, the second nothing at all."""
    cohort = Toy(tmp_path)
    monkeypatch.setattr(sight, "Prepared", lambda path: cohort)
    monkeypatch.setattr(sight.network, "restore", lambda path: path.parent.name)
    monkeypatch.setattr(sight.network, "configure", lambda *_: None)

    def of_scan(model, image, names, **_):
        row = [np.array_equal(image, values) for values in cohort.images].index(True)
        marks = cohort.lesions(row).astype(float) if model == "trial-0" else np.zeros(SHAPE)
        return {names[0]: marks}

    monkeypatch.setattr(sight.scan_maps, "of_scan", of_scan)
    cohort.path = "by hand"
    variant = next(variant for variant in sight.variants(where) if variant.name == "scratch")
    rows, scores = sight.map_rows(cohort, variant, [1, 3, 5], [0, 2], jobs=1)
    table = {row["measure"]: row for row in rows}
    for measure in ("auprc", "rma", "rra", "pointing", "sensitivity"):
        assert table[measure]["value"] == 1
        assert table[measure]["n"] == 3
    assert table["auprc_minus_brightness"]["value"] > 0.9
    assert 0 < table["class_contrast"]["value"] < 0.2
    assert len(scores) == 3
    # Lesions of 100 to 300 voxels are all above 300 mm3.
    assert table["sensitivity_large"]["value"] == 1
    assert table["sensitivity_small"]["n"] == 0


def test_maps_measured_before_stay_where_the_weights_are_the_same(where, tmp_path, monkeypatch):
    trained = {variant.name: variant for variant in sight.variants(where)}
    for name in ("TABLE", "SCORES", "RECORD"):
        monkeypatch.setattr(sight, name, tmp_path / name)
    assert all(table.empty for table in sight.earlier_maps(list(trained.values())))
    rows = [
        {"variant": variant, "measure": measure, "value": 0.5}
        for variant in ("scratch", "pairs")
        for measure in ("auc", "auc_minus_scratch", "auprc", "pointing")
    ]
    sight.tsv.write(sight.pd.DataFrame(rows), sight.TABLE)
    scores = sight.pd.DataFrame({"variant": ["scratch", "pairs"], "auprc": [0.5, 0.5]})
    sight.tsv.write(scores, sight.SCORES)
    hashes = {"scratch": sight.weight_hashes(trained["scratch"]), "pairs": ["of other weights"]}
    files = [sight.TABLE, sight.SCORES]
    record = sight.provenance.record(sight.MAPS, outputs=files, weights=hashes)
    for name in sight.MAPS:
        other = record | {"parameters": sight.MAPS | {name: "another"}}
        sight.RECORD.write_text(json.dumps(other))
        assert all(table.empty for table in sight.earlier_maps(list(trained.values()))), name
    sight.RECORD.write_text(json.dumps(record | {"outputs": {"sight.tsv": "of another run"}}))
    assert all(table.empty for table in sight.earlier_maps(list(trained.values())))
    sight.RECORD.write_text(json.dumps(record))
    table, scores = sight.earlier_maps(list(trained.values()))
    assert table[["variant", "measure"]].to_numpy().tolist() == [
        ["scratch", "auprc"],
        ["scratch", "pointing"],
    ]
    assert scores["variant"].tolist() == ["scratch"]
