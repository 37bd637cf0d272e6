"""The whole series on the smoke profile, and what the workflow plans when something changes."""

import json
import os
import shutil
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
import yaml
from support.checkout import ITEMS, Checkout, parameters_cell

import msxai

pytestmark = [
    pytest.mark.series,
    pytest.mark.long(reason="the smoke profile runs once, 16 notebooks; then parts of it again"),
]


@pytest.fixture(scope="session")
def series(tmp_path_factory):
    """A checkout in which the smoke profile has run."""
    checkout = Checkout(tmp_path_factory.mktemp("check out"))
    result = checkout.snakemake()
    assert result.returncode == 0, result.stderr[-4000:]
    return checkout


@pytest.fixture
def changed(series):
    """Change a file of the checkout; it is put back afterwards."""
    contents = {}

    def change(name, text="\n# changed\n"):
        path = series.folder / name
        contents[path] = path.read_bytes()
        path.write_bytes(contents[path] + text.encode())

    yield change
    for path, content in contents.items():
        path.write_bytes(content)


def test_the_series_draws_every_figure(series):
    folder = series.folder / "runs" / "smoke" / "figures"
    stems = {path.stem for path in folder.glob("fig*.png")}
    numbers = {stem[:5] for stem in stems}
    assert numbers == {f"fig{item:02}" for item in ITEMS}
    for stem in stems:
        assert (folder / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert len((folder / f"{stem}.tsv").read_text().splitlines()) > 1
        record = json.loads((folder / f"{stem}.json").read_text())
        assert record["versions"]["msxai"] == msxai.__version__
        assert record["inputs"]
    assert {path.stem for path in folder.glob("*.svg")} >= {
        stem for stem in stems if stem[:5] in ("fig01", "fig05", "fig06")
    }
    assert not (series.folder / "figures").exists(), "only make copies figures, and only the demo's"


def test_heatmaps_lie_in_the_scans_space_with_their_sidecar(series):
    import nibabel as nib

    folder = series.folder / "runs" / "smoke" / "heatmaps" / "pretrained"
    maps = sorted(
        folder.glob("sub-*/anat/*_space-MNI152_desc-lrpEpsilon_stat-relevance_statmap.nii.gz")
    )
    assert len(maps) == 6
    sidecar = json.loads(maps[0].with_name(maps[0].name.replace(".nii.gz", ".json")).read_text())
    scan, heatmap = nib.load(series.folder / sidecar["Scan"]), nib.load(maps[0])
    np.testing.assert_array_equal(scan.affine, heatmap.affine)
    assert heatmap.get_fdata().sum() == pytest.approx(sidecar["SumOfRelevance"], rel=1e-4)
    assert sidecar["Notice"] == "Research software. Not for clinical use."
    assert sidecar["Synthetic"] is True
    assert sidecar["Epsilon"] == 1e-3
    assert sidecar["Engine"] == "msxai"
    absorbed = sum(layer["bias"] + layer["stabiliser"] for layer in sidecar["Audit"][0])
    assert sidecar["Logits"][0] == pytest.approx(sidecar["SumPerTrial"][0] + absorbed, rel=1e-4)


def test_a_second_run_does_nothing(series):
    assert series.plan() == set()


def test_saving_outputs_in_jupyterlab_reruns_nothing(series):
    notebook = jupytext.read(series.folder / "notebooks" / "03_fine_tuning.py")
    notebook.cells[1]["outputs"] = [nbformat.v4.new_output("stream", text="saved")]
    nbformat.write(notebook, series.folder / "notebooks" / "03_fine_tuning.ipynb")
    os.utime(series.folder / "msxai" / "model" / "network.py")
    assert series.plan() == set()


def test_the_network_decides_02_onwards(series, changed):
    changed("msxai/model/network.py")
    assert series.plan() == {
        "pretrain",
        "finetune",
        "evaluate",
        "explain",
        "relate",
        "judge",
        "draw",
        "report",
    }


def test_the_figure_module_decides_08_only(series, changed):
    changed("msxai/report/figures/slices.py")
    assert series.plan() == {"draw", "report"}


def test_a_fresh_clone_with_committed_figures_trains_and_draws_anew(series):
    shutil.copytree(
        series.folder / "runs" / "smoke" / "figures", series.folder / "figures" / "demo"
    )
    assert series.plan(profile="demo") > {
        "prepare",
        "fill",
        "pretrain",
        "finetune",
        "judge",
        "draw",
        "report",
    }
    shutil.rmtree(series.folder / "figures")


def test_by_hand_and_by_run_all_the_results_are_the_workflows(series, tmp_path):
    """03 by papermill from another folder, then cell by cell as Run All does: the same weights.

    Both write into another results folder.
    """
    reference = series.folder / "runs" / "smoke"
    config = yaml.safe_load((msxai.ROOT / "workflow" / "smoke.yaml").read_text())
    given = {**config["03_fine_tuning"], "cohort": "phantom-ms-smoke", "variant": "pretrained"}
    expected = np.load(reference / "finetuning" / "pretrained" / "trial-0" / "weights.npz")
    for turn in ("by hand", "run all"):
        results = tmp_path / turn
        for name in ("prepared", "pretraining"):
            shutil.copytree(reference / name, results / name)
        for record in results.rglob(
            "*.json"
        ):  # records name files from the checkout; here they lie outside
            content = json.loads(record.read_text())
            content["outputs"] = {
                Path(name).name: value for name, value in content["outputs"].items()
            }
            record.write_text(json.dumps(content))
        if turn == "by hand":
            result = series.papermill("03_fine_tuning", cwd=tmp_path, **given, results=str(results))
        else:
            notebook = jupytext.read(series.folder / "notebooks" / "03_fine_tuning.py")
            cell = parameters_cell(notebook)
            lines = {line.split(":")[0]: line for line in cell.source.splitlines()}
            for name, value in {**given, "results": str(results)}.items():
                lines[name] = f"{lines[name].split(' = ')[0]} = {value!r}"
            cell.source = "\n".join(lines.values())
            nbformat.write(notebook, tmp_path / "03.ipynb")
            result = series.run("jupyter", "execute", tmp_path / "03.ipynb")
        assert result.returncode == 0, result.stderr[-3000:]
        weights = np.load(results / "finetuning" / "pretrained" / "trial-0" / "weights.npz")
        for name in expected:
            np.testing.assert_array_equal(weights[name], expected[name])


def test_the_leagues_of_make_quality(series):
    """A control trained on permuted labels, another choice of maps, a folder of its own.

    What the series made stays as it is.
    """
    import pandas as pd

    runs = series.folder / "runs" / "smoke"
    before = (runs / "quality" / "pretrained" / "provenance.json").read_bytes()
    result = series.snakemake(
        "--configfile", "workflow/smoke.yaml", "workflow/quality-smoke.yaml", "--", "leagues"
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert {path.name for path in (runs / "league").iterdir()} == {"scratch"}
    tables = {
        path.stem: pd.read_csv(path, sep="\t", keep_default_na=False, na_values="n/a")
        for path in (runs / "league/scratch").glob("*.tsv")
    }
    assert set(tables) >= {
        "league",
        "scores",
        "summary",
        "checks",
        "randomisation",
        "controls",
        "fig_checks",
    }
    assert set(tables["controls"]["control"]) == {"untrained", "permuted labels"}
    assert set(tables["checks"]["map"]) == {"epsilon", "gamma", "gradient"}
    assert {"occlusion", "gamma", "prior"} < set(tables["league"]["map"])
    permuted = json.loads(
        (runs / "finetuning" / "permuted" / "trial-0" / "provenance.json").read_text()
    )
    assert permuted["parameters"]["permuted"] is True
    assert "trials" not in permuted["parameters"]
    assert not (runs / "finetuning" / "permuted" / "trial-1").exists()
    weights, usual = (
        np.load(runs / "finetuning" / name / "trial-0" / "weights.npz")
        for name in ("permuted", "scratch")
    )
    assert any((weights[name] != usual[name]).any() for name in usual)
    assert (runs / "quality" / "pretrained" / "provenance.json").read_bytes() == before
    assert series.plan() == set()


def test_a_step_refuses_results_made_with_other_parameters(series):
    result = series.papermill(
        "04_evaluation", cohort="phantom-ms-smoke", results="runs/smoke", width=4, trials=1
    )
    assert result.returncode != 0
    assert "found a result made with width=2; expected width=4 as in this run" in result.stderr


def test_a_failing_cell_fails_the_workflow_and_names_the_notebook(series, changed):
    changed("notebooks/08_figures.py", "\n# %%\nraise RuntimeError('planted')\n")
    result = series.snakemake()
    assert result.returncode != 0
    assert (
        "the executed notebook with the failing cell: runs/smoke/notebooks/08_figures.ipynb"
        in result.stderr
    )
    assert "planted" in (series.folder / "runs/smoke/notebooks/08_figures.ipynb").read_text()


@pytest.mark.real
def test_real_scans_by_parameters_alone(series, open_ms, tmp_path):
    """01 and 05 on two real FLAIR scans with their lesion masks.

    Checked: arrays, heatmaps in the scans' own space, a picture.
    """
    import nibabel as nib
    from scipy import ndimage

    from msxai.data.images import AFFINE, SHAPE, brain_mask
    from msxai.data.prepared import Prepared

    scans = [open_ms / "mni" / f"patient{number}_FLAIR.nii.gz" for number in ("07", "19")]
    masks = [open_ms / "lesions_mni" / f"patient{number}_lesions.nii.gz" for number in ("07", "19")]
    given = {"cohort": "real", "results": str(tmp_path / "results")}
    listed = {"images": list(map(str, scans)), "lesion_masks": list(map(str, masks))}
    result = series.papermill("01_data_preparation", **given, **listed, registration="none")
    assert result.returncode == 0, result.stderr[-3000:]
    prepared = Prepared(tmp_path / "results" / "prepared" / "real.h5")
    for row, path in enumerate(scans):
        image = nib.load(path)
        voxels = np.moveaxis(np.indices(SHAPE), 0, -1)
        places = nib.affines.apply_affine(np.linalg.inv(image.affine) @ AFFINE, voxels)
        reference = ndimage.map_coordinates(
            image.get_fdata(), np.moveaxis(places, -1, 0), order=1, mode="constant"
        )
        brain = brain_mask(reference.astype("float32"))
        reference = np.where(
            brain, (reference - reference[brain].mean()) / reference[brain].std(), 0
        )
        np.testing.assert_allclose(prepared.image(row), reference, atol=2e-4)
        assert prepared.lesions(row).any()
    weights = (
        series.folder / "runs" / "smoke" / "finetuning" / "pretrained" / "trial-0" / "weights.npz"
    )
    result = series.papermill("05_lrp_heatmaps", **given, weights=str(weights))
    assert result.returncode == 0, result.stderr[-3000:]
    heatmaps = sorted((tmp_path / "results" / "heatmaps").rglob("*_statmap.nii.gz"))
    assert len(heatmaps) == 2
    for path, scan in zip(heatmaps, map(nib.load, scans), strict=True):
        heatmap = nib.load(path)
        assert heatmap.shape == scan.shape
        np.testing.assert_array_equal(heatmap.affine, scan.affine)
        sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        assert heatmap.get_fdata().sum() == pytest.approx(sidecar["SumOfRelevance"], rel=0.05)
    assert '"image/png"' in series.executed.read_text()
