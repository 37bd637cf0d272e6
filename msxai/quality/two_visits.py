"""What has changed between two visits of one person: the logit, the map and the lesions.

Both visits lie on the model's grid and are explained in the same way. The change of the map is the
map of now minus the map of the earlier visit. Lesions of both visits that touch each other belong
together (`lesion_changes`). Each group of them has one of the changes in `CHANGES`.

Two scans of one unchanged person differ as well, by noise, scanner and position. How much, is
measured on simulated people (`msxai.quality.visit_noise`).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage, sparse

from msxai.data import images
from msxai.quality import visit_noise
from msxai.quality.visit_noise import Noise
from msxai.regions.lesion_regions import Lesions

__all__ = [
    "CHANGES",
    "GONE",
    "GROWN",
    "LEAST_SHARE",
    "LEAST_VOLUME",
    "NEW",
    "RULE",
    "SHRUNK",
    "UNCHANGED",
    "Comparison",
    "Visit",
    "lesion_changes",
    "similarity",
]

NEW, GROWN, UNCHANGED, SHRUNK, GONE = CHANGES = ("new", "grown", "unchanged", "shrunk", "gone")
"""What has become of a lesion."""

LEAST_SHARE, LEAST_VOLUME = 0.25, 20.0
"""A lesion has grown or shrunk if its volume differs by more than this share of the earlier volume
and by more than this volume (mm3), about three voxels of the model's grid.
"""

RULE = (
    "A lesion is new if it touches no lesion of the earlier scan, and gone if it touches none of "
    "this scan. Lesions touch if a voxel of one is a voxel of the other or a neighbour of it, on "
    "the network's grid. Lesions that touch are one row. They have grown or shrunk if their volume "
    f"differs by more than {LEAST_SHARE:.0%} of the earlier volume and by more than "
    f"{LEAST_VOLUME:.0f} mm³."
)
"""The same in sentences for a reader."""

_TINY = 1e-9  # of a spread: an image of one value


@dataclass(frozen=True)
class Visit:
    """What was computed of one visit.

    Attributes
    ----------
    scan, relevance : ndarray of shape (96, 114, 96)
        The normalised scan and its map, in logits.
    brain : ndarray of bool, same shape
    logit : float
        Of the scan itself.
    lesions : msxai.regions.lesion_regions.Lesions or None
        None without a lesion mask. Volumes of both visits are of the same space.
    """

    scan: np.ndarray
    brain: np.ndarray
    relevance: np.ndarray
    logit: float
    lesions: Lesions | None = None


@dataclass(frozen=True)
class Comparison:
    """Two visits of one person.

    Attributes
    ----------
    before, now : Visit
    noise : msxai.quality.visit_noise.Noise or None
        None where it is not known for these networks.
    lesions : pandas.DataFrame or None
        Of `lesion_changes`; None without a lesion mask of both visits.
    """

    before: Visit
    now: Visit
    noise: Noise | None
    lesions: pd.DataFrame | None

    @classmethod
    def of(cls, before: Visit, now: Visit, noise: Noise | None) -> "Comparison":
        """Compare two visits.

        Parameters
        ----------
        before, now : Visit
        noise : msxai.quality.visit_noise.Noise or None
        """
        lesions = None
        if before.lesions is not None and now.lesions is not None:
            lesions = lesion_changes(before, now, noise)
        return cls(before, now, noise, lesions)

    @property
    def logit_change(self) -> float:
        """Logit of now minus logit of the earlier visit."""
        return self.now.logit - self.before.logit

    @property
    def relevance_change(self) -> np.ndarray:
        """Map of now minus map of the earlier visit (logits), of shape (96, 114, 96)."""
        return self.now.relevance - self.before.relevance

    @property
    def brain(self) -> np.ndarray:
        """What is brain at one of the visits; bool of shape (96, 114, 96)."""
        return self.before.brain | self.now.brain

    @property
    def similarity(self) -> float:
        """How alike the two scans are (`similarity`)."""
        return similarity(self.before, self.now)

    def quantile_of_change(self, share: float) -> float:
        """Return the magnitude of change that all but a share of the brain's voxels stay below.

        Parameters
        ----------
        share : float
            Of the voxels of `brain`.
        """
        return float(np.quantile(np.abs(self.relevance_change[self.brain]), 1 - share))

    def share_above(self, limit: float) -> float:
        """Return the share of the brain's voxels whose change has a larger magnitude.

        Parameters
        ----------
        limit : float
            Logits.
        """
        return float((np.abs(self.relevance_change[self.brain]) > limit).mean())

    def count(self, change: str) -> int:
        """Return how many rows of `lesions` have a change of `CHANGES`."""
        return int((self.lesions["change"] == change).sum())


def similarity(before: Visit, now: Visit) -> float:
    """Return the correlation (Pearson's r) of two scans where both are brain; NaN without contrast.

    Parameters
    ----------
    before, now : Visit
    """
    shared = before.brain & now.brain
    if shared.sum() < 2:
        return np.nan
    first = before.scan[shared]
    second = now.scan[shared]
    if min(first.std(), second.std()) < _TINY:
        return np.nan
    return float(np.corrcoef(first, second)[0, 1])


def lesion_changes(before: Visit, now: Visit, noise: Noise | None = None) -> pd.DataFrame:
    """Return what has become of each lesion.

    Lesions of the two visits that touch are one row: a lesion may have split, or several may have
    merged. They touch if a voxel of one is a voxel of the other, or one of the 26 neighbours of
    such a voxel, on the model's grid. A lesion that is too small for the grid has the voxels that
    are nearest to it.

    Parameters
    ----------
    before, now : Visit
        With lesions.
    noise : msxai.quality.visit_noise.Noise, optional

    Returns
    -------
    pandas.DataFrame
        lesions_now and lesions_before (their numbers, such as "1,4"; "" for none), change (of
        `CHANGES`), volume_before, volume_now (mm3), voxels (of the model's grid that are lesion at
        one of the visits), x, y, z (MNI, mm: their centre of mass), relevance_before, relevance_now
        and relevance_change (sums over these same voxels, logits), limit_one_scanner and
        limit_two_scanners (of the magnitude of relevance_change, logits), noise (of
        `msxai.quality.visit_noise.VERDICTS`); the last three are missing where noise is not known.
        New ones come first, as in `CHANGES`; of a kind, the largest.

    Examples
    --------
    A lesion grows from 4 voxels to 8, and the relevance in it from 0.4 to 1.6:

    >>> from msxai.regions import lesion_regions
    >>> empty = np.zeros(images.SHAPE)
    >>> visits = []
    >>> for length, value in ((4, 0.1), (8, 0.2)):
    ...     mask = empty > 0
    ...     mask[40 : 40 + length, 50, 50] = True
    ...     lesions = lesion_regions.on_model_grid(mask)
    ...     visits.append(Visit(empty, mask, np.where(mask, value, 0), 1.0, lesions))
    >>> table = lesion_changes(*visits)
    >>> table[["change", "voxels", "relevance_before", "relevance_now"]].round(2).values.tolist()
    [['grown', 8, 0.4, 1.6]]
    """
    first = _Footprints(before.lesions)
    second = _Footprints(now.lesions)
    rows = []
    for group in _groups(first, second):
        voxels = np.unique(np.concatenate([first.of(group.before), second.of(group.now)]))
        rows.append(_row(group, voxels, before, now))
    table = pd.DataFrame(rows, columns=_COLUMNS)
    order = table["change"].map(CHANGES.index)
    largest = -table[["volume_before", "volume_now"]].max(axis=1)
    table = table.assign(order=order, largest=largest).sort_values(["order", "largest"])
    table = table.drop(columns=["order", "largest"]).reset_index(drop=True)
    return _with_limits(table, noise)


_COLUMNS = [
    *("lesions_now", "lesions_before", "change", "volume_before", "volume_now", "voxels"),
    *("x", "y", "z", "relevance_before", "relevance_now", "relevance_change"),
]


@dataclass(frozen=True)
class _Group:
    """Lesions that belong together: their numbers at both visits."""

    before: list[int]
    now: list[int]


class _Footprints:
    """Where the lesions of a visit lie on the model's grid; each has a voxel."""

    def __init__(self, lesions: Lesions):
        self.count = lesions.count
        self.labels = lesions.labels.copy()
        self._voxels: dict[int, np.ndarray] = {}
        boxes = ndimage.find_objects(lesions.labels, lesions.count)
        for number, box in enumerate(boxes, start=1):
            if box is None:
                voxels = self._nearest(lesions.voxels[number - 1])
                free = self.labels[tuple(voxels.T)] == 0
                self.labels[tuple(voxels[free].T)] = number
            else:
                voxels = np.argwhere(lesions.labels[box] == number)
                voxels = voxels + [side.start for side in box]
            self._voxels[number] = np.ravel_multi_index(tuple(voxels.T), images.SHAPE)

    def of(self, numbers: list[int]) -> np.ndarray:
        """Return the voxels of lesions as flat indices."""
        empty = np.zeros(0, int)
        return np.concatenate([empty, *(self._voxels[number] for number in numbers)])

    @staticmethod
    def _nearest(positions) -> np.ndarray:
        """Return the voxels that are nearest to positions, inside the grid."""
        voxels = np.rint(positions).astype(int)
        return np.clip(voxels, 0, np.array(images.SHAPE) - 1)


def _groups(before: _Footprints, now: _Footprints) -> list[_Group]:
    """Return the lesions that belong together because they touch, directly or in a chain."""
    pairs = _touching(before.labels, now.labels)
    total = before.count + now.count
    rows = pairs[:, 0] - 1
    columns = before.count + pairs[:, 1] - 1
    graph = sparse.coo_array((np.ones(len(pairs)), (rows, columns)), shape=(total, total))
    count, membership = sparse.csgraph.connected_components(graph, directed=False)
    groups = []
    for group in range(count):
        members = np.flatnonzero(membership == group)
        is_before = members < before.count
        groups.append(
            _Group(
                before=(members[is_before] + 1).tolist(),
                now=(members[~is_before] - before.count + 1).tolist(),
            )
        )
    return groups


def _touching(before, now) -> np.ndarray:
    """Return the pairs of numbers of lesions that touch, shape (pairs, 2)."""
    pairs = [np.zeros((0, 2), int)]
    for step in np.ndindex(3, 3, 3):
        moved = images.shifted(before, np.array(step) - 1)
        both = (moved > 0) & (now > 0)
        pairs.append(np.stack([moved[both], now[both]], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def _row(group: _Group, voxels, before: Visit, now: Visit) -> dict:
    """Return the row of lesions that belong together; `voxels` are flat indices."""
    volume_before = _volume(before.lesions, group.before)
    volume_now = _volume(now.lesions, group.now)
    centre = np.mean(np.unravel_index(voxels, images.SHAPE), axis=1)
    x, y, z = (images.AFFINE[:3, :3] @ centre + images.AFFINE[:3, 3]).round(1)
    relevance_before = float(before.relevance.ravel()[voxels].sum(dtype=float))
    relevance_now = float(now.relevance.ravel()[voxels].sum(dtype=float))
    return {
        "lesions_now": ",".join(map(str, group.now)),
        "lesions_before": ",".join(map(str, group.before)),
        "change": _change(volume_before, volume_now),
        "volume_before": volume_before,
        "volume_now": volume_now,
        "voxels": len(voxels),
        "x": x,
        "y": y,
        "z": z,
        "relevance_before": relevance_before,
        "relevance_now": relevance_now,
        "relevance_change": relevance_now - relevance_before,
    }


def _volume(lesions: Lesions, numbers: list[int]) -> float:
    """Return the volume of lesions together (mm3)."""
    return float(sum(lesions.volumes[number - 1] for number in numbers))


def _change(before: float, now: float) -> str:
    """Return the change of `CHANGES` by the volumes of both visits (mm3)."""
    if not before:
        return NEW
    if not now:
        return GONE
    if abs(now - before) <= max(LEAST_SHARE * before, LEAST_VOLUME):
        return UNCHANGED
    return GROWN if now > before else SHRUNK


def _with_limits(table: pd.DataFrame, noise: Noise | None) -> pd.DataFrame:
    """Return the table with the limits of noise for lesions of each size."""
    rows = []
    for row in table.itertuples():
        limits = [np.nan, np.nan]
        if noise is not None:
            both = (noise.one_scanner, noise.two_scanners)
            limits = [kind.of_lesion(row.voxels) for kind in both]
        rows.append([*limits, visit_noise.judged(abs(row.relevance_change), *limits)])
    columns = ["limit_one_scanner", "limit_two_scanners", "noise"]
    return table.join(pd.DataFrame(rows, columns=columns, index=table.index))
