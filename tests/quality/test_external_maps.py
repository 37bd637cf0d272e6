"""Maps of any program: read from arrays and images, and scored as the league scores them."""

import nibabel as nib
import numpy as np
import pytest

from msxai.base.errors import ImageError, ParameterError
from msxai.quality import external_maps, localisation

SHAPE = (20, 22, 18)


@pytest.fixture
def study(rng):
    """Three brains with a lesion each, and maps that find it more or less."""
    brains = np.zeros((3, *SHAPE), bool)
    brains[:, 2:18, 2:20, 2:16] = True
    masks = np.zeros_like(brains)
    for index in range(3):
        masks[index, 4 + index : 7 + index, 8:11, 8:11] = True
    scans = np.where(brains, 5 + rng.normal(size=brains.shape), 0) + 2 * masks
    maps = rng.random(brains.shape) * brains + 3 * masks
    return {"maps": maps, "masks": masks, "brains": brains, "scans": scans}


def saved(folder, study):
    paths = {}
    for name, values in study.items():
        paths[name] = folder / f"{name}.npy"
        np.save(paths[name], values)
    return paths


def test_scores_are_those_of_the_league(study, tmp_path):
    subjects = external_maps.read(**saved(tmp_path, study))
    scores = external_maps.score(subjects)
    own = scores[scores["map"] == external_maps.MAP].set_index("participant_id")
    assert len(own) == 3
    for index, subject in enumerate(subjects):
        expected = localisation.measure(
            study["maps"][index], study["masks"][index], study["brains"][index]
        )
        for name, value in expected.items():
            assert own.loc[subject.name, name] == pytest.approx(value), name
    assert set(scores["map"]) == {external_maps.MAP, *external_maps.BASELINES}


def test_the_prior_knows_the_other_subjects_only(study, tmp_path):
    """A lesion where nobody else has one gets nothing from the prior."""
    study["masks"][2] = False
    study["masks"][2, 14:17, 4:6, 3:5] = True
    scores = external_maps.score(external_maps.read(**saved(tmp_path, study)))
    prior = scores[scores["map"] == "prior"]["rma"].tolist()
    assert prior[2] < 0.001
    assert min(prior[:2]) > 0.05


def test_a_good_map_is_above_its_baselines(study, tmp_path):
    scores = external_maps.score(external_maps.read(**saved(tmp_path, study)))
    ranking = localisation.rank(scores, external_maps.BASELINES)
    assert ranking["map"].iloc[0] == external_maps.MAP
    assert ranking["auprc"].iloc[0] == 1
    assert ranking["auprc_difference"].iloc[0] > 0


@pytest.mark.parametrize("axis", [1, 4])
def test_channels_are_added_up(study, tmp_path, axis):
    halves = np.stack([study["maps"] * 0.25, study["maps"] * 0.75], axis)
    paths = saved(tmp_path, study | {"maps": halves})
    subjects = external_maps.read(paths["maps"], paths["masks"])
    np.testing.assert_allclose(subjects[1].relevance, study["maps"][1])


def test_images_on_different_grids_meet_by_their_headers(study, tmp_path):
    """The mask is stored upside down with twice as many slices; the headers say so."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    folder = tmp_path / "maps"
    folder.mkdir()
    nib.save(nib.Nifti1Image(study["maps"][0], affine), folder / "a.nii.gz")
    fine = np.repeat(study["masks"][0], 2, axis=2)[::-1].astype("uint8")
    turned = np.array([[-2.0, 0, 0, 38], [0, 2, 0, 0], [0, 0, 1, -0.5], [0, 0, 0, 1]])
    mask = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(fine, turned), mask)
    (subject,) = external_maps.read(folder, mask)
    np.testing.assert_array_equal(subject.lesions, study["masks"][0])


def test_what_is_refused(study, tmp_path):
    paths = saved(tmp_path, study | {"masks": study["masks"][:2]})
    with pytest.raises(ParameterError, match="2 masks for 3 maps"):
        external_maps.read(paths["maps"], paths["masks"])
    paths = saved(tmp_path, study | {"masks": study["masks"][:, :-1]})
    with pytest.raises(ParameterError, match="that of the map"):
        external_maps.read(paths["maps"], paths["masks"])
    paths = saved(tmp_path, study | {"masks": np.zeros_like(study["masks"])})
    with pytest.raises(ParameterError, match="no lesion inside a brain"):
        external_maps.score(external_maps.read(paths["maps"], paths["masks"]))
    flat = tmp_path / "flat.npy"
    np.save(flat, np.zeros((3, 4)))
    with pytest.raises(ImageError, match="five axes"):
        external_maps.read(flat, flat)
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ImageError, match="no array"):
        external_maps.read(objects, objects)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no NIfTI file"):
        external_maps.read(tmp_path / "empty", flat)
