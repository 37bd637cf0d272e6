"""921 scans prepared: does memory stay bounded and time grow linearly? And resampling beside
nilearn. 8 minutes on 2 cores, 20 GB of disk.

Usage: python benchmarks/preparation.py [SUBJECTS]      (default 307, three visits each)

Simulated T1-like scans of 1 mm (182x218x182, LAS, .nii as ADNI's downloads): three visits of eight
subjects, each file with a gain of its own, so that no two are equal. Written beside this file:
preparation.tsv (seconds and peak memory of all processes together, by number of scans) and
preparation.json (the ratios, and `msxai.data.images.to_grid`, which is nilearn's resampling, beside
resample_img).
"""

import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nilearn.image import resample_img
from peak import of_tree
from scipy import ndimage

from msxai.base import provenance
from msxai.data import images
from msxai.data.cohorts.cohort import Cohort
from msxai.data.prepared import PreparationOptions, prepare
from msxai.data.synthetic import phantom

HERE, VISITS, JOBS, ROUNDS = Path(__file__).parent, 3, 2, 5
GRID = np.array([[-1.0, 0, 0, 90], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]])
FINE_SHAPE = (182, 218, 182)
BRAINS, GROUPS = 8, ("AD", "HC")  # simulated subjects; every other one is a control


def fine_scan(brain, visit, folder):
    """A simulated brain on the grid of 1 mm, 0 outside, and the file of its mask."""
    subject = phantom.simulate("ad", GROUPS[brain % 2], brain, 100 * brain + visit)
    step = np.linalg.inv(images.AFFINE) @ GRID
    matrix, offset = step[:3, :3], step[:3, 3]
    fine = []
    for values in (subject.image, subject.brain):
        values = values.astype("float32")
        fine.append(ndimage.affine_transform(values, matrix, offset, FINE_SHAPE, order=1))
    image, share = fine
    mask = share >= 0.5
    file = write(folder / f"brain-{brain}-{visit}.nii", mask.astype("uint8"))
    return image * mask, file


def write_scans(folder, subjects):
    """The cohort's table; scans and brain masks in `folder`."""
    rows, drawn = [], {}
    for subject in range(subjects):
        for visit in range(VISITS):
            brain = subject % BRAINS
            if (brain, visit) not in drawn:
                drawn[brain, visit] = fine_scan(brain, visit, folder)
            values, mask = drawn[brain, visit]
            participant, session = f"sub-{subject:03}", f"ses-{visit}"
            brighter = values * np.float32(1 + 0.001 * subject)  # no two scans are the same
            image = write(folder / f"{participant}_{session}_T1w.nii", brighter.astype("int16"))
            rows.append(
                {
                    "participant_id": participant,
                    "session_id": session,
                    "group": GROUPS[subject % 2],
                    "label": 1 - subject % 2,
                    "image": image,
                    "brain_mask": mask,
                    "lesion_mask": None,
                }
            )
    return pd.DataFrame(rows).astype({"label": "Int64"})


def write(path, values):
    """One NIfTI file of the 1 mm grid; its path."""
    image = nib.Nifti1Image(values, GRID)
    image.set_sform(GRID, 4)
    nib.save(image, path)
    return str(path)


def measure(table, folder):
    """Seconds and peak memory of one preparation."""
    split = table[["participant_id", "session_id"]].assign(part="training")
    top, done = [of_tree()], threading.Event()

    def watch():
        while not done.wait(0.2):
            top.append(of_tree())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        prepare(
            Cohort("many", table, True, "T1w"),
            split,
            folder / "many.h5",
            PreparationOptions(registration="auto"),
            jobs=JOBS,
        )
    finally:
        done.set()
        watcher.join()
    return {
        "scans": len(table),
        "seconds": time.perf_counter() - start,
        "peak_memory_gb": max(top) / 1e9,
    }


def resampling(path):
    """Median seconds of nilearn's resampling and of ours, alternating, and the largest difference
    as a share of the range.
    """
    scan, seconds = images.load(path), {"nilearn": [], "msxai": []}
    for _ in range(ROUNDS):
        start = time.perf_counter()
        theirs = resample_img(
            scan,
            images.AFFINE,
            images.SHAPE,
            interpolation="linear",
            force_resample=True,
            copy_header=True,
        ).get_fdata()
        middle = time.perf_counter()
        ours = images.to_grid(scan)
        seconds["nilearn"].append(middle - start)
        seconds["msxai"].append(time.perf_counter() - middle)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        **medians,
        "ratio": medians["nilearn"] / medians["msxai"],
        "difference": float(np.abs(ours - theirs).max() / np.ptp(theirs)),
    }


def run(subjects):
    """The table of preparations (a quarter, half and all of the scans) and the comparison of
    resampling.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_scans(folder, subjects)
        rows = []
        for share in (4, 2, 1):
            rows.append(measure(table.head(len(table) // share), folder))
            print(rows[-1], flush=True)
        return pd.DataFrame(rows), resampling(table["image"][0])


if __name__ == "__main__":
    table, resampled = run(int(sys.argv[1]) if len(sys.argv) > 1 else 307)
    table.to_csv(HERE / "preparation.tsv", sep="\t", index=False, float_format="%.4g")
    seconds_a_scan = table["seconds"] / table["scans"]
    result = {
        "seconds_a_scan_all_to_a_quarter": float(seconds_a_scan.iloc[-1] / seconds_a_scan.iloc[0]),
        "peak_memory_gb": float(table["peak_memory_gb"].max()),
        "resampling": resampled,
    }
    print(result)
    outputs = [HERE / "preparation.tsv"]
    provenance.write_json(
        HERE / "preparation.json",
        provenance.record({"jobs": JOBS, "visits": VISITS}, outputs=outputs, result=result),
    )
