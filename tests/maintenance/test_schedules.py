"""Schedules: when they are due, what a run leaves behind, who may change them."""

from collections.abc import Callable
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import Connection, errors

from flywheel_db import doctor

Connect = Callable[..., Connection]
At = Callable[[str], None]
Task = Callable[..., None]

OK = "return '{\"done\": 3}';"
FAILS = "raise exception 'the disk is full';"


def one(db: Connection, query: LiteralString, *parameters: object) -> Any:
    row = db.execute(query, parameters or None).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def run(db: Connection) -> list[tuple[Any, ...]]:
    return db.execute("select schedule, status from flywheel.run_schedules()").fetchall()


def next_run(db: Connection, name: str = "mine") -> str:
    query = "select to_char(next_run_at at time zone 'UTC', 'MM-DD HH24:MI:SS') from flywheel.schedules where name = %s"
    return str(one(db, query, name))


def test_a_database_comes_with_schedules_for_what_it_needs(db: Connection) -> None:
    names = {name for (name,) in db.execute("select name from flywheel.schedules").fetchall()}
    assert {"sweep", "purge runs"} <= names
    tasks = "select count(*) from flywheel._tasks() where to_regprocedure(format('flywheel.%I(double precision)', function)) is null"
    assert one(db, tasks) == 0


def test_every_task_that_is_there_succeeds(db: Connection) -> None:
    db.execute("update flywheel._schedules set next_run_at = flywheel.now()")
    ran = db.execute("select task, status, error from flywheel.run_schedules()").fetchall()
    assert {
        (task, "ok", None)
        for (task,) in db.execute("select task from flywheel._tasks()").fetchall()
    } == set(ran)


def test_an_interval(db: Connection, at: At, task: Task) -> None:
    task(OK)
    at("2026-11-25 10:00:00Z")
    db.execute("select flywheel.create_schedule('mine', 'index vectors', every => '10 minutes')")
    assert next_run(db) == "11-25 10:10:00"
    assert run(db) == []
    at("2026-11-25 10:11:30Z")
    assert run(db) == [("mine", "ok")]
    assert next_run(db) == "11-25 10:21:30"
    assert run(db) == []


def test_a_cron_expression(db: Connection, at: At, task: Task) -> None:
    task(OK)
    at("2026-11-25 10:00:00Z")
    db.execute(
        "select flywheel.create_schedule('mine', 'index vectors', cron => '30 2 * * mon-fri')"
    )
    assert next_run(db) == "11-26 02:30:00"
    at("2026-11-27 02:30:01Z")
    assert run(db) == [("mine", "ok")]
    assert next_run(db) == "11-30 02:30:00"


def test_what_was_missed_is_run_once(db: Connection, at: At, task: Task) -> None:
    task(OK)
    at("2026-11-25 10:00:00Z")
    db.execute("select flywheel.create_schedule('mine', 'index vectors', cron => '@hourly')")
    at("2026-11-27 10:20:00Z")
    assert run(db) == [("mine", "ok")]
    assert run(db) == []
    assert next_run(db) == "11-27 11:00:00"


def test_a_day_is_a_day_when_the_clocks_change(db: Connection, at: At, task: Task) -> None:
    task(OK)
    db.execute("set local timezone = 'Europe/Berlin'")
    at("2026-10-24 12:00:00Z")
    db.execute("select flywheel.create_schedule('mine', 'index vectors', every => '1 day')")
    assert next_run(db) == "10-25 12:00:00"


def test_a_run_leaves_what_it_did(db: Connection, task: Task) -> None:
    task(OK)
    db.execute("select flywheel.create_schedule('mine', 'index vectors', every => '1 hour')")
    assert one(db, "select status, result, error from flywheel.run_schedule('mine')") == (
        "ok",
        {"done": 3},
        None,
    )
    row = one(
        db,
        "select state, last_result, last_error, runs, failures, last_run_at = flywheel.now(), last_seconds between 0 and 5 from flywheel.schedules",
    )
    assert row == ("well", {"done": 3}, None, 1, 0, True, True)


def test_a_failing_task_backs_off_and_undoes_what_it_did(
    db: Connection, at: At, task: Task, make_task: Any
) -> None:
    task("insert into flywheel.traces (input) values ('half'); " + FAILS)
    at("2026-11-25 10:00:00Z")
    db.execute("select flywheel.create_schedule('mine', 'index vectors', every => '1 second')")
    db.execute("select flywheel.create_schedule('other', 'sweep', every => '1 second')")
    seen = []
    for moment in ("10:00:01", "10:00:31", "10:01:31", "10:03:31"):
        at(f"2026-11-25 {moment}Z")
        assert sorted(run(db)) == [("mine", "failed"), ("other", "ok")]
        seen.append(next_run(db))
    assert seen == ["11-25 10:00:31", "11-25 10:01:31", "11-25 10:03:31", "11-25 10:07:31"]
    assert one(db, "select count(*) from flywheel.traces") == 0
    row = one(
        db,
        "select state, failures, last_error, last_result from flywheel.schedules where name = 'mine'",
    )
    assert row == ("failing", 4, "the disk is full", None)

    db.execute("update flywheel._schedules set failures = 300 where name = 'mine'")
    at("2026-11-25 12:00:00Z")
    run(db)
    assert next_run(db) == "11-25 13:00:00"

    make_task(db, OK)
    at("2026-11-25 13:00:00Z")
    run(db)
    assert one(
        db, "select state, failures, last_error from flywheel.schedules where name = 'mine'"
    ) == ("well", 0, None)


def test_a_nightly_task_that_fails_does_not_wait_for_the_next_night(
    db: Connection, at: At, task: Task
) -> None:
    task(FAILS)
    at("2026-11-25 10:00:00Z")
    db.execute("select flywheel.create_schedule('mine', 'index vectors', cron => '@daily')")
    at("2026-11-26 00:00:00Z")
    run(db)
    assert next_run(db) == "11-26 00:00:30"


def test_a_task_with_more_to_do_is_due_again_after_those_that_wait(
    db: Connection, at: At, task: Task
) -> None:
    task("return '{\"is_more\": true}';")
    at("2026-11-25 10:00:00Z")
    db.execute("select flywheel.create_schedule('a', 'index vectors', every => '10 minutes')")
    db.execute("select flywheel.create_schedule('b', 'sweep', every => '12 minutes')")
    ran = []
    for minute in range(13, 17):
        at(f"2026-11-25 10:{minute}:00Z")
        ran += db.execute("select schedule from flywheel.run_schedules(max_tasks => 1)").fetchall()
    assert ran == [("a",), ("b",), ("a",), ("a",)]
    # In one call each has one turn.
    assert run(db) == [("a", "ok")]


def test_it_begins_nothing_when_its_time_is_over(db: Connection, at: At, task: Task) -> None:
    task("perform pg_sleep(0.02); return to_jsonb(max_seconds <= 0.01);")
    for name in "abc":
        db.execute(
            "select flywheel.create_schedule(%s, 'index vectors', every => '1 second')", (name,)
        )
    db.execute("update flywheel._schedules set next_run_at = flywheel.now()")
    ran = db.execute(
        "select schedule, result from flywheel.run_schedules(max_seconds => 0.01)"
    ).fetchall()
    assert ran == [("a", True)]


def test_a_task_of_another_release_is_left_alone(db: Connection, task: Task) -> None:
    task(OK)
    db.execute("select flywheel.create_schedule('mine', 'index vectors', every => '1 hour')")
    db.execute(
        "update flywheel._schedules set task = 'wash the dishes', next_run_at = flywheel.now()"
    )
    assert run(db) == []
    assert one(db, "select count(*) from flywheel.schedules") == 0
    db.execute("select flywheel.drop_schedule('mine')")
    assert one(db, "select count(*) from flywheel._schedules") == 0


def test_switching_off_and_on(db: Connection, at: At, task: Task) -> None:
    task(FAILS)
    at("2026-11-25 10:00:00Z")
    db.execute("select flywheel.create_schedule('mine', 'index vectors', every => '1 hour')")
    at("2026-11-25 11:00:00Z")
    assert run(db) == [("mine", "failed")]
    db.execute("select flywheel.disable_schedule('mine')")
    at("2026-11-26 10:00:00Z")
    assert run(db) == []
    assert one(db, "select state, next_run_at from flywheel.schedules") == ("disabled", None)
    assert one(db, "select status from flywheel.run_schedule('mine')") == "failed"
    db.execute("select flywheel.enable_schedule('mine')")
    assert one(db, "select state, failures from flywheel.schedules") == ("well", 0)
    assert next_run(db) == "11-26 11:00:00"
    db.execute("select flywheel.drop_schedule('mine')")
    assert one(db, "select count(*) from flywheel.schedules") == 0


def test_altering(db: Connection, at: At, task: Task) -> None:
    task(OK)
    at("2026-11-25 10:00:00Z")
    db.execute(
        "select flywheel.create_schedule('mine', 'index vectors', every => '1 hour', enabled => false)"
    )
    db.execute("select flywheel.alter_schedule('mine', cron => '15 * * * *')")
    assert one(db, "select every, cron, is_enabled from flywheel.schedules") == (
        None,
        "15 * * * *",
        False,
    )
    db.execute("select flywheel.enable_schedule('mine')")
    assert next_run(db) == "11-25 10:15:00"


def test_overdue_when_nobody_runs_it(db: Connection, at: At, task: Task) -> None:
    task(OK)
    at("2026-11-25 10:00:00Z")
    db.execute("select flywheel.create_schedule('mine', 'index vectors', every => '1 minute')")
    at("2026-11-25 10:10:59Z")
    assert one(db, "select state from flywheel.schedules") == "well"
    at("2026-11-25 10:11:01Z")
    assert one(db, "select state from flywheel.schedules") == "overdue"


@pytest.mark.parametrize(
    ("call", "sqlstate", "message"),
    [
        ("create_schedule('a', 'index vectors')", "LF002", "neither every nor cron"),
        (
            "create_schedule('a', 'index vectors', '1 hour', '@daily')",
            "LF002",
            "both every and cron",
        ),
        ("create_schedule('a', 'index vectors', '0.5 seconds')", "LF002", "every is '00:00:00.5'"),
        ("create_schedule('a', 'index vectors', '-1 hour')", "LF002", "every is"),
        ("create_schedule('a', 'index vectors', '-1 month 31 days')", "LF002", "every is"),
        ("create_schedule('a', 'index vectors', '294000 years')", "LF002", "every is"),
        (
            "create_schedule('a', 'index vectors', cron => 'at noon')",
            "LF002",
            "the cron expression is 'at noon'",
        ),
        ("create_schedule('a', 'index vectors', cron => '0 0 30 2 *')", "LF002", "never comes"),
        ("create_schedule('a', 'drop table', '1 hour')", "LF002", "there is no task 'drop table'"),
        ("create_schedule('a', null, '1 hour')", "LF002", "there is no task null"),
        ("create_schedule('', 'sweep', '1 hour')", "LF002", "needs a name"),
        ("create_schedule(null, 'sweep', '1 hour')", "LF002", "needs a name"),
        ("create_schedule('mine', 'sweep', '1 hour')", "LF201", "there is a schedule mine already"),
        ("alter_schedule('mine')", "LF002", "neither every nor cron"),
        ("alter_schedule('nobody', '1 hour')", "LF009", "there is no schedule nobody"),
        ("alter_schedule(null, '1 hour')", "LF009", "there is no schedule null"),
        ("drop_schedule('nobody')", "LF009", "there is no schedule"),
        ("enable_schedule('nobody')", "LF009", "there is no schedule"),
        ("disable_schedule('nobody')", "LF009", "there is no schedule"),
        ("run_schedule('nobody')", "LF009", "there is no schedule"),
        ("run_schedule('mine', 0)", "LF002", "max_seconds is 0"),
        ("run_schedules(0)", "LF002", "max_seconds is 0"),
        ("run_schedules('nan')", "LF002", "max_seconds is NaN"),
        ("run_schedules(null)", "LF002", "max_seconds is null"),
        ("run_schedules(1, 0)", "LF002", "max_tasks is 0"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_hint(
    db: Connection, task: Task, call: str, sqlstate: str, message: str
) -> None:
    task(OK)
    db.execute("select flywheel.create_schedule('mine', 'index vectors', every => '1 hour')")
    with pytest.raises(psycopg.DatabaseError, match=message) as caught:
        db.execute(f"select flywheel.{call}")  # type: ignore[arg-type]
    assert caught.value.sqlstate == sqlstate
    assert caught.value.diag.message_hint


def test_a_worker_runs_them_and_changes_none(db: Connection, task: Task) -> None:
    task(OK)
    db.execute("select flywheel.create_schedule('mine', 'index vectors', every => '1 hour')")
    db.execute("update flywheel._schedules set next_run_at = flywheel.now()")
    db.execute("set local role flywheel_worker")
    assert run(db) == [("mine", "ok")]
    assert one(db, "select state from flywheel.schedules") == "well"
    for statement in (
        "select flywheel.create_schedule('x', 'sweep', '1 hour')",
        "select flywheel.drop_schedule('mine')",
        "select flywheel.run_schedule('mine')",
        "update flywheel._schedules set task = 'x'",
        "select flywheel._run_schedule(null, 1)",
        "select flywheel._task_sweep(1)",
    ):
        with pytest.raises(errors.InsufficientPrivilege), db.transaction():
            db.execute(statement)  # type: ignore[arg-type]


def test_each_is_run_once_however_many_look(connect: Connect, make_task: Any) -> None:
    admin, first, second = connect(), connect(autocommit=False), connect()
    admin.execute("delete from flywheel._schedules")
    make_task(admin, OK)
    for name in ("a", "b"):
        admin.execute(
            "select flywheel.create_schedule(%s, 'index vectors', every => '1 hour')", (name,)
        )
    admin.execute("update flywheel._schedules set next_run_at = now()")
    assert first.execute(
        "select schedule from flywheel.run_schedules(max_tasks => 1)"
    ).fetchall() == [("a",)]
    # It is at work still: nobody waits for it, and nobody runs it again.
    assert run(second) == [("b", "ok")]
    assert run(second) == []
    first.commit()
    assert run(second) == []
    assert admin.execute("select name, runs from flywheel.schedules order by 1").fetchall() == [
        ("a", 1),
        ("b", 1),
    ]


def test_a_session_that_dies_leaves_its_schedule_due(connect: Connect, make_task: Any) -> None:
    admin, first, second = connect(), connect(autocommit=False), connect()
    admin.execute("delete from flywheel._schedules")
    make_task(admin, OK)
    admin.execute("select flywheel.create_schedule('mine', 'index vectors', every => '1 hour')")
    admin.execute("update flywheel._schedules set next_run_at = now()")
    assert run(first) == [("mine", "ok")]
    admin.execute("select pg_terminate_backend(%s)", (first.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):
        first.commit()
    assert run(second) == [("mine", "ok")]
    assert one(admin, "select runs from flywheel.schedules") == 1


def doctor_says(dsn: str, name: str) -> list[tuple[str, str]]:
    return [(found.level, found.message) for found in doctor.examine(dsn) if found.name == name]


def test_doctor_says_when_nobody_runs_them_or_one_fails(
    connect: Connect, dsn: str, make_task: Any
) -> None:
    admin = connect()
    admin.execute("delete from flywheel._schedules")
    assert doctor_says(dsn, "schedules") == [("ok", "there are none")]
    make_task(admin, FAILS)
    admin.execute("select flywheel.create_schedule('mine', 'index vectors', every => '1 hour')")
    assert doctor_says(dsn, "schedules") == [("ok", "1 are on time")]
    admin.execute("update flywheel._schedules set next_run_at = '2026-01-01 00:00Z'")
    late = "nobody runs mine; due since 2026-01-01 00:00:00 UTC"
    assert doctor_says(dsn, "schedules") == [("warning", late)]
    admin.execute("select flywheel.run_schedules()")
    failing = "mine fails, 1 in a row: the disk is full"
    assert doctor_says(dsn, "schedules") == [("warning", failing)]


def test_doctor_says_when_nobody_removes_what_expires(connect: Connect, dsn: str) -> None:
    admin = connect()
    assert doctor_says(dsn, "retention") == [("ok", "everything is kept")]
    admin.execute("select flywheel.set_retention(null, '1 year')")
    assert doctor_says(dsn, "retention") == [("ok", "1 to apply")]
    admin.execute("select flywheel.disable_schedule('retention')")
    ((level, message),) = doctor_says(dsn, "retention")
    assert level == "warning"
    assert "no schedule does" in message
