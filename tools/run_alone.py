"""Runs Snakemake on a results folder, unless another run is at work there.

Usage: python tools/run_alone.py runs/demo .venv/bin/snakemake --configfile workflow/demo.yaml ...

Snakemake's own lock outlives a run that was killed: the next one ends with LockException. Here the
operating system holds the lock (`flock`) for as long as the process lives, so a kill or a power cut
releases it. A killed run can also leave its notebooks at work, which would write the same files as
the new run: they are stopped first. Snakemake's settings (workflow/*/config.yaml) leave out its own
lock, and make again what a kill has cut short.
"""

import fcntl
import json
import os
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import psutil

LOCK = ".lock"
PATIENCE = 10  # seconds in which a notebook ends once it was asked to


def hold(results: Path) -> None:
    """Take the lock of a results folder for this process, or say who has it and exit with 1."""
    path = results / LOCK
    try:
        results.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        sys.exit(
            f"{results}: found a folder that cannot be written ({error.strerror}); expected one "
            f"that can. Mend its permissions: ls -ld {results}"
        )
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(_in_use(results, path))
    os.ftruncate(lock, 0)
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    os.write(lock, json.dumps({"process": os.getpid(), "started": started}).encode())
    # The command that takes this process's place keeps the lock.
    os.set_inheritable(lock, True)


def _in_use(results: Path, path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        who = f"process {holder['process']}, at work since {holder['started']}"
    except (OSError, ValueError):
        who = "another process"
    return (
        f"{results}: found a run at work ({who}); expected none. Wait until it ends, or stop it; "
        "then give the same command again."
    )


def left_notebooks(results: Path) -> list[psutil.Process]:
    """Return the processes of papermill that execute a notebook of this results folder."""
    folder = (results / "notebooks").as_posix()
    here = Path.cwd()
    processes = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            is_papermill = any(Path(word).name == "papermill" for word in words[:2])
            writes_here = any(word.startswith(f"{folder}/") for word in words)
            if is_papermill and writes_here and Path(process.cwd()) == here:
                processes.append(process)
        except psutil.Error:
            continue  # it has ended, or is of another user
    return processes


def stop(processes: list[psutil.Process]) -> None:
    """Stop notebooks and their kernels; kill what does not end."""
    stopping = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            stopping += [process, *process.children(recursive=True)]
    for process in stopping:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(stopping, PATIENCE)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, PATIENCE)


def main() -> None:
    """Take the lock, stop what a killed run has left, and become the command."""
    results = Path(sys.argv[1])
    command = sys.argv[2:]
    hold(results)
    left = left_notebooks(results)
    if left:
        print(f"{results}: stopping {len(left)} notebooks of a run that was killed", flush=True)
        stop(left)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
