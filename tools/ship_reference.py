"""Stores what scans are compared with where the networks of the package explain them.

Usage: python tools/ship_reference.py       (part of `make shipped-weights`; about 45 minutes)

Simulates subjects that no training and no test has seen, half of them to measure distances from and
half to take the limits of the warnings from (`msxai.lrp.trust_warnings`). Written next to the
weights: see `msxai.lrp.shipped_reference`. Run it again when the weights change.
"""

import numpy as np

from msxai.base.results import Results
from msxai.data.cohorts import splits
from msxai.data.cohorts.cohort import open_cohort
from msxai.data.prepared import Prepared, prepare
from msxai.data.synthetic import phantom
from msxai.lrp import heatmaps, shipped_reference, trust_warnings
from msxai.model import acquisition, network, shipped

COHORT = "phantom-ms-reference"
SUBJECTS, SEED = 160, 8001
SHARE_OF_LIMITS = 0.5
SCANNERS = 4  # each draws something else for each subject
MAPS = (("epsilon_gamma", 1e-3, 1), ("epsilon_gamma", 1e-3, 8), ("epsilon", 1e-3, 1))
"""Rule, epsilon and copies of the maps whose limits are stored; the first is the default."""


def prepared_subjects() -> Prepared:
    """Simulate and prepare the subjects; a training part and a validation part."""
    where = Results("runs/shipped-reference")
    cohort = open_cohort(phantom.find(COHORT, SUBJECTS, SEED, jobs=2))
    split = splits.make(cohort.table, (0, 0), SHARE_OF_LIMITS, SEED)
    path = where.prepared(COHORT)
    prepare(cohort, split, path, jobs=2)
    return Prepared(path)


def logits_of(prepared: Prepared, weights: list) -> np.ndarray:
    """Logits of all subjects, each as several random scanners would show it.

    Scans of the simulation's own scanner get logits that are nearer to 0, on both sides, than those
    of real scanners.

    Returns
    -------
    ndarray of shape (networks, scanners x subjects), float32
        All subjects by the first scanner, then all by the second, ...
    """
    models = [network.restore(path, fast=True) for path in weights]
    logits = []
    for scanner in range(SCANNERS):
        for row in prepared.rows("all"):
            rng = np.random.default_rng([SEED, scanner, row])
            scan = acquisition.rescanned(prepared.image(row), rng)[None, ..., None]
            logits.append([float(model(scan, training=False)[0, 0]) for model in models])
    return np.array(logits, "float32").T


def main() -> None:
    """Measure the subjects and write the two files."""
    network.configure(0, 1)
    weights = shipped.weights()
    models = [network.restore(path) for path in weights]
    predicting = [network.restore(path, fast=True) for path in weights]
    prepared = prepared_subjects()
    sample = prepared.rows("training")
    labels = prepared.table["label"].iloc[sample].to_numpy("float32")
    limits = []
    for rule, epsilon, copies in MAPS:
        settings = heatmaps.Settings(rule, epsilon, copies)
        reference = heatmaps.reference_by(models, prepared, settings, predicting)
        limits.append(
            {"rule": rule, "epsilon": epsilon, "copies": copies, "limits": reference.limits}
        )
        print(rule, copies, reference.limits, flush=True)
    features = trust_warnings.features(predicting, prepared, sample)
    stored = shipped_reference.Stored(
        features=[np.asarray(values, "float32") for values in features],
        labels=labels,
        logits=logits_of(prepared, weights),
        logit_labels=np.tile(prepared.table["label"].to_numpy("float32"), SCANNERS),
        limits=limits,
        source=f"simulated: {reference.source}",
    )
    files = shipped_reference.write(
        stored,
        weights,
        shipped.folder(),
        **shipped.origin({"subjects": SUBJECTS, "seed": SEED, "scanners": SCANNERS}),
    )
    for path in files:
        print(path.name)


if __name__ == "__main__":
    main()
