"""How two visits come to one place, and in which space their lesions are measured."""

import json
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from msxai.data import images
from msxai.data.registration import derivatives
from msxai.data.single_scans import ScanFiles
from msxai.quality import one_scan

LARGER = np.diag([1.2, 1.1, 1.0, 1.0])
"""From the space of a file to MNI152: brains are larger there."""


class Visit:
    """A prepared scan of a route; its lesion has 4 x 3 x 2 voxels of the model's grid."""

    def __init__(self, route, matrix=None):
        record = {"route": route, "flags": []}
        if matrix is not None:
            record["matrix"] = matrix.tolist()
        columns = {"participant_id": ["sub-a"], "registration": [json.dumps(record)]}
        self.table = pd.DataFrame(columns)
        self.mask = np.zeros(images.SHAPE, bool)
        self.mask[40:44, 50:53, 50:52] = True

    def lesions(self, row):
        return self.mask


@pytest.fixture
def files(tmp_path):
    """The earlier scan's mask as a file of 1 mm voxels: 24 mm3."""
    mask = np.zeros((10, 10, 10), "uint8")
    mask[2:6, 2:5, 2:4] = 1
    path = tmp_path / "mask.nii"
    nib.save(nib.Nifti1Image(mask, np.eye(4)), path)
    return ScanFiles("now.nii", before="before.nii", before_lesion_mask=str(path))


def test_alignments():
    for before, now, expected in [
        ("full", "full", one_scan.ALIGNED),
        ("affine", "full", one_scan.ALIGNED),
        ("resampled", "resampled", one_scan.UNMOVED),
        ("resampled", "full", one_scan.SEPARATE),
        ("affine", "resampled", one_scan.SEPARATE),
    ]:
        assert one_scan._alignment(Visit(before), Visit(now)) == expected, (before, now)


@pytest.mark.parametrize(
    ("before", "now", "volume"),
    [
        (Visit("affine", LARGER), Visit("affine", LARGER), 24.0),
        (Visit("resampled"), Visit("affine", LARGER), 24 / 1.32),
        (Visit("affine", LARGER), Visit("resampled"), 24 * 1.32),
        (Visit("resampled"), Visit("resampled"), 24.0),
    ],
)
def test_earlier_lesions_have_volumes_of_the_space_of_now(before, now, volume, files):
    lesions = one_scan._lesions_before(files, before, now)
    assert lesions.volumes == pytest.approx([volume])


def test_without_an_earlier_mask_there_are_no_earlier_lesions(files):
    alone = ScanFiles("now.nii", before="before.nii")
    assert one_scan._lesions_before(alone, Visit("full"), Visit("full")) is None


def test_the_earlier_scan_is_aligned_to_the_registration_of_now(files, tmp_path, monkeypatch):
    calls = []

    def registered(*arguments, **options):
        calls.append((arguments, options))
        return SimpleNamespace()

    monkeypatch.setattr(derivatives, "registered", registered)
    assert one_scan._registration_of(files, Visit("resampled"), tmp_path) is None
    assert calls == []
    assert one_scan._registration_of(files, Visit("full", LARGER), tmp_path) is not None
    ((source, folder, entities), options) = calls[0]
    assert source.name == "now.nii"
    assert folder == tmp_path / "registration" / "sub-a" / "anat"
    assert entities == "sub-a"
    assert options == {"modality": "FLAIR", "brain": None}
