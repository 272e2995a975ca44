"""An embedder that is not in the database and its worker; people who label, and what shows examples."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast
from uuid import UUID

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


@dataclass
class Examples:
    """One session in which people label, and everything that shows examples."""

    session: Connection
    judge: str = "kind"

    def rows(self, query: Any, *values: object) -> list[Any]:
        """All rows of a query."""
        return self.session.execute(query, values).fetchall()

    def one(self, query: Any, *values: object) -> Any:
        """The only row of a query, or its only value."""
        (row,) = self.rows(query, *values)
        return row[0] if len(row) == 1 else row

    def later(self, interval: str) -> None:
        """Move the clock: so long from the transaction's own time."""
        Embedding(self.session).later(interval)

    def create_judge(self, **options: Any) -> None:
        """A judge that shows as many examples as it can, in the order of their weight."""
        self.one("select flywheel.create_model('m', 'http://127.0.0.1:1/v1', 'm-1')")
        named = "".join(f", {name} => %({name})s" for name in options)
        self.session.execute(
            "select flywheel.create_validator(%(judge)s, 'llm', 'The reply is kind.', model => 'm',"
            f" few_shot_k => 20{named})",
            {"judge": self.judge, **options},
        )

    def trace(self, text: str | None, output: str | None = "An answer.", **columns: object) -> UUID:
        """Insert a trace."""
        given = {"input": text, "output": output, **columns}
        row = self.session.execute(
            f"insert into flywheel.traces ({', '.join(given)}) "
            f"values ({', '.join(['%s'] * len(given))}) returning trace_id",
            list(given.values()),
        ).fetchone()
        assert row is not None
        return cast(UUID, row[0])

    def label(self, trace_id: UUID, passed: bool | None = True, **given: object) -> int:
        """Label a trace; in the split train, unless told otherwise."""
        given = {"validator": self.judge, "split": "train", **given}
        named = ", ".join(f"{name} => %({name})s" for name in given)
        row = self.session.execute(
            f"select flywheel.label(%(trace)s, passed => %(passed)s, {named})",
            {"trace": trace_id, "passed": passed, **given},
        ).fetchone()
        assert row is not None
        return int(row[0])

    def upkeep(self) -> None:
        """Everything that is due in the background."""
        while self.one("select is_more from flywheel.embed_texts(0)"):
            pass
        while self.one("select is_more from flywheel.index_vectors(0)"):
            pass

    def segments_of(self, rows: int) -> None:
        """Have segments close after so many vectors."""
        self.session.execute(
            "create or replace function flywheel._segment_rows(store text) returns integer language sql immutable"
            f" parallel safe begin atomic select {rows}; end"
        )

    def fill(self, count: int, *, label: bool = False) -> None:
        """Insert traces and embed them, in segments of their own."""
        self.session.execute(
            "insert into flywheel.traces (input) select 'parcel ' || md5(random()::text) from generate_series(1, %s)",
            (count,),
        )
        if label:
            self.session.execute(
                "select flywheel.label(trace_id, 'kind', true, split => 'train') from flywheel.traces as t"
                " where not exists (select from flywheel._label_splits as s where s.trace_id = t.trace_id)"
            )
        while self.one("select is_more from flywheel.embed_texts(0)"):
            pass

    def merge(self) -> None:
        """Have parts merged, and wait until the new one has their place."""
        self.rows("select flywheel.index_vectors(60)")
        deadline = time.monotonic() + 60
        waiting = "select exists (select from flywheel._vector_segments where state = 'merged')"
        while self.one(waiting):
            # For other databases of the server too: their transactions hold snapshots back.
            assert time.monotonic() < deadline, "a merged part waits for ever"
            self.rows("select flywheel.index_vectors(0)")

    def parts(self) -> list[Any]:
        """The parts of the log: state, rows, first and last segment."""
        return self.rows(
            "select state, rows, first_segment, last_segment from flywheel._vector_segments"
            " where store = 'log' order by first_segment, part"
        )

    def indexes(self) -> int:
        """How many HNSW indexes the log has."""
        return int(
            self.one(
                "select count(*) from pg_indexes where indexdef like '%% hnsw %%' and tablename like '\\_vectors\\_1\\_log%%'"
            )
        )

    def everything_is_found(self) -> None:
        """Each trace is the nearest to its own text."""
        for trace_id, text in self.rows(
            "select trace_id, input from flywheel.traces order by random() limit 20"
        ):
            nearest = self.rows(
                "select n.item_id from flywheel._nearest(1, 'log', flywheel.embed(%s), 1) as n",
                text,
            )
            assert nearest == [(trace_id,)]

    def few_shot(self, query: str | None, columns: str = "input", **options: object) -> list[Any]:
        """What few_shot() returns, in its order."""
        return self.call("few_shot", columns, validator=self.judge, query=query, **options)

    def call(self, function: str, columns: str = "*", **options: object) -> list[Any]:
        """Call a function by the names of its parameters. One column becomes values."""
        named = ", ".join(f"{name} => %({name})s" for name in options)
        found = self.session.execute(
            f"select {columns} from flywheel.{function}({named}) as f", options
        ).fetchall()
        return [row[0] for row in found] if found and len(found[0]) == 1 else found

    def prompt(self, trace_id: UUID, span_id: UUID | None = None) -> str:
        """What the judge is told of a trace or span, all messages together."""
        (request,) = [
            row[0]
            for row in self.rows(
                "select request, trace_id, span_id from flywheel.claim_jobs('w', max_jobs => 10000)"
            )
            if row[1:] == (trace_id, span_id)
        ]
        return "\n\n".join(message["content"] for message in request["body"]["messages"])


@pytest.fixture
def examples(db: Connection) -> Examples:
    """A session that is rolled back, with a judge."""
    made = Examples(db)
    made.create_judge()
    return made


@pytest.fixture
def people(connect: Callable[..., Connection]) -> Callable[..., Examples]:
    """Sessions on a database of their own, the first of which makes the judge."""
    made: list[Examples] = []

    def open_session(**options: Any) -> Examples:
        made.append(Examples(connect(**options)))
        if len(made) == 1:
            made[0].create_judge()
        return made[-1]

    return open_session


@pytest.fixture
def examples_on() -> Callable[[Connection], Examples]:
    """The same steps over a session of the test's own."""
    return Examples
