"""Which files belong to a scan, and what its folder is called."""

import pytest

from msxai.base import provenance
from msxai.base.errors import CohortError
from msxai.data import single_scans


def test_names_take_as_many_folders_as_they_need():
    names = single_scans.folder_names(["x/a/flair.nii.gz", "x/b/flair.nii", "x/b/other.nii"])
    assert names == ["a_flair", "b_flair", "b_other"]
    assert single_scans.folder_names(["x/flair.nii.gz"]) == ["flair"]


def test_a_scan_and_its_gzipped_copy_are_told_apart_or_refused(tmp_path):
    """Their names are equal without the ending, whatever folders are added."""
    with pytest.raises(CohortError, match="equal"):
        single_scans.folder_names([tmp_path / "a.nii", tmp_path / "a.nii.gz"])


def test_files_are_put_together_in_order_and_hashed(tmp_path):
    paths = []
    for name in ("a", "b", "c", "d"):
        path = tmp_path / f"{name}.nii"
        path.write_text(name)
        paths.append(path)
    first, second = single_scans.list_scans(paths[:2], paths[2:])
    assert (first.lesion_mask, second.lesion_mask) == (str(paths[2]), str(paths[3]))
    assert first.brain_mask == first.t1 == ""
    assert first.hashes() == {
        "image": provenance.sha256(paths[0]),
        "lesion_mask": provenance.sha256(paths[2]),
    }


def test_no_scan_is_refused():
    with pytest.raises(CohortError, match="at least one"):
        single_scans.list_scans([])
