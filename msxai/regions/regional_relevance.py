"""Relevance and lesions region by region: grey-matter areas, white-matter tracts, McDonald zones.

Relevance is counted three ways, never mixed: positive, negative, and net, which is their sum. The
original called net relevance positive.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from msxai.base.errors import MissingAtlasError
from msxai.data import images
from msxai.regions import atlases

__all__ = [
    "MEASURES",
    "SCAN",
    "SIGNS",
    "Regions",
    "combine",
    "lesions",
    "read",
    "relevance",
    "sums",
]

SIGNS = ("net", "positive", "negative")
MEASURES = ("sum", "density", "share")
SCAN = ["participant_id", "session_id", "group", "label"]
"""Columns that name a scan."""

_MAPS_AT_A_TIME = 16  # in memory
_PAPER_AREAS = 69


@dataclass
class Regions:
    """All regions of all atlases at once.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a region: atlas (areas, tracts, zones), region, tissue, voxels.
    voxels : ndarray of shape (n,), int
        Flat indices into the model's grid of each voxel of each region, atlas after atlas.
    codes : ndarray of shape (n,), int
        The row of `table` that each of `voxels` belongs to.
    left_out : dict
        Atlas to the reason why it is not here.
    notes : list of str
        Sentences for a report.
    """

    table: pd.DataFrame
    voxels: np.ndarray
    codes: np.ndarray
    left_out: dict
    notes: list

    def names(self, atlas: str) -> pd.DataFrame:
        """Return the columns atlas and region of one atlas."""
        rows = self.table["atlas"] == atlas
        return self.table.loc[rows, ["atlas", "region"]].reset_index(drop=True)

    @property
    def atlases(self) -> list[str]:
        """The atlases that are here, in their order."""
        return list(dict.fromkeys(self.table["atlas"]))


def read(jhu=None) -> Regions:
    """Read all atlases; JHU is left out with a reason where it is missing.

    Parameters
    ----------
    jhu : path, optional
        See `msxai.regions.atlases.jhu`.
    """
    readers = {
        "areas": atlases.neuromorphometrics,
        "tracts": lambda: atlases.jhu(jhu),
        "zones": atlases.zones,
    }
    parts = {}
    left_out = {}
    notes = []
    for name, read_atlas in readers.items():
        try:
            atlas = read_atlas()
        except MissingAtlasError as error:
            left_out[name] = str(error)
            continue
        parts[name] = (atlas.grouped, atlas.groups)
        notes += atlas.notes
    regions = combine(parts)
    areas = len(regions.names("areas"))
    if areas:
        notes.append(
            f"{areas} grey-matter areas of Neuromorphometrics without side;"
            f" the paper counts {_PAPER_AREAS} areas."
        )
    regions.left_out = left_out
    regions.notes = notes
    return regions


def combine(parts: dict) -> Regions:
    """Put the regions of several label maps together.

    Parameters
    ----------
    parts : dict
        Atlas to (grouped, groups) as `msxai.regions.atlases.Atlas` has them. Of "areas" the
        grey-matter ones are taken.
    """
    tables = []
    voxels = []
    codes = []
    first_row = 0
    for name, (grouped, groups) in parts.items():
        if name == "areas":
            groups = groups[groups["tissue"] == "grey"]
        part_voxels, part_rows = _voxels_of_groups(grouped, groups)
        counts = np.bincount(part_rows, minlength=len(groups))
        table = groups[["tissue"]].assign(atlas=name, region=groups["group"], voxels=counts)
        tables.append(table)
        voxels.append(part_voxels)
        codes.append(first_row + part_rows)
        first_row += len(groups)
    columns = ["atlas", "region", "tissue", "voxels"]
    return Regions(
        table=pd.concat(tables, ignore_index=True)[columns],
        voxels=np.concatenate(voxels),
        codes=np.concatenate(codes),
        left_out={},
        notes=[],
    )


def _voxels_of_groups(grouped, groups: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return flat indices of the voxels of these groups, and the row of `groups` of each."""
    numbers = grouped.ravel()
    largest = int(max(numbers.max(), groups.index.max()))
    row_of_number = np.full(largest + 1, -1)
    row_of_number[groups.index] = np.arange(len(groups))
    row_of_number[0] = -1
    rows = row_of_number[numbers]
    voxels = np.flatnonzero(rows >= 0)
    return voxels, rows[voxels]


def sums(maps, regions: Regions) -> np.ndarray:
    """Sum each map over each region, all in one pass.

    Parameters
    ----------
    maps : array_like of shape (maps, 96, 114, 96)
    regions : Regions

    Returns
    -------
    ndarray of shape (maps, regions), float64
    """
    n_maps = len(maps)
    n_regions = len(regions.table)
    values = np.reshape(maps, (n_maps, -1))[:, regions.voxels]
    first_bins = np.arange(n_maps)[:, None] * n_regions
    bins = first_bins + regions.codes
    totals = np.bincount(bins.ravel(), values.ravel(), n_maps * n_regions)
    return totals.reshape(n_maps, n_regions)


def relevance(table: pd.DataFrame, regions: Regions) -> pd.DataFrame:
    """Compute the relevance of every scan in every region; memory does not grow with the cohort.

    Parameters
    ----------
    table : pandas.DataFrame
        `msxai.lrp.heatmaps.read`: participant_id, session_id, group, label, path. A map of another
        space is brought onto the model's grid.
    regions : Regions

    Returns
    -------
    pandas.DataFrame
        One row a scan, region and sign: `SCAN`, atlas, region, sign (`SIGNS`), sum (logit), density
        (logit per voxel), share (of the positive or negative relevance of the whole map, 0 where it
        has none; of net relevance, which may vanish, the share of the sum of magnitudes).
    """
    tables = []
    for start in range(0, len(table), _MAPS_AT_A_TIME):
        scans = table.iloc[start : start + _MAPS_AT_A_TIME]
        maps = np.stack([images.to_grid(images.load(path)) for path in scans["path"]])
        in_regions, in_map = _by_sign(maps, regions)
        for sign in SIGNS:
            rows = _rows_of_scans(scans, regions)
            tables.append(_with_measures(rows, sign, in_regions[sign], in_map[sign], regions))
    return pd.concat(tables, ignore_index=True)


def _by_sign(maps, regions: Regions) -> tuple[dict, dict]:
    """Return relevance in each region and in the whole map, each by sign."""
    in_regions = {}
    in_map = {}
    for sign, part in (("positive", np.maximum(maps, 0)), ("negative", np.minimum(maps, 0))):
        in_regions[sign] = sums(part, regions)
        in_map[sign] = part.sum(axis=(1, 2, 3), dtype=float)
    in_regions["net"] = in_regions["positive"] + in_regions["negative"]
    in_map["net"] = in_map["positive"] - in_map["negative"]
    return in_regions, in_map


def _rows_of_scans(scans: pd.DataFrame, regions: Regions) -> pd.DataFrame:
    """Return one row a scan and region, with their names."""
    rows = scans.index.repeat(len(regions.table))
    names = pd.concat([regions.table[["atlas", "region"]]] * len(scans), ignore_index=True)
    return scans[SCAN].loc[rows].reset_index(drop=True).join(names)


def _with_measures(rows: pd.DataFrame, sign: str, in_regions, in_map, regions: Regions):
    """Add sign and measures to the rows of some scans."""
    whole = np.where(in_map == 0, 1, np.abs(in_map))
    share = in_regions / whole[:, None]
    with np.errstate(invalid="ignore"):
        density = in_regions / regions.table["voxels"].to_numpy()
    return rows.assign(
        sign=sign,
        sum=in_regions.ravel(),
        density=density.ravel(),
        share=share.ravel(),
    )


def lesions(masks, regions: Regions, names=("tracts", "zones")) -> pd.DataFrame:
    """Compute the lesion volume in each region, and how many lesions touch it.

    A lesion is a connected component (26 neighbours); it counts for every zone that it touches
    (see `msxai.regions.atlases.zones`).

    Parameters
    ----------
    masks : iterable of ndarray of bool, shape (96, 114, 96)
        One a scan.
    regions : Regions
    names : sequence of str
        Which atlases.

    Returns
    -------
    pandas.DataFrame
        One row a scan and region: scan (number), atlas, region, volume (mm3), lesions (count).
    """
    chosen = regions.table["atlas"].isin(names).to_numpy()
    tables = []
    for scan, mask in enumerate(masks):
        volume, touching = _lesions_of_scan(mask, regions)
        table = regions.table.loc[chosen, ["atlas", "region"]]
        table = table.assign(scan=scan, volume=volume[chosen], lesions=touching[chosen])
        tables.append(table)
    columns = ["scan", "atlas", "region", "volume", "lesions"]
    if not tables:
        return pd.DataFrame(columns=columns)
    return pd.concat(tables, ignore_index=True)[columns]


def _lesions_of_scan(mask, regions: Regions) -> tuple[np.ndarray, np.ndarray]:
    """Return volume (mm3) and number of lesions in each region of one scan."""
    n_regions = len(regions.table)
    components, count = ndimage.label(mask, images.NEIGHBOURHOOD_26)
    component_of_voxel = components.ravel()[regions.voxels]
    is_lesion = component_of_voxel > 0
    codes = regions.codes[is_lesion]
    volume = np.bincount(codes, minlength=n_regions) * images.VOXEL_VOLUME
    pairs = np.unique(codes * (count + 1) + component_of_voxel[is_lesion])
    touching = np.bincount(pairs // (count + 1), minlength=n_regions)
    return volume, touching
