"""How the threads of OpenMP wait for each other: they look for work for a moment, then they sleep.

By default a thread that has no work looks for some 300000 times. On a computer that has other work
to do, it so takes the processor away from the thread that it waits for: forward passes of the
demo's network in two threads took much longer than in one. A thread that sleeps at once is no
better: on an idle virtual machine of two cores, an LRP map in two threads took several times as
long as in one. Of 0, 1, 10, 100, 300 and 1000 looks, 1000 was the smallest number without that
loss. Why the loss is so large is not known. OpenMP reads the settings once, when the first compiled
kernel (`msxai.model.kernels`) starts its threads.
"""

import os

__all__ = ["install"]

_POLICY = "OMP_WAIT_POLICY"  # of every OpenMP
_LOOKS = "GOMP_SPINCOUNT"  # of GNU's, which decides where both are set


def install() -> None:
    """Have OpenMP's threads sleep after a short wait, unless the user has chosen otherwise."""
    if _POLICY in os.environ or _LOOKS in os.environ:
        return
    os.environ[_POLICY] = "PASSIVE"
    os.environ[_LOOKS] = "1000"
