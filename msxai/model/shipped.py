"""The networks that the package brings."""

from importlib import resources
from pathlib import Path

from msxai.base.errors import ParameterError

__all__ = ["TASK", "folder", "weights"]

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
