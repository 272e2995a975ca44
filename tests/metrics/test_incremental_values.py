"""Values that look alike and are not: as keys, as measures, and in the deltas of a change."""

import math
from collections.abc import Callable

import psycopg
import pytest
from psycopg import Connection


def _create(session: Connection, name: str, query: str) -> None:
    session.execute("select flywheel.create_metric(%s, %s, 'incremental')", (name, query))


def _equal(session: Connection, name: str) -> list[tuple[object, ...]]:
    """The rows of a metric, which are those of its query."""
    kept = session.execute(f"select * from flywheel.{name}".encode()).fetchall()
    query = session.execute("select query from flywheel.metrics where name = %s", (name,))
    row = query.fetchone()
    assert row is not None
    assert sorted(kept, key=repr) == sorted(session.execute(row[0]).fetchall(), key=repr)
    return kept


@pytest.mark.parametrize(
    "queries",
    [
        # A measure that is a part of another one.
        [
            "select pipeline, sum(length(output) - length(input)) as d from flywheel.traces group by 1",
            "select pipeline, sum(length(output)) as s from flywheel.traces group by 1",
        ],
        [
            "select count(*) filter (where status = 'error' or status = 'blocked') as n from flywheel.traces",
            "select count(*) filter (where status = 'error') as n from flywheel.traces",
        ],
        # A key that is a part of another one.
        ["select left(user_id, 1) as g, count(*) as n from flywheel.traces group by left(user_id, 1), user_id"],
        ["select upper(pipeline) as p, pipeline, count(*) as n from flywheel.traces group by 1, 2"],
        ["select pipeline as p, pipeline as q, upper(pipeline) as u, count(*) as n from flywheel.traces group by pipeline"],
        # A constant, and a text that reads like a column.
        ["select pipeline, '{pipeline}' as text, sum(1) as ones from flywheel.traces group by 1"],
        ["select case when status = 'ok' then '{status}' else pipeline end as c, count(*) as n from flywheel.traces group by 1"],
    ],
)  # fmt: skip
def test_expressions_that_hold_each_other_are_not_taken_for_each_other(
    db: Connection, queries: list[str]
) -> None:
    for number, query in enumerate(queries):
        _create(db, f"m{number}", query)
    db.execute(
        "insert into flywheel.traces (pipeline, user_id, input, output, status) values"
        " ('a', 'u1', 'x', 'long', 'ok'), ('a', 'u2', 'xy', 'l', 'error'), ('A', 'v', 'x', 'y', 'ok')"
    )
    for number in range(len(queries)):
        assert _equal(db, f"m{number}")
    db.execute("delete from flywheel.traces where user_id = 'u2'")
    for number in range(len(queries)):
        _equal(db, f"m{number}")


def test_floats_of_single_precision_keep_all_of_their_digits(db: Connection) -> None:
    _create(
        db, "m",
        "select pipeline, avg((attributes ->> 'f')::real) as a, stddev((attributes ->> 'f')::real) as s,"
        " variance((attributes ->> 'f')::real) as v from flywheel.traces group by 1",
    )  # fmt: skip
    db.execute(
        "insert into flywheel.traces (pipeline, attributes)"
        " select 'a', jsonb_build_object('f', 1000 + n / 7.0) from generate_series(1, 50) as n"
    )
    kept = db.execute("select a, s, v from flywheel.m").fetchone()
    plain = db.execute(
        "select avg(f), stddev(f), variance(f) from"
        " (select (attributes ->> 'f')::real as f from flywheel.traces) as t"
    ).fetchone()
    assert kept is not None
    assert plain is not None
    for a, b in zip(kept, plain, strict=True):
        assert math.isclose(a, b, rel_tol=1e-9)


def test_a_sample_of_one_has_no_variance_whatever_it_is(db: Connection) -> None:
    _create(
        db, "m",
        "select pipeline, stddev((attributes ->> 'f')::float8) as s, var_pop((attributes ->> 'f')::float8) as p"
        " from flywheel.traces group by 1",
    )  # fmt: skip
    db.execute(
        "insert into flywheel.traces (pipeline, attributes) values"
        " ('nan', '{\"f\": \"NaN\"}'), ('one', '{\"f\": 1}'), ('inf', '{\"f\": \"-Infinity\"}')"
    )
    rows = db.execute("select pipeline, s, p::text from flywheel.m order by 1").fetchall()
    assert rows == [("inf", None, "NaN"), ("nan", None, "NaN"), ("one", None, "0")]


@pytest.mark.parametrize(
    ("before", "after"), [("1.0", "1.00"), ("1e2", "100"), ("[1.0]", "[1.00]")]
)
def test_an_update_to_an_equal_value_that_prints_otherwise(
    db: Connection, before: str, after: str
) -> None:
    _create(
        db, "m", "select attributes ->> 'v' as v, count(*) as n from flywheel.traces group by 1"
    )
    insert = "insert into flywheel.traces (attributes) values (jsonb_build_object('v', %s::jsonb))"
    update = "update flywheel.traces set attributes = jsonb_build_object('v', %s::jsonb)"
    db.execute(insert, (before,))
    db.execute(update, (after,))
    assert len(_equal(db, "m")) == 1
    db.execute("select flywheel.fold_metrics()")
    db.execute("delete from flywheel.traces")
    assert _equal(db, "m") == []


def test_a_collation_of_the_query_orders_what_is_kept(connect: Callable[..., Connection]) -> None:
    session = connect()
    _create(
        session, "m",
        'select output collate "C" as o, count(*) as n from flywheel.traces group by 1 order by 1 limit 2',
    )  # fmt: skip
    session.execute("insert into flywheel.traces (output) select unnest(array['a', 'B', 'Z', 'é'])")
    assert [row[0] for row in _equal(session, "m")] == ["B", "Z"]


def test_a_column_that_somebody_added_is_not_kept_current(db: Connection) -> None:
    """It could be renamed, and every INSERT would fail."""
    db.execute("alter table flywheel.traces add column team text")
    query = "select team, count(*) as n from flywheel.traces group by 1"
    with pytest.raises(psycopg.Error, match="reads the column team"), db.transaction():
        _create(db, "m", query)
    db.execute("select flywheel.create_metric('m', %s)", (query,))
    db.execute("alter table flywheel.traces rename column team to squad")
    db.execute("insert into flywheel.traces (squad) values ('a')")
    assert db.execute("select * from flywheel.m").fetchall() == [("a", 1)]


def test_every_column_of_a_release_can_be_kept_current(db: Connection) -> None:
    """The lists in facts.sql are those of the tables."""
    for fact, table, others in (
        ("traces", "traces", set()),
        ("spans", "spans", set()),
        ("current_labels", "_labels", {"validator", "version"}),
    ):
        known = db.execute("select name from flywheel._fact_columns(%s)", (fact,)).fetchall()
        there = db.execute(
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0"
            " and not attisdropped", (f"flywheel.{table}",),
        ).fetchall()  # fmt: skip
        assert {name for (name,) in known} == {name for (name,) in there} | others


def test_folding_a_part_settles_nothing(connect: Callable[..., Connection]) -> None:
    """Deltas are moved in the order in which they lie, which is not that of the changes."""
    session = connect()
    _create(
        session, "m",
        "select user_id, count(*) as n, sum(length(output)) as s, min(length(output)) as lo"
        " from flywheel.traces group by 1",
    )  # fmt: skip
    stream = session.execute(
        "select s from flywheel._metric_streams as s join flywheel._metrics as m using (stream_id)"
        " where m.name = 'm'"
    )
    row = stream.fetchone()
    assert row is not None
    deltas = f"flywheel._stream_{row[0].strip('()').split(',')[0]}_deltas"
    fold = (
        "select flywheel._fold_stream(s, %s) from flywheel._metric_streams as s"
        " join flywheel._metrics as m using (stream_id) where m.name = 'm'"
    )
    session.execute(
        "insert into flywheel.traces (user_id, output) values ('z', 'xxxxx'), ('y', 'xxxxx')"
    )
    session.execute(
        "update flywheel.traces set output = 'xxxxxxx' where user_id = 'z'"
    )  # a delta of 0 rows
    session.execute("insert into flywheel.traces (user_id, output) values ('y', 'xx')")
    session.execute("delete from flywheel.traces where output = 'xx'")  # the least goes
    # The last change first.
    session.execute(
        f"create temp table turned as select * from {deltas} order by ctid desc".encode()
    )
    session.execute(f"delete from {deltas}".encode())
    session.execute(f"insert into {deltas} select * from turned".encode())
    _equal(session, "m")
    for _ in range(10):
        session.execute(fold, (1,))
        assert sorted(map(str, _equal(session, "m"))) == ["('y', 1, 5, 5)", "('z', 1, 7, 7)"]
