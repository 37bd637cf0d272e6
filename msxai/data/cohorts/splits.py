"""Splits subjects into training, validation and holdout: seeded, stratified by diagnosis."""

import numbers
import re
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from msxai.base import provenance, tsv
from msxai.base.errors import MissingStepError, ParameterError, SplitError, in_place_of_file
from msxai.base.parameters import is_count_or_share, one_of, whole_number

__all__ = ["COLUMNS", "PARTS", "check", "fold", "make", "read", "write"]

COLUMNS = ("participant_id", "session_id", "part")
"""Columns of a split."""

PARTS = ("training", "validation", "holdout")
"""Values of its column part."""

_SCAN = ["participant_id", "session_id"]
_RUN_AGAIN = "Run 01_data_preparation again."


def make(
    table: pd.DataFrame, holdout=(0, 0), validation: float = 0.15, seed: int = 0, holdout_site=()
) -> pd.DataFrame:
    """Split subjects.

    Parameters
    ----------
    table : pandas.DataFrame
        A cohort's table: participant_id, session_id, label (1 patient, 0 control, NA unknown). The
        order of its rows does not matter.
    holdout : pair of numbers
        Controls and patients held out: counts, or shares if below 1. A cohort to be tested on alone
        may be held out completely; a cohort without any label always is.
    validation : float
        Share of the remaining subjects of each group that selects the best weights; at least one
        subject if above 0.
    seed : int
    holdout_site : str or sequence of str
        Sites held out completely, instead of `holdout`: every subject with a scan there, with all
        scans. Subjects whose site is unknown count as from another site. None by default. 1 and
        1.0, as spreadsheets write it, are one site.

    Returns
    -------
    pandas.DataFrame
        participant_id, session_id, part; all scans of a subject in one part, subjects without a
        label in "holdout".

    Raises
    ------
    SplitError
        A group has too few subjects, a subject has two labels, holdout or validation is no such
        number, shares hold nobody out, or no site is known.
    ParameterError
        A site that the table does not have (with the nearest one), or no whole number as seed.
    """
    _check_holdout(holdout)
    _check_validation(validation)
    whole_number("seed", seed, least=0)
    subjects = _labelled_subjects(table)
    groups = _shuffled_groups(subjects, seed)
    sites = _listed_sites(holdout_site)
    if sites:
        at_sites = _at_sites(table, sites)
        groups = [_moved_last(group, at_sites) for group in groups]
        holdout = [int(np.isin(group, at_sites).sum()) for group in groups]
    counts = [_count(share, group) for share, group in zip(holdout, groups, strict=True)]
    _check_held_out(holdout, groups, counts)
    part_of = dict.fromkeys(subjects["participant_id"], "holdout")
    if not _all_held_out(groups, counts, sites):
        for label, group in enumerate(groups):
            part_of |= _parts_of_group(group, counts[label], validation, label, sites)
    parts = table["participant_id"].map(part_of)
    split = table[_SCAN].assign(part=parts)
    return split.sort_values(_SCAN, ignore_index=True)


def fold(
    table: pd.DataFrame, number: int, folds: int, validation: float = 0.15, seed: int = 0
) -> pd.DataFrame:
    """Split subjects for one fold of a cross-validation; the fold is the holdout.

    Where all subjects are of one group, as patients without controls, the folds divide this group.

    Parameters
    ----------
    table, validation, seed
        As in `make`; the same seed for all folds.
    number : int
        Number of the fold, from 0.
    folds : int
        Number of folds.

    Returns
    -------
    pandas.DataFrame
        As from `make`. Over all folds each labelled subject is held out once.

    Raises
    ------
    SplitError
        No such fold, or more folds than the smallest group has subjects; and as in `make`.
    """
    whole_number("seed", seed, least=0)
    subjects = table[["participant_id", "label"]].drop_duplicates().dropna()
    subjects = subjects.sort_values("participant_id", ignore_index=True)
    labels = subjects["label"].astype(int)
    smallest = int(labels.value_counts().min()) if len(labels) else 0
    are_whole = _is_whole(number) and _is_whole(folds)
    if not are_whole or not 2 <= folds <= smallest or not 0 <= number < folds:
        raise SplitError(
            "parameters fold, folds",
            f"fold {number} of {folds}, with {smallest} subjects in the smallest group",
            "2 folds or more, none without a subject of each group",
            "Count folds from 0, or take fewer.",
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    all_folds = list(splitter.split(subjects, labels, groups=subjects.index))
    _, in_fold = all_folds[number]
    held_out = table["participant_id"].isin(subjects["participant_id"].iloc[in_fold])
    other_folds = make(table[~held_out], (0, 0), validation, seed)
    this_fold = table.loc[held_out, _SCAN].assign(part="holdout")
    return pd.concat([other_folds, this_fold]).sort_values(_SCAN, ignore_index=True)


def check(split: pd.DataFrame, where="split") -> pd.DataFrame:
    """Return `split` if every subject is in one valid part.

    Parameters
    ----------
    split : pandas.DataFrame
        `COLUMNS`.
    where : str
        Its file, for the error.

    Raises
    ------
    SplitError
        A column is missing, a subject has two parts, a scan has two rows, or a part is unknown.
    """
    for column in COLUMNS:
        if column not in split:
            expected = ", ".join(COLUMNS)
            raise SplitError(f"{where}, column {column}", "no such column", expected, _RUN_AGAIN)
    unknown = split.loc[~split["part"].isin(PARTS), "part"]
    if len(unknown):
        expected = f"one of {', '.join(PARTS)}"
        raise SplitError(f"{where}, column part", repr(unknown.iloc[0]), expected, _RUN_AGAIN)
    parts_of_subjects = split.groupby("participant_id")["part"].unique()
    for subject, parts in parts_of_subjects.items():
        if len(parts) > 1:
            raise SplitError(
                f"{where}, {subject}",
                f"a subject in {' and '.join(sorted(parts))}",
                "each subject in one part",
                "Its scans would be trained and tested on: run 01_data_preparation again.",
            )
    repeated = split.loc[split.duplicated(_SCAN), "participant_id"]
    if len(repeated):
        scan = f"{where}, {repeated.iloc[0]}"
        raise SplitError(scan, "a scan that stands twice", "each scan once", _RUN_AGAIN)
    return split


def write(split: pd.DataFrame, path) -> None:
    """Write a split as TSV, whole or not at all, after `check`."""
    tsv.write(check(split), path)


def read(path) -> pd.DataFrame:
    """Read and `check` a split.

    Raises
    ------
    MissingStepError
        The file does not exist.
    SplitError
        The file is no table; and see `check`.
    """
    where = provenance.relative(path)
    if not Path(path).is_file():
        expected = "the split of a cohort"
        raise MissingStepError(
            where, in_place_of_file(path), expected, "Run 01_data_preparation first."
        )
    try:
        split = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except ValueError as error:  # not a table, or not text
        raise SplitError(where, f"no table ({error})", "a split", _RUN_AGAIN) from error
    return check(split, where)


def _check_holdout(holdout) -> None:
    """Refuse anything but two whole numbers or shares."""
    valid = []
    if np.iterable(holdout):
        valid = [is_count_or_share(number) for number in holdout]
    if valid != [True, True]:
        raise SplitError(
            "parameter holdout",
            str(holdout),
            "two numbers: whole ones, or shares below 1",
            "Give controls, then patients.",
        )


def _is_number(value) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_whole(value) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _check_validation(validation: float) -> None:
    """Refuse anything but a share."""
    if not _is_number(validation) or not 0 <= validation < 1:
        expected = "a share from 0 to below 1"
        raise SplitError("parameter validation", repr(validation), expected, "The demo's is 0.15.")


def _labelled_subjects(table: pd.DataFrame) -> pd.DataFrame:
    """Return participant_id and label of each subject, sorted; refuse a subject with two labels."""
    subjects = table[["participant_id", "label"]].drop_duplicates()
    subjects = subjects.sort_values("participant_id")
    repeated = subjects.loc[subjects["participant_id"].duplicated(), "participant_id"]
    if len(repeated):
        mend = "Mend the group column of the table."
        raise SplitError(
            f"participant {repeated.iloc[0]}", "two labels", "one label a subject", mend
        )
    return subjects


def _shuffled_groups(subjects: pd.DataFrame, seed: int) -> list[np.ndarray]:
    """Return the identifiers of controls and of patients, each in random order."""
    rng = np.random.default_rng(seed)
    groups = []
    for label in (0, 1):
        members = subjects["label"].eq(label).fillna(False)
        names = subjects.loc[members, "participant_id"].to_numpy(str)
        groups.append(rng.permutation(names))
    return groups


def _check_held_out(holdout, groups: list[np.ndarray], counts: list[int]) -> None:
    """Refuse shares of so few subjects that nobody is held out."""
    sizes = [len(group) for group in groups]
    if any(holdout) and any(sizes) and not any(counts):
        raise SplitError(
            "parameter holdout",
            f"{holdout[0]} of {sizes[0]} controls and {holdout[1]} of {sizes[1]} patients, which "
            "is nobody after rounding",
            "at least one subject, because results are reported on the holdout",
            "Give larger shares, or counts. With 0 and 0, nobody is held out.",
        )


def _listed_sites(holdout_site) -> list[str]:
    """Return the names of sites as a list; an empty text is none."""
    if holdout_site is None or (isinstance(holdout_site, str) and not holdout_site):
        return []
    if isinstance(holdout_site, str) or not np.iterable(holdout_site):
        return [_site_name(holdout_site)]
    return [_site_name(site) for site in holdout_site]


def _site_name(site) -> str:
    """Return a site's name as text: 1 of 1, "1" and "1.0", as spreadsheets write whole numbers."""
    if not isinstance(site, str) and not _is_number(site):
        mend = "Name the sites to hold out."
        raise ParameterError("parameter holdout_site", repr(site), "names of sites", mend)
    return re.sub(r"^(\d+)\.0+$", r"\1", str(site))


def _at_sites(table: pd.DataFrame, sites: list[str]) -> list[str]:
    """Return the subjects with a scan at one of the sites."""
    names = pd.Series(dtype=object)
    if "site" in table:
        names = table["site"].map(_site_name, na_action="ignore")
    if names.isna().all():
        raise SplitError(
            "column site",
            "no site of any subject",
            "the site of each scan",
            "Add the column, or leave holdout_site empty.",
        )
    for site in sites:
        one_of("holdout_site", site, sorted(set(names.dropna())))
    return list(table.loc[names.isin(sites), "participant_id"].unique())


def _moved_last(group: np.ndarray, subjects: list[str]) -> np.ndarray:
    """Return a group with some subjects last, because its end is held out."""
    return group[np.argsort(np.isin(group, subjects), kind="stable")]


def _count(share_or_count: float, group: np.ndarray) -> int:
    """Return how many of a group are held out."""
    if share_or_count < 1:
        return round(share_or_count * len(group))
    return int(share_or_count)


def _all_held_out(groups: list[np.ndarray], counts: list[int], sites: list[str]) -> bool:
    """Return whether nobody is trained on: no labels, or both groups held out completely."""
    sizes = [len(group) for group in groups]
    if not any(sizes):
        return True
    return not sites and counts == sizes


def _parts_of_group(
    group: np.ndarray, n_holdout: int, validation: float, label: int, sites: list[str]
) -> dict[str, str]:
    """Return the part of each subject of one group; its last subjects are held out."""
    if not n_holdout + len(group):
        return {}
    n_remaining = len(group) - n_holdout
    n_validation = 0
    if validation:
        n_validation = max(1, round(validation * n_remaining))
    if n_remaining <= n_validation:
        parameter = "holdout"
        actual = f"{len(group)} subjects with label {label}"
        if sites:
            parameter = "holdout_site"
            actual += f", {n_holdout} of them at {', '.join(sites)}"
        mend = "Hold fewer out (holdout takes shares below 1 too), or bring more subjects."
        if validation and n_remaining > 0:
            mend += (
                f" With validation: 0, {n_holdout + 1} would be enough. Scans can then be prepared"
                " and explained, but a training needs a validation part of both groups."
            )
        raise SplitError(
            f"parameters {parameter}, validation",
            actual,
            f"more than {n_holdout + n_validation} of them",
            mend,
        )
    n_training = n_remaining - n_validation
    part_of = {}
    for part, members in zip(PARTS, np.split(group, [n_training, n_remaining]), strict=True):
        part_of |= dict.fromkeys(members, part)
    return part_of
