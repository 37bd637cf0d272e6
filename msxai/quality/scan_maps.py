"""Maps of one scan by name, where many of them are compared."""

from msxai import lrp

__all__ = ["of_scan"]


def of_scan(
    model, scan, names, *, epsilon: float = 1e-3, copies: int = 1, threads: int = 0
) -> dict:
    """Explain one scan by several rules and methods.

    Slow methods take fewer steps (`msxai.lrp.quick`).

    Parameters
    ----------
    model : keras.Model
    scan : ndarray of shape (X, Y, Z)
    names : sequence of str
        Of `msxai.lrp.rules.NAMES` and `msxai.lrp.METHODS`.
    epsilon, copies
        See `msxai.lrp.explain`.
    threads : int
        See `msxai.lrp.Computation`.

    Returns
    -------
    dict
        Name to float array of shape (X, Y, Z), in the order of `names`.

    Raises
    ------
    ParameterError
        An unknown name, with the nearest one that exists.
    """
    explanations = lrp.explain_each(
        model,
        scan[None, ..., None],
        lrp.quick(names),
        epsilon=epsilon,
        copies=copies,
        computation=lrp.Computation(threads=threads),
    )
    return {name: explanation.relevance[0, ..., 0] for name, explanation in explanations.items()}
