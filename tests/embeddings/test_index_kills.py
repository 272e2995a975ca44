"""A server process that is killed with -9 while it builds indexes: nothing is lost."""

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flywheel_db import install
from flywheel_db.server import Server, down, up

Examples = Any


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server of this test alone: a killed process takes all sessions with it."""
    home = Path(tempfile.mkdtemp(prefix="flywheel-test-"))
    shutil.rmtree(home)
    try:
        yield up(home)
    finally:
        down(home)
        shutil.rmtree(home, ignore_errors=True)


def reconnect(dsn: str) -> psycopg.Connection:
    """A session, as soon as the server has recovered."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return psycopg.connect(dsn, autocommit=True)
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_nothing_is_lost(own_server: Server, examples_on: Callable[[Any], Examples]) -> None:
    with psycopg.connect(own_server.dsn_of("postgres"), autocommit=True) as session:
        session.execute("create database killed")
    dsn = own_server.dsn_of("killed")
    install.migrate(dsn)
    session = psycopg.connect(dsn, autocommit=True)
    session.execute(
        "create or replace function flywheel._segment_rows(store text) returns integer language sql"
        " immutable parallel safe begin atomic select 4000; end"
    )
    session.execute(
        "insert into flywheel.traces (input) select 'parcel ' || md5(n::text) from generate_series(1, 5000) as n"
    )
    while session.execute("select is_more from flywheel.embed_texts(0)").fetchone() == (True,):
        pass

    pid = session.info.backend_pid
    died: list[BaseException] = []

    def work() -> None:
        try:
            session.execute("select flywheel.index_vectors(60)")
        except psycopg.OperationalError as error:
            died.append(error)

    worker = threading.Thread(target=work)
    with psycopg.connect(dsn, autocommit=True) as killer:
        worker.start()
        building = "select 1 from pg_stat_progress_create_index where pid = %s"
        while worker.is_alive() and not killer.execute(building, (pid,)).fetchone():
            pass
        os.kill(pid, signal.SIGKILL)
    worker.join()
    assert died

    with reconnect(dsn) as again:
        made = examples_on(again)
        states = "select state from flywheel._vector_segments where store = 'log' order by part"
        assert made.rows(states) == [("closed",), ("open",)]
        made.upkeep()
        assert made.rows(states) == [("indexed",), ("open",)]
        assert made.one("select count(*) from flywheel._vectors_1_log") == 5000
        for trace_id, text in made.rows("select trace_id, input from flywheel.traces limit 20"):
            assert made.rows(
                "select n.item_id from flywheel._nearest(1, 'log', flywheel.embed(%s), 1) as n",
                text,
            ) == [(trace_id,)]
