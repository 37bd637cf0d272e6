"""What scans may be given as, and targets and options that are refused."""

import keras
import nibabel as nib
import numpy as np
import pytest
from keras import layers
from support.layers import filled

from msxai import lrp
from msxai.base.errors import ImageError, ParameterError
from msxai.data import images
from msxai.lrp import scans
from msxai.lrp.scans import Inputs

SHAPE = (5, 4, 6)


@pytest.fixture(scope="module")
def model(one_thread):
    return filled(keras.Sequential([keras.Input((*SHAPE, 1)), layers.Flatten(), layers.Dense(3)]))


@pytest.fixture
def volume():
    return np.random.default_rng(0).normal(size=SHAPE).astype("float32")


def in_order(volume, codes):
    """The same image with its axes in another order and direction."""
    image = nib.Nifti1Image(volume, np.diag([2.0, 2.0, 2.0, 1.0]))
    from_ras = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
    )
    return image.as_reoriented(from_ras)


def test_one_scan_or_several_of_any_kind_have_the_same_map(model, volume, tmp_path):
    image = in_order(volume, "RAS")
    path = tmp_path / "scan.nii.gz"
    nib.save(image, path)
    expected = lrp.explain(model, volume[None, ..., None], "z").relevance
    for given in (
        path,
        str(path),
        image,
        [path],
        [image],
        volume,
        volume[..., None],
        volume[None],
        [volume],
    ):
        np.testing.assert_array_equal(lrp.explain(model, given, "z").relevance, expected)


@pytest.mark.parametrize("codes", ["LAS", "LPI", "SRP", "PIR"])
def test_a_file_in_another_orientation_has_the_same_logit(model, volume, tmp_path, codes):
    """The shape alone says nothing: a copy that is flipped in the file has the same shape."""
    path = tmp_path / "scan.nii.gz"
    nib.save(in_order(volume, codes), path)
    assert lrp.explain(model, path).logits == lrp.explain(model, volume).logits


def test_an_opened_image_that_announces_more_than_its_file_holds_is_refused(
    model, volume, tmp_path
):
    path = tmp_path / "scan.nii"
    nib.save(in_order(volume, "RAS"), path)
    content = bytearray(path.read_bytes())
    content[42:48] = np.full(3, 32767, "<i2").tobytes()
    path.write_bytes(content)
    with pytest.raises(ImageError, match="a header of 32767 x 32767 x 32767 voxels, which need"):
        lrp.explain(model, nib.load(path), "z")


def mirrored(volume):
    image = in_order(volume, "RAS")
    image.set_sform(image.affine, 1)
    image.set_qform(np.diag([-1.0, 1, 1, 1]) @ image.affine, 1)
    return image


def without_space(volume):
    image = in_order(volume, "RAS")
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    return image


def in_metres(volume):
    return nib.Nifti1Image(volume, np.diag([0.002, 0.002, 0.002, 1.0]))


def complex_numbers(volume):
    return nib.Nifti1Image((volume + 3j).astype("complex64"), np.diag([2.0, 2, 2, 1]))


def colours(volume):
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    return nib.Nifti1Image(np.zeros(volume.shape, kind), np.diag([2.0, 2, 2, 1]))


def with_a_hole(volume):
    values = volume.copy()
    values[2, 2, 2] = np.nan
    return in_order(values, "RAS")


@pytest.mark.parametrize(
    ("image_of", "found"),
    [
        (mirrored, "two spaces that mirror each other"),
        (without_space, "a header that declares no space"),
        (in_metres, "voxels of 0.002 x 0.002 x 0.002 mm"),
        (complex_numbers, "voxels of type complex64"),
        (colours, "voxels of type"),
        (with_a_hole, "1 voxels that are NaN or infinite"),
    ],
)
@pytest.mark.parametrize("given", ["path", "opened", "in memory"])
def test_an_image_is_checked_as_its_file_is(model, volume, tmp_path, image_of, found, given):
    """Only a path was: an image of a mirrored or complex scan was explained without a word."""
    image = image_of(volume)
    if given != "in memory":
        path = tmp_path / "scan.nii"
        nib.save(image, path)
        image = path if given == "path" else nib.load(path)
    with pytest.raises(ImageError, match=found) as caught:
        lrp.explain(model, image, "z")
    assert caught.value.where == ("scans" if given != "path" else str(path))


def test_an_image_with_nan_around_the_brain_is_read_as_its_file_is(model, volume, tmp_path):
    values = volume.copy()
    values[0] = np.nan
    image = in_order(values, "RAS")
    nib.save(image, tmp_path / "scan.nii")
    values[0] = 0
    expected = lrp.explain(model, values, "z").relevance
    for given in (tmp_path / "scan.nii", image):
        np.testing.assert_array_equal(lrp.explain(model, given, "z").relevance, expected)


def test_an_image_of_the_grids_shape_on_another_grid_is_refused():
    inputs = Inputs("scan", (*images.SHAPE, 1), {})
    values = np.zeros(images.SHAPE, "float32")
    moved = images.AFFINE.copy()
    moved[0, 3] += 2
    assert scans.as_array(nib.Nifti1Image(values, images.AFFINE), inputs, "float32").ndim == 4
    with pytest.raises(ParameterError, match="found an image on another grid, with the affine"):
        scans.as_array(nib.Nifti1Image(values, moved), inputs, "float32")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "found an object of type NoneType; expected an array of shape"),
        ([], "scans: found none; expected at least one scan"),
        ([["a"]], "found a scan of type list that is no array of numbers"),
        (np.zeros((1, 4, 4, 6, 1)), r"found a scan of shape \(4, 4, 6, 1\)"),
        (np.full((*SHAPE, 1), 1 + 2j), r"no array of numbers \(but of complex128\)"),
        (np.zeros((*SHAPE, 1), "datetime64[s]"), r"no array of numbers \(but of datetime64"),
        (np.zeros((*SHAPE, 1), [("a", "f4")]), r"no array of numbers \(but of \["),
        (np.full((*SHAPE, 1), "1.5"), r"no array of numbers \(but of <U3"),
        (np.full((*SHAPE, 1), 10**400), r"no array of numbers \(but of object"),
        (
            np.ma.array(
                np.ones((*SHAPE, 1)), mask=np.eye(4, 6)[None, ..., None] > np.zeros((5, 1, 1, 1))
            ),
            "a scan of which 20 values are masked",
        ),
        ({"scan": 1}, "found a dict of scan; expected the network's inputs"),
    ],
)
def test_what_is_no_scan_is_refused(model, given, message):
    with pytest.raises(ParameterError, match=message):
        lrp.explain(model, given)


@pytest.mark.parametrize(
    "values",
    [np.full((*SHAPE, 1), 1e39), np.full((*SHAPE, 1), np.longdouble("1e400"))],
    ids=["float64", "longdouble"],
)
def test_voxels_too_large_for_the_precision_are_refused(model, values):
    """They were infinite after the check, and the logit was NaN."""
    with pytest.raises(ParameterError, match="120 voxels that are not finite in float32"):
        lrp.explain(model, values, "z")


@pytest.mark.parametrize("method", ["z", "gradient", "input_x_gradient"])
@pytest.mark.parametrize("seen", [False, True], ids=["first scan", "second scan"])
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_scan_whose_logit_overflows_is_refused(one_thread, volume, method, seen):
    model = keras.Sequential([keras.Input((*SHAPE, 1)), layers.Flatten(), layers.Dense(3)])
    model.layers[-1].set_weights([np.full((120, 3), 100.0), np.zeros(3)])
    if seen:
        lrp.explain(model, volume, method)
    large = np.full((*SHAPE, 1), 3e38)
    with pytest.raises(ParameterError, match=r"an output that is not finite, of scans with voxels"):
        lrp.explain(model, large, method)
    large = np.where(volume > 0, 1e33, 0)
    explanation = lrp.explain(model, large, method)
    assert np.isfinite(explanation.relevance).all()


def test_a_map_that_overflows_is_refused(model, volume, monkeypatch):
    from msxai.lrp import propagation

    propagate = propagation.propagate

    def overflowing(*arguments):
        relevance, *others = propagate(*arguments)
        relevance[0, 0, 0, 0, 0] = np.inf
        return relevance, *others

    monkeypatch.setattr(propagation, "propagate", overflowing)
    with pytest.raises(ParameterError, match="a map by z that is not finite"):
        lrp.explain(model, volume, "z")


def test_each_scan_can_have_its_own_target(model, volume):
    both = np.stack([volume, 2 * volume])[..., None]
    together = lrp.explain(model, both, "z", target=[2, 0])
    for index, unit in enumerate((2, 0)):
        alone = lrp.explain(model, both[index], "z", target=unit)
        np.testing.assert_array_equal(together.relevance[index], alone.relevance[0])
        assert together.logits[index] == alone.logits[0]


@pytest.mark.parametrize("target", [True, 1.0, "1", [0, 1], [True], 3, -1, -4])
def test_a_target_that_is_no_output_unit_is_refused(model, volume, target):
    with pytest.raises(ParameterError, match="target: found"):
        lrp.explain(model, volume, target=target)


@pytest.mark.parametrize("epsilon", [-1, 0, float("nan"), "1e-3", True])
def test_an_epsilon_that_is_no_number_above_0_is_refused(model, volume, epsilon):
    with pytest.raises(ParameterError, match=r"epsilon: found .*; expected a number above 0"):
        lrp.explain(model, volume, "epsilon", epsilon=epsilon)
    with pytest.raises(ParameterError, match="stabiliser of rule epsilon: found"):
        lrp.explain(model, volume, {"dense": {"rule": "epsilon", "stabiliser": epsilon}})


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"rule": "gamma", "gamma": -1}, "gamma of rule gamma: found -1; expected a number, 0 or"),
        ({"rule": "gamma", "gamma": "x"}, "gamma of rule gamma: found 'x'"),
        ({"rule": "bounded", "low": 3.0, "high": -3.0}, "found low 3.0, high -3.0"),
        ({"rule": "z", "bias": "no"}, "bias of rule z: found 'no'; expected one of True, False"),
    ],
)
def test_options_of_rules_are_checked(model, volume, option, message):
    with pytest.raises(ParameterError, match=message):
        lrp.explain(model, volume, {"dense": option})


def test_several_ways_need_a_name(model, volume):
    with pytest.raises(ParameterError, match="rules_and_methods: found none"):
        lrp.explain_each(model, volume, [])
    assert list(lrp.explain_each(model, volume, "epsilon")) == ["epsilon"]
