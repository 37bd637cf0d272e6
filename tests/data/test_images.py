"""The way onto the model's grid and back against scipy on explicit affines; what is refused;
normalisation against plain numpy.
"""

import gzip

import hypothesis.extra.numpy as hnp
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from msxai.base.errors import ImageError, ParameterError
from msxai.data import images

# Axis directions of voxel axes in RAS millimetres, voxel sizes, shapes; all lie inside the grid's
# field of view
ORIENTATIONS = {
    "RAS": (np.diag([1, 1, 1]), (2, 2, 2), (40, 44, 36)),
    "LAS": (np.diag([-1, 1, 1]), (2.5, 2, 3), (40, 44, 30)),
    "LIA": (np.array([[-1, 0, 0], [0, 0, 1], [0, -1, 0]]), (2, 3, 2.2), (48, 30, 40)),
    "PSR": (np.array([[0, 0, 1], [-1, 0, 0], [0, 1, 0]]), (1.2, 2, 4), (60, 40, 22)),
}


def _affine(orientation, degrees=0.0):
    """Affine, with the volume's centre near (0, -18, 18) mm: an oracle of its own, no nibabel
    orientation code.
    """
    directions, zooms, shape = ORIENTATIONS[orientation]
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, cos, -sin], [0, sin, cos]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ directions @ np.diag(zooms)
    affine[:3, 3] = np.array([0, -18, 18]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine, shape


def _image(values, affine, code=2, header=None):
    image = nib.Nifti1Image(values, affine, header)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    return image


def _reference(values, affine, to_affine, to_shape, order=1):
    """Value at each target voxel's place in millimetres, 0 outside the source."""
    index = np.indices(to_shape).reshape(3, -1)
    matrix = np.linalg.inv(affine) @ to_affine
    where = matrix[:3, :3] @ index + matrix[:3, 3:]
    return ndimage.map_coordinates(
        values.astype(float), where, order=order, mode="constant", cval=0
    ).reshape(to_shape)


def _smooth(shape, rng, sigma=2):
    """A field of either sign, mean 0, standard deviation 100, 0 at the rim."""
    values = ndimage.gaussian_filter(rng.standard_normal(shape), sigma)
    rim = np.zeros(shape)
    rim[tuple(slice(4, -4) for _ in shape)] = 1
    return (100 * values / values.std() * ndimage.gaussian_filter(rim, 1)).astype("float32")


def _edge(affine, to_affine, to_shape, shape, margin=1e-3):
    """Target voxels at the very border of the source, where inside or outside is decided by
    rounding.
    """
    index = np.indices(to_shape).reshape(3, -1)
    matrix = np.linalg.inv(affine) @ to_affine
    where = matrix[:3, :3] @ index + matrix[:3, 3:]
    last = np.array(shape)[:, None] - 1
    return ((abs(where) < margin) | (abs(where - last) < margin)).any(0).reshape(to_shape)


def test_the_grid_covers_the_mni_field_of_view():
    # The 1 mm MNI grid's voxel (0, 0, 0) is centred at (-91, -126, -72): its outer faces are the
    # model grid's outer faces
    lower = images.AFFINE @ [-0.5, -0.5, -0.5, 1]
    upper = images.AFFINE @ [95.5, 113.5, 95.5, 1]
    np.testing.assert_allclose(lower[:3], [-91.5, -126.5, -72.5])
    np.testing.assert_allclose(upper[:3], [90.5, 91.5, 109.5])
    assert nib.aff2axcodes(images.AFFINE) == ("R", "A", "S")


@pytest.mark.parametrize("degrees", [0, 11])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_to_grid_is_linear_interpolation_at_each_voxels_place(orientation, degrees, rng):
    affine, shape = _affine(orientation, degrees)
    values = _smooth(shape, rng)
    resampled = images.to_grid(_image(values, affine))
    expected = _reference(values, affine, images.AFFINE, images.SHAPE)
    assert resampled.dtype == np.float32
    assert resampled.shape == images.SHAPE
    np.testing.assert_allclose(resampled, expected, atol=0.02)
    assert resampled.min() < -50  # negatives are kept


@pytest.mark.parametrize("orientation", ["LAS", "LIA"])
def test_to_grid_continuous_is_a_cubic_spline(orientation, rng):
    affine, shape = _affine(orientation, 7)
    values = _smooth(shape, rng)
    resampled = images.to_grid(_image(values, affine), "continuous")
    expected = _reference(values, affine, images.AFFINE, images.SHAPE, order=3)
    expected = np.clip(
        expected, min(values.min(), 0), max(values.max(), 0)
    )  # a spline overshoots; ours is documented not to
    np.testing.assert_allclose(resampled, expected, atol=0.02)
    assert (
        np.abs(resampled - images.to_grid(_image(values, affine))).max() > 1
    )  # another one than linear


def test_left_stays_left():
    affine, shape = _affine("LAS")
    values = np.zeros(shape, "float32")
    values[25:31, 20:24, 13:17] = (
        1  # voxel axis 0 runs to the left: a high index lies at negative x
    )
    resampled = images.to_grid(_image(values, affine))
    x = (images.AFFINE @ [*ndimage.center_of_mass(resampled), 1])[0]
    np.testing.assert_allclose(x, (affine @ [27.5, 0, 0, 1])[0], atol=0.2)
    assert x < 0


def test_an_image_on_the_grid_passes_bit_for_bit(rng):
    values = rng.standard_normal(images.SHAPE).astype("float32")
    image = _image(values, images.AFFINE)
    resampled = images.to_grid(image)
    assert resampled.tobytes() == values.tobytes()
    resampled[:] = 0  # a copy: the caller's image stays
    assert np.array_equal(image.get_fdata(dtype="float32"), values)
    assert images.from_grid(values, image).get_fdata(dtype="float32").tobytes() == values.tobytes()


def test_a_mask_is_cut_at_one_half(rng):
    affine, shape = _affine("LIA", 5)
    mask = ndimage.gaussian_filter(rng.standard_normal(shape), 3) > 0
    resampled = images.mask_to_grid(_image(7 * mask.astype("uint8"), affine))
    expected = _reference(mask, affine, images.AFFINE, images.SHAPE)
    sure = (abs(expected - 0.5) > 1e-4) & ~_edge(affine, images.AFFINE, images.SHAPE, shape)
    assert resampled.dtype == bool
    assert np.array_equal(resampled[sure], (expected >= 0.5)[sure])


@pytest.mark.parametrize("orientation", ["LAS", "LIA", "PSR"])
def test_from_grid_lands_on_the_images_own_grid_and_keeps_the_sum(orientation, rng):
    affine, shape = _affine(orientation, 6)
    values = np.zeros(images.SHAPE, "float32")
    values[33:63, 45:75, 35:61] = (
        3 + _smooth((30, 30, 26), rng) / 100
    )  # inside every one of the images
    image = _image(np.zeros(shape, "float32"), affine, code=4)
    out = images.from_grid(values, image)
    ratio = abs(np.linalg.det(affine[:3, :3])) / np.prod(np.diag(images.AFFINE)[:3])
    np.testing.assert_allclose(
        out.get_fdata(), _reference(values, images.AFFINE, affine, shape) * ratio, atol=0.02
    )
    np.testing.assert_allclose(out.get_fdata().sum(), values.sum(), rtol=0.01)
    np.testing.assert_allclose(out.affine, affine, atol=1e-5)
    assert (int(out.header["sform_code"]), int(out.header["qform_code"])) == (4, 4)
    assert out.header.get_xyzt_units()[0] == "mm"


def test_from_grid_takes_each_space_code_for_itself(rng):
    affine, shape = _affine("LAS")
    image = _image(np.zeros(shape, "float32"), affine)
    image.set_sform(affine, 3)
    image.set_qform(affine, 1)
    header = images.from_grid(np.ones(images.SHAPE), image).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (3, 1)


@pytest.mark.real
@pytest.mark.parametrize(
    "name",
    [
        "patient07_FLAIR",
        pytest.param("patient07_T1", marks=pytest.mark.long(reason="a second contrast, 2 s")),
        pytest.param("patient19_FLAIR", marks=pytest.mark.long(reason="a second patient, 2 s")),
        pytest.param("patient19_T1", marks=pytest.mark.long(reason="a second patient, 2 s")),
    ],
)
def test_real_scans_equal_the_reference_resampling(open_ms, name):
    path = open_ms / "mni" / f"{name}.nii.gz"
    raw = nib.load(path)
    image = images.load(path)
    resampled = images.to_grid(image)
    expected = _reference(raw.get_fdata(), raw.affine, images.AFFINE, images.SHAPE)
    sure = ~_edge(raw.affine, images.AFFINE, images.SHAPE, raw.shape)
    np.testing.assert_allclose(resampled[sure], expected[sure], atol=1e-3 * raw.get_fdata().std())
    assert nib.aff2axcodes(raw.affine) == ("L", "A", "S")
    assert raw.get_fdata().min() >= 0 or resampled.min() < 0
    back = images.from_grid(resampled, image)
    assert back.shape == raw.shape
    assert np.array_equal(back.affine, raw.affine)
    for code in ("sform_code", "qform_code"):
        assert back.header[code] == raw.header[code]


# What is refused


def _plain(path, values=None, affine=images.AFFINE, **fields):
    values = np.arange(60, dtype="float32").reshape(3, 4, 5) if values is None else values
    nib.save(_image(values, affine, **fields), path)
    return path


def _missing(folder):
    return folder / "missing.nii.gz"


def _folder(folder):
    (folder / "folder.nii.gz").mkdir()
    return folder / "folder.nii.gz"


def _empty(folder):
    (folder / "empty.nii.gz").touch()
    return folder / "empty.nii.gz"


def _truncated_gz(folder):
    rng = np.random.default_rng(0)
    path = _plain(folder / "cut.nii.gz", rng.standard_normal((20, 20, 20)).astype("float32"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _truncated(folder):
    path = _plain(folder / "cut.nii", np.ones((20, 20, 20), "float32"))
    path.write_bytes(path.read_bytes()[:5000])
    return path


def _header_only(folder):
    path = _plain(folder / "header.nii")
    path.write_bytes(path.read_bytes()[:100])
    return path


def _garbage(folder):
    path = folder / "garbage.nii.gz"
    path.write_bytes(bytes([31, 139, 8, 0]) + np.random.default_rng(0).bytes(500))
    return path


def _damaged_middle(folder):
    path = _plain(
        folder / "damaged.nii.gz",
        np.random.default_rng(0).standard_normal((20, 20, 20)).astype("float32"),
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    return path


def _not_gz(folder):
    path = folder / "named.nii.gz"
    path.write_bytes(np.random.default_rng(0).bytes(500))
    return path


def _html(folder):
    path = folder / "page.nii.gz"
    path.write_text("\n<!DOCTYPE html><html><body>Please log in</body></html>")
    return path


def _html_with_mark(folder):
    path = folder / "page.nii.gz"
    path.write_text("\ufeff<html><body>Please log in</body></html>", encoding="utf-8")
    return path


def _text(folder):
    path = folder / "notes.nii"
    path.write_text("no image at all\n" * 100)
    return path


def _zipped_text(folder):
    path = folder / "notes.nii.gz"
    path.write_bytes(gzip.compress(b"no image at all\n" * 100))
    return path


def _four_axes(folder):
    return _plain(folder / "bold.nii.gz", np.ones((3, 4, 5, 6), "float32"))


def _two_axes(folder):
    return _plain(folder / "slice.nii.gz", np.ones((3, 4), "float32"))


def _colours(folder):
    values = np.zeros((3, 4, 5), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    return _plain(folder / "rgb.nii.gz", values)


def _complex(folder):
    return _plain(folder / "kspace.nii.gz", np.ones((3, 4, 5), "complex64"))


def _no_space(folder):
    return _plain(folder / "nospace.nii.gz", code=0)


def _in_metres(folder):
    image = nib.Nifti1Image(np.ones((3, 4, 5), "float32"), np.diag([0.001, 0.001, 0.003, 1]))
    nib.save(image, folder / "metres.nii.gz")
    return folder / "metres.nii.gz"


def _in_micrometres(folder):
    image = nib.Nifti1Image(np.ones((3, 4, 5), "float32"), np.diag([-900, 900, 3000, 1]))
    nib.save(image, folder / "micrometres.nii.gz")
    return folder / "micrometres.nii.gz"


def _flat_affine(folder):
    affine = np.eye(4)
    affine[2, 2] = 0
    image = nib.Nifti1Image(np.arange(60, dtype="float32").reshape(3, 4, 5), None)
    image.header["sform_code"], image.header["vox_offset"] = 1, 352
    image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = affine[:3]
    path = folder / "flat.nii"
    path.write_bytes(
        image.header.binaryblock + bytes(4) + image.get_fdata(dtype="float32").tobytes(order="F")
    )
    return path


def _nan(folder):
    values = np.ones((3, 4, 5), "float32")
    values[1, 1, 1:3] = np.nan
    return _plain(folder / "nan.nii.gz", values)


def _infinite(folder):
    values = np.ones((3, 4, 5), "float32")
    values[2, 1, 1] = np.inf
    return _plain(folder / "inf.nii", values)


def _two_hands(folder):
    image = nib.Nifti1Image(np.ones((3, 4, 5), "float32"), None)
    image.set_sform(np.diag([2.0, 2, 2, 1]), 1)
    image.set_qform(np.diag([-2.0, 2, 2, 1]), 1)
    nib.save(image, folder / "hands.nii.gz")
    return folder / "hands.nii.gz"


BAD = {
    _missing: "no such file",
    _folder: "",
    _empty: "0 bytes",
    _truncated_gz: "",
    _truncated: "",
    _header_only: "",
    _garbage: "",
    _damaged_middle: "damaged",
    _not_gz: "",
    _html: "web page",
    _html_with_mark: "web page",
    _text: "",
    _zipped_text: "",
    _four_axes: "4 axes",
    _two_axes: "2 axes",
    _colours: "type",
    _complex: "type",
    _no_space: "no space",
    _flat_affine: "determinant",
    _in_metres: "voxels of 0.001 x 0.001 x 0.003 mm",
    _in_micrometres: "voxels of 900 x 900 x 3000 mm",
    _nan: "2 voxels",
    _infinite: "1 voxel",
    _two_hands: "sform right-handed, qform left-handed",
}


@pytest.mark.filterwarnings("error::numpy.exceptions.ComplexWarning")
@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__.strip("_"))
def test_a_bad_file_is_one_error_that_names_it(make, tmp_path):
    path = make(tmp_path)
    with pytest.raises(ImageError) as caught:
        images.load(path)
    assert type(caught.value) is ImageError
    assert str(path) in str(caught.value)
    assert BAD[make] in caught.value.found
    assert caught.value.mend


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (1, 1), (2, 4)])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("other", [False, True])
def test_two_spaces_of_one_hand_or_one_alone_pass(orientation, codes, other, tmp_path):
    """A turned qform is no mirrored one, and one of code 0 declares nothing."""
    affine, shape = _affine(orientation, 9)
    image = nib.Nifti1Image(np.ones(shape, "int16"), affine)
    image.set_sform(affine, codes[0])
    image.set_qform(_affine(orientation, -20)[0] if other else affine, codes[1])
    if not all(codes):  # a mirrored one beside it, that is not declared
        mirrored = np.diag([-1.0, 1, 1, 1]) @ affine
        (image.set_qform if not codes[1] else image.set_sform)(mirrored, 0)
    nib.save(image, tmp_path / "scan.nii.gz")
    assert images.load(tmp_path / "scan.nii.gz").shape == shape


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("axes", [(), (1,), (1, 1)])
def test_a_good_file_is_read_whole(name, axes, tmp_path):
    values = np.arange(-30, 30, dtype="int16").reshape(3, 4, 5, *axes)
    affine, _ = _affine("LAS", 5)
    image = images.load(_plain(tmp_path / name, values, affine))
    assert np.array_equal(image.get_fdata(), values.reshape(3, 4, 5))
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    assert image.shape == (3, 4, 5)
    assert image.header["sform_code"] == 2


def test_an_image_of_one_slice_keeps_its_axes(tmp_path):
    assert images.load(_plain(tmp_path / "slice.nii", np.ones((3, 4, 1), "float32"))).shape == (
        3,
        4,
        1,
    )


def test_scaled_integers_become_their_values(tmp_path):
    path = _plain(tmp_path / "scaled.nii", np.arange(60, dtype="int16").reshape(3, 4, 5))
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([0.5, -3], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(content)
    np.testing.assert_allclose(
        images.load(path).get_fdata(), np.arange(60).reshape(3, 4, 5) * 0.5 - 3
    )


def test_an_unknown_interpolation_names_the_nearest():
    with pytest.raises(ParameterError, match="linear"):
        images.to_grid(_image(np.ones((3, 4, 5), "float32"), np.eye(4)), "linea")


# Brain and intensities


def test_the_brain_is_the_largest_part_without_holes():
    x, y, z = np.indices((40, 40, 40)) - 20
    ball = x**2 + y**2 + z**2 < 15**2
    values = np.where(ball, 100.0, 0)
    values[18:22, 18:22, 18:22] = 5  # ventricle: dark, inside
    values[1:3, 1:3, 1:3] = 100  # a bright speck outside
    values[~ball & (values == 0)] = 1  # faint background
    assert np.array_equal(images.brain_mask(values), ball)
    assert not images.brain_mask(np.zeros((4, 4, 4))).any()
    assert not images.brain_mask(-np.ones((4, 4, 4))).any()


VALUES = hnp.arrays("float32", (4, 5, 6), elements=st.floats(-1000, 3000, width=32))


@settings(max_examples=60)
@given(VALUES, hnp.arrays(bool, (4, 5, 6)), st.sampled_from(images.NORMALISATIONS))
def test_normalise_keeps_its_input_and_meets_its_definition(values, mask, how):
    before, mask_before = values.copy(), mask.copy()
    try:
        out = images.normalise(values, mask, how)
    except ImageError:
        inside = values[mask] if how == "zscore" else values
        assert (
            inside.size == 0 or inside.min() == inside.max() or (how == "max" and values.max() <= 0)
        )
        return
    finally:
        assert np.array_equal(values, before)
        assert np.array_equal(mask, mask_before)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    exact = values.astype(float)
    if how == "zscore":
        assert not out[~mask].any()
        expected = (exact[mask] - exact[mask].mean()) / np.sqrt(
            ((exact[mask] - exact[mask].mean()) ** 2).mean()
        )
        np.testing.assert_allclose(out[mask], expected, atol=1e-3)
        np.testing.assert_allclose(
            [out[mask].astype(float).mean(), out[mask].astype(float).std()], [0, 1], atol=1e-5
        )
    elif how == "max":
        np.testing.assert_allclose(
            out, exact / exact.max(), rtol=1e-6, atol=1e-37
        )  # below it float32 has fewer digits
        assert out.max() == 1
    else:
        np.testing.assert_allclose(
            out, (exact - exact.min()) / (exact.max() - exact.min()), atol=1e-6
        )
        assert (out.min(), out.max()) == (0, 1)


@pytest.mark.parametrize("how", images.NORMALISATIONS)
def test_a_constant_image_is_refused(how):
    with pytest.raises(ImageError, match="same value"):
        images.normalise(np.full((4, 4, 4), 3.3), np.ones((4, 4, 4), bool), how)


def test_an_empty_mask_is_refused():
    with pytest.raises(ImageError, match="no brain voxels"):
        images.normalise(np.arange(64.0).reshape(4, 4, 4), np.zeros((4, 4, 4), bool))


def test_nothing_positive_has_no_maximum_to_divide_by():
    with pytest.raises(ImageError, match="positive"):
        images.normalise(-np.arange(64.0).reshape(4, 4, 4), np.ones((4, 4, 4), bool), "max")


def test_an_unknown_normalisation_names_the_nearest():
    with pytest.raises(ParameterError, match="zscore"):
        images.normalise(np.ones((4, 4, 4)), np.ones((4, 4, 4), bool), "z-score")


# Masks


def _mask(folder, values, affine=images.AFFINE, name="mask.nii.gz"):
    return _plain(folder / name, values, affine)


SOLID = np.zeros((12, 12, 12), "float32")
SOLID[3:9, 3:9, 3:9] = 1


@pytest.mark.parametrize(
    "values",
    [
        SOLID.astype("uint8"),
        SOLID * 255,
        SOLID * 17,
        SOLID * 0.9,
        np.where(SOLID > 0, 0.5, 0.49),
        np.where(SOLID > 0, 1.1, -0.1),
    ],
    ids=["binary", "255", "label", "probability", "one half", "overshoot of a spline"],
)
def test_a_mask_becomes_zeros_and_ones(values, tmp_path):
    image = images.load_mask(_mask(tmp_path, values.astype("float32")), brain=True)
    assert np.array_equal(image.get_fdata(), SOLID)
    assert np.array_equal(image.affine, images.load(tmp_path / "mask.nii.gz").affine)


def test_a_mask_may_have_another_shape_in_the_same_space(tmp_path, rng):
    affine, shape = _affine("LIA", 8)
    scan = _image(rng.uniform(1, 2, shape).astype("float32"), affine)
    inside = images.AFFINE @ [48, 57, 48, 1]  # a small box of 1 mm voxels about the grid's middle
    box = nib.affines.from_matvec(np.eye(3), inside[:3])
    assert images.load_mask(_mask(tmp_path, SOLID, box), scan).get_fdata().sum() == 216


@pytest.mark.parametrize(("shift", "good"), [(0, True), (50, True), (70, False), (1000, False)])
def test_most_of_a_mask_must_lie_on_its_scan(shift, good, tmp_path):
    """A box of 120 mm moved along x: of its 60 planes of 2 mm, shift / 2 leave the scan's box."""
    affine = np.diag([2.0, 2, 2, 1])
    values = np.zeros((100, 20, 20), "float32")
    values[20:80] = 7
    moved = affine.copy()
    moved[0, 3] = shift
    path = _mask(tmp_path, (values > 0).astype("uint8"), moved)
    if good:
        images.load_mask(path, _image(values, affine))
    else:
        with pytest.raises(
            ImageError, match=f"{max(0, 60 - shift // 2) / 60:.0%} lies on its scan"
        ):
            images.load_mask(path, _image(values, affine))


def test_a_mask_of_lesions_may_be_empty_a_brain_may_not(tmp_path):
    path = _mask(tmp_path, np.zeros((3, 4, 5), "uint8"))
    assert (
        not images.load_mask(path, _image(np.ones((3, 4, 5), "float32"), images.AFFINE))
        .get_fdata()
        .any()
    )
    with pytest.raises(ImageError, match=r"mask.nii.gz: found a mask without a voxel"):
        images.load_mask(path, brain=True)


@pytest.mark.real
@pytest.mark.parametrize("name", ["07", "19"])
def test_real_lesion_masks_pass_on_their_scans(open_ms, name):
    path = open_ms / "lesions_mni" / f"patient{name}_lesions.nii.gz"
    mask = images.load_mask(path, images.load(open_ms / "mni" / f"patient{name}_FLAIR.nii.gz"))
    assert mask.get_fdata().sum() == (nib.load(path).get_fdata() > 0).sum() > 0
