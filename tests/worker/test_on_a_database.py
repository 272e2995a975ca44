"""A worker on a real database, with models that answer well, badly, late or never."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flywheel_pl.judges.hosts import AllowedHosts
from psycopg import Connection

import replay
from flywheel_db.errors import FlywheelError, NotMigrated, WorkerTooOld
from flywheel_db.worker import program
from flywheel_db.worker.options import Options

KEY = "sk-live-0123456789abcdef"


@pytest.fixture
def admin(connect: Callable[..., Connection]) -> Connection:
    return connect()


@pytest.fixture
def endpoint(admin: Connection) -> Iterator[replay.Endpoint]:
    """A model `judge` and a validator `polite`, which fails what has the word rude."""
    with replay.Endpoint(replay.by_keyword("rude")) as running:
        admin.execute(
            """
            select flywheel.create_model(
              'judge', %s, 'm-1', input_price => 1, output_price => 2, timeout_seconds => 20
            )
            """,
            (running.base_url,),
        )
        admin.execute(
            "select flywheel.create_validator('polite', 'llm', 'Says it kindly.', model => 'judge')"
        )
        yield running


@pytest.fixture
def drain(dsn: str) -> Callable[..., None]:
    """Run a worker until nothing is left that can be done now."""

    def run(**options: Any) -> None:
        given: dict[str, Any] = {
            "dsn": dsn, "drain": True, "poll": 0.02, "hosts": AllowedHosts.parse(["127.0.0.1"]),
        }  # fmt: skip
        program.run(Options(**(given | options)))

    return run


def insert(db: Connection, *outputs: str) -> None:
    for output in outputs:
        db.execute("insert into flywheel.traces (input, output) values ('hi', %s)", (output,))


def rows(db: Connection, query: Any, *parameters: Any) -> list[Any]:
    return db.execute(query, parameters).fetchall()


def verdicts(db: Connection) -> list[Any]:
    return rows(
        db,
        """
        select t.output, v.status from flywheel.verdicts as v
        join flywheel.traces as t using (trace_id) order by 1
        """,
    )


def jobs(db: Connection) -> list[Any]:
    return rows(db, "select state, attempts, error_class, last_error from flywheel.jobs")


def later(db: Connection, interval: str) -> None:
    """Move the clock of the database."""
    db.execute(
        f"""
        create or replace function flywheel.now() returns timestamptz
        language sql stable parallel safe
        begin atomic select pg_catalog.now() + interval '{interval}'; end
        """
    )


def test_traces_are_judged_and_everything_is_kept(
    admin: Connection, endpoint: replay.Endpoint, drain: Any
) -> None:
    insert(admin, "a kind word", "a rude word")
    drain(name="w1", concurrency=3)
    assert verdicts(admin) == [("a kind word", "passed"), ("a rude word", "failed")]
    assert jobs(admin) == []
    assert rows(admin, "select reason from flywheel.failures") == [("has the word rude",)]
    assert rows(
        admin,
        "select outcome, worker, requests, cost_usd > 0, cardinality(replies) from flywheel.runs order by 1",
    ) == [("failed", "w1", 1, True, 1), ("passed", "w1", 1, True, 1)]
    assert rows(admin, "select requests_today from flywheel.models") == [(2,)]
    assert rows(admin, "select name, state, concurrency from flywheel.workers") == [
        ("w1", "stopped", 3)
    ]


def test_sql_and_python_jobs_are_decided_too(admin: Connection, connect: Any, drain: Any) -> None:
    admin.execute(
        """
        select flywheel.create_validator('short', 'sql', 'length(output) < 9', mode => 'queued');
        select flywheel.create_validator('calm', 'python', 'return "!" not in output', mode => 'queued')
        """
    )
    insert(admin, "hush", "hush!", "not so short")
    drain()
    assert jobs(admin) == []
    found = rows(
        admin,
        """
        select t.output, v.validator, v.passed from flywheel.verdicts as v
        join flywheel.traces as t using (trace_id) order by 2, 1
        """,
    )
    assert found == [
        ("hush", "calm", True),
        ("hush!", "calm", False),
        ("not so short", "calm", True),
        ("hush", "short", True),
        ("hush!", "short", True),
        ("not so short", "short", False),
    ]


def test_the_role_for_workers_is_enough(
    admin: Connection, endpoint: replay.Endpoint, drain: Any, dsn: str
) -> None:
    insert(admin, "a kind word")
    drain(dsn=f"{dsn} options='-c role=flywheel_worker'")
    assert verdicts(admin) == [("a kind word", "passed")]


def test_a_role_without_the_right_is_told_so(drain: Any, dsn: str) -> None:
    with pytest.raises(FlywheelError, match="permission denied"):
        drain(dsn=f"{dsn} options='-c role=flywheel_writer'")


@pytest.mark.parametrize("fault", ["wrong_key", "unknown_model", "quota_exceeded", "moved"])
def test_a_wrong_configuration_pauses_the_validator_until_it_is_mended(
    admin: Connection, endpoint: replay.Endpoint, drain: Any, fault: str
) -> None:
    endpoint.respond_with(replay.FAULTS[fault])
    insert(admin, *["a kind word"] * 5)
    drain(concurrency=2)
    # Nobody keeps asking: the first failures have paused it.
    assert endpoint.count <= 2
    assert {(state, attempts) for state, attempts, _, _ in jobs(admin)} == {("pending", 0)}
    assert rows(admin, "select state from flywheel.queue_health") == [("paused",)]
    endpoint.respond_with(replay.verdict())
    admin.execute("select flywheel.resume_validator('polite')")
    drain()
    assert verdicts(admin) == [("a kind word", "passed")] * 5


def test_a_host_that_is_not_allowed_gets_nothing(
    admin: Connection, endpoint: replay.Endpoint, drain: Any
) -> None:
    insert(admin, "a kind word")
    drain(hosts=AllowedHosts.parse(["api.openai.com"]))
    assert endpoint.count == 0
    assert [(state, attempts) for state, attempts, _, _ in jobs(admin)] == [("pending", 0)]
    ((refused,),) = rows(admin, "select refused from flywheel.workers")
    assert refused["judge"].startswith(f"the host {endpoint.authority} is not allowed")


def test_a_key_that_is_missing_leaves_the_jobs_to_others(
    admin: Connection, endpoint: replay.Endpoint, drain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.execute("select flywheel.alter_model('judge', api_key_env => 'FLYWHEEL_KEY_JUDGE')")
    monkeypatch.delenv("FLYWHEEL_KEY_JUDGE", raising=False)
    insert(admin, "a kind word")
    drain()
    assert endpoint.count == 0
    monkeypatch.setenv("FLYWHEEL_KEY_JUDGE", KEY)
    drain()
    assert verdicts(admin) == [("a kind word", "passed")]
    assert endpoint.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("fault", "attempts", "after"),
    [
        ("rate_limited", 0, "2 seconds"),
        ("server_error", 1, "4 seconds"),
        ("html", 1, "4 seconds"),
        ("huge", 1, "4 seconds"),
        ("cut", 1, "4 seconds"),
        ("hang", 1, "4 seconds"),
    ],
)
def test_a_passing_failure_is_tried_again_later(
    admin: Connection, endpoint: replay.Endpoint, drain: Any, fault: str, attempts: int, after: str
) -> None:
    admin.execute("select flywheel.alter_model('judge', timeout_seconds => 1)")
    endpoint.respond_with(replay.in_turn([replay.FAULTS[fault]], replay.verdict()))
    insert(admin, "a kind word")
    drain(poll=0.01)
    ((state, counted, kind, error),) = jobs(admin)
    assert (state, counted, kind) == ("pending", attempts, "transient")
    assert error
    later(admin, after)
    drain()
    assert verdicts(admin) == [("a kind word", "passed")]


def test_a_job_that_always_fails_dies_with_its_last_error(
    admin: Connection, endpoint: replay.Endpoint, drain: Any
) -> None:
    endpoint.respond_with(replay.FAULTS["server_error"])
    insert(admin, "a kind word")
    for hour in range(6):
        later(admin, f"{2 * hour} hours")
        drain()
    ((state, attempts, _, error),) = jobs(admin)
    assert (state, attempts) == ("dead", 5)
    assert "500" in error
    assert endpoint.count == 5
    assert rows(admin, "select dead from flywheel.coverage") == [(1,)]


def test_every_job_is_decided_in_the_end_whatever_goes_wrong_meanwhile(
    admin: Connection, endpoint: replay.Endpoint, drain: Any
) -> None:
    endpoint.respond_with(replay.Faulty(replay.by_keyword("rude"), 0.3, seed=4))
    insert(admin, *["a kind word", "a rude word"] * 20)
    for hour in range(12):
        later(admin, f"{2 * hour} hours")
        drain()
    counted = rows(admin, "select decided, errored, pending, dead, missing from flywheel.coverage")
    assert counted == [(40, 0, 0, 0, 0)]
    assert verdicts(admin) == [("a kind word", "passed")] * 20 + [("a rude word", "failed")] * 20


class Running:
    """A worker in a thread, stopped when the block ends."""

    def __init__(self, drain: Any, **options: Any) -> None:
        self.error: BaseException | None = None
        self._options = options
        self._drain = drain
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self._drain(**self._options)
        except BaseException as exc:
            self.error = exc

    def __enter__(self) -> "Running":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error


@pytest.fixture
def _without_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the main thread may have signal handlers."""
    from contextlib import nullcontext

    monkeypatch.setattr(program, "stopped_by_signals", lambda worker: nullcontext())


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> None:
    import time

    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@pytest.mark.usefixtures("_without_signals")
def test_a_reply_about_an_older_revision_is_dropped_and_the_new_one_is_judged(
    admin: Connection, endpoint: replay.Endpoint, drain: Any
) -> None:
    first = replay.Reply(replay.verdict(False)({"model": "m-1"}).body, delay=0.5)
    endpoint.respond_with(replay.in_turn([first], replay.by_keyword("rude")))
    insert(admin, "a rude word")
    with Running(drain):
        wait_for(lambda: endpoint.in_flight == 1)
        admin.execute("update flywheel.traces set output = 'a kind word'")
    drain()
    assert verdicts(admin) == [("a kind word", "passed")]
    assert endpoint.count == 2
    assert jobs(admin) == []


@pytest.mark.usefixtures("_without_signals")
def test_a_call_about_a_deleted_trace_is_cancelled(
    admin: Connection, endpoint: replay.Endpoint, drain: Any
) -> None:
    endpoint.respond_with(replay.FAULTS["hang"])
    insert(admin, "a kind word")
    with Running(drain, lease=1):
        wait_for(lambda: endpoint.in_flight == 1)
        admin.execute("delete from flywheel.traces")
        wait_for(lambda: endpoint.in_flight == 0)
    assert verdicts(admin) == jobs(admin) == []


@pytest.mark.usefixtures("_without_signals")
def test_two_workers_of_one_name_do_each_job_once(
    admin: Connection, endpoint: replay.Endpoint, drain: Any
) -> None:
    slow = replay.by_keyword("rude")
    endpoint.respond_with(lambda request: replay.Reply(slow(request).body, delay=0.02))
    insert(admin, *["a kind word"] * 60)
    with Running(drain, name="twin", concurrency=4), Running(drain, name="twin", concurrency=4):
        pass
    assert len(verdicts(admin)) == 60
    assert endpoint.count == 60
    assert rows(admin, "select count(*) from flywheel.workers where name = 'twin'") == [(2,)]


def test_jobs_of_a_worker_that_vanished_are_done_when_its_lease_ends(
    admin: Connection, endpoint: replay.Endpoint, drain: Any
) -> None:
    insert(admin, *["a kind word"] * 3)
    admin.execute("select count(*) from flywheel.claim_jobs('vanished', max_jobs => 2)")
    drain()
    assert len(verdicts(admin)) == 1
    later(admin, "3 minutes")
    drain()
    assert len(verdicts(admin)) == 3


def test_a_database_that_needs_a_newer_worker_turns_this_one_away(
    admin: Connection, drain: Any
) -> None:
    admin.execute(
        """
        create or replace function flywheel._queue_protocol() returns integer
        language sql immutable parallel safe begin atomic select 99; end
        """
    )
    with pytest.raises(WorkerTooOld) as caught:
        drain()
    assert caught.value.exit_code == 3
    assert "flywheel-db[worker]" in (caught.value.hint or "")


def test_a_database_without_the_schema_says_what_to_run(new_database: Any, drain: Any) -> None:
    with pytest.raises(NotMigrated) as caught:
        drain(dsn=new_database())
    assert caught.value.hint == "run: flywheel-db migrate"


def test_a_rate_limit_is_waited_for_when_draining(
    admin: Connection, endpoint: replay.Endpoint, drain: Any
) -> None:
    admin.execute("select flywheel.alter_model('judge', requests_per_minute => 600)")
    insert(admin, *["a kind word"] * 63)
    drain(poll=0.05)
    assert len(verdicts(admin)) == 63


def test_a_worker_whose_clock_is_wrong_does_the_same(
    admin: Connection, endpoint: replay.Endpoint, drain: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the database's clock counts: leases, backoff and verdicts have its times."""
    years = 10 * 365 * 86400
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + years)
    endpoint.respond_with(replay.in_turn([replay.FAULTS["server_error"]], replay.verdict()))
    insert(admin, "a kind word", "a kind word")
    drain()
    later(admin, "4 seconds")
    monkeypatch.setattr(time, "time", lambda: real() - years)
    drain()
    assert verdicts(admin) == [("a kind word", "passed")] * 2
    assert rows(
        admin, "select count(*) from flywheel.verdicts where created_at > now() + interval '1 hour'"
    ) == [(0,)]
