"""Jobs that go wrong: tried again, given up, given back."""

import statistics
from typing import Any

import pytest
from psycopg import errors


def test_a_transient_failure_is_tried_again_later(queue: Any) -> None:
    queue.check()
    queue.insert()
    (job,) = queue.claim()
    assert queue.fail(job, "transient", "timed out") == "retry"
    assert queue.jobs("state, attempts, token, leased_until, error_class, last_error") == [
        ("pending", 1, None, None, "transient", "timed out")
    ]
    assert queue.claim() == []
    queue.later("4 seconds")
    (again,) = queue.claim()
    assert again.attempt == 2
    assert queue.complete(again) == (1, 0)


def test_the_backoff_doubles_with_jitter_up_to_an_hour(queue: Any) -> None:
    for attempts, base in [(1, 2), (2, 4), (5, 32), (11, 2048), (12, 3600), (1000, 3600)]:
        waits = [
            float(seconds)
            for (seconds,) in queue.rows(
                "select extract(epoch from flywheel._backoff(%s)) from generate_series(1, 500)",
                attempts,
            )
        ]
        assert base / 2 <= min(waits) < base * 0.6
        assert base * 1.4 < max(waits) <= base * 1.5
        assert base * 0.9 < statistics.mean(waits) < base * 1.1


def test_a_job_is_dead_after_its_last_attempt(queue: Any) -> None:
    queue.check()
    queue.insert()
    outcomes = []
    for minute in range(5):
        queue.later(f"{minute} minutes")
        (job,) = queue.claim()
        outcomes.append(queue.fail(job, "transient", f"failure {minute}"))
    assert outcomes == ["retry", "retry", "retry", "retry", "dead"]
    queue.later("1 day")
    assert queue.claim() == []
    assert queue.jobs("state, attempts, last_error") == [("dead", 5, "failure 4")]
    assert queue.one("select dead, missing, expected from flywheel.coverage") == (1, 0, 1)


def test_a_permanent_failure_is_dead_at_once(queue: Any) -> None:
    queue.check()
    queue.insert()
    (job,) = queue.claim()
    assert queue.fail(job, "permanent", "too long") == "dead"
    assert queue.jobs("state, error_class, last_error") == [("dead", "permanent", "too long")]
    assert queue.complete(job) == (0, 1)


@pytest.mark.parametrize("subject", ["trace", "span"])
def test_a_failure_with_retry_after_does_not_count(queue: Any, subject: str) -> None:
    queue.check(subject=subject)
    (trace_id,) = queue.insert()
    queue.insert_span(trace_id)
    for minute in range(20):
        queue.later(f"{minute} minutes")
        (job,) = queue.claim()
        assert job.attempt == 1
        assert queue.fail(job, "transient", "busy", retry_after="10 seconds") == "retry"
    wait = queue.one("select extract(epoch from run_at - flywheel.now())::float from flywheel.jobs")
    assert 10 <= wait <= 11


def test_retry_after_is_at_least_a_second_and_at_most_an_hour(queue: Any) -> None:
    queue.check()
    queue.insert(3)
    for job, said in zip(queue.claim(3), ["0", "-1 day", "1 day"], strict=True):
        assert queue.fail(job, retry_after=said) == "retry"
    waits = [
        wait
        for (wait,) in queue.rows(
            "select extract(epoch from run_at - flywheel.now())::float from flywheel.jobs order by 1"
        )
    ]
    assert 1 <= waits[0] <= waits[1] <= 1.1
    assert 3600 <= waits[2] <= 3960


def test_a_failure_of_a_job_that_is_not_held_is_stale(queue: Any) -> None:
    queue.check()
    queue.insert()
    (job,) = queue.claim()
    queue.later("3 minutes")
    (other,) = queue.claim()
    for error_class in ("transient", "permanent", "configuration"):
        assert queue.fail(job, error_class) == "stale"
    assert queue.jobs() == [("pending", 2)]
    assert queue.rows("select * from flywheel._pauses") == []
    assert queue.fail(other) == "retry"
    assert queue.fail(other) == "stale"


def test_long_and_empty_errors(queue: Any) -> None:
    queue.check()
    queue.insert(3)
    for job, error in zip(queue.claim(3), ["x" * 5000, "  ", None], strict=True):
        queue.fail(job, "permanent", error)
    assert sorted(queue.jobs("length(last_error), left(last_error, 3)")) == [
        (18, "it "),
        (18, "it "),
        (1000, "xxx"),
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("'{}', 'transient', 'x'", "one has no trace_id"),
        ("'[]', 'transient', 'x'", "the jobs cannot be read"),
        ("null, 'transient', 'x'", "the jobs cannot be read"),
        ("'{}', 'odd', 'x'", "the error class 'odd' is unknown"),
        ("'{}', null, 'x'", "the error class null is unknown"),
        ("'{}', 'transient', 'x', null, '[]'", "its run is no object"),
        ("'{}', 'transient', 'x', null, '{\"requests\": -1}'", "the requests of its run is -1"),
    ],
)
def test_a_failure_that_makes_no_sense_is_refused(queue: Any, arguments: str, problem: str) -> None:
    with pytest.raises(errors.Error, match=problem) as caught:
        queue.rows(f"select flywheel.fail_job('w', {arguments})")
    assert caught.value.sqlstate == "LF002"


def test_retry_dead_gives_all_attempts_again(queue: Any) -> None:
    queue.check()
    queue.check("other")
    queue.insert(3)
    for job in queue.claim(6):
        queue.fail(job, "permanent", "bad")
    assert queue.call("retry_dead", "other", 2) == 2
    assert queue.call("retry_dead", "other") == 1
    assert queue.call("retry_dead", "other") == 0
    jobs = queue.claim(6)
    assert [(job.validator, job.attempt) for job in jobs] == [("other", 1)] * 3
    assert queue.complete(*jobs) == (3, 0)
    assert queue.call("retry_dead") == 3
    assert [job.validator for job in queue.claim(6)] == ["short"] * 3
    with pytest.raises(errors.Error) as caught:
        queue.call("retry_dead", "nobody")
    assert caught.value.sqlstate == "LF003"


def test_retry_dead_of_less_than_one_job_is_refused(queue: Any) -> None:
    with pytest.raises(errors.Error, match="max_jobs is 0") as caught:
        queue.call("retry_dead", max_jobs=0)
    assert caught.value.sqlstate == "LF002"


def test_a_new_revision_begins_anew(queue: Any) -> None:
    queue.check()
    (trace_id,) = queue.insert()
    (job,) = queue.claim()
    queue.fail(job, "permanent", "bad")
    queue.session.execute(
        "update flywheel.traces set output = 'new' where trace_id = %s", [trace_id]
    )
    assert queue.jobs("state, attempts, error_class, last_error, worker, revision") == [
        ("pending", 0, None, None, None, 2)
    ]
