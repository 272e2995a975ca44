"""The circuit breaker of a model, and the rest that it may ask for."""

from collections.abc import Callable
from typing import Any

Open = Callable[..., Any]


def fail(queue: Any, n: int, **options: object) -> None:
    for job in queue.claim(n):
        queue.fail(job, "transient", "status 500", **options)


def test_the_breaker_opens_after_ten_failures(judged: Any) -> None:
    judged.insert(30)
    fail(judged, 9)
    assert judged.one("select state from flywheel.models") == "ready"
    fail(judged, 1)
    assert judged.one("select state, last_error from flywheel.models") == ("open", "status 500")
    assert judged.claim() == []
    state, what = judged.health()
    assert state == "open"
    assert what.startswith("the model is failing (status 500); tried again at ")
    judged.later("29 seconds")
    assert judged.claim() == []


def test_a_success_between_failures_keeps_the_breaker_closed(judged: Any) -> None:
    judged.insert(60)
    for _ in range(5):
        fail(judged, 9)
        (job,) = judged.claim()
        judged.complete(job)
    assert judged.one("select state from flywheel.models") == "ready"


def opened(judged: Any) -> None:
    judged.insert(30)
    fail(judged, 10)


def test_one_probe_when_half_open_and_closed_by_its_success(judged: Any) -> None:
    opened(judged)
    judged.later("31 seconds")
    assert judged.health() == (
        "half_open",
        "the model was failing (status 500); the next claim tries it with one job",
    )
    (probe,) = judged.claim(9)
    assert judged.claim(9) == []
    judged.complete(probe)
    assert judged.one("select state from flywheel.models") == "ready"
    assert len(judged.claim(9)) == 9


def test_a_probe_that_fails_opens_it_for_longer_up_to_ten_minutes(judged: Any) -> None:
    opened(judged)
    waits = []
    for hour in range(1, 8):
        judged.later(f"{hour} hours")
        (probe,) = judged.claim(9)
        judged.fail(probe, "transient", "status 500")
        waits.append(
            judged.one(
                "select extract(epoch from open_until - flywheel.now())::int from flywheel.models"
            )
        )
    assert waits == [60, 120, 240, 480, 600, 600, 600]


def test_a_probe_whose_worker_died_is_followed_by_another_when_its_call_would_be_over(
    judged: Any,
) -> None:
    judged.call("alter_model", "judge", timeout_seconds=90)
    opened(judged)
    judged.later("31 seconds")
    assert len(judged.claim(9)) == 1
    judged.later("120 seconds")
    assert judged.claim(9) == []
    judged.later("122 seconds")
    assert len(judged.claim(9)) == 1


def test_a_probe_that_found_no_job_is_not_lost(judged: Any) -> None:
    opened(judged)
    judged.session.execute("update flywheel._jobs set run_at = flywheel.now() + interval '1 hour'")
    judged.later("31 seconds")
    assert judged.claim(9) == []
    assert judged.one("select state from flywheel.models") == "half_open"
    judged.session.execute("update flywheel._jobs set run_at = '-infinity'")
    assert len(judged.claim(9)) == 1
    assert judged.claim(9) == []


def test_what_needs_no_call_does_not_close_the_breaker(judged: Any) -> None:
    opened(judged)
    judged.session.execute("delete from flywheel.traces")
    judged.insert(3, output=None)
    judged.later("31 seconds")
    jobs = judged.claim(9)
    assert len(jobs) == 3
    judged.complete(*jobs, status="skipped", run={"requests": 0})
    assert judged.one("select state from flywheel.models") == "half_open"


def test_failures_in_flight_when_it_opened_change_nothing(judged: Any) -> None:
    judged.insert(40)
    for job in judged.claim(40):
        judged.fail(job, "transient", "status 500")
    assert (
        judged.one(
            "select extract(epoch from open_until - flywheel.now())::int from flywheel.models"
        )
        == 30
    )


def test_permanent_failures_do_not_open_it(judged: Any) -> None:
    judged.insert(20)
    for job in judged.claim(20):
        judged.fail(job, "permanent", "refused")
    assert judged.one("select state from flywheel.models") == "ready"


def test_retry_after_rests_the_model_and_counts_no_attempt(judged: Any) -> None:
    judged.insert(9)
    job, other = judged.claim(2)
    judged.fail(job, "transient", "status 429", retry_after="20 seconds")
    assert judged.claim(9) == []
    # A call in flight still succeeds, and the endpoint has asked for rest all the same.
    judged.complete(other)
    assert judged.claim(9) == []
    judged.later("23 seconds")
    (probe,) = judged.claim(9)
    assert judged.claim(9) == []
    judged.complete(probe)
    assert len(judged.claim(9)) == 7
    assert judged.one("select max(attempts) from flywheel._jobs") == 1


def test_retry_after_never_opens_the_breaker_for_long(judged: Any) -> None:
    judged.insert(5)
    for minute in range(30):
        judged.later(f"{minute} minutes")
        for job in judged.claim(9):
            assert judged.fail(job, "transient", "status 429", retry_after="1 second") == "retry"
    assert judged.one("select openings from flywheel._model_states") == 0


def test_a_probe_that_is_told_to_wait_waits_as_long_as_it_is_told(judged: Any) -> None:
    opened(judged)
    judged.later("31 seconds")
    (probe,) = judged.claim(9)
    judged.fail(probe, "transient", "status 429", retry_after="5 seconds")
    judged.later("35 seconds")
    assert judged.claim(9) == []
    judged.later("37 seconds")
    assert len(judged.claim(9)) == 1


def test_alter_model_closes_the_breaker(judged: Any) -> None:
    opened(judged)
    judged.call("alter_model", "judge", base_url="http://127.0.0.1:10/v1")
    assert len(judged.claim(9)) == 9


def test_other_models_go_on(judged: Any) -> None:
    opened(judged)
    judged.model("other")
    judged.judge("strict", model="other")
    judged.insert(2)
    assert [job.validator for job in judged.claim(9)] == ["strict", "strict"]


def test_two_claims_at_once_make_one_probe(open_queue: Open) -> None:
    admin, first, second = open_queue(), open_queue(autocommit=False), open_queue(autocommit=False)
    admin.model()
    admin.judge()
    opened(admin)
    admin.later("31 seconds")
    assert len(first.claim(9)) == 1
    assert second.claim(9) == []
    first.session.commit()
    assert second.claim(9) == []
