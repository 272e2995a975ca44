"""Which models a worker serves, and what becomes of jobs when that changes."""

from typing import Any

import pytest
from flywheel_pl.judges.hosts import AllowedHosts

import replay
from flywheel_db.worker.loop import Worker


@pytest.fixture
def queue(queue: Any, endpoint: replay.Endpoint, make_model: Any) -> Any:
    """The queue, with one model that answers."""
    queue.served = [make_model(endpoint.base_url)]
    return queue


def test_only_models_that_may_be_called_are_claimed(
    queue: Any, work: Any, make_model: Any, endpoint: replay.Endpoint, monkeypatch: Any
) -> None:
    monkeypatch.delenv("FLYWHEEL_KEY_ABSENT", raising=False)
    queue.served += [
        make_model("https://api.example.com/v1", name="elsewhere"),
        make_model(endpoint.base_url, name="keyless", api_key_env="FLYWHEEL_KEY_ABSENT"),
        make_model(endpoint.base_url, name="greedy", api_key_env="PGPASSWORD"),
    ]
    queue.add(1)
    queue.add(1, model="elsewhere")
    work()
    assert list(queue.results) == ["t1"]
    assert {models for _, kinds, models in queue.claims if kinds == ("llm",)} == {("judge",)}
    refused = queue.infos[0]["refused"]
    assert set(refused) == {"elsewhere", "keyless", "greedy"}
    assert refused["elsewhere"].startswith("the host api.example.com:443 is not allowed")
    assert refused["keyless"] == (
        "the variable FLYWHEEL_KEY_ABSENT is not set in the environment of the worker"
    )
    assert "FLYWHEEL_KEY_" in refused["greedy"]


def test_a_worker_without_allowed_hosts_still_does_the_other_kinds(
    queue: Any, work: Any, endpoint: replay.Endpoint
) -> None:
    queue.add(1)
    queue.add(1, kind="sql", model=None, request=None)
    work(hosts=AllowedHosts())
    assert queue.sql_batches == [["t2"]]
    assert len(queue.todo) == 1
    assert endpoint.count == 0


def test_only_the_kinds_asked_for_are_claimed(queue: Any, work: Any) -> None:
    queue.add(1)
    queue.add(1, kind="sql", model=None, request=None)
    work(kinds=("sql",))
    assert [job.kind for job in queue.todo] == ["llm"]


def test_a_job_whose_model_was_dropped_meanwhile_is_given_back(
    queue: Any, work: Any, eventually: Any, endpoint: replay.Endpoint
) -> None:
    queue.add(1)
    claim = queue.claim

    async def claim_and_drop(*given: Any) -> Any:
        jobs = await claim(*given)
        worker_of[0].catalog.served.clear()
        return jobs

    worker_of: list[Worker] = []
    queue.claim = claim_and_drop

    async def during(worker: Worker) -> None:
        worker_of.append(worker)
        await eventually(lambda: queue.released)
        worker.stop()

    work(during, drain=False)
    assert endpoint.count == 0


def test_a_model_that_is_altered_is_called_where_it_is_now(
    queue: Any, work: Any, make_model: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flywheel_db.worker import heartbeat

    monkeypatch.setattr(heartbeat, "_MODELS_SECONDS", 0.02)
    with replay.Endpoint() as new:

        async def during(worker: Worker) -> None:
            queue.add(1, notify=True)
            await eventually(lambda: queue.results)
            queue.served = [make_model(new.base_url)]
            await eventually(lambda: worker.catalog.served["judge"].base_url == new.base_url)
            queue.add(1, notify=True)
            await eventually(lambda: len(queue.results) == 2)
            worker.stop()

        work(during, drain=False)
        assert new.count == 1
