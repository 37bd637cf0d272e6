"""Runs Snakemake on a results folder, unless another run is at work there.

Usage: python tools/run_alone.py runs/demo .venv/bin/snakemake --configfile workflow/demo.yaml ...

Snakemake's own lock outlives a run that was killed: the next one ends with LockException. Here the
operating system holds the lock (`flock`) for as long as the process lives, so a kill or a power cut
releases it. A killed run can also leave its notebooks at work, on this computer or as jobs of a
cluster. They would write the same files as the new run, so they are stopped first. Snakemake's
settings (workflow/*/config.yaml) leave out its own lock, and make again what a kill has cut short.
After a failure the last lines say why (tools/end_message.py).
"""

import ctypes
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import end_message
import psutil

from msxai.base import provenance

LOCK = ".lock"
PATIENCE = 10  # seconds in which a process ends once it was asked to
MARK = "MSXAI_RESULTS"  # a variable that every process of a run has: the results folder
CLUSTER = "workflow/slurm"  # Snakemake's settings for a cluster
WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG in linux/prctl.h
WATCHED = ("msxai", "notebooks")  # code, whose times the workflow compares with those of results
LEFTOVERS = ("*.ipynb.source.ipynb", "*.ipynb.messages")  # of RUN in the Snakefile
LONG_AGO = 946_684_800  # the year 2000, in seconds since 1970


def hold(results: Path) -> int:
    """Take the lock of a results folder, or say who has it and exit with 1.

    Returns
    -------
    int
        The open lock file.
    """
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
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        print(f"{results}: its file system has no locks. Start no second run there.", flush=True)
    return lock


def sign(lock: int) -> None:
    """Write into the lock file who holds it."""
    os.ftruncate(lock, 0)
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    os.write(lock, json.dumps({"process": os.getpid(), "started": started}).encode())


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


def left_processes(results: Path) -> list[psutil.Process]:
    """Return what an earlier run on this results folder has left at work: notebooks, kernels."""
    mark = str(results.resolve())
    processes = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.pid != os.getpid():
                processes.append(process)
        except psutil.Error:
            continue  # it has ended, or is of another user
    return processes


def stop(processes: list[psutil.Process]) -> None:
    """Stop processes; kill what does not end."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, PATIENCE)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, PATIENCE)


def job_prefix(results: Path) -> str:
    """Return how the names of a results folder's jobs on a cluster begin."""
    return f"msxai-{zlib.crc32(str(results.resolve()).encode()):08x}"


def with_job_names(command: list[str], results: Path) -> list[str]:
    """Return a command that names its jobs on a cluster after the results folder.

    A later run knows by the names which jobs an earlier one has left.
    """
    if CLUSTER not in command:
        return command
    end = command.index(CLUSTER) + 1
    return [*command[:end], "--slurm-jobname-prefix", job_prefix(results), *command[end:]]


def left_jobs(results: Path) -> list[str]:
    """Return the numbers of this user's Slurm jobs that an earlier run has submitted."""
    if shutil.which("squeue") is None:
        return []
    command = ["squeue", "--me", "--noheader", "--states=all", "--format=%A %T %j"]
    queue = subprocess.run(command, capture_output=True, text=True, check=False)
    numbers = []
    for line in queue.stdout.splitlines():
        number, state, name = line.split(maxsplit=2)
        is_active = state in ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING")
        if is_active and name.startswith(f"{job_prefix(results)}_"):
            numbers.append(number)
    return sorted(set(numbers))


def cancel(results: Path) -> int:
    """Cancel the jobs that an earlier run has left, wait until they have ended; return how many."""
    jobs = left_jobs(results)
    if jobs:
        subprocess.run(["scancel", *jobs], check=False)
    deadline = time.monotonic() + 6 * PATIENCE
    while left_jobs(results) and time.monotonic() < deadline:
        time.sleep(1)
    return len(jobs)


def from_the_future(folder, now: float) -> list[Path]:
    """Return files and folders whose time lies after `now`, in seconds since 1970."""
    return [path for path in Path(folder).rglob("*") if path.lstat().st_mtime > now]


def mend_times(results: Path) -> int:
    """Give what is from the future another time, where the clock was set back; return how many.

    Snakemake refuses an output that is older than its input, and takes an input that is older than
    its output as unchanged. So results become older than everything, and code becomes as new as
    can be: then Snakemake compares the content, and makes again what has really changed.
    """
    now = time.time()
    times = {results: LONG_AGO} | dict.fromkeys(map(Path, WATCHED), now)
    n_mended = 0
    for folder, then in times.items():
        for path in from_the_future(folder, now):
            os.utime(path, (then, then), follow_symlinks=False)
            n_mended += 1
    return n_mended


def remove_leftovers(results: Path) -> None:
    """Remove what a job writes beside its executed notebook and removes at its end.

    A kill between the end of a notebook and that of its job leaves these files beside a whole
    result. A failed notebook leaves them, too: its run has read them for its last lines.
    """
    for leftover in LEFTOVERS:
        for path in (results / "notebooks").glob(leftover):
            path.unlink()


def tidy(results: Path) -> None:
    """Mend what a kill, or a clock that was set back, has left; say what."""
    n_jobs = cancel(results)
    if n_jobs:
        print(f"{results}: cancelled {n_jobs} jobs of a run that was killed", flush=True)
    left = left_processes(results)
    if left:
        print(f"{results}: stopping {len(left)} processes of a run that was killed", flush=True)
        stop(left)
    provenance.remove_drafts(results)
    remove_leftovers(results)
    n_mended = mend_times(results)
    if n_mended:
        print(
            f"{results}: {n_mended} files had a time in the future (was the clock set back?). "
            "They have one in the past now; what has changed is made again",
            flush=True,
        )


def _die_with_parent() -> None:
    """Have the system kill this process when the one that started it ends."""
    ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)


def run(command: list[str], results: Path, lock: int) -> int:
    """Run a command; return its exit status.

    A kill of this process kills the command. Ctrl-C reaches both, and only the command ends at
    once.
    """
    child = subprocess.Popen(
        with_job_names(command, results),
        env={**os.environ, MARK: str(results.resolve())},
        pass_fds=[lock],
        preexec_fn=_die_with_parent,
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    return child.wait()


def main() -> None:
    """Take the lock, tidy up, run the command, and say why if it fails."""
    results = Path(sys.argv[1])
    command = sys.argv[2:]
    lock = hold(results)
    for folder in (results, "."):
        refusal = end_message.cannot_write(folder)
        if refusal:
            sys.exit(refusal)
    sign(lock)
    tidy(results)
    since = time.time() - 1  # some file systems keep whole seconds
    status = run(command, results, lock)
    if status == 0:
        return
    for sentence in end_message.sentences(results, since):
        print(sentence, file=sys.stderr, flush=True)
    sys.exit(status if status > 0 else 128 - status)


if __name__ == "__main__":
    main()
