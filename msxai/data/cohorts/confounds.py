"""Confounds: differences between patients and controls other than the disease.

A network could distinguish the groups by them.
"""

import numpy as np
import pandas as pd
from scipy import stats
from scipy.stats.contingency import association

from msxai.data.cohorts import visits

__all__ = ["CRAMER", "SMD", "balance", "table", "warnings"]

SMD = 0.5
"""Standardised mean difference from which `warnings` warns: a medium effect (Cohen 1988)."""

CRAMER = 0.3
"""Cramer's V from which `warnings` warns: a medium effect (Cohen 1988)."""

_CATEGORIES = ("site", "scanner", "sex")
_NUMBERS = ("age",)
_FIRST_VISIT_ONLY = ("sex", *_NUMBERS)
_LISTED = 5  # sites or scanners named in a warning
_TABLE_COLUMNS = ["variable", "level", "group", "n", "mean", "sd"]
_BALANCE_COLUMNS = ["variable", "effect", "size", "p", "n", "note"]


def table(cohort_table: pd.DataFrame) -> pd.DataFrame:
    """Describe each group, subject by subject.

    Parameters
    ----------
    cohort_table : pandas.DataFrame
        `Cohort.table`, one row a scan. A subject counts once at each of its sites and scanners; sex
        and age are those of the first visit (`msxai.data.cohorts.visits.in_order`).

    Returns
    -------
    pandas.DataFrame
        variable, level ("" for numbers, "missing" for subjects without a value), group, n
        (subjects), mean, sd (of numbers, years). Variables that nobody has are left out. Subjects
        without a group have the group "unknown".
    """
    rows = []
    for variable in (*_CATEGORIES, *_NUMBERS):
        if variable in _FIRST_VISIT_ONLY:
            subjects = _first_values(cohort_table, variable)
        else:
            subjects = _all_values(cohort_table, variable)
        if subjects[variable].isna().all():
            continue
        for group, members in subjects.groupby("group", sort=True):
            rows += _describe(variable, group, members[variable])
    return pd.DataFrame(rows, columns=_TABLE_COLUMNS)


def balance(cohort_table: pd.DataFrame) -> pd.DataFrame:
    """Test whether patients and controls differ, each subject once, at the first visit.

    Numbers: the standardised mean difference, patients minus controls over the root of the mean
    variance (Austin 2009, doi:10.1002/sim.3697), and Welch's t test. Categories: Cramer's V
    (Cramer 1946) and the chi-squared test without correction.

    Parameters
    ----------
    cohort_table : pandas.DataFrame
        `Cohort.table`, one row a scan.

    Returns
    -------
    pandas.DataFrame
        One row a variable: variable, effect ("SMD" or "Cramer's V"), size, p, n (subjects with a
        value), note (why there is no test, or why p is rough).
    """
    rows = []
    for variable in (*_CATEGORIES, *_NUMBERS):
        subjects = _first_values(cohort_table, variable).dropna(subset=["label", variable])
        effect = "SMD" if variable in _NUMBERS else "Cramer's V"
        size, p, note = _compare(subjects, variable)
        rows.append((variable, effect, size, p, len(subjects), note))
    return pd.DataFrame(rows, columns=_BALANCE_COLUMNS)


def warnings(cohort_table: pd.DataFrame) -> list[str]:
    """Describe what a network could learn instead of the disease, a sentence each.

    Sites and scanners of one group only (by scans), an age difference of |SMD| > 0.5, categories
    with Cramer's V > 0.3, and variables that are known of one group only. Nothing for a cohort of
    one group.

    Parameters
    ----------
    cohort_table : pandas.DataFrame
        `Cohort.table`, one row a scan.

    Returns
    -------
    list of str
    """
    labelled = _first_values(cohort_table, "label").dropna(subset=["label"])
    if labelled["label"].nunique() < 2:
        return []
    sentences = []
    effects = balance(cohort_table).set_index("variable")
    for variable in (*_CATEGORIES, *_NUMBERS):
        subjects = _all_values(cohort_table, variable).dropna(subset=["label", variable])
        if subjects["label"].nunique() == 1:
            groups = " and ".join(subjects["group"].unique())
            sentences.append(
                f"{variable} is known of {groups} only: "
                "whether the groups differ in it cannot be told."
            )
            continue
        if variable in ("site", "scanner"):
            sentences += _one_group_only(subjects, variable)
        effect = effects.loc[variable, "effect"]
        size = effects.loc[variable, "size"]
        limit = SMD if variable in _NUMBERS else CRAMER
        if abs(size) > limit:
            sentences.append(
                f"{variable} differs between the groups ({effect} {size:.2f}, beyond {limit})."
            )
    return sentences


def _describe(variable: str, group: str, values: pd.Series) -> list[tuple]:
    """Return the rows of `table` for one group."""
    present = values.dropna()
    rows = []
    if variable in _NUMBERS:
        rows.append((variable, "", group, len(present), present.mean(), present.std()))
    else:
        counts = present.value_counts().sort_index()
        for level, count in counts.items():
            rows.append((variable, level, group, count, np.nan, np.nan))
    n_missing = len(values) - len(present)
    rows.append((variable, "missing", group, n_missing, np.nan, np.nan))
    return rows


def _compare(subjects: pd.DataFrame, variable: str) -> tuple[float, float, str]:
    """Return size of the effect, p and a note."""
    reason = _untestable(subjects, variable)
    if reason:
        return np.nan, np.nan, reason
    if variable in _NUMBERS:
        return _difference_of_means(subjects, variable)
    return _association(subjects, variable)


def _untestable(subjects: pd.DataFrame, variable: str) -> str:
    """Return why the groups cannot be compared, or nothing."""
    if subjects.empty:
        return "no subject with a group has it"
    n_patients = int((subjects["label"] == 1).sum())
    n_controls = int((subjects["label"] == 0).sum())
    if min(n_patients, n_controls) < 2:
        groups = f"{n_patients} patients and {n_controls} controls"
        return f"{groups} have it: at least 2 of each are needed"
    if subjects[variable].nunique() < 2:
        return f"all have the same ({subjects[variable].iloc[0]})"
    return ""


def _difference_of_means(subjects: pd.DataFrame, variable: str) -> tuple[float, float, str]:
    """Return the standardised mean difference, p and a note."""
    patients = subjects.loc[subjects["label"] == 1, variable]
    controls = subjects.loc[subjects["label"] == 0, variable]
    spread = np.sqrt((patients.var() + controls.var()) / 2)
    if not spread:
        return np.nan, np.nan, "no spread within the groups"
    size = (patients.mean() - controls.mean()) / spread
    p = stats.ttest_ind(patients, controls, equal_var=False).pvalue
    return size, p, ""


def _association(subjects: pd.DataFrame, variable: str) -> tuple[float, float, str]:
    """Return Cramer's V, p and a note."""
    counts = pd.crosstab(subjects[variable], subjects["label"]).to_numpy()
    test = stats.chi2_contingency(counts, correction=False)
    size = association(counts, method="cramer")
    note = "expected counts below 5: p is rough" if test.expected_freq.min() < 5 else ""
    return size, test.pvalue, note


def _one_group_only(subjects: pd.DataFrame, variable: str) -> list[str]:
    """Return a warning that names the sites or scanners with one group only, or none."""
    n_labels = subjects.groupby(variable)["label"].transform("nunique")
    alone = subjects[n_labels == 1].groupby([variable, "group"])
    counts = alone["participant_id"].nunique().sort_values(ascending=False, kind="stable")
    if counts.empty:
        return []
    levels = [f"{level} ({count} {group})" for (level, group), count in counts.items()]
    listed = ", ".join(levels[:_LISTED])
    if len(levels) > _LISTED:
        listed += ", ..."
    total = subjects[variable].nunique()
    return [
        f"{len(counts)} of {total} {variable}s have one group only: {listed}. "
        "A network can tell the groups by it: match them, leave these out, or hold sites out."
    ]


def _first_values(cohort_table: pd.DataFrame, variable: str) -> pd.DataFrame:
    """Return one row a subject, with the variable at the first visit that has it."""
    return _values(cohort_table, variable).groupby("participant_id", as_index=False).first()


def _all_values(cohort_table: pd.DataFrame, variable: str) -> pd.DataFrame:
    """Return one row for each different value of a subject, or one without a value."""
    values = _values(cohort_table, variable)
    has_value = values[variable].notna()
    with_value = values.loc[has_value, "participant_id"]
    without_value = ~values["participant_id"].isin(with_value)
    return values[has_value | without_value].drop_duplicates()


def _values(cohort_table: pd.DataFrame, variable: str) -> pd.DataFrame:
    """Return participant_id, group, label and the variable of each scan."""
    scans = visits.in_order(cohort_table)
    columns = list(dict.fromkeys(["participant_id", "group", "label", variable]))
    values = scans.reindex(columns=columns)
    return values.assign(group=values["group"].fillna("unknown"))
