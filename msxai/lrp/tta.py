"""Test-time augmentation: the mean map over shifted and mirrored copies of a scan.

Relevance sits where the poolings of a network happen to fall on a scan. A mean over shifts by a few
voxels depends on that less: each copy is explained, its map is moved back, and the maps are
averaged. No training is needed, and the work grows with the number of copies. For Grad-CAM the same
is called augmented Grad-CAM (Morbidelli et al. 2020, doi:10.1109/ICASSP40776.2020.9054416). Every
other copy is mirrored from left to right, as the scans in training are
(`msxai.model.training.augment`).
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import qmc

from msxai.base.errors import ParameterError
from msxai.base.parameters import whole_number
from msxai.data import images
from msxai.lrp.explanation import AUDIT, Explanation

__all__ = ["MOST_COPIES", "REACH", "Move", "mean_over_copies", "moved", "moved_back", "moves"]

REACH = 4  # voxels along each axis: more than a pooling of 3 spans
MOST_COPIES = 2 * (2 * REACH + 1) ** 3  # shifts along three axes, mirrored or not
_SUMS = AUDIT[3:]  # the columns of the audit that are numbers


class Move(NamedTuple):
    """How a copy of a scan differs from the scan."""

    step: tuple[int, int, int]  # voxels along x, y, z
    mirrored: bool  # along x, before the shift


def moves(copies: int, reach: int = REACH) -> list[Move]:
    """Moves of the copies of a scan, spread evenly; the first one changes nothing.

    The points are those of the Halton sequence (Halton 1960, doi:10.1007/BF01386213) without
    scrambling, so that more copies add to those of fewer.

    Parameters
    ----------
    copies : int
        Number of moves.
    reach : int
        Largest shift along each axis (voxels).

    Raises
    ------
    ParameterError
        Fewer than one copy, or a negative reach.

    Examples
    --------
    >>> moves(2)
    [Move(step=(0, 0, 0), mirrored=False), Move(step=(-1, -3, -3), mirrored=True)]
    """
    whole_number("copies", copies, 1)
    whole_number("reach", reach, 0)
    points = qmc.Halton(4, scramble=False).random(copies)
    mirrored = points[:, 0] >= 0.5  # every other point
    steps = np.floor(points[:, 1:] * (2 * reach + 1)).astype(int) - reach
    steps[0] = 0
    return [
        Move(step=tuple(step.tolist()), mirrored=bool(flag))
        for step, flag in zip(steps, mirrored, strict=True)
    ]


def moved(values, step, mirrored: bool) -> np.ndarray:
    """Mirror a volume along x where asked, then shift it; what enters from outside is 0.

    Parameters
    ----------
    values : ndarray of shape (X, Y, Z)
    step : sequence of int
        Voxels along x, y, z.
    mirrored : bool
    """
    if mirrored:
        values = values[::-1]
    return images.shifted(values, step)


def moved_back(values, step, mirrored: bool) -> np.ndarray:
    """The inverse of `moved`; what had been shifted out is 0."""
    backwards = [-count for count in step]
    values = images.shifted(values, backwards)
    if mirrored:
        values = values[::-1]
    return values


def mean_over_copies(
    explain: Callable[[np.ndarray], dict[str, Explanation]], scans, copies: int
) -> dict[str, Explanation]:
    """Explain each copy of the scans; the mean of relevance, logits and audit.

    The account of each copy balances, so that the account of the mean balances too.

    Parameters
    ----------
    explain : callable
        Scans to explanations by name; called once for each copy.
    scans : ndarray of shape (N, X, Y, Z, C)
    copies : int
        See `moves`.

    Returns
    -------
    dict
        Name to the mean `Explanation`.

    Raises
    ------
    ParameterError
        See `moves`; or more copies than `MOST_COPIES`.
    """
    if copies > MOST_COPIES:
        raise ParameterError(
            "parameter copies",
            f"more than {MOST_COPIES}",
            f"at most {MOST_COPIES}, the number of copies that differ",
            "Give a smaller number.",
        )
    means = {}
    for move in moves(copies):
        explanations = explain(_move_all(moved, scans, move))
        for name, explanation in explanations.items():
            if name not in means:
                means[name] = _Mean(copies)
            means[name].add(explanation, move)
    return {name: mean.explanation() for name, mean in means.items()}


class _Mean:
    """A mean that grows copy by copy, so that not all copies are held at once."""

    def __init__(self, copies: int):
        self.copies = copies
        self.relevance = 0
        self.logits = 0
        self.sums = 0
        self.tables = {}
        self.last = None

    def add(self, explanation: Explanation, move: Move) -> None:
        """Add one copy's share."""
        relevance = _move_all(moved_back, explanation.relevance, move)
        for name, values in explanation.tables.items():
            self.tables[name] = self.tables.get(name, 0) + values / self.copies
        self.relevance = self.relevance + relevance / self.copies
        self.logits = self.logits + explanation.logits / self.copies
        self.sums = self.sums + explanation.audit[_SUMS] / self.copies
        self.last = explanation

    def explanation(self) -> Explanation:
        """The mean of all copies."""
        audit = self.last.audit.assign(**self.sums)
        return dataclasses.replace(
            self.last,
            relevance=self.relevance,
            logits=self.logits,
            audit=audit,
            tables=self.tables,
        )


def _move_all(move_one: Callable, volumes, move: Move) -> np.ndarray:
    """Apply `moved` or `moved_back` to each channel of arrays of shape (N, X, Y, Z, C)."""
    if not any(move.step) and not move.mirrored:
        return volumes
    result = np.empty_like(volumes)
    for index in np.ndindex(len(volumes), volumes.shape[-1]):
        scan, channel = index
        volume = volumes[scan, ..., channel]
        result[scan, ..., channel] = move_one(volume, move.step, move.mirrored)
    return result
