"""Only code of PostgreSQL, an extension, a superuser or the schema's owner runs in an INSERT.

Whoever may create validators is no superuser, and must not become one by what a validator calls.
"""

import pytest
from psycopg import Connection, errors


@pytest.fixture
def engineer(db: Connection) -> Connection:
    """An AI engineer: member of flywheel_admin, with a schema of their own."""
    db.execute("create role engineer; grant flywheel_admin to engineer")
    db.execute("create schema app authorization engineer; grant usage on schema app to public")
    db.execute("set local session authorization engineer")
    return db


def _create(session: Connection, body: str) -> None:
    session.execute("select flywheel.create_validator('check', 'sql', %s)", (body,))


CODE = {
    "an immutable function, which the planner would run": (
        "create function app.f(text) returns boolean language plpgsql immutable "
        "set search_path = pg_catalog as $$ begin raise exception 'it ran'; end $$",
        "app.f('constant')",
    ),
    "a stable function": (
        "create function app.f(text) returns boolean language plpgsql stable "
        "set search_path = pg_catalog as $$ begin raise exception 'it ran'; end $$",
        "app.f(output)",
    ),
    "a bound wrapper around a volatile one": (
        "create function app.w() returns boolean language plpgsql as $$ begin raise exception 'it ran'; end $$; "
        "create function app.f(text) returns boolean language sql stable begin atomic select app.w(); end",
        "app.f(output)",
    ),
    "a temporary function": (
        "create function pg_temp.f(text) returns boolean language sql immutable set search_path = pg_catalog "
        "as 'select true'",
        "pg_temp.f(output)",
    ),
    "an operator": (
        "create function app.f(text, text) returns boolean language plpgsql immutable "
        "set search_path = pg_catalog as $$ begin raise exception 'it ran'; end $$; "
        "create operator app.=== (function = app.f, leftarg = text, rightarg = text)",
        "output operator(app.===) 'x'",
    ),
    "a view": (
        "create view app.v as select random() < 0.5 as ok; grant select on app.v to public",
        "(select ok from app.v)",
    ),
    "a domain": (
        "create domain app.d as text check (random() < 0.5)",
        "(output::app.d) is not null",
    ),
    "a table with row security": (
        "create table app.t (a int); alter table app.t enable row level security; "
        "create policy p on app.t using (random() < 0.5); grant select on app.t to public",
        "exists (select from app.t)",
    ),
    "a sampled table": (
        "create table app.t (a int); grant select on app.t to public",
        "exists (select from app.t tablesample bernoulli (50))",
    ),
    "a temporary table": (
        "create temporary table t (a int); grant select on t to public",
        "exists (select from pg_temp.t)",
    ),
}


@pytest.mark.parametrize(("setup", "body"), CODE.values(), ids=CODE.keys())
def test_code_of_an_engineer_is_refused_and_never_runs(
    engineer: Connection, setup: str, body: str
) -> None:
    engineer.execute(setup)  # type: ignore[arg-type]
    with pytest.raises(errors.DatabaseError, match="refused") as caught:
        _create(engineer, body)
    assert caught.value.sqlstate == "LF001"
    assert "it ran" not in str(caught.value)


def test_plain_tables_and_trusted_functions_are_fine(engineer: Connection) -> None:
    engineer.execute("create table app.users (id text); grant select on app.users to public")
    _create(engineer, "exists (select from app.users as u where u.id = coalesce(user_id, output))")
    engineer.execute("reset session authorization")
    engineer.execute(
        "create function app.fine(t text) returns boolean language sql immutable begin atomic select t <> ''; end"
    )
    engineer.execute("set local session authorization engineer")
    engineer.execute("select flywheel.create_validator('fine', 'sql', 'app.fine(output)')")
    engineer.execute("insert into flywheel.traces (output) values ('x')")
    rows = engineer.execute("select validator, passed from flywheel.verdicts order by 1").fetchall()
    assert rows == [("check", False), ("fine", True)]


@pytest.mark.parametrize(
    "setting",
    [
        "standard_conforming_strings = off",
        "extra_float_digits = -15",
        "check_function_bodies = off",
    ],
)
def test_no_setting_of_the_session_switches_the_examination_off(
    engineer: Connection, setting: str
) -> None:
    _create(engineer, "length(output) < 10")
    engineer.execute(f"set local {setting}")  # type: ignore[arg-type]
    for body in (
        "random() < 0.5",
        "query_to_xml(output, true, true, '') is not null",
        "true) or (true",
    ):
        with pytest.raises(errors.DatabaseError, match="refused"), engineer.transaction():
            engineer.execute(
                "select flywheel.create_validator('x', 'sql', %s)",
                (body if body.startswith(("r", "q")) else "true); select (true",),
            )
    engineer.execute(
        "select flywheel.create_validator('s', 'sql', $$output ~ '^\\d+$'$$, sample_rate => 0.123456789012345)"
    )
    engineer.execute(
        "insert into flywheel.traces (output) select i::text from generate_series(1, 2000) i"
    )
    rows = engineer.execute("select validator, missing from flywheel.coverage").fetchall()
    assert {missing for _, missing in rows} == {0}
    statuses = engineer.execute(
        "select distinct passed from flywheel.verdicts where validator = 's'"
    ).fetchall()
    assert statuses == [(True,)]


def test_a_blocked_row_is_judged_when_it_is_let_in(db: Connection) -> None:
    db.execute(
        "select flywheel.create_validator('x', 'sql', $$output <> 'bad'$$, on_fail => 'reject')"
    )
    db.execute("insert into flywheel.traces (output, status) values ('bad', 'blocked')")
    with pytest.raises(errors.DatabaseError, match="rejects"), db.transaction():
        db.execute("update flywheel.traces set status = 'ok'")
    assert db.execute("select status, revision from flywheel.traces").fetchall() == [("blocked", 1)]


def test_an_early_span_never_blocks_its_trace(db: Connection) -> None:
    db.execute(
        "select flywheel.create_validator('no pii', 'sql', $$output <> 'ssn'$$, subject => 'span', "
        "pipeline => 'support', on_fail => 'reject')"
    )
    trace = "00000000-0000-0000-0000-000000000001"
    db.execute("insert into flywheel.spans (trace_id, output) values (%s, 'ssn')", (trace,))
    db.execute("insert into flywheel.traces (trace_id, pipeline) values (%s, 'support')", (trace,))
    assert db.execute("select validator, passed from flywheel.verdicts").fetchall() == [
        ("no pii", False)
    ]
    with pytest.raises(errors.DatabaseError, match="rejects"), db.transaction():
        db.execute("insert into flywheel.spans (trace_id, output) values (%s, 'ssn')", (trace,))


def test_an_enormous_error_is_cut(db: Connection) -> None:
    db.execute("select flywheel.create_validator('int', 'sql', 'output::int > 0')")
    db.execute("insert into flywheel.traces (output) values (repeat('x', 1000000))")
    assert db.execute("select length(error) from flywheel.verdicts").fetchone() == (1000,)


def test_a_failed_assertion_is_an_error_verdict(db: Connection) -> None:
    db.execute(
        "create schema app; grant usage on schema app to public; "
        "create function app.f(t text) returns boolean language plpgsql stable set search_path = pg_catalog "
        "as $$ begin assert t <> 'x'; return true; end $$"
    )
    db.execute("select flywheel.create_validator('f', 'sql', 'app.f(output)')")
    db.execute("insert into flywheel.traces (output) values ('x')")
    assert db.execute("select status from flywheel.verdicts").fetchone() == ("error",)
