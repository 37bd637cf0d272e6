"""TensorFlow starts without notices; what native code writes before a failure is still shown."""

import os
import subprocess
import sys

import pytest

from msxai.base import tensorflow_start

AGAIN = pytest.mark.long(reason="another start of TensorFlow, 13 s")


@pytest.mark.parametrize(
    "first", ["msxai.lrp.engine", pytest.param("msxai.model.network", marks=AGAIN)]
)
def test_tensorflow_starts_without_notices_and_with_onednn_whoever_imports_it_first(first):
    settings = ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")
    environment = {name: value for name, value in os.environ.items() if name not in settings}
    code = (
        f"import {first}, tensorflow; from tensorflow.python.framework import test_util;"
        "tensorflow.config.list_physical_devices(); print(test_util.IsMklEnabled())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    assert run.stdout.strip() == "True"


def test_what_was_held_back_is_shown_when_the_block_fails(capfd):
    with pytest.raises(ImportError), tensorflow_start.held_back_stderr():
        os.write(2, b"no such library\n")
        raise ImportError
    assert "no such library" in capfd.readouterr().err


def test_what_was_held_back_is_dropped_when_the_block_ends_well(capfd):
    with tensorflow_start.held_back_stderr():
        os.write(2, b"a notice\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"
