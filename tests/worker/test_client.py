"""Calls of models: what is sent, and what every kind of answer comes to."""

import asyncio
import gzip
import json
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flywheel_pl.judges.reply import CallFailed, Reply

import replay
from flywheel_db.worker import logs
from flywheel_db.worker.catalog import Model
from flywheel_db.worker.client import Callers

KEY = "sk-live-0123456789abcdef"
MakeModel = Callable[..., Model]

BODY = {
    "model": "m-1",
    "messages": [{"role": "user", "content": "judge this \u00e9\u4e16"}],
    "temperature": 0,
    "x_extra": {"anything": [1, None]},
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_KEY_TEST", KEY)


def call(model: Model, body: dict[str, Any] = BODY, times: int = 1) -> Reply:
    async def main() -> Reply:
        callers = Callers()
        try:
            for _ in range(times):
                reply = await callers.get(model).call(body)
        finally:
            await callers.close()
        return reply

    return asyncio.run(main())


def failed(model: Model, times: int = 1) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        call(model, times=times)
    assert KEY not in caught.value.message
    return caught.value


def test_the_body_is_sent_as_it_is_and_the_reply_is_read(
    endpoint: replay.Endpoint, make_model: MakeModel
) -> None:
    reply = call(make_model(endpoint.base_url))
    assert json.loads(reply.text)["verdict"] == "pass"
    assert reply.input_tokens > 0
    assert endpoint.requests[0].body == BODY


def test_only_what_is_needed_is_sent(
    endpoint: replay.Endpoint, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "not for you")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Mine: not for you\nAuthorization: not for you")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.invalid")
    call(make_model(endpoint.base_url))
    call(make_model(endpoint.base_url, api_key_env="FLYWHEEL_KEY_TEST"))
    without, with_key = (request.headers for request in endpoint.requests)
    needed = {"host", "accept", "accept-encoding", "content-type", "content-length", "user-agent"}
    assert set(without) == needed
    assert set(with_key) == needed | {"authorization"}
    assert with_key["authorization"] == f"Bearer {KEY}"
    assert "not for you" not in str(with_key)


def test_the_key_is_read_at_each_call(
    endpoint: replay.Endpoint, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(endpoint.base_url, api_key_env="FLYWHEEL_KEY_TEST")

    async def main() -> CallFailed:
        callers = Callers()
        await callers.get(model).call(BODY)
        monkeypatch.setenv("FLYWHEEL_KEY_TEST", "another-key-123")
        await callers.get(model).call(BODY)
        monkeypatch.delenv("FLYWHEEL_KEY_TEST")
        with pytest.raises(CallFailed) as caught:
            await callers.get(model).call(BODY)
        await callers.close()
        return caught.value

    failure = asyncio.run(main())
    assert [r.headers["authorization"] for r in endpoint.requests] == [
        f"Bearer {KEY}",
        "Bearer another-key-123",
    ]
    assert (failure.kind, failure.message) == (
        "configuration",
        "the variable FLYWHEEL_KEY_TEST is not set",
    )


def test_azure_has_its_own_path_and_header(
    endpoint: replay.Endpoint, make_model: MakeModel
) -> None:
    model = make_model(
        f"http://{endpoint.authority}/", provider="azure", api_version="2024-10-21",
        api_key_env="FLYWHEEL_KEY_TEST",
    )  # fmt: skip
    call(model, BODY | {"model": "my deployment"})
    request = endpoint.requests[0]
    assert request.path == (
        "/openai/deployments/my%20deployment/chat/completions?api-version=2024-10-21"
    )
    assert request.headers["api-key"] == KEY
    assert "authorization" not in request.headers


def test_connections_are_kept(endpoint: replay.Endpoint, make_model: MakeModel) -> None:
    call(make_model(endpoint.base_url), times=5)
    assert (endpoint.count, endpoint.connections) == (5, 1)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("cut", "transient", "broke"),
        ("dropped", "transient", "broke"),
        ("server_error", "transient", "500"),
        ("overloaded", "transient", "503"),
        ("rate_limited", "transient", "429"),
        ("huge", "transient", "longer than 1,000,000 bytes"),
        ("huge_without_length", "transient", "longer than 1,000,000 bytes"),
        ("hang", "transient", "no whole answer within 0.2 seconds"),
        ("hang_in_body", "transient", "no whole answer within 0.2 seconds"),
        ("drip", "transient", "no whole answer within 0.2 seconds"),
        ("html", "transient", "web page"),
        ("wrong_key", "configuration", "401"),
        ("unknown_model", "configuration", "404"),
        ("quota_exceeded", "configuration", "quota"),
        ("moved", "configuration", "redirect"),
        ("too_long", "permanent", "context length"),
        ("filtered", "permanent", "filter"),
    ],
)
def test_a_fault_comes_to_its_kind(
    endpoint: replay.Endpoint, make_model: MakeModel, fault: str, kind: str, words: str
) -> None:
    endpoint.respond_with(replay.FAULTS[fault])
    limit = 0.2 if fault in ("hang", "hang_in_body", "drip") else 5.0
    failure = failed(
        make_model(endpoint.base_url, timeout_seconds=limit, api_key_env="FLYWHEEL_KEY_TEST")
    )
    assert failure.kind == kind
    assert words in failure.message
    assert (failure.retry_after == 1) == (fault == "rate_limited")
    assert endpoint.count == 1


@pytest.mark.parametrize("fault", ["cut", "dropped", "huge", "hang", "drip", "server_error"])
def test_after_a_fault_the_next_call_is_well(
    endpoint: replay.Endpoint, make_model: MakeModel, fault: str
) -> None:
    endpoint.respond_with(replay.in_turn([replay.FAULTS[fault]], replay.verdict()))
    model = make_model(endpoint.base_url, timeout_seconds=0.3)

    async def main() -> Reply:
        callers = Callers()
        with pytest.raises(CallFailed):
            await callers.get(model).call(BODY)
        reply = await callers.get(model).call(BODY)
        await callers.close()
        return reply

    assert asyncio.run(main()).text


def test_a_cancelled_call_closes_its_connection(
    endpoint: replay.Endpoint, make_model: MakeModel, eventually: Callable[..., Any]
) -> None:
    endpoint.respond_with(replay.FAULTS["hang"])

    async def main() -> None:
        callers = Callers()
        task = asyncio.create_task(callers.get(make_model(endpoint.base_url)).call(BODY))
        await eventually(lambda: endpoint.in_flight == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: endpoint.in_flight == 0)
        await callers.close()

    asyncio.run(main())


def test_nobody_there_is_transient(make_model: MakeModel) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    failure = failed(make_model(f"http://127.0.0.1:{port}/v1"))
    assert failure.kind == "transient"
    assert f"cannot connect to 127.0.0.1:{port}" in failure.message


def compressed(content: bytes, encoding: str = "gzip") -> replay.Responder:
    headers = {"content-type": "application/json", "content-encoding": encoding}
    return lambda request: replay.Reply(content, headers=headers)


def test_an_answer_may_be_compressed_though_nobody_asked(
    endpoint: replay.Endpoint, make_model: MakeModel
) -> None:
    whole = replay.verdict()(BODY).body
    endpoint.respond_with(compressed(gzip.compress(whole)))
    assert json.loads(call(make_model(endpoint.base_url)).text)["verdict"] == "pass"


@pytest.mark.parametrize(
    ("content", "encoding", "words"),
    [
        (gzip.compress(b" " * 50_000_000), "gzip", "longer than"),
        (gzip.compress(b'{"a": 1}')[:-6], "gzip", "before its compressed data"),
        (b"not gzip", "gzip", "cannot be unpacked"),
        (b"?", "br", "compressed with br"),
    ],
    ids=["bomb", "cut", "not gzip", "unknown"],
)
def test_a_compressed_answer_that_is_of_no_use_is_transient(
    endpoint: replay.Endpoint, make_model: MakeModel, content: bytes, encoding: str, words: str
) -> None:
    endpoint.respond_with(compressed(content, encoding))
    failure = failed(make_model(endpoint.base_url))
    assert failure.kind == "transient"
    assert words in failure.message


def test_a_redirect_is_not_followed(make_model: MakeModel, endpoint: replay.Endpoint) -> None:
    with replay.Endpoint() as other:
        location = {"location": f"{other.base_url}/chat/completions"}
        endpoint.respond_with(lambda request: replay.Reply(status=307, headers=location))
        failure = failed(make_model(endpoint.base_url, api_key_env="FLYWHEEL_KEY_TEST"))
        assert failure.kind == "configuration"
        assert other.count == 0


def test_proxies_are_not_used_for_loopback(
    endpoint: replay.Endpoint, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:1")
    monkeypatch.setenv("ALL_PROXY", "http://proxy.invalid:1")
    assert call(make_model(endpoint.base_url)).text


def test_proxies_are_used_elsewhere(
    make_model: MakeModel, endpoint: replay.Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{endpoint.authority}")
    assert call(make_model("http://models.invalid/v1")).text
    assert endpoint.requests[0].path == "http://models.invalid/v1/chat/completions"
    monkeypatch.setenv("no_proxy", "models.invalid")
    assert failed(make_model("http://models.invalid/v1")).kind == "transient"


def test_an_endpoint_that_repeats_the_key_does_not_get_it_stored(
    endpoint: replay.Endpoint, make_model: MakeModel
) -> None:
    model = make_model(endpoint.base_url, api_key_env="FLYWHEEL_KEY_TEST")
    endpoint.respond_with(replay.text(f'{{"reason": "your key is {KEY}", "verdict": "pass"}}'))
    assert json.loads(call(model).text)["reason"] == "your key is ***"
    endpoint.respond_with(lambda request: replay.error(401, f"wrong key {KEY}"))
    assert "***" in failed(model).message


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Everything that the worker and its libraries would log at the level of debugging."""
    lines: list[str] = []
    names = ("openai", "httpx", "httpcore", "asyncio", "psycopg.pool")
    before = {name: logging.getLogger(name).level for name in names}
    logs.set_up(as_json=False, level=logging.DEBUG, write=lines.append)
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield lines
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("fault", [None, "wrong_key", "cut", "moved"])
@pytest.mark.parametrize("provider", ["openai", "azure"])
def test_no_log_has_the_key(
    endpoint: replay.Endpoint, make_model: MakeModel, logged: list[str], fault: str | None,
    provider: str,
) -> None:  # fmt: skip
    model = make_model(
        endpoint.base_url, api_key_env="FLYWHEEL_KEY_TEST", provider=provider, api_version="v"
    )
    if fault is None:
        call(model)
    else:
        endpoint.respond_with(replay.FAULTS[fault])
        failed(model)
    assert KEY in str(endpoint.requests[0].headers)
    assert any("/chat/completions" in line for line in logged)
    assert KEY not in "\n".join(logged)
