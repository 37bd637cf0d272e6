"""Odd images of real labs: masks after an interpolation, headers with two spaces or none, names
that lie, pointers, NaN around the brain, z-scores. Each is read right, or is one sentence.
"""

import gzip
import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.tripwire import TripWireError
from scipy import ndimage

from msxai.base.errors import ImageError
from msxai.data import image_files, images, prepared, quality_control
from msxai.data.cohorts.cohort import Cohort
from msxai.data.registration import brain_extraction

AFFINE = nib.affines.from_matvec(np.diag([-2.0, 2, 2]), [20, -20, -20])
SHAPE = (20, 22, 18)
MOVE = nib.affines.from_matvec(np.eye(3), [12, -8, 6])  # mm, as SPM moves an sform


def ball(radius=7):
    centre = np.reshape(np.array(SHAPE) // 2, (3, 1, 1, 1))
    return ((np.indices(SHAPE) - centre) ** 2).sum(axis=0) < radius**2


def scan_values():
    values = np.random.default_rng(0).integers(50, 150, SHAPE)
    return np.where(ball(), values, 0).astype("int16")


def lesions():
    """Some 150 voxels in four pieces, of which three are one voxel thick."""
    mask = np.zeros(SHAPE, bool)
    mask[7:12, 9:13, 7:12] = True
    mask[13, 11:15, 9] = True
    mask[5, 8, 6:11] = True
    mask[9:13, 7, 13] = True
    return mask


def save(path, values, sform=AFFINE, qform=None, kind=nib.Nifti1Image):
    image = kind(values, sform)
    image.set_sform(sform, 2)
    image.set_qform(sform if qform is None else qform, 1)
    nib.save(image, path)
    return path


def refusal(path, read=images.load, **arguments):
    with pytest.raises(ImageError) as caught:
        read(path, **arguments)
    assert str(path) in str(caught.value)
    assert caught.value.mend
    return caught.value


# Masks after an interpolation


def onto_another_header(mask, millimetres):
    """A mask resampled linearly between headers of which the second lies elsewhere."""
    offset = np.full(3, millimetres / 2)  # in voxels of 2 mm
    return ndimage.affine_transform(mask.astype(float), np.eye(3), offset, order=1)


def by_spline(mask):
    """A mask shifted by whole voxels, and its noise."""
    return ndimage.shift(mask.astype(float), [1.0, -2, 1], order=3, mode="grid-wrap")


def by_fourier(mask):
    spectrum = ndimage.fourier_shift(np.fft.fftn(mask.astype(float)), [1, -2, 1])
    return np.fft.ifftn(spectrum).real


def with_noise(mask):
    return mask + 1e-7 * np.random.default_rng(0).standard_normal(SHAPE)


INTERPOLATED = {
    "1e-6 mm": lambda mask: onto_another_header(mask, 1e-6),
    "1e-5 mm": lambda mask: onto_another_header(mask, 1e-5),
    "1e-4 mm": lambda mask: onto_another_header(mask, 1e-4),
    "0.1 mm": lambda mask: onto_another_header(mask, 0.1),
    "spline": by_spline,
    "Fourier": by_fourier,
    "noise": with_noise,
    "255 and noise": lambda mask: 255 * onto_another_header(mask, 1e-5),
    "labels and noise": lambda mask: with_noise(mask * (1 + np.indices(SHAPE)[0] // 7)),
}


@pytest.mark.parametrize("name", INTERPOLATED)
@pytest.mark.parametrize("sign", [1, -1])
def test_an_interpolated_mask_has_its_true_voxels(name, sign, tmp_path):
    values = INTERPOLATED[name](lesions()) * 1.0
    assert (values != 0).sum() > lesions().sum()
    values[np.abs(values) < 1e-3] *= sign
    path = save(tmp_path / "mask.nii.gz", values.astype("float32"))
    mask = images.load_mask(path)
    assert mask.get_fdata().sum() == lesions().sum()
    assert set(np.unique(mask.get_fdata())) == {0, 1}


def test_labels_and_a_byte_mask_are_inside_as_before(tmp_path):
    """FreeSurfer's labels go from 2 to 2035."""
    labels = np.where(lesions(), np.indices(SHAPE)[0], 0) * 185
    labels[0, 0, 0] = 2
    mask = images.load_mask(save(tmp_path / "labels.nii", labels.astype("float32")))
    assert np.array_equal(mask.get_fdata(), labels > 0)
    values = (255 * lesions()).astype("uint8")
    mask = images.load_mask(save(tmp_path / "byte.nii", values))
    assert np.array_equal(mask.get_fdata(), lesions())


NO_MASKS = {
    "minus 1": (-1.0 * lesions(), "values down to -1"),
    "minus 1 as fraction": (-0.999 * lesions(), "values down to -0.999"),
    "255 in a signed byte": ((255 * lesions()).astype("uint8").view("int8"), "values down to -1"),
    "log odds": (np.where(lesions(), 1.2, -3.4), "values down to -3.4"),
    "blurred labels": (ndimage.gaussian_filter(3.0 * lesions(), 1), "fractions and values up to 2"),
    "labels with fractions": (lesions() * 1.9 + 0.1 * ball(), "fractions and values up to 2"),
}


@pytest.mark.parametrize("name", NO_MASKS)
def test_what_is_no_mask_is_refused(name, tmp_path):
    values, words = NO_MASKS[name]
    values = values if values.dtype == np.int8 else values.astype("float32")
    path = save(tmp_path / "mask.nii.gz", values)
    assert words in refusal(path, images.load_mask).found


def intensities(kind, low=0, high=4000):
    """A scan of whole numbers above 0 in a ball: smooth tissue with noise."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2)
    smooth = smooth / np.abs(smooth).max() + 0.01 * rng.normal(size=SHAPE)
    levels = low + (high - low) * (smooth - smooth.min()) / np.ptp(smooth)
    return np.where(ball(), np.maximum(np.rint(levels), 1), 0).astype(kind)


@pytest.mark.parametrize("brain", [False, True])
@pytest.mark.parametrize(
    "scan",
    [
        intensities("int16"),
        intensities("uint8", high=255),
        intensities("float32"),
        intensities("uint8", high=100),
    ],
    ids=["16 bits", "8 bits", "stored as float", "per cent"],
)
def test_whole_numbers_of_a_scan_are_no_mask(scan, brain, tmp_path):
    """All of its voxels above 0 were inside: 1.5 l of lesions."""
    error = refusal(save(tmp_path / "scan.nii.gz", scan), images.load_mask, brain=brain)
    assert re.match(r"\d+ whole numbers above 0, which differ in \d+% of neighbouring", error.found)
    with pytest.raises(ImageError, match="as intensities do"):
        images.inside_of("scan.npy", scan.astype(float))


def test_many_labels_are_a_mask(tmp_path):
    """Lesions that are numbered, and regions of a brain: cubes of 3 x 3 x 3, one number each."""
    cubes = np.indices(SHAPE) // 3
    regions = np.where(ball(), 1 + cubes[0] + 9 * cubes[1] + 81 * cubes[2], 0)
    assert len(np.unique(regions)) > 80
    apart = np.zeros(SHAPE, int)
    spots = apart[::2, ::2, ::2]
    spots[:] = 1 + np.arange(spots.size).reshape(spots.shape)
    for values in (regions, apart):
        mask = images.load_mask(save(tmp_path / "labels.nii", values.astype("int32")))
        assert np.array_equal(mask.get_fdata(), values > 0)


def probabilities(largest, step, radius=6):
    """Whole numbers that fall from the middle of a ball to its border."""
    centre = np.reshape(np.array(SHAPE) // 2, (3, 1, 1, 1))
    distance = np.sqrt(((np.indices(SHAPE) - centre) ** 2).sum(axis=0))
    return step * np.rint(largest * np.clip(1 - distance / radius, 0, 1) / step)


@pytest.mark.parametrize(
    ("largest", "step", "radius"), [(100, 10, 6), (100, 5, 6), (100, 25, 6), (255, 1, 3)]
)
def test_few_probabilities_in_per_cent_are_refused(largest, step, radius, tmp_path):
    """All voxels above 0 were inside, of 10 % as well as of 90 %."""
    values = probabilities(largest, step, radius).astype("uint8")
    error = refusal(save(tmp_path / "mask.nii.gz", values), images.load_mask)
    assert re.match(rf"\d+ whole numbers up to {largest}, which rise from the border", error.found)
    assert error.mend == ("Divide probabilities in per cent by 100, and those of one byte by 255.")
    fractions = (values / largest).astype("float32")
    mask = images.load_mask(save(tmp_path / "mask.nii.gz", fractions))
    assert np.array_equal(mask.get_fdata(), values >= largest / 2)


def test_labels_of_parts_of_a_lesion_are_no_probabilities(tmp_path):
    """Parts of one lesion touch, and none of them lies around the others."""
    parts = np.where(ball(), 50 + 30 * (np.indices(SHAPE)[0] // 4), 0)
    assert len(np.unique(parts)) == 5
    mask = images.load_mask(save(tmp_path / "labels.nii", parts.astype("int16")))
    assert np.array_equal(mask.get_fdata(), ball())


def solid():
    """Whether voxels lie in one of two boxes, the smaller of which has no inner voxel."""
    boxes = np.zeros(SHAPE, bool)
    boxes[4:12, 4:12, 4:12] = True
    boxes[15:17, 15:17, 3:9] = True
    return boxes


@pytest.mark.parametrize("largest", [100, 255, 1000])
@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_a_byte_mask_that_was_interpolated_is_cut_at_half_of_its_largest(largest, kind, tmp_path):
    """All voxels above 0 were inside: a layer of voxels around each lesion too many."""
    shifted = ndimage.shift(largest * solid().astype(float), [0.3, 0.2, 0.1], order=1)
    values = shifted.astype(kind) if kind == "float32" else np.rint(shifted).astype(kind)
    mask = images.load_mask(save(tmp_path / "mask.nii.gz", values))
    assert np.array_equal(mask.get_fdata(), values >= largest / 2)
    assert mask.get_fdata().sum() < (values > 0).sum()


def test_the_number_of_a_lesion_is_no_fraction_of_the_largest_number(tmp_path):
    """One large lesion has the largest number, and the others fewer voxels than an inner one."""
    numbers = np.where(solid(), 40, 0)
    numbers[15:17, 15:17, 3:9] = np.arange(1, 7)
    mask = images.load_mask(save(tmp_path / "numbers.nii.gz", numbers.astype("int16")))
    assert np.array_equal(mask.get_fdata(), numbers > 0)


@pytest.mark.parametrize("brain", [False, True])
def test_a_scan_of_0_to_1_is_no_mask(brain, tmp_path):
    """Its voxels from 0.5 were inside."""
    scan = intensities("float32") / 4000
    large = np.diag([9.0, 9, 9, 1])  # mm, so that the ball has the size of a brain
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(scan, large), path)
    assert "values between 0.05 and 0.95 in" in refusal(path, images.load_mask, brain=brain).found
    probabilities = np.where(ball(), 0.02, 0) + 0.6 * solid()
    nib.save(nib.Nifti1Image(probabilities.astype("float32"), large), path)
    mask = images.load_mask(path, brain=brain)
    assert np.array_equal(mask.get_fdata(), solid())


def test_a_lesion_mask_may_mark_half_of_the_brain_and_no_more():
    brain = np.arange(10) < 8
    images.check_lesions("mask", np.arange(10) < 4, brain)
    images.check_lesions("mask", brain, brain & False)
    with pytest.raises(ImageError, match=r"mask: found a lesion mask that marks 62% of the brain"):
        images.check_lesions("mask", np.arange(10) < 5, brain)


def test_a_mask_on_the_grid_counts_from_one_half():
    """`mask_to_grid` takes masks that did not pass `load_mask`, too."""
    values = np.zeros(images.SHAPE)
    values[40:50, 40:50, 40:50] = 1
    noisy = values + 1e-7 * np.random.default_rng(0).random(images.SHAPE)
    grid = images.mask_to_grid(nib.Nifti1Image(noisy, images.AFFINE))
    assert grid.sum() == 1000


@pytest.mark.real
def test_a_real_mask_keeps_its_voxels_between_two_headers(open_ms, tmp_path):
    source = nib.load(open_ms / "lesions_mni" / "patient01_lesions.nii.gz")
    values = source.get_fdata()
    box = ndimage.find_objects(ndimage.binary_dilation(values, iterations=2).astype(int))[0]
    moved = onto_another_header(values[box], 1e-5)
    assert (moved > 0).sum() > 45_000
    path = save(tmp_path / "mask.nii", moved.astype("float32"), source.affine)
    assert images.load_mask(path).get_fdata().sum() == 30_620


# Headers


def without_good_ras(folder, packed=True):
    """FreeSurfer's format, flag goodRASFlag (bytes 28 and 29) at 0."""
    nib.save(nib.MGHImage(scan_values(), AFFINE), folder / "good.mgz")
    content = bytearray(gzip.decompress((folder / "good.mgz").read_bytes()))
    assert content[28:30] == b"\0\1"
    content[28:30] = bytes(2)
    path = folder / ("scan.mgz" if packed else "scan.mgh")
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def pair(folder, kind, affine=None, end=".hdr"):
    nib.save(kind(scan_values(), affine), folder / "scan.hdr")
    return folder / f"scan{end}"


WITHOUT_SPACE = {
    "mgz": without_good_ras,
    "mgh": lambda folder: without_good_ras(folder, packed=False),
    "NIfTI pair, .hdr": lambda folder: pair(folder, nib.Nifti1Pair),
    "NIfTI pair, .img": lambda folder: pair(folder, nib.Nifti1Pair, end=".img"),
    "Analyze": lambda folder: pair(folder, nib.AnalyzeImage),
    "Analyze, .img": lambda folder: pair(folder, nib.AnalyzeImage, end=".img"),
    "SPM99 without its .mat": lambda folder: pair(folder, nib.Spm99AnalyzeImage),
}


@pytest.mark.parametrize("name", WITHOUT_SPACE)
def test_a_header_without_a_space_is_refused_in_any_format(name, tmp_path):
    path = WITHOUT_SPACE[name](tmp_path)
    error = refusal(path)
    assert "a header that declares no space" in error.found
    assert "left and right" in error.mend


def test_a_header_with_a_space_is_read_in_any_format(tmp_path):
    nib.save(nib.MGHImage(scan_values(), AFFINE), tmp_path / "good.mgz")
    save(tmp_path / "pair.hdr", scan_values(), kind=nib.Nifti1Pair)
    nib.save(nib.Spm99AnalyzeImage(scan_values(), AFFINE), tmp_path / "spm.hdr")
    for name in ("good.mgz", "pair.hdr", "pair.img", "spm.img"):
        image = images.load(tmp_path / name)
        assert np.array_equal(image.get_fdata(), scan_values())
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
        assert images.notes(image) == []


def test_a_pair_without_its_voxels_names_the_missing_file(tmp_path):
    save(tmp_path / "pair.hdr", scan_values(), kind=nib.Nifti1Pair)
    (tmp_path / "pair.img").unlink()
    with pytest.raises(ImageError, match=r"pair\.img: found no such file"):
        images.load(tmp_path / "pair.hdr")


def test_slope_0_with_an_intercept_is_read_as_stored_with_a_note(tmp_path):
    for kind, name in ((nib.Nifti1Image, "scan.nii"), (nib.Nifti2Image, "two.nii")):
        path = save(tmp_path / name, scan_values(), kind=kind)
        content = bytearray(path.read_bytes())
        slope, floats = (112, "<f4") if kind is nib.Nifti1Image else (176, "<f8")
        pattern = np.array([0, 5], floats).tobytes()
        content[slope : slope + len(pattern)] = pattern
        path.write_bytes(content)
        image = images.load(path)
        assert np.array_equal(image.get_fdata(), scan_values())
        assert "slope 0 and intercept 5" in images.notes(image)[0]


def with_dim(path, shape):
    """Replace the lengths in the header of a NIfTI-1 file, gzipped or not."""
    is_gzipped = path.name.endswith(".gz")
    content = bytearray(gzip.decompress(path.read_bytes()) if is_gzipped else path.read_bytes())
    content[42:48] = np.array(shape, "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(content)) if is_gzipped else content)
    return path


@pytest.mark.parametrize("shape", [(32767, 32767, 32767), (20, 22, 19), (21, 22, 18)])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "scan.hdr"])
def test_a_header_of_more_voxels_than_the_file_has_is_damaged(name, shape, tmp_path):
    """The first shape needs 70 terabytes: nibabel asks for the memory before it reads."""
    kind = nib.Nifti1Pair if name.endswith(".hdr") else nib.Nifti1Image
    path = with_dim(save(tmp_path / name, scan_values(), kind=kind), shape)
    words = " x ".join(map(str, shape))
    for read in (images.load, images.load_mask):
        assert refusal(path, read).found.startswith(f"damaged data (a header of {words} voxels")


def test_a_header_of_more_voxels_than_the_file_has_is_damaged_in_other_formats(tmp_path):
    for name, kind in (("scan.mgh", nib.MGHImage), ("scan.mgz", nib.MGHImage)):
        path = save_mgh(tmp_path / name, kind)
        assert "damaged data (a header of 20 x 22 x 999 voxels" in refusal(path).found


def save_mgh(path, kind):
    nib.save(kind(scan_values().astype("float32"), AFFINE), path)
    opener = gzip.open if path.suffix == ".mgz" else open
    with opener(path, "rb") as file:
        content = bytearray(file.read())
    content[12:16] = (999).to_bytes(4, "big")
    with opener(path, "wb") as file:
        file.write(content)
    return path


def test_a_header_of_fewer_voxels_than_the_file_has_is_noted(tmp_path):
    path = with_dim(save(tmp_path / "scan.nii.gz", scan_values()), (19, 22, 18))
    note = "The file has 792 bytes more than the 19 x 22 x 18 voxels of its header need: is the"
    assert images.notes(images.load(path)) == [f"{note} shape right?"]


def test_a_folder_in_place_of_an_image_is_one_sentence(tmp_path):
    assert refusal(tmp_path).found == "a folder"
    assert refusal(tmp_path, image_files.opened).found == "a folder"


def test_distance_of_two_spaces_by_hand():
    affine = np.diag([2.0, 3, 4, 1])
    moved = nib.affines.from_matvec(np.diag([2.0, 3, 5]), [0, 3, 0])
    expected = np.hypot(3, 10) / 2  # at the last of 11 slices
    assert image_files.distance_in_voxels(affine, moved, (5, 6, 11)) == pytest.approx(expected)
    assert image_files.distance_in_voxels(affine, affine, (5, 6, 11)) == 0


# Two spaces in one header


def moved_scan(folder):
    """A scan whose sform was moved, with the qform of the scanner."""
    path = save(folder / "scan.nii.gz", scan_values(), MOVE @ AFFINE, AFFINE)
    return images.load(path)


MASKS_ELSEWHERE = {
    "space of the qform": lambda path: save(path, lesions().astype("uint8"), AFFINE),
    "another grid, space of the qform": lambda path: save(
        path, np.ones((8, 8, 8), "uint8"), nib.affines.from_matvec(np.eye(3), [-4, -2, -6])
    ),
}


@pytest.mark.parametrize("name", MASKS_ELSEWHERE)
def test_a_mask_in_the_space_of_the_qform_is_refused(name, tmp_path):
    scan = moved_scan(tmp_path)
    path = MASKS_ELSEWHERE[name](tmp_path / "mask.nii.gz")
    error = refusal(path, images.load_mask, scan=scan)
    assert "space of their headers that is not used" in error.found
    plain = images.load(save(tmp_path / "plain.nii.gz", scan_values()))
    assert images.load_mask(path, plain).get_fdata().any()


def test_a_mask_of_a_raw_head_in_the_space_of_the_qform_is_refused(tmp_path):
    """A head fills its image, so that the mask lies on it by either space."""
    path = save(tmp_path / "scan.nii.gz", scan_values() + np.int16(1), MOVE @ AFFINE, AFFINE)
    mask = save(tmp_path / "mask.nii.gz", lesions().astype("uint8"))
    assert "not used" in refusal(mask, images.load_mask, scan=images.load(path)).found


def test_a_mask_that_was_moved_alone_is_refused(tmp_path):
    scan = images.load(save(tmp_path / "scan.nii.gz", scan_values()))
    path = save(tmp_path / "mask.nii.gz", lesions().astype("uint8"), MOVE @ AFFINE, AFFINE)
    assert "not used" in refusal(path, images.load_mask, scan=scan).found


@pytest.mark.parametrize("qform", [AFFINE, MOVE @ AFFINE], ids=["old qform", "new qform"])
def test_a_mask_in_the_space_of_the_sform_passes(qform, tmp_path):
    scan = moved_scan(tmp_path)
    path = save(tmp_path / "mask.nii.gz", lesions().astype("uint8"), MOVE @ AFFINE, qform)
    mask = images.load_mask(path, scan)
    assert np.array_equal(mask.get_fdata(), lesions())
    np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-5)


# Names, padding, pointers


def test_a_file_is_read_by_its_content_with_a_note(tmp_path):
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        save(tmp_path / "packed.nii.gz", scan_values(), kind=kind)
        save(tmp_path / "plain.nii", scan_values(), kind=kind)
        (tmp_path / "packed.nii.gz").rename(tmp_path / "scan.nii")
        (tmp_path / "plain.nii").rename(tmp_path / "scan.nii.gz")
        for name, state in (("scan.nii", "gzipped"), ("scan.nii.gz", "not gzipped")):
            image = images.load(tmp_path / name)
            assert np.array_equal(image.get_fdata(), scan_values())
            np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
            assert images.notes(image) == [f"The file is {state}, other than its name says."]


def test_a_misnamed_file_that_is_cut_is_damaged(tmp_path):
    content = save(tmp_path / "packed.nii.gz", scan_values()).read_bytes()
    (tmp_path / "scan.nii").write_bytes(content[: len(content) // 2])
    assert "damaged" in refusal(tmp_path / "scan.nii").found
    content = save(tmp_path / "plain.nii", scan_values()).read_bytes()
    (tmp_path / "scan.nii.gz").write_bytes(content[: len(content) // 2])
    assert "damaged" in refusal(tmp_path / "scan.nii.gz").found


def test_a_zero_padded_gzip_is_read(tmp_path):
    path = save(tmp_path / "scan.nii.gz", scan_values())
    path.write_bytes(path.read_bytes() + bytes(1024))
    assert np.array_equal(images.load(path).get_fdata(), scan_values())


POINTERS = {
    "annex": ("/annex/objects/MD5E-s12--0a.nii.gz\n", "git-annex", "git annex get scan.nii.gz"),
    "annex, link as text": (
        "../../.git/annex/objects/x/Y/MD5E-s12--0a/MD5E-s12--0a.nii.gz",
        "git-annex",
        "git annex get scan.nii.gz",
    ),
    "lfs": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 12\n",
        "Git LFS",
        "git lfs pull",
    ),
}


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii"])
@pytest.mark.parametrize("kind", POINTERS)
def test_a_pointer_says_how_to_fetch_the_file(kind, name, tmp_path):
    text, tool, command = POINTERS[kind]
    path = tmp_path / name
    path.write_text(text)
    error = refusal(path)
    assert error.found == f"a pointer of {tool}"
    assert error.mend == f"Fetch the file itself: {command.replace('scan.nii.gz', name)}"


def test_a_link_of_git_annex_without_its_file_is_a_pointer(tmp_path):
    path = tmp_path / "scan.nii.gz"
    path.symlink_to("../.git/annex/objects/x/Y/MD5E-s12--0a/MD5E-s12--0a.nii.gz")
    assert refusal(path).found == "a pointer of git-annex"
    path.unlink()
    path.symlink_to("elsewhere.nii.gz")
    assert refusal(path).found == "no such file"


# NaN


def test_nan_around_the_brain_is_0_with_a_note(tmp_path):
    values = np.where(ball(), scan_values(), np.nan).astype("float32")
    image = images.load(save(tmp_path / "scan.nii.gz", values))
    assert np.array_equal(image.get_fdata(), scan_values())
    assert images.notes(image) == [
        f"{(~ball()).sum()} voxels around the brain were NaN and were read as 0."
    ]
    mask = np.where(ball(), lesions(), np.nan).astype("float32")
    mask = images.load_mask(save(tmp_path / "mask.nii.gz", mask), image)
    assert np.array_equal(mask.get_fdata(), lesions())
    assert len(images.notes(mask)) == 1


def nan_plane(values):
    values[:, :, 9] = np.nan


def nan_everywhere(values):
    values[:] = np.nan


def nan_hole(values):
    values[9, 9, 9] = np.nan


def infinite_border(values):
    values[0, 0, 0] = -np.inf


@pytest.mark.parametrize("spoil", [nan_plane, nan_everywhere, nan_hole, infinite_border])
@pytest.mark.parametrize("background", [0, np.nan])
def test_nan_in_the_brain_is_an_error(spoil, background, tmp_path):
    values = np.where(ball(), scan_values(), background).astype("float32")
    spoil(values)
    error = refusal(save(tmp_path / "scan.nii.gz", values))
    assert "voxels that are NaN or infinite" in error.found


# z-scores and scaled whole numbers


def test_whole_numbers_with_an_intercept_have_a_background_of_0(tmp_path):
    """Nibabel stores floats so; a background of -0.003 would count as a head."""
    whole_numbers = np.where(ball(), scan_values() + 301, 300).astype("int16")
    whole_numbers[0, 0, 0] = 301
    path = save(tmp_path / "scan.nii", whole_numbers)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([0.01, -3.003], "<f4").tobytes()
    path.write_bytes(content)
    image = images.load(path)
    expected = np.where(whole_numbers == 300, 0, whole_numbers * 0.01 - 3.003)
    np.testing.assert_allclose(image.get_fdata(), expected, atol=1e-6)
    assert np.array_equal(image.get_fdata() == 0, whole_numbers == 300)
    count = (whole_numbers == 300).sum()
    assert images.notes(image) == [f"{count} voxels within half a step (0.01) of 0 were read as 0."]


def test_an_exact_0_stays_as_it_is(tmp_path):
    image = nib.Nifti1Image(scan_values(), AFFINE)
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "scan.nii")
    image = images.load(tmp_path / "scan.nii")
    assert np.array_equal(image.get_fdata(), nib.load(tmp_path / "scan.nii").get_fdata())
    assert images.notes(image) == []


def z_scored(centre=0.0):
    """A brain of z-scores on the model's grid, its true mask; 2.0 litres."""
    sides = np.array([38, 48, 38])[:, None, None, None]
    middle = np.array([48, 56, 44])[:, None, None, None]
    brain = (((np.indices(images.SHAPE) - middle) / sides) ** 2).sum(axis=0) < 1
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.standard_normal(images.SHAPE), 2)
    inside = smooth[brain]
    values = np.zeros(images.SHAPE, "float32")
    values[brain] = (inside - inside.mean()) / inside.std() + centre
    return values, brain


def test_a_z_scored_brain_is_a_brain_without_a_head():
    values, brain = z_scored()
    litres = brain.sum() * images.VOXEL_VOLUME / 1e6
    assert 1.95 < litres < 2.05
    assert images.is_signed(values)
    assert np.array_equal(images.brain_mask(values), brain)
    # In a finer copy, values next to the brain would add to more than the volume of a brain.
    wide = nib.Nifti1Image(values[::2, ::2, ::2], images.AFFINE @ np.diag([2, 2, 2, 1]))
    assert brain_extraction.extracted(nib.Nifti1Image(values, images.AFFINE))
    assert brain_extraction.extracted(wide)
    fine = nib.Nifti1Image(values, nib.affines.rescale_affine(images.AFFINE, images.SHAPE, 1.6))
    resampled = images.to_grid(fine)
    own = images.mask_to_grid(nib.Nifti1Image(brain.astype("float32"), fine.affine))
    assert np.array_equal(images.brain_on_grid(fine, resampled), own)
    assert not np.array_equal(images.brain_mask(resampled), own)


def test_other_images_are_not_taken_for_z_scores():
    """A raw head with noise of either sign around it, dips of an interpolation, raw intensities."""
    values, brain = z_scored(centre=10)
    assert not images.is_signed(values)
    dips = np.where(np.random.default_rng(0).random(images.SHAPE) < 0.05, -values, values)
    assert not images.is_signed(dips)
    noisy = values + 0.5 * np.random.default_rng(0).standard_normal(images.SHAPE)
    noisy[:, :, :30] = 0  # beyond the field of view
    assert not images.is_signed(noisy)
    assert not images.is_signed(np.zeros(images.SHAPE))
    assert images.brain_on_grid(nib.Nifti1Image(values, images.AFFINE), values).sum() == brain.sum()
    assert images.from_zero(values, brain) is values


def test_z_scores_are_registered_from_zero_upwards():
    values, brain = z_scored()
    raised = images.from_zero(values, brain)
    assert raised.min() == 0
    np.testing.assert_allclose(raised[brain], values[brain] - values.min(), atol=1e-6)
    assert not raised[~brain].any()


# From the files to the table of quality control


def test_odd_files_are_prepared_and_stated_in_quality_control(tmp_path):
    """A z-scored scan with NaN around it, gzipped as .nii, sform moved; a noisy lesion mask."""
    values, brain = z_scored()
    qform = MOVE @ images.AFFINE
    with_nan = np.where(brain, values, np.nan)
    packed = save(tmp_path / "scan.nii.gz", with_nan, images.AFFINE, qform)
    packed.rename(tmp_path / "scan.nii")
    box = np.zeros(images.SHAPE)
    box[40:44, 50:53, 40:45] = 1
    noisy = (box + 1e-8 * values).astype("float32")
    save(tmp_path / "mask.nii", noisy, images.AFFINE)
    row = {"participant_id": "sub-1", "session_id": "", "group": "MS", "label": 1}
    row |= {"image": str(tmp_path / "scan.nii"), "brain_mask": None}
    row |= {"lesion_mask": str(tmp_path / "mask.nii")}
    finer = nib.affines.rescale_affine(images.AFFINE, images.SHAPE, 1.6)
    other = row | {"participant_id": "sub-2", "lesion_mask": None}
    other |= {"image": str(save(tmp_path / "finer.nii", values, finer))}
    table = pd.DataFrame([row, other]).astype({"label": "Int64"})
    split = table[["participant_id", "session_id"]].assign(part="training")
    prepared.prepare(Cohort("odd", table, True, "FLAIR"), split, tmp_path / "odd.h5")
    arrays = prepared.Prepared(tmp_path / "odd.h5")
    assert np.array_equal(arrays.brain(0), brain)
    np.testing.assert_allclose(arrays.image(0), values, atol=1e-4)
    own = images.mask_to_grid(nib.Nifti1Image(brain.astype("float32"), finer))
    assert np.array_equal(arrays.brain(1), own)
    assert np.array_equal(arrays.lesions(0), box)
    table = quality_control.measure(arrays)
    assert pd.isna(table["file"][1])
    assert table["space_shift"][1] < 1e-3
    quality = table.iloc[0]
    assert quality["space"] == "sform"
    expected = np.linalg.norm([12, 8, 6]) / images.VOXEL_SIZE.min()
    assert quality["space_shift"] == pytest.approx(expected, rel=1e-4)
    assert "space_shift" in quality["flagged"].split()
    assert any("up to 8.2 voxels apart" in sentence for sentence in quality["flags"])
    assert "Scan: The file is gzipped" in quality["file"]
    assert "were NaN and were read as 0" in quality["file"]


# Formats and axes


@pytest.mark.parametrize("name", ["plain.mgz", "gzipped.mgh"])
def test_an_mgh_is_read_whether_it_is_gzipped_or_not(name, tmp_path):
    """As .nii is; nibabel has no test of how such a header begins."""
    image = nib.MGHImage(scan_values().astype("float32"), AFFINE)
    true = tmp_path / ("true.mgh" if name.endswith(".mgz") else "true.mgz")
    nib.save(image, true)
    path = true.rename(tmp_path / name)
    for read in (images.load, images.load_mask):
        values = scan_values() if read is images.load else ball()
        if read is images.load_mask:
            nib.save(nib.MGHImage(ball().astype("float32"), AFFINE), true)
            path = true.rename(tmp_path / name)
        found = read(path)
        assert np.array_equal(found.get_fdata(), values)
        np.testing.assert_allclose(found.affine, AFFINE, atol=1e-6)
        assert "other than its name says" in images.notes(found)[0]


@pytest.mark.parametrize("name", ["scan.mgz", "scan.mgh"])
@pytest.mark.parametrize("content", [b"hello", b"\0\0\0\2" + bytes(400), b"\0\0\0\1" + bytes(9)])
def test_what_is_no_mgh_is_refused(name, content, tmp_path):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name == "scan.mgh" else content)
    assert refusal(path).expected.endswith("NIfTI image")


@pytest.mark.parametrize("length", [-20, 0])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_an_axis_without_a_voxel_is_refused(length, name, tmp_path):
    save(tmp_path / "whole.nii", scan_values())
    content = bytearray((tmp_path / "whole.nii").read_bytes())
    content[42:44] = np.int16(length).tobytes()
    path = tmp_path / name
    path.write_bytes(gzip.compress(bytes(content)) if name.endswith(".gz") else bytes(content))
    for read in (images.load, images.load_mask):
        assert f"{length} x 22 x 18 voxels" in refusal(path, read).found
    nib.save(nib.Nifti1Image(np.zeros((5, 0, 3), "uint8"), AFFINE), path)
    assert "5 x 0 x 3 voxels" in refusal(path).found


def test_an_opened_image_is_checked_as_its_file_is(tmp_path):
    """nibabel stops at the last voxel, before the checksum at the end."""
    values = np.random.default_rng(0).integers(0, 4000, SHAPE).astype("int16")
    path = save(tmp_path / "scan.nii.gz", values)
    image = images.checked(nib.load(path), "the scan")
    assert np.array_equal(image.get_fdata(), values)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # of the checksum
    path.write_bytes(content)
    with pytest.raises(ImageError, match="the scan: found damaged data"):
        images.checked(nib.load(path), "the scan")
    surplus = save(tmp_path / "long.nii", values)
    surplus.write_bytes(surplus.read_bytes() + bytes(10))
    assert "10 bytes more" in images.notes(images.checked(nib.load(surplus), "the scan"))[0]


@pytest.mark.parametrize("kind", [nib.MGHImage, nib.Spm99AnalyzeImage, nib.Nifti2Image])
def test_an_image_in_memory_has_the_space_that_it_was_given(kind):
    image = images.checked(kind(scan_values().astype("float32"), AFFINE), "the scan")
    assert np.array_equal(image.get_fdata(), scan_values())
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)


def test_an_opened_mgh_without_its_flag_is_refused(tmp_path):
    path = without_good_ras(tmp_path)
    with pytest.raises(ImageError, match="goodRASFlag 0"):
        images.checked(nib.load(path), "the scan")


# What nibabel's readers make of damaged files


OF_OTHER_FORMATS = {
    "scan.mgh": b"garbage\n" * 300,
    "scan.gii": b"garbage",
    "scan.PAR": b"# === DATA DESCRIPTION FILE ===\n# CLINICAL TRYOUT  image export tool     V4.2\n",
    "scan+orig.HEAD": b"\ntype = string-attribute\nname = DATASET_NAME\ncount = 2\n'a~\n",
    "long.HEAD": b"garbage\n" * 3000,
}


@pytest.mark.parametrize("name", OF_OTHER_FORMATS)
def test_a_damaged_file_of_another_format_is_one_short_error(name, tmp_path):
    """It was a traceback of nibabel, or a message with the whole file in it."""
    path = tmp_path / name
    path.write_bytes(OF_OTHER_FORMATS[name])
    error = refusal(path)
    assert error.found.startswith("damaged data (")
    assert len(error.found) < 200
    assert "\n" not in str(error)


def test_a_format_without_its_package_says_so(tmp_path, monkeypatch):
    path = tmp_path / "scan.nii.zst"
    path.write_bytes(b"zst")

    def without_package(path):
        raise TripWireError("We need package backports.zstd for these functions")

    monkeypatch.setattr(nib, "load", without_package)
    error = refusal(path)
    assert "needs a package which is not here (We need package backports.zstd" in error.found
    assert error.mend == "Decompress or convert it."


def test_what_nibabel_would_write_to_standard_error_is_a_note(tmp_path, caplog):
    content = bytearray(nib.Nifti1Image(scan_values(), AFFINE).to_bytes())
    content[0:4] = (349).to_bytes(4, "little")  # the length of a header is 348
    path = tmp_path / "scan.nii"
    path.write_bytes(content)
    image = images.load(path)
    assert np.array_equal(image.get_fdata(), scan_values())
    assert images.notes(image)[0].startswith("The header is odd: sizeof_hdr should be 348")
    assert caplog.text == ""
    nib.load(path)
    assert "sizeof_hdr" in caplog.text


def test_an_image_in_memory_without_an_affine_is_refused():
    image = nib.AnalyzeImage(scan_values(), None)
    with pytest.raises(ImageError, match=r"scan: found a header that declares no space \(no affi"):
        images.checked(image, "scan")
