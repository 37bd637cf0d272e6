"""Words of a profile: a misspelt one is said before anything runs; the lists are the package's."""

import copy

import pytest
from support.profiles import PROFILES

import msxai
from msxai.base import profile_words
from msxai.base.errors import ParameterError


@pytest.mark.parametrize("name", PROFILES)
def test_each_profile_of_the_workflow_passes(name):
    profile_words.check(PROFILES[name])


WRONG = {
    "01_data_preparation": {"normalisation": "zscor", "interpolation": "cubic", "on_error": "skip"},
    "02_pretraining": {"task": "lesion", "contrast": "owm", "augmentation": "papr"},
    "03_fine_tuning": {"realism": "plane", "head": "papper", "normalisation": "minmax"},
    "04_evaluation": {"split_part": "hold-out"},
    "05_lrp_heatmaps": {"rule": "epsilonn", "engine": "inn", "split_part": "test"},
    "07_explanation_quality": {
        "rules": ["epsilon", "alpha2_beta2"],
        "methods": ["gradients"],
        "checked_maps": ["brightnes"],
        "figure_maps": ["prio"],
        "state_rule": "epsilonn",
        "permuted": "nowhere",
    },
    "best": {"rule": "epsilon_gama"},
    "cohorts, finetuning": {"registration": "automatic", "modality": "flair"},
    "variants, scratch": {
        "filling": "noize",
        "counterfactual_pairs": "noises",
        "augmentation": "papr",
        "initial_weights": "bst",
        "head": "none",
    },
    "tasks, lesions": {"contrast": "any"},
}
CASES = [(section, name) for section, options in WRONG.items() for name in options]


@pytest.mark.parametrize(("section", "name"), CASES, ids=[", ".join(case) for case in CASES])
def test_a_misspelt_word_names_section_found_and_expected(section, name):
    config = copy.deepcopy(PROFILES["demo"]) | {"tasks": {"lesions": {}}}
    options = config
    for part in section.split(", "):
        options = options[part]
    value = WRONG[section][name]
    options[name] = value
    word = value[-1] if isinstance(value, list) else value
    with pytest.raises(ParameterError) as caught:
        profile_words.check(config)
    message = str(caught.value)
    assert message.startswith(f"{section}, parameter {name}: found {word!r}; expected one of ")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("heatmaps", "pretraind"), ("filled", "fill"), ("leagues", ["a"]), ("trainings", ["b"])],
)
def test_a_variant_that_is_nowhere(name, value):
    config = PROFILES["demo"] | {name: value}
    with pytest.raises(ParameterError, match=f"profile, parameter {name}: found '"):
        profile_words.check(config)


@pytest.mark.parametrize("source", ["trial-9", "lesion/best", "lesions/bst", "lesions/trial-1"])
def test_a_source_of_weights_that_nobody_makes(source):
    config = copy.deepcopy(PROFILES["demo"])
    config["variants"]["scratch"]["initial_weights"] = source
    with pytest.raises(ParameterError, match="variants, scratch, parameter initial_weights"):
        profile_words.check(config)


@pytest.mark.parametrize("source", ["trial-0", "lesions/best", "volume/trial-{trial}", "a/b.npz"])
def test_sources_of_weights(source):
    config = copy.deepcopy(PROFILES["demo"])
    config["variants"]["scratch"]["initial_weights"] = source
    profile_words.check(config)


def test_braces_are_patterns_of_the_workflow():
    config = PROFILES["demo"] | {"cohort": "data/a{name}"}
    with pytest.raises(ParameterError, match="expected a name without braces") as caught:
        profile_words.check(config)
    assert str(caught.value).startswith("cohort: found 'data/a{name}'; ")


@pytest.mark.parametrize("name", ["../../../x", "..", "a/b", "a b", "pretraining", 1])
def test_a_variant_whose_results_would_lie_elsewhere(name):
    config = copy.deepcopy(PROFILES["demo"])
    config["variants"][name] = {"initial_weights": "scratch"}
    with pytest.raises(ParameterError, match="profile, variants: found ") as caught:
        profile_words.check(config)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("section", "name", "value", "words"),
    [
        ("common", "results", "/", "parameter results: found '/', which is the whole disk"),
        ("common", "results", "", "parameter results: found an empty path"),
        ("common", "results", ".", "parameter results: found '.', which is the folder of the che"),
        ("07_explanation_quality", "folder", "../x", "parameter folder: found '../x'; expected a "),
        ("best", "variant", "../x", "best, variant: found '../x'; expected a letter or digit"),
        ("07_explanation_quality", "folder", "states", "parameter folder: found 'states', a fold"),
    ],
)
def test_results_that_would_lie_elsewhere(section, name, value, words):
    config = copy.deepcopy(PROFILES["demo"])
    config[section][name] = value
    with pytest.raises(ParameterError) as caught:
        profile_words.check(config)
    assert str(caught.value).startswith(words)


def test_a_task_that_no_pretraining_has():
    config = PROFILES["demo"] | {"tasks": {"../x": {}}}
    with pytest.raises(ParameterError, match=r"tasks, parameter task: found '\.\./x'"):
        profile_words.check(config)


def test_a_cohort_without_a_name():
    config = PROFILES["demo"] | {"cohort": ".."}
    with pytest.raises(ParameterError, match=r"parameter cohort: found '\.\.'"):
        profile_words.check(config)


def test_the_words_are_the_packages_own():
    """Imported here alone: some of these modules load a network's backend."""
    from msxai.data import images, lesion_filling, prepared
    from msxai.data.cohorts import scan_files, splits
    from msxai.data.registration import registration
    from msxai.data.synthetic import contrast
    from msxai.lrp import explanation, innvestigate, methods, rules
    from msxai.model import acquisition, augmentation, network, tasks
    from msxai.quality import reference_maps

    own = {
        "modality": scan_files.MODALITIES,
        "normalisation": prepared.NORMALISATIONS,
        "interpolation": images.INTERPOLATIONS,
        "registration": registration.MODES,
        "on_error": prepared.ON_ERROR,
        "task": tasks.TASKS,
        "contrast": contrast.CONTRASTS,
        "augmentation": augmentation.NAMES,
        "realism": acquisition.REALISM,
        "head": network.HEADS,
        "filling": lesion_filling.FILLINGS,
        "counterfactual_pairs": lesion_filling.FILLINGS,
        "split_part": (*splits.PARTS, "all"),
        "engine": explanation.ENGINES,
        "rule": rules.NAMES,
        "state_rule": rules.NAMES,
        "rules": rules.NAMES,
        "methods": tuple(methods.METHODS),
    }
    assert own == profile_words.WORDS
    assert profile_words.REFERENCE_MAPS == reference_maps.NAMES
    assert set(profile_words._RULES_OF_INNVESTIGATE) == set(innvestigate.ANALYZERS)


def test_each_word_is_of_a_parameter():
    """A parameter that was renamed would no longer be checked."""
    scripts = sorted((msxai.ROOT / "notebooks").glob("0*.py"))
    for name in profile_words.WORDS:
        texts = [path.read_text(encoding="utf-8") for path in scripts]
        assert any(f"\n{name}: " in text for text in texts), name
