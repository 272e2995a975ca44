"""The command in a process of its own: signals, a database that restarts, what it logs."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection

import replay
from flywheel_db import install, server

ROOT = Path(__file__).parents[2]
KEY = "sk-live-0123456789abcdef"


class Process:
    """A running worker, and what it has logged."""

    def __init__(self, log: Path, dsn: str, *arguments: str) -> None:
        code = "from flywheel_db.cli import main; main()"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        self._log = log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code, "worker", "--dsn", dsn, "--poll", "0.1", *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=environ | {"FLYWHEEL_KEY_JUDGE": KEY, "FLYWHEEL_ALLOWED_HOSTS": "127.0.0.1"},
            )

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = 30) -> int:
        return self._process.wait(seconds)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def messages(self) -> list[str]:
        return [json.loads(line)["message"] for line in self.log.splitlines()]

    def close(self) -> None:
        if self.is_running:
            self._process.kill()
        self._process.wait()


Worker = Callable[..., AbstractContextManager[Process]]


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    """Start `flywheel-db worker`; it is killed when the block ends, if it still runs."""

    @contextmanager
    def start(dsn: str, *arguments: str) -> Iterator[Process]:
        running = Process(tmp_path / f"{uuid.uuid4()}.log", dsn, *arguments)
        try:
            yield running
        except BaseException as exc:
            exc.add_note(running.log)
            raise
        finally:
            running.close()

    return start


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def judged_by(db: Connection, endpoint: replay.Endpoint, traces: int) -> None:
    """A judge of this endpoint, and so many traces."""
    db.execute(
        "select flywheel.create_model('judge', %s, 'm-1', api_key_env => 'FLYWHEEL_KEY_JUDGE')",
        (endpoint.base_url,),
    )
    db.execute("select flywheel.create_validator('polite', 'llm', 'Is kind.', model => 'judge')")
    insert(db, traces)


def insert(db: Connection, traces: int) -> None:
    db.execute(
        "insert into flywheel.traces (input, output) select 'hi', 'ho' from generate_series(1, %s)",
        (traces,),
    )


def one(db: Connection, query: Any) -> Any:
    row = db.execute(query).fetchone()
    assert row is not None
    return row[0]


def passed(db: Connection) -> int:
    return int(one(db, "select count(*) from flywheel.verdicts where passed"))


@pytest.fixture
def admin(connect: Callable[..., Connection]) -> Connection:
    return connect()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_with_64_calls_in_flight_loses_none(
    admin: Connection, dsn: str, number: int, worker: Worker
) -> None:
    with replay.Endpoint(latency=0.5) as endpoint:
        judged_by(admin, endpoint, 500)
        with worker(dsn, "--concurrency", "64") as process:
            wait_for(lambda: endpoint.in_flight == 64)
            process.signal(number)
            assert process.wait() == 0
        # Every call that was begun was paid for, and has its verdict.
        assert passed(admin) == endpoint.count >= 64
        assert one(admin, "select count(*) from flywheel.jobs") == 500 - endpoint.count
        left = "select count(*) from flywheel.jobs where attempts > 0 or leased_until is not null"
        assert one(admin, left) == 0
        assert one(admin, "select state from flywheel.workers") == "stopped"


def test_a_second_signal_gives_the_jobs_back_at_once(
    admin: Connection, dsn: str, worker: Worker
) -> None:
    with replay.Endpoint(replay.FAULTS["hang"]) as endpoint:
        judged_by(admin, endpoint, 10)
        with worker(dsn, "--grace", "60") as process:
            wait_for(lambda: endpoint.in_flight == 10)
            process.signal(signal.SIGTERM)
            wait_for(lambda: "stopping" in process.messages)
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
        left = "select count(*) from flywheel.jobs where attempts = 0 and leased_until is null"
        assert one(admin, left) == 10


def test_what_a_killed_worker_held_is_done_by_the_next(
    admin: Connection, dsn: str, worker: Worker
) -> None:
    with replay.Endpoint(latency=0.3) as endpoint:
        judged_by(admin, endpoint, 100)
        with worker(dsn, "--concurrency", "32", "--lease", "1") as process:
            wait_for(lambda: passed(admin) > 0 and endpoint.in_flight > 0)
            process.signal(signal.SIGKILL)
            process.wait()
        with worker(dsn, "--concurrency", "64", "--lease", "1"):
            wait_for(lambda: passed(admin) == 100)
        assert one(admin, "select count(*) from flywheel.jobs") == 0


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="flywheel-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder / "home"
    server.down(folder / "home")
    shutil.rmtree(folder)


def test_a_database_that_restarts_is_waited_for_and_no_call_is_lost(
    home: Path, worker: Worker
) -> None:
    dsn = server.up(home).dsn
    install.migrate(dsn)
    with replay.Endpoint(latency=1) as endpoint:
        with psycopg.connect(dsn, autocommit=True) as db:
            judged_by(db, endpoint, 40)
        with worker(dsn, "--concurrency", "20") as process:
            wait_for(lambda: endpoint.in_flight == 20)
            server.down(home)
            # The answers come while there is no database.
            wait_for(lambda: endpoint.in_flight == 0)
            wait_for(lambda: "no jobs can be claimed, trying again" in process.messages)
            again = server.up(home).dsn
            with psycopg.connect(again, autocommit=True) as db:
                wait_for(lambda: passed(db) == 40)
                insert(db, 5)
                wait_for(lambda: passed(db) == 45)
                assert one(db, "select count(*) from flywheel.jobs") == 0
            assert endpoint.count == 45
            process.signal(signal.SIGTERM)
            assert process.wait() == 0


def test_stopping_without_a_database_takes_no_more_than_seconds(home: Path, worker: Worker) -> None:
    dsn = server.up(home).dsn
    install.migrate(dsn)
    with worker(dsn) as process:
        wait_for(lambda: "started" in process.messages)
        server.down(home)
        process.signal(signal.SIGTERM)
        assert process.wait(25) == 0
        assert "the database was not told" in process.log


def test_logs_are_json_lines_without_the_key(admin: Connection, dsn: str, worker: Worker) -> None:
    with replay.Endpoint(replay.FAULTS["wrong_key"]) as endpoint:
        judged_by(admin, endpoint, 3)
        with worker(dsn, "--drain", "--log-level", "debug", "--name", "w7") as process:
            assert process.wait() == 0
            lines = [json.loads(line) for line in process.log.splitlines()]
    assert endpoint.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in process.log
    assert lines[0]["message"] == "started"
    started = lines[0]
    assert (started["worker"], started["level"]) == ("w7", "info")
    paused = next(line for line in lines if line["message"] == "a validator is paused")
    assert (paused["validator"], paused["model"]) == ("polite", "judge")
    assert "401" in paused["error"]


def test_metrics_are_served(admin: Connection, dsn: str, worker: Worker) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with replay.Endpoint() as endpoint:
        judged_by(admin, endpoint, 3)
        with worker(dsn, "--metrics-port", str(port)) as process:
            wait_for(lambda: passed(admin) == 3)
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with direct.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
                found = reply.read().decode()
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
    assert 'flywheel_worker_jobs_total{kind="llm",outcome="passed"} 3.0' in found
    assert 'flywheel_worker_requests_total{model="judge",outcome="ok"} 3.0' in found
    assert 'flywheel_worker_call_seconds_count{model="judge"} 3.0' in found
    assert "flywheel_worker_in_flight 0.0" in found


def test_a_database_that_needs_a_newer_worker_ends_it_with_code_3(
    admin: Connection, dsn: str, worker: Worker
) -> None:
    with replay.Endpoint(replay.FAULTS["hang"]) as endpoint:
        judged_by(admin, endpoint, 2)
        with worker(dsn, "--lease", "1") as process:
            wait_for(lambda: endpoint.in_flight == 2)
            admin.execute(
                """
                create or replace function flywheel._queue_protocol() returns integer
                language sql immutable parallel safe begin atomic select 99; end
                """
            )
            assert process.wait() == 3
            assert "needs workers of queue protocol 99" in process.log
            assert "pip install --upgrade 'flywheel-db[worker]'" in process.log
    left = "select count(*) from flywheel.jobs where attempts = 0 and leased_until is null"
    assert one(admin, left) == 2
