"""The current label of each target is kept by triggers: it equals what the labels say, whoever writes at once."""

import random
from collections.abc import Callable
from threading import Thread

import pytest
from psycopg import Connection, errors

TRACE = "00000000-0000-0000-0000-000000000001"

KEPT = "select trace_id, span_id, validator_id, label_id, precedence from flywheel._label_heads order by 1, 2, 3"
SAID = """
    select distinct on (l.trace_id, l.span_id, l.validator_id) l.trace_id, l.span_id, l.validator_id, l.label_id, l.precedence
    from flywheel._labels as l
    left join flywheel._label_withdrawals as w on w.label_id = l.label_id
    where l.validator_id is not null and w.label_id is null
    order by l.trace_id, l.span_id, l.validator_id, l.precedence desc, l.label_id desc
"""


def _label(session: Connection, source: str = "human") -> int:
    row = session.execute(
        "select flywheel.label(%s, 'short', true, source => %s)", (TRACE, source)
    ).fetchone()
    assert row is not None
    return int(row[0])


def _withdraw(session: Connection, label: int) -> None:
    assert session.execute("select flywheel.withdraw_label(%s)", (label,)).fetchone() == (True,)


def _equals(session: Connection) -> None:
    with session.transaction():
        session.execute("set transaction isolation level repeatable read, read only")
        assert session.execute(KEPT).fetchall() == session.execute(SAID).fetchall()


@pytest.fixture
def trio(connect: Callable[..., Connection]) -> tuple[Connection, Connection, Connection]:
    """Two sessions that label, and one that watches."""
    observer = connect()
    observer.execute("select flywheel.create_validator('short', 'sql', 'length(output) < 5')")
    observer.execute("insert into flywheel.traces (trace_id, output) values (%s, 'x')", (TRACE,))
    return connect(), connect(), observer


def _start(observer: Connection, session: Connection, what: Callable[[], object]) -> Thread:
    """Start what another session holds up; return when it waits."""
    thread = Thread(target=what)
    thread.start()
    waits = "select cardinality(pg_blocking_pids(%s)) > 0"
    while observer.execute(waits, (session.info.backend_pid,)).fetchone() != (True,):
        assert thread.is_alive()
    return thread


@pytest.mark.parametrize("source", ["human", "llm_default"])
def test_a_withdrawal_waits_for_a_label_of_the_same_target(
    trio: tuple[Connection, Connection, Connection], source: str
) -> None:
    one, two, observer = trio
    first = _label(observer)
    one.execute("begin")
    second = _label(one, source)
    thread = _start(observer, two, lambda: _withdraw(two, first))
    one.execute("commit")
    thread.join()
    assert observer.execute("select label_id from flywheel.current_labels").fetchall() == [
        (second,)
    ]
    _equals(observer)


def test_a_label_waits_for_a_withdrawal(trio: tuple[Connection, Connection, Connection]) -> None:
    one, two, observer = trio
    first = _label(observer)
    one.execute("begin")
    _withdraw(one, first)
    assert one.execute("select count(*) from flywheel.current_labels").fetchone() == (0,)
    thread = _start(observer, two, lambda: _label(two, "llm_default"))
    one.execute("commit")
    thread.join()
    _equals(observer)
    assert observer.execute("select source from flywheel.current_labels").fetchall() == [
        ("llm_default",)
    ]


def test_two_withdrawals_leave_none(trio: tuple[Connection, Connection, Connection]) -> None:
    one, two, observer = trio
    labels = [_label(observer), _label(observer)]
    one.execute("begin")
    _withdraw(one, labels[0])
    thread = _start(observer, two, lambda: _withdraw(two, labels[1]))
    one.execute("commit")
    thread.join()
    _equals(observer)
    assert observer.execute("select count(*) from flywheel.current_labels").fetchone() == (0,)


@pytest.mark.parametrize("what", ["label", "withdrawal"])
def test_an_older_snapshot_does_not_decide(
    trio: tuple[Connection, Connection, Connection], what: str
) -> None:
    one, two, observer = trio
    older, newest = _label(observer), _label(observer)
    one.execute("begin isolation level repeatable read")
    one.execute("select 1")
    if what == "label":
        _withdraw(two, older)
        _label(two, "llm_default")
    else:
        _withdraw(two, older)
    with pytest.raises(errors.SerializationFailure):
        _withdraw(one, newest)
    one.execute("rollback")
    _withdraw(one, newest)
    _equals(observer)


def test_one_statement_about_many_labels(trio: tuple[Connection, Connection, Connection]) -> None:
    one, _, observer = trio
    one.execute(
        "insert into flywheel.traces (output) select repeat('x', i) from generate_series(1, 20) as i"
    )
    one.execute(
        "select flywheel.label(trace_id, 'short', true) from flywheel.traces, generate_series(1, 3)"
    )
    one.execute(
        "insert into flywheel._labels (trace_id, span_id, revision, validator_id, version_id, passed, labeler, "
        "source, split, attributes, target_received_at) "
        "select trace_id, span_id, revision, validator_id, version_id, passed, labeler, "
        "case when label_id % 2 = 0 then 'human' else 'llm_default' end, split, attributes, target_received_at "
        "from flywheel._labels"
    )
    _equals(observer)
    one.execute(
        "insert into flywheel._label_withdrawals (trace_id, label_id) "
        "select trace_id, label_id from flywheel._labels where label_id % 7 < 5"
    )
    _equals(observer)
    gone = "select count(*) from flywheel._standing_labels where source = 'human'"
    one.execute(
        "insert into flywheel._label_withdrawals (trace_id, label_id) "
        "select trace_id, label_id from flywheel._standing_labels where source = 'human'"
    )
    assert observer.execute(gone).fetchone() == (0,)
    _equals(observer)


def test_sweep_mends_what_went_around_the_triggers(
    trio: tuple[Connection, Connection, Connection],
) -> None:
    one, two, observer = trio
    observer.execute(
        "select flywheel.create_metric('m', 'select validator, count(*) as n, max(label_id) as last "
        "from flywheel.current_labels group by 1', 'incremental')"
    )
    observer.execute("insert into flywheel.traces (output) values ('y'), ('z')")
    observer.execute("select flywheel.label(trace_id, 'short', true) from flywheel.traces")
    one.execute("set session_replication_role = replica")
    newest = _label(one)
    one.execute(
        "insert into flywheel._label_withdrawals (trace_id, label_id) select trace_id, label_id "
        "from flywheel._labels where trace_id = (select trace_id from flywheel.traces where output = 'y')"
    )
    one.execute(
        "delete from flywheel._label_heads where trace_id = (select trace_id from flywheel.traces where output = 'z')"
    )
    with pytest.raises(AssertionError):
        _equals(observer)
    two.execute("select from flywheel.sweep()")
    _equals(observer)
    # The head that was deleted around the triggers is in the metric twice until it is computed anew.
    two.execute("select flywheel.refresh_metric('m')")
    assert observer.execute("select n, last from flywheel.m").fetchall() == [(2, newest)]


def test_heads_equal_the_labels_while_many_label_at_once(
    connect: Callable[..., Connection],
    trio: tuple[Connection, Connection, Connection],
) -> None:
    observer = trio[2]
    observer.execute("insert into flywheel.traces (output) values ('y'), ('z')")
    observer.execute("select flywheel.create_validator('other', 'sql', 'length(output) < 7')")
    failures: list[BaseException] = []

    def write(number: int) -> None:
        chance = random.Random(number)
        session = connect()
        session.execute("set deadlock_timeout = '10ms'")
        try:
            for _ in range(60):
                session.execute(chance.choice(["begin", "begin isolation level repeatable read"]))
                try:
                    for _ in range(chance.randint(1, 3)):
                        if chance.random() < 0.6:
                            session.execute(
                                "select flywheel.label(trace_id, %s, true, source => %s) from flywheel.traces "
                                "order by trace_id limit 1 offset %s",
                                (
                                    chance.choice(["short", "other"]),
                                    chance.choice(["human", "llm_default"]),
                                    chance.randint(0, 2),
                                ),
                            )
                        else:
                            session.execute(
                                "select flywheel.withdraw_label(label_id) from flywheel._standing_labels "
                                "order by label_id desc limit 1 offset %s",
                                (chance.randint(0, 4),),
                            )
                    session.execute(chance.choice(["commit", "commit", "rollback"]))
                except (errors.SerializationFailure, errors.DeadlockDetected):
                    session.execute("rollback")
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        _equals(observer)
    assert failures == []
    _equals(observer)
    count = observer.execute("select count(*) from flywheel._label_withdrawals").fetchone()
    assert count is not None
    assert count[0] > 10
