"""What is said to be nameless in the folder of a scan is so, byte by byte."""

import gzip
import json

import h5py
import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from support.networks import with_weights

from msxai.base.notices import NOTICE
from msxai.data import images
from msxai.data.prepared import Prepared
from msxai.data.single_scans import ScanFiles
from msxai.data.synthetic.simulated_pairs import WITH, WITHOUT, PairOptions, simulate_pair
from msxai.model import network
from msxai.quality import one_scan
from msxai.report.one_scan import batch

NAME = "Erika_Mustermann"
HIDDEN = (NAME, "Mustermann", "1961-04-23")


def telling_scan(folder):
    """Files whose folder, names and headers name a person."""
    scans, _ = simulate_pair(PairOptions(pairs=2, seed=7, contrast="own"), 0)
    brain = scans[WITHOUT] != 0
    labels, _ = ndimage.label(np.abs(scans[WITH] - scans[WITHOUT]) > 1)
    largest = np.bincount(labels.ravel())[1:].argmax() + 1  # each lesion takes seconds
    volumes = {
        "image": np.where(brain, 10 + scans[WITH], 0).astype("float32"),
        "lesion_mask": (labels == largest).astype("uint8"),
        "brain_mask": brain.astype("uint8"),
    }
    folder = folder / NAME
    folder.mkdir()
    paths = {}
    for kind, values in volumes.items():
        image = nib.Nifti1Image(values, images.AFFINE)
        image.set_sform(images.AFFINE, code=4)
        image.header["descrip"] = image.header["db_name"] = NAME
        comment = nib.nifti1.Nifti1Extension("comment", f"{NAME} 1961-04-23".encode())
        image.header.extensions.append(comment)
        paths[kind] = str(folder / f"{NAME}_1961-04-23_{kind}.nii.gz")
        nib.save(image, paths[kind])
    return ScanFiles(**paths)


def settings(folder):
    """A narrow network, which is fast; its file names a person, too."""
    return one_scan.Settings(weights=(str(folder / f"{NAME}.npz"),))


def content(path):
    """Return all bytes of a file, decompressed."""
    if path.name.endswith(".gz"):
        return gzip.decompress(path.read_bytes())
    chunks = [path.read_bytes()]
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            chunks += [str(dict(file.attrs)).encode()]
            chunks += [np.asarray(file[name]).tobytes() for name in file]
            chunks += [bytes(file["table"][()])]
    return b"".join(chunks)


@pytest.fixture(scope="module")
def run(tmp_path_factory, one_thread):
    """The folder of a run over one scan."""
    folder = tmp_path_factory.mktemp("run")
    files = telling_scan(folder)
    network.save_weights(with_weights(1, images.SHAPE), folder / f"{NAME}.npz")
    table = batch.explain_all([files], folder / "out", settings(folder))
    assert table["status"].tolist() == ["done"], table["reason"].tolist()
    return folder / "out"


@pytest.mark.long(reason="a scan is explained as users do, 14 s")
def test_a_scan_s_folder_names_nobody(run):
    (folder,) = [path for path in run.iterdir() if path.is_dir()]
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert {path.name for path in files} == {
        *("index.html", "lesions.tsv", "prepared.h5", "provenance.json"),
        *("relevance_space-MNI152.json", "relevance_space-MNI152.nii.gz"),
        *("relevance_space-orig.json", "relevance_space-orig.nii.gz", "scan_space-MNI152.nii.gz"),
    }
    for path in files:
        text = content(path)
        for word in (*HIDDEN, str(run.parent)):
            assert word.encode() not in text, (path.name, word)


def test_a_sidecar_has_what_those_of_a_cohort_have(run):
    (folder,) = [path for path in run.iterdir() if path.is_dir()]
    for space in ("MNI152", "orig"):
        sidecar = json.loads((folder / f"relevance_space-{space}.json").read_text())
        image = nib.load(folder / f"relevance_space-{space}.nii.gz")
        assert sidecar["Space"] == space
        assert sidecar["SumOfRelevance"] == pytest.approx(image.get_fdata().sum(), rel=1e-4)
        assert sidecar["Engine"] == "msxai"
        assert sidecar["Target"] == "logit"
        assert sidecar["Statistic"] == "mean over networks"
        assert sidecar["LesionFilling"] == "none"
        assert sidecar["Synthetic"] is False
        assert sidecar["Notice"] == NOTICE
        absorbed = sum(layer["bias"] + layer["stabiliser"] for layer in sidecar["Audit"][0])
        expected = sidecar["SumPerTrial"][0] + absorbed
        assert sidecar["Logits"] == [pytest.approx(expected, rel=1e-3)] == sidecar["LogitsOfScan"]


def test_what_is_said_to_have_names_has_them(run):
    for name in ("scans.csv", "index.html"):
        assert NAME in (run / name).read_text()


def test_the_prepared_scan_can_still_be_read(run):
    (path,) = run.glob("*/prepared.h5")
    prepared = Prepared(path)
    assert prepared.table["image"].tolist() == ["image"]
    assert prepared.table["lesion_mask"].tolist() == ["lesion mask"]
    assert prepared.has_lesions.tolist() == [True]
    assert prepared.lesions(0).any()
    assert prepared.synthetic is False
    scan = nib.load(path.with_name("scan_space-MNI152.nii.gz")).get_fdata()
    np.testing.assert_allclose(scan, prepared.image(0), atol=1e-5)


def test_a_run_that_is_resumed_has_the_names_again(run):
    before = (run / "scans.csv").read_text()
    paths = {}
    for kind in ("image", "lesion_mask", "brain_mask"):
        (paths[kind],) = map(str, (run.parent / NAME).glob(f"*{kind}.nii.gz"))
    files = ScanFiles(**paths)
    table = batch.explain_all([files], run, settings(run.parent), resume=True)
    assert table["status"].tolist() == ["unchanged"]
    assert (run / "scans.csv").read_text() == before.replace("done", "unchanged")


def test_what_shows_a_face_is_removed(run, tmp_path):
    (path,) = run.glob("*/prepared.h5")
    for name in ("registration/sub-a/anat/sub-a_desc-preproc_FLAIR.nii.gz", "prepared_T1w.h5"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a face")
    (tmp_path / "prepared.h5").write_bytes(path.read_bytes())
    one_scan.remove_names(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["prepared.h5"]
