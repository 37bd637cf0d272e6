"""Eight real patients: does it help to show a scan to the network in another way?

Usage: python benchmarks/real_ways.py      (make proof-real-ways; about 20 minutes)

Needs the scans of ../shared/data. The networks that the package brings know simulated scans alone.
On the real patients of `benchmarks/real.py` their maps are not surely better than the brightness of
the scan, and they call several scans MS although the lesions are filled. Here each scan is first
changed in a way that could mend this. All ways that were tried are listed, whether they helped or
not:

- `as it is`: unchanged;
- `blurred`: by a Gaussian of 0.6 or 1 voxels, inside the brain;
- `median`: of 3 x 3 x 3 voxels;
- `simulated histogram`: grey values are mapped to those of simulated subjects, quantile by quantile
  up to 95 %, and in proportion above, so that lesions stay as bright as they are;
- `noise`: the mean of six maps, each with noise of 0.2 standard deviations of the scan, as
  SmoothGrad does;
- `random scanners`: the mean of six maps, each of the scan as another scanner would show it
  (`msxai.model.acquisition`);
- `eight copies`: the mean of eight shifted copies (`msxai.lrp`).

Written beside this file: real_ways.tsv (way, measure, value, low, high, n) and real_ways.json, and
no image. Maps are the mean over the networks, by the rule epsilon_gamma.

- auprc, auprc_minus_brightness: of lesions, paired with the brightness of the unchanged scan;
- auc_filled: how often the logit of a scan as it is is above that of a scan with filled lesions;
- called_yes_filled: the share of filled scans above the lowest logit of the scans as they are, a
  threshold that calls each patient MS. It is set on the same patients, so it flatters.

Intervals are 95 %, by bootstrap over patients; of shares, by Clopper and Pearson. Eight patients
are few.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import real
from scipy import ndimage
from tqdm import tqdm

from msxai.base import provenance, statistics, tsv
from msxai.base.results import Results
from msxai.data import images
from msxai.data.synthetic import phantom
from msxai.model import acquisition, network, shipped
from msxai.quality import lesion_by_lesion
from msxai.regions import lesion_regions

TABLE, RECORD = real.HERE / "real_ways.tsv", real.HERE / "real_ways.json"
RULE = "epsilon_gamma"
AS_IT_IS, EIGHT_COPIES = "as it is", "eight copies"
DRAWS = 6
NOISE = 0.2  # standard deviations of the scan
SEED = 7311
SUBJECTS = 20  # simulated ones, for their histogram
QUANTILES = np.array([0, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95]) / 100
MEDIAN = list(QUANTILES).index(0.5)


def blurred(image, brain, width: float) -> np.ndarray:
    """Blur a scan inside its brain, so that nothing outside counts; normalised.

    Parameters
    ----------
    image : ndarray of shape (X, Y, Z)
    brain : ndarray of bool, same shape
    width : float
        Standard deviation of the Gaussian (voxels).
    """
    weight = ndimage.gaussian_filter(brain.astype(float), width)
    mean = ndimage.gaussian_filter(np.where(brain, image, 0).astype(float), width)
    return images.normalise(np.where(brain, mean / np.maximum(weight, 1e-6), 0), brain)


def with_histogram(image, brain, values) -> np.ndarray:
    """Give a scan the grey values of others up to a quantile of 95 %; normalised.

    Parameters
    ----------
    image : ndarray of shape (X, Y, Z)
    brain : ndarray of bool, same shape
    values : ndarray of shape (15,)
        Values at `QUANTILES` of the others. Brighter voxels keep their distance from the median,
        in units of that between the median and the last quantile.
    """
    inside = image[brain]
    own = np.quantile(inside, QUANTILES)
    mapped = np.interp(inside, own, values)
    scale = (values[-1] - values[MEDIAN]) / (own[-1] - own[MEDIAN])
    is_bright = inside > own[-1]
    mapped[is_bright] = values[-1] + (inside[is_bright] - own[-1]) * scale
    result = np.zeros(image.shape)
    result[brain] = mapped
    return images.normalise(result, brain)


def simulated_histogram(subjects: int = SUBJECTS) -> np.ndarray:
    """Return the mean value of simulated subjects at each of `QUANTILES`."""
    values = []
    for person in tqdm(phantom.draw_people("ms", subjects, SEED), desc="simulated", unit="scan"):
        subject = person.scan()
        image = images.normalise(subject.image, subject.brain)
        values.append(np.quantile(image[subject.brain], QUANTILES))
    return np.mean(values, axis=0)


def noisy(image, brain, draw: int) -> np.ndarray:
    """Add noise to the brain."""
    noise = np.random.default_rng([SEED, draw]).normal(size=image.shape)
    return (image + NOISE * noise * brain).astype("float32")


def ways(histogram) -> dict[str, Callable]:
    """Return what each way shows for a scan and its brain: scans whose maps are averaged.

    Parameters
    ----------
    histogram : ndarray of shape (15,)
        Of `simulated_histogram`.
    """
    draws = range(DRAWS)
    return {
        AS_IT_IS: lambda image, brain: [image],
        "blurred, 0.6 voxels": lambda image, brain: [blurred(image, brain, 0.6)],
        "blurred, 1 voxel": lambda image, brain: [blurred(image, brain, 1)],
        "median": lambda image, brain: [
            images.normalise(ndimage.median_filter(image, 3) * brain, brain)
        ],
        "simulated histogram": lambda image, brain: [with_histogram(image, brain, histogram)],
        "noise": lambda image, brain: [noisy(image, brain, draw) for draw in draws],
        "random scanners": lambda image, brain: [
            acquisition.rescanned(image, np.random.default_rng([SEED, draw])) for draw in draws
        ],
        EIGHT_COPIES: lambda image, brain: [image],
    }


def measured(models, predicting, scan: dict, show: Callable, copies: int) -> dict:
    """Measure one scan in one way.

    Parameters
    ----------
    models, predicting : list of keras.Model
        The same networks for LRP and for predictions.
    scan : dict
        case (`real.Case`), image, filled, brain.
    show : callable
        One of `ways`.
    copies : int
    """
    brain = scan["brain"]
    maps = [real.maps_of(models, shown, RULE, copies) for shown in show(scan["image"], brain)]
    scores = scan["case"].score(np.mean(maps, axis=(0, 1)))
    values = {name: scores[name] for name in ("auprc", "auprc_minus_brightness")}
    for name in ("image", "filled"):
        batch = np.stack(show(scan[name], brain))[..., None].astype("float32")
        logits = [network.logits(model, batch) for model in predicting]
        values[f"logit_{name}"] = float(np.mean(logits))
    return values


def table_of(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a way and measure.

    Parameters
    ----------
    scores : pandas.DataFrame
        One row a way and scan: way, auprc, auprc_minus_brightness, logit_image, logit_filled.
    """
    rows = []
    for way, own in scores.groupby("way", sort=False):
        for measure in ("auprc", "auprc_minus_brightness"):
            rows.append({"way": way} | real.row_of(measure, own[measure]))
        logits = own[["logit_image", "logit_filled"]].to_numpy().T.ravel()
        labels = np.repeat([1, 0], len(own))
        value = statistics.auc(labels, logits)
        row = {"way": way, "measure": "auc_filled", "value": value, "n": len(own)}
        rows.append(row | {"low": np.nan, "high": np.nan})  # scans are not independent
        called = (own["logit_filled"] >= own["logit_image"].min()).astype(float)
        rows.append({"way": way} | real.row_of("called_yes_filled", called))
    return pd.DataFrame(rows)[["way", "measure", "value", "low", "high", "n"]]


def real_scans() -> list[dict]:
    """Prepare the real scans, and the same ones with their lesions filled."""
    scans = real.scans_of(real.DATA)
    prepared = real.prepared_scans(scans, Results("runs/proof"))
    cases = real.cases_of(prepared, scans)
    prepared_scans = []
    for row, case in cases.items():
        labels = lesion_regions.on_model_grid(prepared.lesions(row)).labels
        filled = lesion_by_lesion.fill_lesions(prepared, row, labels)
        prepared_scans.append(
            {
                "case": case,
                "image": prepared.image(row),
                "brain": prepared.brain(row),
                "filled": filled.all(),
            }
        )
    return prepared_scans


def main() -> pd.DataFrame:
    """Measure every way on every scan."""
    network.configure(0, 1)
    models = [network.restore(path) for path in shipped.weights()]
    predicting = [network.restore(path, fast=True) for path in shipped.weights()]
    scans = real_scans()
    rows = []
    for way, show in ways(simulated_histogram()).items():
        copies = 8 if way == EIGHT_COPIES else 1
        for scan in tqdm(scans, desc=way, unit="scan"):
            rows.append({"way": way} | measured(models, predicting, scan, show, copies))
    return table_of(pd.DataFrame(rows))


if __name__ == "__main__":
    table = main()
    print(table.round(3).to_string())
    tsv.write(table, TABLE, float_format="%.4g")
    record = provenance.record({"rule": RULE, "seed": SEED}, shipped.weights(), [TABLE])
    provenance.write_json(RECORD, record)
