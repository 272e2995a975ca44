"""No text makes the reader raise, and its work grows with the length of the text and no faster."""

import sys
from collections.abc import Callable
from types import FrameType

import pytest
from flywheel_pl.judges.reader import read
from hypothesis import given, settings
from hypothesis import strategies as st

MODES = (
    {},
    {"choices": {"Output (a)": True, "Output (b)": False}},
    {"choices": {"A": True, "B": False}},
    {"choices": {"合格": True, "不合格": False}},
    {"threshold": 5.0},
    {"threshold": 0.5},
)
PIECES = (
    "{", "}", "[", "]", "[[", "]]", '"', "'", "`", "```", "\n", " ", ",", ":", "\\", '\\"', "\0",
    '{"verdict":', '"verdict": ', '"pass"', "{verdict: pass", "true", "1", "0.5", "/10", "%", "5",
    "Verdict:", "Score:", "判定:", "評価は", "合格", "不合格", "満たしている", "ない", "。", ". ", "?",
    "<think>", "</think>", "<verdict>", "</verdict>", "\\boxed{", "> ", "# ", "- ", "**", "|",
    "pass", "fail", "not ", "does ", "it ", "passes", "meets the criteria", "yes", "no", "or ",
    "Output (a)", "Output (b)", "is better", "worse than ", "prefer ", "the output says ", "A", "B",
    "\u0130", "\u017f", "\ud800", "\u0301", "\ufdfa",
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=30).map("".join)))
@settings(max_examples=400)
def test_no_text_raises(text: str) -> None:
    for mode in MODES:
        reading = read(text, **mode)  # type: ignore[arg-type]
        if reading is not None:
            assert isinstance(reading.passed, bool)
            assert reading.reason is None or reading.reason.encode("utf-8")
            assert reading.label is None or reading.label in mode["choices"]  # type: ignore[operator]


@given(
    st.dictionaries(st.text(min_size=1, max_size=8), st.booleans(), min_size=1, max_size=5),
    st.text(max_size=40),
)
def test_no_label_raises(choices: dict[str, bool], text: str) -> None:
    for label in choices:
        read(f"{text} {label} {text}", choices)
        read(f'{{"verdict": "{label}"}}', choices)
        read(f"Verdict: {label}", choices)


def calls(work: Callable[[], object]) -> int:
    """How many calls of functions a piece of work makes, in Python and in C."""
    count = 0

    def see(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


HOSTILE = (
    "[", "]]", "{", '{"', '{"a":', '{"k":[{"k":[', '{"a":1},', "{a:1,", '"', "'", "`", "```\n", " ",
    "\n", "a\n", "<think>", "x<think>", "</think>", "Verdict:", "Verdict: ", "Verdict:\n", "not ",
    "meets ", "It passes. ", "PASS\n", "合格", "判定は", "Output (a) is ", "I prefer ", "Score: 1",
    "1/", ",", "= '", "\\boxed{", "<verdict>", "says ", "\u0301\u0316", "\ufdfa", "\0",
)  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_work_grows_no_faster_than_the_text(piece: str) -> None:
    for mode in MODES[:5:2]:
        short, long = (piece * (size // len(piece)) for size in (2_000, 16_000))
        few = calls(lambda text=short, mode=mode: read(text, **mode))  # type: ignore[misc]
        many = calls(lambda text=long, mode=mode: read(text, **mode))  # type: ignore[misc]
        assert many < 12 * few + 1_000


@pytest.mark.parametrize("piece", HOSTILE)
def test_200_kilobytes_of_one_thing_are_read(piece: str) -> None:
    # A pattern that takes the square of the length would take minutes.
    for mode in MODES[:5:2]:
        read(piece * (200_000 // len(piece)), **mode)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "piece", ["{", '{"verdict"', "Verdict:", "[[", "not", "Output (a)", "1", "my"]
)
def test_200_kilobytes_of_spaces_between_are_read(piece: str) -> None:
    for mode in MODES[:5:2]:
        read(f"{piece}{' ' * 200_000}x", **mode)  # type: ignore[arg-type]


def test_the_end_of_a_long_reply_is_read() -> None:
    prose = "The output is long, and this sentence says nothing of it. " * 2_000
    reading = read(f"{prose}\nVerdict: fail")
    assert reading is not None
    assert reading.passed is False


def test_a_fence_that_opens_in_the_middle_of_a_long_reply_still_hides_what_it_quotes() -> None:
    prose = "This sentence says nothing of it.\n" * 1_000
    assert read(f"{prose}```\n{prose}Verdict: pass\n```\n") is None


def test_an_endless_reply_is_none() -> None:
    assert read("Verdict: pass\n" + " " * 1_000_000) is None
