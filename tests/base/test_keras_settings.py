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
    for content in (None, "{", ""):
        if content is not None:
            (tmp_path / "keras.json").write_text(content)
        keras_settings._check_backend()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "keras.json: found a file that cannot be used (no group of values)"),
        ("null", "keras.json: found a file that cannot be used (no group of values)"),
        ("[" * 200_000, "keras.json: found a file that cannot be used (too many brackets)"),
        ('{"floatx": 5}', "keras.json, floatx: found 5; expected one of float16, float32, float64"),
        ('{"floatx": ["a"]}', "keras.json, floatx: found ['a']; expected one of float16, float32"),
        ('{"image_data_format": "x"}', "image_data_format: found 'x'; expected one of channels_la"),
        ('{"epsilon": "x"}', "keras.json, epsilon: found 'x'; expected a number with a decimal "),
        ('{"epsilon": 1}', "keras.json, epsilon: found 1; expected a number with a decimal point"),
    ],
)
@pytest.mark.parametrize("backend", ["", "tensorflow"])
def test_settings_at_which_keras_fails_are_one_sentence(
    settings, tmp_path, monkeypatch, content, words, backend
):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    (tmp_path / "keras.json").write_text(content)
    with pytest.raises(ParameterError) as caught:
        keras_settings._check_backend()
    assert words in str(caught.value)


def test_a_folder_in_place_of_the_file_is_one_sentence(settings, tmp_path):
    (tmp_path / "keras.json").mkdir()
    with pytest.raises(ParameterError, match=r"keras\.json: found a file that cannot be used"):
        keras_settings._check_backend()


def test_keras_reads_what_passes(settings):
    settings(floatx="float32", epsilon=1e-7, image_data_format="channels_last", other=[])
    keras_settings._check_backend()
