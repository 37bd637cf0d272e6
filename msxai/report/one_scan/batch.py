"""A run over scans: a folder for each scan, a table of all, and a page that links them.

A scan is written whole or not at all. A scan that cannot be used does not stop the run, and neither
does a fault of the program. A disk that is full does. Nothing is replaced that no run has written.
"""

import json
import os
import shutil
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed

from msxai.base import json_files, page_policy, provenance, tsv
from msxai.base.errors import MsxaiError, ParameterError, WriteError
from msxai.base.progress import say
from msxai.data.single_scans import RUN_FILES, ScanFiles, folder_names
from msxai.model import network
from msxai.quality import one_scan
from msxai.quality.one_scan import ROW, Explainer, Findings, Settings
from msxai.quality.two_visits import CHANGES
from msxai.report.one_scan import page, warnings_in_words

__all__ = [
    "DONE",
    "ERROR",
    "ERRORS",
    "FAILED",
    "TABLE",
    "UNCHANGED",
    "explain_all",
]

DONE, UNCHANGED, FAILED, ERROR = "done", "unchanged", "failed", "error"
"""Status of a scan in the table: "failed" is a scan that cannot be used, "error" a fault of the
program.
"""

TABLE, INDEX, ERRORS = RUN_FILES[:3]
"""Files of the table, the page of all scans, and the tracebacks of faults of the program."""

_NO_ROOM = "no room"  # status of a scan that could not be written; ends the run
_RECORD = "provenance.json"
_OF_FILE_MANAGERS = (".DS_Store", "._", ".directory", ".Trash", "Thumbs.db", "desktop.ini")
_COLUMNS = [
    *("scan", "status", "reason", "logit", "probability", "relevance", "conserved", "warnings"),
    *("route", "lesions", "lesion_volume_mm3", "lesions_used", "lesions_not_used"),
    *("logit_lesions_filled", "logit_sham_filled"),
    *("relevance_inside", "relevance_near", "relevance_elsewhere"),
    *("logit_before", "logit_change", "limit_one_scanner", "limit_two_scanners"),
    *("map_share_one_scanner", "map_share_two_scanners"),
    *("lesions_new", "lesions_grown", "lesions_unchanged", "lesions_shrunk", "lesions_gone"),
    "seconds",
    *("synthetic", "scan_sha256", "file"),
]

_COUNTS = (
    *("warnings", "lesions", "lesions_used", "lesions_not_used"),
    *(f"lesions_{change}" for change in CHANGES),
)
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
        counted and measured in the file of the mask. With an earlier scan also logit_before,
        logit_change, limit_one_scanner and limit_two_scanners (of the magnitude of this change,
        for an unchanged person), map_share_one_scanner and map_share_two_scanners (shares of the
        brain's voxels whose change is beyond the limit; 0.1 % are in an unchanged person), and how
        many lesions are new, grown, unchanged, shrunk and gone (lesions_new, ...). index.html links
        the pages.

    Raises
    ------
    MsxaiError
        Nothing can be explained: wrong settings, no scan that can be used, or files in the way that
        no run has written. Nothing is written then.
    WriteError
        The disk is full, or the folder cannot be written. Scans that are done stay.
    RuntimeError
        No scan is explained, because of a fault of the program.
    """
    if jobs < 1:
        raise ParameterError("parameter jobs", f"{jobs}", "at least 1", "Give a larger number.")
    out = Path(out)
    existed = out.exists()
    names = folder_names([files.image for files in scans])
    tasks = []
    for files, name in zip(scans, names, strict=True):
        tasks.append(_Task(files, name, out / name, settings, resume, quiet=jobs > 1))
    _check_own(out, tasks)
    try:
        table = _explain_tasks(tasks, settings, jobs)
        _write_errors(out, table)
    except Exception:
        if not existed and not _has_folder(out):
            shutil.rmtree(out, ignore_errors=True)
        raise
    table = table[_COLUMNS].astype(_TYPES)
    with provenance.replacing(out / TABLE) as draft:
        table.to_csv(draft, index=False)
    _write_index(out, table)
    return table


def _explain_tasks(tasks: list[_Task], settings: Settings, jobs: int) -> pd.DataFrame:
    """Explain scans; the table with a column for tracebacks."""
    rows = []
    for number, row in enumerate(_rows(tasks, settings, jobs), start=1):
        if row["status"] == _NO_ROOM:
            raise WriteError(*row["error"])
        say(f"scan {number} of {len(tasks)}, {row['scan']}: {row['status']}")
        if row["status"] == ERROR:
            print(row["traceback"])
        rows.append(row)
    states = {row["status"] for row in rows}
    if states == {FAILED}:
        raise MsxaiError(*rows[0]["error"])
    if not states & {DONE, UNCHANGED}:
        first = next(row for row in rows if row["status"] == ERROR)
        raise RuntimeError(f"no scan was explained. {first['scan']}: {first['reason']}")
    return pd.DataFrame(rows, columns=[*_COLUMNS, "traceback"])


def _check_own(out: Path, tasks: list[_Task]) -> None:
    """Refuse to replace files that no run over scans has written."""
    if not _is_table(out / TABLE):
        for name in (TABLE, INDEX, ERRORS):
            if (out / name).exists():
                raise _not_own(out / name)
    for task in tasks:
        if not task.folder.exists():
            continue
        foreign = _foreign(task.folder)
        if foreign is not None:
            raise _not_own(foreign)


def _is_table(path: Path) -> bool:
    """Return whether a file is the table of a run."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline().startswith(",".join(_COLUMNS[:3]))
    except (OSError, UnicodeDecodeError):
        return False


def _foreign(folder: Path) -> Path | None:
    """Return what in the place of a scan's results no run has written; None where there is none.

    Files that file managers leave do not count.
    """
    if not folder.is_dir():
        return folder
    record = json_files.read_or_empty(folder / _RECORD)
    written = record.get("outputs_of_scan")
    if not isinstance(written, dict):
        written = {}
    for path in sorted(folder.rglob("*")):
        is_folder = path.is_dir() and not path.is_symlink()
        name = path.relative_to(folder).as_posix()
        is_written = name in (_RECORD, *written)
        if is_folder or is_written or path.name.startswith(_OF_FILE_MANAGERS):
            continue
        return path
    return None


def _not_own(path: Path) -> ParameterError:
    return ParameterError(
        f"--out: {path}",
        "a file that msxai explain has not written",
        "a new folder, or one of an earlier run",
        "Choose another folder for the results, or move the file.",
    )


def _has_folder(out: Path) -> bool:
    """Return whether a scan's folder was written."""
    return out.is_dir() and any(path.is_dir() for path in out.iterdir())


def _write_errors(out: Path, table: pd.DataFrame) -> None:
    """Write the tracebacks of faults of the program; remove those of an earlier run."""
    faults = table[table["status"] == ERROR]
    if faults.empty:
        (out / ERRORS).unlink(missing_ok=True)
        return
    texts = []
    for row in faults.itertuples():
        texts.append(f"{row.scan}\n\n{row.traceback}")
    with provenance.replacing(out / ERRORS) as draft:
        draft.write_text("\n\n".join(texts), encoding="utf-8")


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
                return row | _names(task) | {"status": UNCHANGED}
        row = _explained(task, explainer, parameters, started)
    except MsxaiError as error:
        row = {"error": (error.where, error.found, error.expected, error.mend)}
        status = _NO_ROOM if isinstance(error, WriteError) else FAILED
        return row | _left_out(task, status, str(error))
    except Exception as error:
        # A fault of the program at one scan must not end a night's run.
        reason = f"{type(error).__name__} ({error}), a fault of the program. See {ERRORS}."
        return _left_out(task, ERROR, reason) | {"traceback": traceback.format_exc()}
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
        if findings.earlier is not None:
            one_scan.write_changes(findings, draft, explainer)
        page.write(draft, findings, explainer)
        _close(findings)
        one_scan.remove_names(draft)
        row = _row(findings, explainer) | {"seconds": round(time.monotonic() - started, 1)}
        record = provenance.record(parameters, row=row, outputs_of_scan=_hashes(draft))
        provenance.write_json(draft / _RECORD, record)
    return row | _names(task)


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
    if findings.earlier is not None:
        findings.earlier.prepared.close()


def _names(task: _Task) -> dict:
    """Return the columns that may name a person; the record of a scan does not have them."""
    return {"scan": task.name, "file": Path(task.files.image).name}


def _row(findings: Findings, explainer: Explainer) -> dict:
    """Return the row of a scan in the table, without names."""
    messages = warnings_in_words.messages(findings, explainer)
    warned = [message for message in messages if message.level == warnings_in_words.WARNING]
    row = {
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
    }
    return row | _lesions(findings) | _changes(findings)


def _changes(findings: Findings) -> dict:
    """Return the columns about what has changed since an earlier scan."""
    if findings.earlier is None:
        return {}
    comparison = findings.earlier.comparison
    row = {
        "logit_before": comparison.before.logit,
        "logit_change": comparison.logit_change,
    }
    noise = comparison.noise
    if noise is not None:
        kinds = {"one_scanner": noise.one_scanner, "two_scanners": noise.two_scanners}
        for name, limits in kinds.items():
            row[f"limit_{name}"] = limits.logit
            if limits.has_maps:
                share = comparison.share_above(limits.of_map("map_999"))
                row[f"map_share_{name}"] = share
    if comparison.lesions is not None:
        row |= {f"lesions_{change}": comparison.count(change) for change in CHANGES}
    return row


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


def _left_out(task: _Task, status: str, reason: str) -> dict:
    return _names(task) | {"status": status, "reason": reason}


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
    record = json_files.read_or_empty(folder / _RECORD)
    if record.get("parameters") != parameters:
        return None
    if record.get("outputs_of_scan") != _hashes(folder):
        return None
    row = record.get("row")
    return row if isinstance(row, dict) else None


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
        if row["status"] == ERROR:
            row["status"] = FAILED  # the reason says what it was
        rows.append(row)
    text = page.template("one_scan_index.html").render(
        notices=page.notices(bool(table["synthetic"].any())),
        rows=rows,
        failed=int(table["status"].isin([FAILED, ERROR]).sum()),
        failed_word=FAILED,
        policy=page_policy.policy(),
    )
    with provenance.replacing(out / INDEX) as draft:
        draft.write_text(text, encoding="utf-8")
