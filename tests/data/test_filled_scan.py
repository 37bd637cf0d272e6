"""Filling of one scan in its own space: what is filled, what stays, and the check."""

import nibabel as nib
import numpy as np
import pytest

from msxai.base.errors import ImageError
from msxai.data import filled_scan, images
from msxai.data.synthetic import phantom

SLOW = pytest.mark.long(reason="a patient is simulated, and the brain looked for: 8 s")


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A simulated patient on the model's grid, stored with the first axis turned."""
    folder = tmp_path_factory.mktemp("patient")
    person = phantom.draw_people("ms", 4, 9000)[0]
    subject = person.scan()
    affine = images.AFFINE @ np.diag([-1.0, 1, 1, 1])
    affine[:3, 3] = (images.AFFINE @ [images.SHAPE[0] - 1, 0, 0, 1])[:3]
    paths = {}
    for name, values in {"scan": subject.image, "mask": subject.lesions}.items():
        paths[name] = folder / f"{name}.nii.gz"
        turned = np.asarray(values, "float32")[::-1]
        nib.save(nib.Nifti1Image(turned, affine), paths[name])
    return paths


@SLOW
def test_lesions_are_filled_and_the_rest_stays(patient, tmp_path):
    path = tmp_path / "filled.nii.gz"
    check = filled_scan.fill_scan(patient["scan"], patient["mask"], path)
    scan = nib.load(patient["scan"])
    filled = nib.load(path)
    assert filled.shape == scan.shape
    np.testing.assert_allclose(filled.affine, scan.affine, atol=1e-4)
    before = scan.get_fdata()
    after = filled.get_fdata()
    mask = nib.load(patient["mask"]).get_fdata() > 0
    assert check.lesion_voxels == mask.sum()
    assert check.changed_voxels == (before != after).sum()
    changed = before != after
    assert changed[mask].mean() > 0.95
    assert before[mask].mean() > after[mask].mean()
    assert check.shift_before > 2
    assert abs(check.shift) < 1
    assert check.passed


def test_a_check_can_fail():
    """Of few voxels the mean varies by chance: 0.8 is unusual for 1000 of them, not for 20."""
    assert filled_scan.Check(1000, 2000, 0.1, 4.0, 1.0).passed
    assert not filled_scan.Check(1000, 2000, 0.8, 4.0, 1.0).passed
    assert not filled_scan.Check(1000, 2000, 0.1, 4.0, 0.2).passed
    assert filled_scan.Check(20, 200, 0.8, 4.0, 1.0).passed


@SLOW
def test_an_empty_mask_is_refused_and_nothing_is_written(patient, tmp_path):
    mask = nib.load(patient["mask"])
    empty = tmp_path / "empty.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(mask.shape, "uint8"), mask.affine), empty)
    with pytest.raises(ImageError, match="without a voxel"):
        filled_scan.fill_scan(patient["scan"], empty, tmp_path / "filled.nii.gz")
    assert not (tmp_path / "filled.nii.gz").exists()
