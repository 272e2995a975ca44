"""Single-row INSERTs by 8 clients, against one hand-written statement and against no validators.

Floor: one prepared statement that inserts the trace and its verdict rows, with the validators'
expressions written out and the dimension's key as a constant, into tables of identical definition
without triggers.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
from dataclasses import dataclass

from psycopg import conninfo

from bench import common
from bench.common import VALIDATORS, Database, Options, Server, Validator
from bench.report import Figure
from bench.texts import make_texts

CLIENTS = 8

# Seconds of one pgbench run. The sides take turns this often: how fast a machine is that other
# programs use changes within seconds.
SLICE = 2

INSERT = "insert into flywheel.traces (pipeline, input, output) values ('support', :input, :output)"


def hand_written(validators: tuple[Validator, ...] = VALIDATORS) -> str:
    """One statement that does what the triggers do, as somebody without them would write it."""
    checks = ", ".join(f"({n}, {v.expression})" for n, v in enumerate(validators, 1))
    return f"""
    with t as (
      insert into floor.traces (pipeline, input, output) values ('support', :input, :output)
      returning trace_id, output, revision
    )
    insert into floor._verdicts
      (trace_id, span_id, dimension_id, created_at, version_id, revision, status)
    select t.trace_id, '00000000-0000-0000-0000-000000000000', 4711, now(), c.version_id,
      t.revision,
      case when c.passed then 'passed' when not c.passed then 'failed' else 'skipped' end
    from t, lateral (values {checks}) as c (version_id, passed)
    """


@dataclass(frozen=True)
class Rate:
    """Transactions a second, and the processor seconds the server's sessions spent on each."""

    tps: float
    cpu: float | None


def pgbench(server: Server, database: Database, script: str, *, seconds: int) -> Rate:
    """Run one script with pgbench, prepared."""
    question, answer = make_texts(1)[0]
    values = conninfo.conninfo_to_dict(database.writer_dsn)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
    environment = common.child_environment()
    environment |= {env: str(values[key]) for key, env in names.items() if key in values}
    before = server.processor_seconds()
    done = subprocess.run(
        [
            server.program("pgbench"), "-n", "-M", "prepared", "-c", str(CLIENTS),
            "-j", str(min(CLIENTS, os.cpu_count() or 1)), "-T", str(seconds),
            "-D", f"input={question}", "-D", f"output={answer}", "-f", "-", str(values["dbname"]),
        ],
        env=environment, input=" ".join(script.split()) + ";\n",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    rate = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    count = re.search(r"actually processed: (\d+)", done.stdout)
    if done.returncode != 0 or rate is None or count is None:
        raise RuntimeError(f"pgbench failed: {done.stderr.strip()}")
    after = server.processor_seconds()
    cpu = None if before is None or after is None else (after - before) / int(count[1])
    return Rate(float(rate[1]), cpu)


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    validated = server.database("single_row")
    validated.create_validators()
    validated.create_floor()
    bare = server.database("single_row_bare")
    sides = {
        "floor": (validated, hand_written()),
        "ours": (validated, INSERT),
        "no validators": (bare, INSERT),
    }
    tps: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for n in range(options.rounds):
        server.checkpoint()
        slices: dict[str, list[Rate]] = {name: [] for name in sides}
        for _ in range(max(1, round(options.seconds / SLICE))):
            for name, (database, script) in sides.items():
                slices[name].append(pgbench(server, database, script, seconds=SLICE))
        for name, rates in slices.items():
            tps[name].append(statistics.mean(rate.tps for rate in rates))
            cpu[name].append(statistics.mean((rate.cpu or 0) * 1e6 for rate in rates))
        shown = ", ".join(f"{name} {values[-1]:,.0f}" for name, values in tps.items())
        common.note(f"round {n + 1} of {options.rounds}, a second: {shown}")
    server.drop("single_row")
    server.drop("single_row_bare")

    middle = {name: common.median(values) for name, values in tps.items()}
    best = {name: max(values) for name, values in tps.items()}
    busy = {name: common.median(values) or None for name, values in cpu.items()}
    return [
        Figure(
            "single_row",
            f"throughput of single-row INSERTs, {CLIENTS} clients, over one hand-written statement"
            " without triggers",
            middle["ours"] / middle["floor"],
            at_least=0.80,
            parts={
                "ours a second": middle["ours"],
                "floor a second": middle["floor"],
                "ratio of the fastest": best["ours"] / best["floor"],
                "ours processor us": busy["ours"],
                "floor processor us": busy["floor"],
            },
        ),
        Figure(
            "single_row_cost",
            f"throughput of single-row INSERTs, {CLIENTS} clients, over that without validators",
            middle["ours"] / middle["no validators"],
            at_least=0.60,
            parts={
                "ours a second": middle["ours"],
                "no validators a second": middle["no validators"],
                "ratio of the fastest": best["ours"] / best["no validators"],
                "the floor's own ratio": middle["floor"] / middle["no validators"],
                "ours processor us": busy["ours"],
                "no validators processor us": busy["no validators"],
            },
        ),
    ]
