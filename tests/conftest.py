"""What all tests share: settings of hypothesis and TensorFlow, a seeded generator, the real scans, a browser."""

import os
import shutil
import subprocess
import sys

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from support.real_scans import SHARED

# The one profile of hypothesis. No deadline and no check of speed: a loaded machine is slow.
# The examples are the same in each run: whether a change is right does not depend on luck.
settings.register_profile(
    "msxai",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("msxai")


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


@pytest.fixture(scope="session")
def one_thread():
    """TensorFlow with one thread, seeded once. Tests that import TensorFlow in their body ask for it by name."""
    from msxai.model import network

    network.configure(0, 1)


@pytest.fixture(autouse=True)
def _one_thread_with_tensorflow(request):
    """The same wherever the test's module has imported TensorFlow: the import takes 7 s, other tests do without it."""
    if "tensorflow" in sys.modules:
        request.getfixturevalue("one_thread")


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
