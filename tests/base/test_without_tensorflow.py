"""Where TensorFlow is not installed (make setup GPU=1): imports, the backend, iNNvestigate."""

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import msxai
from msxai.base import keras_settings
from msxai.base.errors import ParameterError
from msxai.lrp import heatmaps, innvestigate
from msxai.lrp.explanation import Computation

PACKAGE = Path(msxai.__file__).parent
LEFT_OUT = ("tensorflow", "tf_keras", "innvestigate")
OTHERS = [backend for backend in ("torch", "jax") if importlib.util.find_spec(backend)]

# Python finds none of the packages that set-up for a GPU leaves out. Then every module is imported.
WITHOUT = f"""
import importlib, importlib.machinery, pkgutil, sys
find = importlib.machinery.PathFinder.find_spec
def find_others(name, path=None, target=None):
    return None if name.split(".")[0] in {LEFT_OUT} else find(name, path, target)
importlib.machinery.PathFinder.find_spec = find_others
import msxai
for module in pkgutil.walk_packages(msxai.__path__, "msxai."):
    importlib.import_module(module.name)
import keras
print(keras.backend.backend())
"""


def imported_at_once(path) -> set[str]:
    """Packages that a module imports when it is imported itself, not inside a function."""
    packages = set()
    waiting = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            packages.add((node.module or "").split(".")[0])
        elif not isinstance(node, ast.FunctionDef):
            waiting += ast.iter_child_nodes(node)
    return packages


def test_no_module_needs_a_package_that_is_left_out():
    modules = sorted(PACKAGE.rglob("*.py"))
    assert len(modules) > 50
    refused = {*LEFT_OUT, "torch", "jax"}
    for module in modules:
        assert not imported_at_once(module) & refused, module


def test_no_module_takes_the_values_of_a_tensor_as_tensorflow_alone_gives_them():
    """JAX's tensors have no ``.numpy()``; numpy cannot read those of PyTorch that have gradients.

    ants has images with ``.numpy()``.
    """
    of_ants = PACKAGE / "data" / "registration" / "alignment.py"
    for module in sorted(PACKAGE.rglob("*.py")):
        text = module.read_text(encoding="utf-8")
        assert module == of_ants or ".numpy()" not in text, module
        assert not re.search(r"np\.\w+\(\[?\w+\([^()]*training=", text), module


@pytest.mark.skipif(not OTHERS, reason="neither jax nor torch is installed")
def test_every_module_is_imported_where_tensorflow_is_not_installed(tmp_path):
    """Also where Keras itself has written its default, TensorFlow, into the settings file."""
    (tmp_path / "keras.json").write_text('{"backend": "tensorflow"}')
    environment = {**os.environ, "KERAS_HOME": str(tmp_path)}
    environment.pop("KERAS_BACKEND", None)
    command = [sys.executable, "-c", WITHOUT]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split()[-1] == OTHERS[0]


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Choose which backends seem to be installed; there is no setting."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "")

    def choose(*backends):
        monkeypatch.setattr(keras_settings, "_is_installed", lambda name: name in backends)

    return choose


@pytest.mark.parametrize("backends", [("jax",), ("torch",), ("torch", "jax")])
def test_an_installed_backend_takes_the_place_of_tensorflow(installed, backends):
    installed(*backends)
    keras_settings._check_backend()
    assert os.environ["KERAS_BACKEND"] == backends[0]


def test_tensorflow_stays_where_it_is_installed(installed):
    installed("tensorflow", "jax")
    keras_settings._check_backend()
    assert os.environ["KERAS_BACKEND"] == ""


def test_a_backend_that_somebody_asks_for_is_not_replaced(installed, monkeypatch):
    installed("jax")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(ParameterError, match="variable KERAS_BACKEND=jax"):
        keras_settings._check_backend()


def test_no_backend_at_all(installed):
    installed()
    with pytest.raises(ParameterError, match="Run make setup"):
        keras_settings._check_backend()


def test_a_gpu_computes_as_a_processor_does():
    """The import of the package sets what CUDA's libraries and JAX read at their start."""
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    assert os.environ["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


def test_innvestigate_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(innvestigate, "_PACKAGES", ("keras", "no_such_package"))
    with pytest.raises(ParameterError, match=r"no package no_such_package; .* Set engine: msxai"):
        heatmaps.Settings(rule="epsilon", computation=Computation(engine="innvestigate"))
