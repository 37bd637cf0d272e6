"""The shape of a profile: whatever a value is, the answer is one sentence."""

import copy

import pytest
from support.profiles import PROFILES

from msxai.base import profile_shape, profile_words
from msxai.base.errors import ParameterError

ODD = (
    None,
    [],
    {},
    5,
    "x",
    [None],
    [[1]],
    {"a": 1},
    True,
    float("nan"),
    "../..",
    10**400,
    "9" * 5000,
)


def paths(values, start=()):
    """Places of all values in a profile."""
    keys = values if isinstance(values, dict) else range(len(values))
    for key in keys:
        yield (*start, key)
        if isinstance(values[key], dict | list):
            yield from paths(values[key], (*start, key))


def with_value(config, path, value):
    whole = copy.deepcopy(config)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return whole


def check_both(config):
    """Check a profile as the Snakefile does."""
    profile_shape.check(config)
    profile_words.check(config)


@pytest.mark.parametrize("name", PROFILES)
def test_each_profile_of_the_workflow_has_it(name):
    profile_shape.check(PROFILES[name])


@pytest.mark.parametrize("name", ["demo", "quality"])
def test_no_odd_value_stops_with_another_error(name):
    refusals = []
    for path in paths(PROFILES[name]):
        for value in ODD:
            try:
                check_both(with_value(PROFILES[name], path, value))
            except ParameterError as error:
                refusals.append(str(error))
    assert len(refusals) > 500
    assert not [message for message in refusals if len(message.splitlines()) != 1]


@pytest.mark.parametrize("config", [None, [], 5, "x", {}, {"common": None}])
def test_what_is_no_profile(config):
    with pytest.raises(ParameterError, match="expected a group"):
        profile_shape.check(config)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("variants", "scratch"), None, "variants, scratch: found nothing; expected a group"),
        (("trials", "finetuning"), 0, "trials, finetuning: found 0; expected a whole number"),
        (("filled",), None, "profile, filled: found nothing; expected a word"),
        (("heatmaps",), ["pretrained"], "profile, heatmaps: found ['pretrained']; expected a word"),
        (
            ("07_explanation_quality", "rules"),
            "z",
            "07_explanation_quality, rules: found 'z'; expe",
        ),
        (
            ("memory_mb", "08_figures"),
            "2 GB",
            "memory_mb, 08_figures: found '2 GB'; expected a who",
        ),
    ],
)
def test_a_value_of_another_kind(path, value, message):
    with pytest.raises(ParameterError) as caught:
        profile_shape.check(with_value(PROFILES["demo"], path, value))
    assert str(caught.value).startswith(message)
