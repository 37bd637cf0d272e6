"""Scripts of benchmarks/ and tools/ as modules."""

import importlib.util

from msxai import ROOT


def script(name, folder="benchmarks"):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
