"""Where "how does a layer share out its relevance?" is decided: the rules of LRP as formulas, and composites of them.

A layer computes z_k = sum_j a_j w_jk + b_k and R_k arrives at its outputs. Every rule here is a sum of terms, each

    R_j = share * sum_k sum_parts f(a)_j g(w)_jk R_k / stab(Z_k),      Z_k = sum_parts sum_j f(a)_j g(w)_jk + h(b)_k,

with stab(x) = x + d where x >= 0 and x - d elsewhere. Written with x+ = max(x, 0) and x- = min(x, 0):

epsilon, z  f = a, g = w; d is epsilon, or 1e-9 for z (Bach et al. 2015, doi:10.1371/journal.pone.0130140).
alpha_beta  alpha times the term with parts a+ w+, a- w- and b+, less beta times that with a+ w-, a- w+ and b- (Bach et al. 2015); alpha -
            beta = 1. alpha1_beta0, alpha2_beta1: those numbers. z_plus: alpha 1, beta 0 (Montavon et al. 2017,
            doi:10.1016/j.patcog.2016.11.008, for inputs of any sign).
gamma       where z_k >= 0: parts a+ (w + gamma w+), a- (w + gamma w-), b + gamma b+; elsewhere a+ (w + gamma w-), a- (w + gamma w+),
            b + gamma b- (Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10; the form for any sign as in zennit 0.5).
flat        f = 1, g = 1: the same to every input that is no padding (Lapuschkin et al. 2019, doi:10.1038/s41467-019-08987-4).
w_square    f = 1, g = w^2 (Montavon et al. 2017).
bounded     z^B: a w - low w+ - high w-, as parts (a - low) w+ and (a - high) w-, which are all positive, so that nothing cancels; low and
            high are the smallest and largest input of the volume unless given (ibid.).
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from msxai.base.errors import ParameterError
from msxai.base.parameters import one_of

SMALL = 1e-9  # stabiliser of rules without an epsilon


@dataclass(frozen=True)
class Term:
    """One term of a rule.

    Attributes
    ----------
    share : float
        Its factor.
    parts : tuple of (f, g)
        Functions of (array, numpy or keras.ops), for inputs of shape (N, ...) and weights of any shape.
    bias : function, optional
        h; None where the bias does not stand in the denominator.
    sign : {0, 1, -1}
        Only units with z >= 0 (1) or z < 0 (-1); 0: all.
    """

    share: float
    parts: tuple
    bias: Callable | None
    sign: int = 0


@dataclass(frozen=True)
class Rule:
    """A rule: its name, terms, stabiliser, and whether its one denominator is z itself (then z need not be computed again)."""

    name: str
    terms: tuple[Term, ...]
    stabiliser: float
    plain: bool = False


def _same(x, xp):
    return x


def _positive(x, xp):
    return xp.maximum(x, 0)


def _negative(x, xp):
    return xp.minimum(x, 0)


def _ones(x, xp):
    return xp.ones_like(x)


def _square(x, xp):
    return x * x


def epsilon(stabiliser: float, bias: bool = True) -> Rule:
    """See the module; `bias` says whether the bias stands in the denominator."""
    return Rule("epsilon", (Term(1, ((_same, _same),), _same if bias else None),), stabiliser, bias)


def z(stabiliser: float = SMALL, bias: bool = True) -> Rule:
    """See the module."""
    return Rule("z", epsilon(stabiliser, bias).terms, stabiliser, bias)


def alpha_beta(
    alpha: float = 2, beta: float = 1, stabiliser: float = SMALL, bias: bool = True
) -> Rule:
    """See the module."""
    if abs(alpha - beta - 1) > 1e-9 or beta < 0:
        raise ParameterError(
            "rule alpha_beta",
            f"alpha {alpha}, beta {beta}",
            "alpha - beta = 1, beta >= 0",
            "Give for instance 2 and 1.",
        )
    same, other = (
        ((_positive, _positive), (_negative, _negative)),
        ((_positive, _negative), (_negative, _positive)),
    )
    terms = [Term(alpha, same, _positive if bias else None)]
    if beta:
        terms.append(Term(-beta, other, _negative if bias else None))
    return Rule(f"alpha{alpha:g}_beta{beta:g}", tuple(terms), stabiliser)


def gamma(gamma: float = 0.25, stabiliser: float = SMALL, bias: bool = True) -> Rule:
    """See the module."""

    def up(x, xp):
        return x + gamma * xp.maximum(x, 0)

    def down(x, xp):
        return x + gamma * xp.minimum(x, 0)

    above = Term(1, ((_positive, up), (_negative, down)), up if bias else None, 1)
    below = Term(1, ((_positive, down), (_negative, up)), down if bias else None, -1)
    return Rule(f"gamma {gamma:g}", (above, below), stabiliser)


def flat(stabiliser: float = SMALL) -> Rule:
    """See the module."""
    return Rule("flat", (Term(1, ((_ones, _ones),), None),), stabiliser)


def w_square(stabiliser: float = SMALL) -> Rule:
    """See the module."""
    return Rule("w_square", (Term(1, ((_ones, _square),), None),), stabiliser)


def bounded(low: float | None = None, high: float | None = None, stabiliser: float = SMALL) -> Rule:
    """See the module."""

    def edge(given, name):
        def value(x, xp):
            found = (
                getattr(xp, name)(x, axis=tuple(range(1, len(x.shape))), keepdims=True)
                if given is None
                else given
            )
            return x - found

        return value

    parts = ((edge(low, "min"), _positive), (edge(high, "max"), _negative))
    return Rule("bounded", (Term(1, parts, None),), stabiliser)


RULES = {
    "epsilon": epsilon,
    "z": z,
    "alpha_beta": alpha_beta,
    "gamma": gamma,
    "flat": flat,
    "w_square": w_square,
    "bounded": bounded,
    "z_plus": lambda stabiliser=SMALL, bias=True: alpha_beta(1, 0, stabiliser, bias),
    "alpha1_beta0": lambda stabiliser=SMALL, bias=True: alpha_beta(1, 0, stabiliser, bias),
    "alpha2_beta1": lambda stabiliser=SMALL, bias=True: alpha_beta(2, 1, stabiliser, bias),
}
ROLES = ("first", "convolution", "dense", "pool", "add")
COMPOSITES = {
    "epsilon_plus": {"convolution": "z_plus", "dense": "epsilon"},
    "epsilon_plus_flat": {"first": "flat", "convolution": "z_plus", "dense": "epsilon"},
    "epsilon_alpha2_beta1": {"convolution": "alpha2_beta1", "dense": "epsilon"},
    "epsilon_alpha2_beta1_flat": {
        "first": "flat",
        "convolution": "alpha2_beta1",
        "dense": "epsilon",
    },
    "epsilon_gamma_box": {"first": "bounded", "convolution": "gamma", "dense": "epsilon"},
    "epsilon_half_gamma_box": {
        "first": "bounded",
        "convolution": {"rule": "gamma", "gamma": 0.5},
        "dense": "epsilon",
    },
    # larger gamma, also in the first layer: chosen on simulated patients by hand, not by the search of benchmarks/search.py
    "epsilon_gamma": {
        "first": {"rule": "gamma", "gamma": 4.0},
        "convolution": {"rule": "gamma", "gamma": 1.0},
        "dense": "epsilon",
    },
}
NAMES = (*RULES, *COMPOSITES)
DEFAULT = "epsilon_half_gamma_box"
"""Rule of `msxai.lrp.explain` unless another is named: epsilon_gamma_box with a gamma of .5 in place of .25. Chosen on one part of a
simulated cohort, it finds more of the lesions than epsilon 1e-3 on another (benchmarks/search.json). The paper's items name epsilon."""


def make(rule, epsilon: float) -> Rule:
    """Make a rule of its name, or of ``{"rule": name, option: value}``.

    Raises
    ------
    ParameterError
        Unknown rule or option, with the nearest one.
    """
    name, options = (rule.get("rule"), {**rule}) if isinstance(rule, dict) else (rule, {})
    options.pop("rule", None)
    factory = RULES[one_of("rule", name, RULES)]
    for option in options:
        one_of(f"rule {name}, option", option, inspect.signature(factory).parameters)
    return factory(**({"stabiliser": epsilon} if name == "epsilon" else {}) | options)


def assign(layers: dict, rule, epsilon: float) -> dict[str, Rule]:
    """Decide the rule of each layer.

    Parameters
    ----------
    layers : dict
        Layer's name to its roles, of `ROLES`, the one that counts most first.
    rule : str or dict
        A rule for all layers with weights, a composite, or ``{role or layer's name: rule}``: a layer's own name goes before its roles.
        Layers that are not named get epsilon; poolings by mean and sums get z unless named.
    epsilon : float
        Stabiliser of the epsilon rule.

    Returns
    -------
    dict
        Layer's name to `Rule`.

    Raises
    ------
    ParameterError
        Unknown rule, role or layer, with the nearest one.
    """
    if not isinstance(rule, dict):
        one_of("rule", rule, NAMES)
    mapping = (
        rule
        if isinstance(rule, dict)
        else COMPOSITES.get(rule) or {"convolution": rule, "dense": rule}
    )
    for key in mapping:
        one_of("rule, role or layer", key, [*ROLES, *layers])
    found = {}
    for name, roles in layers.items():
        key = next((key for key in (name, *roles) if key in mapping), None)
        default = "z" if roles[-1] in ("pool", "add") else "epsilon"
        found[name] = make(mapping[key] if key else default, epsilon)
        if roles[-1] in ("pool", "add") and not found[name].plain:
            raise ParameterError(
                f"rule of {name}",
                found[name].name,
                "epsilon or z",
                "A mean or a sum has no weights to tell apart.",
            )
    return found


def stabilised(x, stabiliser: float, xp):
    """X + stabiliser where x >= 0, x - stabiliser elsewhere."""
    return xp.where(x >= 0, x + stabiliser, x - stabiliser)


def divide(relevance, totals, stabiliser: float, factor: float, xp):
    """Shares factor R_k / stab(Z_k); for each volume and k their sum, and what the stabiliser keeps, d sum share sign(Z)."""
    shares = factor * relevance / stabilised(totals, stabiliser, xp)
    axes = tuple(range(1, len(shares.shape) - 1))
    return (
        shares,
        xp.sum(shares, axes),
        xp.sum(xp.where(totals >= 0, stabiliser * shares, -stabiliser * shares), axes),
    )


def share_out(
    rule: Rule, relevance, inputs, weights, bias, outputs, forward, backward, xp, divide=divide
):
    """Share out the relevance of a layer's outputs among its inputs.

    Parameters
    ----------
    relevance, outputs : array of shape (N, ..., K)
        R and z.
    inputs : array of shape (N, ...)
        a.
    weights, bias : array
        w in the layout that `forward` and `backward` take, and b of shape (K,).
    forward : function
        (inputs, weights) to sum_j a_j w_jk.
    backward : function
        (shares, weights, factor) to factor_j sum_k w_jk share_k, of the shape of inputs.
    xp : module
        numpy or keras.ops.
    divide : function
        See `divide`.

    Returns
    -------
    passed : array
        R_j, of the shape of inputs.
    absorbed, lost : array of shape (N, K)
        What biases and the stabiliser kept, summed over positions.
    """
    passed, absorbed, lost = None, 0, 0
    for term in rule.terms:
        parts = [(f(inputs, xp), g(weights, xp)) for f, g in term.parts]
        offset = None if term.bias is None else term.bias(bias, xp)
        total = outputs
        if not rule.plain:
            total = sum(forward(*part) for part in parts)
            total = total if offset is None else total + offset
        arriving = relevance
        if term.sign:
            arriving = xp.where(
                (outputs >= 0) if term.sign > 0 else (outputs < 0), relevance, 0 * relevance
            )
        shares, sums, kept = divide(arriving, total, rule.stabiliser, term.share, xp)
        lost = lost + kept
        absorbed = absorbed + (0 * sums if offset is None else sums * offset)
        for factor, weight in parts:
            found = backward(shares, weight, factor)
            passed = found if passed is None else passed + found
    return passed, absorbed, lost
