"""What an SQL validator may say, what it is refused for, and what runs straight in the statement."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection, errors


def _create(session: Connection, body: str, **options: object) -> None:
    extra = "".join(f", {name} => %({name})s" for name in options)
    session.execute(
        f"select flywheel.create_validator('check', 'sql', %(body)s{extra})",  # type: ignore[arg-type]
        {"body": body, **options},
    )


REFUSED = {
    "a second statement": ("true); drop table flywheel.traces; select (true", "syntax error"),
    "a way out of the function": ("true); end; drop table flywheel.traces; --", "syntax error"),
    "a FROM": ("true) from pg_authid where (true", "syntax error"),
    "two columns": ("true), (false", "return type mismatch"),
    "a WHERE": ("true) where (false", "syntax error"),
    "an open comment": ("true /*", "unterminated"),
    "an open string": ("output = 'x", "unterminated"),
    "nothing": ("  ", "is empty"),
    "a number": ("length(output)", "cannot be matched"),
    "an unknown column": ("outputt = 'x'", "outputt"),
    "another subject's column": ("input_tokens > 1", "input_tokens"),
    "an unknown function": ("is_fine(output)", "is_fine"),
    "an aggregate": ("count(*) > 1", "aggregates"),
    "a window": ("row_number() over () > 1", "aggregates"),
    "a set": ("generate_series(1, 2) = 1", "set"),
    "a volatile function": ("random() < 0.5", "volatile"),
    "the time of day": ("clock_timestamp() > started_at", "volatile"),
    "a sleep": ("pg_sleep(1) is null", "volatile"),
    "a setting": ("set_config('a.b', 'c', false) = 'c'", "volatile"),
    "a file": ("pg_read_file('/etc/passwd') is null", "volatile|permission denied"),
    "a lock": ("pg_advisory_lock(1) is null", "volatile"),
    "a sequence": ("nextval('pg_class') > 1", "volatile|permission denied|not a sequence"),
    "a dumped table": ("table_to_xml('flywheel.traces', true, true, '') is null", "dumps"),
    "a dumped query": ("query_to_xml('select 1', true, true, '') is null", "dumps"),
    "a dumped schema": ("schema_to_xml('pg_catalog', true, true, '') is null", "dumps"),
    "built XML": ("xmlelement(name a, output) is null", "XML"),
    "a secret table": ("exists (select from pg_authid)", "permission denied"),
    "our own secrets": ("exists (select from flywheel._imports)", "permission denied"),
    "a write in a subquery": (
        "exists (with d as (delete from flywheel.traces returning 1) select from d)",
        "WITH|syntax",
    ),
    "a volatile subquery": ("(select random()) < 0.5", "volatile"),
    "a broken pattern": ("output ~ '('", "not a regular expression"),
    "a backreference": (r"output ~ '(a)\1'", "backreference"),
    "a backreference in a negation": (r"output !~* '(a)\1'", "backreference"),
    "a backreference in a function": (r"regexp_like(output, '(a)\1')", "backreference"),
    "a backreference in its params": ("output ~ (params->>'p')", "backreference"),
    "a comparison of types": ("output > 5", "does not exist"),
}


@pytest.mark.parametrize(("body", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(db: Connection, body: str, message: str) -> None:
    with pytest.raises(errors.DatabaseError, match=message) as caught, db.transaction():
        _create(db, body, **({"params": r'{"p": "(a)\\1"}'} if "params" in body else {}))
    assert caught.value.sqlstate == "LF001"
    assert caught.value.diag.message_hint
    assert "body" in (caught.value.diag.message_primary or "")
    assert db.execute("select count(*) from flywheel.validators").fetchone() == (0,)
    assert db.execute("select to_regclass('flywheel.traces') is not null").fetchone() == (True,)
    leftovers = db.execute(
        r"select proname from pg_proc where pronamespace = 'flywheel'::regnamespace "
        r"and proname ~ '^_(check|try|score|reason|expression)(_\d+)?$'"
    ).fetchall()
    assert leftovers == []


def test_nothing_runs_while_a_body_is_checked(db: Connection) -> None:
    db.execute(
        """
        create schema app; grant usage on schema app to public;
        create sequence app.calls; grant all on app.calls to public;
        create function app.writes(text) returns boolean language plpgsql volatile
          set search_path = pg_catalog as $$ begin perform nextval('app.calls'); return true; end $$;
        """
    )
    with pytest.raises(errors.DatabaseError, match="volatile"), db.transaction():
        _create(db, "app.writes('constant')")
    assert db.execute("select is_called from app.calls").fetchone() == (False,)


def test_a_function_that_can_be_redirected(db: Connection) -> None:
    db.execute(
        "create schema app; grant usage on schema app to public; "
        "create function app.f(t text) returns boolean language sql stable as 'select length(t) > 1'"
    )
    with pytest.raises(errors.DatabaseError, match="search_path") as caught, db.transaction():
        _create(db, "app.f(output)")
    hint = caught.value.diag.message_hint or ""
    db.execute(hint[hint.index("alter function") :])  # type: ignore[arg-type]
    _create(db, "app.f(output)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"params": '{"max": "many"}'}, "integer"),
        ({"params": "[]"}, "JSON object"),
        ({"sample_rate": 1.5}, "sample_rate"),
        ({"on_fail": "explode"}, "on_fail"),
        ({"on_error": "explode"}, "on_error"),
        ({"mode": "later"}, "mode"),
        ({"subject": "walk"}, "subject"),
        ({"node": "search"}, "span"),
        ({"kind": "tool"}, "span"),
        ({"mode": "queued", "on_fail": "reject"}, "queued validator cannot reject"),
        ({"few_shot_k": -1}, "few_shot_k"),
        ({"score": "length(outputt)"}, "the score is refused"),
        ({"reason": "random()"}, "the reason is refused"),
    ],
)
def test_options_that_make_no_sense(
    db: Connection, options: dict[str, object], message: str
) -> None:
    with pytest.raises(errors.DatabaseError, match=message) as caught:
        _create(db, "length(output) < (params->>'max')::int", **options)
    assert caught.value.sqlstate == "LF001"


@pytest.mark.parametrize("language", ["ruby", "cobol", None])
def test_languages_that_are_not_there(db: Connection, language: str | None) -> None:
    with pytest.raises(errors.DatabaseError, match="not available") as caught:
        db.execute("select flywheel.create_validator('x', %s, 'true')", (language,))
    assert caught.value.sqlstate == "LF001"


TOTAL = [
    "length(output) < 2000",
    "btrim(output) <> ''",
    "output !~ '[a-z]+@[a-z]+'",
    "output !~* '(delve|tapestry)'",
    "output not like '%delve%'",
    "output ilike '%thanks%' or output is null",
    "length(output) <= (params->>'max')::int",
    "length(output) between (params->>'min')::int and coalesce((params->>'max')::int, 10)",
    "coalesce(attributes->>'tenant', '') <> ''",
    "attributes ? 'tenant' and user_id is not null",
    "status in ('ok', 'blocked')",
    "lower(left(output, 5)) = 'hello'",
    "case when input is null then true else starts_with(output, 'a') end",
    "ended_at is not null and ended_at > started_at",
    "true",
    "null::boolean",
    "output not like '%\\\\'",
    r"output !~ 'a\\1'",
]
PARTIAL = [
    "(output::jsonb) ? 'a'",
    "output::int > 5",
    "length(output) / length(input) < 5",
    "length(output) * 1000 < 5",
    "output ~ input",
    "output like input",
    "output ~ (params->>'pattern')",
    "output like '%\\'",
    "output like ('%' || '\\')",
    "jsonb_array_length(attributes->'steps') < 5",
    "(select count(*) from flywheel.traces as t where t.user_id = 'x') < 5",
    "ended_at - started_at < interval '1 s'",
    "output similar to 'a%'",
    "substring(output from 5 for length(input)) = 'x'",
]


@pytest.mark.parametrize("body", TOTAL)
def test_total(db: Connection, body: str) -> None:
    _create(db, body, params='{"min": 1, "max": 10, "pattern": "a"}')
    assert db.execute("select is_total from flywheel.validators").fetchone() == (True,)


@pytest.mark.parametrize("body", PARTIAL)
def test_partial(db: Connection, body: str) -> None:
    _create(db, body, params='{"min": 1, "max": 10, "pattern": "a"}')
    assert db.execute("select is_total from flywheel.validators").fetchone() == (False,)


# Whatever a row holds, an expression that counts as total must not raise.
ROW = st.fixed_dictionaries(
    {
        "input": st.none()
        | st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))),
        "output": st.none()
        | st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))),
        "attributes": st.sampled_from(
            ["{}", '{"tenant": null}', '{"tenant": [1]}', '{"tenant": {"a": 1e400}}', '{"": ""}']
        ),
        "started_at": st.sampled_from(["-infinity", "infinity", "2026-01-01", "4713-01-01 BC"]),
    }
)


@pytest.fixture
def all_total(db: Connection) -> Connection:
    for number, body in enumerate(TOTAL):
        db.execute(
            "select flywheel.create_validator(%s, 'sql', %s, params => '{\"min\": 1, \"max\": 10}')",
            (f"check {number}", body),
        )
    return db


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(row=ROW)
def test_total_expressions_never_raise(all_total: Connection, row: dict[str, object]) -> None:
    with all_total.transaction(force_rollback=True):
        all_total.execute(
            "insert into flywheel.traces (input, output, attributes, started_at) "
            "values (%(input)s, %(output)s, %(attributes)s, %(started_at)s)",
            row,
        )
        statuses = all_total.execute("select status, count(*) from flywheel.verdicts group by 1")
        counts = dict(statuses.fetchall())
        assert sum(counts.values()) == len(TOTAL)
        assert "error" not in counts


def test_one_row_in_ten_thousand_raises(db: Connection) -> None:
    _create(db, "output::int > 0")
    db.execute("select flywheel.create_validator('length', 'sql', 'length(output) < 100')")
    db.execute(
        "insert into flywheel.traces (output) "
        "select case when i = 5000 then 'not a number' else i::text end from generate_series(1, 10000) i"
    )
    rows = db.execute(
        "select validator, status, count(*) from flywheel.verdicts group by 1, 2 order by 1, 2"
    ).fetchall()
    assert rows == [("check", "error", 1), ("check", "passed", 9999), ("length", "passed", 10000)]
    error = db.execute(
        "select error, passed from flywheel.verdicts where status = 'error'"
    ).fetchone()
    assert error == ('invalid input syntax for type integer: "not a number"', None)


def test_every_row_raises(db: Connection) -> None:
    _create(db, "output::int > 0")
    db.execute("insert into flywheel.traces (output) select 'x' from generate_series(1, 3000)")
    row = db.execute("select errored, decided from flywheel.coverage").fetchone()
    assert row == (3000, 0)


def test_a_null_is_skipped_and_never_a_score(db: Connection) -> None:
    _create(db, "length(output) < 5", score="length(output)", reason="'length ' || length(output)")
    db.execute("insert into flywheel.traces (output) values (null), ('four'), ('five5')")
    rows = db.execute(
        "select status, passed, score, reason from flywheel.verdicts order by status"
    ).fetchall()
    assert rows == [
        ("failed", False, 5.0, "length 5"),
        ("passed", True, 4.0, "length 4"),
        ("skipped", None, None, None),
    ]


def test_reject_stores_nothing_and_names_the_row(db: Connection) -> None:
    _create(db, "output <> 'bad'", on_fail="reject", reason="'it says ' || output")
    with pytest.raises(errors.DatabaseError, match="rejects trace") as caught, db.transaction():
        db.execute("insert into flywheel.traces (output) values ('good'), ('bad'), ('good')")
    assert caught.value.sqlstate == "LF010"
    assert '"check"' in str(caught.value.diag.message_primary)
    assert caught.value.diag.message_detail == "it says bad"
    assert caught.value.diag.constraint_name == "check"
    assert caught.value.diag.table_name == "traces"
    assert db.execute("select count(*) from flywheel.traces").fetchone() == (0,)
    db.execute("insert into flywheel.traces (output) values ('good')")
    with pytest.raises(errors.DatabaseError, match="rejects"), db.transaction():
        db.execute("update flywheel.traces set output = 'bad'")
    assert db.execute("select output, revision from flywheel.traces").fetchall() == [("good", 1)]


def test_reject_of_a_span_names_both(db: Connection) -> None:
    _create(db, "output <> 'bad'", on_fail="reject", subject="span")
    with pytest.raises(errors.DatabaseError, match=r"rejects span .* of trace"):
        db.execute(
            "insert into flywheel.spans (trace_id, output) values (flywheel.uuidv7(), 'bad')"
        )


def test_an_error_is_allowed_by_default(db: Connection) -> None:
    _create(db, "output::int > 0")
    db.execute("insert into flywheel.traces (output) values ('x')")
    assert db.execute("select status, passed from flywheel.verdicts").fetchall() == [
        ("error", None)
    ]


def test_an_error_can_reject(db: Connection) -> None:
    _create(db, "output::int > 0", on_error="reject")
    with pytest.raises(errors.DatabaseError, match="rejects trace") as caught, db.transaction():
        db.execute("insert into flywheel.traces (output) values ('1'), ('x')")
    assert caught.value.sqlstate == "LF010"
    assert "invalid input syntax" in (caught.value.diag.message_detail or "")
    assert db.execute("select count(*) from flywheel.traces").fetchone() == (0,)
    db.execute("insert into flywheel.traces (output) values ('0')")
    assert db.execute("select passed from flywheel.verdicts").fetchall() == [(False,)]


NAMES = [
    "it's",
    'say "hi"',
    "'; drop table flywheel.traces; --",
    "$$ $body$ $function$",
    "%s %I %L %1$s",
    "検証 ✓ 🚀",
    "line\nbreak\\",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_and_any_text(db: Connection, name: str) -> None:
    """Names, filters, params and reasons are values everywhere, whatever they spell."""
    db.execute(
        "select flywheel.create_validator(%(n)s, 'sql', $$output <> (params->>'x')$$, "
        "params => jsonb_build_object('x', %(n)s::text), pipeline => %(n)s, description => %(n)s)",
        {"n": name},
    )
    db.execute(
        "select flywheel.create_validator(%(n)s || '2', 'sql', 'output <> ' || quote_literal(%(n)s), "
        "subject => 'span', node => %(n)s, reason => quote_literal(%(n)s))",
        {"n": name},
    )
    db.execute(
        "insert into flywheel.traces (pipeline, output) values (%s, %s), (%s, 'fine')",
        (name, name, name),
    )
    db.execute(
        "insert into flywheel.spans (trace_id, node, output) values (flywheel.uuidv7(), %s, %s)",
        (name, name),
    )
    rows = db.execute(
        "select validator, passed, reason from flywheel.verdicts order by 1, 2"
    ).fetchall()
    assert rows == [(name, False, name), (name, True, None), (name + "2", False, name)]
    assert db.execute(
        "select count(*) from flywheel.failures where pipeline = %s", (name,)
    ).fetchone() == (1,)
    db.execute("select flywheel.alter_validator(%s, description => 'x')", (name,))
    db.execute("select flywheel.drop_validator(%s, delete_verdicts => true)", (name,))
