"""Where "is this file what it claims to be?" is decided: hashes, all-or-nothing writes, provenance records."""

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

VERSIONED = (
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
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path):
    """Yield a temporary path beside `path`; on success it takes `path`'s name at once, on any error nothing is left.

    Works for a file and for a folder (the block makes either at the temporary path).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(
        f".{os.getpid()}-{path.name}"
    )  # the same ending: writers choose their format by it
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
    """Write `content` as indented JSON, all or nothing."""
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def relative(path) -> str:
    """`path` as written from the checkout where it lies inside, else its name alone: no machine's paths in results."""
    path = Path(path).resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def record(parameters: dict, inputs=(), outputs=(), **more) -> dict:
    """What made a result: parameters, hashes of the files read and written, versions, commit.

    Parameters
    ----------
    parameters : dict
        The notebook's parameters, JSON types.
    inputs, outputs : iterable of path
        Files read and written; each enters with its SHA-256.
    **more
        Further entries (seed, scores, ...), JSON types.
    """
    versions = {}
    for name in VERSIONED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "parameters": parameters,
        "inputs": {relative(path): sha256(path) for path in inputs},
        "outputs": {relative(path): sha256(path) for path in outputs},
        "versions": {"msxai": __version__, "python": platform.python_version(), **versions},
        "commit": _commit(),
        "machine": platform.machine(),
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **more,
    }


def _commit() -> str | None:
    """The checkout's commit, with "+changes" where tracked files differ from it; None outside git."""
    run = subprocess.run(
        [
            "git",
            "-C",
            ROOT,
            "describe",
            "--always",
            "--abbrev=40",
            "--dirty=+changes",
            "--exclude=*",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout.strip() or None


def require(record, notebook: str, command: str, **expected) -> dict:
    """Read an earlier step's provenance record and refuse it where it does not fit.

    Parameters
    ----------
    record : path
        The record (JSON) that the earlier step writes last.
    notebook : str
        The notebook that makes it, named in the error.
    command : str
        The command that makes it, named in the error.
    **expected
        Entries of the record's ``parameters`` that must have these values.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    MissingStepError
        The record is not there.
    StaleInputError
        A parameter differs, or the record is older than this check and lacks it.
    """
    if not Path(record).exists():
        raise MissingStepError(
            relative(record), "nothing", f"the result of {notebook}", f"Run it first: {command}"
        )
    content = json.loads(Path(record).read_text(encoding="utf-8"))
    for name, value in expected.items():
        found = content["parameters"].get(name)
        if found != value:
            raise StaleInputError(
                relative(record),
                f"a result made with {name}={found!r}",
                f"{name}={value!r} as in this run",
                f"Set {name} to {found!r} here, or make it anew: {command}",
            )
    return content


def unchanged(record: dict, path, command: str) -> None:
    """Refuse `path` where it is not the file that the step of `record` has read.

    Raises
    ------
    StaleInputError
        The hashes differ, or that step has not read it at all.
    """
    _same(record["inputs"], path, "the file that the earlier step has read", command)


def untouched(record: dict, path, command: str) -> None:
    """Refuse `path` where it is missing or no longer as the step of `record` has written it.

    Raises
    ------
    MissingStepError, StaleInputError
        The file is not there; or it has changed since.
    """
    if not Path(path).exists():
        raise MissingStepError(
            relative(path),
            "nothing",
            "a file that an earlier step wrote",
            f"Run that step again: {command}",
        )
    _same(record["outputs"], path, "the file as the earlier step wrote it", command)


def _same(known: dict, path, expected: str, command: str) -> None:
    if known.get(relative(path)) != sha256(path):
        raise StaleInputError(
            relative(path), "another content", expected, f"Make the earlier step anew: {command}"
        )
