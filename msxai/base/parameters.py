"""Where "is this a parameter of the notebook, and may it have this value?" is decided.

papermill only warns of a parameter that a notebook does not have, and passes any type. Each notebook therefore calls `check` right
after its tagged cell.
"""

import ast
import difflib
from pathlib import Path

from msxai import ROOT
from msxai.base.errors import ParameterError

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
}


def check(namespace: dict) -> dict:
    """Check the parameters of the calling notebook, whoever set them (papermill, Snakemake, a person in JupyterLab).

    Parameters
    ----------
    namespace : dict
        The notebook's ``globals()``. Its parameters are the annotated names (``width: int = 16``); whole numbers given for a
        ``float`` are made floats there.

    Returns
    -------
    dict
        Name to value, in the order of the tagged cell.

    Raises
    ------
    ParameterError
        A name that the notebook does not have (with the nearest one that it has), or a value of a wrong type.
    """
    kinds = namespace.get("__annotations__", {})
    history = namespace.get("In", [])
    injected = (
        history[-2] if len(history) > 1 and history[-2].lstrip().startswith("# Parameters") else ""
    )
    for name in _assigned(injected):
        if name not in kinds:
            raise ParameterError(
                f"parameter {name}",
                "a name that this notebook does not have",
                f"one of {', '.join(kinds)}",
                _nearest(name, kinds),
            )
    values = {}
    for name, kind in kinds.items():
        value = namespace[name]
        if kind is float and type(value) is int:
            value = namespace[name] = float(value)
        if type(value) is not kind:
            raise ParameterError(
                f"parameter {name}",
                f"{value!r} ({type(value).__name__})",
                f"{_KINDS[kind]} ({kind.__name__})",
                f"Pass a value such as the default in the notebook's parameters cell, e.g. papermill -p {name} VALUE.",
            )
        values[name] = value
    return values


def one_of(name: str, value, choices):
    """Return `value` where it is one of `choices`; else a `ParameterError` with the nearest one."""
    if value in choices:
        return value
    raise ParameterError(
        f"parameter {name}",
        repr(value),
        f"one of {', '.join(choices)}",
        _nearest(str(value), choices),
    )


def located(path: str) -> Path:
    """`path` as a `Path`; a relative one starts at the checkout, so that a notebook does the same from any working folder."""
    return ROOT / Path(path).expanduser()


def _assigned(source: str) -> list[str]:
    """Names that a cell assigns, in order."""
    nodes = ast.walk(ast.parse(source))
    return [
        target.id
        for node in nodes
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]


def _nearest(name: str, names) -> str:
    near = difflib.get_close_matches(name, list(names), 1, 0.5)
    return (
        f"Did you mean {near[0]}?"
        if near
        else "See the notebook's parameters cell for what each one means."
    )
