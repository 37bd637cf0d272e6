"""One simulated person in FLAIR, T1 and random contrasts: anatomy, position and lesions stay."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from msxai.base.errors import CohortError
from msxai.data.synthetic import contrast, phantom, template

NAMES = list(template.CLASSES)
WHITE = NAMES.index("white matter")
LOOKS = ({"modality": "FLAIR"}, {"modality": "T1w"}, {"contrast": "random"})


def scan(kind="ms", group="MS", number=0, volume=6000, **look):
    """Simulate a subject once, however it is asked for."""
    return _simulated(kind, group, number, volume, tuple(look.items()))


@functools.cache
def _simulated(kind, group, number, volume, look):
    return phantom.simulate(kind, group, number, 100 + number, volume=volume, **dict(look))


def lesion_to_white(subject):
    """Brightness of lesions, that of white matter being 1."""
    is_white = (subject.classes == 1 + WHITE) & ~subject.lesions
    return subject.image[subject.lesions].mean() / subject.image[is_white].mean()


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(
    ("kind", "group"),
    [
        ("ms", "MS"),
        pytest.param("ms", "HC", marks=pytest.mark.long(reason="four more subjects, 2 s")),
        ("ad", "AD"),
    ],
)
def test_a_contrast_leaves_anatomy_and_lesions(kind, group, look):
    usual, other = scan(kind, group), scan(kind, group, **look)
    for name in ("brain", "lesions", "classes"):
        assert (getattr(usual, name) == getattr(other, name)).all(), name
    own = {"ms": {"modality": "FLAIR"}, "ad": {"modality": "T1w"}}
    assert (usual.image == other.image).all() == (look == own[kind])


def test_lesions_are_bright_in_flair_and_dark_in_t1():
    for number, volume in enumerate((3000, 6000, 20000)):
        assert 1.1 < lesion_to_white(scan(number=number, volume=volume)) < 1.4
        # two real patients have 0.68 and 0.80
        t1 = scan(number=number, volume=volume, modality="T1w")
        assert 0.68 <= lesion_to_white(t1) <= 0.80


def test_grey_matter_is_brighter_than_white_in_flair_only():
    cortex = 1 + NAMES.index("cortex")
    for kind, group in (("ms", "HC"), ("ad", "HC")):
        ratio = {}
        for modality in ("FLAIR", "T1w"):
            one = scan(kind, group, modality=modality)
            white = one.image[one.classes == 1 + WHITE].mean()
            ratio[modality] = one.image[one.classes == cortex].mean() / white
        assert ratio["T1w"] < 0.9 < ratio["FLAIR"]


@pytest.mark.parametrize("look", LOOKS)
def test_with_and_without_lesions_differ_near_lesions_only(look):
    with_lesions, without = scan(**look), scan(volume=0, **look)
    difference = np.abs(with_lesions.image - without.image.astype(float))
    near = ndimage.binary_dilation(with_lesions.lesions, iterations=4)
    white = np.median(without.image[without.classes == 1 + WHITE])
    assert difference[with_lesions.lesions].mean() > 0.05 * white
    assert (difference[~near & with_lesions.brain] < 0.1 * white).mean() > 0.999


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=200)
def test_random_contrasts_keep_lesions_away_from_white_matter(seed):
    drawn = contrast.random_contrast(np.random.default_rng(seed))
    away = drawn.lesions.level / drawn.tissues[WHITE] - 1
    assert 0.199 <= abs(away) <= 0.601
    assert drawn.lesions.is_darker == (away < 0) == (drawn.caps < 0)
    assert (drawn.tissues > 0.1).all()
    assert drawn.tissues[NAMES.index("csf")] == drawn.tissues[NAMES.index("ventricle")]


def test_random_contrasts_have_both_signs_and_inversions():
    drawn = [contrast.random_contrast(np.random.default_rng(seed)) for seed in range(400)]
    darker = np.mean([one.lesions.is_darker for one in drawn])
    fluid = np.array([one.tissues[NAMES.index("csf")] for one in drawn])
    white = np.array([one.tissues[WHITE] for one in drawn])
    assert darker == pytest.approx(0.5, abs=0.1)
    assert 0.2 < (fluid > white).mean() < 0.5
    assert abs(np.corrcoef(fluid, white)[0, 1]) < 0.15
    brightest = {np.argmax(one.tissues) for one in drawn}
    assert len(brightest) > len(NAMES) / 2


@pytest.mark.parametrize(
    "number", [0, pytest.param(1, marks=pytest.mark.long(reason="one more subject, 1 s"))]
)
def test_lesions_of_a_random_contrast_are_painted_as_drawn(number):
    one = scan(number=number, contrast="random")
    away = lesion_to_white(one) - 1
    bright = scan(number=number)
    assert abs(away) > 0.1
    assert lesion_to_white(bright) > 1.1
    again = phantom.simulate("ms", "MS", number, 100 + number, volume=6000, contrast="random")
    assert (one.image == again.image).all()


def test_each_visit_has_a_random_contrast_of_its_own():
    levels = set()
    for visit in range(3):
        one = phantom.simulate("ms", "MS", 5, visit, volume=0, contrast="random")
        fluid = one.image[one.classes == 1 + NAMES.index("ventricle")].mean()
        levels.add(round(fluid / one.image[one.classes == 1 + WHITE].mean(), 2))
    assert len(levels) == 3


def test_a_seed_sequence_is_left_as_it_is():
    seed = np.random.SeedSequence(3)
    first = phantom.simulate("ms", "MS", seed, seed, contrast="random")
    assert seed.n_children_spawned == 0
    second = phantom.simulate("ms", "MS", seed, seed, contrast="random")
    assert (first.image == second.image).all()


@pytest.mark.parametrize("look", [{"modality": "T2w"}, {"contrast": "inverted"}])
def test_refuses_what_it_does_not_know(look):
    name = next(iter(look))
    with pytest.raises(CohortError, match=f"parameter {name}"):
        phantom.simulate("ms", "MS", **look)


def test_refuses_a_keyword_that_does_not_exist():
    with pytest.raises(TypeError, match="brightness"):
        phantom.simulate("ms", "MS", brightness=2)
