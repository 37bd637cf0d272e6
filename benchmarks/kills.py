"""Kills a run at random moments and goes on with the same command: is the end result the same?

Usage: python benchmarks/kills.py [--profile smoke] [--kills 20] [--seed 0] [--cores 2]
About 15 minutes on two idle cores. Needs no cohort; works in a temporary folder.

The series runs twice in copies of the checkout: once undisturbed, once with random SIGKILLs, each
followed by the same command. Both copies lie at the same path, because results name the scans. A
kill hits the runner, Snakemake, the kernel of a notebook, or all processes of the run at once. Its
moment is drawn over the time of the undisturbed run: before the first notebook, in a notebook, or
between two.

Two results are compared file by file, in the results folder and in the folder of simulated cohorts.
`Kind` lists what may differ, and why. A notebook that is started again after a kill is lost work.

Written beside this file: kills.tsv (one row a kill) and kills.json (versions, files compared).
Exits with 1 where a file differs or a kill costs more than one notebook for each core.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from msxai import ROOT
from msxai.base import provenance, tsv

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
COPIED = ("msxai", "notebooks", "workflow", "tools")
VICTIMS = ("runner", "snakemake", "kernel", "all")
INTERVAL = 0.3  # seconds between two looks at the processes


@dataclass(frozen=True)
class Kind:
    """Files that are compared in the same way.

    Attributes
    ----------
    pattern : str
        A regular expression of paths, from the checkout.
    compared : str
        What is compared: "bytes", "record" (JSON without `written`, and without the hashes of files
        whose bytes are not compared), "page" (text without the day), "notebook" (sources and
        whether a cell failed), or "exists".
    reason : str
        Why not the bytes.
    """

    pattern: str
    compared: str
    reason: str


KINDS = (
    Kind(r"runs/[^/]+/\.lock", "exists", "names the process that is at work"),
    Kind(r"(.*/)?\..*\.lock", "exists", "a lock, empty"),
    Kind(
        r"runs/[^/]+/notebooks/.*\.ipynb",
        "notebook",
        "an executed notebook holds the times of its cells, and the speed of progress bars",
    ),
    Kind(
        r"runs/[^/]+/report/(?!index).*\.html",
        "exists",
        "the page of an executed notebook, with the speed of progress bars",
    ),
    Kind(r"runs/[^/]+/report/index\.html", "page", "names the day of the evaluation"),
    Kind(r".*\.json", "record", "a record says when it was written"),
    Kind(r".*", "bytes", ""),
)
"""The first kind whose pattern matches a path is the path's."""


@dataclass(frozen=True)
class Run:
    """What is run: the command, the results folder and where notebooks are executed.

    Attributes
    ----------
    folder : pathlib.Path
        Where the command runs.
    results : str
        The results folder, from there.
    command : list of str
    """

    folder: Path
    results: str
    command: list[str]

    def start(self) -> subprocess.Popen:
        """Start the command, with its messages in the file ``messages`` of its folder."""
        paths = [self.folder, self.folder / "tools" / "quick_start"]
        if "PYTHONPATH" in os.environ:
            paths.append(os.environ["PYTHONPATH"])
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "HOME": str(self.folder / "home"),
        }
        environment.pop("MPLBACKEND", None)
        with (self.folder / "messages").open("a", encoding="utf-8") as messages:
            return subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=environment,
                stdout=messages,
                stderr=messages,
                start_new_session=True,
            )


@dataclass(frozen=True)
class Moment:
    """When to kill: so many seconds after the start of a notebook, or of the run.

    Attributes
    ----------
    notebook : str
        Empty: the run.
    seconds : float
    """

    notebook: str
    seconds: float


@dataclass
class Watch:
    """What is seen of the notebooks of all runs.

    Attributes
    ----------
    folder : str
        The folder of executed notebooks, from where the command runs.
    starts : list of tuple
        Time and name of each start of a notebook, in order.
    alive : dict
        Name of each notebook at work now to its process.
    """

    folder: str
    starts: list = field(default_factory=list)
    alive: dict = field(default_factory=dict)

    def look(self, process: subprocess.Popen) -> list[psutil.Process]:
        """Look at the processes of a run; return them all."""
        self.alive = {}
        try:
            family = psutil.Process(process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        for member in family:
            name = self._notebook(member)
            if name:
                self.alive[name] = member
                self._note(member.create_time(), name)
        return family

    def last_start(self, notebook: str) -> float | None:
        """Return when a notebook was last started, in seconds since 1970; None if never."""
        times = [time for time, name in self.starts if name == notebook]
        return max(times, default=None)

    def _notebook(self, process: psutil.Process) -> str:
        """Return the notebook that a process of papermill executes; empty for another process."""
        try:
            words = process.cmdline()
        except psutil.Error:
            return ""
        if not any(Path(word).name == "papermill" for word in words[:2]):
            return ""
        for word in words[2:]:
            path = Path(word)
            if str(path.parent) == self.folder and not path.stem.endswith(".source"):
                return path.stem
        return ""

    def _note(self, start: float, notebook: str) -> None:
        if (start, notebook) not in self.starts:
            self.starts.append((start, notebook))


def copy_of_checkout(folder: Path, profile: str, cores: int) -> Run:
    """Copy what a run needs and return the run of a profile there, as the Makefile starts it."""
    for name in COPIED:
        ignored = shutil.ignore_patterns("*.pyc", ".ipynb_checkpoints")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "home").mkdir()
    results = f"runs/{profile}"
    command = [
        *(sys.executable, "tools/run_alone.py", results, str(BIN / "snakemake")),
        *("--snakefile", "workflow/Snakefile", "--configfile", f"workflow/{profile}.yaml"),
        *("--workflow-profile", "workflow/local", "--cores", str(cores)),
    ]
    return Run(folder=folder, results=results, command=command)


def moved(run: Run, name: str) -> Run:
    """Move a finished run's folder aside, next to itself, so that another can take its path."""
    folder = run.folder.with_name(name)
    run.folder.rename(folder)
    return replace(run, folder=folder)


def undisturbed(run: Run) -> tuple[list, float]:
    """Run to the end; return the starts of notebooks and the last moment of the last notebook.

    Both in seconds since the start of the run.
    """
    watch = Watch(f"{run.results}/notebooks")
    began = time.time()
    process = run.start()
    end = began
    while process.poll() is None:
        watch.look(process)
        if watch.alive:
            end = time.time()
        time.sleep(INTERVAL)
    _expect_success(run, process)
    starts = [(start - began, name) for start, name in watch.starts]
    return starts, end - began


def draw_moments(starts: list, end: float, number: int, rng) -> list[Moment]:
    """Draw moments over an undisturbed run, in its order."""
    moments = []
    for seconds in np.sort(rng.uniform(0, end, number)):
        earlier = [(start, name) for start, name in starts if start <= seconds]
        start, name = earlier[-1] if earlier else (0.0, "")
        moments.append(Moment(notebook=name, seconds=float(seconds - start)))
    return moments


def disturbed(run: Run, moments: list[Moment], rng) -> tuple[list[dict], Watch]:
    """Run with a kill at each moment, each time with the same command, then to the end.

    A run goes on with what earlier runs have finished, so it can end before a moment that was drawn
    over the undisturbed run. There is then no kill.

    Returns
    -------
    kills : list of dict
        For each kill: its time, the victim, the notebooks at work.
    watch : Watch
    """
    watch = Watch(f"{run.results}/notebooks")
    kills = []
    process = run.start()
    began = time.time()
    for moment in moments:
        if process.poll() is not None:
            process = run.start()
            began = time.time()
        victim = VICTIMS[rng.integers(len(VICTIMS))]
        targets = _wait_for(process, watch, moment, victim, began)
        if not targets:
            _expect_success(run, process)
            print(f"no kill: the run ended before {moment}", flush=True)
            break
        kills.append(
            {
                "time": time.time(),
                "victim": victim,
                "at_work": sorted(watch.alive),
                "moment": moment,
            }
        )
        print(f"kill {len(kills)}: {victim}, at work: {sorted(watch.alive)}", flush=True)
        for target in targets:
            _kill(target)
        _until_it_has_ended(process, watch, victim)
    while process.poll() is None:
        watch.look(process)
        time.sleep(INTERVAL)
    if process.returncode != 0:
        process = run.start()
        while process.poll() is None:
            watch.look(process)
            time.sleep(INTERVAL)
    _expect_success(run, process)
    return kills, watch


def _wait_for(process, watch: Watch, moment: Moment, victim: str, began: float) -> list:
    """Wait for a moment; return the processes to kill, or none if the run has ended."""
    while process.poll() is None:
        family = watch.look(process)
        targets = _targets(process, family, victim)
        if targets and _is_due(watch, moment, began):
            return targets
        time.sleep(INTERVAL)
    return []


def _is_due(watch: Watch, moment: Moment, began: float) -> bool:
    """Whether a moment has come, in this run or in an earlier one."""
    start = watch.last_start(moment.notebook) if moment.notebook else began
    return start is not None and time.time() - start >= moment.seconds


def _targets(process, family: list, victim: str) -> list:
    """Return the processes that a kill hits; none if there is no such process now."""
    runner = psutil.Process(process.pid)
    if victim == "runner":
        return [runner]
    if victim == "all":
        return [runner, *family]
    word = {"snakemake": "snakemake", "kernel": "ipykernel_launcher"}[victim]
    for member in family:
        try:
            names = [Path(part).name for part in member.cmdline()[:4]]
        except psutil.Error:
            continue
        if word in names:
            return [member]
    return []


def _kill(process: psutil.Process) -> None:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return


def _until_it_has_ended(process, watch: Watch, victim: str) -> None:
    """Wait for the end of a killed run.

    A run goes on where a kernel was killed before it had begun: its notebook is started once more.
    """
    n_starts = len(watch.starts)
    while process.poll() is None:
        watch.look(process)
        if victim == "kernel" and len(watch.starts) > n_starts:
            return
        time.sleep(INTERVAL)


def _expect_success(run: Run, process) -> None:
    if process.returncode != 0:
        text = (run.folder / "messages").read_text(encoding="utf-8")
        raise SystemExit(f"{run.folder}: a run failed that nobody killed\n{text[-4000:]}")


def lost_work(kills: list[dict], starts: list) -> list[list[tuple[str, float]]]:
    """Return for each kill the notebooks that it made start again, with the seconds lost.

    A second start of a notebook is due to the first kill after its start before.
    """
    lost = [[] for _ in kills]
    previous = {}
    for start, name in sorted(starts):
        for number, kill in enumerate(kills):
            if previous.get(name, start) < kill["time"] < start:
                lost[number].append((name, kill["time"] - previous[name]))
                break
        previous[name] = start
    return lost


def kind_of(name: str) -> Kind:
    """Return how a file is compared, by its path from the checkout."""
    return next(kind for kind in KINDS if re.fullmatch(kind.pattern, name))


def content(path: Path, compared: str):
    """Return of a file what is compared."""
    if compared == "exists":
        return True
    if compared == "bytes":
        return provenance.sha256(path)
    text = path.read_text(encoding="utf-8")
    if compared == "page":
        return re.sub(r"\b\d{4}-\d\d-\d\d\b", "DAY", text)
    document = json.loads(text)
    if compared == "record":
        return _without_times(document)
    failed = document["metadata"]["papermill"]["exception"]
    return [failed, *(cell["source"] for cell in document["cells"])]


def _without_times(record):
    """Return a record without its time, and without hashes of files that hold times."""
    if not isinstance(record, dict):
        return record
    content = {key: value for key, value in record.items() if key != "written"}
    for key in ("inputs", "outputs"):
        hashes = content.get(key, {})
        names = [name for name in hashes if kind_of(name).compared == "bytes"]
        content[key] = {name: hashes[name] for name in names}
    return content


def files_of(run: Run) -> set[str]:
    """Return all files of results and of simulated cohorts, by their paths from the checkout."""
    names = set()
    for folder in (run.results, "data"):
        for path in (run.folder / folder).rglob("*"):
            if path.is_file():
                names.add(path.relative_to(run.folder).as_posix())
    return names


def compare(whole: Run, killed: Run) -> dict:
    """Compare two results, file by file.

    Returns
    -------
    dict
        ``files`` (number of files by what was compared), ``differ`` (files that differ, or that
        one result lacks), ``reasons`` (why not the bytes, by pattern).
    """
    names = [files_of(run) for run in (whole, killed)]
    differ = sorted(names[0] ^ names[1])
    numbers = dict.fromkeys(("bytes", "record", "page", "notebook", "exists"), 0)
    for name in sorted(names[0] & names[1]):
        compared = kind_of(name).compared
        contents = [content(run.folder / name, compared) for run in (whole, killed)]
        numbers[compared] += 1
        if contents[0] != contents[1]:
            differ.append(name)
    reasons = {kind.pattern: kind.reason for kind in KINDS if kind.reason}
    return {"files": numbers, "differ": differ, "reasons": reasons}


def table_of(kills: list[dict], watch: Watch, began: float) -> pd.DataFrame:
    """Return one row a kill."""
    rows = []
    for kill, lost in zip(kills, lost_work(kills, watch.starts), strict=True):
        rows.append(
            {
                "seconds": kill["time"] - began,
                "victim": kill["victim"],
                "drawn_in": kill["moment"].notebook or "before the first notebook",
                "at_work": ", ".join(kill["at_work"]) or "none",
                "notebooks_lost": len(lost),
                "seconds_lost": sum(seconds for _, seconds in lost),
            }
        )
    return pd.DataFrame(rows)


def measure(make: Callable[[], Run], n_kills: int, seed: int) -> tuple[pd.DataFrame, dict]:
    """Run a series undisturbed, and once more with kills.

    Parameters
    ----------
    make : callable
        Makes the run in a new folder, each time at the same path.
    n_kills, seed : int

    Returns
    -------
    table : pandas.DataFrame
        See `table_of`.
    result : dict
        What `compare` returns, and the numbers of the table.
    """
    rng = np.random.default_rng(seed)
    whole = make()
    starts, end = undisturbed(whole)
    whole = moved(whole, "whole")
    print(f"undisturbed: {len(starts)} notebooks, {end:.0f} s", flush=True)
    moments = draw_moments(starts, end, n_kills, rng)
    killed = make()
    began = time.time()
    kills, watch = disturbed(killed, moments, rng)
    if not kills:
        raise SystemExit("the run ended before the first moment: take another seed, or more kills")
    table = table_of(kills, watch, began)
    result = {
        "kills": len(table),
        "moments_after_the_end": n_kills - len(table),
        "notebooks": len(starts),
        "seconds_undisturbed": round(end),
        "seconds_with_kills": round(time.time() - began),
        "most_notebooks_lost_by_a_kill": int(table["notebooks_lost"].max()),
        "notebooks_lost": int(table["notebooks_lost"].sum()),
        "seconds_lost": round(float(table["seconds_lost"].sum())),
        **compare(whole, killed),
    }
    return table, result


def main() -> None:
    """Run the proof and write its table and record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, default=2)
    options = parser.parse_args()
    parent = Path(tempfile.mkdtemp(prefix="msxai-kills-"))

    def make() -> Run:
        return copy_of_checkout(parent / "checkout", options.profile, options.cores)

    table, result = measure(make, options.kills, options.seed)
    holds = not result["differ"] and result["most_notebooks_lost_by_a_kill"] <= options.cores
    holds = holds and result["kills"] > 0
    if holds:
        shutil.rmtree(parent)
    else:
        print(f"both results are kept, to be looked at: {parent}")
    tsv.write(table, HERE / "kills.tsv", float_format="%.1f")
    record = provenance.record(
        vars(options), outputs=[HERE / "kills.tsv"], result=result, holds=holds
    )
    provenance.write_json(HERE / "kills.json", record)
    print(table.to_string(), json.dumps(result, indent=2), sep="\n")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
