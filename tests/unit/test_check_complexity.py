"""Size and nesting of a text."""

from typing import Any

import pytest
from flywheel_pl.checks import complexity
from hypothesis import given
from hypothesis import strategies as st


def check(text: str, **params: object) -> dict[str, Any]:
    return complexity.prepare({**complexity.DEFAULTS, **params})(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("The cat sat.", 4),
        ("responsibilities", 4),
        ("2024", 2),
        ("花が好き", 4),
        ("a == b", 3),
    ],
)
def test_tokens(text: str, count: int) -> None:
    assert complexity.count_tokens(text) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("One. Two! Three?", 3),
        ("3.14 is pi", 1),
        ("A title\n\nA text.", 2),
        ("はい。いいえ。", 2),
    ],
)
def test_sentences(text: str, count: int) -> None:
    assert complexity.count_sentences(text) == count


@pytest.mark.parametrize(
    ("text", "depth"),
    [("", 0), ("a (b [c {d}])", 3), ("a) b) c)", 0), ("(a) (b)", 1), ('"a" "b"', 1), ('say "a (b)"', 2),
     ("\u201ca \u201eb\u201d\u201d", 2), ("(a [b) (c)", 2), ('an inch is 1"\n\nand (so)', 1)],
)  # fmt: skip
def test_nesting(text: str, depth: int) -> None:
    assert complexity.nesting(text) == depth


def test_nothing_deeper_than_a_hundred_is_told_apart() -> None:
    assert complexity.nesting("(" * 5_000) == 100


def test_bounds() -> None:
    assert check("one two three")["passed"] is True
    assert check("one two three", max_tokens=2)["reason"] == "about 3 tokens, at most 2"
    assert check("one", min_tokens=2)["passed"] is False
    assert check("One. Two.", max_sentences=1)["reason"] == "2 sentences, at most 1"
    assert check("((()))", max_nesting=2)["reason"] == "brackets nested 3 deep, at most 2"
    assert check("x " * 9_000, max_tokens=None)["score"] == 9_000


@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert check(text, max_sentences=3, max_nesting=3)["score"] <= len(text)


@given(st.text('()[]{}"\u201c\u201d\u00ab\u00bb\n a'))
def test_nesting_is_bounded_by_the_openings(text: str) -> None:
    assert complexity.nesting(text) <= sum(map(text.count, '([{"\u201c\u00ab'))


@pytest.mark.parametrize(
    ("params", "named"),
    [({"min_tokens": -1}, "min_tokens"), ({"max_tokens": "9"}, "max_tokens"), ({"max_nesting": 1.5}, "max_nesting"),
     ({"min_tokens": 9, "max_tokens": 3}, "min_tokens"), ({"max_sentences": True}, "max_sentences")],
)  # fmt: skip
def test_wrong_parameters_are_named(params: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check("", **params)
