"""What all tests share: where the real scans are, one TensorFlow thread, a seeded generator."""

import os
import shutil
import subprocess

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from support.real_scans import SHARED


def pytest_collection_modifyitems(items):
    """The workflow's tests, which take longest, first: of two processes none is left with them at the end."""
    items.sort(key=lambda item: item.path.stem != "test_workflow")


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
    from msxai.model import network

    network.configure(0, 1)


@pytest.fixture(scope="session")
def browse(tmp_path_factory):
    """Open a page in a headless browser and return its document as the page's scripts have left it."""
    program = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if program is None:
        pytest.skip("no chromium here to open the page with (apt-get install chromium)")
    profile = tmp_path_factory.mktemp("profile")

    def run(page, *options):
        command = [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=20000",
        ]
        done = subprocess.run(
            [*command, *options, "--dump-dom", page.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout

    return run
