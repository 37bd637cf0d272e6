"""The whole series once, on the tiny profile: every notebook, every figure, the results page."""

import json

import pytest
from support.checkout import ITEMS, OF_COMMANDS, Checkout

import msxai

pytestmark = pytest.mark.series


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A checkout in which the tiny profile has run."""
    checkout = Checkout(tmp_path_factory.mktemp("check out"))
    result = checkout.snakemake(profile="tiny")
    assert result.returncode == 0, result.stderr[-4000:]
    return checkout


@pytest.fixture(scope="module")
def results(series):
    return series.folder / "runs" / "tiny"


def test_every_notebook_runs(results):
    """Papermill's record of each executed notebook says that no cell failed."""
    executed = sorted((results / "notebooks").glob("*.ipynb"))
    scripts = sorted((msxai.ROOT / "notebooks").glob("*.py"))
    for script in scripts:
        if script.stem in OF_COMMANDS:
            continue
        runs = [path for path in executed if f"{path.stem}_".startswith(f"{script.stem}_")]
        assert runs, script.name
    for path in executed:
        record = json.loads(path.read_text(encoding="utf-8"))["metadata"]["papermill"]
        assert not record["exception"], path.name


def test_every_figure_is_drawn_with_its_numbers_and_its_record(results):
    stems = {path.stem for path in (results / "figures").glob("fig*.png")}
    assert {stem[:5] for stem in stems} == {f"fig{item:02}" for item in ITEMS}
    for stem in stems:
        assert len((results / "figures" / f"{stem}.tsv").read_text().splitlines()) > 1
        record = json.loads((results / "figures" / f"{stem}.json").read_text())
        assert record["versions"]["msxai"] == msxai.__version__


def test_the_heatmaps_sidecar_balances(results):
    """Logit = relevance in the map + relevance that biases and stabilisers keep."""
    maps = sorted((results / "heatmaps" / "pretrained").glob("sub-*/anat/*_statmap.nii.gz"))
    assert len(maps) == 4
    path = maps[0].with_name(maps[0].name.replace(".nii.gz", ".json"))
    sidecar = json.loads(path.read_text())
    kept_back = sum(layer["bias"] + layer["stabiliser"] for layer in sidecar["Audit"][0])
    total = sidecar["SumPerTrial"][0] + kept_back
    assert sidecar["Logits"][0] == pytest.approx(total, rel=1e-4)


def test_the_page_opens_with_the_notice(results):
    page = (results / "report" / "index.html").read_text()
    assert "Not for clinical use" in page


def test_a_second_run_does_nothing(series):
    assert series.plan(profile="tiny") == set()
