"""Outputs that must be JSON of a certain shape."""

import json
from typing import Any

import pytest
from flywheel_pl.checks import json_schema
from hypothesis import given
from hypothesis import strategies as st

SCHEMA = {
    "type": "object",
    "required": ["name", "tags"],
    "properties": {
        "name": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}


def check(text: str, **params: object) -> Any:
    return json_schema.prepare({**json_schema.DEFAULTS, **params})(text)


def test_what_follows_the_schema_passes() -> None:
    assert check('{"name": "a", "tags": ["b"]}', schema=SCHEMA) is True


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"name": "a", "tags": ["b", 3]}', "data.tags[1] must be string"),
        ('{"name": "a"}', "tags"),
        ('{"name": "a",}', "not JSON: "),
        ("Here you are: {}", "at line 1, column 1"),
        ("", "not JSON"),
        ("[NaN]", "NaN is no JSON number"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5_000, "not JSON"),
    ],
)
def test_what_does_not_fails_with_the_place(text: str, why: str) -> None:
    passed, reason = check(text, schema=SCHEMA)
    assert passed is False
    assert why in reason


@pytest.mark.parametrize(
    "text", ["```json\n[1]\n```", "```\n[1]\n```", "\n ```JSON\r\n[1]\r\n```\n", " [1]\n"]
)
def test_fences_are_accepted(text: str) -> None:
    assert check(text) is True


@pytest.mark.parametrize("text", ["```json\n[1]\n```", "See: ```json\n[1]\n```"])
def test_fences_are_refused(text: str) -> None:
    assert check(text, allow_fences=False)[0] is False


@pytest.mark.parametrize(
    "text",
    ["See:\n```json\n[1]\n```", "```json\n[1]\n```\n```json\n[2]\n```", "```python\n[1]\n```"],
)
def test_more_than_one_block_is_not_json(text: str) -> None:
    assert check(text)[0] is False


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)
    )
)
def test_an_empty_schema_accepts_any_json(value: Any) -> None:
    assert check(json.dumps(value)) is True


@given(st.text())
def test_no_text_raises(text: str) -> None:
    check(text, schema=SCHEMA)


def test_defaults_of_the_schema_are_not_filled_in() -> None:
    schema = {"required": ["a"], "properties": {"a": {"default": 1}}}
    assert check("{}", schema=schema)[0] is False


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"schema": None}, "schema"),
        ({"schema": "{}"}, "schema"),
        ({"schema": {"type": "strin"}}, "schema"),
        ({"schema": {"pattern": "("}}, "schema"),
        ({"schema": {"properties": 3}}, "schema"),
        ({"schema": {"$ref": "#/definitions/none"}}, "schema"),
        ({"schema": {"$ref": "https://example.com/schema.json"}}, "another document"),
        ({"schema": {"$ref": "file:///etc/passwd"}}, "another document"),
        ({"schema": {"$ref": "other.json"}}, "schema"),
        ({"allow_fences": 1}, "allow_fences"),
    ],
)
def test_wrong_parameters_are_named(params: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check("", **params)
