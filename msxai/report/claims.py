"""The paper's claims, each tested once on saved tables."""

from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from msxai.base import statistics, tsv
from msxai.evaluation import comparison

__all__ = [
    "CLAIMS",
    "CLAIMS_OF_BEST",
    "FAILS",
    "HOLDS",
    "MOVED",
    "PAPERS_RULE",
    "UNSURE",
    "UNTESTED",
    "Untested",
    "read",
    "table",
    "verdict",
]

HOLDS = "holds"
FAILS = "does not hold"
UNSURE = "cannot be told"
UNTESTED = "not tested"
ENOUGH = 5  # subjects of a group: intervals that rest on large samples are not valid with fewer
LESIONAL = ("Posterior corona radiata", "Corpus callosum", "Posterior thalamic radiation")
MOVED = ("Corpus callosum", "Fornix", "External capsule")
PAPERS_RULE = "epsilon"
SMOOTHGRAD = "smoothgrad"
THALAMUS = "Thalamus Proper"  # its name in Neuromorphometrics
COLUMNS = ["claim", "quantity", "subjects", "null", "value", "low", "high", "verdict", "reason"]


class Untested(Exception):
    """Raised where a claim cannot be tested; the message says what is missing."""


@dataclass(frozen=True)
class _Result:
    """What was measured for a claim, on how many subjects, and its value without an effect."""

    quantity: str
    subjects: int
    null: float
    value: float
    low: float
    high: float


def verdict(low: float, high: float, null: float = 0.0) -> str:
    """Decide whether a quantity is above `null`: every claim is decided here.

    Parameters
    ----------
    low, high : float
        Interval of the quantity. Nothing can be told without an interval, or from one without
        width (no variance).
    null : float
        Value of the quantity without any effect.

    Returns
    -------
    str
        "holds" (the whole interval lies above), "does not hold" (the whole interval lies below) or
        "cannot be told".

    Examples
    --------
    >>> verdict(0.51, 0.9, null=0.5)
    'holds'
    >>> verdict(0.45, 0.9, null=0.5)
    'cannot be told'
    """
    is_finite = np.isfinite(low) and np.isfinite(high)
    if not is_finite or np.isclose(low, high, rtol=1e-6, atol=0):
        return UNSURE
    if low > null:
        return HOLDS
    if high < null:
        return FAILS
    return UNSURE


def read(
    where, variant: str = "pretrained", filled: str = "lesion-filled", rule: str = PAPERS_RULE
) -> dict:
    """Read all saved tables that claims are decided on.

    Parameters
    ----------
    where : msxai.base.results.Results
        The results folder.
    variant, filled : str
        The network whose relevance is tested, and the one trained on lesion-filled scans. Empty:
        there is none.
    rule : str
        The rule of the maps that are compared with lesions.

    Returns
    -------
    dict
        Name to table, an empty one for each that does not exist; ``variant``, ``filled`` and
        ``rule``.
    """
    tables = {"variant": variant, "filled": filled, "rule": rule}
    evaluated = ["scores", "comparison", "predictions"]
    for name in [*evaluated, "scores_further", "predictions_further", "left_out"]:
        tables[name] = tsv.read(where.evaluation() / f"{name}.tsv")
    for name in ("relevance", "tests", "lesions"):
        tables[name] = _table_of(where.regions, variant, name)
    tables["relevance_filled"] = _table_of(where.regions, filled, "relevance")
    tables["league"] = _table_of(where.quality, variant, "league")
    tables["quality_scores"] = _table_of(where.quality, variant, "scores")
    return tables


def _table_of(folder, variant: str, name: str) -> pd.DataFrame:
    """Read a table from the folder that a variant has, if there is such a variant."""
    if not variant:
        return pd.DataFrame()
    return tsv.read(folder(variant) / f"{name}.tsv")


def table(tables: dict, level: float = 0.95, tests: dict | None = None) -> pd.DataFrame:
    """Test every claim.

    Parameters
    ----------
    tables : dict
        From `read`.
    level : float
        Coverage of each claim's interval. Regions that one claim names share 1 - level
        (Bonferroni).
    tests : dict, optional
        `CLAIMS` by default, or `CLAIMS_OF_BEST`.

    Returns
    -------
    pandas.DataFrame
        claim, quantity, subjects, null, value, low, high, verdict (see `verdict`, or "not
        tested"), reason. One row a quantity.
    """
    rows = []
    for claim, test in (CLAIMS if tests is None else tests).items():
        try:
            results = test(tables, level)
        except Untested as reason:
            rows.append({"claim": claim, "verdict": UNTESTED, "reason": str(reason)})
            continue
        for result in results:
            decided = verdict(result.low, result.high, result.null)
            rows.append({"claim": claim, "verdict": decided, **asdict(result)})
    claimed = pd.DataFrame(rows).reindex(columns=COLUMNS)
    return claimed.fillna({"reason": "", "quantity": ""})


def _auc(tables: dict, level: float) -> list[_Result]:
    return [_auc_of(tables["comparison"], tables["variant"])]


def _auc_minus(tables: dict, level: float, reference: str) -> list[_Result]:
    return [_auc_of(tables["comparison"], tables["variant"], reference)]


def _auc_of_filled(tables: dict, level: float) -> list[_Result]:
    return [_auc_of(tables["comparison"], tables["filled"])]


def _auc_of(compared: pd.DataFrame, variant: str, reference: str = "") -> _Result:
    """AUC of a network or its paired difference to another, on further subjects where possible."""
    if compared.empty:
        raise Untested("no evaluation/comparison.tsv: 04_evaluation has not run.")
    measure = "auc_difference" if reference else "auc"
    is_asked = (
        (compared["variant"] == variant)
        & (compared["measure"] == measure)
        & (compared["reference"] == reference)
    )
    rows = compared[is_asked].dropna(subset=["value"])
    if rows.empty:
        raise Untested(_missing_results(compared, [variant, reference]))
    is_further = (rows["part"] == "further").to_numpy()
    row = rows.iloc[is_further.argmax()]
    if min(row["patients"], row["controls"]) < ENOUGH:
        raise Untested(f"fewer than {ENOUGH} subjects of a group.")
    quantity = f"AUC of {variant}"
    if reference:
        quantity += f" minus that of {reference}"
    interval = row["value"], row["low"], row["high"]
    n_subjects = row["patients"] + row["controls"]
    null = 0.0 if reference else 0.5
    return _result(f"{quantity}; {row['part']} subjects", n_subjects, interval, null)


def _missing_results(compared: pd.DataFrame, names: list[str]) -> str:
    present = set(compared["variant"])
    missing = [name for name in names if name and name not in present]
    if missing:
        return f"no results of {' and '.join(missing)}."
    return "too few subjects of a group."


def _filling_costs(tables: dict, level: float) -> list[_Result]:
    variant = tables["variant"]
    filled = tables["filled"]
    for part in ("further", "holdout"):
        name = "predictions_further" if part == "further" else "predictions"
        predictions = tables[name]
        if predictions.empty or not {variant, filled} <= set(predictions["variant"]):
            continue
        both = predictions[predictions["variant"].isin([variant, filled])]
        compared = comparison.table(both, references=(filled,), level=level)
        return [_auc_of(compared.assign(part=part), variant, filled)]
    raise Untested(f"no predictions of {variant} and {filled}.")


def _on_lesions(tables: dict, level: float) -> list[_Result]:
    """The chance level of relevance mass accuracy is the lesions' share of the brain."""
    scores = _of_patients_with_lesions(tables, ["rma", "prevalence", "positive"])
    own = scores[scores["map"] == tables["rule"]]
    # Tables before 2026-11-27 have no value for a map without positive relevance.
    mass = own["rma"].mask(own["positive"] == 0, 0.0)
    above_chance = mass - own["prevalence"]
    by_patient = above_chance.groupby(own["participant_id"]).mean()
    quantity = (
        "share of positive relevance that lies in lesions, minus the lesions' share of the brain; "
        "patients with lesions"
    )
    return [_mean(quantity, by_patient, level)]


def _better_than_references(tables: dict, level: float) -> list[_Result]:
    """The strongest reference map is the one with the highest mean of the same patients."""
    scores = _of_patients_with_lesions(tables, ["auprc", "kind"])
    by_patient = scores.pivot_table("auprc", "participant_id", "map")
    references = scores.loc[scores["kind"] == "baseline", "map"].unique()
    if not len(references):
        raise Untested("no reference map in quality/scores.tsv of 07_explanation_quality.")
    strongest = by_patient[references].mean().idxmax()
    differences = by_patient[tables["rule"]] - by_patient[strongest]
    quantity = (
        "area under the precision-recall curve minus that of the strongest reference map "
        f"({strongest}); patients with lesions"
    )
    return [_mean(quantity, differences.dropna(), level)]


def _better_than_smoothgrad(tables: dict, level: float) -> list[_Result]:
    """What Siegel et al. 2025 (arXiv:2508.02560) deny: they find SmoothGrad right, LRP not."""
    scores = _of_patients_with_lesions(tables, ["auprc"])
    by_patient = scores.pivot_table("auprc", "participant_id", "map")
    if SMOOTHGRAD not in by_patient:
        raise Untested(
            "no map of smoothgrad: add it to `methods` of 07_explanation_quality. "
            "On 100 simulated patients: make proof-artefact."
        )
    differences = by_patient[tables["rule"]] - by_patient[SMOOTHGRAD]
    quantity = (
        "area under the precision-recall curve minus that of SmoothGrad; patients with lesions"
    )
    return [_mean(quantity, differences.dropna(), level)]


def _of_patients_with_lesions(tables: dict, columns: list[str]) -> pd.DataFrame:
    """Scores of maps against lesions, rows of patients with a lesion in the mask."""
    scores = tables["quality_scores"]
    if scores.empty:
        raise Untested("no quality/scores.tsv: 07_explanation_quality has not run.")
    needed = {"map", "participant_id", "label", "lesion_voxels", *columns}
    missing = sorted(needed - set(scores.columns))
    if missing:
        raise Untested(
            f"no column {', '.join(missing)} in quality/scores.tsv. Either no scan had a lesion "
            "mask, or an earlier version wrote the table: run 07_explanation_quality again."
        )
    is_wanted = (scores["label"] == 1) & (scores["lesion_voxels"] > 0)
    scores = scores[is_wanted]
    rule = tables["rule"]
    if rule not in set(scores["map"]):
        raise Untested(f"no map of {rule} of a patient with lesions in quality/scores.tsv.")
    return scores


def _follows_lesions(tables: dict, level: float) -> list[_Result]:
    """What tracts have in common in all patients is removed: large tracts have more of both."""
    density, volumes = _lesioned(tables)
    density = density - density.mean()
    volumes = volumes - volumes.mean()
    correlations = []
    for patient in density.index:
        own_density = density.loc[patient]
        own_volumes = volumes.loc[patient]
        if own_density.nunique() > 1 and own_volumes.nunique() > 1:
            rank = stats.spearmanr(own_density, own_volumes)
            correlations.append(rank.statistic)
    quantity = (
        "rank correlation over tracts of a patient's positive relevance per voxel with lesion "
        "volume, both minus the patients' mean; patients"
    )
    result = _mean(quantity, correlations, level)
    bounds = np.clip([result.low, result.high], -1, 1)  # Student's interval has no bounds
    return [_result(quantity, result.subjects, (result.value, *bounds))]


def _lesional_tracts(tables: dict, level: float) -> list[_Result]:
    patients = _positive(tables["relevance"], "density", label=1)
    controls = _positive(tables["relevance"], "density", label=0)
    _require_enough(patients, controls)
    shared_level = 1 - (1 - level) / len(LESIONAL)
    results = []
    for region in LESIONAL:
        test = stats.ttest_ind(patients[region], controls[region], equal_var=False)
        bounds = test.confidence_interval(shared_level)
        difference = patients[region].mean() - controls[region].mean()
        quantity = f"{region}: positive relevance per voxel, patients minus controls"
        n_subjects = len(patients) + len(controls)
        results.append(_result(quantity, n_subjects, (difference, *bounds)))
    return results


def _tissue_without_lesions(tables: dict, level: float) -> list[_Result]:
    """Tracts in which a patient has no lesion, against the same tracts of controls.

    The bootstrap draws both groups anew.
    """
    density, volumes = _lesioned(tables)
    controls = _positive(tables["relevance"], "density", label=0)
    _require_regions(controls, density.columns)
    controls = controls[density.columns].to_numpy()
    is_free = (volumes == 0).to_numpy()
    has_free = is_free.any(axis=1)
    patients = density[has_free].to_numpy()
    _require_enough(patients, controls)
    n_patients = len(patients)
    n_controls = len(controls)
    n_free = is_free[has_free].sum(axis=1, keepdims=True)
    share = is_free[has_free] / n_free
    own = (share * patients).sum(axis=1)
    strata = np.repeat([1, 0], [n_patients, n_controls])
    weights = statistics.bootstrap_weights(strata, 0)
    patient_weights = weights[:, :n_patients] / n_patients
    control_weights = weights[:, n_patients:] / n_controls
    resampled_own = patient_weights @ own
    resampled_tracts = (patient_weights @ share) * (control_weights @ controls)
    resampled = resampled_own - resampled_tracts.sum(axis=1)
    bounds = statistics.percentile_interval(resampled, level)
    expected = (share.mean(axis=0) * controls.mean(axis=0)).sum()
    quantity = (
        "positive relevance per voxel in tracts where a patient has no lesion, minus that of "
        "controls in the same tracts"
    )
    return [_result(quantity, n_patients + n_controls, (own.mean() - expected, *bounds))]


def _thalamus(tables: dict, level: float) -> list[_Result]:
    areas = _positive(tables["relevance"], "density", label=1, atlas="areas")
    other_areas = areas.drop(columns=THALAMUS)
    differences = areas[THALAMUS] - other_areas.mean(axis=1)
    quantity = (
        "positive relevance per voxel of the thalamus minus the mean of the other grey-matter "
        "areas; patients"
    )
    return [_mean(quantity, differences, level)]


def _moved(tables: dict, level: float) -> list[_Result]:
    filled = tables["filled"]
    if tables["relevance_filled"].empty:
        raise Untested(f"no regions tables of {filled}: 06_region_relevance has not run for it.")
    after = _positive(tables["relevance_filled"], "share", label=1)
    before = _positive(tables["relevance"], "share", label=1)
    shared_level = 1 - (1 - level) / len(MOVED)
    results = []
    for region in MOVED:
        differences = (after[region] - before[region]).dropna()
        quantity = (
            f"{region}: share of positive relevance, {filled} minus {tables['variant']}; patients"
        )
        results.append(_mean(quantity, differences, shared_level))
    return results


def _positive(
    relevance: pd.DataFrame, value: str, *, label: int, atlas: str = "tracts"
) -> pd.DataFrame:
    """Positive relevance, subjects by regions; visits of a subject are averaged."""
    if relevance.empty:
        raise Untested("no regions tables: 06_region_relevance has not run.")
    rows = relevance[
        (relevance["atlas"] == atlas)
        & (relevance["sign"] == "positive")
        & (relevance["label"] == label)
    ]
    if rows.empty and atlas in set(relevance["atlas"]):
        raise Untested("no subject of a group.")
    if rows.empty:
        raise Untested(f"no {atlas} in the regions tables: their atlas is not here.")
    wide = rows.pivot_table(value, "participant_id", "region")
    needed = {*LESIONAL, *MOVED} if atlas == "tracts" else {THALAMUS}
    _require_regions(wide, needed)
    return wide


def _require_regions(wide: pd.DataFrame, needed) -> None:
    missing = sorted(set(needed) - set(wide.columns))
    if missing:
        raise Untested(f"no region {', '.join(missing)} in the regions tables.")


def _lesioned(tables: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Positive relevance per voxel and lesion volume (mm³) of the same patients and tracts."""
    density = _positive(tables["relevance"], "density", label=1)
    lesions = tables["lesions"]
    if len(lesions):
        is_patient = lesions["participant_id"].isin(density.index)
        lesions = lesions[(lesions["atlas"] == "tracts") & is_patient]
    if lesions.empty:
        raise Untested("no lesion volumes of tracts: no scan has a lesion mask.")
    volumes = lesions.pivot_table("volume", "participant_id", "region")
    volumes = volumes.reindex(columns=density.columns).dropna()
    _require_enough(volumes)
    return density.loc[volumes.index], volumes


def _require_enough(*groups) -> None:
    smallest = min(len(group) for group in groups)
    if smallest < ENOUGH:
        raise Untested(f"fewer than {ENOUGH} subjects of a group.")


def _mean(quantity: str, values, level: float) -> _Result:
    """Mean over subjects with Student's interval, against 0."""
    _require_enough(values)
    test = stats.ttest_1samp(values, 0)
    bounds = test.confidence_interval(level)
    return _result(quantity, len(values), (np.mean(values), *bounds))


def _result(quantity: str, n_subjects: float, interval, null: float = 0.0) -> _Result:
    """Result from an interval: value, low, high."""
    value, low, high = interval
    return _Result(
        quantity=quantity,
        subjects=int(n_subjects),
        null=null,
        value=float(value),
        low=float(low),
        high=float(high),
    )


CLAIMS = {
    "The network distinguishes patients from controls.": _auc,
    "Pre-training on Alzheimer's disease helps.": partial(_auc_minus, reference="scratch"),
    "The network knows more than lesion load alone.": partial(_auc_minus, reference="lesion load"),
    "With the lesions filled, a network distinguishes patients from controls.": _auc_of_filled,
    "With the lesions filled, a network is less accurate.": _filling_costs,
    "Relevance lies on individual lesions.": _on_lesions,
    "Relevance marks lesions better than brightness and other reference maps do.": (
        _better_than_references
    ),
    "Relevance marks lesions better than SmoothGrad does.": _better_than_smoothgrad,
    "Lesion location matters: relevance follows the lesions from tract to tract.": _follows_lesions,
    "Lesion location matters: the tracts that the paper names.": _lesional_tracts,
    "White matter without lesions carries relevance.": _tissue_without_lesions,
    "The thalamus carries relevance.": _thalamus,
    "With the lesions filled, relevance moves to other tracts.": _moved,
}

CLAIMS_OF_BEST = {
    "The network distinguishes patients from controls.": _auc,
    "This pre-training helps.": partial(_auc_minus, reference="scratch"),
    "The network knows more than lesion load alone.": partial(_auc_minus, reference="lesion load"),
    "Relevance lies on individual lesions.": _on_lesions,
    "Relevance marks lesions better than brightness and other reference maps do.": (
        _better_than_references
    ),
    "Relevance marks lesions better than SmoothGrad does.": _better_than_smoothgrad,
}
"""What is tested of a variant whose networks see lesions, as it is of the paper's."""
