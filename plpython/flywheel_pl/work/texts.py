"""Batches of texts on their way through the threads of flywheel.work() to an endpoint."""

from __future__ import annotations

from functools import partial

from flywheel_pl.embeddings import reply
from flywheel_pl.judges.reply import CallFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from flywheel_pl.embeddings.reply import Vectors
    from flywheel_pl.work.calls import Caller, Endpoint
    from flywheel_pl.work.database import Database

_AT_ONCE = 4  # of each model


class Batch:
    """A claimed batch, and what came of its call."""

    __slots__ = ("batch", "endpoint", "failure", "found", "model", "request")

    def __init__(self, row: dict[str, Any], endpoint: Endpoint) -> None:
        self.batch: str = row["batch"]
        self.model: str = row["model"]
        self.request: dict[str, Any] = row["request"] | {"input": list(row["texts"])}
        self.endpoint = endpoint
        self.found: Vectors | None = None
        self.failure: CallFailed | None = None

    def run(self, caller: Caller) -> None:
        """Call the endpoint; in a thread."""
        read = partial(reply.parse, count=len(self.request["input"]))
        self.found = caller.ask(self.endpoint, self.request, reply.PATH, read, reply.MAX_BYTES)


class Texts:
    """The batches that are held."""

    def __init__(self, queue: Database) -> None:
        self._queue = queue
        self.held: list[Batch] = []
        self.embedded = self.failed = 0

    def claim(self, endpoints: Mapping[str, Endpoint], most: int) -> list[Batch]:
        """Claim batches, up to so many and a few of each model."""
        claimed: list[Batch] = []
        while len(claimed) < most:
            busy = [batch.model for batch in self.held]
            free = [
                name
                for name, endpoint in sorted(endpoints.items())
                if busy.count(name) < min(_AT_ONCE, endpoint.max_concurrency or _AT_ONCE)
            ]
            row = self._queue.claim_texts(free) if free else None
            if row is None:
                break
            batch = Batch(row, endpoints[row["model"]])
            self.held.append(batch)
            claimed.append(batch)
        return claimed

    def record(self, batch: Batch) -> None:
        """Write the vectors of a batch, or why there are none."""
        self.held.remove(batch)
        if batch.found is not None:
            try:
                self.embedded += self._queue.complete_texts(
                    batch.batch, batch.found.vectors, batch.found.run()
                )
                return
            except Exception as error:  # an interrupt is none
                batch.failure = CallFailed("transient", f"the vectors were refused: {error}")
        if batch.failure is not None:
            self._queue.fail_texts(batch.batch, batch.failure)
            self.failed += 1

    def extend(self) -> None:
        """Keep what is held; a result that is nobody's any more is dropped when it is recorded."""
        for batch in self.held:
            self._queue.extend_texts(batch.batch)

    def release(self) -> None:
        """Give back what was not finished."""
        while self.held:
            self._queue.release_texts(self.held.pop().batch)
