"""A run over scans: a folder for each scan, a table of all, and a page that links them.

A scan is written whole or not at all. A scan that cannot be used does not stop the run.
"""

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed

from msxai.base import provenance, tsv
from msxai.base.errors import MsxaiError, ParameterError
from msxai.base.progress import say
from msxai.data.single_scans import ScanFiles, folder_names
from msxai.model import network
from msxai.quality import one_scan
from msxai.quality.one_scan import ROW, Explainer, Findings, Settings
from msxai.report.one_scan import page, warnings_in_words

__all__ = [
    "DONE",
    "FAILED",
    "TABLE",
    "UNCHANGED",
    "explain_all",
]

DONE, UNCHANGED, FAILED = "done", "unchanged", "failed"
"""Status of a scan in the table."""

TABLE = "scans.csv"
"""File of the table."""

_RECORD = "provenance.json"
_COLUMNS = [
    *("scan", "status", "reason", "logit", "probability", "relevance", "conserved", "warnings"),
    *("route", "lesions", "lesion_volume_mm3", "lesions_used", "lesions_not_used"),
    *("logit_lesions_filled", "logit_sham_filled"),
    *("relevance_inside", "relevance_near", "relevance_elsewhere", "seconds"),
    *("synthetic", "scan_sha256", "file"),
]

_COUNTS = ("warnings", "lesions", "lesions_used", "lesions_not_used")
_TYPES = dict.fromkeys(_COUNTS, "Int64") | {"synthetic": "boolean"}


@dataclass(frozen=True)
class _Task:
    """One scan of a run."""

    files: ScanFiles
    name: str
    folder: Path
    settings: Settings
    resume: bool
    quiet: bool


def explain_all(scans: list[ScanFiles], out, settings: Settings, jobs: int = 1, resume=False):
    """Explain scans, one after the other or several at a time.

    Parameters
    ----------
    scans : list of ScanFiles
    out : path
        Folder of the run.
    settings : Settings
    jobs : int
        Processes.
    resume : bool
        Skip a scan that is done and whose files, networks and settings have not changed.

    Returns
    -------
    pandas.DataFrame
        One row a scan, also written as scans.csv: scan (folder), status, reason (why it failed),
        logit, probability, relevance (sum of the map), conserved, warnings (count), route, lesions
        (count), lesion_volume_mm3, lesions_used and lesions_not_used (counts; the use of the
        other lesions is not known), logit_lesions_filled, logit_sham_filled, relevance_inside,
        relevance_near, relevance_elsewhere, seconds, synthetic, scan_sha256, file. Lesions are
        counted and measured in the file of the mask. index.html links the pages.

    Raises
    ------
    MsxaiError
        Nothing can be explained: wrong settings, or no scan that can be used. Nothing is written
        then.
    """
    if jobs < 1:
        raise ParameterError("parameter jobs", f"{jobs}", "at least 1", "Give a larger number.")
    out = Path(out)
    existed = out.exists()
    names = folder_names([files.image for files in scans])
    tasks = []
    for files, name in zip(scans, names, strict=True):
        tasks.append(_Task(files, name, out / name, settings, resume, quiet=jobs > 1))
    rows = []
    for number, row in enumerate(_rows(tasks, settings, jobs), start=1):
        say(f"scan {number} of {len(tasks)}, {row['scan']}: {row['status']}")
        rows.append(row)
    table = pd.DataFrame(rows, columns=_COLUMNS).astype(_TYPES)
    if (table["status"] == FAILED).all():
        if not existed:
            shutil.rmtree(out, ignore_errors=True)
        raise MsxaiError(*rows[0]["error"])
    with provenance.replacing(out / TABLE) as draft:
        table.to_csv(draft, index=False)
    _write_index(out, table)
    return table


def _rows(tasks: list[_Task], settings: Settings, jobs: int):
    """Yield the row of each scan, in order."""
    explainer = Explainer(settings)  # refuses wrong settings before any work
    if jobs == 1:
        for task in tasks:
            yield _attempt(task, explainer)
        return
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars of several processes would mix
    # A worker keeps its networks from scan to scan.
    yield from Parallel(jobs, return_as="generator")(delayed(_in_worker)(task) for task in tasks)


_OF_WORKER: dict = {}


def _in_worker(task: _Task) -> dict:
    """Explain a scan in a process of its own."""
    key = repr(task.settings)
    if key not in _OF_WORKER:
        network.configure(0, 1)
        _OF_WORKER[key] = Explainer(task.settings)
    return _attempt(task, _OF_WORKER[key])


def _attempt(task: _Task, explainer: Explainer) -> dict:
    """Explain a scan; a row with the reason where it cannot be used."""
    started = time.monotonic()
    try:
        parameters = _parameters(task, explainer)
        if task.resume:
            row = _earlier(task.folder, parameters)
            if row is not None:
                return row | {"status": UNCHANGED}
        row = _explained(task, explainer, parameters, started)
    except MsxaiError as error:
        row = {"error": (error.where, error.found, error.expected, error.mend)}
        return row | _failed(task, str(error))
    except (ArithmeticError, LookupError, ValueError, MemoryError) as error:
        # One odd scan must not end a night's run.
        actual = f"an unexpected {type(error).__name__} ({error})"
        row = {"error": (task.files.image, actual, "a scan of a head", "Look at the scan.")}
        return row | _failed(task, ": ".join(row["error"][:2]))
    return row


def _explained(task: _Task, explainer: Explainer, parameters: dict, started: float) -> dict:
    """Explain a scan and write its folder; its row of the table."""
    with provenance.replacing(task.folder) as draft:
        draft.mkdir()
        findings = explainer.explain(task.files, draft, _nothing if task.quiet else _step)
        one_scan.write_maps(findings, draft, explainer)
        if findings.lesions is not None:
            tsv.write(findings.lesions.table, draft / "lesions.tsv", float_format="%.6g")
        if findings.self_test is not None:
            tsv.write(findings.self_test.table, draft / "self_test.tsv", float_format="%.6g")
        page.write(draft, findings, explainer)
        _close(findings)
        row = _row(task, findings, explainer) | {"seconds": round(time.monotonic() - started, 1)}
        record = provenance.record(parameters, row=row, outputs_of_scan=_hashes(draft))
        provenance.write_json(draft / _RECORD, record)
    return row


def _step(text: str) -> None:
    """Print a step of a scan."""
    say(f"  {text}")


def _nothing(text: str) -> None:
    """Print nothing: steps of several scans at a time would mix."""


def _close(findings: Findings) -> None:
    """Close the files of a scan, so that its folder can be moved."""
    findings.prepared.close()
    if findings.t1 is not None:
        findings.t1.close()


def _row(task: _Task, findings: Findings, explainer: Explainer) -> dict:
    """Return the row of a scan in the table."""
    messages = warnings_in_words.messages(findings, explainer)
    warned = [message for message in messages if message.level == warnings_in_words.WARNING]
    row = {
        "scan": task.name,
        "status": DONE,
        "reason": "",
        "logit": findings.logit,
        "probability": findings.probability,
        "relevance": float(findings.relevance.sum(dtype=float)),
        "conserved": findings.conserved,
        "warnings": len(warned),
        "route": findings.registration["route"],
        "synthetic": bool(findings.prepared.synthetic),
        "scan_sha256": findings.prepared.table["source_sha256"].iloc[ROW],
        "file": Path(task.files.image).name,
    }
    return row | _lesions(findings)


def _lesions(findings: Findings) -> dict:
    """Return the columns about lesions, as far as they are known."""
    if findings.marked is None:
        return {}
    row = {
        "lesions": findings.marked.count,
        "lesion_volume_mm3": float(findings.marked.volumes.sum()),
        "relevance_inside": findings.amounts["net"]["inside"],
        "relevance_near": findings.amounts["net"]["near"],
        "relevance_elsewhere": findings.amounts["net"]["elsewhere"],
    }
    report = findings.lesions
    if report is not None:
        used = report.table["used"].dropna().astype(bool)
        row |= {
            "lesions_used": int(used.sum()),
            "lesions_not_used": int((~used).sum()),
            "logit_lesions_filled": report.logit_all_filled,
            "logit_sham_filled": findings.logit + report.sham.change_all,
        }
    return row


def _failed(task: _Task, reason: str) -> dict:
    return {
        "scan": task.name,
        "status": FAILED,
        "reason": reason,
        "file": Path(task.files.image).name,
    }


def _parameters(task: _Task, explainer: Explainer) -> dict:
    """Return what decides the result of a scan, as JSON types."""
    explanation = asdict(task.settings.explanation)
    return {
        "files": task.files.hashes(),
        "weights": [card.sha256 for card in explainer.cards],
        "explanation": json.loads(json.dumps(explanation)),
        "seed": task.settings.seed,
        "self_test": task.settings.self_test,
        "msxai": provenance.__version__,
    }


def _earlier(folder: Path, parameters: dict) -> dict | None:
    """Return the row of an earlier run where nothing has changed since."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        same = record["parameters"] == parameters and record["outputs_of_scan"] == _hashes(folder)
        return record["row"] if same else None
    except (OSError, ValueError, KeyError):
        return None


def _hashes(folder: Path) -> dict:
    """Return the SHA-256 of each file of a scan except its record."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != _RECORD]
    return {path.relative_to(folder).as_posix(): provenance.sha256(path) for path in sorted(files)}


def _write_index(out: Path, table: pd.DataFrame) -> None:
    """Write the page that links the pages of all scans."""
    rows = []
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        if row["probability"] is not None:
            row["probability"] = page.probability(row["probability"])
        rows.append(row)
    text = page.template("one_scan_index.html").render(
        notices=page.notices(bool(table["synthetic"].any())),
        rows=rows,
        failed=int((table["status"] == FAILED).sum()),
        failed_word=FAILED,
    )
    with provenance.replacing(out / "index.html") as draft:
        draft.write_text(text, encoding="utf-8")
