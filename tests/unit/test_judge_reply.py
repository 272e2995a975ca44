"""From what providers answer to a reply, or to a failure of the right kind."""

import contextlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from flywheel_pl.judges.judging import ERROR_CLASSES
from flywheel_pl.judges.reply import CallFailed, Reply, parse
from hypothesis import given
from hypothesis import strategies as st


def answer(body: object, status: int = 200, **headers: str) -> Reply:
    text = body if isinstance(body, str) else json.dumps(body)
    return parse(status, headers, text.encode())


def chat(message: dict[str, Any], finish: str = "stop", **rest: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **rest}


def events(pieces: Iterable[object], end: str = "[DONE]") -> str:
    return "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + f"data: {end}\n\n"


def failure(body: object, status: int = 200, **headers: str) -> CallFailed:
    with pytest.raises(CallFailed) as raised:
        answer(body, status, **headers)
    assert raised.value.kind in ERROR_CLASSES
    return raised.value


USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}}


@pytest.mark.parametrize(
    "body",
    [
        chat({"content": "pass"}, usage=USAGE),
        chat({"content": [{"type": "text", "text": "pa"}, {"type": "text", "text": "ss"}]}, usage=USAGE),
        {"choices": [{"text": "pass", "finish_reason": "stop"}], "usage": USAGE},
        {
            "object": "response",
            "status": "completed",
            "output": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "fail?"}]},
                {"type": "message", "content": [{"type": "output_text", "text": "pass"}]},
            ],
            "usage": {
                "input_tokens": 10,
                "output_tokens": 3,
                "input_tokens_details": {"cached_tokens": 8},
            },
        },
        {
            "type": "message",
            "content": [{"type": "thinking", "thinking": "fail?"}, {"type": "text", "text": "pass"}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 2, "cache_read_input_tokens": 8, "output_tokens": 3},
        },
        {
            "output": {"message": {"content": [{"text": "pass"}]}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 2, "cacheReadInputTokens": 8, "outputTokens": 3},
        },
        {
            "candidates": [
                {
                    "content": {"parts": [{"text": "fail?", "thought": True}, {"text": "pass"}]},
                    "finishReason": "STOP",
                }
            ],
            "usageMetadata": {
                "promptTokenCount": 10,
                "cachedContentTokenCount": 8,
                "candidatesTokenCount": 3,
            },
        },
        chat(
            {"content": "pass", "reasoning_content": "fail?"},
            usage={"prompt_tokens": 10, "completion_tokens": 3, "prompt_cache_hit_tokens": 8},
        ),
    ],
)  # fmt: skip
def test_every_dialect_gives_its_text_and_its_tokens(body: object) -> None:
    reply = answer(body)
    assert reply.text == "pass"
    assert (reply.input_tokens, reply.cached_tokens, reply.output_tokens) == (10, 8, 3)


@pytest.mark.parametrize(
    "body",
    [
        {"message": {"role": "assistant", "content": "pass"}, "done": True},
        {"response": "pass", "done": True},
        {"text": "pass", "finish_reason": "COMPLETE"},
        {"message": {"content": [{"type": "text", "text": "pass"}]}, "finish_reason": "COMPLETE"},
        {"generations": [{"text": "pass"}]},
        {"generation": "pass", "stop_reason": "stop"},
        {"results": [{"outputText": "pass"}]},
        {"outputs": [{"text": "pass", "stop_reason": "stop"}]},
        {"completion": "pass", "stop_reason": "stop_sequence"},
        [{"generated_text": "pass"}],
        "\ufeff\n\n" + json.dumps(chat({"content": "pass"})),
    ],
)
def test_a_missing_usage_is_zero(body: object) -> None:
    reply = answer(body)
    assert reply.text == "pass"
    assert (reply.input_tokens, reply.cached_tokens, reply.output_tokens) == (0, 0, 0)


@pytest.mark.parametrize("content", [None, "", []])
def test_without_content_a_tool_call_a_refusal_or_the_thoughts_stand_in(content: object) -> None:
    arguments = '{"verdict": "pass"}'
    call = {"id": "1", "function": {"name": "verdict", "arguments": arguments}}
    assert answer(chat({"content": content, "tool_calls": [call]})).text == arguments
    old = {"name": "verdict", "arguments": arguments}
    assert answer(chat({"content": content, "function_call": old})).text == arguments
    assert answer(chat({"content": content, "refusal": "I can't."})).text == "I can't."
    assert answer(chat({"content": content, "reasoning_content": "pass"})).text == "pass"


def test_thoughts_that_were_cut_off_are_no_reply() -> None:
    failed = failure(chat({"content": None, "reasoning_content": "Let me"}, finish="length"))
    assert failed.kind == "permanent"
    assert "max_tokens" in failed.message


def test_log_probabilities_come_with_the_text() -> None:
    logprobs = {"content": [{"token": "pa", "logprob": -0.1}, {"token": "ss", "logprob": 0}]}
    body = chat({"content": "pass"})
    body["choices"][0]["logprobs"] = logprobs
    assert answer(body).tokens == [("pa", -0.1), ("ss", 0.0)]
    old = {"choices": [{"text": "pass", "logprobs": {"tokens": ["pass"], "token_logprobs": [-1]}}]}
    assert answer(old).tokens == [("pass", -1.0)]
    assert answer(chat({"content": "pass"})).tokens is None


def delta(**changes: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": changes, "finish_reason": None}]}


@pytest.mark.parametrize(
    "body",
    [
        events([delta(content="pa"), delta(content="ss"), {"choices": [], "usage": USAGE}]),
        ": waiting\n\n" + events([delta(content="pa"), delta(content="ss"), {"usage": USAGE}]),
        "\r\n".join(events([delta(content="pass"), {"usage": USAGE}]).split("\n")),
        "\n".join(events([delta(content="pass"), {"usage": USAGE}]).split("\n\n")),
        events(
            [
                {"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 2, "cache_read_input_tokens": 8}}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "pass"}},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
            ],
            end='{"type": "message_stop"}',
        ),
        "\n".join(
            json.dumps(piece)
            for piece in (
                {"message": {"content": "pa"}, "done": False},
                {"message": {"content": "ss"}, "done": True, "prompt_eval_count": 10, "eval_count": 3},
            )
        ),
    ],
)  # fmt: skip
def test_a_stream_is_put_together(body: str) -> None:
    reply = answer(body)
    assert reply.text == "pass"
    assert (reply.input_tokens, reply.output_tokens) == (10, 3)


def test_a_streamed_tool_call_is_put_together() -> None:
    def call(index: int, arguments: str) -> dict[str, Any]:
        return delta(tool_calls=[{"index": index, "function": {"arguments": arguments}}])

    pieces = [call(0, '{"a"'), call(1, '{"b"'), call(0, ": 1}"), call(1, ": 2}")]
    assert answer(events(pieces)).text == '{"a": 1}\n{"b": 2}'


def test_a_stream_that_breaks_off_is_tried_again() -> None:
    whole = events([delta(content="pass"), delta(content=" it")])
    for end in (len(whole) // 2, whole.index("data: [DONE]")):
        failed = failure(whole[:end])
        assert failed.kind == "transient"


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (429, {"error": {"message": "Rate limit reached", "code": "rate_limit_exceeded"}}, "transient", "429: Rate limit"),
        (429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}, "configuration", "quota"),
        (402, {"error": "Payment required"}, "configuration", "credit"),
        (408, "", "transient", "408"),
        (409, "", "transient", "409"),
        (425, "", "transient", "425"),
        (500, "<html><title>Oops</title></html>", "transient", "'Oops'"),
        (503, {"detail": "loading"}, "transient", "loading"),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "transient", "Overloaded"),
        (401, {"error": {"message": "Incorrect API key provided: sk-abcdefgh12345678."}}, "configuration", "check the model's key"),
        (403, {"message": "Forbidden"}, "configuration", "Forbidden"),
        (404, {"error": {"code": "model_not_found", "message": "The model `x` does not exist"}}, "configuration", "name of the model"),
        (400, {"error": {"message": "API key not valid. Please pass a valid API key."}}, "configuration", "key"),
        (400, {"error": {"message": "Your credit balance is too low"}}, "configuration", "credit"),
        (400, {"message": "Invalid model: x", "type": "invalid_model"}, "configuration", "name of the model"),
        (301, "", "configuration", "base_url"),
        (400, {"error": {"message": "This model's maximum context length is 4096 tokens.", "code": "context_length_exceeded"}}, "permanent", "longer than the model takes"),
        (413, "", "permanent", "longer than the model takes"),
        (400, {"error": {"code": "content_filter", "message": "filtered"}}, "permanent", "content filter"),
        (403, {"error": {"message": "Input was flagged", "metadata": {"reasons": ["violence"]}}}, "permanent", "content filter"),
        (400, {"error": {"message": "x" * 5_000}}, "permanent", "xxx..."),
        (422, {"detail": [{"loc": ["body", "x"], "msg": "field required"}]}, "permanent", "field required"),
    ],
)  # fmt: skip
def test_failures_are_classified(status: int, body: object, kind: str, words: str) -> None:
    failed = failure(body, status)
    assert failed.kind == kind
    assert words in failed.message
    assert len(failed.message) < 700


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("<!doctype html><title>Sign in</title>", "transient", "base_url"),
        ('{"choices": [{"message": {"cont', "transient", "not whole JSON"),
        ("", "transient", "empty body"),
        ("   \n", "transient", "empty body"),
        ({"error": {"message": "Overloaded", "code": 529}}, "transient", "529: Overloaded"),
        ({"error": {"message": "Rate limit exceeded", "code": 429}}, "transient", "Rate limit"),
        ({"error": {"type": "invalid_request_error", "message": "no"}}, "permanent", "no"),
        ({"error": {"message": "invalid api key"}}, "configuration", "key"),
        ({"error": "model 'x' not found"}, "configuration", "not found"),
        (chat({"content": ""}, finish="content_filter"), "permanent", "content filter"),
        (chat({"content": ""}, finish="length"), "permanent", "max_tokens"),
        ({"object": "list", "data": [{"embedding": [0.1]}]}, "transient", "no generated text"),
        ({"detail": "Not Found"}, "transient", "no generated text"),
        ({"choices": [{"error": {"code": 502, "message": "upstream"}}]}, "transient", "upstream"),
        (events([delta(content="pa"), {"error": {"message": "broke"}}]), "transient", "broke"),
    ],
)
def test_a_success_that_is_none_is_classified(body: object, kind: str, words: str) -> None:
    failed = failure(body)
    assert failed.kind == kind
    assert words in failed.message


def test_an_empty_reply_is_a_reply() -> None:
    assert answer(chat({"content": ""})).text == ""


@pytest.mark.parametrize(
    ("message", "parameter"),
    [
        ("Invalid parameter: 'response_format' of type 'json_schema' is not supported", "response_format"),
        ("Unsupported value: 'temperature' does not support 0 with this model.", "temperature"),
        ("Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens'.", "max_tokens"),
        ("logprobs are not supported", "logprobs"),
        ("System role not supported", "system"),
    ],
)  # fmt: skip
def test_the_refused_parameter_is_named(message: str, parameter: str) -> None:
    body = {"error": {"message": message, "param": parameter, "type": "invalid_request_error"}}
    assert failure(body, 400).parameter == parameter


def test_retry_after_is_read_in_all_its_forms() -> None:
    now = datetime.now(UTC)
    soon = format_datetime(now + timedelta(seconds=30), usegmt=True)
    for headers, seconds in (
        ({"Retry-After": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"Retry-After": soon, "Date": format_datetime(now, usegmt=True)}, 30),
        ({"Retry-After": "86400"}, 3600),
        ({"Retry-After": "inf"}, 3600),
        ({"Retry-After": "-5"}, 0),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ):
        with pytest.raises(CallFailed) as raised:
            parse(503, headers, b"")
        assert raised.value.retry_after == seconds


def test_no_message_holds_a_key() -> None:
    keys = (
        "sk-proj-abcdef1234567890",
        "Bearer eyJhbGciOiJIUzI1NiJ9.abc",
        "AIzaSyA1234567890abcdef",
        "gsk_abcdefghijklmnop",
        "0123456789abcdef0123456789abcdef",
    )
    for key in keys:
        for status, body in (
            (401, {"error": {"message": f"bad key {key}."}}),
            (500, key),
            (200, f"<p>{key}"),
        ):
            assert key.split()[-1] not in failure(body, status).message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "message", "delta", "content", "text", "type", "index", "usage", "error", "tool_calls", "function", "output", "response", "finish_reason", "logprobs", "tokens", "token_logprobs", "prompt_tokens", "bytes", "status", "object", "parts", "meta"]
        )
        | st.text(max_size=5),
        inner,
        max_size=4,
    ),
    max_leaves=15,
)  # fmt: skip


def outcome(status: int, body: bytes) -> Reply | CallFailed:
    try:
        return parse(status, {}, body)
    except CallFailed as failed:
        return failed


@given(JSON, st.sampled_from((200, 200, 400, 429, 500)), st.booleans())
def test_no_json_raises_anything_else(body: object, status: int, is_stream: bool) -> None:
    text = json.dumps(body)
    found = outcome(status, (f"data: {text}\n\ndata: [DONE]" if is_stream else text).encode())
    assert isinstance(found, Reply) or found.kind in ERROR_CLASSES


@given(st.binary(), st.integers(100, 599))
def test_no_bytes_raise_anything_else(body: bytes, status: int) -> None:
    found = outcome(status, body)
    assert isinstance(found, Reply) or found.kind in ERROR_CLASSES
    assert isinstance(found, Reply) or found.message.encode("utf-8")


@pytest.mark.parametrize(
    "body", ["[" * 100_000, '{"a":' * 100_000, "\0" + '{"a":' * 100_000, "data: {" * 50_000]
)
def test_hostile_bodies_are_failures(body: str) -> None:
    assert failure(body).kind in ERROR_CLASSES


@pytest.mark.parametrize("key", ["usage", "message", "response", "tokens"])
def test_nested_usage_does_no_harm(key: str) -> None:
    with contextlib.suppress(CallFailed):
        assert answer(f'{{"{key}":' * 300 + "{}" + "}" * 300).text == ""
