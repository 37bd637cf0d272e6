"""Removes runs/ with all results (make clean SURE=1), unless a run is at work there.

Without SURE=1 it says what would be removed, and removes nothing: results can be days of work. The
lock of each results folder (tools/run_alone.py) is held while it is removed, so that no run starts
in the meantime. It needs Python alone, because .venv may be gone already.
"""

import errno
import fcntl
import os
import shutil
import sys
from pathlib import Path

RUNS = Path("runs")
LOCK = ".lock"  # as in run_alone.py
WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


def held(runs: Path) -> list[Path]:
    """Take the locks of all results folders; return the folders where a run has it."""
    folders = []
    for path in sorted(runs.rglob(LOCK)):
        lock = os.open(path, os.O_RDWR)  # stays open until this process ends
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            folders.append(path.parent)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
    return folders


def contents(runs: Path) -> str:
    """Return the names of the results folders and how much they hold, in words."""
    names = [path.name for path in sorted(runs.iterdir()) if not path.name.startswith(".")]
    files = [path for path in runs.rglob("*") if path.is_file() and not path.is_symlink()]
    gigabytes = sum(path.stat().st_size for path in files) / 1e9
    return f"{', '.join(names) or 'no results'} ({len(files)} files, {gigabytes:.1f} GB)"


def remove(runs: Path) -> None:
    """Remove all that is in a folder, and the folder; a link to a folder stays."""
    for path in sorted(runs.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not runs.is_symlink():
        runs.rmdir()


def main() -> None:
    """Refuse, ask, or remove."""
    os.chdir(Path(__file__).resolve().parent.parent)
    if not RUNS.is_dir():
        print("clean: there is no runs/, so nothing to remove")
        return
    at_work = held(RUNS)
    if at_work:
        folders = ", ".join(str(folder) for folder in at_work)
        sys.exit(
            f"clean: found a run at work in {folders}; expected none. Wait until it ends, or stop "
            "it; then give the same command again."
        )
    if os.environ.get("SURE") != "1":
        sys.exit(
            f"clean: runs/ holds {contents(RUNS)}. Nothing was removed. To remove all of it: "
            "make clean SURE=1"
        )
    removed = contents(RUNS)
    remove(RUNS)
    print(f"clean: removed runs/, {removed}")


if __name__ == "__main__":
    main()
