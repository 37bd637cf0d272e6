"""Two visits on the page of a scan and in its folder: one lesion is new, one is gone."""

import json
import re
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from support.networks import with_weights

from msxai import lrp
from msxai.base import tsv
from msxai.data import images
from msxai.data.single_scans import ScanFiles
from msxai.data.synthetic.simulated_pairs import WITHOUT, PairOptions, simulate_pair
from msxai.model import network
from msxai.quality import one_scan, visit_noise
from msxai.quality.two_visits import Comparison, Visit
from msxai.quality.visit_noise import Limits, Noise
from msxai.regions import lesion_regions
from msxai.report.figures import slices
from msxai.report.one_scan import batch, changes_in_words

NAME = "Erika_Mustermann"
BRAIN = np.zeros(images.SHAPE, bool)
BRAIN[20:76, 20:96, 24:76] = True
GONE = (slice(30, 33), slice(44, 48), slice(50, 54))
NEW = (slice(60, 62), slice(60, 62), slice(52, 54))


def write_visit(folder, name, brain, lesion):
    """A simulated brain with one bright lesion, its mask and its brain mask; in MNI space."""
    inside = brain != 0
    mask = np.zeros(images.SHAPE, "float32")
    mask[lesion] = 1
    assert inside[lesion].all()
    contents = {
        "image": np.where(inside, 10 + brain + 2 * mask, 0),
        "lesion_mask": mask,
        "brain_mask": inside,
    }
    paths = {}
    for kind, values in contents.items():
        image = nib.Nifti1Image(values.astype("float32"), images.AFFINE)
        paths[kind] = str(folder / f"{NAME}_{name}_{kind}.nii.gz")
        nib.save(image, paths[kind])
    return paths


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("visits")
    pair, _ = simulate_pair(PairOptions(pairs=2, seed=7, contrast="own"), 0)
    brain = pair[WITHOUT].astype("float32")
    before = write_visit(folder, "before", brain, GONE)
    now = write_visit(folder, "now", brain, NEW)
    return ScanFiles(**now, before=before["image"], before_lesion_mask=before["lesion_mask"])


def settings(folder):
    return one_scan.Settings(weights=(str(folder / "narrow.npz"),))


@pytest.fixture(scope="module")
def run(scans, tmp_path_factory, one_thread):
    """The folder of a run over the scan of now."""
    folder = tmp_path_factory.mktemp("run")
    network.save_weights(with_weights(1, images.SHAPE), folder / "narrow.npz")
    table = batch.explain_all([scans], folder / "out", settings(folder))
    assert table["status"].tolist() == ["done"], table["reason"].tolist()
    return folder / "out"


@pytest.fixture(scope="module")
def folder(run):
    (found,) = [path for path in run.iterdir() if path.is_dir()]
    return found


def voxels(path):
    return nib.load(path).get_fdata()


def test_the_change_is_the_difference_of_both_maps(run, folder):
    """The earlier scan, as it was written, is explained once more."""
    change = voxels(folder / "relevance_change_space-MNI152.nii.gz")
    now = voxels(folder / "relevance_space-MNI152.nii.gz")
    scan = voxels(folder / "scan_before_space-MNI152.nii.gz").astype("float32")
    model = network.restore(run.parent / "narrow.npz")
    explained = lrp.explain(model, scan[None, ..., None], "epsilon_gamma", epsilon=1e-3)
    before = explained.relevance[0, ..., 0]
    np.testing.assert_allclose(change, now - before, atol=1e-5 * np.abs(before).max())
    (row,) = pd.read_csv(run / "scans.csv").to_dict("records")
    logit = float(np.asarray(model(scan[None, ..., None], training=False))[0, 0])
    assert row["logit_before"] == pytest.approx(logit, rel=1e-4)
    assert row["logit_change"] == pytest.approx(row["logit"] - logit, abs=1e-4)
    sidecar = json.loads((folder / "relevance_change_space-MNI152.json").read_text())
    assert sidecar["SumOfRelevance"] == pytest.approx(change.sum(), rel=1e-4)
    assert sidecar["Logit"] - sidecar["LogitBefore"] == pytest.approx(row["logit_change"])
    assert sidecar["LimitsOfNoise"] == {}
    assert sidecar["Alignment"] == one_scan.UNMOVED


def test_one_lesion_is_new_and_one_is_gone(run, folder):
    change = voxels(folder / "relevance_change_space-MNI152.nii.gz")
    now = voxels(folder / "relevance_space-MNI152.nii.gz")
    table = tsv.read(folder / "changes.tsv").set_index("change")
    assert sorted(table.index) == ["gone", "new"]
    for kind, box in (("new", NEW), ("gone", GONE)):
        row = table.loc[kind]
        assert row["voxels"] == now[box].size
        volume = row["volume_now"] if kind == "new" else row["volume_before"]
        assert volume == pytest.approx(now[box].size * images.VOXEL_VOLUME, rel=1e-4)
        tolerance = {"rel": 1e-3, "abs": 1e-6}
        assert row["relevance_now"] == pytest.approx(now[box].sum(), **tolerance)
        assert row["relevance_change"] == pytest.approx(change[box].sum(), **tolerance)
        assert np.isnan(row["noise"])
    (row,) = pd.read_csv(run / "scans.csv").to_dict("records")
    counts = {name: row[f"lesions_{name}"] for name in ("new", "grown", "unchanged", "gone")}
    assert counts == {"new": 1, "grown": 0, "unchanged": 0, "gone": 1}


def words(text):
    plain = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", plain)


def test_the_page_says_so_and_that_noise_is_not_known(run, folder):
    text = (folder / "index.html").read_text()
    start = text.index('id="changes"')
    plain = words(text[start : text.index('id="files"')])
    (row,) = pd.read_csv(run / "scans.csv").to_dict("records")
    numbers = [f"{row[name]:+.2f}" for name in ("logit_before", "logit", "logit_change")]
    numbers = ["0.00" if float(number) == 0 else number for number in numbers]
    assert f"logit {' '.join(numbers)} – – noise not known" in plain
    assert "The noise is not known for these networks." in plain
    assert "Both scans lay in MNI space already." in plain
    assert "because the noise of the map is not known. Green outlines show lesions." in plain
    assert re.search(
        r"new 1 – 61, 61, 53 – 55 ", re.sub(r"-?\d+, -?\d+, -?\d+", "61, 61, 53", plain)
    )
    assert "gone 1 330 0 –" in plain
    assert "nan" not in plain
    assert text[start:].count('<div class="sides">') == 18, "three pictures of six slices"
    assert "<code>msxai explain SCAN --lesions MASK --brain-mask MASK --before EARLIER" in text


def test_nothing_in_the_folder_names_the_person(folder):
    files = {path.name for path in folder.iterdir()}
    assert {"changes.tsv", *one_scan.CHANGE_FILES.values()} <= files
    assert "prepared_before.h5" not in files
    for path in folder.rglob("*"):
        if path.suffix in (".html", ".json", ".tsv", ".h5"):
            assert b"Mustermann" not in path.read_bytes(), path.name


@pytest.mark.long(reason="a scan is explained once more, 5 s")
def test_a_resumed_run_notices_another_earlier_scan(scans, run):
    """Of an unchanged run nothing is computed; the last line explains anew."""

    def status():
        table = batch.explain_all([scans], run, settings(run.parent), resume=True)
        return table["status"].tolist()

    assert status() == ["unchanged"]
    assert pd.read_csv(run / "scans.csv")["lesions_new"].tolist() == [1]
    parameters = json.loads(next(run.glob("*/provenance.json")).read_text())["parameters"]
    hashes = scans.hashes()
    assert parameters["files"] == hashes
    assert {"before", "before_lesion_mask"} <= set(hashes)
    mask = nib.load(scans.before_lesion_mask)
    other = np.asarray(mask.dataobj)
    other[NEW] = 1
    nib.save(nib.Nifti1Image(other, mask.affine), scans.before_lesion_mask)
    assert status() == ["done"]
    table = tsv.read(next(run.glob("*/changes.tsv")))
    assert sorted(table["change"]) == ["gone", "unchanged"]


# The words, beside limits


def limits(logit, of_map):
    rows = [("logit", logit), ("similarity", 0.8), ("map_95", of_map / 5), ("map_999", of_map)]
    table = pd.DataFrame(rows, columns=["kind", "value"]).assign(subject=1, voxels=0)
    lesions = [{"kind": "lesion", "value": of_map * 10, "subject": 1, "voxels": 8}]
    return Limits(pd.concat([table, pd.DataFrame(lesions)]), has_maps=True)


NOISE = Noise(limits(0.5, 1e-3), limits(2.0, 5e-3), "simulated")


def described(change, noise=NOISE, *, scan=None, alignment=one_scan.ALIGNED, flags=()):
    """What the page says where the logit rises by 1 and a lesion's voxels by `change` each."""
    pattern = np.where(BRAIN, np.indices(images.SHAPE)[1], 0).astype("float32")
    mask = np.zeros(images.SHAPE, bool)
    mask[NEW] = True
    lesions = lesion_regions.on_model_grid(mask)
    empty = lesion_regions.on_model_grid(mask & False)
    before = Visit(pattern, BRAIN, np.zeros(images.SHAPE), 1.0, empty)
    now = Visit(pattern if scan is None else scan, BRAIN, mask * change, 2.0, lesions)
    registration = json.dumps({"route": "full", "flags": []})
    earlier = one_scan.Earlier(
        prepared=SimpleNamespace(table=pd.DataFrame({"registration": [registration]})),
        quality=pd.Series({"flags": list(flags)}),
        alignment=alignment,
        comparison=Comparison.of(before, now, noise),
    )
    return changes_in_words.described(SimpleNamespace(earlier=earlier))


@pytest.fixture(scope="module")
def large():
    return described(6e-3)


def test_each_number_stands_beside_its_limits(large):
    logit, rare, rarest = large["numbers"]
    assert (logit["before"], logit["now"], logit["change"]) == ("+1.00", "+2.00", "+1.00")
    assert (logit["one_scanner"], logit["two_scanners"]) == ("0.50", "2.00")
    assert "on one scanner, within what they differ on two scanners" in logit["verdict"]
    assert (rarest["one_scanner"], rarest["two_scanners"]) == ("0.001", "0.005")
    assert rarest["verdict"].startswith("within"), "8 voxels are fewer than 0.1 % of the brain"
    assert rare["change"] == "0"
    shares = [share["share"] for share in large["shares"]]
    assert shares == [f"{100 * 8 / BRAIN.sum():.2g} %"] * 2
    (row,) = large["lesions"]["rows"]
    assert (row["change"], row["now"], row["before"]) == ("new", "1", "–")
    assert (row["relevance_before"], row["relevance_change"]) == ("0.000", "+0.048")
    assert (row["one_scanner"], row["two_scanners"]) == ("0.010", "0.050")
    assert row["short"] == visit_noise.BETWEEN
    assert large["warnings"] == []


def test_more_than_noise_is_said_in_full():
    (row,) = described(8e-3)["lesions"]["rows"]
    assert row["more"]
    assert row["verdict"] == (
        "more than two scans of an unchanged simulated person differ, even on two scanners"
    )
    assert described(8e-3)["lesions"]["counts"][0]["beyond"] == "1"


def test_colours_go_from_one_limit_of_one_scanner_to_the_other(large):
    """5 % of the voxels, 0.1 % of them."""
    scale = large["pictures"].scale
    assert (scale.threshold, scale.low, scale.high) == (2e-4, -1e-3, 1e-3)
    assert large["colours"] == ["0.0002", "0.001"]
    unknown = described(6e-3, None)
    assert unknown["colours"] is None
    assert unknown["pictures"].scale.high == pytest.approx(slices.SMALLEST)


def test_without_noise_nothing_is_judged():
    said = described(6e-3, None)
    assert {row["verdict"] for row in said["numbers"]} == {"noise not known"}
    assert said["shares"] == []
    assert said["lesions"]["rows"][0]["short"] == "noise not known"
    assert said["lesions"]["counts"][0]["beyond"] == "–"
    assert "noise is not known for these networks" in said["noise"]
    other_rule = Noise(
        *(Limits(kind.changes, has_maps=False) for kind in (NOISE.one_scanner, NOISE.two_scanners)),
        "simulated",
    )
    said = described(6e-3, other_rule)
    assert said["numbers"][0]["one_scanner"] == "0.50"
    assert said["numbers"][1]["verdict"] == "noise not known"
    assert "For maps of this rule and number of copies, the noise is not known." in said["noise"]


def test_what_speaks_against_the_comparison_is_said():
    noisy = np.where(BRAIN, np.random.default_rng(0).normal(size=images.SHAPE), 0)
    (sentence,) = described(6e-3, scan=noisy)["warnings"]
    assert "Check that both are FLAIR scans of this person." in sentence
    (sentence,) = described(6e-3, alignment=one_scan.SEPARATE)["warnings"]
    assert "Give both scans raw" in sentence
    (sentence,) = described(6e-3, flags=["The brain ends in a plane."])["warnings"]
    assert sentence == "Quality control of the earlier scan: The brain ends in a plane."
