"""Calls to models. Nothing else in this package speaks to the network.

The official client builds and sends the request. Under it is a transport of our own, which

* puts the key in last, so that nothing above, no log among it, ever has it;
* sends only the headers that are needed: the client would add an organisation, a project or even
  another key from the environment;
* keeps one connection a place: a shared pool examines all its connections for every request
  (measured with 64 at once: 3.8 ms a call, against 1.1 ms);
* reads the body up to a limit.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import urllib.request
import zlib
from collections.abc import AsyncIterable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import httpx
import openai
from flywheel_pl.embeddings import reply as embeddings
from flywheel_pl.embeddings.reply import Vectors
from flywheel_pl.judges.hosts import key_header, key_of, origin_of, path_below, without_key
from flywheel_pl.judges.reply import CallFailed, Reply, parse

from flywheel_db.worker.catalog import Model

Answer = TypeVar("Answer")

CHAT = "/chat/completions"

_MAX_BYTES = 1_000_000
_CONNECT_SECONDS = 15

# A server may close a connection that nobody uses. Many do after 5 seconds: be earlier.
_KEPT_SECONDS = 4

_HEADERS = frozenset((b"host", b"accept", b"content-type", b"content-length", b"user-agent"))


class Caller:
    """Calls one model, as many times at once as it is asked to."""

    def __init__(
        self, model: Model, tls: ssl.SSLContext, environ: Mapping[str, str] | None = None
    ) -> None:
        self.model = model
        # What this endpoint was found to refuse, for the next jobs.
        self.without: tuple[str, ...] = ()
        self._environ = os.environ if environ is None else environ
        limit = model.timeout_seconds
        self._client = openai.AsyncOpenAI(
            api_key="the transport puts it in",
            base_url=model.base_url,
            timeout=httpx.Timeout(limit, connect=min(limit, _CONNECT_SECONDS)),
            max_retries=0,
            http_client=_Http(_Transport(model, tls, self._environ)),
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def call(self, body: dict[str, Any]) -> Reply:
        """Send a request and read its reply.

        Raises:
            CallFailed: there is none; no message of it holds the key.
        """
        return await self._ask(body, CHAT, parse)

    async def embed(self, body: dict[str, Any]) -> Vectors:
        """Send texts and read their vectors.

        Raises:
            CallFailed: there are none; no message of it holds the key.
        """
        read = partial(embeddings.parse, count=len(body["input"]))
        return await self._ask(body, embeddings.PATH, read)

    async def _ask(
        self,
        body: dict[str, Any],
        what: str,
        read: Callable[[int, Mapping[str, str], bytes], Answer],
    ) -> Answer:
        key = key_of(self.model.api_key_env, self._environ)
        if key is None and self.model.api_key_env is not None:
            raise CallFailed("configuration", f"the variable {self.model.api_key_env} is not set")
        try:
            response = await self._post(body, what)
            # Some endpoints repeat what they were sent.
            content = without_key(response.content.decode("utf-8", "replace"), key)
            return read(response.status_code, response.headers, content.encode())
        except CallFailed as failed:
            failed.message = without_key(failed.message, key)
            raise

    async def _post(self, body: dict[str, Any], what: str) -> httpx.Response:
        limit = self.model.timeout_seconds
        try:
            # The client's own limits are for each read: an answer may come in drops for ever.
            async with asyncio.timeout(limit):
                model = self.model
                path = path_below(model.provider, model.base_url, model.api_version, body, what)
                return await self._client.post(path, body=body, cast_to=httpx.Response)
        except openai.APIStatusError as error:
            return error.response
        except (TimeoutError, openai.APITimeoutError):
            raise CallFailed("transient", f"no whole answer within {limit:g} seconds") from None
        except openai.APIConnectionError as error:
            raise _failure(error.__cause__ or error, self.model) from None


class Callers:
    """A caller for each model in use."""

    def __init__(self) -> None:
        self._callers: dict[Model, Caller] = {}
        self._tls: ssl.SSLContext | None = None

    def get(self, model: Model) -> Caller:
        """The caller of a model as it is now defined."""
        caller = self._callers.get(model)
        if caller is None:
            self._tls = self._tls or httpx.create_ssl_context()
            caller = self._callers[model] = Caller(model, self._tls)
        return caller

    async def close(self) -> None:
        """Close all connections."""
        for caller in self._callers.values():
            await caller.close()
        self._callers.clear()


def _failure(cause: BaseException, model: Model) -> CallFailed:
    """What a broken connection comes to."""
    if isinstance(cause, CallFailed):
        return cause
    origin = origin_of(model.base_url)
    place = f"{origin.host}:{origin.port}" if origin is not None else "the endpoint"
    said = str(cause) or type(cause).__name__
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return CallFailed("configuration", f"the certificate of {place} is not trusted: {said}")
    if isinstance(cause, httpx.UnsupportedProtocol | httpx.InvalidURL | httpx.LocalProtocolError):
        return CallFailed("configuration", f"{place} cannot be called: {type(cause).__name__}")
    if isinstance(cause, ImportError):  # a SOCKS proxy
        return CallFailed("configuration", f"{place} cannot be called: {said}")
    if isinstance(cause, httpx.ConnectError | httpx.ProxyError):
        return CallFailed("transient", f"cannot connect to {place}: {said}")
    return CallFailed("transient", f"the connection to {place} broke: {said}")


class _Http(httpx.AsyncClient):
    """Sends straight through the transport.

    What httpx would do between is not wanted: a redirect would carry the key elsewhere, and no
    endpoint needs cookies (a tenth of the time of a call).
    """

    def __init__(self, transport: _Transport) -> None:
        super().__init__(transport=transport, follow_redirects=False)
        self._through = transport

    async def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        """Send a request; the body of the response has been read."""
        response = await self._through.handle_async_request(request)
        response.request = request
        return response


class _Transport(httpx.AsyncBaseTransport):
    """A stack of single connections; the one used last is used next."""

    def __init__(self, model: Model, tls: ssl.SSLContext, environ: Mapping[str, str]) -> None:
        self._model = model
        self._tls = tls
        self._environ = environ
        self._proxy = _proxy_for(model.base_url)
        self._free: list[httpx.AsyncHTTPTransport] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read its response to the end."""
        request.headers = self._headers(request)
        connection = self._free.pop() if self._free else self._new()
        try:
            response = await connection.handle_async_request(request)
            assert isinstance(response.stream, AsyncIterable)  # noqa: S101 - for the type checker
            try:
                is_vectors = request.url.path.endswith(embeddings.PATH)
                most = embeddings.MAX_BYTES if is_vectors else _MAX_BYTES
                content = await _read(response.stream, response.headers, most)
            finally:
                await response.aclose()
        except BaseException:
            # Cancelled, too: nobody knows what is still under way on it.
            await connection.aclose()
            raise
        self._free.append(connection)
        headers = [
            (name, value)
            for name, value in response.headers.raw
            if name.lower() not in (b"content-encoding", b"content-length", b"transfer-encoding")
        ]
        return httpx.Response(
            response.status_code, headers=headers, content=content, extensions=response.extensions
        )

    async def aclose(self) -> None:
        """Close the connections that are not in use."""
        while self._free:
            await self._free.pop().aclose()

    def _new(self) -> httpx.AsyncHTTPTransport:
        limits = httpx.Limits(max_connections=1, keepalive_expiry=_KEPT_SECONDS)
        return httpx.AsyncHTTPTransport(verify=self._tls, limits=limits, proxy=self._proxy)

    def _headers(self, request: httpx.Request) -> httpx.Headers:
        kept = [item for item in request.headers.raw if item[0].lower() in _HEADERS]
        kept.append((b"Accept-Encoding", b"identity"))
        key = key_of(self._model.api_key_env, self._environ)
        if key is not None:
            name, value = key_header(self._model.provider, key)
            kept.append((name.encode(), value.encode()))
        return httpx.Headers(kept)


async def _read(stream: AsyncIterable[bytes], headers: httpx.Headers, most: int) -> bytes:
    """The body, which may be compressed though we did not ask for it."""
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise CallFailed("transient", f"the answer is compressed with {encoding}")
    unpack = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    content = bytearray()
    async for part in stream:
        try:
            content += part if unpack is None else unpack.decompress(part, most + 1)
        except zlib.error as error:
            raise CallFailed("transient", f"the answer cannot be unpacked: {error}") from None
        if len(content) > most:
            raise CallFailed("transient", f"the answer is longer than {most:,} bytes")
    if unpack is not None and not unpack.eof:
        raise CallFailed("transient", "the answer ends before its compressed data do")
    return bytes(content)


def _proxy_for(base_url: str) -> str | None:
    """The proxy that the environment names for an endpoint; none on this machine."""
    origin = origin_of(base_url)
    if origin is None or origin.is_loopback or urllib.request.proxy_bypass(origin.host):
        return None
    proxies = urllib.request.getproxies()
    found = proxies.get(origin.scheme) or proxies.get("all")
    return found if found is None or "://" in found else f"http://{found}"
