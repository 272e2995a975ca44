"""A claimed job, and the jobs a worker holds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Key = tuple[str, str | None, int, int]


@dataclass(frozen=True, slots=True)
class Job:
    """A row of claim_jobs()."""

    trace_id: str
    span_id: str | None
    version_id: int
    token: int
    attempt: int
    kind: str
    validator: str
    version: int
    model: str | None
    request: dict[str, Any] | None
    skipped_reason: str | None

    @property
    def key(self) -> Key:
        """What tells this claim from every other."""
        return (self.trace_id, self.span_id, self.version_id, self.token)

    def reference(self) -> dict[str, Any]:
        """What the functions of the queue call a job."""
        return {
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "version_id": self.version_id,
            "token": self.token,
        }


@dataclass(slots=True)
class Held:
    """A job of ours, from its claim until its result is in the database."""

    job: Job
    task: asyncio.Task[None] | None = None
    # Done, and waiting to be recorded: it takes no place, but its lease is kept alive.
    is_finished: bool = False


class Holdings:
    """The jobs a worker holds."""

    def __init__(self) -> None:
        # Called when there may be a place for another job.
        self.on_free: Callable[[], None] = lambda: None
        self._held: dict[Key, Held] = {}
        self._by_kind: Counter[str] = Counter()
        self._by_model: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    def of_kind(self, kind: str) -> int:
        """Jobs of a kind that take a place."""
        return self._by_kind[kind]

    def of_model(self, name: str) -> int:
        """Jobs of a model that take a place."""
        return self._by_model[name]

    def get(self, key: Key) -> Held | None:
        """A job, if it is still ours."""
        return self._held.get(key)

    def add(self, job: Job) -> Held:
        """Hold a job that was claimed."""
        held = self._held[job.key] = Held(job)
        self._by_kind[job.kind] += 1
        if job.model is not None:
            self._by_model[job.model] += 1
        return held

    def finish(self, job: Job) -> None:
        """Free the place of a job that only has to be recorded."""
        held = self._held.get(job.key)
        if held is None or held.is_finished:
            return
        held.is_finished = True
        self._by_kind[job.kind] -= 1
        if job.model is not None:
            self._by_model[job.model] -= 1
        self.on_free()

    def drop(self, job: Job) -> Held | None:
        """Forget a job: it is recorded, given back, or somebody else's."""
        self.finish(job)
        held = self._held.pop(job.key, None)
        self.on_free()
        return held
