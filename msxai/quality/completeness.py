"""Does a map add up to the logit?

Conservation of LRP: sum(R) = f(x), except for the relevance that biases and the stabiliser absorb
(Bach et al. 2015, doi:10.1371/journal.pone.0130140). Without biases and with a small stabiliser
the sum must be exact.
"""

import keras
import numpy as np

from msxai import lrp

__all__ = ["bias_free", "conservation"]


def bias_free(model: keras.Model) -> keras.Model:
    """Return a copy of a model with all biases 0."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for layer in copy.layers:
        bias = getattr(layer, "bias", None)
        if bias is not None:
            bias.assign(0 * bias)
    return copy


def conservation(explanation: lrp.Explanation) -> np.ndarray:
    """Return the conservation error |sum(R) - f(x)| / |f(x)| of each scan.

    Returns
    -------
    ndarray of shape (N,)
        0 for a map that adds up to the logit.
    """
    total = explanation.relevance.sum(axis=(1, 2, 3, 4), dtype=float)
    return np.abs(total / explanation.logits - 1)
