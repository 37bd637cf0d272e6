"""Four warnings of one heatmap, with limits from scans that the networks were validated on.

conservation
    |sum(R) - f(x)| / max(|f(x)|, 1): the share of the logit that biases and the stabiliser absorb.
    Where the network is undecided (a logit between -1 and 1) a share would say nothing, so there
    the value is in logits.
out_of_distribution
    Mahalanobis distance of the scan's last features from the nearer of the two groups of the
    training part, with one shrunk covariance for both; mean over networks (Lee et al. 2018,
    arXiv:1807.03888; in MR and CT Gonzalez et al. 2022, doi:10.1016/j.media.2022.102596; shrinkage
    Ledoit and Wolf 2004, doi:10.1016/S0047-259X(03)00096-4).
outside_brain
    Share of |R| outside the brain mask.
agreement
    Spearman's correlation of the networks' maps over the brain, mean over pairs of networks; low
    values are suspicious.

At most `ALARMS` of scans like those of the validation part exceed a limit (a split conformal
quantile: Angelopoulos and Bates 2023, doi:10.1561/2200000101). Few validation scans say little:
from n scans the share cannot be below 1 / (n + 1). A flag is a reason to look at a map twice. A map
without flags may still be wrong.
"""

import itertools
from pathlib import Path

import numpy as np
from scipy import stats
from sklearn.covariance import LedoitWolf

from msxai import ROOT
from msxai.base import provenance
from msxai.data.prepared import Prepared
from msxai.model import training_records

__all__ = [
    "ALARMS",
    "FLAGS",
    "Distance",
    "features",
    "flags",
    "limits",
    "measure",
    "number",
    "reference",
]

FLAGS = {
    "conservation": "what the map lacks of the logit, as a share of it (of at least 1)",
    "out_of_distribution": "distance of the scan from those that the networks were trained on",
    "outside_brain": "share of the map's magnitude outside the brain",
    "agreement": "rank correlation of the networks' maps",
}
ALARMS = 0.05
_LOW = ("agreement",)  # suspicious where low
_NOT_AT_HAND = "the scans that the network was trained on are not at hand"


def measure(maps, logits, brain) -> dict:
    """Values of one scan except the distance; None where there is none.

    Parameters
    ----------
    maps : ndarray of shape (networks, X, Y, Z)
    logits : sequence of float
        Of the networks.
    brain : ndarray of bool, shape (X, Y, Z)

    Returns
    -------
    dict
        conservation, outside_brain, agreement.
    """
    mean = np.mean(maps, axis=0, dtype=float)
    logit = float(np.mean(logits))
    magnitude = np.abs(mean).sum()
    outside = None
    if magnitude:
        outside = float(np.abs(mean[~brain]).sum() / magnitude)
    return {
        "conservation": abs(float(mean.sum()) - logit) / max(abs(logit), 1),
        "outside_brain": outside,
        "agreement": _agreement(maps, brain),
    }


def _agreement(maps, brain) -> float | None:
    """Mean rank correlation of pairs of maps; None for one map, or where a map is constant."""
    if len(maps) < 2:
        return None
    ranks = [stats.rankdata(relevance[brain]) for relevance in maps]
    with np.errstate(invalid="ignore", divide="ignore"):  # a map of zeros agrees with none
        correlations = [
            np.corrcoef(first, second)[0, 1] for first, second in itertools.combinations(ranks, 2)
        ]
    return number(np.mean(correlations))


def number(value) -> float | None:
    """A finite number, else None."""
    if value is None or not np.isfinite(value):
        return None
    return float(value)


class Distance:
    """Mahalanobis distance to the nearer group, mean over networks.

    Parameters
    ----------
    features : list of ndarray of shape (scans, features)
        Of the training part, one array for each network.
    labels : sequence of float
        Groups; scans without a label are a group.
    """

    def __init__(self, features, labels):
        labels = np.nan_to_num(np.asarray(labels, float), nan=-1)
        self._groups = [_Groups(np.asarray(values, float), labels) for values in features]

    def __call__(self, features) -> np.ndarray:
        """Distances of scans, shape (scans,); NaN where no group has two scans that differ.

        Parameters
        ----------
        features : list of ndarray of shape (scans, features)
            One array for each network.
        """
        distances = [
            groups.distance(np.asarray(values, float))
            for groups, values in zip(self._groups, features, strict=True)
        ]
        return np.mean(distances, axis=0)


class _Groups:
    """Centres of groups of scans in the features of one network, and their shared covariance."""

    def __init__(self, features: np.ndarray, labels: np.ndarray):
        names, membership = np.unique(labels, return_inverse=True)
        self.centres = np.stack([features[labels == name].mean(axis=0) for name in names])
        deviations = features - self.centres[membership]
        self.covariance = None
        if deviations.any():
            self.covariance = LedoitWolf(assume_centered=True).fit(deviations)

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Distance of each scan from the nearer centre."""
        if self.covariance is None:
            return np.full(len(features), np.nan)
        squares = [self.covariance.mahalanobis(features - centre) for centre in self.centres]
        return np.sqrt(np.min(squares, axis=0))


def features(models, prepared, rows) -> list[np.ndarray]:
    """Last features of scans, one array of shape (scans, features) for each network.

    Parameters
    ----------
    models : sequence of keras.Model
    prepared : msxai.data.prepared.Prepared
    rows : sequence of int
    """
    from msxai.model import network, training  # bring TensorFlow, which nothing else here needs

    trunks = [network.features(model)[0] for model in models]
    return training.outputs_of_each(trunks, prepared, rows)


def reference(weights) -> tuple[Prepared | None, str]:
    """The cohort that a weights file was trained on, by the record of its training.

    The record (`msxai.model.training_records`) has the SHA-256 of the prepared scans and of
    the split. They are looked for where the record says, and in the folder of results that the
    weights lie in, wherever it was moved to.

    Parameters
    ----------
    weights : path

    Returns
    -------
    cohort : msxai.data.prepared.Prepared or None
    reason : str
        Why there is none; "" where there is one.
    """
    weights = Path(weights).resolve()
    inputs = training_records.training_record(weights).get("inputs")
    if not isinstance(inputs, dict):
        return None, _NOT_AT_HAND
    arrays = _first_intact(inputs, ".h5", weights)
    split = _first_intact(inputs, "_split.tsv", weights)
    if arrays is None or split is None:
        return None, _NOT_AT_HAND
    return Prepared(arrays, split), ""


def _first_intact(inputs: dict, ending: str, weights: Path) -> Path | None:
    """The first file with this ending that is at hand as it was recorded."""
    for name, digest in inputs.items():
        if not name.endswith(ending):
            continue
        for path in _candidates(name, weights):
            if path.is_file() and provenance.sha256(path) == digest:
                return path
    return None


def _candidates(name: str, weights: Path) -> list[Path]:
    """Where a file that a record names may lie."""
    paths = [ROOT / name]
    for results in weights.parents[3:4]:  # of results/finetuning/variant/trial/weights.npz
        file_name = Path(name).name
        paths.append(results / "prepared" / file_name)
        paths.extend(results.glob(f"lesion-filled/*/{file_name}"))
    return paths


def limits(values: list[dict]) -> dict:
    """Limits by the values of the validation part.

    Parameters
    ----------
    values : list of dict
        As of `measure`, one for each scan.

    Returns
    -------
    dict
        Name of `FLAGS` to its limit; None without any value.
    """
    return {name: _limit(name, values) for name in FLAGS}


def _limit(name: str, values: list[dict]) -> float | None:
    """The ceil((n + 1) (1 - ALARMS))th of n values, of few the last one."""
    measured = [scan[name] for scan in values if scan.get(name) is not None]
    if not measured:
        return None
    rank = int(np.ceil((len(measured) + 1) * (1 - ALARMS)))
    ordered = sorted(measured, reverse=name in _LOW)
    return float(ordered[min(rank, len(measured)) - 1])


def flags(values: dict, limits: dict, source: str) -> list[dict]:
    """Flags of one scan, for its sidecar.

    Parameters
    ----------
    values : dict
        Of `measure`, and out_of_distribution.
    limits : dict
        Of `limits`.
    source : str
        Where the limits come from.

    Returns
    -------
    list of dict
        Flag, Meaning, Value, Limit, Flagged (None: cannot be told), LimitFrom.
    """
    return [
        {
            "Flag": name,
            "Meaning": meaning,
            "Value": values.get(name),
            "Limit": limits.get(name),
            "Flagged": _exceeds(name, values.get(name), limits.get(name)),
            "LimitFrom": source,
        }
        for name, meaning in FLAGS.items()
    ]


def _exceeds(name: str, value: float | None, limit: float | None) -> bool | None:
    if value is None or limit is None:
        return None
    return bool(value < limit if name in _LOW else value > limit)
