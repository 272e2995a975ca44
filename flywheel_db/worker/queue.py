"""What a worker asks of a database, and which of its refusals pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from flywheel_db.errors import (
    ConnectionFailed,
    FlywheelError,
    NotMigrated,
    PermissionDenied,
    WorkerTooOld,
)
from flywheel_db.worker.catalog import Model
from flywheel_db.worker.job import Job

PROTOCOL = 1

# What the database says when it is busy, full, restarting or a standby: it passes.
_PASSING = ("08", "25", "40", "53", "55", "57", "58")


class Failure(NamedTuple):
    """Why a job has no result."""

    kind: str
    message: str
    retry_after: float | None = None
    run: dict[str, Any] | None = None


def is_passing(error: FlywheelError) -> bool:
    """Whether the same call may succeed later without anybody's doing."""
    return isinstance(error, ConnectionFailed) or (error.sqlstate or "")[:2] in _PASSING


def is_fatal(error: FlywheelError) -> bool:
    """Whether this worker cannot go on."""
    return isinstance(error, NotMigrated | WorkerTooOld | PermissionDenied)


class Run(NamedTuple):
    """A scheduled task that was run: its outcome is ok, failed or canceled.

    If it has more to do, it asks to rest for some seconds first.
    """

    schedule: str
    task: str
    outcome: str
    error: str | None
    seconds: float
    rest: float = 0


class Queue(Protocol):
    """What a worker asks of the database. Every method may raise FlywheelError."""

    async def start(self, name: str, info: dict[str, Any]) -> int:
        """Introduce the worker; returns its number."""

    async def beat(self, worker_id: int, info: dict[str, Any]) -> None:
        """Tell that it is alive."""

    async def stop(self, worker_id: int) -> None:
        """Tell that it ends."""

    async def models(self) -> list[Model]:
        """All models."""

    async def claim(
        self, worker: str, kinds: Sequence[str], most: int, lease: float, models: Sequence[str]
    ) -> list[Job]:
        """Take up to so many jobs; those of judges only of the named models."""

    async def complete(self, worker: str, results: Sequence[dict[str, Any]]) -> tuple[int, int]:
        """Write verdicts; returns how many were recorded and how many dropped as stale."""

    async def fail(self, worker: str, job: Job, failure: Failure) -> str:
        """Tell that a job failed; returns what becomes of it."""

    async def extend(self, worker: str, jobs: Iterable[Job], lease: float) -> set[Any]:
        """Keep jobs; returns the keys of those that are still the worker's."""

    async def release(self, worker: str, jobs: Iterable[Job]) -> int:
        """Give jobs back as if they had not been claimed."""

    async def run_sql(self, worker: str, jobs: Iterable[Job]) -> tuple[int, int]:
        """Have the database decide jobs of SQL validators."""

    async def python_validator(self, version_id: int) -> dict[str, Any]:
        """The code of a Python validator."""

    async def run_schedule(self, max_seconds: float) -> Run | None:
        """Run a schedule that is due, if there is one."""

    async def is_due(self, kinds: Sequence[str], models: Sequence[str]) -> bool:
        """Whether jobs wait only because a rate limit holds them back for a moment."""

    async def backlog(self) -> tuple[int, float]:
        """Jobs that wait, and US dollars spent today."""

    async def listen(self, tell: Callable[[], None]) -> None:
        """Tell whenever jobs arrive, until cancelled or disconnected."""
