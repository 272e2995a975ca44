"""Cost of a trace with 1,000,000 traces and 5,000,000 verdicts present, against empty tables.

Both sides store the same rows in the same way: statements of 1,000 traces and of one.
"""

from __future__ import annotations

from bench import common
from bench.common import Database, Options, Server, Session, Timing
from bench.report import Figure
from bench.texts import make_texts

STATEMENTS = 10
ROWS = 1000
SINGLE = 1000

_MANY = f"""
    insert into flywheel.traces (pipeline, input, output)
    select 'support', s.input, s.output from source.rows as s
    where mod(s.n, {STATEMENTS}) = %s
"""

# In one transaction, so that the disk's latency does not drown the difference.
_ONE_BY_ONE = f"""
    do $$
    declare
      v_row record;
    begin
      for v_row in select s.input, s.output from source.rows as s where s.n <= {SINGLE} loop
        insert into flywheel.traces (pipeline, input, output)
        values ('support', v_row.input, v_row.output);
      end loop;
    end
    $$
"""


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    rows = options.rows(1_000_000)
    full, empty = server.database("full_table"), server.database("full_table_empty")
    for database in (full, empty):
        database.create_validators()
        database.create_source(STATEMENTS * ROWS, make_texts(2000))
    _fill(full, rows)
    with full.writer() as writer, empty.writer() as writer_of_empty, empty.admin() as admin:
        verdicts = _estimate(full)
        figures = []
        for kind, how, statements, traces in (
            ("", "1,000 a statement", [_MANY % n for n in range(STATEMENTS)], STATEMENTS * ROWS),
            ("_single", "one a statement", [_ONE_BY_ONE], SINGLE),
        ):

            def in_empty(statements: list[str] = statements) -> Timing:
                admin.run(common.EMPTY)
                server.checkpoint()
                return writer_of_empty.timed(*statements)

            def in_full(statements: list[str] = statements) -> Timing:
                server.checkpoint()
                return writer.timed(*statements)

            floors, runs = common.interleave(options.rounds, in_empty, in_full)
            wall, cpu = common.ratio(runs, floors)
            figures.append(
                Figure(
                    f"full_table{kind}",
                    f"cost of a trace, {how},"
                    f" with {rows:,} traces and {verdicts:,} verdicts present, over empty tables",
                    wall,
                    at_most=1.2,
                    parts={
                        "full us": common.medians(runs).wall / traces * 1e6,
                        "empty us": common.medians(floors).wall / traces * 1e6,
                        "ratio of processor time": cpu,
                    },
                )
            )
    server.drop("full_table")
    server.drop("full_table_empty")
    return figures


def _fill(database: Database, rows: int) -> None:
    """Fill the tables through the triggers."""
    stored = 0
    with database.admin() as session:
        while stored < rows:
            _fill_some(session)
            stored += STATEMENTS * ROWS
            if stored % 100_000 == 0:
                common.note(f"{stored:,} traces present")
        session.run("vacuum analyze flywheel.traces, flywheel._verdicts")


def _fill_some(session: Session) -> None:
    session.run(common.INSERT_ALL)


def _estimate(database: Database) -> int:
    with database.admin() as session:
        found: int = session.one("select count(*) from flywheel._verdicts")
        return found
