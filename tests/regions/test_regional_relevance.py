"""Regions: sums against plain loops, signs apart, lesions against an independent count, references
and planted effects.
"""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from msxai.base.errors import MissingAtlasError
from msxai.data import images
from msxai.regions import atlases, region_statistics, regional_relevance

GROUPS = pd.DataFrame(
    {"group": ["A", "B", "fluid"], "tissue": ["grey", "grey", "fluid"]}, index=[1, 2, 3]
)


@pytest.fixture
def two():
    """Areas A and B (and one that is fluid) and one tract that overlaps both."""
    areas, tract = np.zeros(images.SHAPE, int), np.zeros(images.SHAPE, int)
    areas[10:14, 10, 10], areas[20:22, 20, 20:23], areas[30, 30, 30] = 1, 2, 3
    tract[12:30, 10:21, 10:21] = 1
    return regional_relevance.combine(
        {
            "areas": (areas, GROUPS),
            "tracts": (tract, pd.DataFrame({"group": ["T"], "tissue": ["white"]}, index=[1])),
        }
    )


@pytest.fixture
def table(tmp_path, rng):
    rows = []
    for number in range(8):
        values = rng.normal(size=images.SHAPE).astype("float32")
        values[10:14, 10, 10] += 30 * (number < 4)
        path = tmp_path / f"sub-{number}.nii.gz"
        nib.save(nib.Nifti1Image(values, images.AFFINE), path)
        rows.append(
            {
                "participant_id": f"sub-{number}",
                "session_id": "",
                "group": "MS",
                "label": int(number < 4),
                "path": path,
            }
        )
    return pd.DataFrame(rows)


def test_regions_keep_grey_matter_and_their_voxels(two):
    assert two.table.to_numpy().tolist() == [
        ["areas", "A", "grey", 4],
        ["areas", "B", "grey", 6],
        ["tracts", "T", "white", 18 * 11 * 11],
    ]


def test_relevance_is_a_plain_loop(two, table, monkeypatch):
    monkeypatch.setattr(regional_relevance, "_MAPS_AT_A_TIME", 3)
    table_of_regions = regional_relevance.relevance(table, two).set_index(
        ["participant_id", "region", "sign"]
    )
    assert len(table_of_regions) == 8 * 3 * 3
    boxes = {
        "A": np.s_[10:14, 10, 10],
        "B": np.s_[20:22, 20, 20:23],
        "T": np.s_[12:30, 10:21, 10:21],
    }
    for name, path in zip(table["participant_id"], table["path"], strict=True):
        values = nib.load(path).get_fdata()
        for region, box in boxes.items():
            positive = sum(value for value in values[box].ravel() if value > 0)
            negative = sum(value for value in values[box].ravel() if value < 0)
            size = values[box].size
            expected = {
                "net": (positive + negative, np.abs(values).sum()),
                "positive": (positive, values[values > 0].sum()),
                "negative": (negative, -values[values < 0].sum()),
            }
            for sign, (total, whole) in expected.items():
                row = table_of_regions.loc[(name, region, sign)]
                assert row["sum"] == pytest.approx(total, rel=1e-5, abs=1e-5)
                assert row["density"] == pytest.approx(total / size, rel=1e-5, abs=1e-5)
                assert row["share"] == pytest.approx(total / whole, rel=1e-4, abs=1e-8)


def test_a_planted_region_is_found(two, table):
    tests = region_statistics.compare(
        regional_relevance.relevance(table, two), two, n=100
    ).set_index(["region", "sign", "measure"])
    assert tests.loc[("A", "positive", "sum"), "p_fwe"] == pytest.approx(
        2 / 70
    )  # the best of all 70 labellings, and its mirror
    assert tests.loc[("B", "positive", "sum"), "p_fwe"] > 0.05
    assert tests.loc[("T", "net", "sum"), "subjects"] == 8


def test_visits_are_one_subject(two, table):
    twice = pd.concat(
        [table, table.iloc[[0]].assign(session_id="ses-2", path=table["path"][1])],
        ignore_index=True,
    )
    table_of_regions = regional_relevance.relevance(twice, two)
    people, values = region_statistics.by_subject(
        table_of_regions[table_of_regions["sign"] == "net"], "sum", two, "areas"
    )
    single = table_of_regions[
        (table_of_regions["sign"] == "net") & (table_of_regions["region"] == "A")
    ].set_index(["participant_id", "session_id"])["sum"]
    assert len(people) == 8
    assert values[0, 0] == pytest.approx((single["sub-0", ""] + single["sub-0", "ses-2"]) / 2)


def test_lesions_count_for_every_region_they_touch(two):
    mask = np.zeros(images.SHAPE, bool)
    mask[11:14, 10, 10] = True  # 3 voxels of A, of which 2 lie in the tract
    mask[14, 11, 11] = True  # joined by a corner: the same lesion
    mask[25, 15, 15] = True  # another lesion, in the tract
    mask[60, 60, 60] = True  # nowhere
    table_of_regions = regional_relevance.lesions(
        [mask, ~mask & False], two, ("areas", "tracts")
    ).set_index(["scan", "region"])
    assert table_of_regions.loc[(0, "A")].tolist() == [
        "areas",
        pytest.approx(3 * images.VOXEL_VOLUME),
        1,
    ]
    assert table_of_regions.loc[(0, "T")].tolist() == [
        "tracts",
        pytest.approx(4 * images.VOXEL_VOLUME),
        2,
    ]
    assert table_of_regions.loc[(1, "T"), "volume"] == 0


def test_volume_matched_regions(two, rng):
    brain = np.zeros(images.SHAPE, bool)
    brain[5:40, 5:40, 5:40] = True
    values = rng.normal(1, 0.1, images.SHAPE)
    values[10:14, 10, 10] = 50
    table_of_regions = region_statistics.volume_matched(values, brain, two, 200).set_index("region")
    assert table_of_regions.loc["A", ["density", "p"]].tolist() == pytest.approx([50, 1 / 201])
    assert 0.05 < table_of_regions.loc["B", "p"] < 1
    assert (
        table_of_regions.loc["A", "random_low"]
        < table_of_regions.loc["A", "random"]
        < table_of_regions.loc["A", "random_high"]
    )
    flat = region_statistics.volume_matched(np.ones(images.SHAPE), brain, two, 5)
    assert flat[
        ["density", "random", "random_low", "random_high", "p"]
    ].to_numpy() == pytest.approx(1)


def test_without_jhu_the_rest_is_there(monkeypatch):
    def missing(path=None):
        raise MissingAtlasError("JHU", "no such file", "the labels", "To get it: make atlases")

    monkeypatch.setattr(atlases, "jhu", missing)
    regions = regional_relevance.read()
    assert "make atlases" in regions.left_out["tracts"]
    assert regions.table["atlas"].value_counts().to_dict() == {"areas": 61, "zones": 4}
    assert any("61 grey-matter areas" in note and "69" in note for note in regions.notes)


@pytest.mark.real
def test_lesions_of_real_masks_equal_an_independent_count(open_ms):
    """Voxel by voxel through the tracts' own labels, with scipy's components: three patients."""
    try:
        tracts, zones = atlases.jhu(), atlases.zones()
    except MissingAtlasError as error:
        pytest.skip(str(error))
    paths = sorted((open_ms / "lesions_mni").glob("*.nii.gz"))[:3]
    masks = [images.mask_to_grid(images.load_mask(path)) for path in paths]
    table_of_regions = regional_relevance.lesions(masks, regional_relevance.read()).set_index(
        ["scan", "atlas", "region"]
    )
    for scan, mask in enumerate(masks):
        number, count = ndimage.label(mask, ndimage.generate_binary_structure(3, 3))
        assert count > 5
        for name, atlas in ("tracts", tracts), ("zones", zones):
            for group, labels in atlas.regions.groupby("group")["label"]:
                hits = [
                    tuple(voxel)
                    for voxel in np.argwhere(mask)
                    if atlas.labels[tuple(voxel)] in set(labels)
                ]
                row = table_of_regions.loc[(scan, name, group)]
                assert row["volume"] == pytest.approx(
                    len(hits) * (182 / 96) ** 2 * (218 / 114), rel=1e-6
                )
                assert row["lesions"] == len({number[hit] for hit in hits})
