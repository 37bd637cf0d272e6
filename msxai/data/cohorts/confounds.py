"""Confounds: in what else than the disease patients and controls differ, so that a network could tell them apart by it."""

import numpy as np
import pandas as pd
from scipy import stats
from scipy.stats.contingency import association

CATEGORIES = ("site", "scanner", "sex")
NUMBERS = ("age",)
SMD, CRAMER = 0.5, 0.3  # medium effects (Cohen 1988)


def table(cohort_table: pd.DataFrame) -> pd.DataFrame:
    """Describe each group, subject by subject.

    Parameters
    ----------
    cohort_table : pandas.DataFrame
        `Cohort.table`, one row a scan. A subject counts once at each of its sites and scanners; sex and age are those of the first visit.

    Returns
    -------
    pandas.DataFrame
        variable, level ("" for numbers, "missing" for subjects without a value), group, n (subjects), mean, sd (of numbers, years).
        Variables that nobody has are not there. Subjects without a group stand under "unknown".
    """
    rows = []
    for variable in (*CATEGORIES, *NUMBERS):
        subjects = _subjects(cohort_table, variable, once=variable in ("sex", *NUMBERS))
        if subjects[variable].isna().all():
            continue
        for group, members in subjects.groupby("group", sort=True):
            told = members[variable].dropna()
            if variable in NUMBERS:
                rows.append((variable, "", group, len(told), told.mean(), told.std()))
            else:
                rows += [
                    (variable, level, group, count, np.nan, np.nan)
                    for level, count in told.value_counts().sort_index().items()
                ]
            rows.append(
                (variable, "missing", group, int(members[variable].isna().sum()), np.nan, np.nan)
            )
    return pd.DataFrame(rows, columns=["variable", "level", "group", "n", "mean", "sd"])


def balance(cohort_table: pd.DataFrame) -> pd.DataFrame:
    """Test whether patients and controls differ, each subject once, at the first visit.

    Numbers: the standardised mean difference, patients less controls over the root of the mean variance (Austin 2009,
    doi:10.1002/sim.3697), and Welch's t test. Categories: Cramer's V (Cramer 1946) and the chi-squared test without correction.

    Returns
    -------
    pandas.DataFrame
        variable, effect ("SMD" or "Cramer's V"), size, p, n (subjects with a value), note (why it was left out, or how rough it is); one
        row a variable.
    """
    rows = []
    for variable in (*CATEGORIES, *NUMBERS):
        known = _subjects(cohort_table, variable).dropna(subset=["label", variable])
        effect, size, p = "SMD" if variable in NUMBERS else "Cramer's V", np.nan, np.nan
        patients, controls = (known.loc[known["label"] == label, variable] for label in (1, 0))
        if not len(known):
            note = "no subject with a group has it"
        elif min(len(patients), len(controls)) < 2:
            note = f"{len(patients)} patients and {len(controls)} controls have it: at least 2 of each are needed"
        elif known[variable].nunique() < 2:
            note = f"all have the same ({known[variable].iloc[0]})"
        elif variable in NUMBERS:
            spread = np.sqrt((patients.var() + controls.var()) / 2)
            size, note = (
                ((patients.mean() - controls.mean()) / spread, "")
                if spread
                else (np.nan, "no spread within the groups")
            )
            p = stats.ttest_ind(patients, controls, equal_var=False).pvalue if spread else np.nan
        else:
            counts = pd.crosstab(known[variable], known["label"]).to_numpy()
            found = stats.chi2_contingency(counts, correction=False)
            size, p = association(counts, method="cramer"), found.pvalue
            note = "expected counts below 5: p is rough" if found.expected_freq.min() < 5 else ""
        rows.append((variable, effect, size, p, len(known), note))
    return pd.DataFrame(rows, columns=["variable", "effect", "size", "p", "n", "note"])


def warnings(cohort_table: pd.DataFrame) -> list[str]:
    """Say what a network could learn in place of the disease, a sentence each; nothing where one group stands alone.

    Sites and scanners of one group only (by scans), an age difference of |SMD| > .5, categories with Cramer's V > .3, and variables
    that are known of one group only.
    """
    labelled = _subjects(cohort_table, "label").dropna(subset=["label"])
    if labelled["label"].nunique() < 2:
        return []
    said, effects = [], balance(cohort_table).set_index("variable")
    for variable in (*CATEGORIES, *NUMBERS):
        subjects = _subjects(cohort_table, variable, once=False).dropna(subset=["label", variable])
        groups = subjects.groupby("group")["participant_id"].nunique()
        if len(groups) == 1:
            said.append(
                f"{variable} is known of {groups.index[0]} only: whether the groups differ in it cannot be told."
            )
            continue
        if variable in ("site", "scanner"):
            alone = subjects.groupby(variable).filter(lambda rows: rows["label"].nunique() == 1)
            counts = (
                alone.groupby([variable, "group"])["participant_id"]
                .nunique()
                .sort_values(ascending=False, kind="stable")
            )
            if len(counts):
                named = [f"{level} ({count} {group})" for (level, group), count in counts.items()]
                said.append(
                    f"{len(counts)} of {subjects[variable].nunique()} {variable}s have one group only: {', '.join(named[:5])}"
                    + ", ..." * (len(named) > 5)
                    + ". A network can tell the groups by it: match them, leave these out, or hold sites out."
                )
        size, limit = effects.loc[variable, "size"], SMD if variable in NUMBERS else CRAMER
        if abs(size) > limit:
            said.append(
                f"{variable} differs between the groups ({effects.loc[variable, 'effect']} {size:.2f}, beyond {limit})."
            )
    return said


def _subjects(cohort_table: pd.DataFrame, variable: str, once: bool = True) -> pd.DataFrame:
    """participant_id, group, label and the variable: the first visit that tells it, or all that differ."""
    found = cohort_table.sort_values(["participant_id", "session_id"], kind="stable")
    found = found.reindex(
        columns=list(dict.fromkeys(["participant_id", "group", "label", variable]))
    )
    found["group"] = found["group"].fillna("unknown")
    if once:
        return found.groupby("participant_id", as_index=False).first()
    told = found[
        found[variable].notna()
        | ~found["participant_id"].isin(found.loc[found[variable].notna(), "participant_id"])
    ]
    return told.drop_duplicates()
