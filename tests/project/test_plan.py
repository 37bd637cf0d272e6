"""make plan: hours, memory and disk of a profile, by hand; an unknown profile is one sentence."""

import json

import pandas as pd
import pytest
import yaml
from support.scripts import script

import msxai
from msxai.base import tsv

SECONDS = 2.0


@pytest.fixture(scope="module")
def plan():
    return script("plan", folder="tools")


@pytest.fixture
def config():
    return yaml.safe_load((msxai.ROOT / "workflow" / "paper.yaml").read_text())


@pytest.fixture
def measured(plan):
    rows = [
        {"notebook": name, "unit": unit, "seconds": SECONDS, "megabytes": 1.0}
        for name, unit in plan.UNITS.items()
    ]
    return pd.DataFrame(rows)


def test_the_papers_trainings_by_hand(plan, config):
    by_name = {step.notebook: step for step in plan.steps(config)}
    pretraining = by_name["02_pretraining"]
    assert pretraining.jobs == 10
    assert pretraining.units == pytest.approx(460 * 0.85 * 45)
    tuning = by_name["03_fine_tuning"]
    assert tuning.jobs == 30  # three variants, ten trials
    assert tuning.units == pytest.approx((147 - 23) * 0.85 * 200)
    assert by_name["05_lrp_heatmaps"].units == 23 * 10


def test_hours_by_hand(plan, config, measured, monkeypatch):
    """On 4 cores of 2 threads each, two trainings run at once: 10 trials take 5 rounds."""
    monkeypatch.setattr(plan, "width_factor", lambda width: 3.0)
    table = plan.plan(config, measured, cores=4, memory_gb=64).set_index("notebook")
    row = table.loc["02_pretraining"]
    hours = 460 * 0.85 * 45 * SECONDS * 3 / 3600
    assert row["hours_a_job"] == pytest.approx(hours)
    assert row["hours"] == pytest.approx(10 * hours)
    assert row["hours_here"] == pytest.approx(5 * hours)
    assert table.loc["08_figures", "hours"] == pytest.approx(SECONDS / 3600)


def test_memory_limits_how_many_run_at_once(plan, config, measured):
    """A pre-training asks for 8 GB."""
    table = plan.plan(config, measured, cores=64, memory_gb=17).set_index("notebook")
    assert table.loc["02_pretraining", "at_once"] == 2


def test_each_profile_can_be_planned_and_a_job_that_does_not_fit_is_named(plan, capsys):
    """The workflow's own settings allow 6 GB; a pre-training of the paper's asks for 8."""
    for profile in ("tiny", "smoke", "demo", "paper"):
        plan.main([profile])
        text = capsys.readouterr().out
        assert f"Profile {profile}" in text
        assert "local/config.yaml allows 6 GB of memory): about" in text
        assert ("raise mem_mb in workflow/local/config.yaml to 8000" in text) == (
            profile == "paper"
        )


def test_an_unknown_profile_is_one_sentence(plan):
    with pytest.raises(SystemExit, match="found 'papr', expected one of cv"):
        plan.main(["papr"])


def test_units_are_measured_from_the_epochs_that_were_run(plan, tmp_path):
    """Two trainings of 28 epochs at most that stopped after 7 and 14: 3/8 of the work."""
    for trial, epochs in enumerate((7, 14)):
        folder = tmp_path / f"trial-{trial}"
        folder.mkdir()
        tsv.write(pd.DataFrame({"epoch": range(epochs)}), folder / "history.tsv")
    assert plan.share_of_epochs(tmp_path, {"epochs": 28}) == pytest.approx(0.375)


def test_seconds_are_those_of_papermill(plan, tmp_path):
    path = tmp_path / "01.ipynb"
    path.write_text(json.dumps({"metadata": {"papermill": {"duration": 12.5}}}))
    assert plan.seconds_of(path) == 12.5


SPEEDS = pd.DataFrame(
    [
        ("gpu:0 (a GPU)", "torch", 64, "float32", "training", 4, 20.0),
        ("gpu:0 (a GPU)", "torch", 64, "float32", "training", 8, 40.0),
        ("gpu:0 (a GPU)", "torch", 64, "float32", "training", 16, 80.0),
        ("gpu:0 (a GPU)", "torch", 64, "bfloat16", "training", 8, 90.0),
        ("gpu:0 (a GPU)", "torch", 64, "float32", "lrp", 4, 10.0),
        ("cpu", "torch", 64, "float32", "training", 8, 0.1),
    ],
    columns=["device", "backend", "width", "floats", "task", "batch", "volumes_per_second"],
)


def test_hours_on_a_gpu_by_hand(plan, config, measured):
    """Pre-training has batches of 8, fine-tuning of 4: 40 and 20 volumes a second."""
    table = plan.plan(config, measured, cores=2, memory_gb=64)
    by_name = {step.notebook: step for step in plan.steps(config)}
    used = {"02_pretraining": 40, "03_fine_tuning": 20}
    used |= {"05_lrp_heatmaps": 10, "07_explanation_quality": 10}
    seconds = sum(by_name[name].jobs * by_name[name].units / used[name] for name in used)
    others = table[~table["notebook"].isin(used)]["hours_here"].sum()
    expected = f"With one GPU (gpu:0 (a GPU)): about {seconds / 3600 + others:.1f} hours."
    assert plan.gpu_sentence(config, table, SPEEDS) == expected


def test_a_width_that_no_gpu_was_measured_with_is_said(plan, config, measured):
    table = plan.plan(config, measured, cores=2, memory_gb=64)
    narrow = SPEEDS.assign(width=16)
    assert "was not measured at width 64" in plan.gpu_sentence(config, table, narrow)
    assert "A GPU was not measured" in plan.gpu_sentence(config, table, None)
