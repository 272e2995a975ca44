"""Calls to models with the standard library alone: one connection a thread, kept open."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from contextlib import suppress
from time import monotonic

from flywheel_pl.judges import hosts
from flywheel_pl.judges.reply import CallFailed, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    from flywheel_pl.judges.reply import Reply

    Answer = TypeVar("Answer")

_MAX_BYTES = 1_000_000

# A server may close a connection that nobody uses. Many do after 5 seconds: be earlier.
_KEPT_SECONDS = 4


class Endpoint:
    """What a call needs to know of a model: a row of flywheel.models."""

    __slots__ = (
        "api_key_env",
        "api_version",
        "base_url",
        "max_concurrency",
        "origin",
        "provider",
        "timeout",
    )

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.base_url = str(row["base_url"])
        self.provider = str(row["provider"])
        self.api_version: str | None = row["api_version"]
        self.api_key_env: str | None = row["api_key_env"]
        self.timeout = float(row["timeout_seconds"])
        self.max_concurrency: int | None = row["max_concurrency"]
        self.origin = hosts.origin_of(self.base_url)


class Caller:
    """The calls of one thread. Another thread may end the one under way with ``abort``."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._connection: http.client.HTTPConnection | None = None
        self._place: hosts.Origin | None = None
        self._used = 0.0
        self.deadline: float | None = None  # of the call under way

    def call(self, endpoint: Endpoint, body: Mapping[str, Any]) -> Reply:
        """Ask for a chat completion and read it.

        Raises:
            CallFailed: there is none; no message of it holds the key.
        """
        return self.ask(endpoint, body, "/chat/completions", parse, _MAX_BYTES)

    def ask(
        self,
        endpoint: Endpoint,
        body: Mapping[str, Any],
        what: str,
        read: Callable[[int, Mapping[str, str], bytes], Answer],
        most: int,
    ) -> Answer:
        """Send a request to a path below the base URL and read an answer of so many bytes at most.

        Raises:
            CallFailed: there is none; no message of it holds the key.
        """
        key = hosts.key_of(endpoint.api_key_env, self._environ)
        if endpoint.origin is None or (key is None and endpoint.api_key_env is not None):
            raise CallFailed("configuration", f"{endpoint.api_key_env} is not set on the server")
        self.deadline = monotonic() + endpoint.timeout
        try:
            status, headers, content = self._send(endpoint, body, key, what, most)
            if key is not None and key.encode() in content:
                content = content.replace(key.encode(), b"***")
            return read(status, headers, content)
        except (OSError, http.client.HTTPException) as error:
            self.abort()
            if monotonic() >= self.deadline or isinstance(error, TimeoutError):
                message = f"no whole answer within {endpoint.timeout:g} seconds"
            else:
                said = str(error) or type(error).__name__
                message = f"the connection to {endpoint.origin.host} broke: {said}"
            kind = "transient"
            if isinstance(error, ssl.SSLCertVerificationError):
                kind = "configuration"
                message = f"the certificate of {endpoint.origin.host} is not trusted: {error}"
            raise CallFailed(kind, message) from None
        except CallFailed as failed:
            if key is not None:
                failed.message = failed.message.replace(key, "***")
            raise
        finally:
            self.deadline = None

    def _send(
        self, endpoint: Endpoint, body: Mapping[str, Any], key: str | None, what: str, most: int
    ) -> tuple[int, dict[str, str], bytes]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key is not None:
            name, value = hosts.key_header(endpoint.provider, key)
            headers[name] = value
        path = hosts.path_of(endpoint.provider, endpoint.base_url, endpoint.api_version, body, what)
        connection = self._connect(endpoint)
        connection.request("POST", path, json.dumps(body).encode(), headers)
        response = connection.getresponse()
        content = response.read(most + 1)
        if len(content) > most:
            self.abort()
            raise CallFailed("transient", f"the answer is longer than {most:,} bytes")
        if response.length:  # not all of what was announced
            raise http.client.IncompleteRead(content, response.length)
        if response.will_close:
            self.abort()
        self._used = monotonic()
        received = {name.lower(): value for name, value in response.getheaders()}
        return response.status, received, content

    def _connect(self, endpoint: Endpoint) -> http.client.HTTPConnection:
        origin = endpoint.origin
        assert origin is not None  # noqa: S101  call() has looked
        if self._place != origin or monotonic() - self._used > _KEPT_SECONDS:
            self.abort()
        if self._connection is None:
            host = origin.host.strip("[]")
            if origin.scheme == "https":
                self._connection = http.client.HTTPSConnection(
                    host, origin.port, timeout=endpoint.timeout, context=_tls()
                )
            else:
                self._connection = http.client.HTTPConnection(
                    host, origin.port, timeout=endpoint.timeout
                )
            self._place = origin
        return self._connection

    def abort(self) -> None:
        """Close the connection; a call under way in another thread ends with an error."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.sock is not None:
            with suppress(OSError):  # not connected any more
                connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()


_CONTEXTS: list[ssl.SSLContext] = []


def _tls() -> ssl.SSLContext:
    """The trusted certificates, read once: that takes tens of milliseconds."""
    if not _CONTEXTS:
        _CONTEXTS.append(ssl.create_default_context())
    return _CONTEXTS[0]
