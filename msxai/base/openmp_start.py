"""How the threads of OpenMP wait for each other: asleep.

By default a thread that has no work looks again and again whether there is some. On a computer
that has other work to do, it so takes the processor away from the thread that it waits for:
forward passes of the demo's network in two threads took much longer than in one. OpenMP reads
the setting once, when the first compiled kernel (`msxai.model.kernels`) starts its threads.
"""

import os

__all__ = ["install"]


def install() -> None:
    """Have OpenMP's threads sleep while they wait, unless the user has chosen otherwise."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
