"""Region of whole lesions, at places that an anatomist knows, and their counts."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from msxai.base.errors import ParameterError
from msxai.data import images
from msxai.regions import lesion_regions, mcdonald, own_anatomy

INFRATENTORIAL, PERIVENTRICULAR, CORTICAL, DEEP = lesion_regions.REGIONS


def mask(*points, radius=1):
    """Cubes round MNI coordinates (mm)."""
    result = np.zeros(images.SHAPE, bool)
    for point in points:
        x, y, z = np.rint((np.array(point) - images.AFFINE[:3, 3]) / images.VOXEL_SIZE).astype(int)
        box = [slice(middle - radius, middle + radius + 1) for middle in (x, y, z)]
        result[tuple(box)] = True
    return result


def regions(*points, radius=1):
    return lesion_regions.of_lesions(lesion_regions.on_model_grid(mask(*points, radius=radius)))


@pytest.mark.parametrize(
    ("point", "region"),
    [
        ((0, -28, -32), INFRATENTORIAL),  # pons
        ((-26, -62, -40), INFRATENTORIAL),  # cerebellar white matter
        ((-18, 14, 22), PERIVENTRICULAR),  # at the frontal horn
        ((24, -40, 20), PERIVENTRICULAR),  # at the atrium
        ((-42, -20, 58), CORTICAL),  # precentral gyrus
        ((40, 36, 26), CORTICAL),  # middle frontal gyrus
        ((27, -12, 30), DEEP),  # centrum semiovale
    ],
)
def test_small_lesions_at_places(point, region):
    assert regions(point)["region"].tolist() == [region]


def test_a_lesion_belongs_as_a_whole_to_the_first_region_that_fits():
    """From the ventricle through deep white matter: one voxel that touches decides."""
    line = [(27 - step, -12, 30 - step / 2) for step in range(14)]
    table = regions(*line)
    assert len(table) == 1
    assert table["region"].tolist() == [PERIVENTRICULAR]


def test_volume_and_centre():
    table = regions((20.0, -40.0, 30.0), (-30.0, 10.0, 30.0), radius=1)
    assert table["voxels"].tolist() == [27, 27]
    assert table["volume"].tolist() == pytest.approx([27 * images.VOXEL_VOLUME] * 2)
    centres = sorted(table[["x", "y", "z"]].to_numpy().tolist())
    np.testing.assert_allclose(centres, [[-30, 10, 30], [20, -40, 30]], atol=1.0)


def test_the_largest_lesion_is_number_one():
    small = mask((-30, 10, 30), radius=0)
    large = mask((20, -40, 30), radius=2)
    labels, count = lesion_regions.label_lesions(small | large)
    assert count == 2
    assert (labels[large] == 1).all()
    assert (labels[small] == 2).all()


def test_corners_join_voxels():
    voxels = np.zeros((4, 4, 4), bool)
    voxels[0, 0, 0] = voxels[1, 1, 1] = voxels[3, 3, 3] = True
    labels, count = lesion_regions.label_lesions(voxels)
    assert count == 2
    assert labels[0, 0, 0] == labels[1, 1, 1] == 1


@pytest.mark.parametrize(("neighbours", "count"), [(6, 3), (18, 2), (26, 1)])
def test_fewer_neighbours_join_fewer_voxels(neighbours, count):
    """An edge joins the first two voxels, a corner the last two."""
    voxels = np.zeros((4, 4, 4), bool)
    voxels[0, 0, 0] = voxels[1, 1, 0] = voxels[2, 2, 1] = True
    assert lesion_regions.label_lesions(voxels, neighbours)[1] == count


def test_other_neighbours_are_refused():
    with pytest.raises(ParameterError, match="one of 6, 18, 26"):
        lesion_regions.label_lesions(np.zeros((4, 4, 4), bool), 8)


@pytest.mark.parametrize(
    ("point", "grey_matter"),
    [
        ((11, -18, 7), "thalamus"),
        ((-28, 2, 0), "deep grey matter"),  # putamen
        ((27, -12, 30), "none"),
    ],
)
def test_grey_matter_is_named_in_addition(point, grey_matter):
    assert regions(point)["grey_matter"].tolist() == [grey_matter]


class Cohort:
    """A scan without contrast with two lesions, and one without; reads like `Prepared`."""

    table = pd.DataFrame({"participant_id": ["sub-1", "sub-2"], "session_id": ["", "ses-1"]})

    def image(self, row):
        return np.zeros(images.SHAPE)

    def brain(self, row):
        return np.ones(images.SHAPE, bool)

    def lesions(self, row):
        return mask((0, -28, -32), (27, -12, 30)) if row == 0 else mask()


def test_whole_lesions_of_a_cohort():
    table = lesion_regions.of_scans(Cohort(), [0, 1])
    assert table["participant_id"].tolist() == ["sub-1"] * 4
    assert table["cortex"].tolist() == ["template"] * 4
    counts = table.set_index("region")
    assert counts["lesions"].to_dict() == {
        INFRATENTORIAL: 1,
        PERIVENTRICULAR: 0,
        CORTICAL: 0,
        DEEP: 1,
    }
    assert counts.loc[DEEP, "volume"] == pytest.approx(27 * images.VOXEL_VOLUME)
    empty = lesion_regions.of_scans(Cohort(), [1])
    assert empty.groupby("region")[["lesions", "volume"]].agg(["sum", "median"]).empty


# Lesions are counted and measured in the space of their file


def test_the_longest_axis_is_that_of_the_person(tmp_path):
    """A cube of n voxels of 1 mm: n - 1 voxels along each axis, and one voxel."""
    lesions = lesion_regions.read_lesions(*in_small_brain(tmp_path, 3, 6, 4))
    expected = np.sqrt(3) * np.array([5, 3, 2]) + 1
    assert lesions.longest_axes == pytest.approx(expected)


def test_the_longest_axis_against_all_pairs_of_voxels(rng):
    voxels = np.argwhere(rng.random((7, 6, 5)) < 0.3)
    affine = np.diag([0.7, 0.9, 4.0, 1.0])
    places = voxels * [0.7, 0.9, 4.0]
    all_pairs = np.linalg.norm(places[:, None] - places, axis=-1)
    longest = lesion_regions._longest_axis(voxels, affine)
    assert longest == pytest.approx(all_pairs.max() + 0.7)


def test_counts_of_the_mcdonald_regions(tmp_path):
    """Bars of 2 and 3 mm, and two of 3 mm that touch by an edge, all in the centrum semiovale."""
    values = np.zeros((60, 60, 60), "uint8")
    values[20:22, 20, 20] = values[20:23, 30, 20] = 1
    values[20:23, 40, 20] = values[23:26, 41, 20] = 1
    affine = np.eye(4)
    affine[:3, 3] = (6, -42, 10)
    path = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(values, affine), path)
    on_grid = images.mask_to_grid(nib.load(path))
    lesions = {}
    for neighbours in lesion_regions.NEIGHBOURS:
        lesions[neighbours] = lesion_regions.read_lesions(path, np.eye(4), on_grid, neighbours)
    counts = mcdonald.count(lesions, own_anatomy.of_template())
    assert counts.moved == 0
    deep = counts.table.loc[DEEP]
    assert deep[["lesions", "from_3_mm", "volume"]].tolist() == [3, 2, 11]
    assert deep[["neighbours_18", "neighbours_6"]].tolist() == [2, 3]
    assert (counts.table.drop(DEEP) == 0).all(axis=None)


def in_small_brain(tmp_path, *sizes):
    """A mask on voxels of 1 mm of a brain that registration enlarges to 1.2 times its length."""
    values = np.zeros((120, 140, 120), "uint8")
    for index, size in enumerate(sizes):
        start = 30 + 15 * index
        values[start : start + size, 70 : 70 + size, 60 : 60 + size] = 1
    affine = np.eye(4)
    affine[:3, 3] = (-60, -80, -50)
    image = nib.Nifti1Image(values, affine)
    nib.save(image, tmp_path / "mask.nii.gz")
    matrix = np.diag([1.2, 1.2, 1.2, 1])
    placed = nib.Nifti1Image(values, matrix @ affine)
    return tmp_path / "mask.nii.gz", matrix, images.mask_to_grid(placed)


def test_volumes_are_those_of_the_person_not_of_the_template(tmp_path):
    lesions = lesion_regions.read_lesions(*in_small_brain(tmp_path, 3, 6, 4))
    assert lesions.volumes.tolist() == [216, 64, 27]
    table = lesion_regions.of_lesions(lesions)
    assert table["volume"].tolist() == [216, 64, 27]
    # The first voxel of the largest one is (45, 70, 60), its centre is 2.5 voxels further.
    centre = 1.2 * (np.array([45, 70, 60]) + 2.5 - np.array([60, 80, 50]))
    np.testing.assert_allclose(table.loc[0, ["x", "y", "z"]].astype(float), centre, atol=0.1)
    assert table.loc[0, "voxels"] == pytest.approx(216 * 1.2**3 / images.VOXEL_VOLUME, rel=0.2)


def test_a_lesion_that_the_grid_loses_is_counted(tmp_path):
    lesions = lesion_regions.read_lesions(*in_small_brain(tmp_path, 4, 1))
    assert lesions.count == 2
    assert lesions.numbers.tolist() == [1]
    table = lesion_regions.of_lesions(lesions)
    assert table["voxels"].tolist()[1] == 0
    assert table["volume"].tolist() == [64, 1]
    assert table["region"].isin(lesion_regions.REGIONS).all()


def test_lesions_that_the_grid_joins_stay_two(tmp_path):
    values = np.zeros((60, 60, 60), "uint8")
    values[20:24, 20:24, 20:24] = values[25:29, 20:24, 20:24] = 1  # a gap of one millimetre
    affine = np.eye(4)
    affine[:3, 3] = (-11, -40, 10)
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "mask.nii.gz")
    on_grid = images.mask_to_grid(nib.Nifti1Image(values, affine))
    assert lesion_regions.label_lesions(on_grid)[1] == 1
    lesions = lesion_regions.read_lesions(tmp_path / "mask.nii.gz", np.eye(4), on_grid)
    assert lesions.volumes.tolist() == [64, 64]
    assert lesions.numbers.tolist() == [1, 2]
    assert ((lesions.labels > 0) == on_grid).all()


@pytest.mark.real
def test_a_real_mask_has_its_own_lesions_and_volume(open_ms):
    """scipy finds 37 components of 1,300 voxels of 1 mm in patient07's file."""
    path = open_ms / "lesions_mni" / "patient07_lesions.nii.gz"
    on_grid = images.mask_to_grid(images.load_mask(path))
    lesions = lesion_regions.read_lesions(path, np.eye(4), on_grid)
    assert lesions.count == 37
    assert lesions.volumes.sum() == pytest.approx(1300)
