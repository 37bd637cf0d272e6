"""Copies figures out of a results folder into figures/, as a whole or not at all.

Usage: python tools/copy_figures.py runs/demo/figures figures/demo .png .svg .tsv .json
       python tools/copy_figures.py runs/demo/league figures/quality        (all files, and folders)
The copy is made beside the target and then takes its place. A kill, or a disk that is full, leaves
the old figures.
"""

import shutil
import sys
from pathlib import Path

from msxai.base import provenance


def copy(source: Path, target: Path, endings=()) -> int:
    """Put copies of the files of a folder in the place of another folder; return how many.

    Parameters
    ----------
    source, target : path
    endings : sequence of str
        Files with these endings alone, none of them in a folder below; by default everything.
    """
    with provenance.replacing(target) as draft:
        shutil.copytree(source, draft, ignore=lambda folder, names: _others(folder, names, endings))
        count = sum(path.is_file() for path in draft.rglob("*"))
        if not count:
            sys.exit(
                f"{source}: found no file to copy; expected figures. {target} stays as it was. "
                "Draw them first: make figures"
            )
    return count


def _others(folder: str, names: list[str], endings) -> list[str]:
    """Return the names that are not copied."""
    if not endings:
        return []
    wanted = {name for name in names if name.endswith(tuple(endings))}
    return [name for name in names if name not in wanted or (Path(folder) / name).is_dir()]


def main() -> None:
    """Copy, and say how many files there are."""
    source, target, *endings = sys.argv[1:]
    if not Path(source).is_dir():
        sys.exit(
            f"{source}: found no folder; expected figures. {target} stays as it was. "
            "Draw them first: make figures"
        )
    print(f"{target}: {copy(Path(source), Path(target), endings)} files")


if __name__ == "__main__":
    main()
