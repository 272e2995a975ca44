"""Keeps the free places of a worker filled."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from flywheel_db.errors import FlywheelError
from flywheel_db.worker import logs
from flywheel_db.worker.catalog import Catalog
from flywheel_db.worker.job import Holdings, Job
from flywheel_db.worker.options import Options
from flywheel_db.worker.queue import Queue, is_fatal, is_passing

# Between two claims: places that become free meanwhile are filled by one statement.
_PACE_SECONDS = 0.02
# Jobs are claimed so long before their places are free, at the present rate. With judges of 200 ms
# and without it, a place was empty for a tenth of the time.
_AHEAD_SECONDS = 0.05
_LONGEST_WAIT = 5.0
# What a process or the database does by itself is taken in larger portions: the most that is held.
_MOST = {"python": 100, "sql": 1000}
_MOST_JUDGES = 10_000


@dataclass(frozen=True, slots=True)
class _Lane:
    """Jobs that one statement claims: a kind's, or those of a model with a limit of its own."""

    kind: str
    models: tuple[str, ...] = ()
    room: int = 0


class Rate:
    """Jobs of judges a second, over the last second or so."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._count = 0
        self.per_second = 0.0

    def add(self, count: int) -> None:
        """So many more jobs were claimed."""
        self._count += count
        elapsed = time.monotonic() - self._since
        if elapsed >= 1:
            self.per_second = self._count / elapsed
            self._since, self._count = time.monotonic(), 0


class Claimer:
    """Claims as places become free, and looks now and then when there was nothing to claim."""

    def __init__(
        self,
        options: Options,
        queue: Queue,
        catalog: Catalog,
        holdings: Holdings,
        start: Callable[[Sequence[Job]], None],
    ) -> None:
        self._options = options
        self._queue = queue
        self._catalog = catalog
        self._holdings = holdings
        self._start = start
        self._rate = Rate()
        self._look = asyncio.Event()
        # Lanes that had nothing, and until when we believe it.
        self._dry: dict[tuple[str, tuple[str, ...]], float] = {}
        # Whether jobs were left where they are for want of a place.
        self._was_full = False
        self._is_stopping = False
        holdings.on_free = self._place_is_free

    def jobs_have_come(self) -> None:
        """A hint: do not wait for the next look."""
        self._dry.clear()
        self._look.set()

    def stop(self) -> None:
        """Claim no more. What a claim under way brings is still handed on: it is ours."""
        self._is_stopping = True
        self._look.set()

    def _place_is_free(self) -> None:
        if self._was_full or self._options.drain:
            self._look.set()

    async def run(self) -> None:
        """Claim until stopped; with --drain, until nothing is left.

        Raises:
            FlywheelError: this worker may not claim here.
        """
        trouble = 0.0
        while not self._is_stopping:
            self._look.clear()
            is_idle = not len(self._holdings)
            try:
                claimed = await self._claim()
                if self._options.drain and is_idle and not claimed and not await self._is_due():
                    return
                trouble = 0.0
            except FlywheelError as error:
                if is_fatal(error) or (self._options.drain and not is_passing(error)):
                    raise
                trouble = min(max(2 * trouble, 0.1), _LONGEST_WAIT)
                logs.warning("no jobs can be claimed, trying again", error=error.message)
                await self._wait(trouble)
                continue
            if claimed:
                await asyncio.sleep(_PACE_SECONDS)
            else:
                await self._wait(self._options.poll * random.uniform(0.9, 1.1))  # noqa: S311

    async def _is_due(self) -> bool:
        return await self._queue.is_due(self._options.kinds, list(self._catalog.served))

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._look.wait()

    async def _claim(self) -> int:
        self._was_full = False
        places = self._places()
        total = 0
        for lane in self._lanes():
            most = min(lane.room, places) if lane.kind == "llm" else lane.room
            if most <= 0:
                self._was_full = True
                continue
            jobs = await self._queue.claim(
                self._options.name, [lane.kind], most, self._options.lease, lane.models
            )
            # A hint that came meanwhile may be about jobs that this claim could not see.
            if not jobs and not self._options.drain and not self._look.is_set():
                self._dry[lane.kind, lane.models] = time.monotonic() + self._options.poll
            if lane.kind == "llm":
                places -= len(jobs)
                self._rate.add(len(jobs))
            total += len(jobs)
            self._start(jobs)
            if self._is_stopping:
                break
        return total

    def _places(self) -> int:
        """For judges, with those that will soon be free."""
        concurrency = self._options.concurrency
        ahead = int(min(self._rate.per_second * _AHEAD_SECONDS, concurrency / 2))
        return concurrency + ahead - self._holdings.of_kind("llm")

    def _lanes(self) -> list[_Lane]:
        lanes = [
            _Lane(kind, (), most - self._holdings.of_kind(kind))
            for kind, most in _MOST.items()
            if kind in self._options.kinds
        ]
        if "llm" in self._options.kinds:
            served = list(self._catalog.served.values())
            free = tuple(model.name for model in served if model.max_concurrency is None)
            if free:
                lanes.append(_Lane("llm", free, _MOST_JUDGES))
            for model in served:
                if model.max_concurrency is not None:
                    room = model.max_concurrency - self._holdings.of_model(model.name)
                    lanes.append(_Lane("llm", (model.name,), room))
        now = time.monotonic()
        lanes = [lane for lane in lanes if self._dry.get((lane.kind, lane.models), 0) <= now]
        # By chance, so that no model always comes last.
        random.shuffle(lanes)
        return lanes
