"""The shape of a profile: which of its values are groups, lists, texts and numbers.

YAML turns a word that was forgotten into nothing (``rules:``), and a line that is indented too far
into a part of another one. The workflow checks the shape before it reads a value.
"""

from msxai.base.errors import ParameterError

__all__ = ["check"]

_GROUPS = ("common", "cohorts", "trials", "variants", "memory_mb")
_GROUPS_OF_SOME = ("best", "tasks")  # profiles without them are whole
_GROUPS_OF_GROUPS = ("cohorts", "variants", "tasks")
_STAGES = ("finetuning", "pretraining")
_TEXTS = ("cohort", "pretraining_cohort", "heatmaps", "filled")
_LISTS = ("leagues", "trainings")
_LISTS_OF_NOTEBOOKS = ("rules", "methods", "checked_maps", "figure_maps", "variants")
_TEXTS_OF_VARIANTS = ("initial_weights",)

_GROUP = "a group, one `name: value` a line"
_LIST = "a list of words, [FIRST, SECOND]"
_TEXT = "a word"
_LARGEST = 1_000_000  # of trials and of megabytes: more is a slip of the keyboard
_NUMBER = f"a whole number from 1 to {_LARGEST:,}"


def check(config) -> None:
    """Check the shape of a profile, before its words.

    Parameters
    ----------
    config : dict
        The profile with all that was put on top of it (``workflow/*.yaml``).

    Raises
    ------
    ParameterError
        A value that is missing, or of another kind: which one, what was found and expected.

    Examples
    --------
    >>> from msxai.base import profile_shape
    >>> profile_shape.check({"common": None})
    Traceback (most recent call last):
        ...
    msxai.base.errors.ParameterError: profile, common: found nothing; ...
    """
    if not isinstance(config, dict):
        raise _error("profile", config, _GROUP)
    groups = [*_GROUPS, *(name for name in config if str(name)[:2].isdigit())]
    groups += [name for name in _GROUPS_OF_SOME if name in config]
    for name in groups:
        _check("profile", config, name, dict, _GROUP)
    for name in _GROUPS_OF_GROUPS:
        for inner in config.get(name, {}):
            _check(name, config[name], inner, dict, _GROUP)
    for stage in _STAGES:
        _check("cohorts", config["cohorts"], stage, dict, _GROUP)
        _check_number("trials", config["trials"], stage)
    _check("common", config["common"], "results", str, _TEXT)
    for name in _TEXTS:
        _check("profile", config, name, str, _TEXT)
    _check("profile", config, "judged", bool, "true or false")
    for name in config["memory_mb"]:
        _check_number("memory_mb", config["memory_mb"], name)
    _check_optional(config)


def _check_optional(config: dict) -> None:
    """Check lists and texts that not every profile has."""
    _check_lists("profile", config, _LISTS)
    for name, options in config.items():
        if str(name)[:2].isdigit():
            _check_lists(name, options, _LISTS_OF_NOTEBOOKS)
    for variant, options in config["variants"].items():
        for name in _TEXTS_OF_VARIANTS:
            if name in options:
                _check(f"variants, {variant}", options, name, str, _TEXT)


def _check_lists(section: str, group: dict, names) -> None:
    for name in names:
        if name not in group:
            continue
        _check(section, group, name, list, _LIST)
        for word in group[name]:
            if not isinstance(word, str):
                raise _error(f"{section}, {name}", word, _TEXT)


def _check(section: str, group: dict, name, kind: type, expected: str) -> None:
    value = group.get(name)
    if not isinstance(value, kind):
        raise _error(f"{section}, {name}", value, expected)


def _check_number(section: str, group: dict, name) -> None:
    """Check a whole number, which may be written as text."""
    value = group.get(name)
    if isinstance(value, str) and value.isdecimal() and len(value) <= len(str(_LARGEST)):
        value = int(value)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not is_number or not 1 <= value <= _LARGEST:
        raise _error(f"{section}, {name}", value, _NUMBER)


def _error(where: str, value, expected: str) -> ParameterError:
    value_in_words = "nothing" if value is None else repr(value)
    mend = "Mend the profile (workflow/*.yaml) and give the same command again."
    return ParameterError(where, value_in_words, expected, mend)
