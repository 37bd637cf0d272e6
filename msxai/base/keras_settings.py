"""Keras's settings file (``keras.json``), its backend, and how a GPU computes.

Keras reads the file in its import. A backend that is not installed makes that import fail, and
other formats make other networks. Both get one error that names the file.

Keras's own default is TensorFlow. Where it is not installed (``make setup GPU=1``), the backend
that is installed takes its place, without any setting.
"""

import importlib.abc
import importlib.util
import os
import sys
from pathlib import Path

from msxai.base import json_files
from msxai.base.errors import ParameterError

__all__ = ["BACKENDS", "ON_A_GPU", "check_formats", "install", "installed_backends", "path"]

BACKENDS = ("tensorflow", "torch", "jax")
"""Backends of Keras that can train, in the order in which one is chosen. Each has the name of its
package."""

ON_A_GPU = {
    "NVIDIA_TF32_OVERRIDE": "0",
    "JAX_DEFAULT_MATMUL_PRECISION": "highest",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}
"""Variables that CUDA's libraries and JAX read when they start. The first two: float32 is float32.
By default a GPU shortens the factors of a product to 10 bits (TF32), and maps would differ from
those of a processor in the third digit. The third: a process takes memory as it needs it, because
notebooks that run in parallel share the GPU. By default JAX takes three quarters of it at once."""

_WITHOUT_TRAINING = "openvino"
_DEFAULT = "tensorflow"
_VARIABLE = "KERAS_BACKEND"
_PRECISIONS = ("float16", "float32", "float64")  # that Keras takes
_ORDERS = ("channels_last", "channels_first")
_MEND_FILE = "Mend the file or delete it: Keras then writes a new one."
_NEEDED = {"image_data_format": "channels_last", "floatx": "float32"}


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


def installed_backends() -> list[str]:
    """Return those of `BACKENDS` that are installed."""
    return [backend for backend in BACKENDS if _is_installed(backend)]


def install() -> None:
    """Have the import of Keras choose an installed backend, or say which one is missing.

    Also set, where nobody has set it before, how a GPU computes (`ON_A_GPU`).
    """
    for variable, value in ON_A_GPU.items():
        os.environ.setdefault(variable, value)
    if not any(isinstance(finder, _KerasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _KerasFinder())


class _KerasFinder(importlib.abc.MetaPathFinder):
    """Finds nothing; looks at the backend before Keras is imported."""

    def find_spec(self, fullname, path=None, target=None):
        """Return None, so that the usual finders find the module."""
        if fullname == "keras":
            _check_backend()


def _check_backend() -> None:
    settings = _read(path())
    _check_settings(settings)
    where = f"environment variable {_VARIABLE}"
    backend = os.environ.get(_VARIABLE)
    if not backend:
        where = path()
        backend = settings.get("backend", _DEFAULT)
    if _is_installed(backend):
        return
    installed = installed_backends()
    # Keras writes its default into the file by itself: nobody has asked for TensorFlow.
    if where == path() and backend == _DEFAULT and installed:
        os.environ[_VARIABLE] = installed[0]
        return
    raise ParameterError(
        where,
        f"backend {backend!r}, which is not installed",
        "a backend of Keras that is installed",
        _mend(installed),
    )


def _mend(installed: list[str]) -> str:
    if not installed:
        return "Run make setup, or install one: python -m pip install tensorflow."
    return f"Install it, or set the environment variable {_VARIABLE}={installed[0]}."


def _is_installed(backend: str) -> bool:
    is_known = backend in (*BACKENDS, _WITHOUT_TRAINING)
    return is_known and importlib.util.find_spec(backend) is not None


def _read(file: Path) -> dict:
    """Return the settings of the file; none where it is missing or no JSON, as for Keras.

    Keras fails where it is JSON of another kind, or cannot be opened.
    """
    if not os.path.exists(file):
        return {}
    try:
        return json_files.read(file)
    except (OSError, json_files.NoGroupError) as error:
        raise ParameterError(
            file, f"a file that cannot be used ({error})", "a group of settings", _MEND_FILE
        ) from error
    except ValueError:
        return {}


def _check_settings(settings: dict) -> None:
    """Refuse the values at which Keras fails in its import."""
    for name, words in (("floatx", _PRECISIONS), ("image_data_format", _ORDERS)):
        if name in settings and settings[name] not in words:
            expected = f"one of {', '.join(words)}"
            raise ParameterError(f"{path()}, {name}", repr(settings[name]), expected, _MEND_FILE)
    epsilon = settings.get("epsilon", 1e-7)
    if not isinstance(epsilon, float):
        expected = "a number with a decimal point, such as 1e-07"
        raise ParameterError(f"{path()}, epsilon", repr(epsilon), expected, _MEND_FILE)
