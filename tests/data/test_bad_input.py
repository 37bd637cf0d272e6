"""Bad input by kind: each is one typed error that says where, what was found, what was expected
and how to mend it. No file is left behind.

Every test spoils one thing in the same small study and prepares it as the notebooks do:
open_cohort, splits.make, prepare.
"""

import gzip
import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from msxai.base import provenance, tsv
from msxai.base.errors import (
    CohortError,
    ImageError,
    MsxaiError,
    ParameterError,
    SplitError,
    StaleInputError,
)
from msxai.base.results import Results
from msxai.data import images
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import open_cohort
from msxai.data.prepared import Prepared, prepare
from msxai.model import seen_scans

AFFINE = np.array([[-9.0, 0, 0, 90], [0, 9, 0, -126], [0, 0, 9, -72], [0, 0, 0, 1]])
SHAPE = (21, 25, 21)
BAD = "s3"  # of six: scans before it are on disk already when it fails


def save(path, values, affine=AFFINE, code=2):
    image = nib.Nifti1Image(values, affine)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    nib.save(image, path)


def ball(radius=8):
    grid = np.indices(SHAPE) - np.reshape([10, 12, 10], (3, 1, 1, 1))
    return (grid**2).sum(0) < radius**2


def scan(seed):
    return np.where(ball(), np.random.default_rng(seed).integers(50, 150, SHAPE), 0).astype("int16")


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """Three patients, three controls, their masks, a table of paths."""
    folder = tmp_path_factory.mktemp("template")
    rows = []
    for index in range(6):
        lesions = np.zeros(SHAPE, "uint8")
        lesions[8:11, 10 + index % 3, 9:12] = 1
        for name, values in (
            ("", scan(index)),
            ("_brain", ball().astype("uint8")),
            ("_lesions", lesions),
        ):
            save(folder / f"s{index}{name}.nii.gz", values)
        paths = {
            name: f"s{index}{end}.nii.gz"
            for name, end in (("image", ""), ("brain_mask", "_brain"), ("lesion_mask", "_lesions"))
        }
        rows.append(
            {
                "participant_id": f"s{index}",
                "group": ["HC", "MS"][index % 2],
                "site": "AB"[index > 3],
                "age": 30 + index,
                **paths,
            }
        )
    pd.DataFrame(rows).to_csv(folder / "study.csv", index=False)
    return folder


@pytest.fixture
def study(template, tmp_path):
    return shutil.copytree(template, tmp_path / "study")


def run(study, out, source="study.csv", holdout=(1, 1), **settings):
    """What notebook 01 does."""
    site = settings.pop("holdout_site", ())
    change = settings.pop("change", lambda split: split)
    cohort = open_cohort(study / source, **settings)
    cohort = replace(cohort, table=spoilt_scan_second(cohort.table))
    prepare(cohort, change(splits.make(cohort.table, holdout, 0.3, 0, site)), out / "study.h5")
    return cohort


def spoilt_scan_second(table):
    """Place the spoilt scan so that one scan is written before it; each takes a third of a
    second.
    """
    is_spoilt = table["participant_id"] == f"sub-{BAD}"
    others = table[~is_spoilt]
    return pd.concat([others[:1], table[is_spoilt], others[1:]], ignore_index=True)


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_study_itself_is_good(study, tmp_path):
    run(study, tmp_path / "out")
    arrays = Prepared(tmp_path / "out" / "study.h5")
    assert len(arrays.table) == 6
    assert all(arrays.lesions(row).any() for row in range(6))


# Header: the scan of s3


def no_space(study):
    save(study / f"{BAD}.nii.gz", scan(3), code=0)


def flat(study):
    image = nib.Nifti1Image(scan(3), AFFINE)
    block = bytearray(image.header.binaryblock)
    block[254:256] = np.int16(1).tobytes()  # sform_code
    block[280:328] = np.diag([9.0, 9, 0, 1])[:3].astype("<f4").tobytes()
    block[108:112] = np.float32(352).tobytes()
    (study / f"{BAD}.nii.gz").write_bytes(
        gzip.compress(bytes(block) + bytes(4) + scan(3).tobytes(order="F"))
    )


def four_axes(study):
    save(study / f"{BAD}.nii.gz", np.stack([scan(3), scan(4)], axis=-1))


def not_a_number(study):
    save(study / f"{BAD}.nii.gz", np.where(ball(2), np.nan, scan(3)).astype("float32"))


def infinite(study):
    save(study / f"{BAD}.nii.gz", np.where(ball(1), np.inf, scan(3)).astype("float32"))


def two_hands(study):
    """A qform written by a tool that took the voxels as stored from right to left."""
    image = nib.Nifti1Image(scan(3), AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(np.diag([-1.0, 1, 1, 1]) @ AFFINE, 1)
    nib.save(image, study / f"{BAD}.nii.gz")


HEADER = {
    no_space: (ImageError, "s3.nii.gz", "declares no space"),
    flat: (ImageError, "s3.nii.gz", "determinant 0"),
    four_axes: (ImageError, "s3.nii.gz", "4 axes"),
    not_a_number: (ImageError, "s3.nii.gz", "NaN or infinite"),
    infinite: (ImageError, "s3.nii.gz", "1 voxels that are NaN or infinite"),
    two_hands: (ImageError, "s3.nii.gz", "sform left-handed, qform right-handed"),
}


# File: the scan of s3


def missing(study):
    (study / f"{BAD}.nii.gz").unlink()


def a_folder(study):
    missing(study)
    (study / f"{BAD}.nii.gz").mkdir()


def empty(study):
    (study / f"{BAD}.nii.gz").write_bytes(b"")


def truncated_gz(study):
    path = study / f"{BAD}.nii.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def truncated(study):
    save(study / "s3.nii", scan(3))
    (study / "s3.nii").write_bytes((study / "s3.nii").read_bytes()[:4000])
    text(study, "s3.nii.gz", "s3.nii")


def flipped(study):
    path = study / f"{BAD}.nii.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def web_page(study):
    (study / f"{BAD}.nii.gz").write_text("<!DOCTYPE html><html>Please log in</html>")


def no_nifti(study):
    (study / f"{BAD}.nii.gz").write_bytes(gzip.compress(b"no image\n" * 100))


def colours(study):
    save(study / f"{BAD}.nii.gz", np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]))


def complex_numbers(study):
    save(study / f"{BAD}.nii.gz", scan(3).astype("complex64"))


def constant(study):
    save(study / f"{BAD}.nii.gz", ball().astype("int16"))


FILE = {
    missing: (CohortError, "study.csv, column image", "s3.nii.gz, which is not there"),
    a_folder: (CohortError, "study.csv, column image", "which is a folder"),
    empty: (ImageError, "s3.nii.gz", "0 bytes"),
    truncated_gz: (ImageError, "s3.nii.gz", "damaged"),
    truncated: (ImageError, "s3.nii", "damaged"),
    flipped: (ImageError, "s3.nii.gz", "damaged"),
    web_page: (ImageError, "s3.nii.gz", "web page"),
    no_nifti: (ImageError, "s3.nii.gz", "no NIfTI"),
    colours: (ImageError, "s3.nii.gz", "voxels of type"),
    complex_numbers: (ImageError, "s3.nii.gz", "complex64"),
    constant: (ImageError, "s3.nii.gz", "same value"),
}


# Table


def text(study, old, new, name="study.csv"):
    path = study / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def yaml(study, content):
    (study / "study.yaml").write_text(content)
    return {"source": "study.yaml"}


def bids(study):
    """The study as a BIDS folder."""
    (study / "participants.tsv").write_text(
        "participant_id\tgroup\n" + "".join(f"s{index}\t{'HM'[index % 2]}\n" for index in range(6))
    )
    for index in range(6):
        anat = study / f"sub-s{index}" / "anat"
        anat.mkdir(parents=True)
        shutil.copy(study / f"s{index}.nii.gz", anat / f"sub-s{index}_FLAIR.nii.gz")
    return {"source": "", "patients": "M", "controls": "H"}


def column(study):
    text(study, ",image", ",scan")


def twice(study):
    text(study, "s3,MS", "s1,MS")


def no_rows(study):
    (study / "study.csv").write_text((study / "study.csv").read_text().partition("\n")[0] + "\n")


def no_bytes(study):
    (study / "study.csv").write_bytes(b"")


def encoding(study):
    text(study, "s3,MS,A", "s3,MS,Zürich")
    (study / "study.csv").write_bytes((study / "study.csv").read_text().encode("latin-1"))


def age(study):
    text(study, ",33,", ",thirty-three,")


def longer(study):
    text(study, "s3_lesions.nii.gz", "s3_lesions.nii.gz,1")


def one_name(study):
    text(study, "s3,MS", "s-1,MS")


def no_path(study):
    text(study, ",s3.nii.gz", ",")


def no_table(study):
    return {"source": "stdy.csv"}


def no_cohort(study):
    return {"source": "../phantom-mz"}


def broken_yaml(study):
    return yaml(study, "path: [study.csv\n")


def yaml_key(study):
    return yaml(study, "path: study.csv\nlabel_colum: group\n")


def yaml_kind(study):
    return yaml(study, "path: study.csv\nkind: adn\n")


def bids_twice(study):
    given = bids(study)
    text(study, "s3\t", "sub-s1\t", "participants.tsv")
    return given


def bids_without_scan(study):
    given = bids(study)
    (study / "sub-s3" / "anat" / "sub-s3_FLAIR.nii.gz").unlink()
    return given


def bids_two_scans(study):
    given = bids(study)
    shutil.copy(study / "s4.nii.gz", study / "sub-s3" / "anat" / "sub-s3_FLAIR.nii")
    return given


TABLE = {
    column: (CohortError, "study.csv, column image", "only the columns"),
    twice: (CohortError, "study.csv", "two scans of sub-s1"),
    no_rows: (CohortError, "study.csv", "no rows"),
    no_bytes: (CohortError, "study.csv", "no table"),
    encoding: (CohortError, "study.csv", "UTF-8"),
    age: (CohortError, "study.csv, column age", "'thirty-three'"),
    longer: (CohortError, "study.csv", "no table"),
    one_name: (CohortError, "study.csv, column participant_id", "s-1 and s1"),
    no_path: (CohortError, "study.csv, column image", "no path for sub-s3"),
    no_table: (CohortError, "stdy.csv", "no such file"),
    no_cohort: (CohortError, "phantom-mz", "no such folder"),
    broken_yaml: (CohortError, "study.yaml", "no YAML"),
    yaml_key: (ParameterError, "study.yaml", "Did you mean label_column?"),
    yaml_kind: (ParameterError, "study.yaml", "Did you mean adni?"),
    bids_twice: (CohortError, "participants.tsv, column participant_id", "sub-s1 twice"),
    bids_without_scan: (CohortError, "sub-s3", "no FLAIR scan"),
    bids_two_scans: (CohortError, "sub-s3", "2 FLAIR scans"),
}


# Mask: of s3


def elsewhere(study):
    affine = AFFINE.copy()
    affine[2, 3] += 300
    save(study / "s3_brain.nii.gz", ball().astype("uint8"), affine)


def other_space(study):
    """The voxels of the scan's grid under a header of its own, as if cut out and saved anew."""
    save(
        study / "s3_lesions.nii.gz",
        np.ones((3, 3, 3), "uint8"),
        nib.affines.from_matvec(np.eye(3), [200, 200, 200]),
    )


def no_brain(study):
    save(study / "s3_brain.nii.gz", np.zeros(SHAPE, "uint8"))


def mask_not_a_number(study):
    save(study / "s3_lesions.nii.gz", np.where(ball(2), np.nan, 0).astype("float32"))


def improbable(study):
    save(study / "s3_lesions.nii.gz", (0.3 * ball(4)).astype("float32"))


def a_scan_as_mask(study):
    save(study / "s3_brain.nii.gz", scan(3) / np.float32(7))


def scan_as_lesion_mask(study):
    shutil.copy(study / "s3.nii.gz", study / "s3_lesions.nii.gz")


def brain_as_lesion_mask(study):
    shutil.copy(study / "s3_brain.nii.gz", study / "s3_lesions.nii.gz")


def scan_as_brain_mask(study):
    shutil.copy(study / "s3.nii.gz", study / "s3_brain.nii.gz")


def mask_of_four_axes(study):
    save(study / "s3_lesions.nii.gz", np.stack([ball(2), ball(3)], axis=-1).astype("uint8"))


def no_mask_file(study):
    (study / "s3_lesions.nii.gz").unlink()


def two_masks(study):
    given = bids(study)
    for tool in ("a", "b"):
        (study / "derivatives" / tool / "sub-s3" / "anat").mkdir(parents=True)
        shutil.copy(
            study / "s3_brain.nii.gz",
            study / "derivatives" / tool / "sub-s3" / "anat" / "sub-s3_desc-brain_mask.nii.gz",
        )
    return given


MASK = {
    elsewhere: (ImageError, "s3_brain.nii.gz", "0% lies on its scan"),
    other_space: (ImageError, "s3_lesions.nii.gz", "0% lies on its scan"),
    no_brain: (ImageError, "s3_brain.nii.gz", "a mask without a voxel"),
    mask_not_a_number: (ImageError, "s3_lesions.nii.gz", "NaN or infinite"),
    improbable: (ImageError, "s3_lesions.nii.gz", "probabilities up to 0.3"),
    a_scan_as_mask: (ImageError, "s3_brain.nii.gz", "fractions and values up to"),
    mask_of_four_axes: (ImageError, "s3_lesions.nii.gz", "4 axes"),
    scan_as_lesion_mask: (ImageError, "s3_lesions.nii.gz", "100 whole numbers above 0, which diff"),
    brain_as_lesion_mask: (ImageError, "s3_lesions.nii.gz", "marks 100% of the brain"),
    scan_as_brain_mask: (ImageError, "s3_brain.nii.gz", "100 whole numbers above 0, which differ"),
    no_mask_file: (
        CohortError,
        "study.csv, column lesion_mask",
        "s3_lesions.nii.gz, which is not there",
    ),
    two_masks: (CohortError, "sub-s3", "2 masks"),
}


# Label


def adni(study, rows):
    (study / "images.csv").write_text(
        "Subject,Image Data ID,Group,Visit\n" + "\n".join(rows) + "\n"
    )
    for row in rows:
        shutil.copy(study / "s0.nii.gz", study / f"ADNI_{row[:10]}_{row.split(',')[1]}.nii.gz")
    return {"source": "", "modality": "T1w"}


def unknown_label(study):
    text(study, "s3,MS", "s3,CIS")


def one_word(study):
    return {"patients": "MS", "controls": "MS"}


def two_labels(study):
    text(study, "participant_id,", "session_id,participant_id,")
    text(study, "\ns", "\n1,s")
    text(study, "\n1,s2,HC", "\n2,s3,HC")


def one_group(study):
    text(study, "HC", "MS")


def converted(study):
    return adni(study, ["002_S_0001,I1,CN,sc", "002_S_0001,I2,AD,m24"])


def mci_alone(study):
    return adni(study, ["002_S_0001,I1,EMCI,sc", "002_S_0002,I2,MCI,sc"])


def no_diagnosis(study):
    return adni(study, ["002_S_0001,I1,Patient,sc"])


def too_few(study):
    return {"holdout": (2, 2)}


def group_of_one_site(study):
    text(study, "s1,MS,A", "s1,MS,B")
    text(study, "s3,MS,A", "s3,MS,B")
    return {"holdout_site": "B"}


def no_site(study):
    text(study, ",site,", ",place,")
    return {"holdout_site": "B"}


def unknown_site(study):
    return {"holdout_site": ["C"]}


LABEL = {
    unknown_label: (CohortError, "study.csv, column group", "CIS"),
    one_word: (CohortError, "patients, controls", "'MS' for both"),
    two_labels: (CohortError, "study.csv, column group", "two groups of sub-s3"),
    one_group: (SplitError, "holdout", "0 subjects with label 0"),
    converted: (CohortError, "images.csv, 002_S_0001", "AD and CN at different visits"),
    mci_alone: (CohortError, "study", "EMCI (1)"),
    no_diagnosis: (CohortError, "images.csv, column of the diagnosis", "PATIENT"),
    too_few: (SplitError, "holdout", "more than 3"),
    group_of_one_site: (SplitError, "holdout_site", "3 subjects with label 1, 3 of them at B"),
    no_site: (SplitError, "column site", "no site"),
    unknown_site: (ParameterError, "holdout_site", "one of A, B"),
}


# Leak


def one_file(study):
    text(study, "s3.nii.gz", "s4.nii.gz")
    return {"change": lambda split: split.assign(part=["training"] * 4 + ["holdout"] * 2)}


def a_copy(study):
    shutil.copy(study / "s1.nii.gz", study / "s5.nii.gz")
    return {"change": lambda split: split.assign(part=["training"] * 4 + ["holdout"] * 2)}


def crossing(study):
    text(study, "participant_id,", "session_id,participant_id,")
    text(study, "\ns", "\n1,s")
    text(study, "\n1,s5", "\n2,s3")
    return {
        "holdout": (0, 0),
        "change": lambda split: split.assign(part=["training"] * 4 + ["holdout"] * 2),
    }


def of_others(study):
    return {"change": lambda split: split.replace("sub-s3", "sub-s9")}


def another_subjects_file(study):
    given = adni(study, ["002_S_0001,I1,CN,sc", "002_S_0002,I2,AD,sc"])
    (study / "ADNI_002_S_0002_I2.nii.gz").rename(study / "ADNI_002_S_0003_I2.nii.gz")
    return given


LEAK = {
    one_file: (SplitError, "sub-s3 (training) and sub-s4 (holdout)", "same file"),
    a_copy: (SplitError, "sub-s1 (training) and sub-s5 (holdout)", "same file"),
    crossing: (SplitError, "sub-s3", "a subject in holdout and training"),
    of_others: (SplitError, "split", "other scans"),
    another_subjects_file: (CohortError, "ADNI_002_S_0003_I2.nii.gz", "a scan of 002_S_0003"),
}

ALL = {**HEADER, **FILE, **TABLE, **MASK, **LABEL, **LEAK}


def refused(error, call, *words):
    with pytest.raises(MsxaiError) as caught:
        call()
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)
    for part in (caught.value.where, caught.value.found, caught.value.expected, caught.value.mend):
        assert part
    assert words[0] in caught.value.where


@pytest.mark.parametrize("spoil", ALL, ids=lambda spoil: spoil.__name__)
def test_bad_input_is_one_error_and_leaves_nothing(study, tmp_path, spoil):
    given = spoil(study) or {}
    out, before = tmp_path / "out", files(study)
    out.mkdir()
    refused(ALL[spoil][0], lambda: run(study, out, **given), *ALL[spoil][1:])
    assert not list(out.iterdir())
    assert files(study) == before


def test_there_are_thirty_kinds():
    assert len(ALL) >= 30
    assert {type(name).__name__ for name in ALL} == {"function"}


# What was good when it was written, and is bad when it is read


@pytest.fixture(scope="session")
def prepared_once(template, tmp_path_factory):
    """The study prepared, with its record, as notebook 01 leaves it."""
    study = shutil.copytree(template, tmp_path_factory.mktemp("made") / "study")
    where = Results(str(study.parent / "runs"))
    cohort = open_cohort(study / "study.csv")
    split = splits.make(cohort.table, (1, 1), 0.3)
    splits.write(split, where.split("study"))
    prepare(cohort, split, where.prepared("study"))
    outputs = [where.prepared("study"), where.split("study")]
    provenance.write_json(
        where.record("study"), provenance.record({"cohort": "study"}, outputs=outputs)
    )
    return where


@pytest.fixture
def made(prepared_once, tmp_path):
    """A copy of its own of the prepared study."""
    return Results(str(shutil.copytree(prepared_once.folder, tmp_path / "runs")))


def crossed_split(where):
    content = where.split("study").read_text()
    (row,) = [row for row in content.splitlines() if row.startswith("sub-s3")]
    part = "holdout" if not row.endswith("holdout") else "training"
    where.split("study").write_text(content + f"sub-s3\tses-2\t{part}\n")
    return lambda: Prepared(where.prepared("study"), where.split("study"))


def changed_split(where):
    where.split("study").write_text(
        where.split("study").read_text().replace("training", "holdout", 1)
    )
    return lambda: where.require_prepared("study")


def part_unknown(where):
    where.split("study").write_text(where.split("study").read_text().replace("validation", "test"))
    return lambda: Prepared(where.prepared("study"), where.split("study"))


def flipped_arrays(where):
    content = bytearray(where.prepared("study").read_bytes())
    content[len(content) // 2] ^= 4
    where.prepared("study").write_bytes(content)
    return lambda: where.require_prepared("study")


def pretrained_on_the_holdout(where):
    """Another subject's name and dataset, and the same file: the hash tells."""
    first = Prepared(where.prepared("study"))
    second = Prepared(where.prepared("study"))
    held_out = first.table["part"] == "holdout"
    first.name = "other-study"
    first.table.loc[held_out, "participant_id"] = "sub-other"
    first.table.loc[held_out, "part"] = "training"
    weights = where.folder.parent / "mine.npz"
    tsv.write(seen_scans.of_cohort(first), weights.with_suffix(".tsv"))
    return lambda: seen_scans.check_initial_weights(weights, second)


def other_parameters(where):
    return lambda: where.require_prepared("study", normalisation="max")


def cut_record(where):
    record = json.loads(where.record("study").read_text())
    record["outputs"] = {}
    where.record("study").write_text(json.dumps(record))
    return lambda: where.require_prepared("study")


READ = {
    crossed_split: (SplitError, "study_split.tsv, sub-s3", "a subject in"),
    changed_split: (StaleInputError, "study_split.tsv", "another content"),
    part_unknown: (SplitError, "study_split.tsv, column part", "'test'"),
    flipped_arrays: (StaleInputError, "study.h5", "another content"),
    pretrained_on_the_holdout: (
        SplitError,
        "mine.npz",
        "seen as sub-other of other-study (training)",
    ),
    other_parameters: (StaleInputError, "study.json", "normalisation"),
    cut_record: (StaleInputError, "study.h5", "another content"),
}


@pytest.mark.parametrize("spoil", READ, ids=lambda spoil: spoil.__name__)
def test_what_was_changed_since_is_one_error(made, spoil):
    call = spoil(made)
    before = files(made.folder)
    refused(READ[spoil][0], call, *READ[spoil][1:])
    assert files(made.folder) == before


def test_apart_cohorts_pass(made, tmp_path):
    """The same split of the same files: nobody held out was trained on."""
    first = Prepared(made.prepared("study"))
    first.table["part"] = first.table["part"].replace("validation", "holdout")
    second = Prepared(made.prepared("study"))
    second.table["part"] = second.table["part"].replace("validation", "training")
    tsv.write(seen_scans.of_cohort(first), tmp_path / "mine.tsv")
    assert seen_scans.check_initial_weights(tmp_path / "mine.npz", second).startswith("None of")


def test_hundred_of_hundred_flipped_bytes_are_caught(made):
    """Any byte of the prepared file, any bit of it."""
    content = made.prepared("study").read_bytes()
    rng, caught = np.random.default_rng(0), 0
    for position, bit in zip(
        rng.integers(0, len(content), 100), rng.integers(0, 8, 100), strict=True
    ):
        spoilt = bytearray(content)
        spoilt[position] ^= 1 << bit
        made.prepared("study").write_bytes(spoilt)
        try:
            made.require_prepared("study")
        except StaleInputError:
            caught += 1
    assert caught == 100
    made.prepared("study").write_bytes(content)
    assert made.require_prepared("study") == made.prepared("study")
    assert Prepared(made.prepared("study")).image(0).shape == images.SHAPE
