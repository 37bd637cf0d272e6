"""Statistical tests of regions.

Patients against controls, two variants against each other, regions against random regions of equal
volume, and correlations with age, EDSS and lesions.
"""

from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from msxai.base import permutation
from msxai.data import images
from msxai.regions.regional_relevance import SIGNS, Regions, sums

__all__ = [
    "CORRELATIONS",
    "GROUPS",
    "REGION_VOLUME",
    "above_random",
    "by_subject",
    "changes",
    "compare",
    "correlate",
    "mean_maps",
    "volume_matched",
]

GROUPS = {1: "patients", 0: "controls"}
REGION_VOLUME = "lesion volume of the region"
"""Name of this covariate in the table of correlations."""

CORRELATIONS = [
    *("group", "covariate", "atlas", "region", "sign", "measure"),
    *("n", "r", "low", "high", "p", "p_fdr"),
]
"""Columns of the table of correlations."""

_FEWEST_SUBJECTS = 5  # that a correlation asks for
_MEASURES = ("sum", "share")


def by_subject(
    table: pd.DataFrame, value: str, regions: Regions, atlas: str
) -> tuple[pd.DataFrame, np.ndarray]:
    """Arrange a value as a matrix of subjects and the regions of one atlas.

    Visits of a subject are averaged.

    Returns
    -------
    people : pandas.DataFrame
        participant_id, label, in the order of the rows.
    values : ndarray of shape (subjects, regions)
    """
    rows = table[table["atlas"] == atlas]
    subjects = ["participant_id", "label"]
    wide = rows.pivot_table(value, subjects, "region", "mean", sort=True)
    wide = wide[list(regions.names(atlas)["region"])]
    return wide.index.to_frame(index=False), wide.to_numpy()


def compare(
    relevance: pd.DataFrame, regions: Regions, n: int = 10000, seed: int = 0
) -> pd.DataFrame:
    """Compare patients with controls in every region: labels of subjects permuted, max-T.

    Parameters
    ----------
    relevance : pandas.DataFrame
        `msxai.regions.regional_relevance.relevance`; scans without a label are left out.
    regions : Regions
    n, seed
        See `msxai.base.permutation.two_groups`.

    Returns
    -------
    pandas.DataFrame
        atlas, region, sign, measure (sum, share; density differs from the sum by a constant, and
        its p is the same), subjects, then as `msxai.base.permutation.two_groups`. A family is all
        regions of one atlas, sign and measure. Empty where a group has fewer than two.
    """
    labelled = relevance.dropna(subset=["label"])
    group_sizes = labelled.groupby("label")["participant_id"].nunique()
    if group_sizes.reindex([0, 1], fill_value=0).min() < 2:
        return pd.DataFrame(columns=["atlas", "region", "sign", "measure"])
    tables = []
    for atlas, sign, measure in product(regions.atlases, SIGNS, _MEASURES):
        rows = labelled[labelled["sign"] == sign]
        people, values = by_subject(rows, measure, regions, atlas)
        tests = permutation.two_groups(values, people["label"].to_numpy(int), n, seed)
        names = regions.names(atlas)
        names = names.assign(sign=sign, measure=measure, subjects=len(people))
        tables.append(names.join(tests))
    return pd.concat(tables, ignore_index=True)


def changes(
    relevance: pd.DataFrame,
    other_relevance: pd.DataFrame,
    regions: Regions,
    n: int = 10000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare two variants on the same patients: paired, max-T over an atlas's regions.

    For instance with lesions and with the lesions filled.

    Parameters
    ----------
    relevance, other_relevance : pandas.DataFrame
        `msxai.regions.regional_relevance.relevance` of each; patients that are in one only are left
        out.
    regions : Regions
    n, seed
        See `msxai.base.permutation.paired`.

    Returns
    -------
    pandas.DataFrame
        atlas, region, sign, subjects, then as `msxai.base.permutation.paired` on the sums,
        `relevance` minus `other_relevance`. Empty for fewer than two.
    """
    patients = set(relevance.loc[relevance["label"] == 1, "participant_id"])
    in_both = patients & set(other_relevance["participant_id"])
    if len(in_both) < 2:
        return pd.DataFrame(columns=["atlas", "region", "sign", "subjects", "p_fwe"])

    def values_of(table, sign, atlas):
        rows = table[(table["sign"] == sign) & table["participant_id"].isin(in_both)]
        _, values = by_subject(rows, "sum", regions, atlas)
        return values

    tables = []
    for atlas, sign in product(regions.atlases, SIGNS):
        values = values_of(relevance, sign, atlas)
        difference = values - values_of(other_relevance, sign, atlas)
        tests = permutation.paired(difference, n, seed)
        names = regions.names(atlas).assign(sign=sign, subjects=len(values))
        tables.append(names.join(tests))
    return pd.concat(tables, ignore_index=True)


def volume_matched(values, brain, regions: Regions, n: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Compare each region with random regions of as many voxels.

    Random regions are compact: the voxels of the brain nearest to a random voxel.

    Parameters
    ----------
    values : ndarray of shape (96, 114, 96), or (maps, 96, 114, 96)
        A map, for instance the mean of positive relevance; several are compared with the same
        random regions.
    brain : ndarray of bool, same shape
        Where random regions lie, whole and connected but for the brain's folds.
    regions : Regions
    n, seed : int
        How many random regions; of the draws.

    Returns
    -------
    pandas.DataFrame
        map (its number), atlas, region, density, random (mean density of the random regions),
        random_low, random_high (their 2.5 and 97.5 %), p: share of random regions, and the region
        itself, whose density is as high or higher (one-sided).
    """
    table = regions.table
    brain_voxels = np.argwhere(brain).astype("int32")
    maps = np.asarray(values, float).reshape(-1, *np.shape(brain))
    inside = maps[:, brain]
    sizes = table["voxels"].to_numpy().clip(1, len(brain_voxels))
    rng = np.random.default_rng(seed)
    drawn = np.empty((n, len(maps), len(table)))
    for draw in range(n):
        centre = brain_voxels[rng.integers(len(brain_voxels))]
        nearest = _nearest(brain_voxels, centre, count=sizes.max())
        totals = np.cumsum(inside[:, nearest], axis=1)
        drawn[draw] = totals[:, sizes - 1] / sizes
    density = sums(maps, regions) / sizes
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    as_high = (drawn >= density).sum(axis=0)
    numbers = np.repeat(np.arange(len(maps)), len(table))
    names = pd.concat([table[["atlas", "region"]]] * len(maps), ignore_index=True)
    return names.assign(
        map=numbers,
        density=density.ravel(),
        random=drawn.mean(axis=0).ravel(),
        random_low=low.ravel(),
        random_high=high.ravel(),
        p=((1 + as_high) / (n + 1)).ravel(),
    )


def _nearest(voxels, centre, count: int) -> np.ndarray:
    """Return the rows of the `count` voxels nearest to a centre, nearest first."""
    squares = ((voxels - centre) ** 2).sum(axis=1)
    squares = squares.astype("int16")  # at most 31,428: sorted by radix
    return np.argsort(squares, kind="stable")[:count]


def mean_maps(table: pd.DataFrame) -> dict:
    """Average net and positive relevance of patients and of controls.

    Each subject counts once, however many visits it has.

    Parameters
    ----------
    table : pandas.DataFrame
        As in `msxai.regions.regional_relevance.relevance`; scans without a label are left out.

    Returns
    -------
    dict
        (group, sign), a value of `GROUPS` and "net" or "positive", to an ndarray of shape
        (96, 114, 96), float64.
    """
    means = {}
    for label, scans in table.dropna(subset=["label"]).groupby("label"):
        group = GROUPS[int(label)]
        visits = scans.groupby("participant_id")["path"].transform("size")
        weights = 1 / (visits * scans["participant_id"].nunique())
        for path, weight in zip(scans["path"], weights, strict=True):
            values = images.to_grid(images.load(path))
            parts = {"net": values, "positive": np.maximum(values, 0)}
            for sign, part in parts.items():
                total = means.get((group, sign), 0)
                means[group, sign] = total + weight * part.astype(float)
    return means


def above_random(
    table: pd.DataFrame, prepared, regions: Regions, n: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compare the mean maps of patients and of controls with random regions of equal volume.

    See `mean_maps` and `volume_matched`.

    Parameters
    ----------
    table : pandas.DataFrame
        As in `msxai.regions.regional_relevance.relevance`.
    prepared : msxai.data.prepared.Prepared
        Random regions lie where half of the explained scans or more have brain.
    regions : Regions
    n, seed
        See `volume_matched`.

    Returns
    -------
    pandas.DataFrame
        group, sign, then as `volume_matched`, p_fdr (Benjamini-Hochberg over the regions of an
        atlas).
    """
    means = mean_maps(table)
    if not means:
        return pd.DataFrame()
    maps = np.stack(list(means.values()))
    tests = volume_matched(maps, _common_brain(table, prepared), regions, n, seed)
    groups_and_signs = np.array(list(means))[tests.pop("map")]
    families = tests.groupby([*groups_and_signs.T, "atlas"])["p"]
    return tests.assign(
        group=groups_and_signs[:, 0],
        sign=groups_and_signs[:, 1],
        p_fdr=families.transform(lambda p: stats.false_discovery_control(p.to_numpy())),
    )


def _common_brain(table: pd.DataFrame, prepared) -> np.ndarray:
    """Return where half of these scans or more have brain."""
    count = np.zeros(images.SHAPE, "int32")
    for scan in table.itertuples():
        count += prepared.brain(prepared.row(scan.participant_id, scan.session_id))
    return count * 2 >= len(table)


def correlate(
    relevance: pd.DataFrame, covariates: pd.DataFrame, volumes: pd.DataFrame, regions: Regions
) -> tuple[pd.DataFrame, dict]:
    """Correlate the relevance of each region with covariates and the region's lesion volume.

    Within patients and within controls, because between the groups both differ, and would correlate
    by that alone.

    Parameters
    ----------
    relevance : pandas.DataFrame
        `msxai.regions.regional_relevance.relevance`.
    covariates : pandas.DataFrame
        participant_id, session_id and a column of numbers a covariate, NaN where unknown; visits of
        a subject are averaged.
    volumes : pandas.DataFrame
        participant_id, label, atlas, region, volume: `msxai.regions.regional_relevance.lesions`
        with its scans named. Empty without masks.
    regions : Regions

    Returns
    -------
    table : pandas.DataFrame
        `CORRELATIONS`: Spearman's, see `msxai.base.permutation.correlations`; a family of p_fdr is
        the regions of an atlas.
    left_out : dict
        "covariate, group" to the reason.
    """
    tables = []
    left_out = {}
    of_subjects = _means_of_subjects(relevance, covariates)
    kinds = product(regions.atlases, SIGNS, _MEASURES)
    for (atlas, sign, measure), (label, group) in product(kinds, GROUPS.items()):
        rows = relevance[(relevance["sign"] == sign) & (relevance["label"] == label)]
        if rows.empty:
            left_out[f"correlations, {group}"] = f"no {group} among the explained scans"
            continue
        people, values = by_subject(rows, measure, regions, atlas)
        own_volumes = volumes[(volumes["atlas"] == atlas) & (volumes["label"] == label)]
        arrays = _covariates_of(people["participant_id"], of_subjects, own_volumes, regions, atlas)
        for name, covariate in arrays.items():
            subjects = _count_subjects(covariate)
            if subjects < _FEWEST_SUBJECTS:
                left_out[f"{name}, {group}"] = (
                    f"known of {subjects} explained {group},"
                    f" and a correlation asks for {_FEWEST_SUBJECTS}"
                )
                continue
            names = regions.names(atlas)
            names = names.assign(group=group, covariate=name, sign=sign, measure=measure)
            tables.append(names.join(permutation.correlations(values, covariate)))
    if not tables:
        return pd.DataFrame(columns=CORRELATIONS), left_out
    return pd.concat(tables, ignore_index=True)[CORRELATIONS], left_out


def _means_of_subjects(relevance: pd.DataFrame, covariates: pd.DataFrame) -> pd.DataFrame:
    """Average each subject's covariates over its explained scans; indexed by participant_id."""
    scan = ["participant_id", "session_id"]
    scans = relevance[scan].drop_duplicates()
    of_scans = scans.merge(covariates, on=scan).drop(columns="session_id")
    return of_scans.groupby("participant_id").mean()


def _covariates_of(participants, of_subjects, volumes, regions: Regions, atlas: str) -> dict:
    """Return each covariate of these participants, and their lesion volumes in each region."""
    arrays = {name: of_subjects[name].reindex(participants).to_numpy() for name in of_subjects}
    if len(volumes):
        people, in_regions = by_subject(volumes, "volume", regions, atlas)
        table = pd.DataFrame(in_regions, people["participant_id"])
        arrays[REGION_VOLUME] = table.reindex(participants).to_numpy()
    return arrays


def _count_subjects(covariate) -> int:
    """Count the subjects with a known value."""
    by_row = covariate.reshape(len(covariate), -1)
    return int(np.isfinite(by_row).any(axis=1).sum())
