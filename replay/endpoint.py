"""The endpoint in a thread of this process."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

from replay.reply import Responder
from replay.responders import verdict
from replay.server import Received, Script, serve


class Endpoint:
    """A server on loopback with its own thread and event loop, between `with` and its end.

    On leaving, an exception that the responder raised is raised again.
    """

    def __init__(
        self,
        responder: Responder | None = None,
        *,
        latency: float = 0,
        key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        keep: bool = True,
        embedder: Responder | None = None,
    ) -> None:
        """Listen on `port` (0: any that is free); `keep` remembers all requests."""
        self._script = Script(responder or verdict(), latency, key, keep, embedder)
        self._host = host
        self.port = port
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """What to create a model with."""
        return f"http://{self._host}:{self.port}/v1"

    @property
    def authority(self) -> str:
        """host:port, as an allow list names it."""
        return f"{self._host}:{self.port}"

    @property
    def requests(self) -> list[Received]:
        """What was received, in order."""
        return self._script.requests

    @property
    def count(self) -> int:
        """How many requests came."""
        return self._script.count

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        return self._script.connections

    @property
    def in_flight(self) -> int:
        """How many wait for their answer now."""
        return self._script.in_flight

    @property
    def peak(self) -> int:
        """The most that waited at a time."""
        return self._script.peak

    def respond_with(self, responder: Responder) -> None:
        """Answer otherwise from now on."""
        self._script.responder = responder

    def embed_with(self, embedder: Responder) -> None:
        """Answer requests for vectors otherwise from now on."""
        self._script.embedder = embedder

    def __enter__(self) -> Endpoint:
        self._thread = threading.Thread(target=self._run, name="replay", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if value is None and self._script.errors:
            raise self._script.errors[0]

    def close(self) -> None:
        """Stop listening and drop every connection. Safe to repeat."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        ready: asyncio.Future[int] = self._loop.create_future()
        ready.add_done_callback(self._listening)
        try:
            await serve(self._script, self._host, self.port, ready, self._stop)
        except OSError as exc:
            self._failure = exc
            self._started.set()

    def _listening(self, ready: asyncio.Future[int]) -> None:
        if not ready.cancelled():
            self.port = ready.result()
            self._started.set()
