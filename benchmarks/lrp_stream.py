"""1,000 volumes explained from NIfTI to NIfTI: does memory or time a volume grow? About 5 minutes
on 2 cores.

Usage: python benchmarks/lrp_stream.py [VOLUMES]      (default 1000)

The paper's network (width 64), epsilon rule, 2 threads, `msxai.lrp.stream`; 20 simulated scans in
turn, each map written and, to spare the disk, deleted once it has been read back and summed.
Written beside this file: lrp_stream.tsv (resident memory and seconds a volume, by blocks of 50) and
lrp_stream.json.
"""

import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import psutil

from msxai import lrp
from msxai.base import provenance
from msxai.data import images
from msxai.data.synthetic import phantom
from msxai.model import network

HERE, BLOCK, SCANS, THREADS = Path(__file__).parent, 50, 20, 2


def write_scans(folder):
    """Simulated scans, z-scored, 0 outside the brain; their paths."""
    paths = []
    for seed in range(SCANS):
        subject = phantom.simulate("ms", "MS", seed)
        inside = subject.image[subject.brain]
        values = np.where(subject.brain, (subject.image - inside.mean()) / inside.std(), 0).astype(
            "float32"
        )
        paths.append(folder / f"scan-{seed}.nii.gz")
        nib.save(nib.Nifti1Image(values, images.AFFINE), paths[-1])
    return paths


def measure(count, width, block):
    """One row a block of volumes."""
    model, process, rows = network.build(width), psutil.Process(), []
    with tempfile.TemporaryDirectory() as name:
        paths = list(islice(cycle(write_scans(Path(name))), count))
        start = time.perf_counter()
        computation = lrp.Computation(threads=THREADS)
        explanations = lrp.stream(model, paths, "epsilon", computation=computation)
        for index, explanation in enumerate(explanations):
            path = Path(name) / "relevance.nii"
            nib.save(nib.Nifti1Image(explanation.relevance[0, ..., 0], images.AFFINE), path)
            total = nib.load(path).get_fdata().sum()
            assert np.isclose(total, explanation.relevance.sum(dtype=float)), (
                f"map {index} was not written as computed"
            )
            path.unlink()
            if (index + 1) % block == 0:
                now, memory = time.perf_counter(), process.memory_info().rss / 1e9
                rows.append(
                    {
                        "volumes": index + 1,
                        "memory_gb": memory,
                        "seconds_a_volume": (now - start) / block,
                    }
                )
                start = now
                print(rows[-1], flush=True)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    network.configure(0, THREADS)
    table = measure(count, 64, BLOCK)
    table.to_csv(HERE / "lrp_stream.tsv", sep="\t", index=False, float_format="%.4g")
    half = table["volumes"] > count / 2
    result = {
        "volumes": count,
        "memory_gb_first_blocks": table["memory_gb"].iloc[:2].tolist(),
        "memory_gb_last_block": table["memory_gb"].iloc[-1],
        "median_seconds_second_half_to_first": float(
            table[half]["seconds_a_volume"].median() / table[~half]["seconds_a_volume"].median()
        ),
    }
    print(result)
    settings = {"width": 64, "threads": THREADS, "rule": "epsilon"}
    provenance.write_json(
        HERE / "lrp_stream.json",
        provenance.record(settings, outputs=[HERE / "lrp_stream.tsv"], result=result),
    )
