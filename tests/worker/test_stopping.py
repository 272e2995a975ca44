"""When a worker looks for jobs, and how it ends: drained, told to stop, or turned away."""

import asyncio
from typing import Any

import pytest

import replay
from flywheel_db.errors import NotMigrated, WorkerTooOld
from flywheel_db.worker.loop import Worker


@pytest.fixture
def queue(queue: Any, endpoint: replay.Endpoint, make_model: Any) -> Any:
    """The queue, with one model that answers."""
    queue.served = [make_model(endpoint.base_url)]
    return queue


def statuses(queue: Any) -> dict[str, str]:
    return {trace_id: result["status"] for trace_id, result in queue.results.items()}


def test_a_notification_wakes_an_idle_worker(queue: Any, work: Any, eventually: Any) -> None:
    async def during(worker: Worker) -> None:
        await eventually(lambda: queue.tell is not None and queue.claims)
        queue.add(1, notify=True)
        await eventually(lambda: queue.results)
        worker.stop()

    work(during, drain=False, poll=3600)
    assert statuses(queue) == {"t1": "passed"}


def test_without_notifications_jobs_are_found_by_looking(
    queue: Any, work: Any, eventually: Any
) -> None:
    async def during(worker: Worker) -> None:
        await eventually(lambda: len(queue.claims) >= 2)
        queue.add(1)
        await eventually(lambda: queue.results)
        worker.stop()

    work(during, drain=False, poll=0.01)


def test_draining_waits_for_a_rate_limit_but_not_for_ever(queue: Any, work: Any) -> None:
    queue.due = 3
    work()
    assert queue.due == -1


def test_max_seconds_is_an_end_like_any_other(queue: Any, work: Any) -> None:
    queue.add(1)
    work(drain=False, max_seconds=0.3, poll=3600)
    assert statuses(queue) == {"t1": "passed"}
    assert queue.stopped == 1


def test_stopping_finishes_calls_in_flight_and_gives_back_the_rest(
    queue: Any, work: Any, endpoint: replay.Endpoint, eventually: Any
) -> None:
    endpoint.respond_with(lambda request: replay.Reply(replay.verdict()(request).body, delay=0.2))
    queue.add(10)

    async def during(worker: Worker) -> None:
        await eventually(lambda: endpoint.in_flight == 4)
        # As if they had been claimed ahead.
        jobs = await queue.claim("w1", ("llm",), 2, 1, ("judge",))
        worker._runner.start(jobs)
        worker.stop()

    work(during, concurrency=4)
    assert sorted(statuses(queue)) == ["t1", "t2", "t3", "t4"]
    assert [job.trace_id for job in queue.released] == ["t5", "t6"]
    assert endpoint.count == 4
    assert queue.stopped == 1


def test_calls_that_outlast_the_grace_are_given_back(
    queue: Any, work: Any, endpoint: replay.Endpoint, eventually: Any
) -> None:
    endpoint.respond_with(replay.FAULTS["hang"])
    queue.add(2)

    async def during(worker: Worker) -> None:
        await eventually(lambda: endpoint.in_flight == 2)
        worker.stop()

    work(during, grace=0.05)
    assert {job.trace_id for job in queue.released} == {"t1", "t2"}
    assert queue.failures == []


def test_a_second_signal_gives_back_at_once(
    queue: Any, work: Any, endpoint: replay.Endpoint, eventually: Any
) -> None:
    endpoint.respond_with(replay.FAULTS["hang"])
    queue.add(2)

    async def during(worker: Worker) -> None:
        await eventually(lambda: endpoint.in_flight == 2)
        worker.stop()
        await asyncio.sleep(0.01)
        assert not queue.stopped
        worker.stop()

    work(during, grace=3600)
    assert {job.trace_id for job in queue.released} == {"t1", "t2"}


def test_what_a_claim_brings_while_stopping_is_given_back(
    queue: Any, work: Any, endpoint: replay.Endpoint, eventually: Any
) -> None:
    queue.add(3)
    claim, begun, go_on = queue.claim, asyncio.Event(), asyncio.Event()

    async def slow_claim(*given: Any) -> Any:
        jobs = await claim(*given)
        if jobs:
            begun.set()
            await go_on.wait()
        return jobs

    queue.claim = slow_claim

    async def during(worker: Worker) -> None:
        await begun.wait()
        worker.stop()
        await asyncio.sleep(0.01)
        go_on.set()

    work(during, drain=False)
    assert {job.trace_id for job in queue.released} == {"t1", "t2", "t3"}
    assert endpoint.count == 0


@pytest.mark.parametrize("when", ["start", "beat", "claim"])
def test_a_database_that_needs_a_newer_worker_gets_everything_back(
    queue: Any, work: Any, endpoint: replay.Endpoint, when: str
) -> None:
    endpoint.respond_with(replay.FAULTS["hang"])
    queue.add(2)

    def trouble(name: str) -> None:
        if name == when and (queue.held or name == "start"):
            raise WorkerTooOld("this database needs a newer worker", sqlstate="LF102")

    queue.trouble = trouble
    with pytest.raises(WorkerTooOld):
        work(lease=0.05, poll=0.05, drain=False, concurrency=4)
    assert len(queue.todo if when == "start" else queue.released) == 2
    assert not queue.held


def test_a_schema_without_the_queue_is_an_error(queue: Any, work: Any) -> None:
    def trouble(name: str) -> None:
        if name == "claim":
            raise NotMigrated("function flywheel.claim_jobs does not exist", sqlstate="42883")

    queue.trouble = trouble
    with pytest.raises(NotMigrated):
        work(drain=False)
