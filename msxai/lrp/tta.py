"""Maps as the mean over copies of a scan that were shifted and mirrored, each map moved back: no training, `copies` times the work.

Relevance sits where a network's poolings happen to fall on a scan; the mean over shifts by a few voxels depends on it less. Of Grad-CAM the
same is known as augmented Grad-CAM (Morbidelli et al. 2020, doi:10.1109/ICASSP40776.2020.9054416). A brain mirrored left to right is as
good a scan to a network that was trained on mirrored ones (`msxai.model.training.augment`).
"""

import dataclasses

import keras
import numpy as np
from scipy import ndimage
from scipy.stats import qmc

from msxai.base.errors import ParameterError
from msxai.lrp import engine, gradients

REACH = 4  # voxels along each axis: more than a pooling of 3 spans


def moves(copies: int, reach: int = REACH) -> list[tuple[tuple[int, int, int], bool]]:
    """Shifts (voxels along x, y, z) spread evenly over -`reach`..`reach`, and whether to mirror: every other one; the first is no move.

    Raises
    ------
    ParameterError
        Fewer than one copy, or a negative reach.
    """
    for name, value, least in (("copies", copies, 1), ("reach", reach, 0)):
        if value < least:
            raise ParameterError(
                name, f"{value}", f"{least} or more", "Leave it out for the usual value."
            )
    half, *points = (
        qmc.Halton(4, scramble=False).random(copies).T
    )  # of the first, every other point lies in the upper half
    steps = np.floor(np.transpose(points) * (2 * reach + 1)).astype(int) - reach
    steps[0] = 0
    return [
        (tuple(map(int, step)), bool(one >= 0.5)) for step, one in zip(steps, half, strict=True)
    ]


def moved(values, step, mirrored: bool) -> np.ndarray:
    """A volume of shape (X, Y, Z), mirrored along x where asked, then shifted; voxels shifted in from outside are 0."""
    return ndimage.shift(values[::-1] if mirrored else values, step, order=0)


def moved_back(values, step, mirrored: bool) -> np.ndarray:
    """The inverse of `moved`, but for what was shifted out: 0."""
    values = ndimage.shift(values, [-one for one in step], order=0)
    return values[::-1] if mirrored else values


def explain(
    model: keras.Model, volumes, copies: int = 1, reach: int = REACH, **options
) -> engine.Explanation:
    """As `msxai.lrp.explain`, the mean over `moves` of relevance, logits and audit: each copy's account balances, and so does their mean.

    Parameters
    ----------
    model, volumes, options
        Of `msxai.lrp.explain`; volumes of shape (N, X, Y, Z, 1).
    copies, reach : int
        See `moves`; with one copy it is `msxai.lrp.explain`.

    Raises
    ------
    ParameterError, EngineError
        As `moves` and `msxai.lrp.explain`.
    """
    relevance = logits = numbers = 0
    for step, mirrored in moves(copies, reach):
        one = engine.explain(
            model,
            np.stack([moved(volume[..., 0], step, mirrored)[..., None] for volume in volumes]),
            **options,
        )
        relevance += (
            np.stack(
                [moved_back(each[..., 0], step, mirrored)[..., None] for each in one.relevance]
            )
            / copies
        )
        logits, numbers = (
            logits + one.logits / copies,
            numbers + one.audit[engine.AUDIT[3:]] / copies,
        )
    return dataclasses.replace(
        one, relevance=relevance, logits=logits, audit=one.audit.assign(**numbers)
    )


def maps(
    model: keras.Model,
    volume,
    names,
    epsilon: float = 1e-3,
    *,
    copies: int = 4,
    reach: int = REACH,
    threads: int = 0,
) -> dict:
    """As `msxai.lrp.gradients.maps`, the mean over `moves`.

    Parameters
    ----------
    model, volume, names, epsilon, threads
        See `msxai.lrp.gradients.maps`.
    copies, reach : int
        See `moves`; with one copy it is the plain map.

    Returns
    -------
    dict
        Name to float array of shape (X, Y, Z), in the order of `names`.

    Raises
    ------
    ParameterError
        As `moves` and `msxai.lrp.gradients.maps`.
    """
    found = {}
    for step, mirrored in moves(copies, reach):
        one = gradients.maps(
            model,
            np.ascontiguousarray(moved(volume, step, mirrored)),
            names,
            epsilon,
            threads=threads,
        )
        for name, values in one.items():
            found[name] = found.get(name, 0) + moved_back(values, step, mirrored) / copies
    return found
