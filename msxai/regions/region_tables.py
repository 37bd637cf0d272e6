"""The tables of regions that 06 writes and 08 reads.

Relevance, tests, lesions, correlations, and what was left out and why.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from msxai.base import provenance, tsv
from msxai.regions import region_statistics, regional_relevance
from msxai.regions.regional_relevance import SCAN, Regions

__all__ = ["TESTS", "Draws", "filled", "read", "write"]

TESTS = [
    *("test", "group", "atlas", "region", "sign", "measure", "subjects", "difference", "t"),
    *("density", "random", "random_low", "random_high", "p", "p_fwe", "p_fdr"),
]
"""Columns of the table of tests."""

_PERMUTED = "labels permuted"
_NAMES = ("relevance", "tests", "lesions", "correlations")


@dataclass(frozen=True)
class Draws:
    """How often the tests draw.

    Attributes
    ----------
    permutations : int
        Of the labels of patients and controls.
    random_regions : int
        Of equal volume, that each region is compared with.
    seed : int
        Of both.
    """

    permutations: int = 10000
    random_regions: int = 1000
    seed: int = 0


def write(
    where,
    prepared,
    table: pd.DataFrame,
    regions: Regions,
    parameters: dict,
    draws: Draws | None = None,
) -> dict:
    """Write all tables of regions, what was left out and why (notes.json), and provenance.json.

    Parameters
    ----------
    where : msxai.base.results.Results
    prepared : msxai.data.prepared.Prepared
        Of the explained cohort: lesion masks (of all its scans), age, EDSS.
    table : pandas.DataFrame
        Which scans are explained, `msxai.lrp.heatmaps.read`.
    regions : Regions
    parameters : dict
        The notebook's; `cohort` and `variant` say where the results are.
    draws : Draws, optional

    Returns
    -------
    dict
        What was written, by name without ending:

        - relevance: `msxai.regions.regional_relevance.relevance`;
        - tests: `TESTS`, "labels permuted" from `msxai.regions.region_statistics.compare` and
          "random regions" from its `above_random`;
        - lesions: participant_id, session_id, group, label, then as
          `msxai.regions.regional_relevance.lesions`;
        - correlations: from `msxai.regions.region_statistics.correlate`;
        - notes: left_out (what to why) and notes (sentences).

        A table for which nothing is there has its columns and no row.
    """
    draws = draws or Draws()
    left_out = dict(regions.left_out)
    without_label = int(table["label"].isna().sum())
    if without_label:
        left_out["scans without a label"] = (
            f"{without_label} of {len(table)} explained scans are in no comparison of groups"
        )
    relevance = regional_relevance.relevance(table, regions)
    tests = _tests(relevance, table, prepared, regions, draws, left_out)
    if not prepared.has_lesions.any():
        left_out["lesions"] = "no scan has a lesion mask"
    volumes = _lesion_volumes(prepared, regions)
    covariates = _covariates(prepared)
    correlations, uncorrelated = region_statistics.correlate(
        relevance, covariates, volumes, regions
    )
    tables = {
        "relevance": relevance,
        "tests": tests,
        "lesions": volumes,
        "correlations": correlations,
    }
    notes = {"left_out": left_out | uncorrelated, "notes": list(regions.notes)}
    _save(where, tables, notes, parameters)
    return {**tables, "notes": notes}


def _tests(relevance, table, prepared, regions, draws: Draws, left_out: dict) -> pd.DataFrame:
    """Return the table of tests; add to `left_out` what cannot be tested."""
    groups = region_statistics.compare(relevance, regions, draws.permutations, draws.seed)
    if groups.empty:
        reason = "a test asks for two explained subjects of each group"
        left_out["patients against controls"] = reason
    random = region_statistics.above_random(
        table, prepared, regions, n=draws.random_regions, seed=draws.seed
    )
    if random.empty:
        left_out["random regions"] = "no explained scan has a label"
    groups = groups.assign(test=_PERMUTED)
    random = random.assign(test="random regions", measure="density")
    return pd.concat([groups, random]).reindex(columns=TESTS)


def _lesion_volumes(prepared, regions: Regions) -> pd.DataFrame:
    """Return lesion volumes of all scans that have a mask, with the scans named."""
    rows = np.flatnonzero(prepared.has_lesions)
    masks = (prepared.lesions(row) for row in rows)
    volumes = regional_relevance.lesions(masks, regions)
    row_of_each = rows[volumes.pop("scan").to_numpy(int)]
    scans = prepared.table.reset_index(drop=True).loc[row_of_each, SCAN]
    return scans.reset_index(drop=True).join(volumes)


def _covariates(prepared) -> pd.DataFrame:
    """Return age, EDSS and lesion volume of all scans; NaN where unknown."""
    cohort = prepared.table.reset_index(drop=True)
    covariates = cohort[["participant_id", "session_id"]].copy()
    for name in ("age", "edss"):
        covariates[name] = np.nan
        if name in cohort:
            covariates[name] = pd.to_numeric(cohort[name], errors="coerce")
    covariates["lesion volume"] = prepared.lesion_volumes(range(len(cohort)))
    return covariates


def _save(where, tables: dict, notes: dict, parameters: dict) -> None:
    """Write tables and notes and, last, the record."""
    folder = where.regions(parameters["variant"])
    record_path = folder / "provenance.json"
    record_path.unlink(missing_ok=True)
    outputs = []
    for name, table in tables.items():
        path = tsv.write(table, folder / f"{name}.tsv", float_format="%.9g")
        outputs.append(path)
    notes_path = folder / "notes.json"
    provenance.write_json(notes_path, notes)
    inputs = [
        where.prepared(parameters["cohort"]),
        where.heatmaps(parameters["variant"]) / "heatmaps.tsv",
    ]
    record = provenance.record(parameters, inputs, [*outputs, notes_path])
    provenance.write_json(record_path, record)


def read(folder) -> dict:
    """Read tables and notes as `write` wrote them.

    Parameters
    ----------
    folder : pathlib.Path
        `msxai.base.results.Results.regions` of a variant.

    Returns
    -------
    dict
        relevance, tests, lesions, correlations, permuted (of the tests those of permuted labels),
        left_out (what to why).
    """
    tables = {name: tsv.read(folder / f"{name}.tsv") for name in _NAMES}
    tests = tables["tests"]
    notes = provenance.read(folder / "notes.json")
    tables["permuted"] = tests[tests["test"] == _PERMUTED]
    tables["left_out"] = notes["left_out"]
    return tables


def filled(
    where, cohort: str, variant: str, untouched: dict
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Compare relevance by region on untouched scans with that of a variant on filled scans.

    Parameters
    ----------
    where : msxai.base.results.Results
    cohort, variant : str
        The variant is that on filled scans, or empty.
    untouched : dict
        `read` of the variant on untouched scans.

    Returns
    -------
    relevance : pandas.DataFrame
        `msxai.regions.regional_relevance.relevance` on filled scans, empty where it is left out.
    tests : pandas.DataFrame
        `msxai.regions.region_statistics.changes`.
    reason : str
        Why it is left out; empty where it is not.
    """
    reason = _left_out(where, cohort, variant) or untouched["left_out"].get("tracts", "")
    if reason:
        relevance = untouched["relevance"].head(0)
    else:
        folder, _ = where.require_regions(variant, cohort)
        relevance = read(folder)["relevance"]
    regions = regional_relevance.read()
    tests = region_statistics.changes(untouched["relevance"], relevance, regions)
    return relevance, tests, reason


def _left_out(where, cohort: str, variant: str) -> str:
    """Say why there are no tables of a variant on filled scans; empty where there are."""
    if variant and (where.regions(variant) / "provenance.json").is_file():
        return ""
    name = where.record(cohort).name
    fillings = where.prepared(cohort, "noise").parent.parent
    for path in sorted(fillings.glob(f"*/{name}")):
        reason = provenance.read(path)["left_out"]
        if reason:
            return f"lesions are not filled, as {reason}."
    if not variant:
        return "the profile has no variant on scans with filled lesions."
    return f"06_region_relevance has not run for {variant}."
