"""Methods besides LRP by name, and which rule or method a caller asks for."""

from msxai.base.parameters import one_of
from msxai.lrp import innvestigate, rules
from msxai.lrp.gradients import (
    Gradient,
    GuidedBackpropagation,
    InputXGradient,
    IntegratedGradients,
    SmoothGrad,
)
from msxai.lrp.occlusion import Occlusion

__all__ = ["METHODS", "check", "method_of", "quick"]

METHODS = {
    method.name: method
    for method in (
        Gradient,
        InputXGradient,
        IntegratedGradients,
        SmoothGrad,
        GuidedBackpropagation,
        Occlusion,
    )
}
_QUICK = {
    IntegratedGradients.name: IntegratedGradients(steps=8),
    SmoothGrad.name: SmoothGrad(samples=8),
    Occlusion.name: Occlusion(size=12),
}


def quick(names) -> dict:
    """Rules and methods by name, for `msxai.lrp.explain_each`: slow methods with fewer steps.

    Where many maps are compared, integrated gradients and SmoothGrad take 8 steps in place of 32,
    and occlusion cubes of 12 voxels in place of 9.

    Parameters
    ----------
    names : sequence of str
        Of `msxai.lrp.rules.NAMES` and `METHODS`.

    Examples
    --------
    >>> quick(["epsilon", "smoothgrad"])
    {'epsilon': 'epsilon', 'smoothgrad': SmoothGrad(noise=0.1, samples=8, seed=0)}
    """
    return {name: _QUICK.get(name, name) for name in names}


def method_of(rule_or_method):
    """The method that is asked for; None where it is a rule of LRP.

    Parameters
    ----------
    rule_or_method : str, dict or method
        As `msxai.lrp.explain` takes it.
    """
    if isinstance(rule_or_method, str):
        method = METHODS.get(rule_or_method)
        return method() if method else None
    if isinstance(rule_or_method, tuple(METHODS.values())):
        return rule_or_method
    return None


def check(rule_or_method, engine: str) -> None:
    """Check that an engine has a rule or method.

    Composites that a caller makes of rules are checked when their layers are known
    (`msxai.lrp.rules.assign`).

    Raises
    ------
    ParameterError
        An unknown rule or method, with the nearest one that exists.
    """
    if engine == "innvestigate":
        one_of("rule", rule_or_method, tuple(innvestigate.ANALYZERS))
        return
    if isinstance(rule_or_method, dict) or method_of(rule_or_method):
        return
    one_of("rule or method", rule_or_method, (*rules.NAMES, *METHODS))
