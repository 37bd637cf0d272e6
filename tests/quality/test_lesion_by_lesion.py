"""Relevance and use of each lesion, against numbers computed by hand for linear networks."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from msxai.data import images, lesion_filling
from msxai.data.single_scans import ScanFiles
from msxai.quality import lesion_by_lesion, one_scan
from msxai.regions import lesion_regions, own_anatomy

BRAIN = np.zeros(images.SHAPE, bool)
BRAIN[20:76, 20:96, 24:76] = True
FIRST = (slice(30, 34), slice(44, 48), slice(50, 54))
FAINT = 0.01
SECOND = (slice(31, 33), slice(60, 62), slice(52, 54))


class Scan:
    """A brain of noise with two bright lesions in white matter; reads like `Prepared`."""

    affine, normalisation = images.AFFINE, "max"
    table = pd.DataFrame({"participant_id": ["sub-1"], "session_id": [""], "image": ["a.nii"]})

    def __init__(self):
        rng = np.random.default_rng(0)
        self.values = np.where(BRAIN, 10 + rng.normal(size=images.SHAPE), 0).astype("float32")
        self.mask = np.zeros(images.SHAPE, bool)
        self.mask[FIRST] = self.mask[SECOND] = True
        self.values[self.mask] = 20
        self.values[70, 90, 70] = 40  # the highest voxel stays where it is: "max" changes nothing
        self.values /= 40

    def image(self, row):
        return self.values

    def brain(self, row):
        return BRAIN

    def lesions(self, row):
        return self.mask


@pytest.fixture(scope="module")
def scan():
    return Scan()


def measured(scan, relevance, logits_of):
    lesions = lesion_regions.on_model_grid(scan.mask)
    return lesion_by_lesion.measure(scan, 0, lesions, relevance, logits_of)


@pytest.fixture(scope="module")
def report(scan):
    """A network that sees the first lesion: the sum of its voxels; the second one hardly."""
    relevance = np.zeros(images.SHAPE)
    relevance[FIRST] = 0.5
    relevance[FIRST][0, 0, 0] = 2

    def logits_of(scans):
        faint = FAINT * scans[(slice(None), *SECOND)].sum(axis=(1, 2, 3))
        return scans[(slice(None), *FIRST)].sum(axis=(1, 2, 3)) + faint

    return measured(scan, relevance, logits_of)


def test_filled_voxels_belong_to_the_nearest_lesion(scan):
    labels = np.zeros(images.SHAPE, int)
    labels[FIRST], labels[SECOND] = 1, 2
    filled = lesion_by_lesion.fill_lesions(scan, 0, labels)
    assert (filled.owner[FIRST] == 1).all()
    assert (filled.owner[SECOND] == 2).all()
    only = filled.only(1)
    assert (only[FIRST] < 0.4).all()
    np.testing.assert_array_equal(only[SECOND], scan.values[SECOND])
    np.testing.assert_array_equal(filled.all_but(1), filled.only(2))
    both = filled.all()
    np.testing.assert_array_equal(both[FIRST], only[FIRST])
    np.testing.assert_array_equal(both[SECOND], filled.only(2)[SECOND])
    changed = filled.owner > 0
    np.testing.assert_array_equal(both[~changed], scan.values[~changed])


def test_changes_are_those_of_the_network(report, scan):
    labels = np.zeros(images.SHAPE, int)
    labels[FIRST], labels[SECOND] = 1, 2
    filled = lesion_by_lesion.fill_lesions(scan, 0, labels).filled
    first = float((filled[FIRST] - scan.values[FIRST]).sum())
    second = FAINT * float((filled[SECOND] - scan.values[SECOND]).sum())
    assert first < -10
    assert second < -0.01
    table = report.table
    untouched = scan.values[FIRST].sum() + FAINT * scan.values[SECOND].sum()
    assert report.logit == pytest.approx(untouched, rel=1e-5)
    assert report.logit_all_filled == pytest.approx(untouched + first + second, rel=1e-4)
    assert table["change_filled"].tolist() == pytest.approx([first, second], abs=1e-4)
    assert table["change_all_but_this"].tolist() == pytest.approx([second, first], abs=1e-4)
    assert table["adds_alone"].tolist() == pytest.approx([-first, -second], abs=1e-4)


def test_a_lesion_that_the_network_does_not_use_is_named(scan):
    """A network that sees the first lesion, and the second one less than noise."""

    def logits_of(scans):
        faint = FAINT * scans[(slice(None), *SECOND)].sum(axis=(1, 2, 3))
        seen = 10 * scans[(slice(None), *FIRST)].sum(axis=(1, 2, 3))
        edges = np.diff(scans[:, 40:], axis=1) ** 2
        return seen + faint + 1e6 * edges.mean(axis=(1, 2, 3))

    report = measured(scan, np.zeros(images.SHAPE), logits_of)
    assert report.sham.is_measured
    assert 0.02 < report.sham.limit < 10
    assert report.table["used"].tolist() == [True, False]
    assert report.table["effect"].tolist() == ["speaks for yes", "no effect"]


def test_a_lesion_whose_filling_raises_the_logit_is_not_used(scan):
    report = measured(
        scan,
        np.zeros(images.SHAPE),
        lambda scans: (
            scans[(slice(None), *SECOND)].sum((1, 2, 3))
            - scans[(slice(None), *FIRST)].sum((1, 2, 3))
        ),
    )
    assert report.table["change_filled"][0] > 10
    assert report.table["effect"].tolist() == ["filling raises the logit", "speaks for yes"]
    assert report.table["used"].tolist() == [False, True]


def test_the_number_of_larger_magnitude_decides():
    columns = ["voxels", "change_filled", "adds_alone"]
    rows = [
        (5, -0.3, 0.1, "speaks for yes"),
        (5, -0.1, 0.3, "speaks for yes"),
        (5, 0.3, 0.25, "filling raises the logit"),
        (5, 0.1, -0.3, "filling raises the logit"),
        (5, 0.2, -0.2, "no effect"),
        (0, np.nan, np.nan, "too small for the network"),
        (5, np.nan, np.nan, "could not be filled"),
    ]
    table = pd.DataFrame([row[:3] for row in rows], columns=columns)
    assert lesion_by_lesion._effects(table, 0.2) == [row[3] for row in rows]


def test_contrast_of_the_mask(report, scan):
    """Lesions are 10 standard deviations brighter; a mask on normal tissue is not."""
    assert 7 < report.contrast < 13
    elsewhere = Scan()
    elsewhere.mask = np.roll(scan.mask, 12, axis=1) & ~scan.mask
    moved = measured(elsewhere, np.zeros(images.SHAPE), lambda scans: scans.max((1, 2, 3)))
    assert abs(moved.contrast) < 1


def test_relevance_of_each_lesion(report):
    assert report.table["relevance"].tolist() == pytest.approx([63 * 0.5 + 2, 0])
    assert report.table["peak"].tolist() == [2, 0]
    assert report.table["voxels"].tolist() == [64, 8]


def test_regions_are_those_by_the_ventricles_of_the_scan(scan, report, monkeypatch):
    """The first lesion lies at a ventricle that the template does not have."""
    ventricle = np.zeros(images.SHAPE, bool)
    ventricle[29, 45, 51] = True
    asked = []

    def find(*scan_brain_lesions):
        asked.append(scan_brain_lesions)
        return own_anatomy.Anatomy(ventricle, np.zeros(images.SHAPE, bool), own_ventricles=True)

    monkeypatch.setattr(own_anatomy, "find", find)
    sham = lesion_by_lesion.ShamReport(0.1, 0, np.nan, 0.0)
    monkeypatch.setattr(lesion_by_lesion, "_measure_sham_sites", lambda *_: sham)
    own = measured(scan, np.zeros(images.SHAPE), lambda scans: scans.max((1, 2, 3)))
    assert own.table["region"].tolist() == ["periventricular", "deep"]
    assert report.table["region"].tolist() != ["periventricular", "deep"]
    assert (asked[0][0] == scan.values).all()
    assert (asked[0][1] == BRAIN).all()
    assert (asked[0][2] == scan.mask).all()


def test_lesions_of_a_file_are_counted_by_region(scan, tmp_path):
    """In the file, a corner joins the first lesion and a cube of two voxels."""
    mask = scan.mask.copy()
    mask[34:36, 48:50, 54:56] = True
    path = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(mask.astype("uint8"), images.AFFINE), path)
    files = ScanFiles("scan.nii.gz", str(path))
    registered = Scan()
    registered.table = scan.table.assign(registration=["{}"])
    marked = one_scan.lesions_of(files, registered)
    counts = one_scan._regions(files, registered, marked)
    regions = counts.table.loc[list(lesion_regions.REGIONS)]
    assert regions[["lesions", "from_3_mm", "neighbours_18"]].sum().tolist() == [2, 2, 3]
    assert one_scan._regions(ScanFiles("scan.nii.gz"), registered, None) is None


def test_a_network_that_uses_no_lesion(scan):
    report = measured(scan, np.zeros(images.SHAPE), lambda scans: scans.max((1, 2, 3)))
    assert not report.table["used"].any()
    assert (report.table["effect"] == "no effect").all()


def test_a_scan_without_normal_tissue_says_nothing_of_its_lesions(scan, monkeypatch):
    """The filling changes no voxel: the network is not to blame."""
    monkeypatch.setattr(
        lesion_filling, "normal_appearing", lambda values, *_: np.zeros(values.shape, bool)
    )
    logits_of = lambda scans: scans.max((1, 2, 3))  # noqa: E731
    assert measured(scan, np.zeros(images.SHAPE), logits_of) is None


def test_a_lesion_that_is_too_small_or_not_filled_is_no_finding(scan, monkeypatch):
    lesions = lesion_regions.on_model_grid(scan.mask)
    small = lesion_regions.Lesions(
        lesions.labels,
        np.append(lesions.volumes, 1.0),
        np.append(lesions.longest_axes, 1.0),
        [*lesions.voxels, lesions.voxels[0][:1]],
    )
    fill = lesion_by_lesion.fill_lesions

    def only_the_first(*words):
        filled = fill(*words)
        filled.owner[filled.owner == 2] = 0
        return filled

    monkeypatch.setattr(lesion_by_lesion, "fill_lesions", only_the_first)
    sham = lesion_by_lesion.ShamReport(0.1, 0, np.nan, 0.0)
    monkeypatch.setattr(lesion_by_lesion, "_measure_sham_sites", lambda *_: sham)
    report = lesion_by_lesion.measure(
        scan, 0, small, np.ones(images.SHAPE), lambda scans: scans.sum((1, 2, 3))
    )
    effects = ["speaks for yes", "could not be filled", "too small for the network"]
    assert report.table["effect"].tolist() == effects
    assert report.table["used"].isna().tolist() == [False, True, True]
    assert report.table["change_filled"].isna().tolist() == [False, True, True]
    assert report.table["relevance"].isna().tolist() == [False, False, True]
    assert (~report.table["used"]).sum() == 0


# Sham sites


@pytest.fixture(scope="module")
def sham(scan):
    labels = lesion_regions.on_model_grid(scan.mask).labels
    return lesion_by_lesion.fill_sham_sites(scan, 0, labels)


def test_sham_sites_have_the_sizes_of_the_lesions_and_lie_in_normal_tissue(scan):
    labels = lesion_regions.on_model_grid(scan.mask).labels
    normal = np.zeros(images.SHAPE, bool)
    normal[25:70, 25:90, 30:70] = True
    normal &= labels == 0
    sites, sets = lesion_by_lesion._draw_sham_sites(normal, labels, seed=0)
    assert [len(numbers) for numbers in sets] == [2] * 10
    sizes = np.bincount(sites.ravel())[1:]
    assert (sizes[0::2] >= 58).all()
    assert (sizes[0::2] <= 64).all()
    assert (sizes[1::2] == 8).all()
    assert normal[sites > 0].all()
    assert lesion_regions.label_lesions(sites > 0)[1] == 20


def test_many_lesions_have_a_site_each():
    labels = np.zeros(images.SHAPE, int)
    labels[2:80:3, 2, 2] = np.arange(1, 27)
    normal = np.zeros(images.SHAPE, bool)
    normal[20:80, 20:100, 20:80] = True
    _, sets = lesion_by_lesion._draw_sham_sites(normal, labels, seed=0)
    assert [len(numbers) for numbers in sets] == [26]


def test_without_room_there_is_no_site():
    labels = np.zeros(images.SHAPE, int)
    labels[2:12, 2:12, 2:12] = 1
    normal = np.zeros(images.SHAPE, bool)
    normal[40:46, 40:46, 40:46] = True
    assert lesion_by_lesion._draw_sham_sites(normal, labels, seed=0)[1] == []


def test_the_limit_is_the_larger_of_both_numbers_at_sham_sites(scan, sham, monkeypatch):
    """A network that hears the noise everywhere, and more so where much is filled."""
    labels = lesion_regions.on_model_grid(scan.mask).labels

    def logits_of(scans):
        return 1000 * (np.diff(scans, axis=1) ** 2).mean(axis=(1, 2, 3))

    result = lesion_by_lesion._measure_sham_sites(scan, 0, labels, logits_of, 0)
    untouched = logits_of(scan.values[None])[0]
    larger = []
    together = []
    for sites in sham.sets:
        whole = logits_of(sham.filled.these(sites)[None])[0]
        together.append(whole - untouched)
        for site in sites:
            alone = logits_of(sham.filled.only(site)[None])[0] - untouched
            rest = [other for other in sites if other != site]
            adds = logits_of(sham.filled.these(rest)[None])[0] - whole
            larger.append(max(abs(alone), abs(adds)))
    assert result.sites == len(larger) == 20
    assert result.limit == pytest.approx(np.quantile(larger, 0.95), rel=1e-3)
    assert result.limit > 0
    assert result.change_all == pytest.approx(min(together), rel=1e-3)
    assert 0.5 < result.share <= 1
    monkeypatch.setattr(lesion_by_lesion, "FEWEST_SHAM_SITES", 21)
    few = lesion_by_lesion._measure_sham_sites(scan, 0, labels, logits_of, 0)
    assert few.limit == lesion_by_lesion.NOISE_WITHOUT_SHAM
    assert not few.is_measured


def test_sham_sites_change_normal_tissue_alone(scan, sham):
    both = sham.filled.all()
    np.testing.assert_array_equal(both[scan.mask], scan.values[scan.mask])
    assert (both != scan.values).any()


# Relevance by distance


@pytest.fixture
def parts(rng):
    relevance = rng.normal(size=(20, 20, 20))
    lesions = np.zeros((20, 20, 20), bool)
    lesions[8:11, 8:11, 8:11] = True
    brain = np.zeros_like(lesions)
    brain[2:18, 2:18, 2:18] = True
    return relevance, lesions, brain


def test_amounts_add_up_to_the_map(parts):
    relevance, _, brain = parts
    amounts = lesion_by_lesion.by_distance(*parts)
    assert amounts["net"].sum() == pytest.approx(relevance.sum())
    assert amounts["positive"].sum() == pytest.approx(relevance[relevance > 0].sum())
    assert amounts["negative"].sum() == pytest.approx(relevance[relevance < 0].sum())
    assert amounts["share_positive"].sum() == pytest.approx(1)
    assert amounts["net"]["outside_brain"] == pytest.approx(relevance[~brain].sum())
    assert amounts["share_brain"]["inside"] == pytest.approx(27 / 16**3)


def test_near_ends_at_4_mm(parts):
    """Two dilations by 26 neighbours reach 6.6 mm along a diagonal."""
    relevance, lesions, brain = parts
    places = np.argwhere(brain & ~lesions)
    inside = np.argwhere(lesions)
    steps = (places[:, None] - inside) * images.VOXEL_SIZE
    distance = np.linalg.norm(steps, axis=2).min(axis=1)
    near = places[distance <= 4]
    amounts = lesion_by_lesion.by_distance(*parts)
    assert amounts["net"]["near"] == pytest.approx(relevance[tuple(near.T)].sum())
    assert amounts["share_brain"]["near"] == pytest.approx(len(near) / 16**3)


def test_relevance_that_cancels_is_not_hidden():
    lesions = np.zeros((8, 8, 8), bool)
    lesions[4, 4, 4:6] = True
    relevance = np.zeros(lesions.shape)
    relevance[4, 4, 4:6] = 3, -3
    relevance[0, 0, 0] = 1
    amounts = lesion_by_lesion.by_distance(relevance, lesions, np.ones_like(lesions))
    assert amounts.loc["inside", ["net", "positive", "negative"]].tolist() == [0, 3, -3]
    assert amounts["share_positive"]["inside"] == 0.75


def test_without_lesions_all_is_elsewhere(parts):
    relevance, lesions, brain = parts
    amounts = lesion_by_lesion.by_distance(relevance, np.zeros_like(lesions), brain)
    assert amounts["net"]["elsewhere"] == pytest.approx(relevance[brain].sum())
