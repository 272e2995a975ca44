"""A batch of texts, and what the worker asks of the database about it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, NamedTuple, Protocol

from flywheel_pl.judges.reply import CallFailed

Rows = Callable[[LiteralString, Sequence[Any]], Awaitable[list[tuple[Any, ...]]]]


@dataclass(frozen=True, slots=True)
class Batch:
    """A row of claim_embeddings()."""

    embedder: str
    provider: str
    model: str
    batch: dict[str, Any]
    texts: list[str]
    request: dict[str, Any] | None

    @property
    def token(self) -> int:
        """What tells this claim from every other."""
        return int(self.batch["token"])


class MissingHere(CallFailed):
    """A model cannot be had on this machine, whatever the texts."""

    def __init__(self, message: str) -> None:
        super().__init__("configuration", message)


class Completed(NamedTuple):
    """What became of vectors; a problem paused the embedder."""

    recorded: int
    dropped: int
    problem: str | None


class TextQueue(Protocol):
    """The texts that wait. Every method may raise FlywheelError."""

    async def claim(
        self, worker: str, providers: Sequence[str], models: Sequence[str], most: int, lease: float
    ) -> Batch | None:
        """Take a batch of texts of one embedder."""

    async def complete(
        self, worker: str, batch: Batch, vectors: Sequence[str | None], run: dict[str, int] | None
    ) -> Completed:
        """Write vectors."""

    async def fail(self, worker: str, batch: Batch, failure: CallFailed) -> str:
        """Tell that a batch went wrong; returns what becomes of it."""

    async def extend(self, worker: str, batch: Batch, lease: float) -> bool:
        """Keep a batch; returns whether it is still the worker's."""

    async def release(self, worker: str, batch: Batch) -> int:
        """Give a batch back as if it had not been claimed."""


class DatabaseTexts:
    """The texts of a real database."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def claim(
        self, worker: str, providers: Sequence[str], models: Sequence[str], most: int, lease: float
    ) -> Batch | None:
        """Take a batch."""
        rows = await self._rows(
            """
            select c.embedder, c.provider, c.model, c.batch, c.texts, c.request
            from flywheel.claim_embeddings(
              %s::text, %s::text[], %s::integer, make_interval(secs => %s::double precision),
              %s::text[]
            ) as c
            """,
            (worker, list(providers), most, lease, list(models)),
        )
        return Batch(*rows[0]) if rows else None

    async def complete(
        self, worker: str, batch: Batch, vectors: Sequence[str | None], run: dict[str, int] | None
    ) -> Completed:
        """Write vectors."""
        rows = await self._rows(
            "select c.recorded, c.dropped, c.problem from flywheel.complete_embeddings("
            "%s::text, %s::jsonb, %s::text[], %s::jsonb) as c",
            (worker, json.dumps(batch.batch), list(vectors), run and json.dumps(run)),
        )
        return Completed(*rows[0])

    async def fail(self, worker: str, batch: Batch, failure: CallFailed) -> str:
        """Tell that it went wrong."""
        rows = await self._rows(
            "select flywheel.fail_embeddings(%s::text, %s::jsonb, %s::text, %s::text,"
            " make_interval(secs => %s::double precision))",
            (
                worker, json.dumps(batch.batch), failure.kind,
                failure.message.replace("\0", "\ufffd"), failure.retry_after,
            ),
        )  # fmt: skip
        return str(rows[0][0])

    async def extend(self, worker: str, batch: Batch, lease: float) -> bool:
        """Keep it."""
        rows = await self._rows(
            "select flywheel.extend_embeddings(%s::text, %s::jsonb,"
            " make_interval(secs => %s::double precision))",
            (worker, json.dumps(batch.batch), lease),
        )
        return bool(rows[0][0])

    async def release(self, worker: str, batch: Batch) -> int:
        """Give it back."""
        rows = await self._rows(
            "select flywheel.release_embeddings(%s::text, %s::jsonb)",
            (worker, json.dumps(batch.batch)),
        )
        return int(rows[0][0])
