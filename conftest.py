"""What the tests and the examples in docstrings share: one thread, no screen."""

import os
import sys

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Two test processes with two numba threads each wait for one another.
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import pytest


@pytest.fixture(scope="session")
def one_thread():
    """Seed TensorFlow and give it one thread, once a process.

    A test that imports TensorFlow in its body asks for this fixture by name.
    """
    from msxai.model import network

    network.configure(0, 1)


@pytest.fixture(autouse=True)
def _one_thread_with_tensorflow(request):
    """The same where TensorFlow is imported: its import takes 7 s, and other tests need it not."""
    if "tensorflow" in sys.modules:
        request.getfixturevalue("one_thread")
