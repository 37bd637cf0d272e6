"""Records what made a result, and checks that a file is still the one in a record.

Files are compared by their SHA-256. Every file is written whole or not at all.
"""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from msxai import ROOT, __version__
from msxai.base.errors import MissingStepError, StaleInputError

__all__ = [
    "check_input",
    "check_output",
    "record",
    "relative",
    "replacing",
    "require",
    "sha256",
    "write_json",
]

_RECORDED_PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "scipy",
    "nibabel",
    "nilearn",
    "h5py",
    "pandas",
    "scikit-learn",
    "innvestigate",
)


def sha256(path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path):
    """Yield a temporary path next to `path`; write there, and it becomes `path` at the end.

    Works for a file and for a folder: the block makes either at the temporary path. After an error
    nothing is left, and what was at `path` before is untouched.

    Parameters
    ----------
    path : path
        Its folder is made if it does not exist.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The draft keeps the file's ending, because writers choose their format by it.
    draft = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield draft
        if draft.is_dir() and path.is_dir():
            shutil.rmtree(path)
        os.replace(draft, path)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft)
        else:
            draft.unlink(missing_ok=True)


def write_json(path, content: dict) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    with replacing(path) as draft:
        draft.write_text(text + "\n", encoding="utf-8")


def relative(path) -> str:
    """Return `path` relative to the checkout; outside the checkout, its name alone.

    Results name no path of the machine that made them.
    """
    path = Path(path).resolve()
    if path.is_relative_to(ROOT):
        return str(path.relative_to(ROOT))
    return path.name


def record(parameters: dict, inputs=(), outputs=(), **entries) -> dict:
    """Return the record of what made a result.

    Parameters
    ----------
    parameters : dict
        The notebook's parameters, JSON types.
    inputs, outputs : iterable of path
        Files read and written; each is recorded with its SHA-256.
    **entries
        Further entries (seed, scores, ...), JSON types.

    Returns
    -------
    dict
        parameters, inputs, outputs, versions (of packages), commit, machine, written (time, UTC),
        and `entries`.
    """
    versions = {"msxai": __version__, "python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        versions[package] = _version(package)
    now = datetime.datetime.now(datetime.UTC)
    content = {
        "parameters": parameters,
        "inputs": _hashes(inputs),
        "outputs": _hashes(outputs),
        "versions": versions,
        "commit": _commit(),
        "machine": platform.machine(),
        "written": now.isoformat(timespec="seconds"),
    }
    return content | entries


def require(record_path, notebook: str, command: str, **expected) -> dict:
    """Read the record of an earlier step and refuse it if its parameters do not fit.

    Parameters
    ----------
    record_path : path
        The record (JSON) that the earlier step writes last.
    notebook : str
        The notebook that makes it, for the error.
    command : str
        The command that makes it, for the error.
    **expected
        Parameters that the record must have, with these values.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    MissingStepError
        The record does not exist.
    StaleInputError
        A parameter differs, or the record is older than this check and lacks it.
    """
    where = relative(record_path)
    if not Path(record_path).exists():
        step = f"the result of {notebook}"
        raise MissingStepError(where, "nothing", step, f"Run it first: {command}")
    content = json.loads(Path(record_path).read_text(encoding="utf-8"))
    for name, value in expected.items():
        recorded = content["parameters"].get(name)
        if recorded != value:
            raise StaleInputError(
                where,
                f"a result made with {name}={recorded!r}",
                f"{name}={value!r} as in this run",
                f"Set {name} to {recorded!r} here, or make it anew: {command}",
            )
    return content


def check_input(step_record: dict, path, command: str) -> None:
    """Refuse `path` if it is not the file that the step of `step_record` has read.

    Parameters
    ----------
    step_record : dict
        From `require`.
    path : path
    command : str
        The command that runs the step, for the error.

    Raises
    ------
    StaleInputError
        The hashes differ, or the step has not read the file at all.
    """
    expected = "the file that the earlier step has read"
    _check_hash(step_record["inputs"], path, expected, command)


def check_output(step_record: dict, path, command: str) -> None:
    """Refuse `path` if it is missing or not as the step of `step_record` has written it.

    Parameters
    ----------
    step_record, path, command
        As in `check_input`.

    Raises
    ------
    MissingStepError
        The file does not exist.
    StaleInputError
        The hashes differ.
    """
    if not Path(path).exists():
        expected = "a file that an earlier step wrote"
        raise MissingStepError(
            relative(path), "nothing", expected, f"Run that step again: {command}"
        )
    expected = "the file as the earlier step wrote it"
    _check_hash(step_record["outputs"], path, expected, command)


def _check_hash(hashes: dict, path, expected: str, command: str) -> None:
    """Refuse `path` if its hash is not the recorded one."""
    name = relative(path)
    if hashes.get(name) != sha256(path):
        mend = f"Make the earlier step anew: {command}"
        raise StaleInputError(name, "another content", expected, mend)


def _hashes(paths) -> dict:
    """Return the SHA-256 of each file by its relative path."""
    return {relative(path): sha256(path) for path in paths}


def _version(package: str) -> str | None:
    """Return the installed version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit, with "+changes" if tracked files differ from it; None outside git."""
    options = ["--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
    command = ["git", "-C", str(ROOT), "describe", *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.strip() or None
