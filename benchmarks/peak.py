"""Memory of processes, for the benchmarks (Linux)."""

import contextlib
from pathlib import Path

import psutil


def peak():
    """Peak resident bytes of this process since the last call."""
    status = Path("/proc/self/status").read_text()
    peak_line = (
        int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
        * 1024
    )
    Path("/proc/self/clear_refs").write_text("5")
    return peak_line


def of_tree(pid: int | None = None) -> int:
    """Bytes of a process (default: this one) and all that it has started, shared pages once."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
                total += process.memory_full_info().pss
    return total
