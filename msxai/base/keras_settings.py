"""Keras's settings file (``keras.json``) and what the package needs of it.

Keras reads the file in its import. A backend that is not installed makes that import fail, and
other formats make other networks. Both get one error that names the file.
"""

import importlib.abc
import importlib.util
import json
import os
import sys
from pathlib import Path

from msxai.base.errors import ParameterError

__all__ = ["check_formats", "install", "path"]

_NEEDED = {"image_data_format": "channels_last", "floatx": "float32"}
_MODULES = {"tensorflow": "tensorflow", "torch": "torch", "jax": "jax", "openvino": "openvino"}


def path() -> Path:
    """Return the path of the settings file, where Keras looks for it."""
    folder = os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser()
    return Path(folder) / "keras.json"


def check_formats() -> None:
    """Raise an error where Keras is set to build other networks than the package's.

    Raises
    ------
    ParameterError
        Channels first, or another precision than float32.
    """
    import keras

    for name, needed in _NEEDED.items():
        actual = getattr(keras.config, name)()
        if actual != needed:
            raise ParameterError(
                path(),
                f"{name} {actual!r}, or a program that has set it",
                f"{needed!r}",
                "Change the file, or set the environment variable KERAS_HOME to an empty folder.",
            )


def install() -> None:
    """Have the import of Keras say which backend is missing."""
    if not any(isinstance(finder, _KerasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _KerasFinder())


class _KerasFinder(importlib.abc.MetaPathFinder):
    """Finds nothing; looks at the backend before Keras is imported."""

    def find_spec(self, fullname, path=None, target=None):
        """Return None, so that the usual finders find the module."""
        if fullname == "keras":
            _check_backend()


def _check_backend() -> None:
    where = "environment variable KERAS_BACKEND"
    backend = os.environ.get("KERAS_BACKEND")
    if not backend:
        where = path()
        backend = _read(where).get("backend", "tensorflow")
    module = _MODULES.get(backend)
    if module is None or importlib.util.find_spec(module) is None:
        raise ParameterError(
            where,
            f"backend {backend!r}, which is not installed",
            "a backend of Keras that is installed",
            "Install it, or set the environment variable KERAS_BACKEND=tensorflow.",
        )


def _read(file: Path) -> dict:
    """Settings of the file; none where it is missing or damaged, as for Keras."""
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return settings if isinstance(settings, dict) else {}
