"""Flesch-Kincaid grade and reading ease."""

from typing import Any

import pytest
from flywheel_pl.checks import readability
from hypothesis import given
from hypothesis import strategies as st

EASY = "The cat sat on the mat. The dog ran to the door. We had a lot of fun. It was a good day for us all."
HARD = (
    "Notwithstanding considerable institutional opposition, the administration's comprehensive "
    "reorganisation of regulatory responsibilities necessitated unprecedented interdepartmental "
    "collaboration, accompanied by increasingly sophisticated accountability methodologies."
)


def check(text: str, **params: object) -> Any:
    return readability.prepare({**readability.DEFAULTS, **params})(text)


def test_the_formulas() -> None:
    # 26 words, 4 sentences, 26 syllables: all short words.
    grade, ease = readability.measure(EASY) or (0, 0)
    assert grade == pytest.approx(0.39 * 26 / 4 + 11.8 * 26 / 26 - 15.59)
    assert ease == pytest.approx(206.835 - 1.015 * 26 / 4 - 84.6)


@pytest.mark.parametrize(
    ("word", "count"),
    [("cat", 1), ("makes", 1), ("jumped", 1), ("boxes", 2), ("wanted", 2), ("table", 2), ("tables", 2),
     ("reading", 2), ("create", 2), ("science", 2), ("beautiful", 3), ("question", 2), ("people", 2),
     ("international", 5), ("rhythm", 2), ("the", 1), ("I", 1), ("hmm", 1)],
)  # fmt: skip
def test_syllables(word: str, count: int) -> None:
    assert readability.syllables(word) == count


def test_a_hard_text_fails_and_an_easy_one_passes() -> None:
    assert check(EASY)["passed"] is True
    assert check(HARD)["passed"] is False
    assert "at most 12" in check(HARD)["reason"]
    assert check(EASY, min_grade=3)["passed"] is False
    assert check(HARD, max_grade=None, min_ease=30)["reason"].startswith("reading ease")
    assert check(HARD, max_grade=None)["passed"] is True


def test_abbreviations_and_lists_end_no_sentence_twice() -> None:
    assert (
        readability._count_sentences(
            readability._ABBREVIATION.sub(" ", "Dr. Smith, e.g. him, left. Bye!")
        )
        == 2
    )
    assert readability._count_sentences("We sell:\n- apples\n- pears\n- plums") == 4


@pytest.mark.parametrize("text", ["", "Too short to say.", "```\n" + "code " * 50 + "\n```"])
def test_too_few_words_are_skipped(text: str) -> None:
    assert check(text) is None


@given(st.text())
def test_no_text_raises(text: str) -> None:
    check(text)


@given(st.text("abcdefghijklmnopqrstuvwxyz", min_size=1))
def test_every_word_has_a_syllable(word: str) -> None:
    assert readability.syllables(word) >= 1


@pytest.mark.parametrize(
    ("params", "named"),
    [({"max_grade": "12"}, "max_grade"), ({"min_grade": 9, "max_grade": 3}, "min_grade"),
     ({"min_ease": []}, "min_ease"), ({"max_grade": float("nan")}, "max_grade")],
)  # fmt: skip
def test_wrong_parameters_are_named(params: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check("", **params)
