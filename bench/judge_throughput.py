"""Judges at 64 calls at a time, each of 200 ms: what share of the 320 a second that allows.

Each side drains the same number of jobs with prompts of 1 KB. The worker's rate is taken from the
moment it has started, just before its first claim, to when its last verdicts were written; what the
whole command took, start and end included, is told beside it. The procedure's rate is that of the
whole CALL, in a new session. What the calls alone come to is the most that this machine allows now.
"""

from __future__ import annotations

import time

import replay
from bench import common
from bench.common import Database, Options, Server
from bench.report import Figure
from bench.texts import make_texts
from bench.workers import bare as bare_calls
from bench.workers import program

require = program.require

JOBS = 4000
ROUNDS = 3
CONCURRENCY = 64
LATENCY = 0.2
IDEAL = CONCURRENCY / LATENCY


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    jobs = options.rows(JOBS)
    worker: list[dict[str, float]] = []
    procedure: list[float] = []
    bare: list[float] = []
    database = server.database("judges")
    database.create_source(jobs, make_texts(min(jobs, 1000)))
    with replay.spawn("--latency", str(LATENCY)) as endpoint:
        program.create_judge(database, endpoint.base_url)
        rounds = min(options.rounds, ROUNDS)
        for n in range(rounds):
            bare.append(_bare(endpoint, jobs))
            _enqueue(server, database)
            worker.append(_worker(database, endpoint, jobs))
            _enqueue(server, database)
            with program.allowed_host(database.admin_dsn, endpoint.authority):
                procedure.append(_procedure(database, jobs))
            common.note(
                f"round {n + 1} of {rounds}, a second: the calls alone {bare[-1]:.0f},"
                f" worker {worker[-1]['rate']:.0f}"
                f" ({worker[-1]['rate with start']:.0f} with its start),"
                f" work() {procedure[-1]:.0f}"
            )
        peak = endpoint.peak
    server.drop("judges")

    middle = {name: common.median([one[name] for one in worker]) for name in worker[0]}
    return [
        Figure(
            "judge_throughput",
            f"flywheel-db worker with {CONCURRENCY} calls of {LATENCY * 1000:.0f} ms at a time,"
            f" over the ideal {IDEAL:.0f} a second; {jobs:,} jobs",
            middle["rate"] / IDEAL,
            at_least=0.85,
            parts={
                "a second": middle["rate"],
                "the calls alone a second": common.median(bare),
                "over the calls alone": middle["rate"] / common.median(bare),
                "a second with its start and end": middle["rate with start"],
                "ratio with its start and end": middle["rate with start"] / IDEAL,
                "seconds until it has started": middle["start"],
                "processor ms a job": middle["cpu"] / jobs * 1e3,
                "most calls at a time": peak,
            },
        ),
        Figure(
            "judge_throughput_sql",
            f"call flywheel.work(100, {CONCURRENCY}), over the ideal {IDEAL:.0f} a second;"
            f" {jobs:,} jobs",
            common.median(procedure) / IDEAL,
            at_least=0.70,
            parts={
                "a second": common.median(procedure),
                "over the calls alone": common.median(procedure) / common.median(bare),
            },
        ),
    ]


def _enqueue(server: Server, database: Database) -> None:
    with database.admin() as session:
        session.run(common.EMPTY)
    with database.writer() as writer:
        writer.run(common.INSERT_ALL)
    server.checkpoint()


def _bare(endpoint: replay.Process, jobs: int) -> float:
    with bare_calls.spawn(endpoint.base_url, concurrency=CONCURRENCY, calls=jobs) as child:
        return jobs / float(child.result()["seconds"])


def _worker(database: Database, endpoint: replay.Process, jobs: int) -> dict[str, float]:
    begun = time.time()
    with program.Worker(
        database.worker_dsn, endpoint.authority, "--concurrency", str(CONCURRENCY), "--drain"
    ) as worker:
        ended = worker.finish()
        whole = time.time() - begun
        started = worker.started_at()
    last = _check(database, jobs)
    return {
        "rate": jobs / (last - started),
        "rate with start": jobs / whole,
        "start": started - begun,
        "cpu": ended.cpu,
    }


def _procedure(database: Database, jobs: int) -> float:
    with database.worker() as session:
        begun = time.perf_counter()
        session.run(f"call flywheel.work(100, {CONCURRENCY})")
        seconds = time.perf_counter() - begun
    _check(database, jobs)
    return jobs / seconds


def _check(database: Database, jobs: int) -> float:
    """When the last verdict was written, once it is sure that all were."""
    with database.admin() as session:
        verdicts = session.one("select count(*) from flywheel._verdicts where status = 'passed'")
        if verdicts != jobs:
            raise RuntimeError(f"{verdicts} of {jobs} jobs have a verdict that passes")
        found: float = session.one(
            "select extract(epoch from max(created_at))::float8 from flywheel._verdicts"
        )
    return found
