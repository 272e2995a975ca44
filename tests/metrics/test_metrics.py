"""The catalog of metrics: what is accepted, what is refused, and changing the storage under readers."""

from collections.abc import Callable

import psycopg
import pytest
from psycopg import Connection, errors

BY_PIPELINE = "select pipeline, count(*) as n from flywheel.traces group by pipeline"


def _insert(session: Connection, *pipelines: str) -> None:
    session.execute(
        "insert into flywheel.traces (pipeline) select unnest(%s::text[])", (list(pipelines),)
    )


def _set_clock(session: Connection) -> None:
    session.execute(
        "create or replace function flywheel.now() returns timestamptz language sql stable "
        "parallel safe begin atomic select timestamptz '2100-01-01'; end"
    )


def _rows(session: Connection, name: str = "by_pipeline") -> list[tuple[object, ...]]:
    return session.execute(f"select * from flywheel.{name} order by 1").fetchall()  # type: ignore[arg-type]


def test_a_metric_is_a_view_that_readers_and_labelers_read(db: Connection) -> None:
    _insert(db, "a", "a", "b")
    db.execute("set local role flywheel_admin")
    db.execute("select flywheel.create_metric('by_pipeline', %s)", (BY_PIPELINE + ";\n",))
    for role in ("flywheel_reader", "flywheel_labeler"):
        db.execute(f"set local role {role}")  # type: ignore[arg-type]
        assert _rows(db) == [("a", 2), ("b", 1)]
    db.execute("set local role flywheel_writer")
    with pytest.raises(errors.InsufficientPrivilege):
        _rows(db)


def test_only_an_admin_changes_metrics(db: Connection) -> None:
    db.execute("set local role flywheel_reader")
    with pytest.raises(errors.InsufficientPrivilege):
        db.execute("select flywheel.create_metric('by_pipeline', %s)", (BY_PIPELINE,))


def test_storages_show_the_same_columns_and_rows_to_a_view_on_top(db: Connection) -> None:
    db.execute("select flywheel.create_metric('by_pipeline', %s)", (BY_PIPELINE,))
    db.execute("create view public.mine as select * from flywheel.by_pipeline")
    _insert(db, "a", "b", "b")
    for storage in ("materialized", "view", "materialized", "view"):
        db.execute("select flywheel.alter_metric('by_pipeline', %s)", (storage,))
        assert db.execute("select * from public.mine order by 1").fetchall() == [("a", 1), ("b", 2)]


def test_a_materialized_metric_shows_its_last_refresh(db: Connection) -> None:
    _insert(db, "a")
    db.execute("select flywheel.create_metric('by_pipeline', %s, 'materialized')", (BY_PIPELINE,))
    _insert(db, "a", "c")
    assert _rows(db) == [("a", 1)]
    db.execute("select flywheel.refresh_metric('by_pipeline')")
    assert _rows(db) == [("a", 2), ("c", 1)]


def test_a_materialized_metric_whose_first_columns_stop_being_a_key_is_still_refreshed(
    db: Connection,
) -> None:
    query = "select pipeline, output from flywheel.traces"
    _insert(db, "a")
    db.execute("select flywheel.create_metric('texts', %s, 'materialized')", (query,))
    db.execute("insert into flywheel.traces (pipeline, output) values ('a', 'x'), ('b', null)")
    db.execute("select flywheel.refresh_metric('texts')")
    assert len(_rows(db, "texts")) == 3
    # Equal rows have no key at all.
    db.execute("insert into flywheel.traces (pipeline, output) values ('a', 'x')")
    for _ in range(2):
        db.execute("select flywheel.refresh_metric('texts')")
        assert len(_rows(db, "texts")) == 4


def test_a_refresh_of_rows_that_are_alike_lets_readers_read(
    connect: Callable[..., Connection],
) -> None:
    admin, reader = connect(), connect(autocommit=False)
    _insert(admin, "a")
    _insert(admin, "a")
    admin.execute(
        "select flywheel.create_metric('alike', 'select pipeline, 1 as one from flywheel.traces', 'materialized')"
    )
    assert reader.execute("select * from flywheel.alike").fetchall() == [("a", 1), ("a", 1)]
    _insert(admin, "a")
    admin.execute("set lock_timeout = '5s'")
    admin.execute("begin")
    admin.execute("select flywheel.refresh_metric('alike')")
    other = connect()
    other.execute("set lock_timeout = '5s'")
    assert len(other.execute("select * from flywheel.alike").fetchall()) == 2
    admin.execute("commit")
    assert len(other.execute("select * from flywheel.alike").fetchall()) == 3
    reader.rollback()


def test_a_problem_that_is_over_is_not_told(db: Connection) -> None:
    db.execute(
        "select flywheel.create_metric('sums', 'select sum(output::int) as s from flywheel.traces')"
    )
    problem = "select problem from flywheel.metrics where name = 'sums'"
    for finish in ("refresh_metrics()", "refresh_metric('sums')"):
        db.execute("insert into flywheel.traces (output) values ('secret')")
        db.execute("update flywheel._metrics set measured_at = null")
        db.execute("select flywheel.refresh_metrics()")
        assert "secret" in str(db.execute(problem).fetchone())
        db.execute("delete from flywheel.traces")
        db.execute("update flywheel._metrics set measured_at = null")
        db.execute(f"select flywheel.{finish}".encode())
        assert db.execute(problem).fetchone() == (None,)


def test_background_work_refreshes_what_is_due(connect: Callable[..., Connection]) -> None:
    session = connect()
    _insert(session, "a")
    session.execute(
        "select flywheel.create_metric('by_pipeline', %s, 'materialized', refresh_every => '1 hour')",
        (BY_PIPELINE,),
    )
    _insert(session, "a")
    assert session.execute("select flywheel.run_metric_tasks()").fetchone() == (0,)
    assert _rows(session) == [("a", 1)]
    _set_clock(session)
    stale = session.execute(
        "select staleness > interval '1 hour' from flywheel.metrics where name = 'by_pipeline'"
    )
    assert stale.fetchone() == (True,)
    done = session.execute("select flywheel.run_metric_tasks()").fetchone()
    assert done is not None
    assert done[0] >= 1
    assert _rows(session) == [("a", 2)]


def test_the_catalog_tells_what_a_metric_reads(db: Connection) -> None:
    db.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 5')")
    db.execute(
        "select flywheel.create_metric('short_failures', $$select v.trace_id, t.pipeline "
        "from flywheel.verdicts v join flywheel.traces t using (trace_id) where v.validator = 'short'$$, "
        "description => 'What is too long.', columns => '{\"pipeline\": \"Of the trace.\"}')"
    )
    row = db.execute(
        "select columns, depends_on, validators, state, description from flywheel.metrics "
        "where name = 'short_failures'"
    ).fetchone()
    assert row == (
        ["trace_id", "pipeline"],
        ["flywheel.traces", "flywheel.verdicts"],
        ["short"],
        "ready",
        "What is too long.",
    )
    comment = db.execute("select col_description('flywheel.short_failures'::regclass, 2)")
    assert comment.fetchone() == ("Of the trace.",)


def test_dropping_a_validator_that_a_metric_names_says_so(db: Connection) -> None:
    db.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 5')")
    db.execute(
        "select flywheel.create_metric('short_rates', "
        "$$select * from flywheel.pass_rates where validator = 'short'$$)"
    )
    said: list[str] = []
    handler = lambda notice: said.append(notice.message_primary or "")  # noqa: E731
    db.add_notice_handler(handler)
    db.execute("select flywheel.drop_validator('short')")
    db.remove_notice_handler(handler)
    assert said == ['the metric "short_rates" names the validator "short"']


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("select pipeline form flywheel.traces group by 1", "syntax error"),
        ("", "is empty"),
        ("select 1 as a; drop table flywheel.traces", "syntax error"),
        ("select 1 as a) as q; drop table flywheel.traces; select * from (select 1 as a", "syntax"),
        (
            "select 1 as a) as q limit 1)]; drop table flywheel.traces; select array[(select 1 from (select 1 as a",
            "syntax error",
        ),
        ("insert into flywheel.traces default values", "syntax error"),
        ("with d as (delete from flywheel.traces returning 1) select 1 as a from d", "data-modif"),
        ("select trace_id into x from flywheel.traces", "INTO"),
        ("select trace_id from flywheel.traces for update", "locks the rows"),
        ("select 1 as a from pg_sleep(100)", "pg_sleep"),
        ("select pg_sleep(100)::text as a", "volatile"),
        ("select random() as a", "volatile"),
        ("select set_config('a.b', 'c', false) as a", "volatile"),
        ("select pg_read_file('/etc/passwd') as a", "volatile"),
        ("select pg_ls_dir('/') as a", "volatile"),
        ("select lo_get(1) as a", "lo_get"),
        ("select query_to_xml('select 1', true, true, '') as a", "dumps"),
        ("select current_setting('ssl_key_file') as a", "about the server"),
        ("select current_user as a", "about the server"),
        ("select session_user::text as a", "about the server"),
        ("select pg_backend_pid() as a", "about the server"),
        ("select rolname from pg_authid", "catalog of the server"),
        ("select query from pg_stat_activity", "catalog of the server"),
        ("select * from flywheel._jobs", "private"),
        ("with recursive t as (select 1 as n union all select n + 1 from t) select n from t", "recurs"),
        ("select * from app.secrets", "does not exist"),
        ("select pipline from flywheel.traces", "pipline"),
        ("select 1", "has no name"),
        ("select 1 as a, 2 as a", "more than once"),
        ("select " + "1 + " * 250_000 + "1 as a", "100,000|has 1"),
        ("select " + "(" * 20_000 + "1", "memory exhausted|stack depth"),
    ],
)  # fmt: skip
def test_a_query_that_is_no_metric_is_refused_with_the_reason(
    db: Connection, query: str, says: str
) -> None:
    db.execute("set local role flywheel_admin")
    with pytest.raises(psycopg.Error, match=says) as refused:
        db.execute("select flywheel.create_metric('bad', %s)", (query,))
    assert refused.value.sqlstate == "LF006"
    assert refused.value.diag.message_hint


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("select pipeline,\n  count(*) as n\nform flywheel.traces", "line 3, column 1: form"),
        ("select pipeline,\n  cnt(*) as n\nfrom flywheel.traces", "line 2, column 3: cnt"),
        ("select pipline, 1 as n\nfrom flywheel.traces", "line 1, column 8: pipline"),
        ("select pipeline\nfrom flywheel.trace", "line 2, column 6: flywheel.trace"),
        ("select (1 as n", "line 1, column 11: as n"),
        ("select pipeline, 1 as n, line from flywheel.traces", "line 1, column 26: line from"),
        (
            "select 'wrong' as x, /* wrong */ -- wrong\n wrong from flywheel.traces",
            "line 2, column 2: wrong",
        ),
        ("select t.pipeline, t.x from flywheel.traces as t", "line 1, column 20: t.x"),
        ("select pipeline,\n 'é, x as n\nfrom flywheel.traces", "line 2, column 2: 'é"),
        ("select pipeline /* as n\nfrom flywheel.traces", "line 1, column 17: /*"),
    ],
)
def test_a_refusal_says_where(db: Connection, query: str, where: str) -> None:
    with pytest.raises(psycopg.Error) as refused:
        db.execute("select flywheel.create_metric('bad', %s)", (query,))
    assert (refused.value.diag.message_detail or "").startswith(where)


def test_what_is_not_granted_is_refused_until_it_is(db: Connection) -> None:
    db.execute("create schema app; create table app.orders (pipeline text)")
    query = "select pipeline, count(*) as n from app.orders group by 1"
    with pytest.raises(psycopg.Error, match="permission denied") as refused, db.transaction():
        db.execute("select flywheel.create_metric('orders', %s)", (query,))
    assert "flywheel_metric" in (refused.value.diag.message_hint or "")
    db.execute(
        "grant usage on schema app to flywheel_metric; grant select on app.orders to flywheel_metric"
    )
    db.execute("select flywheel.create_metric('orders', %s)", (query,))
    db.execute("set local role flywheel_reader")
    assert _rows(db, "orders") == []


def test_code_of_somebody_else_is_refused(db: Connection) -> None:
    db.execute("create role mallory; create schema app authorization mallory")
    db.execute(
        "set local role mallory; create function app.f() returns int language sql immutable "
        "set search_path = pg_catalog, pg_temp as 'select 1'; grant usage on schema app to public; reset role"
    )
    with pytest.raises(psycopg.Error, match="belongs to mallory"):
        db.execute("select flywheel.create_metric('f', 'select app.f() as a')")


@pytest.mark.parametrize(
    "name", ["traces", "verdicts", "_x", "A", "a-b", "", "a" * 57, "pass_rates"]
)
def test_a_name_that_is_taken_or_none_is_refused(db: Connection, name: str) -> None:
    with pytest.raises(psycopg.Error) as refused:
        db.execute("select flywheel.create_metric(%s, 'select 1 as a')", (name,))
    assert refused.value.sqlstate in ("LF006", "LF201")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("create_metric('m', 'select 1 as a', 'fast')", "storage"),
        ("create_metric('m', 'select 1 as a', refresh_every => '1 h')", "materialized"),
        ("create_metric('m', 'select 1 as a', 'materialized', '294000 years')", "294000 years"),
        (
            "create_metric('m', 'select 1 as a', 'materialized', '-1 month 31 days')",
            "refreshed every",
        ),
        ("create_metric('m', 'select 1 as a', 'materialized', '-1 h')", "refreshed every"),
        ("create_metric('m', 'select 1 as a', columns => '{\"b\": \"x\"}')", "no column b"),
        ("create_metric('m', 'select 1 as a', columns => '[]')", "JSON object"),
        ("alter_metric('m')", "no metric"),
        ("drop_metric('m')", "no metric"),
        ("refresh_metric(null)", "no metric"),
        ("drop_metric('pass_rates')", "built in"),
        ("alter_metric('pass_rates', query => 'select 1 as a')", "built in"),
        ("alter_metric('pass_rates', clear => array['storage'])", "cleared"),
    ],
)
def test_calls_that_make_no_sense_are_refused(db: Connection, call: str, says: str) -> None:
    with pytest.raises(psycopg.Error, match=says) as refused:
        db.execute(f"select flywheel.{call}")  # type: ignore[arg-type]
    assert (refused.value.sqlstate or "").startswith("LF0")


def test_a_new_query_keeps_the_columns_and_may_add_some(db: Connection) -> None:
    _insert(db, "a")
    db.execute("select flywheel.create_metric('by_pipeline', %s, 'materialized')", (BY_PIPELINE,))
    with pytest.raises(psycopg.Error, match="other columns"), db.transaction():
        db.execute("select flywheel.alter_metric('by_pipeline', query => 'select 1 as a')")
    more = BY_PIPELINE.replace("as n", "as n, min(status) as s")
    db.execute("select flywheel.alter_metric('by_pipeline', query => %s)", (more,))
    assert _rows(db) == [("a", 1, "ok")]


def test_a_metric_whose_source_is_dropped_is_reported_and_can_be_mended(db: Connection) -> None:
    db.execute("create schema app; create table app.orders (pipeline text, kind text)")
    db.execute(
        "grant usage on schema app to flywheel_metric; grant select on app.orders to flywheel_metric"
    )
    db.execute("select flywheel.create_metric('kinds', 'select kind from app.orders')")
    with pytest.raises(errors.DependentObjectsStillExist), db.transaction():
        db.execute("alter table app.orders drop column kind")
    db.execute("alter table app.orders drop column kind cascade")
    state = "select state, problem from flywheel.metrics where name = 'kinds'"
    found = db.execute(state).fetchone()
    assert found is not None
    assert found[0] == "broken"
    assert "dropped" in found[1]
    with pytest.raises(psycopg.Error, match="is gone"), db.transaction():
        db.execute("select flywheel.refresh_metric('kinds')")
    # Everything else goes on.
    _insert(db, "a")
    db.execute("select * from flywheel.pass_rates")
    db.execute("select flywheel.run_metric_tasks()")
    db.execute(
        "select flywheel.alter_metric('kinds', query => 'select pipeline as kind from app.orders')"
    )
    assert db.execute(state).fetchone() == ("ready", None)


def test_a_metric_that_raises_is_reported_and_holds_up_no_other(
    connect: Callable[..., Connection],
) -> None:
    session = connect()
    for name, query in (
        ("a_bad", "select (1 / (count(*) - 1))::int as x from flywheel.traces"),
        ("b_good", "select count(*) as n from flywheel.traces"),
    ):
        session.execute(
            "select flywheel.create_metric(%s, %s, 'materialized', '1 second')", (name, query)
        )
    _insert(session, "a")
    _set_clock(session)
    session.execute("select flywheel.run_metric_tasks()")
    assert _rows(session, "b_good") == [(1,)]
    problem = session.execute("select problem from flywheel.metrics where name = 'a_bad'")
    assert problem.fetchone() == ("division by zero",)


def test_dropping_a_metric_leaves_nothing(db: Connection) -> None:
    before = db.execute("select count(*) from pg_class").fetchone()
    for storage in ("view", "materialized"):
        db.execute("select flywheel.create_metric('by_pipeline', %s, %s)", (BY_PIPELINE, storage))
        db.execute("select flywheel.drop_metric('by_pipeline')")
        assert db.execute("select count(*) from pg_class").fetchone() == before


def test_the_storage_of_a_built_in_metric_is_the_users(db: Connection) -> None:
    db.execute("select flywheel.alter_metric('pass_rates', 'materialized', '1 hour')")
    db.execute(
        "select flywheel._set_builtin_metric('pass_rates', m.query || ' limit 7', 'view', null, "
        "m.description, m.column_comments) from flywheel._metrics m where m.name = 'pass_rates'"
    )
    row = db.execute(
        "select storage, refresh_every::text, query like '%%limit 7' from flywheel.metrics "
        "where name = 'pass_rates'"
    ).fetchone()
    assert row == ("materialized", "01:00:00", True)


def test_retention_may_keep_what_was_counted(connect: Callable[..., Connection]) -> None:
    session = connect()
    session.execute(
        "select flywheel.create_metric('by_pipeline', %s, 'incremental')", (BY_PIPELINE,)
    )
    _insert(session, "a", "a", "b")
    with session.transaction():
        session.execute("set local flywheel.keep_rollups = 'on'")
        session.execute("delete from flywheel.traces where pipeline = 'a'")
    session.execute("delete from flywheel.traces where pipeline = 'b'")
    assert _rows(session) == [("a", 2)]
    # Rebuilt, it says what is there.
    session.execute("select flywheel.refresh_metric('by_pipeline')")
    assert _rows(session) == []
