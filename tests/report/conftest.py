"""What the tests of figures share: less garbage to look through."""

import gc

import pytest


@pytest.fixture(scope="session", autouse=True)
def _imports_are_no_garbage():
    """Leave out what was imported: nilearn collects garbage at each image that it draws."""
    gc.freeze()
    yield
    gc.unfreeze()
