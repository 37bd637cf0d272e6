"""One reader for JSON files: no kind of damage is an error of its own."""

import pytest

from msxai.base import json_files, provenance
from msxai.base.errors import StaleInputError

DAMAGE = {
    "nothing": (b"", "Expecting value"),
    "half": (b'{"a": ', "Expecting value"),
    "list": (b"[]", "no group of values"),
    "null": (b"null", "no group of values"),
    "number": (b"5", "no group of values"),
    "text": (b'"a"', "no group of values"),
    "brackets": (b"[" * 200_000, "too many brackets"),
    "groups": (b'{"a":' * 200_000, "too many brackets"),
    "digits": (b'{"a": ' + b"1" * 5000 + b"}", "Exceeds the limit"),
    "bytes": (b"\xff\xfe\0", "invalid start byte"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_a_value_error_and_empty_where_it_may_be(tmp_path, name):
    path = tmp_path / "record.json"
    content, words = DAMAGE[name]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        json_files.read(path)
    assert json_files.read_or_empty(path) == {}
    with pytest.raises(StaleInputError, match=rf"record\.json: found a damaged file \(.*{words}"):
        provenance.read(path)


def test_values_come_by_their_names(tmp_path):
    provenance.write_json(tmp_path / "record.json", {"a": [1, None]})
    assert json_files.read(tmp_path / "record.json") == {"a": [1, None]}
    assert json_files.read_or_empty(tmp_path / "none.json") == {}
    with pytest.raises(FileNotFoundError):
        json_files.read(tmp_path / "none.json")


@pytest.mark.parametrize("name", ["parameters", "inputs", "outputs"])
def test_a_record_without_its_groups_is_damaged(tmp_path, name):
    content = {"parameters": {}, "inputs": {}, "outputs": {}}
    path = tmp_path / "record.json"
    for value in ([], "a", None):
        provenance.write_json(path, content | {name: value})
        with pytest.raises(StaleInputError, match=rf"a damaged file \(no {name}\)"):
            provenance.require(path, "01", "make demo")
    provenance.write_json(path, content)
    assert provenance.require(path, "01", "make demo") == content
