"""50 validators against 5, and a set of 1,000.

The cost per (trace, validator) is the whole time of an INSERT, the trace's own storage included,
divided by traces times validators. The marginal figure subtracts the INSERT without validators
first, so that it compares nothing but what validators cost.
"""

from __future__ import annotations

import time

from bench import common
from bench.common import VALIDATORS, Database, Options, Server, Timing, Validator
from bench.report import Figure
from bench.texts import make_texts

MEGABYTE = 1024 * 1024


def make_validators(count: int) -> list[Validator]:
    """Make as many as wanted, in equal parts variants of the five."""
    variants = (
        ("2000", "{n}"),
        ("''", "'{n}'"),
        (r"[\w.+-]+@", r"[\w.+-]+{n}@"),
        ("embark", "embark{n}"),
        ("model", "model {n}"),
    )
    found = []
    for n in range(count):
        validator, (old, new) = VALIDATORS[n % 5], variants[n % 5]
        text = validator.expression.replace(old, new.format(n=2000 + n))
        found.append(Validator(f"{validator.name}_{n}", text))
    return found


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    return [*_fifty(server, options), *_thousand(server, options)]


def _fifty(server: Server, options: Options) -> list[Figure]:
    rows = options.rows(10_000)
    databases: dict[int, Database] = {}
    for count in (0, 5, 50):
        databases[count] = server.database(f"validators_{count}")
        create_at_once(databases[count], make_validators(count))
        databases[count].create_source(rows, make_texts(1000))

    def insert(count: int) -> Timing:
        with databases[count].admin() as admin:
            admin.run(common.EMPTY)
            admin.run("checkpoint")
        with databases[count].writer() as writer:
            return writer.timed(common.INSERT_ALL)

    none, five, fifty = common.interleave(
        options.rounds, lambda: insert(0), lambda: insert(5), lambda: insert(50)
    )
    for count in databases:
        server.drop(f"validators_{count}")

    def each(timings: list[Timing], count: int) -> float:
        return common.medians(timings).wall / rows / count * 1e6

    base = common.medians(none).wall / rows * 1e6
    marginal_of_5, marginal_of_50 = each(five, 5) - base / 5, each(fifty, 50) - base / 50
    return [
        Figure(
            "many_validators",
            f"cost per (trace, validator) of 50 validators over that of 5; {rows:,} traces in one"
            " statement, the traces' own storage included",
            each(fifty, 50) / each(five, 5),
            at_most=1.1,
            parts={"of 50 us": each(fifty, 50), "of 5 us": each(five, 5), "bare trace us": base},
        ),
        Figure(
            "many_validators_marginal",
            "the same with the cost of the INSERT without validators subtracted",
            marginal_of_50 / marginal_of_5,
            parts={"of 50 us": marginal_of_50, "of 5 us": marginal_of_5},
        ),
    ]


def create_at_once(database: Database, validators: list[Validator]) -> None:
    """Create validators and enable them as one change."""
    with database.admin() as session:
        with session.connection.transaction():
            for validator in validators:
                session.run(
                    "select flywheel.create_validator(%s, 'sql', %s, enabled => false)",
                    (validator.name, validator.expression),
                )
        with session.connection.transaction():
            session.run(
                """
                with change as (select flywheel._begin_change() as generation)
                update flywheel._validator_versions as v
                set active_generations = int4multirange(int4range(c.generation, null))
                from change as c
                """
            )
            session.run("select flywheel._compile()")


def _thousand(server: Server, options: Options) -> list[Figure]:
    count = max(50, int(1000 * options.scale))
    bare, many = server.database("validators_none"), server.database("validators_1000")
    compiled = []
    create_at_once(many, make_validators(count))
    with many.admin() as session:
        for _ in range(options.rounds):
            start = time.perf_counter()
            session.run("select flywheel._compile()")
            compiled.append(time.perf_counter() - start)
    firsts, more, more_bulk = [], [], []
    for _ in range(options.rounds):
        base, base_bulk, _first = _session_memory(bare)
        memory, memory_bulk, first = _session_memory(many)
        firsts.append(first)
        more.append((memory - base) / MEGABYTE)
        more_bulk.append((memory_bulk - base_bulk) / MEGABYTE)
    server.drop("validators_none")
    server.drop("validators_1000")
    return [
        Figure(
            "compile",
            f"one compilation of {count:,} validators",
            common.median(compiled),
            unit="s",
            at_most=5,
            parts={
                "slowest s": max(compiled),
                "first INSERT of a session s": common.median(firsts),
            },
        ),
        Figure(
            "session_memory",
            f"private memory of a session after its first INSERTs with {count:,} validators, beyond"
            " that of one without any",
            common.median(more),
            unit="MB",
            at_most=20,
            parts={"after a statement of 1,001 rows too MB": common.median(more_bulk)},
        ),
    ]


def _session_memory(database: Database) -> tuple[int, int, float]:
    """Private bytes after ten single rows, after a large statement, seconds of the first row.

    More than 1,000 rows are planned for themselves. Not many more, because PostgreSQL keeps 32
    compiled patterns a session, and these validators have hundreds.
    """
    insert = "insert into flywheel.traces (input, output) values ('x', 'y')"
    with database.writer() as writer:
        first = writer.timed(insert).wall
        for _ in range(9):
            writer.run(insert)
        small = writer.private_bytes()
        writer.run(
            "insert into flywheel.traces (input, output)"
            " select 'x', 'y' from generate_series(1, 1001)"
        )
        large = writer.private_bytes()
    with database.admin() as admin:
        admin.run(common.EMPTY)
    if small is None or large is None:
        raise RuntimeError("the memory of a session can be read on the server's own machine only")
    return small, large, first
