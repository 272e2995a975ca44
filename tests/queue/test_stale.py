"""The target changes or goes while a worker has the job: no verdict of an old revision is ever seen."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

Open = Callable[..., Any]


def wait_until_blocked(watcher: Any, n: int = 1) -> None:
    """Until so many sessions wait for a lock."""
    while (
        watcher.one(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        < n
    ):
        pass


@pytest.mark.parametrize("subject", ["trace", "span"])
def test_a_row_updated_between_claim_and_completion(queue: Any, subject: str) -> None:
    queue.check(subject=subject)
    (trace_id,) = queue.insert(output="ok")
    queue.insert_span(trace_id, output="ok")
    (old,) = queue.claim()
    table = "traces" if subject == "trace" else "spans"
    queue.session.execute(f"update flywheel.{table} set output = 'much too long'")
    assert queue.complete(old) == (0, 1)
    assert queue.run_sql(old) == (0, 1)
    assert queue.verdicts() == []
    assert queue.jobs("revision, state, token") == [(2, "pending", None)]
    (new,) = queue.claim()
    assert queue.run_sql(new) == (1, 0)
    assert queue.verdicts("revision, status") == [(2, "failed")]


def test_an_update_of_something_else_changes_nothing(queue: Any) -> None:
    queue.check()
    queue.insert()
    (job,) = queue.claim()
    queue.session.execute("update flywheel.traces set ended_at = flywheel.now()")
    assert queue.complete(job) == (1, 0)
    assert queue.missing() == 0


@pytest.mark.parametrize("subject", ["trace", "span"])
@pytest.mark.parametrize("deleted", ["traces", "spans"])
def test_a_row_deleted_between_claim_and_completion(queue: Any, subject: str, deleted: str) -> None:
    queue.check(subject=subject)
    (trace_id,) = queue.insert()
    queue.insert_span(trace_id)
    (job,) = queue.claim()
    queue.session.execute(f"delete from flywheel.{deleted}")
    gone = subject == "span" or deleted == "traces"
    assert queue.complete(job) == ((0, 1) if gone else (1, 0))
    assert len(queue.verdicts()) == (0 if gone else 1)
    assert queue.jobs() == []


def test_a_trace_that_moves_to_another_pipeline_has_its_spans_judged_anew(queue: Any) -> None:
    queue.check(subject="span", pipeline="b")
    queue.check("everywhere", subject="span")
    (trace_id,) = queue.insert(pipeline="a")
    queue.insert_span(trace_id)
    (job,) = queue.claim(9)
    queue.session.execute("update flywheel.traces set pipeline = 'b'")
    assert queue.complete(job) == (0, 1)
    assert queue.complete(*queue.claim(9)) == (2, 0)
    assert queue.rows("select pipeline from flywheel._verdicts v join flywheel._dimension_values d using (dimension_id)") == [
        ("b",), ("b",),
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["complete", "run_sql"])
def test_a_job_that_went_around_the_triggers_is_not_done_again_and_again(
    queue: Any, how: str
) -> None:
    """Its row has moved on without it: it is dropped, and gone."""
    queue.check()
    queue.insert(2)
    moved, deleted = queue.claim(2)
    queue.session.execute("set local session_replication_role = replica")
    queue.session.execute(
        "update flywheel.traces set revision = 2, output = 'new' where trace_id = %s",
        [moved.trace_id],
    )
    queue.session.execute("delete from flywheel.traces where trace_id = %s", [deleted.trace_id])
    queue.session.execute("set local session_replication_role = origin")
    assert getattr(queue, how)(moved, deleted) == (0, 2)
    assert queue.jobs() == []
    assert queue.missing() == 1
    queue.call("sweep")
    assert queue.jobs("trace_id, revision") == [(moved.trace_id, 2)]


def test_a_claim_does_not_hand_out_what_is_owed_no_more(judged: Any) -> None:
    judged.insert(6)
    first, second, third = judged.jobs("trace_id")[:3]
    judged.session.execute("set local session_replication_role = replica")
    judged.session.execute("update flywheel.traces set revision = 2 where trace_id = %s", first)
    judged.session.execute("delete from flywheel.traces where trace_id = %s", second)
    judged.session.execute("set local session_replication_role = origin")
    judged.session.execute(
        "insert into flywheel._verdicts (trace_id, span_id, dimension_id, created_at, version_id, revision, status) "
        "select trace_id, span_id, 1, flywheel.now(), version_id, revision, 'passed' from flywheel._jobs where trace_id = %s",
        third,
    )
    assert len(judged.claim(3)) == 3
    assert judged.claim(3) == []
    assert len(judged.jobs()) == 3


def test_a_completion_that_comes_first_is_waited_for_and_replaced(open_queue: Open) -> None:
    admin, worker, application = open_queue(), open_queue(autocommit=False), open_queue()
    admin.check()
    admin.insert()
    (job,) = admin.claim()
    assert worker.complete(job) == (1, 0)
    updating = threading.Thread(
        target=application.session.execute, args=["update flywheel.traces set output = 'new'"]
    )
    updating.start()
    wait_until_blocked(admin)
    worker.session.commit()
    updating.join()
    assert admin.verdicts() == []
    assert admin.jobs("revision") == [(2,)]


@pytest.mark.parametrize(
    "statement", ["update flywheel.traces set output = 'new'", "delete from flywheel.traces"]
)
def test_a_change_that_comes_first_is_waited_for_and_drops_the_result(
    open_queue: Open, statement: str
) -> None:
    admin, worker, application = open_queue(), open_queue(), open_queue(autocommit=False)
    admin.check()
    admin.insert()
    (job,) = admin.claim()
    application.session.execute(statement)
    done: list[Any] = []
    completing = threading.Thread(target=lambda: done.append(worker.complete(job)))
    completing.start()
    wait_until_blocked(admin)
    application.session.commit()
    completing.join()
    assert done == [(0, 1)]
    assert admin.verdicts() == []


@pytest.mark.parametrize(
    "statement", ["update flywheel.traces set output = 'new'", "delete from flywheel.traces"]
)
def test_a_change_that_is_rolled_back_drops_nothing(open_queue: Open, statement: str) -> None:
    admin, worker, application = open_queue(), open_queue(), open_queue(autocommit=False)
    admin.check()
    admin.insert(3)
    jobs = admin.claim(3)
    application.session.execute(statement)
    done: list[Any] = []
    completing = threading.Thread(target=lambda: done.append(worker.complete(*jobs)))
    completing.start()
    wait_until_blocked(admin)
    application.session.rollback()
    completing.join()
    assert done == [(3, 0)]
    assert admin.missing() == 0


@pytest.mark.parametrize("subject", ["trace", "span"])
def test_an_application_that_goes_through_its_rows_backwards_does_not_deadlock(
    open_queue: Open, subject: str
) -> None:
    """It has the last row, and wants the first; the completion is for all of them."""
    admin, worker, application = open_queue(), open_queue(), open_queue(autocommit=False)
    admin.check(subject=subject)
    for trace_id in admin.insert(3):
        admin.insert_span(trace_id)
    jobs = sorted(admin.claim(3), key=lambda job: job.trace_id)
    update = f"update flywheel.{subject}s set output = 'new' where trace_id = %s"
    application.session.execute(update, [jobs[2].trace_id])
    done: list[Any] = []
    completing = threading.Thread(target=lambda: done.append(worker.complete(*jobs)))
    completing.start()
    wait_until_blocked(admin)
    # It waits for the last, and has nothing: the application does not even wait.
    application.session.execute("set lock_timeout = '100ms'")
    application.session.execute(update, [jobs[0].trace_id])
    application.session.commit()
    completing.join()
    assert done == [(1, 2)]
    assert admin.verdicts("trace_id") == [(jobs[1].trace_id,)]


def test_a_trace_that_stays_locked_does_not_hold_up_the_others(open_queue: Open) -> None:
    admin, worker, application = open_queue(), open_queue(), open_queue(autocommit=False)
    admin.session.execute(
        "create or replace function flywheel._lock_patience() returns interval language sql stable "
        "parallel safe begin atomic select interval '50 milliseconds'; end"
    )
    admin.check()
    admin.check("of spans", subject="span")
    first, second = admin.insert(2)
    for trace_id in (first, second):
        admin.insert_span(trace_id)
    jobs = admin.claim(4)
    application.session.execute(
        "update flywheel.traces set output = 'new' where trace_id = %s", [first]
    )
    application.session.execute(
        "update flywheel.spans set output = 'new' where trace_id = %s", [second]
    )
    results = [job.key | {"status": "passed"} for job in jobs]
    assert worker.call("complete_jobs", "w", Jsonb(results)) == (2, 0, 2)
    assert worker.call("run_sql_jobs", "w", Jsonb([job.key for job in jobs])) == (0, 2, 2)
    # What is busy is still the worker's.
    assert len(worker.extend(*jobs)) == 2
    application.session.rollback()
    assert worker.call("complete_jobs", "w", Jsonb(results)) == (2, 2, 0)
    assert len(admin.verdicts()) == 4


def test_a_transaction_with_an_old_snapshot_fails_rather_than_mixing_revisions(
    open_queue: Open,
) -> None:
    admin, worker, application = open_queue(), open_queue(), open_queue(autocommit=False)
    admin.check()
    admin.insert()
    (job,) = admin.claim()
    application.session.execute("set transaction isolation level repeatable read")
    application.rows("select count(*) from flywheel.traces")
    assert worker.complete(job) == (1, 0)
    with pytest.raises(errors.SerializationFailure):
        application.session.execute("update flywheel.traces set output = 'new'")
    application.session.rollback()
    application.session.execute("update flywheel.traces set output = 'new'")
    application.session.commit()
    assert admin.verdicts() == []
    assert admin.jobs("revision") == [(2,)]


def test_a_sweep_and_completions_of_the_same_traces(open_queue: Open) -> None:
    """Each trace is judged once, whoever is quicker."""
    admin = open_queue()
    admin.insert(120)
    admin.check()
    admin.session.execute(
        "update flywheel.traces set generation = (select generation from flywheel._validator_set)"
    )
    assert admin.missing() == 120
    recorded: list[int] = []

    def sweep() -> None:
        session = open_queue()
        for _ in range(12):
            session.rows("select * from flywheel.sweep(10)")

    def work() -> None:
        session = open_queue()
        while admin_left() or session.rows("select from flywheel._jobs limit 1"):
            if jobs := session.claim(7):
                recorded.append(session.complete(*jobs)[0])

    def admin_left() -> bool:
        return any(thread.is_alive() for thread in sweeping)

    sweeping = [threading.Thread(target=sweep) for _ in range(2)]
    working = [threading.Thread(target=work) for _ in range(2)]
    for thread in sweeping + working:
        thread.start()
    for thread in sweeping + working:
        thread.join()
    admin.call("sweep") if admin.missing() else None
    while jobs := admin.claim(99):
        recorded.append(admin.complete(*jobs)[0])
    assert admin.one("select decided, missing, expected from flywheel.coverage") == (120, 0, 120)
    assert sum(recorded) == 120


def test_a_drop_and_a_completion_at_once(open_queue: Open) -> None:
    admin, worker, dropper = open_queue(), open_queue(), open_queue(autocommit=False)
    admin.check()
    admin.insert(3)
    jobs = admin.claim(3)
    dropper.call("drop_validator", "short")
    # It does not wait for the drop for ever, and takes none of its locks.
    assert worker.complete(*jobs[:2]) == (0, 2)
    dropper.session.rollback()
    assert worker.complete(*jobs) == (3, 0)


def test_jobs_of_a_version_that_is_gone_are_swept(queue: Any) -> None:
    queue.check()
    queue.insert()
    queue.session.execute("set local session_replication_role = replica")
    queue.session.execute("delete from flywheel._validators")
    queue.session.execute("delete from flywheel._validator_versions")
    queue.session.execute("set local session_replication_role = origin")
    assert queue.claim() == []
    queue.rows("select * from flywheel.sweep()")
    assert queue.jobs() == []
