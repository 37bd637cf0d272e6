"""Does a network look at something that is no disease? A score of a cohort's heatmaps, without
knowing what to look for.

A shortcut (a site's stripe, a moved edge) is there or is not, always in the same place: the
heatmaps fall into two groups, and the groups go with the classes. Lesions lie elsewhere in each
subject and make no such groups. Spectral relevance analysis (Lapuschkin et al. 2019,
doi:10.1038/s41467-019-08987-4) finds the groups: a graph joins each map with its nearest ones, and
the second eigenvalue of its normalised Laplacian is near 0 where the graph nearly falls in two (von
Luxburg 2007, doi:10.1007/s11222-007-9033-z). By itself it also answers to what the network does not
use, for an artefact that both classes have changes the maps too; so it is weighted by how far the
groups go with the classes:

    score = (1 - second eigenvalue) * |correlation of its eigenvector with the class|

Near is what differs from the cohort's mean in the same places, not what has the same bright places:
each map is divided by its sum of sizes, positive and negative relevance are kept apart (what is
darker there turns or shrinks relevance, and their sum hides it), and each voxel is standardised
over the cohort, its standard deviation raised by the typical one so that a voxel nobody looks at
counts little (Tusher et al. 2001, doi:10.1073/pnas.091062498). Maps of several networks of the same
cohort are averaged: what one network memorised averages out. Carriers' relevance is taken to have
one sign there, for a shortcut speaks for one class.

A first design (|relevance| of one network, not standardised, a sixth of the maps as neighbours)
flagged 16 of 20 cohorts with a shortcut; those cohorts then served to develop this one. With it a
limit from the largest score of one set of cohorts gave 3 of 20 false alarms, a limit from the
spread of one set found 17 of 20, and one from four sets 20 of 20 with none of 20 false
(benchmarks/shortcut.json; benchmarks/shortcut.py tells what was tried on which cohorts).

No lesion mask is needed. The score has no limit of its own: a network that knows the disease better
also makes more alike maps of patients. Compare it with cohorts of the same size, scans and training
that have no shortcut (`limit`; benchmarks/shortcut.py does so).
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import csgraph
from sklearn.neighbors import kneighbors_graph

from msxai.base.errors import ParameterError

SMOOTHING = 0.7  # voxels, standard deviation
NEIGHBOURS = 1 / 4  # of the other maps, joined with each


@dataclass(frozen=True)
class Groups:
    """What `find` found.

    Attributes
    ----------
    score : float
        0 to 1; see the module.
    separation : float
        1 - second eigenvalue: 1 where the maps fall into two groups that nothing joins.
    association : float
        |Pearson's correlation| of the maps' places between the two groups with the class.
    member : ndarray of bool, shape (N,)
        The group that has more patients.
    difference : ndarray of shape (X, Y, Z)
        Mean share of |relevance| in that group minus that in the other: where a shortcut lies, if
        there is one.
    """

    score: float
    separation: float
    association: float
    member: np.ndarray
    difference: np.ndarray


def find(relevance, labels, smoothing: float = SMOOTHING, neighbours: float = NEIGHBOURS) -> Groups:
    """Score a cohort's heatmaps; the more maps the better, those of the training part too.

    Parameters
    ----------
    relevance : array of shape (N, X, Y, Z) or (M, N, X, Y, Z)
        One map a subject, on one grid in one space; or those of M networks.
    labels : sequence of int, shape (N,)
        1 patients, 0 controls.
    smoothing : float
        Standard deviation of the Gaussian that either sign of relevance is smoothed with (voxels).
    neighbours : float
        Share of the other maps that each is joined with, the nearest by the cosine.

    Raises
    ------
    ParameterError
        Fewer than six maps, one class alone, as many labels as maps are not there, or a map that is
        empty or has a value that is no number.
    """
    labels, networks = (
        np.asarray(labels, float),
        relevance if len(relevance) and np.ndim(relevance[0]) == 4 else [relevance],
    )
    if len(counts := {len(maps) for maps in networks}) > 1:
        raise ParameterError(
            "relevance",
            f"networks with {sorted(counts)} maps",
            "one map a subject and network",
            "Explain all alike.",
        )
    sizes = np.array([[np.abs(heatmap).sum(dtype=float) for heatmap in maps] for maps in networks])
    if sizes.shape[1] != len(labels) or len(labels) < 6 or set(labels) != {0, 1}:
        description = f"{sizes.shape[1]} maps and {len(labels)} labels of {sorted(set(labels))}"
        raise ParameterError(
            "relevance",
            description,
            "six maps or more, each with its label 0 or 1, both there",
            "Explain more subjects.",
        )
    if not np.isfinite(sizes).all() or not sizes.all():
        wrong = [
            int(index) for index in np.flatnonzero(~(np.isfinite(sizes) & (sizes > 0)).all(axis=0))
        ]
        raise ParameterError(
            "relevance",
            f"maps {wrong} of zeros or of no numbers",
            "finite maps",
            "Look at the network's output.",
        )
    parts = np.stack(
        [
            _share(maps_of_scan, size, smoothing)
            for maps_of_scan, size in zip(zip(*networks, strict=True), sizes.T, strict=True)
        ],
        axis=1,
    )
    maps = np.concatenate([_standardised(part).reshape(len(labels), -1) for part in parts], axis=1)
    joined = kneighbors_graph(
        maps, max(2, round(neighbours * len(maps))), metric="cosine"
    ).toarray()
    laplacian, root = csgraph.laplacian(np.maximum(joined, joined.T), normed=True, return_diag=True)
    trivial = root / np.linalg.norm(
        root
    )  # of eigenvalue 0; moved out of the way, for a graph in two parts has that eigenvalue twice
    values, vectors = np.linalg.eigh(laplacian + 2 * np.outer(trivial, trivial))
    position = vectors[:, 0] / root
    correlation = np.corrcoef(position, labels)[0, 1]
    separation, association = float(np.clip(1 - values[0], 0, 1)), float(abs(correlation))
    member = position > 0 if correlation > 0 else position < 0
    difference = np.sum(parts[:, member].mean(axis=1) - parts[:, ~member].mean(axis=1), axis=0)
    return Groups(separation * association, separation, association, member, difference)


def _share(maps, sizes, smoothing: float) -> np.ndarray:
    """Positive and negative relevance of a subject as shares, the networks' mean, smoothed; shape
    (2, X, Y, Z).
    """
    shares = np.stack([heatmap / size for heatmap, size in zip(maps, sizes, strict=True)])
    return np.stack(
        [
            ndimage.gaussian_filter(np.maximum(sign * shares, 0).mean(axis=0), smoothing)
            for sign in (1, -1)
        ]
    )


def _standardised(values) -> np.ndarray:
    """Each voxel less its mean over subjects, by its standard deviation plus the median one."""
    spread = values.std(axis=0)
    typical = (
        np.median(spread[spread > 0]) if spread.any() else 1.0
    )  # no relevance of this sign at all
    return (values - values.mean(axis=0)) / (spread + typical)


def limit(scores) -> float:
    """Three times the root mean square of the scores of cohorts without a shortcut.

    There the groups go with the classes by chance: the score is about the size of a normal deviate,
    and passes this once in 370. The largest of 40 scores, tried first, varies too much from one set
    of cohorts to the next.

    Raises
    ------
    ParameterError
        Fewer than 20 scores.
    """
    if len(scores) < 20:
        raise ParameterError(
            "scores",
            f"{len(scores)}",
            "20 or more, or their spread is not known",
            "Train more cohorts.",
        )
    return 3 * float(np.sqrt(np.mean(np.square(scores))))
