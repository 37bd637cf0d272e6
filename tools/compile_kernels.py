"""Compiles the kernels of msxai.model once, so that no notebook or test waits for it.

Usage: python tools/compile_kernels.py

Numba keeps the result in msxai/model/__pycache__, and compiles again where a kernel has changed.
Set-up calls this script. One process compiles everything: two that compile the same kernel at
the same time may overwrite each other's result.
"""

import time

import numpy as np

from msxai.model import augmentation, kernels


def compile_kernels(dtype) -> None:
    """Call each kernel once with arrays of this type."""
    volume = np.zeros((8, 8, 8, 1), dtype)
    taps = kernels.taps(np.zeros((3, 3, 3, 1, 2), dtype))
    values, winners = kernels.first_winners(volume, taps, np.zeros(2, dtype))
    kernels.winners_of(np.zeros((6, 6, 6, 2), dtype))
    totals = kernels.gather(volume, taps, winners)
    shares, _, _ = kernels.divide(values, totals, 1e-3, 1)
    kernels.scatter(shares, taps, winners, volume)
    kernels.slopes(volume, shares, winners)


def main() -> None:
    """Compile for both precisions and print how long it took."""
    start = time.monotonic()
    for dtype in (np.float32, np.float64):
        compile_kernels(dtype)
    scan = np.ones((4, 4, 4), np.float32)
    augmentation.augment(scan, np.random.default_rng(0), "strong")
    print(f"set-up: kernels compiled in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
