"""Does a network look at something that is no disease? A score of a cohort's heatmaps, without knowing what to look for.

A shortcut (a site's stripe, a moved edge) is there or is not, always in the same place: the heatmaps fall into two groups, and the groups
go with the classes. Lesions lie elsewhere in each subject and make no such groups. Spectral relevance analysis (Lapuschkin et al. 2019,
doi:10.1038/s41467-019-08987-4) finds the groups: a graph joins each map with its nearest ones, and the second eigenvalue of its normalised
Laplacian is near 0 where the graph nearly falls in two (von Luxburg 2007, doi:10.1007/s11222-007-9033-z). By itself it also answers to what
the network does not use, for an artefact that both classes have changes the maps too; so it is weighted by how far the groups go with the
classes:

    score = (1 - second eigenvalue) * |correlation of its eigenvector with the class|

No lesion mask is needed. The score has no limit of its own: a network that knows the disease better also makes more alike maps of patients.
Compare it with cohorts of the same size, scans and training that have no shortcut (`limit`; benchmarks/shortcut.py does so).
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import csgraph
from sklearn.neighbors import kneighbors_graph

from .errors import ParameterError

SMOOTHING = 0.7  # voxels, standard deviation
NEIGHBOURS = 1 / 6  # of the other maps, joined with each


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
        Mean share of |relevance| in that group minus that in the other: where a shortcut lies, if there is one.
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
    relevance : array of shape (N, X, Y, Z)
        One map a subject, on one grid in one space.
    labels : sequence of int, shape (N,)
        1 patients, 0 controls.
    smoothing : float
        Standard deviation of the Gaussian that |relevance| is smoothed with (voxels).
    neighbours : float
        Share of the other maps that each is joined with, the nearest by the cosine.

    Raises
    ------
    ParameterError
        Fewer than six maps, one class alone, as many labels as maps are not there, or a map that is empty or has a value that is no number.
    """
    labels, sizes = np.asarray(labels, float), [float(np.abs(one).sum(dtype=float)) for one in relevance]
    if len(sizes) != len(labels) or len(sizes) < 6 or set(labels) != {0, 1}:
        found = f"{len(sizes)} maps and {len(labels)} labels of {sorted(set(labels))}"
        raise ParameterError("relevance", found, "six maps or more, each with its label 0 or 1, both there", "Explain more subjects.")
    if not np.isfinite(sizes).all() or not all(sizes):
        wrong = [index for index, size in enumerate(sizes) if not (np.isfinite(size) and size)]
        raise ParameterError("relevance", f"maps {wrong} of zeros or of no numbers", "finite maps", "Look at the network's output.")
    maps = np.stack([ndimage.gaussian_filter(np.abs(one) / size, smoothing) for one, size in zip(relevance, sizes, strict=True)])
    joined = kneighbors_graph(maps.reshape(len(maps), -1), max(2, round(neighbours * len(maps))), metric="cosine").toarray()
    laplacian, root = csgraph.laplacian(np.maximum(joined, joined.T), normed=True, return_diag=True)
    trivial = root / np.linalg.norm(root)  # of eigenvalue 0; moved out of the way, for a graph in two parts has that eigenvalue twice
    values, vectors = np.linalg.eigh(laplacian + 2 * np.outer(trivial, trivial))
    place = vectors[:, 0] / root
    correlation = np.corrcoef(place, labels)[0, 1]
    separation, association = float(np.clip(1 - values[0], 0, 1)), float(abs(correlation))
    member = place > 0 if correlation > 0 else place < 0
    difference = maps[member].mean(axis=0) - maps[~member].mean(axis=0)
    return Groups(separation * association, separation, association, member, difference)


def limit(scores) -> float:
    """Largest score of cohorts without a shortcut: of as many new ones, each passes it with a probability of 1 / (cohorts + 1).

    Raises
    ------
    ParameterError
        Fewer than 20 scores.
    """
    if len(scores) < 20:
        raise ParameterError("scores", f"{len(scores)}", "20 or more, or one in twenty is flagged by chance", "Train more cohorts.")
    return float(np.max(scores))
