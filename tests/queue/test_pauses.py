"""What is configured wrongly pauses a validator, and is tried again now and then by itself."""

from collections.abc import Callable
from typing import Any

import pytest

Open = Callable[..., Any]


@pytest.fixture
def paused(judged: Any) -> Any:
    """The judge is paused, and has five jobs."""
    judged.insert(5)
    (job,) = judged.claim()
    assert judged.fail(job, "configuration", "no such key") == "paused"
    return judged


def resume_in(queue: Any) -> float:
    seconds = queue.one(
        "select extract(epoch from resume_at - flywheel.now())::float from flywheel._pauses"
    )
    assert isinstance(seconds, float)
    return seconds


def test_a_configuration_failure_gives_the_attempt_back_and_pauses(paused: Any) -> None:
    assert paused.jobs("state, attempts", "last_error is not null") == [("pending", 0)]
    assert paused.claim(9) == []
    paused.later("59 seconds")
    assert paused.claim(9) == []


def test_other_validators_go_on(paused: Any) -> None:
    paused.check()
    paused.insert()
    assert [job.validator for job in paused.claim(9)] == ["short"]


def test_one_job_is_tried_when_the_pause_is_over(paused: Any) -> None:
    paused.later("61 seconds")
    assert len(paused.claim(9)) == 1
    assert paused.claim(9) == []
    # Its worker died: another tries.
    paused.later("4 minutes")
    assert len(paused.claim(9)) == 1
    assert paused.claim(9) == []


def test_it_pauses_longer_each_time(paused: Any) -> None:
    waits = []
    for hour in range(1, 8):
        paused.later(f"{hour} hours")
        (job,) = paused.claim(9)
        paused.fail(job, "configuration", "no such key")
        waits.append(resume_in(paused) / 60)
    assert waits == [2, 4, 8, 15, 15, 15, 15]


def test_jobs_in_flight_do_not_prolong_the_pause(judged: Any) -> None:
    judged.insert(20)
    jobs = judged.claim(20)
    for job in jobs:
        assert judged.fail(job, "configuration", "no such key") == "paused"
    assert resume_in(judged) == 60
    assert judged.one("select pauses from flywheel._pauses") == 1


def test_a_success_ends_the_pause(paused: Any) -> None:
    paused.later("61 seconds")
    (job,) = paused.claim(9)
    paused.complete(job)
    assert len(paused.claim(9)) == 4


def test_what_needed_no_call_proves_nothing(paused: Any) -> None:
    """Nor does it use up the probe."""
    paused.session.execute("delete from flywheel.traces")
    paused.insert(2, output=None)
    paused.insert(3)
    paused.later("61 seconds")
    jobs = paused.claim(9)
    assert [job.skipped_reason is None for job in jobs].count(True) == 1
    skipped = [job for job in jobs if job.skipped_reason]
    paused.complete(*skipped, status="skipped", run={"requests": 0})
    assert paused.rows("select count(*) from flywheel._pauses") == [(1,)]
    assert paused.claim(9) == []


@pytest.mark.parametrize("how", ["release", "transient", "permanent"])
def test_a_probe_that_finds_nothing_out_is_left_to_the_next(paused: Any, how: str) -> None:
    paused.later("61 seconds")
    (job,) = paused.claim(9)
    if how == "release":
        paused.release(job)
    else:
        paused.fail(job, how)
    assert len(paused.claim(9)) == 1
    assert paused.claim(9) == []


def test_a_probe_that_found_no_job_is_not_lost(paused: Any) -> None:
    paused.session.execute("update flywheel._jobs set run_at = flywheel.now() + interval '1 hour'")
    paused.later("61 seconds")
    assert paused.claim(9) == []
    paused.session.execute("update flywheel._jobs set run_at = '-infinity'")
    assert len(paused.claim(9)) == 1


def test_resume_validator(paused: Any) -> None:
    paused.call("resume_validator", "kind")
    assert len(paused.claim(9)) == 5


def test_alter_model_resumes_its_validators(paused: Any) -> None:
    paused.model("other")
    paused.call("alter_model", "other", timeout_seconds=5)
    assert paused.claim(9) == []
    paused.call("alter_model", "judge", api_key_env="FLYWHEEL_KEY_X")
    assert len(paused.claim(9)) == 5


def test_a_new_version_is_not_paused(paused: Any) -> None:
    paused.call("alter_validator", "kind", body="The reply is very kind.")
    paused.insert(2)
    assert [job.version for job in paused.claim(9)] == [2, 2]


def test_two_claims_at_once_make_one_probe(open_queue: Open) -> None:
    admin, first, second = open_queue(), open_queue(autocommit=False), open_queue(autocommit=False)
    admin.model()
    admin.judge()
    admin.insert(5)
    (job,) = admin.claim()
    admin.fail(job, "configuration", "no such key")
    admin.later("61 seconds")
    second.session.execute("set lock_timeout = '1ms'")
    assert len(first.claim(9)) == 1
    assert second.claim(9) == []
    first.session.commit()
    assert second.claim(9) == []


def test_nobody_waits_for_a_claim_that_its_worker_does_not_read(open_queue: Open) -> None:
    """A stopped worker keeps its claim's transaction open, with the pause locked."""
    admin, stopped, other = open_queue(), open_queue(autocommit=False), open_queue()
    admin.model()
    admin.judge()
    admin.insert(5)
    job, late, later = admin.claim(3)
    admin.fail(job, "configuration", "no such key")
    admin.later("61 seconds")
    assert len(stopped.claim(9)) == 1
    other.session.execute("set lock_timeout = '1ms'")
    assert other.complete(late) == (1, 0)
    assert other.fail(later, "configuration", "no such key") == "paused"


def test_queued_sql_and_python_pause_too(queue: Any) -> None:
    queue.check()
    queue.insert(2)
    (job,) = queue.claim()
    assert queue.fail(job, "configuration", "no such module") == "paused"
    assert queue.claim(9) == []
    assert queue.health("short")[0] == "paused"
    queue.later("61 seconds")
    (job,) = queue.claim(9)
    assert queue.run_sql(job) == (1, 0)
    assert len(queue.claim(9)) == 1
