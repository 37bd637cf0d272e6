"""What one scan shows of the McDonald criteria of 2024: lesions by region, and what it cannot show.

The criteria ask in how many of five regions a person has lesions (Montalban et al. 2025, Lancet
Neurol, doi:10.1016/S1474-4422(25)00270-4). A brain FLAIR shows three of them. The tables here count
lesions. They make no diagnosis.
"""

from dataclasses import dataclass

import pandas as pd

from msxai.regions import lesion_regions
from msxai.regions.lesion_regions import GREY_MATTER, NEIGHBOURS, REGIONS, Lesions
from msxai.regions.own_anatomy import Anatomy

__all__ = ["LEAST_AXIS", "NOT_ASSESSABLE", "SOURCE", "RegionCounts", "count"]

LEAST_AXIS = 3.0
"""mm: the criteria count a lesion from this longest axis on."""

SOURCE = "doi:10.1016/S1474-4422(25)00270-4"
"""Montalban et al. 2025."""

NOT_ASSESSABLE = {
    "optic nerve": "needs MRI of the orbits, OCT or visual evoked potentials",
    "spinal cord": "needs MRI of the spinal cord",
    "central vein sign": "needs a susceptibility-weighted scan (T2*)",
    "paramagnetic rim lesions": "needs a susceptibility-weighted scan with phase (QSM)",
}
"""What the criteria also use and a brain FLAIR does not show, and what would show it."""

_ROUNDING = 1e-4  # mm: headers hold the edges of voxels as float32


@dataclass(frozen=True)
class RegionCounts:
    """Lesions of one scan by region.

    Attributes
    ----------
    table : pandas.DataFrame
        Index: `msxai.regions.lesion_regions.REGIONS`, then its `GREY_MATTER`, whose lesions are
        counted in their region, too. Columns: lesions (all), from_3_mm (longest axis at least
        `LEAST_AXIS`), volume (mm3, all), neighbours_6 and neighbours_18 (as from_3_mm, where fewer
        neighbours join voxels to lesions).
    anatomy : msxai.regions.own_anatomy.Anatomy
        What has decided the regions.
    moved : int
        Lesions that the template's ventricles and cortex would put into another region.
    """

    table: pd.DataFrame
    anatomy: Anatomy
    moved: int


def count(by_neighbours: dict[int, Lesions], anatomy: Anatomy) -> RegionCounts:
    """Count the lesions of one scan by region.

    Parameters
    ----------
    by_neighbours : dict
        Each number of `msxai.regions.lesion_regions.NEIGHBOURS` to the lesions of the mask that
        result from it.
    anatomy : msxai.regions.own_anatomy.Anatomy
        Of the person (`msxai.regions.own_anatomy.find`).
    """
    tables = {}
    for neighbours in NEIGHBOURS:
        tables[neighbours] = lesion_regions.of_lesions(by_neighbours[neighbours], anatomy)
    own = tables[26]
    by_template = lesion_regions.of_lesions(by_neighbours[26])
    rows = {}
    for name in (*REGIONS, *GREY_MATTER):
        lesions = _in(own, name)
        rows[name] = {
            "lesions": len(lesions),
            "from_3_mm": _from_3_mm(lesions),
            "volume": float(lesions["volume"].sum()),
            "neighbours_6": _from_3_mm(_in(tables[6], name)),
            "neighbours_18": _from_3_mm(_in(tables[18], name)),
        }
    return RegionCounts(
        table=pd.DataFrame.from_dict(rows, orient="index"),
        anatomy=anatomy,
        moved=int((own["region"] != by_template["region"]).sum()),
    )


def _in(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the lesions of a region, or of a part of the grey matter."""
    column = "grey_matter" if name in GREY_MATTER else "region"
    return table[table[column] == name]


def _from_3_mm(table: pd.DataFrame) -> int:
    """Return how many lesions the criteria count."""
    return int((table["longest_axis"] >= LEAST_AXIS - _ROUNDING).sum())
