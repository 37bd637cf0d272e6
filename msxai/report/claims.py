"""The paper's claims, each put to one test on saved tables: it holds only where an interval lies clear of the null."""

import numpy as np
import pandas as pd
from scipy import stats

from msxai.base import statistics, tsv
from msxai.evaluation import comparison

HOLDS, FAILS, UNSURE, UNTESTED = "holds", "does not hold", "cannot be told", "not tested"
ENOUGH = 5  # subjects of a group: with fewer, intervals that rest on large samples (DeLong's, Student's) are none
LESIONAL = "Posterior corona radiata", "Corpus callosum", "Posterior thalamic radiation"
MOVED = "Corpus callosum", "Fornix", "External capsule"
THALAMUS = "Thalamus Proper"  # as Neuromorphometrics has it
COLUMNS = ["claim", "quantity", "subjects", "null", "value", "low", "high", "verdict", "reason"]


class Untested(Exception):
    """What a claim needs is not there; the message says what."""


def verdict(low: float, high: float, null: float = 0.0) -> str:
    """Whether a quantity is above `null`: the one place where a claim is decided.

    Parameters
    ----------
    low, high : float
        Interval of the quantity. Without an interval, or one without width (no variance), nothing can be told.
    null : float
        What the quantity would be if there were nothing to claim.

    Returns
    -------
    str
        "holds" (the whole interval lies above), "does not hold" (the whole interval lies below), "cannot be told".
    """
    if not np.isfinite([low, high]).all() or np.isclose(low, high, rtol=1e-6, atol=0):
        return UNSURE
    return HOLDS if low > null else FAILS if high < null else UNSURE


def read(where, variant: str = "pretrained", filled: str = "lesion-filled") -> dict:
    """All saved tables that claims are decided on; an empty one for each that is not there.

    Parameters
    ----------
    where : msxai.base.results.Results
    variant, filled : str
        The network whose relevance is looked at, and the one trained on lesion-filled scans.
    """
    names = (
        "scores",
        "scores_further",
        "comparison",
        "predictions",
        "predictions_further",
        "left_out",
    )
    found = {name: tsv.read(where.evaluation() / f"{name}.tsv") for name in names}
    found |= {
        name: tsv.read(where.regions(variant) / f"{name}.tsv")
        for name in ("relevance", "tests", "lesions")
    }
    found["relevance_filled"] = tsv.read(where.regions(filled) / "relevance.tsv")
    found["league"] = tsv.read(where.quality(variant) / "league.tsv")
    return found | {"variant": variant, "filled": filled}


def table(found: dict, level: float = 0.95) -> pd.DataFrame:
    """Put every claim to its test.

    Parameters
    ----------
    found : dict
        From `read`.
    level : float
        Coverage of each claim's interval; regions that one claim names share what is left of 1 (Bonferroni).

    Returns
    -------
    pandas.DataFrame
        claim, quantity, subjects, null, value, low, high, verdict (see `verdict`, or "not tested"), reason.
    """
    rows = []
    for claim, function in CLAIMS.items():
        try:
            rows += [
                {"claim": claim} | row | {"verdict": verdict(row["low"], row["high"], row["null"])}
                for row in function(found, level)
            ]
        except Untested as reason:
            rows.append({"claim": claim, "verdict": UNTESTED, "reason": str(reason)})
    return pd.DataFrame(rows).reindex(columns=COLUMNS).fillna({"reason": "", "quantity": ""})


def _area(found: dict, level: float, variant: str = "", reference: str = "") -> list:
    """AUC of a variant, or its paired difference to another, as 04_evaluation saved it; on further subjects where there are any."""
    compared, variant = found["comparison"], variant or found["variant"]
    if compared.empty:
        raise Untested("no evaluation/comparison.tsv: 04_evaluation has not run.")
    measure = "auc_difference" if reference else "auc"
    kept = (
        (compared["variant"] == variant)
        & (compared["measure"] == measure)
        & (compared["reference"] == reference)
    )
    rows = compared[kept].dropna(subset=["value"])
    if rows.empty:
        there = set(compared["variant"])
        missing = [name for name in (variant, reference) if name and name not in there]
        raise Untested(
            f"no results of {' and '.join(missing)}." if missing else "too few subjects of a group."
        )
    row = rows.iloc[int((rows["part"] == "further").argmax())]
    if min(row["patients"], row["controls"]) < ENOUGH:
        raise Untested(f"fewer than {ENOUGH} subjects of a group.")
    return [
        _row(
            f"AUC of {variant}" + (f" less that of {reference}" if reference else ""),
            row["patients"] + row["controls"],
            (row["value"], row["low"], row["high"]),
            0.0 if reference else 0.5,
            f"{row['part']} subjects",
        )
    ]


def _filling_costs(found: dict, level: float) -> list:
    pair = [found["variant"], found["filled"]]
    for part in ("predictions_further", "predictions"):
        rows = found[part]
        if not rows.empty and set(pair) <= set(rows["variant"]):
            both = rows[rows["variant"].isin(pair)]
            compared = comparison.table(both, references=(found["filled"],), level=level)
            name = "further" if part.endswith("further") else "holdout"
            return _area(
                {**found, "comparison": compared.assign(part=name)},
                level,
                reference=found["filled"],
            )
    raise Untested(f"no predictions of {' and '.join(pair)}.")


def _on_lesions(found: dict, level: float) -> list:
    league = found["league"]
    rows = league[league["map"] == "epsilon"] if "auprc_difference" in league else league
    if rows.empty:
        raise Untested(
            "no quality league.tsv with a baseline: 07_explanation_quality has not run, or there are no lesion masks."
        )
    row = rows.iloc[0]
    interval = [row[f"auprc_difference{end}"] for end in ("", "_low", "_high")]
    quantity = f"area under the precision-recall curve less that of the best reference map ({row['auprc_strongest']})"
    return [_row(quantity, row["subjects"], interval, 0.0, "patients with lesions")]


def _follows_lesions(found: dict, level: float) -> list:
    """What tracts have in common in all patients is taken out first: large tracts hold more of everything."""
    dense, volumes = _lesioned(found)
    dense, volumes = (values - values.mean() for values in (dense, volumes))
    varies = (volumes.nunique(axis=1) > 1) & (dense.nunique(axis=1) > 1)
    ranks = [
        stats.spearmanr(dense.loc[name], volumes.loc[name]).statistic
        for name in dense.index[varies]
    ]
    quantity = "rank correlation over tracts of a patient's positive relevance per voxel with lesion volume, both above the patients' mean"
    row = _mean(quantity, ranks, level, "patients")
    return [
        row | {end: float(np.clip(row[end], -1, 1)) for end in ("low", "high")}
    ]  # Student's t knows no bounds


def _lesional_tracts(found: dict, level: float) -> list:
    rows = []
    for region in LESIONAL:
        patients, controls = (
            _wide(found["relevance"], "density", label)[region] for label in (1, 0)
        )
        _enough(patients, controls)
        test = stats.ttest_ind(patients, controls, equal_var=False)
        bounds = test.confidence_interval(1 - (1 - level) / len(LESIONAL))
        quantity = f"{region}: positive relevance per voxel, patients less controls"
        rows.append(
            _row(
                quantity,
                len(patients) + len(controls),
                (patients.mean() - controls.mean(), *bounds),
            )
        )
    return rows


def _sound_tissue(found: dict, level: float) -> list:
    """Tracts in which a patient has no lesion, against the same tracts of controls; both groups are drawn anew."""
    dense, volumes = _lesioned(found)
    controls = _wide(found["relevance"], "density", 0, dense.columns)
    free = (volumes == 0).to_numpy()
    kept = free.any(axis=1)
    _enough(dense[kept], controls)
    share = free[kept] / free[kept].sum(axis=1, keepdims=True)
    own, other = (share * dense[kept].to_numpy()).sum(axis=1), controls.to_numpy()
    weights = statistics.bootstrap_weights(np.repeat([1, 0], [len(own), len(other)]), 0)
    first, second = weights[:, : len(own)] / len(own), weights[:, len(own) :] / len(other)
    drawn = first @ own - ((first @ share) * (second @ other)).sum(axis=1)
    bounds = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    value = own.mean() - (share.mean(0) * other.mean(0)).sum()
    quantity = "positive relevance per voxel in tracts where a patient has no lesion, less that of controls in the same tracts"
    return [_row(quantity, len(own) + len(other), (value, *bounds))]


def _thalamus(found: dict, level: float) -> list:
    areas = _wide(found["relevance"], "density", 1, [THALAMUS], "areas")
    others = _wide(found["relevance"], "density", 1, None, "areas").drop(columns=THALAMUS)
    differences = areas[THALAMUS] - others.mean(axis=1)
    return [
        _mean(
            "positive relevance per voxel of the thalamus less the mean of the other grey-matter areas",
            differences,
            level,
            "patients",
        )
    ]


def _moved(found: dict, level: float) -> list:
    if found["relevance_filled"].empty:
        raise Untested(
            f"no regions tables of {found['filled']}: 06_region_relevance has not run for it."
        )
    rows = []
    for region in MOVED:
        after, before = (
            _wide(found[name], "share", 1)[region] for name in ("relevance_filled", "relevance")
        )
        quantity = (
            f"{region}: share of positive relevance, {found['filled']} less {found['variant']}"
        )
        rows.append(
            _mean(quantity, (after - before).dropna(), 1 - (1 - level) / len(MOVED), "patients")
        )
    return rows


def _wide(
    relevance: pd.DataFrame, value: str, label: int, names=None, atlas: str = "tracts"
) -> pd.DataFrame:
    """Positive relevance, subjects by regions; visits of a subject are averaged."""
    if relevance.empty:
        raise Untested("no regions tables: 06_region_relevance has not run.")
    rows = relevance[
        (relevance["atlas"] == atlas)
        & (relevance["sign"] == "positive")
        & (relevance["label"] == label)
    ]
    if rows.empty:
        there = atlas in set(relevance["atlas"])
        raise Untested(
            "no subject of a group."
            if there
            else f"no {atlas} in the regions tables: their atlas is not here."
        )
    wide = rows.pivot_table(value, "participant_id", "region")
    names = list(wide.columns if names is None else names) + (
        list({*LESIONAL, *MOVED}) if atlas == "tracts" and names is None else []
    )
    missing = sorted(set(names) - set(wide.columns))
    if missing:
        raise Untested(f"no region {', '.join(missing)} in the regions tables.")
    return wide[list(dict.fromkeys(names))]


def _lesioned(found: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Positive relevance per voxel, and lesion volume (mm3), of the same patients and tracts."""
    dense, lesions = _wide(found["relevance"], "density", 1), found["lesions"]
    rows = (
        lesions[(lesions["atlas"] == "tracts") & lesions["participant_id"].isin(dense.index)]
        if len(lesions)
        else lesions
    )
    if rows.empty:
        raise Untested("no lesion volumes of tracts: no scan has a lesion mask.")
    volumes = (
        rows.pivot_table("volume", "participant_id", "region")
        .reindex(columns=dense.columns)
        .dropna()
    )
    _enough(volumes)
    return dense.loc[volumes.index], volumes


def _enough(*groups) -> None:
    if min(map(len, groups)) < ENOUGH:
        raise Untested(f"fewer than {ENOUGH} subjects of a group.")


def _mean(quantity: str, values, level: float, who: str) -> dict:
    """Mean over subjects with Student's interval, against 0."""
    _enough(values)
    bounds = stats.ttest_1samp(values, 0).confidence_interval(level)
    return _row(quantity, len(values), (np.mean(values), *bounds), 0.0, who)


def _row(quantity: str, subjects: float, interval, null: float = 0.0, who: str = "") -> dict:
    value, low, high = map(float, interval)
    return {
        "quantity": quantity + (f"; {who}" if who else ""),
        "subjects": int(subjects),
        "null": null,
        "value": value,
        "low": low,
        "high": high,
    }


CLAIMS = {
    "The network tells patients from controls.": _area,
    "Pre-training on Alzheimer's disease helps.": lambda found, level: _area(
        found, level, reference="scratch"
    ),
    "The network tells more than lesion load alone.": lambda found, level: _area(
        found, level, reference="lesion load"
    ),
    "With the lesions filled, a network still tells patients from controls.": lambda found, level: (
        _area(found, level, found["filled"])
    ),
    "With the lesions filled, a network tells less.": _filling_costs,
    "Relevance lies on individual lesions.": _on_lesions,
    "Lesion location matters: relevance follows the lesions from tract to tract.": _follows_lesions,
    "Lesion location matters: the tracts that the paper names.": _lesional_tracts,
    "White matter without lesions carries relevance.": _sound_tissue,
    "The thalamus carries relevance.": _thalamus,
    "With the lesions filled, relevance moves to other tracts.": _moved,
}
