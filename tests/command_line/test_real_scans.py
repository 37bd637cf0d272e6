"""`msxai explain` on real scans, and from a wheel: what is written agrees with what is said."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from support.scripts import script

import msxai
from msxai.data import images
from msxai.data.prepared import Prepared
from msxai.data.single_scans import ScanFiles
from msxai.model import shipped
from msxai.quality import lesion_by_lesion, one_scan

pytestmark = [
    pytest.mark.real,
    pytest.mark.long(reason="four scans are registered and explained, 1 to 2 minutes each"),
]

CHECKOUT = (msxai.ROOT / "tools" / "quick_start", msxai.ROOT)


def command(*words, packages=CHECKOUT, cwd=None):
    """Run the command in a process of its own; its kernel imports from the same folders.

    Python puts the folder in which it starts before all others. To test another package, start it
    outside the checkout.
    """
    return subprocess.run(
        [sys.executable, "-m", "msxai.command_line", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, packages))},
    )


@pytest.fixture(scope="module")
def run(open_ms, tmp_path_factory):
    """A prepared scan with its lesions, a raw one without, and a broken one."""
    folder = tmp_path_factory.mktemp("runs")
    broken = folder / "broken.nii.gz"
    broken.write_bytes((open_ms / "mni" / "patient19_FLAIR.nii.gz").read_bytes()[:1_000_000])
    mask = open_ms / "lesions_mni" / "patient07_lesions.nii.gz"
    with_mask = [open_ms / "mni" / "patient07_FLAIR.nii.gz", broken]
    done = command("explain", *with_mask, "--lesions", mask, mask, "--out", folder / "a")
    raw = open_ms / "raw" / "patient01_study1_FLAIR.nii.gz"
    raw_done = command("explain", raw, "--out", folder / "b")
    return {"a": done, "b": raw_done, "folder": folder}


def test_exit_codes_and_what_is_left_out(run):
    assert run["a"].returncode == 1, run["a"].stderr
    assert "broken was left out" in run["a"].stderr
    assert run["b"].returncode == 0, run["b"].stderr
    assert not (run["folder"] / "a" / "broken").exists()
    for line in run["a"].stderr.splitlines():
        assert line.startswith("msxai"), line


@pytest.mark.parametrize("name", ["a/patient07_FLAIR", "b/patient01_study1_FLAIR"])
def test_numbers_are_those_of_the_maps(run, name):
    folder = run["folder"] / name
    table = pd.read_csv(folder.parent / "scans.csv").set_index("scan")
    row = table.loc[folder.name]
    in_mni = nib.load(folder / "relevance_space-MNI152.nii.gz")
    relevance = in_mni.get_fdata()
    assert in_mni.shape == images.SHAPE
    assert row["relevance"] == pytest.approx(relevance.sum(), rel=1e-4)
    sidecar = json.loads((folder / "relevance_space-MNI152.json").read_text())
    assert row["logit"] == pytest.approx(sidecar["MeanLogit"], rel=1e-6)
    assert row["conserved"] == pytest.approx(relevance.sum() / row["logit"], rel=1e-4)
    own = nib.load(folder / "relevance_space-orig.nii.gz")
    assert own.get_fdata().sum() == pytest.approx(relevance.sum(), rel=0.1, abs=0.1)
    page = (folder / "index.html").read_text()
    assert f"<b>{row['logit']:+.2f}</b>logit" in page
    assert (folder / "index.html").stat().st_size < 8_000_000
    assert re.search(r"patient\d", page) is None, "the name of the file"
    assert "/" + folder.parts[1] not in re.sub(r"base64,[^\"]*", "", page)


def test_a_scan_s_folder_holds_what_the_manual_lists_and_no_name(run):
    """The raw scan is registered, which leaves files with its name and its face."""
    folder = run["folder"] / "b" / "patient01_study1_FLAIR"
    files = [path for path in folder.rglob("*") if path.is_file()]
    manual = (msxai.ROOT / "docs" / "one-scan.md").read_text()
    for path in files:
        listed = f"SCAN/{path.relative_to(folder)}".replace(".json", ".nii.gz")
        assert listed in manual or path.name == "provenance.json", path
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert b"patient01" not in content, path


def test_the_own_space_is_that_of_the_file(run, open_ms):
    for scan, folder in {
        "mni/patient07_FLAIR.nii.gz": "a/patient07_FLAIR",
        "raw/patient01_study1_FLAIR.nii.gz": "b/patient01_study1_FLAIR",
    }.items():
        source = nib.load(open_ms / scan)
        own = nib.load(run["folder"] / folder / "relevance_space-orig.nii.gz")
        assert own.shape == source.shape
        np.testing.assert_allclose(own.affine, source.affine, atol=1e-4)


def test_lesions_are_those_of_the_file(run, open_ms):
    """Counted and measured by scipy in the file of the mask: 37 lesions, 1,300 mm3."""
    mask = nib.load(open_ms / "lesions_mni" / "patient07_lesions.nii.gz")
    components, count = ndimage.label(mask.get_fdata() > 0, np.ones((3, 3, 3)))
    volume = (components > 0).sum() * np.prod(mask.header.get_zooms()[:3], dtype=float)
    assert count == 37
    assert volume == pytest.approx(1300)
    folder = run["folder"] / "a" / "patient07_FLAIR"
    table = pd.read_csv(folder / "lesions.tsv", sep="\t")
    assert len(table) == count
    assert table["volume"].sum() == pytest.approx(volume)
    row = pd.read_csv(folder.parent / "scans.csv").iloc[0]
    assert row["lesions"] == count
    assert row["lesion_volume_mm3"] == pytest.approx(volume)
    page = (folder / "index.html").read_text()
    assert "The mask has 37 lesions with a total volume of 1.30 ml." in page


def test_counts_for_the_mcdonald_criteria_are_those_of_the_file(run, open_ms):
    """Voxels of 1 mm: the longest axis by all pairs of voxels, for each neighbourhood."""
    mask = nib.load(open_ms / "lesions_mni" / "patient07_lesions.nii.gz").get_fdata() > 0
    expected = []
    for connectivity in (3, 2, 1):
        structure = ndimage.generate_binary_structure(3, connectivity)
        labels, count = ndimage.label(mask, structure)
        long_enough = 0
        for number in range(1, count + 1):
            voxels = np.argwhere(labels == number)
            pairs = np.linalg.norm(voxels[:, None] - voxels, axis=-1)
            long_enough += pairs.max() + 1 >= 3
        expected.append(long_enough)
    page = (run["folder"] / "a" / "patient07_FLAIR" / "index.html").read_text(encoding="utf-8")
    table = page[page.index('id="mcdonald"') :]
    rows = re.findall(r"<tr><td>[^<]*</td>(<td class=\"number\">.*?)</tr>", table)[:4]
    numbers = np.array([re.findall(r"[\d.]+(?=<)", row) for row in rows], float)
    assert numbers[:, 0].sum() == 37
    assert numbers[:, 1:4].sum(axis=0).tolist() == expected
    assert numbers[:, 4].sum() == pytest.approx(1.3, abs=0.02)


def test_relevance_of_lesions_is_that_of_the_map(run, open_ms):
    folder = run["folder"] / "a" / "patient07_FLAIR"
    prepared = Prepared(folder / "prepared.h5")
    relevance = nib.load(folder / "relevance_space-MNI152.nii.gz").get_fdata()
    scan = open_ms / "mni" / "patient07_FLAIR.nii.gz"
    mask = open_ms / "lesions_mni" / "patient07_lesions.nii.gz"
    lesions = one_scan.lesions_of(ScanFiles(str(scan), str(mask)), prepared)
    table = pd.read_csv(folder / "lesions.tsv", sep="\t")
    for lesion in table[table["voxels"] > 0].itertuples():
        inside = lesions.labels == lesion.lesion
        assert lesion.voxels == inside.sum()
        assert lesion.relevance == pytest.approx(relevance[inside].sum(), rel=1e-3, abs=1e-5)
    lost = table[table["voxels"] == 0]
    assert (lost["effect"] == "too small for the network").all()
    assert lost["used"].isna().all()
    row = pd.read_csv(folder.parent / "scans.csv").iloc[0]
    assert row["lesions_used"] + row["lesions_not_used"] + len(lost) == row["lesions"]
    amounts = lesion_by_lesion.by_distance(relevance, prepared.lesions(0), prepared.brain(0))
    assert row["relevance_inside"] == pytest.approx(amounts["net"]["inside"], rel=1e-3)
    assert row["relevance_elsewhere"] == pytest.approx(amounts["net"]["elsewhere"], rel=1e-3)


def test_the_page_works_in_a_browser_without_a_network(run, browse):
    page = run["folder"] / "a" / "patient07_FLAIR" / "index.html"
    document = browse(page, "--host-resolver-rules=MAP * ~NOTFOUND")
    assert re.search(r'id="mm"[^>]*>z = -?\d+ mm<', document)
    assert re.search(r'<img id="scan"[^>]*src="data:image/jpeg', document)
    assert re.search(r'<img id="lesions"[^>]*src="data:image/png', document)


def test_the_executed_notebook_agrees(run):
    notebook = json.loads((run["folder"] / "a" / "10_one_scan.ipynb").read_text())
    text = json.dumps(notebook)
    row = pd.read_csv(run["folder"] / "a" / "scans.csv").iloc[0]
    networks = len(shipped.weights())
    assert f"mean logit of {networks} network(s): {row['logit']:+.3f}" in text


def test_a_resumed_run_keeps_what_is_done(run, open_ms):
    out = run["folder"] / "b"
    page = out / "patient01_study1_FLAIR" / "index.html"
    before = page.stat().st_mtime_ns
    raw = open_ms / "raw" / "patient01_study1_FLAIR.nii.gz"
    assert command("explain", raw, "--resume", "--out", out).returncode == 0
    assert page.stat().st_mtime_ns == before
    assert pd.read_csv(out / "scans.csv")["status"].tolist() == ["unchanged"]


@pytest.fixture(scope="module")
def visits(open_ms, tmp_path_factory):
    """Two raw visits; the published mask of change is the mask of now, the earlier one is empty."""
    folder = tmp_path_factory.mktemp("visits")
    files = script("new_lesions").write_masks(folder)
    words = ["explain", files.image, "--lesions", files.lesion_mask, "--out", folder / "out"]
    words += ["--before", files.before, "--before-lesions", files.before_lesion_mask]
    done = command(*words)
    assert done.returncode == 0, done.stderr
    return folder


def test_numbers_of_two_visits_are_those_of_the_files(visits, open_ms):
    (folder,) = [path for path in (visits / "out").iterdir() if path.is_dir()]
    change = nib.load(folder / one_scan.CHANGE_FILES["map"]).get_fdata()
    now = nib.load(folder / one_scan.MAPS["MNI152"]).get_fdata()
    (row,) = pd.read_csv(visits / "out" / "scans.csv").to_dict("records")
    prepared = Prepared(folder / "prepared.h5")
    earlier = nib.load(folder / one_scan.CHANGE_FILES["scan"]).get_fdata()
    brain = prepared.brain(0) | (earlier != 0)
    for kind in ("one_scanner", "two_scanners"):
        assert 0 < row[f"map_share_{kind}"] < 1
    sidecar = json.loads((folder / "relevance_change_space-MNI152.json").read_text())
    assert sidecar["Alignment"] == one_scan.ALIGNED
    limits = sidecar["LimitsOfNoise"]
    for name, kind in (("OneScanner", "one_scanner"), ("TwoScanners", "two_scanners")):
        assert row[f"limit_{kind}"] == pytest.approx(limits[name]["LogitChange"])
        share = (np.abs(change[brain]) > limits[name]["ChangeOf0.1Percent"]).mean()
        assert row[f"map_share_{kind}"] == pytest.approx(share, rel=0.02)
    assert row["logit"] - row["logit_before"] == pytest.approx(row["logit_change"])
    scan = open_ms / "longitudinal" / "patient01_study2_FLAIR.nii.gz"
    files = ScanFiles(str(scan), str(visits / "now.nii.gz"))
    lesions = one_scan.lesions_of(files, prepared)
    table = pd.read_csv(folder / one_scan.CHANGE_FILES["lesions"], sep="\t")
    assert set(table["change"]) == {"new"}
    assert len(table) == row["lesions_new"] == lesions.count
    large = table[table["lesions_now"].isin(lesions.numbers)]
    for lesion in large.itertuples():
        inside = lesions.labels == lesion.lesions_now
        assert lesion.volume_now == pytest.approx(lesions.volumes[lesion.lesions_now - 1], rel=1e-4)
        assert lesion.relevance_now == pytest.approx(now[inside].sum(), rel=1e-3, abs=1e-5)
        assert lesion.relevance_change == pytest.approx(change[inside].sum(), rel=1e-3, abs=1e-5)
    page = (folder / "index.html").read_text()
    for column in ("logit_before", "logit", "logit_change"):
        assert f'<td class="number">{row[column]:+.2f}</td>' in page


def built_wheel(folder):
    """Build the wheel from a copy of the checkout, and unpack it; the folder that imports find."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(msxai.ROOT / name, source)
    for name in ("msxai", "notebooks"):
        ignored = shutil.ignore_patterns("*.pyc", "*.nbi", "*.nbc")
        shutil.copytree(msxai.ROOT / name, source / name, ignore=ignored, symlinks=True)
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    shutil.rmtree(source)
    installed = folder / "installed"
    with zipfile.ZipFile(wheel) as file:
        file.extractall(installed)
    return installed


def test_a_wheel_holds_all_that_the_command_needs(tmp_path, open_ms):
    """Unpacked elsewhere, it explains a scan.

    A cell that is added to its notebook shows that the process took this notebook, and which
    package the kernel imports.
    """
    installed = built_wheel(tmp_path)
    text = (installed / next(installed.glob("*.dist-info")).name / "entry_points.txt").read_text()
    assert "msxai = msxai.command_line.program:main" in text
    path = installed / "msxai" / "command_line" / "notebooks" / "10_one_scan.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("import msxai; print(msxai.__file__)"))
    path.unlink()
    nbformat.write(notebook, path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    scan = open_ms / "mni" / "patient19_FLAIR.nii.gz"
    lesions = open_ms / "lesions_mni" / "patient19_lesions.nii.gz"
    words = ["explain", scan, "--lesions", lesions, "--out", tmp_path / "out"]
    done = command(*words, packages=[installed], cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    pages = list(Path(tmp_path / "out").glob("*/index.html"))
    assert len(pages) == 1
    executed = nbformat.read(tmp_path / "out" / path.name, as_version=4)
    (output,) = executed.cells[-1].outputs
    assert output.text.strip() == str(installed / "msxai" / "__init__.py")
