"""White-matter hypointensities of the AD cohort: volume, brightness, place, and nothing else."""

import functools
import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from msxai.data.cohorts import cohort
from msxai.data.images import VOXEL_SIZE, VOXEL_VOLUME
from msxai.data.synthetic import phantom, subject, template

NAMES = list(template.CLASSES)


@functools.cache
def person(number=0):
    return phantom.draw_people("ad", 12, 1)[number]


@functools.cache
def scan(number=0, visit=0, lesions=True, **appearance):
    return person(number).scan(visit, lesions=lesions, **appearance)


def is_class(found, name):
    return found.classes == 1 + NAMES.index(name)


@pytest.mark.parametrize("age", [60, 66, 75, 88])
def test_volumes_grow_with_age_and_are_larger_in_patients(age):
    rng = np.random.default_rng(0)
    volumes = {}
    for group in ("HC", "AD"):
        volumes[group] = [subject.draw_hypointensities(group, age, rng) for _ in range(5000)]
    # Melazzini et al. 2021: 4.7 cm3 at 66 years, 0.358 cm3 more a year, in healthy adults
    assert np.mean(volumes["HC"]) == pytest.approx(4700 + 358 * (age - 66), rel=0.05)
    logarithms = {group: np.log(values) for group, values in volumes.items()}
    spread = np.mean([values.std() for values in logarithms.values()])
    difference = logarithms["AD"].mean() - logarithms["HC"].mean()
    assert difference / spread == pytest.approx(0.5, abs=0.05)


def test_participants_have_such_volumes():
    people = phantom.draw_people("ad", 2000, 1)
    for group, expected in (("HC", 4700 + 358 * 8), ("AD", (4700 + 358 * 8) * np.exp(0.45))):
        volumes = [one.participant["volume"] for one in people if one.participant["group"] == group]
        assert np.mean(volumes) == pytest.approx(expected, rel=0.08)


TWO_MORE = pytest.mark.long(reason="two more subjects, 1 s")


@pytest.mark.parametrize("number", [0, *[pytest.param(n, marks=TWO_MORE) for n in (1, 2)]])
def test_they_are_painted_as_drawn(number):
    found = scan(number)
    white = found.image[is_class(found, "white matter") & ~found.lesions].mean()
    away = ndimage.distance_transform_edt(~is_class(found, "ventricle"), sampling=VOXEL_SIZE)
    volume = found.lesions.sum() * VOXEL_VOLUME
    assert volume == pytest.approx(person(number).participant["volume"], rel=0.25)
    assert 0.68 <= found.image[found.lesions].mean() / white <= 0.80
    assert (away[found.lesions] <= 10).mean() > 0.5
    assert not (found.lesions & ~found.brain).any()
    assert (found.lesions & is_class(found, "ventricle")).sum() < 0.1 * found.lesions.sum()


def test_all_else_is_the_same_without_them():
    found, without = scan(), scan(lesions=False)
    assert not without.lesions.any()
    for name in ("brain", "classes"):
        assert (getattr(found, name) == getattr(without, name)).all()
    far = ~ndimage.binary_dilation(found.lesions, iterations=6)
    assert (found.image[far] == without.image[far]).mean() > 0.98
    darker = found.image[found.lesions].mean() / without.image[found.lesions].mean()
    assert darker < 0.9


def test_they_are_bright_in_flair():
    flair = scan(modality="FLAIR")
    white = flair.image[is_class(flair, "white matter") & ~flair.lesions].mean()
    assert flair.image[flair.lesions].mean() / white > 1.1
    assert (flair.lesions == scan().lesions).all()


def test_a_subject_has_the_same_ones_at_each_visit():
    repeated = next(number for number in range(12) if person(number).participant["visits"] > 1)
    first, second = scan(repeated), scan(repeated, visit=1)
    stranger = scan((repeated + 1) % 12)
    near = []
    for other in (second, stranger):
        widened = ndimage.binary_dilation(other.lesions, iterations=2)
        near.append(widened[first.lesions].mean())
    assert near[0] > 0.8 > 0.6 > near[1], near
    assert first.lesions.sum() == pytest.approx(second.lesions.sum(), rel=0.1)


@pytest.mark.long(reason="two cohorts written, 4 s")
def test_a_cohort_without_them(tmp_path):
    seed = 0  # with one visit of each subject
    phantom.ensure_cohort("ad", tmp_path / "with", 4, seed, progress=False)
    phantom.ensure_cohort(
        "ad", tmp_path / "without", 4, seed, progress=False, hypointensities=False
    )
    tables = {}
    for name in ("with", "without"):
        folder = tmp_path / name
        description = json.loads((folder / "dataset_description.json").read_text())
        assert description["Generator"]["hypointensities"] == (name == "with")
        assert phantom.is_current(folder, "ad", 4, seed, hypointensities=name == "with")
        assert not phantom.is_current(folder, "ad", 4, seed, hypointensities=name == "without")
        tables[name] = cohort.open_cohort(folder, "T1w", "AD", "HC").table
        assert tables[name]["lesion_mask"].notna().all() == (name == "with")
    participants = [(tmp_path / name / "participants.tsv").read_bytes() for name in tables]
    assert participants[0] == participants[1]
    for row, other in zip(tables["with"].itertuples(), tables["without"].itertuples(), strict=True):
        images = [np.asarray(nib.load(path).dataobj) for path in (row.image, other.image)]
        mask = np.asarray(nib.load(row.lesion_mask).dataobj) > 0
        assert (images[0] != images[1]).any()
        far = ~ndimage.binary_dilation(mask, iterations=6)
        assert (images[0][far] == images[1][far]).mean() > 0.98


@pytest.mark.long(reason="two more cohorts, 3 s")
def test_the_ms_cohort_has_none(tmp_path):
    for name, hypointensities in (("a", True), ("b", False)):
        phantom.write_cohort(
            "ms", tmp_path / name, 4, 5, progress=False, hypointensities=hypointensities
        )
    for path in sorted((tmp_path / "a").rglob("*.*")):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.is_dir() or path.read_bytes() == other.read_bytes()
