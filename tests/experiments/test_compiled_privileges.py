"""Decision 7: compiled bodies run as flywheel_validator, whoever inserts and whatever they set."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import Connection, errors, sql


@pytest.fixture
def writer(db: Connection) -> Iterator[Callable[[], None]]:
    """Become an application's role: member of flywheel_writer and of nothing else."""
    db.execute("create role app_writer login; grant flywheel_writer to app_writer")

    def become() -> None:
        db.execute("set local role app_writer")

    return become


def test_a_writer_needs_no_right_on_what_the_database_writes(
    db: Connection, writer: Callable[[], None]
) -> None:
    db.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 10')")
    writer()
    db.execute("insert into flywheel.traces (output) values ('short')")
    with pytest.raises(errors.InsufficientPrivilege), db.transaction():
        db.execute("select * from flywheel._verdicts")
    with pytest.raises(errors.InsufficientPrivilege), db.transaction():
        db.execute("insert into flywheel._verdicts select * from flywheel._verdicts")
    db.execute("reset role")
    assert db.execute("select passed from flywheel.verdicts").fetchall() == [(True,)]


def test_a_body_runs_as_the_validators_role(db: Connection, writer: Callable[[], None]) -> None:
    db.execute(
        "select flywheel.create_validator('who', 'sql', $$current_user = 'flywheel_validator'$$)"
    )
    writer()
    db.execute("insert into flywheel.traces (output) values ('x')")
    db.execute("reset role")
    assert db.execute("select passed from flywheel.verdicts").fetchall() == [(True,)]


@pytest.mark.parametrize("body", ["length(output) < 10", "(output::jsonb) ? 'a'"])
def test_no_search_path_redirects_a_compiled_body(db: Connection, body: str) -> None:
    """A writer who owns a schema puts look-alikes of every operator and function first."""
    db.execute(
        "select flywheel.create_validator('check', 'sql', %s, reason => 'upper(output)', "
        "on_fail => 'reject', sample_rate => 0.999999, pipeline => 'default', mode => 'inline')",
        (body,),
    )
    db.execute("select flywheel.create_validator('queued', 'sql', %s, mode => 'queued')", (body,))
    db.execute(
        """
        create role app_writer login;
        grant flywheel_writer to app_writer;
        create schema evil authorization app_writer;
        grant usage, create on schema evil to public;
        create table evil.caught (who text, what text);
        grant insert on evil.caught to public;
        """
    )
    lookalikes = db.execute(
        """
        select distinct format('create function evil.%I(%s) returns %s language plpgsql as %L', p.proname,
            pg_get_function_identity_arguments(p.oid), p.prorettype::regtype,
            format('begin insert into evil.caught values (current_user, %L); return null; end', p.proname))
        from pg_proc p
        where p.pronamespace = 'pg_catalog'::regnamespace
          and p.proname = any (array['length', 'upper', 'now', 'statement_timestamp', 'hash_record_extended',
            'uuid_hash_extended', 'timezone', 'jsonb_exists'])
          and p.prokind = 'f' and not p.proretset
          and pg_get_function_identity_arguments(p.oid) !~ 'any|internal|cstring'
        """
    ).fetchall()
    assert len(lookalikes) > 10
    for (statement,) in lookalikes:
        db.execute(statement)
    for name in ("=", "<>", "<", "<=", ">", ">=", "?", "&", "*", "||", "+"):
        for left, right in (
            ("text", "text"),
            ("uuid", "uuid"),
            ("integer", "integer"),
            ("bigint", "bigint"),
            ("bigint", "integer"),
            ("jsonb", "text"),
            ("timestamptz", "timestamptz"),
            ("float8", "float8"),
            ("int2", "int4"),
        ):
            function = sql.Identifier("evil", f"op_{abs(hash((name, left, right)))}")
            db.execute(
                sql.SQL(
                    "create function {}({}, {}) returns boolean language plpgsql as "
                    "$$ begin insert into evil.caught values (current_user, 'operator'); return null; end $$"
                ).format(function, sql.SQL(left), sql.SQL(right))  # type: ignore[arg-type]
            )
            db.execute(
                sql.SQL(
                    "create operator evil.{} (function = {}, leftarg = {}, rightarg = {})"
                ).format(
                    sql.SQL(name),
                    function,
                    sql.SQL(left),  # type: ignore[arg-type]
                    sql.SQL(right),  # type: ignore[arg-type]
                )
            )
    db.execute("set local role app_writer")
    db.execute("set local search_path = evil, pg_catalog")
    # The control: the same path does redirect what is not qualified.
    db.execute("select length('x'), 'a'::text = 'b'::text")
    db.execute("reset role")
    caught = db.execute("with gone as (delete from evil.caught returning *) table gone").fetchall()
    assert ("app_writer", "length") in caught
    assert ("app_writer", "operator") in caught
    db.execute("set local role app_writer")

    db.execute("insert into flywheel.traces (output) values ('{\"a\":1}')")
    db.execute("insert into flywheel.traces (output, status) values ('[]', 'blocked')")
    db.execute("update flywheel.traces set output = '{\"a\":2}'")
    db.execute("select * from flywheel.check_input('hello')")
    db.execute("reset role; reset search_path")
    assert db.execute("select * from evil.caught").fetchall() == []
    assert db.execute("select count(*) from flywheel.verdicts").fetchone() == (2,)
    db.execute("drop schema evil cascade")


def test_a_body_reads_only_what_was_granted(db: Connection) -> None:
    db.execute("create schema app; create table app.users (user_id text)")
    create = (
        "select flywheel.create_validator('known user', 'sql', "
        "'exists (select from app.users as u where u.user_id = known.id)')"
    ).replace("known.id", "_user")
    create = create.replace("_user", "coalesce(session_id, user_id)")
    with pytest.raises(errors.DatabaseError, match="permission denied") as caught, db.transaction():
        db.execute(create)  # type: ignore[arg-type]
    assert "grant select" in (caught.value.diag.message_hint or "")
    db.execute(
        "grant usage on schema app to flywheel_validator; grant select on app.users to flywheel_validator"
    )
    db.execute(create)  # type: ignore[arg-type]
    db.execute("insert into app.users values ('ann')")
    db.execute("insert into flywheel.traces (session_id) values ('ann'), ('bob')")
    assert db.execute("select passed from flywheel.verdicts order by 1").fetchall() == [
        (False,),
        (True,),
    ]


def test_a_body_cannot_write_through_a_function_that_lies(db: Connection) -> None:
    """A function labelled STABLE that writes is stopped by PostgreSQL when it runs."""
    db.execute(
        """
        create schema app; grant usage on schema app to flywheel_validator;
        create table app.log (t text); grant insert on app.log to flywheel_validator;
        create function app.lies(t text) returns boolean language plpgsql stable
          set search_path = pg_catalog, pg_temp
          as $$ begin insert into app.log values (t); return true; end $$;
        """
    )
    db.execute("select flywheel.create_validator('lies', 'sql', 'app.lies(output)')")
    db.execute("insert into flywheel.traces (output) values ('x')")
    row = db.execute("select status, error from flywheel.verdicts").fetchone()
    assert row is not None
    assert row[0] == "error"
    assert "not allowed" in row[1]
    assert db.execute("select count(*) from app.log").fetchone() == (0,)


def test_what_a_body_uses_cannot_be_dropped_under_it(db: Connection) -> None:
    db.execute(
        "create schema app; grant usage on schema app to flywheel_validator; "
        "create function app.fine(t text) returns boolean language sql immutable begin atomic select t <> ''; end"
    )
    db.execute("select flywheel.create_validator('fine', 'sql', 'app.fine(output)')")
    with pytest.raises(errors.DependentObjectsStillExist):
        db.execute("drop function app.fine")


def test_the_validators_role_cannot_log_in_or_create(db: Connection) -> None:
    row = db.execute(
        "select rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, "
        "has_schema_privilege('flywheel_validator', 'flywheel', 'create') "
        "from pg_roles where rolname = 'flywheel_validator'"
    ).fetchone()
    assert row == (False,) * 5


def test_the_compiled_functions_are_as_shipped(db: Connection) -> None:
    db.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 10')")
    rows = db.execute(
        "select p.proname, p.proowner::regrole::text, p.prosecdef, p.proconfig from pg_proc p "
        "where p.pronamespace = 'flywheel'::regnamespace "
        "and (p.proname ~ '__validate_' or p.proname = '_gate')"
    ).fetchall()
    assert len(rows) == 5
    assert {row[1:] for row in rows} == {("flywheel_validator", True, None)}


def test_an_update_grant_on_the_catalog_runs_no_code(db: Connection) -> None:
    """Bodies are functions of the catalog: changing the stored text changes nothing that runs."""
    db.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 10')")
    db.execute("update flywheel._validator_versions set body = 'pg_sleep(100) is null'")
    db.execute("insert into flywheel.traces (output) values ('short')")
    assert db.execute("select passed from flywheel.verdicts").fetchall() == [(True,)]


def test_roles_survive_a_superuser_without_them(connect: Callable[..., psycopg.Connection]) -> None:
    """Migrating again neither fails on existing roles nor changes who is in them."""
    session = connect()
    members = session.execute(
        "select count(*) from pg_auth_members where roleid::regrole::text like 'flywheel%'"
    ).fetchone()
    assert members is not None
    assert members[0] >= 3
