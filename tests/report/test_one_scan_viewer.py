"""What the 3D viewer on the page of one scan holds; `test_one_scan.py` opens it in a browser."""

import base64
import gzip
import importlib.metadata
import re

import matplotlib
import nibabel as nib
import numpy as np
import pytest

from msxai.data import images
from msxai.report.figures import slices
from msxai.report.one_scan import page, pictures, viewer

BRAIN = np.zeros(images.SHAPE, bool)
BRAIN[20:76, 20:96, 30:70] = True
PEAK = (31, 45, 51)


@pytest.fixture(scope="module")
def layers():
    """A head that is bright and has relevance outside the brain, too."""
    rng = np.random.default_rng(0)
    relevance = np.where(BRAIN, rng.normal(0, 1e-4, images.SHAPE), 1.0)
    relevance[PEAK] = -0.0333
    scan = np.where(BRAIN, rng.normal(0, 1, images.SHAPE), 20)
    return pictures.Layers(scan, BRAIN, relevance)


@pytest.fixture(scope="module")
def scale(layers):
    return slices.relevance_scale([layers.relevance], [BRAIN], False)


@pytest.fixture(scope="module")
def labels():
    numbers = np.zeros(images.SHAPE, int)
    numbers[30:34, 44:48, 50:53] = 1
    numbers[60, 60, 60] = 300
    return numbers


@pytest.fixture(scope="module")
def built(layers, scale, labels):
    return viewer.build(layers, scale, labels, "zscore")


def unpacked(text):
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_the_scan_is_there_in_the_brain_only(built, layers):
    image = unpacked(built.settings["scan"])
    values = image.get_fdata()
    assert np.abs(values - layers.scan)[BRAIN].max() <= 0.00501
    assert np.unique(values[~BRAIN]).tolist() == [pytest.approx(-300)]
    assert values[BRAIN].min() > built.settings["outside"] > values[~BRAIN].max()
    np.testing.assert_allclose(image.affine, images.AFFINE, atol=1e-5)
    assert image.header["descrip"] == b""


def test_the_map_is_there_in_the_brain_only(built, layers, scale):
    values = unpacked(built.settings["map"]).get_fdata()
    error = np.abs(values - layers.relevance)[BRAIN].max()
    assert error <= 0.00501 * scale.threshold
    assert not values[~BRAIN].any()
    assert built.settings["start"] == list(PEAK)


def test_a_map_that_is_zero_almost_everywhere_keeps_its_values(layers):
    """Its threshold is near 0, and steps of it would have no end."""
    relevance = np.zeros(images.SHAPE)
    relevance[PEAK] = 0.5
    sparse = pictures.Layers(layers.scan, BRAIN, relevance)
    scale = slices.relevance_scale([relevance], [BRAIN], False)
    values = unpacked(viewer.build(sparse, scale, None, "zscore").settings["map"]).get_fdata()
    assert values[PEAK] == pytest.approx(0.5)
    assert np.count_nonzero(values) == 1


def test_lesions_keep_their_numbers(built, labels, layers, scale):
    values = unpacked(built.settings["lesions"]).get_fdata()
    np.testing.assert_array_equal(values, labels)
    assert viewer.build(layers, scale, None, "zscore").settings["lesions"] is None


def test_the_grey_is_that_of_the_other_pictures(built, layers):
    drawn = slices.backdrop(layers.scan, BRAIN)
    dark, bright = built.settings["dark"], built.settings["bright"]
    inner = BRAIN & (layers.scan > dark + 0.5) & (layers.scan < bright)
    expected = 0.8 * (layers.scan - dark) / (bright - dark)
    np.testing.assert_allclose(drawn[inner], expected[inner])


def test_the_colours_are_those_of_the_other_pictures(built, scale):
    """Both ends of both signs; the threshold itself is transparent."""
    colours = matplotlib.colormaps[slices.SYMMETRIC]
    for name, sign in (("yes", 1), ("no", -1)):
        table = built.settings[name]
        rgb = np.array([table["R"], table["G"], table["B"]]).T / 255
        for index, magnitude in ((0, scale.threshold), (-1, scale.high)):
            position = 0.5 + sign * magnitude / scale.high / 2
            np.testing.assert_allclose(rgb[index], colours(position)[:3], atol=0.003)
        assert (table["A"][0], set(table["A"][1:])) == (0, {255})
        assert (table["I"][0], table["I"][-1]) == (0, 255)


def test_the_unit_is_that_of_the_normalisation(layers, scale):
    scan = np.where(BRAIN, (layers.scan + 9) / 20, 1)
    built = viewer.build(pictures.Layers(scan, BRAIN, layers.relevance), scale, None, "max")
    assert built.settings["unit"] == "of the maximum of the scan"
    values = unpacked(built.settings["scan"]).get_fdata()
    assert np.abs(values - scan)[BRAIN].max() <= 0.000501


def test_niivue_comes_from_ipyniivue():
    """The module without its decoders, which are more than half of it."""
    program = viewer.niivue()
    module, _, last = program.script.rpartition("\n")
    assert re.search(r"export\{[^}]*\bNVImage\b[^}]*\bNiivue\b[^}]*\};?$", module)
    assert last.startswith("document.dispatchEvent(")
    assert re.fullmatch(r"\d+\.\d+\.\d+", program.version)
    assert "AGFzbQ" not in module
    assert len(program.module) < 600_000


@pytest.mark.parametrize(
    "bundle",
    ["export default 1", 'var a="x%3D1%3Bexport%7BNiivue%7D%3B"', 'var a="export%7Bother%7D"'],
)
def test_another_form_of_ipyniivue_is_noticed(bundle):
    assert viewer._module_in(bundle) is None


def test_a_module_is_found_in_a_bundle():
    bundle = 'var a="no",b="let%20Niivue%2CNVImage%3Bexport%7BNVImage%2CNiivue%7D%3B",c="no"'
    assert viewer._module_in(bundle) == "let Niivue,NVImage;export{NVImage,Niivue};"


def test_without_niivue_the_page_says_so(monkeypatch, layers, scale):
    monkeypatch.setattr(viewer, "niivue", lambda: None)
    assert viewer.build(layers, scale, None, "zscore") is None
    text = page.template("viewer.html").render(viewer=None)
    assert "This page has no 3D viewer, because" in text
    assert "<script" not in text


def one_line(text):
    return re.sub(r"\s+", " ", text).strip()


def test_the_licence_goes_with_the_copy(built):
    """BSD-2-Clause and MIT ask for it; the installed version decides the wording."""
    text = one_line(page.template("viewer.html").render(viewer=built, scripts={}))
    files = importlib.metadata.files("ipyniivue")
    (licence,) = [file for file in files if file.name == "LICENSE"]
    _, notice, terms = licence.read_text().split("\n\n", 2)
    assert one_line(notice.splitlines()[0]) in text
    assert one_line(terms) in text.replace("&#34;", '"')
    assert f"niivue {built.niivue.version} from the Python package ipyniivue" in text
    assert "niivue: Copyright (c) 2021, Niivue" in text
    for library in ("gl-matrix", "fflate", "nifti-reader-js", "array-equal", "zarrita"):
        assert f"{library}: Copyright (c)" in text
