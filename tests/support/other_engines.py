"""What a test needs besides the package itself, and does not find in each environment."""

import importlib.util

import pytest


def need_innvestigate():
    """Skip the test where iNNvestigate is not installed, as after set-up for a GPU."""
    if importlib.util.find_spec("innvestigate") is None:
        pytest.skip("iNNvestigate is not installed (make setup GPU=0)")
