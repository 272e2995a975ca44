"""A worker on a queue in memory: what it claims, does, records and gives back."""

import json
from typing import Any

import pytest
from flywheel_pl.judges.reply import Reply

import replay
from flywheel_db.errors import ConnectionLost, UnknownValidator
from flywheel_db.worker.loop import Worker


@pytest.fixture
def queue(queue: Any, endpoint: replay.Endpoint, make_model: Any) -> Any:
    """The queue, with one model that answers."""
    queue.served = [make_model(endpoint.base_url)]
    return queue


def statuses(queue: Any) -> dict[str, str]:
    return {trace_id: result["status"] for trace_id, result in queue.results.items()}


def test_all_jobs_are_decided_and_the_worker_says_good_bye(
    queue: Any, work: Any, endpoint: replay.Endpoint
) -> None:
    endpoint.respond_with(replay.by_keyword("t13"))
    queue.add(40)
    worker = work()
    assert statuses(queue) == {f"t{n}": "failed" if n == 13 else "passed" for n in range(1, 41)}
    run = queue.results["t1"]["run"]
    assert json.loads(run["replies"][0])["verdict"] == "pass"
    assert run["requests"] == 1
    assert queue.stopped == 1
    assert not queue.held
    assert worker.counters.jobs["llm", "passed"] == 39


def test_no_more_calls_than_told_are_made_at_once(
    queue: Any, work: Any, endpoint: replay.Endpoint
) -> None:
    endpoint.respond_with(lambda request: replay.Reply(replay.verdict()(request).body, delay=0.02))
    queue.add(60)
    work(concurrency=5)
    assert len(queue.results) == 60
    assert endpoint.peak == 5


def test_the_limit_of_a_model_is_kept(queue: Any, work: Any, make_model: Any) -> None:
    with replay.Endpoint(latency=0.02) as slow:
        queue.served.append(make_model(slow.base_url, name="slow", max_concurrency=2))
        queue.add(12, model="slow")
        queue.add(30)
        work(concurrency=16)
        assert slow.peak == 2
        assert slow.count == 12
    assert len(queue.results) == 42


def test_votes_are_taken(
    queue: Any, work: Any, endpoint: replay.Endpoint, make_request: Any
) -> None:
    queue.add(1, request=make_request(votes=3))
    work()
    assert endpoint.count == 3
    assert queue.results["t1"]["confidence"] == 1


def test_what_needs_no_work_is_completed_without_a_call(
    queue: Any, work: Any, endpoint: replay.Endpoint
) -> None:
    queue.add(1, request=None, skipped_reason="nothing to judge: output is null")
    work()
    assert endpoint.count == 0
    assert queue.results["t1"]["status"] == "skipped"
    assert queue.results["t1"]["skipped_reason"] == "nothing to judge: output is null"


@pytest.mark.parametrize(
    ("fault", "kind", "retry_after"),
    [
        ("rate_limited", "transient", 1),
        ("server_error", "transient", None),
        ("wrong_key", "configuration", None),
        ("unknown_model", "configuration", None),
        ("filtered", "permanent", None),
    ],
)
def test_a_failed_call_fails_its_job(
    queue: Any, work: Any, endpoint: replay.Endpoint, fault: str, kind: str,
    retry_after: float | None,
) -> None:  # fmt: skip
    endpoint.respond_with(replay.in_turn([replay.FAULTS[fault]], replay.verdict()))
    queue.add(3)
    work(concurrency=1)
    ((job, failure),) = queue.failures
    assert (job.trace_id, failure.kind, failure.retry_after) == ("t1", kind, retry_after)
    assert failure.run["requests"] == 1
    assert statuses(queue) == {"t2": "passed", "t3": "passed"}


def test_what_an_endpoint_refuses_is_learnt_once(
    queue: Any, work: Any, endpoint: replay.Endpoint, make_request: Any
) -> None:
    endpoint.respond_with(replay.FAULTS["no_response_format"])
    request = make_request(response_format={"type": "json_schema", "json_schema": {}})
    queue.add(5, request=request)
    work(concurrency=1)
    assert set(statuses(queue).values()) == {"passed"}
    assert [("response_format" in r.body) for r in endpoint.requests].count(True) < 5


def test_a_crash_costs_only_its_own_job(queue: Any, work: Any) -> None:
    class Broken:
        without: tuple[str, ...] = ()

        async def call(self, body: dict[str, Any]) -> Reply:
            if "t2" in str(body):
                raise ZeroDivisionError("a mistake of ours")
            return Reply('{"reason": "", "verdict": "pass"}')

    queue.add(3)
    work(callers=lambda model: Broken())
    ((job, failure),) = queue.failures
    assert (job.trace_id, failure.kind) == ("t2", "transient")
    assert failure.message == "the worker failed: ZeroDivisionError: a mistake of ours"
    assert statuses(queue) == {"t1": "passed", "t3": "passed"}


def test_a_result_that_cannot_be_stored_does_not_keep_back_the_others(
    queue: Any, work: Any
) -> None:
    queue.add(5)
    queue.poisoned = {"t3"}
    work()
    assert sorted(statuses(queue)) == ["t1", "t2", "t4", "t5"]
    ((job, failure),) = queue.failures
    assert (job.trace_id, failure.kind) == ("t3", "permanent")
    assert failure.message == "the verdict cannot be recorded: a value is out of range"


def test_results_wait_while_the_database_is_away(queue: Any, work: Any) -> None:
    away = {"complete": 3, "fail": 2, "claim": 2, "extend": 1, "beat": 1, "listen": 1}

    def trouble(name: str) -> None:
        if away.get(name):
            away[name] -= 1
            raise ConnectionLost("the connection is lost")

    queue.trouble = trouble
    queue.add(4)
    work()
    assert len(queue.results) == 4
    assert not away["complete"]


def test_results_are_written_in_batches(queue: Any, work: Any) -> None:
    queue.add(200)
    work(concurrency=200)
    assert sum(queue.batches) == 200
    assert max(queue.batches) <= 100
    assert len(queue.batches) < 20


def test_sql_jobs_are_decided_by_the_database_at_once(queue: Any, work: Any) -> None:
    queue.add(5, kind="sql", model=None, request=None)
    worker = work()
    assert queue.sql_batches == [["t1", "t2", "t3", "t4", "t5"]]
    assert worker.counters.jobs["sql", "decided"] == 5


def test_a_backlog_of_sql_is_taken_in_large_portions(queue: Any, work: Any) -> None:
    queue.add(1500, kind="sql", model=None, request=None)
    queue.add(5)
    worker = work(concurrency=2)
    assert worker.counters.jobs["sql", "decided"] == 1500
    assert len(queue.sql_batches) == 2
    assert len(queue.results) == 5


def test_an_sql_job_that_raises_is_the_only_one_to_fail(queue: Any, work: Any) -> None:
    queue.add(3, kind="sql", model=None, request=None)
    queue.poisoned = {"t2"}
    work()
    assert queue.sql_batches[1:] == [["t1"], ["t2"], ["t3"]]
    ((job, failure),) = queue.failures
    assert (job.trace_id, failure) == ("t2", ("transient", "division by zero", None, None))


def test_python_jobs_run_together_by_version(queue: Any, work: Any, pool: Any) -> None:
    for version_id in (7, 8, 7):
        texts = {"texts": [f"v{version_id}", None]}
        queue.add(1, kind="python", model=None, version_id=version_id, request=texts)
    work()
    assert pool.calls == [(7, [["v7", None], ["v7", None]]), (8, [["v8", None]])]
    assert {result["score"] for result in queue.results.values()} == {2}
    assert pool.closed


def test_python_code_that_the_database_does_not_vouch_for_is_not_run(
    queue: Any, work: Any, pool: Any
) -> None:
    def trouble(name: str) -> None:
        if name == "python_validator":
            raise UnknownValidator("the code was not made by a superuser", sqlstate="LF003")

    queue.trouble = trouble
    queue.add(2, kind="python", model=None, request={"texts": []})
    work()
    assert pool.calls == []
    assert [failure.kind for _, failure in queue.failures] == ["configuration"] * 2


def test_a_job_that_is_not_ours_any_more_is_stopped(
    queue: Any, work: Any, endpoint: replay.Endpoint, eventually: Any
) -> None:
    endpoint.respond_with(
        lambda request: (
            replay.FAULTS["hang"](request) if "t2" in str(request) else replay.verdict()(request)
        )
    )
    queue.add(2)

    async def during(worker: Worker) -> None:
        await eventually(lambda: endpoint.in_flight == 1 and queue.results)
        queue.lost = {"t2"}
        await eventually(lambda: endpoint.in_flight == 0)

    worker = work(during, lease=0.03)
    assert statuses(queue) == {"t1": "passed"}
    assert queue.failures == []
    assert worker.counters.requests["judge", "cancelled"] == 1
