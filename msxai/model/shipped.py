"""The networks that the package brings, and the records of what was measured of them."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from msxai.base import provenance
from msxai.base.errors import ParameterError

__all__ = ["COMMAND", "TASK", "folder", "origin", "read_record", "weights", "write_record"]

COMMAND = "make shipped-weights"
"""What makes the networks and all that is measured of them."""

TASK = "lesions"
"""Pre-training task of the networks that explain a scan by default."""


def folder() -> Path:
    """Return the folder of weights in the installed package."""
    return Path(str(resources.files("msxai.model") / "weights"))


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
    paths = sorted(folder().glob(f"{task}-*.npz"))
    if not paths:
        raise ParameterError(
            folder(),
            f"no network for the task {task}",
            "the networks that the package brings",
            "Install the package anew, or name a weights file.",
        )
    return paths


def read_record(path, of_weights: Sequence) -> dict | None:
    """Read a record that `write_record` has written.

    Parameters
    ----------
    path : path
        JSON file.
    of_weights : sequence of path
        Weights files.

    Returns
    -------
    dict or None
        None where there is no record, or it is not of exactly these networks in this order.
    """
    path = Path(path)
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    if [provenance.sha256(file) for file in of_weights] != record["weights"]:
        return None
    return record


def write_record(path, of_weights: Sequence, **entries) -> None:
    """Write what was measured of networks, with their hashes.

    Parameters
    ----------
    path : path
        JSON file.
    of_weights : sequence of path
        Weights files.
    **entries
        JSON types.
    """
    hashes = [provenance.sha256(file) for file in of_weights]
    provenance.write_json(path, {"weights": hashes, **entries})


def origin(parameters: dict) -> dict:
    """Return what made a record of the package: command, parameters, versions and commit."""
    record = provenance.record(parameters)
    return {
        "command": COMMAND,
        "parameters": record["parameters"],
        "versions": record["versions"],
        "commit": record["commit"],
    }
