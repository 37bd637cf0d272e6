"""What is known of a network by the record of its training, the network of a user included."""

from dataclasses import dataclass
from pathlib import Path

from msxai.base import json_files, provenance
from msxai.model import shipped

__all__ = ["Card", "card", "training_record"]

_SIMULATED = ("lesions", "volume")  # tasks that are learnt from simulated FLAIR scans


@dataclass(frozen=True)
class Card:
    """What the record of a training says.

    Attributes
    ----------
    sha256 : str
        Of the weights file.
    shipped : bool
        The package brings it.
    task : str
        What it was trained for: "lesions", "volume", "diagnosis"; "" where no record says it.
    parameters : dict
        Parameters of the training; empty without a record.
    accuracy : float or None
        On the validation part of the training, a share; None where no record says it.
    cohort : str
        Name of the cohort that it was trained on (diagnosis); "" for simulated pairs, and where no
        record says it.
    modality : str
        Of the scans that it was trained on: "FLAIR", "T1w"; "" where it is not known.
    """

    sha256: str
    shipped: bool
    task: str
    parameters: dict
    accuracy: float | None
    cohort: str = ""
    modality: str = ""


def card(path) -> Card:
    """Return what is known of a network by the record of its training.

    Parameters
    ----------
    path : path
        Weights file (.npz).
    """
    path = Path(path)
    record = training_record(path)
    parameters = record.get("parameters")
    if not isinstance(parameters, dict):
        parameters = {}
    task = _text(parameters, "task")
    if not task and "variant" in parameters:
        task = "diagnosis"  # 03 has no other one
    return Card(
        sha256=provenance.sha256(path),
        shipped=path.parent == shipped.folder(),
        task=task,
        parameters=parameters,
        accuracy=_share(record, "val_accuracy"),
        cohort="" if task in _SIMULATED else _text(parameters, "cohort"),
        modality="FLAIR" if task in _SIMULATED else "",
    )


def training_record(path) -> dict:
    """Return the record of the training that has written a weights file.

    The record is ``NAME.json`` or ``provenance.json`` in the same folder. It holds the SHA-256 of
    the weights. A record that does not is of other weights.

    Parameters
    ----------
    path : path
        Weights file (.npz).

    Returns
    -------
    dict
        Empty where no record holds the hash, or it cannot be read.
    """
    path = Path(path)
    for candidate in (path.with_suffix(".json"), path.with_name("provenance.json")):
        record = json_files.read_or_empty(candidate)
        outputs = record.get("outputs")
        hashes = list(outputs.values()) if isinstance(outputs, dict) else []
        hashes.append(record.get("sha256"))
        if record and provenance.sha256(path) in hashes:
            return record
    return {}


def _text(entries: dict, name: str) -> str:
    value = entries.get(name)
    return value if isinstance(value, str) else ""


def _share(entries: dict, name: str) -> float | None:
    """Return a number from 0 to 1; None where it is none, so that no page shows another one."""
    value = entries.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= 1 else None
