"""At how many reads per write which storage of a metric costs least, for five kinds of aggregates.

500,000 traces in 1,000 groups (100 pipelines, 10 days). A write is an INSERT of 1,000 traces of one day
and ten pipelines. Measured are: the query as a view (V), the refresh of a materialized one (M) and reading
it (m), reading an incremental one after 20 writes that are not folded (I), and the time its trigger takes
within a write (W). Per write and r reads, a view costs r V, an incremental metric W + r I, and a
materialized one that is refreshed after every write M + r m. With --scale 1 or more the table in
docs/explanation/metrics.md is written anew.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from bench import common
from bench.common import Options, Server, Session
from bench.report import Figure

TRACES = 500_000
WRITES = 20
PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "metrics.md"

KINDS = {
    "counts and rates": "count(*) as n, count(*) filter (where status = 'error') as errors,"
    " avg((status = 'ok')::int) as ok",
    "sum, mean, deviation": "sum(length(output)) as s, avg(length(output)) as a, stddev(length(output)) as sd",
    "minimum, maximum": "min(length(output)) as lo, max(length(output)) as hi",
    "quantiles": "flywheel.quantile(0.5) within group (order by length(output)) as p50,"
    " flywheel.quantile(0.95) within group (order by length(output)) as p95",
    "distinct counts": "flywheel.distinct_count(user_id) as users",
}

_FILL = """
    insert into flywheel.traces (pipeline, user_id, output, status, started_at)
    select 'p' || n % 100, 'u' || n % 4999, repeat('x', 20 + n % 1000 * 7919 % 1000), (array['ok','ok','ok','error'])[1 + n % 4],
      '2026-01-01Z'::timestamptz + n / 100 % 10 * interval '1 day'
    from generate_series(1, {rows}) as n
"""
_WRITE = """
    explain (analyze, format json)
    insert into flywheel.traces (pipeline, user_id, output, status, started_at)
    select 'p' || n % 10, 'u' || n * 31 % 4999, repeat('x', 20 + n * 31 % 1000), 'ok', '2026-01-10Z'
    from generate_series(1, 1000) as n
"""


@dataclass(frozen=True)
class Costs:
    """Milliseconds."""

    view: float
    refresh: float
    materialized: float
    incremental: float
    write: float

    @property
    def from_view(self) -> float:
        """Reads per write from which incremental costs less than a view."""
        return self.write / max(self.view - self.incremental, 1e-9)

    @property
    def from_incremental(self) -> float | None:
        """Reads per write from which refreshing after every write costs less than incremental."""
        if self.incremental <= self.materialized:
            return None
        return max(0.0, (self.refresh - self.write) / (self.incremental - self.materialized))


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    rows = options.rows(TRACES)
    database = server.database("metric_crossover")
    found: dict[str, Costs] = {}
    with database.admin() as admin:
        admin.run(
            "select flywheel.alter_metric(name, 'view') from flywheel.metrics where storage <> 'view'"
        )
        admin.run("set session_replication_role = replica")
        admin.run(_FILL.format(rows=rows))
        admin.run("set session_replication_role = origin")
        admin.run("vacuum analyze flywheel.traces")
        for n, (kind, aggregates) in enumerate(KINDS.items()):
            found[kind] = _measure(admin, options, f"kind_{n}", aggregates)
            common.note(f"{kind}: {found[kind]}")
    server.drop("metric_crossover")
    if options.scale >= 1:
        _write_page(found, rows)
    return [
        Figure(
            f"metric_crossover_{n}",
            f"{kind}: reads per write of 1,000 rows from which incremental costs less than a view",
            costs.from_view,
            parts={
                "view ms": costs.view,
                "refresh ms": costs.refresh,
                "materialized ms": costs.materialized,
                "incremental ms": costs.incremental,
                "write ms": costs.write,
                "reads per write from which a refresh each costs less still": costs.from_incremental,
            },
        )
        for n, (kind, costs) in enumerate(found.items(), 1)
    ]


def _measure(admin: Session, options: Options, name: str, aggregates: str) -> Costs:
    query = (
        f"select pipeline, (started_at at time zone 'UTC')::date as day, {aggregates}"
        " from flywheel.traces group by pipeline, (started_at at time zone 'UTC')::date"
    )
    read = f"select * from flywheel.{name}"
    admin.run("select flywheel.create_metric(%s, %s)", (name, query))
    view = _read(admin, read, options.rounds)
    admin.run("select flywheel.alter_metric(%s, 'materialized')", (name,))
    refresh = common.median(
        [_timed(admin, f"select flywheel.refresh_metric('{name}')") for _ in range(options.rounds)]
    )
    materialized = _read(admin, read, options.rounds * 4)
    admin.run("select flywheel.alter_metric(%s, 'incremental')", (name,))
    admin.run("select flywheel.fold_metrics(60)")
    assert admin.one("select state from flywheel.metrics where name = %s", (name,)) == "ready"
    write = common.median([_emission(admin) for _ in range(WRITES)])
    incremental = _read(admin, read, options.rounds * 4)
    admin.run("select flywheel.drop_metric(%s)", (name,))
    return Costs(view, refresh, materialized, incremental, write)


def _read(admin: Session, query: str, rounds: int) -> float:
    return common.median([_timed(admin, query) for _ in range(rounds)])


def _timed(admin: Session, statement: str) -> float:
    return admin.timed(statement).wall * 1e3


def _emission(admin: Session) -> float:
    plan = admin.one(_WRITE)
    plan = json.loads(plan) if isinstance(plan, str) else plan
    return float(sum(t["Time"] for t in plan[0]["Triggers"] if "emit" in t["Trigger Name"]))


def _write_page(found: dict[str, Costs], rows: int) -> None:
    lines = [
        "| aggregates | view: read | materialized: refresh | read | incremental: write | read"
        " | incremental wins over the view from | a refresh after every write wins over both from |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, c in found.items():
        upper = c.from_incremental
        lines.append(
            f"| {kind} | {c.view:,.0f} ms | {c.refresh:,.0f} ms | {c.materialized:.1f} ms | {c.write:.1f} ms"
            f" | {c.incremental:,.1f} ms | {c.from_view:.3f} reads per write"
            f" | {'never' if upper is None else f'{upper:,.0f} reads per write'} |"
        )
    lines += ["", f"Over {rows:,} traces in 1,000 groups."]
    text = PAGE.read_text(encoding="utf-8")
    table = "<!-- crossover -->\n" + "\n".join(lines) + "\n<!-- end -->"
    PAGE.write_text(
        re.sub(r"<!-- crossover -->.*?<!-- end -->", lambda _: table, text, flags=re.DOTALL),
        encoding="utf-8",
    )
