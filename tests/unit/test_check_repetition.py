"""A model caught in a loop."""

from typing import Any

import pytest
from flywheel_pl.checks import repetition
from hypothesis import given
from hypothesis import strategies as st

PROSE = (
    "The parcel left our warehouse on Monday and reached the depot near you on Tuesday evening. "
    "A driver tried to hand it over the next morning, but nobody opened, so it went back. You can "
    "fetch it there until Friday, or choose another day in the settings of your account."
)


def check(text: str, **params: object) -> dict[str, Any]:
    return repetition.prepare({**repetition.DEFAULTS, **params})(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("I am sorry about the delay. " * 12, "stands more than 6 times"),
        ("very " * 20, "the word 'very' follows itself"),
        ("no" + "o" * 80, "'o' follows itself"),
        ("so we go to the shop and " * 20, "word sequences stood before"),
        ("ご不便をおかけして申し訳ございません。" * 10, "stands more than 6 times"),
        ("我们明天去商店然后" * 20, "word sequences stood before"),
    ],
)
def test_a_loop_fails(text: str, why: str) -> None:
    verdict = check(text)
    assert verdict["passed"] is False
    assert why in verdict["reason"]


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "",
        "| a | b |\n" + "|---|---|\n" + "".join(f"| {n} | {n * 7} |\n" for n in range(60)),
        "\n".join(f"- Step {n}: press button number {n} on the panel" for n in range(5)),
        "-" * 200 + "\n" + "=" * 200,
        "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
        "for n in range(10):\n    print(n)\nfor m in range(20):\n    print(m)\n",
    ],
)
def test_ordinary_texts_pass(text: str) -> None:
    assert check(text)["passed"] is True


def test_the_score_is_the_repeated_share() -> None:
    assert repetition.repeated_share(["a", "b"] * 10, 2) == pytest.approx(1 - 2 / 19)
    assert check(PROSE)["score"] < 0.05


@given(st.text(), st.integers(1, 8))
def test_no_text_raises(text: str, ngram: int) -> None:
    assert 0 <= check(text, ngram=ngram, min_tokens=1)["score"] <= 1


@pytest.mark.parametrize(
    ("params", "named"),
    [({"max_share": 2}, "max_share"), ({"max_share": "half"}, "max_share"), ({"ngram": 0}, "ngram"),
     ({"ngram": True}, "ngram"), ({"max_character_run": 10**6}, "max_character_run")],
)  # fmt: skip
def test_wrong_parameters_are_named(params: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check("", **params)
