"""A keras.json that makes other networks, or names a backend that is missing: one sentence."""

import json
import os
import subprocess
import sys

import keras
import pytest

from msxai.base import keras_settings
from msxai.base.errors import ParameterError
from msxai.model import network


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """Write a keras.json, and have Keras look for it."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)

    def write(**content):
        (tmp_path / "keras.json").write_text(json.dumps(content))

    return write


def test_a_backend_that_is_not_installed_is_named_before_keras_is_imported(settings, tmp_path):
    settings(backend="openvino")
    code = "import msxai; import keras"
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert f"{tmp_path / 'keras.json'}: found backend 'openvino', which is not installed" in last
    assert "KERAS_BACKEND=tensorflow" in last


@pytest.mark.parametrize(
    ("name", "value"), [("image_data_format", "channels_first"), ("floatx", "float16")]
)
def test_a_format_that_makes_another_network_is_refused(name, value):
    before = getattr(keras.config, name)()
    getattr(keras.config, f"set_{name}")(value)
    try:
        with pytest.raises(ParameterError, match=f"keras.json: found {name} '{value}'"):
            network.build(1, (71, 71, 71))
    finally:
        getattr(keras.config, f"set_{name}")(before)


def test_a_missing_or_damaged_file_is_as_none_at_all(settings, tmp_path):
    for content in (None, "{", "[]"):
        if content is not None:
            (tmp_path / "keras.json").write_text(content)
        keras_settings._check_backend()
