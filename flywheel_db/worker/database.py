"""The queue of a real database, over a pool of connections that outlives the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, LiteralString

from flywheel_db.errors import Busy, ConnectionLost, FlywheelError, from_psycopg
from flywheel_db.worker.catalog import Model
from flywheel_db.worker.job import Job
from flywheel_db.worker.queue import PROTOCOL, Failure, Run
from flywheel_db.worker.schedules import AT_ONCE

if TYPE_CHECKING:
    import psycopg
    from psycopg_pool import AsyncConnectionPool


class Database:
    """The queue of a real database."""

    def __init__(self, dsn: str) -> None:
        from psycopg import conninfo
        from psycopg_pool import AsyncConnectionPool

        given = {"application_name": "flywheel-db worker", "connect_timeout": "15"}
        given |= {name: str(value) for name, value in conninfo.conninfo_to_dict(dsn).items()}
        self._conninfo = conninfo.make_conninfo("", **given, client_encoding="UTF8")

        def pool(name: str, least: int, most: int) -> AsyncConnectionPool:
            return AsyncConnectionPool(
                self._conninfo,
                kwargs={"autocommit": True},
                min_size=least,
                max_size=most,
                timeout=10,
                # The pool tries this long by itself; then each call that needs a connection does.
                reconnect_timeout=30,
                open=False,
                name=name,
            )

        self._pool = pool("flywheel", 1, 6)
        # A task may take minutes: no claim waits for its connection.
        self._schedules = pool("flywheel schedules", 0, AT_ONCE)

    async def __aenter__(self) -> Database:
        await self._pool.open()
        await self._schedules.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._schedules.close()
        await self._pool.close()

    async def start(self, name: str, info: dict[str, Any]) -> int:
        """Introduce the worker."""
        rows = await self.rows(
            "select flywheel.start_worker(%s::text, %s::integer, %s::jsonb)",
            (name, PROTOCOL, json.dumps(info)),
        )
        return int(rows[0][0])

    async def beat(self, worker_id: int, info: dict[str, Any]) -> None:
        """Tell that it is alive."""
        await self.rows(
            "select flywheel.worker_alive(%s::bigint, %s::jsonb)", (worker_id, json.dumps(info))
        )

    async def stop(self, worker_id: int) -> None:
        """Tell that it ends."""
        await self.rows("select flywheel.stop_worker(%s::bigint)", (worker_id,))

    async def models(self) -> list[Model]:
        """All models."""
        rows = await self.rows(
            """
            select m.name, m.base_url, m.provider, m.api_version, m.api_key_env,
              m.timeout_seconds::double precision, m.max_concurrency
            from flywheel.models as m
            """
        )
        return [Model(*row) for row in rows]

    async def claim(
        self, worker: str, kinds: Sequence[str], most: int, lease: float, models: Sequence[str]
    ) -> list[Job]:
        """Take jobs."""
        rows = await self.rows(
            """
            select c.trace_id::text, c.span_id::text, c.version_id, c.token, c.attempt, c.kind,
              c.validator, c.version, c.model, c.request, c.skipped_reason
            from flywheel.claim_jobs(
              %s::text, %s::text[], %s::integer, make_interval(secs => %s::double precision),
              %s::text[]
            ) as c
            """,
            (worker, list(kinds), most, lease, list(models)),
        )
        return [Job(*row) for row in rows]

    async def complete(self, worker: str, results: Sequence[dict[str, Any]]) -> tuple[int, int]:
        """Write verdicts."""
        rows = await self.rows(
            "select c.recorded, c.dropped, c.busy"
            " from flywheel.complete_jobs(%s::text, %s::jsonb) as c",
            (worker, json.dumps(results)),
        )
        return _written(*rows[0])

    async def fail(self, worker: str, job: Job, failure: Failure) -> str:
        """Tell that a job failed."""
        rows = await self.rows(
            """
            select flywheel.fail_job(
              %s::text, %s::jsonb, %s::text, %s::text,
              make_interval(secs => %s::double precision), %s::jsonb
            )
            """,
            (
                worker,
                json.dumps(job.reference()),
                failure.kind,
                _storable(failure.message),
                failure.retry_after,
                None if failure.run is None else json.dumps(failure.run),
            ),
        )
        return str(rows[0][0])

    async def extend(self, worker: str, jobs: Iterable[Job], lease: float) -> set[Any]:
        """Keep jobs."""
        rows = await self.rows(
            """
            select e.trace_id::text, e.span_id::text, e.version_id, e.token
            from flywheel.extend_lease(
              %s::text, %s::jsonb, make_interval(secs => %s::double precision)
            ) as e
            """,
            (worker, _references(jobs), lease),
        )
        return set(rows)

    async def release(self, worker: str, jobs: Iterable[Job]) -> int:
        """Give jobs back."""
        rows = await self.rows(
            "select flywheel.release_jobs(%s::text, %s::jsonb)", (worker, _references(jobs))
        )
        return int(rows[0][0])

    async def run_sql(self, worker: str, jobs: Iterable[Job]) -> tuple[int, int]:
        """Have the database decide."""
        rows = await self.rows(
            "select r.recorded, r.dropped, r.busy"
            " from flywheel.run_sql_jobs(%s::text, %s::jsonb) as r",
            (worker, _references(jobs)),
        )
        return _written(*rows[0])

    async def python_validator(self, version_id: int) -> dict[str, Any]:
        """The code of a Python validator."""
        rows = await self.rows("select flywheel.python_validator(%s::integer)", (version_id,))
        found: dict[str, Any] = rows[0][0]
        return found

    async def run_schedule(self, max_seconds: float) -> Run | None:
        """Run a schedule that is due, in a transaction of its own."""
        rows = await self.rows(
            "select r.schedule, r.task, r.status, r.error, r.seconds,"
            " coalesce((r.result ->> 'rest_seconds')::double precision, 0)"
            " from flywheel.run_schedules(%s::double precision, 1) as r",
            (max_seconds,),
            self._schedules,
        )
        return Run(*rows[0]) if rows else None

    async def is_due(self, kinds: Sequence[str], models: Sequence[str]) -> bool:
        """Whether jobs wait only because a rate limit holds them back for a moment."""
        rows = await self.rows(
            """
            select exists (
              select
              from flywheel.queue_health as h
              where h.state = 'running'
                and h.pending > h.in_flight + h.backing_off
                and h.language = any (%s::text[])
                and (h.language <> 'llm' or h.model = any (%s::text[]))
            )
            """,
            (list(kinds), list(models)),
        )
        return bool(rows[0][0])

    async def backlog(self) -> tuple[int, float]:
        """Jobs that wait, and US dollars spent today."""
        rows = await self.rows(
            """
            select (select coalesce(sum(h.pending), 0)::bigint from flywheel.queue_health as h),
              (select coalesce(sum(m.spent_today_usd), 0)::float8 from flywheel.models as m)
            """
        )
        return int(rows[0][0]), float(rows[0][1])

    async def listen(self, tell: Callable[[], None]) -> None:
        """Tell whenever jobs arrive."""
        import psycopg

        try:
            connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
            async with connection:
                await connection.execute("listen flywheel_jobs")
                tell()  # what arrived before we listened
                async for _ in connection.notifies():
                    tell()
        except psycopg.Error as exc:
            raise _error(exc) from exc

    async def rows(
        self,
        query: LiteralString,
        parameters: Sequence[Any] = (),
        pool: AsyncConnectionPool | None = None,
    ) -> list[tuple[Any, ...]]:
        """The rows of a query; FlywheelError if there are none to be had."""
        import psycopg

        try:
            async with (pool or self._pool).connection() as connection:
                cursor = await connection.execute(query, parameters)
                return await cursor.fetchall()
        except psycopg.Error as exc:
            raise _error(exc) from exc


def _error(exc: psycopg.Error) -> FlywheelError:
    import psycopg

    if isinstance(exc, psycopg.InterfaceError):  # "the connection is closed", found by the client
        return ConnectionLost(str(exc))
    return from_psycopg(exc)


def _written(recorded: int, dropped: int, busy: int) -> tuple[int, int]:
    """What came of results; those about locked traces are kept, and all of the batch sent again."""
    if busy:
        raise Busy(
            f"{busy} of {recorded + dropped + busy} results are about traces that somebody keeps"
            " locked",
            sqlstate="55P03",
        )
    return recorded, dropped


def _references(jobs: Iterable[Job]) -> str:
    return json.dumps([job.reference() for job in jobs])


def _storable(text: str) -> str:
    """Without what a text of PostgreSQL cannot hold."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
