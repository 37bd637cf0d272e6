"""Checks a notebook's parameters: their names, types and choices.

papermill only warns of a parameter that a notebook does not have, and passes any type. Each
notebook therefore calls `check` right after its cell of parameters.
"""

import ast
import difflib
import math
import numbers
from pathlib import Path

from msxai import ROOT
from msxai.base.errors import ParameterError

__all__ = ["check", "located", "number", "one_of", "whole_number"]

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
}


def check(namespace: dict) -> dict:
    """Check the parameters of the calling notebook, set by papermill, Snakemake or a person.

    Parameters
    ----------
    namespace : dict
        The notebook's ``globals()``. Its parameters are the annotated names (``width: int = 16``).
        A whole number given for a ``float`` becomes a float there.

    Returns
    -------
    dict
        Name to value, in the order of the cell of parameters.

    Raises
    ------
    ParameterError
        A name that the notebook does not have (with the nearest name that it has), or a value of
        a wrong type.
    """
    kinds = namespace.get("__annotations__", {})
    for name in _assigned_names(_injected_cell(namespace)):
        if name not in kinds:
            raise ParameterError(
                f"parameter {name}",
                "a name that this notebook does not have",
                f"one of {', '.join(kinds)}",
                _suggestion(name, kinds),
            )
    values = {}
    for name, kind in kinds.items():
        values[name] = _typed(name, namespace[name], kind)
    namespace.update(values)
    return values


def one_of(name: str, value, choices):
    """Return `value` if it is one of `choices`.

    Parameters
    ----------
    name : str
        The parameter's name, for the error.
    value : object
    choices : iterable of str

    Raises
    ------
    ParameterError
        `value` is not one of `choices`; the message suggests the nearest one.

    Examples
    --------
    >>> one_of("rule", "epsilon", ["z", "epsilon"])
    'epsilon'
    """
    if value in choices:
        return value
    raise ParameterError(
        f"parameter {name}",
        repr(value),
        f"one of {', '.join(map(str, choices))}",
        _suggestion(str(value), choices),
    )


def whole_number(name: str, value, least: int) -> int:
    """Return `value` if it is a whole number, `least` or more.

    Parameters
    ----------
    name : str
        The parameter's name, for the error.
    value : object
    least : int

    Raises
    ------
    ParameterError
        `value` is no whole number, or below `least`.

    Examples
    --------
    >>> whole_number("copies", 8, least=1)
    8
    """
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if is_whole and value >= least:
        return value
    raise ParameterError(
        f"parameter {name}",
        repr(value),
        f"a whole number, {least} or more",
        "Leave it out for the usual value.",
    )


def number(name: str, value, least: float, *, above: bool = False) -> float:
    """Return `value` if it is a finite number, `least` or more.

    Parameters
    ----------
    name : str
        The parameter's name, for the error.
    value : object
    least : float
    above : bool
        Whether `least` itself is refused, too.

    Raises
    ------
    ParameterError
        `value` is no finite number, or too small.

    Examples
    --------
    >>> number("epsilon", 1e-3, least=0, above=True)
    0.001
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    in_range = is_number and (value > least or (value == least and not above))
    if in_range and math.isfinite(value):
        return value
    if math.isinf(least):
        expected = "a finite number"
    elif above:
        expected = f"a number above {least:g}"
    else:
        expected = f"a number, {least:g} or more"
    raise ParameterError(
        f"parameter {name}", repr(value), expected, "Leave it out for the usual value."
    )


def located(path: str) -> Path:
    """Return `path` as a `Path`; a relative one starts at the checkout.

    A notebook therefore does the same from any working folder.
    """
    return ROOT / Path(path).expanduser()


def _injected_cell(namespace: dict) -> str:
    """Return the source of the cell that papermill added before the calling one, or nothing."""
    history = namespace.get("In", [])
    if len(history) < 2:
        return ""
    previous = history[-2]
    return previous if previous.lstrip().startswith("# Parameters") else ""


def _assigned_names(source: str) -> list[str]:
    """Return the names that a cell assigns, in order."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return names


def _typed(name: str, value, kind: type):
    """Return a parameter's value as its type; refuse another type."""
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is kind:
        return value
    example = f"papermill -p {name} VALUE"
    raise ParameterError(
        f"parameter {name}",
        f"{value!r} ({type(value).__name__})",
        f"{_KINDS[kind]} ({kind.__name__})",
        f"Pass a value such as the default in the notebook's cell of parameters, e.g. {example}.",
    )


def _suggestion(name: str, names) -> str:
    """Return the question whether the nearest of `names` was meant."""
    nearest = difflib.get_close_matches(name, list(map(str, names)), n=1, cutoff=0.5)
    if nearest:
        return f"Did you mean {nearest[0]}?"
    return "See the notebook's cell of parameters for what each one means."
