"""Classifiers set beside each other on the same subjects: paired differences, calibration, and what folds of a cross-validation tell."""

import itertools

import numpy as np
import pandas as pd
from scipy import stats

from msxai.base import provenance, statistics, tsv
from msxai.base.errors import MissingStepError
from msxai.base.results import Results
from msxai.data.cohorts import splits


def brier(labels, scores, weights=None):
    """Mean squared difference of score and label, 0 at best, .25 for a score of .5 throughout; parameters as in `statistics.auc`.

    References
    ----------
    Brier 1950, Monthly Weather Review 78:1-3, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
    """
    errors = (np.asarray(scores, float) - np.asarray(labels)) ** 2
    weights = np.ones(len(errors)) if weights is None else np.asarray(weights, float)
    return (weights * errors).sum(-1) / weights.sum(-1)


def table(
    predictions: pd.DataFrame,
    references=("lesion load", "scratch"),
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """AUC and Brier score of each variant with intervals over subjects, and its paired differences to the references.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As in `statistics.score_table`. A subject's score is the mean over its scans and the variant's trials: one classifier a variant.
    references : sequence of str
        Variants to compare with; those that are not there are passed over.
    seed : int
        Of the bootstrap.
    level : float
        Coverage.

    Returns
    -------
    pandas.DataFrame
        variant, measure, reference, patients, controls, value, low, high, p. Measures: auc (DeLong; where the groups are separated wholly,
        Newcombe), brier (bootstrap), auc_difference (variant less reference, paired DeLong, two-sided p; no correction for the number of
        comparisons; without interval where DeLong finds no variance). NaN where a group has fewer than two subjects.
    """
    known = predictions.dropna(subset=["label"])
    names = list(dict.fromkeys(known["variant"]))
    wide = known.pivot_table(
        index=["participant_id", "label"], columns="variant", values="score"
    ).dropna()
    labels, rows = wide.index.get_level_values("label").to_numpy(int), []
    counts = {"patients": int((labels == 1).sum()), "controls": int((labels == 0).sum())}
    enough = min(counts.values(), default=0) >= 2
    for name in names:
        scores = wide[name].to_numpy()
        row = {"variant": name, "reference": "", **counts}
        if not enough:
            rows.append(row | {"measure": "auc"})
            continue
        interval = statistics.auc_interval(labels, scores, level)
        rows.append(
            row
            | {
                "measure": "auc",
                "value": statistics.auc(labels, scores),
                "low": interval[0],
                "high": interval[1],
            }
        )
        low, high = statistics.bootstrap_interval(brier, labels, scores, seed, level=level)
        rows.append(
            row | {"measure": "brier", "value": brier(labels, scores), "low": low, "high": high}
        )
        for other in references:
            if other in wide and other != name:
                value, low, high, p = statistics.auc_difference(
                    labels, scores, wide[other].to_numpy(), level
                )
                low, high = (
                    (np.nan, np.nan) if np.isnan(p) else (low, high)
                )  # no variance: nothing can be said, least of all for sure
                rows.append(
                    row
                    | {
                        "measure": "auc_difference",
                        "reference": other,
                        "value": value,
                        "low": low,
                        "high": high,
                        "p": p,
                    }
                )
    columns = [
        "variant",
        "measure",
        "reference",
        "patients",
        "controls",
        "value",
        "low",
        "high",
        "p",
    ]
    return pd.DataFrame(rows).reindex(columns=columns)


def calibration(predictions: pd.DataFrame, bins: int = 10, level: float = 0.95) -> pd.DataFrame:
    """Calibration curve: in bins of equally many scans, the share of patients beside the mean score.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As in `statistics.score_table`; a scan's score is the mean over the variant's trials.
    bins : int
        At most; no bin holds fewer than five scans.
    level : float
        Coverage of the exact intervals.

    Returns
    -------
    pandas.DataFrame
        variant, bin, n, score (mean), patients (share), low, high.
    """
    rows = []
    for variant, found in predictions.dropna(subset=["label"]).groupby("variant", sort=False):
        labels, _, trials = statistics.trial_scores(found)
        scores = trials.mean(0)
        order = np.lexsort(
            (labels, scores)
        )  # equal scores in one order, whatever that of the table
        for number, members in enumerate(np.array_split(order, max(1, min(bins, len(order) // 5)))):
            low, high = statistics.exact_interval(labels[members].sum(), len(members), level)
            rows.append(
                {
                    "variant": variant,
                    "bin": number,
                    "n": len(members),
                    "score": scores[members].mean(),
                    "patients": labels[members].mean(),
                    "low": low,
                    "high": high,
                }
            )
    return pd.DataFrame(rows, columns=["variant", "bin", "n", "score", "patients", "low", "high"])


def corrected_interval(
    values, training: float, tested: float, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean over folds with an interval that allows for training parts that overlap: the corrected resampled t test.

    Parameters
    ----------
    values : array_like of shape (folds,)
        One score, or one paired difference, a fold; of all repeats together.
    training, tested : float
        Subjects that a fold trains on and tests on.
    level : float
        Coverage.

    Returns
    -------
    mean, low, high : float
        NaN bounds for a single fold.

    References
    ----------
    Nadeau, Bengio 2003, Machine Learning 52:239-281, doi:10.1023/A:1024068626366; for repeated folds Bouckaert, Frank 2004,
    doi:10.1007/978-3-540-24775-3_3.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return (float(values.mean()) if len(values) else np.nan), np.nan, np.nan
    error = np.sqrt((1 / len(values) + tested / training) * values.var(ddof=1))
    half = stats.t.isf((1 - level) / 2, len(values) - 1) * error
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def folds(
    scores: pd.DataFrame, reference: str = "lesion load", level: float = 0.95
) -> pd.DataFrame:
    """What a (repeated) cross-validation tells of each variant.

    Parameters
    ----------
    scores : pandas.DataFrame
        variant, repeat, fold, training, tested (subjects), and each of `statistics.MEASURES`; one row a fold
        (`msxai.evaluation.baselines.cross_validate`).
    reference : str
        Variant that the AUC of each other one is compared with, fold by fold, where it is there.
    level : float
        Coverage.

    Returns
    -------
    pandas.DataFrame
        variant, measure (one of the measures, or auc_difference), reference, folds, value, sd (over folds), low, high
        (`corrected_interval`).
    """
    rows = []
    if scores.empty:
        return pd.DataFrame(
            columns=["variant", "measure", "reference", "folds", "value", "sd", "low", "high"]
        )
    paired = scores.set_index(["repeat", "fold"])
    other = paired.loc[paired["variant"] == reference, "auc"]
    for variant, measure in itertools.product(
        dict.fromkeys(scores["variant"]), [*statistics.MEASURES, "auc_difference"]
    ):
        found = paired[paired["variant"] == variant]
        if measure == "auc_difference" and (variant == reference or other.empty):
            continue
        values = (
            found["auc"] - other.reindex(found.index)
            if measure == "auc_difference"
            else found[measure]
        )
        value, low, high = corrected_interval(
            values, found["training"].mean(), found["tested"].mean(), level
        )
        floor = -1 if measure == "auc_difference" else 0
        low, high = np.clip([low, high], floor, 1)  # Student's t knows no bounds
        rows.append(
            {
                "variant": variant,
                "measure": measure,
                "reference": reference if measure == "auc_difference" else "",
                "folds": len(found),
                "value": value,
                "sd": values.std(),
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(rows)


def gather(results: str, count: int) -> pd.DataFrame:
    """Bring the folds of a cross-validation together: predictions.tsv, folds.tsv and, last, cross_validation.tsv in the results folder.

    Parameters
    ----------
    results : str
        The folder; its folds are the results folders ``fold-0``, ``fold-1``, ...
    count : int
        How many.

    Returns
    -------
    pandas.DataFrame
        `folds` of all variants and baselines.

    Raises
    ------
    MissingStepError
        A fold was not evaluated.
    """
    where, tables, rows = Results(results), [], []
    for number in range(count):
        folder = where.folder / f"fold-{number}"
        predictions = tsv.read(folder / "evaluation" / "predictions.tsv")
        if predictions.empty:
            raise MissingStepError(
                f"{results}/{folder.name}/evaluation",
                "no predictions",
                "those of this fold",
                "Run make cv.",
            )
        parts = pd.concat(splits.read(path) for path in (folder / "prepared").glob("*_split.tsv"))
        held = set(predictions["participant_id"])
        parts = parts[parts["participant_id"].isin(held) | (parts["part"] != "holdout")]
        sizes = {
            "training": parts.loc[parts["part"] != "holdout", "participant_id"].nunique(),
            "tested": len(held),
        }
        tables.append(predictions.assign(fold=number))
        for variant, found in predictions.groupby("variant", sort=False):
            labels, _, trials = statistics.trial_scores(found)
            scores = {
                name: np.mean([measure(labels, one) for one in trials])
                for name, measure in statistics.MEASURES.items()
            }
            rows.append({"variant": variant, "repeat": 0, "fold": number, **sizes, **scores})
    found = folds(pd.DataFrame(rows))
    for name, table in {
        "predictions": pd.concat(tables),
        "folds": pd.DataFrame(rows),
        "cross_validation": found,
    }.items():
        with provenance.replacing(where.folder / f"{name}.tsv") as draft:
            table.to_csv(draft, sep="\t", index=False, na_rep="n/a")
    return found
