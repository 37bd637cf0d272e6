"""Classifiers simpler than the networks, on the same subjects: what a network has to beat.

Each baseline sees one `views` of a scan: its lesion volume, its voxels, the outline of its brain,
the subject's covariates, or the features of a network's last convolution. Baselines are fitted on
the training and validation part. What has to be selected is selected there, by a stratified
cross-validation that keeps the scans of a subject together. The holdout is scored and used for
nothing else.
"""

import functools
import warnings
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import special
from sklearn.base import BaseEstimator, clone
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

__all__ = [
    "BASELINES",
    "FEATURES",
    "LESION_LOAD",
    "Baseline",
    "Fitted",
    "cross_validate",
    "fit",
    "inner_products",
    "predict",
    "views",
]

LESION_LOAD = "lesion load"
FEATURES = "{} features + SVM"
_ROWS = 32  # scans whose inner products with those in memory are computed at a time
_FOLDS = 5  # of each inner cross-validation, fewer where a group has fewer subjects
_COVARIATES = ("age", "sex", "site", "scanner")


@dataclass(frozen=True)
class Baseline:
    """A classifier that is not a network.

    Attributes
    ----------
    view : str
        What it sees of a scan, a key of `views`.
    estimator : sklearn.base.BaseEstimator
        Not fitted.
    grid : dict
        Parameter to the values that the inner cross-validation selects from; empty where nothing is
        selected.
    """

    view: str
    estimator: BaseEstimator
    grid: dict


def _powers_of_ten(first: int, last: int) -> list[float]:
    """Return 10^first, ..., 10^last."""
    return [10.0**power for power in range(first, last + 1)]


def _lesion_load_svm() -> BaseEstimator:
    """Return the support vector machine on lesion volume (RBF kernel, C = 10, as in the paper).

    Unlike in the paper the volume enters as log(1 + mm3). On the raw scale the kernel has no
    information about volumes beyond those of the training part, and the baseline would be weaker
    than it is.
    """
    logarithm = FunctionTransformer(np.log1p)
    return make_pipeline(logarithm, StandardScaler(), SVC(kernel="rbf", C=10.0))


def _covariates_regression() -> BaseEstimator:
    """Return the logistic regression on age, sex, site and scanner."""
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    categories = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_exclude="number")),
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000))


BASELINES = {
    LESION_LOAD: Baseline(
        view="lesion volumes",
        estimator=_lesion_load_svm(),
        grid={},
    ),
    "linear SVM": Baseline(
        view="voxels",
        estimator=SVC(kernel="precomputed", C=1e-3),
        grid={},
    ),
    "linear SVM, C selected": Baseline(
        view="voxels",
        estimator=SVC(kernel="precomputed"),
        grid={"C": _powers_of_ten(-7, -1)},
    ),
    "brain shape": Baseline(
        view="brain masks",
        estimator=SVC(kernel="precomputed"),
        grid={"C": _powers_of_ten(-7, -1)},
    ),
    "age, sex, site": Baseline(
        view="covariates",
        estimator=_covariates_regression(),
        grid={"logisticregression__C": _powers_of_ten(-2, 2)},
    ),
}
"""Name to baseline. `fit` adds one for each variant of the network (`FEATURES`)."""

_ON_FEATURES = Baseline(
    view="features",
    estimator=make_pipeline(StandardScaler(), SVC(kernel="linear")),
    grid={"svc__C": _powers_of_ten(-5, 0)},
)


@dataclass
class Fitted:
    """Baselines fitted on the training and validation part of a cohort.

    Attributes
    ----------
    prepared : msxai.data.prepared.Prepared
    rows : ndarray of int
        The scans that they were fitted on.
    classifiers : dict
        (name, trial) to a fitted scikit-learn estimator; trial 0 where there is only one.
    left_out : dict
        Name to the reason, a sentence each.
    chosen : pandas.DataFrame
        variant, trial, parameter, value: what the inner cross-validation selected.
    """

    prepared: object
    rows: np.ndarray
    classifiers: dict = field(default_factory=dict)
    left_out: dict = field(default_factory=dict)
    chosen: pd.DataFrame | None = None


def inner_products(
    prepared,
    rows,
    reference,
    reference_rows,
    what: str = "image",
    block: int = 256,
) -> np.ndarray:
    """Return the inner products of scans, voxel by voxel.

    A linear SVM needs nothing else, and they take 1/1,000 of the memory of the voxels.

    Parameters
    ----------
    prepared, reference : msxai.data.prepared.Prepared
    rows, reference_rows : sequence of int
        Scans of each.
    what : {"image", "brain"}
        The normalised scan, or its binary brain mask (shape alone).
    block : int
        Scans of `reference` that are in memory at a time (1 MB each). All other scans are read once
        for each block.

    Returns
    -------
    ndarray of shape (len(rows), len(reference_rows)), float64
        Sums over the voxels inside the brain of any reference scan of the block.
    """
    products = np.empty((len(rows), len(reference_rows)))
    for first in range(0, len(reference_rows), block):
        members = reference_rows[first : first + block]
        inside = functools.reduce(np.logical_or, map(reference.brain, members))
        voxels = np.empty((len(members), np.count_nonzero(inside)), "float32")
        for index, member in enumerate(members):
            voxels[index] = _voxels(reference, member, what, inside)
        columns = slice(first, first + len(members))
        with tqdm(total=len(rows), desc=f"inner products ({what})", unit="scan") as bar:
            for start in range(0, len(rows), _ROWS):
                some = rows[start : start + _ROWS]
                values = np.stack([_voxels(prepared, row, what, inside) for row in some])
                products[start : start + len(some), columns] = values @ voxels.T
                bar.update(len(some))
    return products


def _voxels(prepared, row: int, what: str, inside) -> np.ndarray:
    """Return the values of a scan or of its brain mask inside a mask, float32."""
    volume = prepared.image(row) if what == "image" else prepared.brain(row)
    return volume[inside].astype("float32", copy=False)


def views(prepared, rows, reference=None, reference_rows=None) -> tuple[dict, dict]:
    """Return what the baselines see of scans.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    rows : sequence of int
        Scans of it.
    reference, reference_rows : optional
        Cohort and scans that the baselines were fitted on, for inner products and the columns of
        covariates. By default the same scans.

    Returns
    -------
    values : dict
        View to an array of shape (len(rows), ...) or a table of len(rows) rows.
    missing : dict
        View to the reason why it does not exist.
    """
    if reference is None:
        reference = prepared
        reference_rows = rows
    values = {}
    missing = {}
    if prepared.has_lesions[rows].all():
        values["lesion volumes"] = prepared.lesion_volumes(rows)[:, None]
    else:
        missing["lesion volumes"] = "the cohort has scans without a lesion mask"
    values["voxels"] = inner_products(prepared, rows, reference, reference_rows, "image")
    values["brain masks"] = inner_products(prepared, rows, reference, reference_rows, "brain")
    columns = _informative_covariates(reference, reference_rows)
    if columns:
        values["covariates"] = _covariates(prepared, rows, columns)
    else:
        names = f"{', '.join(_COVARIATES[:-1])} or {_COVARIATES[-1]}"
        missing["covariates"] = f"the cohort has no column {names} with more than one value"
    return values, missing


def _informative_covariates(prepared, rows) -> list[str]:
    """Return the covariates that differ between scans."""
    table = prepared.table
    present = [name for name in _COVARIATES if name in table]
    return [name for name in present if table[name].iloc[rows].nunique() > 1]


def _covariates(prepared, rows, columns: list[str]) -> pd.DataFrame:
    """Return covariates of scans: age as a number, the rest as text.

    A missing entry is the category "unknown", also where the whole column is missing in this
    cohort.
    """
    table = prepared.table.iloc[rows].reset_index(drop=True).reindex(columns=columns)
    text = table.fillna("unknown").astype(str)
    if "age" in columns:
        text["age"] = pd.to_numeric(table["age"])
    return text


def fit(prepared, features: dict | None = None, seed: int = 0) -> Fitted:
    """Fit all baselines on the training and validation part.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    features : dict, optional
        Variant to the features of *all* scans of the cohort, from
        `msxai.evaluation.prediction.features`; adds one baseline for each variant. Scans whose
        features are NaN are left out of it. The network was trained on the same training part, so
        the features fit it too well and the selection by inner cross-validation is less cautious
        than for the other baselines.
    seed : int
        Of the inner folds.

    Returns
    -------
    Fitted
    """
    features = features or {}
    parts = [prepared.rows("training"), prepared.rows("validation")]
    rows = np.sort(np.concatenate(parts).astype(int))
    labels, subjects = _labels_and_subjects(prepared, rows)
    fitted = Fitted(prepared, rows)
    controls, patients = _group_sizes(labels, subjects)
    if min(controls, patients) < 2:
        names = [*BASELINES, *(FEATURES.format(variant) for variant in features)]
        reason = (
            f"the training part has {patients} patients and {controls} controls; "
            "at least two of each are needed"
        )
        fitted.left_out = dict.fromkeys(names, reason)
        return fitted

    values, missing = views(prepared, rows)
    tasks = []
    for name, baseline in BASELINES.items():
        if baseline.view in missing:
            fitted.left_out[name] = missing[baseline.view]
        else:
            tasks.append((name, 0, baseline, values[baseline.view]))
    for variant, trials in features.items():
        name = FEATURES.format(variant)
        for trial, features_of_trial in enumerate(trials):
            tasks.append((name, trial, _ON_FEATURES, features_of_trial[rows]))

    selections = []
    for name, trial, baseline, seen in tasks:
        usable = _usable(baseline, seen)
        if min(_group_sizes(labels[usable], subjects[usable])) < 2:
            fitted.left_out[name] = (
                "two patients and two controls of the training part are needed whose lesions "
                "could be filled"
            )
            continue
        classifier, selected = _select(
            baseline, seen[usable], labels[usable], subjects[usable], seed
        )
        fitted.classifiers[name, trial] = classifier
        for parameter, value in selected.items():
            entry = {"variant": name, "trial": trial, "parameter": parameter, "value": value}
            selections.append(entry)
    fitted.chosen = pd.DataFrame(selections, columns=["variant", "trial", "parameter", "value"])
    return fitted


def predict(
    fitted: Fitted,
    prepared,
    rows,
    features: dict | None = None,
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
        As from `msxai.evaluation.prediction.predict`, without logit. The score is the logistic
        function of the signed distance to the decision boundary: above 0.5 where the baseline
        decides for patient. Only that of the logistic regression is a probability.
    left_out : dict
        Name to the reason, together with those of `fitted`.
    """
    left_out = dict(fitted.left_out)
    if not fitted.classifiers:
        return pd.DataFrame(), left_out
    values, missing = views(prepared, rows, fitted.prepared, fitted.rows)
    trials_by_name = {
        FEATURES.format(variant): trials for variant, trials in (features or {}).items()
    }
    tables = []
    for (name, trial), classifier in fitted.classifiers.items():
        scored_rows = rows
        if name not in BASELINES:
            features_of_trial = trials_by_name[name][trial]
            scored_rows = prediction.with_features(features_of_trial, rows)
            seen = features_of_trial[scored_rows]
        elif BASELINES[name].view in missing:
            left_out[name] = missing[BASELINES[name].view]
            continue
        else:
            seen = values[BASELINES[name].view]
        table = prediction.identifiers(prepared, scored_rows, name, trial)
        tables.append(table.assign(score=_score(classifier, seen)))
    if not tables:
        return pd.DataFrame(), left_out
    return pd.concat(tables, ignore_index=True), left_out


def cross_validate(
    prepared, seed: int = 0, folds: int = 5, repeats: int = 5
) -> tuple[pd.DataFrame, dict]:
    """Cross-validate all baselines on all labelled scans, with each selection inside its fold.

    Baselines on a network's features are left out, because their network has seen the labels of the
    training part.

    Parameters
    ----------
    prepared : msxai.data.prepared.Prepared
    seed : int
        Of the first repeat's folds.
    folds, repeats : int
        There are fewer folds where a group has too few subjects.

    Returns
    -------
    scores : pandas.DataFrame
        One row a baseline and fold: variant, repeat, fold, training, tested (numbers of subjects),
        then each of `msxai.base.statistics.MEASURES`.
    left_out : dict
        Name to the reason.
    """
    if not repeats:
        reason = "no cross-validation was requested"
        return pd.DataFrame(), dict.fromkeys(BASELINES, reason)
    rows = np.flatnonzero(prepared.table["label"].notna())
    labels, subjects = _labels_and_subjects(prepared, rows)
    smallest_group = min(_group_sizes(labels, subjects))
    folds = min(folds, smallest_group // 2)
    if folds < 2:
        reason = "cross-validation needs four patients and four controls"
        return pd.DataFrame(), dict.fromkeys(BASELINES, reason)
    values, missing = views(prepared, rows)
    left_out = {}
    for name, baseline in BASELINES.items():
        if baseline.view in missing:
            left_out[name] = missing[baseline.view]
    scores = []
    for repeat in tqdm(range(repeats), desc="cross-validation", unit="repeat"):
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + repeat)
        for fold, (train, test) in enumerate(splitter.split(rows, labels, subjects)):
            numbers = {
                "repeat": repeat,
                "fold": fold,
                "training": len(set(subjects[train])),
                "tested": len(set(subjects[test])),
            }
            for name, baseline in BASELINES.items():
                if name in left_out:
                    continue
                seen = values[baseline.view]
                fitted_on = _subset(baseline, seen, train, train)
                classifier, _ = _select(baseline, fitted_on, labels[train], subjects[train], seed)
                tested_on = _subset(baseline, seen, test, train)
                measures = _measures(labels[test], _score(classifier, tested_on))
                scores.append({"variant": name, **numbers, **measures})
    return pd.DataFrame(scores), left_out


def _measures(labels, scores) -> dict:
    """Return each of `msxai.base.statistics.MEASURES`."""
    return {name: function(labels, scores) for name, function in statistics.MEASURES.items()}


def _labels_and_subjects(prepared, rows) -> tuple[np.ndarray, np.ndarray]:
    """Return label and participant_id of scans."""
    table = prepared.table.iloc[rows]
    return table["label"].to_numpy(int), table["participant_id"].to_numpy()


def _group_sizes(labels, subjects) -> tuple[int, int]:
    """Return the numbers of controls and of patients (subjects, not scans)."""
    controls = len(set(subjects[labels == 0]))
    patients = len(set(subjects[labels == 1]))
    return controls, patients


def _usable(baseline: Baseline, seen) -> np.ndarray:
    """Return which scans a baseline can be fitted on: those with features, where it takes them."""
    if baseline is not _ON_FEATURES:
        return np.ones(len(seen), bool)
    return ~np.isnan(seen).any(axis=1)


def _score(classifier, values) -> np.ndarray:
    """Return the logistic function of the signed distance to the decision boundary."""
    return special.expit(classifier.decision_function(values))


def _select(baseline: Baseline, values, labels, subjects, seed: int):
    """Fit a baseline, with its parameters selected by the AUC of inner folds.

    Returns
    -------
    classifier : sklearn.base.BaseEstimator
    selected : dict
        Parameter to value. Of equally good ones the first is taken, which regularises most.
    """
    estimator = clone(baseline.estimator)
    folds = min(_FOLDS, *_group_sizes(labels, subjects))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if not baseline.grid or folds < 2:
            return estimator.fit(values, labels), {}
        inner = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        search = GridSearchCV(estimator, baseline.grid, scoring="roc_auc", cv=inner)
        search.fit(values, labels, groups=subjects)
    return search.best_estimator_, search.best_params_


def _subset(baseline: Baseline, values, rows, fitted_on):
    """Return rows of a view; of inner products only those with the scans of the fit."""
    if getattr(baseline.estimator, "kernel", "") == "precomputed":
        return values[np.ix_(rows, fitted_on)]
    if isinstance(values, pd.DataFrame):
        return values.iloc[rows]
    return values[rows]
