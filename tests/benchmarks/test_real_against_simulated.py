"""Where real and simulated scans differ: each definition on scans whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from support.scripts import script

from msxai import ROOT
from msxai.data.images import SHAPE, VOXEL_SIZE

proof = script("real_against_simulated")
properties = proof.scan_properties
RNG = np.random.default_rng(0)
CUBE = (60, 60, 60)
NOISE = RNG.normal(size=CUBE)
EVERYWHERE = np.ones(CUBE, bool)


def inside(shape=CUBE, margin=6):
    """A mask with a margin on all sides."""
    mask = np.zeros(shape, bool)
    mask[(slice(margin, -margin),) * 3] = True
    return mask


def test_noise_is_that_of_white_noise_and_not_of_slow_variation():
    slow = np.linspace(0, 5, CUBE[0])[:, None, None]
    assert properties.noise(0.3 * NOISE + slow, inside()) == pytest.approx(0.3, rel=0.05)
    blurred = ndimage.gaussian_filter(NOISE, 1.0)
    assert properties.noise(blurred / blurred.std(), inside()) < 0.6


@pytest.mark.parametrize("axis", range(3))
def test_neighbours_share_what_is_blurred_along_an_axis(axis):
    blurred = ndimage.gaussian_filter1d(NOISE, 1.0, axis=axis)
    correlations = [properties.neighbour_correlation(blurred, inside(), a) for a in range(3)]
    assert correlations[axis] > 0.6
    assert max(np.delete(correlations, axis)) < 0.05


def test_neighbours_outside_the_mask_do_not_count():
    mask = inside()
    image = np.where(mask, NOISE, 100.0)
    correlation = properties.neighbour_correlation(image, mask, 0)
    assert correlation == pytest.approx(properties.neighbour_correlation(NOISE, mask, 0))
    assert np.isnan(properties.neighbour_correlation(NOISE, np.zeros(CUBE, bool), 0))


@pytest.mark.parametrize("axis", range(3))
def test_a_spectrum_falls_along_the_axis_with_less_detail(axis):
    """White noise is flat; a random walk has a slope of -2."""
    walk = np.cumsum(NOISE, axis=axis)
    slopes = [properties.spectrum_slope(walk, EVERYWHERE, a) for a in range(3)]
    assert slopes[axis] == pytest.approx(-1.9, abs=0.25)
    assert np.abs(np.delete(slopes, axis)).max() < 0.15
    assert np.isnan(properties.spectrum_slope(NOISE, inside(margin=20), axis))


def test_roughness_is_what_smoothing_a_mask_changes():
    smooth = inside(margin=15)
    spike = smooth.copy()
    spike[5, 5, 3:7] = True
    hole = smooth.copy()
    hole[30, 30, 30] = False
    share = properties.roughness(smooth)
    assert properties.roughness(spike) * spike.sum() == pytest.approx(share * smooth.sum() + 4)
    assert properties.roughness(hole) > share


def test_a_mirrored_scan_is_symmetric():
    symmetric = NOISE + NOISE[::-1]
    assert properties.symmetry(symmetric, EVERYWHERE) == pytest.approx(1)
    assert abs(properties.symmetry(NOISE, EVERYWHERE)) < 0.02


def test_the_local_mean_is_that_of_the_mask_alone():
    mask = inside()
    image = np.where(mask, 3.0, 100.0)
    np.testing.assert_allclose(properties.local_mean(image, mask, 2.0)[mask], 3.0)


class Brain(properties.View):
    """A head made by hand: white matter with a box of fluid in it, and a lesion."""

    @property
    def ventricles(self):
        """Where `brain_with` puts the fluid."""
        mask = np.zeros(SHAPE, bool)
        mask[40:56, 48:68, 40:56] = True
        return mask


def brain_with(edge=0.0, rim=0.0, lesion=2.0, halo=0.0):
    """A scan with white matter of 1, fluid of -3, and edges blurred by some voxels."""
    brain = np.zeros(SHAPE, bool)
    brain[12:84, 15:99, 15:81] = True
    image = np.ones(SHAPE)
    lesions = np.zeros(SHAPE, bool)
    lesions[26:32, 50:56, 48:54] = True
    view = Brain(image, brain, lesions)
    image[view.ventricles] = -3
    if edge:
        image = ndimage.gaussian_filter(image, edge)
    image = np.where(ndimage.binary_dilation(lesions, iterations=2), 1 + halo, image)
    image[lesions] = 1 + lesion
    outermost = brain & ~ndimage.binary_erosion(brain)
    image[outermost] = rim
    return Brain(np.where(brain, image, 0), brain, lesions)


def test_wide_edges_are_measured_in_mm():
    sharp = properties.edge_width(brain_with(edge=0.6))
    wide = properties.edge_width(brain_with(edge=2.5))
    expected = 2.5 * np.sqrt(2 * np.pi) * VOXEL_SIZE[0]  # a blurred step over its steepest slope
    assert wide == pytest.approx(expected, rel=0.25)
    assert sharp < wide / 2


def test_the_rim_is_what_lies_at_the_edge_of_the_mask():
    plain = properties.rim_and_mask(brain_with(rim=-1.5))
    scalp = properties.rim_and_mask(brain_with(rim=9.0))
    assert plain["rim_mean"] == pytest.approx(-1.5)
    assert plain["rim_bright"] == 0
    assert 0.4 < scalp["rim_bright"] <= 1
    volume = 72 * 84 * 66 * properties.VOXEL_VOLUME / 1000
    assert plain["mask_volume"] == pytest.approx(volume)


def test_tissues_do_not_include_lesions_or_fluid():
    measures = properties.tissue(brain_with(lesion=30.0))
    assert measures["white_mean"] == pytest.approx(1)
    assert measures["white_sd"] == pytest.approx(0, abs=1e-9)
    assert measures["fluid_mean"] == pytest.approx(-3)


def test_lesions_are_measured_against_white_matter():
    view = brain_with(lesion=2.0, halo=0.5)
    measures = properties.lesions(view)
    assert measures["lesion_mean"] == pytest.approx(3)
    assert measures["lesion_contrast"] == pytest.approx(2)
    assert measures["lesion_edge"] == pytest.approx(0.75)
    assert measures["lesion_halo"] == pytest.approx(0.25)
    assert measures["lesion_volume"] == pytest.approx(216 * properties.VOXEL_VOLUME / 1000)
    assert measures["lesion_above"] == 1
    without = properties.View(view.image, view.brain, np.zeros(SHAPE, bool))
    assert np.isnan(list(properties.lesions(without).values())).all()


def test_bright_scalp_is_found_at_the_rim():
    scalp = properties.histogram(brain_with(rim=9.0))
    assert scalp["brightest_at_rim"] == 1
    assert scalp["z99_5"] == pytest.approx(9)


def test_each_measure_has_its_words():
    view = brain_with(edge=0.6)
    noisy = properties.View(
        view.image + np.where(view.brain, RNG.normal(size=SHAPE) / 9, 0), view.brain, view.lesions
    )
    measures = properties.measure(noisy)
    assert list(measures) == list(properties.MEASURES)
    assert np.isfinite(measures["noise"])


def test_a_random_scanner_is_the_one_of_training():
    """The thickness is that of the scanner that `rescanned` of the package draws."""
    view = brain_with(edge=0.6)
    image = proof.images.normalise(view.image, view.brain)
    shown, thickness = proof.rescanned(image, view.lesions, np.random.default_rng(3))
    expected = proof.acquisition.rescanned(image, np.random.default_rng(3))
    assert np.corrcoef(shown.image[shown.brain], expected[shown.brain])[0, 1] > 0.9999
    assert 1.9 < thickness <= 8
    assert shown.image[shown.brain].std() == pytest.approx(1, abs=1e-4)


def rows_of(values):
    """Scans with the same value in all measures, by kind."""
    rows = []
    for kind, numbers in values.items():
        rows += [{"scans": kind} | dict.fromkeys(proof.MEASURES, number) for number in numbers]
    return pd.DataFrame(rows)


def test_a_row_by_hand():
    values = {"A": [4, 6], "B": [8], "simulated": [0, 1, 2], "randomised": [0, 3, 7, 9]}
    row = proof.table_of(rows_of(values)).iloc[0]
    assert row["real"] == pytest.approx(6)
    assert row["A"] == pytest.approx(5)
    assert row["B_sd"] != row["B_sd"]  # of one scan
    assert row["gap"] == pytest.approx(5)
    assert row["d"] == pytest.approx(5 / np.sqrt((4 + 1) / 2))
    assert row["covered"]
    assert row["patients_covered"] == 3
    assert row["patients"] == 3


def test_what_the_random_scanners_do_not_reach_is_not_covered():
    values = {"A": [40, 60], "simulated": [1, 1], "randomised": [0, 3, 7, 9]}
    row = proof.table_of(rows_of(values)).iloc[0]
    assert not row["covered"]
    assert row["patients_covered"] == 0
    assert np.isnan(row["gap"])  # simulated scans do not vary


def test_no_other_cohort_has_the_seed():
    text = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("msxai", "benchmarks", "tools", "workflow", "notebooks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yaml") or path.name == "Snakefile"
    )
    assert text.count(str(proof.SEED)) == 1
