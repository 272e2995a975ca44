"""The schedules that a worker runs beside its jobs."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from psycopg import Connection

from flywheel_db.errors import ConnectionLost, PermissionDenied
from flywheel_db.worker import program, schedules
from flywheel_db.worker.metrics import families
from flywheel_db.worker.options import Options
from flywheel_db.worker.queue import Run


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "_LOOK_SECONDS", 0.01)


def due(count: int, outcome: str = "ok") -> list[Run]:
    error = None if outcome == "ok" else "the disk is full"
    return [Run(f"s{n}", "sweep", outcome, error, 0.5) for n in range(count)]


def test_what_is_due_is_run_before_a_draining_worker_ends(queue: Any, work: Any) -> None:
    queue.schedules = due(3) + due(1, "failed")
    worker = work()
    assert queue.schedules == []
    assert worker.counters.tasks == {("sweep", "ok"): 3, ("sweep", "failed"): 1}
    assert worker.counters.task_seconds == {"sweep": 2.0}
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(worker.counters)
        for sample in family.samples
    }
    assert samples["flywheel_worker_tasks_total", "sweep", "ok"] == 3
    assert samples["flywheel_worker_task_seconds_total", "sweep"] == 2.0


def test_a_worker_that_goes_on_looks_again(queue: Any, work: Any, eventually: Any) -> None:
    async def during(worker: Any) -> None:
        for _ in range(3):
            queue.schedules = due(1)
            await eventually(lambda: not queue.schedules)
        worker.stop()

    work(during, drain=False)


def test_they_are_left_alone_if_so_told(queue: Any, work: Any) -> None:
    queue.schedules = due(1)
    work(schedules=False)
    assert len(queue.schedules) == 1


@pytest.mark.parametrize("error", [ConnectionLost(), PermissionDenied("not yours")])
def test_trouble_with_them_stops_nothing_else(
    queue: Any, work: Any, eventually: Any, endpoint: Any, make_model: Any,
    caplog: pytest.LogCaptureFixture, error: Exception,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    queue.served = [make_model(endpoint.base_url)]
    failed: list[str] = []

    def trouble(name: str) -> None:
        if name == "run_schedule" and len(failed) < 2:
            failed.append(name)
            raise error

    queue.trouble = trouble

    async def during(worker: Any) -> None:
        queue.schedules = due(1)
        queue.add(5, notify=True)
        await eventually(lambda: len(queue.results) == 5 and not queue.schedules)
        worker.stop()

    work(during, drain=False)
    told = [
        record.levelname for record in caplog.records if "schedules cannot be run" in record.message
    ]
    assert told == ["DEBUG" if isinstance(error, ConnectionLost) else "WARNING"] * 2


def test_a_failing_task_is_told(queue: Any, work: Any, caplog: pytest.LogCaptureFixture) -> None:
    queue.schedules = due(1, "failed")
    work()
    assert [record.message for record in caplog.records] == ["a schedule failed"]


@pytest.fixture
def admin(connect: Callable[..., Connection]) -> Connection:
    return connect()


def test_on_a_database_each_runs_in_a_transaction_of_its_own(admin: Connection, dsn: str) -> None:
    admin.execute("update flywheel._schedules set next_run_at = now()")
    admin.execute("select flywheel.create_schedule('again', 'sweep', every => '1 hour')")
    admin.execute("update flywheel._schedules set next_run_at = now()")
    program.run(Options(dsn=dsn, drain=True))
    runs, moments, count = admin.execute(
        "select array_agg(distinct runs), count(distinct last_run_at), count(*) from flywheel.schedules"
    ).fetchone() or ((), 0, 0)
    assert runs == [1]
    assert moments == count >= 3


def test_a_task_that_takes_long_holds_up_no_job(admin: Connection, dsn: str) -> None:
    admin.execute(
        "create or replace function flywheel._remove_orphans() returns bigint language sql volatile"
        " as 'select 1::bigint from pg_advisory_xact_lock(7)'"
    )
    admin.execute("update flywheel._schedules set next_run_at = now() where name = 'sweep'")
    admin.execute(
        "select flywheel.create_validator('short', 'sql', 'length(output) < 5', mode => 'queued')"
    )
    admin.execute("insert into flywheel.traces (output) select 'x' from generate_series(1, 100)")
    admin.execute("select pg_advisory_lock(7)")
    try:
        # It gives up waiting for the task, not for the jobs.
        program.run(Options(dsn=dsn, max_seconds=3, grace=0.1))
        assert admin.execute("select count(*) from flywheel.verdicts").fetchone() == (100,)
    finally:
        admin.execute("select pg_advisory_unlock(7)")
    # Cancelled, and so tried again later.
    failures = "select failures from flywheel.schedules where name = 'sweep'"
    assert admin.execute(failures).fetchone() == (1,)
