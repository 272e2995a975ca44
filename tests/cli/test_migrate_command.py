"""`flywheel-db migrate`: the command; what migrations do is tested under migrations/."""

import subprocess
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

Run = Callable[..., Any]


def has_schema(dsn: str) -> bool:
    with psycopg.connect(dsn) as db:
        row = db.execute("select to_regclass('flywheel.traces') is not null").fetchone()
    return row == (True,)


def test_check_dry_run_migrate_and_check_again(
    command: Run, new_database: Callable[..., str]
) -> None:
    dsn = new_database()
    check = command("migrate", "--check", "--dsn", dsn)
    assert (check.code, check.row["changed"], check.row["from_revision"]) == (1, True, None)
    dry = command("migrate", "--dry-run", "--dsn", dsn)
    assert (dry.code, dry.row["outcome"]) == (0, "rolled back")
    assert not has_schema(dsn)
    done = command("migrate", "--table", "--dsn", dsn)
    assert done.code == 0
    assert "done: from nothing to revision" in done.out
    assert has_schema(dsn)
    assert command("migrate", "--check", "--dsn", dsn).code == 0
    again = command("migrate", "--table", "--dsn", dsn)
    assert again.out.startswith("nothing to do: the database is at revision ")


def test_sql_is_a_script_that_psql_runs(command: Run, new_database: Callable[..., str]) -> None:
    dsn = new_database()
    script = command("migrate", "--sql")
    assert script.code == 0
    from flywheel_db.server import find_binaries

    psql = find_binaries() / "psql"
    subprocess.run(
        [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn],
        input=script.out.encode(),
        check=True,
        capture_output=True,
    )
    assert command("migrate", "--check", "--dsn", dsn).code == 0


def test_flags_that_exclude_each_other(command: Run) -> None:
    ran = command("migrate", "--check", "--dry-run", "--dsn", "host=/nowhere")
    assert ran.code == 2


@pytest.mark.parametrize("flag", [[], ["--check"], ["--dry-run"]])
def test_a_server_that_does_not_answer(command: Run, flag: list[str]) -> None:
    ran = command("migrate", *flag, "--dsn", "host=/nowhere port=1 password=s3cret")
    assert ran.code == 4
    assert "hint: " in ran.err
    assert "s3cret" not in ran.err
