"""One session as a worker, an application and an admin; several of them where a test needs more."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from psycopg import Connection, sql
from psycopg.types.json import Jsonb


class Job(NamedTuple):
    """A row of claim_jobs()."""

    trace_id: UUID
    span_id: UUID | None
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
    def key(self) -> dict[str, Any]:
        """What the other functions call a job."""
        return {
            "trace_id": str(self.trace_id),
            "span_id": self.span_id and str(self.span_id),
            "version_id": self.version_id,
            "token": self.token,
        }


@dataclass
class Queue:
    """The queue over one session."""

    session: Connection

    def rows(self, query: Any, *values: object) -> list[Any]:
        """All rows of a query."""
        return self.session.execute(query, values).fetchall()

    def one(self, query: Any, *values: object) -> Any:
        """The only row of a query, or its only value."""
        (row,) = self.rows(query, *values)
        return row[0] if len(row) == 1 else row

    def call(self, function: str, /, *values: object, **options: object) -> Any:
        """The only row or value of a function of the schema; dicts are JSON."""
        given = [
            Jsonb(value) if isinstance(value, dict) else value
            for value in (*values, *options.values())
        ]
        return self.one(
            sql.SQL("select * from flywheel.{}({})").format(
                sql.Identifier(function),
                sql.SQL(", ").join(
                    [sql.Placeholder()] * len(values)
                    + [sql.SQL("{} => %s").format(sql.Identifier(name)) for name in options]
                ),
            ),
            *given,
        )

    # The admin.

    def model(self, name: str = "judge", **options: object) -> None:
        """A model of which nothing is called."""
        self.call("create_model", name, "http://127.0.0.1:9/v1", "m-1", **options)

    def judge(self, name: str = "kind", **options: object) -> None:
        """A judge of the model ``judge``."""
        body = options.pop("body", "The reply is kind.")
        self.call("create_validator", name, "llm", body, **{"model": "judge"} | options)

    def check(self, name: str = "short", **options: object) -> None:
        """A queued SQL validator: one to three characters pass."""
        body = options.pop("body", "length(output) < 4")
        self.call("create_validator", name, "sql", body, **{"mode": "queued"} | options)

    def later(self, interval: str) -> None:
        """Move the clock to so long after the start of each transaction."""
        self.session.execute(
            sql.SQL(
                "create or replace function flywheel.now() returns timestamptz language sql stable "
                "parallel safe begin atomic select pg_catalog.now() + interval {}; end"
            ).format(sql.Literal(interval))
        )

    def at(self, moment: str) -> None:
        """Stop the clock."""
        self.session.execute(
            sql.SQL(
                "create or replace function flywheel.now() returns timestamptz language sql stable "
                "parallel safe begin atomic select timestamptz {}; end"
            ).format(sql.Literal(moment))
        )

    # The application.

    def insert(self, n: int = 1, output: str = "ok", **columns: object) -> list[UUID]:
        """Insert traces in one statement."""
        names = ["input", "output", *columns]
        return [
            trace_id
            for (trace_id,) in self.rows(
                sql.SQL(
                    "insert into flywheel.traces ({}) select {} from generate_series(1, %s) returning trace_id"
                ).format(
                    sql.SQL(", ").join(map(sql.Identifier, names)),
                    sql.SQL(", ").join([sql.Placeholder()] * len(names)),
                ),
                "hi",
                output,
                *columns.values(),
                n,
            )
        ]

    def insert_span(self, trace_id: UUID, output: str = "ok", node: str = "writer") -> UUID:
        """Insert a span."""
        found = self.one(
            "insert into flywheel.spans (trace_id, node, input, output) values (%s, %s, 'hi', %s) returning span_id",
            trace_id,
            node,
            output,
        )
        assert isinstance(found, UUID)
        return found

    # The worker.

    def claim(
        self,
        max_jobs: int = 1,
        kinds: Iterable[str] = ("llm", "python", "sql"),
        *,
        worker: str = "w",
        **options: object,
    ) -> list[Job]:
        """Claim jobs."""
        given = sql.SQL("").join(
            sql.SQL(", {} => %s").format(sql.Identifier(name)) for name in options
        )
        return [
            Job(*row)
            for row in self.rows(
                sql.SQL("select * from flywheel.claim_jobs(%s, %s, %s{})").format(given),
                worker,
                list(kinds),
                max_jobs,
                *options.values(),
            )
        ]

    def complete(self, *jobs: Job, status: str = "passed", **fields: Any) -> tuple[int, int]:
        """Complete jobs, all alike: (recorded, dropped)."""
        results = [job.key | {"status": status} | fields for job in jobs]
        recorded, dropped, busy = self.one(
            "select * from flywheel.complete_jobs('w', %s)", json.dumps(results)
        )
        assert busy == 0
        return recorded, dropped

    def fail(
        self, job: Job, error_class: str = "transient", error: str = "no", **more: object
    ) -> str:
        """Fail a job."""
        outcome = self.call("fail_job", "w", job.key, error_class, error, **more)
        assert isinstance(outcome, str)
        return outcome

    def extend(self, *jobs: Job, lease: str = "2 minutes") -> set[tuple[Any, ...]]:
        """The keys of the jobs that are still held."""
        return set(
            self.rows(
                "select * from flywheel.extend_lease('w', %s, %s)",
                json.dumps([job.key for job in jobs]),
                lease,
            )
        )

    def release(self, *jobs: Job) -> int:
        """Give jobs back."""
        found = self.call("release_jobs", "w", Jsonb([job.key for job in jobs]))
        assert isinstance(found, int)
        return found

    def run_sql(self, *jobs: Job) -> tuple[int, int]:
        """Have SQL jobs decided: (recorded, dropped)."""
        recorded, dropped, busy = self.call("run_sql_jobs", "w", Jsonb([job.key for job in jobs]))
        assert busy == 0
        return recorded, dropped

    # What there is.

    def jobs(self, columns: str = "state, attempts", where: str = "true") -> list[Any]:
        """Jobs, by trace and span."""
        return self.rows(
            f"select {columns} from flywheel._jobs as j where {where} order by j.trace_id, j.span_id, j.version_id"
        )

    def verdicts(self, columns: str = "status") -> list[Any]:
        """Verdicts, by trace, span and validator."""
        return self.rows(
            f"select {columns} from flywheel.verdicts order by trace_id, span_id, validator, version"
        )

    def health(self, validator: str = "kind") -> tuple[str, str | None]:
        """State and what to do."""
        found = self.one(
            "select state, what_to_do from flywheel.queue_health where validator = %s", validator
        )
        assert isinstance(found, tuple)
        return found

    def missing(self) -> int:
        """Verdicts that coverage misses."""
        found = self.one("select coalesce(sum(missing), 0)::int from flywheel.coverage")
        assert isinstance(found, int)
        return found


def run(requests: int = 1, tokens: int = 100, **fields: Any) -> dict[str, Any]:
    """A worker's account of a call."""
    return {
        "messages": [{"role": "system", "content": "Judge."}, {"role": "user", "content": "hi"}],
        "replies": ["{}"] * requests,
        "requests": requests,
        "input_tokens": tokens,
        "cached_tokens": 0,
        "output_tokens": 0,
        "latency_ms": 5,
    } | fields


@pytest.fixture
def queue(db: Connection) -> Queue:
    """A queue in a transaction that is rolled back."""
    return Queue(db)


@pytest.fixture
def open_queue(connect: Callable[..., Connection]) -> Callable[..., Queue]:
    """A function that opens another session on the same database, which commits."""

    def make(**options: Any) -> Queue:
        return Queue(connect(**options))

    return make


@pytest.fixture
def judged(queue: Queue) -> Queue:
    """With a model and the judge ``kind``."""
    queue.model()
    queue.judge()
    return queue


@pytest.fixture
def account() -> Callable[..., dict[str, Any]]:
    """A function that makes a worker's account of a call."""
    return run
