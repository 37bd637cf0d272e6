"""The tables of regions that 06 writes and 08 reads: relevance, tests, lesions, correlations, and what was left out and why."""

import json

import numpy as np
import pandas as pd

from msxai.base import provenance, tsv
from msxai.regions import region_statistics, regional_relevance
from msxai.regions.regional_relevance import SCAN, Regions, lesions, relevance

TESTS = [
    "test",
    "group",
    "atlas",
    "region",
    "sign",
    "measure",
    "subjects",
    "difference",
    "t",
    "density",
    "random",
    "random_low",
    "random_high",
    "p",
    "p_fwe",
    "p_fdr",
]


def write(
    where,
    prepared,
    table: pd.DataFrame,
    regions: Regions,
    parameters: dict,
    *,
    n=10000,
    randoms=1000,
    seed=0,
) -> dict:
    """Write all tables of regions, what was left out and why (notes.json) and, last, provenance.json.

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
    n, randoms : int
        Permutations of labels; random regions.
    seed : int
        Of both.

    Returns
    -------
    dict
        What was written, by name without ending: relevance (`msxai.regions.regional_relevance.relevance`); tests (`TESTS`: "labels permuted" from
        `msxai.regions.region_statistics.compare`, "random regions" from its `above_random`); lesions (participant_id, session_id, group, label,
        then as `msxai.regions.regional_relevance.lesions`); correlations (its `correlate`); notes: left_out (what to why) and notes (sentences). A table for
        which nothing is there has its columns and no row.
    """
    folder, left_out = where.regions(parameters["variant"]), dict(regions.left_out)
    found, known = relevance(table, regions), table.dropna(subset=["label"])
    if len(known) < len(table):
        left_out["scans without a label"] = (
            f"{len(table) - len(known)} of {len(table)} explained scans are in no comparison of groups"
        )
    compared = region_statistics.compare(found, regions, n, seed)
    if compared.empty:
        left_out["patients against controls"] = (
            "a test asks for two explained subjects of each group"
        )
    against = region_statistics.above_random(table, prepared, regions, randoms, seed)
    if against.empty:
        left_out["random regions"] = "no explained scan has a label"
    tests = pd.concat(
        [
            compared.assign(test="labels permuted"),
            against.assign(test="random regions", measure="density"),
        ]
    )
    cohort = prepared.table.reset_index(drop=True)
    masked = np.flatnonzero(prepared.has_lesions)
    if not len(masked):
        left_out["lesions"] = "no scan has a lesion mask"
    volumes = lesions((prepared.lesions(row) for row in masked), regions)
    volumes = (
        cohort.loc[masked[volumes["scan"].to_numpy(int)], SCAN]
        .reset_index(drop=True)
        .join(volumes.drop(columns="scan"))
    )
    about = {
        name: pd.to_numeric(cohort[name], errors="coerce") if name in cohort else np.nan
        for name in ("age", "edss")
    }
    covariates = cohort[SCAN[:2]].assign(
        **about, **{"lesion volume": prepared.lesion_volumes(range(len(cohort)))}
    )
    correlated, missing = region_statistics.correlate(found, covariates, volumes, regions)
    notes = {"left_out": left_out | missing, "notes": list(regions.notes)}
    tables = {
        "relevance": found,
        "tests": tests.reindex(columns=TESTS),
        "lesions": volumes,
        "correlations": correlated,
    }
    (folder / "provenance.json").unlink(missing_ok=True)
    for name, one in tables.items():
        with provenance.replacing(folder / f"{name}.tsv") as draft:
            one.to_csv(draft, sep="\t", index=False, na_rep="n/a", float_format="%.9g")
    provenance.write_json(folder / "notes.json", notes)
    inputs = [
        where.prepared(parameters["cohort"]),
        where.heatmaps(parameters["variant"]) / "heatmaps.tsv",
    ]
    outputs = [*(folder / f"{name}.tsv" for name in tables), folder / "notes.json"]
    provenance.write_json(
        folder / "provenance.json", provenance.record(parameters, inputs, outputs)
    )
    return {**tables, "notes": notes}


def read(folder) -> dict:
    """Tables and notes as `write` wrote them.

    Parameters
    ----------
    folder : pathlib.Path
        `msxai.base.results.Results.regions` of a variant.

    Returns
    -------
    dict
        relevance, tests, lesions, correlations, permuted (of the tests those of permuted labels), left_out (what to why).
    """
    found = {
        name: tsv.read(folder / f"{name}.tsv")
        for name in ("relevance", "tests", "lesions", "correlations")
    }
    permuted = found["tests"][found["tests"]["test"] == "labels permuted"]
    notes = json.loads((folder / "notes.json").read_text(encoding="utf-8"))
    return {**found, "permuted": permuted, "left_out": notes["left_out"]}


def filled(where, cohort: str, variant: str, known: dict) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Relevance by region of a variant on filled scans, and how far patients' relevance without filling is from it.

    Parameters
    ----------
    where : msxai.base.results.Results
    cohort, variant : str
    known : dict
        `read` of the variant on untouched scans.

    Returns
    -------
    found : pandas.DataFrame
        `msxai.regions.regional_relevance.relevance`, empty where it is left out.
    tests : pandas.DataFrame
        `msxai.regions.region_statistics.changes`.
    reason : str
        Why it is left out.
    """
    reason = _left_out(where, cohort, variant) or known["left_out"].get("tracts", "")
    folder = None if reason else where.require_regions(variant, cohort)[0]
    found = known["relevance"].head(0) if folder is None else read(folder)["relevance"]
    return (
        found,
        region_statistics.changes(known["relevance"], found, regional_relevance.read()),
        reason,
    )


def _left_out(where, cohort: str, variant: str) -> str:
    """Why there are no tables of regions of a variant on filled scans; empty where there are."""
    if (where.regions(variant) / "provenance.json").is_file():
        return ""
    for record in sorted(
        where.prepared(cohort, "noise").parent.parent.glob(f"*/{where.record(cohort).name}")
    ):
        if reason := json.loads(record.read_text(encoding="utf-8"))["left_out"]:
            return f"lesions are not filled, as {reason}."
    return f"06_region_relevance has not run for {variant}."
