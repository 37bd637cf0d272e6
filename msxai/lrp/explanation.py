"""What an explanation holds, and how it is to be computed."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from msxai.base.errors import ParameterError
from msxai.base.parameters import one_of, whole_number

__all__ = ["AUDIT", "DTYPES", "ENGINES", "UNDECIDED", "Computation", "Explanation", "conserved"]

ENGINES = ("msxai", "innvestigate")
DTYPES = ("float32", "float64")
AUDIT = ["volume", "layer", "rule", "arriving", "passed", "bias", "stabiliser"]
UNDECIDED = 0.1  # logit: nearer to 0, the share of it that a map holds says nothing


@dataclass(frozen=True)
class Computation:
    """Who computes explanations, and how. Results depend on none of it, except for rounding.

    Attributes
    ----------
    engine : {"msxai", "innvestigate"}
        iNNvestigate is the cross-check. It runs in a process of its own, and takes the network of
        the paper and the rules `msxai.lrp.innvestigate.ANALYZERS` only.
    batch_size : int
        Scans at a time. The compiled kernels take scans one by one in any case.
    threads : int
        Threads of the kernels and of iNNvestigate; 0 stands for all.
    dtype : {"float32", "float64"}
        Of all computation. iNNvestigate computes in float32 only.
    compiled : bool, optional
        Whether `msxai.model.kernels` compute the layers that they can. By default they do so where
        there is no GPU. iNNvestigate has no such choice.

    Raises
    ------
    ParameterError
        Unknown engine or dtype, with the nearest one that exists; no scan at a time, or a negative
        number of threads; a dtype or `compiled` that iNNvestigate cannot follow.
    """

    engine: str = "msxai"
    batch_size: int = 1
    threads: int = 0
    dtype: str = "float32"
    compiled: bool | None = None

    def __post_init__(self):
        one_of("engine", self.engine, ENGINES)
        one_of("dtype", self.dtype, DTYPES)
        whole_number("batch_size", self.batch_size, 1)
        whole_number("threads", self.threads, 0)
        if self.compiled not in (None, True, False):
            raise ParameterError(
                "parameter compiled", f"{self.compiled!r}", "true, false or none", "Leave it out."
            )
        if self.engine == "innvestigate":
            self._check_innvestigate()

    def _check_innvestigate(self):
        """Refuse what iNNvestigate would ignore."""
        mend = "Leave {} out, or set engine='msxai'."
        if self.dtype != "float32":
            actual = f"{self.dtype!r} with engine innvestigate, which computes in float32"
            raise ParameterError("parameter dtype", actual, "'float32'", mend.format("dtype"))
        if self.compiled is not None:
            actual = f"{self.compiled!r} with engine innvestigate, which has kernels of its own"
            raise ParameterError("parameter compiled", actual, "none", mend.format("compiled"))


@dataclass(frozen=True)
class Explanation:
    """Relevance, and what it explains.

    Attributes
    ----------
    relevance : ndarray of shape (N, X, Y, Z, C), float32 (float64 where asked for)
        Share of each voxel in the logit, in logits. Gradient, SmoothGrad and guided
        backpropagation: change of the logit with the voxel's intensity.
    logits : ndarray of shape (N,)
        f(x), the explained output unit before any sigmoid or softmax.
    audit : pandas.DataFrame
        What each layer did with the relevance: one row for each scan and layer, from the output
        on. Columns (`AUDIT`): volume (number of the scan), layer, rule, arriving (relevance at the
        layer's outputs), passed (what it hands to its inputs), bias and stabiliser (what these
        absorb). arriving = passed + bias + stabiliser. Empty for iNNvestigate and for methods
        other than LRP.
    rule : str, dict or method
        As asked for.
    epsilon : float
        Stabiliser of the epsilon rule; NaN for methods other than LRP.
    engine : str
        One of `ENGINES`.
    tables : dict
        By LRP, for a network that also takes tables: name of each such input to the relevance of
        its columns, ndarray of shape (N, F).
    """

    relevance: np.ndarray
    logits: np.ndarray
    audit: pd.DataFrame
    rule: object
    epsilon: float
    engine: str
    tables: dict = field(default_factory=dict)

    @property
    def conserved(self) -> np.ndarray:
        """sum(R) / f(x) of each scan; see `conserved`."""
        return conserved(self._sums(), self.logits)

    def __str__(self) -> str:
        """One line for each scan: logit, sum of the map, and the share of the logit that it is."""
        lines = []
        for logit, total, share in zip(self.logits, self._sums(), self.conserved, strict=True):
            text = f"{share:.3f}"
            if np.isnan(share):
                text = "cannot be told, because the logit is near 0"
            lines.append(
                f"logit {logit:+.3f}, sum of the map {total:+.3f}, share of the logit: {text}"
            )
        return "\n".join(lines)

    def _sums(self) -> np.ndarray:
        total = self.relevance.sum(axis=(1, 2, 3, 4), dtype=float)
        for relevance in self.tables.values():
            total = total + relevance.sum(axis=1, dtype=float)
        return total


def conserved(relevance, logits) -> np.ndarray:
    """Share of the logit that a map holds: sum(R) / f(x).

    1 where biases and the stabiliser absorb nothing. NaN where the logit is nearer to 0 than
    `UNDECIDED`: a network that is undecided leaves nothing to be shared out, and the quotient of
    two small numbers says nothing.

    Parameters
    ----------
    relevance, logits : array of shape (N,)
        Sum of each map, and its logit.

    Examples
    --------
    >>> conserved([0.9, -0.4], [1.0, 0.05])
    array([0.9, nan])
    """
    relevance = np.asarray(relevance, float)
    logits = np.asarray(logits, float)
    decided = np.abs(logits) >= UNDECIDED
    share = np.full(logits.shape, np.nan)
    np.divide(relevance, logits, out=share, where=decided)
    return share
