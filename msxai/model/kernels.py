"""Convolution of 3x3x3 voxels with max pooling of 3x3x3, computed only where it counts (numba).

Of the 27 positions that a pooling compares one, the winner, is read by what follows, and only
winners hand anything back. So the map of all positions need not be kept, a backward pass may touch
winners only, and where a scan is 0 the result is the bias.

One volume at a time, with the caller's threads (`threads`). Arrays are C-contiguous, float32 or
float64: a volume of shape (x, y, z, a) with a channels; taps of shape (c, 27, a) with c filters,
from Keras's kernel by `taps`; cells = ((x - 2) // 3, (y - 2) // 3, (z - 2) // 3). A winner is the
position (int32, 0 .. 26, C order: z fastest) of the largest value in its cell; of equal values the
first.

These loops are long, and their sums are written out term by term: numba compiles each function
as a whole, and named numbers stay in registers where an array would go through memory. So the
limits on length and complexity that hold for the package do not hold here.
`tests/model/test_kernels.py` compares each function with slow loops.
"""

import contextlib

import numba
import numpy as np

__all__ = [
    "EDGE",
    "divide",
    "first_winners",
    "gather",
    "kernel_of",
    "scatter",
    "slopes",
    "taps",
    "threads",
    "winners_of",
]

EDGE = 3  # of the kernel and of the pooling (voxels)
REACH = 5  # edge of what one cell sees
LANES = 32  # 27 taps, padded to whole vector registers

_options = {
    "parallel": True,
    "cache": True,
    "fastmath": {"contract", "reassoc", "nsz"},
    "boundscheck": False,
}


@contextlib.contextmanager
def threads(count: int):
    """Run the kernels with `count` threads, at most as many as numba was started with."""
    before = numba.get_num_threads()
    numba.set_num_threads(max(1, min(count, numba.config.NUMBA_NUM_THREADS)))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def taps(kernel) -> np.ndarray:
    """Bring a kernel from Keras's order, (3, 3, 3, a, c), to that of this module, (c, 27, a)."""
    return np.ascontiguousarray(kernel.reshape(-1, *kernel.shape[3:]).transpose(2, 0, 1))


def kernel_of(taps) -> np.ndarray:
    """Inverse of `taps`."""
    c, _, a = taps.shape
    return np.ascontiguousarray(taps.transpose(1, 2, 0).reshape(EDGE, EDGE, EDGE, a, c))


@numba.njit(**_options)
def _spans(volume):
    """First and one past the last cell along z that sees a voxel other than 0.

    Of shape (*cells along x and y, 2).
    """
    nx, ny, nz, a = volume.shape
    rows = volume.reshape((nx, ny, nz * a))
    offsets, length = np.arange(nz * a).astype(np.int32), np.int32(nz * a)
    edges = np.empty((nx, ny, 2), np.int32)
    for x in numba.prange(nx):
        for y in range(ny):
            # Rows are read to their end, and offsets are 32 bits wide: vector instructions do that.
            row, low, high = rows[x, y], length, np.int32(-1)
            for position in range(nz * a):
                offset = offsets[position]
                if row[position] != 0:
                    low, high = (
                        offset if offset < low else low,
                        offset if offset > high else high,
                    )
            edges[x, y, 0], edges[x, y, 1] = (low // a, high // a + 1) if low < length else (nz, 0)
    spans = np.empty(((nx - 2) // EDGE, (ny - 2) // EDGE, 2), np.int64)
    for i in range(spans.shape[0]):
        for j in range(spans.shape[1]):
            low, high = np.int32(nz), np.int32(0)
            for u in range(REACH):
                for v in range(REACH):
                    low = min(low, edges[i * EDGE + u, j * EDGE + v, 0])
                    high = max(high, edges[i * EDGE + u, j * EDGE + v, 1])
            spans[i, j, 0] = max((low - REACH) // EDGE + 1, 0)
            spans[i, j, 1] = min((high - 1) // EDGE + 1, (nz - 2) // EDGE)
    return spans


@numba.njit(**_options)
def first_winners(volume, taps, bias):
    """Convolve a volume of one channel and pool it, in one pass.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z, 1)
    taps : ndarray of shape (c, 27, 1)
    bias : ndarray of shape (c,)

    Returns
    -------
    values, winners : ndarray of shape (*cells, c)
    """
    c, spans = bias.size, _spans(volume)
    nx, ny = spans.shape[:2]
    nz = (volume.shape[2] - 2) // EDGE
    values = np.empty((nx, ny, nz, c), volume.dtype)
    winners = np.zeros((nx, ny, nz, c), np.int32)
    scan = volume.reshape(volume.shape[:3])
    weights = np.ascontiguousarray(taps[:, :, 0].T)
    p, q, r = weights[:9], weights[9:18], weights[18:]
    for row in numba.prange(nx * ny):
        i, j = row // ny, row % ny
        values[i, j, :] = bias
        for k in range(spans[i, j, 0], spans[i, j, 1]):
            best, winner = values[i, j, k], winners[i, j, k]
            best[:] = -np.inf
            for column in range(EDGE**2):  # of three positions along z, which share what they see
                x, y, z = i * EDGE + column // EDGE, j * EDGE + column % EDGE, k * EDGE
                seen = scan[x : x + EDGE, y : y + EDGE, z : z + REACH]
                a0, a1, a2, a3, a4 = (
                    seen[0, 0, 0],
                    seen[0, 0, 1],
                    seen[0, 0, 2],
                    seen[0, 0, 3],
                    seen[0, 0, 4],
                )
                b0, b1, b2, b3, b4 = (
                    seen[0, 1, 0],
                    seen[0, 1, 1],
                    seen[0, 1, 2],
                    seen[0, 1, 3],
                    seen[0, 1, 4],
                )
                c0, c1, c2, c3, c4 = (
                    seen[0, 2, 0],
                    seen[0, 2, 1],
                    seen[0, 2, 2],
                    seen[0, 2, 3],
                    seen[0, 2, 4],
                )
                d0, d1, d2, d3, d4 = (
                    seen[1, 0, 0],
                    seen[1, 0, 1],
                    seen[1, 0, 2],
                    seen[1, 0, 3],
                    seen[1, 0, 4],
                )
                e0, e1, e2, e3, e4 = (
                    seen[1, 1, 0],
                    seen[1, 1, 1],
                    seen[1, 1, 2],
                    seen[1, 1, 3],
                    seen[1, 1, 4],
                )
                f0, f1, f2, f3, f4 = (
                    seen[1, 2, 0],
                    seen[1, 2, 1],
                    seen[1, 2, 2],
                    seen[1, 2, 3],
                    seen[1, 2, 4],
                )
                g0, g1, g2, g3, g4 = (
                    seen[2, 0, 0],
                    seen[2, 0, 1],
                    seen[2, 0, 2],
                    seen[2, 0, 3],
                    seen[2, 0, 4],
                )
                h0, h1, h2, h3, h4 = (
                    seen[2, 1, 0],
                    seen[2, 1, 1],
                    seen[2, 1, 2],
                    seen[2, 1, 3],
                    seen[2, 1, 4],
                )
                i0, i1, i2, i3, i4 = (
                    seen[2, 2, 0],
                    seen[2, 2, 1],
                    seen[2, 2, 2],
                    seen[2, 2, 3],
                    seen[2, 2, 4],
                )
                for f in range(c):
                    v0 = (
                        (
                            a0 * p[0, f]
                            + a1 * p[1, f]
                            + a2 * p[2, f]
                            + b0 * p[3, f]
                            + b1 * p[4, f]
                            + b2 * p[5, f]
                            + c0 * p[6, f]
                            + c1 * p[7, f]
                            + c2 * p[8, f]
                        )
                        + (
                            d0 * q[0, f]
                            + d1 * q[1, f]
                            + d2 * q[2, f]
                            + e0 * q[3, f]
                            + e1 * q[4, f]
                            + e2 * q[5, f]
                            + f0 * q[6, f]
                            + f1 * q[7, f]
                            + f2 * q[8, f]
                        )
                        + (
                            g0 * r[0, f]
                            + g1 * r[1, f]
                            + g2 * r[2, f]
                            + h0 * r[3, f]
                            + h1 * r[4, f]
                            + h2 * r[5, f]
                            + i0 * r[6, f]
                            + i1 * r[7, f]
                            + i2 * r[8, f]
                        )
                    )
                    v1 = (
                        (
                            a1 * p[0, f]
                            + a2 * p[1, f]
                            + a3 * p[2, f]
                            + b1 * p[3, f]
                            + b2 * p[4, f]
                            + b3 * p[5, f]
                            + c1 * p[6, f]
                            + c2 * p[7, f]
                            + c3 * p[8, f]
                        )
                        + (
                            d1 * q[0, f]
                            + d2 * q[1, f]
                            + d3 * q[2, f]
                            + e1 * q[3, f]
                            + e2 * q[4, f]
                            + e3 * q[5, f]
                            + f1 * q[6, f]
                            + f2 * q[7, f]
                            + f3 * q[8, f]
                        )
                        + (
                            g1 * r[0, f]
                            + g2 * r[1, f]
                            + g3 * r[2, f]
                            + h1 * r[3, f]
                            + h2 * r[4, f]
                            + h3 * r[5, f]
                            + i1 * r[6, f]
                            + i2 * r[7, f]
                            + i3 * r[8, f]
                        )
                    )
                    v2 = (
                        (
                            a2 * p[0, f]
                            + a3 * p[1, f]
                            + a4 * p[2, f]
                            + b2 * p[3, f]
                            + b3 * p[4, f]
                            + b4 * p[5, f]
                            + c2 * p[6, f]
                            + c3 * p[7, f]
                            + c4 * p[8, f]
                        )
                        + (
                            d2 * q[0, f]
                            + d3 * q[1, f]
                            + d4 * q[2, f]
                            + e2 * q[3, f]
                            + e3 * q[4, f]
                            + e4 * q[5, f]
                            + f2 * q[6, f]
                            + f3 * q[7, f]
                            + f4 * q[8, f]
                        )
                        + (
                            g2 * r[0, f]
                            + g3 * r[1, f]
                            + g4 * r[2, f]
                            + h2 * r[3, f]
                            + h3 * r[4, f]
                            + h4 * r[5, f]
                            + i2 * r[6, f]
                            + i3 * r[7, f]
                            + i4 * r[8, f]
                        )
                    )
                    top, position = best[f], winner[f]
                    better = v0 > top
                    top, position = v0 if better else top, EDGE * column if better else position
                    better = v1 > top
                    top, position = v1 if better else top, EDGE * column + 1 if better else position
                    better = v2 > top
                    top, position = v2 if better else top, EDGE * column + 2 if better else position
                    best[f], winner[f] = top, position
            for f in range(c):
                best[f] += bias[f]
    return values, winners


@numba.njit(**_options)
def winners_of(maps):
    """Pool a volume of shape (x, y, z, c): values and winners of shape (x // 3, ..., c)."""
    nx, ny, nz, c = (
        maps.shape[0] // EDGE,
        maps.shape[1] // EDGE,
        maps.shape[2] // EDGE,
        maps.shape[3],
    )
    values = np.empty((nx, ny, nz, c), maps.dtype)
    winners = np.zeros((nx, ny, nz, c), np.int32)
    for row in numba.prange(nx * ny):
        i, j = row // ny, row % ny
        for k in range(nz):
            best, winner = values[i, j, k], winners[i, j, k]
            best[:] = maps[i * EDGE, j * EDGE, k * EDGE]
            for position in range(1, EDGE**3):
                candidate = maps[
                    i * EDGE + position // EDGE**2,
                    j * EDGE + position // EDGE % EDGE,
                    k * EDGE + position % EDGE,
                ]
                for f in range(c):
                    better = candidate[f] > best[f]
                    best[f] = candidate[f] if better else best[f]
                    winner[f] = position if better else winner[f]
    return values, winners


@numba.njit(cache=True)
def _windows(scan, x, y, z, out):
    """Copy what the kernel sees at each position of a cell to `out` of shape (27, LANES)."""
    for position in range(EDGE**3):
        u, v, w = x + position // EDGE**2, y + position // EDGE % EDGE, z + position % EDGE
        for tap in range(EDGE**2):
            for step in range(EDGE):
                out[position, tap * EDGE + step] = scan[u + tap // EDGE, v + tap % EDGE, w + step]


@numba.njit(cache=True)
def _lines(taps):
    """Taps as the nine lines of five voxels that three neighbouring positions see: (3, c, 48)."""
    out = np.zeros((EDGE, taps.shape[0], 48), taps.dtype)
    for w in range(EDGE):
        for f in range(taps.shape[0]):
            for tap in range(EDGE**3):
                out[w, f, tap // EDGE * REACH + w + tap % EDGE] = taps[f, tap, 0]
    return out


@numba.njit(cache=True)
def _padded(taps):
    out = np.zeros((taps.shape[0], LANES), taps.dtype)
    out[:, : taps.shape[1]] = taps[:, :, 0]
    return out


@numba.njit(**_options)
def gather(volume, taps, winners):
    """Convolution at the winners only, without bias.

    Parameters
    ----------
    volume : ndarray of shape (x, y, z, a)
    taps : ndarray of shape (c, 27, a)
    winners : ndarray of shape (*cells, c)

    Returns
    -------
    ndarray of shape (*cells, c)
    """
    nx, ny, _, c = winners.shape
    a, spans, padded = volume.shape[3], _spans(volume), _padded(taps)
    out = np.zeros(winners.shape, volume.dtype)
    for row in numba.prange(nx * ny):
        i, j = row // ny, row % ny
        windows = np.zeros((EDGE**3, LANES), volume.dtype)
        for k in range(spans[i, j, 0], spans[i, j, 1]):
            if a == 1:
                _windows(volume[..., 0], i * EDGE, j * EDGE, k * EDGE, windows)
                for f in range(c):
                    position, total = winners[i, j, k, f], out[i, j, k, f]
                    for tap in range(LANES):
                        total += windows[position, tap] * padded[f, tap]
                    out[i, j, k, f] = total
                continue
            for f in range(c):
                position, total = winners[i, j, k, f], out[i, j, k, f]
                x, y, z = (
                    i * EDGE + position // EDGE**2,
                    j * EDGE + position // EDGE % EDGE,
                    k * EDGE + position % EDGE,
                )
                for tap in range(EDGE**3):
                    u, v, w = x + tap // EDGE**2, y + tap // EDGE % EDGE, z + tap % EDGE
                    for g in range(a):
                        total += volume[u, v, w, g] * taps[f, tap, g]
                out[i, j, k, f] = total
    return out


@numba.njit(**_options)
def scatter(shares, taps, winners, factor):
    """Transposed convolution from the winners only, times `factor`.

    A cell sees five voxels and the next but one begins six further on, so every second slab of
    cells writes to voxels of its own.

    Parameters
    ----------
    shares : ndarray of shape (*cells, c)
    taps : ndarray of shape (c, 27, a)
    winners : ndarray of shape (*cells, c)
    factor : ndarray of shape (x, y, z, a)
        Cells that see nothing but 0 in it are passed over.

    Returns
    -------
    ndarray of shape (x, y, z, a)
    """
    nx, ny, _, c = winners.shape
    a, spans, lines = factor.shape[3], _spans(factor), _lines(taps)
    out = np.zeros(factor.shape, factor.dtype)
    for odd in range(2):
        for half in numba.prange((nx + 1 - odd) // 2):
            i = 2 * half + odd
            columns, patch = (
                np.zeros((EDGE**2, 48), factor.dtype),
                np.zeros((REACH, REACH**2), factor.dtype),
            )
            for j in range(ny):
                for k in range(spans[i, j, 0], spans[i, j, 1]):
                    if a == 1:
                        columns[:], patch[:] = 0, 0
                        for f in range(c):
                            share, column, w = (
                                shares[i, j, k, f],
                                winners[i, j, k, f] // EDGE,
                                winners[i, j, k, f] % EDGE,
                            )
                            for lane in range(48):
                                columns[column, lane] += share * lines[w, f, lane]
                        for column in range(EDGE**2):
                            for u in range(EDGE):
                                for lane in range(EDGE * REACH):
                                    patch[column // EDGE + u, column % EDGE * REACH + lane] += (
                                        columns[column, u * EDGE * REACH + lane]
                                    )
                        for u in range(REACH):
                            for position in range(REACH**2):
                                out[
                                    i * EDGE + u,
                                    j * EDGE + position // REACH,
                                    k * EDGE + position % REACH,
                                    0,
                                ] += patch[u, position]
                        continue
                    for f in range(c):
                        share, position = shares[i, j, k, f], winners[i, j, k, f]
                        if share == 0:
                            continue
                        x, y, z = (
                            i * EDGE + position // EDGE**2,
                            j * EDGE + position // EDGE % EDGE,
                            k * EDGE + position % EDGE,
                        )
                        for tap in range(EDGE**3):
                            u, v, w = x + tap // EDGE**2, y + tap // EDGE % EDGE, z + tap % EDGE
                            for g in range(a):
                                out[u, v, w, g] += share * taps[f, tap, g]
    slab = out[0].size
    products, factors = out.reshape((len(out), slab)), factor.reshape((len(out), slab))
    for x in numba.prange(len(out)):
        for voxel in range(slab):  # a product of slices takes four times as long
            products[x, voxel] *= factors[x, voxel]
    return out


@numba.njit(**_options)
def divide(relevance, totals, stabiliser, factor):
    """`msxai.lrp.rules.divide` of one volume, in one pass.

    Parameters
    ----------
    relevance, totals : ndarray of shape (*cells, c)
    stabiliser, factor : float

    Returns
    -------
    shares : ndarray of shape (*cells, c)
    sums, kept : ndarray of shape (c,), float64
    """
    shares = np.empty(totals.shape, totals.dtype)
    slabs = np.zeros((2, totals.shape[0], totals.shape[3]))
    small, times = totals.dtype.type(stabiliser), totals.dtype.type(factor)
    for i in numba.prange(totals.shape[0]):
        for j in range(totals.shape[1]):
            for k in range(totals.shape[2]):
                for f in range(totals.shape[3]):
                    total = totals[i, j, k, f]
                    share = (
                        times * relevance[i, j, k, f] / (total + (small if total >= 0 else -small))
                    )
                    shares[i, j, k, f] = share
                    slabs[0, i, f] += share
                    slabs[1, i, f] += share if total >= 0 else -share
    sums = slabs.sum(axis=1)
    return shares, sums[0], stabiliser * sums[1]


@numba.njit(**_options)
def slopes(volume, shares, winners):
    """Gradient of sum(shares * convolution at the winners) by the taps, of shape (c, 27, a).

    Each slab of cells has a sum of its own, and the sums are added in order: the same bytes for
    any number of threads.
    """
    nx, ny, _, c = winners.shape
    a, spans = volume.shape[3], _spans(volume)
    slabs = np.zeros((nx, c, LANES if a == 1 else EDGE**3, a), volume.dtype)
    for i in numba.prange(nx):
        windows = np.zeros((EDGE**3, LANES), volume.dtype)
        for j in range(ny):
            for k in range(spans[i, j, 0], spans[i, j, 1]):
                if a == 1:
                    _windows(volume[..., 0], i * EDGE, j * EDGE, k * EDGE, windows)
                    first = slabs[i].reshape((c, LANES))
                    for f in range(c):
                        share, position = shares[i, j, k, f], winners[i, j, k, f]
                        for tap in range(LANES):
                            first[f, tap] += share * windows[position, tap]
                    continue
                for f in range(c):
                    share, position = shares[i, j, k, f], winners[i, j, k, f]
                    if share == 0:
                        continue
                    x, y, z = (
                        i * EDGE + position // EDGE**2,
                        j * EDGE + position // EDGE % EDGE,
                        k * EDGE + position % EDGE,
                    )
                    for tap in range(EDGE**3):
                        u, v, w = x + tap // EDGE**2, y + tap // EDGE % EDGE, z + tap % EDGE
                        for g in range(a):
                            slabs[i, f, tap, g] += share * volume[u, v, w, g]
    return slabs.sum(axis=0)[:, : EDGE**3]
