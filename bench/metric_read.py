"""Reading pass_rates over 10,000,000 verdicts in 10,000 groups, in each storage.

The verdicts are rows of the table, made without traces: 10 validators, 1,000 combinations of pipeline,
release and day. Then traces with 5 validators are written for a minute, in statements of 1,000 by
four sessions, and nothing is folded meanwhile. A reader asks for all rows of the metric.
"""

from __future__ import annotations

import threading
import time

from bench import common
from bench.common import Database, Options, Server
from bench.report import Figure
from bench.texts import make_texts

VERDICTS = 10_000_000
WRITERS = 4
SECONDS = 60

# Wide enough to be all of it, and short enough not to measure the client.
READ = "select count(*), sum(n), sum(passed), min(rate), max(rate_high) from flywheel.pass_rates"

_MAKE = """
    insert into flywheel._dimensions (dimension_id, pipeline, release, day)
    select flywheel._dimension_id('p' || d % 10, null, null, 'r' || d / 10 % 10, null, '2026-01-01Z'::timestamptz + d / 100 * interval '1 day'),
      'p' || d % 10, 'r' || d / 10 % 10, date '2026-01-01' + d / 100
    from generate_series(0, 999) as d;
    create temp table keys as
    select dimension_id, row_number() over (order by dimension_id) - 1 as d from flywheel._dimensions;
    create unique index on keys (d);
    analyze keys;
"""

# As fast as rows can be made: straight into the table, without its triggers.
_ROWS = """
    insert into flywheel._verdicts (trace_id, span_id, dimension_id, created_at, version_id, revision, status)
    select lpad(to_hex({first} + n), 32, '0')::uuid, flywheel._no_span(), k.dimension_id, now(), 1 + n % 10, 1,
      case when n % 7 < 5 then 'passed' when n % 7 = 5 then 'failed' else 'error' end
    from generate_series(0, {rows} - 1) as n
    join keys as k on k.d = n / 10 % 1000
"""


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    rows = options.rows(VERDICTS)
    database = server.database("metric_read")
    with database.admin() as admin:
        admin.run("select flywheel.alter_metric('pass_rates', 'view')")
        for n in range(10):
            admin.run(
                "select flywheel.create_validator(%s, 'sql', 'length(output) <= 2000')", (f"v{n}",)
            )
            if n >= 5:
                admin.run("select flywheel.disable_validator(%s)", (f"v{n}",))
        admin.run(_MAKE)
        admin.run("set session_replication_role = replica")
        step = 500_000
        for first in range(0, rows, step):
            admin.run(_ROWS.format(first=first, rows=min(step, rows - first)))
            common.note(f"{min(first + step, rows):,} verdicts present")
        admin.run("set session_replication_role = origin")
        admin.run("vacuum analyze flywheel._verdicts")
        start = time.perf_counter()
        admin.run("select flywheel.alter_metric('pass_rates', 'incremental')")
        admin.run("select flywheel.fold_metrics()")
        filled = time.perf_counter() - start
        assert admin.one("select state from flywheel.metrics where name = 'pass_rates'") == "ready"
    database.create_source(10_000, make_texts(2000))
    written = _write(database, options)
    with database.admin() as admin:
        # The same query in the two other storages, as metrics beside it.
        for name, storage in (("as_view", "view"), ("as_materialized", "materialized")):
            admin.run(
                "select flywheel._create_metric(%s, m.query, %s, null, null, '{}', true)"
                " from flywheel._metrics as m where m.name = 'pass_rates'", (name, storage),
            )  # fmt: skip
        refresh = admin.one(
            "select refresh_ms from flywheel._metrics where name = 'as_materialized'"
        )
        stream = admin.one("select stream_id from flywheel._metrics where name = 'pass_rates'")
        deltas = admin.one(f"select count(*) from flywheel._stream_{stream}_deltas")
        groups = admin.one("select count(*) from flywheel.pass_rates")
        incremental, materialized = common.interleave(
            options.rounds * 4,
            lambda: admin.timed(READ),
            lambda: admin.timed(READ.replace("pass_rates", "as_materialized")),
        )
        plain = [admin.timed(READ.replace("pass_rates", "as_view")) for _ in range(3)]
        kept = admin.one(READ.replace("count(*), ", "count(*) + "))
        assert kept == admin.one(
            READ.replace("count(*), ", "count(*) + ").replace("pass_rates", "as_view")
        )
        admin.run("select flywheel.fold_metrics()")
        folded = [admin.timed(READ) for _ in range(options.rounds * 4)]
    server.drop("metric_read")
    ms = common.medians(incremental).wall * 1e3
    parts = {
        "groups": groups,
        "traces written since": written,
        "deltas": deltas,
        "processor ms": (common.medians(incremental).cpu or 0) * 1e3,
        "view ms": common.medians(plain).wall * 1e3,
        "materialized ms": common.medians(materialized).wall * 1e3,
        "its refresh ms": refresh,
        "folded ms": common.medians(folded).wall * 1e3,
        "filling s": filled,
    }
    return [
        Figure(
            "metric_read",
            f"milliseconds to read pass_rates incrementally, {rows:,} verdicts, after {SECONDS} s of writes that"
            " are not folded",
            ms,
            at_most=20,
            parts=parts,
        ),
        Figure(
            "metric_read_speedup",
            "the same query as a plain view, over that",
            common.medians(plain).wall * 1e3 / ms,
            at_least=200,
        ),
    ]


def _write(database: Database, options: Options) -> int:
    """Write traces for a minute; returns how many."""
    seconds = max(5.0, SECONDS * min(1.0, options.scale))
    counts = [0] * WRITERS

    def write(number: int) -> None:
        end = time.monotonic() + seconds
        with database.writer() as session:
            while time.monotonic() < end:
                session.run(
                    "insert into flywheel.traces (pipeline, release, input, output)"
                    f" select 'p{number}', 'r1', s.input, s.output from source.rows as s where mod(s.n, 10) = %s",
                    (counts[number] % 10,),
                )
                counts[number] += 1

    threads = [threading.Thread(target=write, args=(n,)) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) * 1000
