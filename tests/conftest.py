"""What all tests share: hypothesis, markers, a seeded generator, the real scans, a browser."""

import os
import shutil
import subprocess

# As `msxai.base.tensorflow_start` does, and before a test file imports TensorFlow. Without oneDNN
# the gradient of tied maxima goes to all of them.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

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

FIRST = (
    "tests/series/",
    "tests/data/test_registration.py",
    "tests/data/test_quality_control.py",
    "tests/benchmarks/test_benchmarks.py",
    "tests/project/test_instruction_sets.py",
    "tests/project/test_mutants.py",
)
"""Files that take longest start first: of two processes none is left with them at the end."""


def pytest_collection_modifyitems(items):
    """Mark the numerical tests, ask the long ones for a reason, start with the longest files."""
    for item in items:
        if item.nodeid.startswith(("tests/model/", "tests/lrp/")):
            item.add_marker("numerical")
        for marker in item.iter_markers("long"):
            if not marker.kwargs.get("reason"):
                raise pytest.UsageError(f"{item.nodeid}: expected long(reason='...')")
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))


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
def browse(tmp_path_factory):
    """Open a page in a headless browser and return the document that its scripts have made."""
    browsers = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
    browsers = [path for path in browsers if path]
    if not browsers:
        pytest.skip("no chromium here to open the page with (apt-get install chromium)")
    profile = tmp_path_factory.mktemp("profile")

    def run(page, *options):
        command = [
            browsers[0],
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
