"""Lesion filling: what is replaced looks like the white matter around, and nothing else changes."""

import pickle

import nibabel as nib
import numpy as np
import pytest

from msxai import images, lesions, phantom
from msxai.errors import ParameterError

ROW = {"participant_id": "sub-1", "session_id": ""}


@pytest.fixture(scope="module")
def patient():
    found = phantom.simulate("ms", "MS", seed=3, visit=3, volume=8000)
    scan, mask = (nib.Nifti1Image(array.astype("float32"), images.AFFINE) for array in (found.image, found.lesions))
    return scan, mask, found


@pytest.mark.parametrize("how", ["noise", "constant"])
@pytest.mark.parametrize("sites", ["lesions", "sham"])
def test_voxels_beyond_the_dilated_mask_stay_bit_for_bit(patient, how, sites):
    scan, mask, found = patient
    filled = lesions.Filler(how, sites)(scan, mask, ROW).get_fdata()
    voxels, changed = (nib.affines.apply_affine(images.AFFINE, np.argwhere(where)) for where in (found.lesions, filled != scan.get_fdata()))
    if sites == "sham":
        voxels = voxels * [-1, 1, 1]  # the grid is not symmetric about x = 0: half a voxel's play
    nearest = np.array([np.linalg.norm(voxels - one, axis=1).min() for one in changed])
    assert len(changed) > 1.3 * found.lesions.sum() if sites == "lesions" else len(changed) > 100  # the rim too
    assert nearest.max() < lesions.BORDER + (phantom.SIZE[0] / 2 if sites == "sham" else 0)
    if sites == "sham":
        np.testing.assert_array_equal(filled[found.lesions], scan.get_fdata()[found.lesions])


def test_noise_has_mean_and_spread_of_white_matter_and_constant_has_no_spread(patient):
    scan, mask, found = patient
    values, white = scan.get_fdata(), (found.classes == 2) & ~found.lesions
    noise, constant = (lesions.Filler(how)(scan, mask, ROW).get_fdata() for how in ("noise", "constant"))
    assert values[found.lesions].mean() > 1.1 * values[white].mean()
    assert noise[found.lesions].mean() == pytest.approx(values[white].mean(), rel=0.03)
    assert noise[found.lesions].std() == pytest.approx(values[white].std(), rel=0.3)
    for index in np.flatnonzero(found.lesions.any((0, 1))):
        assert len(np.unique(constant[..., index][found.lesions[..., index]])) == 1


def test_correlated_tissue_is_filled_with_correlated_noise(rng):
    from scipy import ndimage

    values = ndimage.gaussian_filter(rng.standard_normal((60, 60, 60)), 1.2)
    values = (100 + 5 * values / values.std()).astype("float32")
    mask = np.zeros(values.shape, bool)
    mask[20:40, 20:40, 20:40] = True
    found = lesions.fill(values, mask, ~mask, seed=1)[mask].reshape(20, 20, 20)

    def neighbours(block):
        return np.corrcoef(block[1:].ravel(), block[:-1].ravel())[0, 1]

    assert neighbours(found) == pytest.approx(neighbours(values), abs=0.08)
    assert found.std() == pytest.approx(values.std(), rel=0.15)


def test_a_seed_and_a_name_decide_the_draws(patient):
    scan, mask, _ = patient
    filler = lesions.Filler()
    first, again = filler(scan, mask, ROW), pickle.loads(pickle.dumps(filler))(scan, mask, ROW)
    np.testing.assert_array_equal(first.get_fdata(), again.get_fdata())
    assert not np.array_equal(first.get_fdata(), filler(scan, mask, {**ROW, "participant_id": "sub-2"}).get_fdata())


def test_a_scan_without_a_mask_stays_and_unknown_ways_are_refused(patient):
    scan = patient[0]
    np.testing.assert_array_equal(lesions.Filler()(scan, None, ROW).get_fdata(), scan.get_fdata())
    with pytest.raises(ParameterError, match="Did you mean noise"):
        lesions.Filler("nois")
