"""Can I trust this map? Four warnings of one heatmap, with limits from scans that the networks were validated on.

conservation         |sum(R) - f(x)| / max(|f(x)|, 1): the share of the logit that biases and the stabiliser keep; where the network is
                     undecided (a logit below 1 in size) a share would say nothing, so there it is in logits.
out_of_distribution  Mahalanobis distance of the scan's last features from the nearer of the two groups of the training part, the covariance
                     shared and shrunk (Lee et al. 2018, arXiv:1807.03888; in MR and CT: Gonzalez et al. 2022,
                     doi:10.1016/j.media.2022.102596; shrinkage: Ledoit, Wolf 2004, doi:10.1016/S0047-259X(03)00096-4); mean over networks.
outside_brain        share of |R| outside the brain mask.
agreement            Spearman's correlation of the networks' maps over the brain, mean over their pairs; low is suspicious.

A limit is passed by at most `ALARMS` of scans like those of the validation part (a split conformal quantile: Angelopoulos, Bates 2023,
doi:10.1561/2200000101). Few validation scans say little: from n scans the share cannot be below 1 / (n + 1). A flag is a reason to look
at a map twice. A map without flags may still be wrong.
"""

import itertools
import json
from pathlib import Path

import numpy as np
from scipy import stats
from sklearn.covariance import LedoitWolf

from msxai import ROOT
from msxai.base import provenance
from msxai.data.prepared import Prepared
from msxai.model import network, training

FLAGS = {
    "conservation": "what the map lacks of the logit, as a share of it (of at least 1)",
    "out_of_distribution": "distance of the scan from those that the networks were trained on",
    "outside_brain": "share of the map's size outside the brain",
    "agreement": "rank correlation of the networks' maps",
}
LOW = ("agreement",)  # suspicious where low
ALARMS = 0.05


def measure(maps, logits, brain) -> dict:
    """Values of one scan but the distance; None where there is none.

    Parameters
    ----------
    maps : ndarray of shape (networks, X, Y, Z)
    logits : sequence of float
    brain : ndarray of bool, shape (X, Y, Z)
    """
    mean, logit, ranks = (
        np.mean(maps, axis=0, dtype=float),
        float(np.mean(logits)),
        [stats.rankdata(one[brain]) for one in maps],
    )
    size = np.abs(mean).sum()
    with np.errstate(invalid="ignore", divide="ignore"):  # a map of zeros agrees with none
        pairs = [np.corrcoef(*pair)[0, 1] for pair in itertools.combinations(ranks, 2)]
    return {
        "conservation": abs(float(mean.sum()) - logit) / max(abs(logit), 1),
        "outside_brain": float(np.abs(mean[~brain]).sum() / size) if size else None,
        "agreement": number(np.mean(pairs)) if pairs else None,
    }


def number(value) -> float | None:
    """A finite number, else None."""
    return None if value is None or not np.isfinite(value) else float(value)


class Distance:
    """Mahalanobis distance to the nearer group, mean over networks.

    Parameters
    ----------
    features : list of ndarray of shape (scans, features)
        Of the training part, one array a network.
    labels : sequence of float
        Groups; scans without one are a group.
    """

    def __init__(self, features, labels):
        labels = np.nan_to_num(np.asarray(labels, float), nan=-1)
        self.fits = []
        for one in features:
            one = np.asarray(one, float)
            centres = np.stack([one[labels == label].mean(axis=0) for label in np.unique(labels)])
            rest = one - centres[np.searchsorted(np.unique(labels), labels)]
            precision = (
                LedoitWolf(assume_centered=True).fit(rest).precision_
                if rest.any()
                else np.full((one.shape[1],) * 2, np.nan)
            )
            self.fits.append((centres, precision))

    def __call__(self, features) -> np.ndarray:
        """Distances, shape (scans,), of the features of scans, one array a network; NaN where no group has two scans that differ."""
        found = []
        for (centres, precision), one in zip(self.fits, features, strict=True):
            apart = np.asarray(one, float)[:, None] - centres
            found.append(np.sqrt(np.einsum("ncf,fg,ncg->nc", apart, precision, apart)).min(axis=1))
        return np.mean(found, axis=0)


def features(models, prepared, rows) -> list[np.ndarray]:
    """Last features of scans, one array of shape (scans, features) a network."""
    return [training.outputs(network.features(model)[0], prepared, rows) for model in models]


def reference(weights) -> tuple[Prepared | None, str]:
    """The cohort that a weights file was trained on, by the record beside it; else None and why."""
    weights = Path(weights).resolve()
    record = weights.parent / "provenance.json"
    known = (
        json.loads(record.read_text(encoding="utf-8")).get("inputs", {}) if record.is_file() else {}
    )
    results, found = (
        weights.parents[3:4],
        {},
    )  # the folder of results that the weights lie in, wherever it was moved to
    for name, digest in known.items():
        places = [ROOT / name]
        for folder in results:
            places += [
                folder / "prepared" / Path(name).name,
                *folder.glob(f"lesion-filled/*/{Path(name).name}"),
            ]
        for ending in (".h5", "_split.tsv"):
            same = (
                path
                for path in places
                if name.endswith(ending) and path.is_file() and provenance.sha256(path) == digest
            )
            found[ending] = found.get(ending) or next(same, None)
    if all(found.get(ending) for ending in (".h5", "_split.tsv")):
        return Prepared(found[".h5"], found["_split.tsv"]), ""
    return None, "the scans that the network was trained on are not at hand"


def limits(values: list[dict]) -> dict:
    """Limits by the values of the validation part, one dict a scan: name to the limit, None without any value."""
    found = {}
    for name in FLAGS:
        known = np.sort(
            [
                -one[name] if name in LOW else one[name]
                for one in values
                if one.get(name) is not None
            ]
        )
        place = min(int(np.ceil((len(known) + 1) * (1 - ALARMS))), len(known)) - 1
        found[name] = (
            None if not len(known) else float(-known[place] if name in LOW else known[place])
        )
    return found


def flags(values: dict, limits: dict, source: str) -> list[dict]:
    """Flags of one scan for its sidecar: Flag, Meaning, Value, Limit, Flagged (None: cannot be told), LimitFrom."""
    found = []
    for name, meaning in FLAGS.items():
        value, limit = values.get(name), limits.get(name)
        passed = (
            None
            if value is None or limit is None
            else bool(value < limit if name in LOW else value > limit)
        )
        found.append(
            {
                "Flag": name,
                "Meaning": meaning,
                "Value": value,
                "Limit": limit,
                "Flagged": passed,
                "LimitFrom": source,
            }
        )
    return found
