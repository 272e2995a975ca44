"""flywheel-db worker in a process of its own, and what it needs to judge."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any

from psycopg import sql

from bench import common
from bench.common import Database, Session
from flywheel_db.worker.program import require_extra as require

__all__ = ["Ended", "Worker", "allowed_host", "create_judge", "require"]


@dataclass(frozen=True)
class Ended:
    """How a worker ended: its exit status, processor seconds and the most memory it had."""

    status: int
    cpu: float
    peak_bytes: int


class Worker:
    """A running `flywheel-db worker`. Leaving its ``with`` block ends it."""

    def __init__(self, dsn: str, host: str, *arguments: str) -> None:
        self._log = tempfile.TemporaryFile("a+", encoding="utf-8")  # noqa: SIM115 - closed at the end
        self._ended: Ended | None = None
        self._process = subprocess.Popen(
            common.command("worker", "--allow-host", host, *arguments),
            env=common.child_environment() | {"FLYWHEEL_DSN": dsn},
            stdin=subprocess.DEVNULL,
            stderr=self._log,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self._log.close()

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    def has_ended(self) -> bool:
        """Whether it ended by itself."""
        if self._ended is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self._note(status, usage)
        return self._ended is not None

    def stop(self) -> None:
        """Ask it to end, calls in flight finished."""
        if not self.has_ended():
            self._process.terminate()

    def kill(self) -> None:
        """kill -9, and wait. Safe to repeat."""
        if not self.has_ended():
            self._process.kill()
            self.wait()

    def wait(self) -> Ended:
        """Wait until it has ended."""
        if self._ended is None:
            _, status, usage = os.wait4(self.pid, 0)
            self._note(status, usage)
        assert self._ended is not None
        return self._ended

    def finish(self) -> Ended:
        """Wait until it has drained the queue.

        Raises:
            RuntimeError: it failed.
        """
        ended = self.wait()
        if ended.status != 0:
            last = "\n".join(json.dumps(line) for line in self.log()[-5:])
            raise RuntimeError(f"the worker ended with {ended.status}: {last}")
        return ended

    def log(self) -> list[dict[str, Any]]:
        """What it logged; a line that is no JSON becomes a message."""
        self._log.flush()
        self._log.seek(0)
        lines = self._log.read().splitlines()
        return [json.loads(x) if x.startswith("{") else {"message": x} for x in lines if x]

    def started_at(self) -> float:
        """When it said that it had started, which it does before its first claim; by time.time()."""
        line = next(line for line in self.log() if line["message"] == "started")
        return datetime.fromisoformat(line["time"]).timestamp()

    def _note(self, status: int, usage: Any) -> None:
        self._ended = Ended(
            os.waitstatus_to_exitcode(status),
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss * 1024,
        )
        self._process.returncode = self._ended.status


def create_judge(
    database: Database, base_url: str, body: str = "The answer is polite.", *,
    params: dict[str, Any] | None = None, name: str = "judge", timeout: float = 30,
    pipeline: str | None = None,
) -> None:  # fmt: skip
    """Create a model that is called at base_url, unless there is one, and a validator that asks it."""
    with database.admin() as session:
        session.run(
            """
            select flywheel.create_model('replay', %s, 'replayed', timeout_seconds => %s)
            where not exists (select from flywheel.models as m where m.name = 'replay')
            """,
            (base_url, timeout),
        )
        session.run(
            "select flywheel.create_validator("
            "  %s, 'llm', %s, model => 'replay', params => %s, pipeline => %s)",
            (name, body, json.dumps(params or {}), pipeline),
        )


@contextmanager
def allowed_host(dsn: str, host: str) -> Iterator[None]:
    """Let flywheel.work() call a host: in the server's configuration, as only a superuser can."""
    with Session(dsn) as session:
        session.run("set flywheel.allowed_hosts = ''")  # or ALTER SYSTEM does not know it
        session.connection.execute(
            sql.SQL("alter system set flywheel.allowed_hosts = {}").format(sql.Literal(host))
        )
        try:
            yield
        finally:
            session.run("alter system reset flywheel.allowed_hosts")
