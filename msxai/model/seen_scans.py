"""The scans that a network has seen in training, and the guard against testing it on them again.

A network that was trained on a scan, or selected by it, must not be tested on that scan after
fine-tuning. So each training writes the list of its scans beside its weights (``subjects.tsv``),
and a fine-tuning compares the list of its initial weights with its own holdout and validation.
"""

from pathlib import Path

import pandas as pd

from msxai.base import json_files, provenance, tsv
from msxai.base.errors import SplitError

__all__ = [
    "LIST",
    "check_initial_weights",
    "listed",
    "of_cohort",
    "of_pairs",
    "with_earlier",
]

LIST = "subjects.tsv"
"""Name of the list in a trial's folder."""

_COLUMNS = ["dataset", "participant_id", "session_id", "part", "source_sha256"]
_SEEN = ("training", "validation")
_TESTED = ("holdout", "validation")
_MEND = "Copy the whole folder of the trial again, or train again."
_MOST_NAMED = 5  # scans that an error names


def of_cohort(prepared) -> pd.DataFrame:
    """List the scans that a training on a cohort sees: those of its training and validation part.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared

    Returns
    -------
    pandas.DataFrame
        One row a scan: dataset (the cohort's name), participant_id, session_id, part,
        source_sha256 (of the scan's file).
    """
    table = prepared.table.assign(dataset=prepared.name)
    seen = table[table["part"].isin(_SEEN)]
    return seen[_COLUMNS].reset_index(drop=True)


def of_pairs(pairs, parts: dict) -> pd.DataFrame:
    """List the simulated pairs that a training sees.

    Parameters
    ----------
    pairs : msxai.data.synthetic.simulated_pairs.SimulatedPairs
    parts : dict
        Part of the training to its pairs (sequence of int).

    Returns
    -------
    pandas.DataFrame
        As `of_cohort`, one row a brain; source_sha256 is that of its two scans.
    """
    rows = []
    for part, members in parts.items():
        for member in members:
            rows.append([pairs.name, f"sub-{member + 1:04}", "", part, pairs.sha256[member]])
    return pd.DataFrame(rows, columns=_COLUMNS)


def listed(weights) -> pd.DataFrame | None:
    """Read the list that belongs to a weights file.

    Parameters
    ----------
    weights : path
        ``weights.npz`` of a trial, whose list is ``subjects.tsv`` in the same folder; or any other
        weights file, whose list has the same name with the ending ``.tsv``.

    Returns
    -------
    pandas.DataFrame or None
        As `of_cohort`; None where there is no list.

    Raises
    ------
    SplitError
        The list has changed since the training wrote it, or is no such list. Or the record of the
        training is damaged, so that this cannot be checked.
    """
    weights = Path(weights)
    is_trial = weights.name == "weights.npz"
    path = weights.with_name(LIST) if is_trial else weights.with_suffix(".tsv")
    if is_trial:
        _check_unchanged(path)
    if not path.is_file():
        return None
    seen = tsv.read(path)
    missing = [name for name in _COLUMNS if name not in seen]
    if missing:
        raise SplitError(
            provenance.relative(path),
            f"no column {missing[0]}",
            f"the columns {', '.join(_COLUMNS)}",
            "Take the list that the training has written.",
        )
    return seen[_COLUMNS]


def with_earlier(prepared, weights) -> pd.DataFrame:
    """List the scans that a network has seen after training on a cohort from given weights.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
        The cohort of this training.
    weights : path or None
        Weights that the training starts from; None for random weights.

    Returns
    -------
    pandas.DataFrame
        As `of_cohort`, the scans of earlier trainings first.
    """
    own = of_cohort(prepared)
    earlier = None if weights is None else listed(weights)
    if earlier is None:
        return own
    return pd.concat([earlier, own], ignore_index=True)


def check_initial_weights(weights, prepared) -> str:
    """Refuse weights that have seen a scan by which the fine-tuned network is selected or tested.

    Two scans are of one person where dataset and participant_id are equal; equal ids in two
    datasets are two persons. Two scans are the same file where their SHA-256 is equal, whatever
    their names and datasets.

    Parameters
    ----------
    weights : path or None
        Weights that the fine-tuning starts from; None for random weights.
    prepared : msxai.data.prepared.Prepared
        The fine-tuning cohort.

    Returns
    -------
    str
        A sentence that says what was checked, or that it cannot be checked.

    Raises
    ------
    SplitError
        A scan of the holdout or validation part was seen; the message names the scans.
    """
    if weights is None:
        return "Random initial weights: they have seen no scan."
    seen = listed(weights)
    if seen is None:
        return (
            f"Warning: {provenance.relative(weights)} has no list of the scans that it was trained"
            " on. Whether the holdout or validation part is among them cannot be checked."
        )
    is_tested = prepared.table["part"].isin(_TESTED)
    tested = prepared.table.loc[is_tested, ["participant_id", "part", "source_sha256"]]
    leaks = _same_person(seen, tested, prepared.name) + _same_file(seen, tested, prepared.name)
    if leaks:
        raise SplitError(
            f"initial weights {provenance.relative(weights)}",
            _summary(list(dict.fromkeys(leaks))),
            f"no scan of the holdout or validation part of {prepared.name} seen before",
            "Take these subjects out of the pre-training cohort and train it again.",
        )
    return (
        f"None of the {len(tested)} scans in the holdout and validation part is among the"
        f" {len(seen)} scans that the initial weights have seen."
    )


def _check_unchanged(path: Path) -> None:
    """Refuse a list that is not as the record of its training says."""
    record = path.with_name("provenance.json")
    if not record.is_file():
        return
    written = _outputs(record)
    hashes = [digest for name, digest in written.items() if Path(name).name == path.name]
    if not hashes:  # a training before lists were written
        return
    if not path.is_file() or provenance.sha256(path) != hashes[0]:
        raise SplitError(
            provenance.relative(path),
            "another content than the training has written",
            "the unchanged list of the scans that the weights have seen",
            _MEND,
        )


def _outputs(record: Path) -> dict:
    """Return the hashes of the files that a training has written."""
    try:
        outputs = json_files.read(record).get("outputs")
        problem = "no outputs"
    except (OSError, ValueError) as error:
        outputs = None
        problem = str(error)
    if not isinstance(outputs, dict):
        raise SplitError(
            provenance.relative(record),
            f"a damaged file ({problem})",
            "the record of the training, which has the hash of the list of its scans",
            _MEND,
        )
    return outputs


def _same_person(seen: pd.DataFrame, tested: pd.DataFrame, dataset: str) -> list[str]:
    """Describe each tested scan whose participant of the same dataset was seen."""
    people = seen[seen["dataset"] == dataset].drop_duplicates("participant_id")
    people = people.assign(seen_as=people["participant_id"])
    columns = ["participant_id", "seen_as", "dataset", "part"]
    pairs = tested.merge(people[columns], on="participant_id", suffixes=("", "_seen"))
    return _described(pairs, dataset)


def _same_file(seen: pd.DataFrame, tested: pd.DataFrame, dataset: str) -> list[str]:
    """Describe each tested scan whose file was seen."""
    files = seen.dropna(subset="source_sha256").drop_duplicates("source_sha256")
    files = files.rename(columns={"participant_id": "seen_as"})
    columns = ["source_sha256", "seen_as", "dataset", "part"]
    pairs = tested.merge(files[columns], on="source_sha256", suffixes=("", "_seen"))
    return _described(pairs, dataset)


def _described(pairs: pd.DataFrame, dataset: str) -> list[str]:
    return [
        f"{pair['participant_id']} of {dataset} ({pair['part']}),"
        f" seen as {pair['seen_as']} of {pair['dataset']} ({pair['part_seen']})"
        for pair in pairs.to_dict("records")
    ]


def _summary(leaks: list[str]) -> str:
    text = "; ".join(leaks[:_MOST_NAMED])
    if len(leaks) > _MOST_NAMED:
        text = f"{text}; and {len(leaks) - _MOST_NAMED} further scans"
    return text
