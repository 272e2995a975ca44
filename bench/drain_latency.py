"""Latency of single-row INSERTs while 4 workers drain a backlog of 500,000 jobs, against the backlog
lying there with nobody at work: 100 a second at random moments, one session, the sides in turn.

Two kinds of workers. `drain_latency_flat_out` has plain clients with jobs that take no time: on 2
cores they and their backends take both. `drain_latency` has flywheel-db workers whose judge answers
in 20 ms, which is what goes on beside an application. An INSERT takes less than the turn that the
kernel gives to a process, so it waits for a processor before it waits for anything of ours. What
that alone costs is measured beside it: as many processes that know nothing of the database and
compute for as much of the time.

At the end the plain clients drain the whole backlog: what a claim takes in its first and its last
tenth, and how large the table of jobs gets meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import conninfo

import replay
from bench import common
from bench.common import WORKER, Database, Options, Server
from bench.report import Figure
from bench.workers import child, plain, program

require = program.require

BACKLOG = 500_000
RATE = 100
SLICES = 5
# Of one slice.
SECONDS = 10
WORKERS = 4
BATCH = 100
# Of each flywheel-db worker: calls at a time, and how long each takes.
CONCURRENCY = 1
LATENCY = 0.02

# A session's first statements find nothing in its caches. They are not counted.
WARM_UP = 20
_CHUNK = 10_000

_INSERT = "insert into flywheel.traces (input, output) values (:input, :output)"
_FILL = "insert into flywheel.traces (input, output) select s.input, s.output from source.rows as s"
_LEFT = "select count(*) from flywheel._jobs"

Side = Callable[[], AbstractContextManager[object]]


@dataclass
class Seen:
    """What one side came to: milliseconds of each INSERT, jobs drained, processors that were busy."""

    latencies: list[float] = field(default_factory=list)
    drained: int = 0
    seconds: float = 0
    busy_seconds: float = 0

    @property
    def processors(self) -> float:
        """How many processors of the machine were busy."""
        return self.busy_seconds / self.seconds

    def percentile(self, percent: float) -> float:
        """Of the latencies."""
        return percentile(self.latencies, percent)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent do not exceed; 0 if there is none."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] if ordered else 0


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    backlog = max(50_000, options.rows(BACKLOG))
    seconds = max(1, round(SECONDS * options.scale))
    return [
        _beside_judges(server, backlog, seconds),
        *_beside_plain_clients(server, backlog, seconds),
    ]


def _beside_judges(server: Server, backlog: int, seconds: int) -> Figure:
    database = server.database("drain_judges")
    with replay.spawn("--latency", str(LATENCY)) as endpoint:
        program.create_judge(database, endpoint.base_url)
        seen = _measure(
            server, database, backlog, seconds, lambda: _judging_workers(database, endpoint)
        )
    server.drop("drain_judges")
    who = (
        f"{WORKERS} flywheel-db workers, each with {CONCURRENCY} call of {LATENCY * 1000:.0f} ms at"
        " a time"
    )
    return _figure("drain_latency", who, seen)


def _beside_plain_clients(server: Server, backlog: int, seconds: int) -> list[Figure]:
    database = server.database("drain")
    with database.admin() as session:
        session.run(
            "select flywheel.create_validator('noop', 'python', 'return True', mode => 'queued')"
        )
    seen = _measure(server, database, backlog, seconds, lambda: _plain_clients(database))
    who = f"{WORKERS} plain clients with jobs of no time, {BATCH} a claim, flat out"
    figures = [
        _figure("drain_latency_flat_out", who, seen),
        *_drain(server, database, backlog),
    ]
    server.drop("drain")
    return figures


def _figure(name: str, who: str, seen: Mapping[str, Seen]) -> Figure:
    idle, busy, computing = seen["idle"], seen["busy"], seen["computing"]
    parts: dict[str, float | str | None] = {}
    for side, found in seen.items():
        parts[f"{side} p50 ms"] = found.percentile(50)
        parts[f"{side} p99 ms"] = found.percentile(99)
        parts[f"{side} processors"] = found.processors
    return Figure(
        name,
        f"p99 of single-row INSERTs beside {who}, over that with the backlog idle",
        busy.percentile(99) / idle.percentile(99),
        at_most=1.5,
        parts=parts
        | {
            "p99 over that beside processes that compute as much": busy.percentile(99)
            / computing.percentile(99),
            "ratio of p50": busy.percentile(50) / idle.percentile(50),
            "drained a second": busy.drained / busy.seconds,
            "INSERTs a side": len(busy.latencies),
        },
    )


def _measure(
    server: Server, database: Database, backlog: int, seconds: int, busy: Side
) -> dict[str, Seen]:
    seen = {"idle": Seen(), "busy": Seen(), "computing": Seen()}
    sides: dict[str, Side] = {
        "idle": nullcontext,
        "busy": busy,
        "computing": lambda: _computing(seen["busy"].processors - seen["idle"].processors),
    }
    for n in range(SLICES):
        for name, side in sides.items():
            _fill(server, database, backlog)
            with side():
                _run_slice(server, database, seconds, seen[name])
        shown = ", ".join(
            f"{x} {s.percentile(50):.2f} {s.percentile(99):.2f}" for x, s in seen.items()
        )
        common.note(f"slice {n + 1} of {SLICES}, p50 and p99 ms: {shown}")
    return seen


def _run_slice(server: Server, database: Database, seconds: int, seen: Seen) -> None:
    before, busy, begun = _left(database), _busy_seconds(), time.perf_counter()
    latencies = _pgbench(server, database, seconds)
    seen.seconds += time.perf_counter() - begun
    seen.busy_seconds += _busy_seconds() - busy
    left = _left(database)
    if left == 0:
        raise RuntimeError(f"{before:,} jobs were not enough: none is left")
    seen.drained += before + len(latencies) - left
    seen.latencies += latencies[WARM_UP:]


def _busy_seconds() -> float:
    """Processor seconds of the whole machine so far, those of others included."""
    fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def _fill(server: Server, database: Database, backlog: int) -> None:
    """Bring the backlog to its size again, and leave no dead rows to the side that follows."""
    missing = backlog - _left(database)
    is_first = missing == backlog
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
    # Not before each side: the first write to a page after a checkpoint logs all of it.
    if is_first:
        server.checkpoint()


def _left(database: Database) -> int:
    with database.admin() as session:
        found: int = session.one(_LEFT)
    return found


def _pgbench(server: Server, database: Database, seconds: int) -> list[float]:
    """Milliseconds of each INSERT of one session, from when it was due."""
    values = conninfo.conninfo_to_dict(database.writer_dsn)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
    environment = common.child_environment()
    environment |= {env: str(values[key]) for key, env in names.items() if key in values}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                server.program("pgbench"), "-n", "-M", "prepared", "-c", "1", "-R", str(RATE),
                "-T", str(seconds), "-D", "input=a question", "-D", "output=an answer",
                "--log", "--log-prefix", f"{folder}/log", "-f", "-", str(values["dbname"]),
            ],
            env=environment, input=f"{_INSERT};\n", capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"pgbench failed: {done.stderr.strip()}")
        lines = "".join(file.read_text() for file in Path(folder).iterdir()).splitlines()
    # client, number of the transaction, microseconds, ...
    return [int(line.split()[2]) / 1000 for line in lines]


@contextmanager
def _plain_clients(database: Database) -> Iterator[list[child.Child]]:
    with ExitStack() as stack:
        clients = [
            stack.enter_context(plain.spawn(database.worker_dsn, batch=BATCH, name=f"plain {n}"))
            for n in range(WORKERS)
        ]
        _wait_until(database, f"select count(*) from pg_stat_activity where usename = '{WORKER}'")
        yield clients
        for client in clients:
            client.stop()
        for client in clients:
            client.result()


@contextmanager
def _judging_workers(database: Database, endpoint: replay.Process) -> Iterator[None]:
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                program.Worker(
                    database.worker_dsn, endpoint.authority,
                    "--concurrency", str(CONCURRENCY), "--name", f"worker {n}",
                )
            )
            for n in range(WORKERS)
        ]  # fmt: skip
        _wait_until(database, "select count(*) from flywheel._workers where stopped_at is null")
        yield
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.finish()


def _wait_until(database: Database, query: str) -> None:
    """Wait until all workers are there, and at work."""
    give_up = time.monotonic() + 60
    with database.admin() as session:
        while session.one(query) < WORKERS:
            if time.monotonic() > give_up:
                raise RuntimeError("the workers do not start")
            time.sleep(0.02)
    time.sleep(1.5)


@contextmanager
def _computing(processors: float) -> Iterator[None]:
    """A process for each client and each backend; together they keep so many processors busy."""
    share = max(processors, 0.01) / (2 * WORKERS)
    with ExitStack() as stack:
        for _ in range(2 * WORKERS):
            stack.enter_context(child.start("bench.workers.spin", f"{share:.4f}"))
        time.sleep(0.5)
        yield


def _drain(server: Server, database: Database, backlog: int) -> list[Figure]:
    """Drain it all; what claims take, and what becomes of the table."""
    _fill(server, database, backlog)
    sizes = _Sizes(database)
    begun = time.perf_counter()
    with sizes, _plain_clients(database) as clients:
        while any(client.is_running for client in clients):
            time.sleep(0.2)
        seconds = time.perf_counter() - begun
        found = [client.result() for client in clients]
    claims = sorted(tuple(claim) for one in found for claim in one["claims"] if claim[2])
    tenths: tuple[list[float], list[float]] = ([], [])
    done, total = 0, sum(claim[2] for claim in claims)
    for _, took, jobs in claims:
        if done < total / 10:
            tenths[0].append(took * 1000)
        elif done >= total * 9 / 10:
            tenths[1].append(took * 1000)
        done += jobs
    first, last = tenths
    dead, table, indexes = sizes.highest
    return [
        Figure(
            "drain_claims",
            f"median time of a claim of {BATCH} in the last tenth of {backlog:,} jobs, over that in"
            " the first",
            percentile(last, 50) / percentile(first, 50),
            parts={
                "first p50 ms": percentile(first, 50),
                "first p99 ms": percentile(first, 99),
                "last p50 ms": percentile(last, 50),
                "last p99 ms": percentile(last, 99),
                "drained a second": total / seconds,
            },
        ),
        Figure(
            "drain_bloat",
            f"largest size of the table of jobs and its indexes while {backlog:,} were drained, over"
            " that at the beginning",
            (table + indexes) / (sizes.first[1] + sizes.first[2]),
            parts={
                "most dead rows": dead,
                "largest table MB": table / 1e6,
                "largest indexes MB": indexes / 1e6,
                "table MB at first": sizes.first[1] / 1e6,
                "indexes MB at first": sizes.first[2] / 1e6,
            },
        ),
    ]


class _Sizes:
    """Watches the table of jobs: dead rows, bytes of the table, bytes of its indexes."""

    _QUERY = """
        select s.n_dead_tup, pg_relation_size(s.relid), pg_indexes_size(s.relid)
        from pg_stat_user_tables as s where s.relid = 'flywheel._jobs'::regclass
    """

    def __init__(self, database: Database) -> None:
        self._session = database.admin()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.first = self.highest = self._look()

    def __enter__(self) -> _Sizes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._session.connection.close()

    def _look(self) -> tuple[int, int, int]:
        row = self._session.connection.execute(self._QUERY.encode()).fetchone()
        assert row is not None
        return row[0], row[1], row[2]

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            now, most = self._look(), self.highest
            self.highest = max(most[0], now[0]), max(most[1], now[1]), max(most[2], now[2])
