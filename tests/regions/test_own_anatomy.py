"""Ventricles and cortex of a person: found where the scan shows them, else the template's."""

import numpy as np
import pytest
from scipy import ndimage

from msxai.base.errors import RegistrationError
from msxai.data import images
from msxai.data.quality_control import template_brain
from msxai.data.registration import alignment
from msxai.data.synthetic import subject, template
from msxai.regions import lesion_regions, own_anatomy

INFRATENTORIAL, PERIVENTRICULAR, CORTICAL, DEEP = lesion_regions.REGIONS
WHITE, FLUID, LESION = 1.0, -3.0, 4.0
NOTHING = np.zeros(images.SHAPE, bool)
WIDER = 7.0  # mm that the ventricles of a synthetic brain are wider on all sides


def grown(mask, distance):
    return own_anatomy.distance(mask) <= distance


@pytest.fixture(scope="module")
def brain():
    return template_brain()


@pytest.fixture(scope="module")
def wide(brain):
    """Ventricles that have grown into the white matter of the template."""
    atlas = own_anatomy.template()
    away = own_anatomy.distance(atlas.cortex) > 6
    return grown(atlas.bodies, WIDER) & away & brain & ~atlas.infratentorial


@pytest.fixture(scope="module")
def scan(brain, wide):
    """White matter with noise, wide ventricles, and no sulci."""
    noise = np.random.default_rng(0).normal(0, 0.2, images.SHAPE)
    values = np.where(wide, FLUID, WHITE) + noise
    return np.where(brain, values, 0).astype("float32")


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def lesion_at(wide):
    """A small lesion at the edge of wide ventricles, which the template calls deep."""
    atlas = own_anatomy.template()
    edge = grown(wide, 3.0) & ~wide & (own_anatomy.distance(atlas.ventricles) > 8)
    edge &= (own_anatomy.distance(atlas.cortex) > 6) & atlas.reach
    lesion = NOTHING.copy()
    candidates = np.argwhere(edge & ~atlas.infratentorial)
    x, y, z = candidates[len(candidates) // 2]
    lesion[x, y, z] = True
    return lesion


def test_wide_ventricles_are_found(scan, brain, wide):
    anatomy = own_anatomy.find(scan, brain, NOTHING)
    assert anatomy.own_ventricles
    assert dice(anatomy.ventricles, wide) > 0.9
    assert dice(own_anatomy.template().ventricles, wide) < 0.6


def test_a_lesion_at_wide_ventricles_is_periventricular(scan, brain, wide):
    lesion = lesion_at(wide)
    with_lesion = np.where(lesion, LESION, scan)
    marked = lesion_regions.on_model_grid(lesion)
    anatomy = own_anatomy.find(with_lesion, brain, lesion)
    assert lesion_regions.of_lesions(marked)["region"].tolist() == [DEEP]
    assert lesion_regions.of_lesions(marked, anatomy)["region"].tolist() == [PERIVENTRICULAR]


def test_fluid_does_not_leak_into_a_dark_lesion(scan, brain, wide):
    """A black hole at the ventricle would carry fluid to lesions that touch it alone."""
    atlas = own_anatomy.template()
    hole = grown(lesion_at(wide), 6.0) & ~wide & atlas.reach
    dark = np.where(hole, FLUID, scan)
    assert hole.sum() > 20
    assert not (own_anatomy.find(dark, brain, hole).ventricles & hole).any()
    assert (own_anatomy.find(dark, brain, NOTHING).ventricles & hole).any()


def test_fluid_stays_where_ventricles_may_be(scan, brain, wide):
    """A cyst that joins the ventricle and the sulci."""
    atlas = own_anatomy.template()
    cyst = NOTHING.copy()
    cyst[:48, 60:64, 48:52] = True
    cyst &= brain
    found = own_anatomy.find(np.where(cyst, FLUID, scan), brain, NOTHING).ventricles
    assert not (found & ~(atlas.reach | atlas.ventricles)).any()
    assert (cyst & ~atlas.reach).sum() > 20


@pytest.mark.parametrize("what", ["no contrast", "bright fluid", "noise", "no brain", "no voxel"])
def test_the_template_stands_in_where_the_scan_shows_no_fluid(scan, brain, wide, what):
    values, mask = scan, brain
    if what == "no contrast":
        values = np.where(brain, WHITE, 0)
    if what == "bright fluid":
        values = -scan
    if what == "noise":
        values = np.random.default_rng(1).normal(size=images.SHAPE)
    if what == "no brain":
        mask = NOTHING
    if what == "no voxel":
        values = np.zeros(images.SHAPE)
    anatomy = own_anatomy.find(values, mask, NOTHING)
    atlas = own_anatomy.template()
    assert not anatomy.own_ventricles
    assert not anatomy.own_cortex
    assert (anatomy.ventricles == atlas.ventricles).all()
    assert (anatomy.cortex == atlas.cortex).all()


def test_a_closed_horn_is_that_of_the_template(brain, rng):
    """The right ventricle is shut: the scan has no fluid there."""
    atlas = own_anatomy.template()
    right = NOTHING.copy()
    right[images.SHAPE[0] // 2 + 3 :] = True
    open_ones = atlas.ventricles & ~right
    noise = rng.normal(0, 0.2, images.SHAPE)
    values = np.where(brain, np.where(open_ones, FLUID, WHITE) + noise, 0)
    found = own_anatomy.find(values, brain, NOTHING).ventricles
    far = own_anatomy.distance(open_ones) > 2 * own_anatomy.DISPLACED
    assert (atlas.ventricles & right & far).any()
    assert found[atlas.ventricles & right & far].all()


def test_the_cortex_follows_sulci_that_the_scan_shows(scan, brain):
    """All of the template's cortex lies at a sulcus, and one sulcus lies 4 mm deeper."""
    atlas = own_anatomy.template()
    assert not own_anatomy.find(scan, brain, NOTHING).own_cortex
    above = ~atlas.infratentorial
    sulci = ndimage.binary_erosion(atlas.cortex, iterations=1) & above
    deeper = grown(atlas.cortex, 4.0) & ~grown(atlas.ventricles, 10.0) & above
    deeper[:48] = False  # on the right side alone
    with_sulci = np.where((sulci | deeper) & brain, FLUID, scan)
    anatomy = own_anatomy.find(with_sulci, brain, NOTHING)
    assert anatomy.own_cortex
    inner = grown(deeper, 3.0) & ~deeper & ~grown(atlas.cortex, 4.0) & atlas.rim
    assert inner.sum() > 100
    assert anatomy.cortex[inner].mean() > 0.8
    assert not anatomy.cortex[~atlas.rim].any()


@pytest.fixture
def thick(scan, brain):
    """The scan, averaged over slices of three voxels."""
    slices = scan.reshape(*images.SHAPE[:2], -1, 3).mean(axis=3)
    return np.where(brain, np.repeat(slices, 3, axis=2), 0).astype("float32")


def test_the_cortex_of_thick_slices_is_the_templates_warped_to_the_scan(
    thick, scan, brain, monkeypatch
):
    atlas = own_anatomy.template()
    other = np.roll(atlas.cortex, 2, axis=1)
    calls = []

    def warp(mask, image, fixed, affine):
        calls.append(fixed)
        assert (mask == atlas.cortex).all()
        return other

    monkeypatch.setattr(alignment, "warp", warp)
    own_anatomy._warped.cache_clear()
    assert own_anatomy.find(scan, brain, NOTHING).whose_cortex == "template"
    assert not calls
    lesion = lesion_at(own_anatomy.find(thick, brain, NOTHING).ventricles)
    calls.clear()
    for _ in range(2):
        anatomy = own_anatomy.find(np.where(lesion, LESION, thick), brain, lesion)
    assert len(calls) == 1  # the second time, it is known
    assert anatomy.own_ventricles
    assert anatomy.whose_cortex == "warped template"
    assert (anatomy.cortex == other).all()
    picture = calls[0]
    assert picture[lesion] == 1
    assert np.median(picture[anatomy.ventricles & brain]) == pytest.approx(0.18, abs=0.03)
    assert np.median(picture[atlas.white & ~anatomy.ventricles]) == pytest.approx(1, abs=0.02)
    assert not picture[~brain].any()


@pytest.mark.parametrize("what", ["stops", "shrinks", "fills the brain"])
def test_the_template_stands_in_where_its_cortex_cannot_be_warped(thick, brain, monkeypatch, what):
    def warp(mask, image, fixed, affine):
        if what == "stops":
            raise RegistrationError("scan", "a deformation that stopped", "another", "Look.")
        return ndimage.binary_erosion(mask) if what == "shrinks" else brain

    monkeypatch.setattr(alignment, "warp", warp)
    own_anatomy._warped.cache_clear()
    anatomy = own_anatomy.find(thick, brain, NOTHING)
    own_anatomy._warped.cache_clear()
    assert anatomy.own_ventricles
    assert anatomy.whose_cortex == "template"
    assert (anatomy.cortex == own_anatomy.template().cortex).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_thick_along_any_axis(scan, brain, axis):
    assert not own_anatomy._has_thick_slices(scan, brain)
    smooth = ndimage.uniform_filter1d(scan, 3, axis=axis)
    assert own_anatomy._has_thick_slices(smooth, brain)
    assert not own_anatomy._has_thick_slices(scan, NOTHING)
    assert not own_anatomy._has_thick_slices(np.ones(images.SHAPE), brain)


@pytest.mark.long(reason="a deformation by antspyx, 10 s")
def test_a_warped_cortex_is_nearer_than_the_templates():
    """The painted template, bent by up to 6 mm, in slices of three voxels."""
    atlas = own_anatomy.template()
    where = np.indices(images.SHAPE).astype(float)
    where[1] += 3 * np.sin(where[0] / 15)
    where[0] += 3 * np.sin(where[2] / 15)
    painted = np.tensordot(template.FLAIR, template.template().classes, axes=1)
    bent = ndimage.map_coordinates(painted, where, order=1)
    known = ndimage.map_coordinates(atlas.cortex.astype("float32"), where, order=1) >= 0.5
    noise = np.random.default_rng(0).normal(0, 0.02, images.SHAPE)
    slices = (bent + noise).reshape(*images.SHAPE[:2], -1, 3).mean(axis=3)
    scan = np.repeat(slices, 3, axis=2).astype("float32")
    inside = ndimage.map_coordinates(template.template().brain.astype("float32"), where, order=1)
    anatomy = own_anatomy.find(scan, inside >= 0.5, NOTHING)
    assert anatomy.whose_cortex == "warped template"
    assert dice(anatomy.cortex, known) > dice(atlas.cortex, known) + 0.2


def test_a_simulated_subject():
    """Its ventricles have grown with age, and it knows where they are."""
    session = subject.Session(age=80.0)
    simulated = subject.simulate("ad", "AD", 102, 9, session=session, modality="FLAIR")
    names = list(template.CLASSES)
    numbers = [1 + names.index(name) for name in ("ventricle", "choroid plexus", "septum")]
    own = np.isin(simulated.classes, numbers)
    scan = images.normalise(simulated.image, simulated.brain)
    anatomy = own_anatomy.find(scan, simulated.brain, simulated.lesions)
    assert anatomy.own_ventricles
    of_template = dice(own_anatomy.template().ventricles, own)
    assert dice(anatomy.ventricles, own) > of_template + 0.05
