"""Does the change of the map show what has changed in a real patient between two visits?

Usage: python benchmarks/new_lesions.py      (make proof-new-lesions; about 5 minutes)

Needs ../shared/data: patient 01 of Ljubljana, two raw visits with a published mask of change
(Lesjak et al. 2016, doi:10.1007/s12021-016-9301-1). Both visits are registered, prepared and
explained as `msxai explain NOW --before EARLIER` does, by the networks that the package brings. The
mask of change is ranked, within the brain of both visits, by

- the change of the map and the change of the brightness (now minus before);
- the map and the brightness of now alone, which know nothing of the earlier visit.

Written beside this file, numbers alone: new_lesions.tsv (map, measure, value, voxels) and
new_lesions.json. This is one patient, so there is no interval: it shows that the change can be
found, not how often.
"""

import re
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import stats

import msxai
from msxai.base import provenance, tsv
from msxai.data.single_scans import ScanFiles
from msxai.model import network, shipped
from msxai.quality import localisation, one_scan

HERE = Path(__file__).parent
DATA = Path(msxai.ROOT).parent / "shared" / "data" / "open_ms"
TABLE = HERE / "new_lesions.tsv"
MEASURES = ("auprc", "rra", "pointing")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def from_common_space(path: Path) -> np.ndarray:
    """Read an ITK affine: from points of the common space (RAS, mm) to those of the scan."""
    text = path.read_text()
    values = {}
    for key in ("Parameters", "FixedParameters"):
        line = re.search(f"^{key}: (.*)$", text, re.MULTILINE)[1]
        values[key] = np.array(line.split(), float)
    turn = values["Parameters"][:9].reshape(3, 3)
    centre = values["FixedParameters"]
    shift = values["Parameters"][9:] + centre - turn @ centre
    return LPS @ nib.affines.from_matvec(turn, shift) @ LPS


def write_masks(folder: Path) -> ScanFiles:
    """Write the mask of change as that of now, and an empty one for the earlier visit."""
    source = DATA / "longitudinal"
    now = source / "patient01_study2_FLAIR.nii.gz"
    before = DATA / "raw" / "patient01_study1_FLAIR.nii.gz"
    if not now.exists():
        raise SystemExit(f"{source}: found no scan of patient 01.")
    change = nib.load(source / "patient01_change_gt.nii.gz")
    to_scan = from_common_space(source / "patient01_study2_FLAIR_to_common_space.txt")
    mask = (change.get_fdata() > 0).astype("uint8")
    nib.save(nib.Nifti1Image(mask, to_scan @ change.affine), folder / "now.nii.gz")
    earlier = nib.load(before)
    nothing = np.zeros(earlier.shape, "uint8")
    nib.save(nib.Nifti1Image(nothing, earlier.affine), folder / "before.nii.gz")
    return ScanFiles(
        image=str(now),
        lesion_mask=str(folder / "now.nii.gz"),
        before=str(before),
        before_lesion_mask=str(folder / "before.nii.gz"),
    )


def table_of(maps: dict, change, brain) -> pd.DataFrame:
    """Measure how well each map ranks the mask of change in the brain.

    Parameters
    ----------
    maps : dict
        Name to an array of shape (X, Y, Z).
    change, brain : ndarray of bool, same shape
    """
    change = change & brain
    target = localisation.Target(change, brain)
    rows = []
    for name, values in maps.items():
        measured = localisation.measure(values, change, brain, target, list(MEASURES))
        scores = {measure: measured[measure] for measure in MEASURES}
        scores["auroc"] = _auroc(values[brain], change[brain])
        for measure, value in scores.items():
            row = {"map": name, "measure": measure, "value": value, "voxels": int(change.sum())}
            rows.append(row)
    return pd.DataFrame(rows)


def _auroc(values, is_change) -> float:
    """Share of pairs of a changed and an unchanged voxel that are in the right order."""
    return float(
        stats.mannwhitneyu(values[is_change], values[~is_change]).statistic
        / (is_change.sum() * (~is_change).sum())
    )


def main() -> pd.DataFrame:
    """Explain both visits and measure."""
    network.configure(0, 1)
    explainer = one_scan.Explainer(one_scan.Settings())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_masks(folder)
        findings = explainer.explain(files, folder)
        comparison = findings.earlier.comparison
        now, before = comparison.now, comparison.before
        maps = {
            "change of the map": comparison.relevance_change,
            "change of the brightness": now.scan - before.scan,
            "map of now": now.relevance,
            "brightness of now": now.scan,
        }
        change = findings.prepared.lesions(one_scan.ROW)
        return table_of(maps, change, now.brain & before.brain)


if __name__ == "__main__":
    table = main()
    print(table.round(3).to_string())
    tsv.write(table, TABLE, float_format="%.4g")
    record = provenance.record({}, shipped.weights(), [TABLE])
    provenance.write_json(HERE / "new_lesions.json", record)
