"""The series as jobs of a Slurm cluster: the same results as on one computer, and clear messages.

Usage: python benchmarks/slurm.py [--profile smoke]
About 20 minutes on two idle cores. Needs Debian's packages slurm-wlm and munge. Works in a
temporary folder, as root or as any user.

A cluster of two nodes is simulated on this computer (tools/slurm_here.sh). The series runs twice in
copies of the checkout: by SCHEDULER=slurm, and on the computer alone. The run
on the cluster is disturbed, each time followed by the same command:
1. a job asks for too little memory,
2. a job hangs until its time is over,
3. a job is cancelled by scancel,
4. the runner is killed while its jobs are at work.
The last lines of the first three must say which of them happened, and no other. The fourth run's
jobs must not stay. In the end both results are compared as in benchmarks/kills.py.

Written beside this file: slurm.json (versions, messages, files compared). Exits with 1 where a
file differs or a message does not fit.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import yaml
from kills import Run, compare, copy_of_checkout, moved

from msxai import ROOT
from msxai.base import provenance

HERE = Path(__file__).parent
SETTINGS = "workflow/slurm/config.yaml"
CLUSTER = ROOT / "tools" / "slurm_here.sh"
# On a cluster that only this series uses, without Slurm's data base of past jobs.
SIMULATED = {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 5}
PATIENCE = 900  # seconds
SECONDS_TO_START = 3  # of processor time that a kernel needs before its first cell, and some more


def on_cluster(run: Run) -> Run:
    """Return the same run as jobs of a cluster, with the settings of its own copy."""
    command = [word.replace("workflow/local", "workflow/slurm") for word in run.command]
    start = command.index("--cores")
    del command[start : start + 2]
    return replace(run, command=command)


def set_resources(run: Run, **rules) -> None:
    """Write the settings of the cluster as a user would: a partition, and resources of rules."""
    path = run.folder / SETTINGS
    settings = yaml.safe_load((ROOT / SETTINGS).read_text(encoding="utf-8"))
    settings |= SIMULATED
    settings["default-resources"]["slurm_partition"] = "simulated"
    settings |= {"set-resources": rules} if rules else {}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")


def jobs(state: str) -> list[str]:
    """Return the numbers of all jobs in a state."""
    command = ["squeue", "--noheader", f"--states={state}", "--format=%A"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def until(condition, run: Run):
    """Wait for a condition; return what it returns."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.5)
    raise SystemExit(f"{run.folder}: waited {PATIENCE} s in vain; see its messages")


def kernel(run: Run) -> psutil.Process | None:
    """Return the kernel of a notebook that is at work, if there is one.

    A kernel that was made to hang can outlive its job, until the next run stops it.
    """
    mark = str((run.folder / run.results).resolve())
    for process in psutil.process_iter():
        try:
            is_kernel = "ipykernel_launcher" in " ".join(process.cmdline()[:4])
            is_at_work = process.status() != psutil.STATUS_STOPPED
            if is_kernel and is_at_work and process.environ().get("MSXAI_RESULTS") == mark:
                return process
        except psutil.Error:
            continue
    return None


def busy_kernel(run: Run) -> psutil.Process | None:
    """Return the kernel of a notebook that runs its cells already.

    Where a kernel stops before its first cell, papermill ends the notebook after a minute.
    """
    process = kernel(run)
    if process is None:
        return None
    times = process.cpu_times()
    return process if times.user + times.system > SECONDS_TO_START else None


def end_of(process, run: Run) -> list[str]:
    """Wait for the end of a run that must fail; return its last lines."""
    until(lambda: process.poll() is not None, run)
    if process.returncode == 0:
        raise SystemExit(f"{run.folder}: a run passed that was disturbed")
    text = (run.folder / "messages").read_text(encoding="utf-8")
    return text.rstrip().split("\n")[-3:]


def too_little_memory(run: Run) -> list[str]:
    """Run with a job that asks for too little memory; return the last lines."""
    set_resources(run, prepare={"mem_mb": 150})
    return end_of(run.start(), run)


def too_little_time(run: Run) -> list[str]:
    """Run with a job that hangs; return the last lines."""
    set_resources(run, prepare={"runtime": 1})
    process = run.start()
    until(lambda: busy_kernel(run), run).send_signal(signal.SIGSTOP)
    return end_of(process, run)


def cancelled(run: Run) -> list[str]:
    """Run and cancel a job that is at work; return the last lines."""
    set_resources(run)
    process = run.start()
    until(lambda: kernel(run), run)
    subprocess.run(["scancel", *jobs("RUNNING")], check=True)
    return end_of(process, run)


def killed(run: Run) -> list[str]:
    """Run and kill the runner while its jobs are at work; return the jobs that stay."""
    set_resources(run)
    process = run.start()
    until(lambda: kernel(run), run)
    process.kill()
    process.wait()
    return jobs("RUNNING")


DISTURBANCES = {
    "memory": (too_little_memory, "needed more memory than it had asked for"),
    "time": (too_little_time, "ran past its time"),
    "scancel": (cancelled, "was cancelled (scancel)"),
}
"""What happens to a job, and what the last lines must say."""


def measure(make: Callable[[], Run]) -> dict:
    """Run a series on the cluster, disturbed, and once more on this computer alone.

    Parameters
    ----------
    make : callable
        Makes the run in a new folder, each time at the same path.
    """
    cluster = on_cluster(make())
    result = {"messages": {}, "fits": {}}
    for name, (disturb, expected) in DISTURBANCES.items():
        lines = disturb(cluster)
        text = "\n".join(lines)
        others = [other for key, (_, other) in DISTURBANCES.items() if key != name]
        result["messages"][name] = [line for line in lines if " job " in line]
        result["fits"][name] = expected in text and not any(other in text for other in others)
        print(name, text, sep="\n", flush=True)
    left = killed(cluster)
    set_resources(cluster, draw={"gpu": 1})  # a job that no earlier run has reached
    began = time.time()
    process = cluster.start()
    until(lambda: not set(left) & set(jobs("RUNNING")), cluster)
    result["jobs_with_gpu"] = until(_n_jobs_with_gpu, cluster)
    _finish(process, cluster)
    result["jobs_left_by_a_kill"] = len(left)
    result["jobs_completed"] = len(jobs("COMPLETED"))
    result["seconds_on_cluster_after_them"] = round(time.time() - began)
    cluster = moved(cluster, "cluster")
    local = make()
    began = time.time()
    _finish(local.start(), local)
    result["seconds_on_one_computer"] = round(time.time() - began)
    return result | compare(local, cluster)


def _finish(process, run: Run) -> None:
    if process.wait() != 0:
        text = (run.folder / "messages").read_text(encoding="utf-8")
        raise SystemExit(f"{run.folder}: a run failed that nobody disturbed\n{text[-4000:]}")


def _n_jobs_with_gpu() -> int:
    """Return how many jobs ask for a GPU; Slurm forgets it of jobs that have ended."""
    command = ["scontrol", "show", "jobs", "--oneliner"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return sum("gres:gpu" in line for line in done.stdout.splitlines())


def main() -> None:
    """Start the cluster, run the proof, write its record, stop the cluster."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", default="smoke")
    options = parser.parse_args()
    parent = Path(tempfile.mkdtemp(prefix="msxai-slurm-"))

    def make() -> Run:
        return copy_of_checkout(parent / "checkout", options.profile, cores=2)

    nodes = parent / "nodes"
    subprocess.run(["sh", CLUSTER, "start", nodes], check=True)
    os.environ["PATH"] = f"{nodes / 'bin'}{os.pathsep}{os.environ['PATH']}"
    try:
        result = measure(make)
    finally:
        subprocess.run(["sh", CLUSTER, "stop", nodes], check=True)
    holds = not result["differ"] and all(result["fits"].values())
    version = subprocess.run(["sbatch", "--version"], capture_output=True, text=True, check=True)
    record = provenance.record(
        vars(options), result=result, slurm=version.stdout.strip(), holds=holds
    )
    provenance.write_json(HERE / "slurm.json", record)
    print(json.dumps(result, indent=2))
    if holds:
        shutil.rmtree(parent)
    else:
        print(f"both results are kept, to be looked at: {parent}")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
