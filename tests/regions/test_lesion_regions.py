"""Region of whole lesions, at places that an anatomist knows."""

import numpy as np
import pytest

from msxai.data import images
from msxai.regions import lesion_regions

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
    labels, count = lesion_regions.label_lesions(mask(*points, radius=radius))
    return lesion_regions.of_lesions(labels, count)


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
