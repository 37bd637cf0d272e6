"""The order of a person's visits: by age where it is known, and else by the names of sessions."""

import re

import pandas as pd

__all__ = ["in_order"]

# Names of the first visits, without "ses-" and the phase of ADNI, in order
_SCREENING = re.compile(r"(adni)?\d?_?(sc|scmri|screening)")
_BASELINE = re.compile(r"(adni)?\d?_?(bl|baseline)")


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows by person and visit, the earliest visit of a person first.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a scan: participant_id and, if known, session_id and age. The ages of a person
        decide where all visits have one. Else, and between visits of one age, the names of the
        sessions do: screening (sc) and baseline (bl) first, numbers by their value.

    Returns
    -------
    pandas.DataFrame

    Examples
    --------
    >>> table = pd.DataFrame({"participant_id": "sub-1", "session_id": ["ses-10", "ses-9"]})
    >>> in_order(table)["session_id"].tolist()
    ['ses-9', 'ses-10']
    """
    people = table["participant_id"]
    columns = table.reindex(columns=["session_id", "age"])
    sessions = columns["session_id"].fillna("").astype(str)
    ages = pd.to_numeric(columns["age"], errors="coerce")
    has_all_ages = ages.notna().groupby(people).transform("all")
    names = sorted(set(sessions), key=_order_of_name)
    ranks = {name: rank for rank, name in enumerate(names)}
    order = pd.DataFrame(
        {
            "participant_id": people.to_numpy(),
            "age": ages.where(has_all_ages).to_numpy(),
            "rank": sessions.map(ranks).to_numpy(),
        }
    )
    order = order.sort_values(["participant_id", "age", "rank"], kind="stable")
    return table.iloc[order.index]


def _order_of_name(session: str) -> tuple:
    """Return what sorts the names of sessions: first visits first, then numbers by their value."""
    name = session.casefold().removeprefix("ses-")
    if _SCREENING.fullmatch(name):
        phase = 0
    elif _BASELINE.fullmatch(name):
        phase = 1
    else:
        phase = 2
    parts: list[tuple] = []
    for part in re.findall(r"[0-9]+|[^0-9]+", name):
        digits = part.lstrip("0")
        # A longer number is larger. Numbers come before letters.
        parts.append((0, len(digits), digits) if part.isdecimal() else (1, 0, part))
    return phase, parts, session
