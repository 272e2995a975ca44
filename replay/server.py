"""HTTP/1.1 for one purpose: requests with a JSON body in, scripted replies out.

A protocol rather than asyncio streams: a request costs one callback and one write, so that one
core serves far more than the client under test can ask for.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from replay.reply import Reply, Responder, error
from replay.vectors import vectors

_HEAD_END = b"\r\n\r\n"
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Received:
    """One request. Names of headers are in lower case; `body` is None if it was not JSON."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Script:
    """What all connections share: how to answer, and what was received."""

    def __init__(
        self,
        responder: Responder,
        latency: float = 0,
        key: str | None = None,
        keep: bool = True,
        embedder: Responder | None = None,
    ) -> None:
        """With a `key`, requests that do not carry it are answered 401."""
        self.responder = responder
        self.embedder = embedder or vectors()
        self.latency = latency
        self.key = key
        self.keep = keep
        self.requests: list[Received] = []
        self.errors: list[Exception] = []
        self.count = 0
        self.connections = 0
        self.in_flight = 0
        self.peak = 0

    def answer(self, request: Received) -> Reply:
        """The reply to a request; a responder that raises becomes a 500 and is remembered."""
        path = urlsplit(request.path).path
        if path == "/replay/stats":
            return self._stats()
        self.count += 1
        if self.keep:
            self.requests.append(request)
        responder = self.embedder if path.endswith("/embeddings") else self.responder
        if request.method != "POST" or not path.endswith(("/chat/completions", "/embeddings")):
            return error(404, f"Unknown request URL: {request.method} {path}")
        if self.key is not None and not self._has_key(request.headers):
            return error(401, "Incorrect API key provided.", code="invalid_api_key")
        if not isinstance(request.body, dict):
            return error(400, "The body of the request is not a JSON object.")
        try:
            return responder(request.body)
        except Exception as exc:
            self.errors.append(exc)
            return error(500, f"the responder raised {exc!r}", kind="server_error")

    def _has_key(self, headers: dict[str, str]) -> bool:
        given = headers.get("api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), (self.key or "").encode())

    def _stats(self) -> Reply:
        stats = {"count": self.count, "in_flight": self.in_flight, "peak": self.peak}
        return Reply(json.dumps(stats).encode(), delay=0)


class Connection(asyncio.Protocol):
    """One client. Requests of a connection are answered one after the other."""

    def __init__(self, script: Script, open_connections: set[Connection]) -> None:
        self._script = script
        self._open = open_connections
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(self)
        self._script.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: what was to be sent is not."""
        self._open.discard(self)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._finish()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Collect, and answer what is complete."""
        self._buffer += data
        if not self._busy:
            self._next()

    def _next(self) -> None:
        try:
            request = self._take()
        except ValueError:  # not HTTP
            self.abort()
            return
        if request is None:
            return
        self._busy = True
        reply = self._script.answer(request)
        self._counted = not request.path.startswith("/replay/")
        if self._counted:
            self._script.in_flight += 1
            self._script.peak = max(self._script.peak, self._script.in_flight)
        delay = self._script.latency if reply.delay is None else reply.delay
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(delay, self._send, reply)

    def _take(self) -> Received | None:
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return None
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        begin = end + len(_HEAD_END)
        stop = begin + int(headers.get("content-length", 0))
        if len(self._buffer) < stop:
            return None
        body = bytes(self._buffer[begin:stop])
        del self._buffer[:stop]
        method, path, _ = first.split(" ", 2)
        try:
            parsed = json.loads(body) if body else None
        except ValueError:
            parsed = None
        return Received(method, path, headers, parsed)

    def _send(self, reply: Reply) -> None:
        assert self._transport is not None
        if reply.hang and reply.close_after_bytes is None:
            return
        head = _head(reply) if reply.status else b""
        if reply.drip is not None:
            self._transport.write(head)
            self._drip(reply, reply.drip, 0)
        elif reply.hang:
            self._transport.write(head + reply.body[: reply.close_after_bytes])
        else:
            self._end(reply, head + reply.body[: reply.close_after_bytes])

    def _drip(self, reply: Reply, seconds: float, sent: int) -> None:
        assert self._transport is not None
        if sent + 1 >= len(reply.body):
            self._end(reply, reply.body[sent:])
            return
        self._transport.write(reply.body[sent : sent + 1])
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, self._drip, reply, seconds, sent + 1)

    def _end(self, reply: Reply, rest: bytes) -> None:
        """Write the `rest`, which ends the reply: who has read it never sees it counted."""
        assert self._transport is not None
        self._finish()
        self._transport.write(rest)
        if reply.close_after_bytes is not None or reply.headers.get("connection") == "close":
            self._transport.close()
        elif self._buffer:
            self._next()

    def _finish(self) -> None:
        self._busy = False
        if self._counted:
            self._counted = False
            self._script.in_flight -= 1


def _head(reply: Reply) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    if reply.headers.get("connection") != "close":
        lines.append(f"content-length: {len(reply.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def serve(
    script: Script, host: str, port: int, ready: asyncio.Future[int], stop: asyncio.Event
) -> None:
    """Listen until `stop`; `ready` gets the port."""
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(script, connections), host, port)
    ready.set_result(server.sockets[0].getsockname()[1])
    try:
        await stop.wait()
    finally:
        server.close()
        while connections:
            for connection in list(connections):
                connection.abort()
            await asyncio.sleep(0)
        await server.wait_closed()
