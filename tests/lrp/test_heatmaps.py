"""msxai.lrp.heatmaps: maps, sidecars and tables on disk, of toy arrays and a stand-in engine."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from support.networks import with_weights
from support.other_engines import need_innvestigate
from support.toy_cohort import Toy

from msxai import lrp
from msxai.base import provenance
from msxai.base.errors import ParameterError
from msxai.base.results import Results
from msxai.data import images
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

    need_innvestigate()
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

    need_innvestigate()
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


def explanation_of(scan, logit):
    audit = pd.DataFrame(columns=lrp.AUDIT)
    return lrp.Explanation(scan[None, ..., None], np.array([logit]), audit, "z_plus", 1e-3, "msxai")


def test_the_map_of_one_network_is_written_to_look_at_it(tmp_path):
    toy = Toy(tmp_path)
    scan = toy.images[4]
    entry = heatmaps.write_one(tmp_path / "maps", toy, 4, explanation_of(scan, 2.0))
    assert Path(entry["path"]).name == (
        "sub-4_space-MNI152_desc-lrpZPlus_stat-relevance_statmap.nii.gz"
    )
    assert entry["own_path"] == entry["path"]
    assert entry["sha256"] == provenance.sha256(entry["path"])
    assert entry["conserved"] == pytest.approx(scan.sum(dtype=float) / 2)
    expected = images.from_grid(scan, nib.load(toy.table["image"][4]))
    np.testing.assert_allclose(
        nib.load(entry["path"]).get_fdata(), expected.get_fdata(), rtol=1e-4, atol=1e-6
    )


def test_the_map_of_a_registered_scan_is_on_the_grid_and_in_its_own_space(tmp_path):
    """A scan that a shift of 18 mm along x takes to MNI152: its map lies 18 mm further left."""
    toy = Toy(tmp_path)
    matrix = np.eye(4)
    matrix[0, 3] = 18
    toy.table["registration"] = json.dumps({"route": "registered", "matrix": matrix.tolist()})
    toy.table["session_id"] = "ses-1"
    relevance = np.zeros(images.SHAPE, "float32")
    relevance[40:56, 50:66, 40:56] = 1
    entry = heatmaps.write_one(tmp_path / "maps", toy, 4, explanation_of(relevance, 2.0))
    on_grid = nib.load(entry["path"])
    np.testing.assert_array_equal(on_grid.get_fdata(), relevance)
    np.testing.assert_allclose(on_grid.affine, images.AFFINE, rtol=1e-6)
    assert entry["own_path"].endswith(
        "sub-4/ses-1/anat/sub-4_ses-1_space-orig_desc-lrpZPlus_stat-relevance_statmap.nii.gz"
    )
    own = nib.load(entry["own_path"])
    scan = nib.load(toy.table["image"][4])
    np.testing.assert_array_equal(own.affine, scan.affine)
    unmoved = nib.Nifti1Image(np.zeros(scan.shape, "float32"), matrix @ scan.affine)
    expected = images.from_grid(relevance, unmoved).get_fdata()
    np.testing.assert_allclose(own.get_fdata(), expected, rtol=1e-4, atol=1e-6)
    assert expected.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "epsilom"}, "Did you mean epsilon"),
        ({"rule": "gradient"}, "found 'gradient'"),
        ({"rule": "epsilon", "epsilon": -1.0}, "epsilon: found -1.0; expected a number above 0"),
        ({"rule": "epsilon", "copies": 0}, "copies: found 0"),
    ],
)
def test_settings_are_checked_before_anything_is_explained(options, message):
    with pytest.raises(ParameterError, match=message):
        heatmaps.Settings(**options)


def test_a_rule_that_innvestigate_does_not_know_is_refused_in_the_settings():
    need_innvestigate()
    computation = lrp.Computation(engine="innvestigate")
    with pytest.raises(ParameterError, match="found 'gamma'; expected one of epsilon, z"):
        heatmaps.Settings(rule="gamma", computation=computation)


@pytest.mark.parametrize(("logit", "expected"), [(0.0, None), (0.05, None), (2.0, 0.5)])
def test_the_share_of_a_logit_near_0_is_missing(logit, expected):
    maps = heatmaps.ScanMaps(np.ones((1, 1, 1, 1)), [logit], pd.DataFrame())
    scan = pd.Series({"participant_id": "sub-1", "session_id": "", "group": "MS", "label": 1})
    entry = heatmaps._entry(scan, "epsilon", maps)
    assert entry["conserved"] == pytest.approx(expected or np.nan, nan_ok=True)
