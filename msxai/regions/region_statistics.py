"""Tests of regions: patients against controls, two variants, random regions of equal volume, correlations with age, EDSS and lesions."""

from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from msxai.base import permutation
from msxai.data import images
from msxai.regions.regional_relevance import SIGNS, Regions, sums

GROUPS = {1: "patients", 0: "controls"}
FEWEST = 5  # subjects that a correlation asks for
REGION_VOLUME = "lesion volume of the region"
CORRELATIONS = [
    "group",
    "covariate",
    "atlas",
    "region",
    "sign",
    "measure",
    "n",
    "r",
    "low",
    "high",
    "p",
    "p_fdr",
]


def by_subject(
    table: pd.DataFrame, value: str, regions: Regions, atlas: str
) -> tuple[pd.DataFrame, np.ndarray]:
    """A value as a matrix of subjects and the regions of one atlas; visits of a subject are averaged.

    Returns
    -------
    people : pandas.DataFrame
        participant_id, label, in the order of the rows.
    values : ndarray of shape (subjects, regions)
    """
    names = regions.table.loc[regions.table["atlas"] == atlas, "region"]
    rows = table[table["atlas"] == atlas]
    wide = rows.pivot_table(value, ["participant_id", "label"], "region", "mean", sort=True)[
        list(names)
    ]
    return wide.index.to_frame(index=False), wide.to_numpy()


def compare(found: pd.DataFrame, regions: Regions, n: int = 10000, seed: int = 0) -> pd.DataFrame:
    """Patients against controls in every region: label permutation of subjects, max-T over the regions of an atlas.

    Parameters
    ----------
    found : pandas.DataFrame
        `msxai.regions.regional_relevance.relevance`; scans without a label are left out.
    regions : Regions
    n, seed
        See `msxai.base.permutation.two_groups`.

    Returns
    -------
    pandas.DataFrame
        atlas, region, sign, measure (sum, share; density differs from the sum by a constant, and its p is the same), subjects, then as
        `msxai.base.permutation.two_groups`. A family is all regions of one atlas, sign and measure. Empty where a group has fewer than two.
    """
    tables, known = [], found.dropna(subset=["label"])
    enough = (
        min(known.groupby("label")["participant_id"].nunique().reindex([0, 1], fill_value=0)) >= 2
    )
    for atlas in dict.fromkeys(regions.table["atlas"]) if enough else ():
        for sign in SIGNS:
            for measure in ("sum", "share"):
                people, values = by_subject(known[known["sign"] == sign], measure, regions, atlas)
                labels = people["label"].to_numpy(int)
                names = regions.table.loc[
                    regions.table["atlas"] == atlas, ["atlas", "region"]
                ].reset_index(drop=True)
                tests = permutation.two_groups(values, labels, n, seed)
                tables.append(
                    names.assign(sign=sign, measure=measure, subjects=len(people)).join(tests)
                )
    return (
        pd.concat(tables, ignore_index=True)
        if tables
        else pd.DataFrame(columns=["atlas", "region", "sign", "measure"])
    )


def changes(
    found: pd.DataFrame, others: pd.DataFrame, regions: Regions, n: int = 10000, seed: int = 0
) -> pd.DataFrame:
    """Two variants on the same patients, for instance with lesions and with the lesions filled: paired, max-T over an atlas's regions.

    Parameters
    ----------
    found, others : pandas.DataFrame
        `msxai.regions.regional_relevance.relevance` of each; patients that are in one only are left out.
    regions : Regions
    n, seed
        See `msxai.base.permutation.paired`.

    Returns
    -------
    pandas.DataFrame
        atlas, region, sign, subjects, then as `msxai.base.permutation.paired` on the sums, `found` less `others`. Empty for fewer than two.
    """
    tables, both = (
        [],
        set(found.loc[found["label"] == 1, "participant_id"]) & set(others["participant_id"]),
    )
    kinds = product(dict.fromkeys(regions.table["atlas"]), SIGNS) if len(both) >= 2 else ()
    for atlas, sign in kinds:
        sides = [
            one[(one["sign"] == sign) & one["participant_id"].isin(both)] for one in (found, others)
        ]
        (people, with_), (_, without) = (by_subject(one, "sum", regions, atlas) for one in sides)
        names = regions.table.loc[regions.table["atlas"] == atlas, ["atlas", "region"]].reset_index(
            drop=True
        )
        tables.append(
            names.assign(sign=sign, subjects=len(people)).join(
                permutation.paired(with_ - without, n, seed)
            )
        )
    return (
        pd.concat(tables, ignore_index=True)
        if tables
        else pd.DataFrame(columns=["atlas", "region", "sign", "subjects", "p_fwe"])
    )


def volume_matched(values, brain, regions: Regions, n: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Hold each region against random regions of as many voxels, compact ones: the voxels of the brain nearest to a random one.

    Parameters
    ----------
    values : ndarray of shape (96, 114, 96), or (maps, 96, 114, 96) to hold several against the same random regions
        A map, for instance the mean of positive relevance.
    brain : ndarray of bool, same shape
        Where random regions lie, whole and connected but for the brain's folds.
    regions : Regions
    n, seed : int
        How many; of the draws.

    Returns
    -------
    pandas.DataFrame
        map (its number), atlas, region, density, random (mean density of the random regions), random_low, random_high (their 2.5 and
        97.5 %), p: share of random regions, and the region itself, whose density is as high or higher (one-sided).
    """
    table, places = regions.table, np.argwhere(brain).astype("int32")
    maps = np.asarray(values, float).reshape(-1, *np.shape(brain))
    inside, sizes = maps[:, brain], table["voxels"].to_numpy().clip(1, len(places))
    rng, drawn = np.random.default_rng(seed), np.empty((n, len(maps), len(table)))
    for row in range(n):
        far = (
            ((places - places[rng.integers(len(places))]) ** 2).sum(1).astype("int16")
        )  # at most 31,428: sorted by radix
        nearest = np.argsort(far, kind="stable")[: sizes.max()]
        drawn[row] = np.cumsum(inside[:, nearest], axis=1)[:, sizes - 1] / sizes
    density = sums(maps, regions) / sizes
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    found = {
        "density": density,
        "random": drawn.mean(0),
        "random_low": low,
        "random_high": high,
        "p": (1 + (drawn >= density).sum(0)) / (n + 1),
    }
    names = pd.concat(
        [table[["atlas", "region"]].assign(map=number) for number in range(len(maps))],
        ignore_index=True,
    )
    return names.assign(**{name: array.ravel() for name, array in found.items()})


def mean_maps(table: pd.DataFrame) -> dict:
    """Mean net and mean positive relevance of patients and of controls; each subject counts once, however many visits it has.

    Parameters
    ----------
    table : pandas.DataFrame
        As in `msxai.regions.regional_relevance.relevance`; scans without a label are left out.

    Returns
    -------
    dict
        (group, sign), a value of `GROUPS` and "net" or "positive", to an ndarray of shape (96, 114, 96), float64.
    """
    found = {}
    for label, scans in table.dropna(subset=["label"]).groupby("label"):
        visits = scans.groupby("participant_id")["path"].transform("size")
        for path, weight in zip(
            scans["path"], 1 / (visits * scans["participant_id"].nunique()), strict=True
        ):
            values = images.to_grid(images.load(path))
            for sign, part in ("net", values), ("positive", np.maximum(values, 0)):
                key = GROUPS[int(label)], sign
                found[key] = found.get(key, 0) + weight * part.astype(float)
    return found


def above_random(
    table: pd.DataFrame, prepared, regions: Regions, n: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Hold the mean maps of patients and of controls against random regions of equal volume (`mean_maps`, `volume_matched`).

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
        group, sign, then as `volume_matched`, p_fdr (Benjamini-Hochberg over the regions of an atlas).
    """
    rows = [prepared.row(scan.participant_id, scan.session_id) for scan in table.itertuples()]
    brain, means = (
        sum(prepared.brain(row).astype("int32") for row in rows) * 2 >= len(rows),
        mean_maps(table),
    )
    if not means:
        return pd.DataFrame()
    found = volume_matched(np.stack(list(means.values())), brain, regions, n, seed)
    keys = np.array(list(means))[found.pop("map")]
    families = found.groupby([*keys.T, "atlas"])["p"]
    return found.assign(
        group=keys[:, 0],
        sign=keys[:, 1],
        p_fdr=families.transform(lambda p: stats.false_discovery_control(p.to_numpy())),
    )


def correlate(
    found: pd.DataFrame, covariates: pd.DataFrame, volumes: pd.DataFrame, regions: Regions
) -> tuple[pd.DataFrame, dict]:
    """Relevance of each region against each covariate and against the region's own lesion volume, within patients and within controls.

    Within a group, as between the groups both differ, and would correlate by that alone.

    Parameters
    ----------
    found : pandas.DataFrame
        `msxai.regions.regional_relevance.relevance`.
    covariates : pandas.DataFrame
        participant_id, session_id and a column of numbers a covariate, NaN where unknown; visits of a subject are averaged.
    volumes : pandas.DataFrame
        participant_id, label, atlas, region, volume: `msxai.regions.regional_relevance.lesions` with its scans named. Empty without masks.
    regions : Regions

    Returns
    -------
    table : pandas.DataFrame
        `CORRELATIONS`: Spearman's, see `msxai.base.permutation.correlations`; a family of p_fdr is the regions of an atlas.
    left_out : dict
        "covariate, group" to the reason.
    """
    tables, left_out = [], {}
    names = [name for name in covariates if name not in ("participant_id", "session_id")]
    scans = found[["participant_id", "session_id"]].drop_duplicates()
    known = (
        scans.merge(covariates, on=["participant_id", "session_id"])
        .groupby("participant_id")[names]
        .mean()
    )
    kinds = [
        (atlas, sign, measure)
        for atlas in dict.fromkeys(regions.table["atlas"])
        for sign in SIGNS
        for measure in ("sum", "share")
    ]
    for (atlas, sign, measure), (label, group) in product(kinds, GROUPS.items()):
        here = found[(found["sign"] == sign) & (found["label"] == label)]
        if here.empty:
            left_out[f"correlations, {group}"] = f"no {group} among the explained scans"
            continue
        people, values = by_subject(here, measure, regions, atlas)
        others = {name: known[name].reindex(people["participant_id"]).to_numpy() for name in names}
        mine = volumes[(volumes["atlas"] == atlas) & (volumes["label"] == label)]
        if len(mine):
            masked, volume = by_subject(mine, "volume", regions, atlas)
            others[REGION_VOLUME] = (
                pd.DataFrame(volume, masked["participant_id"])
                .reindex(people["participant_id"])
                .to_numpy()
            )
        rows = regions.table.loc[regions.table["atlas"] == atlas, ["atlas", "region"]].reset_index(
            drop=True
        )
        for name, other in others.items():
            subjects = int(np.isfinite(other.reshape(len(other), -1)).any(axis=1).sum())
            if subjects < FEWEST:
                left_out[f"{name}, {group}"] = (
                    f"known of {subjects} explained {group}, and a correlation asks for {FEWEST}"
                )
                continue
            tests = permutation.correlations(values, other)
            tables.append(
                rows.assign(group=group, covariate=name, sign=sign, measure=measure).join(tests)
            )
    return (
        pd.concat(tables, ignore_index=True)[CORRELATIONS]
        if tables
        else pd.DataFrame(columns=CORRELATIONS)
    ), left_out
