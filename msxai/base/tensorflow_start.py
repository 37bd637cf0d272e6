"""How TensorFlow starts, whoever imports it first: with oneDNN, and without notices.

oneDNN: by default TensorFlow uses it only on a CPU with AVX512-VNNI or newer. Without oneDNN the
pooling hands the gradient of a maximum to every voxel that ties for it: 27 times too much where a
scan is 0. TensorFlow reads the setting once, during its import.

Notices: TensorFlow 2.21 writes notices on CUDA drivers and oneDNN to file descriptor 2 during its
import, before its own log level applies. They would hide a notebook's own output.
"""

import contextlib
import importlib.abc
import importlib.machinery
import os
import sys
import tempfile

__all__ = ["held_back_stderr", "install"]

_STDERR = 2  # file descriptor


@contextlib.contextmanager
def held_back_stderr():
    """Hold back what native code writes to standard error; show it if the block fails.

    Python's own `sys.stderr` is not affected in a notebook: the kernel sends it another way.
    """
    original = os.dup(_STDERR)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), _STDERR)
        try:
            yield
        except BaseException:
            os.dup2(original, _STDERR)
            held_back.seek(0)
            os.write(_STDERR, held_back.read())
            raise
        finally:
            os.dup2(original, _STDERR)
            os.close(original)


def install() -> None:
    """Make every later ``import tensorflow`` in this process silent, and have it use oneDNN."""
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not any(isinstance(finder, _TensorFlowFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TensorFlowFinder())


class _TensorFlowFinder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow where Python would find it, and has it loaded by `_QuietLoader`."""

    def find_spec(self, fullname, path=None, target=None):
        """Return the import specification of TensorFlow; None for any other module."""
        if fullname != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            spec.loader = _QuietLoader(spec.loader.name, spec.loader.path)
        return spec


class _QuietLoader(importlib.machinery.SourceFileLoader):
    """Loads a module while standard error is held back."""

    def exec_module(self, module):
        """Run the module's code."""
        with held_back_stderr():
            super().exec_module(module)
