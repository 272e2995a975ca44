"""100,000 traces in one statement and 5 validators, against the same rows without triggers.

Floor, in one transaction: the same traces into a table of identical definition (defaults and
indexes, no triggers), the same verdict rows into another, and one bare SELECT of the validators'
expressions over the same rows.
"""

from __future__ import annotations

from bench import common
from bench.common import VALIDATORS, Options, Server, Timing
from bench.report import Figure
from bench.texts import make_texts


def bare_select() -> str:
    """Evaluate every expression on every row and send back one row."""
    counts = ", ".join(f"count(*) filter (where {v.expression})" for v in VALIDATORS)
    return f"select {counts} from source.rows"


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    rows = options.rows(100_000)
    database = server.database("bulk_insert")
    database.create_validators()
    database.create_floor()
    database.create_source(rows, make_texts(2000))
    with database.admin() as admin, database.writer() as writer:
        writer.run(common.INSERT_ALL)
        database.keep_verdicts()

        def ours() -> Timing:
            admin.run(common.EMPTY)
            admin.run("checkpoint")
            return writer.timed(common.INSERT_ALL)

        def floor() -> Timing:
            admin.run(common.EMPTY_FLOOR)
            admin.run("checkpoint")
            return writer.timed(common.FLOOR_INSERT_ALL, common.FLOOR_VERDICTS, bare_select())

        floors, runs = common.interleave(options.rounds, floor, ours)
        for table in ("traces", "_verdicts"):
            stored = admin.one(f"select count(*) from flywheel.{table}")
            if stored != admin.one(f"select count(*) from floor.{table}"):
                raise AssertionError(f"the two sides did not store the same number of {table}")

        admin.run(common.EMPTY_FLOOR)
        traces = writer.timed(common.FLOOR_INSERT_ALL)
        verdicts = writer.timed(common.FLOOR_VERDICTS)
        expressions = writer.timed(bare_select())
    server.drop("bulk_insert")

    wall, cpu = common.ratio(runs, floors)
    return [
        Figure(
            "bulk_insert",
            f"{rows:,} traces in one statement, 5 validators, over the same rows without triggers"
            " + one SELECT of the expressions",
            wall,
            at_most=1.15,
            parts={
                "ours s": common.medians(runs).wall,
                "floor s": common.medians(floors).wall,
                "its traces s": traces.wall,
                "its verdicts s": verdicts.wall,
                "its expressions s": expressions.wall,
                "ratio of processor time": cpu,
                "ratio of the fastest": min(t.wall for t in runs) / min(t.wall for t in floors),
            },
        )
    ]
