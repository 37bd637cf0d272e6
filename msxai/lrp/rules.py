"""The rules of LRP as formulas, and composites of them: how a layer shares out its relevance.

A layer computes z_k = sum_j a_j w_jk + b_k, and relevance R_k arrives at its outputs. Every rule
here is a sum of terms, each

    R_j = share * sum_k sum_parts f(a)_j g(w)_jk R_k / stab(Z_k),

    Z_k = sum_parts sum_j f(a)_j g(w)_jk + h(b)_k,

with stab(x) = x + d where x >= 0, and x - d elsewhere. x+ stands for max(x, 0) and x- for
min(x, 0). The functions of this module are the rules; each says what f, g, h, share and d are.
docs/lrp.md lists them with the names that other programs use.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

from msxai.base import parameters
from msxai.base.errors import ParameterError
from msxai.base.parameters import one_of

__all__ = [
    "COMPOSITES",
    "DEFAULT",
    "NAMES",
    "ROLES",
    "RULES",
    "AffineLayer",
    "Rule",
    "Term",
    "alpha1_beta0",
    "alpha2_beta1",
    "alpha_beta",
    "assign",
    "bounded",
    "check_stabiliser",
    "divide",
    "epsilon",
    "flat",
    "gamma",
    "make",
    "share_out",
    "stabilised",
    "w_square",
    "z",
    "z_plus",
]

_SMALL = 1e-9  # stabiliser of rules without an epsilon


@dataclass(frozen=True)
class Term:
    """One term of a rule.

    Attributes
    ----------
    share : float
        Its factor.
    parts : tuple of (f, g)
        Functions of (array, numpy or keras.ops), for inputs of shape (N, ...) and weights of any
        shape.
    bias : callable, optional
        h; None where the bias does not stand in the denominator.
    sign : {0, 1, -1}
        Only units with z >= 0 (1) or z < 0 (-1); 0 stands for all.
    """

    share: float
    parts: tuple
    bias: Callable | None
    sign: int = 0


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes
    ----------
    name : str
        As it stands in the audit.
    terms : tuple of Term
    stabiliser : float
        d.
    plain : bool
        Whether its one denominator is z itself, which then need not be computed again.
    """

    name: str
    terms: tuple[Term, ...]
    stabiliser: float
    plain: bool = False


def _same(x, xp):
    return x


def _positive(x, xp):
    return xp.clip(x, 0, math.inf)  # maximum makes float64 to float32 on PyTorch


def _negative(x, xp):
    return xp.clip(x, -math.inf, 0)


def _ones(x, xp):
    return xp.ones_like(x)


def _square(x, xp):
    return x * x


def epsilon(stabiliser: float, bias: bool = True) -> Rule:
    """LRP-epsilon: R_j = sum_k a_j w_jk R_k / (z_k + d sign(z_k)).

    Bach et al. 2015, doi:10.1371/journal.pone.0130140, equation 58.

    Parameters
    ----------
    stabiliser : float
        d, the epsilon.
    bias : bool
        Whether the bias stands in the denominator.
    """
    return _plain("epsilon", stabiliser, bias)


def z(stabiliser: float = _SMALL, bias: bool = True) -> Rule:
    """LRP-z, also LRP-0: `epsilon` with an epsilon that only prevents a division by 0.

    Bach et al. 2015, doi:10.1371/journal.pone.0130140, equation 56.
    """
    return _plain("z", stabiliser, bias)


def _plain(name: str, stabiliser: float, bias: bool) -> Rule:
    term = Term(share=1, parts=((_same, _same),), bias=_same if bias else None)
    return Rule(name, (term,), stabiliser, plain=bias)


def alpha_beta(
    alpha: float = 2, beta: float = 1, stabiliser: float = _SMALL, bias: bool = True
) -> Rule:
    """LRP-alpha-beta: positive and negative contributions apart.

    R_j = sum_k (alpha c+_jk / (sum_j c+_jk + b+_k) - beta c-_jk / (sum_j c-_jk + b-_k)) R_k with
    c_jk = a_j w_jk, so that c+ has the parts a+ w+ and a- w-, and c- the parts a+ w- and a- w+.
    Bach et al. 2015, doi:10.1371/journal.pone.0130140, equation 60.

    Parameters
    ----------
    alpha, beta : float
        alpha - beta = 1.
    stabiliser : float
        d.
    bias : bool
        Whether the bias stands in the denominators.

    Raises
    ------
    ParameterError
        alpha - beta is not 1, or beta is negative.
    """
    if abs(alpha - beta - 1) > 1e-9 or beta < 0:
        raise ParameterError(
            "rule alpha_beta",
            f"alpha {alpha}, beta {beta}",
            "alpha - beta = 1, beta >= 0",
            "Give for instance 2 and 1.",
        )
    supporting = ((_positive, _positive), (_negative, _negative))
    terms = [Term(alpha, supporting, _positive if bias else None)]
    if beta:
        opposing = ((_positive, _negative), (_negative, _positive))
        terms.append(Term(-beta, opposing, _negative if bias else None))
    return Rule(f"alpha{alpha:g}_beta{beta:g}", tuple(terms), stabiliser)


def z_plus(stabiliser: float = _SMALL, bias: bool = True) -> Rule:
    """LRP-z+: `alpha_beta` with alpha 1 and beta 0, for inputs of any sign.

    Montavon et al. 2017, doi:10.1016/j.patcog.2016.11.008, there for inputs >= 0.
    """
    return alpha_beta(1, 0, stabiliser, bias)


def alpha1_beta0(stabiliser: float = _SMALL, bias: bool = True) -> Rule:
    """`alpha_beta` with alpha 1 and beta 0."""
    return alpha_beta(1, 0, stabiliser, bias)


def alpha2_beta1(stabiliser: float = _SMALL, bias: bool = True) -> Rule:
    """`alpha_beta` with alpha 2 and beta 1."""
    return alpha_beta(2, 1, stabiliser, bias)


def gamma(gamma: float = 0.25, stabiliser: float = _SMALL, bias: bool = True) -> Rule:
    """LRP-gamma: contributions of the sign of z count more.

    Where z_k >= 0 the parts are a+ (w + gamma w+) and a- (w + gamma w-), and h(b) = b + gamma b+;
    where z_k < 0 they are a+ (w + gamma w-) and a- (w + gamma w+), and h(b) = b + gamma b-.
    Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10; for any sign as in zennit 0.5.
    """

    def up(x, xp):
        return x + gamma * _positive(x, xp)

    def down(x, xp):
        return x + gamma * _negative(x, xp)

    above = Term(1, ((_positive, up), (_negative, down)), up if bias else None, sign=1)
    below = Term(1, ((_positive, down), (_negative, up)), down if bias else None, sign=-1)
    return Rule(f"gamma {gamma:g}", (above, below), stabiliser)


def flat(stabiliser: float = _SMALL) -> Rule:
    """LRP-flat: the same to every input that is no padding; f = 1, g = 1, no bias.

    Lapuschkin et al. 2019, doi:10.1038/s41467-019-08987-4.
    """
    return Rule("flat", (Term(1, ((_ones, _ones),), None),), stabiliser)


def w_square(stabiliser: float = _SMALL) -> Rule:
    """LRP-w²: R_j = sum_k w_jk^2 R_k / sum_j w_jk^2; f = 1, g = w^2, no bias.

    Montavon et al. 2017, doi:10.1016/j.patcog.2016.11.008.
    """
    return Rule("w_square", (Term(1, ((_ones, _square),), None),), stabiliser)


def bounded(
    low: float | None = None, high: float | None = None, stabiliser: float = _SMALL
) -> Rule:
    """LRP-zB, also the box rule, for inputs between two bounds: a w - low w+ - high w-.

    The parts (a - low) w+ and (a - high) w- are all positive, so that nothing cancels. Montavon et
    al. 2017, doi:10.1016/j.patcog.2016.11.008.

    Parameters
    ----------
    low, high : float, optional
        Bounds of the inputs; by default the smallest and the largest input of the scan.
    stabiliser : float
        d.
    """

    def above_low(x, xp):
        return x - _bound(low, xp.min, x)

    def below_high(x, xp):
        return x - _bound(high, xp.max, x)

    parts = ((above_low, _positive), (below_high, _negative))
    return Rule("bounded", (Term(1, parts, None),), stabiliser)


def _bound(given: float | None, reduce: Callable, inputs):
    if given is not None:
        return given
    all_but_first = tuple(range(1, len(inputs.shape)))
    return reduce(inputs, axis=all_but_first, keepdims=True)


RULES = {
    "epsilon": epsilon,
    "z": z,
    "alpha_beta": alpha_beta,
    "gamma": gamma,
    "flat": flat,
    "w_square": w_square,
    "bounded": bounded,
    "z_plus": z_plus,
    "alpha1_beta0": alpha1_beta0,
    "alpha2_beta1": alpha2_beta1,
}
ROLES = ("first", "convolution", "dense", "pool", "add", "norm")
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
    # A larger gamma, also in the first layer. It was chosen on simulated patients by hand, not by
    # the search of benchmarks/search.py.
    "epsilon_gamma": {
        "first": {"rule": "gamma", "gamma": 4.0},
        "convolution": {"rule": "gamma", "gamma": 1.0},
        "dense": "epsilon",
    },
}
NAMES = (*RULES, *COMPOSITES)
DEFAULT = "epsilon_half_gamma_box"
"""Rule of `msxai.lrp.explain` unless another is named: epsilon_gamma_box with a gamma of 0.5 in
place of 0.25. It was chosen on one part of a simulated cohort, and finds more of the lesions than
epsilon 1e-3 on another part (benchmarks/search.json). The paper uses epsilon."""


def check_stabiliser(name: str, value) -> None:
    """Raise a `ParameterError` where an epsilon is no number above 0."""
    parameters.number(name, value, 0, above=True)


def make(rule, epsilon: float) -> Rule:
    """Make a rule of its name, or of ``{"rule": name, option: value}``.

    Parameters
    ----------
    rule : str or dict
    epsilon : float
        Stabiliser of the epsilon rule, unless the options have one.

    Raises
    ------
    ParameterError
        Unknown rule or option, with the nearest one.

    Examples
    --------
    >>> make({"rule": "alpha_beta", "alpha": 3, "beta": 2}, epsilon=1e-3).name
    'alpha3_beta2'
    """
    options = dict(rule) if isinstance(rule, dict) else {"rule": rule}
    name = options.pop("rule", None)
    factory = RULES[one_of("rule", name, RULES)]
    for option in options:
        one_of(f"rule {name}, option", option, inspect.signature(factory).parameters)
    if name == "epsilon":
        options.setdefault("stabiliser", epsilon)
    _check_options(name, options)
    return factory(**options)


def _check_options(name: str, options: dict) -> None:
    """Check the values of a rule's options; None where the option may be left open."""
    for option, value in options.items():
        where = f"{option} of rule {name}"
        if option == "stabiliser":
            check_stabiliser(where, value)
        elif option == "bias":
            parameters.one_of(where, value, (True, False))
        elif option in ("low", "high"):
            if value is not None:
                parameters.number(where, value, -math.inf)
        else:  # alpha, beta, gamma
            parameters.number(where, value, 0)
    low, high = options.get("low"), options.get("high")
    if low is not None and high is not None and low > high:
        raise ParameterError(
            "rule bounded", f"low {low}, high {high}", "low below high", "Exchange them."
        )


def assign(layers: dict, rule, epsilon: float) -> dict[str, Rule]:
    """Decide the rule of each layer.

    Parameters
    ----------
    layers : dict
        Layer's name to its roles, of `ROLES`, the one that counts most first.
    rule : str or dict
        A rule for all layers with weights, a composite, or ``{role or layer's name: rule}``: a
        layer's own name goes before its roles. Layers that are not named get epsilon, also
        normalisations that are not merged; mean poolings and sums get z unless they are named.
    epsilon : float
        Stabiliser of the epsilon rule.

    Returns
    -------
    dict
        Layer's name to `Rule`.

    Raises
    ------
    ParameterError
        Unknown rule, role or layer, with the nearest one; a rule for a mean, a sum or a
        normalisation that needs weights.

    Examples
    --------
    >>> roles = {"conv1": ("first", "convolution"), "dense": ("dense",)}
    >>> assigned = assign(roles, "epsilon_plus_flat", epsilon=1e-3)
    >>> assigned["conv1"].name, assigned["dense"].name
    ('flat', 'epsilon')
    """
    mapping = _mapping(rule)
    for key in mapping:
        one_of("rule, role or layer", key, [*ROLES, *layers])
    return {name: _rule_of(name, roles, mapping, epsilon) for name, roles in layers.items()}


def _mapping(rule) -> dict:
    """Role or layer's name to rule."""
    if isinstance(rule, dict):
        return rule
    one_of("rule", rule, NAMES)
    if rule in COMPOSITES:
        return COMPOSITES[rule]
    mapping = {"convolution": rule, "dense": rule}
    if rule in ("epsilon", "z"):
        mapping["norm"] = rule
    return mapping


def _rule_of(name: str, roles: tuple, mapping: dict, epsilon: float) -> Rule:
    """The rule of one layer: by its name, else by its roles, else the default of its kind."""
    is_plain = roles[-1] in ("pool", "add", "norm")
    wanted = "z" if roles[-1] in ("pool", "add") else "epsilon"
    for key in (name, *roles):
        if key in mapping:
            wanted = mapping[key]
            break
    rule = make(wanted, epsilon)
    if is_plain and not rule.plain:
        raise ParameterError(
            f"rule of {name}",
            rule.name,
            "epsilon or z",
            "A mean, a sum or a normalisation has no weights to distinguish.",
        )
    return rule


def stabilised(x, stabiliser: float, xp):
    """Return x + stabiliser where x >= 0, else x - stabiliser; `xp` is numpy or keras.ops."""
    return xp.where(x >= 0, x + stabiliser, x - stabiliser)


def divide(relevance, totals, stabiliser: float, factor: float, xp):
    """Divide relevance by what its units sum up to.

    Parameters
    ----------
    relevance, totals : array of shape (N, ..., K)
        R and Z.
    stabiliser, factor : float
    xp : module
        numpy or keras.ops.

    Returns
    -------
    shares : array of shape (N, ..., K)
        factor R_k / stab(Z_k).
    sums : array of shape (N, K)
        Their sum over positions.
    lost : array of shape (N, K)
        What the stabiliser absorbs: d times the sum of share_k sign(Z_k).
    """
    shares = factor * relevance / stabilised(totals, stabiliser, xp)
    positions = tuple(range(1, len(shares.shape) - 1))
    absorbed = xp.where(totals >= 0, stabiliser * shares, -stabiliser * shares)
    return shares, xp.sum(shares, positions), xp.sum(absorbed, positions)


@dataclass(frozen=True)
class AffineLayer:
    """A layer z = a w + b, and how it is computed.

    Attributes
    ----------
    weights, bias : array
        w in the layout that `forward` and `backward` take, and b of shape (K,).
    forward : callable
        (inputs, weights) to sum_j a_j w_jk.
    backward : callable
        (shares, weights, factor) to factor_j sum_k w_jk share_k, of the shape of the inputs.
    xp : module
        numpy or keras.ops.
    divide : callable
        See `divide`.
    """

    weights: object
    bias: object
    forward: Callable
    backward: Callable
    xp: object
    divide: Callable = divide


def share_out(rule: Rule, layer: AffineLayer, relevance, inputs, outputs):
    """Share out the relevance of a layer's outputs among its inputs.

    Parameters
    ----------
    rule : Rule
    layer : AffineLayer
    relevance, outputs : array of shape (N, ..., K)
        R and z.
    inputs : array of shape (N, ...)
        a.

    Returns
    -------
    passed : array
        R_j, of the shape of the inputs.
    absorbed, lost : array of shape (N, K)
        What biases and the stabiliser absorbed, summed over positions.
    """
    xp = layer.xp
    passed = None
    absorbed = 0
    lost = 0
    for term in rule.terms:
        parts = [(f(inputs, xp), g(layer.weights, xp)) for f, g in term.parts]
        offset = None if term.bias is None else term.bias(layer.bias, xp)
        total = outputs if rule.plain else _total(layer, parts, offset)
        arriving = _of_sign(relevance, outputs, term.sign, xp)
        shares, sums, lost_here = layer.divide(arriving, total, rule.stabiliser, term.share, xp)
        lost = lost + lost_here
        absorbed = absorbed + _absorbed(shares, sums, offset, xp)
        for factor, weights in parts:
            handed = layer.backward(shares, weights, factor)
            passed = handed if passed is None else passed + handed
    return passed, absorbed, lost


def _absorbed(shares, sums, offset, xp):
    """What the biases of a term absorb; `sums` are the shares summed over positions."""
    if offset is None:
        return 0 * sums
    if len(offset.shape) == 1:
        return sums * offset
    positions = tuple(range(1, len(shares.shape) - 1))
    return xp.sum(shares * offset, positions)  # a bias that depends on the position


def _total(layer: AffineLayer, parts: list, offset):
    """Z of a term."""
    total = sum(layer.forward(*part) for part in parts)
    return total if offset is None else total + offset


def _of_sign(relevance, outputs, sign: int, xp):
    """Relevance of the units with z >= 0 (1), with z < 0 (-1), or of all (0)."""
    if not sign:
        return relevance
    counts = outputs >= 0 if sign > 0 else outputs < 0
    return xp.where(counts, relevance, 0 * relevance)
