"""INSERT latency of 4 writers while 1,000,000 traces are removed by retention, against without.

The writers insert single traces at a steady rate, which is what an application does: what they
wait for is then the removal and not each other. Retention runs as a schedule runs it: small batches
with rests between them. Before and after it, the writers are alone, and then beside a session that
does nothing but compute: what that costs them is the machine's.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from psycopg import conninfo

from bench import common
from bench.common import Database, Options, Server
from bench.report import Figure
from bench.texts import make_texts

WRITERS = 4
RATE = 400  # INSERTs a second of all writers together
QUIET_SECONDS = 20
_STATEMENT = 10_000  # rows

_FILL = """
    insert into flywheel.traces (pipeline, input, output, received_at)
    select 'support', s.input, s.output, now() - interval '100 days' + s.n * interval '1 second' + make_interval(days => %s)
    from source.rows as s
"""
_INSERT = (
    "insert into flywheel.traces (pipeline, input, output) values ('support', :input, :output)"
)


@dataclass
class Removal:
    """When retention began and ended, and what it did."""

    began: float = 0
    ended: float = 0
    removed: int = 0
    batches: int = 0


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    rows = options.rows(1_000_000)
    database = server.database("retention_latency")
    database.create_validators()
    database.create_source(_STATEMENT, make_texts(2000))
    rows = _fill(database, rows)
    server.checkpoint()
    removal = Removal()
    remover = threading.Thread(target=_remove, args=(database, removal))
    with tempfile.TemporaryDirectory(prefix="flywheel-bench-") as folder:
        with _writers(server, database, Path(folder)) as writers:
            time.sleep(QUIET_SECONDS)
            remover.start()
            remover.join()
            time.sleep(QUIET_SECONDS)
            computed = _compute(database)
            if writers.poll() is not None:
                raise RuntimeError(f"pgbench ended: {writers.communicate()}")
            writers.terminate()
            writers.wait()
        latencies = _latencies(Path(folder))
    beside = [ms for at, ms in latencies if computed[0] <= at <= computed[1]]
    quiet = [
        ms
        for at, ms in latencies
        if at < removal.began or removal.ended < at < computed[0] or at > computed[1]
    ]
    during = [ms for at, ms in latencies if removal.began <= at <= removal.ended]
    with database.admin() as session:
        left = session.one(
            "select count(*) from flywheel.traces where received_at < now() - interval '1 day'"
        )
        orphans = session.one(
            "select count(*) from flywheel._verdicts as v where not exists"
            " (select from flywheel.traces as t where t.trace_id = v.trace_id)"
        )
    server.drop("retention_latency")
    if removal.removed != rows or left or orphans:
        raise RuntimeError(f"{removal.removed} of {rows} removed, {left} left, {orphans} orphans")
    seconds = removal.ended - removal.began
    parts: dict[str, float | str | None] = {
        "rows": rows,
        "verdicts": rows * len(common.VALIDATORS),
        "seconds": round(seconds, 1),
        "batches": removal.batches,
        "inserts quiet": len(quiet),
        "inserts during": len(during),
    }
    for name, found in (("quiet", quiet), ("during", during), ("beside a computation", beside)):
        for share in (50, 95, 99, 99.9):
            parts[f"p{share:g} {name}, ms"] = round(_quantile(found, share / 100), 3)
    return [
        Figure(
            "retention_latency", "p99 of an INSERT while traces are removed, against without",
            _quantile(during, 0.99) / _quantile(quiet, 0.99), at_most=2.0, parts=parts,
        ),
        Figure(
            "retention_rate", "traces removed a second, with their verdicts, beside the writers",
            rows / seconds, unit="/s",
        ),
    ]  # fmt: skip


def _compute(database: Database) -> tuple[float, float]:
    """Keep one session computing, and return when it began and ended."""
    began = time.time()
    with database.admin() as session:
        while time.time() < began + QUIET_SECONDS:
            session.one("select count(*) from generate_series(1, 200000) as i where i % 7 = 3")
    return began, time.time()


def _fill(database: Database, rows: int) -> int:
    with database.admin() as session:
        # The vectors of a million traces are another figure's.
        session.run("select flywheel.set_index_policy('labelled')")
        statements = max(1, rows // _STATEMENT)
        for n in range(statements):
            session.run(_FILL, (n % 90,))
        session.run("vacuum analyze")
        return statements * _STATEMENT


def _remove(database: Database, removal: Removal) -> None:
    with database.admin() as admin:
        admin.run("select flywheel.set_retention(null, '1 day')")
        admin.run("delete from flywheel._schedules where task <> 'retention'")
        admin.run("update flywheel._schedules set next_run_at = now()")
    with database.worker() as worker:
        removal.began = time.time()
        while True:
            found = worker.connection.execute(
                "select r.status, (r.result ->> 'removed')::integer, r.error, (r.result ->> 'rest_seconds')::float8"
                " from flywheel.run_schedules(10, 1) as r"
            ).fetchone()
            if found is None:
                break
            if found[0] != "ok":
                raise RuntimeError(found[2])
            removal.batches += 1
            removal.removed += found[1]
            time.sleep(found[3])
        removal.ended = time.time()


def _writers(server: Server, database: Database, folder: Path) -> subprocess.Popen[str]:
    question, answer = make_texts(1)[0]
    values = conninfo.conninfo_to_dict(database.writer_dsn)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
    environment = common.child_environment()
    environment |= {env: str(values[key]) for key, env in names.items() if key in values}
    script = folder / "insert.sql"
    script.write_text(_INSERT + ";\n")
    return subprocess.Popen(
        [
            server.program("pgbench"), "-n", "-M", "prepared", "-c", str(WRITERS), "-j", "1",
            "-R", str(RATE), "-T", "3600", "--log", f"--log-prefix={folder}/latency",
            "-D", f"input={question}", "-D", f"output={answer}", "-f", str(script), str(values["dbname"]),
        ],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _latencies(folder: Path) -> list[tuple[float, float]]:
    """(When it ended, milliseconds) of each INSERT."""
    found = []
    for path in folder.glob("latency.*"):
        for line in path.read_text().splitlines():
            fields = line.split()
            # client, number, microseconds since it was due, script, when, how late it began; the
            # last line may be cut
            if len(fields) == 7:
                ended = int(fields[4]) + int(fields[5]) / 1e6
                found.append((ended, (int(fields[2]) - int(fields[6])) / 1000))
    return found


def _quantile(values: list[float], share: float) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]
