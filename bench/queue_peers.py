"""20,000 no-op jobs, against two job queues of others on the same server in the same run.

Enqueue is one statement in SQL: for the others one that makes jobs, for us an INSERT of traces with
a queued validator, which makes the traces and the jobs. Drain is one worker process: theirs, tuned
to their best here, and for us a plain client of claim_jobs() and complete_jobs(), which gets the
texts of each trace and writes a verdict for it. Each drain begins with statistics at hand, as
autovacuum would have them within a minute, and once for us without.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from bench import common
from bench.common import Options, Server, Session
from bench.report import Figure
from bench.workers import peers, plain

require = peers.require

JOBS = 20_000
ROUNDS = 3
# What procrastinate is tuned with.
TRIAL_JOBS = 2000
CONCURRENCIES = (1, 10, 50)
DELETE = ("never", "successful")

# Measured elsewhere on 2 cores, jobs a second.
ELSEWHERE = {
    "procrastinate enqueue elsewhere": 29_278,
    "procrastinate drain elsewhere": 469,
    "pgqueuer enqueue elsewhere": 85_175,
    "pgqueuer drain elsewhere": 10_840,
    "pgqueuer drain by 10 elsewhere": 3492,
}

_INSERT = (
    "insert into flywheel.traces (input, output) select s.input, s.output from source.rows as s"
)


@dataclass
class Rates:
    """Jobs a second by what was measured."""

    enqueue: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    drain: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    jobs = options.rows(JOBS)
    concurrency, delete = _tune(server, min(jobs, TRIAL_JOBS))
    rates = Rates()
    rounds = min(options.rounds, ROUNDS)
    for n in range(rounds):
        _procrastinate(server, jobs, concurrency, delete, rates)
        for batch in (1000, 10):
            _pgqueuer(server, jobs, batch, rates)
            _ours(server, jobs, batch, rates)
        _ours(server, jobs, 1000, rates, without_statistics=True)
        _backfill(server, jobs, rates)
        shown = ", ".join(f"{name} {values[-1]:,.0f}" for name, values in rates.drain.items())
        common.note(f"round {n + 1} of {rounds}, drained a second: {shown}")

    enqueue = {name: common.median(values) for name, values in rates.enqueue.items()}
    drain = {name: common.median(values) for name, values in rates.drain.items()}
    drained: dict[str, float | str | None] = {
        f"{name} a second": value for name, value in drain.items()
    }
    return [
        Figure(
            "queue_enqueue",
            f"traces with a job each inserted a second, over jobs of the faster peer; {jobs:,} in one"
            " statement",
            enqueue["ours"] / _best(enqueue),
            at_least=1,
            parts={f"{name} a second": value for name, value in enqueue.items()}
            | {name: value for name, value in ELSEWHERE.items() if "enqueue" in name},
        ),
        Figure(
            "queue_drain",
            f"no-op jobs drained a second by one process, over the faster peer; {jobs:,} jobs,"
            " batches of 1,000",
            drain["ours"] / _best(drain),
            at_least=1,
            parts=drained
            | {
                "by 10, ours over pgqueuer": drain["ours by 10"] / drain["pgqueuer by 10"],
                "procrastinate": f"concurrency {concurrency}, delete_jobs {delete}",
            }
            | {name: value for name, value in ELSEWHERE.items() if "drain" in name},
        ),
    ]


def _best(rates: dict[str, float]) -> float:
    return max(
        rate for name, rate in rates.items() if name.startswith(("procrastinate", "pgqueuer"))
    )


def _settle(server: Server, dsn: str) -> None:
    with Session(dsn) as session:
        session.run("vacuum analyze")
    server.checkpoint()


def _tune(server: Server, jobs: int) -> tuple[int, str]:
    """The fastest concurrency for procrastinate, and whether it deletes the jobs."""
    found: dict[tuple[int, str], float] = {}
    for concurrency in CONCURRENCIES:
        for delete in DELETE:
            rates = Rates()
            _procrastinate(server, jobs, concurrency, delete, rates)
            found[concurrency, delete] = rates.drain["procrastinate"][0]
    best = max(found, key=lambda one: found[one])
    shown = ", ".join(f"{c} {d} {rate:,.0f}" for (c, d), rate in found.items())
    common.note(f"procrastinate a second by concurrency and delete_jobs: {shown}")
    return best


def _procrastinate(server: Server, jobs: int, concurrency: int, delete: str, rates: Rates) -> None:
    for name, statement in peers.procrastinate_enqueue(jobs).items():
        dsn = server.empty_database("procrastinate")
        with Session(dsn) as session:
            session.run(peers.procrastinate_schema())
            server.checkpoint()
            rates.enqueue[f"procrastinate {name}"].append(jobs / session.timed(statement).wall)
    _settle(server, dsn)
    with peers.drain_procrastinate(dsn, jobs, concurrency, delete) as child:
        rates.drain["procrastinate"].append(jobs / float(child.result()["seconds"]))
    server.drop("procrastinate")


def _pgqueuer(server: Server, jobs: int, batch: int, rates: Rates) -> None:
    dsn = server.empty_database("pgqueuer")
    peers.pgqueuer_install(dsn)
    server.checkpoint()
    with Session(dsn) as session:
        rates.enqueue["pgqueuer"].append(jobs / session.timed(peers.pgqueuer_enqueue(jobs)).wall)
    _settle(server, dsn)
    with peers.drain_pgqueuer(dsn, jobs, batch) as child:
        rate = jobs / float(child.result()["seconds"])
        rates.drain["pgqueuer" if batch == 1000 else f"pgqueuer by {batch}"].append(rate)
    server.drop("pgqueuer")


def _ours(
    server: Server, jobs: int, batch: int, rates: Rates, *, without_statistics: bool = False
) -> None:
    database = server.database("queue")
    database.create_source(jobs, _texts())
    _create_validator(database.admin)
    server.checkpoint()
    with database.writer() as writer:
        rates.enqueue["ours"].append(jobs / writer.timed(_INSERT).wall)
    name = "ours" if batch == 1000 else f"ours by {batch}"
    if without_statistics:
        name = "ours without statistics"
        server.checkpoint()
    else:
        _settle(server, database.admin_dsn)
    with plain.spawn(database.worker_dsn, batch=batch) as child:
        found = child.result()
    with database.admin() as session:
        verdicts = session.one("select count(*) from flywheel._verdicts where status = 'passed'")
        left = session.one("select count(*) from flywheel._jobs")
    if (found["jobs"], verdicts, left) != (jobs, jobs, 0):
        raise RuntimeError(f"{found['jobs']} of {jobs} jobs done, {verdicts} verdicts, {left} left")
    rates.drain[name].append(jobs / float(found["seconds"]))
    server.drop("queue")


def _backfill(server: Server, jobs: int, rates: Rates) -> None:
    """For information: the jobs alone, of traces that were there before."""
    database = server.database("queue")
    database.create_source(jobs, _texts())
    with database.writer() as writer:
        writer.run(_INSERT)
    _create_validator(database.admin)
    _settle(server, database.admin_dsn)
    with database.admin() as session:
        begun = time.perf_counter()
        session.run(f"call flywheel.backfill('noop', batch_size => {jobs})")
        seconds = time.perf_counter() - begun
    rates.enqueue["ours, jobs alone by backfill()"].append(jobs / seconds)
    server.drop("queue")


def _texts() -> list[tuple[str, str]]:
    return [(f"question {n}", f"answer {n}") for n in range(1000)]


def _create_validator(admin: Callable[[], Session]) -> None:
    with admin() as session:
        session.run(
            "select flywheel.create_validator('noop', 'python', 'return True', mode => 'queued')"
        )
