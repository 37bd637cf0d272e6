"""Which notebooks of the series take longest, and which of their cells? Seconds; runs nothing.

Usage: python benchmarks/series_profile.py RUNS [--alone] [--before]
(`make proof-series-profile`, after make figures. --alone: no other program ran at that time.
--before: the run that the last one is compared with.)

Reads the executed notebooks of a results folder. papermill has written into them how long each
notebook and each cell took. A notebook of several runs (03: one a training) is one row, its runs
added. Where other programs ran at the same time, seconds are too long; compare the shares.

Written beside this file: series_profile.tsv (notebook, runs, seconds, share of the series, the
share of the notebook that is the start of its kernel and its imports, the slowest cell by the
heading above it and its first line, and that cell's share of the notebook) and series_profile.json,
with the minutes from the first start to the last end. With --before, series_profile_before.tsv.
"""

import argparse
import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from msxai.base import provenance, tsv

HERE = Path(__file__).parent
SCRIPTS = HERE.parent / "notebooks"
WORDS = 60  # letters of a cell's first line that are shown


@dataclass(frozen=True)
class Cell:
    """A cell of code.

    Attributes
    ----------
    heading : str
        The nearest heading above it.
    line : str
        Its first line.
    seconds : float
    """

    heading: str
    line: str
    seconds: float


def notebook_of(path: Path) -> str:
    """Return which notebook of the series an executed one is."""
    names = [script.stem for script in SCRIPTS.glob("*.py") if path.stem.startswith(script.stem)]
    return max(names, key=len, default=path.stem)


def cells_of(content: dict) -> list[Cell]:
    """Return the cells of code of an executed notebook that the notebook itself has."""
    heading = ""
    cells = []
    for cell in content["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            headings = re.findall(r"^#+ +(.+)$", source, re.MULTILINE)
            heading = headings[-1] if headings else heading
        elif source and "injected-parameters" not in cell["metadata"].get("tags", []):
            seconds = cell["metadata"]["papermill"]["duration"] or 0.0
            cells.append(Cell(heading, source.splitlines()[0][:WORDS], seconds))
    return cells


def profile(folder: Path) -> pd.DataFrame:
    """Return one row a notebook, the slowest first.

    Parameters
    ----------
    folder : pathlib.Path
        A results folder with executed notebooks.
    """
    contents: dict[str, list[dict]] = {}
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        content = json.loads(path.read_text(encoding="utf-8"))
        contents.setdefault(notebook_of(path), []).append(content)
    rows = [_row(name, runs) for name, runs in contents.items()]
    table = pd.DataFrame(rows).sort_values("seconds", ascending=False, ignore_index=True)
    share = table["seconds"] / table["seconds"].sum()
    table.insert(3, "share", share)
    return table


def _row(name: str, runs: list[dict]) -> dict:
    """Return the row of one notebook: its runs added, cell by cell."""
    total = sum(run["metadata"]["papermill"]["duration"] for run in runs)
    by_run = [cells_of(run) for run in runs]
    seconds = [sum(same.seconds for same in cells) for cells in zip(*by_run, strict=True)]
    start = total - sum(seconds) + seconds[0]
    slowest = max(range(1, len(seconds)), key=seconds.__getitem__)
    cell = by_run[0][slowest]
    return {
        "notebook": name,
        "runs": len(runs),
        "seconds": total,
        "start_share": start / total,
        "slowest_heading": cell.heading,
        "slowest_cell": cell.line,
        "slowest_share": seconds[slowest] / total,
    }


def elapsed(folder: Path) -> float:
    """Return the minutes from the start of the first notebook to the end of the last one."""
    times = []
    for path in (folder / "notebooks").glob("*.ipynb"):
        papermill = json.loads(path.read_text(encoding="utf-8"))["metadata"]["papermill"]
        times += [papermill["start_time"], papermill["end_time"]]
    moments = [datetime.fromisoformat(time) for time in times]
    return (max(moments) - min(moments)).total_seconds() / 60


def main() -> None:
    """Write the table and its record, and print them."""
    parser = argparse.ArgumentParser(description="Which notebooks and cells take longest?")
    parser.add_argument("results", type=Path)
    parser.add_argument("--alone", action="store_true", help="no other program ran at that time")
    parser.add_argument("--before", action="store_true", help="the run to compare with")
    options = parser.parse_args()
    table = profile(options.results)
    path = HERE / ("series_profile_before.tsv" if options.before else "series_profile.tsv")
    tsv.write(table, path, float_format="%.4g")
    record = provenance.record(
        {"command": "make proof-series-profile", "alone": options.alone},
        outputs=[path],
        minutes=round(float(table["seconds"].sum() / 60), 1),
        elapsed_minutes=round(elapsed(options.results), 1),
        notebooks=int(table["runs"].sum()),
    )
    figures = json.loads((options.results / "figures" / "provenance.json").read_text())
    record["commit_of_run"] = figures["commit"]
    provenance.write_json(path.with_suffix(".json"), record)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
