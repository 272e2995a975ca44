"""An incremental metric equals its plain query at every moment, whatever happens around it."""

import contextlib
import math
import random
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import Connection, errors

# Every aggregate and clause that can be maintained, over each fact.
METRICS: dict[str, LiteralString] = {
    "counts": """
        select pipeline, variant, count(*) as n, count(output) as outputs,
          count(*) filter (where status = 'error') as failed,
          avg((status = 'ok')::int) as ok_rate
        from flywheel.traces group by pipeline, variant""",
    "lengths": """
        select pipeline, sum(length(output)) as s, avg(length(output)) as a, min(length(output)) as lo,
          max(length(output)) as hi, stddev(length(output)) as sd, var_pop(length(output)) as vp,
          bool_and(length(output) > 2) as every_long, bool_or(length(output) > 8) as some_long
        from flywheel.traces where input is not null group by pipeline
        having count(*) > 1 order by pipeline""",
    "attributes": """
        select attributes ->> 'kind' as kind, count(*) as n, sum((attributes ->> 'cost')::numeric) as cost,
          avg((nullif(attributes ->> 'x', 'oops'))::float8) as x, stddev_pop((nullif(attributes ->> 'x', 'oops'))::float8) as sd,
          min(attributes ->> 'x') as lo
        from flywheel.traces group by 1""",
    "latencies": """
        select date_trunc('hour', started_at, 'UTC') as hour, count(*) as n,
          avg(ended_at - started_at) as mean, max(ended_at - started_at) as hi, min(started_at) as first
        from flywheel.traces group by 1""",
    "everything": "select count(*) as n, max(output) as last, sum(length(input)) as s from flywheel.traces",
    "sketches": """
        select pipeline, flywheel.quantile(0.5) within group (order by length(output)) as median,
          flywheel.quantile(0.9) within group (order by length(output)) filter (where status = 'ok') as p90,
          flywheel.distinct_count(user_id) as users, width_bucket(length(output), 0, 10, 3) as bucket
        from flywheel.traces group by pipeline, width_bucket(length(output), 0, 10, 3)""",
    "steps": """
        select node, kind, count(*) as n, sum(input_tokens) as tokens, sum(cost_usd) as cost,
          max(output_tokens) as hi, flywheel.distinct_count(trace_id) as traces
        from flywheel.spans where kind <> 'tool' group by node, kind""",
    "rates": """
        with counts as (
          select validator, day, count(*) filter (where passed) as passed, count(*) as n, avg(score) as score
          from flywheel.verdicts where pipeline <> 'c' group by validator, day
        )
        select validator, day, n, passed::float8 / n as rate, score, rank() over (order by n, validator, day) as rank
        from counts where n > 0""",
    "scores": """
        select v.validator, v.version, v.pipeline, v.status, count(*) as n, min(v.score) as lo, max(v.score) as hi,
          flywheel.quantile(0.25) within group (order by v.score) as q
        from flywheel.verdicts as v group by v.validator, v.version, v.pipeline, v.status""",
    "targets": """
        select validator, span_id is null as is_trace, count(span_id) as spans, flywheel.distinct_count(span_id) as ids
        from flywheel.verdicts group by validator, span_id is null""",
    "opinions": """
        select validator, version, split, coalesce(labeler, '') as labeler, count(*) as n, avg(passed::int) as rate,
          avg(score) as score, min(score) as lo, max(score) as hi, count(span_id) as spans,
          flywheel.quantile(0.5) within group (order by score) as median, flywheel.distinct_count(trace_id) as traces
        from flywheel.current_labels group by validator, version, split, coalesce(labeler, '')""",
    "by_validator": "select validator, count(*) as n from flywheel.current_labels group by validator",
    "of_one": "select count(*) as n, max(score) as hi from flywheel.current_labels where validator = 'short'",
    "gold": """
        select l.pipeline, l.attributes ->> 'kind' as kind, count(gold_label) as n, max(l.created_at) as newest,
          max(l.label_id) as last, count(*) filter (where l.source = 'llm_default') as proposed
        from flywheel.current_labels as l where l.validator <> 'step' group by 1, 2""",
    "pass_rates_again": "select validator, sum(n) as n, sum(passed) as passed from flywheel.pass_rates group by 1",
}  # fmt: skip
INCREMENTAL = [name for name in METRICS if name != "pass_rates_again"]

# Those above, the built-in ones, and random ones.
QUERIES = "select name, query from flywheel._metrics where stream_id is not null"


def _create(session: Connection) -> None:
    session.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 5')")
    session.execute(
        "select flywheel.create_validator('scored', 'sql', 'length(output) < 7', score => 'length(output) / 3.0')"
    )
    session.execute(
        "select flywheel.create_validator('partial', 'sql', $$(attributes ->> 'x')::float8 < 5$$, pipeline => 'a')"
    )
    session.execute(
        "select flywheel.create_validator('step', 'sql', 'length(output) < 5', subject => 'span')"
    )
    for name, query in METRICS.items():
        storage = "incremental" if name in INCREMENTAL else "view"
        session.execute("select flywheel.create_metric(%s, %s, %s)", (name, query, storage))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float | Decimal) and isinstance(b, float | Decimal):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


def _compare(session: Connection) -> None:
    """Compare in one snapshot."""
    for name, query in session.execute(QUERIES).fetchall():
        kept = session.execute(f"select q.* from flywheel.{name} as q".encode()).fetchall()
        plain = session.execute(query.encode()).fetchall()
        kept.sort(key=repr)
        plain.sort(key=repr)
        if len(kept) != len(plain) or not all(
            _same(a, b) for x, y in zip(kept, plain, strict=True) for a, b in zip(x, y, strict=True)
        ):
            # Rows whose floats differ in the last digit may have been sorted apart.
            rest = list(plain)
            for row in kept:
                match = next(
                    (r for r in rest if all(_same(a, b) for a, b in zip(row, r, strict=True))), None
                )
                assert match is not None, (name, query, row, kept, plain)
                rest.remove(match)
            assert rest == [], (name, query, rest)


def _observe(observer: Connection) -> None:
    with observer.transaction():
        observer.execute("set transaction isolation level repeatable read, read only")
        _compare(observer)


class Writer:
    """Random changes in one session, of rows that only it touches."""

    def __init__(self, session: Connection, number: int, chance: random.Random) -> None:
        self.session = session
        self.user = f"w{number}"
        self.chance = chance
        self.is_open = False
        self.savepoints = 0

    def _texts(self) -> str:
        c = self.chance
        count = c.choice([1, 1, 2, 5, 40])
        return (
            f"select flywheel.uuidv7(), (array['a','b','c'])[1 + i % {c.randint(1, 3)}], "
            f"{c.choice(['null', chr(39) + 'v1' + chr(39)])}, '{self.user}', "
            f"case when i % 7 = 0 then null else 'q' end, "
            f"case when i % 5 = 0 then null else repeat('x', (i * {c.randint(1, 9)}) % 11) end, "
            f"(array['ok','ok','error'])[1 + i % 3], "
            f"timestamptz '2026-01-01 00:30Z' + i * interval '{c.randint(1, 50)} minutes', "
            f"case when i % 3 = 0 then null else timestamptz '2026-03-01Z' + i * interval '1 second' end, "
            f"jsonb_build_object('kind', i % 2, 'cost', i * 0.1, 'x', (array['1.5','NaN','-2','oops','1e3','Infinity'])[1 + i % {c.choice([1, 1, 6])}]) "
            f"from generate_series(1, {count}) as i"
        )

    def _columns(self) -> str:
        return "trace_id, pipeline, variant, user_id, input, output, status, started_at, ended_at, attributes"

    def change(self) -> str:
        """Return one random statement."""
        c = self.chance
        mine = f"user_id = '{self.user}'"
        some = f"trace_id in (select trace_id from flywheel.traces where {mine} order by trace_id limit {c.randint(1, 6)} offset {c.randint(0, 5)})"
        return c.choice(
            [
                f"insert into flywheel.traces ({self._columns()}) {self._texts()}",
                f"insert into flywheel.traces ({self._columns()}) {self._texts()}",
                f"update flywheel.traces set output = repeat('y', {c.randint(0, 12)}) where {some}",
                f"update flywheel.traces set pipeline = '{c.choice('abc')}', variant = null where {some}",
                f"update flywheel.traces set started_at = started_at - interval '1 day', status = 'ok' where {some}",
                f'update flywheel.traces set attributes = \'{{"kind": 1, "x": 7}}\' where {some}',
                f"delete from flywheel.traces where {some}",
                f"delete from flywheel.traces where {mine} and length(output) >= {c.randint(4, 9)}",
                f"insert into flywheel.traces ({self._columns()}) select {self._columns()} from flywheel.traces where {some} "
                f"on conflict (trace_id) do update set output = 'conflict', user_id = excluded.user_id",
                f"merge into flywheel.traces as t using (select trace_id from flywheel.traces where {some}) as s "
                "on t.trace_id = s.trace_id when matched and t.status = 'ok' then delete "
                "when matched then update set output = 'merged' when not matched then do nothing",
                f"insert into flywheel.spans (trace_id, node, kind, output, input_tokens, output_tokens, cost_usd) "
                f"select trace_id, (array['x','y'])[1 + (random() * 1.9)::int % 2], (array['tool','writer'])[{c.randint(1, 2)}], repeat('z', {c.randint(0, 9)}), {c.randint(0, 9)}, {c.randint(0, 9)}, 0.25 "
                f"from flywheel.traces where {some}",
                f"update flywheel.spans set node = 'moved', input_tokens = null where {some}",
                f"delete from flywheel.spans where {some}",
                *self._labels(some),
            ]
        )

    def _labels(self, some: str) -> list[str]:
        c = self.chance
        source = c.choice(["human", "human", "llm_default"])
        return [
            f"select flywheel.label(trace_id, '{c.choice(['short', 'scored'])}', {c.choice(['true', 'false'])}, "
            f"score => {c.choice(['null', '0.5', '7', '-1e3'])}, labeler => 'someone', source => '{source}') "
            f"from flywheel.traces where {some}",
            f"select flywheel.label(trace_id, 'scored', gold_label => 'yes', source => '{source}') "
            f"from flywheel.traces where {some}",
            f"select flywheel.label(trace_id, 'step', false, span_id => span_id) from flywheel.spans where {some}",
            f"select flywheel.withdraw_label(label_id) from flywheel.current_labels where {some} and length(split) > {c.choice([0, 3])}",
        ]

    def step(self) -> None:
        """Do one thing: a statement, or the beginning or end of a transaction or savepoint."""
        roll = self.chance.random()
        if not self.is_open and roll < 0.4:
            self.session.execute(
                self.chance.choice(["begin", "begin isolation level repeatable read"])
            )
            self.is_open, self.savepoints = True, 0
        elif self.is_open and roll < 0.25:
            self.session.execute(self.chance.choice(["commit", "commit", "rollback"]))
            self.is_open = False
        elif self.is_open and roll < 0.35:
            self.session.execute("savepoint s")
            self.savepoints += 1
        elif self.is_open and roll < 0.45 and self.savepoints:
            self.session.execute(
                self.chance.choice(["rollback to savepoint s", "release savepoint s"])
            )
            self.savepoints = 0
        else:
            self._run(self.change())

    def _run(self, statement: str) -> None:
        try:
            self.session.execute(statement.encode())
        except (errors.SerializationFailure, errors.LockNotAvailable, errors.DeadlockDetected):
            if self.is_open:
                self.session.execute("rollback")
            self.is_open = False

    def finish(self) -> None:
        """Commit."""
        if self.is_open:
            self.session.execute("commit")
            self.is_open = False


@pytest.mark.parametrize("seed", range(3))
def test_incremental_equals_plain_after_every_step(
    connect: Callable[..., Connection],
    random_query: Callable[[random.Random], str],
    seed: int,
) -> None:
    chance = random.Random(seed)
    observer, folder = connect(), connect()
    _create(observer)
    for number in range(10):
        query = random_query(chance)
        observer.execute(
            "select flywheel.create_metric(%s, %s, 'incremental')", (f"random_{number}", query)
        )
    # Each writer begins with rows to change, some of them labelled.
    observer.execute(
        "insert into flywheel.traces (pipeline, user_id, output) "
        "select 'a', 'w' || i % 3, repeat('x', i) from generate_series(1, 12) as i"
    )
    observer.execute(
        "select flywheel.label(trace_id, v, length(output) % 2 = 0, score => length(output)) "
        "from flywheel.traces, unnest(array['short', 'scored']) as v where length(output) < 8"
    )
    folder.execute("set lock_timeout = '200ms'")
    changed: list[str] = []
    writers = [Writer(connect(), n, chance) for n in range(3)]
    for writer in writers:
        writer.session.execute("set lock_timeout = '300ms'; set timezone = 'Asia/Tokyo'")
    for _ in range(60):
        writer = chance.choice(writers)
        writer.step()
        _observe(observer)
        # What a transaction has not committed, it sees.
        if writer.is_open and chance.random() < 0.3:
            _compare(writer.session)
        roll = chance.random()
        # Whoever has read a metric in an open transaction holds its view.
        with contextlib.suppress(errors.LockNotAvailable):
            if roll < 0.1:
                folder.execute("select flywheel.fold_metrics()")
            elif roll < 0.2:
                # A part of the deltas.
                folder.execute(
                    "select flywheel._fold_stream(s, 3) from flywheel._metric_streams as s"
                    " where s.state = 'ready'"
                )
            elif roll < 0.23:
                folder.execute("select flywheel.refresh_metric(%s)", (chance.choice(INCREMENTAL),))
            elif roll < 0.27:
                # Made anew while others are in the middle of theirs.
                name = chance.choice(INCREMENTAL)
                folder.execute("select flywheel.alter_metric(%s, 'view')", (name,))
                changed.append(name)
            elif changed and roll < 0.4:
                folder.execute("select flywheel.alter_metric(%s, 'incremental')", (changed.pop(),))
        if roll < 0.4:
            _observe(observer)
    for writer in writers:
        writer.finish()
    _observe(observer)
    for name in changed:
        folder.execute("select flywheel.alter_metric(%s, 'incremental')", (name,))
    folder.execute("select flywheel.fold_metrics()")
    folder.execute("select flywheel.fold_metrics()")
    _observe(observer)
    labelled = folder.execute("select trace_id from flywheel.current_labels limit 1").fetchone()
    folder.execute("select from flywheel.forget_trace(%s)", labelled)
    _observe(observer)
    states = folder.execute("select state, count(*) from flywheel._metric_streams group by 1")
    assert [state for state, _ in states.fetchall()] == ["ready"]
    left = folder.execute("select count(*) from flywheel.metrics where state <> 'ready'").fetchone()
    assert left == (0,)
    folder.execute("truncate flywheel.traces, flywheel.spans")
    _observe(observer)
    assert observer.execute("select n from flywheel.everything").fetchone() == (0,)


def test_incremental_equals_plain_while_many_write_at_once(
    connect: Callable[..., Connection],
) -> None:
    observer, folder = connect(), connect()
    _create(observer)
    folder.execute("set lock_timeout = '1s'")
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            writer = Writer(connect(), number, random.Random(number))
            writer.session.execute("set lock_timeout = '2s'")
            for _ in range(60):
                writer.step()
            writer.finish()
        except BaseException as error:
            failures.append(error)

    def work() -> None:
        chance = random.Random(99)
        try:
            while not stop.is_set():
                folder.execute("select flywheel.fold_metrics()")
                if chance.random() < 0.2:
                    name = chance.choice(INCREMENTAL)
                    for storage in ("view", "incremental"):
                        with contextlib.suppress(errors.LockNotAvailable, errors.DeadlockDetected):
                            folder.execute("select flywheel.alter_metric(%s, %s)", (name, storage))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    background = threading.Thread(target=work)
    for thread in (*threads, background):
        thread.start()
    while any(thread.is_alive() for thread in threads):
        try:
            _observe(observer)
        except psycopg.errors.DeadlockDetected:
            continue
    stop.set()
    background.join()
    assert failures == []
    folder.execute("select flywheel.fold_metrics()")
    _observe(observer)
