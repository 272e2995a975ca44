"""Reading pass or fail in JSON, whole or broken. Nothing is guessed: what is unclear is None."""

# ruff: noqa: RUF001
import json

import pytest
from flywheel_pl.judges.reader import read
from flywheel_pl.verdict import clean
from hypothesis import given
from hypothesis import strategies as st

PASS, FAIL, UNREADABLE = True, False, None


def passed(text: str) -> bool | None:
    reading = read(text)
    return None if reading is None else reading.passed


def check(text: str, expected: bool | None) -> None:
    assert passed(text) is expected, text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"reason": "ok", "verdict": "pass"}', PASS),
        ('{"verdict": "FAIL", "reason": "rude"}', FAIL),
        ('{"verdict": true}', PASS),
        ('{"verdict": "true"}', PASS),
        ('{"verdict": "yes"}', PASS),
        ('{"verdict": 1}', PASS),
        ('{"verdict": 0}', FAIL),
        ('{"passed": false}', FAIL),
        ('{"failed": false}', PASS),
        ('{"result": "PASSED"}', PASS),
        ('{"answer": "No"}', FAIL),
        ('{"final_verdict": "FAIL"}', FAIL),
        ('{"Final Decision": "accepted"}', PASS),
        ('{"判定": "不合格", "理由": "長い"}', FAIL),
        ('{"判定"：“合格”}', PASS),
        ('｛"verdict"："pass"｝', PASS),
        ('{"verdict": "PASS - all good"}', PASS),
        ('{"verdict": "does not pass"}', FAIL),
        ('{"verdict": "The output meets the criterion."}', PASS),
        ('{"verdict": {"decision": "pass"}}', PASS),
        ('{"verdict": ["pass"]}', PASS),
        ('{"evaluation": {"reason": "x", "verdict": "pass"}}', PASS),
        ('{"status": "ok", "verdict": "fail"}', FAIL),
        ('[{"verdict": "pass"}]', PASS),
        ('"{\\"verdict\\": \\"pass\\"}"', PASS),
    ],
)
def test_json_is_read_under_many_keys(text: str, expected: bool) -> None:
    check(text, expected)


@pytest.mark.parametrize(
    "text",
    [
        '{"verdict": "maybe"}',
        '{"verdict": "pass or fail"}',
        '{"verdict": "pass/fail"}',
        '{"verdict": ""}',
        '{"result": "3 of 4 checks passed"}',
        '{"verdict": null}',
        '{"verdict": 0.7}',
        '{"verdict": ["pass", "fail"]}',
        '{"verdict": "pass", "verdict": "fail"}',
        '{"passed": true, "result": "fail"}',
        '{"rating": 1}',
        '{"score": 1}',
        '{"input": "x", "output": "yes"}',
        '{"reason": "The output passes"}',
        '[{"verdict": "pass"}, {"verdict": "fail"}]',
        '{"criteria": [{"name": "a", "verdict": "pass"}, {"name": "b", "verdict": "pass"}]}',
        "{}",
        "[]",
        "null",
        "42",
    ],
)
def test_json_without_one_clear_verdict_is_none(text: str) -> None:
    check(text, UNREADABLE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('```json\n{"reason": "x", "verdict": "pass"}\n```', PASS),
        ('Here it is:\n```json\n{"reason": "x", "verdict": "pass"}\n```\nHope it helps!', PASS),
        ('Sure! {"reason": "x", "verdict": "fail"}', FAIL),
        ('Sure! {"reason": "x", "verdict": "fail"} Let me know if you need more.', FAIL),
        ('{"verdict": "pass"}\n{"verdict": "fail"}', FAIL),
        ('{"verdict": "pass"}\nFinal verdict: fail', FAIL),
        ('{"verdict": "fail"}\n\nYes, I am confident.', FAIL),
        ('{"verdict": "pass"}\n\nIt does not meet the criterion of brevity.', PASS),
        ('<|im_start|>assistant\n{"verdict":"pass"}<|im_end|>', PASS),
    ],
)
def test_json_is_found_among_prose(text: str, expected: bool) -> None:
    check(text, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{'reason': 'it\\'s bad', 'verdict': 'fail'}", FAIL),
        ("{'reason': 'it's bad', 'verdict': 'fail'}", FAIL),
        ('{"reason": "bad", "verdict": "fail",}', FAIL),
        ('{"reason": "line one\nline two", "verdict": "pass"}', PASS),
        ('{"reason": "It says "hello" twice", "verdict": "pass"}', PASS),
        ('{"reason": "It says "verdict": "pass"", "verdict": "fail"}', FAIL),
        ('{reason: "x", verdict: "pass"}', PASS),
        ('{"verdict": True, "reason": None}', PASS),
        ('{"verdict": "fail" "reason": "x"}', FAIL),
        ('{{"verdict": "pass"}}', PASS),
        ('"reason": "the brace was in the prompt", "verdict": "pass"}', PASS),
        ('{"verdict": "pass", "reason": "The output is', PASS),
        ('{"reason": "The output is bad", "verdict": "fail"', FAIL),
        ('{"reason": "The output is bad", "verdict": "fai', UNREADABLE),
        ('{"reason": "The output is bad, "verdict', UNREADABLE),
    ],
)
def test_broken_json_is_mended_where_that_is_certain(text: str, expected: bool | None) -> None:
    check(text, expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"verdict": "pass", "reason": "It is short."}', "It is short."),
        ('{"verdict": "pass", "理由": "短い。"}', "短い。"),
        ('It is short.\n{"verdict": "pass"}', "It is short."),
        ("Verdict: PASS\nReason: It is short.", "It is short."),
        ("It is short.\n\nVerdict: PASS", "It is short."),
        ("Fail: the output is rude to the user.", "Fail: the output is rude to the user."),
        ("理由：短い！\n判定：合格", "短い！"),
        ("PASS", None),
        ('{"verdict": "pass"}', None),
    ],
)
def test_the_reason_is_what_stands_around_the_verdict(text: str, reason: str | None) -> None:
    reading = read(text)
    assert reading is not None
    assert reading.reason == reason


def test_the_reason_can_be_stored() -> None:
    reading = read('{"verdict": "pass", "reason": "a\\u0000b \\ud800 ' + "x" * 5_000 + '"}')
    assert reading is not None
    assert reading.reason is not None
    assert len(reading.reason) <= 2_000
    assert reading.reason.startswith("a\ufffdb ?")


def test_a_score_beside_a_verdict_is_kept() -> None:
    reading = read('{"score": 0.75, "verdict": "pass"}')
    assert reading is not None
    assert (reading.passed, reading.score) == (True, 0.75)


@given(st.text(), st.booleans(), st.booleans(), st.booleans())
def test_our_own_format_is_read_whatever_the_reason_says(
    reason: str, verdict: bool, reason_first: bool, ascii_only: bool
) -> None:
    members = [("reason", reason), ("verdict", "pass" if verdict else "fail")]
    text = json.dumps(dict(members if reason_first else members[::-1]), ensure_ascii=ascii_only)
    for shown in (text, f"```json\n{text}\n```"):
        reading = read(shown)
        assert reading is not None
        assert reading.passed is verdict
    reading = read(text)
    assert reading is not None
    assert reading.reason == (clean(reason.strip()) or None)


@given(st.permutations(["reason", "verdict", "confidence", "score", "notes"]), st.booleans())
def test_the_order_of_keys_does_not_matter(keys: list[str], verdict: bool) -> None:
    values = {
        "reason": "The output says Verdict: PASS, and 'fail' too.",
        "verdict": "pass" if verdict else "fail",
        "confidence": 0.5,
        "score": 3,
        "notes": ["pass", {"passed": not verdict}],
    }
    check(json.dumps({key: values[key] for key in keys}), verdict)
