"""Every way to write a trace or span has its verdicts before the statement returns."""

from collections.abc import Callable

import pytest
from psycopg import Connection, errors

NIL = "00000000-0000-0000-0000-00000000000"


@pytest.fixture
def checked(db: Connection) -> Connection:
    """Two trace checks and a span check; the session is an application's role."""
    db.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 10')")
    db.execute("select flywheel.create_validator('asked', 'sql', 'input is not null')")
    db.execute(
        "select flywheel.create_validator('tool', 'sql', 'length(output) < 10', subject => 'span')"
    )
    db.execute("create role app_writer; grant flywheel_writer, flywheel_reader to app_writer")
    db.execute("set local role app_writer")
    return db


def _verdicts(session: Connection) -> list[tuple[str, bool]]:
    return session.execute(
        "select validator, passed from flywheel.verdicts order by validator, passed"
    ).fetchall()


def test_one_row(checked: Connection) -> None:
    checked.execute("insert into flywheel.traces (input, output) values ('q', 'short')")
    assert _verdicts(checked) == [("asked", True), ("short", True)]


def test_many_rows(checked: Connection) -> None:
    checked.execute(
        "insert into flywheel.traces (input, output) "
        "select 'q', repeat('x', i) from generate_series(1, 20) i"
    )
    assert _verdicts(checked).count(("short", True)) == 9
    assert _verdicts(checked).count(("short", False)) == 11


def test_more_rows_than_the_small_plan_takes(checked: Connection) -> None:
    """Above a thousand rows the statement is planned for its own size."""
    for rows in (1, 3000, 2):
        checked.execute(
            "insert into flywheel.traces (input, output) "
            "select 'q', repeat('x', mod(i, 20)) from generate_series(1, %s) i",
            (rows,),
        )
    row = checked.execute(
        "select count(*), count(*) filter (where passed) from flywheel.verdicts where validator = 'short'"
    ).fetchone()
    assert row == (3003, 1503)


def test_copy(checked: Connection) -> None:
    with checked.cursor().copy("copy flywheel.traces (input, output) from stdin") as copy:
        for number in range(5):
            copy.write_row(("q", "x" * number * 4))
    assert _verdicts(checked).count(("short", True)) == 3


def test_nothing_inserted(checked: Connection) -> None:
    checked.execute("insert into flywheel.traces (output) select 'x' where false")
    assert _verdicts(checked) == []


def test_on_conflict_do_update(checked: Connection) -> None:
    upsert = (
        "insert into flywheel.traces (trace_id, input, output) values (%s, 'q', %s), (%s, 'q', 'x') "
        "on conflict (trace_id) do update set output = excluded.output"
    )
    checked.execute(upsert, (NIL + "1", "short", NIL + "2"))
    checked.execute(upsert, (NIL + "1", "much too long", NIL + "3"))
    rows = checked.execute(
        "select trace_id::text, revision, passed from flywheel.verdicts "
        "where validator = 'short' order by 1"
    ).fetchall()
    assert rows == [(NIL + "1", 2, False), (NIL + "2", 1, True), (NIL + "3", 1, True)]


def test_on_conflict_do_nothing(checked: Connection) -> None:
    for _ in range(2):
        checked.execute(
            "insert into flywheel.traces (trace_id, output) values (%s, 'x') on conflict do nothing",
            (NIL + "1",),
        )
    assert len(_verdicts(checked)) == 2


def test_merge(checked: Connection) -> None:
    checked.execute("insert into flywheel.traces (trace_id, output) values (%s, 'x')", (NIL + "1",))
    checked.execute(
        """
        merge into flywheel.traces as t
        using (values (%s::uuid, 'much too long'), (%s, 'y')) as s (trace_id, output)
          on s.trace_id = t.trace_id
        when matched then update set output = s.output
        when not matched then insert (trace_id, output) values (s.trace_id, s.output)
        """,
        (NIL + "1", NIL + "2"),
    )
    rows = checked.execute(
        "select trace_id::text, revision, passed from flywheel.verdicts "
        "where validator = 'short' order by 1"
    ).fetchall()
    assert rows == [(NIL + "1", 2, False), (NIL + "2", 1, True)]


def test_output_that_arrives_later(checked: Connection) -> None:
    """An application that inserts at the start of a call and updates at its end."""
    checked.execute("insert into flywheel.traces (trace_id, input) values (%s, 'q')", (NIL + "1",))
    assert _verdicts(checked) == [("asked", True), ("short", None)]
    row = checked.execute(
        "select status, skipped_reason from flywheel.verdicts where validator = 'short'"
    ).fetchone()
    assert row == ("skipped", "the check came to null: there was nothing to decide")
    checked.execute("update flywheel.traces set output = 'done', ended_at = flywheel.now()")
    assert _verdicts(checked) == [("asked", True), ("short", True)]


def test_spans(checked: Connection) -> None:
    checked.execute("insert into flywheel.traces (trace_id, output) values (%s, 'x')", (NIL + "1",))
    checked.execute(
        "insert into flywheel.spans (trace_id, node, kind, output) "
        "values (%s, 'search', 'tool', 'short'), (%s, 'search', 'tool', 'much too long')",
        (NIL + "1", NIL + "1"),
    )
    checked.execute("update flywheel.spans set output = 'now far too long' where output = 'short'")
    rows = checked.execute(
        "select revision, passed from flywheel.verdicts where validator = 'tool' order by 1"
    ).fetchall()
    assert rows == [(1, False), (2, False)]
    by_node = checked.execute(
        "select node, pipeline, failed from flywheel.pass_rates where validator = 'tool'"
    ).fetchall()
    assert by_node == [("search", "default", 2)]


def test_span_upsert_and_copy(checked: Connection) -> None:
    with checked.cursor().copy(
        "copy flywheel.spans (trace_id, span_id, output) from stdin"
    ) as copy:
        copy.write_row((NIL + "1", NIL + "2", "short"))
    checked.execute(
        "insert into flywheel.spans (trace_id, span_id, output) values (%s, %s, 'much too long') "
        "on conflict (trace_id, span_id) do update set output = excluded.output",
        (NIL + "1", NIL + "2"),
    )
    assert _verdicts(checked) == [("tool", False)]


def test_a_trace_that_comes_after_its_spans(checked: Connection) -> None:
    checked.execute("reset role")
    checked.execute(
        "select flywheel.create_validator('support only', 'sql', 'output is not null', "
        "subject => 'span', pipeline => 'support')"
    )
    checked.execute("set local role app_writer")
    checked.execute("insert into flywheel.spans (trace_id, output) values (%s, 'x')", (NIL + "1",))
    assert _verdicts(checked) == [("tool", True)]
    checked.execute(
        "insert into flywheel.traces (trace_id, pipeline) values (%s, 'support')", (NIL + "1",)
    )
    assert ("support only", True) in _verdicts(checked)
    pipelines = checked.execute(
        "select distinct pipeline from flywheel.pass_rates where validator in ('tool', 'support only')"
    ).fetchall()
    assert pipelines == [("support",)]
    rows = checked.execute("select validator, missing from flywheel.coverage order by 1").fetchall()
    assert {missing for _, missing in rows} == {0}


@pytest.mark.parametrize("first", ["traces", "spans"])
def test_a_trace_and_its_spans_in_one_statement(checked: Connection, first: str) -> None:
    checked.execute("reset role")
    checked.execute(
        "select flywheel.create_validator('of a span', 'sql', 'output <> ''no''', "
        "subject => 'span', pipeline => 'p')"
    )
    checked.execute("set local role app_writer")
    key = NIL + "1"
    # One came before its trace.
    checked.execute("insert into flywheel.spans (trace_id, output) values (%s, 'no')", (key,))
    traces = f"insert into flywheel.traces (trace_id, pipeline) values ('{key}', 'p') returning 1"
    spans = f"insert into flywheel.spans (trace_id, output) values ('{key}', 'yes'), ('{key}', 'no') returning 1"
    one, other = (traces, spans) if first == "traces" else (spans, traces)
    checked.execute(f"with w as ({one}) {other}")  # type: ignore[arg-type]
    counted = "select status, count(*) from flywheel.verdicts where validator = 'of a span' group by 1 order by 1"
    assert checked.execute(counted).fetchall() == [("failed", 2), ("passed", 1)]
    # A move to another pipeline, and two more spans, at once.
    moved = f"with w as (update flywheel.traces set pipeline = 'q' returning 1) {spans}"
    checked.execute(moved)  # type: ignore[arg-type]
    assert checked.execute(counted).fetchall() == []
    assert checked.execute("select sum(missing) from flywheel.coverage").fetchone() == (0,)


def test_a_trace_that_moves_to_another_pipeline(checked: Connection) -> None:
    checked.execute("reset role")
    checked.execute(
        "select flywheel.create_validator('support only', 'sql', 'true', subject => 'span', pipeline => 'support')"
    )
    checked.execute("set local role app_writer")
    checked.execute("insert into flywheel.traces (trace_id) values (%s)", (NIL + "1",))
    checked.execute("insert into flywheel.spans (trace_id, output) values (%s, 'x')", (NIL + "1",))
    assert "support only" not in dict(_verdicts(checked))
    checked.execute("update flywheel.traces set pipeline = 'support'")
    assert "support only" in dict(_verdicts(checked))
    checked.execute("update flywheel.traces set pipeline = 'other'")
    assert "support only" not in dict(_verdicts(checked))


def test_rollback_and_savepoints(checked: Connection) -> None:
    checked.execute("insert into flywheel.traces (output) values ('kept')")
    checked.execute("savepoint s")
    checked.execute("insert into flywheel.traces (output) values ('gone')")
    checked.execute("update flywheel.traces set output = 'changed too much'")
    checked.execute("rollback to s")
    rows = checked.execute(
        "select revision, passed from flywheel.verdicts where validator = 'short'"
    )
    assert rows.fetchall() == [(1, True)]


def test_deleting_removes_what_hangs_on_a_trace(checked: Connection) -> None:
    for number in (1, 2):
        checked.execute(
            "insert into flywheel.traces (trace_id, output) values (%s, 'x')", (NIL + str(number),)
        )
        checked.execute(
            "insert into flywheel.spans (trace_id, output) values (%s, 'x')", (NIL + str(number),)
        )
    checked.execute("reset role")
    checked.execute("delete from flywheel.traces where trace_id = %s", (NIL + "1",))
    left = checked.execute("select distinct trace_id::text from flywheel._verdicts").fetchall()
    assert left == [(NIL + "2",)]
    assert checked.execute("select count(*) from flywheel.spans").fetchone() == (1,)
    checked.execute("delete from flywheel.spans")
    assert _verdicts(checked) == [("asked", False), ("short", True)]
    checked.execute("truncate flywheel.traces")
    assert checked.execute("select count(*) from flywheel._verdicts").fetchone() == (0,)


@pytest.mark.parametrize(
    "tables", ["flywheel.traces, flywheel.spans", "flywheel.spans, flywheel.traces"]
)
def test_both_tables_in_one_truncate(checked: Connection, tables: str) -> None:
    checked.execute("insert into flywheel.traces (trace_id, output) values (%s, 'x')", (NIL + "1",))
    checked.execute("insert into flywheel.spans (trace_id, output) values (%s, 'x')", (NIL + "1",))
    checked.execute("reset role")
    checked.execute(f"truncate {tables}")  # type: ignore[arg-type]
    assert _verdicts(checked) == []
    assert checked.execute("select count(*) from flywheel.spans").fetchone() == (0,)


def test_truncating_spans_keeps_the_traces_verdicts(checked: Connection) -> None:
    checked.execute("insert into flywheel.traces (trace_id, output) values (%s, 'x')", (NIL + "1",))
    checked.execute("insert into flywheel.spans (trace_id, output) values (%s, 'x')", (NIL + "1",))
    checked.execute("reset role")
    checked.execute("truncate flywheel.spans")
    assert dict(_verdicts(checked)).keys() == {"asked", "short"}


def test_what_the_database_sets_is_refused_to_a_writer(checked: Connection) -> None:
    for column in ("revision", "generation", "received_at", "revised_at"):
        with pytest.raises(errors.InsufficientPrivilege), checked.transaction():
            checked.execute(f"insert into flywheel.traces ({column}) values (default)")
    with pytest.raises(errors.InsufficientPrivilege), checked.transaction():
        checked.execute("delete from flywheel.traces")


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("insert into flywheel.traces (status) values ('fine')", "status_is_ok_error_or_blocked"),
        ("insert into flywheel.traces (pipeline) values ('')", "pipeline_is_not_empty"),
        ("insert into flywheel.traces (attributes) values ('[]')", "attributes_is_an_object"),
        (
            "insert into flywheel.traces (started_at, ended_at) values ('2026-01-02', '2026-01-01')",
            "ended_not_before_started",
        ),
        (f"insert into flywheel.spans (trace_id, kind) values ('{NIL}1', 'llm')", "kind_is_known"),
        (
            f"insert into flywheel.spans (trace_id, span_id) values ('{NIL}1', '{NIL}0')",
            "span_id_is_not_nil",
        ),
    ],
)
def test_constraints_read_as_sentences(db: Connection, statement: str, constraint: str) -> None:
    with pytest.raises(errors.CheckViolation) as caught:
        db.execute(statement)  # type: ignore[arg-type]
    assert caught.value.diag.constraint_name == constraint


def test_ten_megabyte_texts(checked: Connection) -> None:
    big = "word " * 2_000_000
    checked.execute("reset role")
    checked.execute(
        "select flywheel.create_validator('pattern', 'sql', $$output !~ '\\mdelve\\M'$$)"
    )
    checked.execute("insert into flywheel.traces (input, output) values (%s, %s)", (big, big))
    assert _verdicts(checked) == [("asked", True), ("pattern", True), ("short", False)]
    checked.execute("update flywheel.traces set output = output || 'delve'")
    assert ("pattern", False) in _verdicts(checked)


def test_opentelemetry_ids_map_both_ways(db: Connection) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    span = "00f067aa0ba902b7"
    row = db.execute(
        "insert into flywheel.spans (trace_id, span_id) values (%s::uuid, lpad(%s, 32, '0')::uuid) "
        "returning replace(trace_id::text, '-', ''), right(replace(span_id::text, '-', ''), 16)",
        (trace, span),
    ).fetchone()
    assert row == (trace, span)


def test_ids_are_version_seven_and_ordered_by_time(db: Connection) -> None:
    ids = [
        row[0]
        for row in db.execute("select flywheel.uuidv7() from generate_series(1, 1000)").fetchall()
    ]
    assert len(set(ids)) == 1000
    assert {(i.version, i.variant) for i in ids} == {(7, "specified in RFC 4122")}
    stamped = db.execute("select extract(epoch from clock_timestamp()) * 1000").fetchone()
    assert stamped is not None
    assert abs((ids[-1].int >> 80) - float(stamped[0])) < 60_000
    prefixes = [i.int >> 64 for i in ids]
    assert prefixes == sorted(prefixes)


def test_one_clock(db: Connection) -> None:
    """A test moves the clock by replacing the function in its transaction."""
    db.execute(
        "create or replace function flywheel.now() returns timestamptz language sql stable "
        "begin atomic select timestamptz '2030-01-02 03:04:05+00'; end"
    )
    db.execute("select flywheel.create_validator('x', 'sql', 'true')")
    db.execute("insert into flywheel.traces default values")
    row = db.execute(
        "select distinct t.received_at = flywheel.now(), t.started_at = flywheel.now(), "
        "v.created_at = flywheel.now() from flywheel.traces t join flywheel.verdicts v using (trace_id)"
    ).fetchall()
    assert row == [(True, True, True)]
    assert db.execute("select day::text from flywheel.pass_rates").fetchall() == [("2030-01-02",)]


def test_rows_that_go_around_the_triggers_are_found(connect: Callable[..., Connection]) -> None:
    session = connect()
    session.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 10')")
    session.execute("select flywheel.create_validator('later', 'sql', 'true', mode => 'queued')")
    session.execute("set session_replication_role = replica")
    session.execute(
        "insert into flywheel.traces (output) values ('unseen'), ('also unseen, and long')"
    )
    session.execute("set session_replication_role = origin")
    before = session.execute(
        "select validator, expected, missing from flywheel.coverage order by 1"
    )
    assert before.fetchall() == [("later", 2, 2), ("short", 2, 2)]
    filled = session.execute("select validator, filled from flywheel.sweep() order by 1").fetchall()
    assert filled == [("later", 2), ("short", 2)]
    after = session.execute(
        "select validator, decided, pending, missing from flywheel.coverage order by 1"
    )
    assert after.fetchall() == [("later", 0, 2, 0), ("short", 2, 0, 0)]
    assert session.execute("select * from flywheel.sweep()").fetchall() == []

    session.execute("set session_replication_role = replica")
    session.execute(
        "update flywheel.traces set output = 'x', revision = revision + 1 where output = 'unseen'"
    )
    session.execute("delete from flywheel.traces where output <> 'x'")
    session.execute("set session_replication_role = origin")
    session.execute("select * from flywheel.sweep()")
    rows = session.execute("select validator, revision from flywheel.verdicts").fetchall()
    assert rows == [("short", 2)]
    jobs = session.execute("select validator, revision from flywheel.jobs").fetchall()
    assert jobs == [("later", 2)]
