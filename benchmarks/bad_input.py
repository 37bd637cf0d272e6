"""Random corruptions of what a user hands over: is each refused in one sentence, or read rightly?

Usage: python benchmarks/bad_input.py [--corruptions 500] [--write]

A small study (six scans, their masks, a table), its YAML file and a file of weights are spoilt in
one place, drawn by hypothesis: the table, a header, voxels, a mask, the YAML file, the weights.
Then they are read as the notebooks read them. An outcome is a fault where

- there is a traceback: an error that is none of `msxai.base.errors`, or one without its four parts;
- a value is taken silently that is not what the file says (`ORACLES`);
- something half-written is left, or a file of the user was changed.

Written beside this file with --write: bad_input.tsv (one row a kind: corruptions, refused, read,
faults) and bad_input.json. Exits with 1 if there is a fault. About 15 minutes of one core.
"""

import argparse
import contextlib
import csv
import gzip
import io
import math
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from msxai.base import provenance, tsv
from msxai.base.errors import MsxaiError
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
    """

    table: list
    image: np.ndarray
    lesions: np.ndarray


def read_study(study: Path, out: Path, source: str) -> Read:
    """Prepare a study as notebook 01 does."""
    cohort = open_cohort(study / source)
    split = splits.make(cohort.table, (1, 1), 0.3, 0, ())
    prepare(cohort, split, out / "study.h5")
    prepared = Prepared(out / "study.h5")
    table = prepared.table.sort_values("participant_id")
    rows = []
    for _, row in table.iterrows():
        age = float(row["age"]) if pd.notna(row["age"]) else None
        rows.append({**{name: str(row[name]) for name in COLUMNS}, "age": age})
    is_spoilt = prepared.table["participant_id"] == f"sub-s{SPOILT}"
    index = int(is_spoilt.to_numpy().argmax())  # the first scan, where the table names it otherwise
    return Read(rows, prepared.image(index), prepared.lesions(index))


def read_weights(study: Path) -> list[np.ndarray]:
    """Read weights as the notebooks do."""
    return network.restore(study / WEIGHTS).get_weights()


# Corruptions

UNCHANGED, TABLE, ANEW = ORACLES = (
    "nothing may have changed",
    "what Python's csv module reads in the table",
    "what is read after nibabel has written the file anew",
)


@dataclass(frozen=True)
class Corruption:
    """One way to spoil a study.

    Attributes
    ----------
    kind : {"table", "header", "voxels", "mask", "yaml", "weights"}
    spoil : callable
        Study's folder and a random generator; spoils one file.
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
    _put(study, _text(study).replace("\n", rng.choice(["\r\n", "\r"])))


def blanks(study, rng):
    """Beside some commas."""
    text = _text(study)
    parts = text.split(",")
    for _ in range(rng.integers(1, 6)):
        index = rng.integers(len(parts))
        parts[index] = parts[index] + str(rng.choice([" ", "  ", "\t"]))
    _put(study, ",".join(parts))


def quotes(study, rng):
    """Round each cell."""
    lines = [
        ",".join(f'"{cell}"' for cell in line.split(",")) for line in _text(study).splitlines()
    ]
    _put(study, "\n".join(lines) + "\n")


def empty_rows(study, rng):
    """At the end, as Excel leaves them."""
    row = str(rng.choice(["", ",,,,,,", " "]))
    _put(study, _text(study) + (row + "\n") * int(rng.integers(1, 5)))


def semicolons(study, rng):
    """In place of commas, as Excel writes in Europe; decimal commas with them."""
    text = _text(study).replace(",", ";")
    if rng.random() < 0.5:
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
    left_out = int(rng.integers(len(rows[0])))
    for row in rows:
        del row[left_out]
    _put(study, "\n".join(",".join(row) for row in rows) + "\n")


def a_column_twice(study, rng):
    """With other values the second time."""
    rows = [line.split(",") for line in _text(study).splitlines()]
    index = int(rng.integers(len(rows[0])))
    values = [row[index] for row in rows[1:]]
    rows[0].append(rows[0][index])
    for row, value in zip(rows[1:], rng.permutation(values), strict=True):
        row.append(value)
    _put(study, "\n".join(",".join(row) for row in rows) + "\n")


def a_missing_cell(study, rng):
    """A row that is too short."""
    lines = _text(study).splitlines()
    index = int(rng.integers(1, len(lines)))
    cells = lines[index].split(",")
    del cells[int(rng.integers(len(cells)))]
    lines[index] = ",".join(cells)
    _put(study, "\n".join(lines) + "\n")


def one_cell(study, rng):
    """Another content, as people and programs write it."""
    odd = ["", "NA", "n/a", "nan", "-", "?", "0", "1e999", "-5", "89+", "abc", "=1+1", "\x00", "Ä"]
    odd += ["../s0.nii.gz", "s0.nii.gz", "study.csv", "/", "s 3", "<script>", "None", "TRUE"]
    lines = _text(study).splitlines()
    index = int(rng.integers(1, len(lines)))
    cells = lines[index].split(",")
    cells[int(rng.integers(len(cells)))] = str(rng.choice(odd))
    lines[index] = ",".join(cells)
    _put(study, "\n".join(lines) + "\n")


def one_row_twice(study, rng):
    """The same row, or the same person with another group."""
    lines = _text(study).splitlines()
    row = lines[int(rng.integers(1, len(lines)))]
    if rng.random() < 0.5:
        row = row.replace("HC", "XX").replace("MS", "HC").replace("XX", "MS")
    _put(study, "\n".join([*lines, row]) + "\n")


def bytes_of_the_table(study, rng):
    """One to four bytes."""
    _flip_bytes(study / "study.csv", rng, first=0)


def a_table_cut_short(study, rng):
    """As after a full disk."""
    _cut_short(study / "study.csv", rng)


def _header(study: Path, name: str, change: Callable) -> None:
    """Change the header of a NIfTI, byte by byte."""
    content = bytearray(gzip.decompress((study / name).read_bytes()))
    change(content)
    (study / name).write_bytes(gzip.compress(bytes(content)))


def one_field(study, rng):
    """Of the NIfTI header, with a value that a broken program could write."""
    fields = {  # name: offset and type
        "sizeof_hdr": (0, "<i4"),
        "dim": (40 + 2 * int(rng.integers(8)), "<i2"),
        "datatype": (70, "<i2"),
        "bitpix": (72, "<i2"),
        "pixdim": (76 + 4 * int(rng.integers(8)), "<f4"),
        "vox_offset": (108, "<f4"),
        "scl_slope": (112, "<f4"),
        "scl_inter": (116, "<f4"),
        "xyzt_units": (123, "u1"),
        "qform_code": (252, "<i2"),
        "sform_code": (254, "<i2"),
        "quatern": (256 + 4 * int(rng.integers(6)), "<f4"),
        "srow": (280 + 4 * int(rng.integers(12)), "<f4"),
        "magic": (344, "u1"),
    }
    offset, kind = fields[str(rng.choice(sorted(fields)))]
    kind = np.dtype(kind)
    values = [0, 1, 2, 3, 7, 64, 100] if kind == "u1" else [-32768, -1, 0, 1, 2, 4, 300, 32767]
    if kind.kind == "f":
        values = [0, -0.0, 1e-30, -1, 0.5, 9, 90, 1e6, 1e30, np.inf, -np.inf, np.nan]
    value = np.array(rng.choice(values), kind).tobytes()

    def change(content):
        content[offset : offset + len(value)] = value

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
    (study / SCAN).write_bytes(contents[int(rng.integers(len(contents)))])


def _voxels(study: Path, name: str) -> np.ndarray:
    return np.asarray(nib.load(study / name).dataobj).astype("float32")


def odd_voxels(study, rng):
    """NaN, infinite, huge or constant values."""
    values = _voxels(study, SCAN)
    bad = float(rng.choice([np.nan, np.inf, -np.inf, 3e38, 1e30]))
    if rng.random() < 0.2:
        values[values > 0] = 100
    else:
        share = rng.choice([1e-4, 0.01, 0.5])
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
    save(study / SCAN, shapes[int(rng.integers(len(shapes)))])


def another_type(study, rng):
    """The same values, stored in another type or order of bytes."""
    kinds = ["<f8", ">i2", ">f4", "<u2", "<i4", "<u4"]
    values = _voxels(study, SCAN).astype(str(rng.choice(kinds)))
    save(study / SCAN, values)


def axes_flipped(study, rng):
    """The same scan with its voxels stored in another order; the transform says so."""
    image = nib.load(study / SCAN)
    axes = [nib.orientations.axcodes2ornt(code) for code in ("RAS", "LPI", "PSR", "ILA")]
    start = nib.orientations.io_orientation(image.affine)
    target = axes[int(rng.integers(len(axes)))]
    turned = image.as_reoriented(nib.orientations.ornt_transform(start, target))
    save(study / SCAN, np.asarray(turned.dataobj), turned.affine)


def mask_values(study, rng):
    """As other programs write masks."""
    values = _voxels(study, MASK)
    scale, shift = [(255, 0), (1, 1), (-1, 0), (0.3, 0), (0.99999, 0), (2, 0), (1e-7, 0)][
        int(rng.integers(7))
    ]
    save(study / MASK, (values * scale + shift).astype("float32"))


def a_mask_resampled(study, rng):
    """With what interpolation leaves: fractions, or values near 0 beside it."""
    values = _voxels(study, MASK)
    noise = rng.choice([1e-7, 1e-5, 1e-3]) * rng.random(SHAPE)
    save(study / MASK, (values + noise).astype("float32"))


def odd_mask(study, rng):
    """Not finite, empty, full, another grid or another place."""
    values = _voxels(study, MASK)
    choice = int(rng.integers(6))
    affine = AFFINE.copy()
    if choice == 0:
        values[5, 5, 5] = rng.choice([np.nan, np.inf])
    if choice == 1:
        values[:] = 0
    if choice == 2:
        values[:] = 1
    if choice == 3:
        values = values[:, :-1]
    if choice == 4:
        affine[:3, 3] += rng.choice([-200, 30, 400], 3)
    if choice == 5:
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
    _put(study, texts[int(rng.integers(len(texts)))], "study.yaml")


def yaml_key_misspelt(study, rng):
    """One letter is missing or doubled."""
    text = _text(study, "study.yaml")
    key = str(rng.choice(["path", "modality"]))
    index = int(rng.integers(len(key)))
    spoilt = key[:index] + key[index + 1 :] if rng.random() < 0.5 else key[:index] + key[index:] * 2
    _put(study, text.replace(f"{key}:", f"{spoilt}:"), "study.yaml")


def bytes_of_the_yaml(study, rng):
    """One to four bytes."""
    _flip_bytes(study / "study.yaml", rng, first=0)


def _arrays(study: Path) -> dict:
    with np.load(study / WEIGHTS) as file:
        return dict(file)


def bytes_of_the_weights(study, rng):
    """One to four bytes, or the file cut short."""
    if rng.random() < 0.3:
        _cut_short(study / WEIGHTS, rng)
    else:
        _flip_bytes(study / WEIGHTS, rng, first=0)


def odd_weights(study, rng):
    """An array that is missing, too many, of another shape or type, or not finite."""
    arrays = _arrays(study)
    name = str(rng.choice(sorted(arrays)))
    choice = int(rng.integers(7))
    if choice == 0:
        del arrays[name]
    if choice == 1:
        arrays["extra"] = np.zeros(3)
    if choice == 2:
        arrays[name] = arrays[name].ravel()[:-1]
    if choice == 3:
        arrays[name] = np.full_like(arrays[name], rng.choice([np.nan, np.inf]))
    if choice == 4:
        arrays[name] = arrays[name].astype("U8")
    if choice == 5:
        arrays[name] = np.array([{"a": 1}] * 2, dtype=object)
    if choice == 6:
        arrays[name] = arrays[name].astype("complex64")
    np.savez(study / WEIGHTS, **arrays)


def no_weights(study, rng):
    """Another file under the name."""
    contents = [b"", b"PK\x05\x06" + bytes(18), b"\x80\x04N.", rng.bytes(500)]
    (study / WEIGHTS).write_bytes(contents[int(rng.integers(len(contents)))])


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
    by_name = {f"sub-{row.get('participant_id', '').removeprefix('sub-')}": row for row in rows}
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


def _number(text: str) -> float:
    with contextlib.suppress(ValueError):
        return float(text.replace(",", ".").rstrip("+"))
    return math.nan


def saved_anew(study: Path, name: str) -> None:
    """Write a spoilt scan anew by nibabel: the same voxels and transform in a clean file."""
    image = nib.load(study / name)
    values = np.asarray(image.dataobj)
    affine = image.affine
    (study / name).unlink()
    save(study / name, np.asarray(values, "float32"), affine)


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
    ],
    ("header", ANEW): [one_field, bits_of_the_header],
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
    ("yaml", UNCHANGED): [yaml_of_another_form, yaml_key_misspelt, bytes_of_the_yaml],
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
        corruption.spoil(study, np.random.default_rng(seed))
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
        expected = self.good
        if corruption.oracle == ANEW:
            expected = self._read_anew(study, MASK if corruption.kind == "mask" else SCAN)
        return _difference(read, expected)

    def _read_anew(self, study: Path, name: str) -> Read:
        """Read a study whose spoilt file was saved anew by nibabel."""
        anew = self._empty("anew")
        shutil.copytree(study, anew, dirs_exist_ok=True)
        saved_anew(anew, name)
        return read_study(anew, self._empty("anew-out"), "study.csv")

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


def _files(folder: Path) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def measure(n_corruptions: int, folder: Path) -> list[Outcome]:
    """Draw corruptions and judge each.

    Parameters
    ----------
    n_corruptions : int
    folder : pathlib.Path
        An empty folder to work in.
    """
    fuzz = Fuzz(folder)
    outcomes = []

    @settings(
        max_examples=n_corruptions,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(CORRUPTIONS), st.integers(0, 2**32 - 1))
    def draw(corruption, seed):
        outcome = fuzz.outcome(corruption, seed)
        outcomes.append(outcome)
        if outcome.ending == "fault":
            print(f"{outcome.name}, seed {outcome.seed}: {outcome.text}", flush=True)

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
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = measure(options.corruptions, Path(folder))
    table = table_of(outcomes)
    faults = int(table["faults"].sum())
    print(table.to_string(index=False))
    print(f"{len(outcomes)} corruptions, {faults} faults")
    if options.write:
        tsv.write(table, HERE / "bad_input.tsv")
        record = provenance.record(
            {"corruptions": options.corruptions},
            outputs=[HERE / "bad_input.tsv"],
            corruptions=len(outcomes),
            faults=faults,
        )
        provenance.write_json(HERE / "bad_input.json", record)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
