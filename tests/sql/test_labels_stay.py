"""Labels stay: after their trace, after their validator, and whoever would like to change them."""

import time
from collections.abc import Callable
from threading import Thread

import pytest
from psycopg import Connection, errors, sql

TRACE = "00000000-0000-0000-0000-000000000001"
SPAN = "00000000-0000-0000-0000-000000000002"
CORRECT = f"select flywheel.label('{TRACE}', 'short', false, corrected_output => 'so')"
LABEL = f"select flywheel.label('{TRACE}', 'short', true)"
LABEL_SPAN = f"select flywheel.label('{TRACE}', 'tool ok', false, span_id => '{SPAN}')"


def _insert(session: Connection, output: str) -> None:
    session.execute(
        "insert into flywheel.traces (trace_id, output) values (%s, %s)", (TRACE, output)
    )
    session.execute(
        "insert into flywheel.spans (trace_id, span_id, output) values (%s, %s, %s)",
        (TRACE, SPAN, output),
    )


@pytest.fixture
def labelled(db: Connection) -> Connection:
    """A trace and its span, each with a failing label."""
    db.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 5')")
    db.execute(
        "select flywheel.create_validator('tool ok', 'sql', 'length(output) < 5', subject => 'span')"
    )
    _insert(db, "because")
    db.execute(CORRECT)
    db.execute(LABEL_SPAN)
    return db


def _current(session: Connection, columns: str) -> list[tuple[object, ...]]:
    return session.execute(
        f"select {columns} from flywheel.current_labels order by validator"  # type: ignore[arg-type]
    ).fetchall()


@pytest.mark.parametrize(
    "statement",
    [
        "delete from flywheel.traces",
        "truncate flywheel.traces",
        "truncate flywheel.traces, flywheel.spans",
    ],
)
def test_a_label_outlives_its_trace(labelled: Connection, statement: str) -> None:
    labelled.execute(statement)  # type: ignore[arg-type]
    assert _current(labelled, "validator, output, is_current") == [
        ("short", "because", False),
        ("tool ok", "because", False),
    ]
    corrections = labelled.execute("select output, corrected_output from flywheel.corrections")
    assert corrections.fetchall() == [("because", "so")]
    with pytest.raises(errors.DatabaseError, match="there is no trace") as caught:
        labelled.execute(LABEL)
    assert caught.value.sqlstate == "LF004"


def test_another_trace_with_the_same_id_is_not_the_labelled_one(labelled: Connection) -> None:
    labelled.execute("delete from flywheel.traces")
    labelled.execute(
        "create or replace function flywheel.now() returns timestamptz language sql stable "
        "begin atomic select timestamptz '2100-01-01 00:00+00'; end"
    )
    _insert(labelled, "new")
    assert _current(labelled, "revision, is_current") == [(1, False), (1, False)]
    labelled.execute(LABEL)
    assert _current(labelled, "output, is_current") == [("new", True), ("because", False)]


@pytest.mark.parametrize("delete_verdicts", [False, True])
def test_labels_survive_their_validator_and_meet_it_again(
    labelled: Connection, delete_verdicts: bool
) -> None:
    labelled.execute(
        "select flywheel.drop_validator('short', delete_verdicts => %s)", (delete_verdicts,)
    )
    assert _current(labelled, "validator, version, passed")[0] == ("short", 1, False)
    with pytest.raises(errors.DatabaseError, match="no validator short"), labelled.transaction():
        labelled.execute(LABEL)
    verdicts = labelled.execute("select from flywheel.verdicts where validator = 'short'")
    assert len(verdicts.fetchall()) == (0 if delete_verdicts else 1)

    labelled.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 9')")
    ids = "select distinct validator_id from flywheel.{} where {} = 'short'"
    assert (
        labelled.execute(ids.format("current_labels", "validator")).fetchall()
        == labelled.execute(ids.format("validators", "name")).fetchall()
    )
    # What was deleted on purpose is not missed.
    assert labelled.execute(
        "select expected, missing from flywheel.coverage where validator = 'short'"
    ).fetchone() == ((0, 0) if delete_verdicts else (1, 0))
    labelled.execute("update flywheel.traces set output = 'newer'")
    labelled.execute(LABEL)
    assert _current(labelled, "version, revision, passed")[0] == (2, 2, True)


def test_a_validator_without_labels_can_still_go_for_good(labelled: Connection) -> None:
    labelled.execute("select flywheel.create_validator('other', 'sql', 'true')")
    labelled.execute("select flywheel.drop_validator('other', delete_verdicts => true)")
    names = labelled.execute("select name from flywheel._validators order by name").fetchall()
    assert names == [("short",), ("tool ok",)]


ROLES = ("admin", "writer", "labeler", "reader", "worker", "validator")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("table", ["_labels", "_label_splits", "_label_withdrawals"])
def test_no_role_changes_or_deletes_a_label(labelled: Connection, role: str, table: str) -> None:
    labelled.execute(sql.SQL("set local role {}").format(sql.Identifier(f"flywheel_{role}")))
    for statement in (
        sql.SQL("update {} set trace_id = trace_id"),
        sql.SQL("delete from {}"),
        sql.SQL("truncate {}"),
        sql.SQL("insert into {} default values"),
    ):
        with pytest.raises(errors.InsufficientPrivilege), labelled.transaction():
            labelled.execute(statement.format(sql.Identifier("flywheel", table)))


@pytest.mark.parametrize("role", ["flywheel_labeler", "flywheel_admin"])
def test_labelers_label_and_withdraw_and_are_written_down(labelled: Connection, role: str) -> None:
    labelled.execute("create role anna")
    labelled.execute(sql.SQL("grant {} to anna").format(sql.Identifier(role)))
    labelled.execute("set local session authorization anna")
    labelled.execute(LABEL)
    labelled.execute(f"select flywheel.label('{TRACE}', 'short', false, labeler => 'bert')")
    assert _current(labelled, "passed, labeler, session_role")[0] == (False, "bert", "anna")
    labelled.execute(
        "select flywheel.withdraw_label(label_id) from flywheel.current_labels where labeler = 'bert'"
    )
    assert _current(labelled, "passed, labeler, session_role")[0] == (True, "anna", "anna")
    labelled.execute("reset session authorization")
    withdrawals = labelled.execute("select withdrawn_by from flywheel._label_withdrawals")
    assert withdrawals.fetchall() == [("anna",)]


@pytest.mark.parametrize(
    "role", ["flywheel_reader", "flywheel_writer", "flywheel_worker", "nobody_here"]
)
def test_others_can_neither_label_nor_withdraw(labelled: Connection, role: str) -> None:
    labelled.execute("create role nobody_here")
    labelled.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
    for call in (LABEL, "select flywheel.withdraw_label(1)"):
        with pytest.raises(errors.InsufficientPrivilege), labelled.transaction():
            labelled.execute(call)


def test_a_search_path_of_the_caller_changes_nothing(labelled: Connection) -> None:
    labelled.execute("create role mallory; grant flywheel_labeler to mallory")
    labelled.execute("create schema trap authorization mallory")
    labelled.execute("set local session authorization mallory")
    for signature in (
        "btrim(text) returns text",
        "uuid_hash_extended(uuid, bigint) returns bigint",
    ):
        labelled.execute(
            f"create function trap.{signature} language plpgsql "  # type: ignore[arg-type]
            "as $$begin raise exception 'trapped'; end$$"
        )
    labelled.execute("set local search_path = trap, pg_catalog")
    with pytest.raises(errors.RaiseException, match="trapped"), labelled.transaction():
        labelled.execute("select btrim(text 'x')")
    labelled.execute(LABEL)
    assert _current(labelled, "passed")[0] == (True,)


def test_dropping_a_validator_waits_for_its_label_and_then_keeps_both(
    connect: Callable[..., Connection],
) -> None:
    labeler, admin, observer = connect(autocommit=False), connect(), connect()
    admin.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 5')")
    _insert(admin, "x")
    labeler.execute(LABEL)
    drop = "select flywheel.drop_validator('short', delete_verdicts => true)"
    thread = Thread(target=admin.execute, args=(drop,))
    thread.start()
    give_up = time.monotonic() + 30
    blocked = "select pg_blocking_pids(%s)"
    while observer.execute(blocked, (admin.info.backend_pid,)).fetchone() == ([],):
        assert time.monotonic() < give_up, "nothing waits"
    labeler.commit()
    thread.join()
    assert _current(observer, "validator, passed") == [("short", True)]
