"""Threads of compiled kernels sleep after a short wait: what OpenMP itself says in its start.

`GOMP_SPINCOUNT` is how often a thread looks for work before it sleeps; 300000 by default.
"""

import os
import subprocess
import sys

import pytest

START = """
import numba, numpy
import msxai
from msxai.model import kernels
volume = numpy.zeros((8, 8, 8, 1), "float32")
taps = numpy.zeros((2, 27, 1), "float32")
with kernels.threads(2):
    kernels.first_winners(volume, taps, numpy.zeros(2, "float32"))
print(numba.threading_layer())
"""


def said_by_openmp(**settings) -> str:
    """Start a kernel in a process of its own; return OpenMP's settings as it prints them."""
    chosen = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: value for name, value in os.environ.items() if name not in chosen}
    environment |= {"OMP_DISPLAY_ENV": "VERBOSE", **settings}
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, check=True, env=environment
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip(f"the compiled kernels run on {done.stdout.strip()}, not on GNU OpenMP")
    return done.stderr


def test_threads_wait_for_a_moment_and_then_sleep():
    """Those that sleep at once take several times as long on an idle computer."""
    assert "GOMP_SPINCOUNT = '1000'" in said_by_openmp()


@pytest.mark.parametrize(
    ("settings", "looks"),
    [({"OMP_WAIT_POLICY": "PASSIVE"}, "'0'"), ({"GOMP_SPINCOUNT": "70"}, "'70'")],
)
def test_the_users_own_setting_stays(settings, looks):
    assert f"GOMP_SPINCOUNT = {looks}" in said_by_openmp(**settings)
