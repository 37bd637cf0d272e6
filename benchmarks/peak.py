"""Peak resident memory of this process, for the benchmarks' workers (Linux)."""

from pathlib import Path


def peak():
    """Bytes since the last call."""
    status = Path("/proc/self/status").read_text()
    peak_line = (
        int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
        * 1024
    )
    Path("/proc/self/clear_refs").write_text("5")
    return peak_line
