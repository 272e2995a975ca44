"""Whatever metrics there are, applications write, and nobody waits for long."""

import threading
from collections.abc import Callable

import pytest
from psycopg import Connection

Connect = Callable[..., Connection]

BY_PIPELINE = "select pipeline, count(*) as n from flywheel.traces group by 1"


def _create(session: Connection, name: str, query: str) -> None:
    session.execute("select flywheel.create_metric(%s, %s, 'incremental')", (name, query))


def _equal(session: Connection, name: str = "m") -> list[tuple[object, ...]]:
    """The rows of a metric, which are those of its query."""
    kept = session.execute(f"select * from flywheel.{name}".encode()).fetchall()
    row = session.execute("select query from flywheel.metrics where name = %s", (name,)).fetchone()
    assert row is not None
    assert sorted(kept, key=repr) == sorted(session.execute(row[0]).fetchall(), key=repr)
    return kept


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        # One letter is what "character" means where no length is given.
        ("select pipeline, min(output::char(5)) as lo, max(output::char(5)) as hi from flywheel.traces group by 1",
         ["('a', 'abcdef', '{}')", "('a', 'b', '{}')"]),
        ("select (attributes ->> 'i')::numeric(10, 2) as k, left(output, 3)::varchar(8) as v, count(*) as n from flywheel.traces group by 1, 2",
         ["('a', 'abc', '{\"i\": 1.234}')"]),
        # The least one has no negative.
        ("select sum((attributes ->> 'i')::bigint) as s, avg((attributes ->> 'i')::bigint) as a from flywheel.traces",
         ["('a', 'x', '{\"i\": -9223372036854775808}')", "('a', 'y', '{\"i\": 5}')"]),
        ("select sum((attributes ->> 'i')::smallint) as s from flywheel.traces",
         ["('a', 'x', '{\"i\": -32768}')"]),
        # Longer than an index can hold.
        ("select output, count(*) as n, max(attributes ->> 'i') as hi from flywheel.traces group by 1",
         ["('a', (select string_agg(md5(n::text), '') from generate_series(1, 200) as n), '{}')", "('a', 'short', '{}')"]),
        ("select attributes, count(*) as n from flywheel.traces group by 1",
         ["('a', 'x', (select jsonb_object_agg(n, md5(n::text)) from generate_series(1, 300) as n))"]),
    ],
)  # fmt: skip
def test_values_of_any_kind_come_and_go(db: Connection, query: str, rows: list[str]) -> None:
    _create(db, "m", query)
    for row in rows:
        db.execute(
            f"insert into flywheel.traces (pipeline, output, attributes) values {row}".encode()
        )
        _equal(db)
    db.execute("select flywheel.fold_metrics()")
    _equal(db)
    db.execute("update flywheel.traces set output = 'other', pipeline = 'b'")
    _equal(db)
    db.execute("select flywheel.fold_metrics()")
    db.execute("select flywheel.refresh_metric('m')")
    _equal(db)
    db.execute("delete from flywheel.traces")
    _equal(db)
    db.execute("select flywheel.fold_metrics()")
    _equal(db)
    problems = "select problem from flywheel.metrics where problem is not null"
    assert db.execute(problems).fetchall() == []


def test_numbers_and_times_that_cannot_be_added_up_fail_no_insert(db: Connection) -> None:
    _create(
        db, "m",
        "select pipeline, count(*) as n, variance((attributes ->> 'x')::numeric) as v, sum((attributes ->> 'x')::numeric) as s,"
        " sum(ended_at - started_at) as t from flywheel.traces group by 1",
    )  # fmt: skip
    db.execute(
        "insert into flywheel.traces (pipeline, attributes) values ('a', '{\"x\": 1e100000}')"
    )
    db.execute(
        "insert into flywheel.traces (pipeline, started_at, ended_at)"
        " select 'b', '0001-01-01Z', '294000-01-01Z' from generate_series(1, 30)"
    )
    db.execute(
        "insert into flywheel.traces (pipeline, attributes, started_at, ended_at)"
        " values ('c', '{\"x\": 1.5}', '2026-01-01Z', '2026-01-02Z')"
    )
    db.execute("update flywheel.traces set variant = 'v', attributes = attributes || '{\"y\": 1}'")
    db.execute("select flywheel.fold_metrics()")
    rows = db.execute(
        "select pipeline, n::int, s::text, t::text from flywheel.m order by 1"
    ).fetchall()
    assert rows == [("a", 1, "NaN", None), ("b", 30, None, None), ("c", 1, "1.5", "1 day")]
    db.execute("delete from flywheel.traces")
    assert db.execute("select * from flywheel.m").fetchall() == []


def test_a_type_of_a_writers_path_is_not_used(connect: Connect) -> None:
    admin = connect()
    _create(admin, "m", "select pipeline, min(user_id) as n from flywheel.traces group by 1")
    admin.execute(
        "drop role if exists mallory; create role mallory; grant flywheel_writer to mallory;"
        " create schema mal authorization mallory"
    )
    writer = connect()
    writer.execute("set role mallory")
    writer.execute(
        "create function mal.f(pg_catalog.text) returns boolean language plpgsql as"
        " 'begin raise exception ''called by %'', current_user; end'"
    )
    writer.execute("create domain mal.text as pg_catalog.text check (mal.f(value))")
    writer.execute("grant usage on schema mal to public")
    writer.execute("set search_path = mal, pg_catalog")
    writer.execute("insert into flywheel.traces (pipeline, user_id) values ('a', 'u')")
    writer.execute("update flywheel.traces set pipeline = 'b'")
    assert _equal(admin) == [("b", "u")]
    admin.execute("drop schema mal cascade; drop role mallory")


def test_a_stream_that_cannot_be_folded_holds_up_no_other(db: Connection) -> None:
    _create(db, "bad", "select array[output] as k, count(*) as n from flywheel.traces group by 1")
    _create(db, "good", BY_PIPELINE)
    db.execute(
        "insert into flywheel.traces (pipeline, output)"
        " select 'a', string_agg(md5(n::text), '') from generate_series(1, 200) as n"
    )
    db.execute("select flywheel.fold_metrics()")
    _equal(db, "bad")
    _equal(db, "good")
    rows = db.execute(
        "select name from flywheel.metrics where problem like '%index row%'"
    ).fetchall()
    assert rows == [("bad",)]
    left = db.execute(
        "select count(*) from flywheel._metric_streams where fact = 'traces' and folded_at is not null"
    )
    assert left.fetchone() == (1,)


def test_a_reader_of_one_metric_keeps_no_writer_waiting_for_another(connect: Connect) -> None:
    admin, reader, writer = connect(), connect(autocommit=False), connect()
    _create(admin, "a", BY_PIPELINE)
    reader.execute("select * from flywheel.a")
    # The same stream has to grow, and with it the view that is being read.
    maker = threading.Thread(
        target=_create,
        args=(admin, "b", "select pipeline, max(length(output)) as n from flywheel.traces group by 1"),
    )  # fmt: skip
    maker.start()
    writer.execute("set lock_timeout = '20s'")
    for n in range(20):
        writer.execute("insert into flywheel.traces (pipeline, output) values ('a', 'x')")
        assert writer.execute("select n from flywheel.a").fetchone() == (n + 1,)
    maker.join(20)
    assert not maker.is_alive()
    assert _equal(admin, "b") == [("a", 1)]
    reader.rollback()
    admin.execute("select flywheel.fold_metrics()")
    state = admin.execute("select state from flywheel.metrics where name = 'b'").fetchone()
    assert state == ("ready",)
    _equal(admin, "a")
    _equal(admin, "b")


def test_metrics_of_two_facts_that_change_at_once_end_no_writer(connect: Connect) -> None:
    admin, writer = connect(autocommit=False), connect(autocommit=False)
    _create(admin, "steps", "select node, count(*) as n from flywheel.spans group by 1")
    admin.commit()
    writer.execute("insert into flywheel.traces (pipeline) values ('a')")
    admin.execute("select flywheel.drop_metric('steps')")
    failed: list[BaseException] = []

    def write() -> None:
        try:
            writer.execute(
                "insert into flywheel.spans (trace_id, node) select trace_id, 'n' from flywheel.traces"
            )
            writer.commit()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    _create(admin, "m", BY_PIPELINE)
    admin.commit()
    thread.join()
    assert failed == []
    for _ in range(2):
        admin.execute("select flywheel.fold_metrics()")
        admin.commit()
    assert _equal(admin) == [("a", 1)]


def test_another_metric_leaves_alone_what_retention_has_kept(connect: Connect) -> None:
    admin, worker = connect(), connect()
    _create(admin, "a", BY_PIPELINE)
    admin.execute(
        "insert into flywheel.traces (pipeline, output, received_at)"
        " select 'a', 'xx', now() - n * interval '1 day' from generate_series(0, 5) as n"
    )
    admin.execute("select flywheel.set_retention('a', '12 hours', keep_rollups => true)")
    worker.execute("set session authorization flywheel_worker")
    admin.execute("update flywheel._schedules set next_run_at = now() where task = 'retention'")
    worker.execute("select flywheel.run_schedules()")
    assert admin.execute("select n from flywheel.a").fetchone() == (6,)
    for name, measure in (("b", "max(length(output))"), ("c", "count(*)"), ("d", "count(output)")):
        _create(admin, name, f"select pipeline, {measure} as n from flywheel.traces group by 1")
        admin.execute("select flywheel.fold_metrics()")
        assert admin.execute("select n from flywheel.a").fetchone() == (6,)
    admin.execute("select flywheel._recompile_metrics()")
    counts = [
        admin.execute(f"select n from flywheel.{name}".encode()).fetchone() for name in "abcd"
    ]
    # The same number of the same groups is the same number.
    assert counts == [(6,), (2,), (6,), (1,)]
