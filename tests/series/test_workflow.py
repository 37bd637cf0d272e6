"""The whole series on the smoke profile, in a copy of the checkout, and what the workflow plans when something changes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import jupytext
import nbformat
import numpy as np
import pytest
import yaml

import msxai

pytestmark = pytest.mark.series
BIN = Path(sys.executable).parent
ITEMS = range(1, 15)  # of the paper
NOTEBOOKS = sorted(path.stem for path in (msxai.ROOT / "notebooks").glob("*.py"))


def parameters_cell(notebook):
    """The one cell tagged parameters."""
    return next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))


class Checkout:
    """A copy of the checkout whose package and notebooks may be changed; the tests' environment runs it."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in ("msxai", "notebooks", "workflow"):
            ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
            shutil.copytree(msxai.ROOT / name, folder / name, ignore=ignored)
        self.environment = {**os.environ, "PYTHONPATH": str(folder), "HOME": str(folder / "home")}
        del self.environment[
            "MPLBACKEND"
        ]  # of the tests' own process; with it notebooks show no pictures
        (folder / "home").mkdir()

    def run(self, *command, cwd=None) -> subprocess.CompletedProcess:
        command = [BIN / command[0], *command[1:]]
        return subprocess.run(
            command,
            cwd=cwd or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def snakemake(self, *options, profile="smoke") -> subprocess.CompletedProcess:
        return self.run(
            "snakemake",
            "--snakefile",
            "workflow/Snakefile",
            "--configfile",
            f"workflow/{profile}.yaml",
            "--workflow-profile",
            "workflow/local",
            *options,
        )

    def plan(self, **options) -> set[str]:
        """Rules that would run."""
        found = self.snakemake("--dry-run", **options)
        assert found.returncode == 0, found.stderr
        table = re.findall(r"^(\w+) +\d+$", found.stdout + found.stderr, re.MULTILINE)
        return set(table) - {"total", "all"}

    def papermill(self, notebook: str, cwd=None, **parameters) -> subprocess.CompletedProcess:
        """The notebook by hand, as the README says; the executed notebook is `self.executed`."""
        source = self.folder / "notebooks" / f"{notebook}.ipynb"
        jupytext.write(jupytext.read(source.with_suffix(".py")), source)
        self.executed = self.folder / f"{notebook}.executed.ipynb"
        return self.run(
            "papermill",
            "--no-progress-bar",
            source,
            self.executed,
            "-y",
            json.dumps(parameters),
            cwd=cwd,
        )


@pytest.fixture(scope="session")
def series(tmp_path_factory):
    """A checkout in which the smoke profile has run."""
    checkout = Checkout(tmp_path_factory.mktemp("check out"))
    found = checkout.snakemake()
    assert found.returncode == 0, found.stderr[-4000:]
    return checkout


@pytest.fixture
def changed(series):
    """Change a file of the checkout; it is put back afterwards."""
    kept = {}

    def change(name, text="\n# changed\n"):
        path = series.folder / name
        kept[path] = path.read_bytes()
        path.write_bytes(kept[path] + text.encode())

    yield change
    for path, content in kept.items():
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
    scan, found = nib.load(series.folder / sidecar["Scan"]), nib.load(maps[0])
    np.testing.assert_array_equal(scan.affine, found.affine)
    assert found.get_fdata().sum() == pytest.approx(sidecar["SumOfRelevance"], rel=1e-4)
    assert sidecar["Notice"] == "Research software. Not for clinical use."
    assert sidecar["Synthetic"] is True
    assert sidecar["Epsilon"] == 1e-3
    assert sidecar["Engine"] == "msxai"
    kept = sum(layer["bias"] + layer["stabiliser"] for layer in sidecar["Audit"][0])
    assert sidecar["Logits"][0] == pytest.approx(sidecar["SumPerTrial"][0] + kept, rel=1e-4)


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


def test_rules_name_every_module_that_their_notebook_needs():
    """And no folder that it does not need. Figures are drawn in most notebooks and decide the results of 08 and 09 alone."""
    graph = grimp.build_graph("msxai")
    text = (msxai.ROOT / "workflow" / "Snakefile").read_text()
    space: dict = {}
    exec(text[text.index("DATA =") : text.index("def code(")], space)
    for notebook, listed in space["CODE"].items():
        draws = notebook in ("08_figures", "09_results_page")
        source = (msxai.ROOT / "notebooks" / f"{notebook}.py").read_text()
        needed = set()
        for package, names in re.findall(r"^from (msxai[\w.]*) import (.+)$", source, re.MULTILINE):
            for name in names.split(", "):
                module = f"{package}.{name}" if f"{package}.{name}" in graph.modules else package
                if module.startswith("msxai.report.figures") and not draws:
                    continue
                needed |= {module} | graph.find_upstream_modules(module)
        packages = {name for name in needed if graph.find_children(name)} | {"msxai"}
        needed -= packages
        for entry in listed:
            folder = "msxai." + entry.removesuffix(".py").replace("/", ".")
            covered = {name for name in needed if name == folder or name.startswith(f"{folder}.")}
            assert covered, f"{notebook} does not need {entry}"
            needed -= covered
        assert not needed, notebook


def test_defaults_of_the_notebooks_are_the_demo_profile():
    config = yaml.safe_load((msxai.ROOT / "workflow" / "demo.yaml").read_text())
    first = next(iter(config["variants"].items()))
    stage = {
        "01_data_preparation": config["cohorts"]["finetuning"],
        "01b_lesion_filling": {"filling": "noise"},
        "03_fine_tuning": {"variant": first[0], **first[1], "trial": 0},
        "02_pretraining": {"cohort": config["pretraining_cohort"], "trial": 0},
        "04_evaluation": {
            "variants": list(config["variants"]),
            "trials": config["trials"]["finetuning"],
        },
        "05_lrp_heatmaps": {
            "variant": config["heatmaps"],
            "trials": config["trials"]["finetuning"],
        },
        "06_region_relevance": {"variant": config["heatmaps"]},
        "07_explanation_quality": {
            "variant": config["heatmaps"],
            "trials": config["trials"]["finetuning"],
        },
        "08_figures": {
            "variant": config["heatmaps"],
            "filled": config["filled"],
            "pretraining_trials": config["trials"]["pretraining"],
        },
        "09_results_page": {"variant": config["heatmaps"], "filled": config["filled"]},
    }
    for notebook in NOTEBOOKS:
        cell = parameters_cell(jupytext.read(msxai.ROOT / "notebooks" / f"{notebook}.py"))
        space: dict = {}
        exec(cell.source, space)
        expected = {
            "cohort": config["cohort"],
            **config["common"],
            **config[notebook],
            **stage[notebook],
        }
        if notebook == "09_results_page":
            del expected["cohort"]
        assert {name: space[name] for name in expected} == expected, notebook
        assert set(space["__annotations__"]) >= set(expected)


def test_by_hand_and_by_run_all_the_results_are_the_workflows(series, tmp_path):
    """03 by papermill -p from another folder, then cell by cell as Run All does, into another results folder: the same weights."""
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
            found = series.papermill("03_fine_tuning", cwd=tmp_path, **given, results=str(results))
        else:
            notebook = jupytext.read(series.folder / "notebooks" / "03_fine_tuning.py")
            cell = parameters_cell(notebook)
            lines = {line.split(":")[0]: line for line in cell.source.splitlines()}
            for name, value in {**given, "results": str(results)}.items():
                lines[name] = f"{lines[name].split(' = ')[0]} = {value!r}"
            cell.source = "\n".join(lines.values())
            nbformat.write(notebook, tmp_path / "03.ipynb")
            found = series.run("jupyter", "execute", tmp_path / "03.ipynb")
        assert found.returncode == 0, found.stderr[-3000:]
        weights = np.load(results / "finetuning" / "pretrained" / "trial-0" / "weights.npz")
        for name in expected:
            np.testing.assert_array_equal(weights[name], expected[name])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cohrt": "phantom-ms-smoke"}, "Did you mean cohort?"),
        (
            {"validation": "much"},
            "parameter validation: found 'much' (str); expected a number (float)",
        ),
        ({"normalisation": "zscor"}, "Did you mean zscore?"),
        ({"cohort": "data/nothing-here"}, "no such folder; expected a BIDS dataset"),
    ],
)
def test_a_bad_parameter_fails_the_run_and_the_executed_notebook_is_kept(
    series, tmp_path, given, message
):
    usual = {
        "cohort": "phantom-ms-smoke",
        "subjects": 20,
        "holdout": [3, 3],
        "results": str(tmp_path),
    }
    found = series.papermill("01_data_preparation", **{**usual, **given})
    assert found.returncode != 0
    assert message in found.stderr
    assert message in re.sub(r"\\u001b\[[0-9;]*m", "", series.executed.read_text())
    assert not list(tmp_path.rglob("*.h5"))


def test_make_quality_judges_every_rule_and_method():
    """Two names say what another name says too."""
    from msxai import lrp
    from msxai.lrp import rules
    from msxai.quality import reference_maps

    config = yaml.safe_load((msxai.ROOT / "workflow" / "quality.yaml").read_text())
    options, same = (
        config["07_explanation_quality"],
        {"alpha1_beta0": "z_plus", "alpha_beta": "alpha2_beta1"},
    )
    assert set(options["rules"]) == set(rules.NAMES) - set(same)
    assert set(options["methods"]) == set(lrp.METHODS)
    assert set(options["examined"]) == {
        *options["rules"],
        *options["methods"],
        *reference_maps.NAMES,
    }
    assert options["permuted"] in config["variants"]


def test_the_leagues_of_make_quality(series):
    """A control trained on permuted labels, another choice of maps, and its own folder; what the series made stays as it is."""
    import pandas as pd

    runs = series.folder / "runs" / "smoke"
    before = (runs / "quality" / "pretrained" / "provenance.json").read_bytes()
    found = series.snakemake(
        "--configfile", "workflow/smoke.yaml", "workflow/quality-smoke.yaml", "--", "leagues"
    )
    assert found.returncode == 0, found.stderr[-4000:]
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


def test_cross_validation_of_the_networks(series):
    """make cv on two folds: every subject is held out once, by networks that have not seen it, and the folds are gathered."""
    import pandas as pd

    (series.folder / ".venv").symlink_to(BIN.parent)
    shutil.copytree(msxai.ROOT / "tools", series.folder / "tools")
    series.environment["CV"] = "workflow/cv-smoke.yaml"
    found = subprocess.run(
        ["sh", "tools/cv.sh"],
        cwd=series.folder,
        env=series.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-4000:]
    folds = [series.folder / "runs" / "cv-smoke" / f"fold-{fold}" for fold in range(2)]
    held = [
        pd.read_csv(fold / "prepared" / "phantom-ms-smoke_split.tsv", sep="\t").query(
            "part == 'holdout'"
        )
        for fold in folds
    ]
    assert len(pd.concat(held)["participant_id"].unique()) == 20 == sum(map(len, held))
    for fold, rows in zip(folds, held, strict=True):
        predictions = pd.read_csv(fold / "evaluation" / "predictions.tsv", sep="\t").query(
            "variant == 'pretrained'"
        )
        assert set(predictions["participant_id"]) == set(rows["participant_id"])
    assert "pretrained" in found.stdout
    (series.folder / ".venv").unlink()


def test_a_missing_step_names_the_notebook_and_the_command(series, tmp_path):
    found = series.papermill("03_fine_tuning", cohort="phantom-ms-smoke", results=str(tmp_path))
    assert found.returncode != 0
    assert (
        "expected the result of 01_data_preparation. Run it first: .venv/bin/papermill"
        in found.stderr
    )


def test_a_step_refuses_results_made_with_other_parameters(series):
    found = series.papermill(
        "04_evaluation", cohort="phantom-ms-smoke", results="runs/smoke", width=4, trials=1
    )
    assert found.returncode != 0
    assert "found a result made with width=2; expected width=4 as in this run" in found.stderr


def test_a_failing_cell_fails_the_workflow_and_names_the_notebook(series, changed):
    changed("notebooks/08_figures.py", "\n# %%\nraise RuntimeError('planted')\n")
    found = series.snakemake()
    assert found.returncode != 0
    assert (
        "the executed notebook with the failing cell: runs/smoke/notebooks/08_figures.ipynb"
        in found.stderr
    )
    assert "planted" in (series.folder / "runs/smoke/notebooks/08_figures.ipynb").read_text()


def test_a_cohort_without_masks_ages_or_edss_runs(series, tmp_path):
    """Everything that the phantom knows is taken away but scans and groups; 04 and 05 and 08 say what they leave out."""
    import pandas as pd

    cohort, results = tmp_path / "bare", tmp_path / "results"
    shutil.copytree(series.folder / "data" / "phantom-ms-smoke", cohort)
    shutil.rmtree(cohort / "derivatives")
    people = pd.read_csv(cohort / "participants.tsv", sep="\t")
    people[["participant_id", "group"]].to_csv(cohort / "participants.tsv", sep="\t", index=False)
    given = {"cohort": str(cohort), "results": str(results)}
    judged = {
        "width": 2,
        "rules": ["epsilon"],
        "methods": ["gradient"],
        "examined": ["epsilon"],
        "checked": 1,
    }
    steps = [
        ("01_data_preparation", {"holdout": [3, 3], "validation": 0.25}),
        ("03_fine_tuning", {"initial_weights": "scratch", "width": 2, "epochs": 1}),
        (
            "04_evaluation",
            {"variants": ["pretrained"], "trials": 1, "width": 2, "folds": 2, "repeats": 1},
        ),
        ("05_lrp_heatmaps", {"trials": 1}),
        ("06_region_relevance", {"permutations": 50, "randoms": 5}),
        ("07_explanation_quality", {"trials": 1, **judged}),
        ("08_figures", {"pretraining_trials": 0}),
        ("09_results_page", {}),
    ]
    for notebook, more in steps:
        known = {
            name: value
            for name, value in given.items()
            if (notebook, name) != ("09_results_page", "cohort")
        }
        found = series.papermill(notebook, **known, **more)
        assert found.returncode == 0, found.stderr[-3000:]
        if notebook == "04_evaluation":
            assert (
                "lesion load: left out, because the cohort has scans without a lesion mask"
                in series.executed.read_text()
            )
    assert {path.stem[:5] for path in (results / "figures").glob("fig*.png")} == {
        f"fig{item:02}" for item in ITEMS
    } - {"fig04"}
    page = (results / "report" / "index.html").read_text()
    assert (
        "no lesion volumes of tracts: no scan has a lesion mask" in page
        or "their atlas is not here" in page
    )
    assert "no quality league.tsv" in page


@pytest.mark.real
def test_real_scans_by_parameters_alone(series, open_ms, tmp_path):
    """01 and 05 on two real FLAIR scans with their lesion masks: arrays, heatmaps in the scans' own space, a picture."""
    import nibabel as nib
    from scipy import ndimage

    from msxai.data.images import AFFINE, SHAPE, brain_mask
    from msxai.data.prepared import Prepared

    scans = [open_ms / "mni" / f"patient{number}_FLAIR.nii.gz" for number in ("07", "19")]
    masks = [open_ms / "lesions_mni" / f"patient{number}_lesions.nii.gz" for number in ("07", "19")]
    given = {"cohort": "real", "results": str(tmp_path / "results")}
    listed = {"images": list(map(str, scans)), "lesion_masks": list(map(str, masks))}
    found = series.papermill("01_data_preparation", **given, **listed, registration="none")
    assert found.returncode == 0, found.stderr[-3000:]
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
    found = series.papermill("05_lrp_heatmaps", **given, weights=str(weights))
    assert found.returncode == 0, found.stderr[-3000:]
    heatmaps = sorted((tmp_path / "results" / "heatmaps").rglob("*_statmap.nii.gz"))
    assert len(heatmaps) == 2
    for path, scan in zip(heatmaps, map(nib.load, scans), strict=True):
        heatmap = nib.load(path)
        assert heatmap.shape == scan.shape
        np.testing.assert_array_equal(heatmap.affine, scan.affine)
        sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        assert heatmap.get_fdata().sum() == pytest.approx(sidecar["SumOfRelevance"], rel=0.05)
    assert '"image/png"' in series.executed.read_text()


def foreign(folder):
    """A BIDS dataset as another lab would bring it: heads as scanned and brains in MNI space, two sites, words of its own, gaps."""
    import nibabel as nib
    import pandas as pd
    from support.raw_heads import head, sampled

    from msxai.data import images
    from msxai.data.synthetic import phantom

    rows = []
    mni = nib.Nifti1Image(
        np.zeros((91, 109, 91), "uint8"),
        np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]]),
    )
    scanner = nib.Nifti1Image(
        np.zeros((180, 215, 75), "uint8"),
        np.array([[-1.0, 0, 0, 92], [0, -1, 0, 92], [0, 0, 2.5, -80], [0, 0, 0, 1]]),
    )
    for number in range(12):
        name, group = f"sub-berlin{number:02}", ("RRMS", "control")[number % 2]
        one = phantom.simulate(
            "ms",
            "MS" if group == "RRMS" else "HC",
            500 + number,
            600 + number,
            volume=6000 if group == "RRMS" else 0,
        )
        raw = number in (2, 5)
        values, grid = (head(one, 500 + number), scanner) if raw else (one.image, mni)
        files = {f"{name}/anat/{name}_acq-3d_FLAIR": (values, "int16")}
        if number != 4:
            files[f"derivatives/reader/{name}/anat/{name}_label-lesion_mask"] = (
                one.lesions,
                "uint8",
            )
        for path, (stored, kind) in files.items():
            stored = sampled(stored, images.AFFINE, grid)
            image = nib.Nifti1Image(
                (stored >= 0.5 if kind == "uint8" else stored).astype(kind), grid.affine
            )
            image.set_sform(grid.affine, 1 if raw else 4)
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            nib.save(image, folder / f"{path}.nii.gz")
        rows.append(
            {
                "participant_id": name,
                "diagnosis": group,
                "age": "n/a" if number == 3 else 30 + number,
                "sex": "FM"[number % 3 == 0],
                "site": "north" if number < 6 else "south",
            }
        )
    pd.DataFrame(rows).to_csv(folder / "participants.tsv", sep="\t", index=False)


def test_a_foreign_cohort_runs_by_parameters_alone(series, tmp_path):
    """All notebooks of the series, raw scans registered on the way; nothing but parameters tells it from the embedded cohort."""
    import pandas as pd

    from msxai.data.prepared import Prepared

    foreign(tmp_path / "berlin")
    given = {
        "cohort": tmp_path / "berlin",
        "results": "runs/berlin-smoke",
        "patients": "RRMS",
        "controls": "control",
        "label_column": "diagnosis",
        "holdout": "2,2",
    }
    found = series.snakemake("--config", *(f"{name}={value}" for name, value in given.items()))
    assert found.returncode == 0, found.stderr[-4000:]
    results = series.folder / "runs" / "berlin-smoke"
    cohort = Prepared(results / "prepared" / "berlin.h5")
    routes = cohort.table.set_index("participant_id")["registration"].map(
        lambda text: json.loads(text)["route"]
    )
    assert routes[routes == "full"].index.tolist() == ["sub-berlin02", "sub-berlin05"]
    assert set(routes[routes != "full"]) == {"resampled"}
    assert cohort.has_lesions.sum() == 11
    assert cohort.lesions(cohort.row("sub-berlin02")).any()
    assert cohort.table["age"].isna().sum() == 1
    quality = pd.read_csv(
        results / "quality-control" / "berlin" / "qc.tsv", sep="\t", na_values="n/a"
    ).set_index("participant_id")
    assert (quality.loc[["sub-berlin02", "sub-berlin05"], "dice"] > 0.9).all()
    assert (results / "quality-control" / "berlin" / "qc.html").stat().st_size > 100_000
    assert {path.stem[:5] for path in (results / "figures").glob("fig*.png")} == {
        f"fig{item:02}" for item in ITEMS
    }
    assert (
        "lesion load: left out, because the cohort has scans without a lesion mask"
        in (results / "notebooks" / "04_evaluation.ipynb").read_text()
    )
    assert not json.loads((results / "figures" / "provenance.json").read_text()).get(
        "synthetic", False
    )
