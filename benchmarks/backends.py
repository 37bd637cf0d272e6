"""Do two backends of Keras make the same tables and maps of the same networks?

Usage: python benchmarks/backends.py RUN OTHER     (two results folders; runs nothing)

Train on one backend. Copy the results folder, remove what 04 to 07 wrote there, and run the series
again on the other backend, with another `KERAS_BACKEND` or in another environment. Snakemake keeps
the trained networks, so that both folders evaluate and explain the same weights.

The two folders are compared number by number: each table of 04 to 07, and each heatmap of 05. A
difference counts relative to the largest magnitude of its column, or of its map. Figures and the
results page are made of these tables. Left out are times, hashes of files, and what 07 computes
with random weights: each backend draws others from the same seed.

Written beside this file: backends.tsv (notebook, table, numbers, largest relative difference, cells
of text that differ) and backends.json (backends, versions).
"""

import json
import sys
from dataclasses import astuple, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from msxai.base import provenance, tsv

HERE = Path(__file__).parent
COLUMNS = ["notebook", "table", "numbers", "largest_difference", "texts_that_differ"]
FOLDERS = {
    "evaluation": "04_evaluation",
    "heatmaps": "05_lrp_heatmaps",
    "regions": "06_region_relevance",
    "quality": "07_explanation_quality",
}
NEVER_REPEATED = ("seconds", "sha256")  # columns
OF_RANDOM_WEIGHTS = ("untrained", "randomised", "random weights")  # how a row's text begins
TABLES_OF_RANDOM_WEIGHTS = ("randomisation", "controls")  # all rows, or differences to them
MAPS = "heatmaps (.nii.gz)"


@dataclass(frozen=True)
class Comparison:
    """What differs between two tables, or between two maps.

    Attributes
    ----------
    numbers : int
        Numbers that were compared.
    largest : float
        Largest difference over the largest magnitude of its column.
    texts : int
        Cells of text that differ.
    """

    numbers: int
    largest: float
    texts: int = 0


def compare_values(values, others) -> Comparison:
    """Compare two arrays of numbers of one meaning."""
    values = np.asarray(values, float)
    others = np.asarray(others, float)
    missing = np.isnan(values)
    if (missing != np.isnan(others)).any():
        return Comparison(values.size, np.inf)
    scale = np.nanmax(np.abs(values), initial=0.0)
    apart = np.nanmax(np.abs(values - others), initial=0.0)
    if apart == 0:
        return Comparison(values.size, 0.0)
    return Comparison(values.size, float(apart / scale) if scale else np.inf)


def repeated(table: pd.DataFrame) -> pd.DataFrame:
    """Return the part of a table that does not depend on random weights, sorted by its texts."""
    columns = [column for column in table if column not in NEVER_REPEATED]
    table = table[columns]
    texts = [column for column in columns if not is_number(table[column])]
    is_random = pd.Series(False, index=table.index)
    for column in texts:
        is_random |= table[column].astype(str).str.startswith(OF_RANDOM_WEIGHTS)
    table = table[~is_random]
    return table.sort_values(texts, kind="stable", ignore_index=True) if texts else table


def is_number(column: pd.Series) -> bool:
    """Return whether a column holds numbers; truth values count as texts."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def compare_tables(table: pd.DataFrame, other: pd.DataFrame) -> Comparison:
    """Compare two tables column by column.

    Raises
    ------
    SystemExit
        They have other columns, or another number of rows.
    """
    if list(table) != list(other) or len(table) != len(other):
        sys.exit(f"backends: found {other.shape} cells, {list(other)}; expected {table.shape}")
    parts = []
    for name in table:
        if is_number(table[name]) and is_number(other[name]):
            parts.append(compare_values(table[name], other[name]))
        else:
            texts = table[name].astype(str) != other[name].astype(str)
            parts.append(Comparison(0, 0.0, int(texts.sum())))
    return joined(parts)


def joined(parts: list[Comparison]) -> Comparison:
    """Several comparisons as one."""
    return Comparison(
        sum(part.numbers for part in parts),
        max((part.largest for part in parts), default=0.0),
        sum(part.texts for part in parts),
    )


def compare_maps(folder: Path, other: Path, files: list[Path]) -> Comparison:
    """Compare heatmaps, each relative to its own largest magnitude."""
    parts = []
    for file in files:
        values = nib.load(folder / file).get_fdata()
        parts.append(compare_values(values, nib.load(other / file).get_fdata()))
    return joined(parts)


def compare(run: Path, other: Path) -> pd.DataFrame:
    """Compare two results folders; one row for each table of 04 to 07."""
    rows = []
    for name, notebook in FOLDERS.items():
        folder = run / name
        maps = sorted(path.relative_to(run) for path in folder.rglob("*.nii.gz"))
        if maps:
            rows.append((notebook, MAPS, *astuple(compare_maps(run, other, maps))))
        for path in sorted(folder.rglob("*.tsv")):
            if path.stem.startswith("fig") or path.stem in TABLES_OF_RANDOM_WEIGHTS:
                continue
            file = path.relative_to(run)
            tables = [repeated(tsv.read(folder / file)) for folder in (run, other)]
            comparison = compare_tables(*tables)
            rows.append((notebook, str(file.relative_to(name)), *astuple(comparison)))
    if not rows:
        sys.exit(f"backends: found no table of 04 to 07 in {run}; expected a finished series")
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table[(table["numbers"] > 0) | (table["texts_that_differ"] > 0)]


def backend_of(run: Path) -> str:
    """Which backend 04 ran on, with its version."""
    record = json.loads((run / "evaluation" / "provenance.json").read_text(encoding="utf-8"))
    name = record["backend"]
    return f"{name} {record['versions'][name]}"


def main(run: Path, other: Path) -> None:
    """Write the table and its record."""
    table = compare(run, other)
    print(table.to_string(index=False))
    file = HERE / "backends.tsv"
    tsv.write(table, file, float_format="%.2g")
    backends = [backend_of(run), backend_of(other)]
    record = provenance.record({}, outputs=[file], backends=backends)
    provenance.write_json(file.with_suffix(".json"), record)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
