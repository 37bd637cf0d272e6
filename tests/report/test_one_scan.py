"""The page of one scan: offline, nameless, brain only, its numbers, its warnings; and a run."""

import base64
import dataclasses
import errno
import functools
import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from support.pages import with_intruders, with_script

import msxai
from msxai.base import tsv
from msxai.base.errors import ParameterError, WriteError
from msxai.base.notices import SYNTHETIC
from msxai.data import images
from msxai.lrp import heatmaps, shipped_reference, trust_warnings
from msxai.model.training_records import Card
from msxai.quality import lesion_by_lesion, one_scan, self_test
from msxai.quality.lesion_by_lesion import LesionReport, ShamReport
from msxai.regions import lesion_regions, mcdonald, own_anatomy
from msxai.report.one_scan import batch, lesions_in_words, page, pictures, warnings_in_words

NAME = "Erika_Mustermann_1961-04-23"
BRAIN = np.zeros(images.SHAPE, bool)
BRAIN[20:76, 20:96, 44:62] = True
LESIONS = np.zeros(images.SHAPE, bool)
LESIONS[30:33, 44:48, 50:54] = LESIONS[60:62, 60:62, 52:54] = True
DRAW = pictures.draw
SHIPPED = Card("c" * 64, True, "lesions", {"simulated_pairs": 400}, 0.97)


class Scan:
    """A scan with a bright head around its brain; reads like `Prepared` with one row."""

    affine = images.AFFINE
    normalisation = "zscore"
    synthetic = False

    def __init__(self, folder, zooms=(1, 1, 1), lesions=LESIONS, has_mask=True):
        path = folder / f"{NAME}.nii.gz"
        nib.save(nib.Nifti1Image(np.ones((3, 3, 3), "float32"), np.diag([*zooms, 1])), path)
        registration = {"route": "resampled", "flags": []}
        self.table = pd.DataFrame(
            {
                "participant_id": ["sub-aaaaaaaa"],
                "image": [str(path)],
                "brain_mask": [None],
                "registration": [json.dumps(registration)],
                "source_sha256": ["a" * 64],
                "lesion_mask_sha256": ["b" * 64],
                "brain_mask_sha256": [None],
            }
        )
        self.has_lesions = np.array([has_mask])
        self.mask = lesions if has_mask else np.zeros_like(LESIONS)
        self.values = np.where(BRAIN, np.indices(images.SHAPE)[0] / 40, 9).astype("float32")

    def image(self, row):
        return self.values

    def brain(self, row):
        return BRAIN

    def lesions(self, row):
        return self.mask


LIMITS = {"conservation": 0.5, "outside_brain": 0.05, "agreement": 0.6}
SHAM = ShamReport(limit=0.0123, sites=12, change_all=-0.25, share=0.9)
MEASURED = {"sham": SHAM, "contrast": 4.0, "lost": 0, "filled": True, "limits": LIMITS}


@functools.cache
def lesions_of(empty, lost):
    """The lesions on the grid, and some that are too small for it."""
    lesions = lesion_regions.on_model_grid(np.zeros_like(LESIONS) if empty else LESIONS)
    return lesion_regions.Lesions(
        lesions.labels,
        np.append(lesions.volumes, [1.0] * lost),
        np.append(lesions.longest_axes, [1.0] * lost),
        lesions.voxels + lost * [np.array([[40.0, 50.0, 50.0]])],
    )


@functools.cache
def amounts_of(empty, logit):
    """Relevance by distance, where all of it lies in the lesions."""
    lesions = np.zeros_like(LESIONS) if empty else LESIONS
    return lesion_by_lesion.by_distance(LESIONS * logit / LESIONS.sum(), lesions, BRAIN)


def report_of(marked, logit, after, sham, contrast):
    """What might have been measured of two lesions."""
    table = lesion_regions.of_lesions(marked)
    columns = {
        "relevance": [3.111, 0.222],
        "peak": [0.3331, 0.0442],
        "change_filled": [-2.345, 0.006],
        "change_all_but_this": [-0.012, -2.351],
        "adds_alone": [2.357, 0.001],
        "effect": ["speaks for yes", "no effect"],
        "used": pd.array([True, False], "boolean"),
    }
    missing = len(table) - 2
    for column, values in columns.items():
        empty = lesion_by_lesion.TOO_SMALL if column == "effect" else None
        table[column] = pd.Series([*values, *[empty] * missing])
    table["used"] = table["used"].astype("boolean")
    return LesionReport(table, logit, after, sham, contrast)


def findings(folder, logit=4.0, after=0.5, flags=(), measured=(), **scan):
    """What might have been computed of a scan."""
    measured = {**MEASURED, **dict(measured)}
    prepared = Scan(folder, **scan)
    relevance = np.zeros(images.SHAPE)
    relevance[LESIONS] = logit / LESIONS.sum()
    marked = report = None
    empty = not prepared.lesions(0).any()
    if prepared.has_lesions[0]:
        marked = lesions_of(empty, measured["lost"])
        if measured["filled"] and not empty:
            report = report_of(marked, logit, after, measured["sham"], measured["contrast"])
    values = {"conservation": 0.0, "out_of_distribution": None, "outside_brain": 0.0}
    values |= {"agreement": None} | dict(flags)
    return one_scan.Findings(
        code="aaaaaaaa",
        prepared=prepared,
        t1=None,
        maps=heatmaps.ScanMaps(relevance[None], [logit], pd.DataFrame()),
        logits=[logit],
        flags=trust_warnings.flags(values, measured["limits"], "validation scans"),
        quality=pd.Series({"flags": []}),
        marked=marked,
        lesions=report,
        amounts=amounts_of(empty, logit),
    )


def explainer(card=SHIPPED):
    settings = one_scan.Settings(explanation=heatmaps.Settings("epsilon_gamma"))
    return SimpleNamespace(paths=["w.npz"], cards=[card], settings=settings)


def self_tested(folder):
    """The same with a test on painted lesions, whose 5 mm ones are seen."""
    rows = []
    for size in (3.0, 5.0, 8.0):
        for change in (0.1 * size, 0.2 * size):
            voxels = int(size)
            seen = {"change": change - 0.3, "place": 0 if size > 3 else 41}
            at = {"x": 1, "y": 2, "z": 3}
            rows.append({"kind": "painted", "size": size, "voxels": voxels, **at, **seen})
    for row in rows[:]:
        rows.append(row | {"kind": "sham", "change": 0.123, "place": np.nan})
    table = self_test._judged(pd.DataFrame(rows))
    result = self_test.SelfTest(table, self_test._smallest_seen(table), (12.0,))
    return dataclasses.replace(findings(folder), self_test=result)


def test_a_painting_that_is_not_possible_is_said(tmp_path, plain_page):
    asked = explainer()
    asked.settings = dataclasses.replace(asked.settings, self_test=True)
    plain = plain_page(findings(tmp_path), asked)
    assert "The test was not possible" in plain
    plain = plain_page(findings(tmp_path))
    assert "The test was not possible" not in plain


def test_a_network_that_estimates_volumes_is_refused():
    volume = dataclasses.replace(SHIPPED, task="volume")
    one_scan._require_yes_or_no([SHIPPED], [Path("a.npz")])
    with pytest.raises(ParameterError, match="volume of lesions"):
        one_scan._require_yes_or_no([SHIPPED, volume], [Path("a.npz"), Path("b.npz")])


def test_networks_that_answer_different_questions_are_refused():
    ms = Card("c" * 64, False, "diagnosis", {}, 0.9, cohort="phantom-ms", modality="FLAIR")
    paths = [Path("a.npz"), Path("b.npz")]
    one_scan._require_one_question([ms, ms], paths)
    for other in (
        SHIPPED,
        dataclasses.replace(ms, cohort="phantom-ad"),
        Card("d", False, "", {}, None),
    ):
        with pytest.raises(ParameterError, match=r"a\.npz: task diagnosis on phantom-ms, b\.npz"):
            one_scan._require_one_question([ms, other], paths)


def test_the_modality_is_that_of_the_cohort(monkeypatch, tmp_path):
    path = tmp_path / "weights.npz"
    path.write_text("weights")
    cohort = SimpleNamespace(modality="T1w")
    monkeypatch.setattr(trust_warnings, "reference", lambda path: (cohort, ""))
    assert one_scan._card(path).modality == "T1w"
    monkeypatch.setattr(trust_warnings, "reference", lambda path: (None, "not at hand"))
    assert one_scan._card(path).modality == ""


def test_painted_lesions(tmp_path, plain_page):
    plain = plain_page(self_tested(tmp_path))
    assert "The network sees 4 of 6 painted lesions." in plain
    assert "It sees all of 5 mm and larger." in plain
    assert "painted lesion 3 3 1, 2, 3 0.000 42 no" in plain
    assert "painted lesion 5 5 1, 2, 3 +0.200 1 yes" in plain
    assert "painted lesion 3 3 1, 2, 3 +0.300 42 no" in plain
    assert "sham site 5 5 1, 2, 3 +0.123 – –" in plain
    assert "Balls of 12 mm were left out" in plain
    assert "1.2 standard deviations of the brain brighter" in plain
    assert "scan 07 of open_ms" in plain
    assert "What it cannot show" in plain


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = page.write(folder, findings(folder), explainer())
    assert path.stat().st_size <= page.MOST_BYTES
    return path.read_text(encoding="utf-8")


@pytest.fixture
def plain_page(tmp_path, monkeypatch):
    """Write the page of some findings with pictures of others; its words."""
    monkeypatch.setattr(pictures, "draw", _drawn_once)

    def write(made, by=None):
        return words(page.write(tmp_path, made, by or explainer()).read_text(encoding="utf-8"))

    return write


@functools.cache
def _drawing():
    return DRAW(pictures.Layers(BRAIN * 1.0, BRAIN, BRAIN * 1e-3, LESIONS))


def _drawn_once(*_):
    """Pictures take a second."""
    return _drawing()


def words(text):
    """The page without markup and pictures, in one line."""
    plain = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", plain)


def test_it_asks_nobody_for_anything(text):
    assert "default-src 'none'" in text
    without_data = re.sub(r"data:image/\w+;base64,[\w+/=]*", "data:", text)
    links = re.findall(r"https?://[^\s\"'<)]+", without_data)
    assert links == [
        "https://doi.org/10.1148/ryai.240300",
        "https://doi.org/10.1186/s13244-023-01572-w",
        "https://doi.org/10.1016/j.nicl.2019.102003",
    ]
    for link in links:  # to follow by hand, each one
        assert f'<a href="{link}">' in text
    assert not re.search(r"(src|srcset|action|poster)=\"(?!data:)", without_data)
    assert "@import" not in text
    assert "url(" not in text


def test_only_the_pages_own_scripts_may_run(text):
    """Each of them by its digest: the page's, the viewer's, and niivue with its last line."""
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    sources = policy.partition("script-src ")[2].split()
    assert len(sources) == 3
    assert all(re.fullmatch(r"'sha256-[\w+/]{43}='", source) for source in sources)
    assert policy.startswith("default-src 'none'; base-uri 'none'; form-action 'none'")
    assert '<div class="screen" id="viewer">' in text  # not in print
    assert text.count('id="open-viewer"') == 1


def test_a_browser_runs_the_pages_own_scripts_alone(tmp_path, browse):
    path = page.write(tmp_path, findings(tmp_path), explainer())
    dom = browse(with_intruders(path, tmp_path))
    assert "<title>One scan explained: " in dom
    assert re.search(r'id="mm"[^>]*>z = -?\d+ mm<', dom)  # what the page's own script wrote


PEAK = (31, 45, 51)  # in lesion 1
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND"
SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
PLACES = '<p id="picture"></p><p id="outlines"></p></body>'
OPEN = """
const copy = (name, from) => { element(name).textContent = element(from).toDataURL(); };
new MutationObserver(() => {
  copy("picture", "viewer-canvas");
  copy("outlines", "viewer-outlines");
}).observe(element("viewer-position"), { childList: true });
element("open-viewer").click();
"""


@pytest.fixture
def opened(tmp_path, browse):
    """Open a page, click on the button of the viewer, and return the document."""

    def run(*options, has_mask=True):
        made = findings(tmp_path, has_mask=has_mask)
        x, y, _ = np.indices(images.SHAPE)
        relevance = np.where(BRAIN, 4e-6 * (x - 47.5) * (50 + y), 0)  # negative on the left
        relevance[PEAK] = 0.0333
        maps = dataclasses.replace(made.maps, relevance=relevance[None])
        path = page.write(tmp_path, dataclasses.replace(made, maps=maps), explainer())
        text = path.read_text(encoding="utf-8").replace("</body>", PLACES)
        path.write_text(with_script(text, OPEN), encoding="utf-8")
        return browse(path, OFFLINE, *options)

    return run


def content(document, name):
    return re.search(rf'id="{name}"[^>]*>([^<]*)<', document)[1]


@pytest.mark.long(reason="a browser without a graphics card draws the viewer, 10 s")
def test_the_viewer_opens_in_a_browser_without_a_network(opened):
    document = opened(*SOFTWARE_GL)
    assert content(document, "viewer-message") == ""
    x, y, z = nib.affines.apply_affine(images.AFFINE, PEAK).round().astype(int)
    assert content(document, "viewer-position") == (
        f"x = {x} mm, y = {y} mm, z = {z} mm (MNI); map: +0.033 logit; "
        "scan: 0.78 standard deviations from the mean of the brain; lesion 1"
    )
    picture = pixels(content(document, "picture"))[..., :3]
    height, width = np.array(picture.shape[:2]) // 2
    axial = picture[height:, :width]
    redness = axial[..., 0] - axial[..., 2]
    left, right = redness[:, : width // 2], redness[:, width // 2 :]
    assert (right > 0.3).sum() > 100 > (left > 0.3).sum()  # yellow; the peak is on the left
    assert (left < -0.3).sum() > 100 > (right < -0.3).sum()
    green = pixels(content(document, "outlines"))
    drawn = green[..., 3] > 0.9
    assert 20 < drawn.sum() < 1000
    np.testing.assert_allclose(green[drawn][:, :3].mean(axis=0), (0.3, 1, 0.53), atol=0.05)


@pytest.mark.long(reason="a browser draws the viewer, 5 s")
def test_the_viewer_says_where_a_browser_cannot_show_it(opened):
    document = opened("--disable-3d-apis")
    assert content(document, "viewer-message").startswith("This browser cannot show the viewer")
    assert 'id="viewer-panel" hidden' in document


def test_it_names_nobody(text):
    for word in (*NAME.split("_"), "Mustermann", "/tmp", "/home", "sub-"):
        assert word not in text, word
    assert not re.search(r"\b(19|20)\d\d-\d\d(-\d\d)?\b", words(text))  # a date


def pixels(uri):
    kind = re.match(r"data:image/(\w+);", uri)[1]
    content = base64.b64decode(uri.split(",")[1])
    return matplotlib.image.imread(io.BytesIO(content), format=kind)


def test_pictures_show_the_brain_only():
    """The head around the brain is bright, the map has values there, too."""
    head = np.where(BRAIN, 1.0 + np.indices(images.SHAPE)[1] / 50, 9)
    relevance = np.where(BRAIN, 1e-3, 1.0)
    drawn = pictures.draw(pictures.Layers(head, BRAIN, relevance, LESIONS, t1=head))
    chosen = drawn.slices[len(drawn.slices) // 2]
    mask = BRAIN[:, :, chosen["z"]].T[::-1]
    for name in ("scan", "t1", "map"):
        picture = pixels(chosen[name])
        factor = picture.shape[0] // mask.shape[0]
        grown = ndimage.binary_dilation(mask, np.ones((3, 3)))
        outside = ~np.kron(grown, np.ones((factor, factor))).astype(bool)
        seen = picture[..., 3] if name == "map" else picture.max(axis=-1)
        assert seen[outside].max() <= 0.07 * (255 if seen.dtype == np.uint8 else 1), name
    assert np.isin([entry["z"] for entry in drawn.slices], np.arange(44, 62)).all()


def test_left_is_left_and_the_front_is_on_top():
    marked = np.where(BRAIN, 0.0, 0)
    marked[22:30, 85:95, 50] = 1  # left, front
    drawn = pictures.draw(pictures.Layers(marked + BRAIN * 1e-3, BRAIN, marked))
    chosen = next(entry for entry in drawn.slices if entry["z"] == 50)
    picture = pixels(chosen["scan"]).max(axis=-1)
    half = np.array(picture.shape) // 2
    top_left = picture[: half[0], : half[1]].mean()
    assert top_left > 4 * picture[half[0] :, half[1] :].mean()
    assert top_left > 4 * picture[: half[0], half[1] :].mean()


def test_the_overview_can_be_read_in_print(text):
    """The printed page has no viewer, so its overview needs the sides and the colours."""
    start = text.index('<div class="overview">')
    overview = text[start : text.index('id="lesions-table"')]
    pictures_there = overview.count("<img")
    assert pictures_there == 16
    assert overview.count("<span>L</span><span>R</span>") == pictures_there
    assert "linear-gradient" in overview
    assert "logit per voxel" in overview
    plain = words(text)
    assert "So each map has coloured voxels, even a map of almost nothing." in plain
    assert "green for the lesion of this row and white for other lesions" in plain


def test_a_page_that_would_be_too_large_has_fewer_slices(tmp_path, monkeypatch, text):
    """What half of the slices take is more than what the page is too large by."""
    count = text.count('"mm": ')
    assert count == 18
    monkeypatch.setattr(page, "MOST_BYTES", len(text) - 20_000)
    path = page.write(tmp_path, findings(tmp_path), explainer())
    assert path.stat().st_size <= page.MOST_BYTES
    assert path.read_text().count('"mm": ') == 9


def test_numbers_of_each_lesion_stand_there(text):
    for number in ("+3.111", "+0.222", "+0.3331", "-2.345", "+0.006", "-2.351", "+2.357"):
        assert number in text
    plain = words(text)
    assert "The mask has 2 lesions with a total volume of 0.38 ml." in plain
    assert "The network uses 1 of them (0.33 ml)." in plain
    assert "speaks for yes: the network uses the lesion 1 0.33 1" in plain
    assert "no effect: the logit changes by no more than the limit 1 0.05 2" in plain
    assert "too small" not in plain
    assert "the limit of 0.012 logit" in plain
    assert "for 12 sites" in plain
    assert "+3.75 logit with normal tissue filled sham: 90% of the lesions' volume" in plain
    assert "+4.00 logit" in plain
    assert "+0.50 logit without the lesions" in plain
    assert "not calibrated on people" in plain
    assert lesion_regions.ORDER in plain


def regions_of(moved, **own):
    """What might have been counted: two lesions, one of them too small for the criteria."""
    names = [*lesion_regions.REGIONS, *lesion_regions.GREY_MATTER]
    columns = ["lesions", "from_3_mm", "volume", "neighbours_6", "neighbours_18"]
    table = pd.DataFrame(0, index=names, columns=columns).astype({"volume": float})
    table.loc["periventricular"] = [2, 1, 383.0, 4, 3]
    anatomy = own_anatomy.Anatomy(BRAIN, BRAIN, **own)
    return mcdonald.RegionCounts(table, anatomy, moved)


def test_regions_of_the_mcdonald_criteria(tmp_path, plain_page):
    own = regions_of(1, own_ventricles=True, own_cortex=True)
    plain = plain_page(dataclasses.replace(findings(tmp_path), regions=own))
    assert "McDonald 2024: what this scan shows" in plain
    assert "periventricular 2 1 3 4 0.38 juxtacortical or cortical 0 0 0 0 0.00" in plain
    assert "of all lesions: in the thalamus 0 0 0 0 0.00" in plain
    for name, needs in mcdonald.NOT_ASSESSABLE.items():
        assert f"{name} not assessable on this scan: {needs}" in plain
    assert "This table is no diagnosis." in plain
    assert "doi:10.1016/S1474-4422(25)00270-4" in plain
    assert "The lateral ventricles and the cortex were found in this scan." in plain
    assert "1 of 2 lesions would belong to another region" in plain


def test_the_page_says_where_the_template_stands_in(tmp_path, plain_page):
    ventricles = regions_of(0, own_ventricles=True)
    plain = plain_page(dataclasses.replace(findings(tmp_path), regions=ventricles))
    assert "The lateral ventricles were found in this scan. The cortex is that of" in plain
    assert "sulci that the scan shows" not in plain
    thick = regions_of(0, own_ventricles=True, added_sulci=True)
    plain = plain_page(dataclasses.replace(findings(tmp_path), regions=thick))
    assert "around the sulci that the scan shows, that of the person." in plain
    plain = plain_page(dataclasses.replace(findings(tmp_path), regions=regions_of(0)))
    assert "because the scan does not show fluid in the ventricles" in plain
    assert "would belong to another region" not in plain


def test_regions_are_shown_where_no_lesion_could_be_filled(tmp_path, plain_page):
    made = findings(tmp_path, measured={"filled": False})
    plain = plain_page(dataclasses.replace(made, regions=regions_of(0)))
    assert "McDonald 2024" in plain
    assert lesion_regions.ORDER in plain
    assert "McDonald 2024" not in plain_page(findings(tmp_path, has_mask=False))


def test_the_answer_stands_beside_those_of_simulated_subjects(tmp_path, plain_page):
    logits = np.array([[-2.0, 3.0, -1.0, 2.0, 5.0, 6.0], [0, 5.0, 1.0, 0, 5.0, 8.0]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    stored = shipped_reference.Stored([], labels, logits, labels, [], "simulated")
    made = dataclasses.replace(findings(tmp_path), compared=stored, logits=[3.0, 2.0])
    probabilities = stored.calibrated([3.0, 2.0])
    plain = plain_page(made)
    assert f"{np.mean(probabilities):.3f} probability calibrated on simulated subjects" in plain
    assert (
        f"By one network alone it is {min(probabilities):.3f} to {max(probabilities):.3f}" in plain
    )
    assert "Of 3 simulated scans of patients, 1 have a lower logit than this scan." in plain
    assert "Of 3 simulated scans of controls, 1 have a higher one." in plain
    assert (
        "the logits of 6 scans of subjects that no training has seen, 50% of them of patients"
        in plain
    )
    assert (
        "may not hold for people: most scans of eight people got a probability above 0.5" in plain
    )


def test_what_the_page_says_of_eight_people_is_measured():
    table = tsv.read(msxai.ROOT / "benchmarks" / "real.tsv")
    row = table.query("site == 'all' and measure == 'called_yes_calibrated_filled'").squeeze()
    assert row["n"] == 8
    card = (msxai.ROOT / "docs" / "model-card.md").read_text(encoding="utf-8")
    assert row["value"] * 8 == 7
    assert "seven of the eight stayed above 0.5" in card


def test_the_command_has_no_path(text):
    command = "msxai explain SCAN --lesions MASK --rule epsilon_gamma --copies 1 --out DIR"
    assert f"<code>{command}</code>" in text
    assert "a" * 64 in text
    assert "c" * 64 in text


def test_a_simulated_scan_is_marked(tmp_path, plain_page):
    made = findings(tmp_path)
    assert SYNTHETIC not in plain_page(made)
    made.prepared.synthetic = True
    assert SYNTHETIC in plain_page(made)


def test_without_a_mask_and_with_an_empty_one(tmp_path, plain_page):
    assert "No lesion mask was given" in plain_page(findings(tmp_path, has_mask=False))
    empty = findings(tmp_path, lesions=np.zeros_like(LESIONS))
    assert "The lesion mask is empty" in plain_page(empty)


def levels(messages):
    return {message.text: message.level for message in messages}


def level_of(part, found, card=SHIPPED):
    """Level of the one message whose text has a part."""
    messages = levels(warnings_in_words.messages(found, explainer(card)))
    (level,) = [level for text, level in messages.items() if part in text]
    return level


def test_a_logit_that_does_not_need_the_lesions_is_a_warning(tmp_path):
    part = "With all lesions filled"
    assert level_of(part, findings(tmp_path, after=3.0)) == warnings_in_words.WARNING
    assert level_of(part, findings(tmp_path, after=1.0)) == warnings_in_words.FINE
    negative = findings(tmp_path, logit=-2.0, after=-2.5)
    assert level_of(part, negative) == warnings_in_words.WARNING


def with_sham(folder, **changes):
    return findings(folder, after=1.0, measured={"sham": dataclasses.replace(SHAM, **changes)})


def test_a_fall_that_sham_sites_have_too_is_no_finding(tmp_path):
    """The logit falls from 4 to 1 without the lesions; 2 of the fall must be theirs alone."""
    part = "With all lesions filled"
    for change, level in [(-0.9, "no warning"), (-1.1, "warning"), (-3.5, "warning")]:
        assert level_of(part, with_sham(tmp_path, change_all=change)) == level, change
    as_much = "Filling of normal tissue changes the logit by as much."
    assert level_of(as_much, with_sham(tmp_path, change_all=-3.5)) == "warning"
    assert level_of(as_much, with_sham(tmp_path, change_all=3.5)) == "warning"


def test_without_enough_normal_tissue_nothing_is_said_to_be_fine(tmp_path, plain_page):
    part = "too little normal white matter"
    assert level_of(part, with_sham(tmp_path, share=0.3)) == warnings_in_words.UNKNOWN
    none = with_sham(tmp_path, sites=0, change_all=np.nan, share=0.0)
    assert level_of(part, none) == warnings_in_words.UNKNOWN
    plain = plain_page(none)
    assert "The limit is a fixed number" in plain
    assert "nan" not in plain


def test_lesions_that_could_not_be_filled_are_no_finding(tmp_path, plain_page):
    """No count of lesions that are not used, and no message that blames the network."""
    failed = findings(tmp_path, measured={"filled": False})
    assert level_of("No lesion could be filled", failed) == warnings_in_words.UNKNOWN
    plain = plain_page(failed)
    assert "The mask has 2 lesions with a total volume of 0.38 ml. No lesion" in plain
    assert "The network uses" not in plain
    assert "How much relevance lies in lesions?" in plain


def test_lesions_that_are_too_small_are_counted(tmp_path, plain_page):
    plain = plain_page(findings(tmp_path, measured={"lost": 3}))
    assert "The mask has 5 lesions with a total volume of 0.39 ml." in plain
    assert "too small for the network (no voxel on its grid): not known 3 0.00 3, 4, 5" in plain
    assert re.search(r" 5 (deep|juxtacortical|periventricular|infratentorial).* 1 – – – – –", plain)
    assert not re.search(r"\bnan\b", plain, re.IGNORECASE)
    lost = findings(tmp_path, lesions=np.zeros_like(LESIONS), measured={"lost": 1})
    assert level_of("All of this is too small", lost) == warnings_in_words.UNKNOWN


def test_a_file_in_mni_space_has_the_volumes_of_mni_space(tmp_path, plain_page):
    made = findings(tmp_path)
    part = "This file was already in MNI space"
    assert part in plain_page(made)
    record = json.dumps({"route": "affine", "flags": []})
    made.prepared.table["registration"] = [record]
    assert part not in plain_page(made)


def test_without_a_reference_nothing_is_said_to_be_fine(tmp_path):
    unknown = {"measured": {"limits": {}}}
    for part, name in [("adds up", "conservation"), ("outside the brain", "outside_brain")]:
        for value, level in [(0.01, "unknown"), (0.8, "warning")]:
            made = findings(tmp_path, flags={name: value}, **unknown)
            assert level_of(part, made) == level, (part, value)
    zeros = findings(tmp_path, flags={"outside_brain": None})
    assert level_of("zero everywhere", zeros) == warnings_in_words.WARNING


def test_several_networks(tmp_path):
    several = explainer()
    several.paths = ["a.npz", "b.npz"]

    def level(part, **options):
        made = warnings_in_words.messages(findings(tmp_path, **options), several)
        return next(message.level for message in made if part in message.text)

    assert level("one value everywhere") == warnings_in_words.WARNING
    for value, expected in [(0.9, "no warning"), (0.1, "warning")]:
        assert level("rank correlation", flags={"agreement": value}) == expected
    without = {"flags": {"agreement": 0.9}, "measured": {"limits": {}}}
    assert level("rank correlation", **without) == warnings_in_words.UNKNOWN


def test_with_copies_the_logit_is_that_of_the_scan(tmp_path, plain_page):
    made = findings(tmp_path)
    made = dataclasses.replace(made, maps=dataclasses.replace(made.maps, logits=[3.0]))
    copied = explainer()
    settings = heatmaps.Settings("epsilon_gamma", copies=8)
    copied.settings = one_scan.Settings(explanation=settings)
    plain = plain_page(made, copied)
    assert "+4.00 logit" in plain
    assert "The map adds up to +4.00; the mean logit of the 8 copies of the scan is +3.00." in plain
    assert made.conserved == pytest.approx(4 / 3)


def test_warnings_are_raised_where_they_are_due(tmp_path):
    cases = [
        ("undecided", {"logit": 0.4}, warnings_in_words.WARNING),
        ("not undecided", {"logit": 4.0}, warnings_in_words.FINE),
        ("adds up", {"flags": {"conservation": 0.8}}, warnings_in_words.WARNING),
        ("adds up", {"flags": {"conservation": 0.1}}, warnings_in_words.FINE),
        ("outside the brain", {"flags": {"outside_brain": 0.2}}, warnings_in_words.WARNING),
        ("outside the brain", {"flags": {"outside_brain": 0.0}}, warnings_in_words.FINE),
        ("deviations brighter", {"measured": {"contrast": 4.0}}, warnings_in_words.FINE),
        ("usually much larger", {"measured": {"contrast": 0.2}}, warnings_in_words.WARNING),
        ("how bright", {"measured": {"contrast": np.nan}}, warnings_in_words.UNKNOWN),
        ("only one network", {}, warnings_in_words.UNKNOWN),
        ("differs from the training scans", {}, warnings_in_words.UNKNOWN),
        ("5.0 mm thick", {"zooms": (1, 1, 5)}, warnings_in_words.WARNING),
        ("simulated scans alone", {}, warnings_in_words.WARNING),
    ]
    for part, options, level in cases:
        assert level_of(part, findings(tmp_path, **options)) == level, (part, options)


def test_what_a_network_learnt_is_said(tmp_path, plain_page):
    unknown = Card("c" * 64, False, "", {}, None)
    assert level_of("No record", findings(tmp_path), unknown) == warnings_in_words.WARNING
    diagnosis = Card("c" * 64, False, "diagnosis", {"variant": "scratch"}, 0.9)
    plain = plain_page(findings(tmp_path), explainer(diagnosis))
    assert "Is this scan of a patient, or of a control, of the cohort of the training?" in plain
    assert "patients and controls of a cohort (of a kind that is not recorded here)." in plain


def test_a_network_that_was_trained_on_another_contrast_is_a_warning(tmp_path, plain_page):
    """Such as a pre-training of 02 on Alzheimer's disease."""
    other = Card("c" * 64, False, "diagnosis", {}, 0.9, cohort="phantom-ad", modality="T1w")
    made = findings(tmp_path)
    assert level_of("trained on T1w scans, not on FLAIR", made, other) == warnings_in_words.WARNING
    plain = plain_page(made, explainer(other))
    assert "patients and controls of the cohort phantom-ad (T1w)." in plain
    same = dataclasses.replace(other, modality="FLAIR")
    assert level_of("trained on a cohort", made, same) == warnings_in_words.UNKNOWN


def test_quality_control_speaks(tmp_path):
    flagged = findings(tmp_path)
    flagged.quality["flags"] = ["The brain ends in a plane."]
    assert level_of("The brain ends in a plane.", flagged) == warnings_in_words.WARNING
    assert level_of("nothing unusual", findings(tmp_path)) == warnings_in_words.FINE


def test_warnings_come_first(tmp_path):
    messages = warnings_in_words.messages(findings(tmp_path, logit=0.2), explainer())
    order = [warnings_in_words.LEVELS.index(message.level) for message in messages]
    assert order == sorted(order)


def test_a_probability_never_reaches_its_ends():
    assert page.probability(0.99999) == "> 0.999"
    assert page.probability(1e-6) == "< 0.001"
    assert page.probability(0.5) == "0.500"


# A run over scans


class Explainer:
    """In place of the networks: refuses a scan whose name says so, counts the others."""

    calls = 0
    faults = iter(())
    cards = (SHIPPED,)
    paths = ("w.npz",)

    def __init__(self, settings):
        self.settings = settings

    def explain(self, files, folder, say):
        from msxai.base.errors import ImageError

        name = Path(files.image).stem
        if "bad" in name:
            (folder / "half").write_text("written")
            raise ImageError(files.image, "damaged data", "a whole image", "Copy it again.")
        if "odd" in name:
            raise next(Explainer.faults)
        Explainer.calls += 1
        made = findings(folder, logit=9.0 if "sure" in name else 4.0)
        made.prepared.close = lambda: None
        made.prepared.synthetic = "phantom" in name
        return made


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Explain scans by name; the results are in tmp_path / "out"."""
    monkeypatch.setattr(batch, "Explainer", Explainer)
    monkeypatch.setattr(one_scan, "write_maps", lambda *_: [])
    monkeypatch.setattr(one_scan, "remove_names", lambda *_: None)
    # Pictures of a scan take a second.
    monkeypatch.setattr(
        page, "write", lambda folder, *_: (folder / "index.html").write_text("page")
    )
    Explainer.calls = 0

    def explain(*names, resume=False, **settings):
        scans = []
        for name in names:
            path = tmp_path / f"{name}.nii"
            if not path.exists():
                path.write_text(name)
            scans.append(batch.ScanFiles(str(path)))
        options = one_scan.Settings(**settings)
        return batch.explain_all(scans, tmp_path / "out", options, resume=resume)

    return explain


def test_a_run_goes_on_after_a_bad_scan(run, tmp_path):
    table = run("a", "bad", "b")
    assert table["status"].tolist() == ["done", "failed", "done"]
    assert "damaged data" in table["reason"][1]
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["a", "b", "index.html", "scans.csv"]
    written = pd.read_csv(out / "scans.csv")
    assert written["logit"].tolist()[0] == pytest.approx(4.0)
    assert written["lesions"].tolist()[0] == 2
    assert written["lesion_volume_mm3"].tolist()[0] == pytest.approx(56 * images.VOXEL_VOLUME)
    assert written["lesions_used"].tolist()[0] == 1
    assert written["lesions_not_used"].tolist()[0] == 1
    assert written["logit_sham_filled"].tolist()[0] == pytest.approx(3.75)
    index = (out / "index.html").read_text()
    assert 'href="a/index.html"' in index
    assert "damaged data" in index
    assert (out / "a" / "provenance.json").is_file()


def test_the_index_marks_what_is_simulated_and_rounds_as_the_page_does(run, tmp_path):
    run("sure")
    index = (tmp_path / "out" / "index.html").read_text()
    assert SYNTHETIC not in index
    assert "&gt; 0.999" in index
    assert "1.000" not in index
    table = run("sure", "phantom")
    assert table["synthetic"].tolist() == [False, True]
    index = (tmp_path / "out" / "index.html").read_text()
    assert SYNTHETIC in index
    assert index.count("(synthetic)") == 1


def test_a_fault_of_the_program_does_not_end_a_run(run, tmp_path):
    faults = [RuntimeError("no such luck"), TypeError("a type"), OSError(5, "input/output")]
    Explainer.faults = iter([*faults, MemoryError()])
    table = run("odd", "a", "odd2", "odd3", "odd4")
    assert table["status"].tolist() == ["error", "done", "error", "error", "error"]
    assert "RuntimeError (no such luck), a fault of the program" in table["reason"][0]
    text = (tmp_path / "out" / "errors.txt").read_text()
    assert text.count("Traceback (most recent call last)") == 4
    assert "raise next(Explainer.faults)" in text
    assert "a fault of the program" in (tmp_path / "out" / "index.html").read_text()
    Explainer.faults = iter(())
    run("a")
    assert not (tmp_path / "out" / "errors.txt").exists()


def test_faults_alone_are_no_refusal(run, tmp_path, capsys):
    Explainer.faults = iter([ValueError("no such luck")])
    with pytest.raises(RuntimeError, match=r"no scan was explained.*ValueError \(no such luck\)"):
        run("bad", "odd")
    assert "raise next(Explainer.faults)" in capsys.readouterr().out  # kept in the notebook
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_the_run(run, tmp_path):
    Explainer.faults = iter([OSError(errno.ENOSPC, "No space left on device")] * 2)
    with pytest.raises(WriteError, match="a full disk"):
        run("odd", "a")
    assert Explainer.calls == 0
    assert not (tmp_path / "out").exists()
    with pytest.raises(WriteError, match="a full disk"):
        run("a", "odd", "b")
    assert Explainer.calls == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]
    assert run("a", "b", resume=True)["status"].tolist() == ["unchanged", "done"]


def test_what_no_run_has_written_is_not_replaced(run, tmp_path):
    """--out may be a folder with data of the user that have the name of a scan."""
    out = tmp_path / "out"
    for path in (
        out / "a" / "raw.dcm",
        out / "a" / "deep" / "raw.dcm",
        out / "a" / ".settings",
        out / "a",
        out / "scans.csv",
    ):
        path.parent.mkdir(parents=True)
        path.write_text("mine")
        with pytest.raises(ParameterError, match="has not written"):
            run("a")
        assert path.read_text() == "mine"
        shutil.rmtree(out)
    run("a")
    (out / "a" / "notes.txt").write_text("mine")
    with pytest.raises(ParameterError, match=r"notes\.txt: found a file that"):
        run("a")
    (out / "a" / "notes.txt").rename(out / "notes.txt")
    (out / "a" / "raw").symlink_to(tmp_path)
    with pytest.raises(ParameterError, match="raw: found a file that"):
        run("a")
    (out / "a" / "raw").unlink()
    (out / "a" / ".DS_Store").write_text("of a file manager")
    assert run("a")["status"].tolist() == ["done"]
    assert (out / "notes.txt").exists()


@pytest.mark.parametrize(
    "content",
    ["[1]", "null", "no JSON", '"text"', "3", "[" * 200_000],
    ids=["list", "null", "words", "text", "number", "brackets"],
)
def test_a_record_that_is_no_object_is_no_record(content, run, tmp_path):
    folder = tmp_path / "out" / "a"
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text(content)
    assert run("a", resume=True)["status"].tolist() == ["done"]


def test_a_record_without_a_row_is_no_record(run, tmp_path):
    run("a")
    record = tmp_path / "out" / "a" / "provenance.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"row": 3}))
    assert run("a", resume=True)["status"].tolist() == ["done"]


def test_nothing_is_left_where_no_scan_can_be_used(run, tmp_path):
    from msxai.base.errors import MsxaiError

    with pytest.raises(MsxaiError, match="damaged data"):
        run("bad")
    assert not (tmp_path / "out").exists()


def test_a_failed_run_leaves_an_earlier_one(run, tmp_path):
    from msxai.base.errors import MsxaiError

    run("a")
    with pytest.raises(MsxaiError):
        run("bad")
    assert (tmp_path / "out" / "a" / "index.html").is_file()
    assert (tmp_path / "out" / "scans.csv").is_file()


def test_resume_skips_what_is_done_and_unchanged(run, tmp_path):
    run("a", "b")
    assert Explainer.calls == 2
    table = run("a", "b", resume=True)
    assert Explainer.calls == 2
    assert table["status"].tolist() == ["unchanged", "unchanged"]
    assert table["logit"].tolist() == [4.0, 4.0]
    (tmp_path / "a.nii").write_text("another scan")
    assert run("a", "b", resume=True)["status"].tolist() == ["done", "unchanged"]
    (tmp_path / "out" / "b" / "index.html").write_text("spoilt")
    assert run("a", "b", resume=True)["status"].tolist() == ["unchanged", "done"]
    assert run("a", resume=True, seed=1)["status"].tolist() == ["done"]
    assert run("a")["status"].tolist() == ["done"]  # without resume, anew


def test_names_with_markup_are_escaped(run, tmp_path):
    run("<b>bad<b>", "a")
    assert "<b>bad" not in (tmp_path / "out" / "index.html").read_text()


def test_what_several_networks_learnt_from():
    first = Card("a" * 64, True, "lesions", {"simulated_pairs": 400}, 0.97)
    other = dataclasses.replace(first, accuracy=0.95)
    assert page._trained_on_simulated_brains([first]) == (
        "The network learnt from 400 simulated brains, each with and without lesions. It was right "
        "in 97% of the simulated scans that were used to select the weights. How often a network "
        "is right on scans of people has not been measured."
    )
    several = page._trained_on_simulated_brains([first, other, first])
    assert "Each of the 3 networks learnt from 400" in several
    assert "They were right in 95% to 97% of" in several
    unknown = page._trained_on_simulated_brains([first, dataclasses.replace(first, accuracy=None)])
    assert "right" not in unknown


@pytest.mark.parametrize(
    ("value", "text"), [(0.9996, "100 %"), (0.123, "12 %"), (0.0123, "1.2 %"), (np.nan, "–")]
)
def test_a_share_is_never_written_with_an_exponent(value, text):
    assert lesions_in_words._share(value) == text
