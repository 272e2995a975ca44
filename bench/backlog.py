"""A backlog of jobs, and those who drain it while something else is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import replay
from bench.common import WORKER, Database, Server
from bench.workers import child, plain, program

WORKERS = 4
BATCH = 100
# Of each flywheel-db worker: calls at a time, and how long each takes.
CONCURRENCY = 1
LATENCY = 0.02

_CHUNK = 10_000
_FILL = "insert into flywheel.traces (input, output) select s.input, s.output from source.rows as s"


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent do not exceed; 0 if there is none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] if ordered else 0


def create_noop(database: Database) -> None:
    """Create the validator whose jobs the plain clients do."""
    with database.admin() as session:
        session.run(
            "select flywheel.create_validator('noop', 'python', 'return True', mode => 'queued')"
        )


def left(database: Database) -> int:
    """How many jobs there are."""
    with database.admin() as session:
        found: int = session.one("select count(*) from flywheel._jobs")
    return found


def fill(server: Server, database: Database, jobs: int) -> None:
    """Bring the backlog to its size again, and leave no dead rows to what follows."""
    missing = jobs - left(database)
    is_first = missing == jobs
    with database.admin() as session:
        if not session.one("select to_regclass('source.rows') is not null"):
            texts = [(f"question {n}", f"answer {n}") for n in range(1000)]
            database.create_source(_CHUNK, texts)
    with database.writer() as writer:
        while missing > 0:
            writer.run(f"{_FILL} where s.n <= {min(missing, _CHUNK)}")
            missing -= _CHUNK
    with database.admin() as session:
        session.run("vacuum analyze flywheel._jobs")
    # Not each time: the first write to a page after a checkpoint logs all of it.
    if is_first:
        server.checkpoint()


@contextmanager
def plain_clients(database: Database) -> Iterator[list[child.Child]]:
    """Plain clients at work, flat out."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(plain.spawn(database.worker_dsn, batch=BATCH, name=f"plain {n}"))
            for n in range(WORKERS)
        ]
        _wait_until_all(
            database, f"select count(*) from pg_stat_activity where usename = '{WORKER}'"
        )
        yield clients
        for client in clients:
            client.stop()
        for client in clients:
            client.result()


@contextmanager
def judging_workers(database: Database, endpoint: replay.Process) -> Iterator[None]:
    """flywheel-db workers at work."""
    arguments = ("--concurrency", str(CONCURRENCY))
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                program.Worker(
                    database.worker_dsn, endpoint.authority, *arguments, "--name", f"worker {n}"
                )
            )
            for n in range(WORKERS)
        ]
        _wait_until_all(database, "select count(*) from flywheel._workers where stopped_at is null")
        yield
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.finish()


@contextmanager
def computing(processors: float) -> Iterator[None]:
    """A process for each client and each backend; together they keep so many processors busy."""
    share = max(processors, 0.01) / (2 * WORKERS)
    with ExitStack() as stack:
        for _ in range(2 * WORKERS):
            stack.enter_context(child.start("bench.workers.spin", f"{share:.4f}"))
        time.sleep(0.5)
        yield


def _wait_until_all(database: Database, query: str) -> None:
    """Wait until all are there, and at work."""
    give_up = time.monotonic() + 60
    with database.admin() as session:
        while session.one(query) < WORKERS:
            if time.monotonic() > give_up:
                raise RuntimeError("the workers do not start")
            time.sleep(0.02)
    time.sleep(1.5)
