"""Who is trained on, who selects and who is held out: one seeded split of subjects, stratified by diagnosis."""

import numpy as np
import pandas as pd

from . import integrity
from .errors import SplitError

PARTS = ("training", "validation", "holdout")


def make(table: pd.DataFrame, holdout=(0, 0), validation: float = 0.15, seed: int = 0) -> pd.DataFrame:
    """Split subjects.

    Parameters
    ----------
    table : pandas.DataFrame
        A cohort's table: participant_id, session_id, label (1 patient, 0 control, NA unknown). Its order does not matter.
    holdout : pair of numbers
        Controls and patients held out: counts, or shares where below 1.
    validation : float
        Share of each group's other subjects that selects the best weights; at least one subject where above 0.
    seed : int

    Returns
    -------
    pandas.DataFrame
        participant_id, session_id, part; all scans of a subject in one part, subjects without a label in "holdout".

    Raises
    ------
    SplitError
        A group has too few subjects, or a subject has two labels.
    """
    subjects = table[["participant_id", "label"]].drop_duplicates().sort_values("participant_id")
    twice = subjects.loc[subjects["participant_id"].duplicated(), "participant_id"]
    if len(twice):
        raise SplitError(f"participant {twice.iloc[0]}", "two labels", "one label a subject", "Mend the group column of participants.tsv.")
    rng, parts = np.random.default_rng(seed), dict.fromkeys(subjects["participant_id"], "holdout")
    for label, held in enumerate(holdout):
        group = rng.permutation(subjects.loc[subjects["label"].eq(label).fillna(False), "participant_id"].to_numpy(str))
        held = round(held * len(group)) if 0 < held < 1 else int(held)
        rest = len(group) - held
        selecting = max(1, round(validation * rest)) if validation and rest else 0
        if rest < 0 or (len(group) and 0 <= rest <= selecting and rest):
            raise SplitError(
                "parameters holdout, validation",
                f"{len(group)} subjects with label {label}",
                f"more than {held + selecting} of them",
                "Hold fewer out (holdout takes shares below 1 too), or bring more subjects.",
            )
        for part, members in zip(PARTS, np.split(group, [rest - selecting, rest]), strict=True):
            parts.update(dict.fromkeys(members, part))
    split = table[["participant_id", "session_id"]].assign(part=table["participant_id"].map(parts))
    return split.sort_values(["participant_id", "session_id"], ignore_index=True)


def check(split: pd.DataFrame, where="split") -> pd.DataFrame:
    """Return `split` where every subject stands in one known part.

    Raises
    ------
    SplitError
        A subject has two parts, a scan stands twice, or a part is unknown.
    """
    unknown = split.loc[~split["part"].isin(PARTS), "part"]
    if len(unknown):
        raise SplitError(f"{where}, column part", repr(unknown.iloc[0]), f"one of {', '.join(PARTS)}", "Run 01_data_preparation again.")
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
        raise SplitError(f"{where}, {twice.iloc[0]}", "a scan that stands twice", "each scan once", "Run 01_data_preparation again.")
    return split


def write(split: pd.DataFrame, path) -> None:
    """Write a split as TSV, all or nothing, after `check`."""
    with integrity.replacing(path) as draft:
        check(split).to_csv(draft, sep="\t", index=False)


def read(path) -> pd.DataFrame:
    """Read and `check` a split."""
    return check(pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False), integrity.relative(path))
