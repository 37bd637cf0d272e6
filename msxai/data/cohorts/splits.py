"""Who is trained on, who selects and who is held out: one seeded split of subjects, stratified by diagnosis."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from msxai.base import provenance
from msxai.base.errors import MissingStepError, SplitError
from msxai.base.parameters import one_of

COLUMNS = ("participant_id", "session_id", "part")
PARTS = ("training", "validation", "holdout")


def make(
    table: pd.DataFrame, holdout=(0, 0), validation: float = 0.15, seed: int = 0, holdout_site=()
) -> pd.DataFrame:
    """Split subjects.

    Parameters
    ----------
    table : pandas.DataFrame
        A cohort's table: participant_id, session_id, label (1 patient, 0 control, NA unknown). Its order does not matter.
    holdout : pair of numbers
        Controls and patients held out: counts, or shares where below 1. A cohort to be tested on alone may be held out whole; one
        without any label always is.
    validation : float
        Share of each group's other subjects that selects the best weights; at least one subject where above 0.
    seed : int
    holdout_site : str or sequence of str
        Sites held out whole, in place of `holdout`: every subject with a scan there, with all scans. Subjects whose
        site is unknown count as from elsewhere. None by default.

    Returns
    -------
    pandas.DataFrame
        participant_id, session_id, part; all scans of a subject in one part, subjects without a label in "holdout".

    Raises
    ------
    SplitError
        A group has too few subjects, a subject has two labels, holdout or validation is no such number, or no site is known.
    ParameterError
        A site that the table does not have (with the nearest one).
    """
    numbers = [
        isinstance(held, (int, float)) and 0 <= held < np.inf and (held < 1 or held == int(held))
        for held in holdout
    ]
    if len(numbers) != 2 or not all(numbers):
        raise SplitError(
            "parameter holdout",
            str(holdout),
            "two numbers: whole ones, or shares below 1",
            "Give controls, then patients.",
        )
    if not 0 <= validation < 1:
        raise SplitError(
            "parameter validation",
            str(validation),
            "a share from 0 to below 1",
            "The demo's is 0.15.",
        )
    subjects = table[["participant_id", "label"]].drop_duplicates().sort_values("participant_id")
    twice = subjects.loc[subjects["participant_id"].duplicated(), "participant_id"]
    if len(twice):
        raise SplitError(
            f"participant {twice.iloc[0]}",
            "two labels",
            "one label a subject",
            "Mend the group column of the table.",
        )
    rng, parts = np.random.default_rng(seed), dict.fromkeys(subjects["participant_id"], "holdout")
    groups = [
        rng.permutation(
            subjects.loc[subjects["label"].eq(label).fillna(False), "participant_id"].to_numpy(str)
        )
        for label in (0, 1)
    ]
    sites = (
        [holdout_site][: bool(holdout_site)]
        if isinstance(holdout_site, str)
        else list(holdout_site)
    )
    if sites:  # the members of these sites last, where the holdout is cut off
        away = _at_sites(table, sites)
        groups = [group[np.argsort(np.isin(group, away), kind="stable")] for group in groups]
        holdout = [int(np.isin(group, away).sum()) for group in groups]
    counts = [
        round(held * len(group)) if held < 1 else int(held)
        for held, group in zip(holdout, groups, strict=True)
    ]
    whole = not any(map(len, groups)) or (
        not sites and all(held == len(group) for held, group in zip(counts, groups, strict=True))
    )
    for label, (group, held) in enumerate(zip(groups, counts, strict=True)):
        if whole or not held + len(group):
            continue
        rest = len(group) - held
        selecting = max(1, round(validation * rest)) if validation else 0
        if rest <= selecting:
            raise SplitError(
                f"parameters {'holdout_site' if sites else 'holdout'}, validation",
                f"{len(group)} subjects with label {label}"
                + f", {held} of them at {', '.join(sites)}" * bool(sites),
                f"more than {held + selecting} of them",
                "Hold fewer out (holdout takes shares below 1 too), or bring more subjects.",
            )
        for part, members in zip(PARTS, np.split(group, [rest - selecting, rest]), strict=True):
            parts.update(dict.fromkeys(members, part))
    split = table[["participant_id", "session_id"]].assign(part=table["participant_id"].map(parts))
    return split.sort_values(["participant_id", "session_id"], ignore_index=True)


def fold(
    table: pd.DataFrame, number: int, folds: int, validation: float = 0.15, seed: int = 0
) -> pd.DataFrame:
    """Split subjects for one fold of a cross-validation: its fold is the holdout, and selects nothing.

    Parameters
    ----------
    table, validation, seed
        As in `make`; the same seed for all folds.
    number, folds : int
        Which fold, from 0; of how many.

    Returns
    -------
    pandas.DataFrame
        As from `make`. Over all folds each labelled subject is held out once.

    Raises
    ------
    SplitError
        No such fold, or more folds than a group has subjects; and as in `make`.
    """
    subjects = (
        table[["participant_id", "label"]]
        .drop_duplicates()
        .dropna()
        .sort_values("participant_id", ignore_index=True)
    )
    fewest = int(subjects["label"].value_counts().reindex([0, 1], fill_value=0).min())
    if not 2 <= folds <= fewest or not 0 <= number < folds:
        found = f"fold {number} of {folds}, with {fewest} subjects in the smaller group"
        raise SplitError(
            "parameters fold, folds",
            found,
            "2 folds or more, none without both groups",
            "Count folds from 0, or take fewer.",
        )
    parts = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(
        subjects, subjects["label"].astype(int), subjects.index
    )
    held = subjects["participant_id"].iloc[list(parts)[number][1]]
    rest = make(table[~table["participant_id"].isin(held)], (0, 0), validation, seed)
    away = table.loc[table["participant_id"].isin(held), ["participant_id", "session_id"]].assign(
        part="holdout"
    )
    return pd.concat([rest, away]).sort_values(["participant_id", "session_id"], ignore_index=True)


def _at_sites(table: pd.DataFrame, sites: list[str]) -> list[str]:
    """Subjects with a scan at one of the sites."""
    known = table["site"].dropna() if "site" in table else []
    if not len(known):
        raise SplitError(
            "column site",
            "no site of any subject",
            "the site of each scan",
            "Add the column, or leave holdout_site empty.",
        )
    for site in sites:
        one_of("holdout_site", site, sorted(set(known)))
    return list(table.loc[table["site"].isin(sites), "participant_id"].unique())


def check(split: pd.DataFrame, where="split") -> pd.DataFrame:
    """Return `split` where every subject stands in one known part.

    Raises
    ------
    SplitError
        A column is missing, a subject has two parts, a scan stands twice, or a part is unknown.
    """
    lacking = [column for column in COLUMNS if column not in split]
    if lacking:
        raise SplitError(
            f"{where}, column {lacking[0]}",
            "no such column",
            ", ".join(COLUMNS),
            "Run 01_data_preparation again.",
        )
    unknown = split.loc[~split["part"].isin(PARTS), "part"]
    if len(unknown):
        raise SplitError(
            f"{where}, column part",
            repr(unknown.iloc[0]),
            f"one of {', '.join(PARTS)}",
            "Run 01_data_preparation again.",
        )
    sides = split.groupby("participant_id")["part"].unique()
    for subject, found in sides[sides.map(len) > 1].items():
        raise SplitError(
            f"{where}, {subject}",
            f"a subject in {' and '.join(sorted(found))}",
            "each subject in one part",
            "Its scans would be trained and tested on: run 01_data_preparation again.",
        )
    twice = split.loc[split.duplicated(["participant_id", "session_id"]), "participant_id"]
    if len(twice):
        raise SplitError(
            f"{where}, {twice.iloc[0]}",
            "a scan that stands twice",
            "each scan once",
            "Run 01_data_preparation again.",
        )
    return split


def write(split: pd.DataFrame, path) -> None:
    """Write a split as TSV, all or nothing, after `check`."""
    with provenance.replacing(path) as draft:
        check(split).to_csv(draft, sep="\t", index=False)


def read(path) -> pd.DataFrame:
    """Read and `check` a split.

    Raises
    ------
    MissingStepError
        No such file.
    SplitError
        See `check`.
    """
    if not Path(path).is_file():
        raise MissingStepError(
            provenance.relative(path),
            "no such file",
            "the split of a cohort",
            "Run 01_data_preparation first.",
        )
    try:
        split = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except ValueError as error:  # not a table, not text
        raise SplitError(
            provenance.relative(path),
            f"no table ({error})",
            "a split",
            "Run 01_data_preparation again.",
        ) from error
    return check(split, provenance.relative(path))
