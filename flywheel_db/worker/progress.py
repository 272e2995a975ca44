"""One line on a terminal that tells how it goes. Log lines scroll by above it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from flywheel_db.errors import FlywheelError
from flywheel_db.worker.counters import Counters
from flywheel_db.worker.queue import Queue

if TYPE_CHECKING:
    from rich.console import Console

_REFRESH_SECONDS = 0.25
# Counting what waits reads an index of all jobs.
_BACKLOG_SECONDS = 5

DECIDED = ("passed", "failed", "error", "skipped", "decided")


class Line:
    """What the line says."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._waiting: int | None = None
        self._spent = 0.0
        self._moments: list[tuple[float, int]] = []

    def take_backlog(self, waiting: int, spent: float) -> None:
        """What the database says now."""
        self._waiting, self._spent = waiting, spent

    def text(self, now: float) -> str:
        """The line at a moment of a monotonic clock; the rate is that of the last ten seconds."""
        counters = self._counters
        decided = counters.done(*DECIDED)
        self._moments = [(at, count) for at, count in self._moments if at > now - 10]
        self._moments.append((now, decided))
        begun, before = self._moments[0]
        rate = (decided - before) / (now - begun) if now > begun else 0.0
        parts = [f"{counters.in_flight} in flight", f"{decided:,} done"]
        for name, outcomes in (
            ("errors", ("error",)),
            ("retried", ("retry",)),
            ("dead", ("dead",)),
            ("paused", ("paused",)),
        ):
            count = counters.done(*outcomes)
            if count:
                parts.append(f"{count:,} {name}")
        if self._waiting is not None:
            parts.append(f"{self._waiting:,} waiting")
        parts.append(f"{rate:,.1f}/s")
        if self._spent:
            parts.append(f"${self._spent:,.2f} today")
        return "  ".join(parts)


@asynccontextmanager
async def shown(queue: Queue, counters: Counters, console: Console) -> AsyncIterator[None]:
    """Show the line meanwhile."""
    from rich.live import Live
    from rich.text import Text

    line = Line(counters)

    async def ask() -> None:
        while True:
            with suppress(FlywheelError):
                line.take_backlog(*await queue.backlog())
            await asyncio.sleep(_BACKLOG_SECONDS)

    with Live(console=console, auto_refresh=False, transient=True) as live:

        async def draw() -> None:
            while True:
                live.update(Text(line.text(time.monotonic())), refresh=True)
                await asyncio.sleep(_REFRESH_SECONDS)

        tasks = [asyncio.create_task(ask()), asyncio.create_task(draw())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
