"""`flywheel-db import --batch-size`: no row twice, none lost, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg import Connection

from flywheel_db.transfer.resume import Checkpoint

Connect = Callable[..., Connection]
Lines = Callable[..., str]
Run = Callable[..., Any]

_BAD = b'{"input": oops}'


def inputs(connect: Connect) -> list[int]:
    rows = connect().execute("select input::int from flywheel.traces order by 1").fetchall()
    return [number for (number,) in rows]


def numbered(count: int) -> list[dict[str, str] | bytes]:
    return [{"input": str(number)} for number in range(count)]


def test_batches_before_a_bad_line_stay_and_skipping_it_goes_on(
    flywheel: Run, lines: Lines, connect: Connect, tmp_path: Path
) -> None:
    rows = numbered(100)
    rows[57:57] = [b"", _BAD]
    path = lines(*rows)
    ran = flywheel("import", path, "--batch-size", "10")
    assert ran.code == 3
    assert ran.err.startswith("error: line 59: ")
    assert inputs(connect) == list(range(50))

    kept = str(tmp_path / "bad")
    ran = flywheel("import", path, "--batch-size", "30", "--resume", "--skip-bad", kept)
    assert (ran.code, ran.row["rows"], ran.row["resumed_after"], ran.row["skipped"]) == (
        0,
        50,
        50,
        1,
    )
    assert inputs(connect) == list(range(100))

    again = flywheel("import", path, "--batch-size", "30", "--resume")
    assert (again.code, again.row["rows"]) == (0, 0)
    assert inputs(connect) == list(range(100))


def test_a_second_import_of_the_same_file_needs_a_word(
    flywheel: Run, lines: Lines, connect: Connect
) -> None:
    path = lines(*numbered(5))
    assert flywheel("import", path, "--batch-size", "2").code == 0
    ran = flywheel("import", path, "--batch-size", "2")
    assert ran.code == 3
    assert "was imported before, up to line 5 (5 rows)" in ran.err
    assert flywheel("import", path, "--batch-size", "2", "--name", "again").code == 0
    assert len(inputs(connect)) == 10


def test_a_changed_file_is_refused(flywheel: Run, lines: Lines, connect: Connect) -> None:
    path = lines(*numbered(5), _BAD)
    assert flywheel("import", path, "--batch-size", "2").code == 3
    lines(*numbered(7))
    ran = flywheel("import", path, "--batch-size", "2", "--resume")
    assert ran.code == 3
    assert "has changed since its import began" in ran.err
    assert len(inputs(connect)) == 4


def test_progress_is_rolled_back_with_its_rows(
    flywheel: Run, lines: Lines, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the record and the commit loses both, never one."""
    path = lines(*numbered(10))
    record = Checkpoint.record

    def die_in_the_third(self: Checkpoint, lines_done: int, rows: int) -> None:
        record(self, lines_done, rows)
        if rows > 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "record", die_in_the_third)
        assert flywheel("import", path, "--batch-size", "4").code == 130
    assert inputs(connect) == list(range(8))
    assert flywheel("import", path, "--batch-size", "4", "--resume").row["rows"] == 2
    assert inputs(connect) == list(range(10))


def test_two_imports_of_one_file_do_not_run_at_once(
    flywheel: Run, lines: Lines, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lines(*numbered(5))
    monkeypatch.setattr("flywheel_db.transfer.resume.PATIENCE", "10ms")
    other = connect()
    source = str(Path(path).resolve())
    other.execute(
        "select pg_advisory_lock(hashtextextended('flywheel import ' || %s, 0))", [source]
    )
    ran = flywheel("import", path, "--batch-size", "2")
    assert ran.code == 3
    assert "another import" in ran.err


def test_a_killed_import_goes_on_where_it_was(
    flywheel: Run, lines: Lines, connect: Connect, dsn: str
) -> None:
    """kill -9, again and again, at whatever point it happens to be."""
    total = 20_000
    path = lines(*numbered(total))
    arguments = ["import", path, "--batch-size", "100", "--resume"]
    db = connect()

    def rows() -> int:
        found = db.execute("select count(*) from flywheel.traces").fetchone()
        assert found is not None
        return int(found[0])

    code = "from flywheel_db.cli import main; main()"
    for _ in range(4):
        before = rows()
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "FLYWHEEL_DSN": dsn},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while rows() < before + 500 and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    ran = flywheel(*arguments)
    assert ran.code == 0, ran.err
    assert inputs(connect) == list(range(total))
    progress = db.execute("select lines_done, rows_done from flywheel._imports").fetchall()
    assert progress == [(total, total)]
    assert json.loads(ran.out)["resumed_after"] > 0
