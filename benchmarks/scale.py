"""What does a cohort of 10,000 scans need, and what breaks first? About 40 minutes, 8 GB of disk.

Usage: python benchmarks/scale.py [--before] [--limit 900] [--scans 20,500,2000,10000]
       (`make proof-scale`)

Each step runs in a process of its own on made-up inputs: a BIDS dataset and a table of scans whose
files are links to a few small ones; a file of prepared scans whose compressed chunks are those of
four simulated subjects, again and again. The steps are those parts of the notebooks that see all
scans at once. No network is trained. What a scan of a training or of a preparation takes is in
plan.tsv and preparation.tsv.

A step whose time grows faster than the number of scans is not measured at the largest number where
it would take the processor more than 15 minutes (`--limit`). `--before` measures the same steps on
an older checkout, into scale_before.tsv (run there with this script and its `PYTHONPATH`).

Written beside this file: scale.tsv (step, scans, seconds, seconds of the processor, peak memory of
the step's process, megabytes and files written) and scale.json, with the power of the number of
scans by which the processor's time grows. Times are of one machine; compare them within the table.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from msxai import ROOT
from msxai.base import provenance, tsv
from msxai.data import images

HERE = Path(__file__).parent
SCANS = (20, 500, 2000, 10000)
SEEDS = 4  # simulated subjects whose chunks are repeated
LIMIT = 900  # s of the processor: a step that would take longer is not measured
MEASURED_FOR_PAGE = 20  # scans whose quality measures are repeated
TRIALS = 10
HOLDOUT, VALIDATION = 0.15, 0.15
TABLE = "scans.csv"
ARRAYS = "cohort.h5"
SPLIT = "cohort_split.tsv"
DATASET = "dataset"


@dataclass(frozen=True)
class Step:
    """A part of a notebook that sees all scans.

    Attributes
    ----------
    name : str
    notebook : str
        In which notebook it is.
    function : callable
        Takes a folder of inputs and the number of scans, and returns what is timed: a function
        without arguments, which may return a folder or file that it has written.
    most : int
        The largest number of scans at which it is measured.
    """

    name: str
    notebook: str
    function: Callable
    most: int = max(SCANS)


# --- made-up inputs ---


def write_small_files(folder: Path) -> dict:
    """Write one small scan with its masks; return their paths by kind."""
    values = np.random.default_rng(0).random((4, 4, 4), "float32") + 1
    paths = {}
    for kind in ("image", "brain", "lesion"):
        paths[kind] = folder / f"{kind}.nii.gz"
        nib.save(nib.Nifti1Image(values, images.AFFINE), paths[kind])
    return paths


def participants(scans: int) -> pd.DataFrame:
    """Return the table of made-up people, every other one a patient."""
    rng = np.random.default_rng(1)
    numbers = np.arange(scans)
    return pd.DataFrame(
        {
            "participant_id": [f"sub-{number + 1:05}" for number in numbers],
            "group": np.where(numbers % 2, "MS", "HC"),
            "age": rng.integers(20, 70, scans),
            "sex": rng.choice(["F", "M"], scans),
            "site": rng.choice([f"site-{site}" for site in range(20)], scans),
        }
    )


def write_dataset(folder: Path, scans: int) -> None:
    """Write a BIDS dataset with a scan, a brain mask and a lesion mask for each person."""
    folder.mkdir()
    small = write_small_files(folder.parent)
    people = participants(scans)
    people.to_csv(folder / "participants.tsv", sep="\t", index=False)
    masks = folder / "derivatives" / "masks"
    for person in people["participant_id"]:
        anat = folder / person / "anat"
        of_masks = masks / person / "anat"
        anat.mkdir(parents=True)
        of_masks.mkdir(parents=True)
        os.link(small["image"], anat / f"{person}_FLAIR.nii.gz")
        os.link(small["brain"], of_masks / f"{person}_desc-brain_mask.nii.gz")
        os.link(small["lesion"], of_masks / f"{person}_label-lesion_mask.nii.gz")


def write_table(folder: Path, scans: int) -> None:
    """Write a table of scans, all in one folder."""
    small = write_small_files(folder)
    people = participants(scans)
    names = []
    (folder / "flat").mkdir()
    for person in people["participant_id"]:
        names.append(f"flat/{person}_FLAIR.nii.gz")
        os.link(small["image"], folder / names[-1])
    people.assign(image=names).to_csv(folder / TABLE, index=False)


def write_arrays(folder: Path, scans: int) -> None:
    """Write a file of prepared scans and its split: a few simulated subjects, again and again."""
    import h5py

    from msxai.data.cohorts import splits
    from msxai.data.prepared import FEW, PreparationOptions, prepare

    seed_file = folder / "seeds.h5"
    cohort = simulated_cohort(folder)
    split = cohort.table[["participant_id", "session_id"]].assign(part="holdout")
    prepare(cohort, split, seed_file, PreparationOptions(), jobs=min(FEW, 1))
    people = participants(scans)
    with h5py.File(seed_file) as seeds, h5py.File(folder / ARRAYS, "w") as file:
        file.attrs.update(seeds.attrs)
        for name in ("images", "brain", "lesions"):
            copy_chunks(seeds[name], file, name, scans)
        digests = [f"{number:064x}".encode() for number in range(scans)]
        file.create_dataset("sha256", data=digests)
        stored = json.loads(seeds["table"][()])
        rows = [dict(stored["data"][number % SEEDS]) for number in range(scans)]
        for number, row in enumerate(rows):
            row |= people.iloc[number].to_dict()
            row["age"] = float(row["age"])
            row["label"] = number % 2
            row["source_sha256"] = f"{number:064x}"
        content = {"schema": stored["schema"], "data": rows}
        file.create_dataset("table", data=json.dumps(content, default=int))
    table = people.assign(session_id="", label=np.arange(scans) % 2)
    splits.write(splits.make(table, (HOLDOUT, HOLDOUT), VALIDATION), folder / SPLIT)


def simulated_cohort(folder: Path):
    """Return a cohort of simulated subjects whose files lie in a folder."""
    from simulated_files import patient, write

    from msxai.data.cohorts.cohort import from_images

    files = {"image": [], "lesions": [], "brain": []}
    for number in range(SEEDS):
        person = patient(1, number, volume=12000)
        for kind, paths in files.items():
            path = folder / f"seed{number}_{kind}.nii.gz"
            paths.append(write(path, getattr(person, kind)))
    return from_images(files["image"], files["lesions"], brain_masks=files["brain"])


def copy_chunks(source, file, name: str, scans: int) -> None:
    """Write a dataset whose compressed chunks are those of another one, in turn."""
    shape = source.shape[1:]
    target = file.create_dataset(
        name,
        (scans, *shape),
        source.dtype,
        chunks=(1, *shape),
        compression=source.compression,
        compression_opts=source.compression_opts,
    )
    chunks = [source.id.read_direct_chunk((row, 0, 0, 0)) for row in range(len(source))]
    for row in range(scans):
        mask, content = chunks[row % len(chunks)]
        target.id.write_direct_chunk((row, 0, 0, 0), content, mask)


def write_inputs(folder: Path, scans: int) -> None:
    """Write what the steps read."""
    write_dataset(folder / DATASET, scans)
    write_table(folder, scans)
    write_arrays(folder, scans)


# --- what is timed ---


def read_dataset(folder: Path, scans: int):
    """Open a BIDS dataset."""
    from msxai.data.cohorts.cohort import open_cohort

    def step():
        assert len(open_cohort(folder / DATASET).table) == scans

    return step


def read_table(folder: Path, scans: int):
    """Open a table of scans."""
    from msxai.data.cohorts.cohort import open_cohort

    def step():
        assert len(open_cohort(folder / TABLE).table) == scans

    return step


def check_and_split(folder: Path, scans: int):
    """Look for confounds, split, write and read the split."""
    from msxai.data.cohorts import confounds, splits

    table = participants(scans).assign(session_id="", scanner=None)
    table["label"] = pd.array(np.arange(scans) % 2, "Int64")

    def step():
        confounds.warnings(table)
        confounds.table(table)
        split = splits.make(table, (HOLDOUT, HOLDOUT), VALIDATION)
        splits.write(split, folder / "made_split.tsv")
        splits.read(folder / "made_split.tsv")

    return step


def opened(folder: Path):
    """Return the prepared scans."""
    from msxai.data.prepared import Prepared

    return Prepared(folder / ARRAYS, folder / SPLIT)


def open_arrays(folder: Path, scans: int):
    """Read the table of prepared scans."""

    def step():
        assert len(opened(folder).table) == scans
        return folder / ARRAYS

    return step


def hash_arrays(folder: Path, scans: int):
    """Compare prepared scans with their record, as each notebook does."""
    return lambda: provenance.sha256(folder / ARRAYS) and None


def stream(folder: Path, scans: int):
    """Read all scans in batches, as an epoch of a training does."""
    from msxai.model.training import Volumes

    prepared = opened(folder)
    batches = Volumes(prepared, prepared.rows("all"), batch_size=4, seed=0)

    def step():
        for index in range(len(batches)):
            batches[index]

    return step


def find_leaks(folder: Path, scans: int):
    """Look for one person in two parts of the split."""
    from msxai.data.prepared import leaks

    prepared = opened(folder)
    return lambda: leaks(prepared) is None


def write_quality_page(folder: Path, scans: int):
    """Write the page of quality control. The measures are those of a few scans, repeated."""
    from msxai.data import quality_control, quality_control_page

    prepared = opened(folder)
    table = quality_table(prepared, quality_control)

    def step():
        quality_control_page.write(prepared, folder / "quality", table)
        return folder / "quality"

    return step


def quality_table(prepared, quality_control) -> pd.DataFrame:
    """Return measures of quality for all scans, of which every tenth is flagged."""
    scans = len(prepared.table)
    whole = prepared.table
    prepared.table = whole.head(min(scans, MEASURED_FOR_PAGE))
    few = quality_control.measure(prepared)
    prepared.table = whole
    table = few.iloc[np.arange(scans) % len(few)].reset_index(drop=True)
    table["participant_id"] = whole["participant_id"]
    flagged = np.arange(scans) % 10 == 0
    sentence = "The brain is smaller than in other scans."
    table["flagged"] = np.where(flagged, "volume_ml", "")
    table["flags"] = [[sentence] if is_flagged else [] for is_flagged in flagged]
    return table


def measure_quality(folder: Path, scans: int):
    """Measure the quality of each scan."""
    from msxai.data import quality_control

    prepared = opened(folder)
    return lambda: quality_control.measure(prepared) is None


def inner_products(folder: Path, scans: int):
    """Compute what linear baselines see: inner products of all scans of the training."""
    from msxai.evaluation import baselines

    prepared = opened(folder)
    rows = prepared.rows("all")
    return lambda: baselines.inner_products(prepared, rows, prepared, rows) is None


def score(folder: Path, scans: int):
    """Score the predictions of ten trials on this number of scans."""
    from msxai.base import statistics
    from msxai.evaluation import comparison

    rng = np.random.default_rng(2)
    people = participants(scans).assign(session_id="", label=np.arange(scans) % 2)
    tables = []
    for trial in range(TRIALS):
        scores = 1 / (1 + np.exp(-people["label"] - rng.normal(size=scans)))
        tables.append(people.assign(variant="scratch", trial=trial, score=scores))
    predictions = pd.concat(tables, ignore_index=True)

    def step():
        statistics.score_table(predictions)
        comparison.table(predictions)

    return step


def test_regions(folder: Path, scans: int):
    """Compare patients with controls in 48 regions by 10,000 permutations."""
    from msxai.base import permutation

    rng = np.random.default_rng(3)
    values = rng.normal(size=(scans, 48))
    labels = np.arange(scans) % 2
    return lambda: permutation.two_groups(values, labels) is None


def write_heatmaps(folder: Path, scans: int):
    """Write mean maps and their deviations over trials, with sidecars; no network is run."""
    from msxai.lrp import heatmaps
    from msxai.lrp.explanation import AUDIT

    prepared = opened(folder)
    rng = np.random.default_rng(4)
    layers = [f"layer{number}" for number in range(12)]
    audit = pd.DataFrame({"layer": layers}).reindex(columns=AUDIT[1:], fill_value=0.1)
    audit["layer"] = layers
    audit = pd.concat([audit.assign(trial=trial) for trial in range(TRIALS)])
    maps = []
    for row in range(SEEDS):
        shape = (2, *images.SHAPE)  # two trials: files are as many as of ten
        values = rng.normal(size=shape).astype("float32") * prepared.brain(row)
        maps.append(heatmaps.ScanMaps(values, [0.1] * TRIALS, audit))
    weights = folder / "weights.npz"
    weights.write_bytes(b"")
    settings = heatmaps.Settings("epsilon")
    reference = heatmaps.Reference(None, {}, "made up")

    def step():
        path = folder / "heatmaps"
        with provenance.replacing(path) as draft:
            derivative = heatmaps._Derivative(draft, prepared, [weights], settings, reference)
            for row in range(scans):
                derivative.add(row, maps[row % SEEDS], None)
            derivative.finish()
        return path

    return step


STEPS = [
    Step("read a BIDS dataset", "01", read_dataset),
    Step("read a table of scans", "01", read_table),
    Step("look for confounds and split", "01", check_and_split),
    Step("look for one person in two parts", "01", find_leaks),
    Step("measure the quality of each scan", "01", measure_quality, most=200),
    Step("write the page of quality control", "01", write_quality_page, most=2000),
    Step("open the prepared scans", "all", open_arrays),
    Step("compare the prepared scans with their record", "all", hash_arrays),
    Step("read all scans once, as an epoch does", "03", stream),
    Step("inner products of all scans", "04", inner_products, most=2000),
    Step("score the predictions of ten trials", "04", score),
    Step("write the heatmaps, without computing them", "05", write_heatmaps, most=200),
    Step("test 48 regions by 10,000 permutations", "06", test_regions),
]


# --- measuring ---


def run_step(name: str, scans: int, folder: Path) -> None:
    """Run one step in this process and print what it needed as JSON."""
    from peak import peak

    step = next(step for step in STEPS if step.name == name)
    timed = step.function(folder, scans)
    peak()
    start = time.perf_counter(), time.process_time()
    written = timed()
    result = {
        "seconds": time.perf_counter() - start[0],
        "processor_seconds": time.process_time() - start[1],
        "memory_mb": peak() / 1e6,
    }
    if isinstance(written, Path):
        files = [written] if written.is_file() else [p for p in written.rglob("*") if p.is_file()]
        sizes = [path.stat().st_size / 1e6 for path in files]
        result |= {"megabytes": sum(sizes), "largest_mb": max(sizes), "files": len(files)}
    print(json.dumps(result))


def measure(step: Step, scans: int, folder: Path) -> dict:
    """Measure a step in a process of its own."""
    command = [sys.executable, __file__, "--step", step.name, "--scans", str(scans)]
    run = subprocess.run(
        [*command, "--folder", str(folder)], check=False, capture_output=True, text=True
    )
    if run.returncode:
        raise SystemExit(f"{step.name}, {scans} scans: {run.stderr[-2000:]}")
    result = json.loads(run.stdout.splitlines()[-1])
    return {"step": step.name, "notebook": step.notebook, "scans": scans} | result


def power(rows: list[dict]) -> float:
    """Return by which power of the scans the time of a step grows, at the last two; 0 of one."""
    if len(rows) < 2:
        return 0.0
    first, last = rows[-2:]
    times = last["processor_seconds"] / first["processor_seconds"]
    return float(np.log(times) / np.log(last["scans"] / first["scans"]))


def expected_seconds(rows: list[dict], scans: int) -> float:
    """Return how long a step is expected to take, by its last two measurements."""
    if len(rows) < 2:
        return 0.0
    growth = max(1.0, power(rows))
    return rows[-1]["processor_seconds"] * (scans / rows[-1]["scans"]) ** growth


def measure_browser(page: Path) -> dict | None:
    """Measure how long a headless browser takes to show a page, and its memory."""
    from peak import of_tree

    browser = shutil.which("chromium")
    if browser is None:
        return None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"]
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as profile:
        shot = Path(profile) / "page.png"
        process = subprocess.Popen(
            [browser, *options, f"--user-data-dir={profile}", f"--screenshot={shot}", str(page)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        most = 0
        while process.poll() is None and time.perf_counter() < start + LIMIT:
            most = max(most, of_tree(process.pid))
            time.sleep(0.1)
        process.kill()
        seconds = time.perf_counter() - start
        shown = shot.is_file()
    size = page.stat().st_size / 1e6
    return {
        "step": "open the page of quality control in a browser",
        "notebook": "01",
        "seconds": seconds if shown else np.nan,
        "memory_mb": most / 1e6,
        "largest_mb": size,
    }


def plan_of_snakemake() -> dict:
    """Return how long Snakemake takes to plan the paper profile, and how many jobs it has."""
    snakemake = Path(sys.executable).with_name("snakemake")
    command = [snakemake, "--snakefile", "workflow/Snakefile", "--dry-run", "--quiet", "rules"]
    command += ["--configfile", "workflow/paper.yaml", "--cores", "1", "--nolock"]
    start = time.perf_counter()
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    totals = [line.split() for line in run.stdout.splitlines() if line.startswith("total")]
    return {"seconds": seconds, "jobs": int(totals[0][1])}


def measure_all(
    numbers: list[int], steps: list[Step], limit: float = LIMIT
) -> Iterator[tuple[pd.DataFrame, dict]]:
    """Measure each step at each number of scans; also the power by which its time grows.

    After each number, what is measured so far is yielded.
    """
    by_step = {step.name: [] for step in steps}
    rows = []
    for scans in numbers:
        with tempfile.TemporaryDirectory(dir=ROOT / "runs") as name:
            folder = Path(name)
            write_inputs(folder, scans)
            for step in steps:
                measured = by_step[step.name]
                if scans > step.most or expected_seconds(measured, scans) > limit:
                    continue
                row = measure(step, scans, folder)
                measured.append(row)
                rows.append(row)
                print(row, flush=True)
            page = folder / "quality" / "qc.html"
            if page.is_file():
                row = measure_browser(page)
                if row:
                    rows.append(row | {"scans": scans})
                    print(rows[-1], flush=True)
        yield pd.DataFrame(rows), {name: power(measured) for name, measured in by_step.items()}


def main() -> None:
    """Measure, print and write; or run one step in this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", action="store_true")
    parser.add_argument("--scans", default=",".join(map(str, SCANS)))
    parser.add_argument("--only", default="", help="words of steps, separated by commas")
    parser.add_argument("--limit", type=float, default=LIMIT, help="of a step, in seconds")
    parser.add_argument("--step")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.step:
        run_step(options.step, int(options.scans), options.folder)
        return
    (ROOT / "runs").mkdir(exist_ok=True)
    numbers = [int(number) for number in options.scans.split(",")]
    words = options.only.split(",")
    steps = [step for step in STEPS if any(word in step.name for word in words)]
    name = "scale_before" if options.before else "scale"
    path = HERE / f"{name}.tsv"
    snakemake = plan_of_snakemake()
    for table, powers in measure_all(numbers, steps, options.limit):
        tsv.write(table, path, float_format="%.4g")
        record = provenance.record(
            {"scans": sorted(set(table["scans"].tolist())), "trials": TRIALS},
            outputs=[path],
            power_of_scans={step: round(value, 2) for step, value in powers.items()},
            snakemake=snakemake,
            seconds_limit=options.limit,
        )
        provenance.write_json(path.with_suffix(".json"), record)
        print(json.dumps(record["power_of_scans"], indent=2), flush=True)


if __name__ == "__main__":
    main()
