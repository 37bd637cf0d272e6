"""Filled white matter of real scans beside untouched: can a classifier of patches tell, by centre?

Usage: python benchmarks/filling_real.py      (make proof-filling-real; about 5 minutes)

Needs ../shared/data: two patients of Ljubljana (3D FLAIR) and six of Tabriz (slices of 5 to 6 mm).
What lay under a lesion is not known. So normal-appearing white matter is filled: at the mirrored
places of the lesions of all eight patients, one patient's lesions at a time. The same places are
looked at in the scan as it was and as filled, on the network's grid.

The classifier and its patches are those of filling.py, the same proof on simulated scans: a random
forest, cross-validated over patients of the same centre, says for each patch whether it is filled.
AUC with the interval of a bootstrap over patients; .5 is what cannot be told. With two patients,
the forest learns from one, and the interval means little.

Written beside this file: filling_real.tsv (filling, site, patients, patches, auc, low_95, high_95),
filling_real.json.
"""

import nibabel as nib
import numpy as np
import pandas as pd
import real
from filling import TREES, features, interval
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

import msxai
from msxai.base import provenance, statistics, tsv
from msxai.base.results import Results
from msxai.data import lesion_filling

TABLE = msxai.ROOT / "benchmarks" / "filling_real.tsv"
PLACES = 120  # of one scan, in all its fillings
MARGIN = 4  # voxels of a patch on each side of its centre
SEED = 0


def fillings(prepared, row: int, how: str) -> list[np.ndarray]:
    """Fill a scan's normal-appearing white matter at the mirrored lesions of each patient."""
    filler = lesion_filling.Filler(how, "sham", SEED)
    scans = []
    for donor in prepared.rows("all"):
        lesions = prepared.lesions(donor).astype("uint8")
        sites = nib.Nifti1Image(lesions, prepared.affine)
        scans.append(filler.prepared_scan(prepared, row, sites))
    return scans


def places(untouched, filled) -> np.ndarray:
    """Return voxels that were filled with all their neighbours, not too near to the edge."""
    inside = ndimage.binary_erosion(filled != untouched)
    voxels = np.argwhere(inside)
    last = np.array(untouched.shape) - 1 - MARGIN
    return voxels[((voxels >= MARGIN) & (voxels <= last)).all(axis=1)]


def patches_of(prepared, row: int, how: str) -> pd.DataFrame:
    """Return the features of patches of a scan, filled and as they were; column `filled`."""
    untouched = prepared.image(row)
    scans = fillings(prepared, row, how)
    candidates = []
    for number, filled in enumerate(scans):
        for voxel in places(untouched, filled):
            candidates.append((number, voxel))
    order = np.random.default_rng([SEED, row]).permutation(len(candidates))[:PLACES]
    tables = []
    for number, filled in enumerate(scans):
        sites = [candidates[index][1] for index in order if candidates[index][0] == number]
        if not sites:
            continue
        for values, is_filled in ((untouched, 0), (filled, 1)):
            tables.append(pd.DataFrame(features(values, sites)).assign(filled=is_filled))
    return pd.concat(tables, ignore_index=True)


def row_of(patches: pd.DataFrame) -> dict:
    """Return how well the patches of some patients are told apart; column `patient`."""
    inputs = patches.drop(columns=["filled", "patient", "site"]).to_numpy()
    targets = patches["filled"].to_numpy()
    groups = patches["patient"].to_numpy()
    forest = RandomForestClassifier(TREES, min_samples_leaf=5, random_state=0)
    scores = cross_val_predict(
        forest, inputs, targets, groups=groups, cv=LeaveOneGroupOut(), method="predict_proba"
    )[:, 1]
    low, high = interval(targets, scores, groups)
    return {
        "patients": len(set(groups)),
        "patches": len(patches),
        "auc": statistics.auc(targets, scores),
        "low_95": low,
        "high_95": high,
    }


def table_of(prepared, sites: list[str]) -> pd.DataFrame:
    """Measure each filling in each centre and in all; `sites` is the centre of each scan."""
    rows = []
    for how in lesion_filling.FILLINGS[1:]:
        tables = []
        for row in prepared.rows("all"):
            of_scan = patches_of(prepared, row, how)
            tables.append(of_scan.assign(patient=row, site=sites[row]))
        patches = pd.concat(tables, ignore_index=True)
        for site, of_site in patches.groupby("site"):
            rows.append({"filling": how, "site": site} | row_of(of_site))
        rows.append({"filling": how, "site": "all"} | row_of(patches))
    return pd.DataFrame(rows)


def main() -> None:
    """Measure and write."""
    scans = real.scans_of(real.DATA)
    prepared = real.prepared_scans(scans, Results("runs/proof"))
    table = table_of(prepared, [scan.site for scan in scans])
    print(table.round(3).to_string())
    tsv.write(table, TABLE, float_format="%.4g")
    settings = {"places": PLACES, "trees": TREES, "seed": SEED}
    hashes = {}
    for scan in scans:
        hashes[scan.name] = [provenance.sha256(scan.image), provenance.sha256(scan.lesions)]
    record = provenance.record(settings, (), [TABLE], scans=hashes)
    provenance.write_json(TABLE.with_suffix(".json"), record)


if __name__ == "__main__":
    main()
