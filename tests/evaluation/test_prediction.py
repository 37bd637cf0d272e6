"""Predictions of all trials and heatmaps on disk, on toy arrays and a stand-in engine."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from support.networks import with_weights
from support.toy_cohort import Toy

from msxai import ROOT, lrp
from msxai.base import provenance
from msxai.base.results import Results
from msxai.data import images
from msxai.evaluation import prediction
from msxai.lrp import heatmaps, tta
from msxai.model import network


@pytest.fixture
def where(tmp_path):
    results = Results(str(tmp_path / "results"))
    for trial in (0, 1):
        network.save_weights(
            with_weights(1, images.SHAPE, seed=trial),
            results.trial("scratch", trial) / "weights.npz",
        )
    return results


def test_predictions_are_the_networks_for_every_trial(tmp_path, where):
    toy = Toy(tmp_path)
    rows = toy.rows("holdout")
    predictions = prediction.predict(
        toy, rows, {"scratch": [(where.trial("scratch", trial), {}) for trial in (0, 1)]}
    )
    assert predictions[["variant", "trial", "participant_id", "label"]].to_numpy().tolist() == [
        ["scratch", 0, "sub-4", 0],
        ["scratch", 0, "sub-5", 1],
        ["scratch", 1, "sub-4", 0],
        ["scratch", 1, "sub-5", 1],
    ]

    class Filled(Toy):
        def image(self, row):
            return -super().image(row)

    trained = {
        "scratch": [(where.trial("scratch", 0), {})],
        "filled": [(where.trial("scratch", 0), {})],
    }
    both = prediction.predict(
        toy, rows, trained, prediction.features(toy, rows, trained, {"filled": Filled(tmp_path)})
    )
    logits = np.asarray(with_weights(1, images.SHAPE, seed=0)(-toy.images[rows][..., None]))[:, 0]
    np.testing.assert_allclose(
        both.loc[both["variant"] == "filled", "logit"], logits, rtol=1e-3, atol=1e-4
    )
    for trial in (0, 1):
        logits = np.asarray(with_weights(1, images.SHAPE, seed=trial)(toy.images[rows][..., None]))[
            :, 0
        ]
        mine = predictions[predictions["trial"] == trial]
        np.testing.assert_allclose(mine["logit"], logits, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(mine["score"], 1 / (1 + np.exp(-logits)), rtol=1e-3)


def test_lesion_volumes_are_in_cubic_millimetres(tmp_path):
    toy = Toy(tmp_path)
    np.testing.assert_allclose(
        toy.lesion_volumes([1, 3]), np.array([100, 200]) * 182 * 218 * 182 / (96 * 114 * 96)
    )


class Simulated(Exception):
    """Raised in place of a simulation."""


@pytest.fixture
def embedded(tmp_path):
    toy = Toy(tmp_path)
    toy.modality = "FLAIR"
    toy.normalisation = "zscore"
    return toy


def test_further_subjects_have_a_seed_that_no_training_cohort_has(embedded, where, monkeypatch):
    profiles = [yaml.safe_load(path.read_text()) for path in (ROOT / "workflow").glob("*.yaml")]
    steps = [profile.get("01_data_preparation", {}) for profile in profiles]
    seeds = {step["cohort_seed"] for step in steps if "cohort_seed" in step}
    requested = []

    def find(name, subjects, seed, jobs):
        requested.append((name, subjects, seed))
        raise Simulated

    monkeypatch.setattr(prediction.phantom, "find", find)
    with pytest.raises(Simulated):
        prediction.further(where, embedded, "phantom-ms", 7)
    ((name, subjects, seed),) = requested
    assert (name, subjects) == ("phantom-ms-further", 7)
    assert len(seeds) >= 1
    assert seed not in seeds


def test_further_subjects_are_left_out_with_the_reason(embedded, where):
    def reason():
        further, left_out = prediction.further(where, embedded, cohort, subjects)
        assert further is None
        return left_out

    cohort, subjects = "phantom-ms", 0
    assert reason() == "further subjects: left out, because none were requested"
    cohort, subjects = "berlin", 5
    assert "only an embedded cohort can be simulated" in reason()
    cohort = "phantom-ms"
    embedded.normalisation = "voxelwise"
    assert "a voxel-wise z-score is valid only for the cohort" in reason()


@pytest.fixture
def written(tmp_path, where, monkeypatch):
    """Heatmaps of the holdout by two trials; the engine returns the scan times 1 and 3."""
    toy, factor = Toy(tmp_path), iter([1, 3])

    def explain(model, volumes, rule, *, epsilon, copies, computation):
        logits = volumes.sum(axis=(1, 2, 3, 4))
        audit = pd.DataFrame(
            {
                "volume": range(len(volumes)),
                "layer": "dense",
                "rule": rule,
                "arriving": logits,
                "passed": logits,
                "bias": 0.0,
                "stabiliser": 0.0,
            }
        )
        return lrp.Explanation(
            volumes * np.float32(next(factor)), logits, audit, rule, epsilon, computation.engine
        )

    monkeypatch.setattr(lrp, "explain", explain)
    weights = [where.trial("scratch", trial) / "weights.npz" for trial in (0, 1)]
    settings = heatmaps.Settings(
        rule="epsilon", computation=lrp.Computation(engine="innvestigate", threads=1)
    )
    return (
        toy,
        heatmaps.write(where.heatmaps("scratch"), toy, toy.rows("holdout"), weights, settings),
        where.heatmaps("scratch"),
        weights,
    )


def test_a_heatmap_is_the_mean_over_trials_in_the_scans_own_space(written):
    toy, table, folder, weights = written
    assert table["participant_id"].tolist() == ["sub-4", "sub-5"]
    np.testing.assert_allclose(
        table["relevance"], 2 * toy.images[4:].sum(axis=(1, 2, 3)), rtol=1e-4
    )
    np.testing.assert_allclose(table["conserved"], 2, rtol=1e-4)
    for entry, row in zip(heatmaps.read(folder).itertuples(), (4, 5), strict=True):
        heatmap, scan = nib.load(entry.path), nib.load(toy.table["image"][row])
        assert heatmap.shape == scan.shape
        np.testing.assert_array_equal(heatmap.affine, scan.affine)
        assert provenance.sha256(entry.path) == entry.sha256
        name = f"sub-{row}_space-MNI152_desc-lrpEpsilon_stat-relevance_statmap.json"
        sidecar = json.loads((folder / f"sub-{row}" / "anat" / name).read_text())
        assert sidecar["WeightsSHA256"] == [provenance.sha256(path) for path in weights]
        assert sidecar["Epsilon"] == 1e-3
        assert sidecar["Copies"] == 1
        assert "Not for clinical use" in sidecar["Notice"]
        assert sidecar["MeanLogit"] == pytest.approx(np.mean(sidecar["Logits"]))
        assert [
            layer["arriving"] for trial in sidecar["Audit"] for layer in trial
        ] == pytest.approx(sidecar["Logits"])
        spread = nib.load(entry.path.replace("stat-relevance_", "stat-relevanceSD_"))
        np.testing.assert_array_equal(spread.affine, scan.affine)
        expected = images.from_grid(
            np.float32(np.sqrt(2)) * np.abs(toy.images[row]), scan
        )  # the standard deviation of 1 and 3
        np.testing.assert_allclose(spread.get_fdata(), expected.get_fdata(), rtol=1e-4, atol=1e-6)


def test_the_audit_of_all_scans_and_trials_is_kept(written):
    audit = heatmaps.read_audit(written[2])
    assert audit[["participant_id", "session_id", "trial"]].values.tolist() == [
        [name, "", trial] for name in ("sub-4", "sub-5") for trial in (0, 1)
    ]
    np.testing.assert_allclose(
        audit["arriving"], np.repeat(written[0].images[4:].sum(axis=(1, 2, 3)), 2), rtol=1e-4
    )


def test_heatmaps_over_copies_lie_on_the_scan(tmp_path, where, monkeypatch):
    """The engine returns the scan itself: moved there and back, it fits except at the edges."""

    def explain(model, scans, rule, *, copies, **options):
        def explain_copy(volumes):
            audit = pd.DataFrame(
                {
                    "volume": range(len(volumes)),
                    "layer": "dense",
                    "rule": rule,
                    **dict.fromkeys(lrp.AUDIT[3:], 1.0),
                }
            )
            logits = np.ones(len(volumes))
            return {"map": lrp.Explanation(volumes, logits, audit, rule, 1e-3, "msxai")}

        return tta.mean_over_copies(explain_copy, scans, copies)["map"]

    monkeypatch.setattr(lrp, "explain", explain)
    toy, folder = Toy(tmp_path), where.heatmaps("scratch")
    settings = heatmaps.Settings(rule="epsilon", copies=3, computation=lrp.Computation(threads=1))
    heatmaps.write(folder, toy, [4], [where.trial("scratch", 0) / "weights.npz"], settings)
    path = heatmaps.read(folder)["path"][0]
    assert json.loads(Path(path.replace(".nii.gz", ".json")).read_text())["Copies"] == 3
    heatmap, expected = (
        nib.load(path),
        images.from_grid(toy.images[4], nib.load(toy.table["image"][4])),
    )
    inner = tuple(slice(length // 8, -(length // 8)) for length in heatmap.shape)
    np.testing.assert_allclose(
        heatmap.get_fdata()[inner], expected.get_fdata()[inner], rtol=1e-4, atol=1e-5
    )


def test_a_failing_engine_leaves_no_heatmaps(tmp_path, where, monkeypatch):
    def explain(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(lrp, "explain", explain)
    toy = Toy(tmp_path)
    with pytest.raises(MemoryError):
        heatmaps.write(
            where.heatmaps("scratch"),
            toy,
            [4],
            [where.trial("scratch", 0) / "weights.npz"],
            heatmaps.Settings(
                rule="epsilon", computation=lrp.Computation(engine="innvestigate", threads=1)
            ),
        )
    assert not list((tmp_path / "results" / "heatmaps").iterdir())


def test_means_of_heatmaps_net_and_positive(tmp_path):
    rng = np.random.default_rng(1)
    maps, paths = (
        rng.normal(size=(3, *images.SHAPE)).astype("float32"),
        [tmp_path / f"{number}.nii.gz" for number in range(3)],
    )
    for values, path in zip(maps, paths, strict=True):
        image = nib.Nifti1Image(values, images.AFFINE)
        image.set_sform(images.AFFINE, 4)
        nib.save(image, path)
    np.testing.assert_allclose(heatmaps.mean(paths), maps.mean(0), atol=1e-6)
    np.testing.assert_allclose(
        heatmaps.mean(paths, positive=True), np.clip(maps, 0, None).mean(0), atol=1e-6
    )
