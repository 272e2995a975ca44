"""Contract 2.1: a new revision's verdict replaces the old, and a late one never lands on it."""

import threading
from collections.abc import Callable

import pytest
from psycopg import Connection, errors


@pytest.fixture
def checked(db: Connection) -> Connection:
    db.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 10')")
    return db


def _verdicts(session: Connection) -> list[tuple[int, bool]]:
    return session.execute(
        "select revision, passed from flywheel.verdicts order by revision"
    ).fetchall()


def test_an_update_of_the_content_is_a_new_revision(checked: Connection) -> None:
    checked.execute("insert into flywheel.traces (output) values ('short')")
    row = checked.execute(
        "update flywheel.traces set output = 'not so short any more' returning revision"
    ).fetchone()
    assert row == (2,)
    assert _verdicts(checked) == [(2, False)]


@pytest.mark.parametrize(
    "assignment",
    [
        "status = 'error'",
        "user_id = 'u'",
        "ended_at = started_at + interval '1 s'",
        "output = output",
        "attributes = attributes || '{}'",
    ],
)
def test_an_update_of_anything_else_is_not(checked: Connection, assignment: str) -> None:
    checked.execute("insert into flywheel.traces (output) values ('short')")
    before = checked.execute("select ctid from flywheel._verdicts").fetchall()
    checked.execute("update flywheel.traces set " + assignment)  # type: ignore[arg-type]
    assert checked.execute("select revision from flywheel.traces").fetchall() == [(1,)]
    assert checked.execute("select ctid from flywheel._verdicts").fetchall() == before


@pytest.mark.parametrize(
    "assignment",
    ["input = 'x'", "output = null", "attributes = '{\"a\": 1}'", "pipeline = 'other'"],
)
def test_each_part_of_the_content_counts(checked: Connection, assignment: str) -> None:
    checked.execute("insert into flywheel.traces (output) values ('short')")
    checked.execute("update flywheel.traces set " + assignment)  # type: ignore[arg-type]
    assert checked.execute("select revision from flywheel.verdicts").fetchall() == [(2,)]


def test_a_new_revision_forgets_what_disabled_validators_said(checked: Connection) -> None:
    """At most one verdict per validator, and only about what the row says now."""
    checked.execute("insert into flywheel.traces (output) values ('short')")
    checked.execute("select flywheel.disable_validator('short')")
    checked.execute("update flywheel.traces set output = 'x'")
    assert _verdicts(checked) == []
    row = checked.execute("select expected, missing from flywheel.coverage").fetchone()
    assert row == (0, 0)


def test_many_rows_updated_twice_in_one_statement_timestamp(checked: Connection) -> None:
    """Inside a function all statements share a timestamp; the last content wins."""
    checked.execute(
        "insert into flywheel.traces (output) select 'short' from generate_series(1, 50)"
    )
    checked.execute(
        """
        do $$ begin
          update flywheel.traces set output = 'far too long now';
          update flywheel.traces set output = 'tiny' where random() < 2;
          update flywheel.traces set status = 'error';
        end $$
        """
    )
    assert _verdicts(checked) == [(3, True)] * 50


def test_the_key_cannot_be_changed(checked: Connection) -> None:
    checked.execute("insert into flywheel.traces (output) values ('short')")
    with pytest.raises(errors.DatabaseError, match="key of a trace cannot be changed") as caught:
        checked.execute("update flywheel.traces set trace_id = flywheel.uuidv7()")
    assert caught.value.sqlstate == "LF011"


def _late(session: Connection) -> None:
    """What a worker does: the verdict of version 1 for every trace it was asked about."""
    session.execute(
        "select flywheel._decide_targets(1, array(select trace_id from flywheel.traces), "
        "array(select flywheel._no_span() from flywheel.traces))"
    )


def _one_unjudged_trace(session: Connection) -> None:
    session.execute("insert into flywheel.traces (output) values ('short')")
    session.execute(
        "select flywheel.create_validator('short', 'sql', 'length(output) < 10', enabled => false)"
    )


def test_an_update_waits_for_a_late_verdict_and_replaces_it(
    connect: Callable[..., Connection],
) -> None:
    worker, writer = connect(autocommit=False), connect()
    _one_unjudged_trace(writer)
    _late(worker)
    updated = threading.Event()

    def update() -> None:
        writer.execute("update flywheel.traces set output = 'long enough to fail'")
        updated.set()

    thread = threading.Thread(target=update)
    thread.start()
    assert not updated.wait(0.2)
    worker.commit()
    thread.join()
    assert _verdicts(writer) == []  # about revision 1, which is gone


def test_a_late_verdict_waits_for_an_update_and_judges_the_new_revision(
    connect: Callable[..., Connection],
) -> None:
    worker, writer = connect(), connect(autocommit=False)
    _one_unjudged_trace(writer)
    writer.commit()
    writer.execute("update flywheel.traces set output = 'long enough to fail'")
    thread = threading.Thread(target=_late, args=(worker,))
    thread.start()
    writer.commit()
    thread.join()
    assert _verdicts(worker) == [(2, False)]


@pytest.mark.parametrize("statement", ["delete from flywheel.traces", "truncate flywheel.traces"])
def test_a_late_verdict_of_a_trace_that_goes_leaves_no_orphan(
    connect: Callable[..., Connection], statement: str
) -> None:
    worker, writer = connect(), connect(autocommit=False)
    _one_unjudged_trace(writer)
    writer.commit()
    writer.execute(statement)  # type: ignore[arg-type]
    thread = threading.Thread(target=_late, args=(worker,))
    thread.start()
    writer.commit()
    thread.join()
    assert worker.execute("select count(*) from flywheel._verdicts").fetchone() == (0,)


@pytest.mark.parametrize("statement", ["delete from flywheel.traces", "truncate flywheel.traces"])
def test_deleting_waits_for_a_late_verdict_and_takes_it_along(
    connect: Callable[..., Connection], statement: str
) -> None:
    worker, writer = connect(autocommit=False), connect()
    _one_unjudged_trace(writer)
    _late(worker)
    thread = threading.Thread(target=writer.execute, args=(statement,))
    thread.start()
    worker.commit()
    thread.join()
    assert writer.execute("select count(*) from flywheel._verdicts").fetchone() == (0,)
