"""Says in a few sentences why a run stopped, after Snakemake's own messages.

`tools/run_alone.py` prints these sentences last. They come from what the run has left: the messages
of its notebooks, and Snakemake's log.
"""

import os
import re
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

AGAIN = "then give the same command again"
FREE_MB = 20  # with less, not even the executed notebooks have room
LIMITS = "workflow/slurm/config.yaml"
SLURM_STATES = {
    "CANCELLED": ("was cancelled (scancel)", "The same command submits it again"),
    "OUT_OF_MEMORY": (
        "needed more memory than it had asked for",
        f"Give its rule more mem_mb under set-resources in {LIMITS}, {AGAIN}",
    ),
    "TIMEOUT": (
        "ran past its time",
        f"Give its rule more runtime (minutes) under set-resources in {LIMITS}, {AGAIN}",
    ),
    "NODE_FAIL": ("was on a node that failed", "The same command submits it again"),
    "PREEMPTED": ("had to make way for another job", "The same command submits it again"),
}
"""What Slurm calls the end of a job: what happened, and what to do."""
OUT_OF_MEMORY = re.compile(r"exceeded (job )?memory limit|oom[-_ ]kill", re.IGNORECASE)
"""What a job's own log says where Slurm calls it FAILED, because a process of it was killed."""


@dataclass(frozen=True)
class FailedJob:
    """A job that failed, by Snakemake's log.

    Attributes
    ----------
    rule : str
    notebook : str
        The executed notebook; empty where the rule has none.
    state : str
        What Slurm calls its end; empty on one computer.
    number : str
        Slurm's number of the job.
    """

    rule: str
    notebook: str
    state: str
    number: str


def cannot_write(folder) -> str:
    """Return why nothing can be written in a folder, as a sentence; empty if it can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return (
            f"{folder}: found a folder that cannot be written ({error.strerror}); expected one "
            f"that can. Mend that (ls -ld {folder}; df -h {folder}), {AGAIN}."
        )
    free = shutil.disk_usage(folder).free / 1e6
    if free < FREE_MB:
        return (
            f"{folder}: found {free:.0f} MB free on its disk; expected {FREE_MB} MB and more. "
            f"Free space there (df -h {folder}), {AGAIN}."
        )
    return ""


def sentences(results: Path, since: float) -> list[str]:
    """Return why a run stopped, one sentence or two for each reason.

    Parameters
    ----------
    results : pathlib.Path
        The results folder.
    since : float
        When the run began, in seconds since 1970; what is older is of an earlier run.
    """
    why = [sentence for sentence in map(cannot_write, (results, ".")) if sentence]
    if why:
        return why[:1]  # all else follows from it
    log = _log(since)
    why += _clock(log)
    jobs = failed_jobs(log)
    for job in jobs:
        if job.state in SLURM_STATES:
            what, mend = SLURM_STATES[job.state]
            why.append(f"{job.notebook or job.rule}: job {job.number} {what}. {mend}.")
    explained = {job.notebook for job in jobs if job.state in SLURM_STATES}
    for messages in sorted((results / "notebooks").glob("*.messages")):
        notebook = messages.with_suffix("")
        if messages.stat().st_mtime >= since and notebook.as_posix() not in explained:
            why.append(_of_notebook(notebook, messages))
    return why or [f"{results}: the run has stopped. The same command goes on where it stopped."]


def failed_jobs(log: str) -> list[FailedJob]:
    """Return the jobs that failed, by the text of Snakemake's log, each of them once."""
    jobs = {}
    for block in re.split(r"^(?=Error in rule )", log, flags=re.MULTILINE)[1:]:
        rule = re.match(r"Error in rule (\w+)", block)[1]
        logs = re.search(r"^ +log: (\S.*?)(?: \(check log file| *$)", block, re.MULTILINE)
        notebook, *own_logs = logs[1].split(", ") if logs else [""]
        slurm = re.search(r"SLURM-job '([^']+)' failed.*?status is: *'(\w+)", block, re.DOTALL)
        number, state = slurm.groups() if slurm else ("", "")
        if state == "FAILED" and any(map(_is_out_of_memory, own_logs)):
            state = "OUT_OF_MEMORY"
        jobs[rule, notebook] = FailedJob(rule=rule, notebook=notebook, state=state, number=number)
    return list(jobs.values())


def _is_out_of_memory(name: str) -> bool:
    """Return whether a job's own log says that it needed more memory than it had."""
    path = Path(name)
    if not path.is_file():
        return False
    return bool(OUT_OF_MEMORY.search(path.read_text(encoding="utf-8", errors="replace")))


def _log(since: float) -> str:
    """Return Snakemake's log of this run; empty if there is none."""
    logs = [log for log in Path(".snakemake/log").glob("*.log") if log.stat().st_mtime >= since]
    if not logs:
        return ""
    newest = max(logs, key=lambda log: log.stat().st_mtime)
    return newest.read_text(encoding="utf-8", errors="replace")


def _clock(log: str) -> list[str]:
    """Return a sentence for each input from the future, by Snakemake's log."""
    inputs = re.findall(r"than input (.+?) \(\d{4}-\d\d-\d\d .*clock skew", log)
    return [
        f"{name}: found a time that lies after the computer's; expected one in the past. Was the "
        f"clock set back? Give the file the present time (touch {shlex.quote(name)}), {AGAIN}."
        for name in sorted(set(inputs))
    ]


def _of_notebook(notebook: Path, messages: Path) -> str:
    """Return why a notebook failed: the last line of its messages."""
    lines = messages.read_text(encoding="utf-8", errors="replace").split("\n")
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        return f"{notebook}: ended without a word. The same command makes it again."
    if "No space left on device" in lines[-1] or "Disk quota exceeded" in lines[-1]:
        return (
            f"{notebook}: the disk was full. Free space on it (df -h {notebook.parent}), {AGAIN}."
        )
    if "DeadKernelError" in lines[-1] or "Kernel died" in lines[-1]:
        return (
            f"{notebook}: its kernel was killed. Was the memory full (dmesg | tail)? The same "
            "command makes it again."
        )
    return f"{notebook}: {lines[-1]}"
