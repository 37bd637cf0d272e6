"""Lines of progress: a notebook prints them, and the command `msxai` passes them on."""

import sys

__all__ = ["PROGRESS", "say"]

PROGRESS = "msxai: "
"""How a line of progress begins."""


def say(text: str) -> None:
    """Print a line of progress to standard error.

    Parameters
    ----------
    text : str
        One line.
    """
    print(f"{PROGRESS}{text}", file=sys.stderr, flush=True)
