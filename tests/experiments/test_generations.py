"""Decision 2: changing the set while rows arrive loses no verdict and blocks no writer."""

import threading
from collections.abc import Callable

import psycopg
import pytest
from psycopg import Connection, errors

CHECK = "select flywheel.create_validator(%s, 'sql', 'length(output) > 2')"


def _coverage(session: Connection) -> dict[str, tuple[int, int, int]]:
    rows = session.execute("select validator, expected, decided, missing from flywheel.coverage")
    return {name: (expected, decided, missing) for name, expected, decided, missing in rows}


def test_a_row_expects_only_what_was_enabled_when_it_arrived(db: Connection) -> None:
    db.execute(CHECK, ("first",))
    db.execute("insert into flywheel.traces (output) values ('one')")
    db.execute(CHECK, ("second",))
    db.execute("insert into flywheel.traces (output) values ('two')")
    db.execute("select flywheel.disable_validator('first')")
    db.execute("insert into flywheel.traces (output) values ('three')")
    assert _coverage(db) == {"first": (2, 2, 0), "second": (2, 2, 0)}


def test_enabling_under_eight_writers_settles_to_nothing_missing(
    dsn: str, connect: Callable[..., Connection]
) -> None:
    admin = connect()
    stop = threading.Event()
    written = [0] * 8
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            with psycopg.connect(dsn, autocommit=True) as session:
                while not stop.is_set():
                    session.execute(
                        "insert into flywheel.traces (output) values (%s)", (f"row {number}",)
                    )
                    written[number] += 1
        except psycopg.Error as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for number in range(12):
        admin.execute(CHECK, (f"check {number}",))
        if number % 3 == 2:
            admin.execute("select flywheel.disable_validator(%s)", (f"check {number - 1}",))
    stop.set()
    for writer in writers:
        writer.join()

    assert failures == []
    assert min(written) > 0
    admin.execute("select flywheel.sweep()")
    coverage = _coverage(admin)
    assert len(coverage) == 12
    assert all(
        missing == 0 and expected == decided for expected, decided, missing in coverage.values()
    )


def test_rows_stamped_by_an_older_default_are_stamped_anew(
    connect: Callable[..., Connection],
) -> None:
    """The row says which body validated it, whatever its default said."""
    session = connect()
    session.execute(CHECK, ("check",))
    session.execute("insert into flywheel.traces (output, generation) values ('stale', 0)")
    row = session.execute(
        "select generation, flywheel._generation() from flywheel.traces"
    ).fetchone()
    assert row is not None
    assert row[0] == row[1] == 1
    assert _coverage(session) == {"check": (1, 1, 0)}


def test_a_prepared_insert_follows_the_generation(connect: Callable[..., Connection]) -> None:
    """A cached plan is given up when the inlined default changes."""
    session = connect()
    session.execute("prepare put as insert into flywheel.traces (output) values ('x y z')")
    for number in range(8):
        session.execute("execute put")
        session.execute(CHECK, (f"check {number}",))
    session.execute("execute put")
    generations = session.execute("select generation from flywheel.traces order by 1").fetchall()
    assert [g for (g,) in generations] == list(range(9))


def test_two_admins_at_once_both_take_effect(connect: Callable[..., Connection]) -> None:
    first, second = connect(autocommit=False), connect(autocommit=False)
    first.execute(CHECK, ("first",))
    done = threading.Event()

    def create_second() -> None:
        second.execute(CHECK, ("second",))
        second.commit()
        done.set()

    thread = threading.Thread(target=create_second)
    thread.start()
    assert not done.wait(0.2)  # it queues behind the first admin instead of missing it
    first.commit()
    thread.join()
    first.execute("insert into flywheel.traces (output) values ('both')")
    assert {name: n for name, (n, _, _) in _coverage(first).items()} == {"first": 1, "second": 1}


def test_an_admin_with_an_old_snapshot_is_refused(connect: Callable[..., Connection]) -> None:
    """Under REPEATABLE READ the second admin would otherwise compile a set without the first's."""
    first, second = connect(), connect(autocommit=False)
    second.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    second.execute("select 1")
    first.execute(CHECK, ("first",))
    with pytest.raises(errors.SerializationFailure, match="changed by someone else"):
        second.execute(CHECK, ("second",))
    second.rollback()
    first.execute("insert into flywheel.traces (output) values ('one')")
    assert _coverage(first) == {"first": (1, 1, 0)}


def test_a_writer_with_an_old_snapshot_is_validated_by_the_new_set(
    connect: Callable[..., Connection],
) -> None:
    admin, writer = connect(), connect(autocommit=False)
    writer.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    writer.execute("select count(*) from flywheel.traces")
    admin.execute(CHECK, ("check",))
    admin.execute("insert into flywheel.traces (output) values ('makes the dimension')")
    writer.execute("insert into flywheel.traces (output) values ('from the past')")
    writer.commit()
    assert _coverage(admin) == {"check": (2, 2, 0)}


def test_enabling_does_not_wait_for_a_writer(connect: Callable[..., Connection]) -> None:
    writer, admin = connect(autocommit=False), connect()
    writer.execute("insert into flywheel.traces (output) values ('open transaction')")
    admin.execute("set lock_timeout = '2s'")
    admin.execute(CHECK, ("check",))
    writer.commit()
    assert _coverage(admin) == {"check": (0, 0, 0)}


def test_a_rolled_back_change_changes_nothing(connect: Callable[..., Connection]) -> None:
    session = connect(autocommit=False)
    session.execute(CHECK, ("kept",))
    session.commit()
    session.execute("savepoint before")
    session.execute(CHECK, ("dropped",))
    session.execute("rollback to before")
    session.execute("insert into flywheel.traces (output) values ('x y z')")
    session.commit()
    assert _coverage(session) == {"kept": (1, 1, 0)}


def test_writers_of_a_new_day_neither_wait_nor_deadlock(
    connect: Callable[..., Connection],
) -> None:
    """The first rows of a combination, in open transactions and in opposite order."""
    admin = connect()
    admin.execute(CHECK, ("check",))
    first, second = connect(autocommit=False), connect(autocommit=False)
    second.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    insert = "insert into flywheel.traces (pipeline, output) values (%s, 'x y z')"
    for session in (first, second):
        session.execute("set lock_timeout = '2s'")
    first.execute(insert, ("a",))
    second.execute(insert, ("b",))
    first.execute(insert, ("b",))
    second.execute(insert, ("a",))
    first.commit()
    second.commit()
    rates = "select pipeline, n from flywheel.pass_rates order by 1"
    assert admin.execute(rates).fetchall() == [("a", 2), ("b", 2)]
    assert admin.execute("select count(*) from flywheel._dimensions").fetchone() == (4,)
    admin.execute("select * from flywheel.sweep()")
    assert admin.execute("select count(*) from flywheel._dimensions").fetchone() == (2,)
    assert admin.execute(rates).fetchall() == [("a", 2), ("b", 2)]


def test_an_update_that_cannot_see_a_late_verdict_can_be_retried(
    connect: Callable[..., Connection],
) -> None:
    """Its delete misses the verdict; replacing it is a serialization failure, not a broken key."""
    admin, writer = connect(), connect(autocommit=False)
    admin.execute("insert into flywheel.traces (output) values ('old')")
    admin.execute(CHECK, ("check",))
    writer.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    writer.execute("select count(*) from flywheel.traces")
    admin.execute("call flywheel.backfill('check')")
    with pytest.raises(errors.SerializationFailure):
        writer.execute("update flywheel.traces set output = 'new'")
    writer.rollback()
    writer.execute("update flywheel.traces set output = 'new'")
    writer.commit()
    assert admin.execute("select revision from flywheel.verdicts").fetchall() == [(2,)]


def test_a_reject_is_known_to_an_old_snapshot(connect: Callable[..., Connection]) -> None:
    admin, writer = connect(), connect(autocommit=False)
    writer.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    writer.execute("select count(*) from flywheel.traces")
    admin.execute(
        "select flywheel.create_validator('int', 'sql', 'output::int > 0', on_fail => 'reject')"
    )
    writer.execute("insert into flywheel.traces (output) values ('not a number')")
    with pytest.raises(errors.DatabaseError, match='"int" rejects'):
        writer.execute("insert into flywheel.traces (output) values ('0')")


def test_a_drop_under_an_open_insert_keeps_its_verdict(connect: Callable[..., Connection]) -> None:
    admin, writer = connect(), connect(autocommit=False)
    admin.execute(CHECK, ("check",))
    writer.execute("insert into flywheel.traces (output) values ('x y z')")
    admin.execute("select flywheel.drop_validator('check')")
    writer.commit()
    assert admin.execute("select validator from flywheel.verdicts").fetchall() == [("check",)]


def test_a_span_and_its_trace_in_two_open_transactions(connect: Callable[..., Connection]) -> None:
    admin, one, two = connect(), connect(autocommit=False), connect(autocommit=False)
    admin.execute(
        "select flywheel.create_validator('has user', 'sql', 'user_id is not null', subject => 'span')"
    )
    trace = "00000000-0000-0000-0000-000000000001"
    one.execute("insert into flywheel.traces (trace_id, user_id) values (%s, 'ann')", (trace,))
    two.execute("insert into flywheel.spans (trace_id) values (%s)", (trace,))
    one.commit()
    two.commit()
    admin.execute("select * from flywheel.sweep()")
    rows = admin.execute("select passed from flywheel.verdicts").fetchall()
    assert rows == [(True,)]
    assert admin.execute("select pipeline from flywheel.pass_rates").fetchall() == [("default",)]
