"""Folders that Jupyter, IPython, matplotlib and numba write below the home folder.

Where one of them cannot be written (a full quota, a container without a home, a read-only disk), a
temporary folder takes its place, so that a command goes on. The Makefile does the same for `make`.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msxai.base.errors import WriteError

__all__ = ["writable_folders"]

_FOLDERS = {
    "IPYTHONDIR": ".ipython",
    "JUPYTER_CONFIG_DIR": ".jupyter",
    "JUPYTER_DATA_DIR": ".local/share/jupyter",
    "JUPYTER_RUNTIME_DIR": ".local/share/jupyter/runtime",
    "MPLCONFIGDIR": ".config/matplotlib",
    "XDG_CACHE_HOME": ".cache",  # of numba, where its compiled kernels cannot lie beside the code
}  # the variable that moves a folder, and where it is else, below the home folder


@contextmanager
def writable_folders() -> Iterator[None]:
    """Set a temporary folder in place of each one that cannot be written, for the block.

    Folders that the user has set stay. A sentence on standard error says what was done.

    Raises
    ------
    WriteError
        There is no folder for temporary files either.
    """
    home = Path(os.path.expanduser("~"))
    unset = [variable for variable in _FOLDERS if variable not in os.environ]
    closed = [variable for variable in unset if not _can_write(home / _FOLDERS[variable])]
    if not closed:
        yield
        return
    print(
        f"msxai: the home folder {home} cannot be written. A temporary folder takes its place.",
        file=sys.stderr,
    )
    with _temporary_folder() as folder:
        try:
            for variable in closed:
                os.environ[variable] = str(Path(folder, _FOLDERS[variable]))
            yield
        finally:
            for variable in closed:
                del os.environ[variable]


def _can_write(folder: Path) -> bool:
    """Return whether a folder can be written, or made where it does not exist.

    It is tried: permissions say nothing of a full quota, or of root on a read-only disk.
    """
    nearest = folder
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return True
    except OSError:
        return False


def _temporary_folder():
    try:
        return tempfile.TemporaryDirectory(prefix="msxai-home-", ignore_cleanup_errors=True)
    except OSError as error:
        raise WriteError(
            "temporary files",
            f"no folder that can be written ({error.strerror})",
            "one that can, because the home folder cannot be written either",
            "Set the environment variable TMPDIR to such a folder.",
        ) from error
