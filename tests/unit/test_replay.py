"""The scripted endpoint that the tests of the worker and the figures rely on."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import replay
from replay import faults, recorded


def body(content: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "judge-1", "messages": [{"role": "user", "content": content}]} | fields


class Client:
    """One kept connection to an endpoint."""

    def __init__(self, base_url: str) -> None:
        self.connection = http.client.HTTPConnection(
            base_url.removeprefix("http://").removesuffix("/v1"), timeout=5
        )

    def post(
        self, request: Any = None, path: str = "/v1/chat/completions", **headers: str
    ) -> http.client.HTTPResponse:
        data = json.dumps(body() if request is None else request)
        self.connection.request("POST", path, data, headers)
        return self.connection.getresponse()

    def text(self, request: Any = None) -> str:
        answer = json.load(self.post(request))
        found: str = answer["choices"][0]["message"]["content"]
        return found

    def verdict(self, request: Any = None) -> bool:
        return bool(json.loads(self.text(request))["verdict"] == "pass")


@pytest.fixture
def endpoint() -> Iterator[replay.Endpoint]:
    with replay.Endpoint() as running:
        yield running


@pytest.fixture
def client(endpoint: replay.Endpoint) -> Iterator[Client]:
    made = Client(endpoint.base_url)
    yield made
    made.connection.close()


def test_what_was_received_is_kept(endpoint: replay.Endpoint, client: Client) -> None:
    assert client.post(body("one"), Authorization="Bearer k").read()
    assert client.post(body("two")).read()
    first, second = endpoint.requests
    assert (first.method, first.path) == ("POST", "/v1/chat/completions")
    assert first.headers["authorization"] == "Bearer k"
    assert second.body == body("two")
    assert endpoint.count == 2


def test_an_answer_is_a_chat_completion(client: Client) -> None:
    answer = json.load(client.post(body("x" * 40)))
    assert answer["model"] == "judge-1"
    assert json.loads(answer["choices"][0]["message"]["content"])["verdict"] == "pass"
    assert answer["usage"]["prompt_tokens"] == 10


def test_a_connection_serves_many_requests(endpoint: replay.Endpoint, client: Client) -> None:
    for _ in range(3):
        assert client.verdict()
    assert endpoint.connections == 1


def test_two_requests_sent_at_once_are_answered_in_order(endpoint: replay.Endpoint) -> None:
    endpoint.respond_with(replay.round_robin(["first", "second"]))
    data = json.dumps(body()).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(data)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=5) as client:
        client.sendall((head.encode() + data) * 2)
        got = b""
        while got.count(b'"usage"') < 2:
            got += client.recv(65536)
    assert got.index(b"first") < got.index(b"second")


def test_the_verdict_follows_a_keyword(endpoint: replay.Endpoint, client: Client) -> None:
    endpoint.respond_with(replay.by_keyword("delve"))
    assert client.verdict(body("let us delve")) is False
    assert client.verdict(body("let us look")) is True


def test_a_marker_chooses_the_recorded_text(
    endpoint: replay.Endpoint, client: Client, shared_data: Path
) -> None:
    texts = recorded.texts("llmbar", shared_data)
    endpoint.respond_with(replay.by_marker(texts))
    chosen = list(texts)[7]
    assert client.text(body(f"judge this [[replay:{chosen}]]")) == texts[chosen]
    assert client.post(body("no marker")).status == 400


@pytest.mark.parametrize("name", recorded.TEXT_SETS)
def test_every_set_of_texts_is_read(name: str, shared_data: Path) -> None:
    found = recorded.texts(name, shared_data)
    assert len(found) > 50
    assert all(key.startswith(f"{name}:") and text for key, text in found.items())


def test_recorded_bodies_are_served_verbatim(
    endpoint: replay.Endpoint, client: Client, shared_data: Path
) -> None:
    replies = recorded.bodies(shared_data)
    endpoint.respond_with(replay.round_robin(replies))
    kinds = set()
    for reply in replies:
        got = client.post()
        kinds.add(got.getheader("content-type"))
        assert (got.status, got.read()) == (reply.status, reply.body)
    assert kinds == {"application/json", "text/event-stream"}


def test_latency_delays_many_at_once_not_one_after_the_other() -> None:
    with replay.Endpoint(latency=0.1) as endpoint, ThreadPoolExecutor(20) as pool:

        def ask(_: int) -> bool:
            client = Client(endpoint.base_url)
            try:
                return client.verdict()
            finally:
                client.connection.close()

        assert all(pool.map(ask, range(20)))
        assert endpoint.peak > 1
        assert endpoint.in_flight == 0


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("rate_limited", 429),
        ("quota_exceeded", 429),
        ("server_error", 500),
        ("overloaded", 503),
        ("html", 200),
        ("huge", 200),
        ("huge_without_length", 200),
        ("wrong_key", 401),
        ("unknown_model", 404),
        ("too_long", 400),
        ("filtered", 400),
        ("moved", 307),
    ],
)
def test_a_fault_has_its_status(
    endpoint: replay.Endpoint, client: Client, fault: str, status: int
) -> None:
    endpoint.respond_with(replay.FAULTS[fault])
    got = client.post()
    data = got.read()
    assert got.status == status
    assert (len(data) > 2_000_000) == fault.startswith("huge")
    assert (got.getheader("retry-after") == "1") == (fault == "rate_limited")


@pytest.mark.parametrize("fault", ["cut", "dropped"])
def test_a_body_that_is_cut_ends_the_connection(
    endpoint: replay.Endpoint, client: Client, fault: str
) -> None:
    endpoint.respond_with(replay.FAULTS[fault])
    with pytest.raises((http.client.IncompleteRead, http.client.RemoteDisconnected)):
        client.post().read()


@pytest.mark.parametrize("fault", ["hang", "hang_in_body"])
def test_a_hanging_answer_ends_with_the_client(endpoint: replay.Endpoint, fault: str) -> None:
    endpoint.respond_with(replay.FAULTS[fault])
    impatient = Client(endpoint.base_url)
    impatient.connection.timeout = 0.05
    with pytest.raises(TimeoutError):
        impatient.post().read()
    assert endpoint.in_flight == 1
    impatient.connection.close()
    deadline = time.monotonic() + 5
    while endpoint.in_flight and time.monotonic() < deadline:
        time.sleep(0.005)
    assert endpoint.in_flight == 0


def test_a_dripping_answer_never_makes_one_read_wait_long(
    endpoint: replay.Endpoint, client: Client
) -> None:
    endpoint.respond_with(lambda request: replay.Reply(b"12345", drip=0.01))
    got = client.post()
    assert [got.read(1) for _ in range(5)] == [b"1", b"2", b"3", b"4", b"5"]


def test_structured_output_can_be_refused(endpoint: replay.Endpoint, client: Client) -> None:
    endpoint.respond_with(faults.no_response_format)
    got = client.post(body(response_format={"type": "json_object"}))
    assert got.status == 400
    assert b"response_format" in got.read()
    assert client.verdict() is True


def test_answers_in_turn_then_for_ever(endpoint: replay.Endpoint, client: Client) -> None:
    endpoint.respond_with(replay.in_turn([faults.server_error], replay.verdict()))
    statuses = []
    for _ in range(3):
        got = client.post()
        got.read()
        statuses.append(got.status)
    assert statuses == [500, 200, 200]


def test_faults_are_mixed_in_the_same_way_for_the_same_seed() -> None:
    def statuses(seed: int) -> list[int]:
        mixed = replay.Faulty(replay.verdict(), 0.3, seed=seed, faults=["server_error", "html"])
        found = [mixed(body()).status for _ in range(500)]
        assert 100 < mixed.faults < 200
        return found

    assert statuses(1) == statuses(1)
    assert statuses(1) != statuses(2)


def test_a_key_can_be_asked_for() -> None:
    with replay.Endpoint(key="right") as endpoint:
        client = Client(endpoint.base_url)
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer wrong"}, 401),
            ({"Authorization": "Bearer right"}, 200),
            ({"api-key": "right"}, 200),
        ):
            got = client.post(None, **headers)
            got.read()
            assert got.status == status
        client.connection.close()


def test_only_the_known_models_answer(endpoint: replay.Endpoint, client: Client) -> None:
    endpoint.respond_with(replay.only_models({"judge-1"}, replay.verdict()))
    assert client.verdict()
    assert client.post(body(model="other")).status == 404


@pytest.mark.parametrize(
    ("path", "request_body", "status"),
    [("/v1/rerank", body(), 404), ("/v1/chat/completions", [1], 400)],
)
def test_what_is_not_a_chat_completion_is_refused(
    client: Client, path: str, request_body: Any, status: int
) -> None:
    assert client.post(request_body, path).status == status


def test_an_azure_path_is_served(client: Client) -> None:
    path = "/openai/deployments/judge/chat/completions?api-version=2024-10-21"
    assert client.post(None, path).status == 200


def test_a_responder_that_raises_is_told_at_the_end() -> None:
    def broken(request: dict[str, Any]) -> replay.Reply:
        raise LookupError("broken responder")

    def ask_once() -> None:
        with replay.Endpoint(broken) as endpoint:
            client = Client(endpoint.base_url)
            got = client.post()
            assert got.status == 500
            got.read()
            client.connection.close()

    with pytest.raises(LookupError, match="broken responder"):
        ask_once()


def test_a_port_that_is_taken_is_told(endpoint: replay.Endpoint) -> None:
    with (
        pytest.raises(OSError, match="address already in use"),
        replay.Endpoint(port=endpoint.port),
    ):
        pass


def test_nothing_stays_behind(endpoint: replay.Endpoint, client: Client) -> None:
    assert client.verdict()
    endpoint.close()
    endpoint.close()
    assert not any(thread.name == "replay" for thread in threading.enumerate())
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        client.post()


def test_a_process_of_its_own_counts_and_ends() -> None:
    with replay.spawn("--answer", "keyword:delve", "--latency", "0.01") as process:
        client = Client(process.base_url)
        assert client.verdict(body("let us delve")) is False
        assert client.verdict(body("let us look")) is True
        assert (process.count, process.in_flight, process.peak) == (2, 0, 1)
        client.connection.close()
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", int(process.authority.partition(":")[2])))


def test_a_process_that_cannot_start_is_told() -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        replay.spawn("--answer", "nonsense")


def test_a_client_that_sends_nonsense_is_dropped(endpoint: replay.Endpoint) -> None:
    with socket.create_connection(("127.0.0.1", endpoint.port), timeout=5) as client:
        client.sendall(b"nonsense\r\n\r\n")
        assert client.recv(100) == b""
