"""Records what made a result, and checks that a file is still the one in a record.

Files are compared by their SHA-256. Every file is written whole or not at all, also where the
machine goes down in the middle.
"""

import datetime
import errno
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

from msxai import ROOT, __version__
from msxai.base import json_files
from msxai.base.errors import MissingStepError, StaleInputError, WriteError

__all__ = [
    "alone",
    "check_input",
    "check_output",
    "entry",
    "read",
    "record",
    "relative",
    "remove_drafts",
    "replacing",
    "require",
    "sha256",
    "write_json",
]

_RECORDED_PACKAGES = (
    "tensorflow",
    "jax",
    "torch",
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
    nothing is left, and what was at `path` before is untouched. The content is on the disk before
    the name is, so that a power cut leaves the old content or the new one. Drafts that a killed
    process has left at this path are removed, and an old folder that it has moved aside comes back.

    Parameters
    ----------
    path : path
        Its folder is made if it does not exist.

    Raises
    ------
    WriteError
        The disk is full, or the folder cannot be written.
    """
    path = Path(path)
    draft = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_drafts_of(path)
        try:
            yield draft
            _store(draft)
            _rename(draft, path)
        finally:
            _remove(draft)
    except (OSError, RuntimeError) as error:
        refusal = _refusal(error, path)
        if refusal is None:
            raise
        raise refusal from error


@contextmanager
def alone(path):
    """Let one process at a time into the block for this `path`; others wait at its start.

    The operating system holds the lock, in the file ``.NAME.lock`` next to `path`, so that it ends
    with the process. On a file system without locks nobody waits. The same holds for a folder that
    cannot be written: what is finished there can be used, and nobody can make anything.

    Parameters
    ----------
    path : path
        Its folder is made if it does not exist.

    Raises
    ------
    WriteError
        The disk is full, or the folder does not exist and cannot be made.
    """
    path = Path(path)
    lock = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("a")
    except OSError as error:
        if error.errno not in _NOT_WRITABLE or not path.parent.is_dir():
            refusal = _refusal(error, path)
            if refusal is None:
                raise
            raise refusal from error
    if lock is None:
        yield
        return
    with lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_drafts(folder) -> int:
    """Remove what killed processes have begun to write anywhere in `folder`; return how many.

    A folder that a killed process has moved aside gets its name back where nothing has this name.
    Drafts of a process that still runs stay, and those of other computers.
    """
    n_drafts = 0
    # Sorted, so that a draft goes before what lies in it.
    for draft in sorted(Path(folder).rglob(".*")):
        if draft.exists() and _is_left(draft):
            n_drafts += _tidy(draft)
    return n_drafts


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
        parameters, inputs, outputs, versions (of packages), backend (of Keras; None where Keras is
        not imported), commit, machine, written (time, UTC), and `entries`.
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
        "backend": _backend(),
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
        A parameter differs, the record is older than this check and lacks it, or it is damaged.
    """
    where = relative(record_path)
    if not Path(record_path).exists():
        step = f"the result of {notebook}"
        raise MissingStepError(where, "nothing", step, f"Run it first: {command}")
    content = read(record_path)
    parameters = entry(content, "parameters", dict, record_path)
    for group in ("inputs", "outputs"):
        entry(content, group, dict, record_path)
    for name, value in expected.items():
        recorded = parameters.get(name)
        if recorded != value:
            raise StaleInputError(
                where,
                f"a result made with {name}={recorded!r}",
                f"{name}={value!r} as in this run",
                f"Set {name} to {recorded!r} here, or make it anew: {command}",
            )
    return content


def read(path) -> dict:
    """Read a record, or another group of values that a step has written as JSON.

    Parameters
    ----------
    path : path

    Raises
    ------
    StaleInputError
        The file is damaged.
    """
    try:
        return json_files.read(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def entry(content: dict, name: str, kinds, path):
    """Return one value of a record.

    Parameters
    ----------
    content : dict
        From `read` or `require`.
    name : str
        Of the value.
    kinds : type or union of types
        What it may be.
    path : path
        The record's file, for the error.

    Raises
    ------
    StaleInputError
        The record has no such value, or one of another type.
    """
    value = content.get(name)
    if not isinstance(value, kinds):
        raise _damaged(path, f"no {name}")
    return value


def _damaged(path, why: str) -> StaleInputError:
    return StaleInputError(
        relative(path),
        f"a damaged file ({why})",
        "the file as its step wrote it",
        "Delete it, then give the command of this step again.",
    )


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


_DRAFT = re.compile(r"\.(?P<computer>[0-9a-f]{8})-(?P<old>old-)?(?P<process>\d+)-(?P<name>.+)")
_COMPUTER = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # names are told to nobody


def _beside(path: Path, kind: str = "") -> Path:
    """Return where this process keeps a draft of `path`, or what it moves aside (kind "old-").

    A name's end stays, because writers choose their format by it.
    """
    return path.with_name(f".{_COMPUTER}-{kind}{os.getpid()}-{path.name}")


def _is_left(path: Path) -> bool:
    """Return whether a path is the draft of a process that has ended."""
    match = _DRAFT.fullmatch(path.name)
    if match is None or match["computer"] != _COMPUTER:
        return False  # nobody can tell whether a process of another computer still runs
    process = int(match["process"])
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False  # a process of another user, or no process number
    return False


def _remove_drafts_of(path: Path) -> None:
    """Remove the drafts of `path` that killed processes have left; put back what they moved."""
    for draft in path.parent.iterdir():
        match = _DRAFT.fullmatch(draft.name)
        if match is not None and match["name"] == path.name and _is_left(draft):
            _tidy(draft)


def _tidy(draft: Path) -> int:
    """Remove what a killed process has left, or put it back; return how many were removed.

    Between two renames a folder has no name. The kill then came before its new content had one.
    """
    match = _DRAFT.fullmatch(draft.name)
    path = draft.with_name(match["name"])
    if match["old"] and not os.path.lexists(path):
        os.replace(draft, path)
        return 0
    _remove(draft)
    return 1


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _store(path: Path) -> None:
    """Have the disk hold a file, or a folder with all that is in it."""
    if path.is_dir():
        for inner in path.rglob("*"):
            if not inner.is_symlink():
                _fsync(inner)
    _fsync(path)


def _fsync(path: Path) -> None:
    """Have the disk hold the content of a file, or the names in a folder.

    Not all file systems can do this, above all for folders; they then write when they like.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _rename(draft: Path, path: Path) -> None:
    """Give a draft its name, on the disk as well."""
    if path.exists() and draft.is_dir() != path.is_dir():
        kinds = {True: "a folder", False: "a file"}
        raise WriteError(
            relative(path),
            kinds[path.is_dir()],
            kinds[draft.is_dir()],
            "Rename or delete it, then give the same command again.",
        )
    if draft.is_dir() and path.is_dir():
        # A folder with files in it cannot be replaced. After a kill in between, `_tidy` puts the
        # old one back.
        old = _beside(path, kind="old-")
        os.replace(path, old)
        try:
            os.replace(draft, path)
        except BaseException:
            os.replace(old, path)
            raise
        _remove(old)
    else:
        os.replace(draft, path)
    _fsync(path.parent)


_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM = 10_000_000  # bytes; a full disk may have some left
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM)


def _refusal(error: Exception, path: Path) -> WriteError | None:
    """Return the error of a full disk or of a folder that cannot be written; None for another."""
    number = _number(error)
    folder = path.parent
    if number in _NO_SPACE:
        folder = _full_folder(error, path)
        return WriteError(
            relative(path),
            "a full disk, or a full quota",
            "room for this file",
            f"Free space on the disk of {folder} (df -h {folder}), then give the same command "
            "again.",
        )
    if number == errno.ENAMETOOLONG:
        return WriteError(
            relative(path),
            "a name that is too long for its disk",
            "a shorter one",
            "Choose a shorter name, then give the command again.",
        )
    filename = getattr(error, "filename", None)
    own = filename is None or Path(filename).parent == path.parent
    if number == errno.EROFS or (number in _NOT_WRITABLE and own):
        return WriteError(
            relative(path),
            f"a folder that cannot be written ({os.strerror(number)})",
            "one that can",
            f"Mend its permissions (ls -ld {folder}), then give the same command again.",
        )
    return None


def _full_folder(error: Exception, path: Path) -> Path:
    """Return the folder on the disk that is full: what fills it may be a temporary file.

    Where neither disk is full, it is a quota or the number of files, and the result is meant.
    """
    filename = getattr(error, "filename", None)
    if filename is not None:
        return Path(filename).parent
    for folder in (path.parent, Path(tempfile.gettempdir())):
        if shutil.disk_usage(folder).free < _NO_ROOM:
            return folder
    return path.parent


def _number(error: Exception) -> int | None:
    """Return the system's number of an error; HDF5 gives it in the text alone."""
    number = getattr(error, "errno", None)
    if number is not None:
        return number
    match = re.search(r"errno = (\d+)", str(error))
    return int(match[1]) if match else None


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


def _backend() -> str | None:
    """Return which backend of Keras computed; None where nothing has imported Keras."""
    keras = sys.modules.get("keras")
    return keras.backend.backend() if keras else None


def _commit() -> str | None:
    """Return the commit, with "+changes" if code differs from it; None outside git.

    Tables and records of benchmarks/ are not code: a proof that has just written its table, or runs
    after another proof, is one of this commit. Those that it reads are listed by their hashes.
    """
    commit = _git("describe", "--always", "--abbrev=40", "--exclude=*")
    if not commit:
        return None
    results = [":(top,exclude)benchmarks/*.tsv", ":(top,exclude)benchmarks/*.json"]
    changed = _git("diff", "--name-only", "HEAD", "--", ":/", *results)
    return f"{commit}+changes" if changed else commit


def _git(*command) -> str:
    """Return what git says of the folder of the package; empty where there is no repository."""
    line = ["git", "-C", str(ROOT), *command]
    run = subprocess.run(line, capture_output=True, text=True, check=False)
    return run.stdout.strip()
