"""The comparison of two results folders: differences by hand."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from support.scripts import script

from msxai.base import tsv


@pytest.fixture(scope="module")
def backends():
    return script("backends")


def write(folder, logits, voxel, backend="torch"):
    """A results folder with one table, one map and a record."""
    evaluation = folder / "evaluation"
    columns = {"participant_id": ["a", "b"], "logit": logits, "seconds": logits[::-1]}
    tsv.write(pd.DataFrame(columns), evaluation / "predictions.tsv")
    record = {"backend": backend, "versions": {backend: "1.0"}}
    (evaluation / "provenance.json").write_text(json.dumps(record))
    values = np.zeros((2, 2, 2))
    values[0, 0, 0] = voxel
    values[1, 1, 1] = -4
    path = folder / "heatmaps" / "scratch" / "map.nii.gz"
    path.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)


def test_differences_are_relative_to_the_largest_magnitude(backends, tmp_path):
    write(tmp_path / "one", [1.0, -8.0], voxel=1)
    write(tmp_path / "two", [1.0, -8.4], voxel=1.2)
    table = backends.compare(tmp_path / "one", tmp_path / "two").set_index("table")
    assert table["largest_difference"].to_dict() == pytest.approx(
        {"predictions.tsv": 0.05, backends.MAPS: 0.05}
    )
    assert table.loc["predictions.tsv", "numbers"] == 2  # without the times
    assert table.loc[backends.MAPS, "numbers"] == 8
    assert backends.backend_of(tmp_path / "one") == "torch 1.0"


def test_texts_and_missing_numbers_that_differ_are_counted(backends):
    table = pd.DataFrame({"name": ["a", "b"], "value": [1.0, np.nan]})
    same = backends.compare_tables(table, table.copy())
    assert (same.largest, same.texts) == (0, 0)
    other = pd.DataFrame({"name": ["a", "c"], "value": [1.0, 2.0]})
    different = backends.compare_tables(table, other)
    assert (different.largest, different.texts) == (np.inf, 1)


def test_what_random_weights_decide_is_left_out(backends):
    columns = {"map": ["untrained", "b", "a"], "value": [9.0, 2.0, 1.0], "sha256": ["x", "y", "z"]}
    kept = backends.repeated(pd.DataFrame(columns | {"strong": [True, False, True]}))
    assert list(kept) == ["map", "value", "strong"]
    assert kept["value"].tolist() == [1.0, 2.0]


def test_another_number_of_rows_is_an_error(backends):
    with pytest.raises(SystemExit, match="expected"):
        backends.compare_tables(pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1]}))


def test_a_folder_without_a_series_is_an_error(backends, tmp_path):
    with pytest.raises(SystemExit, match="found no table of 04 to 07"):
        backends.compare(tmp_path, tmp_path)
