"""Lesion filling: what is replaced looks like the white matter around, and nothing else changes."""

import functools
import pickle
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree
from support.scripts import script

from msxai.base.errors import ImageError, ParameterError
from msxai.data import images, lesion_filling, prepared
from msxai.data.cohorts.cohort import open_cohort
from msxai.data.synthetic import phantom

ROW = {"participant_id": "sub-1", "session_id": ""}


@pytest.fixture(scope="module")
def patient():
    subject = phantom.simulate("ms", "MS", seed=3, visit=3, volume=8000)
    scan, mask = (
        nib.Nifti1Image(array.astype("float32"), images.AFFINE)
        for array in (subject.image, subject.lesions)
    )
    return scan, mask, subject


@pytest.fixture(scope="module")
def filled(patient):
    """The patient's scan filled in a given way; each way once."""
    scan, mask, _ = patient

    @functools.cache
    def fill(how="noise", sites="lesions"):
        return lesion_filling.Filler(how, sites)(scan, mask, ROW).get_fdata()

    return fill


@pytest.mark.parametrize("sites", ["lesions", "sham"])
def test_a_ground_for_several_fillings_changes_no_byte(patient, filled, sites):
    scan, mask, _ = patient
    ground = lesion_filling.Ground(scan, mask)
    for how in ("constant", "noise"):
        filler = lesion_filling.Filler(how, sites)
        again = filler(scan, mask, ROW, ground=ground).get_fdata()
        np.testing.assert_array_equal(again, filled(how, sites))


def test_holes_are_numbered_without_gaps():
    mask = np.zeros((80, 9, 9), bool)
    mask[2:70, 4, 4] = True
    mask[75, 1, 1] = True
    numbers = lesion_filling._holes(mask, (1.0, 1.0, 1.0))
    assert np.unique(numbers[mask]).tolist() == [1, 2, 3, 4]
    assert not numbers[~mask].any()


@pytest.mark.parametrize("how", ["noise", "constant"])
@pytest.mark.parametrize("sites", ["lesions", "sham"])
def test_voxels_beyond_the_dilated_mask_stay_bit_for_bit(patient, filled, how, sites):
    scan, _, subject = patient
    filled = filled(how, sites)
    voxels, changed = (
        nib.affines.apply_affine(images.AFFINE, np.argwhere(where))
        for where in (subject.lesions, filled != scan.get_fdata())
    )
    if sites == "sham":
        voxels = voxels * [-1, 1, 1]  # the grid is not symmetric about x = 0: half a voxel's play
    nearest, _ = cKDTree(voxels).query(changed)
    assert (
        len(changed) > 1.3 * subject.lesions.sum() if sites == "lesions" else len(changed) > 100
    )  # the rim too
    assert nearest.max() < lesion_filling.BORDER + (
        images.VOXEL_SIZE[0] / 2 if sites == "sham" else 0
    )
    if sites == "sham":
        np.testing.assert_array_equal(filled[subject.lesions], scan.get_fdata()[subject.lesions])


def test_noise_has_mean_and_spread_of_white_matter_and_constant_has_no_spread(patient, filled):
    scan, _, subject = patient
    values, white = scan.get_fdata(), (subject.classes == 2) & ~subject.lesions
    noise, constant = filled("noise"), filled("constant")
    assert values[subject.lesions].mean() > 1.1 * values[white].mean()
    assert noise[subject.lesions].mean() == pytest.approx(values[white].mean(), rel=0.03)
    assert noise[subject.lesions].std() == pytest.approx(values[white].std(), rel=0.3)
    for index in np.flatnonzero(subject.lesions.any((0, 1))):
        assert len(np.unique(constant[..., index][subject.lesions[..., index]])) == 1


def test_correlated_tissue_is_filled_with_correlated_noise(rng):
    values = ndimage.gaussian_filter(rng.standard_normal((60, 60, 60)), 1.2)
    values = (100 + 5 * values / values.std()).astype("float32")
    mask = np.zeros(values.shape, bool)
    mask[20:40, 20:40, 20:40] = True
    filled = lesion_filling.fill(values, mask, ~mask, seed=1)[mask].reshape(20, 20, 20)

    def neighbours(block):
        return np.corrcoef(block[1:].ravel(), block[:-1].ravel())[0, 1]

    assert neighbours(filled) == pytest.approx(neighbours(values), abs=0.08)
    assert filled.std() == pytest.approx(values.std(), rel=0.15)


def test_the_spread_stays_within_the_hole_and_across_its_border(rng):
    """White noise of known spread: neither the local mean nor the blending at the border may lose
    or add variance.
    """
    values = (100 + 5 * rng.standard_normal((60, 60, 60))).astype("float32")
    mask = np.zeros(values.shape, bool)
    mask[20:40, 20:40, 20:40] = True
    weight = lesion_filling.soft(mask, (1, 1, 1), ~mask)
    filled = [lesion_filling.fill(values, weight, weight == 0, seed=seed) for seed in range(3)]
    for where in (mask, (weight > 0) & (weight < 1), (weight > 0.3) & (weight < 0.7)):
        assert np.mean([volume[where].std() for volume in filled]) == pytest.approx(5, rel=0.04)
        assert np.mean([volume[where].mean() for volume in filled]) == pytest.approx(100, abs=0.3)
    assert all(np.array_equal(volume[weight == 0], values[weight == 0]) for volume in filled)


def test_filling_a_hole_leaves_the_source_for_the_next_piece(rng):
    values = (100 + 5 * rng.standard_normal((40, 30, 30))).astype("float32")
    mask = np.zeros(values.shape, bool)
    mask[5:15, 10:20, 10:20] = mask[25:35, 10:20, 10:20] = True
    filling = lesion_filling._NoiseFilling(values, mask.astype("float32"), ~mask, (1, 1, 1))
    source = filling.padded_source.copy()
    filling.run(rng)
    np.testing.assert_array_equal(filling.padded_source, source)


def test_masks_are_whole_up_to_2_mm_and_end_at_4_mm():
    """Distances in mm, stated here again: a mask without dilation leaves the lesions' rim."""
    mask = np.zeros((41, 5, 5), bool)
    mask[20, 2, 2] = True
    weight = lesion_filling.soft(mask, (0.5, 3.0, 3.0), np.ones(mask.shape, bool))[20:, 2, 2]
    distance = 0.5 * np.arange(21)  # mm, along the first axis
    expected = np.interp(distance, [0, 2, 4], [1, 1, 0])
    np.testing.assert_allclose(weight, expected, atol=1e-6)


def test_a_region_of_its_own_brightness_is_normal_appearing_and_fluid_and_lesions_are_not(rng):
    values = (100 + 4 * rng.standard_normal((90, 60, 60))).astype("float32")
    values[60:] += 15  # a region: four standard deviations brighter than the rest
    fluid, unmasked, masked = (np.zeros(values.shape, bool) for _ in range(3))
    fluid[20:40, 20:40, 20:40], unmasked[40:48, 42:50, 4:12], masked[70:78, 30:38, 30:38] = (
        True,
        True,
        True,
    )
    values[fluid], values[unmasked], values[masked] = 20, 140, 150
    normal = lesion_filling.normal_appearing(values, np.ones(values.shape, bool), masked, (1, 1, 1))
    assert normal[75:, :15].mean() > 0.9
    assert normal[:15].mean() > 0.9
    assert not (normal & (fluid | unmasked | masked)).any()
    again = lesion_filling.normal_appearing(
        (values - 105) / 7, np.ones(values.shape, bool), masked, (1, 1, 1)
    )
    assert (again == normal).mean() > 0.9999, "the unit does not matter"
    filled = lesion_filling.fill(values, masked, normal, seed=0)
    assert filled[masked].mean() == pytest.approx(115, abs=1.5)


def test_white_matter_is_found_below_the_tentorium(patient):
    white = lesion_filling.white_matter(patient[0])
    for position, inside in {
        (25, -10, 30): True,
        (3, -25, -30): True,
        (20, -58, -36): True,
        (0, -90, 0): False,
        (5, 10, 12): False,
    }.items():
        voxel = np.rint(nib.affines.apply_affine(np.linalg.inv(images.AFFINE), position)).astype(
            int
        )
        assert white[tuple(voxel)] == inside, position


def test_a_seed_and_a_name_decide_the_draws(patient, filled):
    scan, mask, _ = patient
    filler = lesion_filling.Filler()
    first, again = filled(), pickle.loads(pickle.dumps(filler))(scan, mask, ROW)
    np.testing.assert_array_equal(first, again.get_fdata())
    assert not np.array_equal(
        first, filler(scan, mask, {**ROW, "participant_id": "sub-2"}).get_fdata()
    )


def test_a_scan_without_a_mask_and_unknown_ways_are_refused(patient):
    scan, mask, _ = patient
    with pytest.raises(ImageError, match="sub-1: found no lesion mask"):
        lesion_filling.Filler()(scan, None, ROW)
    with pytest.raises(ParameterError, match="Did you mean noise"):
        lesion_filling.Filler("nois")
    empty = nib.Nifti1Image(np.zeros(mask.shape, "float32"), mask.affine)
    np.testing.assert_array_equal(
        lesion_filling.Filler()(scan, empty, ROW).get_fdata(), scan.get_fdata()
    )


@pytest.mark.long(reason="two processes that import the package, 15 s")
def test_preparation_fills_alike_in_one_process_and_in_two(tmp_path):
    phantom.write_cohort("ms", tmp_path / "cohort", 4, seed=1, progress=False)
    cohort = open_cohort(tmp_path / "cohort")
    one_of_each = cohort.table.groupby("group").head(1).reset_index(drop=True)
    cohort = replace(cohort, table=one_of_each)
    split = one_of_each[["participant_id", "session_id"]].assign(part=["training", "holdout"])
    results = []
    for name, jobs in (("one", 1), ("two", 2)):
        prepared.prepare(cohort, split, tmp_path / name, alter=lesion_filling.Filler(), jobs=jobs)
        arrays = prepared.Prepared(tmp_path / name)
        results.append(np.array([arrays.image(row) for row in range(2)]))
        row = arrays.first_with_lesions()
        brain, row_of_table = arrays.brain(row), arrays.table.iloc[row].to_dict()
        arrays.close()
    np.testing.assert_array_equal(*results)
    filled = lesion_filling.Filler()(
        *(images.load(row_of_table[name]) for name in ("image", "lesion_mask")), row_of_table
    ).get_fdata()
    np.testing.assert_allclose(results[0][row], images.normalise(filled, brain), atol=1e-5)


@pytest.mark.long(reason="a small version of a proof, 8 s")
def test_a_classifier_of_patches_sees_the_constant_fill():
    filling = script("filling")
    table = filling.measure(2, 40, trees=30)
    table = table[table["sites"] == "normal-appearing"].set_index("filling")
    assert table.loc["constant", "low_95"] > 0.75
    assert table.loc["noise", "auc"] < table.loc["constant", "auc"] - 0.15


@pytest.mark.long(reason="a whole real scan, 7 s")
@pytest.mark.real
def test_a_real_scan_stays_bit_for_bit_beyond_its_dilated_lesions(open_ms):
    scan = images.load(open_ms / "mni" / "patient07_FLAIR.nii.gz")
    mask = images.load_mask(open_ms / "lesions_mni" / "patient07_lesions.nii.gz", scan)
    filled = lesion_filling.Filler()(scan, mask, ROW)
    old, new, inside = scan.get_fdata(), filled.get_fdata(), mask.get_fdata() > 0
    assert filled.shape == scan.shape
    assert np.array_equal(filled.affine, scan.affine)
    voxels, changed = (
        nib.affines.apply_affine(scan.affine, np.argwhere(where)) for where in (inside, new != old)
    )
    assert len(changed) > 0
    far, _ = cKDTree(voxels).query(changed)
    assert far.max() < lesion_filling.BORDER
    assert (new != old)[inside].mean() > 0.95
    assert new[inside].mean() < old[inside].mean()
