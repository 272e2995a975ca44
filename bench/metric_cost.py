"""What keeping metrics current costs an INSERT of 1,000 traces with 5 validators.

One side has every built-in metric that can be incremental, the other the same metrics as plain views;
on empty tables, and on tables that hold 200,000 traces; with validators that say passed or failed, and
with validators that also score. For information, a side whose triggers for metrics are disabled
altogether. The deltas are not folded while it runs.
"""

from __future__ import annotations

from bench import common
from bench.common import Database, Options, Server, Timing
from bench.report import Figure
from bench.texts import make_texts

STATEMENTS = 10
ROWS = 1000

_INSERT = f"""
    insert into flywheel.traces (pipeline, input, output)
    select 'support', s.input, s.output from source.rows as s
    where mod(s.n, {STATEMENTS}) = %s
"""

_PLAIN = """
    select flywheel.alter_metric(name, 'view') from flywheel.metrics where storage = 'incremental'
"""

_INCREMENTAL = """
    select flywheel.alter_metric(name, 'incremental')
    from flywheel._metrics
    where is_builtin and refusal is null and storage <> 'incremental'
"""

_SCORED = """
    select flywheel.alter_validator(name, score => format('length(output) / %s.0 + length(input)', 9 + validator_id))
    from flywheel.validators
"""

_NO_TRIGGERS = "; ".join(
    f"alter table flywheel.{table} disable trigger {trigger}"
    for table in ("traces", "spans", "_verdicts", "_label_heads")
    for trigger in ("_300_emit_inserted", "_310_emit_updated", "_320_emit_deleted")
)


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    return [*_compare(server, options, is_scored=False), *_compare(server, options, is_scored=True)]


def _compare(server: Server, options: Options, *, is_scored: bool) -> list[Figure]:
    sides = {name: server.database(f"metric_cost_{name}") for name in ("on", "off", "none")}
    for name, database in sides.items():
        database.create_validators()
        database.create_source(STATEMENTS * ROWS, make_texts(2000))
        with database.admin() as admin:
            if is_scored:
                admin.run(_SCORED)
            admin.run(_PLAIN if name != "on" else _INCREMENTAL)
            if name == "none":
                admin.run(_NO_TRIGGERS)
    figures = []
    for kind, rows in (("empty", 0), ("full", options.rows(200_000))):
        if rows:
            for database in sides.values():
                _fill(database, rows)
        timings = _measure(server, options, sides, is_empty=rows == 0)
        wall, cpu = common.ratio(timings["on"], timings["off"])
        bare, _ = common.ratio(timings["off"], timings["none"])
        figures.append(
            Figure(
                f"metric_cost_{kind}{'_scored' if is_scored else ''}",
                f"an INSERT of 1,000 traces with 5 validators{' that score' if is_scored else ''} and all"
                f" built-in incremental metrics, over the same with plain views; {rows:,} traces present",
                wall,
                at_most=1.2,
                parts={
                    "on ms": common.medians(timings["on"]).wall / STATEMENTS * 1e3,
                    "off ms": common.medians(timings["off"]).wall / STATEMENTS * 1e3,
                    "ratio of processor time": cpu,
                    "off, over no triggers for metrics": bare,
                },
            )
        )
    for name in sides:
        server.drop(f"metric_cost_{name}")
    return figures


def _fill(database: Database, rows: int) -> None:
    with database.admin() as session:
        for _ in range(0, rows, STATEMENTS * ROWS):
            session.run(common.INSERT_ALL)
        session.run("vacuum analyze flywheel.traces, flywheel._verdicts")
        session.run("select flywheel.fold_metrics()")


def _measure(
    server: Server, options: Options, sides: dict[str, Database], *, is_empty: bool
) -> dict[str, list[Timing]]:
    writers = {name: database.writer() for name, database in sides.items()}
    admins = {name: database.admin() for name, database in sides.items()}

    def side(name: str) -> Timing:
        if is_empty:
            admins[name].run(common.EMPTY)
        server.checkpoint()
        return writers[name].timed(*(_INSERT % n for n in range(STATEMENTS)))

    runs = common.interleave(options.rounds, *(lambda n=n: side(n) for n in sides))
    for session in (*writers.values(), *admins.values()):
        session.connection.close()
    return dict(zip(sides, runs, strict=True))
