"""The course of one judgement: votes, asking once more, what an endpoint refuses."""

import json
import math
from typing import Any

import pytest
from flywheel_pl.judges.judging import ERROR_CLASSES, Judging
from flywheel_pl.judges.reply import CallFailed, Reply, parse
from hypothesis import given
from hypothesis import strategies as st

MESSAGES = [{"role": "system", "content": "Judge."}, {"role": "user", "content": "Is it polite?"}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": {}}}
PASS = '{"reason": "It is polite.", "verdict": "pass"}'
FAIL = '{"reason": "It is rude.", "verdict": "fail"}'
PROSE = "I would have to think about that."


def request(votes: int = 1, **changes: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": MESSAGES, "temperature": 0, "max_tokens": 300}
    reading = {key: changes.pop(key, None) for key in ("choices", "threshold")}
    return {"body": body | changes, "reading": reading, "votes": votes}


def judge(judging: Judging, *texts: str) -> dict[str, Any]:
    for text in texts:
        assert judging.body() is not None
        judging.accept(Reply(text, 10, 4, 2), 0.25)
    assert judging.body() is None
    return judging.result()


def refusal(message: str, param: str | None = None, status: int = 400) -> CallFailed:
    body = {"error": {"message": message, "param": param}}
    with pytest.raises(CallFailed) as raised:
        parse(status, {}, json.dumps(body).encode())
    return raised.value


def test_one_readable_reply_is_the_verdict() -> None:
    result = judge(Judging(request()), FAIL)
    assert result == {
        "status": "failed",
        "score": None,
        "reason": "It is rude.",
        "confidence": None,
        "error": None,
        "predicted_label": None,
        "duration_ms": 250.0,
        "run": {
            "messages": MESSAGES,
            "replies": [FAIL],
            "requests": 1,
            "input_tokens": 10,
            "cached_tokens": 4,
            "output_tokens": 2,
            "latency_ms": 250.0,
        },
    }


def test_the_request_is_sent_as_it_came_and_not_changed() -> None:
    given_request = request(response_format=SCHEMA)
    before = json.dumps(given_request)
    judging = Judging(given_request)
    assert judging.body() == given_request["body"]
    assert judging.refuse(refusal("response_format is not supported", "response_format"))
    judging.accept(Reply(PROSE), 1)
    judging.body()
    assert json.dumps(given_request) == before


def test_an_unreadable_reply_is_asked_once_more_in_the_same_conversation() -> None:
    judging = Judging(request())
    judging.accept(Reply(PROSE, 10, 0, 5), 1)
    body = judging.body()
    assert body is not None
    assert body["messages"][:2] == MESSAGES
    assert body["messages"][2] == {"role": "assistant", "content": PROSE}
    assert body["messages"][3]["role"] == "user"
    assert '{"verdict": "pass"}' in body["messages"][3]["content"]
    result = judge(judging, PASS)
    assert result["status"] == "passed"
    assert result["run"]["messages"] == MESSAGES
    assert result["run"]["replies"] == [PROSE, PASS]
    assert (result["run"]["requests"], result["run"]["input_tokens"]) == (2, 20)
    assert result["duration_ms"] == 1250


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"choices": {"A": True, "B": False}}, '"A", "B"'),
        ({"threshold": 3}, "a number"),
        ({"response_format": SCHEMA}, "the JSON object that was asked for"),
    ],
)
def test_it_asks_for_what_it_can_read(changes: dict[str, Any], words: str) -> None:
    judging = Judging(request(**changes))
    judging.accept(Reply(PROSE), 1)
    body = judging.body()
    assert body is not None
    assert words in body["messages"][-1]["content"]


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_reply_is_asked_the_same_again(text: str) -> None:
    judging = Judging(request())
    judging.accept(Reply(text), 1)
    assert judging.body() == request()["body"]
    judging.accept(Reply(text), 1)
    assert judging.body() is None
    assert "empty" in judging.result()["error"]


def test_a_reply_that_stays_unreadable_is_an_error_that_quotes_it_and_never_a_fail() -> None:
    result = judge(Judging(request()), "I'm sorry, but\nI can't.", "As I said, I can't.")
    assert result["status"] == "error"
    assert "I'm sorry, but I can't." in result["error"]
    assert result["reason"] is None
    long = judge(Judging(request()), PROSE, "word " * 10_000)
    assert len(long["error"]) < 400


def test_the_majority_of_votes_decides() -> None:
    result = judge(Judging(request(votes=3)), PASS, FAIL, PASS)
    assert result["status"] == "passed"
    assert result["confidence"] == pytest.approx(2 / 3)
    assert result["reason"] == "It is polite."
    assert result["run"]["requests"] == 3
    assert result["details"] == {"votes": {"passed": 2, "failed": 1, "unreadable": 0}}


def test_each_unreadable_vote_is_asked_once_more_and_then_dropped() -> None:
    result = judge(Judging(request(votes=3)), PASS, PROSE, PROSE, PROSE, PASS)
    assert result["status"] == "passed"
    assert result["confidence"] == 1
    assert result["details"] == {"votes": {"passed": 2, "failed": 0, "unreadable": 1}}


def test_without_a_majority_it_is_an_error() -> None:
    even = judge(Judging(request(votes=3)), PASS, PROSE, PROSE, FAIL)
    assert even["status"] == "error"
    assert "1 passed, 1 failed" in even["error"]
    one = judge(Judging(request(votes=3)), PASS, PROSE, PROSE, PROSE, PROSE)
    assert one["status"] == "error"
    assert "only 1 of 3 votes" in one["error"]
    assert PROSE in one["error"]


def test_a_score_passes_at_the_threshold_and_the_median_is_on_its_side() -> None:
    result = judge(Judging(request(threshold=7)), '{"reason": "x", "verdict": 7}')
    assert (result["status"], result["score"]) == ("passed", 7)
    several = judge(Judging(request(votes=3, threshold=7)), "[[2]]", "[[7]]", "[[8]]")
    assert (several["status"], several["score"]) == ("passed", 7)


def test_the_label_is_the_one_most_votes_chose() -> None:
    choices = {"A": True, "A+": True, "B": False}
    result = judge(Judging(request(votes=3, choices=choices)), "A", "B", "A")
    assert (result["status"], result["predicted_label"]) == ("passed", "A")


@pytest.mark.parametrize(
    ("tokens", "confidence"),
    [
        ([('{"', 0), ("verdict", 0), ('": "', 0), ("pass", math.log(0.75)), ('"}', -3)], 0.75),
        ([('{"verdict": "', 0), ("pa", math.log(0.5)), ("ss", math.log(0.5)), ('"}', 0)], 0.25),
        ([('{"verdict": "pa', 0), ('ss"}', -1e6)], 0),
        ([("something else", 0)], None),
        (None, None),
    ],
)
def test_the_confidence_is_the_probability_of_the_verdict_s_tokens(
    tokens: list[tuple[str, float]] | None, confidence: float | None
) -> None:
    judging = Judging(request())
    judging.accept(Reply('{"verdict": "pass"}', tokens=tokens), 1)
    found = judging.result()["confidence"]
    assert found == (None if confidence is None else pytest.approx(confidence))


def test_a_word_that_also_stands_elsewhere_has_no_probability() -> None:
    judging = Judging(request())
    tokens = [("PASS", -0.5), ("\nAll must ", 0), ("PASS", 0), (" it.", 0)]
    judging.accept(Reply("PASS\nAll must PASS it.", tokens=tokens), 1)
    result = judging.result()
    assert (result["status"], result["confidence"]) == ("passed", None)


@pytest.mark.parametrize(
    ("refusals", "body", "expected"),
    [
        (
            [("response_format of type 'json_schema' is not supported", "response_format")],
            {"response_format": SCHEMA},
            {"response_format": {"type": "json_object"}},
        ),
        (
            [("json_schema is not supported", None), ("json_object is not supported", None)],
            {"response_format": SCHEMA},
            {},
        ),
        ([("Failed to generate JSON. json_validate_failed", None)], {"response_format": SCHEMA}, {}),
        ([("logprobs are not supported", None)], {"logprobs": True, "top_logprobs": 1}, {}),
        (
            [("Use 'max_completion_tokens' instead: 'max_tokens' is not supported", "max_tokens")],
            {"max_tokens": 9},
            {"max_completion_tokens": 9},
        ),
        (
            [("Unknown parameter: 'max_completion_tokens'. Use max_tokens.", "max_completion_tokens")],
            {"max_completion_tokens": 9},
            {"max_tokens": 9},
        ),
        ([("max_tokens is too large: 9", "max_tokens")], {"max_tokens": 9}, {}),
        ([("'temperature' does not support 0", "temperature")], {"temperature": 0}, {}),
    ],
)  # fmt: skip
def test_what_an_endpoint_refuses_is_left_out(
    refusals: list[tuple[str, str | None]], body: dict[str, Any], expected: dict[str, Any]
) -> None:
    base = {"model": "m", "messages": MESSAGES}
    judging = Judging({"body": base | body, "reading": None})
    for message, param in refusals:
        assert judging.refuse(refusal(message, param))
    assert judging.body() == base | expected
    assert judge(judging, PASS)["run"]["requests"] == len(refusals) + 1
    # Another job of the model need not learn it again.
    assert Judging({"body": base | body}, judging.without).body() == base | expected


def test_a_model_without_system_messages_reads_them_in_the_first_message() -> None:
    judging = Judging(request())
    assert judging.refuse(refusal("System role not supported"))
    body = judging.body()
    assert body is not None
    assert body["messages"] == [{"role": "user", "content": "Judge.\n\nIs it polite?"}]


def test_what_cannot_be_mended_is_not() -> None:
    judging = Judging(request())
    assert not judging.refuse(refusal("response_format is not supported", "response_format"))
    assert not judging.refuse(refusal("the model is on fire"))
    assert not judging.refuse(CallFailed("transient", "no connection"))
    assert not judging.refuse(refusal("This model's maximum context length is 9 tokens"))
    assert judging.run()["requests"] == 4


def test_refusals_come_to_an_end() -> None:
    judging = Judging(request(response_format=SCHEMA, logprobs=True))
    failures = [
        refusal(f"{name} or max_tokens or max_completion_tokens is not supported", name)
        for name in (
            "response_format",
            "logprobs",
            "temperature",
            "max_tokens",
            "max_completion_tokens",
        )
    ]
    assert sum(judging.refuse(failure) for _ in range(10) for failure in failures) < 10


def test_the_run_log_can_be_stored() -> None:
    judging = Judging(request())
    judging.accept(Reply("a\0b\ud800" + "x" * 200_000, 2_000_000_000, 0, 1), 1)
    judging.accept(Reply(PROSE, 2_000_000_000, 5, 1), 1)
    run = judging.run()
    assert run["replies"][0].startswith("a\ufffdb?")
    assert len(run["replies"][0]) <= 100_000
    assert run["input_tokens"] <= 2_147_483_647
    json.dumps(run).encode()


def test_a_judgement_that_has_not_begun_is_no_fail() -> None:
    judging = Judging(request())
    assert judging.result()["status"] == "error"
    assert judging.run()["requests"] == 0


def test_the_classes_of_errors_are_named() -> None:
    assert ERROR_CLASSES == ("transient", "permanent", "configuration")


@given(
    st.lists(st.sampled_from((PASS, FAIL, PROSE, "")), max_size=40), st.sampled_from((1, 3, 5, 15))
)
def test_any_course_ends_and_fails_only_if_read_so(texts: list[str], votes: int) -> None:
    judging = Judging(request(votes=votes))
    seen: list[str] = []
    for text in texts:
        if judging.body() is None:
            break
        judging.accept(Reply(text), 0)
        seen.append(text)
    assert len(seen) <= 2 * votes
    result = judging.result()
    passes, fails = seen.count(PASS), seen.count(FAIL)
    if result["status"] == "error":
        assert result["error"]
        assert passes == fails or (passes + fails) * 2 <= votes
    else:
        assert result["status"] == ("passed" if passes > fails else "failed")
        assert (passes + fails) * 2 > votes
    json.dumps(result)
