"""Relevance and lesions region by region: grey-matter areas, white-matter tracts, McDonald zones.

Relevance is counted three ways, never mixed: positive, negative, and net, which is their sum. The original called net relevance positive.
"""

import json
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from . import atlases, evaluation, images, integrity, permutation
from .errors import MissingAtlasError

SIGNS = ("net", "positive", "negative")
MEASURES = ("sum", "density", "share")
CHUNK = 16  # maps in memory at a time
VOXEL = abs(float(np.linalg.det(images.AFFINE[:3, :3])))  # mm3
SCAN = ["participant_id", "session_id", "group", "label"]
PAPER_AREAS = 69
GROUPS = {1: "patients", 0: "controls"}
FEWEST = 5  # subjects that a correlation asks for
REGION_VOLUME = "lesion volume of the region"
TESTS = ["test", "group", "atlas", "region", "sign", "measure", "subjects", "difference", "t", "density", "random", "random_low",
         "random_high", "p", "p_fwe", "p_fdr"]  # fmt: skip
CORRELATIONS = ["group", "covariate", "atlas", "region", "sign", "measure", "n", "r", "low", "high", "p", "p_fdr"]


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
        See `msxai.atlases.jhu`.
    """
    found, left_out = {}, {}
    for name, open_atlas in ("areas", atlases.neuromorphometrics), ("tracts", lambda: atlases.jhu(jhu)), ("zones", atlases.zones):
        try:
            found[name] = open_atlas()
        except MissingAtlasError as error:
            left_out[name] = str(error)
    regions = combine({name: (atlas.grouped, atlas.groups) for name, atlas in found.items()})
    regions.left_out, regions.notes = left_out, [note for atlas in found.values() for note in atlas.notes]
    areas = (regions.table["atlas"] == "areas").sum()
    if areas:
        regions.notes.append(f"{areas} grey-matter areas of Neuromorphometrics without side; the paper counts {PAPER_AREAS} areas.")
    return regions


def combine(parts: dict) -> Regions:
    """Regions of several label maps.

    Parameters
    ----------
    parts : dict
        Atlas to (grouped, groups) as `msxai.atlases.Atlas` has them. Of "areas" the grey-matter ones are kept.
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
        `msxai.heatmaps.read`: participant_id, session_id, group, label, path. A map of another space is brought onto the model's grid.
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
        both["net"], total["net"] = both["positive"] + both["negative"], total["positive"] - total["negative"]
        for sign in SIGNS:
            share = both[sign] / np.where(total[sign] == 0, 1, np.abs(total[sign]))[:, None]
            with np.errstate(invalid="ignore"):
                density = both[sign] / regions.table["voxels"].to_numpy()
            rows = scans[SCAN].loc[scans.index.repeat(len(regions.table))].reset_index(drop=True)
            names = pd.concat([regions.table[["atlas", "region"]]] * len(scans), ignore_index=True)
            tables.append(rows.join(names).assign(sign=sign, sum=both[sign].ravel(), density=density.ravel(), share=share.ravel()))
    return pd.concat(tables, ignore_index=True)


def lesions(masks, regions: Regions, names=("tracts", "zones")) -> pd.DataFrame:
    """Lesion volume in each region, and how many lesions touch it.

    A lesion is a connected component (26 neighbours); it counts for every zone that it touches (see `msxai.atlases.zones`).

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
        number, count = ndimage.label(mask, np.ones((3, 3, 3)))
        here = number.ravel()[regions.voxels]
        inside = here > 0
        volume = np.bincount(regions.codes[inside], minlength=len(regions.table)) * VOXEL
        pairs = np.unique(regions.codes[inside] * (count + 1) + here[inside]) // (count + 1)
        touched = np.bincount(pairs, minlength=len(regions.table))
        tables.append(regions.table.loc[kept, ["atlas", "region"]].assign(scan=scan, volume=volume[kept], lesions=touched[kept]))
    columns = ["scan", "atlas", "region", "volume", "lesions"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def by_subject(table: pd.DataFrame, value: str, regions: Regions, atlas: str) -> tuple[pd.DataFrame, np.ndarray]:
    """A value as a matrix of subjects and the regions of one atlas; visits of a subject are averaged.

    Returns
    -------
    people : pandas.DataFrame
        participant_id, label, in the order of the rows.
    values : ndarray of shape (subjects, regions)
    """
    names = regions.table.loc[regions.table["atlas"] == atlas, "region"]
    rows = table[table["atlas"] == atlas]
    wide = rows.pivot_table(value, ["participant_id", "label"], "region", "mean", sort=True)[list(names)]
    return wide.index.to_frame(index=False), wide.to_numpy()


def compare(found: pd.DataFrame, regions: Regions, n: int = 10000, seed: int = 0) -> pd.DataFrame:
    """Patients against controls in every region: label permutation of subjects, max-T over the regions of an atlas.

    Parameters
    ----------
    found : pandas.DataFrame
        `relevance`; scans without a label are left out.
    regions : Regions
    n, seed
        See `msxai.permutation.two_groups`.

    Returns
    -------
    pandas.DataFrame
        atlas, region, sign, measure (sum, share; density differs from the sum by a constant, and its p is the same), subjects, then as
        `msxai.permutation.two_groups`. A family is all regions of one atlas, sign and measure. Empty where a group has fewer than two.
    """
    tables, known = [], found.dropna(subset=["label"])
    enough = min(known.groupby("label")["participant_id"].nunique().reindex([0, 1], fill_value=0)) >= 2
    for atlas in dict.fromkeys(regions.table["atlas"]) if enough else ():
        for sign in SIGNS:
            for measure in ("sum", "share"):
                people, values = by_subject(known[known["sign"] == sign], measure, regions, atlas)
                labels = people["label"].to_numpy(int)
                names = regions.table.loc[regions.table["atlas"] == atlas, ["atlas", "region"]].reset_index(drop=True)
                tests = permutation.two_groups(values, labels, n, seed)
                tables.append(names.assign(sign=sign, measure=measure, subjects=len(people)).join(tests))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["atlas", "region", "sign", "measure"])


def changes(found: pd.DataFrame, others: pd.DataFrame, regions: Regions, n: int = 10000, seed: int = 0) -> pd.DataFrame:
    """Two variants on the same patients, for instance with lesions and with the lesions filled: paired, max-T over an atlas's regions.

    Parameters
    ----------
    found, others : pandas.DataFrame
        `relevance` of each; patients that are in one only are left out.
    regions : Regions
    n, seed
        See `msxai.permutation.paired`.

    Returns
    -------
    pandas.DataFrame
        atlas, region, sign, subjects, then as `msxai.permutation.paired` on the sums, `found` less `others`. Empty for fewer than two.
    """
    tables, both = [], set(found.loc[found["label"] == 1, "participant_id"]) & set(others["participant_id"])
    kinds = product(dict.fromkeys(regions.table["atlas"]), SIGNS) if len(both) >= 2 else ()
    for atlas, sign in kinds:
        sides = [one[(one["sign"] == sign) & one["participant_id"].isin(both)] for one in (found, others)]
        (people, with_), (_, without) = (by_subject(one, "sum", regions, atlas) for one in sides)
        names = regions.table.loc[regions.table["atlas"] == atlas, ["atlas", "region"]].reset_index(drop=True)
        tables.append(names.assign(sign=sign, subjects=len(people)).join(permutation.paired(with_ - without, n, seed)))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["atlas", "region", "sign", "subjects", "p_fwe"])


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
        far = ((places - places[rng.integers(len(places))]) ** 2).sum(1).astype("int16")  # at most 31,428: sorted by radix
        nearest = np.argsort(far, kind="stable")[: sizes.max()]
        drawn[row] = np.cumsum(inside[:, nearest], axis=1)[:, sizes - 1] / sizes
    density = sums(maps, regions) / sizes
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    found = {"density": density, "random": drawn.mean(0), "random_low": low, "random_high": high,
             "p": (1 + (drawn >= density).sum(0)) / (n + 1)}  # fmt: skip
    names = pd.concat([table[["atlas", "region"]].assign(map=number) for number in range(len(maps))], ignore_index=True)
    return names.assign(**{name: array.ravel() for name, array in found.items()})


def mean_maps(table: pd.DataFrame) -> dict:
    """Mean net and mean positive relevance of patients and of controls; each subject counts once, however many visits it has.

    Parameters
    ----------
    table : pandas.DataFrame
        As in `relevance`; scans without a label are left out.

    Returns
    -------
    dict
        (group, sign), a value of `GROUPS` and "net" or "positive", to an ndarray of shape (96, 114, 96), float64.
    """
    found = {}
    for label, scans in table.dropna(subset=["label"]).groupby("label"):
        visits = scans.groupby("participant_id")["path"].transform("size")
        for path, weight in zip(scans["path"], 1 / (visits * scans["participant_id"].nunique()), strict=True):
            values = images.to_grid(images.load(path))
            for sign, part in ("net", values), ("positive", np.maximum(values, 0)):
                key = GROUPS[int(label)], sign
                found[key] = found.get(key, 0) + weight * part.astype(float)
    return found


def above_random(table: pd.DataFrame, prepared, regions: Regions, n: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Hold the mean maps of patients and of controls against random regions of equal volume (`mean_maps`, `volume_matched`).

    Parameters
    ----------
    table : pandas.DataFrame
        As in `relevance`.
    prepared : msxai.prepared.Prepared
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
    brain, means = sum(prepared.brain(row).astype("int32") for row in rows) * 2 >= len(rows), mean_maps(table)
    if not means:
        return pd.DataFrame()
    found = volume_matched(np.stack(list(means.values())), brain, regions, n, seed)
    keys = np.array(list(means))[found.pop("map")]
    families = found.groupby([*keys.T, "atlas"])["p"]
    return found.assign(group=keys[:, 0], sign=keys[:, 1], p_fdr=families.transform(lambda p: stats.false_discovery_control(p.to_numpy())))


def correlate(found: pd.DataFrame, covariates: pd.DataFrame, volumes: pd.DataFrame, regions: Regions) -> tuple[pd.DataFrame, dict]:
    """Relevance of each region against each covariate and against the region's own lesion volume, within patients and within controls.

    Within a group, as between the groups both differ, and would correlate by that alone.

    Parameters
    ----------
    found : pandas.DataFrame
        `relevance`.
    covariates : pandas.DataFrame
        participant_id, session_id and a column of numbers a covariate, NaN where unknown; visits of a subject are averaged.
    volumes : pandas.DataFrame
        participant_id, label, atlas, region, volume: `lesions` with its scans named. Empty without masks.
    regions : Regions

    Returns
    -------
    table : pandas.DataFrame
        `CORRELATIONS`: Spearman's, see `msxai.permutation.correlations`; a family of p_fdr is the regions of an atlas.
    left_out : dict
        "covariate, group" to the reason.
    """
    tables, left_out = [], {}
    names = [name for name in covariates if name not in ("participant_id", "session_id")]
    scans = found[["participant_id", "session_id"]].drop_duplicates()
    known = scans.merge(covariates, on=["participant_id", "session_id"]).groupby("participant_id")[names].mean()
    kinds = [(atlas, sign, measure) for atlas in dict.fromkeys(regions.table["atlas"]) for sign in SIGNS for measure in ("sum", "share")]
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
            others[REGION_VOLUME] = pd.DataFrame(volume, masked["participant_id"]).reindex(people["participant_id"]).to_numpy()
        rows = regions.table.loc[regions.table["atlas"] == atlas, ["atlas", "region"]].reset_index(drop=True)
        for name, other in others.items():
            subjects = int(np.isfinite(other.reshape(len(other), -1)).any(axis=1).sum())
            if subjects < FEWEST:
                left_out[f"{name}, {group}"] = f"known of {subjects} explained {group}, and a correlation asks for {FEWEST}"
                continue
            tests = permutation.correlations(values, other)
            tables.append(rows.assign(group=group, covariate=name, sign=sign, measure=measure).join(tests))
    return (pd.concat(tables, ignore_index=True)[CORRELATIONS] if tables else pd.DataFrame(columns=CORRELATIONS)), left_out


def write(where, prepared, table: pd.DataFrame, regions: Regions, parameters: dict, *, n=10000, randoms=1000, seed=0) -> dict:
    """Write all tables of regions, what was left out and why (notes.json) and, last, provenance.json.

    Parameters
    ----------
    where : msxai.results.Results
    prepared : msxai.prepared.Prepared
        Of the explained cohort: lesion masks (of all its scans), age, EDSS.
    table : pandas.DataFrame
        Which scans are explained, `msxai.heatmaps.read`.
    regions : Regions
    parameters : dict
        The notebook's; `cohort` and `variant` say where the results are.
    n, randoms : int
        Permutations of labels; random regions.
    seed : int
        Of both.

    Returns
    -------
    dict
        What was written, by name without ending: relevance (`relevance`), tests (`TESTS`: "labels permuted" from `compare`, "random
        regions" from `above_random`), lesions (participant_id, session_id, group, label, then as `lesions`), correlations (`correlate`);
        notes: left_out (what to why) and notes (sentences). A table for which nothing is there has its columns and no row.
    """
    folder, left_out = where.regions(parameters["variant"]), dict(regions.left_out)
    found, known = relevance(table, regions), table.dropna(subset=["label"])
    if len(known) < len(table):
        left_out["scans without a label"] = f"{len(table) - len(known)} of {len(table)} explained scans are in no comparison of groups"
    compared = compare(found, regions, n, seed)
    if compared.empty:
        left_out["patients against controls"] = "a test asks for two explained subjects of each group"
    against = above_random(table, prepared, regions, randoms, seed)
    if against.empty:
        left_out["random regions"] = "no explained scan has a label"
    tests = pd.concat([compared.assign(test="labels permuted"), against.assign(test="random regions", measure="density")])
    cohort = prepared.table.reset_index(drop=True)
    masked = np.flatnonzero(prepared.has_lesions)
    if not len(masked):
        left_out["lesions"] = "no scan has a lesion mask"
    volumes = lesions((prepared.lesions(row) for row in masked), regions)
    volumes = cohort.loc[masked[volumes["scan"].to_numpy(int)], SCAN].reset_index(drop=True).join(volumes.drop(columns="scan"))
    about = {name: pd.to_numeric(cohort[name], errors="coerce") if name in cohort else np.nan for name in ("age", "edss")}
    covariates = cohort[SCAN[:2]].assign(**about, **{"lesion volume": evaluation.lesion_volumes(prepared, range(len(cohort)))})
    correlated, missing = correlate(found, covariates, volumes, regions)
    notes = {"left_out": left_out | missing, "notes": list(regions.notes)}
    tables = {"relevance": found, "tests": tests.reindex(columns=TESTS), "lesions": volumes, "correlations": correlated}
    (folder / "provenance.json").unlink(missing_ok=True)
    for name, one in tables.items():
        with integrity.replacing(folder / f"{name}.tsv") as draft:
            one.to_csv(draft, sep="\t", index=False, na_rep="n/a", float_format="%.9g")
    integrity.write_json(folder / "notes.json", notes)
    inputs = [where.prepared(parameters["cohort"]), where.heatmaps(parameters["variant"]) / "heatmaps.tsv"]
    outputs = [*(folder / f"{name}.tsv" for name in tables), folder / "notes.json"]
    integrity.write_json(folder / "provenance.json", integrity.provenance(parameters, inputs, outputs))
    return {**tables, "notes": notes}


def read_tables(folder) -> dict:
    """Tables and notes as `write` wrote them.

    Parameters
    ----------
    folder : pathlib.Path
        `msxai.results.Results.regions` of a variant.

    Returns
    -------
    dict
        relevance, tests, lesions, correlations, permuted (of the tests those of permuted labels), left_out (what to why).
    """
    found = {name: evaluation.read_table(folder, name) for name in ("relevance", "tests", "lesions", "correlations")}
    permuted = found["tests"][found["tests"]["test"] == "labels permuted"]
    notes = json.loads((folder / "notes.json").read_text(encoding="utf-8"))
    return {**found, "permuted": permuted, "left_out": notes["left_out"]}
