"""Words of a profile: those that its parameters may have, and names that it uses twice.

A word that is wrong would otherwise stop its notebook, which may start after hours. The workflow
checks all of them before the first notebook runs. The lists of the package are repeated here,
because some of their modules load a network's backend, which takes seconds. A test compares them.
"""

from msxai.base.errors import ParameterError
from msxai.base.parameters import check_variant, one_of
from msxai.base.results import Results, cohort_name

__all__ = ["REFERENCE_MAPS", "WORDS", "check"]

_RULES = (
    "epsilon",
    "z",
    "alpha_beta",
    "gamma",
    "flat",
    "w_square",
    "bounded",
    "z_plus",
    "alpha1_beta0",
    "alpha2_beta1",
    "epsilon_plus",
    "epsilon_plus_flat",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "epsilon_gamma_box",
    "epsilon_half_gamma_box",
    "epsilon_gamma",
)
_METHODS = (
    "gradient",
    "input_x_gradient",
    "integrated_gradients",
    "smoothgrad",
    "guided_backpropagation",
    "occlusion",
)
_FILLINGS = ("none", "noise", "constant")

REFERENCE_MAPS = ("random", "untrained", "edges", "brightness", "prior")
"""Maps of 07 that need no explanation of the trained network."""

WORDS = {
    "modality": ("FLAIR", "T1w"),
    "normalisation": ("zscore", "max", "voxelwise"),
    "interpolation": ("linear", "continuous"),
    "registration": ("auto", "none", "affine", "full"),
    "on_error": ("stop", "leave out"),
    "task": ("diagnosis", "lesions", "volume"),
    "contrast": ("own", "random"),
    "augmentation": ("none", "paper", "strong", "contrast"),
    "realism": ("plain", "randomised"),
    "head": ("paper", "everywhere"),
    "filling": _FILLINGS,
    "counterfactual_pairs": _FILLINGS,
    "split_part": ("training", "validation", "holdout", "all"),
    "engine": ("msxai", "innvestigate"),
    "rule": _RULES,
    "state_rule": _RULES,
    "rules": _RULES,
    "methods": _METHODS,
}
"""Parameter to the words that it may have; the last two are lists of words."""

_RULES_OF_INNVESTIGATE = (
    "epsilon",
    "z",
    "flat",
    "w_square",
    "alpha1_beta0_IB",
    "alpha2_beta1_IB",
)
_COHORTS = ("cohort", "pretraining_cohort")
_PATTERNS = set("{}")  # what Snakemake reads as a pattern


def check(config: dict) -> None:
    """Check the words of a profile before any notebook runs.

    Parameters
    ----------
    config : dict
        The profile with all that was put on top of it (``workflow/*.yaml``), whose shape was
        checked (`msxai.base.profile_shape`).

    Raises
    ------
    ParameterError
        A word that its parameter does not have, a variant that is nowhere, a name with braces or
        one that leads out of the folder of results. It names the section of the profile, what was
        found there and what is expected.
    """
    for section, options in _sections(config).items():
        for name, value in options.items():
            _check_words(section, name, value, options)
    _check_maps(config.get("07_explanation_quality", {}))
    for variant, options in config["variants"].items():
        _check_source(f"variants, {variant}", options.get("initial_weights", "best"), config)
    _check_variants(config)
    _check_names(config)


def _sections(config: dict) -> dict[str, dict]:
    """Return all sections that hold parameters of notebooks, by their place in the profile."""
    sections = {name: options for name, options in config.items() if name[:2].isdigit()}
    sections["best"] = config.get("best", {})
    for group in ("cohorts", "variants", "tasks"):
        for name, options in config.get(group, {}).items():
            sections[f"{group}, {name}"] = options
    return sections


def _check_words(section: str, name: str, value, options: dict) -> None:
    """Check a parameter that has words, or a list of words."""
    words = WORDS.get(name, ())
    if name == "rule" and options.get("engine") == "innvestigate":
        words = _RULES_OF_INNVESTIGATE
    if not words:
        return
    for word in value if isinstance(value, list) else [value]:
        _one_of(section, name, word, words)


def _check_maps(options: dict) -> None:
    """Check the maps that 07 checks and draws: rules, methods and reference maps that it has."""
    if "rules" not in options or "methods" not in options:
        return
    maps = (*options["rules"], *options["methods"], *REFERENCE_MAPS)
    for name in ("checked_maps", "figure_maps"):
        for word in options.get(name, []):
            _one_of("07_explanation_quality", name, word, maps)


def _check_source(section: str, source: str, config: dict) -> None:
    """Check what a variant starts from: scratch, a file, or a trial of a pre-training."""
    if source == "scratch" or source.endswith(".npz"):
        return
    task, slash, trial = source.rpartition("/")
    if slash:
        _one_of(section, "initial_weights, the task", task, WORDS["task"])
    numbers = range(config["trials"]["pretraining"])
    trials = [f"trial-{number}" for number in numbers]
    _one_of(section, "initial_weights", trial, ("best", "scratch", "trial-{trial}", *trials))


def _check_variants(config: dict) -> None:
    """Check that variants named elsewhere in the profile are among its variants."""
    variants = tuple(config["variants"])
    _one_of("profile", "heatmaps", config["heatmaps"], variants)
    _one_of("profile", "filled", config["filled"], ("", *variants))
    for name in ("leagues", "trainings"):
        for variant in config.get(name, []):
            _one_of("profile", name, variant, variants)
    permuted = config.get("07_explanation_quality", {}).get("permuted", "")
    _one_of("07_explanation_quality", "permuted", permuted, ("", *variants))


def _check_names(config: dict) -> None:
    """Refuse names that Snakemake would read as patterns, and those that lead elsewhere."""
    names = {name: config[name] for name in _COHORTS}
    names["common, results"] = config["common"]["results"]
    names |= {f"variants, {variant}": variant for variant in config["variants"]}
    for where, name in names.items():
        if _PATTERNS & set(str(name)):
            raise ParameterError(
                where,
                repr(name),
                "a name without braces",
                "The workflow reads braces as patterns. Rename it and run again.",
            )
    for stage in _COHORTS:
        cohort_name(config[stage])
    for variant in config["variants"]:
        check_variant(variant, "profile, variants")
    best = config.get("best", {}).get("variant", "")
    if best:
        check_variant(best, "best, variant")
    for task in config.get("tasks", {}):
        _one_of("tasks", "task", task, WORDS["task"])
    where = Results(config["common"]["results"])
    folder = config.get("07_explanation_quality", {}).get("folder", "quality")
    where.quality(config["heatmaps"], folder)


def _one_of(section: str, name: str, word, words) -> None:
    try:
        one_of(name, word, words)
    except ParameterError as error:
        where = f"{section}, {error.where}"
        raise ParameterError(where, error.found, error.expected, error.mend) from None
