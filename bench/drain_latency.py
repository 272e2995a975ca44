"""Latency of single-row INSERTs while 4 workers drain a backlog of 500,000 jobs, against the backlog
lying there with nobody at work: 100 a second at random moments, one session, the sides in turn.

Two kinds of workers. `drain_latency` has flywheel-db workers whose judge answers in 20 ms, which is
what goes on beside an application. `drain_latency_flat_out`, for information, has plain clients with
jobs that take no time: on 2 cores they and their backends take both. An INSERT takes less than the turn that the
kernel gives to a process, so it waits for a processor before it waits for anything of ours. What
that alone costs is measured beside it: as many processes that know nothing of the database and
compute for as much of the time.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from psycopg import conninfo

import replay
from bench import backlog, common
from bench.backlog import BATCH, CONCURRENCY, LATENCY, WORKERS, percentile
from bench.common import Database, Options, Server
from bench.report import Figure
from bench.workers import program

require = program.require

JOBS = 500_000
RATE = 100
SLICES = 5
# Of one slice.
SECONDS = 10
# A session's first statements find nothing in its caches. They are not counted.
WARM_UP = 20

_INSERT = "insert into flywheel.traces (input, output) values (:input, :output)"

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


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    jobs = max(200_000, options.rows(JOBS))  # or the plain clients run out of them
    seconds = max(1, round(SECONDS * options.scale))
    return [
        _beside_judges(server, jobs, seconds),
        _beside_plain_clients(server, jobs, seconds),
    ]


def _beside_judges(server: Server, jobs: int, seconds: int) -> Figure:
    database = server.database("drain_judges")
    with replay.spawn("--latency", str(LATENCY)) as endpoint:
        program.create_judge(database, endpoint.base_url)
        seen = _measure(
            server, database, jobs, seconds, lambda: backlog.judging_workers(database, endpoint)
        )
    server.drop("drain_judges")
    who = (
        f"{WORKERS} flywheel-db workers, each with {CONCURRENCY} call of {LATENCY * 1000:.0f} ms at"
        " a time"
    )
    return _figure("drain_latency", who, seen, at_most=1.5)


def _beside_plain_clients(server: Server, jobs: int, seconds: int) -> Figure:
    database = server.database("drain")
    backlog.create_noop(database)
    seen = _measure(server, database, jobs, seconds, lambda: backlog.plain_clients(database))
    server.drop("drain")
    who = f"{WORKERS} plain clients with jobs of no time, {BATCH} a claim, flat out"
    return _figure("drain_latency_flat_out", who, seen)


def _figure(name: str, who: str, seen: Mapping[str, Seen], at_most: float | None = None) -> Figure:
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
        at_most=at_most,
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
    server: Server, database: Database, jobs: int, seconds: int, busy: Side
) -> dict[str, Seen]:
    seen = {"idle": Seen(), "busy": Seen(), "computing": Seen()}
    sides: dict[str, Side] = {
        "idle": nullcontext,
        "busy": busy,
        "computing": lambda: backlog.computing(seen["busy"].processors - seen["idle"].processors),
    }
    for n in range(SLICES):
        for name, side in sides.items():
            backlog.fill(server, database, jobs)
            with side():
                _run_slice(server, database, seconds, seen[name])
        shown = ", ".join(
            f"{x} {s.percentile(50):.2f} {s.percentile(99):.2f}" for x, s in seen.items()
        )
        common.note(f"slice {n + 1} of {SLICES}, p50 and p99 ms: {shown}")
    return seen


def _run_slice(server: Server, database: Database, seconds: int, seen: Seen) -> None:
    before, busy, begun = backlog.left(database), _busy_seconds(), time.perf_counter()
    latencies = _pgbench(server, database, seconds)
    seen.seconds += time.perf_counter() - begun
    seen.busy_seconds += _busy_seconds() - busy
    left = backlog.left(database)
    if left == 0:
        raise RuntimeError(f"{before:,} jobs were not enough: none is left")
    seen.drained += before + len(latencies) - left
    seen.latencies += latencies[WARM_UP:]


def _busy_seconds() -> float:
    """Processor seconds of the whole machine so far, those of others included; 0 if unknown."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0]
    except OSError:
        return 0
    fields = [int(field) for field in first.split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def _pgbench(server: Server, database: Database, seconds: int) -> list[float]:
    """Milliseconds of each INSERT of one session."""
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
    # client, number of the transaction, microseconds since it was due, ..., how late it began
    fields = (line.split() for line in lines)
    return [(int(field[2]) - int(field[6])) / 1000 for field in fields]
