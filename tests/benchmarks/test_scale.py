"""Proofs of scale and of the slowest parts of the series: inputs and sums by hand."""

import json

import h5py
import numpy as np
import pytest
from support.scripts import script

from msxai.data.cohorts.cohort import open_cohort


@pytest.fixture(scope="module")
def scale():
    return script("scale")


def row(scans, seconds):
    return {"scans": scans, "processor_seconds": seconds}


def test_the_power_by_which_a_time_grows(scale):
    quadratic = [row(20, 9.0), row(500, 2.0), row(2000, 32.0)]
    assert scale.power(quadratic) == pytest.approx(2)
    assert scale.expected_seconds(quadratic, 10000) == pytest.approx(800)
    assert scale.expected_seconds([row(20, 9.0)], 500) == 0


def test_a_made_up_dataset_and_table_are_cohorts(scale, tmp_path):
    scale.write_dataset(tmp_path / "dataset", 6)
    scale.write_table(tmp_path, 6)
    for source in (tmp_path / "dataset", tmp_path / scale.TABLE):
        table = open_cohort(source).table
        assert len(table) == 6
        assert table["label"].tolist() == [0, 1] * 3
    assert open_cohort(tmp_path / "dataset").table["lesion_mask"].notna().all()


def test_chunks_are_repeated_as_they_are(scale, tmp_path):
    values = np.arange(2 * 3 * 4 * 5, dtype="float32").reshape(2, 3, 4, 5)
    with h5py.File(tmp_path / "arrays.h5", "w") as file:
        options = {"chunks": (1, 3, 4, 5), "compression": "gzip", "compression_opts": 1}
        source = file.create_dataset("few", data=values, **options)
        scale.copy_chunks(source, file, "many", 5)
        np.testing.assert_array_equal(file["many"][:], values[[0, 1, 0, 1, 0]])


def cell(source, seconds, **metadata):
    papermill = {"papermill": {"duration": seconds}}
    return {"cell_type": "code", "source": [source], "metadata": papermill | metadata}


def executed(folder, name, total, cells):
    folder.mkdir(exist_ok=True)
    times = {
        "start_time": "2026-01-01T10:00:00",
        "end_time": f"2026-01-01T10:00:{total % 60:02.0f}",
    }
    content = {"cells": cells, "metadata": {"papermill": {"duration": total, **times}}}
    (folder / f"{name}.ipynb").write_text(json.dumps(content))


def test_the_profile_of_a_series_by_hand(tmp_path):
    heading = {"cell_type": "markdown", "source": ["# 03\n", "## Training"], "metadata": {}}
    injected = cell("trial = 1", 50.0, tags=["injected-parameters"])
    for trial, slow in ((0, 20.0), (1, 40.0)):
        cells = [cell("import keras", 4.0), injected, heading, cell("fit()\nmore()", slow)]
        executed(tmp_path / "notebooks", f"03_fine_tuning_scratch_trial-{trial}", 30 + slow, cells)
    executed(
        tmp_path / "notebooks",
        "01_data_preparation_phantom-ms",
        30,
        [cell("import numpy", 2.0), cell("prepare()", 27.0)],
    )
    first, second = script("series_profile").profile(tmp_path).to_dict("records")
    assert (first["notebook"], first["runs"]) == ("03_fine_tuning", 2)
    assert first["seconds"] == 120
    assert first["share"] == pytest.approx(120 / 150)
    assert first["start_share"] == pytest.approx((120 - 60) / 120)
    assert (first["slowest_heading"], first["slowest_cell"]) == ("Training", "fit()")
    assert first["slowest_share"] == pytest.approx(60 / 120)
    assert (second["notebook"], second["runs"]) == ("01_data_preparation", 1)


def test_a_series_lasts_from_the_first_start_to_the_last_end(tmp_path):
    for name, total in (("01_data_preparation", 12), ("02_pretraining", 42)):
        executed(tmp_path / "notebooks", name, total, [])
    assert script("series_profile").elapsed(tmp_path) == pytest.approx(42 / 60)
