"""Which files belong to a scan, and what its folder is called."""

import pytest

from msxai.base import provenance
from msxai.base.errors import CohortError, ImageError
from msxai.data import single_scans


def test_names_take_as_many_folders_as_they_need():
    names = single_scans.folder_names(["x/a/flair.nii.gz", "x/b/flair.nii", "x/b/other.nii"])
    assert names == ["a_flair", "b_flair", "b_other"]
    assert single_scans.folder_names(["x/flair.nii.gz"]) == ["flair"]


def test_a_scan_and_its_gzipped_copy_are_told_apart_or_refused(tmp_path):
    """Their names are equal without the ending, whatever folders are added."""
    with pytest.raises(CohortError, match="equal"):
        single_scans.folder_names([tmp_path / "a.nii", tmp_path / "a.nii.gz"])


@pytest.mark.parametrize(
    "name",
    [
        *(".nii.gz", ".nii", "...nii", ".gz", ".12-a.nii.gz", "._a.nii.gz"),
        *("scans.csv.nii", "index.html.nii.gz", "Index.HTML.nii", "10_one_scan.ipynb.nii"),
    ],
)
def test_a_name_that_would_replace_the_results_is_refused(name, tmp_path):
    """The folder of ".nii.gz" would be that of all results."""
    with pytest.raises(CohortError, match=r"Rename the file\.$"):
        single_scans.folder_names([tmp_path / name])
    with pytest.raises(CohortError, match=r"Rename the file\.$"):
        single_scans.folder_names([tmp_path / "a" / name, tmp_path / "b" / name])


def test_a_link_has_its_own_name(tmp_path):
    """git-annex names a file by its content and lets a link point to it."""
    keys = [tmp_path / f"MD5E-s{number}--0.nii.gz" for number in (1, 2)]
    links = [tmp_path / "sub-1_FLAIR.nii.gz", tmp_path / "sub-2_FLAIR.nii.gz"]
    for key, link in zip(keys, links, strict=True):
        key.write_text(key.name)
        link.symlink_to(key)
    assert single_scans.folder_names(links) == ["sub-1_FLAIR", "sub-2_FLAIR"]
    with pytest.raises(CohortError, match="same scan twice"):
        single_scans.folder_names([links[0], keys[0]])


def test_names_differ_in_more_than_capital_letters():
    """A disk that does not distinguish them would have one folder for both."""
    names = single_scans.folder_names(["x/a/flair.nii", "x/b/FLAIR.nii"])
    assert names == ["a_flair", "b_FLAIR"]
    assert single_scans.folder_names([".d/flair.nii", "e/flair.nii"]) == ["d_flair", "e_flair"]


def test_no_name_with_its_folders_is_that_of_a_file_of_the_run():
    names = single_scans.folder_names(["b/10/one_scan.ipynb.nii", "b/20/one_scan.ipynb.nii"])
    assert names == ["b_10_one_scan.ipynb", "b_20_one_scan.ipynb"]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"lost\.nii: found a file that cannot be read"):
        single_scans.ScanFiles(str(tmp_path / "lost.nii")).hashes()


def test_files_are_put_together_in_order_and_hashed(tmp_path):
    paths = []
    for name in ("a", "b", "c", "d"):
        path = tmp_path / f"{name}.nii"
        path.write_text(name)
        paths.append(path)
    first, second = single_scans.list_scans(paths[:2], paths[2:])
    assert (first.lesion_mask, second.lesion_mask) == (str(paths[2]), str(paths[3]))
    assert first.brain_mask == first.t1 == ""
    assert first.hashes() == {
        "image": provenance.sha256(paths[0]),
        "lesion_mask": provenance.sha256(paths[2]),
    }


def test_no_scan_is_refused():
    with pytest.raises(CohortError, match="at least one"):
        single_scans.list_scans([])


@pytest.fixture
def visits(tmp_path):
    """Files of two visits, and a copy of the second one."""
    paths = []
    for name, content in (("now", "now"), ("before", "before"), ("mask", "mask"), ("copy", "now")):
        path = tmp_path / f"{name}.nii"
        path.write_text(content)
        paths.append(path)
    return paths


def test_an_earlier_scan_and_its_mask_belong_to_a_scan(visits):
    now, before, mask, _ = visits
    (files,) = single_scans.list_scans([now], befores=[before], before_lesion_masks=[mask])
    assert (files.before, files.before_lesion_mask) == (str(before), str(mask))
    assert files.hashes() == {
        "image": provenance.sha256(now),
        "before": provenance.sha256(before),
        "before_lesion_mask": provenance.sha256(mask),
    }
    assert files.given == {
        "image": str(now),
        "before": str(before),
        "before_lesion_mask": str(mask),
    }


def test_an_earlier_scan_that_is_the_scan_is_refused(visits, tmp_path):
    """Also under another name, and through a link: all changes would be 0."""
    now, before, _, copy = visits
    link = tmp_path / "link.nii"
    link.symlink_to(now)
    for same in (now, copy, link):
        with pytest.raises(CohortError, match="same content as the scan"):
            single_scans.list_scans([before, now], befores=["", same])


def test_a_mask_of_an_earlier_scan_needs_the_scan(visits):
    now, before, mask, _ = visits
    with pytest.raises(CohortError, match="and no earlier scan"):
        single_scans.list_scans([now], before_lesion_masks=[mask])
    with pytest.raises(CohortError, match="and no earlier scan"):
        single_scans.list_scans([now, mask], befores=[before, ""], before_lesion_masks=["", mask])


def test_as_many_earlier_scans_as_scans(visits):
    now, before, mask, copy = visits
    with pytest.raises(CohortError, match="earlier scans: found 1 for 2 scans"):
        single_scans.list_scans([now, mask], befores=[before])
    with pytest.raises(CohortError, match="lesion masks of earlier scans: found 2 for 1"):
        single_scans.list_scans([now], befores=[before], before_lesion_masks=[mask, copy])
