"""`flywheel-db demo` on a database of the user's own."""

from collections.abc import Callable
from typing import Any

import psycopg

Run = Callable[..., Any]


def test_it_migrates_shows_and_can_be_run_again(
    command: Run, new_database: Callable[..., str]
) -> None:
    dsn = new_database()
    for _ in range(2):
        ran = command("demo", "--dsn", dsn)
        assert ran.code == 0, ran.err
        assert ran.out
    with psycopg.connect(dsn) as db:
        row = db.execute("select count(*) > 0 from flywheel.failures").fetchone()
    assert row == (True,)
