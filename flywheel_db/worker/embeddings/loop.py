"""Claims batches of texts, has them embedded, and writes the vectors."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from flywheel_pl.embeddings.reply import Vectors
from flywheel_pl.judges.reply import CallFailed

from flywheel_db.errors import FlywheelError
from flywheel_db.worker import logs
from flywheel_db.worker.catalog import Catalog, Model
from flywheel_db.worker.counters import Counters
from flywheel_db.worker.embeddings.batch import Batch, MissingHere, TextQueue
from flywheel_db.worker.options import Options
from flywheel_db.worker.queue import is_fatal, is_passing

Result = TypeVar("Result")

KIND = "embeddings"

_MOST_TEXTS = 64
# Batches at once, of each model that is called and of all in this process.
_CALLS = 4
_LOCAL = 2
_LONGEST_WAIT = 5.0
_RELEASE_SECONDS = 3


class Caller(Protocol):
    """Calls one model."""

    async def embed(self, body: dict[str, Any]) -> Vectors:
        """The vectors of its input, or CallFailed."""


class Local(Protocol):
    """Models in a process of this machine."""

    async def embed(self, model: str, texts: Sequence[str]) -> list[str | None]:
        """A vector of each text, or CallFailed."""

    async def close(self) -> None:
        """End the process."""


class Embedding:
    """Embeds texts until it is stopped. Judges do not wait for it, nor it for them."""

    def __init__(
        self,
        options: Options,
        queue: TextQueue,
        catalog: Catalog,
        counters: Counters,
        *,
        callers: Callable[[Model], Caller],
        local: Callable[[], Local],
    ) -> None:
        self._options = options
        self._queue = queue
        self._catalog = catalog
        self._counters = counters
        self._callers = callers
        self._new_local = local
        self._local: Local | None = None
        self._providers = ["openai", "local"]
        self._held: dict[int, tuple[Batch, asyncio.Task[None]]] = {}
        self._look = asyncio.Event()
        self._is_stopping = False
        self._broken: FlywheelError | None = None

    def stop(self) -> None:
        """Claim no more."""
        self._is_stopping = True
        self._look.set()

    async def run(self) -> None:
        """Claim until stopped; with --drain, until nothing is left.

        Raises:
            FlywheelError: this worker may not embed here.
        """
        trouble = 0.0
        while not self._is_stopping:
            self._look.clear()
            if self._broken is not None:
                raise self._broken
            is_idle = not self._held
            try:
                batch = await self._claim()
                trouble = 0.0
            except FlywheelError as error:
                if is_fatal(error) or (self._options.drain and not is_passing(error)):
                    raise
                trouble = min(max(2 * trouble, 0.1), _LONGEST_WAIT)
                logs.warning("no texts can be claimed, trying again", error=error.message)
                await self._wait(trouble)
                continue
            if batch is not None:
                task = asyncio.create_task(self._embed(batch))
                self._held[batch.token] = (batch, task)
            elif self._options.drain and is_idle:
                return
            else:
                await self._wait(self._options.poll * random.uniform(0.9, 1.1))  # noqa: S311

    async def keep_leases(self) -> None:
        """Keep what is under way, until cancelled."""
        while True:
            await asyncio.sleep(self._options.lease / 3)
            for batch, task in list(self._held.values()):
                with suppress(FlywheelError):  # the next time may do
                    is_ours = await self._queue.extend(
                        self._options.name, batch, self._options.lease
                    )
                    if not is_ours:
                        task.cancel()

    async def finish(self, seconds: float) -> None:
        """Wait until all that has begun has ended, at most so long."""
        tasks = [task for _, task in self._held.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def close(self) -> None:
        """Give back what is still under way."""
        held = list(self._held.values())
        for _, task in held:
            task.cancel()
        await asyncio.gather(*(task for _, task in held), return_exceptions=True)
        with suppress(FlywheelError, TimeoutError):
            async with asyncio.timeout(_RELEASE_SECONDS):
                for batch, _ in held:
                    released = await self._queue.release(self._options.name, batch)
                    self._counters.jobs[KIND, "released"] += released
        if self._local is not None:
            await self._local.close()
            self._local = None

    async def _claim(self) -> Batch | None:
        held = [batch for batch, _ in self._held.values()]
        calls = Counter(batch.model for batch in held if batch.request is not None)
        models = [
            name
            for name, model in self._catalog.served.items()
            if calls[name] < min(_CALLS, model.max_concurrency or _CALLS)
        ]
        local = len(held) - calls.total()
        providers = [
            provider
            for provider, is_free in (("openai", bool(models)), ("local", local < _LOCAL))
            if is_free and provider in self._providers
        ]
        if not providers:
            return None
        return await self._queue.claim(
            self._options.name, providers, models, _MOST_TEXTS, self._options.lease
        )

    async def _embed(self, batch: Batch) -> None:
        try:
            try:
                found = await self._vectors(batch)
            except CallFailed as failure:
                await self._fail(batch, failure)
                return
            await self._complete(batch, found)
        except FlywheelError as error:
            self._broken = error
        finally:
            self._held.pop(batch.token, None)
            self._look.set()

    async def _vectors(self, batch: Batch) -> Vectors:
        """The vectors of a batch. A mistake of ours costs it an attempt, and nothing else."""
        try:
            if batch.provider == "local":
                return await self._compute(batch)
            return await self._call(batch)
        except CallFailed:
            raise
        except Exception as exc:
            logs.LOGGER.exception("a batch of texts crashed")
            raise CallFailed("transient", f"the worker failed: {exc!r}") from exc

    async def _call(self, batch: Batch) -> Vectors:
        model = self._catalog.served.get(batch.model)
        if model is None or batch.request is None:
            raise CallFailed("transient", f"the model {batch.model} is not served here any more", 1)
        counters = self._counters
        counters.in_flight += 1
        begun = time.monotonic()
        outcome = "cancelled"
        try:
            found = await self._callers(model).embed(batch.request | {"input": batch.texts})
            outcome = "ok"
        except CallFailed as failure:
            outcome = failure.kind
            raise
        finally:
            counters.in_flight -= 1
            counters.call(model.name, outcome, time.monotonic() - begun)
        counters.tokens[model.name, "input"] += found.input_tokens
        return found

    async def _compute(self, batch: Batch) -> Vectors:
        if self._local is None:
            self._local = self._new_local()
        try:
            return Vectors(await self._local.embed(batch.model, batch.texts), 0)
        except MissingHere:
            # Said once. Another worker may have it, and must not be paused by this one again.
            self._providers.remove("local")
            raise

    async def _complete(self, batch: Batch, found: Vectors) -> None:
        run = found.run() if batch.request is not None else None
        try:
            done = await self._insist(
                lambda: self._queue.complete(self._options.name, batch, found.vectors, run)
            )
        except FlywheelError as error:
            if is_fatal(error):
                raise
            await self._fail(
                batch, CallFailed("transient", f"the vectors cannot be stored: {error.message}")
            )
            return
        if done.problem is not None:
            logs.warning("an embedder is paused", embedder=batch.embedder, error=done.problem)
            self._counters.jobs[KIND, "paused"] += len(batch.texts)
            return
        self._counters.jobs[KIND, "embedded"] += done.recorded
        self._counters.jobs[KIND, "stale"] += done.dropped

    async def _fail(self, batch: Batch, failure: CallFailed) -> None:
        try:
            outcome = await self._insist(
                lambda: self._queue.fail(self._options.name, batch, failure)
            )
        except FlywheelError as error:
            if is_fatal(error):
                raise
            logs.warning("a failure cannot be recorded", error=error.message)
            outcome = "lost"  # its lease ends by itself
        self._counters.jobs[KIND, outcome] += len(batch.texts)
        tell = logs.warning if outcome == "paused" else logs.info
        tell(
            "texts were not embedded", embedder=batch.embedder, texts=len(batch.texts),
            outcome=outcome, error_class=failure.kind, error=failure.message,
        )  # fmt: skip

    async def _insist(self, ask: Callable[[], Awaitable[Result]]) -> Result:
        """Ask the database, again and again while it is away."""
        wait = 0.1
        while True:
            try:
                return await ask()
            except FlywheelError as error:
                if not is_passing(error):
                    raise
                logs.warning("vectors cannot be written yet and are kept", error=error.message)
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._look.wait()
