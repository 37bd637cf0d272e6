"""What messages show of long texts and values."""

import pytest

from msxai.base import short_texts


@pytest.mark.parametrize("content", ["text", 3, 2.5, None, True, ["a", 1], {"a": [1]}, ("x",)])
def test_a_short_value_is_shown_as_python_writes_it(content):
    assert short_texts.value(content) == repr(content)


def test_a_long_value_is_short_and_is_never_written_as_a_whole():
    nested = ["x"] * 9
    for _ in range(12):  # 9 ** 13 letters
        nested = [nested] * 9
    for content in (nested, {"key": nested}, "y" * 10_000, 10**6000, -(10**30)):
        assert len(short_texts.value(content)) <= 203
    assert short_texts.value(10**6000) == "a number of more than 64 bits"


def test_the_beginning_and_the_ends_of_a_text():
    assert short_texts.beginning("abc", longest=3) == "abc"
    assert short_texts.beginning("abcd", longest=3) == "abc..."
    assert short_texts.without_middle("abcd", longest=4) == "abcd"
    assert short_texts.without_middle("abcde", longest=4) == "ab...de"
