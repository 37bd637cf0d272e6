"""Random corruptions of what a user hands over: is each refused in one sentence, or read rightly?

Usage: python benchmarks/bad_input.py [--corruptions 500] [--seed 0] [--write]

A small study (six scans, their masks, a table), its YAML file and a file of weights are spoilt in
one place, drawn by hypothesis: the table, a header, voxels, a mask, the YAML file, the weights.
Then they are read as the notebooks read them. An outcome is a fault where

- there is a traceback: an error that is none of `msxai.base.errors`, or one without its four parts;
- a value is taken silently that is not what the file says (`ORACLES`);
- something half-written is left, or a file of the user was changed.

The first corruptions are chosen so that each kind, and each choice that a kind has (`Draws.one`),
is drawn at least once, whatever the seed. The others are drawn at random.

Written beside this file with --write: bad_input.tsv (one row a kind: corruptions, refused, read,
faults) and bad_input.json; of another seed than 0, bad_input_seed_N. Exits with 1 if there is
a fault. About 15 minutes of one core.
"""

import argparse
import contextlib
import csv
import gzip
import io
import itertools
import json
import math
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import hypothesis
import nibabel as nib
import numpy as np
import pandas as pd
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from msxai.base import provenance, tsv
from msxai.base.errors import MsxaiError
from msxai.data import prepared
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import open_cohort
from msxai.data.prepared import Prepared, prepare
from msxai.model import network

HERE = Path(__file__).parent
AFFINE = np.array([[-9.0, 0, 0, 90], [0, 9, 0, -126], [0, 0, 9, -72], [0, 0, 0, 1]])
SHAPE = (21, 25, 21)
SPOILT = 3  # of six: scans before it are on disk already when it fails
SCAN = f"s{SPOILT}.nii.gz"
MASK = f"s{SPOILT}_lesions.nii.gz"
WEIGHTS = "weights.npz"
_SEEDS = 1_000_000  # of one run; the first thousand are tried for choices not drawn yet
COLUMNS = ("participant_id", "label", "age", "site")


# The good study


def make_study(folder: Path) -> None:
    """Write six scans with their masks, a table of paths, a YAML file and weights."""
    grid = np.indices(SHAPE) - np.reshape([10, 12, 10], (3, 1, 1, 1))
    brain = (grid**2).sum(0) < 64
    rows = []
    for index in range(6):
        rng = np.random.default_rng(index)
        scan = np.where(brain, rng.integers(50, 150, SHAPE), 0).astype("int16")
        lesions = np.zeros(SHAPE, "uint8")
        lesions[8:11, 10 + index % 3, 9:12] = 1
        volumes = {"": scan, "_brain": brain.astype("uint8"), "_lesions": lesions}
        for end, values in volumes.items():
            save(folder / f"s{index}{end}.nii.gz", values)
        rows.append(
            {
                "participant_id": f"s{index}",
                "group": ["HC", "MS"][index % 2],
                "site": "AB"[index > 3],
                "age": 30.5 + index,
                "image": f"s{index}.nii.gz",
                "brain_mask": f"s{index}_brain.nii.gz",
                "lesion_mask": f"s{index}_lesions.nii.gz",
            }
        )
    pd.DataFrame(rows).to_csv(folder / "study.csv", index=False)
    (folder / "study.yaml").write_text("path: study.csv\nmodality: FLAIR\n", encoding="utf-8")
    network.configure(0, 1)
    network.save_weights(network.build(2), folder / WEIGHTS)


def save(path: Path, values, affine=AFFINE) -> None:
    """Write a NIfTI whose two transforms agree."""
    image = nib.Nifti1Image(values, affine)
    image.set_sform(affine, 2)
    image.set_qform(affine, 2)
    nib.save(image, path)


# Reading as the notebooks do


@dataclass(frozen=True)
class Read:
    """What was read of a study.

    Attributes
    ----------
    table : list of dict
        `COLUMNS` of each scan, in the order of identifiers.
    image, lesions : ndarray
        Of the scan that is spoilt.
    notes : list of str
        What is said to have been odd in its files.
    """

    table: list
    image: np.ndarray
    lesions: np.ndarray
    notes: list = field(default_factory=list)


def read_study(study: Path, out: Path, source: str) -> Read:
    """Prepare a study as notebook 01 does."""
    cohort = open_cohort(study / source)
    split = splits.make(cohort.table, (1, 1), 0.3, 0, ())
    prepare(cohort, split, out / "study.h5")
    study_file = Prepared(out / "study.h5")
    table = study_file.table.sort_values("participant_id")
    rows = []
    for _, row in table.iterrows():
        age = float(row["age"]) if pd.notna(row["age"]) else None
        rows.append({**{name: str(row[name]) for name in COLUMNS}, "age": age})
    is_spoilt = study_file.table["participant_id"] == f"sub-s{SPOILT}"
    index = int(is_spoilt.to_numpy().argmax())  # the first scan, where the table names it otherwise
    record = json.loads(study_file.table["registration"].iloc[index])
    notes = record.get("notes", [])
    return Read(rows, study_file.image(index), study_file.lesions(index), notes)


def read_weights(study: Path) -> list[np.ndarray]:
    """Read weights as the notebooks do."""
    return network.restore(study / WEIGHTS).get_weights()


class Kept:
    """Prepares scans whose files have the same bytes once: most scans of a study are not spoilt."""

    def __init__(self):
        self.prepare = prepared._prepared_scan
        self.scans = {}

    def __call__(self, row, modality, options, alter):
        """What `msxai.data.prepared` does with one scan; an error is not kept."""
        files = [row[name] for name in ("image", "brain_mask", "lesion_mask")]
        key = [modality, repr(options), alter]
        for file in files:
            is_file = file is not None and Path(file).is_file()
            key.append(Path(file).read_bytes() if is_file else file)
        if tuple(key) not in self.scans:
            self.scans[tuple(key)] = self.prepare(row, modality, options, alter)
        return self.scans[tuple(key)]


# Corruptions

UNCHANGED, TABLE, ANEW = ORACLES = (
    "nothing may have changed",
    "what Python's csv module reads in the table",
    "what is read after nibabel has written the file anew",
)


class Draws(np.random.Generator):
    """A random generator that keeps the choices it was given and those it has drawn.

    Parameters
    ----------
    seed : int

    Attributes
    ----------
    offered, drawn : set of tuple
        Name of a choice and number of an option.
    """

    def __init__(self, seed: int):
        super().__init__(np.random.PCG64(seed))
        self.offered = set()
        self.drawn = set()

    def one(self, name: str, options):
        """Draw one of the options of a choice, whose number is always the same."""
        number = int(self.integers(len(options)))
        self.offered |= {(name, index) for index in range(len(options))}
        self.drawn.add((name, number))
        return options[number]


@dataclass(frozen=True)
class Corruption:
    """One way to spoil a study.

    Attributes
    ----------
    kind : {"table", "header", "voxels", "mask", "yaml", "weights"}
    spoil : callable
        Study's folder and `Draws`; spoils one file.
    oracle : str
        What is right where the study is read: one of `ORACLES`.
    """

    kind: str
    spoil: Callable
    oracle: str

    @property
    def name(self) -> str:
        """Name of the corruption."""
        return f"{self.kind}: {self.spoil.__name__.replace('_', ' ')}"


def _text(study: Path, name: str = "study.csv") -> str:
    return (study / name).read_text(encoding="utf-8")


def _put(study: Path, text: str, name: str = "study.csv", encoding: str = "utf-8") -> None:
    (study / name).write_bytes(text.encode(encoding))


def byte_order_mark(study, rng):
    """As Excel writes it."""
    _put(study, _text(study), encoding="utf-8-sig")


def utf_16(study, rng):
    """Excel's "Unicode text"."""
    _put(study, _text(study), encoding="utf-16")


def line_ends(study, rng):
    """Of Windows, or of an old Macintosh."""
    _put(study, _text(study).replace("\n", rng.one("end", ["\r\n", "\r"])))


def blanks(study, rng):
    """Beside some commas."""
    text = _text(study)
    parts = text.split(",")
    for _ in range(rng.integers(1, 6)):
        index = rng.integers(len(parts))
        parts[index] = parts[index] + rng.one("blank", [" ", "  ", "\t"])
    _put(study, ",".join(parts))


def quotes(study, rng):
    """Round each cell."""
    lines = [
        ",".join(f'"{cell}"' for cell in line.split(",")) for line in _text(study).splitlines()
    ]
    _put(study, "\n".join(lines) + "\n")


def empty_rows(study, rng):
    """At the end, as Excel leaves them."""
    row = rng.one("row", ["", ",,,,,,", " "])
    _put(study, _text(study) + (row + "\n") * int(rng.integers(1, 5)))


def semicolons(study, rng):
    """In place of commas, as Excel writes in Europe; decimal commas with them."""
    text = _text(study).replace(",", ";")
    if rng.one("decimal commas", [False, True]):
        text = text.replace(".5;", ",5;")
    _put(study, text)


def header_in_capitals(study, rng):
    """All names of columns."""
    head, rest = _text(study).split("\n", 1)
    _put(study, f"{head.upper()}\n{rest}")


def columns_in_another_order(study, rng):
    """Each row alike."""
    rows = [line.split(",") for line in _text(study).splitlines()]
    order = rng.permutation(len(rows[0]))
    _put(study, "\n".join(",".join(row[index] for index in order) for row in rows) + "\n")


def rows_in_another_order(study, rng):
    """The order of scans decides nothing but the split."""
    head, *rows = _text(study).splitlines()
    _put(study, "\n".join([head, *rng.permutation(rows)]) + "\n")


def a_missing_column(study, rng):
    """Any of them."""
    rows = [line.split(",") for line in _text(study).splitlines()]
    left_out = rows[0].index(rng.one("column", rows[0]))
    for row in rows:
        del row[left_out]
    _put(study, "\n".join(",".join(row) for row in rows) + "\n")


def a_column_twice(study, rng):
    """With other values the second time."""
    rows = [line.split(",") for line in _text(study).splitlines()]
    index = rows[0].index(rng.one("column", rows[0]))
    values = [row[index] for row in rows[1:]]
    rows[0].append(rows[0][index])
    for row, value in zip(rows[1:], rng.permutation(values), strict=True):
        row.append(value)
    _put(study, "\n".join(",".join(row) for row in rows) + "\n")


def a_missing_cell(study, rng):
    """A row that is too short."""
    lines = _text(study).splitlines()
    names = lines[0].split(",")
    index = int(rng.integers(1, len(lines)))
    cells = lines[index].split(",")
    del cells[names.index(rng.one("column", names))]
    lines[index] = ",".join(cells)
    _put(study, "\n".join(lines) + "\n")


def one_cell(study, rng):
    """Another content, as people and programs write it."""
    odd = ["", "NA", "n/a", "nan", "-", "?", "0", "1e999", "-5", "89+", "abc", "=1+1", "\x00", "Ä"]
    odd += ["../s0.nii.gz", "s0.nii.gz", "study.csv", "/", "s 3", "<script>", "None", "TRUE"]
    lines = _text(study).splitlines()
    names = lines[0].split(",")
    index = int(rng.integers(1, len(lines)))
    cells = lines[index].split(",")
    cells[names.index(rng.one("column", names))] = rng.one("content", odd)
    lines[index] = ",".join(cells)
    _put(study, "\n".join(lines) + "\n")


def one_row_twice(study, rng):
    """The same row, or the same person with another group."""
    lines = _text(study).splitlines()
    row = lines[int(rng.integers(1, len(lines)))]
    if rng.one("another group", [False, True]):
        row = row.replace("HC", "XX").replace("MS", "HC").replace("XX", "MS")
    _put(study, "\n".join([*lines, row]) + "\n")


def bytes_of_the_table(study, rng):
    """One to four bytes."""
    _flip_bytes(study / "study.csv", rng, first=0)


def no_table(study, rng):
    """A folder, an empty file or a picture under the name."""
    _replace(study / "study.csv", rng.one("content", [None, b"", b"\x89PNG\r\n\x1a\n"]))


def a_table_cut_short(study, rng):
    """As after a full disk."""
    _cut_short(study / "study.csv", rng)


def _header(study: Path, name: str, change: Callable) -> None:
    """Change the header of a NIfTI, byte by byte."""
    content = bytearray(gzip.decompress((study / name).read_bytes()))
    change(content)
    (study / name).write_bytes(gzip.compress(bytes(content)))


def _fields(name: str, count: int, start: int, kind: str) -> dict:
    """Return offset and type of each number of a field of several."""
    size = np.dtype(kind).itemsize
    return {f"{name}[{index}]": (start + index * size, kind) for index in range(count)}


def one_field(study, rng):
    """Of the NIfTI header, with a value that a broken program could write."""
    fields = {  # name: offset and type
        "sizeof_hdr": (0, "<i4"),
        **_fields("dim", 8, 40, "<i2"),
        "datatype": (70, "<i2"),
        "bitpix": (72, "<i2"),
        **_fields("pixdim", 8, 76, "<f4"),
        "vox_offset": (108, "<f4"),
        "scl_slope": (112, "<f4"),
        "scl_inter": (116, "<f4"),
        "xyzt_units": (123, "u1"),
        "qform_code": (252, "<i2"),
        "sform_code": (254, "<i2"),
        **_fields("quatern", 6, 256, "<f4"),
        **_fields("srow", 12, 280, "<f4"),
        "magic": (344, "u1"),
    }
    offset, kind = fields[rng.one("field", list(fields))]
    kind = np.dtype(kind)
    values = [0, 1, 2, 3, 7, 64, 100] if kind == "u1" else [-32768, -1, 0, 1, 2, 4, 300, 32767]
    if kind.kind == "f":
        values = [0, -0.0, 1e-30, -1, 0.5, 9, 90, 1e6, 1e30, np.inf, -np.inf, np.nan]
    value = np.array(rng.one(f"value of {kind}", values), kind).tobytes()

    def change(content):
        content[offset : offset + len(value)] = value

    _header(study, SCAN, change)


def all_lengths(study, rng):
    """More voxels along each axis than the file has, or fewer."""
    factor = rng.one("factor", [1560, 100, 2, 0.9])

    def change(content):
        lengths = np.frombuffer(content[42:48], "<i2") * factor
        content[42:48] = np.minimum(lengths, 32767).astype("<i2").tobytes()

    _header(study, SCAN, change)


def an_intercept(study, rng):
    """Half a step, a whole one, or another number of steps: without an exact 0, or with one."""
    slope = rng.one("slope", [1, 0.01, -2])
    steps = rng.one("steps", [0.5, 0.3, 1, -7, -0.5])

    def change(content):
        content[112:120] = np.array([slope, slope * steps], "<f4").tobytes()

    _header(study, SCAN, change)


def bits_of_the_header(study, rng):
    """One to three bits of the first 348 bytes."""

    def change(content):
        for _ in range(int(rng.integers(1, 4))):
            content[int(rng.integers(348))] ^= 1 << int(rng.integers(8))

    _header(study, SCAN, change)


def a_file_cut_short(study, rng):
    """Of the scan."""
    _cut_short(study / SCAN, rng)


def _cut_short(path: Path, rng) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(rng.integers(len(content)))])


def bytes_of_the_file(study, rng):
    """One to four bytes of the compressed scan."""
    _flip_bytes(study / SCAN, rng)


def _flip_bytes(path: Path, rng, first: int = 10) -> None:
    """Change one to four bytes of a file, from `first` on: gzip does not check its header."""
    content = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(1, 5))):
        content[int(rng.integers(first, len(content)))] ^= int(rng.integers(1, 256))
    path.write_bytes(bytes(content))


def other_bytes(study, rng):
    """Something else in place of the scan."""
    contents = [b"", b"\x1f\x8b", b"<!DOCTYPE html>", bytes(348), rng.bytes(2000)]
    contents.append(gzip.compress(rng.bytes(2000)))
    _replace(study / SCAN, rng.one("content", [*contents, None]))


def _replace(path: Path, content: bytes | None) -> None:
    """Put other bytes in place of a file; in place of None, a folder."""
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)


def _voxels(study: Path, name: str) -> np.ndarray:
    return np.asarray(nib.load(study / name).dataobj).astype("float32")


def odd_voxels(study, rng):
    """NaN, infinite, huge or constant values."""
    values = _voxels(study, SCAN)
    bad = rng.one("value", [np.nan, np.inf, -np.inf, 3e38, 1e30, None])
    share = rng.one("share", [1e-4, 0.01, 0.5])
    if bad is None:
        values[values > 0] = 100
    else:
        values[rng.random(SHAPE) < share] = bad
    save(study / SCAN, values)


def another_number_of_axes(study, rng):
    """Two, four or five."""
    values = _voxels(study, SCAN)
    shapes = [
        values[..., 0],
        values[..., None],
        np.stack([values] * 2, -1),
        values[..., None, None],
    ]
    save(study / SCAN, rng.one("axes", shapes))


def another_type(study, rng):
    """The same values, stored in another type or order of bytes."""
    kinds = ["<f8", ">i2", ">f4", "<u2", "<i4", "<u4"]
    values = _voxels(study, SCAN).astype(rng.one("type", kinds))
    save(study / SCAN, values)


def axes_flipped(study, rng):
    """The same scan with its voxels stored in another order; the transform says so."""
    image = nib.load(study / SCAN)
    start = nib.orientations.io_orientation(image.affine)
    target = nib.orientations.axcodes2ornt(rng.one("order", ["RAS", "LPI", "PSR", "ILA"]))
    turned = image.as_reoriented(nib.orientations.ornt_transform(start, target))
    save(study / SCAN, np.asarray(turned.dataobj), turned.affine)


def mask_values(study, rng):
    """As other programs write masks."""
    values = _voxels(study, MASK)
    written = [(255, 0), (1, 1), (-1, 0), (0.3, 0), (0.99999, 0), (2, 0), (1e-7, 0)]
    scale, shift = rng.one("values", written)
    save(study / MASK, (values * scale + shift).astype("float32"))


def a_mask_resampled(study, rng):
    """With what interpolation leaves: fractions, or values near 0 beside it."""
    values = _voxels(study, MASK)
    noise = rng.one("noise", [1e-7, 1e-5, 1e-3]) * rng.random(SHAPE)
    save(study / MASK, (values + noise).astype("float32"))


def odd_mask(study, rng):
    """Not finite, empty, full, another grid or another place."""
    values = _voxels(study, MASK)
    affine = AFFINE.copy()
    match rng.one("fault", ["NaN", "infinite", "empty", "full", "cut", "moved", "two volumes"]):
        case "NaN":
            values[5, 5, 5] = np.nan
        case "infinite":
            values[5, 5, 5] = np.inf
        case "empty":
            values[:] = 0
        case "full":
            values[:] = 1
        case "cut":
            values = values[:, :-1]
        case "moved":
            affine[:3, 3] += rng.choice([-200, 30, 400], 3)
        case "two volumes":
            values = np.stack([values] * 2, -1)
    save(study / MASK, values, affine)


def bytes_of_the_mask(study, rng):
    """One to four bytes of the compressed mask."""
    _flip_bytes(study / MASK, rng)


def yaml_of_another_form(study, rng):
    """What is no cohort, or asks a careless reader to run something."""
    texts = [
        "",
        "# nothing\n",
        "- path: study.csv\n",
        "study.csv\n",
        "path: [study.csv]\n",
        "path: {a: b}\n",
        "path: 3\n",
        "path: study.csv\npath: study.csv\n",
        "path:\tstudy.csv\n",
        "path: study.csv\nmodality: [FLAIR, T1w]\n",
        "path: study.csv\npatients: {MS: 1}\n",
        "path: study.csv\nmodality: 3\n",
        "path: !!python/object/apply:os.system ['touch hacked']\n",
        "path: &a [*a]\n",
        "path: study.csv\n--- \npath: other.csv\n",
        "path: '../../../../etc/passwd'\n",
        "path: study.csv\nlabel_column: [group]\n",
        "path: study.csv\ncontrols: null\n",
        "path: null\n",
        "path: true\n",
    ]
    _put(study, rng.one("text", texts), "study.yaml")


def yaml_key_misspelt(study, rng):
    """One letter is missing or doubled."""
    text = _text(study, "study.yaml")
    key = rng.one("key", ["path", "modality"])
    index = int(rng.integers(len(key)))
    letter = rng.one("letter", ["", key[index] * 2])
    spoilt = key[:index] + letter + key[index + 1 :]
    _put(study, text.replace(f"{key}:", f"{spoilt}:"), "study.yaml")


def bytes_of_the_yaml(study, rng):
    """One to four bytes."""
    _flip_bytes(study / "study.yaml", rng, first=0)


def no_yaml(study, rng):
    """A folder or a picture under the name."""
    _replace(study / "study.yaml", rng.one("content", [None, b"\x89PNG\r\n\x1a\n"]))


def _arrays(study: Path) -> dict:
    with np.load(study / WEIGHTS) as file:
        return dict(file)


def bytes_of_the_weights(study, rng):
    """One to four bytes, or the file cut short."""
    if rng.one("cut", [True, False, False]):
        _cut_short(study / WEIGHTS, rng)
    else:
        _flip_bytes(study / WEIGHTS, rng, first=0)


_ODD_ARRAYS = {
    "another shape": lambda values: values.ravel()[:-1],
    "longer": lambda values: np.zeros(500_000, "float32"),
    "infinite": lambda values: np.full_like(values, np.inf),
    "NaN": lambda values: np.full_like(values, np.nan),
    "one NaN": lambda values: np.where(np.arange(values.size) == 0, np.nan, values.ravel()).reshape(
        values.shape
    ),
    "too large": lambda values: np.full(values.shape, 1e300),
    "text": lambda values: values.astype("U8"),
    "objects": lambda values: np.array([{"a": 1}] * 2, dtype=object),
    "complex": lambda values: values.astype("complex64"),
    "whole numbers": lambda values: np.ones(values.shape, int),
}


def odd_weights(study, rng):
    """An array that is missing, too many, of another shape or type, or not finite."""
    arrays = _arrays(study)
    name = rng.one("array", sorted(arrays))
    fault = rng.one("fault", ["missing", "too many", *_ODD_ARRAYS])
    if fault == "missing":
        del arrays[name]
    elif fault == "too many":
        arrays["extra"] = np.zeros(3)
    else:
        arrays[name] = _ODD_ARRAYS[fault](arrays[name])
    np.savez(study / WEIGHTS, **arrays)


def no_weights(study, rng):
    """Another file under the name."""
    contents = [b"", b"PK\x05\x06" + bytes(18), b"\x80\x04N.", rng.bytes(500)]
    _replace(study / WEIGHTS, rng.one("content", [*contents, None]))


# Oracles: what a spoilt file means that may be read


def rows_of_table(study: Path) -> list[dict]:
    """Rows of the table by Python's csv module, without empty ones."""
    content = (study / "study.csv").read_bytes()
    text = content.decode("utf-8-sig", errors="replace")
    rows = list(csv.DictReader(io.StringIO(text, newline=None)))
    result = []
    for row in rows:
        cells = {(key or "").strip().lower(): (value or "") for key, value in row.items() if key}
        cells = {key: value.strip() for key, value in cells.items() if isinstance(value, str)}
        if not any(cells.values()):
            continue
        result.append(cells)
    return result


def table_matches(read: Read, rows: list[dict]) -> bool:
    """Whether what was read is what the rows say, as far as a row has the cell."""
    by_name = {_identifier(row.get("participant_id", "")): row for row in rows}
    if len(read.table) != len(rows):
        return False
    for own in read.table:
        row = by_name.get(own["participant_id"])
        if row is None:
            return False
        if own["label"] != {"MS": "1", "HC": "0"}.get(row.get("group", "")):
            return False
        if own["age"] is not None and not math.isclose(own["age"], _number(row.get("age", ""))):
            return False
    return True


def _identifier(text: str) -> str:
    """Return an identifier as BIDS writes it: letters and digits alone, after "sub-"."""
    letters = [letter for letter in text.removeprefix("sub-") if letter.isascii()]
    return "sub-" + "".join(filter(str.isalnum, letters))


def _number(text: str) -> float:
    with contextlib.suppress(ValueError):
        return float(text.replace(",", ".").rstrip("+"))
    return math.nan


def saved_anew(study: Path, name: str) -> list[str]:
    """Write a spoilt file anew by nibabel: the same voxels and transform in a clean file.

    Where a header's intercept leaves no exact 0, the stored numbers nearest to it stand for 0.

    Returns
    -------
    list of str
        What must be said of the file: words of the notes.
    """
    image = nib.load(study / name)
    values = np.asarray(image.dataobj, "float32")
    affine = image.affine
    words = []
    step = abs(image.dataobj.slope)
    if image.dataobj.inter:
        nearest = (values != 0) & (np.abs(values) <= step / 2)
        values[nearest] = 0
        if nearest.any():
            words.append(f"{nearest.sum()} voxels within half a step")
    if name == SCAN and values.size < np.prod(SHAPE):
        words.append("bytes more than")
    (study / name).unlink()
    save(study / name, values, affine)
    return words


_BY_ORACLE = {
    ("table", UNCHANGED): [
        byte_order_mark,
        utf_16,
        line_ends,
        blanks,
        quotes,
        empty_rows,
        semicolons,
        header_in_capitals,
        columns_in_another_order,
        rows_in_another_order,
    ],
    ("table", TABLE): [
        a_missing_column,
        a_column_twice,
        a_missing_cell,
        one_cell,
        one_row_twice,
        bytes_of_the_table,
        a_table_cut_short,
        no_table,
    ],
    ("header", ANEW): [one_field, all_lengths, an_intercept, bits_of_the_header],
    ("voxels", UNCHANGED): [
        a_file_cut_short,
        bytes_of_the_file,
        other_bytes,
        another_number_of_axes,
        another_type,
        axes_flipped,
    ],
    ("voxels", ANEW): [odd_voxels],
    ("mask", UNCHANGED): [mask_values, a_mask_resampled, bytes_of_the_mask],
    ("mask", ANEW): [odd_mask],
    ("yaml", UNCHANGED): [
        yaml_of_another_form,
        yaml_key_misspelt,
        bytes_of_the_yaml,
        no_yaml,
    ],
    ("weights", UNCHANGED): [bytes_of_the_weights, odd_weights, no_weights],
}
CORRUPTIONS = [
    Corruption(kind, spoil, oracle)
    for (kind, oracle), spoils in _BY_ORACLE.items()
    for spoil in spoils
]


# One corruption, and what comes of it


@dataclass(frozen=True)
class Outcome:
    """What came of one corruption.

    Attributes
    ----------
    name : str
    seed : int
    ending : {"refused", "read", "fault"}
    text : str
        The message, or what is wrong.
    """

    name: str
    seed: int
    ending: str
    text: str


class Fuzz:
    """Spoils copies of one good study.

    Parameters
    ----------
    folder : pathlib.Path
        An empty folder to work in.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.template = folder / "template"
        self.template.mkdir()
        make_study(self.template)
        self.good = read_study(self.template, self._empty("out"), "study.csv")
        self.weights = read_weights(self.template)

    def outcome(self, corruption: Corruption, seed: int) -> Outcome:
        """Spoil a copy of the study, read it, and judge."""
        study = self._empty("study")
        shutil.copytree(self.template, study, dirs_exist_ok=True)
        corruption.spoil(study, Draws(seed))
        before = _files(study)
        out = self._empty("out")
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                fault = self._read(corruption, study, out)
            ending, text = ("fault", fault) if fault else ("read", "")
        except MsxaiError as error:
            ending, text = "refused", str(error)
            if not all((error.where, error.found, error.expected, error.mend)):
                ending, text = "fault", f"a message without its parts: {error}"
            elif list(out.iterdir()):
                ending, text = "fault", f"left after a refusal: {list(out.iterdir())}"
        except Exception:  # that is what is searched for
            ending, text = "fault", traceback.format_exc(limit=-3)
        if _files(study) != before and ending != "fault":
            ending, text = "fault", "a file of the user was changed"
        return Outcome(corruption.name, seed, ending, text)

    def covering(self, corruption: Corruption, first_seed: int) -> list[int]:
        """Return seeds that together draw each option of each choice of a corruption.

        Parameters
        ----------
        corruption : Corruption
        first_seed : int
            Seeds are tried from this one on, and kept where they draw an option anew.
        """
        seeds = []
        offered = set()
        drawn = set()
        for seed in itertools.count(first_seed):
            study = self._empty("study")
            shutil.copytree(self.template, study, dirs_exist_ok=True)
            draws = Draws(seed)
            corruption.spoil(study, draws)
            offered |= draws.offered
            if not seeds or draws.drawn - drawn:
                seeds.append(seed)
                drawn |= draws.drawn
            if drawn == offered:
                return seeds

    def _read(self, corruption: Corruption, study: Path, out: Path) -> str:
        """Read a spoilt study; return what is wrong, or nothing."""
        if corruption.kind == "weights":
            own = read_weights(study)
            equal = all(np.array_equal(*pair) for pair in zip(own, self.weights, strict=True))
            return "" if equal else "other weights than the file had before it was spoilt"
        source = "study.yaml" if corruption.kind == "yaml" else "study.csv"
        read = read_study(study, out, source)
        if corruption.oracle == TABLE:
            rows = rows_of_table(study)
            if table_matches(read, rows):
                return ""
            return f"the table says {rows}, read was {read.table}"
        if corruption.oracle != ANEW:
            return _difference(read, self.good)
        anew = self._empty("anew")
        shutil.copytree(study, anew, dirs_exist_ok=True)
        words = saved_anew(anew, MASK if corruption.kind == "mask" else SCAN)
        expected = read_study(anew, self._empty("anew-out"), "study.csv")
        return _difference(read, expected) or _unsaid(read, words)

    def _empty(self, name: str) -> Path:
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder


def _difference(read: Read, expected: Read) -> str:
    if read.table != expected.table:
        return f"rows {read.table}, expected {expected.table}"
    for name in ("image", "lesions"):
        own, other = getattr(read, name), getattr(expected, name)
        if not np.allclose(own, other, rtol=1e-4, atol=1e-4):
            return f"{name}: up to {np.abs(own.astype(float) - other).max():.3g} apart"
    return ""


def _unsaid(read: Read, words: list[str]) -> str:
    said = " ".join(read.notes)
    missing = [part for part in words if part not in said]
    return f"nothing is said of {missing}" if missing else ""


def _files(folder: Path) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def measure(n_corruptions: int, seed: int, folder: Path) -> list[Outcome]:
    """Draw corruptions and judge each.

    Parameters
    ----------
    n_corruptions : int
        At least; as many as draw each choice of each corruption once.
    seed : int
        Of all draws.
    folder : pathlib.Path
        An empty folder to work in.
    """
    with mock.patch.object(prepared, "_prepared_scan", Kept()):
        return _outcomes(n_corruptions, seed, Fuzz(folder))


def _outcomes(n_corruptions: int, seed: int, fuzz: Fuzz) -> list[Outcome]:
    outcomes = []

    def judge(corruption, own_seed):
        outcome = fuzz.outcome(corruption, own_seed)
        outcomes.append(outcome)
        if outcome.ending == "fault":
            print(f"{outcome.name}, seed {outcome.seed}: {outcome.text}", flush=True)

    for corruption in CORRUPTIONS:
        for own_seed in fuzz.covering(corruption, first_seed=seed * _SEEDS):
            judge(corruption, own_seed)

    @hypothesis.seed(seed)
    @settings(
        max_examples=max(n_corruptions - len(outcomes), 1),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(CORRUPTIONS), st.integers(1000, _SEEDS - 1))
    def draw(corruption, own_seed):
        judge(corruption, seed * _SEEDS + own_seed)

    draw()
    return outcomes


def table_of(outcomes: list[Outcome]) -> pd.DataFrame:
    """Count the outcomes of each corruption."""
    table = pd.DataFrame([vars(outcome) for outcome in outcomes])
    counts = pd.crosstab(table["name"], table["ending"])
    counts = counts.reindex(columns=["refused", "read", "fault"], fill_value=0)
    counts.insert(0, "corruptions", counts.sum(axis=1))
    return counts.reset_index().rename(columns={"name": "corruption", "fault": "faults"})


def main() -> None:
    """Run the fuzz; write its table where asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--corruptions", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="another one draws other corruptions")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = measure(options.corruptions, options.seed, Path(folder))
    table = table_of(outcomes)
    faults = int(table["faults"].sum())
    print(table.to_string(index=False))
    print(f"{len(outcomes)} corruptions, {faults} faults")
    if options.write:
        name = f"bad_input_seed_{options.seed}" if options.seed else "bad_input"
        tsv.write(table, HERE / f"{name}.tsv")
        record = provenance.record(
            {"corruptions": options.corruptions, "seed": options.seed},
            outputs=[HERE / f"{name}.tsv"],
            corruptions=len(outcomes),
            faults=faults,
        )
        provenance.write_json(HERE / f"{name}.json", record)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
