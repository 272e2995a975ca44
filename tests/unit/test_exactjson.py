"""JSON in and out without a loss."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel_db.transfer.rows.exactjson import dumps, has_nul, loads, lone_surrogate, replace_nul

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
)  # fmt: skip


@given(json_values)
def test_values_come_back(value: Any) -> None:
    assert json.loads(dumps(loads(json.dumps(value)))) == json.loads(json.dumps(value))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=25))
def test_digits_come_back(number: Decimal) -> None:
    text = f'{{"a":[{number:f}]}}'
    assert dumps(loads(text)) == text


@pytest.mark.parametrize("number", ["1.10", "1e400", "-0.0", "1E5", "0.1", "123456789012345678901"])
def test_numbers_stay_as_written(number: str) -> None:
    assert dumps(loads(f'{{"n":{number}}}')) == f'{{"n":{number}}}'


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "", "{", '{"a":1}x'])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(text)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "  \n"])
def test_line_ends_are_not_part_of_the_value(end: str) -> None:
    assert loads('{"a":1}' + end) == {"a": 1}


def test_a_nul_is_found_where_it_is() -> None:
    value = loads('{"a":{"b":["x","y\\u0000"]},"c":"\\\\u0000"}')
    assert has_nul(value) == "a.b.1"
    assert has_nul({"c": "\\u0000"}) is None
    assert replace_nul(value)["a"]["b"] == ["x", "y\ufffd"]


def test_half_a_pair_is_found_where_it_is() -> None:
    assert lone_surrogate(loads('{"a":[{"b":"\\ud83d"}]}')) == "a.0.b"
    assert lone_surrogate(loads('{"a":"\\ud83d\\ude00"}')) is None
