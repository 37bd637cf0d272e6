"""Training on another backend of Keras: the same step as on TensorFlow."""

import importlib.util
import sys

import numpy as np
import pytest

from msxai import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import gpu_work
from gpu_work import Job


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_another_backend_trains_as_tensorflow_does(backend, one_thread):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed (python -m pip install {backend})")
    job = Job(2)
    outcome = gpu_work.start("compare", job, KERAS_BACKEND=backend)
    assert outcome.status == 0, outcome.message
    assert outcome.answer["backend"] == backend
    expected = gpu_work.training_step(job)
    assert len(expected) == 10
    for name, step in expected.items():
        largest = np.abs(step).max()
        assert largest > 0, name
        assert np.abs(outcome.arrays[name] - step).max() <= 1e-4 * largest, name
