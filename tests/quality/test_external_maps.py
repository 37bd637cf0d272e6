"""Maps of any program: read from arrays and images, and scored as the league scores them."""

import nibabel as nib
import numpy as np
import pytest

from msxai.base import provenance
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
    subjects = external_maps.read(**saved(tmp_path, study | {"maps": halves}))
    np.testing.assert_allclose(subjects[1].relevance, study["maps"][1])


def test_masks_of_brains_in_place_of_lesions_are_refused(study, tmp_path):
    paths = saved(tmp_path, study | {"masks": study["brains"]})
    with pytest.raises(ImageError, match=r"masks-000: found a lesion mask that marks 100% of the"):
        external_maps.read(**paths)


def test_scans_in_place_of_masks_are_refused(study, tmp_path):
    paths = saved(tmp_path, study | {"masks": np.maximum(100 * study["scans"], 0).astype("int16")})
    with pytest.raises(ImageError, match="as intensities do"):
        external_maps.read(**paths)


@pytest.mark.parametrize("shape", [(0, *SHAPE), (3, 0, 22, 18)])
def test_arrays_without_a_value_are_refused(study, tmp_path, shape):
    empty = {name: values.reshape(-1)[:0].reshape(shape) for name, values in study.items()}
    with pytest.raises(ImageError, match=r"maps.npy: found shape \([30], "):
        external_maps.read(**saved(tmp_path, empty))


def test_numbers_too_large_for_float64_are_refused(study, tmp_path):
    large = study["maps"].astype("longdouble") * np.longdouble("1e400")
    with pytest.raises(ImageError, match="NaN or infinite"):
        external_maps.read(**saved(tmp_path, study | {"maps": large}))


def test_a_map_whose_sum_overflows_is_refused(study, tmp_path):
    """Its share of relevance in lesions was NaN."""
    with pytest.raises(
        ImageError, match=r"maps-000: found values up to .*, whose sum is too large"
    ):
        external_maps.read(**saved(tmp_path, study | {"maps": study["maps"] * 4e307}))


def test_channels_of_float16_are_added_up_in_float32(study, tmp_path):
    """Two channels of 40,000 are infinite in float16, whose largest number is 65,504."""
    maps = np.full((3, *SHAPE, 2), 40_000, "float16")
    subjects = external_maps.read(**saved(tmp_path, study | {"maps": maps}))
    assert (subjects[0].relevance == 80_000).all()


AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
LARGE = np.diag([7.0, 7.0, 7.0, 1.0])  # the brain has 1.4 litres


def saved_images(folder, values, names, affine=AFFINE):
    """A folder of NIfTI files."""
    folder.mkdir()
    for name, volume in zip(names, values, strict=True):
        nib.save(nib.Nifti1Image(volume.astype("float32"), affine), folder / f"{name}.nii.gz")
    return folder


def test_images_on_different_grids_meet_by_their_headers(study, tmp_path):
    """The mask is stored upside down with twice as many slices; the headers say so."""
    folder = saved_images(tmp_path / "maps", study["maps"][:1], ["a"])
    brains = saved_images(tmp_path / "brains", study["brains"][:1], ["a"])
    fine = np.repeat(study["masks"][0], 2, axis=2)[::-1].astype("uint8")
    turned = np.array([[-2.0, 0, 0, 38], [0, 2, 0, 0], [0, 0, 1, -0.5], [0, 0, 0, 1]])
    mask = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(fine, turned), mask)
    (subject,) = external_maps.read(folder, mask, brains)
    np.testing.assert_array_equal(subject.lesions, study["masks"][0])
    np.testing.assert_array_equal(subject.brain, study["brains"][0])


def test_files_belong_together_by_subject_and_session(study, tmp_path):
    """By their order, the masks of two subjects would change places."""
    of_maps = ["sub-1_map", "sub-10_ses-2_map", "sub-2_ses-2_map"]
    maps = saved_images(tmp_path / "maps", study["maps"], of_maps)
    names = ["sub-1_mask", "x_sub-10_ses-2", "a_sub-2_ses-2"]
    masks = saved_images(tmp_path / "masks", study["masks"], names)
    brains = saved_images(tmp_path / "brains", study["brains"], names)
    for subject in external_maps.read(maps, masks, brains):
        expected = study["masks"][of_maps.index(subject.name)]
        np.testing.assert_array_equal(subject.lesions, expected)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["sub-1", "sub-2", "sub-4"], "no file of the subject and session of sub-3"),
        (["sub-1", "sub-2", "sub-3_ses-1"], "no file of the subject and session of sub-3"),
        (["sub-1", "sub-2_a", "sub-2_b"], "several files of one subject and session"),
    ],
)
def test_files_of_other_subjects_are_refused(names, sentence, study, tmp_path):
    maps = saved_images(tmp_path / "maps", study["maps"], ["sub-1", "sub-2", "sub-3"])
    brains = saved_images(tmp_path / "brains", study["brains"], ["sub-1", "sub-2", "sub-3"])
    masks = saved_images(tmp_path / "masks", study["masks"], names)
    with pytest.raises(ParameterError, match=sentence):
        external_maps.read(maps, masks, brains)


def test_names_without_a_subject_belong_together_by_their_order(study, tmp_path):
    maps = saved_images(tmp_path / "maps", study["maps"], ["a", "b", "c"])
    brains = saved_images(tmp_path / "brains", study["brains"], ["a", "b", "c"])
    masks = saved_images(tmp_path / "masks", study["masks"], ["m1", "m2", "m3"])
    subjects = external_maps.read(maps, masks, brains)
    np.testing.assert_array_equal(subjects[1].lesions, study["masks"][1])


@pytest.mark.parametrize(
    ("of_maps", "of_masks", "mask", "map_"),
    [
        ("sub-1_x sub-2 zother", "sub-0 sub-1 sub-2", "sub-0", "sub-1_x"),
        ("anna berta dora", "berta carla dora", "berta", "anna"),
        ("a_map b_map c_map", "b_les c_les d_les", "b_les", "a_map"),
        ("p1_map p2_map p10_map", "p01 p02 p10", "p01", "p10_map"),
        ("m_1 m_2 m_3", "m.2 m.3 m.4", "m.2", "m_1"),
    ],
)
def test_names_that_contradict_the_order_are_refused(
    of_maps, of_masks, mask, map_, study, tmp_path
):
    """Maps were scored on the masks of other people."""
    maps = saved_images(tmp_path / "maps", study["maps"], of_maps.split())
    brains = saved_images(tmp_path / "brains", study["brains"], of_maps.split())
    masks = saved_images(tmp_path / "masks", study["masks"], of_masks.split())
    with pytest.raises(ParameterError, match="masks: found other names than in maps") as caught:
        external_maps.read(maps, masks, brains)
    assert f"{mask}.nii.gz would belong to {map_}.nii.gz" in str(caught.value)


def test_names_with_the_same_words_of_their_own_belong_together(study, tmp_path):
    maps = saved_images(tmp_path / "maps", study["maps"], ["anna_map", "berta_map", "c.01_map"])
    others = ["Anna_lesion_mask", "Berta_lesion_mask", "c.01_lesion_mask"]
    brains = saved_images(tmp_path / "brains", study["brains"], others)
    masks = saved_images(tmp_path / "masks", study["masks"], others)
    subjects = external_maps.read(maps, masks, brains)
    np.testing.assert_array_equal(subjects[2].lesions, study["masks"][2])


def test_masks_are_read_as_everywhere(study, tmp_path):
    """A probability counts from 0.5, a label from 1; values below 0 are no mask."""
    expected = study["masks"][0]
    for values in (expected * 3, expected * 0.6 + ~expected * 0.4, expected * 255):
        masks = study["masks"].astype(float)
        masks[0] = values
        subjects = external_maps.read(**saved(tmp_path, study | {"masks": masks}))
        np.testing.assert_array_equal(subjects[0].lesions, expected)
    inverted = study | {"masks": study["masks"].astype(float) - 1}
    with pytest.raises(ImageError, match=r"masks\.npy, masks-000: found values down to -1"):
        external_maps.read(**saved(tmp_path, inverted))


def test_the_brain_must_be_known(study, tmp_path):
    """Where a map is not 0 says nothing about the brain."""
    paths = saved(tmp_path, study)
    with pytest.raises(ParameterError, match="neither brain masks nor scans"):
        external_maps.read(paths["maps"], paths["masks"])
    subjects = external_maps.read(paths["maps"], paths["masks"], scans=paths["scans"])
    for index, subject in enumerate(subjects):
        np.testing.assert_array_equal(subject.brain, study["brains"][index])
    empty = saved(tmp_path, study | {"brains": np.zeros_like(study["brains"])})
    with pytest.raises(ImageError, match="without a voxel"):
        external_maps.read(**empty)


def test_a_scan_with_its_head_does_not_give_a_brain(study, tmp_path):
    """Noise around the brain: without a mask, all of it would count as brain."""
    maps = saved_images(tmp_path / "maps", study["maps"], ["a", "b", "c"], LARGE)
    masks = saved_images(tmp_path / "masks", study["masks"], ["a", "b", "c"], LARGE)
    brains = saved_images(tmp_path / "brains", study["scans"], ["a", "b", "c"], LARGE)
    (subject, *_) = external_maps.read(maps, masks, scans=brains)
    np.testing.assert_array_equal(subject.brain, study["brains"][0])
    noise = np.random.default_rng(1).random(study["scans"].shape)
    heads = saved_images(tmp_path / "heads", study["scans"] + noise, ["a", "b", "c"], LARGE)
    with pytest.raises(ImageError, match="a head around the brain"):
        external_maps.read(maps, masks, scans=heads)


def test_the_prior_is_of_subjects_on_the_same_grid(study, tmp_path):
    """Two of three subjects have equal shapes, and headers that put their voxels elsewhere."""
    folders = {}
    for kind in ("maps", "masks", "brains"):
        folders[kind] = saved_images(tmp_path / kind, study[kind][:2], ["a", "b"])
        moved = AFFINE.copy()
        moved[:3, 3] = 30
        image = nib.Nifti1Image(study[kind][2].astype("float32"), moved)
        nib.save(image, folders[kind] / "c.nii.gz")
    scores = external_maps.score(external_maps.read(**folders))
    of_prior = scores[scores["map"] == "prior"]
    assert of_prior["participant_id"].tolist() == ["a", "b"]


def test_each_file_has_its_hash(study, tmp_path):
    """Files of two kinds may have one name."""
    maps = saved_images(tmp_path / "maps", study["maps"], ["a", "b", "c"])
    masks = saved_images(tmp_path / "masks", study["masks"], ["a", "b", "c"])
    brains = tmp_path / "brains.npy"
    np.save(brains, study["brains"])
    hashes = external_maps.hashes(maps, masks, brains, "")
    assert hashes["maps"]["b.nii.gz"] == provenance.sha256(maps / "b.nii.gz")
    assert hashes["masks"]["b.nii.gz"] == provenance.sha256(masks / "b.nii.gz")
    assert hashes["brains"] == {"brains.npy": provenance.sha256(brains)}
    assert hashes["scans"] == {}


def test_what_is_refused(study, tmp_path):
    paths = saved(tmp_path, study | {"masks": study["masks"][:2]})
    with pytest.raises(ParameterError, match="2 masks for 3 maps"):
        external_maps.read(**paths)
    paths = saved(tmp_path, study | {"masks": study["masks"][:, :-1]})
    with pytest.raises(ParameterError, match="that of the map"):
        external_maps.read(**paths)
    paths = saved(tmp_path, study | {"maps": np.where(study["masks"], np.nan, study["maps"])})
    with pytest.raises(ImageError, match="NaN"):
        external_maps.read(**paths)
    paths = saved(tmp_path, study | {"masks": np.zeros_like(study["masks"])})
    with pytest.raises(ParameterError, match="no lesion inside a brain"):
        external_maps.score(external_maps.read(**paths))
    brains = paths["brains"]
    flat = tmp_path / "flat.npy"
    np.save(flat, np.zeros((3, 4)))
    with pytest.raises(ImageError, match="five axes"):
        external_maps.read(flat, flat, brains)
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ImageError, match="no array"):
        external_maps.read(objects, objects, brains)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="no NIfTI file"):
        external_maps.read(tmp_path / "empty", flat, brains)


def test_an_array_file_of_more_values_than_it_has_is_refused(tmp_path):
    path = tmp_path / "maps.npy"
    np.save(path, np.zeros((2, 3, 4, 5)))
    path.write_bytes(path.read_bytes().replace(b"(2, 3, 4, 5), }", b"(9999999999,)} "))
    with pytest.raises(ImageError, match=r"maps\.npy: found no array \("):
        external_maps.read(path, path, path)


def test_an_archive_of_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "maps.npz", np.zeros((2, 3, 4, 5)))
    (tmp_path / "maps.npz").rename(tmp_path / "maps.npy")
    with pytest.raises(ImageError, match=r"maps\.npy: found several arrays \(\.npz\)"):
        external_maps.read(*[tmp_path / "maps.npy"] * 3)
