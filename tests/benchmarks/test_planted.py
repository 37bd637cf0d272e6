"""Planted faults: that each outcome is told apart, what a fault changes, and a small version."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from support.scripts import script

from msxai.base.errors import ImageError
from msxai.data import images
from msxai.quality import one_scan


@pytest.fixture(scope="module")
def planted():
    return script("planted")


@pytest.fixture
def volumes(planted, rng):
    """A small scan of which no axis is like another."""
    brain = np.zeros((12, 15, 9), bool)
    brain[2:10, 2:13, 2:7] = True
    image = np.where(brain, rng.random(brain.shape) + 1, 0)
    lesions = brain & (image > 1.8)
    return planted.Volumes(image, lesions, brain)


def refuse():
    raise ImageError("scan.nii.gz", "nothing", "something", "Mend it.")


def crash():
    raise IndexError("7")


def test_outcomes(planted, rng):
    scan = rng.normal(size=(4, 4, 4))
    other = rng.normal(size=(4, 4, 4))
    clean = planted.Page({"Look.": "It looks odd (1)."}, scan, "resampled")

    def page(warnings, seen, route="resampled"):
        return planted.Page(warnings, seen, route)

    makes = {
        planted.REFUSED: refuse,
        planted.CRASHED: crash,
        planted.FLAGGED: lambda: page({"Look.": "", "Stop.": "It is odd."}, other),
        planted.SAME: lambda: page({"Look.": "It looks odd (2)."}, scan * 1.1),
        planted.MISSED: lambda: page({"Look.": "It looks odd (3)."}, other),
        planted.REGISTERED: lambda: page({}, other, "affine"),
    }
    for expected, make in makes.items():
        assert planted.outcome_of(make, clean)[0] == expected
    assert planted.outcome_of(makes[planted.FLAGGED], clean)[1] == "It is odd."


def test_a_row_says_whether_the_outcome_is_right_and_names_no_folder(planted, tmp_path):
    said = f"{tmp_path}/scan.nii.gz: found nothing"
    row = planted.row_of("file", "Cut", planted.NOTICED, (planted.REFUSED, said), tmp_path)
    assert row["as_expected"] is True
    assert row["said"] == "FOLDER/scan.nii.gz: found nothing"
    for expected, outcome in ((planted.NOTICED, planted.SAME), (planted.WORKS, planted.REFUSED)):
        assert not planted.row_of("file", "Cut", expected, (outcome, ""), tmp_path)["as_expected"]


def test_what_only_looks_like_a_fault_is_the_same_scan(planted, volumes):
    turned = planted.other_axes(volumes)
    assert turned.image.shape != volumes.image.shape
    image = nib.as_closest_canonical(nib.Nifti1Image(turned.image, turned.affine))
    expected = nib.as_closest_canonical(nib.Nifti1Image(volumes.image, volumes.affine))
    np.testing.assert_allclose(image.affine, expected.affine)
    np.testing.assert_array_equal(image.get_fdata(), expected.get_fdata())
    thick = planted.thick_slices(volumes)
    assert thick.image.shape == (12, 15, 3)
    np.testing.assert_allclose(thick.image[..., 1], volumes.image[..., 3:6].mean(axis=-1))
    middle = volumes.affine @ [0, 0, 4, 1]
    np.testing.assert_allclose(thick.affine @ [0, 0, 1, 1], middle)


def test_each_fault_changes_something(planted, volumes, monkeypatch):
    other = replace(volumes, image=volumes.image[::-1], lesions=volumes.lesions[::-1])
    monkeypatch.setattr(planted, "patient", lambda *_, **__: other)
    for expected, fault in planted.VOLUME_FAULTS:
        if expected == planted.WORKS:
            continue
        changed = fault(volumes)
        same = [
            np.array_equal(getattr(changed, name), getattr(volumes, name))
            for name in ("image", "lesions", "brain", "affine", "mask_affine")
        ]
        assert not all(same), fault.__name__


def test_doubled_and_foreign_maps(planted, tmp_path, one_thread):
    path = planted.changed_weights(tmp_path, planted.random_weights)
    models = one_scan.Explainer(one_scan.Settings()).models[:1]
    scan = np.random.default_rng(0).random((1, *images.SHAPE, 1)).astype("float32")
    plain = planted.heatmaps.Settings("epsilon").explain(models[0], scan)
    doubled = planted.DoubledMaps("epsilon").explain(models[0], scan)
    foreign = planted.ForeignMaps("epsilon", path=path).explain(models[0], scan)
    np.testing.assert_allclose(doubled.relevance, 2 * plain.relevance, rtol=1e-5)
    assert foreign.logits == pytest.approx(plain.logits)
    assert not np.allclose(foreign.relevance, plain.relevance, rtol=0.1)


@pytest.mark.long(reason="a small version of a proof: five explanations, 40 s")
def test_a_few_planted_faults(planted, monkeypatch, tmp_path, one_thread):
    few = (planted.mask_of_another, planted.one_volume)
    faults = [pair for pair in planted.VOLUME_FAULTS if pair[1] in few]
    monkeypatch.setattr(planted, "VOLUME_FAULTS", faults)
    monkeypatch.setattr(planted, "WEIGHT_FAULTS", (planted.other_width, planted.not_finite))
    monkeypatch.setattr(planted, "VOLUME", 800)
    rows = planted.planted(one_scan.Explainer(one_scan.Settings()), tmp_path)
    assert [row["fault"] for row in rows if not row["as_expected"]] == []
    assert len(rows) == 2 + len(planted.FILE_FAULTS) + 2 + len(planted.WEIGHT_FAULTS)
