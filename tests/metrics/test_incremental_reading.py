"""What the view of an incremental metric shows: to old snapshots, other sessions, readers, the planner."""

from collections.abc import Callable

import pytest
from psycopg import Connection, errors


def _rows(session: Connection, query: str) -> list[tuple[object, ...]]:
    return session.execute(query.encode()).fetchall()


@pytest.mark.parametrize("fact", ["traces", "verdicts", "current_labels"])
def test_a_snapshot_older_than_the_stream_is_read_from_the_rows(
    connect: Callable[..., Connection], fact: str
) -> None:
    admin, old = connect(), connect()
    query = (
        f"select pipeline, count(*) as n, max(created_at) as newest from flywheel.{fact} group by 1"
        if fact != "traces"
        else "select pipeline, count(*) as n, max(length(output)) as longest from flywheel.traces group by 1"
    )
    admin.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 5')")
    write = (
        "with t as (insert into flywheel.traces (pipeline, output) values {} returning trace_id) select from t; "
        "select flywheel.label(trace_id, 'short', true) from flywheel.traces as t "
        "where not exists (select from flywheel._labels as l where l.trace_id = t.trace_id)"
    )
    admin.execute(write.format("('a', 'x'), ('b', 'y')").encode())
    admin.execute("select flywheel.create_metric('m', %s)", (query,))
    old.execute("begin isolation level repeatable read")
    before = _rows(old, "select * from flywheel.m order by 1")
    old.execute("rollback")
    old.execute("begin isolation level repeatable read")
    old.execute("select 1")
    admin.execute("select flywheel.alter_metric('m', 'incremental')")
    assert _rows(admin, "select state from flywheel.metrics where name = 'm'") == [("ready",)]
    admin.execute(write.format("('a', 'xyz')").encode())
    admin.execute("select flywheel.fold_metrics()")
    assert _rows(old, "select * from flywheel.m order by 1") == before
    # What it writes itself, it sees.
    old.execute(write.format("('a', 'w')").encode())
    assert _rows(old, "select pipeline, n from flywheel.m order by 1") == [("a", 2), ("b", 1)]
    old.execute("commit")
    for session in (admin, old):
        assert _rows(session, "select pipeline, n from flywheel.m order by 1") == [
            ("a", 3),
            ("b", 1),
        ]


def test_what_is_made_later_means_what_was_written(connect: Callable[..., Connection]) -> None:
    """In a session with another time zone, and after a rename."""
    admin, tokyo = connect(), connect()
    tokyo.execute(
        "set timezone = 'Asia/Tokyo'; set datestyle = 'SQL, DMY'; set extra_float_digits = 0"
    )
    admin.execute("set timezone = 'UTC'")
    admin.execute("create schema app; create table app.names (pipeline text, title text)")
    admin.execute(
        "insert into app.names values ('a', 'A'); grant usage on schema app to flywheel_metric"
    )
    admin.execute("grant select on app.names to flywheel_metric")
    admin.execute(
        "insert into flywheel.traces (pipeline, output, started_at) "
        "select 'a', repeat('x', i), timestamptz '2026-03-01 12:00Z' + i * interval '1 hour' from generate_series(1, 24) as i"
    )
    query = (
        "with t as (select pipeline, count(*) as n, max(length(output)) as hi, sum(0.1::float8 + 1e-17) as s "
        "from flywheel.traces where started_at >= '2026-03-02 00:00' group by pipeline) "
        "select n.title, t.n, t.hi, t.s from t join app.names as n using (pipeline) -- of March"
    )
    admin.execute("select flywheel.create_metric('m', %s)", (query,))
    want = _rows(admin, "select title, n, hi from flywheel.m")
    assert want == [("A", 13, 24)]
    # Filled by somebody else.
    for storage in ("incremental", "materialized", "view", "incremental"):
        tokyo.execute("select flywheel.alter_metric('m', %s)", (storage,))
        assert _rows(tokyo, "select title, n, hi from flywheel.m") == want
    tokyo.execute("select flywheel.alter_metric('m', description => 'of March')")
    old = connect()
    old.execute("set timezone = 'Asia/Tokyo'; begin isolation level repeatable read; select 1")
    admin.execute("select flywheel.alter_metric('m', 'view')")
    admin.execute("select flywheel.alter_metric('m', 'incremental')")
    admin.execute("alter table app.names rename to titles")
    # Older than what it was filled with.
    assert _rows(old, "select title, n, hi from flywheel.m") == want
    # And with a maximum in doubt.
    admin.execute("delete from flywheel.traces where length(output) = 24")
    assert _rows(tokyo, "select title, n, hi from flywheel.m") == [("A", 12, 23)]
    assert _rows(
        tokyo,
        "select condition::text like '%%2026-03-02 00:00:00+00%%' from flywheel._metric_streams as s join flywheel._metrics as m using (stream_id) where m.name = 'm'",
    ) == [(True,)]


def test_a_query_that_reads_one_may_be_parallel(db: Connection) -> None:
    rows = _rows(
        db, "select proparallel, prorows from pg_proc where proname ~ '^_metric_.*_plain$'"
    )
    assert rows == [("r", 1.0)]
    db.execute(
        "create view public.names as select 'a' as pipeline; grant select on public.names to flywheel_metric"
    )
    db.execute(
        "select flywheel.create_metric('m', $$select t.n from (select pipeline, count(*) as n from flywheel.traces group by 1) "
        "as t join public.names as n using (pipeline)$$, 'incremental')"
    )
    assert _rows(
        db,
        "select count(*) from pg_proc where proname ~ '^_metric_.*_plain$' and proparallel = 'u'",
    ) == [(1,)]


def test_columns_keep_their_modifiers_and_collations(db: Connection) -> None:
    db.execute(
        "select flywheel.create_metric('m', $$select pipeline collate \"C\" as p, avg(length(output))::numeric(8, 2) as mean, "
        "'x'::varchar(7) as label, max(length(output)) as hi from flywheel.traces group by pipeline collate \"C\"$$)"
    )
    columns = (
        "select attname, format_type(atttypid, atttypmod), attcollation from pg_attribute "
        "where attrelid = 'flywheel.m'::regclass and attnum > 0 order by attnum"
    )
    before = _rows(db, columns)
    for storage in ("incremental", "materialized", "incremental", "view"):
        db.execute("select flywheel.alter_metric('m', %s)", (storage,))
        assert _rows(db, columns) == before
    assert _rows(db, "select proname from pg_proc where proname like '\\_metric\\_%%\\_plain' and "
        "prosrc like '%%numeric(8, 2)%%'") == []  # fmt: skip


def test_reading_plans_nothing_of_the_plain_query(db: Connection) -> None:
    db.execute(
        "select flywheel.create_metric('m', 'select pipeline, max(length(output)) as hi from flywheel.traces group by 1', 'incremental')"
    )
    plan = "\n".join(
        str(line) for (line,) in _rows(db, "explain (costs off) select * from flywheel.m")
    )
    assert "_stream_" in plan
    assert " traces" not in plan


def test_readers_of_an_incremental_metric_need_no_right_to_the_rows(db: Connection) -> None:
    db.execute(
        "select flywheel.create_metric('m', $$select pipeline, stddev(length(output)) as sd, avg(length(output)) as a, "
        "flywheel.quantile(0.5) within group (order by length(output)) as q, flywheel.distinct_count(user_id) as u, "
        "max(ended_at - started_at) as d from flywheel.traces group by pipeline$$, 'incremental')"
    )
    db.execute("insert into flywheel.traces (pipeline, output) values ('a', 'x'), ('a', 'xyz')")
    db.execute("set local role flywheel_labeler")
    assert _rows(db, "select pipeline, a::int, u from flywheel.m") == [("a", 2, 0)]
    with pytest.raises(errors.InsufficientPrivilege), db.transaction():
        db.execute("select * from flywheel._metric_streams")
