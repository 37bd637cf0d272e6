"""Runs a numbered notebook by papermill and keeps it executed."""

import logging
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from msxai.base import errors, json_files
from msxai.base.errors import ParameterError
from msxai.base.progress import PROGRESS

__all__ = ["NotebookFailed", "Refused", "run"]

_FOLDER = "notebooks"  # links to the notebooks of the checkout; a wheel holds copies of them

# A kernel warns that it talks to its client on this machine without encryption, and reports the
# interrupt by which its client stops it after the last cell as an error. A cell's error is no
# message of the kernel: papermill raises it.
_QUIET = ["--IPKernelApp.log_level=CRITICAL"]


class Refused(Exception):
    """A notebook refused its input; the message says why, as the package's errors do."""


class NotebookFailed(Exception):
    """A notebook stopped at something that is no fault of its input.

    Parameters
    ----------
    reason : str
        Type and message of the error.
    path : pathlib.Path
        The executed notebook with the failing cell.
    """

    def __init__(self, reason: str, path: Path):
        self.path = path
        super().__init__(f"{reason}. The notebook with the failing cell: {path}")


def run(name: str, parameters: dict, out) -> Path:
    """Run a notebook of the package.

    Lines of progress that it prints go to standard error.

    Parameters
    ----------
    name : str
        Of the notebook, without its ending.
    parameters : dict
        For its cell of parameters.
    out : path
        Folder in which the executed notebook is kept.

    Returns
    -------
    pathlib.Path
        The executed notebook.

    Raises
    ------
    Refused
        The notebook refused its input; nothing is kept.
    NotebookFailed
        Any other error.
    ParameterError
        In the folder lies a notebook of this name that no command has run.
    """
    out = Path(out)
    _check_executed(out / f"{name}.ipynb")
    # A grammar that Jupyter's programs build and do not need: see tools/quick_start.
    sys.modules.setdefault("rfc3987_syntax", None)
    import papermill

    _pass_progress_on()
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / f"{name}.ipynb"
        source = resources.files("msxai.command_line") / _FOLDER / executed.name
        try:
            papermill.execute_notebook(
                str(source),
                str(executed),
                parameters,
                kernel_name="python3",
                progress_bar=False,
                log_output=True,
                extra_arguments=_QUIET,
            )
        except papermill.PapermillExecutionError as error:
            raise _of_notebook(error, executed) from error
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(executed, out / executed.name))


def _check_executed(path: Path) -> None:
    """Refuse to replace a notebook that papermill has not executed, such as that of a checkout."""
    if not path.exists():
        return
    metadata = json_files.read_or_empty(path).get("metadata")
    is_executed = isinstance(metadata, dict) and "papermill" in metadata
    if not is_executed:
        raise ParameterError(
            f"--out: {path}",
            "a notebook that was not executed by this command",
            "a new folder, or one of an earlier run",
            "Choose another folder for the results.",
        )


def _of_notebook(error, executed: Path) -> Exception:
    """Return the error that a notebook stopped with."""
    if error.ename in errors.__all__:
        return Refused(error.evalue)
    failed = Path(tempfile.mkdtemp(prefix="msxai-")) / executed.name
    shutil.copy(executed, failed)
    return NotebookFailed(f"{error.ename}: {error.evalue}", failed)


def _pass_progress_on() -> None:
    """Print the lines of progress of a notebook to standard error, and nothing else of it."""
    logger = logging.getLogger("papermill")
    logger.handlers = [_Progress()]
    logger.propagate = False
    logger.setLevel(logging.INFO)


class _Progress(logging.Handler):
    """Prints lines that begin as lines of progress do."""

    def emit(self, record):
        """Print the lines of progress of one output."""
        for line in record.getMessage().splitlines():
            if line.startswith(PROGRESS):
                print(line, file=sys.stderr, flush=True)
