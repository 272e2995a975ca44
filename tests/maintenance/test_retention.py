"""Retention: what goes, what stays, in which steps, and who waits for whom."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import Connection, errors

Connect = Callable[..., Connection]
At = Callable[[str], None]

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def one(db: Connection, query: Any, *parameters: object) -> Any:
    row = db.execute(query, parameters or None).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def insert(db: Connection, days_ago: float, pipeline: str = "support", count: int = 1) -> list[Any]:
    """Traces that were received so long before noon."""
    rows = db.execute(
        "insert into flywheel.traces (pipeline, input, output, received_at)"
        " select %s, 'in', 'out', %s from generate_series(1, %s) returning trace_id",
        (pipeline, NOON - timedelta(days=days_ago), count),
    ).fetchall()
    return [trace_id for (trace_id,) in rows]


def left(db: Connection) -> dict[str, int]:
    return dict(db.execute("select pipeline, count(*) from flywheel.traces group by 1").fetchall())


def apply(db: Connection, max_traces: int = 1000) -> int:
    """Until there is no more; returns how often it was called."""
    for n in range(1, 100):
        if not one(db, "select bool_or(is_more) from flywheel.apply_retention(%s)", max_traces):
            return n
    raise AssertionError("it does not end")


@pytest.fixture
def noon(db: Connection, at: At) -> Connection:
    at(NOON.isoformat())
    return db


def test_each_pipeline_has_its_own_and_the_others_share_one(noon: Connection) -> None:
    for pipeline in ("support", "search", "sales", "chat"):
        for days in (100, 50, 5):
            insert(noon, days, pipeline)
    noon.execute("select flywheel.set_retention('support', '90 days')")
    noon.execute("select flywheel.set_retention('search', '7 days')")
    apply(noon)
    assert left(noon) == {"support": 2, "search": 1, "sales": 3, "chat": 3}
    noon.execute("select flywheel.set_retention(null, '10 days')")
    apply(noon)
    assert left(noon) == {"support": 2, "search": 1, "sales": 1, "chat": 1}
    rows = noon.execute("select pipeline, removed from flywheel.retention order by 1").fetchall()
    assert rows == [("search", 2), ("support", 1), (None, 4)]
    noon.execute("select flywheel.drop_retention('support')")
    apply(noon)
    assert left(noon)["support"] == 1


def test_the_border_is_exact(noon: Connection) -> None:
    noon.execute("select flywheel.set_retention(null, '1 day')")
    insert(noon, 1)
    (gone,) = insert(noon, 1.00001)
    apply(noon)
    assert one(
        noon, "select count(*) filter (where trace_id = %s), count(*) from flywheel.traces", gone
    ) == (0, 1)


def test_everything_about_a_trace_goes_with_it(noon: Connection) -> None:
    noon.execute("select flywheel.create_validator('v', 'sql', 'length(output) < 5')")
    noon.execute(
        "select flywheel.create_validator('q', 'sql', 'length(output) < 5', mode => 'queued')"
    )
    noon.execute(
        "select flywheel.create_validator('s', 'sql', 'output is null', subject => 'span')"
    )
    for days in (5, 1):
        (trace_id,) = insert(noon, days)
        noon.execute("insert into flywheel.spans (trace_id) values (%s)", (trace_id,))
    noon.execute("select flywheel.set_retention(null, '2 days')")
    apply(noon)
    for table, count in {"traces": 1, "spans": 1, "_verdicts": 2, "_jobs": 1}.items():
        assert one(noon, f"select count(*) from flywheel.{table}") == count, table
    assert one(noon, "select sum(missing) from flywheel.coverage") == 0


def test_labelled_traces_stay_unless_told_otherwise(noon: Connection) -> None:
    noon.execute("select flywheel.create_validator('v', 'sql', 'true')")
    noon.execute("select flywheel.create_validator('s', 'sql', 'true', subject => 'span')")
    plain, labelled, by_span, withdrawn = insert(noon, 5, count=4)
    span_id = one(
        noon, "insert into flywheel.spans (trace_id) values (%s) returning span_id", by_span
    )
    noon.execute("select flywheel.label(%s, 'v', true)", (labelled,))
    noon.execute("select flywheel.label(%s, 's', true, span_id => %s)", (by_span, span_id))
    label_id = one(noon, "select flywheel.label(%s, 'v', true)", withdrawn)
    noon.execute("select flywheel.withdraw_label(%s)", (label_id,))
    noon.execute("select flywheel.set_retention(null, '2 days')")
    apply(noon)
    kept = {
        trace_id for (trace_id,) in noon.execute("select trace_id from flywheel.traces").fetchall()
    }
    assert kept == {labelled, by_span}
    noon.execute("select flywheel.set_retention(null, '2 days', keep_labelled => false)")
    apply(noon)
    assert left(noon) == {}
    # What people said stays in any case.
    assert one(noon, "select count(*) from flywheel._labels") == 3
    assert plain not in kept


def test_spans_whose_trace_never_arrived_go_by_the_rule_for_all_others(noon: Connection) -> None:
    noon.execute("select flywheel.create_validator('s', 'sql', 'true', subject => 'span')")
    noon.execute("select flywheel.set_retention('support', '1 day')")
    (kept,) = insert(noon, 5, "other")
    for trace_id, days in ((kept, 5), (None, 5), (None, 5), (None, 5), (None, 1)):
        noon.execute(
            "insert into flywheel.spans (trace_id, received_at) values (coalesce(%s, flywheel.uuidv7()), %s)",
            (trace_id, NOON - timedelta(days=days)),
        )
    labelled = one(
        noon, "select (trace_id, span_id) from flywheel.spans where trace_id <> %s limit 1", kept
    )
    noon.execute("select flywheel.label(%s, 's', true, span_id => %s)", labelled)
    apply(noon)
    assert one(noon, "select count(*) from flywheel.spans") == 5
    noon.execute("select flywheel.set_retention(null, '10 days')")
    apply(noon)
    assert one(noon, "select count(*) from flywheel.spans") == 5
    noon.execute("select flywheel.set_retention(null, '2 days')")
    # Its traces go first, and a call removes no more than it is asked to.
    assert [
        one(noon, "select sum(removed) from flywheel.apply_retention(1)") for _ in range(4)
    ] == [1, 1, 1, 0]
    # The fresh one and the labelled one.
    assert one(
        noon,
        "select count(*), count(*) filter (where trace_id = %s) from flywheel.spans",
        labelled[0],
    ) == (2, 1)
    assert one(noon, "select count(*) from flywheel._verdicts") == 2


def test_many_spans_are_looked_through_in_steps(noon: Connection) -> None:
    (kept,) = insert(noon, 1)
    noon.execute(
        "insert into flywheel.spans (trace_id, received_at) select case when mod(i, 100) = 0 then flywheel.uuidv7() else %s end,"
        " %s::timestamptz + i * interval '1 second' from generate_series(1, 45000) as i",
        (kept, NOON - timedelta(days=30)),
    )
    noon.execute("select flywheel.set_retention(null, '2 days')")
    assert apply(noon, 100) <= 12
    assert one(
        noon, "select count(*), count(*) filter (where trace_id = %s) from flywheel.spans", kept
    ) == (44550, 44550)


def test_it_goes_on_where_it_stopped(noon: Connection) -> None:
    for days in range(30, 10, -1):
        insert(noon, days, count=3)
    noon.execute("select flywheel.set_retention(null, '1 day')")
    seen = []
    for _ in range(4):
        seen.append(one(noon, "select removed, is_more from flywheel.apply_retention(25)"))
    assert seen == [(25, True), (25, True), (10, False), (0, False)]


def test_traces_that_are_kept_are_passed_over_once_a_day(noon: Connection, at: At) -> None:
    noon.execute("select flywheel.create_validator('v', 'sql', 'true')")
    (kept,) = insert(noon, 30)
    label_id = one(noon, "select flywheel.label(%s, 'v', true)", kept)
    noon.execute("select flywheel.set_retention(null, '1 day')")
    apply(noon)
    noon.execute("select flywheel.withdraw_label(%s)", (label_id,))
    apply(noon)
    assert left(noon) == {"support": 1}
    at((NOON + timedelta(hours=25)).isoformat())
    apply(noon)
    assert left(noon) == {}


def test_many_kept_traces_of_one_moment_do_not_stop_it(noon: Connection) -> None:
    """An import has one received_at for all its rows; those of another pipeline come first."""
    insert(noon, 30, "kept", count=12000)
    insert(noon, 30, "gone", count=5)
    insert(noon, 29, "gone", count=5)
    noon.execute("select flywheel.set_retention('gone', '1 day')")
    assert apply(noon, 3) <= 8
    assert left(noon) == {"kept": 12000}


def test_a_shorter_retention_finds_what_was_kept_before(noon: Connection) -> None:
    insert(noon, 30)
    insert(noon, 10)
    noon.execute("select flywheel.set_retention('support', '20 days')")
    apply(noon)
    assert left(noon) == {"support": 1}
    noon.execute("select flywheel.set_retention('support', '5 days')")
    apply(noon)
    assert left(noon) == {}
    assert one(noon, "select removed from flywheel.retention") == 2


def test_roll_ups_are_told_whether_to_forget(noon: Connection) -> None:
    """The setting by which incremental metrics know."""
    noon.execute("create table public.seen (pipeline text, keeps text)")
    noon.execute(
        "create function public.note() returns trigger language plpgsql as $$ begin"
        " insert into public.seen select distinct pipeline, current_setting('flywheel.keep_rollups') from old_rows; return null; end $$"
    )
    noon.execute(
        "create trigger _900_note after delete on flywheel.traces referencing old table as old_rows"
        " for each statement execute function public.note()"
    )
    for pipeline in ("a", "b"):
        insert(noon, 5, pipeline)
    noon.execute("select flywheel.set_retention('a', '1 day', keep_rollups => true)")
    noon.execute("select flywheel.set_retention('b', '1 day')")
    apply(noon)
    assert noon.execute("select * from public.seen order by 1").fetchall() == [
        ("a", "on"),
        ("b", "off"),
    ]
    assert one(noon, "select current_setting('flywheel.keep_rollups')") == "off"


def test_the_schedule_rests_between_small_batches(noon: Connection, at: At) -> None:
    insert(noon, 5, count=250)
    noon.execute("select flywheel.set_retention(null, '1 day')")
    noon.execute("delete from flywheel._schedules where task <> 'retention'")
    noon.execute("update flywheel._schedules set next_run_at = flywheel.now()")
    results = []
    for _ in range(3):
        results.append(one(noon, "select result from flywheel.run_schedules()"))
        due = one(noon, "select next_run_at - flywheel.now() from flywheel._schedules")
        if results[-1]["is_more"]:
            # Not due before it has rested.
            assert due.total_seconds() == pytest.approx(results[-1]["rest_seconds"], abs=1e-5)
            assert noon.execute("select * from flywheel.run_schedules()").fetchall() == []
            noon.execute("update flywheel._schedules set next_run_at = flywheel.now()")
    assert [(r["removed"], r["is_more"]) for r in results] == [
        (100, True),
        (100, True),
        (50, False),
    ]
    assert all(0 < r["rest_seconds"] <= 2 for r in results[:2])
    assert results[2]["rest_seconds"] == 0
    assert due.total_seconds() > 60


def test_nothing_removed_is_no_reason_to_rest(noon: Connection, at: At) -> None:
    insert(noon, 5, "kept", count=3000)
    noon.execute("select flywheel.set_retention('kept', '1000 years')")
    noon.execute("select flywheel.set_retention(null, '1 day')")
    result = one(noon, "select result from flywheel.run_schedule('retention')")
    assert (result["removed"], result["rest_seconds"]) == (0, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("set_retention('p', '0 days')", "keep is '00:00:00'"),
        ("set_retention('p', '-1 day')", "keep is '-1 days'"),
        ("set_retention('p', null)", "keep is null"),
        ("set_retention('', '1 day')", "the pipeline is empty"),
        ("set_retention('p', '9999 years')", "keep is"),
        ("drop_retention('p')", "there is no retention for the pipeline p"),
        ("drop_retention(null)", "there is no retention for all other pipelines"),
        ("apply_retention(0)", "max_traces is 0"),
        ("apply_retention(null)", "max_traces is null"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_hint(
    db: Connection, call: str, message: str
) -> None:
    with pytest.raises(psycopg.DatabaseError, match=message) as caught:
        db.execute(f"select flywheel.{call}")  # type: ignore[arg-type]
    assert caught.value.sqlstate == "LF002"
    assert caught.value.diag.message_hint


def test_a_pipeline_that_has_no_trace_yet_is_fine(noon: Connection) -> None:
    noon.execute("select flywheel.set_retention('to come', '1 day')")
    apply(noon)
    insert(noon, 2, "to come")
    noon.execute("update flywheel._retention set looked_to = '-infinity'")
    apply(noon)
    assert left(noon) == {}


def test_only_the_engineer_sets_it(db: Connection) -> None:
    for role in ("flywheel_worker", "flywheel_writer", "flywheel_labeler", "flywheel_reader"):
        db.execute(f"set local role {role}")  # type: ignore[arg-type]
        for call in ("set_retention('p', '1 day')", "drop_retention('p')", "apply_retention()"):
            with pytest.raises(errors.InsufficientPrivilege), db.transaction():
                db.execute(f"select flywheel.{call}")  # type: ignore[arg-type]
        db.execute("reset role")


# Several sessions.


@pytest.fixture
def expired(connect: Connect) -> Connection:
    """20 traces that have expired, judged by a queued validator, and a fresh one."""
    admin = connect()
    admin.execute(
        "select flywheel.create_validator('v', 'sql', 'length(output) < 5', mode => 'queued')"
    )
    admin.execute(
        "insert into flywheel.traces (input, output, received_at)"
        " select 'in', 'out', now() - interval '5 days' + i * interval '1 minute' from generate_series(1, 20) as i"
    )
    admin.execute("insert into flywheel.traces (input, output) values ('in', 'out')")
    admin.execute("select flywheel.set_retention(null, '1 day')")
    return admin


def oldest(db: Connection) -> Any:
    return one(db, "select trace_id from flywheel.traces order by received_at limit 1")


def test_the_procedure_removes_all_and_commits_between(
    connect: Connect, expired: Connection
) -> None:
    session = connect()
    session.execute("set role flywheel_admin")
    session.execute("call flywheel.enforce_retention(7, share => 0.5)")
    assert left(expired) == {"default": 1}
    transactions = one(expired, "select count(distinct xmin::text) from flywheel._stale_vectors")
    assert transactions == 3


@pytest.mark.parametrize("share", ["0", "-1", "1.5", "null", "'NaN'"])
def test_a_share_of_the_time_is_a_share(connect: Connect, share: str) -> None:
    with pytest.raises(psycopg.DatabaseError, match="share is") as caught:
        connect().execute(f"call flywheel.enforce_retention(share => {share})")  # type: ignore[arg-type]
    assert caught.value.sqlstate == "LF002"
    assert "rests" in (caught.value.diag.message_hint or "")


def test_the_procedure_says_what_to_do_inside_a_transaction(connect: Connect) -> None:
    session = connect(autocommit=False)
    told: list[str] = []
    session.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
    with pytest.raises(errors.InvalidTransactionTermination):
        session.execute("call flywheel.enforce_retention()")
    assert any("outside BEGIN" in line for line in told)


def test_a_trace_that_is_locked_is_left_for_the_next_time(
    connect: Connect, expired: Connection
) -> None:
    application, retention = connect(autocommit=False), connect()
    retention.execute("set lock_timeout = '2s'")
    trace_id = oldest(expired)
    application.execute(
        "update flywheel.traces set output = 'new' where trace_id = %s", (trace_id,)
    )
    assert one(retention, "select removed, is_more from flywheel.apply_retention()") == (19, False)
    assert one(retention, "select removed, is_more from flywheel.apply_retention()") == (0, False)
    application.commit()
    assert one(retention, "select removed, is_more from flywheel.apply_retention()") == (1, False)


def test_no_writer_waits_for_a_batch(connect: Connect, expired: Connection) -> None:
    application, retention = connect(), connect(autocommit=False)
    application.execute("set lock_timeout = '200ms'")
    assert one(retention, "select removed from flywheel.apply_retention()") == 20
    # Not committed yet: rows of others are written, changed and judged as ever.
    application.execute("insert into flywheel.traces (input, output) values ('in', 'out')")
    application.execute(
        "update flywheel.traces set output = 'changed' where received_at > now() - interval '1 day'"
    )
    assert one(application, "select count(*) from flywheel.claim_jobs('w', max_jobs => 100)") == 2
    retention.commit()


def test_a_label_that_is_being_written_keeps_its_trace(
    connect: Connect, expired: Connection
) -> None:
    labeler, retention = connect(autocommit=False), connect()
    trace_id = oldest(expired)
    labeler.execute("select flywheel.label(%s, 'v', true)", (trace_id,))
    assert one(retention, "select removed from flywheel.apply_retention()") == 19
    labeler.commit()
    assert one(retention, "select removed from flywheel.apply_retention()") == 0
    assert oldest(expired) == trace_id


def test_a_label_for_a_trace_that_is_being_removed_is_refused(
    connect: Connect, expired: Connection
) -> None:
    labeler, retention = connect(), connect(autocommit=False)
    trace_id = oldest(expired)
    retention.execute("select * from flywheel.apply_retention()")
    caught: list[psycopg.Error] = []

    def label() -> None:
        try:
            labeler.execute("select flywheel.label(%s, 'v', true)", (trace_id,))
        except psycopg.Error as error:
            caught.append(error)

    thread = threading.Thread(target=label)
    thread.start()
    waits = "select count(*) from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
    deadline = time.monotonic() + 20
    while one(expired, waits, labeler.info.backend_pid) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    retention.commit()
    thread.join(20)
    assert [error.sqlstate for error in caught] == ["LF004"]
    assert one(expired, "select count(*) from flywheel._labels") == 0


def test_a_worker_that_is_judging_a_trace_has_its_result_dropped(
    connect: Connect, expired: Connection
) -> None:
    worker = connect()
    jobs = worker.execute(
        "select jsonb_agg(jsonb_build_object('trace_id', trace_id, 'span_id', span_id, 'version_id', version_id, 'token', token))"
        " from flywheel.claim_jobs('w', max_jobs => 100)"
    ).fetchone()
    assert jobs is not None
    expired.execute("select * from flywheel.apply_retention()")
    from psycopg.types.json import Jsonb

    assert one(
        worker, "select recorded, dropped from flywheel.run_sql_jobs('w', %s)", Jsonb(jobs[0])
    ) == (1, 20)
    assert one(expired, "select count(*) from flywheel._verdicts") == 1
    assert one(expired, "select count(*) from flywheel._jobs") == 0


def test_two_at_once_share_nothing_and_lose_nothing(connect: Connect, expired: Connection) -> None:
    first, second = connect(autocommit=False), connect()
    assert one(first, "select removed from flywheel.apply_retention(10)") == 10
    # The rule is in the hands of the first.
    assert second.execute("select * from flywheel.apply_retention()").fetchall() == []
    first.commit()
    assert one(second, "select removed from flywheel.apply_retention()") == 10


def test_a_session_that_is_killed_in_a_batch_leaves_it_to_the_next(
    connect: Connect, expired: Connection
) -> None:
    first, second = connect(autocommit=False), connect()
    assert one(first, "select removed from flywheel.apply_retention()") == 20
    expired.execute("select pg_terminate_backend(%s)", (first.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        first.commit()
    assert one(second, "select removed from flywheel.apply_retention()") == 20
    assert one(second, "select removed from flywheel.retention") == 20


@pytest.mark.parametrize(("keeps", "counted"), [(True, 21), (False, 1)])
def test_incremental_metrics_keep_or_forget_what_has_expired(
    connect: Connect, expired: Connection, keeps: bool, counted: int
) -> None:
    expired.execute(
        "select flywheel.create_metric('n_traces', 'select pipeline, count(*) as n from flywheel.traces group by pipeline',"
        " storage => 'incremental')"
    )
    for _ in range(3):
        expired.execute("select flywheel.fold_metrics()")
    assert one(expired, "select n from flywheel.n_traces") == 21
    expired.execute("select flywheel.set_retention(null, '1 day', keep_rollups => %s)", (keeps,))
    worker = connect()
    worker.execute("set session authorization flywheel_worker")
    expired.execute("update flywheel._schedules set next_run_at = now() where task = 'retention'")
    worker.execute("select flywheel.run_schedules()")
    assert left(expired) == {"default": 1}
    assert one(expired, "select n from flywheel.n_traces") == counted
    expired.execute("select flywheel.fold_metrics()")
    assert one(expired, "select n from flywheel.n_traces") == counted


def test_kept_minima_outlive_changes_of_other_rows(connect: Connect, expired: Connection) -> None:
    """Once rows are gone that still count, the rows do not tell what an extreme is."""
    expired.execute(
        "select flywheel.create_metric('least', 'select pipeline, count(*) as n, min(length(output)) as lo"
        " from flywheel.traces group by pipeline', storage => 'incremental')"
    )
    expired.execute(
        "insert into flywheel.traces (pipeline, output) values ('default', 'xxxxxx'), ('other', 'x'), ('other', 'xx')"
    )
    expired.execute(
        "update flywheel.traces set output = 'yyyy' where received_at < now() - interval '1 day'"
    )
    expired.execute("select flywheel.set_retention('default', '1 day', keep_rollups => true)")
    worker = connect()
    worker.execute("set session authorization flywheel_worker")
    expired.execute("update flywheel._schedules set next_run_at = now() where task = 'retention'")
    worker.execute("select flywheel.run_schedules()")
    query = "select n, lo from flywheel.least where pipeline = 'default'"
    assert left(expired)["default"] < 5
    kept = expired.execute(query).fetchone()
    assert kept is not None
    for change in (
        "delete from flywheel.traces where output = 'x'",
        "select flywheel.fold_metrics()",
        "insert into flywheel.traces (pipeline, output) values ('default', 'z')",
        "select flywheel.fold_metrics()",
    ):
        expired.execute(change)
    assert expired.execute(query).fetchone() == (kept[0] + 1, 1)
    assert expired.execute("select n from flywheel.least where pipeline = 'other'").fetchone() == (
        1,
    )
    # What is counted anew is what is there.
    expired.execute("select flywheel.refresh_metric('least')")
    assert expired.execute(query).fetchone() == (left(expired)["default"], 1)


def test_plans_use_the_indexes(connect: Connect) -> None:
    session = connect()
    session.execute("select flywheel.create_validator('v', 'sql', 'length(output) < 5')")
    session.execute(
        "insert into flywheel.traces (input, output, received_at)"
        " select 'in', 'out', now() - i * interval '1 minute' from generate_series(1, 20000) as i"
    )
    session.execute("insert into flywheel.spans (trace_id) select trace_id from flywheel.traces")
    session.execute("vacuum analyze")
    session.execute("select flywheel.set_retention(null, '1 day')")
    session.execute("load 'auto_explain'")
    session.execute(
        "set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on"
    )
    session.execute("set auto_explain.log_level = 'notice'")
    plans: list[str] = []
    session.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
    for _ in range(7):
        session.execute("select * from flywheel.apply_retention(500)")
    text = "\n".join(plans)
    assert "traces_received_at_idx" in text
    for table in ("traces", "spans", "_verdicts"):
        assert f"Seq Scan on {table} " not in text, text
