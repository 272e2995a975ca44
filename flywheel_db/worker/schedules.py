"""Runs the database's schedules beside the jobs: the database knows what is due, and does it."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from flywheel_db.errors import FlywheelError
from flywheel_db.worker import logs
from flywheel_db.worker.counters import Counters
from flywheel_db.worker.queue import Queue, is_passing

_LOOK_SECONDS = 2.0
_LONGEST_WAIT = 60.0
# What a task is given. It does a bounded piece of work and is called again if there is more.
_TASK_SECONDS = 2.0
# An index takes minutes to build, and metrics should not wait for it.
AT_ONCE = 2


class Schedules:
    """Looks for what is due, and has it run, each in its own transaction."""

    def __init__(self, queue: Queue, counters: Counters) -> None:
        self._queue = queue
        self._counters = counters
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin no more tasks. One under way is finished."""
        self._stopping.set()

    async def run(self, *, drain: bool = False) -> None:
        """Run until stopped; to drain, until none is due.

        What goes wrong here is told, and nothing else suffers from it.
        """
        await asyncio.gather(*(self._run(drain=drain) for _ in range(AT_ONCE)))

    async def _run(self, *, drain: bool) -> None:
        trouble = 0.0
        while not self._stopping.is_set():
            try:
                rest = await self._run_one()
                trouble = 0.0
            except FlywheelError as error:
                trouble = min(max(2 * trouble, _LOOK_SECONDS), _LONGEST_WAIT)
                tell = logs.debug if is_passing(error) else logs.warning
                tell("schedules cannot be run, trying again", error=error.message)
                if drain:
                    return
                await self._wait(trouble)
                continue
            if rest is None and drain:
                return
            if rest is None:
                # Not all workers at the same moment.
                rest = _LOOK_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311
            if rest > 0:
                await self._wait(rest)

    async def _run_one(self) -> float | None:
        """Run what is due; seconds to rest after it, or None if nothing was."""
        found = await self._queue.run_schedule(_TASK_SECONDS)
        if found is None:
            return None
        self._counters.tasks[found.task, found.outcome] += 1
        self._counters.task_seconds[found.task] += found.seconds
        if found.outcome == "ok":
            logs.debug("a schedule was run", schedule=found.schedule, seconds=found.seconds)
        else:
            logs.warning("a schedule failed", schedule=found.schedule, error=found.error)
        return found.rest

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
