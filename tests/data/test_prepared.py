"""Prepared arrays: what is stored is what an independent reading of the scans gives, and nothing
broken or leaking passes.
"""

import hashlib
import threading
import tracemalloc

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from msxai.base.errors import (
    ImageError,
    MissingStepError,
    ParameterError,
    SplitError,
    StaleInputError,
)
from msxai.data import images, prepared
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import Cohort

PARTS = ["training", "training", "training", "validation", "holdout", "holdout"]


def scan(seed, person=None, noise=0.1):
    """An anatomy (smooth, of a person) with noise of its own, in an ellipsoid."""
    rng = np.random.default_rng(1000 + (seed if person is None else person))
    coarse = rng.normal(size=(8, 10, 8)).repeat(12, 0).repeat(12, 1)[:, :114].repeat(12, 2)
    grid = np.indices(images.SHAPE) - (np.array(images.SHAPE)[:, None, None, None] - 1) / 2
    inside = ((grid / np.array([36, 45, 36])[:, None, None, None]) ** 2).sum(axis=0) < 1
    values = 100 + 20 * coarse + 20 * noise * np.random.default_rng(seed).normal(size=images.SHAPE)
    return np.where(inside, np.clip(values, 1, None), 0).astype("int16"), inside


def make_cohort(folder, people=range(6), parts=PARTS):
    rows = []
    for index, person in enumerate(people):
        values, inside = scan(index, person)
        paths = {
            name: str(folder / f"{index}_{name}.nii.gz")
            for name in ("image", "brain_mask", "lesion_mask")
        }
        lesions = np.zeros(images.SHAPE, "uint8")
        lesions[40:44, 50:53, 40 + index] = 1
        for path, stored in zip(
            paths.values(), (values, inside.astype("uint8"), lesions), strict=True
        ):
            nib.save(nib.Nifti1Image(stored, images.AFFINE), path)
        rows.append(
            {
                "participant_id": f"sub-{index}",
                "session_id": "",
                "group": "MS",
                "label": index % 2,
                **paths,
            }
        )
    table = pd.DataFrame(rows).astype({"label": "Int64"})
    return Cohort("toy", table, True, "FLAIR"), table[["participant_id", "session_id"]].assign(
        part=list(parts)
    )


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    cohort, split = make_cohort(folder)
    prepared.prepare(cohort, split, folder / "toy.h5", parameters={"cohort": "toy"})
    splits.write(split, folder / "split.tsv")
    return folder, cohort, split


def test_images_are_z_scored_inside_their_own_brain(toy):
    folder, cohort, _ = toy
    arrays = prepared.Prepared(folder / "toy.h5", folder / "split.tsv")
    for row, entry in enumerate(cohort.table.itertuples()):
        values, inside = (
            nib.load(entry.image).get_fdata(),
            nib.load(entry.brain_mask).get_fdata() > 0,
        )
        expected = np.where(inside, (values - values[inside].mean()) / values[inside].std(), 0)
        np.testing.assert_allclose(arrays.image(row), expected, atol=1e-5)
        np.testing.assert_array_equal(arrays.brain(row), inside)
        np.testing.assert_array_equal(
            arrays.lesions(row), nib.load(entry.lesion_mask).get_fdata() > 0
        )
    assert arrays.image(0).dtype == np.float32
    np.testing.assert_array_equal(arrays.affine, images.AFFINE)


def test_the_file_says_whose_scans_they_are(toy):
    folder, cohort, split = toy
    arrays = prepared.Prepared(folder / "toy.h5")
    assert list(arrays.table["participant_id"]) == list(cohort.table["participant_id"])
    assert list(arrays.table["label"]) == list(cohort.table["label"])
    assert list(arrays.table["part"]) == list(split["part"])
    for row, entry in enumerate(cohort.table.itertuples()):
        with open(entry.image, "rb") as file:
            assert arrays.table["source_sha256"][row] == hashlib.sha256(file.read()).hexdigest()
    assert arrays.has_lesions.all()
    assert (arrays.name, arrays.modality, arrays.normalisation, arrays.synthetic) == (
        "toy",
        "FLAIR",
        "zscore",
        True,
    )
    assert [list(arrays.rows(part)) for part in splits.PARTS] == [[0, 1, 2], [3], [4, 5]]
    assert list(arrays.rows("all")) == [0, 1, 2, 3, 4, 5]
    assert arrays.row("sub-3") == 3
    with h5py.File(folder / "toy.h5") as file:
        for name in ("images", "brain", "lesions"):
            assert file[name].chunks == (1, *images.SHAPE)
            assert file[name].compression == "gzip"


def test_the_split_file_decides(toy, tmp_path):
    folder, _, split = toy
    splits.write(split.assign(part=["holdout"] * 6), tmp_path / "other.tsv")
    assert list(prepared.Prepared(folder / "toy.h5", tmp_path / "other.tsv").rows("holdout")) == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]


@pytest.mark.long(reason="starts two more processes, 6 s")
def test_jobs_do_not_change_the_bytes(toy, tmp_path):
    folder, cohort, split = toy
    prepared.prepare(cohort, split, tmp_path / "two.h5", parameters={"cohort": "toy"}, jobs=2)
    assert (tmp_path / "two.h5").read_bytes() == (folder / "toy.h5").read_bytes()


@pytest.mark.long(reason="memory of a cohort against another, 3 s")
def test_memory_does_not_grow_with_the_cohort(tmp_path):
    """Peak of Python's and numpy's memory, 2 scans against 6; reading and storing all would add 4 x
    4 MB of float32.
    """
    peaks = []
    for count in (2, 6):
        folder = tmp_path / str(count)
        folder.mkdir()
        cohort, split = make_cohort(folder, range(count), ["training"] * count)
        tracemalloc.start()
        prepared.prepare(cohort, split, folder / "out.h5")
        arrays = prepared.Prepared(folder / "out.h5")
        for row in range(count):
            arrays.image(row)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 4e6


def test_voxelwise_against_numpy(toy, tmp_path):
    _, cohort, split = toy
    prepared.prepare(cohort, split, tmp_path / "v.h5", prepared.PreparationOptions("voxelwise"))
    scans = np.stack([nib.load(path).get_fdata() for path in cohort.table["image"]])
    low, high = (
        pick(scans, axis=(1, 2, 3), keepdims=True) for pick in (np.min, np.max)
    )  # of each whole scan
    scaled = (scans - low) / (high - low)
    mean, spread = scaled[:3].mean(axis=0), scaled[:3].std(axis=0)  # of the training part
    expected = np.divide(scaled - mean, spread, out=np.zeros_like(scaled), where=spread > 1e-6)
    arrays = prepared.Prepared(tmp_path / "v.h5")
    for row in range(6):
        np.testing.assert_allclose(arrays.image(row), expected[row], rtol=1e-3, atol=1e-3)


def broken_copies(path, folder):
    """Copies of a prepared cohort that something from outside has damaged."""
    whole = path.read_bytes()
    flipped = bytearray(whole)
    middle = len(whole) // 2
    flipped[middle : middle + 3000] = bytes(255 - byte for byte in whole[middle : middle + 3000])
    contents = {"text": b"scan", "empty": b"", "cut": whole[:-100], "flipped": bytes(flipped)}
    for name, content in contents.items():
        (folder / f"{name}.h5").write_bytes(content)
    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = 1
    (folder / "folder.h5").mkdir()
    return [*contents, "other", "folder"]


def test_a_damaged_file_is_refused(toy, tmp_path):
    for name in broken_copies(toy[0] / "toy.h5", tmp_path):
        with pytest.raises(StaleInputError, match=f"{name}.h5: found a damaged file"):
            [prepared.Prepared(tmp_path / f"{name}.h5").image(row) for row in range(6)]
    with pytest.raises(MissingStepError, match=r"none\.h5: found nothing"):
        prepared.Prepared(tmp_path / "none.h5")


def test_threads_read_what_one_reads(toy):
    arrays = prepared.Prepared(toy[0] / "toy.h5")
    alone, wrong = [arrays.image(row) for row in range(6)], []

    def read():
        wrong.extend(
            row
            for row in [0, 5, 2, 4, 1, 3] * 3
            if not np.array_equal(arrays.image(row), alone[row])
        )

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    arrays.close()
    np.testing.assert_array_equal(arrays.image(1), alone[1])


# --- what goes wrong ---


def test_a_broken_scan_leaves_the_earlier_file_alone(tmp_path):
    cohort, split = make_cohort(tmp_path, range(3), PARTS[:3])
    prepared.prepare(cohort, split, tmp_path / "out.h5")
    earlier = (tmp_path / "out.h5").read_bytes()
    values, _ = scan(9)
    nib.save(
        nib.Nifti1Image(np.where(values > 0, np.nan, 0).astype("float32"), images.AFFINE),
        cohort.table["image"][2],
    )
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ImageError, match="2_image"):
        prepared.prepare(cohort, split, tmp_path / "out.h5")
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "out.h5").read_bytes() == earlier


def test_a_constant_scan_is_named(tmp_path):
    cohort, split = make_cohort(tmp_path, range(3), PARTS[:3])
    _, inside = scan(9)
    nib.save(nib.Nifti1Image(inside.astype("int16"), images.AFFINE), cohort.table["image"][1])
    with pytest.raises(ImageError, match="1_image"):
        prepared.prepare(cohort, split, tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("given", [{"normalisation": "zscor"}, {"interpolation": "cubic"}])
def test_a_name_that_is_none(toy, tmp_path, given):
    with pytest.raises(ParameterError, match="expected one of"):
        prepared.prepare(toy[1], toy[2], tmp_path / "out.h5", prepared.PreparationOptions(**given))


@pytest.mark.parametrize(
    "change", [lambda split: split.iloc[1:], lambda split: split.replace("sub-3", "sub-9")]
)
def test_a_split_of_other_scans(toy, tmp_path, change):
    with pytest.raises(SplitError, match="other scans than the cohort has"):
        prepared.prepare(toy[1], change(toy[2]), tmp_path / "out.h5")


@pytest.mark.parametrize("second", [1, 4], ids=["in one part", "in two parts"])
def test_one_file_under_two_names(toy, tmp_path, second):
    _, cohort, split = toy
    table = cohort.table.copy()
    table.loc[second, "image"] = table.loc[0, "image"]
    with pytest.raises(SplitError) as refused:
        prepared.prepare(Cohort("toy", table, True, "FLAIR"), split, tmp_path / "out.h5")
    assert str(refused.value).startswith(
        f"sub-0 (training) and sub-{second} ({PARTS[second]}): found the same file under two names;"
        " expected each scan under the name of one subject."
    )
    assert not (tmp_path / "out.h5").exists()


# --- leaks ---


def test_no_leak_where_everybody_stands_once(toy):
    assert prepared.leaks(prepared.Prepared(toy[0] / "toy.h5")).empty


ANOTHER_PAIR = pytest.mark.long(reason="six simulated scans, 2 s; one pair of parts is quick")


@pytest.mark.parametrize(
    ("first", "second"),
    [(0, 4), pytest.param(3, 5, marks=ANOTHER_PAIR), pytest.param(1, 3, marks=ANOTHER_PAIR)],
)
def test_a_person_under_two_names_is_found(tmp_path, first, second):
    """Another scan of the same anatomy (other noise, other file), in any two parts."""
    people = list(range(6))
    people[second] = people[first]
    cohort, split = make_cohort(tmp_path, people)
    prepared.prepare(cohort, split, tmp_path / "out.h5")
    leaks = prepared.leaks(prepared.Prepared(tmp_path / "out.h5"))
    assert list(zip(leaks["participant_id"], leaks["neighbour"], strict=True)) == [
        (f"sub-{first}", f"sub-{second}")
    ]
    assert (leaks["part"][0], leaks["neighbour_part"][0]) == (PARTS[first], PARTS[second])
    assert leaks["distance"][0] < leaks["limit"][0]


class Noise:
    """Prepared scans of noise, made when they are read; scans 3 and 40 are alike."""

    def __init__(self, count):
        parts = np.array(splits.PARTS)[np.arange(count) % 3]
        names = [f"sub-{number:03}" for number in range(count)]
        self.table = pd.DataFrame({"participant_id": names, "part": parts})

    def image(self, row):
        person = 3 if row == 40 else row
        values = np.random.default_rng(person).normal(size=(12, 12, 12)).astype("float32")
        return values + 0.1 * np.random.default_rng(1000 + row).normal(size=values.shape)


@pytest.mark.parametrize(("held", "read"), [(8, 4), (64, 16), (2000, 100)])
def test_leaks_are_the_same_however_many_scans_are_in_memory(monkeypatch, held, read):
    monkeypatch.setattr(prepared, "_HELD", held)
    monkeypatch.setattr(prepared, "_READ", read)
    noise = Noise(50)
    features = np.stack([prepared._block_means(noise.image(row), 3) for row in range(50)])
    distance = 1 - np.corrcoef(features)
    parts = noise.table["part"].to_numpy()
    distance[parts[:, None] == parts] = np.inf
    limit = np.median(distance.min(axis=1)) / 2
    [pair] = prepared.leaks(noise).to_dict("records")
    assert (pair["participant_id"], pair["neighbour"]) == ("sub-003", "sub-040")
    assert pair["distance"] == pytest.approx(distance[3, 40], rel=1e-4)
    assert pair["limit"] == pytest.approx(limit, rel=1e-4)


def test_the_memory_of_leaks_does_not_grow_with_the_cohort(monkeypatch):
    """All pairs of 10,000 scans took 4 GB; a job of 01 asks for 2."""
    monkeypatch.setattr(prepared, "_HELD", 100)
    monkeypatch.setattr(prepared, "_READ", 20)
    peaks = []
    for count in (300, 900):
        noise = Noise(count)
        tracemalloc.start()
        prepared.leaks(noise)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_two_visits_in_one_part_are_no_leak(tmp_path):
    cohort, split = make_cohort(tmp_path, [0, 1, 1, 3, 4, 5])
    prepared.prepare(cohort, split, tmp_path / "out.h5")
    assert prepared.leaks(prepared.Prepared(tmp_path / "out.h5")).empty


def test_one_part_alone(tmp_path):
    cohort, split = make_cohort(tmp_path, range(3), ["holdout"] * 3)
    prepared.prepare(cohort, split, tmp_path / "out.h5")
    assert prepared.leaks(prepared.Prepared(tmp_path / "out.h5")).empty
