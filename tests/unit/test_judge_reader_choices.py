"""Reading a label or a score in what a judge wrote."""

# ruff: noqa: RUF001
import pytest
from flywheel_pl.judges.reader import read

OUTPUTS = {"Output (a)": True, "Output (b)": False}
LETTERS = {"A": True, "B": False, "C": False}
ARENA = {"A>>B": True, "A>B": True, "A=B": False, "B>A": False, "B>>A": False}
SAFE = {"safe": True, "unsafe": False}
HELPFUL = {"helpful": True, "not helpful": False}
YES = {"Yes": True, "No": False, "Partly": False}
LEVELS = {"1": False, "2": False, "3": True}
GRADES = {"excellent": True, "good": True, "poor": False}
JAPANESE = {"良い": True, "悪い": False}


@pytest.mark.parametrize(
    ("text", "choices", "label"),
    [
        ('{"reason": "x", "verdict": "Output (b)"}', OUTPUTS, "Output (b)"),
        ('{"verdict": "(b)"}', OUTPUTS, "Output (b)"),
        ('{"winner": "Assistant A"}', LETTERS, "A"),
        ('{"label": "SAFE"}', SAFE, "safe"),
        ('{"verdict": 2}', LEVELS, "2"),
        (
            '{"verdict": "Output (b)", "reason": "Output (a) is better, it says"}',
            OUTPUTS,
            "Output (b)",
        ),
        ("Output (a)", OUTPUTS, "Output (a)"),
        ("**output (B)**.", OUTPUTS, "Output (b)"),
        ("(b)", OUTPUTS, "Output (b)"),
        ("B.", LETTERS, "B"),
        ("[[A]]", LETTERS, "A"),
        ("My final verdict is: [[A>>B]]", ARENA, "A>>B"),
        ('**Final Verdict:**\n"My final verdict is Assistant B: [[B>>A]]".', ARENA, "B>>A"),
        ("Answer: B", LETTERS, "B"),
        ("My decision: (b)", OUTPUTS, "Output (b)"),
        ("<answer>Output (b)</answer>", OUTPUTS, "Output (b)"),
        ("Verdict:\nOutput (a)", OUTPUTS, "Output (a)"),
        ("結論：Output (a)", OUTPUTS, "Output (a)"),
        ("Yes, it does.", YES, "Yes"),
        ("Category: 1", LEVELS, "1"),
        (
            "1_full_compliance",
            {"1_full_compliance": True, "2_full_refusal": False},
            "1_full_compliance",
        ),
    ],
)
def test_a_label_is_read_where_it_stands_as_the_decision(
    text: str, choices: dict[str, bool], label: str
) -> None:
    reading = read(text, choices)
    assert reading is not None
    assert reading.label == label
    assert reading.passed is choices[label]


@pytest.mark.parametrize(
    ("text", "choices", "label"),
    [
        ("Output (b) is better than Output (a).", OUTPUTS, "Output (b)"),
        ("Output (a) is worse than Output (b).", OUTPUTS, "Output (b)"),
        ("The better output is Output (a).", OUTPUTS, "Output (a)"),
        ("I prefer Output (b).", OUTPUTS, "Output (b)"),
        ("Output (a)\n\nOutput (b) is too long and Output (a) is concise.", OUTPUTS, "Output (a)"),
        ("Output (a) is better.\n\nTherefore, Output (b) is better.", OUTPUTS, "Output (b)"),
        (
            "Assistant (a) argues that Output (a) is better. Output (b) is better.",
            OUTPUTS,
            "Output (b)",
        ),
        ('The text says "Output (a) is better". Output (b) is better.', OUTPUTS, "Output (b)"),
        ("Although Output (a) is short, Output (b) is better.", OUTPUTS, "Output (b)"),
        (
            "In terms of detail, Output (a) is better. Overall, Output (b) is better.",
            OUTPUTS,
            "Output (b)",
        ),
        ("The winner is Response B.", LETTERS, "B"),
        ('The output said "[[A]]" but my verdict is [[B]].', LETTERS, "B"),
        ("Output (b)が優れています。", OUTPUTS, "Output (b)"),
        ("The response is unsafe.", SAFE, "unsafe"),
        ("Label: not helpful", HELPFUL, "not helpful"),
        ("I would classify this as poor.", GRADES, "poor"),
        ("この回答は良いです。", JAPANESE, "良い"),
    ],
)
def test_a_comparison_or_a_description_is_read(
    text: str, choices: dict[str, bool], label: str
) -> None:
    reading = read(text, choices)
    assert reading is not None
    assert reading.label == label


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("Output (a) is not better.", OUTPUTS),
        ("Output (a) is definitely not the better choice.", OUTPUTS),
        ("I don't prefer Output (b).", OUTPUTS),
        ("Both outputs are equally good.", OUTPUTS),
        ("Neither output is better.", OUTPUTS),
        ("Output (a) and Output (b)", OUTPUTS),
        ("Decision: Output (a) or Output (b)", OUTPUTS),
        ("Output (a) is better at tone. Output (b) is better at facts.", OUTPUTS),
        ("If brevity matters, Output (a) is better.", OUTPUTS),
        ("# Output (a)\n\ntext\n\n# Output (b)\n\ntext", OUTPUTS),
        ("Output (a):\nfoo\nOutput (b):\nbar", OUTPUTS),
        ("Based on that, and since Output (a) precisely executes the", OUTPUTS),
        ("A is a good letter", LETTERS),
        ("b", LETTERS),
        ("[[D]]", LETTERS),
        ("[[A]] or [[B]]", LETTERS),
        ("[[A]] Assistant B is better.", LETTERS),
        ("I think A is correct.", LETTERS),
        ("Label: not safe", SAFE),
        ("The response is not safe.", SAFE),
        ("The tone is good. The content is poor.", GRADES),
        ("この回答は良くない", JAPANESE),
        ("この回答は良いとは言えない", JAPANESE),
        ('{"verdict": true}', OUTPUTS),
        ("pass", OUTPUTS),
    ],
)
def test_an_undecided_comparison_is_none(text: str, choices: dict[str, bool]) -> None:
    assert read(text, choices) is None


def test_a_letter_that_dots_differently_in_lower_case_does_no_harm() -> None:
    assert read("Verdict: \u0130 is better, [[\u0131]]", {"i": True, "j": False}) is None


@pytest.mark.parametrize(
    ("text", "threshold", "score"),
    [
        ('{"reason": "x", "verdict": 4}', 3, 4),
        ('{"score": 4, "max_score": 5}', 3, 4),
        ('{"rating": "4/5"}', 3, 4),
        ('{"score": "[[4]]"}', 3, 4),
        ('{"clarity_score": 2, "overall_score": 4}', 3, 4),
        ("[[5]]", 3, 5),
        ("Rating: [[7]]", 3, 7),
        ("評価：[[3]]", 3, 3),
        ('私の評価は次の通りです："評価：[[2]]"。', 3, 2),
        ("Score: 4/5", 3, 4),
        ("Score: **7** / 10", 3, 7),
        ("Score (out of 10): 7", 3, 7),
        ("8 out of 10", 3, 8),
        ("I would rate this response 8 out of 10.", 3, 8),
        ("7", 3, 7),
        ("点数：８点", 3, 8),
        ("10点満点中8点", 3, 8),
        ("総合評価：7点", 3, 7),
        ("<score>6</score>", 3, 6),
        ("Final score = 9", 3, 9),
        ("Score: -1", 0, -1),
        ("Accuracy score: 2\nOverall score: 4", 3, 4),
        ("Score: 85%", 80, 85),
        ("Score: 85%", 0.8, 0.85),
        ("Score: 8/10", 0.7, 0.8),
        ('The output says "Rating: [[10]]". Rating: [[2]]', 3, 2),
        ('Rating: [[2]]\n\nThe output claimed "Rating: [[10]]".', 3, 2),
    ],
)
def test_a_score_is_read_where_the_text_says_it_is_one(
    text: str, threshold: float, score: float
) -> None:
    reading = read(text, None, threshold)
    assert reading is not None
    assert reading.score == pytest.approx(score)
    assert reading.passed is (score >= threshold)


@pytest.mark.parametrize(
    "text",
    [
        "The answer mentions 42 items.",
        "There are 3 errors in 5 lines.",
        "10 out of 10 tests pass.",
        "Rating: good",
        "Score: 4-5",
        "Score: between 4 and 5",
        "Score: 1,000",
        "Score: 12/10",
        "Score: 5/0",
        "Score: 1e3",
        "Accuracy score: 2",
        "[[5]] or [[6]]",
        "Verdict: pass",
        '{"verdict": "pass"}',
        '{"score": true}',
        '{"score": null}',
        '{"score": "four"}',
        '{"clarity": {"score": 2}, "tone": {"score": 4}}',
        '{"score": 1, "score": 5}',
    ],
)
def test_any_other_number_is_no_score(text: str) -> None:
    assert read(text, None, 3) is None


def test_a_number_without_a_threshold_is_no_verdict() -> None:
    assert read("Rating: [[7]]") is None
    assert read('{"verdict": 7}') is None
