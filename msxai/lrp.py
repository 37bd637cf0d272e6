"""Layer-wise relevance propagation: what each voxel contributed to the logit.

Epsilon rule (Bach et al. 2015, PLoS ONE 10:e0130140, doi:10.1371/journal.pone.0130140): for a layer z_k = sum_j a_j w_jk + b_k,
R_j = a_j sum_k w_jk R_k / (z_k + epsilon sign(z_k)). Max pooling hands its relevance to the winner.
"""

from dataclasses import dataclass

import keras
import numpy as np

from . import innvestigate_process, network
from .parameters import one_of

ENGINES = ("innvestigate",)


@dataclass(frozen=True)
class Explanation:
    """Relevance and what it explains.

    Attributes
    ----------
    relevance : ndarray of shape (N, X, Y, Z, 1), float32
        Share of each voxel in the logit (unit: logit).
    logits : ndarray of shape (N,)
        f(x), the network's output before the sigmoid.
    rule, epsilon, engine
        As asked for.
    """

    relevance: np.ndarray
    logits: np.ndarray
    rule: str
    epsilon: float
    engine: str

    @property
    def conserved(self) -> np.ndarray:
        """sum(R) / f(x), shape (N,): 1 if nothing is absorbed by biases and the stabiliser."""
        return self.relevance.sum(axis=(1, 2, 3, 4), dtype=float) / self.logits


def explain(
    model: keras.Model,
    volumes,
    rule: str = "epsilon",
    epsilon: float = 1e-3,
    engine: str = "innvestigate",
    batch_size: int = 1,
    threads: int = 1,
) -> Explanation:
    """Explain the logit of each volume.

    Parameters
    ----------
    model : keras.Model
        From `msxai.network.build`.
    volumes : array-like of shape (N, X, Y, Z, 1)
        As the network was trained on.
    rule : {"epsilon", "z"}
        Rule of all layers with weights.
    epsilon : float
        Stabiliser; 1e-3 in the paper.
    engine : {"innvestigate"}
        Who computes.
    batch_size, threads : int
        Volumes at a time; threads of the engine.

    Returns
    -------
    Explanation

    Raises
    ------
    ParameterError
        Unknown rule or engine, with the nearest known one.
    EngineError
        The engine failed.
    """
    one_of("engine", engine, ENGINES)
    one_of("rule", rule, innvestigate_process.ANALYZERS)
    weights, shape = network.weights(model), model.input_shape[1:4]
    relevance = innvestigate_process.explain(weights, shape, volumes, rule, epsilon, batch_size, threads)
    logits = [keras.ops.convert_to_numpy(model(np.asarray(volume, "float32")[None], training=False))[0, 0] for volume in volumes]
    return Explanation(relevance, np.array(logits, float), rule, epsilon, engine)
