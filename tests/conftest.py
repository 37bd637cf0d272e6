"""What all tests share: where the real scans are, one TensorFlow thread, a seeded generator."""

import os
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

import msxai

SHARED = Path(msxai.ROOT).parent / "shared"


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def open_ms():
    """Folder of the real scans; skips where it is absent."""
    folder = SHARED / "data" / "open_ms"
    if not folder.is_dir():
        pytest.skip("the real scans of ../shared/data/open_ms are not here")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    from msxai import network

    network.configure(0, 1)
