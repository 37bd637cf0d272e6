"""Relevance and lesions region by region: grey-matter areas, white-matter tracts, McDonald zones.

Relevance is counted three ways, never mixed: positive, negative, and net, which is their sum. The original called net relevance positive.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from msxai.base.errors import MissingAtlasError
from msxai.data import images
from msxai.regions import atlases

SIGNS = ("net", "positive", "negative")
MEASURES = ("sum", "density", "share")
CHUNK = 16  # maps in memory at a time
SCAN = ["participant_id", "session_id", "group", "label"]
PAPER_AREAS = 69


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
    """

    table: pd.DataFrame
    voxels: np.ndarray
    codes: np.ndarray
    left_out: dict
    notes: list


def read(jhu=None) -> Regions:
    """Read all atlases; JHU is left out with a reason where it is missing.

    Parameters
    ----------
    jhu : path, optional
        See `msxai.regions.atlases.jhu`.
    """
    found, left_out = {}, {}
    for name, open_atlas in (
        ("areas", atlases.neuromorphometrics),
        ("tracts", lambda: atlases.jhu(jhu)),
        ("zones", atlases.zones),
    ):
        try:
            found[name] = open_atlas()
        except MissingAtlasError as error:
            left_out[name] = str(error)
    regions = combine({name: (atlas.grouped, atlas.groups) for name, atlas in found.items()})
    regions.left_out, regions.notes = (
        left_out,
        [note for atlas in found.values() for note in atlas.notes],
    )
    areas = (regions.table["atlas"] == "areas").sum()
    if areas:
        regions.notes.append(
            f"{areas} grey-matter areas of Neuromorphometrics without side; the paper counts {PAPER_AREAS} areas."
        )
    return regions


def combine(parts: dict) -> Regions:
    """Regions of several label maps.

    Parameters
    ----------
    parts : dict
        Atlas to (grouped, groups) as `msxai.regions.atlases.Atlas` has them. Of "areas" the grey-matter ones are kept.
    """
    tables, voxels, codes, start = [], [], [], 0
    for name, (grouped, groups) in parts.items():
        kept = groups[groups["tissue"] == "grey"] if name == "areas" else groups
        row = np.full(int(max(grouped.max(), groups.index.max())) + 1, -1)
        row[kept.index] = start + np.arange(len(kept))
        flat = row[grouped.ravel()]
        flat[grouped.ravel() == 0] = -1
        voxels.append(np.flatnonzero(flat >= 0))
        codes.append(flat[voxels[-1]])
        size = np.bincount(codes[-1] - start, minlength=len(kept))
        tables.append(kept[["tissue"]].assign(atlas=name, region=kept["group"], voxels=size))
        start += len(kept)
    table = pd.concat(tables, ignore_index=True)[["atlas", "region", "tissue", "voxels"]]
    return Regions(table, np.concatenate(voxels), np.concatenate(codes), {}, [])


def sums(maps, regions: Regions) -> np.ndarray:
    """Sum of each map in each region, all in one pass of bincount.

    Parameters
    ----------
    maps : array_like of shape (maps, 96, 114, 96)
    regions : Regions

    Returns
    -------
    ndarray of shape (maps, regions), float64
    """
    values = np.reshape(maps, (len(maps), -1))[:, regions.voxels]
    places = np.arange(len(maps))[:, None] * len(regions.table) + regions.codes
    total = np.bincount(places.ravel(), values.ravel(), len(maps) * len(regions.table))
    return total.reshape(len(maps), -1)


def relevance(table: pd.DataFrame, regions: Regions) -> pd.DataFrame:
    """Relevance of every scan in every region; memory does not grow with the cohort.

    Parameters
    ----------
    table : pandas.DataFrame
        `msxai.lrp.heatmaps.read`: participant_id, session_id, group, label, path. A map of another space is brought onto the model's grid.
    regions : Regions

    Returns
    -------
    pandas.DataFrame
        One row a scan, region and sign: `SCAN`, atlas, region, sign (`SIGNS`), sum (logit), density (logit per voxel), share (of the
        positive or negative relevance of the whole map, 0 where it has none; of net relevance, which may vanish, the share of the sum of
        sizes).
    """
    tables = []
    for start in range(0, len(table), CHUNK):
        scans = table.iloc[start : start + CHUNK]
        maps = np.stack([images.to_grid(images.load(path)) for path in scans["path"]])
        both, total = {}, {}
        for sign, part in ("positive", np.maximum(maps, 0)), ("negative", np.minimum(maps, 0)):
            both[sign], total[sign] = sums(part, regions), part.sum(axis=(1, 2, 3), dtype=float)
        both["net"], total["net"] = (
            both["positive"] + both["negative"],
            total["positive"] - total["negative"],
        )
        for sign in SIGNS:
            share = both[sign] / np.where(total[sign] == 0, 1, np.abs(total[sign]))[:, None]
            with np.errstate(invalid="ignore"):
                density = both[sign] / regions.table["voxels"].to_numpy()
            rows = scans[SCAN].loc[scans.index.repeat(len(regions.table))].reset_index(drop=True)
            names = pd.concat([regions.table[["atlas", "region"]]] * len(scans), ignore_index=True)
            tables.append(
                rows.join(names).assign(
                    sign=sign, sum=both[sign].ravel(), density=density.ravel(), share=share.ravel()
                )
            )
    return pd.concat(tables, ignore_index=True)


def lesions(masks, regions: Regions, names=("tracts", "zones")) -> pd.DataFrame:
    """Lesion volume in each region, and how many lesions touch it.

    A lesion is a connected component (26 neighbours); it counts for every zone that it touches (see `msxai.regions.atlases.zones`).

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
    kept = np.flatnonzero(regions.table["atlas"].isin(names))
    tables = []
    for scan, mask in enumerate(masks):
        number, count = ndimage.label(mask, images.NEIGHBOURHOOD_26)
        here = number.ravel()[regions.voxels]
        inside = here > 0
        volume = (
            np.bincount(regions.codes[inside], minlength=len(regions.table)) * images.VOXEL_VOLUME
        )
        pairs = np.unique(regions.codes[inside] * (count + 1) + here[inside]) // (count + 1)
        touched = np.bincount(pairs, minlength=len(regions.table))
        tables.append(
            regions.table.loc[kept, ["atlas", "region"]].assign(
                scan=scan, volume=volume[kept], lesions=touched[kept]
            )
        )
    columns = ["scan", "atlas", "region", "volume", "lesions"]
    return (
        pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
    )
