"""queue_health says what stands in the way; workers say who is there."""

from collections.abc import Callable
from typing import Any

import pytest
from psycopg import errors

Open = Callable[..., Any]


def start(queue: Any, **info: object) -> int:
    found = queue.call("start_worker", "w", 1, {"kinds": ["llm", "python", "sql"]} | info)
    assert isinstance(found, int)
    return found


def test_an_empty_queue_has_nothing_to_say(judged: Any) -> None:
    assert judged.rows("select * from flywheel.queue_health") == []


def test_running(judged: Any) -> None:
    start(judged)
    judged.insert(5)
    judged.check("other")
    judged.later("90 seconds")
    (job, _) = judged.claim(2, ["llm"])
    judged.fail(job, "transient", "status 500")
    row = judged.one(
        "select validator, version, language, model, state, pending, in_flight, backing_off, dead, "
        "oldest_seconds, what_to_do, last_error, workers, priority from flywheel.queue_health"
    )
    assert row == ("kind", 1, "llm", "judge", "running", 5, 1, 1, 0, 90.0, None, "status 500", 1, 0)


def test_no_worker(judged: Any) -> None:
    judged.insert()
    told = "no worker is running: flywheel-db worker, or call flywheel.work()"
    assert judged.health() == ("no_worker", told)
    worker_id = start(judged)
    assert judged.health() == ("running", None)
    judged.later("1 hour")
    assert judged.health() == ("no_worker", told)
    assert judged.one("select oldest_seconds from flywheel.queue_health") == 3600
    judged.call("worker_alive", worker_id)
    assert judged.health() == ("running", None)
    judged.call("stop_worker", worker_id)
    assert judged.health() == ("no_worker", told)


def test_a_worker_of_other_kinds_is_none(judged: Any) -> None:
    judged.check()
    judged.insert()
    start(judged, kinds=["sql"])
    assert judged.health("kind")[0] == "no_worker"
    assert judged.health("short") == ("running", None)


def test_a_worker_that_may_not_call_the_model_says_why(judged: Any) -> None:
    judged.insert()
    start(judged, refused={"judge": "the host 127.0.0.1 is not allowed"})
    assert judged.health() == (
        "no_worker",
        "no worker that runs may call this model: the host 127.0.0.1 is not allowed",
    )
    start(judged)
    assert judged.health() == ("running", None)


def test_paused(judged: Any) -> None:
    judged.at("2026-03-01 12:00:00+00")
    judged.insert()
    judged.session.execute("update flywheel._jobs set run_at = '-infinity'")
    (job,) = judged.claim()
    judged.fail(job, "configuration", "FLYWHEEL_KEY_X is not set")
    assert judged.health() == (
        "paused",
        "FLYWHEEL_KEY_X is not set; tried again at 12:01:00 UTC, or at once with select flywheel.resume_validator('kind')",
    )


def test_not_approved(judged: Any) -> None:
    judged.judge("it's")
    judged.insert()
    judged.session.execute("set local flywheel.require_prompt_approval = on")
    state, what = judged.health("it's")
    assert (state, what) == ("not_approved", "select flywheel.approve_prompt('it''s', 1)")
    judged.session.execute(what)
    start(judged)
    assert judged.health("it's") == ("running", None)


def test_no_model(judged: Any) -> None:
    """drop_model() refuses while there are pending jobs; dead ones come back later."""
    judged.insert()
    (job,) = judged.claim()
    judged.fail(job, "permanent", "bad")
    judged.model("new")
    judged.call("alter_validator", "kind", model="new")
    judged.call("drop_model", "judge")
    judged.call("retry_dead")
    assert judged.health() == (
        "no_model",
        "there is no model 'judge': create it, or alter the validator",
    )
    assert judged.claim() == []
    judged.model()
    assert len(judged.claim()) == 1


def test_only_dead_jobs(judged: Any) -> None:
    judged.insert(2)
    for job in judged.claim(2):
        judged.fail(job, "permanent", "too long")
    state, what = judged.health()
    assert (state, what) == (
        "dead_only",
        "jobs were given up: look at last_error, then select flywheel.retry_dead('kind')",
    )
    assert judged.one("select pending, dead, last_error, oldest_seconds from flywheel.queue_health") == (
        0, 2, "too long", None,
    )  # fmt: skip


def test_what_workers_say_breaks_no_view(judged: Any) -> None:
    judged.insert()
    for info in (
        {"concurrency": "many", "kinds": "all", "refused": [1]},
        {"concurrency": 1e30, "kinds": None, "refused": "x"},
        {"concurrency": -1},
        {"concurrency": {"a": 1}},
    ):
        judged.call("start_worker", "odd", 1, info)
    assert {row for (row,) in judged.rows("select concurrency from flywheel.workers")} == {None}
    judged.health()
    start(judged, concurrency=64)
    assert (64,) in judged.rows("select concurrency from flywheel.workers")


def test_workers_say_who_they_are(queue: Any) -> None:
    worker_id = start(queue, concurrency=64, release="0.1.0", host="h1", refused={})
    columns = "worker_id, name, state, kinds, concurrency, release, host, refused"
    assert queue.one(f"select {columns} from flywheel.workers") == (
        worker_id, "w", "alive", ["llm", "python", "sql"], 64, "0.1.0", "h1", {},
    )  # fmt: skip
    queue.later("3 minutes")
    assert queue.one("select state from flywheel.workers") == "lost"
    queue.call("worker_alive", worker_id, {"concurrency": 8})
    assert queue.one("select state, concurrency, host from flywheel.workers") == ("alive", 8, "h1")
    queue.call("stop_worker", worker_id)
    assert queue.one("select state from flywheel.workers") == "stopped"
    assert queue.one("select stopped_at = flywheel.now() from flywheel.workers")


@pytest.mark.parametrize("protocol", [0, None])
def test_a_worker_too_old_is_turned_away(queue: Any, protocol: int | None) -> None:
    with pytest.raises(errors.Error, match="needs workers of queue protocol 1") as caught:
        queue.call("start_worker", "w", protocol, {})
    assert caught.value.sqlstate == "LF102"
    assert "pip install --upgrade" in (caught.value.diag.message_hint or "")


def test_a_newer_worker_is_welcome(queue: Any) -> None:
    queue.call("start_worker", "w", 7, {})


def test_a_migration_turns_away_workers_that_run(queue: Any) -> None:
    worker_id = start(queue)
    queue.session.execute(
        "create or replace function flywheel._queue_protocol() returns integer language sql immutable "
        "parallel safe begin atomic select 2; end"
    )
    for info in (None, {"protocol": 9}):
        with (
            pytest.raises(errors.Error, match="was migrated") as caught,
            queue.session.transaction(),
        ):
            queue.call("worker_alive", worker_id, info)
        assert caught.value.sqlstate == "LF102"


@pytest.mark.parametrize("info", ["[]", '"x"', "7"])
def test_what_is_no_object_is_refused(queue: Any, info: str) -> None:
    worker_id = start(queue)
    for call in ("start_worker('w', 1, %s)", f"worker_alive({worker_id}, %s)"):
        with pytest.raises(errors.Error, match="info is") as caught, queue.session.transaction():
            queue.rows(f"select flywheel.{call}", info)
        assert caught.value.sqlstate == "LF002"


def test_a_worker_that_was_forgotten_is_told(queue: Any) -> None:
    with pytest.raises(errors.Error, match="there is no worker 987") as caught:
        queue.call("worker_alive", 987)
    assert caught.value.sqlstate == "LF002"


def test_has_jobs_tells_whether_waiting_is_worth_it(judged: Any) -> None:
    has_jobs = "select flywheel.has_jobs(%s, %s)"
    assert not judged.one(has_jobs, ["llm"], None)
    judged.insert()
    assert judged.one(has_jobs, ["llm"], None)
    assert judged.one(has_jobs, ["llm"], ["judge"])
    assert not judged.one(has_jobs, ["llm"], ["other"])
    assert not judged.one(has_jobs, ["sql", "python"], None)
    (job,) = judged.claim()
    judged.fail(job)
    assert judged.one(has_jobs, ["llm"], None)
    judged.session.execute("delete from flywheel.traces")
    assert not judged.one(has_jobs, ["llm"], None)


def test_the_view_of_a_long_queue_reads_it_twice_at_most(open_queue: Open) -> None:
    """A look at the latest error of each version must not read the whole queue for each."""
    queue = open_queue()
    for n in range(8):
        queue.check(f"v{n}")
    queue.insert(5)
    queue.session.execute("analyze flywheel._jobs")
    plan = "\n".join(line for (line,) in queue.rows("explain select * from flywheel.queue_health"))
    assert plan.count(" on _jobs ") == 2, plan
