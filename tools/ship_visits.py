"""Stores how much two scans of one unchanged person differ, for the networks of the package.

Usage: python tools/ship_visits.py       (part of `make shipped-weights`; about 15 minutes)

Simulates patients that no training and no test has seen, and scans each of them again: the same
brain and the same lesions, moved by up to half a voxel, once by the random scanner of the first
scan and once by another one. Written next to the weights: see `msxai.quality.visit_noise`. Run it
again when the weights change.

The simulation draws noise and bias field of its own before a scanner adds others. They are the same
in all scans of a patient. So are the voxels of a lesion: the limits do not contain what a rater
would mark in another way.
"""

import numpy as np
import pandas as pd
from scipy import ndimage
from tqdm import tqdm

from msxai.data import images
from msxai.data.synthetic import phantom
from msxai.data.synthetic.subject import Subject
from msxai.model import acquisition, network, shipped
from msxai.quality import one_scan, visit_noise
from msxai.quality.two_visits import Comparison, Visit
from msxai.regions import lesion_regions

PATIENTS, SEED = 20, 8901
DRAWN = 60  # people, about half of whom are patients
FARTHEST = 0.5  # voxels between the two positions


def patients() -> list[phantom.Person]:
    """Draw the people who are scanned."""
    people = phantom.draw_people("ms", DRAWN, SEED)
    chosen = [person for person in people if person.participant["group"] == "MS"]
    return chosen[:PATIENTS]


def moved(image, brain, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Move a scan and its brain mask by up to `FARTHEST` voxels in a random direction.

    Parameters
    ----------
    image : ndarray of shape (X, Y, Z)
    brain : ndarray of bool, same shape
    rng : numpy.random.Generator
    """
    direction = rng.normal(size=3)
    step = direction / np.linalg.norm(direction) * rng.uniform(0, FARTHEST)
    fraction = ndimage.shift(brain.astype("float32"), step, order=1)
    return ndimage.shift(image.astype("float32"), step, order=1), fraction >= 0.5


def visits_of(
    subject: Subject, explainer: one_scan.Explainer, rng: np.random.Generator
) -> tuple[Visit, dict[str, Visit]]:
    """Scan an unchanged subject three times and explain the scans.

    Parameters
    ----------
    subject : msxai.data.synthetic.subject.Subject
    explainer : msxai.quality.one_scan.Explainer
    rng : numpy.random.Generator
        Draws scanners and position.

    Returns
    -------
    first : Visit
    second : dict
        Each of `msxai.quality.visit_noise.SCANNERS` to a later visit, moved.
    """
    image, brain = subject.image.astype("float32"), subject.brain
    later = moved(image, brain, rng)
    scanner, other = acquisition.draw(rng), acquisition.draw(rng)
    first = explained(image, brain, scanner, explainer, rng)
    second = {
        visit_noise.ONE_SCANNER: explained(*later, scanner, explainer, rng),
        visit_noise.TWO_SCANNERS: explained(*later, other, explainer, rng),
    }
    return first, second


def explained(image, brain, scanner: acquisition.Scanner, explainer, rng) -> Visit:
    """Show a brain as a scanner does, and explain the scan."""
    scan = images.normalise(image, brain, explainer.normalisation)
    scan = acquisition.scanned(scan, scanner, rng)
    logit = float(explainer.logits_of(scan[None])[0])
    return Visit(scan, brain, explainer.map_of(scan), logit)


def rows_of(first: Visit, second: Visit, lesions: lesion_regions.Lesions) -> list[dict]:
    """Return what differs between two visits: kind, voxels and value.

    Parameters
    ----------
    first, second : Visit
    lesions : Lesions
        Of the first visit; the second is moved by half a voxel at most.
    """
    comparison = Comparison.of(first, second, None)
    values = {"logit": comparison.logit_change, "similarity": comparison.similarity}
    for kind, share in visit_noise.RARE.items():
        values[kind] = comparison.quantile_of_change(share)
    rows = [{"kind": kind, "voxels": 0, "value": value} for kind, value in values.items()]
    numbers = lesions.numbers
    sums = ndimage.sum_labels(comparison.relevance_change, lesions.labels, numbers)
    voxels = np.bincount(lesions.labels.ravel())[numbers]
    for size, value in zip(voxels, sums, strict=True):
        rows.append({"kind": "lesion", "voxels": int(size), "value": value})
    return rows


def main() -> None:
    """Measure the patients and write the two files."""
    network.configure(0, 1)
    explainer = one_scan.Explainer(one_scan.Settings())
    explanation = explainer.settings.explanation
    rows = []
    for number, person in enumerate(tqdm(patients(), unit="patient"), start=1):
        subject = person.scan()
        lesions = lesion_regions.on_model_grid(subject.lesions)
        first, second = visits_of(subject, explainer, np.random.default_rng([SEED, number]))
        for scanners, visit in second.items():
            for row in rows_of(first, visit, lesions):
                rows.append({"subject": number, "scanners": scanners} | row)
    files = visit_noise.write(
        pd.DataFrame(rows),
        {
            "rule": explanation.rule,
            "epsilon": explanation.epsilon,
            "copies": explanation.copies,
        },
        f"simulated: {PATIENTS} patients who did not change",
        shipped.weights(),
        shipped.folder(),
        **shipped.origin({"patients": PATIENTS, "seed": SEED, "farthest": FARTHEST}),
    )
    for path in files:
        print(path.name)


if __name__ == "__main__":
    main()
