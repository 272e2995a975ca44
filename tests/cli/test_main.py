"""`flywheel-db` itself, and the private server's commands."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flywheel_db import server
from flywheel_db.cli import main
from flywheel_db.server import Server

Run = Callable[..., Any]

_SERVER = Server(
    data_dir=Path("home/data"),
    socket_dir=Path("home/run"),
    port=15432,
    superuser="postgres",
    database="flywheel",
    log_file=Path("home/server.log"),
)


def test_every_command_has_help(command: Run) -> None:
    overview = command("--help").out
    assert "Exit codes:" in overview
    context = SimpleNamespace()
    for name in main.list_commands(context):  # type: ignore[arg-type]
        assert name in overview
        ran = command(name, "--help")
        assert ran.code == 0
        assert ran.out.startswith(f"Usage: main {name}")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from flywheel_db.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "heavy = {'psycopg', 'rich', 'alembic', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_the_version_is_told(command: Run) -> None:
    assert command("--version").out.startswith("flywheel-db, version ")


@pytest.mark.parametrize("arguments", [["frobnicate"], ["export", "--nope"], ["validators", "x"]])
def test_a_wrong_command_line_is_2(command: Run, arguments: list[str]) -> None:
    assert command(*arguments).code == 2


def test_without_a_database_it_says_what_to_do(
    command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path / "home"))
    ran = command("export")
    assert ran.code == 4
    assert "the private server is not running" in ran.err
    assert "hint: start it: flywheel-db up" in ran.err


def test_a_reader_that_goes_away_is_no_traceback(dsn: str) -> None:
    import psycopg

    with psycopg.connect(dsn) as db:
        db.execute(
            "insert into flywheel.traces (output)"
            " select repeat('x', 1000) from generate_series(1, 2000)"
        )
    process = subprocess.Popen(
        [sys.executable, "-c", "from flywheel_db.cli import main; main()", "export"],
        env={**os.environ, "FLYWHEEL_DSN": dsn},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait()


def test_up_status_down(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "up", lambda home: _SERVER)
    monkeypatch.setattr(server, "status", lambda home: _SERVER)
    monkeypatch.setattr(server, "down", lambda home: True)
    assert command("up").row["dsn"] == _SERVER.dsn
    assert "PostgreSQL runs on port 15432" in command("up", "--table").out
    assert command("status").row["running"] is True
    assert "15432" in command("status", "--table").out
    assert command("down").row == {"stopped": True}
    monkeypatch.setattr(server, "status", lambda home: None)
    assert command("status").row == {"running": False}


def test_psql_gets_its_own_options(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr(server, "psql", lambda home, arguments: called.append((home, arguments)))
    assert command("psql", "--home", "h", "-c", "select 1", "-At", "--csv").code == 0
    assert called == [(Path("h"), ("-c", "select 1", "-At", "--csv"))]
