"""Ventricles and cortex of a person: found where the scan shows them, else the template's."""

import numpy as np
import pytest
from scipy import ndimage

from msxai.data import images
from msxai.data.quality_control import template_brain
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
def sulci():
    """A bright scan has fluid in the right half of the template's cortex, and 4 mm deeper."""
    atlas = own_anatomy.template()
    fluid = grown(atlas.cortex, 4.0) & ~grown(atlas.ventricles, 10.0) & ~atlas.infratentorial
    fluid[:48] = False
    return fluid


def test_sulci_of_thick_slices_are_added_to_the_templates_cortex(scan, brain, wide, sulci):
    atlas = own_anatomy.template()
    with_sulci = np.where(sulci & brain, FLUID, scan)
    assert own_anatomy.find(with_sulci, brain, NOTHING).whose_cortex == "template"
    thick = np.where(brain, ndimage.uniform_filter1d(with_sulci, 3, axis=2), 0)
    anatomy = own_anatomy.find(thick, brain, NOTHING)
    assert anatomy.own_ventricles
    assert anatomy.whose_cortex == "template and person"
    assert anatomy.cortex[atlas.cortex].all()
    deeper = ndimage.binary_erosion(sulci) & ~atlas.cortex & brain
    assert deeper.sum() > 100
    assert anatomy.cortex[deeper].mean() > 0.9
    left = NOTHING.copy()
    left[:44] = True
    inner = left & atlas.rim & ~grown(atlas.cortex, 4.0) & ~grown(wide | ~brain, 8.0)
    assert inner.sum() > 100
    assert not anatomy.cortex[inner].any()


def test_the_template_stands_in_where_thick_slices_show_too_much_cortex(
    scan, brain, sulci, monkeypatch
):
    with_sulci = np.where(sulci & brain, FLUID, scan)
    thick = np.where(brain, ndimage.uniform_filter1d(with_sulci, 3, axis=2), 0)
    cortex = own_anatomy.template().cortex
    added = own_anatomy.find(thick, brain, NOTHING).cortex.sum() / cortex.sum()
    monkeypatch.setattr(own_anatomy, "_MOST_CORTEX", added - 0.01)
    anatomy = own_anatomy.find(thick, brain, NOTHING)
    assert anatomy.own_ventricles
    assert anatomy.whose_cortex == "template"
    assert (anatomy.cortex == cortex).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_thick_along_any_axis(scan, brain, axis):
    assert not own_anatomy._has_thick_slices(scan, brain)
    smooth = ndimage.uniform_filter1d(scan, 3, axis=axis)
    assert own_anatomy._has_thick_slices(smooth, brain)
    assert not own_anatomy._has_thick_slices(scan, NOTHING)
    assert not own_anatomy._has_thick_slices(np.ones(images.SHAPE), brain)


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
