"""How long `msxai explain` takes, and how much memory it needs.

Usage: python benchmarks/one_scan_speed.py      (`make proof-one-scan-speed`; about 10 minutes)

Each command runs in a process of its own, as a user starts it: start, preparation, maps of the
networks that the package brings, lesion filling, pages. Memory is the largest sum of all processes
of a command, looked at ten times a second; what processes share is counted once.

- prepared: a simulated scan in MNI space with a brain mask and a lesion mask, 12 ml of lesions;
- raw: real heads of ../shared/data, left out where they are absent: patient 01 of Ljubljana without
  a mask (Lesjak et al. 2016) and a patient of Tabriz with one (MS3SEG);
- ten scans: the prepared one and nine more, with --jobs 2.

Written beside this file: one_scan_speed.tsv (case, seconds, megabytes) and one_scan_speed.json,
with the ratio of ten scans to one. Seconds are of one machine, whose processor the record does not
name.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
from peak import of_tree
from simulated_files import patient, write

import msxai
from msxai.base import provenance, tsv

HERE = Path(__file__).parent
DATA = Path(msxai.ROOT).parent / "shared" / "data"
SEED, VOLUME, SCANS = 8201, 12000, 10
INTERVAL = 0.1  # s


@dataclass(frozen=True)
class Case:
    """One command.

    Attributes
    ----------
    name : str
    arguments : list of str
        Of `msxai explain`, without --out.
    """

    name: str
    arguments: list


@dataclass(frozen=True)
class Usage:
    """What a command needed.

    Attributes
    ----------
    seconds : float
    megabytes : float
    """

    seconds: float
    megabytes: float


def write_patient(folder: Path, number: int) -> dict:
    """Write a simulated patient; the paths of its files by name."""
    person = patient(SEED, number, volume=VOLUME)
    paths = {}
    for name in ("image", "lesions", "brain"):
        path = folder / f"patient-{number}_{name}.nii.gz"
        paths[name] = write(path, getattr(person, name))
    return paths


def explain_arguments(scans: list[dict]) -> list:
    """Arguments of `msxai explain` for scans with both masks."""
    arguments = [scan["image"] for scan in scans]
    arguments += ["--lesions", *(scan["lesions"] for scan in scans)]
    arguments += ["--brain-mask", *(scan["brain"] for scan in scans)]
    return arguments


def cases(folder: Path) -> list[Case]:
    """List the commands; those of real scans only where the scans are."""
    scans = [write_patient(folder, number) for number in range(SCANS)]
    listed = [
        Case("prepared, simulated", explain_arguments(scans[:1])),
        Case("prepared, simulated, --self-test", [*explain_arguments(scans[:1]), "--self-test"]),
        Case("ten prepared, --jobs 2", [*explain_arguments(scans), "--jobs", "2"]),
    ]
    raw = DATA / "open_ms" / "raw" / "patient01_study1_FLAIR.nii.gz"
    if raw.is_file():
        listed.append(Case("raw, real, Ljubljana, no mask", [str(raw)]))
    thick = DATA / "ms3seg" / "patient101228_FLAIR.nii.gz"
    if thick.is_file():
        mask = thick.with_name("patient101228_lesions.nii.gz")
        listed.append(Case("raw, real, Tabriz, lesion mask", [str(thick), "--lesions", str(mask)]))
    return listed


def measured(case: Case, folder: Path) -> Usage:
    """Run a command and look at its memory."""
    words = [sys.executable, "-m", "msxai.command_line", "explain", *case.arguments]
    started = time.monotonic()
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [*words, "--out", str(folder / "out")], stdout=log, stderr=subprocess.STDOUT
        )
        most = 0
        while process.poll() is None:
            most = max(most, of_tree(process.pid))
            time.sleep(INTERVAL)
    seconds = time.monotonic() - started
    if process.returncode:
        raise SystemExit(f"{case.name}: {(folder / 'log.txt').read_text()[-2000:]}")
    return Usage(seconds, most / 1e6)


def main() -> None:
    """Run each command once, print and write."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            with tempfile.TemporaryDirectory() as own:
                usage = measured(case, Path(own))
            rows.append({"case": case.name, "seconds": usage.seconds, "megabytes": usage.megabytes})
            print(f"{case.name}: {usage.seconds:.0f} s, {usage.megabytes:,.0f} MB", flush=True)
    table = pd.DataFrame(rows)
    path = HERE / "one_scan_speed.tsv"
    tsv.write(table, path, float_format="%.4g")
    seconds = table.set_index("case")["seconds"]
    ratio = seconds["ten prepared, --jobs 2"] / seconds["prepared, simulated"]
    parameters = {"seed": SEED, "volume": VOLUME, "cores": psutil.cpu_count(logical=False)}
    record = provenance.record(parameters, [], [path], ten_scans_over_one=round(float(ratio), 2))
    provenance.write_json(HERE / "one_scan_speed.json", record)
    print(json.dumps({"ten scans, as a multiple of one": round(float(ratio), 2)}))


if __name__ == "__main__":
    main()
