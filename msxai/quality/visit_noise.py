"""How much two scans of one unchanged person differ, for the networks that the package brings.

Simulated patients are scanned again: the same brain and the same lesions, moved by up to half a
voxel, once by the random scanner of the first scan and once by another one
(`msxai.model.acquisition`). All scans are explained. Maps change much more on another scanner, and
a program cannot know which scanners a person was in. So there are limits of both kinds.

The package brings two files, made by `tools/ship_visits.py`:

- ``lesions_visits.tsv``: the changes of each simulated patient, and of each of their lesions;
- ``lesions_visits.json``: hashes of the networks, how maps were made, where all this comes from.

At most `EXCEEDED` of further simulated patients exceed a limit (a split conformal quantile:
Angelopoulos and Bates 2023, doi:10.1561/2200000101).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from msxai.base import tsv
from msxai.model import shipped

__all__ = [
    "BETWEEN",
    "BEYOND",
    "EXCEEDED",
    "LESION_SIZES",
    "ONE_SCANNER",
    "RARE",
    "RECORD",
    "SCANNERS",
    "TABLE",
    "TWO_SCANNERS",
    "VERDICTS",
    "WITHIN",
    "Limits",
    "Noise",
    "judged",
    "limit_of",
    "read",
    "write",
]

EXCEEDED = 0.05
"""Share of unchanged simulated patients that exceed a limit."""

RARE = {"map_95": 0.05, "map_999": 0.001}
"""Name of a limit of the map to the share of the brain's voxels that it is about."""

LESION_SIZES = (1, 4, 16, 64)
"""Voxels (of the model's grid) from which on a lesion has the next limit: larger lesions hold more
relevance, which changes by more.
"""

TABLE = f"{shipped.TASK}_visits.tsv"
"""File of the changes, in the folder of the weights."""

RECORD = f"{shipped.TASK}_visits.json"
"""File of the hashes, in the same folder."""

ONE_SCANNER, TWO_SCANNERS = SCANNERS = ("one", "two")
"""Whether two scans were made by the same scanner: values of the table's column scanners."""

WITHIN, BETWEEN, BEYOND = VERDICTS = (
    "within noise",
    "more than on one scanner",
    "more than noise",
)
"""How a change compares with two scans of an unchanged person: at most the limit of one scanner,
more than that and at most the limit of two scanners, more than both.
"""


@dataclass(frozen=True)
class Limits:
    """Limits of what noise changes between two scans of one person.

    Attributes
    ----------
    changes : pandas.DataFrame
        subject, kind ("logit", "similarity", those of `RARE`, "lesion"), voxels (of a lesion; 0 for
        the others), value. The values are: the change of the logit; Pearson's r of the two scans;
        the magnitude of change (logits) that a share of the brain's voxels exceeds; the change of
        the relevance in a lesion (logits).
    has_maps : bool
        Whether maps were made in the way that limits are asked for.
    """

    changes: pd.DataFrame
    has_maps: bool

    @property
    def logit(self) -> float:
        """Limit of the magnitude of the logit's change."""
        return limit_of(self._values("logit").abs())

    @property
    def similarity(self) -> float:
        """Lowest usual correlation of two scans."""
        return -limit_of(-self._values("similarity"))

    def of_map(self, kind: str) -> float:
        """Return a limit of the map's change (logits): few people have more voxels beyond it.

        Parameters
        ----------
        kind : str
            Of `RARE`.

        Returns
        -------
        float
            NaN where maps were made in another way.
        """
        return limit_of(self._values(kind)) if self.has_maps else np.nan

    def of_lesion(self, voxels: int) -> float:
        """Return the limit of the change of the relevance in a lesion (logits).

        Parameters
        ----------
        voxels : int
            Of the model's grid, at least 1.

        Returns
        -------
        float
            NaN where maps were made in another way.
        """
        if not self.has_maps:
            return np.nan
        own = self.changes[self.changes["kind"] == "lesion"]
        same_size = _size_class(own["voxels"]) == _size_class(voxels)
        return limit_of(own["value"][same_size].abs())

    def _values(self, kind: str) -> pd.Series:
        return self.changes["value"][self.changes["kind"] == kind]


@dataclass(frozen=True)
class Noise:
    """What noise changes, on one scanner and on two.

    Attributes
    ----------
    one_scanner, two_scanners : Limits
        Of two scans by the same scanner, and by different ones.
    source : str
        Where the limits come from.
    """

    one_scanner: Limits
    two_scanners: Limits
    source: str

    @property
    def patients(self) -> int:
        """Number of simulated patients that were scanned."""
        return self.two_scanners.changes["subject"].nunique()

    @property
    def has_maps(self) -> bool:
        """Whether limits of the map are known."""
        return self.two_scanners.has_maps


def judged(value: float, one_scanner: float, two_scanners: float) -> str | None:
    """Return which of `VERDICTS` holds for a change; None where a limit is missing.

    Parameters
    ----------
    value : float
        Magnitude of the change.
    one_scanner, two_scanners : float
        Its limits.

    Examples
    --------
    >>> [judged(value, 1.0, 3.0) for value in (0.5, 2.0, 4.0)]
    ['within noise', 'more than on one scanner', 'more than noise']
    """
    if np.isnan(one_scanner) or np.isnan(two_scanners):
        return None
    if value <= one_scanner:
        return WITHIN
    return BETWEEN if value <= two_scanners else BEYOND


def limit_of(values) -> float:
    """Return the limit that at most `EXCEEDED` of further values exceed.

    It is the ceil((n + 1) (1 - `EXCEEDED`))th of n values, of few the last one.

    Parameters
    ----------
    values : sequence of float
        NaN for an empty one.

    Examples
    --------
    >>> limit_of(range(1, 40)), limit_of([3.0, 1.0])
    (38.0, 3.0)
    """
    ordered = np.sort(np.asarray(values, float))
    if not len(ordered):
        return np.nan
    rank = int(np.ceil((len(ordered) + 1) * (1 - EXCEEDED)))
    return float(ordered[min(rank, len(ordered)) - 1])


def read(weights: Sequence, rule: str, epsilon: float, copies: int, folder=None) -> Noise | None:
    """Return the noise of networks; None for networks that are not those of the package.

    Parameters
    ----------
    weights : sequence of path
        Weights files. All networks of the package have to be among them, and no others.
    rule, epsilon, copies
        How maps are made.
    folder : path, optional
        Where the two files lie; by default with the package's weights.
    """
    folder = Path(folder or shipped.folder())
    record = shipped.read_record(folder / RECORD, weights)
    if record is None:
        return None
    made = record["maps"]
    has_maps = (made["rule"], made["epsilon"], made["copies"]) == (rule, epsilon, copies)
    changes = tsv.read(folder / TABLE)
    limits = {}
    for scanners in SCANNERS:
        limits[scanners] = Limits(changes[changes["scanners"] == scanners], has_maps)
    return Noise(limits[ONE_SCANNER], limits[TWO_SCANNERS], record["source"])


def write(changes: pd.DataFrame, maps: dict, source: str, weights, folder, **entries) -> list[Path]:
    """Write the two files.

    Parameters
    ----------
    changes : pandas.DataFrame
        As in `Limits`, and scanners (of `SCANNERS`).
    maps : dict
        rule, epsilon, copies of the maps.
    source : str
    weights : sequence of path
        Weights files of the networks, in their order.
    folder : path
    **entries
        What else the record says, JSON types.

    Returns
    -------
    list of pathlib.Path
        The files.
    """
    folder = Path(folder)
    tsv.write(changes, folder / TABLE, float_format="%.4g")
    shipped.write_record(folder / RECORD, weights, source=source, maps=maps, **entries)
    return [folder / TABLE, folder / RECORD]


def _size_class(voxels):
    """Return the number of the last of `LESION_SIZES` that a number of voxels reaches."""
    return np.searchsorted(LESION_SIZES, voxels, side="right")
