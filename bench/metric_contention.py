"""Eight sessions that write into the same group: with the incremental metrics, and without.

Statements of 1,000 traces, and of one. Besides throughput, whether any of them was seen waiting for
a lock of another.
"""

from __future__ import annotations

import threading
import time

from bench import common
from bench.common import Database, Options, Server
from bench.report import Figure
from bench.texts import make_texts

WRITERS = 8
_MANY = """
    insert into flywheel.traces (pipeline, input, output)
    select 'support', s.input, s.output from source.rows as s where mod(s.n, 10) = %s
"""
_ONE = """
    insert into flywheel.traces (pipeline, input, output)
    select 'support', s.input, s.output from source.rows as s where s.n = %s
"""
# Locks on rows, tables and transactions; not those on pages and the end of a file, which are moments.
_WAITING = """
    select count(*) from pg_stat_activity
    where usename = 'flywheel_bench' and wait_event_type = 'Lock' and wait_event <> 'extend'
"""


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    sides = {name: server.database(f"metric_contention_{name}") for name in ("on", "off")}
    for name, database in sides.items():
        database.create_validators()
        database.create_source(10_000, make_texts(2000))
        with database.admin() as admin:
            admin.run("create index on source.rows (n); analyze source.rows")
            if name == "off":
                admin.run(
                    "select flywheel.alter_metric(name, 'view') from flywheel.metrics where storage = 'incremental'"
                )
    figures = []
    for kind, statement, bar in (("batch", _MANY, 0.9), ("single", _ONE, 0.65)):
        rates: dict[str, list[float]] = {name: [] for name in sides}
        waits = 0
        for n in range(options.rounds):
            for name, database in sides.items():
                with database.admin() as admin:
                    admin.run(common.EMPTY)
                server.checkpoint()
                rate, waited = _write(database, statement, min(options.seconds, 5))
                rates[name].append(rate)
                waits += waited if name == "on" else 0
            shown = ", ".join(f"{name} {values[-1]:,.0f}" for name, values in rates.items())
            common.note(f"round {n + 1} of {options.rounds}, statements a second: {shown}")
        figures.append(
            Figure(
                f"metric_contention_{kind}",
                f"throughput of {WRITERS} sessions writing to the same group, built-in incremental metrics on, over off",
                common.median(rates["on"]) / common.median(rates["off"]),
                at_least=bar,
                parts={
                    "on a second": common.median(rates["on"]),
                    "off a second": common.median(rates["off"]),
                    "ratio of the fastest": max(rates["on"]) / max(rates["off"]),
                    "times a writer was seen waiting for a lock": waits,
                },
            )
        )
    for name in sides:
        server.drop(f"metric_contention_{name}")
    return figures


def _write(database: Database, statement: str, seconds: float) -> tuple[float, int]:
    """Statements a second, and how often a session was seen to wait for a lock."""
    counts = [0] * WRITERS
    barrier = threading.Barrier(WRITERS + 1)

    def write(number: int) -> None:
        with database.writer() as session:
            barrier.wait()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                session.run(statement, ((counts[number] * WRITERS + number) % 10,))
                counts[number] += 1

    threads = [threading.Thread(target=write, args=(n,)) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    waits = 0
    with database.admin() as watcher:
        barrier.wait()
        start = time.monotonic()
        while any(thread.is_alive() for thread in threads):
            waits += watcher.one(_WAITING)
            time.sleep(0.1)
        took = time.monotonic() - start
    return sum(counts) / took, waits
