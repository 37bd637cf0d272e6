"""The networks that the package brings, and what is known of any network's training."""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from msxai.base import provenance
from msxai.base.errors import ParameterError

__all__ = ["TASK", "Card", "card", "weights"]

TASK = "lesions"
"""Pre-training task of the networks that explain a scan by default."""


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
        On the validation part of the training.
    """

    sha256: str
    shipped: bool
    task: str
    parameters: dict
    accuracy: float | None


def weights(task: str = TASK) -> list[Path]:
    """Return the weights files (.npz) that the package brings for a task, by name.

    Raises
    ------
    ParameterError
        The installed package has none.

    Examples
    --------
    >>> weights()[0].name
    'lesions-0.npz'
    """
    folder = Path(str(resources.files("msxai.model") / "weights"))
    paths = []
    for path in sorted(folder.glob("*.npz")):
        if card(path).task == task:
            paths.append(path)
    if not paths:
        raise ParameterError(
            folder,
            f"no network for the task {task}",
            "the networks that the package brings",
            "Install the package anew, or name a weights file.",
        )
    return paths


def card(path) -> Card:
    """Return what is known of a network by the record beside its weights file.

    Parameters
    ----------
    path : path
        Weights file (.npz).
    """
    path = Path(path)
    record = _record(path)
    parameters = record.get("parameters", {})
    is_shipped = path.parent == Path(str(resources.files("msxai.model") / "weights"))
    task = parameters.get("task", "")
    if not task and "variant" in parameters:
        task = "diagnosis"  # 03 has no other one
    return Card(
        sha256=provenance.sha256(path),
        shipped=is_shipped,
        task=task,
        parameters=parameters,
        accuracy=record.get("val_accuracy"),
    )


def _record(path: Path) -> dict:
    """Return the record of a training; empty where there is none."""
    for candidate in (path.with_suffix(".json"), path.with_name("provenance.json")):
        if candidate.is_file():
            return json.loads(candidate.read_text(encoding="utf-8"))
    return {}
