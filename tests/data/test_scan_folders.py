"""A folder in place of scans: which files are scans, and which masks belong to them."""

import pytest

from msxai.base.errors import CohortError
from msxai.data.scan_folders import scans_of


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_bids_dataset_with_masks_and_visits(tmp_path):
    touch(
        tmp_path,
        "sub-01/ses-1/anat/sub-01_ses-1_FLAIR.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii.gz",
        "sub-02/anat/sub-02_flair.nii",
        "sub-03/anat/sub-03_T1w.nii.gz",
        "sub-02/anat/._sub-02_flair.nii",
        "derivatives/lst/sub-01/ses-1/anat/sub-01_ses-1_label-lesion_mask.nii.gz",
        "derivatives/bet/sub-02/anat/sub-02_desc-brain_mask.nii.gz",
    )
    result = scans_of(tmp_path)
    first, second, third = result.scans
    assert first.image == str(tmp_path / "sub-01/ses-1/anat/sub-01_ses-1_FLAIR.nii.gz")
    assert first.lesion_mask.endswith("sub-01_ses-1_label-lesion_mask.nii.gz")
    assert first.t1.endswith("sub-01_ses-1_T1w.nii.gz")
    assert first.brain_mask == ""
    assert (second.lesion_mask, second.t1) == ("", "")
    assert third.image.endswith("sub-02_flair.nii")
    assert third.brain_mask.endswith("sub-02_desc-brain_mask.nii.gz")
    assert result.notes == ["1 visits have no FLAIR; the first is sub-03"]


def test_two_scans_of_a_visit_are_refused_unless_one_has_a_plain_name(tmp_path):
    touch(tmp_path, "sub-01/anat/sub-01_run-1_FLAIR.nii.gz", "sub-01/anat/sub-01_run-2_FLAIR.nii")
    with pytest.raises(CohortError, match=r"2 FLAIR scans: sub-01_run-1_FLAIR\.nii\.gz"):
        scans_of(tmp_path)
    touch(tmp_path, "sub-01/anat/sub-01_FLAIR.nii.gz")
    (scan,) = scans_of(tmp_path).scans
    assert scan.image.endswith("sub-01_FLAIR.nii.gz")


def test_plain_files_whose_names_end_with_flair(tmp_path):
    touch(tmp_path, "p2_FLAIR.nii.gz", "p1_flair.nii", "p1_T1.nii", "p1_mask.nii", "notes.txt")
    result = scans_of(tmp_path)
    assert [scan.image for scan in result.scans] == [
        str(tmp_path / name) for name in ("p1_flair.nii", "p2_FLAIR.nii.gz")
    ]
    (note,) = result.notes
    assert "2 files are not used" in note
    assert "p1_T1.nii" in note


def test_plain_files_of_any_name_unless_one_may_be_a_mask(tmp_path):
    touch(tmp_path, "b.nii", "a.nii.gz", "readme.md")
    result = scans_of(tmp_path)
    assert [scan.image for scan in result.scans] == [
        str(tmp_path / "a.nii.gz"),
        str(tmp_path / "b.nii"),
    ]
    assert result.notes == []
    touch(tmp_path, "a_lesions.nii.gz")
    with pytest.raises(CohortError, match=r"1 files that may be masks; the first is a_lesions"):
        scans_of(tmp_path)


def test_a_folder_without_a_scan_is_refused(tmp_path):
    with pytest.raises(CohortError, match="found no scan; expected NIfTI files"):
        scans_of(tmp_path)
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz")
    with pytest.raises(CohortError, match="found no scan; expected sub-"):
        scans_of(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("sub-a/anat/sub-b_FLAIR.nii.gz", "found a scan of sub-b; expected a scan of sub-a"),
        ("sub-a/ses-1/anat/sub-a_ses-2_FLAIR.nii", "found a scan of ses-2; expected a scan of ses"),
        ("sub-b/anat/sub-a_T1w.nii.gz", "found a scan of sub-a; expected a scan of sub-b"),
    ],
)
def test_a_scan_in_another_persons_or_visits_folder_is_refused(wrong, words, tmp_path):
    """It was explained with the masks of that person; `open_cohort` has always refused it."""
    touch(tmp_path, "sub-b/anat/sub-b_FLAIR.nii.gz", wrong)
    with pytest.raises(CohortError, match=words) as caught:
        scans_of(tmp_path)
    assert caught.value.where == str(tmp_path / wrong)


@pytest.mark.parametrize("mask", ["p1_mask_flair", "p1_lesions_FLAIR", "p1_seg-lst_FLAIR"])
def test_a_mask_whose_name_ends_with_flair_is_no_scan(mask, tmp_path):
    """It was explained as a scan."""
    touch(tmp_path, "p1_flair.nii.gz", f"{mask}.nii.gz")
    with pytest.raises(CohortError, match=f"1 files that may be masks; the first is {mask}.nii"):
        scans_of(tmp_path)


def test_scans_without_the_skull_or_with_filled_lesions_are_scans(tmp_path):
    names = ["p1_brain_flair.nii.gz", "p2_masked_FLAIR.nii", "p3_lesion_filled_FLAIR.nii"]
    touch(tmp_path, *names)
    assert [scan.image for scan in scans_of(tmp_path).scans] == [
        str(tmp_path / name) for name in names
    ]
