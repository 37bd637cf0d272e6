"""What scans are compared with where the networks of the package explain them.

The scans that those networks were trained on do not come with the package. In their place it brings
two files, made by `tools/ship_reference.py` from simulated subjects that no training has seen:

- ``lesions_reference.npz``: the last features of a sample of these subjects, and the logits of all,
  for each network;
- ``lesions_reference.json``: hashes of the networks, the limits of the warnings for each way to
  make a map, and where all this comes from.

`msxai.lrp.trust_warnings` explains the warnings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from msxai.base import provenance
from msxai.lrp.trust_warnings import Distance
from msxai.model import shipped

__all__ = ["FEATURES", "RECORD", "Standing", "Stored", "read", "write"]

FEATURES = f"{shipped.TASK}_reference.npz"
"""File of the features, in the folder of the weights."""

RECORD = f"{shipped.TASK}_reference.json"
"""File of the hashes and limits, in the same folder."""

_OF_THE_SCAN = ("out_of_distribution",)  # needs no map


@dataclass(frozen=True)
class Stored:
    """What the package knows about the scans that its networks can be trusted with.

    Attributes
    ----------
    features : list of ndarray of shape (scans, features)
        One array for each network.
    labels : ndarray of shape (scans,)
        1: patient, 0: control.
    logits : ndarray of shape (networks, scans)
        Of the sample and of further subjects, as random scanners would show them.
    logit_labels : ndarray of shape (scans,)
        1: patient, 0: control.
    limits : list of dict
        rule, epsilon, copies, and the limits of maps made so
        (`msxai.lrp.trust_warnings.limits`).
    source : str
        Where the limits come from.
    """

    features: list[np.ndarray]
    labels: np.ndarray
    logits: np.ndarray
    logit_labels: np.ndarray
    limits: list[dict]
    source: str

    @property
    def distance(self) -> Distance:
        """The distance of a scan from the sample."""
        return Distance(self.features, self.labels)

    def calibrated(self, logits: Sequence[float]) -> list[float]:
        """Return the probability of a patient by the logit of each network (Platt scaling).

        A logistic regression on the logits of the stored subjects (Platt 1999; Niculescu-Mizil and
        Caruana 2005, doi:10.1145/1102351.1102430). It holds for subjects like these, with as many
        patients among them.

        Parameters
        ----------
        logits : sequence of float
            One for each network.
        """
        probabilities = []
        for logit, sample in zip(logits, self.logits, strict=True):
            regression = LogisticRegression(C=np.inf).fit(sample[:, None], self.logit_labels)
            probabilities.append(float(regression.predict_proba([[logit]])[0, 1]))
        return probabilities

    def standing(self, logit: float) -> "Standing":
        """Return where the mean logit over networks lies among those of the stored subjects.

        Parameters
        ----------
        logit : float
        """
        means = self.logits.mean(axis=0)
        patients = means[self.logit_labels == 1]
        controls = means[self.logit_labels == 0]
        return Standing(
            patients=len(patients),
            patients_below=int((patients < logit).sum()),
            controls=len(controls),
            controls_above=int((controls > logit).sum()),
        )

    def limits_of(self, rule: str, epsilon: float, copies: int) -> dict:
        """Return the limits of maps that are made so; without maps like these, of the scan alone.

        Parameters
        ----------
        rule : str
        epsilon : float
        copies : int
        """
        for entry in self.limits:
            if (entry["rule"], entry["epsilon"], entry["copies"]) == (rule, epsilon, copies):
                return entry["limits"]
        return {name: self.limits[0]["limits"][name] for name in _OF_THE_SCAN}


@dataclass(frozen=True)
class Standing:
    """Where a logit lies among those of subjects.

    Attributes
    ----------
    patients, controls : int
        How many there are.
    patients_below, controls_above : int
        How many patients have a lower logit, and how many controls have a higher one.
    """

    patients: int
    patients_below: int
    controls: int
    controls_above: int


def read(weights: Sequence, folder=None) -> Stored | None:
    """Return what is stored for networks; None for networks that are not those of the package.

    Parameters
    ----------
    weights : sequence of path
        Weights files. All networks of the package have to be among them, and no others.
    folder : path, optional
        Where the two files lie; by default with the package's weights.
    """
    folder = Path(folder or shipped.folder())
    record = shipped.read_record(folder / RECORD, weights)
    if record is None:
        return None
    with np.load(folder / FEATURES, allow_pickle=False) as arrays:
        features = [arrays[str(number)] for number in range(len(weights))]
        return Stored(
            features=features,
            labels=arrays["labels"],
            logits=arrays["logits"],
            logit_labels=arrays["logit_labels"],
            limits=record["limits"],
            source=record["source"],
        )


def write(stored: Stored, weights: Sequence, folder, **entries) -> list[Path]:
    """Write the two files.

    Parameters
    ----------
    stored : Stored
    weights : sequence of path
        Weights files of its networks, in the same order.
    folder : path
    **entries
        What else the record says, JSON types.

    Returns
    -------
    list of pathlib.Path
        The files.
    """
    folder = Path(folder)
    arrays = {str(number): values for number, values in enumerate(stored.features)}
    arrays |= {
        "labels": stored.labels,
        "logits": stored.logits,
        "logit_labels": stored.logit_labels,
    }
    with provenance.replacing(folder / FEATURES) as draft:
        np.savez_compressed(draft, **arrays)
    shipped.write_record(
        folder / RECORD, weights, source=stored.source, limits=stored.limits, **entries
    )
    return [folder / FEATURES, folder / RECORD]
