"""Two job queues of others on PostgreSQL, each used as its own documentation says.

    FLYWHEEL_DSN=... python -m bench.workers.peers procrastinate --jobs 20000 --concurrency 10
    FLYWHEEL_DSN=... python -m bench.workers.peers pgqueuer --jobs 20000 --batch 1000

They come with the extra: pip install 'flywheel-db[bench]'. Nothing else here imports them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import time
from importlib.util import find_spec
from typing import Any

from psycopg import conninfo

from bench.workers.child import Child, start
from flywheel_db.errors import MissingExtra

_NEEDED = ("procrastinate", "pgqueuer", "asyncpg", "uvloop")


def require() -> None:
    """Refuse to begin without the two.

    Raises:
        MissingExtra: one is not installed.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"the figure needs {', '.join(missing)}, which is not installed",
            hint="pip install 'flywheel-db[bench]'",
        )


def procrastinate_schema() -> str:
    """Its tables and functions."""
    from procrastinate.schema import SchemaManager

    return str(SchemaManager.get_schema())


def procrastinate_enqueue(jobs: int) -> dict[str, str]:
    """Two ways to enqueue no-op jobs in SQL: its function, and INSERT as that function has it."""
    return {
        "function": f"""
            select cardinality(procrastinate_defer_jobs_v1((
              select array_agg(
                row ('noops', 'noop', 0, null, null, '{{}}', null)::procrastinate_job_to_defer_v1
              )
              from generate_series(1, {jobs})
            )))
        """,
        "insert": f"""
            insert into procrastinate_jobs (queue_name, task_name, args)
            select 'noops', 'noop', '{{}}' from generate_series(1, {jobs})
        """,
    }


def pgqueuer_install(dsn: str) -> None:
    """Make its tables and functions in a database."""

    async def install() -> None:
        from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
        from pgqueuer.adapters.persistence.queries import Queries

        connection = await _asyncpg(dsn)
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    asyncio.run(install())


def pgqueuer_enqueue(jobs: int) -> str:
    """Its own INSERT from arrays, the arrays made by the server."""
    from pgqueuer.adapters.persistence import qb

    query = qb.QueryQueueBuilder().build_enqueue_query()
    arrays = {
        "$1::int[]": "0",
        "$2::text[]": "'noop'::text",
        "$3::bytea[]": "null::bytea",
        "$4::interval[]": "interval '0'",
        "$5::text[]": "null::text",
        "$6::jsonb[]": "null::jsonb",
    }
    for parameter, value in arrays.items():
        assert parameter in query, f"another release: its INSERT has no {parameter}"
        query = query.replace(
            parameter, f"(select array_agg({value}) from generate_series(1, {jobs}))"
        )
    return query


def drain_procrastinate(dsn: str, jobs: int, concurrency: int, delete: str) -> Child:
    """Start its worker; it tells jobs and seconds."""
    return start(
        "bench.workers.peers", "procrastinate", "--jobs", str(jobs),
        "--concurrency", str(concurrency), "--delete", delete, dsn=dsn,
    )  # fmt: skip


def drain_pgqueuer(dsn: str, jobs: int, batch: int) -> Child:
    """Start its worker; it tells jobs and seconds."""
    return start(
        "bench.workers.peers", "pgqueuer", "--jobs", str(jobs), "--batch", str(batch), dsn=dsn
    )


async def _asyncpg(dsn: str) -> Any:
    import asyncpg  # type: ignore[import-untyped]

    # It takes no key-value string, and a socket's directory only as an argument.
    given = conninfo.conninfo_to_dict(dsn)
    return await asyncpg.connect(
        host=given["host"], port=int(given["port"] or 5432), user=given["user"],
        password=given.get("password"), database=given["dbname"],
    )  # fmt: skip


async def _procrastinate(dsn: str, concurrency: int, delete: str) -> dict[str, Any]:
    import procrastinate

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))
    done = 0

    @app.task(name="noop", queue="noops")
    async def noop() -> None:
        nonlocal done
        done += 1

    async with app.open_async():
        begun = time.perf_counter()
        await app.run_worker_async(
            concurrency=concurrency, wait=False, delete_jobs=delete, install_signal_handlers=False
        )
        return {"jobs": done, "seconds": time.perf_counter() - begun}


async def _pgqueuer(dsn: str, batch: int) -> dict[str, Any]:
    from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
    from pgqueuer.adapters.persistence.queries import Queries
    from pgqueuer.core.qm import QueueManager
    from pgqueuer.domain.types import QueueExecutionMode

    connection = await _asyncpg(dsn)
    manager = QueueManager(Queries(AsyncpgDriver(connection)))
    done = 0

    @manager.entrypoint("noop")
    async def noop(job: Any) -> None:
        nonlocal done
        done += 1

    begun = await connection.fetchval("select clock_timestamp()")
    await manager.run(batch_size=batch, mode=QueueExecutionMode.drain)
    # Until the last job was recorded: how it ends is not held against it.
    ended = await connection.fetchval(
        "select max(created) from pgqueuer_log where status = 'successful'"
    )
    await connection.close()
    return {"jobs": done, "seconds": (ended - begun).total_seconds()}


def main() -> None:
    """Drain, and print what it took as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers.peers", description=__doc__)
    parser.add_argument("side", choices=["procrastinate", "pgqueuer"])
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--delete", default="never")
    parser.add_argument("--batch", type=int, default=1000)
    given = parser.parse_args()
    dsn = os.environ["FLYWHEEL_DSN"]
    import uvloop

    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    # pgqueuer's own command runs on uvloop, and procrastinate is faster on it, too.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if given.side == "procrastinate":
            found = runner.run(_procrastinate(dsn, given.concurrency, given.delete))
        else:
            found = runner.run(_pgqueuer(dsn, given.batch))
    if found["jobs"] != given.jobs:
        raise SystemExit(f"{given.side} did {found['jobs']} of {given.jobs} jobs")
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
