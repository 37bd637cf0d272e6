"""What simpler machines make of the same subjects: scikit-learn pipelines that the networks must be held against.

Each sees one thing of a scan (`views`) and is fitted on the training and validation part; what it may choose is chosen there, by
stratified cross-validation that keeps a subject's scans together. The holdout is scored, and never read for anything else.
"""

import warnings
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from tqdm.auto import tqdm

from msxai.base import statistics
from msxai.evaluation import prediction

LESION_LOAD, FEATURES = "lesion load", "{} features + SVM"
FOLDS = 5  # of each inner cross-validation, fewer where a group has fewer subjects
COVARIATES = ("age", "sex", "site", "scanner")


class Machine(NamedTuple):
    """A baseline: what it sees, its pipeline, and what the inner cross-validation chooses from (nothing where it is empty)."""

    view: str
    pipeline: object
    grid: dict


def _c(*powers, step: str = "svc") -> dict:
    return {f"{step}__C": [10.0**power for power in powers]}


# The volume enters as log(1 + mm3), unlike in the paper: on the raw scale the kernel forgets what a volume beyond the training part's
# means, and the baseline would be weaker than it is.
_LOAD = make_pipeline(FunctionTransformer(np.log1p), StandardScaler(), SVC(kernel="rbf", C=10.0))
_COVARIATES = make_column_transformer(
    (
        make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()),
        make_column_selector(dtype_include="number"),
    ),
    (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
)
_GRAM, _LINEAR = SVC(kernel="precomputed"), make_pipeline(StandardScaler(), SVC(kernel="linear"))
MACHINES = {
    LESION_LOAD: Machine("lesion volumes", _LOAD, {}),
    "linear SVM": Machine("voxels", clone(_GRAM).set_params(C=1e-3), {}),
    "linear SVM, C selected": Machine(
        "voxels", _GRAM, {"C": [10.0**power for power in range(-7, 0)]}
    ),
    "brain shape": Machine("brain masks", _GRAM, {"C": [10.0**power for power in range(-7, 0)]}),
    "age, sex, site": Machine(
        "covariates",
        make_pipeline(_COVARIATES, LogisticRegression(max_iter=1000)),
        _c(-2, -1, 0, 1, 2, step="logisticregression"),
    ),
}
"""Name to baseline; `fit` adds one a variant: an SVM on what its network's last convolution says."""


@dataclass
class Fitted:
    """Baselines fitted on the training and validation part.

    Attributes
    ----------
    prepared : msxai.data.prepared.Prepared
    rows : ndarray of int
        The scans they were fitted on.
    machines : dict
        (name, trial) to a fitted scikit-learn estimator; trial 0 where there is one only.
    left_out : dict
        Name to the reason, a sentence each.
    chosen : pandas.DataFrame
        variant, trial, parameter, value: what the inner cross-validation chose.
    """

    prepared: object
    rows: np.ndarray
    machines: dict = field(default_factory=dict)
    left_out: dict = field(default_factory=dict)
    chosen: pd.DataFrame | None = None


def kernel(prepared, rows, other, others, what: str = "image", block: int = 128) -> np.ndarray:
    """Inner products of scans, voxel by voxel: all that a linear SVM needs, at 1/1,000 of the size of the voxels.

    Parameters
    ----------
    prepared, other : msxai.data.prepared.Prepared
    rows, others : sequence of int
        Scans of each.
    what : {"image", "brain"}
        The normalised scan, or its binarised brain mask (nothing but shape).
    block : int
        Scans of `other` that are held at a time, which bounds memory.

    Returns
    -------
    ndarray of shape (len(rows), len(others)), float64
        Over the voxels in the brain of any scan of the block that is held.
    """
    out = np.empty((len(rows), len(others)))
    for first in range(0, len(others), block):
        held = others[first : first + block]
        inside = np.any([other.brain(row) for row in held], axis=0)
        matrix = np.stack([getattr(other, what)(row)[inside] for row in held]).astype(
            "float32", copy=False
        )
        for index, row in enumerate(tqdm(rows, desc=f"inner products ({what})", unit="scan")):
            out[index, first : first + len(held)] = matrix @ getattr(prepared, what)(row)[
                inside
            ].astype("float32", copy=False)
    return out


def views(prepared, rows, other=None, others=None) -> tuple[dict, dict]:
    """What baselines see of scans.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    rows : sequence of int
        Scans of it.
    other, others
        Cohort and scans that the machines were fitted on, for inner products; by default these scans themselves.

    Returns
    -------
    found : dict
        View to an array of shape (len(rows), ...) or a table.
    missing : dict
        View to the reason why it is not there.
    """
    other, others = (prepared, rows) if other is None else (other, others)
    found, missing = {}, {}
    if prepared.has_lesions[rows].all():
        found["lesion volumes"] = prepared.lesion_volumes(rows)[:, None]
    else:
        missing["lesion volumes"] = "the cohort has scans without a lesion mask"
    for view, what in ("voxels", "image"), ("brain masks", "brain"):
        found[view] = kernel(prepared, rows, other, others, what)
    table = prepared.table.iloc[rows].reset_index(drop=True)
    told = [
        name
        for name in COVARIATES
        if name in other.table and other.table[name].iloc[others].nunique() > 1
    ]
    if told:
        # a category that nobody has told is one of its own; a column of the other cohort that this one lacks is unknown
        table = table.reindex(columns=told)
        numbers = {name: pd.to_numeric(table[name]) for name in told if name == "age"}
        found["covariates"] = table.fillna("unknown").astype(str).assign(**numbers)
    else:
        missing["covariates"] = (
            f"the cohort tells neither {', '.join(COVARIATES[:-1])} nor {COVARIATES[-1]}, or all have the same"
        )
    return found, missing


def fit(prepared, features: dict | None = None, seed: int = 0) -> Fitted:
    """Fit all baselines on the training and validation part.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    features : dict, optional
        Variant to what its networks make of *all* scans of the cohort, from `msxai.evaluation.prediction.features`: adds one baseline a variant.
        Their training part was the network's too, so the inner cross-validation chooses there with less care than it does elsewhere.
    seed : int
        Of the inner folds.
    """
    rows = np.sort(
        np.concatenate([prepared.rows("training"), prepared.rows("validation")]).astype(int)
    )
    out, chosen = Fitted(prepared, rows), []
    labels, groups = (
        prepared.table["label"].iloc[rows].to_numpy(float),
        prepared.table["participant_id"].iloc[rows].to_numpy(),
    )
    features = features or {}
    names = [*MACHINES, *(FEATURES.format(variant) for variant in features)]
    counts = [len(set(groups[labels == label])) for label in (0, 1)]
    if min(counts) < 2:
        reason = f"the training part has {counts[1]} patients and {counts[0]} controls: two of each are needed"
        out.left_out = dict.fromkeys(names, reason)
        return out
    seen, missing = views(prepared, rows)
    work = {
        (name, 0): (machine.pipeline, machine.grid, seen.get(machine.view))
        for name, machine in MACHINES.items()
    }
    for variant, trials in features.items():
        work |= {
            (FEATURES.format(variant), trial): (_LINEAR, _c(*range(-5, 1)), one[rows])
            for trial, one in enumerate(trials)
        }
    for (name, trial), (pipeline, grid, values) in work.items():
        if values is None:
            out.left_out[name] = missing[MACHINES[name].view]
            continue
        found, best = _select(pipeline, grid, values, labels.astype(int), groups, seed)
        out.machines[name, trial] = found
        chosen += [
            {"variant": name, "trial": trial, "parameter": key, "value": value}
            for key, value in best.items()
        ]
    out.chosen = pd.DataFrame(chosen, columns=["variant", "trial", "parameter", "value"])
    return out


def predict(
    fitted: Fitted, prepared, rows, features: dict | None = None
) -> tuple[pd.DataFrame, dict]:
    """Score scans by fitted baselines.

    Parameters
    ----------
    fitted : Fitted
    prepared : msxai.data.prepared.Prepared
        The cohort that they were fitted on, or another one prepared alike.
    rows : sequence of int
        Scans of it.
    features : dict, optional
        As in `fit`, of all scans of `prepared`.

    Returns
    -------
    predictions : pandas.DataFrame
        As from `msxai.evaluation.prediction.predict`, without logit. The score is the logistic function of the machine's signed distance: above .5
        where it says patient; no calibrated probability but in logistic regression.
    left_out : dict
        Name to the reason, with those of `fitted`.
    """
    found, missing = (
        views(prepared, rows, fitted.prepared, fitted.rows) if fitted.machines else ({}, {})
    )
    tables, left_out = [], dict(fitted.left_out)
    for (name, trial), machine in fitted.machines.items():
        if name in MACHINES:
            seen = found.get(MACHINES[name].view)
            if seen is None:
                left_out[name] = missing[MACHINES[name].view]
        else:
            variant = next(
                variant for variant in features or {} if FEATURES.format(variant) == name
            )
            seen = features[variant][trial][rows]
        if seen is not None:
            score = special.expit(machine.decision_function(seen))
            tables.append(prediction.about(prepared, rows, name, trial).assign(score=score))
    return (pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()), left_out


def cross_validate(
    prepared, seed: int = 0, folds: int = 5, repeats: int = 5
) -> tuple[pd.DataFrame, dict]:
    """Repeated stratified cross-validation of all baselines on all labelled scans, with the choice of each inside its own folds.

    Networks' features are not among them: their network has seen the labels of the training part.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    seed : int
        Of the first repeat's folds.
    folds, repeats : int
        Fewer folds where a group has fewer subjects.

    Returns
    -------
    scores : pandas.DataFrame
        variant, repeat, fold, training, tested (subjects), then each of `msxai.base.statistics.MEASURES`; one row a fold.
    left_out : dict
        Name to the reason.
    """
    rows = np.flatnonzero(prepared.table["label"].notna())
    labels, groups = (
        prepared.table["label"].iloc[rows].to_numpy(int),
        prepared.table["participant_id"].iloc[rows].to_numpy(),
    )
    if not repeats:
        return pd.DataFrame(), dict.fromkeys(MACHINES, "no cross-validation was asked for")
    folds = (
        min(folds, *(len(set(groups[labels == label])) // 2 for label in (0, 1)))
        if len(rows)
        else 0
    )
    if folds < 2:
        return pd.DataFrame(), dict.fromkeys(
            MACHINES, "cross-validation needs four patients and four controls"
        )
    seen, missing = views(prepared, rows)
    left_out = {
        name: missing[machine.view] for name, machine in MACHINES.items() if machine.view in missing
    }
    scores = []
    for repeat in tqdm(range(repeats), desc="cross-validation", unit="repeat"):
        outer = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + repeat)
        for fold, (train, test) in enumerate(outer.split(rows, labels, groups)):
            for name, (view, pipeline, grid) in MACHINES.items():
                if name in left_out:
                    continue
                known = _part(pipeline, seen[view], train, train)
                machine, _ = _select(pipeline, grid, known, labels[train], groups[train], seed)
                found = special.expit(
                    machine.decision_function(_part(pipeline, seen[view], test, train))
                )
                sizes = {"training": len(set(groups[train])), "tested": len(set(groups[test]))}
                row = {"variant": name, "repeat": repeat, "fold": fold, **sizes}
                scores.append(
                    row
                    | {
                        key: function(labels[test], found)
                        for key, function in statistics.MEASURES.items()
                    }
                )
    return pd.DataFrame(scores), left_out


def lesion_load_svm(volumes, labels, test_volumes) -> np.ndarray:
    """Baseline: lesion volume alone through a support vector machine (RBF kernel, C = 10, as in the paper), on the scale of log(1 + mm3).

    Parameters
    ----------
    volumes, labels : array_like of shape (n,)
        Of the scans to fit on; mm3, 1 patient and 0 control.
    test_volumes : array_like of shape (m,)
        Of the scans to score; mm3.

    Returns
    -------
    ndarray of shape (m,)
        Logistic function of the signed distance: above .5 where the machine says patient. No calibrated probability.
    """
    machine = clone(_LOAD).fit(np.reshape(volumes, (-1, 1)), labels)
    return special.expit(machine.decision_function(np.reshape(test_volumes, (-1, 1))))


def _select(pipeline, grid: dict, seen, labels, groups, seed: int):
    """The pipeline fitted, and what was chosen by the AUC of inner folds; among equals the first, which is the most regularised one."""
    folds = min(FOLDS, *(len(set(groups[labels == label])) for label in (0, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if not grid or folds < 2:
            return clone(pipeline).fit(seen, labels), {}
        inner = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        search = GridSearchCV(clone(pipeline), grid, scoring="roc_auc", cv=inner).fit(
            seen, labels, groups=groups
        )
    return search.best_estimator_, search.best_params_


def _part(pipeline, seen, rows, columns):
    """Rows of a view; of inner products those with `columns`, the scans that the machine is fitted on."""
    if getattr(pipeline, "kernel", "") == "precomputed":
        return seen[np.ix_(rows, columns)]
    return seen.iloc[rows] if isinstance(seen, pd.DataFrame) else seen[rows]
