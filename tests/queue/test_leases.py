"""Leases, tokens and attempts: what becomes of a job whose worker is slow, or gone."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from psycopg import errors

Open = Callable[..., Any]


def test_a_job_whose_lease_has_ended_is_claimed_again_with_another_token(queue: Any) -> None:
    queue.check()
    queue.insert()
    (old,) = queue.claim(worker="slow")
    queue.later("3 minutes")
    (new,) = queue.claim(worker="quick")
    assert new.trace_id == old.trace_id
    assert new.token > old.token
    assert new.attempt == 2
    assert queue.complete(old, status="failed") == (0, 1)
    assert queue.verdicts() == []
    assert queue.complete(new) == (1, 0)
    assert queue.complete(old, status="failed") == (0, 1)
    assert queue.verdicts() == [("passed",)]


def test_a_late_result_counts_as_long_as_nobody_else_has_the_job(queue: Any) -> None:
    queue.check()
    queue.insert()
    (job,) = queue.claim()
    queue.later("1 hour")
    assert queue.complete(job) == (1, 0)
    assert queue.verdicts() == [("passed",)]


def test_attempts_survive_workers_that_die(open_queue: Open) -> None:
    admin = open_queue()
    admin.check()
    admin.insert()
    for attempt in range(1, 6):
        worker = open_queue()
        worker.later(f"{attempt * 3} minutes")
        (job,) = worker.claim(worker=f"w{attempt}")
        assert job.attempt == attempt
        worker.session.close()
    admin.later("1 hour")
    assert admin.claim() == []
    ((state, attempts, error_class, error),) = admin.jobs(
        "state, attempts, error_class, last_error"
    )
    assert (state, attempts, error_class) == ("dead", 5, "transient")
    assert error == "the worker w5 did not come back, the last of 5 attempts"


def test_max_attempts_of_a_judge_count(judged: Any) -> None:
    judged.judge("once", params={"max_attempts": 1})
    judged.insert()
    jobs = {job.validator: job for job in judged.claim(2)}
    assert judged.fail(jobs["once"], "permanent", "x") == "dead"
    judged.call("retry_dead")
    assert len(judged.claim(1, worker="gone")) == 1
    judged.later("1 hour")
    assert [job.validator for job in judged.claim(9)] == ["kind"]
    assert judged.one("select last_error from flywheel.jobs where validator = 'once'") == (
        "the worker gone did not come back, the last of 1 attempts; before that: x"
    )


def test_jobs_that_workers_have_lost_do_not_hide_the_others(queue: Any) -> None:
    """After a crash of everything, hundreds at the head of the queue have used up their attempts."""
    queue.check()
    queue.insert(300)
    queue.session.execute("update flywheel._jobs set attempts = 5, worker = 'gone'")
    queue.later("1 second")
    queue.insert(3)
    found = [job for _ in range(4) for job in queue.claim(100)]
    assert len(found) == 3
    assert queue.one("select dead from flywheel.coverage") == 300


def test_a_released_job_is_claimed_again_as_if_nothing_had_happened(queue: Any) -> None:
    queue.check()
    queue.insert()
    for _ in range(20):
        (job,) = queue.claim()
        assert job.attempt == 1
        assert queue.release(job) == 1
    assert queue.jobs("state, attempts, token, leased_until") == [("pending", 0, None, None)]
    assert queue.release(job) == 0
    assert queue.complete(job) == (0, 1)


def test_extending_keeps_a_job_and_tells_which_are_lost(queue: Any) -> None:
    queue.check()
    queue.insert(3)
    kept, taken, deleted = queue.claim(3, lease="1 minute")
    queue.session.execute("delete from flywheel.traces where trace_id = %s", [deleted.trace_id])
    queue.session.execute(
        "update flywheel._jobs set leased_until = null where trace_id = %s", [taken.trace_id]
    )
    assert len(queue.claim(1)) == 1
    assert queue.extend(kept, taken, deleted, lease="1 hour") == {
        (kept.trace_id, None, kept.version_id, kept.token)
    }
    queue.later("59 minutes")
    assert [job.trace_id for job in queue.claim(9)] == [taken.trace_id]
    queue.later("61 minutes")
    assert kept.trace_id in [job.trace_id for job in queue.claim(9)]


def test_a_lease_that_has_ended_can_be_extended_until_somebody_claims(queue: Any) -> None:
    queue.check()
    queue.insert()
    (job,) = queue.claim()
    queue.later("1 hour")
    assert len(queue.extend(job)) == 1
    assert queue.claim() == []


def test_leases_of_spans(queue: Any) -> None:
    queue.check(subject="span")
    (trace_id,) = queue.insert()
    span_id = queue.insert_span(trace_id)
    (job,) = queue.claim()
    assert queue.extend(job) == {(trace_id, span_id, job.version_id, job.token)}
    assert queue.release(job) == 1
    (again,) = queue.claim()
    assert again.span_id == span_id
    assert queue.complete(again) == (1, 0)
    assert queue.verdicts("span_id, status") == [(span_id, "passed")]


def test_a_heartbeat_and_a_completion_of_the_same_jobs_do_not_wait_for_each_other(
    open_queue: Open,
) -> None:
    admin, recorder, heart = (
        open_queue(),
        open_queue(autocommit=False),
        open_queue(autocommit=False),
    )
    admin.check()
    admin.insert(4)
    jobs = admin.claim(4)
    heart.session.execute("set lock_timeout = '1ms'")
    heart.session.commit()

    # The heartbeat comes while results are written: these are still the worker's.
    recorder.complete(*jobs[:2])
    assert len(heart.extend(*reversed(jobs))) == 4
    assert heart.release(jobs[0]) == 0
    heart.session.commit()
    recorder.session.rollback()

    # And results come while the heartbeat is at it: they wait for a moment, and are not lost.
    heart.extend(*reversed(jobs))
    done: list[Any] = []
    recording = threading.Thread(target=lambda: done.append(admin.complete(*jobs)))
    recording.start()
    recorder.session.execute("select pg_sleep(0.1)")
    heart.session.commit()
    recording.join()
    assert done == [(4, 0)]


@pytest.mark.parametrize("function", ["extend_lease", "release_jobs", "run_sql_jobs"])
@pytest.mark.parametrize(
    ("jobs", "problem"),
    [
        (None, "they are no JSON array"),
        ("{}", "they are no JSON array"),
        ("[1]", ""),
        (
            '[{"trace_id": "x", "version_id": 1, "token": 1}]',
            'invalid input syntax for type uuid: "x"',
        ),
        ('[{"version_id": 1, "token": 1}]', "one has no trace_id, no version_id or no token"),
        (
            '[{"trace_id": "00000000-0000-0000-0000-000000000001", "token": 1}]',
            "one has no trace_id",
        ),
        ('[{"trace_id": "00000000-0000-0000-0000-000000000001", "version_id": 1}]', "one has no"),
    ],
)
def test_jobs_that_cannot_be_read_are_refused(
    queue: Any, function: str, jobs: str | None, problem: str
) -> None:
    with pytest.raises(errors.Error, match=f"the jobs cannot be read: {problem}") as caught:
        queue.rows(f"select * from flywheel.{function}('w', %s::jsonb)", jobs)
    assert caught.value.sqlstate == "LF002"


def test_no_jobs_are_no_mistake(queue: Any) -> None:
    assert queue.rows("select * from flywheel.extend_lease('w', '[]')") == []
    assert queue.one("select flywheel.release_jobs('w', '[]')") == 0
    assert queue.one("select * from flywheel.run_sql_jobs('w', '[]')") == (0, 0, 0)
    assert queue.one("select * from flywheel.complete_jobs('w', '[]')") == (0, 0, 0)


@pytest.mark.parametrize("lease", ["null", "'0'", "'2 days'"])
def test_a_lease_out_of_range_is_refused(queue: Any, lease: str) -> None:
    with pytest.raises(errors.Error, match="the lease is") as caught:
        queue.rows(f"select flywheel.extend_lease('w', '[]', {lease})")
    assert caught.value.sqlstate == "LF002"
