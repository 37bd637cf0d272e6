"""Checks a notebook's parameters: their names, types and choices.

papermill only warns of a parameter that a notebook does not have, and passes any type. Each
notebook therefore calls `check` right after its cell of parameters.

What has one meaning only is read, and a printed note says so: YAML takes ``1e-3`` for text, and
papermill gives a list of one scan as a text. What has two meanings is refused.
"""

import ast
import difflib
import math
import numbers
import os
import re
from pathlib import Path

from msxai import ROOT
from msxai.base import given_paths, short_texts
from msxai.base.errors import ParameterError

__all__ = [
    "PRETRAINING",
    "check",
    "check_script",
    "check_variant",
    "is_count_or_share",
    "located",
    "number",
    "one_of",
    "whole_number",
]

PRETRAINING = "pretraining"
"""Name of the folder of 02_pretraining's results, which no variant of 03_fine_tuning can have."""


# The smallest values of the notebooks' parameters. With smaller ones a notebook fails late.
_LEAST = {
    **dict.fromkeys(("batch_size", "epochs", "jobs", "simulated_pairs", "trials", "width"), 1),
    **dict.fromkeys(("permutations", "randoms", "subjects", "tta_copies"), 1),
    **dict.fromkeys(("control_penalty", "decay", "fold", "folds", "patience", "repeats"), 0),
    **dict.fromkeys(("averaging", "dropout", "pretraining_trials", "threads", "trial"), 0),
    **dict.fromkeys(("cohort_seed", "seed", "split_seed", "n_checked_scans"), 0),
    **dict.fromkeys(("n_further_subjects", "n_counterfactual_subjects", "n_state_scans"), 0),
}
_VARIANTS = ("best", "filled", "variant")  # each the name of a variant; "" where there may be none
_LISTS_OF_NUMBERS = ("holdout", "holdout_site")  # further lists hold texts
_ABOVE_0 = ("epsilon", "learning_rate")
_BELOW_1 = ("averaging", "dropout")
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "names with values",
}
_EXAMPLES = {
    bool: "papermill -p {name} True",
    int: "papermill -p {name} 3",
    float: "papermill -p {name} 0.5",
    str: "papermill -r {name} {value}",
    list: "papermill -y '{name}: [FIRST, SECOND]'",
    dict: "papermill -y '{name}: {{NAME: VALUE}}'",
}  # how papermill is given a value of each type
_WHOLE = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_TRUTHS = {"true": True, "false": False}


def check(namespace: dict) -> dict:
    """Check the parameters of the calling notebook, set by papermill, Snakemake or a person.

    Parameters
    ----------
    namespace : dict
        The notebook's ``globals()``. Its parameters are the annotated names (``width: int = 16``).
        Mended values are set there: a number or a truth that was given as text, and a list of one
        that was given as a text. Each is said in a printed note. A whole number given for a
        ``float`` becomes a float without a note.

    Returns
    -------
    dict
        Name to value, in the order of the cell of parameters.

    Raises
    ------
    ParameterError
        A name that the notebook does not have (with the nearest name that it has), or a value of
        a wrong type or out of range.
    """
    kinds = namespace.get("__annotations__", {})
    for name in _assigned_names(_injected_cell(namespace)):
        _check_name(name, kinds)
    values = {}
    for name, kind in kinds.items():
        given = namespace[name]
        values[name] = _typed(name, given, kind)
        _check_content(name, values[name])
        if type(given) is not kind and given != values[name]:
            print(f"Parameter {name}: {given!r} is read as {values[name]!r}.")
    namespace.update(values)
    return values


def check_script(script, values: dict) -> None:
    """Check parameters that a notebook will be given, before any notebook runs.

    What `check` mends passes.

    Parameters
    ----------
    script : path
        The notebook's .py.
    values : dict
        Name to value.

    Raises
    ------
    ParameterError
        As of `check`.
    """
    kinds = _kinds_of(Path(script).read_text(encoding="utf-8"))
    for name, value in values.items():
        try:
            _check_name(name, kinds)
            _check_content(name, _typed(name, value, kinds[name]))
        except ParameterError as error:
            where = f"{Path(script).name}, {error.where}"
            raise ParameterError(where, error.found, error.expected, error.mend) from None


def _kinds_of(source: str) -> dict[str, type]:
    """Names and types of a script's cell of parameters."""
    _, _, rest = source.partition('# %% tags=["parameters"]')
    cell, _, _ = rest.partition("\n# %%")
    types = {kind.__name__: kind for kind in _KINDS}
    return {
        node.target.id: types[node.annotation.id]
        for node in ast.parse(cell.partition("\n")[2]).body
        if isinstance(node, ast.AnnAssign)
    }


def _check_name(name: str, kinds: dict) -> None:
    if name not in kinds:
        raise ParameterError(
            f"parameter {name}",
            "a name that this notebook does not have",
            f"one of {', '.join(kinds)}",
            _suggestion(name, kinds),
        )


def _check_content(name: str, value) -> None:
    """Check what a value of the right type holds: its range, a name of a folder, or texts."""
    if name in _VARIANTS and value:
        check_variant(value, f"parameter {name}")
    if isinstance(value, list) and name not in _LISTS_OF_NUMBERS:
        _check_texts(name, value)
    _check_range(name, value)


def _check_texts(name: str, value: list) -> None:
    """Refuse a list of paths or of names that holds something else.

    Nothing (``null`` in YAML) stands for a file that a scan does not have.
    """
    for position, entry in enumerate(value, start=1):
        if entry is not None and not isinstance(entry, str | os.PathLike):
            raise ParameterError(
                f"parameter {name}, entry {position}",
                f"{short_texts.value(entry)} ({type(entry).__name__})",
                "text (str)",
                f'Write it in quotes: papermill -y \'{name}: ["FIRST", "SECOND"]\'.',
            )


def _check_range(name: str, value) -> None:
    """Check that a number is in the range that its name allows."""
    if name in _ABOVE_0:
        number(name, value, 0, above=True)
    elif name in _LEAST and isinstance(value, int):
        whole_number(name, value, _LEAST[name])
    elif name in _LEAST:
        number(name, value, _LEAST[name])
    if name in _BELOW_1 and value >= 1:
        raise ParameterError(
            f"parameter {name}", f"{value}", "a number below 1", "It is a share: 0.1 is 10 %."
        )


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


def check_variant(name, where: str = "parameter variant") -> None:
    """Refuse a name that a variant of 03_fine_tuning cannot have.

    Parameters
    ----------
    name : str
    where : str
        Names it in the error.

    Raises
    ------
    ParameterError
        The name would lead out of the folder of results (`msxai.base.given_paths.check_name`), or
        into that of 02_pretraining.

    Examples
    --------
    >>> check_variant("scratch")
    """
    given_paths.check_name(name, where)
    if name == PRETRAINING:
        raise ParameterError(
            where,
            repr(name),
            "another name",
            "The results of 02_pretraining have this one. Choose another one.",
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
    if in_range and _is_finite(value):
        return value
    if math.isinf(least):
        expected = "a finite number"
    elif above:
        expected = f"a number above {least:g}"
    else:
        expected = f"a number, {least:g} or more"
    raise ParameterError(
        f"parameter {name}", short_texts.value(value), expected, "Leave it out for the usual value."
    )


def is_count_or_share(value) -> bool:
    """Return whether a value is a count (0, 1, 2, ...) or a share (from 0 to below 1).

    Examples
    --------
    >>> [is_count_or_share(value) for value in (3, 0.2, 2.5, True, "3")]
    [True, True, False, False, False]
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        return False
    return value < 1 or value == int(value)


def _is_finite(value) -> bool:
    """Return whether a number is finite as a float."""
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more digits than a float has
        return False


def located(path: str) -> Path:
    """Return `path` as a `Path`; a relative one starts at the checkout.

    A notebook therefore does the same from any working folder.

    Raises
    ------
    ParameterError
        As of `msxai.base.given_paths.check`.
    """
    return given_paths.whole(path, ROOT)


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
    """Return a parameter's value as its type; refuse what has no single meaning as this type."""
    try:
        mended = _mended(value, kind)
    except (ValueError, OverflowError):  # more digits than Python reads, or than a float has
        mended = value
    if type(mended) is kind and not _is_too_large(mended):
        return mended
    raise ParameterError(
        f"parameter {name}",
        f"{short_texts.value(value)} ({type(value).__name__})",
        f"{_KINDS[kind]} ({kind.__name__})",
        f"Pass it so: {_EXAMPLES[kind].format(name=name, value=_as_written(value))}{_hint(kind)}.",
    )


def _is_too_large(value) -> bool:
    """Whether a whole number does not fit into 64 bits."""
    return type(value) is int and not -(2**63) <= value < 2**63


def _mended(value, kind: type):
    """Return a value as `kind`, where it has one meaning as such; else the value as it is."""
    if type(value) is str and kind is not str:
        return _of_text(value.strip(), kind, value)
    if kind is float and type(value) is int:
        return float(value)
    if kind is int and type(value) is float and value.is_integer():
        return int(value)
    if kind is list and type(value) is tuple:
        return list(value)
    return value


def _of_text(text: str, kind: type, value: str):
    """Return what a text says as another type; the given value where it says no such thing."""
    if kind is bool:
        return _TRUTHS.get(text.lower(), value)
    if kind is list:
        return [value] if text else value
    if kind is int and _WHOLE.fullmatch(text):
        return int(text)
    if kind not in (int, float) or not _NUMBER.fullmatch(text):
        return value
    number = float(text)
    if kind is int:
        return int(number) if number.is_integer() else value
    return number if math.isfinite(number) else value


def _as_written(value) -> str:
    """Return a value as a person writes it on a command line; of most, only that it is one."""
    return str(value) if type(value) is int and not _is_too_large(value) else "VALUE"


def _hint(kind: type) -> str:
    """Return what is said after the example of a type."""
    if kind is str:
        return ". The option -r keeps text, as quotes do in YAML"
    return ""


def _suggestion(name: str, names) -> str:
    """Return the question whether the nearest of `names` was meant."""
    nearest = difflib.get_close_matches(name, list(map(str, names)), n=1, cutoff=0.5)
    if nearest:
        return f"Did you mean {nearest[0]}?"
    return "See the notebook's cell of parameters for what each one means."
