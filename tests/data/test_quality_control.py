"""Quality control: planted faults are named, good scans pass, numbers agree with independent ones.

A browser opens the page.
"""

import functools
import itertools
import json
import re
import tracemalloc

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn import datasets, image
from scipy import ndimage, stats
from sklearn.linear_model import LinearRegression
from sklearn.metrics import f1_score
from support.pages import with_intruders, with_script

from msxai.data import images, prepared, quality_control, quality_control_page
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import Cohort, from_images
from msxai.data.prepared import Prepared
from msxai.data.synthetic import phantom

GOOD = 15
NASTY = '<script>document.title = "broken in"</script>"\'&'
SMALL = np.diag([1 / 0.6] * 3)


def squeeze(values, order):
    """A brain of .6 times the size, about the same centre."""
    centre = np.array(ndimage.center_of_mass(values > 0))
    return ndimage.affine_transform(values, SMALL, centre - SMALL @ centre, order=order)


def blank(values):
    """Nothing above a plane, as where the field of view ends."""
    values = values.copy()
    values[:, :, 55:] = 0
    return values


def shaken(values, mask):
    return np.where(
        mask,
        np.abs(
            values + 0.25 * values[mask].mean() * np.random.default_rng(0).normal(size=values.shape)
        ),
        0,
    )


def spot(values, mask):
    values = values.copy()
    values[48, 50, 50] = 20 * values[mask].mean()
    return values


def scalp(values, mask):
    """The mask's two outermost layers above a plane are as bright as fat."""
    values = values.copy()
    rim = mask & ~ndimage.binary_erosion(mask, iterations=2)
    rim[:, :, :60] = False
    values[rim] = 2.5 * values[mask].mean()
    return values


# Turn: what is done to image and mask, and words that the flag must have. Fault: the measures that
# must be flagged, and words that the flag must have.
TURNS = {
    "about-x": (
        lambda values: values[:, ::-1, ::-1],
        "turned by 180 degrees about the left-right axis",
    ),
    "about-y": (
        lambda values: values[::-1, :, ::-1],
        "upside down .* 180 degrees about the front-back axis",
    ),
    "about-z": (
        lambda values: values[::-1, ::-1],
        "front to back .* 180 degrees about the vertical axis",
    ),
    "upside-down": (lambda values: values[:, :, ::-1], "upside down"),
    "front-back": (lambda values: values[:, ::-1], "front to back"),
    "axes": (lambda values: values.transpose(2, 1, 0), "turned by 90 degrees"),
}
FAULTS = {
    **{name: ("turn_gain", words) for name, (_, words) in TURNS.items()},
    "small": ("scale_x scale_y scale_z dice", r"0\.(5[89]|6[012]) times as wide"),
    "shifted": ("centre_mm dice", "centre lies (19|20|21) mm"),
    "noisy": ("noise snr", "Noise of .* unusual in this cohort"),
    "smoothed": ("noise range", "Noise of .* unusual in this cohort"),
    "spot": ("range", "Intensities range over"),
    "mask": ("empty", "the mask of another scan"),
    "scalp": ("bright_rim", r"\d+\.\d% of the rim .* scalp"),
    "cut": ("cut dice", "ends in a plane over"),
    "header": (
        "orientation space_shift",
        "directions are RAS by its sform, which was taken, and LPS by its qform",
    ),
    "registered": ("route scale_y", "The registration stopped early"),
    "lesions": ("lesion_ml", r"The lesion mask marks 5\d\d ml, and the largest of 26"),
}


def write(folder, name, values, brain, lesions, affine=images.AFFINE, qform=None):
    """One scan as files, and its row of the table."""
    row = {"participant_id": f"sub-{name}", "session_id": "", "group": "MS", "label": 1}
    for kind, stored in {
        "image": values.astype("int16"),
        "brain_mask": brain.astype("uint8"),
        "lesion_mask": lesions.astype("uint8"),
    }.items():
        file = nib.Nifti1Image(stored, affine)
        file.set_qform(affine if qform is None else qform, code=4)
        file.set_sform(affine, code=4)
        row[kind] = str(folder / f"{name}_{kind}.nii.gz")
        nib.save(file, row[kind])
    return row


def prepare(folder, rows, name="toy", **options):
    table = pd.DataFrame(rows).astype({"label": "Int64"})
    split = table[["participant_id", "session_id"]].assign(part="training")
    prepared.prepare(
        Cohort(name, table, True, "FLAIR"),
        split,
        folder / "toy.h5",
        prepared.PreparationOptions(**options),
    )
    return Prepared(folder / "toy.h5")


@functools.cache
def visit_of(person, visit):
    """Image, brain and lesions of a visit, T1-like."""
    subject = phantom.simulate("ad", "HC", 70 + person, 10 * person + visit)
    return subject.image, subject.brain, subject.lesions


def visits(folder, mirrored):
    """Write two or three visits of each of three subjects, T1-like; `mirrored` ones swap sides."""
    rows = []
    for person, count in enumerate((2, 3, 2)):
        for visit in range(count):
            arrays = visit_of(person, visit)
            if (person, visit) in mirrored:
                arrays = [values[::-1] for values in arrays]
            row = write(folder, f"{person}-{visit}", *arrays)
            row |= {"participant_id": f"sub-{person}", "session_id": f"ses-{visit}"}
            rows.append(row)
    return rows


SPOILT_HEADERS = {
    # 20 mm
    "shifted": {"affine": images.AFFINE + np.outer([12, -16, 0, 0], [0, 0, 0, 1])},
    "header": {"qform": np.diag([-1, -1, 1, 1]) @ images.AFFINE},
}


def spoilt(fault, values, brain, lesions):
    """Image, brain and lesions of a scan with a fault of `FAULTS` that is not in its header."""
    arrays = (values, brain, lesions)
    whole = {"cut": blank, "left-right": lambda array: array[::-1]}
    if fault in TURNS:
        whole[fault] = TURNS[fault][0]
    if fault in whole:
        return [whole[fault](array) for array in arrays]
    if fault == "small":
        masks = [squeeze(mask.astype(float), 1) > 0.5 for mask in (brain, lesions)]
        return [squeeze(values, 1), *masks]
    if fault == "noisy":
        values = shaken(values, brain)
    elif fault == "smoothed":
        values = np.where(brain, ndimage.gaussian_filter(values.astype(float), 1), 0)
    elif fault == "spot":
        values = spot(values, brain)
    elif fault == "scalp":
        values = scalp(values, brain)
    elif fault == "mask":
        brain = phantom.simulate("ms", "HC", 9000, 9001).brain
    elif fault == "lesions":  # a mask of a tissue
        lesions = brain & (np.indices(brain.shape)[1] < 42)
        values = values.copy()  # the same person as of "mask", in another file
        values[tuple(np.argwhere(brain)[0])] += 1
    return [values, brain, lesions]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Good scans, one scan of each fault, and one mirrored left to right; measured."""
    folder = tmp_path_factory.mktemp("planted")
    rows = []
    for seed in range(GOOD):
        session = phantom.Session(site=f"site-{1 + seed % 3}")
        group = ("MS", "HC")[seed % 2]
        subject = phantom.simulate("ms", group, 1000 + seed, 2000 + seed, session=session)
        arrays = (subject.image, subject.brain, subject.lesions)
        rows.append(write(folder, f"good{seed:02}", *arrays))
    patients = [phantom.simulate("ms", "MS", seed, seed + 1000) for seed in range(3005, 3010)]
    for subject, name in zip(itertools.cycle(patients), [*FAULTS, "left-right"], strict=False):
        arrays = spoilt(name, subject.image, subject.brain, subject.lesions)
        rows.append(write(folder, name, *arrays, **SPOILT_HEADERS.get(name, {})))
    cohort = prepare(folder, rows)
    registration = {
        "route": "affine",
        "dice": 0.97,
        "scales": [0.9, 1.2, 0.8],
        "rotation": 3.0,
        "flags": ["The registration stopped early."],
    }
    registered = cohort.table["participant_id"] == "sub-registered"
    cohort.table.loc[registered, "registration"] = json.dumps(registration)
    return cohort, quality_control.measure(cohort).set_index("participant_id")


@pytest.fixture(scope="module")
def page(planted, tmp_path_factory):
    """The page of these scans; a test that changes it takes a copy."""
    cohort, table = planted
    folder = tmp_path_factory.mktemp("page") / "qc"
    return quality_control_page.write(cohort, folder, table.reset_index())


# What is flagged


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(planted, fault):
    result = planted[1].loc[f"sub-{fault}"]
    measures, words = FAULTS[fault]
    assert set(measures.split()) <= set(result["flagged"].split()), result
    assert any(re.search(words, sentence) for sentence in result["flags"]), result["flags"]


def test_no_good_scan_is_flagged(planted):
    good = planted[1].loc[[f"sub-good{seed:02}" for seed in range(GOOD)]]
    assert (good["flagged"] == "").all(), good.loc[good["flagged"] != "", "flags"].to_dict()
    assert (good["flags"].map(len) == 0).all()


@pytest.mark.parametrize("fault", ["header", "spot", "smoothed", "scalp"])
def test_a_fault_is_not_taken_for_others(planted, fault):
    assert set(planted[1].loc[f"sub-{fault}", "flagged"].split()) == set(FAULTS[fault][0].split())


def test_a_mirrored_scan_alone_cannot_be_seen(planted):
    """The page says so; should this fail one day, say something better there."""
    assert planted[1].loc["sub-left-right", "flagged"] == ""


def test_what_the_registration_said_is_kept(planted):
    result = planted[1].loc["sub-registered"]
    assert (result["route"], result["scale_x"], result["scale_y"], result["scale_z"]) == (
        "affine",
        0.9,
        1.2,
        0.8,
    )
    assert "The brain is 1.20 times as long (back to front) as the template's." in result["flags"]
    assert planted[1].loc["sub-good00", "route"] == "resampled"


def test_swapped_sides_show_between_visits(tmp_path):
    """One visit of three differs from both others; of two visits either may be the wrong one."""
    rows = visits(tmp_path, {(1, 2), (2, 0)})
    table = quality_control.measure(prepare(tmp_path, rows))
    flagged = table.loc[table["flagged"] != "", ["participant_id", "session_id", "flagged"]]
    assert flagged.to_numpy().tolist() == [
        ["sub-1", "ses-2", "left_right"],
        ["sub-2", "ses-0", "left_right"],
        ["sub-2", "ses-1", "left_right"],
    ]
    assert table.loc[table["participant_id"] == "sub-0", "left_right"].min() > 0.3
    assert all("Left and right are swapped" in flags[0] for flags in table["flags"] if flags)


def test_voxelwise_scans_are_judged_by_their_mask(tmp_path):
    rows = visits(tmp_path, {(1, 2)})
    for name, turn in (("0-1", np.s_[:, ::-1]), ("2-1", np.s_[:, :, ::-1])):
        for kind in ("image", "brain_mask", "lesion_mask"):
            path = tmp_path / f"{name}_{kind}.nii.gz"
            nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj)[turn], images.AFFINE), path)
    table = quality_control.measure(prepare(tmp_path, rows, normalisation="voxelwise")).set_index(
        ["participant_id", "session_id"]
    )
    intensities = ["snr", "contrast", "noise", "range", "empty", "bright_rim"]
    assert table[intensities].isna().all(axis=None)
    turned = {
        pair: table.loc[pair, "turn"].split()[0]
        for pair in table.index[table["flagged"].str.contains("turn_gain")]
    }
    assert turned == {("sub-0", "ses-1"): "front", ("sub-2", "ses-1"): "upside"}
    assert "left_right" in table.loc[("sub-1", "ses-2"), "flagged"]


def test_nothing_to_measure(tmp_path):
    """An empty brain mask beside another visit, and sources that are no longer there."""
    rows = [write(tmp_path, name, *visit_of(0, visit)) for visit, name in enumerate("ab")]
    rows = [
        {**row, "participant_id": "sub-a", "session_id": f"ses-{index}", "group": None}
        for index, row in enumerate(rows)
    ]
    cohort = prepare(tmp_path, rows, normalisation="max")
    with h5py.File(cohort.path, "r+") as file:  # preparation itself refuses an empty mask
        file["brain"][1] = False
    for row in rows:
        (tmp_path / row["image"]).unlink()
    table = quality_control.measure(cohort)
    assert list(table["flagged"]) == ["", "dice"]
    assert table.loc[1, ["dice", "volume_ml"]].tolist() == [0, 0]
    assert table.loc[1, ["scale_x", "match", "snr", "noise"]].isna().all()
    assert table["orientation"].isna().all()
    assert (
        quality_control_page.write(cohort, tmp_path / "qc", table)
        .read_text(encoding="utf-8")
        .count("<img")
        == 2
    )


# The numbers


def template(load, threshold=None):
    """The template by nilearn's own resampling."""
    target = nib.Nifti1Image(np.zeros(images.SHAPE), images.AFFINE)
    values = image.resample_to_img(
        load(resolution=1), target, interpolation="linear", force_resample=True, copy_header=True
    ).get_fdata()
    return values if threshold is None else values >= threshold


def test_overlap_place_and_size_by_hand(planted):
    cohort, table = planted
    expected = template(datasets.load_mni152_brain_mask, 0.5)
    for name in ("good03", "shifted", "small", "cut"):
        row, result = cohort.row(f"sub-{name}"), table.loc[f"sub-{name}"]
        brain = cohort.brain(row)
        assert result["dice"] == pytest.approx(f1_score(expected.ravel(), brain.ravel()), abs=1e-9)
        points = [
            nib.affines.apply_affine(images.AFFINE, np.argwhere(mask)) for mask in (brain, expected)
        ]
        assert result["centre_mm"] == pytest.approx(
            np.linalg.norm(points[0].mean(0) - points[1].mean(0)), abs=1e-6
        )
        assert result[["scale_x", "scale_y", "scale_z"]].tolist() == pytest.approx(
            list(points[0].std(0) / points[1].std(0)), abs=1e-6
        )
        assert result["volume_ml"] == pytest.approx(
            brain.sum() * np.prod([182 / 96, 218 / 114, 182 / 96]) / 1000
        )
        assert result["lesion_ml"] == pytest.approx(
            cohort.lesions(row).sum() * np.prod([182 / 96, 218 / 114, 182 / 96]) / 1000
        )
    assert table.loc["sub-small", ["scale_x", "scale_y", "scale_z"]].tolist() == pytest.approx(
        [0.6] * 3, abs=0.03
    )


def test_a_known_plane_and_a_known_empty_share(tmp_path):
    """A box whose top face is its largest section ends in it; a tenth of it is background."""
    brain, values = (
        np.zeros(images.SHAPE, bool),
        np.random.default_rng(0).uniform(500, 900, images.SHAPE),
    )
    brain[30:70, 30:80, 20:60] = True
    values[30:70, 30:80, 20:24] = 0
    result = quality_control.measure(
        prepare(tmp_path, [write(tmp_path, "box", values * brain, brain, brain & False)])
    ).loc[0]
    assert result["cut"] == 1
    assert result["empty"] == pytest.approx(0.1, abs=1e-4)


def test_the_share_of_a_bright_rim_by_hand(planted):
    cohort, table = planted
    row = list(table.index).index("sub-scalp")
    image, brain = cohort.image(row), cohort.brain(row)
    to_edge = ndimage.distance_transform_cdt(np.pad(brain, 1), "taxicab")[1:-1, 1:-1, 1:-1]
    within = np.sort(image[to_edge > 2])
    limit = within[round(0.995 * (len(within) - 1))]
    rim = image[brain & (to_edge <= 2)]
    share = np.mean(rim > limit)
    assert share > 0.1
    assert table.loc["sub-scalp", "bright_rim"] == pytest.approx(share, abs=1e-3)


def test_noise_is_the_noise_that_was_added(tmp_path):
    """Add white noise of a known SD to a ramp, whose Laplacian is 0."""
    brain = template(datasets.load_mni152_brain_mask, 0.5)
    ramp = 1000 + 6.0 * np.arange(114)[:, None]
    rows, expected = [], []
    for index, sigma in enumerate((10, 40)):
        values = (ramp + np.random.default_rng(index).normal(0, sigma, images.SHAPE)) * brain
        rows.append(write(tmp_path, f"n{index}", values, brain, brain & False))
        expected.append(sigma / values[brain].std())
    table = quality_control.measure(prepare(tmp_path, rows))
    assert table["noise"].tolist() == pytest.approx(expected, rel=0.03)


def test_signal_and_contrast_by_hand_and_whatever_the_normalisation(tmp_path):
    rows = []
    for seed in range(2):
        simulated = phantom.simulate("ms", "MS", seed, seed, volume=9000)
        rows.append(
            write(tmp_path, f"s{seed}", simulated.image, simulated.brain, simulated.lesions)
        )
    table = quality_control.measure(prepare(tmp_path, rows))
    other = quality_control.measure(prepare(tmp_path, rows, normalisation="max"))
    columns = ["snr", "contrast", "noise", "range", "match", "turned", "empty"]
    np.testing.assert_allclose(
        table[columns].to_numpy(float), other[columns].to_numpy(float), rtol=1e-3, atol=1e-6
    )
    white = ndimage.binary_erosion(template(datasets.load_mni152_wm_template) > 0.9)
    grey = template(datasets.load_mni152_gm_template) > 0.7
    for row, result in zip(rows, table.itertuples(), strict=True):
        values, brain, lesions = (
            nib.load(row[kind]).get_fdata() for kind in ("image", "brain_mask", "lesion_mask")
        )
        use = (brain > 0) & (lesions == 0)
        simulated, two, floor = (
            values[white & use],
            values[grey & use],
            np.percentile(values[brain > 0], 1),
        )
        assert result.snr == pytest.approx(
            (simulated.mean() - floor) / stats.tstd(simulated), rel=1e-3
        )
        assert result.contrast == pytest.approx(
            abs(simulated.mean() - two.mean()) / np.sqrt(simulated.var() + two.var()), rel=1e-3
        )
        assert result.range == pytest.approx(
            np.ptp(values[brain > 0]) / values[brain > 0].std(), rel=1e-3
        )


def test_match_is_a_regression_on_the_tissues(planted):
    """Compare with scikit-learn's regression on single voxels, not on blocks; also upside down."""
    cohort, table = planted
    result = table.loc["sub-upside-down"]
    row = cohort.row("sub-upside-down")
    brain = cohort.brain(row)
    values = np.where(brain, cohort.image(row), np.quantile(cohort.image(row)[brain], 0.01))
    expected = template(datasets.load_mni152_brain_mask, 0.5)
    maps = [
        expected.astype(float),
        template(datasets.load_mni152_gm_template),
        template(datasets.load_mni152_wm_template),
    ]
    brain_centre = np.array(ndimage.center_of_mass(brain))
    for column, direction in (("match", 1), ("turned", -1)):
        centre = np.array(ndimage.center_of_mass(expected[:, :, ::direction]))
        moved = [
            ndimage.shift(simulated[:, :, ::direction], brain_centre - centre, order=1).ravel()[::5]
            for simulated in maps
        ]
        fit = (
            LinearRegression()
            .fit(np.transpose(moved), values.ravel()[::5])
            .score(np.transpose(moved), values.ravel()[::5])
        )
        assert result[column] == pytest.approx(np.sqrt(fit), abs=0.05), column


def test_robust_z_by_hand(planted):
    table = planted[1]
    for name, low, high in (
        ("snr", -3.5, np.inf),
        ("contrast", -3.5, np.inf),
        ("noise", -3.5, 3.5),
        ("range", -3.5, 3.5),
    ):
        z = (table[name] - table[name].median()) / stats.median_abs_deviation(
            table[name], scale="normal", nan_policy="omit"
        )
        assert (
            table["flagged"]
            .str.split()
            .map(set(["x"]).union)
            .map(lambda names, name=name: name in names)
            == ((z < low) | (z > high))
        ).all()


def test_few_scans_have_no_outliers(planted):
    few = (
        planted[1]
        .reset_index()
        .drop(columns=["flagged", "flags"])
        .assign(notes=[[]] * len(planted[1]))
    )
    rows = few["participant_id"].isin(
        ["sub-noisy", *(f"sub-good{seed:02}" for seed in range(quality_control.OUTLIER_SCANS - 2))]
    )
    assert not quality_control._flag(few[rows].reset_index(drop=True))["flagged"].any()


# The files


def test_table_and_thresholds(planted, page, capsys):
    cohort, table = planted
    table = table.reset_index()
    assert {path.name for path in page.parent.iterdir()} == {"qc.html", "qc.tsv", "qc.json"}
    stored = pd.read_csv(page.with_suffix(".tsv"), sep="\t", na_values="n/a")
    assert list(stored["participant_id"]) == list(cohort.table["participant_id"])
    np.testing.assert_allclose(stored["dice"], table["dice"], rtol=1e-5)
    expected = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert (expected["name"], expected["synthetic"], expected["scans"]) == ("toy", True, len(table))
    assert expected["flagged"] == (table["flagged"] != "").sum() == len(FAULTS)
    assert expected["counts"]["turn_gain"] == len(TURNS)
    assert (
        expected["measures"]["dice"]["low"],
        expected["measures"]["scale_x"]["low"],
        expected["measures"]["scale_x"]["high"],
    ) == (0.9, 0.7, 1.05)
    text = page.read_text(encoding="utf-8")
    assert "<nav" not in text
    assert not re.search(r"(src|href)=(?!\"data:)|https?:|@import|url\(", text)
    assert len(re.findall('<img loading="lazy"[^>]*alt="sub-', text)) == len(table)
    first = [
        re.search(r"sub-[\w-]+", entry).group()
        for entry in text.split("<tbody data-flags=")[1 : len(FAULTS) + 1]
    ]
    assert {name.removeprefix("sub-") for name in first} == set(FAULTS)
    assert page.stat().st_size / len(table) < 65e3  # 921 scans: 60 MB
    shown = quality_control_page.show(table)
    assert f"{len(table)} scans, {len(FAULTS)} flagged" in capsys.readouterr().out
    assert set(shown.data["participant_id"]) == {f"sub-{name}" for name in FAULTS}
    assert "The registration stopped early." in shown.to_html()


def test_a_large_cohort_has_several_pages(planted, tmp_path, monkeypatch):
    """One page of 10,000 scans would have 400 MB."""
    cohort, table = planted
    table = table.reset_index()
    for name in ("qc-2.html", "qc-99.html", "qc-mine.html"):
        (tmp_path / name).write_text("old")
    monkeypatch.setattr(quality_control_page, "SCANS_A_PAGE", len(FAULTS))
    monkeypatch.setattr(quality_control_page, "_picture", lambda *_: b"")
    page = quality_control_page.write(cohort, tmp_path, table)
    n_pages = -(-len(table) // len(FAULTS))
    names = ["qc.html", *(f"qc-{number}.html" for number in range(2, n_pages + 1))]
    assert n_pages == 2
    shown = []
    for number, name in enumerate(names):
        text = (tmp_path / name).read_text(encoding="utf-8")
        scans = re.findall(r'<th scope="row">([^<]+)<', text)
        assert len(scans) <= len(FAULTS)
        assert f"This is page {number + 1} of {len(names)}." in text
        links = re.findall('<a href="(qc[^"]*html)">', text)
        assert links == [other for other in names if other != name] * 2
        shown += scans
    assert page == tmp_path / "qc.html"
    assert sorted(shown) == sorted(table["participant_id"])
    assert {name.removeprefix("sub-") for name in shown[: len(FAULTS)]} == set(FAULTS)
    others = {"qc.tsv", "qc.json", "qc-mine.html"}
    assert {path.name for path in tmp_path.iterdir()} == {*names, *others}


def test_a_picture_shows_what_it_says(tmp_path, planted):
    cohort, _ = planted
    from matplotlib.image import imread

    row = next(row for row in range(GOOD) if cohort.lesions(row).any())
    path = tmp_path / "picture.jpg"
    path.write_bytes(quality_control_page._picture(cohort, row))
    picture = imread(path).astype(int)
    assert picture.shape == (228, 612, 3)
    counts = [
        (np.abs(picture - colour).sum(-1) < 60).sum()
        for colour in quality_control_page.COLOURS.values()
    ]
    assert min(counts[:2]) > 300, counts
    assert counts[2] > 3, counts
    lesions = cohort.lesions(row)
    z = lesions.sum(axis=(0, 1)).argmax()
    red = (
        np.argwhere(np.abs(picture[:, :192] - quality_control_page.COLOURS["lesions"]).sum(-1) < 60)
        // 2
    )
    assert all(lesions[x, 113 - y, z] for y, x in red)  # left at the left, front at the top


def test_all_or_nothing(planted, tmp_path, monkeypatch):
    cohort, table = planted
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "qc.html").write_text("old")
    calls = iter(range(2))
    monkeypatch.setattr(
        quality_control_page, "_picture", lambda *_: b"" if next(calls) < 1 else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        quality_control_page.write(cohort, tmp_path, table.reset_index())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "qc.html"]
    assert (tmp_path / "qc.html").read_text() == "old"


@pytest.mark.long(reason="memory of a cohort against another, 3 s")
def test_memory_does_not_grow_with_the_cohort(planted, tmp_path):
    cohort, _ = planted
    whole, peaks = cohort.table, []
    try:
        for count in (2, 8):
            cohort.table = whole.iloc[:count]
            tracemalloc.start()
            quality_control_page.write(cohort, tmp_path)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    finally:
        cohort.table = whole
    assert peaks[1] - peaks[0] < 0.5e6  # 6 pictures more are .2 MB, 6 scans 25 MB


# A browser


def test_a_browser_opens_the_page(planted, page, tmp_path, browse):
    table = planted[1]
    dom = browse(page, f"--screenshot={tmp_path / 'page.png'}", "--window-size=1400,1000")
    assert f">{len(table)} of {len(table)} scans shown<" in dom  # what the page's own script wrote
    assert dom.count("<tbody data-flags=") == dom.count("<img ") == len(table)
    assert "Synthetic" in dom
    assert "Not for clinical use." in dom
    assert (tmp_path / "page.png").stat().st_size > 50e3


def test_a_browser_sorts_filters_and_shows_all_pictures(planted, page, tmp_path, browse):
    table = planted[1]
    use = """
    heads.find(head => head.textContent === "Dice").firstChild.click();
    flag.value = "turn_gain"; flag.dispatchEvent(new Event("change"));
    find.value = "SUB-upside"; find.dispatchEvent(new Event("input"));
    addEventListener("load", () => {
      const shown = image => image.complete && image.naturalWidth === 612;
      document.title = "pictures: " + [...document.images].filter(shown).length;
    });
    """
    text = with_script(page.read_text(encoding="utf-8"), use)
    copy = tmp_path / "qc.html"
    copy.write_text(text.replace('loading="lazy"', ""), encoding="utf-8")  # far pictures too
    dom = browse(copy)
    assert f">1 of {len(table)} scans shown<" in dom
    names = re.findall(r'<tbody data-flags="[^"]*"[^>]*><tr><th scope="row">([^<]+)<', dom)
    assert table.loc[names, "dice"].round(3).is_monotonic_increasing
    assert f"<title>pictures: {len(table)}</title>" in dom


def test_a_browser_runs_the_pages_own_script_alone(page, tmp_path, browse):
    dom = browse(with_intruders(page, tmp_path))
    assert "scans shown<" in dom
    assert "<title>Quality control: " in dom


def test_a_users_text_stays_text(tmp_path, browse):
    simulated = phantom.simulate("ms", "HC", 5, 5)
    row = write(tmp_path, "x", simulated.image, simulated.brain, simulated.lesions)
    row |= {"participant_id": f"sub-{NASTY}", "group": NASTY, "session_id": NASTY}
    row["registration"] = json.dumps({"route": NASTY, "flags": [NASTY]})
    page = quality_control_page.write(
        prepare(tmp_path, [row], name=f"study {NASTY}"), tmp_path / "qc"
    )
    assert "<script>document" not in page.read_text(encoding="utf-8")
    dom = browse(page)
    assert ">1 of 1 scans shown<" in dom
    assert re.search(r"<title>Quality control: study &lt;script", dom)


# Real scans


@pytest.mark.long(reason="two real scans, 3 s; others of these are quick in test_images")
@pytest.mark.real
def test_real_scans_that_are_only_rigidly_aligned(open_ms, tmp_path):
    cohort = from_images(
        [open_ms / "mni" / f"patient{number}_FLAIR.nii.gz" for number in ("07", "19")], name="open"
    )
    prepared.prepare(cohort, splits.make(cohort.table), tmp_path / "open.h5")
    table = quality_control.measure(Prepared(tmp_path / "open.h5"))
    assert list(table["flagged"]) == ["dice", "dice"]
    assert (table["dice"] < 0.8).all()
    assert list(table["orientation"]) == ["LAS", "LAS"]
    sizes = table[["scale_x", "scale_y", "scale_z"]].to_numpy()
    np.testing.assert_allclose(
        sizes, [[0.86, 0.85, 0.78], [0.88, 0.86, 0.73]], atol=0.12
    )  # by affine registration, measurements.md


@pytest.mark.long(reason="two real visits, 5 s; simulated visits are in make test")
@pytest.mark.real
@pytest.mark.parametrize("mirrored", [False, True])
def test_two_real_visits(open_ms, tmp_path, mirrored):
    """Move both visits of a patient by the given transforms into their common space.

    The moments of its brain mask scale it to the template's size.
    """
    mask = nib.load(open_ms / "longitudinal" / "patient01_common_brainmask.nii.gz")
    inside = nib.affines.apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0))
    expected = nib.affines.apply_affine(
        images.AFFINE, np.argwhere(template(datasets.load_mni152_brain_mask, 0.5))
    )
    to_template = np.diag([*(expected.std(0) / inside.std(0)), 1])
    to_template[:3, 3] = expected.mean(0) - to_template[:3, :3] @ inside.mean(0)
    rows = []
    for visit, folder in ((1, "raw"), (2, "longitudinal")):
        text = (
            open_ms / "longitudinal" / f"patient01_study{visit}_FLAIR_to_common_space.txt"
        ).read_text()
        numbers, centre = (
            np.fromstring(re.search(f"^{key}: (.*)", text, re.M).group(1), sep=" ")
            for key in ("Parameters", "FixedParameters")
        )
        common = np.eye(4)  # common space to scan, both LPS (ITK)
        common[:3, :3] = numbers[:9].reshape(3, 3)
        common[:3, 3] = numbers[9:] + centre - common[:3, :3] @ centre
        lps = np.diag([-1, -1, 1, 1])
        scan = nib.load(open_ms / folder / f"patient01_study{visit}_FLAIR.nii.gz")
        row = {
            "participant_id": "sub-1",
            "session_id": f"ses-{visit}",
            "group": "MS",
            "label": 1,
            "lesion_mask": None,
        }
        flip = np.diag([-1, 1, 1, 1]) if mirrored and visit == 2 else np.eye(4)
        for kind, source, affine in (
            ("image", scan, lps @ np.linalg.inv(common) @ lps @ scan.affine),
            ("brain_mask", mask, mask.affine),
        ):
            row[kind] = str(tmp_path / f"{visit}_{kind}.nii.gz")
            nib.save(
                nib.Nifti1Image(np.asarray(source.dataobj, "float32"), flip @ to_template @ affine),
                row[kind],
            )
        rows.append(row)
    table = quality_control.measure(prepare(tmp_path, rows))
    assert (table["flagged"].str.contains("left_right") == mirrored).all(), table.T
    assert not table["flagged"].str.contains("turn_gain").any()
