"""Writes the variables of `make run` as a config file of Snakemake, then becomes a command.

Usage: python tools/cohort_options.py --check runs/my-study-demo        (writes nothing)
       python tools/cohort_options.py runs/my-study-demo .venv/bin/snakemake ...
Variables: COHORT, PRETRAINING, PATIENTS, CONTROLS, LABEL, MODALITY, HOLDOUT. tools/run.sh takes the
results folder from RESULTS.

A results folder belongs to one cohort: data/a/study and data/b/study have the same name, so that
the second would replace the results of the first.

A file keeps text as it was written. On Snakemake's command line a cohort 007 becomes the number 7,
and a group 01 becomes 1.
"""

import os
import re
import shlex
import sys
from pathlib import Path

import yaml

from msxai.base import provenance
from msxai.base.errors import ParameterError
from msxai.base.parameters import is_count_or_share
from msxai.base.results import cohort_name

TEXTS = {
    "PRETRAINING": "pretraining_cohort",
    "PATIENTS": "patients",
    "CONTROLS": "controls",
    "LABEL": "label_column",
    "MODALITY": "modality",
}
"""Variable of the environment to the name in the config file."""

PROCESSES = {"01_data_preparation": {"jobs": 2}, "01b_lesion_filling": {"jobs": 2}}
"""Scans of one's own may need a registration, a minute each. The simulated cohorts of the demo have
one process each, so that other notebooks run beside."""


def holdout(text: str) -> list[int] | list[float]:
    """Return the two numbers of HOLDOUT: counts of controls and of patients, or shares.

    Brackets, semicolons, blanks and percent signs are read as a person means them.

    >>> holdout("10, 13"), holdout("[.2,.2]"), holdout("20%;25%")
    ([10, 13], [0.2, 0.2], [0.2, 0.25])
    """
    words = [word for word in re.split(r"[,;\s]+", text.strip().strip("[]()")) if word]
    try:
        numbers = [_number(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != 2 or not all(is_count_or_share(number) for number in numbers):
        raise ValueError(
            f"HOLDOUT: found {text!r}; expected two numbers, of controls and of patients: counts "
            "(HOLDOUT=10,13) or shares (HOLDOUT=0.2,0.2). Mend it and run again."
        )
    if not any(numbers):
        raise ValueError(
            f"HOLDOUT: found {text!r}, nobody; expected at least one subject, because results are "
            "reported on the holdout. Mend it and run again."
        )
    return numbers


def _number(word: str) -> int | float:
    if "_" in word:  # Python would read 2_0 as 20
        raise ValueError(word)
    if word.endswith("%"):
        share = float(word[:-1]) / 100
        if share >= 1:  # 1 would be read as one subject
            raise ValueError(word)
        return share
    return int(word) if word.isdecimal() else float(word)


def options(variables: dict, results: str) -> dict:
    """Return the content of the config file; variables that are empty are left out."""
    content = {"cohort": variables["COHORT"].rstrip("/"), "results": results}
    for variable, name in TEXTS.items():
        if variables.get(variable):
            content[name] = variables[variable]
    if variables.get("HOLDOUT"):
        content["holdout"] = holdout(variables["HOLDOUT"])
    return content


def check_names(content: dict) -> None:
    """Refuse names that Snakemake would read as patterns, and those that lead to other folders."""
    variables = {"cohort": "COHORT", "pretraining_cohort": "PRETRAINING", "results": "RESULTS"}
    for name, variable in variables.items():
        text = content.get(name, "")
        if set(text) & set("{}\n"):
            raise ValueError(
                f"{variable}: found {text!r}; expected a name without braces and line breaks, "
                "because the workflow reads braces as patterns. Rename it and run again."
            )
    for name in ("cohort", "pretraining_cohort"):
        if name not in content:
            continue
        try:
            cohort_name(content[name])
        except ParameterError as error:
            raise ValueError(
                f"{variables[name]}: found {error.found}; expected {error.expected}. {error.mend}"
            ) from error


def check_owner(path: Path, cohort: str) -> None:
    """Refuse a results folder whose options (`path`) name another cohort."""
    owner = _owner(path)
    if owner is None or Path(owner).resolve() == Path(cohort).resolve():
        return
    raise ValueError(
        f"{path.parent}: found results of the cohort {owner}; expected none, or results of "
        f"{cohort}. Choose another folder: make run COHORT={shlex.quote(cohort)} "
        f"RESULTS={shlex.quote(f'{path.parent}-2')}. If the cohort was moved, remove {path} and "
        "run again."
    )


def _owner(path: Path) -> str | None:
    """Return the cohort that a results folder belongs to, as its options name it.

    None where there are no options, or damaged ones: those that are written name a text.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        cohort = content["cohort"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError, yaml.YAMLError):
        return None
    is_path = isinstance(cohort, str) and "\0" not in cohort
    return cohort if is_path else None


def main() -> None:
    """Check the variables; without ``--check``, write ``cohort.yaml`` into the results folder."""
    only_checks = sys.argv[1] == "--check"
    results, *command = sys.argv[2:] if only_checks else sys.argv[1:]
    path = Path(results) / "cohort.yaml"
    try:
        content = options(os.environ, results)
        check_names(content)
        check_owner(path, content["cohort"])
    except ValueError as error:
        sys.exit(f"run: {error}")
    if only_checks:
        return
    text = yaml.safe_dump(content | PROCESSES, allow_unicode=True)
    with provenance.replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
