"""The compiled kernels against slow float64 loops that share no code with them."""

import itertools
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msxai.model import kernels


def maps_of(volume, kernel):
    """Valid convolution (x, y, z, a) by (3, 3, 3, a, c) without bias, one tap at a time,
    float64.
    """
    x, y, z = (length - 2 for length in volume.shape[:3])
    out = np.zeros((x, y, z, kernel.shape[-1]))
    for i, j, k in np.ndindex(3, 3, 3):
        out += volume[i : i + x, j : j + y, k : k + z].astype(float) @ kernel[i, j, k].astype(float)
    return out


def pooled(maps):
    """Largest value of each 3^3 cell and its place, one cell at a time."""
    cells = [length // 3 for length in maps.shape[:3]]
    values, places = np.zeros((*cells, maps.shape[3])), np.zeros((*cells, maps.shape[3]), int)
    for i, j, k in np.ndindex(*cells):
        block = maps[3 * i : 3 * i + 3, 3 * j : 3 * j + 3, 3 * k : 3 * k + 3].reshape(27, -1)
        values[i, j, k], places[i, j, k] = (
            block.max(axis=0),
            block.argmax(axis=0),
        )  # numpy names the first of equal ones
    return values, places


def unpooled(shares, places, shape):
    """Shares at their winners in a map of the given shape."""
    out = np.zeros((*shape, shares.shape[3]))
    for i, j, k, f in np.ndindex(*shares.shape):
        u, v, w = np.unravel_index(places[i, j, k, f], (3, 3, 3))
        out[3 * i + u, 3 * j + v, 3 * k + w, f] = shares[i, j, k, f]
    return out


def case(seed, channels, filters, shape=(17, 12, 15), inside=((4, 11), (3, 9), (5, 10))):
    """A volume that is 0 outside a box, a kernel, a bias and shares."""
    rng = np.random.default_rng(seed)
    volume = np.zeros((*shape, channels))
    box = tuple(slice(*edges) for edges in inside)
    volume[box] = rng.normal(size=volume[box].shape)
    cells = tuple((length - 2) // 3 for length in shape)
    return (
        volume,
        rng.normal(size=(3, 3, 3, channels, filters)),
        rng.normal(size=filters),
        rng.normal(size=(*cells, filters)),
    )


CASES = [(0, 1, 5), (1, 1, 16), (2, 3, 4), (3, 16, 2)]


TWO_THREADS = pytest.mark.skipif(
    numba.config.NUMBA_NUM_THREADS < 2,
    reason="this process has one thread; the last test of this file has a process with two",
)


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=TWO_THREADS)])
@pytest.mark.parametrize(("seed", "channels", "filters"), CASES)
def test_forwards_and_backwards_equal_the_loops(seed, channels, filters, threads):
    volume, kernel, bias, shares = case(seed, channels, filters)
    maps = maps_of(volume, kernel)
    values, places = pooled(maps + bias)
    taps = kernels.taps(kernel)
    with kernels.threads(threads):
        maxima, winners = kernels.winners_of(maps + bias)
        np.testing.assert_array_equal(maxima, values)
        np.testing.assert_array_equal(winners, places)
        if channels == 1:
            maxima, winners = kernels.first_winners(volume, taps, bias)
            np.testing.assert_allclose(maxima, values, atol=1e-12)
            np.testing.assert_array_equal(winners, places)
        np.testing.assert_allclose(kernels.gather(volume, taps, winners) + bias, values, atol=1e-12)
        dense = unpooled(shares, places, maps.shape[:3])
        by_volume, by_kernel = np.zeros(volume.shape), np.zeros(kernel.shape)
        for i, j, k in itertools.product(range(3), repeat=3):
            x, y, z = maps.shape[:3]
            by_volume[i : i + x, j : j + y, k : k + z] += dense @ kernel[i, j, k].T
            seen = volume[i : i + x, j : j + y, k : k + z]
            by_kernel[i, j, k] = np.einsum("xyza,xyzc->ac", seen, dense)
        np.testing.assert_allclose(
            kernels.scatter(shares, taps, winners, np.ones(volume.shape)), by_volume, atol=1e-12
        )
        np.testing.assert_allclose(
            kernels.scatter(shares, taps, winners, volume), volume * by_volume, atol=1e-12
        )
        np.testing.assert_allclose(
            kernels.kernel_of(kernels.slopes(volume, shares, winners)), by_kernel, atol=1e-12
        )


@settings(max_examples=40)
@given(st.tuples(*[st.integers(5, 14)] * 3), st.data())
def test_any_shape_and_any_box_of_zeros(shape, data):
    edges = [
        sorted(data.draw(st.tuples(st.integers(0, length), st.integers(0, length))))
        for length in shape
    ]
    volume, kernel, bias, shares = case(0, 1, 3, shape, edges)
    values, places = pooled(maps_of(volume, kernel) + bias)
    maxima, winners = kernels.first_winners(volume, kernels.taps(kernel), bias)
    np.testing.assert_allclose(maxima, values, atol=1e-12)
    sees = (
        pooled(maps_of(volume != 0, np.ones((3, 3, 3, 1, 3))))[0] > 0
    )  # elsewhere rounding of the loop's bias decides nothing
    np.testing.assert_array_equal(winners[sees], places[sees])
    assert not winners[~sees].any()
    scattered = kernels.scatter(shares, kernels.taps(kernel), winners, volume)
    dense = unpooled(shares, winners, tuple(length - 2 for length in shape))
    slope = kernels.kernel_of(kernels.slopes(volume, shares, winners))
    assert scattered.sum() == pytest.approx(
        (slope * kernel).sum(), abs=1e-9
    )  # both are sum(shares * convolution at the winners)
    assert scattered.sum() == pytest.approx((dense * maps_of(volume, kernel)).sum(), abs=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 1.0])
def test_the_cells_between_the_first_and_the_last_that_see_a_voxel(channels, share):
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(11, 9, 14, channels)) * (rng.random((11, 9, 14, channels)) < share)
    spans = kernels._spans(volume.astype("float32"))
    for i, j in np.ndindex(3, 2):
        seen = [k for k in range(4) if volume[3 * i :, 3 * j :, 3 * k :][:5, :5, :5].any()]
        if seen:
            assert spans[i, j].tolist() == [seen[0], seen[-1] + 1]
        else:
            assert spans[i, j, 0] >= spans[i, j, 1]


def test_of_equal_ones_the_first_wins():
    maps = np.zeros((6, 3, 3, 1), "float32")
    maps[1, 1, 0], maps[1, 0, 2], maps[0, 2, 2] = 1, 1, 0
    maps[5, 2, 2], maps[4, 2, 1] = 2, 2
    _, winners = kernels.winners_of(maps)
    assert winners[:, 0, 0, 0].tolist() == [9 + 2, 9 + 6 + 1]
    _, winners = kernels.first_winners(
        np.ones((5, 5, 5, 1), "float32"), np.ones((2, 27, 1), "float32"), np.zeros(2, "float32")
    )
    assert not winners.any()


@TWO_THREADS
def test_the_number_of_threads_changes_no_byte_and_is_given_back():
    before, results = numba.get_num_threads(), []
    volume, kernel, bias, shares = (array.astype("float32") for array in case(1, 1, 16))
    for count in (1, 2, 99):
        with kernels.threads(count):
            values, winners = kernels.first_winners(volume, kernels.taps(kernel), bias)
            results.append(
                (
                    values,
                    winners,
                    kernels.slopes(volume, shares, winners),
                    kernels.scatter(shares, kernels.taps(kernel), winners, volume),
                )
            )
        assert numba.get_num_threads() == before
    for result, next_result in itertools.pairwise(results):
        assert all(
            first.tobytes() == second.tobytes()
            for first, second in zip(result, next_result, strict=True)
        )


def test_two_threads_compute_the_same():
    """The tests above once more, in a process that has two threads."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", __file__]
    result = subprocess.run(
        [*command, "-k", "loops or number_of_threads"],
        env={**os.environ, "NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:]
    assert "skipped" not in result.stdout
    assert "9 passed" in result.stdout
