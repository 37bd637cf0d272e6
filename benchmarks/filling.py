"""Filled white matter beside untouched: can a classifier of patches tell? About 3 minutes on 1
core.

Usage: python benchmarks/filling.py

Controls without lesions are simulated; each is given the lesion mask of a simulated patient, and
filled there. The same sites are looked at in the scan as it was and as filled: all of them, or
those where the untouched scan is normal-appearing white matter, which is what the fill is to
resemble (bright spots, caps and the edge of the cortex, a quarter of all sites, are no model for
it). Patches of 5x5x5 voxels with what describes their texture, and a random forest cross-validated
over subjects says for each whether it is filled. AUC with the interval of a bootstrap over
subjects; .5 is what cannot be told. "noise" is what we use, "constant" the paper's way. Written
beside this file: filling.tsv, filling.json.
"""

import functools
import itertools
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GroupKFold, cross_val_predict

from msxai.base import provenance, statistics
from msxai.data import images, lesion_filling
from msxai.data.synthetic import phantom, template

SUBJECTS, SITES, TREES, SEED = (
    20,
    40,
    100,
    8001,
)  # a seed that the filling was not developed on (5001, 6001, 7001)
WHITE = [1 + list(template.CLASSES).index(name) for name in template.WHITE]


@functools.cache
def simulated(number, volume=7000):
    """A control's scan without lesions; a patient's lesion mask where the control, by its truth, is
    white matter all round.
    """
    control = phantom.simulate("ms", "HC", seed=[SEED, number, 0], volume=0)
    mask = phantom.simulate(
        "ms", "MS", seed=[SEED, number, 1], volume=volume
    ).lesions & ndimage.binary_erosion(np.isin(control.classes, WHITE))
    return [
        nib.Nifti1Image(array.astype("float32"), images.AFFINE) for array in (control.image, mask)
    ]


def features(values, sites):
    """Patches round some voxels, and their texture; in units of the scan's white matter."""
    blocks = np.array(
        [values[tuple(slice(centre - 4, centre + 5) for centre in site)] for site in sites]
    )
    patches = blocks[:, 2:7, 2:7, 2:7]
    steps = [np.abs(np.diff(patches, axis=axis)).mean((1, 2, 3)) for axis in (1, 2, 3)]
    curved = np.array([ndimage.laplace(patch)[1:-1, 1:-1, 1:-1].std() for patch in patches])
    inner, near, far = (
        array.reshape(len(sites), -1) for array in (blocks[:, 3:6, 3:6, 3:6], patches, blocks)
    )
    whole = [
        f(array, axis=1) for array in (inner, near, far) for f in (np.mean, np.std, np.min, np.max)
    ]
    apart = [
        inner.mean(1) - near.mean(1),
        near.mean(1) - far.mean(1),
        inner.std(1) / near.std(1),
        near.std(1) / far.std(1),
    ]
    return np.column_stack([near, *steps, curved, *whole, *apart])


def normal_appearing(scan):
    """Where an untouched scan is normal-appearing white matter."""
    values, none = np.asarray(scan.dataobj), np.zeros(scan.shape, bool)
    return lesion_filling.normal_appearing(
        values, lesion_filling.white_matter(scan), none, nib.affines.voxel_sizes(scan.affine)
    )


def patches(how, subjects, count, where="all"):
    """Features, whether filled, and subject of sites in filled scans and in the same scans as they
    were; seconds a fill.
    """
    untouched, filled, groups, seconds = [], [], [], []
    for number in range(subjects):
        scan, mask = simulated(number)
        start = time.perf_counter()
        new = lesion_filling.Filler(how)(
            scan, mask, {"participant_id": f"sub-{number}", "session_id": ""}
        ).get_fdata()
        seconds.append(time.perf_counter() - start)
        values, white = scan.get_fdata(), lesion_filling.white_matter(scan)
        inside = np.argwhere((mask.get_fdata() > 0) & (where == "all" or normal_appearing(scan)))
        sites = np.random.default_rng(number).permutation(inside)[:count]
        middle = np.median(values[white])
        for array, label in ((values, 0), (new, 1)):
            untouched.append(features(array / middle, sites))
            filled.append(np.full(len(sites), label))
            groups.append(np.full(len(sites), number))
    return np.concatenate(untouched), np.concatenate(filled), np.concatenate(groups), seconds


def measure(subjects=SUBJECTS, count=SITES, trees=TREES):
    """A table: AUC and interval for each way of filling, at all sites and at normal-appearing
    ones.
    """
    rows = []
    for how, where in itertools.product(lesion_filling.FILLINGS[1:], ("all", "normal-appearing")):
        x, y, groups, seconds = patches(how, subjects, count, where)
        forest = RandomForestClassifier(trees, min_samples_leaf=5, random_state=0)
        scores = cross_val_predict(
            forest, x, y, groups=groups, cv=GroupKFold(min(10, subjects)), method="predict_proba"
        )[:, 1]
        low, high = interval(y, scores, groups)
        rows.append(
            {
                "filling": how,
                "sites": where,
                "subjects": subjects,
                "patches": len(y),
                "auc": statistics.auc(y, scores),
                "low_95": low,
                "high_95": high,
                "holds_half": bool(low <= 0.5 <= high),
                "seconds_a_fill": float(np.median(seconds)),
            }
        )
    return pd.DataFrame(rows)


def interval(labels, scores, groups, draws=2000):
    """95 % of a bootstrap over subjects, both their filled and their untouched patches with
    them.
    """
    names, codes = np.unique(groups, return_inverse=True)
    weights = np.random.default_rng(0).multinomial(
        len(names), np.full(len(names), 1 / len(names)), draws
    )[:, codes]
    return [
        float(bound)
        for bound in np.quantile(statistics.auc(labels, scores, weights), (0.025, 0.975))
    ]


if __name__ == "__main__":
    table = measure()
    print(table.to_string())
    folder = Path(__file__).parent
    with provenance.replacing(folder / "filling.tsv") as draft:
        table.round(4).to_csv(draft, sep="\t", index=False)
    settings = {"subjects": SUBJECTS, "sites": SITES, "trees": TREES, "seed": SEED}
    provenance.write_json(
        folder / "filling.json", provenance.record(settings, result=table.to_dict("records"))
    )
