"""The numerical tests of model and lrp, as they run on another processor.

On this processor as it is they run in `make test`.
"""

import os
import subprocess
import sys

import pytest

import msxai

VARIANTS = {
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "without oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "0"},
}


@pytest.mark.long(reason="all quick tests of model and lrp, twice")
@pytest.mark.parametrize("variant", VARIANTS)
def test_numerical_tests_pass(variant):
    """Each in a process of its own, because TensorFlow reads its settings when it starts."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    result = subprocess.run(
        [*command, "-m", "numerical and not long", "tests/model", "tests/lrp"],
        cwd=msxai.ROOT,
        env={**os.environ, **VARIANTS[variant]},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [f"  | {line}" for line in result.stdout.splitlines()[-60:]]
    assert result.returncode == 0, "\n".join(lines)
