"""Commands run in this process, on a fresh migrated database."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flywheel_db.cli import main


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def row(self) -> dict[str, Any]:
        (row,) = self.rows
        return row


Run = Callable[..., Ran]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run flywheel-db with these arguments and no database configured."""
    for name in ("FLYWHEEL_DSN", "PGHOST", "PGPORT", "PGSERVICE", "PGDATABASE", "PGUSER"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, stdin: bytes | None = None) -> Ran:
        result = CliRunner().invoke(main, arguments, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def flywheel(command: Run, dsn: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run flywheel-db on a fresh migrated database."""
    monkeypatch.setenv("FLYWHEEL_DSN", dsn)
    return command


@pytest.fixture
def lines(tmp_path: Path) -> Callable[..., str]:
    """Write objects (or raw bytes) as a file of JSON lines; gives its path."""

    def write(*content: dict[str, Any] | bytes, name: str = "file.jsonl") -> str:
        path = tmp_path / name
        path.write_bytes(
            b"".join(
                (item if isinstance(item, bytes) else json.dumps(item).encode()) + b"\n"
                for item in content
            )
        )
        return str(path)

    return write
