"""Paths that can name no file are one sentence, by readers of scans, masks, weights and maps."""

import pytest

from msxai.base import given_paths
from msxai.base.errors import CohortError, ImageError, MsxaiError, ParameterError
from msxai.data import filled_scan, image_files, images
from msxai.data.cohorts.cohort import from_images
from msxai.data.single_scans import list_scans
from msxai.data.synthetic import phantom
from msxai.model import network
from msxai.quality import external_maps

UNUSABLE = ["", "a" * 300, "d/" * 3000, "zero\0byte", "half\ud800"]
READERS = {
    "load": (images.load, ImageError),
    "load_mask": (images.load_mask, ImageError),
    "opened": (image_files.opened, ImageError),
    "restore": (network.restore, ParameterError),
    "head_of": (network.head_of, ParameterError),
    "maps": (lambda path: external_maps.read(path, path, "brains.npy"), ImageError),
    "scans": (lambda path: list_scans([path]), CohortError),
    "filled": (lambda path: filled_scan.fill_scan("scan.nii", "mask.nii", path), ImageError),
}


@pytest.mark.parametrize("path", UNUSABLE, ids=["empty", "name", "path", "zero", "surrogate"])
@pytest.mark.parametrize("name", READERS)
def test_a_path_that_can_name_no_file_is_refused(name, path):
    read, error = READERS[name]
    with pytest.raises(error) as caught:
        read(path)
    assert len(str(caught.value)) < 300
    str(caught.value).encode()


@pytest.mark.parametrize("name", ["maps", "scans", "filled"])
def test_an_unknown_user_is_refused(name):
    read, error = READERS[name]
    with pytest.raises(error, match="user that is not known here"):
        read("~nosuchuser/scan.nii")


def test_a_name_that_leaves_no_room_for_a_draft_is_refused(tmp_path):
    name = "a" * 230 + ".nii"
    given_paths.check(tmp_path / name)
    with pytest.raises(ImageError, match="too long"):
        filled_scan.fill_scan("scan.nii", "mask.nii", tmp_path / name)


def test_any_other_path_passes(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file", tmp_path / "none", tmp_path / "file" / "below", "~"):
        given_paths.check(path)


def test_seeds_and_numbers_of_subjects_out_of_range_are_refused(tmp_path):
    with pytest.raises(ParameterError, match="parameter seed: found -1"):
        phantom.write_cohort("ms", tmp_path / "new", 4, -1)
    with pytest.raises(MsxaiError, match="at most 100000"):
        phantom.write_cohort("ms", tmp_path / "new", 10**20, 1)
    with pytest.raises(ParameterError, match="parameter seed: found -1"):
        filled_scan.fill_scan("scan.nii", "mask.nii", tmp_path / "filled.nii", seed=-1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [1, True, 1.5, ["a.nii"], {"a": 1}, b"a.nii"])
def test_what_is_no_path_is_refused(value):
    expected = f"found a value of the type {type(value).__name__}; expected a path"
    for read, error in (READERS["scans"], READERS["restore"]):
        with pytest.raises(error, match=expected):
            read(value)
    with pytest.raises(ParameterError, match=expected):
        from_images([value])


def test_no_path_at_all_is_no_mask_and_no_scan(tmp_path):
    scan = tmp_path / "a.nii"
    scan.touch()
    (files,) = list_scans([scan], lesion_masks=[None], brain_masks=[""])
    assert files.given == {"image": str(scan)}
    with pytest.raises(CohortError, match="path: found nothing; expected a path"):
        list_scans([None])
    with pytest.raises(CohortError, match="found a value of the type int; expected a path"):
        list_scans([scan], lesion_masks=[0])
