"""The first Python verdict of a fresh session: the interpreter, the runtime and the user's code.

Measured from sending the INSERT to its answer; connecting is not counted, and neither is anything
else that a first INSERT does (a session of an SQL validator stands beside it).
"""

from __future__ import annotations

import statistics
import threading
import time

import psycopg

from bench import common
from bench.common import Options, Server
from bench.report import Figure

_INSERT = b"insert into flywheel.traces (pipeline, output) values ('p', 'Good morning, Anna.')"
_BODY = "import re\nreturn re.search(r'[\\w.+-]+@[\\w-]+', output) is None, 'no address'"


def _first(dsn: str, gate: threading.Barrier | None = None) -> float:
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("select 1")
        if gate is not None:
            gate.wait()
        start = time.perf_counter()
        session.execute(_INSERT)
        return (time.perf_counter() - start) * 1000


def _at_once(dsn: str, sessions: int) -> float:
    """The slowest of several sessions that start together."""
    gate = threading.Barrier(sessions)
    taken: list[float] = []
    threads = [
        threading.Thread(target=lambda: taken.append(_first(dsn, gate))) for _ in range(sessions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(taken)


def run(server: Server, options: Options) -> list[Figure]:
    """Measure."""
    database = server.database("python_cold")
    plain = server.database("python_cold_sql")
    with database.admin() as admin, plain.admin() as other:
        admin.run("select flywheel.create_validator('no_email', 'python', %s)", (_BODY,))
        other.run("select flywheel.create_validator('short', 'sql', 'length(output) < 2000')")
    rounds = options.rounds * 4
    _first(database.writer_dsn)
    ones, eights, sqls = [], [], []
    for _ in range(rounds):
        ones.append(_first(database.writer_dsn))
        sqls.append(_first(plain.writer_dsn))
        eights.append(_at_once(database.writer_dsn, 8))
    common.note(f"one {statistics.median(ones):.0f} ms, eight {statistics.median(eights):.0f} ms")
    server.drop("python_cold")
    server.drop("python_cold_sql")
    return [
        Figure(
            "python_cold",
            "the first Python verdict of a fresh session",
            statistics.median(ones),
            "ms",
            at_most=60,
            parts={"worst ms": max(ones), "with an SQL validator ms": statistics.median(sqls)},
        ),
        Figure(
            "python_cold_8",
            "the slowest of 8 fresh sessions that start together",
            statistics.median(eights),
            "ms",
            at_most=200,
            parts={"worst ms": max(eights)},
        ),
    ]
