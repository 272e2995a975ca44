"""An embedder that is not in the database, and one session that is its worker."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from psycopg import Connection
from psycopg.types.json import Jsonb


class Batch(NamedTuple):
    """A row of claim_embeddings()."""

    embedder: str
    provider: str
    model: str
    dimensions: int
    batch: dict[str, Any]
    texts: list[str]
    request: dict[str, Any] | None


def vector_of(text: str, dimensions: int = 3) -> str:
    """A vector that is another one for another text."""
    return json.dumps([len(text) + 1, *map(ord, text[: dimensions - 1].ljust(dimensions - 1))])


@dataclass
class Embedding:
    """The queue of texts over one session."""

    session: Connection

    def rows(self, query: Any, *values: object) -> list[Any]:
        """All rows of a query."""
        return self.session.execute(query, values).fetchall()

    def one(self, query: Any, *values: object) -> Any:
        """The only row of a query, or its only value."""
        (row,) = self.rows(query, *values)
        return row[0] if len(row) == 1 else row

    def later(self, interval: str) -> None:
        """Move the clock: so long from the transaction's own time."""
        self.session.execute(
            f"""
            create or replace function flywheel.now() returns timestamptz
            language sql stable parallel safe
            begin atomic select pg_catalog.now() + interval '{interval}'; end
            """
        )

    def use(self, name: str = "small", dimensions: int = 3, **model: Any) -> None:
        """Create an embedder of an endpoint and make it the active one, whatever waits."""
        named = "".join(f", {key} => %({key})s" for key in model)
        self.session.execute(
            f"select flywheel.create_model(%(name)s, 'http://127.0.0.1:1/v1', 'e-1'{named})",
            {"name": name, **model},
        )
        self.one("select flywheel.create_embedder(%s, 'openai', %s, %s)", name, dimensions, name)
        self.one("select flywheel.use_embedder(%s)", name)
        self.upkeep()

    def upkeep(self) -> None:
        """Have everything enqueued, and switch if that is due."""
        while self.one("select is_more from flywheel.embed_texts(0)"):
            pass

    def insert(self, *inputs: str | None) -> list[Any]:
        """Insert traces and enqueue them; returns their ids."""
        ids = [
            self.one("insert into flywheel.traces (input) values (%s) returning trace_id", text)
            for text in inputs
        ]
        self.upkeep()
        return ids

    def claim(self, worker: str = "w1", **options: Any) -> Batch | None:
        """A batch, or None."""
        named = "".join(f", {key} => %({key})s" for key in options)
        query = f"select * from flywheel.claim_embeddings(%(worker)s{named})"
        found = self.session.execute(query, {"worker": worker, **options}).fetchall()
        return Batch(*found[0]) if found else None

    def claimed(self, **options: Any) -> Batch:
        """A batch, which must be there."""
        batch = self.claim(**options)
        assert batch is not None
        return batch

    def complete(
        self, batch: Batch, *vectors: str | None, run: dict[str, Any] | None = None
    ) -> Any:
        """Hand in vectors, those of vector_of() if none are given."""
        given = list(vectors) or [vector_of(text, batch.dimensions) for text in batch.texts]
        return self.one(
            "select recorded, dropped, problem from flywheel.complete_embeddings('w1', %s, %s, %s)",
            Jsonb(batch.batch), given, run and Jsonb(run),
        )  # fmt: skip

    def fail(
        self, batch: Batch, error_class: str = "transient", error: str = "503", **options: Any
    ) -> str:
        """Say that a batch went wrong."""
        return self.one(
            "select flywheel.fail_embeddings('w1', %s, %s, %s, %s)",
            Jsonb(batch.batch), error_class, error, options.get("retry_after"),
        )  # fmt: skip

    def drain(self) -> int:
        """Embed all that can be claimed now; returns how many texts."""
        count = 0
        while (batch := self.claim()) is not None:
            count += self.complete(batch)[0]
        return count

    def jobs(
        self, columns: str = "state, attempts, last_error", order: str = "run_at, item_id"
    ) -> list[Any]:
        """The jobs that are there."""
        return self.rows(f"select {columns} from flywheel._embedding_jobs order by {order}")

    def store(self, name: str = "small", store: str = "log") -> str:
        """The table of a store."""
        number = self.one("select embedder_id from flywheel._embedders where name = %s", name)
        return f"flywheel._vectors_{number}_{store}"

    def vectors(self, name: str = "small", store: str = "log") -> dict[Any, list[int]]:
        """The revisions of the vectors of each item."""
        found: dict[Any, list[int]] = {}
        for item, revision in self.rows(
            f"select item_id, revision from {self.store(name, store)} order by 1, 2"
        ):
            found.setdefault(item, []).append(revision)
        return found


@pytest.fixture
def embedding(db: Connection) -> Embedding:
    """A session that is rolled back."""
    return Embedding(db)


@pytest.fixture
def sessions(connect: Callable[..., Connection]) -> Callable[[], Embedding]:
    """Sessions on a database of their own."""
    return lambda: Embedding(connect())
