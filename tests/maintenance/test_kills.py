"""Workers killed with -9 while they remove: what they had not committed is removed by the next."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from psycopg import Connection

ROOT = Path(__file__).parents[2]
TRACES = 30_000


def one(db: Connection, query: Any) -> Any:
    row = db.execute(query).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def start_worker(dsn: str) -> "subprocess.Popen[bytes]":
    code = "from flywheel_db.cli import main; main()"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return subprocess.Popen(
        [sys.executable, "-c", code, "worker", "--dsn", dsn, "--kinds", "sql"],
        cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def test_killed_workers_leave_nothing_half_removed(
    connect: Callable[..., Connection], dsn: str
) -> None:
    admin = connect()
    admin.execute("select flywheel.create_validator('v', 'sql', 'length(output) < 5')")
    admin.execute("select flywheel.create_validator('s', 'sql', 'true', subject => 'span')")
    admin.execute(
        "insert into flywheel.traces (input, output, received_at)"
        " select 'in', 'out', now() - interval '5 days' + i * interval '1 second' from generate_series(1, %s) as i",
        (TRACES,),
    )
    admin.execute("insert into flywheel.spans (trace_id) select trace_id from flywheel.traces")
    admin.execute("insert into flywheel.traces (input, output) values ('in', 'out')")
    admin.execute("analyze")
    admin.execute("delete from flywheel._schedules where task <> 'retention'")
    admin.execute("update flywheel._schedules set next_run_at = now()")
    admin.execute("select flywheel.set_retention(null, '1 day')")

    removed = "select removed from flywheel.retention"
    for kill in range(1, 100):
        before = one(admin, removed)
        if before == TRACES:
            break
        workers = [start_worker(dsn) for _ in range(2)]
        try:
            deadline = time.monotonic() + 60
            # At least one batch, so that it ends some time.
            while one(admin, removed) == before:
                assert time.monotonic() < deadline, "nothing is removed"
                time.sleep(0.01)
            if kill > 3:  # enough: the last one may finish
                while one(admin, removed) < TRACES:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()

    # What it counts and what is gone are of the same transactions.
    assert one(admin, removed) == TRACES
    assert one(admin, "select count(*) from flywheel.traces") == 1
    assert one(admin, "select count(*) from flywheel.spans") == 0
    assert one(admin, "select count(*) from flywheel._verdicts") == 1
    assert one(admin, "select sum(missing) from flywheel.coverage") == 0
